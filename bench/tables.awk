# SPDX-License-Identifier: GPL-2.0
# The tables of bench/README.md, of what figures.jq makes:
#
#	awk -F '\t' -v host=HOST -v vendor=NAME -v kind=calls|exits -f rows.awk -f tables.awk FIGURES

{
	median[$1, $2, $3, $4, $5] = $6
	low[$1, $2, $3, $4, $5] = $7
}

function number(n,  digits)
{
	digits = sprintf("%.0f", n)
	return length(digits) > 4 ? substr(digits, 1, length(digits) - 3) " " \
		substr(digits, length(digits) - 2) : digits
}

function call_row(host, what, name,  l1, l0, via)
{
	l1 = median[host, "series", name, "l1", "off"]
	l0 = median[host, "series", name, "l0", "on"]
	via = median[host, "series", name, "via-l1", "off"]
	printf "| %s | %s | %s | %.3fx | %s | %.1fx of relayed |\n", what, number(l1), number(l0), l0 / l1,
		number(via), via / l0
}

# The difference is that of the lowest batches.
function difference(host, name, path, relay)
{
	if (!((host, "series", name, path, relay) in median))
		return " | "
	return number(median[host, "series", name, path, relay]) " | " \
		sprintf("%+.1f", low[host, "series", name, path, relay] - low[host, "pristine", name, path, "off"])
}

function exit_row(host, what, name, path)
{
	printf "| %s | %s | %s | %s |\n", what, number(median[host, "pristine", name, path, "off"]),
		difference(host, name, path, "off"), difference(host, name, path, "on")
}

END {
	if (kind == "calls")
		print "| " vendor ": instructions per call | from L1 | from L2, relayed | | from L2, through L1 | |"
	else
		print "| " vendor ": other exits | pristine base | series, relay off | | relay on | |"
	print "|---|---|---|---|---|---|"
	if (kind == "calls")
		call_rows(host)
	else
		exit_rows(host)
}
