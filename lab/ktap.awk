# SPDX-License-Identifier: GPL-2.0
# Turn the result channel of one boot (see init.c) into KTAP.
#
#	awk -f ktap.awk STEPS RESULT.LOG
#
# STEPS: the name of each step, one per line: a step that was never reached fails. One
# named kunit:SUITE has the results of that suite, as debugfs has them.
# ENVIRON: NONCE, NAME (of the boot, prefix of every test), BOOT (why the boot failed, or
# empty, or SKIP and why nobody knows), WHAT (what that result is called), EXPECT (any; pass:
# no step may skip as a whole; skip: each step must; fail: each case of each step must, unless
# it skips).
# VERDICTS: file that gets "NAME<tab>verdict" for each step.

function clean(text)
{
	gsub(/#/, "", text)
	gsub(/[ \t]+/, " ", text)
	sub(/^[ -]+/, "", text)
	sub(/ $/, "", text)
	return text
}

# One case of the TAP that a step printed.
function tap_case(step, line,  good, number, skip, directive)
{
	good = line !~ /^not /
	sub(/^(not )?ok /, "", line)
	number = line + 0
	sub(/^[0-9]+/, "", line)
	ncases[step]++
	if (number != ncases[step] && misnumbered[step] == "")
		misnumbered[step] = "test case " number " printed where " ncases[step] " was due"

	directive = ""
	if (match(line, / # *(SKIP|XFAIL|XPASS|TODO)/)) {
		directive = substr(line, RSTART)
		line = substr(line, 1, RSTART - 1)
		sub(/^ # */, "", directive)
		skip = directive ~ /^SKIP/
		directive = " # " directive
	}
	line = clean(line)
	if (line == "")
		line = "case " ncases[step]
	if (EXPECT == "fail" && !skip) {
		good = !good
		line = line " fails"
	}
	if (skip)
		skipped[step]++
	else if (!good)
		failed[step]++
	else
		passed[step]++
	cases[step] = cases[step] "  " (good ? "ok " : "not ok ") ncases[step] " " line directive "\n"
}

# The results of a KUnit suite, as the kernel has them in debugfs: its cases, or
# the parameters of a case, at the innermost level.  Their number is in the suite's
# totals, which is what the plan is for other tests.
function kunit_line(step, line,  level, name)
{
	match(line, /^ */)
	level = RLENGTH
	if (line ~ /^# Totals: .* total:[0-9]+$/) {
		plan[step] = line
		sub(/.*:/, "", plan[step])
	} else if (line ~ /^ *# Subtest: / && level == 8) {
		parent[step] = line
		sub(/.*# Subtest: /, "", parent[step])
		parent[step] = parent[step] "/"
	} else if (line ~ /^ *(not )?ok [0-9]+/) {
		if (level == 0 || (level == 4 && parent[step] != "")) {
			parent[step] = ""
			return
		}
		sub(/^ */, "", line)
		name = line
		sub(/^(not )?ok [0-9]+ */, "", name)
		tap_case(step, (line ~ /^not/ ? "not ok " : "ok ") ncases[step] + 1 " " parent[step] name)
	}
}

# Why a step failed for another reason than a failed case of its own; empty if it did not.
function own_failure(step)
{
	if (!(step in started))
		return "never reached: " (BOOT == "" ? "the boot ended before it" : BOOT)
	if (!(step in how))
		return "the boot ended while it ran: " (BOOT == "" ? "no verdict" : BOOT)
	if (how[step] == "error")
		return detail[step]
	if (how[step] == "signal")
		return "killed by signal " detail[step]
	if (how[step] == "timeout")
		return "not done after " detail[step] " s"
	if (how[step] == "stuck")
		return "not done after " detail[step] " s and cannot be killed"
	if (how[step] != "exit" || detail[step] !~ /^[0-9]+$/)
		return "its verdict is not readable: " how[step]
	if (detail[step] == 4)
		return ""
	if (EXPECT == "fail" && (!tap[step] || detail[step] == 0))
		return "no case of it failed"
	if (detail[step] != 0 && !failed[step] && EXPECT != "fail")
		return "exit status " detail[step]
	if (!tap[step])
		return ""
	if (misnumbered[step] != "")
		return misnumbered[step]
	if (!(step in plan))
		return "it printed no TAP plan"
	if (plan[step] != ncases[step])
		return "it planned " plan[step] " cases and ran " ncases[step] + 0
	if (!ncases[step])
		return "it ran no case"
	return ""
}

function report(good, name, comment)
{
	number++
	print (good ? "ok " : "not ok ") number " " name (comment == "" ? "" : " # " comment)
}

function report_step(step,  name, why, skip, verdict, i)
{
	name = NAME "/" step
	why = own_failure(step)
	if (why != "" && tap[step]) {
		ncases[step]++
		cases[step] = cases[step] "  not ok " ncases[step] " " step \
			": the program itself # " clean(why) "\n"
		failed[step]++
	}
	if (why == "" && failed[step])
		why = failed[step] " of " ncases[step] " cases failed"
	skip = detail[step] == 4 || (ncases[step] && skipped[step] == ncases[step])
	verdict = why != "" ? "fail" : skip ? "skip" : "pass"
	if (EXPECT == "skip" && verdict == "pass")
		why = "it must skip here, but passed"
	if ((EXPECT == "pass" || EXPECT == "fail") && verdict == "skip")
		why = "it must not skip here: " clean(reason[step])

	if (why != "")
		for (i = tail[step] > 12 ? tail[step] - 11 : 1; i <= tail[step]; i++)
			print "# " step "| " text[step, i]
	if (EXPECT == "skip" && verdict == "skip") {
		print "# " step " skipped: " clean(reason[step])
		report(1, name " skips")
	} else {
		if (ncases[step])
			printf "  KTAP version 1\n  # Subtest: %s\n  1..%d\n%s", name, ncases[step], cases[step]
		if (verdict == "skip" && why == "")
			report(1, name, "SKIP " (reason[step] == "" ? "no reason given" : clean(reason[step])))
		else
			report(why == "", name, clean(why))
	}
	if (tap[step])
		verdict = sprintf("%s, cases: %d passed, %d failed, %d skipped", verdict,
				  passed[step], failed[step], skipped[step])
	print step "\t" verdict >VERDICTS
}

BEGIN {
	NONCE = ENVIRON["NONCE"]
	NAME = ENVIRON["NAME"]
	BOOT = ENVIRON["BOOT"]
	WHAT = ENVIRON["WHAT"] == "" ? "boot: no splat" : ENVIRON["WHAT"]
	EXPECT = ENVIRON["EXPECT"]
	VERDICTS = ENVIRON["VERDICTS"]
}

{ sub(/\r$/, "") }

FNR == NR {
	names[++steps] = $1
	if ($1 ~ /^kunit:/)
		kunit[$1] = tap[$1] = 1
	next
}

done { next }

$1 == NONCE && $2 == "fact" {
	sub(/^[^ ]+ fact /, "")
	facts = facts "# " clean($0) "\n"
}

$1 == NONCE && $2 == "start" { started[$3] = 1 }

$1 == NONCE && $2 == "end" {
	step = $3
	how[step] = $4
	detail[step] = $5
	if (how[step] == "error") {
		sub(/^[^ ]+ end [^ ]+ error /, "")
		detail[step] = $0
	}
}

$1 == NONCE && $2 == "done" { done = 1 }

$1 == "o" {
	step = $2
	$0 = substr($0, length(step) + 4)
	if (/^(TAP|KTAP) version /) {
		tap[step] = 1
	} else if (kunit[step]) {
		kunit_line(step, $0)
	} else if (tap[step] && /^1\.\.[0-9]+/) {
		plan[step] = substr($0, 4) + 0
	} else if (tap[step] && /^(not )?ok [0-9]+/) {
		tap_case(step, $0)
	}
	text[step, ++tail[step]] = $0
	if (match($0, /# *SKIP */))
		reason[step] = substr($0, RSTART + RLENGTH)
	else if (!tap[step] && !(step in reason))
		lastline[step] = $0
}

END {
	print "KTAP version 1"
	print "1.." steps + 1
	printf "%s", facts
	report(BOOT == "" || BOOT ~ /^SKIP /, NAME " " WHAT, clean(BOOT))
	for (i = 1; i <= steps; i++) {
		step = names[i]
		if (reason[step] == "")
			reason[step] = lastline[step]
		report_step(step)
	}
}
