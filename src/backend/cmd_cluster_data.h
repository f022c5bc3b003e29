/*
 * cmd_cluster_data.h - commands that only other nodes of the cluster use: log and tables for a follower far behind.
 */
#ifndef BACKEND_CMD_CLUSTER_DATA_H
#define BACKEND_CMD_CLUSTER_DATA_H

#include "session.h"

#define MEMBER_ID_SIZE 24 /* cluster id, incarnation */

/* Is it a member of this cluster who asks? FOREIGN. */
KV_CHECK Status check_member(Reader *r);
KV_CHECK Status cmd_log_read(Session *s, const Request *r);
KV_CHECK Status cmd_snapshot_open(Session *s, const Request *r);
KV_CHECK Status cmd_snapshot_read(Session *s, const Request *r);
/* End of the connection: let go of log and files. */
void cluster_data_end(void);

#endif
