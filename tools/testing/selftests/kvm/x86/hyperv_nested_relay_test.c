// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests for KVM_CAP_NESTED_HYPERV_HCALL_RELAY: which hypercalls that L2, as the
 * root partition of a nested Hyper-V, makes to L0 are relayed, and what becomes
 * of them.  What may happen around a call is tested by
 * hyperv_nested_relay_stress_test.
 *
 * With --demo, show a few calls in a form for people instead.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm_test_harness.h"
#include "hyperv_nested_relay.h"

FIXTURE(relay) {
	struct relay_vm r;
};

FIXTURE_VARIANT(relay) {
	bool nested_paging;
};

FIXTURE_VARIANT_ADD(relay, nested_paging) {
	.nested_paging = true,
};

FIXTURE_VARIANT_ADD(relay, shadow_paging) {
	.nested_paging = false,
};

FIXTURE_SETUP(relay)
{
	const char *why_not = relay_vm_create(&self->r, variant->nested_paging);

	if (why_not)
		SKIP(return, "%s", why_not);
}

FIXTURE_TEARDOWN(relay)
{
	kvm_vm_free(self->r.vm);
}

TEST_F(relay, off_reflects)
{
	assert_post_reflected(&self->r);
	assert_reflected(&self->r, SIGNAL | FAST, CONN_ID);
}

TEST_F(relay, post_delivered_with_payload)
{
	struct relay_vm *r = &self->r;
	int i;

	if (!variant->nested_paging)
		SKIP(return, "L1 doesn't use nested paging");

	relay_vm_set_mask(r, RELAY_ALL);
	for (i = 0; i < sizeof(relay_msg); i++)
		relay_msg[i] = i ^ 0x5a;
	relay_msg_offset = 0x240;
	relay_write_msg = true;
	assert_delivered(r, POST, r->msg_gpa + relay_msg_offset,
			 r->msg_l1_gpa + relay_msg_offset);
	TEST_ASSERT(!memcmp(r->payload, relay_msg, sizeof(relay_msg)), "Payload differs");
}

/* KVM has no use for a fast post, that is for userspace to say. */
TEST_F(relay, fast_post_delivered_with_value)
{
	relay_vm_set_mask(&self->r, RELAY_ALL);
	assert_delivered(&self->r, POST | FAST, 0x123456789abcdef1, 0x123456789abcdef1);
}

TEST_F(relay, mask_takes_effect_at_next_exit)
{
	struct relay_vm *r = &self->r;
	int i;

	for (i = 0; i < 3; i++) {
		relay_vm_set_mask(r, RELAY_ALL);
		assert_post_delivered(r);
		relay_vm_set_mask(r, 0);
		assert_post_reflected(r);
	}
}

TEST_F(relay, mask_selects_post_only)
{
	relay_vm_set_mask(&self->r, RELAY_POST);
	assert_post_delivered(&self->r);
	assert_reflected(&self->r, SIGNAL | FAST, CONN_ID);
}

TEST_F(relay, mask_selects_signal_only)
{
	relay_vm_set_mask(&self->r, RELAY_SIGNAL);
	assert_post_reflected(&self->r);
	assert_delivered(&self->r, SIGNAL | FAST, CONN_ID, CONN_ID);
}

TEST_F(relay, no_nested_bit_reflects)
{
	relay_vm_set_mask(&self->r, RELAY_ALL);
	assert_reflected(&self->r, post_of(&self->r) & ~HV_HYPERCALL_NESTED,
			 self->r.msg_gpa);
	assert_reflected(&self->r, HVCALL_SIGNAL_EVENT | FAST, CONN_ID);
	/* Bit 31 of the control word, no other. */
	assert_reflected(&self->r, HVCALL_SIGNAL_EVENT | FAST | BIT_ULL(63), CONN_ID);
}

TEST_F(relay, other_codes_reflect)
{
	static const u16 codes[] = {
		0x0000, 0x0001, 0x000b, 0x005b, 0x005e, 0x00c1, 0x015c, 0x025d,
		0x105c, 0x4005, 0x5c00, 0x8001, 0x805c, 0x805d, 0xffff,
	};
	int i;

	relay_vm_set_mask(&self->r, RELAY_ALL);
	for (i = 0; i < ARRAY_SIZE(codes); i++)
		assert_reflected(&self->r, HV_HYPERCALL_NESTED | FAST | codes[i],
				 self->r.msg_gpa);
}

TEST_F(relay, not_authorized_in_vmcs_reflects)
{
	relay_vm_set_mask(&self->r, RELAY_ALL);
	relay_l1_config.direct_vmcs = false;
	assert_post_reflected(&self->r);
	assert_reflected(&self->r, SIGNAL | FAST, CONN_ID);
}

TEST_F(relay, not_authorized_in_assist_page_reflects)
{
	relay_vm_set_mask(&self->r, RELAY_ALL);
	relay_l1_config.direct_assist = false;
	assert_post_reflected(&self->r);
	assert_reflected(&self->r, SIGNAL | FAST, CONN_ID);
}

/* Any call that goes to L1 makes it do what relay_l1_config now says. */
static void l1_apply_config(struct relay_vm *r)
{
	assert_reflected(r, HVCALL_POST_MESSAGE, r->msg_gpa);
}

TEST_F(relay, l1_may_change_its_mind)
{
	struct relay_vm *r = &self->r;

	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);

	relay_l1_config.direct_vmcs = false;
	l1_apply_config(r);
	assert_post_reflected(r);

	relay_l1_config.direct_vmcs = true;
	relay_l1_config.direct_assist = false;
	l1_apply_config(r);
	assert_post_reflected(r);

	relay_l1_config.direct_assist = true;
	l1_apply_config(r);
	assert_post_delivered(r);
}

TEST_F(relay, vp_assist_page_disabled_reflects)
{
	struct relay_vm *r = &self->r;

	if (kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "SVM only, there is no eVMCS without the VP assist page");

	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);

	/* The page still says yes, but is no VP assist page any more. */
	relay_l1_config.no_vp_assist = true;
	l1_apply_config(r);
	assert_post_reflected(r);

	relay_l1_config.no_vp_assist = false;
	l1_apply_config(r);
	assert_post_delivered(r);
}

/* To KVM, the VP assist page is a use of PV EOI, which KVM's own MSR ends, too. */
TEST_F(relay, pv_eoi_changed_reflects)
{
	struct relay_vm *r = &self->r;
	enum hv_pv_eoi pv_eoi;

	if (kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "SVM only, there is no eVMCS without the VP assist page");

	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);

	for (pv_eoi = HV_PV_EOI_OFF; pv_eoi <= HV_PV_EOI_BACK; pv_eoi++) {
		relay_l1_config.pv_eoi = pv_eoi;
		l1_apply_config(r);
		assert_post_reflected(r);

		relay_l1_config.pv_eoi = HV_PV_EOI_VP_ASSIST;
		l1_apply_config(r);
		assert_post_delivered(r);
	}
}

/* What L1 said in its VMCB while it was no Hyper-V guest doesn't count. */
TEST_F(relay, guest_os_id_set_after_entry)
{
	struct relay_vm *r = &self->r;

	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);

	relay_l1_config.guest_os_id = 0;
	relay_l1_config.direct_vmcs = false;
	l1_apply_config(r);
	set_guest_os_id(r->vcpu, HYPERV_LINUX_OS_ID);
	assert_post_reflected(r);
}

/* Userspace serves one L2: that of the VM with the ID that it gave. */
TEST_F(relay, one_l2)
{
	static const u64 others[] = {
		0, HV_L2_VM_ID - 1, HV_L2_VM_ID + 1, HV_L2_VM_ID | BIT_ULL(32),
		HV_L2_VM_ID | BIT_ULL(63), -1ull,
	};
	struct relay_vm *r = &self->r;
	int i;

	relay_vm_serve(r, RELAY_ALL, HV_L2_VM_ID);
	assert_post_delivered(r);
	assert_delivered(r, SIGNAL | FAST, CONN_ID, CONN_ID);

	for (i = 0; i < ARRAY_SIZE(others); i++) {
		relay_vm_serve(r, RELAY_ALL, others[i]);
		assert_post_reflected(r);
		assert_reflected(r, SIGNAL | FAST, CONN_ID);
	}

	/* Without the bit, any L2 is served. */
	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);
	relay_vm_serve(r, RELAY_POST, HV_L2_VM_ID);
	assert_post_delivered(r);
	assert_reflected(r, SIGNAL | FAST, CONN_ID);
}

