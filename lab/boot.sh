#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Boot one emulated host with one kernel and a list of tests.

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
# shellcheck source=lab/results.sh
. "$TOP/lab/results.sh"

usage() {
	cat <<-EOF
		usage: lab/boot.sh --host HOST --kernel BZIMAGE --out DIR (--tests "NAME..." | --manifest FILE) [option...]

		Boots an emulated host, runs each test in it under a time limit and writes to DIR:
		  results.ktap   one result per test, and one for the boot itself
		  verdicts       one line per test, for comparing two boots
		  console.log    what the host's kernel printed (ttyS0)
		  result.log     what lab/init.c reported (ttyS1)
		  emulator.log   what the emulator printed

		  --host HOST         $(list_hosts)
		  --kernel BZIMAGE    kernel to boot
		  --out DIR           where the results go; made if need be
		  --tests "NAME..."   what to do, in this order: run a test program; or kunit:SUITE,
		                      the results of a KUnit suite that ran at boot; trace:on, the
		                      relay's tracepoint is enabled; trace:show, what was traced;
		                      gcov, the counters of a kernel that has them
		  --test-args "ARG..." arguments of these programs
		  --manifest FILE     or: steps to run, in the format described in lab/init.c
		  --bindir DIR        where the test programs are [build/$BASE/lab/selftests]
		  --root DIR          what else there is in the host's root directory
		  --name NAME         name of the boot in the results [HOST]
		  --expect WHAT       pass: no test may skip; skip: every test must; fail: every
		                      case must, unless it skips [any]
		  --allow FILE        tolerated splats [lab/splats.allow]
		  --append ARGS       further kernel arguments, e.g. kvm_amd.npt=0
		  --smp N             processors [the host's own default]
		  --mem MIB           memory [1024]
		  --timeout N         seconds of real time for the whole boot [the host's own default]
		  --test-timeout N    seconds of guest time for each of --tests [300]
		  --slowdown N        take N times those defaults, for a kernel that slow [1]
		  --help              this text

		Exit status: 0 if all passed or skipped as expected, 1 otherwise.
	EOF
}

cleanup() {
	if [ -n "${HOST_PID:-}" ]; then
		kill -KILL "$HOST_PID" 2>/dev/null || true
		wait "$HOST_PID" 2>/dev/null || true
	fi
	rm -rf "$work"
}

# Print the regexes for this host; fail on an entry without a reason.
tolerated_splats() {
	local line glob='' regex='' reason=none

	while IFS= read -r line; do
		case $line in
		'#'* | '') ;;
		[[:blank:]]*)
			[ -n "$glob" ] || return 1
			reason=given
			;;
		*)
			[ -z "$glob" ] || [ "$reason" = given ] || return 1
			read -r glob regex <<<"$line"
			reason=none
			# shellcheck disable=SC2053
			[[ $host != $glob ]] || printf '%s\n' "$regex"
			;;
		esac
	done <"$allow"
	[ -z "$glob" ] || [ "$reason" = given ]
}

make_manifest() {
	local name

	if [ -n "$manifest" ]; then
		cat -- "$manifest"
		return
	fi
	for name in $tests; do
		case $name in
		kunit:*) echo "cat $name /sys/kernel/debug/kunit/${name#kunit:}/results" ;;
		trace:on) echo "write $name $relay_event/enable 1" ;;
		trace:show) echo "cat $name /sys/kernel/tracing/trace" ;;
		gcov) echo "gcov $name" ;;
		*) echo "test $name $test_timeout $name $test_args" ;;
		esac
	done
}

step_names() {
	awk '{ sub(/#.*/, "") } NF { print $2 }' "$work/root/lab/manifest"
}

make_initramfs() {
	local program twice

	mkdir -p "$work/root/lab/tests"
	[ -z "$root" ] || cp -a -- "$root/." "$work/root/"
	make_manifest >"$work/root/lab/manifest"
	step_names >"$work/steps"
	twice=$(sort "$work/steps" | uniq -d | sed -n 1p)
	[ -z "$twice" ] || die "two steps have the name '$twice'" "give each a name of its own"
	echo "$nonce" >"$work/root/lab/nonce"
	gcc -static -O2 -Wall -Wextra -Werror -o "$work/root/init" "$TOP/lab/init.c" ||
		die "lab/init.c does not compile" "run 'make setup' for a static C library"
	# A program or module that is not there is left out: its step then fails, the others run.
	awk '$1 == "test" { print $4 } $1 == "insmod" { print $3 }' "$work/root/lab/manifest" |
		sort -u | while read -r program; do
		if [ -f "$bindir/$program" ]; then
			(cd "$bindir" && cp --parents -- "$program" "$work/root/lab/tests/")
		else
			say "$name: no program $bindir/$program: its test will fail" >&2
		fi
	done
	(cd "$work/root" && find . | cpio -o -H newc --quiet) >"$work/initrd"
}

last_console_line() {
	tr -d '\r\0' <"$out/console.log" | awk 'NF { line = $0 } END { print line == "" ? "none" : line }'
}

