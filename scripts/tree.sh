#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Make build/<base>/linux: the pristine base kernel (tag base), then a commit per
# patch of the series (branch series). With "pristine", make build/<base>/pristine
# instead, a worktree of the same repository at the tag.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/series.sh"

# A repository with the base kernel as its only commit, renamed into place when
# it is complete.
make_base() {
	local new=$TMP/linux

	has_sha256 "$DEB" "$SHA256" ||
		die "${DEB##*/} is not in $CACHE" "run: make setup"
	need_disk 4 "$BUILD"

	say "tree: unpacking $PKG $VERSION"
	mkdir "$new"
	dpkg-deb --fsys-tarfile "$DEB" |
		tar -xO "./usr/src/$PKG.tar.xz" |
		tar -xJ -C "$new" --strip-components=1 ||
		die "$PKG $VERSION can't be unpacked into $BUILD (see above)" "free some space, or run: make setup"

	say "tree: committing it"
	(
		cd "$new"
		git init -q -b series
		git config gc.auto 0
		git config core.logAllRefUpdates true
		echo '/o-*/' > .git/info/exclude
		git add -f -A
		git commit-tree -m "Linux $(make -s kernelversion)" \
			-m "Debian's $PKG $VERSION, unchanged." "$(git write-tree)" > "$TMP/base"
		git tag base "$(< "$TMP/base")"
		git reset -q base
		printf '%s\n' none "$(< "$TMP/base")" "$SHA256" > ".git/${STATE##*/}"
	)
	[[ ! -e $LINUX ]] || mv "$LINUX" "$TMP/old"
	mv "$new" "$LINUX"
}

update_base() {
	if [[ -f $STATE ]]; then
		load_state
		[[ $STATE_DEB != "$SHA256" ]] || return 0
		[[ ${FORCE:-} || -z $(unfolded) ]] ||
			die "series/$BASE/base has changed and build/$BASE/linux has $(unfolded)" \
			    "save them elsewhere, then: make tree FORCE=1 (throws them away)"
	elif [[ -e $LINUX ]]; then
		die "build/$BASE/linux was not made by make tree" "move it away"
	fi
	make_base
	load_state
}

make_series() {
	local hash left

	hash=$(hash_inputs "$TOP")
	left=$(unfolded)
	if [[ $hash == "$STATE_HASH" && ! ${FORCE:-} ]]; then
		[[ -z $left ]] || left=", with $left: make refresh"
		say "tree: build/$BASE/linux is up to date$left"
		return
	fi
	[[ -z $left || ${FORCE:-} ]] ||
		die "the series or overlay changed and build/$BASE/linux has $left" \
		    "undo the former and make refresh, or make tree FORCE=1 (throws the latter away)"

	build_series "$TOP"
	# Both rewrite only the files that differ: a kernel build stays incremental.
	if [[ $left ]]; then
		rm -rf "$LINUX/.git/rebase-merge" "$LINUX/.git/rebase-apply"
		kgit checkout -q -f -B series "$COMMIT"
		kgit clean -q -f -d -x -e '/o-*/'
	else
		kgit reset -q --keep "$COMMIT"
	fi
	save_state "$hash" "$COMMIT"
	say "tree: build/$BASE/linux is $VERSION and $(kgit rev-list --count base..series) patches"
}

make_pristine() {
	local dir=$BUILD/pristine base

	base=$(kgit rev-parse 'base^{commit}')
	if [[ $(git -C "$dir" rev-parse -q --git-common-dir HEAD 2>/dev/null) == \
	      "$LINUX/.git"$'\n'"$base" ]]; then
		kgit -C "$dir" diff-index --quiet HEAD && return
		die "build/$BASE/pristine has edits" "move them to build/$BASE/linux, then: git reset --hard"
	fi
	say "tree: checking out the pristine kernel"
	rm -rf "$dir"
	kgit worktree prune
	kgit worktree add -q --detach "$TMP/pristine" base
	kgit worktree move "$TMP/pristine" "$dir"
}

options 1 "" "$@"
need git make gcc tar xz dpkg-deb
load_base
lock
TMP=$(mktemp -d "$BUILD/tree.XXXXXX")
trap 'rm -rf "$TMP"' EXIT

case ${args[0]:-series} in
series)
	check_series "$TOP"
	list_idle "$TOP"
	update_base
	make_series
	;;
pristine)
	update_base
	make_pristine
	;;
*)
	die "tree.sh: unknown argument ${args[0]}" "use series or pristine"
	;;
esac
