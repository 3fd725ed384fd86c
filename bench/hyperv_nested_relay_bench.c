// SPDX-License-Identifier: GPL-2.0-only
/*
 * What hypercalls and other exits of L2 cost, in ticks of the guest's TSC, with
 * the relay of KVM_CAP_NESTED_HYPERV_HCALL_RELAY, without it, and on a kernel
 * that doesn't have it.
 *
 * For hosts whose TSC counts instructions.  Prints what was measured, and
 * judges only whether each call did what it should.
 */
#include <fnmatch.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "hyperv_nested.h"
#include "hyperv_nested_relay.h"

#define BENCH_MSR	MSR_IA32_APICBASE

#define NR_WARMUP_CALLS	50

/* A hypercall that neither KVM nor the relay knows. */
#define PLAIN_CODE	0x50

enum op {
	OP_NONE,
	OP_HCALL,
	OP_CPUID,
	OP_RDMSR,
};

/* Whose exit it is, and what is to become of it. */
enum path {
	PATH_L1,	/* L1's own */
	PATH_L0,	/* L2's, handled in L0 */
	PATH_REFLECTED,	/* L2's, for L1 */
	PATH_VIA_L1,	/* L2's, for L1, which makes the same call */
};

static const char * const path_names[] = {
	[PATH_L1]		= "l1",
	[PATH_L0]		= "l0",
	[PATH_REFLECTED]	= "reflected",
	[PATH_VIA_L1]		= "via-l1",
};

/* The relay's mask. */
enum relay {
	OFF		= BIT(0),
	ON		= BIT(1),
	BOTH		= OFF | ON,
};

static const struct bench {
	const char *name;
	enum op op;
	enum path path;
	enum relay relay;
	u64 control;	/* of hypercalls */
	bool to_vmm;	/* userspace gets the call */
	bool library;	/* and is in the selftests' vcpu_run() */
} benches[] = {
	{ "empty-loop",		OP_NONE,  PATH_L1,	  OFF },

	{ "signal-fast",	OP_HCALL, PATH_L1,	  OFF,	HVCALL_SIGNAL_EVENT | FAST },
	{ "signal-fast",	OP_HCALL, PATH_L0,	  ON,	SIGNAL | FAST },
	{ "signal-fast",	OP_HCALL, PATH_VIA_L1,	  OFF,	SIGNAL | FAST },

	{ "signal-slow",	OP_HCALL, PATH_L1,	  OFF,	HVCALL_SIGNAL_EVENT },
	{ "signal-slow",	OP_HCALL, PATH_L0,	  ON,	SIGNAL },
	{ "signal-slow",	OP_HCALL, PATH_VIA_L1,	  OFF,	SIGNAL },

	{ "post",		OP_HCALL, PATH_L1,	  OFF,	HVCALL_POST_MESSAGE, true },
	{ "post",		OP_HCALL, PATH_L0,	  ON,	POST, true },
	{ "post",		OP_HCALL, PATH_VIA_L1,	  OFF,	POST, true },

	{ "post-vcpu-run",	OP_HCALL, PATH_L1,	  OFF,	HVCALL_POST_MESSAGE, true, true },
	{ "post-vcpu-run",	OP_HCALL, PATH_L0,	  ON,	POST, true, true },
	{ "post-vcpu-run",	OP_HCALL, PATH_VIA_L1,	  OFF,	POST, true, true },

	{ "cpuid",		OP_CPUID, PATH_REFLECTED, BOTH },
	{ "hypercall",		OP_HCALL, PATH_REFLECTED, BOTH,	PLAIN_CODE },
	{ "hypercall-nested",	OP_HCALL, PATH_REFLECTED, BOTH,	HV_HYPERCALL_NESTED | PLAIN_CODE },
	{ "rdmsr",		OP_RDMSR, PATH_REFLECTED, BOTH },
	{ "rdmsr",		OP_RDMSR, PATH_L0,	  BOTH },
	{ "rdmsr",		OP_RDMSR, PATH_L1,	  BOTH },
	{ "tlb-flush",		OP_HCALL, PATH_L0,	  BOTH,	HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE | FAST },
	{ "tlb-flush",		OP_HCALL, PATH_L1,	  BOTH,	HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE | FAST },
};

