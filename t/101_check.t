#!/usr/bin/perl
#
# 101_check.t - kvd --check: one flipped byte in each kind of file is found, named, and told by the exit code.
#
# Why so: a check that calls a damaged directory whole is worse than none, and scripts go by the exit code. So each
# kind of file is flipped, cut and removed in turn, alone and several at once, on a directory that has all of them.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use IO::Handle;
use Kvd::Test;
use POSIX ();
use Time::HiRes qw(time);

my $kvd = kvd_bin('kvd');
my $node = Kvd::Test->new('main')->init(peer_port => 0, blob_threshold => '1kB')->start;
my $c = $node->client;
for my $table (1 .. 3) {
	$c->put("k$table.$_", 'x' x ($_ > 90 ? 2000 : 500)) for 1 .. 100;
	is($c->checkpoint->{code}, 0, "table $table");
}
$c->put("tail$_", 'y' x 100) for 1 .. 20;

sub check { return run_command({ timeout => 60 }, $kvd, '-D', $node->dir, '--check') }

my $r = check();
is($r->{code}, 4, 'a running server: in use');
like($r->{err}, qr/process @{[$node->pid]}\b/, '... by that process');
is($node->stop, 0, 'stop');

my %before = map { $_ => slurp($_) } grep { -f } glob($node->dir . '/*'), glob($node->dir . '/*/*');
$r = check();
is($r->{code}, 0, 'a sound directory') or diag $r->{out} . $r->{err};
my @all = glob $node->dir . '/tables/*.kvt'; # the system's keys may have one of their own
my $all = @all;
like($r->{out}, qr/: $all tables with \d+ entries, \d+ log records, .*: no damage found$/,
	'... and what was looked at');
for (sort keys %before) {
	next if /kvd\.(?:lock|alive)\z/;
	fail("$_ was changed") if slurp($_) ne $before{$_};
}

# --- one at a time ----------------------------------------------------------------------------------

my ($manifest) = glob $node->dir . '/MANIFEST-*';
my ($log) = glob $node->dir . '/wal/*.kvw';
my @tables = sort grep { -s $_ > 16384 } @all;
is(scalar @tables, 3, 'three tables of keys');
my ($values) = sort glob $node->dir . '/values/*.kvv';
like(run_command(kvd_bin('kv_sstdump'), 'values', $node->dir)->{out}, qr/^[0-9a-f]{16}\t\d+\t10\t20000$/m,
	'a value file');
