// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests for KVM_CAP_NESTED_HYPERV_HCALL_RELAY: what may happen around a call of
 * L2, see hyperv_nested_relay_test for the calls as such.  Userspace and other
 * vCPUs change what the decision depends on, userspace saves and restores the
 * VM, interrupts arrive, and L1 makes calls of its own and has another L2.
 */
#include <pthread.h>
#include <unistd.h>

#include "kvm_test_harness.h"
#include "apic.h"
#include "hyperv_nested_relay.h"
#include "smm.h"

/* How many calls to make while something else changes. */
#define NR_MASK_CALLS		100000
#define NR_GATE_CALLS		20000
#define NR_DELIVERED_CALLS	10000
#define NR_INTERCEPTED_CALLS	5000

/* How often, at most: on a busy host, it may not get to change meanwhile. */
#define NR_ROUNDS		50

/* More than happen when L2 is entered. */
#define NR_FLUSHES		64

/*
 * A thread that opens and closes a gate as fast as it can, while L2 calls.  No
 * matter when a gate changes, a call is handled as a whole, here or there.
 */
struct flipper {
	struct relay_vm *r;
	struct kvm_vcpu *vcpu;		/* not L2's, that one is busy */
	void (*set_gate)(struct flipper *flipper, bool open);
	pthread_t thread;
	bool stop;
	u64 nr_flips;
};

static void set_mask_gate(struct flipper *flipper, bool open)
{
	relay_vm_set_mask(flipper->r, open ? RELAY_ALL : 0);
}

static void set_xen_gate(struct flipper *flipper, bool open)
{
	struct kvm_xen_hvm_config config = {
		.flags = open ? 0 : KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
		.msr = open ? 0 : 0x40000200,
	};

	vm_ioctl(flipper->r->vm, KVM_XEN_HVM_CONFIG, &config);
}

static void set_guest_os_id_gate(struct flipper *flipper, bool open)
{
	set_guest_os_id(flipper->vcpu, open ? HYPERV_LINUX_OS_ID : 0);
}

/* Of either pair, one half is for this L2: together, they would be for its signals. */
static void set_mask_and_id_gate(struct flipper *flipper, bool open)
{
	relay_vm_serve(flipper->r, open ? RELAY_POST : RELAY_SIGNAL,
		       open ? HV_L2_VM_ID : HV_L2_OTHER_VM_ID);
}

static void *flipper_main(void *data)
{
	struct flipper *flipper = data;

	while (!READ_ONCE(flipper->stop))
		flipper->set_gate(flipper, flipper->nr_flips++ & 1);

	return NULL;
}

FIXTURE(flip) {
	struct relay_vm r;
	struct kvm_vcpu *vcpu;
	int eventfd;
};

FIXTURE_SETUP(flip)
{
	const char *why_not = relay_vm_create(&self->r, kvm_cpu_has_tdp());

	if (why_not)
		SKIP(return, "%s", why_not);

	self->vcpu = vm_vcpu_add(self->r.vm, 1, relay_l1_main);
	vcpu_set_hv_cpuid(self->vcpu);
	self->eventfd = relay_vm_add_eventfd(&self->r);
	relay_vm_set_mask(&self->r, RELAY_ALL);
}

FIXTURE_TEARDOWN(flip)
{
	close(self->eventfd);
	kvm_vm_free(self->r.vm);
}

static u64 read_signals(int fd)
{
	u64 count = 0;

	if (read(fd, &count, sizeof(count)) < 0)
		TEST_ASSERT_EQ(errno, EAGAIN);
	return count;
}

static u64 call_while_flipping(struct relay_vm *r, struct kvm_vcpu *vcpu,
			       void (*set_gate)(struct flipper *flipper, bool open),
			       u64 nr, u64 control, u64 input)
{
	struct flipper flipper = { .r = r, .vcpu = vcpu, .set_gate = set_gate };

	relay_nr_calls = nr;
	pthread_create(&flipper.thread, NULL, flipper_main, &flipper);
	relay_vm_call(r, control, input);
	WRITE_ONCE(flipper.stop, true);
	pthread_join(flipper.thread, NULL);
	relay_nr_calls = 1;

	return flipper.nr_flips;
}

/* Make @nr calls, signals that KVM completes or posts that userspace answers. */
static void test_flip(struct relay_vm *r, struct kvm_vcpu *vcpu, int fd, u64 nr,
		      bool posts, void (*set_gate)(struct flipper *flipper, bool open))
{
	u64 control = posts ? post_of(r) : SIGNAL | FAST;
	u64 input = posts ? r->msg_gpa : CONN_ID;
	u64 nr_flips = 0, relayed, nr_relayed = 0, nr_reflected = 0;
	int i;

	/* Enter L2 with all gates open, and have all calls made there. */
	relay_vm_call(r, control, input);
	assert_outcome(r, posts, 0, 0, 1);
	TEST_ASSERT_EQ(read_signals(fd), !posts);

	for (i = 0; i < NR_ROUNDS && !(nr_relayed && nr_reflected); i++) {
		nr_flips += call_while_flipping(r, vcpu, set_gate, nr, control, input);

		relayed = posts ? relay_outcomes.replied : relay_outcomes.success;
		TEST_ASSERT_EQ(relayed + relay_outcomes.reflected, nr);
		TEST_ASSERT_EQ(read_signals(fd), relay_outcomes.success);
		assert_outcome(r, relay_outcomes.replied, relay_outcomes.reflected, 0, relayed);
		nr_relayed += relayed;
		nr_reflected += relay_outcomes.reflected;
	}

	pr_info("%lu flips, %lu calls relayed, %lu reflected\n", nr_flips, nr_relayed,
		nr_reflected);
	TEST_ASSERT(nr_relayed && nr_reflected, "The gate was never seen to change");
}

TEST_F_TIMEOUT(flip, mask, 1200)
{
	test_flip(&self->r, self->vcpu, self->eventfd, NR_MASK_CALLS, false,
		  set_mask_gate);
}

TEST_F_TIMEOUT(flip, mask_of_posts, 600)
{
	test_flip(&self->r, self->vcpu, self->eventfd, NR_DELIVERED_CALLS, true,
		  set_mask_gate);
}

/* The new mask never comes with the old ID, nor the other way round. */
TEST_F_TIMEOUT(flip, mask_and_id, 600)
{
	struct relay_vm *r = &self->r;
	u64 nr_flips;

	test_flip(r, self->vcpu, self->eventfd, NR_DELIVERED_CALLS, true,
		  set_mask_and_id_gate);

	nr_flips = call_while_flipping(r, self->vcpu, set_mask_and_id_gate, NR_GATE_CALLS,
				       SIGNAL | FAST, CONN_ID);
	pr_info("%lu flips, %lu signals reflected\n", nr_flips, relay_outcomes.reflected);
	assert_outcome(r, 0, NR_GATE_CALLS, 0, 0);
	TEST_ASSERT_EQ(relay_outcomes.reflected, NR_GATE_CALLS);
	TEST_ASSERT_EQ(read_signals(self->eventfd), 0);
}

/* Either L1 gets the call, or it gets the read of the input. */
TEST_F_TIMEOUT(flip, mask_without_input, 600)
{
	u64 nr_flips = 0, nr_intercepted = 0, nr_reflected = 0;
	struct relay_vm *r = &self->r;
	int i;

	if (!r->nested_paging)
		SKIP(return, "no nested EPT/NPT on this host");

	assert_post_delivered(r);
	for (i = 0; i < NR_ROUNDS && !(nr_intercepted && nr_reflected); i++) {
		nr_flips += call_while_flipping(r, self->vcpu, set_mask_gate,
						NR_INTERCEPTED_CALLS, POST,
						MSG_L2_GPA - PAGE_SIZE);
		nr_intercepted += relay_outcomes.intercepted;
		nr_reflected += relay_outcomes.reflected;
		TEST_ASSERT_EQ(relay_outcomes.intercepted + relay_outcomes.reflected,
			       NR_INTERCEPTED_CALLS);
		__assert_outcome(r, 0, relay_outcomes.reflected, 0, 0,
				 relay_outcomes.intercepted);
	}

	pr_info("%lu flips, %lu intercepts, %lu calls reflected\n", nr_flips,
		nr_intercepted, nr_reflected);
	TEST_ASSERT(nr_intercepted && nr_reflected, "The mask was never seen to change");
}

