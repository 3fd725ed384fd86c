// SPDX-License-Identifier: GPL-2.0
/*
 * Run one scenario of the end-to-end test, inside L0: start QEMU with rootvisor and Linux, or with
 * Linux and its KVM, wait for its end, and check what L2, L1 and L0 have on record. "scenario NAME
 * [CAP]", see scenarios[]; CAP is the capability's number, for the preload library.
 *
 * Prints TAP; "L2|" and "L1|" lines are what these printed, "trace|" lines are L0's trace, "flow|"
 * lines sum up what became of the calls. QEMU and what it needs are in /vmm, see run.sh.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VMM		"/vmm"
#define QEMU		VMM "/qemu-system-x86_64"
#define QEMU_RELAY	VMM "/qemu-relay"
#define QEMU_TO		VMM "/qemu-to"	/* of another version, which every other move goes to */
#define MACHINE		"pc-i440fx-10.0" /* of the oldest QEMU */
#define L1_LOG		"/tmp/l1.log"
#define STDERR_LOG	"/tmp/vmm.log"
#define MONITOR		"/tmp/monitor"	/* and a number, as there may be several QEMUs */
#define STATE		"/tmp/state"	/* of a VM that was saved */
#define STREAM		"unix:/tmp/stream"
#define HELD		"/tmp/held"	/* a vCPU, by exits.c */
#define TRACING		"/sys/kernel/tracing"
#define MOMENT		TRACING "/instances/moment"
#define NR_TAIL		60		/* lines of what is too long to be shown */
#define QEMU_SECONDS	180		/* all of a scenario; by L0's clock */
#define MOVE_SECONDS	600		/* the same for one in which the VM is saved or moved */
#define ANSWER_SECONDS	60		/* for what is asked of a QEMU then */
#define L1_SECONDS	60		/* until L1 prints something, which takes one or two */
#define REFUSED_POSTS	5		/* Linux' vmbus 6.0 to 5.0, to a connection that QEMU lacks */
#define FIRST_CONTACTS	2		/* with 4.1, which QEMU refuses, and 4.0 */
#define MEMORY		160		/* of the VM, in MiB */
#define MAX_LINE	400
#define MAX_EVENTS	20000

/*
 * Without signals, a channel may work by chance: QEMU looks at it when it is opened, and it depends on
 * the time whether a first packet is in it then.
 */
enum vmbus { NO_VMBUS, NO_SIGNALS, CHANNEL };

/* What becomes of the VM on its way. */
enum moves {
	STAYS,
	SAVED,		/* to a file, and restored by another QEMU, again and again */
	LIVE,		/* from one QEMU to another, again and again */
	HELD_SAVED,	/* once, in a post of L2's */
	REFUSED,	/* saved, targets that have to refuse it; then it goes on where it was */
	RESET,		/* by the monitor, in a post of L2's */
};

static const struct scenario {
	const char *name, *title;
	const char *classes;		/* of the preload library; without, it isn't loaded */
	bool property;			/* QEMU of "make qemu", with hv-nested-relay */
	const char *l1_args, *l2_args;
	enum vmbus vmbus;		/* what L2 has to get */
	bool posts_kept, signals_kept;	/* in L0 */
	int child_calls;		/* of a kind, made by L1's other guest */
	bool child_auth;		/* L1 authorizes it */
	int rebinds, reconnects;	/* of the channel, of the vmbus */
	int l1_messages;		/* of L1's own, the first one of which asks to connect */
	bool kvm;			/* Linux is L1, with the vmbus; L2 are l1-vmm.c's guests */
	enum moves moves;
	int balloons;			/* times that memory is asked for and given back */
	const char *held_post;		/* of L2, which is not completed before the VM is moved */
	const char *vm_id;		/* with kvm: the one L2 to be served */
	const char *refused;		/* with kvm: L0's verdict on calls that it could keep */
} scenarios[] = {
	{
		.name = "off", .title = "relay off",
		.vmbus = NO_VMBUS,
	}, {
		.name = "on", .title = "relay on: post,signal", .classes = "post,signal",
		.l2_args = "e2e.rebind=3 e2e.reconnect=1", .rebinds = 3, .reconnects = 1,
		.vmbus = CHANNEL, .posts_kept = true, .signals_kept = true,
	}, {
		.name = "post", .title = "relay on: post", .classes = "post",
		.vmbus = NO_SIGNALS, .posts_kept = true,
	}, {
		.name = "noauth", .title = "relay on, L2 not authorized by L1", .classes = "post,signal",
		.l1_args = "noauth",
		.vmbus = NO_VMBUS,
	}, {
		.name = "child", .title = "relay on, and a child that isn't authorized",
		.classes = "post,signal",
		.l2_args = "e2e.child e2e.rebind=3", .rebinds = 3,
		.vmbus = CHANNEL, .posts_kept = true, .signals_kept = true, .child_calls = 4,
	}, {
		.name = "firmware", .title = "relay on, after firmware that had the vmbus",
		.classes = "post,signal", .l1_args = "firmware", .l1_messages = 2,
		.vmbus = CHANNEL, .posts_kept = true, .signals_kept = true,
	}, {
		.name = "soak", .title = "relay on: channel closed and opened 250 times",
		.classes = "post,signal", .l2_args = "e2e.rebind=250", .rebinds = 250,
		.vmbus = CHANNEL, .posts_kept = true, .signals_kept = true,
	}, {
		.name = "qemu", .title = "QEMU's own hv-nested-relay", .property = true,
		.l2_args = "e2e.rebind=3 e2e.reconnect=1", .rebinds = 3, .reconnects = 1,
		.vmbus = CHANNEL, .posts_kept = true, .signals_kept = true,
	}, {
		.name = "qemu-child", .title = "hv-nested-relay, and a child that is authorized",
		.property = true, .l1_args = "child-auth",
		.l2_args = "e2e.child e2e.rebind=3", .rebinds = 3,
		.vmbus = CHANNEL, .posts_kept = true, .signals_kept = true,
		.child_calls = 4, .child_auth = true,
	}, {
		.name = "qemu-firmware", .title = "hv-nested-relay, after firmware that had the vmbus",
		.property = true, .l1_args = "firmware", .l1_messages = 2,
		.vmbus = CHANNEL, .posts_kept = true, .signals_kept = true,
	}, {
		.name = "qemu-deaf", .title = "hv-nested-relay, after firmware that failed to connect",
		.property = true, .l1_args = "deaf-firmware", .l1_messages = 1,
		.vmbus = CHANNEL, .posts_kept = true, .signals_kept = true,
	}, {
		.name = "qemu-save", .title = "hv-nested-relay, saved and restored", .property = true,
		.l1_args = "child-auth", .l2_args = "e2e.rebind=60 e2e.late-child e2e.balloon=2",
		.rebinds = 60, .balloons = 2, .child_calls = 4, .child_auth = true,
		.vmbus = CHANNEL, .posts_kept = true, .signals_kept = true, .moves = SAVED,
	}, {
		.name = "qemu-live", .title = "hv-nested-relay, migrated live", .property = true,
		.l1_args = "child-auth", .l2_args = "e2e.rebind=60 e2e.late-child e2e.balloon=2",
		.rebinds = 60, .balloons = 2, .child_calls = 4, .child_auth = true,
		.vmbus = CHANNEL, .posts_kept = true, .signals_kept = true, .moves = LIVE,
	}, {
		.name = "qemu-held", .title = "hv-nested-relay, saved in a post of L2", .property = true,
		.l2_args = "e2e.rebind=3 e2e.stay=20", .rebinds = 3, .held_post = "20",
		.vmbus = CHANNEL, .posts_kept = true, .signals_kept = true, .moves = HELD_SAVED,
	}, {
		.name = "qemu-refuse", .title = "hv-nested-relay, refused by targets", .property = true,
		.l2_args = "e2e.rebind=30 e2e.stay=20", .rebinds = 30,
		.vmbus = CHANNEL, .posts_kept = true, .signals_kept = true, .moves = REFUSED,
	}, {
		.name = "qemu-reset", .title = "hv-nested-relay, reset in a post of L2", .property = true,
		.l1_args = "child-auth id-by-boot", .l2_args = "e2e.child e2e.rebind=3",
		.rebinds = 3, .held_post = "20", .child_calls = 4, .child_auth = true,
		.vmbus = CHANNEL, .posts_kept = true, .signals_kept = true, .moves = RESET,
	}, {
		.name = "kvm-off", .title = "L1 is Linux' KVM, relay off", .kvm = true,
		.l2_args = "e2e.kvm e2e.rebind=1", .rebinds = 1, .vmbus = CHANNEL,
		.refused = "to L1: not selected",
	}, {
		.name = "kvm", .title = "L1 is Linux' KVM, relay on: post,signal", .kvm = true,
		.classes = "post,signal", .l2_args = "e2e.kvm", .vmbus = CHANNEL,
	}, {
		.name = "kvm-inter", .title = "L1 is Linux' KVM, inter-partition only", .kvm = true,
		.classes = "post,signal,inter-partition",
		.l2_args = "e2e.kvm e2e.rebind=1", .rebinds = 1, .vmbus = CHANNEL,
		.refused = "to L1: no inter-partition communication",
	}, {
		.name = "kvm-one", .title = "L1 is Linux' KVM, another L2 only", .kvm = true,
		.classes = "post,signal", .vm_id = "0x7e2",
		.l2_args = "e2e.kvm e2e.rebind=1", .rebinds = 1, .vmbus = CHANNEL,
		.refused = "to L1: another L2",
	}, {
		.name = "qemu-kvm", .title = "L1 is Linux' KVM, hv-nested-relay", .kvm = true,
		.property = true, .l2_args = "e2e.kvm e2e.rebind=1", .rebinds = 1, .vmbus = CHANNEL,
		.refused = "to L1: not selected",
	},
};

