# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Second AMD host: Bochs' emulation of a Trinity with SVM, nested paging and NRIPS, which QEMU
# does not emulate: KVM then takes the length of L2's VMMCALL from the processor.

# shellcheck source=lab/hosts/bochs.inc
. "$TOP/lab/hosts/bochs.inc"

# shellcheck disable=SC2034 # read by lab/run-plan.sh
HOST_TITLE="AMD host (Bochs: Trinity with SVM, nested paging and NRIPS)"

host_start() {
	bochs_start trinity_apu "$@"
}
