// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fuzzer for KVM_CAP_NESTED_HYPERV_HCALL_RELAY.
 *
 * L2 makes random hypercalls: any control word, garbage in all registers, GPAs
 * aimed at the edges of what L1 maps, under random consent of L1 and a random
 * configuration of the VM.  An oracle, written from the capability's section of
 * api.rst, predicts what becomes of each call.  A call whose input L1 doesn't map
 * is a memory intercept, after which L1 goes on without the call.
 *
 * An episode is a VM and all that can't change in it: the mode of L2, nested
 * paging, CPUID, an active SynIC.  It runs batches of calls.  The host writes a
 * batch into memory that it shares with L1 and L2, L2 makes one call after the
 * other and stores its registers, L1 stores what it sees of a call.  The host
 * checks calls that are delivered as they exit, everything else when the batch
 * is done.  What may change at any time does so between two batches, while a
 * call is in userspace and, as for L1's consent, when L1 handles a call.
 *
 * An episode follows from its seed alone, episode N of a run has the seed of
 * the run + N: any episode replays as the first one of a run.
 */
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "kselftest.h"
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "hyperv_nested.h"

#define RELAY_POST	KVM_NESTED_HYPERV_RELAY_POST_MESSAGE
#define RELAY_SIGNAL	KVM_NESTED_HYPERV_RELAY_SIGNAL_EVENT
#define RELAY_INTER_PARTITION	KVM_NESTED_HYPERV_RELAY_INTER_PARTITION
#define RELAY_ONE_L2	KVM_NESTED_HYPERV_RELAY_ONE_L2

#define DEFAULT_SEED	1
#define DEFAULT_CALLS	20000
#define NR_BATCHES	3	/* in an episode */
#define MAX_CALLS	256	/* in a batch */
#define MAX_CALLS_REAL	100	/* the same for real mode, with its 64K */

#define BATCH_TIMEOUT	60	/* seconds */

/* A run of this many calls that never had an outcome can't have it. */
#define MANY_CALLS	20000

/*
 * Memory that all share, at one address for L1, for L2 with L1's page tables
 * and for L2 without paging.  Code that isn't 64-bit has it at DS:0 and SS:0.
 */
#define SHM		0x10000000ULL
#define SHM_CODE	0x1000
#define SHM_CALLS	0x2000
#define SHM_SIZE	(SHM_CALLS + MAX_CALLS * sizeof(struct call) + PAGE_SIZE)
#define SHM_STACK	0x800

/* L1 pages for slow calls, whose content changes only between two batches. */
#define DATA		0x20000000ULL
#define NR_DATA		12
#define RO_DATA		(DATA + NR_DATA * PAGE_SIZE)	/* a read-only memslot */
#define NR_RO_DATA	4

/* L1 GPAs without a memslot. */
#define HOLE		0x30000000ULL
#define MMIO_HOLE	0xd0000000ULL

#define APIC_PAGE	0xfee00000ULL	/* may have an internal memslot */

/* L2 GPAs that L1's nested page tables are about. */
#define ARENA		0x140000000ULL	/* by 4K pages of all kinds */
#define NR_ARENA	64
#define HUGE_2M		0x150000000ULL
#define BAD_TABLE	0x160000000ULL	/* the PDE may be anything */
#define HUGE_1G		0x180000000ULL

#define FLAGS_MASK	(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | \
			 X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_DF | \
			 X86_EFLAGS_OF)

/* One call: the host fills in the input, L2 and L1 the rest. */
struct call {
	struct guest_regs in;
	struct guest_regs out;		/* by L2 */
	struct guest_regs seen;		/* by L1, if the call exits to it */
	u64 seen_rip;
	u64 seen_reason;
	u64 seen_gpa, seen_info;	/* of a memory intercept */
	u32 nr_seen;
	u32 new_gates;			/* L1 is to adopt @gates */
	u64 reply;			/* L1 is to put it into RAX */
	struct hv_l1_config gates;
} __aligned(512);
static_assert(sizeof(struct call) == 512);

struct shm {
	u64 cur;			/* offset of the current call */
	u64 saved_rdi;
	u64 nr_calls;			/* one more call ends the batch */
	u64 is_vmx;
	u64 bad_exit;			/* L1 saw an exit that it can't handle */
	struct guest_regs garbage;	/* for L2, where L2 can't load it itself */
	struct hv_l1_config gates;
};