/* The L2s of l1-vmm.c: L1 consents to direct hypercalls of all but OTHER. */
enum l2 { CHILD, SECOND, OTHER, OUTSIDE };

/* Their calls, in l1-vmm.c's order, and what becomes of them if L0 keeps what it may. */
static const struct call {
	const char *name;
	enum l2 l2;
	unsigned int code;
	bool fast;
	int intercepts;			/* before the call, as L1 hasn't mapped its input yet */
	unsigned long long status;
	bool exits;			/* to QEMU; else ends in KVM */
	unsigned int channel;		/* that QEMU's vmbus is asked to close then */
} calls[] = {
	{ "fresh",	 CHILD,	  0x5c, false, 1, 0,	true,  2016 },
	{ "again",	 CHILD,	  0x5c, false, 0, 0,	true,  2016 },
	{ "touched",	 CHILD,	  0x5c, false, 0, 0,	true,  2017 },
	{ "signal",	 CHILD,	  0x5d, true,  0, 0,	false, 0 },
	{ "slow-signal", CHILD,	  0x5d, false, 1, 0x12,	true,  0 },	/* invalid connection id */
	{ "no-consent",	 OTHER,	  0x5c, false, 0, 0,	false, 0 },
	{ "second",	 SECOND,  0x5c, false, 1, 0,	true,  2019 },
	{ "outside",	 OUTSIDE, 0x5c, false, 3, 0,	false, 0 },	/* or more, until killed */
	{ "after",	 CHILD,	  0x5c, false, 1, 0,	true,  2020 },
	{ "contact",	 CHILD,	  0x5c, false, 1, 0,	true,  0 },
};

#define NR_CALLS	(sizeof(calls) / sizeof(calls[0]))
#define KVM_ENOSYS	(-1000ull)	/* of Linux' KVM, for a hypercall that it doesn't know */
#define NO_CONNECTION	0x12345
#define FAST		(1u << 16)
#define FROM_L2		1		/* flag of an exit */
#define INVALID_CODE	2		/* the exit's result, as KVM presets it */
#define MAX_EXITS	200
#define MAX_CLOSED	200
#define CONTACTS	1		/* of L2's */

/* Of the relay's tracepoint. */
struct event {
	unsigned int code;
	bool fast;
	unsigned long long l2, l1_gpa, vm_id;
	int inter_partition;
	char verdict[64];
};

/* Of QEMU's for a hypercall, as exits.c shows it. */
struct vmm_exit {
	unsigned long long input, param, result, vm_id;
	unsigned int flags;
};

/* What L2, L1 and L0 recorded. */
static struct {
	char vmbus_version[MAX_LINE], balloon[MAX_LINE], vmbus_failure[MAX_LINE];
	bool nested, done, no_vmbus, panic;
	int devices, bound, rebinds, rebinds_wanted, reconnects, reconnects_wanted;
	int balloons, balloons_wanted;
	long events;			/* signals, by the channel's own count */
} l2 = { .events = -1 };
static struct {
	bool reported, moved;
	unsigned long posts, signals, child_posts, child_signals, synic;
	char first_reflected[MAX_LINE];
} l1;
static struct {
	bool readable;
	unsigned int posts_kept, signals_kept, failed, untranslated, not_selected, not_authorized;
	unsigned int another_l2;
	unsigned int other, posts_to_vmm, signals_to_vmm, posts_not_to_vmm, lost;
	unsigned int after_child;	/* kept after the last one that was the child's */
	unsigned int events;		/* of the relay */
	struct event first_kept, last_kept;
	/* Of another L2 than the first one: kept; of the first one after that; and signals. */
	unsigned int kept_of_next, kept_of_first_then, signals_of_next, first_is_another;
} trace;
static struct {
	bool relaying;			/* says the preload library */
	char owner[MAX_LINE];		/* of the vmbus, says QEMU's own tracepoint */
	unsigned int owners, other_owners;	/* QEMUs that serve it, nested; another one */
	unsigned int messages, contacts, opened, gpadls;
	unsigned int balloon_requests, balloon_answers;
	unsigned int held, completed, not_completed;
	int status;
} vmm;
/* QEMUs, one after the other; the VM is in the last one. */
static struct {
	pid_t pid;
	int number, moves, tried;
	double longest;			/* move, in seconds */
	/* What L2 is at. */
	enum step { NOTHING, REBINDING, READY, TAKEN, GIVEN, LAST_TAKEN } step;
} move;
/* A target of a migration that isn't like its source. */
enum target { ALIKE, NO_RELAY, INTER_PARTITION, STOCK, NO_CAPABILITY };
static struct {
	enum target target;
	const char *name, *message;
	bool refused, told;
} refusals[] = {
	{ .target = NO_RELAY, .name = "without the property",
	  .message = "relay of nested guests' hypercalls is 0x3 at the source, 0x0 here" },
	{ .target = INTER_PARTITION, .name = "with the other variant",
	  .message = "relay of nested guests' hypercalls is 0x3 at the source, 0x103 here" },
	{ .target = STOCK, .name = "that doesn't know the relay",
	  .message = "load of migration failed: No such file or directory" },
	{ .target = NO_CAPABILITY, .name = "on a host without the relay",
	  .message = "relay of nested hypercalls (hv-nested-relay) is not supported by kernel" },
};

#define NR_REFUSALS	(sizeof(refusals) / sizeof(refusals[0]))
/* With KVM as L1; events and exits in their order. */
static struct {
	struct {
		bool called, kept, killed;
		unsigned long long input, rax;
	} calls[NR_CALLS];
	bool vmm_done, evmcs, direct;
	struct event *events;
	struct vmm_exit exits[MAX_EXITS];
	unsigned int closed[MAX_CLOSED];	/* channels, by L2 */
	unsigned int nr_events, nr_exits, nr_closed, own_exits, own_exits_marked;
} kvm;
static long stat_calls = -1;
static const char *cap;
static const struct scenario *scenario;
static int cases, failures;

static void check(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void check(bool good, const char *format, ...)
{
	va_list ap;

	printf("%sok %d ", good ? "" : "not ", ++cases);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	failures += !good;
}

static __attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...)
{
	va_list ap;

	printf("Bail out! ");
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void write_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) != (ssize_t)strlen(value))
		fail("%s: %s", path, strerror(errno));
	close(fd);
}

