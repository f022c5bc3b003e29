package Kvd::Cluster;

=head1 NAME

Kvd::Cluster - nodes of kvd that form a cluster, for tests of the shipped programs

=head1 SYNOPSIS

  my $cluster = Kvd::Cluster->new(nodes => 3)->start;
  my $leader = $cluster->wait_leader;                 # a Kvd::Test node
  $cluster->kill9($leader);                           # all of its processes at once
  $cluster->isolate($cluster->leader);                # nothing to or from it
  $cluster->heal;
  $cluster->wait_same;                                # equal positions, then equal contents
  my $r = $cluster->kvctl('cluster', 'status');       # asks the leader

=head1 DESCRIPTION

C<new> takes C<nodes> (3), C<election> (ms, 500), C<settings> (a hash for all nodes) and C<proxy =E<gt> 0>
to have no proxies between the nodes. Nodes are called n1, n2 ... Their ports are kept
(C<keep_port> of L<Kvd::Test>), also while a node is down. The first start forms the cluster by
C<cluster_members>.

Whatever waits dies after its time with the state of all nodes and the ends of their logs.

=head2 Nodes

C<node(NAME)>, C<nodes> (those that are members as far as the test knows), C<running>. C<start_node>,
C<stop_node>, C<kill9> (SIGKILL to the postmaster and all its children), C<stop> (SIGSTOP to all of them)
and C<cont>, C<wipe> (the data directory), C<blank(NAME)> (a new node that waits to be added with C<kvd
--join>).

=head2 Looking

C<stats(NODE)> are a node's figures (undef if it does not answer), C<term(NODE)> is its term, C<leader> is the node
that leads with the highest term, or undef; C<wait_leader(%o)> waits for one that all running nodes but those of C<not>
(or all of C<of>) follow in one term. C<by_leader(CODE, %o)> calls CODE with a connection to the leader (of those of
C<of>), whoever that is by then, until the answer is OK, and returns it: what is asked must do no harm when it is done
twice. C<followers> are the others. C<wait_same> waits until all running nodes have applied the same position; then it
tests that their contents are equal, key by key as C<kvctl dump> with local reads shows them and by their own C<cluster
check>, and that no process crashed but those that were killed.

=head2 Links

C<partition([A, ...], [B, ...])> blocks both directions between the groups, C<one_way(FROM, TO)> one,
C<isolate(NODE)> all of a node's, C<bridge(NODE)> leaves only the links to and from NODE; C<heal> opens all.
C<proxy> is the L<Kvd::Proxy>.

=head2 Load

C<record(NAME, @options)> starts a recorder (build/test/kvrecord) on all nodes; its C<finish> ends it and
returns its report; C<check_history> has kvlin judge; C<journal> and C<verify> do the same with unique keys.

=cut

use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use File::Path qw(remove_tree);
use Time::HiRes qw(time sleep);
use Test::More ();
use Kvd::Test;
use Kvd::Proxy;

use constant { LOG_TAIL => 12, ROLE_LEADER => 2 };

sub new
{
	my ($class, %o) = @_;
	my $self = bless { size => $o{nodes} || 3, election => $o{election} || 500, settings => $o{settings} || {},
		with_proxy => defined $o{proxy} ? $o{proxy} : 1, node => {}, members => [],
		spare => $o{spare} || 0 },
		$class;
	my @names = map {"n$_"} 1 .. $self->{size} + $self->{spare};
	for my $name (@names) { $self->make_node($name) }
	$self->{members} = [ @names[ 0 .. $self->{size} - 1 ] ];
	if ($self->{with_proxy}) {
		my %links;
		for my $from (@names) {
			for my $to (grep { $_ ne $from } @names) {
				$links{"$from>$to"} = '127.0.0.1:' . $self->{node}{$to}{peer_port};
			}
		}
		$self->{proxy} = Kvd::Proxy->start(%links);
	}
	return $self;
}

sub make_node
{
	my ($self, $name) = @_;
	my $node = Kvd::Test->new($name);
	$node->{port} = $node->{client_port} = keep_port();
	$node->{peer_port} = keep_port();
	return $self->{node}{$name} = $node;
}

sub election { return $_[0]{election} }
# Seconds after which what needs an election or two has come, or never will.
sub patience { return 60 + 20 * $_[0]{election} / 1000 }
sub proxy { return $_[0]{proxy} || die "this cluster has no proxies\n" }
sub node { my ($self, $name) = @_; return ref $name ? $name : $self->{node}{$name} || die "no node $name\n" }
sub nodes { my ($self) = @_; return map { $self->{node}{$_} } @{ $self->{members} } }
sub running { my ($self) = @_; return grep { $_->pid && !$_->{stopped} } $self->nodes }
sub names { return map { $_->name } @_ }

