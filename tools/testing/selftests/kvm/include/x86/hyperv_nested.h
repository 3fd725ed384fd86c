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

/* The TLFS's consent to posts and signals, in the VP assist page's hypercall controls. */
#define HV_INTER_PARTITION_COMM		((u32)BIT(0))

/* What L1 says L2's VM and VP are, if it uses the enlightened VMCS or VMCB. */
#define HV_L2_VM_ID			1
#define HV_L2_VP_ID			1
#define HV_L2_OTHER_VM_ID		2

/* In no memory slot. */
#define HV_NOWHERE_GPA			0xf00000000ULL

/* L2 has L1's page tables in long mode, and no paging otherwise. */
enum hv_l2_mode {
	HV_L2_LONG,		/* 64-bit, CPL 0 */
	HV_L2_LONG_CPL3,
	HV_L2_COMPAT,		/* 32-bit code in long mode, CPL 0 */
	HV_L2_COMPAT_CPL3,
	HV_L2_PROT32,		/* 32-bit protected mode, CPL 0 */
	HV_L2_PROT32_CPL3,
	HV_L2_REAL,
};

/* What L1 does to PV EOI, by way of which KVM accesses the VP assist page. */
enum hv_pv_eoi {
	HV_PV_EOI_VP_ASSIST,	/* nothing, it is in the VP assist page */
	HV_PV_EOI_OFF,
	HV_PV_EOI_ELSEWHERE,
	HV_PV_EOI_BACK,		/* elsewhere, and back to the VP assist page */
	HV_PV_EOI_NOWHERE,	/* where no memory is: #GP */
};

/* What L1 is to set up; plain data, so that the host can fill it in. */
struct hv_l1_config {
	u64 guest_os_id;	/* HV_X64_MSR_GUEST_OS_ID while L2 runs */
	bool enlightened;	/* use the eVMCS, fill in the VMCB's enlightenments */
	bool direct_vmcs;	/* nested_flush_hypercall in the eVMCS/VMCB */
	bool direct_assist;	/* directhypercall in the VP assist page */
	u32 hypercall_controls;	/* in the VP assist page, HV_INTER_PARTITION_COMM */
	bool no_vp_assist;	/* no such page (SVM only, the eVMCS needs it) */
	enum hv_pv_eoi pv_eoi;	/* but for the first, no such page either */
	bool no_intercept;	/* SVM: don't intercept VMMCALL */
	bool intercept_ud;	/* SVM: intercept #UD */
	bool intercept_events;	/* L1 gets interrupts and NMIs that arrive in L2 */
	bool another;		/* L1 has an L2 already, i.e. is a hypervisor */
	u64 vm_id;		/* of L2, any value; for hv_l1_init() */
	enum hv_l2_mode mode;
	u64 l2_code;		/* L2's first instruction, unless HV_L2_LONG; < 4G */
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
	struct guest_regs regs;		/* while another L2 has guest_regs */
};

static inline bool hv_l2_mode_is_long(enum hv_l2_mode mode)
{
	return mode <= HV_L2_COMPAT_CPL3;
}

static inline bool hv_l2_mode_is_64_bit(enum hv_l2_mode mode)
{
	return mode <= HV_L2_LONG_CPL3;
}

static inline u32 hv_l2_mode_cpl(enum hv_l2_mode mode)
{
	return mode == HV_L2_LONG_CPL3 || mode == HV_L2_COMPAT_CPL3 ||
	       mode == HV_L2_PROT32_CPL3 ? 3 : 0;
}

/* L2's first RIP: 64-bit code has a flat CS, other code a CS at @l2_code. */
static inline u64 hv_l2_first_rip(struct hv_l1_config *cfg)
{
	return hv_l2_mode_is_64_bit(cfg->mode) ? cfg->l2_code : 0;
}