/* Shared with guest code. */
static struct {
	enum op op;
	enum path path;
	bool is_vmx;
	bool trace;		/* one more call, marked for the emulator */
	u64 nr_calls;
	u64 control, input, output;
	u64 l1_input;		/* what L1 passes in its own call */
	bool touch;		/* the input first, as who writes it does */
	u64 wanted;		/* RAX afterwards */

	u64 ticks;
	u64 wrong;		/* bits of RAX that weren't as wanted, of all calls */
	u64 nr_reflected;
} job;

static __always_inline u64 hypercall(bool is_vmx, u64 control, u64 input, u64 output)
{
	register u64 r8 asm("r8") = output;
	u64 rax = -1ULL;

	if (is_vmx)
		asm volatile("vmcall" : "+a"(rax) : "c"(control), "d"(input), "r"(r8) : "memory");
	else
		asm volatile("vmmcall" : "+a"(rax) : "c"(control), "d"(input), "r"(r8) : "memory");

	return rax;
}

static __always_inline u64 do_cpuid(void)
{
	u64 rax = 0, rbx, rcx = 0, rdx;

	asm volatile("cpuid" : "+a"(rax), "=b"(rbx), "+c"(rcx), "=d"(rdx));
	return rax;
}

static __always_inline u64 do_rdmsr(void)
{
	u64 rax, rdx;

	asm volatile("rdmsr" : "=a"(rax), "=d"(rdx) : "c"(BENCH_MSR));
	return rax;
}

/* What Bochs takes for a breakpoint, with magic_break. */
static __always_inline void mark(void)
{
	asm volatile("xchg %%bx, %%bx" ::: "memory");
}

/* Nothing but the exit, its registers and the check of RAX is in the loop. */
#define TIMES(insn)							\
do {									\
	u64 start = rdtsc();						\
									\
	for (i = job.nr_calls; i; i--)					\
		wrong |= (insn) ^ wanted;				\
	job.ticks = rdtsc() - start;					\
									\
	if (job.trace) {						\
		mark();							\
		wrong |= (insn) ^ wanted;				\
		mark();							\
	}								\
} while (0)

/* Runs in L2, or in L1 for its own calls. */
static void caller(void)
{
	u64 control, input, output, wanted, wrong, i;

	for (;;) {
		control = job.control;
		input = job.input;
		output = job.output;
		wanted = job.wanted;
		wrong = 0;

		if (job.touch)
			READ_ONCE(*(u64 *)MSG_GVA);

		switch (job.op) {
		case OP_NONE:
			TIMES(({ u64 rax = wanted; asm volatile("" : "+a"(rax)); rax; }));
			break;
		case OP_HCALL:
			if (job.is_vmx)
				TIMES(hypercall(true, control, input, output));
			else
				TIMES(hypercall(false, control, input, output));
			break;
		case OP_CPUID:
			TIMES(do_cpuid());
			break;
		case OP_RDMSR:
			TIMES(do_rdmsr());
			break;
		}

		job.wrong = wrong;
		GUEST_SYNC(0);
	}
}

static void set_msr_intercept(struct hv_l1 *l1, bool is_vmx)
{
	bool to_l1 = job.path == PATH_REFLECTED;

	if (job.op != OP_RDMSR)
		return;

	/* Without a bitmap, L1 gets all accesses on VMX, and none on SVM. */
	if (is_vmx && !to_l1) {
		vmwrite(CPU_BASED_VM_EXEC_CONTROL, vmreadz(CPU_BASED_VM_EXEC_CONTROL) |
			CPU_BASED_USE_MSR_BITMAPS);
	} else if (!is_vmx && to_l1) {
		l1->svm->vmcb->control.intercept |= BIT_ULL(INTERCEPT_MSR_PROT);
		__set_bit(2 * BENCH_MSR, l1->svm->msr);
	}
}

/*
 * An L1 that does as little as it can.  In particular it knows the vendor and
 * where L2's message is, and doesn't execute CPUID, which exits.
 */
