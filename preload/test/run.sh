#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run.sh --out DIR [--name NAME]
#
# Test the preload library with a made-up KVM and a made-up VMM; no /dev/kvm is
# needed. DIR gets results.ktap and the programs. Exit status: 0 if all passed.

. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
. "$TOP/lab/results.sh"

dir=$TOP/preload
out=
name=hvrelay-preload
options 0 "out: name:" "$@"
[[ $out ]] || die "no --out" "name a directory for the results"

mkdir -p "$out"
out=$(cd "$out" && pwd -P)
logged "$out/build.log" make -C "$dir" O="$out" test-programs ||
	die "the preload library does not build" "see $out/build.log"

# vmm [VARIABLE=VALUE...] [-- VMS]: run it; what it printed is in $out/stdout and
# stderr, what KVM got to see in $out/calls.
vmm() {
	local -a variables=()

	while (($#)) && [[ $1 != -- ]]; do
		variables+=("$1")
		shift
	done
	: > "$out/calls"
	timeout 10 env -i FAKE_LOG="$out/calls" "${variables[@]}" \
		LD_PRELOAD="$out/hvrelay-preload.so:$out/fake-kvm.so" \
		"$out/fake-vmm" "${@:2}" > "$out/stdout" 2> "$out/stderr"
}

# check WHAT FILE LINE...: the last run's FILE has these lines and no others; a
# LINE is a glob.
bad=
check() {
	local what=$1 file line
	local -a lines

	shift
	for file in calls stdout stderr; do
		[[ $1 == "$file:" ]] || { bad+="$what: the test lists no $file; "; return; }
		shift
		mapfile -t lines < "$out/$file"
		for line in "${lines[@]}"; do
			# shellcheck disable=SC2053
			if [[ ! ${1-} || $1 == *: || $line != $1 ]]; then
				bad+="$file has '$line', not '${1-}'; "
				return
			fi
			shift
		done
		if [[ ${1-} && ! $1 =~ ^(calls|stdout|stderr):$ ]]; then
			bad+="$file lacks '$1'; "
			return
		fi
	done
}

# What the checks since the last result found.
good() {
	say "$bad"
	[[ ! $bad ]]
}

results_begin "$out/results.ktap" "$name"
other="other 3 0xae41 77"

vmm HVRELAY_CLASSES=post,signal
check both calls: "create 5" "check 3 252" "enable 3 252 flags 0 args 3 0 0 0" "$other" \
	stdout: "vm made EDOM, fd open" "vcpu 0" stderr: "hvrelay: VM 3: relaying post,signal"
result "both classes are enabled on the VM's descriptor, before the VMM goes on" good; bad=

vmm HVRELAY_CLASSES=post
check post calls: "create 5" "check 3 252" "enable 3 252 flags 0 args 1 0 0 0" "$other" \
	stdout: "vm made *" "vcpu 0" stderr: "hvrelay: VM 3: relaying post"
vmm HVRELAY_CLASSES=signal
check signal calls: "create 5" "check 3 252" "enable 3 252 flags 0 args 2 0 0 0" "$other" \
	stdout: "vm made *" "vcpu 0" stderr: "hvrelay: VM 3: relaying signal"
result "a single class is enabled alone" good; bad=

vmm HVRELAY_CLASSES=signal,post HVRELAY_CAP=300
check number calls: "create 5" "check 3 300" "enable 3 300 flags 0 args 3 0 0 0" "$other" \
	stdout: "vm made *" "vcpu 0" stderr: "hvrelay: VM 3: relaying post,signal"
vmm HVRELAY_CLASSES=post HVRELAY_CAP=0x4f564d52
check hex calls: "create 5" "check 3 1331055954" "enable 3 1331055954 flags 0 args 1 0 0 0" "$other" \
	stdout: "vm made *" "vcpu 0" stderr: "hvrelay: VM 3: relaying post"
result "HVRELAY_CAP is the capability's number, in hexadecimal if it starts with 0x" good; bad=

vmm HVRELAY_CLASSES=post,inter-partition FAKE_CHECK=771
check inter calls: "create 5" "check 3 252" "enable 3 252 flags 0 args 257 0 0 0" "$other" \
	stdout: "vm made *" "vcpu 0" stderr: "hvrelay: VM 3: relaying post,inter-partition"
result "inter-partition asks for L1's consent to posts and signals" good; bad=

for id in 0 1 0xffff888003a2c000 18446744073709551615; do
	vmm HVRELAY_CLASSES=inter-partition,signal,post HVRELAY_VM_ID=$id FAKE_CHECK=771
	printf -v decimal %u "$id"
	[[ $id == 0 ]] && hex=0 || printf -v hex 0x%x "$id"
	check "$id" calls: "create 5" "check 3 252" "enable 3 252 flags 0 args 771 $decimal 0 0" "$other" \
		stdout: "vm made *" "vcpu 0" \
		stderr: "hvrelay: VM 3: relaying post,signal,inter-partition of the L2 with VM id $hex"
done
result "HVRELAY_VM_ID names the L2 that is served, 0 is a valid id" good; bad=

vmm HVRELAY_CLASSES=post FAKE_CHECK=7
check more calls: "create 5" "check 3 252" "enable 3 252 flags 0 args 1 0 0 0" "$other" \
	stdout: "vm made *" "vcpu 0" stderr: "hvrelay: VM 3: relaying post"
result "a host that relays more gets what was asked for, no more" good; bad=

vmm
check unset calls: "create 5" "$other" stdout: "vm made *" "vcpu 0" \
	stderr: "hvrelay: VM 3: relay stays off: HVRELAY_CLASSES is not set; *"
vmm HVRELAY_CLASSES=
check empty calls: "create 5" "$other" stdout: "vm made *" "vcpu 0" \
	stderr: "hvrelay: VM 3: relay stays off: HVRELAY_CLASSES is not set; *"
vmm HVRELAY_STRICT=1
check strict calls: "create 5" "$other" stdout: "vm made *" "vcpu 0" \
	stderr: "hvrelay: VM 3: relay stays off: HVRELAY_CLASSES is not set; *"
result "without HVRELAY_CLASSES the VM is left alone" good; bad=

for list in posts po 'post,' ',post' 'post,,signal' POST 'post signal' 3; do
	vmm HVRELAY_CLASSES="$list"
	check "$list" calls: "create 5" "$other" stdout: "vm made *" "vcpu 0" \
		stderr: "hvrelay: HVRELAY_CLASSES=$list: no class '*'; use post, signal or post,signal, and *"
done
result "an unknown class enables nothing, and is named" good; bad=

vmm HVRELAY_CLASSES=inter-partition FAKE_CHECK=771
check alone calls: "create 5" "$other" stdout: "vm made *" "vcpu 0" \
	stderr: "hvrelay: HVRELAY_CLASSES=inter-partition: nothing to relay; add post, signal or post,signal"
result "a restriction without a class enables nothing" good; bad=

for id in '' ' ' ' 1' +1 -1 x 0x 12x 0x1g 18446744073709551616 0x10000000000000000; do
	vmm HVRELAY_CLASSES=post FAKE_CHECK=771 HVRELAY_VM_ID="$id"
	check "$id" calls: "create 5" "$other" stdout: "vm made *" "vcpu 0" \
		stderr: "hvrelay: HVRELAY_VM_ID=$id is not the id of a VM; unset it for any"
done
result "a bad HVRELAY_VM_ID enables nothing, and is named" good; bad=

for number in x 0 -1 12x 4294967548 99999999999999999999 ' '; do
	vmm HVRELAY_CLASSES=post HVRELAY_CAP="$number"
	check "$number" calls: "create 5" "$other" stdout: "vm made *" "vcpu 0" \
		stderr: "hvrelay: HVRELAY_CAP=$number is not the number of a capability; unset it for 252"
done
result "a bad HVRELAY_CAP enables nothing, and is named" good; bad=

vmm HVRELAY_CLASSES=post FAKE_CHECK=0
check none calls: "create 5" "check 3 252" "$other" stdout: "vm made *" "vcpu 0" \
	stderr: "hvrelay: VM 3: relay stays off: this host has no capability 252; *nested=1*"
vmm HVRELAY_CLASSES=post FAKE_CHECK=-22
check einval calls: "create 5" "check 3 252" "$other" stdout: "vm made *" "vcpu 0" \
	stderr: "hvrelay: VM 3: relay stays off: KVM_CHECK_EXTENSION of 252 failed: Invalid argument"
result "a host without the capability is left alone, with the reason" good; bad=

vmm HVRELAY_CLASSES=post,signal FAKE_CHECK=1
check part calls: "create 5" "check 3 252" "$other" stdout: "vm made *" "vcpu 0" \
	stderr: "hvrelay: VM 3: relay stays off: post,signal wanted, this host relays post"
vmm HVRELAY_CLASSES=signal FAKE_CHECK=5
check unknown calls: "create 5" "check 3 252" "$other" stdout: "vm made *" "vcpu 0" \
	stderr: "hvrelay: VM 3: relay stays off: signal wanted, this host relays post,0x4"
vmm HVRELAY_CLASSES=post,inter-partition FAKE_CHECK=3
check inter calls: "create 5" "check 3 252" "$other" stdout: "vm made *" "vcpu 0" \
	stderr: "hvrelay: VM 3: relay stays off: post,inter-partition wanted, this host relays post,signal"
vmm HVRELAY_CLASSES=post HVRELAY_VM_ID=0 FAKE_CHECK=259
check one calls: "create 5" "check 3 252" "$other" stdout: "vm made *" "vcpu 0" \
	stderr: "hvrelay: VM 3: relay stays off: post,one L2 wanted, this host relays post,signal,inter-partition"
result "a host that relays only a part is left alone, with the reason" good; bad=

vmm HVRELAY_CLASSES=post FAKE_ENABLE=-1
check eperm calls: "create 5" "check 3 252" "enable 3 252 *" "$other" \
	stdout: "vm made *" "vcpu 0" \
	stderr: "hvrelay: VM 3: relay stays off: KVM_ENABLE_CAP of 252 failed: Operation not permitted"
result "a refused capability is reported, and the VM goes on" good; bad=

for case in "FAKE_CHECK=0 HVRELAY_STRICT=1" "FAKE_CHECK=1 HVRELAY_STRICT=yes" \
	"FAKE_ENABLE=-22 HVRELAY_STRICT=1" "HVRELAY_CAP=x HVRELAY_STRICT=1" \
	"HVRELAY_VM_ID=7 HVRELAY_STRICT=1" "HVRELAY_VM_ID= FAKE_CHECK=771 HVRELAY_STRICT=1"; do
	# shellcheck disable=SC2086
	vmm HVRELAY_CLASSES=post,signal $case
	mapfile -t calls < "$out/calls"
	check "$case" calls: "${calls[@]}" stdout: "vm none EOPNOTSUPP, fd closed" \
		stderr: "hvrelay: *" "hvrelay: VM 3: not created, as HVRELAY_STRICT is set"
	[[ ${#calls[@]} -lt 4 && ${calls[*]} != *other* ]] || bad+="$case: calls are ${calls[*]}"
done
result "with HVRELAY_STRICT there is no VM without the relay, and no open descriptor" good; bad=

vmm HVRELAY_CLASSES=post HVRELAY_STRICT=1
check good calls: "create 5" "check 3 252" "enable 3 252 *" "$other" \
	stdout: "vm made *" "vcpu 0" stderr: "hvrelay: VM 3: relaying post"
vmm HVRELAY_CLASSES=post HVRELAY_STRICT=0 FAKE_CHECK=0
check off calls: "create 5" "check 3 252" "$other" stdout: "vm made *" "vcpu 0" \
	stderr: "hvrelay: VM 3: relay stays off: *"
result "HVRELAY_STRICT changes nothing for a VM with the relay, nor does 0" good; bad=

vmm HVRELAY_CLASSES=post FAKE_CREATE=-12
check enomem calls: "create 5" stdout: "vm none ENOMEM, fd closed" stderr:
result "a VM that could not be created is the VMM's affair" good; bad=

vmm HVRELAY_CLASSES=post FAKE_OTHER=-7
check passed calls: "create 5" "check 3 252" "enable 3 252 *" "$other" \
	stdout: "vm made *" "vcpu -1" stderr: "hvrelay: VM 3: relaying post"
result "other ioctls go through as they are" good; bad=

vmm HVRELAY_CLASSES=signal -- 2
check two calls: "create 5" "check 3 252" "enable 3 252 * 2 0 0 0" "$other" \
	"create 5" "check 4 252" "enable 4 252 * 2 0 0 0" "other 4 0xae41 77" \
	stdout: "vm made *" "vcpu 0" "vm made *" "vcpu 0" \
	stderr: "hvrelay: VM 3: relaying signal" "hvrelay: VM 4: relaying signal"
result "each VM of a process gets it" good; bad=

# Nothing but ioctl() is interposed, or a program could be changed by accident.
exports=$(nm -D --defined-only "$out/hvrelay-preload.so" | awk '{ print $3 }')
[[ $exports == ioctl ]] || bad="exported: ${exports//$'\n'/ }"
result "the library exports ioctl() and nothing else" good; bad=
results_end || { cat "$out/results.ktap"; exit 1; }
say "$(grep -c "^ok " "$out/results.ktap") passed, results: $out/results.ktap"
