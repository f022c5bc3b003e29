#!/usr/bin/perl
#
# 400_kvctl_commands.t - what kvctl prints and how it ends, command by command.
#
# Why so: people and scripts depend on the bytes on standard output and on the exit code, so both are checked for each
# command, with keys and values that are not text, and with output to a pipe as scripts have it.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;

$Kvd::Test::KVCTL_OPTIONS = '?timeout=50s';
my $node = Kvd::Test->new('main')->init->start;
my $binary = join '', map { chr } 0 .. 255;

# Run a command; check exit code, output (string or pattern), and standard error when a pattern is given.
sub check
{
	my ($args, $code, $out, $err, $name) = @_;
	my $r = $node->kvctl(@$args);
	$name ||= join ' ', grep { !ref } @$args;
	is($r->{code}, $code, "$name: exit code") or diag $r->{err};
	ref $out ? like($r->{out}, $out, "$name: output") : is($r->{out}, $out, "$name: output") if defined $out;
	defined $err ? like($r->{err}, $err, "$name: message") : is($r->{err}, '', "$name: no message");
	return $r;
}

say_why('single keys, conditions, exit code 1 for what is not there');
check(['put', 'a', '1'], 0, qr/\A\d+\n\z/);
check(['get', 'a'], 0, '1');
check(['get', 'nope'], 1, '', qr/^kvctl: get: .*not found|no such key/);
check(['put', 'a', '2', '--if-absent'], 1, '', qr/^kvctl: put: nothing changed.*version is \d+$/);
check(['put', 'b', '2', '--if-absent'], 0, qr/\A\d+\n\z/);
check(['put', 'c', '2', '--if-present'], 1, '', qr/^kvctl: put: /);
my ($version) = $node->kvctl('get', 'a', '--with-version', '--format', 'json')->{out} =~ /"version":(\d+)/;
check(['put', 'a', '3', '--if-version', $version], 0, qr/\A\d+\n\z/);
check(['put', 'a', '4', '--if-version', $version], 1, '', qr/nothing changed/);
check(['put', 'a', '4', '--if-value', '3'], 0, qr/\A\d+\n\z/);
check(['cas', 'a', '3', '5'], 1, '', qr/nothing changed/);
check(['cas', 'a', '4', '5'], 0, qr/\A\d+\n\z/);
check(['incr', 'n'], 0, "1\n");
check(['incr', 'n', '-11'], 0, "-10\n");
check(['incr', 'b', '9223372036854775807'], 4, '', qr/^kvctl: incr: /);
check(['put', 'text', 'x'], 0, qr/\d/);
check(['incr', 'text'], 4, '', qr/^kvctl: incr: .*integer/);
check(['del', 'a', 'nope'], 1, "1\n", qr/1 of 2 keys not found/);
check(['del', 'b'], 0, "1\n");
check(['del', 'b'], 1, "0\n", qr/not found/);

say_why('values are bytes: any of them, in and out');
check([{ stdin => $binary }, 'put', 'bin', '-x'], 0, qr/\d/);
check(['get', 'bin'], 0, $binary);
spew(test_dir() . '/value', "$binary\n");
check(['put', 'bin2', '--file', test_dir() . '/value'], 0, qr/\d/);
check(['get', 'bin2'], 0, "$binary\n");
check(['-e', 'put', 'k\x00\n', 'v\xff\\\\'], 0, qr/\d/);
check(['get', 'k\x00\n', '-e'], 0, "v\xff\\");
check(['get', 'k\x00\n', '-e', '--format', 'table'], 0, "v\\xff\\\\\n");
check(['get', 'k\x00\n', '-e', '--format', 'json'], 0, qq({"key":"k\\u0000\\n","value":{"base64":"dv9c"}}\n));
check(['put', 'empty', ''], 0, qr/\d/);
check(['get', 'empty'], 0, '');

say_why('TTL: shown, kept, and refused when its unit is missing');
check(['put', 't', 'x', '--ttl', '1h'], 0, qr/\d/);
check(['get', 't', '--with-version'], 0, qr/\At\tx\t\d+\t3[56]\d{5}\n\z/);
check(['put', 't', 'y', '--keep-ttl'], 0, qr/\d/);
check(['get', 't', '--with-version'], 0, qr/\At\ty\t\d+\t3[56]\d{5}\n\z/);
check(['put', 't', 'y'], 0, qr/\d/);
check(['get', 't', '--with-version'], 0, qr/\At\ty\t\d+\t\n\z/);
check(['put', 't', 'x', '--ttl', '10x'], 2, '', qr/"10x" is not a time; write a number and ms/);
check(['put', 't', 'x', '--ttl', '86400000'], 0, qr/\d/);
check(['get', 't', '--with-version', '--format', 'json'], 0, qr/"ttl_ms":86[34]\d{5}\b/);

