#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Build the Debian packages with KVM's modules, patched, for DKMS, and with the tool and
# the preload library: build/<base>/deb/*.deb. dkms/package/ has what is around the
# kernel's files, with placeholders. KERNEL= says which kernel the modules are for:
#
#   nothing      that of series/<base>/base
#   VERSION      one that is pinned there with also=, or the beginning of its name
#   PATH         a kernel's source: a directory, a tarball or Debian's linux-source-*.deb
#
# Only what is below arch/x86, virt and include is taken from it and patched, so this needs no
# build/<base>/linux. --out DIR puts them elsewhere.

. "$(dirname "$0")/../scripts/user.sh"
. "$(dirname "$0")/../scripts/lib.sh"
. "$(dirname "$0")/../scripts/series.sh"

out=
options 0 "out:" "$@"
for tool in git tar xz dpkg-buildpackage dh gcc make; do
	type -P "$tool" > /dev/null || die "$tool is not installed" "run: make setup FOR=deb BASE=$BASE"
done
load_base
kernel=${KERNEL:-$VERSION}
pick_version "$kernel" || [[ -e $kernel ]] ||
	die "KERNEL=$kernel is neither pinned in series/$BASE/base nor a file or directory" \
	    "use one of: $(pins | cut -d ' ' -f 1 | paste -sd ' '), or the path of a kernel's source"
lock

name=kvm-hyperv-nested-relay
out=${out:-$BUILD/deb}
TMP=$(mktemp -d "$BUILD/deb.XXXXXX")
trap 'rm -rf "$TMP"' EXIT
source=$TMP/$name-$DEB_RELEASE
log=$out/build.log
part='^(arch/x86|virt|include)/'

# A name for the package's Maintainer: this is for the one who builds it.
user_name=${DEBFULLNAME:-$user_name} user_email=${DEBEMAIL:-$user_email}
[[ $user_name && $user_email == *?@?* ]] ||
	die "git's user.name and user.email are not set: no Maintainer" \
	    "git config --global user.name 'Your Name', and user.email"

# KVM as a whole, the headers that the series changes, and what tells the version.
wanted() {
	printf '%s\n' Makefile arch/x86/kvm virt/kvm
	for patch in "$patches"/*; do
		patch_paths "$patch"
	done | grep -E "$part" | grep -v '^arch/x86/kvm/' | sort -u
}

untar() {
	# What isn't there is missed below, by a patch.
	tar -x -C "$source" --strip-components=1 --wildcards --no-wildcards-match-slash "$@" 2> "$TMP/tar.log" || true
}

take_source() {
	local what=$kernel
	local -a members

	mapfile -t members < <(wanted | sed 's,^,*/,')
	mkdir -p "$source"
	if [[ ! -e $kernel ]]; then
		what="$PKG $VERSION"
		has_sha256 "$DEB" "$SHA256" ||
			die "${DEB##*/} is not in $CACHE" "run: make setup FOR=deb BASE=$BASE${KERNEL:+ KERNEL=$VERSION}"
		kernel=$DEB
	fi
	say "deb: taking KVM from $what"
	case $kernel in
	*.deb)
		dpkg-deb --fsys-tarfile "$kernel" | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' | untar -J "${members[@]}"
		origin=Debian
		;;
	*)
		origin=
		if [[ -d $kernel ]]; then
			{
				tar -c -C "$kernel" --exclude-vcs --exclude='*.[oad]' --exclude='*.cmd' \
					--transform 's,^,k/,' -- "${members[@]#*/}" 2> /dev/null || true
			} | untar "${members[@]}"
		else
			untar -f "$kernel" "${members[@]}"
		fi
		PKG='a kernel tree, Linux' VERSION=
		;;
	esac
	[[ -f $source/arch/x86/kvm/x86.c ]] ||
		die "$what has no arch/x86/kvm ($(head -n 1 "$TMP/tar.log"))" "name a kernel's source"
	upstream=$(awk '/^VERSION =/ { v = $3 } /^PATCHLEVEL =/ { p = $3 } /^SUBLEVEL =/ { print v "." p "." $3; exit }' \
		"$source/Makefile")
	[[ $VERSION ]] || VERSION=$upstream
	date=$(date -R -r "$source/Makefile")
	rm "$source/Makefile"
}

# The patch and the hunk that don't fit, as git tells them.
conflict() {
	local name=$1 path line

	IFS=: read -r path line < <(sed -n 's/^error: patch failed: //p' "$TMP/err")
	[[ $path ]] || die "$(whose "$TOP" "$name") does not apply ($(head -n 1 "$TMP/err"))" "use another KERNEL or BASE"
	patch_section "$TMP/diff" "$path" | awk -v line="-$line," '/^@@ / { on = index($2, line) == 1 } on' >&2
	die "this hunk of $(whose "$TOP" "$name" "$path") does not apply to $path:$line of Linux $upstream" \
	    "add a base for it (series/README.md), or try another of BASE= $(list_bases | paste -sd ' ')"
}

