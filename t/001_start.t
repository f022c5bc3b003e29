#!/usr/bin/perl
#
# 001_start.t - a node is made, started, stopped in each way, and refuses what it must refuse.
#
# Why so: these are the first minutes of everybody who meets kvd, and each refusal here protects data: a second
# server on the same files, a directory that holds something else, a setting that is not what its writer meant.
# Messages are checked for what a person needs: which directory, which file and line, which process.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;
use Kvd::Client;
use Kvd::Proto qw(:all);

my $kvd = kvd_bin('kvd');
my $dir = test_dir();

# 1. The program explains itself.
my $r = run_command($kvd, '--version');
is($r->{code}, 0, '--version succeeds');
like($r->{out}, qr/^kvd \d+\.\d+\.\d+$/, '--version prints name and version');
$r = run_command($kvd, '--help');
is($r->{code}, 0, '--help succeeds');
like($r->{out}, qr/\Q$_\E/, "--help names $_") for qw(-D -p -c --init-only --check --config --help --version);
$r = run_command($kvd);
is($r->{code}, 2, 'no directory is wrong usage');
like($r->{err}, qr/-D/, '... and the message names -D');
$r = run_command($kvd, '--frobnicate');
is($r->{code}, 2, 'an unknown argument is wrong usage');
like($r->{err}, qr/--frobnicate/, '... and the message names it');

