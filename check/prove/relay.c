// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is proved of the relay, for check/prove.sh: one function per entry point,
 * with all that KVM, L1, other vCPUs and userspace could do left open.  An
 * assertion begins with the name of the property that it belongs to.
 *
 * hyperv.c and the nested code of both vendors are KVM's own, as is all that they
 * call from headers, on KVM's own types.  The core is linked to it, see prove.sh.
 * What is modelled is at the top.  The numbers are those of the TLFS and of the
 * uAPI, so as not to share a mistake with KVM.
 */
#include "hyperv.c"
#include "svm/nested.c"
#undef pr_fmt
#include "vmx/hyperv.c"
#include "vmx/nested.c"

#define PROVE(property, what, cond) __CPROVER_assert(cond, property ": " what)
#define ASSUME(cond) __CPROVER_assume(cond)
/* All of these have to be reachable, or what is proved is proved of nothing. */
#ifdef PROVE_REACHED
#define REACHED(cond, what) __CPROVER_assert(!(cond), "reached: " what)
#else
#define REACHED(cond, what) ((void)(cond), (void)(what))
#endif

#define POST		0x5c
#define SIGNAL		0x5d
#define FAST		(1ULL << 16)
#define NESTED		(1ULL << 31)
#define MASK_POST	0x1u
#define MASK_SIGNAL	0x2u
#define MASK_INTER	0x100u
#define MASK_ONE_L2	0x200u
#define MASK_VALID	0x303u
#define DIRECT_FLUSH	(1u << 17)
#define STATUS_CODE	2
#define STATUS_ALIGN	4

bool nondet_bool(void);
u16 nondet_u16(void);
u32 nondet_u32(void);
u64 nondet_u64(void);
int nondet_int(void);

struct kvm_x86_nested_ops kvm_nested_ops;
struct tracepoint __tracepoint_kvm_hv_nested_relay;
struct tracepoint __tracepoint_kvm_hv_hypercall;
struct tracepoint __tracepoint_kvm_hv_hypercall_done;
struct static_key_false_deferred kvm_xen_enabled;

static struct kvm vm;
static struct vcpu_svm svm;
static struct vcpu_vmx vmx;
static struct kvm_vcpu_hv hv;
static struct kvm_run run;
static struct vmcb vmcb02;
static struct kvm_vmcb_info vmcb01;
static struct hv_enlightened_vmcs evmcs;

/* What the vCPU's mode is, for as long as an exit is handled. */
static int cpl, cs_l, cs_db;
static u64 cs_base;

/* What has been done. */
static unsigned int walks, injections, skips, uds, events, warnings, reads, signals;
static u64 walk_gpa, walk_access, walk_result, walk_pte_access;
static struct x86_exception walk_fault, injected;
static bool injected_from_hardware;
static u64 read_gpa, read_value;
static unsigned long read_len;
static int read_ret;
static struct event {
	u64 l2_input, l1_gpa, vm_id;
	u32 control, verdict;
	bool inter_partition;
} event;

/*
 * The others.  They have three configurations in store, which come one after
 * another in the way of kvm_hv_nested_relay_set(), see prove_enable(): with a
 * sequence number that is odd while mask and ID are neither the old nor the new
 * ones.  A read sees any of them that isn't older than the one before.
 */
#define CONFIGS 3
static bool racing, writing;
static struct kvm_hv_nested_relay_config configs[CONFIGS];
static unsigned int position, least;
static bool os_id_was_set, xen_was_off;
static void watch_writer(void);

void prove_others(void)
{
	unsigned int next, mask_of, id_of;

	if (writing)
		watch_writer();
	if (!racing)
		return;

	next = nondet_u32();
	ASSUME(next >= position && next >= least && next <= 2 * (CONFIGS - 1));
	/* Who waits for a writer sees that it gets there. */
	ASSUME(next > position || !(position & 1));
	mask_of = nondet_u32();
	id_of = nondet_u32();
	ASSUME(mask_of >= next / 2 && mask_of < CONFIGS);
	ASSUME(id_of >= next / 2 && id_of < CONFIGS);

	position = next;
	/* Who sees a part of a configuration also sees that it is being written. */
	least = 2 * (mask_of > id_of ? mask_of : id_of);
	if (least)
		least--;
	vm.arch.hyperv.nested_relay_seq.seqcount.sequence = position;
	vm.arch.hyperv.nested_relay.mask = configs[mask_of].mask;
	vm.arch.hyperv.nested_relay.vm_id = configs[id_of].vm_id;

	vm.arch.hyperv.hv_guest_os_id = nondet_u64();
	os_id_was_set |= vm.arch.hyperv.hv_guest_os_id != 0;
	vm.arch.xen.hvm_config.flags = nondet_u32();
	xen_was_off |= !(vm.arch.xen.hvm_config.flags & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL);
}

