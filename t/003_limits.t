#!/usr/bin/perl
#
# 003_limits.t - a key, value, batch, frame of every size around each limit.
#
# Why so: bounds are where sizes are computed with one byte too few. Each limit is approached from below, hit and
# passed by one and by much; what is refused must be refused before the server makes room for it, with the code the
# document names, and must cost the connection nothing. What is accepted must come back whole, from memory and from
# tables. Powers of two in between are where blocks, pages and buffers of the implementation end.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;
use Kvd::Proto qw(:all);

my ($KEY_MAX, $VALUE_MAX, $OPS_MAX, $FRAME_MAX, $PING_MAX) = (65536, 16777216, 65536, 17039360, 4096);

my $node = Kvd::Test->new('main')->init->start;
# Answers of 16 MiB take a second each to check in Perl; TCP is trusted for those.
my $c = $node->client(trust_crc => 1, timeout => 60);

sub bytes
{
	my ($n, $seed) = @_;
	my $block = join '', map { chr($_ * 7 & 255) } 0 .. 255;
	return substr pack('V', $seed) . 'k' x 8 . pack('N', $n) . $block x (1 + $n / 256), 0, $n;
}

# 1. Keys: 0 refused, 1 to 65,536 stored, more refused; in each command that takes a key.
my %stored;
for my $n (1, 2, 15, 16, 17, 255, 256, 257, 4079, 4080, 4095, 4096, 4097, 32767, 32768, 65535, 65536) {
	my $key = 'K' x $n;
	is($c->put($key, "value of $n")->{status}, 'OK', "key of $n bytes is stored");
	$stored{$key} = "value of $n";
}
is($c->put('', 'x')->{status}, 'BAD_REQUEST', 'PUT: an empty key is refused');
is($c->get('')->{status}, 'BAD_REQUEST', 'GET: an empty key is refused');
is($c->delete('')->{status}, 'BAD_REQUEST', 'DELETE: an empty key is refused');
for my $n (65537, 65538, 100_000, 1_000_000) {
	my $key = 'K' x $n;
	is($c->put($key, 'x')->{status}, 'KEY_TOO_LARGE', "PUT: key of $n bytes refused");
	is($c->get($key)->{status}, 'KEY_TOO_LARGE', "GET: key of $n bytes refused");
	is($c->delete($key)->{status}, 'KEY_TOO_LARGE', "DELETE: key of $n bytes refused");
	is($c->incr($key, 1)->{status}, 'KEY_TOO_LARGE', "INCR: key of $n bytes refused");
	is($c->mget([ 'a', $key ])->{status}, 'KEY_TOO_LARGE', "MGET: key of $n bytes refused");
	is($c->batch([ op(kind => 'put', key => 'in-refused-batch', value => 1),
		op(kind => 'delete', key => $key) ])->{status},
		'KEY_TOO_LARGE', "BATCH: key of $n bytes refused");
}
is($c->get('in-refused-batch')->{status}, 'NOT_FOUND', '... with the whole batch');

# 2. Values: 0 to 16 MiB.
my %values;
for my $n (0, 1, 7, 8, 9, 100, 1000, 4000, 4030 .. 4110, 8191, 8192, 8193, 16383, 16384, 16385, 65535, 65536, 65537,
	262144, 1048575, 1048576, 1048577) {
	$values{"v$n"} = bytes($n, $n);
	my $r = $c->put("v$n", $values{"v$n"});
	is($r->{status}, 'OK', "value of $n bytes is stored") if $r->{code} != 0 || $n < 4030 || $n > 4110;
}
for my $n ($VALUE_MAX - 1, $VALUE_MAX) {
	$values{"v$n"} = bytes($n, $n);
	is($c->put("v$n", $values{"v$n"})->{status}, 'OK', "value of $n bytes is stored");
}
# The largest record: largest key and largest value.
is($c->put('L' x $KEY_MAX, $values{"v$VALUE_MAX"})->{status}, 'OK', 'the largest key with the largest value');
$stored{ 'L' x $KEY_MAX } = $values{"v$VALUE_MAX"};
for my $n ($VALUE_MAX + 1, $VALUE_MAX + 100_000) {
	is($c->put('too large', 'x' x $n)->{status}, 'VALUE_TOO_LARGE', "value of $n bytes refused");
	is($c->batch([ op(kind => 'put', key => 'too large', value => 'x' x $n) ])->{status}, 'VALUE_TOO_LARGE',
		'... in a BATCH');
}
is($c->get('too large')->{status}, 'NOT_FOUND', '... and not stored');

# 3. All come back, from memory, from tables and after a restart.
sub check_all
{
	my ($where) = @_;
	my %all = (%stored, %values);
	my @wrong = grep { my $r = $c->get($_); $r->{code} != 0 || $r->{value} ne $all{$_} } keys %all;
	is_deeply([ map { substr $_, 0, 20 } @wrong ], [], "$where: all " . keys(%all) . ' come back whole');
	return;
}
check_all('memory');
is($c->checkpoint->{status}, 'OK', 'checkpoint');
check_all('tables');
my $scan = $c->scan_all(start => 'v', end => 'w');
is(scalar @$scan, scalar keys %values, 'a scan finds each');
is(scalar(grep { $_->{value} ne $values{ $_->{key} } } @$scan), 0, '... whole, also those larger than a page');
undef $scan;
$node->restart('immediate');
$c = $node->client(trust_crc => 1, timeout => 60);
check_all('restart');

