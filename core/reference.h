/*
 * How other threads reach a session: handles that outlive it, and the mailbox of a worker through which they post.
 * A mailbox is reference counted by its worker and by every handle; a handle by its session and by whoever holds it.
 * What a handle points at is read and written on the worker's thread only.
 */
#ifndef CORE_REFERENCE_H
#define CORE_REFERENCE_H

#include "core/trunkline.h"
#include "mux/error.h"

struct loop;
struct mailbox;

/* Posts wake `loop`, which runs them; with NULL they wait for mailbox_run. ERROR_NO_MEMORY or ERROR_SYSTEM. */
enum error_code mailbox_new(struct mailbox **mailbox, struct loop *loop);

/* Runs what was posted so far. The worker's thread. */
void mailbox_run(struct mailbox *mailbox);

/* Runs what is left and refuses every later post; the loop is not touched any more. The worker's thread, or after its
 * end whoever joined it. */
void mailbox_close(struct mailbox *mailbox);

/* Gives up one reference and nulls the pointer. Any thread. */
void mailbox_release(struct mailbox **mailbox);

/* A handle with one reference, which is the caller's. NULL when memory is out. The worker's thread. */
trunkline_ref *reference_new(struct mailbox *mailbox, trunkline_session *session);

/* The session is closed: posts run without it from now on. Gives up the session's reference and nulls the pointer. */
void reference_detach(trunkline_ref **reference);

#endif
