#!/usr/bin/perl
#
# 006_commands.t - every command of the protocol, through a client written from the document alone.
#
# Why so: the C library and the server share code and could share a misunderstanding; this client shares nothing but
# doc/protocol.md. Each command is checked for what it answers and for what it leaves behind, including all its
# errors, and the reads are checked again from tables, after everything was flushed.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use POSIX ();
use Time::HiRes qw(time);
use Kvd::Test;
use Kvd::Proto qw(:all);

my $node = Kvd::Test->new('main')->init->start;
my $c = $node->client;
my ($a, $b);

# 1. HELLO tells the limits.
is($c->{version}, 1, 'HELLO: version of the connection');
is_deeply([ @$c{qw(key_max value_max frame_max batch_ops_max role)} ], [ 65536, 16777216, 17039360, 65536, 1 ],
	'HELLO: limits and role');
cmp_ok($c->{term}, '>', 0, 'HELLO: term');
is($node->client(version => 9)->{version}, 1, 'HELLO: a client of a higher version is served with ours');

# 2. PING gives the bytes back.
is($c->ping($_)->{payload}, $_, 'PING of ' . length) for '', "\0\xff", 'x' x 4096;

# 3. PUT and GET: any bytes, empty values, versions that rise.
my $all_bytes = join '', map { chr } 0 .. 255;
$a = $c->put($all_bytes, $all_bytes x 3);
is($a->{status}, 'OK', 'PUT of all bytes');
$b = $c->get($all_bytes);
is($b->{value}, $all_bytes x 3, 'GET gives them back');
is($b->{version}, $a->{version}, '... with the version PUT answered');
is($b->{ttl}, 0, '... and no TTL');
$b = $c->put($all_bytes, '');
cmp_ok($b->{version}, '>', $a->{version}, 'versions rise');
is($c->get($all_bytes)->{value}, '', 'an empty value is a value');
is($c->get('nobody')->{status}, 'NOT_FOUND', 'GET of an absent key');

# 4. Conditions of PUT, each met and not met; detail is the version at that moment.
is($c->put('cond', 'a', if => 'present')->{status}, 'NOT_FOUND', 'present: absent key');
$a = $c->put('cond', 'a', if => 'absent');
is($a->{status}, 'OK', 'absent: absent key');
$b = $c->put('cond', 'b', if => 'absent');
is($b->{status}, 'CONDITION_FAILED', 'absent: present key');
is($b->{detail}, $a->{version}, '... detail is its version');
is($c->put('cond', 'b', if => 'present')->{status}, 'OK', 'present: present key');
my $version = $c->get('cond')->{version};
is($c->put('cond', 'c', if => 'version', expect => $version)->{status}, 'OK', 'version: the right one');
is($c->put('cond', 'd', if => 'version', expect => $version)->{status}, 'CONDITION_FAILED', 'version: an old one');
is($c->put('cond', 'd', if => 'value', expect => 'c')->{status}, 'OK', 'value: the right one');
is($c->put('cond', 'e', if => 'value', expect => 'c')->{status}, 'CONDITION_FAILED', 'value: an old one');
is($c->put('nobody', 'e', if => 'version', expect => 1)->{detail}, 0, 'version: absent key, detail 0');
is($c->get('cond')->{value}, 'd', 'what failed changed nothing');
is($c->put('cond', 'x', if => 'absent', ack => $_)->{status}, 'BAD_REQUEST', "a condition with ack=$_ is refused")
	for qw(local none);

# 5. DELETE with and without condition.
is($c->delete('nobody')->{status}, 'OK', 'DELETE of an absent key is done');
is($c->delete('nobody', if => 'present')->{status}, 'NOT_FOUND', '... with condition present it tells');
is($c->delete('cond', if => 'value', expect => 'wrong')->{status}, 'CONDITION_FAILED', 'DELETE: condition fails');
is($c->delete('cond', if => 'present')->{status}, 'OK', 'DELETE: condition holds');
is($c->get('cond')->{status}, 'NOT_FOUND', 'it is gone');
$a = $c->put('cond', 'again');
is($c->get('cond')->{value}, 'again', 'and may come again');

# 6. Weak acknowledgements answer no version; the write is there all the same.
for my $ack (qw(local none)) {
	$a = $c->put("weak$ack", $ack, ack => $ack);
	is("$a->{status} $a->{version}", 'OK 0', "ack=$ack");
	ok(poll_until(sub { $c->get("weak$ack")->{status} eq 'OK' }, 60, "ack=$ack"), '... is there soon');
	is($c->get("weak$ack")->{value}, $ack, '... and is read back');
}

