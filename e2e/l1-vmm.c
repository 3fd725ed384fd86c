// SPDX-License-Identifier: GPL-2.0
/*
 * The VMM of L2 where L1 is Linux with its own KVM: guests of one vCPU each, that do nothing but make
 * hypercalls with the nested bit, one at a time, and tell by a port what they got in RAX. Whatever
 * becomes of a call, this VMM has no part in it: it is either L0's or L1's KVM who answers.
 *
 * An L2 that L1 lets make direct hypercalls has KVM_CAP_HYPERV_DIRECT_TLBFLUSH, which is about TLB
 * flushes; one that it doesn't has not.
 *
 * Prints lines that start with "e2e: call NAME: "; scenario.c knows what has to be in them. Each call
 * has a page of its own for its input, which L2 touches before the call or doesn't.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "say.h"

#define PAGE		4096
#define MEMORY		(2ul << 20)
#define PML4		0x1000
#define PDPT		0x2000
#define PD		0x3000
#define CODE		0x4000
#define FIRST_INPUT	0x40000
#define INPUT_STEP	0x10000		/* no page is mapped along with another */
#define OUTSIDE		0x10000000	/* L2 has no memory there, L1's KVM could map some */
#define PORT		0x5e

#define HV_NESTED	(1ul << 31)
#define HV_FAST		(1ul << 16)
#define HV_POST_MESSAGE	0x5c
#define HV_SIGNAL_EVENT	0x5d

/* As QEMU's vmbus has them. */
#define MESSAGE_CONNECTION	1
#define CHANNEL_CONNECTION	17		/* of the first channel; KVM has an eventfd */
#define NO_CONNECTION		0x12345		/* odd: an address would be misaligned */
#define CLOSE_CHANNEL		7
#define INITIATE_CONTACT	14
#define VMBUS_VERSION		(4 << 16)
#define NO_CHANNEL		2016		/* and up, one for each call */

#define RAX_BEFORE		0x7e2e2e2eul	/* not a hypercall of KVM's, either */
#define INTERRUPTS		3
#define INTERRUPT_USEC		200000	/* much longer than a first KVM_RUN on a busy machine */
#define SPIN_USEC		100000
#define KILL_SECONDS		10

struct guest {
	int vm, vcpu;
	struct kvm_run *run;
	uint8_t *memory;
};

static bool is_intel;
static int kvm, run_size;
static uint64_t next_input = FIRST_INPUT;
static uint32_t next_channel = NO_CHANNEL;

extern const char code[], code_call[], code_called[], code_end[];

/*
 * Touch the page at RSI, unless that is 0; make the call; tell RAX. Both vendors' instructions have
 * the same length.
 */
asm(".section .rodata\n"
	"code:\n"
	"	testq	%rsi, %rsi\n"
	"	jz	code_call\n"
	"	movb	(%rsi), %bl\n"
	"code_call:\n"
	"	vmcall\n"
	"code_called:\n"
	"	outl	%eax, $0x5e\n"
	"	hlt\n"
	"code_end:\n"
	".text\n");

static __attribute__((noreturn)) void die(const char *what)
{
	say("VMM: %s: %s", what, strerror(errno));
	exit(1);
}

static void kvm_ioctl(int fd, unsigned long request, void *arg, const char *what)
{
	if (ioctl(fd, request, arg) < 0)
		die(what);
}

static void write_code(struct guest *g)
{
	static const uint8_t vmmcall[] = { 0x0f, 0x01, 0xd9 };

	memcpy(g->memory + CODE, code, code_end - code);
	if (!is_intel)
		memcpy(g->memory + CODE + (code_call - code), vmmcall, sizeof(vmmcall));
}

