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

# So much log, into as many keys: comparing contents is not what shall take the time. Again, if the leader changes
# meanwhile: kvbench stays with its node.
sub fill
{
	my ($cluster, $seed, $mb) = @_;
	my $r;
	$cluster->wait_for(sub {
		my $leader = $cluster->wait_leader;
		$r = run_command({ timeout => 600 }, kvd_bin('kvbench'), '-p', $leader->{client_port}, '-c', 4, '-P', 64,
			'-d', 1000, '-r', KEYS, '-n', 1000 * $mb, '--seed', $seed, 'overwrite');
		return $r->{code} == 0;
	}, 300, sub { "$mb MB to be written; $r->{out}$r->{err}" });
	pass("$mb MB written");
	return;
}

# How often its log says so.
sub said { my ($node, $what) = @_; my @n = $node->log =~ /$what/g; return scalar @n }

# --- by log -----------------------------------------------------------------------------------------
{
	my $cluster = Kvd::Cluster->new(nodes => 3, election => 4000, proxy => 0,
		settings => { memtable_size => '40MB', wal_keep => '500MB' })->start;
	my ($away) = $cluster->followers;

	fill($cluster, 1, 5);
	$cluster->kill9($away);
	fill($cluster, 2, 200);
	my $began = time;
	$cluster->start_node($away, no_wait => 1);
	$cluster->wait_for(sub { said($away, qr/far behind: fetching log/) }, 60, 'the follower to fetch log');
	# Cut off in the middle, more than once.
	for my $i (1 .. 3) {
		sleep 0.1;
		$cluster->kill9($away);
		$cluster->start_node($away, no_wait => 1);
	}
	my $end;
	$cluster->wait_for(sub {
		return $end = ($cluster->stats($cluster->wait_leader(not => [$away])) || {})->{'log.applied'};
	}, 60, 'the end of the log');
	$cluster->wait_for(sub { (($cluster->stats($away) || {})->{'log.applied'} || 0) >= $end }, 300,
		'the follower to be back');
	diag(sprintf '200 MB by log, killed 3 times: %.1f s', time - $began);
	$cluster->wait_same(300);
	is(said($away, qr/fetching tables/), 0, 'without tables');
	# The leader changes in the middle.
	$cluster->kill9($away);
	$cluster->wait_leader(of => [ grep { $_ != $away } $cluster->nodes ]);
	fill($cluster, 3, 100);
	my $before = said($away, qr/far behind: fetching log/);
	$cluster->start_node($away, no_wait => 1);
	$cluster->wait_for(sub { said($away, qr/far behind: fetching log/) > $before }, 60,
		'the follower to fetch log again');
	my $leader = $cluster->wait_leader(not => [$away]);
	$cluster->stop_node($leader);
	$cluster->wait_leader(of => [ grep { $_ != $leader } $cluster->nodes ]);
	$cluster->start_node($leader);
	$cluster->wait_same(300);
	for my $node ($cluster->nodes) {
		$cluster->stop_node($node);
		$cluster->wipe($node); # the next cluster's nodes have the same names
	}
}

# --- by tables --------------------------------------------------------------------------------------
{
	my $cluster = Kvd::Cluster->new(nodes => 3, election => 4000, proxy => 0,
		settings => { memtable_size => '40MB', wal_keep_max => '8MB' })->start;
	my ($away) = $cluster->followers;

	fill($cluster, 1, 5);
	$cluster->kill9($away);
	fill($cluster, 2, 200);
	my $r = $cluster->kvctl('checkpoint');
	is($r->{code}, 0, 'checkpoint') or diag($r->{err});
	$cluster->start_node($away, no_wait => 1);
	$cluster->wait_for(sub { said($away, qr/installed the tables/) }, 300, 'tables to be installed');
	$cluster->wait_same(300);
	is($away->client(timeout => 60)->stats('node.restarts')->{'node.restarts'}, 0,
		'a restart to install tables is no crash');
	ok(!-e $away->dir . '/incoming', 'nothing is left of the fetch');
	# Killed again and again: while it fetches, before it installs, while it installs.
	for my $round (1 .. 2) {
		$cluster->kill9($away);
		$cluster->wait_leader(of => [ grep { $_ != $away } $cluster->nodes ]);
		fill($cluster, 10 + $round, 150);
		$cluster->kvctl('checkpoint');
		my $before = said($away, qr/installed the tables/);
		for my $i (1 .. 6) {
			$cluster->start_node($away, no_wait => 1);
			sleep rand 0.6;
			$cluster->kill9($away);
		}
		$cluster->start_node($away, no_wait => 1);
		$cluster->wait_same(300);
		ok(said($away, qr/installed the tables/) > $before, 'tables were installed');
		ok(!-e $away->dir . '/incoming', 'nothing is left of the fetch');
	}
	# What the readers of its tables used is removed on the leader when they are gone.
	for my $node ($cluster->nodes) {
		$cluster->wait_for(sub { !(() = glob $node->dir . '/snapshots/*') }, 60, 'links for other nodes to go');
	}
	$cluster->stop_node($_) for $cluster->nodes;
	for my $node ($cluster->nodes) {
		my $c = run_command({ timeout => 60 }, kvd_bin('kvd'), '-D', $node->dir, '--check');
		is($c->{code}, 0, 'kvd --check finds nothing in ' . $node->name) or diag("$c->{out}$c->{err}");
	}
}

done_testing();