TEST_F_TIMEOUT(flip, xen_mode, 600)
{
	if (!(kvm_check_cap(KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL))
		SKIP(return, "no KVM_CAP_XEN_HVM");

	test_flip(&self->r, self->vcpu, self->eventfd, NR_GATE_CALLS, false,
		  set_xen_gate);
}

TEST_F_TIMEOUT(flip, guest_os_id, 600)
{
	test_flip(&self->r, self->vcpu, self->eventfd, NR_GATE_CALLS, false,
		  set_guest_os_id_gate);
}

/*
 * L1's other vCPU moves L2's page between two pages and nowhere, without telling
 * anybody, while L2 posts it.  KVM must come up with one of these.
 */
#define PTE_GVA		0x20000000ULL
#define MOVING_OFFSET	0x40

static u64 *moving_pte;
static u64 moving_values[3];
static bool stop_moving;

static void mover_main(void)
{
	u32 eax, ebx, ecx, edx;
	u64 i;

	for (i = 0; !READ_ONCE(stop_moving); i++) {
		WRITE_ONCE(*moving_pte, moving_values[i % ARRAY_SIZE(moving_values)]);
		/* Not every emulator interrupts a guest that never exits. */
		if (!(i % 64))
			cpuid(0, &eax, &ebx, &ecx, &edx);
	}

	GUEST_DONE();
}

static void *mover_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;

	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_DONE);
	return NULL;
}

static u64 nr_posts_of_page[2];

static void check_page_of_post(struct relay_vm *r)
{
	gpa_t gpa = r->exit.u.hcall.params[0];
	u64 page = (gpa - r->msg_l1_gpa) / PAGE_SIZE;
	u8 *payload;
	int i;

	TEST_ASSERT(page < ARRAY_SIZE(nr_posts_of_page) &&
		    gpa % PAGE_SIZE == MOVING_OFFSET,
		    "L2's message is not at 0x%lx", gpa);
	payload = addr_gpa2hva(r->vm, gpa);
	for (i = 0; i < HV_POST_MESSAGE_INPUT_SIZE; i++)
		TEST_ASSERT_EQ(payload[i], 'a' + page);
	nr_posts_of_page[page]++;
}

FIXTURE(moving_page) {
	struct relay_vm r;
	struct kvm_vcpu *vcpu;
};

FIXTURE_SETUP(moving_page)
{
	const char *why_not = relay_vm_create(&self->r, true);
	struct relay_vm *r = &self->r;
	u64 *pte;

	if (why_not)
		SKIP(return, "%s", why_not);

	self->vcpu = vm_vcpu_add(r->vm, 1, mover_main);
	memset(addr_gpa2hva(r->vm, r->msg_l1_gpa), 'a', PAGE_SIZE);
	memset(addr_gpa2hva(r->vm, r->msg_l1_gpa + PAGE_SIZE), 'b', PAGE_SIZE);

	pte = tdp_get_pte(r->vm, MSG_L2_GPA);
	virt_pg_map(r->vm, PTE_GVA, addr_hva2gpa(r->vm, pte) & PAGE_MASK);
	moving_pte = (u64 *)(PTE_GVA + ((u64)pte & ~PAGE_MASK));
	moving_values[0] = *pte;
	moving_values[1] = *pte + PAGE_SIZE;
	moving_values[2] = 0;
	sync_global_to_guest(r->vm, moving_pte);
	sync_global_to_guest(r->vm, moving_values);
	sync_global_to_guest(r->vm, stop_moving);
	relay_vm_set_mask(r, RELAY_ALL);
}

FIXTURE_TEARDOWN(moving_page)
{
	kvm_vm_free(self->r.vm);
}

TEST_F_TIMEOUT(moving_page, post_is_of_one_page, 600)
{
	struct relay_vm *r = &self->r;
	u64 nr_intercepted = 0;
	pthread_t thread;
	int i;

	/* Let L2 run once, so that it needs nothing that moves. */
	assert_post_delivered(r);

	r->in_exit = check_page_of_post;
	relay_nr_calls = NR_DELIVERED_CALLS;
	pthread_create(&thread, NULL, mover_thread, self->vcpu);
	for (i = 0; i < NR_ROUNDS; i++) {
		relay_vm_call(r, POST, r->msg_gpa + MOVING_OFFSET);
		TEST_ASSERT_EQ(relay_outcomes.replied, r->delivered);
		TEST_ASSERT_EQ(relay_outcomes.replied + relay_outcomes.intercepted,
			       relay_nr_calls);
		__assert_outcome(r, relay_outcomes.replied, 0, 0, relay_outcomes.replied,
				 relay_outcomes.intercepted);
		nr_intercepted += relay_outcomes.intercepted;
		if (nr_posts_of_page[0] && nr_posts_of_page[1] && nr_intercepted)
			break;
	}
	stop_moving = true;
	sync_global_to_guest(r->vm, stop_moving);
	pthread_join(thread, NULL);

	pr_info("%lu posts of one page, %lu of the other, %lu intercepts\n",
		nr_posts_of_page[0], nr_posts_of_page[1], nr_intercepted);
	TEST_ASSERT(nr_posts_of_page[0] && nr_posts_of_page[1] && nr_intercepted,
		    "The page was never seen to move");
}

/*
 * A script: L1 and two L2s, of which L1 authorizes the first, make calls in turn.
 * After its call, L2 gives control to L1 by CPUID, an exit that the relay
 * has nothing to do with.
 */
enum caller {
	L2_A,
	L2_B,
	L1,
};

/* Where the host gets a look, if it wants one. */
enum stage {
	BEFORE_CALL,
	AFTER_CALL,
	IN_L1,
	IN_FAULT,	/* L1 has yet to do about it what it does */
	END_OF_SCRIPT,
};

enum outcome {
	DELIVERED,
	COMPLETED,	/* by KVM, with HV_STATUS_SUCCESS */
	REFLECTED,
};

struct step {
	enum caller caller;
	u64 control, input, output;
	bool exit_after_flush;	/* what L1 asks for in the partition assist page */
	bool after_sti;		/* with an interrupt that waits for STI */
	enum outcome want;
	u64 param;		/* if delivered, what userspace is to see */
	u64 want_faults;	/* that L1 handles, with relay_l1_fix, before that */

	/* What came of it. */
	u64 rax;
	u64 rip;		/* of the call, if reflected; behind it, if after_sti */
	u64 nr_reflected, nr_flush_exits, nr_faults;
	u64 nr_delivered;	/* noted by the host */
};

/* An event that arrived in L2, as L1 sees it, or L2 if L1 doesn't intercept it. */
struct event {
	u64 count;
	u64 rip, rax;
};

#define MAX_STEPS	16

#define EVENT_VECTOR	0x40

/* Shared with guest code. */
static struct step script[MAX_STEPS];
static u64 nr_steps, cur_step;
static bool want_stages, authorize_b;
static struct event l1_event, l2_event;
static u64 nr_l1_handled;

static void guest_stage(enum stage stage)
{
	if (want_stages || stage == END_OF_SCRIPT)
		GUEST_SYNC(stage);
}

static noinline u64 hypercall(u64 control, u64 input, u64 output)
{
	return hv_hypercall(relay_hcall_is_vmmcall, control, input, output);
}

/* The call is in the shadow of STI: what is pending has to wait for it. */
static noinline u64 hypercall_after_sti(u64 control, u64 input, u64 output, u64 *next)
{
	register u64 r8 asm("r8") = output;
	u64 rax = 0xdead;

	if (relay_hcall_is_vmmcall)
		asm volatile("lea 1f(%%rip), %1\n\tsti\n\tvmmcall\n\t1:"
			     : "+a"(rax), "=&r"(*next)
			     : "c"(control), "d"(input), "r"(r8) : "memory");
	else
		asm volatile("lea 1f(%%rip), %1\n\tsti\n\tvmcall\n\t1:"
			     : "+a"(rax), "=&r"(*next)
			     : "c"(control), "d"(input), "r"(r8) : "memory");
	return rax;
}

static void make_call(void)
{
	struct step *step = &script[cur_step];

	if (step->after_sti)
		cli();
	guest_stage(BEFORE_CALL);
	if (step->after_sti)
		step->rax = hypercall_after_sti(step->control, step->input, step->output,
						&step->rip);
	else
		step->rax = hypercall(step->control, step->input, step->output);
	guest_stage(AFTER_CALL);
}

