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
 *                                   is the one place where that is decided.
 *   kvm_hv_nested_relay_begin()     kvm_hv_hypercall() starts on a call of L2
 *                                   that isn't a TLB flush: L0 wanted it, or it
 *                                   wouldn't have got there.
 */
#include <linux/kvm_host.h>

#include <kunit/static_stub.h>
#include <kunit/visibility.h>

#include <asm/mshyperv.h>
#include <asm/vmx.h>

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
	{ KVM_NESTED_HYPERV_RELAY_POST_MESSAGE, HVCALL_POST_MESSAGE, HV_POST_MESSAGE_INPUT_SIZE },
	{ KVM_NESTED_HYPERV_RELAY_SIGNAL_EVENT, HVCALL_SIGNAL_EVENT, sizeof(u64) },
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

/* Is it one of the calls that userspace selected and L1 allowed L2? */
VISIBLE_IF_KUNIT enum kvm_hv_nested_relay_verdict
kvm_hv_nested_relay_select(u32 control, u32 mask, bool direct)
{
	const struct kvm_hv_nested_relay_class *class;

	if (!(control & HV_HYPERCALL_NESTED))
		return KVM_HV_RELAY_NO_NESTED_BIT;

	class = kvm_hv_nested_relay_find_class(control);
	if (!class || !(mask & class->bit))
		return KVM_HV_RELAY_NOT_SELECTED;

	return direct ? KVM_HV_RELAY_KEPT : KVM_HV_RELAY_NOT_AUTHORIZED;
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_select);

/* Is it an L2 that is served, and in a position to make the call? */
VISIBLE_IF_KUNIT enum kvm_hv_nested_relay_verdict
kvm_hv_nested_relay_admit(const struct kvm_hv_nested_relay_config *config,
			  const struct kvm_hv_nested_relay_l2 *l2, bool fast)
{
	if ((config->mask & KVM_NESTED_HYPERV_RELAY_INTER_PARTITION) &&
	    !l2->inter_partition)
		return KVM_HV_RELAY_NO_INTER_PARTITION;

	if ((config->mask & KVM_NESTED_HYPERV_RELAY_ONE_L2) &&
	    l2->vm_id != config->vm_id)
		return KVM_HV_RELAY_ANOTHER_L2;

	if (!l2->hyperv)
		return KVM_HV_RELAY_NOT_HYPERV;

	if (!l2->privileged)
		return KVM_HV_RELAY_BAD_MODE;

	/* What L1 maps L2's GPAs to is known to L1 alone. */
	if (!fast && !l2->nested_paging)
		return KVM_HV_RELAY_NO_NESTED_PAGING;

	return KVM_HV_RELAY_KEPT;
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_admit);

/*
 * Userspace may change the configuration meanwhile, but only as a whole.  The VM
 * ID is there only if it counts.
 */
static struct kvm_hv_nested_relay_config kvm_hv_nested_relay_get(struct kvm *kvm)
{
	struct kvm_hv *hv = to_kvm_hv(kvm);
	struct kvm_hv_nested_relay_config config = {
		.mask = READ_ONCE(hv->nested_relay.mask),
	};
	unsigned int seq;

	if (likely(!(config.mask & KVM_NESTED_HYPERV_RELAY_ONE_L2)))
		return config;

	do {
		seq = read_seqcount_begin(&hv->nested_relay_seq);
		config = hv->nested_relay;
	} while (read_seqcount_retry(&hv->nested_relay_seq, seq));

	return config;
}

static bool kvm_hv_nested_relay_inter_partition(struct kvm_vcpu_hv *hv_vcpu)
{
	return hv_vcpu->vp_assist_page.nested_control.hypercall_controls.inter_partition_comm;
}

static enum kvm_hv_nested_relay_verdict
kvm_hv_nested_relay_decide(struct kvm_vcpu *vcpu, u32 control, bool direct)
{
	struct kvm_hv_nested_relay_config config = kvm_hv_nested_relay_get(vcpu->kvm);
	struct kvm_vcpu_hv *hv_vcpu = to_hv_vcpu(vcpu);
	enum kvm_hv_nested_relay_verdict verdict;
	struct kvm_hv_nested_relay_l2 l2;

	verdict = kvm_hv_nested_relay_select(control, config.mask, direct);
	if (verdict != KVM_HV_RELAY_KEPT)
		return verdict;

	l2.privileged = !kvm_x86_call(get_cpl)(vcpu) && is_protmode(vcpu);
	l2.vm_id = hv_vcpu->nested.vm_id;
	l2.inter_partition = kvm_hv_nested_relay_inter_partition(hv_vcpu);
	l2.hyperv = kvm_hv_hypercall_enabled(vcpu) &&
		    !kvm_xen_hypercall_enabled(vcpu->kvm);
	l2.nested_paging = mmu_is_nested(vcpu);

	return kvm_hv_nested_relay_admit(&config, &l2, control & HV_HYPERCALL_FAST_BIT);
}

