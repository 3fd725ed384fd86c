// SPDX-License-Identifier: GPL-2.0-only
/*
 * Relay of a nested Hyper-V root partition's hypercalls to userspace.
 *
 * A Windows guest with Hyper-V or VBS enabled runs its own kernel in L2, as the
 * root partition of the nested hypervisor in L1.  The hypercalls by which that
 * kernel reaches its parent's vmbus have the "nested" bit set: they are meant
 * for L1's parent, i.e. for L0, and L1 can do nothing with them.  Keep the ones
 * that userspace selected and L1 authorized in L0, and handle them as if they
 * had been made by L1.
 *
 * There are two steps, in the course of one exit from L2:
 *
 *   kvm_hv_nested_l0_wants_hcall()  vendor code asks where the exit goes.  This
 *                                   is the one place where the decision is taken.
 *   kvm_hv_nested_relay_begin()     kvm_hv_hypercall() starts on a call that was
 *                                   kept.  Consumes the decision.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>

#include <kunit/static_stub.h>
#include <kunit/visibility.h>

#include <asm/mshyperv.h>

#include "cpuid.h"
#include "hyperv_nested_relay.h"
#include "mmu.h"
#include "trace.h"
#include "x86.h"
#include "xen.h"

/* HvPostMessage takes its connection, type and size in front of the payload. */
#define HV_POST_MESSAGE_INPUT_SIZE	(4 * sizeof(u32) + HV_MESSAGE_PAYLOAD_BYTE_COUNT)

struct kvm_hv_nested_relay_class {
	u32 bit;	/* KVM_NESTED_HYPERV_RELAY_* */
	u16 code;	/* hypercall code */
	u16 input_size;	/* input block of a call that isn't fast, in bytes */
};

static const struct kvm_hv_nested_relay_class kvm_hv_nested_relay_classes[] = {
	{
		.bit		= KVM_NESTED_HYPERV_RELAY_POST_MESSAGE,
		.code		= HVCALL_POST_MESSAGE,
		.input_size	= HV_POST_MESSAGE_INPUT_SIZE,
	},
	{
		.bit		= KVM_NESTED_HYPERV_RELAY_SIGNAL_EVENT,
		.code		= HVCALL_SIGNAL_EVENT,
		.input_size	= sizeof(u64),
	},
};

static const struct kvm_hv_nested_relay_class *
kvm_hv_nested_relay_find_class(u16 code)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(kvm_hv_nested_relay_classes); i++) {
		if (kvm_hv_nested_relay_classes[i].code == code)
			return &kvm_hv_nested_relay_classes[i];
	}

	return NULL;
}

/*
 * What the rest of KVM knows about a vCPU or the host, most of it from vendor
 * code.  KUnit tests redirect these functions, to run without hardware.
 */
VISIBLE_IF_KUNIT bool kvm_hv_nested_relay_is_64_bit(struct kvm_vcpu *vcpu)
{
	KUNIT_STATIC_STUB_REDIRECT(kvm_hv_nested_relay_is_64_bit, vcpu);

	return is_64_bit_hypercall(vcpu);
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_is_64_bit);

VISIBLE_IF_KUNIT int kvm_hv_nested_relay_get_cpl(struct kvm_vcpu *vcpu)
{
	KUNIT_STATIC_STUB_REDIRECT(kvm_hv_nested_relay_get_cpl, vcpu);

	return kvm_x86_call(get_cpl)(vcpu);
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_get_cpl);

VISIBLE_IF_KUNIT bool kvm_hv_nested_relay_is_xen(struct kvm *kvm)
{
	KUNIT_STATIC_STUB_REDIRECT(kvm_hv_nested_relay_is_xen, kvm);

	return kvm_xen_hypercall_enabled(kvm);
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_is_xen);

VISIBLE_IF_KUNIT gpa_t kvm_hv_nested_relay_walk(struct kvm_vcpu *vcpu, gpa_t l2_gpa)
{
	KUNIT_STATIC_STUB_REDIRECT(kvm_hv_nested_relay_walk, vcpu, l2_gpa);

	return kvm_translate_gpa(vcpu, &vcpu->arch.gva_walk, l2_gpa,
				 PFERR_GUEST_FINAL_MASK, NULL, 0);
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_walk);

