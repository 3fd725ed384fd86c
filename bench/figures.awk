# SPDX-License-Identifier: GPL-2.0
# For awk's -f, before others: read lines "HOST SOURCE CASE PATH RELAY CALLS TICKS...", where TICKS is
# a batch of so many calls, into median[], low[] and high[], per call.

function sort(list, n,  i, j, x)
{
	for (i = 2; i <= n; i++) {
		x = list[i]
		for (j = i - 1; j && list[j] > x; j--)
			list[j + 1] = list[j]
		list[j + 1] = x
	}
}

{
	n = 0
	for (i = 7; i <= NF; i++)
		list[++n] = $i / $6
	sort(list, n)
	key = $1 SUBSEP $2 SUBSEP $3 SUBSEP $4 SUBSEP $5
	keys[NR] = key
	median[key] = n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
	low[key] = list[1]
	high[key] = list[n]
	if (!($1 in seen_host)) {
		seen_host[$1]
		hosts[++nhosts] = $1
	}
	calls = $6
	batches = n
}
