// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of KVM's relay of nested Hyper-V hypercalls.
 *
 * The rules are those of KVM_CAP_NESTED_HYPERV_HCALL_RELAY, see
 * Documentation/virt/kvm/api.rst.  The functions under test are KVM's own, on
 * plain values or on a vCPU that exists in memory only.  What needs vendor code,
 * i.e. how KVM gets at L2's mode and at L1's page tables, is left to selftests.
 */
#include <kunit/static_stub.h>
#include <kunit/test.h>

#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/kvm_host.h>
#include <linux/tracepoint.h>

#include "hyperv_nested_relay.h"
#include "kvm_emulate.h"

/*
 * The call as Hyper-V's specification has it, and the mask as userspace knows
 * it: in numbers, for the tests not to share a mistake with KVM.
 */
#define POST		0x5cULL
#define SIGNAL		0x5dULL
#define FLUSH		0x02ULL
#define FAST		BIT_ULL(16)
#define NESTED		BIT_ULL(31)

#define STATUS_SUCCESS	0
#define STATUS_CODE	2
#define STATUS_ALIGN	4

#define MASK_POST	BIT(0)
#define MASK_SIGNAL	BIT(1)
#define MASK_INTER	BIT(8)
#define MASK_ONE_L2	BIT(9)
#define MASK_VALID	(MASK_POST | MASK_SIGNAL | MASK_INTER | MASK_ONE_L2)

/* CPUID 0x4000000a.EAX: L0 may handle L2's TLB flushes. */
#define DIRECT_FLUSH	BIT(17)

/* The exit qualification's word on the linear address of the access. */
#define GVA_BITS	(BIT_ULL(7) | BIT_ULL(8))

/* A page of L2, and where L1's nested page tables have it. */
#define L2_GPA		0x0000001234567000ULL
#define L1_GPA		0x00000000089ab000ULL
#define MAXPHYADDR	40

#define VM_ID		0x0123456789abcdefULL

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
	u64 l2_input, l1_gpa, vm_id;
	u32 control, verdict;
	bool inter_partition;
};

struct relay_test {
	struct kvm *kvm;
	struct kvm_vcpu *vcpu;

	/* The mode in which L2 is, as far as hypercalls go. */
	bool is_64_bit;

	/* What a nested walk comes to, its fault if that is INVALID_GPA. */
	gpa_t walk_result;
	struct x86_exception fault;

	/* The nested walks so far, and the address of the last one. */
	int walks;
	gpa_t walked;

	/* What L1 got in place of calls so far, and the last of it. */
	int injections;
	struct x86_exception injected;
	bool from_hardware;

	struct tracepoint *tracepoint;
	struct task_struct *task;
	struct relay_event event;
	int events;
};

/* What became of a call. */
struct relay_result {
	bool made;
	u64 status;
	u64 control;
	u64 input;
};

static gpa_t fake_walk(struct kvm_vcpu *vcpu, gpa_t l2_gpa, struct x86_exception *fault)
{
	struct relay_test *relay = kunit_get_current_test()->priv;

	relay->walks++;
	relay->walked = l2_gpa;
	if (relay->walk_result == INVALID_GPA)
		*fault = relay->fault;
	return relay->walk_result;
}

static void fake_inject(struct kvm_vcpu *vcpu, struct x86_exception *fault, bool from_hardware)
{
	struct relay_test *relay = kunit_get_current_test()->priv;

	relay->injections++;
	relay->injected = *fault;
	relay->from_hardware = from_hardware;
}

static struct kvm_hv_nested_relay_config *config_of(struct kvm *kvm)
{
	return &to_kvm_hv(kvm)->nested_relay;
}

static void set_config(struct relay_test *relay, u32 mask, u64 vm_id)
{
	*config_of(relay->kvm) = (struct kvm_hv_nested_relay_config) { mask, vm_id };
}

/* Bit 0 of the VP assist page's hypercall controls, the others are reserved. */
static void set_hypercall_controls(struct relay_test *relay, u32 controls)
{
	memcpy(&to_hv_vcpu(relay->vcpu)->vp_assist_page.nested_control.hypercall_controls,
	       &controls, sizeof(controls));
}

static void set_64_bit(struct relay_test *relay, bool is_64_bit)
{
	relay->is_64_bit = is_64_bit;
	/* Either way, KVM doesn't ask vendor code for CS.L: EFER.LMA is clear. */
	relay->vcpu->arch.guest_state_protected = is_64_bit;
}

static void set_register(struct relay_test *relay, int reg, u64 value)
{
	relay->vcpu->arch.regs[reg] = value;
}

static void set_registers(struct relay_test *relay, u64 value)
{
	int i;

	for (i = 0; i < NR_VCPU_GENERAL_PURPOSE_REGS; i++)
		set_register(relay, i, value);
}

