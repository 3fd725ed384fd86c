// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of KVM's relay of nested Hyper-V hypercalls.
 *
 * The rules are those of KVM_CAP_NESTED_HYPERV_HCALL_RELAY, see
 * Documentation/virt/kvm/api.rst.  The functions under test are KVM's own, on a
 * vCPU that exists in memory only.  Stubs take the place of vendor code.
 */
#include <kunit/static_stub.h>
#include <kunit/test.h>

#include <linux/kvm_host.h>
#include <linux/tracepoint.h>

#include <asm/mshyperv.h>

#include "hyperv_nested_relay.h"
#include "mmu.h"

/*
 * The call as Hyper-V's specification has it, and the mask as userspace knows
 * it: in numbers, for the tests not to share a mistake with KVM.
 */
#define POST		0x5cULL
#define SIGNAL		0x5dULL
#define FAST		BIT_ULL(16)
#define NESTED		BIT_ULL(31)

#define MASK_POST	BIT(0)
#define MASK_SIGNAL	BIT(1)
#define MASK_ALL	(MASK_POST | MASK_SIGNAL)

/* A page of L2, and where L1's nested page tables have it. */
#define L2_GPA		0x0000001234567000ULL
#define L1_GPA		0x00000000089ab000ULL
#define MAXPHYADDR	40

/* No call that may be relayed, but with the nested bit. */
#define POISON		0xa5a5a5a5a5a5a5a5ULL

static const struct relay_class {
	const char *name;
	u64 code;
	u32 mask;
	u32 size;
} classes[] = {
	{ "post",	POST,	MASK_POST,	256 },
	{ "signal",	SIGNAL,	MASK_SIGNAL,	8 },
};

struct relay_event {
	u64 control, l2_input, l1_gpa;
	u32 verdict;
};

struct relay_test {
	struct kvm *kvm;
	struct kvm_vcpu *vcpu;

	/* What vendor code says. */
	bool authorized;
	bool is_64_bit;
	int cpl;
	bool is_xen;
	bool nested;
	gpa_t walk_result;

	/* The nested walks so far, and the address of the last one. */
	int walks;
	gpa_t walked;

	struct tracepoint *tracepoint;
	struct task_struct *task;
	struct relay_event event;
	int events;
};

/* What became of a call.  If it wasn't kept, the rest is what went in. */
struct relay_result {
	bool kept;
	u64 status;
	u64 control;
	u64 input;
};

static bool fake_is_64_bit(struct kvm_vcpu *vcpu)
{
	struct relay_test *relay = kunit_get_current_test()->priv;

	return relay->is_64_bit;
}

static int fake_get_cpl(struct kvm_vcpu *vcpu)
{
	struct relay_test *relay = kunit_get_current_test()->priv;

	return relay->cpl;
}

static bool fake_is_xen(struct kvm *kvm)
{
	struct relay_test *relay = kunit_get_current_test()->priv;

	return relay->is_xen;
}

static gpa_t fake_walk(struct kvm_vcpu *vcpu, gpa_t l2_gpa)
{
	struct relay_test *relay = kunit_get_current_test()->priv;

	relay->walks++;
	relay->walked = l2_gpa;
	return relay->walk_result;
}

static bool fake_is_nested_enabled(void)
{
	struct relay_test *relay = kunit_get_current_test()->priv;

	return relay->nested;
}

static void set_mask(struct relay_test *relay, u32 mask)
{
	to_kvm_hv(relay->kvm)->nested_relay_mask = mask;
}

static u32 get_mask(struct relay_test *relay)
{
	return to_kvm_hv(relay->kvm)->nested_relay_mask;
}

static void set_guest_os_id(struct relay_test *relay, u64 id)
{
	to_kvm_hv(relay->kvm)->hv_guest_os_id = id;
}

static void set_protmode(struct relay_test *relay, bool protmode)
{
	relay->vcpu->arch.cr0 = protmode ? X86_CR0_PE : 0;
}

static void set_register(struct relay_test *relay, int reg, u64 value)
{
	relay->vcpu->arch.regs[reg] = value;
}

/* Make the call that of the vCPU, all other registers hold no call. */
static void set_call(struct relay_test *relay, u64 control, u64 input)
{
	int i;

	for (i = 0; i < NR_VCPU_GENERAL_PURPOSE_REGS; i++)
		set_register(relay, i, POISON);

	if (relay->is_64_bit) {
		set_register(relay, VCPU_REGS_RCX, control);
		set_register(relay, VCPU_REGS_RDX, input);
	} else {
		set_register(relay, VCPU_REGS_RDX, control >> 32);
		set_register(relay, VCPU_REGS_RAX, (u32)control);
		set_register(relay, VCPU_REGS_RBX, input >> 32);
		set_register(relay, VCPU_REGS_RCX, (u32)input);
	}
}

static bool keep(struct relay_test *relay)
{
	return kvm_hv_nested_relay_test_l0_wants_hcall(relay->vcpu, relay->authorized);
}

/* As kvm_hv_hypercall() does, for calls of L1 as well. */
static u64 begin(struct relay_test *relay, u64 *control, u64 *input)
{
	if (!kvm_hv_nested_relay_kept(relay->vcpu))
		return HV_STATUS_SUCCESS;

	return kvm_hv_nested_relay_begin(relay->vcpu, control, input);
}

static struct relay_result call(struct relay_test *relay, u64 control, u64 input)
{
	struct relay_result result = { .control = control, .input = input };

	set_call(relay, control, input);
	result.kept = keep(relay);
	result.status = begin(relay, &result.control, &result.input);
	return result;
}

/* Assertions rather than expectations, as there are loops of 64K calls. */
static void assert_relayed(struct kunit *test, u64 control, u64 input, u64 l1_input)
{
	struct relay_result result = call(test->priv, control, input);

	KUNIT_ASSERT_TRUE_MSG(test, result.kept, "control 0x%llx input 0x%llx", control, input);
	KUNIT_ASSERT_EQ_MSG(test, result.status, HV_STATUS_SUCCESS,
			    "control 0x%llx input 0x%llx", control, input);
	KUNIT_ASSERT_EQ_MSG(test, result.control, control & ~NESTED,
			    "control 0x%llx input 0x%llx", control, input);
	KUNIT_ASSERT_EQ_MSG(test, result.input, l1_input,
			    "control 0x%llx input 0x%llx", control, input);
}

static void assert_refused(struct kunit *test, u64 control, u64 input, u64 status)
{
	struct relay_result result = call(test->priv, control, input);

	KUNIT_ASSERT_TRUE_MSG(test, result.kept, "control 0x%llx input 0x%llx", control, input);
	KUNIT_ASSERT_EQ_MSG(test, result.status, status,
			    "control 0x%llx input 0x%llx", control, input);
}

static void assert_reflected(struct kunit *test, u64 control, u64 input)
{
	struct relay_test *relay = test->priv;
	struct relay_result result;
	int walks = relay->walks;

	result = call(relay, control, input);
	KUNIT_ASSERT_FALSE_MSG(test, result.kept, "control 0x%llx input 0x%llx", control, input);
	KUNIT_ASSERT_EQ(test, result.status, HV_STATUS_SUCCESS);
	KUNIT_ASSERT_EQ(test, result.control, control);
	KUNIT_ASSERT_EQ(test, result.input, input);
	KUNIT_ASSERT_EQ(test, relay->walks, walks);
}