static inline void __hv_l1_vmx_set_mode(struct hv_l1_config *cfg)
{
	u32 dpl = hv_l2_mode_cpl(cfg->mode);
	bool is_64_bit = hv_l2_mode_is_64_bit(cfg->mode);
	u32 code_db_g = is_64_bit ? 0xa000 : 0xc000;
	u32 data_db_g = 0xc000;
	u32 limit = -1u;

	if (!hv_l2_mode_is_long(cfg->mode)) {
		u64 cr0 = get_cr0() & ~(X86_CR0_PG | X86_CR0_PE);

		if (cfg->mode == HV_L2_REAL) {
			code_db_g = 0;
			data_db_g = 0;
			limit = 0xffff;
		} else {
			cr0 |= X86_CR0_PE;
		}

		vmwrite(SECONDARY_VM_EXEC_CONTROL,
			vmreadz(SECONDARY_VM_EXEC_CONTROL) |
			SECONDARY_EXEC_UNRESTRICTED_GUEST);
		vmwrite(VM_ENTRY_CONTROLS, vmreadz(VM_ENTRY_CONTROLS) &
			~VM_ENTRY_IA32E_MODE);
		vmwrite(GUEST_IA32_EFER, 0);
		vmwrite(GUEST_CR0, cr0);
	}

	vmwrite(GUEST_CS_SELECTOR, 8 | dpl);
	vmwrite(GUEST_CS_BASE, is_64_bit ? 0 : cfg->l2_code);
	vmwrite(GUEST_CS_LIMIT, limit);
	vmwrite(GUEST_CS_AR_BYTES, 0x9b | dpl << 5 | code_db_g);
	vmwrite(GUEST_SS_SELECTOR, 16 | dpl);
	vmwrite(GUEST_SS_LIMIT, limit);
	vmwrite(GUEST_SS_AR_BYTES, 0x93 | dpl << 5 | data_db_g);
	vmwrite(GUEST_DS_SELECTOR, 16 | dpl);
	vmwrite(GUEST_DS_LIMIT, limit);
	vmwrite(GUEST_DS_AR_BYTES, 0x93 | dpl << 5 | data_db_g);
	vmwrite(GUEST_ES_AR_BYTES, 0x10000);
	vmwrite(GUEST_FS_AR_BYTES, 0x10000);
	vmwrite(GUEST_GS_AR_BYTES, 0x10000);
	vmwrite(GUEST_RIP, hv_l2_first_rip(cfg));
}

static inline void __hv_l1_svm_set_mode(struct vmcb_save_area *save,
					struct hv_l1_config *cfg)
{
	u32 dpl = hv_l2_mode_cpl(cfg->mode);
	bool is_64_bit = hv_l2_mode_is_64_bit(cfg->mode);
	u32 attrib = SVM_SELECTOR_S_MASK | SVM_SELECTOR_P_MASK |
		     dpl << SVM_SELECTOR_DPL_SHIFT;
	u32 limit = 0xffff;

	if (!hv_l2_mode_is_long(cfg->mode)) {
		save->cr0 &= ~(X86_CR0_PG | X86_CR0_PE);
		save->efer &= ~(EFER_LME | EFER_LMA);
	}
	if (cfg->mode != HV_L2_REAL) {
		save->cr0 |= X86_CR0_PE;
		attrib |= SVM_SELECTOR_DB_MASK | SVM_SELECTOR_G_MASK;
		limit = -1u;
	}

	save->cs.selector = 8 | dpl;
	save->cs.base = is_64_bit ? 0 : cfg->l2_code;
	save->cs.limit = limit;
	save->cs.attrib = attrib | 0xb;
	if (is_64_bit) {
		save->cs.attrib &= ~SVM_SELECTOR_DB_MASK;
		save->cs.attrib |= SVM_SELECTOR_L_MASK;
	}
	save->ss.selector = 16 | dpl;
	save->ss.limit = limit;
	save->ss.attrib = attrib | 0x3;
	save->ds = save->ss;
	save->es = save->ss;
	save->cpl = dpl;
	save->rip = hv_l2_first_rip(cfg);
}

/*
 * Allow or forbid L2's direct hypercalls, as @cfg says.  May be called again
 * between two entries into L2.
 */
static inline void hv_l1_authorize(struct hv_l1 *l1, struct hv_l1_config *cfg)
{
	struct hyperv_test_pages *hv = l1->hv;
	struct hv_vp_assist_page *assist = hv->vp_assist;

	if (!this_cpu_has(X86_FEATURE_VMX)) {
		struct hv_vmcb_enlightenments *enl = &l1->svm->vmcb->control.hv_enlightenments;

		enl->hv_enlightenments_control.nested_flush_hypercall =
			cfg->enlightened && cfg->direct_vmcs;
	} else if (cfg->enlightened) {
		current_evmcs->hv_enlightenments_control.nested_flush_hypercall =
			cfg->direct_vmcs;
	}

	/* Not current_vp_assist, which all vCPUs share. */
	assist->nested_control.features.directhypercall = cfg->direct_assist;
	/* The features are followed by the hypercall controls. */
	((u32 *)&assist->nested_control)[1] = cfg->hypercall_controls;
	if (cfg->no_vp_assist)
		wrmsr(HV_X64_MSR_VP_ASSIST_PAGE, 0);
	else
		enable_vp_assist(hv->vp_assist_gpa, hv->vp_assist);
	if (cfg->pv_eoi == HV_PV_EOI_OFF)
		wrmsr(MSR_KVM_PV_EOI_EN, 0);
	if (cfg->pv_eoi == HV_PV_EOI_ELSEWHERE || cfg->pv_eoi == HV_PV_EOI_BACK)
		wrmsr(MSR_KVM_PV_EOI_EN,
		      (hv->vp_assist_gpa + sizeof(*assist)) | KVM_MSR_ENABLED);
	if (cfg->pv_eoi == HV_PV_EOI_NOWHERE)
		wrmsr(MSR_KVM_PV_EOI_EN, HV_NOWHERE_GPA | KVM_MSR_ENABLED);
	if (cfg->pv_eoi == HV_PV_EOI_BACK)
		wrmsr(MSR_KVM_PV_EOI_EN, hv->vp_assist_gpa | KVM_MSR_ENABLED);
	wrmsr(HV_X64_MSR_GUEST_OS_ID, cfg->guest_os_id);
}

