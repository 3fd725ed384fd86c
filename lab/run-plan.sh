#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Run rows of lab/plan, two boots at a time, and sum up.

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

usage() {
	cat <<-EOF
		usage: lab/run-plan.sh GROUP [ROW-GLOB]

		Boots the rows of lab/plan that are in GROUP (and whose name matches ROW-GLOB):
		  test    everything, on the lab's kernel
		  quick   the relay's own tests on one host of each vendor, and the harness
		  debug   the same tests on a kernel with KASAN, lockdep and the like
		  i386    the KUnit tests on a 32-bit kernel
		  gcov    the relay's tests, counting what they execute: for make coverage
		  run     the demo: shows what the relay does on each host
		  fuzz    the fuzzer, for some time on one host of each vendor
		  e2e     a VMM as it is, with Linux as nested root: shows what became of its calls

		Builds the kernels and test programs the rows need. The results of a row are in
		build/$BASE/GROUP/NAME/, those of all rows in build/$BASE/GROUP/results.ktap.

		Environment:
		  HOST=GLOB    only rows with a matching host, e.g. HOST=amd
		  TEST=GLOB    only matching tests, e.g. TEST='hyperv_*'
		  JOBS=N       boots at a time [2]
		  SEED=N       of the fuzzer, a number [a random one]
		  FUZZ_SECONDS=N  how long it runs, by the clock of the emulated host [60]
		  BASE=X.Y     base kernel [7.3]
		  CONFIG=NAME  for the group test: take the group NAME instead, debug or i386

		Exit status: 0 if something ran and nothing failed, 1 otherwise.
	EOF
}

# What the rows of the group have in a column and those behind it, if it is the last one.
column() {
	awk -v group="$group" -v first="$1" '
		!/^#/ && NF && "," $8 "," ~ "," group "," {
			for (i = first; i <= (first == 9 ? NF : first); i++)
				if (!seen[$i]++)
					print $i
		}' "$TOP/lab/plan" | sort | paste -sd ' '
}

