#!/usr/bin/perl
#
# 403_kvctl_shell.t - the interactive shell, on a terminal of its own.
#
# Why so: what a person types goes through the terminal, the line editor and signals, none of which a pipe has. The test
# opens a pseudo terminal (Linux), types, and waits for what must appear; nothing depends on how long things take.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;
use POSIX ();
use Time::HiRes qw(time);

use constant { TIOCSCTTY => 0x540E };

my ($tty, $name) = open_terminal() or plan skip_all => 'no pseudo terminal';

$Kvd::Test::KVCTL_OPTIONS = '?timeout=50s';
my $node = Kvd::Test->new('main')->init(port => keep_port())->start;
my $home = test_dir();

my $shell = fork;
die $! if !defined $shell;
if ($shell == 0) {
	Kvd::Test::die_with_parent(getppid);
	POSIX::setsid();
	open my $side, '+<', $name or POSIX::_exit(126);
	ioctl $side, TIOCSCTTY, 0;
	POSIX::dup2(fileno $side, $_) for 0 .. 2;
	$ENV{HOME} = $home;
	$ENV{TERM} = 'dumb';
	$ENV{ASAN_OPTIONS} = 'detect_leaks=0'; # libedit keeps the names of functions added to it
	exec kvd_bin('kvctl'), '-p', $node->port, '--timeout', '50s' or POSIX::_exit(127);
}
# Until the shell has it open, reading the other side fails.
poll_until(sub { open my $try, '+<', $name }, 60, 'the terminal');

my $seen = '';

# Until the pattern appears in what came since the last call; what came.
sub expect
{
	my ($pattern, $what) = @_;
	my $until = time + 60;
	while ($seen !~ $pattern) {
		my $bits = '';
		vec($bits, fileno $tty, 1) = 1;
		if (select($bits, undef, undef, 0.1) > 0) {
			my $n = sysread $tty, my $more, 65536;
			last if !defined $n && !$!{EINTR} && !$!{EIO};
			$seen .= $more if $n;
		}
		last if time > $until;
	}
	my $ok = $seen =~ $pattern;
	my $text = $seen;
	$seen = $ok ? substr $seen, $+[0] : '';
	ok($ok, $what) or diag "saw: $text";
	return $text;
}

sub type { my ($text) = @_; syswrite $tty, $text; return }

my $port = $node->port;
# A cancelled command leaves the shell not connected (*) until the next one.
my $prompt = qr/127\.0\.0\.1:$port\*?> /;

expect(qr/connected to 127\.0\.0\.1:$port, kvd.*?$prompt/s, 'greeting and prompt');
type("put k \"a b\\x00\"\n");
expect(qr/OK \(version \d+\).*?$prompt/s, 'put');
type("get k\n");
expect(qr/\na b\\x00\r\n.*?$prompt/s, 'get, with escapes');
type("get nope\n");
expect(qr/get: .*?(no such key|not found).*?$prompt/s, 'an absent key does not end the shell');
type("\\timing\n");
expect(qr/timing is on.*?$prompt/s, '\timing');
type("\\format json\n");
expect(qr/format is json.*?$prompt/s, '\format');
type("get k\n");
expect(qr/\{"key":"k","value":"a b\\u0000"\}\r\ntime: .*?$prompt/s, 'JSON and the time');
type("\\format table\n\\x\n");
expect(qr/expanded display is on.*?$prompt/s, '\x');
type("scan k\n");
expect(qr/-\[ 1 \]-\r\nkey\s+\| k\r\nvalue \| a b.*?$prompt/s, 'expanded rows');

say_why('Ctrl-C takes the line, or ends the command, and never the shell');
type("count\n");
expect(qr/\n\d+\r\n.*?$prompt/s, 'count');
type("\\watch 0.05\n");
expect(qr/-- \d{4}-.*?-- \d{4}-.*?-- \d{4}-/s, '\watch repeats');
type("\x03");
expect($prompt, 'Ctrl-C ends it');
type("half a line");
expect(qr/half a line/, 'a line is begun');
type("\x03");
expect($prompt, 'Ctrl-C takes it away');

say_why('scripts and files from within the shell');
spew("$home/script", "put s 1\nincr s 41\n");
type("\\i $home/script\n");
expect(qr/\n42\r\n.*?$prompt/s, '\i');
type("\\o $home/result\n");
expect($prompt, '\o');
type("get s\n");
expect($prompt, 'a command');
type("\\o\n");
expect($prompt, '\o ends');
like(slurp("$home/result"), qr/^42$/m, 'its result is in the file');
type("\\conninfo\n");
expect(qr/role leader.*?$prompt/s, '\conninfo');
type("\\help put\n");
expect(qr/put - store a value.*?$prompt/s, '\help');
type("\\?\n");
expect(qr/\\conninfo.*?\\watch.*?$prompt/s, '\?');

say_why('the server goes and comes back: the shell shows it and connects by itself');
$node->stop;
type("\n");
expect(qr/127\.0\.0\.1:$port\*> /, 'a star in the prompt: not connected');
$node->start;
type("get s\n");
expect(qr/\n42|value \| 42/, 'the next command connects');
expect(qr/127\.0\.0\.1:$port> /, 'no star');
type("\\q\n");
poll_until(sub { waitpid($shell, 1) == $shell }, 60, 'the shell to end');
is($?, 0, '\q ends it');
SKIP: {
	skip 'built without libedit', 2 if !-e "$home/.kvctl_history";
	is((stat "$home/.kvctl_history")[2] & 07777, 0600, 'the history is private');
	like(slurp("$home/.kvctl_history"), qr/conninfo/, 'and holds what was typed');
}
is($node->stop, 0, 'the node stops');
done_testing;