# 2. --init-only makes a directory that only its owner may read, and makes it once.
$r = run_command($kvd, '-D', "$dir/fresh", '--init-only');
is($r->{code}, 0, '--init-only makes a missing directory') or diag $r->{err};
is((stat "$dir/fresh")[2] & 07777, 0700, 'directory has mode 0700');
is((stat "$dir/fresh/kvd.conf")[2] & 07777, 0600, 'kvd.conf has mode 0600');
like(slurp("$dir/fresh/kvd.conf"), qr/^# ?max_connections = /m, 'the sample file has commented settings');
my $sample = slurp("$dir/fresh/kvd.conf");
spew("$dir/fresh/kvd.conf", $sample . "# mine\n");
$r = run_command($kvd, '-D', "$dir/fresh", '--init-only');
is($r->{code}, 0, 'again: nothing to do');
like(slurp("$dir/fresh/kvd.conf"), qr/^# mine$/m, 'what is there stays');
mkdir "$dir/empty";
$r = run_command($kvd, '-D', "$dir/empty", '--init-only');
is($r->{code}, 0, '--init-only fills an empty directory');

# 3. A directory with other people's files is refused and not touched.
mkdir "$dir/foreign";
spew("$dir/foreign/thesis.tex", 'years of work');
for my $mode ([], ['--init-only'], ['--check']) {
	$r = run_command($kvd, '-D', "$dir/foreign", @$mode);
	is($r->{code}, 1, "foreign directory refused (@$mode)");
	like($r->{err}, qr/\Q$dir\E\/foreign/, '... the message names the directory');
}
opendir my $listing, "$dir/foreign";
is_deeply([ sort grep { !/^\./ } readdir $listing ], ['thesis.tex'], '... and nothing was added to it');

for my $mode ('--config', '--check') {
	$r = run_command($kvd, '-D', "$dir/missing", $mode);
	is($r->{code}, 1, "$mode of a missing directory");
	like($r->{err}, qr/data directory "\Q$dir\E\/missing" does not exist/, '... says so');
}
{
	local $ENV{KVD_WAL_SEGMENT_SIZE} = '3MB';
	$r = run_command($kvd, '-D', "$dir/missing", '--init-only');
}
is($r->{code}, 1, 'a wrong setting: no directory is made');
like($r->{err}, qr/environment KVD_WAL_SEGMENT_SIZE: 3MB .*power of two/, '... the message names it');
ok(!-e "$dir/missing", '... and nothing was made');

# 4. A directory of a newer version, and a damaged control file, are refused.
my $control = slurp("$dir/fresh/kvd.control");
for my $at (0, 8, 20, length($control) - 1) {
	my $damaged = $control;
	substr($damaged, $at, 1) ^= "\x01";
	spew("$dir/fresh/kvd.control", $damaged);
	$r = run_command($kvd, '-D', "$dir/fresh", '-p', '0', '--check');
	is($r->{code}, $at < 8 ? 1 : 3, "kvd.control with a flipped bit at $at: another kvd's, or damage");
	like($r->{err}, qr/kvd\.control/, '... the message names the file');
}
spew("$dir/fresh/kvd.control", $control);

# 5. Start: readiness is told by postmaster.pid, port 0 finds a free port, the ready line says how to go on.
my $node = Kvd::Test->new('main')->init->start;
my @pid_file = $node->pid_file;
is($pid_file[0], $node->pid, 'postmaster.pid: process id');
isnt($pid_file[1], 0, 'postmaster.pid: the port that port 0 became');
cmp_ok(abs($pid_file[2] / 1000 - time), '<', 60, 'postmaster.pid: start time');
is($pid_file[3], $node->dir, 'postmaster.pid: directory');
is($pid_file[4], 'ready', 'postmaster.pid: state');
is($pid_file[5], '127.0.0.1', 'postmaster.pid: addresses');
like($node->log, qr/^kvd \S+ is ready, listening on 127\.0\.0\.1:$pid_file[1], data in \Q@{[$node->dir]}\E$/m,
	'ready line');
like($node->log, qr/^try: kvctl -p $pid_file[1] put hello world$/m, 'line to try');
my $c = $node->client;
is($c->put('hello', 'world')->{status}, 'OK', 'it takes a write');
is($c->get('hello')->{value}, 'world', 'and gives it back');
$node->wait_titles;
is_deeply([ sort keys %{ $node->children } ], [qw(backend compactor consensus replay walwriter)],
	'the children show their titles');

# 6. A second postmaster on the same directory is refused, also one for another port, and harms nothing.
my $second = run_command($kvd, '-D', $node->dir, '-p', '0');
is($second->{code}, 1, 'second postmaster refused');
like($second->{err}, qr/process @{[$node->pid]}\b/, '... naming the first');
like($second->{err}, qr/\Q@{[$node->dir]}\E/, '... and the directory');
$second = run_command($kvd, '-D', $node->dir, '--check');
is($second->{code}, 4, '--check of a running server refused');
is($c->get('hello')->{value}, 'world', 'the first goes on');

# 7. A port in use is a clear failure.
my $other = Kvd::Test->new('other')->init;
my $refused = $other->start(fails => 1, args => [ '-p', $node->port ]);
is($refused->{code}, 1, 'port in use: start refused');
like($refused->{out}, qr/port @{[$node->port]}.*(in use|use)/i, '... the message names the port');

# 8. Fast stop: clients are told, the next start finds everything.
is($node->stop('fast'), 0, 'fast stop ends with 0');
my $last = eval { $c->receive };
ok(!defined $last || $last->{status} eq 'SHUTTING_DOWN', 'the client saw SHUTTING_DOWN or the end');
ok(!-e $node->dir . '/postmaster.pid', 'postmaster.pid is gone');
$node->start;
is($node->client->get('hello')->{value}, 'world', 'fast stop lost nothing');

# 9. Smart stop waits for clients to leave, takes no new ones, and ends by itself when the last has gone.
$c = $node->client;
$c->put('smart', '1');
$node->signal('TERM');
poll_until(sub { $node->state eq 'stopping' }, 60, 'state stopping');
is($c->put('smart', '2')->{status}, 'OK', 'smart stop: a client that is there goes on');
my $late = eval { $node->client; 1 };
ok(!$late, 'smart stop: a new client is refused');
like($@, qr/SHUTTING_DOWN|cannot connect/, '... with the reason');
$c->close;
is($node->wait_end(20), 0, 'smart stop ends when the last client has left');
$node->start;
is($node->client->get('smart')->{value}, '2', 'smart stop lost nothing');

# 10. Immediate stop is a crash on purpose: acknowledged writes are there after replay.
$c = $node->client;
$c->put("immediate$_", $_) for 1 .. 50;
isnt($node->stop('immediate'), undef, 'immediate stop ends');
$node->start;
$c = $node->client;
is(scalar(grep { $c->get("immediate$_")->{value} eq $_ } 1 .. 50), 50, 'immediate stop lost nothing');

# 11. Settings: wrong names, values and units are refused with file and line; nothing else changes.
$node->stop;
$r = run_command($kvd, '-D', $node->dir, '--check');
is($r->{code}, 0, '--check of a sound directory') or diag $r->{out};
my $conf = slurp($node->dir . '/kvd.conf');
my $line = 1 + ($conf =~ tr/\n//);
for my $case (
	[ 'no_such_setting = 1', qr/unknown setting "no_such_setting"/ ],
	[ 'max_connections = many', qr/"many".*max_connections/ ],
	[ 'max_connections = 0', qr/out of range.*max_connections/ ],
	[ 'wal_segment_size = 3MB', qr/3MB.*wal_segment_size.*must be a power of two/ ],
	[ 'memtable_size = 64Mb', qr/64Mb.*memtable_size/ ],
	[ 'client_timeout = 30 parsecs', qr/client_timeout|unexpected text/ ],
	[ 'log_level = loud', qr/loud.*log_level/ ],
	[ "log_file = 'open", qr/closing quote/ ],
	[ 'max_connections', qr/name = value|no value/ ],
) {
	my ($text, $message) = @$case;
	spew($node->dir . '/kvd.conf', "$conf$text\n");
	$r = $node->start(fails => 1);
	is($r->{code}, 1, "kvd.conf: $text: start refused");
	like($r->{out}, qr/kvd\.conf:$line:.*$message/, '... naming file and line');
}
spew($node->dir . '/kvd.conf', $conf);
$r = $node->start(fails => 1, args => [ '-c', 'max_connections=none' ]);
is($r->{code}, 1, '-c with a wrong value: start refused');
like($r->{out}, qr/-c:.*max_connections/, '... naming the setting');

# 12. --config shows every layer's value and where it comes from.
$node->append_conf(max_connections => 77);
{
	local $ENV{KVD_IDLE_TIMEOUT} = '5min';
	$r = run_command($kvd, '-D', $node->dir, '-c', 'memtable_size=48MB', '--config');
}
is($r->{code}, 0, '--config succeeds') or diag $r->{err};
my %shown = map { my @f = split /\t/, $_, -1; ($f[0] => \@f) } split /\n/, $r->{out};
is("@{$shown{max_connections}}[1, 3]", '77 kvd.conf', 'a value from the file');
is("@{$shown{memtable_size}}[1, 3]", '48MB command line', 'a value from the command line');
is("@{$shown{idle_timeout}}[1, 3]", '5min environment', 'a value from the environment');
is("@{$shown{l0_trigger}}[1, 3]", '4 default', 'a default');
is(scalar(grep { @$_ != 6 || $_->[5] eq '' } values %shown), 0, 'six columns each, with help');

# 13. Reload by HUP takes what can change in a running server and says what waits for a restart.
$node->start;
$c = $node->client;
$node->append_conf(max_value_size => 1000, max_connections => 78);
$node->signal('HUP');
poll_until(sub { $c->config('list', 'max_value_size')->{rows}[0][1] eq '1000B'
	|| $c->config('list', 'max_value_size')->{rows}[0][1] eq '1000' },
	10, 'the reload');
is($c->put('k', 'x' x 1000)->{status}, 'OK', 'max_value_size reloaded: 1000 bytes fit');
is($c->put('k', 'x' x 1001)->{status}, 'VALUE_TOO_LARGE', '... 1001 do not');
is($c->config('list', 'max_connections')->{rows}[0][4], 'pending', 'max_connections waits for a restart');
is($c->config('list', 'max_connections')->{rows}[0][1], '77', '... and keeps its value');

# 14. A wrong file at reload is reported and changes nothing.
$node->append_conf(max_value_size => 'huge');
$node->signal('HUP');
poll_until(sub { $node->log =~ /not reloaded:.*kvd\.conf:\d+/ }, 60, 'the complaint about the file');
is($c->put('k', 'x' x 1000)->{status}, 'OK', 'the old values stay in force');
is($node->stop, 0, 'stop');

done_testing;