static void script_l2_main(void)
{
	u32 eax, ebx, ecx, edx;

	/* For interrupts, if L1 doesn't intercept them. */
	sti();
	for (;;) {
		make_call();
		cpuid(0, &eax, &ebx, &ecx, &edx);
	}
}

/* In L1 after an exit, or in L2.  Neither says EOI, L1 does at the script's end. */
static __attribute__((target("general-regs-only"))) void event_handler(struct ex_regs *regs)
{
	if (l1_event.count) {
		nr_l1_handled++;
	} else {
		l2_event.count++;
		l2_event.rip = regs->rip;
		l2_event.rax = regs->rax;
	}
}

static void run_l2(struct hv_l1 *l1, struct step *step)
{
	*(u32 *)l1->hv->partition_assist = step->exit_after_flush;

	for (;;) {
		hv_l1_enter(l1);

		if (hv_l1_exit_is_cpuid(l1)) {
			hv_l1_set_rip(l1, hv_l1_get_rip(l1) + 2);
			return;
		} else if (hv_l1_exit_is_hcall(l1)) {
			step->nr_reflected++;
			step->rip = hv_l1_get_rip(l1);
			guest_regs.rax = REFLECTED_RAX;
			hv_l1_set_rip(l1, step->rip + HYPERCALL_INSN_SIZE);
		} else if (hv_l1_exit_is_tlb_flush(l1)) {
			step->nr_flush_exits++;
		} else if (hv_l1_exit_is_nested_fault(l1)) {
			step->nr_faults++;
			guest_stage(IN_FAULT);
			WRITE_ONCE(*relay_l1_fix.pte, relay_l1_fix.value);
		} else if (hv_l1_exit_is_intr(l1) || hv_l1_exit_is_nmi(l1)) {
			l1_event.count++;
			l1_event.rip = hv_l1_get_rip(l1);
			l1_event.rax = guest_regs.rax;
			/*
			 * Take it.  It is still pending, but for an NMI on VMX,
			 * which blocks others until IRET.
			 */
			if (!this_cpu_has(X86_FEATURE_VMX))
				asm volatile("stgi");
			else if (hv_l1_exit_is_nmi(l1))
				asm volatile("int $2");
			sti_nop_cli();
		} else {
			GUEST_FAIL("Unexpected exit 0x%lx", hv_l1_exit_reason(l1));
		}
	}
}

static void script_l1_main(void *nested_a, struct hyperv_test_pages *hv_a,
			   void *nested_b, struct hyperv_test_pages *hv_b)
{
	struct hv_l1_config config[] = { relay_l1_config, relay_l1_config };
	struct hv_l1 l1[] = {
		{ .vmx = nested_a, .hv = hv_a },
		{ .vmx = nested_b, .hv = hv_b },
	};
	enum caller cur = L2_A;
	struct step *step;

	x2apic_enable();

	/* There's one VP assist page, by which L1 consents for both. */
	hv_b->vp_assist = hv_a->vp_assist;
	hv_b->vp_assist_gpa = hv_a->vp_assist_gpa;
	config[L2_B].another = true;
	config[L2_B].direct_vmcs = authorize_b;
	config[L2_B].vm_id = HV_L2_OTHER_VM_ID;

	hv_l1_init(&l1[L2_A], &config[L2_A], script_l2_main);
	l1[L2_A].regs = guest_regs;
	hv_l1_init(&l1[L2_B], &config[L2_B], script_l2_main);
	hv_l1_switch(&l1[L2_B], &l1[L2_A]);

	for (;;) {
		for (cur_step = 0; cur_step < nr_steps; cur_step++) {
			step = &script[cur_step];
			guest_stage(IN_L1);
			if (step->caller == L1) {
				make_call();
				continue;
			}
			if (cur != step->caller)
				hv_l1_switch(&l1[cur], &l1[step->caller]);
			cur = step->caller;
			run_l2(&l1[cur], step);
		}
		if (l1_event.count || l2_event.count)
			x2apic_write_reg(APIC_EOI, 0);
		guest_stage(END_OF_SCRIPT);
	}
}

struct script_vm {
	struct relay_vm r;

	/* Called when the guest is at a stage, if not NULL. */
	void (*at_stage)(struct script_vm *s, enum stage stage);
	/* Called before userspace lets L2, or L1, see the result of its call. */
	void (*in_exit)(struct script_vm *s);

	u64 nr_smis;
};

#define SMRAM_GPA	0x1000000
#define SMI_PORT	0xe

static const char *script_vm_create(struct script_vm *s)
{
	/* Runs in real mode: in %al, SMI_PORT; rsm */
	static const u8 smi_handler[] = { 0xe4, SMI_PORT, 0x0f, 0xaa };
	struct relay_vm *r = &s->r;
	const char *why_not;

	memset(s, 0, sizeof(*s));
	why_not = __relay_vm_create(r, kvm_cpu_has_tdp(), script_l1_main, 2);
	if (why_not)
		return why_not;

	vcpu_enable_cap(r->vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	vm_install_exception_handler(r->vm, EVENT_VECTOR, event_handler);
	vm_install_exception_handler(r->vm, NMI_VECTOR, event_handler);
	if (kvm_has_cap(KVM_CAP_X86_SMM))
		setup_smram(r->vm, r->vcpu, SMRAM_GPA, smi_handler,
			    sizeof(smi_handler));

	authorize_b = false;
	relay_vm_set_mask(r, RELAY_ALL);
	return NULL;
}

static void script_vm_note_exit(struct script_vm *s)
{
	struct relay_vm *r = &s->r;
	struct step *step;

	relay_vm_record_exit(r);

	sync_global_from_guest(r->vm, cur_step);
	step = &script[cur_step];
	step->nr_delivered++;
	assert_exit(r, &r->exit, step->caller != L1,
		    step->caller == L2_B ? HV_L2_OTHER_VM_ID : HV_L2_VM_ID);
	TEST_ASSERT_EQ(r->exit.u.hcall.input, step->control & ~HV_HYPERCALL_NESTED);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[0], step->param);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[1], step->output);

	if (s->in_exit)
		s->in_exit(s);
}

/* Run @steps to their end, and check that each came out as it is to. */
static void script_vm_run(struct script_vm *s, const struct step *steps, u64 nr)
{
	u64 delivered[MAX_STEPS], nr_kept = 0, i;
	struct relay_vm *r = &s->r;
	struct kvm_run *run;
	struct ucall uc;

	TEST_ASSERT(nr <= MAX_STEPS, "Too many steps");
	memset(script, 0, sizeof(script));
	memcpy(script, steps, nr * sizeof(*steps));
	memset(&l1_event, 0, sizeof(l1_event));
	memset(&l2_event, 0, sizeof(l2_event));
	nr_l1_handled = 0;
	nr_steps = nr;
	want_stages = !!s->at_stage;
	s->nr_smis = 0;
	r->nr_kept = -vcpu_get_stat(r->vcpu, nested_hv_relayed_hcalls);

	sync_global_to_guest(r->vm, relay_l1_config);
	sync_global_to_guest(r->vm, script);
	sync_global_to_guest(r->vm, nr_steps);
	sync_global_to_guest(r->vm, want_stages);
	sync_global_to_guest(r->vm, authorize_b);
	sync_global_to_guest(r->vm, relay_l1_fix);
	sync_global_to_guest(r->vm, l1_event);
	sync_global_to_guest(r->vm, l2_event);
	sync_global_to_guest(r->vm, nr_l1_handled);
	sync_global_to_guest(r->vm, relay_nr_uds);
	sync_global_to_guest(r->vm, relay_hcall_is_vmmcall);

	for (;;) {
		vcpu_run(r->vcpu);
		run = r->vcpu->run;

		if (run->exit_reason == KVM_EXIT_HYPERV) {
			script_vm_note_exit(s);
			continue;
		}
		if (run->exit_reason == KVM_EXIT_IO && run->io.port == SMI_PORT) {
			s->nr_smis++;
			continue;
		}

		switch (get_ucall(r->vcpu, &uc)) {
		case UCALL_SYNC:
			break;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
		default:
			TEST_FAIL("Unexpected exit reason: %s",
				  exit_reason_str(run->exit_reason));
		}
		if (uc.args[1] == END_OF_SCRIPT)
			break;
		s->at_stage(s, uc.args[1]);
	}

	for (i = 0; i < nr; i++)
		delivered[i] = script[i].nr_delivered;
	sync_global_from_guest(r->vm, script);
	sync_global_from_guest(r->vm, l1_event);
	sync_global_from_guest(r->vm, l2_event);
	sync_global_from_guest(r->vm, nr_l1_handled);
	sync_global_from_guest(r->vm, relay_nr_uds);
	r->nr_kept += vcpu_get_stat(r->vcpu, nested_hv_relayed_hcalls);

	for (i = 0; i < nr; i++) {
		struct step *step = &script[i];
		u64 rax = step->want == DELIVERED ? REPLY :
			  step->want == REFLECTED ? REFLECTED_RAX : HV_STATUS_SUCCESS;

		TEST_ASSERT(delivered[i] == (step->want == DELIVERED) &&
			    step->nr_reflected == (step->want == REFLECTED) &&
			    step->nr_flush_exits == step->exit_after_flush &&
			    step->nr_faults == step->want_faults &&
			    step->rax == rax,
			    "Step %lu: delivered %lu, reflected %lu, flush exits %lu, faults %lu, RAX 0x%lx (wanted 0x%lx)",
			    i, delivered[i], step->nr_reflected,
			    step->nr_flush_exits, step->nr_faults, step->rax, rax);
		if (step->caller != L1 && step->want != REFLECTED &&
		    step->control & HV_HYPERCALL_NESTED)
			nr_kept++;
	}
	TEST_ASSERT_EQ(r->nr_kept, nr_kept);
	TEST_ASSERT_EQ(relay_nr_uds, 0);
}

