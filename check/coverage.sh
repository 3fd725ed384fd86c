#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# coverage.sh [ROW-GLOB]
#
# Measure with the kernel's gcov what the tests execute, in two parts:
#
# The relay's core by its KUnit tests alone: lines, functions, and the branches
# that are never taken.  lcov's HTML report is in build/<base>/coverage.
#
# Every line that the series adds to the kernel's own files, and the core, by
# KUnit and selftests together, on both vendors: the rows of lab/plan in the
# group gcov, or those that match ROW-GLOB.  Prints each line that a vendor
# never executes.  Fails if there is one without a reason in
# check/coverage.reasons, or a reason without such a line.  The last line counts the
# tests in those rows, and the two parts.

. "$(dirname "$0")/../scripts/lib.sh"
. "$TOP/lab/results.sh"

options 1 "" "$@"

# Lines that can't be executed without vendor code: they are the ones that the
# KUnit tests redirect to a stub.
excluded='return kvm_x86_call\(get_cpl\)'

need git perl gcov lcov geninfo genhtml
load_base
[[ -d $LINUX ]] || die "there is no build/$BASE/linux" "run: make tree"

core=arch/x86/kvm/hyperv_nested_relay
config=lab+kunit+gcov
out=$BUILD/coverage
rows=$BUILD/gcov
reasons=$TOP/check/coverage.reasons

# capture OBJ DATA INFO: what lcov makes of the counters below DATA, next to
# which are the .gcno files, whose names are relative to the build directory OBJ.
rc=(--rc lcov_branch_coverage=1)
capture() (
	cd "$1" && lcov -q "${rc[@]}" -c -d "$2" -b "$1" -o "$3"
)

# The core by KUnit alone.
kunit_report() {
	local obj=$LINUX/o-kunit-gcov data=$out/kunit
	local -a rc=("${rc[@]}" --rc "lcov_excl_line=$excluded")

	cp "$obj/$core.gcno" "$data" &&
	capture "$obj" "$data" "$out/all.info" &&
	lcov -q "${rc[@]}" -e "$out/all.info" "*/$core.c" -o "$out/core.info" &&
	genhtml -q --branch-coverage "${rc[@]}" -p "$LINUX" -t "$core.c by KUnit" \
		-o "$out/html" "$out/core.info"
}