static noinline void __kvm_hv_nested_relay_trace(struct kvm_vcpu *vcpu, u32 control,
						 u64 l2_input, gpa_t l1_gpa,
						 enum kvm_hv_nested_relay_verdict verdict)
{
	struct kvm_vcpu_hv *hv_vcpu = to_hv_vcpu(vcpu);

	trace_kvm_hv_nested_relay(control, l2_input, l1_gpa,
				  hv_vcpu ? hv_vcpu->nested.vm_id : 0,
				  hv_vcpu && kvm_hv_nested_relay_inter_partition(hv_vcpu),
				  verdict);
}

static __always_inline void
kvm_hv_nested_relay_trace(struct kvm_vcpu *vcpu, u32 control, u64 l2_input,
			  gpa_t l1_gpa, enum kvm_hv_nested_relay_verdict verdict)
{
	if (trace_kvm_hv_nested_relay_enabled())
		__kvm_hv_nested_relay_trace(vcpu, control, l2_input, l1_gpa, verdict);
}

/*
 * With the relay or its tracepoint on, decode the hypercall that made L2 exit
 * once for all who may want it, and tell whether it stays in L0.  @direct is what
 * vendor code knows: whether L1 lets this L2 make hypercalls to L0, in the
 * enlightened VMCS/VMCB and in the VP assist page.
 */