/* A vCPU in L2 whose calls are all relayed: each test closes its own gate. */
static int relay_test_init(struct kunit *test)
{
	struct kvm_vcpu_hv *hv_vcpu;
	struct relay_test *relay;
	struct kvm_vcpu *vcpu;

	relay = kunit_kzalloc(test, sizeof(*relay), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, relay);
	relay->kvm = kunit_kzalloc(test, sizeof(*relay->kvm), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, relay->kvm);
	vcpu = kunit_kzalloc(test, sizeof(*vcpu), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vcpu);
	hv_vcpu = kunit_kzalloc(test, sizeof(*hv_vcpu), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, hv_vcpu);

	vcpu->kvm = relay->kvm;
	vcpu->arch.hflags = HF_GUEST_MASK;
	vcpu->arch.mmu = &vcpu->arch.guest_mmu;
	vcpu->arch.ngpa_walk.cpu_role.base.level = PT64_ROOT_4LEVEL;
	vcpu->arch.reserved_gpa_bits = GENMASK_ULL(63, MAXPHYADDR);
	vcpu->arch.hyperv_enabled = true;
	vcpu->arch.hyperv = hv_vcpu;
	hv_vcpu->vcpu = vcpu;

	relay->vcpu = vcpu;
	relay->authorized = true;
	relay->is_64_bit = true;
	relay->nested = true;
	relay->walk_result = L1_GPA;
	set_mask(relay, MASK_ALL);
	set_guest_os_id(relay, 1);
	set_protmode(relay, true);

	test->priv = relay;
	kunit_activate_static_stub(test, kvm_hv_nested_relay_is_64_bit, fake_is_64_bit);
	kunit_activate_static_stub(test, kvm_hv_nested_relay_get_cpl, fake_get_cpl);
	kunit_activate_static_stub(test, kvm_hv_nested_relay_is_xen, fake_is_xen);
	kunit_activate_static_stub(test, kvm_hv_nested_relay_walk, fake_walk);
	kunit_activate_static_stub(test, kvm_hv_nested_relay_is_nested_enabled,
				   fake_is_nested_enabled);
	return 0;
}

