// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of L2, or of L1 if that is Linux with KVM: report on the console what Linux found on its
 * vmbus, and end the VM.
 *
 * The kernel's command line may have
 *
 *	e2e.child	let L1 run its other guest, between two reports
 *	e2e.kvm		run /vmm, whose guests are L2, between two reports
 *	e2e.rebind=N	take the device from its driver and give it back, N times: each time closes
 *			and opens the channel
 *	e2e.reconnect=N	have the vmbus disconnected and connected again, N times
 *	e2e.late-child	let L1 run its other guest then
 *	e2e.balloon=N	wait until memory has been taken by the balloon and given back, N times
 *	e2e.stay=N	end N seconds after the last line, by default 2: the VM is being moved
 *
 * Lines start with "e2e: "; the last one is "e2e: done". The two ports are those of rootvisor;
 * where there is none, the first one is QEMU's.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "say.h"

#define PORT_END	0x4f0
#define PORT_CHILD	0x4f1
#define BUS		"/sys/bus/vmbus"
#define BIND_SECONDS	8	/* hv_balloon gives up after 5 */

static char cmdline[2048];

/* What is new in the kernel's log: on the console, each character costs two exits to the VMM. */
static void show_log(void)
{
	static int fd = -1;
	char record[2048], *text;
	unsigned long long usec;
	ssize_t n;

	if (fd < 0)
		fd = open("/kmsg", O_RDONLY | O_NONBLOCK);
	while (fd >= 0 && ((n = read(fd, record, sizeof(record) - 1)) > 0 || errno == EPIPE)) {
		if (n <= 0)
			continue;
		record[n] = '\0';
		text = strchr(record, ';');
		if (!text || sscanf(record, "%*u,%*u,%llu,", &usec) != 1)
			continue;
		text++;
		text[strcspn(text, "\n")] = '\0';
		if (strncmp(text, "hv_", 3) && !strcasestr(text, "hyper"))
			continue;
		printf("[%5llu.%06llu] %s\n", usec / 1000000, usec % 1000000, text);
	}
	fflush(stdout);
}

/*
 * One of L1's ports. Not by ioperm(): once a VMM has read and written the segment registers, QEMU's
 * TCG (7.2) takes the TSS for one without an I/O bitmap.
 */
static void out(unsigned char value, int port)
{
	int fd = open("/port", O_WRONLY);

	if (fd < 0 || pwrite(fd, &value, 1, port) != 1)
		say("port %#x: %s", port, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void read_line(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "r");

	buf[0] = '\0';
	if (f && !fgets(buf, size, f))
		buf[0] = '\0';
	if (f)
		fclose(f);
	buf[strcspn(buf, "\n")] = '\0';
}

/* The name of the device's driver, or "none". */
static const char *driver_of(const char *device)
{
	static char target[PATH_MAX];
	char path[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), BUS "/devices/%s/driver", device);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return "none";
	target[n] = '\0';
	return basename(target);
}

/* The bus' devices; those with a driver are counted in @bound, @first is one of them. */
static int devices(int *bound, char *first, bool show)
{
	char path[PATH_MAX], class[128];
	struct dirent *entry;
	int n = 0;
	DIR *dir;

	*bound = 0;
	dir = opendir(BUS "/devices");
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		n++;
		if (strcmp(driver_of(entry->d_name), "none")) {
			strcpy(first, entry->d_name);
			++*bound;
		}
		if (show) {
			snprintf(path, sizeof(path), BUS "/devices/%s/class_id", entry->d_name);
			read_line(path, class, sizeof(class));
			say("device %s class %s driver %s", entry->d_name, class,
			    driver_of(entry->d_name));
		}
	}
	if (dir)
		closedir(dir);
	return n;
}

static void report_interrupts(void)
{
	FILE *f = fopen("/proc/interrupts", "r");
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "HYP:")) {
			line[strcspn(line, "\n")] = '\0';
			say("interrupts%s", line);
		}
	if (f)
		fclose(f);
}

static void report(const char *when)
{
	char first[NAME_MAX + 1];
	int n, bound;

	if (access(BUS, F_OK)) {
		show_log();
		say("%s: no vmbus", when);
		return;
	}
	for (int i = 0; i < BIND_SECONDS * 10; i++) {
		n = devices(&bound, first, false);
		if (n && n == bound)
			break;
		usleep(100000);
	}
	show_log();
	n = devices(&bound, first, true);
	say("%s: vmbus with %d devices, %d with a driver", when, n, bound);
	report_interrupts();
}

static bool write_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);
	bool good = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	if (fd >= 0)
		close(fd);
	return good;
}

