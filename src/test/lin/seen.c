/*
 * seen.c - the configurations that a search has tried: a hash table in bounded memory.
 *
 * An entry is a row of words behind a header. Entries with equal known operations and state but other optional ones are
 * kept side by side; one that has used a subset makes the others needless.
 */
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "lin.h"

#define CHUNK ((size_t) 1 << 20) /* words taken from malloc at a time */
#define SLOTS_MIN 1024u

typedef struct Entry {
	struct Entry *next;
	uint64_t hash;
	uint64_t first;
	LinState state;
	uint32_t nbits;   /* words */
	uint64_t words[]; /* bits, then optional */
} Entry;

typedef struct Chunk {
	struct Chunk *next;
	uint64_t words[];
} Chunk;

struct LinSeen {
	Entry **slots;
	size_t nslots, n;
	size_t memory, used;
	uint32_t noptional;
	Chunk *chunks;
	size_t left; /* words, at the end of the first chunk */
};

LinSeen *
lin_seen_new(size_t memory, uint32_t optional_words)
{
	LinSeen *t = calloc(1, sizeof *t);

	if (t == NULL)
		return NULL;
	t->slots = calloc(SLOTS_MIN, sizeof *t->slots);
	t->nslots = SLOTS_MIN;
	t->memory = memory;
	t->noptional = optional_words;
	if (t->slots == NULL) {
		free(t);
		return NULL;
	}
	return t;
}

void
lin_seen_free(LinSeen *t)
{
	if (t == NULL)
		return;
	while (t->chunks != NULL) {
		Chunk *next = t->chunks->next;

		free(t->chunks);
		t->chunks = next;
	}
	free(t->slots);
	free(t);
}

static void *
take(LinSeen *t, size_t words)
{
	if (words > t->left) {
		size_t want = words > CHUNK ? words : CHUNK;
		size_t bytes = sizeof(Chunk) + want * sizeof(uint64_t);
		Chunk *c;

		if (t->used + bytes > t->memory || (c = malloc(bytes)) == NULL)
			return NULL;
		t->used += bytes;
		c->next = t->chunks;
		t->chunks = c;
		t->left = want;
	}
	t->left -= words;
	return t->chunks->words + t->left;
}

static bool
grow(LinSeen *t)
{
	size_t nslots = t->nslots * 2;
	Entry **slots;

	if (t->used + nslots * sizeof *slots > t->memory || (slots = calloc(nslots, sizeof *slots)) == NULL)
		return false;
	for (size_t i = 0; i < t->nslots; i++) {
		for (Entry *e = t->slots[i], *next; e != NULL; e = next) {
			next = e->next;
			e->next = slots[e->hash & (nslots - 1)];
			slots[e->hash & (nslots - 1)] = e;
		}
	}
	t->used += (nslots - t->nslots) * sizeof *slots;
	free(t->slots);
	t->slots = slots;
	t->nslots = nslots;
	return true;
}

static bool
same_state(const LinState *a, const LinState *b)
{
	return a->version == b->version && a->value == b->value && a->exact == b->exact && a->any == b->any;
}

static bool
subset(const uint64_t *a, const uint64_t *of, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if ((a[i] & ~of[i]) != 0)
			return false;
	return true;
}

int
lin_seen_new_one(LinSeen *t, uint64_t first, const uint64_t *bits, uint32_t nbits, const uint64_t *optional,
				 const LinState *state)
{
	uint64_t hash;
	Entry *e;

	while (nbits > 0 && bits[nbits - 1] == 0)
		nbits--;
	hash = hash_mix(first) ^ hash_mix(state->version * 2 + state->exact) ^
		   hash_mix(((uint64_t) state->value << 2 | state->any) + UINT64_C(0x9e3779b97f4a7c15));
	hash = nbits == 0 ? hash_mix(hash) : hash64(bits, nbits * sizeof *bits, hash);
	for (e = t->slots[hash & (t->nslots - 1)]; e != NULL; e = e->next) {
		if (e->hash == hash && e->first == first && e->nbits == nbits && same_state(&e->state, state) &&
			memcmp(e->words, bits, nbits * sizeof *bits) == 0 &&
			subset(e->words + nbits, optional, t->noptional))
			return 0;
	}
	if (t->n >= t->nslots && !grow(t))
		return -1;
	e = take(t, (sizeof *e + sizeof(uint64_t) - 1) / sizeof(uint64_t) + nbits + t->noptional);
	if (e == NULL)
		return -1;
	e->hash = hash;
	e->first = first;
	e->state = *state;
	e->nbits = nbits;
	if (nbits > 0)
		memcpy(e->words, bits, nbits * sizeof *bits);
	if (t->noptional > 0)
		memcpy(e->words + nbits, optional, t->noptional * sizeof *optional);
	e->next = t->slots[hash & (t->nslots - 1)];
	t->slots[hash & (t->nslots - 1)] = e;
	t->n++;
	return 1;
}