static void class_desc(const struct relay_class *class, char *desc)
{
	strscpy(desc, class->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(class, classes, class_desc);

/* Which calls are kept. */

static void post_and_signal_are_relayed(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	struct relay_test *relay = test->priv;
	int i;

	for (i = 0; i < 2; i++) {
		relay->is_64_bit = i;
		assert_relayed(test, NESTED | class->code, L2_GPA, L1_GPA);
		KUNIT_EXPECT_EQ(test, relay->walked, L2_GPA);
		/* kvm_hv_hypercall() takes the registers by that. */
		KUNIT_EXPECT_EQ(test, to_hv_vcpu(relay->vcpu)->nested.relay_64_bit, i);
		assert_relayed(test, NESTED | FAST | class->code, L2_GPA, L2_GPA);
	}
	KUNIT_EXPECT_EQ(test, relay->walks, 2);
}

static const void *control_bit_gen_params(struct kunit *test, const void *prev, char *desc)
{
	unsigned long row = (unsigned long)prev;

	if (row == 64 * ARRAY_SIZE(classes))
		return NULL;

	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%s, bit %lu", classes[row / 64].name, row % 64);
	return (void *)(row + 1);
}

/* All bits but those of the code are the business of kvm_hv_hypercall(). */
static void control_bit_on_top_of_a_valid_call(struct kunit *test)
{
	unsigned long row = (unsigned long)test->param_value - 1;
	const struct relay_class *class = &classes[row / 64];
	u64 bit = BIT_ULL(row % 64), control = NESTED | class->code | bit;
	struct relay_test *relay = test->priv;

	/* Or bit 0 would make a post a signal. */
	set_mask(relay, class->mask);

	if ((bit & 0xffff) && !(bit & class->code))
		assert_reflected(test, control, L2_GPA);
	else
		assert_relayed(test, control, L2_GPA, bit == FAST ? L2_GPA : L1_GPA);
}

static void call_without_nested_bit_is_reflected(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	int bit;

	assert_reflected(test, class->code, L2_GPA);
	for (bit = 0; bit < 64; bit++)
		assert_reflected(test, (class->code | BIT_ULL(bit)) & ~NESTED, L2_GPA);
}

static const struct relay_mask {
	const char *name;
	u32 mask;
} masks[] = {
	{ "none",		0 },
	{ "post",		MASK_POST },
	{ "signal",		MASK_SIGNAL },
	{ "post and signal",	MASK_ALL },
};

KUNIT_ARRAY_PARAM_DESC(mask, masks, name);

static void only_selected_codes_are_relayed(struct kunit *test)
{
	const struct relay_mask *param = test->param_value;
	struct relay_test *relay = test->priv;
	u64 code;

	set_mask(relay, param->mask);
	for (code = 0; code <= 0xffff; code++) {
		if ((code == POST && (param->mask & MASK_POST)) ||
		    (code == SIGNAL && (param->mask & MASK_SIGNAL)))
			assert_relayed(test, NESTED | code, L2_GPA, L1_GPA);
		else
			assert_reflected(test, NESTED | code, L2_GPA);
	}
}

/* The check that spares vendor code the rest if the relay is off. */
static void relay_is_enabled_by_any_class(struct kunit *test)
{
	const struct relay_mask *param = test->param_value;
	struct relay_test *relay = test->priv;

	set_mask(relay, param->mask);
	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_enabled(relay->vcpu), param->mask != 0);
}

static void call_that_l1_did_not_authorize_is_reflected(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	struct relay_test *relay = test->priv;

	relay->authorized = false;
	assert_reflected(test, NESTED | class->code, L2_GPA);
	assert_reflected(test, NESTED | FAST | class->code, L2_GPA);
}

static const struct relay_mode {
	const char *name;
	bool protmode;
	bool is_64_bit;
	int cpl;
	bool relayed;
} modes[] = {
	{ "real mode",			false,	false,	0,	false },
	{ "protected mode, CPL 0",	true,	false,	0,	true },
	{ "protected mode, CPL 1",	true,	false,	1,	false },
	{ "protected mode, CPL 2",	true,	false,	2,	false },
	{ "protected mode, CPL 3",	true,	false,	3,	false },
	{ "64-bit mode, CPL 0",		true,	true,	0,	true },
	{ "64-bit mode, CPL 1",		true,	true,	1,	false },
	{ "64-bit mode, CPL 2",		true,	true,	2,	false },
	{ "64-bit mode, CPL 3",		true,	true,	3,	false },
};

KUNIT_ARRAY_PARAM_DESC(mode, modes, name);

static void mode_and_cpl(struct kunit *test)
{
	const struct relay_mode *mode = test->param_value;
	struct relay_test *relay = test->priv;

	set_protmode(relay, mode->protmode);
	relay->is_64_bit = mode->is_64_bit;
	relay->cpl = mode->cpl;

	if (mode->relayed)
		assert_relayed(test, NESTED | POST, L2_GPA, L1_GPA);
	else
		assert_reflected(test, NESTED | POST, L2_GPA);
}

static const struct relay_interface {
	const char *name;
	bool hyperv_enabled;
	u64 guest_os_id;
	bool is_xen;
	bool relayed;
} interfaces[] = {
	{ "Hyper-V, guest OS id",		true,	1,		false,	true },
	{ "Hyper-V, guest OS id, bit 63",	true,	BIT_ULL(63),	false,	true },
	{ "Hyper-V, no guest OS id",		true,	0,		false,	false },
	{ "no Hyper-V, guest OS id",		false,	1,		false,	false },
	{ "no Hyper-V, no guest OS id",		false,	0,		false,	false },
	{ "Xen and Hyper-V, guest OS id",	true,	1,		true,	false },
	{ "Xen and Hyper-V, no guest OS id",	true,	0,		true,	false },
	{ "Xen",				false,	0,		true,	false },
};

KUNIT_ARRAY_PARAM_DESC(interface, interfaces, name);

static void call_must_be_one_that_is_hyperv_to_kvm(struct kunit *test)
{
	const struct relay_interface *interface = test->param_value;
	struct relay_test *relay = test->priv;

	relay->vcpu->arch.hyperv_enabled = interface->hyperv_enabled;
	set_guest_os_id(relay, interface->guest_os_id);
	relay->is_xen = interface->is_xen;

	if (interface->relayed)
		assert_relayed(test, NESTED | POST, L2_GPA, L1_GPA);
	else
		assert_reflected(test, NESTED | POST, L2_GPA);
}

/* A vCPU gets its Hyper-V state with the first Hyper-V MSR or CPUID leaf. */
static void vcpu_without_hyperv_state_keeps_nothing(struct kunit *test)
{
	struct relay_test *relay = test->priv;

	relay->vcpu->arch.hyperv_enabled = false;
	relay->vcpu->arch.hyperv = NULL;
	set_call(relay, NESTED | POST, L2_GPA);

	KUNIT_EXPECT_FALSE(test, keep(relay));
	KUNIT_EXPECT_FALSE(test, kvm_hv_nested_relay_kept(relay->vcpu));
}

static void all_gates_must_be_open(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	struct relay_test *relay = test->priv;
	unsigned int open;
	u64 control;

	for (open = 0; open <= 0x1ff; open++) {
		set_mask(relay, open & BIT(0) ? class->mask : MASK_ALL & ~class->mask);
		control = open & BIT(1) ? NESTED | class->code : class->code;
		relay->authorized = open & BIT(2);
		relay->vcpu->arch.hyperv_enabled = open & BIT(3);
		set_guest_os_id(relay, open & BIT(4) ? 1 : 0);
		relay->is_xen = !(open & BIT(5));
		relay->cpl = open & BIT(6) ? 0 : 3;
		set_protmode(relay, open & BIT(7));
		/* Not a gate. */
		relay->is_64_bit = open & BIT(8);

		if ((open & 0xff) == 0xff)
			assert_relayed(test, control, L2_GPA, L1_GPA);
		else
			assert_reflected(test, control, L2_GPA);
	}
}

/* What L0 handles at all: L2's TLB flushes are its business, relay or not. */

static const struct relay_hcall {
	const char *name;
	u64 code;
	bool is_flush, is_relayed;
} hcalls[] = {
	{ "flush space",	0x02, true,  false },
	{ "flush list",		0x03, true,  false },
	{ "flush space ex",	0x13, true,  false },
	{ "flush list ex",	0x14, true,  false },
	{ "post",		POST, false, true },
	{ "signal",		SIGNAL, false, true },
	{ "none",		0x00, false, false },
	{ "switch space",	0x01, false, false },
	{ "next to flushes",	0x04, false, false },
	{ "before ex",		0x12, false, false },
	{ "after ex",		0x15, false, false },
	{ "past 8 bits",	0x0102, false, false },
};

static void hcall_desc(const struct relay_hcall *hcall, char *desc)
{
	strscpy(desc, hcall->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(hcall, hcalls, hcall_desc);

static void l0_wants_flushes_and_relayed_calls(struct kunit *test)
{
	const struct relay_hcall *hcall = test->param_value;
	struct relay_test *relay = test->priv;
	bool direct, flush, relayed;
	unsigned int i;

	for (i = 0; i <= 0x1f; i++) {
		relay->is_64_bit = IS_ENABLED(CONFIG_X86_64) && i & BIT(0);
		/* With the relay off, KVM's own function is asked for the mode. */
		relay->vcpu->arch.guest_state_protected = relay->is_64_bit;
		direct = i & BIT(1);
		set_mask(relay, i & BIT(2) ? MASK_ALL : 0);
		to_hv_vcpu(relay->vcpu)->cpuid_cache.nested_eax =
			i & BIT(3) ? BIT(17) : (u32)~BIT(17);
		set_call(relay, (i & BIT(4) ? NESTED : 0) | hcall->code, L2_GPA);

		flush = hcall->is_flush && direct && i & BIT(3);
		relayed = hcall->is_relayed && direct && i & BIT(2) && i & BIT(4);
		KUNIT_EXPECT_EQ_MSG(test, flush || relayed,
				    kvm_hv_nested_relay_test_l0_wants_hcall(relay->vcpu, direct),
				    "combination 0x%x", i);
		KUNIT_EXPECT_EQ_MSG(test, relayed, kvm_hv_nested_relay_kept(relay->vcpu),
				    "combination 0x%x", i);
		to_hv_vcpu(relay->vcpu)->nested.relay = NULL;
	}
}

/* Which registers count. */

static void control_is_in_rcx_in_64_bit_mode(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	int i;

	/* A call in each register but RCX. */
	for (i = 0; i < NR_VCPU_GENERAL_PURPOSE_REGS; i++)
		set_register(relay, i, NESTED | POST);
	set_register(relay, VCPU_REGS_RCX, POISON);
	KUNIT_EXPECT_FALSE(test, keep(relay));

	/* A call in its upper half. */
	set_register(relay, VCPU_REGS_RCX, (NESTED | POST) << 32);
	KUNIT_EXPECT_FALSE(test, keep(relay));

	/* A call in RCX alone. */
	set_call(relay, NESTED | POST, POISON);
	KUNIT_EXPECT_TRUE(test, keep(relay));
	set_register(relay, VCPU_REGS_RAX, 0);
	KUNIT_EXPECT_TRUE(test, keep(relay));
}

static void control_is_in_eax_in_32_bit_mode(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	int i;

	relay->is_64_bit = false;

	for (i = 0; i < NR_VCPU_GENERAL_PURPOSE_REGS; i++)
		set_register(relay, i, NESTED | POST);
	set_register(relay, VCPU_REGS_RAX, POISON);
	KUNIT_EXPECT_FALSE(test, keep(relay));

	set_register(relay, VCPU_REGS_RAX, (NESTED | POST) << 32);
	KUNIT_EXPECT_FALSE(test, keep(relay));

	set_call(relay, NESTED | POST, POISON);
	KUNIT_EXPECT_TRUE(test, keep(relay));
	set_register(relay, VCPU_REGS_RCX, 0);
	KUNIT_EXPECT_TRUE(test, keep(relay));
}

static const void *upper_half_gen_params(struct kunit *test, const void *prev, char *desc)
{
	unsigned long row = (unsigned long)prev;

	if (row == 33)
		return NULL;

	if (row < 32)
		snprintf(desc, KUNIT_PARAM_DESC_SIZE, "bit %lu", row + 32);
	else
		strscpy(desc, "all ones", KUNIT_PARAM_DESC_SIZE);
	return (void *)(row + 1);
}

static void upper_halves_do_not_count_in_32_bit_mode(struct kunit *test)
{
	unsigned long row = (unsigned long)test->param_value - 1;
	u64 garbage = row < 32 ? BIT_ULL(row + 32) : GENMASK_ULL(63, 32);
	struct relay_test *relay = test->priv;
	int i;

	relay->is_64_bit = false;

	set_call(relay, NESTED | SIGNAL, L2_GPA);
	for (i = 0; i < NR_VCPU_GENERAL_PURPOSE_REGS; i++)
		set_register(relay, i, (u32)relay->vcpu->arch.regs[i] | garbage);
	KUNIT_EXPECT_TRUE(test, keep(relay));

	set_call(relay, SIGNAL, L2_GPA);
	for (i = 0; i < NR_VCPU_GENERAL_PURPOSE_REGS; i++)
		set_register(relay, i, (u32)relay->vcpu->arch.regs[i] | garbage);
	KUNIT_EXPECT_FALSE(test, keep(relay));
}

/* KVM's own idea of the mode, without a stub. */
static void control_is_in_eax_without_long_mode(struct kunit *test)
{
	struct relay_test *relay = test->priv;

	kunit_deactivate_static_stub(test, kvm_hv_nested_relay_is_64_bit);
	relay->vcpu->arch.efer = 0;

	relay->is_64_bit = true;
	assert_reflected(test, NESTED | POST, L2_GPA);
	relay->is_64_bit = false;
	assert_relayed(test, NESTED | POST, L2_GPA, L1_GPA);
}

/* And of the interface. */
static void call_is_hyperv_without_xen_config(struct kunit *test)
{
	struct relay_test *relay = test->priv;

	kunit_deactivate_static_stub(test, kvm_hv_nested_relay_is_xen);
	relay->is_xen = true;
	assert_relayed(test, NESTED | POST, L2_GPA, L1_GPA);
}

static const struct relay_fate {
	const char *name;
	u64 control, input;
	gpa_t walk_result;
} fates[] = {
	{ "slow post",		NESTED | POST,		L2_GPA,		L1_GPA },
	{ "fast post",		NESTED | FAST | POST,	L2_GPA,		L1_GPA },
	{ "slow signal",	NESTED | SIGNAL,	L2_GPA,		L1_GPA },
	{ "fast signal",	NESTED | FAST | SIGNAL,	L2_GPA,		L1_GPA },
	{ "misaligned",		NESTED | POST,		L2_GPA + 1,	L1_GPA },
	{ "not mapped",		NESTED | POST,		L2_GPA,		INVALID_GPA },
	{ "reflected",		POST,			L2_GPA,		L1_GPA },
};

KUNIT_ARRAY_PARAM_DESC(fate, fates, name);

static void registers_do_not_change(struct kunit *test)
{
	const struct relay_fate *fate = test->param_value;
	struct relay_test *relay = test->priv;
	struct relay_result result;
	u64 *before;
	int i, j;

	before = kunit_kmalloc_array(test, NR_VCPU_GENERAL_PURPOSE_REGS, sizeof(*before),
				     GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, before);
	relay->walk_result = fate->walk_result;

	for (i = 0; i < 2; i++) {
		relay->is_64_bit = i;
		set_call(relay, fate->control, fate->input);
		for (j = 0; j < NR_VCPU_GENERAL_PURPOSE_REGS; j++)
			before[j] = relay->vcpu->arch.regs[j];

		result.control = fate->control;
		result.input = fate->input;
		keep(relay);
		begin(relay, &result.control, &result.input);

		for (j = 0; j < NR_VCPU_GENERAL_PURPOSE_REGS; j++)
			KUNIT_EXPECT_EQ_MSG(test, relay->vcpu->arch.regs[j], before[j],
					    "register %d", j);
	}
}

/* What becomes of a call that was kept. */

static void only_the_nested_bit_is_dropped(struct kunit *test)
{
	u64 control = GENMASK_ULL(63, 16) | SIGNAL;
	struct relay_result result;

	result = call(test->priv, control, L2_GPA);
	KUNIT_EXPECT_TRUE(test, result.kept);
	KUNIT_EXPECT_EQ(test, result.control, 0xffffffff7fff005dULL);
}

static void input_must_be_aligned_and_in_one_page(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	struct relay_test *relay = test->priv;
	u64 offset;

	for (offset = 0; offset < 4096; offset++) {
		relay->walks = 0;
		relay->walk_result = L1_GPA + offset;
		if (offset % 8 || offset + class->size > 4096) {
			assert_refused(test, NESTED | class->code, L2_GPA + offset,
				       HV_STATUS_INVALID_ALIGNMENT);
			KUNIT_ASSERT_EQ(test, relay->walks, 0);
		} else {
			assert_relayed(test, NESTED | class->code, L2_GPA + offset,
				       L1_GPA + offset);
			KUNIT_ASSERT_EQ(test, relay->walks, 1);
			KUNIT_ASSERT_EQ(test, relay->walked, L2_GPA + offset);
		}
	}
}

static const struct relay_edge {
	const char *name;
	u64 code;
	u64 offset;
	bool fits;
} edges[] = {
	{ "post at the page's start",		POST,	0x000,	true },
	{ "post, misaligned by 1",		POST,	0x001,	false },
	{ "post, misaligned by 4",		POST,	0x004,	false },
	{ "post, second that fits",		POST,	0x008,	true },
	{ "post, last that fits",		POST,	0xf00,	true },
	{ "post, first that crosses",		POST,	0xf08,	false },
	{ "post, one word in the page",		POST,	0xff8,	false },
	{ "post, one byte in the page",		POST,	0xfff,	false },
	{ "signal at the page's start",		SIGNAL,	0x000,	true },
	{ "signal, misaligned by 1",		SIGNAL,	0x001,	false },
	{ "signal, misaligned by 4",		SIGNAL,	0x004,	false },
	{ "signal, last but one that fits",	SIGNAL,	0xff0,	true },
	{ "signal, last that fits",		SIGNAL,	0xff8,	true },
	{ "signal, first that crosses",		SIGNAL,	0xff9,	false },
	{ "signal, half in the page",		SIGNAL,	0xffc,	false },
};

KUNIT_ARRAY_PARAM_DESC(edge, edges, name);

static void edge_of_the_page(struct kunit *test)
{
	const struct relay_edge *edge = test->param_value;
	struct relay_test *relay = test->priv;
	static const u64 pages[] = {
		0, PAGE_SIZE, L2_GPA, BIT_ULL(MAXPHYADDR) - PAGE_SIZE,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		relay->is_64_bit = i % 2;
		if (edge->fits)
			assert_relayed(test, NESTED | edge->code, pages[i] + edge->offset, L1_GPA);
		else
			assert_refused(test, NESTED | edge->code, pages[i] + edge->offset,
				       HV_STATUS_INVALID_ALIGNMENT);
	}
}

static void input_that_l1_does_not_map_is_invalid(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	struct relay_test *relay = test->priv;

	relay->walk_result = INVALID_GPA;
	assert_refused(test, NESTED | class->code, L2_GPA, HV_STATUS_INVALID_HYPERCALL_INPUT);
	KUNIT_EXPECT_EQ(test, relay->walks, 1);
}

/* Any other result of the walk is an address. */
static void input_may_be_anywhere_in_l1(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	struct relay_test *relay = test->priv;
	int bit;

	relay->walk_result = 0;
	assert_relayed(test, NESTED | class->code, L2_GPA, 0);
	for (bit = PAGE_SHIFT; bit < 52; bit++) {
		relay->walk_result = BIT_ULL(bit);
		assert_relayed(test, NESTED | class->code, L2_GPA, BIT_ULL(bit));
	}
}

static const void *gpa_bit_gen_params(struct kunit *test, const void *prev, char *desc)
{
	unsigned long bit = prev ? (unsigned long)prev + 1 : PAGE_SHIFT;

	if (bit == 64)
		return NULL;

	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "bit %lu of %d", bit, MAXPHYADDR);
	return (void *)bit;
}

static void input_above_maxphyaddr_is_invalid_and_not_walked(struct kunit *test)
{
	u64 bit = (unsigned long)test->param_value;
	struct relay_test *relay = test->priv;

	if (bit < MAXPHYADDR) {
		assert_relayed(test, NESTED | POST, BIT_ULL(bit), L1_GPA);
		KUNIT_EXPECT_EQ(test, relay->walks, 1);
	} else {
		assert_refused(test, NESTED | POST, BIT_ULL(bit),
			       HV_STATUS_INVALID_HYPERCALL_INPUT);
		assert_refused(test, NESTED | POST, L2_GPA | BIT_ULL(bit),
			       HV_STATUS_INVALID_HYPERCALL_INPUT);
		KUNIT_EXPECT_EQ(test, relay->walks, 0);
	}
}

static const struct relay_width {
	const char *name;
	int level;
	int bits;
} widths[] = {
	{ "2 levels",	PT32_ROOT_LEVEL,	32 },
	{ "3 levels",	PT32E_ROOT_LEVEL,	32 },
	{ "4 levels",	PT64_ROOT_4LEVEL,	48 },
	{ "5 levels",	PT64_ROOT_5LEVEL,	57 },
};

KUNIT_ARRAY_PARAM_DESC(width, widths, name);

/* The walk would take the address for another one. */
static void input_above_l1_page_tables_is_invalid_and_not_walked(struct kunit *test)
{
	const struct relay_width *width = test->param_value;
	struct relay_test *relay = test->priv;
	int bit;

	relay->vcpu->arch.reserved_gpa_bits = 0;
	relay->vcpu->arch.ngpa_walk.cpu_role.base.level = width->level;

	for (bit = PAGE_SHIFT; bit < 64; bit++) {
		relay->walks = 0;
		if (bit < width->bits)
			assert_relayed(test, NESTED | POST, BIT_ULL(bit), L1_GPA);
		else
			assert_refused(test, NESTED | POST, BIT_ULL(bit),
				       HV_STATUS_INVALID_HYPERCALL_INPUT);
		KUNIT_ASSERT_EQ(test, relay->walks, bit < width->bits);
	}
}

/* The input of a fast call is a value, whatever it looks like. */
static void fast_call_is_not_walked(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	static const u64 inputs[] = {
		0, 1, 0xfff, L2_GPA, L2_GPA + 1, BIT_ULL(MAXPHYADDR), BIT_ULL(63), ~0ULL,
	};
	struct relay_test *relay = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(inputs); i++)
		assert_relayed(test, NESTED | FAST | class->code, inputs[i], inputs[i]);
	KUNIT_EXPECT_EQ(test, relay->walks, 0);
}

/*
 * Without a stub, i.e. up to KVM's choice.  A walk would end up in vendor code,
 * which there is none of or which doesn't like this vCPU.
 */
static void call_without_nested_paging_is_not_walked(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	struct relay_test *relay = test->priv;

	kunit_deactivate_static_stub(test, kvm_hv_nested_relay_walk);
	relay->vcpu->arch.mmu = &relay->vcpu->arch.root_mmu;

	assert_relayed(test, NESTED | class->code, L2_GPA, L2_GPA);
	assert_relayed(test, NESTED | class->code, 0, 0);

	/* Page tables of no concern don't limit the address, MAXPHYADDR does. */
	relay->vcpu->arch.ngpa_walk.cpu_role.base.level = PT32_ROOT_LEVEL;
	assert_relayed(test, NESTED | class->code, BIT_ULL(MAXPHYADDR - 1),
		       BIT_ULL(MAXPHYADDR - 1));
	assert_refused(test, NESTED | class->code, BIT_ULL(MAXPHYADDR),
		       HV_STATUS_INVALID_HYPERCALL_INPUT);
	assert_refused(test, NESTED | class->code, L2_GPA + 4, HV_STATUS_INVALID_ALIGNMENT);
	assert_refused(test, NESTED | class->code, L2_GPA + 0xffc, HV_STATUS_INVALID_ALIGNMENT);
}

static void translation_is_not_stored(struct kunit *test)
{
	struct relay_test *relay = test->priv;

	assert_relayed(test, NESTED | POST, L2_GPA, L1_GPA);
	relay->walk_result = L1_GPA + PAGE_SIZE;
	assert_relayed(test, NESTED | POST, L2_GPA, L1_GPA + PAGE_SIZE);
	relay->walk_result = INVALID_GPA;
	assert_refused(test, NESTED | POST, L2_GPA, HV_STATUS_INVALID_HYPERCALL_INPUT);
	KUNIT_EXPECT_EQ(test, relay->walks, 3);
}

/* The decision. */

static void clear_mask(struct relay_test *relay)
{
	set_mask(relay, 0);
}

static void select_signal(struct relay_test *relay)
{
	set_mask(relay, MASK_SIGNAL);
}

static void clear_guest_os_id(struct relay_test *relay)
{
	set_guest_os_id(relay, 0);
}

static void disable_hyperv(struct relay_test *relay)
{
	relay->vcpu->arch.hyperv_enabled = false;
}

static void enable_xen(struct relay_test *relay)
{
	relay->is_xen = true;
}

static void withdraw_authorization(struct relay_test *relay)
{
	relay->authorized = false;
}

static const struct relay_change {
	const char *name;
	void (*change)(struct relay_test *relay);
} changes[] = {
	{ "mask cleared",		clear_mask },
	{ "other class selected",	select_signal },
	{ "guest OS id cleared",	clear_guest_os_id },
	{ "Hyper-V disabled",		disable_hyperv },
	{ "Xen enabled",		enable_xen },
};

KUNIT_ARRAY_PARAM_DESC(change, changes, name);

static void change_after_the_decision_to_keep_changes_nothing(struct kunit *test)
{
	const struct relay_change *param = test->param_value;
	u64 control = NESTED | POST, input = L2_GPA;
	struct relay_test *relay = test->priv;

	set_call(relay, control, input);
	KUNIT_ASSERT_TRUE(test, keep(relay));

	param->change(relay);
	KUNIT_EXPECT_TRUE(test, kvm_hv_nested_relay_kept(relay->vcpu));
	KUNIT_EXPECT_EQ(test, begin(relay, &control, &input), HV_STATUS_SUCCESS);
	KUNIT_EXPECT_EQ(test, control, POST);
	KUNIT_EXPECT_EQ(test, input, L1_GPA);
}

static void change_after_the_decision_to_reflect_changes_nothing(struct kunit *test)
{
	const struct relay_change *param = test->param_value;
	struct relay_test *relay = test->priv;

	param->change(relay);
	set_call(relay, NESTED | POST, L2_GPA);
	KUNIT_ASSERT_FALSE(test, keep(relay));

	set_mask(relay, MASK_ALL);
	set_guest_os_id(relay, 1);
	relay->vcpu->arch.hyperv_enabled = true;
	relay->is_xen = false;
	KUNIT_EXPECT_FALSE(test, kvm_hv_nested_relay_kept(relay->vcpu));
}

static void decision_is_consumed_once(struct kunit *test)
{
	const struct relay_fate *fate = test->param_value;
	u64 control = fate->control, input = fate->input;
	struct relay_test *relay = test->priv;

	/* The vCPU's first call, made by L1, has no decision to go by. */
	KUNIT_EXPECT_FALSE(test, kvm_hv_nested_relay_kept(relay->vcpu));

	relay->walk_result = fate->walk_result;
	set_call(relay, control, input);
	KUNIT_EXPECT_EQ(test, keep(relay), !!(control & NESTED));
	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_kept(relay->vcpu), !!(control & NESTED));
	begin(relay, &control, &input);

	/* Nor has the next one, made by L1 again. */
	KUNIT_EXPECT_FALSE(test, kvm_hv_nested_relay_kept(relay->vcpu));
}

