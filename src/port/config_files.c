/*
 * config_files.c - reading and writing the settings files.
 *
 * The postmaster reads at start, every process on SIGHUP; a backend writes kvd.auto.conf for CONFIG. No
 * locks: files are replaced by rename, so a reader sees one whole version.
 */
#define _POSIX_C_SOURCE 200809L
#include "port/config_files.h"

#include <stdio.h>
#include <stdlib.h>

#include "port/fs.h"

/* The content of dir/name, NULL and empty when it is missing. The caller frees text->data. */
static Status
read_config(const char *dir, const char *name, char path[FS_PATH_MAX], Slice *text)
{
	char *data = NULL;
	size_t len = 0;
	int n = snprintf(path, FS_PATH_MAX, "%s/%s", dir, name);
	Status s;

	*text = slice_of(NULL, 0);
	if (n >= FS_PATH_MAX)
		return status_fail(ST_OUT_OF_RANGE, "path \"%.100s...\" is longer than %d bytes", dir, FS_PATH_MAX - 1);
	s = fs_read_file(path, CONFIG_FILE_MAX, &data, &len);
	if (s == ST_NOT_FOUND)
		return ST_OK;
	KV_TRY(s);
	*text = slice_of(data, len);
	return ST_OK;
}

Status
config_load(const char *dir, bool reload, int *restart_needed)
{
	char path[FS_PATH_MAX];
	Slice conf, auto_conf;
	Status s;

	KV_TRY(read_config(dir, CONFIG_FILE, path, &conf));
	s = read_config(dir, CONFIG_AUTO_FILE, path, &auto_conf);
	if (s == ST_OK)
		s = config_apply(conf, auto_conf, reload, restart_needed);
	free((void *) conf.data);
	free((void *) auto_conf.data);
	return s;
}

Status
config_write_auto(const char *dir, const char *name, const char *value)
{
	char path[FS_PATH_MAX];
	Slice old;
	Buf text = { 0 };
	Status s;

	KV_TRY(read_config(dir, CONFIG_AUTO_FILE, path, &old));
	s = config_auto_text(old, name, value, &text);
	if (s == ST_OK)
		s = fs_replace_file(path, text.data, text.len);
	buf_free(&text);
	free((void *) old.data);
	return s;
}

Status
config_write_sample_file(const char *dir)
{
	char path[FS_PATH_MAX];
	char *text = NULL;
	size_t len = 0;
	FILE *out;
	Status s = ST_OK;

	if (snprintf(path, sizeof path, "%s/%s", dir, CONFIG_FILE) >= FS_PATH_MAX)
		return status_fail(ST_OUT_OF_RANGE, "path \"%.100s...\" is longer than %d bytes", dir, FS_PATH_MAX - 1);
	out = open_memstream(&text, &len);
	if (out == NULL)
		return status_fail_errno(ST_OUT_OF_MEMORY, "cannot make %s", path);
	config_write_sample(out);
	if (fclose(out) != 0)
		s = status_fail_errno(ST_OUT_OF_MEMORY, "cannot make %s", path);
	if (s == ST_OK)
		s = fs_replace_file(path, text, len);
	free(text);
	return s;
}
