# The checks of the tree itself: each breach planted in a small tree must be reported, and nothing else.
use strict;
use warnings;
use Test::More;
use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Cwd qw(abs_path);

my $tree = abs_path(dirname(__FILE__) . '/..');
my $dir  = tempdir('kvd_tools.XXXXXX', TMPDIR => 1, CLEANUP => 1);

# --- check_layers -----------------------------------------------------------
sub write_file
{
	my ($path, $text) = @_;
	make_path(dirname("$dir/$path"));
	open my $out, '>', "$dir/$path" or die "$path: $!";
	print $out $text;
	close $out or die "$path: $!";
	return;
}

# The lines check_layers prints for the copy.
sub complaints
{
	my $out = qx($tree/src/tools/check_layers $dir 2>&1);
	is($? >> 8, $out eq '' ? 0 : 1, 'exit code tells whether something was found');
	return split /\n/, $out;
}

sub header
{
	my ($guard, $text) = @_;
	return "#ifndef $guard\n#define $guard\n$text\n#endif\n";
}

# A small tree with headers of every kind
for my $name (qw(common/bytes port/fs port/clock replication/raft backend/backend),
	map {"storage/$_"} qw(kvstore wal lsm cache sstable entry memtable)) {
	(my $guard = uc "${name}_H") =~ tr{/}{_};
	write_file("src/include/$name.h", header($guard, ''));
}
write_file('src/interfaces/libkv/kv.h', "int kv;\n");
write_file('src/interfaces/libkv/libkv_internal.h', "int kv;\n");
write_file('src/storage/lsm/lsm_internal.h', "int lsm;\n");
write_file('src/common/config_internal.h', "int config;\n");

