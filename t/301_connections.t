#!/usr/bin/perl
#
# 301_connections.t - a thousand idle connections are held, the next is told why not, administrators get in.
#
# Why so: a process per connection is only bearable if an idle one costs little, so what each backend keeps for
# itself is measured. When all connections are in use a client must get an answer it understands, not a closed socket,
# and somebody must still be able to look and to help: that is what the reserved connections are for. Slots must
# come back when their clients leave, also when they leave all at once.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use POSIX ();
use Kvd::Test;
use Kvd::Proto qw(:all);

use constant { CONNECTIONS => 1000, HOLDERS => 4, RESERVED => 2, PRIVATE_KIB_MAX => 300 };

my $node = Kvd::Test->new('main')->init(max_connections => CONNECTIONS, reserved_connections => RESERVED)->start;

# A process holds some, since one may not open as many files everywhere.
sub hold
{
	my ($n) = @_;
	pipe my $ready_r, my $ready_w or die "pipe: $!";
	pipe my $go_r, my $go_w or die "pipe: $!";
	my $parent = $$;
	my $pid = fork;
	die "cannot fork: $!" if !defined $pid;
	if ($pid == 0) {
		Kvd::Test::die_with_parent($parent);
		close $_ for $ready_r, $go_w;
		my @held = eval {
			map {
				my $c = $node->client(timeout => 60);
				$c->put("held-$$-$_", 'x') if $_ % 10 == 0;
				$c
			} 1 .. $n;
		};
		syswrite $ready_w, @held == $n ? "ok\n" : "failed: $@\n";
		sysread $go_r, my $word, 5;
		my $alive = grep { my $c = $_; eval { $c->ping('still')->{payload} eq 'still' } } @held;
		syswrite $ready_w, "$alive\n";
		sysread $go_r, $word, 5;
		POSIX::_exit(0);
	}
	close $_ for $ready_w, $go_r;
	return { pid => $pid, from => $ready_r, to => $go_w };
}

# 1. They are all served.
my @holders = map { hold(CONNECTIONS / HOLDERS) } 1 .. HOLDERS;
is(scalar(readline $_->{from}), "ok\n", 'a quarter of ' . CONNECTIONS . ' connections') for @holders;
my @backends = @{ $node->children->{backend} || [] };
is(scalar @backends, CONNECTIONS, 'a process each');

# 2. Each costs little.
SKIP: {
	skip 'no smaps_rollup on this system', 2 if !-r '/proc/self/smaps_rollup';
	my ($sum, $most) = (0, 0);
	for my $pid (@backends) {
		my $kib = 0;
		$kib += $_ for slurp("/proc/$pid/smaps_rollup") =~ /^Private_\w+: +(\d+) kB/mg;
		$sum += $kib;
		$most = $kib if $kib > $most;
	}
	note sprintf 'private memory of a backend: %.0f KiB, at most %d KiB', $sum / @backends, $most;
	skip 'sanitizers need memory of their own', 2 if ($ENV{KVD_BIN} || '') =~ /address|thread/;
	cmp_ok($sum / @backends, '<', PRIVATE_KIB_MAX,
		'an idle backend keeps less than ' . PRIVATE_KIB_MAX . ' KiB for itself');
	cmp_ok($most, '<', 2 * PRIVATE_KIB_MAX, '... and none much more');
}

# 3. One more is refused in words; the reserved ones are for those who ask.
sub refusal { my (%o) = @_; return eval { push @{ $o{keep} }, $node->client(%o); 1 } ? 'served' : $@ }

my @admins;
like(refusal(), qr/\ATOO_MANY_CONNECTIONS: .*max_connections/, 'one more is refused, with the reason');
# The one that was refused has a slot until its process has gone.
poll_until(sub { @{ $node->children->{backend} || [] } == CONNECTIONS }, 60, 'the refused one to go');
is(refusal(admin => 1, keep => \@admins), 'served', 'an administrator gets a reserved connection') for 1 .. RESERVED;
like(refusal(admin => 1), qr/\ATOO_MANY_CONNECTIONS: /, '... as long as there are some');
is($admins[0]->stats('process.backends')->{'process.backends'}, CONNECTIONS + RESERVED, 'he sees what is going on');
my $r = run_command(kvd_bin('kvctl'), '-p', $node->port, 'get', 'x');
is($r->{code}, 4, 'kvctl is refused');
like($r->{err}, qr/connections/, '... and says why');

# 4. None was disturbed.
syswrite $_->{to}, "ping\n" for @holders;
my $alive = 0;
$alive += readline $_->{from} for @holders;
is($alive, CONNECTIONS, 'all connections still answer');

# 5. When all leave at once, all slots come back.
kill 'KILL', map { $_->{pid} } @holders;
waitpid $_->{pid}, 0 for @holders;
poll_until(sub { @{ $node->children->{backend} || [] } == RESERVED }, 60, 'the backends of those who left to go');
@holders = map { hold(CONNECTIONS / HOLDERS) } 1 .. HOLDERS;
is(scalar(readline $_->{from}), "ok\n", 'again a quarter of ' . CONNECTIONS . ' connections') for @holders;
is($admins[0]->stats('node.restarts')->{'node.restarts'}, 0, 'no restart in all this');

# 6. Fast stop ends them all.
is($node->stop('fast'), 0, 'fast stop with all of them connected');
kill 'KILL', map { $_->{pid} } @holders;
waitpid $_->{pid}, 0 for @holders;

done_testing;
