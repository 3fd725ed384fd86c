# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sourced after scripts/lib.sh: what a result is, how one is written, read and
# counted, and how many jobs run at a time; which hosts there are.
#
# A directory of results has
#
#   results.ktap   a KTAP document: a result per test, with its cases below it
#   verdicts       of a boot: a line "TEST<tab>VERDICT" per test, ktap.awk's
#   result.log     of a boot: what lab/init.c reported

list_hosts() {
	(cd "$TOP/lab/hosts" && printf '%s\n' *.sh | sed 's/\.sh$//' | paste -sd ' ')
}

host_title() {
	say "=== $(sed -n 's/.*HOST_TITLE="\(.*\)"/\1/p' "$TOP/lab/hosts/$1.sh") ==="
}

# results_begin FILE PREFIX: the results to come go to FILE, their names begin so.
results_begin() {
	results_file=$1 results_prefix=$2 results_number=0 results_failed=0
	mkdir -p "$(dirname "$1")"
	rm -f "$1"
	: > "$1.new"
}

# result WHAT COMMAND...: a result, of whether the command succeeds.  What it
# prints is in $results_file.log, and in the document if it fails.
result() {
	local what=$1 why log=$results_file.log

	shift
	results_number=$((results_number + 1))
	if "$@" > "$log" 2>&1; then
		echo "ok $results_number $results_prefix: $what"
	else
		results_failed=1
		why=$(tail -n 1 "$log")
		why=${why:-did not hold: $*}
		tail -n 20 "$log" | sed 's/^/# | /'
		echo "not ok $results_number $results_prefix: $what # ${why//#/}"
	fi >> "$results_file.new"
}

# Fails if one of them did.
results_end() {
	{
		echo "KTAP version 1"
		echo "1..$results_number"
		cat "$results_file.new"
	} > "$results_file"
	rm -f "$results_file".{new,log}
	((!results_failed))
}

# Several documents, without their heads, become one: number the top level anew.
merge() {
	grep -hvE '^(KTAP version|1\.\.[0-9])' -- "$@" | awk '
		/^(not )?ok [0-9]+ / {
			sub(/ok [0-9]+/, "ok " ++n)
		}
		{ line[NR] = $0 }
		END {
			print "KTAP version 1\n1.." n + 0
			for (i = 1; i <= NR; i++)
				print line[i]
		}'
}

# What "kunit.py parse" says on stdin, as "PASSED FAILED SKIPPED".  It counts the
# innermost cases.  What it can't parse is a failure.
parsed_counts() {
	awk '
		/Testing complete/ {
			for (i = 1; i < NF; i++)
				n[$i] = $(i + 1) + 0
			parsed = 1
		}
		END {
			failed = n["failed:"] + n["crashed:"] + n["errors:"]
			print n["passed:"] + 0, failed + (!parsed && !failed), n["skipped:"] + 0
		}'
}

# kunit_py ARG...: the kernel's tool, that of the tree under test.
kunit_py() {
	PYTHONDONTWRITEBYTECODE=1 python3 "$LINUX/tools/testing/kunit/kunit.py" "$@" < /dev/null
}

# Counts of a document, by the kernel's own parser.
count() {
	kunit_py parse "$1" 2>&1 | parsed_counts
}

# counts PASSED FAILED SKIPPED: the line that everything ends with.
counts() {
	say "$1 passed, $2 failed$( (($3 == 0)) || echo ", $3 skipped")"
}

# The numbers of the last such line in a file, or nothing.
counted() {
	awk '/^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ { split($0, n, /[^0-9]+/) }
	     END { if (n[1] != "") print n[1], n[2], n[3] + 0 }' "$1"
}

# verdict DIR TEST: what a boot made of it.
verdict() {
	awk -F '\t' -v test="$2" '$1 == test { v = $2 } END { print v == "" ? "none" : v }' \
		"$1/verdicts" /dev/null 2>/dev/null || echo none
}

# same_verdict DIR OTHER TEST NAME WHAT: a result, of whether TEST has the same
# verdict, down to the number of cases, as in another boot.
same_verdict() {
	local now before

	now=$(verdict "$1" "$3")
	before=$(verdict "$2" "$3")
	if [[ $now == "$before" && $now != none ]]; then
		echo "ok 0 $4 same verdict as $5 ($now)"
	else
		echo "not ok 0 $4 same verdict as $5 # $now, but there $before"
	fi
}

# step_output DIR STEP: what a step of a boot printed.
step_output() {
	awk -v step="$2" '$1 == "o" && $2 == step { print substr($0, length(step) + 4) }' "$1/result.log"
}

# failed_cases FILE: their names, without those of the tests they are cases of.
failed_cases() {
	sed -n 's/^ \+not ok [0-9]* \(.*\)/\1/p' "$1" | sed 's/ *#.*//' | sort -u
}

# failed_tests FILE: those of the top level, with their reasons.
failed_tests() {
	sed -n 's/^not ok [0-9]* \(- \)\?//p' "$1" | sort -u
}

# Every failed case with its reason, then the skipped ones, those of a program with
# the same reason together.
list_bad() {
	awk '
		function split_result(line) {
			sub(/^ *(not )?ok [0-9]+ /, "", line)
			name = line
			sub(/ # .*/, "", name)
			why = substr(line, length(name) + 4)
			sub(/^SKIP */, "", why)
			why = why == "" ? "" : " (" why ")"
		}
		/^  # Subtest: / { parent = substr($0, 14) }
		{ nested = /^  / }
		/^ *(not )?ok .* # SKIP/ {
			split_result($0)
			group = (nested ? parent : name) why
			if (!(group in cases))
				groups[++ngroups] = group
			cases[group]++
			line[group] = (nested ? parent ": " : "") name why
			many[group] = parent ": " cases[group] " cases" why
		}
		/^ *not ok / && !/ # (SKIP|XFAIL)/ && (nested || !shown) {
			split_result($0)
			print "FAIL  " (nested ? parent ": " : "") name why
			shown = 1
		}
		/^(not )?ok / { shown = 0 }
		END {
			for (i = 1; i <= ngroups; i++)
				print "SKIP  " (cases[groups[i]] > 1 ? many[groups[i]] : line[groups[i]])
		}' "$1"
}

# pool JOBS FUNCTION ITEM...: call FUNCTION with each ITEM, so many at a time.  Each
# is a process group of its own, so that an interrupted run takes its emulators along.
pool() {
	local jobs=$1 function=$2 item running=0

	shift 2
	set -m
	trap pool_stop INT TERM
	for item; do
		if ((running == jobs)); then
			wait -n || true
			((running -= 1)) || true
		fi
		"$function" "$item" 8>&- < /dev/null &
		((running += 1))
	done
	wait
	trap - INT TERM
	set +m
}

pool_stop() {
	local pid

	for pid in $(jobs -p); do
		kill -TERM -- "-$pid" 2>/dev/null || true
	done
	die "interrupted" "start again"
}
