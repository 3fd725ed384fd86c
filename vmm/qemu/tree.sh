#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# tree.sh
#
# Make build/qemu-$QEMU/qemu-VERSION, a git repository: QEMU's source as Debian has
# it (tag base), fetched and verified by apt, then a commit per patch (branch
# series). FORCE=1 throws away edits that were made there.

. "$(dirname "$0")/../../scripts/lib.sh"
. "$TOP/scripts/apt.sh"
. "$TOP/vmm/qemu/lib.sh"

# Of all commits that are made here: the same patches make the same ones.
date='@1767225600 +0000'

fetch() {
	local known

	! has_sha256 "$TARBALL" "$SHA256" || return 0
	private_dir
	say "qemu: looking for $VERSION in $SUITE"
	find_suite deb-src "$SUITE" "${TARBALL##*/}"
	known=$(private_apt apt-cache showsrc qemu 2> /dev/null | sed -n 's/^Version: //p')
	grep -qxF -- "$VERSION" <<< "$known" ||
		die "$SUITE has no source of QEMU $VERSION any more, but ${known//$'\n'/ }" \
		    "put ${TARBALL##*/} into $CACHE, or change vmm/qemu/$QEMU/base"
	(cd "$APT" && private_apt apt-get source --download-only --tar-only "qemu=$VERSION") ||
		die "the mirror lists QEMU $VERSION but doesn't serve its source (see above)" \
		    "put ${TARBALL##*/} into $CACHE, or use QEMU= another of: $(qemu_bases)"
	has_sha256 "$APT/${TARBALL##*/}" "$SHA256" ||
		die "${TARBALL##*/} is not the file that vmm/qemu/$QEMU/base pins" \
		    "find out why before you change its sha256"
	mv "$APT/${TARBALL##*/}" "$TARBALL"
	rm -rf "$APT"
}

# What git ignores. The source has no firmware, but a build that sees bzip2 wants to know where
# the EDK II images are: they are not used, and empty files will do. build.sh adds a list of devices.
add_placeholders() {
	local image

	echo /configs/devices/x86_64-softmmu/relay.mak >> "$1/.git/info/exclude"
	while read -r image; do
		: > "$1/pc-bios/$image.bz2"
		echo "/pc-bios/$image.bz2" >> "$1/.git/info/exclude"
	done < <(sed -n "s/^ *'\(edk2-[a-z0-9_-]*\.fd\)',\$/\1/p" "$1/pc-bios/meson.build")
}

make_base() {
	local new

	need_disk 3 "$QEMU_BUILD"
	rm -rf "$QEMU_BUILD"/new.*
	new=$(mktemp -d "$QEMU_BUILD/new.XXXXXX")
	say "qemu: unpacking ${TARBALL##*/}"
	trap 'rm -rf "$QEMU_BUILD"/new.*' EXIT
	tar -xJf "$TARBALL" -C "$new" --strip-components=1 --no-same-owner ||
		die "${TARBALL##*/} can't be unpacked into $QEMU_BUILD (see above)" "free some space, run it again"
	git -C "$new" init -q -b series
	git -C "$new" config user.name hyperv-nested-relay
	git -C "$new" config user.email relay@localhost
	git -C "$new" config gc.auto 0
	git -C "$new" add -f -A
	GIT_AUTHOR_DATE="$date" GIT_COMMITTER_DATE="$date" git -C "$new" commit -q \
		-m "QEMU ${VERSION#*:}" -m "Debian's tarball, unchanged."
	git -C "$new" tag base
	add_placeholders "$new"
	printf '%s\n' none "$(git -C "$new" rev-parse HEAD)" > "$new/.git/relay"
	mv "$new" "$QEMU_TREE"
}

# In a temporary index, to touch only files that differ: the build is incremental.
make_series() {
	local hash left commit name patch
	local -x GIT_INDEX_FILE=$QEMU_TREE/.git/relay-index
	local -x GIT_AUTHOR_DATE=$date GIT_COMMITTER_DATE=$date

	hash=$(qemu_hash)
	left=$(unset GIT_INDEX_FILE && qemu_unfolded)
	if [[ $hash == "$(head -n 1 "$QEMU_TREE/.git/relay")" && ! ${FORCE:-} ]]; then
		say "qemu: ${QEMU_TREE#"$TOP"/} is up to date${left:+, with $left: make qemu-refresh}"
		return
	fi
	[[ -z $left || ${FORCE:-} ]] ||
		die "the patches changed and ${QEMU_TREE#"$TOP"/} has $left" \
		    "undo the former and make qemu-refresh, or make qemu FORCE=1 (throws the latter away)"

	commit=$(qgit rev-parse 'base^{commit}')
	qgit read-tree "$commit"
	while read -r name; do
		patch=$(qemu_patch "$name")
		sed -n '/^diff --git /,$p' "$patch" | qgit apply --cached --whitespace=nowarn 2> "$QEMU_BUILD/err" ||
			die "${patch#"$TOP"/} does not apply to QEMU $VERSION ($(head -n 1 "$QEMU_BUILD/err"))" \
			    "give this base a patch of its own, see vmm/qemu/README.md"
		commit=$(sed '/^---$/,$d; 1s/^Subject: //' "$patch" | git stripspace |
			qgit commit-tree "$(qgit write-tree)" -p "$commit")
	done < <(qemu_patches)
	rm -f "$GIT_INDEX_FILE"
	unset GIT_INDEX_FILE

	if [[ $left ]]; then
		rm -rf "$QEMU_TREE"/.git/rebase-{merge,apply}
		qgit checkout -q -f -B series "$commit"
		qgit clean -q -f -d
	else
		qgit checkout -q series
		qgit reset -q --keep "$commit"
	fi
	printf '%s\n' "$hash" "$commit" > "$QEMU_TREE/.git/relay"
	say "qemu: ${QEMU_TREE#"$TOP"/} is $VERSION and $(qgit rev-list --count base..series) patches"
}

options 0 "" "$@"
need git tar xz
load_qemu
qemu_lock
if [[ ! -d $QEMU_TREE ]]; then
	fetch
	make_base
fi
make_series
