#!/usr/bin/perl
#
# 200_apparatus.t - what the other 2xx suites are judged by: recorder, checker and proxy, on one node.
#
# Why so: a checker that finds nothing and a proxy that cuts nothing would make every suite below pass. One
# node alone gives histories that must be good; changed in one place they must be bad. What each cut does is
# seen from a client.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Time::HiRes qw(time);
use Kvd::Test;
use Kvd::Proxy;

use constant { OPERATIONS => 3000, CLIENTS => 8, DELAY_MS => 200, RATE => 100_000 };

seed();
my $node = Kvd::Test->new('main')->init->start;
my $uri = 'kv://127.0.0.1:' . $node->port;

sub program { my ($name, @args) = @_; return run_command(kvd_bin("../test/$name"), @args) }

subtest 'a history' => sub {
	my $path = test_dir() . '/history';
	my $r = program('kvrecord', '-o', $path, '-n', OPERATIONS, '-c', CLIENTS, '-s', seed(), $uri);
	is($r->{code}, 0, 'recorded');
	like($r->{out}, qr/^ok @{[OPERATIONS]}$/m, 'all were done');
	$r = program('kvlin', $path);
	is($r->{code}, 0, 'one node is linearizable') or diag $r->{out} . $r->{err};

	my @lines = split /^/, slurp($path);
	my ($old) = map { /^\d+ \d+ ok get \S+r0 (\d+\.\d+ \d+)$/ ? $1 : () } @lines;
	my $changed;
	for my $line (reverse @lines) {
		last if $changed = $line =~ s/( ok get \S+r0 )(?!\Q$old\E$)\d+\.\d+ \d+$/$1$old/;
	}
	ok($changed, 'there is a read to change');
	spew("$path.bad", join '', @lines);
	$r = program('kvlin', "$path.bad");
	is($r->{code}, 1, 'a stale read is found');
	like($r->{out}, qr/^NOT LINEARIZABLE.*^key hr0:.* get hr0 -> \Q@{[ split ' ', $old ]}[0]\E/ms, '... and shown');
	is(program('kvlin', "$path.none")->{code}, 2, 'no history, no verdict');
};

subtest 'a journal' => sub {
	my $path = test_dir() . '/journal';
	my $r = program('kvrecord', '-j', '-o', $path, '-n', OPERATIONS, '-c', CLIENTS, '-p', 'j', $uri);
	is($r->{code}, 0, 'written');
	is(() = slurp($path) =~ /\n/g, OPERATIONS, 'all are listed');
	is(program('kvrecord', '-v', $path, $uri)->{code}, 0, 'all are there');
	my ($key) = slurp($path) =~ /^(\S+)/m;
	$node->client->delete($key);
	$r = program('kvrecord', '-v', $path, $uri);
	is($r->{code}, 1, 'a missing one is found');
	like($r->{out}, qr/^missing \Q$key\E: absent/m, '... and named');
	$node->client->put($key, 'else');
	is(program('kvrecord', '-v', $path, $uri)->{code}, 1, 'a changed one too');
};

subtest 'cuts' => sub {
	my $to = '127.0.0.1:' . $node->port;
	my $proxy = Kvd::Proxy->start('a>b' => $to, 'b>a' => $to);
	my $new = sub {
		my ($link, $timeout) = @_;
		return Kvd::Client->new(port => $proxy->port($link), timeout => $timeout || 20);
	};
	my $c = $new->('a>b');
	my $large = join '', map { chr 32 + rand 90 } 1 .. 50_000;
	$large x= 40;
	is($c->put('k', $large)->{status}, 'OK', 'all passes');
	ok($c->get('k')->{value} eq $large, '... unchanged');

	$proxy->set('a>b', state => 'blocked');
	$c->{timeout} = 1;
	ok(!eval { $c->put('k', 'after'); 1 }, 'blocked: no answer');
	like($@, qr/no answer/, '... and no end');
	$c->{timeout} = 20;
	ok(!eval { $new->('a>b', 1); 1 }, '... for new connections too');
	like($@, qr/no answer/, '... which are accepted');
	ok($new->('b>a')->get('k')->{value} eq $large, '... the other way is open, and nothing came through');
	$proxy->heal;
	is($c->receive->{code}, 0, 'healed: what was held goes on');

	$proxy->set('a>b', delay => DELAY_MS);
	my $began = time;
	$c->ping('x');
	cmp_ok(time - $began, '>=', 2 * DELAY_MS / 1000, 'delayed both ways');
	$proxy->set('a>b', delay => 0, rate => RATE);
	$c = Kvd::Client->new(port => $proxy->port('a>b'), timeout => 20);
	$began = time;
	is($c->put('k', 'x' x RATE)->{status}, 'OK', 'throttled');
	cmp_ok(time - $began, '>=', 0.8, '... to about its rate');
	$proxy->heal;

	$proxy->cut('a>b');
	ok(!eval { $c->ping('x'); 1 }, 'cut: connections end');
	$c = $new->('a>b');
	is($c->put('k', 'v')->{status}, 'OK', '... new ones work');
	$proxy->set('a>b', state => 'reset');
	ok(!eval { $c->ping('x'); 1 }, 'reset: connections end');
	ok(!eval { $new->('a>b'); 1 }, '... new ones too');
	$proxy->heal;
	ok($new->('a>b'), 'healed');
	is($proxy->stop, 0, 'the proxy ends when told');
};

$node->stop;
done_testing;
