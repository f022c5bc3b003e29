/*
 * uri.c - the text that says where to connect: kv://host:port,host:port/?option=value, or the environment.
 *
 * Pure but for getenv(). No locks. The grammar stands in kv.h at kv_connect().
 */
#include <stdio.h>
#include <stdlib.h>

#include "libkv_internal.h"

#define SCHEME "kv://"
#define TIMEOUT_MAX_MS 86400000 /* a day: longer waits are mistakes, and ms fit an int */

static Status
port_parse(const char *text, size_t len, uint16_t *out)
{
	unsigned v = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9' || v > 65535)
			v = 65536;
		else
			v = v * 10 + (unsigned) (text[i] - '0');
	}
	if (len == 0 || v == 0 || v > 65535)
		return status_fail(ST_USAGE, "\"%.*s\" is not a port; a port is a number from 1 to 65535", (int) len, text);
	*out = (uint16_t) v;
	return ST_OK;
}

Status
host_parse(const char *text, size_t len, uint16_t default_port, Host *out)
{
	const char *name = text;
	const char *end = text + len;
	const char *after;

	if (len > 0 && text[0] == '[') {
		name = text + 1;
		after = memchr(name, ']', len - 1);
		if (after == NULL)
			return status_fail(ST_USAGE, "\"%.*s\": the ] of the address is missing", (int) len, text);
		len = (size_t) (after - name);
		after++;
	} else {
		after = memchr(text, ':', len);
		if (after == NULL)
			after = end;
		len = (size_t) (after - name);
		if (after < end && memchr(after + 1, ':', (size_t) (end - after - 1)) != NULL)
			return status_fail(ST_USAGE, "write the IPv6 address \"%.*s\" in brackets: [%.*s]:port", (int) (end - text),
				text, (int) (end - text), text);
	}
	if (len == 0 || len > KV_HOST_NAME_MAX || memchr(name, 0, len) != NULL)
		return status_fail(ST_USAGE, "a host name has 1 to %d characters", KV_HOST_NAME_MAX);
	out->port = default_port;
	if (after < end) {
		if (*after != ':')
			return status_fail(ST_USAGE, "\"%.*s\" after a host; expected :port", (int) (end - after), after);
		KV_TRY(port_parse(after + 1, (size_t) (end - after - 1), &out->port));
	}
	memcpy(out->name, name, len);
	out->name[len] = '\0';
	return ST_OK;
}

static Status
hosts_parse(const char *text, size_t len, uint16_t default_port, Options *o)
{
	const char *end = text + len;

	o->host_count = 0;
	for (;;) {
		const char *comma = memchr(text, ',', (size_t) (end - text));
		const char *stop = comma != NULL ? comma : end;

		if (o->host_count == KV_HOSTS_MAX)
			return status_fail(ST_USAGE, "more than %d hosts", KV_HOSTS_MAX);
		KV_TRY(host_parse(text, (size_t) (stop - text), default_port, &o->hosts[o->host_count++]));
		if (comma == NULL)
			return ST_OK;
		text = comma + 1;
	}
}

static Status
timeout_parse(const char *text, int *out)
{
	static const struct { const char *unit; double ms; } units[] = {
		{ "", 1 }, { "us", 0.001 }, { "ms", 1 }, { "s", 1000 }, { "min", 60000 }, { "h", 3600000 },
	};
	char *unit;
	double v = text[0] >= '0' && text[0] <= '9' ? strtod(text, &unit) : -1;

	for (size_t i = 0; v >= 0 && i < sizeof units / sizeof units[0]; i++) {
		double ms = v * units[i].ms;

		if (strcmp(unit, units[i].unit) != 0)
			continue;
		if (ms > TIMEOUT_MAX_MS || ms <= 0)
			break;
		*out = ms < 1 ? 1 : (int) ms;
		return ST_OK;
	}
	return status_fail(ST_USAGE, "timeout \"%s\" is not a time from 1ms to 24h (such as 250ms or 5s)", text);
}

/* The place of `text` in the words, or USAGE naming them. */
static Status
choose(const char *option, const char *text, const char *const *words, uint8_t *out)
{
	char list[128] = "";

	for (uint8_t i = 0; words[i] != NULL; i++) {
		if (strcmp(text, words[i]) == 0) {
			*out = i;
			return ST_OK;
		}
		snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i > 0 ? ", " : "", words[i]);
	}
	return status_fail(ST_USAGE, "%s=%s: expected one of %s", option, text, list);
}

