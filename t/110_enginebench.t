#!/usr/bin/perl
#
# 110_enginebench.t - enginebench does what it says, on a small scale.
#
# Why so: a bench that is not run rots, and one that counts wrongly misleads. What was written must be found, by
# number, after each way to write; a directory that is not its own must stay as it is.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;

use constant KEYS => 2000;

my $dir = test_dir() . '/bench';
my $bench = kvd_bin('../test/enginebench');

my @small = ('--num=' . KEYS, '--cache_size=4194304', '--write_buffer_size=33554432');

sub bench { return run_command($bench, "--db=$dir", @small, @_) }

sub count_is
{
	my ($out, $workload, $n, $found) = @_;
	my ($ops) = $out =~ /^$workload +: .* ([0-9]+) operations;/m;
	is($ops, $n, "$workload: $n operations");
	like($out, qr/^$workload +: .*\($found of $n found\)/m, "... $found found") if defined $found;
	return;
}

subtest 'usage' => sub {
	my $r = run_command($bench, '--help');
	is($r->{code}, 0, '--help');
	like($r->{out}, qr/^  \Q$_\E /m, "... lists $_")
		for qw(fillseq fillrandom overwrite readrandom readmissing readseq readreverse seekrandom deleterandom
		readwhilewriting fillsync compact stats reopen waitforcompaction);
	is(run_command($bench)->{code}, 2, 'a directory has to be named');
	for my $wrong (qw(--num=0 --num=x --num=1.5 --threads=64 --key_size=7 --nosuch=1 --benchmarks=nosuch --set=nosuch=1
		--compression_type=odd)) {
		is(bench($wrong)->{code}, 2, $wrong);
	}
	ok(!-e $dir, 'nothing was made');
};

subtest 'a directory that is not its own' => sub {
	mkdir $dir or die "$dir: $!";
	spew("$dir/precious", 'x');
	is(bench('--benchmarks=fillseq')->{code}, 1, 'is refused');
	is(slurp("$dir/precious"), 'x', '... and left alone');
	unlink "$dir/precious" or die;
};

subtest 'what is written is found' => sub {
	my $r = bench('--keep=1', '--benchmarks=fillseq,readrandom,readmissing,readseq,compact,readrandom,readreverse,'
		. 'seekrandom,overwrite,stats,reopen,readseq,waitforcompaction', '--seek_nexts=10', '--reads=' . KEYS);
	is($r->{code}, 0, 'all workloads end') or diag $r->{err};
	count_is($r->{out}, 'fillseq', KEYS);
	count_is($r->{out}, 'readrandom', KEYS, KEYS);
	count_is($r->{out}, 'readmissing', KEYS, 0);
	count_is($r->{out}, $_, KEYS, KEYS) for qw(readseq readreverse);
	count_is($r->{out}, 'seekrandom', KEYS, KEYS);
	my ($entries) = $r->{out} =~ /^  entries +: ([0-9]+)$/m;
	cmp_ok($entries, '>', KEYS * 10, 'seekrandom: the seek and 10 more') or diag $r->{out};
	is(() = $r->{out} =~ /^readrandom +: .*\(@{[KEYS]} of /mg, 2, 'readrandom: found in memory and in tables');
	is(() = $r->{out} =~ /^readseq +: .*\(@{[KEYS]} of /mg, 2, 'readseq: all are there after reopen');
	like($r->{out}, qr/^  flush\.count +1$/m, 'stats');
	like($r->{out}, qr/^reopen +: [0-9.]+ seconds$/m, 'reopen');
	like($r->{out}, qr/^  space amp +: [0-9.]+, at most [0-9.]+ meanwhile \([0-9.]+ MB live in @{[KEYS]} entries\)$/m,
		'live entries are counted');
	like($r->{out}, qr/^  latency us +: p50 [0-9.]+ p99 [0-9.]+ p99\.9 [0-9.]+ max [0-9.]+$/m, 'latencies');
	like($r->{out}, qr/^  stalls +: \d+ over 10\.0 ms, longest \d+\.\d ms, \d+\.\d ms in all$/m, 'stalls');
};

subtest 'stalls' => sub {
	my $stalls = qr/^  stalls +: (\d+) over (\S+) ms, longest (\S+) ms, (\S+) ms in all$/m;
	my @fill = ($bench, "--db=$dir.stalls", @small, '--benchmarks=fillsync');
	my ($n, $over, $longest, $all) = run_command(@fill, '--stall_us=1')->{out} =~ $stalls;
	is($n, KEYS / 1000 + 1, 'each write that waits for the disk takes longer than 1 us');
	is($over, '0.0', '... the bound is told');
	cmp_ok($all, '>=', $longest, '... all of them are no shorter than the longest');
	($n, $over, $longest, $all) = run_command(@fill, '--stall_us=1000000000')->{out} =~ $stalls;
	is_deeply([ $n, $over, $longest, $all ], [ 0, '1000000.0', '0.0', '0.0' ], 'none takes a quarter of an hour');
};

subtest 'in the same directory again' => sub {
	my $r = bench('--use_existing_db=1', '--benchmarks=overwrite', '--writes=500', '--keep=1');
	count_is($r->{out}, 'overwrite', 500);
	$r = bench('--use_existing_db=1', '--benchmarks=overwrite', '--writes=1', '--keep=1', '--duration=1');
	my ($seconds, $ops) = $r->{out} =~ /^overwrite +: .* ([0-9.]+) seconds ([0-9]+) operations;/m;
	cmp_ok($ops, '>=', 1, 'a second, not a write');
	cmp_ok($seconds, '>', 1, '... is a second');
	$r = bench('--use_existing_db=1', '--benchmarks=readrandom,deleterandom,flush,readseq', '--direct=1');
	is($r->{code}, 0, 'runs') or diag $r->{err};
	count_is($r->{out}, 'readrandom', KEYS, KEYS);
	count_is($r->{out}, 'deleterandom', KEYS);
	my ($left) = $r->{out} =~ /^readseq +: .*\(([0-9]+) of/m;
	cmp_ok(abs($left / KEYS - exp(-1)), '<', 0.1, 'about 1/e of the keys is not hit by as many random deletions');
	like($r->{out}, qr/^  write amp +: (?!0\.00)[0-9.]+ /m, 'what was flushed counts');
};

subtest 'several processes' => sub {
	my $r = bench('--threads=3', '--batch_size=7',
		'--benchmarks=fillseq,readseq,filluniquerandom,readrandom,fillrandom,fillbatch,readwhilewriting,fillsync');
	is($r->{code}, 0, 'all workloads end') or diag $r->{err};
	count_is($r->{out}, 'fillseq', KEYS);
	count_is($r->{out}, 'readseq', 3 * KEYS, 3 * KEYS);
	count_is($r->{out}, 'filluniquerandom', KEYS);
	count_is($r->{out}, 'readrandom', 3 * KEYS, 3 * KEYS);
	count_is($r->{out}, 'fillrandom', KEYS);
	count_is($r->{out}, 'fillbatch', KEYS);
	count_is($r->{out}, 'readwhilewriting', 3 * KEYS);
	like($r->{out}, qr/^  writer beside +: .* [1-9][0-9]* operations;/m, '... with a writer');
	count_is($r->{out}, 'fillsync', KEYS / 1000 + 1);
	is_deeply([ glob "$dir/*" ], ["$dir/enginebench.mark"], 'nothing is left but the mark of its directory');
};

done_testing;