sub peer_address { my ($self, $node) = @_; return '127.0.0.1:' . $self->node($node)->{peer_port} }

sub member_list
{
	my ($self) = @_;
	return join ',', map { $_ . '@' . $self->peer_address($_) } @{ $self->{members} };
}

# What kvd is started with, each time.
sub arguments
{
	my ($self, $node) = @_;
	my %all = (%Kvd::Test::SMALL, election_timeout => $self->{election}, %{ $self->{settings} },
		port => $node->{client_port}, peer_port => $node->{peer_port}, node_name => $node->name,
		peer_advertise_address => $self->peer_address($node));
	$all{cluster_members} = $self->member_list if !$node->{joins};
	return [ (map { ('-c', "$_=$all{$_}") } sort keys %all), $node->{joins} && !$node->{was_started} ? '--join' : () ];
}

# Where this node finds the others, if it is not to be their own ports.
sub detours
{
	my ($self, $node) = @_;
	return '' if !$self->{proxy};
	my $from = $node->name;
	return join ' ', map { $self->peer_address($_) . '=127.0.0.1:' . $self->proxy->port("$from>$_") }
		grep { $_ ne $from } sort keys %{ $self->{node} };
}

sub delay_file { my ($node) = @_; return $node->dir . '.sync_delay' }

sub start_node
{
	my ($self, $node, %o) = @_;
	$node = $self->node($node);
	local $ENV{KVD_TEST_PEERS} = $self->detours($node);
	local $ENV{KVD_TEST_SYNC_DELAY} = delay_file($node);
	my $r = $node->start(args => $self->arguments($node), %o);
	$node->{was_started} = 1;
	return $r;
}

sub start
{
	my ($self) = @_;
	for my $node ($self->nodes) { $self->start_node($node, no_wait => 1) }
	eval { $_->wait_ready for $self->nodes; 1 } or $self->give_up($@);
	return $self;
}

# A new, empty node that waits to be added.
sub blank
{
	my ($self, $name) = @_;
	my $node = $self->node($name);
	$node->{joins} = 1;
	$node->{was_started} = 0;
	my $before = $node->log_size;
	$self->start_node($node, no_wait => 1);
	$self->wait_for(sub { $node->log($before) =~ /^waiting to be added/m }, 60, "$name to wait to be added");
	return $node;
}

sub joined { my ($self, $name) = @_; push @{ $self->{members} }, $name; return }
sub left { my ($self, $name) = @_; $self->{members} = [ grep { $_ ne $name } @{ $self->{members} } ]; return }

# Syncs of this node take so long from now on.
sub slow_disk
{
	my ($self, $node, $ms) = @_;
	spew(delay_file($self->node($node)) . '.new', "$ms\n");
	rename delay_file($self->node($node)) . '.new', delay_file($self->node($node)) or die "rename: $!\n";
	return;
}

sub stop_node { my ($self, $node, $mode) = @_; return $self->node($node)->stop($mode) }

# The postmaster first, stopped: it makes no new children while the others are dealt with.
sub all_pids
{
	my ($node) = @_;
	my $kids = $node->children;
	return map {@$_} values %$kids;
}

sub kill9
{
	my ($self, $node) = @_;
	$node = $self->node($node);
	kill 'STOP', $node->pid;
	my @kids = all_pids($node);
	kill 'KILL', @kids, $node->pid;
	waitpid $node->pid, 0;
	$node->forget(-9);
	$node->{stopped} = 0;
	# Gone, not only doomed: one in a sync takes its time, and a start is refused after some seconds.
	Kvd::Test::poll_until(sub { my $all = Kvd::Test::processes(); !grep { $all->{$_} } @kids }, 60,
		'the end of the processes of ' . $node->name);
	return;
}

sub stop
{
	my ($self, $node) = @_;
	$node = $self->node($node);
	kill 'STOP', $node->pid;
	$node->{stopped} = 1;
	kill 'STOP', all_pids($node);
	return;
}

sub cont
{
	my ($self, $node) = @_;
	$node = $self->node($node);
	kill 'CONT', all_pids($node), $node->pid;
	$node->{stopped} = 0;
	return;
}

sub wipe
{
	my ($self, $node) = @_;
	remove_tree($self->node($node)->dir);
	return;
}

# --- looking ----------------------------------------------------------------------------------------