static void bench_l1_main(void *nested, struct hyperv_test_pages *hv)
{
	struct hv_l1_config config = relay_l1_config;
	bool is_vmx = job.is_vmx, via_l1 = job.path == PATH_VIA_L1;
	struct hv_l1 l1 = { .hv = hv };
	u64 insn_len = job.op == OP_HCALL ? HYPERCALL_INSN_SIZE : 2;
	u64 reason, wanted_reason;

	if (is_vmx)
		l1.vmx = nested;
	else
		l1.svm = nested;

	if (job.path == PATH_L1) {
		wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
		caller();
	}

	switch (job.op) {
	case OP_CPUID:
		wanted_reason = is_vmx ? EXIT_REASON_CPUID : SVM_EXIT_CPUID;
		break;
	case OP_RDMSR:
		wanted_reason = is_vmx ? EXIT_REASON_MSR_READ : SVM_EXIT_MSR;
		break;
	default:
		wanted_reason = is_vmx ? EXIT_REASON_VMCALL : SVM_EXIT_VMMCALL;
		break;
	}

	hv_l1_init(&l1, &config, caller);
	set_msr_intercept(&l1, is_vmx);
	hv_l1_enter(&l1);

	for (;;) {
		reason = is_vmx ? current_evmcs->vm_exit_reason :
				  l1.svm->vmcb->control.exit_code;
		__GUEST_ASSERT(reason == wanted_reason,
			       "Wanted exit reason 0x%lx, got 0x%lx", wanted_reason, reason);

		job.nr_reflected++;
		if (!via_l1)
			guest_regs.rax = REFLECTED_RAX;
		else
			guest_regs.rax = hypercall(is_vmx, guest_regs.rcx & ~HV_HYPERCALL_NESTED,
						   job.l1_input, guest_regs.r8);

		if (is_vmx) {
			current_evmcs->guest_rip += insn_len;
			GUEST_ASSERT(!vmresume());
		} else {
			l1.svm->vmcb->save.rip += insn_len;
			run_guest(l1.svm->vmcb, l1.svm->vmcb_gpa);
		}
	}
}

/* After each exit, vcpu_run() clears more than 1 KiB, byte by byte. */
static int enter_guest(struct kvm_vcpu *vcpu, bool library)
{
	if (!library)
		return ioctl(vcpu->fd, KVM_RUN, NULL);

	vcpu_run(vcpu);
	return 0;
}

/* Run one batch.  The VMM answers a call as soon as it has looked at it. */
static void run_batch(struct relay_vm *r, const struct bench *bench)
{
	struct kvm_run *run = r->vcpu->run;
	u64 input = bench->control & ~HV_HYPERCALL_NESTED, delivered = 0, wrong = 0;
	u64 gpa = r->msg_l1_gpa;
	int ret;
	struct ucall uc;

	job.nr_reflected = 0;
	sync_global_to_guest(r->vm, job);

	while (!(ret = enter_guest(r->vcpu, bench->library)) &&
	       run->exit_reason == KVM_EXIT_HYPERV) {
		wrong |= run->hyperv.type ^ KVM_EXIT_HYPERV_HCALL;
		wrong |= run->hyperv.u.hcall.input ^ input;
		wrong |= run->hyperv.u.hcall.params[0] ^ gpa;
		run->hyperv.u.hcall.result = REPLY;
		delivered++;
	}
	TEST_ASSERT(!ret, KVM_IOCTL_ERROR(KVM_RUN, ret));

	switch (get_ucall(r->vcpu, &uc)) {
	case UCALL_SYNC:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Unexpected exit reason: %s", exit_reason_str(run->exit_reason));
	}
	sync_global_from_guest(r->vm, job);

	TEST_ASSERT(!wrong, "Wrong parameters in userspace, by 0x%lx", wrong);
	TEST_ASSERT(!job.wrong, "RAX was wrong by 0x%lx", job.wrong);
	TEST_ASSERT_EQ(delivered, bench->to_vmm ? job.nr_calls + job.trace : 0);
	TEST_ASSERT_EQ(job.nr_reflected, bench->path == PATH_REFLECTED ||
					 bench->path == PATH_VIA_L1 ? job.nr_calls + job.trace : 0);
}

static bool is_signal(const struct bench *bench)
{
	return (bench->control & 0xffff) == HVCALL_SIGNAL_EVENT;
}

static bool has_relay(void)
{
	return (kvm_check_cap(KVM_CAP_NESTED_HYPERV_HCALL_RELAY) & RELAY_ALL) == RELAY_ALL;
}