/* Any ID is as good as any other. */
TEST_F(relay, one_l2_with_id_0)
{
	struct relay_vm *r = &self->r;

	relay_l1_config.vm_id = 0;
	relay_vm_serve(r, RELAY_ALL, 0);
	assert_post_delivered(r);
	relay_vm_serve(r, RELAY_ALL, HV_L2_VM_ID);
	assert_post_reflected(r);
}

TEST_F(relay, one_l2_with_id_of_64_bits)
{
	struct relay_vm *r = &self->r;

	relay_l1_config.vm_id = 0xfedcba9876543210;
	relay_vm_serve(r, RELAY_ALL, relay_l1_config.vm_id);
	assert_post_delivered(r);
	relay_vm_serve(r, RELAY_ALL, (u32)relay_l1_config.vm_id);
	assert_post_reflected(r);
}

/* The TLFS's consent to posts and signals, if userspace insists on it. */
TEST_F(relay, inter_partition)
{
	struct relay_vm *r = &self->r;

	relay_vm_set_mask(r, RELAY_ALL | RELAY_INTER_PARTITION);
	assert_post_reflected(r);
	assert_reflected(r, SIGNAL | FAST, CONN_ID);

	/* Reserved bits, all of them. */
	relay_l1_config.hypercall_controls = ~HV_INTER_PARTITION_COMM;
	l1_apply_config(r);
	assert_post_reflected(r);

	relay_l1_config.hypercall_controls = HV_INTER_PARTITION_COMM;
	l1_apply_config(r);
	assert_post_delivered(r);
	assert_delivered(r, SIGNAL | FAST, CONN_ID, CONN_ID);

	relay_l1_config.hypercall_controls = -1u;
	l1_apply_config(r);
	assert_post_delivered(r);

	/* It comes on top of the other two. */
	relay_l1_config.direct_assist = false;
	l1_apply_config(r);
	assert_post_reflected(r);

	relay_l1_config.direct_assist = true;
	relay_l1_config.hypercall_controls = 0;
	l1_apply_config(r);
	assert_post_reflected(r);
	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);
}

TEST_F(relay, inter_partition_and_one_l2)
{
	struct relay_vm *r = &self->r;

	relay_l1_config.hypercall_controls = HV_INTER_PARTITION_COMM;
	relay_vm_serve(r, RELAY_ALL | RELAY_INTER_PARTITION, HV_L2_VM_ID);
	assert_post_delivered(r);
	relay_vm_serve(r, RELAY_ALL | RELAY_INTER_PARTITION, HV_L2_OTHER_VM_ID);
	assert_post_reflected(r);
	relay_vm_serve(r, RELAY_ALL | RELAY_INTER_PARTITION, HV_L2_VM_ID);
	relay_l1_config.hypercall_controls = 0;
	l1_apply_config(r);
	assert_post_reflected(r);
}

/* They say whose calls, not which. */
TEST_F(relay, modifiers_alone_relay_nothing)
{
	struct relay_vm *r = &self->r;

	relay_l1_config.hypercall_controls = HV_INTER_PARTITION_COMM;
	relay_vm_serve(r, RELAY_INTER_PARTITION, HV_L2_VM_ID);
	assert_post_reflected(r);
	assert_reflected(r, SIGNAL | FAST, CONN_ID);
}

/* Userspace may leave alone what it doesn't know. */
static void leave_result(struct relay_vm *r)
{
	r->vcpu->run->hyperv.u.hcall.result = r->exit.u.hcall.result;
}

TEST_F(relay, result_not_written)
{
	struct relay_vm *r = &self->r;

	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);
	r->in_exit = leave_result;
	relay_vm_call(r, post_of(r), r->msg_gpa);
	assert_outcome(r, 1, 0, 0, 1);
	TEST_ASSERT_EQ(relay_hcall_out.rax, HV_STATUS_INVALID_HYPERCALL_CODE);
	relay_vm_call(r, SIGNAL | FAST, CONN_ID);
	assert_outcome(r, 1, 0, 0, 1);
	TEST_ASSERT_EQ(relay_hcall_out.rax, HV_STATUS_INVALID_HYPERCALL_CODE);
}

/* A plain VMCS, or a VMCB without anything in its part for software. */
TEST_F(relay, not_enlightened_reflects)
{
	relay_vm_set_mask(&self->r, RELAY_ALL);
	relay_l1_config.enlightened = false;
	assert_post_reflected(&self->r);
	assert_reflected(&self->r, SIGNAL | FAST, CONN_ID);
}

TEST_F(relay, l1_without_guest_os_id_reflects)
{
	relay_vm_set_mask(&self->r, RELAY_ALL);
	relay_l1_config.guest_os_id = 0;
	assert_post_reflected(&self->r);
}