/* 64-bit mode at CPL 0, the first GiB mapped one to one. */
static void set_mode(struct guest *g)
{
	uint64_t *pml4 = (uint64_t *)(g->memory + PML4), *pdpt = (uint64_t *)(g->memory + PDPT);
	uint64_t *pd = (uint64_t *)(g->memory + PD);
	struct kvm_segment segment = { .limit = ~0u, .present = 1, .s = 1, .g = 1 };
	struct kvm_sregs sregs;

	pml4[0] = PDPT | 3;
	pdpt[0] = PD | 3;
	for (uint64_t i = 0; i < 512; i++)
		pd[i] = i << 21 | 0x83;

	kvm_ioctl(g->vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
	segment.selector = 8;
	segment.type = 11;
	segment.l = 1;
	sregs.cs = segment;
	segment.selector = 16;
	segment.type = 3;
	segment.l = 0;
	segment.db = 1;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment;
	sregs.cr3 = PML4;
	sregs.cr4 |= 1 << 5;
	sregs.cr0 |= 1u << 31 | 1;
	sregs.efer |= 1 << 10 | 1 << 8;
	kvm_ioctl(g->vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
}

static struct guest make_guest(bool direct)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY };
	struct kvm_enable_cap cap = { .cap = KVM_CAP_HYPERV_DIRECT_TLBFLUSH };
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[128];
	} cpuid = { .head.nent = 128 };
	struct guest g;

	g.vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (g.vm < 0)
		die("KVM_CREATE_VM");
	if (ioctl(g.vm, KVM_SET_TSS_ADDR, 0xfffbd000))
		die("KVM_SET_TSS_ADDR");
	g.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g.memory == MAP_FAILED)
		die("mmap");
	region.userspace_addr = (uintptr_t)g.memory;
	kvm_ioctl(g.vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
	g.vcpu = ioctl(g.vm, KVM_CREATE_VCPU, 0);
	if (g.vcpu < 0)
		die("KVM_CREATE_VCPU");
	g.run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, g.vcpu, 0);
	if (g.run == MAP_FAILED)
		die("mmap of a vCPU");
	kvm_ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid, "KVM_GET_SUPPORTED_CPUID");
	kvm_ioctl(g.vcpu, KVM_SET_CPUID2, &cpuid, "KVM_SET_CPUID2");
	write_code(&g);
	set_mode(&g);
	if (direct)
		kvm_ioctl(g.vcpu, KVM_ENABLE_CAP, &cap, "KVM_CAP_HYPERV_DIRECT_TLBFLUSH");
	return g;
}

/* Where a vCPU is to start: at the call, or in front of the access to its input. */
static struct kvm_regs start_at(uint64_t rip, uint64_t control, uint64_t input, bool touch)
{
	return (struct kvm_regs) {
		.rip = rip, .rflags = 2, .rax = RAX_BEFORE, .rcx = control, .rdx = input,
		.rsi = touch ? input : 0, .rdi = 0x1d1, .rsp = 0x59, .rbp = 0xb9, .r8 = 0x80008,
		.r9 = 0x90009, .r10 = 0x100010, .r11 = 0x110011, .r12 = 0x120012, .r13 = 0x130013,
		.r14 = 0x140014, .r15 = 0x150015,
	};
}

/* All but RAX, RIP, and what the code above changes itself. */
static bool same_registers(struct kvm_regs a, struct kvm_regs b)
{
	a.rax = b.rax;
	a.rip = b.rip;
	a.rbx = b.rbx;
	a.rflags = b.rflags;
	return !memcmp(&a, &b, sizeof(a));
}

static void call(struct guest *g, const char *name, uint64_t control, uint64_t input, bool touch)
{
	struct kvm_regs before = start_at(CODE, control, input, touch), after;

	kvm_ioctl(g->vcpu, KVM_SET_REGS, &before, "KVM_SET_REGS");
	kvm_ioctl(g->vcpu, KVM_RUN, NULL, "KVM_RUN");
	if (g->run->exit_reason != KVM_EXIT_IO || g->run->io.port != PORT) {
		say("call %s: exit %u", name, g->run->exit_reason);
		return;
	}
	kvm_ioctl(g->vcpu, KVM_GET_REGS, &after, "KVM_GET_REGS");
	say("call %s: input %#llx, RAX %#llx, other registers %s", name, (unsigned long long)input,
	    after.rax, same_registers(before, after) ? "kept" : "changed");
}

/* L1 writes the message; for L2, that is a page that it hasn't seen yet. */
static uint64_t write_message(struct guest *g, uint32_t type, uint32_t argument)
{
	const uint32_t message[] = {
		MESSAGE_CONNECTION, 0, 1, 40,	/* connection, reserved, message type, size */
		type, 0, argument, 0,		/* its header; a channel, or version and VP */
	};
	uint64_t input = next_input;

	memcpy(g->memory + input, message, sizeof(message));
	next_input += INPUT_STEP;
	return input;
}

/* A message that QEMU takes and shows in its trace, and that has no effect. */
static uint64_t post(struct guest *g, const char *name, bool touch)
{
	uint64_t input = write_message(g, CLOSE_CHANNEL, next_channel++);

	call(g, name, HV_NESTED | HV_POST_MESSAGE, input, touch);
	return input;
}

static void on_alarm(int signal)
{
	(void)signal;
}

