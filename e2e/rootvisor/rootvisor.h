/* SPDX-License-Identifier: GPL-2.0 */
/*
 * rootvisor: a thin hypervisor that runs Linux as its root partition. What the files share.
 */
#ifndef ROOTVISOR_H
#define ROOTVISOR_H

#ifndef __ASSEMBLER__
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
#endif

/* All of L1, with its stack and tables, is in these 2 MiB, which no guest gets to see. */
#define L1_BASE			0x200000
#define L1_SIZE			0x200000

#define L1_CS			0x08
#define L1_DS			0x10

#ifndef __ASSEMBLER__
#define PAGE_SIZE		4096
#define PAGE_MASK		(~(u64)(PAGE_SIZE - 1))
#define LARGE_PAGE_SIZE		0x200000
#define BIT(n)			(1ull << (n))
#define PAGE_ALIGNED		__attribute__((aligned(PAGE_SIZE)))

#define MSR_FEATURE_CONTROL	0x3a
#define MSR_VMX_BASIC		0x480
#define MSR_EFER		0xc0000080
#define EFER_LME		BIT(8)
#define EFER_LMA		BIT(10)
#define EFER_SVME		BIT(12)

#define CR0_PE			BIT(0)
#define CR0_MP			BIT(1)
#define CR0_ET			BIT(4)
#define CR0_NE			BIT(5)
#define CR0_WP			BIT(16)
#define CR0_PG			BIT(31)
#define CR4_PAE			BIT(5)
#define CR4_VMXE		BIT(13)
#define CR4_OSXSAVE		BIT(18)

#define GP_VECTOR		13

/* Hyper-V, from the Top Level Functional Specification. */
#define HV_MSR_GUEST_OS_ID	0x40000000
#define HV_MSR_HYPERCALL	0x40000001
#define HV_MSR_REFERENCE_TSC	0x40000021
#define HV_MSR_VP_ASSIST_PAGE	0x40000073
#define HV_MSR_SCONTROL		0x40000080
#define HV_MSR_SIEFP		0x40000082
#define HV_MSR_SIMP		0x40000083
#define HV_MSR_EOM		0x40000084
#define HV_MSR_SINT0		0x40000090
#define HV_MSR_SINT15		0x4000009f
#define HV_MSR_LAST		0x40000fff
#define HV_MSR_NESTED		0x00001000	/* on top of the number of a SynIC MSR */
#define HV_CALL_POST_MESSAGE	0x5c
#define HV_CALL_SIGNAL_EVENT	0x5d
#define HV_CALL_FAST		BIT(16)
#define HV_CALL_NESTED		BIT(31)
#define HV_STATUS_INVALID_CODE	0x2
#define HV_STATUS_NO_CONNECTION	0x12
#define HV_STATUS_NO_BUFFERS	0x13

/* The page by which L1 gives its consent, among other things. */
struct hv_vp_assist {
	u32 apic_assist, reserved1, vtl[6];
	u32 direct_hypercall;		/* bit 0 of the nested features */
	u32 hypercall_controls;
	u8 enlighten_vmentry, reserved2[7];
	u64 current_nested_vmcs;
};

_Static_assert(offsetof(struct hv_vp_assist, direct_hypercall) == 32, "layout of the TLFS");
_Static_assert(offsetof(struct hv_vp_assist, current_nested_vmcs) == 48, "layout of the TLFS");

/* Of LGDT and the like. */
struct table_pointer {
	u16 limit;
	u64 base;
} __attribute__((packed));

/* In the order of LOAD_REGS and SAVE_REGS. */
struct regs {
	u64 rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
};

/*
 * For the vendors' entry code, with RDI pointing to struct regs: all but RAX, which is not always
 * there. The guest's RDI is loaded last, and is on the stack when the others are saved.
 */
#define LOAD_REGS \
	"	movq	8(%rdi), %rcx\n" \
	"	movq	16(%rdi), %rdx\n" \
	"	movq	24(%rdi), %rbx\n" \
	"	movq	32(%rdi), %rbp\n" \
	"	movq	40(%rdi), %rsi\n" \
	"	movq	56(%rdi), %r8\n" \
	"	movq	64(%rdi), %r9\n" \
	"	movq	72(%rdi), %r10\n" \
	"	movq	80(%rdi), %r11\n" \
	"	movq	88(%rdi), %r12\n" \
	"	movq	96(%rdi), %r13\n" \
	"	movq	104(%rdi), %r14\n" \
	"	movq	112(%rdi), %r15\n" \
	"	movq	48(%rdi), %rdi\n"

