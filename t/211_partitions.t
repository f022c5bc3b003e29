#!/usr/bin/perl
#
# 211_partitions.t - links between nodes are cut in every shape: a majority that is connected writes, a
# minority refuses and reads nothing stale, and all agree again soon after.
#
# Why so: each direction of each link is a proxy of its own. One-way cuts and bridges are what breaks
# elections that rely on "I hear nobody" (PreVote, CheckQuorum); flapping makes terms race. A history is
# recorded through all of it, and a journal. How soon a leader is there after healing is measured from the
# heal to the moment when all nodes follow the same one, and reported: 3 election timeouts are what is promised.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Time::HiRes qw(time sleep);
use Kvd::Test;
use Kvd::Cluster;
use Kvd::Proto qw(:all);

# A second: whoever is held up for less is not missed.
use constant { ELECTION_MS => 1000, FLAPS => 12, SHORT_MS => 300, TRIES => 10 };

seed();
my $cluster = Kvd::Cluster->new(nodes => 3, election => ELECTION_MS)->start;
$cluster->wait_leader;
my $journal = $cluster->journal('cuts', '-c', 3, '-r', 600);
my $history = $cluster->record('cut', '-c', 6, '-k', 5, '-r', 400, { uri => 'timeout=2s' });
$_->wait_progress for $journal, $history;
my @healed;

# From now on until all follow one leader, in election timeouts.
sub heal
{
	$cluster->heal;
	my $began = time;
	my $leader = $cluster->wait_leader;
	push @healed, 1000 * (time - $began) / ELECTION_MS;
	$history->wait_progress;
	return $leader;
}

# What a node says to a linearizable read and to a write that may wait for `timeout` ms.
sub says
{
	my ($node) = @_;
	my $c = $node->client(timeout => 20);
	my %answer = (get => $c->get('k', deadline => SHORT_MS)->{status});
	$answer{put} = $c->put('k', 'refused', deadline => SHORT_MS)->{status};
	$answer{local} = $c->get('k', read => 'local')->{status};
	return \%answer;
}

sub refuses
{
	my ($node, $why) = @_;
	my $a = says($node);
	like($a->{get}, qr/\A(?:NOT_LEADER|TIMEOUT)\z/, "$why: no linearizable read ($a->{get})");
	like($a->{put}, qr/\A(?:NOT_LEADER|TIMEOUT|OUTCOME_UNKNOWN)\z/, "$why: no write ($a->{put})");
	is($a->{local}, 'OK', "$why: local reads as before");
	return;
}

# Does the leader stay, in its term, through what CODE does to it and a follower? Who brings it down does so each time;
# a machine that has better things to do for an election timeout may once.
sub undisturbed
{
	my ($code) = @_;
	for my $try (1 .. TRIES) {
		my $leader = $cluster->wait_leader;
		my ($follower) = $cluster->followers;
		my $term = $cluster->term($leader);
		$code->($leader, $follower);
		return 1 if heal()->name eq $leader->name && $cluster->term($leader) == $term;
	}
	return 0;
}

subtest 'leader alone' => sub {
	my $old = $cluster->wait_leader;
	my @others = map { $_->name } $cluster->followers;
	is($cluster->by_leader(sub { $_[0]->put('k', 'first') })->{status}, 'OK', 'written');
	$cluster->isolate($old);
	my $alone = $old->client(timeout => 20)->put('k', 'alone', deadline => SHORT_MS)->{status};
	isnt($alone, 'OK', "cut off, but still leading: nothing is acknowledged ($alone)");
	is($cluster->by_leader(sub { $_[0]->put('k', 'second') }, of => \@others)->{status}, 'OK', 'the majority writes');
	refuses($old, 'the one that was cut off');
	is($cluster->by_leader(sub { $_[0]->get('k') }, of => \@others)->{value}, 'second',
		'the majority reads what it wrote');
	heal();
};

