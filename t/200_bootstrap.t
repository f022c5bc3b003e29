#!/usr/bin/perl
#
# 200_bootstrap.t - how nodes come by their cluster: the first, one that is added, a list, a lost disk, a lost majority.
#
# Why so: who belongs to what is decided once and must survive a crash at any moment, or two clusters go on under one
# name, or one that lost its disk is taken for who it was (it has forgotten what it voted). So every way is gone through
# with the shipped programs, killed in the middle, and started again.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use File::Path qw(remove_tree);
use IO::Socket::INET;
use List::Util qw(shuffle);
use Time::HiRes qw(sleep);
use Kvd::Test;

seed();

# --- ports, nodes -----------------------------------------------------------------------------------

my %port;    # name => [ clients, nodes ]
my %small = %Kvd::Test::SMALL;
delete $small{port};

sub settings
{
	my ($name, %more) = @_;
	$port{$name} ||= [ keep_port(), keep_port() ];
	my %all = (%small, node_name => $name, port => $port{$name}[0], peer_port => $port{$name}[1],
		election_timeout => '300ms', %more);
	return map { ('-c', "$_=$all{$_}") } sort keys %all;
}

sub peer { my ($name) = @_; return "$name\@127.0.0.1:$port{$name}[1]" }

sub node
{
	my ($dir) = @_;
	return Kvd::Test->new($dir);
}

sub launch
{
	my ($node, @args) = @_;
	return $node->start(no_wait => 1, args => \@args);
}

sub logs
{
	my ($node, $pattern, $what) = @_;
	poll_until(sub { $node->log =~ $pattern }, 60, sub { "$what; the log of " . $node->name . ":\n" . $node->log });
	return pass($what);
}

sub cluster_id { my ($node) = @_; return unpack 'H32', substr slurp($node->dir . '/kvd.control'), 16, 16 }

sub waits
{
	my ($node) = @_;
	poll_until(sub { $node->state eq 'waiting' }, 60, sub { $node->name . " to wait; its log:\n" . $node->log });
	return;
}

# A write through any node: libkv finds the leader.
sub put_ok
{
	my ($node, $key, $value) = @_;
	my $r;
	poll_until(sub { $r = $node->kvctl('put', $key, $value, '--timeout', '2s'); $r->{code} == 0 }, 40,
		'a write through ' . $node->name);
	return pass("$key is written through " . $node->name);
}

# A change of the members, asked of this node.
sub changes
{
	my ($node, $done, @command) = @_;
	my $said = change_members(sub { $node->kvctl(@_) }, $done, @command);
	return pass("cluster @command: $said" =~ s/\n/ /gr);
}

sub get_is
{
	my ($node, $key, $value) = @_;
	my $r;
	poll_until(sub { $r = $node->kvctl('get', $key, '--timeout', '2s'); $r->{code} == 0 }, 40,
		'a read through ' . $node->name);
	chomp(my $got = $r->{out});
	return is($got, $value, "$key is read through " . $node->name);
}

my $zero = '0' x 32;

# --- 1. the first node ------------------------------------------------------------------------------
my $first = node('first');
my @all = settings('a');
my $client_port = $port{a}[0];
my @without_peer_port;
while (my ($c, $setting) = splice @all, 0, 2) {
	push @without_peer_port, $c, $setting if $setting !~ /^peer_port=/;
}
SKIP: {
	# Bound and not listening it is kept for us (see keep_port).
	my $next = $client_port > 64535 ? undef
		: IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $client_port + 1000, Proto => 'tcp',
			ReuseAddr => 1);
	skip 'port + 1000 is no port, or taken', 1 if !$next;
	my $default = node('default');
	$default->start(args => [ '--cluster-init', @without_peer_port ]);
	like(slurp($default->dir . '/kvd.auto.conf'), qr/^peer_port = '@{[$client_port + 1000]}'$/m,
		'--cluster-init: peer_port is port + 1000, kept');
	$default->stop;
}
$first->start(args => [ '--cluster-init', settings('a') ]);
like($first->log, qr/cluster add NAME\@HOST/, 'it says how to go on');
like(slurp($first->dir . '/kvd.auto.conf'), qr/^node_name = 'a'$/m, 'the name is kept');
put_ok($first, 'k', 'one');
is($first->stop, 0, 'stop');
my $r = $first->start(fails => 1, args => ['--cluster-init']);
is($r->{code}, 1, 'a second --cluster-init is refused');
like($r->{out}, qr/made already/, '... and says why');
$r = $first->start(fails => 1, args => ['--join']);
like($r->{out}, qr/belongs to a cluster already/, '--join is refused there, too');
$first->start(args => [ map { ('-c', "$_=$small{$_}") } sort keys %small ]);
get_is($first, 'k', 'one');

