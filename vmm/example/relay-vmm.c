// SPDX-License-Identifier: GPL-2.0
/*
 * The VMM of Documentation/virt/kvm/x86/hyperv-nested-relay.rst, as a whole: it has one vCPU and, in
 * the place of vmbus, an answer to InitiateContact.
 *
 *	relay-vmm [--off] L1 L2 [ARGUMENT]...
 *
 * L1 is a hypervisor, bootable by multiboot, with 32-bit ELF headers; L2 is given to it as the first
 * of two modules, and the ARGUMENTs as its command line. With --off, the relay stays off. It
 * prints what it is told, ends when L1 writes to port 0x501, and then exits with 0.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kvm.h>

/* From the Hyper-V Top Level Functional Specification (TLFS). */
#define HVCALL_POST_MESSAGE               0x5c
#define HVCALL_SIGNAL_EVENT               0x5d
#define HV_HYPERCALL_CODE_MASK            0xffffULL
#define HV_HYPERCALL_FAST                 (1ULL << 16)
#define HV_SIGNAL_EVENT_RESERVED          0xffff0000ff000000ULL
#define HV_STATUS_SUCCESS                 0x0
#define HV_STATUS_INVALID_HYPERCALL_CODE  0x2
#define HV_STATUS_INVALID_HYPERCALL_INPUT 0x3
#define HV_STATUS_INVALID_ALIGNMENT       0x4
#define HV_STATUS_INVALID_PARAMETER       0x5
#define HV_STATUS_ACCESS_DENIED           0x6
#define HV_STATUS_INVALID_CONNECTION_ID   0x12
#define HV_STATUS_INSUFFICIENT_BUFFERS    0x13
#define HV_PAGE_SIZE                      4096
#define HV_PAGE_MASK                      (~4095ULL)
#define HV_SYNIC_ENABLED                  1
#define HV_MESSAGE_PENDING                1

/* The input of HvPostMessage. */
struct post_message {
	uint32_t connection_id;
	uint32_t reserved;
	uint32_t message_type;
	uint32_t payload_size;
	uint8_t payload[240];
};

/* A slot of the message page, one per SINT. */
struct message {
	uint32_t type;
	uint8_t payload_size;
	uint8_t flags;
	uint16_t reserved;
	uint64_t sender;
	uint8_t payload[240];
};

/* This VMM's own choices. */
#define RAM_SIZE		(64 << 20)
#define MODULE_ADDRESS		0x2000000
#define TSS_ADDRESS		0xfffbd000
#define SINT_GSI		16
#define CPUID_ENTRIES		256
#define MAX_ARGUMENTS		12
#define PORT_CONSOLE		0xe9
#define PORT_EXIT		0x501

/* vmbus, by Linux' include/linux/hyperv.h. */
#define VMBUS_CONNECTION	1
#define VMBUS_MESSAGE		1
#define VMBUS_SINT		2
#define INITIATE_CONTACT	14
#define VERSION_RESPONSE	15
#define UNLOAD			16
#define UNLOAD_RESPONSE		17

struct vmm {
	int kvm_fd, vm_fd, vcpu_fd, sint_fd;
	struct kvm_run *run;
	uint8_t *ram;

	/* The host has the relay, and it is to be used. */
	bool relay;

	/* For vCPU threads to take turns: vmbus, and whose it is. */
	pthread_mutex_t lock;
	enum owner { NOBODY, L1, L2 } owner;
	uint64_t l2_vm_id;

	/* The SynIC of the vCPU, as the guest has set it up. */
	uint64_t synic_control, message_page;
};

static __attribute__((noreturn, format(printf, 1, 2)))
void die(const char *format, ...)
{
	int error = errno;
	va_list ap;

	fflush(stdout);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fprintf(stderr, ": %s\n", strerror(error));
	exit(1);
}

static int xioctl(int fd, unsigned long request, unsigned long arg, const char *name)
{
	int ret = ioctl(fd, request, arg);

	if (ret < 0)
		die("%s", name);
	return ret;
}

#define IOCTL(fd, request, arg) xioctl(fd, request, (unsigned long)(arg), #request)

