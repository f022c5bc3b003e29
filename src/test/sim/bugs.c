/*
 * bugs.c - does the simulator catch what it is there for? Each mistake of bug.h and of the host is switched on
 * by itself, and seeds are run until one fails.
 *
 * Some are no violation of what is promised as long as another rule holds; they are listed in not_alone[] with
 * the reason.
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"

#define CAUGHT_MIN 25

typedef struct Mistake {
	const char *name, *text;
	int core, host;
} Mistake;

static const Mistake mistakes[] = {
#define X(name, text) { #name, text, BUG_##name, 0 },
	RAFT_BUG_LIST(X)
#undef X
#define X(name, text) { #name, text, 0, HBUG_##name },
		HOST_BUG_LIST(X)
#undef X
};
#define MISTAKES (sizeof mistakes / sizeof mistakes[0])

static const char *const not_alone[][2] = {
	{ "LEASE_BEFORE_TERM_COMMIT",
	  "the host also looks at raft_serve_from() before it serves (LEASE_BEFORE_APPLIED)" },
	{ "LATE_ANSWER_IS_UP", "no promise: what people are shown, and which log is kept for that peer" },
	{ "OLD_CONNECTION", "the core goes by the stamps of what it has sent since PEER_UP" },
	{ "STRANGER_VOTES", "too rare: a vote must be on its way while its voter is removed" },
	{ "STALE_ACK_OF_OLD_TERM", "too rare: an answer must outlive its leader's next election" },
	{ "VOTE_AFTER_START", "too rare: a lease must survive the restart of all who gave it" },
	{ "TERMS_NEVER_DECREASE", "too rare: an old tail behind an older TERM record of the same length" },
	{ NULL, NULL },
};

static const char *
harmless_alone(const char *name)
{
	for (int i = 0; not_alone[i][0] != NULL; i++)
		if (strcmp(not_alone[i][0], name) == 0)
			return not_alone[i][1];
	return NULL;
}

bool
bug_switch_on(const char *name)
{
	for (size_t i = 0; i < MISTAKES; i++) {
		if (strcmp(mistakes[i].name, name) == 0) {
			kvd_bug = mistakes[i].core;
			host_bug = mistakes[i].host;
			return true;
		}
	}
	return false;
}

/* In a child: an assertion of the core ends it, and is a catch too. The exit code says 0 caught, 1 not. */
static void
hunt(const RunOptions *o, const Mistake *m)
{
	kvd_bug = m->core;
	host_bug = m->host;
	for (uint64_t k = 0; k < o->seeds; k++) {
		world_begin(o->first + k, o->steps, o->without);
		if (world_run())
			continue;
		printf("%-26s seed %4llu, step %5u: %s\n", m->name, (unsigned long long) (o->first + k), W.steps,
			   W.invariant);
		fflush(stdout);
		_exit(0);
	}
	printf("%-26s NOT CAUGHT in %llu seeds: %s\n", m->name, (unsigned long long) o->seeds, m->text);
	fflush(stdout);
	_exit(1);
}

static int
reap(int *running, int *caught)
{
	int status;

	if (wait(&status) < 0)
		return -1;
	(*running)--;
	if (WIFEXITED(status))
		*caught += WEXITSTATUS(status) == 0;
	else
		(*caught)++;
	return 0;
}

int
run_bugs(const RunOptions *o)
{
	int running = 0, caught = 0, expected = 0;

	world_make();
	for (size_t i = 0; i < MISTAKES; i++) {
		const char *why = harmless_alone(mistakes[i].name);

		if (why != NULL) {
			printf("%-26s not run: %s\n", mistakes[i].name, why);
			continue;
		}
		expected++;
		while (running >= o->jobs)
			if (reap(&running, &caught) != 0)
				return 2;
		fflush(stdout);
		if (fork() == 0)
			hunt(o, &mistakes[i]);
		running++;
	}
	while (running > 0)
		if (reap(&running, &caught) != 0)
			return 2;
	printf("%d of %d mistakes caught\n", caught, expected);
	return caught < expected || caught < CAUGHT_MIN;
}