my $log_used = length($before{$log} =~ s/\0+\z//r);

sub spoiled
{
	my ($file, $new) = @_;
	defined $new ? spew($file, $new) : unlink $file;
	my $found = check();
	spew($file, $before{$file});
	return $found;
}

sub flipped
{
	my ($file, $at) = @_;
	substr(my $bytes = $before{$file}, $at, 1) ^= "\x04";
	return $bytes;
}
my $dir = $node->dir;
for my $case (
	[ 'a table, first block', $tables[0], 10 ], [ 'a table, filter', $tables[1], length($before{ $tables[1] }) - 2000 ],
	[ 'a table, footer', $tables[2], -1 ], [ 'the manifest, header', $manifest, 20 ],
	[ 'a value file', $values, 1000 ],
	[ 'the manifest, list of tables', $manifest, 50 ], [ 'CURRENT', "$dir/CURRENT", 3 ],
	[ 'the log, last record', $log, $log_used - 20 ], [ 'kvd.control', "$dir/kvd.control", 30 ],
	[ 'a vote file', "$dir/vote.0", 30 ], [ 'the other vote file', "$dir/vote.1", 60 ],
	[ 'kvd.members', "$dir/kvd.members", 40 ])
{
	my ($what, $file, $at) = @$case;
	next if !exists $before{$file}; # a node alone has no members yet
	$r = spoiled($file, flipped($file, $at));
	my $name = $file =~ s{.*/}{}r;
	is($r->{code}, 3, "$what: one bit") or diag $r->{out} . $r->{err};
	like($r->{out} . $r->{err}, qr/\Q$name\E/, '... the file is named');
	next if $file =~ /kvd\.members|kvd\.control|CURRENT/;
	$r = spoiled($file, undef);
	is($r->{code}, 3, "$what: gone");
	like($r->{out} . $r->{err}, qr/\Q$name\E/, '... named');
}
like(spoiled($tables[0], flipped($tables[0], 10))->{out}, qr/^damage: tables.* at byte \d+ .*restore/m,
	'a finding says where and what to do');
is(spoiled("$dir/wal/mark", "\0" x 8192)->{code}, 3, 'no durable mark');
is(spoiled($log, substr($before{$log}, 0, $log_used - 40))->{code}, 3, 'a log that is too short');

# --- progress on a terminal -------------------------------------------------------------------------

# It is told five times a second. So that it takes that long, the first finding has to wait: its pipe is full.
SKIP: {
	my ($tty, $name) = open_terminal() or skip 'no pseudo terminal', 5;
	-d '/proc/self/fd' or skip 'needs /proc to see how far it is', 5;
	pipe my $from, my $to or die "pipe: $!";
	$to->blocking(0);
	my $filled = 0;
	while (my $n = syswrite $to, 'x' x 512) { $filled += $n }
	$to->blocking(1);
	spew("$dir/vote.0", flipped("$dir/vote.0", 30));

	my $pid = fork // die "fork: $!";
	if ($pid == 0) {
		Kvd::Test::die_with_parent(getppid);
		POSIX::dup2(fileno $to, 1);
		open my $side, '+<', $name or POSIX::_exit(126);
		POSIX::dup2(fileno $side, 2);
		exec $kvd, '-D', $dir, '--check' or POSIX::_exit(127);
	}
	close $to;
	# It has begun once it has the lock.
	poll_until(sub { grep { (readlink // '') =~ m{/kvd\.lock\z} } glob "/proc/$pid/fd/*" }, 60, 'the lock');
	my $begun = time;
	poll_until(sub { time - $begun > 0.25 }, 60, 'a quarter of a second');
	my $out = do { local $/; <$from> };
	waitpid $pid, 0;
	is($? >> 8, 3, 'on a terminal: a damage');
	$tty->blocking(0);
	my $told = '';
	while (sysread $tty, my $more, 4096) { $told .= $more }
	like($told, qr{\A\rchecking: \d+ %, \d+ of \d+ MB, \d+ MB/s\e\[K}, '... a line of progress');
	like($told, qr{\r\e\[K\z}, '... which is gone in the end');
	unlike($told, qr/\n/, '... and never left behind');
	like(substr($out, $filled), qr/\Adamage: .*vote\.0.*\n.*: 1 damages, 0 not to be read\n\z/,
		'... what was found is as in a file');
	spew("$dir/vote.0", $before{"$dir/vote.0"});
}

# --- several ----------------------------------------------------------------------------------------

spew($tables[0], flipped($tables[0], 10));
spew($log, flipped($log, $log_used - 20));
unlink $tables[2];
$r = check();
is($r->{code}, 3, 'three damages');
my @findings = $r->{out} =~ /^damage: (.*)/mg;
is(scalar @findings, 3, '... in one run') or diag $r->{out};
like($r->{out}, qr/: 3 damages, 0 not to be read$/, '... and counted');
spew($_, $before{$_}) for $tables[0], $tables[2], $log;

SKIP: {
	skip 'root may read everything', 2 if $> == 0;
	chmod 0, $tables[1];
	$r = check();
	is($r->{code}, 1, 'a table that may not be read is not called damaged');
	like($r->{out}, qr/^cannot be read: .*Permission denied/m, '... but why');
	chmod 0600, $tables[1];
}

is(check()->{code}, 0, 'as it was');
is(run_command($kvd, '-D', test_dir(), '--check')->{code}, 1, 'no data directory');
$node->start;
is($node->client->count->{count}, 320, 'the server has it all');
is($node->stop, 0, 'stop');
done_testing;
