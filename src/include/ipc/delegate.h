/*
 * delegate.h - delegated acknowledgement: the WAL writer sends a backend's reply when the write is committed.
 *
 * A backend whose batch ends in plain writes, while somebody else is flushing, would sleep for the disk, be woken,
 * send, and sleep for the next request. Instead it leaves {reply bytes, wanted position} here and goes
 * back to recv(); the WAL writer, which flushes for all of them, sends the replies on its own descriptors of their
 * sockets. That saves a wake-up and two switches of context for each write of many clients (doc/benchmarks.md).
 *
 * Order on a connection is kept: a backend sends nothing itself while its reply is pending. The WAL writer never
 * blocks: what a full socket does not take is tried again later; a client that takes nothing for too long is shut down.
 * If the gate's generation changes before the position is committed, the connection is shut down: the client
 * learns that the outcome is unknown. Only for a cluster of one, where the WAL writer knows what is committed.
 */
#ifndef IPC_DELEGATE_H
#define IPC_DELEGATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/* Longest reply that can be left: some eighty answers to pipelined writes. */
#define DELEGATE_REPLY_MAX 1984

size_t delegate_shmem_size(int slots);
/* Postmaster, before fork; also makes the socket pair by which backends hand their sockets over. */
KV_CHECK Status delegate_shmem_init(void *mem, int slots);

/* ---- backend */
/* Has the WAL writer a descriptor of my socket? The first call offers it one; false until it has taken it. */
bool delegate_ready(int client_fd);
/* Is a reply of mine pending? While it is, nothing else may be sent. */
bool delegate_pending(void);
/* Where to put the reply. REQUIRES !delegate_pending(). */
uint8_t *delegate_buffer(void);
/* Hand the reply over: to be sent once everything below `want` is applied. */
void delegate_offer(size_t len, uint64_t want, uint32_t generation);
/* Wait until my reply is gone. */
void delegate_wait(void);

/* ---- WAL writer */
/* Take the sockets that were offered. Cheap when there are none. */
void delegate_collect(void);
/*
 * Smallest wanted position that is pending and has not met a full socket, 0 for none. *slow: there is a reply whose
 * client does not take it; call delegate_send() again in a while.
 */
uint64_t delegate_oldest(bool *slow);
/*
 * Send what is wanted up to `applied`. commit and generation: see above. A client that takes nothing for timeout_ms is
 * shut down. Does not wait.
 */
void delegate_send(uint64_t applied, uint64_t commit, uint32_t generation, uint64_t timeout_ms);
/* The slot's process is gone: close its socket. Before the slot is freed. */
void delegate_forget(int slot);

#endif