static void set_timer(long usec)
{
	const struct itimerval value = { { 0, usec }, { 0, usec } };

	setitimer(ITIMER_REAL, &value, NULL);
}

/* A process with guests of its own, the second of which is only loaded in between. */
static void post_from_outside(int parent)
{
	struct guest g = make_guest(true), between = make_guest(false);
	struct kvm_regs before = start_at(CODE, HV_NESTED | HV_POST_MESSAGE, OUTSIDE, false), after;
	struct sigaction action = { .sa_handler = on_alarm };
	int interrupted = 0, immediate;

	kvm_ioctl(between.vcpu, KVM_SET_REGS, &before, "KVM_SET_REGS");
	kvm_ioctl(g.vcpu, KVM_SET_REGS, &before, "KVM_SET_REGS");
	sigaction(SIGALRM, &action, NULL);
	set_timer(INTERRUPT_USEC);
	while (interrupted < INTERRUPTS && ioctl(g.vcpu, KVM_RUN, 0) < 0 && errno == EINTR)
		interrupted++;
	set_timer(0);
	kvm_ioctl(g.vcpu, KVM_GET_REGS, &after, "KVM_GET_REGS");
	if (!interrupted) {
		say("call outside: input %#llx, RAX %#llx, other registers %s",
		    (unsigned long long)OUTSIDE, after.rax,
		    same_registers(before, after) ? "kept" : "changed");
		return;
	}
	g.run->immediate_exit = 1;
	immediate = ioctl(g.vcpu, KVM_RUN, 0) < 0 && errno == EINTR;
	g.run->immediate_exit = 0;
	say("call outside: input %#llx, interrupted %d of %d, immediate_exit %s, %s the call, other registers %s",
	    (unsigned long long)OUTSIDE, interrupted, INTERRUPTS, immediate ? "works" : "fails",
	    after.rip == CODE + (uint64_t)(code_call - code) && after.rax == RAX_BEFORE ? "at" : "not at",
	    same_registers(before, after) ? "kept" : "changed");
	if (write(parent, "", 1) == 1)
		ioctl(g.vcpu, KVM_RUN, 0);
	say("call outside: the last KVM_RUN has ended");
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* L1's KVM may be busy with that call for as long as it is let; then it has to go. */
static void outside(void)
{
	bool spins = false, gone = false;
	int fds[2], status;
	double start;
	char byte;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		die("pipe2");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		close(fds[0]);
		post_from_outside(fds[1]);
		_exit(0);
	}
	close(fds[1]);
	if (read(fds[0], &byte, 1) == 1) {
		usleep(SPIN_USEC);
		spins = !waitpid(pid, &status, WNOHANG);
		kill(pid, SIGKILL);
	}
	start = now();
	while (!gone && now() < start + KILL_SECONDS) {
		gone = waitpid(pid, &status, WNOHANG) == pid;
		usleep(1000);
	}
	close(fds[0]);
	say("outside: %s, %s", spins ? "L2 was running" : "L2 had ended",
	    !gone ? "can't be killed" : WIFSIGNALED(status) ? "killed" : "exited");
}

int main(void)
{
	struct guest child, second, other;
	unsigned int a, b, c, d;
	uint64_t input;

	setvbuf(stdout, NULL, _IOLBF, 0);
	is_intel = __get_cpuid(0, &a, &b, &c, &d) && c == signature_INTEL_ecx;
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (run_size <= 0)
		die("KVM_GET_VCPU_MMAP_SIZE");

	/*
	 * KVM sets "direct hypercall" for an Intel vCPU when it loads its VMCS, not when it is given the
	 * capability: what there are other vCPUs in between for.
	 */
	child = make_guest(true);
	second = make_guest(true);
	other = make_guest(false);
	say("VMM: runs guests");

	input = post(&child, "fresh", false);
	call(&child, "again", HV_NESTED | HV_POST_MESSAGE, input, false);
	post(&child, "touched", true);
	call(&child, "signal", HV_NESTED | HV_FAST | HV_SIGNAL_EVENT, CHANNEL_CONNECTION, false);
	*(uint64_t *)(child.memory + next_input) = NO_CONNECTION;
	call(&child, "slow-signal", HV_NESTED | HV_SIGNAL_EVENT, next_input, false);
	next_input += INPUT_STEP;
	post(&other, "no-consent", false);
	post(&second, "second", false);
	outside();
	post(&child, "after", false);
	input = write_message(&child, INITIATE_CONTACT, VMBUS_VERSION);
	call(&child, "contact", HV_NESTED | HV_POST_MESSAGE, input, false);
	say("VMM: done");
	return 0;
}
