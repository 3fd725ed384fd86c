/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A VM for tests of KVM_CAP_NESTED_HYPERV_HCALL_RELAY: an L2 that makes one
 * hypercall at a time, with all of its registers under control, and an L1 that
 * counts the hypercalls that reach it.
 *
 * A call has one of three outcomes: it is delivered to userspace, KVM completes
 * it with a status, or it is reflected to L1.
 */
#ifndef SELFTEST_KVM_HYPERV_NESTED_RELAY_H
#define SELFTEST_KVM_HYPERV_NESTED_RELAY_H

#include <sys/eventfd.h>
#include <sys/ioctl.h>

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

/* For L2 in modes other than 64-bit ring 0, which run two bare instructions. */
#define CODE_GVA	0x18000000ULL

/* Shared with guest code. */
static struct hv_l1_config l1_config;
static bool calls_from_l1, write_msg;
static u64 nr_calls;		/* between two looks of the host */
static struct {			/* how many of them ended with which RAX */
	u64 reflected, success, replied, invalid;
} outcomes;
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
static inline void caller_main(void)
{
	u64 i;

	for (;;) {
		if (write_msg)
			memcpy((void *)MSG_GVA + msg_offset, msg, sizeof(msg));

		for (i = 0; i < nr_calls; i++) {
			do_hypercall();
			switch (hcall_out.rax) {
			case REFLECTED_RAX:
				outcomes.reflected++;
				break;
			case HV_STATUS_SUCCESS:
				outcomes.success++;
				break;
			case REPLY:
				outcomes.replied++;
				break;
			case HV_STATUS_INVALID_HYPERCALL_INPUT:
				outcomes.invalid++;
				break;
			}
		}
		GUEST_SYNC(0);
	}
}

static inline void ud_handler(struct ex_regs *regs)
{
	nr_uds++;
	regs->rip += HYPERCALL_INSN_SIZE;
}

static inline void l1_main(void *nested, struct hyperv_test_pages *hv)
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
	gpa_t code_gpa;		/* of CODE_GVA, identity mapped by L1 */

	/* Outcome of the last call, besides hcall_out, l1_seen and nr_uds. */
	u64 delivered;
	struct kvm_hyperv_exit exit;
	u8 payload[HV_POST_MESSAGE_INPUT_SIZE];
	u64 nr_kept;		/* by the stat, added up over vCPUs */

	/* Called in each exit for a hypercall, before L2 sees the result. */
	void (*in_exit)(struct relay_vm *r);
};

/* Older kernels have KVM_CAP_NESTED_STATE with nested virtualization off, too. */
static inline bool kvm_has_nested(void)
{
	return kvm_cpu_has(X86_FEATURE_VMX) || kvm_cpu_has(X86_FEATURE_SVM);
}

/* Let L2 execute @gva at CPL 3, with the page tables that it has from L1. */
static inline void make_user_page(struct kvm_vm *vm, gva_t gva)
{
	gpa_t table = vm->mmu.pgd;
	u64 *pte;
	int level;

	for (level = vm->mmu.pgtable_levels; level; level--) {
		pte = addr_gpa2hva(vm, table);
		pte += (gva >> PG_LEVEL_SHIFT(level)) & 0x1ff;
		*pte |= PTE_USER_MASK(&vm->mmu);
		table = PTE_GET_PA(*pte);
	}
}

/*
 * Create a VM whose vCPU starts at @l1_code, with the pages for hv_l1_init() as
 * two arguments for each of @nr_l2s.  Return NULL if the relay can be tested
 * here, otherwise why it can't.
 */
static inline const char *__relay_vm_create(struct relay_vm *r, bool nested_paging,
					    void *l1_code, int nr_l2s)
{
	gva_t pages[4] = {};
	gpa_t msg_gpa;
	int i;

	if (!kvm_has_nested())
		return "nested virtualization is off";
	if (kvm_cpu_has(X86_FEATURE_VMX) &&
	    !kvm_has_cap(KVM_CAP_HYPERV_ENLIGHTENED_VMCS))
		return "no enlightened VMCS";
	if (nested_paging && !kvm_cpu_has_tdp())
		return "no nested EPT/NPT on this host";

	memset(r, 0, sizeof(*r));
	r->nested_paging = nested_paging;
	r->vm = vm_create_with_one_vcpu(&r->vcpu, l1_code);
	if (nested_paging)
		vm_enable_tdp(r->vm);

	hv_l1_enable(r->vcpu);
	for (i = 0; i < nr_l2s; i++)
		vm_alloc_hv_l1(r->vm, &pages[2 * i], &pages[2 * i + 1]);
	vcpu_args_set(r->vcpu, 4, pages[0], pages[1], pages[2], pages[3]);
	vm_install_exception_handler(r->vm, UD_VECTOR, ud_handler);

	msg_gpa = vm_phy_pages_alloc(r->vm, 3, 0x200000, 0);
	r->code_gpa = vm_phy_page_alloc(r->vm, 0x200000, 0);
	r->msg_l1_gpa = msg_gpa;
	r->msg_gpa = nested_paging ? MSG_L2_GPA : msg_gpa;
	memset(addr_gpa2hva(r->vm, msg_gpa + PAGE_SIZE), 's', PAGE_SIZE);
	virt_pg_map(r->vm, MSG_GVA, r->msg_gpa);
	virt_pg_map(r->vm, CODE_GVA, r->code_gpa);
	make_user_page(r->vm, CODE_GVA);

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
	};
	calls_from_l1 = false;
	nr_calls = 1;
	write_msg = false;
	hcall_is_vmmcall = !kvm_cpu_has(X86_FEATURE_VMX);
	return NULL;
}

