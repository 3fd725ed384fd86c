#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# HOST=HOST lab/shell.sh
#
# A shell in an emulated host, with the lab's kernel and the KVM selftests of the
# series in the shell's PATH.  There, "events" enables the relay's tracepoint, and "trace"
# prints what it has seen.  "exit" ends the host, and so does ^].
#
# With a stdin that is no terminal, its lines are commands, each of which the shell
# echoes; the host is ended after them, or after the time limit of its boots.
#
# CONFIG=NAME is the kernel's configuration [lab], TEST="NAME..." are the
# selftests instead of those of the series.  The exit status is not that of a command.

. "$(dirname "$0")/../scripts/lib.sh"
. "$TOP/lab/results.sh"

options 0 "" "$@"
host=${HOST-} config=$(full_config "${CONFIG:-lab}")
need cpio busybox socat
load_base
[[ $host && -f $TOP/lab/hosts/$host.sh ]] || die "no host '$host'" "HOST= takes one of: $(list_hosts)"
[[ $(file -L "$(type -P busybox)") == *'statically linked'* ]] || die "busybox is not the static one" "run: make setup"
# shellcheck source=lab/hosts/amd.sh
. "$TOP/lab/hosts/$host.sh"
host_check

"$TOP/scripts/kernel.sh" --source series --config "$config"
# shellcheck disable=SC2086 # words
"$TOP/scripts/selftests.sh" ${TEST-}

work=$(mktemp -d) starter=
trap '[[ ! $starter ]] || kill "$starter" 2> /dev/null || true; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
ready="The shell is ready."

make_root() {
	local root=$work/root name

	mkdir -p "$root"/{bin,dev,proc,sys,tmp,tests}
	cp "$(type -P busybox)" "$root/bin/"
	cp "$BUILD/lab/selftests"/* "$root/tests/"
	cat > "$root/init" <<-END
		#!/bin/busybox sh
		/bin/busybox --install -s /bin
		mount -t proc none /proc
		mount -t sysfs none /sys
		mount -t devtmpfs none /dev
		mount -t tmpfs none /tmp
		mount -t debugfs none /sys/kernel/debug
		mount -t tracefs none /sys/kernel/tracing
		[ -z "\$SIZE" ] || stty -F /dev/ttyS0 \$(echo \$SIZE | tr , " ")
		echo "Tests: \$(cd /tests && echo *)"
		echo "events: enable the relay's tracepoint; trace: print it"
		echo "$ready"
		cd /tests
		PS1="$host# " setsid cttyhack sh
		poweroff -f
	END
	echo 'echo 1 > /sys/kernel/tracing/events/kvm/kvm_hv_nested_relay/enable' > "$root/bin/events"
	echo 'cat /sys/kernel/tracing/trace' > "$root/bin/trace"
	for name in events trace; do
		sed -i '1i #!/bin/sh' "$root/bin/$name"
	done
	chmod +x "$root/init" "$root/bin/events" "$root/bin/trace"
	(cd "$root" && find . | cpio -o -H newc --quiet) > "$work/initrd"
}

# In the background, with its serial port at the terminal that socat makes.
start_host() {
	local started=$SECONDS HOST_PID=

	trap '[[ ! $HOST_PID ]] || kill -KILL "$HOST_PID" 2> /dev/null || true; exit 0' TERM
	until [[ -e $work/console ]]; do
		sleep 0.1
	done
	HOST_CONSOLE=$(readlink -f "$work/console")
	# socat waits for someone to open it, whatever becomes of the emulator.
	exec 9<> "$HOST_CONSOLE"
	host_start "$work" "$BUILD/lab/series-$config/bzImage" "$work/initrd" \
		"console=ttyS0,115200 panic=-1 quiet $HOST_CMDLINE PATH=/tests:/bin $size" 1024 "$HOST_SMP"
	# Bochs crashes at poweroff: only one that ends at once has failed.
	{ wait "$HOST_PID"; } 2> /dev/null || ((SECONDS > started + 5)) ||
		die "the emulator failed: $(tail -n 1 "$work/emulator.log")" "try again, or another HOST="
}

# What is sent while the host boots would be lost.
commands() {
	until grep -qs "$ready" "$work/output"; do
		kill -0 $$ 2> /dev/null || exit 0
		sleep 0.2
	done
	cat "$1"
	echo exit
	tail --pid=$$ -f /dev/null
}

make_root
size=''
if [[ -t 0 ]]; then
	read -r rows columns < <(stty size)
	((!rows)) || size="SIZE=rows,$rows,cols,$columns"
fi
say "booting $host; ^] ends it"
console="PTY,link=$work/console,rawer,wait-slave"
start_host &
starter=$!
status=0
if [[ -t 0 ]]; then
	socat "STDIO,rawer,isig=0,escape=0x1d" "$console" || status=$?
else
	: > "$work/output"
	cat > "$work/commands"
	timeout --foreground "$HOST_TIMEOUT" socat STDIO "$console" \
		< <(commands "$work/commands") | tee "$work/output" || status=$?
fi
kill "$starter" 2> /dev/null || true
wait "$starter" || true
starter=
((status != 124)) || die "the host did not end within $HOST_TIMEOUT s" "let the last line be: exit"
exit "$status"