static void prepare_job(struct relay_vm *r, const struct bench *bench)
{
	memset(&job, 0, sizeof(job));
	job.op = bench->op;
	job.path = bench->path;
	job.is_vmx = kvm_cpu_has(X86_FEATURE_VMX);
	job.control = bench->control;

	if (bench->to_vmm)
		job.wanted = REPLY;
	else if (bench->path == PATH_REFLECTED)
		job.wanted = REFLECTED_RAX;
	else if (bench->op == OP_RDMSR)
		job.wanted = (u32)vcpu_get_msr(r->vcpu, BENCH_MSR);
	else
		job.wanted = HV_STATUS_SUCCESS;

	if (bench->op != OP_HCALL)
		return;

	if ((bench->control & 0xffff) == HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE) {
		job.output = HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES | HV_FLUSH_ALL_PROCESSORS;
	} else if (bench->control & FAST) {
		job.input = job.l1_input = CONN_ID;
	} else {
		job.input = bench->path == PATH_L1 ? r->msg_l1_gpa : r->msg_gpa;
		job.l1_input = r->msg_l1_gpa;
		job.touch = bench->path != PATH_L1;
		*(u64 *)addr_gpa2hva(r->vm, r->msg_l1_gpa) = CONN_ID;
	}
}

/* A few calls to fault everything in, then the batches. */
static void run_vm(const struct bench *bench, bool relay, u64 nr_calls, int nr_batches,
		   bool trace)
{
	u64 signals, kept = 0, total = 0;
	const char *why_not;
	struct relay_vm r;
	int fd = -1, i;

	why_not = __relay_vm_create(&r, true, bench_l1_main, 1);
	__TEST_REQUIRE(!why_not, "%s", why_not);
	vcpu_enable_cap(r.vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	if (relay)
		relay_vm_set_mask(&r, RELAY_ALL);
	if (is_signal(bench))
		fd = relay_vm_add_eventfd(&r);

	prepare_job(&r, bench);
	sync_global_to_guest(r.vm, relay_l1_config);

	if (has_relay())
		kept = vcpu_get_stat(r.vcpu, nested_hv_relayed_hcalls);

	for (i = 0; i <= nr_batches; i++) {
		job.nr_calls = i ? nr_calls : NR_WARMUP_CALLS;
		job.trace = trace && i == nr_batches;
		run_batch(&r, bench);
		if (i)
			printf(" %lu", job.ticks);
		if (fd >= 0) {
			TEST_ASSERT_EQ(read(fd, &signals, sizeof(signals)), sizeof(signals));
			TEST_ASSERT_EQ(signals, job.nr_calls + job.trace);
		}
		total += job.nr_calls + job.trace;
	}

	if (has_relay()) {
		kept = vcpu_get_stat(r.vcpu, nested_hv_relayed_hcalls) - kept;
		TEST_ASSERT_EQ(kept, bench->path == PATH_L0 &&
				     bench->control & HV_HYPERCALL_NESTED ? total : 0);
	}

	if (fd >= 0)
		close(fd);
	kvm_vm_free(r.vm);
}

/*
 * In several VMs: once in a while, KVM updates a VM's clock at each KVM_RUN,
 * and does so as long as the VM lives.
 */
static void run_bench(const struct bench *bench, bool relay, u64 nr_calls, int nr_batches,
		      int nr_vms, bool trace)
{
	int i;

	printf("bench %s %s %s %lu", bench->name, path_names[bench->path],
	       relay ? "on" : "off", nr_calls);
	for (i = 1; i <= nr_vms; i++)
		run_vm(bench, relay, nr_calls, nr_batches, trace && i == nr_vms);
	printf("\n");
}

/*
 * Signals of several vCPUs of one VM at once, each to an eventfd of its own,
 * from their L1 or from their L2.
 */
#define MAX_VCPUS	16

static u64 scale_calls, scale_control;
static u32 scale_nr_started;
static bool scale_is_vmx, scale_from_l2;

static struct scale_vcpu {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	int cpu, fd;
	u64 start, end;
} scale_vcpus[MAX_VCPUS];

static pthread_barrier_t scale_barrier;

/* Runs in L1 or in L2; which vCPU takes which connection doesn't matter. */
static void scale_caller(void)
{
	u64 conn_id = CONN_ID + __sync_fetch_and_add(&scale_nr_started, 1);
	u64 wrong, i;

	for (;;) {
		wrong = 0;
		for (i = 0; i < scale_calls; i++)
			wrong |= hypercall(scale_is_vmx, scale_control, conn_id, 0);
		GUEST_ASSERT(!wrong);
		GUEST_SYNC(0);
	}
}

static void scale_l1_main(void *nested, struct hyperv_test_pages *hv)
{
	struct hv_l1_config config = relay_l1_config;
	struct hv_l1 l1 = { .hv = hv };

	if (!scale_from_l2) {
		wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
		scale_caller();
	}

	if (scale_is_vmx)
		l1.vmx = nested;
	else
		l1.svm = nested;

	hv_l1_init(&l1, &config, scale_caller);
	hv_l1_enter(&l1);
	__GUEST_ASSERT(false, "L2 exited to L1: 0x%lx", hv_l1_exit_reason(&l1));
}

static void scale_run_to_sync(struct kvm_vcpu *vcpu)
{
	struct ucall uc;
	u64 cmd;

	vcpu_run(vcpu);
	cmd = get_ucall(vcpu, &uc);
	if (cmd == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(cmd == UCALL_SYNC, "Unexpected exit reason: %s",
		    exit_reason_str(vcpu->run->exit_reason));
}

static void *scale_thread(void *arg)
{
	struct scale_vcpu *v = arg;
	cpu_set_t cpu;

	/* The library's function for it has another name on older kernels. */
	CPU_ZERO(&cpu);
	CPU_SET(v->cpu, &cpu);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(cpu), &cpu), "sched_setaffinity() failed");

	/* As ever, the first time is to fault everything in. */
	scale_run_to_sync(v->vcpu);
	pthread_barrier_wait(&scale_barrier);
	v->start = rdtsc();
	scale_run_to_sync(v->vcpu);
	v->end = rdtsc();
	return NULL;
}

