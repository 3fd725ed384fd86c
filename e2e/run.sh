#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Boot one emulated host with QEMU, L1 and Linux in it, and run scenarios.

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
# shellcheck source=vmm/qemu/lib.sh
. "$TOP/vmm/qemu/lib.sh"

all='off on post noauth child firmware soak kvm-off kvm kvm-inter kvm-one'
# With the QEMU of "make qemu", which knows the capability by the number of the series.
own='qemu qemu-child qemu-firmware qemu-deaf qemu-kvm qemu-save qemu-live qemu-held qemu-refuse qemu-reset'
# Seconds for one; more where the VM goes from one QEMU to another.
seconds() {
	case $1 in
	qemu-save | qemu-live | qemu-held | qemu-refuse | qemu-reset) echo 900 ;;
	*) echo 300 ;;
	esac
}

usage() {
	cat <<-EOF2
		usage: e2e/run.sh --host HOST --kernel BZIMAGE --out DIR [--tests "SCENARIO..."]
		                  [--l2-kernel BZIMAGE] [--name NAME] [--modules DIR] [--cap NUMBER]
		       e2e/run.sh --build [--tests "SCENARIO..."]

		Runs the scenarios [$all] one after the other in one
		boot of the host, and writes to DIR what lab/boot.sh writes; e2e/scenario.c has the checks.

		The host's kernel is L0, that of --l2-kernel is L2, by default the one that --build
		builds. The VMM is the QEMU that "make
		setup" unpacked, with our preload library; L1 is e2e/rootvisor. In the scenarios
		whose name begins with kvm, the kernel of --l2-kernel is L1, and L2 are guests of
		its KVM. In [$own], which have to be asked for, the VMM is
		the QEMU of "make qemu", QEMU= [10.0], with its hv-nested-relay in place of the library.
		With TO=, another version, the VM moves from the one to the other, and back.

		  --modules DIR   load irqbypass.ko, kvm.ko and the vendor's module from there first,
		                  for a kernel that has KVM as modules
		  --cap NUMBER    of the capability, for the preload library [that of the series]

		Exit status: 0 if all passed, 1 otherwise.
	EOF2
}

host='' kernel='' l2_kernel=$L2_KERNEL out='' tests=$all name='' modules='' cap='' build=''
options 0 "host: kernel: l2-kernel: out: tests: name: modules: cap: build" "$@"
if [ -n "$build" ]; then
	build_l2_kernel
	[[ " $tests" != *" qemu"* ]] || "$TOP/vmm/qemu/build.sh"
	[[ " $tests" != *" qemu"* || ! ${TO-} ]] || QEMU=$TO "$TOP/vmm/qemu/build.sh"
	exit
fi

qemu=$VMM_DIR/usr/bin/qemu-system-x86_64
[ -x "$qemu" ] || die "there is no QEMU 10 in $CACHE" "run: make setup"
relay_qemu=$QEMU_BUILD/o/qemu-system-x86_64
to_qemu=${TO:+$TOP/build/qemu-$TO/o/qemu-system-x86_64}
[ -n "$out" ] || die "no --out" "name a directory for the results"
[ -n "$tests" ] || die "no --tests" "give some of: $all"
for scenario in $tests; do
	[[ " $all $own " == *" $scenario "* ]] || die "no scenario '$scenario'" "give some of: $all $own"
	[[ $scenario != qemu* || -x $relay_qemu ]] || die "there is no $relay_qemu" "run: make qemu QEMU=$QEMU"
	[[ $scenario != qemu* || -z $to_qemu || -x $to_qemu ]] || die "there is no $to_qemu" "run: make qemu QEMU=$TO"
done
[ -f "$l2_kernel" ] || die "no L2 kernel '$l2_kernel'" "build it: BASE=$L2_BASE scripts/kernel.sh --source pristine --config e2e-l2"
[ -z "$modules" ] || [ -f "$modules/kvm.ko" ] || die "there is no $modules/kvm.ko" "build the modules first"
need gcc make objcopy cpio ldd

mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

static() {
	logged "$out/build.log" gcc -static -std=gnu11 -O2 -Wall -Wextra -Werror -o "$1" "$2" ||
		die "${2#"$TOP"/} does not compile" "see $out/build.log"
}

# The root of L2: init alone; and of an L1 that is Linux: a VMM as well.
mkdir -p "$work/l2" "$work/l1"
static "$work/l2/init" "$TOP/e2e/l2-init.c"
cp "$work/l2/init" "$work/l1/"
static "$work/l1/vmm" "$TOP/e2e/l1-vmm.c"

