/*
 * nodestate.c - the node's view of itself; who writes what is said in ipc/nodestate.h. No locks.
 */
#include "ipc/nodestate.h"

#include <string.h>

static NodeState *state;

size_t
nodestate_shmem_size(void)
{
	return sizeof(NodeState);
}

void
nodestate_shmem_init(void *mem)
{
	state = mem;
	memset(state, 0, sizeof *state);
}

NodeState *
nodestate(void)
{
	return state;
}
