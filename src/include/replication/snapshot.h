/*
 * snapshot.h - our tables as another node reads them: a directory of links for each who asks (rule C5).
 *
 * FETCH_SNAPSHOTS/<slot>-<generation>-<n>/, made and removed by the backend that serves the other node.
 * What a backend that died left is removed by snapshot_sweep(), at the latest by the next start.
 */
#ifndef REPLICATION_SNAPSHOT_H
#define REPLICATION_SNAPSHOT_H

#include "common/bytes.h"
#include "storage/transfer.h"

#define FETCH_SNAPSHOTS "snapshots"

/*
 * ---- backend: one snapshot at a time; a new one takes the place of the old. The log is held from its end
 * on.
 */
KV_CHECK Status snapshot_open(TransferSum *out);
/*
 * Bytes of the list or a table, fewer at its end, appended. NOT_FOUND: nothing open, or no such file in it.
 */
KV_CHECK Status snapshot_read(uint64_t number, uint64_t offset, size_t length, Buf *out);
/* At the end of the connection; cheap when nothing is open. */
void snapshot_close(void);

/* ---- house-keeping */
/* Fetcher, now and then: directories of slots that belong to nobody, or somebody else by now. */
KV_CHECK Status snapshot_sweep(void);
/* Replay process, at start. */
KV_CHECK Status snapshot_remove_all(void);

#endif
