#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# coverage.sh
#
# Measure with the kernel's gcov how much of the relay's core the KUnit tests
# execute.  Prints a table and the branches that are never taken, and puts lcov's
# HTML report into build/<base>/coverage.

. "$(dirname "$0")/lib.sh"

# Lines that can't be executed without vendor code: they are the ones that the
# KUnit tests redirect to a stub.
excluded='return kvm_x86_call\(get_cpl\)'

need gcov lcov geninfo genhtml
load_base

core=arch/x86/kvm/hyperv_nested_relay
out=$BUILD/coverage
data=$out/data
rm -rf "$out"
mkdir -p "$data"

"$TOP/scripts/kunit.sh" --out "$out" --gcda "$data/hyperv_nested_relay.gcda" > "$out/tests.log" ||
	die "the KUnit tests fail" "see $out/tests.log"
cp "$LINUX/o-kunit-gcov/$core.gcno" "$data"

rc=(--rc lcov_branch_coverage=1 --rc "lcov_excl_line=$excluded")
report() {
	# The names in the .gcno file are relative to the build directory.
	cd "$LINUX/o-kunit-gcov" &&
	lcov -q "${rc[@]}" -c -d "$data" -b "$LINUX/o-kunit-gcov" -o "$out/all.info" &&
	lcov -q "${rc[@]}" -e "$out/all.info" "*/$core.c" -o "$out/core.info" &&
	genhtml -q --branch-coverage "${rc[@]}" -p "$LINUX" -t "$core.c by KUnit" \
		-o "$out/html" "$out/core.info"
}
logged "$out/lcov.log" report || die "lcov failed" "see $out/lcov.log"

tail -n 1 "$out/tests.log"
echo
awk -F '[:,]' -v source="$LINUX/$core.c" -v excluded="$excluded" '
	function row(what, hit, all) {
		printf "%-10s %5d of %5d  %5.1f %%\n", what, hit, all, all ? 100 * hit / all : 0
	}
	BEGIN {
		while ((getline text < source) > 0) {
			line[++n] = text
			sub(/^[ \t]+/, "", line[n])
		}
	}
	/^FNDA:/ { functions++; if ($2) functions_hit++ }
	/^DA:/ { lines++; if ($3) lines_hit++; else missed[$2] }
	/^BRDA:/ { branches++; if ($5 != "-" && $5 > 0) branches_hit++; else { branch[$2]++; } }
	END {
		row("lines", lines_hit, lines)
		row("functions", functions_hit, functions)
		row("branches", branches_hit, branches)
		print ""
		for (i = 1; i <= n; i++) {
			if (line[i] ~ excluded)
				printf "line %d, not counted: %s\n", i, line[i]
			if (i in missed)
				printf "line %d, never executed: %s\n", i, line[i]
			if (i in branch)
				printf "line %d, %d branches never taken: %s\n", i, branch[i], line[i]
		}
		exit lines == 0 || lines_hit < lines
	}' "$out/core.info" || status=1
echo
say "report: ${out#"$TOP"/}/html/index.html"
exit "${status:-0}"
