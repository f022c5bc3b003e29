#!/usr/bin/perl
#
# 205_log_read.t - what a node gives another one: log in whole records, tables and their list; and whom it
# refuses.
#
# Why so: a follower takes what comes here for committed log, so nothing may come that is not: not above the
# committed position, not from the middle of a record, not behind a record of another term. The node plays its
# own follower: its incarnation is that of a member.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;
use Kvd::Cluster;
use Kvd::Proto qw(:all);

seed();

my $cluster = Kvd::Cluster->new(nodes => 1, proxy => 0)->start;
my $node = $cluster->wait_leader;
my $client = $node->wait_config->client;
is($client->put("key-$_", 'v' x 1000)->{status}, 'OK', "put $_") for 1 .. 10;

my $hello = $client->call($CMD{HELLO}, hello_payload());
my ($cluster_id, $incarnation) = (substr($hello->{payload}, 32, 16), substr $hello->{payload}, 48, 8);
my $member = $cluster_id . $incarnation;

sub log_read
{
	my ($from, $term, $most, $who) = @_;
	my $a = $client->call($NODE_CMD{LOG_READ}, (defined $who ? $who : $member) . pack 'Q<Q<VV', $from, $term, $most, 0);
	return { status => $a->{status}, text => $a->{payload} } if $a->{code} != 0;
	my ($commit, $end) = unpack 'Q<Q<', $a->{payload};
	return { status => 'OK', commit => $commit, end => $end, bytes => substr $a->{payload}, 16 };
}

# [ position, end, term ] of each record in a stretch of the log.
sub records
{
	my ($at, $bytes) = @_;
	my @r;
	while ($bytes ne '') {
		my ($crc, $length, $lsn, $term) = unpack 'VVQ<Q<', $bytes;
		die "a record at $lsn where $at was expected\n" if $lsn != $at;
		my $size = ($length + 7) & ~7;
		die "a record is cut off\n" if $size > length $bytes;
		substr($bytes, 0, $size) = '';
		push @r, [ $at, $at + $size, $term ];
		$at += $size;
	}
	return @r;
}

# --- log ----------------------------------------------------------------------------------------------
my $first = 1 << 20; # SMALL: segments of 1 MB, the log starts at one
my $all = log_read($first, 0, 4 << 20);
is($all->{status}, 'OK', 'all of the log');
is($all->{end}, $all->{commit}, 'up to what is committed');
my @r = records($first, $all->{bytes});
is($r[-1][1], $all->{end}, 'whole records');
cmp_ok(scalar @r, '>=', 11, 'a TERM and ten writes at least');

is(log_read($all->{end}, $r[-1][2], 1000)->{bytes}, '', 'nothing behind what is committed');
is(log_read($all->{end}, $r[-1][2], 1000)->{end}, $all->{end}, '... and the end says so');
is(log_read($all->{end} + 8, $r[-1][2], 1000)->{status}, 'CONDITION_FAILED', 'not above what is committed');
my $two = $r[4][1] - $r[3][0];
for my $case ([ 0, 1 ], [ 1, 1 ], [ $two - 1, 1 ], [ $two, 2 ], [ $two + 1, 2 ]) {
	my $a = log_read($r[3][0], $r[2][2], $case->[0]);
	is(scalar(records($r[3][0], $a->{bytes})), $case->[1], "at most $case->[0] bytes: $case->[1] records");
	is($a->{end} - $r[3][0], length $a->{bytes}, '... and their end');
}
is(log_read($r[3][0] + 8, $r[3][2], 1000)->{status}, 'CONDITION_FAILED', 'not from inside a record');
is(log_read($r[3][0], $r[2][2] + 1, 1000)->{status}, 'CONDITION_FAILED', 'not behind another term');
is(log_read($first, 1, 1000)->{status}, 'CONDITION_FAILED', 'a TERM record names the term before it');
is(log_read($first - 8, 0, 1000)->{status}, 'NOT_FOUND', 'not below the first of all');
is(log_read(0, 0, 1000)->{status}, 'NOT_FOUND', 'not from nowhere');
is(log_read($r[3][0] + 1, $r[2][2], 1000)->{status}, 'BAD_REQUEST', 'a position is a multiple of 8');

