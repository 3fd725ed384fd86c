// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VM for tests of KVM_CAP_NESTED_HYPERV_HCALL_RELAY: what its L1 and L2 execute,
 * and how it is made and run.
 */
#include <sys/eventfd.h>

#include "hyperv_nested_relay.h"

struct hv_l1_config relay_l1_config;
bool relay_calls_from_l1, relay_write_msg;
u64 relay_nr_calls;
u64 relay_msg_offset;
u8 relay_msg[HV_POST_MESSAGE_INPUT_SIZE];
u64 relay_nr_uds;
struct relay_outcomes relay_outcomes;
struct relay_l1_seen relay_l1_seen;
struct relay_l1_fault relay_l1_fault;
struct relay_l1_fix relay_l1_fix;
struct guest_regs relay_hcall_in, relay_hcall_out;
bool relay_hcall_is_vmmcall;

/* Not static, for the sake of do_hypercall(). */
u64 relay_hcall_saved_rbp;

#define LOAD_REG(reg)	"mov relay_hcall_in + %c[off_" #reg "](%%rip), %%" #reg "\n\t"
#define STORE_REG(reg)	"mov %%" #reg ", relay_hcall_out + %c[off_" #reg "](%%rip)\n\t"
#define ALL_REGS(op)							\
	op(rax) op(rbx) op(rcx) op(rdx) op(rsi) op(rdi) op(rbp) op(r8)	\
	op(r9) op(r10) op(r11) op(r12) op(r13) op(r14) op(r15)

/* Make a hypercall with the GPRs of relay_hcall_in, store all that follows from it. */
static noinline void do_hypercall(void)
{
	asm volatile("lea -128(%%rsp), %%rsp\n\t"
		     "mov %%rbp, relay_hcall_saved_rbp(%%rip)\n\t"
		     "cmpb $0, relay_hcall_is_vmmcall(%%rip)\n\t"
		     "pushfq\n\t"
		     "popq relay_hcall_in + %c[off_rflags](%%rip)\n\t"
		     "mov %%rsp, relay_hcall_in + %c[off_rsp](%%rip)\n\t"
		     ALL_REGS(LOAD_REG)
		     "jne 1f\n\t"
		     "vmcall\n\t"
		     "jmp 2f\n\t"
		     "1: vmmcall\n\t"
		     "2:\n\t"
		     ALL_REGS(STORE_REG)
		     "mov %%rsp, relay_hcall_out + %c[off_rsp](%%rip)\n\t"
		     "pushfq\n\t"
		     "popq relay_hcall_out + %c[off_rflags](%%rip)\n\t"
		     "mov relay_hcall_saved_rbp(%%rip), %%rbp\n\t"
		     "lea 128(%%rsp), %%rsp\n\t"
		     :: GUEST_REGS_OFFSETS
		     : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9",
		       "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory");
}

void relay_caller_main(void)
{
	u64 i;

	for (;;) {
		if (relay_write_msg)
			memcpy((void *)MSG_GVA + relay_msg_offset, relay_msg, sizeof(relay_msg));

		for (i = 0; i < relay_nr_calls; i++) {
			do_hypercall();
			switch (relay_hcall_out.rax) {
			case REFLECTED_RAX:
				relay_outcomes.reflected++;
				break;
			case HV_STATUS_SUCCESS:
				relay_outcomes.success++;
				break;
			case REPLY:
				relay_outcomes.replied++;
				break;
			case INTERCEPTED_RAX:
				relay_outcomes.intercepted++;
				break;
			}
		}
		GUEST_SYNC(0);
	}
}

void relay_ud_handler(struct ex_regs *regs)
{
	relay_nr_uds++;
	regs->rip += HYPERCALL_INSN_SIZE;
}

