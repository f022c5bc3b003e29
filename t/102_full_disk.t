#!/usr/bin/perl
#
# 102_full_disk.t - a disk that fills up: writes are refused before anything fails, and space comes back by itself.
#
# Why so: on a small file system of the test's own, the node is filled until it refuses, read, and emptied by plain
# deletes; then nobody does anything, and writes have to come back. Two rounds, with a kill -9 while the space is on
# its way back. Nothing may be lost, nothing deleted may return, and the log must not fill with complaints.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;
use Kvd::Proto qw(:all);

# A mount of our own goes with our name space, however this ends.
if (!$ENV{KVD_TEST_UNSHARED}) {
	plan(skip_all => 'no name space with a mount of its own (unshare -rm mount -t tmpfs)')
		if system('unshare -rm sh -c "mount -t tmpfs none /mnt" >/dev/null 2>&1') != 0;
	$ENV{KVD_TEST_UNSHARED} = 1;
	exec 'unshare', '-rm', $^X, $0 or die "unshare: $!\n";
}

# A file system of this size on a node's data directory: its log stays outside.
sub mount_disk
{
	my ($name, $size) = @_;
	my $dir = test_dir() . "/$name";
	mkdir $dir or die $!;
	system('mount', '-t', 'tmpfs', '-o', "size=$size", 'none', $dir) == 0 or die "mount: $?\n";
	return $dir;
}
my $disk = mount_disk('main', '80m');

use constant { BATCH => 200, RESERVE => 16 << 20 };
my $pad = 'abcdefghij' x 80;
my $node = Kvd::Test->new('main')->init(disk_reserve => RESERVE, compression => 'none', table_size => '4MB',
	wal_keep_max => 0)->start;
my $c = $node->client;
my (%there, $next);
$next = 0;

sub key { return sprintf 'key%08d', $_[0] }
sub value { return "value of $_[0] $pad" }

my $seen; # figures of the last look

# Once memory is in tables and log was let go, are writes still refused?
sub full_for_good
{
	poll_until(sub {
		$seen = $c->stats;
		return !$seen->{'space.full'}
			|| ($seen->{'log.flushed'} == $seen->{'log.applied'} && $seen->{'space.needed'} == RESERVE);
	}, 60, 'memory to be written out');
	return $seen->{'space.full'};
}

# Only the WAL writer looks at the disk. While it is held up it must not be overtaken by more than the reserve.
sub looked_at
{
	poll_until(sub {
		my $s = $c->stats;
		return $s->{'space.needed'} == RESERVE + $s->{'log.applied'} - $s->{'log.flushed'};
	}, 60, 'a look at the disk');
	return;
}

# Put until it is refused, for good. How many batches were taken.
sub fill
{
	for (my $n = 0; $n < 5000;) {
		my @keys = map { $next++ } 1 .. BATCH;
		my $a = $c->batch([ map { op(kind => 'put', key => key($_), value => value($_)) } @keys ]);
		if ($a->{code} == 0) {
			$there{$_} = 1 for @keys;
			looked_at() if ++$n % 25 == 0;
			next;
		}
		is($a->{status}, 'NO_SPACE', "refused after $n batches");
		return $n if full_for_good();
	}
	die "it never fills\n";
}

sub check_all
{
	my ($what) = @_;
	my ($lost, $back, @all) = (0, 0, sort { $a <=> $b } keys %there);
	while (my @some = splice @all, 0, 500) {
		my $got = $c->mget([ map { key($_) } @some ])->{entries};
		for (0 .. $#some) {
			my $right = $got->[$_] && $got->[$_]{value} eq value($some[$_]);
			$lost++ if $there{ $some[$_] } && !$right;
			$back++ if !$there{ $some[$_] } && $got->[$_];
		}
	}
	is("$lost $back", '0 0', "$what: nothing lost, nothing deleted came back");
}

sub writes_again
{
	return poll_until(sub { $c->put('again', 'x')->{status} eq 'OK' }, 300, 'writes to be taken again');
}