void prove_warned(void)
{
	warnings++;
}

int __SCT__kvm_x86_get_cpl(struct kvm_vcpu *vcpu)
{
	prove_others();
	return cpl;
}

void __SCT__kvm_x86_get_cs_db_l_bits(struct kvm_vcpu *vcpu, int *db, int *l)
{
	prove_others();
	*db = cs_db;
	*l = cs_l;
}

u64 __SCT__kvm_x86_get_segment_base(struct kvm_vcpu *vcpu, int seg)
{
	return cs_base;
}

int __traceiter_kvm_hv_nested_relay(void *data, u32 control, u64 l2_input, u64 l1_gpa,
				    u64 vm_id, bool inter_partition, u32 verdict)
{
	events++;
	event = (struct event) { l2_input, l1_gpa, vm_id, control, verdict, inter_partition };
	return 0;
}

/* L1's page tables: any page, or the fault that the walk left. */
gpa_t __SCT__kvm_x86_nested_translate_nested_gpa(struct kvm_vcpu *vcpu, gpa_t gpa, u64 access,
						 struct x86_exception *fault, u64 pte_access)
{
	struct x86_exception any;

	prove_others();
	walks++;
	walk_gpa = gpa;
	walk_access = access;
	walk_pte_access = pte_access;
	walk_result = nondet_u64();
	ASSUME(walk_result == INVALID_GPA || !((walk_result ^ gpa) & 4095));
	if (walk_result == INVALID_GPA) {
		ASSUME(any.vector == PF_VECTOR && any.nested_page_fault);
		walk_fault = any;
		*fault = any;
	}
	return walk_result;
}

void __kvm_inject_emulated_page_fault(struct kvm_vcpu *vcpu, struct x86_exception *fault,
				      bool from_hardware)
{
	injections++;
	injected = *fault;
	injected_from_hardware = from_hardware;
}

void kvm_queue_exception(struct kvm_vcpu *vcpu, unsigned int nr)
{
	uds += nr == UD_VECTOR;
}

int kvm_skip_emulated_instruction(struct kvm_vcpu *vcpu)
{
	skips++;
	return 1;
}

int kvm_vcpu_read_guest(struct kvm_vcpu *vcpu, gpa_t gpa, void *data, unsigned long len)
{
	prove_others();
	reads++;
	read_gpa = gpa;
	read_len = len;
	read_ret = nondet_bool() ? -EFAULT : 0;
	read_value = nondet_u64();
	if (!read_ret)
		*(u64 *)data = read_value;
	return read_ret;
}

int kvm_read_guest(struct kvm *kvm, gpa_t gpa, void *data, unsigned long len)
{
	*(u32 *)data = 0;
	return nondet_bool() ? -EFAULT : 0;
}

void *idr_find(const struct idr *idr, unsigned long id)
{
	prove_others();
	return nondet_bool() ? &hv : NULL;
}

void eventfd_signal_mask(struct eventfd_ctx *ctx, __poll_t mask)
{
	signals++;
}

static bool locked;

void mutex_lock(struct mutex *lock)
{
	PROVE("mask", "the lock is that of the VM", lock == &vm.arch.hyperv.hv_lock && !locked);
	prove_others();
	locked = true;
	prove_others();
}

void mutex_unlock(struct mutex *lock)
{
	PROVE("mask", "the lock is held", lock == &vm.arch.hyperv.hv_lock && locked);
	prove_others();
	locked = false;
}

/* KVM_ENABLE_CAP, and what another thread can see of it. */