static void l1_handle_fault(struct hv_l1 *l1)
{
	relay_l1_fault.count++;
	relay_l1_fault.reason = hv_l1_exit_reason(l1);
	relay_l1_fault.gpa = hv_l1_fault_gpa(l1);
	relay_l1_fault.info = hv_l1_fault_info(l1);
	relay_l1_fault.rip = hv_l1_get_rip(l1);
	relay_l1_fault.regs = guest_regs;

	if (relay_l1_fix.pte) {
		WRITE_ONCE(*relay_l1_fix.pte, relay_l1_fix.value);
	} else {
		guest_regs.rax = INTERCEPTED_RAX;
		hv_l1_set_rip(l1, relay_l1_fault.rip + HYPERCALL_INSN_SIZE);
	}
}

void relay_l1_main(void *nested, struct hyperv_test_pages *hv)
{
	struct hv_l1_config config = relay_l1_config;
	struct hv_l1 l1 = { .hv = hv };

	if (this_cpu_has(X86_FEATURE_VMX))
		l1.vmx = nested;
	else
		l1.svm = nested;

	if (relay_calls_from_l1) {
		wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
		relay_caller_main();
	}

	hv_l1_init(&l1, &config, relay_caller_main);
	if (config.mode != HV_L2_LONG)
		guest_regs = relay_hcall_in;

	for (;;) {
		hv_l1_enter(&l1);
		if (hv_l1_exit_is_nested_fault(&l1)) {
			l1_handle_fault(&l1);
			continue;
		}
		if (hv_l1_exit_is_ud(&l1)) {
			relay_nr_uds++;
			relay_l1_seen.rip = hv_l1_get_rip(&l1);
			relay_l1_seen.regs = guest_regs;
			GUEST_DONE();
		}
		__GUEST_ASSERT(hv_l1_exit_is_hcall(&l1),
			       "Wanted a hypercall exit, got 0x%lx",
			       hv_l1_exit_reason(&l1));

		relay_l1_seen.count++;
		relay_l1_seen.rip = hv_l1_get_rip(&l1);
		relay_l1_seen.regs = guest_regs;

		if (config.mode != HV_L2_LONG)
			GUEST_DONE();

		if (memcmp(&config, &relay_l1_config, sizeof(config))) {
			config = relay_l1_config;
			hv_l1_authorize(&l1, &config);
		}
		guest_regs.rax = REFLECTED_RAX;
		hv_l1_set_rip(&l1, relay_l1_seen.rip + HYPERCALL_INSN_SIZE);
	}
}

/* Let L2 execute @gva at CPL 3, with the page tables that it has from L1. */
static void make_user_page(struct kvm_vm *vm, gva_t gva)
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

void relay_vm_init(struct relay_vm *r, struct kvm_vm *vm,
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

	relay_l1_config = (struct hv_l1_config) {
		.guest_os_id	= HYPERV_LINUX_OS_ID,
		.enlightened	= true,
		.direct_vmcs	= true,
		.direct_assist	= true,
		.vm_id		= HV_L2_VM_ID,
	};
	memset(&relay_l1_fix, 0, sizeof(relay_l1_fix));
	relay_calls_from_l1 = false;
	relay_nr_calls = 1;
	relay_write_msg = false;
	relay_hcall_is_vmmcall = !kvm_cpu_has(X86_FEATURE_VMX);
}

const char *__relay_vm_create(struct relay_vm *r, bool nested_paging,
			      void *l1_code, int nr_l2s)
{
	const char *why_not = hv_l1_why_not(nested_paging);
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	if (why_not)
		return why_not;

	vm = vm_create_with_one_vcpu(&vcpu, l1_code);
	vm_install_exception_handler(vm, UD_VECTOR, relay_ud_handler);
	relay_vm_init(r, vm, vcpu, nested_paging, nr_l2s);
	return NULL;
}

const char *relay_vm_create(struct relay_vm *r, bool nested_paging)
{
	const char *why_not = __relay_vm_create(r, nested_paging, relay_l1_main, 1);

	if (!why_not)
		vcpu_enable_cap(r->vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	return why_not;
}

void relay_vm_serve(struct relay_vm *r, u64 mask, u64 vm_id)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_NESTED_HYPERV_HCALL_RELAY,
		.args = { mask | RELAY_ONE_L2, vm_id },
	};

	vm_ioctl(r->vm, KVM_ENABLE_CAP, &cap);
}