/* Of userspace exits only those that are Hyper-V's, KVM_EXIT_HYPERV. */
static void start_tracing(void)
{
	write_file(TRACING "/tracing_on", "0");
	write_file(TRACING "/trace", "");
	write_file(TRACING "/events/kvm/kvm_userspace_exit/filter", "reason == 27");
	write_file(TRACING "/events/kvm/kvm_userspace_exit/enable", "1");
	write_file(TRACING "/events/kvm/kvm_hv_nested_relay/enable", "1");
	write_file(TRACING "/tracing_on", "1");
}

static bool is_intel(void)
{
	unsigned int a, b, c, d;

	return __get_cpuid(0, &a, &b, &c, &d) && c == signature_INTEL_ecx;
}

static const char *qemu_path(const struct scenario *s, enum target target)
{
	if (!s->property || target == STOCK)
		return QEMU;
	return move.number % 2 || access(QEMU_TO, X_OK) ? QEMU_RELAY : QEMU_TO;
}

static void exec_vmm(const struct scenario *s, int out, const char *incoming, enum target target)
{
	char cpu[512], initrd[512], kernel_args[256], log[64], preload[128], monitor[64], memory[16];
	int err = open(STDERR_LOG, O_WRONLY | O_CREAT | O_APPEND, 0644);

	/* The emulator below does not have all of XSAVE that QEMU wants of a host with SVM. */
	snprintf(cpu, sizeof(cpu), "host,kvm=off,hv-relaxed,hv-vpindex,hv-vapic,hv-synic,hv-time,"
		 "hv-frequencies,hv-stimer,hv-stimer-direct,hv-tlbflush,hv-tlbflush-direct,hv-emsr-bitmap,%s",
		 is_intel() ? "hv-evmcs" : "-xsave");
	if (s->property && target != NO_RELAY && target != STOCK)
		strcat(cpu, ",hv-nested-relay");
	if (target == INTER_PARTITION)
		strcat(cpu, ",hv-nested-relay-inter-partition");
	if (target == NO_CAPABILITY)
		setenv("E2E_NO_RELAY", "1", 1);
	if (s->held_post && !incoming)
		setenv("E2E_HOLD", s->held_post, 1);
	/* No status reports of the balloon's: signals are counted, and they have a time of their own. */
	snprintf(kernel_args, sizeof(kernel_args), "console=ttyS0 quiet panic=-1 tsc=reliable "
		 "hv_balloon.pressure_report_delay=100000 %s", s->l2_args ? s->l2_args : "");
	snprintf(initrd, sizeof(initrd), VMM "/bzImage %s," VMM "/l2-initrd", kernel_args);
	snprintf(log, sizeof(log), "file,id=l1,path=%s,append=on", L1_LOG);
	snprintf(memory, sizeof(memory), "%d", MEMORY);
	snprintf(monitor, sizeof(monitor), "unix:" MONITOR "%d,server=on,wait=off", move.number);
	snprintf(preload, sizeof(preload), "%s%s", s->classes ? VMM "/hvrelay-preload.so " : "",
		 s->kvm || s->held_post || target == NO_CAPABILITY ? VMM "/exits.so" : "");
	if (preload[0])
		setenv("LD_PRELOAD", preload, 1);
	if (s->vm_id)
		setenv("HVRELAY_VM_ID", s->vm_id, 1);
	if (s->classes) {
		setenv("HVRELAY_CLASSES", s->classes, 1);
		setenv("HVRELAY_STRICT", "1", 1);
		if (cap)
			setenv("HVRELAY_CAP", cap, 1);
	}
	dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	execl(qemu_path(s, target), "qemu-system-x86_64", "-L", VMM "/rom",
	      "-nodefaults", "-no-user-config", "-display", "none",
	      "-action", s->moves == RESET ? "reboot=reset" : "reboot=shutdown",
	      "-machine", MACHINE, "-accel", "kvm", "-cpu", cpu, "-smp", "1", "-m", memory,
	      "-qmp", monitor,
	      "-trace", "vmbus_recv_message", "-trace", "vmbus_initiate_contact",
	      "-trace", "vmbus_post_msg", "-trace", "vmbus_msg_cb",
	      "-trace", "vmbus_gpadl_header", "-trace", "vmbus_open_channel",
	      "-trace", "vmbus_close_channel", "-trace", "hv_balloon_*balloon",
	      /* A pattern, as stock QEMU has none of that name. */
	      "-trace", "vmbus_set_own*",
	      "-serial", "stdio", "-chardev", log, "-device", "isa-debugcon,iobase=0xe9,chardev=l1",
	      "-device", s->kvm ? "isa-debug-exit,iobase=0x4f0,iosize=1" :
				  "isa-debug-exit,iobase=0x501,iosize=1",
	      "-device", "vmbus-bridge", "-device", "hv-balloon",
	      /* If it can hibernate, Linux gives no memory. */
	      "-global", s->balloons ? "PIIX4_PM.disable_s4=1" : "PIIX4_PM.disable_s4=0",
	      "-kernel", s->kvm ? VMM "/bzImage" : VMM "/rootvisor.elf",
	      "-initrd", s->kvm ? VMM "/l1-initrd" : initrd,
	      "-append", s->kvm ? kernel_args : s->l1_args ? s->l1_args : "",
	      incoming ? "-incoming" : NULL, incoming, NULL);
	dprintf(STDERR_FILENO, "qemu-system-x86_64: %s\n", strerror(errno));
	_exit(127);
}

static void copy_match(char *to, const char *line, const char *from)
{
	const char *found = strstr(line, from);

	if (found && !to[0])
		snprintf(to, MAX_LINE, "%s", found);
}

/* "e2e: call NAME: ..." of l1-vmm.c */
static void take_call_line(const char *line)
{
	unsigned long long input = 0, rax = 0;
	int interrupted, wanted;
	char name[32];

	if (!strncmp(line, "outside: ", 9)) {
		for (size_t i = 0; i < NR_CALLS; i++)
			if (calls[i].l2 == OUTSIDE)
				kvm.calls[i].killed = !strcmp(line, "outside: L2 was running, killed");
		return;
	}
	if (sscanf(line, "call %31[a-z-]:", name) != 1)
		return;
	for (size_t i = 0; i < NR_CALLS; i++) {
		if (strcmp(calls[i].name, name))
			continue;
		line += strlen("call ") + strlen(name);
		if (sscanf(line, ": input %llx, RAX %llx,", &input, &rax) != 2 &&
		    (sscanf(line, ": input %llx, interrupted %d of %d, ", &input, &interrupted,
			    &wanted) != 3 || interrupted != wanted || wanted != calls[i].intercepts ||
		     !strstr(line, ", immediate_exit works, at the call, ")))
			return;
		kvm.calls[i].called = true;
		kvm.calls[i].input = input;
		kvm.calls[i].rax = rax;
		kvm.calls[i].kept = strstr(line, ", other registers kept");
	}
}

static void take_l2_line(const char *line)
{
	const char *report;
	int done, wanted;

	printf("%s| %s\n", scenario->kvm ? "L1" : "L2", line);
	copy_match(l2.vmbus_version, line, "hv_vmbus: Vmbus version:");
	copy_match(l2.vmbus_failure, line, "hv_vmbus: Unable to connect");
	copy_match(l2.balloon, line, "hv_balloon: Using Dynamic Memory protocol version");
	if (strstr(line, "running on a nested hypervisor"))
		l2.nested = true;
	if (strstr(line, "Kernel panic"))
		l2.panic = true;
	if (strstr(line, "Using Hyper-V Enlightened VMCS"))
		kvm.evmcs = true;
	if (strstr(line, "Hyper-V Direct TLB Flush enabled"))
		kvm.direct = true;
	if (strncmp(line, "e2e: ", 5))
		return;
	take_call_line(line + strlen("e2e: "));
	if (!strcmp(line, "e2e: VMM: done"))
		kvm.vmm_done = true;
	report = strstr(line, ": vmbus with ");
	if (report)
		sscanf(report, ": vmbus with %d devices, %d with", &l2.devices, &l2.bound);
	sscanf(line, "e2e: rebind: %d of %d of", &l2.rebinds, &l2.rebinds_wanted);
	sscanf(line, "e2e: reconnect: %d of %d", &l2.reconnects, &l2.reconnects_wanted);
	if (sscanf(line, "e2e: balloon: %d of %d,", &done, &wanted) == 2) {
		l2.balloons = done;
		l2.balloons_wanted = wanted;
	}
	if (!strcmp(line, "e2e: rebind: at 10") || !strcmp(line, "e2e: rebind: at 30"))
		move.step = REBINDING;
	else if (!strncmp(line, "e2e: balloon: ", 14))
		move.step = strstr(line, "ready") ? READY :
			    !strstr(line, "takes") ? (l2.balloons < l2.balloons_wanted ? GIVEN : NOTHING) :
			    l2.balloons < scenario->balloons - 1 ? TAKEN : LAST_TAKEN;
	report = strstr(line, " events ");
	if (report && strstr(line, "e2e: channel "))
		l2.events = atol(report + strlen(" events "));
	if (strstr(line, ": no vmbus"))
		l2.no_vmbus = true;
	if (!strcmp(line, "e2e: done"))
		l2.done = true;
}

