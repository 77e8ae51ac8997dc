/*
 * What a worker does as its sessions' buffers fill: it logs, refuses (core_worker_session_admit), and ends the largest
 * session that takes nothing. See mux/buffer_budget.h. The worker's thread.
 */
#include "core/session.h"
#include "core/worker.h"

static void worker_buffers_moved(void *owner, enum buffer_level from, enum buffer_level to)
{
    struct core_worker *worker = owner;
    uint64_t suppressed = 0;

    if (log_counter_allow(&worker->buffer_moves, worker->scheduler->now_us, &suppressed)) {
        LOG(to >= BUFFER_SHUT ? LOG_WARNING : LOG_INFO, "buffer-memory", LOG_TEXT("level", buffer_level_name(to)),
            LOG_TEXT("from", buffer_level_name(from)), LOG_INTEGER("worker", worker->index),
            LOG_INTEGER("held", worker->buffers.charged_bytes), LOG_INTEGER("limit", worker->buffers.limit_bytes),
            LOG_INTEGER("sessions", core_worker_session_count(worker)), LOG_INTEGER("suppressed", suppressed));
    }
}

static void worker_buffers_mark(void *owner)
{
    struct core_worker *worker = owner;

    for (trunkline_session *session = NULL; (session = slab_next(&worker->sessions, session)) != NULL;) {
        trunk_stream_mark(&session->stream);
    }
}

static bool worker_buffers_shed(void *owner, bool any)
{
    struct core_worker *worker = owner;
    trunkline_session *largest = NULL;

    for (trunkline_session *session = NULL; (session = slab_next(&worker->sessions, session)) != NULL;) {
        if ((any || trunk_stream_marked(&session->stream)) && session_live(session) &&
            trunk_stream_charged(&session->stream) > (largest != NULL ? trunk_stream_charged(&largest->stream) : 0)) {
            largest = session;
        }
    }
    if (largest == NULL) {
        return false;
    }
    session_shed(largest);
    return true;
}

const struct buffer_events core_buffer_events = {
    .moved = worker_buffers_moved,
    .mark = worker_buffers_mark,
    .shed = worker_buffers_shed,
};
