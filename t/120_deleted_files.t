#!/usr/bin/perl
#
# 120_deleted_files.t - the space of deleted tables and value files comes back although an idle connection once read
# them.
#
# Why so: a file that was removed takes space until the last process has closed it. Backends keep the files they have
# read open, and one whose client is silent never reads again by itself. So: a client reads, from files (the cache is
# small), and is silent; another one replaces everything and compacts. Within client_timeout no process of the node may
# have a deleted file open. Then the silent client reads again: its files are others now.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;

-d '/proc/self/fd' or plan skip_all => 'needs /proc to see what processes have open';

use constant { KEYS => 1000, VALUE => 2000 };    # 2 MB, twice the cache

seed();
my ($node, $writer, $reader);

sub key { return sprintf 'k%06d', $_[0] }

sub fill
{
	my ($with) = @_;

	for my $i (1 .. KEYS) {
		my $a = $writer->put(key($i), $with x VALUE);
		$a->{code} == 0 or return fail("put: $a->{status}");
	}
	is($writer->checkpoint(compact => 1, deadline => 60_000)->{status}, 'OK', "filled with $with, and compacted");
}

# Files of tables and of values open in any process of the node: { tables, values, deleted }.
sub open_files
{
	my %n = (tables => 0, values => 0, deleted => 0);

	for my $pid (map {@$_} values %{ $node->children }) {
		for my $fd (glob "/proc/$pid/fd/*") {
			my $to = readlink($fd) // next;
			next unless $to =~ m{/(tables|values)/};
			my $kind = $1;
			$n{ $to =~ / \(deleted\)$/ ? 'deleted' : $kind }++;
		}
	}
	return \%n;
}

sub read_all
{
	my ($want) = @_;
	my $wrong = grep { ($reader->get(key($_))->{value} // '') ne $want x VALUE } 1 .. KEYS;

	is($wrong, 0, "reads $want");
}

# Values beside their keys, and apart from them.
for my $kind (qw(tables values)) {
	$node = Kvd::Test->new("main_$kind")->init(block_cache_size => '1MB', client_timeout => '1s',
		snapshot_retention => 0, blob_threshold => $kind eq 'values' ? '1kB' : 0)->start;
	$writer = $node->client;
	$reader = $node->client;
	fill('a');
	read_all('a');
	cmp_ok(open_files()->{$kind}, '>', 0, "the reader has files of $kind open");
	fill('b');
	ok(poll_until(sub { open_files()->{deleted} == 0 }, 60, "no deleted file of $kind open"),
		"an idle connection lets go of deleted $kind");
	read_all('b');
	fill('c');
	read_all('c');
	is($node->stop, 0, 'stop');
}

done_testing;
