#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kunit.sh [--source series|mutant] [--kernel BZIMAGE] [--out DIR] [--name NAME]
#          [--gcda FILE] [--build] [--slowdown N]
#
# Build the kernel of lib/kunit/kvm_hv_nested_relay.kunitconfig with kunit.py, in
# o-kunit inside the source tree, boot it under QEMU without hardware
# virtualization and print what kunit.py makes of its output.
#
# DIR gets the console's log and the results, as lab/boot.sh has them for a boot
# of this NAME; default build/<base>/kunit.  With --gcda, the kernel is one with
# gcov for the relay's core, in o-kunit-gcov, and FILE gets the core's counters.
# With --build, build the kernel and leave it at that.  With --kernel, there is
# nothing to build: BZIMAGE has the tests, and may take N times as long.

. "$(dirname "$0")/../scripts/lib.sh"
. "$TOP/lab/results.sh"

boot_limit=150

source=series
out=
name=kunit
gcda=
kernel=
slowdown=1
build=
options 0 "source: kernel: out: name: gcda: slowdown: build" "$@"
((boot_limit *= slowdown))

need make gcc ccache flex bison bc perl python3 qemu-system-x86_64 timeout
load_base
case $source in
series) src=$LINUX ;;
mutant) src=$BUILD/mutant ;;
*) die "kunit.sh: unknown source $source" "use series or mutant" ;;
esac
[[ -d $src ]] || die "there is no ${src#"$TOP"/}" "run: make tree"
config=lib/kunit/kvm_hv_nested_relay.kunitconfig
[[ -f $src/$config ]] || die "${src#"$TOP"/} has no $config" "run: make tree"

obj=o-kunit
options=(--kconfig_add CONFIG_LOCALVERSION_AUTO=n)
make=('CC=ccache gcc' 'HOSTCC=ccache gcc' LOCALVERSION=-kunit)
if [[ $gcda ]]; then
	need cpio busybox
	[[ $(file -L "$(type -P busybox)") == *'statically linked'* ]] ||
		die "busybox is not the static one" "run: make setup"
	obj=o-kunit-gcov
	# gcov, and what it takes to hand its counters out.
	for option in GCOV_KERNEL DEBUG_FS BLK_DEV_INITRD BINFMT_SCRIPT DEVTMPFS; do
		options+=(--kconfig_add "CONFIG_$option=y")
	done
	make+=(GCOV_PROFILE_hyperv_nested_relay.o=y)
fi
[[ ! $kernel || -f $kernel ]] || die "there is no kernel $kernel" "run: make kernel"
out=${out:-$BUILD/${obj#o-}}
console=$out/console.log
mkdir -p "$out"
rm -f "$console" "$out"/{build,kunit,qemu}.log "$out"/{results.ktap,verdicts}

build_kernel() {
	local option

	for option in "${make[@]}"; do
		options+=(--make_options "$option")
	done
	cd "$src"
	LINUX=$src kunit_py build --arch=x86_64 --kunitconfig="$config" --build_dir="$obj" \
		--jobs="$(nproc)" "${options[@]}"
}

# An initramfs whose init sends the counters to the second serial port.
make_initramfs() {
	local root=$work/root

	mkdir -p "$root/bin" "$root/dev" "$root/sys"
	cp "$(type -P busybox)" "$root/bin/busybox"
	cat > "$root/init" <<-'EOF'
		#!/bin/busybox sh
		busybox mount -t devtmpfs none /dev
		busybox mount -t sysfs none /sys
		busybox mount -t debugfs none /sys/kernel/debug
		busybox stty -F /dev/ttyS1 raw
		busybox find /sys/kernel/debug/gcov -name '*.gcda' -exec busybox cat {} + > /dev/ttyS1
		busybox sleep 1
		busybox reboot -f
	EOF
	chmod +x "$root/init"
	(cd "$root" && find . | cpio -o -H newc --quiet) > "$work/initrd"
}

# Never on the machine's own /dev/kvm: the tests do without virtualization.
boot() {
	# On a busy machine TCG is too late for the kernel's test of the timer's interrupt.
	local cmdline="console=ttyS0 panic=-1 no_timer_check"
	local -a args=(-append "$cmdline kunit_shutdown=reboot")

	if [[ $gcda ]]; then
		make_initramfs
		args=(-serial "file:$work/gcda" -initrd "$work/initrd" -append "$cmdline")
	fi
	timeout --foreground -k 5 "$boot_limit" \
		qemu-system-x86_64 -accel tcg -cpu max -m 1024 -nodefaults -display none -no-reboot \
		-bios qboot.rom -kernel "${kernel:-$src/$obj/arch/x86/boot/bzImage}" \
		-serial "file:$console" "${args[@]}" < /dev/null > "$out/qemu.log" 2>&1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [[ ! $kernel ]]; then
	# Only one "make mutate" at a time can have the mutant, which it has locked.
	[[ $source == mutant ]] || lock
	say "kunit: building ${src#"$TOP"/}/$obj"
	logged "$out/build.log" build_kernel || die "building the KUnit kernel failed" "see $out/build.log"
	[[ ! $build ]] || exit 0
	exec 9>&-
fi

: > "$console"
boot || die "the KUnit kernel did not end within $boot_limit s, or QEMU failed" \
	"see $console and $out/qemu.log"

parsed=0
kunit_py parse "$console" | tee "$out/kunit.log" || parsed=1

read -r passed failed skipped < <(parsed_counts < "$out/kunit.log")

splats=$(tr -d '\0' < "$console" | ALLOW='' awk -f "$TOP/lab/splat.awk")
if [[ $splats ]]; then
	say "splat: ${splats%%$'\n'*}"
	failed=$((failed + 1))
fi
((failed || (passed && !parsed))) || failed=1

# What the kernel printed, in the place of what a lab's host reports.
step=kunit:kvm_hv_nested_relay
echo "$step" > "$work/steps"
{
	echo "x start $step"
	tr -d '\r\0' < "$console" | sed -n "s/^\[ *[0-9.]*\] //; /^KTAP version/,\$s/^/o $step /p"
	echo "x end $step exit 0 0"
	echo "x done 1"
} > "$work/result.log"
NONCE=x NAME=$name BOOT=${splats:+splat: ${splats%%$'\n'*}} EXPECT=pass VERDICTS=$out/verdicts \
	awk -f "$TOP/lab/ktap.awk" "$work/steps" "$work/result.log" > "$out/results.ktap"

if [[ $gcda ]]; then
	[[ -s $work/gcda ]] || die "the KUnit kernel has no gcov counters" "see $console"
	cp "$work/gcda" "$gcda"
fi

counts "$passed" "$failed" "$skipped"
((!failed))
