# SPDX-License-Identifier: GPL-2.0
#
# The front door; the scripts do the work. "make help" lists what there is.

# Variables, for any target:
BASE ?= 7.3#		base kernel, one of series/*
CONFIG ?= lab#		kernel configuration, scripts/configs/*: make kernel, try: any; make test: lab, debug, i386 or kcsan
HOST ?=#		only this emulated host, a glob for lab/hosts/*; make try, shell: its name
TEST ?=#		only this test, a glob: make run, test, quick, fuzz, e2e; make try: its name
CASE ?=#		make try: only these cases of the test, a glob, e.g. 'relay.*crossing*'
FAULT ?=#		make mutate, prove: only this fault, a glob for check/mutations
TOOL ?=#		make check: only this check, a glob
SOURCE ?=#		make upstream: only this source package, linux-source-X.Y
COMMIT ?=#		make bisect-check: only this commit, by its number, a glob
BY ?= kunit#		make mutate: the tests that must notice, kunit, selftest or fuzz
SECONDS ?= 60#		make fuzz: for how long, by the emulated hosts' clocks
SEED ?=#		make fuzz: where to start, a number; default is a random one
JOBS ?=#			make run, test, quick, fuzz, e2e, qemu-e2e, coverage, mutate, bench: boots at a time; default is 2
FORCE ?=#		make tree: 1 throws away edits in build/<base>/linux
FAST ?=#		make check: 1 checks the sum of the patches only, with fewer builds
FAULTS ?=#		make check, prove: 1 sees that each check finds a fault made for it
FOR ?=#			make setup: deb installs only what make deb needs
KERNEL ?=#		make deb, test-deb: another kernel, pinned in series/<base>/base or the path of its source
QEMU ?= 10.0#		make qemu, e2e: which QEMU, one of vmm/qemu/*
TO ?=#			make qemu-e2e: another QEMU; the VM moves from QEMU to that one, and back
UPDATE ?=#		make bench, coverage: 1 puts figures into bench/, and into check/README.md
export FOR KERNEL QEMU TO BASE CONFIG HOST TEST CASE FAULT TOOL COMMIT BY SEED JOBS FORCE FAST FAULTS UPDATE

SHELL := /bin/bash
.NOTPARALLEL:
.DEFAULT_GOAL := help

.PHONY: help
help: ## print this
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
	@echo
	@sed -n 's/^\([A-Z]*\) ?= *\([^#]*\)#\t*\(.*\)/  \1=\2\t\3/p' Makefile | expand -t 20

.PHONY: setup
setup: ## install the Debian packages needed and fetch the base kernel's source
	@scripts/setup.sh

.PHONY: tree
tree: ## make build/<base>/linux, a git repository: the base, then a commit per patch
	@scripts/tree.sh

.PHONY: refresh
refresh: ## fold edits and commits made in build/<base>/linux back into this repository
	@scripts/refresh.sh

.PHONY: kernel
kernel: tree ## build the lab kernel, with the series applied
	@scripts/kernel.sh --source series --config "$$CONFIG"

.PHONY: selftests
selftests: tree ## build the KVM selftests of the series
	@scripts/selftests.sh

.PHONY: run
run: tree ## show the relay off and on, on an emulated AMD and an emulated Intel host
	@lab/run-plan.sh run

.PHONY: test
test: tree ## run all tests on both vendors; CONFIG=debug, i386, kcsan: on such a kernel
	@lab/run-plan.sh test

.PHONY: try
try: tree ## run one test on one host: HOST=, TEST= and, for some of its cases, CASE=
	@lab/try.sh

.PHONY: shell
shell: tree ## a shell in an emulated host, with the selftests: HOST=
	@lab/shell.sh

.PHONY: quick
quick: tree ## the part of the tests for daily use: the relay's own, on one host of each vendor
	@lab/run-plan.sh quick

.PHONY: fuzz
fuzz: tree ## run the relay's fuzzer on both vendors, with a new seed each time
	@FUZZ_SECONDS="$(SECONDS)" lab/run-plan.sh fuzz

.PHONY: e2e
e2e: tree ## connect the vmbus of a nested Linux root to QEMU, unmodified and with the property, on both vendors
	@lab/run-plan.sh e2e

.PHONY: series
series: ## export the patches as mails, two series with cover letters, into build/<base>/series
	@scripts/series-mail.sh --tested "build/$$BASE/test/tested"

.PHONY: check
check: tree ## static checks and builds of every patch on its own, against the base's findings
	@check/static.sh

.PHONY: lint
lint: tree ## shellcheck and checkpatch.pl on what isn't part of the series
	@check/lint.sh

.PHONY: upstream
upstream: tree ## try the series on the newest kernel source that Debian has
	@check/upstream.sh $(SOURCE)

.PHONY: bisect-check
bisect-check: tree ## boot every commit of the series, with the Hyper-V selftests, on both vendors
	@check/bisect.sh

.PHONY: kunit
kunit: tree ## run the relay's KUnit tests alone
	@lab/kunit.sh

.PHONY: coverage
coverage: tree ## measure what the tests execute of the relay's core and of what the series adds
	@check/coverage.sh

.PHONY: mutate
mutate: tree ## put faults into the relay and see that the tests notice them
	@check/mutate.sh --by "$$BY" "$$FAULT"

.PHONY: prove
prove: tree ## prove the core's properties for all inputs, with CBMC; FAULTS=1: see that faults refute them
	@check/prove.sh $(if $(FAULTS),--mutate "$$FAULT")

.PHONY: bench
bench: tree ## measure what the relay costs, in instructions per call, on both vendors
	@bench/bench.sh $(if $(UPDATE),--update)

.PHONY: bench-check
bench-check: tree ## the same, and fail if a figure is not that of bench/reference.json
	@bench/bench.sh --check

.PHONY: figures
figures: ## put figures into bench/README.md; those of check/README.md: make coverage UPDATE=1
	@bench/tables.sh

.PHONY: deb
deb: ## build Debian packages of KVM's modules with the relay, for DKMS, and of the tool
	@dkms/deb.sh

.PHONY: test-deb
test-deb: deb tree ## their life with Debian's own kernels and DKMS, on both vendors' hosts
	@dkms/test.sh

.PHONY: test-host
test-host: tree ## run the tests, the fuzzer and the bench on this machine's own KVM, and write a report
	@host/test-host.sh

.PHONY: host-deb
host-deb: tree ## build a Debian package of that, to run it on other hosts
	@host/deb.sh

.PHONY: qemu
qemu: ## build QEMU with the relay as a property of its own
	@vmm/qemu/build.sh

.PHONY: qemu-refresh
qemu-refresh: ## fold commits made in build/qemu-<version> back into vmm/qemu
	@vmm/qemu/refresh.sh

.PHONY: qemu-series
qemu-series: ## export QEMU's series as mails into build/qemu-<version>/series
	@vmm/qemu/mail.sh

.PHONY: qemu-test
qemu-test: qemu ## run what of QEMU's tests needs no KVM, and check its patches
	@vmm/qemu/test.sh

.PHONY: qemu-e2e
qemu-e2e: tree ## run that QEMU in emulated hosts: its fixes, its property, the VM moved and reset
	@lab/run-plan.sh qemu

.PHONY: clean
clean: ## remove what was built, but keep build/<base>/linux and QEMU's source and their edits
	@rm -rf build/*/linux/o-*
	@[ ! -d build ] || find build -mindepth 2 -maxdepth 2 ! -name linux ! -name 'qemu-*' -exec rm -rf {} +

.PHONY: distclean
distclean: ## remove build/, with all edits made there
	@rm -rf build
