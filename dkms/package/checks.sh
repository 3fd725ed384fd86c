# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# What stands in the way, for kvm-hyperv-nested-relay and the package's preinst, which
# dkms/deb.sh puts this into.

refuse() {
	echo "kvm-hyperv-nested-relay: $1; $2" >&2
	exit 1
}

# The kernels that this version was made for, among those that are installed.
fitting_kernels() {
	for dir in /lib/modules/*; do
		kernel=${dir##*/}
		if echo "$kernel" | grep -qE '@KERNELS@'; then
			echo "$kernel"
		fi
	done
}

# Processes that have a VM, as "PID (NAME)".
vm_processes() {
	for fd in /proc/[0-9]*/fd/*; do
		if [ "$(readlink "$fd")" = anon_inode:kvm-vm ]; then
			pid=${fd#/proc/}
			pid=${pid%%/*}
			echo "$pid ($(cat "/proc/$pid/comm"))"
		fi
	done 2>/dev/null | sort -un
}

check_kernel() {
	kernels=$(fitting_kernels)
	[ -n "$kernels" ] ||
		refuse "this version is for Debian's Linux @KERNEL_VERSION@, which isn't installed (running: $(uname -r))" \
			"install linux-image-@KERNEL_VERSION@+deb12-amd64 first, or get the version for your kernel"
	for kernel in $kernels; do
		[ ! -e "/lib/modules/$kernel/build/Makefile" ] || return 0
	done
	# shellcheck disable=SC2086
	set -- $kernels
	refuse "the headers of Linux $1 aren't installed" "apt install linux-headers-$1"
}

# The fifth byte of the variable, after its attributes.
secure_boot() {
	state=$(od -An -tu1 -j4 -N1 \
		/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c 2>/dev/null) || return 1
	[ "$((state))" = 1 ]
}

check_secure_boot() {
	secure_boot || return 0
	key=$(sed -n 's/^mok_certificate=//p' /etc/dkms/framework.conf 2>/dev/null | tr -d \"\')
	key=${key:-/var/lib/dkms/mok.pub}
	command -v mokutil >/dev/null ||
		refuse "Secure Boot is on, and without mokutil there is no telling which keys are enrolled" \
			"apt install mokutil"
	[ -e "$key" ] ||
		refuse "Secure Boot is on, and DKMS has no key to sign modules with" \
			"make one (openssl req -new -x509 -nodes -days 36500 -subj /CN=DKMS -newkey rsa:2048 -keyout ${key%.*}.key -outform DER -out $key), run: mokutil --import $key, reboot and enroll it"
	mokutil --test-key "$key" 2>/dev/null | grep -q 'already enrolled' ||
		refuse "Secure Boot is on, and DKMS's key isn't enrolled: the kernel would refuse the modules" \
			"run: mokutil --import $key, reboot and enroll it"
}

check_vms() {
	vms=$(vm_processes | paste -sd ' ')
	[ -z "$vms" ] ||
		refuse "VMs are running: $vms" "stop them first"
}
