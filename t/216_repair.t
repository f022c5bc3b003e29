#!/usr/bin/perl
#
# 216_repair.t - one replica's table is not what it was: the comparison finds it, the cluster tells, repair
# makes it good.
#
# Why so: a bit that flips on one disk is seen by nobody until that node leads. Contents are compared on
# command here; what is found must name the node, and only that one may be repaired, from a majority that
# agrees; while it is repaired it must not vote, afterwards it must hold the same as the others. Two kinds of
# difference: a table that its checksum gives away, and one whose checksums are right but whose value is
# another one.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;
use Kvd::Cluster;

seed();

# Values in the tables: what is spoiled is looked for there.
# What was found is known to the leader that judged, so it must not change because somebody is held up for a second.
my $cluster = Kvd::Cluster->new(nodes => 3, proxy => 0, election => 4000,
	settings => { blob_threshold => 0, stuck_timeout => '600s' })->start;
my $leader = $cluster->wait_leader;
my ($bad, $good) = $cluster->followers;

# --- CRC-32C as the table format has it (doc/formats-tables.md) --------------------------------------
my @table = map { my $c = $_; $c = $c & 1 ? 0x82f63b78 ^ ($c >> 1) : $c >> 1 for 1 .. 8; $c } 0 .. 255;

sub crc32c
{
	my ($bytes) = @_;
	my $c = 0xffffffff;
	$c = $table[ ($c ^ $_) & 0xff ] ^ ($c >> 8) for unpack 'C*', $bytes;
	return $c ^ 0xffffffff;
}

sub bytes_of { my ($path) = @_; open my $in, '<:raw', $path or die "$path: $!\n"; local $/; return scalar <$in> }

sub write_at
{
	my ($path, $at, $bytes) = @_;
	open my $out, '+<:raw', $path or die "$path: $!\n";
	seek $out, $at, 0;
	print {$out} $bytes;
	close $out or die "$path: $!\n";
	return;
}

# The table of the node that has $value: path and offset.
sub find_value
{
	my ($node, $value) = @_;
	for my $path (glob $node->dir . '/tables/*.kvt') {
		my $at = index bytes_of($path), $value;
		return ($path, $at) if $at >= 0;
	}
	die "no table of " . $node->name . " has $value\n";
}

# Change a value of a table, checksum too: as if it had flipped before it was written. The values' block holds
# only values of one large entry, so its trailer follows: codec and CRC over file id, offset, content, codec.
sub forge_value
{
	my ($node, $value) = @_;
	my ($path, $at) = find_value($node, $value);
	my $file = bytes_of($path);
	my $file_id = substr $file, length($file) - 64, 8;
	my $end = $at + length $value;
	# Where the block begins: its first words are the bytes of entries, and one restart (0, 0).
	for my $begin (reverse 0 .. $at - 11) {
		my ($entries, $restarts, $zero) = unpack 'VvV', substr $file, $begin, 10;
		next if $restarts != 1 || $zero != 0 || $begin + 10 + $entries != $at;
		my $content = substr $file, $begin, $end - $begin;
		my $codec = substr $file, $end, 1;
		my $crc = unpack 'V', substr $file, $end + 1, 4;
		next if $crc != crc32c($file_id . pack('Q<', $begin) . $content . $codec);
		substr($content, $at - $begin, 1) ^= "\x01";
		$crc = crc32c($file_id . pack('Q<', $begin) . $content . $codec);
		write_at($path, $begin, $content . $codec . pack 'V', $crc);
		return;
	}
	die "the block of $value was not found\n";
}

sub cluster_says
{
	my ($good, $text, $what, @command) = @_;
	my $r = $cluster->kvctl({ timeout => 60 }, 'cluster', @command);
	is($r->{code} == 0, $good, "cluster @command: $what") or diag("$r->{code}: $r->{out}$r->{err}");
	like("$r->{out}$r->{err}", $text, '... and says so');
	return;
}

