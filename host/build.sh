#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Build what runs on a host into build/<base>/host/root, the tree of the package: the programs
# of host/package/ and static binaries of the selftests, for each number that the capability
# may have there: the series' and that of "make deb".

. "$(dirname "$0")/../scripts/lib.sh"

options 0 "" "$@"
need gcc strip
load_base
[[ -d $LINUX ]] || die "there is no build/$BASE/linux" "run: make tree"
tests=(hyperv_nested_hypercalls hyperv_nested_relay_test hyperv_nested_relay_stress_test hyperv_nested_relay_fuzz)
bench=hyperv_nested_relay_bench
root=$BUILD/host/root
lib=$root/usr/lib/kvm-hyperv-nested-relay-selftest

number() {
	sed -n 's/^#define KVM_CAP_NESTED_HYPERV_HCALL_RELAY[[:space:]]*//p' \
		"$LINUX/o-selftests$1/usr/include/linux/kvm.h"
}

rm -rf "$root"
mkdir -p "$root/usr/sbin" "$lib"
for suffix in '' -private; do
	"$TOP/scripts/selftests.sh" ${suffix:+"-$suffix"} "${tests[@]}" "$TOP/bench/$bench.c"
	dir=$lib/$(($(number "$suffix")))
	mkdir "$dir"
	(cd "$BUILD/lab/selftests$suffix" && cp "${tests[@]}" "$bench" "$dir/")
done
gcc -static -s -O2 -Wall -Wextra -Werror -isystem "$LINUX/o-selftests/usr/include" -o "$lib/ask" "$TOP/host/ask.c" ||
	die "host/ask.c does not compile" "run: make setup"
cp "$TOP"/lab/{ktap,splat}.awk "$TOP"/bench/{figures,rows}.awk "$TOP"/host/*.awk "$lib/"
say "$PKG $VERSION, $(git -C "$TOP" describe --always --dirty 2> /dev/null || say "no commit")" > "$lib/version"
cp "$TOP"/host/package/kvm-hyperv-nested-relay-{selftest,record} "$root/usr/sbin/"
say "host: build/$BASE/host/root"
