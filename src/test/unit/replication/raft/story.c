/*
 * story.c - tells stories (trace.h): as they are, then once with each mistake that they must notice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "trace.h"

static jmp_buf failed;
static char failure[512];
static char saying[64];

void
story_says(const char *what)
{
	snprintf(saying, sizeof saying, "%s", what);
}

void
check_failed(const char *expr, const char *file, int line)
{
	snprintf(failure, sizeof failure, "%s:%d: %s (%s)", file, line, expr, saying);
	longjmp(failed, 1);
}

/* False, with `failure` set, when a CHECK did not hold. */
static bool
tell(const Story *story, int bug)
{
	kvd_bug = bug;
	failure[0] = '\0';
	story_says("");
	if (setjmp(failed) != 0)
		return false;
	story->tell();
	return true;
}

static void
run_story(void **state)
{
	const Story *story = *state;

	if (!tell(story, BUG_NONE))
		fail_msg("%s: %s", story->name, failure);
	for (int i = 0; i < 8 && story->bugs[i] != BUG_NONE; i++)
		if (tell(story, story->bugs[i]))
			fail_msg("%s: does not notice %s", story->name, raft_bug_name(story->bugs[i]));
	kvd_bug = BUG_NONE;
}

int
stories_run(const Story *story, int n)
{
	struct CMUnitTest *test = calloc((size_t) n, sizeof *test);
	int rc;

	for (int i = 0; i < n; i++)
		test[i] = (struct CMUnitTest){ story[i].name, run_story, NULL, NULL, (void *) (uintptr_t) &story[i] };
	rc = _cmocka_run_group_tests("stories", test, (size_t) n, NULL, NULL);
	free(test);
	return rc;
}
