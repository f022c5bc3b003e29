#!/usr/bin/perl
#
# 004_malformed.t - 20,000 malformed frames harm only the connection they came over.
#
# Why so: whoever can open a socket can send anything. Three kinds of nonsense find different bugs: plain noise (wrong
# lengths and CRCs), well-formed frames with random payloads (the decoders), and right requests with a few bytes
# changed and the CRC made right again (what a decoder nearly believes). Beside them a witness goes on reading
# and writing over a connection of its own, and the processes of the server must be the same ones at the end: a
# backend that crashed would have cost the node a restart.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Time::HiRes qw(time);
use Kvd::Test;
use Kvd::Proto qw(:all);

use constant { FRAMES => 20_000, BURST => 20 };

seed();
my $node = Kvd::Test->new('main')->init->start;
my $witness = $node->client;
$node->wait_titles;
my $before = $node->children;
delete $before->{backend};
$witness->put("w$_", "value $_") for 1 .. 50;

sub noise { my ($n) = @_; return join '', map { chr int rand 256 } 1 .. $n }

sub small { return (0, 0, 1, 2, 7, 8, 15, 16, 17, 31, 40, 64, 100, 300)[ rand 14 ] }

# Numbers near which length checks go wrong.
sub odd_number
{
	return (0, 1, 2, 255, 256, 65535, 65536, 65537, 16777215, 16777216, 16777217, 17039360, 17039361, 0x7fffffff,
		0x80000000, 0xfffffff0, 0xffffffff)[ rand 17 ];
}

my @right = (
	[ $CMD{HELLO}, hello_payload() ],
	[ $CMD{PING}, 'ping' ],
	[ $CMD{PUT}, put_payload('m-key', 'value', ttl => 5000, if => 'value', expect => 'something') ],
	[ $CMD{PUT}, put_payload('m-key', 'value') ],
	[ $CMD{GET}, get_payload('m-key') ],
	[ $CMD{MGET}, mget_payload([ 'm-a', 'm-b', 'm-c' ]) ],
	[ $CMD{DELETE}, write_prefix() . op(kind => 'delete', key => 'm-key', if => 'version', expect => 7) ],
	[ $CMD{DELETE_RANGE}, delete_range_payload(start => 'm-', end => 'm-z', step => 10) ],
	[ $CMD{SCAN}, scan_payload(start => 'm-', end => 'm-z', limit => 10) ],
	[ $CMD{COUNT}, count_payload(start => 'm-', end => 'm-z', limit => 10) ],
	[ $CMD{ESTIMATE}, count_payload(start => 'm-', end => 'm-z') ],
	[ $CMD{BATCH}, batch_payload([ op(kind => 'put', key => 'm-1', value => 'x', ttl => 1),
		op(kind => 'incr', key => 'm-n', value => 1) ]) ],
	[ $CMD{INCR}, write_prefix() . op(kind => 'incr', key => 'm-n', value => 1) ],
	[ $CMD{STATS}, 'node' ],
	[ $CMD{CONFIG}, pack('Cx3', 0) . 'max_connections' ],
);

# A read that may wait for the far future (at_least) until a far deadline is no malformed frame, and does wait.
sub impatient
{
	my ($type, $payload) = @_;
	my $reads = grep { $type == $CMD{$_} } qw(GET MGET SCAN COUNT ESTIMATE);
	substr($payload, 4, 4) = pack 'V', 1 + int rand 10 if $reads && length $payload >= 8;
	return $payload;
}

# Changed right requests must not stop the server or delete the witness's keys by accident.
sub harmless
{
	my ($type, $payload) = @_;
	return 0 if $type == $CMD{CHECKPOINT};
	return 0 if $type == $CMD{CONFIG} && length $payload && ord($payload) != 0;
	return 0 if $type == $CMD{DELETE_RANGE} && $payload !~ /m-.*m-z\z/s;
	return 1;
}

sub changed_request
{
	my ($id) = @_;
	my ($type, $payload) = @{ $right[ rand @right ] };
	for (1 .. 1 + rand 3) {
		my $kind = int rand 6;
		my $at = int rand(1 + length $payload);
		if ($kind == 0) { $payload = substr $payload, 0, $at }
		elsif ($kind == 1) { $payload .= noise(1 + rand 20) }
		elsif ($kind == 2 && length $payload) {
			substr($payload, $at < length $payload ? $at : 0, 1) = chr int rand 256;
		}
		elsif ($kind == 3 && length $payload >= 4) {
			my $word = 4 * int($at / 4);
			substr($payload, $word <= length($payload) - 4 ? $word : 0, 4) = pack 'V', odd_number();
		}
		elsif ($kind == 4) { substr($payload, $at, 0) = noise(1 + rand 8) }
		else { $type = int rand 20 if rand() < 0.3 }
	}
	return changed_request($id) if !harmless($type, $payload);
	return frame(id => $id, type => $type, payload => impatient($type, $payload));
}

# A malformed frame that a connection may survive.
sub survivable
{
	my ($id) = @_;
	my $kind = int rand 8;
	return frame(id => $id, type => 2, payload => 'ping', flags => 1 + int rand 255) if $kind == 0;
	return frame(id => $id, type => 2, payload => 'ping', status => 1 + int rand 65535) if $kind == 1;
	if ($kind == 2) {
		my ($type, $payload) = (int rand 256, noise(small()));
		return frame(id => $id, type => $type, payload => impatient($type, $payload)) if harmless($type, $payload);
	}
	return changed_request($id);
}