TEST_F(relay, xen_mode_reflects)
{
	struct kvm_xen_hvm_config config = {
		.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
		.msr = 0x40000200,
	};

	if (!(kvm_check_cap(KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL))
		SKIP(return, "no KVM_CAP_XEN_HVM");

	relay_vm_set_mask(&self->r, RELAY_ALL);
	assert_post_delivered(&self->r);
	vm_ioctl(self->r.vm, KVM_XEN_HVM_CONFIG, &config);
	assert_post_reflected(&self->r);
}

/* What L1 maps L2's GPAs to is not for KVM to guess. */
TEST_F(relay, slow_without_nested_paging_reflects)
{
	struct relay_vm *r = &self->r;

	relay_vm_set_mask(r, RELAY_ALL);
	if (variant->nested_paging) {
		assert_delivered(r, POST, r->msg_gpa, r->msg_l1_gpa);
	} else {
		assert_reflected(r, POST, r->msg_gpa);
		assert_reflected(r, SIGNAL, r->msg_gpa);
		/* Nor is it for KVM to check. */
		assert_reflected(r, POST, r->msg_gpa + 1);
		assert_reflected(r, POST, BIT_ULL(63));
	}
	assert_delivered(r, POST | FAST, r->msg_gpa, r->msg_gpa);
	assert_delivered(r, SIGNAL | FAST, CONN_ID, CONN_ID);
}

TEST_F(relay, reserved_rep_and_varhead_fail)
{
	struct relay_vm *r = &self->r;
	int bit;

	relay_vm_set_mask(r, RELAY_ALL);
	for (bit = 17; bit < 64; bit++) {
		if (BIT_ULL(bit) == HV_HYPERCALL_NESTED)
			continue;
		assert_status(r, post_of(r) | BIT_ULL(bit), r->msg_gpa,
			      HV_STATUS_INVALID_HYPERCALL_INPUT);
		assert_status(r, SIGNAL | FAST | BIT_ULL(bit), CONN_ID,
			      HV_STATUS_INVALID_HYPERCALL_INPUT);
	}
}

/*
 * What L1's nested page tables may say about L2's input.  Userspace gets to see
 * what L2 could have read itself, nothing else.
 */
FIXTURE(mapping) {
	struct relay_vm r;
	u64 *pte;		/* of MSG_L2_GPA */
};

FIXTURE_SETUP(mapping)
{
	const char *why_not = relay_vm_create(&self->r, true);

	if (why_not)
		SKIP(return, "%s", why_not);

	self->pte = tdp_get_pte(self->r.vm, MSG_L2_GPA);
	relay_vm_set_mask(&self->r, RELAY_ALL);
}

FIXTURE_TEARDOWN(mapping)
{
	kvm_vm_free(self->r.vm);
}

/* The entry that the page table of MSG_L2_GPA hangs on. */
static u64 *get_pde(struct relay_vm *r)
{
	u64 *pde = addr_gpa2hva(r->vm, r->vm->stage2_mmu.pgd);
	int i;

	for (i = r->vm->stage2_mmu.pgtable_levels; i > PG_LEVEL_2M; i--) {
		pde += (MSG_L2_GPA >> PG_LEVEL_SHIFT(i)) & 0x1ff;
		pde = addr_gpa2hva(r->vm, PTE_GET_PA(*pde));
	}
	return pde + ((MSG_L2_GPA >> PG_LEVEL_SHIFT(i)) & 0x1ff);
}

/*
 * EPT: execute-only, if the CPU has that, or else a misconfiguration.  NPT: all
 * accesses of L2 are user accesses.
 */
static u64 unreadable(struct relay_vm *r, u64 pte)
{
	struct pte_masks *masks = &r->vm->stage2_mmu.arch.pte_masks;

	pte &= ~(masks->readable | masks->user);
	if (masks->readable)
		pte &= ~masks->writable;
	return pte;
}

TEST_F(mapping, input_above_maxphyaddr)
{
	struct relay_vm *r = &self->r;

	assert_status(r, POST, r->msg_gpa | BIT_ULL(r->vm->pa_bits),
		      HV_STATUS_INVALID_ALIGNMENT);
	assert_status(r, SIGNAL, r->msg_gpa | BIT_ULL(63),
		      HV_STATUS_INVALID_ALIGNMENT);
	assert_post_delivered(r);
}

/* A GPA that is fine for the CPU, but not for page tables of 4 levels. */
TEST_F(mapping, input_above_page_tables)
{
	struct relay_vm *r = &self->r;
	struct kvm_sregs sregs;

	vcpu_sregs_get(r->vcpu, &sregs);
	if (kvm_cpu_has(X86_FEATURE_SVM) && (sregs.cr4 & X86_CR4_LA57))
		SKIP(return, "L1's NPT has 5 levels");

	vcpu_set_cpuid_property(r->vcpu, X86_PROPERTY_MAX_PHY_ADDR, 52);
	assert_status(r, POST, r->msg_gpa | BIT_ULL(48),
		      HV_STATUS_INVALID_ALIGNMENT);
	assert_post_delivered(r);
}

TEST_F(mapping, input_misaligned)
{
	struct relay_vm *r = &self->r;
	int i;

	for (i = 1; i < 8; i++) {
		assert_status(r, POST, r->msg_gpa + i, HV_STATUS_INVALID_ALIGNMENT);
		assert_status(r, SIGNAL, r->msg_gpa + i, HV_STATUS_INVALID_ALIGNMENT);
	}
	assert_delivered(r, POST, r->msg_gpa + 8, r->msg_l1_gpa + 8);
}

/* Userspace would read L1's secret, which L2 was never given. */
TEST_F(mapping, post_crossing_page)
{
	struct relay_vm *r = &self->r;
	u64 last = PAGE_SIZE - HV_POST_MESSAGE_INPUT_SIZE;
	u64 i;

	assert_delivered(r, POST, r->msg_gpa + last, r->msg_l1_gpa + last);
	for (i = last + 8; i < PAGE_SIZE; i += 8)
		assert_status(r, POST, r->msg_gpa + i, HV_STATUS_INVALID_ALIGNMENT);
	assert_delivered(r, POST, r->msg_gpa + PAGE_SIZE,
			 r->msg_l1_gpa + 2 * PAGE_SIZE);
}

/* What is wrong with the address is wrong whether it is mapped or not. */
TEST_F(mapping, bad_address_not_mapped)
{
	struct relay_vm *r = &self->r;
	gpa_t hole = MSG_L2_GPA - PAGE_SIZE;

	assert_status(r, POST, hole + 4, HV_STATUS_INVALID_ALIGNMENT);
	assert_status(r, POST, hole + PAGE_SIZE - 8, HV_STATUS_INVALID_ALIGNMENT);
	assert_status(r, POST, hole | BIT_ULL(63), HV_STATUS_INVALID_ALIGNMENT);
}

/* L1 gets to see the call's read, whether it maps the page or not. */
static void assert_not_mapped(struct relay_vm *r, gpa_t l2_gpa)
{
	assert_intercepted(r, POST, l2_gpa + 0x18);
	assert_intercepted(r, SIGNAL, l2_gpa + 0x20);
}

/* Another vCPU's L2 may have its calls intercepted: nothing may be left over. */
TEST_F(mapping, hole_intercepted)
{
	struct relay_vm *r = &self->r;

	assert_not_mapped(r, MSG_L2_GPA - PAGE_SIZE);
	assert_post_delivered(r);

	/* L0 doesn't read the page for calls that go to L1. */
	relay_vm_set_mask(r, 0);
	assert_reflected(r, POST, MSG_L2_GPA - PAGE_SIZE);
	relay_vm_set_mask(r, RELAY_SIGNAL);
	assert_reflected(r, POST, MSG_L2_GPA - PAGE_SIZE);
	assert_intercepted(r, SIGNAL, MSG_L2_GPA - PAGE_SIZE);
}

/*
 * L1 maps lazily, as hypervisors do: with @bad for *@pte, there is one intercept,
 * after which the call is delivered once, from where L1 has put the page.
 */
static void assert_delivered_once_mapped(struct relay_vm *r, u64 *pte, u64 bad)
{
	gpa_t l2_gpa = r->msg_gpa + 0x40, l1_gpa = r->msg_l1_gpa + 0x40;
	u64 value = CONN_ID + 1, good = *pte;
	int i;

	memcpy(addr_gpa2hva(r->vm, l1_gpa), &value, sizeof(value));
	for (i = 0; i < 3; i++) {
		assert_delivered(r, POST, l2_gpa, l1_gpa);

		*pte = bad;
		relay_vm_call_fixed(r, POST, l2_gpa, pte, good);
		__assert_outcome(r, 1, 0, 0, 1, 1);
		assert_delivered_exit(r, POST, l1_gpa);

		*pte = bad;
		relay_vm_call_fixed(r, SIGNAL, l2_gpa, pte, good);
		__assert_outcome(r, 1, 0, 0, 1, 1);
		assert_delivered_exit(r, SIGNAL, value);
	}
}

TEST_F(mapping, page_mapped_on_intercept)
{
	assert_delivered_once_mapped(&self->r, self->pte, 0);
}

TEST_F(mapping, table_mapped_on_intercept)
{
	assert_delivered_once_mapped(&self->r, get_pde(&self->r), 0);
}

TEST_F(mapping, page_readable_on_intercept)
{
	assert_delivered_once_mapped(&self->r, self->pte, unreadable(&self->r, *self->pte));
}

/* The VMM turns the relay off meanwhile: L1 gets the call after all, once. */
TEST_F(mapping, relay_turned_off_after_intercept)
{
	struct relay_vm *r = &self->r;

	*self->pte = 0;
	assert_intercepted(r, POST, r->msg_gpa);
	relay_vm_set_mask(r, 0);
	assert_reflected(r, POST, r->msg_gpa);
}

TEST_F(mapping, page_removed_and_put_back)
{
	struct relay_vm *r = &self->r;
	u64 pte = *self->pte;
	int i;

	for (i = 0; i < 3; i++) {
		assert_post_delivered(r);
		*self->pte = 0;
		assert_not_mapped(r, r->msg_gpa);
		*self->pte = pte;
	}
	assert_post_delivered(r);
}

TEST_F(mapping, page_moved)
{
	struct relay_vm *r = &self->r;

	assert_post_delivered(r);
	*self->pte += PAGE_SIZE;
	assert_delivered(r, POST, r->msg_gpa + 8, r->msg_l1_gpa + PAGE_SIZE + 8);
	*self->pte -= PAGE_SIZE;
	assert_post_delivered(r);
}

/* HvPostMessage only reads its input. */
TEST_F(mapping, read_only_delivered)
{
	*self->pte &= ~PTE_WRITABLE_MASK(&self->r.vm->stage2_mmu);
	assert_post_delivered(&self->r);
}

TEST_F(mapping, not_executable_delivered)
{
	struct pte_masks *masks = &self->r.vm->stage2_mmu.arch.pte_masks;

	*self->pte &= ~masks->executable;
	*self->pte |= masks->nx;
	assert_post_delivered(&self->r);
}

/* The walk is that of a read. */
TEST_F(mapping, accessed_but_not_dirty)
{
	struct pte_masks *masks = &self->r.vm->stage2_mmu.arch.pte_masks;
	u64 ad = masks->accessed | masks->dirty;

	if (kvm_cpu_has(X86_FEATURE_VMX) &&
	    !(kvm_get_feature_msr(MSR_IA32_VMX_EPT_VPID_CAP) & VMX_EPT_VPID_CAP_AD_BITS))
		SKIP(return, "no accessed and dirty flags in EPT");

	*self->pte &= ~ad;
	assert_post_delivered(&self->r);
	TEST_ASSERT_EQ(*self->pte & ad, masks->accessed);

	*self->pte &= ~ad;
	assert_delivered(&self->r, SIGNAL, self->r.msg_gpa,
			 *(u64 *)addr_gpa2hva(self->r.vm, self->r.msg_l1_gpa));
	TEST_ASSERT_EQ(*self->pte & ad, masks->accessed);

	/* That of L2's own write isn't. */
	relay_write_msg = true;
	assert_post_delivered(&self->r);
	TEST_ASSERT_EQ(*self->pte & ad, ad);
}

static void map_msg_to(struct relay_vm *r, u64 *pte, gpa_t l1_gpa)
{
	*pte = (*pte & ~PHYSICAL_PAGE_MASK) | l1_gpa;
}

/* To KVM, an overlay is the memory that is there: so it is as input. */
TEST_F(mapping, overlay_page_delivered)
{
	static const u32 msrs[] = { HV_X64_MSR_SIMP, HV_X64_MSR_SIEFP };
	struct relay_vm *r = &self->r;
	struct kvm_vcpu *vcpu = r->vcpu;
	u64 enable = r->msg_l1_gpa | BIT_ULL(0);
	int i;

	map_msg_to(r, self->pte, r->hv->vp_assist_gpa);
	assert_delivered(r, POST, r->msg_gpa, r->hv->vp_assist_gpa);
	map_msg_to(r, self->pte, r->hv->partition_assist_gpa);
	assert_delivered(r, POST, r->msg_gpa, r->hv->partition_assist_gpa);

	map_msg_to(r, self->pte, r->msg_l1_gpa);
	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		vcpu_set_msr(vcpu, msrs[i], enable);
		assert_post_delivered(r);
		assert_delivered(r, SIGNAL, r->msg_gpa,
				 *(u64 *)addr_gpa2hva(r->vm, r->msg_l1_gpa));
		vcpu_set_msr(vcpu, msrs[i], 0);
	}
}

