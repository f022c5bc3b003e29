package Kvd::Client;

=head1 NAME

Kvd::Client - a client of the kvd protocol in Perl, for tests

=head1 SYNOPSIS

  my $c = Kvd::Client->new(port => $node->port);
  my $a = $c->put('key', 'value', ttl => 1000);     # { status => 'OK', version => ... }
  $a = $c->get('key');                              # { status => 'OK', value, version, ttl }
  $a = $c->call($CMD{PING}, 'x');                   # { status, payload, id, ... }
  $c->send_bytes($anything);  $a = $c->receive;     # undef when the server closed the connection

=head1 DESCRIPTION

Every answer is a hash with C<status> (the code's name), C<code>, C<id>, C<type>, C<payload> and, for errors,
C<detail> and C<text>. The high-level calls add what the command answers. C<receive> checks each answer's CRC.

A connection that ends, or a server silent for C<timeout> seconds (60), makes C<call> and what is built on it die with
"connection lost" or "no answer"; C<receive> returns undef when the connection has ended.

C<new> takes C<port>, C<host>, C<timeout>, C<admin> (ask for a reserved connection), C<name>, and C<hello =E<gt> 0> to
send no HELLO. A refused connection makes it die with the code's name and the server's sentence.

=cut

use strict;
use warnings;
use IO::Socket::INET;
use Socket qw(IPPROTO_TCP TCP_NODELAY MSG_NOSIGNAL);
use Time::HiRes qw(time);
use Errno qw(EAGAIN EINTR);
use Kvd::Proto qw(:all);

sub new
{
	my ($class, %o) = @_;
	my $self = bless { in => '', next_id => 1, timeout => 60, %o }, $class;
	my $socket = IO::Socket::INET->new(
		PeerAddr => $o{host} || '127.0.0.1',
		PeerPort => $o{port},
		Proto => 'tcp',
		Timeout => 60
	) or die "cannot connect to port $o{port}: $@\n";
	setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
	binmode $socket;
	$self->{socket} = $socket;
	if (!defined $o{hello} || $o{hello}) {
		my $a = $self->call($CMD{HELLO}, hello_payload(%o));
		die "$a->{status}: $a->{text}\n" if $a->{code} != 0;
		@$self{qw(version highest key_max value_max frame_max batch_ops_max role term)} =
			unpack 'vvVVVVCx3Q<', $a->{payload};
	}
	return $self;
}

# Keep trying until the server takes us; dies with the last reason.
sub new_patiently
{
	my ($class, %o) = @_;
	my $until = time + ($o{patience} || 30);
	while (1) {
		my $self = eval { $class->new(%o) };
		return $self if $self;
		die $@ if time > $until;
		select undef, undef, undef, 0.02;
	}
}

sub socket { return $_[0]{socket} }

sub close
{
	my ($self) = @_;
	CORE::close($self->{socket}) if $self->{socket};
	delete $self->{socket};
	return;
}

sub send_bytes
{
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $at = 0;
	while ($at < length $bytes) {
		my $n = syswrite $self->{socket}, $bytes, length($bytes) - $at < 1048576 ? length($bytes) - $at : 1048576, $at;
		if (!defined $n) {
			next if $!{EINTR};
			return 0;
		}
		$at += $n;
	}
	return 1;
}

# Send a request; its id.
sub request
{
	my ($self, $command, $payload) = @_;
	my $id = $self->{next_id}++;
	$self->send_bytes(frame(id => $id, type => $command, payload => $payload)) or die "connection lost\n";
	return $id;
}

# At least n bytes into the buffer; false when the connection has ended.
sub fill
{
	my ($self, $n) = @_;
	my $until = time + $self->{timeout};
	while (length $self->{in} < $n) {
		my $left = $until - time;
		my $set = '';
		vec($set, fileno $self->{socket}, 1) = 1;
		my $ready = select $set, undef, undef, $left > 0 ? $left : 0;
		next if $ready < 0 && $!{EINTR};
		die "no answer within $self->{timeout} s\n" if $ready <= 0;
		my $want = $n - length $self->{in};
		my $got = sysread $self->{socket}, $self->{in}, $want < 65536 ? 65536 : $want, length $self->{in};
		next if !defined $got && $!{EINTR};
		return 0 if !$got;
	}
	return 1;
}

sub receive
{
	my ($self) = @_;
	return undef if !$self->fill(16);
	my $h = header($self->{in});
	return undef if !$self->fill(16 + $h->{length});
	my $payload = substr $self->{in}, 16, $h->{length};
	substr($self->{in}, 0, 16 + $h->{length}) = '';
	die "answer with a wrong CRC\n" if !$self->{trust_crc} && !frame_ok($h, $payload);
	my $a = { id => $h->{id}, type => $h->{type}, code => $h->{status}, payload => $payload,
		status => $CODE_NAME{ $h->{status} } || $h->{status} };
	@$a{qw(detail text)} = error_payload($payload) if $h->{status} != 0;
	return $a;
}

# The answer to a request that was sent, checked to be its.
sub answer
{
	my ($self, $id, $command) = @_;
	my $a = $self->receive or die "connection lost\n";
	die "$a->{status}: $a->{text}\n" if $a->{type} == 128;
	die "answer to request $a->{id} instead of $id\n" if $a->{id} != $id;
	die "answer of type $a->{type} to command $command\n" if $a->{type} != $command + 128;
	return $a;
}

sub call
{
	my ($self, $command, $payload) = @_;
	return $self->answer($self->request($command, $payload), $command);
}

# --- commands ---------------------------------------------------------------------------------------

sub ping { my ($self, $bytes) = @_; return $self->call($CMD{PING}, $bytes) }

sub with_version
{
	my ($a) = @_;
	$a->{version} = unpack 'Q<', $a->{payload} if $a->{code} == 0;
	return $a;
}

sub put
{
	my ($self, $key, $value, %o) = @_;
	return with_version($self->call($CMD{PUT}, put_payload($key, $value, %o)));
}

sub delete
{
	my ($self, $key, %o) = @_;
	return with_version($self->call($CMD{DELETE}, write_prefix(%o) . op(%o, kind => 'delete', key => $key)));
}

# All of [start, end) at once; end undef: no end.
sub drop_range
{
	my ($self, $start, $end, %o) = @_;
	return with_version($self->call($CMD{DELETE},
		write_prefix(%o) . op(kind => 'delete_range', key => $start, value => $end)));
}

sub incr
{
	my ($self, $key, $step, %o) = @_;
	my $a = with_version($self->call($CMD{INCR},
		write_prefix(%o) . op(%o, kind => 'incr', key => $key, value => $step)));
	$a->{value} = unpack 'q<', substr $a->{payload}, 8 if $a->{code} == 0;
	return $a;
}

sub batch
{
	my ($self, $ops, %o) = @_;
	return with_version($self->call($CMD{BATCH}, batch_payload($ops, %o)));
}

sub get
{
	my ($self, $key, %o) = @_;
	my $a = $self->call($CMD{GET}, get_payload($key, %o));
	@$a{qw(version ttl value)} = unpack 'Q<Q<a*', $a->{payload} if $a->{code} == 0;
	return $a;
}

sub mget
{
	my ($self, $keys, %o) = @_;
	my $a = $self->call($CMD{MGET}, mget_payload($keys, %o));
	return $a->{code} == 0 ? { %$a, %{ parse_mget($a->{payload}) } } : $a;
}

# { session, ttl }; of a session to stamp writes with: put(..., stamp => [ $session, $serial, $confirmed ])
sub session_open
{
	my ($self, $ttl) = @_;
	my $a = $self->call($CMD{SESSION}, pack 'Cx3VQ<', 0, 0, $ttl || 0);
	@$a{qw(session ttl)} = unpack 'Q<Q<', $a->{payload} if $a->{code} == 0;
	return $a;
}

sub session_close
{
	my ($self, $session) = @_;
	return $self->call($CMD{SESSION}, pack 'Cx3VQ<', 1, 0, $session);
}

# One page.
sub scan
{
	my ($self, %o) = @_;
	my $a = $self->call($CMD{SCAN}, scan_payload(%o));
	return $a->{code} == 0 ? { %$a, %{ parse_scan($a->{payload}) } } : $a;
}

# The options of the step that goes on behind an answer with `more`.
sub behind
{
	my ($a, %o) = @_;
	return (%o, snapshot => $a->{snapshot}, $o{reverse} ? (end => $a->{last}) : (start => $a->{last}, after => 1));
}

# One page of limit entries in as many steps as the server takes for it: each ends after a bounded time. As scan.
sub scan_page
{
	my ($self, %o) = @_;
	my ($limit, @entries) = ($o{limit});
	while (1) {
		my $a = $self->scan(%o, limit => $limit - @entries);
		return $a if $a->{code} != 0;
		push @entries, @{ $a->{entries} };
		return { %$a, entries => \@entries } if !$a->{more} || @entries >= $limit;
		%o = behind($a, %o);
	}
}

# All pages; entries. limit: of each page. Dies on an error.
sub scan_all
{
	my ($self, %o) = @_;
	my @entries;
	while (1) {
		my $a = $self->scan(%o);
		die "SCAN: $a->{status}: $a->{text}\n" if $a->{code} != 0;
		push @entries, @{ $a->{entries} };
		return \@entries if !$a->{more};
		%o = behind($a, %o);
	}
}

# All steps of a COUNT; the number. Dies on an error.
sub count_all
{
	my ($self, %o) = @_;
	my $sum = 0;
	while (1) {
		my $a = $self->count(%o);
		die "COUNT: $a->{status}: $a->{text}\n" if $a->{code} != 0;
		$sum += $a->{count};
		return $sum if !$a->{more};
		%o = behind($a, %o);
	}
}

# One step.
sub count
{
	my ($self, %o) = @_;
	my $a = $self->call($CMD{COUNT}, count_payload(%o));
	@$a{qw(snapshot count more last)} = unpack 'Q<Q<Cx7a*', $a->{payload} if $a->{code} == 0;
	return $a;
}

# { keys, entries, tombstones, bytes, disk_bytes, cuts }
sub estimate
{
	my ($self, %o) = @_;
	my $a = $self->call($CMD{ESTIMATE}, count_payload(%o));
	@$a{qw(keys entries tombstones bytes disk_bytes cuts)} = unpack 'Q<5V', $a->{payload} if $a->{code} == 0;
	return $a;
}

sub delete_range
{
	my ($self, %o) = @_;
	my $a = $self->call($CMD{DELETE_RANGE}, delete_range_payload(%o));
	@$a{qw(version deleted more next)} = unpack 'Q<Q<Cx7a*', $a->{payload} if $a->{code} == 0;
	return $a;
}

# { name => value }
sub stats
{
	my ($self, $prefix) = @_;
	my $a = $self->call($CMD{STATS}, defined $prefix ? $prefix : '');
	die "STATS: $a->{status}: $a->{text}\n" if $a->{code} != 0;
	return { map { split / /, $_, 2 } split /\n/, $a->{payload} };
}

my %ACTION = (list => 0, set => 1, reset => 2, reload => 3);

# rows: [ name, value, unit, source, restart, default, help ]
sub config
{
	my ($self, $action, $text) = @_;
	my $a = $self->call($CMD{CONFIG}, pack('Cx3', $ACTION{$action}) . (defined $text ? $text : ''));
	$a->{rows} = [ map { [ split /\t/, $_, -1 ] } split /\n/, $a->{payload} ] if $a->{code} == 0;
	return $a;
}

sub checkpoint
{
	my ($self, %o) = @_;
	my $a = $self->call($CMD{CHECKPOINT}, pack 'VV', $o{deadline} || 0, $o{compact} ? 1 : 0);
	$a->{lsn} = unpack 'Q<', $a->{payload} if $a->{code} == 0;
	return $a;
}

1;
