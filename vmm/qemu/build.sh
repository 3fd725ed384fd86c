#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# build.sh [--source pristine]
#
# Build QEMU $QEMU with the series, and nothing of it but what make e2e needs: qemu-system-x86_64,
# KVM alone, one machine, few devices. It is then in build/qemu-$QEMU/o. With "--source pristine" it is QEMU
# without the series, in build/qemu-$QEMU/pristine/o.

. "$(dirname "$0")/../../scripts/lib.sh"
. "$TOP/scripts/apt.sh"
. "$TOP/vmm/qemu/lib.sh"

# What has to be installed besides what make setup installs. It is for QEMU alone, hence not there.
# dtc, as Debian's source of 10.2 has no .dtb, and configure wants one or the other.
packages=(libglib2.0-dev libfdt-dev device-tree-compiler zlib1g-dev ninja-build python3-venv)

# Debian 12 has meson 1.0; QEMU wants 1.5, and pycotap, for tests that are not run here. Both are
# Python, and unpacked instead of installed. Package, version, sha256:
meson_suite=bookworm-backports
meson_packages() {
	cat <<-'LIST'
	meson 1.7.0-1~bpo12+1 4b86d2f2cb4431d03826fa4b2c3a89508edeb8140509e7e4b285285ec3175bbe
	python3-pycotap 1.3.1-2~bpo12+1 3774be6e79318192059aa72e7b7a701e8b99bba2147befcc715650a0da65ca96
	LIST
}

install_packages() {
	local package
	local -a missing=() root=()

	for package in "${packages[@]}"; do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null) == installed ]] ||
			missing+=("$package")
	done
	((${#missing[@]})) || return 0
	if ((EUID)); then
		sudo -n true 2> /dev/null ||
			die "missing packages, and neither root nor sudo without a password" \
			    "as root: apt-get install ${missing[*]}"
		root=(sudo)
	fi
	root+=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)
	say "qemu: installing ${missing[*]}"
	logged "$QEMU_BUILD/install.log" "${root[@]}" update ||
		die "apt-get update failed" "see ${QEMU_BUILD#"$TOP"/}/install.log"
	logged "$QEMU_BUILD/install.log" "${root[@]}" -y --no-install-recommends install "${missing[@]}" ||
		die "apt-get install failed" "see ${QEMU_BUILD#"$TOP"/}/install.log"
}

fetch_meson() (
	[[ ! -d $MESON_DIR ]] || exit 0
	private_dir
	mkdir "$APT/unpacked"
	find_suite deb "$meson_suite" meson
	while read -r package version sha256; do
		file=${package}_${version}_all.deb
		(cd "$APT" && private_apt apt-get download "$package=$version") ||
			die "$meson_suite has no $package $version any more (see above)" \
			    "pin another version in vmm/qemu/build.sh"
		has_sha256 "$APT/$file" "$sha256" ||
			die "$package $version is not the file that vmm/qemu/build.sh pins" \
			    "find out why before you change its sha256"
		dpkg-deb -x "$APT/$file" "$APT/unpacked"
	done < <(meson_packages)
	mv "$APT/unpacked" "$MESON_DIR"
)

# In the source, as configure wants it; git ignores it, see tree.sh.
devices() {
	cat <<-'LIST'
	CONFIG_I440FX=y
	CONFIG_ISA_DEBUG=y
	CONFIG_HYPERV=y
	CONFIG_VMBUS=y
	CONFIG_HV_BALLOON=y
	LIST
	# hw/acpi/cxl.c of 10.2 doesn't link without CXL, and CXL's ports are PCI Express ports.
	[[ $QEMU == 10.0 ]] || printf 'CONFIG_%s=y\n' PCI_EXPRESS PCIE_PORT PXB CXL CXL_MEM_DEVICE
}

source=
options 0 "source:" "$@"
case $source in
'') source=series out=$QEMU_BUILD/o ;;
pristine) source=base out=$QEMU_BUILD/pristine/o ;;
*) die "build.sh: unknown source '$source'" "see vmm/qemu/build.sh --help" ;;
esac
load_qemu
"$QEMU_DIR/tree.sh"
qemu_lock
install_packages
need gcc ccache ninja python3
fetch_meson

# The same path from the build directory to the source, for the compiler's cache.
tree=$QEMU_TREE
if [[ $source == base ]]; then
	tree=$QEMU_BUILD/pristine/${QEMU_TREE##*/}
	if [[ ! -d $tree ]]; then
		qgit worktree prune
		qgit worktree add -q --detach "$tree" base
		for image in "$QEMU_TREE"/pc-bios/edk2-*.fd.bz2; do
			: > "$tree/pc-bios/${image##*/}"
		done
	fi
fi

PYTHONPATH=$(qemu_python)
export PYTHONPATH
mkdir -p "$out"
cd "$out"
if [[ ! -f build.ninja ]]; then
	devices > "$tree/configs/devices/x86_64-softmmu/relay.mak"
	say "qemu: configuring"
	logged "$out/configure.log" "../${tree##*/}/configure" --target-list=x86_64-softmmu \
		--without-default-features --without-default-devices --with-devices-x86_64=relay \
		--enable-kvm --enable-hv-balloon --disable-tcg --disable-tools \
		--disable-docs --disable-download --disable-install-blobs --cc='ccache gcc' ||
		die "QEMU's configure failed (see above)" "see ${out#"$TOP"/}/configure.log"
fi
say "qemu: building $VERSION, $source"
logged "$out/build.log" ninja -j"${QEMU_JOBS:-$(nproc)}" qemu-system-x86_64 ||
	die "QEMU doesn't build (see above)" "see ${out#"$TOP"/}/build.log"
# A type without its parent links well, and ends each run.
logged "$out/types.log" ./qemu-system-x86_64 -M none -device help ||
	die "this QEMU doesn't know its own devices (see above)" "mend devices() in vmm/qemu/build.sh, rm -r ${out#"$TOP"/}"
# The compiler's cache has it now, for .ci/run.
: > "$CACHE/qemu-$QEMU-built"
say "qemu: ${out#"$TOP"/}/qemu-system-x86_64, $(./qemu-system-x86_64 --version | head -n 1)"
