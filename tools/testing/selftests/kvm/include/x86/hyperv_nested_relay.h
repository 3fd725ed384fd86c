/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A VM for tests of KVM_CAP_NESTED_HYPERV_HCALL_RELAY: an L2 that makes one
 * hypercall at a time, with all of its registers under control, and an L1 that
 * counts the hypercalls that reach it.
 *
 * A call has one of four outcomes: it is delivered to userspace, KVM completes
 * it with a status, it is reflected to L1, or L1 gets a memory intercept, because
 * it doesn't map the input.
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
#define RELAY_INTER_PARTITION	KVM_NESTED_HYPERV_RELAY_INTER_PARTITION
#define RELAY_ONE_L2	KVM_NESTED_HYPERV_RELAY_ONE_L2
#define RELAY_VALID	(RELAY_ALL | RELAY_INTER_PARTITION | RELAY_ONE_L2)

#define POST		(HV_HYPERCALL_NESTED | HVCALL_POST_MESSAGE)
#define SIGNAL		(HV_HYPERCALL_NESTED | HVCALL_SIGNAL_EVENT)
#define FAST		HV_HYPERCALL_FAST_BIT

#define CONN_ID		0x42

/* What L1 puts into L2's RAX when a hypercall is reflected to it. */
#define REFLECTED_RAX	0x4c31ULL

/* The same for a memory intercept, if L1 isn't to map the input. */
#define INTERCEPTED_RAX	0x4c32ULL

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
	u64 reflected, success, replied, intercepted;
} outcomes;
static u64 msg_offset;
static u8 msg[HV_POST_MESSAGE_INPUT_SIZE];
static struct {
	u64 count;
	u64 rip;
	struct guest_regs regs;
} l1_seen;
/* The last memory intercept, and how many there were. */
static struct {
	u64 count;
	u64 reason, gpa, info, rip;
	struct guest_regs regs;
} l1_fault;
/*
 * What L1 does about one: set this entry of its nested page tables and resume L2,
 * or, without an entry, skip the call.
 */
static struct {
	u64 *pte;
	u64 value;
} l1_fix;
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
			case INTERCEPTED_RAX:
				outcomes.intercepted++;
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

static inline void l1_handle_fault(struct hv_l1 *l1)
{
	l1_fault.count++;
	l1_fault.reason = hv_l1_exit_reason(l1);
	l1_fault.gpa = hv_l1_fault_gpa(l1);
	l1_fault.info = hv_l1_fault_info(l1);
	l1_fault.rip = hv_l1_get_rip(l1);
	l1_fault.regs = guest_regs;

	if (l1_fix.pte) {
		WRITE_ONCE(*l1_fix.pte, l1_fix.value);
	} else {
		guest_regs.rax = INTERCEPTED_RAX;
		hv_l1_set_rip(l1, l1_fault.rip + HYPERCALL_INSN_SIZE);
	}
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
		if (hv_l1_exit_is_nested_fault(&l1)) {
			l1_handle_fault(&l1);
			continue;
		}
		if (hv_l1_exit_is_ud(&l1)) {
			nr_uds++;
			l1_seen.rip = hv_l1_get_rip(&l1);
			l1_seen.regs = guest_regs;
			GUEST_DONE();
		}
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
	gpa_t pte_pages[4];	/* that L1 can write to */
	struct hyperv_test_pages *hv;
	void *nested;		/* struct vmx_pages or svm_test_data, of the first L2 */

	/* Outcome of the last call, besides hcall_out, l1_seen, l1_fault and nr_uds. */
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

/* Return NULL if the relay can be tested here, otherwise why it can't. */
static inline const char *relay_vm_why_not(bool nested_paging)
{
	if (!kvm_has_nested())
		return "nested virtualization is off";
	if (kvm_cpu_has(X86_FEATURE_VMX) &&
	    !kvm_has_cap(KVM_CAP_HYPERV_ENLIGHTENED_VMCS))
		return "no enlightened VMCS";
	if (nested_paging && !kvm_cpu_has_tdp())
		return "no nested EPT/NPT on this host";

	return NULL;
}

/*
 * Prepare what L1 and L2s need in a VM with one vCPU, and pass the pages for
 * hv_l1_init() as two arguments for each of @nr_l2s.
 */
static inline void relay_vm_init(struct relay_vm *r, struct kvm_vm *vm,
				 struct kvm_vcpu *vcpu, bool nested_paging, int nr_l2s)
{
	gva_t pages[4] = {};
	gpa_t msg_gpa;
	int i;

	memset(r, 0, sizeof(*r));
	r->nested_paging = nested_paging;
	r->vm = vm;
	r->vcpu = vcpu;
	if (nested_paging)
		vm_enable_tdp(r->vm);

	hv_l1_enable(r->vcpu);
	for (i = 0; i < nr_l2s; i++)
		vm_alloc_hv_l1(r->vm, &pages[2 * i], &pages[2 * i + 1]);
	vcpu_args_set(r->vcpu, 4, pages[0], pages[1], pages[2], pages[3]);
	r->nested = addr_gva2hva(vm, pages[0]);
	r->hv = addr_gva2hva(vm, pages[1]);

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
		.vm_id		= HV_L2_VM_ID,
	};
	memset(&l1_fix, 0, sizeof(l1_fix));
	calls_from_l1 = false;
	nr_calls = 1;
	write_msg = false;
	hcall_is_vmmcall = !kvm_cpu_has(X86_FEATURE_VMX);
}

