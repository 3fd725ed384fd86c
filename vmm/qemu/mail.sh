#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mail.sh
#
# Export QEMU's series as mails for "git send-email" into build/qemu-$QEMU/series, with
# the cover letter of vmm/qemu/cover-letter.  From and Signed-off-by are user.name and
# user.email of the user's git configuration; To and Cc are QEMU's get_maintainer.pl's.

. "$(dirname "$0")/../../scripts/user.sh"
. "$(dirname "$0")/../../scripts/lib.sh"
. "$TOP/vmm/qemu/lib.sh"

options 0 "" "$@"
need git perl
[[ $user_name && $user_email == *?@?* ]] ||
	die "git's user.name or user.email is not set: no From, no Signed-off-by" \
	    "git config --global user.name 'Your Name', and user.email you@example.org"
load_qemu
"$TOP/vmm/qemu/tree.sh"
qemu_lock
left=$(qemu_unfolded)
[[ -z $left ]] || die "${QEMU_TREE#"$TOP"/} has $left" "make qemu-refresh QEMU=$QEMU"

tmp=$(mktemp -d "$QEMU_BUILD/mail.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export GIT_AUTHOR_NAME=$user_name GIT_AUTHOR_EMAIL=$user_email
export GIT_COMMITTER_NAME=$user_name GIT_COMMITTER_EMAIL=$user_email

# The same commits with the user as their author, in a clone that shares the objects.
git clone -q -s -n "$QEMU_TREE" "$tmp/clone"
parent=$(qgit rev-parse 'base^{commit}')
while read -r commit; do
	parent=$(qgit show -s --format=%B "$commit" |
		git -C "$tmp/clone" commit-tree -p "$parent" "$commit^{tree}")
done < <(qgit rev-list --reverse base..series)
git -C "$tmp/clone" update-ref refs/heads/mail "$parent"

git -C "$tmp/clone" format-patch -q -o "$tmp/plain" base..mail
to=()
while read -r address; do
	to+=(--to="$address")
done < <(cd "$QEMU_TREE" && perl scripts/get_maintainer.pl --no-git --no-git-fallback --no-rolestats \
	"$tmp/plain"/*.patch 2> "$tmp/err")
((${#to[@]})) || die "get_maintainer.pl names no one ($(head -n 1 "$tmp/err"))" "run it on the patches by hand"
git -C "$tmp/clone" -c branch.mail.description="$(< "$QEMU_DIR/cover-letter")" \
	format-patch -q -s --full-index --cover-letter --cover-from-description=subject \
	"${to[@]}" -o "$tmp/new" base..mail
rm -rf "$QEMU_BUILD/series"
mv "$tmp/new" "$QEMU_BUILD/series"
say "qemu: $(qgit rev-list --count base..series) patches and a cover letter in ${QEMU_BUILD#"$TOP"/}/series"
