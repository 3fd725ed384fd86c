#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Run jobs of lab/plan, two at a time, and sum up.

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
# shellcheck source=lab/results.sh
. "$TOP/lab/results.sh"

usage() {
	cat <<-EOT
		usage: lab/run-plan.sh GROUP [JOB-GLOB]

		Runs the jobs of lab/plan that are in GROUP (and whose name matches JOB-GLOB):
		  test    everything, on the lab's kernel
		  quick   the relay's own tests on one host of each vendor, and the harness
		  host    what is for real hosts, on an emulated Intel host, which takes long
		  debug   the same tests on a kernel with KASAN, lockdep and the like
		  kcsan   the relay's selftests on a kernel that looks for data races
		  i386    the KUnit tests on a 32-bit kernel
		  gcov    the relay's tests, counting what they execute: for make coverage
		  run     the demo: shows what the relay does on each host
		  fuzz    the fuzzer, for some time on one host of each vendor
		  e2e     QEMU as it is, and that of vmm/qemu, with Linux as nested root: shows what
		          became of its calls
		  qemu    that of vmm/qemu: the same, moves and resets of the VM, messages that are wrong

		Builds the kernels and test programs that they need. The results of a job are in
		build/$BASE/GROUP/JOB/, those of all jobs in build/$BASE/GROUP/results.ktap.

		Environment:
		  HOST=GLOB    only jobs with a matching host, e.g. HOST=amd
		  TEST=GLOB    only matching tests, e.g. TEST='hyperv_*'
		  JOBS=N       jobs at a time [2]
		  SEED=N       of the fuzzer, a number [a random one]
		  FUZZ_SECONDS=N  how long it runs, by the clock of the emulated host [60]
		  BASE=X.Y     base kernel [7.3]
		  CONFIG=NAME  for the group test: take the group NAME instead, debug, i386 or kcsan

		Exit status: 0 if something ran and nothing failed, 1 otherwise.
	EOT
}

keys='groups runner host kernel smp append tests config expect same args limit timeout prepare show'

# bad_plan WHAT WAY-OUT
bad_plan() {
	die "lab/plan:$line: $1" "$2"
}

# Words of the plan, with the sets in them replaced.
expand() {
	local word

	for word; do
		case $word in
		@*)
			[[ ${sets[$word]+set} ]] || bad_plan "there is no set $word above" "define it: $word = TEST..."
			printf '%s\n' "${sets[$word]}"
			;;
		*) printf '%s\n' "$word" ;;
		esac
	done | paste -sd ' '
}

# Fill plan[], indexed by "JOB KEY", and all[], the names in their order.
read_plan() {
	local key value name=''

	line=0
	while read -r key value; do
		line=$((line + 1))
		case $key in
		'' | '#'*) continue ;;
		'['*']')
			name=${key#[} name=${name%]}
			[[ -z ${plan[$name groups]+set} ]] || bad_plan "there is a job '$name' already" "give it another name"
			plan[$name groups]=
			all+=("$name")
			continue
			;;
		esac
		[[ $value == '='* ]] || bad_plan "'$key $value' is no line of a plan" "see the top of that file"
		value=${value#=} value=${value# }
		case $key in
		@*)
			# shellcheck disable=SC2086 # words
			value=$(expand ${value# })
			sets[$key]=$value
			continue
			;;
		esac
		[[ $name && " $keys " == *" $key "* ]] || bad_plan "there is no key '$key'" "use one of: $keys"
		case $key:$value in
		tests:*)
			# shellcheck disable=SC2086 # words
			value=$(expand $value)
			;;
		expect:pass | expect:skip | expect:fail) ;;
		expect:*) bad_plan "'$value' is not an expectation" "use pass, skip or fail" ;;
		same:*) [[ ${plan[$value groups]+set} ]] || bad_plan "there is no job '$value' above" "name an earlier one" ;;
		limit:* | timeout:*) [[ $value =~ ^[0-9TIME\ +*]+$ ]] || bad_plan "'$value' is no time" "e.g. TIME * 6 + 600" ;;
		esac
		plan[$name $key]=$value
	done <"$TOP/lab/plan"
}

# get JOB KEY [DEFAULT]
get() {
	say "${plan[$1 $2]:-${3-}}"
}

# What the jobs of the group have of a key, for a message.
known() {
	local name

	for name in "${all[@]}"; do
		[[ " ${plan[$name groups]} " != *" $group "* ]] || tr ' ' '\n' <<<"${plan[$name $1]-}"
	done | sed '/^$/d' | sort -u | paste -sd ' '
}

