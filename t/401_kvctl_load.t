#!/usr/bin/perl
#
# 401_kvctl_load.t - load and dump: any bytes come back as they were, and a failure says exactly what is stored.
#
# Why so: people use these two for backups and migrations. So the corpus is random bytes of all lengths, both forms are
# read back and compared byte for byte, and after each kind of failure the number that load names is checked.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;

seed();
$Kvd::Test::KVCTL_OPTIONS = '?timeout=50s';
my $node = Kvd::Test->new('main')->init(port => keep_port(), memtable_size => '32MB')->start;
my $dir = test_dir();

sub random_bytes { my ($max) = @_; return join '', map { chr int rand 256 } 1 .. int rand $max + 1 }

sub tsv { my ($s) = @_; $s =~ s/([\x00-\x1f\x7f\\])/sprintf '\\x%02x', ord $1/ge; return $s }

say_why('random binary records, some large, through TSV');
my %want;
for (1 .. 3000) {
	my $key = random_bytes(40);
	$want{ $key eq '' ? 'x' : $key } = random_bytes(rand() < 0.02 ? 5000 : 60);
}
$want{large} = 'x' x 3_000_000;
$want{"k" x 65536} = '';
spew("$dir/in.tsv", join '', map { tsv($_) . "\t" . tsv($want{$_}) . "\n" } keys %want);
my $r = $node->kvctl('load', "$dir/in.tsv");
is($r->{code}, 0, 'load') or diag $r->{err};
is($r->{out}, keys(%want) . "\n", 'load says how many');
is($node->kvctl('count')->{out}, keys(%want) . "\n", 'all are there');

sub unescape
{
	my ($s) = @_;
	my %c = (n => "\n", t => "\t", r => "\r", '\\' => '\\');
	$s =~ s/\\(?:x(..)|(.))/defined $1 ? chr hex $1 : $c{$2}/ge;
	return $s;
}
$r = $node->kvctl('dump');
is($r->{code}, 0, 'dump to standard output');
my $dump = $r->{out};
my (%got, @keys);
for (split /\n/, $dump) {
	my ($k, $v) = map { unescape($_) } split /\t/, $_, -1;
	$got{$k} = $v;
	push @keys, $k;
}
is_deeply(\@keys, [ sort keys %want ], 'dump has every key, in the order of bytes');
is(scalar(grep { $got{$_} ne $want{$_} } keys %want), 0, 'and every value');

say_why('TSV and JSON lead to the same server again');
for my $form ([ 'tsv', 'dump.tsv' ], [ 'json', 'dump.jsonl' ]) {
	my ($name, $file) = @$form;
	is($node->kvctl('dump', "$dir/$file")->{code}, 0, "dump to a file, $name");
	ok(!-e "$dir/$file.tmp", 'nothing unfinished is left');
	is($node->kvctl('del', '--prefix', '')->{code}, 0, 'delete everything');
	is($node->kvctl('count')->{out}, "0\n", 'nothing is left');
	is($node->kvctl('load', "$dir/$file")->{code}, 0, "load it again, $name");
	ok($node->kvctl('dump')->{out} eq $dump, 'the same bytes');
}
ok(slurp("$dir/dump.tsv") eq $dump, 'to a file as to standard output');
unlike(slurp("$dir/dump.jsonl"), qr/[^\x0a\x20-\x7e\x80-\xff]/, 'JSON lines hold no control characters');
is($node->kvctl('del', '--prefix', '')->{code}, 0, 'delete everything');

say_why('TTLs travel in JSON');
my $json = qq({"key":"t","value":"x","ttl_ms":3600000}\n{"key":"u","value":"y"}\n);
is($node->kvctl({ stdin => $json }, 'load', '--json')->{code}, 0, 'load');
($r = $node->kvctl('dump', '--json')->{out}) =~ s/"ttl_ms":3[56]\d{5}\}/"ttl_ms":3600000}/;
is($r, $json, 'dump');

say_why('ranges of a dump');
is($node->kvctl('dump', '--prefix', 'u')->{out}, "u\ty\n", '--prefix');
is($node->kvctl('dump', '--start', 't', '--end', 'u')->{out}, "t\tx\n", '--start and --end');