# --- 1b. settings that cannot be ---------------------------------------------------------------------
{
	my $wrong = node('wrong');
	my $same = keep_port();
	$r = $wrong->start(fails => 1, args => [ '--join', settings('w', port => $same, peer_port => $same) ]);
	is($r->{code}, 1, 'one port for clients and nodes is refused');
	like($r->{out}, qr/must differ/, '... and says why');
	$r = $wrong->start(fails => 1, args => [ settings('w', peer_advertise_address => 'a:b') ]);
	is($r->{code}, 1, 'a wrong address is no doubt about durability');
	like($r->{out}, qr/peer_advertise_address: "a:b" is no address/, '... and says which setting');
	my $held = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port{w}[1], Listen => 1, ReuseAddr => 1)
		or die "cannot listen: $!\n";
	$r = $wrong->start(fails => 1, args => [ settings('w') ]);
	is($r->{code}, 1, 'nor is a port in use');
	like($r->{out}, qr/port $port{w}[1]: Address already in use/, '... and says which');
	close $held;
	$wrong->start(args => [ settings('w', listen_addresses => '*') ]);
	like($wrong->log, qr/WARNING:  listen_addresses is \* and advertise_address is not set/,
		'one that others are sent to 127.0.0.1 for says so');
	unlike($wrong->log, qr/peer_listen_addresses is \*/, '... and of the other address nothing');
	is($wrong->stop, 0, 'stop');
}

# --- 2. one that is added ---------------------------------------------------------------------------
my $added = node('added');
$r = $added->start(fails => 1, args => [ '--join', '-p', keep_port() ]);
like($r->{out}, qr/node_name/, '--join needs a name');
launch($added, '--join', settings('b'));
logs($added, qr/waiting to be added: kvctl cluster add b\@127\.0\.0\.1:$port{b}[1]$/m,
	'--join waits and says for what');
waits($added);
is(cluster_id($added), $zero, 'it has no cluster yet');
like(run_command(kvd_bin('kvctl'), 'status', '-D', $added->dir)->{out}, qr/waiting/, 'kvctl status says so');
is($added->stop('smart'), 0, 'it stops as asked');
is($added->state, '', 'and leaves no pid file');
$r = run_command(kvd_bin('kvd'), '-D', $added->dir, '--check');
like($r->{err}, qr/no cluster yet/, '--check has nothing to look at');
my $identity = substr slurp($added->dir . '/kvd.control'), 32, 8;
launch($added, map { ('-c', "$_=$small{$_}") } sort keys %small);
waits($added);
is($added->kill9('postmaster'), $added->{old_pid}, 'killed while it waits');
launch($added, map { ('-c', "$_=$small{$_}") } sort keys %small);
waits($added);
ok($identity eq substr(slurp($added->dir . '/kvd.control'), 32, 8), 'started again it is who it was, and waits on');
changes($first, qr/is a member already/, 'add', peer('b'));
$added->wait_ready;
is(cluster_id($added), cluster_id($first), 'it belongs to the cluster');
ok($identity eq substr(slurp($added->dir . '/kvd.control'), 32, 8), 'under the identity it had');
get_is($added, 'k', 'one');
put_ok($added, 'k2', 'two');
get_is($first, 'k2', 'two');
# A third one reads in its log of b when it has long been connected to it.
my $third = node('third');
launch($third, '--join', settings('c'));
waits($third);
changes($first, qr/is a member already/, 'add', peer('c'));
$third->wait_ready;
get_is($third, 'k2', 'two');
# Whoever of them leads: the leader says "streaming" of one that is in step.
poll_until(sub { $third->kvctl('cluster', '--format', 'csv')->{out} =~ /^b,\w+,\d+,(?:up|streaming),/m }, 40,
	sub { 'the third one to see the second; it says ' . $third->kvctl('cluster', '--format', 'csv')->{out} });
pass('what was connected before it was a member is not called down');
changes($first, qr/no member has the name/, 'remove', 'c');
is($third->stop, 0, 'stop');
changes($first, qr/no member has the name/, 'remove', 'b');
put_ok($first, 'k3', 'three');
$added->restart;
logs($added, qr/node b is not a member of the cluster: it was removed/, 'one that was removed is refused, and told so');
put_ok($first, 'k3', 'four');
is($added->stop, 0, 'stop');
is($first->stop, 0, 'stop');