/* Make the call that of the vCPU, all other registers hold no call. */
static void set_call(struct relay_test *relay, u64 control, u64 input)
{
	set_registers(relay, POISON);

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

/* As kvm_hv_hypercall() does with a call of L2 that L0 wanted. */
static struct relay_result begin(struct relay_test *relay, u64 control, u64 input)
{
	struct relay_result result = {
		.control = control, .input = input, .status = STATUS_SUCCESS,
	};

	result.made = kvm_hv_nested_relay_begin(relay->vcpu, &result.control,
						&result.input, &result.status);
	return result;
}

/* Assertions rather than expectations, as there are loops of thousands of calls. */
static void assert_relayed(struct kunit *test, u64 control, u64 input, u64 l1_input)
{
	struct relay_test *relay = test->priv;
	u64 counted = relay->vcpu->stat.nested_hv_relayed_hcalls;
	int walks = relay->walks, injections = relay->injections;
	struct relay_result result = begin(relay, control, input);

	KUNIT_ASSERT_TRUE_MSG(test, result.made, "control 0x%llx input 0x%llx", control, input);
	KUNIT_ASSERT_EQ_MSG(test, result.status, STATUS_SUCCESS,
			    "control 0x%llx input 0x%llx", control, input);
	KUNIT_ASSERT_EQ_MSG(test, result.control, control & ~NESTED,
			    "control 0x%llx input 0x%llx", control, input);
	KUNIT_ASSERT_EQ_MSG(test, result.input, l1_input,
			    "control 0x%llx input 0x%llx", control, input);
	KUNIT_ASSERT_EQ(test, relay->walks, walks + !(control & FAST));
	if (!(control & FAST))
		KUNIT_ASSERT_EQ(test, relay->walked, input);
	KUNIT_ASSERT_EQ(test, relay->injections, injections);
	KUNIT_ASSERT_EQ(test, relay->vcpu->stat.nested_hv_relayed_hcalls, counted + 1);
}

/* The call is KVM's to complete, with a status. */
static void assert_refused(struct kunit *test, u64 control, u64 input, u64 status)
{
	struct relay_test *relay = test->priv;
	u64 counted = relay->vcpu->stat.nested_hv_relayed_hcalls;
	int walks = relay->walks, injections = relay->injections;
	struct relay_result result = begin(relay, control, input);

	KUNIT_ASSERT_TRUE_MSG(test, result.made, "control 0x%llx input 0x%llx", control, input);
	KUNIT_ASSERT_EQ_MSG(test, result.status, status,
			    "control 0x%llx input 0x%llx", control, input);
	/* An L2 GPA isn't anything that the VMM could make use of. */
	KUNIT_ASSERT_EQ_MSG(test, result.input, INVALID_GPA,
			    "control 0x%llx input 0x%llx", control, input);
	KUNIT_ASSERT_EQ(test, relay->walks, walks);
	KUNIT_ASSERT_EQ(test, relay->injections, injections);
	KUNIT_ASSERT_EQ(test, relay->vcpu->stat.nested_hv_relayed_hcalls, counted + 1);
}

/* There is no call, or not yet: L1 gets the walk's fault. */
static void assert_intercepted(struct kunit *test, u64 control, u64 input)
{
	struct relay_test *relay = test->priv;
	u64 counted = relay->vcpu->stat.nested_hv_relayed_hcalls;
	int walks = relay->walks, injections = relay->injections;
	struct relay_result result = begin(relay, control, input);

	KUNIT_ASSERT_FALSE(test, result.made);
	KUNIT_ASSERT_EQ(test, result.input, INVALID_GPA);
	KUNIT_ASSERT_EQ(test, relay->walks, walks + 1);
	KUNIT_ASSERT_EQ(test, relay->walked, input);
	KUNIT_ASSERT_EQ(test, relay->injections, injections + 1);
	KUNIT_ASSERT_EQ(test, relay->vcpu->stat.nested_hv_relayed_hcalls, counted);

	KUNIT_ASSERT_EQ(test, relay->injected.vector, relay->fault.vector);
	KUNIT_ASSERT_EQ(test, relay->injected.error_code_valid, relay->fault.error_code_valid);
	KUNIT_ASSERT_EQ(test, relay->injected.error_code, relay->fault.error_code);
	KUNIT_ASSERT_EQ(test, relay->injected.nested_page_fault,
			relay->fault.nested_page_fault);
	KUNIT_ASSERT_EQ(test, relay->injected.address, relay->fault.address);
	KUNIT_ASSERT_EQ(test, relay->injected.exit_qualification,
			relay->fault.exit_qualification & ~(unsigned long)GVA_BITS);
	/* What hardware reports is the hypercall, not its input. */
	KUNIT_ASSERT_FALSE(test, relay->from_hardware);
}

static struct kvm *create_vm(struct kunit *test)
{
	struct kvm *kvm = kunit_kzalloc(test, sizeof(*kvm), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, kvm);
	mutex_init(&to_kvm_hv(kvm)->hv_lock);
	seqcount_mutex_init(&to_kvm_hv(kvm)->nested_relay_seq, &to_kvm_hv(kvm)->hv_lock);
	return kvm;
}

/* A vCPU in L2 of a VM that relays each class of calls. */
static int relay_test_init(struct kunit *test)
{
	struct kvm_vcpu_hv *hv_vcpu;
	struct relay_test *relay;
	struct kvm_vcpu *vcpu;

	relay = kunit_kzalloc(test, sizeof(*relay), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, relay);
	vcpu = kunit_kzalloc(test, sizeof(*vcpu), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vcpu);
	hv_vcpu = kunit_kzalloc(test, sizeof(*hv_vcpu), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, hv_vcpu);

	relay->kvm = create_vm(test);
	relay->vcpu = vcpu;
	relay->walk_result = L1_GPA;
	relay->fault = (struct x86_exception) {
		.vector = PF_VECTOR,
		.error_code_valid = true,
		.error_code = BIT(2),
		.nested_page_fault = true,
		.address = L2_GPA,
		.exit_qualification = BIT(0) | GVA_BITS,
	};

	vcpu->kvm = relay->kvm;
	vcpu->arch.hflags = HF_GUEST_MASK;
	vcpu->arch.mmu = &vcpu->arch.guest_mmu;
	vcpu->arch.ngpa_walk.cpu_role.base.level = 4;
	vcpu->arch.ngpa_walk.inject_page_fault = fake_inject;
	vcpu->arch.reserved_gpa_bits = GENMASK_ULL(63, MAXPHYADDR);
	vcpu->arch.hyperv_enabled = true;
	vcpu->arch.hyperv = hv_vcpu;
	hv_vcpu->vcpu = vcpu;
	hv_vcpu->nested.vm_id = VM_ID;

	set_64_bit(relay, IS_ENABLED(CONFIG_X86_64));
	set_config(relay, MASK_POST | MASK_SIGNAL, 0);
	to_kvm_hv(relay->kvm)->hv_guest_os_id = 1;

	test->priv = relay;
	kunit_activate_static_stub(test, kvm_hv_nested_relay_walk, fake_walk);
	return 0;
}

static void class_desc(const struct relay_class *class, char *desc)
{
	strscpy(desc, class->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(class, classes, class_desc);

/* The 16 masks that there are, by number. */
static u32 nth_mask(unsigned int n)
{
	return (n & 3) | (n & 0xc) << 6;
}

/* Which calls are selected. */

static const struct relay_mask {
	const char *name;
	u32 mask;
} masks[] = {
	{ "none",				0 },
	{ "post",				MASK_POST },
	{ "signal",				MASK_SIGNAL },
	{ "both",				MASK_POST | MASK_SIGNAL },
	{ "inter-partition",			MASK_INTER },
	{ "one L2",				MASK_ONE_L2 },
	{ "inter-partition, one L2",		MASK_INTER | MASK_ONE_L2 },
	{ "post, inter-partition",		MASK_POST | MASK_INTER },
	{ "signal, one L2",			MASK_SIGNAL | MASK_ONE_L2 },
	{ "all",				MASK_VALID },
	{ "each bit but post",			(u32)~MASK_POST },
	{ "each bit but signal",		(u32)~MASK_SIGNAL },
	{ "each bit but both",			(u32)~(MASK_POST | MASK_SIGNAL) },
};

KUNIT_ARRAY_PARAM_DESC(mask, masks, name);

static void only_selected_codes_are_relayed(struct kunit *test)
{
	const struct relay_mask *param = test->param_value;
	u32 code, mask = param->mask;
	bool selected;

	for (code = 0; code <= 0xffff; code++) {
		selected = (code == POST && (mask & MASK_POST)) ||
			   (code == SIGNAL && (mask & MASK_SIGNAL));

		KUNIT_ASSERT_EQ_MSG(test, kvm_hv_nested_relay_select(NESTED | code, mask, true),
				    selected ? KVM_HV_RELAY_KEPT : KVM_HV_RELAY_NOT_SELECTED,
				    "code 0x%x", code);
		KUNIT_ASSERT_EQ_MSG(test, kvm_hv_nested_relay_select(NESTED | code, mask, false),
				    selected ? KVM_HV_RELAY_NOT_AUTHORIZED :
					       KVM_HV_RELAY_NOT_SELECTED,
				    "code 0x%x", code);
		KUNIT_ASSERT_EQ_MSG(test, kvm_hv_nested_relay_select(code, mask, true),
				    KVM_HV_RELAY_NO_NESTED_BIT, "code 0x%x", code);
	}
}

/* All bits but those of the code are the business of kvm_hv_hypercall(). */
static void control_bit_on_top_of_a_selected_call(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	u32 control;
	int bit;

	for (bit = 0; bit < 32; bit++) {
		control = NESTED | class->code | BIT(bit);
		KUNIT_EXPECT_EQ_MSG(test, kvm_hv_nested_relay_select(control, class->mask, true),
				    bit < 16 && !(class->code & BIT(bit)) ?
				    KVM_HV_RELAY_NOT_SELECTED : KVM_HV_RELAY_KEPT,
				    "bit %d", bit);
	}

	control = GENMASK(31, 16) | class->code;
	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_select(control, class->mask, true),
			KVM_HV_RELAY_KEPT);
}

static void call_without_nested_bit_is_reflected(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	u32 control;
	int bit;

	for (bit = 0; bit < 31; bit++) {
		control = class->code | BIT(bit);
		KUNIT_EXPECT_EQ_MSG(test, kvm_hv_nested_relay_select(control, MASK_VALID, true),
				    KVM_HV_RELAY_NO_NESTED_BIT, "bit %d", bit);
	}

	control = GENMASK(30, 16) | class->code;
	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_select(control, MASK_VALID, true),
			KVM_HV_RELAY_NO_NESTED_BIT);
}

static const struct relay_selection {
	const char *name;
	u32 control, mask;
	bool direct;
	u32 verdict;
} selections[] = {
	{ "all is well",		NESTED | POST,	MASK_POST,	true,
	  KVM_HV_RELAY_KEPT },
	{ "not authorized",		NESTED | POST,	MASK_POST,	false,
	  KVM_HV_RELAY_NOT_AUTHORIZED },
	{ "not selected",		NESTED | POST,	MASK_SIGNAL,	true,
	  KVM_HV_RELAY_NOT_SELECTED },
	{ "not selected, nor authorized", NESTED | POST, MASK_SIGNAL,	false,
	  KVM_HV_RELAY_NOT_SELECTED },
	{ "no class, not authorized",	NESTED | FLUSH,	MASK_VALID,	false,
	  KVM_HV_RELAY_NOT_SELECTED },
	{ "no nested bit",		POST,		MASK_POST,	true,
	  KVM_HV_RELAY_NO_NESTED_BIT },
	{ "no nested bit, not authorized", POST,	MASK_POST,	false,
	  KVM_HV_RELAY_NO_NESTED_BIT },
	{ "no nested bit, not selected", POST,		MASK_SIGNAL,	true,
	  KVM_HV_RELAY_NO_NESTED_BIT },
	{ "nothing",			FLUSH,		0,		false,
	  KVM_HV_RELAY_NO_NESTED_BIT },
};

KUNIT_ARRAY_PARAM_DESC(selection, selections, name);

static void first_objection_to_the_call_is_the_verdict(struct kunit *test)
{
	const struct relay_selection *param = test->param_value;

	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_select(param->control, param->mask,
							 param->direct), param->verdict);
}

