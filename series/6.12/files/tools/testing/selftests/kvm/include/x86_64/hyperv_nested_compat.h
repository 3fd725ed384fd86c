/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of KVM_CAP_NESTED_HYPERV_HCALL_RELAY use of the library of
 * later kernels, on top of the one of 6.12.  The Makefile forces it on these
 * tests, and on no others.
 */
#ifndef SELFTEST_KVM_HYPERV_NESTED_COMPAT_H
#define SELFTEST_KVM_HYPERV_NESTED_COMPAT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "vmx.h"

typedef u64 gva_t;
typedef u64 gpa_t;

#define X86_EFLAGS_CF	BIT(0)
#define X86_EFLAGS_PF	BIT(2)
#define X86_EFLAGS_AF	BIT(4)
#define X86_EFLAGS_ZF	BIT(6)
#define X86_EFLAGS_SF	BIT(7)
#define X86_EFLAGS_TF	BIT(8)
#define X86_EFLAGS_DF	BIT(10)
#define X86_EFLAGS_OF	BIT(11)

#define EPT_VIOLATION_ACC_READ		BIT(0)
#define EPT_VIOLATION_PROT_READ		BIT(3)
#define EPT_VIOLATION_PROT_WRITE	BIT(4)
#define EPT_VIOLATION_PROT_EXEC		BIT(5)

#define vm_alloc_page	vm_vaddr_alloc_page

static inline void sti(void)
{
	asm volatile("sti");
}

static inline void cli(void)
{
	asm volatile("cli");
}

/* Take whatever is pending, in the NOP, and no more than that. */
static inline void sti_nop_cli(void)
{
	asm volatile("sti; nop; cli");
}

/*
 * L2's GPRs while L1 runs, for VMX as well.  The library's guest_regs is another
 * one, without RFLAGS, and only SVM has it.
 */
struct hv_compat_regs {
	u64 rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
	u64 r8, r9, r10, r11, r12, r13, r14, r15;
	u64 rflags;
};

__attribute__((weak)) struct hv_compat_regs hv_compat_regs;

#define guest_regs	hv_compat_regs

#define GUEST_REGS_OFFSETS						\
	[off_rax] "i" (offsetof(struct guest_regs, rax)),		\
	[off_rcx] "i" (offsetof(struct guest_regs, rcx)),		\
	[off_rdx] "i" (offsetof(struct guest_regs, rdx)),		\
	[off_rbx] "i" (offsetof(struct guest_regs, rbx)),		\
	[off_rsp] "i" (offsetof(struct guest_regs, rsp)),		\
	[off_rbp] "i" (offsetof(struct guest_regs, rbp)),		\
	[off_rsi] "i" (offsetof(struct guest_regs, rsi)),		\
	[off_rdi] "i" (offsetof(struct guest_regs, rdi)),		\
	[off_r8] "i" (offsetof(struct guest_regs, r8)),			\
	[off_r9] "i" (offsetof(struct guest_regs, r9)),			\
	[off_r10] "i" (offsetof(struct guest_regs, r10)),		\
	[off_r11] "i" (offsetof(struct guest_regs, r11)),		\
	[off_r12] "i" (offsetof(struct guest_regs, r12)),		\
	[off_r13] "i" (offsetof(struct guest_regs, r13)),		\
	[off_r14] "i" (offsetof(struct guest_regs, r14)),		\
	[off_r15] "i" (offsetof(struct guest_regs, r15)),		\
	[off_rflags] "i" (offsetof(struct guest_regs, rflags))

kvm_static_assert(offsetof(struct hv_compat_regs, r15) == 15 * 8);

/*
 * hv_compat_run_vmcs() returns whether VMLAUNCH or VMRESUME, as @resume says,
 * failed.  What they don't clobber or return follows from the ABI: L2's GPRs
 * are exchanged for L1's and back again.
 */
int hv_compat_run_vmcs(u64 *evmcs_host_rsp, u64 resume);
extern char hv_compat_vmcs_exit[];
void hv_compat_run_vmcb(u64 vmcb_gpa);

