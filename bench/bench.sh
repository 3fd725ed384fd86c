#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Measure what the relay costs, on one emulated host of each vendor.

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
# shellcheck source=lab/results.sh
. "$TOP/lab/results.sh"

usage() {
	cat <<-EOF
		usage: bench/bench.sh [--check | --update | --profile | --scale]

		Boots the Intel and the AMD host whose TSC counts instructions, each with the kernel of
		the series and with the pristine base, measures in instructions per call and prints a
		table per vendor. Leaves in build/$BASE/bench: table.txt, figures.json, cost.svg.

		  --check   measure in one VM instead of three and compare with bench/reference.json:
		            fail if a figure differs by more than $tolerance %
		  --update  put the figures and the picture of this run into bench/
		  --profile instead, print in which functions a relayed call takes more instructions than
		            one from L1, by tracing one call of each with Bochs' debugger
		  --scale   instead, print what a signal costs that 1, 2, 4 and 8 vCPUs make at once, on the
		            AMD host of QEMU whose clock counts instructions
		  --help    this text

		Environment:
		  HOST=GLOB  only this host, intel or amd-nrips
		  JOBS=N     boots at a time [2]
		  BASE=X.Y   base kernel [7.3]

		Exit status: 0 if all was measured, and with --check is as it was.
	EOF
}

# The host's second is this many instructions: so many that a batch rarely meets a timer's
# interrupt.
ips=2000000000
tolerance=2
reference=$TOP/bench/reference.json

# measure HOST/SOURCE: one boot, all cases.
measure() {
	local host=${1%/*} source=${1#*/} dir=$out/$1 i

	rm -rf "$dir"
	mkdir -p "$dir"
	# Each case marks the call to trace with two breakpoints. There are fewer cases than that.
	if [ -n "$profile" ]; then
		for ((i = 0; i < 100; i++)); do
			printf '%s\n' c 'trace on' c 'trace off'
		done >"$dir/debugger"
	fi
	BOCHS_DEBUGGER=${profile:+$dir/debugger} BOCHS_IPS=$ips "$TOP/lab/boot.sh" --host "$host" \
		--kernel "$BUILD/lab/$source-lab+bench/bzImage" --name "$1" --append quiet \
		--tests "$program" --test-args "$arguments" --test-timeout 600 --expect pass --out "$dir" >"$dir/boot.log" 2>&1
}

measure_all() {
	local boot boots=() bad=''

	for host in "${hosts[@]}"; do
		boots+=("${sources[@]/#/$host/}")
	done
	pool "$jobs" measure "${boots[@]}"
	for boot in "${boots[@]}"; do
		[ -s "$out/$boot/results.ktap" ] && ! grep '^ *not ok' "$out/$boot/results.ktap" >&2 || bad+=" $boot"
	done
	[ -z "$bad" ] || die "no figures from$bad" "see boot.log and result.log in ${out#"$TOP"/}/${bad##* }"
}

# One thread of QEMU runs the processors in turn, and its clock counts the instructions of all of
# them: four ticks each. A lock for which processors compete would show as instructions that spin.
scale() {
	local dir=$out/scale

	rm -rf "$dir"
	mkdir -p "$dir"
	"$TOP/lab/boot.sh" --host amd-steady --smp 8 --kernel "$BUILD/lab/series-lab+bench+smp8/bzImage" \
		--name scale --tests "$program" --test-args '-s -n 2000' --test-timeout 600 --expect pass --out "$dir" >"$dir/boot.log" 2>&1 ||
		die "no figures of several vCPUs" "see boot.log and result.log in ${dir#"$TOP"/}"
	step_output "$dir" "$program" | sed -n 's/^scale //p' | awk '
		{ cost[$1, $2] = $4 / 4 / $2 / $3; vcpus[$2]; if ($2 > most) most = $2 }
		END {
			if (most != 8)
				exit 1
			print "HvSignalEvent, fast, by several vCPUs at once: instructions per call\n"
			print "vCPUs  from L1  from L2, relayed"
			for (n = 1; n <= most; n *= 2)
				printf "%5d %8.0f %17.0f\n", n, cost["l1", n], cost["l0", n]
		}' || die "the run with 8 vCPUs is missing" "see result.log in ${dir#"$TOP"/}"
}