/* Whose calls are served. */

#define L2_SERVED	{ VM_ID, true, true, true, true }

static const struct relay_gate {
	const char *name;
	u32 mask;
	struct kvm_hv_nested_relay_l2 l2;
	bool fast;
	u32 verdict;
} gates[] = {
	{ "slow",		MASK_POST,		L2_SERVED, false, KVM_HV_RELAY_KEPT },
	{ "fast",		MASK_POST,		L2_SERVED, true,  KVM_HV_RELAY_KEPT },
	{ "all asked for",	MASK_VALID,		L2_SERVED, false, KVM_HV_RELAY_KEPT },
	{ "no inter-partition",	MASK_POST | MASK_INTER,
	  { VM_ID, false, true, true, true },	true,	KVM_HV_RELAY_NO_INTER_PARTITION },
	{ "no inter-partition, not asked for", MASK_POST | MASK_ONE_L2,
	  { VM_ID, false, true, true, true },	true,	KVM_HV_RELAY_KEPT },
	{ "another L2",		MASK_POST | MASK_ONE_L2,
	  { VM_ID + 1, true, true, true, true }, true,	KVM_HV_RELAY_ANOTHER_L2 },
	{ "another L2, not asked for", MASK_POST | MASK_INTER,
	  { VM_ID + 1, true, true, true, true }, true,	KVM_HV_RELAY_KEPT },
	{ "not Hyper-V",	MASK_POST,
	  { VM_ID, true, false, true, true },	true,	KVM_HV_RELAY_NOT_HYPERV },
	{ "unprivileged",	MASK_POST,
	  { VM_ID, true, true, false, true },	true,	KVM_HV_RELAY_BAD_MODE },
	{ "slow without nested paging", MASK_POST,
	  { VM_ID, true, true, true, false },	false,	KVM_HV_RELAY_NO_NESTED_PAGING },
	{ "fast without nested paging", MASK_POST,
	  { VM_ID, true, true, true, false },	true,	KVM_HV_RELAY_KEPT },
};

KUNIT_ARRAY_PARAM_DESC(gate, gates, name);

static void each_gate_alone(struct kunit *test)
{
	const struct relay_gate *gate = test->param_value;
	struct kvm_hv_nested_relay_config config = { gate->mask, VM_ID };

	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_admit(&config, &gate->l2, gate->fast),
			gate->verdict);
}

/* In the order of their precedence: the first one that is closed counts. */
static void all_gates_must_be_open(struct kunit *test)
{
	unsigned int n, open, i;

	for (n = 0; n < 16; n++) {
		struct kvm_hv_nested_relay_config config = { nth_mask(n), VM_ID };

		for (open = 0; open <= 0x3f; open++) {
			struct kvm_hv_nested_relay_l2 l2 = {
				.inter_partition = open & BIT(0),
				.vm_id = open & BIT(1) ? VM_ID : ~VM_ID,
				.hyperv = open & BIT(2),
				.privileged = open & BIT(3),
				.nested_paging = open & BIT(4),
			};
			bool fast = open & BIT(5);
			struct {
				bool closed;
				u32 verdict;
			} order[] = {
				{ n & 4 && !(open & BIT(0)), KVM_HV_RELAY_NO_INTER_PARTITION },
				{ n & 8 && !(open & BIT(1)), KVM_HV_RELAY_ANOTHER_L2 },
				{ !(open & BIT(2)), KVM_HV_RELAY_NOT_HYPERV },
				{ !(open & BIT(3)), KVM_HV_RELAY_BAD_MODE },
				{ !(open & (BIT(4) | BIT(5))), KVM_HV_RELAY_NO_NESTED_PAGING },
				{ true, KVM_HV_RELAY_KEPT },
			};

			for (i = 0; !order[i].closed; i++)
				;
			KUNIT_ASSERT_EQ_MSG(test, kvm_hv_nested_relay_admit(&config, &l2, fast),
					    order[i].verdict, "mask 0x%x combination 0x%x",
					    config.mask, open);
		}
	}
}

static void no_other_bit_of_the_mask_is_a_gate(struct kunit *test)
{
	const struct kvm_hv_nested_relay_l2 l2 = { ~VM_ID, false, true, true, true };
	struct kvm_hv_nested_relay_config config = { .vm_id = VM_ID };
	int bit;

	for (bit = 0; bit < 32; bit++) {
		u32 verdict = bit == 8 ? KVM_HV_RELAY_NO_INTER_PARTITION :
			      bit == 9 ? KVM_HV_RELAY_ANOTHER_L2 : KVM_HV_RELAY_KEPT;

		config.mask = BIT(bit);
		KUNIT_EXPECT_EQ_MSG(test, kvm_hv_nested_relay_admit(&config, &l2, false),
				    verdict, "bit %d", bit);
	}

	config.mask = (u32)~(MASK_INTER | MASK_ONE_L2);
	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_admit(&config, &l2, false), KVM_HV_RELAY_KEPT);
}

/* Any ID is valid, 0 as well. */
static const struct relay_id {
	const char *name;
	u64 id;
} ids[] = {
	{ "0",			0 },
	{ "1",			1 },
	{ "all ones",		~0ULL },
	{ "low half",		0xffffffffULL },
	{ "high half",		0xffffffff00000000ULL },
	{ "bit 63",		BIT_ULL(63) },
	{ "64 bits",		VM_ID },
};

KUNIT_ARRAY_PARAM_DESC(id, ids, name);

static void vm_id_is_compared_bit_by_bit(struct kunit *test)
{
	const struct relay_id *param = test->param_value;
	struct kvm_hv_nested_relay_config config = { MASK_VALID, param->id };
	struct kvm_hv_nested_relay_l2 l2 = L2_SERVED;
	int bit;

	l2.vm_id = param->id;
	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_admit(&config, &l2, false), KVM_HV_RELAY_KEPT);

	for (bit = 0; bit < 64; bit++) {
		l2.vm_id = param->id ^ BIT_ULL(bit);
		config.mask = MASK_VALID;
		KUNIT_EXPECT_EQ_MSG(test, kvm_hv_nested_relay_admit(&config, &l2, false),
				    KVM_HV_RELAY_ANOTHER_L2, "bit %d", bit);
		config.mask = MASK_VALID & ~MASK_ONE_L2;
		KUNIT_EXPECT_EQ_MSG(test, kvm_hv_nested_relay_admit(&config, &l2, false),
				    KVM_HV_RELAY_KEPT, "bit %d", bit);
	}

	l2.vm_id = ~param->id;
	config.mask = MASK_VALID;
	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_admit(&config, &l2, false),
			KVM_HV_RELAY_ANOTHER_L2);
}

/*
 * What L0 wants, up to where vendor code is asked for L2's CPL: L2's TLB flushes
 * are L0's business, relay or not, and calls that aren't selected are L1's.
 */

static bool l0_wants(struct kunit *test, bool direct)
{
	struct relay_test *relay = test->priv;

#ifdef MODULE
	kunit_skip(test, "exported to vendor modules, and no others");
	return relay && direct;
#else
	return kvm_hv_nested_l0_wants_hcall(relay->vcpu, direct);
#endif
}

static void set_nested_cpuid(struct relay_test *relay, u32 eax)
{
	to_hv_vcpu(relay->vcpu)->cpuid_cache.nested_eax = eax;
}

static const struct relay_hcall {
	const char *name;
	u64 code;
	bool is_flush;
} hcalls[] = {
	{ "flush space",	0x02,	true },
	{ "flush list",		0x03,	true },
	{ "flush space ex",	0x13,	true },
	{ "flush list ex",	0x14,	true },
	{ "none",		0x00,	false },
	{ "switch space",	0x01,	false },
	{ "next to flushes",	0x04,	false },
	{ "before ex",		0x12,	false },
	{ "after ex",		0x15,	false },
	{ "before post",	0x5b,	false },
	{ "after signal",	0x5e,	false },
	{ "past 8 bits",	0x0102,	false },
};

