# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh disable=SC3043
# The modules: which kernels get them, how they are built and loaded. For the tool, the hooks of
# kernel packages and the maintainer scripts. $share/X.Y.Z is what a package of modules has:
# its source, a regular expression for its kernels, and its version in DKMS.

share=/usr/share/kvm-hyperv-nested-relay
name=kvm-hyperv-nested-relay
# shellcheck source=dkms/package/checks.sh
. $share/checks.sh

tell() {
	echo "$name: $*" >&2
}

# The packages of modules, as X.Y.Z.
list_packages() {
	for file in "$share"/*/kernels; do
		[ ! -e "$file" ] || basename "${file%/kernels}"
	done
}

# package_for KERNEL: the one whose modules it gets.
package_for() {
	for package in $(list_packages); do
		if echo "$1" | grep -qE -f "$share/$package/kernels"; then
			echo "$package"
			return
		fi
	done
}

# Installed kernels, the newest last.
list_kernels() {
	for dir in /lib/modules/*/kernel; do
		[ ! -d "$dir" ] || basename "${dir%/kernel}"
	done | sort -V
}

# installed_version KERNEL: of the KVM that it would load; nothing, if that is its own.
installed_version() {
	modinfo -k "$1" -F version kvm 2>/dev/null || true
}

# initramfs_kvm KERNEL: own, relay, or nothing, of the KVM that its initramfs has, if any.
initramfs_kvm() {
	[ -r "/boot/initrd.img-$1" ] && command -v lsinitramfs >/dev/null || return 0
	lsinitramfs "/boot/initrd.img-$1" 2>/dev/null | sed -n '
		s,.*/updates/dkms/kvm\.ko.*,relay,p
		s,.*/kernel/arch/x86/kvm/kvm\.ko.*,own,p' | sort -r | head -n 1
}

update_initramfs() {
	[ -z "$(initramfs_kvm "$1")" ] || update-initramfs -u -k "$1" ||
		tell "the initramfs of Linux $1 has another KVM, and update-initramfs failed"
}

# build PACKAGE KERNEL: the modules are replaced only once the new ones are built.
build() {
	local version

	version=$(cat "$share/$1/version")
	if ! dkms status -m $name -v "$version" -k "$2" 2>/dev/null | grep -q installed; then
		dkms build -m $name -v "$version" -k "$2" >&2 &&
			dkms install -m $name -v "$version" -k "$2" --force >&2 || return
	fi
	[ "$(installed_version "$2")" = "$version" ] || return
	update_initramfs "$2"
}

# DKMS's source is a copy: while a package is upgraded, that of the former version stays.
add() {
	local version

	version=$(cat "$share/$1/version")
	if [ -e "/usr/src/$name-$version" ] && ! diff -rq "$share/$1" "/usr/src/$name-$version" >/dev/null; then
		remove_version "$version"
	fi
	[ -e "/usr/src/$name-$version" ] || cp -r "$share/$1" "/usr/src/$name-$version"
	[ -e "/var/lib/dkms/$name/$version/source" ] || dkms add -m $name -v "$version" >&2
}

# DKMS of Debian 13 moves the kernel's own modules away, and back when its are removed: see that
# it has.
restore_own() {
	local origin file

	for origin in "/var/lib/dkms/$name/original_module/$1"/*/*.origin; do
		file=${origin%.origin}
		[ ! -f "$file" ] || [ -e "$(cat "$origin")" ] || mv "$file" "$(cat "$origin")"
	done
}

# remove_version VERSION: of DKMS, with the modules that are its.
remove_version() {
	local kernel

	if [ -e "/var/lib/dkms/$name/$1/source" ]; then
		dkms remove -m $name -v "$1" --all >&2 || true
	fi
	rm -rf "/usr/src/$name-$1" "/var/lib/dkms/${name:?}/$1"
	for kernel in $(list_kernels); do
		[ "$(installed_version "$kernel")" = "$1" ] || continue
		rm -f "/lib/modules/$kernel/updates/dkms"/kvm.ko* "/lib/modules/$kernel/updates/dkms"/kvm-intel.ko* \
			"/lib/modules/$kernel/updates/dkms"/kvm-amd.ko*
		restore_own "$kernel"
		depmod "$kernel"
	done
}

# install_package PACKAGE: for all kernels that fit. Fails if one has no modules in the end.
install_package() {
	local kernel version old failed='' built=''

	version=$(cat "$share/$1/version")
	add "$1"
	for kernel in $(fitting_kernels "$(cat "$share/$1/kernels")"); do
		if ! has_headers "$kernel"; then
			tell "Linux $kernel gets no modules with the relay, as it has no headers; apt install linux-headers-$kernel"
		elif build "$1" "$kernel"; then
			tell "Linux $kernel has modules with the relay, $version"
			built=1
		else
			failed="$failed $kernel"
		fi
	done
	if [ -n "$failed" ]; then
		tell "the modules for$failed can't be built or installed, and what was there before stays; see above and /var/lib/dkms/$name/$version/build/make.log"
		return 1
	fi
	if [ -z "$built" ]; then
		tell "no kernel has got modules with the relay; install Linux $1 with its headers, then: dpkg --configure -a"
		return 1
	fi
	for old in "/var/lib/dkms/$name/$1+relay"*; do
		old=${old##*/}
		[ "$old" = "$version" ] || [ "$old" = "$1+relay*" ] || remove_version "$old"
	done
}

