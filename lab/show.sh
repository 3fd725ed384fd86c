#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# show.sh demo|fuzz DIR HOST
#
# Print what a job of lab/plan, whose results are in DIR, was run for: the
# demo's story and the tracepoint's lines, or the fuzzer's figures and, if it found
# something, how to replay it.

. "$(dirname "$0")/../scripts/lib.sh"
. "$TOP/lab/results.sh"

max_events=20

options 3 "" "$@"
((${#args[@]} == 3)) || die "show.sh: three arguments are needed" "see lab/show.sh --help"
dir=${args[1]} host=${args[2]}

show_demo() {
	local lines trace

	lines=$(step_output "$dir" hyperv_nested_relay_test | sed -n 's/^demo: //p')
	trace=$(step_output "$dir" trace:show | sed -e '/^#/d' -e 's/^ *//')
	echo
	host_title "$host"
	echo "${lines:-(the demo printed nothing)}"
	echo
	echo "tracepoint kvm_hv_nested_relay:"
	sed -n "1,${max_events}p" <<< "${trace:-(no event)}"
	(($(wc -l <<< "$trace") <= max_events)) || echo "(more in ${dir#"$TOP"/}/result.log)"
	[[ $lines && $trace ]]
}

show_fuzz() {
	step_output "$dir" hyperv_nested_relay_fuzz | sed -n -e 's/^# \(.* calls in .*\)/\1/p' \
		-e '/^# FAILED/,/^\(not \)*ok /s/^# \(.*\)/\1/p' | sed "s,^,$host: ,"
}

case ${args[0]} in
demo | fuzz) "show_${args[0]}" ;;
*) die "nothing to show by the name of '${args[0]}'" "see lab/show.sh --help" ;;
esac
