#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Measure what the relay costs, on one emulated host of each vendor.

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

usage() {
	cat <<-EOF
		usage: bench/bench.sh [--check | --update]

		Boots the Intel and the AMD host whose TSC counts instructions, each with the kernel of
		the series and with the pristine base, measures in instructions per call and prints a
		table per vendor. Leaves in build/$BASE/bench: table.txt, figures.json, cost.svg.

		  --check   compare with bench/reference.json: fail if a figure differs by more than
		            $tolerance %
		  --update  put the figures and the picture of this run into bench/
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
ips=400000000
tolerance=2

# build_program NAME...: those of bench/, into build/<base>/lab/selftests.
build_programs() (
	local obj=$LINUX/o-selftests name

	lock
	make -C "$LINUX" O=o-selftests -j"$(nproc)" HOSTCC="ccache gcc" headers_install &&
	make -C "$LINUX/tools/testing/selftests/kvm" -f "$TOP/bench/kselftest.mk" -j"$(nproc)" \
		BENCH="$TOP/bench" OUTPUT="$obj/kvm" INSTALL_HDR_PATH="$obj/usr" \
		KHDR_INCLUDES="-isystem $obj/usr/include" CC="ccache gcc" LDFLAGS="-static -pthread" \
		"${@/#/$obj/kvm/bench/}" &&
	for name; do
		strip -o "$out/$name" "$obj/kvm/bench/$name"
	done
)

# measure HOST SOURCE: one boot, all cases.
measure() {
	local dir=$out/$1/$2

	rm -rf "$dir"
	mkdir -p "$dir"
	echo "test 600 $program $program" >"$dir/manifest"
	BOCHS_IPS=$ips "$TOP/lab/boot.sh" --host "$1" --kernel "$BUILD/lab/$2-lab+bench/bzImage" --name "$1/$2" \
		--manifest "$dir/manifest" --bindir "$out" --expect pass --out "$dir" >"$dir/boot.log" 2>&1
}

# Each boot is a process group of its own, so that an interrupted run takes its emulators along.
measure_all() {
	local host source dir bad=''

	set -m
	trap stop_all INT TERM
	for host in "${hosts[@]}"; do
		for source in pristine series; do
			while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
				wait -n || true
			done
			measure "$host" "$source" 8>&- </dev/null &
		done
	done
	wait
	trap - INT TERM
	set +m

	for host in "${hosts[@]}"; do
		for source in pristine series; do
			dir=$out/$host/$source
			if [ -s "$dir/results.ktap" ] && ! grep '^ *not ok' "$dir/results.ktap" >&2; then
				continue
			fi
			bad+=" $host/$source"
		done
	done
	[ -z "$bad" ] || die "no figures from$bad" "see boot.log and result.log in ${out#"$TOP"/}/${bad##* }"
}

stop_all() {
	local pid

	for pid in $(jobs -p); do
		kill -TERM -- "-$pid" 2>/dev/null || true
	done
	die "interrupted" "start again"
}

# Lines "HOST SOURCE CASE PATH RELAY CALLS TICKS..."
figures() {
	local host source

	for host in "${hosts[@]}"; do
		for source in pristine series; do
			sed -n "s,^o [0-9]* bench ,$host $source ,p" "$out/$host/$source/result.log"
		done
	done
}

check='' update=''
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h)
		usage
		exit 0
		;;
	--check) check=yes ;;
	--update) update=yes ;;
	*) die "unknown argument '$1'" "see bench/bench.sh --help" ;;
	esac
	shift
done

need make gcc ccache rsync strip flock
load_base
[ -d "$LINUX" ] || die "there is no build/$BASE/linux" "run: make tree"

out=$BUILD/bench jobs=${JOBS:-2}
program=hyperv_nested_relay_bench
hosts=()
for host in intel amd-nrips; do
	# shellcheck disable=SC2053
	[[ $host != ${HOST:-*} ]] || hosts+=("$host")
done
[ ${#hosts[@]} -gt 0 ] || die "no measurements on HOST='$HOST'" "use intel or amd-nrips"

mkdir -p "$out"
exec 8>"$out/.lock"
flock -n 8 || die "another run is using ${out#"$TOP"/}" "wait for it to end"
for source in pristine series; do
	"$TOP/scripts/kernel.sh" --source "$source" --config lab+bench
done
logged "$out/build.log" build_programs "$program" || die "building $program failed" "see ${out#"$TOP"/}/build.log"

measure_all
figures >"$out/figures"
awk -f "$TOP/bench/report.awk" "$out/figures" | tee "$out/table.txt"
