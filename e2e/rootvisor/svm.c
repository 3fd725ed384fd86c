// SPDX-License-Identifier: GPL-2.0
/*
 * AMD: SVM with nested paging and Hyper-V's enlightened VMCB.
 */
#include "rootvisor.h"

#define MSR_VM_HSAVE_PA		0xc0010117

/* Intercepts, words 3 and 4. */
#define INTERCEPT_CPUID		BIT(18)
#define INTERCEPT_HLT		BIT(24)
#define INTERCEPT_IO		BIT(27)
#define INTERCEPT_MSR		BIT(28)
#define INTERCEPT_SHUTDOWN	BIT(31)
#define INTERCEPT_VMRUN		BIT(0)
#define INTERCEPT_VMMCALL	BIT(1)

#define SVM_EXIT_CPUID		0x72
#define SVM_EXIT_HLT		0x78
#define SVM_EXIT_IO		0x7b
#define SVM_EXIT_MSR		0x7c
#define SVM_EXIT_VMMCALL	0x81
#define SVM_EXIT_NPF		0x400

struct segment {
	u16 selector, attributes;
	u32 limit;
	u64 base;
};

struct vmcb {
	u32 intercept[6];
	u8 reserved1[0x40 - 0x18];
	u64 iopm, msrpm, tsc_offset;
	u32 asid;
	u8 tlb_control, reserved2[3];
	u64 vintr, interrupt_shadow, exit_code, exit_info[2], exit_event, np_enable;
	u8 reserved3[0xa8 - 0x98];
	u64 event_injection, nested_cr3, virt_ext, clean, next_rip;
	u8 reserved4[0x3e0 - 0xd0];
	/* Hyper-V's: bit 0 of the first word is the "nested flush hypercall". */
	u32 hv_control, hv_vp_id;
	u64 hv_vm_id, hv_partition_assist_page, hv_reserved;

	struct segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	u8 reserved5[0xcb - 0xa0], cpl, reserved6[4];
	u64 efer;
	u8 reserved7[0x148 - 0xd8];
	u64 cr4, cr3, cr0, dr7, dr6, rflags, rip;
	u8 reserved8[0x1d8 - 0x180];
	u64 rsp;
	u8 reserved9[0x1f8 - 0x1e0];
	u64 rax, star, lstar, cstar, sfmask, kernel_gs_base, sysenter[3], cr2;
	u8 reserved10[0x268 - 0x248];
	u64 pat;
};

_Static_assert(offsetof(struct vmcb, iopm) == 0x40, "layout of the APM");
_Static_assert(offsetof(struct vmcb, asid) == 0x58, "layout of the APM");
_Static_assert(offsetof(struct vmcb, exit_code) == 0x70, "layout of the APM");
_Static_assert(offsetof(struct vmcb, event_injection) == 0xa8, "layout of the APM");
_Static_assert(offsetof(struct vmcb, hv_control) == 0x3e0, "layout of the TLFS");
_Static_assert(offsetof(struct vmcb, es) == 0x400, "layout of the APM");
_Static_assert(offsetof(struct vmcb, efer) == 0x4d0, "layout of the APM");
_Static_assert(offsetof(struct vmcb, cr4) == 0x548, "layout of the APM");
_Static_assert(offsetof(struct vmcb, rip) == 0x578, "layout of the APM");
_Static_assert(offsetof(struct vmcb, rsp) == 0x5d8, "layout of the APM");
_Static_assert(offsetof(struct vmcb, rax) == 0x5f8, "layout of the APM");
_Static_assert(offsetof(struct vmcb, cr2) == 0x640, "layout of the APM");
_Static_assert(offsetof(struct vmcb, pat) == 0x668, "layout of the APM");

static u8 msr_bitmap[2 * PAGE_SIZE] PAGE_ALIGNED;
static u8 host_save[PAGE_SIZE] PAGE_ALIGNED, host_vmcb[PAGE_SIZE] PAGE_ALIGNED;
static u8 partition_assist_page[PAGE_SIZE] PAGE_ALIGNED;

/*
 * Run the guest until it exits. VMRUN takes care of RAX, RSP, RFLAGS and RIP; VMLOAD and VMSAVE of
 * what else there is but the other registers.
 */
void svm_enter(struct regs *regs, struct vmcb *vmcb, void *host);
asm(".text\n"
	"svm_enter:\n"
	"	pushq	%rbx\n"
	"	pushq	%rbp\n"
	"	pushq	%r12\n"
	"	pushq	%r13\n"
	"	pushq	%r14\n"
	"	pushq	%r15\n"
	"	pushq	%rdi\n"
	"	pushq	%rdx\n"
	"	movq	%rsi, %rax\n"
	LOAD_REGS
	"	vmload\n"
	"	vmrun\n"
	"	vmsave\n"
	"	pushq	%rdi\n"
	"	movq	16(%rsp), %rdi\n"
	SAVE_REGS
	"	popq	%rax\n"
	"	vmload\n"
	"	popq	%rdi\n"
	"	popq	%r15\n"
	"	popq	%r14\n"
	"	popq	%r13\n"
	"	popq	%r12\n"
	"	popq	%rbp\n"
	"	popq	%rbx\n"
	"	ret\n");

static void svm_init(void)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	wrmsr(MSR_VM_HSAVE_PA, (u64)host_save);
	asm volatile("vmsave" : : "a"(host_vmcb) : "memory");
	/* Two bits per MSR; EFER is in the second range, whose bits start at byte 0x800. */
	msr_bitmap[0x800 + (MSR_EFER & 0x1fff) / 4] |= 3 << (MSR_EFER & 3) * 2;
}