FIXTURE(script) {
	struct script_vm s;
	int eventfd;
};

FIXTURE_SETUP(script)
{
	const char *why_not = script_vm_create(&self->s);

	if (why_not)
		SKIP(return, "%s", why_not);
	self->eventfd = relay_vm_add_eventfd(&self->s.r);
}

FIXTURE_TEARDOWN(script)
{
	close(self->eventfd);
	kvm_vm_free(self->s.r.vm);
}

/* Steps, as an initializer; @r is the VM. */
#define L2_POST(l2)	{ .caller = l2, .control = post_of(r),		\
			  .input = r->msg_gpa + 0x80, .output = 0x1234,	\
			  .param = r->msg_l1_gpa + 0x80, .want = DELIVERED }
#define L2_SIGNAL(l2)	{ .caller = l2, .control = SIGNAL | FAST,		\
			  .input = CONN_ID, .want = COMPLETED }
#define L1_POST		{ .caller = L1, .control = HVCALL_POST_MESSAGE,		\
			  .input = r->msg_l1_gpa + 0x100,			\
			  .param = r->msg_l1_gpa + 0x100, .want = DELIVERED }
#define L1_SIGNAL	{ .caller = L1, .control = HVCALL_SIGNAL_EVENT | FAST,	\
			  .input = CONN_ID, .want = COMPLETED }
#define L2_REFLECTED(l2, code)							\
			{ .caller = l2, .control = code,			\
			  .input = r->msg_gpa, .want = REFLECTED }
#define L2_SIGNAL_REFLECTED(l2)							\
			{ .caller = l2, .control = SIGNAL | FAST,		\
			  .input = CONN_ID, .want = REFLECTED }
#define L2_FLUSH(l2, exit)							\
			{ .caller = l2, .exit_after_flush = exit,		\
			  .control = HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE | FAST,	\
			  .output = HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES |	\
				    HV_FLUSH_ALL_PROCESSORS,			\
			  .want = COMPLETED }

TEST_F(script, l1_and_l2_alternate)
{
	struct relay_vm *r = &self->s.r;
	const struct step steps[] = {
		L1_POST, L2_POST(L2_A), L1_POST, L1_SIGNAL, L2_SIGNAL(L2_A),
		L2_REFLECTED(L2_A, HVCALL_POST_MESSAGE), L1_POST, L2_POST(L2_A),
		L2_POST(L2_A), L1_SIGNAL,
	};

	script_vm_run(&self->s, steps, ARRAY_SIZE(steps));
	TEST_ASSERT_EQ(read_signals(self->eventfd), 3);
	relay_vm_set_mask(r, 0);
	script_vm_run(&self->s, (struct step []) {
			L1_POST, L2_REFLECTED(L2_A, post_of(r)), L1_POST, L1_SIGNAL,
			L2_REFLECTED(L2_A, SIGNAL | FAST), L1_POST,
		      }, 6);
	TEST_ASSERT_EQ(read_signals(self->eventfd), 1);
}

/* L1's consent is one L2's, whoever ran before it. */
TEST_F(script, two_l2s_one_authorized)
{
	struct relay_vm *r = &self->s.r;
	const struct step steps[] = {
		L2_POST(L2_A), L2_REFLECTED(L2_B, post_of(r)), L2_POST(L2_A),
		L2_REFLECTED(L2_B, SIGNAL | FAST), L2_SIGNAL(L2_A),
		L2_REFLECTED(L2_B, post_of(r)), L2_REFLECTED(L2_B, post_of(r)), L1_POST,
		L2_REFLECTED(L2_B, post_of(r)), L2_POST(L2_A), L1_POST, L2_POST(L2_A),
	};

	script_vm_run(&self->s, steps, ARRAY_SIZE(steps));
	TEST_ASSERT_EQ(read_signals(self->eventfd), 1);
}

/* To tell the two apart is up to userspace, by what the exit says. */
TEST_F(script, two_l2s_both_authorized)
{
	struct relay_vm *r = &self->s.r;
	const struct step steps[] = {
		L2_POST(L2_A), L2_POST(L2_B), L2_SIGNAL(L2_B), L2_POST(L2_A),
		L2_SIGNAL(L2_A), L1_POST, L2_POST(L2_B), L2_POST(L2_B), L1_SIGNAL,
	};

	authorize_b = true;
	script_vm_run(&self->s, steps, ARRAY_SIZE(steps));
	TEST_ASSERT_EQ(read_signals(self->eventfd), 3);
}

static u64 served_id;

static void serve_id(struct script_vm *s)
{
	relay_vm_serve(&s->r, RELAY_ALL, served_id);
}

static void save_restore_and_serve_id(struct script_vm *s)
{
	relay_vm_save_restore(&s->r);
	serve_id(s);
}

static void save_restore_and_serve_id_at_stage(struct script_vm *s, enum stage stage)
{
	save_restore_and_serve_id(s);
}

/*
 * One of the two is the root of L1, the other one a child that would like to be.
 * L1's own calls have nothing to do with that.
 */
static void test_one_l2(struct script_vm *s, int eventfd)
{
	struct relay_vm *r = &s->r;
	const struct step a_served[] = {
		L2_POST(L2_A), L2_REFLECTED(L2_B, post_of(r)), L2_SIGNAL_REFLECTED(L2_B),
		L2_SIGNAL(L2_A), L1_POST, L2_POST(L2_A), L2_SIGNAL_REFLECTED(L2_B),
		L1_SIGNAL,
	};
	const struct step b_served[] = {
		L2_REFLECTED(L2_A, post_of(r)), L2_POST(L2_B), L2_SIGNAL(L2_B),
		L2_SIGNAL_REFLECTED(L2_A), L1_POST, L2_POST(L2_B),
		L2_SIGNAL_REFLECTED(L2_A), L1_SIGNAL,
	};

	served_id = HV_L2_VM_ID;
	serve_id(s);
	script_vm_run(s, a_served, ARRAY_SIZE(a_served));
	TEST_ASSERT_EQ(read_signals(eventfd), 2);

	served_id = HV_L2_OTHER_VM_ID;
	serve_id(s);
	script_vm_run(s, b_served, ARRAY_SIZE(b_served));
	TEST_ASSERT_EQ(read_signals(eventfd), 2);
}

TEST_F(script, one_l2_of_two)
{
	authorize_b = true;
	test_one_l2(&self->s, self->eventfd);
}