# The tests of a job that match TEST go to tests[], what its base does without to left_out[].
choose_tests() {
	local name=$1 word some='' wanted=''

	left_out[$name]=
	if [[ -z ${plan[$name tests]-} ]]; then
		# shellcheck disable=SC2053
		[[ ${name##*/} != ${TEST:-*} ]] || tests[$name]=${name##*/}
		return
	fi
	for word in ${plan[$name tests]}; do
		case $word in
		trace:* | gcov)
			wanted+=" $word"
			continue
			;;
		esac
		# shellcheck disable=SC2053
		[[ $word == ${TEST:-*} ]] || continue
		if is_left_out "$(get "$name" host none)" "$word"; then
			left_out[$name]+=" $word"
		else
			wanted+=" $word" some=yes
		fi
	done
	[[ ! $some ]] || tests[$name]=${wanted# }
}

# Those that the user wants go to jobs[].
choose_jobs() {
	local name same

	for name in "${all[@]}"; do
		choose_tests "$name"
		# shellcheck disable=SC2053
		[[ " ${plan[$name groups]} " == *" $group "* && $name == $job_glob && ${tests[$name]-} &&
			${plan[$name host]-} == ${HOST:-*} ]] || continue
		same=${plan[$name same]-}
		[[ ! $same || " ${jobs[*]} " == *" $same "* ]] || jobs+=("$same")
		jobs+=("$name")
	done
	((${#jobs[@]})) || die "no job of lab/plan is in group '$group' and matches HOST='${HOST:-*}' TEST='${TEST:-*}' '$job_glob'" \
		"the group has the hosts: $(known host), and the tests: $(known tests)"
}

# Kernels, programs, and what the runners say that they need.
build() {
	local name command programs='' kernels='' prepare='' args

	for name in "${jobs[@]}"; do
		[[ -z ${plan[$name kernel]-} ]] ||
			kernels+="--source ${plan[$name kernel]} --config $(get "$name" config lab)"$'\n'
		[[ -z ${plan[$name prepare]-} ]] || prepare+="${plan[$name prepare]}"$'\n'
		[[ ${plan[$name runner]-} ]] || programs+=" ${tests[$name]}"
	done
	while read -ra args; do
		((!${#args[@]})) || "$TOP/scripts/kernel.sh" "${args[@]}" </dev/null
	done < <(sort -u <<<"${kernels%$'\n'}")
	while read -ra command; do
		((!${#command[@]})) || "$TOP/${command[0]}" "${command[@]:1}" </dev/null
	done < <(sort -u <<<"${prepare%$'\n'}")
	programs=$(tr ' ' '\n' <<<"$programs" | sed '/:/d; /^gcov$/d' | sort -u | xargs)
	# shellcheck disable=SC2086 # words
	[[ ! $programs ]] || "$TOP/scripts/selftests.sh" $programs
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
	say "$product"
}

# The runner and its options.
run_job() {
	local name=$1 config slow key value command

	config=$(get "$name" config lab) slow=1
	command=("$TOP/$(get "$name" runner lab/boot.sh)" --name "$name" --out "$out/$name")
	if [[ ${plan[$name kernel]-} ]]; then
		slow=$(slowdown "$config")
		command+=(--kernel "$BUILD/lab/${plan[$name kernel]}-$config/bzImage")
		((slow == 1)) || command+=(--slowdown "$slow")
	fi
	for key in host smp append; do
		[[ -z ${plan[$name $key]-} ]] || command+=("--$key" "${plan[$name $key]}")
	done
	[[ -z ${plan[$name tests]-} ]] || command+=(--tests "${tests[$name]}")
	[[ ${plan[$name runner]-} ]] || command+=(--expect "$(get "$name" expect pass)")
	value=${plan[$name args]-} value=${value//\$SEED/$SEED} value=${value//\$TIME/$TIME}
	[[ ! $value ]] || command+=(--test-args "$value")
	[[ -z ${plan[$name limit]-} ]] || command+=(--test-timeout $(((${plan[$name limit]}) * slow)))
	[[ -z ${plan[$name timeout]-} ]] || command+=(--timeout $((${plan[$name timeout]})))
	"${command[@]}"
}

# A job that could not even begin fails with all its tests.
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

# What is left of a job: its log, its results, and its line of the summary.
do_job() {
	local name=$1 start=$SECONDS passed failed skipped

	rm -rf "${out:?}/$name"
	mkdir -p "$out/$name"
	run_job "$name" >"$out/$name/boot.log" 2>&1 || true
	[[ -s $out/$name/results.ktap ]] || note_unstarted "$name"
	read -r passed failed skipped <<<"$(count "$out/$name/results.ktap")"
	printf '%-26s %-10s %-9s %6s  %s\n' "$name" "$(get "$name" host none)" "$(get "$name" kernel -)" \
		"$((SECONDS - start)) s" "$(counts "$passed" "$failed" "$skipped")" >"$out/$name/line"
	say "done: $name"
}

# What the results are of, for the cover letter of "make series": all or some of the jobs, and
# the tree, if there are no edits on top of it.
what_is_tested() {
	local part=some tree=edited

	[[ $job_glob:${HOST:-*}:${TEST:-*} != '*:*:*' ]] || part=all
	! git -C "$LINUX" diff --quiet HEAD || tree=$(git -C "$LINUX" rev-parse 'HEAD^{tree}')
	say "$part $tree"
}

# The results that no runner has: what the base does without, and comparisons.
more_results() {
	local name=$1 test same=${plan[$1 same]-}

	for test in ${left_out[$name]}; do
		echo "ok 0 $name/$test # SKIP not on $BASE, see series/$BASE/base"
	done
	[[ $same ]] || return 0
	for test in ${tests[$name]}; do
		same_verdict "$out/$name" "$out/$same" "$test" "${name%/*}/$test" "as on the ${plan[$same kernel]} base"
	done
}

sum_up() {
	local passed failed skipped name parts=()

	for name in "${jobs[@]}"; do
		more_results "$name" >"$out/$name/more.ktap"
		parts+=("$out/$name/results.ktap" "$out/$name/more.ktap")
	done
	merge "${parts[@]}" >"$out/results.ktap"
	printf '\n%-26s %-10s %-9s %6s\n' job host kernel time
	for name in "${jobs[@]}"; do
		cat "$out/$name/line"
	done
	echo
	list_bad "$out/results.ktap"
	for name in "${jobs[@]}"; do
		[[ ! -f $out/$name/retried ]] || sed "s|^|RETRY $name: |" "$out/$name/retried"
	done
	say "full results: ${out#"$TOP"/}/results.ktap"
	read -r passed failed skipped <<<"$(count "$out/results.ktap")"
	{
		say "$tested"
		counts "$passed" "$failed" "$skipped"
		for name in "${jobs[@]}"; do
			cat "$out/$name/line"
		done
	} >"$out/tested"
	counts "$passed" "$failed" "$skipped"
	((!failed && passed))
}

# What the jobs have to show, each for itself.
show() {
	local name command bad=0

	for name in "${jobs[@]}"; do
		read -ra command <<<"${plan[$name show]-}"
		((!${#command[@]})) ||
			"$TOP/${command[0]}" "${command[@]:1}" "$out/$name" "${plan[$name host]}" || bad=1
	done
	return "$bad"
}

options 2 "" "$@"
group=${args[0]-} job_glob=${args[1]:-*}
case $group in
test)
	case ${CONFIG:-lab} in
	lab) ;;
	debug | i386 | kcsan) group=$CONFIG ;;
	*) die "no tests for CONFIG='$CONFIG'" "use CONFIG= one of: lab debug i386 kcsan" ;;
	esac
	;;
quick | host | debug | i386 | kcsan | gcov | run | fuzz | e2e | qemu) ;;
*) die "no group '$group'" "give test, quick, host, debug, i386, kcsan, gcov, run, fuzz, e2e or qemu; see lab/run-plan.sh --help" ;;
esac
max=${JOBS:-2} out=$BUILD/$group
declare -A plan sets tests left_out
all=() jobs=()
SEED=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')} TIME=${FUZZ_SECONDS:-60}

[[ $max =~ ^[1-9][0-9]*$ ]] || die "JOBS='$max' is not a positive number" "JOBS is jobs at a time"
[[ $TIME =~ ^[1-9][0-9]*$ ]] || die "SECONDS='$TIME' is not a positive number" "give make fuzz a time"
[[ $SEED =~ ^(0x[0-9a-fA-F]+|[0-9]+)$ ]] || die "SEED='$SEED' is not a number" "the fuzzer prints its seeds"
need python3 flock
mkdir -p "$out"
exec 8>"$out/.lock"
flock -n 8 || die "another run is using ${out#"$TOP"/}" "wait for it to end"
load_base
read_plan
choose_jobs
rm -f "$out/tested"
tested=$(what_is_tested)
build
[ -f "$LINUX/tools/testing/kunit/kunit.py" ] || die "build/$BASE/linux has no kunit.py" "run: make tree"
say "${#jobs[@]} jobs, $max at a time"
[[ $group != fuzz ]] || say "seed $SEED, $TIME s of the hosts' clocks"
pool "$max" do_job "${jobs[@]}"
if [[ $group == run ]]; then
	sum_up >"$out/summary" && show && exit
	sed '1,/^$/d' "$out/summary"
	exit 1
fi
show || true
sum_up
