/*
 * backend.c - a backend's life: one client, one process, from fork to exit.
 *
 * The process blocks in recv(); SIGTERM shuts the socket's reading side down from the handler, which ends
 * that wait without a race and lets requests already received be answered. Nothing here touches shared
 * memory but through the rooms below.
 */
#include "backend/backend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/config.h"
#include "common/elog.h"
#include "ipc/childsig.h"
#include "ipc/delegate.h"
#include "ipc/procslot.h"
#include "port/child.h"
#include "port/config_files.h"
#include "port/net.h"
#include "port/proc.h"
#include "cmd_cluster_data.h"
#include "session.h"

static volatile sig_atomic_t client_fd_for_signal = -1;

static void
on_terminate(int signo)
{
	int saved = errno;

	(void) signo;
	child_stop = 1;
	(void) shutdown(client_fd_for_signal, SHUT_RD);
	errno = saved;
}

static void
reload_if_asked(void)
{
	if (!child_reload)
		return;
	child_reload = 0;
	if (config_load(".", true, NULL) != ST_OK)
		elog(LOG_LEVEL_WARNING, "settings not reloaded: %s", status_detail());
}

/* Tell the client why it is being left; it may be gone already. */
static void
say_goodbye(Session *s)
{
	if (child_stop &&
		proto_error(&s->out, 0, PROTO_ANSWER, ST_SHUTTING_DOWN, 0, "the server is shutting down") == ST_OK &&
		session_send(s) != ST_OK)
		elog(LOG_LEVEL_DEBUG, "client left before the goodbye");
}

static void
serve(Session *s)
{
	for (;;) {
		Status st = session_receive(s);

		reload_if_asked();
		if (st == ST_OK)
			st = session_handle(s);
		if (s->out.len > 0) {
			Status sent = session_send(s);

			if (st == ST_OK)
				st = sent;
		}
		if (st != ST_OK || s->closing || child_stop)
			return;
		session_shrink(s);
	}
}

void
backend_main(int client_fd, bool reserved)
{
	Session s = { .fd = client_fd, .reserved_slot = reserved };
	char peer[64];

	client_fd_for_signal = client_fd;
	proc_signal(SIGTERM, on_terminate);
	if (child_stop) /* it came before our handler stood */
		(void) shutdown(client_fd, SHUT_RD);
	if (config.sched_batch)
		proc_sched_batch();
	net_set_timeouts(client_fd, (int) config.client_timeout, (int) config.client_timeout);
	net_peer_name(client_fd, peer, sizeof peer);
	elog(LOG_LEVEL_DEBUG, "connection from %s", peer);
	serve(&s);
	delegate_wait();
	say_goodbye(&s);
	forward_end(&s.forward);
	cluster_data_end();
	net_shutdown(client_fd); /* the WAL writer may have a descriptor of it too */
	elog(LOG_LEVEL_DEBUG, "connection from %s ends", peer);
	net_close(client_fd);
	procslot_detach();
	child_exit(EXIT_SUCCESS);
}

void
backend_refuse(int client_fd, Status code, const char *text)
{
	Buf b = { 0 };

	if (proto_error(&b, 0, PROTO_ANSWER, code, 0, text) == ST_OK &&
		send(client_fd, b.data, b.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		elog(LOG_LEVEL_DEBUG, "refused client did not take the reason");
	buf_free(&b);
}
