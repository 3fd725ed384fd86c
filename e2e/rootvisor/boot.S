/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From the boot loader's 32-bit protected mode (multiboot) to main() in 64-bit mode, with the first
 * 4 GiB mapped one to one; and what C can't do about exceptions.
 */
#include "rootvisor.h"

#define MULTIBOOT_MAGIC		0x1badb002
#define MULTIBOOT_FLAGS		0x3		/* modules on page boundaries, memory map */

	.section .multiboot, "a"
	.align	4
	.long	MULTIBOOT_MAGIC
	.long	MULTIBOOT_FLAGS
	.long	-(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

	.section .text.boot, "ax"
	.code32
	.globl	_start
_start:
	cli
	cld
	movl	$stack_end, %esp
	movl	%eax, %ebp			/* kept for main(), as is EBX */

	/* PML4 -> PDPT -> four page directories of 2 MiB pages: P, RW, PS. */
	movl	$(pdpt + 3), pml4
	movl	$(pd + 3), %eax
	movl	$pdpt, %edi
	movl	$4, %ecx
1:	movl	%eax, (%edi)
	addl	$4096, %eax
	addl	$8, %edi
	loop	1b
	movl	$0x83, %eax
	movl	$pd, %edi
	movl	$2048, %ecx
2:	movl	%eax, (%edi)
	addl	$0x200000, %eax
	addl	$8, %edi
	loop	2b

	movl	$0x20, %eax			/* PAE */
	movl	%eax, %cr4
	movl	$pml4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx		/* EFER.LME */
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	$0x80010033, %eax		/* PG, WP, NE, ET, MP, PE */
	movl	%eax, %cr0
	lgdt	gdt_pointer
	ljmp	$L1_CS, $long_mode

	.code64
long_mode:
	movl	$L1_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	xorl	%eax, %eax
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%ebp, %edi
	movl	%ebx, %esi
	xorl	%ebp, %ebp
	call	main
	ud2

	.text
/*
 * bool safe_rdmsr(u32 msr, u64 *value) and so on: a #GP inside returns false, see exception().
 */
	.globl	safe_rdmsr
safe_rdmsr:
	movl	%edi, %ecx
fault_rdmsr:
	rdmsr
	shlq	$32, %rdx
	orq	%rdx, %rax
	movq	%rax, (%rsi)
	movl	$1, %eax
	ret

	.globl	safe_wrmsr
safe_wrmsr:
	movl	%edi, %ecx
	movl	%esi, %eax
	movq	%rsi, %rdx
	shrq	$32, %rdx
fault_wrmsr:
	wrmsr
	movl	$1, %eax
	ret

	.globl	safe_xsetbv
safe_xsetbv:
	movl	%edi, %ecx
	movl	%esi, %eax
	movq	%rsi, %rdx
	shrq	$32, %rdx
fault_xsetbv:
	xsetbv
	movl	$1, %eax
	ret

fault_return:
	xorl	%eax, %eax
	ret

/* Each vector's entry, 16 bytes long: push an error code if the processor doesn't, and the number. */
	.globl	exception_entries
	.align	16
exception_entries:
	.set	vector, 0
	.rept	32
	.align	16
	.if	(0x60227d00 >> vector) & 1	/* 8, 10-14, 17, 21, 29, 30 have one */
	.else
	pushq	$0
	.endif
	pushq	$vector
	jmp	exception_common
	.set	vector, vector + 1
	.endr

/* On the stack: vector, error code, RIP, CS, RFLAGS, RSP, SS. Nothing but a fixed-up #GP goes on. */
exception_common:
	cmpl	$GP_VECTOR_, (%rsp)
	jne	2f
	leaq	fault_rdmsr(%rip), %rax
	cmpq	%rax, 16(%rsp)
	je	1f
	leaq	fault_wrmsr(%rip), %rax
	cmpq	%rax, 16(%rsp)
	je	1f
	leaq	fault_xsetbv(%rip), %rax
	cmpq	%rax, 16(%rsp)
	jne	2f
1:	leaq	fault_return(%rip), %rax
	movq	%rax, 16(%rsp)
	addq	$16, %rsp
	iretq
2:	movq	(%rsp), %rdi
	movq	8(%rsp), %rsi
	movq	16(%rsp), %rdx
	movq	%cr2, %rcx
	andq	$-16, %rsp
	call	unexpected_exception
	ud2

	.set	GP_VECTOR_, 13

	.section .rodata
	.align	8
gdt:
	.quad	0
	.quad	0x00af9b000000ffff		/* L1_CS: 64-bit code */
	.quad	0x00cf93000000ffff		/* L1_DS */
gdt_end:
	.globl	gdt_pointer
gdt_pointer:
	.word	gdt_end - gdt - 1
	.quad	gdt

	.bss
	.align	4096
pml4:	.skip	4096
pdpt:	.skip	4096
pd:	.skip	4 * 4096
	.skip	32768
stack_end:

	.section .note.GNU-stack, "", @progbits
