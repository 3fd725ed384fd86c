# SPDX-License-Identifier: GPL-2.0
# Draw the cost of hypercalls as bars, one scale for all: an SVG of the table that figures.jq makes.
#
#	awk -F '\t' -f picture.awk FIGURES

function text(x, y, anchor, style, what)
{
	printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>%s</text>\n", x, y, anchor, style, what
}

function thousands(n,  digits)
{
	digits = sprintf("%.0f", n)
	return length(digits) > 3 ? substr(digits, 1, length(digits) - 3) " " \
		substr(digits, length(digits) - 2) : digits
}

function bar(what, color, n, note)
{
	text(left - 8, y + 12, "end", "", what)
	printf "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"15\" fill=\"%s\"/>\n", left, y, n * scale, color
	text(left + n * scale + 6, y + 12, "start", "", thousands(n) note)
	y += 18
}

$2 == "series" {
	cost[$1, $3, $4, $5] = $6
	if ($4 == "via-l1" && $6 > most)
		most = $6
	if (!($1 in seen)) {
		seen[$1]
		hosts[++nhosts] = $1
	}
}

END {
	title["intel"] = "Intel (Bochs: VMX with EPT)"
	title["amd-nrips"] = "AMD (Bochs: SVM with nested paging and NRIPS)"
	if (!most)
		exit 1
	left = 130
	width = 860
	scale = (width - left - 150) / most
	height = nhosts * 270 + 10
	printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" " \
		"font-family=\"sans-serif\" font-size=\"12\">\n", width, height, width, height
	printf "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", width, height
	ncalls = split("signal-fast signal-slow post", call, " ")
	split("HvSignalEvent, fast: KVM signals an eventfd|HvSignalEvent, slow: the same, its input in memory|" \
	      "HvPostMessage: userspace answers", heading, "|")
	y = 10
	for (h = 1; h <= nhosts; h++) {
		host = hosts[h]
		text(10, y + 14, "start", " font-size=\"14\" font-weight=\"bold\"", \
		     "Instructions per call, " (host in title ? title[host] : host))
		y += 26
		for (c = 1; c <= ncalls; c++) {
			l1 = cost[host, call[c], "l1", "off"]
			text(left, y + 12, "start", " fill=\"#555\"", heading[c])
			y += 18
			bar("from L1", "#7a8793", l1, "")
			bar("from L2, relayed", "#1f77b4", cost[host, call[c], "l0", "on"], \
			    sprintf(" (%.2f x)", cost[host, call[c], "l0", "on"] / l1))
			bar("from L2, by L1", "#d1603d", cost[host, call[c], "via-l1", "off"], \
			    sprintf(" (%.1f x)", cost[host, call[c], "via-l1", "off"] / l1))
			y += 6
		}
		y += 10
	}
	print "</svg>"
}
