/*
 * kvctl.h - what the files of kvctl share.
 *
 * main.c        entry                       options.c   options of the command line
 * commands.c    THE table of commands, help  args.c      arguments of one command
 * commands_data.c commands_range.c commands_admin.c commands_cluster.c     what talks to a server
 * control.c pidfile.c                        start, stop, restart, reload, status
 * load.c dump.c records_tsv.c records_json.c progress.c lines.c
 * shell.c shell_meta.c shell_input.c         the interactive shell
 * words.c                                    text in; text out is fe_utils/output.h and common/escape.h
 *
 * One thread. A Status failure becomes one line "kvctl: COMMAND: what; what to do next" in ctl_fail(), which also
 * gives the exit code.
 */
#ifndef KVCTL_H
#define KVCTL_H

#include <signal.h>
#include <stdio.h>

#include "common/bytes.h"
#include "common/escape.h"
#include "fe_utils/output.h"
#include "kv.h"

/* Exit codes; part of the interface (kvctl help). */
enum {
	EXIT_DONE = 0,
	EXIT_ABSENT = 1,       /* key absent or condition false */
	EXIT_USAGE = 2,        /* also: a local file can't be read or written, bad input */
	EXIT_CONNECT = 3,      /* cannot connect, connection lost; status: no server runs */
	EXIT_REFUSED = 4,      /* the server said no */
	EXIT_UNKNOWN = 5       /* outcome unknown */
};

#define CTL_TIMEOUT_MS 5000
#define CTL_PATH_MAX 4096      /* as long as Linux allows a path to be */

static inline Slice
slice_kv(kv_bytes b)
{
	return slice_of(b.data, b.len);
}

/* --- words.c --------------------------------------------------------------------------------- */

/* Words of one line. Each has a NUL behind it. Free with words_free(), after failures too. */
typedef struct Words {
	kv_bytes *word;
	size_t n, cap;
	Buf memory;
} Words;

/*
 * Split at blanks. "..." may hold blanks and C escapes, '...' holds everything as it is; outside of quotes a \ begins
 * a C escape too. # at the beginning of a word starts a comment. USAGE says what is wrong.
 */
KV_CHECK Status words_split(Words *w, const char *line, size_t len);
void words_free(Words *w);
/* "250ms" "5s" "10min" "1h" "7d"; a bare number is in ms, as in settings. */
KV_CHECK Status time_parse(const char *text, uint64_t *ms);
KV_CHECK Status u64_parse(const char *text, uint64_t *out);
KV_CHECK Status i64_parse(const char *text, int64_t *out);
/* "1.5 MB", "3.2 ms", "1:05" for people. */
void size_text(double bytes, char *out, size_t size);
void duration_text(uint64_t ns, char *out, size_t size);

/* --- the program ----------------------------------------------------------------------------- */

typedef struct Ctl {
	const char *uri, *host, *port; /* from the command line; NULL: not given */
	const char *dir;               /* -D */
	uint64_t timeout_ms;           /* 0: not given */
	bool escapes;                  /* -e: arguments hold C escapes */
	bool keep_going;
	bool quiet;                    /* no progress */
	kv_client *client;             /* made by ctl_client() */
	Output out;
	const char *command;           /* being run, for messages */
	bool shell;                    /* one of many commands: no exits, messages as they fit a session */
	const char *exe;               /* argv[0] */
	/* the shell's */
	bool timing, quit;
	const char *source;            /* name of the script being run, NULL for a person */
	unsigned long line;            /* in it */
	int depth;                     /* of \i */
} Ctl;

/* Set by Ctrl-C; cleared before each command. */
extern volatile sig_atomic_t ctl_interrupted;

