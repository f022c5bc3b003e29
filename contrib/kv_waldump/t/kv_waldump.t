#!/usr/bin/perl
#
# kv_waldump.t - the log as kv_waldump prints it is what clients wrote, and it says where it ends and why.
#
# Why so: the dump is compared with versions that the server answered, beside the running server; then the same log is
# flipped above and below the durable mark: the first is a torn tail, the second damage with file and offset.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib "$FindBin::Bin/../../../t";
use JSON::PP;
use Kvd::Test;

my $tool = kvd_bin('kv_waldump');

# --- usage ------------------------------------------------------------------------------------------

is(run_command($tool, '--help')->{code}, 0, '--help');
for my $case ([], ['--nosuch'], [ '--from', 'x', '.' ], [ '--kind', 'odd', '.' ], [ '--format', 'odd', '.' ], [qw(a b)],
	['--from'])
{
	is(run_command($tool, @$case)->{code}, 2, "usage error: @$case");
}
is(run_command($tool, test_dir() . '/missing')->{code}, 3, 'no such directory');
mkdir test_dir() . '/empty' or die $!;
is(run_command($tool, test_dir() . '/empty')->{code}, 3, 'no data directory');

# --- what was written -------------------------------------------------------------------------------

my $node = Kvd::Test->new('main')->init->start->wait_config;
my $c = $node->client;
my @wrote;
push @wrote, [ put => "k$_", "value $_", $c->put("k$_", "value $_")->{version} ] for 1 .. 20;
push @wrote, [ put => "\x00odd\xff", 'x' x 100, $c->put("\x00odd\xff", 'x' x 100)->{version} ];
push @wrote, [ delete => 'k3', undef, $c->delete('k3')->{version} ];
push @wrote, [ incr => 'n', -5, $c->incr('n', -5)->{version} ];

