package Kvd::Test;

=head1 NAME

Kvd::Test - a kvd node as an object, for tests of the shipped programs

=head1 SYNOPSIS

  use Test::More;
  use Kvd::Test;

  my $node = Kvd::Test->new('main')->init->start;
  my $c = $node->client;                        # a Kvd::Client
  is($c->put('k', 'v')->{status}, 'OK');
  my $r = $node->kvctl('get', 'k');             # { code, out, err }
  $node->kill9('walwriter');
  $node->wait_ready;
  $node->stop('fast');
  done_testing;

=head1 DESCRIPTION

The programs come from C<KVD_BIN> (set by C<make tap>; else C<build/bin>). A node's directory is
C<KVD_BUILD/t/SUITE.PID/NAME>, so suites and runs never meet; it goes away when the suite passes and stays, with the
server's log F<NAME.log> beside it, when it fails (or with C<KVD_KEEP=1>). Servers choose their own port. They die
with the test, also when it is killed; what a killed run left is removed by the next run of the same suite.

=head2 Nodes

=over

=item new(NAME), init(%settings), start, stop(MODE), restart

C<init> makes the directory with C<kvd --init-only> and small buffers (a test must start in a moment: C<%SMALL>);
settings given here come on top. C<append_conf(name =E<gt> value, ...)> adds lines to F<kvd.conf>. C<start> waits until
the node is ready and dies with its log if it ends instead; C<start(fails =E<gt> 1)> is for a start that shall be
refused and returns { code, out }. Further arguments go to kvd: C<start(args =E<gt> [...])>.
C<stop> takes C<smart>, C<fast> (default) or C<immediate> and returns the exit code of kvd.

=item port, pid, state, dir, log

C<state> is the fifth line of F<postmaster.pid>; C<log> the text logged so far (stdout and stderr), C<log(FROM)> what
came behind its first FROM bytes, C<log_size> how many there are.

=item children, kill9(KIND), wait_ready, wait_restart(COUNT)

C<children> gives { kind =E<gt> [pids] }, found by parent and title. C<kill9> sends SIGKILL to one process of that kind
(C<postmaster> too) and returns its pid, undef if there is none.

=item client(%o), kvctl(@args), run(@command)

C<kvctl> gets the node's port. Both return { code, out, err }; code is -signal when a signal ended it. Options in a
leading hash: { stdin =E<gt> text, timeout =E<gt> s }.

=back

=head2 Functions

=over

=item poll_until(CODE, SECONDS, WHAT)

Calls CODE every 10 ms (sooner at first) until it is true, and returns that; dies after SECONDS (30) naming WHAT, a text
or a function that gives one. Tests wait for conditions, they never sleep and hope.

=item keep_port()

A port of the loopback that nobody else gets while the test runs, also when no server uses it.

=item change_members(KVCTL, DONE, @command)

C<kvctl cluster @command>, until it is done. KVCTL is a function that runs kvctl with its arguments. What a failing
leader leaves in doubt is asked for again: DONE is what kvctl says of a change that has been made already. A leader that
is itself to go hands over first. Returns what kvctl said; dies as C<poll_until> does.

=item seed()

Seed of this run: C<KVD_SEED> or chosen, printed with the test's output; C<srand> was called with it.

=item open_terminal()

A pseudo terminal: its handle, and the name of the side that a program opens. Empty where there is none (not Linux).

=item say_why(TEXT)

Prints why the scenario is shaped so, in front of its tests.

=back

=cut

use strict;
use warnings;
use Exporter 'import';
use Test::More ();
use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_REUSEADDR);
use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use File::Path qw(make_path remove_tree);
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(time sleep clock_gettime CLOCK_MONOTONIC);
use Kvd::Client;

our @EXPORT = qw(poll_until seed say_why slurp spew kvd_bin test_dir run_command start_command
	open_terminal keep_port change_members);

use constant RUN_S => 300; # whoever runs for longer never ends

# Suites of one node: '?timeout=50s', or a sync of the disk that takes five seconds fails them. A cluster's node is to
# say soon that it has no leader.
our $KVCTL_OPTIONS = '';

our %SMALL = (
	port => 0,
	wal_buffers => '66MB',
	wal_segment_size => '1MB',
	wal_keep => 0,
	wal_spare_segments => 1,
	memtable_size => '32MB',
	memtable_count => 2,
	block_cache_size => '8MB',
	metadata_size => '4MB',
);