/* The vCPUs' sum, in debugfs for as long as the VM lives; of all QEMUs. */
static void read_stat(pid_t pid)
{
	char prefix[32], path[PATH_MAX];
	struct dirent *entry;
	DIR *dir = opendir("/sys/kernel/debug/kvm");
	long calls = -1;
	FILE *f;

	snprintf(prefix, sizeof(prefix), "%d-", pid);
	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)))
			continue;
		snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%s/nested_hv_relayed_hcalls",
			 entry->d_name);
		f = fopen(path, "re");
		if (f && fscanf(f, "%ld", &calls) == 1)
			stat_calls = (stat_calls < 0 ? 0 : stat_calls) + calls;
		if (f)
			fclose(f);
	}
	if (dir)
		closedir(dir);
}

/* QMP: send a command, take its return; events come in between. False if the VMM doesn't answer. */
static bool qmp(int fd, const char *command, char *answer, size_t size)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	size_t len = 0;

	if (command && dprintf(fd, "%s\n", command) < 0)
		return false;
	while (poll(&poll_fd, 1, 20000) > 0 && read(fd, answer + len, 1) == 1) {
		if (answer[len] != '\n') {
			if (len < size - 1)
				len++;
			continue;
		}
		answer[len] = '\0';
		len = 0;
		if (strstr(answer, command ? "{\"return\"" : "{\"QMP\"") == answer)
			return true;
		if (strstr(answer, "{\"error\"") == answer) {
			printf("# QMP: %s\n", answer);
			return false;
		}
	}
	printf("# QMP: no answer to %s\n", command ? command : "connect()");
	return false;
}

static int qmp_connect(int number)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	double deadline = now() + ANSWER_SECONDS;
	char answer[4096];
	int ret;

	/* It listens when QEMU has got that far. */
	snprintf(address.sun_path, sizeof(address.sun_path), MONITOR "%d", number);
	while ((ret = connect(fd, (struct sockaddr *)&address, sizeof(address))) && now() < deadline)
		usleep(50000);
	if (!ret && qmp(fd, NULL, answer, sizeof(answer)) &&
	    qmp(fd, "{\"execute\": \"qmp_capabilities\"}", answer, sizeof(answer)))
		return fd;
	printf("# QMP: can't connect\n");
	close(fd);
	return -1;
}

/* Where the vCPU is that doesn't come to an end. */
static void show_registers(void)
{
	static char answer[16384];
	int fd = qmp_connect(move.number);

	if (fd >= 0 && qmp(fd, "{\"execute\": \"human-monitor-command\", \"arguments\": "
			   "{\"command-line\": \"info registers\"}}", answer, sizeof(answer)))
		for (char *p = answer, *end; *p; p = end + strspn(end, "\\rn")) {
			end = strchrnul(p, '\\');
			printf("# %.*s\n", (int)(end - p), p);
		}
	close(fd);
}

/* And its threads: name, state, and the times in user and kernel mode, in ticks. */
static void show_threads(pid_t pid)
{
	char path[PATH_MAX], line[MAX_LINE];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		FILE *f;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", pid, entry->d_name);
		f = fopen(path, "re");
		if (f && fgets(line, sizeof(line), f))
			printf("# thread %.120s\n", line);
		if (f)
			fclose(f);
	}
	if (dir)
		closedir(dir);
}

/* Hand each line of a file to a function; false if there is no such file. */
static bool each_line(const char *path, void (*take)(const char *line))
{
	FILE *f = fopen(path, "re");
	char line[MAX_LINE];

	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\r\n")] = '\0';
		take(line);
	}
	fclose(f);
	return true;
}

static struct {
	char lines[NR_TAIL][MAX_LINE];
	unsigned int n;
} tail;

static void take_tail(const char *line)
{
	snprintf(tail.lines[tail.n++ % NR_TAIL], MAX_LINE, "%s", line);
}

static void show_tail(const char *what, const char *path)
{
	tail.n = 0;
	each_line(path, take_tail);
	for (unsigned int i = tail.n > NR_TAIL ? tail.n - NR_TAIL : 0; i < tail.n; i++)
		printf("# %s %s\n", what, tail.lines[i % NR_TAIL]);
}

/* And what KVM does for them in a moment; not in the trace that is checked. */
static void show_events(void)
{
	if (mkdir(MOMENT, 0700)) {
		printf("# %s: %s\n", MOMENT, strerror(errno));
		return;
	}
	write_file(MOMENT "/events/kvm/enable", "1");
	usleep(50000);
	write_file(MOMENT "/events/kvm/enable", "0");
	show_tail("event", MOMENT "/trace");
	rmdir(MOMENT);
}

static pid_t start_vmm(const struct scenario *s, int out, const char *incoming, enum target target)
{
	char monitor[64];
	pid_t pid;

	move.number++;
	snprintf(monitor, sizeof(monitor), MONITOR "%d", move.number);
	unlink(monitor);
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		fail("fork: %s", strerror(errno));
	if (!pid)
		exec_vmm(s, out, incoming, target);
	return pid;
}

/* False if QEMU ends, or if @status doesn't come in time. */
static bool wait_for(int fd, const char *query, const char *status)
{
	double deadline = now() + ANSWER_SECONDS;
	char answer[4096];

	while (now() < deadline && qmp(fd, query, answer, sizeof(answer)) && !strstr(answer, "failed")) {
		if (strstr(answer, status))
			return true;
		usleep(50000);
	}
	printf("# QMP: %s, not %s\n", answer, status);
	return false;
}

#define QUERY_MIGRATION	"{\"execute\": \"query-migrate\"}"
#define QUERY_VM	"{\"execute\": \"query-status\"}"

/* What a vCPU is held in goes on when this has been asked for, and is under way. */
static bool ask_held(int fd, const char *command)
{
	char answer[4096];

	if (dprintf(fd, "%s", command) < 0)
		return false;
	if (!access(HELD, F_OK))
		sleep(1);
	unlink(HELD);
	return qmp(fd, "", answer, sizeof(answer));
}

static bool migrate(int fd, const char *uri)
{
	char command[128];

	snprintf(command, sizeof(command),
		 "{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"%s\"}}", uri);
	return ask_held(fd, command) && wait_for(fd, QUERY_MIGRATION, "\"completed\"");
}

/* Memory that L2 is to have; in MiB. */
static bool set_balloon(int fd, unsigned int size)
{
	char command[128], answer[4096];

	snprintf(command, sizeof(command),
		 "{\"execute\": \"balloon\", \"arguments\": {\"value\": %u}}", size << 20);
	return qmp(fd, command, answer, sizeof(answer));
}

