// SPDX-License-Identifier: GPL-2.0
/*
 * rootvisor: a thin hypervisor of the shape of Hyper-V's own, for one purpose: to run Linux as its
 * root partition, i.e. as a guest that has the machine to itself but for what makes it a guest of
 * a nested hypervisor. L0 is KVM, with Hyper-V enlightenments.
 *
 * Boot: multiboot, with the Linux kernel and its initramfs as modules; the first module's arguments
 * are Linux' command line. L1's own arguments are "noauth": never authorize L2's direct hypercalls, and
 * "child-auth": authorize those of the other guest, too; "id-by-boot": the root's VM ID differs by
 * how often the machine was reset, and the other guest has that of the root before; and "firmware":
 * connect to the vmbus and unload it before there is an L2, or "deaf-firmware": try to connect.
 *
 * L2 has interrupts, the APIC, ports and memory directly. What it doesn't:
 *
 *   CPUID	says that there is a nested hypervisor, and no VMX or SVM
 *   SynIC	L2 uses the nested MSRs, 0x4000108x and 0x4000109x, for which L1 takes L0's SynIC
 *   hypercalls	L1's hypercall page for L2 has the plain instruction. Whatever arrives in L1
 *		gets an error: L1 has no way to its parent's vmbus, nor anything else to offer
 *   memory	one to one, without L1's own, and except for the page of L2's messages
 *
 * That page is the one to which the address of L2's first nested call points. L1 doesn't authorize
 * L2 until then; it moves the page to another frame, leaves rubbish in the old one, authorizes L2
 * and has it make the call again. All other pages have to stay where they are: the payload of
 * vmbus messages has addresses of L2's ring buffers, which nobody translates.
 *
 * Two ports are L1's, to be written by a program in L2:
 *
 *   0x4f0	print what was counted, and end QEMU (isa-debug-exit) with the value
 *   0x4f1	run another guest, which tries to break the root's vmbus
 *
 * L1 prints to QEMU's isa-debugcon.
 */
#include "rootvisor.h"

#define PORT_CONSOLE		0xe9
#define PORT_QEMU_EXIT		0x501
#define PORT_CMOS_INDEX		0x70
#define PORT_CMOS_DATA		0x71
#define CMOS_BOOTS		0x7e	/* of the RAM there, which a reset keeps */
#define PORT_END		0x4f0
#define PORT_CHILD		0x4f1

#define MULTIBOOT_LOADED	0x2badb002

/* Where L2 finds what the Linux boot protocol wants; below 640 KiB, free from then on. */
#define L2_PAGE_TABLES		0x70000
#define L2_GDT			0x7f000
#define L2_BOOT_PARAMS		0x80000
#define L2_COMMAND_LINE		0x81000
#define COMMAND_LINE_SIZE	2048

#define LOWEST_MMIO		0xc0000000
#define MAPPED_GIB		4ull

struct multiboot_info {
	u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
	u32 mmap_length, mmap_addr;
};

struct multiboot_module {
	u32 start, end, string, reserved;
};

struct multiboot_range {
	u32 size;
	u64 base, length;
	u32 type;
} __attribute__((packed));

struct e820_entry {
	u64 base, length;
	u32 type;
} __attribute__((packed));

#define E820_RESERVED		2
#define E820_MAX		128

/* Offsets into Linux' boot_params, by its Documentation/arch/x86/boot.rst. */
enum {
	BP_E820_ENTRIES		= 0x1e8,
	BP_SETUP_HEADER		= 0x1f1,
	BP_SETUP_SECTS		= 0x1f1,
	BP_MAGIC		= 0x202,
	BP_TYPE_OF_LOADER	= 0x210,
	BP_RAMDISK_IMAGE	= 0x218,
	BP_RAMDISK_SIZE		= 0x21c,
	BP_CMD_LINE_PTR		= 0x228,
	BP_XLOADFLAGS		= 0x236,
	BP_PREF_ADDRESS		= 0x258,
	BP_INIT_SIZE		= 0x260,
	BP_E820_TABLE		= 0x2d0,
};

struct idt_entry {
	u16 offset0, selector;
	u8 ist, type;
	u16 offset1;
	u32 offset2, reserved;
};

extern char exception_entries[];

struct hv_vp_assist vp_assist PAGE_ALIGNED;
u8 io_bitmap[3 * PAGE_SIZE] PAGE_ALIGNED;