/* The handle, made at the first call and connected; NULL after a message (*exit_code tells). */
kv_client *ctl_client(Ctl *ctl, int *exit_code);
/* Print "kvctl: command: error; hint" for a failure with status_detail(). Returns the exit code that belongs to it. */
int ctl_fail(Ctl *ctl, int code);
/* With words of the caller's for what to do next; "" for none. */
int ctl_fail_hint(Ctl *ctl, int code, const char *hint);
/* The same for wrong usage, with a text of our own. Returns EXIT_USAGE. */
int ctl_usage(Ctl *ctl, const char *fmt, ...) KV_PRINTF(2, 3);
int exit_code_of(int code);
/* What to do next about a code; "" when there is nothing to say. */
const char *hint_of(int code);

/* --- args.c ---------------------------------------------------------------------------------- */

typedef struct ArgSpec {
	const char *name;       /* "--ttl" or "-x" */
	bool has_value;
	bool many;              /* may be repeated: its values are in Args.list */
} ArgSpec;

#define ARGS_OPTIONS_MAX 12
#define ARGS_LIST_MAX 64

typedef struct Args {
	const kv_bytes *option[ARGS_OPTIONS_MAX]; /* value of specs[i]; for one without value: not NULL when given */
	const kv_bytes *positional;               /* the rest */
	int n;
	const char *list[ARGS_LIST_MAX];
	int listed;
} Args;

/* --- commands.c ------------------------------------------------------------------------------ */

typedef struct Command Command;
typedef int (*CommandFn)(Ctl *ctl, const Args *a);
struct Command {
	const char *name;
	const char *arguments;      /* for usage lines */
	const char *summary;        /* a few words */
	const char *help;           /* the rest of the page */
	CommandFn run;
	int min, max;               /* positional arguments; max -1: any number */
	ArgSpec option[ARGS_OPTIONS_MAX];
};

extern const Command command_table[];
extern const int command_count;
const Command *command_find(const char *name);
/* Run words[0] with its arguments; the exit code. `words` may be reordered. */
int command_run(Ctl *ctl, kv_bytes *words, int n);
void command_help_list(FILE *f);
void command_help(FILE *f, const Command *c);

/* Sort words (without the command) into options and the rest. False: a message was printed. */
bool args_parse(Ctl *ctl, const Command *c, kv_bytes *words, int n, Args *a);
/* -h -p -u ... at words[*i]: 1 taken (*i moves over it), 0 it is none of these, -1 wrong (a message was printed). */
int options_take(Ctl *ctl, const kv_bytes *words, int n, int *i);
void options_help(FILE *f);

/* Handlers. */
int run_put(Ctl *ctl, const Args *a);
int run_get(Ctl *ctl, const Args *a);
int run_del(Ctl *ctl, const Args *a);
int run_incr(Ctl *ctl, const Args *a);
int run_cas(Ctl *ctl, const Args *a);
int run_scan(Ctl *ctl, const Args *a);
int run_count(Ctl *ctl, const Args *a);
int run_size(Ctl *ctl, const Args *a);
int run_ping(Ctl *ctl, const Args *a);
int run_stats(Ctl *ctl, const Args *a);
int run_config(Ctl *ctl, const Args *a);
int run_checkpoint(Ctl *ctl, const Args *a);
int run_cluster(Ctl *ctl, const Args *a);
int run_load(Ctl *ctl, const Args *a);
int run_dump(Ctl *ctl, const Args *a);
int run_start(Ctl *ctl, const Args *a);
int run_stop(Ctl *ctl, const Args *a);
int run_restart(Ctl *ctl, const Args *a);
int run_reload(Ctl *ctl, const Args *a);
int run_status(Ctl *ctl, const Args *a);
int run_help(Ctl *ctl, const Args *a);

/* --- commands_cluster.c: the i-th word behind "cluster" that begins with `start`; NULL after the last --- */
const char *cluster_action_name(const char *start, size_t len, int i);

/* --- commands_range.c: options that name a range --- */
/* prefix, start, end may be NULL (not given). */
kv_range range_from(const kv_bytes *prefix, const kv_bytes *start, const kv_bytes *end);

