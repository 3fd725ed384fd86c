/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What hyperv_nested_relay.c and its KUnit tests use of later kernels, in terms
 * of 6.12.  The Makefiles force it on these two files, and on no others.
 */
#ifndef __ARCH_X86_KVM_HYPERV_NESTED_RELAY_COMPAT_H__
#define __ARCH_X86_KVM_HYPERV_NESTED_RELAY_COMPAT_H__

#include <linux/kvm_host.h>

#include "cpuid.h"
#include "kvm_cache_regs.h"
#include "mmu.h"
#include "x86.h"

#define EXPORT_SYMBOL_FOR_KVM_INTERNAL	EXPORT_SYMBOL_GPL

/* Of the VP assist page. */
#define hypercall_controls	hypercallControls

/* Registers: what is read without a suffix here, is "raw" in later kernels. */
#define kvm_rcx_read_raw	kvm_rcx_read
#define kvm_rdx_read_raw	kvm_rdx_read

static inline u32 kvm_eax_read(struct kvm_vcpu *vcpu)
{
	return kvm_rax_read(vcpu);
}

static inline u32 kvm_ebx_read(struct kvm_vcpu *vcpu)
{
	return kvm_rbx_read(vcpu);
}

static inline u32 kvm_ecx_read(struct kvm_vcpu *vcpu)
{
	return kvm_rcx_read(vcpu);
}

/*
 * Page walks are part of an MMU here.  While L2 runs with nested paging, the
 * walk of L1's nested page tables is that of guest_mmu; L2's own walk, by which
 * kvm_translate_gpa() tells whether there is anything to translate, is that of
 * whatever MMU is current.
 */
#define ngpa_walk	guest_mmu
#define gva_walk	walk_mmu

static inline gpa_t kvm_hv_compat_translate_gpa(struct kvm_vcpu *vcpu,
						struct kvm_mmu **walk, gpa_t gpa,
						u64 access,
						struct x86_exception *exception,
						u64 pte_access)
{
	return kvm_translate_gpa(vcpu, *walk, gpa, access, exception);
}
#define kvm_translate_gpa	kvm_hv_compat_translate_gpa

/* By the MMU, as in later kernels; here, the walk is changed along with it. */
static inline bool kvm_hv_compat_mmu_is_nested(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.mmu == &vcpu->arch.guest_mmu;
}
#define mmu_is_nested		kvm_hv_compat_mmu_is_nested

/*
 * Vendor code provides its nested operations no matter what here, and nested
 * virtualization shows in the CPUID that it supports.
 */
struct kvm_hv_compat_nested_ops {
	bool enabled;
};

#define kvm_nested_ops							\
	((struct kvm_hv_compat_nested_ops) {				\
		.enabled = kvm_cpu_cap_has(X86_FEATURE_VMX) ||		\
			   kvm_cpu_cap_has(X86_FEATURE_SVM),		\
	})

#endif /* __ARCH_X86_KVM_HYPERV_NESTED_RELAY_COMPAT_H__ */
