#!/usr/bin/perl
#
# kv_sstdump.t - tables and manifest as kv_sstdump shows them are what clients wrote; damage is found and named.
#
# Why so: two checkpoints make two tables of known entries; what list, properties, scan and manifest say of them is
# compared with what was written, beside the running server. Then bytes of a table are flipped: verify has to find
# each of them.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib "$FindBin::Bin/../../../t";
use JSON::PP;
use Kvd::Test;

my $tool = kvd_bin('kv_sstdump');

is(run_command($tool, '--help')->{code}, 0, '--help');
for my $case ([], ['list'], [ 'nosuch', '.' ], [ 'list', '.', '.' ], [ 'scan', '--limit', 'x', '.' ],
	[ 'scan', '--odd', '.' ], [ 'verify', 'a.kvt', 'b' ])
{
	is(run_command($tool, @$case)->{code}, 2, "usage error: @$case");
}
is(run_command($tool, 'list', test_dir() . '/missing')->{code}, 3, 'no such directory');
is(run_command($tool, 'scan', test_dir() . '/0000000000000001.kvt')->{code}, 3, 'no such table');

my $node = Kvd::Test->new('main')->init(compression => 'none')->start->wait_config;
my $c = $node->client;
my %version;
$version{1}{"k$_"} = $c->put("k$_", "value $_")->{version} for 10 .. 29;
is($c->checkpoint->{code}, 0, 'a table');
$version{2}{k15} = $c->delete('k15')->{version};
$version{2}{k16} = $c->put('k16', "new\n", ttl => 3_600_000)->{version};
$version{2}{"\x01\xff"} = $c->put("\x01\xff", 'odd')->{version};
is($c->checkpoint->{code}, 0, 'and another one');

sub dump_json
{
	my ($command, @args) = @_;
	my $r = run_command($tool, $command, '--json', @args);
	is($r->{code}, 0, "$command @args[0 .. $#args - 1]") or diag $r->{err};
	return map { decode_json($_) } split /\n/, $r->{out};
}

# --- what there is ----------------------------------------------------------------------------------

my @list = dump_json('list', $node->dir);
is_deeply([ map { $_->{level} } @list ], [ 0, 0, 0 ], 'three tables in level 0');
cmp_ok($list[0]{version_min}, '>', $list[1]{version_max}, '... newest first');
is($list[0]{tombstones}, 1, '... a tombstone in the newer');
is("$list[1]{smallest} $list[1]{largest}", 'user:k10 user:k29', '... key range of the older');
is("$list[2]{smallest} $list[2]{largest}", 'system:config system:config', '... the system has one of its own');
my ($newer, $older, $system) = map { $node->dir . "/tables/$_->{table}.kvt" } @list;
is($list[0]{bytes}, -s $newer, '... bytes are those of the file');

my ($p) = dump_json('properties', $newer);
is("$p->{table} $p->{entries} $p->{tombstones} $p->{expiring}", "$list[0]{table} 3 1 1", 'properties of one');
is($p->{blocks}, 'none 1', '... its blocks by codec');
is(scalar(dump_json('properties', $node->dir)), 3, 'properties of all');

my @entries = dump_json('scan', $older);
is_deeply({ map { $_->{key} => $_->{version} } @entries }, $version{1},
	'scan: keys and versions as the server answered');
is($entries[3]{value}, 'value 13', '... values');
my %new = map { (ref $_->{key} ? 'odd' : $_->{key}) => $_ } dump_json('scan', $newer);
is("$new{k15}{kind} $new{k16}{value}", "delete new\n", 'a tombstone, a value with a newline');
cmp_ok($new{k16}{expires}, '>', 1e12, '... that expires');
is($new{odd}{key}{base64}, 'Af8=', 'a key that is no text');
is_deeply([ map { $_->{key} } dump_json('scan', '--from', 'k12', '--to', 'k1\x35', $older) ], [qw(k12 k13 k14)],
	'--from and --to, with escapes');
is(scalar(dump_json('scan', '--limit', 4, $node->dir)), 4, '--limit');
is(scalar(dump_json('scan', $node->dir)), 23, 'all tables of a directory');
is((dump_json('scan', '--system', $system))[0]{key}, 'config', '--system');

my @edits = dump_json('manifest', $node->dir);
is_deeply([ map { $_->{table} } grep { $_->{edit} eq 'add' } @edits ], [ map { $_->{table} } reverse @list ],
	'manifest: the tables in the order they came');
my ($state) = reverse grep { $_->{edit} eq 'state' } @edits;
is($state->{flushed}, $node->client->stats->{'log.flushed'}, '... and how far the log is in tables');
like(run_command($tool, 'list', '--format', 'table', $node->dir)->{out}, qr/\Alevel \| table +\| bytes /,
	'a table for people');

