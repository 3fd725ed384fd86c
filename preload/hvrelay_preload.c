// SPDX-License-Identifier: GPL-2.0
/*
 * Preload library that turns on the relay of a nested Hyper-V root's hypercalls, i.e.
 * KVM_CAP_NESTED_HYPERV_HCALL_RELAY, for each VM that a VMM creates, without a change to the VMM.
 *
 * It wraps ioctl(): after a KVM_CREATE_VM that succeeded, the capability is checked and enabled
 * on the new VM's file descriptor, before the VMM gets to see it. One line on stderr says what was
 * done, or why it was not. README.md describes the environment variables.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The next free number in Linux 7.3. Until there is an upstream one, HVRELAY_CAP overrides it, and
 * the Debian package has the number of its modules.
 */
#ifndef DEFAULT_CAPABILITY
#define DEFAULT_CAPABILITY	252
#endif

#define RELAY_ONE_L2		(1 << 9)	/* only the L2 whose VM id is args[1] */

struct word {
	const char *name;
	unsigned int bit;
	bool is_class;
};

/* What HVRELAY_CLASSES may have. */
static const struct word words[] = {
	{ "post",		1 << 0, true },		/* HvPostMessage */
	{ "signal",		1 << 1, true },		/* HvSignalEvent */
	{ "inter-partition",	1 << 8, false },	/* if L1 has set interPartitionCommunication */
};

#define NR_WORDS	(sizeof(words) / sizeof(words[0]))
#define CHOICE		"post, signal or post,signal"

struct wish {
	unsigned int mask;
	unsigned long long vm_id;	/* with RELAY_ONE_L2 */
};

typedef int ioctl_fn(int fd, unsigned long request, ...);

static ioctl_fn *next_ioctl;

/*
 * For the unlikely program without another ioctl(), and for calls that come before the
 * constructor, from the constructors of other libraries.
 */
static int raw_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);

	return syscall(SYS_ioctl, fd, request, arg);
}

__attribute__((constructor)) static void find_next_ioctl(void)
{
	void *next = dlsym(RTLD_NEXT, "ioctl");

	next_ioctl = next ? (ioctl_fn *)next : raw_ioctl;
}

/* One write(), so that lines of threads and processes don't mix. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	char line[512] = "hvrelay: ";
	size_t len = strlen(line);
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line + len, sizeof(line) - len - 1, format, ap);
	va_end(ap);
	if (n < 0)
		return;
	len += (size_t)n < sizeof(line) - len - 1 ? (size_t)n : sizeof(line) - len - 2;
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0)
		return;		/* Without stderr there is nobody to tell. */
}

static size_t append(char *buf, size_t size, size_t len, const char *name)
{
	if (len < size)
		len += snprintf(buf + len, size - len, "%s%s", len ? "," : "", name);
	return len;
}

/* "post,signal" for 3, "0x4" for a bit that has no name here. */
static const char *mask_text(unsigned int mask, char *buf, size_t size)
{
	char rest[16];
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < NR_WORDS; i++) {
		if (mask & words[i].bit)
			len = append(buf, size, len, words[i].name);
		mask &= ~words[i].bit;
	}
	if (mask & RELAY_ONE_L2)
		len = append(buf, size, len, "one L2");
	mask &= ~RELAY_ONE_L2;
	snprintf(rest, sizeof(rest), "%#x", mask);
	if (mask)
		append(buf, size, len, rest);

	return buf[0] ? buf : "nothing";
}

/* The bits that @list names; false if a word is unknown, or if there is no class. */
static bool parse_classes(const char *list, unsigned int *mask)
{
	bool has_class = false;

	for (const char *word = list; ; word++) {
		size_t len = strcspn(word, ","), i;

		for (i = 0; i < NR_WORDS; i++)
			if (strlen(words[i].name) == len && !memcmp(words[i].name, word, len))
				break;
		if (i == NR_WORDS) {
			say("HVRELAY_CLASSES=%s: no class '%.*s'; use " CHOICE ", and inter-partition with them",
			    list, (int)len, word);
			return false;
		}
		*mask |= words[i].bit;
		has_class |= words[i].is_class;
		word += len;
		if (!*word)
			break;
	}
	if (!has_class)
		say("HVRELAY_CLASSES=%s: nothing to relay; add " CHOICE, list);
	return has_class;
}