# Fill the arrays of columns, indexed by row name, and rows[] with those wanted.
read_plan() {
	local line=0 name rest test wanted chosen

	while read -r name rest; do
		line=$((line + 1))
		case $name in
		'' | '#'*) continue ;;
		esac
		[ -z "${host[$name]:-}" ] || die "lab/plan:$line: there is a row '$name' already" "give it another name"
		read -r "host[$name]" "source[$name]" "config[$name]" "smp[$name]" "append[$name]" \
			"expect[$name]" "groups[$name]" "tests[$name]" <<<"$rest"
		[ -n "${tests[$name]}" ] || die "lab/plan:$line: a column is missing" "see the top of that file"
		case ${expect[$name]} in
		pass | skip | selfcheck | kunit | roundtrip | preload | e2e) ;;
		same:*) [ -n "${host[${expect[$name]#same:}]:-}" ] ||
			die "lab/plan:$line: there is no row '${expect[$name]#same:}' above" "name an earlier row" ;;
		*) die "lab/plan:$line: '${expect[$name]}' is not an expectation" "see the top of that file" ;;
		esac

		wanted='' left_out[$name]=''
		for test in ${tests[$name]}; do
			# shellcheck disable=SC2053
			[[ $test == ${TEST:-*} ]] || continue
			if is_left_out "${host[$name]}" "$test"; then
				left_out[$name]+=" $test"
			else
				wanted+=" $test"
			fi
		done
		tests[$name]=${wanted# }
		# shellcheck disable=SC2053
		if [[ -n $wanted && ",${groups[$name]}," == *",$group,"* && $name == $row_glob &&
			${host[$name]} == ${HOST:-*} ]]; then
			case ${expect[$name]} in
			same:*)
				chosen=${expect[$name]#same:}
				[[ " ${rows[*]} " == *" $chosen "* ]] || rows+=("$chosen")
				;;
			esac
			rows+=("$name")
		fi
	done <"$TOP/lab/plan"
	[ ${#rows[@]} -gt 0 ] || die "no row of lab/plan is in group '$group' and matches HOST='${HOST:-*}' TEST='${TEST:-*}' '$row_glob'" \
		"the group has the hosts: $(column 2), and the tests: $(column 9)"
}

build_what_rows_need() {
	local name kernels='' programs='' l2='' args

	for name in "${rows[@]}"; do
		case ${expect[$name]} in
		roundtrip | preload) continue ;;
		esac
		if [ "${expect[$name]}" = kunit ] && [ "${config[$name]}" = kunit ]; then
			"$TOP/lab/kunit.sh" --build
			continue
		fi
		kernels+="--source ${source[$name]} --config ${config[$name]}"$'\n'
		case ${expect[$name]} in
		e2e) l2=yes ;;
		selfcheck | kunit) ;;
		*) programs+=" ${tests[$name]}" ;;
		esac
	done
	while read -ra args; do
		[ ${#args[@]} -eq 0 ] || "$TOP/scripts/kernel.sh" "${args[@]}" </dev/null
	done < <(sort -u <<<"${kernels%$'\n'}")
	[ -z "$l2" ] || build_l2_kernel
	programs=$(tr ' ' '\n' <<<"$programs" | sed '/^kunit:/d' | sort -u | xargs)
	if [ -n "$programs" ]; then
		TESTS=$programs "$TOP/scripts/selftests.sh"
	fi
}

# The demo runs its programs with --demo, between two looks at the relay's tracepoint.
make_demo_manifest() {
	local test

	echo "write /sys/kernel/tracing/events/kvm/kvm_hv_nested_relay/enable 1"
	for test in $1; do
		echo "test 120 $test $test --demo"
	done
	echo "cat /sys/kernel/tracing/trace"
}

make_fuzz_manifest() {
	local test

	for test in $1; do
		echo "test $((fuzz_seconds + 120)) $test $test -s $seed -t $fuzz_seconds"
	done
}

# How many times as long as the lab's own kernel one of this configuration may take: the
# product of what its fragments say.
slowdown() {
	local fragment product=1 factor

	for fragment in ${1//+/ }; do
		while read -r factor; do
			product=$((product * factor))
		done < <(sed -n 's/^#slowdown \([1-9][0-9]*\)$/\1/p' "$TOP/scripts/configs/$fragment.config")
	done
	echo "$product"
}

# After the tests, the counters of every object that the kernel counts in.
make_gcov_manifest() {
	local test tracing=off

	# Off and on: with the tracepoint on, a VM without the relay has its decisions taken, too.
	for test in $1; do
		case $test in
		kunit:*)
			echo "cat /sys/kernel/debug/kunit/${test#kunit:}/results"
			continue
			;;
		esac
		echo "test $((240 * $(slowdown "$2"))) $test $test"
		[ "$tracing" = on ] || echo "write /sys/kernel/tracing/events/kvm/kvm_hv_nested_relay/enable 1"
		tracing=on
	done
	sed -n "s,^#make GCOV_PROFILE_\(.*\)\.o=y$,hex /sys/kernel/debug/gcov$LINUX/o-$2/arch/x86/kvm/\1.gcda,p" \
		"$TOP/scripts/configs/gcov.config"
}

boot_row() {
	local name=$1 dir=$out/$1 kernel=$BUILD/lab/${source[$1]}-${config[$1]}/bzImage args

	if [ "${expect[$name]}" = kunit ]; then
		args=(--out "$dir" --name "$name")
		[ "${config[$name]}" = kunit ] || args+=(--kernel "$kernel")
		"$TOP/lab/kunit.sh" "${args[@]}"
		return
	fi
	if [ "${expect[$name]}" = preload ]; then
		"$TOP/preload/test/run.sh" --out "$dir" --name "$name"
		return
	fi
	if [ "${expect[$name]}" = e2e ]; then
		"$TOP/e2e/run.sh" --host "${host[$name]}" --name "$name" --out "$dir" --kernel "$kernel" \
			--l2-kernel "$L2_KERNEL" --scenarios "${tests[$name]}"
		return
	fi
	args=(--host "${host[$name]}" --name "$name" --out "$dir" --kernel "$kernel"
		--slowdown "$(slowdown "${config[$name]}")")
	if [ "${expect[$name]}" = selfcheck ]; then
		"$TOP/lab/selfcheck.sh" "${args[@]}" --set "${tests[$name]}"
		return
	fi
	if [ "${expect[$name]}" = roundtrip ]; then
		"$TOP/check/roundtrip.sh" --out "$dir" --name "$name"
		return
	fi
	args+=(--smp "${smp[$name]}")
	[ "${append[$name]}" = - ] || args+=(--append "${append[$name]//,/ }")
	case ${expect[$name]} in
	skip) args+=(--expect skip) ;;
	*) args+=(--expect pass) ;;
	esac
	case $group in
	run) make_demo_manifest "${tests[$name]}" >"$dir/manifest" ;;
	gcov) make_gcov_manifest "${tests[$name]}" "${config[$name]}" >"$dir/manifest" ;;
	fuzz)
		make_fuzz_manifest "${tests[$name]}" >"$dir/manifest"
		args+=(--timeout $((fuzz_seconds * 6 + 600)))
		;;
	esac
	if [ -f "$dir/manifest" ]; then
		args+=(--manifest "$dir/manifest")
	else
		args+=(--tests "${tests[$name]}")
	fi
	"$TOP/lab/boot.sh" "${args[@]}"
}

