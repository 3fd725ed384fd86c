// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests for KVM_CAP_NESTED_HYPERV_HCALL_RELAY: hypercalls that L2, as the root
 * partition of a nested Hyper-V, makes to L0.
 *
 * Each case runs an L2 that makes one hypercall at a time with all of its
 * registers under control, under an L1 that counts the hypercalls that reach
 * it.  A call has one of three outcomes: it is delivered to userspace, KVM
 * completes it with a status, or it is reflected to L1.
 *
 * With --demo, show a few calls in a form for people instead.
 */
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm_test_harness.h"
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "hyperv_nested.h"

#define RELAY_POST	KVM_NESTED_HYPERV_RELAY_POST_MESSAGE
#define RELAY_SIGNAL	KVM_NESTED_HYPERV_RELAY_SIGNAL_EVENT
#define RELAY_ALL	(RELAY_POST | RELAY_SIGNAL)

#define POST		(HV_HYPERCALL_NESTED | HVCALL_POST_MESSAGE)
#define SIGNAL		(HV_HYPERCALL_NESTED | HVCALL_SIGNAL_EVENT)
#define FAST		HV_HYPERCALL_FAST_BIT

#define CONN_ID		0x42

/* How many calls to make while a gate opens and closes. */
#define NR_FLIPPED_CALLS	20000

/* What L1 puts into L2's RAX when a hypercall is reflected to it. */
#define REFLECTED_RAX	0x4c31ULL

/* What userspace answers, all of RAX is to carry it. */
#define REPLY		0x1234567800000abcULL

/*
 * L2's page for messages.  With nested paging, its L2 GPA is one that is no L1
 * GPA.  The page in front of it isn't mapped, the one behind it is, but not to
 * the L1 page that follows: that one holds a secret of L1's.
 */
#define MSG_GVA		0x10000000ULL
#define MSG_L2_GPA	0x140000000ULL

/* Shared with guest code. */
static struct hv_l1_config l1_config;
static bool calls_from_l1, write_msg;
static u64 nr_calls;		/* between two looks of the host */
static u64 nr_reflected, nr_completed;
static u64 msg_offset;
static u8 msg[HV_POST_MESSAGE_INPUT_SIZE];
static struct {
	u64 count;
	u64 rip;
	struct guest_regs regs;
} l1_seen;
static u64 nr_uds;

/* Not static, for the sake of do_hypercall(). */
struct guest_regs hcall_in, hcall_out;
u64 hcall_saved_rbp;
bool hcall_is_vmmcall;

#define LOAD_REG(reg)	"mov hcall_in + %c[off_" #reg "](%%rip), %%" #reg "\n\t"
#define STORE_REG(reg)	"mov %%" #reg ", hcall_out + %c[off_" #reg "](%%rip)\n\t"
#define ALL_REGS(op)							\
	op(rax) op(rbx) op(rcx) op(rdx) op(rsi) op(rdi) op(rbp) op(r8)	\
	op(r9) op(r10) op(r11) op(r12) op(r13) op(r14) op(r15)

/* Make a hypercall with the GPRs of hcall_in, store all that follows from it. */
static noinline void do_hypercall(void)
{
	asm volatile("lea -128(%%rsp), %%rsp\n\t"
		     "mov %%rbp, hcall_saved_rbp(%%rip)\n\t"
		     "cmpb $0, hcall_is_vmmcall(%%rip)\n\t"
		     "pushfq\n\t"
		     "popq hcall_in + %c[off_rflags](%%rip)\n\t"
		     "mov %%rsp, hcall_in + %c[off_rsp](%%rip)\n\t"
		     ALL_REGS(LOAD_REG)
		     "jne 1f\n\t"
		     "vmcall\n\t"
		     "jmp 2f\n\t"
		     "1: vmmcall\n\t"
		     "2:\n\t"
		     ALL_REGS(STORE_REG)
		     "mov %%rsp, hcall_out + %c[off_rsp](%%rip)\n\t"
		     "pushfq\n\t"
		     "popq hcall_out + %c[off_rflags](%%rip)\n\t"
		     "mov hcall_saved_rbp(%%rip), %%rbp\n\t"
		     "lea 128(%%rsp), %%rsp\n\t"
		     :: GUEST_REGS_OFFSETS
		     : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9",
		       "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory");
}

/* Runs in L2, or in L1 if @calls_from_l1. */
static void caller_main(void)
{
	u64 i;

	for (;;) {
		if (write_msg)
			memcpy((void *)MSG_GVA + msg_offset, msg, sizeof(msg));

		for (i = 0; i < nr_calls; i++) {
			do_hypercall();
			if (hcall_out.rax == REFLECTED_RAX)
				nr_reflected++;
			else if (hcall_out.rax == HV_STATUS_SUCCESS)
				nr_completed++;
		}
		GUEST_SYNC(0);
	}
}

static void ud_handler(struct ex_regs *regs)
{
	nr_uds++;
	regs->rip += HYPERCALL_INSN_SIZE;
}

static void l1_main(void *nested, struct hyperv_test_pages *hv)
{
	struct hv_l1_config config = l1_config;
	struct hv_l1 l1 = { .hv = hv };

	if (this_cpu_has(X86_FEATURE_VMX))
		l1.vmx = nested;
	else
		l1.svm = nested;

	if (calls_from_l1) {
		wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
		caller_main();
	}

	hv_l1_init(&l1, &config, caller_main);
	if (config.mode != HV_L2_LONG)
		guest_regs = hcall_in;

	for (;;) {
		hv_l1_enter(&l1);
		__GUEST_ASSERT(hv_l1_exit_is_hcall(&l1),
			       "Wanted a hypercall exit, got 0x%lx",
			       hv_l1_exit_reason(&l1));

		l1_seen.count++;
		l1_seen.rip = hv_l1_get_rip(&l1);
		l1_seen.regs = guest_regs;

		if (config.mode != HV_L2_LONG)
			GUEST_DONE();

		if (memcmp(&config, &l1_config, sizeof(config))) {
			config = l1_config;
			hv_l1_authorize(&l1, &config);
		}
		guest_regs.rax = REFLECTED_RAX;
		hv_l1_set_rip(&l1, l1_seen.rip + HYPERCALL_INSN_SIZE);
	}
}

