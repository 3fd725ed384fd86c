# SPDX-License-Identifier: GPL-2.0
# With figures.awk and rows.awk, make a table per host of lines "HOST SOURCE CASE PATH RELAY CALLS TICKS...", where TICKS is a
# batch of so many calls; with -v json=FILE, write the figures there as well, one to a line.

function write_json(  i, part)
{
	printf "{ \"unit\": \"emulated instructions per call\", \"calls\": %d, \"batches\": %d, \"figures\": [\n",
		calls, batches > json
	for (i = 1; i <= NR; i++) {
		split(keys[i], part, SUBSEP)
		printf "{ \"host\": \"%s\", \"kernel\": \"%s\", \"case\": \"%s\", \"path\": \"%s\", " \
			"\"relay\": \"%s\", \"median\": %.2f, \"lowest\": %.2f, \"highest\": %.2f }%s\n",
			part[1], part[2], part[3], part[4], part[5], median[keys[i]], low[keys[i]],
			high[keys[i]], (i < NR ? "," : "") > json
	}
	print "] }" > json
}

function value(host, source, name, path, relay)
{
	return median[host, source, name, path, relay]
}

function has(host, source, name, path, relay)
{
	return (host, source, name, path, relay) in median
}

# The median, and how far the lowest and the highest batch are from it.
function cell(host, source, name, path, relay,  m)
{
	if (!has(host, source, name, path, relay))
		return "-"
	m = value(host, source, name, path, relay)
	return sprintf("%.1f -%.1f +%.1f", m, m - low[host, source, name, path, relay],
		       high[host, source, name, path, relay] - m)
}

function call_row(host, what, name,  l1, l0, via)
{
	if (!has(host, "series", name, "l0", "on"))
		return
	l1 = value(host, "series", name, "l1", "off")
	l0 = value(host, "series", name, "l0", "on")
	via = value(host, "series", name, "via-l1", "off")
	printf "%-26s %22s %22s %7.3fx %22s %6.1fx\n", what,
		cell(host, "series", name, "l1", "off"), cell(host, "series", name, "l0", "on"),
		l0 / l1, cell(host, "series", name, "via-l1", "off"), via / l0
}

# How much more than on the pristine base, of the lowest batches: a timer's interrupt or another
# thread adds to a batch, by chance, and nothing takes from one.
function more(host, name, path, relay)
{
	if (!has(host, "series", name, path, relay))
		return ""
	return sprintf("%+.1f", low[host, "series", name, path, relay] - \
		       low[host, "pristine", name, path, "off"])
}

function exit_row(host, what, name, path)
{
	if (!has(host, "pristine", name, path, "off"))
		return
	printf "%-26s %22s %22s %7s %22s %7s\n", what, cell(host, "pristine", name, path, "off"),
		cell(host, "series", name, path, "off"), more(host, name, path, "off"),
		cell(host, "series", name, path, "on"), more(host, name, path, "on")
}

END {
	if (!nhosts) {
		print "no figures" > "/dev/stderr"
		exit 1
	}
	if (json)
		write_json()
	for (h = 1; h <= nhosts; h++) {
		host = hosts[h]
		printf "%s%s: instructions per call; median, lowest and highest of %d batches of %d calls;" \
			" more: of the lowest\n\n",
			(h > 1 ? "\n" : ""), host, batches, calls
		printf "%-26s %22s %22s %8s %22s %7s\n", "hypercall", "from L1", "from L2, relayed", "x L1",
			"from L2, through L1", "x relayed"
		call_rows(host)
		printf "\n%-26s %22s %22s %7s %22s %7s\n", "other exits", "pristine base", "series, relay off", "more", "relay on", "more"
		exit_rows(host)
	}
}
