#!/usr/bin/perl
#
# 002_crash.t - every acknowledged write survives a hundred kills of every kind of process.
#
# Why so: a write is safe only when it survives the death of any process at any instant, so the instants are random and
# the load never pauses: four writers that know what must be there (Kvd::Writer) and kvbench with values large enough
# that memtables fill and tables are written while processes die. After every kill all writers read everything back
# before the next one. A backend that dies idle must cost only its own connection (that is why an operator may kill
# one); one that was ended by anything but SIGKILL may have done anything before, so the node restarts.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use POSIX ();
use Time::HiRes qw(time sleep);
use Kvd::Test;
use Kvd::Proto qw(:all);
use Kvd::Writer;

use constant { KILLS => $ENV{KVD_KILLS} || 600, WRITERS => 4 };

seed();
my $node = Kvd::Test->new('main')->init(port => keep_port(), memtable_size => '32MB', l0_trigger => 2)->start;

sub backends { return sort { $a <=> $b } @{ $node->children->{backend} || [] } }

sub restarts
{
	my $n;
	# A restart may cut the connection that was taken just before.
	poll_until(sub {
		my $s = eval { Kvd::Client->new_patiently(port => $node->port)->stats('node.restarts') } or return 0;
		$n = $s->{'node.restarts'};
		return 1;
	}, 90, 'an answer');
	return $n;
}

# A client and the process that serves it.
sub client_with_backend
{
	my %before = map { $_ => 1 } backends();
	my $c = $node->client;
	my ($pid) = grep { !$before{$_} } backends();
	return ($c, $pid);
}

# 1. SIGKILL of an idle backend costs its own connection and nothing else.
{
	my ($first, $first_pid) = client_with_backend();
	my ($victim, $victim_pid) = client_with_backend();
	my ($last, $last_pid) = client_with_backend();
	$_->put('before', 'x') for $first, $victim, $last;
	$node->wait_titles;
	my $workers = $node->children;
	delete $workers->{backend};
	kill 'KILL', $victim_pid;
	ok(!defined $victim->receive, 'SIGKILL of an idle backend ends its connection');
	poll_until(sub { !grep { $_ == $victim_pid } backends() }, 60, 'the dead backend to be reaped');
	is($first->put('after', '1')->{status}, 'OK', '... an older connection goes on');
	is($last->get('after')->{value}, '1', '... a younger one too');
	my $now = $node->children;
	delete $now->{backend};
	is_deeply($now, $workers, '... all other processes are the same');
	is(restarts(), 0, '... no restart');
	for (1 .. 20) {
		my ($c, $pid) = client_with_backend();
		kill 'KILL', $pid;
		$c->receive;
	}
	is($first->put('after', '2')->{status}, 'OK', 'twenty more, and the others still go on');
	is(restarts(), 0, '... without a restart');
}

# 2. Any other death of a backend is a restart: it may have stored anywhere before.
for my $signal (qw(SEGV ABRT)) {
	my $count = restarts();
	my ($c, $pid) = client_with_backend();
	$c->put("sig$signal", 'x');
	my ($witness) = client_with_backend();
	kill $signal, $pid;
	$node->wait_restart($count + 1);
	is($node->client->get("sig$signal")->{value}, 'x', '... the node restarts and has everything');
	ok(!defined eval { $witness->receive }, '... other connections are ended');
}

# 3. Kills under load.
my @writers = map { Kvd::Writer->start($node, $_) } 1 .. WRITERS;
my $bench_pid;
my @bench_wrong;

# kvbench ends with 3 whenever its connection breaks, with 1 if it ever reads a wrong value.
sub keep_bench_running
{
	if ($bench_pid && waitpid($bench_pid, POSIX::WNOHANG()) == $bench_pid) {
		push @bench_wrong, $? >> 8 if $? >> 8 == 1;
		$bench_pid = undef;
	}
	my $port = ($node->pid_file)[1];
	$bench_pid = Kvd::Test::start_command({ err => test_dir() . '/kvbench.log' }, kvd_bin('kvbench'), '-p', $port,
		qw(-c 2 -P 4 -d 4000 -r 20000 -T 1000 --rate 4000 --read-percent 30 mixed)) if !$bench_pid && $port;
	return;
}

