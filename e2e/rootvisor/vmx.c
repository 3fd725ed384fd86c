// SPDX-License-Identifier: GPL-2.0
/*
 * Intel: VMX with EPT and Hyper-V's enlightened VMCS, i.e. no VMREAD and VMWRITE.
 */
#include "rootvisor.h"

#define MSR_VMX_PROC2		0x48b
#define MSR_VMX_TRUE_PIN	0x48d
#define MSR_VMX_TRUE_PROC	0x48e
#define MSR_VMX_TRUE_EXIT	0x48f
#define MSR_VMX_TRUE_ENTRY	0x490

#define FEATURE_CONTROL_LOCKED	BIT(0)
#define FEATURE_CONTROL_VMX	BIT(2)

#define PROC_HLT		BIT(7)
#define PROC_IO_BITMAPS		BIT(25)
#define PROC_MSR_BITMAPS	BIT(28)
#define PROC_SECONDARY		BIT(31)
#define PROC2_EPT		BIT(1)
#define PROC2_RDTSCP		BIT(3)
#define PROC2_INVPCID		BIT(12)
#define PROC2_XSAVES		BIT(20)
#define EXIT_64_BIT		BIT(9)
#define EXIT_SAVE_EFER		BIT(20)
#define EXIT_LOAD_EFER		BIT(21)
#define ENTRY_64_BIT		BIT(9)
#define ENTRY_LOAD_EFER		BIT(15)

#define VMX_EXIT_CPUID		10
#define VMX_EXIT_HLT		12
#define VMX_EXIT_VMCALL		18
#define VMX_EXIT_IO		30
#define VMX_EXIT_RDMSR		31
#define VMX_EXIT_WRMSR		32
#define VMX_EXIT_EPT		48
#define VMX_EXIT_XSETBV		55

#define UNUSABLE		BIT(16)

/* Version 1, by the TLFS. What isn't needed here has no name. */
struct evmcs {
	u32 revision, abort;
	u16 host_selector[7], pad1;		/* ES CS SS DS FS GS TR */
	u64 host_pat, host_efer, host_cr0, host_cr3, host_cr4, host_sysenter[2], host_rip;
	u32 host_sysenter_cs, pin, exit, proc2;
	u64 io_bitmap[2], msr_bitmap;
	u16 selector[8];			/* ES CS SS DS FS GS LDTR TR */
	u32 limit[10], ar[8];			/* and the limits of GDTR IDTR */
	u64 base[10], pad2[3];
	u64 msr_lists[3], cr3_target[4];
	u32 pf_mask, pf_match, counts[4];
	u64 tsc_offset, virtual_apic, link, debugctl, pat, efer, pdptr[4], pending_debug, sysenter[2];
	u32 activity, sysenter_cs;
	u64 cr0_mask, cr4_mask, cr0_shadow, cr4_shadow, cr0, cr3, cr4, dr7;
	u64 host_fs_base, host_gs_base, host_tr_base, host_gdtr_base, host_idtr_base, host_rsp;
	u64 ept;
	u16 vpid, pad3[3];
	u64 pad4[5], exit_gpa;
	u32 instruction_error, exit_reason, exit_event[2], vectoring[2], exit_length, exit_instruction;
	u64 exit_qualification, exit_io[4], exit_gla, rsp, rflags;
	u32 interruptibility, proc, exceptions, entry, entry_event, entry_error, entry_length, tpr;
	u64 rip;
	/* Bit 0 of hv_control is the "nested flush hypercall". */
	u32 hv_clean, pad5, hv_synthetic, hv_control, hv_vp_id, pad6;
	u64 hv_vm_id, hv_partition_assist_page, pad7[4];
	u64 others[16];
};

_Static_assert(offsetof(struct evmcs, host_rip) == 0x50, "layout of the TLFS");
_Static_assert(offsetof(struct evmcs, msr_bitmap) == 0x78, "layout of the TLFS");
_Static_assert(offsetof(struct evmcs, base) == 0xd8, "layout of the TLFS");
_Static_assert(offsetof(struct evmcs, msr_lists) == 0x140, "layout of the TLFS");
_Static_assert(offsetof(struct evmcs, link) == 0x1a0, "layout of the TLFS");
_Static_assert(offsetof(struct evmcs, cr0_mask) == 0x200, "layout of the TLFS");
_Static_assert(offsetof(struct evmcs, host_rsp) == 0x268, "layout of the TLFS");
_Static_assert(offsetof(struct evmcs, exit_gpa) == 0x2a8, "layout of the TLFS");
_Static_assert(offsetof(struct evmcs, exit_qualification) == 0x2d0, "layout of the TLFS");
_Static_assert(offsetof(struct evmcs, rip) == 0x330, "layout of the TLFS");
_Static_assert(offsetof(struct evmcs, hv_control) == 0x344, "layout of the TLFS");
_Static_assert(sizeof(struct evmcs) == 0x400, "layout of the TLFS");

enum { ES, CS, SS, DS, FS, GS, LDTR, TR, GDTR, IDTR };