static const struct vendor *vendor;
static struct idt_entry idt[32];
static struct guest root = { .name = "root" }, child = { .name = "child" };
static u8 control_pages[2][PAGE_SIZE] PAGE_ALIGNED;
static table_t tables[48] PAGE_ALIGNED;
static unsigned int tables_used;
static u8 moved_pages[4][PAGE_SIZE] PAGE_ALIGNED;
static unsigned int moved_used;
static u8 child_memory[8][PAGE_SIZE] PAGE_ALIGNED;
static char command_line[COMMAND_LINE_SIZE];

static bool never_authorize, authorize_child, id_by_boot, first_call_seen;
static u64 boots;
static struct {
	u64 exits, cpuid, nested_synic, own_calls, pages_moved;
} counts;
static u64 l2_guest_os_id, l2_hypercall_page, l2_vp_assist_page;

void *memcpy(void *to, const void *from, size_t n)
{
	void *ret = to;

	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	return ret;
}

void *memset(void *to, int value, size_t n)
{
	void *ret = to;

	asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
	return ret;
}

static void put_char(char c)
{
	outb(PORT_CONSOLE, c);
}

static void print_number(u64 n, unsigned int base)
{
	char digits[20];
	int i = 0;

	do {
		digits[i++] = "0123456789abcdef"[n % base];
		n /= base;
	} while (n);
	while (i)
		put_char(digits[--i]);
}

/* %s, and %u and %x for u64. */
static void vprint(const char *format, va_list ap)
{
	for (; *format; format++) {
		if (*format != '%') {
			put_char(*format);
			continue;
		}
		switch (*++format) {
		case 's':
			for (const char *s = va_arg(ap, const char *); *s; s++)
				put_char(*s);
			break;
		case 'u':
			print_number(va_arg(ap, u64), 10);
			break;
		case 'x':
			print_number(va_arg(ap, u64), 16);
			break;
		}
	}
}

void print(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vprint(format, ap);
	va_end(ap);
	put_char('\n');
}

__attribute__((noreturn)) static void end(u8 value)
{
	outb(PORT_QEMU_EXIT, value);
	for (;;)
		asm volatile("hlt");
}

__attribute__((noreturn)) void die(const char *format, ...)
{
	va_list ap;

	print("fatal:");
	va_start(ap, format);
	vprint(format, ap);
	va_end(ap);
	put_char('\n');
	end(0x7f);
}

/* Called by boot.S. */
__attribute__((noreturn)) void unexpected_exception(u64 vector, u64 error, u64 rip, u64 cr2);
void unexpected_exception(u64 vector, u64 error, u64 rip, u64 cr2)
{
	die("exception %u in L1, error code %x, RIP %x, CR2 %x", vector, error, rip, cr2);
}

static void set_up_exceptions(void)
{
	struct table_pointer pointer = { sizeof(idt) - 1, (u64)idt };

	for (u64 i = 0; i < 32; i++) {
		u64 entry = (u64)exception_entries + i * 16;

		idt[i] = (struct idt_entry) {
			.offset0 = entry, .offset1 = entry >> 16, .offset2 = entry >> 32,
			.selector = L1_CS, .type = 0x8e,
		};
	}
	asm volatile("lidt %0" : : "m"(pointer));
}

static bool word_in(const char *line, const char *word)
{
	for (; *line; line++) {
		const char *a = line, *b = word;

		while (*b && *a == *b)
			a++, b++;
		if (!*b && (!*a || *a == ' '))
			return true;
		while (*line && line[1] && *line != ' ')
			line++;
	}
	return false;
}

/* Nested paging: four levels, like the processor's own, with the vendor's bits. */

static u64 *new_table(void)
{
	if (tables_used == sizeof(tables) / sizeof(tables[0]))
		die("out of page tables");
	return tables[tables_used++];
}

static u64 *next_table(u64 *entry)
{
	if (!*entry)
		*entry = (u64)new_table() | vendor->table;
	return (u64 *)(*entry & PAGE_MASK);
}

/* The entry of the page directory that maps the 2 MiB around @gpa. */
static u64 *large_entry(struct guest *guest, u64 gpa)
{
	u64 *table;

	if (!guest->nested_root)
		guest->nested_root = (u64)new_table();
	table = next_table((u64 *)guest->nested_root + (gpa >> 39 & 511));
	table = next_table(table + (gpa >> 30 & 511));
	return table + (gpa >> 21 & 511);
}

