# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# AMD host: QEMU's own emulation (TCG) of an EPYC with SVM and nested paging, no NRIPS.
# Sourced; see "Hosts" in lab/README.md for the interface.

# Read by lab/boot.sh and lab/run-plan.sh.
# shellcheck disable=SC2034
{
	HOST_TITLE="AMD host (QEMU TCG: EPYC with SVM and nested paging)"
	# On a busy machine TCG is too late for the kernel's test of the timer's interrupt.
	HOST_TIMEOUT=600 HOST_SMP=2 HOST_CMDLINE=no_timer_check
}

# For hosts that source this one.
qemu_options=()

host_check() {
	need qemu-system-x86_64
}

host_start() {
	local work=$1 kernel=$2 initrd=$3 cmdline=$4 mem=$5 smp=$6

	# Whatever becomes of the script, the emulator goes with it.
	setpriv --pdeathsig KILL \
		qemu-system-x86_64 -accel tcg -cpu EPYC,+svm,+npt -smp "$smp" -m "$mem" \
		"${qemu_options[@]}" \
		-nodefaults -display none -monitor none -no-reboot \
		-serial "${HOST_CONSOLE:-file:$work/console.log}" -serial "file:$work/result.log" \
		-kernel "$kernel" -initrd "$initrd" -append "$cmdline" \
		</dev/null >"$work/emulator.log" 2>&1 &
	HOST_PID=$!
}
