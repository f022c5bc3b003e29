#!/usr/bin/perl
#
# 204_consistency.t - what doc/consistency.md promises, on three nodes: who answers what, how old it may be, and that a
# node which does not lead any more never answers as if it did.
#
# Why so: a wrong answer to a read is never noticed by whoever gets it. Each case that can produce one is made here: a
# follower, a follower that passes on, a leader without lease, a leader that is cut off, a leader whose consensus worker
# stands still, a cluster without majority.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Time::HiRes qw(time sleep);
use Kvd::Cluster;
use Kvd::Test;
use Kvd::Proto qw(:all);

# Sections 1 to 3 speak of one leader again and again: it stays, also when somebody is held up for a second.
my $cluster = Kvd::Cluster->new(nodes => 3, election => 4000, proxy => 0)->start;
my $election_s = $cluster->election / 1000;
my $leader = $cluster->wait_leader;
my ($follower, $third) = $cluster->followers;
my $l = $leader->client;
my $f = $follower->client;
my ($a, $v);

sub config_all
{
	my ($setting) = @_;
	my ($name, $value) = split /=/, $setting;
	for my $node ($cluster->running) {
		is($node->client->config(set => $setting)->{status}, 'OK', $node->name . ": $setting");
		# The processes that are to follow it are told by a signal.
		$cluster->wait_for(sub { $node->client->config(list => $name)->{rows}[0][1] eq $value }, 30,
			"$setting on " . $node->name);
	}
	return;
}

sub told
{
	my ($c, $key) = @_;
	my $a = $c->call($CMD{GET}, get_payload($key, read => 'told'));
	@$a{qw(position lag value)} = ((unpack 'Q<VV', $a->{payload})[ 0, 1 ], substr $a->{payload}, 32) if $a->{code} == 0;
	return $a;
}

# 1. A follower sends clients to the leader, and serves local reads.
my $address = '127.0.0.1:' . $leader->port;
is_deeply([ $l->{role}, $f->{role} ], [ 1, 2 ], 'HELLO tells who leads');
for my $r ([ PUT => $f->put('k', 'v') ], [ DELETE => $f->delete('k') ], [ INCR => $f->incr('n', 1) ],
	[ GET => $f->get('k') ], [ MGET => $f->mget(['k']) ], [ SCAN => $f->scan ], [ COUNT => $f->count ],
	[ ESTIMATE => $f->estimate ],
	[ DELETE_RANGE => $f->call($CMD{DELETE_RANGE}, delete_range_payload('a', 'b')) ],
	[ CLUSTER => $f->call($CMD{CLUSTER}, pack 'CCvVvv', 6, 0, 0, 0, 0, 0) ]) {
	is("$r->[1]{status} $r->[1]{text}", "NOT_LEADER $address", "$r->[0] on a follower: the leader's address");
}
$v = $l->put('k', 'one')->{version};
is($f->get('k', read => 'local', at_least => $v)->{value}, 'one', 'a local read waits for the version it asks for');
is($f->get('k', read => 'local')->{value}, 'one', '... and then has it');
$a = $f->get('k', read => 'local', at_least => $v + 1_000_000, deadline => 100);
is($a->{status}, 'TIMEOUT', 'a version that does not come');
$cluster->wait_for(sub { my $t = told($f, 'k'); $t->{lag} != 0xffffffff && $t->{lag} < 1000 * $election_s }, 60,
	'a follower that knows how old it is');
cmp_ok(told($f, 'k')->{position}, '>', $v, 'its position is above what it shows');
is(told($l, 'k')->{lag}, 0, 'the leader is never behind');
like($follower->kvctl('--timeout', '60s', 'put', 'k', 'two')->{out}, qr/\A\d+\n\z/, 'kvctl follows to the leader');
is($l->get('k')->{value}, 'two', '... and wrote there');
my $leads = $leader->name . ' leads';
like($_->kvctl('--format', 'table', 'cluster')->{out}, qr/: $leads\n/, $_->name . ' says who leads')
	for $cluster->nodes;