/*
 * Who sets the variable wants a restriction: nothing of it may be taken for none. No sign and no white
 * space, which strtoull() would skip.
 */
static bool parse_vm_id(struct wish *wish)
{
	const char *text = getenv("HVRELAY_VM_ID");
	char *end;

	if (!text)
		return true;

	errno = 0;
	wish->vm_id = strtoull(text, &end, 0);
	if (errno || *end || *text < '0' || *text > '9') {
		say("HVRELAY_VM_ID=%s is not the id of a VM; unset it for any", text);
		return false;
	}
	wish->mask |= RELAY_ONE_L2;
	return true;
}

static bool parse_capability(unsigned int *cap)
{
	const char *text = getenv("HVRELAY_CAP");
	char *end;
	long value;

	*cap = DEFAULT_CAPABILITY;
	if (!text || !*text)
		return true;

	errno = 0;
	value = strtol(text, &end, 0);
	if (errno || *end || value <= 0 || value > INT_MAX) {
		say("HVRELAY_CAP=%s is not the number of a capability; unset it for %d", text,
		    DEFAULT_CAPABILITY);
		return false;
	}
	*cap = value;
	return true;
}

/* False if the user asked for a relay that the VM has not got. */
static bool enable_relay(int vm)
{
	const char *list = getenv("HVRELAY_CLASSES");
	struct kvm_enable_cap enable = { 0 };
	struct wish wish = { 0 };
	char text[2][64], id[64] = "";
	int known;

	if (!list || !*list) {
		say("VM %d: relay stays off: HVRELAY_CLASSES is not set; use " CHOICE, vm);
		return true;
	}
	if (!parse_classes(list, &wish.mask) || !parse_vm_id(&wish) || !parse_capability(&enable.cap))
		return false;

	known = next_ioctl(vm, KVM_CHECK_EXTENSION, enable.cap);
	if (known < 0) {
		say("VM %d: relay stays off: KVM_CHECK_EXTENSION of %u failed: %s", vm, enable.cap,
		    strerror(errno));
		return false;
	}
	if (!known) {
		say("VM %d: relay stays off: this host has no capability %u; is it a kernel with the relay, is nested=1 for kvm_intel or kvm_amd?",
		    vm, enable.cap);
		return false;
	}
	if (wish.mask & ~known) {
		say("VM %d: relay stays off: %s wanted, this host relays %s", vm,
		    mask_text(wish.mask, text[0], sizeof(text[0])),
		    mask_text(known, text[1], sizeof(text[1])));
		return false;
	}

	enable.args[0] = wish.mask;
	enable.args[1] = wish.vm_id;
	if (next_ioctl(vm, KVM_ENABLE_CAP, &enable)) {
		say("VM %d: relay stays off: KVM_ENABLE_CAP of %u failed: %s", vm, enable.cap,
		    strerror(errno));
		return false;
	}
	if (wish.mask & RELAY_ONE_L2)
		snprintf(id, sizeof(id), " of the L2 with VM id %#llx", wish.vm_id);
	say("VM %d: relaying %s%s", vm,
	    mask_text(wish.mask & ~RELAY_ONE_L2, text[0], sizeof(text[0])), id);
	return true;
}

static bool is_strict(void)
{
	const char *strict = getenv("HVRELAY_STRICT");

	return strict && *strict && strcmp(strict, "0");
}

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	int ret, saved_errno;
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);

	if (!next_ioctl)
		find_next_ioctl();
	ret = next_ioctl(fd, request, arg);
	if (request != KVM_CREATE_VM || ret < 0)
		return ret;

	saved_errno = errno;
	if (!enable_relay(ret) && is_strict()) {
		say("VM %d: not created, as HVRELAY_STRICT is set", ret);
		close(ret);
		errno = EOPNOTSUPP;
		return -1;
	}
	errno = saved_errno;
	return ret;
}