profile_all() {
	local host dir

	for host in "${hosts[@]}"; do
		dir=$out/$host/series
		step_output "$dir" "$program" | sed -n 's/^bench //p' >"$dir/cases"
		awk -v host="$host" -f "$TOP/bench/profile.awk" "$dir/cases" "$LINUX/o-lab+bench/System.map" \
			"$dir/emulator.log" || die "the trace of $host is incomplete" "see emulator.log in ${dir#"$TOP"/}"
	done
}

# Lines "HOST SOURCE CASE PATH RELAY CALLS TICKS..."
figures() {
	local host source

	for host in "${hosts[@]}"; do
		for source in pristine series; do
			step_output "$out/$host/$source" "$program" | sed -n "s,^bench ,$host $source ,p"
		done
	done
}

check='' update='' profile='' scale='' arguments='' sources=(pristine series)
options 0 "check update scale profile" "$@"
[ -z "$check" ] || arguments='-m 1'
[ -z "$scale" ] || sources=()
[ -z "$profile" ] || arguments='-n 20 -r 1 -m 1 -t' sources=(series)

need flock jq
load_base
[[ $BASE == "$MAIN" || -z $check$update ]] ||
	die "bench/reference.json has the figures of $MAIN, not of $BASE" "run it without --check and --update, or without BASE"
[ -d "$LINUX" ] || die "there is no build/$BASE/linux" "run: make tree"

out=$BUILD/bench jobs=${JOBS:-2}
program=hyperv_nested_relay_bench
hosts=()
for host in intel amd-nrips; do
	# shellcheck disable=SC2053
	[[ $host != ${HOST:-*} ]] || hosts+=("$host")
done
[[ $jobs =~ ^[1-9][0-9]?$ ]] || die "JOBS='$jobs' is not a number of boots" "use JOBS=1 or more"
[ -z "$update" ] || [ ${#hosts[@]} = 2 ] || die "--update needs the figures of all hosts" "leave out HOST"
[ -z "$check" ] || [ -s "$reference" ] || die "there is no bench/reference.json" "run: bench/bench.sh --update"
[ ${#hosts[@]} -gt 0 ] || die "no measurements on HOST='$HOST'" "use intel or amd-nrips"

mkdir -p "$out"
exec 8>"$out/.lock"
flock -n 8 || die "another run is using ${out#"$TOP"/}" "wait for it to end"
[ -z "$scale" ] || "$TOP/scripts/kernel.sh" --source series --config lab+bench+smp8
for source in "${sources[@]}"; do
	"$TOP/scripts/kernel.sh" --source "$source" --config lab+bench
done
"$TOP/scripts/selftests.sh" "$TOP/bench/$program.c"

if [ -n "$scale" ]; then
	scale | tee "$out/scale.txt"
	exit
fi
measure_all
if [ -n "$profile" ]; then
	profile_all | tee "$out/profile.txt"
	exit
fi
figures >"$out/figures"
awk -v json="$out/figures.json" -f "$TOP/bench/figures.awk" -f "$TOP/bench/rows.awk" \
	-f "$TOP/bench/report.awk" "$out/figures" | tee "$out/table.txt"
table() {
	jq -r -f "$TOP/bench/figures.jq" "$1"
}
table "$out/figures.json" | awk -F '\t' -f "$TOP/bench/picture.awk" >"$out/cost.svg"

if [ -n "$update" ]; then
	cp "$out/figures.json" "$TOP/bench/reference.json"
	cp "$out/cost.svg" "$TOP/bench/cost.svg"
	"$TOP/bench/tables.sh"
	say "bench: bench/reference.json, cost.svg and the tables of README.md are those of this run"
fi
if [ -n "$check" ]; then
	echo
	awk -F '\t' -v tolerance="$tolerance" -f "$TOP/bench/check.awk" <(table "$reference") <(table "$out/figures.json") ||
		die "the cost is not that of bench/reference.json" \
		    "see above; if it is meant to be so, run: bench/bench.sh --update"
fi
