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

# Of the others, one that is held up for an election timeout changes the leader, too: so that is long.
use constant { ELECTION_MS => 1000, SLOW_MS => 3000, SECONDS => 8, ROUNDS => 3, TRIES => 10 };

seed();
my $cluster = Kvd::Cluster->new(nodes => 3, election => ELECTION_MS, proxy => 0)->start;
$cluster->wait_leader;
my $journal = $cluster->journal('slow', '-c', 4, '-r', 500);
my $history = $cluster->record('slower', '-c', 4, '-k', 4, '-r', 300, { uri => 'timeout=20s' });
$_->wait_progress for $journal, $history;

sub term { my ($node) = @_; return $cluster->term($node) }

# All writes of these seconds, ROUNDS of them at least, and how far the term moved.
sub watch
{
	my ($node) = @_;
	my $began = term($node);
	my $until = time + SECONDS;
	my $rounds = 0;
	do {
		$journal->wait_progress;
		$rounds++;
		sleep 0.1;
	} while time < $until || $rounds < ROUNDS;
	return (term($node) - $began, $rounds);
}

subtest 'follower' => sub {
	my $terms = 1;
	# An election because of the disk comes each time, one because of this machine does not.
	for (my $try = 1; $terms != 0 && $try <= TRIES; $try++) {
		my $leader = $cluster->wait_leader;
		my ($slow) = $cluster->followers;
		my $peer = 'replication.peer.' . $slow->name;
		my $rounds;
		$cluster->slow_disk($slow, SLOW_MS);
		($terms, $rounds) = watch($leader);
		# One round in half a slow sync would be few: they do not wait for it.
		cmp_ok($rounds, '>=', SECONDS, "writes went on: $rounds times looked") if $terms == 0;
		$cluster->wait_for(sub { my $s = $cluster->stats($leader);
			return $s && $s->{"$peer.up"} && $s->{"$peer.heard_ms"} < 4 * ELECTION_MS }, 60,
			'the slow one to be in touch') if $terms == 0;
		$cluster->slow_disk($slow, 0);
	}
	is($terms, 0, 'no election');
};

subtest 'leader' => sub {
	my $terms = 2;
	for (my $try = 1; $terms > 1 && $try <= TRIES; $try++) {
		my $slow = $cluster->wait_leader;
		my ($other) = $cluster->followers;
		my $rounds;
		$cluster->slow_disk($slow, SLOW_MS);
		($terms, $rounds) = watch($other);
		cmp_ok($rounds, '>=', ROUNDS, "writes went on: $rounds times looked");
		$cluster->slow_disk($slow, 0);
		$cluster->wait_leader;
	}
	cmp_ok($terms, '<=', 1, "at most one election ($terms)");
};

$_->finish for $journal, $history;
$journal->verify;
$history->check_history;
$cluster->wait_same;
is($cluster->stop_node($_, 'fast'), 0, $_->name . ' stops') for $cluster->nodes;
done_testing;
