/*
 * profile.c - what a seed draws before it begins: every probability anew (swarm testing, Groce et al. 2012),
 * many of them often zero, so that rare combinations are not drowned by what happens all the time.
 */
#include <stdio.h>

#include "sim.h"

/* Like a random order of magnitude. */
static uint32_t
spread(Chance *c, uint32_t lo, uint32_t hi)
{
	uint32_t v = lo + 1;

	while (v < hi && below(c, 8) != 0)
		v = v * 2;
	return lo + below(c, (v < hi ? v : hi) - lo + 1);
}

static uint32_t
sometimes(Chance *c, uint32_t most)
{
	return below(c, 2) == 0 ? 0 : spread(c, 0, most);
}

static void
draw_network(Profile *p, Chance *c)
{
	p->delay_min = spread(c, 50, 2000);
	p->delay_max = p->delay_min + spread(c, 100, 20000);
	p->silent_loss = below(c, 2) == 0;
	p->drop_ppm = sometimes(c, p->silent_loss ? 500000 : 5000);
	p->dup_ppm = sometimes(c, 200000);
	p->reorder_ppm = sometimes(c, 500000);
	p->slow_ppm = sometimes(c, 300000);
	p->slow_us = spread(c, 1000, 4 * ELECTION_US);
	p->cut_ppm = sometimes(c, 500000);
	p->partial_ppm = sometimes(c, 500000);
}

static void
draw_disk(Profile *p, Chance *c)
{
	p->sync_min = spread(c, 20, 1000);
	p->sync_max = p->sync_min + spread(c, 50, 20000);
	p->slow_sync_ppm = sometimes(c, 20000);
	p->slow_sync_us = p->sync_max + spread(c, 1000, 5 * ELECTION_US);
	p->no_space_ppm = sometimes(c, 200000);
	p->flush_us = below(c, 4) == 0 ? 0 : spread(c, ELECTION_US / 4, 20 * ELECTION_US);
	p->keep = spread(c, 1, 2000);
	p->record_max = spread(c, 16, 8192);
}

void
profile_draw(Profile *p, Chance *c)
{
	p->voters = 1 + (int) below(c, 5);
	if (p->voters < 3 && below(c, 3) != 0)
		p->voters = 3;
	p->learners = (int) below(c, 3) % 2;
	draw_network(p, c);
	draw_disk(p, c);
	p->fault_us = spread(c, ELECTION_US, 50 * ELECTION_US);
	for (int i = 0; i < FAULT_KINDS; i++)
		p->weight[i] = sometimes(c, 100);
	if (below(c, 8) == 0) /* some seeds are about leases only */
		for (int i = 0; i < FAULT_KINDS; i++)
			p->weight[i] = i == FAULT_ATTACK;
	p->lease_reads = below(c, 4) != 0;
	p->crash_point_ppm = sometimes(c, 3000);
	p->skew_permille = below(c, 2) == 0 ? 50 : spread(c, 0, 50);
	p->client_us = spread(c, 100, ELECTION_US / 2);
	p->read_percent = below(c, 91);
	p->patience_us = spread(c, 5000, 10 * ELECTION_US);
	p->background_ppm = sometimes(c, 500000);
	p->operator_us = spread(c, ELECTION_US / 2, 40 * ELECTION_US);
	p->apply_lag_us = sometimes(c, ELECTION_US / 2);
	p->window = 16384 + spread(c, 0, 1 << 20);
	p->heartbeat_us = ELECTION_US / 8 + below(c, ELECTION_US / 8);
	p->commit_delay_us = spread(c, 0, 5000);
}

const char *
fault_name(int kind)
{
	static const char *const name[FAULT_KINDS] = { "crash",   "power",  "pause", "pause-worker", "split",
												   "one-way", "bridge", "flap",  "damage",       "wipe",
												   "isolate", "reset",  "attack" };

	return kind >= 0 && kind < FAULT_KINDS ? name[kind] : NULL;
}

void
profile_print(const Profile *p)
{
	printf("voters %d learners %d delay %u-%u us %s drop %u dup %u reorder %u slow %u/%u cut %u/%u ppm\n"
		   "sync %u-%u us slow %u/%u flush %u us keep %u record %u no-space %u ppm\n"
		   "fault every %u us crash-points %u ppm skew %u permille operator %u us\n"
		   "client %u us reads %u%% patience %u us background %u apply lag %u us window %llu heartbeat "
		   "%u\nfaults",
		   p->voters, p->learners, p->delay_min, p->delay_max, p->silent_loss ? "hostile" : "tcp",
		   p->drop_ppm, p->dup_ppm, p->reorder_ppm, p->slow_ppm, p->slow_us, p->cut_ppm, p->partial_ppm,
		   p->sync_min, p->sync_max, p->slow_sync_ppm, p->slow_sync_us, p->flush_us, p->keep, p->record_max,
		   p->no_space_ppm, p->fault_us, p->crash_point_ppm, p->skew_permille, p->operator_us, p->client_us,
		   p->read_percent, p->patience_us, p->background_ppm, p->apply_lag_us,
		   (unsigned long long) p->window, p->heartbeat_us);
	for (int i = 0; i < FAULT_KINDS; i++)
		if (p->weight[i] != 0)
			printf(" %s:%u", fault_name(i), p->weight[i]);
	printf("\n");
}