/* Connections aren't part of what the selftests' library restores. */
TEST_F_TIMEOUT(script, one_l2_of_two_after_restore, 600)
{
	struct relay_vm *r = &self->s.r;
	const struct step a_served[] = {
		L2_POST(L2_A), L2_REFLECTED(L2_B, post_of(r)), L2_SIGNAL_REFLECTED(L2_B),
		L1_POST, L2_POST(L2_A),
	};
	const struct step b_served[] = {
		L2_REFLECTED(L2_A, post_of(r)), L2_POST(L2_B), L2_SIGNAL_REFLECTED(L2_A),
		L1_POST, L2_POST(L2_B),
	};

	authorize_b = true;
	self->s.at_stage = save_restore_and_serve_id_at_stage;
	self->s.in_exit = save_restore_and_serve_id;

	served_id = HV_L2_VM_ID;
	serve_id(&self->s);
	script_vm_run(&self->s, a_served, ARRAY_SIZE(a_served));

	served_id = HV_L2_OTHER_VM_ID;
	serve_id(&self->s);
	script_vm_run(&self->s, b_served, ARRAY_SIZE(b_served));
}

/* Both are direct hypercalls, by the same consent. */
TEST_F(script, tlb_flushes_between)
{
	struct relay_vm *r = &self->s.r;
	const struct step steps[] = {
		L2_FLUSH(L2_A, false), L2_POST(L2_A), L2_FLUSH(L2_A, true),
		L2_POST(L2_A), L2_SIGNAL(L2_A), L2_FLUSH(L2_A, true),
		L2_FLUSH(L2_A, false),
		L2_REFLECTED(L2_B, HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE | FAST),
		L2_REFLECTED(L2_B, post_of(r)), L2_FLUSH(L2_A, true), L2_POST(L2_A),
	};

	if (!kvm_hv_cpu_has(HV_X64_NESTED_DIRECT_FLUSH))
		SKIP(return, "no direct TLB flush");

	script_vm_run(&self->s, steps, ARRAY_SIZE(steps));
	/* The mask is about others. */
	relay_vm_set_mask(r, 0);
	script_vm_run(&self->s, (struct step []) {
			L2_FLUSH(L2_A, false), L2_REFLECTED(L2_A, post_of(r)),
			L2_FLUSH(L2_A, true),
		      }, 3);
}

struct kvm_nested_state_buf {
	struct kvm_nested_state state;
	u8 data[16 * 1024];
};

static void save_restore_with_mask(struct script_vm *s)
{
	relay_vm_save_restore(&s->r);
	relay_vm_set_mask(&s->r, RELAY_ALL);
}

static void save_restore_with_mask_at_stage(struct script_vm *s, enum stage stage)
{
	save_restore_with_mask(s);
}

static void save_restore_without_mask(struct script_vm *s)
{
	relay_vm_save_restore(&s->r);
}

static void get_nested_state(struct kvm_vcpu *vcpu, struct kvm_nested_state_buf *buf)
{
	buf->state.size = sizeof(*buf);
	vcpu_nested_state_get(vcpu, &buf->state);
}

/* As a VMM does that looks at a VM, with L2's call not completed. */
static void read_nested_state(struct script_vm *s)
{
	struct kvm_nested_state_buf buf;

	get_nested_state(s->r.vcpu, &buf);
	TEST_ASSERT(buf.state.flags & KVM_STATE_NESTED_GUEST_MODE, "Not in L2");
}

/* In place, and everything else stays. */
static void set_nested_state(struct kvm_vcpu *vcpu)
{
	struct kvm_nested_state_buf buf;

	vcpu_run_complete_io(vcpu);
	get_nested_state(vcpu, &buf);
	vcpu_nested_state_set(vcpu, &buf.state);
}

static void set_nested_state_at_stage(struct script_vm *s, enum stage stage)
{
	set_nested_state(s->r.vcpu);
}

TEST_F_TIMEOUT(script, save_restore_everywhere, 600)
{
	struct relay_vm *r = &self->s.r;
	const struct step steps[] = {
		L2_POST(L2_A), L1_POST, L2_POST(L2_A), L2_REFLECTED(L2_B, post_of(r)),
		L2_POST(L2_A), L2_REFLECTED(L2_A, HVCALL_POST_MESSAGE),
		L2_POST(L2_A),
	};

	self->s.at_stage = save_restore_with_mask_at_stage;
	self->s.in_exit = save_restore_with_mask;
	script_vm_run(&self->s, steps, ARRAY_SIZE(steps));
}

/* L1 handles a memory intercept on another host than the one it happened on. */
static void test_intercept(struct script_vm *s)
{
	struct relay_vm *r = &s->r;
	struct step steps[] = {
		L2_POST(L2_A), L2_POST(L2_A), L2_POST(L2_A),
	};
	u64 *pte = tdp_get_pte(r->vm, MSG_L2_GPA);

	relay_l1_fix.pte = relay_vm_map_pte(r, pte);
	relay_l1_fix.value = *pte;
	*pte = 0;
	steps[0].want_faults = 1;
	script_vm_run(s, steps, ARRAY_SIZE(steps));
}

TEST_F_TIMEOUT(script, save_restore_in_intercept, 600)
{
	if (!self->s.r.nested_paging)
		SKIP(return, "no nested EPT/NPT on this host");

	test_intercept(&self->s);
	self->s.at_stage = save_restore_with_mask_at_stage;
	self->s.in_exit = save_restore_with_mask;
	test_intercept(&self->s);
	self->s.at_stage = set_nested_state_at_stage;
	self->s.in_exit = NULL;
	test_intercept(&self->s);
}

/* What KVM goes by to flush is L1's, and not saved by itself. */
TEST_F_TIMEOUT(script, tlb_flushes_after_restore, 600)
{
	struct relay_vm *r = &self->s.r;
	const struct step steps[] = {
		L2_FLUSH(L2_A, true), L2_FLUSH(L2_A, false), L2_POST(L2_A),
		L2_FLUSH(L2_A, true),
		L2_REFLECTED(L2_B, HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE | FAST),
		L2_FLUSH(L2_A, true),
	};

	if (!kvm_hv_cpu_has(HV_X64_NESTED_DIRECT_FLUSH))
		SKIP(return, "no direct TLB flush");

	self->s.at_stage = save_restore_with_mask_at_stage;
	self->s.in_exit = save_restore_with_mask;
	script_vm_run(&self->s, steps, ARRAY_SIZE(steps));

	self->s.at_stage = set_nested_state_at_stage;
	self->s.in_exit = NULL;
	script_vm_run(&self->s, steps, ARRAY_SIZE(steps));
}

/*
 * Two vCPUs, each in an L2.  They take turns, and once the L1 of the other has
 * started, that of the first must not run anymore: what an L1 runs is in globals
 * of the library.
 */
FIXTURE(two_vcpus) {
	struct relay_vm r, other;
};

FIXTURE_VARIANT(two_vcpus) {
	bool other_vm;
};

FIXTURE_VARIANT_ADD(two_vcpus, one_l2_vm) {
	.other_vm = false,
};

FIXTURE_VARIANT_ADD(two_vcpus, two_l2_vms) {
	.other_vm = true,
};

