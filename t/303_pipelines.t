#!/usr/bin/perl
#
# 303_pipelines.t - requests that travel together answer as if they had come one by one.
#
# Why so: a backend shares work between the requests of a batch (one snapshot, one log record, replies left to the WAL
# writer). What is shared must not show: not in what a read sees, not in whether an answer comes when the client has
# already closed its sending side. CONFIG from several connections at once must not lose a setting either.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use POSIX ();
use Time::HiRes qw(time sleep);
use Kvd::Test;
use Kvd::Proto qw(:all);

my $node = Kvd::Test->new('main')->init->start;
my $c = $node->client;
my $id = 1000;

# Send requests [ command, payload ] in one piece; the answers.
sub together
{
	my @requests = @_;
	$c->send_bytes(join '', map { frame(id => ++$id, type => $_->[0], payload => $_->[1]) } @requests);
	return map { $c->receive } @requests;
}

sub value { my ($a) = @_; return $a->{code} == 0 ? substr $a->{payload}, 16 : $a->{status} }

# 1. A page of an old snapshot does not make the reads behind it old.
{
	$c->put('k', 'old');
	my $snapshot = $c->scan(start => 'k', end => 'l')->{snapshot};
	$c->put('k', 'new');
	my @scan = ($CMD{SCAN}, scan_payload(start => 'k', end => 'l', snapshot => $snapshot));
	my ($s, $g) = together([@scan], [ $CMD{GET}, get_payload('k') ]);
	is(parse_scan($s->{payload})->{entries}[0]{value}, 'old', 'SCAN of an old snapshot');
	is(value($g), 'new', '... GET in the same batch reads what is newest');
	my ($p, $n, $h) = together([ $CMD{COUNT}, count_payload(start => 'k', end => 'l', snapshot => $snapshot) ],
		[ $CMD{GET}, get_payload('k') ], [ $CMD{GET}, get_payload('k') ]);
	is(value($n), 'new', '... behind COUNT too');
	is(value($h), 'new', '... and the one after it');
}

# 2. A local read, which goes by log time, does not lend its snapshot to a linearizable one, which goes by the clock.
{
	$c->put('brief', 'x', ttl => 100);
	sleep 0.3;
	my @local = ($CMD{GET}, get_payload('brief', read => 'local'));
	my $linear = (together([@local], [ $CMD{GET}, get_payload('brief') ]))[1];
	is(value($linear), 'NOT_FOUND', 'linearizable GET behind a local one: the expired key is gone');
	$c->put('brief', 'x', ttl => 100);
	sleep 0.3;
	my $mget = (together([@local], [ $CMD{MGET}, mget_payload(['brief']) ]))[1];
	is(parse_mget($mget->{payload})->{entries}[0], undef, '... MGET too');
}

# 3. Clients that send, close their sending side and then read get every answer in order, however busy the log is.
{
	my $bad = 0;
	for my $round (1 .. 5) {
		my @clients = map { $node->client } 1 .. 12;
		for my $i (0 .. $#clients) {
			for my $k (1 .. 20) {
				my $put = put_payload("half-$i-$k", $round);
				$clients[$i]->send_bytes(frame(id => $k, type => $CMD{PUT}, payload => $put));
			}
		}
		shutdown $_->socket, 1 for @clients;
		for my $client (@clients) {
			for my $k (1 .. 20) {
				my $a = $client->receive;
				$bad++ if !$a || $a->{id} != $k || $a->{code} != 0;
			}
			$bad++ if defined $client->receive;
		}
	}
	is($bad, 0, 'answers come to half-closed connections');
}

# 4. Settings changed by several connections at once are all kept.
{
	my %want = (log_level => 'debug', l0_slowdown => '77', disk_reserve => '65MB', client_timeout => '29s');
	my @pids;
	for my $name (sort keys %want) {
		my $pid = fork;
		if (!$pid) {
			my $client = $node->client;
			my $ok = 1;
			for (1 .. 25) {
				$ok &&= $client->config('set', "$name=$want{$name}")->{code} == 0;
			}
			POSIX::_exit($ok ? 0 : 1);
		}
		push @pids, $pid;
	}
	my $failed = 0;
	for (@pids) { waitpid $_, 0; $failed++ if $? }
	is($failed, 0, 'CONFIG set from four connections at once');
	my $file = slurp($node->dir . '/kvd.auto.conf');
	like($file, qr/^\s*$_\b/m, "... $_ is kept") for sort keys %want;
}

$node->stop;
done_testing();
