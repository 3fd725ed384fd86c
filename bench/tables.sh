#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# tables.sh [--check]
#
# Put the figures of bench/reference.json into bench/README.md and into the cover letter of
# the relay's series; with --check, fail if others are there.

. "$(dirname "$0")/../scripts/lib.sh"

check=
options 0 "check" "$@"
need jq

figures() {
	jq -r -f "$TOP/bench/figures.jq" "$TOP/bench/reference.json"
}

# Medians, and for the difference to the pristine base the lowest batches.
# table HOST VENDOR KIND: calls or exits.
table() {
	figures | awk -F '\t' -v host="$1" -v vendor="$2" -v kind="$3" \
		-f "$TOP/bench/rows.awk" -f "$TOP/bench/tables.awk"
}

for kind in calls exits; do
	table intel Intel "$kind" | "$TOP/scripts/block.sh" ${check:+--check} "$TOP/bench/README.md" "intel $kind"
	table amd-nrips AMD "$kind" | "$TOP/scripts/block.sh" ${check:+--check} "$TOP/bench/README.md" "amd $kind"
done
figures | awk -F '\t' -f "$TOP/bench/letter.awk" | fmt -w 75 |
	"$TOP/scripts/block.sh" ${check:+--check} "$TOP/series/cover-letter.relay" cost