KUNIT_ARRAY_PARAM_DESC(hcall, hcalls, name);

static void l0_wants_tlb_flushes(struct kunit *test)
{
	const struct relay_hcall *hcall = test->param_value;
	struct relay_test *relay = test->priv;
	bool direct, flush;
	unsigned int i;

	for (i = 0; i <= 0x3f; i++) {
		set_64_bit(relay, IS_ENABLED(CONFIG_X86_64) && i & BIT(0));
		direct = i & BIT(1);
		set_config(relay, i & BIT(2) ? MASK_VALID : i & BIT(5) ? MASK_INTER : 0, VM_ID);
		set_nested_cpuid(relay, i & BIT(3) ? DIRECT_FLUSH : (u32)~DIRECT_FLUSH);
		set_call(relay, (i & BIT(4) ? NESTED : 0) | hcall->code, L2_GPA);

		flush = hcall->is_flush && direct && i & BIT(3);
		KUNIT_EXPECT_EQ_MSG(test, l0_wants(test, direct), flush, "combination 0x%x", i);
	}
}

/* Or KVM would get to ask vendor code, which doesn't know this vCPU. */
static void call_that_is_not_selected_is_reflected(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	struct relay_test *relay = test->priv;
	int i;

	for (i = 0; i <= IS_ENABLED(CONFIG_X86_64); i++) {
		set_64_bit(relay, i);
		set_nested_cpuid(relay, DIRECT_FLUSH);

		set_config(relay, MASK_VALID, VM_ID);
		set_call(relay, class->code, L2_GPA);
		KUNIT_EXPECT_FALSE(test, l0_wants(test, true));
		set_call(relay, NESTED | class->code, L2_GPA);
		KUNIT_EXPECT_FALSE(test, l0_wants(test, false));

		set_config(relay, MASK_VALID & ~class->mask, VM_ID);
		KUNIT_EXPECT_FALSE(test, l0_wants(test, true));
		set_config(relay, 0, 0);
		KUNIT_EXPECT_FALSE(test, l0_wants(test, true));
	}
}

/* A vCPU gets its Hyper-V state with the first Hyper-V MSR or CPUID leaf. */
static void vcpu_without_hyperv_state_keeps_nothing(struct kunit *test)
{
	struct relay_test *relay = test->priv;

	relay->vcpu->arch.hyperv_enabled = false;
	relay->vcpu->arch.hyperv = NULL;

	set_call(relay, NESTED | POST, L2_GPA);
	KUNIT_EXPECT_FALSE(test, l0_wants(test, false));
	set_call(relay, FLUSH, L2_GPA);
	KUNIT_EXPECT_FALSE(test, l0_wants(test, false));
	set_config(relay, 0, 0);
	KUNIT_EXPECT_FALSE(test, l0_wants(test, false));
}

/* Which registers count, told by a flush, with the relay on and off. */

static void control_is_in_rcx_in_64_bit_mode(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	int i;

	if (!IS_ENABLED(CONFIG_X86_64))
		kunit_skip(test, "needs a 64-bit host");

	set_nested_cpuid(relay, DIRECT_FLUSH);
	for (i = 0; i < 2; i++) {
		set_config(relay, i ? MASK_VALID : 0, 0);

		/* In each register but RCX. */
		set_registers(relay, FLUSH);
		set_register(relay, VCPU_REGS_RCX, POISON);
		KUNIT_EXPECT_FALSE(test, l0_wants(test, true));

		/* In its upper half. */
		set_register(relay, VCPU_REGS_RCX, FLUSH << 32);
		KUNIT_EXPECT_FALSE(test, l0_wants(test, true));

		/* In RCX alone. */
		set_registers(relay, POISON);
		set_register(relay, VCPU_REGS_RCX, FLUSH);
		KUNIT_EXPECT_TRUE(test, l0_wants(test, true));
		set_register(relay, VCPU_REGS_RCX, GENMASK_ULL(63, 16) | FLUSH);
		KUNIT_EXPECT_TRUE(test, l0_wants(test, true));
	}
}

static void control_is_in_eax_in_32_bit_mode(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	int i;

	set_64_bit(relay, false);
	set_nested_cpuid(relay, DIRECT_FLUSH);
	for (i = 0; i < 2; i++) {
		set_config(relay, i ? MASK_VALID : 0, 0);

		set_registers(relay, FLUSH);
		set_register(relay, VCPU_REGS_RAX, POISON);
		KUNIT_EXPECT_FALSE(test, l0_wants(test, true));

		set_register(relay, VCPU_REGS_RAX, FLUSH << 32);
		KUNIT_EXPECT_FALSE(test, l0_wants(test, true));

		set_registers(relay, POISON);
		set_register(relay, VCPU_REGS_RAX, FLUSH);
		KUNIT_EXPECT_TRUE(test, l0_wants(test, true));
		set_register(relay, VCPU_REGS_RAX, GENMASK_ULL(63, 16) | FLUSH);
		KUNIT_EXPECT_TRUE(test, l0_wants(test, true));
	}
}

/* What becomes of a call that was kept. */

static void slow_input_is_translated_and_fast_is_not(struct kunit *test)
{
	const struct relay_class *class = test->param_value;

	assert_relayed(test, NESTED | class->code, L2_GPA, L1_GPA);
	assert_relayed(test, NESTED | FAST | class->code, L2_GPA, L2_GPA);
}

static void only_the_nested_bit_is_dropped(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	u64 control;
	int bit;

	for (bit = 16; bit < 64; bit++) {
		control = NESTED | class->code | BIT_ULL(bit);
		assert_relayed(test, control, L2_GPA, BIT_ULL(bit) == FAST ? L2_GPA : L1_GPA);
	}

	assert_relayed(test, GENMASK_ULL(63, 16) | class->code, L2_GPA, L2_GPA);
	assert_relayed(test, GENMASK_ULL(63, 17) | class->code, L2_GPA, L1_GPA);
}

/* The input of a fast call is a value, whatever it looks like. */
static void fast_input_is_not_looked_at(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	static const u64 inputs[] = {
		0, 1, 0xfff, L2_GPA, L2_GPA + 1, BIT_ULL(MAXPHYADDR), BIT_ULL(63), ~0ULL,
	};
	struct relay_test *relay = test->priv;
	int i;

	relay->walk_result = INVALID_GPA;
	relay->vcpu->arch.ngpa_walk.cpu_role.base.level = 0;
	for (i = 0; i < ARRAY_SIZE(inputs); i++)
		assert_relayed(test, NESTED | FAST | class->code, inputs[i], inputs[i]);
	KUNIT_EXPECT_EQ(test, relay->walks, 0);
}

