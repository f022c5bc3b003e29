/*
 * bootstrap.h - how a node comes by its cluster: alone, added by a member, or formed with others from a
 * list.
 *
 * A blank node has a data directory with an incarnation of its own and no cluster yet (control_blank()). It
 * listens on its peer port, says who it is to anyone who asks, and becomes a member when a member that has
 * recorded its incarnation gives it the cluster's identity. What it is given is for the caller to write
 * down; until that is done it is blank, and is given it again.
 */
#ifndef REPLICATION_BOOTSTRAP_H
#define REPLICATION_BOOTSTRAP_H

#include <signal.h>
#include <stdbool.h>

#include "replication/membership.h"
#include "storage/control.h"

/* Between port and peer_port where the latter is not set. */
#define BOOTSTRAP_PORT_STEP 1000

/*
 * Settings of a node that is to have others: peer_port (port + BOOTSTRAP_PORT_STEP, or that of its entry in
 * cluster_members), peer_advertise_address (its entry). Puts what is missing in force in this process.
 * BAD_SETTING: node_name is needed and is no name, or is not in cluster_members; a port that nobody can be
 * told.
 */
KV_CHECK Status bootstrap_settings(bool named);
/* Write them, and what of them came from the command line, to kvd.auto.conf: the next start needs them, too. */
KV_CHECK Status bootstrap_keep_settings(void);

typedef struct Bootstrap {
	Control control;    /* the cluster's identity, with this node's incarnation */
	Membership members;
	Lsn at;
} Bootstrap;

/*
 * Blank: wait for a cluster. Progress goes to standard output, a line when it changes. With cluster_members
 * and as the first in it: when all the others have answered, and all are blank, *out is a new cluster of
 * them (rule C1). TIMEOUT: *stop was set.
 */
KV_CHECK Status bootstrap_wait(const Control *blank, const volatile sig_atomic_t *stop, Bootstrap *out);

#endif