struct relay_vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	bool nested_paging;
	gpa_t msg_gpa;		/* what L2 says */
	gpa_t msg_l1_gpa;	/* what userspace is to see */
	gpa_t code_gpa;		/* for L2 without paging */

	/* Outcome of the last call, besides hcall_out, l1_seen and nr_uds. */
	u64 delivered;
	struct kvm_hyperv_exit exit;
	u8 payload[HV_POST_MESSAGE_INPUT_SIZE];
	u64 nr_kept;		/* by the stat, added up over vCPUs */

	bool save_in_exit;	/* save and restore before L2 sees the result */
};

/* Returns NULL if the relay can be tested here, otherwise why it can't. */
static const char *__relay_vm_create(struct relay_vm *r, bool nested_paging)
{
	gva_t nested_gva, hv_gva;
	gpa_t msg_gpa;

	if (!kvm_check_cap(KVM_CAP_NESTED_STATE))
		return "nested virtualization is off";
	if (kvm_cpu_has(X86_FEATURE_VMX) &&
	    !kvm_has_cap(KVM_CAP_HYPERV_ENLIGHTENED_VMCS))
		return "no enlightened VMCS";
	if (nested_paging && !kvm_cpu_has_tdp())
		return "no nested EPT/NPT on this host";

	memset(r, 0, sizeof(*r));
	r->nested_paging = nested_paging;
	r->vm = vm_create_with_one_vcpu(&r->vcpu, l1_main);
	if (nested_paging)
		vm_enable_tdp(r->vm);

	vcpu_alloc_hv_l1(r->vcpu, &nested_gva, &hv_gva);
	vcpu_args_set(r->vcpu, 2, nested_gva, hv_gva);
	vm_install_exception_handler(r->vm, UD_VECTOR, ud_handler);

	msg_gpa = vm_phy_pages_alloc(r->vm, 3, 0x200000, 0);
	r->code_gpa = vm_phy_page_alloc(r->vm, 0x200000, 0);
	r->msg_l1_gpa = msg_gpa;
	r->msg_gpa = nested_paging ? MSG_L2_GPA : msg_gpa;
	memset(addr_gpa2hva(r->vm, msg_gpa + PAGE_SIZE), 's', PAGE_SIZE);
	virt_pg_map(r->vm, MSG_GVA, r->msg_gpa);

	if (nested_paging) {
		tdp_identity_map_default_memslots(r->vm);
		tdp_map(r->vm, MSG_L2_GPA, msg_gpa, PAGE_SIZE);
		tdp_map(r->vm, MSG_L2_GPA + PAGE_SIZE, msg_gpa + 2 * PAGE_SIZE,
			PAGE_SIZE);
	}

	l1_config = (struct hv_l1_config) {
		.guest_os_id	= HYPERV_LINUX_OS_ID,
		.enlightened	= true,
		.direct_vmcs	= true,
		.direct_assist	= true,
		.l2_code_gpa	= r->code_gpa,
	};
	calls_from_l1 = false;
	nr_calls = 1;
	write_msg = false;
	hcall_is_vmmcall = !kvm_cpu_has(X86_FEATURE_VMX);
	return NULL;
}

