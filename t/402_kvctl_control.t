#!/usr/bin/perl
#
# 402_kvctl_control.t - start, stop, restart, reload, status.
#
# Why so: operators and init scripts act on the exit codes, so each must be true at the moment the command returns:
# after start the server answers, after stop its process is gone and a new one can start at once.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;

my $base = test_dir();
my $dir = "$base/server";
my @small = map { "$_ = $Kvd::Test::SMALL{$_}\n" } sort keys %Kvd::Test::SMALL;
my %pids; # servers of this test that may be running

sub ctl
{
	my ($where, @args) = @_;
	my $r = run_command(kvd_bin('kvctl'), '-D', $where, '--timeout', '50s', @args);
	$pids{$1} = 1 if $r->{out} =~ /process (\d+)/;
	return $r;
}

# These servers are nobody's children.
END { kill 'KILL', keys %pids if %pids }

my $r = ctl($dir, 'status');
is($r->{code}, 3, 'status without a directory');
like($r->{err}, qr/no server is running in "\Q$dir\E"/, 'says so');
is(ctl($dir, 'stop')->{code}, 3, 'stop without a server');
is(ctl($dir, 'reload')->{code}, 3, 'reload without a server');
is(run_command(kvd_bin('kvctl'), 'start')->{code}, 2, 'start needs -D');

is(run_command(kvd_bin('kvd'), '-D', $dir, '--init-only')->{code}, 0, 'make a directory with small buffers');
open my $conf, '>>', "$dir/kvd.conf" or die $!;
print $conf @small;
close $conf or die $!;

$r = ctl($dir, 'start');
is($r->{code}, 0, 'start') or diag $r->{err};
my ($pid) = $r->{out} =~ /server is ready: process (\d+)/;
ok(kill(0, $pid), 'its process runs');
is((stat "$dir/kvd.log")[2] & 07777, 0600, 'its log is private');
is(ctl($dir, 'put', 'a', '1')->{code}, 0, 'it answers');
is(ctl($dir, 'status')->{code}, 0, 'status: running');
like(ctl($dir, 'status', '--format', 'json')->{out}, qr/^\{"state":"ready","pid":$pid,"listen":"127\.0\.0\.1",/,
	'status as JSON');
$r = ctl($dir, 'start');
is($r->{code}, 4, 'a second start is refused');
like($r->{err}, qr/running in .* already: process $pid/, 'and names the first');
is(ctl($dir, 'reload')->{code}, 0, 'reload');

for my $mode (qw(smart fast immediate)) {
	$r = ctl($dir, 'restart', '-m', $mode);
	is($r->{code}, 0, "restart, $mode") or diag $r->{err};
	my ($new) = $r->{out} =~ /server is ready: process (\d+)/;
	isnt($new, $pid, 'another process');
	$pid = $new;
	is(ctl($dir, 'get', 'a')->{out}, '1', 'with the same data');
}
is(ctl($dir, 'stop', '-m', 'softly')->{code}, 2, 'an unknown mode');
$r = ctl($dir, 'stop');
is($r->{code}, 0, 'stop');
# Its parent is init by now, which may take a moment to collect it: a zombie counts as gone.
ok(poll_until(sub { !Kvd::Test::processes()->{$pid} }, 60, 'the process to go'), 'the process is gone');
is(ctl($dir, 'status')->{code}, 3, 'status: not running');
is(ctl($dir, 'get', 'a')->{code}, 3, 'a command finds no server');

say_why('a server that dies at its start: its last words are shown');
open $conf, '>>', "$dir/kvd.conf" or die $!;
print $conf "frobnicate = 1\n";
close $conf or die $!;
$r = ctl($dir, 'start');
is($r->{code}, 4, 'start of a bad configuration');
like($r->{err}, qr/the server ended with exit code 1/, 'how it ended');
like($r->{err}, qr/^last lines of .*kvd\.log:\n.*frobnicate/ms, 'what it said');
spew("$dir/kvd.conf", join '', @small);

say_why('a pid file that a kill left behind is not believed');
is(ctl($dir, 'start')->{code}, 0, 'start');
my ($killed) = slurp("$dir/postmaster.pid") =~ /\A(\d+)/;
kill 'KILL', $killed;
poll_until(sub { ctl($dir, 'status')->{code} == 3 }, 60, 'status to see it');
ok(-e "$dir/postmaster.pid", 'the pid file is still there');
is(ctl($dir, 'stop')->{code}, 3, 'stop signals nobody');
is(ctl($dir, 'start', '-c', 'log_level=debug', '-c', 'l0_trigger=3')->{code}, 0, 'start again, with settings');
is(ctl($dir, 'config', 'get', 'log_level')->{out}, "debug\n", 'which is in force');
is(ctl($dir, 'config', 'get', 'l0_trigger')->{out}, "3\n", 'the second too');
is(ctl($dir, 'get', 'a')->{out}, '1', 'data is there');
is(ctl($dir, 'stop')->{code}, 0, 'stop');

say_why('after a kill -9 the next start need not be waited for, though the dead server\'s lock and children linger');
for my $round (1 .. 3) {
	is(ctl($dir, 'start')->{code}, 0, 'start') if $round == 1;
	my ($victim) = slurp("$dir/postmaster.pid") =~ /\A(\d+)/;
	kill 'KILL', $victim;
	$r = ctl($dir, 'start');
	is($r->{code}, 0, "kill and start at once, round $round") or diag $r->{err};
	isnt((slurp("$dir/postmaster.pid") =~ /\A(\d+)/)[0], $victim, 'another process');
}
is(ctl($dir, 'stop')->{code}, 0, 'stop');

say_why('settings count when the directory is made too: the size of log files is fixed then');
my $sized = "$base/sized";
my @c = map { ('-c', "$_=$Kvd::Test::SMALL{$_}") } grep { $_ ne 'wal_segment_size' } sort keys %Kvd::Test::SMALL;
$r = ctl($sized, 'start', @c, '-c', 'wal_segment_size=3MB');
is($r->{code}, 4, 'a size that can not be');
like($r->{err}, qr/-c: 3MB is no value for "wal_segment_size": it must be a power of two/, 'is told');
ok(!-e $sized, 'and nothing was made');
is(ctl($sized, 'start', @c, '-c', 'wal_segment_size=2MB')->{code}, 0, 'start in a new directory');
is((-s (glob "$sized/wal/*.kvw")[0]), 2 << 20, 'its log files have the size asked for');
unlike(slurp("$sized/kvd.log"), qr/wal_segment_size|replayed the log/, 'nothing to remark');
is(ctl($sized, 'restart', @c, '-c', 'wal_segment_size=4MB')->{code}, 0, 'restart with another size');
is(scalar(() = slurp("$sized/kvd.log") =~ /WARNING.*wal_segment_size = 4MB \(command line\).*made with 2MB/g), 1,
	'one warning names both');
like(slurp("$sized/kvd.log"), qr/replayed the log up to/, 'a log that holds something is replayed');
is(ctl($sized, 'restart', @c)->{code}, 0, 'restart with none');
is(scalar(() = slurp("$sized/kvd.log") =~ /wal_segment_size/g), 1, 'no warning about a default');
is(ctl($sized, 'stop')->{code}, 0, 'stop');

say_why('a missing directory is made, one with other files is refused');
mkdir "$base/other" or die $!;
spew("$base/other/file", 'x');
$r = ctl("$base/other", 'start');
is($r->{code}, 4, 'a foreign directory');
like($r->{err}, qr/is not empty/, 'says why');
is_deeply([ map { s/.*\///r } glob "$base/other/*" ], ['file'], 'and leaves nothing in it');

done_testing;
