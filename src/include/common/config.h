/*
 * config.h - the settings: one table gives the file, -c, --config, reload, the sample and the documents.
 *
 * Layers, later ones win: default < kvd.conf < kvd.auto.conf < environment KVD_<NAME> < command line.
 * Sizes take B kB MB GB TB (1024), times us ms s min h d; a bare number is in the setting's base unit.
 * Values live in the process; children inherit them at fork and re-read the files on SIGHUP. No file is
 * touched here: port/config_files.h reads and writes them.
 *
 * A line is `name = value  # comment`; the value may stand in single quotes ('' inside is one quote).
 */
#ifndef COMMON_CONFIG_H
#define COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/bytes.h"
#include "common/status.h"

typedef enum ConfigType {
	CONFIG_BOOL,
	CONFIG_INT,
	CONFIG_SIZE,
	CONFIG_SIZE_POW2, /* a power of two */
	CONFIG_TIME_MS,
	CONFIG_STRING,
	CONFIG_ENUM
} ConfigType;
typedef enum ConfigContext { CONFIG_RESTART, CONFIG_RELOAD } ConfigContext;
typedef enum ConfigSource {
	SOURCE_DEFAULT,
	SOURCE_FILE,
	SOURCE_AUTO_FILE,
	SOURCE_ENV,
	SOURCE_COMMAND_LINE
} ConfigSource;

/*
 * X(type, name, default, min, max, choices, context, "help")
 * BOOL, INT, SIZE and SIZE_POW2 (bytes), TIME_MS: int64_t config.name; STRING and ENUM: default is text; ENUM's
 * value is the index in "a,b,c"; STRING: max is the longest length. Bounds that depend on protocol constants are
 * checked at start by the rooms that own them.
 */
#define CONFIG_LIST(X) \
	X(STRING, listen_addresses, "127.0.0.1", 0, 255, "", RESTART, "Addresses to listen on, separated by commas; * means all.") \
	X(INT, port, 7400, 0, 65535, "", RESTART, "TCP port for clients; 0 lets the system choose one.") \
	X(INT, max_connections, 1024, 1, 65536, "", RESTART, "Client connections served at once, reserved ones not counted.") \
	X(INT, reserved_connections, 3, 0, 64, "", RESTART, "Further connections kept for clients that ask for an admin slot.") \
	X(SIZE, wal_buffers, 72 * MB, 66 * MB, 16384 * MB, "", RESTART, "Shared ring that new log records pass through; must hold four of the largest records.") \
	X(SIZE_POW2, wal_segment_size, 16 * MB, 1 * MB, 1024 * MB, "", RESTART, "Size of one log file, fixed when the directory is made.") \
	X(SIZE, wal_keep, 64 * MB, 0, 1024 * 1024 * MB, "", RELOAD, "Log kept below what tables hold, for tools and followers.") \
	X(INT, wal_spare_segments, 3, 1, 64, "", RELOAD, "Zero-filled log files kept ready ahead of the log's end.") \
	X(SIZE, memtable_size, 64 * MB, 32 * MB, 65536 * MB, "", RESTART, "Bytes of new data kept in memory before a table is written.") \
	X(INT, memtable_count, 3, 2, 16, "", RESTART, "Memtables in shared memory: one takes writes, the others wait to be written out.") \
	X(SIZE, block_cache_size, 128 * MB, 1 * MB, 1024 * 1024 * MB, "", RESTART, "Shared cache of table blocks.") \
	X(SIZE, metadata_size, 32 * MB, 1 * MB, 65536 * MB, "", RESTART, "Shared memory for the list of tables and their key ranges.") \
	X(SIZE, table_size, 64 * MB, 1 * MB, 4096 * MB, "", RELOAD, "Size at which compaction starts the next table file.") \
	X(SIZE, blob_threshold, 1024, 0, 16 * MB, "", RELOAD, "Values from this size on are kept apart from their keys; 0: none.") \
	X(ENUM, compression, "none", 0, 0, "none,lz4,zstd", RESTART, "How tables below level 0 are compressed; what is stored already stays as it is.") \
	X(INT, l0_trigger, 4, 2, 64, "", RELOAD, "Tables in level 0 that start a compaction into the next level in use.") \
	X(INT, l0_slowdown, 12, 4, 256, "", RELOAD, "Tables in level 0 from which writers are slowed, more with each.") \
	X(INT, level_ratio, 10, 2, 100, "", RELOAD, "How many times larger each level is than the one above.") \
	X(TIME_MS, snapshot_retention, 60000, 0, 86400000, "", RELOAD, "How long old versions are kept for paged scans.") \
	X(SIZE, max_value_size, 16 * MB, 1, 16 * MB, "", RELOAD, "Largest value accepted; the protocol's own limit is 16MB.") \
	X(TIME_MS, idle_timeout, 0, 0, 86400000, "", RELOAD, "Close a client that has sent nothing for this long; 0 never.") \
	X(TIME_MS, client_timeout, 30000, 100, 3600000, "", RELOAD, "Close a client that stalls in the middle of a request or does not take its answers.") \
	X(SIZE, disk_reserve, 384 * MB, 0, 1024 * 1024 * 1024 * MB, "", RELOAD, "Writes are refused while the file system has less than this free; deletes are not.") \
	X(ENUM, log_level, "log", 0, 0, "debug,info,log,warning,error", RELOAD, "Least level that is logged.") \
	X(ENUM, log_format, "text", 0, 0, "text,json", RELOAD, "Form of log lines.") \
	X(STRING, log_file, "", 0, 255, "", RESTART, "Log file, relative to the data directory; empty means standard error.") \
	X(STRING, node_name, "node1", 1, 63, "", RESTART, "Name of this node in its cluster.") \
	X(INT, peer_port, 0, 0, 65535, "", RESTART, "TCP port for the other nodes of a cluster; 0: this node has none.") \
	X(STRING, peer_listen_addresses, "127.0.0.1", 0, 255, "", RESTART, "Addresses to listen on for other nodes, separated by commas; * means all.") \
	X(STRING, advertise_address, "", 0, 127, "", RESTART, "host or host:port that clients are sent to; empty: the first of listen_addresses, and port.") \
	X(STRING, peer_advertise_address, "", 0, 127, "", RESTART, "host or host:port where other nodes reach this one; empty: the first of peer_listen_addresses, and peer_port.") \
	X(STRING, cluster_members, "", 0, 255, "", RESTART, "name@host:peer_port of every first member, separated by commas: a blank node forms the cluster with them.") \
	X(TIME_MS, election_timeout, 1000, 50, 60000, "", RESTART, "Without a leader for this long, followers elect another; of the node that founds a cluster.") \
	X(BOOL, lease_reads, 1, 0, 1, "", RELOAD, "A leader answers reads without asking the others while its lease lasts.") \
	X(ENUM, follower_requests, "redirect", 0, 0, "redirect,forward", RELOAD, "What a follower does with requests for the leader: name the leader, or pass them on.") \
	X(SIZE, replication_window, 32 * MB, 18 * MB, 1024 * MB, "", RELOAD, "Log sent to a follower and not yet acknowledged, at most; must hold the largest record.") \
	X(SIZE, wal_keep_max, 1024 * MB, 0, 1024 * 1024 * MB, "", RELOAD, "Log kept at most for a follower that is behind; one further behind gets tables instead.") \
	X(TIME_MS, hash_check_interval, 3600000, 0, 2592000000, "", RELOAD, "How often the replicas compare their contents; 0 never.") \
	X(BOOL, sched_batch, 1, 0, 1, "", RESTART, "Run backends with throughput scheduling where the system has it.") \
	X(TIME_MS, stuck_timeout, 10000, 100, 600000, "", RELOAD, "A process that stays inside a critical section for longer is ended and the node restarts.")