# Counts of a KTAP file by the kernel's own parser: "passed failed skipped". It counts the
# innermost cases. What it cannot parse is a failure.
count() {
	PYTHONDONTWRITEBYTECODE=1 python3 "$kunit" parse "$1" </dev/null 2>&1 | awk '
		/Testing complete/ {
			for (i = 1; i < NF; i++)
				n[$i] = $(i + 1) + 0
			parsed = 1
		}
		END {
			failed = n["failed:"] + n["crashed:"] + n["errors:"] + !parsed
			print n["passed:"] + 0, failed, n["skipped:"] + 0
		}'
}

# A row whose boot could not even be tried fails with all its tests.
note_unstarted() {
	local name=$1 why test number=1

	why=$(tail -n 1 "$out/$name/boot.log" | tr -d '#')
	{
		echo "KTAP version 1"
		echo "not ok 1 $name boot: no splat # not started: $why"
		for test in ${tests[$name]}; do
			echo "not ok $((++number)) $name/$test # never reached: $why"
		done
	} >"$out/$name/results.ktap"
}

run_row() {
	local name=$1 start=$SECONDS

	rm -rf "${out:?}/$name"
	mkdir -p "$out/$name"
	boot_row "$name" >"$out/$name/boot.log" 2>&1 || true
	[ -s "$out/$name/results.ktap" ] || note_unstarted "$name"
	read -r passed failed skipped <<<"$(count "$out/$name/results.ktap")"
	printf '%-26s %-10s %-9s %6s  %s\n' "$name" "${host[$name]}" "${source[$name]}" \
		"$((SECONDS - start)) s" "$(counts "$passed" "$failed" "$skipped")" >"$out/$name/line"
	say "done: $name"
}

counts() {
	if [ "$3" -eq 0 ]; then
		echo "$1 passed, $2 failed"
	else
		echo "$1 passed, $2 failed, $3 skipped"
	fi
}

# Each row is a process group of its own, so that an interrupted run takes its emulators along.
run_rows() {
	local name

	set -m
	trap stop_rows INT TERM
	for name in "${rows[@]}"; do
		while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
			wait -n || true
		done
		run_row "$name" 8>&- </dev/null &
	done
	wait
	trap - INT TERM
	set +m
}

stop_rows() {
	local pid

	for pid in $(jobs -p); do
		kill -TERM -- "-$pid" 2>/dev/null || true
	done
	die "interrupted" "what is done is in ${out#"$TOP"/}"
}