#define RELAYED (KVM_NESTED_HYPERV_RELAY_POST_MESSAGE | \
		 KVM_NESTED_HYPERV_RELAY_SIGNAL_EVENT)

static bool relay_set(struct vmm *vmm, uint64_t mask, uint64_t l2_vm_id)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_NESTED_HYPERV_HCALL_RELAY,
		.args = { mask, l2_vm_id },
	};

	/* Without the relay, each call is L1's, and there is nothing to choose. */
	return !vmm->relay || ioctl(vmm->vm_fd, KVM_ENABLE_CAP, &cap) == 0;
}

/* For a new VM.  True if vmbus works for a nested root. */
static bool relay_enable(struct vmm *vmm)
{
	const uint64_t wanted = RELAYED | KVM_NESTED_HYPERV_RELAY_ONE_L2;
	int known;

	known = ioctl(vmm->vm_fd, KVM_CHECK_EXTENSION,
		      KVM_CAP_NESTED_HYPERV_HCALL_RELAY);
	vmm->relay = known > 0 && (known & wanted) == wanted;
	return vmm->relay && relay_set(vmm, RELAYED, 0);
}

/* Guest memory; NULL if not all of it is RAM of the guest. */
static void *guest_memory(struct vmm *vmm, uint64_t gpa, uint64_t size)
{
	if (gpa > RAM_SIZE || size > RAM_SIZE - gpa)
		return NULL;
	return vmm->ram + gpa;
}

/*
 * Put a message into its slot, and raise the SINT.  False if the last one is
 * still there: the guest writes to EOM when it has taken that.
 */
static bool synic_send(struct vmm *vmm, int sint, const struct message *message)
{
	const uint64_t one = 1;
	struct message *page, *slot;

	if (!(vmm->synic_control & HV_SYNIC_ENABLED) ||
	    !(vmm->message_page & HV_SYNIC_ENABLED))
		return false;

	page = guest_memory(vmm, vmm->message_page & HV_PAGE_MASK, HV_PAGE_SIZE);
	if (!page)
		return false;

	slot = &page[sint];
	if (__atomic_load_n(&slot->type, __ATOMIC_ACQUIRE)) {
		__atomic_or_fetch(&slot->flags, HV_MESSAGE_PENDING, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&slot->type, __ATOMIC_SEQ_CST))
			return false;
	}

	/* The type comes last: with it, the message is there. */
	memcpy(&slot->payload_size, &message->payload_size,
	       sizeof(*slot) - offsetof(struct message, payload_size));
	__atomic_store_n(&slot->type, message->type, __ATOMIC_RELEASE);
	return write(vmm->sint_fd, &one, sizeof(one)) == sizeof(one);
}

/* Is it of this type within vmbus, and as long as that takes? */
static bool is_message(const struct post_message *post, uint32_t type, uint32_t size)
{
	uint32_t word;

	memcpy(&word, post->payload, sizeof(word));
	return post->payload_size >= size && word == type;
}

static bool is_contact(const struct post_message *post)
{
	return is_message(post, INITIATE_CONTACT, 12);
}

static bool is_unload(const struct post_message *post)
{
	return is_message(post, UNLOAD, 8);
}

/* In the place of vmbus. */
static uint64_t vmbus_post(struct vmm *vmm, const struct post_message *post)
{
	struct message answer = { .type = VMBUS_MESSAGE };
	uint32_t version, response[4] = { VERSION_RESPONSE, 0, 1, 0 };

	printf("VMM: type %u, %u bytes", post->message_type, post->payload_size);
	if (is_contact(post)) {
		memcpy(&version, post->payload + 8, sizeof(version));
		printf(": InitiateContact, version %u.%u\n", version >> 16, version & 0xffff);
		answer.payload_size = 16;
	} else if (is_unload(post)) {
		printf(": Unload\n");
		response[0] = UNLOAD_RESPONSE;
		answer.payload_size = 8;
	} else {
		printf("\n");
		return HV_STATUS_SUCCESS;
	}
	memcpy(answer.payload, response, answer.payload_size);
	return synic_send(vmm, VMBUS_SINT, &answer) ? HV_STATUS_SUCCESS : HV_STATUS_INSUFFICIENT_BUFFERS;
}

