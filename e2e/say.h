/* SPDX-License-Identifier: GPL-2.0 */
/* How what runs in L2, or in a Linux that is L1, talks to e2e/scenario.c. */
#include <stdarg.h>
#include <stdio.h>

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	va_list ap;

	printf("e2e: ");
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}
