# SPDX-License-Identifier: GPL-2.0
# Print the first line of each splat in a console log that is not tolerated.
# ENVIRON["ALLOW"]: tolerated extended regexes, one per line.

function telling(line)
{
	return line ~ /WARNING:|BUG:|BUG [^ ]+ \(|kernel BUG at|Oops|Call Trace:|general protection|double fault/ ||
	       line ~ /KASAN:|UBSAN:|KCSAN:|KFENCE:|refcount_t:|INFO: possible|possible circular/ ||
	       line ~ /suspicious RCU|INFO: rcu|stalls on CPUs|hung task|blocked for more than/ ||
	       line ~ /INFO: trying to register|unreferenced object|Kernel panic - not syncing/
}

function tolerated(line,  i)
{
	for (i = 1; i <= nallow; i++)
		if (allow[i] != "" && line ~ allow[i])
			return 1
	return 0
}

# KCSAN doesn't know that a task which is preempted runs its own preemption notifiers: what
# the same task does twice is no race.
function end_kcsan()
{
	if (kcsan != "" && !(sides == 2 && side[1] == side[2] && side[1] ~ /task/) && !tolerated(kcsan))
		print kcsan
	kcsan = ""
}

function end_block()
{
	if (inblock && (!closed || !tolerated(head)))
		print head
	inblock = 0
}

BEGIN { nallow = split(ENVIRON["ALLOW"], allow, "\n") }

{ sub(/\r$/, "") }

/-\[ cut here \]-/ {
	end_block()
	inblock = 1
	closed = 0
	head = $0
	found = 0
	next
}

inblock {
	if (!found && telling($0)) {
		head = $0
		found = 1
	}
	if (/---\[ end trace/) {
		closed = 1
		end_block()
	}
	next
}

/BUG: KCSAN: data-race/ {
	end_kcsan()
	kcsan = $0
	sides = 0
	next
}

kcsan != "" && match($0, / by (task [0-9]+|interrupt) on cpu/) {
	side[++sides] = substr($0, RSTART, RLENGTH)
	next
}

kcsan != "" && /Reported by Kernel Concurrency Sanitizer/ { end_kcsan() }

telling($0) && !tolerated($0)

END {
	end_block()
	end_kcsan()
}
