/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * SMRAM and SMIs, which the library of later kernels has for all tests.
 */
#ifndef SELFTEST_KVM_SMM_H
#define SELFTEST_KVM_SMM_H

#include "kvm_util.h"
#include "processor.h"

#define SMRAM_SIZE	0x10000
#define SMRAM_MEMSLOT	((1 << 16) | 1)		/* of address space 1, i.e. SMM */

/* Where an SMI enters, in SMRAM. */
#define SMI_HANDLER	0x8000

static inline void setup_smram(struct kvm_vm *vm, struct kvm_vcpu *vcpu, u64 gpa,
			       const void *handler, size_t size)
{
	u64 pages = SMRAM_SIZE / PAGE_SIZE;

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, gpa, SMRAM_MEMSLOT,
				    pages, 0);
	TEST_ASSERT_EQ(vm_phy_pages_alloc(vm, pages, gpa, SMRAM_MEMSLOT), gpa);
	memcpy(addr_gpa2hva(vm, gpa) + SMI_HANDLER, handler, size);
	vcpu_set_msr(vcpu, MSR_IA32_SMBASE, gpa);
}

static inline void inject_smi(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	events.smi.pending = 1;
	vcpu_events_set(vcpu, &events);
}

#endif /* SELFTEST_KVM_SMM_H */