static struct kvm_hv_nested_relay_config old_config, new_config;
static unsigned int old_sequence;

static void watch_writer(void)
{
	struct kvm_hv *kvm_hv = to_kvm_hv(&vm);
	unsigned int steps = kvm_hv->nested_relay_seq.seqcount.sequence - old_sequence;
	bool is_old = kvm_hv->nested_relay.mask == old_config.mask &&
		      kvm_hv->nested_relay.vm_id == old_config.vm_id;
	bool is_new = kvm_hv->nested_relay.mask == new_config.mask &&
		      kvm_hv->nested_relay.vm_id == new_config.vm_id;

	PROVE("mask", "the configuration is written with the lock held",
	      locked || (!steps && is_old));
	PROVE("mask", "mask and ID change as one", steps == 1 || (!steps && is_old) ||
	      (steps == 2 && is_new));
}

void prove_enable(void)
{
	struct kvm_hv *kvm_hv = to_kvm_hv(&vm);
	struct kvm_enable_cap cap;
	u32 host, was;
	bool valid;
	int ret;

	kvm_nested_ops.enabled = nondet_bool();
	host = kvm_nested_ops.enabled ? MASK_VALID : 0;

	was = nondet_u32();
	ASSUME(!(was & ~host));
	old_config.mask = was;
	old_config.vm_id = nondet_u64();
	new_config.mask = cap.args[0];
	new_config.vm_id = cap.args[1];
	old_sequence = 2 * (nondet_u32() >> 1);
	kvm_hv->nested_relay = old_config;
	kvm_hv->nested_relay_seq.seqcount.sequence = old_sequence;

	PROVE("mask", "KVM_CHECK_EXTENSION reports what the host supports",
	      kvm_hv_nested_relay_supported() == host);

	writing = true;
	ret = kvm_hv_nested_relay_enable(&vm, &cap);
	writing = false;

	valid = !cap.flags && !(cap.args[0] & ~(u64)host) && !cap.args[2] && !cap.args[3] &&
		(!cap.args[1] || (cap.args[0] & MASK_ONE_L2));
	PROVE("mask", "KVM_ENABLE_CAP takes what is valid, and nothing else",
	      ret == (valid ? 0 : -EINVAL));
	PROVE("mask", "the mask has no bit that the host doesn't support",
	      !(kvm_hv->nested_relay.mask & ~host));
	if (!ret)
		PROVE("mask", "what is taken replaces all of what was there",
		      kvm_hv->nested_relay.mask == cap.args[0] &&
		      kvm_hv->nested_relay.vm_id == cap.args[1] &&
		      kvm_hv->nested_relay_seq.seqcount.sequence == old_sequence + 2);
	else
		PROVE("mask", "a refused enable changes nothing",
		      kvm_hv->nested_relay.mask == old_config.mask &&
		      kvm_hv->nested_relay.vm_id == old_config.vm_id &&
		      kvm_hv->nested_relay_seq.seqcount.sequence == old_sequence);
	PROVE("mask", "the lock is released", !locked);
	PROVE("defined", "no warning", !warnings);

	REACHED(!ret && cap.args[1], "an enable with an ID");
	REACHED(ret && kvm_nested_ops.enabled, "a refused enable");
	REACHED(!ret && !kvm_nested_ops.enabled, "an enable without nested virtualization");
}

/* An exit of L2. */

static bool is_flush(u16 code)
{
	return code == 0x02 || code == 0x03 || code == 0x13 || code == 0x14;
}

static u64 saved_regs[NR_VCPU_GENERAL_PURPOSE_REGS], saved_rip;

static bool registers_unchanged(struct kvm_vcpu *vcpu, bool but_rax, bool but_rdx)
{
	int i;

	for (i = 0; i < NR_VCPU_GENERAL_PURPOSE_REGS; i++) {
		if ((i == VCPU_REGS_RAX && but_rax) || (i == VCPU_REGS_RDX && but_rdx))
			continue;
		if (vcpu->arch.regs[i] != saved_regs[i])
			return false;
	}
	return vcpu->arch.rip == saved_rip;
}

