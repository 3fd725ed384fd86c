#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Build the tests and run them on this machine's own KVM. The report is in build/<base>/host/.
# See host/package/kvm-hyperv-nested-relay-selftest for what they take.

. "$(dirname "$0")/../scripts/lib.sh"

options 0 "" "$@"
load_base
"$TOP/host/build.sh"
exec "$BUILD/host/root/usr/sbin/kvm-hyperv-nested-relay-selftest" \
	-o "$BUILD/host/report-$(date +%Y%m%d-%H%M%S).txt"
