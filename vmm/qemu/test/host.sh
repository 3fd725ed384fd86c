#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# host.sh --kernel BZIMAGE --out DIR --tests "WHAT..." [--host HOST] [--qemu FILE] [--name NAME]
#
# Boot an emulated host (default: amd) and run what host.c has there, with the QEMU of
# "make qemu" or with FILE: WHAT is guest, relay, or none, for a kernel without the
# capability.  --out gets what lab/boot.sh writes.

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../../scripts/lib.sh"
# shellcheck source=vmm/qemu/lib.sh
. "$TOP/vmm/qemu/lib.sh"

host=amd kernel='' out='' qemu=$QEMU_BUILD/o/qemu-system-x86_64 tests='' name=''
options 0 "host: kernel: out: qemu: tests: name:" "$@"
[[ -x $qemu ]] || die "there is no $qemu" "run: make qemu QEMU=$QEMU"
[[ -d $VMM_DIR ]] || die "there is no firmware in $CACHE" "run: make setup"
[[ $out && -f $kernel ]] || die "no --out, or no kernel '$kernel'" "see vmm/qemu/test/host.sh --help"
[[ $tests ]] || die "nothing to run" "name some of: guest relay none"
need gcc ld ldd

mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
vmm=$work/root/vmm
mkdir -p "$vmm/rom" "$work/bin"

logged "$out/build.log" gcc -static -std=gnu11 -O2 -Wall -Wextra -Werror -o "$work/bin/host" \
	"$TOP/vmm/qemu/test/host.c" || die "host.c does not compile" "see $out/build.log"
logged "$out/build.log" gcc -m32 -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-pic \
	-fno-stack-protector -fno-asynchronous-unwind-tables -mgeneral-regs-only -fcf-protection=none \
	-c -o "$work/guest.o" "$TOP/vmm/qemu/test/guest.c" || die "guest.c does not compile" "see $out/build.log"
logged "$out/build.log" ld -m elf_i386 -nostdlib --build-id=none -Ttext 0x200000 -e _start \
	-o "$vmm/guest.elf" "$work/guest.o" || die "guest.c does not link" "see $out/build.log"
cp "$qemu" "$vmm/qemu"
for rom in seabios/bios-256k.bin qemu/{kvmvapic,multiboot,multiboot_dma}.bin; do
	cp "$VMM_DIR/usr/share/$rom" "$vmm/rom/"
done
ldd "$qemu" | awk '$2 == "=>" { print $3 } /^\t\// { print $1 }' | while read -r library; do
	mkdir -p "$work/root$(dirname "$library")"
	cp -L "$library" "$work/root$library"
done
for what in $tests; do
	echo "test $what 1000 host /vmm/qemu $what"
done > "$work/manifest"

"$TOP/lab/boot.sh" --host "$host" --kernel "$kernel" --name "${name:-qemu/$host}" --out "$out" \
	--bindir "$work/bin" --root "$work/root" --manifest "$work/manifest" --expect pass \
	--timeout $((300 + 1000 * $(wc -w <<< "$tests"))) --smp 1 --append kvm.tsc_tolerance_ppm=100000
