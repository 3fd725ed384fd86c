#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mutate.sh [GLOB]
#
# Put the faults of lab/mutations whose name matches GLOB into the kernel, one
# at a time, and run the relay's selftest on it on both vendors' hosts.  Prints
# which cases notice, fails if a fault goes unnoticed on both.  Works in
# build/<base>/mutant, about a minute per fault.

. "$(dirname "$0")/lib.sh"

case ${1-} in
-*)
	say "usage: scripts/mutate.sh [GLOB]    GLOB: names in lab/mutations, default all"
	exit 0
	;;
esac
glob=${1:-*}
tests=hyperv_nested_relay_test

need git perl
load_base
[[ -d $LINUX ]] || die "there is no build/$BASE/linux" "run: make tree"
TESTS=$tests "$TOP/scripts/selftests.sh"

src=$BUILD/mutant
out=$BUILD/mutate
kernel=$BUILD/lab/mutant-lab/bzImage

if [[ ! -d $src ]]; then
	git -C "$LINUX" worktree prune
	git -C "$LINUX" worktree add -q --detach "$src" series
fi
restore() {
	git -C "$src" checkout -q --detach series
	git -C "$src" reset -q --hard
}
trap restore EXIT
restore

# Case names that failed, or why the boot did.
noticed() {
	local ktap=$1 cases

	cases=$(sed -n 's/^ \+not ok [0-9]* \(.*\)/\1/p' "$ktap" | sed 's/ *#.*//' | sort -u |
		awk 'NR <= 3 { printf "%s%s", NR > 1 ? " " : "", $0 } END { if (NR > 3) print " and " NR - 3 " more" }')
	if [[ -z $cases ]]; then
		cases=$(sed -n 's/^not ok [0-9]* - \?\(.*\)/\1/p;s/^not ok [0-9]* \(.*\)/\1/p' "$ktap" | sort -u | head -n 1)
	fi
	say "$cases"
}

boot() {
	"$TOP/lab/boot.sh" --host "$1" --kernel "$kernel" --tests "$tests" \
		--timeout 240 --out "$out/$name/$1" > "$out/$name/$1.log" 2>&1 || true
	[[ -f $out/$name/$1/results.ktap ]]
}

killed=0
survived=()
while read -r name file expr; do
	[[ $name && $name != '#'* ]] || continue
	# shellcheck disable=SC2053
	[[ $name == $glob ]] || continue

	restore
	perl -0pi -e "$expr" "$src/arch/x86/kvm/$file"
	! git -C "$src" diff --quiet ||
		die "mutation $name changes nothing in $file" "adapt its expression in lab/mutations"

	rm -rf "${out:?}/$name"
	mkdir -p "$out/$name"
	git -C "$src" diff > "$out/$name/diff"
	if ! "$TOP/scripts/kernel.sh" --source mutant > "$out/$name/build.log" 2>&1; then
		die "mutation $name does not build" "see build/$BASE/mutate/$name/build.log"
	fi

	boot intel &
	amd=ok
	boot amd || amd=
	wait $! || die "mutation $name: no result from intel" "see build/$BASE/mutate/$name/intel.log"
	[[ $amd ]] || die "mutation $name: no result from amd" "see build/$BASE/mutate/$name/amd.log"

	amd=$(noticed "$out/$name/amd/results.ktap")
	intel=$(noticed "$out/$name/intel/results.ktap")
	if [[ $amd$intel ]]; then
		killed=$((killed + 1))
		printf '%-24s noticed\n    amd:   %s\n    intel: %s\n' "$name" "${amd:--}" "${intel:--}"
	else
		survived+=("$name")
		printf '%-24s SURVIVED\n' "$name"
	fi
done < "$TOP/lab/mutations"

((killed + ${#survived[@]})) || die "no mutation matches '$glob'" "see lab/mutations"
say "$killed noticed, ${#survived[@]} survived${survived[*]:+: ${survived[*]}}"
((${#survived[@]} == 0))