# One result per test: its verdict is the one it had in the row named by same:ROW.
compare_row() {
	local name=$1 test now before

	for test in ${tests[$name]}; do
		now=$(verdict "$name" "$test")
		before=$(verdict "${expect[$name]#same:}" "$test")
		if [ "$now" = "$before" ] && [ "$now" != none ]; then
			echo "ok 0 ${name%/*}/$test same verdict as on the ${source[${expect[$name]#same:}]} base ($now)"
		else
			echo "not ok 0 ${name%/*}/$test same verdict as on the ${source[${expect[$name]#same:}]} base # $now, but there $before"
		fi
	done
}

verdict() {
	awk -F '\t' -v test="$2" '
		$1 == test { verdict = $2 }
		END { print verdict == "" ? "none" : verdict }' "$out/$1/verdicts" /dev/null 2>/dev/null || echo none
}

# What the results are of, for the cover letter of "make series": all or some of the rows, and
# the tree, if there are no edits on top of it.
what_is_tested() {
	local part=some tree=edited

	[ "$row_glob:${HOST:-*}:${TEST:-*}" != '*:*:*' ] || part=all
	! git -C "$LINUX" diff --quiet HEAD || tree=$(git -C "$LINUX" rev-parse 'HEAD^{tree}')
	echo "$part $tree"
}

# All results as one KTAP document: number the top level anew. What a row runs on other bases
# only counts as skipped.
merge() {
	local name test

	for name in "${rows[@]}"; do
		grep -vE '^(KTAP version|1\.\.[0-9])' "$out/$name/results.ktap"
		for test in ${left_out[$name]}; do
			echo "ok 0 $name/$test # SKIP not on $BASE, see series/$BASE/base"
		done
		case ${expect[$name]} in
		same:*) compare_row "$name" ;;
		esac
	done | awk '
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

# Every failed case with its reason, then the skipped ones, those of a program with the same
# reason together.
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