/* --- pidfile.c ------------------------------------------------------------------------------- */

typedef struct PidFile {
	long pid;
	int port;
	uint64_t start_s;
	char dir[CTL_PATH_MAX];
	char state[32];
	char listen[256];
} PidFile;

/* Parse postmaster.pid: lines pid, port, start (unix s, or ms), data directory, state, listen addresses (optional). */
KV_CHECK Status pidfile_parse(const char *text, PidFile *out);
/* Of the server in dir. NOT_FOUND: there is none, or it is dead. */
KV_CHECK Status pidfile_read(const char *dir, PidFile *out);

/* --- records, lines, progress: load and dump -------------------------------------------------- */

/* One line of a file being loaded; views into the line or into memory. */
typedef struct Record {
	kv_bytes key, value;
	uint64_t ttl_ms;        /* 0 none */
} Record;

typedef struct RecordBuf {
	Buf key, value, name;
} RecordBuf;
void record_buf_free(RecordBuf *b);

/* USAGE says what is wrong with the line. Views are valid until the next call. */
KV_CHECK Status tsv_parse(const char *line, size_t len, RecordBuf *memory, Record *out);
KV_CHECK Status tsv_write(Buf *out, const Record *r);
KV_CHECK Status json_parse(const char *line, size_t len, RecordBuf *memory, Record *out);
KV_CHECK Status json_write(Buf *out, const Record *r);
/* Is a file of this name one of JSON lines? NULL: no. */
bool name_is_json(const char *path);

/* Lines of a file, of any length up to LINE_MAX_BYTES. */
#define LINE_MAX_BYTES (8u << 24) /* the largest key and value, every byte escaped as \u00HH, fit with room */
typedef struct Lines {
	int fd;
	Buf buf;
	size_t at;              /* first byte not given out */
	uint64_t bytes;         /* given out in all */
	unsigned long number;   /* of the line given out last, from 1 */
	bool eof;
} Lines;
/* *line is NULL at the end; valid until the next call, without its newline. */
KV_CHECK Status lines_next(Lines *l, const char **line, size_t *len);
void lines_free(Lines *l);

typedef struct Progress {
	bool shown;             /* a terminal watches */
	uint64_t start_ns, last_ns;
	uint64_t total;         /* bytes, 0 = unknown */
	const char *verb;       /* "loaded" */
} Progress;
void progress_start(Progress *p, bool shown, uint64_t total, const char *verb);
/* At most ten times a second. */
void progress_update(Progress *p, uint64_t records, uint64_t bytes);
/* Take the line away; print the closing line when a terminal watches. */
void progress_end(Progress *p, uint64_t records, uint64_t bytes);
/* "63,000 records, 50.1 MB, 45%, 25.0 MB/s, 0:02 left" */
void progress_text(const Progress *p, uint64_t now_ns, uint64_t records, uint64_t bytes, char *out, size_t size);

/* --- shell ----------------------------------------------------------------------------------- */

/* The interactive shell; the exit code. */
int shell_run(Ctl *ctl);
/* Run the lines of a file ("-": standard input); the exit code of the first that failed. */
int shell_script(Ctl *ctl, const char *path);
/* One line: a command or \command. */
int shell_line(Ctl *ctl, const char *line, size_t len);
/* A \command; words[0] begins with a backslash. */
int shell_meta(Ctl *ctl, const char *line, size_t len);
void shell_meta_help(FILE *f);
/* Keep a line for \watch. */
void shell_remember(const char *line, size_t len);

/* shell_input.c: a line from a person, with editing and history when built WITH_LIBEDIT. */
void input_open(void);
/* *line (free() it) is NULL at the end of input. Ctrl-C gives an empty line. */
void input_line(const char *prompt, char **line);
void input_close(void);
/* The i-th name that a word beginning with `start` may become, NULL after the last. */
const char *completion(const char *start, size_t len, int i);

#endif