# 7. INCR: absent counts as 0, keeps a TTL, refuses what is no number or leaves the range.
is($c->incr('n', 5)->{value}, 5, 'INCR of an absent key');
is($c->incr('n', -7)->{value}, -2, 'INCR downwards');
is($c->get('n')->{value}, '-2', 'kept as decimal text');
$c->put('n', '9223372036854775806');
is($c->incr('n', 1)->{value}, 9223372036854775807, 'up to the largest');
is($c->incr('n', 1)->{status}, 'OUT_OF_RANGE', 'not beyond');
$c->put('n', '-9223372036854775807');
is($c->incr('n', -1)->{value}, -9223372036854775807 - 1, 'down to the smallest');
is($c->incr('n', -1)->{status}, 'OUT_OF_RANGE', 'not beyond');
for my $text ('', 'x', '1x', ' 1', '1 ', '9223372036854775808', '1.0', "1\0") {
	$c->put('n', $text);
	is($c->incr('n', 1)->{status}, 'NOT_INTEGER', "'$text' is no integer");
	is($c->get('n')->{value}, $text, '... and stays');
}
is($c->incr('n2', 1, ack => 'local')->{status}, 'BAD_REQUEST', 'INCR needs ack=quorum');
$c->put('ttl-n', '1', ttl => 100_000);
$c->incr('ttl-n', 1);
cmp_ok($c->get('ttl-n')->{ttl}, '>', 0, 'INCR keeps a TTL');

# 8. TTL: counted down, never returned when over, in no command; taken off or kept as asked.
$a = $c->put('minute', 'x', ttl => 60_000);
$b = $c->get('minute');
ok($b->{ttl} > 0 && $b->{ttl} <= 60_000, "TTL left ($b->{ttl})");
$c->put('short', 'x', ttl => 300);
$c->put('long', 'x', ttl => 100_000);
$c->put('long', 'y', keep_ttl => 1);
ok($c->get('long')->{ttl} > 50_000, 'a put may keep the TTL');
$c->put('long', 'z');
is($c->get('long')->{ttl}, 0, 'a put without TTL removes it');
poll_until(sub { $c->get('short')->{status} eq 'NOT_FOUND' }, 60, 'the key to expire');
is($c->mget(['short'])->{entries}[0], undef, 'expired: not in MGET');
is(scalar @{ $c->scan(start => 'short', end => 'short0')->{entries} }, 0, 'expired: not in SCAN');
is($c->count(start => 'short', end => 'short0')->{count}, 0, 'expired: not in COUNT');
is($c->put('short', 'x', if => 'present')->{status}, 'NOT_FOUND', 'expired: absent for conditions');
is($c->incr('short', 3)->{value}, 3, 'expired: INCR begins at 0');
is($c->put('bad', 'x', ttl => $_)->{status}, 'BAD_REQUEST', "TTL $_ is refused") for 0, 9007199254740993;
is($c->put('edge', 'x', ttl => 2**53)->{status}, 'OK', 'TTL 2^53 is the most');
is($c->put('edge', 'x', ttl => 5, keep_ttl => 1)->{status}, 'BAD_REQUEST', 'TTL and keep together are refused');

# 9. BATCH: all or nothing, conditions see the state before, later operations win.
my @ops = map { op(kind => 'put', key => "b$_", value => $_) } 1 .. 5;
$a = $c->batch(\@ops);
is($a->{status}, 'OK', 'BATCH of puts');
is($c->get("b$_")->{version}, $a->{version} + $_ - 1, "operation $_ has its version") for 1 .. 5;
$a = $c->batch([ op(kind => 'put', key => 'b1', value => 'changed'), op(kind => 'delete', key => 'b2'),
	op(kind => 'put', key => 'b3', value => 'x', if => 'absent'), op(kind => 'put', key => 'b9', value => 'x') ]);
is($a->{status}, 'CONDITION_FAILED', 'BATCH with a failing condition');
is($a->{detail}, 2, '... detail is its place');
is($c->get('b1')->{value}, '1', '... nothing before it happened');
is($c->get('b9')->{status}, 'NOT_FOUND', '... nothing behind it');
$a = $c->batch([ op(kind => 'put', key => 'b1', value => 'x'),
	op(kind => 'delete', key => 'nobody', if => 'present') ]);
