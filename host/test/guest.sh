#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# guest.sh selftest|user|record|refusals|nested|none
#
# Runs in an emulated host, on busybox: the programs of the package, as TAP.
# selftest: all of it, and as root; user: the same as somebody else; record: what it is
# told of VMs here; refusals: of both. nested, none: refusals with nested virtualization off,
# and on a kernel without the relay.

PATH=/usr/sbin:/bin
lib=/usr/lib/kvm-hyperv-nested-relay-selftest
tracing=/sys/kernel/tracing
event=events/kvm/kvm_hv_nested_relay
# What the capability's number is here, and what KVM says of its version; without a relay, any.
# shellcheck disable=SC2046
number=$($lib/ask relay $(cd $lib && echo [1-9]*) 2>/dev/null | sed -n 's/^relay \([0-9]*\) .*/\1/p')
tests=$lib/${number:=252}
version='a version'
[ ! -e /sys/module/kvm/version ] || version=$(sed 's/[+.]/[&]/g' /sys/module/kvm/version)
cases=0

# ok WHAT COMMAND...: a case. What the command prints shows if it fails.
ok() {
	what=$1
	shift
	cases=$((cases + 1))
	if "$@" > /tmp.case 2>&1; then
		echo "ok $cases $what"
	else
		tail -n 30 /tmp.case | sed 's/^/# /'
		echo "not ok $cases $what"
	fi
}

# has FILE REGEX: it has such a line, or what it has is shown.
has() {
	grep -qE -- "$2" "$1" || {
		cat "$1"
		echo "no line matches $2"
		return 1
	}
}

hasnt() {
	! grep -E -- "$2" "$1"
}