/* No way leads there; it is the last line of defense. */
static void decision_outside_of_l2_is_denied_with_a_warning(struct kunit *test)
{
	u64 control = NESTED | POST, input = L2_GPA;
	struct relay_test *relay = test->priv;

	set_call(relay, control, input);
	KUNIT_ASSERT_TRUE(test, keep(relay));
	relay->vcpu->arch.hflags = 0;

	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, begin(relay, &control, &input),
				HV_STATUS_OPERATION_DENIED);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, control, NESTED | POST);
	KUNIT_EXPECT_EQ(test, input, L2_GPA);
	KUNIT_EXPECT_EQ(test, relay->walks, 0);
	KUNIT_EXPECT_FALSE(test, kvm_hv_nested_relay_kept(relay->vcpu));
}

static void stat_counts_kept_calls(struct kunit *test)
{
	const struct relay_fate *fate = test->param_value;
	struct relay_test *relay = test->priv;
	u64 before, kept = !!(fate->control & NESTED);
	int i;

	relay->walk_result = fate->walk_result;
	for (i = 0; i < 3; i++) {
		before = relay->vcpu->stat.nested_hv_hypercalls;
		call(relay, fate->control, fate->input);
		KUNIT_EXPECT_EQ(test, relay->vcpu->stat.nested_hv_hypercalls, before + kept);
	}
}

