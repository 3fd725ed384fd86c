/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Included in front of everything that CBMC gets to see, after the kernel's own
 * compiler headers: what CBMC can't read or has no need for, and the points at
 * which the rest of the machine gets its say.
 */
#ifndef CHECK_PROVE_KERNEL_H
#define CHECK_PROVE_KERNEL_H

/* Checks at build time are gcc's business. */
#include <linux/compiler.h>
#include <linux/build_bug.h>
#include <asm/barrier.h>
#undef const_true
#define const_true(x) 0
#undef __annotated
#define __annotated(var, attr) 0
#undef __must_be_cstr
#define __must_be_cstr(p) 0
#undef __must_be_noncstr
#define __must_be_noncstr(p) 0
#undef static_assert
#define static_assert(...) struct prove_no_static_assert

/*
 * Where what others write to is read, and where others can see what is written.
 * The function is called before a read, and before and after a write.
 */
void prove_others(void);
#undef READ_ONCE
#define READ_ONCE(x) (prove_others(), __READ_ONCE(x))
#undef WRITE_ONCE
#define WRITE_ONCE(x, val) do { prove_others(); __WRITE_ONCE(x, val); prove_others(); } while (0)
#undef smp_load_acquire
#define smp_load_acquire(p) (prove_others(), __READ_ONCE(*(p)))
#undef smp_wmb
#define smp_wmb() prove_others()
#undef smp_rmb
#define smp_rmb() do { } while (0)

/* Constant folding by macro is slow to read. */
#include <linux/poison.h>
#undef LIST_POISON1
#undef LIST_POISON2
#define LIST_POISON1 ((void *)0x100UL)
#define LIST_POISON2 ((void *)0x122UL)
#include <linux/bitops.h>
#undef hweight8
#undef hweight16
#undef hweight32
#undef hweight64
#define hweight8(w) __arch_hweight8(w)
#define hweight16(w) __arch_hweight16(w)
#define hweight32(w) __arch_hweight32(w)
#define hweight64(w) __arch_hweight64(w)
#include <linux/printk.h>
#undef printk_ratelimited
#define printk_ratelimited(...) do { } while (0)

/* Static calls and tracepoints are functions of the environment. */
#include <linux/static_call.h>
#undef static_call
#define static_call(name) STATIC_CALL_TRAMP(name)
/* These are in assembler. */
#undef test_bit
#define test_bit(nr, addr) generic_test_bit(nr, addr)
#include <linux/cpumask.h>
#define cpu_online(cpu) true
#include <linux/smp.h>
#undef raw_smp_processor_id
#define raw_smp_processor_id() 0
#include <linux/tracepoint.h>
#undef __DO_TRACE_CALL
#define __DO_TRACE_CALL(name, args) __traceiter_##name(NULL, args)

/* A warning is a call. */
void prove_warned(void);
#include <linux/bug.h>
#undef __WARN_FLAGS
#define __WARN_FLAGS(cond_str, flags) prove_warned()

#endif