is("$a->{status} $a->{detail}", 'NOT_FOUND 1', 'BATCH: condition present fails with NOT_FOUND');
$a = $c->batch([ op(kind => 'put', key => 'new', value => 'x'),
	op(kind => 'put', key => 'new', value => 'y', if => 'absent') ]);
is($a->{status}, 'OK', 'conditions judge the state before the batch');
is($c->get('new')->{value}, 'y', 'the later operation wins');
$c->put('bn', 'no number');
$a = $c->batch([ op(kind => 'put', key => 'b4', value => 'x'), op(kind => 'incr', key => 'bn', value => 1) ]);
is("$a->{status} $a->{detail}", 'NOT_INTEGER 1', 'BATCH: a failing increment fails it');
is($c->get('b4')->{value}, '4', '... wholly');
$a = $c->batch([ op(kind => 'incr', key => 'counter', value => 2), op(kind => 'incr', key => 'counter2', value => 3) ]);
is($c->get('counter')->{value} . $c->get('counter2')->{value}, '23', 'BATCH of increments');
is($c->batch([])->{status}, 'BAD_REQUEST', 'an empty BATCH is refused');
is($c->batch([ op(kind => 'put', key => 'w', value => 1, if => 'absent') ], ack => 'none')->{status}, 'BAD_REQUEST',
	'BATCH with condition needs ack=quorum');

# 10. Atomic for readers: two keys that are always written together are never seen apart.
{
	my $pid = fork;
	if ($pid == 0) {
		my $w = $node->client;
		$w->batch([ map { op(kind => 'put', key => "pair$_", value => $w->{next_id}) } 1, 2 ]) for 1 .. 400;
		POSIX::_exit(0);
	}
	my ($apart, $reads) = (0, 0);
	while (waitpid($pid, POSIX::WNOHANG()) == 0) {
		my $e = $c->mget([ 'pair1', 'pair2' ])->{entries};
		$reads++;
		$apart++ if (defined $e->[0] ? $e->[0]{value} : '') ne (defined $e->[1] ? $e->[1]{value} : '');
	}
	is($apart, 0, "pairs seen apart in $reads reads");
	is($?, 0, 'the writer went well');
}

# 11. Many keys, read in every direction, by pages, at one snapshot; then the same from tables.
my %want;
for my $i (0 .. 1999) {
	$want{ sprintf 'scan%05d', $i } = "value $i " . 'x' x ($i % 50);
}
my @keys = sort keys %want;
for (my $i = 0; $i < @keys; $i += 500) {
	$c->batch([ map { op(kind => 'put', key => $_, value => $want{$_}) } @keys[ $i .. $i + 499 ] ]);
}

sub pairs { return join "\n", map { "$_->{key}=$_->{value}" } @{ $_[0] } }
sub wanted { return join "\n", map { "$_=$want{$_}" } @_ }

sub check_reads
{
	my ($where) = @_;
	my %all = (start => 'scan', end => prefix_end('scan'));
	is(pairs($c->scan_all(%all, page => 4000)), wanted(@keys), "$where: SCAN by pages");
	is(pairs($c->scan_all(%all, page => 4000, reverse => 1)), wanted(reverse @keys), "$where: SCAN by pages, reverse");
	is(pairs($c->scan_all(%all, page => 1)), wanted(@keys), "$where: SCAN, one entry a page") if $where eq 'memory';
	my $s = $c->scan(%all, limit => 7);
	is(pairs($s->{entries}), wanted(@keys[ 0 .. 6 ]), "$where: limit");
	$s = $c->scan(start => $keys[10], end => $keys[20]);
	is(pairs($s->{entries}), wanted(@keys[ 10 .. 19 ]), "$where: start is inclusive, end exclusive");
	is($s->{more}, 0, "$where: nothing more");
	$s = $c->scan(start => $keys[10], end => $keys[20], after => 1);
	is(pairs($s->{entries}), wanted(@keys[ 11 .. 19 ]), "$where: start exclusive");
	$s = $c->scan(start => $keys[10], end => $keys[20], reverse => 1, limit => 3);
	is(pairs($s->{entries}), wanted(@keys[ 19, 18, 17 ]), "$where: reverse walks the same range");
	$s = $c->scan(%all, keys_only => 1, limit => 2);
	is(join(',', map { "$_->{key}:$_->{value}" } @{ $s->{entries} }), "$keys[0]:,$keys[1]:", "$where: keys only");
	is(scalar @{ $c->scan(start => 'b', end => 'a')->{entries} }, 0, "$where: an upside-down range is empty");
	is($c->count_all(%all), 2000, "$where: COUNT");
	my ($total, $after, $snapshot, $steps) = (0, undef, 0, 0);
	while (1) {
		my $n = $c->count(%all, limit => 300, snapshot => $snapshot,
			defined $after ? (start => $after, after => 1) : ());
		$total += $n->{count};
		$steps++;
		last if !$n->{more};
		($after, $snapshot) = @$n{qw(last snapshot)};
	}
	is("$total $steps", '2000 7', "$where: COUNT in steps");
	my $about = $c->estimate(%all);
	# Many were written twice, and both count until a merge that no snapshot keeps from it.
	ok($about->{keys} >= 1500 && $about->{keys} <= 4500, "$where: ESTIMATE, $about->{keys} for 2,000 keys");
	is($c->estimate(start => 'b', end => 'a')->{entries}, 0, "$where: ESTIMATE of an upside-down range");
	is($c->call($CMD{ESTIMATE}, count_payload(%all, limit => 1))->{status}, 'BAD_REQUEST', '... takes no limit');
	my $m = $c->mget([ $keys[3], 'nobody', $keys[0], $keys[3] ]);
	is(join(',', map { defined $_ ? $_->{value} : '-' } @{ $m->{entries} }),
		join(',', $want{ $keys[3] }, '-', $want{ $keys[0] }, $want{ $keys[3] }),
		"$where: MGET in the order asked, also twice");
	return;
}
check_reads('memory');

