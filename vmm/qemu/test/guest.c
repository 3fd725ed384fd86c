// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that has nothing but Hyper-V's SynIC, and sends messages to vmbus that no driver would.
 * 32-bit, bootable by multiboot; its argument is one letter, see main(). It says on the debug
 * console what it got, and ends QEMU by isa-debug-exit: with 0 if vmbus still answers.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define PAGE_SIZE	4096
#define PORT_DEBUG	0xe9
#define PORT_EXIT	0x501
#define PORT_RESET	0xcf9
#define VMBUS_SINT	2
#define SECOND		10000000ull	/* of the reference counter, in 100 ns */
#define FLAG		((u32 *)0x800000)	/* survives a reset, unlike the file */
#define NO_VP		1000
#define NOWHERE		0xfed00000	/* HPET's registers, where "-machine hpet=on" */

enum {
	REQUEST_OFFERS = 3,
	OFFERS_DELIVERED = 4,
	OPEN = 5,
	OPEN_RESULT = 6,
	GPADL_HEADER = 8,
	GPADL_BODY = 9,
	GPADL_CREATED = 10,
	CONTACT = 14,
	VERSION_RESPONSE = 15,
	UNLOAD = 16,
};

enum { SUCCESS, INVALID_INPUT = 3, INVALID_ALIGNMENT = 4, INSUFFICIENT_MEMORY = 11 };

/* Of multiboot; the boot loader starts with paging off, at CPL 0. */
asm("	.align	4\n"
	"	.long	0x1badb002, 0, -0x1badb002\n"
	"	.globl	_start\n"
	"_start:\n"
	"	cli\n"
	"	cld\n"
	"	movl	$stack_end, %esp\n"
	"	pushl	%ebx\n"
	"	call	main\n");

struct message {
	u32 type;
	u8 size, flags, reserved[2];
	u64 sender;
	u32 payload[60];
};