# --- 3. a list --------------------------------------------------------------------------------------
my @names = qw(n1 n2 n3);
settings($_) for @names;
my $list = join ',', map { peer($_) } @names;
my %node = map { $_ => node($_) } @names;
my %args = map { $_ => [ settings($_, cluster_members => $list) ] } @names;

launch($node{n1}, @{ $args{n1} });
logs($node{n1}, qr/^waiting for n2\@\S+, n3\@\S+$/m, 'the first names those it waits for');
launch($node{n2}, @{ $args{n2} });
logs($node{n1}, qr/^waiting for n3\@\S+$/m, '... and one less when one has come');
logs($node{n2}, qr/^waiting for n1\@\S+ to form the cluster$/m, 'the second waits for the first');
is(cluster_id($node{n1}), $zero, 'nothing is formed while one is missing');
$node{$_}->kill9('postmaster') for qw(n2 n1);
launch($node{$_}, @{ $args{$_} }) for qw(n1 n2 n3);
$node{$_}->wait_ready for @names;
my $id = cluster_id($node{n1});
isnt($id, $zero, 'all are there: formed');
is(cluster_id($node{$_}), $id, "$_ belongs to it") for qw(n2 n3);
put_ok($node{n1}, 'x', '1');
get_is($node{$_}, 'x', '1') for @names;
$node{$_}->stop for @names;
launch($node{$_}, @{ $args{$_} }) for @names;
$node{$_}->wait_ready for @names;
is(cluster_id($node{$_}), $id, "$_: started again it is the same cluster") for @names;
get_is($node{n2}, 'x', '1');
like($node{n1}->log, qr/cluster_members is not looked at/, '... and the list is not looked at any more');

$node{$_}->stop for @names;
say_why('Killed at any moment of forming and started again: one cluster, of all three.');
for my $round (1 .. 4) {
	my @dirs = map { node("r$round$_") } @names;
	my %nodes = map { $names[$_] => $dirs[$_] } 0 .. 2;
	launch($nodes{$_}, @{ $args{$_} }) for @names;
	if ($round % 2) {    # as soon as somebody has decided
		poll_until(sub { -e $dirs[0]->dir . '/kvd.control' && cluster_id($dirs[0]) ne $zero }, 30,
			'the first to decide');
	} else {
		sleep rand 0.6;
	}
	$nodes{$_}->kill9('postmaster') for shuffle(@names);
	launch($nodes{$_}, @{ $args{$_} }) for @names;
	$nodes{$_}->wait_ready for @names;
	is(cluster_id($nodes{$_}), cluster_id($nodes{n1}), "round $round: $_ is in the cluster") for qw(n2 n3);
	put_ok($nodes{n2}, 'y', $round);
	get_is($nodes{n3}, 'y', $round);
	$nodes{$_}->stop for @names;
}

# --- 4. a lost disk ---------------------------------------------------------------------------------
say_why('A node that lost its directory has forgotten its votes: the cluster must not take it for who it was.');
launch($node{$_}, @{ $args{$_} }) for qw(n1 n2);
$node{$_}->wait_ready for qw(n1 n2);
remove_tree($node{n3}->dir);
launch($node{n3}, @{ $args{n3} });
waits($node{n3});
logs($node{n3}, qr/kvctl cluster replace n3 127\.0\.0\.1:$port{n3}[1]/, 'it gets advice');
logs($node{n2}, qr/node n3 has lost its data directory.*kvctl cluster replace n3/,
	'... and so do the others, in their log');
is(cluster_id($node{n3}), $zero, 'it does not rejoin by itself');
put_ok($node{n1}, 'x', '2');
changes($node{n1}, qr/belongs to a cluster already/, 'replace', 'n3', "127.0.0.1:$port{n3}[1]");
$node{n3}->wait_ready;
is(cluster_id($node{n3}), $id, 'kvctl cluster replace brings it back');
get_is($node{n3}, 'x', '2');
# A learner until it has caught up; without n1 its vote is needed.
poll_until(sub { $node{n2}->kvctl('cluster', '--format', 'csv')->{out} =~ /^n3,(?:follower|leader),/m }, 60,
	sub { 'n3 to be a voter; n2 says ' . $node{n2}->kvctl('cluster', '--format', 'csv')->{out} });

# The first of the list is no better off: it forms nothing while another has a cluster.
$node{n1}->stop;
remove_tree($node{n1}->dir);
launch($node{n1}, @{ $args{n1} });
logs($node{n1}, qr/no new cluster is formed: .*belongs to a cluster already.*kvctl cluster replace n1/,
	'the first of the list does not form another cluster');
