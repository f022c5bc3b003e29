#!/usr/bin/perl
#
# 212_catch_up.t - a follower that was away for long: it fetches log from the leader's files, or all tables.
#
# Why so: what it lacks is no longer in the leader's ring, so it comes by another way, in another process; at
# the end its contents must be the others' all the same, wherever it was cut off. Log and tables are told
# apart by wal_keep_max.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Time::HiRes qw(sleep time);
use Kvd::Test;
use Kvd::Cluster;

seed();

use constant KEYS => 20_000;

# So much log, into as many keys: comparing contents is not what shall take the time.
sub fill
{
	my ($cluster, $leader, $seed, $mb) = @_;
	my $r = run_command({ timeout => 120 }, kvd_bin('kvbench'), '-p', $leader->{client_port}, '-c', 4, '-P', 64,
		'-d', 1000, '-r', KEYS, '-n', 1000 * $mb, '--seed', $seed, 'overwrite');
	is($r->{code}, 0, "$mb MB written") or diag("$r->{out}$r->{err}");
	return;
}

# How often its log says so.
sub said { my ($node, $what) = @_; my @n = $node->log =~ /$what/g; return scalar @n }

# --- by log -----------------------------------------------------------------------------------------
{
	my $cluster = Kvd::Cluster->new(nodes => 3, election => 4000, proxy => 0,
		settings => { memtable_size => '40MB', wal_keep => '500MB' })->start;
	my $leader = $cluster->wait_leader(seconds => 60);
	my ($away) = $cluster->followers;

	fill($cluster, $leader, 1, 5);
	$cluster->kill9($away);
	fill($cluster, $leader, 2, 200);
	my $began = time;
	$cluster->start_node($away, no_wait => 1);
	$cluster->wait_for(sub { said($away, qr/far behind: fetching log/) }, 30, 'the follower to fetch log');
	# Cut off in the middle, more than once.
	for my $i (1 .. 3) {
		sleep 0.1;
		$cluster->kill9($away);
		$cluster->start_node($away, no_wait => 1);
	}
	my $end = $cluster->stats($leader)->{'log.applied'};
	$cluster->wait_for(sub { (($cluster->stats($away) || {})->{'log.applied'} || 0) >= $end }, 60,
		'the follower to be back');
	diag(sprintf '200 MB by log, killed 3 times: %.1f s', time - $began);
	$cluster->wait_same(60);
	is(said($away, qr/fetching tables/), 0, 'without tables');
	# The leader changes in the middle.
	$cluster->kill9($away);
	$leader = $cluster->wait_leader(of => [ grep { $_ != $away } $cluster->nodes ], seconds => 60);
	fill($cluster, $leader, 3, 100);
	$cluster->start_node($away, no_wait => 1);
	$cluster->wait_for(sub { said($away, qr/far behind: fetching log/) >= 2 }, 30, 'the follower to fetch log again');
	$cluster->stop_node($leader);
	$cluster->wait_leader(of => [ grep { $_ != $leader } $cluster->nodes ], seconds => 60);
	$cluster->start_node($leader);
	$cluster->wait_same(60);
	for my $node ($cluster->nodes) {
		$cluster->stop_node($node);
		$cluster->wipe($node); # the next cluster's nodes have the same names
	}
}

# --- by tables --------------------------------------------------------------------------------------
{
	my $cluster = Kvd::Cluster->new(nodes => 3, election => 4000, proxy => 0,
		settings => { memtable_size => '40MB', wal_keep_max => '8MB' })->start;
	my $leader = $cluster->wait_leader(seconds => 60);
	my ($away) = $cluster->followers;

	fill($cluster, $leader, 1, 5);
	$cluster->kill9($away);
	fill($cluster, $leader, 2, 200);
	my $r = $cluster->kvctl('checkpoint');
	is($r->{code}, 0, 'checkpoint') or diag($r->{err});
	$cluster->start_node($away, no_wait => 1);
	$cluster->wait_for(sub { said($away, qr/installed the tables/) }, 60, 'tables to be installed');
	$cluster->wait_same(60);
	is($cluster->stats($away)->{'node.restarts'}, 0, 'a restart to install tables is no crash');
	ok(!-e $away->dir . '/incoming', 'nothing is left of the fetch');
	# Killed again and again: while it fetches, before it installs, while it installs.
	for my $round (1 .. 2) {
		$cluster->kill9($away);
		$leader = $cluster->wait_leader(of => [ grep { $_ != $away } $cluster->nodes ], seconds => 60);
		fill($cluster, $leader, 10 + $round, 150);
		$cluster->kvctl('checkpoint');
		my $before = said($away, qr/installed the tables/);
		for my $i (1 .. 6) {
			$cluster->start_node($away, no_wait => 1);
			sleep rand 0.6;
			$cluster->kill9($away);
		}
		$cluster->start_node($away, no_wait => 1);
		$cluster->wait_same(60);
		ok(said($away, qr/installed the tables/) > $before, 'tables were installed');
		ok(!-e $away->dir . '/incoming', 'nothing is left of the fetch');
	}
	# What the readers of its tables used is removed on the leader when they are gone.
	for my $node ($cluster->nodes) {
		$cluster->wait_for(sub { !glob($node->dir . '/snapshots/*') }, 30, 'links for other nodes to go');
	}
	$cluster->stop_node($_) for $cluster->nodes;
	for my $node ($cluster->nodes) {
		my $c = run_command({ timeout => 60 }, kvd_bin('kvd'), '-D', $node->dir, '--check');
		is($c->{code}, 0, 'kvd --check finds nothing in ' . $node->name) or diag("$c->{out}$c->{err}");
	}
}

done_testing();
