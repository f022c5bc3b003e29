#!/usr/bin/perl
#
# 204_views.t - what a node tells of itself and its cluster: CLUSTER, ages of local reads, figures; on one node alone.
#
# Why so: a cluster of one is a cluster. What people and programs look at when something is wrong must be there before
# anything is wrong, with the same names.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;
use Kvd::Proto qw(:all);

my $node = Kvd::Test->new('main')->init->start->wait_config;
my $c = $node->client;

# The two tables of a status: [ { field => value } ... ] each.
sub tables
{
	my ($text) = @_;
	my @tables;
	for my $part (split /\n\n/, $text, -1) {
		my ($names, @rows) = map { [ split /\t/, $_, -1 ] } split /\n/, $part;
		push @tables, [ map { my %r; @r{@$names} = @$_; \%r } @rows ];
	}
	return @tables;
}

sub cluster
{
	my ($action, %o) = @_;
	my ($name, $address) = map { defined $o{$_} ? $o{$_} : '' } qw(name address);
	return $c->call($CMD{CLUSTER},
		pack('CCvV v/a* v/a*', $action, $o{flags} || 0, 0, $o{deadline} || 0, $name, $address));
}

# 1. The status.
my $a = cluster(0);
is($a->{status}, 'OK', 'CLUSTER status');
my ($about, $members) = tables($a->{payload});
is(scalar @$about, 1, 'one line about the cluster');
is(scalar @$members, 1, 'one member');
is($about->[0]{role}, 'leader', 'it leads');
is($about->[0]{leader}, $about->[0]{node}, '... as it says itself');
is($about->[0]{term}, $c->{term}, '... in the term that HELLO tells');
is($about->[0]{lag_ms}, 0, '... and is never behind');
like($about->[0]{cluster}, qr/\A[0-9a-f]{32}\z/, 'id of the cluster');
is($about->[0]{alarm}, '', 'no alarm');
is($members->[0]{$_->[0]}, $_->[1], "member: $_->[0]")
	for [ role => 'leader' ], [ voter => 1 ], [ state => 'up' ], [ self => 1 ], [ trouble => '' ];
is($members->[0]{client_address}, '127.0.0.1:' . $node->port, 'where clients find it');
my $v = $c->put('k', 'v')->{version};
($about) = tables(cluster(0)->{payload});
cmp_ok($about->[0]{applied}, '>', $v, 'positions are of now');

# 2. What is no request.
is($c->call($CMD{CLUSTER}, $_->[0])->{status}, 'BAD_REQUEST', "CLUSTER: $_->[1]") for
	[ '', 'empty' ],
	[ pack('CCvVvv', 99, 0, 0, 0, 0, 0), 'unknown action' ],
	[ pack('CCvVvv', 0, 2, 0, 0, 0, 0), 'unknown flag' ],
	[ pack('CCvVvv', 0, 0, 1, 0, 0, 0), 'not zero' ],
	[ pack('CCvVv', 0, 0, 0, 0, 0), 'no address' ],
	[ pack('CCvVv/a*v', 2, 0, 0, 0, 'n' x 64, 0), 'name too long' ],
	[ pack('CCvVva', 2, 0, 0, 0, 5, 'n'), 'name cut off' ],
	[ pack('CCvVvv/a*', 0, 0, 0, 0, 0, 'a' x 128), 'address too long' ],
	[ pack('CCvVvvC', 0, 0, 0, 0, 0, 0, 0), 'a byte too many' ],
	[ pack('CCvVv/a*v', 2, 0, 0, 0, "a\0b", 0), 'a zero in the name' ];
is(cluster(@$_)->{status}, 'BAD_REQUEST', "CLUSTER action $_->[0]: what it needs is missing, or too much is there")
	for [1], [ 1, name => 'n2' ], [2], [3], [7], [ 5, name => 'n2' ], [ 6, name => 'n2' ],
	[ 2, name => 'n2', address => 'h:1' ];
is(cluster(0, name => 'x' x 63, address => 'y' x 127)->{status}, 'OK', 'the longest name and address');

