package Kvd::Writer;

=head1 NAME

Kvd::Writer - a process that writes without pause and knows what must be there

=head1 SYNOPSIS

  my @writers = map { Kvd::Writer->start($node, $_) } 1 .. 4;
  ... kill something ...
  for my $w (@writers) { my $r = $w->check; ... $r->{bad} is empty, $r->{acked} counts acknowledged writes }
  $_->stop for @writers;

=head1 DESCRIPTION

Each writer has keys of its own and remembers for each of them every state it may be in: the last acknowledged one and
those asked for since without an answer. It puts, deletes, writes pairs of keys in one batch and counts with INCR.
When its connection breaks it connects again (the port is looked up in F<postmaster.pid>) and goes on. C<check> makes it
read everything back: a key in a state nobody asked for, an acknowledged write that is gone, a pair that was torn or a
count that is too low or too high are listed in C<bad>.

=cut

use strict;
use warnings;
use IO::Handle;
use POSIX ();
use Time::HiRes qw(time);
use Kvd::Client;
use Kvd::Test ();
use Kvd::Proto qw(:all);

use constant { KEYS => 60, PAIRS => 10 };

sub start
{
	my ($class, $node, $no) = @_;
	pipe my $from_parent, my $to_child or die "pipe: $!\n";
	pipe my $from_child, my $to_parent or die "pipe: $!\n";
	my $seed = int rand 2**31;
	my $parent = $$;
	my $pid = fork;
	die "cannot fork: $!\n" if !defined $pid;
	if ($pid == 0) {
		Kvd::Test::die_with_parent($parent);
		CORE::close $_ for $to_child, $from_child;
		srand $seed;
		my $self = bless { node => $node, no => $no, in => $from_parent, out => $to_parent, n => 0, acked => 0,
			lost => 0,
			count_least => 0, count_most => 0, states => {}, pending => {}, bad => [] }, $class;
		$self->{out}->autoflush(1);
		my $ok = eval { $self->loop; 1 };
		print { $self->{out} } "died: $@" if !$ok;
		POSIX::_exit($ok ? 0 : 1);
	}
	CORE::close $_ for $from_parent, $to_parent;
	$to_child->autoflush(1);
	return bless { pid => $pid, to => $to_child, from => $from_child }, $class;
}

# --- in the test ------------------------------------------------------------------------------------

sub ask
{
	my ($self, $what, $seconds) = @_;
	local $SIG{PIPE} = 'IGNORE';
	print { $self->{to} } "$what\n";
	local $SIG{ALRM} = sub { die "writer $self->{pid} does not answer\n" };
	alarm($seconds || 180);
	my $line = readline $self->{from};
	alarm 0;
	return defined $line ? $line : 'died';
}

sub check
{
	my ($self) = @_;
	my $line = $self->ask('check');
	chomp $line;
	my ($acked, $lost, @bad) = split /\t/, $line;
	return { acked => 0, lost => 0, bad => [$line] } if $acked !~ /\A\d+\z/;
	return { acked => $acked, lost => $lost, bad => \@bad };
}

sub stop
{
	my ($self) = @_;
	$self->ask('quit');
	waitpid $self->{pid}, 0;
	return $?;
}

# --- in the writer ----------------------------------------------------------------------------------

sub asked
{
	my ($self) = @_;
	my $set = '';
	vec($set, fileno $self->{in}, 1) = 1;
	return undef if select($set, undef, undef, 0) <= 0;
	my $line = readline $self->{in};
	return 'quit' if !defined $line;
	chomp $line;
	return $line;
}

sub connection
{
	my ($self) = @_;
	my $until = time + 90;
	while (!$self->{c}) {
		my $port = ($self->{node}->pid_file)[1];
		$self->{c} = eval { Kvd::Client->new(port => $port, timeout => 30, name => "writer $self->{no}") } if $port;
		die "cannot connect for 90 s: $@\n" if !$self->{c} && time > $until;
		select undef, undef, undef, 0.01 if !$self->{c};
	}
	return $self->{c};
}

# A call; undef when the connection broke in it.
sub try
{
	my ($self, $call) = @_;
	my $r = eval { $call->($self->connection) };
	if (!$r) {
		die $@ if $@ =~ /cannot connect|wrong CRC|instead of/;
		$self->{c} = undef;
		$self->{lost}++;
	}
	return $r;
}

