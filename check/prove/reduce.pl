# SPDX-License-Identifier: GPL-2.0
# Make what gcc -E printed something that CBMC can read, and reads quickly: leave
# out the bodies of functions that nothing in check/prove can reach.
my $roots = shift;
undef $/;
$_ = <>;

1 while s/\b__auto_type\s+(\w+)\s*=\s*((?:(?!__auto_type)[^;{}])*?);/__typeof__($2) $1 = $2;/g;
s/__auto_type __v = \(\{ typeof\((.*?)\) \*__UNIQUE/__typeof__($1) *__v = ({ typeof($1) *__UNIQUE/g;
our $block = qr/\{(?:[^{}"']++|"(?:\\.|[^"\\])*+"|'(?:\\.|[^'\\])++'|(??{$block}))*+\}/s;
s/^[ \t]+struct (\w+);$/my $t = $1; m{^struct $t ($block)}m or die "no struct $t"; "struct $1;"/gme;

my (@text, %body, %defs, @todo, %seen, $file);
while (/\G((?:[^{}"']++|"(?:\\.|[^"\\])*+"|'(?:\\.|[^'\\])++')*+)($block|\z)/gcs) {
	my ($before, $braces) = ($1, $2);
	my ($head) = $before =~ /((?:[^;}"]|"(?:\\.|[^"\\])*")*)\z/s;
	$file = $1 while $before =~ /^# \d+ "([^"]*)"/mg;
	$head =~ s/^#.*$//mg;
	our $paren = qr/\((?:[^()]++|(??{$paren}))*+\)/s;
	$head =~ s/__attribute__\s*$paren//g;
	my ($name) = $head =~ /(\w+)\s*$paren\s*\z/s;
	undef $name if $head =~ /=|^\s*typedef/s || !defined $name || $name =~ /^(__typeof__|typeof|if|asm)$/;
	my $own = $file =~ m{$roots} ? 1 : 0;
	push @text, $before, [$name, $braces];
	if (defined $name) {
		$body{$name} .= $braces;
		push @todo, $name if $own;
	}
	last if pos == length;
}
die "unbalanced at " . pos . ": " . substr($_, pos, 80) if pos != length;
while (@todo) {
	my $f = pop @todo;
	next if $seen{$f}++;
	push @todo, grep { exists $body{$_} && !$seen{$_} } $body{$f} =~ /\b([A-Za-z_]\w*)\b/g;
}
my %used;
our $paren;
for (map { ref && !defined $_->[0] ? $_->[1] : () } @text) { $used{$_} = 1 for /\b([A-Za-z_]\w*)\b/g; }
for my $f (keys %seen) { $used{$_} = 1 for $body{$f} =~ /\b([A-Za-z_]\w*)\b/g; }
# A declaration or the head of a function that is not used goes.
sub keep {
	my ($stmt, $is_head) = @_;
	$stmt =~ s{^#.*$}{}mg;
	return 1 if $stmt =~ m{\b(typedef|_Static_assert)\b};
	if ($stmt =~ /=/ && !$is_head) { $used{$_} = 1 for $stmt =~ /\b([A-Za-z_]\w*)\b/g; return 1; }
	$stmt =~ s/__attribute__\s*$paren//g;
	$stmt =~ s/\b__asm__\s*$paren|\basm\s*$paren//g;
	my ($name) = $stmt =~ /(\w+)\s*$paren\s*\z/s;
	return 0 if defined $name && !$used{$name};
	$used{$_} = 1 for $stmt =~ m{\b([A-Za-z_]\w*)\b}g;
	return 1;
}
my $cut;
for my $pass (1, 2) {
$cut = 0;
for (my $i = 0; $i < @text; $i += 2) {
	my ($before, $b) = ($text[$i], $text[$i + 1]);
	my @stmts = split /(?<=;)/, $before;
	my $head = @stmts && $stmts[-1] !~ /;\s*\z/ ? pop @stmts : "";
	my $o = "";
	for my $s (@stmts) {
		(my $d = $s) =~ s/;\s*\z//;
		if ($s !~ /\A\s*;?\s*\z/ && !keep($d, 0)) { $cut++; $o .= join("", $s =~ /^(#.*\n)/mg); next }
		$o .= $s;
	}
	if (defined $b->[0] && !$seen{$b->[0]}) {
		if ($used{$b->[0]}) { $o .= "$head;" } else { $cut++; $o .= join("", $head =~ /^(#.*\n)/mg); }
	} else {
		$o .= $head . $b->[1];
	}
	print $o if $pass == 2;
}
}
print STDERR scalar(keys %seen), " functions, $cut declarations cut\n";
