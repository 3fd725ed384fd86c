#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mutate.sh [--by kunit|selftest|fuzz] [GLOB]
#
# Put the faults of check/mutations whose name matches GLOB into the kernel, one
# at a time, and run the relay's KUnit tests (the default), its selftest, or the
# short run of its fuzzer with the faults that are the selftest's, on both
# vendors' hosts.  Prints which cases notice, fails if a fault goes unnoticed.
# Works in build/<base>/mutant; a fault takes 15 seconds with KUnit, about a
# minute with the others.

. "$(dirname "$0")/../scripts/lib.sh"
. "$TOP/lab/results.sh"

by=kunit
options 1 "by:" "$@"
case $by in
kunit|selftest) column=$by tests="hyperv_nested_hypercalls hyperv_nested_relay_test hyperv_nested_relay_stress_test" ;;
fuzz) column=selftest tests=hyperv_nested_relay_fuzz ;;
*) die "no tests '$by'" "use BY= or --by kunit, selftest or fuzz" ;;
esac
glob=${args[0]:-*}

need git perl flock
load_base
[[ -d $LINUX ]] || die "there is no build/$BASE/linux" "run: make tree"
# shellcheck disable=SC2086 # words
[[ $by == kunit ]] || "$TOP/scripts/selftests.sh" $tests

src=$BUILD/mutant
out=$BUILD/mutate/$by
kernel=$BUILD/lab/mutant-lab/bzImage

mkdir -p "$BUILD/mutate"
exec 8> "$BUILD/mutate/.lock"
flock -n 8 || die "another make mutate is running" "wait for it to end"
worktree "$src" series
restore() {
	git -C "$src" checkout -q -f --detach series
}
trap restore EXIT
restore

# The first three of the names.
some() {
	awk 'NR <= 3 { printf "%s%s", (NR > 1 ? " " : ""), $0 }
	     END { if (NR > 3) printf " and %d more", NR - 3 }'
}

# Case names that failed, or why the boot did.
noticed() {
	local ktap=$1 cases

	cases=$(failed_cases "$ktap" | some)
	say "${cases:-$(failed_tests "$ktap" | sed -n 1p)}"
}

# amd is amd-steady: what QEMU's threads do to several vCPUs must not count as noticed.
boot() {
	"$TOP/lab/boot.sh" --host "${1/%amd/amd-steady}" --kernel "$kernel" --tests "$tests" \
		--timeout 480 --test-timeout 120 --out "$out/$name/$1" > "$out/$name/$1.log" 2>&1 || true
	[[ -f $out/$name/$1/results.ktap ]]
}

try_selftest() {
	local amd intel

	"$TOP/scripts/kernel.sh" --source mutant > "$out/$name/build.log" 2>&1 ||
		die "mutation $name does not build" "see ${out#"$TOP"/}/$name/build.log"

	# Neither may be left running.
	boot intel &
	amd=ok
	boot amd || amd=
	wait $! || die "mutation $name: no result from intel" "see ${out#"$TOP"/}/$name/intel.log"
	[[ $amd ]] || die "mutation $name: no result from amd" "see ${out#"$TOP"/}/$name/amd.log"

	amd=$(noticed "$out/$name/amd/results.ktap")
	intel=$(noticed "$out/$name/intel/results.ktap")
	[[ ! $amd$intel ]] ||
		notices=$(printf '\n    amd:   %s\n    intel: %s' "${amd:--}" "${intel:--}")
}

try_fuzz() {
	try_selftest
}

# The same for the cases of the KUnit suite, or the splat that ended it.
try_kunit() {
	local log=$out/$name/kunit.log console=$out/$name/console.log

	! "$TOP/lab/kunit.sh" --source mutant --out "$out/$name" \
		> "$out/$name/log" 2> "$out/$name/errors" || return 0
	[[ -f $console ]] ||
		die "mutation $name does not build" "see ${out#"$TOP"/}/$name/build.log"

	notices=$(tr -d '\r\0' < "$console" |
		sed -nE 's/^ {4}not ok [0-9]+ ([a-z0-9_]+).*/\1/p' | some)
	[[ $notices ]] || notices=$(sed -n 's/^splat: //p' "$out/$name/log")
	[[ $notices || -f $log ]] || notices="the boot: $(tail -n 1 "$out/$name/errors")"
	notices=${notices:-$(tail -n 1 "$out/$name/log")}
}

# What notices nothing must be told from what always fails.
try_nothing() {
	name=none
	mkdir -p "$out/$name"
	notices=
	"try_$by"
	[[ ! $notices ]] || die "the tests fail without any mutation: $notices" "see ${out#"$TOP"/}/none"
}

start=$SECONDS
killed=0
survived=()
while read -r name who file expr; do
	[[ $name && $name != '#'* && ($who == "$column" || $who == both) ]] || continue
	# shellcheck disable=SC2053
	[[ $name == $glob ]] || continue

	restore
	((killed + ${#survived[@]})) || (try_nothing)
	perl -0pi -e "$expr" "$src/arch/x86/kvm/$file"
	! git -C "$src" diff --quiet ||
		die "mutation $name changes nothing in $file" "adapt its expression in check/mutations"

	rm -rf "${out:?}/$name"
	mkdir -p "$out/$name"
	git -C "$src" diff > "$out/$name/diff"
	notices=
	"try_$by"
	if [[ $notices ]]; then
		killed=$((killed + 1))
		printf '%-26s noticed  %s\n' "$name" "$notices"
	else
		survived+=("$name")
		printf '%-26s SURVIVED\n' "$name"
	fi
done < "$TOP/check/mutations"

((killed + ${#survived[@]})) || die "no mutation matches '$glob'" "see check/mutations"
say "$killed noticed, ${#survived[@]} survived${survived[*]:+: ${survived[*]}} ($((SECONDS - start)) s)"
((${#survived[@]} == 0))