/* The entry of the page table; splits a large page. */
static u64 *small_entry(struct guest *guest, u64 gpa)
{
	u64 *entry = large_entry(guest, gpa), large = *entry;

	if (large & vendor->large) {
		u64 *table = new_table();

		for (u64 i = 0; i < 512; i++)
			table[i] = (large & ~vendor->large) + i * PAGE_SIZE;
		*entry = (u64)table | vendor->table;
	}
	return next_table(entry) + (gpa >> 12 & 511);
}

static void map_root_memory(void)
{
	for (u64 gpa = 0; gpa < MAPPED_GIB << 30; gpa += LARGE_PAGE_SIZE) {
		if (gpa >= L1_BASE && gpa < L1_BASE + L1_SIZE)
			continue;
		*large_entry(&root, gpa) = (gpa | vendor->page | vendor->large) ^
					   (gpa >= LOWEST_MMIO ? vendor->uncached : 0);
	}
}

/* L1's address of the guest's page; 0 if it has none. */
static u64 translate(struct guest *guest, u64 gpa)
{
	u64 entry;

	if (gpa >= MAPPED_GIB << 30)
		return 0;
	entry = *large_entry(guest, gpa);
	if (!entry)
		return 0;
	if (entry & vendor->large)
		return (entry & ~(u64)(LARGE_PAGE_SIZE - 1)) | (gpa & (LARGE_PAGE_SIZE - 1));
	entry = *small_entry(guest, gpa);
	return entry ? (entry & PAGE_MASK) | (gpa & ~PAGE_MASK) : 0;
}

/* Who takes L2's address for one of L1 finds rubbish from now on. */
static void move_page(struct guest *guest, u64 gpa)
{
	void *to = moved_pages[moved_used], *from = (void *)(translate(guest, gpa) & PAGE_MASK);

	if (moved_used == sizeof(moved_pages) / sizeof(moved_pages[0]))
		die("no frame to move page %x to", gpa);
	if (!from || gpa >= LOWEST_MMIO)
		die("L2's first call has its input at %x, where it has no memory", gpa);
	moved_used++;
	memcpy(to, from, PAGE_SIZE);
	memset(from, 0xdb, PAGE_SIZE);
	*small_entry(guest, gpa) = (u64)to | vendor->page;
	vendor->flush(guest);
	counts.pages_moved++;
	print("moved L2's page %x to %x", gpa & PAGE_MASK, (u64)to);
}

static void handle_cpuid(struct guest *guest)
{
	u32 leaf = guest->regs.rax, out[4];

	counts.cpuid++;
	cpuid(leaf, guest->regs.rcx, out);
	if (leaf == vendor->cpuid_leaf)
		out[2] &= ~(1u << vendor->cpuid_ecx_bit);
	switch (leaf) {
	case 0x40000000:
		/* No leaf 0x4000000a: L2 has no nested features to use. */
		if (out[0] > 0x40000006)
			out[0] = 0x40000006;
		break;
	case 0x40000004:
		/*
		 * No hypercalls and no EOI by MSR, which L1 would have to handle. Keep "relaxed
		 * timing" and "no auto-EOI"; bit 12 says that the hypervisor is nested.
		 */
		out[0] = (out[0] & (BIT(5) | BIT(9))) | BIT(12);
		break;
	case 0x8000000a:
		memset(out, 0, sizeof(out));
		break;
	}
	guest->regs.rax = out[0];
	guest->regs.rbx = out[1];
	guest->regs.rcx = out[2];
	guest->regs.rdx = out[3];
}

/*
 * L1's hypercall page of L2, put into L2's own page: the instruction and a RET. Linux wants the nested
 * bit in HvSignalEvent, but loses it in hv_do_fast_hypercall8(), whose code is an u16 (7.3): in front
 * of the instruction, give the bit back.
 */
