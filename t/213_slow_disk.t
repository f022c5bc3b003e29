#!/usr/bin/perl
#
# 213_slow_disk.t - a disk whose syncs take long, on a follower and on the leader: the others go on, and nobody holds
# elections because of it.
#
# Why so: who waits for a disk must not keep silent meanwhile. Syncs are made slow in the shipped binary
# while it runs (KVD_TEST_SYNC_DELAY), for several times the election timeout. Terms tell about elections:
# at most one for every 10 s that a disk is slow; a leader with a slow disk may be relieved once, but then
# there is peace.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Time::HiRes qw(time sleep);
use Kvd::Test;
use Kvd::Cluster;

use constant { ELECTION_MS => 500, SLOW_MS => 1500, SECONDS => 6 };

seed();
my $cluster = Kvd::Cluster->new(nodes => 3, election => ELECTION_MS, proxy => 0)->start;
$cluster->wait_leader;
my $journal = $cluster->journal('slow', '-c', 4, '-r', 500);
my $history = $cluster->record('slower', '-c', 4, '-k', 4, '-r', 300, { uri => 'timeout=20s' });
$_->wait_progress for $journal, $history;

sub term { my ($node) = @_; return $cluster->stats($node)->{'node.term'} }

# All writes of these seconds, and how far the term moved.
sub watch
{
	my ($node) = @_;
	my $began = term($node);
	my $until = time + SECONDS;
	my $rounds = 0;
	while (time < $until) {
		$journal->wait_progress(seconds => 30);
		$rounds++;
		sleep 0.1;
	}
	return (term($node) - $began, $rounds);
}

subtest 'follower' => sub {
	my $leader = $cluster->wait_leader;
	my ($slow, $fast) = $cluster->followers;
	$cluster->slow_disk($slow, SLOW_MS);
	my ($terms, $rounds) = watch($leader);
	is($terms, 0, 'no election');
	is($cluster->leader->name, $leader->name, 'the leader stays');
	cmp_ok($rounds, '>=', SECONDS, "writes went on: $rounds times looked");
	my $s = $cluster->stats($leader);
	ok($s->{ 'replication.peer.' . $slow->name . '.up' }, 'the slow one is in touch');
	cmp_ok($s->{ 'replication.peer.' . $slow->name . '.heard_ms' }, '<', 4 * ELECTION_MS, '... and answers');
	$cluster->slow_disk($slow, 0);
};

subtest 'leader' => sub {
	my $slow = $cluster->wait_leader;
	my ($other) = $cluster->followers;
	$cluster->slow_disk($slow, SLOW_MS);
	my ($terms, $rounds) = watch($other);
	cmp_ok($terms, '<=', 1, "at most one election ($terms)");
	cmp_ok($rounds, '>=', 3, "writes went on: $rounds times looked");
	$cluster->slow_disk($slow, 0);
	$cluster->wait_leader;
};

$_->finish for $journal, $history;
$journal->verify;
$history->check_history;
$cluster->wait_same;
is($cluster->stop_node($_, 'fast'), 0, $_->name . ' stops') for $cluster->nodes;
done_testing;