sub loop
{
	my ($self) = @_;
	while (1) {
		my $what = $self->asked;
		if (defined $what) {
			$self->verify if $what eq 'check';
			my @bad = @{ $self->{bad} };
			splice @bad, 5 if @bad > 5;
			s/[\t\n]/ /g for @bad;
			print { $self->{out} } join("\t", $self->{acked}, $self->{lost}, @bad), "\n";
			return if $what eq 'quit';
		}
		$self->write_one;
	}
}

sub key { my ($self, $i) = @_; return "writer$self->{no}-$i" }

# undef as a state: absent.
sub write_one
{
	my ($self) = @_;
	my $dice = rand;
	my $ack = rand() < 0.3 ? 'local' : 'quorum';
	my $value = ++$self->{n} . ' ' . 'v' x int rand 300;
	return $self->count_one if $dice < 0.1;
	if ($dice < 0.25) {
		my $i = int rand PAIRS;
		my @keys = map { $self->key("pair$i.$_") } 0, 1;
		return $self->settle(\@keys, $value, $ack eq 'local',
			sub { $_[0]->batch([ map { op(kind => 'put', key => $_, value => $value) } @keys ], ack => $ack) });
	}
	my $key = $self->key(int rand KEYS);
	return $self->settle([$key], undef, $ack eq 'local', sub { $_[0]->delete($key, ack => $ack) }) if $dice < 0.35;
	return $self->settle([$key], $value, $ack eq 'local', sub { $_[0]->put($key, $value, ack => $ack) });
}

sub settle
{
	my ($self, $keys, $state, $weak, $call) = @_;
	push @{ $self->{states}{$_} ||= [undef] }, $state for @$keys;
	my $r = $self->try($call) or return;
	if ($r->{code} == 0) {
		$self->{states}{$_} = [$state] for @$keys;
		$self->{weak}{$_} = $weak for @$keys;
		$self->{acked}++;
	} elsif ($r->{status} !~ /\A(?:OUTCOME_UNKNOWN|SHUTTING_DOWN|NOT_LEADER|TIMEOUT|BUSY)\z/) {
		push @{ $self->{bad} }, "write answered $r->{status}: $r->{text}";
	}
	return;
}

sub count_one
{
	my ($self) = @_;
	my $key = $self->key('count');
	$self->{count_most}++;
	my $r = $self->try(sub { $_[0]->incr($key, 1) }) or return;
	$self->{count_least}++, $self->{acked}++ if $r->{code} == 0;
	return;
}

sub shown { my ($s) = @_; return defined $s ? (split / /, $s)[0] : 'absent' }

# One look at all keys: { key => value or undef }, the count apart.
sub look
{
	my ($self) = @_;
	my @keys = sort keys %{ $self->{states} };
	my $r;
	until ($r && $r->{code} == 0) {
		$r = $self->try(sub { $_[0]->mget([ @keys, $self->key('count') ]) });
	}
	my @values = map { defined $_ ? $_->{value} : undef } @{ $r->{entries} };
	my $count = pop @values;
	my %found;
	@found{@keys} = @values;
	return (\%found, $count || 0);
}

# Keys in a state that nobody asked for.
sub strange
{
	my ($self, $found) = @_;
	my @strange;
	for my $key (sort keys %$found) {
		my $value = $found->{$key};
		push @strange, $key if !grep { defined $value ? defined && $_ eq $value : !defined } @{ $self->{states}{$key} };
	}
	return @strange;
}

sub verify
{
	my ($self) = @_;
	my ($found, $n) = $self->look;
	my @strange = $self->strange($found);
	# ack=local is answered before the write can be read: such a key may be a moment late.
	my $until = time + 20;
	my $last = 0;
	while (@strange && !grep({ !$self->{weak}{$_} } @strange) && !$last) {
		$last = time > $until; # there is a look after the time, however long this process was held up
		($found, $n) = $self->look;
		@strange = $self->strange($found);
	}
	push @{ $self->{bad} }, map { "$_ is " . shown($found->{$_}) . ($self->{weak}{$_} ? ' (weak)' : '') . ' and may be '
		. join ' or ', map { shown($_) } @{ $self->{states}{$_} } } @strange;
	for my $i (0 .. PAIRS - 1) {
		my ($a, $b) = map { shown($found->{ $self->key("pair$i.$_") }) } 0, 1;
		push @{ $self->{bad} }, "pair $i is torn: $a and $b" if $a ne $b;
	}
	push @{ $self->{bad} }, "count is $n, not $self->{count_least} to $self->{count_most}"
		if $n < $self->{count_least} || $n > $self->{count_most};
	return;
}

1;
