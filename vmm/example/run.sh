#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run.sh --host HOST --kernel BZIMAGE --out DIR [--name NAME]
# run.sh --out DIR [--name NAME]
# run.sh --build
#
# Build the example VMMs and run them in an emulated host, with the relay on and off:
# what they print has to be what is below.  One in Rust is left out if there is no
# rustc.  Without a host, look whether the guide's code is that of the example.

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
# shellcheck source=lab/results.sh
. "$TOP/lab/results.sh"

guide=$TOP/Documentation/virt/kvm/x86/hyperv-nested-relay.rst
example=$TOP/vmm/example/relay-vmm.c
host='' kernel='' out='' name='' build=''
options 0 "host: kernel: out: name: build" "$@"
load_base
obj=$BUILD/example headers=$LINUX/o-selftests

make_all() {
	make -C "$LINUX" O="${headers##*/}" -j"$(nproc)" headers_install && mkdir -p "$obj" &&
	make -C "$TOP/vmm/example" O="$obj" HEADERS="$headers/usr/include" "$@"
}

# What a program prints, without what differs by vendor; the same in C and Rust.

# L1 asks to connect, on connection 4 and on 1, and gets this status.
expected_contact() {
	cat <<-END
	VMM: input 0x5c, parameter 0xINPUT, of L1
	VMM: completed, RAX 0x12
	VMM: input 0x5c, parameter 0xINPUT, of L1
	VMM: type 1, 40 bytes: InitiateContact, version 4.0
	VMM: completed, RAX $1
	END
}

expected_firmware() {
	expected_contact 0x0
	cat <<-'END'
	firmware: connected
	VMM: input 0x5c, parameter 0xINPUT, of L1
	VMM: type 1, 8 bytes: Unload
	VMM: completed, RAX 0x0
	firmware: unloaded
	END
}

# It has no page for the answer.
expected_deaf() {
	expected_contact 0x13
	echo "firmware: can't hear the answer"
}

# L1's other guest has L1's consent. That it calls after L2 has unloaded vmbus changes nothing.
expected_on() {
	cat <<-'END'
	first nested call: control 8000005c, L2 GPA 1002000
	moved L2's page 1002000 to L1GPA
	L2 is authorized
	VMM: input 0x5c, parameter 0xL1GPA, of L2 with VM id 0xID
	VMM: type 1, 40 bytes: InitiateContact, version 4.0
	VMM: completed, RAX 0x0
	VMM: input 0x1005d, parameter 0x2a, of L2 with VM id 0xID
	VMM: connection 42, flag 0
	VMM: completed, RAX 0x12
	VMM: input 0x5c, parameter 0xL1GPA, of L2 with VM id 0xID
	VMM: type 1, 8 bytes: Unload
	VMM: completed, RAX 0x0
	child: starts
	child: L0 reflects call 8000005c, L1 answers 2
	child: L0 reflects call 8001005d, L1 answers 2
	child: posts reflected 4 of 4, signals reflected 4 of 4
	root: posts reflected 0, signals reflected 0, first call learned from 1
	VMM: the guest ends with 0
	END
}

expected_off() {
	cat <<-'END'
	first nested call: control 8000005c, L2 GPA 1002000
	moved L2's page 1002000 to L1GPA
	L2 is authorized
	root: L0 reflects call 8000005c, L1 answers 2
	root: posts reflected 1, signals reflected 0, first call learned from 1
	VMM: the guest ends with 2
	END
}

