/*
 * cmd_snapshot.c - SNAPSHOT_OPEN, SNAPSHOT_READ: all tables for a follower whose log is gone here (rule C5).
 *
 * A backend. The files are links of its own (replication/snapshot.c): they last as long as the connection.
 */
#include "cmd_cluster_data.h"
#include "replication/snapshot.h"

#define READ_SIZE 24            /* number, offset, length, 0 */
#define READ_BYTES_MAX 4194304u /* at once */

Status
cmd_snapshot_open(Session *s, const Request *r)
{
	Reader reader = reader_of(r->payload, r->header.length);
	uint8_t p[48];
	TransferSum sum;
	size_t at;
	Status st = check_member(&reader);

	if (st == ST_OK && reader_left(&reader) != 0)
		st = status_fail(ST_BAD_REQUEST, "SNAPSHOT_OPEN has %d bytes", MEMBER_ID_SIZE);
	if (st == ST_OK)
		st = snapshot_open(&sum);
	if (st != ST_OK)
		return answer_error(s, r, st, 0);
	put_u64(p, sum.flushed);
	put_u64(p + 8, sum.term);
	put_u64(p + 16, sum.log_time);
	put_u64(p + 24, sum.files);
	put_u64(p + 32, sum.file_bytes);
	put_u64(p + 40, sum.list_bytes);
	KV_TRY(answer_begin(s, &at));
	KV_TRY(buf_append(&s->out, p, sizeof p));
	answer_end(s, r, at);
	return ST_OK;
}

Status
cmd_snapshot_read(Session *s, const Request *r)
{
	uint64_t number, offset;
	uint32_t length;
	size_t at;
	Status st;

	if (r->header.length != READ_SIZE || get_u32(r->payload + 20) != 0) {
		(void) status_fail(ST_BAD_REQUEST, "SNAPSHOT_READ has %d bytes, the last four 0", READ_SIZE);
		return answer_error(s, r, ST_BAD_REQUEST, 0);
	}
	number = get_u64(r->payload);
	offset = get_u64(r->payload + 8);
	length = get_u32(r->payload + 16);
	if (length > READ_BYTES_MAX)
		length = READ_BYTES_MAX;
	KV_TRY(answer_begin(s, &at));
	st = offset > INT64_MAX - READ_BYTES_MAX ? status_fail(ST_BAD_REQUEST, "no file is so long")
											 : snapshot_read(number, offset, length, &s->out);
	if (st != ST_OK) {
		s->out.len = at;
		return answer_error(s, r, st, 0);
	}
	answer_end(s, r, at);
	return ST_OK;
}