# What needs vendor code is out of KUnit's reach, and for the other table: how the facts
# about L2 are found, and the walk of L1's page tables.
kunit_table() {
	awk -F '[:,]' -v beyond='^kvm_hv_nested_relay_(decide|walk)$' -v source="$LINUX/$core.c" -v excluded="$excluded" '
		function row(what, hit, all) {
			printf "%-10s %5d of %5d  %5.1f %%\n", what, hit, all, all ? 100 * hit / all : 0
		}
		BEGIN {
			while ((getline text < source) > 0) {
				line[++n] = text
				if (text ~ /^[a-zA-Z]/ && match(text, /kvm_hv_nested_[a-z0-9_]+\(/))
					name = substr(text, RSTART, RLENGTH - 1)
				in_function[n] = name
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
				if (i in missed) {
					printf "line %d, never executed: %s\n", i, line[i]
					bad += in_function[i] !~ beyond
				}
				if (i in branch)
					printf "line %d, %d branches never taken: %s\n", i, branch[i], line[i]
			}
			exit lines == 0 || bad
		}' "$out/core.info"
}

# row_data DIR: the files that the step gcov of a boot has reported, below DIR/data as
# in the build directory, each with its .gcno file.
row_data() {
	local dir=$1 obj=$LINUX/o-$config file

	step_output "$dir" gcov | perl -e '
		use File::Basename; use File::Path;
		my ($dir, $prefix) = @ARGV;
		my ($file, $data);
		while (<STDIN>) {
			if (s/^@\Q$prefix\E//) { ($file, $data) = (s/\s+$//r, "") }
			elsif (/^\*(\d+)\r?$/) { $data .= "\0" x $1 }
			elsif (/^([0-9a-f]+)\r?$/) { $data .= pack "H*", $1 }
			elsif (/^=(\d+)\r?$/) {
				die "$file has not arrived whole\n" if length $data != $1;
				mkpath(dirname("$dir/$file"));
				open my $out, ">", "$dir/$file" or die "$dir/$file: $!\n";
				print $out $data;
				close $out;
				$file = undef;
			}
		}
		die "the last file has not arrived whole\n" if defined $file;
	' "$dir/data" "/sys/kernel/debug/gcov$obj/" 2> "$dir/gcov.errors" ||
		die "$(< "$dir/gcov.errors")" "see ${dir#"$TOP"/}/results.ktap"
	while read -r file; do
		ln -sf "$obj/${file%.gcda}.gcno" "$dir/data/${file%.gcda}.gcno"
	done < <(cd "$dir/data" && find . -name '*.gcda')
}

# Lines that the series adds, as "FILE LINE".  All lines of the core.
added_lines() {
	git -C "$LINUX" diff -U0 --no-renames --diff-filter=M base -- '*.[ch]' ':!lib/kunit' ':!tools' |
		awk '
			/^\+\+\+ b\// { file = substr($2, 3) }
			/^@@ / {
				split(substr($3, 2), range, ",")
				count = range[2] == "" ? 1 : range[2]
				for (i = 0; i < count; i++)
					print file, range[1] + i
			}'
	awk '{ print FILENAME, FNR }' "$core.c" "$core.h"
}

# Lines of FILE that the preprocessor drops in this configuration, "FILE LINE".
# Knows the conditions that are usual in KVM; others count as true.
dropped_lines() {
	awk '
		FNR == NR {
			if (/^CONFIG_[A-Z0-9_]+=[ym]$/)
				set[substr($0, 1, index($0, "=") - 1)]
			next
		}
		FNR == 1 { depth = 0; off[0] = 0 }
		/^#[ \t]*if/ {
			on = 1
			if (match($0, /CONFIG_[A-Z0-9_]+/) && $0 !~ /[&|]/) {
				on = substr($0, RSTART, RLENGTH) in set
				if ($1 == "#ifndef" || /![ \t]*(IS_ENABLED|defined)/)
					on = !on
			}
			outer = off[depth++]
			off[depth] = outer || !on
			taken[depth] = on
			next
		}
		/^#[ \t]*el/ { off[depth] = off[depth - 1] || taken[depth]; next }
		/^#[ \t]*endif/ { depth--; next }
		off[depth] { print FILENAME, FNR }' "$LINUX/o-$config/.config" "$@"
}

# The reasons as "FILE<tab>REGEX<tab>REASON", a line each.
read_reasons() {
	awk '
		function flush() {
			if (entry != "" && why == "")
				bad("no reason is given for " entry)
			if (entry != "")
				print entry "\t" why
			entry = why = ""
		}
		function bad(what) {
			print what > "/dev/stderr"
			failed = 1
			exit 1
		}
		/^(#|$)/ { next }
		/^[ \t]/ {
			sub(/^[ \t]+/, "")
			why = why (why == "" ? "" : " ") $0
			next
		}
		{
			flush()
			if (NF < 2)
				bad("a file without a pattern: " $0)
			file = $1
			sub(/^[^ \t]+[ \t]+/, "")
			entry = file "\t" $0
		}
		END { if (!failed) flush() }' "$reasons"
}

union_table() {
	awk -v top="$LINUX/" '
		function percent(hit, all) {
			return all ? sprintf("%d of %d", hit, all) : "-"
		}
		function applies(vendor, file) {
			return !(file ~ /\/svm\// && vendor == "intel" || file ~ /\/vmx\// && vendor == "amd")
		}
		# A missed line: say so, with its reason.
		function miss(file, n, who,  i, why) {
			for (i = 1; i <= nreasons; i++)
				if (why == "" && reason_file[i] == file && text[file, n] ~ reason_regex[i]) {
					why = reason_why[i]
					used[i] = 1
				}
			sub(/^[ \t]+/, "", text[file, n])
			missed[++nmissed] = file ":" n ", never executed " who ": " text[file, n] "\n    " \
				(why == "" ? "NO REASON GIVEN" : "reason: " why)
			if (why == "")
				bad++
		}
		what == "reasons" {
			split($0, field, "\t")
			reason_file[++nreasons] = field[1]
			reason_regex[nreasons] = field[2]
			reason_why[nreasons] = field[3]
			next
		}
		what == "added" {
			if (!($1 in lines))
				files[++nfiles] = $1
			line[$1, ++lines[$1]] = $2
			next
		}
		what == "dropped" { dropped[$1, $2]; next }
		/^SF:/ {
			file = substr($0, 4)
			gsub(/[^\/]+\/\.\.\//, "", file)
			if (index(file, top) == 1)
				file = substr(file, length(top) + 1)
			vendor = FILENAME
			sub(/.*\//, "", vendor)
			sub(/\.info$/, "", vendor)
			next
		}
		/^DA:/ {
			split(substr($0, 4), da, ",")
			code[file, da[1]]
			counted[file]
			count[vendor, file, da[1]] += da[2]
		}
		END {
			printf "%-36s %5s %7s %5s  %-10s %-10s %-10s\n", "lines of the series", "added", \
				"dropped", "code", "amd", "intel", "both"
			for (f = 1; f <= nfiles; f++) {
				file = files[f]
				while ((getline l < (top file)) > 0)
					text[file, ++length_of[file]] = l
				all = drop = hit["amd"] = hit["intel"] = hit["both"] = 0
				for (i = 1; i <= lines[file]; i++) {
					n = line[file, i]
					drop += (file, n) in dropped
					if (!((file, n) in code))
						continue
					all++
					good = 0
					who = ""
					for (v = 1; v <= 2; v++) {
						vendor = v == 1 ? "amd" : "intel"
						if (count[vendor, file, n] > 0) {
							hit[vendor]++
							good = 1
						} else if (applies(vendor, file)) {
							who = who == "" ? vendor : "amd or intel"
						}
					}
					hit["both"] += good
					if (who != "")
						miss(file, n, "on " who)
				}
				if (file ~ /^arch\/x86\/kvm\/.*\.c$/ && !(file in counted) &&
				    drop < lines[file]) {
					print file ": no counters: add the object to scripts/configs/gcov.config"
					bad++
				}
				printf "%-36s %5d %7d %5d  %-10s %-10s %-10s\n", file, lines[file], drop, all, \
					applies("amd", file) ? percent(hit["amd"], all) : "-", \
					applies("intel", file) ? percent(hit["intel"], all) : "-", percent(hit["both"], all)
				sum_lines += lines[file]
				sum_drop += drop
				sum_all += all
				sum_hit += hit["both"]
				for (v = 1; v <= 2; v++) {
					vendor = v == 1 ? "amd" : "intel"
					if (applies(vendor, file)) {
						sum[vendor] += hit[vendor]
						sum_of[vendor] += all
					}
				}
			}
			printf "%-36s %5d %7d %5d  %-10s %-10s %-10s\n\n", "sum", sum_lines, sum_drop, sum_all, \
				percent(sum["amd"], sum_of["amd"]), percent(sum["intel"], sum_of["intel"]), \
				percent(sum_hit, sum_all)
			for (i = 1; i <= nmissed; i++)
				print missed[i]
			for (i = 1; i <= nreasons; i++)
				if (!used[i]) {
					print "check/coverage.reasons: no line that is never executed matches " \
						reason_file[i] " " reason_regex[i]
					bad++
				}
			exit bad || !sum_all
		}' what=reasons "$out/reasons" what=added "$out/added" what=dropped "$out/dropped" \
		what=counts "$out"/vendor/*.info
}

# check TABLE: a table that shows no gap counts as a test that has passed.
check() {
	if "$1" > "$out/$1"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
	cat "$out/$1"
}

check_documented() {
	documented --check
}

# The files of the table that have code, for check/README.md.
documented() {
	"$TOP/scripts/block.sh" "$@" "$TOP/check/README.md" "lines of the series" < <(
		awk '/^sum / { exit } NR == 1 || !/ 0  (-|0 of 0) / { sub(/ +$/, ""); print "    " $0 }' "$out/union_table"
	)
}

# What an interrupted run left must not pass for a result.
rm -rf "$out" "$rows"
mkdir -p "$out/kunit" "$out/vendor"
read_reasons > "$out/reasons" 2> "$out/errors" ||
	die "check/coverage.reasons: $(< "$out/errors")" "see the head of that file"

"$TOP/lab/kunit.sh" --out "$out" --gcda "$out/kunit/hyperv_nested_relay.gcda" > "$out/tests.log" ||
	die "the KUnit tests fail" "see $out/tests.log"
logged "$out/lcov.log" kunit_report || die "lcov failed" "see $out/lcov.log"
say "$core.c by KUnit:"
passed=0 failed=0
check kunit_table
say "report: ${out#"$TOP"/}/html/index.html"
echo

"$TOP/lab/run-plan.sh" gcov "${args[0]:-*}" > "$out/rows.log" || {
	sed -n '/^job  /,$p' "$out/rows.log"
	[[ -f $rows/results.ktap ]] || die "the tests could not run" "see $out/rows.log"
}
cd "$LINUX"
while read -r verdicts; do
	dir=$(dirname "$verdicts")
	vendor=$(sed -n 's/^# vendor .*: \(Authentic\|Genuine\)\([A-Z][a-zA-Z]*\)$/\2/p' "$dir/results.ktap")
	row_data "$dir"
	logged "$dir/lcov.log" capture "$LINUX/o-$config" "$dir/data" "$dir/all.info" ||
		die "lcov failed" "see $dir/lcov.log"
	cat "$dir/all.info" >> "$out/vendor/${vendor,,}.info"
done < <(find "$rows" -name verdicts | sort)
added_lines > "$out/added"
mapfile -t files < <(awk '!seen[$1]++ { print $1 }' "$out/added")
dropped_lines "${files[@]}" > "$out/dropped"
check union_table
if [[ $BASE != "$MAIN" ]]; then
	say "SKIP  the table in check/README.md, which is that of $MAIN"
	undocumented=1
elif [[ ${UPDATE-} ]]; then
	documented
else
	check check_documented
fi
read -r more_passed more_failed skipped <<< "$(counted "$out/rows.log")"
passed=$((passed + more_passed)) failed=$((failed + more_failed))
counts "$passed" "$failed" "$((${skipped:-0} + ${undocumented:-0}))"
((!failed))
