/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An L1 that runs an L2 by means of the Hyper-V enlightenments, with the same
 * interface for VMX (enlightened VMCS) and SVM (enlightened VMCB).
 *
 * All hv_l1_*() functions are for guest code, they run in L1.  The GPRs of L2
 * are in guest_regs while L1 runs.
 */
#ifndef SELFTEST_KVM_HYPERV_NESTED_H
#define SELFTEST_KVM_HYPERV_NESTED_H

#include "kvm_util.h"
#include "processor.h"
#include "hyperv.h"
#include "svm_util.h"
#include "vmx.h"

/* The nested bit of a hypercall's control word: "for my hypervisor's parent". */
#define HV_HYPERCALL_NESTED		BIT_ULL(31)

/* VMCALL and VMMCALL are both 3-byte opcodes. */
#define HYPERCALL_INSN_SIZE		3

/* Input block of HvPostMessage, in bytes. */
#define HV_POST_MESSAGE_INPUT_SIZE	256

enum hv_l2_mode {
	HV_L2_LONG,		/* 64-bit, with L1's page tables, CPL 0 */
	HV_L2_PROT32,		/* 32-bit protected mode, no paging, CPL 0 */
	HV_L2_PROT32_CPL3,
	HV_L2_REAL,
};

/* What L1 is to set up; plain data, so that the host can fill it in. */
struct hv_l1_config {
	u64 guest_os_id;	/* HV_X64_MSR_GUEST_OS_ID while L2 runs */
	bool enlightened;	/* use the eVMCS; SVM has its VMCB anyway */
	bool direct_vmcs;	/* nested_flush_hypercall in the eVMCS/VMCB */
	bool direct_assist;	/* directhypercall in the VP assist page */
	bool no_vp_assist;	/* no such page (SVM only, the eVMCS needs it) */
	bool no_intercept;	/* SVM: don't intercept VMMCALL */
	enum hv_l2_mode mode;
	u64 l2_code_gpa;	/* L2's first instruction, for the unpaged modes */
};

/*
 * The pages that vcpu_alloc_{vmx,svm}() and vcpu_alloc_hyperv_test_pages() set
 * aside.  Only one of @vmx and @svm is valid.
 */
struct hv_l1 {
	union {
		struct vmx_pages *vmx;
		struct svm_test_data *svm;
	};
	struct hyperv_test_pages *hv;
	bool launched;
};

static inline void __hv_l1_vmx_set_mode(struct hv_l1_config *cfg)
{
	u32 dpl = cfg->mode == HV_L2_PROT32_CPL3 ? 3 : 0;
	u32 db_g = cfg->mode == HV_L2_REAL ? 0 : 0xc000;
	u64 cr0 = get_cr0() & ~(X86_CR0_PG | X86_CR0_PE);
	u32 data_ar = 0x93 | dpl << 5 | db_g;
	u32 limit = db_g ? -1u : 0xffff;

	if (cfg->mode != HV_L2_REAL)
		cr0 |= X86_CR0_PE;

	vmwrite(SECONDARY_VM_EXEC_CONTROL, vmreadz(SECONDARY_VM_EXEC_CONTROL) |
		SECONDARY_EXEC_UNRESTRICTED_GUEST);
	vmwrite(VM_ENTRY_CONTROLS, vmreadz(VM_ENTRY_CONTROLS) &
		~VM_ENTRY_IA32E_MODE);
	vmwrite(GUEST_IA32_EFER, 0);
	vmwrite(GUEST_CR0, cr0);

	vmwrite(GUEST_CS_SELECTOR, 8 | dpl);
	vmwrite(GUEST_CS_BASE, cfg->l2_code_gpa);
	vmwrite(GUEST_CS_LIMIT, limit);
	vmwrite(GUEST_CS_AR_BYTES, 0x9b | dpl << 5 | db_g);
	vmwrite(GUEST_SS_SELECTOR, 16 | dpl);
	vmwrite(GUEST_SS_LIMIT, limit);
	vmwrite(GUEST_SS_AR_BYTES, data_ar);
	vmwrite(GUEST_DS_SELECTOR, 16 | dpl);
	vmwrite(GUEST_DS_LIMIT, limit);
	vmwrite(GUEST_DS_AR_BYTES, data_ar);
	vmwrite(GUEST_ES_AR_BYTES, 0x10000);
	vmwrite(GUEST_FS_AR_BYTES, 0x10000);
	vmwrite(GUEST_GS_AR_BYTES, 0x10000);
	vmwrite(GUEST_RIP, 0);
}

static inline void __hv_l1_svm_set_mode(struct vmcb_save_area *save,
					struct hv_l1_config *cfg)
{
	u32 dpl = cfg->mode == HV_L2_PROT32_CPL3 ? 3 : 0;
	u32 attrib = SVM_SELECTOR_S_MASK | SVM_SELECTOR_P_MASK |
		     dpl << SVM_SELECTOR_DPL_SHIFT;
	u32 limit = 0xffff;

	save->cr0 &= ~(X86_CR0_PG | X86_CR0_PE);
	save->efer &= ~(EFER_LME | EFER_LMA);
	if (cfg->mode != HV_L2_REAL) {
		save->cr0 |= X86_CR0_PE;
		attrib |= SVM_SELECTOR_DB_MASK | SVM_SELECTOR_G_MASK;
		limit = -1u;
	}

	save->cs.selector = 8 | dpl;
	save->cs.base = cfg->l2_code_gpa;
	save->cs.limit = limit;
	save->cs.attrib = attrib | 0xb;
	save->ss.selector = 16 | dpl;
	save->ss.limit = limit;
	save->ss.attrib = attrib | 0x3;
	save->ds = save->ss;
	save->es = save->ss;
	save->cpl = dpl;
	save->rip = 0;
}

