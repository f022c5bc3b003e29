/*
 * fuzz_config.c - kvd.conf and kvd.auto.conf: lines of a person's hand.
 */
#include "common/config.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t half = size / 2;
	Buf out = { 0 };

	config_init();
	(void) !config_apply(slice_of(data, size), slice_of(NULL, 0), false, NULL);
	(void) !config_apply(slice_of(data, half), slice_of(data + half, size - half), false, NULL);
	if (config_auto_text(slice_of(data, size), "port", "7401", &out) == ST_OK)
		fuzz_touch(slice_buf(&out));
	for (int i = 0; i < config_count(); i++) {
		ConfigItem item;

		config_item(i, &item);
		FUZZ_CHECK(memchr(item.value, 0, sizeof item.value) != NULL);
	}
	buf_free(&out);
	return 0;
}

void
fuzz_seeds(FuzzAdd add)
{
	static const char *const texts[] = {
		"port = 7400\nmemtable_size = 64MB # a comment\n",
		"listen_addresses = '*'\nlog_level = 'warning'\nsnapshot_retention = 60s\n",
		"cluster_members = 'a@h:1, b@h:2'\nnode_name='it''s'\nlease_reads = off\n",
		"wal_segment_size = 1GB\nlevel_ratio=10\nblock_cache_size = 1TB\n",
	};

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		add(texts[i], strlen(texts[i]));
}