static void write_hypercall_page(u64 value)
{
	static const u8 signal[] = {
		0x66, 0x83, 0xf9, HV_CALL_SIGNAL_EVENT,	/* cmpw $HV_CALL_SIGNAL_EVENT, %cx */
		0x75, 0x05,				/* jne to the instruction */
		0x48, 0x0f, 0xba, 0xe9, 31,		/* bts $31, %rcx */
	};
	u8 *page;

	l2_hypercall_page = value;
	if (!(value & 1))
		return;
	page = (u8 *)translate(&root, value & PAGE_MASK);
	if (!page)
		die("L2's hypercall page is at %x, where it has no memory", value & PAGE_MASK);
	memcpy(page, signal, sizeof(signal));
	memcpy(page + sizeof(signal), vendor->hypercall, sizeof(vendor->hypercall));
	page[sizeof(signal) + sizeof(vendor->hypercall)] = 0xc3;
}

/* The MSR of L0 that stands behind L2's; 0 if there is none. */
static u32 msr_of_l0(u32 msr)
{
	if (msr >= HV_MSR_NESTED + HV_MSR_SCONTROL && msr <= HV_MSR_NESTED + HV_MSR_SINT15) {
		counts.nested_synic++;
		return msr - HV_MSR_NESTED;
	}
	/* The SynIC that L1 would have for L2, if it had one. */
	if (msr >= HV_MSR_SCONTROL && msr <= HV_MSR_SINT15)
		return 0;
	/* Nor can L2 have MSRs beyond Hyper-V's that KVM wouldn't let it have directly. */
	return msr >= HV_MSR_GUEST_OS_ID && msr <= HV_MSR_LAST ? msr : 0;
}

static bool read_msr(u32 msr, u64 *value)
{
	u32 of_l0;

	switch (msr) {
	case HV_MSR_GUEST_OS_ID:
		*value = l2_guest_os_id;
		return true;
	case HV_MSR_HYPERCALL:
		*value = l2_hypercall_page;
		return true;
	case HV_MSR_VP_ASSIST_PAGE:
		*value = l2_vp_assist_page;
		return true;
	}
	of_l0 = msr_of_l0(msr);
	return of_l0 && safe_rdmsr(of_l0, value);
}

static bool write_msr(u32 msr, u64 value)
{
	u32 of_l0;
	u64 page;

	switch (msr) {
	case HV_MSR_GUEST_OS_ID:
		l2_guest_os_id = value;
		return true;
	case HV_MSR_HYPERCALL:
		write_hypercall_page(value);
		return true;
	case HV_MSR_VP_ASSIST_PAGE:
		l2_vp_assist_page = value;
		return true;
	}
	of_l0 = msr_of_l0(msr);
	switch (of_l0) {
	case 0:
		return false;
	case HV_MSR_SIEFP:
	case HV_MSR_SIMP:
	case HV_MSR_REFERENCE_TSC:
		/* L0 wants L1's address. Reading it back gives L2 another one, if it was moved. */
		page = translate(&root, value & PAGE_MASK);
		if (value & 1 && !page)
			return false;
		value = (value & ~PAGE_MASK) | page;
		break;
	}
	return safe_wrmsr(of_l0, value);
}

static bool handle_rdmsr(struct guest *guest)
{
	u64 value;

	if (!read_msr(guest->regs.rcx, &value))
		return false;
	guest->regs.rax = (u32)value;
	guest->regs.rdx = value >> 32;
	return true;
}

static bool handle_wrmsr(struct guest *guest)
{
	return write_msr(guest->regs.rcx, guest->regs.rdx << 32 | (u32)guest->regs.rax);
}

/*
 * A hypercall that L0 gave to L1. Returns false if the guest is to make it again, which is for the
 * root's first nested one.
 */
static bool handle_hypercall(struct guest *guest)
{
	u64 control = guest->regs.rcx, input = guest->regs.rdx;
	u16 code = control;

	if (!(control & HV_CALL_NESTED)) {
		counts.own_calls++;
	} else if (guest == &root && !first_call_seen) {
		first_call_seen = true;
		print("first nested call: control %x, L2 GPA %x", control, input);
		if (!(control & HV_CALL_FAST))
			move_page(guest, input);
		if (!never_authorize)
			vendor->authorize(guest, true);
		print("L2 is %sauthorized", never_authorize ? "not " : "");
		return false;
	} else if (code == HV_CALL_POST_MESSAGE || code == HV_CALL_SIGNAL_EVENT) {
		if (!guest->calls_reflected[code - HV_CALL_POST_MESSAGE]++)
			print("%s: L0 reflects call %x, L1 answers %x", guest->name, control,
			      (u64)HV_STATUS_INVALID_CODE);
	}
	guest->regs.rax = HV_STATUS_INVALID_CODE;
	return true;
}

