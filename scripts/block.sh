#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# block.sh [--check] FILE NAME
#
# Put stdin into a document, between the lines "<!-- figures: NAME -->" and
# "<!-- end -->": figures are put there by what prints them.  With --check, fail if they
# aren't these, and change nothing.

. "$(dirname "$0")/lib.sh"

check=
options 2 "check" "$@"
((${#args[@]} == 2)) || die "block.sh: FILE and NAME are needed" "see scripts/block.sh --help"
file=${args[0]} name=${args[1]}

[[ -f $file ]] || die "there is no $file" "name a document"
new=$(mktemp)
trap 'rm -f "$new"' EXIT
awk -v name="$name" '
	FILENAME == "-" { block = block $0 "\n"; next }
	$0 == "<!-- figures: " name " -->" { print; printf "%s", block; inside = 1; found++; next }
	inside && $0 == "<!-- end -->" { inside = 0 }
	!inside
	END { exit found != 1 || inside }' - "$file" > "$new" ||
	die "$file has no block '$name', or more than one" "see scripts/block.sh --help"
cmp -s "$file" "$new" && exit
if [[ $check ]]; then
	diff "$file" "$new" >&2 || true
	die "the figures '$name' in $file are stale" "see above; run what prints them with UPDATE=1, or: make figures"
fi
cat "$new" > "$file"