#define SAVE_REGS \
	"	movq	%rcx, 8(%rdi)\n" \
	"	movq	%rdx, 16(%rdi)\n" \
	"	movq	%rbx, 24(%rdi)\n" \
	"	movq	%rbp, 32(%rdi)\n" \
	"	movq	%rsi, 40(%rdi)\n" \
	"	popq	48(%rdi)\n" \
	"	movq	%r8, 56(%rdi)\n" \
	"	movq	%r9, 64(%rdi)\n" \
	"	movq	%r10, 72(%rdi)\n" \
	"	movq	%r11, 80(%rdi)\n" \
	"	movq	%r12, 88(%rdi)\n" \
	"	movq	%r13, 96(%rdi)\n" \
	"	movq	%r14, 104(%rdi)\n" \
	"	movq	%r15, 112(%rdi)\n"

/* A table of the nested paging; all levels look alike, up to the bits of the vendor. */
typedef u64 table_t[PAGE_SIZE / sizeof(u64)];

struct guest {
	const char *name;
	struct regs regs;
	u64 rip;		/* written back when the guest is run */
	u64 nested_root;	/* of its nested paging */
	u64 vm_id;		/* for L0 */
	void *control;		/* VMCB or enlightened VMCS, a page */
	bool launched;
	u64 calls_reflected[2];	/* nested posts and signals */
};

enum exit_kind {
	EXIT_CPUID,
	EXIT_RDMSR,
	EXIT_WRMSR,
	EXIT_HYPERCALL,
	EXIT_OUT,
	EXIT_HLT,
	EXIT_XSETBV,
	EXIT_NO_MEMORY,		/* a guest's access that nested paging doesn't allow */
	EXIT_OTHER,
};

struct exit {
	enum exit_kind kind;
	u32 length;		/* of the instruction */
	u16 port;
	u64 reason, address;	/* as the processor has them, for messages */
};

/* What a guest starts with, in 64-bit mode, at CPL 0, without interrupts. */
struct start {
	u64 rip, rsp, cr3;
	u64 gdt_base;
	u16 gdt_limit;
};

struct vendor {
	const char *name;
	u8 hypercall[3];		/* the instruction */
	u32 cpuid_leaf, cpuid_ecx_bit;	/* which says that there is virtualization */
	u64 table, page, large;		/* bits of nested paging's entries */
	u64 uncached;			/* those that are different for MMIO */
	void (*init)(void);
	void (*setup)(struct guest *guest, const struct start *start);
	void (*run)(struct guest *guest, struct exit *exit);
	/* Whether the guest may make hypercalls to L0, besides the VP assist page. */
	void (*authorize)(struct guest *guest, bool yes);
	/* The guest's nested paging has changed. */
	void (*flush)(struct guest *guest);
	void (*inject_gp)(struct guest *guest);
};

extern const struct vendor vmx_vendor, svm_vendor;
extern struct hv_vp_assist vp_assist;
extern u8 io_bitmap[3 * PAGE_SIZE];

/* boot.S: false if the instruction raised #GP. */
bool safe_rdmsr(u32 msr, u64 *value);
bool safe_wrmsr(u32 msr, u64 value);
bool safe_xsetbv(u32 index, u64 value);

/* firmware.c */
void run_firmware(bool deaf);

void print(const char *format, ...);
__attribute__((noreturn)) void die(const char *format, ...);

static inline u64 rdmsr(u32 msr)
{
	u64 value;

	if (!safe_rdmsr(msr, &value))
		die("MSR %x can't be read", (u64)msr);
	return value;
}

static inline void wrmsr(u32 msr, u64 value)
{
	if (!safe_wrmsr(msr, value))
		die("MSR %x doesn't take %x", (u64)msr, value);
}

static inline void cpuid(u32 leaf, u32 subleaf, u32 out[4])
{
	asm volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
		     : "a"(leaf), "c"(subleaf));
}

static inline u8 inb(u16 port)
{
	u8 value;

	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void outb(u16 port, u8 value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

#define read_reg(reg)							\
({									\
	u64 value_;							\
	asm volatile("mov %%" #reg ", %0" : "=r"(value_));		\
	value_;								\
})

#define write_reg(reg, value)						\
({									\
	asm volatile("mov %0, %%" #reg : : "r"((u64)(value)) : "memory"); \
})

#endif /* __ASSEMBLER__ */

#endif /* ROOTVISOR_H */