/* The same, with an active SynIC, without which KVM delivers nothing at all. */
static const char *relay_vm_create(struct relay_vm *r, bool nested_paging)
{
	const char *why_not = __relay_vm_create(r, nested_paging);

	if (!why_not)
		vcpu_enable_cap(r->vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	return why_not;
}

static void relay_vm_set_mask(struct relay_vm *r, u64 mask)
{
	vm_enable_cap(r->vm, KVM_CAP_NESTED_HYPERV_HCALL_RELAY, mask);
}

/* It is the VM's, any vCPU will do. */
static void set_guest_os_id(struct kvm_vcpu *vcpu, u64 id)
{
	vcpu_set_msr(vcpu, HV_X64_MSR_GUEST_OS_ID, id);
}

/* Returns an eventfd that counts the signals of CONN_ID. */
static int relay_vm_add_eventfd(struct relay_vm *r)
{
	struct kvm_hyperv_eventfd args = {
		.conn_id = CONN_ID,
		.fd = eventfd(0, EFD_NONBLOCK),
	};

	TEST_ASSERT(args.fd >= 0, "eventfd() failed");
	vm_ioctl(r->vm, KVM_HYPERV_EVENTFD, &args);
	return args.fd;
}

static void relay_vm_record_exit(struct relay_vm *r)
{
	struct kvm_run *run = r->vcpu->run;
	gpa_t gpa = run->hyperv.u.hcall.params[0];

	TEST_ASSERT_EQ(run->hyperv.type, KVM_EXIT_HYPERV_HCALL);

	r->delivered++;
	r->exit = run->hyperv;
	if (!(r->exit.u.hcall.input & FAST) && gpa >> PAGE_SHIFT ==
	    r->msg_l1_gpa >> PAGE_SHIFT)
		memcpy(r->payload, addr_gpa2hva(r->vm, gpa), sizeof(r->payload));

	run->hyperv.u.hcall.result = REPLY;
}

/*
 * Save the VM, with the vCPU wherever it is, and restore it into a new one.  The
 * capability is configuration, i.e. is off until it is enabled again.
 */
static void relay_vm_save_restore(struct relay_vm *r)
{
	struct kvm_x86_state *state = vcpu_save_state(r->vcpu);

	r->nr_kept += vcpu_get_stat(r->vcpu, nested_hv_hypercalls);
	kvm_vm_release(r->vm);
	r->vcpu = vm_recreate_with_one_vcpu(r->vm);
	vcpu_set_hv_cpuid(r->vcpu);
	if (kvm_cpu_has(X86_FEATURE_VMX))
		vcpu_enable_evmcs(r->vcpu);
	vcpu_enable_cap(r->vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	vcpu_load_state(r->vcpu, state);
	kvm_x86_state_cleanup(state);
}

/* Run one hypercall to its end, with the registers that are in hcall_in. */
static void relay_vm_run(struct relay_vm *r)
{
	struct ucall uc;

	memset(&l1_seen, 0, sizeof(l1_seen));
	memset(r->payload, 0, sizeof(r->payload));
	r->nr_kept = -vcpu_get_stat(r->vcpu, nested_hv_hypercalls);
	r->delivered = 0;
	nr_reflected = 0;
	nr_completed = 0;
	nr_uds = 0;

	sync_global_to_guest(r->vm, l1_config);
	sync_global_to_guest(r->vm, calls_from_l1);
	sync_global_to_guest(r->vm, nr_calls);
	sync_global_to_guest(r->vm, nr_reflected);
	sync_global_to_guest(r->vm, nr_completed);
	sync_global_to_guest(r->vm, msg_offset);
	sync_global_to_guest(r->vm, msg);
	sync_global_to_guest(r->vm, write_msg);
	sync_global_to_guest(r->vm, hcall_in);
	sync_global_to_guest(r->vm, hcall_is_vmmcall);
	sync_global_to_guest(r->vm, l1_seen);
	sync_global_to_guest(r->vm, nr_uds);

	for (;;) {
		vcpu_run(r->vcpu);
		if (r->vcpu->run->exit_reason != KVM_EXIT_HYPERV)
			break;
		relay_vm_record_exit(r);
		if (r->save_in_exit)
			relay_vm_save_restore(r);
	}

	switch (get_ucall(r->vcpu, &uc)) {
	case UCALL_SYNC:
	case UCALL_DONE:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Unexpected exit reason: %s",
			  exit_reason_str(r->vcpu->run->exit_reason));
	}

	sync_global_from_guest(r->vm, hcall_in);
	sync_global_from_guest(r->vm, hcall_out);
	sync_global_from_guest(r->vm, l1_seen);
	sync_global_from_guest(r->vm, nr_reflected);
	sync_global_from_guest(r->vm, nr_completed);
	sync_global_from_guest(r->vm, nr_uds);
	r->nr_kept += vcpu_get_stat(r->vcpu, nested_hv_hypercalls);
}

/* A 64-bit call, garbage in all registers that aren't its operands. */
static void relay_vm_call(struct relay_vm *r, u64 control, u64 input)
{
	u64 *reg = (u64 *)&hcall_in;
	int i;

	for (i = 0; i < sizeof(hcall_in) / sizeof(*reg); i++)
		reg[i] = 0xa5a5000000000000ULL | (i + 1) * 0x101;
	hcall_in.rcx = control;
	hcall_in.rdx = input;

	relay_vm_run(r);

	/* No matter what became of the call, only RAX and RIP may change. */
	hcall_in.rax = hcall_out.rax;
	for (i = 0; i < sizeof(hcall_in) / sizeof(*reg); i++)
		TEST_ASSERT(reg[i] == ((u64 *)&hcall_out)[i],
			    "Register %d changed from 0x%lx to 0x%lx", i,
			    reg[i], ((u64 *)&hcall_out)[i]);
}

static void assert_outcome(struct relay_vm *r, u64 delivered, u64 reflected,
			   u64 uds, u64 kept)
{
	TEST_ASSERT(r->delivered == delivered && l1_seen.count == reflected &&
		    nr_uds == uds && r->nr_kept == kept,
		    "Wanted delivered %lu, reflected %lu, #UD %lu, stat %lu; got %lu, %lu, %lu, %lu (RAX 0x%lx)",
		    delivered, reflected, uds, kept, r->delivered, l1_seen.count,
		    nr_uds, r->nr_kept, hcall_out.rax);
}

static void assert_reflected(struct relay_vm *r, u64 control, u64 input)
{
	relay_vm_call(r, control, input);
	assert_outcome(r, 0, 1, 0, 0);
	TEST_ASSERT_EQ(hcall_out.rax, REFLECTED_RAX);

	/* L1 must see what L2 said, also in the control word. */
	TEST_ASSERT_EQ(l1_seen.regs.rcx, control);
	TEST_ASSERT_EQ(l1_seen.regs.rdx, input);
	TEST_ASSERT_EQ(l1_seen.regs.r8, hcall_in.r8);
}

static void assert_delivered(struct relay_vm *r, u64 control, u64 input, u64 param)
{
	relay_vm_call(r, control, input);
	assert_outcome(r, 1, 0, 0, 1);
	TEST_ASSERT_EQ(r->exit.u.hcall.input, control & ~HV_HYPERCALL_NESTED);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[0], param);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[1], hcall_in.r8);
	TEST_ASSERT_EQ(hcall_out.rax, REPLY);
}

/* The call is kept from L1, but KVM completes it. */
static void assert_status(struct relay_vm *r, u64 control, u64 input, u64 status)
{
	relay_vm_call(r, control, input);
	assert_outcome(r, 0, 0, 0, 1);
	TEST_ASSERT_EQ(hcall_out.rax, status);
}

static void assert_post_delivered(struct relay_vm *r)
{
	assert_delivered(r, POST, r->msg_gpa, r->msg_l1_gpa);
}

FIXTURE(relay) {
	struct relay_vm r;
};

FIXTURE_VARIANT(relay) {
	bool nested_paging;
};

FIXTURE_VARIANT_ADD(relay, nested_paging) {
	.nested_paging = true,
};

FIXTURE_VARIANT_ADD(relay, shadow_paging) {
	.nested_paging = false,
};

FIXTURE_SETUP(relay)
{
	const char *why_not = relay_vm_create(&self->r, variant->nested_paging);

	if (why_not)
		SKIP(return, "%s", why_not);
}

FIXTURE_TEARDOWN(relay)
{
	kvm_vm_free(self->r.vm);
}

TEST_F(relay, off_reflects)
{
	assert_reflected(&self->r, POST, self->r.msg_gpa);
	assert_reflected(&self->r, SIGNAL | FAST, CONN_ID);
}

