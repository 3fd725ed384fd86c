#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# bisect.sh
#
# Boot the kernel of the base and of every commit of the series on an emulated
# Intel and an emulated AMD host, with upstream's Hyper-V selftests and the
# relay's.  Upstream's must pass (or skip, if they do on the base); the relay's
# must skip with its reason, or pass once the capability is there.  Of the cases
# about the fixes in front of it, no more may fail than with the commit before, and
# none once the test is there.  Prints a table, a line per commit and host.
# HOST=GLOB narrows it down, and so does COMMIT=GLOB, which is about its number;
# 0, the base, is always there.
# Works in build/<base>/check.

. "$(dirname "$0")/../scripts/lib.sh"
. "$TOP/lab/results.sh"

options 0 "" "$@"
relay=hyperv_nested_relay_test
fixes=hyperv_nested_hypercalls
declare -A upstream=(
	[intel]="hyperv_evmcs hyperv_tlb_flush hyperv_features hyperv_extended_hypercalls"
	[amd]="hyperv_svm_test hyperv_tlb_flush hyperv_features hyperv_extended_hypercalls"
)

need git awk
load_base
[[ -d $LINUX ]] || die "there is no build/$BASE/linux" "run: make tree"
src=$BUILD/check
out=$BUILD/bisect-check
mkdir -p "$out"
exec 8> "$BUILD/.check-lock"
flock -n 8 || die "another make check or bisect-check is running" "wait for it to end"

hosts=()
for host in intel amd; do
	# shellcheck disable=SC2053
	[[ $host != ${HOST:-*} ]] || hosts+=("$host")
	for test in ${upstream[$host]}; do
		! is_left_out "$host" "$test" || upstream[$host]=${upstream[$host]//$test/}
	done
done
((${#hosts[@]})) || die "no host matches '$HOST'" "use intel or amd"

# One build of the tests, those of the series, for all kernels: what changes from
# boot to boot is the kernel.
mapfile -t programs < <(printf '%s\n' "$relay" "$fixes" "${upstream[@]}" | xargs -n 1 | sort -u)
"$TOP/scripts/selftests.sh" "${programs[@]}"

worktree "$src" base
git -C "$src" reset -q --hard
trap 'kill $(jobs -p) 2>/dev/null || :' EXIT

# boot HOST DIR KERNEL: without a verdict on skips, which depends on the commit.
# amd is amd-steady, as for hyperv_tlb_flush in lab/plan.
boot() {
	timeout --foreground 900 "$TOP/lab/boot.sh" --host "${1/%amd/amd-steady}" --kernel "$3" --out "$2/$1" \
		--tests "${upstream[$1]} $fixes $relay" > "$2/$1.log" 2>&1
}

# Why a program skipped as a whole.
reason() {
	sed -n "s/^ok [0-9]* .*\/$relay # SKIP *//p;T;q" "$1/results.ktap"
}

# judge HOST DIR EXPECTED: set cell to a word; the relay's is to skip or to pass.
judge() {
	local host=$1 dir=$2/$1 expected=$3 test now before bad=() why unfixed

	grep -q '^ok [0-9]* .*boot: no splat' "$dir/results.ktap" 2>/dev/null || bad+=(boot)
	for test in ${upstream[$host]}; do
		now=$(verdict "$dir" "$test")
		before=$(verdict "$out/0/$host" "$test")
		[[ $now == "$before" && $now =~ ^(pass|skip) ]] || bad+=("$test:$now")
	done
	now=$(verdict "$dir" "$fixes")
	unfixed=${now#*passed, }
	unfixed=${unfixed%% failed*}
	if [[ ! $unfixed =~ ^[0-9]+$ ]] || ((unfixed > ${to_fix[$host]:-$unfixed})); then
		bad+=("$fixes:$now")
	elif [[ $dir == "$out/0/$host" && $unfixed == 0 ]]; then
		bad+=("$fixes:nothing to fix on the base")
	elif [[ (-f $src/$kvm/x86/$fixes.c || -f $src/$kvm/x86_64/$fixes.c) && $unfixed != 0 ]]; then
		bad+=("$fixes:$unfixed not fixed")
	fi
	[[ ! $unfixed =~ ^[0-9]+$ ]] || to_fix[$host]=$unfixed
	now=$(verdict "$dir" "$relay")
	why=$(reason "$dir")
	case $expected:$now in
	skip:skip*) [[ $why && $why != 'no reason given' ]] || bad+=("$relay:skipped without a reason") ;;
	pass:pass*) ;;
	*) bad+=("$relay:$now, not $expected${why:+ ($why)}") ;;
	esac
	if ((${#bad[@]})); then
		cell="FAILED ${bad[*]}"
		return 1
	fi
	cell="upstream ok, $unfixed to fix, relay's ${expected/%pass/passe}s${why:+: $why}"
}

declare -A to_fix=()
kvm=tools/testing/selftests/kvm
passed=0
failed=0
number=0
while read -r commit; do
	dir=$out/$number
	# shellcheck disable=SC2053
	if ((number)) && [[ $number != ${COMMIT:-*} ]]; then
		number=$((number + 1))
		continue
	fi
	rm -rf "$dir"
	mkdir -p "$dir"
	git -C "$src" checkout -q --detach "$commit"
	printf '%2d %s\n' "$number" "$(git -C "$src" show -s --format=%s "$commit")"
	number=$((number + 1))
	expected=skip
	! grep -qw KVM_CAP_NESTED_HYPERV_HCALL_RELAY "$src/arch/x86/kvm/x86.c" || expected=pass
	if ! "$TOP/scripts/kernel.sh" --source check > "$dir/build.log" 2>&1; then
		failed=$((failed + ${#hosts[@]}))
		say "     does not build, see ${dir#"$TOP"/}/build.log"
		continue
	fi
	cp "$BUILD/lab/check-lab/bzImage" "$dir/bzImage"
	for host in "${hosts[@]}"; do
		boot "$host" "$dir" "$dir/bzImage" &
	done
	wait
	for host in "${hosts[@]}"; do
		if judge "$host" "$dir" "$expected"; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
		fi
		printf '     %-6s %s\n' "$host" "$cell"
	done
	rm -f "$dir/bzImage"
done < <(git -C "$LINUX" rev-list --reverse series)

say "$passed passed, $failed failed"
((!failed && passed))