/* Have another QEMU go on with the VM, with a request of the balloon's on its way if @size isn't 0. */
static bool move_vm(const struct scenario *s, int out, unsigned int size, bool stopped)
{
	const char *uri = s->moves == LIVE ? STREAM : "file:" STATE;
	int from = qmp_connect(move.number), to = -1, status;
	double start = now();
	char answer[4096];
	pid_t target = 0;
	bool good;

	good = from >= 0 && (!stopped || qmp(from, "{\"execute\": \"stop\"}", answer, sizeof(answer))) &&
	       (!size || set_balloon(from, size));
	if (s->moves == LIVE) {
		target = start_vmm(s, out, uri, ALIKE);
		to = qmp_connect(move.number);
	}
	good = good && migrate(from, uri);
	if (good)
		read_stat(move.pid);
	good = good && qmp(from, "{\"execute\": \"quit\"}", answer, sizeof(answer));
	if (!good)
		kill(move.pid, SIGKILL);
	good = waitpid(move.pid, &status, 0) == move.pid && WIFEXITED(status) && !WEXITSTATUS(status) && good;
	close(from);
	if (s->moves != LIVE) {
		target = start_vmm(s, out, uri, ALIKE);
		to = qmp_connect(move.number);
	}
	move.pid = target;
	good = good && to >= 0 &&
	       (!stopped || (wait_for(to, QUERY_VM, "\"status\": \"paused\"") &&
			     qmp(to, "{\"execute\": \"cont\"}", answer, sizeof(answer)))) &&
	       wait_for(to, QUERY_VM, "\"status\": \"running\"");
	close(to);
	unlink(STATE);
	move.longest = now() - start > move.longest ? now() - start : move.longest;
	move.moves += good;
	printf("# moved: %s, %.1f s, %s\n", good ? "running again" : "failed", now() - start,
	       qemu_path(s, ALIKE));
	return good;
}

/* Save the VM, have targets refuse it, and go on. */
static bool refuse_vm(const struct scenario *s, int out)
{
	int source = move.number, fd = qmp_connect(source), status;
	bool good = fd >= 0 && migrate(fd, "file:" STATE);
	char answer[4096];

	for (size_t i = 0; i < NR_REFUSALS && good; i++) {
		pid_t pid = start_vmm(s, out, "file:" STATE, refusals[i].target);
		double deadline = now() + ANSWER_SECONDS;

		while (!waitpid(pid, &status, WNOHANG) && now() < deadline)
			usleep(50000);
		if (now() >= deadline) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
		}
		refusals[i].refused = WIFEXITED(status) && WEXITSTATUS(status);
	}
	move.number = source;
	unlink(STATE);
	good = good && qmp(fd, "{\"execute\": \"cont\"}", answer, sizeof(answer));
	close(fd);
	return good;
}

static bool reset_vm(void)
{
	int fd = qmp_connect(move.number);
	bool good = fd >= 0 && ask_held(fd, "{\"execute\": \"system_reset\"}");

	close(fd);
	return good;
}

/* What is due, by what L2 has printed. */
static bool go_on(const struct scenario *s, int out)
{
	enum step step = move.step;
	int fd;

	move.step = NOTHING;
	switch (s->moves) {
	case SAVED:
	case LIVE:
		if (step == REBINDING)
			usleep(rand() % 200000);
		if (step == LAST_TAKEN) {
			fd = qmp_connect(move.number);
			return fd >= 0 && set_balloon(fd, MEMORY) && !close(fd);
		}
		if (step != NOTHING)
			return move_vm(s, out, step == READY || step == GIVEN ? MEMORY - 16 :
				       step == TAKEN ? MEMORY : 0, step == GIVEN);
		return true;
	case HELD_SAVED:
		return access(HELD, F_OK) || move_vm(s, out, 0, false);
	case RESET:
		return access(HELD, F_OK) || reset_vm();
	case REFUSED:
		return step != REBINDING || move.tried++ || refuse_vm(s, out);
	case STAYS:
		break;
	}
	return true;
}

static bool l1_has_started(void)
{
	struct stat st;

	return !stat(L1_LOG, &st) && st.st_size;
}

/*
 * L2's console, up to the end of QEMU or of the time. False if that was L1's, which didn't even start:
 * nothing of what is tested here has run then.
 */
static bool run_vmm(const struct scenario *s)
{
	double start = now(), deadline = start + (s->moves ? MOVE_SECONDS : QEMU_SECONDS);
	bool l1_started = false;
	char line[MAX_LINE], buf[512];
	bool stat_read = false, ended = false, good = true;
	size_t len = 0;
	int fds[2];

	unlink(L1_LOG);
	unlink(STDERR_LOG);
	unlink(HELD);
	if (pipe2(fds, O_CLOEXEC))
		fail("pipe: %s", strerror(errno));
	move.pid = start_vmm(s, fds[1], NULL, ALIKE);

	while (!ended) {
		struct pollfd fd = { .fd = fds[0], .events = POLLIN };
		ssize_t n = 0;

		l1_started = l1_started || l1_has_started();
		if (now() > deadline || (!l1_started && now() > start + L1_SECONDS)) {
			printf("# no %s after %.0f s\n", l1_started ? "end" : "L1", now() - start);
			show_threads(move.pid);
			show_registers();
			show_threads(move.pid);
			show_events();
			show_tail("VMM", STDERR_LOG);
			kill(move.pid, SIGKILL);
		}
		/* The write end stays open, for other QEMUs. */
		if (poll(&fd, 1, 100) > 0)
			n = read(fds[0], buf, sizeof(buf));
		else
			ended = waitpid(move.pid, &vmm.status, WNOHANG) == move.pid;
		l1_started = l1_started || (s->kvm && n > 0);
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] == '\n' || len == sizeof(line) - 1) {
				line[len] = '\0';
				take_l2_line(line);
				len = 0;
				/* Several may have come while QEMU was waited for. */
				good = good && go_on(s, fds[1]);
			} else if (buf[i] != '\r') {
				line[len++] = buf[i];
			}
		}
		good = good && go_on(s, fds[1]);
		if (!good)
			deadline = 0;
		/* L2 is at rest from then on, and stays for some seconds. */
		if (l2.done && !stat_read) {
			usleep(500000);
			read_stat(move.pid);
			stat_read = true;
		}
	}
	close(fds[0]);
	close(fds[1]);
	return l1_started || l1_has_started();
}

static void take_vmm_line(const char *line)
{
	struct vmm_exit exit;
	unsigned int channel;

	if (sscanf(line, "exit: input %llx param %llx result %llu flags %x l2_vm_id %llx", &exit.input,
		   &exit.param, &exit.result, &exit.flags, &exit.vm_id) == 5) {
		if (!exit.flags) {
			kvm.own_exits++;
			kvm.own_exits_marked += !!exit.vm_id;
			return;
		}
		if (kvm.nr_exits < MAX_EXITS)
			kvm.exits[kvm.nr_exits] = exit;
		kvm.nr_exits++;
	}
	/* L1's own is channel 1. */
	if (sscanf(line, "vmbus_close_channel channel #%u", &channel) == 1 && channel != 1) {
		if (kvm.nr_closed < MAX_CLOSED)
			kvm.closed[kvm.nr_closed] = channel;
		kvm.nr_closed++;
	}
	if (!strncmp(line, "vmbus_set_owner ", 16)) {
		/* Which L2 is served doesn't change with the QEMU. */
		if (!strncmp(line + 16, "owned 1 nested 1 ", 17)) {
			static char served[MAX_LINE];

			vmm.owners++;
			vmm.other_owners += served[0] && strcmp(served, line + 16);
			snprintf(served, sizeof(served), "%s", line + 16);
		}
		snprintf(vmm.owner, sizeof(vmm.owner), "%s", line + 16);
		printf("VMM| %s\n", line);
	}
	/* Its tracepoints are many. */
	vmm.messages += !strncmp(line, "vmbus_recv_message ", 19);
	vmm.contacts += !strncmp(line, "vmbus_initiate_contact ", 23);
	vmm.gpadls += !strncmp(line, "vmbus_gpadl_header ", 19);
	vmm.opened += !strncmp(line, "vmbus_open_channel ", 19);
	/* One for memory to be given back may take several messages. */
	vmm.balloon_requests += !strncmp(line, "hv_balloon_outgoing_balloon ", 28) ||
				(!strncmp(line, "hv_balloon_outgoing_", 20) && strstr(line, "remaining 0"));
	vmm.balloon_answers += !strncmp(line, "hv_balloon_incoming_", 20);
	vmm.held += !strcmp(line, "exit: held");
	vmm.completed += !strcmp(line, "exit: completed");
	vmm.not_completed += !strcmp(line, "exit: not completed");
	for (size_t i = 0; i < NR_REFUSALS; i++)
		refusals[i].told = refusals[i].told || strstr(line, refusals[i].message);
	if (strncmp(line, "vmbus_", 6) && (scenario->kvm || strncmp(line, "exit: input ", 12)))
		printf("VMM| %s\n", line);
	if (strstr(line, "hvrelay: VM ") && strstr(line, ": relaying "))
		vmm.relaying = true;
}