# A connection of the test to each node is kept; a node that does not answer has no figures.
sub stats
{
	my ($self, $node, $prefix) = @_;
	return undef if !$node->pid || $node->{stopped};
	my $key = $node->pid;
	my $c = $node->{watcher} && $node->{watcher_of} == $key ? $node->{watcher} : undef;
	my $s = eval {
		$c ||= Kvd::Client->new(port => $node->{client_port}, timeout => 5, admin => 1);
		$c->stats(defined $prefix ? $prefix : '');
	};
	@$node{qw(watcher watcher_of)} = ($s ? $c : undef, $key);
	return $s;
}

sub term
{
	my ($self, $node) = @_;
	my $term;
	$self->wait_for(sub { $term = ($self->stats($node) || {})->{'node.term'}; return defined $term }, 60,
		'the term of ' . $node->name);
	return $term;
}

sub leader
{
	my ($self) = @_;
	my ($best, $term) = (undef, 0);
	for my $node ($self->running) {
		my $s = $self->stats($node) or next;
		next if $s->{'replication.role'} != ROLE_LEADER || $s->{'node.term'} < $term;
		($best, $term) = ($node, $s->{'node.term'});
	}
	return $best;
}

sub wait_leader
{
	my ($self, %o) = @_;
	my %not = map { (ref $_ ? $_->name : $_) => 1 } @{ $o{not} || [] };
	my @asked = grep { !$not{ $_->name } } $o{of} ? map { $self->node($_) } @{ $o{of} } : $self->running;
	my $found;
	$self->wait_for(sub {
		my @s = map { [ $_, $self->stats($_) ] } @asked;
		return 0 if grep { !$_->[1] } @s;
		my ($l) = sort { $b->[1]{'node.term'} <=> $a->[1]{'node.term'} }
			grep { $_->[1]{'replication.role'} == ROLE_LEADER } @s;
		return 0 if !$l;
		return 0 if grep { $_->[1]{'node.term'} != $l->[1]{'node.term'} || !$_->[1]{'replication.leader_known'} } @s;
		$found = $l->[0];
		return 1;
	}, $o{seconds} || $self->patience, 'a leader that ' . join(', ', names(@asked)) . ' agree on');
	return $found;
}

sub by_leader
{
	my ($self, $call, %o) = @_;
	my %of = map { (ref $_ ? $_->name : $_) => 1 } $o{of} ? @{ $o{of} } : $self->nodes;
	my $answer;
	my $met = 'no leader';
	eval {
		Kvd::Test::poll_until(sub {
			my $leader = $self->leader;
			return 0 if !$leader || !$of{ $leader->name };
			$answer = eval { $call->($leader->client(timeout => 20)) };
			$met = $answer ? "$answer->{status} of " . $leader->name : $@;
			return $answer && $answer->{code} == 0;
		}, $o{seconds} || $self->patience, 'an answer of the leader');
		1;
	} or $self->give_up("$@met last: $met\n");
	return $answer;
}

# Members as the leader sees them: { name => { role, voter... } }, undef when nobody says.
sub members
{
	my ($self) = @_;
	my $leader = $self->leader or return undef;
	my $r = $leader->kvctl('--format', 'json', 'cluster', 'status');
	return undef if $r->{code} != 0;
	my %members;
	for my $line (split /\n/, $r->{out}) {
		my %m = $line =~ /"(\w+)":"?((?:[^",}\\]|\\.)*)"?/g;
		$members{ $m{name} } = \%m;
	}
	return \%members;
}

# Until these, and nobody else, are members that vote, and each is in step.
sub wait_voters
{
	my ($self, @names) = @_;
	$self->wait_for(sub {
		my $m = $self->members or return 0;
		return join(' ', sort @names) eq join ' ', sort grep { $m->{$_}{role} =~ /\A(?:leader|follower)\z/ &&
				$m->{$_}{state} =~ /\A(?:up|streaming)\z/ } keys %$m;
	}, $self->patience, 'voters ' . join ', ', @names);
	return;
}

sub followers
{
	my ($self) = @_;
	my $leader = $self->wait_leader;
	return grep { $_ != $leader } $self->running;
}

sub wait_for
{
	my ($self, $code, $seconds, $what) = @_;
	eval { Kvd::Test::poll_until($code, $seconds, $what); 1 } or $self->give_up($@);
	return;
}

# Dies with what is known.
sub give_up
{
	my ($self, $why) = @_;
	my $text = $why;
	for my $node (map { $self->{node}{$_} } sort keys %{ $self->{node} }) {
		my $s = eval { $self->stats($node) };
		my $figures = $s ? join ' ', map {"$_=$s->{$_}"} grep { /\A(?:replication\.|log\.|node\.term)/ } sort keys %$s
			: $node->{stopped} ? 'stopped' : $node->pid ? 'does not answer' : 'not running';
		my @lines = split /^/, $node->log;
		splice @lines, 0, @lines - LOG_TAIL if @lines > LOG_TAIL;
		$text .= '--- ' . $node->name . ": $figures\n" . join '', @lines;
	}
	# Again at the end: of a long output often only the end is kept.
	die "$text--- $why";
}

