/*
 * backend.h - one client, one process.
 *
 * The postmaster forks after accept(); the child attaches its slot and calls backend_main().
 */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

/* Shared counters of all backends; postmaster, before fork. `slots`: procslot_count(). */
size_t backend_shmem_size(int slots);
void backend_shmem_init(void *mem, int slots);

/*
 * Serve the client on this blocking socket until it leaves, the postmaster asks us to (SIGTERM: finish what is
 * being answered, say SHUTTING_DOWN, go) or the connection fails. Installs its own signal handlers. Exit code 0.
 * reserved: this slot is one of reserved_connections: only clients that ask for an admin slot in HELLO are served.
 */
_Noreturn void backend_main(int client_fd, bool reserved);

/* Send one error answer (type 128, id 0) without blocking. Called by the postmaster; closes nothing. */
void backend_refuse(int client_fd, Status code, const char *text);

#endif
