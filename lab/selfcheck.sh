#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Prove that lab/boot.sh fails what must fail: boot it with programs that misbehave, or a debug
# kernel with faults in it.

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
# shellcheck source=lab/results.sh
. "$TOP/lab/results.sh"

usage() {
	cat <<-EOF
		usage: lab/selfcheck.sh --host HOST --kernel BZIMAGE --out DIR [--name NAME] [--tests SET] [--slowdown N]

		Boots the host several times and writes to DIR/results.ktap one result per way in
		which a boot or a test has to fail. SET is one of
		  programs  programs that misbehave, those of lab/selfcheck.c (the default)
		  faults    faults that the kernel's LKDTM makes: for the kernel lab+debug
		--slowdown is the one of lab/boot.sh. Exit status: 0 all passed, 1 otherwise.
	EOF
}

# boot CASE ARG... : one boot; its outcome is in $out/CASE.
boot() {
	local case=$1

	shift
	status=0 ktap=$out/$case/results.ktap
	mkdir -p "$out/$case"
	: >"$ktap"
	"$TOP/lab/boot.sh" --host "$host" --kernel "$kernel" --name "$case" --bindir "$work" \
		--slowdown "$slowdown" --out "$out/$case" "$@" >/dev/null 2>"$work/$case.err" || status=$?
}

# manifest LINE... : each a time limit and a mode of lab/selfcheck.c.
manifest() {
	local limit mode

	while read -r limit mode; do
		echo "test $mode $limit selfcheck $mode"
	done <<<"$1" >"$work/manifest"
}

# The last boot's results have a line that matches, or what they are is shown.
# shellcheck disable=SC2317 # called by result
has() {
	grep -qE -- "$1" "$ktap" || {
		cat "$ktap"
		echo "no line matches $1${seen:+; the log has $seen}"
		return 1
	}
}

# The boot failed for this reason, and a test after it was not counted as passed.
# shellcheck disable=SC2317 # called by result
boot_failed() {
	[ "$status" -ne 0 ] && has "^not ok 1 .* boot: no splat # $1"
}

splats() {
	printf '%s\n' "$1" | ALLOW='WARNING: known' awk -f "$TOP/lab/splat.awk"
}

check_programs() {
	manifest "10 pass
10 skip
10 forged-verdict
10 left-behind
10 fail
10 signal
2 hang
10 short-plan
10 failed-case"
	echo "test missing 10 no-such-program" >>"$work/manifest"
	boot tests --manifest "$work/manifest"
	result "the boot itself passes, nothing outlives its test" has '^ok 1 tests boot: no splat$'
	result "a program that exits with 0 passes" has '^ok 2 tests/pass$'
	result "a program that skips is skipped, with its reason" has '^ok 3 tests/skip # SKIP no such hardware$'
	result "a forged verdict does not count" has '^not ok 4 tests/forged-verdict # exit status 1$'
	result "an exit status is a failure" has '^not ok 6 tests/fail # exit status 3$'
	result "a signal is a failure" has '^not ok 7 tests/signal # killed by signal 11$'
	result "a hung test is a failure, the next one runs" has '^not ok 8 tests/hang # not done after 2 s$'
	result "an unfulfilled TAP plan is a failure" has '^not ok 9 tests/short-plan # it planned 3 cases and ran 2$'
	result "a failed TAP case is a failure" has '^not ok 10 tests/failed-case # 1 of 2 cases failed$'
	result "a missing program is a failure" has '^not ok 11 tests/missing # no-such-program: No such file'
	result "failed tests give an exit status" [ "$status" -eq 1 ]

	manifest "10 failed-case
10 pass"
	boot cut --until-failure --manifest "$work/manifest"
	result "with --until-failure, a failed case ends the boot" has '^not ok 4 cut/pass # never reached'

	manifest "60 panic
10 pass"
	boot panic --manifest "$work/manifest" --mem 256
	result "a kernel panic is a failed boot" boot_failed 'panic: .*Kernel panic - not syncing'
	result "the test that ran into the panic fails" has '^not ok 2 panic/panic # the boot ended while it ran'
	result "a test never reached fails" has '^not ok 3 panic/pass # never reached'

	manifest "10 splat
10 pass"
	boot splat --manifest "$work/manifest"
	result "a splat is a failed boot" boot_failed 'splat: .*WARNING: not a real one'

	manifest "10 skip"
	boot noskip --manifest "$work/manifest" --expect pass
	result "a skip where a pass is expected is a failure" has '^not ok 2 noskip/skip # it must not skip here'

	manifest "10 failed-case
10 fail"
	boot nofail --manifest "$work/manifest" --expect fail
	result "a case that passes where a failure is expected is a failure" has '^  not ok 1 first fails$'
	result "one that fails there passes" has '^  ok 2 second fails$'
	result "a program without a case that fails is a failure" has '^not ok 3 nofail/fail # no case of it failed$'

	manifest "600 hang"
	boot hang --manifest "$work/manifest" --timeout 10
	result "a hung boot is ended and failed" boot_failed 'hung after 10 s \(last console line: '
	result "a hung boot is told in one line" \
		grep -qE '^boot of hang hung after 10 s \(last console line: .+\)$' "$work/hang.err"

	manifest "10 pass"
	boot vmless --manifest "$work/manifest" --append "initcall_blacklist=svm_init,vt_init"
	result "a host without KVM is a failed boot" boot_failed 'KVM did not load'

	printf 'amd WARNING: without a reason\n' >"$work/allow"
	boot allow --manifest "$work/manifest" --allow "$work/allow"
	result "a tolerated splat without a reason is an error" grep -q 'entry without a reason' "$work/allow.err"

	cut='------------[ cut here ]------------' end='---[ end trace 0 ]---'
	known=$cut$'\nWARNING: known\nCall Trace:\n'$end
	new=$cut$'\nWARNING: new\nCall Trace:\nWARNING: known\n'$end
	result "a tolerated splat goes with its trace" [ -z "$(splats "$known")" ]
	result "what follows a tolerated splat is still seen" \
		[ "$(splats "$known"$'\n'"$new"$'\nCall Trace:')" = $'WARNING: new\nCall Trace:' ]
	result "a tolerated splat that never ends is not tolerated" [ -n "$(splats "${known%"$end"}")" ]

	race=$'BUG: KCSAN: data-race in a / b\nwrite to 0x1 of 8 bytes by task 1 on cpu 0:\n a+0x1/0x2\nread to 0x1 of 8 bytes by'
	done=$'on cpu 1:\n b+0x1/0x2\nReported by Kernel Concurrency Sanitizer on:'
	result "a data race of two tasks is a splat" [ "$(splats "$race task 2 $done")" = "${race%%$'\n'*}" ]
	result "so is one with an interrupt" [ -n "$(splats "$race interrupt $done")" ]
	result "and one of which half is there" [ -n "$(splats "$race")" ]
	result "what one task does twice is none" [ -z "$(splats "$race task 1 $done")" ]

	# What the kernel's checks print first; the debug kernel shows some of them for real.
	while IFS= read -r line; do
		result "a splat: $line" [ "$(splats "$line")" = "$line" ]
	done <<-'EOF'
		BUG: KASAN: global-out-of-bounds in kvm_hv_nested_relay_begin+0x1/0x2
		KASAN: null-ptr-deref in range [0x0000000000000000-0x0000000000000007]
		UBSAN: shift-out-of-bounds in arch/x86/kvm/hyperv.c:1:2
		WARNING: possible circular locking dependency detected
		WARNING: possible irq lock inversion dependency detected
		WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected
		WARNING: inconsistent lock state
		WARNING: bad unlock balance detected!
		WARNING: suspicious RCU usage
		[ BUG: Invalid wait context ]
		BUG: MAX_LOCKDEP_CHAINS too low!
		INFO: trying to register non-static key.
		BUG: sleeping function called from invalid context at mm/slab.h:1
		BUG: scheduling while atomic: test/1/0x00000002
		BUG: using smp_processor_id() in preemptible [00000000] code: test/1
		kernel BUG at mm/page_table_check.c:118!
		WARNING: mm/page_table_check.c:202 at page_table_check_pte_flags+0x1/0x2, CPU0: test/1
		WARNING: arch/x86/kvm/mmu/mmu.c:1825 at kvm_mmu_check_sptes_at_free+0x1/0x2, CPU0: test/1
		BUG kmalloc-32 (Not tainted): Redzone overwritten
		BUG: unable to handle page fault for address: ffffc90000000000
		refcount_t: underflow; use-after-free.
		rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
		INFO: task test:1 blocked for more than 120 seconds.
	EOF
	result "an ordinary line is no splat" [ -z "$(splats "kvm_amd: Nested Virtualization enabled")" ]
}

