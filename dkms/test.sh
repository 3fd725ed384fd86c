#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test.sh [install|boot]
#
# Test the packages of "make deb" with Debian's own kernel.
#
#   install  in a copy of a root, which nothing gets out of (an overlay in a mount
#            namespace): the life of the packages, from what they refuse over the build by
#            DKMS against Debian's headers, upgrades of the package and of the kernel, to
#            the removal, with the package of host/ beside them. For a kernel of Debian 12, it is this machine's root; for one of
#            Debian 13, one that mmdebstrap makes and that stays in the cache
#   boot     Debian's kernel in the emulated hosts: the tool, and KVM reloaded and rolled
#            back; the selftests on the modules so built, then on the kernel's own, where
#            they must skip; and the package of host/ and the end-to-end run on the former
#
# Both, if there is no argument.  build/<base>/test-deb/ gets results.ktap.  KERNEL= is that
# of deb.sh, if it is a version.

. "$(dirname "$0")/../scripts/user.sh"
. "$(dirname "$0")/../scripts/lib.sh"
. "$(dirname "$0")/../scripts/apt.sh"
. "$TOP/lab/results.sh"

options 1 "" "$@"
what=${args[0]:-all}
case $what in
install|boot|all) ;;
*) die "dkms/test.sh: unknown argument $what" "use install, boot or nothing" ;;
esac

need unshare chroot depmod modinfo xz dpkg-deb lintian busybox perl dash
load_base
version_of_base=${VERSION%%-*}
if [[ ${KERNEL:-} ]] && ! pick_version "$KERNEL"; then
	die "KERNEL=$KERNEL isn't pinned in series/$BASE/base" "use one of: $(pins | cut -d ' ' -f 1 | paste -sd ' ')"
fi
upstream=${VERSION%%-*}
# What the host is upgraded to is another kernel of the same release.
case $VERSION in
*~deb12u*) release=12 suite=bookworm lower=/ other='6.1.0-*-cloud-amd64' others='linux-*6.1[._-]*.deb' ;;
*) release=13 suite=trixie lower=$CACHE/root-trixie other=6.12.107+deb13-cloud-amd64 others='linux-*6.12.107*.deb' ;;
esac
kernel=$upstream+deb$release-cloud-amd64
version=$upstream+relay$DEB_RELEASE
next=$((DEB_RELEASE + 1))
name=kvm-hyperv-nested-relay
package=$name-$upstream-dkms
packages=$BUILD/deb
deb=${package}_${DEB_RELEASE}_amd64.deb
tool=${name}_${DEB_RELEASE}_amd64.deb
selftest=$name-selftest
selftest_deb=${selftest}_$version_of_base+relay${DEB_RELEASE}_amd64.deb
debs=$CACHE/debs-$VERSION
out=$BUILD/test-deb
[[ ! ${KERNEL:-} ]] || out=$out-$upstream
bin=$out/bin
modules=usr/lib/modules/$kernel
[[ -f $packages/$deb ]] || die "there is no ${packages#"$TOP"/}/$deb" "run: make deb BASE=$BASE"

# A Debian 13 with DKMS.
make_root() {
	local uri

	[[ ! -d $lower ]] || return 0
	need mmdebstrap
	say "test-deb: making a root of Debian's $suite"
	rm -rf "$lower.new"
	uri=$(mirrors "$suite" | head -n 1)
	logged "$CACHE/mmdebstrap.log" mmdebstrap --mode=root --variant=apt --dpkgopt=force-unsafe-io \
		--keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
		--include=dkms,kmod,initramfs-tools,linux-base,ccache,pahole,libelf-dev,zstd,xz-utils \
		"$suite" "$lower.new" "deb $uri $suite main" ||
		die "mmdebstrap can't make a root of Debian's $suite" "see $CACHE/mmdebstrap.log"
	mv "$lower.new" "$lower"
}

# get PACKAGE...: with what they need and the root has not.
get() {
	private_apt apt-get -o Dir::State::status="$lower/var/lib/dpkg/status" -o Dir::Cache::archives="$APT/debs" \
		-o Debug::NoLocking=1 -y --no-install-recommends --download-only install "$@" ||
		die "$* are not to be had (see above)" "run it again, or pin another version"
}