# What the host gets besides lab/init.c: the VMM with its libraries and firmware, L1 and L2.
vmm=$work/root/vmm
mkdir -p "$vmm/rom" "$work/bin"
for root in l1 l2; do
	(cd "$work/$root" && find . | cpio -o -H newc --quiet) >"$vmm/$root-initrd"
done
cp "$l2_kernel" "$vmm/bzImage"
cp "$qemu" "$vmm/"
for rom in seabios/bios-256k.bin qemu/{kvmvapic,multiboot,multiboot_dma,linuxboot,linuxboot_dma}.bin; do
	cp "$VMM_DIR/usr/share/$rom" "$vmm/rom/"
done
[[ " $tests" != *" qemu"* ]] || cp "$relay_qemu" "$vmm/qemu-relay"
[[ " $tests" != *" qemu"* || -z $to_qemu ]] || cp "$to_qemu" "$vmm/qemu-to"
ldd "$vmm"/qemu-* | awk '$2 == "=>" { print $3 } /^\t\// { print $1 }' | while read -r library; do
	mkdir -p "$work/root$(dirname "$library")"
	cp -L "$library" "$work/root$library"
done
logged "$out/build.log" make -C "$TOP/e2e/rootvisor" O="$work/rootvisor" ||
	die "e2e/rootvisor does not build" "see $out/build.log"
cp "$work/rootvisor/rootvisor.elf" "$vmm/"
logged "$out/build.log" make -C "$TOP/preload" O="$work/preload" all ||
	die "preload does not build" "see $out/build.log"
cp "$work/preload/hvrelay-preload.so" "$vmm/"
logged "$out/build.log" gcc -shared -fPIC -std=gnu11 -O2 -Wall -Wextra -Werror -o "$vmm/exits.so" \
	"$TOP/e2e/exits.c" -ldl || die "e2e/exits.c does not compile" "see $out/build.log"
static "$work/bin/scenario" "$TOP/e2e/scenario.c"

# The kernel measures the TSC's frequency twice, and KVM compares: where an emulator makes the two
# differ by more than the tolerance, a vCPU's TSC is taken for 0 by KVM's Hyper-V timers.
tolerance=tsc_tolerance_ppm=100000
if [ -n "$modules" ]; then
	vendor=${host%%-*}
	cp "$modules"/{irqbypass,kvm,"kvm-$vendor"}.ko "$work/bin/"
	# Step names of their own: kvm is a scenario's.
	printf 'insmod load-%s\n' "irqbypass irqbypass.ko" "kvm kvm.ko $tolerance" "kvm-$vendor kvm-$vendor.ko" >"$work/manifest"
fi
timeout=300
for scenario in $tests; do
	timeout=$((timeout + $(seconds "$scenario")))
	echo "test $scenario $(seconds "$scenario") scenario $scenario $cap"
done >>"$work/manifest"

boot() {
	"$TOP/lab/boot.sh" --host "$host" --kernel "$kernel" --name "${name:-e2e/$host}" --out "$out" \
		--bindir "$work/bin" --root "$work/root" --manifest "$work/manifest" --expect pass \
		--timeout "$timeout" --smp 1 \
		--append "kvm.$tolerance"
}

# Why the host did not make it to the end, other than by a splat; empty if it did.
lost_boot() {
	sed -n 's/^not ok 1 .* boot: no splat # \(hung\|ended before\|printed nothing\)/\1/p' "$out/results.ktap"
}

# An emulator that stops is not the relay's fault, but not to be hidden either. A check that
# failed is never repeated.
rm -f "$out/retried" "$out/results.ktap"
status=0
boot || status=$?
[ -f "$out/results.ktap" ] || exit "$status"
why=$(lost_boot)
if [ -n "$why" ]; then
	say "the host's boot is repeated: it $why"
	echo "the host's first boot $why" >"$out/retried"
	for log in console result emulator; do
		mv "$out/$log.log" "$out/$log-1.log"
	done
	status=0
	boot || status=$?
fi
# Nor is a QEMU that stops before L1 starts; scenario.c repeats that.
sed -n 's/^o \([^ ]*\) # retry: /\1: /p' "$out/result.log" >>"$out/retried"
[ -s "$out/retried" ] || rm "$out/retried"
exit "$status"
