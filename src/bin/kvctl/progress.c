/*
 * progress.c - one line on a terminal that says how far load or dump is.
 */
#include <inttypes.h>

#include "kvctl.h"
#include "port/clock.h"

#define UPDATE_NS 100000000

void
progress_start(Progress *p, bool shown, uint64_t total, const char *verb)
{
	*p = (Progress){ .shown = shown, .start_ns = clock_mono_ns(), .total = total, .verb = verb };
}

/* 1234567 -> 1,234,567 */
static void
grouped(uint64_t n, char *out, size_t size)
{
	char digits[24];
	int len = snprintf(digits, sizeof digits, "%" PRIu64, n);
	size_t at = 0;

	for (int i = 0; i < len && at + 2 < size; i++) {
		if (i > 0 && (len - i) % 3 == 0)
			out[at++] = ',';
		out[at++] = digits[i];
	}
	out[at] = '\0';
}

void
progress_text(const Progress *p, uint64_t now_ns, uint64_t records, uint64_t bytes, char *out, size_t size)
{
	char count[40], amount[24], rate[24];
	double seconds = (double) (now_ns - p->start_ns) / 1e9;
	double per_second = seconds > 0 ? (double) bytes / seconds : 0;
	int n;

	grouped(records, count, sizeof count);
	size_text((double) bytes, amount, sizeof amount);
	size_text(per_second, rate, sizeof rate);
	n = snprintf(out, size, "%s record%s, %s, %s/s", count, records == 1 ? "" : "s", amount, rate);
	if (p->total > 0 && bytes <= p->total && per_second > 0 && (size_t) n < size) {
		uint64_t left = (uint64_t) ((double) (p->total - bytes) / per_second + 0.5);

		snprintf(out + n, size - (size_t) n, ", %" PRIu64 "%%, %" PRIu64 ":%02" PRIu64 " left",
			(uint64_t) ((double) bytes * 100 / (double) p->total), left / 60, left % 60);
	}
}

void
progress_update(Progress *p, uint64_t records, uint64_t bytes)
{
	char text[160];
	uint64_t now;

	if (!p->shown)
		return;
	now = clock_mono_ns();
	if (now - p->last_ns < UPDATE_NS)
		return;
	p->last_ns = now;
	progress_text(p, now, records, bytes, text, sizeof text);
	fprintf(stderr, "\r%s: %s\033[K", p->verb, text);
}

void
progress_end(Progress *p, uint64_t records, uint64_t bytes)
{
	char text[160], took[32];
	uint64_t now = clock_mono_ns();

	if (!p->shown)
		return;
	p->total = 0;
	progress_text(p, now, records, bytes, text, sizeof text);
	duration_text(now - p->start_ns, took, sizeof took);
	fprintf(stderr, "\r%s: %s in %s\033[K\n", p->verb, text, took);
}
