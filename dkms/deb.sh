#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Build the Debian package with KVM's modules of this base, patched, for DKMS:
# build/<base>/deb/kvm-hyperv-nested-relay-dkms_VERSION_amd64.deb. dkms/package/ has what
# is around the kernel's files, with placeholders.

. "$(dirname "$0")/../scripts/user.sh"
. "$(dirname "$0")/../scripts/lib.sh"
. "$(dirname "$0")/../scripts/series.sh"

options 0 "" "$@"
need git dpkg-buildpackage dh dh_dkms lintian
load_base
[[ -f $STATE ]] || die "there is no build/$BASE/linux" "run: make tree"
load_state
[[ $VERSION == *~deb12u* || $VERSION == *+deb1[23]u* || $VERSION == *-1 ]] ||
	die "series/$BASE is for $PKG $VERSION, which no stable Debian runs" "use BASE=6.12"
lock

upstream=${VERSION%%-*}
version=$upstream+relay$DEB_RELEASE
name=kvm-hyperv-nested-relay
out=$BUILD/deb
stage=$out/$name-$version
log=$out/build.log

# A name for the package's Maintainer: this is for the one who builds it.
[[ $user_name && $user_email == *?@?* ]] ||
	die "git's user.name and user.email are not set: no Maintainer" \
	    "git config --global user.name 'Your Name', and user.email"

# The kernel's files: KVM as a whole, and the headers that the series changes.
kernel_files() {
	kgit ls-tree -r --name-only "$STATE_COMMIT" -- arch/x86/kvm virt/kvm | grep -v /.gitignore
	kgit diff --name-only --no-renames base "$STATE_COMMIT" -- arch/x86/include include
}

# KVM's Makefile takes for granted that KVM is in the kernel's source.
# shellcheck disable=SC2016
adapt() {
	local makefile=$stage/arch/x86/kvm/Makefile module

	sed -i -E 's,\$\(srctree\)/((arch/x86|virt)/kvm),$(relay)/\1,' "$makefile"
	! grep -nF '$(srctree)' "$makefile" ||
		die "arch/x86/kvm/Makefile refers to the kernel's source" "teach dkms/deb.sh"
	# DKMS doesn't replace a module by one of the same version, or if both have none.
	for module in kvm: kvm-intel:vmx/ kvm-amd:svm/; do
		cp "$stage/version.c" "$stage/arch/x86/kvm/${module#*:}version.c"
		echo "${module%:*}-y += ${module#*:}version.o" >> "$makefile"
	done
	rm "$stage/version.c"
	private_number "$stage/include/uapi/linux/kvm.h"
}

fill_in() {
	local file

	sed -i -e '/^@CHECKS@$/ {' -e "r $stage/checks.sh" -e d -e '}' "$stage/debian/"*.preinst
	find "$stage/debian" "$stage"/{dkms.conf,checks.sh,version.c} -type f | while read -r file; do
		sed -i -e "s|@VERSION@|$version|g; s|@KERNEL_VERSION@|$upstream|g" \
			-e "s|@KERNELS@|^${upstream//./\\\\.}[+]deb1[23](-cloud)?-amd64\$|g" \
			-e "s|@NUMBER@|$PRIVATE_NUMBER|g; s|@BASE@|$BASE|g" \
			-e "s|@PKG@|$PKG|g; s|@PKG_VERSION@|$VERSION|g" \
			-e "s|@MAINTAINER@|$user_name <$user_email>|g" "$file"
		! grep -HnE '@[A-Z_]+@' "$file" || die "dkms/package/ has an unknown placeholder" "see dkms/deb.sh"
	done
	cat > "$stage/debian/changelog" <<-EOF
		$name ($version) unstable; urgency=medium

		  * KVM of $PKG $VERSION with series/ for $BASE.

		 -- $user_name <$user_email>  $(date -R -d "$(kgit show -s --format=%cI base)")
	EOF
}

build() (
	cd "$stage" && dpkg-buildpackage -b -us -uc -d --no-sign
)

say "deb: $name-dkms $version"
rm -rf "$out"
mkdir -p "$stage"
mapfile -t files < <(kernel_files)
kgit archive "$STATE_COMMIT" "${files[@]}" | tar -x -C "$stage"
cp -r "$TOP/dkms/package/." "$stage/"
fill_in
adapt
logged "$log" build || die "the package does not build" "see $log"
rm -rf "$stage"
# Errors and warnings; what is overridden has its reason in dkms/package/debian.
lintian --allow-root --fail-on error,warning --display-info "$out"/*.changes | tee "$out/lintian.log" ||
	die "lintian finds fault with the package" "see $out/lintian.log"
say "deb: build/$BASE/deb/${name}-dkms_${version}_amd64.deb"