static uint64_t vmbus_signal(struct vmm *vmm, uint32_t connection_id, uint16_t flag)
{
	(void)vmm;
	printf("VMM: connection %u, flag %u\n", connection_id, flag);
	return HV_STATUS_INVALID_CONNECTION_ID;
}

/* With the lock held.  Of nobody, vmbus is free for L1 and for any L2 of its. */
static bool vmbus_set_owner(struct vmm *vmm, enum owner owner, uint64_t l2_vm_id)
{
	static const uint64_t masks[] = {
		[NOBODY] = RELAYED,
		[L1] = 0,	/* as long as L1 has it, its guests get none */
		[L2] = RELAYED | KVM_NESTED_HYPERV_RELAY_ONE_L2,
	};

	if (!relay_set(vmm, masks[owner], l2_vm_id))
		return false;
	vmm->owner = owner;
	vmm->l2_vm_id = l2_vm_id;
	return true;
}

/* Calls that were kept before the mask changed may still arrive. */
static bool is_owner(struct vmm *vmm, enum owner caller)
{
	return vmm->owner == caller &&
	       (caller == L1 || vmm->l2_vm_id == vmm->run->hyperv.u.hcall.l2_vm_id);
}

/*
 * The vmbus is of whoever has connected: of L1 until it unloads vmbus, as firmware
 * does, of an L2 until the machine is reset, lest another one come in between.
 */
static uint64_t post_to_vmbus(struct vmm *vmm, enum owner caller,
			      const struct post_message *message)
{
	uint64_t l2_vm_id = caller == L2 ? vmm->run->hyperv.u.hcall.l2_vm_id : 0;
	enum owner before = vmm->owner, after = before;
	uint64_t status;

	if (before == NOBODY && is_contact(message))
		after = caller;
	else if (!is_owner(vmm, caller))
		return HV_STATUS_ACCESS_DENIED;
	else if (caller == L1 && is_unload(message))
		after = NOBODY;

	/* Before L1 gets to see the answer, as it may start an L2 then. */
	if (after != before && !vmbus_set_owner(vmm, after, l2_vm_id))
		return HV_STATUS_INSUFFICIENT_BUFFERS;

	status = vmbus_post(vmm, message);
	if (after != before && status != HV_STATUS_SUCCESS)
		vmbus_set_owner(vmm, before, 0);
	return status;
}

static uint64_t post_message(struct vmm *vmm, enum owner caller,
			     uint64_t input, uint64_t gpa)
{
	struct post_message message;
	void *shared;

	/* The parameter of a fast call is no GPA; no message fits there. */
	if (input & HV_HYPERCALL_FAST)
		return HV_STATUS_INVALID_HYPERCALL_INPUT;

	/* KVM has checked that for L2, but not for L1. */
	if (gpa & 7 || (gpa & ~HV_PAGE_MASK) + sizeof(message) > HV_PAGE_SIZE)
		return HV_STATUS_INVALID_ALIGNMENT;

	shared = guest_memory(vmm, gpa, sizeof(message));
	if (!shared)
		return HV_STATUS_INVALID_ALIGNMENT;

	/* Once: other vCPUs may be changing it. */
	memcpy(&message, shared, sizeof(message));
	__atomic_signal_fence(__ATOMIC_SEQ_CST);

	if (message.payload_size > sizeof(message.payload) ||
	    !message.message_type || message.message_type >> 31)
		return HV_STATUS_INVALID_PARAMETER;

	if (message.connection_id != VMBUS_CONNECTION)
		return HV_STATUS_INVALID_CONNECTION_ID;

	return post_to_vmbus(vmm, caller, &message);
}

static uint64_t signal_event(struct vmm *vmm, enum owner caller, uint64_t param)
{
	/* KVM doesn't look at these bits if there is a flag number. */
	if (param & HV_SIGNAL_EVENT_RESERVED)
		return HV_STATUS_INVALID_HYPERCALL_INPUT;

	return is_owner(vmm, caller) ? vmbus_signal(vmm, param, param >> 32) :
				       HV_STATUS_ACCESS_DENIED;
}

