#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test.sh
#
# Check QEMU's series, as far as it goes without KVM: that the patches apply to each base
# whose source is in the cache, with QEMU's checkpatch.pl on each of them; and, with each
# binary that build.sh made, the series' own qtest and QEMU's device-introspect-test.
# The qtest has to fail with the QEMU that "make setup" unpacked, which lacks the series.
# There has to be a binary of $QEMU. The last line is "N passed, N failed".

. "$(dirname "$0")/../../scripts/lib.sh"
. "$TOP/vmm/qemu/lib.sh"

passed=0 failed=0 skipped=0

# result STATUS WHAT [LOG]
result() {
	if (($1)); then
		say "not ok $2"
		[[ ! ${3-} ]] || sed 's/^/# /' "$3" | tail -n 20
		failed=$((failed + 1))
	else
		say "ok $2"
		passed=$((passed + 1))
	fi
}

skip() {
	say "skip $1"
	skipped=$((skipped + 1))
}

# Fails if there is no tree with the series to go on with.
check_base() {
	local log=$QEMU_BUILD/test.log commit status

	if [[ ! -d $QEMU_TREE ]] && ! has_sha256 "$TARBALL" "$SHA256"; then
		skip "$QEMU: ${TARBALL##*/} is not in $CACHE (make qemu QEMU=$QEMU would fetch it)"
		return 1
	fi
	mkdir -p "$QEMU_BUILD"
	status=0
	"$QEMU_DIR/tree.sh" > "$log" 2>&1 || status=$?
	result "$status" "$QEMU: the series applies" "$log"
	((!status)) || return 1
	while read -r commit; do
		status=0
		# The Signed-off-by comes with the mails.
		(cd "$QEMU_TREE" && git format-patch --stdout -1 "$commit" |
			perl scripts/checkpatch.pl --no-signoff -) > "$log" 2>&1 || true
		# What is taken from Linux alone is always a warning.
		if [[ $(qgit show -s --format=%s "$commit") == linux-headers:* ]]; then
			grep -q ' 0 errors, 1 warnings' "$log" && grep -q 'imported from Linux' "$log" || status=1
		else
			grep -q ' 0 errors, 0 warnings' "$log" || status=1
		fi
		result "$status" "$QEMU: checkpatch.pl: $(qgit show -s --format=%s "$commit")" "$log"
	done < <(qgit rev-list --reverse base..series)
}

# The build directory's own share/qemu: the machine needs a BIOS to start with.
link_firmware() {
	local share=$1/qemu-bundle/usr/local/share/qemu

	mkdir -p "$share"
	ln -sf "$VMM_DIR"/usr/share/seabios/* "$VMM_DIR"/usr/share/qemu/*.bin "$share/"
}

# qtest NAME BINARY WANTED: each of its cases is a result; WANTED is ok or "not ok".
qtest() {
	local log=$QEMU_BUILD/$1.log verdict name

	QTEST_QEMU_BINARY=$2 timeout 300 "$QEMU_BUILD/o/tests/qtest/$1" --tap -k > "$log" 2>&1 < /dev/null || true
	while IFS=$'\t' read -r verdict name; do
		[[ $verdict == "$3" ]]
		result $? "$QEMU: $1 $name" "$log"
	done < <(sed -n 's/^\(not ok\|ok\) [0-9]* \([^ ]*\).*/\1\t\2/p' "$log")
	grep -q '^1\.\.[1-9]' "$log" || result 1 "$QEMU: $1 runs" "$log"
}

# With a QEMU without the series, each case has to fail; one process each, as glib stops.
qtest_stock() {
	local name stock=$VMM_DIR/usr/bin/qemu-system-x86_64 log=$QEMU_BUILD/stock.log status

	while read -r name; do
		status=0
		QTEST_QEMU_BINARY=$stock timeout 20 "$QEMU_BUILD/o/tests/qtest/hyperv-vmbus-test" -p "$name" \
			> "$log" 2>&1 < /dev/null || status=$?
		((status))
		result $? "$QEMU: without the series, hyperv-vmbus-test $name fails" "$log"
	done < <(QTEST_QEMU_BINARY=$binary "$QEMU_BUILD/o/tests/qtest/hyperv-vmbus-test" -l 2> /dev/null | grep ^/)
}

check_binary() {
	local binary=$QEMU_BUILD/o/qemu-system-x86_64

	if [[ ! -x $binary ]]; then
		skip "$QEMU: no qtest, it isn't built (make qemu QEMU=$QEMU)"
	elif logged "$QEMU_BUILD/tests.log" env PYTHONPATH="$(qemu_python)" \
		ninja -C "$QEMU_BUILD/o" qemu-system-x86_64 tests/qtest/{hyperv-vmbus,device-introspect}-test; then
		link_firmware "$QEMU_BUILD/o"
		qtest hyperv-vmbus-test "$binary" ok
		qtest device-introspect-test "$binary" ok
		qtest_stock
	else
		result 1 "$QEMU: tests/qtest builds"
	fi
}

options 0 "" "$@"
need git perl timeout
load_qemu
[[ -x $QEMU_BUILD/o/qemu-system-x86_64 && -d $VMM_DIR ]] ||
	die "there is no $QEMU_BUILD/o/qemu-system-x86_64, or no $VMM_DIR" "run: make setup, make qemu QEMU=$QEMU"
set +e
for base in $(qemu_bases); do
	QEMU=$base
	QEMU_BUILD=$TOP/build/qemu-$QEMU
	load_qemu
	check_base && check_binary
done
line="$passed passed, $failed failed"
((!skipped)) || line+=", $skipped skipped"
say "$line"
((!failed && passed))
