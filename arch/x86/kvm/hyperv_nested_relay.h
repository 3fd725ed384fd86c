/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Relay of a nested Hyper-V root partition's hypercalls to userspace.
 */
#ifndef __ARCH_X86_KVM_HYPERV_NESTED_RELAY_H__
#define __ARCH_X86_KVM_HYPERV_NESTED_RELAY_H__

#include <linux/kvm_host.h>
#include <linux/tracepoint-defs.h>

#include "hyperv.h"

DECLARE_TRACEPOINT(kvm_hv_nested_relay);

/*
 * What became of a hypercall made by L2.  Those "to L1" are handled as if there
 * was no relay, but for the memory intercept, by which L1 gets to provide the
 * input of a call that L0 is going to handle.
 */
enum kvm_hv_nested_relay_verdict {
	KVM_HV_RELAY_KEPT,
	KVM_HV_RELAY_BAD_ADDRESS,
	KVM_HV_RELAY_MEMORY_INTERCEPT,
	KVM_HV_RELAY_NO_NESTED_BIT,
	KVM_HV_RELAY_NOT_SELECTED,
	KVM_HV_RELAY_NOT_AUTHORIZED,
	KVM_HV_RELAY_NO_INTER_PARTITION,
	KVM_HV_RELAY_ANOTHER_L2,
	KVM_HV_RELAY_NOT_HYPERV,
	KVM_HV_RELAY_BAD_MODE,
	KVM_HV_RELAY_NO_NESTED_PAGING,
};

#ifdef CONFIG_KVM_HYPERV
/* What a decision depends on, besides the mask, L1's consent and the call. */
struct kvm_hv_nested_relay_l2 {
	u64 vm_id;		/* L1's name for the VM that L2 is a vCPU of */
	bool inter_partition;	/* L1 lets L2 communicate with other partitions */
	bool hyperv;		/* KVM would take a call of L1 for a Hyper-V one */
	bool privileged;	/* CPL 0, and not real mode */
	bool nested_paging;	/* L1 has page tables for L2's GPAs */
};

u32 kvm_hv_nested_relay_supported(void);
int kvm_hv_nested_relay_enable(struct kvm *kvm, struct kvm_enable_cap *cap);
bool __kvm_hv_nested_l0_wants_hcall(struct kvm_vcpu *vcpu, bool direct);
bool kvm_hv_nested_relay_begin(struct kvm_vcpu *vcpu, u64 *control, u64 *input,
			       u64 *status);

/*
 * Whether the hypercall that made L2 exit is L0's to handle: a TLB flush, or a
 * call that is to be relayed.  @direct is whether L1 lets this L2 make
 * hypercalls to L0.
 */
static inline bool kvm_hv_nested_l0_wants_hcall(struct kvm_vcpu *vcpu, bool direct)
{
	/* With the relay off, there's a decision only for those who want to see it. */
	if (!READ_ONCE(to_kvm_hv(vcpu->kvm)->nested_relay.mask) &&
	    !tracepoint_enabled(kvm_hv_nested_relay))
		return direct && guest_hv_cpuid_has_l2_tlb_flush(vcpu) &&
		       kvm_hv_is_tlb_flush_hcall(vcpu);

	return __kvm_hv_nested_l0_wants_hcall(vcpu, direct);
}

#if IS_ENABLED(CONFIG_KUNIT)
enum kvm_hv_nested_relay_verdict
kvm_hv_nested_relay_select(u32 control, u32 mask, bool direct);
enum kvm_hv_nested_relay_verdict
kvm_hv_nested_relay_admit(const struct kvm_hv_nested_relay_config *config,
			  const struct kvm_hv_nested_relay_l2 *l2, bool fast);
gpa_t kvm_hv_nested_relay_walk(struct kvm_vcpu *vcpu, gpa_t l2_gpa,
			       struct x86_exception *fault);
u32 kvm_hv_nested_relay_valid_mask(void);
int kvm_hv_nested_relay_set(struct kvm *kvm, struct kvm_enable_cap *cap, u32 valid);
#endif
#else /* CONFIG_KVM_HYPERV */
static inline u32 kvm_hv_nested_relay_supported(void)
{
	return 0;
}

static inline int kvm_hv_nested_relay_enable(struct kvm *kvm,
					     struct kvm_enable_cap *cap)
{
	return -EINVAL;
}
#endif /* CONFIG_KVM_HYPERV */

#endif /* __ARCH_X86_KVM_HYPERV_NESTED_RELAY_H__ */