static void answer_hypercall(struct vmm *vmm)
{
	uint64_t input = vmm->run->hyperv.u.hcall.input;
	uint64_t param = vmm->run->hyperv.u.hcall.params[0];
	uint32_t flags = vmm->run->hyperv.u.hcall.flags;
	enum owner caller = L1;
	uint64_t status;

	/* A kernel without the relay doesn't set them. */
	if (vmm->relay && flags & KVM_EXIT_HYPERV_HCALL_FROM_L2)
		caller = L2;

	pthread_mutex_lock(&vmm->lock);
	switch (input & HV_HYPERCALL_CODE_MASK) {
	case HVCALL_POST_MESSAGE:
		status = post_message(vmm, caller, input, param);
		break;
	case HVCALL_SIGNAL_EVENT:
		status = signal_event(vmm, caller, param);
		break;
	default:
		status = HV_STATUS_INVALID_HYPERCALL_CODE;
		break;
	}
	pthread_mutex_unlock(&vmm->lock);

	vmm->run->hyperv.u.hcall.result = status;
}

/* The guest has set up its SynIC; the page is at an L1 GPA, whoever did it. */
static void update_synic(struct vmm *vmm)
{
	uint64_t page = vmm->run->hyperv.u.synic.msg_page;
	void *memory = guest_memory(vmm, page & HV_PAGE_MASK, HV_PAGE_SIZE);

	/* With KVM_CAP_HYPERV_SYNIC2, KVM doesn't clear it. */
	if (page != vmm->message_page && page & HV_SYNIC_ENABLED && memory)
		memset(memory, 0, HV_PAGE_SIZE);

	vmm->synic_control = vmm->run->hyperv.u.synic.control;
	vmm->message_page = page;
}

/* Have the call that was answered last completed, e.g. before migration. */
static int complete_exit(struct vmm *vmm)
{
	int ret;

	vmm->run->immediate_exit = 1;
	ret = ioctl(vmm->vcpu_fd, KVM_RUN, 0);
	vmm->run->immediate_exit = 0;

	return ret < 0 && errno == EINTR ? 0 : -1;
}

/* Print the call, and what L2 gets from it when it is completed. */
static void show_hypercall(struct vmm *vmm)
{
	uint64_t input = vmm->run->hyperv.u.hcall.input;
	bool from_l2 = vmm->run->hyperv.u.hcall.flags & KVM_EXIT_HYPERV_HCALL_FROM_L2;
	struct kvm_regs regs;

	printf("VMM: input 0x%llx, parameter 0x%llx", (unsigned long long)input,
	       (unsigned long long)vmm->run->hyperv.u.hcall.params[0]);
	if (from_l2)
		printf(", of L2 with VM id 0x%llx\n", (unsigned long long)vmm->run->hyperv.u.hcall.l2_vm_id);
	else
		printf(", of L1\n");
	answer_hypercall(vmm);
	if (complete_exit(vmm))
		die("KVM_RUN to complete the call");
	IOCTL(vmm->vcpu_fd, KVM_GET_REGS, &regs);
	printf("VMM: completed, RAX 0x%llx\n", regs.rax);
}

/* Its end is what the guest writes to PORT_EXIT. */
static int run_vcpu(struct vmm *vmm)
{
	struct kvm_run *run = vmm->run;
	uint8_t *data;

	for (;;) {
		if (ioctl(vmm->vcpu_fd, KVM_RUN, 0) < 0) {
			if (errno == EINTR)
				continue;
			die("KVM_RUN");
		}
		switch (run->exit_reason) {
		case KVM_EXIT_HYPERV:
			if (run->hyperv.type == KVM_EXIT_HYPERV_HCALL)
				show_hypercall(vmm);
			else if (run->hyperv.type == KVM_EXIT_HYPERV_SYNIC)
				update_synic(vmm);
			break;
		case KVM_EXIT_IO:
			data = (uint8_t *)run + run->io.data_offset;
			if (run->io.direction != KVM_EXIT_IO_OUT)
				memset(data, 0xff, run->io.size * run->io.count);
			else if (run->io.port == PORT_CONSOLE)
				putchar(*data);
			else if (run->io.port == PORT_EXIT)
				return *data;
			break;
		default:
			errno = 0;
			die("exit reason %u", run->exit_reason);
		}
	}
}

