/*
 * Sessions whose trunk is lost: they are kept until their edge asks for them on another trunk, at most the resume
 * timeout. The handler need not notice. A session belongs to the name in the certificate of the trunk that it began on:
 * with another one its key is worth nothing. The worker's thread.
 */
#include "core/session.h"

#include <string.h>

#include "core/worker.h"
#include "mux/log.h"
#include "mux/memory.h"

#define STATUS_GONE       410 /* RFC 9110 section 15.5.11 */
#define GIVEN_UP_PER_TURN 1024U

static uint64_t timeout_us(const struct core_worker *worker)
{
    return 1000U * (uint64_t)worker->settings->resume_timeout_ms;
}

static void resume_arm(struct core_worker *worker)
{
    struct list_node *node = list_first(&worker->suspended);

    if (node != NULL) {
        uint64_t due_us = container_of(node, trunkline_session, node)->suspended_us + timeout_us(worker);
        uint64_t now_us = worker->scheduler->now_us;

        scheduler_arm(worker->scheduler, &worker->resume_deadline,
                      due_us > now_us ? (due_us - now_us) / 1000U + 1U : 0U);
    }
}

void session_resume_deadline(struct timer *timer)
{
    struct core_worker *worker = container_of(timer, struct core_worker, resume_deadline);
    struct list_node *node;

    for (unsigned i = 0; i < GIVEN_UP_PER_TURN && (node = list_first(&worker->suspended)) != NULL; i++) {
        trunkline_session *session = container_of(node, trunkline_session, node);

        if (session->suspended_us + timeout_us(worker) > worker->scheduler->now_us) {
            break;
        }
        trunk_stream_reset(&session->stream, TRUNK_CODE_CANCEL);
        session_close(session, TRUNKLINE_REASON_TRUNK_LOST);
    }
    resume_arm(worker);
}

void session_resume_end(trunkline_session *session)
{
    bool moves = session->state == SESSION_OPEN && session->service->reopens;

    trunk_stream_reset(&session->stream, TRUNK_CODE_CANCEL);
    session_close(session, moves ? TRUNKLINE_REASON_MOVED : TRUNKLINE_REASON_TRUNK_LOST);
}

/* The wait begins, and ends at the deadline, in the same order for all. */
static void session_suspend(trunkline_session *session)
{
    struct core_worker *worker = session->worker;

    session->suspended_us = worker->scheduler->now_us != 0 ? worker->scheduler->now_us : 1;
    worker->counters.sessions_suspended++;
    list_append(&worker->suspended, &session->node);
    if (!timer_armed(&worker->resume_deadline)) {
        resume_arm(worker);
    }
    LOG(LOG_DEBUG, "session-suspended", LOG_HEX("session", session->id));
}

void session_on_suspended(void *owner, struct trunk_stream *stream, enum error_code reason)
{
    trunkline_session *session = container_of(stream, trunkline_session, stream);

    (void)owner;
    (void)reason; /* an acceptor's streams are suspended with their trunk only */
    if (session->worker->state != CORE_WORKER_RUNNING) {
        session_resume_end(session);
        return;
    }
    session_suspend(session);
    session->told = 1;
    if (session->service->handler->suspended != NULL) {
        session->service->handler->suspended(session);
    }
}

void session_on_resumed(void *owner, struct trunk_stream *stream)
{
    trunkline_session *session = container_of(stream, trunkline_session, stream);
    struct session_origin *origin = owner;

    list_remove(&session->node);
    session->suspended_us = 0;
    session->worker->counters.sessions_resumed++;
    LOG(LOG_DEBUG, "session-resumed", LOG_HEX("session", session->id), LOG_TEXT("peer", origin->peer));
    bool told = session->told;

    session->told = 0;
    if (session->state == SESSION_OPEN && !session_note_tell(session)) {
        session_fail(session);
        return;
    }
    if (told && session->service->handler->resumed != NULL) {
        session->service->handler->resumed(session);
    }
}

static void session_resume_refused(struct session_origin *origin, const struct metadata *metadata, const char *reason)
{
    struct core_worker *worker = origin->worker;
    char client[ADDRESS_TEXT_MAX];
    uint64_t suppressed = 0;

    worker->counters.resumes_refused++;
    if (log_counter_allow(&worker->resume_refusals, worker->scheduler->now_us, &suppressed)) {
        LOG(LOG_WARNING, "resume-refused", LOG_TEXT("peer", origin->peer), LOG_TEXT("name", origin->name),
            LOG_TEXT("client", session_client_text(&metadata->client, client)), LOG_TEXT("reason", reason),
            LOG_INTEGER("refused", worker->resume_refusals.total), LOG_INTEGER("suppressed", suppressed));
    }
}

/* The session is not known here, and may have been another core's. */
static bool session_may_reopen(const struct core_worker *worker, const struct metadata *metadata)
{
    const struct core_service *service = core_service_find(worker->settings->services, metadata->service);

    return metadata->session.reopens && service != NULL && service->reopens;
}

bool session_resume_opening(struct session_origin *origin, const struct metadata *metadata, int *status,
                            struct trunk_stream **stream)
{
    trunkline_session *session = session_table_find(&origin->worker->table, metadata->session.id);
    bool begins = session == NULL && !metadata->session.resumes;

    if (begins || (session == NULL && session_may_reopen(origin->worker, metadata))) {
        return false;
    }
    /* Whoever guesses, or has learned a key, hears the same as if there were no such session. */
    *status = STATUS_GONE;
    if (session == NULL) {
        session_resume_refused(origin, metadata, "unknown");
        return true;
    }
    if (strcmp(session->metadata->view.edge, origin->name) != 0) {
        session_resume_refused(origin, metadata, "of another edge");
        return true;
    }
    bool had_trunk = !trunk_stream_suspended(&session->stream);
    if (!session_live(session) || trunk_stream_interrupt(&session->stream) != ERROR_NONE) {
        session_resume_refused(origin, metadata, "over");
        return true;
    }
    if (had_trunk) {
        session_suspend(session); /* the edge knows earlier than we that the trunk is lost */
    }
    *status = 0;
    *stream = &session->stream;
    return true;
}
