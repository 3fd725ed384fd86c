// SPDX-License-Identifier: GPL-2.0-only
/* For "modinfo" and DKMS: the modules of the kernel itself have none. */
#include <linux/module.h>

MODULE_VERSION("@VERSION@");
