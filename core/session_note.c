/*
 * Sessions that outlive their core: the notes that handlers leave at the edge, and the moving of sessions while this
 * core drains. A note is kept here as well, as it must be told again on each trunk that the session comes to. The
 * worker's thread.
 */
#include <string.h>

#include "core/session.h"
#include "core/worker.h"
#include "mux/log.h"
#include "mux/memory.h"

#define NOTES_DELAY_MS 50U /* a handler may leave many in a row: the last one counts */
#define NOTES_PER_TURN 4096U
#define MOVE_EVERY_MS  20U
#define MOVE_PATIENCE  50U   /* turns in which a session may wait for what is on its way to its client */
#define MOVES_PER_TURN 4096U /* an edge's queue of what to do grows by as much */

/* ------------------------------------------------------------------------------------------------ notes */

static void session_note_later(trunkline_session *session)
{
    struct core_worker *worker = session->worker;

    if (!list_node_linked(&session->resources->noting)) {
        list_append(&worker->noting, &session->resources->noting);
    }
    if (!timer_armed(&worker->notes)) {
        scheduler_arm(worker->scheduler, &worker->notes, NOTES_DELAY_MS);
    }
}

/* False when it is to be tried again. */
static bool session_note_send(trunkline_session *session)
{
    enum error_code error = trunk_stream_note(&session->stream, &session->resources->note);

    if (error == ERROR_WOULD_BLOCK) {
        return false;
    }
    if (error == ERROR_NO_MEMORY) {
        session_fail(session); /* without it an older note would be taken for the last one */
    }
    return true; /* sent; or on no trunk, where it is told when the session goes on */
}

void session_notes_due(struct timer *timer)
{
    struct core_worker *worker = container_of(timer, struct core_worker, notes);

    struct list blocked;
    struct list_node *node;

    list_init(&blocked);
    for (unsigned i = 0; i < NOTES_PER_TURN && (node = list_first(&worker->noting)) != NULL; i++) {
        trunkline_session *session = container_of(node, struct session_resources, noting)->session;

        list_remove(node);
        if (session->state == SESSION_OPEN && !session_note_send(session)) {
            list_append(&blocked, node);
        }
    }
    /* Behind the others: a trunk that takes no more must not hold up those of other trunks. */
    while ((node = list_first(&blocked)) != NULL) {
        list_remove(node);
        list_append(&worker->noting, node);
    }
    if (!list_empty(&worker->noting)) {
        scheduler_arm(worker->scheduler, &worker->notes, NOTES_DELAY_MS);
    }
}

bool session_note_tell(trunkline_session *session)
{
    static const struct metadata_note empty;

    if (!session->service->reopens || !session->keyed) {
        return true;
    }
    if (session->resources != NULL && session->resources->note.bytes != NULL) {
        session_note_later(session);
        return true;
    }
    if (session->reopened) {
        return true; /* the edge knows, and the note that it has counts until there is another */
    }
    /* Nothing is noted yet; but the edge has to know that the session is one of those that reopen. */
    enum error_code error = trunk_stream_note(&session->stream, &empty);
    if (error == ERROR_WOULD_BLOCK) {
        if (session_resources_get(session) == NULL) {
            return false;
        }
        session_note_later(session);
        error = ERROR_NONE;
    }
    return error != ERROR_NO_MEMORY;
}

int trunkline_set_note(trunkline_session *session, const void *bytes, size_t length)
{
    struct session_resources *resources;
    uint8_t *copy;

    if (session->state != SESSION_OPEN || length > TRUNKLINE_NOTE_MAX) {
        return -1;
    }
    resources = session_resources_get(session);
    copy = resources != NULL ? memory_alloc(length > 0 ? length : 1) : NULL;
    if (copy == NULL) {
        return -1;
    }
    if (length > 0) {
        memcpy(copy, bytes, length);
    }
    memory_free((void *)(uintptr_t)resources->note.bytes);
    resources->note = (struct metadata_note){
        .bytes = copy,
        .length = (uint32_t)length,
        .sent = trunk_stream_written(&session->stream),
        .consumed = trunk_stream_consumed(&session->stream),
    };
    if (session->service->reopens && session->keyed) {
        session_note_later(session);
    }
    return 0;
}

int trunkline_get_reopening(const trunkline_session *session, trunkline_reopening *reopening)
{
    const struct metadata *opening = session->worker->opening;
    const struct metadata_session *request;

    if (session->state != SESSION_EXPECT_ANSWER || opening == NULL || !opening->session.resumes) {
        return 0;
    }
    request = &opening->session;
    *reopening = (trunkline_reopening){
        .note = request->note.bytes,
        .note_length = request->note.length,
        .delivered = (int32_t)(request->received - request->note.sent),
        .consumed = (int32_t)(request->acknowledged - request->note.consumed),
    };
    return 1;
}

/* ------------------------------------------------------------------------------------------------ moving */

/* What was consumed and noted must have left before: the edge hears nothing of the stream any more. What was written
 * should have, as the next handler can only make it again from its note; but a client that does not read, or a handler
 * that always writes, is not waited for. */
static bool session_may_move_now(const trunkline_session *session)
{
    bool noting = session->resources != NULL && list_node_linked(&session->resources->noting);
    bool patient = session->worker->move_turns < MOVE_PATIENCE;

    return !noting && trunk_stream_told(&session->stream) &&
           !(patient && trunk_stream_attached(&session->stream) && trunk_stream_queued(&session->stream) > 0);
}

static bool session_moves(const trunkline_session *session)
{
    return session->state == SESSION_OPEN && session->service->reopens && session->keyed && !session->ended;
}

void session_move_due(struct timer *timer)
{
    struct core_worker *worker = container_of(timer, struct core_worker, move);
    unsigned moved = 0;
    bool left = false;

    worker->move_turns += worker->move_turns < MOVE_PATIENCE;
    for (trunkline_session *session = NULL; (session = slab_next(&worker->sessions, session)) != NULL;) {
        if (!session_moves(session)) {
            left = left || session->state == SESSION_EXPECT_ANSWER; /* its handler may accept it yet */
            continue;
        }
        if (moved == MOVES_PER_TURN || !session_may_move_now(session)) {
            left = true;
            continue;
        }
        trunk_stream_abort(&session->stream, TRUNK_CODE_MOVED);
        session_close(session, TRUNKLINE_REASON_MOVED);
        worker->counters.sessions_moved++;
        moved++;
    }
    if (left && worker->state == CORE_WORKER_DRAINING) {
        scheduler_arm(worker->scheduler, &worker->move, MOVE_EVERY_MS);
    }
}
