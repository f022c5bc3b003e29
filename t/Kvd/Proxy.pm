package Kvd::Proxy;

=head1 NAME

Kvd::Proxy - TCP links that a test can cut, one direction at a time

=head1 SYNOPSIS

  my $proxy = Kvd::Proxy->start('n1>n2' => '127.0.0.1:7501', 'n2>n1' => '127.0.0.1:7500');
  ... connect to $proxy->port('n1>n2') instead of 127.0.0.1:7501 ...
  $proxy->set('n1>n2', state => 'blocked');
  $proxy->set('n2>n1', delay => 50, rate => 100_000);    # ms, bytes per second
  $proxy->heal;
  $proxy->stop;

=head1 DESCRIPTION

A process of its own with one listening port for each link. Nodes of kvd send on the connections that they
made, so a link named by who connects and to whom carries what the one says to the other, and nothing back.

States of a link: C<open>; C<blocked>, nothing is forwarded, in connections that stand and in new ones,
which are accepted and left waiting, and nobody is told (what was sent meanwhile arrives when the link
opens, as it would by TCP's own repetition); C<reset>, connections are broken and new ones broken at once.
C<cut> breaks what stands and changes no state. C<delay> (ms) holds back all that passes, C<rate> bounds it,
0 means not. C<set> returns when it is in force.

The process ends with the test.

=cut

use strict;
use warnings;
use Errno qw(EAGAIN EINTR EINPROGRESS EWOULDBLOCK);
use IO::Handle;
use IO::Socket::INET;
use POSIX ();
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time);
use Kvd::Test ();

use constant {
	PIECE => 65536,       # read at a time
	HELD => 1048576,      # of a direction in memory: then its sender waits
	NAP => 0.5,           # seconds between looks at nothing
};

sub start
{
	my ($class, %links) = @_;
	my (%listen, %port);
	for my $name (keys %links) {
		$listen{$name} = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 64, Proto => 'tcp',
			Blocking => 0) or die "proxy: cannot listen: $!\n";
		$port{$name} = $listen{$name}->sockport;
	}
	pipe my $from_test, my $to_proxy or die "pipe: $!\n";
	pipe my $from_proxy, my $to_test or die "pipe: $!\n";
	my $parent = $$;
	my $pid = fork;
	die "cannot fork: $!\n" if !defined $pid;
	if ($pid == 0) {
		Kvd::Test::die_with_parent($parent);
		CORE::close $_ for $to_proxy, $from_proxy;
		$to_test->autoflush(1);
		$SIG{PIPE} = 'IGNORE';
		$SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
		my %link = map { $_ => { name => $_, listen => $listen{$_}, to => $links{$_}, state => 'open', delay => 0,
			rate => 0, connections => [] } } keys %links;
		my $self = bless { link => \%link, in => $from_test, out => $to_test, text => '' }, $class;
		my $ok = eval { $self->loop; 1 };
		print STDERR "proxy: $@" if !$ok;
		POSIX::_exit($ok ? 0 : 1);
	}
	CORE::close $_ for $from_test, $to_test, values %listen;
	$to_proxy->autoflush(1);
	return bless { pid => $pid, to => $to_proxy, from => $from_proxy, port => \%port }, $class;
}

# --- in the test ------------------------------------------------------------------------------------

sub port
{
	my ($self, $name) = @_;
	return $self->{port}{$name} || die "proxy: no link $name\n";
}

sub links { return sort keys %{ $_[0]{port} } }

sub ask
{
	my ($self, @lines) = @_;
	local $SIG{PIPE} = 'IGNORE';
	print { $self->{to} } map({"$_\n"} @lines), "done\n";
	local $SIG{ALRM} = sub { die "the proxy does not answer\n" };
	alarm 20;
	my $answer = readline $self->{from};
	alarm 0;
	die "the proxy has died\n" if !defined $answer;
	return $answer;
}

sub set
{
	my ($self, $names, %what) = @_;
	my @names = ref $names ? @$names : $names;
	for my $name (@names) { $self->port($name) }
	$self->ask(map { join ' ', 'set', $_, %what } @names);
	return;
}

sub cut
{
	my ($self, @names) = @_;
	$self->ask(map {"cut $_"} @names ? @names : $self->links);
	return;
}

sub heal
{
	my ($self) = @_;
	$self->set([ $self->links ], state => 'open', delay => 0, rate => 0);
	return;
}

sub stop
{
	my ($self) = @_;
	CORE::close $self->{to};
	waitpid $self->{pid}, 0;
	return $?;
}

# --- in the proxy -----------------------------------------------------------------------------------

# A connection has two ends; what came from one waits in the other's queue as [ when, bytes ].
sub new_end { my ($socket) = @_; return { socket => $socket, queue => [], held => 0, closed => 0, budget => 0 } }

sub loop
{
	my ($self) = @_;
	while (1) {
		my ($read, $write, $wait) = $self->interests;
		my $n = select $read, $write, undef, $wait;
		next if $n < 0 && $!{EINTR};
		if (vec $read, fileno $self->{in}, 1) {
			$self->commands or return;
		}
		for my $link (values %{ $self->{link} }) {
			$self->accept_all($link) if vec $read, fileno $link->{listen}, 1;
			next if $link->{state} ne 'open';
			forward($link, $_, $read, $write) for @{ $link->{connections} };
			$link->{connections} = [ grep { !finished($_) } @{ $link->{connections} } ];
		}
	}
}

