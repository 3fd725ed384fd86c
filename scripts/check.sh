#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check.sh
#
# Check every patch of the series on its own, not only their sum: checkpatch,
# and a kernel build with both vendors as modules and one without
# CONFIG_KVM_HYPERV, with warnings as errors. Works in build/<base>/check.

. "$(dirname "$0")/lib.sh"

need git perl codespell
load_base
[[ -d $LINUX ]] || die "there is no build/$BASE/linux" "run: make tree"

src=$BUILD/check
out=$BUILD/check-results
mkdir -p "$out"
worktree "$src" base
dictionary=$(dpkg -L codespell | grep '/dictionary\.txt$') ||
	die "there is no dictionary in the package codespell" "run: make setup"
# Debian's python3 has the modules that checkpatch's helpers want.
PATH=/usr/bin:$PATH

# What checkpatch can't know here: the base is one commit, without history;
# "make series" adds the Signed-off-by.
ignore=MISSING_SIGN_OFF,UNKNOWN_COMMIT_ID,FILE_PATH_CHANGES
# As elsewhere in trace.h, and in the stubs of KVM's headers.
ignore+=,COMPLEX_MACRO,LINE_SPACING,MACRO_ARG_REUSE,PARENTHESIS_ALIGNMENT,OPEN_ENDED_LINE

checkpatch() {
	git -C "$src" format-patch -1 --stdout |
		(cd "$LINUX" && perl scripts/checkpatch.pl --strict --codespell \
			--codespellfile "$dictionary" --ignore "$ignore" --no-tree -) > "$log.checkpatch" 2>&1
}

build() {
	"$TOP/scripts/kernel.sh" --source check --config "$1" > "$log.$1" 2>&1
}

passed=0 failed=0
verdict() {
	local what=$1

	shift
	if "$@"; then
		passed=$((passed + 1))
		row+=" $(printf '%-14s' ok)"
	else
		failed=$((failed + 1))
		row+=" $(printf '%-14s' FAILED)"
		failures+=("${log#"$TOP"/}.$what")
	fi
}

failures=()
printf '%-10s %-14s %-14s %s\n' checkpatch lab+modules lab+nohyperv patch
while read -r commit; do
	git -C "$src" checkout -q --detach "$commit"
	log=$out/$(git -C "$src" show -s --format=%f)
	row=''
	verdict checkpatch checkpatch
	verdict lab+modules build lab+modules
	verdict lab+nohyperv build lab+nohyperv
	printf '%s %s\n' "${row# }" "$(git -C "$src" show -s --format=%s)"
done < <(git -C "$LINUX" rev-list --reverse base..series)

((!failed)) || printf 'see %s\n' "${failures[@]}"
say "$passed passed, $failed failed"
((!failed && passed))