/*
 * The same, with l1_main() and an active SynIC, without which KVM delivers
 * nothing at all.
 */
static inline const char *relay_vm_create(struct relay_vm *r, bool nested_paging)
{
	const char *why_not = __relay_vm_create(r, nested_paging, l1_main, 1);

	if (!why_not)
		vcpu_enable_cap(r->vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	return why_not;
}

static inline void relay_vm_set_mask(struct relay_vm *r, u64 mask)
{
	vm_enable_cap(r->vm, KVM_CAP_NESTED_HYPERV_HCALL_RELAY, mask);
}

/* It is the VM's, any vCPU will do. */
static inline void set_guest_os_id(struct kvm_vcpu *vcpu, u64 id)
{
	vcpu_set_msr(vcpu, HV_X64_MSR_GUEST_OS_ID, id);
}

/* Returns an eventfd that counts the signals of CONN_ID. */
static inline int relay_vm_add_eventfd(struct relay_vm *r)
{
	struct kvm_hyperv_eventfd args = {
		.conn_id = CONN_ID,
		.fd = eventfd(0, EFD_NONBLOCK),
	};

	TEST_ASSERT(args.fd >= 0, "eventfd() failed");
	vm_ioctl(r->vm, KVM_HYPERV_EVENTFD, &args);
	return args.fd;
}

static inline void relay_vm_record_exit(struct relay_vm *r)
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

/* Load @state into a new vCPU, and free the state. */
static inline void relay_vcpu_restore(struct kvm_vcpu *vcpu, struct kvm_x86_state *state)
{
	hv_l1_enable(vcpu);
	vcpu_enable_cap(vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	vcpu_load_state(vcpu, state);
	kvm_x86_state_cleanup(state);
}

/*
 * Save the VM, with the vCPU wherever it is, and restore it into a new one.  The
 * capability is configuration, i.e. is off until it is enabled again.
 */
static inline void relay_vm_save_restore(struct relay_vm *r)
{
	struct kvm_x86_state *state = vcpu_save_state(r->vcpu);

	r->nr_kept += vcpu_get_stat(r->vcpu, nested_hv_hypercalls);
	kvm_vm_release(r->vm);
	r->vcpu = vm_recreate_with_one_vcpu(r->vm);
	relay_vcpu_restore(r->vcpu, state);
}

/* Run one hypercall to its end, with the registers that are in hcall_in. */
static inline void relay_vm_run(struct relay_vm *r)
{
	struct ucall uc;

	memset(&l1_seen, 0, sizeof(l1_seen));
	memset(r->payload, 0, sizeof(r->payload));
	r->nr_kept = -vcpu_get_stat(r->vcpu, nested_hv_hypercalls);
	r->delivered = 0;
	memset(&outcomes, 0, sizeof(outcomes));
	nr_uds = 0;

	sync_global_to_guest(r->vm, l1_config);
	sync_global_to_guest(r->vm, calls_from_l1);
	sync_global_to_guest(r->vm, nr_calls);
	sync_global_to_guest(r->vm, outcomes);
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
		if (r->in_exit)
			r->in_exit(r);
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
	sync_global_from_guest(r->vm, outcomes);
	sync_global_from_guest(r->vm, nr_uds);
	r->nr_kept += vcpu_get_stat(r->vcpu, nested_hv_hypercalls);
}

/* A 64-bit call, garbage in all registers that aren't its operands. */
static inline void relay_vm_call(struct relay_vm *r, u64 control, u64 input)
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

static inline void assert_outcome(struct relay_vm *r, u64 delivered, u64 reflected,
				  u64 uds, u64 kept)
{
	TEST_ASSERT(r->delivered == delivered && l1_seen.count == reflected &&
		    nr_uds == uds && r->nr_kept == kept,
		    "Wanted delivered %lu, reflected %lu, #UD %lu, stat %lu; got %lu, %lu, %lu, %lu (RAX 0x%lx)",
		    delivered, reflected, uds, kept, r->delivered, l1_seen.count,
		    nr_uds, r->nr_kept, hcall_out.rax);
}

static inline void assert_reflected(struct relay_vm *r, u64 control, u64 input)
{
	relay_vm_call(r, control, input);
	assert_outcome(r, 0, 1, 0, 0);
	TEST_ASSERT_EQ(hcall_out.rax, REFLECTED_RAX);

	/* L1 must see what L2 said, also in the control word. */
	TEST_ASSERT_EQ(l1_seen.regs.rcx, control);
	TEST_ASSERT_EQ(l1_seen.regs.rdx, input);
	TEST_ASSERT_EQ(l1_seen.regs.r8, hcall_in.r8);
}

static inline void assert_delivered(struct relay_vm *r, u64 control, u64 input, u64 param)
{
	relay_vm_call(r, control, input);
	assert_outcome(r, 1, 0, 0, 1);
	TEST_ASSERT_EQ(r->exit.u.hcall.input, control & ~HV_HYPERCALL_NESTED);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[0], param);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[1], hcall_in.r8);
	TEST_ASSERT_EQ(hcall_out.rax, REPLY);
}

/* The call is kept from L1, but KVM completes it. */
static inline void assert_status(struct relay_vm *r, u64 control, u64 input, u64 status)
{
	relay_vm_call(r, control, input);
	assert_outcome(r, 0, 0, 0, 1);
	TEST_ASSERT_EQ(hcall_out.rax, status);
}

static inline void assert_post_delivered(struct relay_vm *r)
{
	assert_delivered(r, POST, r->msg_gpa, r->msg_l1_gpa);
}

#endif /* SELFTEST_KVM_HYPERV_NESTED_RELAY_H */