# Contents as a node itself sees them: a hash of the dump.
sub contents
{
	my ($self, $node) = @_;
	my $r = run_command({ timeout => 120 }, kvd_bin('kvctl'), '-u', "kv://127.0.0.1:$node->{client_port}/?read=local",
		'--timeout', '60s', '-q', 'dump');
	die 'kvctl dump of ' . $node->name . ": $r->{err}" if $r->{code} != 0;
	return md5_hex($r->{out});
}

# A node that crashed by itself is back in a moment, and nobody else might notice.
sub no_crashes
{
	my ($self) = @_;
	my @said;
	for my $node (map { $self->{node}{$_} } sort keys %{ $self->{node} }) {
		push @said, map { $node->name . ": $_" }
			grep {/PANIC|FATAL|Sanitizer|runtime error:|was ended by signal (?!9\b)/} split /\n/, $node->log;
	}
	Test::More::is(scalar @said, 0, 'no process crashed by itself') or Test::More::diag(join "\n", @said);
	return;
}

# Until all have applied all that the leader has committed, with nobody writing; then their contents, as one text each.
sub wait_same
{
	my ($self, $seconds) = @_;
	$self->wait_leader(seconds => $seconds);
	$self->wait_for(sub {
		my (%seen, $led);
		for my $node ($self->running) {
			my $s = $self->stats($node) or return 0;
			$seen{ $s->{'log.applied'} } = 1;
			next if $s->{'replication.role'} != ROLE_LEADER;
			return 0 if $s->{'log.applied'} != $s->{'log.inserted'};
			$led = 1; # without one, what is behind what is applied may still be committed
		}
		return $led && keys %seen == 1;
	}, $seconds || $self->patience, 'all nodes to apply the same');
	my %contents = map { $_->name => $self->contents($_) } $self->running;
	my %values = map { $_ => 1 } values %contents;
	$self->no_crashes;
	Test::More::is(scalar keys %values, 1, 'equal contents of ' . join ', ', sort keys %contents)
		or Test::More::diag(join "\n", map {"$_ $contents{$_}"} sort keys %contents);
	my $n = keys %contents;
	return if $n < $self->nodes;
	my $r;
	# A round whose leader is deposed has no result.
	$self->wait_for(sub {
		$r = $self->kvctl({ timeout => 60 }, '--timeout', '30s', 'cluster', 'check');
		return $r->{code} == 0 || $r->{err} =~ /differ|no majority/i;
	}, $self->patience, 'a comparison of all');
	Test::More::like($r->{out}, qr/ $n of $n nodes hold the same /, '... and equal hashes, say the nodes')
		or Test::More::diag($r->{err});
	return;
}

sub uri
{
	my ($self, $options) = @_;
	# all there ever will be, so that clients outlive the first members
	my $hosts = join ',', map {"127.0.0.1:$self->{node}{$_}{client_port}"} sort keys %{ $self->{node} };
	return "kv://$hosts/" . (defined $options && $options ne '' ? "?$options" : '');
}

# On all nodes: kvctl finds the leader.
sub kvctl
{
	my ($self, @args) = @_;
	my @o = ref $args[0] ? shift @args : ();
	return run_command(@o, kvd_bin('kvctl'), '-u', $self->uri, @args);
}

# --- links ------------------------------------------------------------------------------------------

sub between
{
	my ($self, $a, $b) = @_;
	my @links;
	for my $x (map { ref $_ ? $_->name : $_ } @$a) {
		push @links, map {"$x>$_"} grep { $_ ne $x } map { ref $_ ? $_->name : $_ } @$b;
	}
	return @links;
}

sub partition
{
	my ($self, $a, $b) = @_;
	$self->proxy->set([ $self->between($a, $b), $self->between($b, $a) ], state => 'blocked');
	return;
}

sub one_way
{
	my ($self, $from, $to) = @_;
	$self->proxy->set([ $self->between(ref $from eq 'ARRAY' ? $from : [$from], ref $to eq 'ARRAY' ? $to : [$to]) ],
		state => 'blocked');
	return;
}

sub others { my ($self, $node) = @_; return grep { $_ ne $self->node($node)->name } sort keys %{ $self->{node} } }

sub isolate
{
	my ($self, $node) = @_;
	$self->partition([ $self->node($node) ], [ $self->others($node) ]);
	return;
}

