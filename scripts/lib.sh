# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# Sourced by every script: where things are, how to fail, a fixed environment.

set -euo pipefail
umask 022

# The same input must give the same commits and objects on every machine:
# neither the user's git configuration nor the locale may have a say.
export LC_ALL=C TZ=UTC
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX CDPATH

SCRIPT=$0
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# The base of the series for review, whose hunks the others share.
MAIN=7.3
BASE=${BASE:-$MAIN}
BUILD=$TOP/build/$BASE
LINUX=$BUILD/linux
CACHE=${XDG_CACHE_HOME:-}
[[ $CACHE == /* ]] || CACHE=~/.cache
CACHE=$CACHE/hyperv-nested-relay
STATE=$LINUX/.git/hyperv-nested-relay
# The capability's number in modules that hosts install: one that is in no danger of
# getting another meaning upstream. The review series has the next free one.
PRIVATE_NUMBER=0x4f564d52
DEB_RELEASE=${DEB_RELEASE:-2}
# L2 of the end-to-end run is of this base, whatever L0 is of: as a nested root, Linux 6.12
# posts its messages without the nested bit.
L2_BASE=7.3
L2_KERNEL=$TOP/build/$L2_BASE/lab/pristine-e2e-l2/bzImage
SPARSE=$CACHE/sparse-0.6.5~rc1/sparse
VMM_DIR=$CACHE/qemu-10.0.2+ds-2+deb13u1~bpo12+1
CBMC_DIR=$CACHE/cbmc-6.6.0-4

# A kernel is built in o-<config> inside its source tree, so compiler command
# lines hold no absolute path and ccache hits from any clone.
export CCACHE_DIR=$CACHE/ccache CCACHE_BASEDIR=$TOP/build CCACHE_NOHASHDIR=1
export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 2026'
export KBUILD_BUILD_USER=relay KBUILD_BUILD_HOST=lab
unset ARCH CROSS_COMPILE KBUILD_OUTPUT KCFLAGS KCPPFLAGS LOCALVERSION LLVM

say() {
	printf '%s\n' "$*"
}

# die CAUSE WAY-OUT: one line on stderr, then a nonzero exit.
die() {
	printf 'error: %s; %s\n' "$1" "$2" >&2
	exit 1
}

# The help of a script is its head, if it has no usage() of its own.
usage() {
	sed -n '3{/^#$/d}; 3,${ /^#/!q; s/^# \?//; p }' "$0"
}

# options MAX "NAME NAME: NAME+ ..." ARG...: a script's command line.  --NAME sets
# the variable NAME (with _ for -) to yes, or, with a colon, to its value; with +,
# it adds its value to the array NAME.  args[] gets the other arguments, MAX at most.
options() {
	local max=$1 known=" ${2//[[:space:]]/ } " long why words variable

	shift 2
	long=$(tr -s ' ' , <<< "help${known//+/:}")
	if ! words=$(getopt -o h -l "${long%,}" -- "$@" 2> /dev/null); then
		why=$(getopt -n '' -o h -l "${long%,}" -- "$@" 2>&1 > /dev/null | sed -n '1s/^: //p') || true
		die "$why" "see $SCRIPT --help"
	fi
	eval "set -- $words"
	while [[ $1 != -- ]]; do
		variable=${1#--} variable=${variable//-/_}
		case $1:$known in
		--help:* | -h:*)
			usage
			exit 0
			;;
		*" ${1#--}: "*) declare -g "$variable=$2" && shift ;;
		*" ${1#--}+ "*) eval "$variable+=(\"\$2\")" && shift ;;
		*) declare -g "$variable=yes" ;;
		esac
		shift
	done
	shift
	args=("$@")
	((${#args[@]} <= max)) || die "unexpected argument '${args[max]}'" "see $SCRIPT --help"
}

need() {
	local tool

	for tool; do
		type -P "$tool" >/dev/null ||
			die "$tool is not installed" "run: make setup"
	done
}

# is_left_out HOST TEST: does the base leave out this test, on that host at least?
is_left_out() {
	[[ " $WITHOUT " == *" $2 "* || " $WITHOUT " == *" $1/$2 "* ]]
}

list_bases() {
	(cd "$TOP/series" && printf '%s\n' */base | sed 's,/base$,,')
}