/*
 * Allow or forbid L2's direct hypercalls, as @cfg says.  May be called again
 * between two entries into L2.
 */
static inline void hv_l1_authorize(struct hv_l1 *l1, struct hv_l1_config *cfg)
{
	struct hyperv_test_pages *hv = l1->hv;

	if (!this_cpu_has(X86_FEATURE_VMX)) {
		struct hv_vmcb_enlightenments *enl = &l1->svm->vmcb->control.hv_enlightenments;

		enl->hv_enlightenments_control.nested_flush_hypercall = cfg->direct_vmcs;
	} else if (cfg->enlightened) {
		current_evmcs->hv_enlightenments_control.nested_flush_hypercall =
			cfg->direct_vmcs;
	}

	current_vp_assist->nested_control.features.directhypercall =
		cfg->direct_assist;
	if (cfg->no_vp_assist)
		wrmsr(HV_X64_MSR_VP_ASSIST_PAGE, 0);
	else
		enable_vp_assist(hv->vp_assist_gpa, hv->vp_assist);
	wrmsr(HV_X64_MSR_GUEST_OS_ID, cfg->guest_os_id);
}

/*
 * Become a hypervisor and prepare L2, which starts at @l2_code with a stack of
 * its own; @cfg->mode other than HV_L2_LONG starts at @cfg->l2_code_gpa.
 */
static inline void hv_l1_init(struct hv_l1 *l1, struct hv_l1_config *cfg,
			      void *l2_code)
{
	struct hyperv_test_pages *hv = l1->hv;

	wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
	enable_vp_assist(hv->vp_assist_gpa, hv->vp_assist);
	*(u32 *)hv->partition_assist = 0;

	if (this_cpu_has(X86_FEATURE_VMX)) {
		if (cfg->enlightened)
			evmcs_enable();
		GUEST_ASSERT(prepare_for_vmx_operation(l1->vmx));
		if (cfg->enlightened)
			GUEST_ASSERT(load_evmcs(hv));
		else
			GUEST_ASSERT(load_vmcs(l1->vmx));
		prepare_vmcs(l1->vmx, l2_code);
		if (cfg->mode != HV_L2_LONG)
			__hv_l1_vmx_set_mode(cfg);
		if (cfg->enlightened) {
			current_evmcs->partition_assist_page = hv->partition_assist_gpa;
			current_evmcs->hv_vm_id = 1;
			current_evmcs->hv_vp_id = 1;
		}
	} else {
		struct vmcb *vmcb = l1->svm->vmcb;
		struct hv_vmcb_enlightenments *enl = &vmcb->control.hv_enlightenments;

		generic_svm_setup(l1->svm, l2_code);
		if (cfg->mode != HV_L2_LONG)
			__hv_l1_svm_set_mode(&vmcb->save, cfg);
		if (cfg->no_intercept)
			vmcb->control.intercept &= ~BIT_ULL(INTERCEPT_VMMCALL);
		enl->partition_assist_page = hv->partition_assist_gpa;
		enl->hv_vm_id = 1;
		enl->hv_vp_id = 1;
	}

	hv_l1_authorize(l1, cfg);
	l1->launched = false;
}

/* Run L2 until it exits to L1.  Fails the test if L2 can't be entered. */
static inline void hv_l1_enter(struct hv_l1 *l1)
{
	if (!this_cpu_has(X86_FEATURE_VMX)) {
		run_guest(l1->svm->vmcb, l1->svm->vmcb_gpa);
	} else if (l1->launched) {
		GUEST_ASSERT(!vmresume());
	} else {
		GUEST_ASSERT(!vmlaunch());
		l1->launched = true;
	}
}

/* Returns the reason of L2's last exit, as VMX or SVM encodes it. */
static inline u64 hv_l1_exit_reason(struct hv_l1 *l1)
{
	if (this_cpu_has(X86_FEATURE_VMX))
		return vmreadz(VM_EXIT_REASON);

	return l1->svm->vmcb->control.exit_code;
}

/* Did L2 exit to L1 because of VMCALL/VMMCALL? */
static inline bool hv_l1_exit_is_hcall(struct hv_l1 *l1)
{
	return hv_l1_exit_reason(l1) == (this_cpu_has(X86_FEATURE_VMX) ?
					 EXIT_REASON_VMCALL : SVM_EXIT_VMMCALL);
}

static inline u64 hv_l1_get_rip(struct hv_l1 *l1)
{
	if (this_cpu_has(X86_FEATURE_VMX))
		return vmreadz(GUEST_RIP);

	return l1->svm->vmcb->save.rip;
}

static inline void hv_l1_set_rip(struct hv_l1 *l1, u64 rip)
{
	if (this_cpu_has(X86_FEATURE_VMX))
		vmwrite(GUEST_RIP, rip);
	else
		l1->svm->vmcb->save.rip = rip;
}

/* Host side: allocate what hv_l1_init() needs, as two arguments for guest code. */
static inline void vcpu_alloc_hv_l1(struct kvm_vcpu *vcpu, gva_t *nested_gva,
				    gva_t *hv_gva)
{
	vcpu_set_hv_cpuid(vcpu);
	if (kvm_cpu_has(X86_FEATURE_VMX)) {
		vcpu_enable_evmcs(vcpu);
		vcpu_alloc_vmx(vcpu->vm, nested_gva);
	} else {
		vcpu_alloc_svm(vcpu->vm, nested_gva);
	}
	vcpu_alloc_hyperv_test_pages(vcpu->vm, hv_gva);
	vcpu_set_msr(vcpu, HV_X64_MSR_VP_INDEX, vcpu->id);
}

#endif /* SELFTEST_KVM_HYPERV_NESTED_H */
