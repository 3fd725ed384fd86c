# SPDX-License-Identifier: GPL-2.0
# What the cover letter says about the cost, of what figures.jq makes:
#
#	awk -F '\t' -f letter.awk FIGURES | fmt -w 75

{
	median[$1, $2, $3, $4, $5] = $6
	low[$1, $2, $3, $4, $5] = $7
}

function ratio(format, host, over, under)
{
	return sprintf(format, median[host, "series", "signal-fast", over] / median[host, "series", "signal-fast", under])
}

function saved(host, name, path)
{
	return low[host, "pristine", name, path, "off"] - low[host, "series", name, path, "on"]
}

function dearer(host)
{
	return median[host, "series", "hypercall-nested", "reflected", "on"] - \
		median[host, "series", "hypercall-nested", "reflected", "off"]
}

END {
	on = "l0" SUBSEP "on"
	l1 = "l1" SUBSEP "off"
	via = "via-l1" SUBSEP "off"
	most = dearer("intel") > dearer("amd-nrips") ? dearer("intel") : dearer("amd-nrips")
	printf "Cost, in emulated instructions: a fast HvSignalEvent from L2 takes %s (VMX) and %s (SVM) of one from L1. ",
		ratio("%.2fx", "intel", on, l1), ratio("%.2fx", "amd-nrips", on, l1)
	printf "One that L1 makes on L2's behalf takes %s and %s of that. ",
		ratio("%.1fx", "intel", via, on), ratio("%.1fx", "amd-nrips", via, on)
	printf "With the relay on, a hypercall with the nested bit that goes to L1 takes %.0f (VMX) and %.0f (SVM) less " \
	       "than on the base, of %.0f and %.0f, as patches 3 to 5 save more than the fixes and the core cost, " \
	       "and up to %.0f more than with the relay off.\n",
		saved("intel", "hypercall-nested", "reflected"), saved("amd-nrips", "hypercall-nested", "reflected"),
		median["intel", "pristine", "hypercall-nested", "reflected", "off"],
		median["amd-nrips", "pristine", "hypercall-nested", "reflected", "off"], most
}