# Set PKG, VERSION, SUITE, SHA256, DEB, ALSO, MOVED and WITHOUT from series/$BASE/base.
# ALSO is a list of "VERSION SUITE SHA256": other versions of the package, for make deb.
# MOVED is a list of "FROM TO": the base has at TO what the overlay has at FROM.
# WITHOUT are upstream's tests that lab/plan names but the base doesn't have, or
# not on a host, as HOST/TEST.
load_base() {
	local pin=series/$BASE/base key value known

	[[ $TOP != *[[:space:]:]* ]] ||
		die "the path of this clone has a space or a colon, which a kernel build cannot take" \
		    "move it"
	if [[ $BASE == */* || ! -f $TOP/$pin ]]; then
		known=$(list_bases)
		die "no base kernel $BASE" "use BASE= one of: ${known//$'\n'/ }"
	fi

	PKG='' VERSION='' SUITE='' SHA256='' ALSO=() MOVED=() WITHOUT=''
	while IFS='=' read -r key value; do
		case $key in
		package) PKG=$value ;;
		version) VERSION=$value ;;
		suite) SUITE=$value ;;
		sha256) SHA256=$value ;;
		also)
			[[ $value =~ ^[A-Za-z0-9.+~:-]+' '[a-z-]+' '[0-9a-f]{64}$ ]] ||
				die "$pin: also=$value is not a version, a suite and a sha256" "write also=VERSION SUITE SHA256 there"
			ALSO+=("$value")
			;;
		moved)
			[[ $value =~ ^[a-z0-9_/]+[a-z0-9_]' '[a-z0-9_/]+[a-z0-9_]$ ]] ||
				die "$pin: moved=$value is not two directories" "write moved=FROM TO there"
			MOVED+=("$value")
			;;
		without) WITHOUT=$value ;;
		''|'#'*) ;;
		*) die "$pin: unknown key '$key'" "valid keys: package version suite sha256 also moved without" ;;
		esac
	done < "$TOP/$pin"

	for key in "package=$PKG" "version=$VERSION" "suite=$SUITE" "sha256=$SHA256"; do
		[[ $key =~ ^[a-z0-9]+=[A-Za-z0-9.+~:-]+$ ]] ||
			die "$pin: no valid ${key%%=*}" "write ${key%%=*}=VALUE there"
	done
	[[ $SHA256 =~ ^[0-9a-f]{64}$ ]] ||
		die "$pin: sha256 is not 64 hex digits" "copy it from: sha256sum FILE.deb"

	# The name apt gives the file: an epoch's colon is escaped.
	DEB=$CACHE/${PKG}_${VERSION/:/%3a}_all.deb
}

# All versions of the base's package that are pinned, with suite and sha256.
pins() {
	printf '%s\n' "$VERSION $SUITE $SHA256" ${ALSO[@]+"${ALSO[@]}"}
}

# pick_version VERSION: make it the version in the variables, if it is pinned. The beginning
# of its name will do.
pick_version() {
	local version suite sha256

	while read -r version suite sha256; do
		[[ $version == "$1" || $version == "$1"-* ]] || continue
		VERSION=$version SUITE=$suite SHA256=$sha256 DEB=$CACHE/${PKG}_${version/:/%3a}_all.deb
		return
	done < <(pins)
	return 1
}

has_sha256() {
	[[ -f $1 ]] && sha256sum --status -c - <<< "$2  $1"
}

build_l2_kernel() {
	BASE=$L2_BASE "$TOP/scripts/kernel.sh" --source pristine --config e2e-l2
}

# full_config NAME+...: what a kernel's configuration is called: all others go over lab.
full_config() {
	case $1 in
	lab | lab+* | e2e-l2 | e2e-l2+* | allmodconfig*) say "$1" ;;
	*) say "lab+$1" ;;
	esac
}

# private_number KVM.H: give the capability its private number there.
private_number() {
	local cap=KVM_CAP_NESTED_HYPERV_HCALL_RELAY

	! grep -qx "#define $cap $PRIVATE_NUMBER" "$1" || return 0
	sed -i "s/^#define $cap .*/#define $cap $PRIVATE_NUMBER/" "$1"
	grep -qx "#define $cap $PRIVATE_NUMBER" "$1" ||
		die "$1 does not define $cap" "the series has to"
}

# need_disk GB DIR: DIR need not exist yet.
need_disk() {
	local dir=$2 free

	while [[ ! -d $dir ]]; do
		dir=$(dirname "$dir")
	done
	free=$(df -Pk "$dir" | awk 'NR == 2 { print int($4 / 1048576) }')
	((free >= $1)) ||
		die "$free GB are free on the file system of $dir, $1 GB are needed" \
		    "free some space or move this clone"
}

# worktree DIR COMMIT: one more working tree of build/<base>/linux, if there is none.
worktree() {
	[[ ! -d $1 ]] || return 0
	git -C "$LINUX" worktree prune
	git -C "$LINUX" worktree add -q --detach "$1" "$2"
}

# Two makes at a time would build in the same directories.
lock() {
	mkdir -p "$BUILD"
	exec 9> "$BUILD/.lock"
	if ! flock -n 9; then
		say "waiting for another make in build/$BASE"
		flock 9
	fi
}

# logged LOG COMMAND...: show the errors of a build, not its output.
logged() {
	local log=$1

	shift
	mkdir -p "$(dirname "$log")"
	if ! "$@" > "$log" 2>&1 < /dev/null; then
		{
			grep -E -i 'error|undefined reference|\*\*\*' "$log" || tail -n 20 "$log"
		} | tail -n 20 >&2
		return 1
	fi
}