sub dump_json
{
	my (@args) = @_;
	my $r = run_command($tool, '--json', @args, $node->dir);
	return ($r, map { decode_json($_) } split /\n/, $r->{out});
}
my ($r, @ops) = dump_json('--ops', '--full', '--kind', 'write');
is($r->{code}, 0, 'beside the running server') or diag $r->{err};
my @seen = map { [ $_->{op}, $_->{key}, $_->{value}, $_->{version} ] } grep { $_->{space} eq 'user' } @ops;
for my $w (@wrote) {
	$w->[1] = { base64 => 'AG9kZP8=' } if $w->[1] =~ /odd/;
}
is_deeply(\@seen, \@wrote, 'operations, keys, values and versions are those that clients were told');
($r, @ops) = dump_json('--ops');
my ($odd) = grep { ref $_->{key} } @ops;
is("$odd->{value_bytes} " . length $odd->{value}, '100 40', 'a long value is shortened, its length told');
($r, my @records) = dump_json();
is($records[0]{kind}, 'term', 'the log begins with a TERM record');
is_deeply([ map { $_->{lsn} } @records ], [ sort { $a <=> $b } map { $_->{lsn} } @records ], 'records in order');
my ($from, $to) = @records[ 5, 9 ];
($r, my @some) = dump_json('--from', $from->{lsn}, '--to', $to->{lsn});
is_deeply(\@some, [ @records[ 5 .. 8 ] ], '--from and --to');
like($r->{err}, qr/read up to position $to->{lsn}, as asked$/, '... and why it ended');
($r) = dump_json('--from', $from->{lsn} + 8, '--to', $to->{lsn});
is(($r->{out} =~ tr/\n//), 3, '--from inside a record: the next one');
($r, my @sums) = dump_json('--stats');
my %sum = map { $_->{kind} => $_ } @sums;
is($sum{all}{records}, scalar @records, '--stats counts them all');
is($sum{write}{records}, scalar(grep { $_->{kind} eq 'write' } @records), '... and by kind');
$r = run_command($tool, '--format', 'table', $node->dir);
like($r->{out}, qr/\Alsn +\| length \| term \| kind +\| ops \| time\n-/, 'a table for people');

# --- where it ends ----------------------------------------------------------------------------------

my $wal = $node->dir . '/wal';
my ($file) = glob "$wal/*.kvw";
$node->wait_mark;
my $early_mark = slurp("$wal/mark");
$c->put('late', 'x' x 200);
$node->stop;
my $log = slurp($file);
my $late_mark = slurp("$wal/mark");
$r = run_command($tool, $node->dir);
is($r->{code}, 0, 'a stopped server');
like($r->{err}, qr/the log ends here$/, '... its log ends where nothing was begun');
my ($end) = $r->{err} =~ /no record at position (\d+)/;
my $segment = 1 << 20;
my $at = $end % $segment - 100; # in the last value
my $name = "wal/" . ($file =~ s{.*/}{}r);
for my $case ([ $early_mark, 0, qr/the checksum is wrong \(\Q$name\E, offset \d+\); .*a torn tail/ ],
	[ $late_mark, 1, qr/the checksum is wrong \(\Q$name\E, offset \d+\); .*: this is damage$/ ])
{
	my ($mark, $code, $said) = @$case;
	substr(my $flipped = $log, $at, 1) ^= "\x01";
	spew($file, $flipped);
	spew("$wal/mark", $mark);
	for my $what ($node->dir, $file) {
		$r = run_command($tool, $what);
		is($r->{code}, $code, "flipped in the last record, mark @{[$code ? 'behind' : 'before']} it: code $code");
		like($r->{err}, $said, '... and why');
	}
}
spew("$wal/mark", "\0" x 8192);
$r = run_command($tool, $node->dir);
is($r->{code}, 1, 'no mark: nobody knows, so it is not called whole');
like($r->{err}, qr{wal/mark.*\n.*without the durable mark}s, '... and says so');
spew("$wal/mark", $late_mark);

spew($file, $log);

# A log whose first file was let go of: begin at the first sound record. Without any: nothing to read.
$node->start;
$c = $node->client;
# One record ends where its file does: values that differ by so much make records that do. Not if one of the node's own
# comes between.
sub log_end
{
	my ($at) = run_command($tool, $node->dir)->{err} =~ /no record at position (\d+)/ or die;
	return $at;
}
my $edge;
$c->put('fill', 'p' x $segment); # not the first file: it is to end within a record
for (1 .. 10) {
	my ($before, $after) = map { $c->put('pad', 'p' x 100_000); log_end() } 1 .. 2;
	my $left = $segment - $after % $segment;
	$left += $segment if $left < $after - $before;
	$c->put('pad', 'p' x (100_000 + $left - ($after - $before)));
	$edge = log_end();
	last if $edge % $segment == 0;
}
is($edge % $segment, 0, 'a record ends where its file does');
my @big = map { $c->put("big$_", 'y' x 300_000)->{version} } 1 .. 8;
$node->stop;
rename $file, "$wal/keep" or die $!;
($r, @ops) = dump_json('--ops', '--kind', 'write');
is($r->{code}, 0, 'the first file gone: what is left is read') or diag $r->{err};
like($r->{err}, qr/the first record begins at \d+; the \d+ bytes before it/, '... from the first record in it');
my %left = map { $_->{version} => 1 } @ops;
my @behind = grep { $_ >= 2 * $segment } @big;
cmp_ok(scalar @behind, '>', 2, 'some of it stands in later files');
is(scalar(grep { $left{$_} } @behind), scalar @behind, '... and all of that is seen');
rename "$wal/keep", $file or die $!;
# In the middle: whether a record reaches into it or ends before it.
for my $n ($edge / $segment, $edge / $segment + 1) {
	my $gone = sprintf 'wal/%016x.kvw', $n;
	rename $node->dir . "/$gone", "$wal/keep" or die $!;
	$r = run_command($tool, $node->dir);
	is($r->{code}, 1, 'a file in the middle gone, below the mark: damage');
	like($r->{err}, qr/the file is missing or ends here \($gone, offset 0\); .*: this is damage$/, '... and which');
	rename "$wal/keep", $node->dir . "/$gone" or die $!;
}
is(run_command($tool, $node->dir)->{code}, 0, 'with them all is whole');
my @files = sort glob "$wal/*.kvw";
like(run_command($tool, $files[0])->{err}, qr/, as asked$/, 'one file by name: read to its end');
rename $_, "$_.away" or die $! for @files;
is(run_command($tool, $node->dir)->{code}, 3, 'no log files');
rename "$_.away", $_ or die $! for @files;
is(run_command($tool, "$wal/mark")->{code}, 3, 'a file that is no log file is no directory either');
$node->start;
is($node->client->get('late')->{value}, 'x' x 200, 'it changed nothing: the server starts and has all');
is($node->stop, 0, 'stop');
done_testing;
