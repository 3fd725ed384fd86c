// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests for the Hyper-V hypercalls that KVM handles in L0 anyway: L1's own, those
 * that userspace gets included, and the TLB flushes that L1 lets L2 make directly.
 */
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "hyperv_nested.h"

#define CONN_ID		0x42

/* What L1 puts into L2's RAX when it gets L2's hypercall. */
#define REFLECTED_RAX	0x4c31ULL

/* Where L1 says that it runs, in place of 0 for a caller that is done. */
#define STOPPED_IN_L1	1

/* What userspace answers. */
#define REPLY		0x1234567800000abcULL

#define FLUSH		HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE
#define FLUSH_LIST	(HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST | 2ULL << 32)

/* More than happen when L2 is entered. */
#define NR_FLUSHES	64

/* Of a page with input, for L2; it is at no such GPA in L1, if that uses nested paging. */
#define INPUT_L2_GPA	0x140000000ULL

/* Shared with guest code. */
static struct hv_l1_config l1_config;
static bool calls_from_l1, is_svm, stop_in_l1;
static struct {
	u64 nr, control, input, output;
} call;
static struct {
	u64 rax, nr_reflected;
} seen;

static void caller_main(void)
{
	u64 i;

	for (;;) {
		for (i = 0; i < call.nr; i++)
			seen.rax = hv_hypercall(is_svm, call.control, call.input, call.output);
		GUEST_SYNC(0);
	}
}

static void l1_main(void *nested, struct hyperv_test_pages *hv)
{
	struct hv_l1 l1 = { .vmx = nested, .hv = hv };
	struct hv_l1_config config = l1_config;

	if (calls_from_l1) {
		wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
		caller_main();
	}

	hv_l1_init(&l1, &config, caller_main);
	for (;;) {
		hv_l1_enter(&l1);
		GUEST_ASSERT(hv_l1_exit_is_hcall(&l1));
		seen.nr_reflected++;
		guest_regs.rax = REFLECTED_RAX;
		hv_l1_set_rip(&l1, hv_l1_get_rip(&l1) + HYPERCALL_INSN_SIZE);

		if (READ_ONCE(stop_in_l1))
			GUEST_SYNC(STOPPED_IN_L1);

		if (memcmp(&config, &l1_config, sizeof(config))) {
			config = l1_config;
			hv_l1_authorize(&l1, &config);
		}
	}
}

struct test_vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	gpa_t input_gpa;	/* what the caller says */
	gpa_t input_l1_gpa;
};

static void test_vm_create(struct test_vm *t, bool nested, bool nested_paging)
{
	gva_t nested_pages = 0, hv = 0;

	t->vm = vm_create_with_one_vcpu(&t->vcpu, l1_main);
	if (nested_paging)
		vm_enable_tdp(t->vm);
	vcpu_set_hv_cpuid(t->vcpu);
	vcpu_enable_cap(t->vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	if (nested) {
		hv_l1_enable(t->vcpu);
		vm_alloc_hv_l1(t->vm, &nested_pages, &hv);
	}
	vcpu_args_set(t->vcpu, 2, nested_pages, hv);

	/* Two pages that aren't next to each other for L2. */
	t->input_l1_gpa = vm_phy_pages_alloc(t->vm, 2, 0x200000, 0);
	t->input_gpa = t->input_l1_gpa;
	if (nested_paging) {
		tdp_identity_map_default_memslots(t->vm);
		tdp_map(t->vm, INPUT_L2_GPA, t->input_l1_gpa, PAGE_SIZE);
		t->input_gpa = INPUT_L2_GPA;
	}

	l1_config = (struct hv_l1_config) {
		.guest_os_id	= HYPERV_LINUX_OS_ID,
		.enlightened	= true,
		.direct_vmcs	= true,
		.direct_assist	= true,
		.vm_id		= HV_L2_VM_ID,
	};
	calls_from_l1 = !nested;
	is_svm = !host_cpu_is_intel;
}

/* Run until the caller is done, or userspace gets the call. */
static void run_calls(struct test_vm *t, u64 nr, u64 control, u64 input, u64 output)
{
	call.nr = nr;
	call.control = control;
	call.input = input;
	call.output = output;
	memset(&seen, 0, sizeof(seen));
	sync_global_to_guest(t->vm, l1_config);
	sync_global_to_guest(t->vm, calls_from_l1);
	sync_global_to_guest(t->vm, is_svm);
	sync_global_to_guest(t->vm, stop_in_l1);
	sync_global_to_guest(t->vm, call);
	sync_global_to_guest(t->vm, seen);
	vcpu_run(t->vcpu);
}

static void assert_done(struct test_vm *t)
{
	struct ucall uc;

	switch (get_ucall(t->vcpu, &uc)) {
	case UCALL_SYNC:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Unexpected exit reason: %s",
			  exit_reason_str(t->vcpu->run->exit_reason));
	}
	sync_global_from_guest(t->vm, seen);
}

