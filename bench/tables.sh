#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# tables.sh [--check]
#
# Put the figures of bench/reference.json into bench/README.md; with --check, fail if
# others are there.

. "$(dirname "$0")/../scripts/lib.sh"

check=
options 0 "check" "$@"
need jq

# Medians, and for the difference to the pristine base the lowest batches.
# table HOST VENDOR KIND: calls or exits.
table() {
	jq -r -f "$TOP/bench/figures.jq" "$TOP/bench/reference.json" |
		awk -F '\t' -v host="$1" -v vendor="$2" -v kind="$3" -f "$TOP/bench/rows.awk" \
			-f "$TOP/bench/tables.awk"
}

for kind in calls exits; do
	table intel Intel "$kind" | "$TOP/scripts/block.sh" ${check:+--check} "$TOP/bench/README.md" "intel $kind"
	table amd-nrips AMD "$kind" | "$TOP/scripts/block.sh" ${check:+--check} "$TOP/bench/README.md" "amd $kind"
done