static void take_l1_line(const char *line)
{
	printf("L1| %s\n", line);
	if (sscanf(line, "root: posts reflected %lu, signals reflected %lu", &l1.posts,
		   &l1.signals) == 2)
		l1.reported = true;
	sscanf(line, "root: exits %*u, CPUID %*u, nested SynIC MSRs %lu", &l1.synic);
	sscanf(line, "child: posts reflected %lu of %*u, signals reflected %lu", &l1.child_posts,
	       &l1.child_signals);
	if (strstr(line, "moved L2's page"))
		l1.moved = true;
	copy_match(l1.first_reflected, line, "root: L0 reflects");
}

/* False if it isn't one, or no known one. */
static bool parse_event(const char *line, struct event *e)
{
	char mode[8];

	line = strstr(line, "kvm_hv_nested_relay: ");
	if (!line ||
	    sscanf(line, "kvm_hv_nested_relay: code %x %7s l2 %llx l1_gpa %llx vm_id %llx inter_partition %d %63[^\n]",
		   &e->code, mode, &e->l2, &e->l1_gpa, &e->vm_id, &e->inter_partition, e->verdict) != 7)
		return false;
	e->fast = !strcmp(mode, "fast");
	return true;
}

/* False if it is a comment, which may tell that events were lost. */
static bool is_trace_event(const char *line)
{
	static unsigned int events;
	unsigned int buffered, written;

	if (strstr(line, "LOST")) {
		trace.lost++;
		return false;
	}
	if (sscanf(line, "# entries-in-buffer/entries-written: %u/%u", &buffered, &written) == 2)
		trace.lost += written - buffered;
	if (line[0] == '#' || !*line)
		return false;
	if (++events > MAX_EVENTS)
		fail("more than %d events", MAX_EVENTS);
	if (events <= 100 && strstr(line, "kvm_hv_nested_relay: "))
		printf("trace| %s\n", strstr(line, "kvm_hv_nested_relay: ") + strlen("kvm_hv_nested_relay: "));
	return true;
}

/*
 * "... kvm_hv_nested_relay: code 0x5c slow l2 0x1 l1_gpa 0x2 vm_id 0x3 inter_partition 0 kept", and
 * userspace exits, all of one vCPU and in order: an exit right after a call that was kept is the
 * delivery of that call.
 */
static void take_trace_line(const char *line)
{
	static unsigned int last_code;
	struct event e;

	if (!is_trace_event(line))
		return;
	if (strstr(line, "kvm_userspace_exit:")) {
		trace.posts_to_vmm += last_code == 0x5c;
		trace.signals_to_vmm += last_code == 0x5d;
		last_code = 0;
		return;
	}
	if (last_code == 0x5c)
		trace.posts_not_to_vmm++;
	last_code = 0;
	if (!parse_event(line, &e)) {
		trace.other++;
		return;
	}
	trace.events++;
	if (!strcmp(e.verdict, "kept")) {
		trace.posts_kept += e.code == 0x5c;
		trace.signals_kept += e.code == 0x5d;
		trace.after_child++;
		if (!e.fast && e.l2 == e.l1_gpa)
			trace.untranslated++;
		if (!trace.first_kept.verdict[0])
			trace.first_kept = e;
		if (e.vm_id != trace.first_kept.vm_id) {
			trace.kept_of_next++;
			trace.signals_of_next += e.code == 0x5d;
		} else if (trace.kept_of_next) {
			trace.kept_of_first_then++;
		}
		trace.last_kept = e;
		last_code = e.code;
	} else if (!strncmp(e.verdict, "kept: ", 6)) {
		trace.failed++;
	} else if (!strcmp(e.verdict, "to L1: not authorized")) {
		trace.not_authorized++;
		trace.after_child = 0;
	} else if (!strcmp(e.verdict, "to L1: another L2")) {
		trace.another_l2++;
		trace.first_is_another += e.vm_id == trace.first_kept.vm_id;
		trace.after_child = 0;
	} else if (!strcmp(e.verdict, "to L1: not selected")) {
		trace.not_selected++;
	} else if (strcmp(e.verdict, "to L1: no nested bit")) {
		trace.other++;
	}
}

/* With KVM as L1: all of them. */
static void take_kvm_trace_line(const char *line)
{
	if (!is_trace_event(line))
		return;
	if (!kvm.events)
		kvm.events = calloc(MAX_EVENTS, sizeof(*kvm.events));
	if (!kvm.events)
		fail("calloc: %s", strerror(errno));
	if (parse_event(line, &kvm.events[kvm.nr_events]))
		kvm.nr_events++;
	else if (!strstr(line, "kvm_userspace_exit:"))
		trace.other++;
}

static void check_l2(const struct scenario *s)
{
	check(l2.nested, "L2: Linux runs on a nested hypervisor");
	check(l2.done && !l2.panic, "L2: ran to its end");
	if (s->vmbus == NO_VMBUS) {
		check(!l2.vmbus_version[0] && l2.no_vmbus, "L2: has no vmbus");
		return;
	}
	check(l2.vmbus_version[0] && !l2.no_vmbus, "L2: %s",
	      l2.vmbus_version[0] ? l2.vmbus_version : "hv_vmbus connects");
	check(l2.devices > 0, "L2: gets offers (%d devices)", l2.devices);
	if (s->vmbus == CHANNEL) {
		check(l2.balloon[0], "L2: %s",
		      l2.balloon[0] ? l2.balloon : "hv_balloon negotiates on its channel");
		check(l2.bound == l2.devices, "L2: all devices have their driver");
		if (s->rebinds)
			check(l2.rebinds == s->rebinds && l2.rebinds_wanted == s->rebinds,
			      "L2: channel closed and opened %d times", s->rebinds);
		if (s->reconnects)
			check(l2.reconnects == s->reconnects && l2.reconnects_wanted == s->reconnects,
			      "L2: vmbus disconnected and connected %d times", s->reconnects);
	}
}

static void check_l1(const struct scenario *s)
{
	check(l1.reported, "L1: reports");
	check(l1.moved, "L1: has moved L2's message page");
	check(l1.synic > 0 || s->vmbus == NO_VMBUS, "L1: L2 uses the nested SynIC (%lu accesses)", l1.synic);
	if (s->posts_kept)
		check(!l1.posts, "L1: gets no post (%lu)", l1.posts);
	else
		check(l1.posts > 0, "L1: gets the posts (%lu)", l1.posts);
	if (s->signals_kept)
		check(!l1.signals, "L1: gets no signal (%lu)", l1.signals);
	else if (s->vmbus == NO_SIGNALS)
		check(l1.signals > 0, "L1: gets the signals (%lu)", l1.signals);
	if (s->child_calls)
		check(l1.child_posts == (unsigned int)s->child_calls &&
		      l1.child_signals == (unsigned int)s->child_calls,
		      "L1: gets all calls of its child (%lu posts, %lu signals)", l1.child_posts,
		      l1.child_signals);
}

/* Of L1. */
static unsigned int boots(const struct scenario *s)
{
	return s->moves == RESET ? 2 : 1;
}

/* That the VM was where it had to be, and nothing got lost between. */
static void check_moves(const struct scenario *s)
{
	if (s->moves == SAVED || s->moves == LIVE) {
		check(move.moves == 5, "VMM: the VM is %s another QEMU 5 times (%d, up to %.1f s)",
		      s->moves == LIVE ? "migrated to" : "saved, and restored by", move.moves,
		      move.longest);
		check(l2.balloons == s->balloons && l2.balloons_wanted == s->balloons,
		      "L2: memory is taken and given back %d times", l2.balloons);
		check(vmm.balloon_requests == 2u * s->balloons && vmm.balloon_answers == 2u * s->balloons,
		      "VMM: its requests for memory are answered (%u, %u)", vmm.balloon_requests,
		      vmm.balloon_answers);
	}
	if (s->moves == HELD_SAVED)
		check(move.moves == 1, "VMM: the VM is saved, and restored by another QEMU");
	if (s->moves == HELD_SAVED || s->moves == RESET)
		check(vmm.held == 1 && vmm.completed == 1 && !vmm.not_completed,
		      "VMM: completes the post that it was in first (%u, %u)", vmm.completed,
		      vmm.not_completed);
	if (s->moves != REFUSED && s->moves != RESET)
		check(vmm.owners == 1u + move.moves && !vmm.other_owners,
		      "VMM: each QEMU serves the same L2 (%u)", vmm.owners);
	for (size_t i = 0; i < NR_REFUSALS && s->moves == REFUSED; i++)
		check(refusals[i].refused && refusals[i].told, "VMM: a target %s refuses the VM",
		      refusals[i].name);
}

