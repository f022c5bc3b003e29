#!/usr/bin/perl
#
# 215_linearizable.t - histories of concurrent clients under faults of all kinds: none is illegal, no
# acknowledged write is missing, all nodes hold the same in the end.
#
# Why so: each schedule of faults finds other mistakes, and mixtures find those that no single one does.
# Every schedule runs on one cluster that goes on living, so that what one leaves behind meets the next.
# Keys are few, so that clients meet; reads go to all nodes (libkv follows to the leader, whichever node it
# asked first). 10 histories of 5,000 operations in check; KVD_SOAK=1 makes it 200 of 20,000.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Time::HiRes qw(time sleep);
use Kvd::Test;
use Kvd::Cluster;

use constant {
	HISTORIES => $ENV{KVD_SOAK} ? 200 : 10,
	OPERATIONS => $ENV{KVD_SOAK} ? 20_000 : 5_000,
	CLIENTS => 10,
	KEYS => 5,
	RATE => 2500,            # a history lasts longer than its faults
	MIX => 'get=4,lget=1,put=3,delete=1,cas=1,casv=1,incr=1',
	PATIENT => 'timeout=10s',
	IMPATIENT => 'timeout=150ms',
	ONCE => 'timeout=3s&retry=no',
	ELECTION_MS => 300,
};

my $seed = seed();
my $cluster = Kvd::Cluster->new(nodes => 3, election => ELECTION_MS)->start;
$cluster->wait_leader;
my $journal = $cluster->journal('journal', '-c', 2, '-r', 200);
$journal->wait_progress;

sub nap { my ($least, $more) = @_; sleep $least + rand($more || 0); return }

sub any { return (sort { rand() <=> 0.5 } $cluster->nodes)[0] }

sub leader_or_any { return $cluster->leader || any() }

sub killed
{
	my ($node) = @_;
	$cluster->kill9($node);
	nap(0, 0.5);
	$cluster->start_node($node);
	return;
}

sub paused
{
	my ($node) = @_;
	$cluster->stop($node);
	nap(0.2, 0.8);
	$cluster->cont($node);
	return;
}

# Name, one step, options of the clients (PATIENT); steps are repeated until the history is done. Impatient
# clients turn to another node while others stay, so that an old leader and a new one are asked at the same
# time. Clients that do not send writes again leave many in doubt.
my @schedules = (
	[ 'leaders killed' => sub { killed(leader_or_any()); nap(0.3, 0.4) } ],
	[ 'leaders killed, nothing sent again' => sub { killed(leader_or_any()); nap(0.2, 0.3) }, ONCE ],
	[ 'anyone killed' => sub { killed(any()); nap(0.2, 0.3) } ],
	[ 'leaders paused' => sub { paused(leader_or_any()); nap(0.2, 0.3) }, IMPATIENT ],
	[ 'leaders cut off' => sub { $cluster->isolate(leader_or_any()); nap(0.5, 0.6); $cluster->heal; nap(0.2, 0.2) },
		IMPATIENT ],
	[ 'one way' => sub {
			my ($leader, $other) = (leader_or_any(), any());
			$cluster->one_way(rand() < 0.5 ? ($leader, $other) : ($other, $leader));
			nap(0.3, 0.4);
			$cluster->heal if rand() < 0.5;
		}, ONCE ],
	[ 'bridges' => sub { $cluster->heal; $cluster->bridge(any()); nap(0.4, 0.6) } ],
	[ 'slow links' => sub {
			my @links = $cluster->proxy->links;
			$cluster->proxy->set($links[ rand @links ], delay => int rand 30);
			$cluster->proxy->cut($links[ rand @links ]) if rand() < 0.3;
			nap(0.05, 0.2);
		} ],
	[ 'processes killed' => sub {
			my $node = any();
			$node->kill9((qw(consensus walwriter backend replay))[ rand 4 ]);
			$cluster->wait_for(sub { $cluster->stats($node) }, 30, 'the node to be ready again');
			nap(0.1, 0.4);
		} ],
	[ 'all of it' => sub {
			my $what = int rand 8;
			$cluster->heal if $what == 0 || $what > 5;
			$cluster->isolate(any()) if $what == 1;
			$cluster->one_way(any(), any()) if $what == 2;
			paused(any()) if $what == 3;
			killed(any()) if $what == 4;
			killed(leader_or_any()) if $what == 5;
			nap(0.1, 0.4);
		} ],
);

my ($operations, $unknown) = (0, 0);
for my $i (0 .. HISTORIES - 1) {
	my ($name, $step, $options) = @{ $schedules[ $i % @schedules ] };
	my $history = $cluster->record("h$i", '-c', CLIENTS, '-k', KEYS, '-n', OPERATIONS, '-r', RATE, '-s', $seed + $i,
		'-m', MIX, { uri => $options || PATIENT });
	my $steps = 0;
	while (!defined $history->ended) {
		$step->();
		$steps++;
	}
	$cluster->heal;
	my $r = $history->finish(wait => 1);
	$operations += $r->{operations};
	$unknown += $r->{unknown};
	$history->check_history("$name ($steps steps): $r->{operations} operations, $r->{unknown} in doubt, linearizable");
	$cluster->wait_leader;
}
$journal->wait_progress;
$journal->finish;
$journal->verify;
$cluster->wait_same;
note "$operations operations, $unknown of them in doubt";
cmp_ok($operations, '>=', HISTORIES * OPERATIONS, 'as many operations as there should be');
is($cluster->stop_node($_, 'fast'), 0, $_->name . ' stops') for $cluster->nodes;
done_testing;
