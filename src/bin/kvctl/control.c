/*
 * control.c - start stop restart reload status: the server as a process.
 *
 * The server runs in a session of its own, its standard output and error appended to DIR/kvd.log. Who lives is told by
 * pidfile_read().
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kvctl.h"
#include "port/clock.h"

#define LOG_NAME "kvd.log"
#define CONTROL_NAME "kvd.control"
#define WAIT_MS 60000          /* for ready, or for the end */
#define POLL_MS 20
#define DYING_WAIT_MS 1000     /* a dying server holds its lock until the system has given its memory back */
#define LOG_LINES 10           /* of a server that died */
#define LOG_TAIL 8192

static void
pause_ms(int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

static bool
need_dir(Ctl *ctl)
{
	if (ctl->dir == NULL)
		ctl_usage(ctl, "name the data directory: -D DIR");
	return ctl->dir != NULL;
}

/* A server of ours that has ended stays a zombie, which looks alive, until it is collected. */
static void
collect_children(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static bool
running(const char *dir, PidFile *p)
{
	collect_children();
	return pidfile_read(dir, p) == ST_OK;
}

/* The kvd beside this program: by the system's own link, else by the path it was called with, else from PATH. */
static void
kvd_path(const Ctl *ctl, char *out, size_t size)
{
	char self[CTL_PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *slash;

	if (n < 0)
		n = snprintf(self, sizeof self, "%s", ctl->exe);
	self[n < (ssize_t) sizeof self ? n : (ssize_t) sizeof self - 1] = '\0';
	slash = strrchr(self, '/');
	if (slash == NULL || (size_t) snprintf(out, size, "%.*s/kvd", (int) (slash - self), self) >= size ||
		access(out, X_OK) != 0)
		snprintf(out, size, "kvd");
}

/* Become kvd. Only returns, by ending the child, when that fails. */
static _Noreturn void
exec_kvd(const char *path, char *const argv[])
{
	execvp(path, argv);
	fprintf(stderr, "kvctl: cannot run %s: %s\n", path, strerror(errno));
	_exit(127);
}

#define KVD_ARGS_MAX (7 + 2 * ARGS_LIST_MAX)

/* kvd with the directory, port and settings that were asked for, and one more argument if it is not NULL. */
static void
kvd_args(char *argv[KVD_ARGS_MAX], const Ctl *ctl, const char *kvd, const Args *a, char *more)
{
	int n = 0;

	argv[n++] = (char *) (uintptr_t) kvd;
	argv[n++] = "-D";
	argv[n++] = (char *) (uintptr_t) ctl->dir;
	if (ctl->port != NULL) {
		argv[n++] = "-p";
		argv[n++] = (char *) (uintptr_t) ctl->port;
	}
	for (int i = 0; i < a->listed; i++) {
		argv[n++] = "-c";
		argv[n++] = (char *) (uintptr_t) a->list[i];
	}
	argv[n++] = more;
	if (more != NULL)
		argv[n] = NULL;
}

/*
 * An empty directory must be made a data directory before a log file stands in it. With all settings: some are
 * fixed when it is made.
 */
static int
init_dir(Ctl *ctl, const char *kvd, const Args *a)
{
	char control[CTL_PATH_MAX];
	char *argv[KVD_ARGS_MAX];
	int status;
	pid_t child;

	if ((size_t) snprintf(control, sizeof control, "%s/" CONTROL_NAME, ctl->dir) >= sizeof control)
		return ctl_usage(ctl, "the name of the directory is too long");
	if (access(control, F_OK) == 0)
		return EXIT_DONE;
	kvd_args(argv, ctl, kvd, a, "--init-only");
	fflush(NULL);
	child = fork();
	if (child == 0)
		exec_kvd(kvd, argv);
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (child < 0) {
		(void) status_fail_errno(ST_USAGE, "cannot start a process");
		return ctl_fail(ctl, ST_USAGE);
	}
	/* Otherwise it has said itself what is wrong. */
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? EXIT_DONE : EXIT_REFUSED;
}

static pid_t
spawn(Ctl *ctl, const char *kvd, const Args *a, int log_fd)
{
	char *argv[KVD_ARGS_MAX];
	pid_t child;
	int null;

	kvd_args(argv, ctl, kvd, a, NULL);
	fflush(NULL);
	child = fork();
	if (child != 0)
		return child;
	setsid();
	signal(SIGINT, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, 0) < 0 || dup2(log_fd, 1) < 0 || dup2(log_fd, 2) < 0)
		_exit(127);
	exec_kvd(kvd, argv);
}

/* The last lines that the log got since it had `from` bytes. */
static void
show_log(const char *path, off_t from)
{
	char text[LOG_TAIL + 1];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	ssize_t n = 0;
	char *p;

	if (size - from > LOG_TAIL)
		from = size - LOG_TAIL;
	if (fd >= 0 && lseek(fd, from, SEEK_SET) >= 0)
		n = read(fd, text, LOG_TAIL);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return;
	text[n] = '\0';
	p = text + n;
	for (int lines = 0; p > text && lines <= LOG_LINES; p--)
		if (p[-1] == '\n' && ++lines > LOG_LINES)
			break;
	fprintf(stderr, "last lines of %s:\n%s", path, p);
}

static bool
wait_time(Ctl *ctl, const kv_bytes *option, uint64_t *ms)
{
	*ms = WAIT_MS;
	if (option == NULL || time_parse(option->data, ms) == ST_OK)
		return true;
	ctl_usage(ctl, "--wait: %s", status_detail());
	return false;
}

/* A dot a second for a person who waits. */
static void
waiting(const Ctl *ctl, uint64_t start_ns, int *dots)
{
	int want = (int) ((clock_mono_ns() - start_ns) / 1000000000);

	for (; *dots < want; ++*dots)
		if (ctl->out.tty && !ctl->quiet)
			fputc('.', stderr);
}

/* A sentence, unless a format was asked for. */
static int
say(Ctl *ctl, const PidFile *p, const char *sentence)
{
	if (ctl->out.format != FORMAT_AUTO)
		output_fact(&ctl->out, "pid", CELL_OF_U64((uint64_t) p->pid), sentence);
	else if (!ctl->quiet)
		fprintf(ctl->out.file, "%s\n", sentence);
	return EXIT_DONE;
}

static int
show_running(Ctl *ctl, const PidFile *p, const char *what)
{
	char shown[CTL_PATH_MAX + 512];

	snprintf(shown, sizeof shown, "%s: process %ld, %s:%d, data in %s", what, p->pid, p->listen, p->port, p->dir);
	return say(ctl, p, shown);
}

static int
await_ready(Ctl *ctl, pid_t child, const char *log, off_t log_from, uint64_t wait_ms)
{
	uint64_t start = clock_mono_ns();
	int dots = 0;
	PidFile p;

	while (!ctl_interrupted && clock_mono_ns() - start < wait_ms * 1000000) {
		int status;

		if (waitpid(child, &status, WNOHANG) == child) {
			(void) status_fail(ST_INTERNAL, WIFSIGNALED(status) ? "the server was killed by signal %d" :
				"the server ended with exit code %d", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
			ctl_fail(ctl, ST_INTERNAL);
			show_log(log, log_from);
			return EXIT_REFUSED;
		}
		if (pidfile_read(ctl->dir, &p) == ST_OK && p.pid == (long) child && strcmp(p.state, "ready") == 0)
			return show_running(ctl, &p, "server is ready");
		if (pidfile_read(ctl->dir, &p) == ST_OK && p.pid == (long) child && strcmp(p.state, "waiting") == 0)
			return show_running(ctl, &p, "node waits to be made a member of a cluster (see its log)");
		waiting(ctl, start, &dots);
		pause_ms(POLL_MS);
	}
	(void) status_fail(ST_TIMEOUT, "the server (process %ld) is not ready yet; its log is %s", (long) child, log);
	return ctl_fail(ctl, ST_TIMEOUT);
}

/* Is it being killed? Linux shows a SIGKILL from the moment it is sent until the process is gone. */
static bool
is_doomed(long pid)
{
	unsigned long long pending = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof path, "/proc/%ld/status", pid);
	f = fopen(path, "r");
	if (f == NULL)
		return false;
	while (fgets(line, sizeof line, f) != NULL && sscanf(line, "ShdPnd: %llx", &pending) != 1)
		;
	fclose(f);
	return (pending >> (SIGKILL - 1) & 1) != 0;
}

/* Is a server running, and not just about to end? Processes that a dead one left are kvd's to wait for. */
static bool
still_running(const Ctl *ctl, PidFile *p)
{
	uint64_t began = clock_mono_ns();

	while (running(ctl->dir, p)) {
		bool waited = clock_mono_ns() - began >= UINT64_C(1000000) * DYING_WAIT_MS;

		if (ctl_interrupted || (waited && !is_doomed(p->pid)))
			return true;
		pause_ms(POLL_MS);
	}
	return false;
}

static int
start(Ctl *ctl, const Args *a, uint64_t wait_ms)
{
	char kvd[CTL_PATH_MAX], log[CTL_PATH_MAX];
	struct stat before = { 0 };
	PidFile p;
	pid_t child;
	int fd, code;

	if (still_running(ctl, &p)) {
		(void) status_fail(ST_BUSY, "a server is running in \"%s\" already: process %ld, port %d", ctl->dir,
			p.pid, p.port);
		return ctl_fail(ctl, ST_BUSY);
	}
	kvd_path(ctl, kvd, sizeof kvd);
	code = init_dir(ctl, kvd, a);
	if (code != EXIT_DONE)
		return code;
	if ((size_t) snprintf(log, sizeof log, "%s/" LOG_NAME, ctl->dir) >= sizeof log)
		return ctl_usage(ctl, "the name of the directory is too long");
	fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &before) != 0) {
		(void) status_fail_errno(ST_USAGE, "cannot open %s", log);
		if (fd >= 0)
			close(fd);
		return ctl_fail(ctl, ST_USAGE);
	}
	child = spawn(ctl, kvd, a, fd);
	close(fd);
	if (child < 0) {
		(void) status_fail_errno(ST_USAGE, "cannot start a process");
		return ctl_fail(ctl, ST_USAGE);
	}
	return await_ready(ctl, child, log, before.st_size, wait_ms);
}

