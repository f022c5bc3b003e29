#!/usr/bin/perl
#
# pkgindex2tsv.pl - turns a Debian package index into lines for `kvctl load`: name TAB stanza, C escapes.
#
#   apt-cache dumpavail | contrib/pkgindex2tsv.pl > packages.tsv
#   contrib/pkgindex2tsv.pl --generate 5000 > packages.tsv      a made-up index where there is no apt
#
# A package that occurs several times (versions, architectures) keeps its last stanza, as loading one after the
# other would; --all prints each. Output is sorted by name as bytes, so that it can be compared with `kvctl dump`.
#
use strict;
use warnings;

binmode STDIN;
binmode STDOUT;

my ($all, $generate, $seed) = (0, 0, 1);
while (@ARGV && $ARGV[0] =~ /\A--/) {
	my $option = shift;
	if ($option eq '--all') { $all = 1 }
	elsif ($option eq '--generate' && @ARGV) { $generate = shift }
	elsif ($option eq '--seed' && @ARGV) { $seed = shift }
	else { die "usage: pkgindex2tsv.pl [--all] [--generate COUNT [--seed N]] [FILE]...\n" }
}

# As kvctl writes them: backslash and control characters escaped, other bytes as they are.
my %escape = ("\\" => '\\\\', "\t" => '\\t', "\n" => '\\n', "\r" => '\\r');

sub escape
{
	my ($s) = @_;
	$s =~ s/([\x00-\x1f\x7f\\])/exists $escape{$1} ? $escape{$1} : sprintf '\\x%02x', ord $1/ge;
	return $s;
}

# Stanzas that look like those of an index: names that share prefixes, some long descriptions, any UTF-8.
sub made_up
{
	my ($i) = @_;
	my @stems = qw(libssl libc python3 golang-github fonts texlive node ruby librust r-cran linux-image);
	my $name = "$stems[rand @stems]-" . join('', map { chr(97 + rand 26) } 1 .. 2 + rand 8) . $i;
	my @words = ('data', "caf\xc3\xa9", 'tab\\t', 'server', "\xe2\x86\x92", 'library');
	my $text = join "\n ", map { join ' ', map { $words[ rand @words ] } 1 .. 3 + rand 12 } 1 .. 1 + rand 12;
	return "Package: $name\nVersion: $i." . int(rand 100) . "-1\nArchitecture: amd64\nDescription: $text\n";
}

my %last;

sub take
{
	my ($stanza) = @_;
	$stanza =~ s/\n+\z//;
	return if $stanza eq '';
	my ($name) = $stanza =~ /^Package: *(\S+)/m or die "pkgindex2tsv.pl: stanza without Package: near line $.\n";
	if ($all) {
		print escape($name), "\t", escape($stanza), "\n";
	} else {
		$last{$name} = $stanza;
	}
	return;
}

if ($generate) {
	srand $seed;
	take(made_up($_)) for 1 .. $generate;
} else {
	local $/ = '';
	while (my $stanza = <>) {
		take($stanza);
	}
}
print escape($_), "\t", escape($last{$_}), "\n" for sort keys %last;
