# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# What stands in the way, for kvm-hyperv-nested-relay and the package's preinst, which
# dkms/deb.sh puts this into.

refuse() {
	echo "kvm-hyperv-nested-relay: $1; $2" >&2
	exit 1
}

# fitting_kernels REGEX: those that are installed, among the kernels of a package.
fitting_kernels() {
	for dir in /lib/modules/*/kernel; do
		kernel=${dir%/kernel}
		kernel=${kernel##*/}
		if echo "$kernel" | grep -qE "$1"; then
			echo "$kernel"
		fi
	done
}

has_headers() {
	[ -e "/lib/modules/$1/build/Makefile" ]
}

# The package of a kernel that fits, as this release names it, if it has one.
image_package() {
	apt-cache pkgnames linux-image- 2>/dev/null | sed -n 's/^linux-image-//p' |
		grep -E "$1" | awk '{ print length, "linux-image-" $0 }' | sort -n | sed -n '1s/^[0-9]* //p'
}

# check_kernel REGEX VERSION
check_kernel() {
	kernels=$(fitting_kernels "$1")
	if [ -z "$kernels" ]; then
		package=$(image_package "$1")
		if [ -n "$package" ]; then
			refuse "this is for Linux $2, which isn't installed (running: $(uname -r))" \
				"apt install $package $(echo "$package" | sed s/image/headers/), then try again"
		fi
		refuse "this is for Linux $2, which isn't installed (running: $(uname -r)), and apt knows no package of it" \
			"run apt update, or build the package for a kernel that you have: make deb KERNEL=..."
	fi
	for kernel in $kernels; do
		! has_headers "$kernel" || return 0
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
