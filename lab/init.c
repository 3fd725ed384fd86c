// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of a lab boot: run the steps of /lab/manifest, report them on ttyS1.
 *
 * Manifest, one step per line, words separated by blanks, '#' starts a comment.
 * Each STEP has a name of its own:
 *
 *	test STEP SECONDS PROGRAM [ARG...]	run a program of /lab/tests
 *	write STEP PATH VALUE			write a value, e.g. enable a tracepoint
 *	cat STEP PATH				report a file, e.g. the trace buffer
 *	gcov STEP				report the counters of a kernel with gcov
 *	insmod STEP FILE [PARAMETER...]		load a module of /lab/tests
 *	rmmod STEP NAME				unload one
 *	until-failure STEP			from here on, a line of a test that begins
 *						with "not ok" ends the test and the boot
 *
 * Result channel, one record per line:
 *
 *	NONCE fact KEY VALUE			about the host
 *	NONCE start STEP
 *	o STEP TEXT				a line the step printed; of gcov, for each
 *						file: @PATH, lines of up to 64 bytes in
 *						hexadecimal, *N for N bytes of 0, =SIZE
 *	NONCE end STEP exit CODE SECONDS	CODE is the exit status
 *	NONCE end STEP signal NUMBER SECONDS
 *	NONCE end STEP timeout LIMIT SECONDS	killed at its limit
 *	NONCE end STEP stuck LIMIT SECONDS	did not die when killed
 *	NONCE end STEP error TEXT		could not be started, or no such file
 *	NONCE done STEPS
 *
 * The nonce comes in the initramfs and is unlinked before the first step runs:
 * neither a step's output nor a crashing kernel can write a verdict.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MAX_LINE	1024
#define MAX_OUTPUT	(256 * 1024)	/* per step: more would clog the serial line */
#define MAX_ARGS	512		/* per step */
#define KILL_SECONDS	10		/* for a killed step to be gone */

static FILE *result;
static char nonce[65];
static bool until_failure, failed;

struct output {
	const char *step;
	char line[MAX_LINE];
	size_t len, total;
};

static __attribute__((noreturn)) void power_off(void)
{
	if (result) {
		fflush(result);
		tcdrain(fileno(result));
	}
	sync();
	reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static __attribute__((noreturn)) void fatal(const char *what)
{
	int fd = open("/dev/console", O_WRONLY | O_NOCTTY);

	if (fd >= 0)
		dprintf(fd, "lab init: %s: %s\n", what, strerror(errno));
	power_off();
}

#define report(fmt, ...)						\
do {									\
	fprintf(result, "%s " fmt "\n", nonce, ##__VA_ARGS__);		\
	fflush(result);							\
} while (0)

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void mount_all(void)
{
	static const struct {
		const char *type, *dir;
		bool optional;
	} mounts[] = {
		{ "proc",	"/proc",	false },
		{ "sysfs",	"/sys",	false },
		{ "devtmpfs",	"/dev",	false },
		{ "tmpfs",	"/tmp",	false },
		{ "debugfs",	"/sys/kernel/debug",	true },
		{ "tracefs",	"/sys/kernel/tracing",	true },
	};

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].dir, 0755);
		if (mount("none", mounts[i].dir, mounts[i].type, 0, NULL) &&
		    !mounts[i].optional)
			fatal(mounts[i].dir);
	}
}

static void open_result(void)
{
	struct termios tio;
	int fd = open("/dev/ttyS1", O_WRONLY | O_NOCTTY | O_CLOEXEC);

	if (fd < 0 || tcgetattr(fd, &tio))
		fatal("/dev/ttyS1");
	cfmakeraw(&tio);
	cfsetspeed(&tio, B115200);
	if (tcsetattr(fd, TCSANOW, &tio))
		fatal("/dev/ttyS1");
	result = fdopen(fd, "w");
	if (!result)
		fatal("/dev/ttyS1");
}

static void take_nonce(void)
{
	FILE *f = fopen("/lab/nonce", "re");

	if (!f || fscanf(f, "%64[0-9a-f]", nonce) != 1)
		fatal("/lab/nonce");
	fclose(f);
	if (unlink("/lab/nonce"))
		fatal("/lab/nonce");
}

static void report_first_line(const char *key, const char *path, const char *prefix)
{
	char line[512];
	FILE *f = fopen(path, "re");

	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, prefix, strlen(prefix)))
			continue;
		line[strcspn(line, "\n")] = '\0';
		report("fact %s %s", key, line);
		break;
	}
	fclose(f);
}

static void report_kvm(void)
{
	report("fact kvm %s", access("/dev/kvm", R_OK | W_OK) ? "absent" : "present");
}