asm(".pushsection .text\n"
	".macro hv_compat_switch_gprs\n\t"
	"xchg %rcx, hv_compat_regs + 0x08\n\t"
	"xchg %rdx, hv_compat_regs + 0x10\n\t"
	"xchg %rbx, hv_compat_regs + 0x18\n\t"
	"xchg %rbp, hv_compat_regs + 0x28\n\t"
	"xchg %rsi, hv_compat_regs + 0x30\n\t"
	"xchg %rdi, hv_compat_regs + 0x38\n\t"
	"xchg %r8, hv_compat_regs + 0x40\n\t"
	"xchg %r9, hv_compat_regs + 0x48\n\t"
	"xchg %r10, hv_compat_regs + 0x50\n\t"
	"xchg %r11, hv_compat_regs + 0x58\n\t"
	"xchg %r12, hv_compat_regs + 0x60\n\t"
	"xchg %r13, hv_compat_regs + 0x68\n\t"
	"xchg %r14, hv_compat_regs + 0x70\n\t"
	"xchg %r15, hv_compat_regs + 0x78\n"
	".endm\n"
	"hv_compat_run_vmcs:\n\t"
	"test %rdi, %rdi\n\t"
	"jz 1f\n\t"
	"mov %rsp, (%rdi)\n\t"
	"jmp 2f\n"
	"1:\n\t"
	"mov $0x6c14, %eax\n\t"		/* HOST_RSP */
	"vmwrite %rsp, %rax\n"
	"2:\n\t"
	"test %rsi, %rsi\n\t"		/* XCHG leaves flags alone */
	"xchg %rax, hv_compat_regs\n\t"
	"hv_compat_switch_gprs\n\t"
	"jnz 3f\n\t"
	"vmlaunch\n\t"
	"jmp 4f\n"
	"3:\n\t"
	"vmresume\n"
	"4:\n\t"
	"hv_compat_switch_gprs\n\t"
	"xchg %rax, hv_compat_regs\n\t"
	"mov $1, %eax\n\t"
	"ret\n"
	"hv_compat_vmcs_exit:\n\t"
	"hv_compat_switch_gprs\n\t"
	"xchg %rax, hv_compat_regs\n\t"
	"xor %eax, %eax\n\t"
	"ret\n"
	"hv_compat_run_vmcb:\n\t"
	"mov %rdi, %rax\n\t"
	"vmload %rax\n\t"
	"hv_compat_switch_gprs\n\t"
	"vmrun %rax\n\t"			/* RAX and RFLAGS are in the VMCB */
	"hv_compat_switch_gprs\n\t"
	"vmsave %rax\n\t"
	"ret\n"
	".popsection\n");

static inline int hv_compat_enter_vmcs(bool resume)
{
	void *host_rsp = NULL;

	if (enable_evmcs) {
		current_evmcs->hv_clean_fields = 0;
		current_evmcs->host_rip = (u64)hv_compat_vmcs_exit;
		host_rsp = (void *)current_evmcs +
			   offsetof(struct hv_enlightened_vmcs, host_rsp);
	} else {
		vmwrite(HOST_RIP, (u64)hv_compat_vmcs_exit);
	}

	return hv_compat_run_vmcs(host_rsp, resume);
}

#define vmlaunch()	hv_compat_enter_vmcs(false)
#define vmresume()	hv_compat_enter_vmcs(true)

static inline void hv_compat_run_guest(struct vmcb *vmcb, u64 vmcb_gpa)
{
	vmcb->save.rflags = guest_regs.rflags;
	vmcb->save.rax = guest_regs.rax;
	hv_compat_run_vmcb(vmcb_gpa);
	guest_regs.rflags = vmcb->save.rflags;
	guest_regs.rax = vmcb->save.rax;
}

#define run_guest	hv_compat_run_guest

/*
 * L2's stack and the root of its nested page tables, behind what the library
 * has in the page for struct vmx_pages or svm_test_data.
 */
struct hv_compat_l2 {
	u64 stack;
	u64 tdp_root;
};

static inline struct hv_compat_l2 *hv_compat_l2(void *nested)
{
	return nested + PAGE_SIZE - sizeof(struct hv_compat_l2);
}

static inline void hv_compat_init_l2(struct kvm_vm *vm, void *nested)
{
	/* As at the entry of a function that was called. */
	hv_compat_l2(nested)->stack = vm_vaddr_alloc_page(vm) + PAGE_SIZE - 8;
	hv_compat_l2(nested)->tdp_root = vm->stage2_mmu.pgd;
}

