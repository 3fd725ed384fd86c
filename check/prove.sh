#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# prove.sh [--mutate [GLOB]]
#
# Prove the properties of check/prove/relay.c of the relay's core, for all inputs,
# with CBMC: the core itself, KVM's own callers of it, on KVM's own types. Prints a
# line for each property.
#
# With --mutate, put the faults of check/mutations that are in the core into it, one
# at a time, those whose name matches GLOB. Prints which properties each refutes; fails
# if a fault is proved right, unless check/prove.reasons says why, or if no fault
# refutes a property. Works in build/<base>/prove.

. "$(dirname "$0")/../scripts/lib.sh"

mutate=
options 1 "mutate" "$@"
glob=${args[0]:-*}

# What is proved. Each assertion of relay.c begins with one of these; all others are
# CBMC's own, of undefined behaviour and of its limits, and belong to "defined".
properties=(
	"gates       a call is kept only if every gate is open, and the decision changes nothing"
	"delivered   a call for which every gate is open is kept, and a valid one is delivered"
	"block       a slow call's input is in one page, aligned, in reach and walked for once"
	"intercept   a memory intercept completes nothing, and a second try lacks nothing"
	"completion  userspace's result goes to the call, or nowhere"
	"registers   exactly bit 31 is dropped, and no register of L2 but the result's is written"
	"mask        the configuration is a valid one, as a whole, and a refused one changes nothing"
	"events      the tracepoint shows what became of the call"
	"defined     no undefined behaviour, no warning, no loop without an end"
)

need gcc perl make
load_base
[[ $BASE == "$MAIN" ]] ||
	die "the proof has the callers of $MAIN, not of $BASE" "run it without BASE, the core is the same"
[[ -d $LINUX ]] || die "there is no build/$BASE/linux" "run: make tree"
[[ -x $CBMC_DIR/usr/bin/cbmc ]] || die "there is no CBMC in $CACHE" "run: make setup"

core=arch/x86/kvm/hyperv_nested_relay.c
obj=$LINUX/o-lab+prove-part
out=$BUILD/prove
mkdir -p "$out"
exec 8> "$out/.lock"
flock -n 8 || die "another make prove is running" "wait for it to end"

# Of another Debian, with its own libraries.
tool() {
	local lib=$CBMC_DIR/usr/lib

	"$lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" \
		--library-path "$lib/x86_64-linux-gnu:$lib" "$CBMC_DIR/usr/bin/$1" "${@:2}"
}

# compile FILE ROOTS TO [FLAG...]: what is reachable from functions in files that match ROOTS.
compile() {
	local file=$1 roots=$2 to=$3

	shift 3
	(
		cd "$obj"
		eval "set -- $flags \"\$@\""
		gcc -E -w "$@" -D__seg_gs= -include "$TOP/check/prove/kernel.h" \
			-iquote ../arch/x86/kvm "$file" | perl "$TOP/check/prove/reduce.pl" "$roots"
	) > "$to.i" 2> "$to.log" &&
		tool goto-cc -c "$to.i" -o "$to.gb" >> "$to.log" 2>&1
}

# link CORE ENVIRONMENT TO: L2's TLB flushes and IPIs aren't the relay's.
link() {
	tool goto-cc "$1.gb" "$2.gb" -o "$3.gb" > "$3.log" 2>&1 &&
	tool goto-instrument --remove-function-body kvm_hv_flush_tlb \
		--remove-function-body kvm_hv_send_ipi "$3.gb" "$3.gb" >> "$3.log" 2>&1
}

# solve PROGRAM ENTRY LOG: 0 if all holds, 10 if something doesn't. The reader of the
# configuration can lose to two writers three times, which is proved as well.
solve() {
	timeout 600 bash -c "$(declare -f tool); tool \"\$@\"" - cbmc "$1.gb" --function "prove_$2" \
		--unwind 17 --unwindset kvm_hv_nested_relay_get.0:4,kvm_hv_nested_relay_get.1:4 \
		--slice-formula > "$3" 2>&1
}
export CBMC_DIR