static void report_facts(void)
{
	report_first_line("version", "/proc/version", "");
	report_first_line("cmdline", "/proc/cmdline", "");
	report_first_line("vendor", "/proc/cpuinfo", "vendor_id");
	report_first_line("cpu", "/proc/cpuinfo", "model name");
	report_first_line("kvm_amd.npt", "/sys/module/kvm_amd/parameters/npt", "");
	report_first_line("kvm_amd.nested", "/sys/module/kvm_amd/parameters/nested", "");
	report_first_line("kvm_intel.ept", "/sys/module/kvm_intel/parameters/ept", "");
	report_first_line("kvm_intel.nested", "/sys/module/kvm_intel/parameters/nested", "");
	report_kvm();
	report("fact seconds_to_init %.1f", now());
}

static void flush_line(struct output *out)
{
	if (!out->len)
		return;
	fprintf(result, "o %s %.*s\n", out->step, (int)out->len, out->line);
	fflush(result);
	if (until_failure && out->len >= 6 && !memcmp(out->line, "not ok", 6))
		failed = true;
	out->len = 0;
}

/* A line longer than the buffer is cut: its rest must not pass for a new line. */
static void add_output(struct output *out, const char *buf, size_t n)
{
	static const char dropped[] = "[further output dropped]";

	for (size_t i = 0; i < n; i++) {
		unsigned char c = buf[i];

		if (out->total > MAX_OUTPUT)
			return;
		if (++out->total > MAX_OUTPUT) {
			flush_line(out);
			memcpy(out->line, dropped, out->len = sizeof(dropped) - 1);
			flush_line(out);
		} else if (c == '\n') {
			flush_line(out);
		} else if (out->len < sizeof(out->line) && c != '\r') {
			out->line[out->len++] = c == '\t' ? ' ' : isprint(c) ? c : '?';
		}
	}
}

static bool read_output(struct output *out, int fd)
{
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n > 0)
		add_output(out, buf, n);
	return n > 0;
}

/* Whatever the step left behind goes with it: only PID 1 survives kill(-1). */
static bool kill_everything(void)
{
	double deadline = now() + KILL_SECONDS;
	pid_t pid;

	do {
		kill(-1, SIGKILL);
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0 && errno == ECHILD)
			return true;
		usleep(10000);
	} while (now() < deadline);

	return false;
}

static pid_t spawn(char **argv, int out, int err)
{
	pid_t pid = fork();

	if (pid)
		return pid;

	setpgid(0, 0);
	dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	execv(argv[0], argv);
	dprintf(err, "%s: %s", argv[0], strerror(errno));
	_exit(127);
}

static void run_test(const char *step, int limit, char **argv)
{
	struct output out = { .step = step };
	int pipefd[2], errfd[2], pidfd, status;
	char error[256] = "";
	double start = now();
	bool timeout = false;
	pid_t pid, done = 0;

	if (pipe2(pipefd, O_CLOEXEC) || pipe2(errfd, O_CLOEXEC))
		fatal("pipe");
	pid = spawn(argv, pipefd[1], errfd[1]);
	if (pid < 0)
		fatal("fork");
	close(pipefd[1]);
	close(errfd[1]);
	pidfd = pidfd_open(pid, 0);
	if (pidfd < 0)
		fatal("pidfd_open");
	if (read(errfd[0], error, sizeof(error) - 1) < 0)
		fatal("read");
	fcntl(pipefd[0], F_SETFL, O_NONBLOCK);

	struct pollfd fds[] = {
		{ .fd = pipefd[0], .events = POLLIN },
		{ .fd = pidfd, .events = POLLIN },
	};

	while (!(fds[1].revents & POLLIN) && !failed) {
		double left = start + limit - now();

		if (left <= 0) {
			timeout = true;
			break;
		}
		if (poll(fds, 2, left * 1000 + 1) < 0)
			fatal("poll");
		if (fds[0].revents && !read_output(&out, pipefd[0]))
			fds[0].fd = -1;
	}
	if (timeout || failed) {
		double deadline = now() + KILL_SECONDS;

		kill(-pid, SIGKILL);
		while (!(done = waitpid(pid, &status, WNOHANG)) && now() < deadline)
			usleep(10000);
	} else {
		done = waitpid(pid, &status, 0);
	}
	if (!kill_everything())
		done = 0;
	while (out.total <= MAX_OUTPUT && read_output(&out, pipefd[0]))
		;
	flush_line(&out);
	close(pipefd[0]);
	close(errfd[0]);
	close(pidfd);

	if (error[0])
		report("end %s error %s", step, error);
	else if (done != pid)
		report("end %s stuck %d %.2f", step, limit, now() - start);
	else if (timeout)
		report("end %s timeout %d %.2f", step, limit, now() - start);
	else if (WIFSIGNALED(status))
		report("end %s signal %d %.2f", step, WTERMSIG(status), now() - start);
	else
		report("end %s exit %d %.2f", step, WEXITSTATUS(status), now() - start);
}

static void end_of_file_step(const char *step, bool good, const char *path, double start)
{
	if (good)
		report("end %s exit 0 %.2f", step, now() - start);
	else
		report("end %s error %s: %s", step, path, strerror(errno));
}

static void write_file(const char *step, const char *path, const char *value)
{
	double start = now();
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	end_of_file_step(step, good, path, start);
	if (fd >= 0)
		close(fd);
}

