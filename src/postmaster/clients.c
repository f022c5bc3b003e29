/*
 * clients.c - listening sockets: accept, hand over to a backend, or refuse with a reason.
 *
 * Postmaster only.
 *
 * Invariants:
 * 1. Nothing here blocks: a refusal is one non-blocking send, and a refused socket is kept for at most LINGER_MS, so
 *    that the client can read the reason before the connection is reset under it.
 * 2. Out of descriptors or slots that are being cleared: accepting pauses, the loop never spins.
 */
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "common/config.h"
#include "common/elog.h"
#include "port/child.h"
#include "port/clock.h"
#include "port/fs.h"
#include "port/net.h"
#include "postmaster_internal.h"

#define LISTEN_BACKLOG 1024      /* bursts of clients; the kernel lowers it to its own limit */
#define ACCEPTS_A_TURN 32        /* then signals and dead children get their turn */
#define LINGER_MAX 64            /* refused sockets kept at once; the oldest goes */
#define LINGER_MS 1000
#define PAUSE_DESCRIPTORS_MS 100 /* out of descriptors: wait for clients to leave */
#define PAUSE_SLOTS_MS 2         /* the WAL writer is clearing dead slots right now */
#define COMPLAIN_MS 10000        /* log the same trouble this often */

typedef struct Refused {
	int fd;
	uint64_t until_ms;
} Refused;

static int listeners[LISTEN_MAX];
static int nlisteners;
static Refused refused[LINGER_MAX]; /* oldest first */
static int nrefused;
static uint64_t paused_until_ms;
static uint64_t complained_ms;

static uint64_t
now_ms(void)
{
	return clock_mono_ns() / 1000000;
}

static void
close_quietly(int fd)
{
	if (fs_close(fd) != ST_OK)
		elog(LOG_LEVEL_WARNING, "%s", status_detail());
}

static Status
listen_at(const char *host, int *port)
{
	uint16_t bound = 0;
	int n = 0;

	if (nlisteners == LISTEN_MAX)
		return status_fail(ST_BAD_SETTING, "listen_addresses: more than %d sockets", LISTEN_MAX);
	KV_TRY(net_listen(host, (uint16_t) *port, LISTEN_BACKLOG, listeners + nlisteners, LISTEN_MAX - nlisteners, &n,
	                  &bound));
	nlisteners += n;
	*port = bound;
	return ST_OK;
}

/* *port: what is asked for (0: any), then what it became; all addresses share it. */
Status
clients_listen(int *port)
{
	char list[sizeof config.listen_addresses];
	char *rest = list;

	nlisteners = 0;
	snprintf(list, sizeof list, "%s", config.listen_addresses);
	while (rest != NULL) {
		char *host = rest + strspn(rest, " ");
		char *comma = strchr(host, ',');
		size_t len;

		rest = comma == NULL ? NULL : comma + 1;
		len = comma == NULL ? strlen(host) : (size_t) (comma - host);
		while (len > 0 && host[len - 1] == ' ')
			len--;
		host[len] = '\0';
		if (len > 0)
			KV_TRY(listen_at(host, port));
	}
	if (nlisteners == 0)
		return status_fail(ST_BAD_SETTING, "listen_addresses names no address");
	return ST_OK;
}

void
clients_close_in_child(void)
{
	for (int i = 0; i < nlisteners; i++)
		close_quietly(listeners[i]);
	for (int i = 0; i < nrefused; i++)
		close_quietly(refused[i].fd);
	nlisteners = nrefused = 0;
}

int
clients_poll_fds(int *fds, int max)
{
	int n = 0;

	if (now_ms() >= paused_until_ms)
		for (int i = 0; i < nlisteners && n < max; i++)
			fds[n++] = listeners[i];
	for (int i = 0; i < nrefused && n < max; i++)
		fds[n++] = refused[i].fd;
	return n;
}

int
clients_timeout(int most)
{
	uint64_t now = now_ms(), at = now + (uint64_t) most;

	if (paused_until_ms > now && paused_until_ms < at)
		at = paused_until_ms;
	if (nrefused > 0 && refused[0].until_ms < at)
		at = refused[0].until_ms;
	return at > now ? (int) (at - now) : 0;
}

static void
forget_refused(int i)
{
	close_quietly(refused[i].fd);
	nrefused--;
	memmove(refused + i, refused + i + 1, sizeof refused[0] * (size_t) (nrefused - i));
}

void
clients_tick(void)
{
	while (nrefused > 0 && refused[0].until_ms <= now_ms())
		forget_refused(0);
}

static void
refuse(int fd, Status code, const char *text)
{
	backend_refuse(fd, code, text);
	if (nrefused == LINGER_MAX)
		forget_refused(0);
	refused[nrefused++] = (Refused){ fd, now_ms() + LINGER_MS };
}

static void
pause_accepting(int ms)
{
	paused_until_ms = now_ms() + (uint64_t) ms;
}

/* One client. False: no more for now. */
static bool
accept_one(int listener)
{
	ClientPlace place;
	Status st;
	int fd;

	postmaster_place(&place);
	if (place.what == PLACE_WAIT) {
		pause_accepting(PAUSE_SLOTS_MS);
		return false;
	}
	st = net_accept(listener, &fd);
	if (st != ST_OK) {
		if (complained_ms == 0 || now_ms() - complained_ms >= COMPLAIN_MS) {
			complained_ms = now_ms();
			elog(LOG_LEVEL_WARNING, "cannot accept clients for now: %s", status_detail());
		}
		pause_accepting(PAUSE_DESCRIPTORS_MS);
		return false;
	}
	if (fd < 0)
		return false;
	if (place.what == PLACE_SERVE && postmaster_serve(place.slot, fd) == ST_OK) {
		close_quietly(fd);
		return true;
	}
	if (place.what == PLACE_SERVE) {
		elog(LOG_LEVEL_WARNING, "cannot start a process for a client: %s", status_detail());
		refuse(fd, ST_BUSY, "the server cannot start another process");
		pause_accepting(PAUSE_DESCRIPTORS_MS);
		return false;
	}
	refuse(fd, place.code, place.text);
	return true;
}

static bool
is_listener(int fd)
{
	for (int i = 0; i < nlisteners; i++)
		if (listeners[i] == fd)
			return true;
	return false;
}

/* A refused client sent something or left: its bytes are dropped, its end closes the socket. */
static void
refused_ready(int fd)
{
	char dropped[1024];

	for (int i = 0; i < nrefused; i++)
		if (refused[i].fd == fd) {
			if (child_pipe_get(fd, dropped, sizeof dropped) < 0)
				forget_refused(i);
			return;
		}
}

void
clients_ready(const int *fds, const bool *ready, int n)
{
	for (int i = 0; i < n; i++) {
		if (!ready[i])
			continue;
		if (!is_listener(fds[i])) {
			refused_ready(fds[i]);
			continue;
		}
		for (int k = 0; k < ACCEPTS_A_TURN && accept_one(fds[i]); k++)
			;
	}
}