/* Another guest, in eight pages of its own; the code is at the end of this file. */
enum { CHILD_PML4 = 1, CHILD_PDPT, CHILD_PD, CHILD_CODE, CHILD_MESSAGE, CHILD_HYPERCALL, CHILD_STACK };
#define CHILD_CALLS	4

extern const char child_code[], child_code_end[];

static u64 count_boot(void)
{
	u64 n;

	outb(PORT_CMOS_INDEX, CMOS_BOOTS);
	n = inb(PORT_CMOS_DATA);
	outb(PORT_CMOS_INDEX, CMOS_BOOTS);
	outb(PORT_CMOS_DATA, n + 1);
	return n;
}

static u64 vm_id_of_root(u64 boot)
{
	return root.nested_root + (boot << 32);
}

static void set_up_child(void)
{
	static const u32 unload[] = { 1, 0, 1, 8, 16, 0 };
	u64 (*memory)[PAGE_SIZE / sizeof(u64)] = (void *)child_memory;
	struct start start = {
		.rip = CHILD_CODE * PAGE_SIZE, .rsp = CHILD_STACK * PAGE_SIZE + PAGE_SIZE,
		.cr3 = CHILD_PML4 * PAGE_SIZE,
	};

	memset(child_memory, 0, sizeof(child_memory));
	memory[CHILD_PML4][0] = CHILD_PDPT * PAGE_SIZE | 3;
	memory[CHILD_PDPT][0] = CHILD_PD * PAGE_SIZE | 3;
	memory[CHILD_PD][0] = 0x83;
	memcpy(memory[CHILD_CODE], child_code, child_code_end - child_code);
	memcpy(memory[CHILD_MESSAGE], unload, sizeof(unload));
	memcpy(memory[CHILD_HYPERCALL], vendor->hypercall, sizeof(vendor->hypercall));
	child_memory[CHILD_HYPERCALL][sizeof(vendor->hypercall)] = 0xc3;
	for (u64 i = 0; i < sizeof(child_memory) / PAGE_SIZE; i++)
		*small_entry(&child, i * PAGE_SIZE) = (u64)child_memory[i] | vendor->page;

	memset(control_pages[1], 0, PAGE_SIZE);
	child.control = control_pages[1];
	child.launched = false;
	child.vm_id = id_by_boot ? vm_id_of_root(boots - 1) : child.nested_root;
	vendor->setup(&child, &start);
	vendor->flush(&child);
}

static void run_child(void)
{
	struct exit exit;

	set_up_child();
	if (authorize_child)
		vendor->authorize(&child, true);
	print("child: starts");
	for (;;) {
		vendor->run(&child, &exit);
		counts.exits++;
		if (exit.kind == EXIT_HLT)
			break;
		if (exit.kind != EXIT_HYPERCALL)
			die("child: exit %x at %x, address %x", exit.reason, child.rip, exit.address);
		handle_hypercall(&child);
		child.rip += exit.length;
	}
	print("child: posts reflected %u of %u, signals reflected %u of %u", child.calls_reflected[0],
	      (u64)CHILD_CALLS, child.calls_reflected[1], (u64)CHILD_CALLS);
}

static void report(void)
{
	print("root: posts reflected %u, signals reflected %u, first call learned from %u",
	      root.calls_reflected[0], root.calls_reflected[1], (u64)first_call_seen);
	print("root: exits %u, CPUID %u, nested SynIC MSRs %u, own hypercalls %u, pages moved %u",
	      counts.exits, counts.cpuid, counts.nested_synic, counts.own_calls, counts.pages_moved);
}

static void run_root(void)
{
	struct exit exit;
	bool done;

	for (;;) {
		vendor->run(&root, &exit);
		counts.exits++;
		done = true;
		switch (exit.kind) {
		case EXIT_CPUID:
			handle_cpuid(&root);
			break;
		case EXIT_RDMSR:
			done = handle_rdmsr(&root);
			break;
		case EXIT_WRMSR:
			done = handle_wrmsr(&root);
			break;
		case EXIT_XSETBV:
			done = safe_xsetbv(root.regs.rcx, root.regs.rdx << 32 | (u32)root.regs.rax);
			break;
		case EXIT_HYPERCALL:
			if (!handle_hypercall(&root))
				continue;
			break;
		case EXIT_OUT:
			if (exit.port == PORT_END) {
				report();
				end(root.regs.rax);
			}
			run_child();
			break;
		default:
			report();
			die("L2: exit %x at %x, address %x", exit.reason, root.rip, exit.address);
		}
		if (done)
			root.rip += exit.length;
		else
			vendor->inject_gp(&root);
	}
}

