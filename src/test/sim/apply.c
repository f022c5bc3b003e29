/*
 * apply.c - the state machine: a hash over everything that had an effect, and sessions (thesis 6.3).
 */
#include "sim.h"

void
apply_state(State *s, uint32_t rec)
{
	const Rec *r = &W.rec[rec];
	uint64_t effect = rec;

	if (r->op != 0) {
		if (r->serial > s->serial[r->session] || HBUG(SESSION_NOT_CHECKED))
			s->serial[r->session] = r->serial;
		else
			effect = 0; /* a retry of what was executed */
	}
	s->hash = hash_mix(s->hash * 3 + effect + 1);
	s->rec = rec;
	s->index = r->index;
}

void
apply_up_to(Node *n)
{
	uint32_t from = n->state.index;

	while (n->state.index < n->last && W.rec[n->log[n->state.index + 1]].end <= n->published_commit) {
		uint32_t rec = n->log[n->state.index + 1];
		uint32_t had = W.rec[rec].op == 0 ? 0 : n->state.serial[W.rec[rec].session];

		apply_state(&n->state, rec);
		if (W.rec[rec].op != 0 && (W.rec[rec].serial > had || HBUG(SESSION_NOT_CHECKED))) {
			uint32_t *effect = &W.effect[W.rec[rec].op];

			if (*effect != 0 && *effect != rec)
				sim_fail("session: applied twice", "request %u of client %d", W.rec[rec].op,
						 W.rec[rec].session);
			*effect = rec;
		}
		check_applied(n, rec);
	}
	if (n->state.index != from)
		clients_look(n);
}

void
apply_soon(Node *n)
{
	if (W.p.apply_lag_us == 0) {
		apply_up_to(n);
	} else if (!n->apply_due) {
		n->apply_due = true;
		push(W.now + below(&W.chance, W.p.apply_lag_us), EV_APPLY, n->slot, 0);
	}
}
