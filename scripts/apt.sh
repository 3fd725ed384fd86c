# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sourced by what downloads from Debian's archive: private_dir, find_suite, then
# private_apt as often as need be. All of it is in a directory that is gone at exit.

# apt with nothing of the machine's own state: apt verifies the download against
# Debian's keyring, and the machine's sources and lists stay as they are.
private_apt() {
	local cmd=$1

	shift
	# As root, apt would drop to a user that cannot read $APT.
	"$cmd" -qq -o APT::Sandbox::User=root \
		-o Dir::Etc::sourcelist="$APT/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o Dir::State::lists="$APT/lists" -o Dir::State::status=/dev/null \
		-o Dir::Cache="$APT/cache" "$@"
}

private_dir() {
	{ mkdir -p "$CACHE" && APT=$(mktemp -d "$CACHE/apt.XXXXXX"); } ||
		die "$CACHE can't be written (see above)" "free some space, or set XDG_CACHE_HOME"
	trap 'rm -rf "$APT"' EXIT
}

# mirrors SUITE: the archives this machine uses, from apt; with no lists here yet,
# apt first has to look, which needs no root in a private directory. Security
# updates have an archive of their own.
mirrors() {
	local -a own=(-qq -o APT::Sandbox::User=root)
	local list

	list=$(apt-get "${own[@]}" indextargets --format "\$(REPO_URI)" "Created-By: Packages")
	if [[ -z $list ]]; then
		own+=(-o Dir::State::lists="$APT/own")
		apt-get "${own[@]}" update >&2
		list=$(apt-get "${own[@]}" indextargets --format "\$(REPO_URI)" "Created-By: Packages")
	fi
	awk -v security="$([[ $1 != *-security ]] || echo 1)" \
		'/security/ == !!security && !seen[$0]++' <<< "$list"
}

# find_suite TYPE SUITE FILE: update the private lists from the first mirror that
# has the suite, where TYPE is deb or deb-src and FILE is what is wanted from it:
# the name of a file may be put into the cache by hand, that of a package may not.
find_suite() {
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg uri way="check the network and /etc/apt"

	[[ $3 != *.deb && $3 != *.tar.* ]] || way+=", or put $3 into $CACHE"
	mkdir -p "$APT/lists/partial" "$APT/own/partial" "$APT/cache/archives/partial"
	while read -r uri; do
		[[ $uri ]] || continue
		printf '%s [arch=amd64 signed-by=%s] %s %s main\n' \
			"$1" "$keyring" "$uri" "$2" > "$APT/sources.list"
		# Without Error-Mode a stale or missing index is only a warning.
		private_apt apt-get -o APT::Update::Error-Mode=any update >> "$APT/log" 2>&1 &&
			return
	done < <(mirrors "$2" 2>> "$APT/log")

	die "no mirror of this machine serves $2, for $3 ($(grep -m 1 '^E:' "$APT/log" || echo 'apt knows none'))" \
	    "$way"
}
