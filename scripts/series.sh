# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# Sourced by tree.sh and refresh.sh: the overlay and series/ read, and made into
# commits. A patch file, series/NNNN-<name>.patch, is
#
#	Subject: <subject>
#	<blank>
#	<body>
#	<blank>
#	---
#	new: <path>		a file it brings whole, from the overlay or, if it is
#				there, from series/<base>/files (any number)
#	<blank>
#	diff --git ...		hunks on files of the base kernel, as of $MAIN
#
# series/<base>/NNNN-<name>.patch is what differs on that base: all of it may be
# missing but '---'. A changelog replaces the shared one, and what it has for a path
# replaces what the shared patch has for that. Besides, it may have
#
#	not: <path>		a file that the patch doesn't touch on this base
#
# If there is no shared patch, it is one of that base alone: NNNN.NN-<name>.patch,
# behind the shared NNNN.
#
# The functions take the directory that holds series/ and the overlay.

OVERLAY=(arch Documentation include lib tools/testing)

export GIT_AUTHOR_NAME=hyperv-nested-relay GIT_AUTHOR_EMAIL=relay@localhost
export GIT_AUTHOR_DATE='@1767225600 +0000'
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
export GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE

kgit() {
	git -C "$LINUX" "$@"
}

# Their names: in series/, in series/<base>/ or in both.
list_patches() {
	find "$1/series" "$1/series/$BASE" -maxdepth 1 -name '*.patch' -printf '%f\n' | sort -u
}

# compose ROOT: print a new directory, with each patch as this base has it.
compose() {
	local dir name own shared

	dir=$(mktemp -d "$TMP/patches.XXXXXX")
	while read -r name; do
		own=$1/series/$BASE/$name
		shared=$1/series/$name
		[[ -f $own ]] || own=/dev/null
		[[ -f $shared ]] || shared=/dev/null
		awk 'FNR == 1 { mine = FILENAME == ARGV[1]; part = "log"; files++ }
		     part == "log" && $0 == "---" { part = "head"; dashes++; next }
		     part == "log" { log_of[mine] = log_of[mine] $0 "\n"; next }
		     /^diff --git / { part = "diff"; path = substr($3, 3) }
		     part == "head" { path = /^(new|not): / ? $2 : "" }
		     mine && path != "" { replaced[path] }
		     !mine && path in replaced || mine && part == "head" && /^not: / { next }
		     part == "head" && NF { head = head $0 "\n" }
		     part == "diff" { diff = diff $0 "\n" }
		     END {
			printf "%s", log_of[1] != "" ? log_of[1] : log_of[0]
			printf "%s%s%s", files == dashes ? "---\n" : "", head, diff != "" ? "\n" diff : ""
		     }' "$own" "$shared" > "$dir/$name"
	done < <(list_patches "$1")
	say "$dir"
}