VISIBLE_IF_KUNIT bool kvm_hv_nested_relay_is_nested_enabled(void)
{
	KUNIT_STATIC_STUB_REDIRECT(kvm_hv_nested_relay_is_nested_enabled);

	return kvm_nested_ops.enabled;
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_is_nested_enabled);

/* The low half of the control word has all that matters to who handles a call. */
static u32 kvm_hv_nested_relay_control(struct kvm_vcpu *vcpu, bool is_64_bit)
{
	return is_64_bit ? kvm_rcx_read_raw(vcpu) : kvm_eax_read(vcpu);
}

static u64 kvm_hv_nested_relay_input(struct kvm_vcpu *vcpu, bool is_64_bit)
{
	if (is_64_bit)
		return kvm_rdx_read_raw(vcpu);

	return ((u64)kvm_ebx_read(vcpu) << 32) | kvm_ecx_read(vcpu);
}

static enum kvm_hv_nested_relay_verdict
kvm_hv_nested_relay_decide(struct kvm_vcpu *vcpu, u32 control, bool is_64_bit,
			   bool authorized)
{
	struct kvm_vcpu_hv *hv_vcpu = to_hv_vcpu(vcpu);
	const struct kvm_hv_nested_relay_class *class;

	if (!(control & HV_HYPERCALL_NESTED))
		return KVM_HV_RELAY_NO_NESTED_BIT;

	class = kvm_hv_nested_relay_find_class(control);
	if (!class ||
	    !(READ_ONCE(to_kvm_hv(vcpu->kvm)->nested_relay_mask) & class->bit))
		return KVM_HV_RELAY_NOT_SELECTED;

	if (!authorized)
		return KVM_HV_RELAY_NOT_AUTHORIZED;

	if (!kvm_hv_hypercall_enabled(vcpu) || kvm_hv_nested_relay_is_xen(vcpu->kvm))
		return KVM_HV_RELAY_NOT_HYPERV;

	if (kvm_hv_nested_relay_get_cpl(vcpu) || !is_protmode(vcpu))
		return KVM_HV_RELAY_BAD_MODE;

	hv_vcpu->nested.relay = class;
	hv_vcpu->nested.relay_64_bit = is_64_bit;
	return KVM_HV_RELAY_KEPT;
}

/*
 * With the relay on, decode the hypercall that made L2 exit once for all who may
 * want it, and tell whether it stays in L0.  @direct is what vendor code knows:
 * whether L1 lets this L2 make hypercalls to L0, in the enlightened VMCS/VMCB
 * and in the VP assist page.
 *
 * If the call is kept to be relayed, handling the exit is bound to end up in
 * kvm_hv_nested_relay_begin(), no matter what userspace or other vCPUs change in
 * the meantime.
 */