# 12. One snapshot: what is written between two pages is not seen by the second.
my $page = $c->scan(start => 'scan', end => prefix_end('scan'), limit => 10);
$c->put($keys[15], 'new');
$c->delete($keys[16]);
$c->put("$keys[17]+", 'inserted');
my $next = $c->scan(start => $page->{entries}[-1]{key}, after => 1, end => prefix_end('scan'), limit => 10,
	snapshot => $page->{snapshot});
is(pairs($next->{entries}), wanted(@keys[ 10 .. 19 ]), 'the second page is of the first one\'s moment');
$next = $c->scan(start => $keys[15], limit => 3, end => prefix_end('scan'));
is(pairs($next->{entries}), "$keys[15]=new\n$keys[17]=$want{$keys[17]}\n$keys[17]+=inserted",
	'a new scan sees the changes');
$c->put($keys[$_], $want{ $keys[$_] }) for 15, 16;
$c->delete("$keys[17]+");

# 13. CHECKPOINT moves all into tables; reads are the same.
$a = $c->checkpoint;
is($a->{status}, 'OK', 'CHECKPOINT') or diag $a->{text};
cmp_ok($a->{lsn}, '>', 0, '... answers a position');
check_reads('tables');
$a = $c->checkpoint(compact => 1);
is($a->{status}, 'OK', 'CHECKPOINT with compaction') or diag $a->{text};
check_reads('compacted');
$c->put($_, $want{$_}) for @keys[ grep { $_ % 3 == 0 } 0 .. $#keys ];
check_reads('tables and memory');

# 14. DELETE RANGE in bounded steps.
my ($deleted, $steps, $start) = (0, 0, 'scan');
is($c->delete_range(start => 'b1', end => 'b6', step => 2)->{deleted}, 2, 'DELETE RANGE deletes no more than asked');
while (1) {
	$a = $c->delete_range(start => $start, end => prefix_end('scan'), step => $steps == 0 ? 100_000 : 300);
	is($a->{status}, 'OK', 'DELETE RANGE, a step') or last;
	$deleted += $a->{deleted};
	is($a->{deleted}, 1000, '... never more than 1,000 at once') if $steps == 0;
	$steps++;
	last if !$a->{more};
	$start = $a->{next};
}
is($deleted, 2000, 'DELETE RANGE deleted all');
cmp_ok($steps, '>=', 5, '... in steps');
is($c->count(start => 'scan', end => prefix_end('scan'))->{count}, 0, 'nothing is left');
is($c->get('cond')->{value}, 'again', 'what is outside stays');

# 15. at_least: a read waits for a state that includes a version; one that can't come runs into its deadline.
$a = $c->put('own', 'write');
is($node->client->get('own', at_least => $a->{version}, read => 'local')->{value}, 'write',
	'at_least of a version that exists');
my $t = time;
is($c->get('own', at_least => $a->{version} + 2**40, deadline => 200)->{status}, 'TIMEOUT',
	'at_least of the far future: TIMEOUT');
cmp_ok(time - $t, '<', 25, '... at its deadline, not that of all requests');
is($c->get('own', read => 'local')->{value}, 'write', 'a local read');

# 16. STATS: sorted lines, by prefix.
$a = $c->call($CMD{STATS}, '');
my @names = map { (split / /)[0] } split /\n/, $a->{payload};
cmp_ok(scalar @names, '>', 20, 'STATS has ' . @names . ' lines');
is(scalar(grep { !/^\S+ \d+$/ } split /\n/, $a->{payload}), 0, 'each is a name and a number');
is(join(',', keys %{ $c->stats('process.postmaster.') }), 'process.postmaster.pid', 'STATS by prefix');
is($c->stats('process.postmaster.pid')->{'process.postmaster.pid'}, $node->pid, '... and it is right');
is($c->call($CMD{STATS}, 'no.such.name')->{payload}, '', 'STATS of no known name is empty');

# 17. CONFIG: list, set, reset, refuse.
$a = $c->config('list', 'idle_timeout');
is("@{$a->{rows}[0]}[0, 3]", 'idle_timeout default', 'CONFIG list of one');
cmp_ok(scalar @{ $c->config('list')->{rows} }, '>', 20, 'CONFIG list of all');
$a = $c->config('set', 'idle_timeout=2min');
is("@{$a->{rows}[0]}[0, 1, 3]", 'idle_timeout 2min kvd.auto.conf', 'CONFIG set') or diag explain $a;
is($c->config('set', 'idle_timeout=soon')->{status}, 'BAD_SETTING', 'CONFIG set of a bad value');
is($c->config('set', 'no_such=1')->{status}, 'BAD_SETTING', 'CONFIG set of an unknown name');
is($c->config('list', 'no_such')->{status}, 'BAD_SETTING', 'CONFIG list of an unknown name');
$node->restart;
$c = $node->client;
is($c->config('list', 'idle_timeout')->{rows}[0][1], '2min', 'CONFIG set outlives a restart');
is($c->config('reset', 'idle_timeout')->{rows}[0][3], 'default', 'CONFIG reset');
is($c->config('reload')->{status}, 'OK', 'CONFIG reload');

# 18. Pipelining: answers come in the order of the requests, failures disturb nobody, reads see the writes before them.
my @sent;
for my $i (1 .. 300) {
	push @sent, [ 'PUT', $i, $c->request($CMD{PUT}, put_payload('pipe', "v$i")) ];
	push @sent, [ 'GET', $i, $c->request($CMD{GET}, get_payload('pipe')) ];
	push @sent, [ 'BAD', $i, $c->request($CMD{GET}, '') ] if $i % 50 == 0;
	push @sent, [ 'WHAT', $i, $c->request(99, '') ] if $i % 50 == 1;
}
my @bad;
for my $s (@sent) {
	my ($what, $i, $id) = @$s;
	my $answer = $c->receive;
	push @bad, "id $answer->{id} for $id" if $answer->{id} != $id;
	push @bad, "$what $i: $answer->{status}"
		if $answer->{status} ne { PUT => 'OK', GET => 'OK', BAD => 'BAD_REQUEST', WHAT => 'UNKNOWN_COMMAND' }->{$what};
	push @bad, "GET $i saw " . substr($answer->{payload}, 16)
		if $what eq 'GET' && substr($answer->{payload}, 16) ne "v$i";
}
is_deeply(\@bad, [], 'pipelined: ' . @sent . ' answers in order, each read sees the write before it');

$c->delete($_) for qw(minute ttl-n); # what expires is left out

# The hash of a node's own contents: it follows what is there, not how it came there.
sub contents
{
	my $out = $node->kvctl('cluster', 'check')->{out};
	return $out =~ /^contents at position \d+: (hash \w{16}, \d+ entries)$/m ? $1 : $out;
}
my $hash = contents();
like($hash, qr/^hash/, 'contents have a hash');
is(contents(), $hash, '... the same when asked again');
$c->put('for the hash', 1);
isnt(contents(), $hash, '... another one after a write');
$c->delete('for the hash');
is(contents(), $hash, '... and the old one when it is gone again');

is($node->stop, 0, 'stop');
my $r = run_command(kvd_bin('kvd'), '-D', $node->dir, '--check');
is($r->{code}, 0, 'what is left is sound') or diag $r->{out} . $r->{err};
done_testing;
