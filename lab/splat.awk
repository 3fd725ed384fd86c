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

telling($0) && !tolerated($0)

END { end_block() }