u64 *relay_vm_map_pte(struct relay_vm *r, u64 *pte)
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

int relay_vm_add_eventfd(struct relay_vm *r)
{
	struct kvm_hyperv_eventfd args = {
		.conn_id = CONN_ID,
		.fd = eventfd(0, EFD_NONBLOCK),
	};

	TEST_ASSERT(args.fd >= 0, "eventfd() failed");
	vm_ioctl(r->vm, KVM_HYPERV_EVENTFD, &args);
	return args.fd;
}

void relay_vm_record_exit(struct relay_vm *r)
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

void relay_vm_save_restore(struct relay_vm *r)
{
	struct kvm_x86_state *state = vcpu_save_state(r->vcpu);

	r->nr_kept += vcpu_get_stat(r->vcpu, nested_hv_relayed_hcalls);
	kvm_vm_release(r->vm);
	r->vcpu = vm_recreate_with_one_vcpu(r->vm);
	hv_l1_restore(r->vcpu, state);
}

void relay_vm_run(struct relay_vm *r)
{
	struct ucall uc;

	memset(&relay_l1_seen, 0, sizeof(relay_l1_seen));
	memset(&relay_l1_fault, 0, sizeof(relay_l1_fault));
	memset(r->payload, 0, sizeof(r->payload));
	r->nr_kept = -vcpu_get_stat(r->vcpu, nested_hv_relayed_hcalls);
	r->delivered = 0;
	memset(&relay_outcomes, 0, sizeof(relay_outcomes));
	relay_nr_uds = 0;

	sync_global_to_guest(r->vm, relay_l1_config);
	sync_global_to_guest(r->vm, relay_calls_from_l1);
	sync_global_to_guest(r->vm, relay_nr_calls);
	sync_global_to_guest(r->vm, relay_outcomes);
	sync_global_to_guest(r->vm, relay_msg_offset);
	sync_global_to_guest(r->vm, relay_msg);
	sync_global_to_guest(r->vm, relay_write_msg);
	sync_global_to_guest(r->vm, relay_hcall_in);
	sync_global_to_guest(r->vm, relay_hcall_is_vmmcall);
	sync_global_to_guest(r->vm, relay_l1_seen);
	sync_global_to_guest(r->vm, relay_l1_fault);
	sync_global_to_guest(r->vm, relay_l1_fix);
	sync_global_to_guest(r->vm, relay_nr_uds);

	for (;;) {
		vcpu_run(r->vcpu);
		if (r->vcpu->run->exit_reason != KVM_EXIT_HYPERV)
			break;
		relay_vm_record_exit(r);
		assert_exit(r, &r->exit, !relay_calls_from_l1, relay_l1_config.vm_id);
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

	sync_global_from_guest(r->vm, relay_hcall_in);
	sync_global_from_guest(r->vm, relay_hcall_out);
	sync_global_from_guest(r->vm, relay_l1_seen);
	sync_global_from_guest(r->vm, relay_l1_fault);
	sync_global_from_guest(r->vm, relay_outcomes);
	sync_global_from_guest(r->vm, relay_nr_uds);
	r->nr_kept += vcpu_get_stat(r->vcpu, nested_hv_relayed_hcalls);
}

void relay_vm_call(struct relay_vm *r, u64 control, u64 input)
{
	u64 *reg = (u64 *)&relay_hcall_in;
	int i;

	for (i = 0; i < sizeof(relay_hcall_in) / sizeof(*reg); i++)
		reg[i] = GARBAGE(i);
	relay_hcall_in.rcx = control;
	relay_hcall_in.rdx = input;

	relay_vm_run(r);

	/* No matter what became of the call, only RAX and RIP may change. */
	relay_hcall_in.rax = relay_hcall_out.rax;
	for (i = 0; i < sizeof(relay_hcall_in) / sizeof(*reg); i++)
		TEST_ASSERT(reg[i] == ((u64 *)&relay_hcall_out)[i],
			    "Register %d changed from 0x%lx to 0x%lx", i,
			    reg[i], ((u64 *)&relay_hcall_out)[i]);
}