# whose ROOT NAME [PATH]: the file to look at, for the patch or for what it has for PATH.
whose() {
	if [[ -f $1/series/$BASE/$2 ]] && { (($# < 3)) || patch_paths "$1/series/$BASE/$2" | grep -qxF -- "$3"; }; then
		say "series/$BASE/$2"
	else
		say "series/$2"
	fi
}

# The files that this base alone has.
list_own() {
	local dir=series/$BASE/files

	[[ ! -d $1/$dir ]] || (cd "$1" && find "$dir" ! -type d) | sort
}

list_overlay() {
	local dir

	for dir in "${OVERLAY[@]}"; do
		[[ ! -d $1/$dir ]] || (cd "$1" && find "$dir" ! -type d)
	done | sort
}

# new_file ROOT PATH: where the file of a "new: PATH" is, below ROOT.
new_file() {
	local own=series/$BASE/files/$2

	if [[ -f $1/$own ]]; then
		say "$own"
	else
		say "$2"
	fi
}

# Where this base has what is at PATH in the overlay, and the other way round.
kernel_path() {
	local path=$1 move

	for move in ${MOVED[@]+"${MOVED[@]}"}; do
		[[ $path != "${move% *}"/* ]] || path=${move#* }${path#"${move% *}"}
	done
	say "$path"
}

overlay_path() {
	local path=$1 move

	for move in ${MOVED[@]+"${MOVED[@]}"}; do
		[[ $path != "${move#* }"/* ]] || path=${move% *}${path#"${move#* }"}
	done
	say "$path"
}

# One hash over all that the commits are made from.
hash_inputs() {
	(
		((!${#MOVED[@]})) || printf '%s\n' "${MOVED[@]}"
		cd "$(compose "$1")" || exit
		list_patches "$1" | xargs -r sha256sum --
		cd "$1" || exit
		{
			list_own .
			list_overlay .
		} | while read -r file; do
			[[ -x $file ]] && printf 'x '
			sha256sum -- "$file"
		done
	) | sha256sum | cut -d ' ' -f 1
}

patch_subject() {
	sed -n '1s/^Subject: //p' "$1"
}

# All that is before '---'.
patch_log() {
	sed '/^---$/,$d' "$1"
}

patch_body() {
	awk 'NR > 2 { if ($0 == "---") exit; print }' "$1"
}

patch_new() {
	sed -n '/^---$/,/^diff /s/^new: *//p' "$1"
}

patch_not() {
	sed -n '/^---$/,/^diff /s/^not: *//p' "$1"
}

patch_diff() {
	sed -n '/^---$/,$p' "$1" | sed -n '/^diff --git /,$p'
}

patch_paths() {
	sed -n 's,^diff --git a/\([^ ]*\) .*,\1,p' "$1"
}

patch_section() {
	awk -v path="a/$2" '/^diff --git / { on = $3 == path } on' "$1"
}

# What it does to a file, wherever in it.
patch_content() {
	patch_section "$@" | sed '/^index /d; s/^@@ .*/@@/'
}

# The first line between '---' and the diff that does not belong there.
patch_stray() {
	awk '/^diff --git / { exit }
	     header && !/^(new: .*)?$/ { print; exit }
	     $0 == "---" { header = 1 }' "$1"
}

# Everything that can be said about the series without the base kernel.
check_series() {
	local root=$1 patches name patch path file dir ok
	local -A owner=()

	patches=$(compose "$root")
	while read -r name; do
		patch=$(whose "$root" "$name")
		[[ $(patch_subject "$patches/$name") && -z $(sed -n 2p "$patches/$name") ]] ||
			die "$patch does not start with 'Subject: ...' and an empty line" \
			    "see scripts/series.sh for the format"
		grep -qx -e '---' "$patches/$name" ||
			die "$patch has no '---' line after the changelog" \
			    "see scripts/series.sh for the format"
		path=$(patch_stray "$patches/$name")
		[[ -z $path ]] ||
			die "$patch has '$path' between '---' and the diff" \
			    "only 'new: <path>' lines belong there, and 'not: <path>' in series/<base>/"
		while read -r path; do
			ok=
			for dir in "${OVERLAY[@]}"; do
				[[ $path != "$dir"/* ]] || ok=1
			done
			[[ $ok && /$path/ != */../* ]] ||
				die "$patch: new: $path is outside of the overlay" \
				    "it has to be below one of: ${OVERLAY[*]}"
			[[ ! ${owner[$path]-} ]] ||
				die "$path is named by ${owner[$path]} and $patch" "name it in one patch only"
			file=$(new_file "$root" "$path")
			[[ -f $root/$file && ! -L $root/$file ]] ||
				die "$patch: new: $path, and there is no such file" \
				    "add the file or remove the line"
			owner[$path]=$patch
			owner[$file]=$patch
		done < <(patch_new "$patches/$name")
	done < <(list_patches "$root")

	# Other bases may have what this one leaves out.
	while read -r path; do
		owner[$path]+=.
	done < <(find "$root/series/$BASE" -maxdepth 1 -name '*.patch' | while read -r file; do patch_not "$file"; done)
	while read -r path; do
		[[ ${owner[$path]-} ]] ||
			die "$path is named by no patch of $BASE" \
			    "add 'new: ${path#series/"$BASE"/files/}' to the one that brings it, or remove the file"
	done < <(list_own "$root"; list_overlay "$root")
}

# Set COMMIT to the last commit of the series, built in a temporary index: no
# file of the working tree is touched.
build_series() {
	local root=$1 patches name patch path file mode blob
	local -x GIT_INDEX_FILE=$TMP/index

	COMMIT=$(kgit rev-parse --verify -q 'base^{commit}')
	kgit read-tree "$COMMIT"
	patches=$(compose "$root")
	while read -r name; do
		patch=$(whose "$root" "$name")
		patch_diff "$patches/$name" > "$TMP/diff"
		# A base may leave out all of a patch.
		[[ -s $TMP/diff || $(patch_new "$patches/$name") || $patch != "series/$BASE/$name" ]] || continue
		if [[ -s $TMP/diff ]] &&
		   ! kgit apply --cached --whitespace=nowarn "$TMP/diff" 2> "$TMP/err"; then
			path=$(sed -n 's/^error: \(.*\): patch does not apply$/\1/p
				s/^error: \(.*\): does not exist in index$/\1/p' "$TMP/err" | sed -n 1p)
			if [[ $path ]]; then
				patch=$(whose "$root" "$name" "$path")
				[[ $BASE == "$MAIN" || $patch == series/*/* ]] ||
					die "$patch does not apply to $path of $BASE" \
					    "give series/$BASE/$name its own diff for it, or 'not: $path'"
				die "$patch does not apply to $path" "correct its hunks for $PKG $VERSION"
			else
				die "$patch is not a valid diff ($(head -n 1 "$TMP/err"))" "correct it"
			fi
		fi
		while read -r path; do
			file=$root/$(new_file "$root" "$path")
			path=$(kernel_path "$path")
			kgit cat-file -e "base:$path" 2>/dev/null &&
				die "$patch: new: $path exists in the base kernel" \
				    "change it with a hunk in the patch"
			mode=100644
			[[ ! -x $file ]] || mode=100755
			blob=$(kgit hash-object -w --no-filters "$file")
			kgit update-index --add --cacheinfo "$mode,$blob,$path"
		done < <(patch_new "$patches/$name")

		kgit diff-index --cached --quiet "$COMMIT" &&
			die "$patch changes nothing" "give it a hunk or a 'new:' line, or remove it"
		COMMIT=$({
			patch_subject "$patches/$name"
			echo
			patch_body "$patches/$name"
		} | git stripspace | kgit commit-tree "$(kgit write-tree)" -p "$COMMIT")
	done < <(list_patches "$root")
}

# Say what series/<base>/ has without need: the shared patch has the same.
list_idle() {
	local name own shared path

	while read -r name; do
		own=series/$BASE/$name
		shared=series/$name
		[[ -f $1/$own && -f $1/$shared ]] || continue
		{
			[[ $(patch_log "$1/$own") != "$(patch_log "$1/$shared")" ]] || echo changelog
			patch_paths "$1/$own" | while read -r path; do
				[[ $(patch_content "$1/$own" "$path") != "$(patch_content "$1/$shared" "$path")" ]] ||
					say "$path"
			done
			patch_not "$1/$own" | grep -vxF -f <(patch_new "$1/$shared"; patch_paths "$1/$shared") || true
		} | sed "s|.*|note: & of $own is that of $shared: make refresh BASE=$BASE drops it|"
	done < <(list_patches "$1")
}

# STATE holds three lines: the hash of the inputs, the commit they made and the
# sha256 of the base's .deb.
load_state() {
	{ read -r STATE_HASH && read -r STATE_COMMIT && read -r STATE_DEB; } < "$STATE"
}

# save_state HASH COMMIT
save_state() {
	printf '%s\n' "$1" "$2" "$SHA256" > "$STATE.new"
	mv "$STATE.new" "$STATE"
}

# Files that git does not know; the kernel's own .gitignore hides most.
untracked() {
	kgit ls-files --others -x '/o-*/' -x __pycache__/ -x '*.rej' -x '*.orig' -x '*~' -x '.*.sw?'
}

# Say what of the working tree is not in the overlay, in a few words.
unfolded() {
	if [[ -d $LINUX/.git/rebase-merge || -d $LINUX/.git/rebase-apply ]]; then
		say "a rebase in progress"
	elif [[ $(kgit symbolic-ref -q HEAD) != refs/heads/series ]]; then
		say "another branch than series checked out"
	elif [[ $(kgit rev-parse HEAD) != "$STATE_COMMIT" ]]; then
		say "commits that are not folded back"
	elif [[ $(kgit status --porcelain -uno) || $(untracked) ]]; then
		say "edits that are not folded back"
	fi
}