# 3. Local reads that tell their age: position and lag in front, then the same answer.
my $plain = $c->call($CMD{GET}, get_payload('k', read => 'local'))->{payload};
my $told = $c->call($CMD{GET}, get_payload('k', read => 'told'))->{payload};
my ($position, $lag, $zero) = unpack 'Q<VV', $told;
cmp_ok($position, '>', $v, 'GET: the position is above what was read');
is_deeply([ $lag, $zero ], [ 0, 0 ], '... lag 0');
is(substr($told, 16), $plain, '... then the plain answer');
$a = $c->call($CMD{GET}, get_payload('absent', read => 'told'));
is($a->{status}, 'NOT_FOUND', 'GET of an absent key');
is($a->{detail}, $position, '... with the position as detail');
for my $r ([ MGET => mget_payload([qw(k absent)], read => 'told'), mget_payload([qw(k absent)], read => 'local') ],
	[ SCAN => scan_payload(read => 'told'), scan_payload(read => 'local') ],
	[ COUNT => count_payload(read => 'told'), count_payload(read => 'local') ],
	[ ESTIMATE => count_payload(read => 'told'), count_payload(read => 'local') ]) {
	my ($name, @payload) = @$r;
	my ($x, $y) = map { $c->call($CMD{$name}, $_)->{payload} } @payload;
	is(unpack('Q<', $x), $position, "$name: the position");
	is(substr($x, 16), $y, '... then the plain answer');
}
is(unpack('x8V', $c->call($CMD{SCAN}, scan_payload(read => 'told', snapshot => $v + 1))->{payload}), 0xffffffff,
	'SCAN at an older snapshot: the lag is not known');
# Pipelined beside reads of other kinds: each has its own form.
$c->request($CMD{GET}, get_payload('k', read => $_)) for qw(linearizable told local told linearizable);
is(join(' ', map { length $c->receive->{payload} } 1 .. 5), '17 33 17 33 17', 'reads of all kinds in one batch');
is($c->call($CMD{GET}, pack('Cx15', 3) . 'k')->{status}, 'BAD_REQUEST', 'freshness 3 is none');

# 4. Alone there is nobody to ask.
my %before = %{ $c->stats('replication.') };
is($c->config(set => 'lease_reads=off')->{status}, 'OK', 'lease_reads = off');
my $other = $node->client;
is($other->get('k')->{value}, 'v', 'a node alone reads without the others');
my %after = %{ $c->stats('replication.') };
cmp_ok($after{'replication.reads_by_lease'}, '>', $before{'replication.reads_by_lease'}, 'it is counted');
is($after{'replication.reads_by_round'}, 0, '... and none asked others');
is($after{"replication.$_->[0]"}, $_->[1], "replication.$_->[0]") for
	[ role => 2 ], [ leader_known => 1 ], [ voters => 1 ], [ learners => 0 ], [ alarm => 0 ], [ lag_bytes_max => 0 ],
	[ lag_ms_max => 0 ];
my %latency = %{ $c->stats('latency.') };
cmp_ok($latency{'latency.commit_count'}, '>', 0, 'commits are measured');
cmp_ok($latency{'latency.log_sync_count'}, '>', 0, 'syncs are measured');
for my $what (qw(commit log_sync)) {
	my @q = map { $latency{"latency.${what}_ns_$_"} } qw(p50 p90 p99 max);
	ok($q[0] > 0 && $q[0] <= $q[1] && $q[1] <= $q[2] && $q[2] <= $q[3], "quantiles of $what rise: @q");
}

# 5. kvctl.
my $k = $node->kvctl('cluster');
is($k->{code}, 0, 'kvctl cluster');
is((split /\t/, $k->{out})[1], 'leader', '... for programs: a row a node');
$k = $node->kvctl('--format', 'table', 'cluster', 'status');
like($k->{out}, qr/\Acluster [0-9a-f]{32}, term \d+: \w+ leads\nas seen by \w+ \(leader\)\n\nnode +\| role +\| state/,
	'... for people');
like($node->kvctl('--format', 'json', 'cluster')->{out}, qr/\A\{"name":"\w+","role":"leader",/, '... as JSON');
for my $wrong ([qw(add x)], [qw(add @h:1)], [qw(add n@h)], ['add'], [qw(remove)], [qw(replace n)], [qw(transfer a b)],
	[qw(status x)], [qw(status --dry-run)], ['what']) {
	is($node->kvctl('cluster', @$wrong)->{code}, 2, "kvctl cluster @$wrong: usage");
}
like($node->kvctl('help', 'cluster')->{out}, qr/--dry-run/, 'its page');
is($node->stop, 0, 'stop');

done_testing;