# 2. A follower that passes requests on.
config_all('follower_requests=forward');
$f = $follower->client(timeout => 90);
$v = $f->put('fwd', 'a')->{version};
ok($v, 'PUT is passed on');
is($f->get('fwd')->{version}, $v, 'GET too, and sees it');
is($f->get('fwd', read => 'local')->{value}, 'a', 'a local read behind it on the same connection waits for it');
is($f->put('fwd', 'b', if => 'version', expect => $v)->{status}, 'OK', 'conditions');
is($f->put('fwd', 'c', if => 'version', expect => $v)->{status}, 'CONDITION_FAILED', '... that do not hold');
$f->delete('n');
$f->request($CMD{INCR}, write_prefix() . op(kind => 'incr', key => 'n', value => 1)) for 1 .. 300;
$f->request($CMD{GET}, get_payload('n', read => $_ % 2 ? 'local' : 'linearizable')) for 1 .. 4;
$f->request($CMD{PING}, 'p');
is(join(' ', map { (unpack 'Q<q<', $f->receive->{payload})[1] } 1 .. 300), join(' ', 1 .. 300),
	'300 pipelined increments are done in order, once each');
is(join(' ', map { substr $f->receive->{payload}, 16 } 1 .. 4), '300 300 300 300',
	'... and reads of all kinds see them');
is($f->receive->{payload}, 'p', '... and answers keep their order');
is(scalar @{ $f->scan(start => 'fwd', end => 'fwe')->{entries} }, 1, 'SCAN');
my $value = join '', map { chr rand 256 } 1 .. 3_000_000;
$f->request($CMD{PUT}, put_payload("big$_", $value)) for 1 .. 3;
$f->request($CMD{GET}, get_payload("big$_")) for 1 .. 3;
is(join(' ', map { $f->receive->{status} } 1 .. 3), 'OK OK OK', 'large values there');
ok(!(grep { substr($f->receive->{payload}, 16) ne $value } 1 .. 3), '... and back');
my $g = $follower->client(forwarded => 1);
is($g->put('fwd', 'x')->{text}, $address, 'what was forwarded is not forwarded again');
is($f->call($CMD{PUT}, 'x')->{status}, 'BAD_REQUEST', 'the leader judges what is no request');
# The leader dies under it: the read is asked again, of the next one.
$cluster->kill9($leader);
$a = $f->get('n', deadline => 60_000);
is($a->{value}, '300', 'a read survives the death of the leader it was passed to, whoever is the next one');
do { $a = $f->put('fwd', 'after', deadline => 60_000) } while $a->{status} eq 'OUTCOME_UNKNOWN'; # one more election
is($a->{status}, 'OK', '... and so does the write behind it');
$cluster->start_node($leader);
config_all('follower_requests=redirect');

# 3. Without leases every read asks a majority.
$leader = $cluster->wait_leader;
config_all('lease_reads=off');
$l = $leader->client;
my %before = %{ $l->stats('replication.') };
$l->put('k', "value $_") && is($l->get('k')->{value}, "value $_", 'a read without lease') for 1 .. 5;
my %after = %{ $l->stats('replication.') };
cmp_ok($after{'replication.reads_by_round'} - $before{'replication.reads_by_round'}, '>=', 5, '... asks the others');
cmp_ok($after{'replication.rounds'}, '>', $before{'replication.rounds'}, '... in rounds');
is($after{'replication.reads_by_lease'}, $before{'replication.reads_by_lease'}, '... and uses no lease');

# From here on leaders are to be lost soon, and no stopped process is to be missed by its postmaster.
for my $node ($cluster->nodes) {
	$cluster->stop_node($node);
	$cluster->wipe($node); # the next cluster's nodes have the same names
}
$cluster = Kvd::Cluster->new(nodes => 3, election => 1000, settings => { stuck_timeout => '600s' })->start;
$election_s = $cluster->election / 1000;

# Writes to the leader, whoever that is by then: the node, a connection to it, and when it was last asked.
sub write_to_leader
{
	my ($key, $value) = @_;
	my ($node, $c, $asked);
	$cluster->wait_for(sub {
		$node = $cluster->wait_leader;
		$c = $node->client(timeout => 60);
		$asked = time;
		return $c->put($key, $value)->{code} == 0;
	}, $cluster->patience, "$key to be written to the leader");
	pass("$value: the old leader leads");
	return ($node, $c, $asked);
}

