#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# static.sh
#
# Check every patch of the series on its own with the tools that upstream uses,
# and compare with the pristine base: only findings that the base doesn't have
# count.  Prints a table, a column per patch.  With FAST=1, check the sum of the
# patches, with fewer configurations.  With TOOL=GLOB, do only the checks that match.
#
# With FAULTS=1, check the checks instead: each has to find the fault that is put
# for it on top of the series.
#
# Works in build/<base>/check and build/<base>/pristine, findings and logs are in
# build/<base>/check-results.

. "$(dirname "$0")/../scripts/lib.sh"

# NAME	FAST	WHAT; in the order of the table.  The function is check_NAME.
checks() {
	sed 's/\t\+/\t/g' <<-'LIST'
	checkpatch	1	checkpatch.pl --strict --codespell
	maintainers	1	get_maintainer.pl finds KVM for new files
	kernel_doc	1	kernel-doc -Wall, touched files
	headers		1	headers_install, and a program with these headers
	docs		1	htmldocs of Documentation/virt/kvm
	sparse		1	sparse, touched files
	coccinelle	1	coccicheck, touched files (FAST: new files)
	analyzer	1	clang --analyze, new files
	gcc		1	gcc, W=1, with KUnit tests
	clang		1	clang, W=1, with KUnit tests
	nohyperv	1	KVM_HYPERV=n (FAST: without linking)
	modules		0	KVM, KVM_INTEL, KVM_AMD=m, KVM_XEN, KVM_SMM=y, with modpost
	intel		0	KVM_AMD, KVM_SMM, KVM_XEN=n
	amd		0	KVM_AMD=m, KVM_INTEL=n, KVM=y
	none		0	KVM_INTEL, KVM_AMD=n
	locking		0	PROVE_LOCKING
	i386		0	X86_64=n
	allmod		0	allmodconfig
	LIST
}

options 0 "" "$@"
fast=${FAST:-}
need git perl codespell make gcc clang-19 ld.lld-19 spatch sphinx-build python3 ccache
[[ -x $SPARSE ]] || die "sparse is not in $CACHE" "run: make setup"
dictionary=$(dpkg -L codespell | grep '/dictionary\.txt$') ||
	die "there is no dictionary in the package codespell" "run: make setup"
load_base
[[ -d $LINUX ]] || die "there is no build/$BASE/linux" "run: make tree"
"$TOP/scripts/tree.sh" pristine

src=$BUILD/check
out=$BUILD/check-results
mkdir -p "$out"
exec 8> "$BUILD/.check-lock"
flock -n 8 || die "another make check or bisect-check is running" "wait for it to end"
worktree "$src" base
git -C "$src" reset -q --hard

# Debian's python3 has the modules that the kernel's scripts want.
export PATH=/usr/bin:$PATH PYTHONDONTWRITEBYTECODE=1

# What checkpatch can't know here: the base is one commit, without history;
# "make series" adds the Signed-off-by, check_maintainers() looks at new files.
ignore=MISSING_SIGN_OFF,UNKNOWN_COMMIT_ID,FILE_PATH_CHANGES
# As elsewhere in trace.h, and in the stubs of KVM's headers.
ignore+=,COMPLEX_MACRO,LINE_SPACING,MACRO_ARG_REUSE,PARENTHESIS_ALIGNMENT,OPEN_ENDED_LINE

# The check functions print findings, one a line, and whatever else.  They get the
# tree in $tree, kernel.sh's name of it in $kind, the patch as RANGE in $range,
# the files that it touches and those that are new in touched[] and new[], and
# names for files of their own in $log.*.  They call skip if there is nothing to
# check.

skip() {
	skipped=1
}

check_checkpatch() {
	local commit rc

	[[ $kind == check ]] || return 0
	for commit in $(git -C "$src" rev-list --reverse "$range"); do
		rc=0
		git -C "$src" format-patch -1 --stdout "$commit" |
			(cd "$LINUX" && perl scripts/checkpatch.pl --strict --codespell --terse \
				--codespellfile "$dictionary" --ignore "$ignore" --no-tree -) > "$log.patch" 2>&1 || rc=$?
		# It says nothing about a clean patch, and has a total otherwise.
		if ((rc)) && ! grep -q '^total: ' "$log.patch" || grep -q '^No .* will be found' "$log.patch"; then
			echo "patch: error: checkpatch.pl failed: $(tail -n 1 "$log.patch")"
		fi
		sed 's/^-:/patch:/' "$log.patch"
	done
}

