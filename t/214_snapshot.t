#!/usr/bin/perl
#
# 214_snapshot.t - a follower that is far behind gets another node's tables; killed at any moment of it, it
# holds the old state or the new one.
#
# Why so: tables come as files, one after the other, and replace everything the follower had; a mixture
# would be a state that never was. The follower is made far behind by writing while it is down, putting that
# into tables and restarting the others, so that no log is left to give. Slow syncs stretch the fetching,
# and kills come at random: of the follower, of the process that fetches, of the node that gives, and while
# the new tables are put in place. What the follower shows by local reads is all of the backlog, or nothing
# of it.
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

use constant { ELECTION_MS => 400, BACKLOG => 40, VALUE => 300_000, SYNC_MS => 100, ROUNDS => $ENV{KVD_SOAK} ? 60 : 6 };

seed();
my $cluster =
	Kvd::Cluster->new(nodes => 3, election => ELECTION_MS, proxy => 0, settings => { wal_keep_max => '1MB' })->start;
my ($late) = $cluster->followers;
is($cluster->by_leader(sub { $_[0]->put('old', 'state') })->{status}, 'OK', 'an old state');
$cluster->wait_same;
$cluster->kill9($late);
$cluster->wait_leader;

# Some values each, in several checkpoints, so that there are several tables.
for my $i (1 .. BACKLOG) {
	$cluster->by_leader(sub { $_[0]->put(sprintf('backlog-%04d', $i), sprintf('%04d', $i) x (VALUE / 4)) });
	if ($i % 10 == 0) { $_->kvctl('checkpoint') for $cluster->running }
}
is($cluster->by_leader(sub { $_[0]->delete('old') })->{status}, 'OK', 'a new state');
$cluster->wait_same;
for my $node (grep { $_ != $late } $cluster->nodes) {
	is($node->kvctl('checkpoint')->{code}, 0, 'in tables of ' . $node->name);
	$cluster->stop_node($node);
	$cluster->start_node($node);
}
$cluster->wait_leader;
my $journal = $cluster->journal('after', '-c', 2, '-r', 200);
$journal->wait_progress;

# What the late one has, when it is up: undef, or how much of the backlog, and whether the old state is there.
sub shows
{
	my $c = eval { $late->client(timeout => 20) } or return undef;
	my $r = eval { $c->scan(start => 'backlog-', end => 'backlog.', keys_only => 1, read => 'local') } or return undef;
	return undef if $r->{code} != 0;
	return scalar @{ $r->{entries} };
}

sub wait_log
{
	my ($from, $pattern) = @_;
	$cluster->wait_for(sub { $late->log($from) =~ $pattern }, 60, "the late node to log $pattern");
	return;
}

my $FETCHING = qr/fetching tables in \d+ files/;
my $INSTALLING = qr/restarting the node with the tables/;
my %seen;

# One attempt, interrupted in that way. True: it had been far behind when it began.
sub attempt
{
	my ($how) = @_;
	my $from = $late->log_size;
	$cluster->slow_disk($late, SYNC_MS);
	$cluster->start_node($late, no_wait => 1);
	my $wanted = $how eq 'installing' ? $INSTALLING : $FETCHING;
	wait_log($from, qr/$wanted|installed the tables/); # what was whole when it was killed is installed at once
	sleep rand($how eq 'installing' ? 1 : 0.5);
	if ($how eq 'giver') {
		my $giver = $cluster->leader || $cluster->wait_leader(not => [$late]);
		$cluster->kill9($giver);
		$cluster->start_node($giver);
	} elsif ($how eq 'fetcher') {
		$late->kill9('fetcher');
	}
	sleep rand 0.2;
	$cluster->kill9($late);
	my $r = run_command(kvd_bin('kvd'), '-D', $late->dir, '--check');
	is($r->{code}, 0, "$how interrupted: what it has is whole") or diag $r->{out} . $r->{err};

	# up again, alone: what it shows then is what it has
	$cluster->slow_disk($late, SYNC_MS);
	$cluster->start_node($late);
	my $n = shows();
	ok(!defined $n || $n == 0 || $n == BACKLOG, "... the old state or the new: " . (defined $n ? $n : 'starting'));
	$seen{ defined $n ? $n : 'starting' }++;
	$cluster->kill9($late);
	return $late->log($from) !~ /installed the tables/;
}

# When the tables are in place, the node is made late once more: its directory is put back as it was.
my $before = $late->dir . '.before';
is(system('cp', '-a', $late->dir, $before), 0, 'a copy of the late node');
my @how = qw(receiver fetcher giver installing);
for my $round (1 .. ROUNDS) {
	my $how = $round <= @how ? $how[ $round - 1 ] : $how[ rand @how ];
	if (!attempt($how)) {
		$cluster->wipe($late);
		is(system('cp', '-a', $before, $late->dir), 0, 'late once more');
	}
}
note 'shown after interruptions: ' . join ', ', map {"$_ ($seen{$_} times)"} sort keys %seen;

$cluster->slow_disk($late, 0);
$cluster->start_node($late);
$journal->wait_progress;
$journal->finish;
$cluster->wait_same;
is(shows(), BACKLOG, 'all of the backlog is there in the end');
$journal->verify;
is($cluster->stop_node($_, 'fast'), 0, $_->name . ' stops') for $cluster->nodes;
is(run_command(kvd_bin('kvd'), '-D', $late->dir, '--check')->{code}, 0, 'the tables that came are good');
done_testing;
