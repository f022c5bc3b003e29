#!/usr/bin/perl
#
# 005_examples.t - the worked examples of doc/protocol.md are what the server does, byte for byte.
#
# Why so: strangers write clients from that document alone, and an example that is wrong costs them more than a missing
# one. The bytes are taken from the document itself: blocks that begin with ```hex NAME, lines > (client) and <
# (server), ?? for a byte that may differ, ??* for any number of them at the end. Client frames must be right in
# themselves too (length and CRC), and every command must have an example.
#
use strict;
use warnings;
use Test::More;
use FindBin;
use lib $FindBin::Bin;
use Kvd::Test;
use Kvd::Proto qw(:all);

# [ title, sent bytes, expected answer as a pattern, shown ]
my @examples;
my $document = slurp("$FindBin::Bin/../doc/protocol.md");
while ($document =~ /^```hex +([^\n]+)\n(.*?)^```$/msg) {
	my ($title, $block) = ($1, $2);
	my ($sent, $pattern, $shown) = ('', '', '');
	for my $line (split /\n/, $block) {
		my ($side, $bytes) = $line =~ /\A([<>]) ((?:[0-9a-f]{2}|\?\?\*?| )+?) *(?:#.*)?\z/
			or die "$title: not a line of an example: $line\n";
		for my $byte (split ' ', $bytes) {
			if ($side eq '>') {
				$sent .= chr hex $byte;
			} else {
				$pattern .= $byte eq '??*' ? '.*' : $byte eq '??' ? '.' : sprintf '\\x%s', $byte;
				$shown .= "$byte ";
			}
		}
	}
	push @examples, [ $title, $sent, qr/\A$pattern\z/s, $shown ];
}
cmp_ok(scalar @examples, '>=', 14, 'the document has ' . @examples . ' examples');

my $node = Kvd::Test->new('main')->init->start;
my $c = $node->client(hello => 0);
my %shown;
for my $example (@examples) {
	my ($title, $sent, $pattern, $shown) = @$example;
	my $h = header($sent);
	ok(length $sent == 16 + $h->{length} && frame_ok($h, substr $sent, 16),
		"$title: length and CRC of the request are right");
	$shown{ $h->{type} }++;
	$c->send_bytes($sent);
	$c->fill(16) or die "$title: connection lost\n";
	my $a = header($c->{in});
	$c->fill(16 + $a->{length}) or die "$title: connection lost\n";
	my $answer = substr $c->{in}, 0, 16 + $a->{length}, '';
	ok(frame_ok($a, substr $answer, 16), "$title: CRC of the answer");
	like($answer, $pattern, "$title: the answer is as written")
		or diag "document: $shown\nserver:   " . join ' ', map { sprintf '%02x', $_ } unpack 'C*', $answer;
}
is($c->{in}, '', 'one answer each, no more');
is_deeply([ grep { !$shown{ $CMD{$_} } } sort keys %CMD ], [], 'every command has an example');

# The commands and codes the document lists are those this test library knows, with the same numbers.
my %listed = $document =~ /^\| (\d+) \| ([A-Z_]+) \| (?:yes|) ?\|$/mg;
is_deeply({ reverse %listed }, { %CMD, %NODE_CMD }, 'the table of commands');
my %codes = $document =~ /^\| (\d+) \| ([A-Z_]+) \| [^\n]+ \|$/mg;
delete @codes{ grep { exists $listed{$_} && $listed{$_} eq $codes{$_} } keys %codes };
is_deeply([ grep { !exists $CODE{ $codes{$_} } || $CODE{ $codes{$_} } != $_ } sort keys %codes ], [],
	'the table of status codes');
is($node->stop, 0, 'stop');

done_testing;