/*
 * What KVM has to offer, as Microsoft's hypervisor: Linux asks for that name.
 * KVM's own leaves would be in the way.
 */
static void set_cpuid(struct vmm *vmm)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[CPUID_ENTRIES];
	} cpuid, hv;
	struct kvm_cpuid_entry2 *entry;
	unsigned int i, n = 0;

	cpuid.head.nent = hv.head.nent = CPUID_ENTRIES;
	IOCTL(vmm->kvm_fd, KVM_GET_SUPPORTED_CPUID, &cpuid);
	/* The vCPU's: it has the enlightened VMCS if that is enabled there. */
	IOCTL(vmm->vcpu_fd, KVM_GET_SUPPORTED_HV_CPUID, &hv);

	for (i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entries[i].function >> 28 != 4)
			cpuid.entries[n++] = cpuid.entries[i];
	for (i = 0; i < hv.head.nent && n < CPUID_ENTRIES; i++) {
		entry = &hv.entries[i];
		if (entry->function > 0x4000000a)
			continue;
		if (entry->function == 0x40000000) {
			entry->eax = 0x4000000a;
			memcpy(&entry->ebx, "Micr", 4);
			memcpy(&entry->ecx, "osof", 4);
			memcpy(&entry->edx, "t Hv", 4);
		}
		cpuid.entries[n++] = *entry;
	}
	cpuid.head.nent = n;
	IOCTL(vmm->vcpu_fd, KVM_SET_CPUID2, &cpuid);
}

static void create_vcpu(struct vmm *vmm)
{
	struct kvm_enable_cap synic = { .cap = KVM_CAP_HYPERV_SYNIC2 };
	uint16_t version;
	struct kvm_enable_cap evmcs = {
		.cap = KVM_CAP_HYPERV_ENLIGHTENED_VMCS,
		.args = { (uintptr_t)&version },
	};

	vmm->vcpu_fd = IOCTL(vmm->vm_fd, KVM_CREATE_VCPU, 0);
	IOCTL(vmm->vcpu_fd, KVM_ENABLE_CAP, &synic);
	/* On AMD, there is none, and nothing to enable. */
	if (ioctl(vmm->vm_fd, KVM_CHECK_EXTENSION, evmcs.cap) > 0)
		IOCTL(vmm->vcpu_fd, KVM_ENABLE_CAP, &evmcs);
	set_cpuid(vmm);
}

/* An eventfd that raises a SINT of the vCPU. */
static void route_sint(struct vmm *vmm)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} routing = {
		.head.nr = 1,	/* beside those of the other interrupts */
		.entry = {
			.gsi = SINT_GSI,
			.type = KVM_IRQ_ROUTING_HV_SINT,
			.u.hv_sint = { .vcpu = 0, .sint = VMBUS_SINT },
		},
	};
	struct kvm_irqfd irqfd = { .gsi = SINT_GSI };

	vmm->sint_fd = eventfd(0, EFD_CLOEXEC);
	if (vmm->sint_fd < 0)
		die("eventfd");
	irqfd.fd = vmm->sint_fd;
	IOCTL(vmm->vm_fd, KVM_SET_GSI_ROUTING, &routing);
	IOCTL(vmm->vm_fd, KVM_IRQFD, &irqfd);
}

