// SPDX-License-Identifier: GPL-2.0
/*
 * Preload library that shows what a VMM gets from KVM: one line on stderr for each exit for a
 * hypercall of Hyper-V's. It wraps ioctl(), and looks at the vCPU's kvm_run through a mapping of its own;
 * one vCPU only. To be named after hvrelay-preload.so.
 *
 * E2E_HOLD=N keeps the vCPU in the N-th of L2's posts, as long as the file HOLD_FILE is there that
 * it makes, and tells what is done with the vCPU next. E2E_NO_RELAY has the host lack the capability.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HOLD_FILE	"/tmp/held"
#define RELAY_CAP	252
#define POST_MESSAGE	0x5c

/* kvm_hyperv_exit with what the series adds to it; the headers here are the distribution's. */
struct hyperv_exit {
	uint32_t type, pad;
	uint64_t input, result, params[2];
	uint32_t flags, pad3;
	uint64_t l2_vm_id;
};

static int (*next_ioctl)(int fd, unsigned long request, ...);

static void tell(const char *line)
{
	if (write(STDERR_FILENO, line, strlen(line)) < 0)
		return;
}

/* True if the vCPU was kept here. */
static bool hold(const struct kvm_run *run)
{
	const struct hyperv_exit *exit = (const void *)&run->hyperv;
	const char *wanted = getenv("E2E_HOLD");
	static int posts;

	if (!wanted || run->exit_reason != KVM_EXIT_HYPERV || exit->type != KVM_EXIT_HYPERV_HCALL ||
	    !exit->flags || exit->input != POST_MESSAGE || ++posts != atoi(wanted))
		return false;
	close(open(HOLD_FILE, O_CREAT | O_WRONLY, 0644));
	for (int i = 0; i < 2000 && !access(HOLD_FILE, F_OK); i++)
		usleep(10000);
	tell("exit: held\n");
	return true;
}

static void show(const struct kvm_run *run)
{
	const struct hyperv_exit *exit = (const void *)&run->hyperv;
	char line[200];

	if (run->exit_reason != KVM_EXIT_HYPERV || exit->type != KVM_EXIT_HYPERV_HCALL)
		return;
	snprintf(line, sizeof(line), "exit: input %#llx param %#llx result %llu flags %#x l2_vm_id %#llx\n",
		 (unsigned long long)exit->input, (unsigned long long)exit->params[0],
		 (unsigned long long)exit->result, exit->flags, (unsigned long long)exit->l2_vm_id);
	tell(line);
}

int ioctl(int fd, unsigned long request, ...)
{
	static const struct kvm_run *run;
	static int vcpu = -1;
	static bool held;
	va_list ap;
	void *arg;
	int ret;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);

	if (!next_ioctl)
		next_ioctl = dlsym(RTLD_NEXT, "ioctl");
	if (request == KVM_CHECK_EXTENSION && (unsigned long)arg == RELAY_CAP && getenv("E2E_NO_RELAY"))
		return 0;
	if (held && fd == vcpu) {
		held = false;
		tell(request == KVM_RUN ? "exit: completed\n" : "exit: not completed\n");
	}
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
	held = hold(run);
	return ret;
}
