#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Fold what was edited and committed in build/<base>/linux back into the overlay
# and series/<base>/. The new state is built aside and checked against the
# working tree first; no file of the kernel tree is written, ever.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/series.sh"

# Commits base..HEAD that touch PATH, or the first that adds it if it is new.
owners() {
	if kgit cat-file -e "base:$1" 2>/dev/null; then
		kgit rev-list base..HEAD -- "$1"
	else
		kgit log --reverse --no-renames --diff-filter=A --format=%H base..HEAD -- "$1" |
			sed -n 1p
	fi
}

# Turn uncommitted edits into a fixup commit per patch, on top of HEAD.
commit_edits() {
	local path owner list
	local -A edits=()

	path=$(untracked | sed -n 1p)
	[[ -z $path ]] ||
		die "build/$BASE/linux has a new file $path" "git add -f and git commit it there, or remove it"

	while read -r -d '' path; do
		kgit cat-file -e "HEAD:$path" 2>/dev/null ||
			die "build/$BASE/linux has a new file $path" "git commit it there, or remove it"
		list=$(owners "$path")
		[[ $list ]] ||
			die "no patch touches $path" "git commit the edit in build/$BASE/linux"
		[[ $list != *$'\n'* ]] ||
			die "several patches touch $path" \
			    "git commit --fixup=<commit> the edit in build/$BASE/linux"
		edits[$list]+=$path$'\n'
	done < <(kgit diff --name-only --no-renames -z HEAD)

	HEAD=$(kgit rev-parse HEAD)
	((${#edits[@]})) || return 0
	local -x GIT_INDEX_FILE=$TMP/index
	kgit read-tree "$HEAD"
	for owner in "${!edits[@]}"; do
		printf %s "${edits[$owner]}" | kgit update-index --add --remove --stdin
		HEAD=$(kgit commit-tree -p "$HEAD" -m "fixup! $owner" "$(kgit write-tree)")
	done
}

fixups() {
	sed -n '/^\(fixup\|squash\|amend\)! /p'
}

# Melt fixup!, squash! and amend! commits into their targets, in a clone that
# shares the objects and checks out only the files in question.
squash() {
	local work=$TMP/work left

	SOURCE=$LINUX
	[[ $(kgit log --format=%s base.."$HEAD" | fixups) ]] || return 0

	SOURCE=$work
	git clone -q -s -n "$LINUX" "$work"
	kgit log --format= --name-only --no-renames base.."$HEAD" | sort -u | sed 's,^,/,' |
		git -C "$work" sparse-checkout set --no-cone --stdin
	git -C "$work" checkout -q --detach "$HEAD"
	GIT_SEQUENCE_EDITOR=: GIT_EDITOR=: git -C "$work" \
		rebase -q -i --autosquash --empty=drop base > "$TMP/log" 2>&1 ||
		die "the fixups do not apply to their commits ($(grep -m 1 CONFLICT "$TMP/log"))" \
		    "git rebase -i --autosquash base in build/$BASE/linux"
	git -C "$work" diff-tree --quiet "$HEAD" HEAD ||
		die "squashing the fixups gives other files" \
		    "git rebase -i --autosquash base in build/$BASE/linux"
	HEAD=$(git -C "$work" rev-parse HEAD)
	left=$(git -C "$work" log --format=%s base..HEAD | fixups)
	[[ -z $left ]] ||
		die "'${left%%$'\n'*}' has no commit to go into" "git rebase -i base in build/$BASE/linux"
}

# A patch keeps the name it has; a new one is named for its subject.
slug() {
	local subject=$1 patch name

	while read -r patch; do
		if [[ $(patch_subject "$TOP/$patch") == "$subject" ]]; then
			name=${patch##*/[0-9][0-9][0-9][0-9]-}
			say "${name%.patch}"
			return
		fi
	done < <(list_patches "$TOP")
	tr '[:upper:]' '[:lower:]' <<< "$subject" | sed -E 's/[^a-z0-9_]+/-/g; s/^-//; s/^(.{52}).*/\1/; s/-$//'
}

# Write base..$HEAD as a series and an overlay below DIR.
export_series() {
	local dir=$1 commit path file subject body patch mode n=0
	local -A adder=()
	local -a new hunks

	mkdir -p "$dir/series/$BASE"
	while read -r path; do
		adder[$path]=$(git -C "$SOURCE" log --reverse --no-renames --diff-filter=A \
			--format=%H base.."$HEAD" -- "$path" | sed -n 1p)
	done < <(git -C "$SOURCE" diff-tree -r --no-renames --diff-filter=A --name-only base "$HEAD")

	while read -r commit; do
		subject=$(git -C "$SOURCE" show -s --format=%s "$commit")
		body=$(git -C "$SOURCE" show -s --format=%b "$commit")
		new=()
		hunks=()
		while read -r path; do
			if kgit cat-file -e "base:$path" 2>/dev/null; then
				hunks+=("$path")
			elif [[ ${adder[$path]-} == "$commit" ]]; then
				new+=("$path")
			elif [[ ${adder[$path]-} ]]; then
				say "refresh: '$subject' changes $path: goes to the patch that adds it"
			fi
		done < <(git -C "$SOURCE" diff-tree -r --no-renames --no-commit-id --name-only "$commit")

		if ((!${#new[@]} && !${#hunks[@]})); then
			say "refresh: '$subject' has nothing left: dropped"
			continue
		fi
		! grep -qx -e '---' <<< "$body" ||
			die "the changelog of '$subject' has a line '---'" "git commit --amend it"

		((n += 1))
		patch=$dir/series/$BASE/$(printf '%04d' "$n")-$(slug "$subject").patch
		{
			printf 'Subject: %s\n\n' "$subject"
			[[ -z $body ]] || printf '%s\n\n' "$body"
			echo ---
			for path in ${new[@]+"${new[@]}"}; do
				[[ -f $TOP/series/$BASE/files/$path ]] || path=$(overlay_path "$path")
				printf 'new: %s\n' "$path"
			done
			if ((${#hunks[@]})); then
				echo
				git -C "$SOURCE" diff-tree -p --no-commit-id --no-color --no-renames \
					--no-ext-diff --no-textconv --binary -U3 --abbrev=12 \
					--diff-algorithm=myers --src-prefix=a/ --dst-prefix=b/ \
					"$commit" -- "${hunks[@]}"
			fi
		} > "$patch"

		for path in ${new[@]+"${new[@]}"}; do
			mode=$(git -C "$SOURCE" ls-tree --format='%(objectmode)' "$HEAD" -- "$path")
			[[ $mode == 100* ]] ||
				die "$path is not a regular file" "take it out of '$subject'"
			file=$(new_file "$TOP" "$path")
			[[ $file != "$path" ]] || file=$(overlay_path "$path")
			mkdir -p "$dir/${file%/*}"
			git -C "$SOURCE" cat-file blob "$HEAD:$path" > "$dir/$file"
			[[ $mode != 100755 ]] || chmod +x "$dir/$file"
		done
	done < <(git -C "$SOURCE" rev-list --reverse base.."$HEAD")
}

list_all() {
	list_patches "$1"
	list_own "$1"
	list_overlay "$1"
}

# Nothing but renames and removals; the series in the kernel tree goes last.
install_series() {
	local dir=$1 file

	while read -r file; do
		cmp -s "$dir/$file" "$TOP/$file" &&
			[[ $(stat -c %a "$dir/$file") == "$(stat -c %a "$TOP/$file")" ]] && continue
		mkdir -p "$TOP/${file%/*}"
		mv "$dir/$file" "$TOP/$file"
		say "refresh: wrote $file"
	done < "$TMP/files"
	while read -r file; do
		rm "$TOP/$file"
		rmdir -p --ignore-fail-on-non-empty "$TOP/${file%/*}"
		say "refresh: removed $file"
	done < <(list_all "$TOP" | grep -vxF -f "$TMP/files")
}

need git
load_base
[[ -f $STATE ]] || die "there is no build/$BASE/linux" "run: make tree"
lock
load_state
# A new base has no series yet.
[[ $STATE_HASH != none || $(list_patches "$TOP") ]] || STATE_HASH=$(hash_inputs "$TOP")
[[ $STATE_DEB == "$SHA256" && $STATE_HASH == "$(hash_inputs "$TOP")" ]] ||
	die "diverged: the series or overlay changed since build/$BASE/linux was made" \
	    "undo that, or keep the work there on a branch, make tree FORCE=1, cherry-pick it"
[[ ! -d $LINUX/.git/rebase-merge && ! -d $LINUX/.git/rebase-apply ]] ||
	die "a rebase is in progress in build/$BASE/linux" "finish or abort it"
[[ $(kgit symbolic-ref -q HEAD) == refs/heads/series ]] ||
	die "build/$BASE/linux is not on branch series" "git checkout series there"
kgit merge-base --is-ancestor base HEAD ||
	die "branch series of build/$BASE/linux does not start at tag base" "git rebase it onto base"
[[ -z $(kgit rev-list --merges base..HEAD) ]] ||
	die "build/$BASE/linux has merges" "git rebase base there"

TMP=$(mktemp -d "$BUILD/refresh.XXXXXX")
trap 'rm -rf "$TMP"' EXIT

commit_edits
squash
export_series "$TMP/new"
check_series "$TMP/new"
build_series "$TMP/new"
[[ $(kgit rev-parse "$COMMIT^{tree}") == "$(git -C "$SOURCE" rev-parse "$HEAD^{tree}")" ]] ||
	die "the series written is not what build/$BASE/linux holds" "report this"

list_all "$TMP/new" > "$TMP/files"
trap '' INT TERM HUP
install_series "$TMP/new"
kgit reset -q "$COMMIT"
save_state "$(hash_inputs "$TOP")" "$COMMIT"
say "refresh: $(kgit rev-list --count base..series) patches, $({ list_own "$TOP"; list_overlay "$TOP"; } | wc -l) new files"
