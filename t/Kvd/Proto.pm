package Kvd::Proto;

=head1 NAME

Kvd::Proto - the bytes of the kvd protocol (doc/protocol.md), for tests

=head1 SYNOPSIS

  use Kvd::Proto qw(:all);
  my $bytes = frame(id => 7, type => $CMD{PING}, payload => 'hello');
  my $h = header($bytes);                    # { length, crc, id, type, flags, status }
  my $put = write_prefix() . op(kind => 1, key => 'k', value => 'v');

Written from the document alone, so that it checks the document and the server against each other. It is
able to build wrong frames: every field of C<frame> can be given.

=cut

use strict;
use warnings;
use Exporter 'import';

our (%CMD, %NODE_CMD, %CODE, %CODE_NAME);
our @EXPORT_OK = qw(%CMD %NODE_CMD %CODE %CODE_NAME crc32c frame header frame_ok error_payload hello_payload
	write_prefix
	read_prefix op put_payload get_payload mget_payload scan_payload count_payload delete_range_payload batch_payload
	parse_scan parse_mget prefix_end);
our %EXPORT_TAGS = (all => \@EXPORT_OK);

%CMD = (HELLO => 1, PING => 2, PUT => 3, GET => 4, MGET => 5, DELETE => 6, DELETE_RANGE => 7, SCAN => 8, COUNT => 9,
	BATCH => 10, INCR => 11, STATS => 12, CONFIG => 13, CHECKPOINT => 14, SESSION => 15,
	CLUSTER => 16, ESTIMATE => 20);

# Between nodes: clients do not send them.
%NODE_CMD = (LOG_READ => 17, SNAPSHOT_OPEN => 18, SNAPSHOT_READ => 19);

%CODE = (OK => 0, NOT_FOUND => 1, CONDITION_FAILED => 2, BAD_REQUEST => 10, UNKNOWN_COMMAND => 11, BAD_VERSION => 12,
	KEY_TOO_LARGE => 13, VALUE_TOO_LARGE => 14, BATCH_TOO_LARGE => 15, NOT_INTEGER => 16, OUT_OF_RANGE => 17,
	SNAPSHOT_GONE => 18, BAD_SETTING => 19, NOT_LEADER => 20, OUTCOME_UNKNOWN => 21, TIMEOUT => 22,
	TOO_MANY_CONNECTIONS => 23, SHUTTING_DOWN => 24, STARTING => 25, NO_SPACE => 26, OUT_OF_MEMORY => 27,
	SESSION_EXPIRED => 28, IO_ERROR => 40, CORRUPT => 41, INTERNAL => 42, BUSY => 43, FOREIGN => 44);
%CODE_NAME = reverse %CODE;

# --- CRC-32C: tables for four bytes at a time, since values of 16 MiB pass through here --------------

my @T;
for my $b (0 .. 255) {
	my $crc = $b;
	$crc = $crc & 1 ? ($crc >> 1) ^ 0x82f63b78 : $crc >> 1 for 1 .. 8;
	$T[0][$b] = $crc;
}
for my $k (1 .. 3) {
	$T[$k][$_] = ($T[ $k - 1 ][$_] >> 8) ^ $T[0][ $T[ $k - 1 ][$_] & 0xff ] for 0 .. 255;
}

sub crc32c
{
	my $crc = 0xffffffff;
	my ($t0, $t1, $t2, $t3) = @T;
	my $whole = length($_[0]) & ~3;
	for (my $at = 0; $at < $whole; $at += 65536) {
		my $n = $whole - $at < 65536 ? $whole - $at : 65536;
		for my $word (unpack 'V*', substr $_[0], $at, $n) {
			$crc ^= $word;
			$crc = $t3->[ $crc & 0xff ] ^ $t2->[ $crc >> 8 & 0xff ] ^ $t1->[ $crc >> 16 & 0xff ] ^ $t0->[ $crc >> 24 ];
		}
	}
	$crc = ($crc >> 8) ^ $t0->[ ($crc ^ $_) & 0xff ] for unpack 'C*', substr $_[0], $whole;
	return $crc ^ 0xffffffff;
}

# --- frames -----------------------------------------------------------------------------------------

# id, type, payload; flags, status, length and crc only to make wrong ones.
sub frame
{
	my (%f) = @_;
	my $payload = defined $f{payload} ? $f{payload} : '';
	my $length = defined $f{length} ? $f{length} : length $payload;
	my $tail = pack 'VCCv', $f{id} || 0, $f{type} || 0, $f{flags} || 0, $f{status} || 0;
	my $crc = defined $f{crc} ? $f{crc} : crc32c($tail . $payload);
	return pack('VV', $length, $crc) . $tail . $payload;
}

sub header
{
	my %h;
	@h{qw(length crc id type flags status)} = unpack 'VVVCCv', $_[0];
	return \%h;
}

sub frame_ok
{
	my ($h, $payload) = @_;
	return crc32c(pack('VCCv', @$h{qw(id type flags status)}) . $payload) == $h->{crc};
}

# (detail, text) of an error answer.
sub error_payload
{
	my ($payload) = @_;
	return length $payload >= 8 ? (unpack('Q<', $payload), substr $payload, 8) : (0, '');
}

# --- payloads ---------------------------------------------------------------------------------------

sub hello_payload
{
	my (%o) = @_;
	my $name = defined $o{name} ? $o{name} : 'test';
	return pack('a4vvv', 'KVD1', defined $o{version} ? $o{version} : 1,
		($o{admin} ? 1 : 0) | ($o{forwarded} ? 2 : 0), length $name) . $name;
}