static void cat_file(const char *step, const char *path)
{
	struct output out = { .step = step };
	double start = now();
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	while (fd >= 0 && read_output(&out, fd))
		;
	flush_line(&out);
	end_of_file_step(step, fd >= 0, path, start);
	if (fd >= 0)
		close(fd);
}

/* To the result channel as it is, however much it is. */
static bool hex_file(const char *step, const char *path)
{
	size_t n, zeros = 0, total = 0;
	unsigned char buf[64];
	FILE *f = fopen(path, "re");
	bool good;

	if (!f)
		return false;
	fprintf(result, "o %s @%s\n", step, path);
	while ((n = fread(buf, 1, sizeof(buf), f))) {
		total += n;
		if (!buf[0] && !memcmp(buf, buf + 1, n - 1)) {
			zeros += n;
			continue;
		}
		if (zeros)
			fprintf(result, "o %s *%zu\n", step, zeros);
		zeros = 0;
		fprintf(result, "o %s ", step);
		for (size_t i = 0; i < n; i++)
			fprintf(result, "%02x", buf[i]);
		fprintf(result, "\n");
	}
	if (zeros)
		fprintf(result, "o %s *%zu\n", step, zeros);
	good = !ferror(f);
	if (good)
		fprintf(result, "o %s =%zu\n", step, total);
	fclose(f);
	return good;
}

/* For the callback of nftw(), which has no argument of its own. */
static const char *gcov_step;

static int gcov_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	const char *dot = strrchr(path, '.');

	(void)st;
	(void)ftw;
	if (type != FTW_F || !dot || strcmp(dot, ".gcda"))
		return 0;
	return hex_file(gcov_step, path) ? 0 : -1;
}

static void report_gcov(const char *step)
{
	static const char dir[] = "/sys/kernel/debug/gcov";
	double start = now();

	gcov_step = step;
	end_of_file_step(step, !nftw(dir, gcov_file, 16, FTW_PHYS), dir, start);
}

static void load_module(const char *step, char **argv)
{
	int fd = open(argv[0], O_RDONLY | O_CLOEXEC);
	char parameters[MAX_LINE] = "";
	double start = now();
	bool good;

	for (char **word = argv + 1; *word; word++) {
		strcat(parameters, *word);
		strcat(parameters, " ");
	}
	good = fd >= 0 && !syscall(SYS_finit_module, fd, parameters, 0);
	end_of_file_step(step, good, argv[0], start);
	if (fd >= 0)
		close(fd);
	report_kvm();
}

static void unload_module(const char *step, const char *name)
{
	double start = now();
	bool good = !syscall(SYS_delete_module, name, O_NONBLOCK);

	end_of_file_step(step, good, name, start);
}

static void stop_at_failure(const char *step)
{
	until_failure = true;
	report("end %s exit 0 0.00", step);
}

static void run_step(char *line)
{
	char *argv[MAX_ARGS + 1] = { NULL }, *step, **args;
	int argc = 0, nr_args;

	for (char *word = strtok(line, " \t"); word && argc < MAX_ARGS; word = strtok(NULL, " \t"))
		argv[argc++] = word;

	/* Even a line that has nothing else is known by a name. */
	step = argv[argc > 1];
	args = argv + 2;
	nr_args = argc - 2;

	report("start %s", step);
	if (nr_args >= 2 && !strcmp(argv[0], "test") && atoi(args[0]) > 0)
		run_test(step, atoi(args[0]), args + 1);
	else if (nr_args == 2 && !strcmp(argv[0], "write"))
		write_file(step, args[0], args[1]);
	else if (nr_args == 1 && !strcmp(argv[0], "cat"))
		cat_file(step, args[0]);
	else if (nr_args == 0 && !strcmp(argv[0], "gcov"))
		report_gcov(step);
	else if (nr_args >= 1 && !strcmp(argv[0], "insmod"))
		load_module(step, args);
	else if (nr_args == 1 && !strcmp(argv[0], "rmmod"))
		unload_module(step, args[0]);
	else if (nr_args == 0 && !strcmp(argv[0], "until-failure"))
		stop_at_failure(step);
	else
		report("end %s error not a manifest line", step);
}

static int run_manifest(void)
{
	FILE *f = fopen("/lab/manifest", "re");
	char *line = NULL;
	size_t size = 0;
	int steps = 0;

	if (!f || chdir("/lab/tests"))
		fatal("/lab/manifest");
	while (!failed && getline(&line, &size, f) > 0) {
		line[strcspn(line, "#\n")] = '\0';
		if (line[strspn(line, " \t")]) {
			run_step(line);
			steps++;
		}
	}
	free(line);
	fclose(f);
	return steps;
}

int main(void)
{
	if (getpid() != 1) {
		fprintf(stderr, "this is the init of a lab boot; use lab/boot.sh\n");
		return 1;
	}
	mount_all();
	open_result();
	take_nonce();
	report_facts();
	report("done %d", run_manifest());
	power_off();
}
