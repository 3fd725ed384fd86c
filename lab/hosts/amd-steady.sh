# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The AMD host of amd.sh with a clock that counts instructions, 4 ns each, in place of real time:
# a slow kernel on a busy machine would be late for its own timers, and report RCU stalls.

# shellcheck source=lab/hosts/amd.sh
. "$TOP/lab/hosts/amd.sh"

# shellcheck disable=SC2034 # read by lab/run-plan.sh
HOST_TITLE="AMD host (QEMU TCG: EPYC with SVM and nested paging; counts instructions)"
qemu_options=(-icount "shift=2,sleep=off")
