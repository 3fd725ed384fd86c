#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Build KVM selftests of build/<base>/linux, static and out of tree, into
# build/<base>/lab/selftests/: those that lab/plan names, or TESTS="name...". With
# PRIVATE=1, for the capability's number in "make deb", into selftests-private/.

. "$(dirname "$0")/lib.sh"

need make gcc ccache rsync strip
load_base
[[ -d $LINUX ]] || die "there is no build/$BASE/linux" "run: make tree"
lock

dir=$LINUX/tools/testing/selftests/kvm
suffix=${PRIVATE:+-private}
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

# Column 9 and up of the plan; some of its tests are no KVM selftests.
planned_tests() {
	awk '!/^#/ { for (i = 9; i <= NF; i++) if (!seen[$i]++) print $i }' "$TOP/lab/plan" |
		while read -r name; do
			find_test "$name" || true
		done
}

headers() {
	make -C "$LINUX" O="${obj##*/}" -j"$(nproc)" HOSTCC="ccache gcc" headers_install &&
	{ [[ ! $suffix ]] || private_number "$obj/usr/include/linux/kvm.h"; }
}

build() {
	# ccache makes the targets of dependency files relative, and make then knows no such target.
	find "$obj/kvm" -name '*.d' -exec sed -i "1s,^[./]*${obj##*/}/,$obj/," {} +
	make -C "$dir" -j"$(nproc)" OUTPUT="$obj/kvm" INSTALL_HDR_PATH="$obj/usr" \
		KHDR_INCLUDES="-isystem $obj/usr/include" \
		CC="ccache gcc" LDFLAGS="-static -pthread" "$@"
}

logged "$log" headers || die "installing the kernel headers failed" "see $log"

if [[ ${TESTS-} ]]; then
	tests=()
	for name in $TESTS; do
		path=$(find_test "$name") ||
			die "there is no KVM selftest $name in build/$BASE/linux" \
			    "see tools/testing/selftests/kvm there"
		tests+=("$path")
	done
else
	mapfile -t tests < <(planned_tests)
	# A test that is gone must not be found here.
	for path in "$out"/*; do
		[[ " ${tests[*]##*/} " == *" ${path##*/} "* ]] || rm -f "$path"
	done
fi
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