sub bridge
{
	my ($self, $node) = @_;
	my @others = $self->others($node);
	$self->proxy->set([ $self->between(\@others, \@others) ], state => 'blocked');
	return;
}

sub heal { my ($self) = @_; $self->proxy->heal; return }

# --- load -------------------------------------------------------------------------------------------

sub test_program { my ($name) = @_; return kvd_bin("../test/$name") }

sub record
{
	my ($self, $name, @options) = @_;
	my %o = ref $options[-1] ? %{ pop @options } : ();
	my $path = test_dir() . "/$name";
	my $pid = start_command({ out => "$path.report", err => "$path.report" }, test_program('kvrecord'), '-o', $path,
		'-n', 0, '-s', 1 + int rand 1e9, '-p', "$name-", @options, $self->uri($o{uri}));
	return bless { pid => $pid, path => $path, cluster => $self, name => $name, journal => scalar grep { $_ eq '-j' }
		@options }, 'Kvd::Cluster::Recorder';
}

sub journal { my ($self, $name, @options) = @_; return $self->record($name, '-j', @options) }

package Kvd::Cluster::Recorder;

use strict;
use warnings;

sub path { return $_[0]{path} }

# How much there is by now: a place to wait from.
sub mark { my ($self) = @_; return -s $self->{path} || 0 }

# Was a write acknowledged that had been asked for behind the mark?
sub acknowledged_since
{
	my ($self, $mark) = @_;
	open my $in, '<', $self->{path} or return 0;
	seek $in, $mark, 0;
	my $half = readline $in;
	my %asked;
	while (my $line = <$in>) {
		return 1 if $self->{journal};
		my ($process, $event, $op) = $line =~ /\A\d+ (\d+) (\w+) (\w+)/ or next;
		$asked{$process} = 1 if $event eq 'invoke';
		return 1 if $event eq 'ok' && $op !~ /get/ && $asked{$process};
	}
	return 0;
}

sub wait_progress
{
	my ($self, %o) = @_;
	my $mark = defined $o{mark} ? $o{mark} : $self->mark;
	$self->{cluster}->wait_for(sub { return $self->mark > $mark && $self->acknowledged_since($mark) },
		$o{seconds} || $self->{cluster}->patience, "acknowledged writes of recorder $self->{name}");
	return;
}

# Its exit code once it has ended by itself.
sub ended
{
	my ($self) = @_;
	$self->{code} = Kvd::Test::wait_for($self->{pid}, 0) if !defined $self->{code};
	return $self->{code};
}

# Ends it (or waits until it has ended by itself); its report as a hash.
sub finish
{
	my ($self, %o) = @_;
	kill 'TERM', $self->{pid} if !$o{wait} && !defined $self->{code};
	my $code = defined $self->{code} ? $self->{code} : Kvd::Test::wait_for($self->{pid}, $o{seconds} || 120);
	if (!defined $code) {
		kill 'KILL', $self->{pid};
		waitpid $self->{pid}, 0;
		$self->{cluster}->give_up("recorder $self->{name} does not end\n");
	}
	my $text = Kvd::Test::slurp("$self->{path}.report");
	die "recorder $self->{name} ended with $code: $text\n" if $code != 0;
	my %report = map { /\A(\S+) ([\d.]+)\z/ ? ($1, $2) : () } split /\n/, $text;
	Test::More::note("$self->{name}: " . join ' ', map {"$_=$report{$_}"} sort keys %report);
	return \%report;
}

# kvlin's word on it, as a test.
sub check_history
{
	my ($self, $text) = @_;
	my $r = Kvd::Test::run_command({ timeout => 180 }, Kvd::Cluster::test_program('kvlin'), $self->{path});
	Test::More::is($r->{code}, 0, $text || "$self->{name}: linearizable");
	$r->{code} == 0 ? Test::More::note($r->{out}) : Test::More::diag($r->{out} . $r->{err});
	return $r->{code} == 0;
}

# Are all acknowledged writes of a journal there?
sub verify
{
	my ($self, $text) = @_;
	my $r = Kvd::Test::run_command({ timeout => 120 }, Kvd::Cluster::test_program('kvrecord'), '-v', $self->{path},
		$self->{cluster}->uri('timeout=60s'));
	my ($n) = $r->{out} =~ /^verified (\d+)$/m;
	Test::More::is($r->{code}, 0, ($text || "$self->{name}: no acknowledged write is missing") . ' of ' . ($n || 0));
	Test::More::diag($r->{out} . $r->{err}) if $r->{code} != 0;
	return $n;
}

1;
