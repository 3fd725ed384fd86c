#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mutate.sh [--by kunit|selftest|fuzz] [GLOB]
#
# Put the faults of check/mutations whose name matches GLOB into the kernel, one
# at a time, and run the relay's KUnit tests (the default), its selftests, or the
# short run of its fuzzer with the faults that are the selftests'. Those run on the
# AMD host and, if nothing there notices, on the Intel one; a fault in a vendor's
# code on that vendor's alone; one that takes two processors on the host amd.  HOST=
# is a glob for these hosts, amd-steady, intel and amd.  Prints which case is the
# first to notice; fails if a fault goes unnoticed.
#
# Builds in build/<base>/mutant, one kernel at a time, while JOBS faults (2) are
# being looked for.

. "$(dirname "$0")/../scripts/lib.sh"
. "$TOP/lab/results.sh"

by=kunit
options 1 "by:" "$@"
case $by in
kunit) column=kunit tests='' all_hosts=(kunit) ;;
selftest) tests="hyperv_nested_relay_test hyperv_nested_hypercalls hyperv_nested_relay_stress_test" ;;
fuzz) tests=hyperv_nested_relay_fuzz ;;
*) die "no tests '$by'" "use BY= or --by kunit, selftest or fuzz" ;;
esac
# amd-steady: what QEMU's threads do to several vCPUs must not count as noticed, but for
# faults that show only if vCPUs run at once.
[[ ! $tests ]] || column=selftest all_hosts=(amd-steady intel amd)
glob=${args[0]:-*}

need git perl flock
load_base
[[ -d $LINUX ]] || die "there is no build/$BASE/linux" "run: make tree"
# shellcheck disable=SC2086 # words
[[ ! $tests ]] || "$TOP/scripts/selftests.sh" $tests

src=$BUILD/mutant
out=$BUILD/mutate/$by

mkdir -p "$BUILD/mutate"
exec 8> "$BUILD/mutate/.lock"
flock -n 8 || die "another make mutate is running" "wait for it to end"
worktree "$src" series
restore() {
	git -C "$src" checkout -q -f --detach series
}
trap restore EXIT

declare -A file expr by_whom

# build NAME: the kernel with this fault. 1: it changes nothing.
build() {
	local dir=$out/$1

	restore
	if [[ ${file[$1]-} ]]; then
		perl -0pi -e "${expr[$1]}" "$src/arch/x86/kvm/${file[$1]}"
		! git -C "$src" diff --quiet || return 1
		git -C "$src" diff > "$dir/diff"
	fi
	if [[ $tests ]]; then
		"$TOP/scripts/kernel.sh" --source mutant > "$dir/build.log" 2>&1 &&
		cp "$BUILD/lab/mutant-lab/bzImage" "$dir/"
	else
		"$TOP/lab/kunit.sh" --source mutant --out "$dir" --build > "$dir/errors" 2>&1 &&
		cp "$src/o-kunit/arch/x86/boot/bzImage" "$dir/"
	fi || return 2
}

