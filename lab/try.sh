#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# One test on one emulated host, its output as it comes.

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
# shellcheck source=lab/results.sh
. "$TOP/lab/results.sh"

usage() {
	cat <<-EOT
		usage: HOST=HOST TEST=NAME [CASE=GLOB] lab/try.sh

		Builds what has changed of the lab's kernel and of one KVM selftest, boots an emulated
		host, and runs it there. Prints what the test prints; logs and results are in
		build/$BASE/try.

		Environment:
		  HOST=NAME    a file of lab/hosts/
		  TEST=NAME    a KVM selftest, without its directory
		  CASE=GLOB    only these cases, by their whole names as in the test's output, e.g.
		               'relay.*crossing*'; for tests that have cases [all of them]
		  CONFIG=NAME  kernel configuration, see make kernel [lab]
		  BASE=X.Y     base kernel [7.3]

		Exit status: 0 if the test passed, 1 otherwise.
	EOT
}

list_tests() {
	(cd "$LINUX/tools/testing/selftests/kvm" && find . -name '*.c' -path '*/x86*' ! -path './lib/*' -printf '%f\n' |
		sed 's/\.c$//' | sort | paste -sd ' ')
}

# The names of all cases, as kselftest_harness.h makes them, by the symbols that it makes
# of them: the program itself lists them only where it could run.
list_cases() {
	nm "$1" | awk '
		{ name = $3 }
		sub(/^_/, "", name) && sub(/_fixture_object$/, "", name) { fixtures[name] }
		/ _.*_variant$/ { variants[substr($3, 2, length($3) - 9)] }
		/ wrapper_/ { tests[substr($3, 9)] }
		function fixture_of(name,    f, best) {
			for (f in fixtures)
				if (index(name, f "_") == 1 && length(f) > length(best))
					best = f
			return best
		}
		END {
			for (t in tests) {
				if (t ~ /_teardown$/ && substr(t, 1, length(t) - 9) in tests)
					continue
				if (!(t "_teardown" in tests)) {
					print "global." t
					continue
				}
				f = fixture_of(t)
				rest = substr(t, length(f) + 2)
				n = 0
				for (v in variants)
					if (fixture_of(v) == f) {
						print f "." substr(v, length(f) + 2) "." rest
						n++
					}
				if (!n)
					print f "." rest
			}
		}' | sort
}

options 0 "" "$@"
host=${HOST-} test=${TEST-} glob=${CASE-} config=$(full_config "${CONFIG:-lab}")
need nm flock
load_base
[[ -n $host && -f $TOP/lab/hosts/$host.sh ]] || die "no host '$host'" "HOST= takes one of: $(list_hosts)"
[[ $test =~ ^[A-Za-z0-9_]+$ && " $(list_tests) " == *" $test "* ]] ||
	die "no KVM selftest '$test'" "TEST= takes one of: $(list_tests)"

"$TOP/scripts/kernel.sh" --source series --config "$config"
"$TOP/scripts/selftests.sh" "$test"

cases=()
if [[ $glob ]]; then
	known=$(list_cases "$(find "$LINUX/o-selftests/kvm" -name "$test" -type f -perm -u+x | sed -n 1p)")
	while read -r name; do
		# shellcheck disable=SC2053
		[[ $name != $glob ]] || cases+=(-r "$name")
	done <<<"$known"
	((${#cases[@]})) || die "no case of $test matches '$glob'" "CASE= takes a glob for some of: ${known//$'\n'/ }"
fi

out=$BUILD/try
mkdir -p "$out"
exec 8>"$out/.lock"
flock -n 8 || die "another make try is running" "wait for it to end"
rm -f "$out/result.log" "$out/results.ktap"
: >"$out/result.log"
# As many arguments as lab/init.c takes.
((${#cases[@]} <= 500)) ||
	die "$((${#cases[@]} / 2)) cases of $test match '$glob', at most 250 can be run" "narrow it down"

set -m
"$TOP/lab/boot.sh" --host "$host" --kernel "$BUILD/lab/series-$config/bzImage" --out "$out" \
	--tests "$test" --test-args "${cases[*]}" --test-timeout 600 >"$out/boot.log" 2>&1 8>&- </dev/null &
boot=$!
set +m
trap 'kill -TERM -- "-$boot" 2>/dev/null || true; exit 1' INT TERM
tail -n +1 -f --pid="$boot" "$out/result.log" 2>/dev/null | sed -un 's/^o [^ ]* //p' || true
status=0
wait "$boot" || status=$?
sed -n '/^boot of/p' "$out/boot.log"
grep -E '^(not )?ok ' "$out/results.ktap" 2>/dev/null || sed -n '$p' "$out/boot.log"
exit "$status"