/* Exit code done when the server has ended. */
static int
stop(Ctl *ctl, const kv_bytes *mode, uint64_t wait_ms)
{
	static const struct { const char *name; int signo; } modes[] = {
		{ "fast", SIGINT }, { "smart", SIGTERM }, { "immediate", SIGQUIT } };
	uint64_t began = clock_mono_ns();
	int dots = 0;
	int m = 0;
	PidFile p;

	while (mode != NULL && m < 3 && strcmp(modes[m].name, mode->data) != 0)
		m++;
	if (m == 3)
		return ctl_usage(ctl, "-m %s: expected smart, fast or immediate", (const char *) mode->data);
	collect_children();
	if (pidfile_read(ctl->dir, &p) != ST_OK) {
		ctl_fail(ctl, KV_USAGE);
		return EXIT_CONNECT;
	}
	if (kill((pid_t) p.pid, modes[m].signo) != 0 && errno != ESRCH) {
		(void) status_fail_errno(ST_USAGE, "cannot signal process %ld", p.pid);
		return ctl_fail(ctl, ST_USAGE);
	}
	while (!ctl_interrupted && clock_mono_ns() - began < wait_ms * 1000000) {
		PidFile now;

		if (!running(ctl->dir, &now) || now.pid != p.pid)
			return say(ctl, &p, "server has ended");
		waiting(ctl, began, &dots);
		pause_ms(POLL_MS);
	}
	(void) status_fail(ST_TIMEOUT, "the server (process %ld) has not ended yet; %s", p.pid,
		m == 1 ? "it waits for its clients, -m fast does not" : "-m immediate does not wait for anything");
	return ctl_fail(ctl, ST_TIMEOUT);
}