FIXTURE_SETUP(two_vcpus)
{
	const char *why_not = relay_vm_create(&self->r, false);
	struct kvm_vm *vm = self->r.vm;
	gva_t nested, hv;

	if (why_not)
		SKIP(return, "%s", why_not);

	self->other = self->r;
	self->other.vcpu = vm_vcpu_add(vm, 1, relay_l1_main);
	hv_l1_enable(self->other.vcpu);
	vcpu_enable_cap(self->other.vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	vm_alloc_hv_l1(vm, &nested, &hv);
	vcpu_args_set(self->other.vcpu, 2, nested, hv);
}

FIXTURE_TEARDOWN(two_vcpus)
{
	kvm_vm_free(self->r.vm);
}

static void save_restore_both(struct relay_vm *r, struct relay_vm *other)
{
	struct kvm_x86_state *other_state = vcpu_save_state(other->vcpu);
	struct kvm_x86_state *state = vcpu_save_state(r->vcpu);

	kvm_vm_release(r->vm);
	r->vcpu = vm_recreate_with_one_vcpu(r->vm);
	other->vcpu = vm_vcpu_recreate(r->vm, 1);
	hv_l1_restore(r->vcpu, state);
	hv_l1_restore(other->vcpu, other_state);
}

/* Run L2 until the host gets its next look. */
static void run_without_call(struct relay_vm *r)
{
	relay_nr_calls = 0;
	relay_vm_run(r);
	relay_nr_calls = 1;
}

/*
 * Let L2 flush the TLBs of all VPs of its VM, NR_FLUSHES times.  After each, the
 * other vCPU, whose L2 makes no calls, gets to see what was asked of it.
 */
static void assert_flushes_by_vm(struct relay_vm *r, struct relay_vm *other,
				 bool other_vm)
{
	const u64 input[] = {
		0, HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES | HV_FLUSH_ALL_PROCESSORS, 0,
	};
	u64 nr = -vcpu_get_stat(other->vcpu, tlb_flush);
	int i;

	memcpy(addr_gpa2hva(r->vm, r->msg_l1_gpa), input, sizeof(input));
	for (i = 0; i < NR_FLUSHES; i++) {
		relay_vm_call(r, HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE, r->msg_gpa);
		assert_outcome(r, 0, 0, 0, 0);
		TEST_ASSERT_EQ(relay_outcomes.success, 1);

		run_without_call(other);
	}
	nr += vcpu_get_stat(other->vcpu, tlb_flush);

	TEST_ASSERT((nr < NR_FLUSHES) == other_vm,
		    "%lu flushes of the other vCPU, in %s VM of L1's", nr,
		    other_vm ? "another" : "the same");
}

/* With a call that goes to L1, which enters L2 with its IDs again. */
static void reenter_l2(struct relay_vm *r)
{
	assert_reflected(r, HVCALL_POST_MESSAGE, r->msg_gpa);
}

/*
 * The ID of L2's VM decides, too, with both vCPUs as restored and with the other
 * one in L2 anew.  On SVM, nothing takes the ID away when state is set in place.
 */
TEST_F_TIMEOUT(two_vcpus, tlb_flushes_by_vm_after_restore, 600)
{
	struct relay_vm *r = &self->r, *other = &self->other;

	if (!kvm_hv_cpu_has(HV_X64_NESTED_DIRECT_FLUSH))
		SKIP(return, "no direct TLB flush");

	reenter_l2(r);
	relay_l1_config.vm_id = variant->other_vm ? HV_L2_OTHER_VM_ID : HV_L2_VM_ID;
	reenter_l2(other);
	assert_flushes_by_vm(r, other, variant->other_vm);

	save_restore_both(r, other);
	/* Restored state is complete once a vCPU runs. */
	run_without_call(other);
	assert_flushes_by_vm(r, other, variant->other_vm);
	reenter_l2(other);
	assert_flushes_by_vm(r, other, variant->other_vm);

	set_nested_state(r->vcpu);
	assert_flushes_by_vm(r, other, variant->other_vm);
}

/* The call in flight is completed, others go to L1 until the mask is set. */
TEST_F(script, restored_without_mask)
{
	struct relay_vm *r = &self->s.r;
	const struct step steps[] = {
		L2_POST(L2_A), L2_REFLECTED(L2_A, post_of(r)), L1_POST,
		L2_REFLECTED(L2_A, SIGNAL | FAST), L2_REFLECTED(L2_B, post_of(r)),
	};

	self->s.in_exit = save_restore_without_mask;
	script_vm_run(&self->s, steps, ARRAY_SIZE(steps));

	self->s.in_exit = NULL;
	relay_vm_set_mask(r, RELAY_ALL);
	script_vm_run(&self->s, (struct step []) {
			L2_POST(L2_A), L2_REFLECTED(L2_B, post_of(r)), L2_POST(L2_A),
		      }, 3);
}

TEST_F(script, nested_state_read_and_set)
{
	struct relay_vm *r = &self->s.r;
	const struct step steps[] = {
		L2_POST(L2_A), L2_POST(L2_A), L2_REFLECTED(L2_B, post_of(r)), L2_POST(L2_A),
	};

	self->s.in_exit = read_nested_state;
	self->s.at_stage = set_nested_state_at_stage;
	script_vm_run(&self->s, steps, ARRAY_SIZE(steps));
}

/* Events that become pending while userspace has L2's call. */
static void send_interrupt(struct script_vm *s)
{
	struct kvm_msi msi = {
		.address_lo = APIC_DEFAULT_GPA,
		.data = EVENT_VECTOR,
	};

	TEST_ASSERT_EQ(__vm_ioctl(s->r.vm, KVM_SIGNAL_MSI, &msi), 1);
}

static void inject_interrupt(struct script_vm *s)
{
	send_interrupt(s);
	s->in_exit = NULL;
}

static void inject_nmi(struct script_vm *s)
{
	vcpu_ioctl(s->r.vcpu, KVM_NMI, NULL);
	s->in_exit = NULL;
}

static void inject_smi_in_exit(struct script_vm *s)
{
	inject_smi(s->r.vcpu);
	s->in_exit = NULL;
}

/*
 * A call that L1 gets, to see where L2 makes them, and one during which @inject
 * is called.  The event must find L2 behind the call, with the call's result.
 */
static void test_event(struct script_vm *s, void (*inject)(struct script_vm *s),
		       bool intercepted)
{
	struct relay_vm *r = &s->r;
	const struct step steps[] = {
		L2_REFLECTED(L2_A, HVCALL_POST_MESSAGE), L2_POST(L2_A), L2_POST(L2_A),
	};
	struct event *event = intercepted ? &l1_event : &l2_event;

	relay_l1_config.intercept_events = intercepted;
	s->in_exit = inject;
	script_vm_run(s, steps, ARRAY_SIZE(steps));
	TEST_ASSERT(!s->in_exit, "Nothing was injected");
	TEST_ASSERT_EQ(event->count, 1);
	TEST_ASSERT_EQ(l1_event.count + l2_event.count, 1);
	TEST_ASSERT_EQ(event->rip, script[0].rip + HYPERCALL_INSN_SIZE);
	TEST_ASSERT_EQ(event->rax, REPLY);
}

TEST_F(script, interrupt_in_exit_to_l1)
{
	test_event(&self->s, inject_interrupt, true);
	TEST_ASSERT_EQ(nr_l1_handled, 1);
}

TEST_F(script, interrupt_in_exit_to_l2)
{
	test_event(&self->s, inject_interrupt, false);
}

TEST_F(script, nmi_in_exit_to_l1)
{
	test_event(&self->s, inject_nmi, true);
	TEST_ASSERT_EQ(nr_l1_handled, 1);
}

TEST_F(script, nmi_in_exit_to_l2)
{
	test_event(&self->s, inject_nmi, false);
}

static void assert_shadow(struct script_vm *s)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(s->r.vcpu, &events);
	TEST_ASSERT(events.interrupt.shadow, "The call isn't in the shadow of STI");
}

/* Saving completes the call, with which the shadow ends. */
static void save_restore_in_shadow(struct script_vm *s)
{
	struct kvm_vcpu_events events;
	struct kvm_lapic_state apic;

	assert_shadow(s);
	vcpu_run_complete_io(s->r.vcpu);
	vcpu_events_get(s->r.vcpu, &events);
	TEST_ASSERT(!events.interrupt.shadow, "The shadow is still there");
	vcpu_ioctl(s->r.vcpu, KVM_GET_LAPIC, &apic);
	relay_vm_save_restore(&s->r);
	vcpu_ioctl(s->r.vcpu, KVM_SET_LAPIC, &apic);
	/* VMMs set events after nested state, which has a shadow of its own. */
	vcpu_events_set(s->r.vcpu, &events);
	relay_vm_set_mask(&s->r, RELAY_ALL);
	s->in_exit = NULL;
}

static void inject_before_call(struct script_vm *s, enum stage stage)
{
	if (stage == BEFORE_CALL)
		send_interrupt(s);
}

/* The interrupt is there before the call, and comes right after it. */
static void run_after_sti(struct script_vm *s, struct step step)
{
	step.after_sti = true;
	s->at_stage = inject_before_call;
	script_vm_run(s, &step, 1);
}

/*
 * Bochs forgets KVM's V_IRQ when L2 exits in the shadow.  See if that is so without
 * the relay, with a call that KVM handles anyway.
 */
static bool interrupt_gets_lost(void)
{
	struct script_vm s;

	if (!kvm_hv_cpu_has(HV_X64_NESTED_DIRECT_FLUSH) || script_vm_create(&s))
		return false;

	relay_vm_set_mask(&s.r, 0);
	run_after_sti(&s, (struct step)L2_FLUSH(L2_A, false));
	kvm_vm_free(s.r.vm);
	return !l2_event.count;
}

