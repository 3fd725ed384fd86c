#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# selftests.sh [--private] [NAME|FILE.c...]
#
# Build KVM selftests of build/<base>/linux, static and out of tree, into
# build/<base>/lab/selftests/: those of these names, or those that the series adds.
# A FILE.c is a program from elsewhere, built as if it were one of them.
# With --private, for the capability's number in "make deb", into selftests-private/.

. "$(dirname "$0")/lib.sh"

private=
options 500 "private" "$@"
need make gcc ccache rsync strip
load_base
[[ -d $LINUX ]] || die "there is no build/$BASE/linux" "run: make tree"
lock

dir=$LINUX/tools/testing/selftests/kvm
suffix=${private:+-private}
obj=$LINUX/o-selftests$suffix
out=$BUILD/lab/selftests$suffix
log=$out.log
mkdir -p "$obj/kvm" "$out"

# Where a test is in Makefile.kvm, below $dir and $obj/kvm.
find_test() {
	local path

	for path in "x86/$1" "x86_64/$1" "$1"; do
		if [[ -f $dir/$path.c ]]; then
			say "$path"
			return
		fi
	done
	return 1
}

# Those of the overlay.
own_tests() {
	git -C "$LINUX" diff --name-only --no-renames --diff-filter=A base -- tools/testing/selftests/kvm |
		sed -n 's,.*/\([a-z0-9_]*\)\.c$,\1,p' | while read -r name; do
		! find_test "$name" > /dev/null || say "$name"
	done
}

headers() {
	make -C "$LINUX" O="${obj##*/}" -j"$(nproc)" HOSTCC="ccache gcc" headers_install &&
	{ [[ ! $suffix ]] || private_number "$obj/usr/include/linux/kvm.h"; }
}

build() {
	# ccache makes the targets of dependency files relative, and make then knows no such target.
	find "$obj/kvm" -name '*.d' -exec sed -i "1s,^[./]*${obj##*/}/,$obj/," {} +
	make -C "$dir" -f "$TOP/scripts/kselftest.mk" -j"$(nproc)" OUTSIDE="${outside[*]}" OUTPUT="$obj/kvm" INSTALL_HDR_PATH="$obj/usr" \
		KHDR_INCLUDES="-isystem $obj/usr/include" \
		CC="ccache gcc" LDFLAGS="-static -pthread" "$@"
}

logged "$log" headers || die "installing the kernel headers failed" "see $log"

((${#args[@]})) || mapfile -t args < <(own_tests)
tests=() outside=()
for name in "${args[@]}"; do
	if [[ $name == *.c ]]; then
		outside+=("$(cd "$(dirname "$name")" && pwd -P)")
		tests+=("outside/$(basename "$name" .c)")
		continue
	fi
	path=$(find_test "$name") ||
		die "there is no KVM selftest $name in build/$BASE/linux" \
		    "see tools/testing/selftests/kvm there"
	tests+=("$path")
done
say "selftests: building ${#tests[@]}"
logged "$log" build "${tests[@]/#/$obj/kvm/}" ||
	die "building the selftests failed" "see $log"

for path in "${tests[@]}"; do
	new=$out/${path##*/}
	[[ ! $new -nt $obj/kvm/$path ]] || continue
	strip -o "$new.new" "$obj/kvm/$path"
	mv "$new.new" "$new"
done
say "selftests: ${out#"$TOP"/}"
