#!/usr/bin/perl
#
# 302_churn.t - readers see right values while memtables are flushed and tables compacted beneath them.
#
# Why so: every read crosses memtables that are being frozen, tables that have just appeared and tables that are being
# deleted; a pin released too early or a file dropped too soon shows here. Writers overwrite the same keys without pause
# in memtables of the least size, with small tables and an eager compaction, while kvbench gets, seeks and scans,
# checking every value, and one client reads the same snapshot again and again: it must not move.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use JSON::PP;
use Time::HiRes qw(time);
use Kvd::Test;

use constant { KEYS => 20_000, VALUE => 2000, SECONDS => 12 };

seed();
my $node = Kvd::Test->new('main')->init(memtable_size => '32MB', table_size => '2MB', l0_trigger => 2,
	block_cache_size => '4MB', snapshot_retention => '1min')->start;

sub bench
{
	my (@args) = @_;
	return (kvd_bin('kvbench'), '-p', $node->port, '-r', KEYS, '-d', VALUE, '--json', '--verify-crc', @args);
}

my $r = run_command(bench(qw(-c 4 -P 8 fillrandom)));
is($r->{code}, 0, 'every key is stored') or diag $r->{err};

# 1. All at once.
my @load = (
	[ 'overwrite', qw(-c 4 -P 4 --rate 10000 overwrite) ], # all versions stay for a minute
	[ 'readrandom', qw(-c 2 -P 4 readrandom) ],
	[ 'readmissing', qw(-c 1 readmissing) ],
	[ 'seekrandom', qw(-c 2 --scan 30 seekrandom) ],
	[ 'readseq', qw(-c 1 readseq readseq readseq readseq readseq readseq readseq readseq) ],
);
my %running;
for my $l (@load) {
	my ($name, @args) = @$l;
	$running{$name} = Kvd::Test::start_command({ out => test_dir() . "/$name.out", err => test_dir() . "/$name.err" },
		bench('-T', $name eq 'readseq' ? 3 : SECONDS, @args));
}

# 2. Meanwhile one snapshot is read by pages, over and over.
my $c = $node->client(trust_crc => 1, timeout => 600);
my ($first, $snapshot, $rounds, $moved) = (undef, 0, 0, 0);
my $until = time + SECONDS;
while (time < $until) {
	my ($start, $text, $after) = ('key:000000004000', '', 0);
	while (1) {
		my $page = $c->scan(start => $start, after => $after, end => 'key:000000004300', snapshot => $snapshot,
			page => 100_000);
		if ($page->{code} != 0) {
			fail("a page of the snapshot: $page->{status} $page->{text}");
			last;
		}
		$snapshot ||= $page->{snapshot};
		$text .= join '', map { "$_->{key} $_->{version} $_->{value}\n" } @{ $page->{entries} };
		last if !$page->{more};
		($start, $after) = ($page->{entries}[-1]{key}, 1);
	}
	$first = $text if !defined $first;
	$moved++ if $text ne $first;
	$rounds++;
}
is(($first =~ tr/\n//) >= 300, 1, 'the snapshot has its 300 keys') or diag length $first;
is($moved, 0, "read $rounds times, the snapshot never moved");

for my $l (@load) {
	my $name = $l->[0];
	my $code = Kvd::Test::wait_for($running{$name}, 60);
	is($code, 0, "$name ended well") or diag slurp(test_dir() . "/$name.err");
	my @results = map { decode_json($_) } split /\n/, slurp(test_dir() . "/$name.out");
	my ($operations, $wrong, $errors) = (0, 0, 0);
	for my $result (@results) {
		$operations += $result->{operations};
		$wrong += $result->{wrong};
		$errors += $_ for values %{ $result->{errors} };
		is($result->{not_found}, 0, '... found every key') if $name eq 'readrandom';
	}
	is($wrong, 0, "... $operations operations, no wrong value");
	is($errors, 0, '... no errors');
}

# 3. There was churn, and it did not grow without bound.
my $stats = $c->stats;
note join ', ', map { "$_ $stats->{$_}" } grep { /flush|compact|table|lsm/ } sort keys %$stats;
my $disk = 0;
# Old versions are kept for paged scans (snapshot_retention): a minute's overwrites. Without that, live data remains.
is($c->config('set', 'snapshot_retention=0')->{status}, 'OK', 'snapshots are let go');
my $live = KEYS * (VALUE + 16);
my $bounded = eval {
	poll_until(sub {
		# The compaction worker reads the setting when it gets to it, and files go when nobody reads them any more.
		$c->checkpoint(compact => 1, deadline => 250_000)->{code} == 0 or return 0;
		$disk = 0;
		$disk += -s || 0 for glob $node->dir . '/{tables,values}/*';
		return $disk < 2 * $live;
	}, 300, 'tables of less than twice the live data');
};
ok($bounded, sprintf 'tables take %.0f MB for %.0f MB of live data', $disk / 1e6, $live / 1e6);
cmp_ok(scalar(() = glob $node->dir . '/tables/*'), '>', 0, 'tables were written');
is($c->count_all, KEYS, 'every key is there once');
is($node->stop, 0, 'stop');
$r = run_command({ timeout => 120 }, kvd_bin('kvd'), '-D', $node->dir, '--check');
is($r->{code}, 0, '--check finds no damage') or diag $r->{out};

done_testing;