say_why('a bad line is named, and what stands before it is stored');
my @bad = (
	[ "no tab here", qr/no TAB between key and value/ ],
	[ "a\tb\tc", qr/more than one TAB/ ],
	[ "\tvalue", qr/key is empty/ ],
	[ "k\t\\q", qr/"\\q" is no escape/ ], [ 'k' x 65537 . "\tv", qr/key has 65537 bytes; at most 65536/ ],
);
for my $bad (@bad) {
	$node->kvctl('del', '--prefix', '');
	spew("$dir/bad.tsv", join('', map { "k$_\tv\n" } 1 .. 5000) . "$bad->[0]\nafter\tx\n");
	$r = $node->kvctl('load', "$dir/bad.tsv");
	is($r->{code}, 2, 'load stops') or diag $r->{err};
	like($r->{err}, qr/^kvctl: load: \Q$dir\E\/bad\.tsv:5001: /, 'file and line');
	like($r->{err}, $bad->[1], 'what is wrong');
	like($r->{err}, qr/; 5000 records are stored for certain; .*--skip 5000/, 'how many are stored, how to go on');
	is($node->kvctl('count')->{out}, "5000\n", 'so many are stored');
}
$r = $node->kvctl({ stdin => "{\"key\":\"a\",\"value\":\"b\"}\n{\"key\":5}\n" }, 'load', '--json');
like($r->{err}, qr/^kvctl: load: stdin:2: .*; 1 record is stored/, 'JSON from standard input too');
is($node->kvctl('load', "$dir/missing")->{code}, 2, 'a file that is not there');

say_why('the server dies during a load: what load counts as stored is stored');
$node->kvctl('del', '--prefix', '');
open my $out, '>', "$dir/big.tsv" or die $!;
print $out "key$_\t" . 'v' x 1000 . "\n" for 100000 .. 399999;
close $out or die $!;
my $log = "$dir/load.err";
my $fifo = "$dir/flow.tsv";
POSIX::mkfifo($fifo, 0600) or die "mkfifo: $!";
# It does not end by itself: however late we look, the kill meets a load.
my $feeder = start_command({ out => $fifo }, 'sh', '-c', 'cat "$1" && exec sleep 1000', 'sh', "$dir/big.tsv");
my $pid = start_command({ err => $log }, kvd_bin('kvctl'), '-p', $node->port, '--timeout', '10s', 'load', $fifo);
poll_until(sub { $node->kvctl('count')->{out} > 1000 }, 60, 'the load to begin');
$node->kill9('postmaster');
kill 'KILL', $feeder;
waitpid $feeder, 0;
poll_until(sub { waitpid($pid, 1) == $pid }, 60, 'the load to end');
my $code = $? >> 8;
like($code, qr/\A[35]\z/, 'load ends with "connection lost" or "outcome unknown"') or diag slurp($log);
my ($stored) = slurp($log) =~ /(\d+) records? (?:is|are) stored for certain/;
ok(defined $stored, 'it says how many are stored') or diag slurp($log);
$node->start;
my $count = $node->kvctl('count')->{out} + 0;
cmp_ok($count, '>=', $stored, "they are ($count of at least $stored)");
my ($skip) = slurp($log) =~ /--skip (\d+)/;
is($skip, $stored, 'it says how to go on');
$r = $node->kvctl('load', '--skip', $skip, "$dir/big.tsv");
is("$r->{code} $r->{out}", '0 ' . (300_000 - $skip) . "\n", 'what is left is loaded') or diag $r->{err};
is($node->kvctl('count')->{out}, "300000\n", '... which makes all');
$r = $node->kvctl('load', '--skip', 300_001, "$dir/big.tsv");
is($r->{code}, 2, 'more records to be left out than there are');

say_why('the server dies during a load and comes back: the load goes on by itself');
$node->kvctl('del', '--prefix', '');
unlink $log;
$pid = start_command({ err => $log }, kvd_bin('kvctl'), '-p', $node->port, '--timeout', '50s', 'load', "$dir/big.tsv");
poll_until(sub { $node->kvctl('count')->{out} > 1000 }, 60, 'the load to begin');
$node->kill9('postmaster');
$node->start;
$code = Kvd::Test::wait_for($pid, 300);
is($code, 0, 'it ends well') or diag slurp($log);
is($node->kvctl('count')->{out}, "300000\n", '... and all is there');

is($node->stop, 0, 'the node stops');

say_why('sorted records are moved down as they are, although each batch of them also writes a session slot');
my $fresh = Kvd::Test->new('fresh')->init(memtable_size => '32MB')->start;
$r = $fresh->kvctl('load', "$dir/big.tsv");
is($r->{code}, 0, 'load') or diag $r->{err};
my $c = $fresh->client(timeout => 120);
is($c->checkpoint->{status}, 'OK', 'checkpoint');
my $stats = sub { return $c->stats('compaction.')->{"compaction.$_[0]"} };
poll_until(sub { $stats->('trivial_moves') > 0 && $stats->('running_total') == 0 }, 60, 'tables to be moved');
cmp_ok($stats->('bytes_out'), '<', 3_000_000, 'no more than a hundredth was written again');
is($fresh->stop, 0, 'the node stops');
done_testing;
