#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# show.sh DIR HOST
#
# Print what the scenarios of an end-to-end run, whose results are in DIR, found
# out about who got the calls: two at a time, side by side.

. "$(dirname "$0")/../scripts/lib.sh"
. "$TOP/lab/results.sh"

options 2 "" "$@"
((${#args[@]} == 2)) || die "show.sh: two arguments are needed" "see e2e/show.sh --help"
dir=${args[0]}

flow() {
	step_output "$dir" "$1" | sed -n 's/^flow| //p'
}

echo
host_title "${args[1]}"
mapfile -t scenarios < <(awk '$2 == "start" { print $3 }' "$dir/result.log")
for ((i = 0; i < ${#scenarios[@]}; i += 2)); do
	paste -d '\t' <(flow "${scenarios[i]}") <(flow "${scenarios[i + 1]-none}") |
		awk -F '\t' '
			{ left[NR] = $1; right[NR] = $2 }
			length($1) > width { width = length($1) }
			END {
				for (i = 1; i <= NR; i++) {
					line = sprintf("%-*s%s", width + 3, left[i], right[i])
					sub(/ +$/, "", line)
					print line
				}
			}'
	echo
done