static void create_vm(struct vmm *vmm)
{
	struct kvm_userspace_memory_region region = { .memory_size = RAM_SIZE };
	int size;

	vmm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vmm->kvm_fd < 0)
		die("/dev/kvm");
	vmm->vm_fd = IOCTL(vmm->kvm_fd, KVM_CREATE_VM, 0);
	IOCTL(vmm->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDRESS);
	IOCTL(vmm->vm_fd, KVM_CREATE_IRQCHIP, 0);

	vmm->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vmm->ram == MAP_FAILED)
		die("mmap");
	region.userspace_addr = (uintptr_t)vmm->ram;
	IOCTL(vmm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);

	create_vcpu(vmm);
	route_sint(vmm);
	size = IOCTL(vmm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	vmm->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vmm->vcpu_fd, 0);
	if (vmm->run == MAP_FAILED)
		die("mmap");
}

static size_t read_file(struct vmm *vmm, const char *name, uint64_t gpa)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, vmm->ram + gpa, RAM_SIZE - gpa);

	if (n <= 0)
		die("%s", name);
	close(fd);
	return n;
}

/* By multiboot: in 32-bit mode, without paging, with flat segments. */
static void load(struct vmm *vmm, const char *l1, const char *l2, char **arguments)
{
	uint32_t *info = (uint32_t *)(vmm->ram + 0x1000), *modules = info + 32, *map = info + 64;
	uint8_t *file = vmm->ram + MODULE_ADDRESS;
	Elf32_Ehdr *elf = (Elf32_Ehdr *)file;
	size_t size = read_file(vmm, l1, MODULE_ADDRESS);
	Elf32_Phdr *segment = (Elf32_Phdr *)(file + elf->e_phoff);
	struct kvm_regs regs = { .rflags = 2, .rax = 0x2badb002, .rbx = 0x1000, .rip = elf->e_entry };
	struct kvm_segment flat = {
		.limit = 0xffffffff, .selector = 0x10, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1,
	};
	struct kvm_sregs sregs;

	if (memcmp(file, ELFMAG, SELFMAG) || elf->e_machine != EM_386 || elf->e_phoff > size)
		die("%s: not a 32-bit ELF file", l1);
	for (int i = 0; i < elf->e_phnum; i++, segment++)
		if (segment->p_type == PT_LOAD)
			memcpy(vmm->ram + segment->p_paddr, file + segment->p_offset, segment->p_filesz);

	size = read_file(vmm, l2, MODULE_ADDRESS);
	info[0] = 1 << 2 | 1 << 3 | 1 << 6;	/* command line, modules, memory map */
	info[4] = 0x1800;
	for (char *line = (char *)vmm->ram + info[4]; *arguments; arguments++)
		strcat(strncat(line, *arguments, 0x7f), " ");
	info[5] = 2;
	info[6] = 0x1000 + 32 * 4;
	info[11] = 24;
	info[12] = 0x1000 + 64 * 4;
	modules[0] = MODULE_ADDRESS;
	modules[1] = modules[4] = modules[5] = MODULE_ADDRESS + size;
	modules[2] = modules[6] = 0x1ff0;	/* an empty string */
	map[0] = 20;
	map[3] = RAM_SIZE;
	map[5] = 1;

	IOCTL(vmm->vcpu_fd, KVM_SET_REGS, &regs);
	IOCTL(vmm->vcpu_fd, KVM_GET_SREGS, &sregs);
	sregs.cr0 = 0x11;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
	flat.type = 11;
	flat.selector = 8;
	sregs.cs = flat;
	IOCTL(vmm->vcpu_fd, KVM_SET_SREGS, &sregs);
}

int main(int argc, char **argv)
{
	bool off = argc > 1 && !strcmp(argv[1], "--off");
	struct vmm vmm = { .lock = PTHREAD_MUTEX_INITIALIZER };

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 3 + off || argc > MAX_ARGUMENTS) {
		fprintf(stderr, "usage: relay-vmm [--off] L1 L2 [ARGUMENT]...\n");
		return 1;
	}
	create_vm(&vmm);
	if (!off && !relay_enable(&vmm)) {
		fprintf(stderr, "KVM_CAP_NESTED_HYPERV_HCALL_RELAY: this host doesn't have it\n");
		return 1;
	}
	load(&vmm, argv[1 + off], argv[2 + off], argv + 3 + off);
	printf("VMM: the guest ends with %d\n", run_vcpu(&vmm));
	return 0;
}