TEST_F(mapping, not_readable_intercepted)
{
	u64 pte = *self->pte;

	*self->pte = unreadable(&self->r, pte);
	assert_not_mapped(&self->r, self->r.msg_gpa);
	*self->pte = pte;
	assert_post_delivered(&self->r);
}

/* EPT only: write-only is a misconfiguration.  NPT has no such thing. */
TEST_F(mapping, write_only_intercepted)
{
	if (!kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "VMX only, what is writable in NPT is readable");

	*self->pte &= ~(BIT_ULL(0) | BIT_ULL(2));
	assert_not_mapped(&self->r, self->r.msg_gpa);
}

TEST_F(mapping, reserved_bit_intercepted)
{
	if (self->r.vm->pa_bits == 52)
		SKIP(return, "no reserved bits in the address");

	*self->pte |= BIT_ULL(self->r.vm->pa_bits);
	assert_not_mapped(&self->r, self->r.msg_gpa);
}

/* What L1 maps doesn't have to be memory, what it maps with has to. */
TEST_F(mapping, table_outside_of_memslots_intercepted)
{
	struct relay_vm *r = &self->r;
	gpa_t nowhere = r->vm->max_gfn << PAGE_SHIFT;
	u64 *pde = get_pde(r), pte = *pde;

	TEST_ASSERT_EQ(PTE_GET_PA(pte), addr_hva2gpa(r->vm, self->pte) & PAGE_MASK);
	*pde = (pte & ~PHYSICAL_PAGE_MASK) | nowhere;
	assert_not_mapped(r, r->msg_gpa);
	*pde = pte;
	assert_post_delivered(r);
}

/* As for a post of L1, the GPA is the VMM's to check. */
TEST_F(mapping, page_outside_of_memslots_delivered)
{
	struct relay_vm *r = &self->r;
	gpa_t nowhere = r->vm->max_gfn << PAGE_SHIFT;

	*self->pte = (*self->pte & ~PHYSICAL_PAGE_MASK) | nowhere;
	assert_delivered(r, POST, r->msg_gpa + 0x18, nowhere + 0x18);
	/* KVM reads this one itself, and says of L1's what it says here. */
	assert_status(r, SIGNAL, r->msg_gpa, HV_STATUS_INVALID_ALIGNMENT);
}

/* Where a large page of L1's is, in memory of its own. */
#define LARGE_GPA	0x80000000ULL
#define LARGE_L2_GPA	0x180000000ULL

static bool has_large_page(int level)
{
	if (level == PG_LEVEL_2M)
		return true;
	if (kvm_cpu_has(X86_FEATURE_VMX))
		return kvm_get_feature_msr(MSR_IA32_VMX_EPT_VPID_CAP) &
		       VMX_EPT_VPID_CAP_1G_PAGES;
	return kvm_cpu_has(X86_FEATURE_GBPAGES);
}

static void assert_large_page_delivered(struct relay_vm *r, int level)
{
	u64 offset, size = PG_LEVEL_SIZE(PG_LEVEL_2M);

	vm_userspace_mem_region_add(r->vm, VM_MEM_SRC_ANONYMOUS, LARGE_GPA, 1,
				    size / PAGE_SIZE, 0);
	__virt_pg_map(r->vm, &r->vm->stage2_mmu, LARGE_L2_GPA, LARGE_GPA, level);

	for (offset = 0; offset < size; offset += 0x41100)
		assert_delivered(r, POST, LARGE_L2_GPA + offset, LARGE_GPA + offset);
	offset = PG_LEVEL_SIZE(level) - PAGE_SIZE;
	assert_delivered(r, POST, LARGE_L2_GPA + offset, LARGE_GPA + offset);

	/* L2 may be given less than a large page at any time. */
	assert_status(r, POST, LARGE_L2_GPA + PAGE_SIZE - 8,
		      HV_STATUS_INVALID_ALIGNMENT);
	assert_not_mapped(r, LARGE_L2_GPA + PG_LEVEL_SIZE(level));
}

TEST_F(mapping, large_page_2m)
{
	assert_large_page_delivered(&self->r, PG_LEVEL_2M);
}

TEST_F(mapping, large_page_1g)
{
	if (!has_large_page(PG_LEVEL_1G))
		SKIP(return, "no nested pages of 1 GiB");

	assert_large_page_delivered(&self->r, PG_LEVEL_1G);
}

FIXTURE(signal) {
	struct relay_vm r;
	int eventfd;
};

FIXTURE_VARIANT(signal) {
	bool nested_paging;
};

FIXTURE_VARIANT_ADD(signal, nested_paging) {
	.nested_paging = true,
};

FIXTURE_VARIANT_ADD(signal, shadow_paging) {
	.nested_paging = false,
};

FIXTURE_SETUP(signal)
{
	const char *why_not = relay_vm_create(&self->r, variant->nested_paging);

	if (why_not)
		SKIP(return, "%s", why_not);

	self->eventfd = relay_vm_add_eventfd(&self->r);
	relay_vm_set_mask(&self->r, RELAY_ALL);
}

