#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# series-mail.sh [--out DIR] [--tested FILE]
#
# Export the patches as mails for "git send-email" into DIR, default
# build/<base>/series, as the series that series/parts has, one after the other:
# N-NAME-*.patch, with the cover letter of series/cover-letter.NAME.  What was in DIR
# is replaced.  From and Signed-off-by are user.name and user.email of the user's git
# configuration; To and Cc are the kernel's get_maintainer.pl's.
#
# In a cover letter, a line @testing@ becomes the figures of the "make test" that
# left FILE, if that was a complete run of this very tree, and a line @base@
# becomes what the patches apply to.

. "$(dirname "$0")/user.sh"
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/series.sh"

out=$BUILD/series
tested=
options 0 "out: tested:" "$@"
[[ $out ]] || die "--out is empty" "name a directory"

need git perl
[[ $user_name ]] ||
	die "git's user.name is not set: no From, no Signed-off-by" "git config --global user.name 'Your Name'"
[[ $user_email == *?@?* ]] ||
	die "git's user.email is not set: no From, no Signed-off-by" "git config --global user.email you@example.org"
[[ ! -e $out || -d $out ]] || die "$out is not a directory" "remove it"
[[ -z $(find "$out" -mindepth 1 ! -name '*.patch' -print -quit 2>/dev/null) ]] ||
	die "$out has files that are no patches" "give --out a directory of its own"
load_base
"$TOP/scripts/tree.sh"
load_state
left=$(unfolded)
[[ -z $left ]] || die "build/$BASE/linux has $left" "make refresh"
letter=$TOP/series/cover-letter

mkdir -p "$BUILD"
TMP=$(mktemp -d "$BUILD/series.XXXXXX")
trap 'rm -rf "$TMP"' EXIT

export GIT_AUTHOR_NAME=$user_name GIT_AUTHOR_EMAIL=$user_email
export GIT_COMMITTER_NAME=$user_name GIT_COMMITTER_EMAIL=$user_email
GIT_AUTHOR_DATE="@$(date +%s) +0000"
export GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE

# The series with the user as its author, in a clone that shares the objects.
make_commits() {
	local commit parent

	git clone -q -s -n "$LINUX" "$TMP/clone"
	parent=$(git -C "$TMP/clone" rev-parse 'base^{commit}')
	while read -r commit; do
		parent=$(git -C "$TMP/clone" show -s --format=%B "$commit" |
			git -C "$TMP/clone" commit-tree -p "$parent" "$commit^{tree}")
	done < <(git -C "$TMP/clone" rev-list --reverse "base..$STATE_COMMIT")
	git -C "$TMP/clone" update-ref refs/heads/mail "$parent"
}

# Set names[], and ends[] to each one's last commit.
read_parts() {
	local name subject

	names=() ends=()
	while read -r name subject; do
		[[ $name && $name != '#'* ]] || continue
		[[ -s $letter.$name ]] ||
			die "there is no series/cover-letter.$name" "write one: a subject, an empty line, text"
		names+=("$name")
		ends+=("$(git -C "$TMP/clone" log --format='%H %s' base..mail |
			awk -v subject="$subject" 'substr($0, index($0, " ") + 1) == subject { print $1 }')")
		[[ ${ends[-1]} ]] || die "series/parts: there is no patch '$subject'" "name the last one of $name"
	done < "$TOP/series/parts"
	[[ ${ends[-1]-} == "$(git -C "$TMP/clone" rev-parse mail)" ]] ||
		die "series/parts doesn't end with the last patch" "name it there"
}