TEST_F(relay, post_delivered_with_payload)
{
	struct relay_vm *r = &self->r;
	int i;

	relay_vm_set_mask(r, RELAY_ALL);
	for (i = 0; i < sizeof(msg); i++)
		msg[i] = i ^ 0x5a;
	msg_offset = 0x240;
	write_msg = true;
	assert_delivered(r, POST, r->msg_gpa + msg_offset,
			 r->msg_l1_gpa + msg_offset);
	TEST_ASSERT(!memcmp(r->payload, msg, sizeof(msg)), "Payload differs");
}

/* KVM has no use for a fast post, that is for userspace to say. */
TEST_F(relay, fast_post_delivered_with_value)
{
	relay_vm_set_mask(&self->r, RELAY_ALL);
	assert_delivered(&self->r, POST | FAST, 0x123456789abcdef1, 0x123456789abcdef1);
}

TEST_F(relay, mask_takes_effect_at_next_exit)
{
	struct relay_vm *r = &self->r;
	int i;

	for (i = 0; i < 3; i++) {
		relay_vm_set_mask(r, RELAY_ALL);
		assert_post_delivered(r);
		relay_vm_set_mask(r, 0);
		assert_reflected(r, POST, r->msg_gpa);
	}
}

TEST_F(relay, mask_selects_post_only)
{
	relay_vm_set_mask(&self->r, RELAY_POST);
	assert_post_delivered(&self->r);
	assert_reflected(&self->r, SIGNAL | FAST, CONN_ID);
}

TEST_F(relay, mask_selects_signal_only)
{
	relay_vm_set_mask(&self->r, RELAY_SIGNAL);
	assert_reflected(&self->r, POST, self->r.msg_gpa);
	assert_delivered(&self->r, SIGNAL | FAST, CONN_ID, CONN_ID);
}

TEST_F(relay, no_nested_bit_reflects)
{
	relay_vm_set_mask(&self->r, RELAY_ALL);
	assert_reflected(&self->r, HVCALL_POST_MESSAGE, self->r.msg_gpa);
	assert_reflected(&self->r, HVCALL_SIGNAL_EVENT | FAST, CONN_ID);
	/* Bit 31 of the control word, no other. */
	assert_reflected(&self->r, HVCALL_POST_MESSAGE | BIT_ULL(63), self->r.msg_gpa);
}

TEST_F(relay, other_codes_reflect)
{
	static const u16 codes[] = {
		0x0000, 0x0001, 0x000b, 0x005b, 0x005e, 0x00c1, 0x015c, 0x025d,
		0x105c, 0x4005, 0x5c00, 0x8001, 0x805c, 0x805d, 0xffff,
	};
	int i;

	relay_vm_set_mask(&self->r, RELAY_ALL);
	for (i = 0; i < ARRAY_SIZE(codes); i++)
		assert_reflected(&self->r, HV_HYPERCALL_NESTED | codes[i],
				 self->r.msg_gpa);
}

TEST_F(relay, not_authorized_in_vmcs_reflects)
{
	relay_vm_set_mask(&self->r, RELAY_ALL);
	l1_config.direct_vmcs = false;
	assert_reflected(&self->r, POST, self->r.msg_gpa);
	assert_reflected(&self->r, SIGNAL | FAST, CONN_ID);
}

TEST_F(relay, not_authorized_in_assist_page_reflects)
{
	relay_vm_set_mask(&self->r, RELAY_ALL);
	l1_config.direct_assist = false;
	assert_reflected(&self->r, POST, self->r.msg_gpa);
	assert_reflected(&self->r, SIGNAL | FAST, CONN_ID);
}

/* Any call that goes to L1 makes it do what l1_config now says. */
static void l1_apply_config(struct relay_vm *r)
{
	assert_reflected(r, HVCALL_POST_MESSAGE, r->msg_gpa);
}

TEST_F(relay, l1_may_change_its_mind)
{
	struct relay_vm *r = &self->r;

	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);

	l1_config.direct_vmcs = false;
	l1_apply_config(r);
	assert_reflected(r, POST, r->msg_gpa);

	l1_config.direct_vmcs = true;
	l1_config.direct_assist = false;
	l1_apply_config(r);
	assert_reflected(r, POST, r->msg_gpa);

	l1_config.direct_assist = true;
	l1_apply_config(r);
	assert_post_delivered(r);
}

TEST_F(relay, vp_assist_page_disabled_reflects)
{
	struct relay_vm *r = &self->r;

	if (kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "SVM only, there is no eVMCS without the VP assist page");

	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);

	/* The page still says yes, but is no VP assist page any more. */
	l1_config.no_vp_assist = true;
	l1_apply_config(r);
	assert_reflected(r, POST, r->msg_gpa);
}

/* What L1 said in its VMCB while it was no Hyper-V guest doesn't count. */
TEST_F(relay, guest_os_id_set_after_entry)
{
	struct relay_vm *r = &self->r;

	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);

	l1_config.guest_os_id = 0;
	l1_config.direct_vmcs = false;
	l1_apply_config(r);
	set_guest_os_id(r->vcpu, HYPERV_LINUX_OS_ID);
	assert_reflected(r, POST, r->msg_gpa);
}

TEST_F(relay, save_restore)
{
	struct relay_vm *r = &self->r;

	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);

	/* In L2, between two calls. */
	relay_vm_save_restore(r);
	assert_reflected(r, POST, r->msg_gpa);
	relay_vm_save_restore(r);
	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);

	/* In L2's call, between the exit and L2's next instruction. */
	r->save_in_exit = true;
	assert_post_delivered(r);
	r->save_in_exit = false;
	assert_reflected(r, POST, r->msg_gpa);
	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);
}