FIXTURE_TEARDOWN(signal)
{
	close(self->eventfd);
	kvm_vm_free(self->r.vm);
}

static void assert_nr_signals(int fd, u64 nr)
{
	u64 count = 0;

	/* Fails with EAGAIN, and leaves @count alone, if there is none. */
	TEST_ASSERT(read(fd, &count, sizeof(count)) == (nr ? 8 : -1),
		    "Wanted %lu signals", nr);
	TEST_ASSERT_EQ(count, nr);
}

static void set_signal_input(struct relay_vm *r, u64 offset, u64 value)
{
	memcpy(addr_gpa2hva(r->vm, r->msg_l1_gpa + offset), &value, sizeof(value));
}

TEST_F(signal, fast)
{
	assert_status(&self->r, SIGNAL | FAST, CONN_ID, HV_STATUS_SUCCESS);
	assert_nr_signals(self->eventfd, 1);
	assert_status(&self->r, SIGNAL | FAST, CONN_ID, HV_STATUS_SUCCESS);
	assert_status(&self->r, SIGNAL | FAST, CONN_ID, HV_STATUS_SUCCESS);
	assert_nr_signals(self->eventfd, 2);
}

TEST_F(signal, slow)
{
	struct relay_vm *r = &self->r;
	u64 last = PAGE_SIZE - sizeof(u64);

	if (!variant->nested_paging)
		SKIP(return, "L1 doesn't use nested paging");

	set_signal_input(r, 0x80, CONN_ID);
	assert_status(r, SIGNAL, r->msg_gpa + 0x80, HV_STATUS_SUCCESS);
	assert_nr_signals(self->eventfd, 1);

	set_signal_input(r, last, CONN_ID);
	assert_status(r, SIGNAL, r->msg_gpa + last, HV_STATUS_SUCCESS);
	assert_nr_signals(self->eventfd, 1);

	assert_status(r, SIGNAL, r->msg_gpa + last + 4, HV_STATUS_INVALID_ALIGNMENT);
	assert_nr_signals(self->eventfd, 0);
}

TEST_F(signal, bad_connection_or_flag)
{
	/* Reserved bits of the connection, KVM completes the call. */
	assert_status(&self->r, SIGNAL | FAST, CONN_ID | BIT_ULL(24),
		      HV_STATUS_INVALID_HYPERCALL_INPUT);
	/* A flag number, which only userspace may understand. */
	assert_delivered(&self->r, SIGNAL | FAST, CONN_ID | BIT_ULL(32),
			 CONN_ID | BIT_ULL(32));
	assert_nr_signals(self->eventfd, 0);
	if (!variant->nested_paging)
		return;

	/* If the call isn't fast, userspace is to get all that, too. */
	set_signal_input(&self->r, 0x80, CONN_ID | BIT_ULL(32) | BIT_ULL(63));
	assert_delivered(&self->r, SIGNAL, self->r.msg_gpa + 0x80,
			 CONN_ID | BIT_ULL(32) | BIT_ULL(63));
	assert_nr_signals(self->eventfd, 0);
}

TEST_F(signal, unknown_connection_delivered)
{
	struct relay_vm *r = &self->r;

	assert_delivered(r, SIGNAL | FAST, CONN_ID + 1, CONN_ID + 1);
	assert_nr_signals(self->eventfd, 0);
	if (!variant->nested_paging)
		return;

	set_signal_input(r, 0x80, CONN_ID + 1);
	assert_delivered(r, SIGNAL, r->msg_gpa + 0x80, CONN_ID + 1);
	assert_nr_signals(self->eventfd, 0);
}

/* KVM completes the call, but only once it can read its input. */
TEST_F(signal, slow_mapped_on_intercept)
{
	struct relay_vm *r = &self->r;
	u64 *pte, good;

	if (!variant->nested_paging)
		SKIP(return, "L1 doesn't use nested paging");

	pte = tdp_get_pte(r->vm, MSG_L2_GPA);
	good = *pte;
	set_signal_input(r, 0x80, CONN_ID);

	*pte = 0;
	assert_intercepted(r, SIGNAL, r->msg_gpa + 0x80);
	assert_nr_signals(self->eventfd, 0);

	relay_vm_call_fixed(r, SIGNAL, r->msg_gpa + 0x80, pte, good);
	__assert_outcome(r, 0, 0, 0, 1, 1);
	TEST_ASSERT_EQ(relay_hcall_out.rax, HV_STATUS_SUCCESS);
	assert_nr_signals(self->eventfd, 1);
}

/* The same for L1's own calls, which the relay must leave alone. */
TEST_F(signal, l1_calls)
{
	struct relay_vm *r = &self->r;

	relay_calls_from_l1 = true;
	relay_vm_call(r, HVCALL_SIGNAL_EVENT | FAST, CONN_ID);
	assert_outcome(r, 0, 0, 0, 0);
	TEST_ASSERT_EQ(relay_hcall_out.rax, HV_STATUS_SUCCESS);
	assert_nr_signals(self->eventfd, 1);

	/* A slow one gets to userspace as a fast one, unlike a post. */
	set_signal_input(r, 0x80, CONN_ID + 1);
	relay_vm_call(r, HVCALL_SIGNAL_EVENT, r->msg_l1_gpa + 0x80);
	assert_outcome(r, 1, 0, 0, 0);
	assert_delivered_exit(r, HVCALL_SIGNAL_EVENT, CONN_ID + 1);
	relay_vm_set_mask(r, 0);
	relay_vm_call(r, HVCALL_SIGNAL_EVENT, r->msg_l1_gpa + 0x80);
	assert_outcome(r, 1, 0, 0, 0);
	assert_delivered_exit(r, HVCALL_SIGNAL_EVENT, CONN_ID + 1);
	relay_vm_set_mask(r, RELAY_ALL);

	relay_vm_call(r, HVCALL_POST_MESSAGE, r->msg_l1_gpa);
	assert_outcome(r, 1, 0, 0, 0);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[0], r->msg_l1_gpa);

	/* L1 is nobody's L2: to KVM, its nested bit is a reserved one. */
	relay_vm_call(r, POST, r->msg_l1_gpa);
	assert_outcome(r, 0, 0, 0, 0);
	TEST_ASSERT_EQ(relay_hcall_out.rax, HV_STATUS_INVALID_HYPERCALL_INPUT);
}

FIXTURE(vmmcall) {
	struct relay_vm r;
};

FIXTURE_SETUP(vmmcall)
{
	const char *why_not;

	if (kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "SVM only, VMX intercepts VMCALL unconditionally");

	why_not = relay_vm_create(&self->r, kvm_cpu_has_tdp());
	if (why_not)
		SKIP(return, "%s", why_not);
	relay_l1_config.no_intercept = true;
}

FIXTURE_TEARDOWN(vmmcall)
{
	kvm_vm_free(self->r.vm);
}

/* As VMMCALL does on bare metal. */
static void assert_ud(struct relay_vm *r, u64 control, u64 input)
{
	relay_vm_call(r, control, input);
	assert_outcome(r, 0, 0, 1, 0);
	TEST_ASSERT_EQ(relay_hcall_out.rax, GARBAGE(0));
}

static void assert_all_ud(struct relay_vm *r)
{
	assert_ud(r, post_of(r), r->msg_gpa);
	assert_ud(r, SIGNAL | FAST, CONN_ID);
	assert_ud(r, HVCALL_POST_MESSAGE, r->msg_gpa);
	assert_ud(r, 0, 0);
}

TEST_F(vmmcall, not_intercepted_by_l1)
{
	struct relay_vm *r = &self->r;

	assert_all_ud(r);

	relay_vm_set_mask(r, RELAY_ALL);
	assert_post_delivered(r);
	assert_delivered(r, SIGNAL | FAST, CONN_ID, CONN_ID);
	assert_ud(r, HVCALL_POST_MESSAGE, r->msg_gpa);
	assert_ud(r, post_of(r) & ~HV_HYPERCALL_NESTED, r->msg_gpa);

	relay_vm_set_mask(r, RELAY_POST);
	assert_post_delivered(r);
	assert_ud(r, SIGNAL | FAST, CONN_ID);

	relay_vm_serve(r, RELAY_ALL, HV_L2_OTHER_VM_ID);
	assert_all_ud(r);
	relay_vm_set_mask(r, RELAY_ALL | RELAY_INTER_PARTITION);
	assert_all_ud(r);
}

