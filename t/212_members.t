#!/usr/bin/perl
#
# 212_members.t - nodes are added, promoted, removed and replaced, leadership is handed over, while clients
# write and leaders are killed; what would be unsafe is refused with its reason.
#
# Why so: changes of members are where clusters lose data (two majorities that do not meet; a node that
# forgot what it voted). So the whole set of nodes is exchanged under load, with kills in between, and a
# journal and a history must not notice. A node whose disk was lost must not come back by itself: what it
# had acknowledged would be missing from a majority.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Time::HiRes qw(time sleep);
use Kvd::Test;
use Kvd::Cluster;

use constant { ELECTION_MS => 400 };

seed();
my $cluster = Kvd::Cluster->new(nodes => 3, spare => 2, election => ELECTION_MS, proxy => 0)->start;
$cluster->wait_leader;
my $journal = $cluster->journal('members', '-c', 3, '-r', 600);
my $history = $cluster->record('changes', '-c', 5, '-k', 4, '-r', 300, { uri => 'timeout=10s' });
$_->wait_progress for $journal, $history;

sub cluster { return $cluster->kvctl('cluster', @_) }
sub at { my ($name) = @_; return $cluster->peer_address($name) }

sub refused
{
	my ($why, $what, @command) = @_;
	my $r;
	# While a leader fails, that is what it says.
	$cluster->wait_for(sub { $r = cluster(@command); return $r->{code} == 4 && $r->{err} =~ $why }, 30,
		"cluster @command to be refused");
	pass("$what: " . $r->{err} =~ s/\Akvctl: cluster: |\n//gr);
	return;
}

sub insist
{
	my @change = @_;
	my $said;
	eval { $said = change_members(sub { $cluster->kvctl(@_) }, @change); 1 } or $cluster->give_up($@);
	return $said;
}

subtest 'refusals' => sub {
	my $leader = $cluster->wait_leader;
	my ($other) = $cluster->followers;
	refused(qr/no member has the name "n9"/, 'removing a stranger', 'remove', 'n9');
	refused(qr/no member has the name "n9"/, 'promoting a stranger', 'promote', 'n9');
	refused(qr/cannot connect/, 'adding a node that is not there', 'add', 'n4@' . at('n4'));
	refused(qr/belongs to a cluster already/, 'adding a member again', 'add', 'n9@' . at($other));
	# Dry, as it may lead no more by then.
	$cluster->wait_for(sub {
		return cluster('remove', $cluster->wait_leader->name, '--dry-run')->{err} =~ /transfer first/;
	}, 30, 'removing the leader to be refused');
	$cluster->stop($other);
	# It can never be done while that one is stopped; which one it is may change.
	$cluster->wait_for(sub {
		$leader = $cluster->wait_leader;
		my ($third) = grep { $_ != $leader && $_ != $other } $cluster->nodes;
		return cluster('remove', $third->name, '--dry-run')->{err} =~ /majority|quorum/
			&& cluster('remove', $third->name)->{err} =~ /majority|quorum/;
	}, 60, 'removing what the majority needs to be refused');
	pass('removing what the majority needs is refused');
	$cluster->cont($other);
	$cluster->wait_leader;
};

subtest 'add' => sub {
	$cluster->blank('n4');
	$cluster->wait_for(sub { cluster('add', 'n4@' . at('n4'), '--dry-run')->{code} == 0 }, 30, 'a dry run');
	my $members;
	$cluster->wait_for(sub { $members = $cluster->members }, 30, 'the members');
	ok(!$members->{n4}, 'a dry run does nothing');
	insist(qr/is a member already/, 'add', 'n4@' . at('n4'));
	$cluster->joined('n4');
	$cluster->wait_voters(qw(n1 n2 n3 n4));
	pass('added; caught up; a voter by itself');
	refused(qr/is a member already/, 'adding it again', 'add', 'n4@' . at('n4'));
	$history->wait_progress;
};

subtest 'transfer' => sub {
	for my $name ('n4', 'n2') {
		my $mark = $journal->mark;
		$cluster->wait_for(sub {
			insist(qr/leads already/, 'transfer', $name);
			return $cluster->wait_leader->name eq $name;
		}, 60, "$name to lead");
		pass("$name leads");
		$journal->wait_progress(mark => $mark);
	}
};

subtest 'add and remove under fire' => sub {
	$cluster->blank('n5');
	my $leader = $cluster->wait_leader;
	$cluster->kill9($leader);
	insist(qr/is a member already/, 'add', 'n5@' . at('n5'));
	$cluster->joined('n5');
	$cluster->start_node($leader);
	$cluster->wait_voters(qw(n1 n2 n3 n4 n5));
	pass('added while the leader was dead');

	for my $name (qw(n1 n2)) {
		my ($old, $said);
		my $mark = $journal->mark;
		do {
			$old = $cluster->wait_leader;
			insist(qr/leads already/, 'transfer', 'n3') if $old->name eq $name;
			$old = $cluster->wait_leader;
			$mark = $journal->mark;
			$said = insist(qr/no member has the name|transfer first/, 'remove', $name);
		} while $said =~ /transfer first/;
		$cluster->kill9($old);
		$cluster->left($name);
		$journal->wait_progress(mark => $mark);
		$cluster->start_node($old);
		my $gone = $cluster->node($name);
		$cluster->wait_leader;
		$cluster->stop_node($gone, 'fast');
	}
	$cluster->wait_voters(qw(n3 n4 n5));
	pass('none of the first but one is left');
};

subtest 'lost disk' => sub {
	my ($lost) = grep { $_->name ne 'n3' } $cluster->followers;
	my $name = $lost->name;
	$cluster->kill9($lost);
	$cluster->wipe($lost);
	my $before = $lost->log_size;
	$lost->{joins} = 1;
	$lost->{was_started} = 0;
	$cluster->start_node($lost, no_wait => 1);
	$cluster->wait_for(sub { $lost->log($before) =~ /lost its data directory/ }, 30, 'the node to be told');
	isnt($lost->state, 'ready', 'it does not come back by itself');
	$journal->wait_progress;
	my $state = '';
	$cluster->wait_for(sub {
		$state = ($cluster->members || {})->{$name}{state} // '';
		return $state =~ /^(?:down|silent)$/;
	}, 30,
		"$name to be seen as gone");
	like($state, qr/^(?:down|silent)$/, "... and counts for nothing ($state)");
	refused(qr/cluster replace/, 'adding it under its name', 'add', "$name\@" . at($name));
	insist(qr/belongs to a cluster already/, 'replace', $name, at($name));
	$lost->wait_ready;
	$cluster->wait_voters(qw(n3 n4 n5));
	pass('a new learner, then a voter');
};

$_->finish for $journal, $history;
$journal->verify;
$history->check_history;
$cluster->wait_same;
is($cluster->stop_node($_, 'fast'), 0, $_->name . ' stops') for $cluster->nodes;
done_testing;
