/*
 * replstate_mail.c - requests that only the consensus worker can do: a mailbox for one.
 *
 * One word says what the mailbox is doing and for whom (slot and its generation):
 *
 *   FREE -> WRITING (backend) -> POSTED (backend) -> ANSWERED (worker) -> FREE (backend)
 *                                   -> LEFT (backend, whose time is over) -> FREE (worker, when it is done)
 *
 * The request is written only in WRITING, the answer only in POSTED, each by the one that will move the
 * word on. A backend that dies in WRITING or ANSWERED leaves a mailbox that the next one takes over, since
 * its slot's generation has changed or its slot is not alive. One that dies in POSTED has its request done;
 * the answer is for nobody, and the mailbox is taken over then.
 */
#include "common/kv_assert.h"
#include "ipc/procslot.h"
#include "port/clock.h"
#include "replstate_internal.h"

#include <stdio.h>

typedef enum MailState { MAIL_FREE, MAIL_WRITING, MAIL_POSTED, MAIL_LEFT, MAIL_ANSWERED } MailState;

/* generation in the upper half, slot in 24 bits, state in 8 */
static uint64_t
mail_word(MailState state, int slot, uint32_t generation)
{
	return (uint64_t) generation << 32 | (uint64_t) (uint32_t) slot << 8 | (uint64_t) state;
}

static MailState
mail_state(uint64_t w)
{
	return (MailState) (w & 0xff);
}

static int
mail_slot(uint64_t w)
{
	return (int) (w >> 8 & 0xffffff);
}

static bool
owner_gone(uint64_t w)
{
	const ProcSlot *s = procslot_get(mail_slot(w));

	return atomic_load(&s->generation) != (uint32_t) (w >> 32) || atomic_load(&s->state) != PROC_LIVE;
}

/* Make the mailbox mine, in WRITING. BUSY. */
static Status
take(uint64_t *mine)
{
	uint64_t w = atomic_load(&repl_sh->mail);
	MailState state = mail_state(w);

	*mine = mail_word(MAIL_WRITING, my_slot_no, atomic_load(&my_slot->generation));
	if ((state == MAIL_FREE || ((state == MAIL_WRITING || state == MAIL_ANSWERED) && owner_gone(w))) &&
		atomic_compare_exchange_strong(&repl_sh->mail, &w, *mine))
		return ST_OK;
	return status_fail(ST_BUSY, "another change of the cluster is under way, try again");
}

/* Wait until the answer is there. TIMEOUT: the request is left to the worker. */
static Status
wait_answer(uint64_t posted, uint64_t deadline_ns)
{
	uint64_t answered = (posted & ~UINT64_C(0xff)) | MAIL_ANSWERED;

	for (;;) {
		uint32_t token = procslot_prepare_sleep();

		if (atomic_load(&repl_sh->mail) == answered) {
			procslot_cancel_sleep();
			return ST_OK;
		}
		if (clock_mono_ns() < deadline_ns) {
			procslot_sleep_until(token, deadline_ns);
			continue;
		}
		procslot_cancel_sleep();
		if (atomic_compare_exchange_strong(&repl_sh->mail, &posted, (posted & ~UINT64_C(0xff)) | MAIL_LEFT))
			return status_fail(ST_TIMEOUT,
							   "no answer in time; it may still be done: look at the cluster's status");
	}
}

Status
replstate_request(const ReplRequest *r, int timeout_ms, Buf *text)
{
	uint64_t deadline = clock_mono_ns() + (uint64_t) timeout_ms * 1000000;
	char said[REPL_TEXT_MAX];
	uint64_t mine, posted;
	Status st;

	KV_TRY(take(&mine));
	repl_sh->request = *r;
	posted = (mine & ~UINT64_C(0xff)) | MAIL_POSTED;
	atomic_store(&repl_sh->mail, posted);
	procslot_wake(PROC_CONSENSUS);
	KV_TRY(wait_answer(posted, deadline));
	st = (Status) repl_sh->answer;
	memcpy(said, repl_sh->text, sizeof said);
	atomic_store(&repl_sh->mail, mail_word(MAIL_FREE, 0, 0));
	KV_TRY(buf_append(text, said, strlen(said)));
	return st == ST_OK ? ST_OK : status_fail(st, "%s", said);
}

bool
replstate_pending(ReplRequest *out)
{
	MailState state = mail_state(atomic_load(&repl_sh->mail));

	if (state != MAIL_POSTED && state != MAIL_LEFT)
		return false;
	*out = repl_sh->request;
	return true;
}

void
replstate_answer(Status st, const char *text)
{
	uint64_t w = atomic_load(&repl_sh->mail);
	MailState state = mail_state(w);

	KV_ASSERT(state == MAIL_POSTED || state == MAIL_LEFT);
	if (state == MAIL_POSTED) {
		repl_sh->answer = (uint32_t) st;
		snprintf(repl_sh->text, sizeof repl_sh->text, "%s", text);
		if (atomic_compare_exchange_strong(&repl_sh->mail, &w, (w & ~UINT64_C(0xff)) | MAIL_ANSWERED)) {
			procslot_wake(mail_slot(w));
			return;
		}
	}
	/* Nobody waits any more. */
	atomic_store(&repl_sh->mail, mail_word(MAIL_FREE, 0, 0));
}