static Status
option_set(const char *name, const char *value, Options *o)
{
	static const char *const acks[] = { "quorum", "local", "none", NULL };
	static const char *const reads[] = { "linearizable", "local", NULL };
	static const char *const answers[] = { "no", "yes", NULL };
	uint8_t yes;

	if (strcmp(name, "timeout") == 0)
		return timeout_parse(value, &o->timeout_ms);
	if (strcmp(name, "ack") == 0)
		return choose(name, value, acks, &o->ack);
	if (strcmp(name, "read") == 0)
		return choose(name, value, reads, &o->read);
	if (strcmp(name, "admin") == 0) {
		KV_TRY(choose(name, value, answers, &yes));
		o->admin = yes == 1;
		return ST_OK;
	}
	if (strcmp(name, "retry") == 0) {
		KV_TRY(choose(name, value, answers, &yes));
		o->retry = yes == 1;
		return ST_OK;
	}
	if (strcmp(name, "name") == 0) {
		if (strlen(value) > PROTO_NAME_MAX)
			return status_fail(ST_USAGE, "the client's name is longer than %d bytes", PROTO_NAME_MAX);
		memcpy(o->name, value, strlen(value) + 1);
		return ST_OK;
	}
	return status_fail(ST_USAGE, "unknown option \"%s\"; known are timeout, ack, read, retry, name, admin", name);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char) (c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decode %xx of len bytes into out (at least len + 1). */
static Status
percent_decode(const char *text, size_t len, char *out)
{
	for (size_t i = 0; i < len; i++) {
		int high, low;

		if (text[i] != '%') {
			*out++ = text[i];
			continue;
		}
		high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
		low = high >= 0 ? hex_digit(text[i + 2]) : -1;
		if (low < 0 || high * 16 + low == 0)
			return status_fail(ST_USAGE, "\"%.*s\": %% must be followed by two hexadecimal digits", (int) len, text);
		*out++ = (char) (high * 16 + low);
		i += 2;
	}
	*out = '\0';
	return ST_OK;
}

static Status
query_parse(const char *text, Options *o)
{
	char name[64], value[512];

	while (*text != '\0') {
		size_t len = strcspn(text, "&");
		const char *equals = memchr(text, '=', len);
		size_t name_len = equals != NULL ? (size_t) (equals - text) : len;

		if (equals == NULL || name_len >= sizeof name || len - name_len - 1 >= sizeof value)
			return status_fail(ST_USAGE, "\"%.*s\" is not option=value", (int) len, text);
		KV_TRY(percent_decode(text, name_len, name));
		KV_TRY(percent_decode(equals + 1, len - name_len - 1, value));
		KV_TRY(option_set(name, value, o));
		text += len;
		if (*text == '&')
			text++;
	}
	return ST_OK;
}

static Status
environment_parse(Options *o)
{
	const char *host = getenv("KVD_HOST");
	const char *port = getenv("KVD_PORT");
	uint16_t default_port = KV_DEFAULT_PORT;

	if (port != NULL && port[0] != '\0' && port_parse(port, strlen(port), &default_port) != ST_OK)
		return status_prefix(ST_USAGE, "environment variable KVD_PORT");
	if (host == NULL || host[0] == '\0')
		host = "127.0.0.1";
	if (hosts_parse(host, strlen(host), default_port, o) != ST_OK)
		return status_prefix(ST_USAGE, "environment variable KVD_HOST");
	o->retry = o->host_count > 1;
	return ST_OK;
}

Status
options_parse(const char *uri, Options *o)
{
	const char *hosts, *end;

	*o = (Options){ .timeout_ms = KV_TIMEOUT_DEFAULT_MS };
	if (uri == NULL || uri[0] == '\0')
		return environment_parse(o);
	if (strncmp(uri, SCHEME, strlen(SCHEME)) != 0)
		return status_fail(ST_USAGE, "\"%s\" is not a URI of the form kv://host:port,host:port/?option=value", uri);
	hosts = uri + strlen(SCHEME);
	end = hosts + strcspn(hosts, "/?");
	if (end == hosts)
		KV_TRY(environment_parse(o));
	else if (hosts_parse(hosts, (size_t) (end - hosts), KV_DEFAULT_PORT, o) != ST_OK)
		return status_prefix(ST_USAGE, "URI \"%s\"", uri);
	o->retry = o->host_count > 1;
	if (*end == '/')
		end++;
	if (*end == '\0')
		return ST_OK;
	if (*end != '?' || query_parse(end + 1, o) != ST_OK)
		return *end != '?' ? status_fail(ST_USAGE, "URI \"%s\": unexpected \"%s\"; options begin with ?", uri, end)
			: status_prefix(ST_USAGE, "URI \"%s\"", uri);
	return ST_OK;
}