subtest 'follower alone' => sub {
	ok(undisturbed(sub {
		my ($leader, $follower) = @_;
		$cluster->isolate($follower);
		$history->wait_progress;
		sleep ELECTION_MS / 1000; # what had come in before is done with
		my $term = $cluster->term($follower);
		for (1 .. 2) { $history->wait_progress; sleep ELECTION_MS / 1000 }
		refuses($follower, 'the one that was cut off');
		is($cluster->term($follower), $term, '... stays in its term (PreVote)');
	}), 'the leader stays, also when the lost one is back: nobody was disturbed');
};

subtest 'one way' => sub {
	# a leader that is heard by nobody, and one that hears nobody
	my $old = $cluster->wait_leader;
	my @others = map { $_->name } $cluster->followers;
	$cluster->one_way($old, \@others);
	is($cluster->by_leader(sub { $_[0]->put('k', 'third') }, of => \@others)->{status}, 'OK',
		'leader not heard: others lead');
	refuses($old, 'the one not heard');
	heal();

	$old = $cluster->wait_leader;
	@others = map { $_->name } $cluster->followers;
	$cluster->one_way(\@others, $old);
	$cluster->wait_for(sub { my $l = $cluster->leader; $l && $l != $old }, 60, 'a leader who is answered');
	is($cluster->by_leader(sub { $_[0]->put('k', 'fourth') }, of => \@others)->{status}, 'OK',
		'leader not answered: it gives way (CheckQuorum), others lead');
	heal();

	# one follower does not hear the leader but is heard: it must not bring it down again and again
	ok(undisturbed(sub {
		my ($leader, $deaf) = @_;
		$cluster->one_way($leader, $deaf);
		for (1 .. 3) { $history->wait_progress; sleep ELECTION_MS / 1000 }
	}), 'one that does not hear the leader does not disturb it');
};

subtest 'bridge' => sub {
	# all see the follower in the middle; the other two do not see each other
	my $raced = 1;
	for (my $try = 1; $raced && $try <= TRIES; $try++) {
		my ($middle) = $cluster->followers;
		$cluster->bridge($middle);
		$history->wait_progress;
		sleep 3 * ELECTION_MS / 1000;
		$history->wait_progress;
		my $before = $cluster->term($middle);
		sleep 3 * ELECTION_MS / 1000;
		$history->wait_progress;
		$raced = $cluster->term($middle) - $before;
		heal();
	}
	is($raced, 0, 'terms do not race while it lasts');
};

subtest 'flapping' => sub {
	my @names = map { $_->name } $cluster->nodes;
	for (1 .. FLAPS) {
		my ($a, $b) = (sort { rand() <=> 0.5 } @names)[ 0, 1 ];
		rand() < 0.5 ? $cluster->one_way($a, $b) : $cluster->isolate($a);
		sleep 0.05 + rand 0.3;
		$cluster->heal if rand() < 0.6;
	}
	ok(heal(), 'a leader is agreed on');
};

subtest 'slow and broken links' => sub {
	my @links = $cluster->proxy->links;
	$cluster->proxy->set(\@links, delay => 30);
	$history->wait_progress;
	is($cluster->by_leader(sub { $_[0]->put('k', 'x' x 300_000) })->{status}, 'OK', 'with 30 ms a hop');
	for (1 .. 5) {
		$cluster->proxy->cut;
		sleep 0.05 + rand 0.1;
	}
	$history->wait_progress;
	pass('with connections broken');
	heal();
};

$_->finish for $journal, $history;
$journal->verify;
$history->check_history;
$cluster->wait_same;
@healed = sort { $a <=> $b } @healed;
note 'from heal to a leader that all follow, in election timeouts: ', join ' ', map { sprintf '%.2f', $_ } @healed;
is($cluster->stop_node($_, 'fast'), 0, $_->name . ' stops') for $cluster->nodes;
done_testing;