/*
 * Create a VM whose vCPU starts at @l1_code.  Return NULL if the relay can be
 * tested here, otherwise why it can't.
 */
static inline const char *__relay_vm_create(struct relay_vm *r, bool nested_paging,
					    void *l1_code, int nr_l2s)
{
	const char *why_not = relay_vm_why_not(nested_paging);
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	if (why_not)
		return why_not;

	vm = vm_create_with_one_vcpu(&vcpu, l1_code);
	vm_install_exception_handler(vm, UD_VECTOR, ud_handler);
	relay_vm_init(r, vm, vcpu, nested_paging, nr_l2s);
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

/* Set the mask, and serve only the L2 of VM @vm_id. */
static inline void relay_vm_serve(struct relay_vm *r, u64 mask, u64 vm_id)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_NESTED_HYPERV_HCALL_RELAY,
		.args = { mask | RELAY_ONE_L2, vm_id },
	};

	vm_ioctl(r->vm, KVM_ENABLE_CAP, &cap);
}

/*
 * Let L1 write to the page that has *@pte, an entry of its nested page tables.
 * Returns L1's address of the entry.
 */
#define RELAY_PTE_GVA		0x20000000ULL

static inline u64 *relay_vm_map_pte(struct relay_vm *r, u64 *pte)
{
	gpa_t page = addr_hva2gpa(r->vm, pte) & PAGE_MASK;
	gva_t gva = RELAY_PTE_GVA;
	int i;

	for (i = 0; r->pte_pages[i] && r->pte_pages[i] != page; i++) {
		TEST_ASSERT(i + 1 < ARRAY_SIZE(r->pte_pages), "Too many page tables");
		gva += PAGE_SIZE;
	}
	if (!r->pte_pages[i])
		virt_pg_map(r->vm, gva, page);
	r->pte_pages[i] = page;
	return (u64 *)(gva + ((u64)pte & ~PAGE_MASK));
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

/*
 * The connection and flag of an HvSignalEvent, as two VMMs find it.  QEMU goes by
 * the fast bit, OpenVMM takes params[0] for the value in any case.
 */
static inline u64 qemu_signal_param(struct relay_vm *r, struct kvm_hyperv_exit *exit)
{
	u64 param = exit->u.hcall.params[0];

	if (!(exit->u.hcall.input & FAST))
		memcpy(&param, addr_gpa2hva(r->vm, param), sizeof(param));
	return param;
}

static inline u64 openvmm_signal_param(struct kvm_hyperv_exit *exit)
{
	return exit->u.hcall.params[0];
}

/* Check what an exit says of the caller and, if it's a signal, of the connection. */
static inline void assert_exit(struct relay_vm *r, struct kvm_hyperv_exit *exit,
			       bool from_l2, u64 vm_id)
{
	TEST_ASSERT_EQ(exit->type, KVM_EXIT_HYPERV_HCALL);
	TEST_ASSERT_EQ(exit->u.hcall.flags, from_l2 ? KVM_EXIT_HYPERV_HCALL_FROM_L2 : 0);
	TEST_ASSERT_EQ(exit->u.hcall.l2_vm_id, from_l2 ? vm_id : 0);
	TEST_ASSERT(!(exit->u.hcall.input & HV_HYPERCALL_NESTED), "Nested bit in input");

	/* Not what an earlier exit left there. */
	TEST_ASSERT_EQ(exit->u.hcall.result, HV_STATUS_INVALID_HYPERCALL_CODE);

	if ((u16)exit->u.hcall.input == HVCALL_SIGNAL_EVENT)
		TEST_ASSERT_EQ(qemu_signal_param(r, exit), openvmm_signal_param(exit));
}

static inline void relay_vm_record_exit(struct relay_vm *r)
{
	struct kvm_run *run = r->vcpu->run;
	gpa_t gpa = run->hyperv.u.hcall.params[0];

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
	memset(&l1_fault, 0, sizeof(l1_fault));
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
	sync_global_to_guest(r->vm, l1_fault);
	sync_global_to_guest(r->vm, l1_fix);
	sync_global_to_guest(r->vm, nr_uds);

	for (;;) {
		vcpu_run(r->vcpu);
		if (r->vcpu->run->exit_reason != KVM_EXIT_HYPERV)
			break;
		relay_vm_record_exit(r);
		assert_exit(r, &r->exit, !calls_from_l1, l1_config.vm_id);
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
	sync_global_from_guest(r->vm, l1_fault);
	sync_global_from_guest(r->vm, outcomes);
	sync_global_from_guest(r->vm, nr_uds);
	r->nr_kept += vcpu_get_stat(r->vcpu, nested_hv_hypercalls);
}

/* A 64-bit call, garbage in all registers that aren't its operands. */
#define GARBAGE(reg)	(0xa5a5000000000000ULL | ((reg) + 1) * 0x101)

static inline void relay_vm_call(struct relay_vm *r, u64 control, u64 input)
{
	u64 *reg = (u64 *)&hcall_in;
	int i;

	for (i = 0; i < sizeof(hcall_in) / sizeof(*reg); i++)
		reg[i] = GARBAGE(i);
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

static inline void __assert_outcome(struct relay_vm *r, u64 delivered, u64 reflected,
				    u64 uds, u64 kept, u64 intercepts)
{
	TEST_ASSERT_EQ(l1_fault.count, intercepts);
	TEST_ASSERT(r->delivered == delivered && l1_seen.count == reflected &&
		    nr_uds == uds && r->nr_kept == kept,
		    "Wanted delivered %lu, reflected %lu, #UD %lu, stat %lu; got %lu, %lu, %lu, %lu (RAX 0x%lx)",
		    delivered, reflected, uds, kept, r->delivered, l1_seen.count,
		    nr_uds, r->nr_kept, hcall_out.rax);
}

static inline void assert_outcome(struct relay_vm *r, u64 delivered, u64 reflected,
				  u64 uds, u64 kept)
{
	__assert_outcome(r, delivered, reflected, uds, kept, 0);
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

/* The exit of a call that was delivered, however often L2 tried. */
static inline void assert_delivered_exit(struct relay_vm *r, u64 control, u64 param)
{
	/* KVM reads the parameter of a slow HvSignalEvent, and makes it a fast one. */
	if ((u16)control == HVCALL_SIGNAL_EVENT)
		control |= FAST;

	TEST_ASSERT_EQ(r->exit.u.hcall.input, control & ~HV_HYPERCALL_NESTED);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[0], param);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[1], hcall_in.r8);
	TEST_ASSERT_EQ(hcall_out.rax, REPLY);
}

static inline void assert_delivered(struct relay_vm *r, u64 control, u64 input, u64 param)
{
	relay_vm_call(r, control, input);
	assert_outcome(r, 1, 0, 0, 1);
	assert_delivered_exit(r, control, param);
}

/* The call is kept from L1, but KVM completes it. */
static inline void assert_status(struct relay_vm *r, u64 control, u64 input, u64 status)
{
	relay_vm_call(r, control, input);
	assert_outcome(r, 0, 0, 0, 1);
	TEST_ASSERT_EQ(hcall_out.rax, status);
}

/*
 * What L1 is to see of a call whose input at @gpa it doesn't let L2 read: a read
 * of that GPA, and L2 at its hypercall, with nothing changed.
 */
static inline void assert_fault(u64 control, gpa_t gpa)
{
	u64 want, mask;

	TEST_ASSERT_EQ(l1_fault.gpa, gpa);
	TEST_ASSERT_EQ(l1_fault.regs.rax, GARBAGE(0));
	TEST_ASSERT_EQ(l1_fault.regs.rcx, control);
	TEST_ASSERT_EQ(l1_fault.regs.rdx, gpa);
	TEST_ASSERT_EQ(l1_fault.regs.r8, hcall_in.r8);

	if (!kvm_cpu_has(X86_FEATURE_VMX)) {
		want = PFERR_GUEST_FINAL_MASK | PFERR_USER_MASK;
		mask = ~(u64)(PFERR_PRESENT_MASK | PFERR_RSVD_MASK);
	} else if (l1_fault.reason == EXIT_REASON_EPT_VIOLATION) {
		want = EPT_VIOLATION_ACC_READ;
		mask = ~(u64)(EPT_VIOLATION_PROT_READ | EPT_VIOLATION_PROT_WRITE |
			      EPT_VIOLATION_PROT_EXEC);
	} else {
		want = 0;
		mask = -1ull;
	}
	TEST_ASSERT_EQ(l1_fault.info & mask, want);
}

/* L1 gets a memory intercept, and goes on without the call. */
static inline void assert_intercepted(struct relay_vm *r, u64 control, gpa_t gpa)
{
	memset(&l1_fix, 0, sizeof(l1_fix));
	relay_vm_call(r, control, gpa);
	__assert_outcome(r, 0, 0, 0, 0, 1);
	TEST_ASSERT_EQ(hcall_out.rax, INTERCEPTED_RAX);
	assert_fault(control, gpa);
}

/*
 * L1 gets a memory intercept, sets *@pte, an entry of its nested page tables as
 * the host sees it, to @value and resumes L2: the call is made once.
 */
static inline void relay_vm_call_fixed(struct relay_vm *r, u64 control, gpa_t gpa,
				       u64 *pte, u64 value)
{
	l1_fix.pte = relay_vm_map_pte(r, pte);
	l1_fix.value = value;
	relay_vm_call(r, control, gpa);
	memset(&l1_fix, 0, sizeof(l1_fix));
	assert_fault(control, gpa);
}

/* The post that KVM can relay: without nested paging in L1, only a fast one. */
static inline u64 post_of(struct relay_vm *r)
{
	return r->nested_paging ? POST : POST | FAST;
}

static inline void assert_post_delivered(struct relay_vm *r)
{
	assert_delivered(r, post_of(r), r->msg_gpa, r->msg_l1_gpa);
}

static inline void assert_post_reflected(struct relay_vm *r)
{
	assert_reflected(r, post_of(r), r->msg_gpa);
}

#endif /* SELFTEST_KVM_HYPERV_NESTED_RELAY_H */