# runs_on NAME HOST: could it be noticed there?
runs_on() {
	# shellcheck disable=SC2053
	[[ ! $tests || $2 == ${HOST:-*} ]] || return
	case ${by_whom[$1]}:${file[$1]}:$2 in
	threads:*:amd) ;;
	threads:* | *:amd | *:svm/*:intel | *:vmx/*:amd*) return 1 ;;
	esac
}

# The case on HOST that notices NAME, or what became of the boot; nothing, if all passed.
# Fails if there is no telling, as there was no boot: the KUnit kernel's may have no result.
notices() {
	local dir=$out/$1 host=$2 ktap=$out/$1/$2/results.ktap why

	if [[ $tests ]]; then
		! "$TOP/lab/boot.sh" --host "$host" --kernel "$dir/bzImage" --tests "$tests" --until-failure \
			--timeout 600 --test-timeout 120 --out "$dir/$host" > "$dir/$host.log" 2>&1 || return 0
	else
		! "$TOP/lab/kunit.sh" --kernel "$dir/bzImage" --out "$dir/$host" > "$dir/$host.log" 2>&1 || return 0
	fi
	if [[ ! -f $ktap ]]; then
		[[ ! $tests && -s $dir/$host/console.log ]] || return 1
		say "the boot: $(tail -n 1 "$dir/$host.log")"
	else
		# The test ended with the first, but not by itself.
		why=$(failed_cases "$ktap" | sed '/: the program itself$/d')
		[[ $why ]] || why=$(failed_tests "$ktap" | sed -n 1p)
		awk 'NR == 1 { printf "%s", $0 } END { if (NR > 1) printf " and %d more", NR - 1 }' <<< "$why"
	fi
}

# try NAME [HOST...]: its outcome, in a word, goes to $out/NAME/outcome.
try() {
	local name=$1 host outcome=survived why='' status=0
	local -a on=("${@:2}")

	((${#on[@]})) || on=("${all_hosts[@]}")
	exec 7> "$BUILD/mutate/.tree"
	flock 7
	rm -rf "${out:?}/$name"
	mkdir -p "$out/$name"
	build "$name" || status=$?
	exec 7>&-
	case $status in
	0) ;;
	1) outcome=broken why="it changes nothing in ${file[$name]}; adapt its expression in check/mutations" ;;
	*) outcome=broken why="it does not build; see ${out#"$TOP"/}/$name" ;;
	esac
	for host in "${on[@]}"; do
		[[ $outcome == survived ]] || break
		[[ $name == none ]] || runs_on "$name" "$host" || continue
		if ! why=$(notices "$name" "$host"); then
			outcome=broken why="no result from $host; see ${out#"$TOP"/}/$name/$host.log"
		elif [[ $why ]]; then
			outcome=noticed why="$host: $why"
		fi
	done
	echo "$outcome" > "$out/$name/outcome"
	printf '%-26s %-8s %s\n' "$name" "${outcome/survived/SURVIVED}" "$why"
	rm -f "$out/$name/bzImage"
}

# No fault at all, on each host: what notices that must be told from what always fails.
try_nothing() {
	local host

	for host in "${hosts[@]}"; do
		try none "$host" > "$BUILD/mutate/none"
		[[ $(< "$out/none/outcome") == survived ]] ||
			die "the tests fail without any mutation: $(< "$BUILD/mutate/none")" "see ${out#"$TOP"/}/none"
	done
}

names=()
while read -r name who path perl; do
	[[ $name && $name != '#'* && ($who == "$column" || $who == both || $who:$by == threads:selftest) ]] || continue
	# shellcheck disable=SC2053
	[[ $name == $glob ]] || continue
	file[$name]=$path expr[$name]=$perl by_whom[$name]=$who
	on=()
	for host in "${all_hosts[@]}"; do
		! runs_on "$name" "$host" || on+=("$host")
	done
	[[ ! ${on-} ]] || names+=("$name")
	hosts+=("${on[@]}")
done < "$TOP/check/mutations"
((${#names[@]})) || die "no mutation matches '$glob' and HOST='${HOST:-*}'" "see check/mutations; hosts are ${all_hosts[*]}"
mapfile -t hosts < <(printf '%s\n' "${hosts[@]}" | sort -u)

start=$SECONDS
try_nothing
pool "${JOBS:-2}" try "${names[@]}"
survived=() broken=() noticed=0
for name in "${names[@]}"; do
	case $(cat "$out/$name/outcome" 2> /dev/null) in
	noticed) noticed=$((noticed + 1)) ;;
	survived) survived+=("$name") ;;
	*) broken+=("$name") ;;
	esac
done
say "$noticed noticed, ${#survived[@]} survived${survived[*]:+: ${survived[*]}}, ${#broken[@]} without a result${broken[*]:+: ${broken[*]}} ($((SECONDS - start)) s)"
((noticed == ${#names[@]}))