/* Calls of L1 that userspace gets. */
FIXTURE(to_userspace) {
	struct test_vm t;
};

FIXTURE_SETUP(to_userspace)
{
	test_vm_create(&self->t, false, false);
}

FIXTURE_TEARDOWN(to_userspace)
{
	kvm_vm_free(self->t.vm);
}

static struct kvm_hyperv_exit *run_to_exit(struct test_vm *t, u64 control, u64 input)
{
	struct kvm_hyperv_exit *exit = &t->vcpu->run->hyperv;

	run_calls(t, 1, control, input, 0);
	TEST_ASSERT_KVM_EXIT_REASON(t->vcpu, KVM_EXIT_HYPERV);
	TEST_ASSERT_EQ(exit->type, KVM_EXIT_HYPERV_HCALL);
	return exit;
}

static void answer(struct test_vm *t, u64 result, u64 want_rax)
{
	t->vcpu->run->hyperv.u.hcall.result = result;
	vcpu_run(t->vcpu);
	assert_done(t);
	TEST_ASSERT_EQ(seen.rax, want_rax);
}

/* VMMs that go by the fast bit and VMMs that don't must find the same connection. */
TEST_F(to_userspace, slow_signal_is_a_fast_one)
{
	struct test_vm *t = &self->t;
	u64 *param = addr_gpa2hva(t->vm, t->input_l1_gpa);
	struct kvm_hyperv_exit *exit;

	*param = CONN_ID | 7ULL << 32;
	exit = run_to_exit(t, HVCALL_SIGNAL_EVENT, t->input_l1_gpa);
	TEST_ASSERT_EQ(exit->u.hcall.input, HVCALL_SIGNAL_EVENT | HV_HYPERCALL_FAST_BIT);
	TEST_ASSERT_EQ(exit->u.hcall.params[0], *param);
	answer(t, REPLY, REPLY);

	exit = run_to_exit(t, HVCALL_SIGNAL_EVENT | HV_HYPERCALL_FAST_BIT, *param);
	TEST_ASSERT_EQ(exit->u.hcall.input, HVCALL_SIGNAL_EVENT | HV_HYPERCALL_FAST_BIT);
	TEST_ASSERT_EQ(exit->u.hcall.params[0], *param);
	answer(t, REPLY, REPLY);

	/* For a post, the GPA is the parameter. */
	exit = run_to_exit(t, HVCALL_POST_MESSAGE, t->input_l1_gpa);
	TEST_ASSERT_EQ(exit->u.hcall.input, HVCALL_POST_MESSAGE);
	TEST_ASSERT_EQ(exit->u.hcall.params[0], t->input_l1_gpa);
	answer(t, REPLY, REPLY);
}