/*
 * Become a hypervisor, unless @cfg->another, and prepare L2, which starts at
 * @l2_code with a stack of its own; with @cfg->mode other than HV_L2_LONG, it
 * starts at @cfg->l2_code.
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
		if (!cfg->another)
			GUEST_ASSERT(prepare_for_vmx_operation(l1->vmx));
		if (cfg->enlightened)
			GUEST_ASSERT(load_evmcs(hv));
		else
			GUEST_ASSERT(load_vmcs(l1->vmx));
		prepare_vmcs(l1->vmx, l2_code);
		if (cfg->mode != HV_L2_LONG)
			__hv_l1_vmx_set_mode(cfg);
		if (cfg->intercept_events)
			vmwrite(PIN_BASED_VM_EXEC_CONTROL,
				vmreadz(PIN_BASED_VM_EXEC_CONTROL) |
				PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING);
		if (cfg->enlightened) {
			current_evmcs->partition_assist_page = hv->partition_assist_gpa;
			current_evmcs->hv_vm_id = cfg->vm_id;
			current_evmcs->hv_vp_id = HV_L2_VP_ID;
		}
	} else {
		struct vmcb *vmcb = l1->svm->vmcb;
		struct hv_vmcb_enlightenments *enl = &vmcb->control.hv_enlightenments;

		generic_svm_setup(l1->svm, l2_code);
		if (cfg->mode != HV_L2_LONG)
			__hv_l1_svm_set_mode(&vmcb->save, cfg);
		/* As on VMX, where there is no choice. */
		vmcb->control.intercept |= BIT_ULL(INTERCEPT_CPUID) |
					   BIT_ULL(INTERCEPT_INIT);
		if (cfg->no_intercept)
			vmcb->control.intercept &= ~BIT_ULL(INTERCEPT_VMMCALL);
		if (cfg->intercept_ud)
			vmcb->control.intercept_exceptions |= BIT(UD_VECTOR);
		if (cfg->intercept_events)
			vmcb->control.intercept |= BIT_ULL(INTERCEPT_INTR) |
						   BIT_ULL(INTERCEPT_NMI);
		if (cfg->enlightened) {
			enl->partition_assist_page = hv->partition_assist_gpa;
			enl->hv_vm_id = cfg->vm_id;
			enl->hv_vp_id = HV_L2_VP_ID;
		}
	}

	hv_l1_authorize(l1, cfg);
	l1->launched = false;
}

/*
 * Let hv_l1_*() be about the L2 of @to instead of that of @from.  Both have
 * their own pages, except for the VP assist page, of which there is one per
 * vCPU.
 */