# One after which the stream can't be trusted, or that promises more than comes.
sub deadly
{
	my $kind = int rand 4;
	return noise(1 + rand 60) if $kind == 0;
	return frame(type => int rand 256, payload => noise(small()), crc => int rand 2**32) if $kind == 1;
	return frame(type => 1 + int rand 14, payload => 'short', length => odd_number()) if $kind == 2;
	return substr changed_request(1), 0, int rand 40;
}

# Answers up to a PING that was sent last: '' when each request got its own in order, or when the server closed
# after answering some of them so.
sub check_answers
{
	my ($c, @ids) = @_;
	while (@ids) {
		my $a = $c->receive or return '';
		return '' if $a->{type} == 128 && $a->{id} == 0; # why the connection ends
		my $id = shift @ids;
		return "answer to $a->{id} where $id was next" if $a->{id} != $id;
	}
	return '';
}

my ($sent, $connections, $witnessed) = (0, 0, 0);
my (@out_of_order, $c);
while ($sent < FRAMES) {
	if (!$c) {
		# A few without HELLO: then anything but HELLO must end the connection.
		$c = $node->client(hello => rand() < 0.95, name => 'malformed');
		$connections++;
	}
	my @ids = map { int rand 2**32 } 1 .. 1 + rand BURST;
	my $end = rand() < 0.2;
	$sent += @ids + $end;
	my $bytes = join '', map { survivable($_) } @ids;
	push @ids, 4242;
	my $alive = $c->send_bytes($bytes . frame(id => 4242, type => $CMD{PING}, payload => 'x') . ($end ? deadly() : ''));
	my $wrong = check_answers($c, @ids);
	push @out_of_order, $wrong if $wrong ne '';
	if (!$alive || $end || !$c->send_bytes(frame(id => 1, type => $CMD{PING})) || !$c->receive) {
		$c->close;
		$c = undef;
	}
	next if rand() > 0.1;
	my $i = 1 + int rand 50;
	my $r = $witness->get("w$i");
	if ($r->{code} != 0 || $r->{value} ne "value $i" || $witness->put("w$i", "value $i")->{code} != 0) {
		fail("the witness reads its key w$i after $sent frames");
		diag explain $r;
		last;
	}
	$witnessed++;
}
$c->close if $c;
pass("$sent malformed frames over $connections connections; the witness was well $witnessed times");
is_deeply(\@out_of_order, [], 'what was answered was answered in order, once each');

# The witness's own connection lives, and no process of the server had to be replaced.
is($witness->ping('alive')->{payload}, 'alive', 'the witness is still connected');
my $after = $node->children;
delete $after->{backend};
is_deeply($after, $before, 'the processes of the server are the same');
is($witness->stats('node.restarts')->{'node.restarts'}, 0, 'no restart');
my @bad = grep { /signal|PANIC|panic|assert|exit code/i } split /\n/, $node->log;
is_deeply(\@bad, [], 'nobody crashed');
my $gone = poll_until(sub { @{ $node->children->{backend} || [] } <= 1 }, 60,
	'the backends of closed connections to go');
ok($gone, 'backends of closed connections are gone');

# What each kind of harm is answered with.
sub answer_to
{
	my ($bytes, %o) = @_;
	my $x = $node->client(%o);
	$x->send_bytes($bytes);
	my $first = $x->receive;
	my $then = $first ? eval { $x->send_bytes(frame(id => 9, type => $CMD{PING}, payload => 'x')); $x->receive }
		: undef;
	return ($first ? "$first->{status} id $first->{id}" : 'closed') . ', then ' . ($then ? 'open' : 'closed');
}
is(answer_to(frame(id => 5, type => $CMD{PING}, payload => 'x', crc => 1)), 'BAD_REQUEST id 5, then closed',
	'a wrong CRC');
is(answer_to(frame(id => 5, type => $CMD{PING}, payload => 'x'), hello => 0), 'BAD_REQUEST id 5, then closed',
	'no HELLO first');
is(answer_to(frame(id => 5, type => 200, payload => 'x')), 'UNKNOWN_COMMAND id 5, then open', 'an unknown command');
is(answer_to(frame(id => 5, type => $CMD{GET}, payload => 'x')), 'BAD_REQUEST id 5, then open', 'a short payload');
is(answer_to(frame(id => 5, type => $CMD{HELLO}, payload => hello_payload(version => 0)), hello => 0),
	'BAD_VERSION id 5, then closed', 'a version too low');
is(answer_to(frame(id => 5, type => $CMD{HELLO}, payload => 'KVDX' . substr(hello_payload(), 4)), hello => 0),
	'BAD_REQUEST id 5, then closed', 'a wrong magic');
is(answer_to("GET / HTTP/1.1\r\nHost: example\r\n\r\n", hello => 0) =~ /then closed/ ? 1 : 0, 1,
	'somebody who takes this for a web server');

# A client that stops in the middle of a request is left after client_timeout, others do not wait for it.
is($witness->config('set', 'client_timeout=300ms')->{status}, 'OK', 'client_timeout=300ms');
poll_until(sub { $witness->config('list', 'client_timeout')->{rows}[0][1] eq '300ms' }, 60, 'the setting');
my $staller = $node->client;
$staller->send_bytes(substr frame(id => 5, type => $CMD{PING}, payload => 'x' x 100), 0, 50);
my $t = time;
my $end = $staller->receive;
ok(!$end || $end->{code} != 0, 'a staller is shown the door');
cmp_ok(time - $t, '<', 25, '... sooner than by default');
is($witness->ping('x')->{status}, 'OK', 'a client that is silent between requests is not');
is($node->stop, 0, 'stop');

done_testing;
