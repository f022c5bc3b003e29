#!/usr/bin/perl
#
# 091_documents.t - what the documents say about the programs is what the programs do.
#
# Why so: a document that lies costs more than none, and nobody notices when a default changes in code. So the settings
# with defaults, bounds and restart, the figures of STATS and the commands are asked of the shipped programs and looked
# up in doc/operations.md, both ways: what is missing there, and what is there but exists no more. The log lines that it
# explains must be ones that the sources can print. Paths and links must lead somewhere, and the program in README must
# compile and print what README says.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Find qw(find);
use Kvd::Test;

my $tree = abs_path("$FindBin::Bin/..");
my $dir = test_dir();
my $readme = slurp("$tree/README");
my $operations = slurp("$tree/doc/operations.md");

# 1. Settings: rows "| `name` | default | range | reload or restart | what for |".
my %row;
while ($operations =~ /^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| (restart|reload) \| ([^|]+) \|$/mg) {
	ok(!$row{$1}, "setting $1 has one row");
	$row{$1} = { default => $2, range => $3, context => $4 };
}
delete local @ENV{ grep { /^KVD_/ && !/^KVD_(?:BIN|BUILD|SEED|KEEP)$/ } keys %ENV };
my $r = run_command(kvd_bin('kvd'), '--config');
is($r->{code}, 0, 'kvd --config');
my (undef, @lines) = split /\n/, $r->{out};
cmp_ok(scalar @lines, '>', 20, 'there are settings');
is(run_command(kvd_bin('kvd'), '-D', "$dir/sample", '--init-only')->{code}, 0, 'a directory for the sample file');
my $sample = slurp("$dir/sample/kvd.conf");
for my $line (@lines) {
	my ($name, undef, undef, undef, $default) = split /\t/, $line, -1;
	my $said = delete $row{$name};
	ok($said, "doc/operations.md has a row for $name") or next;
	is($said->{default}, $default eq '' ? 'empty' : $default, "$name: default");
	my ($range, $restart) = $sample =~ /^# (.*)\.( \(restart\))?\n#$name = /m;
	ok(defined $range, "$name is in the sample file") or next;
	$range =~ s/^One of // and $range =~ s/,/, /g;
	is(lc $said->{range}, lc $range, "$name: range");
	is($said->{context}, $restart ? 'restart' : 'reload', "$name: takes effect");
}
is_deeply([ sort keys %row ], [], 'doc/operations.md names no setting that does not exist');

# 2. Figures: families are level.N, command.NAME, error.NAME, process.NAME.
my $node = Kvd::Test->new('main')->init->start;
my ($figures) = $operations =~ /^## Figures\n(.*?)^## /ms;
my %figure = map { $_ => 1 } map { /`([a-z_]+\.[\w.]+)`/g } map { /^\| (.*?) \| / } split /\n/, $figures;
is($node->kvctl('get', 'absent')->{code}, 1, 'an answer that is an error');
my %stats = map { /^(\S+)\s+(\d+)$/ } split /\n/, $node->kvctl('--format', 'tsv', 'stats')->{out};
cmp_ok(scalar keys %stats, '>', 50, 'there are figures');
ok($stats{'error.NOT_FOUND'}, 'the error is counted');
my %printed;
for my $name (sort keys %stats) {
	like($figures, qr/\b\Q$1\E\b/, "command $1 is in doc/operations.md") if $name =~ /^command\.(\w+)$/;
	$name =~ s/^level\.\d/level.N/;
	$name =~ s/^(command|error|process)\.\w+(\.pid)?$/"$1.NAME" . ($2 || '')/e if $name ne 'process.backends';
	ok($figure{$name}, "figure $name is in doc/operations.md") if !$printed{$name}++;
}
is_deeply([ grep { !$printed{$_} } sort keys %figure ], [], 'doc/operations.md explains no figure that is not printed');

# 3. Commands of kvctl.
my ($list) = run_command(kvd_bin('kvctl'), 'help')->{out} =~ /^commands:\n(.*?)\n\n/ms;
my @commands = map { /^  (\w+)/ } split /\n/, $list;
cmp_ok(scalar @commands, '>', 15, 'there are commands');
for my $command (@commands) {
	like("$readme$operations", qr/\b$command\b/, "command $command is in README or doc/operations.md");
	is(run_command(kvd_bin('kvctl'), 'help', $command)->{code}, 0, "... and has a page") if $command ne 'help';
}
like($operations, qr/\Q$_\E/, "option $_ of kvd is in doc/operations.md")
	for run_command(kvd_bin('kvd'), '--help')->{out} =~ /^  (-\S+)/mg;