sub start_again
{
	my $t = time;
	# Children of the killed postmaster are on their way out: until then a start is refused.
	poll_until(sub {
		$node->start(no_wait => 1);
		return eval { $node->wait_ready; 1 } ? 1
			: do { die $@ if $node->log !~ /earlier server still uses[^\n]*\n\z/; 0 };
	}, 60, 'the start after a killed postmaster');
	return time - $t;
}

my @kinds = qw(backend walwriter compactor consensus replay postmaster);
my (%killed, %slowest, @bad, $acked);
my $contained = 0;
for my $i (1 .. KILLS) {
	keep_bench_running();
	sleep 0.005 + rand 0.12;
	# However slow the machine, memtables are written out while processes die: ask for it, don't wait for the answer.
	my $asker = $i % 3 == 0 ? eval { $node->client } : undef;
	eval { $asker->send_bytes(frame(id => 1, type => $CMD{CHECKPOINT}, payload => pack('VV', 0, $i % 2))) } if $asker;
	my $kind = $kinds[ $i % @kinds ];
	my $count = restarts();
	my $pid = poll_until(sub { $node->kill9($kind) }, 60, "a $kind process to kill");
	my $t = time;
	$killed{$kind}++;
	if ($kind eq 'postmaster') {
		my @orphans = @{ $node->{orphans} };
		# It may go between being seen and being looked at.
		poll_until(sub { !grep { (eval { slurp("/proc/$_/stat") } // ') Z ') !~ /\) Z / } @orphans }, 60,
			'the children of a killed postmaster to go');
		start_again();
	} elsif ($kind eq 'backend') {
		# Inside a critical section a restart, else containment; both are right.
		poll_until(sub { !grep { $_ == $pid } backends() }, 60, 'the backend to be reaped');
		$contained++ if restarts() == $count;
	} else {
		$node->wait_restart($count + 1);
	}
	my $took = time - $t;
	$slowest{$kind} = $took if $took > ($slowest{$kind} || 0);
	$acked = 0;
	for my $w (@writers) {
		my $r = $w->check;
		push @bad, map { "after kill $i ($kind): $_" } @{ $r->{bad} };
		$acked += $r->{acked};
	}
	last if @bad;
}
is_deeply(\@bad, [], "$acked acknowledged writes, " . join(', ', map { "$killed{$_} x $_" } sort keys %killed)
	. ': all there');
is_deeply(\@bench_wrong, [], 'kvbench read no wrong value meanwhile');
note "$contained of " . ($killed{backend} || 0) . ' killed backends cost only their connection';
note sprintf 'slowest return: %s', join ', ', map { sprintf '%s %.2f s', $_, $slowest{$_} } sort keys %slowest;
my @ms = sort { $a <=> $b } $node->log =~ /ready again after (\d+) ms/g;
note "half of the restarts took less than $ms[@ms / 2] ms, the longest $ms[-1] ms";
is(scalar(grep { $killed{$_} } @kinds), scalar @kinds, 'each kind was killed') if KILLS >= @kinds;

# 4. It ends well, and what is on the disk is sound.
kill 'KILL', $bench_pid if $bench_pid;
waitpid $bench_pid, 0 if $bench_pid;
is($_->stop, 0, 'a writer ends well') for @writers;
is($node->stop, 0, 'stop');
my $r = run_command(kvd_bin('kvd'), '-D', $node->dir, '--check');
is($r->{code}, 0, '--check finds no damage') or diag $r->{out}, $r->{err};
cmp_ok(scalar(() = glob($node->dir . '/tables/*')), '>', 0, 'tables were written meanwhile');
$node->start;
ok(poll_until(sub { !grep { /\.tmp\z/ } glob $node->dir . '/{*,tables/*,values/*}' }, 60, 'half-made files to go'),
	'no litter of half-made files after a start');
is($node->stop, 0, 'stop');

done_testing;
