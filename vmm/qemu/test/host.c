// SPDX-License-Identifier: GPL-2.0
/*
 * Run inside an emulated host: "host QEMU WHAT", WHAT being
 *
 *   guest	send vmbus what guest.c has: QEMU must not fall over it
 *   relay	start QEMU with hv-nested-relay, right and wrong, on a kernel with the capability
 *   none	the same on a kernel without it
 *
 * Prints TAP. QEMU's firmware and guest.elf are beside it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VMM		"/vmm"
#define SECONDS		90	/* for one start; a second is usual */
#define CPU		"host,kvm=off,-xsave,hv-relaxed,hv-vapic,hv-vpindex,hv-time,hv-runtime,hv-stimer"
#define SYNIC		",hv-synic"

struct run {
	const char *name, *cpu, *guest;
	bool vmbus;
	int status;			/* of QEMU's exit */
	const char *says;		/* somewhere in its output */
	int contacts;			/* if not 0: how often it is asked to connect */
};

static const struct run guests[] = {
	{ "no bad message", CPU SYNIC, "-", true, 1, "connect: answered", 1 },
	{ "contact for a VP that doesn't exist", CPU SYNIC, "v", true, 1, "connect: answered", 2 },
	{ "contact for no VP", CPU SYNIC, "m", true, 1, "connect: answered", 2 },
	{ "unload without a connection", CPU SYNIC, "u", true, 1, "connect: answered", 1 },
	{ "body of a GPADL that is complete", CPU SYNIC, "b", true, 1, "connect: answered", 2 },
	{ "GPADL of 0 bytes", CPU SYNIC, "g", true, 1, "connect: answered", 2 },
	{ "channel for a VP that doesn't exist", CPU SYNIC, "o", true, 1, "connect: answered", 2 },
	{ "message across a page", CPU SYNIC, "p", true, 1, "misaligned: status 4", 1 },
	{ "message in a device", CPU SYNIC, "i", true, 1, "device: status 11", 1 },
	{ "messages in the queue at a reset", CPU SYNIC, "r", true, 1, "connect: answered", 2 },
	{ }
};

static const struct run relay[] = {
	{ "hv-nested-relay", CPU SYNIC ",hv-nested-relay", "-", true, 1, "vmbus_set_owner owned 1 nested 0", 1 },
	{ "without vmbus", CPU SYNIC ",hv-nested-relay", "-", false, 5, "contact: status 18", 0 },
	{ "without hv-synic", CPU ",hv-nested-relay", NULL, false, 1,
	  "requires Hyper-V synthetic interrupt controller (hv-synic)", 0 },
	{ "inter-partition", CPU SYNIC ",hv-nested-relay,hv-nested-relay-inter-partition", "-", true, 1,
	  "vmbus_set_owner owned 1 nested 0", 1 },
	{ "inter-partition alone", CPU SYNIC ",hv-nested-relay-inter-partition", NULL, false, 1,
	  "requires Hyper-V relay of nested hypercalls (hv-nested-relay)", 0 },
	{ "hv-passthrough and hv-nested-relay", "host,kvm=off,-xsave,hv-passthrough,hv-nested-relay", "-", true, 1,
	  "vmbus_set_owner owned 1 nested 0", 1 },
	{ }
};

static const struct run none[] = {
	{ "hv-nested-relay", CPU SYNIC ",hv-nested-relay", NULL, false, 1,
	  "relay of nested hypercalls (hv-nested-relay) is not supported by kernel", 0 },
	{ "its hint", CPU SYNIC ",hv-nested-relay", NULL, false, 1,
	  "It takes a kernel with KVM_CAP_NESTED_HYPERV_HCALL_RELAY", 0 },
	{ "hv-passthrough", "host,kvm=off,-xsave,hv-passthrough", "-", true, 1, "connect: answered", 1 },
	{ "hv-passthrough, hv-nested-relay", "host,kvm=off,-xsave,hv-passthrough,hv-nested-relay", NULL, true, 1,
	  "relay of nested hypercalls (hv-nested-relay) is not supported by kernel", 0 },
	{ }
};

static char output[65536];

static int count(const char *what)
{
	int n = 0;

	for (const char *p = output; (p = strstr(p, what)); p++)
		n++;
	return n;
}

static void exec_qemu(const char *qemu, const struct run *run, int out)
{
	const char *argv[48] = {
		qemu, "-L", VMM "/rom", "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "pc", "-accel", "kvm", "-m", "64", "-cpu", run->cpu,
		"-trace", "vmbus_initiate_contact", "-trace", "vmbus_set_own*",
		"-device", "isa-debug-exit,iobase=0x501,iosize=1",
		"-chardev", "stdio,id=debug,signal=off", "-device", "isa-debugcon,iobase=0xe9,chardev=debug",
	};
	size_t n = 0;

	while (argv[n])
		n++;
	if (run->vmbus) {
		argv[n++] = "-device";
		argv[n++] = "vmbus-bridge";
		argv[n++] = "-device";
		argv[n++] = "hv-balloon";
	}
	if (run->guest) {
		argv[n++] = "-kernel";
		argv[n++] = VMM "/guest.elf";
		argv[n++] = "-append";
		argv[n++] = run->guest;
	} else {
		/* To its end at once, if it comes that far. */
		argv[n++] = "-S";
		argv[n++] = "-incoming";
		argv[n++] = "exec:false";
	}
	dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	execv(qemu, (char **)argv);
	dprintf(STDERR_FILENO, "%s: %s\n", qemu, strerror(errno));
	_exit(127);
}

/* Its exit status, -1 for one that had to be killed, or minus the signal. */
static int run_qemu(const char *qemu, const struct run *run)
{
	time_t end = time(NULL) + SECONDS;
	int fds[2], status;
	size_t len = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return -1;
	fflush(stdout);
	pid = fork();
	if (!pid)
		exec_qemu(qemu, run, fds[1]);
	close(fds[1]);
	for (;;) {
		struct pollfd fd = { .fd = fds[0], .events = POLLIN };
		ssize_t n;

		if (time(NULL) > end) {
			kill(pid, SIGKILL);
			break;
		}
		if (poll(&fd, 1, 500) <= 0)
			continue;
		n = read(fds[0], output + len, sizeof(output) - 1 - len);
		if (n <= 0)
			break;
		len += n;
	}
	output[len] = '\0';
	close(fds[0]);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int main(int argc, char **argv)
{
	const struct run *runs = NULL;
	int cases = 0, failures = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3)
		runs = !strcmp(argv[2], "guest") ? guests : !strcmp(argv[2], "relay") ? relay :
		       !strcmp(argv[2], "none") ? none : NULL;
	if (!runs) {
		fprintf(stderr, "error: usage: host QEMU guest|relay|none\n");
		return 1;
	}
	printf("TAP version 13\n");
	for (; runs->name; runs++) {
		int status = run_qemu(argv[1], runs);
		int contacts = count("vmbus_initiate_contact ");
		bool good = status == runs->status && strstr(output, runs->says) &&
			    (!runs->contacts || contacts == runs->contacts);

		printf("%sok %d %s: %s: status %d, %d contacts\n", good ? "" : "not ", ++cases, argv[2],
		       runs->name, status, contacts);
		if (!good)
			for (char *line = strtok(output, "\r\n"); line; line = strtok(NULL, "\r\n"))
				printf("# %.200s\n", line);
		failures += !good;
	}
	printf("1..%d\n", cases);
	return failures > 0;
}