TEST_F(to_userspace, result_is_preset)
{
	struct test_vm *t = &self->t;
	struct kvm_hyperv_exit *exit;

	exit = run_to_exit(t, HVCALL_POST_MESSAGE, t->input_l1_gpa);
	TEST_ASSERT_EQ(exit->u.hcall.result, HV_STATUS_INVALID_HYPERCALL_CODE);
	answer(t, REPLY, REPLY);
	exit = run_to_exit(t, HVCALL_POST_MESSAGE, t->input_l1_gpa);
	TEST_ASSERT_EQ(exit->u.hcall.result, HV_STATUS_INVALID_HYPERCALL_CODE);
	answer(t, exit->u.hcall.result, HV_STATUS_INVALID_HYPERCALL_CODE);
}

/* Whoever moves the vCPU meanwhile, e.g. by an INIT, wants it to stay there. */
TEST_F(to_userspace, completed_where_it_was_made)
{
	struct test_vm *t = &self->t;
	struct kvm_regs before, after;

	run_to_exit(t, HVCALL_POST_MESSAGE, t->input_l1_gpa);
	t->vcpu->run->hyperv.u.hcall.result = REPLY;
	vcpu_regs_get(t->vcpu, &before);
	before.rip += 0x10;
	vcpu_regs_set(t->vcpu, &before);
	vcpu_run_complete_io(t->vcpu);
	vcpu_regs_get(t->vcpu, &after);
	TEST_ASSERT(!memcmp(&before, &after, sizeof(before)),
		    "RAX 0x%llx, RIP 0x%llx; wanted 0x%llx, 0x%llx", after.rax, after.rip,
		    before.rax, before.rip);
}

/* TLB flushes of an L2 that L1 lets make them directly. */
FIXTURE(flush) {
	struct test_vm t;
};

FIXTURE_VARIANT(flush) {
	bool nested_paging;
};

FIXTURE_VARIANT_ADD(flush, nested_paging) {
	.nested_paging = true,
};

FIXTURE_VARIANT_ADD(flush, shadow_paging) {
	.nested_paging = false,
};

static const char *why_no_direct_flush(bool nested_paging)
{
	const char *why_not = hv_l1_why_not(nested_paging);

	if (!why_not && !kvm_hv_cpu_has(HV_X64_NESTED_DIRECT_FLUSH))
		why_not = "no direct TLB flush";
	return why_not;
}

FIXTURE_SETUP(flush)
{
	const char *why_not = why_no_direct_flush(variant->nested_paging);

	if (why_not)
		SKIP(return, "%s", why_not);
	test_vm_create(&self->t, true, variant->nested_paging);
}

FIXTURE_TEARDOWN(flush)
{
	kvm_vm_free(self->t.vm);
}

/* Returns how many flushes, of any kind, the vCPU did meanwhile. */
static u64 flush_vps(struct test_vm *t, u64 vps, u64 nr)
{
	const u64 input[] = { 0, HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES, vps };
	u64 nr_flushes = -vcpu_get_stat(t->vcpu, tlb_flush);

	memcpy(addr_gpa2hva(t->vm, t->input_l1_gpa), input, sizeof(input));
	run_calls(t, nr, FLUSH, t->input_gpa, 0);
	assert_done(t);
	return nr_flushes + vcpu_get_stat(t->vcpu, tlb_flush);
}

static void assert_flushes_in_l0(struct test_vm *t)
{
	flush_vps(t, BIT_ULL(HV_L2_VP_ID), 1);
	TEST_ASSERT_EQ(seen.nr_reflected, 0);
	TEST_ASSERT_EQ(seen.rax, HV_STATUS_SUCCESS);
}

static void assert_flushes_in_l1(struct test_vm *t)
{
	flush_vps(t, BIT_ULL(HV_L2_VP_ID), 1);
	TEST_ASSERT_EQ(seen.nr_reflected, 1);
	TEST_ASSERT_EQ(seen.rax, REFLECTED_RAX);
}

/* Have L1 do what l1_config says, by a call that goes there. */
static void apply_l1_config(struct test_vm *t)
{
	run_calls(t, 1, HVCALL_POST_MESSAGE, t->input_gpa, 0);
	assert_done(t);
	TEST_ASSERT_EQ(seen.nr_reflected, 1);
}

