#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# unit.sh --out DIR [--name NAME]
#
# Test what makes summaries of made-up traces, figures and results, with each awk that is
# there, and what needs another machine. No host is booted. DIR gets results.ktap.

. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
. "$TOP/lab/results.sh"

out='' name=host
options 0 "out: name:" "$@"
[[ $out ]] || die "no --out" "name a directory for the results"
need busybox
mkdir -p "$out"
out=$(cd "$out" && pwd -P)

# same WANTED GOT
same() {
	diff <(printf '%s\n' "$1") <(printf '%s\n' "$2")
}

record() {
	"${awk[@]}" -f "$TOP/host/record.awk"
}

cost() {
	"${awk[@]}" -f "$TOP/bench/figures.awk" -f "$TOP/bench/rows.awk" -f "$TOP/host/cost.awk"
}

trace='# tracer: nop
 CPU 0/KVM-1234    [000] .....     1.590427: kvm_hv_nested_relay: code 0x5c slow l2 0x140000000 l1_gpa 0x211000 vm_id 0x1 inter_partition 0 kept
 CPU 1/KVM-1235    [001] d..1.     1.590428: kvm_hv_nested_relay: code 0x5c slow l2 0x140000000 l1_gpa 0xffffffffffffffff vm_id 0x1 inter_partition 0 to L1: memory intercept
CPU:1 [LOST 12 EVENTS]
 odd: name-1235    [001] d..1.     1.590429: kvm_hv_nested_relay: code 0x5c slow l2 0x140000000 l1_gpa 0x211000 vm_id 0x1 inter_partition 0 kept
 odd: name-1235    [001] d..1.     1.590429: kvm_hv_nested_relay: code 0x5d fast l2 0x42 l1_gpa 0xffffffffffffffff vm_id 0xffff888003a2c000 inter_partition 1 to L1: no inter-partition communication
 CPU 0/KVM-1234    [000] .....     1.590430: kvm_hv_nested_relay: code 0x4242 fast l2 0x42 l1_gpa 0xffffffffffffffff vm_id 0x1 inter_partition 1 to L1: not selected
 CPU 0/KVM-1234    [000] .....     1.590431: kvm_hypercall: nr 0x1
 CPU 0/KVM-1234    [000] .....     1.590432: kvm_hv_nested_relay: code 0x5d fast cut
entries: 0
overrun: 12
commit overrun: 0
oldest event ts:     1.1
dropped events: 0
read events: 4
overrun: 0
read events: 2'

# shellcheck disable=SC2317 # called by result
summary() {
	same 'hypercalls of L2: 5; events lost: 13

    calls  code                                            verdict
        2  0x5c HvPostMessage                        slow  kept
        1  0x4242                                    fast  to L1: not selected
        1  0x5c HvPostMessage                        slow  to L1: memory intercept
        1  0x5d HvSignalEvent                        fast  to L1: no inter-partition communication

    calls  VM ID                with interPartitionCommunication
        4  0x1                  1
        1  0xffff888003a2c000   1' "$(record <<< "$trace")"
}

# shellcheck disable=SC2317
nothing() {
	same 'hypercalls of L2: 0; events lost: 0' "$(record < /dev/null)" &&
		same 'hypercalls of L2: 0; events lost: 7' "$(record <<< 'overrun: 7')"
}

# shellcheck disable=SC2317
table() {
	same 'TSC cycles per call, lowest / median of 4 batches of 10 calls; x: of the lowest
hypercall                            from L1       L2, relayed   x L1    L2, through L1 x relayed
HvSignalEvent, fast                100 / 250         150 / 205   1.50       1500 / 1550     10.00
HvSignalEvent, slow                        -                 -      -                 -         -' \
		"$(cost <<< 'host series signal-fast l1 off 10 3000 1000 99999 2000
host series signal-fast l0 on 10 1500 2000 2100 2100
host series signal-fast via-l1 off 10 16000 15000 15000 16000' | sed -n 1,4p)"
}

# shellcheck disable=SC2317
no_table() {
	! cost < /dev/null
}

# shellcheck disable=SC2317
counted_right() {
	same '3 passed, 2 failed, 2 skipped' "$("${awk[@]}" -f "$TOP/host/count.awk" <<< 'KTAP version 1
1..4
ok 1 host log
  KTAP version 1
  1..3
  ok 1 a
  not ok 2 b
  ok 3 c # SKIP d
not ok 2 host/x # 1 of 3 cases failed
not ok 3 host/y # exit status 1
ok 4 host/z # SKIP no
ok 5 host/w
# 9 passed')"
}

# With a uname that says so: busybox has its own.
# shellcheck disable=SC2317
another_architecture() {
	local status=0 said

	mkdir -p "$out/bin" "$out/lib/kvm-hyperv-nested-relay-selftest" "$out/sbin"
	printf '#!/bin/sh\necho aarch64\n' > "$out/bin/uname"
	chmod +x "$out/bin/uname"
	cp "$TOP/host/package/kvm-hyperv-nested-relay-selftest" "$out/sbin/"
	said=$(PATH=$out/bin:$PATH "$out/sbin/kvm-hyperv-nested-relay-selftest" 2>&1) || status=$?
	say "$status: $said"
	[[ $status == 2 && $said == *"this machine is aarch64; run it on"* ]]
}

results_begin "$out/results.ktap" "$name"
for awk in mawk gawk original-awk busybox; do
	type -P "$awk" > /dev/null || continue
	[[ $awk != busybox ]] && awk=("$awk") || awk=(busybox awk)
	result "${awk[*]}: a trace is summed up" summary
	result "${awk[*]}: so is nothing" nothing
	result "${awk[*]}: figures make a table" table
	result "${awk[*]}: no figures make none" no_table
	result "${awk[*]}: results are counted" counted_right
done
result "another architecture is refused" another_architecture
results_end || { cat "$out/results.ktap"; exit 1; }
