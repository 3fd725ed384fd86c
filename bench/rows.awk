# SPDX-License-Identifier: GPL-2.0
# The rows that all tables have. For awk's -f, beside a program that defines call_row() and
# exit_row().

function call_rows(host)
{
	call_row(host, "HvSignalEvent, fast", "signal-fast")
	call_row(host, "HvSignalEvent, slow", "signal-slow")
	call_row(host, "HvPostMessage", "post")
	call_row(host, "HvPostMessage, vcpu_run()", "post-vcpu-run")
}

function exit_rows(host)
{
	exit_row(host, "CPUID, to L1", "cpuid", "reflected")
	exit_row(host, "hypercall, to L1", "hypercall", "reflected")
	exit_row(host, "the same, nested bit set", "hypercall-nested", "reflected")
	exit_row(host, "RDMSR, to L1", "rdmsr", "reflected")
	exit_row(host, "RDMSR, by L0", "rdmsr", "l0")
	exit_row(host, "L2 TLB flush, by L0", "tlb-flush", "l0")
	exit_row(host, "RDMSR of L1", "rdmsr", "l1")
	exit_row(host, "TLB flush of L1", "tlb-flush", "l1")
	exit_row(host, "HvSignalEvent of L1, fast", "signal-fast", "l1")
	exit_row(host, "HvSignalEvent of L1, slow", "signal-slow", "l1")
	exit_row(host, "HvPostMessage of L1", "post", "l1")
	exit_row(host, "empty loop", "empty-loop", "l1")
}