# Properties that have an assertion in a log that failed, or any assertion, by PATTERN.
listed() {
	local pattern=$1

	shift
	awk -v pattern="$pattern" -v names="${properties[*]%% *}" '
		BEGIN { n = split(names, list); for (i = 1; i <= n; i++) known[list[i]] = 1 }
		$0 ~ "^\\[.*\\] .*: (SUCCESS|FAILURE)$" && $0 ~ pattern {
			name = $0
			sub(/^\[[^]]*\] (line [0-9]+ )?/, "", name)
			sub(/:.*/, "", name)
			if (name == "reached")
				next
			print name in known ? name : "defined"
		}' "$@" | sort -u
}

"$TOP/scripts/kernel.sh" --config lab+prove --target "${core%.c}.i"
flags=$(sed -n '1s/^[^=]*= ccache gcc -E \(.*\) -o .*/\1/p' "$obj/$(dirname "$core")/.hyperv_nested_relay.i.cmd" |
	sed 's/-Wp,-MMD,[^ ]*//')
[[ $flags ]] || die "there are no compiler flags in ${obj#"$TOP"/}" "see build/$BASE/lab/series-lab+prove-part/build.log"

prove() {
	local entry property name failed seen missing paths passed=0 n=0 start=$SECONDS

	if ! { compile "$LINUX/$core" hyperv_nested_relay.c "$out/core" &&
	       compile "$TOP/check/prove/relay.c" check/prove/ "$out/relay" -DPROVE_REACHED &&
	       link "$out/core" "$out/relay" "$out/all"; }; then
		die "CBMC can't read the sources" "see ${out#"$TOP"/}/*.log"
	fi

	for entry in enable begin svm vmx; do
		solve "$out/all" "$entry" "$out/$entry.log" || (($? == 10)) ||
			die "CBMC has no answer for $entry" "see ${out#"$TOP"/}/$entry.log"
	done
	failed=$(listed 'FAILURE$' "$out"/{enable,begin,svm,vmx}.log)
	seen=$(listed . "$out"/{enable,begin,svm,vmx}.log)

	echo "1..$((${#properties[@]} + 1))"
	for property in "${properties[@]}"; do
		name=${property%% *}
		n=$((n + 1))
		if [[ $'\n'$seen$'\n' == *$'\n'$name$'\n'* && $'\n'$failed$'\n' != *$'\n'$name$'\n'* ]]; then
			passed=$((passed + 1))
			say "ok $n $property"
		else
			say "not ok $n $property"
			sed -n "/^\[.*FAILURE$/{/\] line [0-9]* reached: /!s/^/# /p}" "$out"/{enable,begin,svm,vmx}.log
		fi
	done

	# To get there is the opposite of what these assertions say.
	missing=$({
		grep -h '^\[prove_enable\..* reached: ' "$out/enable.log"
		grep -h '^\[prove_exit\..* reached: ' "$out/svm.log"
		grep -h '^\[prove_exit\..* reached: ' "$out/vmx.log"
	} | tee "$out/reached" | grep -v 'FAILURE$' || true)
	paths=$(wc -l < "$out/reached")
	n=$((n + 1))
	if ((paths)) && [[ ! $missing ]]; then
		passed=$((passed + 1))
		say "ok $n reached     each of $paths paths is one that can be taken"
	else
		say "not ok $n reached     each of $paths paths is one that can be taken"
		say "# ${missing//$'\n'/$'\n'# }"
	fi
	say "# $(grep -hc '^\[.*: SUCCESS$' "$out"/{svm,vmx,enable,begin}.log | paste -sd+ | bc) assertions hold, $((SECONDS - start)) s"
	say "$passed passed, $((n - passed)) failed"
	((passed == n))
}