static void input_must_be_aligned_and_in_one_page(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	struct relay_test *relay = test->priv;
	u64 offset;

	for (offset = 0; offset < 4096; offset++) {
		relay->walk_result = L1_GPA + offset;
		if (offset % 8 || offset + class->size > 4096)
			assert_refused(test, NESTED | class->code, L2_GPA + offset, STATUS_ALIGN);
		else
			assert_relayed(test, NESTED | class->code, L2_GPA + offset,
				       L1_GPA + offset);
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
	static const u64 pages[] = {
		0, PAGE_SIZE, L2_GPA, BIT_ULL(MAXPHYADDR) - PAGE_SIZE,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		if (edge->fits)
			assert_relayed(test, NESTED | edge->code, pages[i] + edge->offset, L1_GPA);
		else
			assert_refused(test, NESTED | edge->code, pages[i] + edge->offset,
				       STATUS_ALIGN);
	}
}

/* As for a TLB flush, whose input block has one of many sizes. */
static void block_of_any_size_must_be_aligned_and_in_one_page(struct kunit *test)
{
#ifdef MODULE
	kunit_skip(test, "not exported");
#else
	static const u32 sizes[] = { 8, 16, 24, 32, 40, 256, 4088, 4096, 4104, 40984 };
	struct relay_test *relay = test->priv;
	u64 offset;
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (offset = 0; offset < 4096; offset++) {
			bool fits = offset % 8 == 0 && offset + sizes[i] <= 4096;

			KUNIT_ASSERT_EQ_MSG(test,
					    kvm_hv_check_l2_input(relay->vcpu, L2_GPA + offset,
								  sizes[i]),
					    fits ? STATUS_SUCCESS : STATUS_ALIGN,
					    "offset 0x%llx size %u", offset, sizes[i]);
		}
	}
#endif
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

static void input_above_maxphyaddr_is_invalid_and_not_walked(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	struct relay_test *relay = test->priv;
	int maxphyaddr, bit;

	relay->vcpu->arch.ngpa_walk.cpu_role.base.level = 5;

	for (maxphyaddr = 36; maxphyaddr <= 52; maxphyaddr++) {
		relay->vcpu->arch.reserved_gpa_bits = GENMASK_ULL(63, maxphyaddr);

		for (bit = PAGE_SHIFT; bit < 64; bit++) {
			if (bit < maxphyaddr) {
				assert_relayed(test, NESTED | class->code, BIT_ULL(bit), L1_GPA);
				continue;
			}
			assert_refused(test, NESTED | class->code, BIT_ULL(bit), STATUS_ALIGN);
			assert_refused(test, NESTED | class->code,
				       (L2_GPA & GENMASK_ULL(35, 0)) | BIT_ULL(bit), STATUS_ALIGN);
		}
	}
}

static const struct relay_width {
	const char *name;
	int level;
	int bits;
} widths[] = {
	{ "2 levels",	2,	32 },
	{ "3 levels",	3,	32 },
	{ "4 levels",	4,	48 },
	{ "5 levels",	5,	57 },
};

KUNIT_ARRAY_PARAM_DESC(width, widths, name);

/* The walk would take the address for another one. */
static void input_above_l1_page_tables_is_invalid_and_not_walked(struct kunit *test)
{
	const struct relay_width *width = test->param_value;
	struct relay_test *relay = test->priv;
	u64 l2_gpa = L2_GPA & GENMASK_ULL(31, 0);
	int bit;

	relay->vcpu->arch.reserved_gpa_bits = 0;
	relay->vcpu->arch.ngpa_walk.cpu_role.base.level = width->level;

	for (bit = PAGE_SHIFT; bit < 64; bit++) {
		if (bit < width->bits) {
			assert_relayed(test, NESTED | POST, BIT_ULL(bit), L1_GPA);
			assert_relayed(test, NESTED | SIGNAL, l2_gpa | BIT_ULL(bit), L1_GPA);
		} else {
			assert_refused(test, NESTED | POST, BIT_ULL(bit), STATUS_ALIGN);
			assert_refused(test, NESTED | SIGNAL, l2_gpa | BIT_ULL(bit), STATUS_ALIGN);
		}
	}
}

/* It is wrong whatever L1 maps. */
static void bad_address_is_no_memory_intercept(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	struct relay_test *relay = test->priv;

	assert_refused(test, NESTED | class->code, BIT_ULL(63) + 4, STATUS_ALIGN);
	assert_refused(test, NESTED | class->code, ~0ULL, STATUS_ALIGN);
	relay->walk_result = INVALID_GPA;
	assert_refused(test, NESTED | class->code, L2_GPA + 1, STATUS_ALIGN);
	assert_refused(test, NESTED | class->code, BIT_ULL(63), STATUS_ALIGN);
}

/* Input that L1 doesn't map, or not readable, is a memory intercept. */

static const struct relay_fault {
	const char *name;
	u64 error_code;
	u64 exit_qualification;
	u64 address;
} faults[] = {
	{ "EPT violation, nothing there", 0, BIT(0) | GVA_BITS, L2_GPA },
	{ "EPT violation, not readable", BIT(0), BIT(0) | BIT(4) | BIT(5) | GVA_BITS, L2_GPA },
	{ "EPT misconfiguration", BIT(0) | BIT(3), 0, L2_GPA },
	{ "nested page fault, nothing there", BIT_ULL(32) | BIT(2), 0, L2_GPA },
	{ "nested page fault, not user's", BIT_ULL(32) | BIT(2) | BIT(0), 0, L2_GPA },
	{ "nested page fault, reserved bit", BIT_ULL(32) | BIT(3) | BIT(2) | BIT(0), 0, L2_GPA },
	{ "elsewhere", BIT_ULL(33) | BIT(2), 0, L1_GPA + 0x128 },
};

KUNIT_ARRAY_PARAM_DESC(fault, faults, name);

static void unreadable_input_is_a_memory_intercept(struct kunit *test)
{
	const struct relay_fault *param = test->param_value;
	struct relay_test *relay = test->priv;
	int i;

	relay->walk_result = INVALID_GPA;
	relay->fault.error_code = param->error_code;
	relay->fault.exit_qualification = param->exit_qualification;
	relay->fault.address = param->address;
	for (i = 0; i < ARRAY_SIZE(classes); i++) {
		assert_intercepted(test, NESTED | classes[i].code, L2_GPA);
		assert_intercepted(test, NESTED | classes[i].code, L2_GPA + 0xf00);
		assert_intercepted(test, NESTED | classes[i].code, 0);
	}
	KUNIT_EXPECT_EQ(test, relay->injections, 6);
	KUNIT_EXPECT_EQ(test, relay->vcpu->stat.nested_hv_relayed_hcalls, 0);
}

static void intercept_has_no_linear_address(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	int bit;

	relay->walk_result = INVALID_GPA;
	for (bit = 0; bit < BITS_PER_LONG; bit++) {
		relay->fault.exit_qualification = BIT(bit);
		assert_intercepted(test, NESTED | POST, L2_GPA);
		KUNIT_EXPECT_EQ(test, relay->injected.exit_qualification,
				bit == 7 || bit == 8 ? 0 : BIT(bit));
	}

	relay->fault.exit_qualification = ~0UL;
	assert_intercepted(test, NESTED | POST, L2_GPA);
	KUNIT_EXPECT_EQ(test, relay->injected.exit_qualification, ~0x180UL);
}

/* L2 makes the call again, and again until L1 maps its input. */
static void call_is_made_once_l1_maps_its_input(struct kunit *test)
{
	const struct relay_class *class = test->param_value;
	struct relay_test *relay = test->priv;

	relay->walk_result = INVALID_GPA;
	assert_intercepted(test, NESTED | class->code, L2_GPA);
	assert_intercepted(test, NESTED | class->code, L2_GPA);
	relay->walk_result = L1_GPA;
	assert_relayed(test, NESTED | class->code, L2_GPA, L1_GPA);
	KUNIT_EXPECT_EQ(test, relay->vcpu->stat.nested_hv_relayed_hcalls, 1);
}

static void translation_is_not_stored(struct kunit *test)
{
	struct relay_test *relay = test->priv;

	assert_relayed(test, NESTED | POST, L2_GPA, L1_GPA);
	relay->walk_result = L1_GPA + PAGE_SIZE;
	assert_relayed(test, NESTED | POST, L2_GPA, L1_GPA + PAGE_SIZE);
	relay->walk_result = INVALID_GPA;
	assert_intercepted(test, NESTED | POST, L2_GPA);
	KUNIT_EXPECT_EQ(test, relay->walks, 3);
}

/* Nothing but what was selected once gets there; it is the last line of defense. */
static void call_of_no_class_is_invalid_with_a_warning(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	struct relay_result result = {};

	kunit_warning_suppress(test) {
		result = begin(relay, NESTED | 0x5e, L2_GPA);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_TRUE(test, result.made);
	KUNIT_EXPECT_EQ(test, result.status, STATUS_CODE);
	KUNIT_EXPECT_EQ(test, relay->walks, 0);
	KUNIT_EXPECT_EQ(test, relay->injections, 0);
	KUNIT_EXPECT_EQ(test, relay->vcpu->stat.nested_hv_relayed_hcalls, 0);
}

static const struct relay_fate {
	const char *name;
	u64 control, input;
	gpa_t walk_result;
} fates[] = {
	{ "slow post",		NESTED | POST,		L2_GPA,			L1_GPA },
	{ "fast post",		NESTED | FAST | POST,	L2_GPA,			L1_GPA },
	{ "slow signal",	NESTED | SIGNAL,	L2_GPA,			L1_GPA },
	{ "fast signal",	NESTED | FAST | SIGNAL,	L2_GPA,			L1_GPA },
	{ "misaligned",		NESTED | POST,		L2_GPA + 1,		L1_GPA },
	{ "above MAXPHYADDR",	NESTED | POST,		BIT_ULL(MAXPHYADDR),	L1_GPA },
	{ "not mapped",		NESTED | POST,		L2_GPA,			INVALID_GPA },
};

KUNIT_ARRAY_PARAM_DESC(fate, fates, name);

static void registers_do_not_change(struct kunit *test)
{
	const struct relay_fate *fate = test->param_value;
	struct relay_test *relay = test->priv;
	unsigned long *before;
	int i, j;

	before = kunit_kmalloc_array(test, NR_VCPU_GENERAL_PURPOSE_REGS, sizeof(*before),
				     GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, before);
	relay->walk_result = fate->walk_result;

	for (i = 0; i < 2; i++) {
		set_64_bit(relay, i);
		set_call(relay, fate->control, fate->input);
		memcpy(before, relay->vcpu->arch.regs,
		       NR_VCPU_GENERAL_PURPOSE_REGS * sizeof(*before));

		begin(relay, fate->control, fate->input);

		for (j = 0; j < NR_VCPU_GENERAL_PURPOSE_REGS; j++)
			KUNIT_EXPECT_EQ_MSG(test, relay->vcpu->arch.regs[j], before[j],
					    "register %d", j);
	}
}

static void stat_counts_calls_that_are_made(struct kunit *test)
{
	const struct relay_fate *fate = test->param_value;
	struct relay_test *relay = test->priv;
	int i;

	relay->walk_result = fate->walk_result;
	for (i = 1; i <= 3; i++) {
		begin(relay, fate->control, fate->input);
		KUNIT_EXPECT_EQ(test, relay->vcpu->stat.nested_hv_relayed_hcalls,
				fate->walk_result == INVALID_GPA ? 0 : i);
	}
}

/* The tracepoint. */

static void probe(void *data, u32 control, u64 l2_input, u64 l1_gpa, u64 vm_id,
		  bool inter_partition, u32 verdict)
{
	struct relay_test *relay = data;

	/* There may be VMs in use. */
	if (current != relay->task)
		return;

	relay->events++;
	relay->event = (struct relay_event) {
		.control = control,
		.l2_input = l2_input,
		.l1_gpa = l1_gpa,
		.vm_id = vm_id,
		.inter_partition = inter_partition,
		.verdict = verdict,
	};
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

static void expect_event(struct kunit *test, const struct relay_event *event)
{
	struct relay_test *relay = test->priv;

	KUNIT_ASSERT_EQ(test, relay->events, 1);
	KUNIT_EXPECT_EQ(test, relay->event.control, event->control);
	KUNIT_EXPECT_EQ(test, relay->event.l2_input, event->l2_input);
	KUNIT_EXPECT_EQ(test, relay->event.l1_gpa, event->l1_gpa);
	KUNIT_EXPECT_EQ(test, relay->event.vm_id, event->vm_id);
	KUNIT_EXPECT_EQ(test, relay->event.inter_partition, event->inter_partition);
	KUNIT_EXPECT_EQ(test, relay->event.verdict, event->verdict);
	relay->events = 0;
}

static const struct relay_verdict {
	const char *name;
	u64 control, input;
	gpa_t walk_result;
	u64 l1_gpa;
	u32 verdict;
} verdicts[] = {
	{ "slow call kept", NESTED | POST, L2_GPA + 8, L1_GPA + 8,
	  L1_GPA + 8, KVM_HV_RELAY_KEPT },
	{ "fast call kept", NESTED | FAST | SIGNAL, L2_GPA + 1, L1_GPA,
	  INVALID_GPA, KVM_HV_RELAY_KEPT },
	{ "misaligned", NESTED | SIGNAL, L2_GPA + 1, L1_GPA,
	  INVALID_GPA, KVM_HV_RELAY_BAD_ADDRESS },
	{ "crosses a page", NESTED | POST, L2_GPA + 0xff8, L1_GPA,
	  INVALID_GPA, KVM_HV_RELAY_BAD_ADDRESS },
	{ "above MAXPHYADDR", NESTED | POST, BIT_ULL(MAXPHYADDR), L1_GPA,
	  INVALID_GPA, KVM_HV_RELAY_BAD_ADDRESS },
	{ "not mapped", NESTED | POST, L2_GPA, INVALID_GPA,
	  INVALID_GPA, KVM_HV_RELAY_MEMORY_INTERCEPT },
};

KUNIT_ARRAY_PARAM_DESC(verdict, verdicts, name);

static void fate_of_a_kept_call_is_traced_once(struct kunit *test)
{
	const struct relay_verdict *param = test->param_value;
	struct relay_test *relay = test->priv;
	struct relay_event event = {
		.control = param->control,
		.l2_input = param->input,
		.l1_gpa = param->l1_gpa,
		.vm_id = VM_ID,
		.verdict = param->verdict,
	};
	int i;

	add_probe(test);
	relay->walk_result = param->walk_result;

	for (i = 0; i < 4; i++) {
		event.inter_partition = i & 1;
		set_hypercall_controls(relay, i == 3 ? ~0U : i == 2 ? ~1U : i);
		begin(relay, param->control, param->input);
		expect_event(test, &event);
	}
}

static const struct relay_reflection {
	const char *name;
	u64 control;
	u32 mask;
	bool direct;
	u32 verdict;
} reflections[] = {
	{ "no nested bit", POST, MASK_VALID, true, KVM_HV_RELAY_NO_NESTED_BIT },
	{ "no nested bit, fast", FAST | SIGNAL, MASK_VALID, true, KVM_HV_RELAY_NO_NESTED_BIT },
	{ "flush, not authorized", FLUSH, MASK_VALID, false, KVM_HV_RELAY_NO_NESTED_BIT },
	{ "other class selected", NESTED | POST, MASK_SIGNAL, true, KVM_HV_RELAY_NOT_SELECTED },
	{ "no class selected", NESTED | POST, MASK_INTER, true, KVM_HV_RELAY_NOT_SELECTED },
	{ "another code", NESTED | 0x5e, MASK_VALID, true, KVM_HV_RELAY_NOT_SELECTED },
	{ "not authorized", NESTED | POST, MASK_VALID, false, KVM_HV_RELAY_NOT_AUTHORIZED },
};

KUNIT_ARRAY_PARAM_DESC(reflection, reflections, name);

static void reflected_call_is_traced_once(struct kunit *test)
{
	const struct relay_reflection *param = test->param_value;
	struct relay_test *relay = test->priv;
	struct relay_event event = {
		.control = param->control,
		.l2_input = L2_GPA + 4,
		.l1_gpa = INVALID_GPA,
		.vm_id = VM_ID,
		.verdict = param->verdict,
	};
	int i;

	add_probe(test);
	set_config(relay, param->mask, 0);
	set_nested_cpuid(relay, DIRECT_FLUSH);

	for (i = 0; i <= IS_ENABLED(CONFIG_X86_64); i++) {
		event.inter_partition = i;
		set_hypercall_controls(relay, i ? 1 : ~1U);
		set_64_bit(relay, i);
		set_call(relay, param->control, L2_GPA + 4);
		KUNIT_EXPECT_FALSE(test, l0_wants(test, param->direct));
		expect_event(test, &event);
	}
	KUNIT_EXPECT_EQ(test, relay->walks, 0);
	KUNIT_EXPECT_EQ(test, relay->vcpu->stat.nested_hv_relayed_hcalls, 0);
}

/* EBX:ECX of a call that goes to L1, which KVM reads for the tracepoint only. */
static void traced_input_is_that_of_the_mode(struct kunit *test)
{
	struct relay_test *relay = test->priv;

	add_probe(test);

	set_64_bit(relay, false);
	set_call(relay, NESTED | POST, POISON);
	set_register(relay, VCPU_REGS_RBX, 0xffffffff01234567ULL);
	set_register(relay, VCPU_REGS_RCX, 0xffffffff89abcdefULL);
	KUNIT_EXPECT_FALSE(test, l0_wants(test, false));
	KUNIT_EXPECT_EQ(test, relay->event.l2_input, 0x0123456789abcdefULL);

	if (!IS_ENABLED(CONFIG_X86_64))
		return;

	set_64_bit(relay, true);
	set_call(relay, NESTED | POST, 0xfedcba9876543210ULL);
	KUNIT_EXPECT_FALSE(test, l0_wants(test, false));
	KUNIT_EXPECT_EQ(test, relay->event.l2_input, 0xfedcba9876543210ULL);
}

static void vcpu_without_hyperv_state_is_traced(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	struct relay_event event = {
		.control = NESTED | POST,
		.l2_input = L2_GPA,
		.l1_gpa = INVALID_GPA,
		.verdict = KVM_HV_RELAY_NOT_AUTHORIZED,
	};

	add_probe(test);
	relay->vcpu->arch.hyperv_enabled = false;
	relay->vcpu->arch.hyperv = NULL;
	set_call(relay, NESTED | POST, L2_GPA);
	KUNIT_EXPECT_FALSE(test, l0_wants(test, false));
	expect_event(test, &event);
}

/* What the mask would have to select is seen even if it's 0, and changes nothing. */
static void reflected_call_is_traced_with_the_relay_off(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	struct relay_event event = {
		.control = NESTED | POST,
		.l2_input = L2_GPA,
		.l1_gpa = INVALID_GPA,
		.vm_id = VM_ID,
		.verdict = KVM_HV_RELAY_NOT_SELECTED,
	};
	int i;

	add_probe(test);
	set_config(relay, 0, 0);
	set_hypercall_controls(relay, ~1U);
	for (i = 0; i < 2; i++) {
		set_call(relay, NESTED | POST, L2_GPA);
		KUNIT_EXPECT_FALSE(test, l0_wants(test, i));
		expect_event(test, &event);
	}

	set_nested_cpuid(relay, DIRECT_FLUSH);
	set_call(relay, FLUSH, L2_GPA);
	KUNIT_EXPECT_TRUE(test, l0_wants(test, true));
	KUNIT_EXPECT_EQ(test, relay->events, 0);
}

/* L0 keeps it, but for reasons that aren't the relay's. */
static void flush_of_l2_is_not_traced(struct kunit *test)
{
	struct relay_test *relay = test->priv;

	add_probe(test);
	set_nested_cpuid(relay, DIRECT_FLUSH);
	set_call(relay, FLUSH, L2_GPA);
	KUNIT_EXPECT_TRUE(test, l0_wants(test, true));
	set_call(relay, NESTED | FLUSH, L2_GPA);
	KUNIT_EXPECT_TRUE(test, l0_wants(test, true));
	KUNIT_EXPECT_EQ(test, relay->events, 0);
}

/* The capability. */

static void expect_config(struct kunit *test, struct kvm *kvm, u32 mask, u64 vm_id)
{
	KUNIT_EXPECT_EQ(test, config_of(kvm)->mask, mask);
	KUNIT_EXPECT_EQ(test, config_of(kvm)->vm_id, vm_id);
}

static unsigned int sequence_of(struct kvm *kvm)
{
	return raw_read_seqcount(&to_kvm_hv(kvm)->nested_relay_seq);
}

static int set(struct kvm *kvm, u64 mask, u64 vm_id, u32 valid)
{
	struct kvm_enable_cap cap = { .args[0] = mask, .args[1] = vm_id };

	return kvm_hv_nested_relay_set(kvm, &cap, valid);
}

/* Not, and everything stays as it was, whatever that is. */
static void assert_invalid(struct kunit *test, const struct kvm_enable_cap *cap, u32 valid)
{
	struct relay_test *relay = test->priv;
	struct kvm_enable_cap copy;
	unsigned int n, sequence;

	for (n = 0; n < 16; n++) {
		set_config(relay, nth_mask(n), n & 8 ? VM_ID : 0);
		sequence = sequence_of(relay->kvm);
		copy = *cap;
		KUNIT_ASSERT_EQ_MSG(test, kvm_hv_nested_relay_set(relay->kvm, &copy, valid),
				    -EINVAL,
				    "flags 0x%x args 0x%llx 0x%llx 0x%llx 0x%llx valid 0x%x",
				    cap->flags, cap->args[0], cap->args[1], cap->args[2],
				    cap->args[3], valid);
		KUNIT_ASSERT_EQ(test, config_of(relay->kvm)->mask, nth_mask(n));
		KUNIT_ASSERT_EQ(test, config_of(relay->kvm)->vm_id, n & 8 ? VM_ID : 0);
		KUNIT_ASSERT_EQ(test, sequence_of(relay->kvm), sequence);
		KUNIT_ASSERT_FALSE(test, mutex_is_locked(&to_kvm_hv(relay->kvm)->hv_lock));
	}
}

static void two_classes_and_two_conditions_are_valid(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_valid_mask(), 0x303);
}

/* What the ioctls take and report depends on the host. */
static void report_follows_the_host(struct kunit *test)
{
#ifdef MODULE
	kunit_skip(test, "not exported");
#else
	struct kvm_enable_cap cap = { .args[0] = MASK_VALID, .args[1] = VM_ID };
	struct relay_test *relay = test->priv;
	bool nested = kvm_nested_ops.enabled;

	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_supported(), nested ? 0x303 : 0);
	set_config(relay, MASK_POST, 0);
	KUNIT_EXPECT_EQ(test, kvm_hv_nested_relay_enable(relay->kvm, &cap),
			nested ? 0 : -EINVAL);
	expect_config(test, relay->kvm, nested ? MASK_VALID : MASK_POST, nested ? VM_ID : 0);
#endif
}

static void configuration_replaces_the_previous_one(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	unsigned int previous, next;

	for (previous = 0; previous < 16; previous++) {
		for (next = 0; next < 16; next++) {
			u64 previous_id = previous & 8 ? VM_ID : 0;
			u64 next_id = next & 8 ? ~VM_ID : 0;

			KUNIT_ASSERT_EQ(test, set(relay->kvm, nth_mask(previous), previous_id,
						  MASK_VALID), 0);
			expect_config(test, relay->kvm, nth_mask(previous), previous_id);
			KUNIT_ASSERT_EQ(test, set(relay->kvm, nth_mask(next), next_id,
						  MASK_VALID), 0);
			expect_config(test, relay->kvm, nth_mask(next), next_id);
		}
	}
}

static void any_vm_id_is_valid_for_one_l2(struct kunit *test)
{
	const struct relay_id *param = test->param_value;
	struct relay_test *relay = test->priv;
	unsigned int n;

	for (n = 8; n < 16; n++) {
		KUNIT_EXPECT_EQ(test, set(relay->kvm, nth_mask(n), param->id, MASK_VALID), 0);
		expect_config(test, relay->kvm, nth_mask(n), param->id);
	}
}

static void vm_id_is_invalid_without_one_l2(struct kunit *test)
{
	struct kvm_enable_cap cap = {};
	unsigned int n;
	int bit;

	for (n = 0; n < 8; n++) {
		cap.args[0] = nth_mask(n);
		for (bit = 0; bit < 64; bit++) {
			cap.args[1] = BIT_ULL(bit);
			assert_invalid(test, &cap, MASK_VALID);
		}
	}
}

static void unknown_bit_is_invalid(struct kunit *test)
{
	struct kvm_enable_cap cap = {};
	unsigned int n;
	int bit;

	for (bit = 0; bit < 64; bit++) {
		if (BIT_ULL(bit) & MASK_VALID)
			continue;
		for (n = 0; n < 16; n++) {
			cap.args[0] = nth_mask(n) | BIT_ULL(bit);
			cap.args[1] = n & 8 ? 1 : 0;
			assert_invalid(test, &cap, MASK_VALID);
		}
	}
}

static void flag_is_invalid(struct kunit *test)
{
	struct kvm_enable_cap cap = {};
	unsigned int n;
	int bit;

	for (bit = 0; bit < 32; bit++) {
		cap.flags = BIT(bit);
		for (n = 0; n < 16; n++) {
			cap.args[0] = nth_mask(n);
			assert_invalid(test, &cap, MASK_VALID);
		}
	}
}

static const struct relay_arg {
	const char *name;
	int arg;
} args[] = {
	{ "args[2]", 2 },
	{ "args[3]", 3 },
};

KUNIT_ARRAY_PARAM_DESC(arg, args, name);

static void extra_argument_is_invalid(struct kunit *test)
{
	const struct relay_arg *param = test->param_value;
	struct kvm_enable_cap cap = {};
	unsigned int n;
	int bit;

	for (bit = 0; bit < 64; bit++) {
		cap.args[param->arg] = BIT_ULL(bit);
		for (n = 0; n < 16; n++) {
			cap.args[0] = nth_mask(n);
			assert_invalid(test, &cap, MASK_VALID);
		}
	}
}

static void bit_that_the_host_lacks_is_invalid(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	struct kvm_enable_cap cap = {};
	unsigned int valid, n;

	for (valid = 0; valid < 16; valid++) {
		for (n = 0; n < 16; n++) {
			cap.args[0] = nth_mask(n);
			if (n & ~valid) {
				assert_invalid(test, &cap, nth_mask(valid));
				continue;
			}
			KUNIT_ASSERT_EQ(test, set(relay->kvm, nth_mask(n), 0, nth_mask(valid)), 0);
			expect_config(test, relay->kvm, nth_mask(n), 0);
		}
	}
}

static void only_turning_off_is_valid_without_nested(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	struct kvm_enable_cap cap = {};
	int bit;

	for (bit = 0; bit < 64; bit++) {
		cap.args[0] = BIT_ULL(bit);
		assert_invalid(test, &cap, 0);
	}

	set_config(relay, MASK_VALID, VM_ID);
	KUNIT_EXPECT_EQ(test, set(relay->kvm, 0, 0, 0), 0);
	expect_config(test, relay->kvm, 0, 0);
}

static void configuration_is_per_vm(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	struct kvm *other = create_vm(test);

	KUNIT_EXPECT_EQ(test, set(other, MASK_VALID, VM_ID, MASK_VALID), 0);
	expect_config(test, other, MASK_VALID, VM_ID);
	expect_config(test, relay->kvm, MASK_POST | MASK_SIGNAL, 0);
}

/* A vCPU that reads the one and the other must get to know about it. */
static void mask_and_vm_id_change_as_one(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	unsigned int sequence = sequence_of(relay->kvm);

	KUNIT_EXPECT_EQ(test, set(relay->kvm, MASK_VALID, VM_ID, MASK_VALID), 0);
	KUNIT_EXPECT_EQ(test, sequence_of(relay->kvm), sequence + 2);
	KUNIT_EXPECT_EQ(test, set(relay->kvm, 0, 0, MASK_VALID), 0);
	KUNIT_EXPECT_EQ(test, sequence_of(relay->kvm), sequence + 4);
	KUNIT_EXPECT_FALSE(test, mutex_is_locked(&to_kvm_hv(relay->kvm)->hv_lock));
}

struct relay_writer {
	struct kvm *kvm;
	struct completion done;
	int ret;
};

static int write_config(void *data)
{
	struct relay_writer *writer = data;

	writer->ret = set(writer->kvm, MASK_VALID, VM_ID, MASK_VALID);
	complete(&writer->done);
	return 0;
}

static void changes_wait_for_one_another(struct kunit *test)
{
	struct relay_test *relay = test->priv;
	struct mutex *lock = &to_kvm_hv(relay->kvm)->hv_lock;
	struct relay_writer *writer;
	struct task_struct *task;

	writer = kunit_kzalloc(test, sizeof(*writer), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, writer);
	writer->kvm = relay->kvm;
	init_completion(&writer->done);

	/* No assertions with the lock held, the writer is waiting for it. */
	mutex_lock(lock);
	task = kthread_run(write_config, writer, "kvm_hv_relay_kunit");
	if (!IS_ERR(task)) {
		KUNIT_EXPECT_EQ(test, wait_for_completion_timeout(&writer->done, HZ / 20), 0);
		expect_config(test, relay->kvm, MASK_POST | MASK_SIGNAL, 0);
	}
	mutex_unlock(lock);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);

	wait_for_completion(&writer->done);
	KUNIT_EXPECT_EQ(test, writer->ret, 0);
	expect_config(test, relay->kvm, MASK_VALID, VM_ID);
}