static u8 vmxon_region[PAGE_SIZE] PAGE_ALIGNED, msr_bitmap[PAGE_SIZE] PAGE_ALIGNED;
static u8 partition_assist_page[PAGE_SIZE] PAGE_ALIGNED;

/*
 * Run the guest until it exits; false if it could not be entered. The exit comes back with RSP as
 * it was stored in *@host_rsp, at vmx_exited.
 */
extern char vmx_exited[];
bool vmx_enter(struct regs *regs, u64 *host_rsp, bool resume);
asm(".text\n"
	"vmx_enter:\n"
	"	pushq	%rbx\n"
	"	pushq	%rbp\n"
	"	pushq	%r12\n"
	"	pushq	%r13\n"
	"	pushq	%r14\n"
	"	pushq	%r15\n"
	"	pushq	%rdi\n"
	"	movq	%rsp, (%rsi)\n"
	"	testb	%dl, %dl\n"
	"	movq	0(%rdi), %rax\n"
	LOAD_REGS
	"	jnz	1f\n"
	"	vmlaunch\n"
	"	jmp	2f\n"
	"1:	vmresume\n"
	"2:	xorl	%eax, %eax\n"
	"	popq	%rdi\n"
	"	jmp	3f\n"
	"vmx_exited:\n"
	"	pushq	%rdi\n"
	"	movq	8(%rsp), %rdi\n"
	"	movq	%rax, 0(%rdi)\n"
	SAVE_REGS
	"	popq	%rdi\n"
	"	movl	$1, %eax\n"
	"3:	popq	%r15\n"
	"	popq	%r14\n"
	"	popq	%r13\n"
	"	popq	%r12\n"
	"	popq	%rbp\n"
	"	popq	%rbx\n"
	"	ret\n");

static void vmx_init(void)
{
	u64 control = rdmsr(MSR_FEATURE_CONTROL), region = (u64)vmxon_region;
	bool failed;

	if (!(control & FEATURE_CONTROL_LOCKED))
		wrmsr(MSR_FEATURE_CONTROL, FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX);
	else if (!(control & FEATURE_CONTROL_VMX))
		die("the firmware has turned VMX off");
	write_reg(cr4, read_reg(cr4) | CR4_VMXE);
	*(u32 *)vmxon_region = rdmsr(MSR_VMX_BASIC);
	asm volatile("vmxon %1" : "=@ccbe"(failed) : "m"(region) : "memory");
	if (failed)
		die("VMXON failed");
}

/* The controls that have to be 1, and @wanted as far as they may be. */
static u32 controls(u32 msr, u64 wanted)
{
	u64 value = rdmsr(msr);

	return ((u32)value | wanted) & (value >> 32);
}

static void vmx_setup(struct guest *guest, const struct start *start)
{
	struct evmcs *evmcs = guest->control;
	u32 proc = PROC_IO_BITMAPS | PROC_MSR_BITMAPS | PROC_SECONDARY;
	struct table_pointer table;

	/* The root has the machine's idle states, another guest is at its end then. */
	if (!start->gdt_limit)
		proc |= PROC_HLT;
	evmcs->revision = 1;
	evmcs->pin = controls(MSR_VMX_TRUE_PIN, 0);
	evmcs->proc = controls(MSR_VMX_TRUE_PROC, proc);
	evmcs->proc2 = controls(MSR_VMX_PROC2, PROC2_EPT | PROC2_RDTSCP | PROC2_INVPCID | PROC2_XSAVES);
	evmcs->exit = controls(MSR_VMX_TRUE_EXIT, EXIT_64_BIT | EXIT_SAVE_EFER | EXIT_LOAD_EFER);
	evmcs->entry = controls(MSR_VMX_TRUE_ENTRY, ENTRY_64_BIT | ENTRY_LOAD_EFER);
	if ((evmcs->proc & proc) != proc || !(evmcs->proc2 & PROC2_EPT))
		die("VMX lacks controls: has %x and %x", (u64)evmcs->proc, (u64)evmcs->proc2);
	evmcs->io_bitmap[0] = (u64)io_bitmap;
	evmcs->io_bitmap[1] = (u64)io_bitmap + PAGE_SIZE;
	evmcs->msr_bitmap = (u64)msr_bitmap;
	evmcs->ept = guest->nested_root | 3 << 3 | 6;	/* four levels, write-back */
	evmcs->link = -1ull;
	evmcs->hv_vp_id = 0;
	evmcs->hv_vm_id = guest->vm_id;
	evmcs->hv_partition_assist_page = (u64)partition_assist_page;

	for (int i = 0; i < 6; i++)
		evmcs->host_selector[i] = i == CS ? L1_CS : L1_DS;
	evmcs->host_selector[4] = evmcs->host_selector[5] = 0;
	evmcs->host_selector[6] = L1_DS;	/* TR must not be 0; L1 has no use for it */
	evmcs->host_efer = rdmsr(MSR_EFER);
	evmcs->host_cr0 = read_reg(cr0);
	evmcs->host_cr3 = read_reg(cr3);
	evmcs->host_cr4 = read_reg(cr4);
	evmcs->host_rip = (u64)vmx_exited;
	asm volatile("sgdt %0" : "=m"(table));
	evmcs->host_gdtr_base = table.base;
	asm volatile("sidt %0" : "=m"(table));
	evmcs->host_idtr_base = table.base;

	for (int i = ES; i <= GS; i++) {
		evmcs->selector[i] = i == CS ? 0x10 : 0x18;
		evmcs->limit[i] = 0xffffffff;
		evmcs->ar[i] = i == CS ? 0xa09b : 0xc093;
	}
	evmcs->ar[LDTR] = UNUSABLE;
	evmcs->ar[TR] = 0x8b;
	evmcs->limit[TR] = 0xffff;
	evmcs->base[GDTR] = start->gdt_base;
	evmcs->limit[GDTR] = start->gdt_limit;
	evmcs->efer = EFER_LME | EFER_LMA;
	evmcs->cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE;
	evmcs->cr3 = start->cr3;
	/* CR4.VMXE must be set while the guest runs, but it isn't the guest's. */
	evmcs->cr4 = CR4_PAE | CR4_VMXE;
	evmcs->cr4_mask = CR4_VMXE;
	evmcs->cr4_shadow = CR4_PAE;
	evmcs->dr7 = 0x400;
	evmcs->rflags = 2;
	evmcs->rsp = start->rsp;
	guest->rip = start->rip;
}

