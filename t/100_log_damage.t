#!/usr/bin/perl
#
# 100_log_damage.t - the log cut at every byte and each byte flipped: a prefix above the durable mark, a refusal below.
#
# Why so: after a power failure the log's end may hold anything, and a disk may give back anything at any time. Which
# of the two it was decides what is right: above the durable mark an unfinished record is cut off and the node
# starts with what came before; below it the same bytes are damage, and starting without them would lose acknowledged
# writes, so the node must refuse and say where. The store is small, so that really every byte gets its turn.
# Both cases use the same log; they differ only in which copy of the durable mark stands beside it.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Time::HiRes qw(time);
use Kvd::Test;

use constant SEGMENT => 1 << 20;

seed();
my $node = Kvd::Test->new('main')->init(port => keep_port(), wal_segment_size => '1MB',
	block_cache_size => '1MB', metadata_size => '1MB')->start->wait_config; # with one address one CONFIG record
$node->stop('fast');
my $wal = $node->dir . '/wal';
my $early_mark = slurp("$wal/mark");

# Keys in the order they are written; each value tells which.
my @keys = map { "k$_" } 1 .. 2;
$node->start;
{
	my $c = $node->client;
	$c->put($_, "value of $_") for @keys;
}
# Until the mark covers all of it; then crash.
$node->wait_mark;
my $mark = slurp("$wal/mark");
$node->stop('immediate');
my ($file) = sort glob "$wal/*.kvw";
my $log = slurp($file);
(my $used = $log) =~ s/\0+\z//;
my $end = length $used;
my %saved = map { $_ => slurp($_) } grep { -f } glob($node->dir . '/*'), glob("$wal/*"), glob($node->dir . '/tables/*');
cmp_ok($end, '<', 1000, "the log has $end bytes");
cmp_ok(index($log, 'value of k2'), '>', 0, 'with the last value in them');

# Everything as it was, with this log and this mark.
sub restore
{
	my ($new_log, $new_mark) = @_;
	for my $path (glob($node->dir . '/MANIFEST*'), glob("$wal/*"), glob($node->dir . '/tables/*')) {
		unlink $path if !exists $saved{$path};
	}
	my @changed = grep { !/kvd\.(?:lock|conf)\z/ } keys %saved;
	spew($_, $_ eq $file ? $new_log : $_ eq "$wal/mark" ? $new_mark : $saved{$_}) for @changed;
	return;
}

# Start; which keys are there. A reason instead when the start is refused.
sub try_start
{
	my $before = $node->log_size;
	$node->start(no_wait => 1);
	if (!eval { $node->wait_ready(30); 1 }) {
		die $@ if $node->pid;
		return { refused => $node->{code}, said => $node->log($before) };
	}
	my $c = $node->client;
	my $m = $c->mget(\@keys);
	my @found = map { defined $_ ? $_->{value} : undef } @{ $m->{entries} };
	my $extra = $c->count->{count} - grep { defined } @found;
	$c->put('after', 'x')->{code} == 0 or die "no write after the start\n";
	$node->stop('immediate');
	return { found => \@found, extra => $extra };
}

# How many of the keys, when they are a prefix of the writes with right values; -1 otherwise.
sub prefix_of_writes
{
	my ($r) = @_;
	my $n = 0;
	$n++ while $n < @keys && defined $r->{found}[$n] && $r->{found}[$n] eq "value of $keys[$n]";
	return -1 if $r->{extra} || grep { defined } @{ $r->{found} }[ $n .. $#keys ];
	return $n;
}

sub cut { my ($at) = @_; return substr($log, 0, $at) . "\0" x (SEGMENT - $at) }

sub flipped
{
	my ($at) = @_;
	my $changed = $log;
	substr($changed, $at, 1) ^= chr(1 << int rand 8);
	return $changed;
}

# 0. Untouched, all is there with either mark.
for my $m ($early_mark, $mark) {
	restore($log, $m);
	is(prefix_of_writes(try_start()), scalar @keys, 'untouched log: all writes are there');
}

# 1. Above the mark: cut or flipped, a prefix of the writes, and never a refusal.
my $t = time;
my $below = 48; # what the early mark covers stays whole; found out here
restore(cut(0), $early_mark);
$below++ while $below < $end && do { restore(cut($below), $early_mark); my $r = try_start(); $r->{refused} };
$below = ($below + 7) & ~7; # a cut within a record's padding changes nothing
note "the early mark covers less than $below bytes";
cmp_ok($below, '<', index($log, 'value of k1') - 40, 'all puts are above the early mark');
my (@bad, %seen);
for my $at ($below .. $end) {
	for my $what ($at < $end ? qw(cut flipped) : 'cut') {
		restore($what eq 'cut' ? cut($at) : flipped($at), $early_mark);
		my $r = try_start();
		my $n = $r->{refused} ? -2 : prefix_of_writes($r);
		$seen{$n}++;
		push @bad, "$what at $at: " . ($n == -2 ? "refused: $r->{said}" : 'not a prefix: ' . join ',',
			map { defined $_ ? $_ : '-' } @{ $r->{found} }) if $n < 0;
	}
}
is_deeply(\@bad, [], sprintf 'above the mark, every byte cut and flipped: a prefix of the writes (%.0f s)', time - $t);
is(join(' ', sort grep { $_ >= 0 } keys %seen), '0 1 2', 'each number of writes came up');

# 2. A shorter file instead of zeros behind the cut, as a file system may leave it.
@bad = ();
for my $at (grep { $_ % 16 == 0 || $_ == $end } $below .. $end) {
	restore(substr($log, 0, $at), $early_mark);
	my $r = try_start();
	push @bad, "short file of $at: " . ($r->{said} || 'not a prefix') if $r->{refused} || prefix_of_writes($r) < 0;
}
is_deeply(\@bad, [], 'above the mark, the file itself cut: a prefix of the writes');

# 3. Below the mark the same is damage: refused, in words, and nothing is changed; --check finds it too.
$t = time;
@bad = ();
my $kvd = kvd_bin('kvd');
for my $at (0 .. $end - 1) {
	# A cut below the mark is told by where the log ends; every eighth byte meets all parts of a record.
	for my $what ($at % 8 == 0 ? qw(cut flipped) : 'flipped') {
		my $damaged = $what eq 'cut' ? cut($at) : flipped($at);
		next if $damaged eq $log;
		restore($damaged, $mark);
		my $r = run_command($kvd, '-D', $node->dir, '--check');
		push @bad, "$what at $at: --check ended with $r->{code}" if $r->{code} == 0;
		push @bad, "$what at $at: --check says nothing of the log: $r->{out}$r->{err}"
			if "$r->{out}$r->{err}" !~ /log|wal/i;
		next if $at % 16 != 0;
		$r = try_start();
		push @bad, "$what at $at: it started" if !$r->{refused};
		push @bad, "$what at $at: the log was changed" if slurp($file) ne $damaged;
	}
}
is_deeply(\@bad, [], sprintf 'below the mark, every byte flipped and every eighth cut: refused (%.0f s)', time - $t);

done_testing;
