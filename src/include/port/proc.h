/*
 * proc.h - processes, memory and the machine.
 */
#ifndef PORT_PROC_H
#define PORT_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/status.h"

/*
 * Map `bytes` of fresh zeroed POSIX shared memory, unlink its name at once, ask for huge pages and
 * touch every page, so that a full /dev/shm is an error here (NO_SPACE) and never a SIGBUS later.
 */
KV_CHECK Status proc_shm_map(size_t bytes, void **out);
void proc_shm_unmap(void *p, size_t bytes);

/* Die (SIGKILL) when the parent dies, where the system can. False: not supported, or `parent` is gone already. */
bool proc_die_with_parent(pid_t parent);
/* Throughput scheduling for this process (SCHED_BATCH) where the system has it. */
void proc_sched_batch(void);
/* Title shown by ps, where it can be set without tricks. */
void proc_title(const char *title);
/* Cryptographically random bytes from the system. */
KV_CHECK Status proc_random(void *out, size_t len);
/* Physical memory in bytes; 0 when unknown. */
uint64_t proc_memory_bytes(void);
/* Most address space this process may have (RLIMIT_AS); 0: no bound. */
uint64_t proc_address_limit(void);
/* Is somebody looking at what is written to this descriptor? */
bool proc_is_terminal(int fd);

typedef void (*ProcSigHandler)(int signo);
/* sigaction without SA_RESTART; SIG_IGN and SIG_DFL allowed. */
void proc_signal(int signo, ProcSigHandler handler);

#endif
