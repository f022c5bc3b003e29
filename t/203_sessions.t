#!/usr/bin/perl
#
# 203_sessions.t - a write that is sent again is done once, and answered as the first time.
#
# Why so: a client that loses its connection cannot know whether its write was done, and an increment done twice is
# wrong for ever. So each way a stamped write may come again is tried on the shipped server: at once, in another order,
# when what its condition asked for has changed, after restarts and from tables; the bounds of window and life at and
# beside their values; and two hundred times with a process killed between the request and its answer. The sum at
# the end tells of each increment that was lost or done twice.
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

use constant { KILLS => $ENV{KVD_KILLS} || 200, WINDOW => 1024 };

seed();
my $node = Kvd::Test->new('main')->init(port => keep_port())->start; # the same over restarts
my $c = $node->client;
my ($a, $b);

sub figure { my ($name) = @_; return $node->client->stats($name)->{$name} }

# What of an answer must be the same each time.
sub same
{
	my ($x, $y, $what) = @_;
	return is_deeply([ map { defined $_ ? $_ : 'none' } @$y{qw(status payload)} ],
		[ map { defined $_ ? $_ : 'none' } @$x{qw(status payload)} ], $what);
}

# 1. Opening: life at its bounds.
$a = $c->session_open;
is($a->{status}, 'OK', 'a session is opened');
my $s = $a->{session};
cmp_ok($s, '>', 0, '... its id');
is($a->{ttl}, 600_000, '... its life without a wish');
is($c->session_open($_)->{ttl}, $_, "a life of $_ ms") for 86_399_999, 86_400_000;
is($c->session_open($_)->{status}, 'BAD_REQUEST', "no life of $_ ms") for 1, 999, 86_400_001;
is(figure('session.open'), 3, 'STATS counts them');
is($c->session_open($_)->{ttl}, $_, "a life of $_ ms") for 1000, 1001;
is($c->call($CMD{SESSION}, $_)->{status}, 'BAD_REQUEST', 'bad request of ' . length($_) . ' bytes')
	for '', pack('Cx3VQ<', 2, 0, 0), pack('CCx2VQ<', 0, 1, 0, 0), pack('Cx3VQ<x', 0, 0, 0), pack('Cx3V', 0, 0);

# 2. Each kind of write, three times.
my $n = 0;
sub stamp { my ($confirmed) = @_; $n++; return (stamp => [ $s, $n, defined $confirmed ? $confirmed : $n ]) }
my $repeats = figure('session.repeats');
my %kind = (
	put => sub { $c->put('k', 'v', @_) },
	delete => sub { $c->delete('k', @_) },
	incr => sub { $c->incr('n', 5, @_) },
	batch => sub {
		$c->batch([ op(kind => 'put', key => 'a', value => 'x'), op(kind => 'incr', key => 'n', value => 1) ], @_);
	},
	failing => sub { $c->put('new', 'v', if => 'present', @_) },
	worse => sub { $c->incr('a', 1, @_) },
	place => sub {
		$c->batch([ map { op(kind => 'put', key => $_, value => 'x', if => $_ eq 'a' ? 'absent' : 'none') } 'b', 'a' ],
			@_);
	},
);
for my $kind (qw(put delete incr batch failing worse place)) {
	my @stamp = stamp();
	$a = $kind{$kind}->(@stamp);
	$c->put($_, 'between') for 'k', 'new';
	same($a, $kind{$kind}->(@stamp), "$kind ($a->{status}) repeated: the same answer") for 1 .. 2;
}
is($c->get('n')->{value}, 6, 'the increments are done once');
is($c->get('k')->{value}, 'between', 'no repeated write takes back what came since');
is($c->get('new')->{value}, 'between', 'a condition that failed fails again, whatever holds now');
is($a->{detail}, 1, 'a failed batch tells the place');
is(figure('session.repeats') - $repeats, 14, 'STATS counts what came again');
$a = $c->put('ver', '1', stamp());
is($c->get('ver')->{version}, $a->{version}, 'the answered version is the key\'s');
$b = $c->put('ver', '2', if => 'version', expect => 7, stamp());
is($b->{status}, 'CONDITION_FAILED', 'a failed condition');
is($b->{detail}, $a->{version}, '... tells the version');

# 3. Any order, also in one receive: one record with several stamped groups.
my @order = map { $n + $_ } 5, 3, 4, 3, 1, 5, 2, 1;
$c->send_bytes(join '', map { frame(id => $_, type => $CMD{INCR}, payload =>
	write_prefix(stamp => [ $s, $_, $n ]) . op(kind => 'incr', key => 'order', value => 1)) } @order);
my %answer;
for my $serial (@order) {
	my $r = $c->receive;
	is($r->{id}, $serial, 'answers in the order of the requests');
	same($answer{$serial} ||= $r, $r, 'serials in any order, done once each');
}
is($c->get('order')->{value}, 5, '... all of them');
$n += 5;