# 4. A leader that is cut off answers no linearizable read that could be old, with leases and without.
for my $lease (qw(off on)) {
	config_all("lease_reads=$lease");
	my ($old, $asked);
	($leader, $old, $asked) = write_to_leader('cut', "old $lease");
	my @rest = grep { $_ != $leader } $cluster->running;
	$cluster->isolate($leader);
	my $reads = 0;
	my ($new, $first_s);
	# Reads go on there while the others elect; a new leader writes as soon as there is one.
	$cluster->wait_for(sub {
		my $a = $old->get('cut', deadline => 20);
		$first_s //= time - $asked;
		$reads++ if $a->{code} == 0;
		($new) = grep { my $s = $cluster->stats($_); $s && $s->{'replication.role'} == 2 } @rest;
		return $new;
	}, 40, 'a new leader');
	$cluster->by_leader(sub { $_[0]->put('cut', 'new') }, of => \@rest);
	$a = $old->get('cut', deadline => 200);
	like($a->{status}, qr/\A(?:NOT_LEADER|TIMEOUT)\z/,
		"... the old one does not answer any more (it did $reads times)");
	is($old->get('cut', read => 'local')->{value}, "old $lease", '... but to local reads');
	my $lag = told($old, 'cut')->{lag};
	sleep 0.2;
	cmp_ok(told($old, 'cut')->{lag}, '>=', $lag + 150, '... which grow old, and it says so');
	like($old->put('cut', 'wrong')->{status}, qr/\A(?:NOT_LEADER|OUTCOME_UNKNOWN)\z/, '... and takes no writes');
	# The write proves a lease of nine tenths of the election timeout from when it was asked for.
	cmp_ok($reads, '>', 0, '... while its lease lasted it did') if $lease eq 'on' && $first_s < 0.8 * $election_s;
	$cluster->heal;
	$cluster->wait_leader;
	$cluster->wait_for(sub { $old->get('cut', read => 'local')->{value} eq 'new' }, 60, 'the old leader to follow');
}

# 5. The leader's consensus worker stands still: nobody closes the gate, yet it must not answer (rule G5).
($leader, my $old) = write_to_leader('g5', 'old');
my @rest = grep { $_ != $leader } $cluster->running;
my $worker = $old->stats('process.')->{'process.consensus.pid'};
kill 'STOP', $worker;
$cluster->wait_leader(of => [ map { $_->name } @rest ]);
$cluster->by_leader(sub { $_[0]->put('g5', 'new') }, of => \@rest);
sleep 2 * $election_s;
like($old->get('g5', deadline => 5000)->{status}, qr/\A(?:NOT_LEADER|TIMEOUT)\z/,
	'its consensus worker stopped: no linearizable reads');
is($old->put('g5', 'wrong')->{status}, 'NOT_LEADER', '... and no writes');
is($old->get('g5', read => 'local')->{value}, 'old', '... local reads go on');
kill 'CONT', $worker;
$cluster->wait_leader;
$cluster->wait_for(sub { $old->get('g5', read => 'local')->{value} eq 'new' }, 60, 'it to follow');

# 6. No majority.
$leader = $cluster->wait_leader;
$l = $leader->client(timeout => 30);
$cluster->kill9($_) for grep { $_ != $leader } $cluster->running;
$cluster->wait_for(sub { $l->stats('replication.')->{'replication.leader_known'} == 0 }, 60, 'the leader to step down');
is($l->put('k', 'v')->{status}, 'NOT_LEADER', 'no majority: no writes');
$a = $l->get('k');
is("$a->{status} '$a->{text}'", "NOT_LEADER ''", '... no linearizable reads, and nobody to go to');
is($l->get('g5', read => 'local')->{value}, 'new', '... local reads go on');
like($leader->kvctl('--format', 'table', 'cluster')->{out}, qr/no leader is known here.*down/s,
	'... and the status says so');
$cluster->start_node($_) for grep { !$_->pid } $cluster->nodes;
$cluster->wait_leader;
$cluster->wait_same;
$cluster->stop_node($_) for $cluster->running;

done_testing;
