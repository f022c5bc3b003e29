#!/usr/bin/perl
#
# 121_compression.t - tables are compressed as the setting says, and stay readable whatever it says later.
#
# Why so: the setting may change from start to start while the data stays, and each block says for itself how it is
# packed. So it is changed, with new data each time, and all of the data is read, checked and verified after each. A
# codec this kvd was built without has to be refused at start, not when the first table is written.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;

use constant { KEYS => 400, VALUE => 900 };

seed();
my $node = Kvd::Test->new('main')->init(block_cache_size => '1MB', blob_threshold => 0);
my %want;

# Words repeat, as text does; each value is another one.
sub value
{
	my ($i, $codec) = @_;
	return substr join(' ', map { "$codec-" . $i * $_ % 97 } 1 .. VALUE), 0, VALUE;
}

sub table_bytes
{
	my $sum = 0;
	$sum += -s for glob $node->dir . '/tables/*.kvt';
	return $sum;
}

sub check_all
{
	my ($when) = @_;
	my $c = $node->client(timeout => 60);
	my $wrong = grep { ($c->get($_)->{value} // '') ne $want{$_} } sort keys %want;

	is($wrong, 0, "$when: every key reads");
	my $all = $c->scan_all;
	is_deeply({ map { $_->{key} => $_->{value} } @$all }, \%want, "$when: and in a scan");
	is($node->stop, 0, 'stop');
	my $r = run_command({ timeout => 60 }, kvd_bin('kvd'), '-D', $node->dir, '--check');
	is($r->{code}, 0, "$when: --check finds no damage") or diag $r->{out} . $r->{err};
	$r = run_command({ timeout => 60 }, kvd_bin('kv_sstdump'), 'verify', $node->dir);
	is($r->{code}, 0, "$when: neither does kv_sstdump") or diag $r->{out} . $r->{err};
}

my %most = (none => 1.1, lz4 => 0.5, zstd => 0.33);    # bytes on disk for a byte of values: merging packs all anew
for my $codec (qw(none lz4 zstd none)) {
	$node->append_conf(compression => $codec);
	my $started = eval { $node->start; 1 };
	if (!$started) {
		like($node->log, qr/FATAL.*compression = $codec: this kvd was built without it/, "$codec is refused at start");
		$node->forget;
		next;
	}
	my $c = $node->client(timeout => 60);
	for my $i (1 .. KEYS) {
		my $key = sprintf "%d.$codec.$i", scalar keys %want;
		$want{$key} = value($i, $codec);
		$c->put($key, $want{$key})->{code} == 0 or fail("put $key");
	}
	is($c->checkpoint(compact => 1, deadline => 60_000)->{status}, 'OK', "$codec: written and merged");
	my $share = table_bytes() / VALUE / keys %want;
	cmp_ok($share, '<', $most{$codec}, sprintf '%s: %.2f bytes on disk for each of the values', $codec, $share);
	cmp_ok($share, '>', 1, 'none: as they are') if $codec eq 'none';
	check_all($codec);
}

done_testing;