static void run_scale(bool from_l2, int nr_vcpus, u64 nr_calls)
{
	u64 start = -1ULL, end = 0, signals, kept, wanted = from_l2 ? 2 * nr_calls : 0;
	struct kvm_vcpu *vcpus[MAX_VCPUS];
	gva_t nested, hv;
	struct kvm_vm *vm;
	int i;

	scale_calls = nr_calls;
	scale_control = (from_l2 ? SIGNAL : HVCALL_SIGNAL_EVENT) | FAST;
	scale_nr_started = 0;
	scale_is_vmx = kvm_cpu_has(X86_FEATURE_VMX);
	scale_from_l2 = from_l2;
	relay_l1_config = (struct hv_l1_config) {
		.guest_os_id	= HYPERV_LINUX_OS_ID,
		.enlightened	= true,
		.direct_vmcs	= true,
		.direct_assist	= true,
	};

	vm = vm_create_with_vcpus(nr_vcpus, scale_l1_main, vcpus);
	vm_enable_tdp(vm);
	vm_enable_cap(vm, KVM_CAP_NESTED_HYPERV_HCALL_RELAY, RELAY_ALL);

	for (i = 0; i < nr_vcpus; i++) {
		struct kvm_hyperv_eventfd args = {
			.conn_id = CONN_ID + i,
			.fd = eventfd(0, EFD_NONBLOCK),
		};

		TEST_ASSERT(args.fd >= 0, "eventfd() failed");
		vm_ioctl(vm, KVM_HYPERV_EVENTFD, &args);
		hv_l1_enable(vcpus[i]);
		vcpu_enable_cap(vcpus[i], KVM_CAP_HYPERV_SYNIC2, 0);
		vm_alloc_hv_l1(vm, &nested, &hv);
		vcpu_args_set(vcpus[i], 2, nested, hv);
		scale_vcpus[i] = (struct scale_vcpu) {
			.vcpu = vcpus[i], .cpu = i, .fd = args.fd,
		};
	}
	tdp_identity_map_default_memslots(vm);

	sync_global_to_guest(vm, scale_calls);
	sync_global_to_guest(vm, scale_control);
	sync_global_to_guest(vm, scale_nr_started);
	sync_global_to_guest(vm, scale_is_vmx);
	sync_global_to_guest(vm, scale_from_l2);
	sync_global_to_guest(vm, relay_l1_config);

	pthread_barrier_init(&scale_barrier, NULL, nr_vcpus);
	for (i = 0; i < nr_vcpus; i++)
		TEST_ASSERT(!pthread_create(&scale_vcpus[i].thread, NULL, scale_thread,
					    &scale_vcpus[i]), "pthread_create() failed");
	for (i = 0; i < nr_vcpus; i++)
		pthread_join(scale_vcpus[i].thread, NULL);
	for (i = 0; i < nr_vcpus; i++) {
		struct scale_vcpu *v = &scale_vcpus[i];

		start = min(start, v->start);
		end = max(end, v->end);
		TEST_ASSERT_EQ(read(v->fd, &signals, sizeof(signals)), sizeof(signals));
		TEST_ASSERT_EQ(signals, 2 * nr_calls);
		kept = vcpu_get_stat(v->vcpu, nested_hv_relayed_hcalls);
		TEST_ASSERT_EQ(kept, wanted);
		close(v->fd);
	}
	pthread_barrier_destroy(&scale_barrier);

	printf("scale %s %d %lu %lu\n", from_l2 ? "l0" : "l1", nr_vcpus, nr_calls, end - start);
	kvm_vm_free(vm);
}

