// SPDX-License-Identifier: GPL-2.0
/*
 * What firmware does with the vmbus before there is a hypervisor: connect, and unload when it hands
 * over. Those are calls of L1's, and the vmbus is free for L1's root after that. By polling, with the
 * SINT masked, as L1 has no interrupts. First it tries the connection of later versions, as Linux
 * does. If it is deaf, it has no page for the answer, and gives up. Afterwards, nothing of it is left
 * in L0's MSRs.
 */
#include "rootvisor.h"

#define SINT			2
#define SINT_MASKED		BIT(16)
#define CONNECTION		1
#define CONNECTION_OF_V5	4
#define POLLS			1000000000

/* Types of vmbus' messages, by Linux' include/linux/hyperv.h. */
#define INITIATE_CONTACT	14
#define VERSION_RESPONSE	15
#define UNLOAD			16
#define UNLOAD_RESPONSE		17
#define VERSION_4_0		0x40000

/* A slot of the message page, one per SINT. */
struct message {
	u32 type;
	u8 payload_size, flags;
	u16 reserved;
	u64 sender;
	u32 payload[60];
};

static u8 hypercall_page[PAGE_SIZE] PAGE_ALIGNED;
static struct message messages[16] PAGE_ALIGNED;
static struct {
	u32 connection, reserved, type, payload_size, payload[60];
} input PAGE_ALIGNED;

static u64 hypercall(u64 control, u64 gpa)
{
	register u64 output asm("r8") = 0;
	u64 status;

	asm volatile("call *%4"
		     : "=a"(status), "+c"(control), "+d"(gpa), "+r"(output)
		     : "r"(hypercall_page)
		     : "memory", "cc", "r9", "r10", "r11");
	return status;
}

/* Post input's payload, and expect the one status or the other. */
static u64 post(u32 connection, u32 bytes, u64 status1, u64 status2)
{
	u64 status;

	input.connection = connection;
	input.type = 1;
	input.payload_size = bytes;
	status = hypercall(HV_CALL_POST_MESSAGE, (u64)&input) & 0xffff;
	if (status != status1 && status != status2)
		die("firmware: vmbus answers message %u with status %x", (u64)input.payload[0], status);
	return status;
}

/* Post input's payload, wait for the answer, which is of this type, and return its third word. */
static u32 ask(u32 bytes, u32 answer)
{
	struct message *slot = &messages[SINT];
	u32 value;

	while (post(CONNECTION, bytes, 0, HV_STATUS_NO_BUFFERS))
		;
	for (u64 i = 0; !__atomic_load_n(&slot->type, __ATOMIC_ACQUIRE); i++) {
		if (i == POLLS)
			die("firmware: no answer to message %u", (u64)input.payload[0]);
		asm volatile("pause");
	}
	if (slot->payload[0] != answer)
		die("firmware: message %u is answered with %u", (u64)input.payload[0], (u64)slot->payload[0]);
	value = slot->payload[2];
	__atomic_store_n(&slot->type, 0, __ATOMIC_SEQ_CST);
	wrmsr(HV_MSR_EOM, 0);
	return value;
}

void run_firmware(bool deaf)
{
	wrmsr(HV_MSR_GUEST_OS_ID, BIT(63) | 2);
	wrmsr(HV_MSR_HYPERCALL, (u64)hypercall_page | 1);
	wrmsr(HV_MSR_SIMP, (u64)messages | !deaf);
	wrmsr(HV_MSR_SINT0 + SINT, SINT_MASKED | 0xff);
	wrmsr(HV_MSR_SCONTROL, 1);

	input.payload[0] = INITIATE_CONTACT;
	input.payload[2] = VERSION_4_0;
	post(CONNECTION_OF_V5, 40, HV_STATUS_NO_CONNECTION, HV_STATUS_NO_CONNECTION);
	if (deaf) {
		post(CONNECTION, 40, 0, HV_STATUS_NO_BUFFERS);
		print("firmware: can't hear the answer");
	} else {
		if (!(ask(40, VERSION_RESPONSE) & 0xff))
			die("firmware: vmbus doesn't have version 4.0");
		print("firmware: connected");

		input.payload[0] = UNLOAD;
		ask(8, UNLOAD_RESPONSE);
		print("firmware: unloaded");
	}

	wrmsr(HV_MSR_SCONTROL, 0);
	wrmsr(HV_MSR_SINT0 + SINT, SINT_MASKED);
	wrmsr(HV_MSR_SIMP, 0);
	wrmsr(HV_MSR_HYPERCALL, 0);
	wrmsr(HV_MSR_GUEST_OS_ID, 0);
}
