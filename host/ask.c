// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a shell can't ask of a host:
 *
 *	ask relay NUMBER...	"relay NUMBER MASK", of the first of these capabilities that
 *				is the relay's, and "tsc KHZ"
 *	ask log			the number of the kernel's next message
 *	ask log NUMBER		the messages from that one on
 *
 * Exit status: 0, 1 if there is no such capability, 2 if asking failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kvm.h>

/* Posts and signals.  A capability that has both is no other one, for all that is known. */
#define RELAY_CLASSES	0x3

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return 2;
}

static int ask_relay(char **numbers)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, mask = 0;

	if (kvm < 0)
		return fail("/dev/kvm");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		return fail("KVM_CREATE_VM");

	/* The VM has a frequency since Linux 5.16. */
	printf("tsc %d\n", ioctl(vm, KVM_GET_TSC_KHZ, 0));
	for (; *numbers; numbers++) {
		mask = ioctl(vm, KVM_CHECK_EXTENSION, strtoul(*numbers, NULL, 0));
		if (mask >= 0 && (mask & RELAY_CLASSES) == RELAY_CLASSES) {
			printf("relay %s 0x%x\n", *numbers, mask);
			return 0;
		}
	}
	return 1;
}

/* A record is "PRIORITY,NUMBER,TIME,FLAGS;TEXT", and lines with more about it. */
static int ask_log(const char *from)
{
	unsigned long long number, next = 0, first = from ? strtoull(from, NULL, 0) : 0;
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char record[8193], *text;
	ssize_t n;

	if (fd < 0)
		return fail("/dev/kmsg");
	for (;;) {
		n = read(fd, record, sizeof(record) - 1);
		if (n < 0 && errno == EPIPE)	/* overwritten meanwhile */
			continue;
		if (n <= 0)
			break;
		record[n] = '\0';
		text = strchr(record, ';');
		if (!text || sscanf(record, "%*u,%llu", &number) != 1)
			continue;
		next = number + 1;
		if (from && number >= first)
			printf("%.*s\n", (int)strcspn(text + 1, "\n"), text + 1);
	}
	if (n < 0 && errno != EAGAIN)
		return fail("/dev/kmsg");
	if (!from)
		printf("%llu\n", next);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "relay"))
		return ask_relay(argv + 2);
	if ((argc == 2 || argc == 3) && !strcmp(argv[1], "log"))
		return ask_log(argv[2]);
	fprintf(stderr, "usage: ask relay NUMBER... | ask log [NUMBER]\n");
	return 2;
}