/* QEMU restores nested state in front of MSRs, i.e. without a guest OS ID. */
TEST_F(relay, nested_state_restored_before_msrs)
{
	struct relay_vm *r = &self->r;
	struct kvm_x86_state *state;

	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);

	state = vcpu_save_state(r->vcpu);
	set_guest_os_id(r->vcpu, 0);
	vcpu_nested_state_set(r->vcpu, &state->nested);
	set_guest_os_id(r->vcpu, HYPERV_LINUX_OS_ID);
	kvm_x86_state_cleanup(state);
	assert_post_delivered(r);
}

TEST_F(relay, plain_vmcs_reflects)
{
	if (!kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "VMX only, on SVM the VMCB is the enlightened VMCB");

	relay_vm_set_mask(&self->r, RELAY_ALL);
	l1_config.enlightened = false;
	assert_reflected(&self->r, POST, self->r.msg_gpa);
}

TEST_F(relay, l1_without_guest_os_id_reflects)
{
	relay_vm_set_mask(&self->r, RELAY_ALL);
	l1_config.guest_os_id = 0;
	assert_reflected(&self->r, POST, self->r.msg_gpa);
}

TEST_F(relay, xen_mode_reflects)
{
	struct kvm_xen_hvm_config config = {
		.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
		.msr = 0x40000200,
	};

	if (!(kvm_check_cap(KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL))
		SKIP(return, "no KVM_CAP_XEN_HVM");

	relay_vm_set_mask(&self->r, RELAY_ALL);
	assert_post_delivered(&self->r);
	vm_ioctl(self->r.vm, KVM_XEN_HVM_CONFIG, &config);
	assert_reflected(&self->r, POST, self->r.msg_gpa);
}

/* L1 has no nested paging to map these: its GPAs go to userspace unseen. */
TEST_F(relay, input_not_mapped)
{
	struct relay_vm *r = &self->r;
	gpa_t hole = MSG_L2_GPA - PAGE_SIZE;

	relay_vm_set_mask(r, RELAY_ALL);
	if (r->nested_paging) {
		assert_status(r, POST, hole, HV_STATUS_INVALID_HYPERCALL_INPUT);
		assert_status(r, SIGNAL, hole, HV_STATUS_INVALID_HYPERCALL_INPUT);
	} else {
		assert_delivered(r, POST, hole, hole);
	}
	/* And L2 carries on. */
	assert_post_delivered(r);
}

TEST_F(relay, input_above_maxphyaddr)
{
	struct relay_vm *r = &self->r;

	relay_vm_set_mask(r, RELAY_ALL);
	assert_status(r, POST, r->msg_gpa | BIT_ULL(r->vm->pa_bits),
		      HV_STATUS_INVALID_HYPERCALL_INPUT);
	assert_status(r, POST, r->msg_gpa | BIT_ULL(63),
		      HV_STATUS_INVALID_HYPERCALL_INPUT);
	assert_post_delivered(r);
}

/* A GPA that is fine for the CPU, but not for page tables of 4 levels. */
TEST_F(relay, input_above_page_tables)
{
	struct relay_vm *r = &self->r;
	struct kvm_sregs sregs;

	if (!variant->nested_paging)
		SKIP(return, "L1 doesn't use nested paging");
	vcpu_sregs_get(r->vcpu, &sregs);
	if (kvm_cpu_has(X86_FEATURE_SVM) && (sregs.cr4 & X86_CR4_LA57))
		SKIP(return, "L1's NPT has 5 levels");

	vcpu_set_cpuid_property(r->vcpu, X86_PROPERTY_MAX_PHY_ADDR, 52);
	relay_vm_set_mask(r, RELAY_ALL);
	assert_status(r, POST, r->msg_gpa | BIT_ULL(48),
		      HV_STATUS_INVALID_HYPERCALL_INPUT);
	assert_post_delivered(r);
}

TEST_F(relay, input_misaligned)
{
	struct relay_vm *r = &self->r;
	int i;

	relay_vm_set_mask(r, RELAY_ALL);
	for (i = 1; i < 8; i++) {
		assert_status(r, POST, r->msg_gpa + i, HV_STATUS_INVALID_ALIGNMENT);
		assert_status(r, SIGNAL, r->msg_gpa + i, HV_STATUS_INVALID_ALIGNMENT);
	}
	assert_delivered(r, POST, r->msg_gpa + 8, r->msg_l1_gpa + 8);
}

/* Userspace would read L1's secret, which L2 was never given. */
TEST_F(relay, post_crossing_page)
{
	struct relay_vm *r = &self->r;
	u64 last = PAGE_SIZE - HV_POST_MESSAGE_INPUT_SIZE;
	u64 i;

	relay_vm_set_mask(r, RELAY_ALL);
	assert_delivered(r, POST, r->msg_gpa + last, r->msg_l1_gpa + last);
	for (i = last + 8; i < PAGE_SIZE; i += 8)
		assert_status(r, POST, r->msg_gpa + i, HV_STATUS_INVALID_ALIGNMENT);
	assert_delivered(r, POST, r->msg_gpa + PAGE_SIZE,
			 r->msg_l1_gpa + PAGE_SIZE * (r->nested_paging ? 2 : 1));
}

TEST_F(relay, reserved_rep_and_varhead_fail)
{
	struct relay_vm *r = &self->r;
	int bit;

	relay_vm_set_mask(r, RELAY_ALL);
	for (bit = 17; bit < 64; bit++) {
		/* 26 is unused by KVM but not reserved, 31 is the nested bit. */
		if (bit == 26 || bit == 31)
			continue;
		assert_status(r, POST | BIT_ULL(bit), r->msg_gpa,
			      HV_STATUS_INVALID_HYPERCALL_INPUT);
		assert_status(r, SIGNAL | FAST | BIT_ULL(bit), CONN_ID,
			      HV_STATUS_INVALID_HYPERCALL_INPUT);
	}
}

FIXTURE(signal) {
	struct relay_vm r;
	int eventfd;
};

FIXTURE_VARIANT(signal) {
	bool nested_paging;
};

FIXTURE_VARIANT_ADD(signal, nested_paging) {
	.nested_paging = true,
};

FIXTURE_VARIANT_ADD(signal, shadow_paging) {
	.nested_paging = false,
};

FIXTURE_SETUP(signal)
{
	const char *why_not = relay_vm_create(&self->r, variant->nested_paging);

	if (why_not)
		SKIP(return, "%s", why_not);

	self->eventfd = relay_vm_add_eventfd(&self->r);
	relay_vm_set_mask(&self->r, RELAY_ALL);
}

FIXTURE_TEARDOWN(signal)
{
	close(self->eventfd);
	kvm_vm_free(self->r.vm);
}

static void assert_nr_signals(int fd, u64 nr)
{
	u64 count = 0;

	/* Fails with EAGAIN, and leaves @count alone, if there is none. */
	TEST_ASSERT(read(fd, &count, sizeof(count)) == (nr ? 8 : -1),
		    "Wanted %lu signals", nr);
	TEST_ASSERT_EQ(count, nr);
}

static void set_signal_input(struct relay_vm *r, u64 offset, u64 value)
{
	memcpy(addr_gpa2hva(r->vm, r->msg_l1_gpa + offset), &value, sizeof(value));
}

TEST_F(signal, fast)
{
	assert_status(&self->r, SIGNAL | FAST, CONN_ID, HV_STATUS_SUCCESS);
	assert_nr_signals(self->eventfd, 1);
	assert_status(&self->r, SIGNAL | FAST, CONN_ID, HV_STATUS_SUCCESS);
	assert_status(&self->r, SIGNAL | FAST, CONN_ID, HV_STATUS_SUCCESS);
	assert_nr_signals(self->eventfd, 2);
}

TEST_F(signal, slow)
{
	struct relay_vm *r = &self->r;
	u64 last = PAGE_SIZE - sizeof(u64);

	set_signal_input(r, 0x80, CONN_ID);
	assert_status(r, SIGNAL, r->msg_gpa + 0x80, HV_STATUS_SUCCESS);
	assert_nr_signals(self->eventfd, 1);

	set_signal_input(r, last, CONN_ID);
	assert_status(r, SIGNAL, r->msg_gpa + last, HV_STATUS_SUCCESS);
	assert_nr_signals(self->eventfd, 1);

	assert_status(r, SIGNAL, r->msg_gpa + last + 4, HV_STATUS_INVALID_ALIGNMENT);
	assert_nr_signals(self->eventfd, 0);
}

TEST_F(signal, bad_connection_or_flag)
{
	/* Reserved bits of the connection, KVM completes the call. */
	assert_status(&self->r, SIGNAL | FAST, CONN_ID | BIT_ULL(24),
		      HV_STATUS_INVALID_HYPERCALL_INPUT);
	/* A flag number, which only userspace may understand. */
	assert_delivered(&self->r, SIGNAL | FAST, CONN_ID | BIT_ULL(32),
			 CONN_ID | BIT_ULL(32));
	/* If the call isn't fast, userspace is to get the GPA of all that. */
	set_signal_input(&self->r, 0x80, CONN_ID | BIT_ULL(32) | BIT_ULL(63));
	assert_delivered(&self->r, SIGNAL, self->r.msg_gpa + 0x80,
			 self->r.msg_l1_gpa + 0x80);
	assert_nr_signals(self->eventfd, 0);
}

TEST_F(signal, unknown_connection_delivered)
{
	struct relay_vm *r = &self->r;

	assert_delivered(r, SIGNAL | FAST, CONN_ID + 1, CONN_ID + 1);
	set_signal_input(r, 0x80, CONN_ID + 1);
	assert_delivered(r, SIGNAL, r->msg_gpa + 0x80, r->msg_l1_gpa + 0x80);
	assert_nr_signals(self->eventfd, 0);
}

/* The same for L1's own calls, which the relay must leave alone. */
TEST_F(signal, l1_calls)
{
	struct relay_vm *r = &self->r;

	calls_from_l1 = true;
	relay_vm_call(r, HVCALL_SIGNAL_EVENT | FAST, CONN_ID);
	assert_outcome(r, 0, 0, 0, 0);
	TEST_ASSERT_EQ(hcall_out.rax, HV_STATUS_SUCCESS);
	assert_nr_signals(self->eventfd, 1);

	/* A slow one has its GPA in params[0], as a post has. */
	set_signal_input(r, 0x80, CONN_ID + 1);
	relay_vm_call(r, HVCALL_SIGNAL_EVENT, r->msg_l1_gpa + 0x80);
	assert_outcome(r, 1, 0, 0, 0);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[0], r->msg_l1_gpa + 0x80);

	relay_vm_call(r, HVCALL_POST_MESSAGE, r->msg_l1_gpa);
	assert_outcome(r, 1, 0, 0, 0);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[0], r->msg_l1_gpa);

	/* L1 is nobody's L2: to KVM, its nested bit is a reserved one. */
	relay_vm_call(r, POST, r->msg_l1_gpa);
	assert_outcome(r, 0, 0, 0, 0);
	TEST_ASSERT_EQ(hcall_out.rax, HV_STATUS_INVALID_HYPERCALL_INPUT);
}

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

	self->vcpu = vm_vcpu_add(self->r.vm, 1, l1_main);
	vcpu_set_hv_cpuid(self->vcpu);
	self->eventfd = relay_vm_add_eventfd(&self->r);
	relay_vm_set_mask(&self->r, RELAY_ALL);
}

