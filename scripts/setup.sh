#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Install the Debian packages the project needs and fetch the base kernel's
# source, and the three tools that Debian 12 has not, or too old. Assumes no more than bash,
# coreutils and apt.
#
# With FOR=deb, only what "make deb" needs, for the kernel of KERNEL= if that is pinned.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/apt.sh"

options 0 "" "$@"

# For make check: sparse, from the source package of another suite. SPARSE of
# lib.sh is named for the version.
sparse_suite=forky
sparse_sha256=3ac8855ec7f3ab92f325be0f64347ccc2b10f8b4d7c2906783ee8e2bdab3f0de

# For make e2e: the QEMU that runs inside the emulated hosts, and its firmware. It
# is unpacked, not installed: the emulated AMD host stays what it is. VMM_DIR of
# lib.sh is named for the version. Package, version, architecture, sha256:
vmm_suite=bookworm-backports
vmm_packages() {
	cat <<-'LIST'
	qemu-system-x86 1:10.0.2+ds-2+deb13u1~bpo12+1 amd64 4a6b1856c8b0d7df4ff8e70249e12c473ccf8d516aadb4ae14d3d938faed0c65
	qemu-system-data 1:10.0.2+ds-2+deb13u1~bpo12+1 all 2d831088187087013b3fcbd19bdfb955b182a2d5a08f6dafa0ad1c6d2007fb4e
	seabios 1.16.3-2~bpo12+1 all 48390d0a534c66d11789e39518aa219773a9d3677b29fe1af8799dfb563ec713
	LIST
}

# For make prove: CBMC, which Debian 12 does not have, with the libraries that it was
# built for, of the same Debian 13: it is started by their loader. CBMC_DIR of lib.sh
# is named for its version.
cbmc_suite=trixie
cbmc_packages() {
	cat <<-'LIST'
	cbmc 6.6.0-4 amd64 02560859a17049c976961c232c4fc58f0747b57f9b751a466b1f368a438b0e41
	libc6 2.41-12+deb13u5 amd64 b59b0625cd1a791375d40dab23a4d5d3d0641e3d0a773501becdc3725b7f99cf
	libgcc-s1 14.2.0-19 amd64 3c71917b490d1a17aed43196a2787a256ecf060526cdb20216a74bedc061b150
	libstdc++6 14.2.0-19 amd64 ab1fa05837aa7a92aae748fd07a18a35f7d18bb4a71c4724fe2bbf0e32089de0
	minisat 1:2.2.1-8 amd64 0b3a870202e022bea8b04d140ded40d9137363566706750b4540518bc0eb63d7
	zlib1g 1:1.3.dfsg+really1.3.1-1+deb13u1 amd64 8c27c342230503b73dfde629642c3b352e87b554e06d60cf58772f236a305ceb
	LIST
}

# The one list of what has to be installed, and what for.
packages() {
	sed 's/ *#.*//' <<-'LIST'
	gcc				# kernel, selftests, the lab's init
	libc6-dev			# the same; not implied by gcc
	make flex bison bc		# kernel
	libelf-dev libssl-dev		# kernel: objtool, certs
	perl python3 kmod cpio		# kernel: scripts, modules, initramfs
	ccache				# a second build takes a minute, not five
	git patch rsync			# the tree and its worktrees, headers_install
	xz-utils file			# kernel source, bzImage
	jq				# bench: its figures
	codespell python3-ply		# make check: checkpatch
	clang-19 lld-19 llvm-19		# make check: the kernel wants 17 or newer
	coccinelle			# make check: coccicheck
	python3-sphinx			# make check: the kernel's documentation
	rustc				# the example in Rust of vmm/example
	shellcheck			# make lint
	debian-archive-keyring		# verifies the kernel source
	qemu-system-x86			# the emulated AMD host (TCG)
	bochs bochs-term		# the emulated Intel and second AMD host; a GUI
					# package is a must, this is the smallest
	bochsbios vgabios		# their firmware
	isolinux syslinux-common	# their boot loader
	xorriso				# their boot medium
	socat				# make shell: its terminal
	lcov busybox-static		# make coverage
	mmdebstrap lintian pahole	# make test-deb
	LIST
	deb_packages
}

# What make deb needs, and no more.
deb_packages() {
	sed 's/ *#.*//' <<-'LIST'
	make git xz-utils		# KVM's source, the series
	gcc libc6-dev			# the preload library
	dpkg-dev debhelper		# the packages
	debian-archive-keyring		# verifies the kernel source
	LIST
}

