# SPDX-License-Identifier: GPL-2.0
# Where a relayed call's instructions go:
#
#	awk -v host=NAME -f profile.awk CASES SYMBOLS TRACE
#
# CASES: "CASE PATH RELAY" of each traced call, in their order. SYMBOLS: the kernel's System.map.
# TRACE: what Bochs' debugger printed. Prints, by function, how many more instructions a call
# from L2 takes than the same call from L1, and how many of all are locked.

FNR == 1 { file++ }

file == 1 {
	cases[FNR] = $1 " " $2 " " $3
	next
}

# Addresses are compared as strings: all have 16 digits.
file == 2 {
	if ($2 ~ /^[tTwW]$/ && $1 >= "ffffffff80000000") {
		address[++n] = $1
		symbol[n] = $3
	}
	next
}

/^Tracing enabled/ { name = cases[++section]; tracing = 1; next }
/^Tracing disabled/ { tracing = 0; next }

# L2's instructions have no physical address in Bochs' eyes.
tracing && /^\(0\)\.\[/ {
	where = "guests and userspace"
	if (match($0, /:ffffffff[89a-f][0-9a-f]+ \(/))
		where = resolve(substr($0, RSTART + 1, 16))
	count[name, where]++
	total[name]++
	functions[where]
	if (/: (lock |xchg .* ptr )/)
		locked[name]++
}

function resolve(rip,  low, high, middle)
{
	if (rip in cache)
		return cache[rip]
	low = 1
	high = n
	while (low < high) {
		middle = int((low + high + 1) / 2)
		if (address[middle] <= rip)
			low = middle
		else
			high = middle - 1
	}
	return cache[rip] = symbol[low]
}

function compare(what, from, to,  f, d, list, nlist, i, j, line)
{
	if (!(from in total) || !(to in total)) {
		printf "%s: no trace of %s\n", host, (from in total) ? to : from > "/dev/stderr"
		failed = 1
		return
	}
	printf "\n%s, %s: %d, %d, %+d; of them locked: %d, %d\n", host, what, total[from], total[to],
		total[to] - total[from], locked[from], locked[to]
	nlist = 0
	for (f in functions) {
		d = count[to, f] - count[from, f]
		if (d)
			list[++nlist] = sprintf("%+6d  %s", d, f)
	}
	for (i = 2; i <= nlist; i++) {
		line = list[i]
		for (j = i - 1; j && list[j] + 0 < line + 0; j--)
			list[j + 1] = list[j]
		list[j + 1] = line
	}
	for (i = 1; i <= nlist; i++)
		print list[i]
}

END {
	compare("HvSignalEvent, fast, from L1 and relayed", "signal-fast l1 off", "signal-fast l0 on")
	compare("HvSignalEvent, slow, from L1 and relayed", "signal-slow l1 off", "signal-slow l0 on")
	compare("HvPostMessage, from L1 and relayed", "post l1 off", "post l0 on")
	compare("RDMSR, of L1 and of L2, both by L0", "rdmsr l1 off", "rdmsr l0 off")
	compare("hypercall to L1, relay off and on", "hypercall reflected off", "hypercall reflected on")
	exit failed
}