# --- who is served --------------------------------------------------------------------------------------
is(log_read($first, 0, 1000, ("\x01" x 16) . $incarnation)->{status}, 'FOREIGN', 'not another cluster');
is(log_read($first, 0, 1000, $cluster_id . "\x01" x 8)->{status}, 'FOREIGN', 'not who is no member');
is($client->call($NODE_CMD{SNAPSHOT_OPEN}, $cluster_id . "\x01" x 8)->{status}, 'FOREIGN', 'no tables either');
is($client->call($NODE_CMD{LOG_READ}, $member)->{status}, 'BAD_REQUEST', 'too short');
is($client->call($NODE_CMD{LOG_READ}, $member . "\0" x 25)->{status}, 'BAD_REQUEST', 'too long');
is($client->call($NODE_CMD{SNAPSHOT_OPEN}, "${member}x")->{status}, 'BAD_REQUEST', 'SNAPSHOT_OPEN too long');

# --- tables ---------------------------------------------------------------------------------------------
sub bytes_of
{
	my ($number, $at, $most) = @_;
	return $client->call($NODE_CMD{SNAPSHOT_READ}, pack 'Q<Q<VV', $number, $at, $most, 0);
}

is(bytes_of(0, 0, 100)->{status}, 'NOT_FOUND', 'nothing is open yet');
is($node->kvctl('checkpoint')->{code}, 0, 'a table');
my $open = $client->call($NODE_CMD{SNAPSHOT_OPEN}, $member);
is($open->{status}, 'OK', 'a snapshot');
my ($flushed, $term, $time, $tables, $bytes, $list_bytes) = unpack 'Q<6', $open->{payload};
is($flushed, $all->{end}, 'of all that was written');
my @files = sort { -s $a <=> -s $b } glob $node->dir . '/tables/*.kvt'; # the system's keys have one of their own
is($tables, @files, 'as many tables as there are');
is($bytes, eval { my $sum = 0; $sum += -s $_ for @files; $sum }, '... and their bytes');
my $list = bytes_of(0, 0, 1 << 20)->{payload};
is(length $list, $list_bytes, 'the list');
like($list, qr/\AKVDMANIF/, '... is a manifest');
my ($number) = map { hex } $files[-1] =~ m{([0-9a-f]{16})\.kvt\z};
my ($highest) = sort { $b <=> $a } map { m{([0-9a-f]{16})\.kvt\z} ? hex $1 : () } @files;
my $table = bytes_of($number, 0, 4 << 20)->{payload};
$bytes = -s $files[-1];
is(length $table, $bytes, 'the table');
is(bytes_of($number, $bytes - 8, 4 << 20)->{payload}, 'KVDTABLE', 'fewer at its end');
is(bytes_of($number, $bytes, 100)->{payload}, '', 'nothing behind it');
is(bytes_of($number, 8, 3)->{payload}, substr($table, 8, 3), 'some of it');
is(bytes_of($highest + 1, 0, 100)->{status}, 'NOT_FOUND', 'no other table');
is(bytes_of($number, ~0, 100)->{status}, 'BAD_REQUEST', 'no position behind all files');
is($client->call($NODE_CMD{SNAPSHOT_READ}, 'x')->{status}, 'BAD_REQUEST', 'too short');
is(scalar(() = glob $node->dir . '/snapshots/*'), 1, 'its links');
is($client->call($NODE_CMD{SNAPSHOT_OPEN}, $member)->{status}, 'OK', 'another one');
is(scalar(() = glob $node->dir . '/snapshots/*'), 1, '... takes its place');
# Kept although the node has new tables by now.
is($node->client->put('later', 'x')->{status}, 'OK', 'a write');
is($node->kvctl('checkpoint', '--compact')->{code}, 0, 'compaction of all');
is(bytes_of($number, 0, 4 << 20)->{payload}, $table, 'the table is what it was');
$client->close;
$cluster->wait_for(sub { !(() = glob $node->dir . '/snapshots/*') }, 10, 'the links to go with the connection');
pass('the links go with the connection');

# A backend that is killed can't do it.
my $other = $node->client;
is($other->call($NODE_CMD{SNAPSHOT_OPEN}, $member)->{status}, 'OK', 'one more');
kill 'KILL', @{ $node->children->{backend} };
$cluster->wait_for(sub { !(() = glob $node->dir . '/snapshots/*') }, 30, 'the links to be swept');
pass('the links of a backend that was killed go, too');
$cluster->stop_node($node);
done_testing();