sub interests
{
	my ($self) = @_;
	my ($read, $write, $wait) = ('', '', NAP);
	my $now = time;
	vec($read, fileno $self->{in}, 1) = 1;
	for my $link (values %{ $self->{link} }) {
		vec($read, fileno $link->{listen}, 1) = 1;
		next if $link->{state} ne 'open';
		for my $c (@{ $link->{connections} }) {
			for my $i (0, 1) {
				my ($from, $to) = @$c[ $i, 1 - $i ];
				vec($read, fileno $from->{socket}, 1) = 1 if !$from->{closed} && $to->{held} < HELD;
				next if !@{ $to->{queue} };
				my $due = $to->{queue}[0][0] - $now;
				$due = $to->{next} - $now if defined $to->{next} && $to->{next} - $now > $due;
				if ($due <= 0) {
					vec($write, fileno $to->{socket}, 1) = 1;
				} elsif ($due < $wait) {
					$wait = $due;
				}
			}
		}
	}
	return ($read, $write, $wait);
}

# False: the test is gone.
sub commands
{
	my ($self) = @_;
	my $n = sysread $self->{in}, $self->{text}, 4096, length $self->{text};
	return 1 if !defined $n && $!{EINTR};
	return 0 if !$n;
	while ($self->{text} =~ s/\A([^\n]*)\n//) {
		my ($what, $name, @settings) = split / /, $1;
		if ($what eq 'done') {
			print { $self->{out} } "ok\n";
			next;
		}
		my $link = $self->{link}{$name};
		%$link = (%$link, @settings);
		break_all($link) if $what eq 'cut' || $link->{state} eq 'reset';
	}
	return 1;
}

# With RST, not with a polite end.
sub break_socket
{
	my ($socket) = @_;
	setsockopt $socket, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
	CORE::close $socket;
	return;
}

sub break_all
{
	my ($link) = @_;
	for my $c (@{ $link->{connections} }) { break_socket($_->{socket}) for @$c }
	$link->{connections} = [];
	return;
}

sub accept_all
{
	my ($self, $link) = @_;
	while (my $near = $link->{listen}->accept) {
		if ($link->{state} eq 'reset') {
			break_socket($near);
			next;
		}
		$near->blocking(0);
		my $far = IO::Socket::INET->new(PeerAddr => $link->{to}, Proto => 'tcp', Blocking => 0);
		if (!$far) {
			break_socket($near);
			next;
		}
		setsockopt $_, IPPROTO_TCP, TCP_NODELAY, 1 for $near, $far;
		push @{ $link->{connections} }, [ new_end($near), new_end($far) ];
	}
	return;
}

sub forward
{
	my ($link, $c, $read, $write) = @_;
	for my $i (0, 1) {
		my ($from, $to) = @$c[ $i, 1 - $i ];
		take($link, $from, $to) if !$from->{closed} && vec $read, fileno $from->{socket}, 1;
	}
	for my $to (@$c) {
		give($link, $to, $c) if vec $write, fileno $to->{socket}, 1;
	}
	return;
}

sub take
{
	my ($link, $from, $to) = @_;
	my $n = sysread $from->{socket}, my $bytes, PIECE;
	return if !defined $n && ($!{EAGAIN} || $!{EINTR} || $!{EWOULDBLOCK});
	if (!$n) {
		$from->{closed} = 1;
		$from->{broken} = !defined $n;
	} else {
		push @{ $to->{queue} }, [ time + $link->{delay} / 1000, $bytes ];
		$to->{held} += $n;
	}
	return;
}

# Write what is due, as much as the rate allows.
sub give
{
	my ($link, $to, $c) = @_;
	my $now = time;
	while (@{ $to->{queue} } && $to->{queue}[0][0] <= $now) {
		my $piece = $to->{queue}[0];
		my $most = length $piece->[1];
		$most = $link->{rate} / 20 + 1 if $link->{rate} > 0 && $most > $link->{rate} / 20 + 1;
		my $n = syswrite $to->{socket}, $piece->[1], $most;
		if (!defined $n) {
			return if $!{EAGAIN} || $!{EINTR} || $!{EWOULDBLOCK};
			$_->{broken} = $_->{closed} = 1 for @$c;
			return;
		}
		substr($piece->[1], 0, $n) = '';
		$to->{held} -= $n;
		shift @{ $to->{queue} } if $piece->[1] eq '';
		if ($link->{rate} > 0) {
			$to->{next} = $now + $n / $link->{rate};
			return;
		}
		$to->{next} = undef;
	}
	return;
}

# Over when both have closed, or one has and all it said was passed on; then the other hears it.
sub finished
{
	my ($c) = @_;
	my ($near, $far) = @$c;
	return 0 if !$near->{closed} && !$far->{closed};
	return 0 if !$near->{broken} && !$far->{broken} &&
		(($near->{closed} && @{ $far->{queue} }) || ($far->{closed} && @{ $near->{queue} }));
	for my $end (@$c) {
		$near->{broken} || $far->{broken} ? break_socket($end->{socket}) : CORE::close $end->{socket};
	}
	return 1;
}

1;