#define L2_LABEL(name)							\
({									\
	u8 *label;							\
									\
	asm("lea " #name "(%%rip), %0" : "=r" (label));			\
	label;								\
})

/*
 * L2: load all registers from the current call, make it, store all registers,
 * go on to the next call.  Never ends, that is L1's business.
 */
#define LOAD(reg)	"mov %c[shm] + %c[off_" #reg "](%%rdi), %%" #reg "\n\t"
#define STORE(reg)	"mov %%" #reg ", %c[shm] + %c[out] + %c[off_" #reg "](%%rdi)\n\t"
#define LOAD32(reg)	"mov %c[off_r" #reg "](%%edi), %%e" #reg "\n\t"
#define STORE32(reg)	"mov %%e" #reg ", %c[out] + %c[off_r" #reg "](%%edi)\n\t"

/* The host replaces the NOPs by VMCALL or VMMCALL. */
#define L2_CODE_32(name)						\
	#name ":\n\t"							\
	"mov %c[cur], %%edi\n\t"					\
	"mov $%c[stack], %%esp\n\t"					\
	"pushl %c[off_rflags](%%edi)\n\t"				\
	"popfl\n\t"							\
	LOAD32(ax) LOAD32(bx) LOAD32(cx) LOAD32(dx) LOAD32(si)		\
	LOAD32(bp) LOAD32(sp) LOAD32(di)				\
	#name "_insn: nop; nop; nop\n\t"				\
	"mov %%edi, %c[saved_rdi]\n\t"					\
	"mov %c[cur], %%edi\n\t"					\
	STORE32(ax) STORE32(bx) STORE32(cx) STORE32(dx) STORE32(si)	\
	STORE32(bp) STORE32(sp)						\
	"mov $%c[stack], %%esp\n\t"					\
	"pushfl\n\t"							\
	"popl %c[out] + %c[off_rflags](%%edi)\n\t"			\
	"mov %c[saved_rdi], %%eax\n\t"					\
	"mov %%eax, %c[out] + %c[off_rdi](%%edi)\n\t"			\
	"addl $%c[size], %c[cur]\n\t"					\
	"jmp " #name "\n\t"						\
	#name "_end:\n\t"

/* Never called; not static, to be there all the same. */
void l2_code(void)
{
	asm volatile("l2_code64:\n\t"
		     "mov %c[shm] + %c[cur], %%rdi\n\t"
		     "mov $%c[shm] + %c[stack], %%rsp\n\t"
		     "pushq %c[shm] + %c[off_rflags](%%rdi)\n\t"
		     "popfq\n\t"
		     LOAD(rax) LOAD(rbx) LOAD(rcx) LOAD(rdx) LOAD(rsi)
		     LOAD(rbp) LOAD(rsp) LOAD(r8) LOAD(r9) LOAD(r10) LOAD(r11)
		     LOAD(r12) LOAD(r13) LOAD(r14) LOAD(r15) LOAD(rdi)
		     "l2_code64_insn: nop; nop; nop\n\t"
		     "mov %%rdi, %c[shm] + %c[saved_rdi]\n\t"
		     "mov %c[shm] + %c[cur], %%rdi\n\t"
		     STORE(rax) STORE(rbx) STORE(rcx) STORE(rdx) STORE(rsi)
		     STORE(rbp) STORE(rsp) STORE(r8) STORE(r9) STORE(r10) STORE(r11)
		     STORE(r12) STORE(r13) STORE(r14) STORE(r15)
		     "mov $%c[shm] + %c[stack], %%rsp\n\t"
		     "pushfq\n\t"
		     "popq %c[shm] + %c[out] + %c[off_rflags](%%rdi)\n\t"
		     "mov %c[shm] + %c[saved_rdi], %%rax\n\t"
		     "mov %%rax, %c[shm] + %c[out] + %c[off_rdi](%%rdi)\n\t"
		     "addq $%c[size], %c[shm] + %c[cur]\n\t"
		     "jmp l2_code64\n\t"
		     "l2_code64_end:\n\t"
		     ".code32\n\t"
		     L2_CODE_32(l2_code32)
		     ".code16\n\t"
		     L2_CODE_32(l2_code16)
		     ".code64\n\t"
		     :: GUEST_REGS_OFFSETS,
			[shm] "i" (SHM),
			[cur] "i" (offsetof(struct shm, cur)),
			[saved_rdi] "i" (offsetof(struct shm, saved_rdi)),
			[stack] "i" (SHM_STACK),
			[out] "i" (offsetof(struct call, out)),
			[size] "i" (sizeof(struct call)));
}

static struct call *get_call(struct shm *shm, u64 offset)
{
	return (void *)shm + offset;
}

static u64 call_offset(u64 i)
{
	return SHM_CALLS + i * sizeof(struct call);
}

/* What hv_l1_init() leaves to be done for this test. */
static void l1_adjust(struct hv_l1 *l1, struct hv_l1_config *cfg, bool is_vmx)
{
	bool is_64_bit = hv_l2_mode_is_64_bit(cfg->mode);

	if (is_vmx) {
		vmwrite(EXCEPTION_BITMAP, BIT(UD_VECTOR));
		if (!is_64_bit) {
			vmwrite(GUEST_DS_BASE, SHM);
			vmwrite(GUEST_SS_BASE, SHM);
		}
	} else {
		struct vmcb *vmcb = l1->svm->vmcb;

		vmcb->control.intercept_exceptions |= BIT(UD_VECTOR);
		vmcb->control.intercept |= BIT_ULL(INTERCEPT_VMMCALL);
		if (cfg->no_intercept)
			vmcb->control.intercept &= ~BIT_ULL(INTERCEPT_VMMCALL);
		if (!is_64_bit) {
			vmcb->save.ds.base = SHM;
			vmcb->save.ss.base = SHM;
		}
	}
}

static void l1_store_exit(struct hv_l1 *l1, struct call *call, bool is_vmx)
{
	call->nr_seen++;
	call->seen = guest_regs;
	if (is_vmx) {
		call->seen_reason = vmreadz(VM_EXIT_REASON);
		call->seen_gpa = vmreadz(GUEST_PHYSICAL_ADDRESS);
		call->seen_info = vmreadz(EXIT_QUALIFICATION);
		call->seen_rip = vmreadz(GUEST_RIP);
		call->seen.rsp = vmreadz(GUEST_RSP);
		call->seen.rflags = vmreadz(GUEST_RFLAGS);
		if (call->seen_reason == EXIT_REASON_EXCEPTION_NMI &&
		    (vmreadz(VM_EXIT_INTR_INFO) & 0xff) != UD_VECTOR)
			call->seen_reason = -1ull;
	} else {
		struct vmcb *vmcb = l1->svm->vmcb;

		call->seen_reason = vmcb->control.exit_code;
		call->seen_gpa = vmcb->control.exit_info_2;
		call->seen_info = vmcb->control.exit_info_1;
		call->seen_rip = vmcb->save.rip;
		call->seen.rsp = vmcb->save.rsp;
		call->seen.rflags = vmcb->save.rflags;
	}
}

static bool is_hcall_exit(u64 reason, bool is_vmx)
{
	return reason == (is_vmx ? EXIT_REASON_VMCALL : SVM_EXIT_VMMCALL);
}

static bool is_nested_fault_exit(u64 reason, bool is_vmx)
{
	return is_vmx ? reason == EXIT_REASON_EPT_VIOLATION ||
			reason == EXIT_REASON_EPT_MISCONFIG :
			reason == SVM_EXIT_NPF;
}

static bool is_ud_exit(u64 reason, bool is_vmx)
{
	return reason == (is_vmx ? EXIT_REASON_EXCEPTION_NMI :
				   SVM_EXIT_EXCP_BASE + UD_VECTOR);
}

static void l1_main(void *nested, struct hyperv_test_pages *hv)
{
	struct shm *shm = (void *)SHM;
	struct hv_l1 l1 = { .hv = hv };
	bool is_vmx = shm->is_vmx;
	struct hv_l1_config gates;
	struct call *call;
	u64 rip;

	if (is_vmx)
		l1.vmx = nested;
	else
		l1.svm = nested;

	gates = shm->gates;
	hv_l1_init(&l1, &gates, (void *)SHM + SHM_CODE);
	l1_adjust(&l1, &gates, is_vmx);
	guest_regs = shm->garbage;

	for (;;) {
		/* Not hv_l1_enter() and the like, for their CPUID exits. */
		if (!is_vmx)
			run_guest(l1.svm->vmcb, l1.svm->vmcb_gpa);
		else if (l1.launched)
			GUEST_ASSERT(!vmresume());
		else
			GUEST_ASSERT(!vmlaunch());
		l1.launched = true;

		call = get_call(shm, shm->cur);
		l1_store_exit(&l1, call, is_vmx);
		rip = call->seen_rip + HYPERCALL_INSN_SIZE;

		if (!is_hcall_exit(call->seen_reason, is_vmx) &&
		    !is_ud_exit(call->seen_reason, is_vmx) &&
		    !is_nested_fault_exit(call->seen_reason, is_vmx))
			shm->bad_exit = true;

		if (call == get_call(shm, call_offset(shm->nr_calls)) || shm->bad_exit) {
			/* Comes back with another batch. */
			GUEST_SYNC(0);
			gates = shm->gates;
			hv_l1_authorize(&l1, &gates);
			l1_adjust(&l1, &gates, is_vmx);
			guest_regs = shm->garbage;
		} else if (call->new_gates) {
			gates = call->gates;
			hv_l1_authorize(&l1, &gates);
		}

		guest_regs.rax = call->reply;
		if (is_vmx)
			vmwrite(GUEST_RIP, rip);
		else
			l1.svm->vmcb->save.rip = rip;
	}
}

/* What a VM is about; kinds differ in speed and in how much there is to find. */
static const struct kind {
	const char *name;
	enum hv_l2_mode mode;
	bool nested_paging;
	int weight;
} kinds[] = {
	{ "64-bit, nested paging",		 HV_L2_LONG,	    true,  8 },
	{ "64-bit, no nested paging",		 HV_L2_LONG,	    false, 3 },
	{ "64-bit CPL 3, nested paging",	 HV_L2_LONG_CPL3,   true,  1 },
	{ "64-bit CPL 3, no nested paging",	 HV_L2_LONG_CPL3,   false, 1 },
	{ "compatibility, nested paging",	 HV_L2_COMPAT,	    true,  3 },
	{ "compatibility, no nested paging",	 HV_L2_COMPAT,	    false, 1 },
	{ "compatibility CPL 3, nested paging",	 HV_L2_COMPAT_CPL3, true,  1 },
	{ "32-bit protected, nested paging",	 HV_L2_PROT32,	    true,  3 },
	{ "32-bit protected CPL 3, nested paging", HV_L2_PROT32_CPL3, true, 1 },
	{ "real mode, nested paging",		 HV_L2_REAL,	    true,  1 },
};

/* L1's mappings for L2, as the oracle knows them. */
struct mapping {
	u64 l2_gpa;
	u64 size;
	u64 l1_gpa;
	bool readable;
};

/* All that the fate of a call depends on, besides its registers. */
struct env {
	/* Of the episode. */
	const struct kind *kind;
	bool is_vmx;
	bool synic;
	bool may_post, may_signal;	/* privileges in CPUID */
	bool has_l2_flush;		/* HV_X64_NESTED_DIRECT_FLUSH in CPUID */
	int maxphyaddr;
	int table_bits;			/* of a GPA, that L1's page tables translate */
	u32 conns;			/* bitmap of conn_ids[] with an eventfd */
	u64 slot0_size;

	/* These change. */
	u64 mask;
	u64 served_id;			/* with RELAY_ONE_L2 */
	bool enforce_cpuid;
	bool xen;
	u64 guest_os_id;
	struct hv_l1_config gates;
	bool consent, inter_partition;	/* of L1, as of its last entry into L2 */
	struct mapping maps[NR_ARENA + 16];
	int nr_maps;
};

enum verdict { DELIVERED, STATUS, REFLECTED, UD, FLUSH, INTERCEPT, NR_VERDICTS };

static const char * const verdict_names[] = {
	"delivered", "status", "reflected", "#UD", "L2 TLB flush", "memory intercept",
};

struct outcome {
	enum verdict verdict;
	u64 rax;			/* STATUS */
	u64 input, params[2];		/* DELIVERED */
	u64 gpa;			/* INTERCEPT */
	bool slow;
	int conn;			/* signalled, or -1 */
	bool kept;			/* is counted by nested_hv_relayed_hcalls */
};

static const u32 conn_ids[] = { 0x42, 0, 0xffffff };

/*
 * The oracle.  Knows nothing of KVM's code but what kvm_hv_hypercall() does for
 * any guest, and the L2 TLB flush.
 */

static bool has_memslot(const struct env *env, u64 l1_gpa)
{
	return l1_gpa < env->slot0_size ||
	       (l1_gpa >= SHM && l1_gpa < SHM + SHM_SIZE) ||
	       (l1_gpa >= DATA && l1_gpa < RO_DATA + NR_RO_DATA * PAGE_SIZE);
}

/* Could L1 map this GPA? */
static bool oracle_is_gpa(const struct env *env, u64 l2_gpa)
{
	return !(l2_gpa >> env->maxphyaddr) && !(l2_gpa >> env->table_bits);
}

/* Does L1 let L2 read this GPA, and which GPA of L1's is it? */
static bool oracle_translate(const struct env *env, u64 l2_gpa, u64 *l1_gpa)
{
	const struct mapping *map = env->maps;
	int i;

	if (!oracle_is_gpa(env, l2_gpa))
		return false;

	if (!env->kind->nested_paging) {
		*l1_gpa = l2_gpa;
		return true;
	}

	for (i = 0; i < env->nr_maps; i++, map++) {
		if (l2_gpa >= map->l2_gpa && l2_gpa - map->l2_gpa < map->size) {
			*l1_gpa = map->l1_gpa + (l2_gpa - map->l2_gpa);
			return map->readable;
		}
	}

	return false;
}

/* Operands are in RCX, RDX and R8, or in pairs of 32-bit registers. */
static void oracle_operands(const struct env *env, const struct guest_regs *regs,
			    u64 *control, u64 *input, u64 *output)
{
	if (hv_l2_mode_is_64_bit(env->kind->mode)) {
		*control = regs->rcx;
		*input = regs->rdx;
		*output = regs->r8;
	} else {
		*control = regs->rdx << 32 | (u32)regs->rax;
		*input = regs->rbx << 32 | (u32)regs->rcx;
		*output = regs->rdi << 32 | (u32)regs->rsi;
	}
}

static bool is_flush_code(u16 code)
{
	return code == HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE ||
	       code == HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST ||
	       code == HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX ||
	       code == HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX;
}

static u64 class_of(u16 code)
{
	return code == HVCALL_POST_MESSAGE ? RELAY_POST :
	       code == HVCALL_SIGNAL_EVENT ? RELAY_SIGNAL : 0;
}

/* The conditions of api.rst, in its order. */
static bool oracle_is_kept(const struct env *env, u64 control)
{
	if (!(class_of(control) & env->mask))
		return false;
	if (!(control & BIT_ULL(31)))
		return false;
	if (!env->consent)
		return false;
	if ((env->mask & RELAY_INTER_PARTITION) && !env->inter_partition)
		return false;
	if ((env->mask & RELAY_ONE_L2) && env->served_id != env->gates.vm_id)
		return false;
	if (!(control & HV_HYPERCALL_FAST_BIT) && !env->kind->nested_paging)
		return false;
	if (!env->guest_os_id || env->xen)
		return false;

	return env->kind->mode != HV_L2_REAL && !hv_l2_mode_cpl(env->kind->mode);
}

static void set_status(struct outcome *want, u64 status)
{
	want->verdict = STATUS;
	want->rax = status;
}

/* HvSignalEvent as KVM does it for any guest.  Returns true if it's completed. */
static bool oracle_signal(const struct env *env, bool fast, u64 *input,
			  const u64 *data, struct outcome *want)
{
	u64 param;
	int i;

	if (!fast) {
		if (!has_memslot(env, *input)) {
			set_status(want, HV_STATUS_INVALID_ALIGNMENT);
			return true;
		}
		*input = *data;
	}
	param = *input;

	/* A flag number is userspace's business. */
	if (param & GENMASK_ULL(47, 32))
		return false;

	if (param & ~GENMASK_ULL(23, 0)) {
		set_status(want, HV_STATUS_INVALID_HYPERCALL_INPUT);
		return true;
	}

	for (i = 0; i < ARRAY_SIZE(conn_ids); i++) {
		if (env->conns & BIT(i) && param == conn_ids[i]) {
			set_status(want, HV_STATUS_SUCCESS);
			want->conn = i;
			return true;
		}
	}

	return false;
}

/* Predict a call with these registers; @data(@gpa) is the u64 at an L1 GPA. */
static void oracle(const struct env *env, const struct guest_regs *regs,
		   const u64 *(*data)(u64 gpa), struct outcome *want)
{
	u64 control, input, output, size;
	bool fast, post, allowed;

	oracle_operands(env, regs, &control, &input, &output);
	fast = control & HV_HYPERCALL_FAST_BIT;
	post = (u16)control == HVCALL_POST_MESSAGE;
	*want = (struct outcome) { .conn = -1 };

	if (!oracle_is_kept(env, control)) {
		want->verdict = env->gates.no_intercept ? UD : REFLECTED;

		/*
		 * With L1's consent and if CPUID has the feature, L2's TLB is
		 * flushed in L0, mask or not.  Whether there's anything to be
		 * flushed and what the status is depends on data that L2 has no
		 * control of here, i.e. is left open.
		 */
		if (is_flush_code(control) && env->has_l2_flush && env->consent)
			want->verdict = env->kind->mode == HV_L2_REAL ||
					hv_l2_mode_cpl(env->kind->mode) ? UD : FLUSH;
		return;
	}

	want->kept = true;

	if (!fast) {
		size = post ? HV_POST_MESSAGE_INPUT_SIZE : sizeof(u64);
		if (input % 8 || input % PAGE_SIZE + size > PAGE_SIZE ||
		    !oracle_is_gpa(env, input))
			return set_status(want, HV_STATUS_INVALID_ALIGNMENT);
		want->slow = true;
		want->gpa = input;
		if (!oracle_translate(env, input, &input)) {
			want->verdict = INTERCEPT;
			want->kept = false;
			return;
		}
	}

	/* From here on as for a call of L1's, without the nested bit. */
	control &= ~BIT_ULL(31);

	allowed = post ? env->may_post : env->may_signal;
	if (env->enforce_cpuid && !allowed)
		return set_status(want, HV_STATUS_ACCESS_DENIED);

	/* Reserved bits, a variable sized header, a rep count or index. */
	if (control & (GENMASK_ULL(63, 32) | GENMASK_ULL(30, 17)))
		return set_status(want, HV_STATUS_INVALID_HYPERCALL_INPUT);

	if (!post && oracle_signal(env, fast, &input, fast ? NULL : data(input), want))
		return;

	if (!env->synic)
		return set_status(want, HV_STATUS_INVALID_HYPERCALL_INPUT);

	want->verdict = DELIVERED;
	/* KVM has read the parameter of a signal. */
	want->input = post ? control : control | HV_HYPERCALL_FAST_BIT;
	want->params[0] = input;
	want->params[1] = output;
}

/*
 * L1 enters L2: this is when KVM looks at the VP assist page and at the VMCB,
 * at the latter's enlightenments only if L1 is a guest of Hyper-V by then.
 */
static void oracle_enter(struct env *env)
{
	struct hv_l1_config *gates = &env->gates;

	env->consent = gates->enlightened && gates->direct_vmcs &&
		       gates->direct_assist && !gates->no_vp_assist &&
		       (env->is_vmx || env->guest_os_id);
	env->inter_partition = gates->hypercall_controls & HV_INTER_PARTITION_COMM;
}

/* L1 handles an exit, and then enters L2 again. */
static void oracle_l1(struct env *env, const struct call *call)
{
	if (call->new_gates) {
		env->gates = call->gates;
		env->guest_os_id = call->gates.guest_os_id;
	}
	oracle_enter(env);
}

/* A run, and its current episode and batch. */
struct fuzzer {
	u64 seed;		/* of the episode */
	u64 rng;
	u64 nr_episode_calls;
	bool failed;

	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct shm *shm;
	struct call *calls;
	struct env env;
	u64 insn_rip;
	u64 *arena_ptes, *huge_2m_pte, *huge_1g_pte, *bad_table_pte;
	u64 bad_table_pde;	/* the good one */
	bool calls_flush;	/* in this batch */

	struct env batch_env;	/* at the start of the batch */
	struct outcome want[MAX_CALLS];
	u64 nr_exits[MAX_CALLS];
	u64 reply[MAX_CALLS];	/* to what was delivered */
	u64 next;		/* call that is to be delivered next */
	u64 nr_kept, nr_kept_before;
	u64 nr_signals[ARRAY_SIZE(conn_ids)];
	int eventfds[ARRAY_SIZE(conn_ids)];

	u64 nr_calls;
	u64 nr_of_kind[ARRAY_SIZE(kinds)];
	u64 nr_verdicts[NR_VERDICTS];
	u64 nr_all_signals;
	u64 nr_status[HV_STATUS_ACCESS_DENIED + 1];
	u64 nr_delivered[2][2];	/* by post, fast in L2's control word */
};

/* splitmix64 */
static u64 rnd64(struct fuzzer *f)
{
	u64 z = f->rng += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static u64 rnd(struct fuzzer *f, u64 n)
{
	return (rnd64(f) >> 32) % n;
}

static bool one_in(struct fuzzer *f, u64 n)
{
	return !rnd(f, n);
}

/* For data(), which has no other way to know. */
static struct fuzzer *fuzzer;

static const u64 *l1_data(u64 gpa)
{
	return has_memslot(&fuzzer->env, gpa) ? addr_gpa2hva(fuzzer->vm, gpa) : NULL;
}

/* Nested page tables. */

static u64 *get_pte(struct kvm_vm *vm, struct kvm_mmu *mmu, u64 addr, int level)
{
	u64 table = mmu->pgd;
	int i = mmu->pgtable_levels;
	u64 *pte;

	for (;; i--) {
		pte = addr_gpa2hva(vm, table);
		pte += addr >> (PAGE_SHIFT + 9 * (i - 1)) & 511;
		if (i == level)
			return pte;
		table = PTE_GET_PA(*pte);
	}
}

/* What a translation may end at; a third of all pages are ordinary. */
enum page_kind {
	PAGE_DATA, PAGE_RO, PAGE_NX, PAGE_NO_READ, PAGE_WRITE_ONLY,
	PAGE_NOT_PRESENT, PAGE_RESERVED_BIT, PAGE_HOLE, PAGE_MMIO_HOLE,
	PAGE_TOP, PAGE_L1_GPA_0, NR_PAGE_KINDS
};

static u64 random_data_gpa(struct fuzzer *f)
{
	return DATA + rnd(f, NR_DATA + NR_RO_DATA) * PAGE_SIZE;
}

static u64 first_illegal_gpa(struct fuzzer *f)
{
	return BIT_ULL(f->env.maxphyaddr);
}

/* Returns an entry for a page of @kind, fills in @map for the oracle. */
static u64 make_pte(struct fuzzer *f, enum page_kind kind, u64 gpa, struct mapping *map)
{
	struct kvm_mmu *mmu = &f->vm->stage2_mmu;
	u64 pte = PTE_PRESENT_MASK(mmu) | PTE_READABLE_MASK(mmu) |
		  PTE_WRITABLE_MASK(mmu) | PTE_EXECUTABLE_MASK(mmu) |
		  PTE_ALWAYS_SET_MASK(mmu);
	bool readable = true;

	switch (kind) {
	case PAGE_RO:
		pte &= ~PTE_WRITABLE_MASK(mmu);
		break;
	case PAGE_NX:
		pte &= ~PTE_EXECUTABLE_MASK(mmu);
		pte |= PTE_NX_MASK(mmu);
		break;
	case PAGE_NO_READ:
		/* EPT: execute only, or invalid without it.  NPT: supervisor. */
		pte &= ~(PTE_READABLE_MASK(mmu) | PTE_WRITABLE_MASK(mmu));
		if (!f->env.is_vmx)
			pte |= PTE_WRITABLE_MASK(mmu);
		pte &= ~PTE_ALWAYS_SET_MASK(mmu);
		readable = false;
		break;
	case PAGE_WRITE_ONLY:
		/* Not valid on EPT, doesn't exist on NPT. */
		pte &= ~PTE_READABLE_MASK(mmu);
		readable = !f->env.is_vmx;
		break;
	case PAGE_NOT_PRESENT:
		pte &= PTE_PRESENT_MASK(mmu) ? ~PTE_PRESENT_MASK(mmu) : 0;
		readable = false;
		break;
	case PAGE_RESERVED_BIT:
		if (f->env.maxphyaddr < 52)
			gpa |= BIT_ULL(f->env.maxphyaddr + rnd(f, 52 - f->env.maxphyaddr));
		else
			pte = 0;
		readable = false;
		break;
	case PAGE_HOLE:
		gpa = HOLE + (gpa & (PAGE_SIZE * 512 - 1));
		break;
	case PAGE_MMIO_HOLE:
		gpa = MMIO_HOLE;
		break;
	case PAGE_TOP:
		gpa = first_illegal_gpa(f) - PAGE_SIZE;
		break;
	case PAGE_L1_GPA_0:
		gpa = 0;
		break;
	default:
		break;
	}

	map->l1_gpa = gpa;
	map->readable = readable;
	return pte | gpa;
}

static enum page_kind random_page_kind(struct fuzzer *f)
{
	return one_in(f, 3) ? PAGE_DATA : rnd(f, NR_PAGE_KINDS);
}

static void change_arena_page(struct fuzzer *f, int i)
{
	f->arena_ptes[i] = make_pte(f, random_page_kind(f), random_data_gpa(f),
				    &f->env.maps[i]);
}

/* The page directory entry of one mapped page, or none, or a bad one. */
static void change_bad_table(struct fuzzer *f)
{
	struct kvm_mmu *mmu = &f->vm->stage2_mmu;
	struct mapping *map = &f->env.maps[NR_ARENA];
	u64 pde = f->bad_table_pde;

	switch (rnd(f, 5)) {
	case 0:
		map->readable = true;
		break;
	case 1:
		pde = 0;
		map->readable = false;
		break;
	case 2:
		/* A table that isn't there. */
		pde = (pde & ~PHYSICAL_PAGE_MASK) | HOLE;
		map->readable = false;
		break;
	case 3:
		pde &= ~(PTE_READABLE_MASK(mmu) | PTE_WRITABLE_MASK(mmu) |
			 PTE_ALWAYS_SET_MASK(mmu));
		map->readable = false;
		break;
	case 4:
		map->readable = f->env.maxphyaddr >= 52;
		if (!map->readable)
			pde |= first_illegal_gpa(f);
		break;
	}
	*f->bad_table_pte = pde;
}

static void change_huge_pages(struct fuzzer *f)
{
	struct kvm_mmu *mmu = &f->vm->stage2_mmu;
	struct mapping *map = &f->env.maps[NR_ARENA + 1];
	static const enum page_kind kinds_2m[] = {
		PAGE_DATA, PAGE_DATA, PAGE_RO, PAGE_NO_READ, PAGE_RESERVED_BIT, PAGE_HOLE,
	};

	*f->huge_2m_pte = PTE_HUGE_MASK(mmu) |
			  make_pte(f, kinds_2m[rnd(f, ARRAY_SIZE(kinds_2m))], DATA, map);
	/* Bits below the page's size are reserved. */
	if (one_in(f, 6)) {
		*f->huge_2m_pte |= BIT_ULL(13 + rnd(f, 8));
		map->readable = false;
	}

	if (f->huge_1g_pte)
		*f->huge_1g_pte = PTE_HUGE_MASK(mmu) |
				  make_pte(f, one_in(f, 4) ? PAGE_RO : PAGE_DATA, 0, map + 1);
}

static void add_mapping(struct fuzzer *f, u64 l2_gpa, u64 size, u64 l1_gpa)
{
	TEST_ASSERT(f->env.nr_maps < ARRAY_SIZE(f->env.maps), "Too many mappings");
	f->env.maps[f->env.nr_maps++] = (struct mapping) {
		.l2_gpa = l2_gpa, .size = size, .l1_gpa = l1_gpa, .readable = true,
	};
}

/* Single pages of L2 that are legal or not, depending on its MAXPHYADDR. */
static const int high_bits[] = { 36, 38, 39, 40, 44, 46 };

static bool has_1g_pages(struct fuzzer *f)
{
	if (f->env.is_vmx)
		return kvm_get_feature_msr(MSR_IA32_VMX_EPT_VPID_CAP) &
		       VMX_EPT_VPID_CAP_1G_PAGES;

	return kvm_cpu_has(X86_FEATURE_GBPAGES);
}

static void create_nested_tables(struct fuzzer *f)
{
	struct kvm_vm *vm = f->vm;
	struct kvm_mmu *mmu = &vm->stage2_mmu;
	u64 gpa;
	int i;

	/* The first NR_ARENA + 3 mappings are those that change. */
	for (i = 0; i < NR_ARENA; i++) {
		gpa = ARENA + i * PAGE_SIZE;
		tdp_map(vm, gpa, DATA, PAGE_SIZE);
		add_mapping(f, gpa, PAGE_SIZE, DATA);
	}
	f->arena_ptes = get_pte(vm, mmu, ARENA, PG_LEVEL_4K);

	tdp_map(vm, BAD_TABLE, DATA, PAGE_SIZE);
	add_mapping(f, BAD_TABLE, PAGE_SIZE, DATA);
	f->bad_table_pte = get_pte(vm, mmu, BAD_TABLE, PG_LEVEL_2M);
	f->bad_table_pde = *f->bad_table_pte;

	/* To be replaced by one page, of which only tables are needed. */
	tdp_map(vm, HUGE_2M, DATA, PAGE_SIZE);
	add_mapping(f, HUGE_2M, PG_SIZE_2M, DATA);
	f->huge_2m_pte = get_pte(vm, mmu, HUGE_2M, PG_LEVEL_2M);
	f->huge_1g_pte = NULL;
	if (has_1g_pages(f)) {
		tdp_map(vm, HUGE_1G, DATA, PAGE_SIZE);
		add_mapping(f, HUGE_1G, PG_SIZE_1G, 0);
		f->huge_1g_pte = get_pte(vm, mmu, HUGE_1G, PG_LEVEL_1G);
	}

	for (i = 0; i < ARRAY_SIZE(high_bits); i++) {
		gpa = BIT_ULL(high_bits[i]);
		tdp_map(vm, gpa, DATA, PAGE_SIZE);
		add_mapping(f, gpa, PAGE_SIZE, DATA);
	}

	/* What L2 needs itself; of slot 0, only the first page has calls aimed at it. */
	tdp_map(vm, SHM, SHM, SHM_SIZE);
	add_mapping(f, SHM, SHM_SIZE, SHM);
	tdp_identity_map_default_memslots(vm);
	add_mapping(f, 0, PAGE_SIZE, 0);
}

/* Random calls. */

/* A page of L2's, maybe one that doesn't exist. */
static u64 random_l2_page(struct fuzzer *f)
{
	u64 top = first_illegal_gpa(f);

	if (!f->env.kind->nested_paging) {
		switch (rnd(f, 14)) {
		case 0:
			return HOLE + rnd(f, 4) * PAGE_SIZE;
		case 1:
			return MMIO_HOLE;
		case 2:
			return 0;
		case 3:
			return top - PAGE_SIZE;
		case 4:
			return top;
		case 5:
			return BIT_ULL(high_bits[rnd(f, ARRAY_SIZE(high_bits))]);
		case 6:
			return DATA + (NR_DATA + NR_RO_DATA) * PAGE_SIZE;
		case 7:
			return one_in(f, 2) ? SHM : APIC_PAGE;
		case 8:
			return rnd64(f) & PAGE_MASK;
		default:
			return random_data_gpa(f);
		}
	}

	switch (rnd(f, 20)) {
	case 0 ... 1:
		return HUGE_2M + rnd(f, one_in(f, 2) ? 512 : NR_DATA + 1) * PAGE_SIZE;
	case 2 ... 3:
		switch (rnd(f, 4)) {
		case 0:
			return HUGE_1G;
		case 1:
			return HUGE_1G + HOLE;
		case 2:
			return HUGE_1G + rnd(f, PG_SIZE_1G / PAGE_SIZE) * PAGE_SIZE;
		default:
			return HUGE_1G + random_data_gpa(f);
		}
	case 4 ... 5:
		return BAD_TABLE + rnd(f, 2) * PAGE_SIZE;
	case 6 ... 7:
		return BIT_ULL(high_bits[rnd(f, ARRAY_SIZE(high_bits))]);
	case 8:
		return 0;
	case 9:
		return one_in(f, 2) ? SHM : ARENA + NR_ARENA * PAGE_SIZE;
	case 10:
		/* L1's, but not L2's. */
		return random_data_gpa(f);
	case 11:
		return one_in(f, 2) ? ARENA - PAGE_SIZE : top - PAGE_SIZE;
	case 12:
		return rnd64(f) & PAGE_MASK;
	default:
		return ARENA + rnd(f, NR_ARENA) * PAGE_SIZE;
	}
}

static u64 random_offset(struct fuzzer *f)
{
	switch (rnd(f, 12)) {
	case 0:
		return 0;
	case 1:
		return PAGE_SIZE - HV_POST_MESSAGE_INPUT_SIZE;
	case 2:
		return PAGE_SIZE - HV_POST_MESSAGE_INPUT_SIZE + rnd(f, 32) * 8;
	case 3:
		return PAGE_SIZE - 8;
	case 4:
		return rnd(f, PAGE_SIZE);
	case 5:
		return rnd(f, 512) * 8 + 1 + rnd(f, 7);
	default:
		return rnd(f, PAGE_SIZE - HV_POST_MESSAGE_INPUT_SIZE) / 8 * 8;
	}
}

/* What can be predicted to be at that L1 GPA, namely data or nothing. */
static bool is_stable(struct fuzzer *f, u64 l1_gpa)
{
	if (l1_gpa < PAGE_SIZE || (l1_gpa >= DATA && l1_gpa < DATA + PG_SIZE_2M))
		return true;

	return !has_memslot(&f->env, l1_gpa) && (l1_gpa & PAGE_MASK) != APIC_PAGE;
}

/* Can the oracle know what becomes of a call with that GPA? */
static bool is_known(struct fuzzer *f, u64 gpa, bool signal)
{
	u64 l1_gpa;

	/* Some of L1's pages are mapped for L2 to run, and some aren't. */
	if (f->env.kind->nested_paging && gpa >= PAGE_SIZE && gpa < f->env.slot0_size)
		return false;

	return !signal || !oracle_translate(&f->env, gpa, &l1_gpa) || is_stable(f, l1_gpa);
}

static u64 random_gpa(struct fuzzer *f, bool signal)
{
	u64 gpa;

	do {
		gpa = random_l2_page(f) + random_offset(f);
		if (one_in(f, 12))
			gpa |= BIT_ULL(36 + rnd(f, 28));
	} while (!is_known(f, gpa, signal));

	return gpa;
}

/* Input of HvSignalEvent. */
static u64 random_signal(struct fuzzer *f)
{
	u64 signal = conn_ids[rnd(f, ARRAY_SIZE(conn_ids))];

	switch (rnd(f, 8)) {
	case 0:
		return signal + 1;
	case 1:
		return signal | BIT_ULL(32 + rnd(f, 16));
	case 2:
		return signal | BIT_ULL(24 + rnd(f, 40));
	case 3:
		return rnd64(f);
	default:
		return signal;
	}
}

static u64 random_control(struct fuzzer *f)
{
	static const u16 flushes[] = {
		HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE, HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST,
		HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX, HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX,
	};
	u64 control = HV_HYPERCALL_NESTED |
		      (one_in(f, 2) ? HVCALL_POST_MESSAGE : HVCALL_SIGNAL_EVENT);

	if (one_in(f, 2))
		control |= HV_HYPERCALL_FAST_BIT;

	switch (rnd(f, 40)) {
	case 0 ... 2:
		return control ^ HV_HYPERCALL_NESTED;
	case 3:
		/* The nested bit in another place. */
		return (control ^ HV_HYPERCALL_NESTED) | BIT_ULL(one_in(f, 2) ? 63 : 30);
	case 4 ... 5:
		return control ^ BIT_ULL(rnd(f, 16));
	case 6:
		return (control & ~0xffffULL) | rnd(f, 0x10000);
	case 7 ... 10:
		return control | BIT_ULL(17 + rnd(f, 47));
	case 11:
		return control | (rnd64(f) & ~GENMASK_ULL(31, 0));
	case 12:
		return rnd64(f);
	case 13:
		return (rnd64(f) & ~0xffffULL) | (control & 0xffff);
	case 14:
		if (!f->calls_flush)
			return control;
		/* Mostly without what makes it fail at once. */
		control = (control & HV_HYPERCALL_FAST_BIT) |
			  flushes[rnd(f, ARRAY_SIZE(flushes))];
		if (one_in(f, 4))
			control |= HV_HYPERCALL_NESTED;
		if (one_in(f, 2))
			control |= BIT_ULL(32 + rnd(f, 12));
		return control;
	default:
		return control;
	}
}

static u64 random_mask(struct fuzzer *f)
{
	u64 mask = one_in(f, 4) ? rnd(f, 4) : RELAY_POST | RELAY_SIGNAL;

	if (one_in(f, 3))
		mask |= RELAY_INTER_PARTITION;
	if (one_in(f, 2))
		mask |= RELAY_ONE_L2;
	return mask;
}

static u64 random_guest_os_id(struct fuzzer *f)
{
	if (one_in(f, 20))
		return 0;
	return one_in(f, 4) ? rnd64(f) | 1 : HYPERV_LINUX_OS_ID;
}

/* L1's consent; most of the time, it gives it. */
static void random_gates(struct fuzzer *f, struct hv_l1_config *gates)
{
	bool may_disable = f->env.is_vmx ? !gates->enlightened : true;

	gates->guest_os_id = random_guest_os_id(f);
	gates->direct_vmcs = !one_in(f, 12);
	gates->direct_assist = !one_in(f, 12);
	gates->no_vp_assist = may_disable && one_in(f, 20);
	gates->hypercall_controls = one_in(f, 2) ? HV_INTER_PARTITION_COMM : rnd64(f);
}

static void random_regs(struct fuzzer *f, struct guest_regs *regs)
{
	u64 *reg = (u64 *)regs;
	int i;

	for (i = 0; i < sizeof(*regs) / sizeof(*reg); i++)
		reg[i] = rnd64(f);
	regs->rflags = (regs->rflags & FLAGS_MASK) | X86_EFLAGS_FIXED;
}

static void random_call(struct fuzzer *f, struct call *call)
{
	struct guest_regs *regs = &call->in;
	u64 control, input;
	bool signal;

	memset(call, 0, sizeof(*call));
	random_regs(f, regs);
	call->reply = rnd64(f);
	if (one_in(f, 8)) {
		call->new_gates = true;
		call->gates = f->env.gates;
		random_gates(f, &call->gates);
	}

	/* Without flush codes, which may need more than random data. */
	do
		control = random_control(f);
	while (is_flush_code(control) && !f->calls_flush);

	signal = (u16)control == HVCALL_SIGNAL_EVENT;
	if (control & HV_HYPERCALL_FAST_BIT)
		input = signal ? random_signal(f) : rnd64(f);
	else
		input = random_gpa(f, signal);

	if (hv_l2_mode_is_64_bit(f->env.kind->mode)) {
		regs->rcx = control;
		regs->rdx = input;
	} else {
		regs->rax = control;
		regs->rdx = control >> 32;
		regs->rbx = input >> 32;
		regs->rcx = input;
	}
}

static void random_data_page(struct fuzzer *f, u64 gpa)
{
	u64 *data = addr_gpa2hva(f->vm, gpa);
	int i;

	for (i = 0; i < PAGE_SIZE / sizeof(*data); i++)
		data[i] = random_signal(f);
}

/* The VM's configuration, by userspace. */

static void set_mask(struct fuzzer *f, u64 mask)
{
	u64 id = f->env.gates.vm_id;
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_NESTED_HYPERV_HCALL_RELAY,
		.args[0] = mask,
	};

	/* Mostly the ID of this L2, or one that differs in a bit. */
	if (mask & RELAY_ONE_L2)
		cap.args[1] = !one_in(f, 5) ? id : one_in(f, 4) ? 0 : id ^ BIT_ULL(rnd(f, 64));

	f->env.mask = mask;
	f->env.served_id = cap.args[1];
	vm_ioctl(f->vm, KVM_ENABLE_CAP, &cap);
}

static void set_guest_os_id(struct fuzzer *f, u64 id)
{
	f->env.guest_os_id = id;
	vcpu_set_msr(f->vcpu, HV_X64_MSR_GUEST_OS_ID, id);
}

static void set_enforce_cpuid(struct fuzzer *f, bool enforce)
{
	f->env.enforce_cpuid = enforce;
	vcpu_enable_cap(f->vcpu, KVM_CAP_HYPERV_ENFORCE_CPUID, enforce);
}

static void set_xen(struct fuzzer *f, bool xen)
{
	struct kvm_xen_hvm_config config = {
		.flags = xen ? KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL : 0,
		.msr = xen ? 0x40000200 : 0,
	};

	if (xen == f->env.xen ||
	    !(kvm_check_cap(KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL))
		return;

	f->env.xen = xen;
	vm_ioctl(f->vm, KVM_XEN_HVM_CONFIG, &config);
}

/* While a call is in userspace, which must not make a difference to it. */
static void change_something(struct fuzzer *f)
{
	/* Without a gate, there's no next time in this batch: don't close many. */
	switch (rnd(f, 24)) {
	case 0:
		set_mask(f, random_mask(f));
		break;
	case 1:
		set_guest_os_id(f, random_guest_os_id(f));
		break;
	case 2:
		set_enforce_cpuid(f, !f->env.enforce_cpuid);
		break;
	case 3:
		if (one_in(f, 16))
			set_xen(f, true);
		break;
	case 4 ... 6:
		if (f->env.kind->nested_paging)
			change_arena_page(f, rnd(f, NR_ARENA));
		break;
	case 7:
		vcpu_run_complete_io(f->vcpu);
		break;
	}
}

/* Failures. */

static void print_regs(const char *what, const struct guest_regs *r)
{
	ksft_print_msg("  %s rax %lx rcx %lx rdx %lx rbx %lx rsp %lx rbp %lx rsi %lx rdi %lx\n",
		       what, r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi);
	ksft_print_msg("  %s r8 %lx r9 %lx r10 %lx r11 %lx r12 %lx r13 %lx r14 %lx r15 %lx\n",
		       what, r->r8, r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15);
	ksft_print_msg("  %s rflags %lx\n", what, r->rflags);
}

static void print_env(const char *when, const struct env *env)
{
	const struct hv_l1_config *gates = &env->gates;

	ksft_print_msg("  %s: mask %lx of VM %lx, Xen %d, enforced CPUID %d, guest OS ID %lx,\n",
		       when, env->mask, env->served_id, env->xen, env->enforce_cpuid,
		       env->guest_os_id);
	ksft_print_msg("    VM ID %lx, inter-partition %d,\n", gates->vm_id,
		       env->inter_partition);
	ksft_print_msg("    consent %d (enlightened %d, VMCS or VMCB %d, assist page %d%s)\n",
		       env->consent, gates->enlightened, gates->direct_vmcs,
		       gates->direct_assist, gates->no_vp_assist ? " but disabled" : "");
}

static void print_call(struct fuzzer *f, u64 i)
{
	const struct outcome *want = &f->want[i];
	const struct call *call = &f->calls[i];
	u64 control, input, output, l1_gpa;
	const struct env *env = &f->env;

	oracle_operands(env, &call->in, &control, &input, &output);
	ksft_print_msg("call %lu of the batch: control %lx, input %lx, output %lx\n",
		       i, control, input, output);
	print_regs("in: ", &call->in);
	print_regs("out:", &call->out);
	if (!(control & HV_HYPERCALL_FAST_BIT)) {
		if (!oracle_translate(env, input, &l1_gpa))
			ksft_print_msg("  input isn't mapped for L2\n");
		else if (!l1_data(l1_gpa & ~7ULL))
			ksft_print_msg("  input is at L1 GPA %lx, no memslot\n", l1_gpa);
		else
			ksft_print_msg("  input is at L1 GPA %lx, data %lx\n", l1_gpa,
				       *l1_data(l1_gpa & ~7ULL));
	}
	ksft_print_msg("  predicted: %s", verdict_names[want->verdict]);
	if (want->verdict == STATUS)
		printf(" %lx%s", want->rax, want->conn < 0 ? "" : " with a signal");
	if (want->verdict == DELIVERED)
		printf(", input %lx, params %lx %lx, reply %lx", want->input,
		       want->params[0], want->params[1], f->reply[i]);
	printf("\n");
	ksft_print_msg("  observed: %lu exits to userspace, %u to L1", f->nr_exits[i],
		       call->nr_seen);
	if (call->nr_seen)
		printf(", reason %lx, RIP %lx, GPA %lx, info %lx, reply %lx",
		       call->seen_reason, call->seen_rip, call->seen_gpa, call->seen_info,
		       call->reply);
	printf("\n");
	if (call->nr_seen)
		print_regs("L1: ", &call->seen);
}

static void print_replay(struct fuzzer *f)
{
	ksft_print_msg("replay: %s -s 0x%lx -n %lu\n", program_invocation_short_name, f->seed,
		       f->nr_episode_calls + f->shm->nr_calls);
}

static void __printf(3, 4) fail(struct fuzzer *f, u64 i, const char *fmt, ...)
{
	const struct env *env = &f->env;
	va_list args;

	if (f->failed)
		return;
	f->failed = true;

	fflush(stdout);
	printf("# FAILED: ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	print_replay(f);
	ksft_print_msg("%s%s\n", env->kind->name,
		       env->gates.no_intercept ? ", VMMCALL not intercepted" : "");
	ksft_print_msg("  MAXPHYADDR %d, SynIC %d, may post %d, may signal %d, L2 flush %d,",
		       env->maxphyaddr, env->synic, env->may_post, env->may_signal,
		       env->has_l2_flush);
	printf(" connections %x\n", env->conns);
	print_env("at the start of the batch", &f->batch_env);
	print_env("by now", env);
	if (i < f->shm->nr_calls)
		print_call(f, i);
}

static void timed_out(int signal)
{
	printf("# FAILED: a batch takes more than %d s\n", BATCH_TIMEOUT);
	print_replay(fuzzer);
	fflush(stdout);
	_exit(KSFT_FAIL);
}

/* Batches. */

/* Predict calls up to the next one that is to be delivered. */
static void predict(struct fuzzer *f)
{
	struct outcome *want;
	struct call *call;

	for (; f->next < f->shm->nr_calls; f->next++) {
		call = &f->calls[f->next];
		want = &f->want[f->next];
		oracle(&f->env, &call->in, l1_data, want);

		f->nr_verdicts[want->verdict]++;
		f->nr_kept += want->kept;
		if (want->verdict == STATUS && want->rax < ARRAY_SIZE(f->nr_status))
			f->nr_status[want->rax]++;
		if (want->conn >= 0)
			f->nr_signals[want->conn]++;
		if (want->verdict == DELIVERED) {
			f->nr_delivered[(u16)want->input == HVCALL_POST_MESSAGE]
				       [!want->slow]++;
			return;
		}
		if (want->verdict == REFLECTED || want->verdict == UD ||
		    want->verdict == INTERCEPT)
			oracle_l1(&f->env, call);
	}
}

static void make_batch(struct fuzzer *f)
{
	u64 max = f->env.kind->mode == HV_L2_REAL ? MAX_CALLS_REAL : MAX_CALLS;
	struct shm *shm = f->shm;
	int i;

	f->calls_flush = one_in(f, 2);
	set_mask(f, random_mask(f));
	set_xen(f, one_in(f, 16));
	set_enforce_cpuid(f, one_in(f, 4));
	random_data_page(f, random_data_gpa(f));
	if (f->env.kind->nested_paging) {
		for (i = 0; i < NR_ARENA; i++)
			change_arena_page(f, i);
		change_bad_table(f);
		change_huge_pages(f);
	}

	random_gates(f, &f->env.gates);
	/* Once in a while only, as nothing is delivered without it. */
	f->env.gates.no_intercept = !f->env.is_vmx && one_in(f, 4);
	f->env.guest_os_id = f->env.gates.guest_os_id;
	oracle_enter(&f->env);

	shm->nr_calls = max;
	shm->gates = f->env.gates;
	random_regs(f, &shm->garbage);
	for (i = 0; i < max; i++)
		random_call(f, &f->calls[i]);

	/* One that L1 gets for sure. */
	memset(&f->calls[max], 0, sizeof(*f->calls));
	random_regs(f, &f->calls[max].in);
	f->calls[max].in.rax = 0;
	f->calls[max].in.rcx = 0;
	f->calls[max].in.rdx = 0;

	memset(f->nr_exits, 0, sizeof(f->nr_exits));
	memset(f->nr_signals, 0, sizeof(f->nr_signals));
	f->nr_kept = 0;
	f->nr_kept_before = vcpu_get_stat(f->vcpu, nested_hv_relayed_hcalls);
	f->next = 0;
	f->batch_env = f->env;
}

static void check_exit(struct fuzzer *f)
{
	struct kvm_hyperv_exit *exit = &f->vcpu->run->hyperv;
	u64 i = (f->shm->cur - SHM_CALLS) / sizeof(struct call);
	struct outcome *want = &f->want[i];

	if (exit->type != KVM_EXIT_HYPERV_HCALL || i >= f->shm->nr_calls)
		return fail(f, i, "Unexpected KVM_EXIT_HYPERV, type %u", exit->type);

	f->nr_exits[i]++;
	f->reply[i] = rnd64(f);
	if (i != f->next)
		return fail(f, min(i, f->next), "Delivered call %lu instead of %lu", i, f->next);

	if (exit->u.hcall.input != want->input || exit->u.hcall.params[0] != want->params[0] ||
	    exit->u.hcall.params[1] != want->params[1])
		return fail(f, i, "Delivered with input %llx, params %llx %llx",
			    exit->u.hcall.input, exit->u.hcall.params[0],
			    exit->u.hcall.params[1]);
	if (exit->u.hcall.flags != KVM_EXIT_HYPERV_HCALL_FROM_L2 ||
	    exit->u.hcall.l2_vm_id != f->env.gates.vm_id ||
	    exit->u.hcall.result != HV_STATUS_INVALID_HYPERCALL_CODE)
		return fail(f, i, "Delivered with flags %x, VM ID %llx, result %llx",
			    exit->u.hcall.flags, exit->u.hcall.l2_vm_id,
			    exit->u.hcall.result);

	exit->u.hcall.result = f->reply[i];
	change_something(f);
	f->next++;
	predict(f);
}

/* Are all registers but RAX, and EDX if @edx, the same?  RF is the CPU's. */
static bool same_regs(struct fuzzer *f, const struct guest_regs *a,
		      const struct guest_regs *b, bool rax, bool edx)
{
	bool is_64_bit = hv_l2_mode_is_64_bit(f->env.kind->mode);
	u64 mask = is_64_bit ? -1ull : (u32)-1;
	const u64 *x = (const u64 *)a, *y = (const u64 *)b;
	int i, n = sizeof(*a) / sizeof(*x);

	for (i = 0; i < n; i++) {
		if (x + i == &a->rax && !rax)
			continue;
		if (x + i == &a->rdx && !edx)
			continue;
		if (x + i >= &a->r8 && x + i <= &a->r15 && !is_64_bit)
			continue;
		if (x + i == &a->rflags)
			mask = FLAGS_MASK;
		if ((x[i] ^ y[i]) & mask)
			return false;
	}

	return true;
}

static bool has_result(struct fuzzer *f, const struct call *call, u64 result)
{
	if (hv_l2_mode_is_64_bit(f->env.kind->mode))
		return call->out.rax == result;

	return (u32)call->out.rax == (u32)result && (u32)call->out.rdx == result >> 32;
}

/* A read of the input, of which no more is known than its GPA. */
static bool is_read_of(struct fuzzer *f, const struct call *call, u64 gpa)
{
	u64 info = call->seen_info;

	if (!is_nested_fault_exit(call->seen_reason, f->env.is_vmx) || call->seen_gpa != gpa)
		return false;

	if (!f->env.is_vmx)
		return (info & ~(u64)(PFERR_PRESENT_MASK | PFERR_RSVD_MASK)) ==
		       (PFERR_GUEST_FINAL_MASK | PFERR_USER_MASK);

	if (call->seen_reason == EXIT_REASON_EPT_MISCONFIG)
		return !info;

	return (info & ~(u64)(EPT_VIOLATION_PROT_READ | EPT_VIOLATION_PROT_WRITE |
			      EPT_VIOLATION_PROT_EXEC)) == EPT_VIOLATION_ACC_READ;
}

static void check_call(struct fuzzer *f, u64 i)
{
	bool is_64_bit = hv_l2_mode_is_64_bit(f->env.kind->mode);
	const struct outcome *want = &f->want[i];
	const struct call *call = &f->calls[i];
	bool to_l1 = want->verdict == REFLECTED || want->verdict == UD ||
		     want->verdict == INTERCEPT;
	bool delivered = want->verdict == DELIVERED;

	if (f->nr_exits[i] != delivered || call->nr_seen != to_l1)
		return fail(f, i, "Not the outcome predicted");

	if (!same_regs(f, &call->in, &call->out, false, is_64_bit || to_l1))
		return fail(f, i, "L2's registers changed");

	switch (want->verdict) {
	case DELIVERED:
		if (!has_result(f, call, f->reply[i]))
			fail(f, i, "L2 doesn't have userspace's result");
		break;
	case STATUS:
		if (!has_result(f, call, want->rax))
			fail(f, i, "Not the status predicted");
		break;
	case REFLECTED:
	case UD:
	case INTERCEPT:
		if (want->verdict == UD ? !is_ud_exit(call->seen_reason, f->env.is_vmx) :
		    want->verdict == INTERCEPT ? !is_read_of(f, call, want->gpa) :
					  !is_hcall_exit(call->seen_reason, f->env.is_vmx))
			fail(f, i, "Not the exit predicted");
		else if (!same_regs(f, &call->in, &call->seen, true, true) ||
			 call->seen_rip != f->insn_rip)
			fail(f, i, "L1 doesn't see L2's registers");
		else if (is_64_bit ? call->out.rax != call->reply :
				     (u32)call->out.rax != (u32)call->reply)
			fail(f, i, "L2 doesn't have L1's result");
		break;
	default:
		break;
	}
}

static void check_signals(struct fuzzer *f)
{
	u64 count;
	int i;

	for (i = 0; i < ARRAY_SIZE(conn_ids); i++) {
		count = 0;
		if (read(f->eventfds[i], &count, sizeof(count)) < 0)
			TEST_ASSERT_EQ(errno, EAGAIN);
		if (count != f->nr_signals[i])
			fail(f, -1ull, "%lu signals of connection 0x%x, wanted %lu", count,
			     conn_ids[i], f->nr_signals[i]);
		f->nr_all_signals += count;
	}
}

static void run_batch(struct fuzzer *f)
{
	struct kvm_run *run = f->vcpu->run;
	struct ucall uc;
	u64 i, kept;

	/* L2 has yet to go on to the first call, unless it's a new one. */
	f->shm->cur = call_offset(f->nr_episode_calls ? -1ull : 0);
	predict(f);
	alarm(BATCH_TIMEOUT);

	for (;;) {
		vcpu_run(f->vcpu);
		if (run->exit_reason != KVM_EXIT_HYPERV)
			break;
		check_exit(f);
		if (f->failed)
			return;
	}
	alarm(0);

	i = (f->shm->cur - SHM_CALLS) / sizeof(struct call);
	switch (get_ucall(f->vcpu, &uc)) {
	case UCALL_SYNC:
		break;
	case UCALL_ABORT:
		fail(f, i, "L1: %s at %s:%lu", (const char *)uc.args[GUEST_ERROR_STRING],
		     (const char *)uc.args[GUEST_FILE], uc.args[GUEST_LINE]);
		return;
	default:
		fail(f, i, "Exit to userspace: %s", exit_reason_str(run->exit_reason));
		return;
	}
	if (f->shm->bad_exit)
		return fail(f, i, "Exit to L1 that is neither hypercall nor intercept");

	for (i = 0; i < f->next && !f->failed; i++)
		check_call(f, i);
	if (f->next < f->shm->nr_calls)
		fail(f, f->next, "Not delivered");
	check_signals(f);

	kept = vcpu_get_stat(f->vcpu, nested_hv_relayed_hcalls) - f->nr_kept_before;
	if (kept != f->nr_kept)
		fail(f, -1ull, "nested_hv_relayed_hcalls grew by %lu, wanted %lu", kept,
		     f->nr_kept);
}

/* Episodes. */

static void create_l2_code(struct fuzzer *f)
{
	const u8 vmcall[HYPERCALL_INSN_SIZE]  = { 0x0f, 0x01, 0xc1 };
	const u8 vmmcall[HYPERCALL_INSN_SIZE] = { 0x0f, 0x01, 0xd9 };
	u8 *code = (u8 *)f->shm + SHM_CODE;
	u8 *start, *insn, *end;

	if (hv_l2_mode_is_64_bit(f->env.kind->mode)) {
		start = L2_LABEL(l2_code64);
		insn = L2_LABEL(l2_code64_insn);
		end = L2_LABEL(l2_code64_end);
	} else if (f->env.kind->mode == HV_L2_REAL) {
		start = L2_LABEL(l2_code16);
		insn = L2_LABEL(l2_code16_insn);
		end = L2_LABEL(l2_code16_end);
	} else {
		start = L2_LABEL(l2_code32);
		insn = L2_LABEL(l2_code32_insn);
		end = L2_LABEL(l2_code32_end);
	}

	f->insn_rip = insn - start;
	if (hv_l2_mode_is_64_bit(f->env.kind->mode))
		f->insn_rip += SHM + SHM_CODE;

	memcpy(code, start, end - start);
	memcpy(code + (insn - start), f->env.is_vmx ? vmcall : vmmcall, HYPERCALL_INSN_SIZE);
}

/* L2 at CPL 3 uses L1's page tables. */
static void make_shm_user_accessible(struct fuzzer *f)
{
	struct kvm_mmu *mmu = &f->vm->mmu;
	u64 gva;
	int i;

	for (gva = SHM; gva < SHM + SHM_SIZE; gva += PAGE_SIZE) {
		for (i = PG_LEVEL_4K; i <= mmu->pgtable_levels; i++)
			*get_pte(f->vm, mmu, gva, i) |= PTE_USER_MASK(mmu);
	}
}

static void create_cpuid(struct fuzzer *f)
{
	static const int maxphyaddrs[] = { 36, 39, 40, 46, 48, 52 };
	struct env *env = &f->env;

	env->maxphyaddr = maxphyaddrs[rnd(f, ARRAY_SIZE(maxphyaddrs))];
	env->may_post = !one_in(f, 4);
	env->may_signal = !one_in(f, 4);
	env->has_l2_flush = !one_in(f, 3);
	vcpu_set_cpuid_property(f->vcpu, X86_PROPERTY_MAX_PHY_ADDR, env->maxphyaddr);
	vcpu_set_or_clear_cpuid_feature(f->vcpu, HV_POST_MESSAGES, env->may_post);
	vcpu_set_or_clear_cpuid_feature(f->vcpu, HV_SIGNAL_EVENTS, env->may_signal);
	vcpu_set_or_clear_cpuid_feature(f->vcpu, HV_X64_NESTED_DIRECT_FLUSH,
					env->has_l2_flush);
}

static void create_conns(struct fuzzer *f)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(conn_ids); i++) {
		struct kvm_hyperv_eventfd args = {
			.conn_id = conn_ids[i],
			.fd = f->eventfds[i],
		};

		if (one_in(f, 4))
			continue;
		f->env.conns |= BIT(i);
		vm_ioctl(f->vm, KVM_HYPERV_EVENTFD, &args);
	}
}

static void create_vm(struct fuzzer *f)
{
	struct env *env = &f->env;
	gva_t nested_gva, hv_gva;
	int i;

	f->vm = __vm_create_with_one_vcpu(&f->vcpu, 128, l1_main);
	if (env->kind->nested_paging)
		vm_enable_tdp(f->vm);
	hv_l1_enable(f->vcpu);
	vm_alloc_hv_l1(f->vm, &nested_gva, &hv_gva);
	vcpu_args_set(f->vcpu, 2, nested_gva, hv_gva);
	create_cpuid(f);
	create_conns(f);
	env->synic = !one_in(f, 8);
	if (env->synic)
		vcpu_enable_cap(f->vcpu, KVM_CAP_HYPERV_SYNIC2, 0);

	vm_userspace_mem_region_add(f->vm, VM_MEM_SRC_ANONYMOUS, SHM, 1,
				    SHM_SIZE / PAGE_SIZE, 0);
	vm_userspace_mem_region_add(f->vm, VM_MEM_SRC_ANONYMOUS, DATA, 2, NR_DATA, 0);
	vm_userspace_mem_region_add(f->vm, VM_MEM_SRC_ANONYMOUS, RO_DATA, 3, NR_RO_DATA,
				    KVM_MEM_READONLY);
	virt_map(f->vm, SHM, SHM, SHM_SIZE / PAGE_SIZE);
	if (hv_l2_mode_cpl(env->kind->mode))
		make_shm_user_accessible(f);
	f->shm = addr_gpa2hva(f->vm, SHM);
	f->calls = (void *)f->shm + SHM_CALLS;
	f->shm->is_vmx = env->is_vmx;
	create_l2_code(f);
	for (i = 0; i < NR_DATA + NR_RO_DATA; i++)
		random_data_page(f, DATA + i * PAGE_SIZE);

	env->slot0_size = memslot2region(f->vm, 0)->region.memory_size;
	env->table_bits = 52;
	if (env->kind->nested_paging) {
		create_nested_tables(f);
		env->table_bits = PAGE_SHIFT + 9 * f->vm->stage2_mmu.pgtable_levels;
	}

	env->gates = (struct hv_l1_config) {
		.enlightened = !one_in(f, 10),
		.mode = env->kind->mode,
		.l2_code = SHM + SHM_CODE,
		.vm_id = one_in(f, 3) ? 0 : one_in(f, 2) ? HV_L2_VM_ID : rnd64(f),
	};
}

/* Stops at the end of a batch if @max_calls have been made. */
static void run_episode(struct fuzzer *f, u64 max_calls)
{
	int i;

	create_vm(f);
	for (i = 0; i < NR_BATCHES && !f->failed && f->nr_calls < max_calls; i++) {
		make_batch(f);
		run_batch(f);
		f->nr_episode_calls += f->shm->nr_calls;
		f->nr_calls += f->shm->nr_calls;
		f->nr_of_kind[f->env.kind - kinds] += f->shm->nr_calls;
	}
	kvm_vm_free(f->vm);
}

static const struct kind *kind_of_seed(u64 seed)
{
	int i, sum = 0;

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		sum += kinds[i].weight;

	/* Have neighbours differ. */
	sum = seed * 7 % sum;
	for (i = 0; sum >= kinds[i].weight; i++)
		sum -= kinds[i].weight;

	return &kinds[i];
}

static bool is_supported(const struct kind *kind)
{
	if (kind->nested_paging && !kvm_cpu_has_tdp())
		return false;

	return hv_l2_mode_is_long(kind->mode) || !kvm_cpu_has(X86_FEATURE_VMX) ||
	       kvm_get_feature_msr(MSR_IA32_VMX_PROCBASED_CTLS2) >> 32 &
	       SECONDARY_EXEC_UNRESTRICTED_GUEST;
}

static time_t seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static void report(struct fuzzer *f, u64 seed, u64 time)
{
	u64 *st = f->nr_status, *v = f->nr_verdicts;
	const char *missing = NULL;
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!is_supported(&kinds[i]))
			ksft_test_result_code(KSFT_SKIP, kinds[i].name, "not on this host");
		else if (f->failed && f->env.kind == &kinds[i])
			ksft_test_result_fail("%s\n", kinds[i].name);
		else if (!f->nr_of_kind[i])
			ksft_test_result_code(KSFT_SKIP, kinds[i].name, "not in this run");
		else
			ksft_test_result_pass("%s\n", kinds[i].name);
	}

	ksft_print_msg("%lu calls in %lu s, seed 0x%lx: %lu delivered, %lu reflected, %lu #UD,",
		       f->nr_calls, time, seed, v[DELIVERED], v[REFLECTED], v[UD]);
	printf(" %lu L2 TLB flushes, %lu completed (status 0: %lu, 3: %lu, 4: %lu, 6: %lu),",
	       v[FLUSH], v[STATUS], st[HV_STATUS_SUCCESS],
	       st[HV_STATUS_INVALID_HYPERCALL_INPUT], st[HV_STATUS_INVALID_ALIGNMENT],
	       st[HV_STATUS_ACCESS_DENIED]);
	printf(" %lu memory intercepts, %lu signals by eventfd\n", v[INTERCEPT],
	       f->nr_all_signals);

	if (!f->nr_delivered[1][0] && kvm_cpu_has_tdp())
		missing = "slow HvPostMessage delivered";
	else if (!f->nr_delivered[1][1])
		missing = "fast HvPostMessage delivered";
	else if (!f->nr_delivered[0][0] && kvm_cpu_has_tdp())
		missing = "slow HvSignalEvent delivered";
	else if (!f->nr_delivered[0][1])
		missing = "fast HvSignalEvent delivered";
	else if (!st[HV_STATUS_SUCCESS] || !f->nr_all_signals)
		missing = "signal by eventfd";
	else if (!st[HV_STATUS_INVALID_HYPERCALL_INPUT])
		missing = "invalid input";
	else if (!st[HV_STATUS_INVALID_ALIGNMENT] && kvm_cpu_has_tdp())
		missing = "invalid alignment";
	else if (!v[INTERCEPT] && kvm_cpu_has_tdp())
		missing = "memory intercept";
	else if (!st[HV_STATUS_ACCESS_DENIED])
		missing = "access denied";
	else if (!v[REFLECTED])
		missing = "reflected";
	else if (!v[UD] && !kvm_cpu_has(X86_FEATURE_VMX))
		missing = "#UD";
	else if (!v[FLUSH])
		missing = "L2 TLB flush";

	if (f->nr_calls < MANY_CALLS)
		ksft_test_result_code(KSFT_SKIP, "all outcomes seen",
				      "only in runs of %d calls or more", MANY_CALLS);
	else if (missing)
		ksft_test_result_fail("all outcomes seen, but not: %s\n", missing);
	else
		ksft_test_result_pass("all outcomes seen\n");
}

