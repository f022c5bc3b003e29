#!/usr/bin/perl
#
# 218_full_ring.t - a leader whose ring is full of what nobody else has leads on, also after its restart, and
# gets all of it to another node.
#
# Why so: nothing of that is committed before the TERM record behind it has a majority. A node that had no room
# for this record, or did not have in its ring what the other one lacks, would lead for ever and commit nothing.
# The third node is stopped meanwhile, so that no other log can win.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Time::HiRes qw(time sleep);
use Kvd::Test;
use Kvd::Cluster;

use constant { ELECTION_MS => 8000, FULL_S => 20 };

seed();
# Memory and level 0 enough that nobody is slowed on the way.
my $cluster = Kvd::Cluster->new(nodes => 3, election => ELECTION_MS, proxy => 0,
	settings => { memtable_count => 8, l0_slowdown => 200, stuck_timeout => '600s' })->start;

sub consensus
{
	my ($node) = @_;
	my $kinds = $node->children;
	my ($title) = grep {/consensus/} sort keys %$kinds;
	return $kinds->{$title}[0];
}

# Eighty writers, each with a megabyte under way: more than the ring holds. They are at work before the others are
# stopped, so that it is full at once, and long before the gate closes. Who is stopped; the end of the log.
sub fill
{
	my ($leader) = @_;
	my $writers = start_command({}, kvd_bin('kvbench'), '-p', $leader->port,
		qw(-c 80 -P 1 -d 1000000 -r 5000 -T 600 overwrite));
	my ($from, $before);
	poll_until(sub {
		my $s = $cluster->stats($leader) or return 0; # it has much to do
		$from //= $s->{'log.commit'};
		$before = $s->{'log.ring_full'};
		return $s->{'log.commit'} > $from + (80 << 20);
	}, 120, 'all writers to be at work');
	my @stopped = map { consensus($_) } $cluster->followers;
	kill STOP => @stopped;
	my $now;
	my $full = eval {
		poll_until(sub {
			$now = $cluster->stats($leader);
			return $now && $now->{'log.ring_full'} > $before &&
				$now->{'log.inserted'} - $now->{'log.commit'} > 60 << 20;
		}, FULL_S, 'the ring');
	};
	kill KILL => $writers;
	waitpid $writers, 0;
	ok($full, 'the ring is full of what is not committed') or diag explain $now;
	# What is not synced a kill may take.
	poll_until(sub { $now = $cluster->stats($leader) and $now->{'log.durable'} == $now->{'log.inserted'} }, 60,
		'syncs');
	return ($now->{'log.inserted'}, @stopped);
}

for my $restart (0, 1) {
	subtest $restart ? 'killed and started again' : 'goes on' => sub {
		my $leader = $cluster->wait_leader;
		my ($end, @stopped) = fill($leader);
		$cluster->kill9($leader) if $restart;
		kill CONT => $stopped[0];
		$cluster->start_node($leader) if $restart;
		ok(poll_until(sub { (($cluster->stats($leader) || {})->{'log.commit'} // 0) > $end }, 120, 'its commit'),
			'committed, all of it');
		kill CONT => @stopped;
		$cluster->wait_leader;
		# What the killed writers had asked for is written as there is room.
		poll_until(sub { (($cluster->stats($leader) || {})->{'process.backends'} // 80) <= 3 }, 60,
			'their backends to end');
		$cluster->wait_same;
	};
}
is($cluster->stop_node($_, 'fast'), 0, $_->name . ' stops') for $cluster->nodes;
done_testing;