static bool overlap(u64 start1, u64 end1, u64 start2, u64 end2)
{
	return start1 < end2 && start2 < end1;
}

#define PARAM(type, offset)	(*(type *)(L2_BOOT_PARAMS + (offset)))

/* The kernel where it wants to be, boot_params, page tables and GDT, for its 64-bit entry. */
static void load_linux(const struct multiboot_info *info, struct start *start)
{
	const struct multiboot_module *kernel = (void *)(u64)info->mods_addr, *initrd = kernel + 1;
	const u8 *image = (u8 *)(u64)kernel->start;
	struct e820_entry *e820 = &PARAM(struct e820_entry, BP_E820_TABLE);
	u64 *gdt = (u64 *)L2_GDT, *table = (u64 *)L2_PAGE_TABLES, setup_size, size, to;
	const char *line = (char *)(u64)kernel->string;
	u32 mmap = info->mmap_addr;
	u8 entries = 0;
	size_t i = 0;

	while (*line && *line != ' ')
		line++;
	while (*line && i < COMMAND_LINE_SIZE - 1)
		command_line[i++] = *line++;

	if (*(u32 *)(image + BP_MAGIC) != 0x53726448 || !(*(u16 *)(image + BP_XLOADFLAGS) & 1))
		die("the first module is not a 64-bit Linux kernel");
	setup_size = (image[BP_SETUP_SECTS] + 1) * 512;
	size = kernel->end - kernel->start - setup_size;
	to = *(u64 *)(image + BP_PREF_ADDRESS);
	if (overlap(to, to + *(u32 *)(image + BP_INIT_SIZE), L1_BASE, L1_BASE + L1_SIZE) ||
	    overlap(to, to + *(u32 *)(image + BP_INIT_SIZE), kernel->start, kernel->end) ||
	    overlap(to, to + *(u32 *)(image + BP_INIT_SIZE), initrd->start, initrd->end))
		die("Linux wants to be at %x, which is not free", to);

	memset((void *)L2_BOOT_PARAMS, 0, PAGE_SIZE);
	/* The header ends where the jump at its start goes. */
	memcpy((void *)(L2_BOOT_PARAMS + BP_SETUP_HEADER), image + BP_SETUP_HEADER,
	       BP_MAGIC + image[0x201] - BP_SETUP_HEADER);
	for (u32 at = mmap; at < mmap + info->mmap_length;) {
		const struct multiboot_range *range = (void *)(u64)at;

		e820[entries++] = (struct e820_entry) { range->base, range->length, range->type };
		at += range->size + sizeof(range->size);
		if (entries == E820_MAX - 1)
			break;
	}
	e820[entries++] = (struct e820_entry) { L1_BASE, L1_SIZE, E820_RESERVED };
	PARAM(u8, BP_E820_ENTRIES) = entries;
	PARAM(u8, BP_TYPE_OF_LOADER) = 0xff;
	PARAM(u32, BP_RAMDISK_IMAGE) = initrd->start;
	PARAM(u32, BP_RAMDISK_SIZE) = initrd->end - initrd->start;
	PARAM(u32, BP_CMD_LINE_PTR) = L2_COMMAND_LINE;
	memcpy((void *)L2_COMMAND_LINE, command_line, COMMAND_LINE_SIZE);
	memcpy((void *)to, image + setup_size, size);

	/* PML4, PDPT, and four page directories for 4 GiB. */
	memset(table, 0, 6 * PAGE_SIZE);
	table[0] = (L2_PAGE_TABLES + PAGE_SIZE) | 3;
	for (i = 0; i < 4; i++)
		table[512 + i] = (L2_PAGE_TABLES + (2 + i) * PAGE_SIZE) | 3;
	for (i = 0; i < 4 * 512; i++)
		table[1024 + i] = i * LARGE_PAGE_SIZE | 0x83;
	gdt[0] = gdt[1] = 0;
	gdt[2] = 0x00af9b000000ffff;	/* __BOOT_CS, 0x10 */
	gdt[3] = 0x00cf93000000ffff;	/* __BOOT_DS, 0x18 */

	*start = (struct start) {
		.rip = to + 0x200, .cr3 = L2_PAGE_TABLES, .rsp = L2_PAGE_TABLES + 0xf000,
		.gdt_base = L2_GDT, .gdt_limit = 4 * sizeof(u64) - 1,
	};
	root.regs.rsi = L2_BOOT_PARAMS;
	print("L2: Linux at %x, initramfs at %x, command line%s", to, (u64)initrd->start, command_line);
}

