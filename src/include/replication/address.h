/*
 * address.h - "host:port" texts: what this node tells others to reach it by.
 */
#ifndef REPLICATION_ADDRESS_H
#define REPLICATION_ADDRESS_H

#include <stdint.h>

#include "replication/membership.h"

/* "host:port", "[v6]:port"; host alone takes default_port (0: then a port is needed). BAD_SETTING. */
KV_CHECK Status address_split(const char *text, uint16_t default_port, char host[MEMBERSHIP_ADDRESS_MAX + 1],
							  uint16_t *port);
/*
 * By the settings: peer_address "" without peer_port. A wildcard or empty listen address is advertised as
 * 127.0.0.1; the postmaster warns of that when it starts. BAD_SETTING names the setting.
 */
KV_CHECK Status address_of_self(char peer_address[MEMBERSHIP_ADDRESS_MAX + 1],
								char client_address[MEMBERSHIP_ADDRESS_MAX + 1]);

#endif
