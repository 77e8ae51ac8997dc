/*
 * A session: one client's connection as its handler sees it, on one stream of a trunk. Lives in its worker's slab from
 * the CONNECT request to the handler's `closed`, which is always called from a task of its own. The worker's thread.
 *
 *   ARRIVED --> EXPECT_ANSWER --> OPEN --> LINGERING
 *      |              |            |           |
 *      |              +------------+-----------+--> CLOSING --> CLOSED
 *      +----------------------------------------------------------^
 *
 * ARRIVED: the stream cannot be used yet, and the handler has not heard of it. EXPECT_ANSWER: `open` was called.
 * LINGERING: both directions have ended and the stream is gone, but the handler has not consumed all that it was
 * given. CLOSING: over; `closed` is owed, and what the handler asks for meanwhile has no effect.
 *
 * While EXPECT_ANSWER or OPEN its trunk may be lost: then the stream is suspended, and the session waits in
 * worker->suspended for its edge to ask for it on another trunk, at most the resume timeout (session_resume.c).
 */
#ifndef CORE_SESSION_H
#define CORE_SESSION_H

#include <stdbool.h>

#include "core/service.h"
#include "core/trunkline.h"
#include "mux/address.h"
#include "mux/list.h"
#include "mux/metadata_pool.h"
#include "mux/trunk.h"

struct core_worker;

enum session_state {
    SESSION_ARRIVED,
    SESSION_EXPECT_ANSWER,
    SESSION_OPEN,
    SESSION_LINGERING,
    SESSION_CLOSING,
    SESSION_CLOSED,
    SESSION_STATE_COUNT,
};

/* What a session has only once its handler asked for it. */
struct session_resources {
    struct list timers;
    struct list watches;
    trunkline_ref *reference; /* NULL: none was asked for */
    struct list_node noting;  /* in worker->noting: the edge is owed the note */
    trunkline_session *session;
    struct metadata_note note; /* `bytes` are owned; NULL: none was left */
};

/* As small as can be: a core holds hundreds of thousands. */
struct trunkline_session {
    struct trunk_stream stream;
    struct list_node node; /* in worker->closing, lingering or suspended; in none otherwise */
    struct core_worker *worker;
    const struct core_service *service;  /* NULL: the service is unknown, and the request about to be refused */
    struct metadata_shared *metadata;    /* what it has in common with others: all but the address */
    struct address_compact client;       /* the address */
    void *data;                          /* the handler's */
    struct session_resources *resources; /* NULL: none */
    uint64_t id;                         /* for logs: unique in the process */
    trunkline_session *same_bucket;      /* of worker->table; NULL for the last, and without a key */
    uint64_t suspended_us;               /* when its trunk was lost; 0: it has one */
    uint8_t key[METADATA_SESSION_BYTES]; /* by which its edge resumes it */
    uint32_t held_bytes;                 /* given to the handler and not consumed */
    uint8_t state;                       /* enum session_state, by session_move only */
    uint8_t reason;                      /* enum trunkline_reason, from CLOSING on */
    uint8_t opened;                      /* the handler's `open` was called: it is owed a `closed` */
    uint8_t ended : 1;                   /* the handler called trunkline_end */
    uint8_t keyed : 1;                   /* `key` is one */
    uint8_t told : 1;                    /* the handler has heard `suspended`: it is owed `resumed` */
    uint8_t reopened : 1;                /* it took the place of an earlier one, whose note the edge has */
};

/* The trunk that sessions come from: the owner of its trunk events. */
struct session_origin {
    struct core_worker *worker;
    char peer[ADDRESS_TEXT_MAX]; /* the edge's address, for logs */
    const char *name;            /* whose certificate the trunk has: sessions belong to that name; "" unknown */
    uint64_t opened;             /* sessions so far */
};

/* The events of sessions on a trunk whose owner is a struct session_origin. want_send and failed are left to whoever
 * runs the trunk. */
extern const struct trunk_events session_trunk_events;

/* "expect-answer", ... Static. */
const char *session_state_name(enum session_state state);

/* Asks for the end: `closed` follows from a task. The stream must be detached, or about to be. No effect on a session
 * that is closing. */
void session_close(trunkline_session *session, trunkline_reason reason);

/* Memory is out for something that the session cannot do without: resets the stream and closes. */
void session_fail(trunkline_session *session);

/* Buffers are full, and this session's hold the most: resets the stream and closes. */
void session_shed(trunkline_session *session);

/* The setter of session->state. */
void session_move(trunkline_session *session, enum session_state to);

/* Calls the handler's `closed` and frees. For the worker, outside of all events. */
void session_finish(trunkline_session *session);

/* After the handler consumed: a session that only waited for that closes. */
void session_settle(trunkline_session *session);

/* May the handler's functions still be called for what happens to the session? */
static inline bool session_live(const trunkline_session *session)
{
    return session->state >= SESSION_EXPECT_ANSWER && session->state <= SESSION_LINGERING;
}

/* session_resources.c: the session's, made if need be; NULL when memory is out. */
struct session_resources *session_resources_get(trunkline_session *session);

/* session_note.c: the session is accepted, or goes on on another trunk: its edge is told what to do without this core.
 * False when memory is out for that. */
bool session_note_tell(trunkline_session *session);

/* Sends the notes that are owed. */
void session_notes_due(struct timer *timer);

/* DRAINING: moves sessions of services that reopen to other cores, some at a time. */
void session_move_due(struct timer *timer);

/* session_resume.c: the trunk's events for sessions that outlive it. */
void session_on_suspended(void *owner, struct trunk_stream *stream, enum error_code reason);
void session_on_resumed(void *owner, struct trunk_stream *stream);

/* A request bears the key of a session. True when `opening` is answered with *stream and *status, false when it begins
 * a session. */
bool session_resume_opening(struct session_origin *origin, const struct metadata *metadata, int *status,
                            struct trunk_stream **stream);

/* Nobody can resume it here any more, as the core drains and takes no new streams. */
void session_resume_end(trunkline_session *session);

/* The deadline of the worker's suspended sessions. */
void session_resume_deadline(struct timer *timer);

/* The client's address for a log line: "" when unknown. */
const char *session_client_text(const struct address_compact *client, char into[ADDRESS_TEXT_MAX]);

/* session_resources.c: stops every timer and watch, and lets go of the reference; then frees them. */
void session_resources_stop(trunkline_session *session);
void session_resources_free(trunkline_session *session);

#endif
