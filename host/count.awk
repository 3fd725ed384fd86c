# SPDX-License-Identifier: GPL-2.0
# What lab/ktap.awk wrote, summed up: the cases, and the tests that have none.

function count()
{
	if (/ # SKIP/)
		skipped++
	else if (/^ *not /)
		failed++
	else
		passed++
}

/^  (not )?ok [0-9]/ { count(); nested = 1 }

/^(not )?ok [0-9]/ {
	if (!nested)
		count()
	nested = 0
}

END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }
