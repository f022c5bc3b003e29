#!/usr/bin/perl
#
# 305_bounded_scans.t - walks over what is gone come in small steps, and no walk keeps files of the past.
#
# Why so: a scan over a million tombstones has nothing to answer for as long as it takes; while one request did all of
# that, nothing it may see could be reused, and its client could not tell a busy server from a dead one. Who does
# not read its answers must not hold files either. So what is counted here are the requests and the files.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Fcntl;
use POSIX ();
use Kvd::Test;
use Kvd::Proto qw(:all);

$Kvd::Test::KVCTL_OPTIONS = '?timeout=50s';
# Nobody is left, no snapshot is given up because somebody else was slow.
my $node = Kvd::Test->new('main')->init(client_timeout => '10min', snapshot_retention => '10min')->start;
my $c = $node->client(timeout => 120);
my $KEYS_MAX = 262144; # of one request, as doc/protocol.md says
my $N = 300_000;
my $id = 1;

sub tables { my %t = map { $_ => 1 } map { s{.*/}{}r } glob $node->dir . '/tables/*.kvt'; return \%t }

# Write all keys again, and make tables of them, so that no table of before is needed any more.
sub write_all
{
	my ($value) = @_;
	my @lines = map { sprintf "key-%06d\t%s\n", $_, $value } 0 .. $N - 1;
	my $r = $node->kvctl({ stdin => join '', @lines }, '-q', 'load', '-');
	die "load: $r->{err}" if $r->{code} != 0;
	$c->checkpoint(compact => 1);
	return tables();
}

sub old_files_go
{
	my ($old, $what) = @_;
	my $left = sub { my $now = tables(); return [ grep { $now->{$_} } keys %$old ] };
	eval { Kvd::Test::poll_until(sub { !@{ $left->() } }, 60, 'the old files to go') };
	is_deeply($left->(), [], $what);
	return;
}

say_why('a client that asks for much and reads nothing');
my $old = write_all('first');
my $slow = $node->client;
my @pages = map { sprintf 'key-%06d', $_ * 50_000 } 0 .. 5;
$slow->send_bytes(join '',
	map { frame(id => $id++, type => $CMD{SCAN}, payload => scan_payload(start => $_, page => 1 << 22)) } @pages);
write_all('second');
old_files_go($old, 'the old files go');
my $entries = 0;
$entries += @{ parse_scan($slow->receive->{payload})->{entries} } for @pages;
cmp_ok($entries, '>', 0, 'then it reads, and there is something');
$slow->close;

say_why('a dump that nobody takes, and one COUNT behind the other');
$old = tables();
my $pipe = $node->dir . '.pipe';
POSIX::mkfifo($pipe, 0600) or die "cannot make $pipe: $!";
sysopen my $dump, $pipe, O_RDONLY | O_NONBLOCK or die "cannot open $pipe: $!";
my $pid = Kvd::Test::start_command({ out => $pipe }, Kvd::Test::kvd_bin('kvctl'), '-p', $node->port, 'dump');
my $ready = '';
vec($ready, fileno $dump, 1) = 1;
is(select(my $r = $ready, undef, undef, 30), 1, 'the dump has begun');
my $busy = $node->client;
$busy->send_bytes(join '', map { frame(id => $id++, type => $CMD{COUNT}, payload => count_payload()) } 1 .. 100);
write_all('third');
old_files_go($old, 'the old files go');
$busy->close;
my ($seconds, $other, $rest) = (0, 0, '');
while (1) {
	select $r = $ready, undef, undef, 30;
	last if !sysread $dump, my $bytes, 1 << 16;
	$rest .= $bytes;
	while ($rest =~ s/\A([^\n]*)\n//) { $1 =~ /\tsecond\z/ ? $seconds++ : $other++ }
}
is(Kvd::Test::wait_for($pid, 30), 0, 'the dump goes on when it is taken');
is("$seconds $other", "$N 0", '... and is all of one snapshot');

say_why('tombstones');
for my $part (0 .. $N / 10_000 - 1) {
	my @keys = map { sprintf 'key-%06d', $part * 10_000 + $_ } 0 .. 9_999;
	$c->batch([ map { op(kind => 'delete', key => $_) } @keys ]);
}
$c->put('zzz', 'the last');
for my $reverse (0, 1) {
	my ($requests, @found, $a) = (0);
	my %o = $reverse ? (reverse => 1, end => 'zzz') : ();
	do {
		$a = $c->scan(%o, snapshot => $a ? $a->{snapshot} : 0);
		die "SCAN: $a->{status}" if $a->{code} != 0;
		push @found, map { $_->{key} } @{ $a->{entries} };
		$requests++;
		%o = (%o, $reverse ? (end => $a->{last}) : (start => $a->{last}, after => 1)) if $a->{more};
	} while $a->{more};
	is_deeply(\@found, $reverse ? [] : ['zzz'], ($reverse ? 'backward' : 'forward') . ': what is there is found');
	cmp_ok($requests, '>=', 2, "... by more than one request ($requests): none looks at more than $KEYS_MAX keys");
}
is($node->kvctl('count')->{out}, "1\n", 'kvctl count goes on by itself');
is($node->kvctl('scan')->{out} =~ /zzz/ ? 1 : 0, 1, 'kvctl scan too');
is($node->kvctl('dump')->{out}, "zzz\tthe last\n", 'kvctl dump too');
is($node->kvctl('del', '--prefix', '')->{code}, 0, 'and deleting a range');
is($c->get('zzz')->{status}, 'NOT_FOUND', '... which came to its end');
$node->stop;
done_testing;