int
run_start(Ctl *ctl, const Args *a)
{
	uint64_t wait_ms;

	if (!need_dir(ctl) || !wait_time(ctl, a->option[0], &wait_ms))
		return EXIT_USAGE;
	return start(ctl, a, wait_ms);
}

int
run_stop(Ctl *ctl, const Args *a)
{
	uint64_t wait_ms;

	if (!need_dir(ctl) || !wait_time(ctl, a->option[1], &wait_ms))
		return EXIT_USAGE;
	return stop(ctl, a->option[0], wait_ms);
}

int
run_restart(Ctl *ctl, const Args *a)
{
	uint64_t wait_ms;
	PidFile p;
	int code;

	if (!need_dir(ctl) || !wait_time(ctl, a->option[0], &wait_ms))
		return EXIT_USAGE;
	if (running(ctl->dir, &p)) {
		code = stop(ctl, a->option[2], wait_ms);
		if (code != EXIT_DONE)
			return code;
	}
	return start(ctl, a, wait_ms);
}

int
run_reload(Ctl *ctl, const Args *a)
{
	PidFile p;

	(void) a;
	if (!need_dir(ctl))
		return EXIT_USAGE;
	collect_children();
	if (pidfile_read(ctl->dir, &p) != ST_OK) {
		ctl_fail(ctl, KV_USAGE);
		return EXIT_CONNECT;
	}
	if (kill((pid_t) p.pid, SIGHUP) != 0) {
		(void) status_fail_errno(ST_USAGE, "cannot signal process %ld", p.pid);
		return ctl_fail(ctl, ST_USAGE);
	}
	return say(ctl, &p, "server was told to read its settings again");
}

int
run_status(Ctl *ctl, const Args *a)
{
	static const char *const columns[] = { "state", "pid", "listen", "port", "up_seconds", "directory" };
	uint64_t now = clock_wall_ms() / 1000;
	PidFile p;

	(void) a;
	if (!need_dir(ctl))
		return EXIT_USAGE;
	collect_children();
	if (pidfile_read(ctl->dir, &p) != ST_OK) {
		ctl_fail(ctl, KV_USAGE);
		return EXIT_CONNECT;
	}
	output_begin(&ctl->out, 6, columns);
	output_row(&ctl->out, (Cell[]){ CELL_OF_STR(p.state), CELL_OF_U64((uint64_t) p.pid), CELL_OF_STR(p.listen),
		CELL_OF_U64((uint64_t) p.port), CELL_OF_U64(now > p.start_s && p.start_s > 0 ? now - p.start_s : 0),
		CELL_OF_STR(p.dir) });
	output_end(&ctl->out, false);
	return EXIT_DONE;
}