sum_up() {
	local passed failed skipped name

	merge >"$out/results.ktap"
	printf '\n%-26s %-10s %-9s %6s\n' boot host kernel time
	for name in "${rows[@]}"; do
		cat "$out/$name/line"
	done
	echo
	list_bad "$out/results.ktap"
	for name in "${rows[@]}"; do
		[ ! -f "$out/$name/retried" ] || sed "s|^|RETRY $name: |" "$out/$name/retried"
	done
	echo "full results: ${out#"$TOP"/}/results.ktap"
	read -r passed failed skipped <<<"$(count "$out/results.ktap")"
	{
		echo "$tested"
		counts "$passed" "$failed" "$skipped"
		for name in "${rows[@]}"; do
			cat "$out/$name/line"
		done
	} >"$out/tested"
	counts "$passed" "$failed" "$skipped"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

# What one step of a boot printed, by the name of the step.
step_output() {
	awk -v step="$2" '$1 == "o" && $2 == step { sub(/^o [0-9]+ /, ""); print }' "$out/$1/result.log"
}

show_row() {
	local name=$1 steps lines trace

	steps=$(($(wc -w <<<"${tests[$name]}") + 2))
	lines=$(seq 2 $((steps - 1)) | while read -r step; do step_output "$name" "$step"; done | sed -n 's/^demo: //p')
	trace=$(step_output "$name" "$steps" | sed -e '/^#/d' -e 's/^ *//')

	echo
	# shellcheck source=lab/hosts/amd.sh
	(. "$TOP/lab/hosts/${host[$name]}.sh" && echo "=== $HOST_TITLE ===")
	echo "${lines:-(the demo printed nothing)}"
	echo
	echo "tracepoint kvm_hv_nested_relay:"
	sed -n "1,${max_events}p" <<<"${trace:-(no event)}"
	if [ "$(wc -l <<<"$trace")" -gt "$max_events" ]; then
		echo "(more in ${out#"$TOP"/}/$name/result.log)"
	fi
	if [ -z "$lines" ] || [ -z "$trace" ] || grep -q '^ *not ok' "$out/$name/results.ktap"; then
		list_bad "$out/$name/results.ktap"
		return 1
	fi
}

# The fuzzer's figures, or how to replay what it found.
show_fuzz() {
	local name

	for name in "${rows[@]}"; do
		step_output "$name" 1 | sed -n -e 's/^# \(.* calls in .*\)/\1/p' \
			-e '/^# FAILED/,/^\(not \)*ok /s/^# \(.*\)/\1/p' | sed "s,^,$name: ,"
	done
}

# Two scenarios side by side, each of a row's in turn: who got the calls.
show_e2e() {
	local name step list left right

	for name in "${rows[@]}"; do
		echo
		# shellcheck source=lab/hosts/amd.sh
		(. "$TOP/lab/hosts/${host[$name]}.sh" && echo "=== $HOST_TITLE ===")
		read -ra list <<<"${tests[$name]}"
		for ((step = 1; step <= ${#list[@]}; step += 2)); do
			left=$(step_output "$name" "$step" | flow)
			right=$(step_output "$name" $((step + 1)) | flow)
			paste -d '\t' <(echo "$left") <(echo "$right") |
				awk -F '\t' '
					{ left[NR] = $1; right[NR] = $2 }
					length($1) > width { width = length($1) }
					END {
						for (i = 1; i <= NR; i++) {
							line = sprintf("%-*s%s", width + 3, left[i], right[i])
							sub(/ +$/, "", line)
							print line
						}
					}'
			echo
		done
	done
}

flow() {
	sed -n 's/^flow| //p'
}

show_rows() {
	local name bad=0

	for name in "${rows[@]}"; do
		show_row "$name" || bad=1
	done
	return "$bad"
}

case ${1:-} in
--help | -h)
	usage
	exit 0
	;;
test)
	case ${CONFIG:-lab} in
	lab) ;;
	debug | i386) set -- "$CONFIG" "${2:-*}" ;;
	*) die "no tests for CONFIG='$CONFIG'" "use CONFIG= one of: lab debug i386" ;;
	esac
	;;
quick | debug | i386 | gcov | run | fuzz | e2e) ;;
*) die "no group '${1:-}'" "give test, quick, debug, i386, gcov, run, fuzz or e2e; see lab/run-plan.sh --help" ;;
esac
group=$1 row_glob=${2:-*} jobs=${JOBS:-2} out=$BUILD/$group max_events=20
kunit=$LINUX/tools/testing/kunit/kunit.py
declare -A host source config smp append expect groups tests left_out
rows=()

seed=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')} fuzz_seconds=${FUZZ_SECONDS:-60}

[[ $jobs =~ ^[1-9][0-9]*$ ]] || die "JOBS='$jobs' is not a positive number" "JOBS is boots at a time"
[[ $fuzz_seconds =~ ^[1-9][0-9]*$ ]] || die "SECONDS='$fuzz_seconds' is not a positive number" "give make fuzz a time"
[[ $seed =~ ^(0x[0-9a-fA-F]+|[0-9]+)$ ]] || die "SEED='$seed' is not a number" "the fuzzer prints its seeds"
need python3 flock
mkdir -p "$out"
exec 8>"$out/.lock"
flock -n 8 || die "another run is using ${out#"$TOP"/}" "wait for it to end"
load_base
read_plan
rm -f "$out/tested"
tested=$(what_is_tested)
build_what_rows_need
[ -f "$kunit" ] || die "build/$BASE/linux has no kunit.py" "run: make tree"
say "${#rows[@]} boots, $jobs at a time"
[ "$group" != fuzz ] || say "seed $seed, $fuzz_seconds s of the hosts' clocks"
run_rows
if [ "$group" = run ]; then
	show_rows
else
	[ "$group" != fuzz ] || show_fuzz
	[ "$group" != e2e ] || show_e2e
	sum_up
fi