# Debian's kernels, their headers, DKMS and what makes an initramfs, as apt verified them when it
# got them.
fetch() {
	local sources

	if [[ -f $debs/SHA256SUMS ]] && (cd "$debs" && sha256sum --status -c SHA256SUMS); then
		return
	fi
	private_dir
	make_root
	mkdir -p "$APT/debs/partial"
	say "test-deb: downloading Debian's kernel $kernel, another one, their headers, and DKMS"
	find_suite deb "$suite" dkms
	if ((release == 12)); then
		other=$(private_apt apt-cache pkgnames linux-image-6.1.0- | grep -E -- '-[0-9]+-cloud-amd64$' | sort -V | tail -n 1)
		other=${other#linux-image-}
		get dkms initramfs-tools linux-base linux-{image,headers}-"$other"
		find_suite deb "$SUITE" "linux-image-$kernel"
		(cd "$APT/debs" && private_apt apt-get download linux-{image,headers}-"$kernel=$VERSION" \
			linux-headers-"$upstream+deb12-common=$VERSION" linux-kbuild-"$upstream+deb12=$VERSION") ||
			die "Debian's kernel $VERSION is not to be had (see above)" "run it again, or pin a newer base"
	else
		sources=$(< "$APT/sources.list")
		find_suite deb "$SUITE" "linux-image-$kernel"
		say "$sources" >> "$APT/sources.list"
		private_apt apt-get update || die "$suite is not to be had (see above)" "run it again"
		get -t "$SUITE" linux-{image,headers}-{"$other","$kernel"}
	fi
	rm -rf "$APT/debs"/{partial,lock}
	(cd "$APT/debs" && sha256sum -- *.deb > SHA256SUMS)
	rm -rf "$debs"
	mv "$APT/debs" "$debs"
}

# root COMMAND...: run it in the copy. /sys is empty there; /proc is, too, with PROC=. With VM=1,
# a process there has a VM, as /proc shows it.
# shellcheck disable=SC2016
root() {
	local -a enter=(unshare -m)

	((!EUID)) || enter=(unshare -rm)
	"${enter[@]}" bash -c '
		set -e
		root=$1 proc=$2 vm=$3 ccache=$4 lower=$5
		shift 5
		mount -t overlay -o "lowerdir=$lower,upperdir=$root.upper,workdir=$root.work" overlay "$root"
		mount --rbind /dev "$root/dev"
		[[ ! $proc ]] || mount --rbind /proc "$root/proc"
		mkdir -p "$root/ccache"
		mount --bind "$ccache" "$root/ccache"
		if [[ $vm ]]; then
			sleep infinity &
			pid=$!
			trap "kill $pid" EXIT
			mkdir -p "$root/tmp/vm/fd"
			ln -sf anon_inode:kvm-vm "$root/tmp/vm/fd/9"
			echo qemu-system-x86 > "$root/tmp/vm/comm"
			mount --bind "$root/tmp/vm" "$root/proc/$pid"
		fi
		chroot "$root" env -i PATH=/usr/local/sbin:/usr/lib/ccache:/usr/sbin:/usr/bin:/sbin:/bin \
			LC_ALL=C DEBIAN_FRONTEND=noninteractive CCACHE_DIR=/ccache CCACHE_NOHASHDIR=1 \
			CCACHE_COMPILERCHECK=content "$@"' root "$out/root" "${PROC-1}" "${VM-}" "$CCACHE_DIR" "$lower" "$@"
}

with_vm() {
	local VM=1

	"$@"
}

# debs_like PATTERN...: the names in $debs that match.
debs_like() (
	cd "$debs" && for pattern; do
		compgen -G "$pattern" || true
	done
)

# install_debs NAME...: from $debs, to dpkg in the copy: the packages' hooks run.
install_debs() {
	local -a files

	mapfile -t files < <(cd "$debs" && printf '/tmp/debs/%s\n' "$@")
	root dpkg -i "${files[@]}"
}

# says WORDS COMMAND...: it succeeds, and says so.
says() {
	local words=$1

	shift
	"$@" > "$out/said" 2>&1 || { cat "$out/said"; return 1; }
	cat "$out/said"
	grep -qF -- "$words" "$out/said"
}

# fails WORDS COMMAND...: it doesn't succeed, and says why.
fails() {
	local words=$1

	shift
	! "$@" > "$out/said" 2>&1 || { cat "$out/said"; return 1; }
	cat "$out/said"
	grep -qF -- "$words" "$out/said"
}

# refused WORDS: one line of the package's, with these words, and nothing installed.
refused() {
	local words=$1 log=$out/refusal

	! PROC='' root dpkg -i "/tmp/$deb" > "$log" 2>&1 || { cat "$log"; return 1; }
	cat "$log"
	[[ $(grep -c '^kvm-hyperv-nested-relay: .*; ' "$log") == 1 ]] &&
	grep -q "^kvm-hyperv-nested-relay: .*$words" "$log" &&
	[[ ! -e $out/root.upper/usr/share/$name/$upstream ]]
}

# What dpkg says of a package: "ii " if it is installed and configured.
# shellcheck disable=SC2016
state() {
	[[ $(root dpkg-query -W -f '${db:Status-Abbrev}' "$2") == "$1"* ]]
}

# What modprobe would load.
module_of() {
	root modinfo -k "$kernel" -F "$2" "$1"
}

# installed VERSION: all three modules
installed() {
	local module

	for module in kvm kvm-intel kvm-amd; do
		module_of "$module" filename
		[[ $(module_of "$module" filename) == */updates/dkms/"$module".ko* ]] || return
	done
	[[ $(module_of kvm version) == "$1" && $(module_of kvm-amd version) == "$1" ]]
}

removed() {
	local module

	for module in kvm kvm-intel kvm-amd; do
		module_of "$module" filename
		[[ $(module_of "$module" filename) == */kernel/arch/x86/kvm/"$module".ko* ]] || return
	done
	[[ -z $(module_of kvm version) && -z $(root sh -c "ls -d /usr/src/$name-* /var/lib/dkms/$name 2>/dev/null") &&
	   -z $(root sh -c "find /$modules/updates -name '*.ko*' 2>/dev/null") ]]
}

# Secure Boot as the kernel shows it, in the copy, and a mokutil with this answer.
# shellcheck disable=SC2016
secure_boot() {
	local dir=$out/root.upper/sys/firmware/efi/efivars

	mkdir -p "$dir" "$out/root.upper/usr/local/sbin" "$out/root.upper/var/lib/dkms"
	printf '\6\0\0\0\1' > "$dir/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	touch "$out/root.upper/var/lib/dkms/mok.pub"
	printf '#!/bin/sh\necho "$2 is %s"\n' "$1" > "$out/root.upper/usr/local/sbin/mokutil"
	chmod +x "$out/root.upper/usr/local/sbin/mokutil"
}

no_secure_boot() {
	rm -rf "$out"/root.upper/sys/firmware "$out"/root.upper/usr/local/sbin/mokutil
	root rm -f /var/lib/dkms/mok.pub
}

# stand_in COMMAND TEXT: a script in its place, in the copy.
stand_in() {
	mkdir -p "$out/root.upper/usr/local/sbin"
	printf '#!/bin/sh\n%s\n' "$2" > "$out/root.upper/usr/local/sbin/$1"
	chmod +x "$out/root.upper/usr/local/sbin/$1"
}

no_stand_in() {
	rm -f "$out/root.upper/usr/local/sbin/$1"
}

kernel_is_configured() {
	state ii "linux-image-$1" && state ii "linux-headers-$1" &&
	root test -s "/boot/initrd.img-$1"
}

take_modules() {
	local module file

	rm -rf "$bin"
	mkdir -p "$bin"/{relay,stock}
	for module in kvm kvm-intel kvm-amd; do
		for file in "$out/root.upper/$modules/updates/dkms/$module".ko*; do
			cp "$file" "$bin/relay/"
		done
	done
	# DKMS of Debian 13 has moved the kernel's own away.
	for file in "$debs"/linux-{image,modules}-"$kernel"_*.deb; do
		[[ ! -f $file ]] || dpkg-deb --fsys-tarfile "$file" | tar -x -C "$bin/stock" --wildcards --no-anchored \
			--transform 's,.*/,,' 'arch/x86/kvm/kvm*.ko.xz' 2> /dev/null || true
	done
	[[ -f $bin/stock/kvm.ko.xz ]] || die "there is no kvm.ko in Debian's kernel $kernel" "teach dkms/test.sh"
	# The kernel's own as well, but needed first, and the end-to-end run takes all from one place.
	cp "$out/root.upper/$modules/kernel/virt/lib/irqbypass.ko.xz" "$bin/relay/"
	find "$bin" -name '*.xz' -exec xz -d {} +
	cp "$out/root.upper/boot/vmlinuz-$kernel" "$out/vmlinuz"
	(cd "$packages" && sha256sum "$deb") > "$bin/from"
}

# skip WHAT REASON: instead of a result.
skip() {
	results_number=$((results_number + 1))
	echo "ok $results_number $results_prefix: $1 # SKIP $2" >> "$results_file.new"
}

# deb_for KERNEL: make deb, for that one.
deb_for() {
	rm -rf "$out/other"
	KERNEL=$1 DEBFULLNAME=$user_name DEBEMAIL=$user_email "$TOP/dkms/deb.sh" --out "$out/other"
}

# names_hunk COMMAND...: it fails, shows a hunk, and says whose it is.
names_hunk() {
	fails " does not apply to arch/x86/" "$@" && grep -q '^@@ -[0-9]' "$out/said" &&
		grep -qE '^error: this hunk of series/[^ ]+[.]patch does not apply to [^ ]+:[0-9]+ of Linux [0-9.]+; ' "$out/said"
}

# What the series doesn't apply to is named; what it applies to is built.
builds_or_names_hunk() {
	names_hunk deb_for "$1" || { cd "$out/other" && ls "$name"-*-dkms_*.deb; }
}

# The operator's own kernels: the base as a directory; the same with a line changed that a patch
# has; and Debian's of another version, if they are in the cache.
test_kernels() {
	local source

	rm -rf "$out/source"
	mkdir "$out/source"
	git -C "$LINUX" archive base Makefile arch/x86 virt/kvm include | tar -x -C "$out/source"
	result "make deb for a directory" deb_for "$out/source"
	result "its package is of that version" test -f "$out/other/$name-$version_of_base-dkms_${DEB_RELEASE}_amd64.deb"
	sed -i 's/^int kvm_hv_hypercall(/int  kvm_hv_hypercall(/' "$out/source/arch/x86/kvm/hyperv.c"
	result "make deb for one that the series doesn't apply to names patch and hunk" names_hunk deb_for "$out/source"
	source=$(compgen -G "$CACHE/linux-source-7.2_*.deb" | head -n 1) || true
	if [[ $source ]]; then
		result "make deb for ${source##*/} builds, or names patch and hunk" builds_or_names_hunk "$source"
	else
		skip "make deb for a linux-source-7.2" "there is none in ~/.cache/hyperv-nested-relay"
	fi
	rm -rf "$out/source" "$out/other"
}

# The line of a document that starts a VM, with a VMM and a KVM that are made up.
as_printed() {
	local document=$1 line

	line=$(sed -n -e ':again' -e '/\\$/ { N; b again' -e '}' -e 's/ *\\\n */ /g' -e "/^    .*$2/p" "$TOP/$document" | head -n 1)
	[[ $line ]] || { echo "$document has no line with $2"; return 1; }
	echo "$line"
	says "relaying post,signal" root sh -c "
		export FAKE_LOG=/dev/null; echo /tmp/preload/fake-kvm.so > /etc/ld.so.preload
		${line#    sudo }; status=\$?; rm /etc/ld.so.preload; exit \$status"
}

test_install() {
	local -a nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups) headers images first

	other=$(debs_like "linux-image-$other*.deb")
	other=${other#linux-image-} other=${other%%_*}

	DEBFULLNAME=$user_name DEBEMAIL=$user_email "$TOP/host/deb.sh"
	rm -rf "$out"/root* "$out"/install.*
	mkdir -p "$out"/{root,root.upper/tmp/debs,root.work} "$CCACHE_DIR"
	cp "$packages/$deb" "$packages/$tool" "$BUILD/host/$selftest_deb" "$out/root.upper/tmp/"
	cp "$debs"/*.deb "$out/root.upper/tmp/debs/"
	chmod 1777 "$out/root.upper/tmp"
	root true || die "this machine can't mount an overlay over its root" "run it as root"
	DEB_RELEASE=$next DEBFULLNAME=$user_name DEBEMAIL=$user_email "$TOP/dkms/deb.sh" --out "$out/next"
	cp "$out/next/"*_"$next"_amd64.deb "$out/root.upper/tmp/"
	logged "$out/preload.log" make -C "$TOP/preload" O="$out/preload" test-programs ||
		die "preload does not build" "see $out/preload.log"
	mkdir "$out/root.upper/tmp/preload"
	cp "$out"/preload/fake-* "$out/root.upper/tmp/preload/"
	stand_in qemu-system-x86_64 "exec /tmp/preload/fake-vmm"

	say "test-deb: installing, upgrading and removing $package on Debian $release"
	results_begin "$out/install.ktap" deb
	result "lintian finds no fault" lintian --allow-root --fail-on error,warning --display-info "$packages/$deb" "$packages/$tool"
	mkdir -p "$out/root.upper/etc/dpkg/dpkg.cfg.d"
	echo force-unsafe-io > "$out/root.upper/etc/dpkg/dpkg.cfg.d/unsafe-io"
	mapfile -t others < <(debs_like "$others")
	mapfile -t headers < <(debs_like linux-{headers,kbuild}-"$upstream*.deb")
	mapfile -t images < <(debs_like "linux-[!h]*$upstream+*cloud*.deb")
	mapfile -t first < <(debs_like '*.deb' | grep -vxF -f <(printf '%s\n' "${others[@]}" "${headers[@]}" "${images[@]}"))
	((!${#first[@]})) || result "DKMS is installed" install_debs "${first[@]}"
	result "the tool is installed" root dpkg -i "/tmp/$tool"
	result "it names the package of the tests" fails "is in the package $selftest, which isn't installed; " root "$name" selftest
	result "and of the recorder" fails "is in the package $selftest, which isn't installed; " root "$name" record
	stand_in apt-cache "echo linux-image-$upstream+deb99-cloud-amd64; echo linux-image-$upstream+deb99-amd64"
	result "no kernel of this version is refused, with the name of a package that there is" \
		refused "Linux $upstream, which isn't installed.*; apt install linux-image-$upstream+deb99-amd64 linux-headers-$upstream+deb99-amd64"
	stand_in apt-cache true
	result "the same, where apt knows none" refused "apt knows no package of it"
	no_stand_in apt-cache
	result "Debian's kernel is installed" install_debs "${images[@]}"
	result "no headers are refused" refused "headers of Linux $kernel aren't installed; apt install linux-headers-$kernel"
	result "its headers are installed" install_debs "${headers[@]}"

	secure_boot "not enrolled"
	result "Secure Boot without an enrolled key is refused" refused "DKMS's key isn't enrolled"
	rm "$out/root.upper/var/lib/dkms/mok.pub"
	result "Secure Boot without a key is refused" refused "no key to sign modules with"
	no_secure_boot

	stand_in make 'case "$*" in *modules*) exit 2 ;; esac; exec /usr/bin/make "$@"'
	result "a build that fails is no success" fails "can't be built" root dpkg -i "/tmp/$deb"
	result "nor is the package configured then" state iF "$package"
	no_stand_in make
	# A host that runs this kernel, with a KVM and a VM.
	mkdir -p "$out/root.upper/sys/module/kvm"
	stand_in uname "[ \"\$1\" != -r ] || exec echo $kernel; exec /usr/bin/uname \"\$@\""
	result "with the build it is, and VMs are left alone" says "KVM isn't reloaded, as VMs are running: " \
		with_vm root dpkg --configure -a
	no_stand_in uname
	rm -rf "$out/root.upper/sys/module"
	result "modprobe would load the package's modules" installed "$version"
	take_modules
	result "status tells so" says "Linux $kernel (the newest: what GRUB boots, if not told otherwise): $version, with the relay" \
		root "$name" status
	result "status tells a user what only root sees" says "VMs: unknown, only root sees them all" root "${nobody[@]}" /usr/sbin/"$name" status
	result "status names a VM" says "VM of" with_vm root "$name" status
	result "check says what it checked" fails "ok   Secure Boot: off" root "$name" check
	result "and doesn't claim to see VMs" fails "VMs: not checked" root "${nobody[@]}" /usr/sbin/"$name" check

	result "the package of the tests is installed beside it" root dpkg -i "/tmp/$selftest_deb"
	result "the tool starts the tests" says "usage: $selftest" root "$name" selftest -h
	result "and the recorder" says "usage: $name-record" root "$name" record -h

	result "the line in README.md relays as printed" as_printed README.md LD_PRELOAD
	result "so does that in dkms/README.md" as_printed dkms/README.md LD_PRELOAD
	result "and the one with the command" as_printed dkms/README.md "$name run"
	result "without the relay, that fails" fails "not created" root env FAKE_LOG=/dev/null FAKE_CHECK=0 \
		LD_PRELOAD=/tmp/preload/fake-kvm.so "$name" run sh -c '/tmp/preload/fake-vmm; exit 1'

	result "the kernel is upgraded to $other" says "has no modules with the relay, as there is no package for it" install_debs "${others[@]}"
	result "and configured, with an initramfs" kernel_is_configured "$other"
	result "dkms autoinstall has no part in it" root dkms autoinstall -k "$other"
	result "status tells what it loads" says "Linux $other: its own KVM, without the relay: no package is for it" root "$name" status

	secure_boot "not enrolled"
	result "an upgrade of the package is refused" fails "DKMS's key isn't enrolled" root dpkg -i "/tmp/${deb/_$DEB_RELEASE/_$next}"
	no_secure_boot
	result "a refused upgrade leaves the modules" installed "$version"
	result "and the package" state ii "$package"
	stand_in make 'case "$*" in *modules*) exit 2 ;; esac; exec /usr/bin/make "$@"'
	result "an upgrade that doesn't build fails" fails "can't be built" root dpkg -i "/tmp/${tool/_$DEB_RELEASE/_$next}" "/tmp/${deb/_$DEB_RELEASE/_$next}"
	no_stand_in make
	result "a failed upgrade leaves the modules" installed "$version"
	result "the upgrade is completed" root dpkg --configure -a
	result "modprobe would load the new modules" installed "$upstream+relay$next"
	result "DKMS has only these" says "$upstream+relay$next, $kernel, x86_64: installed" root dkms status
	result "the source of the old ones is gone" root test ! -e "/usr/src/$name-$version"

	result "the package is removed" root dpkg -P "$package" "$name" "$selftest"
	result "modprobe would load the kernel's own modules" removed
	test_kernels
	if ! results_end; then
		cp "$out"/root.upper/var/lib/dkms/kvm-hyperv-nested-relay/*/build/make.log "$out/" 2>/dev/null || true
	fi
	rm -rf "$out"/root*
}

# One boot: the relay's tests on the package's modules, then on the kernel's own.
# The tests are those of the base, with the package's number for the capability.
boot() {
	local host=$1 vendor=$2 dir=$out/$3 name test

	shift 3
	mkdir -p "$dir"
	{
		for module in irqbypass kvm "kvm-$vendor"; do
			echo "insmod relay/$module relay/$module.ko"
		done
		echo "cat version /sys/module/kvm/version"
		for test in "$fixes" "$@"; do
			echo "test $test $((120 * 5)) $test"
		done
		for module in "kvm_$vendor" kvm; do
			echo "rmmod unload-$module $module"
		done
		for module in kvm "kvm-$vendor"; do
			echo "insmod stock/$module stock/$module.ko"
		done
		for test; do
			echo "test stock:$test 120 $test"
		done
	} > "$dir/manifest"
	"$TOP/lab/boot.sh" --host "$host" --name "deb/${dir##*/}" --kernel "$out/vmlinuz" --out "$dir" \
		--bindir "$bin" --manifest "$dir/manifest" --slowdown 4 > "$dir/boot.log" 2>&1 || true
}

# The root of a host that has the tool, with both KVMs where a host has them: what is in
# Debian's shell, modprobe and perl, and busybox for the rest.
host_root() {
	local root=$out/host file applet

	rm -rf "$root" "$out/unpacked"
	mkdir -p "$root"/{bin,sbin,usr/sbin,usr/bin,"usr/share/$name/$upstream","lib/modules/$kernel"/{updates/dkms,kernel/arch/x86/kvm,kernel/virt/lib}}
	dpkg-deb -x "$packages/$tool" "$root"
	dpkg-deb -x "$packages/$deb" "$out/unpacked"
	cp "$out/unpacked/usr/share/$name/$upstream"/{kernels,version} "$root/usr/share/$name/$upstream/"
	cp "$bin"/relay/kvm*.ko "$root/lib/modules/$kernel/updates/dkms/"
	cp "$bin"/stock/*.ko "$root/lib/modules/$kernel/kernel/arch/x86/kvm/"
	cp "$bin/relay/irqbypass.ko" "$root/lib/modules/$kernel/kernel/virt/lib/"
	cp "$(type -P busybox)" "$root/bin/"
	for applet in $(busybox --list); do
		[[ $applet == busybox ]] || ln -s busybox "$root/bin/$applet"
	done
	cp "$(type -P kmod)" "$root/sbin/kmod"
	for applet in modprobe insmod rmmod depmod modinfo; do
		rm -f "$root/bin/$applet"
		ln -s kmod "$root/sbin/$applet"
	done
	cp "$(type -P perl)" "$root/usr/bin/perl"
	# Busybox' shell prefers what is in busybox.
	rm "$root/bin/sh"
	cp "$(type -P dash)" "$root/bin/sh"
	ldd "$root/bin/sh" "$root/sbin/kmod" "$root/usr/bin/perl" "$root/usr/lib/$name/"*.so |
		awk '$2 == "=>" { print $3 } $1 ~ /^\// && NF == 2 { print $1 }' | sort -u | while read -r file; do
		mkdir -p "$root${file%/*}"
		cp -L "$file" "$root$file"
	done
	depmod -b "$root" "$kernel" 2> /dev/null
	cp "$TOP/dkms/reload-test.sh" "$bin/"
}

# Another boot: the tool, and reloading KVM.
reload() {
	local host=$1 vendor=$2 dir=$out/reload-$2 module

	mkdir -p "$dir"
	# A host without KVM counts as lost.
	{
		echo "insmod irqbypass relay/irqbypass.ko"
		for module in kvm "kvm-$vendor"; do
			echo "insmod stock/$module stock/$module.ko"
		done
		echo "test reload 900 reload-test.sh $vendor $release"
	} > "$dir/manifest"
	"$TOP/lab/boot.sh" --host "$host" --name "deb/reload-$vendor" --kernel "$out/vmlinuz" --out "$dir" \
		--bindir "$bin" --root "$out/host" --manifest "$dir/manifest" --slowdown 4 > "$dir/boot.log" 2>&1 || true
}

# Another boot: QEMU with the preload library, which is told the package's number.
end_to_end() {
	local host=$1 dir=$out/e2e-$2

	mkdir -p "$dir"
	"$TOP/e2e/run.sh" --host "$host" --name "deb/e2e/$2" --kernel "$out/vmlinuz" --modules "$bin/relay" \
		--cap "$PRIVATE_NUMBER" --out "$dir" > "$dir/boot.log" 2>&1 || true
}

# Another boot: the package for hosts that are real, on a host that is not.
host_tests() {
	local host=$1 dir=$out/host-$2

	shift 2
	mkdir -p "$dir"
	"$TOP/host/test/host.sh" --host "$host" --name "deb/${dir##*/}" --kernel "$out/vmlinuz" \
		--modules "$bin/relay" --tests "$*" --out "$dir" > "$dir/boot.log" 2>&1 || true
}

results_of() {
	local dir=$out/$1

	if [[ -f $dir/results.ktap ]]; then
		grep -vE '^(KTAP version|1\.\.)' "$dir/results.ktap"
	else
		say "not ok 0 deb/$1 boot # $(tail -n 1 "$dir/boot.log")"
		return 1
	fi
}

# What boot.sh can't know: which tests must skip, and which must not.
judge() {
	local dir=$out/$1 test now want good

	results_of "$1" || return 0
	shift
	now=$(verdict "$dir" "$fixes")
	[[ ${now%%,*} == pass ]] || printf 'not '
	say "ok 0 deb/${dir##*/}/$fixes: pass # $now"
	for test; do
		for want in pass skip; do
			[[ $want == pass ]] && good=$test || good=stock:$test
			now=$(verdict "$dir" "$good")
			[[ ${now%%,*} == "$want" ]] || printf 'not '
			say "ok 0 deb/${dir##*/}/$good: $want # $now"
		done
	done
}

# Of the fixes in front of the relay, and the relay's own.
fixes=hyperv_nested_hypercalls
all_tests=(hyperv_nested_relay_test hyperv_nested_relay_stress_test hyperv_nested_relay_fuzz)

test_boot() {
	local test

	[[ -f $out/vmlinuz && -d $bin/relay ]] || die "there are no modules to test" "run: make test-deb"
	(cd "$packages" && sha256sum --status -c "$bin/from") ||
		die "the modules to test are not of $deb" "run: make test-deb"
	for test in "$fixes" "${all_tests[@]}"; do
		cp "$BUILD/lab/selftests-private/$test" "$bin/"
	done
	rm -rf "$out"/{,e2e-,reload-,host-}{amd,intel}
	host_root
	say "test-deb: booting Debian's $kernel in the emulated hosts"
	{
		reload intel intel
		boot intel intel intel "${all_tests[@]}"
		host_tests intel intel refusals
		end_to_end intel intel
	} &
	# Not amd: this kernel patches its code while it runs, and was seen to die of an int3 that was
	# gone already in __schedule(), which looks like QEMU's threads. The end-to-end run has one
	# processor, and none of that; with a clock that counts instructions, QEMU in it was seen to
	# stand still.
	{
		reload amd-steady amd
		boot amd-steady amd amd "${all_tests[@]}"
		host_tests amd-steady amd selftest record refusals
		end_to_end amd amd
	} &
	wait
	{
		results_of reload-intel || true
		results_of reload-amd || true
		judge intel "${all_tests[@]}"
		judge amd "${all_tests[@]}"
		results_of host-intel || true
		results_of host-amd || true
		results_of e2e-intel || true
		results_of e2e-amd || true
	} > "$out/boot.ktap"
}

sum_up() {
	local passed failed skipped
	local -a parts=()

	[[ $what == boot ]] || parts+=("$out/install.ktap")
	[[ $what == install ]] || parts+=("$out/boot.ktap")
	merge "${parts[@]}" > "$out/results.ktap"
	grep -E '^(not )?ok ' "$out/results.ktap"
	read -r passed failed skipped <<< "$(count "$out/results.ktap")"
	counts "$passed" "$failed" "$skipped"
	((!failed && passed))
}

mkdir -p "$out"
if [[ $what != boot ]]; then
	fetch
	test_install
fi
if [[ $what != install ]]; then
	"$TOP/scripts/selftests.sh" --private "$fixes" "${all_tests[@]}"
	[[ -d $BUILD/host/root && $what == all ]] || "$TOP/host/build.sh"
	build_l2_kernel
	test_boot
fi
sum_up