# Files that a path, perhaps with *, names. "t/400" is the suite of that number.
sub matches { my ($path) = @_; return grep { -e } glob $path =~ m{/t/\d+$} ? "${path}_*" : $path }

# 4. Every path and link leads somewhere; every document is in README's list.
my @documents = ('README', map { s{^\Q$tree\E/}{}r } glob "$tree/doc/*.md");
find({ no_chdir => 1, wanted => sub { push @documents, s{^\Q$tree\E/}{}r if m{/README(?:\.md)?$} } }, "$tree/src",
	"$tree/contrib");
for my $document (@documents) {
	my $text = slurp("$tree/$document");
	my %named = map { $_ => 1 } $text =~ m{(?<![\w/.*-])((?:src|doc|t|contrib)/[\w./*-]*\w)}g;
	# Names such as src/test/unit/ROOM stand for many.
	my @missing = grep { !matches("$tree/$_") } grep { !m{/[A-Z]{4,}} || /README/ } sort keys %named;
	is_deeply(\@missing, [], "$document: the paths it names exist");
	my @dead = grep { !-e "$tree/" . dirname($document) . "/$_" } map { s/#.*//r } $text =~ /\]\(([^):]+)\)/g;
	is_deeply(\@dead, [], "$document: its links lead somewhere");
	unlike($text, qr{(?<![-\w:])/(?:work|tmp|home|root|mnt)/}, "$document: no path of somebody's machine");
}
ok(index($readme, $_) >= 0, "README lists $_") for map { s{^\Q$tree\E/}{}r } glob "$tree/doc/*.md";
my ($tour) = $readme =~ /^Reading the source\n-+\n(.*?)^Documents$/ms;
my @rooms = map { s{^\Q$tree\E/}{}r } grep { matches("$_/*.c") } glob "$tree/src/{*,*/*}";
ok(matches("$tree/$_/README*"), "$_ has a README, as README says") for @rooms;
cmp_ok(scalar(() = $tour =~ /^ *\d+\. /mg), '>', 10, 'there is a source tour');

# 5. Log lines: what is constant in them stands in a source. Numbers, names and texts that are put in are left out.
my ($log) = $operations =~ /^## What the log says\n(.*?)^## /ms;
my $sources = '';
find({ no_chdir => 1, wanted => sub { $sources .= slurp($_) if /\.[ch]$/ && !m{/src/test/} } }, "$tree/src");
$sources =~ s/"\s*PRI\w+\s*"/0/g;
$sources =~ s/(?<!\\)"\s*"//g;    # one text in several lines
$sources =~ s/\\"/"/g;
my $put_in = qr/\b(?:[A-Z]|KIND|COMMAND|FILE|LINE|\d+|backend|compaction)\b|\.\.\.|; | inside a critical section /;
my @said = map { /`([^`]+)`/g } map { (split / \| /)[0] } grep { /^\| `/ } split /\n/, $log;
cmp_ok(scalar @said, '>', 20, 'there are log lines');
for my $line (@said) {
	my @parts = grep { length > 3 } map { s/^\W+|\W+$//gr } split $put_in, $line;
	is_deeply([ grep { index($sources, $_) < 0 } @parts ], [], "the log can say: $line");
	ok(@parts > 0, '... and there was something to look for');
}

# 6. The program in README.
my ($program) = $readme =~ /^(  #include <stdio.h>\n.*?^  \}\n)/ms;
my $build = $ENV{KVD_BUILD} || "$tree/build";
my $cc = $ENV{CC} || 'cc';
SKIP: {
	skip 'the library of a sanitized build wants a sanitized program', 3 if $build =~ /address|thread|undefined/;
	ok($program, 'README has a program') or skip 'none', 2;
	$program =~ s/:7400\//':' . $node->port . '\/'/e;
	spew("$dir/hello.c", $program);
	$r = run_command(split(' ', $cc), '-o', "$dir/hello", "$dir/hello.c", "-I$tree/src/interfaces/libkv",
		"$build/lib/libkv.a", '-lm', '-pthread');
	is($r->{code}, 0, 'it compiles') or diag $r->{err};
	is(run_command("$dir/hello")->{out}, "green\n", 'it prints what README says');
}

$node->stop;
done_testing();