static void pick_vendor(void)
{
	u32 out[4];

	vendor = &svm_vendor;
	cpuid(0, 0, out);
	if (out[2] == 0x6c65746e)	/* "ntel" */
		vendor = &vmx_vendor;
	cpuid(vendor->cpuid_leaf, 0, out);
	if (!(out[2] & 1u << vendor->cpuid_ecx_bit))
		die("no %s", vendor->name);
	cpuid(0x40000000, 0, out);
	if (out[0] < 0x4000000a || out[1] != 0x7263694d)	/* "Micr" */
		die("L0 is no Hyper-V with nested features: leaves up to %x", (u64)out[0]);
	cpuid(0x4000000a, 0, out);
	if (!(out[0] & BIT(17)))
		die("L0 doesn't offer direct hypercalls: nested features %x", (u64)out[0]);
}

void main(u32 magic, const struct multiboot_info *info);
void main(u32 magic, const struct multiboot_info *info)
{
	struct start start;
	u32 out[4];

	set_up_exceptions();
	if (magic != MULTIBOOT_LOADED)
		die("not booted by multiboot");
	if (info->mods_count != 2)
		die("want two modules, a kernel and its initramfs, not %u", (u64)info->mods_count);
	never_authorize = word_in((char *)(u64)info->cmdline, "noauth");
	authorize_child = word_in((char *)(u64)info->cmdline, "child-auth");
	id_by_boot = word_in((char *)(u64)info->cmdline, "id-by-boot");
	if (id_by_boot)
		boots = count_boot();
	pick_vendor();
	if (word_in((char *)(u64)info->cmdline, "firmware"))
		run_firmware(false);
	if (word_in((char *)(u64)info->cmdline, "deaf-firmware"))
		run_firmware(true);

	wrmsr(HV_MSR_GUEST_OS_ID, BIT(63) | 1);
	vp_assist.direct_hypercall = !never_authorize;
	wrmsr(HV_MSR_VP_ASSIST_PAGE, (u64)&vp_assist | 1);
	cpuid(1, 0, out);
	if (out[2] & 1u << 26)
		write_reg(cr4, read_reg(cr4) | CR4_OSXSAVE);
	for (u16 port = PORT_END; port <= PORT_CHILD; port++)
		io_bitmap[port / 8] |= 1 << port % 8;

	vendor->init();
	load_linux(info, &start);
	map_root_memory();
	root.control = control_pages[0];
	root.vm_id = vm_id_of_root(boots);
	vendor->setup(&root, &start);
	print("L2 starts, by %s", vendor->name);
	run_root();
}

/*
 * The child, at its own address 0x4000: some nested posts, each of them a message that ends the
 * vmbus connection if it gets through, and as many signals; then HLT.
 */
_Static_assert(CHILD_CODE == 4 && CHILD_MESSAGE == 5 && CHILD_HYPERCALL == 6 && CHILD_CALLS == 4,
	       "numbers in the code below");
asm(".section .rodata\n"
	"child_code:\n"
	"	movl	$4, %ebx\n"
	"1:	movl	$0x8000005c, %ecx\n"
	"	movl	$0x5000, %edx\n"
	"	xorl	%r8d, %r8d\n"
	"	movl	$0x6000, %eax\n"
	"	call	*%rax\n"
	"	movl	$0x8001005d, %ecx\n"
	"	movl	$1, %edx\n"
	"	movl	$0x6000, %eax\n"
	"	call	*%rax\n"
	"	decl	%ebx\n"
	"	jnz	1b\n"
	"	hlt\n"
	"child_code_end:\n"
	".text\n");
