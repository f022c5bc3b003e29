#!/usr/bin/perl
#
# 304_stopped_backend.t - a backend that stands still inside a read is ended, and only its client notices.
#
# Why so: a reader keeps memory from being reused by a pin in its own slot. A process that is stopped there (SIGSTOP, a
# debugger) would hold up every writer once the memtables are full. Nothing tells from outside when a process is
# inside its pin, so counting, which is inside nearly all the time, is stopped until the server says that it hit one.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Time::HiRes qw(sleep);
use Kvd::Test;
use Kvd::Proto qw(:all);

my $node = Kvd::Test->new('main')->init->start;
my $watcher = $node->client;
my $id = 1;

for my $part (0 .. 19) {
	my @ops = map { op(kind => 'put', key => sprintf('key-%07d', $part * 5000 + $_), value => 'x' x 10) } 0 .. 4999;
	$watcher->batch(\@ops);
}
# Not before: on a busy machine a backend that works may be off the processor for so long.
is($watcher->config(set => 'stuck_timeout=2s')->{status}, 'OK', 'a short stuck_timeout');
my %before = map { $_ => 1 } @{ $node->children->{backend} };
my $hit = 0;
for my $try (1 .. 40) {
	my $c = $node->client;
	my ($pid) = grep { !$before{$_} } @{ $node->children->{backend} };
	$c->send_bytes(join '', map { frame(id => $id++, type => $CMD{COUNT}, payload => count_payload()) } 1 .. 50);
	sleep 0.02;
	kill 'STOP', $pid;
	my $said = sub { $node->log =~ /backend process $pid has been holding a pin/ };
	eval { Kvd::Test::poll_until($said, 10, 'the server to notice') };
	$hit = $said->();
	kill 'CONT', $pid if !$hit;
	$c->close;
	last if $hit;
	Kvd::Test::poll_until(sub { !grep { $_ == $pid } @{ $node->children->{backend} || [] } }, 120,
		'the backend to leave');
}
ok($hit, 'a backend stopped inside its pin was ended');
is($watcher->config(set => 'stuck_timeout=10s')->{status}, 'OK', 'a long one');
$watcher->put('after', 'it');
is($watcher->get('after')->{value}, 'it', 'others are served as before');
is($watcher->stats('node.restarts')->{'node.restarts'}, 0, '... without a restart of the node');
$node->stop;
done_testing;