TEST_F(vmmcall, not_authorized_in_vmcb)
{
	relay_l1_config.direct_vmcs = false;
	assert_all_ud(&self->r);
	relay_vm_set_mask(&self->r, RELAY_ALL);
	assert_all_ud(&self->r);
}

TEST_F(vmmcall, not_authorized_in_assist_page)
{
	relay_l1_config.direct_assist = false;
	assert_all_ud(&self->r);
	relay_vm_set_mask(&self->r, RELAY_ALL);
	assert_all_ud(&self->r);
}

TEST_F(vmmcall, slow_without_nested_paging)
{
	struct relay_vm *r = &self->r;

	if (r->nested_paging)
		SKIP(return, "L1 uses nested paging");

	relay_vm_set_mask(r, RELAY_ALL);
	assert_ud(r, POST, r->msg_gpa);
	assert_ud(r, SIGNAL, r->msg_gpa);
}

/*
 * L2 in other modes than 64-bit at CPL 0: two bare instructions, one call to
 * test, and one that surely goes to L1.
 */
FIXTURE(mode) {
	struct relay_vm r;
};

FIXTURE_VARIANT(mode) {
	enum hv_l2_mode mode;
	bool nested_paging;	/* without it, L2 can't do without paging */
	bool relayed;
};

FIXTURE_VARIANT_ADD(mode, long_cpl3) {
	.mode = HV_L2_LONG_CPL3,
	.nested_paging = true,
	.relayed = false,
};

FIXTURE_VARIANT_ADD(mode, long_cpl3_shadow_paging) {
	.mode = HV_L2_LONG_CPL3,
	.nested_paging = false,
	.relayed = false,
};

FIXTURE_VARIANT_ADD(mode, compat) {
	.mode = HV_L2_COMPAT,
	.nested_paging = true,
	.relayed = true,
};

FIXTURE_VARIANT_ADD(mode, compat_shadow_paging) {
	.mode = HV_L2_COMPAT,
	.nested_paging = false,
	.relayed = true,
};

FIXTURE_VARIANT_ADD(mode, compat_cpl3) {
	.mode = HV_L2_COMPAT_CPL3,
	.nested_paging = true,
	.relayed = false,
};

FIXTURE_VARIANT_ADD(mode, compat_cpl3_shadow_paging) {
	.mode = HV_L2_COMPAT_CPL3,
	.nested_paging = false,
	.relayed = false,
};

FIXTURE_VARIANT_ADD(mode, prot32) {
	.mode = HV_L2_PROT32,
	.nested_paging = true,
	.relayed = true,
};

FIXTURE_VARIANT_ADD(mode, prot32_cpl3) {
	.mode = HV_L2_PROT32_CPL3,
	.nested_paging = true,
	.relayed = false,
};

FIXTURE_VARIANT_ADD(mode, real) {
	.mode = HV_L2_REAL,
	.nested_paging = true,
	.relayed = false,
};

static const char *mode_vm_create(struct relay_vm *r, enum hv_l2_mode mode,
				  bool nested_paging)
{
	const u8 vmcall[HYPERCALL_INSN_SIZE]  = { 0x0f, 0x01, 0xc1 };
	const u8 vmmcall[HYPERCALL_INSN_SIZE] = { 0x0f, 0x01, 0xd9 };
	const char *why_not = relay_vm_create(r, nested_paging);
	const u8 *insn = kvm_cpu_has(X86_FEATURE_VMX) ? vmcall : vmmcall;
	u8 *code;

	if (why_not)
		return why_not;

	if (!hv_l2_mode_is_long(mode) && kvm_cpu_has(X86_FEATURE_VMX) &&
	    !(kvm_get_feature_msr(MSR_IA32_VMX_PROCBASED_CTLS2) >> 32 &
	      SECONDARY_EXEC_UNRESTRICTED_GUEST))
		return "no unrestricted guest for L2";

	code = addr_gpa2hva(r->vm, r->code_gpa);
	memcpy(code, insn, HYPERCALL_INSN_SIZE);
	memcpy(code + HYPERCALL_INSN_SIZE, insn, HYPERCALL_INSN_SIZE);
	return NULL;
}

FIXTURE_SETUP(mode)
{
	const char *why_not = mode_vm_create(&self->r, variant->mode,
					     variant->nested_paging);

	if (why_not)
		SKIP(return, "%s", why_not);
}

FIXTURE_TEARDOWN(mode)
{
	kvm_vm_free(self->r.vm);
}

/* A post.  If it's a 32-bit one, with garbage in what 32-bit code can't see. */
static void relay_vm_call_in_mode(struct relay_vm *r, enum hv_l2_mode mode, u64 control)
{
	const u64 garbage = 0xa5a5a5a5ULL << 32;

	relay_l1_config.mode = mode;
	relay_l1_config.l2_code = hv_l2_mode_is_long(mode) ? CODE_GVA : r->code_gpa;

	memset(&relay_hcall_in, 0, sizeof(relay_hcall_in));
	relay_hcall_in.rflags = X86_EFLAGS_FIXED;
	relay_hcall_in.r8 = garbage;
	if (hv_l2_mode_is_64_bit(mode)) {
		relay_hcall_in.rcx = control;
		relay_hcall_in.rdx = r->msg_gpa;
	} else {
		relay_hcall_in.rax = garbage | control;
		relay_hcall_in.rdx = garbage;
		relay_hcall_in.rbx = garbage | r->msg_gpa >> 32;
		relay_hcall_in.rcx = garbage | (u32)r->msg_gpa;
		relay_hcall_in.rdi = garbage | 0x11111111;
		relay_hcall_in.rsi = garbage | 0x22222222;
	}
	relay_vm_run(r);
}

static void assert_reflected_in_mode(struct relay_vm *r, enum hv_l2_mode mode)
{
	relay_vm_call_in_mode(r, mode, post_of(r));
	assert_outcome(r, 0, 1, 0, 0);
	TEST_ASSERT_EQ(relay_l1_seen.rip, hv_l2_first_rip(&relay_l1_config));
	if (hv_l2_mode_is_64_bit(mode))
		TEST_ASSERT_EQ(relay_l1_seen.regs.rcx, post_of(r));
	else
		TEST_ASSERT_EQ((u32)relay_l1_seen.regs.rax, (u32)post_of(r));
}

static void assert_delivered_in_32_bit_mode(struct relay_vm *r, enum hv_l2_mode mode,
					    u64 intercepts)
{
	relay_vm_call_in_mode(r, mode, post_of(r));
	__assert_outcome(r, 1, 1, 0, 1, intercepts);
	TEST_ASSERT_EQ(r->exit.u.hcall.input, post_of(r) & ~HV_HYPERCALL_NESTED);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[0], r->msg_l1_gpa);
	TEST_ASSERT_EQ(r->exit.u.hcall.params[1], 0x1111111122222222);

	/* The second call, reflected: the result is in EDX:EAX. */
	TEST_ASSERT_EQ(relay_l1_seen.rip, HYPERCALL_INSN_SIZE);
	TEST_ASSERT_EQ((u32)relay_l1_seen.regs.rax, (u32)REPLY);
	TEST_ASSERT_EQ((u32)relay_l1_seen.regs.rdx, (u32)(REPLY >> 32));
	TEST_ASSERT_EQ((u32)relay_l1_seen.regs.rbx, (u32)relay_hcall_in.rbx);
	TEST_ASSERT_EQ((u32)relay_l1_seen.regs.rcx, (u32)relay_hcall_in.rcx);
	TEST_ASSERT_EQ((u32)relay_l1_seen.regs.rdi, (u32)relay_hcall_in.rdi);
	TEST_ASSERT_EQ((u32)relay_l1_seen.regs.rsi, (u32)relay_hcall_in.rsi);
}