static struct {
	u32 connection, reserved, type, size, payload[60];
} post __attribute__((aligned(PAGE_SIZE)));
static u8 two_pages[2 * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static struct message messages[16] __attribute__((aligned(PAGE_SIZE)));
static u8 events[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
u8 stack[8192], stack_end[16];
static int amd;

static void barrier(void)
{
	asm volatile("" : : : "memory");
}

static void out(u16 port, u8 value)
{
	asm volatile("outb %0, %1" : : "a" (value), "Nd" (port));
}

static void print(const char *s)
{
	while (*s)
		out(PORT_DEBUG, *s++);
}

static void print_number(const char *what, u32 value)
{
	char digits[12], *p = digits + 11;

	*p = '\0';
	do {
		*--p = '0' + value % 10;
		value /= 10;
	} while (value);
	print(what);
	print(p);
	print("\n");
}

static __attribute__((noreturn)) void end(u8 status)
{
	out(PORT_EXIT, status);
	for (;;)
		asm volatile("hlt");
}

static void wrmsr(u32 msr, u64 value)
{
	asm volatile("wrmsr" : : "c" (msr), "A" (value));
}

/* The reference counter: unlike the TSC, it is of the host's time whatever emulates the host. */
static u64 now(void)
{
	u64 time;

	asm volatile("rdmsr" : "=A" (time) : "c" (0x40000020));
	return time;
}

/* HvPostMessage; control in EDX:EAX, input in EBX:ECX, output in EDI:ESI, status in EDX:EAX. */
static u32 post_at(u32 address)
{
	u32 low = 0x5c, high = 0;

	if (amd)
		asm volatile("vmmcall" : "+a" (low), "+d" (high)
			     : "b" (0), "c" (address), "D" (0), "S" (0) : "memory");
	else
		asm volatile("vmcall" : "+a" (low), "+d" (high)
			     : "b" (0), "c" (address), "D" (0), "S" (0) : "memory");
	return low;
}

static u32 send(const u32 *payload, u32 size)
{
	post.connection = 1;
	post.type = 1;
	post.size = size;
	for (u32 i = 0; i < sizeof(post.payload) / 4; i++)
		post.payload[i] = i < size / 4 ? payload[i] : 0;
	return post_at((u32)&post);
}

static void expect(const char *what, u32 status, u32 wanted)
{
	print_number(what, status);
	if (status != wanted)
		end(2);
}

static void contact(u32 vp)
{
	u32 payload[10] = { CONTACT, 0, 4 << 16, vp };

	expect("contact: status ", send(payload, sizeof(payload)), SUCCESS);
}

/* The next message of that type from vmbus, with those in front of it thrown away; 0 if none comes in time. */
static const u32 *receive(u32 type, u64 time)
{
	struct message *slot = &messages[VMBUS_SINT];
	static u32 payload[60];
	u64 end_of_wait = now() + time;

	while (now() < end_of_wait) {
		barrier();
		if (!slot->type)
			continue;
		for (u32 i = 0; i < 60; i++)
			payload[i] = slot->payload[i];
		slot->type = 0;
		asm volatile("mfence" : : : "memory");
		wrmsr(0x40000084, 0);		/* end of message */
		if (payload[0] == type)
			return payload;
	}
	return 0;
}

static const u32 *want(u32 type, const char *what)
{
	const u32 *payload = receive(type, 20 * SECOND);

	print(what);
	print(payload ? ": answered\n" : ": no answer\n");
	if (!payload)
		end(3);
	return payload;
}

static void connect(void)
{
	contact(0);
	if (!(want(VERSION_RESPONSE, "connect")[2] & 0xff))
		end(4);
}

/* To have QEMU's main loop handle what it has. */
static void wait(void)
{
	receive(-1, 2 * SECOND);
}

static void gpadl(u32 id, u32 buflen, u32 byte_count)
{
	u32 payload[15] = { GPADL_HEADER, 0, 1, id, 1 << 16 | buflen, byte_count, 0,
			    0x100, 0, 0x101, 0, 0x102, 0, 0x103, 0 };

	expect("gpadl: status ", send(payload, sizeof(payload)), SUCCESS);
}

struct multiboot_info {
	u32 flags, lower, upper, boot_device;
	const char *command_line;
};

void main(const struct multiboot_info *info);
void main(const struct multiboot_info *info)
{
	const char *arg = info->command_line;
	u32 body[6] = { GPADL_BODY, 0, 1, 7, 0x101, 0 };
	u32 open[38] = { OPEN, 0, 1, 1, 7, NO_VP, 2 };
	u32 unload[2] = { UNLOAD }, offers[2] = { REQUEST_OFFERS };
	u32 a = 0, b, c, d;

	/* QEMU puts the file's name in front. */
	while (arg[0] && arg[1])
		arg++;
	asm volatile("cpuid" : "+a" (a), "=b" (b), "=c" (c), "=d" (d));
	amd = c == 0x444d4163;
	wrmsr(0x40000000, 1ull << 63 | 1);		/* guest OS id */
	wrmsr(0x40000083, (u32)messages | 1);
	wrmsr(0x40000082, (u32)events | 1);
	wrmsr(0x40000092, 1 << 16 | 0x50);		/* VMBUS_SINT, masked */
	wrmsr(0x40000080, 1);				/* SynIC on */

	switch (arg[0]) {
	case 'v':	/* a VP that doesn't exist */
		contact(NO_VP);
		wait();
		break;
	case 'm':	/* none at all */
		contact(-1);
		wait();
		break;
	case 'u':	/* the end of a connection that there isn't */
		expect("unload: status ", send(unload, sizeof(unload)), SUCCESS);
		wait();
		break;
	case 'b':	/* more of a GPADL that is complete */
		connect();
		gpadl(7, 16, PAGE_SIZE);
		want(GPADL_CREATED, "gpadl");
		expect("body: status ", send(body, sizeof(body)), SUCCESS);
		wait();
		break;
	case 'g':	/* a GPADL of 0 bytes, i.e. of 2^32 - 1 pages */
		connect();
		gpadl(7, 0, 0xfffff000);
		wait();
		break;
	case 'o':	/* a channel that signals a VP that doesn't exist */
		connect();
		expect("offers: status ", send(offers, sizeof(offers)), SUCCESS);
		want(OFFERS_DELIVERED, "offers");
		gpadl(7, 8 + 4 * 8, 4 * PAGE_SIZE);
		want(GPADL_CREATED, "gpadl");
		expect("open: status ", send(open, sizeof(open)), SUCCESS);
		want(OPEN_RESULT, "open");
		break;
	case 'p':	/* a message that crosses a page, or is misaligned; as the TLFS has it */
		expect("crossing: status ", post_at((u32)two_pages + PAGE_SIZE - 248), INVALID_ALIGNMENT);
		expect("misaligned: status ", post_at((u32)two_pages + 4), INVALID_ALIGNMENT);
		break;
	case 'i':	/* a message in a device */
		expect("device: status ", post_at(NOWHERE), INSUFFICIENT_MEMORY);
		break;
	case 'r':	/* reset while a message waits for the slot, and others in the queue */
		if (*FLAG != 0x1234) {
			*FLAG = 0x1234;
			messages[VMBUS_SINT].type = 1;
			contact(0);
			for (u64 start = now(); now() < start + SECOND / 2;)
				;
			contact(0);
			contact(0);
			print("reset\n");
			out(PORT_RESET, 6);
			for (;;)
				;
		}
		break;
	default:
		break;
	}
	connect();
	end(0);
}