# Allowed
sub including
{
	my ($file, $code, @names) = @_;
	write_file($file, join('', map {qq(#include "$_"\n)} @names) . "$code\n");
	return;
}
including('src/storage/sstable/good.c', '', 'storage/cache.h', 'storage/entry.h', 'port/fs.h');
including('src/storage/lsm/good.c', '', 'storage/sstable.h', 'lsm_internal.h');
including('src/storage/good.c', '', map {"storage/$_.h"} qw(memtable lsm wal sstable cache));
including('src/backend/good.c', 'void f(void) { recv(1); }', 'storage/kvstore.h', 'storage/wal.h');
including('src/bin/kvctl/good.c', 'void f(void) { fork(); }', 'kv.h', 'common/bytes.h');
including('src/test/unit/good.c', 'void f(void) { open(); }', 'storage/lsm.h', 'lsm_internal.h');
write_file('src/ipc/good.c', <<'C');
/* open() in a comment, fork() too */
// system("x")
const char *s = "strcpy(a, b) \" gets(c)";
void f(void) { fs->open(1); reopen(2); a.close(3); }
C
is_deeply([complaints()], [], 'what is allowed is not reported');

my @planted;    # [ file, line, part of the message ]

sub plant
{
	my ($file, $text, @at) = @_;
	write_file($file, $text);
	push @planted, map { [ $file, @$_ ] } @at;
	return;
}

sub plant_include
{
	my ($file, $name, $message) = @_;
	plant($file, qq(int x;\n#include "$name"\n), [ 2, $message ]);
	return;
}
plant_include('src/common/up.c', 'port/fs.h', 'common may not include "port/fs.h" of port');
plant_include('src/ipc/up.c', 'storage/entry.h', 'ipc may not include "storage/entry.h"');
plant_include('src/storage/wal/side.c', 'storage/memtable.h', 'storage/wal may not include "storage/memtable.h"');
plant_include('src/storage/memtable/side.c', 'storage/cache.h', 'storage/memtable may not include');
plant_include('src/storage/cache/side.c', 'storage/sstable.h', 'storage/cache may not include');
plant_include('src/storage/sstable/up.c', 'storage/lsm.h', 'storage/sstable may not include');
plant_include('src/storage/lsm/up.c', 'storage/kvstore.h', 'storage/lsm may not include');
plant_include('src/backend/deep.c', 'storage/lsm.h', 'backend may not include "storage/lsm.h"');
plant_include('src/backend/raft.c', 'replication/raft.h', 'backend may not include "replication/raft.h"');
plant_include('src/replication/raft/impure.c', 'port/clock.h', 'replication/raft may not include');
plant_include('src/interfaces/libkv/up.c', 'storage/kvstore.h', 'src/interfaces/libkv may not include');
plant_include('src/bin/kvctl/deep.c', 'libkv_internal.h', 'src/bin may not include "libkv_internal.h"');
plant_include('contrib/kvbench/up.c', 'backend/backend.h', 'contrib may not include');
plant_include('src/storage/private.c', '../common/config_internal.h', 'by its path below src/include');
plant_include('src/storage/other.c', 'lsm_internal.h', 'not beside this file');
plant_include('src/port/typo.c', 'port/file_system.h', 'is not in src/include');
plant('src/newroom/a.c', "int x;\n", [ 1, 'this folder is no room' ]);
plant('src/ipc/calls.c', "void f(void) {\n\tfd = open(p);\n\tx = 1 + fork ();\n\tsprintf(a, b); strcpy(a, b);\n}\n",
	[ 2, 'open() is a system call' ],
	[ 3, 'fork() is a system call' ],
	[ 4, 'sprintf() is banned' ],
	[ 4, 'strcpy() is banned' ]);
plant('src/backend/calls.c', "void f(void) {\n\tfork();\n}\n", [ 2, 'fork() is a system call' ]);
plant('src/port/calls.c', "void f(void) {\n\tsystem(p);\n}\n", [ 2, 'system() is banned' ]);
plant('src/include/ipc/guard.h', header('GUARD_H', ''), [ 1, 'the include guard must be IPC_GUARD_H' ]);
plant('src/include/ipc/noguard.h', "int x;\n", [ 1, 'the include guard must be IPC_NOGUARD_H' ]);
plant('src/include/ipc/alone.h', header('IPC_ALONE_H', 'uint32_t f(void);'), [ 1, 'does not compile alone' ]);
plant('src/ipc/long.c', "x;\n" x 901, [ 901, 'the file has 901 lines' ]);
plant('src/ipc/full.c', "x;\n" x 900);
plant('src/ipc/wide.c', join("\n\t", '', 'x' x 117, 'x' x 116, "\xc3\xa9" . 'x' x 115, 'X(' . 'x' x 200, ''),
	[ 2, 'the line has 121 columns' ]);
plant('src/tools/wide', 'x' x 121 . "\n", [ 1, 'the line has 121 columns' ]);

my @got = complaints();
for my $p (@planted) {
	my ($file, $line, $message) = @$p;
	my @match = grep { index($_, "$file:$line: ") == 0 && index($_, $message) >= 0 } @got;
	is(scalar @match, 1, "$file:$line: $message");
	@got = grep { !@match || $_ ne $match[0] } @got;
}
is_deeply(\@got, [], 'nothing else is reported');

# --- test_deps --------------------------------------------------------------
my $deps = "$tree/src/tools/test_deps";
is(qx($deps 2>&1), '', 'test_deps is silent where all is there');
is($?, 0, 'and content');

# A PATH without prove and without a package manager
mkdir "$dir/bin" or die;
for my $program (qw(sh id perl pkg-config cc)) {
	my ($found) = grep { -x } map { "$_/$program" } split /:/, $ENV{PATH};
	symlink $found, "$dir/bin/$program" if defined $found;
}
my $sh = (grep { -x } map { "$_/sh" } split /:/, $ENV{PATH})[0];
my $out = qx(PATH=$dir/bin $sh $deps 2>&1);
is($? >> 8, 1, 'test_deps fails when prove is missing and cannot be installed');
like($out, qr/\AThe tests need packages that are missing. On Debian:  sudo apt-get install -y perl[^\n]*\n\z/,
	'and says what to run');

# With one: it is asked for what is missing, quietly.
open my $apt, '>', "$dir/bin/apt-get" or die;
print $apt <<"SH";
#!$sh
echo chatter
echo "\$*" >>$dir/asked
case "\$*" in *install*) [ -e $dir/updated ];; *update*) : >$dir/updated;; esac
SH
close $apt or die;
chmod 0755, "$dir/bin/apt-get" or die;
for my $program (qw(env mktemp rm tail)) {
	my ($found) = grep { -x } map { "$_/$program" } split /:/, $ENV{PATH};
	symlink $found, "$dir/bin/$program";
}
open my $sudo, '>', "$dir/bin/sudo" or die;    # where we are not root
print $sudo "#!$sh\nshift\nexec \"\$@\"\n";
close $sudo or die;
chmod 0755, "$dir/bin/sudo" or die;
symlink((grep { -x } map { "$_/true" } split /:/, $ENV{PATH})[0], "$dir/bin/true");
$out = qx(PATH=$dir/bin $sh $deps 2>&1);
is($?, 0, 'test_deps installs');
like($out, qr/\Ainstalling perl[^\n]*\n\z/, 'in one line');
open my $asked, '<', "$dir/asked" or die;
my @asked = <$asked>;
like($asked[0], qr/^-qq install -y --no-install-recommends perl/, 'asking for what is missing');
like($asked[1], qr/^-qq update$/, 'after a failure for new lists');
like($asked[2], qr/^-qq install/, 'and once more');
is(scalar @asked, 3, 'no further');

done_testing();
