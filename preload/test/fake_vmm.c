// SPDX-License-Identifier: GPL-2.0
/*
 * What a VMM does about its VM, and no more: "fake-vmm [VMS]" creates VMS VMs (1), each with
 * machine type 5, and makes another ioctl on each. It prints what it got to see.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	int vms = argc > 1 ? atoi(argv[1]) : 1, vm, ret;

	for (int i = 0; i < vms; i++) {
		errno = EXDEV;
		vm = ioctl(100, KVM_CREATE_VM, 5UL);
		ret = errno;
		printf("vm %s %s, fd %s\n", vm < 0 ? "none" : "made", strerrorname_np(ret),
		       fcntl(3 + i, F_GETFD) < 0 ? "closed" : "open");
		if (vm < 0)
			continue;
		ret = ioctl(vm, KVM_CREATE_VCPU, 77UL);
		printf("vcpu %d\n", ret);
	}
	return 0;
}
