#!/usr/bin/perl
#
# 103_memory.t - more memory than there is: refused at start, in words, at the byte; never a SIGBUS later.
#
# Why so: shared memory is promised before it exists. A server that finds out later dies in the middle of its work, or
# another process does. The machine's memory is what KVD_TEST_MEMORY says; a small /dev/shm is mounted.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use File::Path qw(make_path);
use Kvd::Test;

my $node = Kvd::Test->new('main')->init->start;
my $s = $node->client->stats;
my $mapped = $s->{'memory.mapped'};
my $parts = 0;
$parts += $s->{"memory.$_"} for qw(wal_buffers memtables block_cache metadata);
cmp_ok($mapped, '>', $parts, 'all of it is more than its parts');
cmp_ok($mapped - $parts, '<', 32 << 20, '... by what processes need');
cmp_ok($s->{'memory.limit'}, '>=', $mapped, '... and the machine has it');
is($node->stop, 0, 'stop');

# Seven eighths of the machine's memory, which is asked for in steps of 8 bytes.
my $needed = int(($mapped + 6) / 7) * 8;
for my $more (-8, 0, 8) {
	local $ENV{KVD_TEST_MEMORY} = $needed + $more;
	if ($more < 0) {
		my $r = $node->start(fails => 1);
		is($r->{code}, 1, 'one byte too many is refused');
		my $mb = $mapped >> 20;
		like($r->{out}, qr/ask for $mb MB of shared memory \(wal_buffers 66, memtable_count x memtable_size 64, /,
			'... with the sum');
		like($r->{out}, qr/this machine gives at most \d+ MB: lower memtable_size, .*wal_buffers/,
			'... the bound, what to do');
		next;
	}
	$node->start;
	is($node->client->put('k', 'v')->{status}, 'OK', "memory for it and $more bytes: it starts");
	is($node->stop, 0, 'stop');
}

# Control groups: each bounds all below it.
my $groups = test_dir() . '/groups';
my $tight = $needed - 8;

# The limits of some groups, by file; the group that kvd is in. All others have none.
sub in_group
{
	my ($own, %limits) = @_;
	make_path("$groups$_") for qw(/memory /a/b /a/c);
	spew("$groups/$_/memory.max", "max\n") for '.', qw(a a/b a/c);
	spew("$groups/memory/memory.limit_in_bytes", "9223372036854771712\n"); # version 1 says "none" so
	spew("$groups/$_", "$limits{$_}\n") for keys %limits;
	spew("$groups/self", "12:memory:/a/c\n0::$own\n");
	return;
}

$ENV{KVD_TEST_CGROUPS} = $groups;
for my $case (
	[ 'its own', '/a/b', 'a/b/memory.max' ], [ 'the one above it', '/a/b', 'a/memory.max' ],
	[ "a container's", '/', 'memory.max' ], [ 'a container, of version 1', '/', 'memory/memory.limit_in_bytes' ])
{
	my ($what, $own, $file) = @$case;
	in_group($own, $file => $tight);
	my $r = $node->start(fails => 1);
	is($r->{code}, 1, "control group, $what: one byte too many is refused");
	like($r->{out}, qr/but this control group gives at most \d+ MB: lower/, '... and named');
}
in_group('/a/b', 'a/b/memory.max' => $needed, 'a/c/memory.max' => 4096);
$node->start;
cmp_ok($node->client->stats->{'memory.limit'}, '==', $needed / 8 * 7, 'its own is enough: it starts');
is($node->stop, 0, 'stop');
delete $ENV{KVD_TEST_CGROUPS};

SKIP: {
	my @small = ('unshare', '-rm', 'sh', '-c', 'mount -t tmpfs -o size=1m none /dev/shm && exec "$@"', 'sh');
	skip 'no name space with a /dev/shm of its own', 3
		if system('unshare -rm mount -t tmpfs none /dev/shm 2>/dev/null') != 0;
	my $r = run_command({ timeout => 30 }, @small, kvd_bin('kvd'), '-D', $node->dir);
	is($r->{code}, 1, '1 MB of /dev/shm: it does not start');
	like($r->{err}, qr{/dev/shm, where it is made, gives at most 1 MB}, '... and says why');
	unlike($r->{err}, qr/signal/, '... without having died of it');
}
SKIP: {
	skip 'sanitizers take address space of their own', 2 if ($ENV{KVD_BUILD} || '') =~ /address|thread/;
	my $r = run_command('sh', '-c', 'ulimit -v 102400; exec "$@"', 'sh', kvd_bin('kvd'), '-D', $node->dir);
	is($r->{code}, 1, 'a limit on address space');
	like($r->{err}, qr/ulimit -v\) gives at most 100 MB/, '... is named');
}
done_testing;
