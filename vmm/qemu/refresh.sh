#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# refresh.sh
#
# Write the commits of build/qemu-$QEMU/qemu-VERSION back into vmm/qemu: for
# $QEMU_MAIN the patches that all bases share, for another base those that differ.

. "$(dirname "$0")/../../scripts/lib.sh"
. "$TOP/vmm/qemu/lib.sh"

# As format-patch would, but nothing in it depends on who makes it, on when, or on the
# blobs of the base.
write_patch() {
	printf 'Subject: %s\n\n---\n\n' "$(qgit show -s --format=%B "$1" | git stripspace)" |
		sed '/^Signed-off-by: /d' | cat -s
	qgit diff-tree -p --no-renames --no-color --no-ext-diff --no-textconv \
		--diff-algorithm=myers -U3 --src-prefix=a/ --dst-prefix=b/ "$1^" "$1" | sed '/^index /d'
}

# Without what moves when the surroundings do.
content() {
	sed 's/^@@ .*/@@/' "$1"
}

options 0 "" "$@"
need git
load_qemu
[[ -f $QEMU_TREE/.git/relay ]] || die "there is no ${QEMU_TREE#"$TOP"/}" "run: make qemu QEMU=$QEMU"
qemu_lock
left=$(qemu_unfolded)
[[ -z $left || $left == commits* ]] || die "${QEMU_TREE#"$TOP"/} has $left" "commit, or undo it"
# For another base, it is $QEMU_MAIN that has changed the shared ones.
[[ $QEMU != "$QEMU_MAIN" || $(qemu_hash) == "$(head -n 1 "$QEMU_TREE/.git/relay")" ]] ||
	die "the patches have changed since the tree was made of them" \
	    "undo that, then run make qemu-refresh again"
[[ -z $(qgit rev-list --merges base..series) ]] || die "there are merges in the tree" "rebase them"

new=$(mktemp -d "$QEMU_BUILD/patches.XXXXXX")
trap 'rm -rf "$new"' EXIT
number=0
while read -r commit; do
	name=$(qgit show -s --format=%f "$commit" | tr '[:upper:]' '[:lower:]')
	number=$((number + 1))
	name=$(printf '%04d-%.52s' "$number" "$name")
	write_patch "$commit" > "$new/${name%-}.patch"
done < <(qgit rev-list --reverse base..series)

if [[ $QEMU == "$QEMU_MAIN" ]]; then
	# Patches of other bases follow theirs, by the subject.  Not to be stopped halfway.
	trap '' INT TERM HUP
	for own in "$QEMU_DIR"/*/*.patch; do
		[[ -f $own ]] || continue
		match=$(grep -lxF -e "$(head -n 1 "$own")" "$new"/*.patch || true)
		[[ $match ]] || { say "note: ${own#"$TOP"/} is of no patch any more"; continue; }
		[[ ${own##*/} == "${match##*/}" ]] || mv "$own" "${own%/*}/${match##*/}"
	done
	rm -rf "$QEMU_DIR/.new"
	mkdir "$QEMU_DIR/.new"
	cp "$new"/*.patch "$QEMU_DIR/.new/" || die "$QEMU_DIR can't be written (see above)" "free some space, run it again"
	rm -f "$QEMU_DIR"/*.patch
	mv "$QEMU_DIR/.new"/* "$QEMU_DIR/"
	rmdir "$QEMU_DIR/.new"
else
	[[ $(cd "$new" && printf '%s\n' *.patch) == "$(cd "$QEMU_DIR" && printf '%s\n' [0-9]*.patch)" ]] ||
		die "the patches of $QEMU have other names than those of $QEMU_MAIN" \
		    "make the same commits in both, $QEMU_MAIN first"
	rm -f "$QEMU_DIR/$QEMU"/*.patch
	for patch in "$new"/*.patch; do
		cmp -s <(content "$patch") <(content "$QEMU_DIR/${patch##*/}") ||
			cp "$patch" "$QEMU_DIR/$QEMU/"
	done
fi
printf '%s\n' "$(qemu_hash)" "$(qgit rev-parse series)" > "$QEMU_TREE/.git/relay"
say "qemu: $(qemu_patches | wc -l) patches, $(find "$QEMU_DIR/$QEMU" -name '*.patch' | wc -l) of them as of $QEMU alone"