install_packages() {
	local -a want missing=() root=()
	local pkg

	mapfile -t want < <("${FOR:+${FOR}_}packages" | xargs -n 1 | sort -u)
	for pkg in "${want[@]}"; do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$pkg" 2>/dev/null) == installed ]] ||
			missing+=("$pkg")
	done
	if ((!${#missing[@]})); then
		say "packages: all ${#want[@]} are installed"
		return
	fi

	if ((EUID)); then
		# Without a terminal sudo must not ask for a password.
		if ! type -P sudo >/dev/null || ! { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
			die "missing packages, and no root or sudo to install them" \
			    "as root: apt-get install ${missing[*]}"
		fi
		root=(sudo)
	fi
	root+=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)

	say "packages: installing ${missing[*]}"
	logged "$CACHE/install.log" "${root[@]}" update ||
		die "apt-get update failed" "see $CACHE/install.log, then run make setup again"
	logged "$CACHE/install.log" "${root[@]}" -y --no-install-recommends install "${missing[@]}" ||
		die "apt-get install failed" "see $CACHE/install.log, then run make setup again"
}

# The pinned version is not to be had: say which one is.
offer_newest() {
	local record version sha256

	record=$(private_apt apt-cache show --no-all-versions "$PKG" 2>/dev/null) || true
	version=$(sed -n 's/^Version: //p' <<< "$record")
	sha256=$(sed -n 's/^SHA256: //p' <<< "$record")
	[[ $version ]] ||
		die "$PKG is no longer in $SUITE on the mirror" \
		    "put ${DEB##*/} into $CACHE, or use another BASE"
	[[ ! ${picked-} ]] ||
		die "$PKG $VERSION is no longer on the mirror, which has $version" \
		    "to take that, write also=$version $SUITE $sha256 into series/$BASE/base"
	die "$PKG $VERSION is no longer on the mirror, which has $version" \
	    "to take that, write version=$version and sha256=$sha256 into series/$BASE/base"
}

fetch_source() {
	if has_sha256 "$DEB" "$SHA256"; then
		say "source: $PKG $VERSION is in $CACHE"
		return
	fi
	[[ ! -e $DEB ]] || say "source: $DEB is damaged, fetching it again"

	private_dir
	say "source: looking for $PKG $VERSION in $SUITE"
	find_suite deb "$SUITE" "${DEB##*/}"
	private_apt apt-cache madison "$PKG" 2>/dev/null |
		awk -F ' *[|] *' -v v="$VERSION" '$2 == v { found = 1 } END { exit !found }' ||
		offer_newest

	say "source: downloading ${DEB##*/}"
	(cd "$APT" && private_apt apt-get download "$PKG=$VERSION") ||
		die "the download of $PKG $VERSION failed (see above)" "run make setup again"
	has_sha256 "$APT/${DEB##*/}" "$SHA256" ||
		die "$PKG $VERSION is not the file that series/$BASE/base pins" \
		    "find out why before you change its sha256"
	mv "$APT/${DEB##*/}" "$DEB"
	say "source: verified, now in $CACHE"
}

# In a subshell, as nothing but make check needs it: what is not to be had there
# must not stop the rest.
fetch_sparse() (
	local version=${SPARSE%/*} tarball

	version=${version##*/sparse-}
	tarball=$CACHE/sparse_$version.orig.tar.gz
	if [[ -x $SPARSE ]]; then
		say "sparse: $version is in $CACHE"
		return
	fi

	private_dir
	if ! has_sha256 "$tarball" "$sparse_sha256"; then
		say "sparse: looking for $version in $sparse_suite"
		find_suite deb-src "$sparse_suite" "${tarball##*/}"
		(cd "$APT" && private_apt apt-get source --download-only --tar-only sparse) ||
			die "the download of sparse failed (see above)" "run make setup again"
		has_sha256 "$APT/${tarball##*/}" "$sparse_sha256" ||
			die "$sparse_suite has no sparse $version any more, or another file by that name" \
			    "put ${tarball##*/} into $CACHE, or change version and sha256 in scripts"
		mv "$APT/${tarball##*/}" "$tarball" || die "$tarball can't be written" "free some space, run make setup again"
	fi

	mkdir "$APT/build"
	tar -xzf "$tarball" -C "$APT/build" --strip-components=1 ||
		die "${tarball##*/} can't be unpacked (see above)" "free some space, run make setup again"
	logged "$CACHE/sparse.log" make -C "$APT/build" -j"$(nproc)" \
		HAVE_SQLITE=no HAVE_LLVM=no HAVE_GTK=no HAVE_LIBXML=no sparse ||
		die "sparse does not build" "see $CACHE/sparse.log"
	mkdir -p "${SPARSE%/*}"
	mv "$APT/build/sparse" "$SPARSE" || die "$SPARSE can't be written" "free some space, run make setup again"
	say "sparse: $version built, now in $CACHE"
)

# unpack LABEL SUITE: the packages of the list on stdin, verified, into $APT/unpacked.
unpack() {
	local package version arch sha256 file

	private_dir
	mkdir "$APT/unpacked"
	while read -r package version arch sha256; do
		file=${package}_${version/:/%3a}_$arch.deb
		if ! has_sha256 "$CACHE/$file" "$sha256"; then
			[[ -s $APT/sources.list ]] || find_suite deb "$2" "$file"
			say "$1: downloading $file"
			(cd "$APT" && private_apt apt-get download "$package=$version") ||
				die "$2 has no $package $version any more (see above)" \
				    "put $file into $CACHE, or pin another version in scripts/setup.sh"
			has_sha256 "$APT/$file" "$sha256" ||
				die "$package $version is not the file that scripts/setup.sh pins" \
				    "find out why before you change its sha256"
			mv "$APT/$file" "$CACHE/$file" ||
				die "$CACHE/$file can't be written" "free some space, run make setup again"
		fi
		dpkg-deb -x "$CACHE/$file" "$APT/unpacked" ||
			die "$CACHE/$file can't be unpacked (see above)" "run make setup again"
	done
}

# The libraries that it needs are those of the QEMU that is installed, of Debian 12.
fetch_vmm() (
	local missing

	if [[ -x $VMM_DIR/usr/bin/qemu-system-x86_64 ]]; then
		say "vmm: ${VMM_DIR##*/} is in $CACHE"
		return
	fi

	unpack vmm "$vmm_suite" < <(vmm_packages)

	missing=$(ldd "$APT/unpacked/usr/bin/qemu-system-x86_64" | awk '/not found/ { print $1 }' | paste -sd ' ')
	[[ ! $missing ]] ||
		die "QEMU 10 lacks libraries here: $missing" "use Debian 12, whose qemu-system-x86 has them"
	mv "$APT/unpacked" "$VMM_DIR" || die "$VMM_DIR can't be written" "free some space, run make setup again"
	say "vmm: verified and unpacked, now in $CACHE"
)

fetch_cbmc() (
	if [[ -x $CBMC_DIR/usr/bin/cbmc ]]; then
		say "cbmc: ${CBMC_DIR##*/} is in $CACHE"
		return
	fi

	unpack cbmc "$cbmc_suite" < <(cbmc_packages)
	mv "$APT/unpacked" "$CBMC_DIR" || die "$CBMC_DIR can't be written" "free some space, run make setup again"
	say "cbmc: verified and unpacked, now in $CACHE"
)

type -P apt-get dpkg-query >/dev/null ||
	die "this machine has no apt" "use Debian 12 or newer"
[[ $(uname -m) == x86_64 ]] ||
	die "this is a $(uname -m) machine" "use an x86_64 one"
case ${FOR:-} in
'' | deb) ;;
*) die "FOR=$FOR is unknown" "use FOR=deb, or nothing for all" ;;
esac
load_base
if [[ ${FOR:-} ]]; then
	install_packages
	[[ ! ${KERNEL:-} ]] || ! pick_version "$KERNEL" || picked=1
	# A kernel of the operator's own needs no other.
	[[ ! -e ${KERNEL:-} ]] || exit 0
	fetch_source
	say "setup: done; next: make deb BASE=$BASE${KERNEL:+ KERNEL=$KERNEL}"
	exit
fi
[[ -d $LINUX ]] || need_disk 12 "$BUILD"
install_packages
fetch_source
fetch_sparse || say "setup: without sparse, make check refuses to start; the rest works"
fetch_vmm || say "setup: without QEMU 10, make e2e refuses to start; the rest works"
fetch_cbmc || say "setup: without CBMC, make prove refuses to start; the rest works"
say "setup: done; next: make run"