check_maintainers() {
	local file

	((${#new[@]})) || skip
	for file in ${new[@]+"${new[@]}"}; do
		(cd "$tree" && perl scripts/get_maintainer.pl --no-git --no-git-fallback --rolestats -f "$file") \
			> "$log.who" 2>&1 || true
		if ! grep -q '(open list:.*KVM' "$log.who" || ! grep -qE '\((maintainer|supporter):.*KVM' "$log.who"; then
			echo "$file: error: get_maintainer.pl finds no maintainer and list of KVM"
		fi
	done
}

check_kernel_doc() {
	local -a files

	only '\.[ch]$' "${touched[@]}" || { skip; return; }
	(cd "$tree" && timeout --foreground 120 scripts/kernel-doc -none -Wall "${files[@]}") > "$log.doc" 2>&1 || true
	sed -E 's/^(Warning|Error): ([^ ]+) /\2: \1: /; s/^Traceback.*/kernel-doc: error: &/' "$log.doc"
}

check_headers() {
	local -a cc=(gcc -std=gnu11 -O2 -Wall -Wextra -Werror -isystem "$tree/o-headers/usr/include")

	relevant '^(include/uapi|arch/x86/include/uapi)/' || { skip; return; }
	timeout --foreground 300 make -C "$tree" O=o-headers headers_install HOSTCC="ccache gcc" > "$log.install" 2>&1 ||
		echo "headers_install: error: $(tail -n 1 "$log.install")"
	# The patch with the capability has all of it.
	grep -q KVM_CAP_NESTED_HYPERV_HCALL_RELAY "$tree/include/uapi/linux/kvm.h" || return 0
	cat > "$log.c" <<-'C'
	#include <linux/kvm.h>
	_Static_assert(KVM_CAP_NESTED_HYPERV_HCALL_RELAY > KVM_CAP_USER_MEMORY, "");
	_Static_assert(KVM_NESTED_HYPERV_RELAY_POST_MESSAGE == 1 << 0, "");
	_Static_assert(KVM_NESTED_HYPERV_RELAY_SIGNAL_EVENT == 1 << 1, "");
	int main(void)
	{
		struct kvm_hyperv_exit exit = { .type = KVM_EXIT_HYPERV_HCALL };
		return exit.u.hcall.input != 0;
	}
	C
	if ! "${cc[@]}" -o "$log.program" "$log.c" 2>&1 || ! "$log.program"; then
		echo "headers: error: a program that uses the installed headers fails"
	fi
}

check_docs() {
	relevant '^Documentation/' || { skip; return; }
	# Sphinx warns of what it reads anew, and only of that.
	rm -rf "$tree/o-docs"
	timeout --foreground 600 make -C "$tree" O=o-docs SPHINXDIRS=virt/kvm HOSTCC="ccache gcc" htmldocs 2>&1 ||
		echo "htmldocs: error: failed"
	[[ -f $tree/o-docs/Documentation/output/virt/kvm/api.html ]] ||
		echo "htmldocs: error: there is no api.html"
}

check_sparse() {
	local -a files

	objects '\.c$' || { skip; return; }
	kernel lab+check-kunit --target "${files[*]}" --make W=1 --make C=2 --make CHECK="$SPARSE"
}

check_coccinelle() {
	local file
	local -a files wanted=("${touched[@]}")

	[[ ! $fast ]] || wanted=(${new[@]+"${new[@]}"})
	only '^(arch|lib|virt)/.*\.c$' ${wanted[@]+"${wanted[@]}"} || { skip; return; }
	# coccicheck goes by srctree; a rule in OCaml, about a driver, would need its compiler.
	mkdir -p "$log.rules/scripts"
	cp -r "$tree/scripts/coccinelle" "$log.rules/scripts/"
	find "$log.rules" -name '*.cocci' -exec grep -q 'script:ocaml' {} \; -delete
	# shellcheck disable=SC2016
	printf '%s\0' "${files[@]}" | xargs -0 -P "$(nproc)" -I{} bash -c '
		export C=2 MODE=report srctree=$2 LINUXINCLUDE="-I ./arch/x86/include -I ./include"
		cd "$1" && timeout --foreground 600 bash scripts/coccicheck "$3" > "$4.${3//\//_}" 2>&1
		' - "$tree" "$log.rules" {} "$log.found" || echo "coccicheck: error: failed"
	for file in "${files[@]}"; do
		[[ $(grep -c '^[^ ]*spatch ' "$log.found.${file//\//_}") -ge 50 ]] ||
			echo "coccicheck: error: ran less than 50 rules on $file"
	done
	# spatch says on its own what it makes of a rule; findings begin with a file and a line.
	sed -E -n 's/^([^: ]+:[0-9]+):[0-9]+-[0-9]+: /\1: warning: /p; /^(Fatal|EXN|File ")/s/^/coccicheck: error: /p' "$log.found".*
}

check_analyzer() {
	local -a files

	if ! only '\.c$' ${new[@]+"${new[@]}"} || ! objects '^(arch|lib)/' "${files[@]}"; then
		skip
		return
	fi
	kernel lab+check-kunit --clang --target "${files[*]}" --make W=1 --make C=2 --make CHECKFLAGS= \
		--make CHECK='clang-19 --analyze --analyzer-output text -Wno-unused-command-line-argument'
}

parts='arch/x86/kvm/ lib/kunit/'

check_gcc() {
	kernel lab+check-kunit --target "$parts" --make W=1
}

check_clang() {
	kernel lab+check-kunit --clang --target "$parts" --make W=1
}

check_nohyperv() {
	if [[ $fast ]]; then
		kernel lab+nohyperv --target arch/x86/kvm/
	else
		kernel lab+nohyperv
	fi
}

check_modules() {
	kernel lab+modules
}

check_intel() {
	kernel lab+check-intel --target arch/x86/kvm/
}

check_amd() {
	kernel lab+check-amd --target arch/x86/kvm/
}

check_none() {
	kernel lab+check-none --target 'arch/x86/kvm/ virt/'
}

check_locking() {
	kernel lab+check-locking --target arch/x86/kvm/
}

check_i386() {
	kernel lab+check-i386 --target arch/x86/kvm/
}

check_allmod() {
	kernel allmodconfig --target arch/x86/kvm/
}

# Does the patch touch such a file?
relevant() {
	grep -qE "$1" < <(printf '%s\n' "${touched[@]}")
}

# only REGEX FILE...: set files[] to those that match and that the tree has.
only() {
	local regex=$1 file

	shift
	files=()
	for file; do
		[[ ! $file =~ $regex || ! -f $tree/$file ]] || files+=("$file")
	done
	((${#files[@]}))
}

# objects REGEX [FILE...]: set files[] to the kernel's objects of these files; by
# default of those that the patch touches, or of all the series' if there is a
# header among them, as findings may be in its users.
objects() {
	local regex=$1
	local -a from=("${@:2}")

	if ((!${#from[@]})); then
		from=("${touched[@]}")
		! relevant '^(arch|include)/.*\.h$' ||
			mapfile -t from < <(git -C "$src" diff --name-only base series)
	fi
	only "$regex" "${from[@]}" && only '^(arch|lib|virt)/' "${files[@]}" || return 1
	files=("${files[@]/%.c/.o}")
}

# A build: KVM_WERROR and WERROR are on, so that a warning fails it, and no object
# of a run before can hide one.
kernel() {
	local config=$1 name=$kind-$1

	shift
	relevant '^(arch|include|lib|virt)/' || { skip; return; }
	[[ " $* " != *' --clang '* ]] || name+=-clang
	[[ " $* " != *' --target '* ]] || name+=-part
	rm -f "$BUILD/lab/$name/build.log"
	timeout --foreground 3000 "$TOP/scripts/kernel.sh" --source "$kind" --config "$config" "$@" > "$log.kernel" 2>&1 ||
		echo "build: error: $config fails"
	cat "$BUILD/lab/$name/build.log" || cat "$log.kernel"
}

# Findings without what differs from tree to tree and from line to line.
normalize() {
	grep -aE '(^|[ :])(warning|error|fatal error|CHECK|WARNING|ERROR|Warning|Error):|undefined reference' |
		sed -E "s,$tree/,,g; s,(^|[ (])(\.\./)+,\1,g; s,:[0-9]+(:[0-9]+)?(-[0-9]+)?:,:,g" | sort -u
}

# run CHECK FILE: findings into FILE, the tool's output beside it.
run() {
	skipped=
	log=$2.out
	rm -rf "$log" "$log".*
	"check_$1" > "$log" 2>&1 < /dev/null || echo "$1: error: the check failed" >> "$log"
	normalize < "$log" > "$2.new" || true
	mv "$2.new" "$2"
}

# The base's findings, with all files that the series touches.  They are kept, as
# the base doesn't change.
base_findings() {
	local tree=$BUILD/pristine kind=pristine range=base file=$out/base/$1 stamp
	local -a touched new=()

	mapfile -t touched < <(git -C "$src" diff --name-only --diff-filter=M base series)
	stamp="$(cat "$0" "$TOP/scripts/kernel.sh" "$TOP"/scripts/configs/*.config | sha256sum) $SHA256 $fast ${touched[*]}"
	[[ ! -f $file || $(cat "$file.stamp" 2>/dev/null) != "$stamp" ]] || return 0
	mkdir -p "$out/base"
	rm -f "$file.stamp"
	run "$1" "$file"
	echo "$stamp" > "$file.stamp"
}

# Check the patch, with findings that the base doesn't have in $dir/CHECK.bad.
new_findings() {
	local file=$dir/$1 was_skipped

	run "$1" "$file"
	was_skipped=$skipped
	if [[ -s $file ]]; then
		base_findings "$1"
		comm -23 "$file" "$out/base/$1" > "$file.bad"
	fi
	skipped=$was_skipped
	[[ ! -s $file.bad ]]
}

# plant CHECK: put a fault into $src that is CHECK's to find, as a patch does it.
plant() {
	local kvm=$src/arch/x86/kvm
	local core=$kvm/hyperv_nested_relay.c uapi=$src/include/uapi/linux/kvm.h

	case $1 in
	checkpatch)
		printf '/* Recieve a hypercall. */\n' >> "$core"
		;;
	maintainers)
		printf '// SPDX-License-Identifier: GPL-2.0-only\n' > "$src/arch/x86/hv_fault.c"
		;;
	kernel_doc)
		sed -i '0,/^static/s//\/**\n * hv_fault() - no such function\n * @nothing: nothing\n *\/\nstatic/' "$core"
		;;
	headers)
		printf 'struct kvm_hv_fault {\n\tu32 not_a_type_of_userspace;\n};\n' >> "$uapi"
		;;
	docs)
		printf '\nA title that is longer\n====\n' >> "$src/Documentation/virt/kvm/x86/hyperv-nested-relay.rst"
		;;
	sparse)
		plant_function 'int fault(int __user *p)' 'return *(int *)p;'
		;;
	coccinelle)
		plant_function 'int fault(int x)' 'if (x) { x++; };\n\treturn x;'
		;;
	analyzer)
		plant_function 'int fault(int x)' 'int *p = x ? \&x : NULL;\n\n\treturn *p;'
		;;
	gcc)
		# A warning of W=1 alone.
		printf 'static const int hv_fault = 1;\n' >> "$core"
		;;
	clang)
		plant_function 'int fault(int x)' '/* A warning of clang only. */\n\tint y;\n\n\tif (x)\n\t\ty = x;\n\treturn y;'
		;;
	nohyperv)
		printf 'u32 hv_fault(struct kvm *kvm);\nu32 hv_fault(struct kvm *kvm)\n{\n\treturn kvm->arch.hyperv.nested_relay.mask;\n}\n' >> "$kvm/x86.c"
		;;
	modules)
		printf 'u32 hv_fault(void);\nu32 hv_fault(void)\n{\n\treturn kvm_hv_nested_relay_supported();\n}\n' >> "$kvm/svm/svm.c"
		;;
	intel)
		plant_error '!IS_ENABLED(CONFIG_KVM_SMM)'
		;;
	amd)
		plant_error 'IS_MODULE(CONFIG_KVM_AMD) && !IS_ENABLED(CONFIG_KVM_INTEL)'
		;;
	none)
		printf 'ifndef CONFIG_KVM_X86\nobj-y += hv_fault.o\nendif\n' >> "$kvm/Makefile"
		;;
	locking)
		plant_error 'defined(CONFIG_PROVE_LOCKING)'
		;;
	i386)
		plant_function 'unsigned long fault(void)' 'return 1UL << 40;'
		;;
	allmod)
		plant_error 'defined(CONFIG_COMPILE_TEST)'
		;;
	*)
		die "there is no fault for the check $1" "add one to plant() in check/static.sh"
		;;
	esac
}