/* Whose calls QEMU takes in the end. */
static void check_owner(bool nested, unsigned long long vm_id)
{
	char wanted[MAX_LINE];

	snprintf(wanted, sizeof(wanted), "owned 1 nested %d VM id 0x%llx", nested, vm_id);
	check(!strcmp(vmm.owner, wanted), "VMM: serves %s only (%s)", nested ? "this L2" : "L1", vmm.owner);
}

static void check_l0(const struct scenario *s)
{
	unsigned int kept = trace.posts_kept + trace.signals_kept + trace.failed;

	check(trace.readable && !trace.lost && !trace.other && !trace.failed,
	      "L0: the trace is complete, no call was failed (%u)", trace.failed);
	check(stat_calls == (long)kept, "L0: nested_hv_relayed_hcalls is what the trace shows (%ld, %u)",
	      stat_calls, kept);
	/* The first call comes back to L1 as well, see below. */
	if (!s->classes && !s->property) {
		check(!kept && !trace.not_authorized &&
		      trace.not_selected == 1 + l1.posts + l1.signals,
		      "L0: reflects all calls as not selected (%u)", trace.not_selected);
		return;
	}
	if (s->property)
		check_owner(true, trace.last_kept.vm_id);
	else
		check(vmm.relaying, "L0: the capability is enabled");
	if (s->posts_kept) {
		check(trace.posts_kept > 0 && !trace.posts_not_to_vmm &&
		      trace.posts_to_vmm == trace.posts_kept,
		      "L0: delivers posts to the VMM (%u kept, %u exits)", trace.posts_kept,
		      trace.posts_to_vmm);
		check(!trace.untranslated, "L0: translates the address of each");
	} else {
		check(!trace.posts_kept, "L0: keeps no post (%u)", trace.posts_kept);
	}
	if (s->signals_kept)
		check(trace.signals_kept > 0 && !trace.signals_to_vmm,
		      "L0: completes signals through eventfds (%u kept, %u exits)", trace.signals_kept,
		      trace.signals_to_vmm);
	else
		check(!trace.signals_kept, "L0: keeps no signal (%u)", trace.signals_kept);
	if (!s->signals_kept && s->posts_kept)
		check(trace.not_selected == l1.signals && l1.signals,
		      "L0: reflects signals as not selected (%u)", trace.not_selected);
	/* The first call comes back to L1, which authorizes then. */
	if (!s->posts_kept)
		check(trace.not_authorized == 1 + l1.posts + l1.signals,
		      "L0: reflects all calls as not authorized (%u)", trace.not_authorized);
	else
		check(trace.not_authorized == boots(s) + (s->child_auth ? 0 : 2u * s->child_calls) &&
		      trace.another_l2 == (s->child_auth ? 2u * s->child_calls * boots(s) : 0),
		      "L0: reflects the first call%s as not authorized (%u), as another L2's %u",
		      s->child_calls && !s->child_auth ? " and the child's" : "",
		      trace.not_authorized, trace.another_l2);
	if (s->child_calls)
		check(trace.after_child > 0, "L0: keeps the root's calls after the child's (%u)",
		      trace.after_child);
}

/* The other end, by its own tracepoints and QMP. */
static void check_vmm(const struct scenario *s)
{
	unsigned int opened = 1 + s->rebinds + s->reconnects;

	check(WIFEXITED(vmm.status) && WEXITSTATUS(vmm.status) == 1,
	      "VMM: ends by L1's order (status %#x)", vmm.status);
	if (s->vmbus == NO_VMBUS) {
		check(!vmm.messages, "VMM: gets no message (%u)", vmm.messages);
		return;
	}
	check(vmm.messages == trace.posts_kept - REFUSED_POSTS * boots(s) + s->l1_messages,
	      "VMM: takes all messages (%u)", vmm.messages);
	check(vmm.contacts == FIRST_CONTACTS * boots(s) + s->reconnects + !!s->l1_messages,
	      "VMM: is asked to connect (%u)", vmm.contacts);
	if (s->moves == RESET) {
		check(vmm.opened > opened && vmm.gpadls > opened,
		      "VMM: channels opened with ring buffers, before and after (%u, %u)", vmm.opened,
		      vmm.gpadls);
		check(trace.kept_of_next && !trace.kept_of_first_then &&
		      trace.first_is_another == 2u * s->child_calls,
		      "L0: keeps calls of the root after the reset (%u), with the VM id before none (%u of %u)",
		      trace.kept_of_next, trace.kept_of_first_then,
		      trace.kept_of_first_then + trace.first_is_another);
		check(l2.events == (long)trace.signals_of_next, "L0: keeps all signals that L2 counts (%u, %ld)",
		      trace.signals_of_next, l2.events);
		return;
	}
	check(vmm.opened == opened && vmm.gpadls == opened,
	      "VMM: channels opened with ring buffers (%u, %u)", vmm.opened, vmm.gpadls);
	if (s->vmbus == CHANNEL)
		check(l2.events == (long)trace.signals_kept, "L0: keeps all signals that L2 counts (%u, %ld)",
		      trace.signals_kept, l2.events);
}

/* For people, in lines of at most 58 characters: who got the calls. */
static void show_flow(const struct scenario *s)
{
	printf("flow| --- %s ---\n", s->title);
	printf("flow| L2  %s\n", l2.vmbus_version[0] ? l2.vmbus_version :
	       l2.vmbus_failure[0] ? l2.vmbus_failure : "hv_vmbus: no word");
	printf("flow|     %s\n", l2.balloon[0] ? l2.balloon :
	       l2.devices ? "hv_balloon: no answer" : "hv_balloon: no channel");
	printf("flow|  |\n");
	if (!s->classes && !s->property)
		printf("flow| L0  %u calls not selected\n", trace.not_selected);
	else if (!trace.first_kept.verdict[0])
		printf("flow| L0  %u calls not authorized\n", trace.not_authorized);
	else
		printf("flow| L0  first post kept: L2 GPA %#llx, L1 GPA %#llx\n", trace.first_kept.l2,
		       trace.first_kept.l1_gpa);
	printf("flow|  |\n");
	printf("flow|  +-> VMM  %u posts, %u signals\n", trace.posts_to_vmm,
	       trace.signals_kept - trace.signals_to_vmm);
	printf("flow|  +-> L1   %lu posts, %lu signals: gets an error\n", l1.posts, l1.signals);
	if (s->child_calls)
		printf("flow|           %lu posts, %lu signals of its child: an error\n",
		       l1.child_posts, l1.child_signals);
}

/* A signal whose parameter L0 has read itself comes as a fast one. */
static bool is_exit_for(const struct vmm_exit *exit, const struct call *c, const struct event *e)
{
	bool post = c->code == 0x5c;

	return exit->flags == FROM_L2 && exit->vm_id == e->vm_id && exit->result == INVALID_CODE &&
	       exit->input == (c->code | (post ? 0 : FAST)) &&
	       exit->param == (post ? e->l1_gpa : NO_CONNECTION);
}

/* One call in L0's trace and QEMU's exits, from @event and @exit on, which move behind it. */
static bool kvm_call_is_kept(size_t i, const struct event **event, const struct vmm_exit **exit)
{
	const struct event *e = *event, *end = kvm.events + kvm.nr_events;
	const struct vmm_exit *x = NULL;
	const struct call *c = &calls[i];
	int intercepts = 0;

	while (e < end && !strcmp(e->verdict, "to L1: memory intercept") && e->code == c->code &&
	       e->l2 == kvm.calls[i].input) {
		intercepts++;
		e++;
	}
	*event = e;
	if (c->l2 == OUTSIDE)
		return intercepts >= c->intercepts && kvm.calls[i].killed;
	if (c->exits && *exit < kvm.exits + kvm.nr_exits)
		x = (*exit)++;
	if (e == end || e->l2 != kvm.calls[i].input)
		return false;
	++*event;
	return intercepts == c->intercepts && e->code == c->code && e->fast == c->fast &&
	       !strcmp(e->verdict, "kept") && (c->fast || e->l1_gpa != e->l2) &&
	       kvm.calls[i].rax == c->status && (!c->exits || (x && is_exit_for(x, c, e)));
}