apply_series() {
	local name file path

	while read -r name; do
		patch_diff "$patches/$name" > "$TMP/diff"
		if grep -qE "^diff --git a/${part#^}" "$TMP/diff"; then
			GIT_CEILING_DIRECTORIES=$TMP git -C "$source" apply --whitespace=nowarn --include='arch/x86/*' \
				--include='virt/*' --include='include/*' "$TMP/diff" 2> "$TMP/err" || conflict "$name"
		fi
		while read -r path; do
			file=$TOP/$(new_file "$TOP" "$path")
			path=$source/$(kernel_path "$path")
			[[ ! -e $path ]] || die "$(whose "$TOP" "$name") adds ${path#"$source"/}, which this kernel has" "use another KERNEL"
			mkdir -p "${path%/*}"
			cp "$file" "$path"
		done < <(patch_new "$patches/$name" | grep -E "$part")
	done < <(list_patches "$TOP")
	find "$source" -name .gitignore -delete
}

# KVM's Makefile takes for granted that KVM is in the kernel's source.
# shellcheck disable=SC2016
adapt() {
	local makefile=$source/arch/x86/kvm/Makefile module

	sed -i -E 's,\$\(srctree\)/((arch/x86|virt)/kvm),$(relay)/\1,g' "$makefile"
	! grep -nF '$(srctree)' "$makefile" ||
		die "arch/x86/kvm/Makefile refers to the kernel's source" "teach dkms/deb.sh"
	# DKMS doesn't replace a module by one of the same version, or if both have none.
	for module in kvm: kvm-intel:vmx/ kvm-amd:svm/; do
		cp "$source/version.c" "$source/arch/x86/kvm/${module#*:}version.c"
		echo "${module%:*}-y += ${module#*:}version.o" >> "$makefile"
	done
	rm "$source/version.c"
	private_number "$source/include/uapi/linux/kvm.h"
}

fill_in() {
	local file kernels="^${upstream//./[.]}([+.-].*)?\$"

	[[ $origin != Debian ]] || kernels="^${upstream//./[.]}[+]deb[0-9]+([.][0-9]+)*(-[a-z]+)?-amd64\$"
	for file in "$source/debian/"*KERNEL*; do
		mv "$file" "${file//KERNEL/$upstream}"
	done
	sed -i -e '/^@CHECKS@$/ {' -e "r $source/checks.sh" -e d -e '}' "$source/debian/"*.preinst
	find "$source/debian" "$source"/{dkms.conf,checks.sh,modules.sh,version.c,kernels,version} \
		"$source/$name"* -type f | while read -r file; do
		sed -i -e "s|@VERSION@|$upstream+relay$DEB_RELEASE|g; s|@KERNEL_VERSION@|$upstream|g" \
			-e "s|@KERNELS@|$kernels|g; s|@RELEASE@|$DEB_RELEASE|g" \
			-e "s|@NUMBER@|$PRIVATE_NUMBER|g; s|@BASE@|$BASE|g" \
			-e "s|@PKG@|$PKG|g; s|@PKG_VERSION@|$VERSION|g" \
			-e "s|@MAINTAINER@|$user_name <$user_email>|g" "$file"
		! grep -HnE '@[A-Z_]+@' "$file" || die "dkms/package/ has an unknown placeholder" "see dkms/deb.sh"
	done
	cat > "$source/debian/changelog" <<-EOF
		$name ($DEB_RELEASE) unstable; urgency=medium

		  * KVM of $PKG $VERSION with series/ for $BASE.

		 -- $user_name <$user_email>  $date
	EOF
}

build() (
	cd "$source" && dpkg-buildpackage -b -us -uc -d --no-sign
)

patches=$(compose "$TOP")
take_source
apply_series
cp -r "$TOP/dkms/package/." "$source/"
mkdir "$source/preload"
cp "$TOP"/preload/{Makefile,*.c} "$source/preload/"
fill_in
adapt
mkdir -p "$out"
logged "$log" build || die "the packages don't build" "see $log"
rm -f "$out/${name}"{_,-"$upstream"-}*
mv "$TMP/$name"*.{deb,changes,buildinfo} "$out/"
say "deb: ${out#"$TOP"/}/${name}_${DEB_RELEASE}_amd64.deb: the tool, the preload library"
say "deb: ${out#"$TOP"/}/${name}-$upstream-dkms_${DEB_RELEASE}_amd64.deb: the modules of Linux $upstream"
