#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# lint.sh
#
# Look at what is ours and not part of the series: shellcheck on every shell
# script, the kernel's checkpatch.pl on every C file; are figures in documents those
# that were measured?  The series has "make check".
# Prints the findings; the last line counts files.
#
# No shfmt: no set of its options leaves the scripts as they are.  The one that
# changes least changes a tenth of the lines, most of them commands of a && list
# that it indents.

. "$(dirname "$0")/../scripts/lib.sh"
. "$(dirname "$0")/../scripts/series.sh"

options 0 "" "$@"
need shellcheck perl find
load_base
checkpatch=$LINUX/scripts/checkpatch.pl
[[ -f $checkpatch ]] || die "there is no build/$BASE/linux/scripts/checkpatch.pl" "run: make tree"
cd "$TOP"
TMP=$(mktemp -d)
mkdir "$TMP/include"
trap 'rm -rf "$TMP"' EXIT

# For kernel code only: programs of userspace have no u32, BIT(), ARRAY_SIZE(),
# strscpy(), __packed.
ignore=PREFER_KERNEL_TYPES,BIT_MACRO,ARRAY_SIZE,STRCPY,PREFER_DEFINED_ATTRIBUTE_MACRO
# Declarations of what is defined in an asm() of the same file; _Static_assert.
ignore+=,AVOID_EXTERNS,CAMELCASE
# Strings are what the programs tell each other, e.g. "rebind: ...", and command
# lines: they may be long, be split, and have the name of a function or a file.
ignore+=,LONG_LINE_STRING,SPLIT_STRING,EMBEDDED_FUNCTION_NAME,EMBEDDED_FILENAME
# A line of a log that has another form leaves the variables as they are.
ignore+=,NAKED_SSCANF
# Several registers or fields that are to be the same.
ignore+=,MULTIPLE_ASSIGNMENTS
# What check/prove/kernel.h puts in the place of the kernel's own macros.
ignore+=,MACRO_ARG_UNUSED,MEMORY_BARRIER
# As check/static.sh has it.
ignore+=,MACRO_ARG_REUSE,PARENTHESIS_ALIGNMENT

# Not what others make, nor what belongs to the series.
own_files() {
	local dir
	local -a prune=(-path ./build -o -name .git -o -path ./series)

	for dir in "${OVERLAY[@]}"; do
		prune+=(-o -path "./$dir")
	done
	find . \( "${prune[@]}" \) -prune -o -type f -printf '%P\n' | sort
}

# By its name, its first line, or what it tells shellcheck.
is_shell() {
	[[ $1 == *.sh ]] || sed 3q "$1" | grep -aqE '^#!.*[/ ](ba|da)?sh( |$)|^# shellcheck shell='
}

lint_shell() {
	shellcheck --format=gcc "$1"
}

# checkpatch.pl leaves a list of the names in include/ behind, where it runs.
lint_c() (
	cd "$TMP"
	perl "$checkpatch" --no-tree --root="$TMP" --strict --terse --show-types --max-line-length=115 \
		--ignore "$ignore" -f "$TOP/$1" | sed "s,^$TOP/,,"
)

# Are they those of bench/reference.json?
lint_figures() {
	bench/tables.sh --check
}

# What a tool prints is a finding, whatever it exits with.
lint() {
	local findings

	if findings=$("lint_$1" "$2" 2>&1 < /dev/null) && [[ ! $findings ]]; then
		passed=$((passed + 1))
	else
		say "${findings:-$2: error: the tool failed}"
		failed=$((failed + 1))
	fi
}

passed=0
failed=0
while read -r file; do
	case $file in
	*.[ch]) lint c "$file" ;;
	*) ! is_shell "$file" || lint shell "$file" ;;
	esac
done < <(own_files)
lint figures bench/README.md

say "$passed passed, $failed failed"
((!failed && passed))