static void test_after_sti(struct script_vm *s, struct step step, u64 rax)
{
	run_after_sti(s, step);
	TEST_ASSERT_EQ(l2_event.count, 1);
	TEST_ASSERT_EQ(l2_event.rip, script[0].rip);
	TEST_ASSERT_EQ(l2_event.rax, rax);
}

TEST_F(script, delivered_after_sti)
{
	struct relay_vm *r = &self->s.r;

	if (interrupt_gets_lost())
		SKIP(return, "the CPU loses interrupts, without the relay as well");

	self->s.in_exit = assert_shadow;
	test_after_sti(&self->s, (struct step)L2_POST(L2_A), REPLY);
}

TEST_F(script, completed_after_sti)
{
	if (interrupt_gets_lost())
		SKIP(return, "the CPU loses interrupts, without the relay as well");

	test_after_sti(&self->s, (struct step)L2_SIGNAL(L2_A), HV_STATUS_SUCCESS);
}

TEST_F(script, save_restore_after_sti)
{
	struct relay_vm *r = &self->s.r;

	self->s.in_exit = save_restore_in_shadow;
	test_after_sti(&self->s, (struct step)L2_POST(L2_A), REPLY);
	TEST_ASSERT(!self->s.in_exit, "Nothing was saved");
}

TEST_F(script, smi_in_exit)
{
	struct relay_vm *r = &self->s.r;
	const struct step steps[] = {
		L2_POST(L2_A), L2_POST(L2_A), L2_REFLECTED(L2_B, post_of(r)),
		L2_SIGNAL(L2_A), L2_POST(L2_A),
	};

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "no SMM");

	self->s.in_exit = inject_smi_in_exit;
	script_vm_run(&self->s, steps, ARRAY_SIZE(steps));
	TEST_ASSERT_EQ(self->s.nr_smis, 1);
	TEST_ASSERT_EQ(read_signals(self->eventfd), 1);
}

FIXTURE(save_restore) {
	struct relay_vm r;
};

FIXTURE_VARIANT(save_restore) {
	bool nested_paging;
};

FIXTURE_VARIANT_ADD(save_restore, nested_paging) {
	.nested_paging = true,
};

FIXTURE_VARIANT_ADD(save_restore, shadow_paging) {
	.nested_paging = false,
};

FIXTURE_SETUP(save_restore)
{
	const char *why_not = relay_vm_create(&self->r, variant->nested_paging);

	if (why_not)
		SKIP(return, "%s", why_not);
	relay_vm_set_mask(&self->r, RELAY_ALL);
}

FIXTURE_TEARDOWN(save_restore)
{
	kvm_vm_free(self->r.vm);
}

TEST_F(save_restore, between_calls)
{
	struct relay_vm *r = &self->r;

	assert_post_delivered(r);
	relay_vm_save_restore(r);
	assert_post_reflected(r);
	relay_vm_save_restore(r);
	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);
}

/* Between the exit and L2's next instruction. */
TEST_F(save_restore, in_exit)
{
	struct relay_vm *r = &self->r;

	assert_post_delivered(r);
	r->in_exit = relay_vm_save_restore;
	assert_post_delivered(r);
	r->in_exit = NULL;
	assert_post_reflected(r);
	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);
}

/* QEMU restores nested state in front of MSRs, i.e. without a guest OS ID. */
TEST_F(save_restore, nested_state_before_msrs)
{
	struct relay_vm *r = &self->r;
	struct kvm_x86_state *state;

	assert_post_delivered(r);

	state = vcpu_save_state(r->vcpu);
	set_guest_os_id(r->vcpu, 0);
	vcpu_nested_state_set(r->vcpu, &state->nested);
	set_guest_os_id(r->vcpu, HYPERV_LINUX_OS_ID);
	kvm_x86_state_cleanup(state);
	assert_post_delivered(r);
}

/*
 * The result of a call is for where it was made, no matter what has become of the
 * vCPU since then.
 */
FIXTURE(completion) {
	struct relay_vm r;
};

FIXTURE_SETUP(completion)
{
	const char *why_not = relay_vm_create(&self->r, kvm_cpu_has_tdp());

	if (why_not)
		SKIP(return, "%s", why_not);
	relay_vm_set_mask(&self->r, RELAY_ALL);
}

FIXTURE_TEARDOWN(completion)
{
	kvm_vm_free(self->r.vm);
}

