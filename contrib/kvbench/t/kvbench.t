#!/usr/bin/perl
#
# kvbench.t - kvbench measures what it says and notices a server that lies.
#
# Why so: a benchmark that ignores wrong answers measures nothing, so a small server in this file gives wrong values,
# errors, answers out of order and none at all, and kvbench must say so and fail. Against the real one every
# workload must do exactly the operations it was asked for, find the keys it should and no others.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib "$FindBin::Bin/../../../t";
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use Kvd::Test;
use Kvd::Proto qw(:all);

my $kvbench = kvd_bin('kvbench');

# --- usage ------------------------------------------------------------------------------------------

my $r = run_command($kvbench, '--help');
is($r->{code}, 0, '--help');
like($r->{out}, qr/^  \Q$_\E /m, "--help lists $_")
	for qw(fillseq fillrandom overwrite readrandom readmissing readseq seekrandom mixed a b c d e f);
for my $case ([], ['nosuch'], [ '-c', '0', 'c' ], [ '-P', 'x', 'c' ], [ '-d', '16777217', 'c' ],
	[ '--dist', 'odd', 'c' ], [ '--rate', '0', 'c' ],
	[ '-k', '3', '-r', '1000', 'c' ], [ '--ack', 'maybe', 'c' ]) {
	is(run_command($kvbench, '-p', 1, @$case)->{code}, 2, "usage error: @$case");
}
is(run_command($kvbench, '-p', 1, '-T', 1, 'c')->{code}, 3, 'nobody there: cannot connect');

# --- the real server --------------------------------------------------------------------------------

my $node = Kvd::Test->new('main')->init->start;

sub bench
{
	my (@args) = @_;
	my $b = run_command($kvbench, '-p', $node->port, '-r', 2000, '--json', '--verify-crc', @args);
	return { code => $b->{code}, err => $b->{err}, map { %{ decode_json($_) } } (split /\n/, $b->{out})[0] || '{}' };
}

for my $options ([qw(-c 1 -P 1)], [qw(-c 1 -P 7)], [qw(-c 3 -P 16)], [qw(-c 3 -P 5 --poll)],
	[qw(-c 2 -P 3 --rate 20000)]) {
	my $b = bench(@$options, '-n', 5000, 'fillrandom');
	is("$b->{code} $b->{operations} $b->{wrong}", '0 5000 0', "@$options: fillrandom") or diag $b->{err};
	for my $w (qw(readrandom overwrite mixed a b c f)) {
		$b = bench(@$options, '-n', 500, $w);
		is("$b->{code} $b->{operations} $b->{not_found} $b->{wrong}", '0 500 0 0', "@$options: $w") or diag $b->{err};
	}
	$b = bench(@$options, '-n', 500, 'readmissing');
	is("$b->{code} $b->{not_found}", '0 500', "@$options: readmissing finds nothing");
	$b = bench(@$options, '-n', 100, '--scan', 10, 'seekrandom');
	is("$b->{code} $b->{wrong}", '0 0', "@$options: seekrandom");
	cmp_ok($b->{entries}, '>', 900, '... with its entries');
}
my $c = $node->client;
is($c->count_all, 2000, 'fillrandom stored each key of the keyspace once');
my $b = bench(qw(-c 3 readseq));
is("$b->{code} $b->{entries}", '0 2000', 'readseq reads each key once');
$b = bench(qw(-c 2 -P 4 -n 1000), $_), is("$b->{code} $b->{operations} $b->{wrong}", '0 1000 0', "YCSB $_") for qw(d e);
cmp_ok($c->count_all, '>', 2000, 'D and E inserted');
$b = bench(qw(-c 1 -n 1000000000000 -T 0.5 readrandom));
ok($b->{seconds} >= 0.5, "-T 0.5 took $b->{seconds} s");
$b = bench(qw(-c 4 --rate 200 -n 200 readrandom));
is($b->{operations}, 200, '--rate 200');
cmp_ok($b->{seconds}, '>=', 0.99, "... took $b->{seconds} s for 200: no faster");
for my $q (qw(p50 p95 p99 p99.9 p99.99 max)) {
	cmp_ok($b->{latency_us}{all}{$q}, '>', 0, "it tells $q");
}
is_deeply([ map { bench(qw(-c 1 -n 300 --seed 5 a))->{latency_us}{read}{count} } 1, 2 ],
	[ (bench(qw(-c 1 -n 300 --seed 5 a))->{latency_us}{read}{count}) x 2 ],
	'the same seed makes the same choices');
