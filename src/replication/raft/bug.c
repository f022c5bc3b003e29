/*
 * bug.c - names of the mistakes that can be switched on (bug.h). Empty in the server.
 */
#include "bug.h"

#ifdef KVD_BUGS
#include <stddef.h>

int kvd_bug;

static const char *const names[] = { "NONE",
#define X(name, text) #name,
									 RAFT_BUG_LIST(X)
#undef X
};

static const char *const texts[] = { "",
#define X(name, text) text,
									 RAFT_BUG_LIST(X)
#undef X
};

const char *
raft_bug_name(int bug)
{
	return bug >= 0 && bug < BUG_COUNT ? names[bug] : NULL;
}

const char *
raft_bug_text(int bug)
{
	return bug >= 0 && bug < BUG_COUNT ? texts[bug] : NULL;
}
#endif