static inline struct vmx_pages *hv_compat_alloc_vmx(struct kvm_vm *vm, gva_t *gva)
{
	struct vmx_pages *vmx = vcpu_alloc_vmx(vm, gva);

	hv_compat_init_l2(vm, vmx);
	vmx->eptp_gpa = vm->stage2_mmu.pgd;
	return vmx;
}

static inline struct svm_test_data *hv_compat_alloc_svm(struct kvm_vm *vm, gva_t *gva)
{
	struct svm_test_data *svm = vcpu_alloc_svm(vm, gva);

	hv_compat_init_l2(vm, svm);
	return svm;
}

#define vcpu_alloc_vmx	hv_compat_alloc_vmx
#define vcpu_alloc_svm	hv_compat_alloc_svm

static inline void hv_compat_prepare_vmcs(struct vmx_pages *vmx, void *rip)
{
	prepare_vmcs(vmx, rip, (void *)hv_compat_l2(vmx)->stack);
}

static inline void hv_compat_svm_setup(struct svm_test_data *svm, void *rip)
{
	struct vmcb_control_area *control = &svm->vmcb->control;

	generic_svm_setup(svm, rip, (void *)hv_compat_l2(svm)->stack);
	if (hv_compat_l2(svm)->tdp_root) {
		control->nested_ctl |= SVM_NESTED_CTL_NP_ENABLE;
		control->nested_cr3 = hv_compat_l2(svm)->tdp_root;
	}
}

#define prepare_vmcs		hv_compat_prepare_vmcs
#define generic_svm_setup	hv_compat_svm_setup

/* Page tables have an owner who knows the format, which isn't always x86's. */
#undef PTE_PRESENT_MASK
#undef PTE_WRITABLE_MASK
#undef PTE_USER_MASK
#undef PTE_NX_MASK

#define PTE_PRESENT_MASK(mmu)		((mmu)->arch.pte_masks.present)
#define PTE_WRITABLE_MASK(mmu)		((mmu)->arch.pte_masks.writable)
#define PTE_USER_MASK(mmu)		((mmu)->arch.pte_masks.user)
#define PTE_READABLE_MASK(mmu)		((mmu)->arch.pte_masks.readable)
#define PTE_EXECUTABLE_MASK(mmu)	((mmu)->arch.pte_masks.executable)
#define PTE_HUGE_MASK(mmu)		((mmu)->arch.pte_masks.huge)
#define PTE_NX_MASK(mmu)		((mmu)->arch.pte_masks.nx)
#define PTE_ALWAYS_SET_MASK(mmu)	((mmu)->arch.pte_masks.always_set)

static inline bool kvm_cpu_has_tdp(void)
{
	return kvm_cpu_has(X86_FEATURE_VMX) ? kvm_cpu_has_ept() :
					      kvm_cpu_has(X86_FEATURE_NPT);
}

/* NPTs are walked as if by user code, EPTs have permissions in bits 0 to 2. */
static inline void vm_enable_tdp(struct kvm_vm *vm)
{
	struct kvm_mmu *mmu = &vm->stage2_mmu;

	mmu->pgd = vm_alloc_page_table(vm);
	mmu->pgtable_levels = 4;
	if (kvm_cpu_has(X86_FEATURE_VMX)) {
		mmu->arch.pte_masks = (struct pte_masks) {
			.readable	= BIT_ULL(0),
			.writable	= BIT_ULL(1),
			.executable	= BIT_ULL(2),
			.accessed	= BIT_ULL(8),
			.dirty		= BIT_ULL(9),
			.huge		= BIT_ULL(7),
		};
	} else {
		mmu->arch.pte_masks = vm->mmu.arch.pte_masks;
		mmu->arch.pte_masks.always_set = PTE_USER_MASK(mmu);
	}
}

/* A table is present if any of these is set, none of which NX is. */
static inline u64 hv_compat_table_masks(struct kvm_mmu *mmu)
{
	return PTE_PRESENT_MASK(mmu) | PTE_READABLE_MASK(mmu) |
	       PTE_WRITABLE_MASK(mmu) | PTE_EXECUTABLE_MASK(mmu) |
	       PTE_ALWAYS_SET_MASK(mmu);
}

