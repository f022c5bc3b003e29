#!/usr/bin/perl
#
# 210_failover.t - leaders are killed, paused, stopped, all nodes restarted: no acknowledged write is lost,
# nothing stale is read, and clients find the next leader by themselves.
#
# Why so: every kill comes under load, because what is under way then is what can be lost. A journal of
# unique keys tells what is missing, a history whether what was seen is possible; at the end all nodes must
# hold the same. A paused leader has a request waiting in its socket when it goes on: the moment in which it
# does not know yet that it was deposed. KVD_SOAK=1 kills 100 times instead of 10.
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

use constant { KILLS => $ENV{KVD_SOAK} ? 100 : 10, ELECTION_MS => 400, PAUSES => 3 };

seed();
my $cluster = Kvd::Cluster->new(nodes => 3, election => ELECTION_MS, proxy => 0)->start;
$cluster->wait_leader;

subtest 'leader killed under load' => sub {
	my %patient = (uri => 'timeout=60s');
	my $journal = $cluster->journal('kills', '-c', 4, '-r', 2000, \%patient);
	my $history = $cluster->record('killed', '-c', 5, '-k', 4, '-r', 500, \%patient);
	$_->wait_progress for $journal, $history;
	my @took;
	for my $i (1 .. KILLS) {
		my $leader = $cluster->wait_leader;
		my $mark = $journal->mark;
		my $began = time;
		$cluster->kill9($leader);
		$journal->wait_progress(mark => $mark);
		push @took, 1000 * (time - $began);
		$cluster->start_node($leader);
	}
	for my $r (map { $_->finish } $journal, $history) {
		is($r->{failed} + $r->{unknown}, 0, "no request of a client failed or ended in doubt, of $r->{operations}");
	}
	@took = sort { $a <=> $b } @took;
	note sprintf
		'from kill to the next acknowledged write: median %.0f ms, longest %.0f ms, in election timeouts %.1f, %.1f',
		$took[ @took / 2 ], $took[-1], $took[ @took / 2 ] / ELECTION_MS, $took[-1] / ELECTION_MS;
	is(scalar @took, KILLS, KILLS . ' kills, another node led after each');
	$journal->verify;
	$history->check_history;
	$cluster->wait_same;
};

subtest 'leader paused' => sub {
	my $history = $cluster->record('paused', '-c', 4, '-k', 4, '-r', 500);
	$history->wait_progress;
	for my $i (1 .. PAUSES) {
		my ($old, $c);
		$cluster->wait_for(sub {
			$old = $cluster->wait_leader;
			return eval { ($c = $old->client(timeout => 20))->put('paused', "before $i")->{code} == 0 };
		}, 60, 'a write to the leader');
		$cluster->stop($old);
		my $read = $c->request($CMD{GET}, get_payload('paused'));
		my $write = $c->request($CMD{PUT}, put_payload('paused-late', "late $i"));
		sleep 1 + rand 1;
		my $new = $cluster->wait_leader;
		isnt($new->name, $old->name, 'another leads meanwhile');
		is($cluster->by_leader(sub { $_[0]->put('paused', "after $i") })->{status}, 'OK', '... and writes');
		$cluster->cont($old);
		my $a = $c->answer($read, $CMD{GET});
		isnt($a->{status} eq 'OK' ? substr $a->{payload}, 16 : '', "before $i",
			"the one that was deposed does not tell what was ($a->{status})");
		$a = $c->answer($write, $CMD{PUT});
		# It may be elected again before it comes to it; then what it says it wrote is there, for all.
		my $late = $a->{status} eq 'OUTCOME_UNKNOWN' ? '' : $cluster->by_leader(sub {
			my $r = $_[0]->get('paused-late');
			return $r if $r->{code} && $r->{status} ne 'NOT_FOUND';
			return { code => 0, status => 'OK', value => $r->{value} || '' };
		})->{value};
		is($late eq "late $i", $a->{status} eq 'OK', "... and writes as it says ($a->{status})")
			if $a->{status} ne 'OUTCOME_UNKNOWN';
		$cluster->wait_leader;
	}
	$history->finish;
	$history->check_history;
	$cluster->wait_same;
};

subtest 'all nodes killed at once' => sub {
	my $journal = $cluster->journal('all', '-c', 4, '-r', 2000);
	$journal->wait_progress;
	sleep rand 0.5;
	$cluster->kill9($_) for $cluster->nodes;
	$cluster->start;
	$cluster->wait_leader;
	$journal->wait_progress;
	$journal->finish;
	$journal->verify;
	$cluster->wait_same;
};

subtest 'rolling restart' => sub {
	my $history = $cluster->record('rolling', '-c', 4, '-k', 4, '-r', 400, { uri => 'timeout=60s' });
	$history->wait_progress;
	for my $node ($cluster->nodes) {
		is($cluster->stop_node($node, 'fast'), 0, $node->name . ' stops');
		$history->wait_progress;
		$cluster->start_node($node);
		$cluster->wait_leader;
		$history->wait_progress;
	}
	my $r = $history->finish;
	is($r->{failed}, 0, 'no request of a client failed');
	is($r->{unknown}, 0, '... and none ended in doubt');
	cmp_ok($r->{ok}, '>', 0, "... of $r->{operations}");
	$history->check_history;
	$cluster->wait_same;
};

is($cluster->stop_node($_, 'fast'), 0, $_->name . ' stops') for $cluster->nodes;
done_testing;
