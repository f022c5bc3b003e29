#!/usr/bin/perl
#
# 300_package_index.t - the main job: a Debian package index is loaded, read, survives kill -9, and comes out the same.
#
# Why so: 60,000 real stanzas (a generated index where apt has none) go through every layer as a user's data would:
# kvctl load, the pipeline of libkv, the log, memtables, tables, scans, dump. The postmaster is killed right after the
# load returned, so that nothing was tidied up; what dump prints then must be, byte for byte, what was loaded.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Time::HiRes qw(time);
use Kvd::Test;

my $dir = test_dir();
my $converter = "$FindBin::Bin/../contrib/pkgindex2tsv.pl";

# The first run of `apt-cache dumpavail` may be slow, and there may be none.
my $real = 0;
if (grep { -x "$_/apt-cache" } split /:/, $ENV{PATH} || '') {
	my $r = run_command({ timeout => 120 }, 'sh', '-c', "LC_ALL=C apt-cache dumpavail > '$dir/avail' 2>/dev/null");
	$real = $r->{code} == 0 && -s "$dir/avail" > 1_000_000;
}
my $make = $real ? "'$converter' '$dir/avail'" : "'$converter' --generate 60000";
is(run_command({ timeout => 120 }, 'sh', '-c', "perl $make > '$dir/packages.tsv'")->{code}, 0,
	'the index becomes lines');
my $input = slurp("$dir/packages.tsv");
my $lines = $input =~ tr/\n//;
note sprintf '%s index: %d packages, %.1f MB', $real ? 'real' : 'generated', $lines, length($input) / 1e6;
cmp_ok($lines, '>', 100, 'there are packages');

# Loaded in another order than sorted, as an index is.
srand 42;
my @shuffled = split /^/, $input;
for my $i (reverse 1 .. $#shuffled) {
	my $j = int rand($i + 1);
	@shuffled[ $i, $j ] = @shuffled[ $j, $i ];
}
spew("$dir/shuffled.tsv", join '', @shuffled);
my ($some) = grep { /^libssl/ } @shuffled;
$some ||= $shuffled[0];
@shuffled = ();

$Kvd::Test::KVCTL_OPTIONS = '?timeout=50s';
my $node = Kvd::Test->new('main')->init->start;

# 1. Load.
my $t = time;
my $r = $node->kvctl({ timeout => 120 }, 'load', "$dir/shuffled.tsv");
my $took = time - $t;
is($r->{code}, 0, 'kvctl load') or diag $r->{err};
note sprintf 'loaded in %.2f s, %.1f MB/s', $took, length($input) / 1e6 / $took;

# 2. Read.
my ($name, $stanza) = $some =~ /\A([^\t]+)\t(.*)\n\z/s;
my %escape = (n => "\n", t => "\t", r => "\r");
$stanza =~ s/\\(x..|.)/my $e = $1; exists $escape{$e} ? $escape{$e} : $e =~ m{^x(..)} ? chr hex $1 : $e/ge;
$r = $node->kvctl('--format', 'raw', 'get', $name);
is($r->{code}, 0, "kvctl get $name");
is($r->{out}, $stanza, '... gives the stanza');
$r = $node->kvctl('get', 'no-such-package');
is($r->{code}, 1, 'kvctl get of an absent package exits with 1');
my @prefixed = $input =~ /^(libssl[^\t]*)\t/mg;
$r = $node->kvctl('--format', 'tsv', 'scan', '--prefix', 'libssl', '--keys');
is($r->{code}, 0, 'kvctl scan --prefix libssl') or diag $r->{err};
is_deeply([ grep { $_ ne 'key' } split /\n/, $r->{out} ], \@prefixed, '... names the ' . @prefixed . ' packages');
$r = $node->kvctl('count');
like($r->{out}, qr/^$lines$/m, 'kvctl count');

# 3. kill -9 of the postmaster, start, dump.
my @orphans = map { @$_ } values %{ $node->children };
$node->kill9('postmaster');
poll_until(sub { !grep { -e "/proc/$_" && eval { slurp("/proc/$_/stat") } !~ /\) Z / } @orphans }, 10,
	'the children to go');
$t = time;
$node->start;
note sprintf 'ready %.2f s after the start', time - $t;
$r = $node->kvctl({ timeout => 120 }, 'dump', "$dir/dump.tsv");
is($r->{code}, 0, 'kvctl dump') or diag $r->{err};
ok(slurp("$dir/dump.tsv") eq $input, 'the dump is the input, sorted')
	or diag((run_command('cmp', "$dir/packages.tsv", "$dir/dump.tsv"))->{out});

# 4. And from tables alone.
is($node->client(timeout => 120)->checkpoint(compact => 1, deadline => 100_000)->{status}, 'OK',
	'checkpoint and compaction');
$node->restart('fast');
$r = $node->kvctl({ timeout => 120 }, 'dump', "$dir/dump2.tsv");
is($r->{code}, 0, 'kvctl dump again') or diag $r->{err};
ok(slurp("$dir/dump2.tsv") eq $input, 'from tables: the dump is the input, sorted');
is($node->stop, 0, 'stop');
$r = run_command({ timeout => 120 }, kvd_bin('kvd'), '-D', $node->dir, '--check');
is($r->{code}, 0, '--check finds no damage') or diag $r->{out};

done_testing;
