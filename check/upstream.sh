#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# upstream.sh [PACKAGE]
#
# Try the series on the newest kernel source that Debian has, in sid, experimental
# or trixie-backports, or on that of PACKAGE (linux-source-X.Y) there.  Prints what
# becomes of each patch: it applies, merges with what has moved, or conflicts, and
# in which files.  Fails if any conflicts: then it's time to look at it, and to
# rebase once that kernel is to be the base.  A newest kernel that is the base is
# tried all the same, for it must apply.  Works in build/<base>/upstream.

. "$(dirname "$0")/../scripts/lib.sh"
. "$TOP/scripts/apt.sh"

suites=(sid experimental trixie-backports)
options 1 "" "$@"
wanted=${args[0]:-}
[[ ! $wanted || $wanted =~ ^linux-source-[0-9.]+$ ]] ||
	die "'$wanted' is no kernel source package" "name one as linux-source-X.Y, or none for the newest"

need git tar xz dpkg-deb apt-get
load_base
[[ -d $LINUX ]] || die "there is no build/$BASE/linux" "run: make tree"
out=$BUILD/upstream
private_dir

# What a suite has: PACKAGE VERSION SUITE.
sources() (
	find_suite deb "$1" "a kernel source"
	private_apt apt-cache dumpavail | awk -v suite="$1" '
		$1 == "Package:" { package = $2 }
		$1 == "Version:" && package ~ /^linux-source-[0-9]/ { print package, $2, suite }'
)

for suite in "${suites[@]}"; do
	sources "$suite" || say "upstream: $suite is left out" >&2
done > "$APT/found"
read -r package version suite < <(grep "^${wanted:-.*} " "$APT/found" | sort -V -k 2 | tail -n 1) ||
	die "none of ${suites[*]} has ${wanted:-a kernel source}" "name another, or none for the newest"

deb=$CACHE/${package}_${version/:/%3a}_all.deb
if [[ ! -f $deb ]]; then
	say "upstream: downloading $package $version from $suite"
	find_suite deb "$suite" "${deb##*/}"
	(cd "$APT" && private_apt apt-get download "$package=$version") ||
		die "the download of $package failed (see above)" "run it again"
	mv "$APT/${deb##*/}" "$CACHE"
fi
say "upstream: $package $version, of $suite"

# Only the files that the series touches, as for git am no others matter.
rm -rf "$out"
mkdir -p "$out/mails"
git -C "$LINUX" diff --name-only --no-renames --diff-filter=M base series > "$APT/files"
dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$package.tar.xz" |
	tar -xJ -C "$out" --strip-components=1 -T <(sed "s,^,$package/," "$APT/files") 2> "$APT/log" || true
# A file of the series that isn't there is nothing to die of.
! grep -vE 'Not found in archive|Exiting with failure' "$APT/log" ||
	die "$deb can't be unpacked (see above)" "remove it, then run this again"

export GIT_AUTHOR_NAME=upstream GIT_AUTHOR_EMAIL=upstream@lab.invalid
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
git -C "$LINUX" format-patch -q --full-index -o "$out/mails" base..series
git init -q "$out"
echo "$(git -C "$LINUX" rev-parse --path-format=absolute --git-common-dir)/objects" > "$out/.git/objects/info/alternates"
git -C "$out" add -f -A . ':!mails'
git -C "$out" commit -q -m "$package $version"

# Conflicts stay in the tree, so that the next patch finds what it would.
fine=0
bad=0
for mail in "$out/mails"/*.patch; do
	what=applies
	if ! git -C "$out" am -q "$mail" > "$APT/am" 2>&1; then
		git -C "$out" am -q --abort
		what=merges
		if ! git -C "$out" am -q -3 "$mail" > "$APT/am" 2>&1; then
			what=$(git -C "$out" diff --name-only --diff-filter=U | paste -sd ' ')
			what="CONFLICTS in ${what:-$(sed -n 's/^error: //p' "$APT/am" | head -n 1)}"
			git -C "$out" add -f -A . ':!mails'
			git -C "$out" am -q --continue > "$APT/am" 2>&1 || git -C "$out" am -q --skip
		fi
	fi
	printf '%-70.70s %s\n' "$(basename "$mail" .patch)" "$what"
	[[ $what == CONFLICTS* ]] && bad=$((bad + 1)) || fine=$((fine + 1))
done
say "upstream: of $((fine + bad)) patches, $bad conflict with $package $version"
((!bad))