say_why('ranges');
$node->kvctl('put', "r$_", "v$_") for 1 .. 5;
check(['scan', '--prefix', 'r'], 0, join '', map { "r$_\tv$_\n" } 1 .. 5);
check(['scan', 'r', '--keys', '--reverse', '--limit', '2'], 0, "r5\nr4\n");
check(['scan', '--start', 'r2', '--end', 'r4', '--format', 'csv'], 0, "key,value\nr2,v2\nr3,v3\n");
check(['scan', 'r', '--keys', '--limit', '1', '--format', 'json'], 0, "{\"key\":\"r1\"}\n");
check(['scan', 'r', '--limit', '1', '--format', 'table'], 0, "key | value\n----+------\nr1  | v1\n");
check(['count', 'r'], 0, "5\n");
check(['count', '--start', 'r2', '--end', 'r4'], 0, "2\n");
check(['count', 'r', '--estimate'], 0, "5\n");
check(['size', 'r'], 0, "5\t20\t0\t5\t0\n");
check(['size', '--start', 'r2', '--end', 'r4', '--format', 'csv'], 0,
	"keys,bytes,disk_bytes,entries,tombstones\n2,8,0,2,0\n");
check(['mget', 'r1', 'zz', 'r2'], 1, "r1\tv1\nr2\tv2\n", qr/1 of 3 keys not found/);
check(['get', 'r1', 'r2', '--format', 'csv'], 0, "key,value\nr1,v1\nr2,v2\n");
check(['del', '--range', 'r1', 'r3', '--count'], 0, "2\n");
check(['del', '--prefix', 'r', '--count'], 0, "3\n");
check(['count', 'r'], 0, "0\n");

say_why('the server itself');
check(['ping'], 0, qr/\A\d+\n\z/);
check(['stats'], 0, qr/^command\.put\t\d+$/m);
check(['config', 'get', 'max_connections'], 0, qr/\A\d+\n\z/);
check(['config', 'set', 'log_level', 'debug'], 0, qr/^log_level\tdebug\t/);
check(['config', 'reset', 'log_level'], 0, qr/^log_level\tlog\t/);
check(['config', 'set', 'log_level', 'loud'], 4, '', qr/^kvctl: config: .*; see: kvctl config list$/);
check(['config', 'reload'], 0, '');
check(['config', 'set', 'max_connections', '77', '--format', 'table'], 0,
	qr/\Amax_connections \d+ -> 77 \(after a restart\)\n\z/);
check(['config', 'set', 'max_connections', '77'], 0, qr/^max_connections\t\d+\t.*\tpending\t/);
check(['config', 'reset', 'max_connections'], 0, qr/\tyes\t/);
check(['config', 'set', 'log_level', 'log', '--format', 'table'], 0, qr/^log_level +\| log /m);
check(['checkpoint'], 0, qr/\A\d+\n\z/);

say_why('usage: exit code 2 and what is wrong');
check(['frobnicate'], 2, '', qr/^kvctl: unknown command "frobnicate"/);
check(['put'], 2, '', qr/^kvctl: put: too few arguments\nusage: kvctl put KEY/);
check(['put', 'a'], 2, '', qr/the value is missing/);
check(['get', 'a', '--frob'], 2, '', qr/unknown option --frob/);
check(['get', 'a', '--format', 'yaml'], 2, '', qr/table, json, csv/);
check(['get', ''], 2, '', qr/at least one byte/);
check(['put', 'a', 'b', '--if-absent', '--if-present'], 2, '', qr/only one condition/);
check(['help'], 0, qr/^  checkpoint\s.*exit codes: 0 done/ms);
check(['help', $_], 0, qr/\A$_ - /) for qw(put get scan load dump start stop status);

say_why('a script: stops at the first error and says where; an absent key is an answer');
check([{ stdin => "put s1 'a b'\n# comment\n\nget s1\nget nope\nbogus\nput s2 x\n" }], 2, qr/\A\d+\na b\n\z/,
	qr/^kvctl: stdin:5: get: .*\nkvctl: stdin:6: unknown command "bogus"/m);
check(['get', 's2'], 1, '', qr/./);
check([{ stdin => "bogus\nput s2 \"x\\x00\\ty\"\n" }, '--keep-going'], 2, qr/\A\d+\n\z/, qr/stdin:1: /);
check(['get', 's2'], 0, "x\0\ty");

say_why('whoever reads the output may leave before its end: no complaint');
check([{ stdin => 'x' x 1_000_000 }, 'put', 'wide', '-x'], 0, qr/\d/);
for my $command ('scan', 'dump') {
	my $cut = run_command('sh', '-c', '"$0" -p "$1" "$2" | head -c 1 > /dev/null', kvd_bin('kvctl'), $node->port,
		$command);
	is($cut->{err}, '', "$command | head: no message");
}

say_why('no server: exit code 3 and what to do');
my $r = run_command(kvd_bin('kvctl'), '-p', 1, 'get', 'a');
is($r->{code}, 3, 'nobody listens: exit code');
like($r->{err}, qr/^kvctl: get: cannot connect to 127\.0\.0\.1.*refused; is kvd running\? start it with: kvctl start/,
	'nobody listens: message');
{
	local $ENV{KVD_PORT} = $node->port;
	is(run_command(kvd_bin('kvctl'), 'get', 's1')->{out}, 'a b', 'KVD_PORT names the server');
}
is(run_command(kvd_bin('kvctl'), '-D', $node->dir, 'get', 's1')->{out}, 'a b', '-D finds the port');
my $uri = 'kv://127.0.0.1:1,127.0.0.1:' . $node->port . '/';
is(run_command(kvd_bin('kvctl'), '-u', $uri, 'get', 's1')->{out}, 'a b', 'the host of several that answers is used');

is($node->stop, 0, 'the node stops');
done_testing;