FIXTURE_TEARDOWN(flip)
{
	close(self->eventfd);
	kvm_vm_free(self->r.vm);
}

static void test_flip(struct relay_vm *r, struct kvm_vcpu *vcpu, int fd,
		      void (*set_gate)(struct flipper *flipper, bool open))
{
	struct flipper flipper = { .r = r, .vcpu = vcpu, .set_gate = set_gate };
	u64 count = 0;

	/* Enter L2 with all gates open, and have all calls made there. */
	relay_vm_call(r, SIGNAL | FAST, CONN_ID);
	assert_nr_signals(fd, 1);

	nr_calls = NR_FLIPPED_CALLS;
	pthread_create(&flipper.thread, NULL, flipper_main, &flipper);
	relay_vm_call(r, SIGNAL | FAST, CONN_ID);
	WRITE_ONCE(flipper.stop, true);
	pthread_join(flipper.thread, NULL);

	if (read(fd, &count, sizeof(count)) < 0)
		TEST_ASSERT_EQ(errno, EAGAIN);
	pr_info("%lu flips, %lu calls relayed, %lu reflected\n",
		flipper.nr_flips, nr_completed, nr_reflected);
	TEST_ASSERT(nr_completed && nr_reflected, "The gate was never seen to change");
	TEST_ASSERT_EQ(nr_completed + nr_reflected, nr_calls);
	TEST_ASSERT_EQ(nr_completed, count);
	assert_outcome(r, 0, nr_reflected, 0, nr_completed);
}