static void rebind(int times)
{
	char device[NAME_MAX + 1], driver[NAME_MAX + 1], bind[PATH_MAX], unbind[PATH_MAX];
	int good = 0, bound;

	devices(&bound, device, false);
	if (!bound) {
		say("rebind: no device has a driver");
		return;
	}
	strcpy(driver, driver_of(device));
	snprintf(bind, sizeof(bind), BUS "/drivers/%s/bind", driver);
	snprintf(unbind, sizeof(unbind), BUS "/drivers/%s/unbind", driver);
	for (int i = 0; i < times; i++) {
		if (!write_file(unbind, device) || strcmp(driver_of(device), "none"))
			say("rebind: %s can't be taken from its driver: %s", device, strerror(errno));
		else if (!write_file(bind, device) || strcmp(driver_of(device), driver))
			say("rebind: %s can't be given to %s: %s", device, driver, strerror(errno));
		else
			good++;
		if (times >= 20 && i % 10 == 9)
			say("rebind: at %d", i + 1);
	}
	say("rebind: %d of %d of %s", good, times, driver);
}

/* The test mode of hibernation: all devices are frozen and thawed, and vmbus with them. */
static void reconnect(int times)
{
	char first[NAME_MAX + 1];
	int good = 0, n, bound;

	if (!write_file("/sys/power/pm_test", "platform"))
		say("reconnect: /sys/power/pm_test: %s", strerror(errno));
	for (int i = 0; i < times; i++) {
		if (!write_file("/sys/power/state", "disk")) {
			say("reconnect: /sys/power/state: %s", strerror(errno));
			continue;
		}
		n = devices(&bound, first, false);
		good += n && n == bound;
	}
	show_log();
	say("reconnect: %d of %d", good, times);
}

/* In kB; hv_balloon takes from it what it has given to the host. */
static long total_memory(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	long total = -1;

	if (f && fscanf(f, "MemTotal: %ld kB", &total) != 1)
		total = -1;
	if (f)
		fclose(f);
	return total;
}

static void follow_balloon(int times)
{
	long all = total_memory(), least, now;

	say("balloon: %ld kB, ready", all);
	for (int i = 0; i < times; i++) {
		while ((now = total_memory()) == all)
			usleep(10000);
		least = now;
		say("balloon: takes");
		while ((now = total_memory()) != all) {
			if (now < least)
				least = now;
			usleep(10000);
		}
		say("balloon: %d of %d, %ld kB given back", i + 1, times, all - least);
	}
}

/* The channels' own counts of interrupts received and signals sent. */
static void report_channels(void)
{
	char path[PATH_MAX], interrupts[32], events[32], device[NAME_MAX + 1];
	struct dirent *entry;
	int bound;
	DIR *dir;

	if (!devices(&bound, device, false) || !bound)
		return;
	snprintf(path, sizeof(path), BUS "/devices/%s/channels", device);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), BUS "/devices/%s/channels/%s/interrupts", device, entry->d_name);
		read_line(path, interrupts, sizeof(interrupts));
		snprintf(path, sizeof(path), BUS "/devices/%s/channels/%s/events", device, entry->d_name);
		read_line(path, events, sizeof(events));
		say("channel %s interrupts %s events %s", entry->d_name, interrupts, events);
	}
	if (dir)
		closedir(dir);
}

/* Linux' own hypervisor, and a VMM for it. */
static void run_guests(void)
{
	int status = -1;
	pid_t pid;

	mknod("/dev/kvm", S_IFCHR | 0600, makedev(10, 232));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		execl("/vmm", "vmm", NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		say("/vmm: status %#x", status);
}

int main(void)
{
	const char *option;

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mount("none", "/proc", "proc", 0, NULL);
	mount("none", "/sys", "sysfs", 0, NULL);
	read_line("/proc/cmdline", cmdline, sizeof(cmdline));
	mknod("/kmsg", S_IFCHR | 0600, makedev(1, 11));
	mknod("/port", S_IFCHR | 0600, makedev(1, 4));

	report("boot");
	if (strstr(cmdline, "e2e.child")) {
		say("a child of L1 runs");
		out(1, PORT_CHILD);
		report("after the child");
	}
	if (strstr(cmdline, "e2e.kvm")) {
		run_guests();
		report("after the guests");
	}
	option = strstr(cmdline, "e2e.rebind=");
	if (option)
		rebind(atoi(option + strlen("e2e.rebind=")));
	option = strstr(cmdline, "e2e.reconnect=");
	if (option)
		reconnect(atoi(option + strlen("e2e.reconnect=")));
	if (strstr(cmdline, "e2e.late-child"))
		out(1, PORT_CHILD);
	option = strstr(cmdline, "e2e.balloon=");
	if (option)
		follow_balloon(atoi(option + strlen("e2e.balloon=")));
	report_channels();
	say("done");
	/* For the reader of KVM's statistics: they go with the VM. */
	option = strstr(cmdline, "e2e.stay=");
	sleep(option ? atoi(option + strlen("e2e.stay=")) : 2);
	out(0, PORT_END);
	reboot(RB_AUTOBOOT);
	return 1;
}