/* The tracepoint. */

static void probe(void *data, u32 control, u64 l2_input, u64 l1_gpa, u32 verdict)
{
	struct relay_test *relay = data;

	/* There may be VMs in use. */
	if (current != relay->task)
		return;

	relay->events++;
	relay->event = (struct relay_event) { control, l2_input, l1_gpa, verdict };
}

static void find_tracepoint(struct tracepoint *tracepoint, void *priv)
{
	struct relay_test *relay = priv;

	if (!strcmp(tracepoint->name, "kvm_hv_nested_relay"))
		relay->tracepoint = tracepoint;
}

static void remove_probe(void *priv)
{
	struct relay_test *relay = priv;

	tracepoint_probe_unregister(relay->tracepoint, probe, relay);
	tracepoint_synchronize_unregister();
}

static void add_probe(struct kunit *test)
{
	struct relay_test *relay = test->priv;

	if (!IS_ENABLED(CONFIG_TRACEPOINTS))
		kunit_skip(test, "needs CONFIG_TRACEPOINTS");

	relay->task = current;
	for_each_kernel_tracepoint(find_tracepoint, relay);
	if (!relay->tracepoint)
		kunit_skip(test, "needs KVM built in");

	KUNIT_ASSERT_EQ(test, tracepoint_probe_register(relay->tracepoint, probe, relay), 0);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, remove_probe, relay), 0);
}