static void save_restore(struct test_vm *t)
{
	struct kvm_x86_state *state = vcpu_save_state(t->vcpu);

	kvm_vm_release(t->vm);
	t->vcpu = vm_recreate_with_one_vcpu(t->vm);
	hv_l1_restore(t->vcpu, state);
}

static void assert_flushes_by_vp(struct test_vm *t)
{
	u64 own = flush_vps(t, BIT_ULL(HV_L2_VP_ID), NR_FLUSHES);
	u64 others;

	TEST_ASSERT_EQ(seen.nr_reflected, 0);
	TEST_ASSERT_EQ(seen.rax, HV_STATUS_SUCCESS);
	others = flush_vps(t, ~BIT_ULL(HV_L2_VP_ID), NR_FLUSHES);
	TEST_ASSERT_EQ(seen.nr_reflected, 0);
	TEST_ASSERT(own >= NR_FLUSHES && others < NR_FLUSHES,
		    "%lu flushes for L2's own VP, %lu for others", own, others);
}

/* L1's consent, and whose TLBs are flushed, isn't saved but for the eVMCS or VMCB. */
TEST_F(flush, after_restore)
{
	struct test_vm *t = &self->t;
	struct kvm_x86_state *state;

	assert_flushes_by_vp(t);
	save_restore(t);
	assert_flushes_by_vp(t);

	/* In place, and in the order of QEMU, which restores MSRs last. */
	state = vcpu_save_state(t->vcpu);
	vcpu_set_msr(t->vcpu, HV_X64_MSR_GUEST_OS_ID, 0);
	vcpu_nested_state_set(t->vcpu, &state->nested);
	vcpu_set_msr(t->vcpu, HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
	kvm_x86_state_cleanup(state);
	assert_flushes_by_vp(t);
}

/* E.g. a VM that is moved on before it has run: L1's eVMCS must stay what it was. */
TEST_F(flush, saved_again_before_run)
{
	struct test_vm *t = &self->t;
	struct ucall uc;

	if (!kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "VMX only, KVM has no VMCB of L1's to write to");

	assert_flushes_in_l0(t);
	stop_in_l1 = true;
	run_calls(t, 1, HVCALL_POST_MESSAGE, t->input_gpa, 0);
	TEST_ASSERT_EQ(get_ucall(t->vcpu, &uc), UCALL_SYNC);
	TEST_ASSERT_EQ(uc.args[1], STOPPED_IN_L1);

	save_restore(t);
	save_restore(t);
	stop_in_l1 = false;
	sync_global_to_guest(t->vm, stop_in_l1);
	vcpu_run(t->vcpu);
	assert_done(t);
	TEST_ASSERT_EQ(seen.rax, REFLECTED_RAX);
	assert_flushes_in_l0(t);
}

/* The guest OS ID that enables Hyper-V may come later than the VMRUN. */
TEST_F(flush, consent_of_previous_entry)
{
	struct test_vm *t = &self->t;

	if (kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "SVM only, the eVMCS is read when it is needed");

	assert_flushes_in_l0(t);
	l1_config.guest_os_id = 0;
	l1_config.direct_vmcs = false;
	apply_l1_config(t);
	vcpu_set_msr(t->vcpu, HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
	assert_flushes_in_l1(t);
}

/* What was the VP assist page says yes, but is no VP assist page any more. */
TEST_F(flush, consent_of_disabled_page)
{
	struct test_vm *t = &self->t;

	if (kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "SVM only, there is no eVMCS without the VP assist page");

	assert_flushes_in_l0(t);
	l1_config.no_vp_assist = true;
	apply_l1_config(t);
	assert_flushes_in_l1(t);
	l1_config.no_vp_assist = false;
	apply_l1_config(t);
	assert_flushes_in_l0(t);
}

/* To KVM, the page is a use of PV EOI, which MSR_KVM_PV_EOI_EN moves or ends, too. */
TEST_F(flush, consent_of_moved_page)
{
	struct test_vm *t = &self->t;
	enum hv_pv_eoi pv_eoi;

	if (kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "SVM only, there is no eVMCS without the VP assist page");

	assert_flushes_in_l0(t);
	for (pv_eoi = HV_PV_EOI_OFF; pv_eoi <= HV_PV_EOI_BACK; pv_eoi++) {
		l1_config.pv_eoi = pv_eoi;
		apply_l1_config(t);
		assert_flushes_in_l1(t);
		l1_config.pv_eoi = HV_PV_EOI_VP_ASSIST;
		apply_l1_config(t);
		assert_flushes_in_l0(t);
	}
}

static void gp_handler(struct ex_regs *regs)
{
	static bool wrmsr_failed;

	if (wrmsr_failed)
		GUEST_SYNC(GP_VECTOR);
	wrmsr_failed = true;
	regs->rip += 2;
}

/* A failed write to the MSR leaves the page out of reach: VMRUN can't succeed. */
TEST_F(flush, page_out_of_reach)
{
	struct test_vm *t = &self->t;
	struct ucall uc;

	if (kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "SVM only, there is no eVMCS without the VP assist page");

	vm_install_exception_handler(t->vm, GP_VECTOR, gp_handler);
	assert_flushes_in_l0(t);
	l1_config.pv_eoi = HV_PV_EOI_NOWHERE;
	run_calls(t, 1, HVCALL_POST_MESSAGE, t->input_gpa, 0);
	TEST_ASSERT_EQ(get_ucall(t->vcpu, &uc), UCALL_SYNC);
	TEST_ASSERT_EQ(uc.args[1], GP_VECTOR);
}

/* What L1 lets L2 ask of L0 is Hyper-V's interface, whatever else there is. */
TEST_F(flush, is_of_hyperv)
{
	struct kvm_xen_hvm_config config = {
		.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
		.msr = 0x40000200,
	};
	struct test_vm *t = &self->t;

	assert_flushes_in_l0(t);
	vcpu_set_msr(t->vcpu, HV_X64_MSR_GUEST_OS_ID, 0);
	assert_flushes_in_l0(t);

	if (!(kvm_check_cap(KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL))
		return;
	vm_ioctl(t->vm, KVM_XEN_HVM_CONFIG, &config);
	assert_flushes_in_l0(t);
}

static void assert_flush(struct test_vm *t, u64 control, gpa_t gpa, u64 rax)
{
	run_calls(t, 1, control, gpa, 0);
	assert_done(t);
	TEST_ASSERT_EQ(seen.nr_reflected, 0);
	TEST_ASSERT_EQ(seen.rax, rax);
}

/* 24 bytes, and 8 for each address of a list. */
TEST_F(flush, input_in_one_page)
{
	struct test_vm *t = &self->t;
	gpa_t gpa = t->input_gpa, end = gpa + PAGE_SIZE;

	if (!variant->nested_paging)
		SKIP(return, "L1 doesn't use nested paging");

	assert_flush(t, FLUSH, gpa, HV_STATUS_SUCCESS);
	assert_flush(t, FLUSH, end - 24, HV_STATUS_SUCCESS);
	assert_flush(t, FLUSH, end - 16, HV_STATUS_INVALID_ALIGNMENT);
	assert_flush(t, FLUSH, gpa + 4, HV_STATUS_INVALID_ALIGNMENT);
	assert_flush(t, FLUSH_LIST, end - 40, HV_STATUS_SUCCESS | 2ULL << 32);
	assert_flush(t, FLUSH_LIST, end - 32, HV_STATUS_INVALID_ALIGNMENT);
	assert_flush(t, FLUSH, gpa | BIT_ULL(63), HV_STATUS_INVALID_ALIGNMENT);
	assert_flush(t, FLUSH, gpa - PAGE_SIZE, HV_STATUS_INVALID_HYPERCALL_INPUT);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_HYPERV_SYNIC2));

	return test_harness_run(argc, argv);
}