is(cluster_id($node{n1}), $zero, 'it waits');
put_ok($node{n2}, 'x', '3');
$node{n1}->stop;

# --- 5. a lost majority -----------------------------------------------------------------------------
$node{$_}->stop for qw(n2 n3);
my @memory = map { ('-c', "$_=$small{$_}") } sort keys %small;
my $before = cluster_id($node{n2});
$r = run_command(kvd_bin('kvd'), '-D', $node{n2}->dir, @memory, '--recover-alone');
is($r->{code}, 2, '--recover-alone does nothing without --yes');
like($r->{out}, qr/^LOST is every write/m, 'it says what may be lost');
like($r->{out}, qr/^Dropped: voter n3/m, 'and who');
is(cluster_id($node{n2}), $before, 'nothing has changed');
spew($node{n2}->dir . '/kvd.recover-alone', '');    # what one that was cut off leaves
$r = $node{n2}->start(fails => 1, args => [@memory]);
like($r->{out}, qr/cut off here: run it again/, 'cut off: a start is refused');
$r = run_command(kvd_bin('kvd'), '-D', $node{n2}->dir, @memory, '--recover-alone', '--yes');
is($r->{code}, 0, '--recover-alone --yes') or diag "$r->{out}$r->{err}";
isnt(cluster_id($node{n2}), $before, 'a new cluster');
launch($node{n2}, @memory);
$node{n2}->wait_ready;
get_is($node{n2}, 'x', '3');
put_ok($node{n2}, 'x', '4');
launch($node{n3}, @memory);
logs($node{n3}, qr/node n2 belongs to another cluster/, 'an old member cannot come back');
get_is($node{n2}, 'x', '4');
$node{n3}->stop;
$node{n2}->stop;
$r = run_command(kvd_bin('kvd'), '-D', $node{n2}->dir, @memory, '--recover-alone', '--yes');
like($r->{out}, qr/alone already/, 'once is enough');
is(run_command(kvd_bin('kvd'), '-D', $node{n2}->dir, @memory, '--check')->{code}, 0, 'its data is sound');

# --- 6. make cluster --------------------------------------------------------------------------------
{
	my $log = test_dir() . '/cluster.log';
	local $ENV{TMPDIR} = test_dir();
	local $ENV{KVD_BIN} = $ENV{KVD_BIN} || "$FindBin::Bin/../build/bin";
	my $pid = start_command({ out => $log, err => $log }, "$FindBin::Bin/../src/tools/cluster", '-c',
		'election_timeout=300ms');
	poll_until(sub { my $t = -e $log ? slurp($log) : ''; $t =~ /nodes are ready/ && $t =~ /Ctrl-C stops/ }, 60,
		"src/tools/cluster; it said:\n" . (-e $log ? slurp($log) : ''));
	my ($port) = slurp($log) =~ /-p (\d+) get hello/;
	is(run_command(kvd_bin('kvctl'), '-p', $port, '--timeout', '60s', 'get', 'hello')->{out}, 'world',
		'make cluster: it serves');
	my ($n2) = slurp($log) =~ /# n2: kill -9 (\d+)/;
	kill 'KILL', $n2;
	poll_until(sub { slurp($log) =~ /node n2 has ended/ }, 30, 'n2 to end');
	my ($again) = slurp($log) =~ m{^ +(\S+/kvd -D \S+ .*)$}m;
	$again =~ s{/n1 }{/n2 };
	my $elsewhere = start_command({ out => "$log.n2", err => "$log.n2" }, split ' ', $again);
	poll_until(sub { -e "$log.n2" && slurp("$log.n2") =~ /is ready/ }, 30, 'n2 to be ready again');
	my ($made) = glob test_dir() . '/kvd-cluster.*';
	ok(defined $made && -d "$made/n3", '... in a temporary directory');
	kill 'INT', $pid;
	my $code;
	poll_until(sub { my $got = waitpid $pid, 1; $code = $? if $got == $pid; return $got == $pid }, 60, 'its end');
	is($code, 0, 'Ctrl-C ends it');
	poll_until(sub { waitpid($elsewhere, 1) == $elsewhere }, 30, 'the end of the one that was started again');
	like(slurp("$log.n2"), qr/the server has stopped$/m, '... and the node that was started again elsewhere');
	ok(!-e $made, '... and removes the directory') or diag slurp($log);
}

done_testing;