reason_for() {
	sed -n "s/^$1[[:space:]]\+//p" "$TOP/check/prove.reasons"
}

mutants() {
	local name file expr refuted entry reason start=$SECONDS tried=0 killed=0 explained=0 bad=0 status
	local -A killers=()
	local property

	compile "$TOP/check/prove/relay.c" check/prove/ "$out/mutate" ||
		die "CBMC can't read the sources" "see ${out#"$TOP"/}/mutate.log"
	mkdir -p "$out/mutants"

	while read -r name _ file expr; do
		[[ $name && $name != '#'* && $file == hyperv_nested_relay.c ]] || continue
		# shellcheck disable=SC2053
		[[ $name == $glob ]] || continue
		tried=$((tried + 1))

		rm -rf "${out:?}/mutants/$name"
		mkdir "$out/mutants/$name"
		cp "$LINUX/$core" "$out/mutants/$name/"
		perl -0pi -e "$expr" "$out/mutants/$name/${core##*/}"
		! cmp -s "$LINUX/$core" "$out/mutants/$name/${core##*/}" ||
			die "mutation $name changes nothing in $file" "adapt its expression in check/mutations"
		if ! { compile "$out/mutants/$name/${core##*/}" hyperv_nested_relay.c "$out/mutants/$name/core" &&
		       link "$out/mutants/$name/core" "$out/mutate" "$out/mutants/$name/all"; }; then
			die "CBMC can't read mutation $name" "see ${out#"$TOP"/}/mutants/$name/*.log"
		fi

		# What needs nobody else is the quickest.
		for entry in alone enable begin svm; do
			status=0
			solve "$out/mutants/$name/all" "$entry" "$out/mutants/$name/$entry.log" || status=$?
			((status == 0 || status == 10)) ||
				die "CBMC has no answer for mutation $name" "see ${out#"$TOP"/}/mutants/$name/$entry.log"
			((status == 0)) || break
		done
		refuted=$(listed 'FAILURE$' "$out/mutants/$name/$entry.log" | paste -sd ' ')
		rm -f "$out/mutants/$name"/*.gb "$out/mutants/$name"/*.i
		reason=$(reason_for "$name")
		if ((status)) && [[ ! $reason ]]; then
			killed=$((killed + 1))
			printf '%-26s refutes  %s\n' "$name" "$refuted"
			for property in $refuted; do
				killers[$property]+=" $name"
			done
		elif ((status)); then
			bad=$((bad + 1))
			printf '%-26s REFUTES  %s, but has a reason not to\n' "$name" "$refuted"
		elif [[ $reason ]]; then
			explained=$((explained + 1))
			printf '%-26s nothing  %s\n' "$name" "$reason"
		else
			bad=$((bad + 1))
			printf '%-26s SURVIVED\n' "$name"
		fi
	done < "$TOP/check/mutations"
	((tried)) || die "no mutation of the core matches '$glob'" "see check/mutations"

	# A reason has to be of a fault, a property of use.
	if [[ $glob == '*' ]]; then
		while read -r name reason; do
			[[ $name && $name != '#'* ]] || continue
			[[ -d $out/mutants/$name && $reason ]] && grep -q "^$name " "$TOP/check/mutations" && continue
			bad=$((bad + 1))
			say "check/prove.reasons has $name, which is no fault of the core or has no reason"
		done < "$TOP/check/prove.reasons"
		for property in "${properties[@]}"; do
			name=${property%% *}
			say "$name: refuted by $(wc -w <<< "${killers[$name]-}") faults:${killers[$name]-}" | cut -c1-120
			[[ ${killers[$name]-} ]] || bad=$((bad + 1))
		done
	fi
	say "# $killed refuted, $explained explained of $tried, $((SECONDS - start)) s"
	say "$((killed + explained)) passed, $bad failed"
	((bad == 0))
}

if [[ $mutate ]]; then
	mutants
else
	prove
fi