static void set_cpl_3(struct relay_test *relay)
{
	relay->cpl = 3;
}

static void set_real_mode(struct relay_test *relay)
{
	set_protmode(relay, false);
}

static void unmap(struct relay_test *relay)
{
	relay->walk_result = INVALID_GPA;
}

static void no_change(struct relay_test *relay)
{
}

static const struct relay_verdict {
	const char *name;
	void (*change)(struct relay_test *relay);
	u64 control, input;
	struct relay_event event;
} verdicts[] = {
	{ "slow call kept", no_change, NESTED | POST, L2_GPA,
	  { NESTED | POST, L2_GPA, L1_GPA, KVM_HV_RELAY_KEPT } },
	{ "fast call kept", no_change, NESTED | FAST | POST, L2_GPA,
	  { NESTED | FAST | POST, L2_GPA, INVALID_GPA, KVM_HV_RELAY_KEPT } },
	{ "misaligned", no_change, NESTED | POST, L2_GPA + 1,
	  { NESTED | POST, L2_GPA + 1, INVALID_GPA, KVM_HV_RELAY_BAD_ALIGNMENT } },
	{ "not mapped", unmap, NESTED | POST, L2_GPA,
	  { NESTED | POST, L2_GPA, INVALID_GPA, KVM_HV_RELAY_NOT_MAPPED } },
	{ "above MAXPHYADDR", no_change, NESTED | POST, BIT_ULL(MAXPHYADDR),
	  { NESTED | POST, BIT_ULL(MAXPHYADDR), INVALID_GPA, KVM_HV_RELAY_NOT_MAPPED } },
	{ "no nested bit", no_change, POST, L2_GPA,
	  { POST, L2_GPA, INVALID_GPA, KVM_HV_RELAY_NO_NESTED_BIT } },
	{ "other class selected", select_signal, NESTED | POST, L2_GPA,
	  { NESTED | POST, L2_GPA, INVALID_GPA, KVM_HV_RELAY_NOT_SELECTED } },
	{ "another code", no_change, NESTED | 0x5e, L2_GPA,
	  { NESTED | 0x5e, L2_GPA, INVALID_GPA, KVM_HV_RELAY_NOT_SELECTED } },
	{ "not authorized", withdraw_authorization, NESTED | POST, L2_GPA,
	  { NESTED | POST, L2_GPA, INVALID_GPA, KVM_HV_RELAY_NOT_AUTHORIZED } },
	{ "no guest OS id", clear_guest_os_id, NESTED | POST, L2_GPA,
	  { NESTED | POST, L2_GPA, INVALID_GPA, KVM_HV_RELAY_NOT_HYPERV } },
	{ "no Hyper-V", disable_hyperv, NESTED | POST, L2_GPA,
	  { NESTED | POST, L2_GPA, INVALID_GPA, KVM_HV_RELAY_NOT_HYPERV } },
	{ "Xen", enable_xen, NESTED | POST, L2_GPA,
	  { NESTED | POST, L2_GPA, INVALID_GPA, KVM_HV_RELAY_NOT_HYPERV } },
	{ "CPL 3", set_cpl_3, NESTED | POST, L2_GPA,
	  { NESTED | POST, L2_GPA, INVALID_GPA, KVM_HV_RELAY_BAD_MODE } },
	{ "real mode", set_real_mode, NESTED | POST, L2_GPA,
	  { NESTED | POST, L2_GPA, INVALID_GPA, KVM_HV_RELAY_BAD_MODE } },
};