bool __kvm_hv_nested_l0_wants_hcall(struct kvm_vcpu *vcpu, bool direct)
{
	bool is_64_bit = is_64_bit_hypercall(vcpu);
	/* The low half of the control word has all that matters here. */
	u32 control = is_64_bit ? kvm_rcx_read_raw(vcpu) : kvm_eax_read(vcpu);
	enum kvm_hv_nested_relay_verdict verdict;
	u64 input;

	verdict = kvm_hv_nested_relay_decide(vcpu, control, direct);
	if (direct && (verdict == KVM_HV_RELAY_KEPT ||
		       (guest_hv_cpuid_has_l2_tlb_flush(vcpu) &&
			kvm_hv_is_tlb_flush_code(control))))
		return true;

	input = is_64_bit ? kvm_rdx_read_raw(vcpu) :
			    (u64)kvm_ebx_read(vcpu) << 32 | kvm_ecx_read(vcpu);
	kvm_hv_nested_relay_trace(vcpu, control, input, INVALID_GPA, verdict);
	return false;
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(__kvm_hv_nested_l0_wants_hcall);

VISIBLE_IF_KUNIT gpa_t kvm_hv_nested_relay_walk(struct kvm_vcpu *vcpu, gpa_t l2_gpa,
						struct x86_exception *fault)
{
	KUNIT_STATIC_STUB_REDIRECT(kvm_hv_nested_relay_walk, vcpu, l2_gpa, fault);

	return kvm_translate_gpa(vcpu, &vcpu->arch.gva_walk, l2_gpa,
				 PFERR_GUEST_FINAL_MASK, fault, 0);
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_walk);

/*
 * Translate the address of the input of L2's hypercall in @input.  Return false
 * if L1 got a memory intercept in place of the call, as it doesn't let L2 read
 * the input: L2 makes the call again when L1 resumes it.
 */
static noinline bool kvm_hv_nested_relay_translate(struct kvm_vcpu *vcpu, u32 control, u16 size,
					  u64 *input, u64 *status)
{
	enum kvm_hv_nested_relay_verdict verdict = KVM_HV_RELAY_KEPT;
	u64 l2_input = *input, l1_gpa = INVALID_GPA;
	struct x86_exception fault;

	/* Only the walk of an EPT sets it. */
	fault.exit_qualification = 0;

	*status = kvm_hv_check_l2_input(vcpu, l2_input, size);
	if (likely(*status == HV_STATUS_SUCCESS)) {
		l1_gpa = kvm_hv_nested_relay_walk(vcpu, l2_input, &fault);
		if (unlikely(l1_gpa == INVALID_GPA))
			verdict = KVM_HV_RELAY_MEMORY_INTERCEPT;
	} else {
		verdict = KVM_HV_RELAY_BAD_ADDRESS;
	}

	*input = l1_gpa;
	kvm_hv_nested_relay_trace(vcpu, control, l2_input, l1_gpa, verdict);
	if (likely(verdict != KVM_HV_RELAY_MEMORY_INTERCEPT))
		return true;

	/* The GPA comes from a register, not from a linear address. */
	fault.exit_qualification &= ~(EPT_VIOLATION_GVA_IS_VALID |
				      EPT_VIOLATION_GVA_TRANSLATED);
	__kvm_inject_emulated_page_fault(vcpu, &fault, false);
	return false;
}

/*
 * Make KVM's copy of a hypercall that was kept in L0 for L2 look as if it came
 * from L1: without the nested bit in @control, and with an L1 GPA in @input,
 * unless the call is fast.  L2's registers stay as they are.  If that fails, set
 * @status to the Hyper-V status with which the call must be completed.  Return
 * false if the call must not be completed at all.
 */
bool kvm_hv_nested_relay_begin(struct kvm_vcpu *vcpu, u64 *control, u64 *input,
			       u64 *status)
{
	const struct kvm_hv_nested_relay_class *class;
	u32 l2_control = *control;

	class = kvm_hv_nested_relay_find_class(l2_control);
	if (WARN_ON_ONCE(!class)) {
		*status = HV_STATUS_INVALID_HYPERCALL_CODE;
		return true;
	}

	*control &= ~HV_HYPERCALL_NESTED;

	if (l2_control & HV_HYPERCALL_FAST_BIT)
		kvm_hv_nested_relay_trace(vcpu, l2_control, *input, INVALID_GPA,
					  KVM_HV_RELAY_KEPT);
	else if (!kvm_hv_nested_relay_translate(vcpu, l2_control, class->input_size,
						input, status))
		return false;

	++vcpu->stat.nested_hv_relayed_hcalls;
	return true;
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_begin);

VISIBLE_IF_KUNIT u32 kvm_hv_nested_relay_valid_mask(void)
{
	u32 mask = KVM_NESTED_HYPERV_RELAY_INTER_PARTITION |
		   KVM_NESTED_HYPERV_RELAY_ONE_L2;
	int i;

	for (i = 0; i < ARRAY_SIZE(kvm_hv_nested_relay_classes); i++)
		mask |= kvm_hv_nested_relay_classes[i].bit;

	return mask;
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_valid_mask);

/* What this host can relay: what the capability reports and takes. */
u32 kvm_hv_nested_relay_supported(void)
{
	return kvm_nested_ops.enabled ? kvm_hv_nested_relay_valid_mask() : 0;
}

/*
 * Replace the VM's configuration.  Nothing waits for vCPUs that are running: a
 * vCPU looks at it to decide on a hypercall, and not again for one that was
 * kept.  The change takes effect at its next exit from L2, if not at this one.
 */
VISIBLE_IF_KUNIT int kvm_hv_nested_relay_set(struct kvm *kvm,
					     struct kvm_enable_cap *cap, u32 valid)
{
	struct kvm_hv *hv = to_kvm_hv(kvm);

	if (cap->flags || cap->args[0] & ~(u64)valid || cap->args[2] || cap->args[3])
		return -EINVAL;

	if (cap->args[1] && !(cap->args[0] & KVM_NESTED_HYPERV_RELAY_ONE_L2))
		return -EINVAL;

	mutex_lock(&hv->hv_lock);
	write_seqcount_begin(&hv->nested_relay_seq);
	WRITE_ONCE(hv->nested_relay.mask, cap->args[0]);
	hv->nested_relay.vm_id = cap->args[1];
	write_seqcount_end(&hv->nested_relay_seq);
	mutex_unlock(&hv->hv_lock);
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(kvm_hv_nested_relay_set);

int kvm_hv_nested_relay_enable(struct kvm *kvm, struct kvm_enable_cap *cap)
{
	return kvm_hv_nested_relay_set(kvm, cap, kvm_hv_nested_relay_supported());
}