static struct kunit_case relay_test_cases[] = {
	KUNIT_CASE_PARAM_ATTR(only_selected_codes_are_relayed, mask_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE_PARAM(control_bit_on_top_of_a_selected_call, class_gen_params),
	KUNIT_CASE_PARAM(call_without_nested_bit_is_reflected, class_gen_params),
	KUNIT_CASE_PARAM(first_objection_to_the_call_is_the_verdict, selection_gen_params),

	KUNIT_CASE_PARAM(each_gate_alone, gate_gen_params),
	KUNIT_CASE(all_gates_must_be_open),
	KUNIT_CASE(no_other_bit_of_the_mask_is_a_gate),
	KUNIT_CASE_PARAM(vm_id_is_compared_bit_by_bit, id_gen_params),

	KUNIT_CASE_PARAM(l0_wants_tlb_flushes, hcall_gen_params),
	KUNIT_CASE_PARAM(call_that_is_not_selected_is_reflected, class_gen_params),
	KUNIT_CASE(vcpu_without_hyperv_state_keeps_nothing),
	KUNIT_CASE(control_is_in_rcx_in_64_bit_mode),
	KUNIT_CASE(control_is_in_eax_in_32_bit_mode),

	KUNIT_CASE_PARAM(slow_input_is_translated_and_fast_is_not, class_gen_params),
	KUNIT_CASE_PARAM(only_the_nested_bit_is_dropped, class_gen_params),
	KUNIT_CASE_PARAM(fast_input_is_not_looked_at, class_gen_params),
	KUNIT_CASE_PARAM(input_must_be_aligned_and_in_one_page, class_gen_params),
	KUNIT_CASE_PARAM(edge_of_the_page, edge_gen_params),
	KUNIT_CASE(block_of_any_size_must_be_aligned_and_in_one_page),
	KUNIT_CASE_PARAM(input_may_be_anywhere_in_l1, class_gen_params),
	KUNIT_CASE_PARAM(input_above_maxphyaddr_is_invalid_and_not_walked, class_gen_params),
	KUNIT_CASE_PARAM(input_above_l1_page_tables_is_invalid_and_not_walked, width_gen_params),
	KUNIT_CASE_PARAM(bad_address_is_no_memory_intercept, class_gen_params),

	KUNIT_CASE_PARAM(unreadable_input_is_a_memory_intercept, fault_gen_params),
	KUNIT_CASE(intercept_has_no_linear_address),
	KUNIT_CASE_PARAM(call_is_made_once_l1_maps_its_input, class_gen_params),
	KUNIT_CASE(translation_is_not_stored),
	KUNIT_CASE(call_of_no_class_is_invalid_with_a_warning),
	KUNIT_CASE_PARAM(registers_do_not_change, fate_gen_params),
	KUNIT_CASE_PARAM(stat_counts_calls_that_are_made, fate_gen_params),

	KUNIT_CASE_PARAM(fate_of_a_kept_call_is_traced_once, verdict_gen_params),
	KUNIT_CASE_PARAM(reflected_call_is_traced_once, reflection_gen_params),
	KUNIT_CASE(traced_input_is_that_of_the_mode),
	KUNIT_CASE(vcpu_without_hyperv_state_is_traced),
	KUNIT_CASE(reflected_call_is_traced_with_the_relay_off),
	KUNIT_CASE(flush_of_l2_is_not_traced),

	KUNIT_CASE(two_classes_and_two_conditions_are_valid),
	KUNIT_CASE(report_follows_the_host),
	KUNIT_CASE(configuration_replaces_the_previous_one),
	KUNIT_CASE_PARAM(any_vm_id_is_valid_for_one_l2, id_gen_params),
	KUNIT_CASE(vm_id_is_invalid_without_one_l2),
	KUNIT_CASE(unknown_bit_is_invalid),
	KUNIT_CASE(flag_is_invalid),
	KUNIT_CASE_PARAM(extra_argument_is_invalid, arg_gen_params),
	KUNIT_CASE(bit_that_the_host_lacks_is_invalid),
	KUNIT_CASE(only_turning_off_is_valid_without_nested),
	KUNIT_CASE(configuration_is_per_vm),
	KUNIT_CASE(mask_and_vm_id_change_as_one),
	KUNIT_CASE(changes_wait_for_one_another),
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