/* Everything that the code under test looks at is any value that it can have. */
static void any_vcpu(struct kvm_vcpu *vcpu)
{
	unsigned int maxphyaddr = nondet_u32();
	unsigned int level = nondet_u32();
	struct kvm_vcpu_hv any_hv;
	struct kvm_hv *kvm_hv = to_kvm_hv(&vm);
	int i;

	vcpu->kvm = &vm;
	vcpu->run = &run;
	vcpu->arch.hflags = HF_GUEST_MASK;
	for (i = 0; i < NR_VCPU_GENERAL_PURPOSE_REGS; i++)
		vcpu->arch.regs[i] = saved_regs[i] = nondet_u64();
	vcpu->arch.rip = saved_rip = nondet_u64();
	for (i = 0; i < ARRAY_SIZE(vcpu->arch.regs_avail); i++)
		vcpu->arch.regs_avail[i] = ~0ul;
	vcpu->arch.cr0 = nondet_u64();
	vcpu->arch.efer = nondet_u64();
	/* Long mode is protected mode. */
	ASSUME(!(vcpu->arch.efer & EFER_LMA) || (vcpu->arch.cr0 & X86_CR0_PE));
	cpl = nondet_int();
	ASSUME(cpl >= 0 && cpl <= 3);
	cs_l = nondet_bool();
	cs_db = nondet_bool();
	cs_base = nondet_u64();

	vcpu->arch.mmu = nondet_bool() ? &vcpu->arch.guest_mmu : &vcpu->arch.root_mmu;
	/* What the hardware has: 2 to 5 levels. */
	ASSUME(level >= 2 && level <= 5);
	vcpu->arch.ngpa_walk.cpu_role.base.level = level;
	ASSUME(maxphyaddr >= 32 && maxphyaddr <= 52);
	vcpu->arch.reserved_gpa_bits = ~0ull << maxphyaddr;
	vcpu->arch.hyperv_enabled = nondet_bool();
	vcpu->stat.nested_hv_relayed_hcalls = nondet_u64();

	hv.enforce_cpuid = any_hv.enforce_cpuid;
	hv.cpuid_cache = any_hv.cpuid_cache;
	hv.nested = any_hv.nested;
	hv.synic.active = any_hv.synic.active;
	hv.vp_assist_page.nested_control = any_hv.vp_assist_page.nested_control;
	hv.hypercall_in_l2 = any_hv.hypercall_in_l2;
	hv.hypercall_longmode = any_hv.hypercall_longmode;
	hv.vcpu = vcpu;
	vcpu->arch.hyperv = nondet_bool() ? &hv : NULL;

	for (i = 0; i < CONFIGS; i++) {
		configs[i].mask = nondet_u32();
		configs[i].vm_id = nondet_u64();
	}
	kvm_hv->nested_relay = configs[0];
	kvm_hv->nested_relay_seq.seqcount.sequence = 0;
	kvm_hv->hv_guest_os_id = nondet_u64();
	os_id_was_set = kvm_hv->hv_guest_os_id != 0;
	vm.arch.xen.hvm_config.flags = nondet_u32();
	kvm_xen_enabled.key.key.enabled.counter = nondet_bool();
	xen_was_off = !kvm_xen_enabled.key.key.enabled.counter ||
		      !(vm.arch.xen.hvm_config.flags & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL);
	__tracepoint_kvm_hv_nested_relay.key.key.enabled.counter = nondet_bool();
	run.exit_reason = KVM_EXIT_UNKNOWN;
}

/* The first gate that is closed, in the order of the documents. */
static u32 expected_verdict(struct kvm_vcpu *vcpu, const struct kvm_hv_nested_relay_config *config,
			    u32 control, bool direct, bool hyperv)
{
	u16 code = control;
	u32 mask = config->mask;

	if (!(control & NESTED))
		return KVM_HV_RELAY_NO_NESTED_BIT;
	if (!((code == POST && (mask & MASK_POST)) || (code == SIGNAL && (mask & MASK_SIGNAL))))
		return KVM_HV_RELAY_NOT_SELECTED;
	if (!direct)
		return KVM_HV_RELAY_NOT_AUTHORIZED;
	if ((mask & MASK_INTER) &&
	    !hv.vp_assist_page.nested_control.hypercall_controls.inter_partition_comm)
		return KVM_HV_RELAY_NO_INTER_PARTITION;
	if ((mask & MASK_ONE_L2) && hv.nested.vm_id != config->vm_id)
		return KVM_HV_RELAY_ANOTHER_L2;
	if (!hyperv)
		return KVM_HV_RELAY_NOT_HYPERV;
	if (cpl || !(vcpu->arch.cr0 & X86_CR0_PE))
		return KVM_HV_RELAY_BAD_MODE;
	if (!(control & FAST) && vcpu->arch.mmu != &vcpu->arch.guest_mmu)
		return KVM_HV_RELAY_NO_NESTED_PAGING;
	return KVM_HV_RELAY_KEPT;
}

