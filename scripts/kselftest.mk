# SPDX-License-Identifier: GPL-2.0
# The KVM selftests' own makefile, and a rule for programs from the directories OUTSIDE: they
# are built as if they were selftests, with their library, headers and flags. Run by
# selftests.sh, in tools/testing/selftests/kvm of the kernel.

top_srcdir := ../../../..
ARCH := x86
include $(firstword $(wildcard Makefile.kvm Makefile))

-include $(wildcard $(OUTPUT)/outside/*.d)

vpath %.c $(OUTSIDE)

# What the selftests have on an older base, in series/BASE/files.
compat := $(addprefix -include ,$(notdir $(wildcard include/*/hyperv_nested_compat.h)))

$(OUTPUT)/outside/%: %.c $(LIBKVM_OBJS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(compat) $(CPPFLAGS) $(LDFLAGS) $< $(LIBKVM_OBJS) $(LDLIBS) -o $@