remove_package() {
	local kernel version

	for version in "/var/lib/dkms/$name/$1+relay"* "/usr/src/$name-$1+relay"*; do
		version=${version##*/}
		case $version in
		*'*') ;;
		*) remove_version "${version#"$name"-}" ;;
		esac
	done
	for kernel in $(fitting_kernels "$(cat "$share/$1/kernels")"); do
		update_initramfs "$kernel"
	done
}

# for_kernel KERNEL: the hook of kernel packages. Never fails: a kernel without the relay has to
# be configured as well.
for_kernel() {
	local package

	package=$(package_for "$1")
	if [ -z "$package" ]; then
		[ -z "$(list_packages)" ] || no_package "$1"
	elif ! has_headers "$1"; then
		tell "Linux $1 has no modules with the relay, as it has no headers yet; if they aren't about to be installed: apt install linux-headers-$1"
	elif ! { add "$package" && build "$package" "$1"; }; then
		tell "the modules with the relay for Linux $1 can't be built; see above. It has its own KVM"
	else
		tell "Linux $1 has modules with the relay"
	fi
	return 0
}

no_package() {
	tell "Linux $1 has no modules with the relay, as there is no package for it (there is for $(list_packages | paste -sd ' ')); VMs that ask for the relay won't start on it. Build one (make deb), or boot another kernel"
}

# Processes that have a VM, as "PID (NAME)": only root sees those of others.
vm_processes() {
	for fd in /proc/[0-9]*/fd/*; do
		if [ "$(readlink "$fd")" = anon_inode:kvm-vm ]; then
			pid=${fd#/proc/}
			pid=${pid%%/*}
			echo "$pid ($(cat "/proc/$pid/comm"))"
		fi
	done 2>/dev/null | sort -un
}

is_root() {
	[ "$(id -u)" = 0 ]
}

# Which of the two is loaded.
vendor() {
	for module in kvm_intel kvm_amd; do
		[ ! -e "/sys/module/$module" ] || echo "$module"
	done
}

# own_file FILE: the kernel's own module in the place of that one, which DKMS of Debian 13 has
# moved away.
own_file() {
	local own

	case $1 in
	*/updates/dkms/*)
		own=$(basename "${1%.ko*}")
		find "/lib/modules/$(uname -r)/kernel" "/var/lib/dkms/$name/original_module/$(uname -r)" \
			-name "$own.ko*" ! -name '*.origin' 2>/dev/null | head -n 1
		;;
	*) echo "$1" ;;
	esac
}

# load_own MODULE: the kernel's own KVM, with the options that modprobe has for it.
load_own() {
	modprobe --show-depends "$1" | sed -n 's/^insmod //p' | while read -r file options; do
		module=$(basename "${file%.ko*}" | tr - _)
		# shellcheck disable=SC2086
		[ -e "/sys/module/$module" ] || insmod "$(own_file "$file")" $options || exit 1
	done
	[ -e "/sys/module/$1" ]
}

# Unload KVM and load what is installed. 1: nothing was changed; 2: what is installed doesn't
# load, and the kernel's own KVM is back; 3: nor does that. What wasn't loaded stays that way.
reload() {
	local vms module others why

	[ -e /sys/module/kvm ] || return 0
	vms=$(vm_processes | paste -sd ' ')
	if [ -n "$vms" ]; then
		tell "KVM isn't reloaded, as VMs are running: $vms; stop them, then: $name reload. Or reboot"
		return 1
	fi
	module=$(vendor)
	others=$(cd /sys/module/kvm/holders && echo * | tr ' ' '\n' | grep -vxF -e '*' -e "${module:-*}" | paste -sd ' ')
	if [ -n "$others" ]; then
		tell "KVM isn't reloaded, as it is used by $others; reboot"
		return 1
	fi
	# shellcheck disable=SC2086
	if ! why=$(modprobe -r $module kvm 2>&1) || [ -e /sys/module/kvm ]; then
		if [ -z "$module" ] || modprobe "$module" 2>/dev/null || load_own "$module"; then
			tell "KVM can't be unloaded and stays as it is (${why:-it is in use}); reboot"
			return 1
		fi
		tell "KVM can't be unloaded ($why), and $module, which is, not be loaded again; THIS HOST CAN'T RUN VMS: reboot"
		return 3
	fi
	module=${module:-kvm}
	why=$(modprobe "$module" 2>&1) && [ -e "/sys/module/$module" ] && return 0
	modprobe -r kvm 2>/dev/null || true
	if load_own "$module"; then
		tell "what is installed for Linux $(uname -r) can't be loaded ($why), and the kernel's own KVM is loaded instead, without the relay; see dmesg"
		return 2
	fi
	tell "neither what is installed for Linux $(uname -r) can be loaded ($why) nor the kernel's own KVM; THIS HOST CAN'T RUN VMS: see dmesg, reboot"
	return 3
}
