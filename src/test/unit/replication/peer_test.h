/*
 * peer_test.h - what the tests of the transport share: who the nodes are, messages.
 */
#ifndef PEER_TEST_H
#define PEER_TEST_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../replication/peer_internal.h"
#include "common/crc32c.h"
#include "port/clock.h"

static uint16_t port_of[4];
static uint64_t seed;

static inline uint64_t
id_of(int node)
{
	return 1000 + (uint64_t) node;
}

static inline Membership
members(int n)
{
	Membership m = { .n = n, .election_ms = 1500 }; /* greetings may take 3 s */

	for (int i = 0; i < n; i++) {
		snprintf(m.node[i].name, sizeof m.node[i].name, "n%d", i);
		m.node[i].incarnation = id_of(i);
		m.node[i].voter = true;
		snprintf(m.node[i].peer_address, sizeof m.node[i].peer_address, "127.0.0.1:%u", port_of[i]);
	}
	return m;
}

static inline RaftMsg
some_message(Prng *g)
{
	RaftMsg m = { .kind = (uint8_t) (1 + prng_below(g, 255)),
				  .flags = (uint32_t) prng_next(g),
				  .term = prng_next(g),
				  .pos = prng_next(g),
				  .pos_term = prng_next(g),
				  .end = prng_next(g),
				  .commit = prng_next(g),
				  .stamp_us = prng_next(g),
				  .clock_ms = prng_next(g),
				  .nterms = (uint32_t) prng_below(g, RAFT_TAIL_MAX + 1) };

	for (uint32_t i = 0; i < m.nterms; i++)
		m.terms[i] = (RaftTerm){ prng_next(g), prng_next(g) };
	return m;
}

/* KVD_SEED repeats a run. */
static inline void
choose_seed(void)
{
	const char *given = getenv("KVD_SEED");

	seed = given != NULL ? strtoull(given, NULL, 10) : clock_mono_ns() % 1000000007;
	printf("seed %llu (repeat with KVD_SEED)\n", (unsigned long long) seed);
}

#endif