/* Leave the vCPU in the middle of its second call, with userspace's answer. */
static void run_into_exit(struct relay_vm *r)
{
	if (relay_calls_from_l1)
		relay_vm_call(r, HVCALL_POST_MESSAGE, r->msg_l1_gpa);
	else
		assert_post_delivered(r);

	vcpu_run(r->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(r->vcpu, KVM_EXIT_HYPERV);
	r->vcpu->run->hyperv.u.hcall.result = REPLY;
}

static void assert_completed(struct relay_vm *r, bool completed)
{
	struct kvm_regs before, after;

	vcpu_regs_get(r->vcpu, &before);
	TEST_ASSERT(before.rax != REPLY, "RAX is the result already");
	vcpu_run_complete_io(r->vcpu);
	if (completed) {
		before.rax = REPLY;
		before.rip += HYPERCALL_INSN_SIZE;
	}
	vcpu_regs_get(r->vcpu, &after);
	TEST_ASSERT(!memcmp(&before, &after, sizeof(before)),
		    "RAX 0x%llx, RIP 0x%llx; wanted 0x%llx, 0x%llx", after.rax, after.rip,
		    before.rax, before.rip);
}

static void move_rip(struct relay_vm *r)
{
	struct kvm_regs regs;

	vcpu_regs_get(r->vcpu, &regs);
	regs.rip += 0x10;
	vcpu_regs_set(r->vcpu, &regs);
}

TEST_F(completion, of_l2)
{
	run_into_exit(&self->r);
	assert_completed(&self->r, true);
}

TEST_F(completion, of_l1)
{
	relay_calls_from_l1 = true;
	run_into_exit(&self->r);
	assert_completed(&self->r, true);
}

TEST_F(completion, rip_of_l2_moved)
{
	run_into_exit(&self->r);
	move_rip(&self->r);
	assert_completed(&self->r, false);
}

TEST_F(completion, rip_of_l1_moved)
{
	relay_calls_from_l1 = true;
	run_into_exit(&self->r);
	move_rip(&self->r);
	assert_completed(&self->r, false);
}

/* Out of guest mode, with the registers as they were: only L2 is gone. */
TEST_F(completion, left_guest_mode)
{
	struct kvm_vcpu *vcpu = self->r.vcpu;
	struct kvm_nested_state state = {
		.size = sizeof(state),
	};
	struct kvm_regs regs;

	if (kvm_cpu_has(X86_FEATURE_VMX)) {
		state.format = KVM_STATE_NESTED_FORMAT_VMX;
		state.hdr.vmx.vmxon_pa = -1ull;
		state.hdr.vmx.vmcs12_pa = -1ull;
	} else {
		state.format = KVM_STATE_NESTED_FORMAT_SVM;
		state.flags = KVM_STATE_NESTED_GIF_SET;
	}

	run_into_exit(&self->r);
	vcpu_regs_get(vcpu, &regs);
	vcpu_nested_state_set(vcpu, &state);
	vcpu_regs_set(vcpu, &regs);
	assert_completed(&self->r, false);
}

/* Reading the MP state is enough for KVM to take the INIT, which L1 intercepts. */
TEST_F(completion, init)
{
	struct kvm_vcpu *vcpu = self->r.vcpu;
	struct kvm_nested_state_buf buf;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;

	run_into_exit(&self->r);

	vcpu_events_get(vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	events.smi.latched_init = 1;
	vcpu_events_set(vcpu, &events);
	vcpu_mp_state_get(vcpu, &mp_state);
	get_nested_state(vcpu, &buf);
	TEST_ASSERT(!(buf.state.flags & KVM_STATE_NESTED_GUEST_MODE), "Still in L2");

	assert_completed(&self->r, false);
}

/* As another vCPU of L1 may.  It is for L1's next entry, not for this call. */
static void take_back_consent(struct relay_vm *r)
{
	struct hv_vp_assist_page *assist = r->hv->vp_assist_hva;
	struct hv_enlightened_vmcs *evmcs = r->hv->enlightened_vmcs_hva;
	struct svm_test_data *svm = r->nested;
	struct hv_vmcb_enlightenments *enl;

	if (kvm_cpu_has(X86_FEATURE_VMX)) {
		evmcs->hv_enlightenments_control.nested_flush_hypercall = 0;
	} else {
		enl = &((struct vmcb *)svm->vmcb_hva)->control.hv_enlightenments;
		enl->hv_enlightenments_control.nested_flush_hypercall = 0;
	}
	assist->nested_control.features.directhypercall = 0;
}

TEST_F(completion, consent_taken_back)
{
	struct relay_vm *r = &self->r;
	struct ucall uc;

	run_into_exit(r);
	take_back_consent(r);
	assert_completed(r, true);

	/* Have L1 enter L2 again. */
	vcpu_run(r->vcpu);
	TEST_ASSERT_EQ(get_ucall(r->vcpu, &uc), UCALL_SYNC);
	assert_reflected(r, HVCALL_POST_MESSAGE, r->msg_gpa);
	assert_post_reflected(r);
	assert_reflected(r, SIGNAL | FAST, CONN_ID);
}

/* What comes after an instruction comes after the call, of whoever. */
static void test_single_step(struct relay_vm *r)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
	};
	struct kvm_run *run = r->vcpu->run;
	struct kvm_regs before, after;

	run_into_exit(r);
	vcpu_regs_get(r->vcpu, &before);
	vcpu_guest_debug_set(r->vcpu, &debug);
	vcpu_run(r->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(r->vcpu, KVM_EXIT_DEBUG);
	TEST_ASSERT_EQ(run->debug.arch.exception, DB_VECTOR);
	TEST_ASSERT_EQ(run->debug.arch.pc, before.rip + HYPERCALL_INSN_SIZE);

	vcpu_regs_get(r->vcpu, &after);
	TEST_ASSERT_EQ(after.rip, before.rip + HYPERCALL_INSN_SIZE);
	TEST_ASSERT_EQ(after.rax, REPLY);
}

TEST_F(completion, single_step_of_l2)
{
	test_single_step(&self->r);
}

TEST_F(completion, single_step_of_l1)
{
	relay_calls_from_l1 = true;
	test_single_step(&self->r);
}

static struct event db_event;

static __attribute__((target("general-regs-only"))) void db_handler(struct ex_regs *regs)
{
	db_event.count++;
	db_event.rip = regs->rip;
	db_event.rax = regs->rax;
	regs->rflags &= ~(u64)X86_EFLAGS_TF;
}

static void test_trap_flag(struct relay_vm *r)
{
	struct kvm_regs regs;
	struct ucall uc;

	vm_install_exception_handler(r->vm, DB_VECTOR, db_handler);
	memset(&db_event, 0, sizeof(db_event));
	sync_global_to_guest(r->vm, db_event);

	run_into_exit(r);
	vcpu_regs_get(r->vcpu, &regs);
	regs.rflags |= X86_EFLAGS_TF;
	vcpu_regs_set(r->vcpu, &regs);
	vcpu_run(r->vcpu);
	TEST_ASSERT_EQ(get_ucall(r->vcpu, &uc), UCALL_SYNC);

	sync_global_from_guest(r->vm, db_event);
	TEST_ASSERT_EQ(db_event.count, 1);
	TEST_ASSERT_EQ(db_event.rip, regs.rip + HYPERCALL_INSN_SIZE);
	TEST_ASSERT_EQ(db_event.rax, REPLY);
}

TEST_F(completion, trap_flag_of_l2)
{
	test_trap_flag(&self->r);
}

TEST_F(completion, trap_flag_of_l1)
{
	relay_calls_from_l1 = true;
	test_trap_flag(&self->r);
}

/* As after STI: the call is the one instruction that the shadow is for. */
static void test_interrupt_shadow(struct relay_vm *r)
{
	struct kvm_vcpu_events events;

	run_into_exit(r);
	vcpu_events_get(r->vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_SHADOW;
	events.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	vcpu_events_set(r->vcpu, &events);
	vcpu_events_get(r->vcpu, &events);
	TEST_ASSERT(events.interrupt.shadow, "No shadow to begin with");

	assert_completed(r, true);
	vcpu_events_get(r->vcpu, &events);
	TEST_ASSERT(!events.interrupt.shadow, "The shadow is still there");
}

TEST_F(completion, interrupt_shadow_of_l2)
{
	test_interrupt_shadow(&self->r);
}

TEST_F(completion, interrupt_shadow_of_l1)
{
	relay_calls_from_l1 = true;
	test_interrupt_shadow(&self->r);
}

/* L1 steps over L2's call with the monitor trap flag. */
static u64 mtf_want_rax;

static void mtf_l1_main(void *nested, struct hyperv_test_pages *hv)
{
	struct hv_l1 l1 = { .vmx = nested, .hv = hv };
	struct hv_l1_config config = relay_l1_config;
	u64 rip;

	hv_l1_init(&l1, &config, relay_caller_main);

	/* The relay is off yet: the call comes here, and L2 is at it. */
	hv_l1_enter(&l1);
	GUEST_ASSERT(hv_l1_exit_is_hcall(&l1));
	rip = hv_l1_get_rip(&l1);
	GUEST_SYNC(0);

	vmwrite(CPU_BASED_VM_EXEC_CONTROL,
		vmreadz(CPU_BASED_VM_EXEC_CONTROL) | CPU_BASED_MONITOR_TRAP);
	hv_l1_enter(&l1);
	GUEST_ASSERT_EQ(hv_l1_exit_reason(&l1), EXIT_REASON_MONITOR_TRAP_FLAG);
	GUEST_ASSERT_EQ(hv_l1_get_rip(&l1), rip + HYPERCALL_INSN_SIZE);
	GUEST_ASSERT_EQ(guest_regs.rax, mtf_want_rax);
	/* The next one is another instruction's. */
	hv_l1_enter(&l1);
	GUEST_ASSERT_EQ(hv_l1_exit_reason(&l1), EXIT_REASON_MONITOR_TRAP_FLAG);
	GUEST_ASSERT(hv_l1_get_rip(&l1) > rip + HYPERCALL_INSN_SIZE);
	GUEST_DONE();
}

FIXTURE(mtf) {
	struct relay_vm r;
	int eventfd;
};

FIXTURE_SETUP(mtf)
{
	const char *why_not;

	if (!kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "VMX only, SVM has no monitor trap flag");

	if (!(kvm_get_feature_msr(MSR_IA32_VMX_TRUE_PROCBASED_CTLS) >> 32 &
	      CPU_BASED_MONITOR_TRAP))
		SKIP(return, "no monitor trap flag");

	why_not = __relay_vm_create(&self->r, kvm_cpu_has_tdp(), mtf_l1_main, 1);
	if (why_not)
		SKIP(return, "%s", why_not);
	vcpu_enable_cap(self->r.vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	self->eventfd = relay_vm_add_eventfd(&self->r);
}

FIXTURE_TEARDOWN(mtf)
{
	close(self->eventfd);
	kvm_vm_free(self->r.vm);
}

static void test_mtf(struct relay_vm *r, u64 control, u64 input, u64 rax, u64 delivered)
{
	mtf_want_rax = rax;
	sync_global_to_guest(r->vm, mtf_want_rax);
	relay_hcall_in.rcx = control;
	relay_hcall_in.rdx = input;
	relay_vm_run(r);
	assert_outcome(r, 0, 0, 0, 0);

	relay_vm_set_mask(r, RELAY_ALL);
	relay_vm_run(r);
	assert_outcome(r, delivered, 0, 0, 1);
}

TEST_F(mtf, delivered)
{
	test_mtf(&self->r, post_of(&self->r), self->r.msg_gpa, REPLY, 1);
}

TEST_F(mtf, completed)
{
	test_mtf(&self->r, SIGNAL | FAST, CONN_ID, HV_STATUS_SUCCESS, 0);
	TEST_ASSERT_EQ(read_signals(self->eventfd), 1);
}

TEST_F(mtf, failed)
{
	test_mtf(&self->r, SIGNAL | FAST | BIT_ULL(63), CONN_ID,
		 HV_STATUS_INVALID_HYPERCALL_INPUT, 0);
}

TEST_F(mtf, save_restore)
{
	self->r.in_exit = relay_vm_save_restore;
	test_mtf(&self->r, post_of(&self->r), self->r.msg_gpa, REPLY, 1);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_nested());
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_NESTED_HYPERV_HCALL_RELAY));

	return test_harness_run(argc, argv);
}