# Watch the host until it is done or lost; sets boot_error.
watch_host() {
	local deadline=$((SECONDS + timeout)) grace=6 gone='' panic

	while :; do
		# Asked before the logs are read: they are complete then, if it is gone.
		kill -0 "$HOST_PID" 2>/dev/null || gone=yes
		if grep -q "^$nonce done " "$out/result.log"; then
			# Time for the host to go by itself, and for a last splat.
			while kill -0 "$HOST_PID" 2>/dev/null && [ "$((grace--))" -gt 0 ]; do
				sleep 0.5
			done
			return
		fi
		panic=$(grep -a -m 1 'Kernel panic - not syncing' "$out/console.log" || true)
		if [ -n "$panic" ]; then
			sleep 0.5
			boot_error="panic: ${panic%$'\r'}"
			return
		fi
		if [ -n "$gone" ]; then
			boot_error="ended before its last test (last console line: $(last_console_line))"
			return
		fi
		if [ "$SECONDS" -ge "$deadline" ]; then
			boot_error="hung after $timeout s (last console line: $(last_console_line))"
			return
		fi
		sleep 0.3
	done
}

check_boot() {
	local splats

	splats=$(tr -d '\0' <"$out/console.log" | ALLOW=$tolerated awk -f "$TOP/lab/splat.awk")
	if [ -z "$boot_error" ] && [ -n "$splats" ]; then
		boot_error="splat: ${splats%%$'\n'*}"
	fi
	if [ -z "$boot_error" ] && ! grep -q "^$nonce fact kvm present" "$out/result.log"; then
		boot_error="KVM did not load: the host has no /dev/kvm"
	fi
	if [ -n "$boot_error" ]; then
		say "boot of $name $boot_error" >&2
	fi
}

relay_event=/sys/kernel/tracing/events/kvm/kvm_hv_nested_relay
host='' kernel='' out='' tests='' test_args='' manifest='' name='' expect=any append=''
allow=$TOP/lab/splats.allow smp='' mem=1024 timeout='' test_timeout='' slowdown=1 bindir=$BUILD/lab/selftests root=''
options 0 "host: kernel: out: tests: test-args: manifest: bindir: root: name: expect: allow: append: smp: mem: timeout: \
	test-timeout: slowdown:" "$@"

[[ -n $host && -e $TOP/lab/hosts/$host.sh ]] || die "no host '$host'" "--host takes one of: $(list_hosts)"
[ -n "$out" ] || die "no --out" "name a directory for the results"
[ -f "$kernel" ] || die "no kernel '$kernel'" "run 'make kernel' or give --kernel"
[ -n "$tests$manifest" ] || die "nothing to run" "give --tests or --manifest"
[ -z "$manifest" ] || [ -f "$manifest" ] || die "no manifest '$manifest'" "give an existing file"
[ -z "$root" ] || [ -d "$root" ] || die "no directory '$root'" "give --root one"
case $expect in
any | pass | skip | fail) ;;
*) die "--expect '$expect' is unknown" "it takes pass, skip, fail or any" ;;
esac

# shellcheck source=lab/hosts/amd.sh
. "$TOP/lab/hosts/$host.sh"
name=${name:-$host} smp=${smp:-$HOST_SMP}
for number in "$slowdown" "${timeout:-1}" "${test_timeout:-1}" "$smp" "$mem"; do
	[[ $number =~ ^[1-9][0-9]*$ ]] || die "'$number' is not a positive number" "see lab/boot.sh --help"
done
timeout=${timeout:-$((HOST_TIMEOUT * slowdown))} test_timeout=${test_timeout:-$((300 * slowdown))}
need gcc cpio
host_check
tolerated=$(tolerated_splats) || die "$allow has an entry without a reason" "add an indented line that says why it is tolerated"

mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap cleanup EXIT
trap 'exit 1' INT TERM
nonce=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
boot_error=''

make_initramfs
rm -f "$out/results.ktap" "$out/verdicts"
: >"$out/console.log"
: >"$out/result.log"
: >"$out/emulator.log"
ln -s "$out/console.log" "$out/result.log" "$out/emulator.log" "$work/"
host_start "$work" "$kernel" "$work/initrd" "console=ttyS0,115200 panic=-1 $HOST_CMDLINE $append" "$mem" "$smp"
watch_host
kill -KILL "$HOST_PID" 2>/dev/null || true
wait "$HOST_PID" 2>/dev/null || true
HOST_PID=''
if [ ! -s "$out/console.log" ]; then
	boot_error="printed nothing (emulator: $(tail -n 1 "$out/emulator.log"))"
fi
check_boot

NONCE=$nonce NAME=$name BOOT=$boot_error EXPECT=$expect VERDICTS=$out/verdicts \
	awk -f "$TOP/lab/ktap.awk" "$work/steps" "$out/result.log" >"$work/results.ktap"
mv "$work/results.ktap" "$out/results.ktap"
say "results: $out/results.ktap"
! grep -q '^ *not ok ' "$out/results.ktap"
