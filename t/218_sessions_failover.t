#!/usr/bin/perl
#
# 218_sessions_failover.t - leaders die and fall silent, and clients with a session notice nothing but the time.
#
# Why so: what a session promises matters most where the outcome of a write is truly open: the leader died after the
# followers had it, or before. Increments tell both mistakes, one lost and one done twice; a stamped one that is sent
# again to the next leader must get the answer of the first. kvctl is the client, with all hosts named.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use POSIX ();
use Time::HiRes qw(time sleep);
use Kvd::Test;
use Kvd::Cluster;
use Kvd::Proto qw(:all);

use constant { KILLS => $ENV{KVD_SOAK} ? 100 : 8, ELECTION_MS => 300 };

seed();
my $cluster = Kvd::Cluster->new(nodes => 3, election => ELECTION_MS, proxy => 0)->start;
my $leader = $cluster->wait_leader;
my @kvctl = (kvd_bin('kvctl'), '-u', 'kv://' . join(',', map { '127.0.0.1:' . $_->port } $cluster->nodes) . '/',
	'--timeout', '60s');
my %files = map { $_ => test_dir() . "/client.$_" } qw(in out err);

# Start kvctl on this input, so that it is at work when this returns.
sub start_kvctl
{
	my ($input, @args) = @_;
	unlink @files{qw(out err)};
	spew($files{in}, $input);
	return start_command({ stdin => $files{in}, out => $files{out}, err => $files{err} }, @kvctl, @args);
}

sub ends_well
{
	my ($pid, $what) = @_;
	my $until = time + 120;
	my $got;
	while (!($got = waitpid $pid, 1) && time < $until) {
		sleep 0.05;
	}
	kill 'KILL', $pid if !$got;
	is($got ? $? >> 8 : 'it still runs', 0, "$what ends well") or diag slurp($files{err});
	return;
}

# 1. A script of increments, a leader killed every now and then. The input ends only when the kills are over.
my $fifo = test_dir() . '/commands';
POSIX::mkfifo($fifo, 0600) or die "cannot make $fifo: $!\n";
unlink @files{qw(out err)};
my $pid = start_command({ stdin => $fifo, out => $files{out}, err => $files{err} }, @kvctl);
open my $writer, '>', $fifo or die "cannot open $fifo: $!\n";
my $asked = 0;
sub lines { return -e $files{out} ? slurp($files{out}) =~ tr/\n// : 0 }
sub ask
{
	my ($n) = @_;
	syswrite $writer, "incr n\n" x $n;
	$asked += $n;
	return;
}

ask(20);
poll_until(sub { lines() >= 1 }, 30, 'the first increment');
for my $kill (1 .. KILLS) {
	ask(40);
	my $mark = lines();
	poll_until(sub { lines() > $mark }, 60, 'increments to go on');
	$leader = $cluster->wait_leader;
	if ($kill % 4 == 0) {
		$cluster->stop($leader); # silent, but its connections stand
		poll_until(sub { my $l = $cluster->wait_leader; $l && $l->name ne $leader->name }, 60, 'another leader');
		$mark = lines();
		ask(5);
		poll_until(sub { lines() > $mark }, 60, 'increments to leave the silent leader');
		$cluster->cont($leader);
	} else {
		$cluster->kill9($leader);
		$cluster->start_node($leader);
	}
}
close $writer;
ends_well($pid, 'a script of increments');
is(slurp($files{out}), join('', map { "$_\n" } 1 .. $asked), "each of $asked increments was done once, and said so");
is(slurp($files{err}), '', 'no complaint');

# 2. One stamped increment, its leader killed before the answer, sent again to the next one.
my ($same, $sum) = (0, 0);
for my $kill (1 .. KILLS) {
	my ($c, $session);
	$cluster->wait_for(sub {
		$leader = $cluster->wait_leader;
		return eval { $session = ($c = $leader->client)->session_open->{session} };
	}, 60, 'a session');
	my $id = $c->request($CMD{INCR}, write_prefix(stamp => [ $session, 1, 1 ])
		. op(kind => 'incr', key => 'sum', value => $kill));
	my $first = $kill % 2 ? eval { $c->answer($id, $CMD{INCR}) } : undef;
	$first = undef if $first && $first->{code}; # it led no more by then
	$cluster->kill9($leader);
	my $next = $cluster->wait_leader;
	my $again = poll_until(sub {
		my $r = eval { $cluster->wait_leader->client->incr('sum', $kill, stamp => [ $session, 1, 1 ]) };
		return $r && $r->{code} == 0 ? $r : undef;
	}, 60, 'an answer of the next leader');
	$sum += $kill;
	$same++ if $again->{value} == $sum && (!$first || $first->{payload} eq $again->{payload});
	$cluster->start_node($leader);
}
is($same, KILLS, 'the next leader gives the answer of the first');

# 3. A load.
$pid = start_kvctl(join('', map { "load$_\t" . ('x' x 200) . "\n" } 1 .. 50_000), 'load');
for my $kill (1 .. 3) {
	sleep 0.1 + rand 0.3; # anywhere in it
	$leader = $cluster->wait_leader;
	$cluster->kill9($leader);
	$cluster->start_node($leader);
}
ends_well($pid, 'a load');
my $all = $cluster->by_leader(sub {
	return { code => 0, status => 'OK', n => $_[0]->count_all(start => 'load', end => 'loae') };
});
is($all->{n}, 50_000, '... and all of it is there');
is($cluster->by_leader(sub { $_[0]->get('sum') })->{value}, $sum, 'the sum of the increments');
$cluster->wait_same;

done_testing;