# 4. The window.
my $base = $n + 1;
is($c->incr('w', 1, stamp => [ $s, $base, $base ])->{value}, 1, 'lower end of a window');
is($c->incr('w', 1, stamp => [ $s, $base + WINDOW - 2, $base ])->{value}, 2, 'one below its upper end');
is($c->incr('w', 1, stamp => [ $s, $base + WINDOW - 1, $base ])->{value}, 3, 'its upper end');
is($c->incr('w', 1, stamp => [ $s, $base + WINDOW, $base ])->{status}, 'BAD_REQUEST', 'one above it is refused');
is($c->incr('w', 1, stamp => [ $s, $base, $base + 1 ])->{status}, 'BAD_REQUEST', 'what is confirmed is refused');
is($c->incr('w', 1, stamp => [ $s, $base, $base ])->{value}, 1, 'the lower end again: not done again');
is($c->incr('w', 1, stamp => [ $s, $base + WINDOW, $base + 1 ])->{value}, 4, 'the window moves on');
is($c->incr('w', 1, stamp => [ $s, $base, $base ])->{status}, 'SESSION_EXPIRED', 'a late copy from below is not done');
is($c->get('w')->{value}, 4, '... certainly not');
$n = $base + WINDOW;

# 5. Without a session nothing is done.
my $refusals = figure('session.refusals');
for my $id (0, 1, $s + 1, 2**63) {
	is($c->put('never', 'x', stamp => [ $id, 1, 1 ])->{status}, 'SESSION_EXPIRED', "session $id is unknown");
}
my $other = $c->session_open->{session};
is($c->incr('o', 1, stamp => [ $other, 1, 1 ])->{value}, 1, 'another session has serials of its own');
is($c->session_close($other)->{status}, 'OK', 'it is closed');
is($c->session_close($other)->{status}, 'OK', '... twice');
is($c->incr('o', 1, stamp => [ $other, 2, 2 ])->{status}, 'SESSION_EXPIRED', '... and expired');
is($c->get('never')->{status}, 'NOT_FOUND', 'nothing was done');
is(figure('session.refusals') - $refusals, 5, 'STATS counts the refused');
is($c->put('x', 'x', ack => $_, stamp())->{status}, 'BAD_REQUEST', "ack $_ cannot be stamped") for qw(local none);
is($c->call($CMD{PUT}, pack('CCx2V', 0, 2, 0) . op(kind => 'put', key => 'x', value => ''))->{status}, 'BAD_REQUEST',
	'unknown flags of a write prefix');
is($c->call($CMD{PUT}, pack('CCx2V', 0, 1, 0) . 'x' x $_)->{status}, 'BAD_REQUEST', "$_ bytes behind the prefix")
	for 0, 23, 24;

# 6. DELETE_RANGE: a step that is repeated tells what the first one did.
$c->put("r$_", 'x') for 1 .. 5;
my %range = (start => 'r', end => 's', step => 3, stamp());
$a = $c->delete_range(%range);
is_deeply([ @$a{qw(deleted more next)} ], [ 3, 1, 'r4' ], 'a step of DELETE_RANGE');
$c->put('r1', 'again');
same($a, $c->delete_range(%range), '... repeated');
is($c->get('r1')->{value}, 'again', '... deletes nothing more');
is($c->count(start => 'r', end => 's')->{count}, 3, '... nothing at all');
%range = (start => 'zzz', end => 'zzzz', stamp());
$a = $c->delete_range(%range);
is($a->{deleted}, 0, 'an empty step');
$c->put('zzzb', 'x');
same($a, $c->delete_range(%range), '... repeated');
is($c->get('zzzb')->{value}, 'x', '... deletes nothing');

# 7. The largest ones.
my $big = 'v' x 16_777_216;
my @big = stamp();
$a = $c->put('k' x 65536, $big, @big);
is($a->{status}, 'OK', 'the largest key and value with a stamp');
same($a, $c->put('k' x 65536, $big, @big), '... repeated');
is($c->put('k', $big . 'x', stamp())->{status}, 'VALUE_TOO_LARGE', 'a larger value is refused');
my @ops = map { op(kind => 'put', key => "b$_", value => '') } 1 .. 65536;
my @many = stamp();
$a = $c->batch(\@ops, @many);
is($a->{status}, 'OK', '65,536 operations with a stamp');
is($c->get('b65536')->{version}, $a->{version} + 65535, '... and their versions');
same($a, $c->batch(\@ops, @many), '... repeated');

# 8. Life ends by the log's time, at no moment is anything done twice.
my $began = time;
my $brief = $c->session_open(1000)->{session};
$a = $c->incr('brief', 1, stamp => [ $brief, 1, 1 ]);
my %seen = ($a->{status} => 1);
my $brief_done = $a->{code} == 0 ? 1 : 0; # else a busy machine held it up for a second
is($a->{value}, 1, 'a brief session') if $brief_done;
poll_until(sub { $seen{ $c->incr('brief', 1, stamp => [ $brief, 1, 1 ])->{status} }++; $seen{SESSION_EXPIRED} }, 20,
	'the end of a session of a second');
