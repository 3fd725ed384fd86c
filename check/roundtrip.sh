#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# roundtrip.sh --out DIR [--name NAME]
#
# Export the series with scripts/series-mail.sh for a made-up user, apply the
# mails with "git am" to the pristine base, and compare the outcome with the
# commits of build/<base>/linux.  DIR gets results.ktap and the mails.

. "$(dirname "$0")/../scripts/lib.sh"
. "$(dirname "$0")/../scripts/series.sh"
. "$TOP/lab/results.sh"

out=
name=series
options 0 "out: name:" "$@"
[[ $out ]] || die "roundtrip.sh: no --out" "name a directory for the results"

need git
load_base
[[ -f $STATE ]] || die "there is no build/$BASE/linux" "run: make tree"
load_state
mkdir -p "$out"
TMP=$(mktemp -d "$BUILD/roundtrip.XXXXXX")
trap 'rm -rf "$TMP"' EXIT

me='A. Test-Author <author@test.invalid>'
mails=$out/mails

# The mails for a user with these settings, each KEY VALUE; no others count.
export_mails() {
	local -a settings=("${@:2}")
	local i n=$((${#settings[@]} / 2))

	(
		unset GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL
		export GIT_CONFIG_COUNT=$n
		for ((i = 0; i < n; i++)); do
			export "GIT_CONFIG_KEY_$i=${settings[2 * i]}" "GIT_CONFIG_VALUE_$i=${settings[2 * i + 1]}"
		done
		"$TOP/scripts/series-mail.sh" --out "$1"
	)
}

# Only the files that the series touches, as for git am no others matter.
clone() {
	git clone -q -s -n "$LINUX" "$TMP/am" &&
	git -C "$LINUX" diff --name-only --no-renames base "$STATE_COMMIT" | sed 's,^,/,' |
		git -C "$TMP/am" sparse-checkout set --no-cone --stdin &&
	git -C "$TMP/am" checkout -q --detach base
}

apply() {
	clone && find "$mails" -name '*.patch' ! -name '*-cover-letter.patch' -print0 | sort -z |
		xargs -0 git -C "$TMP/am" am -q
}

trees() {
	git -C "$TMP/am" log --reverse --format='%T %s' "base..$1"
}

same_trees() {
	diff <(trees "$STATE_COMMIT") <(trees HEAD)
}

same_tree() {
	echo "$(git -C "$TMP/am" rev-parse 'HEAD^{tree}'), not $(kgit rev-parse "$STATE_COMMIT^{tree}")"
	[[ $(git -C "$TMP/am" rev-parse 'HEAD^{tree}') == "$(kgit rev-parse "$STATE_COMMIT^{tree}")" ]]
}

# Author, committer's sign-off as the last one, and changelog otherwise as it is.
same_messages() {
	diff <(git -C "$TMP/am" log --format="%B%n" "base..$STATE_COMMIT" | cat -s) \
	     <(git -C "$TMP/am" log --format="%B%n" base..HEAD | grep -vxF "Signed-off-by: $me" | cat -s)
}

signed_off() {
	git -C "$TMP/am" log --format='%an <%ae>: %(trailers:key=Signed-off-by,valueonly,separator=%x2C)' \
		base..HEAD > "$TMP/signed" &&
	grep -vxF "$me: $me" "$TMP/signed" && return 1
	[[ -s $TMP/signed ]]
}

addressed() {
	local mail

	for mail in "$mails"/*.patch; do
		if [[ $(git mailinfo /dev/null /dev/null < "$mail" | sed -n 's/^Author: //p') != "${me% <*}" ]] ||
		   ! grep -q '^To: .*@' <(sed '/^$/q' "$mail") ||
		   ! grep -q '[ :]kvm@vger\.kernel\.org' <(sed '/^$/q' "$mail"); then
			echo "${mail##*/} lacks From, To or the list"
			return 1
		fi
	done
}

# refused WORD SETTING...: one line that has WORD, and nothing left behind.
refused() {
	local word=$1

	shift
	! export_mails "$TMP/refused" "$@" > "$TMP/refusal" 2>&1 &&
	[[ $(wc -l < "$TMP/refusal") == 1 && $(< "$TMP/refusal") == "error: "*"$word"* && ! -e $TMP/refused ]]
}

rm -rf "$mails"
results_begin "$out/results.ktap" "$name"
result "the series is exported" export_mails "$mails" user.name "${me% <*}" user.email author@test.invalid
result "From, To and the list are in each mail" addressed
result "git am applies the mails to the pristine base" apply
result "git am gives the tree object of make tree" same_tree
result "each patch gives the tree of its commit" same_trees
result "changelogs arrive as they are" same_messages
result "author and Signed-off-by are the user" signed_off
result "no user.name is refused" refused user.name user.email author@test.invalid
result "no user.email is refused" refused user.email user.name "${me% <*}"
results_end