static bool kvm_call_is_refused(size_t i, const struct event **event, const char *verdict)
{
	const struct event *e = *event;

	if (e == kvm.events + kvm.nr_events || e->l2 != kvm.calls[i].input)
		return false;
	*event = e + 1;
	return kvm.calls[i].rax == KVM_ENOSYS && e->code == calls[i].code && e->fast == calls[i].fast &&
	       !strcmp(e->verdict, verdict);
}

static void check_kvm_calls(const struct scenario *s)
{
	const struct event *event = kvm.events, *first;
	const struct vmm_exit *exit = kvm.exits;
	unsigned long long ids[OUTSIDE + 1] = { 0 };
	unsigned int kept = 0;
	bool same_ids = true, good;
	const char *verdict;

	for (size_t i = 0; i < NR_CALLS; i++) {
		const struct call *c = &calls[i];

		first = event;
		check(kvm.calls[i].called && kvm.calls[i].kept,
		      "L2: %s: comes back, with no register changed but RAX", c->name);
		if (s->refused || c->l2 == OTHER) {
			/* What isn't selected isn't looked at any further. */
			verdict = s->classes && c->l2 == OTHER ? "to L1: not authorized" : s->refused;
			good = kvm_call_is_refused(i, &event, verdict);
			check(good, "L0: %s: %s; KVM there answers (RAX %lld)", c->name, verdict,
			      kvm.calls[i].rax);
		} else {
			good = kvm_call_is_kept(i, &event, &exit);
			if (c->l2 == OUTSIDE)
				check(good, "L0: %s: memory intercepts (%d), until L2 is killed", c->name,
				      (int)(event - first));
			else
				check(good, "L0: %s: %s, answered with %#llx (%lld)", c->name,
				      c->intercepts ? "one memory intercept, then kept" : "kept at once",
				      c->status, kvm.calls[i].rax);
			kept += c->l2 != OUTSIDE;
		}
		for (; first < event; first++) {
			if (!ids[c->l2])
				ids[c->l2] = first->vm_id;
			same_ids = same_ids && first->vm_id == ids[c->l2] && !first->inter_partition;
		}
	}
	check(trace.readable && !trace.lost && !trace.other && event == kvm.events + kvm.nr_events,
	      "L0: the trace is complete and has no other event (%u)", kvm.nr_events);
	check(exit == kvm.exits + kvm.nr_exits, "VMM: gets no other call of L2 (%u)", kvm.nr_exits);
	check(stat_calls == (long)kept, "L0: nested_hv_relayed_hcalls is what the trace shows (%ld, %u)",
	      stat_calls, kept);
	check(same_ids && ids[CHILD] && ids[SECOND] && ids[OUTSIDE] && ids[CHILD] != ids[SECOND] &&
	      ids[CHILD] != ids[OUTSIDE] && ids[SECOND] != ids[OUTSIDE],
	      "L0: tells L2s by their VM ids (%#llx, %#llx)", ids[CHILD], ids[SECOND]);
}

static void check_kvm_vmm(const struct scenario *s)
{
	bool kept = s->classes && !s->refused, good = true;
	unsigned int wanted = 0;

	check(WIFEXITED(vmm.status) && WEXITSTATUS(vmm.status) == 1,
	      "VMM: ends by L1's order (status %#x)", vmm.status);
	check(vmm.relaying == !!s->classes, "VMM: has the relay %s", s->classes ? "on" : "off");
	if (s->property)
		check_owner(false, 0);
	check(kvm.own_exits > 0 && !kvm.own_exits_marked, "VMM: L1's own calls are none of L2 (%u)",
	      kvm.own_exits);
	for (size_t i = 0; i < NR_CALLS && kept; i++) {
		if (!calls[i].channel)
			continue;
		good = good && wanted < kvm.nr_closed && kvm.closed[wanted] == calls[i].channel;
		wanted++;
	}
	check(good && wanted == kvm.nr_closed, "VMM: reads %u messages of L2, and no other (%u)", wanted,
	      kvm.nr_closed);
	check(vmm.contacts == FIRST_CONTACTS + (kept ? CONTACTS : 0), "VMM: is asked to connect (%u), %s L2",
	      vmm.contacts, kept ? "the last time by" : "never by");
	if (s->refused)
		check(vmm.opened == 1u + s->rebinds && vmm.gpadls == vmm.opened,
		      "VMM: L1's channel is opened again (%u, %u)", vmm.opened, vmm.gpadls);
}

static void check_kvm(const struct scenario *s)
{
	if (is_intel())
		check(kvm.evmcs, "L1: KVM uses Hyper-V's enlightened VMCS");
	else
		check(kvm.direct, "L1: KVM uses Hyper-V's direct TLB flush");
	check(kvm.vmm_done && l2.done && !l2.panic, "L1: ran to its end");
	check(l2.vmbus_version[0] && !l2.no_vmbus, "L1: %s",
	      l2.vmbus_version[0] ? l2.vmbus_version : "hv_vmbus connects");
	check(l2.balloon[0] && l2.devices > 0 && l2.bound == l2.devices, "L1: all %d devices have their driver",
	      l2.devices);
	if (s->rebinds)
		check(l2.rebinds == s->rebinds && l2.rebinds_wanted == s->rebinds,
		      "L1: its channel is closed and opened again");
	check_kvm_calls(s);
	check_kvm_vmm(s);
}

static void show_kvm_flow(const struct scenario *s)
{
	unsigned int refused = 0;

	for (size_t i = 0; i < NR_CALLS; i++)
		refused += kvm.calls[i].called && kvm.calls[i].rax == KVM_ENOSYS;
	printf("flow| --- %s ---\n", s->title);
	printf("flow| L2  post from a fresh page: RAX %lld\n", kvm.calls[0].rax);
	printf("flow|     InitiateContact: RAX %lld\n", kvm.calls[NR_CALLS - 1].rax);
	printf("flow|  |\n");
	if (kvm.nr_events)
		printf("flow| L0  fresh page: %s\n", kvm.events[0].verdict);
	printf("flow|  |\n");
	printf("flow|  +-> VMM  %u exits for L2, %u contacts\n", kvm.nr_exits,
	       vmm.contacts > FIRST_CONTACTS ? vmm.contacts - FIRST_CONTACTS : 0);
	printf("flow|  +-> L1   %u calls, answered by KVM\n", refused);
}

int main(int argc, char **argv)
{
	const struct scenario *s;

	setvbuf(stdout, NULL, _IOLBF, 0);
	/* QEMU may end while it is asked something: that is a case's failure. */
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; (argc == 2 || argc == 3) && i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
		if (!strcmp(scenarios[i].name, argv[1]))
			scenario = &scenarios[i];
	s = scenario;
	if (!s) {
		fprintf(stderr, "error: no such scenario; use one of:");
		for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
			fprintf(stderr, " %s", scenarios[i].name);
		fprintf(stderr, "\n");
		return 1;
	}
	cap = argv[2];
	printf("TAP version 13\n");
	start_tracing();
	if (!run_vmm(s)) {
		printf("# retry: L1 did not start\n");
		run_vmm(s);
	}
	write_file(TRACING "/tracing_on", "0");
	each_line(STDERR_LOG, take_vmm_line);
	each_line(L1_LOG, take_l1_line);
	trace.readable = each_line(TRACING "/trace", s->kvm ? take_kvm_trace_line : take_trace_line);
	if (s->kvm) {
		show_kvm_flow(s);
		check_kvm(s);
	} else {
		show_flow(s);
		check_l2(s);
		check_l1(s);
		check_l0(s);
		check_vmm(s);
		if (s->moves)
			check_moves(s);
	}
	printf("1..%d\n", cases);
	return failures > 0;
}
