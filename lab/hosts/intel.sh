# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Intel host: Bochs' emulation of a Haswell with VMX and EPT.
# Newer models (skylake_x, tigerlake) panic in XSAVE setup.

# shellcheck source=lab/hosts/bochs.inc
. "$TOP/lab/hosts/bochs.inc"

# shellcheck disable=SC2034 # read by lab/run-plan.sh
HOST_TITLE="Intel host (Bochs: Haswell with VMX and EPT)"

host_start() {
	bochs_start corei7_haswell_4770 "$@"
}