TEST_F(mode, off_reflects)
{
	assert_reflected_in_mode(&self->r, variant->mode);
}

TEST_F(mode, on)
{
	relay_vm_set_mask(&self->r, RELAY_ALL);
	if (variant->relayed)
		assert_delivered_in_32_bit_mode(&self->r, variant->mode, 0);
	else
		assert_reflected_in_mode(&self->r, variant->mode);
}

TEST_F(mode, mapped_on_intercept)
{
	struct relay_vm *r = &self->r;
	u64 *pte;

	if (!variant->relayed || !variant->nested_paging)
		SKIP(return, "nothing slow is relayed");

	pte = tdp_get_pte(r->vm, MSG_L2_GPA);
	relay_l1_fix.pte = relay_vm_map_pte(r, pte);
	relay_l1_fix.value = *pte;
	*pte = 0;
	relay_vm_set_mask(r, RELAY_ALL);
	assert_delivered_in_32_bit_mode(r, variant->mode, 1);
	TEST_ASSERT_EQ(relay_l1_fault.gpa, r->msg_gpa);
	TEST_ASSERT_EQ(relay_l1_fault.rip, hv_l2_first_rip(&relay_l1_config));
	TEST_ASSERT_EQ((u32)relay_l1_fault.regs.rax, (u32)POST);
}

/* VMMCALL is #UD if L1 doesn't intercept it, whatever the mode, unless it's relayed. */
static void assert_ud_in_mode(struct relay_vm *r, enum hv_l2_mode mode, u64 control,
			      bool relayed)
{
	relay_l1_config.no_intercept = true;
	relay_l1_config.intercept_ud = true;
	relay_vm_call_in_mode(r, mode, control);
	/* If the first call is relayed, the second one isn't. */
	assert_outcome(r, relayed, 0, 1, relayed);
	TEST_ASSERT_EQ(relay_l1_seen.rip, hv_l2_first_rip(&relay_l1_config) +
				    (relayed ? HYPERCALL_INSN_SIZE : 0));
	TEST_ASSERT_EQ((u32)relay_l1_seen.regs.rax, relayed ? (u32)REPLY : (u32)relay_hcall_in.rax);
}

TEST_F(mode, not_intercepted)
{
	struct relay_vm *r = &self->r;
	bool relayed;
	u64 control;
	int i;

	if (kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "SVM only, VMX intercepts VMCALL unconditionally");

	/* The mask, both bits of consent and the nested bit: one try of L2 for each. */
	for (i = 0; i < 16; i++) {
		kvm_vm_free(r->vm);
		mode_vm_create(r, variant->mode, variant->nested_paging);
		relay_l1_config.direct_vmcs = i & 1;
		relay_l1_config.direct_assist = i & 2;
		relay_vm_set_mask(r, i & 4 ? RELAY_ALL : 0);
		control = post_of(r);
		if (!(i & 8))
			control &= ~HV_HYPERCALL_NESTED;
		relayed = variant->relayed && i == 15;
		assert_ud_in_mode(r, variant->mode, control, relayed);
	}
}

FIXTURE(capability) {
	struct relay_vm r;
};

FIXTURE_SETUP(capability)
{
	const char *why_not = relay_vm_create(&self->r, kvm_cpu_has_tdp());

	if (why_not)
		SKIP(return, "%s", why_not);
}

FIXTURE_TEARDOWN(capability)
{
	kvm_vm_free(self->r.vm);
}

static void assert_einval(struct relay_vm *r, struct kvm_enable_cap *cap)
{
	cap->cap = KVM_CAP_NESTED_HYPERV_HCALL_RELAY;
	TEST_ASSERT(__vm_ioctl(r->vm, KVM_ENABLE_CAP, cap) == -1 && errno == EINVAL,
		    "Wanted EINVAL for flags 0x%x args 0x%llx 0x%llx 0x%llx 0x%llx",
		    cap->flags, cap->args[0], cap->args[1], cap->args[2],
		    cap->args[3]);
}

TEST_F(capability, bad_input_keeps_mask)
{
	struct relay_vm *r = &self->r;
	struct kvm_enable_cap cap;
	int i;

	relay_vm_serve(r, RELAY_POST, HV_L2_VM_ID);

	for (i = 0; i < 64; i++) {
		if (BIT_ULL(i) & RELAY_VALID)
			continue;
		cap = (struct kvm_enable_cap) { .args[0] = BIT_ULL(i) };
		assert_einval(r, &cap);
		cap = (struct kvm_enable_cap) { .args[0] = RELAY_ALL | BIT_ULL(i) };
		assert_einval(r, &cap);
	}
	for (i = 0; i < 32; i++) {
		cap = (struct kvm_enable_cap) {
			.flags = BIT(i), .args[0] = RELAY_ALL,
		};
		assert_einval(r, &cap);
	}
	for (i = 1; i < 4; i++) {
		cap = (struct kvm_enable_cap) { .args[0] = RELAY_ALL };
		cap.args[i] = 1;
		assert_einval(r, &cap);
		cap.args[i] = BIT_ULL(63);
		assert_einval(r, &cap);
		cap.args[0] = 0;
		assert_einval(r, &cap);
		cap.args[0] = RELAY_ALL | RELAY_INTER_PARTITION;
		assert_einval(r, &cap);
		cap.args[0] = RELAY_VALID;
		if (i > 1)
			assert_einval(r, &cap);
	}
	/* The ID must not change, either, if something else is wrong. */
	cap = (struct kvm_enable_cap) {
		.flags = 1, .args = { RELAY_VALID, HV_L2_OTHER_VM_ID },
	};
	assert_einval(r, &cap);

	assert_post_delivered(r);
	assert_reflected(r, SIGNAL | FAST, CONN_ID);
}

/*
 * An early version of the capability took a bool, or nothing at all.  Who still
 * passes 1, or 0, can see in the trace what is missing.
 */
#define TRACING		"/sys/kernel/tracing/instances/hyperv_nested_relay_test"

static void write_trace_file(const char *path, const char *value)
{
	int fd = open_path_or_exit(path, O_WRONLY | O_TRUNC);

	TEST_ASSERT(write(fd, value, strlen(value)) == strlen(value), "%s: %s", path,
		    strerror(errno));
	close(fd);
}

static bool trace_has(const char *event)
{
	FILE *file = fopen(TRACING "/trace", "r");
	char line[512];
	bool found = false;

	TEST_ASSERT(file, "No trace");
	while (fgets(line, sizeof(line), file))
		found = found || strstr(line, event);
	fclose(file);
	return found;
}

#define SIGNAL_NOT_SELECTED "code 0x5d fast l2 0x42 l1_gpa 0xffffffffffffffff vm_id 0x1 inter_partition 0 to L1: not selected"

TEST_F(capability, early_users_see_what_is_missing)
{
	static const char enable[] = TRACING "/events/kvm/kvm_hv_nested_relay/enable";
	struct relay_vm *r = &self->r;
	bool post, signal;
	u64 mask;

	if (mkdir(TRACING, 0700) && errno != EEXIST)
		SKIP(return, "no tracefs, or no permission");
	write_trace_file(enable, "1");

	for (mask = 0; mask <= 1; mask++) {
		write_trace_file(TRACING "/trace", "\n");
		relay_vm_set_mask(r, mask);
		if (mask)
			assert_post_delivered(r);
		else
			assert_post_reflected(r);
		assert_reflected(r, SIGNAL | FAST, CONN_ID);

		post = trace_has(mask ? "vm_id 0x1 inter_partition 0 kept" :
					"code 0x5c ");
		signal = trace_has(SIGNAL_NOT_SELECTED);
		TEST_ASSERT(post && signal, "Mask %lu: post %straced, signal %straced",
			    mask, post ? "" : "not ", signal ? "" : "not ");
	}

	write_trace_file(enable, "0");
	TEST_ASSERT(!rmdir(TRACING), "%s: %s", TRACING, strerror(errno));
}