# says STEP WHAT...: addresses are L1's to choose, but the VMM's must be L1's.
says() {
	local step=$1 gpa

	shift
	gpa=$(step_output "$out" "$step" | sed -n "s/^moved L2's page .* to //p")
	diff <(for what; do "expected_$what"; done) <(step_output "$out" "$step" |
		sed "/^L2 starts/d; /^L2: /d; /exits [0-9]/d; s/\(VM id 0x\)[0-9a-f]*$/\1ID/
		     s/\(parameter 0x\)[0-9a-f]*\(, of L1\)$/\1INPUT\2/
		     s/\(to \|parameter 0x\)${gpa:-none}\>/\1L1GPA/")
}

# Each piece of C in the guide, i.e. what begins after an empty line and without an
# indent, is in the example, with blanks for tabs.
excerpts_are_verbatim() {
	expand "$example" | awk '
		FNR == NR { text = text $0 "\n"; next }
		function check() {
			sub(/\n+$/, "\n", piece)
			if (piece != "" && !index("\n" text, "\n" piece)) {
				print piece "line " first " of the guide: not in relay-vmm.c"
				bad = 1
			}
			pieces += piece != ""
			piece = ""
		}
		/^\.\. code-block:: c$/ { in_block = 1; next }
		!in_block { next }
		/^[^ ]/ { in_block = 0 }
		/^[^ ]|^  [^ }]/ && piece ~ /(^|\n)\n$/ { check() }
		in_block && (piece != "" || NF) {
			if (piece == "")
				first = FNR
			piece = piece substr($0, 3) "\n"
		}
		END {
			check()
			if (!pieces)
				print "no C in the guide"
			exit bad || !pieces
		}' - "$guide"
}

if [[ $build ]]; then
	need make gcc objcopy rsync
	lock
	logged "$obj.log" make_all all || die "the example VMM does not build" "see $obj.log"
	if type -P rustc > /dev/null; then
		logged "$obj.log" make_all rust || die "the example VMM in Rust does not build" "see $obj.log"
	else
		rm -f "$obj/relay-vmm-rs"
	fi
	exit
fi

[[ $out ]] || die "no --out" "see vmm/example/run.sh --help"
mkdir -p "$out"
out=$(cd "$out" && pwd)
if [[ ! $host ]]; then
	results_begin "$out/results.ktap" "${name:-guide}"
	result "the guide's code is the example's" excerpts_are_verbatim
	results_end
	exit
fi
[[ -x $obj/relay-vmm ]] || die "there is no ${obj#"$TOP"/}/relay-vmm" "run: vmm/example/run.sh --build"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
mkdir "$work/root"
cp "$obj"/{rootvisor.elf,l2.bin} "$work/root/"
programs=(relay-vmm)
[[ ! -x $obj/relay-vmm-rs ]] || programs+=(relay-vmm-rs)
for program in "${programs[@]}"; do
	guests="/rootvisor.elf /l2.bin child-auth"
	echo "test $program/on 120 $program $guests"
	echo "test $program/off 120 $program --off $guests"
	echo "test $program/firmware 120 $program $guests firmware"
	echo "test $program/firmware-off 120 $program --off $guests firmware"
	echo "test $program/deaf 120 $program $guests deaf-firmware"
done > "$work/manifest"

"$TOP/lab/boot.sh" --host "$host" --kernel "$kernel" --name "${name:-guide/$host}" --out "$out" \
	--bindir "$obj" --root "$work/root" --manifest "$work/manifest" --expect pass || true
mv "$out/results.ktap" "$work/boot.ktap"
results_begin "$work/said.ktap" "${name:-guide/$host}"
for program in "${programs[@]}"; do
	result "$program: with the relay, the VMM gets L2's calls, and L2 its answers" says "$program/on" on
	result "$program: without, L1 gets them" says "$program/off" off
	result "$program: so it is after firmware had the vmbus" says "$program/firmware" firmware on
	result "$program: and after firmware that didn't get the answer" says "$program/deaf" deaf on
	result "$program: without the relay, firmware has it as well" says "$program/firmware-off" firmware off
done
results_end || true
if ((${#programs[@]} == 1)); then
	echo "ok 0 ${name:-guide/$host}: relay-vmm-rs # SKIP rustc isn't installed: apt-get install rustc" >> "$work/said.ktap"
fi
merge "$work"/{boot,said}.ktap > "$out/results.ktap"
say "results: $out/results.ktap"
! grep -q '^ *not ok ' "$out/results.ktap"
