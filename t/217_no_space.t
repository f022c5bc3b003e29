#!/usr/bin/perl
#
# 217_no_space.t - the leader's disk is nearly full: another node leads, and writes go on.
#
# Why so: a leader that may not write refuses everybody; a follower without space only lags. The disk is made "full" for
# one node by its setting disk_reserve, which asks for more than any disk has. A hand-over that fails is tried again a
# minute later.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;
use Kvd::Cluster;

my $cluster = Kvd::Cluster->new(nodes => 3, proxy => 0)->start;
is($cluster->by_leader(sub { $_[0]->put('before', 1) })->{status}, 'OK', 'the leader takes writes');
my $full = $cluster->wait_leader;
is($full->kvctl('config', 'set', 'disk_reserve', '1000TB')->{code}, 0, 'then has no space');
my $leader = $cluster->wait_leader(not => [$full], seconds => 150);
isnt($leader->name, $full->name, $leader->name . ' leads now');
is($cluster->by_leader(sub { $_[0]->put('after', 2) }, seconds => 150)->{status}, 'OK', '... and takes writes');
is($full->kvctl('config', 'reset', 'disk_reserve')->{code}, 0, 'there is space again');
$cluster->wait_same;
pass('all hold the same');
done_testing;