# 4. MGET whose answer would pass frame_max answers fewer; asking again for the rest gives all.
{
	my @ask = ("v$VALUE_MAX", 'v1000', 'v' . ($VALUE_MAX - 1), 'v8', 'nobody', "v$VALUE_MAX");
	my @got;
	my $rounds = 0;
	while (@got < @ask && $rounds++ < 10) {
		my $r = $c->mget([ @ask[ @got .. $#ask ] ]);
		is($r->{status}, 'OK', 'MGET of several largest values') or last;
		cmp_ok(scalar @{ $r->{entries} }, '>=', 1, '... at least one each time') or last;
		push @got, map { defined $_ ? $_->{value} : undef } @{ $r->{entries} };
	}
	is(scalar(grep { defined $values{ $ask[$_] } ? $got[$_] ne $values{ $ask[$_] } : defined $got[$_] } 0 .. $#ask),
		0, '... and all come');
	cmp_ok($rounds, '>=', 3, "... in $rounds rounds");
}

# 5. Operations in a batch, keys in an MGET: 65,536.
for my $n ($OPS_MAX - 1, $OPS_MAX) {
	my $r = $c->batch([ map { op(kind => 'put', key => sprintf('o%05x', $_), value => $n) } 1 .. $n ]);
	is($r->{status}, 'OK', "BATCH of $n operations") or diag $r->{text};
	is($c->get(sprintf 'o%05x', $n)->{version}, $r->{version} + $n - 1, '... the last one has its version');
	is($c->count_all(start => 'o', end => 'p'), $n, '... all are there');
	$r = $c->mget([ map { sprintf 'o%05x', $_ } 1 .. $n ]);
	is(scalar(grep { defined $_ && $_->{value} eq $n } @{ $r->{entries} }), $n, "MGET of $n keys");
}
is($c->batch([ (op(kind => 'put', key => 'o', value => '')) x ($OPS_MAX + 1) ])->{status}, 'BATCH_TOO_LARGE',
	'BATCH of one operation too many');
is($c->mget([ ('o') x ($OPS_MAX + 1) ])->{status}, 'BATCH_TOO_LARGE', 'MGET of one key too many');

# 6. Batches by bytes: one that fills a record fits, the next does not; frame_max ends the connection.
{
	my $room = $FRAME_MAX - 16; # write prefix and count
	my $second = $room - (16 + 2 + $VALUE_MAX) - (16 + 2);
	my @ops = (op(kind => 'put', key => 'r1', value => $values{"v$VALUE_MAX"}),
		op(kind => 'put', key => 'r2', value => 'x' x $second));
	my $payload = batch_payload(\@ops);
	is(length $payload, $FRAME_MAX, 'a batch as large as a frame may be');
	my $r = $c->call($CMD{BATCH}, $payload);
	ok($r->{status} eq 'OK' || $r->{status} eq 'BATCH_TOO_LARGE', "... is stored or refused as a whole ($r->{status})");
	my $is_there = $c->get('r2')->{status};
	is($is_there, $r->{code} == 0 ? 'OK' : 'NOT_FOUND', '... wholly');

	my $other = $node->client(trust_crc => 1);
	$other->send_bytes(frame(id => 77, type => $CMD{PING}, length => $FRAME_MAX + 1, payload => '', crc => 1));
	my $a = $other->receive;
	is($a && "$a->{status} $a->{id}", 'BATCH_TOO_LARGE 77', 'a frame above frame_max is refused at its header');
	ok(!defined $other->receive, '... and the connection closed');
}

# 7. PING up to 4,096 bytes; a client's name up to 64; a page up to 4 MiB.
is($c->ping('x' x $_)->{status}, 'OK', "PING of $_") for $PING_MAX - 1, $PING_MAX;
is($c->ping('x' x ($PING_MAX + 1))->{status}, 'BAD_REQUEST', 'PING of one byte more');
ok(eval { $node->client(name => 'n' x $_); 1 }, "client's name of $_ bytes") for 0, 63, 64;
ok(!eval { $node->client(name => 'n' x 65); 1 }, "client's name of 65 bytes is refused");
like($@, qr/BAD_REQUEST/, '... with BAD_REQUEST');
is($c->scan(page => 4194304, limit => 1)->{status}, 'OK', 'a page of 4 MiB');

# 8. What was refused cost the connection nothing, and a lowered max_value_size holds.
is($c->config('set', 'max_value_size=1000')->{status}, 'OK', 'max_value_size lowered');
my $d;
poll_until(sub { $d = $node->client(trust_crc => 1); $d->{value_max} == 1000 }, 60, 'the reload');
is($d->put('lowered', 'x' x 1000)->{status}, 'OK', '1000 bytes fit');
is($d->put('lowered', 'x' x 1001)->{status}, 'VALUE_TOO_LARGE', '1001 do not');
is(length $d->get("v$VALUE_MAX")->{value}, $VALUE_MAX, 'what was stored before is still read');
is($c->get('lowered')->{value}, 'x' x 1000, 'the first connection went through all of this');
is($node->stop, 0, 'stop');

done_testing;
