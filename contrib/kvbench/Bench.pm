package Bench;

# What the benchmark scripts of this folder share: a temporary directory, processes that end with the script, kvd
# servers and clusters, numbers for people.

use strict;
use warnings;
use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(dirname basename);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use JSON::PP;
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(time sleep);
use lib dirname(abs_path(__FILE__)) . '/../../t';
use Kvd::Client;

our @EXPORT = qw($root $bin $tmp $keep in_path spawn_process output_of wait_until end_process free_port slurp
	start_kvd start_node start_cluster find_leader leader_now stop_kvd kvbench median thousands machine_line);

our $root = abs_path(dirname(__FILE__) . '/../..');
our $bin = $ENV{KVD_BIN} || "$root/build/bin";
our $keep = 0;
our $tmp = tempdir('kvd-bench-XXXXXX', TMPDIR => 1, CLEANUP => 0);

my %running; # pid => 1
my $serial = 0;
my $main = $$;
my $name = basename($0);
$SIG{$_} = sub { exit 1 } for qw(INT TERM HUP);

END {
	if ($$ == $main) {
		my $code = $?;
		kill 'KILL', keys %running;
		waitpid $_, 0 for keys %running;
		$keep ? print STDERR "kept: $tmp\n" : remove_tree($tmp);
		$? = $code;
	}
}

sub in_path { my ($p) = @_; return (grep { -x $_ } map { "$_/$p" } split /:/, $ENV{PATH})[0] }

# --- processes --------------------------------------------------------------------------------------

sub spawn_process
{
	my ($log, @command) = @_;
	my $pid = fork;
	die "fork: $!\n" if !defined $pid;
	if ($pid == 0) {
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $log;
		open STDERR, '>&', \*STDOUT;
		exec {$command[0]} @command or POSIX::_exit(127);
	}
	$running{$pid} = 1;
	return $pid;
}

sub output_of
{
	my (@command) = @_;
	open my $pipe, '-|', @command or die "cannot run $command[0]: $!\n";
	local $/;
	my $text = <$pipe>;
	close $pipe or die "@command failed: " . ($? >> 8) . "\n";
	return defined $text ? $text : '';
}

sub wait_until
{
	my ($what, $seconds, $code) = @_;
	my $until = time + $seconds;
	until ($code->()) {
		die "$name: waited in vain for $what; see $tmp\n" if time > $until;
		sleep 0.002;
	}
	return;
}

sub end_process
{
	my ($pid, $signal) = @_;
	kill $signal, $pid;
	waitpid $pid, 0;
	delete $running{$pid};
	return;
}

sub free_port
{
	my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', Proto => 'tcp') or die "no free port: $!\n";
	return $s->sockport;
}

sub slurp
{
	my ($path) = @_;
	open my $in, '<', $path or return '';
	local $/;
	my $t = <$in>;
	return defined $t ? $t : '';
}

# --- kvd --------------------------------------------------------------------------------------------

# The pid and port of a server that is ready; undef while it is not.
sub ready_port
{
	my ($pid, $dir) = @_;
	my @lines = split /\n/, slurp("$dir/postmaster.pid");
	die "kvd ended: " . slurp("$dir.log") if waitpid($pid, WNOHANG) == $pid;
	return @lines >= 5 && $lines[0] == $pid && $lines[4] eq 'ready' ? $lines[1] : undef;
}

# A node: { pid, port, dir }. dir undef: a new one. program: another kvd than $bin's.
sub start_kvd
{
	my ($dir, $settings, $program) = @_;
	$dir ||= "$tmp/kvd" . ++$serial;
	my $pid = spawn_process("$dir.log", $program || "$bin/kvd", '-D', $dir, '-p', '0',
		map { ('-c', $_) } @{ $settings || [] });
	my $port;
	wait_until('kvd', 60, sub { $port = ready_port($pid, $dir) });
	return { pid => $pid, port => $port, dir => $dir, settings => $settings };
}

sub stop_kvd
{
	for my $s (@_) {
		end_process($s->{pid}, 'INT');
		remove_tree($s->{dir}) if !$keep;
	}
	return;
}

# Start (again) a node of a cluster; it is not ready yet.
sub start_node
{
	my ($node) = @_;
	$node->{pid} = spawn_process("$node->{dir}.log", "$bin/kvd", '-D', $node->{dir}, '-p', $node->{port},
		map { ('-c', $_) } @{ $node->{settings} });
	return;
}

# n nodes that form a cluster; returns them when one of them leads.
sub start_cluster
{
	my ($n, @settings) = @_;
	my @peers = map { free_port() } 1 .. $n;
	my $members = join ',', map { "n$_\@127.0.0.1:$peers[$_ - 1]" } 1 .. $n;
	my @nodes;
	for my $i (1 .. $n) {
		my $own = [ "node_name=n$i", "peer_port=$peers[$i - 1]", "cluster_members=$members", @settings ];
		push @nodes, { dir => "$tmp/n$i-" . ++$serial, settings => $own, name => "n$i", port => free_port() };
		start_node($nodes[-1]);
	}
	for my $node (@nodes) {
		wait_until("node $node->{name}", 60, sub { ready_port($node->{pid}, $node->{dir}) });
	}
	find_leader(@nodes);
	return @nodes;
}

# The node that leads and answers reads; undef: none now.
sub leader_now
{
	for my $node (@_) {
		my $found = eval {
			my $c = Kvd::Client->new(port => $node->{port});
			$c->{role} == 1 && $c->get('bench.leader')->{status} =~ /^(?:OK|NOT_FOUND)$/;
		};
		return $node if $found;
	}
	return undef;
}

sub find_leader
{
	my (@nodes) = @_;
	my $leader;
	wait_until('a leader', 60, sub { $leader = leader_now(@nodes) });
	return $leader;
}

sub kvbench
{
	my ($s, @args) = @_;
	return decode_json(output_of("$bin/kvbench", '-p', $s->{port}, '--json', @args));
}

# --- numbers ----------------------------------------------------------------------------------------

sub median { my @v = sort { $a <=> $b } @_; return @v % 2 ? $v[ $#v / 2 ] : ($v[ @v / 2 - 1 ] + $v[ @v / 2 ]) / 2 }

sub thousands { my ($n) = @_; $n = sprintf '%.0f', $n; 1 while $n =~ s/^(\d+)(\d{3})/$1,$2/; return $n }

sub machine_line
{
	my ($runs) = @_;
	my ($cpu) = slurp('/proc/cpuinfo') =~ /^model name\s*: (.*)$/m;
	my $cpus = () = slurp('/proc/cpuinfo') =~ /^processor\s*:/mg;
	return join ', ', POSIX::strftime('%Y-%m-%d', gmtime), ($cpus || '?') . ' x ' . ($cpu || 'unknown CPU'),
		'Linux ' . (POSIX::uname())[2], "medians of $runs";
}

1;
