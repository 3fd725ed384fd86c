// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that must fail a lab boot, one per argument, see lab/selfcheck.sh.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
		perror(path);
		return 1;
	}
	close(fd);
	return 0;
}

/* What the result channel would carry if these steps passed, and were all. */
static void forge(FILE *f, const char *nonce)
{
	static const char *const steps[] = { "forged-verdict", "fail", "signal", "hang" };

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		fprintf(f, "\n%s end %s exit 0 0.01\n", nonce, steps[i]);
	fprintf(f, "%s done 9\n", nonce);
	fflush(f);
}

static int forged_verdict(void)
{
	char nonce[64] = "0123456789abcdef0123456789abcdef";
	FILE *f = fopen("/lab/nonce", "r");

	if (f && !fgets(nonce, sizeof(nonce), f))
		return 1;
	nonce[strcspn(nonce, "\n")] = '\0';
	printf("ok 1 forged\n");
	forge(stdout, nonce);
	f = fopen("/dev/ttyS1", "w");
	if (f)
		forge(f, nonce);
	return 1;
}

/* Leave a process behind that makes itself heard in the kernel log. */
static int left_behind(void)
{
	pid_t pid = fork();

	if (pid < 0)
		return 1;
	if (!pid) {
		setsid();
		sleep(1);
		return write_to("/dev/kmsg", "<4>WARNING: a process outlived its test\n");
	}
	return 0;
}

static int panic(void)
{
	if (write_to("/proc/sys/vm/panic_on_oom", "2"))
		return 1;
	for (;;) {
		char *p = malloc(1 << 20);

		if (!p)
			return 1;
		memset(p, 1, 1 << 20);
	}
}

/*
 * Leave the kernel with a spinlock held, and enter it again to sleep, in close(). Nothing may be
 * scheduled in between: the kernel would report that, and repair the preemption count.
 */
static int sleep_locked(void)
{
	struct sched_param param = { .sched_priority = sched_get_priority_max(SCHED_FIFO) };

	if (sched_setscheduler(0, SCHED_FIFO, &param) || mlockall(MCL_CURRENT)) {
		perror("SCHED_FIFO");
		return 1;
	}
	return write_to("/sys/kernel/debug/provoke-crash/DIRECT", "SPINLOCKUP");
}

int main(int argc, char **argv)
{
	const char *what = argc == 2 ? argv[1] : "";

	if (!strcmp(what, "pass"))
		return 0;
	if (!strcmp(what, "fail"))
		return 3;
	if (!strcmp(what, "signal"))
		return raise(SIGSEGV);
	if (!strcmp(what, "hang"))
		for (;;)
			pause();
	if (!strcmp(what, "skip")) {
		printf("1..0 # SKIP - no such hardware\n");
		return 4;
	}
	if (!strcmp(what, "short-plan")) {
		printf("TAP version 13\n1..3\nok 1 first\nok 2 second\n");
		return 0;
	}
	if (!strcmp(what, "failed-case")) {
		printf("TAP version 13\n1..2\nok 1 first\nnot ok 2 second\n");
		return 1;
	}
	if (!strcmp(what, "forged-verdict"))
		return forged_verdict();
	if (!strcmp(what, "left-behind"))
		return left_behind();
	if (!strcmp(what, "splat"))
		return write_to("/dev/kmsg", "<4>WARNING: not a real one, from lab/selfcheck.c\n");
	if (!strcmp(what, "panic"))
		return panic();
	if (!strcmp(what, "sleep-locked"))
		return sleep_locked();

	fprintf(stderr, "usage: see lab/selfcheck.sh\n");
	return 1;
}