static void print_help(const char *name)
{
	printf("usage: %s [-s SEED] [-n CALLS] [-t SECONDS]\n"
	       "\n"
	       "  -s SEED     of the first episode, a number; the next ones count up [%d]\n"
	       "  -n CALLS    stop after so many hypercalls of L2, at the end of a batch of up\n"
	       "              to %d [%d, or no limit with -t]\n"
	       "  -t SECONDS  stop after so much time by this machine's clock, at the end of an\n"
	       "              episode of %d batches [no limit]\n"
	       "  -h, --help  this text\n",
	       name, DEFAULT_SEED, MAX_CALLS, DEFAULT_CALLS, NR_BATCHES);
}

static u64 parse_number(const char *name, const char *arg)
{
	char *end;
	u64 n;

	errno = 0;
	n = strtoull(arg, &end, 0);
	if (errno || !*arg || *end || *arg == '-') {
		fprintf(stderr, "%s '%s' is not a number, see --help\n", name, arg);
		exit(KSFT_FAIL);
	}
	return n;
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{},
	};
	u64 seed = DEFAULT_SEED, max_calls = 0, max_time = 0, i;
	static struct fuzzer f;
	time_t start;
	int opt;

	while ((opt = getopt_long(argc, argv, "s:n:t:h", options, NULL)) != -1) {
		switch (opt) {
		case 's':
			seed = parse_number("-s", optarg);
			break;
		case 'n':
			max_calls = parse_number("-n", optarg);
			break;
		case 't':
			max_time = parse_number("-t", optarg);
			break;
		default:
			print_help(argv[0]);
			exit(opt == 'h' ? KSFT_PASS : KSFT_FAIL);
		}
	}
	if (!max_calls)
		max_calls = max_time ? -1ull : DEFAULT_CALLS;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_NESTED_HYPERV_HCALL_RELAY));
	TEST_REQUIRE(!kvm_cpu_has(X86_FEATURE_VMX) ||
		     kvm_has_cap(KVM_CAP_HYPERV_ENLIGHTENED_VMCS));

	ksft_print_header();
	ksft_set_plan(ARRAY_SIZE(kinds) + 1);
	ksft_print_msg("seed 0x%lx\n", seed);

	fuzzer = &f;
	signal(SIGALRM, timed_out);
	for (i = 0; i < ARRAY_SIZE(conn_ids); i++) {
		f.eventfds[i] = eventfd(0, EFD_NONBLOCK);
		TEST_ASSERT(f.eventfds[i] >= 0, "eventfd() failed");
	}

	start = seconds();
	for (f.seed = seed; !f.failed && f.nr_calls < max_calls; f.seed++) {
		if (max_time && seconds() - start >= max_time)
			break;

		f.rng = f.seed;
		f.nr_episode_calls = 0;
		f.env = (struct env) {
			.kind = kind_of_seed(f.seed),
			.is_vmx = kvm_cpu_has(X86_FEATURE_VMX),
		};
		if (is_supported(f.env.kind))
			run_episode(&f, max_calls);
	}
	report(&f, seed, seconds() - start);
	ksft_finished();
}
