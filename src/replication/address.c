/*
 * address.c - "host:port" texts. Pure but for the settings. No locks.
 */
#include "replication/address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "ipc/nodestate.h"

#define PORT_MAX 65535

static Status
bad(const char *text)
{
	return status_fail(ST_BAD_SETTING, "\"%s\" is no address: write host:port or [IPv6]:port, port 1 to %d", text,
					   PORT_MAX);
}

Status
address_split(const char *text, uint16_t default_port, char host[MEMBERSHIP_ADDRESS_MAX + 1], uint16_t *port)
{
	const char *colon = strrchr(text, ':'), *end = text + strlen(text), *begin = text;
	unsigned long n = default_port;

	if (text[0] == '[') {
		end = strchr(text, ']');
		if (end == NULL || (end[1] != '\0' && end[1] != ':'))
			return bad(text);
		begin = text + 1;
		colon = end[1] == ':' ? end + 1 : NULL;
	} else if (colon != NULL && strchr(text, ':') == colon) {
		end = colon;
	} else {
		colon = NULL; /* none, or an IPv6 address alone */
	}
	if (colon != NULL) {
		char *stop;

		n = strtoul(colon + 1, &stop, 10);
		if (colon[1] < '0' || colon[1] > '9' || *stop != '\0')
			return bad(text);
	}
	if (n == 0 || n > PORT_MAX || end == begin || end - begin > MEMBERSHIP_ADDRESS_MAX - 8)
		return bad(text);
	memcpy(host, begin, (size_t) (end - begin));
	host[end - begin] = '\0';
	*port = (uint16_t) n;
	return ST_OK;
}

/* What is advertised: the setting `name`, else the first of the listen addresses; with a port. */
static Status
advertised(const char *name, const char *setting, const char *listen, uint16_t port,
		   char out[MEMBERSHIP_ADDRESS_MAX + 1])
{
	char first[sizeof config.listen_addresses], host[MEMBERSHIP_ADDRESS_MAX + 1];
	uint16_t p;

	snprintf(first, sizeof first, "%s", setting[0] != '\0' ? setting : listen);
	if (setting[0] == '\0')
		first[strcspn(first, ", ")] = '\0';
	if (first[0] == '\0' || strcmp(first, "*") == 0)
		snprintf(first, sizeof first, "127.0.0.1");
	if (address_split(first, port, host, &p) != ST_OK)
		return status_prefix(ST_BAD_SETTING, "%s", name);
	snprintf(out, MEMBERSHIP_ADDRESS_MAX + 1, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, p);
	return ST_OK;
}

Status
address_of_self(char peer_address[MEMBERSHIP_ADDRESS_MAX + 1],
				char client_address[MEMBERSHIP_ADDRESS_MAX + 1])
{
	uint32_t port = nodestate() != NULL ? nodestate()->port : (uint32_t) config.port;

	peer_address[0] = '\0';
	if (config.peer_port != 0)
		KV_TRY(advertised("peer_advertise_address", config.peer_advertise_address,
						  config.peer_listen_addresses, (uint16_t) config.peer_port, peer_address));
	return advertised("advertise_address", config.advertise_address, config.listen_addresses,
					  (uint16_t) port, client_address);
}