sub alarm_is
{
	my ($want) = @_;
	$cluster->wait_for(sub { (($cluster->stats($leader) || {})->{'replication.alarm'} // -1) == $want }, 60,
		$want ? 'the alarm' : 'the alarm to end');
	pass($want ? 'there is an alarm' : 'there is no alarm');
	return;
}

# Not the damaged one is to lead.
sub leader_is_good
{
	my ($bad, $good) = @_;
	$cluster->wait_for(sub {
		$leader = $cluster->wait_leader;
		return 1 if $leader != $bad;
		$cluster->kvctl('cluster', 'transfer', $good->name);
		return 0;
	}, $cluster->patience, 'a leader that is not damaged');
	return;
}

# A comparison whose leader stands still in the middle, so that another one is elected, must not be answered by what was
# found before: it is made again, by the new leader.
sub finds_in_spite_of_election
{
	my ($bad, $good) = @_;
	leader_is_good($bad, $good);
	my $old = $leader;
	my ($silent) = grep { $_ != $old && $_ != $bad } $cluster->nodes;
	my $before = $old->client->stats('replication.hash_lsn')->{'replication.hash_lsn'};
	my $worker = $old->client->stats('process.')->{'process.consensus.pid'};
	my %files = map { $_ => test_dir() . "/check.$_" } qw(out err);
	$cluster->stop($silent); # so that it does not end
	my $pid = start_command(\%files, kvd_bin('kvctl'), '-p', $old->port, '--timeout', '90s', 'cluster', 'check');
	$cluster->wait_for(sub { (($cluster->stats($old) || {})->{'replication.hash_lsn'} // $before) != $before }, 60,
		'a comparison');
	kill 'STOP', $worker;
	$cluster->cont($silent);
	$cluster->wait_leader(of => [ $silent, $bad ]);
	kill 'CONT', $worker;
	my $code = Kvd::Test::wait_for($pid, 100);
	my $text = slurp($files{out}) . slurp($files{err});
	is($code, 4, 'a comparison through an election finds it') or diag $text;
	like($text, qr/\Q@{[ $bad->name ]}\E/, '... and names the node');
	return;
}

# --- all is well -------------------------------------------------------------------------------------
my $large = 'v' x 5000;    # more than a block: it has one to itself
for my $i (1 .. 20) {
	$cluster->by_leader(sub { $_[0]->put(sprintf('key-%03d', $i), "value-$i-$large") });
}
$cluster->wait_same;
is($_->kvctl('checkpoint')->{code}, 0, 'tables on ' . $_->name) for $cluster->nodes;
cluster_says(!!1, qr/3 of 3/, 'all the same', 'check');
alarm_is(0);
my $r = $cluster->kvctl('cluster', 'repair', $bad->name);
isnt($r->{code}, 0, 'no repair without an alarm');

# --- twice: a value with a right checksum, then damage -----------------------------------------------
my $repaired = 0;
for my $kind ('forged', 'damaged') {
	$cluster->stop_node($bad);
	if ($kind eq 'forged') {
		forge_value($bad, "value-7-$large");
	} else {
		my ($path, $at) = find_value($bad, "value-9-$large");
		write_at($path, $at + 100, 'X');
	}
	$cluster->start_node($bad);
	finds_in_spite_of_election($bad, $good) if $kind eq 'forged';
	leader_is_good($bad, $good);
	my $name = $bad->name;
	cluster_says(!!0, qr/\Q$name\E/, "a $kind value is found", 'check');
	alarm_is(1);
	my ($other) = grep { $_ != $bad && $_ != $leader } $cluster->nodes;
	isnt($cluster->kvctl('cluster', 'repair', $other->name)->{code}, 0, 'a node that does not differ is not repaired');
	is($cluster->by_leader(sub { $_[0]->put("before-$kind", 'x') })->{status}, 'OK', 'a write before the repair');
	cluster_says(!!1, qr/\w/, 'begins', 'repair', $name);
	$repaired++;
	$cluster->wait_for(sub { my @n = $bad->log =~ /installed the tables/g; @n >= $repaired }, 60,
		'tables to be installed');
	$bad->wait_ready;
	$cluster->wait_for(sub { my $s = $cluster->stats($bad); $s && $s->{'replication.recovering'} == 0 }, 60,
		'the node to have recovered');
	is($cluster->by_leader(sub { $_[0]->put("after-$kind", 'x') })->{status}, 'OK', 'a write after the repair');
	$cluster->wait_same;
	cluster_says(!!1, qr/3 of 3/, 'all the same again', 'check');
	alarm_is(0);
	is($_->kvctl('checkpoint')->{code}, 0, 'tables on ' . $_->name) for $cluster->nodes;
}

$cluster->stop_node($_) for $cluster->nodes;
for my $node ($cluster->nodes) {
	my $c = run_command({ timeout => 60 }, kvd_bin('kvd'), '-D', $node->dir, '--check');
	is($c->{code}, 0, 'kvd --check finds nothing in ' . $node->name) or diag("$c->{out}$c->{err}");
}
done_testing();