TEST_F(flip, mask)
{
	test_flip(&self->r, self->vcpu, self->eventfd, set_mask_gate);
}

TEST_F(flip, xen_mode)
{
	if (!(kvm_check_cap(KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL))
		SKIP(return, "no KVM_CAP_XEN_HVM");

	test_flip(&self->r, self->vcpu, self->eventfd, set_xen_gate);
}

TEST_F(flip, guest_os_id)
{
	test_flip(&self->r, self->vcpu, self->eventfd, set_guest_os_id_gate);
}

FIXTURE(vmmcall) {
	struct relay_vm r;
};

FIXTURE_SETUP(vmmcall)
{
	const char *why_not;

	if (kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "SVM only, VMX intercepts VMCALL unconditionally");

	why_not = relay_vm_create(&self->r, kvm_cpu_has_tdp());
	if (why_not)
		SKIP(return, "%s", why_not);
	l1_config.no_intercept = true;
}

FIXTURE_TEARDOWN(vmmcall)
{
	kvm_vm_free(self->r.vm);
}

TEST_F(vmmcall, not_intercepted_by_l1)
{
	struct relay_vm *r = &self->r;

	/* As VMMCALL does on bare metal. */
	relay_vm_call(r, POST, r->msg_gpa);
	assert_outcome(r, 0, 0, 1, 0);

	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);

	relay_vm_call(r, HVCALL_POST_MESSAGE, r->msg_gpa);
	assert_outcome(r, 0, 0, 1, 0);
}

/* L2 without paging: needs nested paging, and unrestricted guests on VMX. */
FIXTURE(unpaged) {
	struct relay_vm r;
};

FIXTURE_SETUP(unpaged)
{
	const u8 vmcall[HYPERCALL_INSN_SIZE]  = { 0x0f, 0x01, 0xc1 };
	const u8 vmmcall[HYPERCALL_INSN_SIZE] = { 0x0f, 0x01, 0xd9 };
	const char *why_not = relay_vm_create(&self->r, true);
	const u8 *insn = vmmcall;
	u8 *code;

	if (why_not)
		SKIP(return, "%s", why_not);

	if (kvm_cpu_has(X86_FEATURE_VMX)) {
		insn = vmcall;
		if (!(kvm_get_feature_msr(MSR_IA32_VMX_PROCBASED_CTLS2) >> 32 &
		      SECONDARY_EXEC_UNRESTRICTED_GUEST))
			SKIP(return, "no unrestricted guest for L2");
	}

	/* One call to test, and one that surely goes to L1. */
	code = addr_gpa2hva(self->r.vm, self->r.code_gpa);
	memcpy(code, insn, HYPERCALL_INSN_SIZE);
	memcpy(code + HYPERCALL_INSN_SIZE, insn, HYPERCALL_INSN_SIZE);

	relay_vm_set_mask(&self->r, RELAY_ALL);
}

FIXTURE_TEARDOWN(unpaged)
{
	kvm_vm_free(self->r.vm);
}

/* A 32-bit post, with garbage in what 32-bit code can't see. */
static void relay_vm_call32(struct relay_vm *r, enum hv_l2_mode mode)
{
	const u64 garbage = 0xa5a5a5a5ULL << 32;

	l1_config.mode = mode;
	memset(&hcall_in, 0, sizeof(hcall_in));
	hcall_in.rax = garbage | POST;
	hcall_in.rdx = garbage;
	hcall_in.rbx = garbage | r->msg_gpa >> 32;
	hcall_in.rcx = garbage | (u32)r->msg_gpa;
	hcall_in.rdi = garbage | 0x11111111;
	hcall_in.rsi = garbage | 0x22222222;
	hcall_in.r8 = garbage;
	hcall_in.rflags = X86_EFLAGS_FIXED;
	relay_vm_run(r);
}

static void assert_unpaged_reflected(struct relay_vm *r, enum hv_l2_mode mode)
{
	relay_vm_call32(r, mode);
	assert_outcome(r, 0, 1, 0, 0);
	TEST_ASSERT_EQ(l1_seen.rip, 0);
	TEST_ASSERT_EQ((u32)l1_seen.regs.rax, (u32)POST);
}

TEST_F(unpaged, prot32_delivered)
{
	struct relay_vm *r = &self->r;

	relay_vm_call32(r, HV_L2_PROT32);
	assert_outcome(r, 1, 1, 0, 1);
	TEST_ASSERT_EQ(r->exit.u.hcall.input, HVCALL_POST_MESSAGE);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[0], r->msg_l1_gpa);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[1], 0x1111111122222222);

	/* The second call, reflected: the result is in EDX:EAX. */
	TEST_ASSERT_EQ(l1_seen.rip, HYPERCALL_INSN_SIZE);
	TEST_ASSERT_EQ((u32)l1_seen.regs.rax, (u32)REPLY);
	TEST_ASSERT_EQ((u32)l1_seen.regs.rdx, (u32)(REPLY >> 32));
	TEST_ASSERT_EQ((u32)l1_seen.regs.rbx, (u32)hcall_in.rbx);
	TEST_ASSERT_EQ((u32)l1_seen.regs.rcx, (u32)hcall_in.rcx);
	TEST_ASSERT_EQ((u32)l1_seen.regs.rdi, (u32)hcall_in.rdi);
	TEST_ASSERT_EQ((u32)l1_seen.regs.rsi, (u32)hcall_in.rsi);
}