#define MB INT64_C(1048576)

typedef struct Config {
#define CONFIG_FIELD_BOOL(n) int64_t n;
#define CONFIG_FIELD_INT(n) int64_t n;
#define CONFIG_FIELD_SIZE(n) int64_t n;
#define CONFIG_FIELD_SIZE_POW2(n) int64_t n;
#define CONFIG_FIELD_TIME_MS(n) int64_t n;
#define CONFIG_FIELD_ENUM(n) int64_t n;
#define CONFIG_FIELD_STRING(n) char n[256];
#define CONFIG_FIELD(type, name, def, min, max, choices, context, help) CONFIG_FIELD_##type(name)
	CONFIG_LIST(CONFIG_FIELD)
#undef CONFIG_FIELD
} Config;

/* The settings in force in this process. */
extern Config config;

/* All defaults. */
void config_init(void);
/* -c name=value: kept apart, wins over files, survives reload. BAD_SETTING names the setting. */
KV_CHECK Status config_set_command_line(const char *assignment);
/*
 * Put the layers together from the contents of kvd.conf and kvd.auto.conf, the environment and the command line.
 * BAD_SETTING: "kvd.conf:12: ..." naming file, line and what is allowed; then nothing has changed.
 * reload: settings of context RESTART keep their value; *restart_needed (may be NULL) counts those that differ.
 */
KV_CHECK Status config_apply(Slice conf, Slice auto_conf, bool reload, int *restart_needed);
/* One setting as text, with unit ("64MB"), its source and, for SOURCE_FILE and SOURCE_AUTO_FILE, the line. */
int config_count(void);
typedef struct ConfigItem {
	const char *name, *help, *unit; /* static; unit: what a bare number means, "B", "ms" or "" */
	char value[256], def[256];
	ConfigSource source;
	int line;            /* in its file, 0 for other sources */
	ConfigContext context;
	bool restart_needed; /* the files hold another value than the one in force */
} ConfigItem;
void config_item(int i, ConfigItem *out);
const char *config_source_name(ConfigSource s);
/* Index by name, -1 if none. */
int config_find(const char *name);
/* Check an assignment without making it. */
KV_CHECK Status config_check(const char *name, const char *value);
/* The commented sample file. */
void config_write_sample(FILE *out);
/*
 * The new content of kvd.auto.conf, appended to `out`: what `auto_conf` holds, with name = value (value NULL:
 * without name).
 */
KV_CHECK Status config_auto_text(Slice auto_conf, const char *name, const char *value, Buf *out);

#endif