# Set to_cc[] to format-patch's options for these patches.  To are those who look after KVM.
find_recipients() {
	local line address role

	rm -rf "$TMP/plain"
	git -C "$TMP/clone" format-patch -q -o "$TMP/plain" "$1"
	(cd "$LINUX" && perl scripts/get_maintainer.pl --no-git --no-git-fallback --nofixes \
		--rolestats "$TMP/plain"/*.patch) > "$TMP/recipients" 2> "$TMP/err" ||
		die "get_maintainer.pl failed ($(head -n 1 "$TMP/err"))" "run it on the patches by hand"
	to_cc=()
	while read -r line; do
		address=${line%%' ('*}
		role=${line#"$address ("}
		case $role in
		maintainer:*KVM* | supporter:*KVM* | reviewer:*KVM*) to_cc+=(--to="$address") ;;
		*) to_cc+=(--cc="$address") ;;
		esac
	done < "$TMP/recipients"
	((${#to_cc[@]})) || die "get_maintainer.pl names no one" "run it on the patches by hand"
}

testing() {
	local part='' tree='' counts=''

	if [[ -f $tested ]]; then
		{ read -r part tree && read -r counts; } < "$tested" || true
	fi
	if [[ $tree != "$(git -C "$TMP/clone" rev-parse 'mail^{tree}')" || $part != all ]]; then
		say "note: no complete 'make test' of this very tree: the cover letter has no figures" >&2
		return
	fi
	[[ $counts == *' 0 failed'* ]] || say "note: the last 'make test' had failures, see the cover letter" >&2
	echo "Upstream's Hyper-V and nested selftests on the base kernel and with the"
	echo "series, this series' selftest and KUnit tests, on $(date -r "$tested" +%F):"
	echo
	sed '1,2d; s/ \+[0-9]\+ s  /  /; s/^/  /' "$tested"
	echo "  in all: $counts"
	echo
	echo "Skipped are cases for the other vendor, for nested paging where the host or"
	echo "its module has none, and all that need nested virtualization with nested=0."
	echo "With fixes/*/pristine, a case passes if it fails, as there is no fix."
	[[ ! $WITHOUT ]] ||
		printf '%s\n' "So is, but in the sum only, what this base leaves out:" "  $WITHOUT"
}

base() {
	((!$1)) || cat <<-TEXT
	The series goes on top of "$(head -n 1 "$letter.${names[$1 - 1]}")",
	and together with that onto what follows.

	TEXT
	cat <<-TEXT
	It applies with "git am" to v$(make -s -C "$LINUX" kernelversion).  It was made and tested on
	Debian's source of that kernel, which has no public history, hence no
	base-commit: $PKG $VERSION.  The patches have full
	blob ids for "git am -3".

	base-tree: $(git -C "$TMP/clone" rev-parse "$2^{tree}")
	TEXT
}

# Of the part with this index, which goes on top of this commit.
fill_letter() {
	local line

	while IFS= read -r line; do
		case $line in
		@testing@) testing ;;
		@base@) base "$1" "$2" ;;
		'<!-- '*) ;; # around figures, see scripts/block.sh
		@*@) die "a cover letter has an unknown mark $line" "use @testing@ or @base@" ;;
		*) printf '%s\n' "$line" ;;
		esac
	done < "$letter.${names[$1]}" | cat -s
}

make_commits
read_parts
mkdir "$TMP/new"
from=base
for i in "${!names[@]}"; do
	find_recipients "$from..${ends[i]}"
	fill_letter "$i" "$from" > "$TMP/letter"
	git -C "$TMP/clone" branch -q -f part "${ends[i]}"
	rm -rf "$TMP/part"
	git -C "$TMP/clone" -c branch.part.description="$(< "$TMP/letter")" \
		format-patch -q -s --full-index --cover-letter --cover-from-description=subject \
		"${to_cc[@]}" -o "$TMP/part" "$from..part"
	for mail in "$TMP/part"/*.patch; do
		mv "$mail" "$TMP/new/$((i + 1))-${names[i]}-${mail##*/}"
	done
	from=${ends[i]}
done

mkdir -p "$(dirname "$out")"
rm -rf "$out"
mv "$TMP/new" "$out"
for i in "${!names[@]}"; do
	prefix=${out#"$TOP"/}/$((i + 1))-${names[i]}
	mails=("$out/$((i + 1))-${names[i]}"-*.patch)
	say "series: $((${#mails[@]} - 1)) patches and a cover letter; send them with: git send-email $prefix-*.patch"
done
