/*
 * commands_range.c - scan, count, size.
 */
#include "kvctl.h"

kv_range
range_from(const kv_bytes *prefix, const kv_bytes *start, const kv_bytes *end)
{
	kv_range r = { 0 };

	if (prefix != NULL)
		r.prefix = *prefix;
	if (start != NULL)
		r.start = *start;
	if (end != NULL)
		r.end = *end;
	return r;
}

enum { PREFIX, START, END };

/* The range that the options and perhaps an argument, the prefix, name. */
static bool
range_args(Ctl *ctl, const Args *a, kv_range *r)
{
	if (a->n > 0 && a->option[PREFIX] != NULL) {
		ctl_usage(ctl, "the prefix is given twice");
		return false;
	}
	*r = range_from(a->n > 0 ? &a->positional[0] : a->option[PREFIX], a->option[START], a->option[END]);
	return true;
}

/* The same, and the server. NULL after a message. */
static kv_client *
range_client(Ctl *ctl, const Args *a, kv_range *r, int *code)
{
	*code = EXIT_USAGE;
	return range_args(ctl, a, r) ? ctl_client(ctl, code) : NULL;
}

static void
scan_row(Ctl *ctl, const kv_item *item, bool keys, bool with_version)
{
	Cell cells[4];
	int n = 0;

	cells[n++] = CELL_OF_BYTES(item->key);
	if (!keys)
		cells[n++] = CELL_OF_BYTES(item->value);
	if (with_version) {
		cells[n++] = CELL_OF_U64(item->version);
		cells[n] = CELL_OF_U64(item->ttl_ms);
		if (item->ttl_ms == 0)
			cells[n].kind = CELL_NONE;
	}
	output_row(&ctl->out, cells);
}

int
run_scan(Ctl *ctl, const Args *a)
{
	enum { LIMIT = END + 1, REVERSE, KEYS, WITH_VERSION, LOCAL };
	bool keys = a->option[KEYS] != NULL;
	bool with_version = a->option[WITH_VERSION] != NULL;
	const char *columns[4] = { "key", keys ? "version" : "value", keys ? "ttl_ms" : "version", "ttl_ms" };
	kv_scan_options o = { .keys_only = keys, .reverse = a->option[REVERSE] != NULL };
	kv_item item;
	kv_iter *it;
	int code = EXIT_DONE;
	kv_client *client;

	o.read.read = a->option[LOCAL] != NULL ? KV_READ_LOCAL : KV_READ_DEFAULT;
	if (!range_args(ctl, a, &o.range))
		return EXIT_USAGE;
	if (a->option[LIMIT] != NULL && u64_parse(a->option[LIMIT]->data, &o.limit) != ST_OK)
		return ctl_usage(ctl, "--limit: %s", status_detail());
	client = ctl_client(ctl, &code);
	if (client == NULL)
		return code;
	if (a->option[LIMIT] != NULL && o.limit == 0)
		return EXIT_DONE;
	code = kv_scan(client, &o, &it);
	if (code != KV_OK)
		return ctl_fail(ctl, code);
	output_begin(&ctl->out, (keys ? 1 : 2) + (with_version ? 2 : 0), columns);
	while (!ctl_interrupted && (code = kv_iter_next(it, &item)) == KV_OK)
		scan_row(ctl, &item, keys, with_version);
	output_end(&ctl->out, true);
	kv_iter_free(it);
	return code == KV_NOT_FOUND || code == KV_OK ? EXIT_DONE : ctl_fail(ctl, code);
}

int
run_count(Ctl *ctl, const Args *a)
{
	enum { LOCAL = END + 1, ESTIMATE };
	kv_read_options o = { .read = a->option[LOCAL] != NULL ? KV_READ_LOCAL : KV_READ_DEFAULT };
	kv_range r;
	kv_size size;
	uint64_t count;
	int code;
	kv_client *client = range_client(ctl, a, &r, &code);

	if (client == NULL)
		return code;
	if (a->option[ESTIMATE] == NULL)
		code = kv_count(client, &r, &o, &count);
	else if ((code = kv_estimate(client, &r, &o, &size)) == KV_OK)
		count = size.keys;
	if (code != KV_OK)
		return ctl_fail(ctl, code);
	output_fact(&ctl->out, "count", CELL_OF_U64(count), NULL);
	return EXIT_DONE;
}

int
run_size(Ctl *ctl, const Args *a)
{
	enum { LOCAL = END + 1 };
	static const char *const columns[] = { "keys", "bytes", "disk_bytes", "entries", "tombstones" };
	kv_read_options o = { .read = a->option[LOCAL] != NULL ? KV_READ_LOCAL : KV_READ_DEFAULT };
	kv_range r;
	kv_size size;
	int code;
	kv_client *client = range_client(ctl, a, &r, &code);

	if (client == NULL)
		return code;
	code = kv_estimate(client, &r, &o, &size);
	if (code != KV_OK)
		return ctl_fail(ctl, code);
	output_begin(&ctl->out, 5, columns);
	output_row(&ctl->out, (Cell[]){ CELL_OF_U64(size.keys), CELL_OF_U64(size.bytes), CELL_OF_U64(size.disk_bytes),
		CELL_OF_U64(size.entries), CELL_OF_U64(size.tombstones) });
	output_end(&ctl->out, false);
	return EXIT_DONE;
}
