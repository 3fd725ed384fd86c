#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Fold what was edited and committed in build/<base>/linux back into the overlay and
# series/: from $MAIN, the shared patches; from another base, what differs there. The
# new state is built aside and checked against the working tree first; no file of the
# kernel tree is written, ever.

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
# shares the objects and checks out only the files in question, and what git says
# about functions in hunks.
squash() {
	local work=$TMP/work left

	SOURCE=$LINUX
	[[ $(kgit log --format=%s base.."$HEAD" | fixups) ]] || return 0

	SOURCE=$work
	git clone -q -s -n "$LINUX" "$work"
	kgit log --format= --name-only --no-renames base.."$HEAD" | sort -u | sed 's,^,/,; $a .gitattributes' |
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

slug() {
	tr '[:upper:]' '[:lower:]' <<< "$1" | sed -E 's/[^a-z0-9_]+/-/g; s/^-//; s/^(.{52}).*/\1/; s/-$//'
}

# Where a new file of the kernel tree goes: what is new on another base than $MAIN is
# its own.
place() {
	local own=series/$BASE/files/$1 path

	path=$(overlay_path "$1")
	if [[ -f $TOP/$own || ( $BASE != "$MAIN" && ! -f $TOP/$path ) ]]; then
		say "$own"
	else
		say "$path"
	fi
}

# Does one of the lines that follow say so?
among() {
	grep -qxF -- "$1" <<< "$2"
}

# fits PATCH COMMIT PATH: does the patch make of this file what the commit makes of it?
fits() {
	local -x GIT_INDEX_FILE=$TMP/one

	among "$3" "$(patch_paths "$1")" || return
	rm -f "$GIT_INDEX_FILE"
	git -C "$SOURCE" ls-tree "$2^" -- "$3" | git -C "$SOURCE" update-index --index-info
	git -C "$SOURCE" apply --cached --whitespace=nowarn --include="$3" "$1" 2> /dev/null &&
		git -C "$SOURCE" diff-index --cached --quiet "$2" -- "$3"
}

# write_patch COMMIT [SHARED OWN]: print the commit of new[] and hunks[] as a patch,
# without what the patch SHARED does as well: that may be all. What OWN, the base's
# patch until now, has stays as it is if it will do.
write_patch() {
	local commit=$1 shared=${2:-/dev/null} own=${3:-/dev/null} path log body files lines=''
	local -A keep=()
	local -a diffs=()

	[[ -f $shared ]] || shared=/dev/null
	[[ -f $own ]] || own=/dev/null
	log=$(git -C "$SOURCE" show -s --format='Subject: %s' "$commit")
	body=$(git -C "$SOURCE" show -s --format=%b "$commit")
	log+=${body:+$'\n\n'$body}
	[[ $log != "$(patch_log "$shared")" ]] || log=

	files=$(printf '%s\n' ${hunks[@]+"${hunks[@]}"})
	for path in ${new[@]+"${new[@]}"}; do
		path=$(place "$path")
		path=${path#"series/$BASE/files/"}
		files+=$'\n'$path
		among "$path" "$(patch_new "$shared")" || lines+="new: $path"$'\n'
	done
	for path in $(patch_new "$shared"; patch_paths "$shared"); do
		among "$path" "$files" || lines+="not: $path"$'\n'
	done
	for path in ${hunks[@]+"${hunks[@]}"}; do
		! fits "$shared" "$commit" "$path" || continue
		diffs+=("$path")
		! fits "$own" "$commit" "$path" || keep[$path]=1
	done

	[[ $log$lines || ${#diffs[@]} != 0 ]] || return 0
	printf '%s---\n%s' "${log:+$log$'\n\n'}" "$lines"
	((!${#diffs[@]})) || echo
	for path in ${diffs[@]+"${diffs[@]}"}; do
		if [[ ${keep[$path]-} ]]; then
			patch_section "$own" "$path"
		else
			git -C "$SOURCE" diff-tree -p --no-commit-id --no-color --no-renames \
				--no-ext-diff --no-textconv --binary -U3 --abbrev=12 \
				--diff-algorithm=myers --src-prefix=a/ --dst-prefix=b/ \
				"$commit" -- "$path"
		fi
	done
}

# same_files PATCH: does it touch what new[] and hunks[] have?
same_files() {
	local path

	diff -q <({
		patch_paths "$1"
		for path in $(patch_new "$1"); do
			kernel_path "$path"
		done
	} | sort) <(printf '%s\n' ${new[@]+"${new[@]}"} ${hunks[@]+"${hunks[@]}"} | sort) > /dev/null
}

# Write base..$HEAD as a series and an overlay below DIR.
export_series() {
	local dir=$1 commit path file subject body mode name i at=-1 n=0 extra=0 last='' patches
	local -A adder=() index=() taken=() renamed=()
	local -a new hunks old

	mkdir -p "$dir/series/$BASE"
	[[ $BASE == "$MAIN" ]] || cp -p "$TOP"/series/*.patch "$dir/series/"
	while read -r path; do
		adder[$path]=$(git -C "$SOURCE" log --reverse --no-renames --diff-filter=A \
			--format=%H base.."$HEAD" -- "$path" | sed -n 1p)
	done < <(git -C "$SOURCE" diff-tree -r --no-renames --diff-filter=A --name-only base "$HEAD")

	patches=$(compose "$TOP")
	mapfile -t old < <(list_patches "$TOP")
	for i in "${!old[@]}"; do
		index[$(patch_subject "$patches/${old[i]}")]=$i
	done
	while read -r subject; do
		[[ ! ${index[$subject]-} ]] || taken[${index[$subject]}]=1
	done < <(git -C "$SOURCE" log --format=%s base.."$HEAD")

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

		# A patch keeps the name it has; a new one is named for its subject. One with
		# another subject, but at the same place and with the same files, isn't new.
		i=${index[$subject]-$((at + 1))}
		name=${old[i]-}
		if [[ ! ${index[$subject]-} ]]; then
			[[ $name && ! ${taken[$i]-} ]] && same_files "$patches/$name" || name=
		fi
		[[ ! $name ]] || at=$i

		if [[ $BASE == "$MAIN" ]]; then
			path=$(slug "$subject").patch
			[[ ! ${index[$subject]-} ]] || path=${name#*-}
			((n += 1))
			path=$(printf '%04d' "$n")-$path
			[[ ! $name ]] || renamed[$name]=$path
			write_patch "$commit" > "$dir/series/$path"
		else
			path=$TOP/series/$BASE/$name
			if [[ -f $TOP/series/$name ]]; then
				[[ ! $name < $last ]] ||
					die "'$subject' is at another place than in series/" \
					    "git rebase -i it there, or move it with BASE=$MAIN"
				last=$name
				extra=0
			else
				((extra += 1))
				name=${name#*-}
				name=$(printf '%.4s.%02d' "${last:-0000}" "$extra")-${name:-$(slug "$subject").patch}
			fi
			renamed[$name]=1
			write_patch "$commit" "$dir/series/$name" "$path" > "$dir/series/$BASE/$name"
			[[ -s $dir/series/$BASE/$name ]] || rm "$dir/series/$BASE/$name"
		fi

		for path in ${new[@]+"${new[@]}"}; do
			mode=$(git -C "$SOURCE" ls-tree --format='%(objectmode)' "$HEAD" -- "$path")
			[[ $mode == 100* ]] ||
				die "$path is not a regular file" "take it out of '$subject'"
			file=$(place "$path")
			mkdir -p "$dir/${file%/*}"
			git -C "$SOURCE" cat-file blob "$HEAD:$path" > "$dir/$file"
			[[ $mode != 100755 ]] || chmod +x "$dir/$file"
		done
	done < <(git -C "$SOURCE" rev-list --reverse base.."$HEAD")

	if [[ $BASE == "$MAIN" ]]; then
		carry_over "$dir"
		return
	fi
	# What has no commit is left out on this base.
	for name in "${old[@]}"; do
		[[ ! ${renamed[$name]-} && -f $dir/series/$name ]] || continue
		{
			echo ---
			{ patch_new "$dir/series/$name"; patch_paths "$dir/series/$name"; } | sed 's/^/not: /'
		} > "$dir/series/$BASE/$name"
	done
}

# The other bases' own patches follow the shared ones: their names, or into nothing.
carry_over() {
	local dir=$1 base file name path to

	for file in "$TOP"/series/*/*.patch; do
		base=${file%/*}
		base=${base##*/}
		name=${file##*/}
		[[ -f $file && $base != "$BASE" ]] || continue
		to=${renamed[$name]-}
		if [[ ! $to && ! -f $TOP/series/$name ]]; then
			# One of that base alone stays behind the patch it's behind, unless $MAIN has it now.
			to=0000
			for path in "${old[@]}"; do
				[[ $path > ${name%%.*}-~ ]] || to=${renamed[$path]:-$to}
			done
			to=${to%%-*}.${name#*.}
			for path in "$dir"/series/[0-9][0-9][0-9][0-9]-"${name#*-}"; do
				[[ ! -f $path ]] || to=${path##*/}
			done
		fi
		[[ $to ]] || continue
		mkdir -p "$dir/series/$base"
		cp -p "$file" "$dir/series/$base/$to"
	done
}

# All that this base's refresh may remove.
list_all() {
	local own=

	[[ $BASE == "$MAIN" ]] || own=1
	(cd "$1" && find "series${own:+/$BASE}" -name '*.patch')
	list_own "$1"
	[[ $own ]] || list_overlay "$1"
}

# Nothing but renames and removals; the series in the kernel tree goes last.
install_series() {
	local dir=$1 file

	(cd "$dir" && find . -type f -printf '%P\n' | sort) > "$TMP/files"
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

# What the base has, with hashes; where a patch is and where its hunks are doesn't matter.
digest() {
	local patches name path

	patches=$(compose "$TOP")
	while read -r name; do
		{
			patch_log "$patches/$name"
			patch_new "$patches/$name"
			for path in $(patch_paths "$patches/$name"); do
				patch_content "$patches/$name" "$path"
			done
		} | sha256sum | sed "s/-$/${name#*-}/"
		for path in $(patch_new "$patches/$name"); do
			(cd "$TOP" && sha256sum "$(new_file . "$path")" 2> /dev/null) || true
		done
	done < <(list_patches "$TOP")
}

# Say what has changed for the other bases, too.
report_others() {
	local base list

	for base in $(list_bases | grep -vxF "$BASE"); do
		list=$({ diff "$TMP/before-$base" <(BASE=$base digest) || true; } | sed -n 's/^[<>] [^ ]* *//p' | sort -u)
		[[ ! $list ]] ||
			say "refresh: changes $base, too: ${list//$'\n'/ }"
		BASE=$base list_idle "$TOP"
	done
}

options 0 "" "$@"
need git
load_base
[[ -f $STATE ]] || die "there is no build/$BASE/linux" "run: make tree"
lock
load_state
TMP=$(mktemp -d "$BUILD/refresh.XXXXXX")
trap 'rm -rf "$TMP"' EXIT

# A new base has nothing of its own yet, but commits.
[[ $STATE_HASH != none || $BASE == "$MAIN" || $(kgit rev-parse HEAD) == "$STATE_COMMIT" ]] ||
	compgen -G "$TOP/series/$BASE/*.patch" > /dev/null ||
	STATE_HASH=$(hash_inputs "$TOP")
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

commit_edits
squash
export_series "$TMP/new"
check_series "$TMP/new"
build_series "$TMP/new"
[[ $(kgit rev-parse "$COMMIT^{tree}") == "$(git -C "$SOURCE" rev-parse "$HEAD^{tree}")" ]] ||
	die "the series written is not what build/$BASE/linux holds" "report this"

for base in $(list_bases | grep -vxF "$BASE"); do
	BASE=$base digest > "$TMP/before-$base"
done
trap '' INT TERM HUP
install_series "$TMP/new"
kgit reset -q "$COMMIT"
save_state "$(hash_inputs "$TOP")" "$COMMIT"
report_others
say "refresh: $(kgit rev-list --count base..series) patches, $({ list_own "$TOP"; list_overlay "$TOP"; } | wc -l) new files"