$c->config('set', 'max_value_size=50');
poll_until(sub { $c->config('list', 'max_value_size')->{rows}[0][1] =~ /\A50/ }, 60, 'the setting');
is(bench(qw(-d 100 -n 10 overwrite))->{code}, 2, 'values that the server does not take are a usage error');
$c->config('reset', 'max_value_size');
$c->put('key:000000000007',
	'not what kvbench wrote, but as long as that, and so it can only be told by what is in it..........');
$b = bench(qw(-c 1 -n 20000 readrandom));
is($b->{code}, 1, 'a foreign value under its key: exit code 1');
cmp_ok($b->{wrong}, '>', 0, '... counted');
is($node->stop, 0, 'stop');

# --- a server that lies -----------------------------------------------------------------------------

# Serves one connection; `spoil` may change each answer: (type, payload, n) -> frame bytes.
sub liar
{
	my ($spoil) = @_;
	my $listen = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', Proto => 'tcp') or die "listen: $!";
	my $parent = $$;
	my $pid = fork;
	die "fork: $!" if !defined $pid;
	return ($pid, $listen->sockport) if $pid != 0;
	Kvd::Test::die_with_parent($parent);
	my $s = $listen->accept;
	my ($in, $n) = ('', 0);
	while (sysread $s, $in, 65536, length $in) {
		while (length $in >= 16 && length $in >= 16 + unpack 'V', $in) {
			my $h = header($in);
			substr($in, 0, 16 + $h->{length}) = '';
			my $hello = pack 'vvVVVVCx3Q<a16Q<va5', 1, 1, 65536, 16777216, 17039360, 65536, 1, 1, '', 1, 5, '0.1.0';
			my $bytes = $h->{type} == 1 ? frame(id => $h->{id}, type => 129, payload => $hello) : $spoil->($h, $n++);
			POSIX::_exit(0) if !defined $bytes;
			syswrite $s, $bytes;
		}
	}
	POSIX::_exit(0);
}

sub lied_to
{
	my ($spoil, @args) = @_;
	my ($pid, $port) = liar($spoil);
	my $x = run_command({ timeout => 30 }, $kvbench, '-p', $port, '-c', 1, '-n', 20, '-r', 100, @args);
	kill 'KILL', $pid;
	waitpid $pid, 0;
	return $x;
}

sub ok_get
{
	my ($h, $value) = @_;
	return frame(id => $h->{id}, type => $h->{type} + 128, payload => pack('Q<Q<', 1, 0) . $value);
}

is(lied_to(sub { ok_get($_[0], 'x' x 100) }, 'readrandom')->{code}, 1, 'wrong values');
is(lied_to(sub { ok_get($_[0], '') }, 'readmissing')->{code}, 1, 'keys that cannot be there');
$r = lied_to(sub { frame(id => $_[0]{id}, type => $_[0]{type} + 128, status => 43,
	payload => pack('Q<', 0) . 'too much to do') }, 'overwrite');
is($r->{code}, 4, 'errors');
like($r->{out}, qr/error BUSY +20/, '... counted by code');
like($r->{err}, qr/too much to do/, '... with the first one\'s text');
is(lied_to(sub { frame(id => $_[0]{id} + 1, type => $_[0]{type} + 128, payload => pack 'Q<', 1) },
	'overwrite')->{code}, 3, 'answers out of order');
is(lied_to(sub { $_[1] < 5 ? frame(id => $_[0]{id}, type => $_[0]{type} + 128, payload => pack 'Q<', 1) : undef },
	'overwrite')->{code}, 3, 'a connection that ends');
is(lied_to(sub { frame(id => $_[0]{id}, type => $_[0]{type} + 128, payload => pack('Q<', 1), crc => 1) },
	'--verify-crc', 'overwrite')->{code}, 3, 'wrong CRCs');
is(lied_to(sub { frame(id => 0, type => 128, status => 24, payload => pack('Q<', 0) . 'going down') },
	'overwrite')->{code}, 3, 'a server that goes away');

done_testing;