KUNIT_ARRAY_PARAM_DESC(verdict, verdicts, name);

static void every_decision_is_traced_once(struct kunit *test)
{
	const struct relay_verdict *param = test->param_value;
	struct relay_test *relay = test->priv;
	int i;

	add_probe(test);
	param->change(relay);

	/* A 32-bit host has no 64-bit L2, and no registers for its input. */
	for (i = 0; i <= IS_ENABLED(CONFIG_X86_64); i++) {
		relay->is_64_bit = i;
		relay->events = 0;
		call(relay, param->control, param->input);
		KUNIT_ASSERT_EQ(test, relay->events, 1);
		KUNIT_EXPECT_EQ(test, relay->event.control, param->event.control);
		KUNIT_EXPECT_EQ(test, relay->event.l2_input, param->event.l2_input);
		KUNIT_EXPECT_EQ(test, relay->event.l1_gpa, param->event.l1_gpa);
		KUNIT_EXPECT_EQ(test, relay->event.verdict, param->event.verdict);
	}
}

/* EBX:ECX of a call that goes to L1, which KVM reads for the tracepoint only. */
static void traced_input_is_that_of_the_mode(struct kunit *test)
{
	struct relay_test *relay = test->priv;

	add_probe(test);
	relay->authorized = false;

	relay->is_64_bit = false;
	set_call(relay, NESTED | POST, POISON);
	set_register(relay, VCPU_REGS_RBX, 0xffffffff01234567ULL);
	set_register(relay, VCPU_REGS_RCX, 0xffffffff89abcdefULL);
	KUNIT_EXPECT_FALSE(test, keep(relay));
	KUNIT_EXPECT_EQ(test, relay->event.l2_input, 0x0123456789abcdefULL);

	if (!IS_ENABLED(CONFIG_X86_64))
		return;

	relay->is_64_bit = true;
	set_call(relay, NESTED | POST, 0xfedcba9876543210ULL);
	KUNIT_EXPECT_FALSE(test, keep(relay));
	KUNIT_EXPECT_EQ(test, relay->event.l2_input, 0xfedcba9876543210ULL);
}

static void nothing_is_traced_with_the_relay_off(struct kunit *test)
{
	struct relay_test *relay = test->priv;

	add_probe(test);
	set_mask(relay, 0);
	assert_reflected(test, NESTED | POST, L2_GPA);
	KUNIT_EXPECT_EQ(test, relay->events, 0);
}

/* L0 keeps it, but for reasons that aren't the relay's. */
static void flush_of_l2_is_not_traced(struct kunit *test)
{
	struct relay_test *relay = test->priv;

	add_probe(test);
	to_hv_vcpu(relay->vcpu)->cpuid_cache.nested_eax = BIT(17);
	set_call(relay, HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE, L2_GPA);
	KUNIT_EXPECT_TRUE(test, keep(relay));
	KUNIT_EXPECT_FALSE(test, kvm_hv_nested_relay_kept(relay->vcpu));
	KUNIT_EXPECT_EQ(test, relay->events, 0);

	/* Without L1's consent it is a call like any other. */
	relay->authorized = false;
	KUNIT_EXPECT_FALSE(test, keep(relay));
	KUNIT_EXPECT_EQ(test, relay->events, 1);
}

/* The capability. */

static int enable(struct relay_test *relay, u64 mask)
{
	struct kvm_enable_cap cap = { .args[0] = mask };

	return kvm_hv_nested_relay_enable(relay->kvm, &cap);
}

static void all_classes_are_reported_with_nested(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_supported(), 3);
}

static void nothing_is_reported_without_nested(struct kunit *test)
{
	struct relay_test *relay = test->priv;

	relay->nested = false;
	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_supported(), 0);
}

/* Without a stub: what it is depends on the host. */
static void report_follows_the_host(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	bool nested;

	kunit_deactivate_static_stub(test, kvm_hv_nested_relay_is_nested_enabled);
	nested = kvm_hv_nested_relay_is_nested_enabled();
	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_supported(), nested ? 3 : 0);
	KUNIT_EXPECT_EQ(test, enable(relay, MASK_ALL), nested ? 0 : -EINVAL);
}

static void mask_replaces_the_previous_one(struct kunit *test)
{
	const struct relay_mask *param = test->param_value;
	struct relay_test *relay = test->priv;
	u32 previous;

	for (previous = 0; previous <= MASK_ALL; previous++) {
		KUNIT_ASSERT_EQ(test, enable(relay, previous), 0);
		KUNIT_ASSERT_EQ(test, get_mask(relay), previous);
		KUNIT_EXPECT_EQ(test, enable(relay, param->mask), 0);
		KUNIT_EXPECT_EQ(test, get_mask(relay), param->mask);
	}
}

static void clearing_the_mask_turns_the_relay_off(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	struct relay_test *relay = test->priv;

	KUNIT_ASSERT_EQ(test, enable(relay, class->mask), 0);
	assert_relayed(test, NESTED | class->code, L2_GPA, L1_GPA);
	KUNIT_ASSERT_EQ(test, enable(relay, 0), 0);
	assert_reflected(test, NESTED | class->code, L2_GPA);
	KUNIT_EXPECT_FALSE(test, kvm_hv_nested_relay_enabled(relay->vcpu));
	KUNIT_ASSERT_EQ(test, enable(relay, class->mask), 0);
	assert_relayed(test, NESTED | class->code, L2_GPA, L1_GPA);
}

/* The capability of another VM is of no concern. */
static void mask_is_per_vm(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	struct kvm *kvm = relay->kvm;

	set_mask(relay, 0);
	relay->kvm = kunit_kzalloc(test, sizeof(*kvm), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, relay->kvm);
	KUNIT_EXPECT_EQ(test, enable(relay, MASK_ALL), 0);
	relay->kvm = kvm;
	KUNIT_EXPECT_EQ(test, get_mask(relay), 0);
	assert_reflected(test, NESTED | POST, L2_GPA);
}

static void expect_invalid(struct kunit *test, const struct kvm_enable_cap *cap)
{
	struct relay_test *relay = test->priv;
	struct kvm_enable_cap copy;
	u32 previous;

	for (previous = 0; previous <= MASK_ALL; previous++) {
		set_mask(relay, previous);
		copy = *cap;
		KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_enable(relay->kvm, &copy), -EINVAL);
		KUNIT_EXPECT_EQ(test, get_mask(relay), previous);
	}
}