# Functions go in front of one of the core's, nothing else calls them.
plant_function() {
	sed -i "0,/^static u64/s||static __maybe_unused $1\n{\n\t$2\n}\n\nstatic u64|" \
		"$src/arch/x86/kvm/hyperv_nested_relay.c"
}

plant_error() {
	printf '#if %s\nint hv_fault = not_declared;\n#endif\n' "$1" >> "$src/arch/x86/kvm/x86.c"
}

# Each check must find its fault.
check_faults() {
	local tree=$src kind=check dir=$out/faults check file
	local -a touched new

	rm -rf "$dir"
	mkdir -p "$dir"
	for check in "${names[@]}"; do
		git -C "$src" checkout -q -f --detach series
		git -C "$src" clean -q -f -d -e 'o-*' arch
		plant "$check"
		git -C "$src" add -f -u
		[[ ! -f $src/arch/x86/hv_fault.c ]] || git -C "$src" add -f arch/x86/hv_fault.c
		git -C "$src" -c user.name=check -c user.email=check@invalid commit -q -m "KVM: x86: A fault for $check" ||
			die "the fault for $check changes nothing" "mend plant() in check/static.sh"
		range=series..HEAD
		mapfile -t touched < <(git -C "$src" diff --name-only --no-renames "$range")
		# Some look at new files only: all of the series are.
		mapfile -t new < <(git -C "$src" diff --name-only --no-renames --diff-filter=A base..HEAD)
		if new_findings "$check"; then
			failed=$((failed + 1))
			say "not found: $check"
		else
			passed=$((passed + 1))
			file=$dir/$check.bad
			printf '%-12s %s\n' "$check" "$(head -n 1 "$file" | cut -c -150)"
		fi
	done
	git -C "$src" checkout -q -f --detach series
}