static void prove_exit(struct kvm_vcpu *vcpu, bool is_svm, bool others)
{
	bool flush, wanted, kept, is_64, direct, hyperv, tracing, intercepted, valid, fast;
	u64 control, input, output, counted, l2_gpa, reach, result;
	u32 verdict = 0, size;
	union vmx_exit_reason reason = { .full = EXIT_REASON_VMCALL };
	bool some = false, same, has_evmcs, bit, moved;
	int i, ret;
	u16 code;

	any_vcpu(vcpu);
	racing = others && nondet_bool();
	bit = nondet_bool();
	has_evmcs = nondet_bool();
	intercepted = nondet_bool();
	if (is_svm) {
		svm.vmcb = &vmcb02;
		svm.vmcb01.ptr = &vmcb02;
		vmcb02.control.exit_code = SVM_EXIT_VMMCALL;
		svm.nested.ctl.hv_enlightenments.hv_enlightenments_control.nested_flush_hypercall = bit;
		svm.nested.ctl.intercepts[INTERCEPT_VMMCALL / 32] =
			(u32)intercepted << INTERCEPT_VMMCALL % 32;
		has_evmcs = true;
	} else {
		vmx.nested.hv_evmcs = has_evmcs ? &evmcs : NULL;
		evmcs.hv_enlightenments_control.nested_flush_hypercall = bit;
	}

	is_64 = (vcpu->arch.efer & EFER_LMA) && cs_l;
	control = is_64 ? saved_regs[VCPU_REGS_RCX] :
		  saved_regs[VCPU_REGS_RDX] << 32 | (u32)saved_regs[VCPU_REGS_RAX];
	input = is_64 ? saved_regs[VCPU_REGS_RDX] :
		saved_regs[VCPU_REGS_RBX] << 32 | (u32)saved_regs[VCPU_REGS_RCX];
	output = is_64 ? saved_regs[VCPU_REGS_R8] :
		 saved_regs[VCPU_REGS_RDI] << 32 | (u32)saved_regs[VCPU_REGS_RSI];
	code = control;
	fast = control & FAST;
	direct = vcpu->arch.hyperv && has_evmcs && bit &&
		 hv.vp_assist_page.nested_control.features.directhypercall;
	tracing = __tracepoint_kvm_hv_nested_relay.key.key.enabled.counter;
	flush = direct && (hv.cpuid_cache.nested_eax & DIRECT_FLUSH) && is_flush(code);
	counted = vcpu->stat.nested_hv_relayed_hcalls;

	/* Where does the exit go? */
	if (is_svm) {
		ret = nested_svm_exit_special(&svm);
		wanted = ret == NESTED_EXIT_HOST;
		PROVE("gates", "L1 gets the exit unless L0 wants it, or #UD if it doesn't intercept it",
		      wanted || (intercepted ? ret == NESTED_EXIT_CONTINUE && !uds :
				 ret == NESTED_EXIT_DONE && uds == 1));
		PROVE("gates", "no #UD for a call that L0 wants", !wanted || !uds);
	} else {
		wanted = nested_vmx_l0_wants_exit(vcpu, reason);
	}
	kept = wanted && !is_flush(code);

	hyperv = vcpu->arch.hyperv_enabled && os_id_was_set && xen_was_off;
	for (i = 0; i < CONFIGS; i++)
		some |= expected_verdict(vcpu, &configs[i], control, direct, hyperv) == KVM_HV_RELAY_KEPT;
	PROVE("gates", "a call is kept only if one configuration opens every gate", !kept || some);
	if (!racing) {
		verdict = expected_verdict(vcpu, &configs[0], control, direct, hyperv);
		PROVE("delivered", "a call is kept if every gate is open",
		      kept || verdict != KVM_HV_RELAY_KEPT);
	}
	PROVE("gates", "TLB flushes go where they went before", (wanted && !kept) == flush);
	PROVE("gates", "the decision changes nothing", registers_unchanged(vcpu, false, false) &&
	      vcpu->stat.nested_hv_relayed_hcalls == counted && !walks && !injections && !skips &&
	      run.exit_reason == KVM_EXIT_UNKNOWN && vcpu->arch.hflags == HF_GUEST_MASK &&
	      !vcpu->arch.complete_userspace_io);
	if (!racing)
		PROVE("gates", "the decision doesn't change the configuration",
		      vm.arch.hyperv.nested_relay.mask == configs[0].mask &&
		      vm.arch.hyperv.nested_relay.vm_id == configs[0].vm_id);

	PROVE("events", "one for a call that L1 gets, none for one that is wanted",
	      events == (tracing && !wanted));
	if (events)
		PROVE("events", "it shows L2's call",
		      event.control == (u32)control && event.l2_input == input &&
		      event.l1_gpa == INVALID_GPA &&
		      event.vm_id == (vcpu->arch.hyperv ? hv.nested.vm_id : 0) &&
		      event.inter_partition == (vcpu->arch.hyperv &&
		      hv.vp_assist_page.nested_control.hypercall_controls.inter_partition_comm));
	if (events && !racing)
		PROVE("events", "it shows the first gate that is closed", event.verdict == verdict);
	PROVE("defined", "no warning", !warnings);

	REACHED(kept && racing, "kept");
	REACHED(kept && !is_64, "kept outside of 64-bit mode");
	REACHED(wanted && !kept, "a flush");
	REACHED(events && verdict == KVM_HV_RELAY_NO_NESTED_BIT, "no nested bit");
	REACHED(events && verdict == KVM_HV_RELAY_NOT_SELECTED, "not selected");
	REACHED(events && verdict == KVM_HV_RELAY_NOT_AUTHORIZED, "not authorized");
	REACHED(events && verdict == KVM_HV_RELAY_NO_INTER_PARTITION, "no inter-partition");
	REACHED(events && verdict == KVM_HV_RELAY_ANOTHER_L2, "another L2");
	REACHED(events && verdict == KVM_HV_RELAY_NOT_HYPERV, "not Hyper-V");
	REACHED(events && verdict == KVM_HV_RELAY_BAD_MODE, "bad mode");
	REACHED(events && verdict == KVM_HV_RELAY_NO_NESTED_PAGING, "no nested paging");

	if (!kept)
		return;

	/* What becomes of a call that was kept? */
	events = 0;
	uds = 0;
	ret = kvm_hv_hypercall(vcpu);

	size = code == POST ? 256 : 8;
	reach = vcpu->arch.ngpa_walk.cpu_role.base.level == 5 ? 57 :
		vcpu->arch.ngpa_walk.cpu_role.base.level == 4 ? 48 : 32;
	l2_gpa = input;
	valid = !(l2_gpa & 7) && (l2_gpa & 4095) + size <= 4096;

	PROVE("block", "a fast call never walks", !fast || !walks);
	PROVE("block", "a slow call walks at most once", walks <= 1);
	PROVE("block", "no walk for a block that isn't aligned or in one page", !walks || valid);
	PROVE("block", "no walk for a GPA out of reach", !walks ||
	      (!(l2_gpa & vcpu->arch.reserved_gpa_bits) && !(l2_gpa >> reach)));
	PROVE("block", "the walk is a read, of the block's own address", !walks ||
	      (walk_gpa == l2_gpa && walk_access == PFERR_GUEST_FINAL_MASK && !walk_pte_access));
	PROVE("block", "no call that isn't fast reaches anyone but by the walk's result",
	      fast || !(reads || signals || ret == 0) || (walks == 1 && walk_result != INVALID_GPA));
	PROVE("block", "what KVM reads is at the walk's result",
	      !reads || (!fast && read_gpa == walk_result && read_len == 8));
	PROVE("events", "one for a call that was kept", events == tracing);
	if (events) {
		verdict = fast ? KVM_HV_RELAY_KEPT : !walks ? KVM_HV_RELAY_BAD_ADDRESS :
			  walk_result == INVALID_GPA ? KVM_HV_RELAY_MEMORY_INTERCEPT :
			  KVM_HV_RELAY_KEPT;
		PROVE("events", "it shows what became of the call",
		      event.verdict == verdict && event.control == (u32)control &&
		      event.l2_input == input && event.vm_id == hv.nested.vm_id &&
		      event.l1_gpa == (walks ? walk_result : INVALID_GPA));
	}
	REACHED(events && verdict == KVM_HV_RELAY_BAD_ADDRESS && valid, "bad GPA");
	REACHED(events && verdict == KVM_HV_RELAY_BAD_ADDRESS && !valid, "bad alignment");
	REACHED(events && verdict == KVM_HV_RELAY_MEMORY_INTERCEPT, "memory intercept");

	PROVE("defined", "no warning for a call that was kept", !warnings);
	PROVE("registers", "a call that was kept isn't #UD because of a later change", !uds);

	if (!fast && walks && walk_result == INVALID_GPA) {
		PROVE("intercept", "L1 gets the walk's fault, once", injections == 1 &&
		      injected.vector == walk_fault.vector &&
		      injected.error_code_valid == walk_fault.error_code_valid &&
		      injected.error_code == walk_fault.error_code &&
		      injected.nested_page_fault == walk_fault.nested_page_fault &&
		      injected.address == walk_fault.address &&
		      injected.exit_qualification == (walk_fault.exit_qualification & ~0x180ul) &&
		      !injected_from_hardware);
		PROVE("intercept", "nothing is completed", ret == 1 && !skips && !reads && !signals &&
		      run.exit_reason == KVM_EXIT_UNKNOWN && !vcpu->arch.complete_userspace_io);
		PROVE("intercept", "nothing is lost for a second try",
		      registers_unchanged(vcpu, false, false) &&
		      vcpu->stat.nested_hv_relayed_hcalls == counted);
		return;
	}
	PROVE("intercept", "no fault for any other call", !injections);
	PROVE("registers", "the call is counted once", vcpu->stat.nested_hv_relayed_hcalls == counted + 1);

	if (ret == 0) {
		PROVE("registers", "exactly bit 31 is dropped, and the fast bit set for a signal",
		      run.exit_reason == KVM_EXIT_HYPERV && run.hyperv.type == KVM_EXIT_HYPERV_HCALL &&
		      run.hyperv.u.hcall.input == ((control & ~NESTED) | (code == SIGNAL ? FAST : 0)));
		PROVE("block", "params[0] is the walk's result, or the value",
		      run.hyperv.u.hcall.params[0] == (fast ? input : code == POST ? walk_result :
						       read_value));
		PROVE("registers", "the exit says whose call it is",
		      run.hyperv.u.hcall.params[1] == output &&
		      run.hyperv.u.hcall.flags == 1 && run.hyperv.u.hcall.l2_vm_id == hv.nested.vm_id);
		PROVE("registers", "no register changes for userspace's call",
		      registers_unchanged(vcpu, false, false) && !skips && !signals);
		REACHED(code == SIGNAL && !fast, "a slow signal for userspace");
		REACHED(code == POST && fast, "a fast post");
		REACHED(code == POST && !fast && !is_64 && reach == 57, "a slow post");

		/* Userspace comes back, or the vCPU is somewhere else by then. */
		run.hyperv.u.hcall.result = result = nondet_u64();
		moved = nondet_bool();
		if (moved && nondet_bool())
			vcpu->arch.hflags = 0;
		else if (moved)
			vcpu->arch.rip ^= 1;
		if (moved)
			saved_rip = vcpu->arch.rip;
		PROVE("completion", "KVM comes back to the call",
		      vcpu->arch.complete_userspace_io == kvm_hv_hypercall_complete_userspace);
		ret = kvm_hv_hypercall_complete_userspace(vcpu);
		PROVE("completion", "nothing is written if the vCPU has moved on", !moved ||
		      (ret == 1 && !skips && registers_unchanged(vcpu, false, false)));
		PROVE("completion", "the result goes to RAX, or EDX:EAX", moved || (skips == 1 &&
		      registers_unchanged(vcpu, true, !is_64) &&
		      (is_64 ? vcpu->arch.regs[VCPU_REGS_RAX] == result :
		       (u32)vcpu->arch.regs[VCPU_REGS_RAX] == (u32)result &&
		       (u32)vcpu->arch.regs[VCPU_REGS_RDX] == result >> 32)));
		REACHED(moved, "a vCPU that moved");
	} else {
		result = is_64 ? vcpu->arch.regs[VCPU_REGS_RAX] :
			 vcpu->arch.regs[VCPU_REGS_RDX] << 32 | (u32)vcpu->arch.regs[VCPU_REGS_RAX];
		PROVE("registers", "no register of L2 changes but the result's", skips == 1 &&
		      registers_unchanged(vcpu, true, !is_64) &&
		      run.exit_reason == KVM_EXIT_UNKNOWN);
		if (!fast && !valid)
			PROVE("block", "a bad block fails the call", result == STATUS_ALIGN && !reads);
		else if (!fast && !walks)
			PROVE("block", "a GPA out of reach fails the call", result == STATUS_ALIGN &&
			      ((l2_gpa & vcpu->arch.reserved_gpa_bits) || l2_gpa >> reach));
		REACHED(signals && !fast, "a slow signal for an eventfd");
		REACHED(!result && fast, "a fast signal for an eventfd");
	}

	/* A call that is as it should be isn't lost: reserved bits, repeats and a header aside. */
	same = !(control & ~(NESTED | FAST | 0xffff)) && hv.synic.active && !hv.enforce_cpuid &&
	       (fast || (walks == 1 && walk_result != INVALID_GPA));
	if (same && code == POST)
		PROVE("delivered", "a valid post reaches userspace",
		      run.exit_reason == KVM_EXIT_HYPERV);
	if (!fast)
		PROVE("delivered", "a valid block is translated", walks == 1 || !valid ||
		      (l2_gpa & vcpu->arch.reserved_gpa_bits) || l2_gpa >> reach);
	if (same && code == SIGNAL && (fast || !read_ret) &&
	    !((fast ? input : read_value) & ~0xffffffULL))
		PROVE("delivered", "a valid signal reaches userspace or its eventfd",
		      run.exit_reason == KVM_EXIT_HYPERV || signals == 1);
}