/* Not of a suite with a VM: it must hold with nested virtualization off, too. */
TEST(capability_is_reported)
{
	int mask = kvm_has_nested() ? 0x303 : 0;

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_NESTED_HYPERV_HCALL_RELAY), mask);
}

TEST(capability_is_refused_without_nested)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_NESTED_HYPERV_HCALL_RELAY,
		.args[0] = RELAY_POST,
	};
	struct kvm_vm *vm;

	if (kvm_has_nested())
		SKIP(return, "nested virtualization is on");

	vm = vm_create_barebones();
	TEST_ASSERT(__vm_ioctl(vm, KVM_ENABLE_CAP, &cap) == -1 && errno == EINVAL,
		    "Wanted EINVAL");
	kvm_vm_free(vm);
}

/* KVM_CAP_HYPERV_ENFORCE_CPUID: the privileges are those of the whole VM. */
FIXTURE(privileges) {
	struct relay_vm r;
};

FIXTURE_SETUP(privileges)
{
	const char *why_not = relay_vm_create(&self->r, kvm_cpu_has_tdp());

	if (why_not)
		SKIP(return, "%s", why_not);
	vcpu_enable_cap(self->r.vcpu, KVM_CAP_HYPERV_ENFORCE_CPUID, 1);
	relay_vm_set_mask(&self->r, RELAY_ALL);
}

FIXTURE_TEARDOWN(privileges)
{
	kvm_vm_free(self->r.vm);
}

TEST_F(privileges, both_delivered)
{
	vcpu_set_cpuid_feature(self->r.vcpu, HV_POST_MESSAGES);
	vcpu_set_cpuid_feature(self->r.vcpu, HV_SIGNAL_EVENTS);
	assert_post_delivered(&self->r);
	assert_delivered(&self->r, SIGNAL | FAST, CONN_ID, CONN_ID);
}

TEST_F(privileges, post_only)
{
	vcpu_set_cpuid_feature(self->r.vcpu, HV_POST_MESSAGES);
	vcpu_clear_cpuid_feature(self->r.vcpu, HV_SIGNAL_EVENTS);
	assert_post_delivered(&self->r);
	assert_status(&self->r, SIGNAL | FAST, CONN_ID, HV_STATUS_ACCESS_DENIED);
}

TEST_F(privileges, signal_only)
{
	vcpu_clear_cpuid_feature(self->r.vcpu, HV_POST_MESSAGES);
	vcpu_set_cpuid_feature(self->r.vcpu, HV_SIGNAL_EVENTS);
	assert_status(&self->r, post_of(&self->r), self->r.msg_gpa, HV_STATUS_ACCESS_DENIED);
	assert_delivered(&self->r, SIGNAL | FAST, CONN_ID, CONN_ID);
}

/* Without the relay, nobody but L1 has a say. */
TEST_F(privileges, none_off_reflects)
{
	vcpu_clear_cpuid_feature(self->r.vcpu, HV_POST_MESSAGES);
	vcpu_clear_cpuid_feature(self->r.vcpu, HV_SIGNAL_EVENTS);
	relay_vm_set_mask(&self->r, 0);
	assert_post_reflected(&self->r);
	assert_reflected(&self->r, SIGNAL | FAST, CONN_ID);
}

TEST(synic_inactive_fails)
{
	struct relay_vm r;
	const char *why_not;

	why_not = __relay_vm_create(&r, kvm_cpu_has_tdp(), relay_l1_main, 1);
	if (why_not)
		SKIP(return, "%s", why_not);

	relay_vm_set_mask(&r, RELAY_ALL);
	assert_status(&r, post_of(&r), r.msg_gpa, HV_STATUS_INVALID_HYPERCALL_INPUT);
	assert_status(&r, SIGNAL | FAST, CONN_ID, HV_STATUS_INVALID_HYPERCALL_INPUT);
	kvm_vm_free(r.vm);
}

/* As vm_create_with_one_vcpu(), but without interrupt controllers and handlers. */
static struct kvm_vm *vm_create_without_apic(struct kvm_vcpu **vcpu, void *code)
{
	const u64 nr_pages = 2048;
	struct kvm_vm *vm = vm_create_barebones();
	int i;

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, 0, 0, nr_pages, 0);
	for (i = 0; i < NR_MEM_REGIONS; i++)
		vm->memslots[i] = 0;
	kvm_vm_elf_load(vm, program_invocation_name);
	ucall_init(vm, nr_pages << vm->page_shift);
	sync_global_to_guest(vm, host_cpu_is_intel);
	sync_global_to_guest(vm, host_cpu_is_amd);
	vm->arch.gdt = vm_alloc_page(vm);
	vm->arch.idt = vm_alloc_page(vm);
	vm->arch.tss = vm_alloc_page(vm);
	*vcpu = vm_vcpu_add(vm, 0, code);
	return vm;
}

/* There is no SynIC without an in-kernel local APIC, so all calls fail. */
TEST(no_local_apic_fails)
{
	const char *why_not = hv_l1_why_not(kvm_cpu_has_tdp());
	struct kvm_vcpu *vcpu;
	struct relay_vm r;
	struct kvm_vm *vm;

	if (why_not)
		SKIP(return, "%s", why_not);

	vm = vm_create_without_apic(&vcpu, relay_l1_main);
	relay_vm_init(&r, vm, vcpu, kvm_cpu_has_tdp(), 1);
	assert_post_reflected(&r);
	relay_vm_set_mask(&r, RELAY_ALL);
	assert_status(&r, post_of(&r), r.msg_gpa, HV_STATUS_INVALID_HYPERCALL_INPUT);
	assert_status(&r, SIGNAL | FAST, CONN_ID, HV_STATUS_INVALID_HYPERCALL_INPUT);
	relay_vm_set_mask(&r, 0);
	assert_post_reflected(&r);
	kvm_vm_free(vm);
}

static void show_call(struct relay_vm *r, const char *what)
{
	static const char greeting[] = "Greetings from L2";

	relay_msg_offset = 0;
	memcpy(relay_msg, greeting, sizeof(greeting));
	relay_write_msg = true;
	relay_vm_call(r, POST, r->msg_gpa);
	printf("demo: %s\n", what);
	printf("demo:   L2 posts: control 0x%llx, L2 GPA 0x%lx\n", POST, r->msg_gpa);
	if (r->delivered)
		printf("demo:   L0 delivers to the VMM: KVM_EXIT_HYPERV, input 0x%llx,\n"
		       "demo:     L1 GPA 0x%llx, payload \"%.*s\"\n",
		       r->exit.u.hcall.input, r->exit.u.hcall.params[0],
		       (int)sizeof(r->payload), r->payload);
	if (relay_l1_seen.count)
		printf("demo:   L0 reflects to L1: hypercall exit, RCX 0x%lx\n",
		       relay_l1_seen.regs.rcx);
	printf("demo:   L2 continues with RAX 0x%lx\n", relay_hcall_out.rax);
}

static int show_demo(void)
{
	const char *why_not;
	struct relay_vm r;

	why_not = relay_vm_create(&r, kvm_cpu_has_tdp());
	if (why_not) {
		printf("demo: can't: %s\n", why_not);
		return KSFT_SKIP;
	}

	show_call(&r, "relay off");
	TEST_ASSERT(!r.delivered && relay_l1_seen.count == 1, "Not reflected to L1");

	relay_vm_set_mask(&r, RELAY_ALL);
	show_call(&r, "relay on");
	TEST_ASSERT(r.delivered == 1 && !relay_l1_seen.count, "Not delivered");

	kvm_vm_free(r.vm);
	return KSFT_PASS;
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_NESTED_HYPERV_HCALL_RELAY) ||
		     !kvm_has_nested());

	if (argc > 1 && !strcmp(argv[1], "--demo"))
		return show_demo();

	return test_harness_run(argc, argv);
}
