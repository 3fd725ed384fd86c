/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Relay of a nested Hyper-V root partition's hypercalls to userspace.
 */
#ifndef __ARCH_X86_KVM_HYPERV_NESTED_RELAY_H__
#define __ARCH_X86_KVM_HYPERV_NESTED_RELAY_H__

#include <linux/kvm_host.h>

#include "hyperv.h"

/*
 * What became of a hypercall made by L2.  Only the first three are calls that
 * were kept in L0, all others are handled as if there was no relay, i.e. go to
 * L1 unless L1 doesn't intercept VMMCALL.
 */
enum kvm_hv_nested_relay_verdict {
	KVM_HV_RELAY_KEPT,
	KVM_HV_RELAY_BAD_ALIGNMENT,
	KVM_HV_RELAY_NOT_MAPPED,
	KVM_HV_RELAY_NO_NESTED_BIT,
	KVM_HV_RELAY_NOT_SELECTED,
	KVM_HV_RELAY_NOT_AUTHORIZED,
	KVM_HV_RELAY_NOT_HYPERV,
	KVM_HV_RELAY_BAD_MODE,
};

#ifdef CONFIG_KVM_HYPERV
static inline bool kvm_hv_nested_relay_enabled(struct kvm_vcpu *vcpu)
{
	return READ_ONCE(to_kvm_hv(vcpu->kvm)->nested_relay_mask);
}

/* True from the decision to keep a hypercall in L0 until it gets handled. */
static inline bool kvm_hv_nested_relay_kept(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hv *hv_vcpu = to_hv_vcpu(vcpu);

	return hv_vcpu && hv_vcpu->nested.relay;
}

u32 kvm_hv_nested_relay_supported(void);
int kvm_hv_nested_relay_enable(struct kvm *kvm, struct kvm_enable_cap *cap);
bool __kvm_hv_nested_l0_wants_hcall(struct kvm_vcpu *vcpu, bool direct);
u64 kvm_hv_nested_relay_begin(struct kvm_vcpu *vcpu, u64 *control, u64 *input);

/*
 * Whether the hypercall that made L2 exit is L0's to handle: a TLB flush, or a
 * call that is to be relayed.  @direct is whether L1 lets this L2 make
 * hypercalls to L0.
 */
static inline bool kvm_hv_nested_l0_wants_hcall(struct kvm_vcpu *vcpu, bool direct)
{
	if (!kvm_hv_nested_relay_enabled(vcpu))
		return direct && guest_hv_cpuid_has_l2_tlb_flush(vcpu) &&
		       kvm_hv_is_tlb_flush_hcall(vcpu);

	return __kvm_hv_nested_l0_wants_hcall(vcpu, direct);
}

#if IS_ENABLED(CONFIG_KUNIT)
bool kvm_hv_nested_relay_is_64_bit(struct kvm_vcpu *vcpu);
int kvm_hv_nested_relay_get_cpl(struct kvm_vcpu *vcpu);
bool kvm_hv_nested_relay_is_xen(struct kvm *kvm);
gpa_t kvm_hv_nested_relay_walk(struct kvm_vcpu *vcpu, gpa_t l2_gpa);
bool kvm_hv_nested_relay_is_nested_enabled(void);
bool kvm_hv_nested_relay_test_l0_wants_hcall(struct kvm_vcpu *vcpu, bool direct);
#endif
#else /* CONFIG_KVM_HYPERV */
static inline bool kvm_hv_nested_relay_kept(struct kvm_vcpu *vcpu)
{
	return false;
}

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
