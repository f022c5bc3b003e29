/*
 * status.h - the one result type: what went wrong, as a code and a sentence.
 *
 * A function that can fail returns Status and is marked KV_CHECK (ignoring the
 * result does not compile). The code tells a program what to do; the detail,
 * a sentence for people, is kept per thread by status_fail() and read by
 * status_detail(), like errno: valid until the next status_fail() in this thread.
 *
 * Codes below 100 travel in the protocol (doc/protocol.md): numbers are final,
 * never reuse one. Codes from 100 on exist only inside a client.
 */
#ifndef COMMON_STATUS_H
#define COMMON_STATUS_H

#define KV_CHECK __attribute__((warn_unused_result))
#define KV_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* X(name, number, text). Text is the general meaning; details come from status_fail(). */
#define STATUS_LIST(X) \
	X(OK, 0, "done") \
	X(NOT_FOUND, 1, "key not found") \
	X(CONDITION_FAILED, 2, "condition did not hold") \
	X(BAD_REQUEST, 10, "malformed request") \
	X(UNKNOWN_COMMAND, 11, "unknown command") \
	X(BAD_VERSION, 12, "unsupported version") \
	X(KEY_TOO_LARGE, 13, "key too large") \
	X(VALUE_TOO_LARGE, 14, "value too large") \
	X(BATCH_TOO_LARGE, 15, "batch too large") \
	X(NOT_INTEGER, 16, "value is not an integer") \
	X(OUT_OF_RANGE, 17, "out of range") \
	X(SNAPSHOT_GONE, 18, "snapshot no longer available") \
	X(BAD_SETTING, 19, "bad setting") \
	X(NOT_LEADER, 20, "not the leader") \
	X(OUTCOME_UNKNOWN, 21, "outcome unknown") \
	X(TIMEOUT, 22, "deadline passed, not done") \
	X(TOO_MANY_CONNECTIONS, 23, "too many connections") \
	X(SHUTTING_DOWN, 24, "server is shutting down") \
	X(STARTING, 25, "server is starting") \
	X(NO_SPACE, 26, "no space left") \
	X(OUT_OF_MEMORY, 27, "out of memory") \
	X(SESSION_EXPIRED, 28, "session expired") \
	X(IO_ERROR, 40, "input/output error") \
	X(CORRUPT, 41, "data is damaged") \
	X(INTERNAL, 42, "internal error") \
	X(BUSY, 43, "busy, try again") \
	X(FOREIGN, 44, "not a directory of this kvd version") \
	X(CANNOT_CONNECT, 100, "cannot connect") \
	X(CLOSED, 101, "connection closed") \
	X(PROTOCOL, 102, "peer does not follow the protocol") \
	X(USAGE, 103, "wrong usage")

typedef enum Status {
#define STATUS_ENUM(name, number, text) ST_##name = number,
	STATUS_LIST(STATUS_ENUM)
#undef STATUS_ENUM
} Status;

/* Longest detail kept, with its NUL; longer ones are cut. One line of a log. */
#define STATUS_DETAIL_MAX 512

/* Store a detail and return `code`, so that `return status_fail(ST_IO_ERROR, "...")` reads well. */
Status status_fail(Status code, const char *fmt, ...) KV_PRINTF(2, 3);

/* As status_fail(), with ": " and strerror(errno) appended. ENOSPC and EDQUOT turn IO_ERROR into NO_SPACE. */
Status status_fail_errno(Status code, const char *fmt, ...) KV_PRINTF(2, 3);

/* Put "fmt: " before the detail of a failure that is passed on. Returns `code`. */
Status status_prefix(Status code, const char *fmt, ...) KV_PRINTF(2, 3);

/* The last detail of this thread; "" if none. Never NULL. */
const char *status_detail(void);

/* "NOT_FOUND" and "key not found"; "UNKNOWN" and "unknown code" for numbers not in the list. */
const char *status_name(int code);
const char *status_text(int code);

/* Return from the caller when an expression is not ST_OK. */
#define KV_TRY(expr) \
	do { \
		Status kv_try_ = (expr); \
		if (kv_try_ != ST_OK) \
			return kv_try_; \
	} while (0)

#endif