for my $round (1 .. 2) {
	my $taken = fill();
	cmp_ok($taken, '>', 20, "round $round: it took a lot before");
	my $s = $seen;
	is($s->{'space.full'}, 1, 'STATS says so');
	cmp_ok($s->{'space.free'}, '<', $s->{'space.needed'} + (8 << 20), '... and why');
	cmp_ok($s->{'space.refused'}, '>', 0, '... and how many were refused');
	my @live = grep { $there{$_} } sort { $a <=> $b } keys %there;
	is($c->get(key($live[0]))->{value}, value($live[0]), 'reads go on');
	my @doomed = grep { $_ % 10 != 3 } @live;
	while (my @some = splice @doomed, 0, 500) {
		my $a = $c->batch([ map { op(kind => 'delete', key => key($_)) } @some ]);
		$a->{code} == 0 or die "a delete was refused: $a->{status}\n";
		$there{$_} = 0 for @some;
	}
	pass('deletes are taken');
	if ($round == 1) {
		poll_until(sub { $c->stats->{'space.reclaims'} > 0 || $c->stats->{'space.full'} == 0 }, 300, 'the first space');
		$node->kill9('postmaster');
		$node->start;
		$c = $node->client;
	}
	ok(eval { writes_again() }, 'writes come back by themselves')
		or do { my $s = $c->stats; diag join "\n", map { "$_ $s->{$_}" } sort keys %$s; last };
	check_all("round $round");
}
my @complaints = $node->log =~ /(compaction failed|waits for space|no space for the log)/g;
cmp_ok(scalar @complaints, '<', 20, 'the log says it a few times, not each time') or diag "@complaints";
my $refused = () = $node->log =~ /writes are refused/g;
cmp_ok($refused, '<', 12, 'the state does not flicker');
diag join ' ', map { "$_=" . $c->stats->{$_} } qw(space.reclaims space.reclaimed_bytes compaction.count space.free);
is($node->stop, 0, 'stop');
my $r = run_command({ timeout => 60 }, kvd_bin('kvd'), '-D', $node->dir, '--check');
is($r->{code}, 0, 'no damage') or diag $r->{out};
chdir '/' and system('umount', '-l', $disk);

# --- the sizes by default -----------------------------------------------------------------------------
# Others take the disk, half of each table is deleted, evenly, and level 0 has more tables than it should: the reserve
# has to be enough to write tables anew, and what is deleted has to come to a table.

my $large = mount_disk('default', '1400m');
$node = Kvd::Test->new('default')->init(compression => 'none', wal_keep => 0, wal_keep_max => 0, blob_threshold => 0,
	memtable_size => '64MB', memtable_count => 3, table_size => '64MB', wal_segment_size => '16MB',
	wal_spare_segments => 3, l0_slowdown => 4)->start;
my $records = 12_000; # 16 kB each
my $tsv = test_dir() . '/records.tsv';
open my $out, '>', $tsv or die $!;
print $out key($_), "\t", 'v' x 16_000, "\n" or die $! for 1 .. $records;
close $out or die $!;
for (1 .. 2) { # twice, so that level 0 has tables that overlap
	is($node->kvctl('load', $tsv)->{code}, 0, 'records of 192 MB');
	is($node->kvctl('checkpoint')->{code}, 0, '... in tables');
}
$c = $node->client;
poll_until(sub {
	my $s = $c->stats;
	return $s->{'compaction.pending_bytes'} == 0 && $s->{'compaction.running_total'} == 0;
}, 60, 'nothing to merge');

# Log that is let go meanwhile gives space back: again, until there is 50 MB less than the reserve.
poll_until(sub {
	my ($free) = run_command('df', '-Pk', $large)->{out} =~ /\n\S+ +\d+ +\d+ +(\d+)/ or die "df\n";
	my $over = ($free >> 10) - 384 + 50;
	open my $others, '>>', "$large/others" or die $!;
	print $others 'x' x 1048576 or die $! for 1 .. $over;
	close $others or die $!;
	return $over <= 0 && $c->put('more', 'x')->{status} eq 'NO_SPACE';
}, 60, 'the disk to be full');
pass('full: 50 MB less than the reserve');
for (my $k = 1; $k <= $records; $k += 500) {
	my $a = $c->batch([ map { op(kind => 'delete', key => key($_)) } grep { $_ % 2 } $k .. $k + 499 ]);
	$a->{code} == 0 or die "a delete was refused: $a->{status}\n";
}
ok(eval { poll_until(sub { $c->put('more', 'x')->{status} eq 'OK' }, 300, 'writes') }, 'writes come back by themselves')
	or do { my $s = $c->stats; diag join "\n", map { "$_ $s->{$_}" } sort keys %$s };
cmp_ok($c->stats->{'space.reclaims'}, '>', 0, '... since tables were written anew');
is($node->kvctl('count', 'key')->{out}, $records / 2 . "\n", 'half of the records are there');
is($node->stop, 0, 'stop');
chdir '/' and system('umount', '-l', $large);
done_testing;
