/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A VM for tests of KVM_CAP_NESTED_HYPERV_HCALL_RELAY: an L2 that makes one
 * hypercall at a time, with all of its registers under control, and an L1 that
 * counts the hypercalls that reach it.
 *
 * A call has one of four relay_outcomes: it is delivered to userspace, KVM completes
 * it with a status, it is reflected to L1, or L1 gets a memory intercept, because
 * it doesn't map the input.
 */
#ifndef SELFTEST_KVM_HYPERV_NESTED_RELAY_H
#define SELFTEST_KVM_HYPERV_NESTED_RELAY_H

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

/*
 * Shared with guest code: relay_vm_run() copies them to the guest and, of what
 * the guest writes, back.
 */
extern struct hv_l1_config relay_l1_config;
extern bool relay_calls_from_l1, relay_write_msg;
extern u64 relay_nr_calls;	/* between two looks of the host */
extern u64 relay_msg_offset;
extern u8 relay_msg[HV_POST_MESSAGE_INPUT_SIZE];
extern u64 relay_nr_uds;

/* How many of these calls ended with which RAX. */
struct relay_outcomes {
	u64 reflected, success, replied, intercepted;
};
extern struct relay_outcomes relay_outcomes;

/* The last call that was reflected to L1, and how many there were. */
struct relay_l1_seen {
	u64 count;
	u64 rip;
	struct guest_regs regs;
};
extern struct relay_l1_seen relay_l1_seen;

/* The last memory intercept, and how many there were. */
struct relay_l1_fault {
	u64 count;
	u64 reason, gpa, info, rip;
	struct guest_regs regs;
};
extern struct relay_l1_fault relay_l1_fault;

/*
 * What L1 does about one: set this entry of its nested page tables and resume L2,
 * or, without an entry, skip the call.
 */
struct relay_l1_fix {
	u64 *pte;
	u64 value;
};
extern struct relay_l1_fix relay_l1_fix;

/* All registers of the caller, before and after a call. */
extern struct guest_regs relay_hcall_in, relay_hcall_out;
extern bool relay_hcall_is_vmmcall;

/* Runs in L2, or in L1 if @relay_calls_from_l1. */
void relay_caller_main(void);
void relay_ud_handler(struct ex_regs *regs);
void relay_l1_main(void *nested, struct hyperv_test_pages *hv);

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

	/* Outcome of the last call, besides what is shared with the guest. */
	u64 delivered;
	struct kvm_hyperv_exit exit;
	u8 payload[HV_POST_MESSAGE_INPUT_SIZE];
	u64 nr_kept;		/* by the stat, added up over vCPUs */

	/* Called in each exit for a hypercall, before L2 sees the result. */
	void (*in_exit)(struct relay_vm *r);
};

/*
 * Prepare what L1 and L2s need in a VM with one vCPU, and pass the pages for
 * hv_l1_init() as two arguments for each of @nr_l2s.
 */
void relay_vm_init(struct relay_vm *r, struct kvm_vm *vm,
		   struct kvm_vcpu *vcpu, bool nested_paging, int nr_l2s);

/*
 * Create a VM whose vCPU starts at @l1_code.  Return NULL if the relay can be
 * tested here, otherwise why it can't.
 */
const char *__relay_vm_create(struct relay_vm *r, bool nested_paging,
			      void *l1_code, int nr_l2s);

/*
 * The same, with relay_l1_main() and an active SynIC, without which KVM delivers
 * nothing at all.
 */
const char *relay_vm_create(struct relay_vm *r, bool nested_paging);

static inline void relay_vm_set_mask(struct relay_vm *r, u64 mask)
{
	vm_enable_cap(r->vm, KVM_CAP_NESTED_HYPERV_HCALL_RELAY, mask);
}

/* Set the mask, and serve only the L2 of VM @vm_id. */
void relay_vm_serve(struct relay_vm *r, u64 mask, u64 vm_id);

/*
 * Let L1 write to the page that has *@pte, an entry of its nested page tables.
 * Returns L1's address of the entry.
 */
#define RELAY_PTE_GVA		0x20000000ULL

u64 *relay_vm_map_pte(struct relay_vm *r, u64 *pte);

/* It is the VM's, any vCPU will do. */
static inline void set_guest_os_id(struct kvm_vcpu *vcpu, u64 id)
{
	vcpu_set_msr(vcpu, HV_X64_MSR_GUEST_OS_ID, id);
}

/* Returns an eventfd that counts the signals of CONN_ID. */
int relay_vm_add_eventfd(struct relay_vm *r);

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

/* Keep what the VMM gets to see of a call, and answer it. */
void relay_vm_record_exit(struct relay_vm *r);

/*
 * Save the VM, with the vCPU wherever it is, and restore it into a new one.  The
 * capability is configuration, i.e. is off until it is enabled again.
 */
