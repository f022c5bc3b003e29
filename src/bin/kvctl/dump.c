/*
 * dump.c - a range of the server, at one snapshot, to a file that load reads.
 *
 * A named file appears when it is complete: it is written as FILE.tmp, synced and renamed.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "kvctl.h"

#define PAGE_BYTES (1u << 20)
#define WRITE_BYTES (256u << 10)

typedef struct Dump {
	bool json;
	FILE *file;
	Buf text;
	uint64_t records, bytes;
	Progress progress;
} Dump;

static Status
write_text(Dump *d)
{
	if (fwrite(d->text.data, 1, d->text.len, d->file) != d->text.len)
		return status_fail_errno(ST_USAGE, "cannot write");
	d->bytes += d->text.len;
	buf_clear(&d->text);
	progress_update(&d->progress, d->records, d->bytes);
	return ST_OK;
}

/* All items. The code of libkv, or KV_USAGE for a failure to write. */
static int
dump(Dump *d, kv_iter *it)
{
	kv_item item;
	int code;

	while (!ctl_interrupted && (code = kv_iter_next(it, &item)) == KV_OK) {
		Record r = { item.key, item.value, item.ttl_ms };

		KV_TRY(d->json ? json_write(&d->text, &r) : tsv_write(&d->text, &r));
		d->records++;
		if (d->text.len >= WRITE_BYTES)
			KV_TRY(write_text(d));
	}
	if (ctl_interrupted)
		return status_fail(ST_CLOSED, "interrupted");
	return code == KV_NOT_FOUND ? (int) write_text(d) : code;
}

static FILE *
open_temporary(const char *path, char *name, size_t size)
{
	int fd = -1;
	FILE *f;

	if ((size_t) snprintf(name, size, "%s.tmp", path) < size)
		fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	f = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (f == NULL) {
		(void) status_fail_errno(ST_USAGE, "cannot create \"%s.tmp\"", path);
		if (fd >= 0)
			close(fd);
	}
	return f;
}

/* The file is complete (code OK) or is taken away. */
static int
close_temporary(Dump *d, int code, const char *name, const char *path)
{
	int bad = fflush(d->file) != 0 || fsync(fileno(d->file)) != 0;

	bad = fclose(d->file) != 0 || bad;
	if (code == KV_OK && (bad || rename(name, path) != 0))
		code = status_fail_errno(ST_USAGE, "cannot write \"%s\"", path);
	if (code != KV_OK)
		(void) unlink(name); /* what is left over is told by its name */
	return code;
}

int
run_dump(Ctl *ctl, const Args *a)
{
	enum { PREFIX, START, END, JSON, TSV, LOCAL };
	const char *path = a->n > 0 && strcmp(a->positional[0].data, "-") != 0 ? a->positional[0].data : NULL;
	kv_scan_options o = { .range = range_from(a->option[PREFIX], a->option[START], a->option[END]),
		.page_bytes = PAGE_BYTES,
		.read.read = a->option[LOCAL] != NULL ? KV_READ_LOCAL : KV_READ_DEFAULT };
	Dump d = { .file = ctl->out.file };
	char name[CTL_PATH_MAX];
	kv_iter *it;
	int code = EXIT_DONE;
	kv_client *client;

	d.json = ctl->out.format == FORMAT_JSON || name_is_json(path);
	d.json = a->option[JSON] != NULL || (a->option[TSV] == NULL && d.json);
	client = ctl_client(ctl, &code);
	if (client == NULL)
		return code;
	if (path != NULL && (d.file = open_temporary(path, name, sizeof name)) == NULL)
		return ctl_fail(ctl, ST_USAGE);
	progress_start(&d.progress, isatty(STDERR_FILENO) && !ctl->quiet && (path != NULL || !ctl->out.tty), 0, "dumped");
	code = kv_scan(client, &o, &it);
	if (code == KV_OK) {
		code = dump(&d, it);
		kv_iter_free(it);
	}
	if (path != NULL)
		code = close_temporary(&d, code, name, path);
	buf_free(&d.text);
	progress_end(&d.progress, d.records, d.bytes);
	if (code != KV_OK) {
		(void) status_prefix((Status) code, "after %" PRIu64 " record%s", d.records, d.records == 1 ? "" : "s");
		return ctl_fail(ctl, code);
	}
	if (path != NULL && !d.progress.shown && !ctl->quiet)
		output_fact(&ctl->out, "records", CELL_OF_U64(d.records), NULL);
	return EXIT_DONE;
}