bool __kvm_hv_nested_l0_wants_hcall(struct kvm_vcpu *vcpu, bool direct)
{
	bool is_64_bit = kvm_hv_nested_relay_is_64_bit(vcpu);
	u32 control = kvm_hv_nested_relay_control(vcpu, is_64_bit);
	enum kvm_hv_nested_relay_verdict verdict;

	verdict = kvm_hv_nested_relay_decide(vcpu, control, is_64_bit, direct);
	if (verdict == KVM_HV_RELAY_KEPT)
		return true;

	if (direct && guest_hv_cpuid_has_l2_tlb_flush(vcpu) &&
	    kvm_hv_is_tlb_flush_code(control))
		return true;

	if (trace_kvm_hv_nested_relay_enabled())
		trace_kvm_hv_nested_relay(control,
					  kvm_hv_nested_relay_input(vcpu, is_64_bit),
					  INVALID_GPA, verdict);
	return false;
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(__kvm_hv_nested_l0_wants_hcall);

/*
 * Check that L2 can have memory at @gpa.  L2's page tables can't yield a GPA
 * that is out of range, a register can.  The nested walk would look only at the
 * bits that its root level translates, i.e. take the GPA for another one.
 */
static bool kvm_hv_nested_relay_is_legal_gpa(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	int level = vcpu->arch.ngpa_walk.cpu_role.base.level;
	int bits = level > PT32E_ROOT_LEVEL ? PAGE_SHIFT + level * 9 : 32;

	return kvm_vcpu_is_legal_gpa(vcpu, gpa) &&
	       (!mmu_is_nested(vcpu) || !(gpa >> bits));
}

/*
 * Translate the address of L2's input block to an L1 GPA.  The block must not
 * cross a page: what follows in L1's address space need not be L2's.
 */
static enum kvm_hv_nested_relay_verdict
kvm_hv_nested_relay_translate(struct kvm_vcpu *vcpu, gpa_t l2_gpa, u16 size,
			      gpa_t *l1_gpa)
{
	if (!IS_ALIGNED(l2_gpa, sizeof(u64)) ||
	    offset_in_page(l2_gpa) + size > PAGE_SIZE)
		return KVM_HV_RELAY_BAD_ALIGNMENT;

	if (!kvm_hv_nested_relay_is_legal_gpa(vcpu, l2_gpa))
		return KVM_HV_RELAY_NOT_MAPPED;

	*l1_gpa = kvm_hv_nested_relay_walk(vcpu, l2_gpa);
	if (*l1_gpa == INVALID_GPA)
		return KVM_HV_RELAY_NOT_MAPPED;

	return KVM_HV_RELAY_KEPT;
}

/*
 * Make KVM's copy of a hypercall that was kept in L0 for L2 look as if it came
 * from L1: without the nested bit in @control, and with an L1 GPA in @input,
 * unless the call is fast.  L2's registers stay as they are.  Return the
 * Hyper-V status with which the call must be completed if that fails.
 */
u64 kvm_hv_nested_relay_begin(struct kvm_vcpu *vcpu, u64 *control, u64 *input)
{
	enum kvm_hv_nested_relay_verdict verdict = KVM_HV_RELAY_KEPT;
	struct kvm_vcpu_hv *hv_vcpu = to_hv_vcpu(vcpu);
	const struct kvm_hv_nested_relay_class *class = hv_vcpu->nested.relay;
	u64 l2_control = *control, l2_input = *input;
	gpa_t l1_gpa = INVALID_GPA;

	hv_vcpu->nested.relay = NULL;
	if (WARN_ON_ONCE(!is_guest_mode(vcpu)))
		return HV_STATUS_OPERATION_DENIED;

	*control &= ~HV_HYPERCALL_NESTED;
	++vcpu->stat.nested_hv_hypercalls;

	if (!(*control & HV_HYPERCALL_FAST_BIT)) {
		verdict = kvm_hv_nested_relay_translate(vcpu, l2_input,
							class->input_size, &l1_gpa);
		*input = l1_gpa;
	}

	trace_kvm_hv_nested_relay(l2_control, l2_input, l1_gpa, verdict);

	switch (verdict) {
	case KVM_HV_RELAY_BAD_ALIGNMENT:
		return HV_STATUS_INVALID_ALIGNMENT;
	case KVM_HV_RELAY_NOT_MAPPED:
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	default:
		return HV_STATUS_SUCCESS;
	}
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_begin);

/* The classes that this host can relay: what the capability reports and takes. */
u32 kvm_hv_nested_relay_supported(void)
{
	u32 mask = 0;
	int i;

	if (!kvm_hv_nested_relay_is_nested_enabled())
		return 0;

	for (i = 0; i < ARRAY_SIZE(kvm_hv_nested_relay_classes); i++)
		mask |= kvm_hv_nested_relay_classes[i].bit;

	return mask;
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_supported);

/*
 * Replace the VM's mask.  Nothing waits for vCPUs that are running: a vCPU
 * looks at the mask to decide on a hypercall, and not again for one that was
 * kept.  The change takes effect at its next exit from L2, if not at this one.
 */
int kvm_hv_nested_relay_enable(struct kvm *kvm, struct kvm_enable_cap *cap)
{
	if (cap->flags || cap->args[1] || cap->args[2] || cap->args[3] ||
	    cap->args[0] & ~(u64)kvm_hv_nested_relay_supported())
		return -EINVAL;

	WRITE_ONCE(to_kvm_hv(kvm)->nested_relay_mask, cap->args[0]);
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_enable);

#if IS_ENABLED(CONFIG_KUNIT)
/* Exported to vendor modules, no others, or not at all. */
bool kvm_hv_nested_relay_test_l0_wants_hcall(struct kvm_vcpu *vcpu, bool direct)
{
	return kvm_hv_nested_l0_wants_hcall(vcpu, direct);
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_test_l0_wants_hcall);
#endif