static void run_scales(u64 nr_calls)
{
	int nr_cpus = min_t(long, sysconf(_SC_NPROCESSORS_ONLN), MAX_VCPUS), n;

	TEST_REQUIRE(has_relay());
	TEST_REQUIRE(kvm_cpu_has_tdp());
	for (n = 1; n <= nr_cpus; n *= 2) {
		run_scale(false, n, nr_calls);
		run_scale(true, n, nr_calls);
	}
}

static void usage(const char *name)
{
	printf("usage: %s [-n calls] [-r batches] [-m VMs] [-c 'NAME PATH RELAY'] [-t]\n"
	       "       %s [-n calls] -s\n"
	       "\n"
	       "Prints a line 'bench NAME PATH RELAY calls ticks...' per case, with the ticks\n"
	       "of each batch of that many calls.\n"
	       "\n"
	       "  -n  calls in a batch, default 500\n"
	       "  -r  batches in a VM, after some calls to warm up, default 3\n"
	       "  -m  VMs, default 3\n"
	       "  -c  only cases that match, a glob\n"
	       "  -s  instead, signals by 1, 2, 4... vCPUs at once, as many as there are\n"
	       "      processors: 'scale PATH vcpus calls ticks', where calls is for each\n"
	       "      and ticks from the first vCPU's start to the last one's end\n"
	       "  -t  one more call at the end, between two instructions 'xchg %%bx, %%bx'\n",
	       name, name);
}

int main(int argc, char *argv[])
{
	int nr_calls = 500, nr_batches = 3, nr_vms = 3, nr_run = 0, opt, i;
	const char *glob = "*";
	bool trace = false, scale = false;
	char name[64];

	while ((opt = getopt(argc, argv, "n:r:m:c:sth")) != -1) {
		switch (opt) {
		case 'n':
			nr_calls = atoi_positive("Number of calls", optarg);
			break;
		case 'r':
			nr_batches = atoi_positive("Number of batches", optarg);
			break;
		case 'm':
			nr_vms = atoi_positive("Number of VMs", optarg);
			break;
		case 'c':
			glob = optarg;
			break;
		case 's':
			scale = true;
			break;
		case 't':
			trace = true;
			break;
		default:
			usage(argv[0]);
			return opt == 'h' ? 0 : 2;
		}
	}

	if (scale) {
		run_scales(nr_calls);
		return 0;
	}

	for (i = 0; i < 2 * ARRAY_SIZE(benches); i++) {
		const struct bench *bench = &benches[i / 2];
		bool relay = i % 2;

		if (!(bench->relay & (relay ? ON : OFF)) || (relay && !has_relay()))
			continue;

		snprintf(name, sizeof(name), "%s %s %s", bench->name, path_names[bench->path],
			 relay ? "on" : "off");
		if (fnmatch(glob, name, 0))
			continue;

		run_bench(bench, relay, nr_calls, nr_batches, nr_vms, trace);
		nr_run++;
	}
	TEST_ASSERT(nr_run, "No case matches '%s'", glob);

	return 0;
}
