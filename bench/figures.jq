# SPDX-License-Identifier: GPL-2.0
# The figures of a run as a table, with tabs: host, kernel, case, path, relay, median, and
# the lowest batch.
.figures[] | [.host, .kernel, .case, .path, .relay, .median, .lowest] | @tsv
