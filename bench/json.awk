# SPDX-License-Identifier: GPL-2.0
# Read the lines of figures that report.awk writes as JSON. For awk's -f, before the program.

# The value of a name in the line, without quotation marks; empty if there is none.
function field(name,  text)
{
	if (!match($0, "\"" name "\": *(\"[^\"]*\"|[-0-9.]+)"))
		return ""
	text = substr($0, RSTART, RLENGTH)
	sub(/^"[^"]*": */, "", text)
	gsub(/"/, "", text)
	return text
}