# What the last boot printed; case is its name.
console() {
	tr -d '\r\0' <"$out/$case/console.log"
}

# Boot a debug kernel and have its LKDTM make these faults. The first fails the boot; each of the
# lines must be in the log, and must be a splat on its own.
# provoke CASE "FAULT..." LINE-REGEX...
provoke() {
	local case=$1 fault regex

	for fault in $2; do
		case $fault in
		# Who schedules before it sleeps is another splat: only a real-time task surely sleeps first.
		SPINLOCKUP) echo "test sleep-locked 10 selfcheck sleep-locked" ;;
		*) echo "write $fault /sys/kernel/debug/provoke-crash/DIRECT $fault" ;;
		esac
	done >"$work/manifest"
	shift 2
	boot "$case" --manifest "$work/manifest"
	seen=$(splats "$(console)" | grep -v 'Call Trace' | cut -c1-100 | paste -sd '|') || true
	result "$case: a fault is a failed boot" boot_failed '(splat|panic): '
	for regex; do
		result "$case: the kernel finds it: $regex" finds "$regex"
	done
}

# shellcheck disable=SC2317 # called by result
finds() {
	local line

	line=$(console | grep -E -- "$1" | sed -n 1p) &&
		[ "$(splats "$line")" = "$line" ]
}

check_faults() {
	provoke memory "ARRAY_BOUNDS REFCOUNT_INC_OVERFLOW READ_AFTER_FREE" \
		'UBSAN: array-index-out-of-bounds' 'WARNING: .*refcount' 'BUG: KASAN: slab-use-after-free'
	provoke lock "SPINLOCKUP" 'WARNING: lock held when returning to user space' \
		'BUG: sleeping function called from invalid context'
	provoke list "CORRUPT_LIST_ADD" 'kernel BUG at lib/list_debug.c'
}

host='' kernel='' out='' name=harness tests=programs slowdown=1
options 0 "host: kernel: out: name: tests: slowdown:" "$@"
[ -n "$out" ] || die "no --out" "name a directory for the results"
case $tests in
programs | faults) ;;
*) die "no set '$tests'" "--tests takes programs or faults" ;;
esac

need gcc
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
gcc -static -O2 -Wall -Wextra -Werror -o "$work/selfcheck" "$TOP/lab/selfcheck.c" ||
	die "lab/selfcheck.c does not compile" "run: make setup"
seen=''
results_begin "$out/results.ktap" "$name"
"check_$tests"
results_end
