#!/usr/bin/perl
#
# 111_large_values.t - large values lie apart from their keys, survive what keys survive, and their space comes back.
#
# Why so: a key is in one file, its value in another, and both have to be there after a restart, a kill -9 and a
# compaction; a value file that is gone, or damaged, must not show as another value. Sizes are those around the
# threshold, a shared block and what is read past the cache. Then the same keys are overwritten, many times what the
# disk is to hold in the end, and nobody asks for a compaction.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;

use constant { KEYS => 2000, VALUE => 4096, ROUNDS => 20 };

my $kvd = kvd_bin('kvd');
my $node = Kvd::Test->new('main')->init(memtable_size => '32MB', table_size => '2MB', l0_trigger => 2,
	snapshot_retention => '0')->start;
my $c = $node->client(timeout => 30);
my @sizes = (0, 1, 1023, 1024, 1025, 2048, 4095, 4096, 4097, 100_000, 1_000_000);

sub value { my ($size, $round) = @_; return substr(sprintf('%d-%d.', $size, $round) x ($size / 4 + 1), 0, $size) }
sub values_dir { my @files = glob $node->dir . '/values/*.kvv'; return @files }
sub figure { my ($name) = @_; return $c->stats($name)->{$name} }

sub check_all
{
	my ($round, $when) = @_;
	$c = $node->client(timeout => 30);
	is_deeply([ grep { $c->get("size $_")->{value} ne value($_, $round) } @sizes ], [], "every size, $when");
	my $all = $c->scan(start => 'size ', end => 'size!', page => 8 << 20);
	is(scalar(grep { $_->{value} eq value($_->{key} =~ /(\d+)/, $round) } @{ $all->{entries} }), scalar @sizes,
		'... by a scan');
	my $back = $c->scan(start => 'size ', end => 'size!', page => 8 << 20, reverse => 1);
	is_deeply([ reverse @{ $back->{entries} } ], $all->{entries}, '... and a scan backward');
	my $mget = $c->mget([ map { "size $_" } @sizes[ 0 .. 9 ] ]);
	is(scalar(grep { $mget->{entries}[$_]{value} eq value($sizes[$_], $round) } 0 .. 9), 10, '... and at once');
	return;
}

# --- what is put apart, and comes back --------------------------------------------------------------

$c->put("size $_", value($_, 1)) for @sizes;
is($c->checkpoint->{code}, 0, 'written out');
is(scalar(values_dir()), 1, 'one value file');
my $apart = 0;
$apart += $_ for grep { $_ >= 1024 } @sizes;
is(figure('values.live_bytes'), $apart, 'what has the size is in it, and no more');
check_all(1, 'from value files');
$node->stop;
$node->start;
check_all(1, 'after a restart');
$node->kill9('postmaster');
$node->start;
check_all(1, 'after kill -9');
$c->put("size $_", value($_, 2)) for @sizes;
is($c->checkpoint(compact => 1)->{code}, 0, 'overwritten and compacted');
check_all(2, 'of the second round');
is($c->count(start => 'size ', end => 'size!')->{count}, scalar @sizes, 'COUNT');
# The first compaction may have come before snapshots of the first round were let go.
poll_until(sub {
	values_dir() == 1 && figure('values.files') == 1 || ($c->checkpoint(compact => 1)->{code} == 0 ? 0 : die);
}, 60, 'the first file to go');
is(figure('values.live_bytes'), $apart, '... its values are dead');

# --- the setting ------------------------------------------------------------------------------------

is($c->config('set', 'blob_threshold=0')->{status}, 'OK', 'off');
is($node->stop, 0, 'stopped'); # each process reads its settings when it is told to, or starts
$node->start;
$c = $node->client;
$c->put('inline', value(50_000, 1));
is($c->checkpoint->{code}, 0, 'written out');
is(figure('values.live_bytes'), $apart, '... with its key');
is($c->get('inline')->{value}, value(50_000, 1), '... and there');
is($c->config('set', 'blob_threshold=1kB')->{status}, 'OK', 'on again');

# --- a file that is gone, or damaged ----------------------------------------------------------------

$node->stop;
my ($file) = values_dir();
my $bytes = slurp($file);
my $name = $file =~ s{.*/}{}r;
unlink $file;
my $r = run_command({ timeout => 60 }, $kvd, '-D', $node->dir);
isnt($r->{code}, 0, 'a value file is missing: no start');
like($r->{out} . $r->{err} . $node->log, qr/\Q$name\E.*missing/, '... it is named');
spew($file, $bytes);
substr(my $flipped = $bytes, 500_000, 1) ^= "\x01";
spew($file, $flipped);
$node->start;
$c = $node->client(timeout => 30);
my %told = map { $_ => $c->get("size $_") } @sizes;
my @wrong = grep { $told{$_}{code} == 0 && $told{$_}{value} ne value($_, 2) } @sizes;
is_deeply(\@wrong, [], 'one bit flipped: no wrong value');
is_deeply([ map { $told{$_}{status} } grep { $told{$_}{code} != 0 } @sizes ], ['CORRUPT'], '... one is refused');
$node->stop;
$r = run_command({ timeout => 60 }, $kvd, '-D', $node->dir, '--check');
is($r->{code}, 3, '... and --check finds it');
like($r->{out} . $r->{err}, qr/\Q$name\E/, '... by its name');
spew($file, $bytes);
spew($node->dir . '/values/ffffffffffffff00.kvv', 'nobody names this one');
spew($node->dir . '/values/ffffffffffffff01.kvv.tmp', 'half of one');
$node->start;
check_all(2, 'mended');
ok(poll_until(sub { 1 == (() = glob $node->dir . '/values/*') }, 60, 'orphans to go'), 'what nobody names has gone');

# --- space ------------------------------------------------------------------------------------------

my $live = KEYS * VALUE;
$r = run_command({ timeout => 120 }, kvd_bin('kvbench'), '-p', $node->port, qw(-c 4 -P 8 -r), KEYS, '-d', VALUE,
	'-n', KEYS * ROUNDS, 'fillrandom');
is($r->{code}, 0, sprintf('%d MB written', KEYS * ROUNDS * VALUE >> 20)) or diag $r->{err};
$c = $node->client(timeout => 30);
my $disk;
my $back = eval {
	poll_until(sub {
		$disk = 0;
		$disk += -s || 0 for glob $node->dir . '/{values,tables}/*';
		return $disk < 4 * $live;
	}, 60, 'space to come back');
};
ok($back, sprintf 'without being asked: %.1f MB of files for %.1f MB', $disk / 1e6, $live / 1e6);
cmp_ok(figure('values.bytes'), '>', 0, 'there are value files');
is($node->stop, 0, 'stop');
$r = run_command({ timeout => 60 }, $kvd, '-D', $node->dir, '--check');
is($r->{code}, 0, '--check finds no damage') or diag $r->{out};

done_testing;
