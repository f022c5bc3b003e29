/*
 * ctl.c - the program's state: its handle on the server, and how failures are told.
 */
#include <stdarg.h>
#include <stdlib.h>

#include "kvctl.h"

volatile sig_atomic_t ctl_interrupted;

int
exit_code_of(int code)
{
	switch (code) {
	case KV_OK:
		return EXIT_DONE;
	case KV_NOT_FOUND:
	case KV_CONDITION_FAILED:
		return EXIT_ABSENT;
	case KV_USAGE:
		return EXIT_USAGE;
	case KV_CANNOT_CONNECT:
	case KV_CLOSED:
	case KV_PROTOCOL:
		return EXIT_CONNECT;
	case KV_OUTCOME_UNKNOWN:
		return EXIT_UNKNOWN;
	default:
		return EXIT_REFUSED;
	}
}

const char *
hint_of(int code)
{
	switch (code) {
	case KV_CANNOT_CONNECT:
		return "is kvd running? start it with: kvctl start -D DIR";
	case KV_OUTCOME_UNKNOWN:
		return "see what is there before you do it again";
	case KV_TIMEOUT:
		return "try again, or with a longer --timeout";
	case KV_TOO_MANY_CONNECTIONS:
		return "close clients or raise max_connections";
	case KV_STARTING:
		return "try again in a moment";
	case KV_NOT_LEADER:
		return "try again when a leader is elected, or name all hosts: -u kv://host,host,host/";
	case KV_NO_SPACE:
		return "free disk space; reads and deletes still work";
	case KV_SNAPSHOT_GONE:
		return "begin again, or raise the setting snapshot_retention";
	case KV_BAD_SETTING:
		return "see: kvctl config list";
	case KV_CORRUPT:
		return "stop the server and look with: kvd -D DIR --check";
	default:
		return "";
	}
}

/* "kvctl: script:12: put: " as far as it applies. */
static void
print_prefix(const Ctl *ctl)
{
	if (!ctl->shell || ctl->source != NULL)
		fputs("kvctl: ", stderr);
	if (ctl->source != NULL)
		fprintf(stderr, "%s:%lu: ", ctl->source, ctl->line);
	if (ctl->command != NULL)
		fprintf(stderr, "%s: ", ctl->command);
}

int
ctl_fail(Ctl *ctl, int code)
{
	return ctl_fail_hint(ctl, code, strstr(kv_error(), "does not answer") != NULL ? "" : hint_of(code)); /* it runs */
}

int
ctl_fail_hint(Ctl *ctl, int code, const char *hint)
{
	/* What was printed so far comes first, also when both go to one file. */
	fflush(ctl->out.file);
	print_prefix(ctl);
	fprintf(stderr, "%s%s%s\n", kv_error(), hint[0] != '\0' ? "; " : "", hint);
	return exit_code_of(code);
}

int
ctl_usage(Ctl *ctl, const char *fmt, ...)
{
	const Command *c = ctl->command != NULL ? command_find(ctl->command) : NULL;
	va_list args;

	fflush(ctl->out.file);
	print_prefix(ctl);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	if (c != NULL)
		fprintf(stderr, "\nusage: %s%s %s\n", ctl->shell ? "" : "kvctl ", c->name, c->arguments);
	else
		fputc('\n', stderr);
	return EXIT_USAGE;
}

/* The URI that the options ask for; empty: the environment. */
static Status
uri_of(const Ctl *ctl, char *out, size_t size)
{
	bool brackets = ctl->host != NULL && ctl->host[0] != '[' && strchr(ctl->host, ':') != strrchr(ctl->host, ':') &&
		strchr(ctl->host, ',') == NULL;
	PidFile p;
	int n = 0;

	out[0] = '\0';
	if (ctl->uri != NULL && (ctl->host != NULL || ctl->port != NULL))
		return status_fail(ST_USAGE, "-u names the server already: leave out -h and -p");
	if (ctl->uri != NULL)
		n = snprintf(out, size, "%s", ctl->uri);
	else if (ctl->host != NULL || ctl->port != NULL)
		n = snprintf(out, size, "kv://%s%s%s%s%s/", brackets ? "[" : "", ctl->host != NULL ? ctl->host : "127.0.0.1",
			brackets ? "]" : "", ctl->port != NULL ? ":" : "", ctl->port != NULL ? ctl->port : "");
	else if (ctl->dir != NULL) {
		if (pidfile_read(ctl->dir, &p) != ST_OK)
			return ST_CANNOT_CONNECT;
		n = snprintf(out, size, strchr(p.listen, ':') != NULL ? "kv://[%s]:%d/" : "kv://%s:%d/", p.listen, p.port);
	}
	return n < 0 || (size_t) n >= size ? status_fail(ST_USAGE, "the address is too long") : ST_OK;
}

kv_client *
ctl_client(Ctl *ctl, int *exit_code)
{
	char uri[CTL_PATH_MAX];
	int code;

	if (ctl->client != NULL)
		return ctl->client;
	code = uri_of(ctl, uri, sizeof uri);
	if (code == KV_OK)
		code = kv_open(&ctl->client, uri, "kvctl");
	if (code == KV_OK && ctl->timeout_ms > 0)
		kv_set_timeout(ctl->client, (int) ctl->timeout_ms);
	/* A failover in the middle is not worth a word, nor a second thought whether the write was done. */
	if (code == KV_OK && strstr(uri, "retry=") == NULL)
		kv_set_retry(ctl->client, 1);
	if (code == KV_OK && !ctl->shell) {
		code = kv_reconnect(ctl->client);
		if (code != KV_OK) {
			kv_close(ctl->client);
			ctl->client = NULL;
		}
	}
	if (code != KV_OK)
		*exit_code = ctl_fail(ctl, code);
	return ctl->client;
}
