/*
 * history.c - the term history: which term wrote what part of the log.
 *
 * Terms change only at TERM records (rule L1), so a log of any length is described by the starts of its
 * terms, and two logs are compared by these lists. This is what paper 5.3 (log matching; "the accelerated
 * backing up" at its end) becomes when positions are bytes: a fork is found in one round trip, whatever its
 * length.
 *
 * Invariant: terms[] ascends in term and start; terms[0].start == forgotten once something was forgotten.
 */
#include <string.h>

#include "raft_internal.h"

void
raft_history_push(Raft *r, uint64_t term, uint64_t start)
{
	if (r->nterms == RAFT_TERMS_MAX) {
		memmove(&r->terms[0], &r->terms[1], (RAFT_TERMS_MAX - 1) * sizeof r->terms[0]);
		r->nterms--;
		r->forgotten = r->terms[0].start;
	}
	r->terms[r->nterms++] = (RaftTerm){ .term = term, .start = start };
}

void
raft_history_cut(Raft *r, uint64_t at)
{
	while (r->nterms > 0 && r->terms[r->nterms - 1].start >= at)
		r->nterms--;
}

/* Index of the newest term that starts below `below`; -1 none. */
static int
newest_below(const Raft *r, uint64_t below)
{
	int i = (int) r->nterms - 1;

	while (i >= 0 && r->terms[i].start >= below)
		i--;
	return i;
}

bool
raft_history_knows(const Raft *r, uint64_t pos)
{
	return pos > r->forgotten || r->forgotten == 0;
}

uint64_t
raft_term_before(const Raft *r, uint64_t pos)
{
	int i;

	if (pos > r->end)
		return 0;
	i = newest_below(r, pos);
	return i < 0 ? 0 : r->terms[i].term;
}

uint64_t
raft_term_at(const Raft *r, uint64_t pos)
{
	return pos < r->end ? raft_term_before(r, pos + 1) : 0;
}

uint64_t
raft_last_term(const Raft *r)
{
	return r->nterms > 0 ? r->terms[r->nterms - 1].term : 0;
}

uint32_t
raft_history_tail(const Raft *r, uint64_t below, RaftTerm *out)
{
	uint32_t n = 0;

	for (int i = newest_below(r, below); i >= 0 && n < RAFT_TAIL_MAX; i--)
		out[n++] = r->terms[i];
	return n;
}

/*
 * Is our k-th term the i-th of `n` of theirs? A term has one leader and so begins at one place. Whoever forgot
 * what is older knows only a place within the oldest term left: if the other has that place in the same term,
 * the logs are alike up to there, and further on as long as both are of that term.
 */
static bool
same_term(const Raft *r, int k, uint64_t own_end, const RaftTerm *theirs, uint32_t i, uint32_t n, uint64_t end)
{
	uint64_t own = r->terms[k].start, other = theirs[i].start;

	if (r->terms[k].term != theirs[i].term)
		return false;
	if (own == other)
		return true;
	if (other > own)
		return i == n - 1 && other < own_end;
	return k == 0 && r->forgotten != 0 && own < end;
}

uint64_t
raft_history_fork(const Raft *r, uint64_t end, const RaftTerm *theirs, uint32_t n, bool *exact)
{
	*exact = true;
	for (uint32_t i = 0; i < n; i++) {
		for (int k = (int) r->nterms - 1; k >= 0 && r->terms[k].term >= theirs[i].term; k--) {
			uint64_t own_end = k + 1 < (int) r->nterms ? r->terms[k + 1].start : r->end;

			if (same_term(r, k, own_end, theirs, i, n, end))
				return end < own_end ? end : own_end;
		}
		end = theirs[i].start;
	}
	*exact = false;
	return end < r->end ? end : r->end;
}