void relay_vm_save_restore(struct relay_vm *r);

/* Run one hypercall to its end, with the registers that are in relay_hcall_in. */
void relay_vm_run(struct relay_vm *r);

/* A 64-bit call, garbage in all registers that aren't its operands. */
#define GARBAGE(reg)	(0xa5a5000000000000ULL | ((reg) + 1) * 0x101)

void relay_vm_call(struct relay_vm *r, u64 control, u64 input);

static inline void __assert_outcome(struct relay_vm *r, u64 delivered, u64 reflected,
				    u64 uds, u64 kept, u64 intercepts)
{
	TEST_ASSERT_EQ(relay_l1_fault.count, intercepts);
	TEST_ASSERT(r->delivered == delivered && relay_l1_seen.count == reflected &&
		    relay_nr_uds == uds && r->nr_kept == kept,
		    "Wanted delivered %lu, reflected %lu, #UD %lu, stat %lu; got %lu, %lu, %lu, %lu (RAX 0x%lx)",
		    delivered, reflected, uds, kept, r->delivered, relay_l1_seen.count,
		    relay_nr_uds, r->nr_kept, relay_hcall_out.rax);
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
	TEST_ASSERT_EQ(relay_hcall_out.rax, REFLECTED_RAX);

	/* L1 must see what L2 said, also in the control word. */
	TEST_ASSERT_EQ(relay_l1_seen.regs.rcx, control);
	TEST_ASSERT_EQ(relay_l1_seen.regs.rdx, input);
	TEST_ASSERT_EQ(relay_l1_seen.regs.r8, relay_hcall_in.r8);
}

/* The exit of a call that was delivered, however often L2 tried. */
static inline void assert_delivered_exit(struct relay_vm *r, u64 control, u64 param)
{
	/* KVM reads the parameter of a slow HvSignalEvent, and makes it a fast one. */
	if ((u16)control == HVCALL_SIGNAL_EVENT)
		control |= FAST;

	TEST_ASSERT_EQ(r->exit.u.hcall.input, control & ~HV_HYPERCALL_NESTED);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[0], param);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[1], relay_hcall_in.r8);
	TEST_ASSERT_EQ(relay_hcall_out.rax, REPLY);
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
	TEST_ASSERT_EQ(relay_hcall_out.rax, status);
}

/*
 * What L1 is to see of a call whose input at @gpa it doesn't let L2 read: a read
 * of that GPA, and L2 at its hypercall, with nothing changed.
 */
static inline void assert_fault(u64 control, gpa_t gpa)
{
	u64 want, mask;

	TEST_ASSERT_EQ(relay_l1_fault.gpa, gpa);
	TEST_ASSERT_EQ(relay_l1_fault.regs.rax, GARBAGE(0));
	TEST_ASSERT_EQ(relay_l1_fault.regs.rcx, control);
	TEST_ASSERT_EQ(relay_l1_fault.regs.rdx, gpa);
	TEST_ASSERT_EQ(relay_l1_fault.regs.r8, relay_hcall_in.r8);

	if (!kvm_cpu_has(X86_FEATURE_VMX)) {
		want = PFERR_GUEST_FINAL_MASK | PFERR_USER_MASK;
		mask = ~(u64)(PFERR_PRESENT_MASK | PFERR_RSVD_MASK);
	} else if (relay_l1_fault.reason == EXIT_REASON_EPT_VIOLATION) {
		want = EPT_VIOLATION_ACC_READ;
		mask = ~(u64)(EPT_VIOLATION_PROT_READ | EPT_VIOLATION_PROT_WRITE |
			      EPT_VIOLATION_PROT_EXEC);
	} else {
		want = 0;
		mask = -1ull;
	}
	TEST_ASSERT_EQ(relay_l1_fault.info & mask, want);
}

/* L1 gets a memory intercept, and goes on without the call. */
static inline void assert_intercepted(struct relay_vm *r, u64 control, gpa_t gpa)
{
	memset(&relay_l1_fix, 0, sizeof(relay_l1_fix));
	relay_vm_call(r, control, gpa);
	__assert_outcome(r, 0, 0, 0, 0, 1);
	TEST_ASSERT_EQ(relay_hcall_out.rax, INTERCEPTED_RAX);
	assert_fault(control, gpa);
}

/*
 * L1 gets a memory intercept, sets *@pte, an entry of its nested page tables as
 * the host sees it, to @value and resumes L2: the call is made once.
 */
static inline void relay_vm_call_fixed(struct relay_vm *r, u64 control, gpa_t gpa,
				       u64 *pte, u64 value)
{
	relay_l1_fix.pte = relay_vm_map_pte(r, pte);
	relay_l1_fix.value = value;
	relay_vm_call(r, control, gpa);
	memset(&relay_l1_fix, 0, sizeof(relay_l1_fix));
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