start=$SECONDS
names=()
while IFS=$'\t' read -r check is_fast _; do
	# shellcheck disable=SC2053
	[[ $check != ${TOOL:-*} || ($fast && $is_fast == 0) ]] || names+=("$check")
done < <(checks)
((${#names[@]})) || die "no check matches '$TOOL'" "use one of: $(checks | cut -f 1 | xargs)"
passed=0
failed=0
if [[ ${FAULTS:-} ]]; then
	check_faults
	say "$passed passed, $failed failed"
	exit $((failed > 0))
fi
if [[ $fast ]]; then
	ranges=(base..series)
else
	mapfile -t ranges < <(git -C "$LINUX" rev-list --reverse base..series | sed 's/.*/&^..&/')
	for check in "${names[@]}"; do
		base_findings "$check"
	done
fi
((${#ranges[@]})) || die "there are no patches" "see series/"

failures=()
declare -A table=()
number=0
for range in "${ranges[@]}"; do
	number=$((number + 1))
	tree=$src kind=check
	git -C "$src" checkout -q --detach "${range#*..}"
	mapfile -t touched < <(git -C "$src" diff --name-only --no-renames "$range")
	mapfile -t new < <(git -C "$src" diff --name-only --no-renames --diff-filter=A "$range")
	dir=$out/$(printf '%04d' "$number")
	[[ ! $fast ]] || dir=$out/all
	rm -rf "$dir"
	mkdir -p "$dir"
	subject=$(git -C "$src" show -s --format=%s "${range#*..}")
	[[ ! $fast ]] || subject="all patches"
	say "check: $number of ${#ranges[@]}: $subject"
	for check in "${names[@]}"; do
		if ! new_findings "$check"; then
			failed=$((failed + 1))
			table[$check,$number]=$(wc -l < "$dir/$check.bad")
			failures+=("$dir/$check.bad")
		elif [[ $skipped ]]; then
			table[$check,$number]=-
		else
			passed=$((passed + 1))
			table[$check,$number]=.
		fi
	done
done

printf '\n%-12s %5s' check base
for ((i = 1; i <= number; i++)); do
	column=$i
	[[ ! $fast ]] || column=all
	printf ' %3s' "$column"
done
echo '  findings: the base'\''s, and what a patch adds'
checks | while IFS=$'\t' read -r check _ what; do
	[[ ${table[$check,1]-} ]] || continue
	base='?'
	[[ ! -f $out/base/$check.stamp ]] || base=$(wc -l < "$out/base/$check")
	printf '%-12s %5s' "$check" "$base"
	for ((i = 1; i <= number; i++)); do
		printf ' %3s' "${table[$check,$i]}"
	done
	printf '  %s\n' "$what"
done
for file in ${failures[@]+"${failures[@]}"}; do
	printf '\n%s:\n' "${file#"$TOP"/}"
	head -n 10 "$file"
done
printf '\n%s s\n' "$((SECONDS - start))"
say "$passed passed, $failed failed"
((!failed && passed))