my %ACK = (quorum => 0, local => 1, none => 2);
my %READ = (linearizable => 0, local => 1, told => 2);

# stamp: [ session, serial, confirmed ]
sub write_prefix
{
	my (%o) = @_;
	return pack('CCx2V', defined $o{ack} ? $ACK{ $o{ack} } : 0, $o{stamp} ? 1 : 0, $o{deadline} || 0)
		. ($o{stamp} ? pack('Q<3', @{ $o{stamp} }) : '');
}

sub read_prefix
{
	my (%o) = @_;
	return pack 'Cx3VQ<', defined $o{read} ? $READ{ $o{read} } : 0, $o{deadline} || 0, $o{at_least} || 0;
}

my %KIND = (put => 1, delete => 2, incr => 3, delete_range => 4);
my %CONDITION = (none => 0, absent => 1, present => 2, version => 3, value => 4);

# kind, key, value (incr: the step), ttl (ms), keep_ttl, if => absent | present | version | value, expect
sub op
{
	my (%o) = @_;
	my $kind = $KIND{ $o{kind} } || die "no kind of operation: $o{kind}";
	my $if = $CONDITION{ $o{if} || 'none' };
	my $value = $kind == 3 ? pack('q<', $o{value}) : defined $o{value} ? $o{value} : '';
	my $expect = $if == 3 ? pack('Q<', $o{expect}) : $if == 4 ? $o{expect} : '';
	my $flags = (defined $o{ttl} ? 1 : 0) | ($o{keep_ttl} ? 4 : 0);
	return pack('CCCxVVV', $kind, $if, $flags, length $o{key}, length $value, length $expect)
		. (defined $o{ttl} ? pack('Q<', $o{ttl}) : '')
		. $o{key} . $value . $expect;
}

sub put_payload
{
	my ($key, $value, %o) = @_;
	return write_prefix(%o) . op(%o, kind => 'put', key => $key, value => $value);
}

sub get_payload
{
	my ($key, %o) = @_;
	return read_prefix(%o) . $key;
}

sub mget_payload
{
	my ($keys, %o) = @_;
	return read_prefix(%o) . pack('VV', scalar @$keys, 0) . join '', map { pack('V', length) . $_ } @$keys;
}

# ops: payloads made by op()
sub batch_payload
{
	my ($ops, %o) = @_;
	return write_prefix(%o) . pack('VV', scalar @$ops, 0) . join '', @$ops;
}

# start, end (undef: none), snapshot, limit, page, reverse, keys_only, after
sub scan_payload
{
	my (%o) = @_;
	my $start = defined $o{start} ? $o{start} : '';
	my $end = defined $o{end} ? $o{end} : '';
	my $flags =
		($o{reverse} ? 1 : 0) | ($o{keys_only} ? 2 : 0) | (defined $o{end} ? 0 : 4) | ($o{after} ? 8 : 0);
	return read_prefix(%o)
		. pack('Q<VVVVV', $o{snapshot} || 0, $o{limit} || 0, $o{page} || 0, $flags, length $start, length $end)
		. $start . $end;
}

sub count_payload
{
	my (%o) = @_;
	return scan_payload(%o, page => 0);
}

# start, end (undef: none), step
sub delete_range_payload
{
	my (%o) = @_;
	my $start = defined $o{start} ? $o{start} : '';
	my $end = defined $o{end} ? $o{end} : '';
	return write_prefix(%o)
		. pack('VVVV', $o{step} || 0, defined $o{end} ? 0 : 4, length $start, length $end)
		. $start . $end;
}

# --- answers ----------------------------------------------------------------------------------------

# { snapshot, more, last: the key to go on behind, if more; entries => [ { key, value, version, ttl } ] }
sub parse_scan
{
	my ($p) = @_;
	my ($snapshot, $count, $more) = unpack 'Q<VC', $p;
	my $at = 16;
	my @entries;
	for (1 .. $count) {
		my ($k, $v, $version, $ttl) = unpack 'VVQ<Q<', substr $p, $at, 24;
		push @entries,
			{ key => substr($p, $at + 24, $k), value => substr($p, $at + 24 + $k, $v),
				version => $version, ttl => $ttl };
		$at += 24 + $k + $v;
	}
	my $last = $more == 1 ? $entries[-1]{key} : $more == 2 ? substr $p, $at : undef;
	die "answer to SCAN has " . (length($p) - $at) . " bytes too many\n" if $more != 2 && $at != length $p;
	return { snapshot => $snapshot, more => $more, last => $last, entries => \@entries };
}

# { snapshot, entries => [ undef or { value, version, ttl } ] }
sub parse_mget
{
	my ($p) = @_;
	my ($snapshot, $count) = unpack 'Q<V', $p;
	my $at = 16;
	my @entries;
	for (1 .. $count) {
		my ($found, $v, $version, $ttl) = unpack 'Cx3VQ<Q<', substr $p, $at, 24;
		push @entries, $found ? { value => substr($p, $at + 24, $v), version => $version, ttl => $ttl } : undef;
		$at += 24 + $v;
	}
	die "answer to MGET has " . (length($p) - $at) . " bytes too many\n" if $at != length $p;
	return { snapshot => $snapshot, entries => \@entries };
}

# The end of the range of all keys with this prefix; undef: no upper end.
sub prefix_end
{
	my ($prefix) = @_;
	$prefix =~ s/\xff+\z//;
	return undef if $prefix eq '';
	return substr($prefix, 0, -1) . chr(1 + ord substr $prefix, -1);
}

1;
