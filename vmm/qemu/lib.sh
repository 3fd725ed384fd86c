# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# Sourced by the scripts here, after scripts/lib.sh: which QEMU, and its patches.
#
# A patch stands once, NNNN-<name>.patch, as of $QEMU_MAIN; <base>/NNNN-<name>.patch
# replaces it for a base to which it doesn't apply. It is a subject, a changelog,
# '---' and hunks, without blob ids.

QEMU_MAIN=10.2
QEMU=${QEMU:-10.0}
QEMU_DIR=$TOP/vmm/qemu
QEMU_BUILD=$TOP/build/qemu-$QEMU
# meson and pycotap, see build.sh
MESON_DIR=$CACHE/meson-1.7.0-1~bpo12+1

qemu_bases() {
	(cd "$QEMU_DIR" && printf '%s\n' */base | sed 's,/base$,,' | sort -V | paste -sd ' ')
}

# Set VERSION, SUITE, SHA256, TARBALL and QEMU_TREE, from the base's pin.
load_qemu() {
	local pin=$QEMU_DIR/$QEMU/base key value upstream

	[[ $QEMU != */* && -f $pin ]] ||
		die "no QEMU $QEMU in vmm/qemu" "use QEMU= one of: $(qemu_bases)"
	VERSION='' SUITE='' SHA256=''
	while IFS='=' read -r key value; do
		case $key in
		version) VERSION=$value ;;
		suite) SUITE=$value ;;
		sha256) SHA256=$value ;;
		'' | '#'*) ;;
		*) die "vmm/qemu/$QEMU/base: unknown key '$key'" "valid keys: version suite sha256" ;;
		esac
	done < "$pin"
	[[ $VERSION == *?-?* && $SUITE && $SHA256 =~ ^[0-9a-f]{64}$ ]] ||
		die "vmm/qemu/$QEMU/base lacks version, suite or sha256" "write KEY=VALUE there"

	upstream=${VERSION#*:}
	upstream=${upstream%-*}
	TARBALL=$CACHE/qemu_$upstream.orig.tar.xz
	# As in the tarball: the compiler's cache goes by the path from build directory to source.
	QEMU_TREE=$QEMU_BUILD/qemu-${upstream%+*}
}

qgit() {
	git -C "$QEMU_TREE" "$@"
}

qemu_lock() {
	mkdir -p "$QEMU_BUILD"
	exec 9> "$QEMU_BUILD/.lock"
	if ! flock -n 9; then
		say "waiting for another make in build/qemu-$QEMU"
		flock 9
	fi
}

qemu_python() {
	say "$MESON_DIR/usr/lib/python3/dist-packages"
}

# Names of the patches, in their order.
qemu_patches() {
	find "$QEMU_DIR" "$QEMU_DIR/$QEMU" -maxdepth 1 -name '*.patch' -printf '%f\n' | sort -u
}

# The file that has the patch for this base.
qemu_patch() {
	if [[ -f $QEMU_DIR/$QEMU/$1 ]]; then
		say "$QEMU_DIR/$QEMU/$1"
	else
		say "$QEMU_DIR/$1"
	fi
}

# A hash of what the commits are made from.
qemu_hash() {
	qemu_patches | while read -r name; do
		sha256sum < "$(qemu_patch "$name")"
	done | sha256sum | cut -d ' ' -f 1
}

# What the tree has that isn't in the patches, in a few words. .git/relay has the hash of
# the patches and the commit that they made.
qemu_unfolded() {
	local hash commit

	{ read -r hash && read -r commit; } < "$QEMU_TREE/.git/relay"
	if [[ -d $QEMU_TREE/.git/rebase-merge || -d $QEMU_TREE/.git/rebase-apply ]]; then
		say "a rebase in progress"
	elif [[ $(qgit rev-parse refs/heads/series HEAD | uniq) != "$commit" ]]; then
		say "commits that are not folded back"
	elif [[ $(qgit status --porcelain) ]]; then
		say "edits that are not committed"
	fi
}
