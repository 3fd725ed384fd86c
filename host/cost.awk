# SPDX-License-Identifier: GPL-2.0
# With bench/figures.awk and bench/rows.awk, the table of one host and one kernel: of each case the
# lowest batch, which has the least of what else the machine did meanwhile, and the median.

function cell(name, path, relay,  key)
{
	key = "host" SUBSEP "series" SUBSEP name SUBSEP path SUBSEP relay
	return key in low ? sprintf("%.0f / %.0f", low[key], median[key]) : "-"
}

function ratio(name, path, relay, of_path, of_relay,  of)
{
	of = low["host", "series", name, of_path, of_relay]
	return of > 0 ? sprintf("%.2f", low["host", "series", name, path, relay] / of) : "-"
}

function call_row(host, what, name)
{
	printf "%-26s %17s %17s %6s %17s %9s\n", what, cell(name, "l1", "off"), cell(name, "l0", "on"),
		ratio(name, "l0", "on", "l1", "off"), cell(name, "via-l1", "off"),
		ratio(name, "via-l1", "off", "l0", "on")
}

function exit_row(host, what, name, path)
{
	printf "%-26s %17s %17s\n", what, cell(name, path, "off"), cell(name, path, "on")
}

END {
	if (!NR)
		exit 1
	printf "TSC cycles per call, lowest / median of %d batches of %d calls; x: of the lowest\n", batches, calls
	printf "%-26s %17s %17s %6s %17s %9s\n", "hypercall", "from L1", "L2, relayed", "x L1", "L2, through L1", "x relayed"
	call_rows()
	printf "%-26s %17s %17s\n", "other exits", "relay off", "relay on"
	exit_rows()
}