static void svm_setup(struct guest *guest, const struct start *start)
{
	const struct segment data = { 0x18, 0xc93, 0xffffffff, 0 };
	struct vmcb *vmcb = guest->control;

	vmcb->intercept[3] = INTERCEPT_CPUID | INTERCEPT_HLT | INTERCEPT_IO | INTERCEPT_MSR |
			     INTERCEPT_SHUTDOWN;
	/* The root has the machine's idle states, another guest is at its end then. */
	if (start->gdt_limit)
		vmcb->intercept[3] &= ~INTERCEPT_HLT;
	vmcb->intercept[4] = INTERCEPT_VMRUN | INTERCEPT_VMMCALL;
	vmcb->iopm = (u64)io_bitmap;
	vmcb->msrpm = (u64)msr_bitmap;
	vmcb->asid = 1;
	vmcb->np_enable = 1;
	vmcb->nested_cr3 = guest->nested_root;
	vmcb->hv_vp_id = 0;
	vmcb->hv_vm_id = guest->vm_id;
	vmcb->hv_partition_assist_page = (u64)partition_assist_page;

	vmcb->es = vmcb->ss = vmcb->ds = vmcb->fs = vmcb->gs = data;
	vmcb->cs = (struct segment) { 0x10, 0xa9b, 0xffffffff, 0 };
	vmcb->ldtr.attributes = 0x82;
	vmcb->tr = (struct segment) { 0, 0x8b, 0xffff, 0 };
	vmcb->gdtr.base = start->gdt_base;
	vmcb->gdtr.limit = start->gdt_limit;
	vmcb->efer = EFER_LME | EFER_LMA | EFER_SVME;
	vmcb->cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE;
	vmcb->cr3 = start->cr3;
	vmcb->cr4 = CR4_PAE;
	vmcb->dr6 = 0xffff0ff0;
	vmcb->dr7 = 0x400;
	vmcb->rflags = 2;
	vmcb->pat = 0x0007040600070406;
	vmcb->rsp = start->rsp;
	guest->rip = start->rip;
}

/* The processor's EFER.SVME must be set while the guest runs, but it isn't the guest's. */
static bool handle_efer(struct guest *guest, struct vmcb *vmcb)
{
	const u64 kept = EFER_LMA | EFER_SVME;
	u64 value;

	if (vmcb->exit_code != SVM_EXIT_MSR || (u32)guest->regs.rcx != MSR_EFER)
		return false;
	if (vmcb->exit_info[0] & 1) {
		value = guest->regs.rdx << 32 | (u32)guest->regs.rax;
		vmcb->efer = (value & ~kept) | (vmcb->efer & kept);
	} else {
		value = vmcb->efer & ~EFER_SVME;
		guest->regs.rax = (u32)value;
		guest->regs.rdx = value >> 32;
	}
	guest->rip += 2;
	return true;
}

static void svm_run(struct guest *guest, struct exit *exit)
{
	struct vmcb *vmcb = guest->control;

	do {
		if (vmcb->rip != guest->rip)
			vmcb->interrupt_shadow &= ~BIT(0);
		vmcb->rip = guest->rip;
		vmcb->rax = guest->regs.rax;
		vmcb->clean = 0;
		svm_enter(&guest->regs, vmcb, host_vmcb);
		guest->rip = vmcb->rip;
		guest->regs.rax = vmcb->rax;
		vmcb->tlb_control = 0;
		vmcb->event_injection = 0;
	} while (handle_efer(guest, vmcb));

	/* The processor may have no NRIPS. None of these instructions comes with a prefix. */
	*exit = (struct exit) { .kind = EXIT_OTHER, .reason = vmcb->exit_code };
	switch (vmcb->exit_code) {
	case SVM_EXIT_CPUID:
		exit->kind = EXIT_CPUID;
		exit->length = 2;
		break;
	case SVM_EXIT_MSR:
		exit->kind = vmcb->exit_info[0] & 1 ? EXIT_WRMSR : EXIT_RDMSR;
		exit->length = 2;
		break;
	case SVM_EXIT_VMMCALL:
		exit->kind = EXIT_HYPERCALL;
		exit->length = 3;
		break;
	case SVM_EXIT_HLT:
		exit->kind = EXIT_HLT;
		exit->length = 1;
		break;
	case SVM_EXIT_IO:
		if (!(vmcb->exit_info[0] & 1))
			exit->kind = EXIT_OUT;
		exit->port = vmcb->exit_info[0] >> 16;
		exit->length = vmcb->exit_info[1] - vmcb->rip;
		break;
	case SVM_EXIT_NPF:
		exit->kind = EXIT_NO_MEMORY;
		exit->address = vmcb->exit_info[1];
		break;
	}
}

static void svm_authorize(struct guest *guest, bool yes)
{
	((struct vmcb *)guest->control)->hv_control = yes;
}

static void svm_flush(struct guest *guest)
{
	((struct vmcb *)guest->control)->tlb_control = 1;
}

static void svm_inject_gp(struct guest *guest)
{
	/* An exception with an error code, which is 0. */
	((struct vmcb *)guest->control)->event_injection = BIT(31) | BIT(11) | 3 << 8 | GP_VECTOR;
}

const struct vendor svm_vendor = {
	.name = "SVM",
	.hypercall = { 0x0f, 0x01, 0xd9 },	/* VMMCALL */
	.cpuid_leaf = 0x80000001,
	.cpuid_ecx_bit = 2,
	.table = 7,				/* present, writable, user */
	.page = 7,
	.large = BIT(7),
	.uncached = BIT(4),
	.init = svm_init,
	.setup = svm_setup,
	.run = svm_run,
	.authorize = svm_authorize,
	.flush = svm_flush,
	.inject_gp = svm_inject_gp,
};