# What must be as before after each run.
state() {
	(
		cd /sys/module && grep -s . kvm*/parameters/*
		cd $tracing && ls instances &&
			cat tracing_on set_event set_event_pid current_tracer trace_options events/enable events/kvm/enable
		cat "$event/enable" "$event/filter"
		ls /tmp
	) 2>/dev/null
}

# untouched BEFORE: is the state that?
untouched() {
	state > /tmp.after
	diff /tmp.before /tmp.after
}

# refused WORDS COMMAND...: with a line that has cause and way out, and exit status 2.
refused() {
	words=$1 status=0
	shift
	timeout 60 "$@" > /tmp.refused 2>&1 || status=$?
	cat /tmp.refused
	echo "exit status $status"
	[ "$status" = 2 ] && grep -qE "^kvm-hyperv-nested-relay-(selftest|record): .*$words.*; ." /tmp.refused
}

as_user="su user -c"

### selftest, user

last_line() {
	tail -n 1 /tmp.stdout | grep -qE '^[1-9][0-9]* passed, 0 failed, [0-9]+ skipped$'
}

report_is_whole() {
	for line in "# tests of linux-source-.* [^ ]+" "# kernel Linux .* x86_64" "# cmdline .*console=ttyS0" \
		"# cpu .*family [0-9]+ model [0-9]+ stepping [0-9]+, microcode (0x[0-9a-f]+|unknown), [0-9]+ processors" \
		"# TSC [1-9][0-9]+ kHz, clocksource" "# relay: capability $number, mask 0x303, KVM (without )?$version" \
		"# kvm .*halt_poll_ns=" "# kvm_(amd|intel) .*nested=[Y1]" "# spectre_v2: " \
		"ok 2 host/hyperv_nested_hypercalls" "ok 3 host/hyperv_nested_relay_test" \
		"ok 4 host/hyperv_nested_relay_stress_test" "ok 5 host/hyperv_nested_relay_fuzz" \
		"ok 6 host/hyperv_nested_relay_bench" \
		"# TSC cycles per call, lowest / median of 5 batches of 500 calls" \
		"# HvPostMessage ([ 0-9.]+ / [0-9]+){3}" \
		"# CPUID, to L1 +[1-9][0-9]* / [1-9][0-9]* +[1-9][0-9]* / [1-9]" \
		"# [0-9]+ passed, 0 failed, [0-9]+ skipped"; do
		has /tmp/report "^$line" || return
	done
	[ "# $(tail -n 1 /tmp.stdout)" = "$(tail -n 1 /tmp/report)" ]
}

selftest() {
	status=0
	state > /tmp.before
	"$@" > /tmp.stdout 2>&1 || status=$?
	cp /tmp/report /tmp.report
	ok "nothing fails" [ "$status" = 0 ]
	ok "the last line sums up" last_line
	ok "the report has everything" report_is_whole
	rm -f /tmp/report
	ok "nothing is changed" untouched
	# How long each took, or what failed.
	[ "$status" = 0 ] || sed 's/^/# /' /tmp.stdout
	sed -n 's/.* s$/# &/p' /tmp.stdout
}

test_selftest() {
	selftest kvm-hyperv-nested-relay-selftest -o /tmp/report -l 900 -r 1
	ok "the kernel's log is looked at" has /tmp.report "^ok 1 host kernel's log: no splat$"

	status=0
	state > /tmp.before
	timeout -s TERM 3 kvm-hyperv-nested-relay-selftest -o /tmp/report > /tmp.stdout 2>&1 || status=$?
	ok "interrupted, it says so" has /tmp.stdout '^interrupted: no report'
	ok "and fails" [ "$status" != 0 ]
	ok "and leaves nothing" untouched
	sleep 1
	# A zombie has no such link: nobody waits for those here.
	ok "and no program" sh -c '! ls -l /proc/*/exe 2>/dev/null | grep hyperv_nested_relay_'

	# Programs that misbehave in the place of those.
	mkdir -p /tmp.tree/usr/sbin
	cp -r /usr/lib /tmp.tree/usr/
	cp /usr/sbin/kvm-* /tmp.tree/usr/sbin/
	cd /tmp.tree/usr/lib/*/"$number" || exit
	printf '#!/bin/sh\necho TAP version 13\necho 1..3\necho ok 1 a\necho not ok 2 b\necho "ok 3 c # SKIP d"\nexit 1\n' > hyperv_nested_relay_test
	printf '#!/bin/sh\necho TAP version 13\necho 1..1\necho ok 1 a\n' > hyperv_nested_hypercalls
	printf '#!/bin/sh\nkill -SEGV $$\n' > hyperv_nested_relay_stress_test
	printf '#!/bin/sh\nsleep 100\n' > hyperv_nested_relay_fuzz
	printf '#!/bin/sh\necho "<4>WARNING: not a real one" > /dev/kmsg\n' > hyperv_nested_relay_bench
	/tmp.tree/usr/sbin/kvm-hyperv-nested-relay-selftest -o /tmp.bad -l 2 > /tmp.stdout 2>&1
	status=$?
	ok "failures: exit status 1" [ "$status" = 1 ]
	ok "each is counted" has /tmp.stdout '^3 passed, 4 failed, 1 skipped$'
	ok "a failed case is shown" has /tmp.stdout '^not ok 2 b$'
	ok "a skip is shown, with its reason" has /tmp.stdout '^ok 3 c # SKIP d$'
	ok "a crash is a failure" has /tmp.bad '^not ok 4 host/hyperv_nested_relay_stress_test # killed by signal 11$'
	ok "a hang is a failure" has /tmp.bad '^not ok 5 host/hyperv_nested_relay_fuzz # not done after 2 s$'
	ok "a splat is a failure" has /tmp.bad "^not ok 1 host kernel's log: no splat # WARNING: not a real one$"
	ok "no figures are no table" has /tmp.bad '^# cost: not measured$'
}

test_user() {
	chmod 666 /dev/kvm
	echo 1 > /proc/sys/kernel/dmesg_restrict
	# shellcheck disable=SC2086 # words
	selftest $as_user "kvm-hyperv-nested-relay-selftest -o /tmp/report -l 900 -r 1"
	ok "the kernel's log, which isn't for everybody, is skipped" \
		has /tmp.report "^ok 1 host kernel's log: no splat # SKIP its log isn't readable"
	ok "so is the tracepoint" has /tmp.report 'early_users_see_what_is_missing # SKIP no tracefs, or no permission'
	chmod 600 /dev/kvm
}

### record

has_vm() {
	for fd in /proc/"$1"/fd/*; do
		readlink "$fd"
	done 2>/dev/null | grep -qx anon_inode:kvm-vm
}

# until_true COMMAND...: for a minute
until_true() {
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ "$tries" -lt 600 ] || return
		sleep 0.1
	done
}

# start_vm PROGRAM [ARG...]: in vm; the program has a VM then. In a session of its own: one that
# is stopped would else get its group SIGHUP, when a process ends that is init's by now.
start_vm() {
	program=$1
	shift
	setsid "$tests/$program" "$@" > /tmp.vm 2>&1 &
	vm=$!
	until_true has_vm "$vm"
}

# Its calls, and those that were lost.
recorded() {
	sed -n 's/^hypercalls of L2: \([0-9]*\); events lost: \([0-9]*\)$/\1 \2/p' /tmp.record
}

is_recording() {
	[ "$(cat $tracing/instances/hyperv_nested_relay_record_"$1"/$event/enable 2>/dev/null)" = 1 ]
}

# Have it stand still while it has a VM: the fuzzer has one after the other.
stop_vm() {
	until_true stopped_with_vm "$1"
}

stopped_with_vm() {
	kill -STOP "$1"
	has_vm "$1" || {
		kill -CONT "$1"
		false
	}
}

# record PID COMMAND...: of a recorder of this VM, which goes on as soon as that is there.
record() {
	pid=$1
	shift
	stop_vm "$pid"
	{
		until_true is_recording "$pid"
		kill -CONT "$pid"
	} &
	status=0
	"$@" > /tmp.record 2>&1 || status=$?
}

# A signal makes one event, the threads of the vCPUs are made after the recorder has come,
# and another VM's events aren't counted. How many a vCPU makes is 2 * N.
all_calls() {
	processors=$(grep -c ^processor /proc/cpuinfo)
	want=0 n=1
	while [ "$n" -le "$processors" ]; do
		want=$((want + n * 2 * calls)) n=$((n * 2))
	done
	# shellcheck disable=SC2046
	set -- $(recorded)
	echo "$1 recorded, $2 lost, $want made"
	[ "$1" -gt 1000 ] && [ $(($1 + $2)) = "$want" ]
}

only_row() {
	cat /tmp.record
	[ "$(sed -n '/^ *calls  code/,/^$/p' /tmp.record | grep -c '^ *[1-9]')" = 1 ] && has /tmp.record "$1"
}

verdicts() {
	cat /tmp.record
	for verdict in kept "to L1: not selected" "to L1: not authorized" "to L1: memory intercept"; do
		has /tmp.record " $verdict$" || return
	done
}

test_record() {
	calls=20000
	# Somebody else's tracing stays as it is.
	echo 1 > $tracing/$event/enable
	echo 'control & 0x10000' > $tracing/$event/filter
	state > /tmp.before

	start_vm hyperv_nested_relay_fuzz -t 100000
	fuzz=$vm
	start_vm hyperv_nested_relay_bench -s -n $calls
	record "$vm" kvm-hyperv-nested-relay-record "$vm" 10000
	ok "it ends with the VM" [ "$status" = 0 ]
	ok "each call of the VM is recorded or counted as lost, those of new threads, too" all_calls
	ok "no call of another VM is" only_row '^ *[1-9][0-9]*  0x5d HvSignalEvent +fast  kept$'
	ok "nothing is changed" untouched

	record "$fuzz" kvm-hyperv-nested-relay-record "$fuzz" 5
	ok "it ends after its time" [ "$status" = 0 ]
	ok "verdicts of all kinds" verdicts
	ok "calls without the nested bit are left out" hasnt /tmp.record "to L1: no nested bit"
	ok "L2s with and without interPartitionCommunication" has /tmp.record '^ *[1-9][0-9]*  0x[0-9a-f]+ +[1-9]'
	ok "nothing is changed" untouched

	for signal in INT TERM HUP; do
		record "$fuzz" timeout -s $signal 4 kvm-hyperv-nested-relay-record -a "$fuzz" 10000
		ok "interrupted by $signal, it sums up" has /tmp.record '^hypercalls of L2: [1-9]'
		ok "and nothing is changed" untouched
	done
	ok "with -a, calls without the nested bit are there, too" has /tmp.record "to L1: no nested bit"

	# A buffer of a few events, and nobody who reads them.
	record "$fuzz" setsid kvm-hyperv-nested-relay-record "$fuzz" 8 &
	record=$!
	until_true is_recording "$fuzz"
	reader=$(pidof dd)
	kill -STOP "$reader"
	echo 4 > $tracing/instances/hyperv_nested_relay_record_"$fuzz"/buffer_size_kb
	sleep 4
	kill -CONT "$reader"
	wait "$record"
	ok "lost events are counted" has /tmp.record '^hypercalls of L2: [1-9][0-9]*; events lost: [1-9]'

	stop_vm "$fuzz"
	kvm-hyperv-nested-relay-record "$fuzz" 10000 > /tmp.record 2>&1 &
	record=$!
	until_true is_recording "$fuzz"
	kill -CONT "$fuzz"
	kill -KILL "$record"
	stop_vm "$fuzz"
	ok "after a recorder was killed, the next one says what is to be done" \
		refused "this VM is being recorded, or was" kvm-hyperv-nested-relay-record "$fuzz" 1
	kill -KILL "$(pidof dd)"
	sleep 1
	ok "that works" rmdir $tracing/instances/hyperv_nested_relay_record_"$fuzz"
	rm -rf /tmp/tmp.*
	kill -KILL "$fuzz"

	# Those of its cases that go on after SIGCONT.
	start_vm hyperv_nested_relay_bench -c 'post-vcpu-run via-l1 off' -r 100000
	record "$vm" kvm-hyperv-nested-relay-record "$vm" 3
	ok "a VM with the relay off" only_row '^ *[1-9][0-9]*  0x5c HvPostMessage +slow  to L1: not selected$'
	kill -KILL "$vm"

	start_vm hyperv_nested_relay_bench -c 'post-vcpu-run l1 off' -r 100000
	record "$vm" kvm-hyperv-nested-relay-record "$vm" 2
	ok "a VM without an L2" has /tmp.record '^hypercalls of L2: 0; events lost: 0$'
	kill -KILL "$vm"
	ok "nothing is changed" untouched
}

### refusals

# shellcheck disable=SC2086 # words
test_refusals() {
	self=kvm-hyperv-nested-relay-selftest
	record=kvm-hyperv-nested-relay-record
	ok "somebody without permission" refused "not permitted" $as_user $self
	ok "a report that can't be written" refused "can't be written" $self -o /no/such/report
	ok "a bad limit" refused "take a number" $self -l 0
	ok "an unknown argument" refused "unexpected argument" $self now
	mkdir -p /tmp.old/usr/sbin
	cp -r /usr/lib /tmp.old/usr/
	cp /usr/sbin/$self /tmp.old/usr/sbin/
	printf '#!/bin/sh\necho tsc 1\necho relay %s 0x3\n' "$number" > /tmp.old/$lib/ask
	ok "an older relay" refused "knows 0x3, they want 0x303" /tmp.old/usr/sbin/$self
	rm /dev/kvm
	ok "no /dev/kvm" refused "no /dev/kvm" $self

	ok "record: not root" refused "takes root" $as_user "$record 1"
	ok "record: no PID" refused "give the PID" $record
	ok "record: no number" refused "not two numbers" $record 1 x
	ok "record: no such process" refused "no process 99999" $record 99999
	ok "record: no VM" refused "process 1 .* has no VM" $record 1
	mkdir -p /tmp.trace/$event /tmp.none
	printf '\tfield:u64 l2_input;\n' > /tmp.trace/$event/format
	mount -o bind /tmp.trace $tracing
	ok "record: an older tracepoint" refused "an older one" $record 1
	mount -o bind /tmp.none $tracing
	mount -o bind /tmp.none /sys/kernel/debug
	ok "record: no tracefs" refused "no /sys/kernel/tracing/events" $record 1
}

test_nested() {
	ok "nested virtualization is off" refused "nested virtualization is off" kvm-hyperv-nested-relay-selftest
}

test_none() {
	ok "a kernel without the relay" refused "has no relay" kvm-hyperv-nested-relay-selftest
	ok "record: a kernel without the relay" refused "no tracepoint" kvm-hyperv-nested-relay-record 1
}

echo "TAP version 13"
"test_$1"
echo "1..$cases"