static inline void hv_l1_switch(struct hv_l1 *from, struct hv_l1 *to)
{
	from->regs = guest_regs;
	guest_regs = to->regs;

	if (this_cpu_has(X86_FEATURE_VMX)) {
		evmcs_vmptrld(to->hv->enlightened_vmcs_gpa, to->hv->enlightened_vmcs);
		/* KVM has but one VMCS for all of L1's: it is a new one again. */
		to->launched = false;
	}
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

/* Did L2 exit to L1 because of CPUID?  L2 may use that to give control to L1. */
static inline bool hv_l1_exit_is_cpuid(struct hv_l1 *l1)
{
	return hv_l1_exit_reason(l1) == (this_cpu_has(X86_FEATURE_VMX) ?
					 EXIT_REASON_CPUID : SVM_EXIT_CPUID);
}

/* Did L2 exit to L1 because of an interrupt? */
static inline bool hv_l1_exit_is_intr(struct hv_l1 *l1)
{
	return hv_l1_exit_reason(l1) == (this_cpu_has(X86_FEATURE_VMX) ?
					 EXIT_REASON_EXTERNAL_INTERRUPT :
					 SVM_EXIT_INTR);
}

/* Did L2 exit to L1 because of an NMI?  There are no exceptions that exit. */
static inline bool hv_l1_exit_is_nmi(struct hv_l1 *l1)
{
	return hv_l1_exit_reason(l1) == (this_cpu_has(X86_FEATURE_VMX) ?
					 EXIT_REASON_EXCEPTION_NMI :
					 SVM_EXIT_NMI);
}

/* Did L2 exit to L1 because of #UD?  SVM only, see hv_l1_config. */
static inline bool hv_l1_exit_is_ud(struct hv_l1 *l1)
{
	return !this_cpu_has(X86_FEATURE_VMX) &&
	       hv_l1_exit_reason(l1) == SVM_EXIT_EXCP_BASE + UD_VECTOR;
}

/* Did L2 exit to L1 after its TLB flush hypercall, as L1 had asked for? */
static inline bool hv_l1_exit_is_tlb_flush(struct hv_l1 *l1)
{
	if (this_cpu_has(X86_FEATURE_VMX))
		return vmreadz(VM_EXIT_REASON) ==
		       HV_VMX_SYNTHETIC_EXIT_REASON_TRAP_AFTER_FLUSH;

	return l1->svm->vmcb->control.exit_code == HV_SVM_EXITCODE_ENL &&
	       l1->svm->vmcb->control.exit_info_1 ==
	       HV_SVM_ENL_EXITCODE_TRAP_AFTER_FLUSH;
}

/*
 * Did L2 exit to L1 because of what L1's nested page tables say, i.e. with an EPT
 * violation, an EPT misconfiguration or a nested page fault?
 */
static inline bool hv_l1_exit_is_nested_fault(struct hv_l1 *l1)
{
	u64 reason = hv_l1_exit_reason(l1);

	if (this_cpu_has(X86_FEATURE_VMX))
		return reason == EXIT_REASON_EPT_VIOLATION ||
		       reason == EXIT_REASON_EPT_MISCONFIG;

	return reason == SVM_EXIT_NPF;
}

/* The L2 GPA of a nested fault. */
static inline u64 hv_l1_fault_gpa(struct hv_l1 *l1)
{
	if (this_cpu_has(X86_FEATURE_VMX))
		return vmreadz(GUEST_PHYSICAL_ADDRESS);

	return l1->svm->vmcb->control.exit_info_2;
}

/* EPT_VIOLATION_*, 0 for a misconfiguration, or PFERR_* on SVM. */
static inline u64 hv_l1_fault_info(struct hv_l1 *l1)
{
	if (this_cpu_has(X86_FEATURE_VMX))
		return vmreadz(EXIT_QUALIFICATION);

	return l1->svm->vmcb->control.exit_info_1;
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

/* Make a hypercall, in L1 or L2: @vmmcall is for SVM.  Returns RAX. */
static __always_inline u64 hv_hypercall(bool vmmcall, u64 control, u64 input, u64 output)
{
	register u64 r8 asm("r8") = output;
	u64 rax = 0xdead;

	if (vmmcall)
		asm volatile("vmmcall" : "+a"(rax)
			     : "c"(control), "d"(input), "r"(r8) : "memory");
	else
		asm volatile("vmcall" : "+a"(rax)
			     : "c"(control), "d"(input), "r"(r8) : "memory");
	return rax;
}

/* Older kernels have KVM_CAP_NESTED_STATE with nested virtualization off, too. */
static inline bool kvm_has_nested(void)
{
	return kvm_cpu_has(X86_FEATURE_VMX) || kvm_cpu_has(X86_FEATURE_SVM);
}

/* Host side: NULL if there can be such an L1 here, otherwise why there can't. */
static inline const char *hv_l1_why_not(bool nested_paging)
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

/* Host side: let the vCPU be that of an L1. */
static inline void hv_l1_enable(struct kvm_vcpu *vcpu)
{
	vcpu_set_hv_cpuid(vcpu);
	if (kvm_cpu_has(X86_FEATURE_VMX))
		vcpu_enable_evmcs(vcpu);
	vcpu_set_msr(vcpu, HV_X64_MSR_VP_INDEX, vcpu->id);
}

/* Host side: load @state of an L1 with an active SynIC into a new vCPU, and free it. */
static inline void hv_l1_restore(struct kvm_vcpu *vcpu, struct kvm_x86_state *state)
{
	hv_l1_enable(vcpu);
	vcpu_enable_cap(vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	vcpu_load_state(vcpu, state);
	kvm_x86_state_cleanup(state);
}

/* Host side: allocate what hv_l1_init() needs, as two arguments for guest code. */
static inline void vm_alloc_hv_l1(struct kvm_vm *vm, gva_t *nested_gva, gva_t *hv_gva)
{
	if (kvm_cpu_has(X86_FEATURE_VMX))
		vcpu_alloc_vmx(vm, nested_gva);
	else
		vcpu_alloc_svm(vm, nested_gva);
	vcpu_alloc_hyperv_test_pages(vm, hv_gva);
}

#endif /* SELFTEST_KVM_HYPERV_NESTED_H */