void prove_svm(void)
{
	prove_exit(&svm.vcpu, true, true);
}

/* The same with nobody else about, which is quicker to refute. */
void prove_alone(void)
{
	prove_exit(&svm.vcpu, true, false);
}

void prove_vmx(void)
{
	prove_exit(&vmx.vcpu, false, true);
}

/* A call that isn't the relay's, which no caller makes: a bug must not become a delivery. */
void prove_begin(void)
{
	struct kvm_vcpu *vcpu = &vmx.vcpu;
	u64 control = nondet_u64(), input = nondet_u64(), status = 0;
	u64 l2_control = control, l2_input = input, counted;

	any_vcpu(vcpu);
	counted = vcpu->stat.nested_hv_relayed_hcalls;
	if ((u16)control == POST || (u16)control == SIGNAL) {
		/* Else a slow call isn't kept. */
		ASSUME(vcpu->arch.mmu == &vcpu->arch.guest_mmu);
		kvm_hv_nested_relay_begin(vcpu, &control, &input, &status);
		PROVE("block", "no GPA of L2's is left for anyone to take for one of L1's",
		      input == (l2_control & FAST ? l2_input : walks ? walk_result : INVALID_GPA));
		return;
	}
	PROVE("defined", "begin fails a call that has no class",
	      kvm_hv_nested_relay_begin(vcpu, &control, &input, &status) &&
	      status == STATUS_CODE && warnings == 1 && !walks && !injections);
	PROVE("registers", "a call that has no class changes nothing",
	      registers_unchanged(vcpu, false, false) && control == l2_control &&
	      vcpu->stat.nested_hv_relayed_hcalls == counted);
}
