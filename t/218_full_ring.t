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

use constant { ELECTION_MS => 3000, FULL_S => 20 };

seed();
my $cluster = Kvd::Cluster->new(nodes => 3, election => ELECTION_MS, proxy => 0)->start;

sub consensus
{
	my ($node) = @_;
	my $kinds = $node->children;
	my ($title) = grep {/consensus/} sort keys %$kinds;
	return $kinds->{$title}[0];
}

# ack=none until the gate closes, or the ring is full, which is long before.
sub fill
{
	my ($leader) = @_;
	my $before = $cluster->stats($leader)->{'log.ring_full'};
	my $until = time + FULL_S;
	my $now;
	do {
		run_command(kvd_bin('kvbench'), '-p', $leader->port, qw(-c 4 -P 64 -d 11 --ack none -r 5000 -T 1 overwrite));
		$now = $cluster->stats($leader);
	} while ($now->{'replication.role'} == 2 && $now->{'log.ring_full'} == $before && time < $until);
	cmp_ok($now->{'log.ring_full'}, '>', $before, 'the ring is full');
	cmp_ok($now->{'log.inserted'} - $now->{'log.commit'}, '>', 60 << 20, '... of what is not committed');
	return $now->{'log.inserted'};
}

for my $restart (0, 1) {
	subtest $restart ? 'killed and started again' : 'goes on' => sub {
		my $leader = $cluster->wait_leader;
		my @stopped = map { consensus($_) } $cluster->followers;
		kill STOP => @stopped;
		my $end = fill($leader);
		$cluster->kill9($leader) if $restart;
		kill CONT => $stopped[0];
		$cluster->start_node($leader) if $restart;
		ok(poll_until(sub { (($cluster->stats($leader) || {})->{'log.commit'} // 0) > $end }, 40, 'its commit'),
			'committed, all of it');
		kill CONT => @stopped;
		$cluster->wait_leader;
		$cluster->wait_same;
	};
}
is($cluster->stop_node($_, 'fast'), 0, $_->name . ' stops') for $cluster->nodes;
done_testing;
