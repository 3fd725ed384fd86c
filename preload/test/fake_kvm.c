// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctl() of a C library on a host with a made-up KVM, to be preloaded behind the library under
 * test. What it answers is in the environment: FAKE_CREATE, FAKE_CHECK and FAKE_ENABLE are the
 * results of the three ioctls that matter, a negative one is -errno. KVM_CREATE_VM returns a file
 * descriptor that is open, unless FAKE_CREATE says otherwise. Each call is noted in the file
 * FAKE_LOG.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void note(const char *format, ...)
{
	FILE *log = fopen(getenv("FAKE_LOG"), "a");
	va_list ap;

	if (!log)
		abort();
	va_start(ap, format);
	vfprintf(log, format, ap);
	va_end(ap);
	fclose(log);
}

static int answer(const char *name, int otherwise)
{
	const char *text = getenv(name);
	int value = text ? atoi(text) : otherwise;

	if (value >= 0) {
		/* A library call may leave anything in errno, also if it succeeds. */
		errno = EDOM;
		return value;
	}
	errno = -value;
	return -1;
}

int ioctl(int fd, unsigned long request, ...)
{
	struct kvm_enable_cap *cap;
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);

	switch (request) {
	case KVM_CREATE_VM:
		note("create %lu\n", (unsigned long)arg);
		if (answer("FAKE_CREATE", 0) < 0)
			return -1;
		return open("/dev/null", O_RDWR);
	case KVM_CHECK_EXTENSION:
		note("check %d %lu\n", fd, (unsigned long)arg);
		return answer("FAKE_CHECK", 3);
	case KVM_ENABLE_CAP:
		cap = arg;
		note("enable %d %u flags %u args %llu %llu %llu %llu\n", fd, cap->cap, cap->flags,
		     cap->args[0], cap->args[1], cap->args[2], cap->args[3]);
		return answer("FAKE_ENABLE", 0);
	default:
		note("other %d %#lx %lu\n", fd, request, (unsigned long)arg);
		return answer("FAKE_OTHER", 0);
	}
}
