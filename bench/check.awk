# SPDX-License-Identifier: GPL-2.0
# Compare two tables of figures, with tabs, as figures.jq makes them of JSON:
#
#	awk -F '\t' -v tolerance=PERCENT -f check.awk REFERENCE FIGURES
#
# Fail if a median differs by more than the tolerance, or is in one of them only. Of the
# reference, only the hosts that were measured count. The last line is "N passed, N failed".

{ key = $1 ": " $3 " " $4 ", " $2 " kernel, relay " $5 }

FNR == NR {
	reference[key] = $6
	host_of[key] = $1
	order[++n] = key
	next
}

{
	measured[key] = $6
	seen[$1]
	if (!(key in reference)) {
		print key ": no reference"
		bad++
	}
}

END {
	for (i = 1; i <= n; i++) {
		key = order[i]
		if (!(host_of[key] in seen))
			continue
		if (!(key in measured)) {
			print key ": not measured"
			bad++
			continue
		}
		compared++
		percent = (measured[key] - reference[key]) * 100 / reference[key]
		if (percent > tolerance || percent < -tolerance) {
			printf "%s: %.1f, by reference %.1f, %+.1f %%\n", key, measured[key], reference[key], percent
			differ++
			bad++
		}
	}
	if (!compared && !bad) {
		print "nothing to compare"
		bad++
	}
	if (!bad)
		print "none differs by more than " tolerance " % from the reference"
	print compared - differ " passed, " bad + 0 " failed"
	exit bad > 0
}