/* The entry that maps @gpa at @level; tables on the way to it get created. */
static inline u64 *hv_compat_get_pte(struct kvm_vm *vm, struct kvm_mmu *mmu,
				     u64 gpa, int level)
{
	u64 *pte, table = mmu->pgd;
	int i;

	for (i = mmu->pgtable_levels; ; i--) {
		pte = addr_gpa2hva(vm, table);
		pte += (gpa >> PG_LEVEL_SHIFT(i)) & 0x1ff;
		if (i == level)
			return pte;

		if (!*pte)
			*pte = vm_alloc_page_table(vm) | hv_compat_table_masks(mmu);
		TEST_ASSERT(!(*pte & PTE_HUGE_MASK(mmu)),
			    "0x%lx has a large page at level %d", gpa, i);
		table = PTE_GET_PA(*pte);
	}
}

static inline void hv_compat_map(struct kvm_vm *vm, struct kvm_mmu *mmu,
				 u64 from, u64 to, int level)
{
	u64 *pte = hv_compat_get_pte(vm, mmu, from, level);

	TEST_ASSERT(!*pte, "0x%lx is mapped already", from);
	*pte = to | hv_compat_table_masks(mmu);
	/* Memory type write-back; bits 5:3 of an EPT entry, there's no such in NPT. */
	if (!PTE_PRESENT_MASK(mmu))
		*pte |= X86_MEMTYPE_WB << 3;
	if (level > PG_LEVEL_4K)
		*pte |= PTE_HUGE_MASK(mmu);
}

#define __virt_pg_map	hv_compat_map

static inline void tdp_map(struct kvm_vm *vm, gpa_t l2_gpa, gpa_t gpa, u64 size)
{
	u64 offset;

	for (offset = 0; offset < size; offset += PAGE_SIZE)
		hv_compat_map(vm, &vm->stage2_mmu, l2_gpa + offset, gpa + offset,
			      PG_LEVEL_4K);
}

static inline u64 *tdp_get_pte(struct kvm_vm *vm, u64 l2_gpa)
{
	return hv_compat_get_pte(vm, &vm->stage2_mmu, l2_gpa, PG_LEVEL_4K);
}

/*
 * Each page of slot 0 that is in use so far, and the first one, as in later
 * kernels.  Page tables that get allocated on the way may or may not be among
 * them, L2 doesn't look at them.
 */
static inline void tdp_identity_map_default_memslots(struct kvm_vm *vm)
{
	struct userspace_mem_region *region = memslot2region(vm, 0);
	u64 gfn = region->region.guest_phys_addr >> PAGE_SHIFT;
	u64 end = gfn + (region->region.memory_size >> PAGE_SHIFT);

	for (; gfn < end; gfn++)
		if (!gfn || !sparsebit_is_set(region->unused_phy_pages, gfn))
			tdp_map(vm, gfn << PAGE_SHIFT, gfn << PAGE_SHIFT, PAGE_SIZE);
}

/* KVM has the same statistics, in the same places, for each of its vCPUs. */
static inline u64 hv_compat_get_stat(struct kvm_vcpu *vcpu, const char *name,
				     u64 *cached_offset)
{
	u64 offset = *cached_offset;
	int fd = vcpu_get_stats_fd(vcpu);
	u64 value;

	if (!offset) {
		struct kvm_stats_header header;
		struct kvm_stats_desc *descs, *desc;
		int i;

		read_stats_header(fd, &header);
		descs = read_stats_descriptors(fd, &header);
		for (i = 0; i < header.num_desc; i++) {
			desc = get_stats_descriptor(descs, i, &header);
			if (!strcmp(desc->name, name))
				offset = header.data_offset + desc->offset;
		}
		free(descs);
		TEST_ASSERT(offset, "KVM has no statistic %s", name);
		*cached_offset = offset;
	}

	TEST_ASSERT(pread(fd, &value, sizeof(value), offset) == sizeof(value),
		    "Reading a statistic failed, errno %d", errno);
	close(fd);
	return value;
}

#define vcpu_get_stat(vcpu, stat)				\
({								\
	static u64 offset_of_##stat;				\
								\
	hv_compat_get_stat(vcpu, #stat, &offset_of_##stat);	\
})

#endif /* SELFTEST_KVM_HYPERV_NESTED_COMPAT_H */
