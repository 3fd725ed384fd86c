# SPDX-License-Identifier: GPL-2.0
# Sum up the events kvm_hv_nested_relay of a trace: what L2 asked, and what became of it. Behind
# the trace come the files per_cpu/cpu*/stats.

BEGIN {
	known["0x2"] = "HvFlushVirtualAddressSpace"
	known["0x3"] = "HvFlushVirtualAddressList"
	known["0x8"] = "HvNotifyLongSpinWait"
	known["0xb"] = "HvSendSyntheticClusterIpi"
	known["0x13"] = "HvFlushVirtualAddressSpaceEx"
	known["0x14"] = "HvFlushVirtualAddressListEx"
	known["0x15"] = "HvSendSyntheticClusterIpiEx"
	known["0x5c"] = "HvPostMessage"
	known["0x5d"] = "HvSignalEvent"
	known["0x69"] = "HvPostDebugData"
	known["0x6a"] = "HvRetrieveDebugData"
	known["0x6b"] = "HvResetDebugSession"
	known["0x7e"] = "HvRetargetDeviceInterrupt"
	known["0xaf"] = "HvFlushGuestPhysicalAddressSpace"
	known["0xb0"] = "HvFlushGuestPhysicalAddressList"
}

# What the kernel counted of each buffer: all that was read, and all that was not.
/^(overrun|commit overrun|dropped events|read events): [0-9]+$/ {
	made += $NF
	next
}

# "... kvm_hv_nested_relay: code C fast|slow l2 A l1_gpa A vm_id I inter_partition 0|1 VERDICT"
{
	at = index($0, ": kvm_hv_nested_relay: code ")
	if (!at)
		next
	n = split(substr($0, at + 23), word, " ")
	if (n < 12 || word[8] != "vm_id" || word[10] != "inter_partition")
		next
	verdict = word[12]
	for (i = 13; i <= n; i++)
		verdict = verdict " " word[i]
	calls++
	row[word[2] SUBSEP word[3] SUBSEP verdict]++
	vm[word[9]]++
	if (word[11])
		inter[word[9]]++
}

END {
	printf "hypercalls of L2: %d; events lost: %d\n", calls, made - calls
	if (!calls)
		exit

	sorted = "LC_ALL=C sort -k1,1rn -k2 | head -n 100"
	printf "\n%9s  %-41s %-5s %s\n", "calls", "code", "", "verdict"
	fflush()
	for (key in row) {
		split(key, part, SUBSEP)
		name = part[1] in known ? part[1] " " known[part[1]] : part[1]
		printf "%9d  %-41s %-5s %s\n", row[key], name, part[2], part[3] | sorted
	}
	close(sorted)
	printf "\n%9s  %-20s %s\n", "calls", "VM ID", "with interPartitionCommunication"
	fflush()
	for (id in vm)
		printf "%9d  %-20s %d\n", vm[id], id, inter[id] | sorted
	close(sorted)
}
