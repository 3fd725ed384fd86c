#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# host.sh --host HOST --kernel BZIMAGE --out DIR --tests "WHAT..." [--name NAME] [--append ARGS]
#         [--modules DIR]
#
# Boot an emulated host with the tree of host/build.sh and busybox, and nothing else in it, and
# run what guest.sh calls WHAT. --out gets what lab/boot.sh writes. With --modules, for a kernel
# that has KVM as modules, those of DIR are loaded first.

. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
. "$TOP/lab/results.sh"

host='' kernel='' out='' tests='' name='' append='' modules=''
options 0 "host: kernel: out: tests: name: append: modules:" "$@"
root=$BUILD/host/root
[[ -d $root ]] || die "there is no build/$BASE/host/root" "run: host/build.sh"
[[ $out && $tests ]] || die "no --out or no --tests" "see host/test/host.sh --help"
[[ $(file -L "$(type -P busybox)") == *'statically linked'* ]] || die "busybox is not the static one" "run: make setup"
name=${name:-host/$host}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
cp -r "$root" "$work/root"
mkdir -p "$work/root"/{bin,etc} "$work/bin"
cp "$(type -P busybox)" "$work/root/bin/"
busybox --list | while read -r applet; do
	[[ $applet == busybox ]] || ln -s busybox "$work/root/bin/$applet"
done
say 'user:x:1000:1000::/tmp:/bin/sh' > "$work/root/etc/passwd"
# guest.sh makes it, to see that the program notices.
{
	cat "$TOP/lab/splats.allow"
	printf '* WARNING: not a real one\n\tguest.sh writes it into the log\n'
} > "$work/allow"
cp "$TOP/host/test/guest.sh" "$work/bin/guest"
{
	[[ ! $modules ]] || for module in irqbypass kvm "kvm-${host%%-*}"; do
		cp "$modules/$module.ko" "$work/bin/"
		say "insmod $module $module.ko"
	done
	for what in $tests; do
		say "test $what 1500 guest $what"
		[[ $what != selftest && $what != user ]] || say "cat report-$what /tmp.report"
	done
} > "$work/manifest"

"$TOP/lab/boot.sh" --host "$host" --kernel "$kernel" --name "$name" --out "$out" --bindir "$work/bin" \
	--root "$work/root" --manifest "$work/manifest" --allow "$work/allow" --expect pass --timeout 3000 --append "$append" || true

# Does the report count as the kernel's own parser?
for what in selftest user; do
	[[ " $tests " == *" $what "* ]] || continue
	report=$out/report-$what.ktap
	step_output "$out" "report-$what" > "$report"
	read -r passed failed skipped <<< "$(count "$report")"
	results_begin "$out/count.ktap" "$name"
	result "$what: the report's sum is that of kunit.py" \
		grep -qxF "# $passed passed, $failed failed, $skipped skipped" "$report"
	results_end || true
	mv "$out/results.ktap" "$out/boot.ktap"
	merge "$out/boot.ktap" "$out/count.ktap" > "$out/results.ktap"
done
! grep -q '^ *not ok ' "$out/results.ktap"