TEST_F(unpaged, cpl3_reflects)
{
	assert_unpaged_reflected(&self->r, HV_L2_PROT32_CPL3);
}

TEST_F(unpaged, real_mode_reflects)
{
	assert_unpaged_reflected(&self->r, HV_L2_REAL);
}

FIXTURE(capability) {
	struct relay_vm r;
};

FIXTURE_SETUP(capability)
{
	const char *why_not = relay_vm_create(&self->r, kvm_cpu_has_tdp());

	if (why_not)
		SKIP(return, "%s", why_not);
}

FIXTURE_TEARDOWN(capability)
{
	kvm_vm_free(self->r.vm);
}

static void assert_einval(struct relay_vm *r, struct kvm_enable_cap *cap)
{
	cap->cap = KVM_CAP_NESTED_HYPERV_HCALL_RELAY;
	TEST_ASSERT(__vm_ioctl(r->vm, KVM_ENABLE_CAP, cap) == -1 && errno == EINVAL,
		    "Wanted EINVAL for flags 0x%x args 0x%llx 0x%llx 0x%llx 0x%llx",
		    cap->flags, cap->args[0], cap->args[1], cap->args[2],
		    cap->args[3]);
}

TEST_F(capability, bad_input_keeps_mask)
{
	struct relay_vm *r = &self->r;
	struct kvm_enable_cap cap;
	int i;

	relay_vm_set_mask(r, RELAY_POST);

	for (i = 0; i < 64; i++) {
		if (BIT_ULL(i) & RELAY_ALL)
			continue;
		cap = (struct kvm_enable_cap) { .args[0] = BIT_ULL(i) };
		assert_einval(r, &cap);
		cap = (struct kvm_enable_cap) { .args[0] = RELAY_ALL | BIT_ULL(i) };
		assert_einval(r, &cap);
	}
	for (i = 0; i < 32; i++) {
		cap = (struct kvm_enable_cap) {
			.flags = BIT(i), .args[0] = RELAY_ALL,
		};
		assert_einval(r, &cap);
	}
	for (i = 1; i < 4; i++) {
		cap = (struct kvm_enable_cap) { .args[0] = RELAY_ALL };
		cap.args[i] = 1;
		assert_einval(r, &cap);
		cap.args[i] = BIT_ULL(63);
		assert_einval(r, &cap);
	}

	assert_post_delivered(r);
	assert_reflected(r, SIGNAL | FAST, CONN_ID);
}

/* Not of a suite with a VM: it must hold with nested virtualization off, too. */
TEST(capability_is_reported)
{
	int mask = kvm_check_cap(KVM_CAP_NESTED_STATE) ? RELAY_ALL : 0;

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_NESTED_HYPERV_HCALL_RELAY), mask);
}

TEST(capability_is_refused_without_nested)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_NESTED_HYPERV_HCALL_RELAY,
		.args[0] = RELAY_POST,
	};
	struct kvm_vm *vm;

	if (kvm_check_cap(KVM_CAP_NESTED_STATE))
		SKIP(return, "nested virtualization is on");

	vm = vm_create_barebones();
	TEST_ASSERT(__vm_ioctl(vm, KVM_ENABLE_CAP, &cap) == -1 && errno == EINVAL,
		    "Wanted EINVAL");
	kvm_vm_free(vm);
}

TEST(synic_inactive_fails)
{
	struct relay_vm r;
	const char *why_not;

	why_not = __relay_vm_create(&r, kvm_cpu_has_tdp());
	if (why_not)
		SKIP(return, "%s", why_not);

	relay_vm_set_mask(&r, RELAY_ALL);
	assert_status(&r, POST, r.msg_gpa, HV_STATUS_INVALID_HYPERCALL_INPUT);
	assert_status(&r, SIGNAL | FAST, CONN_ID, HV_STATUS_INVALID_HYPERCALL_INPUT);
	kvm_vm_free(r.vm);
}

static void show_call(struct relay_vm *r, const char *what)
{
	msg_offset = 0;
	strcpy((char *)msg, "Greetings from L2");
	write_msg = true;
	relay_vm_call(r, POST, r->msg_gpa);
	printf("demo: %s\n", what);
	printf("demo:   L2 posts: control 0x%llx, L2 GPA 0x%lx\n", POST, r->msg_gpa);
	if (r->delivered)
		printf("demo:   L0 delivers to the VMM: KVM_EXIT_HYPERV, input 0x%llx,\n"
		       "demo:     L1 GPA 0x%llx, payload \"%.*s\"\n",
		       r->exit.u.hcall.input, r->exit.u.hcall.params[0],
		       (int)sizeof(r->payload), r->payload);
	if (l1_seen.count)
		printf("demo:   L0 reflects to L1: hypercall exit, RCX 0x%lx\n",
		       l1_seen.regs.rcx);
	printf("demo:   L2 continues with RAX 0x%lx\n", hcall_out.rax);
}

static int show_demo(void)
{
	const char *why_not;
	struct relay_vm r;

	why_not = relay_vm_create(&r, kvm_cpu_has_tdp());
	if (why_not) {
		printf("demo: can't: %s\n", why_not);
		return KSFT_SKIP;
	}

	show_call(&r, "relay off");
	TEST_ASSERT(!r.delivered && l1_seen.count == 1, "Not reflected to L1");

	relay_vm_set_mask(&r, RELAY_ALL);
	show_call(&r, "relay on");
	TEST_ASSERT(r.delivered == 1 && !l1_seen.count, "Not delivered");

	kvm_vm_free(r.vm);
	return KSFT_PASS;
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_NESTED_HYPERV_HCALL_RELAY) ||
		     !kvm_check_cap(KVM_CAP_NESTED_STATE));

	if (argc > 1 && !strcmp(argv[1], "--demo"))
		return show_demo();

	return test_harness_run(argc, argv);
}