static void vmx_run(struct guest *guest, struct exit *exit)
{
	struct evmcs *evmcs = guest->control;

	/* L0 has one VMCS at a time: another one has to be launched again. */
	if (vp_assist.current_nested_vmcs != (u64)evmcs)
		guest->launched = false;
	vp_assist.current_nested_vmcs = (u64)evmcs;
	vp_assist.enlighten_vmentry = 1;
	if (evmcs->rip != guest->rip)
		evmcs->interruptibility &= ~3;
	evmcs->rip = guest->rip;
	evmcs->hv_clean = 0;
	if (!vmx_enter(&guest->regs, &evmcs->host_rsp, guest->launched))
		die("%s: can't be entered, error %u", guest->name, (u64)evmcs->instruction_error);
	guest->launched = true;
	guest->rip = evmcs->rip;
	evmcs->entry_event = 0;

	*exit = (struct exit) {
		.kind = EXIT_OTHER, .reason = evmcs->exit_reason, .length = evmcs->exit_length,
		.address = evmcs->exit_qualification,
	};
	switch (evmcs->exit_reason) {
	case VMX_EXIT_CPUID:
		exit->kind = EXIT_CPUID;
		break;
	case VMX_EXIT_RDMSR:
		exit->kind = EXIT_RDMSR;
		break;
	case VMX_EXIT_WRMSR:
		exit->kind = EXIT_WRMSR;
		break;
	case VMX_EXIT_VMCALL:
		exit->kind = EXIT_HYPERCALL;
		break;
	case VMX_EXIT_HLT:
		exit->kind = EXIT_HLT;
		break;
	case VMX_EXIT_XSETBV:
		exit->kind = EXIT_XSETBV;
		break;
	case VMX_EXIT_IO:
		if (!(evmcs->exit_qualification & BIT(3)))
			exit->kind = EXIT_OUT;
		exit->port = evmcs->exit_qualification >> 16;
		break;
	case VMX_EXIT_EPT:
		exit->kind = EXIT_NO_MEMORY;
		exit->address = evmcs->exit_gpa;
		break;
	}
}

static void vmx_authorize(struct guest *guest, bool yes)
{
	((struct evmcs *)guest->control)->hv_control = yes;
}

static void vmx_flush(struct guest *guest)
{
	const u64 all_contexts = 2, descriptor[2] = { 0, 0 };
	bool failed;

	(void)guest;
	asm volatile("invept %1, %2" : "=@ccbe"(failed) : "m"(descriptor), "r"(all_contexts) : "memory");
	if (failed)
		die("INVEPT failed");
}

static void vmx_inject_gp(struct guest *guest)
{
	struct evmcs *evmcs = guest->control;

	/* An exception with an error code, which is 0. */
	evmcs->entry_event = BIT(31) | BIT(11) | 3 << 8 | GP_VECTOR;
	evmcs->entry_error = 0;
}

const struct vendor vmx_vendor = {
	.name = "VMX",
	.hypercall = { 0x0f, 0x01, 0xc1 },	/* VMCALL */
	.cpuid_leaf = 1,
	.cpuid_ecx_bit = 5,
	.table = 7,				/* read, write, execute */
	.page = 7 | 6 << 3,			/* and write-back */
	.large = BIT(7),
	.uncached = 6 << 3,
	.init = vmx_init,
	.setup = vmx_setup,
	.run = vmx_run,
	.authorize = vmx_authorize,
	.flush = vmx_flush,
	.inject_gp = vmx_inject_gp,
};