my $main_pid = $$;
my $base;       # directory of this run of this suite
my @kept_ports; # their sockets
my %nodes;      # started and not yet waited for: pid => node
my $seed;

sub kvd_bin
{
	my ($program) = @_;
	my $bin = $ENV{KVD_BIN} || abs_path(dirname(__FILE__) . '/../../build/bin');
	return "$bin/$program";
}

sub slurp
{
	my ($path, $from) = @_;
	open my $in, '<:raw', $path or die "cannot read $path: $!\n";
	seek $in, $from, 0 or die "cannot read $path from $from on: $!\n" if $from;
	local $/;
	my $text = <$in>;
	return defined $text ? $text : '';
}

sub spew
{
	my ($path, $text) = @_;
	open my $out, '>:raw', $path or die "cannot write $path: $!\n";
	print $out $text;
	close $out or die "cannot write $path: $!\n";
	return;
}

sub now { return clock_gettime(CLOCK_MONOTONIC) } # nobody sets this one

sub poll_until
{
	my ($code, $seconds, $what) = @_;
	my $until = now() + (defined $seconds ? $seconds : 30);
	my $nap = 0.001;
	while (1) {
		my $last = now() > $until; # there is a look after the time, however long this process was held up
		my $result = $code->();
		return $result if $result;
		die 'waited in vain for ' . (ref $what ? $what->() : $what // 'a condition') . "\n" if $last;
		sleep $nap;
		$nap = $nap * 1.5 < 0.01 ? $nap * 1.5 : 0.01;
	}
}

sub change_members
{
	my ($kvctl, $done, @command) = @_;
	my $said;
	poll_until(sub {
		my $r = $kvctl->('cluster', @command);
		$said = $r->{out} . $r->{err};
		return 1 if $r->{code} == 0 || $said =~ $done;
		$kvctl->('cluster', 'transfer') if $said =~ /transfer first/; # it was elected meanwhile
		# The leader failed between the two steps: the old one is gone, the new one still to be added.
		if ($command[0] eq 'replace' && $said =~ /no member has the name/) {
			@command = ('add', "$command[1]\@$command[2]");
			$done = qr/$done|is a member already/;
		}
		return 0;
	}, 90, sub { "cluster @command; it says: " . ($said // 'nothing') });
	return $said;
}

# Bound, not listening, and not to be shared: the system gives it to nobody. Then it is: kvd may bind it, too.
sub keep_port
{
	my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp')
		or die "cannot keep a port: $!\n";
	setsockopt $s, SOL_SOCKET, SO_REUSEADDR, pack('i', 1) or die "cannot share a port: $!\n";
	push @kept_ports, $s;
	return $s->sockport;
}

sub seed
{
	if (!defined $seed) {
		$seed = defined $ENV{KVD_SEED} ? $ENV{KVD_SEED} : int(time * 1000) % 1_000_000_007;
		srand $seed;
		Test::More::note("seed $seed (repeat with KVD_SEED=$seed)");
	}
	return $seed;
}

sub say_why
{
	my ($text) = @_;
	Test::More::note($text);
	return;
}

sub open_terminal
{
	my ($unlock, $number) = (pack('i', 0), pack('i', 0));
	return if $^O ne 'linux' || !open my $tty, '+<', '/dev/ptmx';
	ioctl $tty, 0x40045431, $unlock or die "cannot unlock the terminal: $!"; # TIOCSPTLCK
	ioctl $tty, 0x80045430, $number or die "cannot name the terminal: $!"; # TIOCGPTN
	return ($tty, '/dev/pts/' . unpack 'i', $number);
}

# --- directories ------------------------------------------------------------------------------------

# Does a process of that number live?
sub is_alive
{
	my ($pid) = @_;
	return kill(0, $pid) || $!{EPERM};
}

# Servers that kvctl has started are nobody's children: those of a killed run go on in its directories.
sub kill_those_in
{
	my ($dir) = @_;
	for my $cwd (glob '/proc/[0-9]*/cwd') {
		kill 'KILL', $cwd =~ /(\d+)/ if index(readlink($cwd) // '', "$dir/") == 0;
	}
	return;
}

sub test_dir
{
	return $base if defined $base;
	my $build = $ENV{KVD_BUILD} || abs_path(dirname(__FILE__) . '/../../build');
	my $suite = basename($0, '.t');
	for my $old (glob "$build/t/$suite.*") {
		my ($pid) = $old =~ /\.(\d+)\z/ or next;
		# Servers die with their test (see start): a directory whose test is gone is nobody's. Process ids come again.
		next if $pid != $$ && (is_alive($pid) || -e "$old/failed");
		kill_those_in($old);
		remove_tree($old);
	}
	# Failed runs are kept, but not all of them for ever.
	my @failed = sort { -M $a <=> -M $b } grep { -e "$_/failed" } glob "$build/t/$suite.*";
	remove_tree($_) for splice @failed, 2 < @failed ? 2 : scalar @failed;
	$base = "$build/t/$suite.$$";
	make_path($base, { mode => 0700 });
	return $base;
}

# --- processes --------------------------------------------------------------------------------------

# Linux: the child is to die with us, however we die. Elsewhere END does what it can.
sub die_with_parent
{
	my ($parent) = @_;
	my $number = $^O eq 'linux' ? { x86_64 => 157, aarch64 => 167 }->{ (POSIX::uname())[4] } : undef;
	return if !defined $number;
	syscall $number, 1, 9, 0, 0, 0;
	POSIX::_exit(127) if getppid() != $parent;
	return;
}

# Start a program; its pid. Options: stdin (path), out, err (paths, appended to).
sub start_command
{
	my ($o, @command) = @_;
	my $parent = $$;
	my $pid = fork;
	die "cannot fork: $!\n" if !defined $pid;
	return $pid if $pid != 0;
	die_with_parent($parent);
	$SIG{$_} = 'DEFAULT' for qw(INT TERM PIPE HUP);
	open STDIN, '<', $o->{stdin} || '/dev/null' or POSIX::_exit(126);
	open STDOUT, '>>', $o->{out} || '/dev/null' or POSIX::_exit(126);
	open STDERR, '>>', $o->{err} || '/dev/null' or POSIX::_exit(126);
	{ no warnings; exec {$command[0]} @command }
	print STDERR "cannot run $command[0]: $!\n";
	POSIX::_exit(127);
}

sub exit_code
{
	my ($status) = @_;
	return $status & 127 ? -($status & 127) : $status >> 8;
}

# Wait for a process at most so long; its exit code, undef if it still runs.
sub wait_for
{
	my ($pid, $seconds) = @_;
	my $until = now() + $seconds;
	my $nap = 0.001;
	while (1) {
		my $got = waitpid $pid, WNOHANG;
		return exit_code($?) if $got == $pid;
		die "process $pid is not ours\n" if $got < 0;
		return undef if now() > $until;
		sleep $nap;
		$nap *= 1.5 if $nap < 0.02;
	}
}

my $runs = 0;

# Run a program to its end: { code, out, err }. A leading hash: stdin => text, timeout => seconds.
sub run_command
{
	my (@command) = @_;
	my $o = ref $command[0] ? shift @command : {};
	my $stem = test_dir() . "/run.$$." . ++$runs;
	my %path = (out => "$stem.out", err => "$stem.err");
	if (defined $o->{stdin}) {
		spew("$stem.in", $o->{stdin});
		$path{stdin} = "$stem.in";
	} elsif (defined $o->{stdin_file}) {
		$path{stdin} = $o->{stdin_file};
	}
	my $pid = start_command(\%path, @command);
	my $code = wait_for($pid, $o->{timeout} || RUN_S);
	if (!defined $code) {
		kill 'KILL', $pid;
		waitpid $pid, 0;
		die "@command did not end within " . ($o->{timeout} || RUN_S) . " s; it said: " . slurp("$stem.err") . "\n";
	}
	my %result = (code => $code, out => slurp("$stem.out"), err => slurp("$stem.err"));
	unlink "$stem.in", "$stem.out", "$stem.err";
	return \%result;
}

# --- nodes ------------------------------------------------------------------------------------------

sub new
{
	my ($class, $name) = @_;
	$name = 'main' if !defined $name;
	return bless { name => $name, dir => test_dir() . "/$name", log_file => test_dir() . "/$name.log" }, $class;
}

sub dir { return $_[0]{dir} }
sub name { return $_[0]{name} }
sub pid { return $_[0]{pid} }
sub log_file { return $_[0]{log_file} }
sub log { my ($self, $from) = @_; return -e $self->{log_file} ? slurp($self->{log_file}, $from) : '' }
sub log_size { my ($self) = @_; return -s $self->{log_file} || 0 }

sub init
{
	my ($self, %settings) = @_;
	my %all = (%SMALL, %settings);
	my $r = run_command(kvd_bin('kvd'), '-D', $self->{dir}, (map { ('-c', "$_=$all{$_}") } sort keys %all),
		'--init-only');
	die "kvd --init-only: $r->{out}$r->{err}" if $r->{code} != 0;
	$self->append_conf(map { ($_ => $all{$_}) } sort keys %all);
	return $self;
}

sub append_conf
{
	my ($self, @settings) = @_;
	open my $out, '>>', "$self->{dir}/kvd.conf" or die "cannot write $self->{dir}/kvd.conf: $!\n";
	while (my ($name, $value) = splice @settings, 0, 2) {
		$value = "'$value'" if $value !~ /\A[\w.+-]+\z/;
		print $out "$name = $value\n";
	}
	close $out or die "cannot write kvd.conf: $!\n";
	return $self;
}

# Lines of postmaster.pid: pid, port, start, directory, state, addresses; empty list if there is none.
sub pid_file
{
	my ($self) = @_;
	open my $in, '<', "$self->{dir}/postmaster.pid" or return;
	chomp(my @lines = <$in>);
	return @lines;
}

sub state
{
	my ($self) = @_;
	return ($self->pid_file)[4] || '';
}

sub port
{
	my ($self) = @_;
	return $self->{port} || die "node $self->{name} has no port: it is not started\n";
}

sub start
{
	my ($self, %o) = @_;
	die "node $self->{name} runs already\n" if $self->{pid};
	# One in a sync of the disk takes its time to die; a start is refused after some seconds.
	my %orphan = map { $_ => 1 } @{ delete $self->{orphans} || [] };
	poll_until(sub { my $all = processes(); !grep { $orphan{$_} } keys %$all }, 60, 'the orphans to die') if %orphan;
	my $before = $self->log_size;
	my $pid = start_command({ out => $self->{log_file}, err => $self->{log_file} },
		kvd_bin('kvd'), '-D', $self->{dir}, @{ $o{args} || [] });
	if ($o{fails}) {
		my $code = wait_for($pid, 30);
		my $out = $self->log($before);
		if (!defined $code) {
			kill 'KILL', $pid;
			waitpid $pid, 0;
			$code = 'it started';
		}
		return { code => $code, out => $out };
	}
	$self->{pid} = $pid;
	$nodes{$pid} = $self;
	return $self if $o{no_wait};
	$self->wait_ready($o{timeout});
	return $self;
}

# Until the node (its current postmaster) is ready.
sub wait_ready
{
	my ($self, $timeout) = @_;
	poll_until(
		sub {
			my @lines = $self->pid_file;
			if (@lines == 6 && $lines[0] == $self->{pid} && $lines[4] eq 'ready') {
				$self->{port} = $lines[1];
				return 1;
			}
			my $code = $self->ended;
			die "kvd ended with $code instead of getting ready:\n" . $self->log . "\n" if defined $code;
			return 0;
		},
		$timeout || 60,
		sub { "node $self->{name} to get ready; its log:\n" . $self->log });
	return $self;
}

# Exit code if the postmaster has ended by now.
sub ended
{
	my ($self) = @_;
	return $self->{code} if !$self->{pid};
	my $code = wait_for($self->{pid}, 0);
	$self->forget($code) if defined $code;
	return $code;
}

sub forget
{
	my ($self, $code) = @_;
	delete $nodes{ $self->{pid} };
	$self->{old_pid} = $self->{pid};
	$self->{code} = $code;
	$self->{pid} = undef;
	return $code;
}

my %STOP = (smart => 'TERM', fast => 'INT', immediate => 'QUIT');

sub signal
{
	my ($self, $signal) = @_;
	kill $signal, $self->{pid} or die "cannot signal node $self->{name}: $!\n";
	return;
}

# The exit code, undef if it did not end in time.
sub wait_end
{
	my ($self, $seconds) = @_;
	return $self->{code} if !$self->{pid};
	my $code = wait_for($self->{pid}, $seconds || 30);
	$self->forget($code) if defined $code;
	return $code;
}

sub stop
{
	my ($self, $mode) = @_;
	return $self->{code} if !$self->{pid};
	$self->signal($STOP{ $mode || 'fast' });
	my $code = $self->wait_end(30);
	die "node $self->{name} does not stop ($mode); its log:\n" . $self->log if !defined $code;
	return $code;
}

sub restart
{
	my ($self, $mode) = @_;
	$self->stop($mode);
	return $self->start;
}

# pid => [ parent, title ] of all processes.
sub processes
{
	my %all;
	opendir my $proc, '/proc' or die "cannot read /proc: $!\n";
	for my $pid (grep { /\A\d+\z/ } readdir $proc) {
		open my $in, '<', "/proc/$pid/stat" or next;
		my $line = <$in>;
		next if !defined $line;
		my ($title, $state, $parent) = $line =~ /\A\d+ \((.*)\) (\S) (\d+)/s or next;
		$all{$pid} = [ $parent, $title ] if $state ne 'Z';
	}
	return \%all;
}

sub children
{
	my ($self) = @_;
	my $all = processes();
	my %kinds;
	push @{ $kinds{ $all->{$_}[1] } }, $_
		for grep { defined $self->{pid} && $all->{$_}[0] == $self->{pid} } sort keys %$all;
	return \%kinds;
}

sub kill9
{
	my ($self, $kind) = @_;
	my $pid;
	if ($kind eq 'postmaster') {
		$pid = $self->{pid};
	} else {
		my $pids = $self->children->{$kind} || [];
		$pid = $pids->[ rand @$pids ] if @$pids;
	}
	my $kids = $kind eq 'postmaster' ? $self->children : {}; # afterwards they have another parent
	return undef if !$pid || !kill 'KILL', $pid;
	if ($kind eq 'postmaster') {
		waitpid $pid, 0;
		$self->forget(-9);
		$self->{orphans} = [ map {@$_} values %$kids ];
	}
	return $pid;
}

# After a dead child: until the node has gone through `count` restart cycles since its start and is ready.
sub wait_restart
{
	my ($self, $count) = @_;
	poll_until(sub {
		my $c = eval { $self->client(timeout => 5) } or return 0;
		my $n = eval { $c->stats('node.restarts')->{'node.restarts'} };
		return defined $n && $n >= $count;
	}, 30, sub { "restart $count of node $self->{name}; its log:\n" . $self->log });
	return;
}

# Children are named as the program until they have run: compare them only afterwards.
sub wait_titles
{
	my ($self) = @_;
	poll_until(sub { !exists $self->children->{kvd} }, 60, 'the children to take their titles');
	return $self;
}

# Until the durable mark covers all of the log.
sub wait_mark
{
	my ($self) = @_;
	my @look = (kvd_bin('kv_waldump'), $self->dir);
	poll_until(sub { run_command(@look)->{err} =~ /no record at position (\d+).* up to (\d+):/ && $1 == $2 }, 60,
		'the durable mark to follow');
	return $self;
}

# The node's CONFIG record comes a moment after it is ready: what is written from here on stands behind it.
sub wait_config
{
	my ($self) = @_;
	my @look = (kvd_bin('kv_waldump'), '--kind', 'config', $self->dir);
	poll_until(sub { run_command(@look)->{out} ne '' }, 60, 'the CONFIG record');
	return $self;
}

sub client
{
	my ($self, %o) = @_;
	return Kvd::Client->new(port => $self->port, %o);
}

sub run
{
	my ($self, @command) = @_;
	return run_command(@command);
}

sub kvctl
{
	my ($self, @args) = @_;
	my @o = ref $args[0] ? shift @args : ();
	my $uri = 'kv://127.0.0.1:' . $self->port . "/$KVCTL_OPTIONS";
	my @where = $KVCTL_OPTIONS eq '' ? ('-p', $self->port) : ('-u', $uri);
	return run_command(@o, kvd_bin('kvctl'), @where, @args);
}

# --- the end ----------------------------------------------------------------------------------------

$SIG{$_} = sub { exit 1 } for qw(INT TERM HUP);

sub kill_all
{
	for my $pid (keys %nodes) {
		kill 'KILL', $pid;
		waitpid $pid, 0;
		delete $nodes{$pid};
	}
	return;
}

END {
	if ($$ == $main_pid) {
		my $code = $?;
		kill_all();
		if (defined $base) {
			my $good = $code == 0 && Test::More->builder->is_passing && !$ENV{KVD_KEEP};
			if ($good) {
				remove_tree($base);
			} else {
				spew("$base/failed", "exit code $code\n");
				Test::More::diag("directories and logs are kept in $base");
			}
		}
		$? = $code;
	}
}

1;
