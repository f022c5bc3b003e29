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
	_Atomic uint32_t snapshot;
	_Atomic uint64_t bytes_done, bytes_total;
	_Atomic uint64_t trouble[96 / 8];
} FetchShared;
_Static_assert(sizeof ((FetchShared *) 0)->trouble == sizeof ((FetchProgress *) 0)->trouble, "the same text");

extern FetchShared *fetch_sh;

#endif
