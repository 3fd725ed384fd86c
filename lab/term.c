// SPDX-License-Identifier: GPL-2.0
/*
 * A terminal for an emulated host: runs a command, in whose environment
 * HOST_CONSOLE is the path of a pseudoterminal for the host's serial port, and
 * joins that to the terminal of the user, or to what stdin and stdout are.
 *
 *	term [--wait TEXT] COMMAND [ARG...]
 *
 * With --wait, nothing is sent before the host has printed TEXT: what arrives while it
 * boots would be lost.  At the end of stdin nothing more is sent.  ^] ends the command.
 * Exits with the command's status, 1 if it was ended or for an error of its own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE	0x1d	/* ^] */

static struct termios saved;
static bool raw;

static void restore(void)
{
	if (raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
}

static __attribute__((noreturn)) void fail(const char *what)
{
	fprintf(stderr, "term: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Open both ends: the slave stays open, or the master would hang up without a host. */
static int open_pty(int *slave)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios tio;
	const char *name;

	if (master < 0 || grantpt(master) || unlockpt(master))
		fail("no pseudoterminal");
	name = ptsname(master);
	*slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*slave < 0 || tcgetattr(*slave, &tio))
		fail(name);
	cfmakeraw(&tio);
	if (tcsetattr(*slave, TCSANOW, &tio) || setenv("HOST_CONSOLE", name, 1))
		fail(name);
	return master;
}

/* A group of its own, so that neither ^C nor the end of the terminal gets there. */
static pid_t start(char **argv)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid)
		return pid;
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	execvp(argv[0], argv);
	fprintf(stderr, "term: %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static void send_all(int fd, const char *buf, ssize_t n)
{
	while (n > 0) {
		ssize_t sent = write(fd, buf, n);

		if (sent < 0 && errno != EINTR)
			fail("write");
		if (sent > 0) {
			buf += sent;
			n -= sent;
		}
	}
}

/* Has @text gone by?  Finds one that begins in an earlier piece, too. */
static bool seen(const char *text, const char *buf, ssize_t n)
{
	static char last[4096 + 256];
	static size_t len;
	size_t keep = strlen(text);
	bool found;

	memcpy(last + len, buf, n);
	len += n;
	found = memmem(last, len, text, keep);
	if (len > keep) {
		memmove(last, last + len - keep, keep);
		len = keep;
	}
	return found;
}

/* Returns false if the user has had enough. */
static bool from_user(struct pollfd *in, int master)
{
	char buf[256], *escape;
	ssize_t n = read(in->fd, buf, sizeof(buf));

	if (n <= 0) {
		in->fd = -1;
		return true;
	}
	escape = raw ? memchr(buf, ESCAPE, n) : NULL;
	send_all(master, buf, escape ? escape - buf : n);
	return !escape;
}

int main(int argc, char **argv)
{
	const char *wait_for = NULL;
	int master, slave, status;
	bool ended = false;
	char buf[4096];
	pid_t pid;

	if (argc > 2 && !strcmp(argv[1], "--wait") && strlen(argv[2]) < 256) {
		wait_for = argv[2];
		argv += 2;
	}
	if (!argv[1]) {
		fprintf(stderr, "usage: term [--wait TEXT] COMMAND [ARG...]\n");
		return 1;
	}
	master = open_pty(&slave);
	pid = start(argv + 1);

	if (!tcgetattr(STDIN_FILENO, &saved)) {
		struct termios tio = saved;

		cfmakeraw(&tio);
		raw = !tcsetattr(STDIN_FILENO, TCSADRAIN, &tio);
		atexit(restore);
	}

	struct pollfd fds[] = {
		{ .fd = pidfd_open(pid, 0), .events = POLLIN },
		{ .fd = master, .events = POLLIN },
		{ .fd = wait_for && !raw ? -1 : STDIN_FILENO, .events = POLLIN },
	};

	if (fds[0].fd < 0)
		fail("pidfd_open");
	for (;;) {
		ssize_t n;

		/* What the host printed last comes before its end. */
		if (poll(fds, 3, -1) < 0 && errno != EINTR)
			fail("poll");
		if (fds[1].revents) {
			n = read(master, buf, sizeof(buf));
			if (n < 0)
				fail("read");
			send_all(STDOUT_FILENO, buf, n);
			if (wait_for && seen(wait_for, buf, n)) {
				wait_for = NULL;
				fds[2].fd = STDIN_FILENO;
			}
			continue;
		}
		if (fds[0].revents)
			break;
		if (fds[2].revents && !from_user(&fds[2], master)) {
			kill(-pid, SIGTERM);
			ended = true;
			fds[2].fd = -1;
		}
	}
	if (waitpid(pid, &status, 0) != pid)
		fail("waitpid");
	return ended || !WIFEXITED(status) ? 1 : WEXITSTATUS(status);
}
