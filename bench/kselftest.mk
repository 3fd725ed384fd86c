# SPDX-License-Identifier: GPL-2.0
# Build a program of this directory as if it were one of the KVM selftests: with their library,
# headers and flags. Run by bench.sh, in tools/testing/selftests/kvm of the kernel.

top_srcdir := ../../../..
ARCH := x86
include Makefile.kvm

-include $(wildcard $(OUTPUT)/bench/*.d)

$(OUTPUT)/bench/%: $(BENCH)/%.c $(LIBKVM_OBJS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CPPFLAGS) $(LDFLAGS) $< $(LIBKVM_OBJS) $(LDLIBS) -o $@
