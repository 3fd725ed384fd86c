/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What kvm_hv_nested_relay_test.c uses of later kernels, in terms of 6.12.  The
 * Makefile forces it on that file, and on no other.
 */
#ifndef __KVM_HV_NESTED_RELAY_TEST_COMPAT_H__
#define __KVM_HV_NESTED_RELAY_TEST_COMPAT_H__

#include <kunit/test.h>

/* RIP is behind the general purpose registers here, and is one of NR_VCPU_REGS. */
#define NR_VCPU_GENERAL_PURPOSE_REGS	VCPU_REGS_RIP

/* A warning that is meant to be would look like any other. */
static inline bool kvm_hv_compat_suppress_warnings(struct kunit *test)
{
	kunit_skip(test, "6.12 can't suppress warnings");
	return false;
}

#define kunit_warning_suppress(test)	while (kvm_hv_compat_suppress_warnings(test))
#define KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, count)	((void)(test), (void)(count))

#endif /* __KVM_HV_NESTED_RELAY_TEST_COMPAT_H__ */
