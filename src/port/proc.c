/*
 * proc.c - processes, memory and the machine.
 *
 * Runs in the postmaster (memory, before it forks) and at the start of each child. No locks.
 */
#define _GNU_SOURCE
#include "port/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#include <sys/random.h>
#endif

#define SHM_NAME_TRIES 8 /* a random name of 64 bits that is taken so often means something else is wrong */

/* A new shared memory object whose name is gone again already; -1 with errno. */
static int
shm_anonymous(void)
{
	for (int i = 0; i < SHM_NAME_TRIES; i++) {
		uint64_t random;
		char name[32];
		int fd;

		if (proc_random(&random, sizeof random) != ST_OK)
			return -1;
		snprintf(name, sizeof name, "/kvd.%016llx", (unsigned long long) random);
		fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
		if (fd >= 0) {
			shm_unlink(name);
			return fd;
		}
		if (errno != EEXIST)
			return -1;
	}
	return -1;
}

/* Make every page exist now; 0 or errno. ENOSPC: the file system behind shm_open is full. */
static int
touch_pages(int fd, void *p, size_t bytes)
{
	int rc;

#ifdef MADV_POPULATE_WRITE
	if (madvise(p, bytes, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno == EFAULT) /* what would have been SIGBUS */
		return ENOSPC;
	if (errno != EINVAL) /* EINVAL: Linux before 5.14 */
		return errno;
#endif
	do
		rc = posix_fallocate(fd, 0, (off_t) bytes);
	while (rc == EINTR);
	if (rc == 0)
		memset(p, 0, bytes); /* map them too, so that no later first touch costs time */
	return rc;
}

static Status
fail_map(size_t bytes, int err)
{
	unsigned long long mb = (bytes + 1048575) / 1048576;
	struct statvfs v;

	errno = err;
	if (err == ENOSPC && statvfs("/dev/shm", &v) == 0)
		return status_fail(ST_NO_SPACE, "no room for %llu MB of shared memory: /dev/shm has %llu MB free of %llu MB",
			mb, (unsigned long long) v.f_bavail * v.f_frsize / 1048576,
			(unsigned long long) v.f_blocks * v.f_frsize / 1048576);
	if (err == ENOSPC)
		return status_fail(ST_NO_SPACE, "no room for %llu MB of shared memory", mb);
	return status_fail_errno(err == ENOMEM ? ST_OUT_OF_MEMORY : ST_IO_ERROR, "cannot map %llu MB of shared memory", mb);
}

Status
proc_shm_map(size_t bytes, void **out)
{
	int fd = shm_anonymous();
	void *p = MAP_FAILED;
	int err = 0;

	if (fd < 0)
		return fail_map(bytes, errno);
	if (ftruncate(fd, (off_t) bytes) != 0)
		err = errno;
	if (err == 0) {
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (p == MAP_FAILED)
			err = errno;
	}
	if (err == 0) {
#ifdef MADV_HUGEPAGE
		(void) madvise(p, bytes, MADV_HUGEPAGE); /* fewer TLB misses where the system allows it */
#endif
		err = touch_pages(fd, p, bytes);
	}
	close(fd); /* the mapping keeps the memory */
	if (err != 0) {
		if (p != MAP_FAILED)
			munmap(p, bytes);
		return fail_map(bytes, err);
	}
	*out = p;
	return ST_OK;
}

void
proc_shm_unmap(void *p, size_t bytes)
{
	munmap(p, bytes);
}

bool
proc_die_with_parent(pid_t parent)
{
#ifdef __linux__
	/* The parent may have gone before prctl: then nobody would send the signal. */
	return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
#else
	(void) parent;
	return false;
#endif
}

void
proc_sched_batch(void)
{
#ifdef __linux__
	struct sched_param param = { 0 };

	(void) sched_setscheduler(0, SCHED_BATCH, &param); /* a hint */
#endif
}

void
proc_title(const char *title)
{
#ifdef __linux__
	(void) prctl(PR_SET_NAME, title); /* the kernel keeps 15 bytes */
#else
	(void) title;
#endif
}

Status
proc_random(void *out, size_t len)
{
	size_t done = 0;

	while (done < len) {
		size_t part = len - done < 256 ? len - done : 256; /* never interrupted, and getentropy's limit */
#ifdef __linux__
		ssize_t n = getrandom((char *) out + done, part, 0);
#else
		ssize_t n = getentropy((char *) out + done, part) == 0 ? (ssize_t) part : -1;
#endif

		if (n > 0)
			done += (size_t) n;
		else if (errno != EINTR)
			return status_fail_errno(ST_INTERNAL, "cannot get random bytes from the system");
	}
	return ST_OK;
}

uint64_t
proc_memory_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

	return pages > 0 && page > 0 ? (uint64_t) pages * (uint64_t) page : 0;
}

uint64_t
proc_address_limit(void)
{
	struct rlimit r;

	return getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY ? (uint64_t) r.rlim_cur : 0;
}

bool
proc_is_terminal(int fd)
{
	return isatty(fd) == 1;
}

void
proc_signal(int signo, ProcSigHandler handler)
{
	struct sigaction act;

	memset(&act, 0, sizeof act);
	act.sa_handler = handler;
	sigemptyset(&act.sa_mask);
	(void) sigaction(signo, &act, NULL); /* fails only for signals that cannot be caught */
}