# --- damage -----------------------------------------------------------------------------------------

is_deeply([ map { $_->{state} } dump_json('verify', $node->dir) ], [qw(whole whole whole)], 'verify, beside a server');
$node->stop;
my $bytes = slurp($newer);
my @missed;
for (my $at = 0; $at < length $bytes; $at += 7) {
	substr(my $flipped = $bytes, $at, 1) ^= "\x10";
	spew($newer, $flipped);
	my $r = run_command($tool, 'verify', $newer);
	push @missed, "$at: $r->{code}" if $r->{code} != 1 && !($r->{code} == 3 && $r->{err} =~ /format/);
	push @missed, "$at: $r->{err}" if $r->{err} !~ /$list[0]{table}/;
	last if $at > 210 && $at < length($bytes) - 300 && ($at = length($bytes) - 300); # the middle is filter
}
is_deeply(\@missed, [], 'verify finds flipped bytes and names the file');
spew($newer, substr $bytes, 0, -10);
is(run_command($tool, $_, $newer)->{code}, 1, "$_ of a table that is cut") for qw(properties scan verify);
my $r = run_command($tool, 'verify', '--json', $node->dir);
is($r->{code}, 1, 'verify of the directory');
my @states = map { decode_json($_)->{state} } split /\n/, $r->{out};
is_deeply([ sort @states ], [qw(damaged whole whole)], '... goes on behind the damaged one');
rename $older, "$older.away" or die $!;
rename $newer, $older or die $!;
spew($newer, slurp("$older.away"));
$r = run_command($tool, 'verify', $node->dir);
is($r->{code}, 1, 'tables that changed places');
like($r->{out}, qr/the manifest and the file/, '... are not those that the manifest means');
spew($newer, $bytes);
rename "$older.away", $older or die $!;
is_deeply([ map { $_->{state} } dump_json('verify', $node->dir) ], [qw(whole whole whole)], 'as it was');
my ($manifest) = glob $node->dir . '/MANIFEST-*';
my $text = slurp($manifest);
substr(my $flipped = $text, 60, 1) ^= "\x01";
spew($manifest, $flipped);
$r = run_command($tool, 'list', $node->dir);
is($r->{code}, 1, 'a damaged manifest');
like($r->{err}, qr/\Q@{[$manifest =~ s{.*\/}{}r]}\E.* at offset \d+/, '... names file and offset');

# --- large values -----------------------------------------------------------------------------------

my $large = Kvd::Test->new('large')->init(compression => 'none', blob_threshold => '1kB')->start;
my %value = (small => 'x' x 1023, atbound => 'y' x 1024, large => "z\n" x 5000);
$c = $large->client;
$c->put($_, $value{$_}) for sort keys %value;
is($c->checkpoint->{code}, 0, 'a table with values elsewhere');
my %shown = map { $_->{key} => $_ } dump_json('scan', '--full', $large->dir);
is_deeply({ map { $_ => $shown{$_}{value} } keys %shown }, \%value, 'scan reads values that are kept apart');
is("$shown{small}{kind} $shown{atbound}{kind} $shown{large}{kind}", 'put ref ref', '... and says so');
is($shown{large}{value_bytes}, 10_000, '... with their length');
my ($info) = dump_json('values', $large->dir);
like($shown{large}{place}, qr/\A$info->{file_id}:\d+:\d+\z/, '... and place');
my @by_name = map { dump_json('scan', $_) } glob $large->dir . '/tables/*.kvt';
is(scalar(grep { $_->{kind} eq 'ref' && length $_->{value} == 40 } @by_name), 2,
	'scan of files by name, the first 40 bytes');
is((grep { $_->{table} eq $info->{file_id} } dump_json('verify', $large->dir))[0]{entries}, 2, 'verify looks at them');
$large->stop;
my $values = $large->dir . "/values/$info->{file_id}.kvv";
$bytes = slurp($values);
@missed = ();
for (my $at = 0; $at < length $bytes; $at += 101) {
	substr(my $wrong = $bytes, $at, 1) ^= "\x10";
	spew($values, $wrong);
	$r = run_command($tool, 'verify', $large->dir);
	push @missed, "$at: $r->{code}" if $r->{code} != 1 && !($r->{code} == 3 && $r->{out} =~ /format/);
}
is_deeply(\@missed, [], 'verify finds flipped bytes of a value file');
substr(my $wrong = $bytes, index($bytes, 'yyyy'), 1) ^= "\x10";
spew($values, $wrong);
$r = run_command($tool, 'scan', '--json', $large->dir);
is($r->{code}, 1, 'scan with a damaged value');
like($r->{err}, qr/$info->{file_id}.* at byte \d+/, '... names file and offset');
is(scalar(() = $r->{out} =~ /"key"/g), 3, '... and shows all entries');
done_testing;
