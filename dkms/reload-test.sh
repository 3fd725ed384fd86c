#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# reload-test.sh VENDOR RELEASE
#
# In an emulated host with Debian's kernel, with the tool and both KVMs where a host has
# them: reload, status and run for real. What it prints is KTAP.

PATH=/usr/sbin:/usr/bin:/sbin:/bin
module=kvm_$1
updates=/lib/modules/$(uname -r)/updates/dkms
own=/lib/modules/$(uname -r)/kernel/arch/x86/kvm
number=0 failed=0

# expect STATUS WORDS WHAT COMMAND...
expect() {
	status=$1 words=$2 what=$3
	shift 3
	number=$((number + 1))
	"$@" > /tmp/said 2>&1
	got=$?
	sed 's/^/# /' /tmp/said
	if [ $got = "$status" ] && grep -qF -- "$words" /tmp/said; then
		echo "ok $number $what"
	else
		echo "not ok $number $what # status $got, not $status with '$words'"
		failed=1
	fi
}

# A VMM, as far as it takes: it makes a VM and waits.
cat > /tmp/vmm <<'END'
open(my $kvm, "+<", "/dev/kvm") or die "no /dev/kvm: $!\n";
my $vm = ioctl($kvm, 0xae01, 0);
defined($vm) or die "no VM: $!\n";
print "VM\n";
sleep(shift);
END

mkdir -p /tmp /dev/shm
[ -d /sys/kernel/debug/kvm ] || mount -t debugfs debugfs /sys/kernel/debug
echo "TAP version 13"
echo "1..16"
# What is loaded is the kernel's own.
mv "$updates" /tmp/updates
depmod
expect 0 "loaded: the kernel's own KVM, without the relay" "status shows the kernel's own KVM" kvm-hyperv-nested-relay status
expect 0 ": 0x0" "and that it doesn't relay" kvm-hyperv-nested-relay status
expect 1 "BAD  loaded KVM: " "check finds fault with it" kvm-hyperv-nested-relay check
expect 95 "not created, as HVRELAY_STRICT is set" "a VM that asks for the relay isn't started" \
	kvm-hyperv-nested-relay run perl /tmp/vmm 0
mv /tmp/updates "$updates"
if [ "$2" = 13 ]; then
	# As DKMS does there.
	away=/var/lib/dkms/kvm-hyperv-nested-relay/original_module/$(uname -r)/x86_64
	mkdir -p "$away"
	mv "$own"/kvm*.ko "$away"
	own=$away
fi
depmod
expect 0 "loaded: $(cat /usr/share/kvm-hyperv-nested-relay/[0-9]*/version), with the relay" "reload loads what is installed" \
	kvm-hyperv-nested-relay reload
expect 0 "nested: on ($module)" "status shows that nesting is on" kvm-hyperv-nested-relay status
expect 0 ": 0x303" "and the capability" kvm-hyperv-nested-relay status
expect 0 "relaying post,signal" "a VM that asks for the relay gets it" kvm-hyperv-nested-relay run perl /tmp/vmm 0
perl /tmp/vmm 1000 &
vmm=$!
sleep 1
expect 0 "VM of $vmm (perl): 0 calls relayed" "status shows a VM" kvm-hyperv-nested-relay status
expect 1 "VMs are running: $vmm (perl)" "reload refuses while it runs" kvm-hyperv-nested-relay reload
expect 0 "VM" "and leaves KVM as it is" perl /tmp/vmm 0
kill $vmm
wait $vmm 2>/dev/null
for name in "kvm-$1" kvm; do
	cp "$updates/$name.ko" /tmp/saved.ko
	echo broken > "$updates/$name.ko"
	expect 2 "the kernel's own KVM is loaded instead" "a broken $name is rolled back" kvm-hyperv-nested-relay reload
	cp /tmp/saved.ko "$updates/$name.ko"
done
expect 0 "VM" "and the host has a KVM" perl /tmp/vmm 0
echo broken > "$updates/kvm.ko"
cp "$own/kvm.ko" /tmp/own.ko
echo broken > "$own/kvm.ko"
expect 3 "THIS HOST CAN'T RUN VMS" "if the kernel's own is broken, too, that is said" kvm-hyperv-nested-relay reload
cp /tmp/saved.ko "$updates/kvm.ko"
modprobe "$module"
expect 0 "OK" "all is well in the end" sh -c 'kvm-hyperv-nested-relay status | grep -q "with the relay" && echo OK'
exit $failed