cmp_ok(time - $began, '>=', 0.9, 'it lives for its second');
is_deeply([ sort keys %seen ], [ $brief_done ? 'OK' : (), 'SESSION_EXPIRED' ], '... then it is over');
is($c->get('brief')->{value} || 0, $brief_done, '... and its write was done once');

# 9. Restarts and tables.
my @kept = stamp();
$a = $c->incr('kept', 7, @kept);
$node->kill9('postmaster');
$node->start;
$c = $node->client;
same($a, $c->incr('kept', 7, @kept), 'repeated after kill -9 and a start');
is($c->checkpoint(compact => 1)->{status}, 'OK', 'all of it into tables');
same($a, $c->incr('kept', 7, @kept), 'repeated from tables');
$node->restart;
$c = $node->client;
same($a, $c->incr('kept', 7, @kept), 'repeated after a restart');
is($c->get('kept')->{value}, 7, 'done once');

# 10. Killed between a request and its answer.
say_why('a walwriter or a backend that is killed while it works makes the node start over, clients are cut off');
my ($tries, $sum) = (0, 0);
for my $kill (1 .. KILLS) {
	my @stamp = stamp();
	my $kind = $kill % 20 == 0 ? 'postmaster' : rand() < 0.5 ? 'walwriter' : 'compactor';
	my $pid = $kind eq 'postmaster' ? $node->pid : ($node->children->{$kind} || [])->[0];
	my $step = 1 + int rand 9;
	my $r = eval {
		my $id = $c->request($CMD{INCR}, write_prefix(@stamp) . op(kind => 'incr', key => 'sum', value => $step));
		select undef, undef, undef, rand 0.002 if rand() < 0.7;
		if ($kind eq 'postmaster') {
			$node->kill9('postmaster');
		} elsif ($pid) {
			kill 'KILL', $pid;
		}
		$tries++;
		$c->answer($id, $CMD{INCR});
	};
	$node->start if $kind eq 'postmaster';
	$sum += $step;
	my $until = time + 30;
	my $first = $r;
	until ($r && $r->{code} == 0 && !($first && $r == $first)) {
		$c = Kvd::Client->new_patiently(port => $node->port) if !$first || !eval { $c->ping(''); 1 };
		$tries++;
		$r = eval { $c->incr('sum', $step, @stamp) };
		die "no answer after kill $kill of $kind: " . ($r ? $r->{text} : $@) . "\n" if time > $until;
	}
	my $value = unpack 'q<', substr $r->{payload}, 8;
	if ($value != $sum || ($first && $first->{payload} ne $r->{payload})) {
		fail("kill $kill of $kind: the sum is $value instead of $sum");
		last;
	}
}
is($c->get('sum')->{value}, $sum, KILLS . " kills, $tries requests: each increment was done once");
cmp_ok($tries, '>=', 2 * KILLS, '... and all were sent at least twice');

# 11. kvctl: a script of increments and a load, while the node dies under them. Their input ends when the first process
# was killed, not before. The postmaster only once it has begun: a client that cannot
# connect in the first place says so, and ends.
my %files = map { $_ => test_dir() . "/client.$_" } qw(in out err);
my @kvctl = (kvd_bin('kvctl'), '-p', $node->port, '--timeout', '60s');
POSIX::mkfifo("$files{in}.fifo", 0600) or die "mkfifo: $!\n";
sub kills_while
{
	my ($input, $what, $has_begun, @args) = @_;
	my $fifo = "$files{in}.fifo";
	unlink @files{qw(out err)};
	spew($files{in}, $input);
	my $pid = start_command({ stdin => $fifo, out => $files{out}, err => $files{err} }, @kvctl, @args);
	open my $end, '>', $fifo or die "$fifo: $!\n";
	my $writer = start_command({ out => $fifo }, 'cat', $files{in});
	my $kills = 0;
	while (!waitpid $pid, 1) {
		Kvd::Client->new_patiently(port => $node->port); # it is up, and has a while to work
		sleep 0.05 + rand 0.25;
		if ($kills % 4 == 3 && $has_begun->()) {
			$node->kill9('postmaster');
			$node->start;
		} else {
			my $victim = ($node->children->{walwriter} || [])->[0];
			kill 'KILL', $victim if $victim;
		}
		$kills++;
		close $end if $kills == 1;
	}
	my $code = $? >> 8;
	waitpid $writer, 0;
	is($code, 0, "$what ends well") or diag slurp(test_dir() . '/client.err');
	cmp_ok($kills, '>', 0, "... with $kills kills meanwhile");
	return;
}
kills_while("incr script\n" x 400, 'a script', sub { -s $files{out} });
is(slurp($files{out}), join('', map { "$_\n" } 1 .. 400), 'each increment of a script is done once, and says so');
kills_while(join('', map { "load$_\t" . ('x' x 200) . "\n" } 1 .. 20_000), 'a load',
	sub { eval { Kvd::Client->new_patiently(port => $node->port)->get('load1')->{code} == 0 } }, 'load');
$c = Kvd::Client->new_patiently(port => $node->port);
is($c->count_all(start => 'load', end => 'loae'), 20_000, 'all records are there');
is($node->stop, 0, 'stop');

done_testing;
