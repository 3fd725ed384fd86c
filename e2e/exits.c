// SPDX-License-Identifier: GPL-2.0
/*
 * Preload library that shows what a VMM gets from KVM: one line on stderr for each exit for a
 * hypercall of Hyper-V's. It wraps ioctl(), and looks at the vCPU's kvm_run through a mapping of its own;
 * one vCPU only. To be named after hvrelay-preload.so.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* kvm_hyperv_exit with what the series adds to it; the headers here are the distribution's. */
struct hyperv_exit {
	uint32_t type, pad;
	uint64_t input, result, params[2];
	uint32_t flags, pad3;
	uint64_t l2_vm_id;
};

static int (*next_ioctl)(int fd, unsigned long request, ...);

static void show(const struct kvm_run *run)
{
	const struct hyperv_exit *exit = (const void *)&run->hyperv;
	char line[200];
	int len;

	if (run->exit_reason != KVM_EXIT_HYPERV || exit->type != KVM_EXIT_HYPERV_HCALL)
		return;
	len = snprintf(line, sizeof(line), "exit: input %#llx param %#llx result %llu flags %#x l2_vm_id %#llx\n",
		       (unsigned long long)exit->input, (unsigned long long)exit->params[0],
		       (unsigned long long)exit->result, exit->flags, (unsigned long long)exit->l2_vm_id);
	if (write(STDERR_FILENO, line, len) < 0)
		return;
}

int ioctl(int fd, unsigned long request, ...)
{
	static const struct kvm_run *run;
	static int vcpu = -1;
	va_list ap;
	void *arg;
	int ret;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);

	if (!next_ioctl)
		next_ioctl = dlsym(RTLD_NEXT, "ioctl");
	ret = next_ioctl(fd, request, arg);
	if (request != KVM_RUN || ret)
		return ret;
	if (vcpu != fd) {
		void *page = mmap(NULL, getpagesize(), PROT_READ, MAP_SHARED, fd, 0);

		if (page == MAP_FAILED)
			return ret;
		run = page;
		vcpu = fd;
	}
	show(run);
	return ret;
}
