/*
 * fetch_shared.h - the shared memory behind replication/fetch.h; who writes what: fetch.c.
 */
#ifndef REPLICATION_FETCH_SHARED_H
#define REPLICATION_FETCH_SHARED_H

#include <stdatomic.h>

#include "replication/fetch.h"

typedef struct FetchShared {
	_Atomic uint32_t active;
	_Atomic uint32_t posted;
	uint64_t no;
	FetchOrder order;
	FetchPiece piece;
} FetchShared;

extern FetchShared *fetch_sh;

#endif