static const void *unknown_bit_gen_params(struct kunit *test, const void *prev, char *desc)
{
	unsigned long bit = prev ? (unsigned long)prev + 1 : 2;

	if (bit == 64)
		return NULL;

	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "bit %lu", bit);
	return (void *)bit;
}

static void unknown_bit_is_invalid(struct kunit *test)
{
	struct kvm_enable_cap cap = {};
	u64 mask;

	for (mask = 0; mask <= MASK_ALL; mask++) {
		cap.args[0] = mask | BIT_ULL((unsigned long)test->param_value);
		expect_invalid(test, &cap);
	}
}

static const void *flag_gen_params(struct kunit *test, const void *prev, char *desc)
{
	unsigned long row = (unsigned long)prev;

	if (row == 32)
		return NULL;

	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "bit %lu", row);
	return (void *)(row + 1);
}

static void flag_is_invalid(struct kunit *test)
{
	struct kvm_enable_cap cap = {
		.flags = BIT((unsigned long)test->param_value - 1),
	};

	for (cap.args[0] = 0; cap.args[0] <= MASK_ALL; cap.args[0]++)
		expect_invalid(test, &cap);
}

static const void *extra_arg_gen_params(struct kunit *test, const void *prev, char *desc)
{
	unsigned long arg = prev ? (unsigned long)prev + 1 : 1;

	if (arg == ARRAY_SIZE(((struct kvm_enable_cap *)NULL)->args))
		return NULL;

	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "args[%lu]", arg);
	return (void *)arg;
}

static void extra_argument_is_invalid(struct kunit *test)
{
	unsigned long arg = (unsigned long)test->param_value;
	struct kvm_enable_cap cap = {};
	int bit;

	for (bit = 0; bit < 64; bit++) {
		cap.args[arg] = BIT_ULL(bit);
		for (cap.args[0] = 0; cap.args[0] <= MASK_ALL; cap.args[0]++)
			expect_invalid(test, &cap);
	}
}

static void only_turning_off_is_valid_without_nested(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	struct kvm_enable_cap cap = {};

	relay->nested = false;
	for (cap.args[0] = 1; cap.args[0] <= MASK_ALL; cap.args[0]++)
		expect_invalid(test, &cap);

	KUNIT_EXPECT_EQ(test, enable(relay, 0), 0);
	KUNIT_EXPECT_EQ(test, get_mask(relay), 0);
}

static struct kunit_case relay_test_cases[] = {
	KUNIT_CASE_PARAM(post_and_signal_are_relayed, class_gen_params),
	KUNIT_CASE_PARAM(control_bit_on_top_of_a_valid_call, control_bit_gen_params),
	KUNIT_CASE_PARAM(call_without_nested_bit_is_reflected, class_gen_params),
	KUNIT_CASE_PARAM_ATTR(only_selected_codes_are_relayed, mask_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE_PARAM(relay_is_enabled_by_any_class, mask_gen_params),
	KUNIT_CASE_PARAM(call_that_l1_did_not_authorize_is_reflected, class_gen_params),
	KUNIT_CASE_PARAM(mode_and_cpl, mode_gen_params),
	KUNIT_CASE_PARAM(call_must_be_one_that_is_hyperv_to_kvm, interface_gen_params),
	KUNIT_CASE(vcpu_without_hyperv_state_keeps_nothing),
	KUNIT_CASE_PARAM(all_gates_must_be_open, class_gen_params),
	KUNIT_CASE_PARAM(l0_wants_flushes_and_relayed_calls, hcall_gen_params),

	KUNIT_CASE(control_is_in_rcx_in_64_bit_mode),
	KUNIT_CASE(control_is_in_eax_in_32_bit_mode),
	KUNIT_CASE_PARAM(upper_halves_do_not_count_in_32_bit_mode, upper_half_gen_params),
	KUNIT_CASE(control_is_in_eax_without_long_mode),
	KUNIT_CASE(call_is_hyperv_without_xen_config),
	KUNIT_CASE_PARAM(registers_do_not_change, fate_gen_params),

	KUNIT_CASE(only_the_nested_bit_is_dropped),
	KUNIT_CASE_PARAM(input_must_be_aligned_and_in_one_page, class_gen_params),
	KUNIT_CASE_PARAM(edge_of_the_page, edge_gen_params),
	KUNIT_CASE_PARAM(input_that_l1_does_not_map_is_invalid, class_gen_params),
	KUNIT_CASE_PARAM(input_may_be_anywhere_in_l1, class_gen_params),
	KUNIT_CASE_PARAM(input_above_maxphyaddr_is_invalid_and_not_walked, gpa_bit_gen_params),
	KUNIT_CASE_PARAM(input_above_l1_page_tables_is_invalid_and_not_walked, width_gen_params),
	KUNIT_CASE_PARAM(fast_call_is_not_walked, class_gen_params),
	KUNIT_CASE_PARAM(call_without_nested_paging_is_not_walked, class_gen_params),
	KUNIT_CASE(translation_is_not_stored),

	KUNIT_CASE_PARAM(change_after_the_decision_to_keep_changes_nothing, change_gen_params),
	KUNIT_CASE_PARAM(change_after_the_decision_to_reflect_changes_nothing, change_gen_params),
	KUNIT_CASE_PARAM(decision_is_consumed_once, fate_gen_params),
	KUNIT_CASE(decision_outside_of_l2_is_denied_with_a_warning),
	KUNIT_CASE_PARAM(stat_counts_kept_calls, fate_gen_params),

	KUNIT_CASE_PARAM(every_decision_is_traced_once, verdict_gen_params),
	KUNIT_CASE(traced_input_is_that_of_the_mode),
	KUNIT_CASE(nothing_is_traced_with_the_relay_off),
	KUNIT_CASE(flush_of_l2_is_not_traced),

	KUNIT_CASE(all_classes_are_reported_with_nested),
	KUNIT_CASE(nothing_is_reported_without_nested),
	KUNIT_CASE(report_follows_the_host),
	KUNIT_CASE_PARAM(mask_replaces_the_previous_one, mask_gen_params),
	KUNIT_CASE_PARAM(clearing_the_mask_turns_the_relay_off, class_gen_params),
	KUNIT_CASE(mask_is_per_vm),
	KUNIT_CASE_PARAM(unknown_bit_is_invalid, unknown_bit_gen_params),
	KUNIT_CASE_PARAM(flag_is_invalid, flag_gen_params),
	KUNIT_CASE_PARAM(extra_argument_is_invalid, extra_arg_gen_params),
	KUNIT_CASE(only_turning_off_is_valid_without_nested),
	{}
};

static struct kunit_suite relay_test_suite = {
	.name = "kvm_hv_nested_relay",
	.init = relay_test_init,
	.test_cases = relay_test_cases,
};

kunit_test_suite(relay_test_suite);

MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
MODULE_DESCRIPTION("KUnit tests of KVM's relay of nested Hyper-V hypercalls");
MODULE_LICENSE("GPL");
