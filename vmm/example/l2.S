/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest's guest: what a vmbus driver in a nested root partition does first and last, and no more. It
 * posts InitiateContact, waits for the interrupt of the answer, signals an event, unloads vmbus in the
 * same way as it has connected, has L1 run another guest, which may take vmbus for its own, and ends with
 * 0 if all of that was as it should be; otherwise with the status of a post, or 0xf0 for the answer.
 *
 * It looks like a Linux kernel (Documentation/arch/x86/boot.rst), which is what e2e/rootvisor starts:
 * in 64-bit mode at CPL 0, with memory mapped one to one.
 */
#define BASE		0x1000000
#define HYPERCALL_PAGE	(BASE + 0x1000)
#define INPUT_PAGE	(BASE + 0x2000)
#define MESSAGE_PAGE	(BASE + 0x3000)
#define IDT		(BASE + 0x4000)
#define SIZE		0x5000

#define CODE_SEGMENT	0x10
#define VECTOR		0x50
#define SINT		2
#define APIC		0xfee00000
#define PORT_END	0x4f0		/* rootvisor's, as is the next */
#define PORT_CHILD	0x4f1

#define MESSAGE_SIZE	40
#define NO_CONNECTION	42

/* Hyper-V; a nested root finds its own hypervisor at the plain MSRs, its parent at the nested ones. */
#define GUEST_OS_ID	0x40000000
#define HYPERCALL	0x40000001
#define NESTED_SCONTROL	0x40001080
#define NESTED_SIMP	0x40001083
#define NESTED_EOM	0x40001084
#define NESTED_SINT0	0x40001090
#define POST_MESSAGE	0x8000005c	/* with the nested bit */
#define SIGNAL_EVENT	0x8001005d	/* and the fast one */
#define INVALID_CONNECTION	0x12
#define INSUFFICIENT_BUFFERS	0x13

	.macro	write_msr msr, value
	movl	$\msr, %ecx
	movl	$\value, %eax
	xorl	%edx, %edx
	wrmsr
	.endm

	.text
	.org	0x1f1
	.byte	1			/* sectors of the part for real mode, less one */
	.org	0x201
	.byte	0x66			/* where the header ends, from 0x202 */
	.ascii	"HdrS"
	.org	0x236
	.word	1			/* has a 64-bit entry, at 0x200 of the other part */
	.org	0x258
	.quad	BASE
	.long	SIZE
	.org	0x400

	.org	0x600
	write_msr GUEST_OS_ID, 1
	write_msr HYPERCALL, HYPERCALL_PAGE + 1

	leaq	interrupt(%rip), %rax
	movl	$IDT + VECTOR * 16, %edi
	movw	%ax, (%rdi)
	movl	$CODE_SEGMENT, 2(%rdi)
	movb	$0x8e, 5(%rdi)		/* present, interrupt gate */
	shrq	$16, %rax
	movw	%ax, 6(%rdi)
	lidt	idt_pointer(%rip)
	movl	$APIC, %ebp
	movl	$0x1ff, 0xf0(%rbp)	/* on, spurious vector 0xff */

	write_msr NESTED_SIMP, MESSAGE_PAGE + 1
	write_msr NESTED_SINT0 + SINT, VECTOR
	write_msr NESTED_SCONTROL, 1

	leaq	contact(%rip), %rsi
	movl	$15, %r12d		/* VersionResponse */
	call	ask

	movl	$SIGNAL_EVENT, %ecx
	movl	$NO_CONNECTION, %edx
	movl	$HYPERCALL_PAGE, %eax
	call	*%rax
	subw	$INVALID_CONNECTION, %ax
	jnz	end

	leaq	unload(%rip), %rsi
	movl	$17, %r12d		/* UnloadResponse */
	call	ask

	movl	$PORT_CHILD, %edx
	outb	%al, %dx
	xorl	%eax, %eax
end:	movl	$PORT_END, %edx
	outb	%al, %dx
	hlt

/* Post what RSI points to, and wait for an answer of type R12D. */
ask:	movl	$INPUT_PAGE, %edi
	movl	$16 + MESSAGE_SIZE, %ecx
	rep movsb

again:	movl	$POST_MESSAGE, %ecx
	movl	$INPUT_PAGE, %edx
	xorl	%r8d, %r8d
	movl	$HYPERCALL_PAGE, %eax
	xorl	%ebx, %ebx
	call	*%rax
	cmpw	$INSUFFICIENT_BUFFERS, %ax
	je	again
	testw	%ax, %ax
	jnz	end

wait:	testl	%ebx, %ebx		/* set by the interrupt */
	jnz	1f
	sti
	hlt
	cli
	jmp	wait
1:	movl	$0xf0, %eax
	cmpl	%r12d, %ebx
	jne	end
	ret

/* A message is there: take its type within vmbus, free the slot and say so. */
interrupt:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	movl	$MESSAGE_PAGE + SINT * 256, %eax
	movl	16(%rax), %ebx
	movl	$0, (%rax)
	mfence
	write_msr NESTED_EOM, 0
	movl	$0, 0xb0(%rbp)		/* end of interrupt */
	popq	%rdx
	popq	%rcx
	popq	%rax
	iretq

idt_pointer:
	.word	256 * 16 - 1
	.quad	IDT

	/* Connection 1, message type 1: InitiateContact, version 4.0, for VP 0, without pages. */
contact:
	.long	1, 0, 1, MESSAGE_SIZE
	.long	14, 0, 0x40000, 0, 0, 0, 0, 0, 0, 0

unload:
	.long	1, 0, 1, 8
	.long	16, 0, 0, 0, 0, 0, 0, 0, 0, 0

	.section .note.GNU-stack, "", @progbits
