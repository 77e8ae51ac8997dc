/*
 * Sessions: what happens on a trunk's streams becomes calls of handlers. The worker's slab owns the sessions; the
 * trunk uses the stream in each while it is attached. The worker's thread.
 */
#include "core/session.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/worker.h"
#include "mux/log.h"
#include "mux/memory.h"

static const bool session_moves[SESSION_STATE_COUNT][SESSION_STATE_COUNT] = {
    [SESSION_ARRIVED] = {[SESSION_EXPECT_ANSWER] = true, [SESSION_CLOSED] = true},
    [SESSION_EXPECT_ANSWER] = {[SESSION_OPEN] = true, [SESSION_CLOSING] = true},
    [SESSION_OPEN] = {[SESSION_LINGERING] = true, [SESSION_CLOSING] = true},
    [SESSION_LINGERING] = {[SESSION_CLOSING] = true},
    [SESSION_CLOSING] = {[SESSION_CLOSED] = true},
};

const char *session_state_name(enum session_state state)
{
    static const char *const names[SESSION_STATE_COUNT] = {
        [SESSION_ARRIVED] = "arrived", [SESSION_EXPECT_ANSWER] = "expect-answer",
        [SESSION_OPEN] = "open",       [SESSION_LINGERING] = "lingering",
        [SESSION_CLOSING] = "closing", [SESSION_CLOSED] = "closed",
    };
    return (unsigned)state < SESSION_STATE_COUNT ? names[state] : "unknown";
}

void session_move(trunkline_session *session, enum session_state to)
{
    assert(session->state < SESSION_STATE_COUNT && session_moves[session->state][to] &&
           "a session asked for a move that its diagram does not have");
    LOG(LOG_DEBUG, "session-state", LOG_HEX("session", session->id),
        LOG_TEXT("from", session_state_name(session->state)), LOG_TEXT("to", session_state_name(to)));
    session->state = (uint8_t)to;
}

const char *session_client_text(const struct address_compact *client, char into[ADDRESS_TEXT_MAX])
{
    struct address address;

    if (client->family == 0) {
        into[0] = '\0';
        return into;
    }
    address_unpack(client, &address);
    return address_format(&address, into);
}

/* ------------------------------------------------------------------------------------------------ the end */

void session_close(trunkline_session *session, trunkline_reason reason)
{
    if (!session_live(session)) {
        return;
    }
    session->reason = (uint8_t)reason;
    session_move(session, SESSION_CLOSING);
    list_remove(&session->node); /* lingering or suspended */
    list_append(&session->worker->closing, &session->node);
    scheduler_defer(session->worker->scheduler, &session->worker->finish);
}

void session_fail(trunkline_session *session)
{
    trunk_stream_reset(&session->stream, TRUNK_CODE_INTERNAL_ERROR);
    session_close(session, TRUNKLINE_REASON_NO_MEMORY);
}

void session_shed(trunkline_session *session)
{
    struct core_worker *worker = session->worker;
    char client[ADDRESS_TEXT_MAX];
    uint64_t suppressed = 0;

    worker->counters.sessions_shed++;
    if (log_counter_allow(&worker->session_sheds, worker->scheduler->now_us, &suppressed)) {
        LOG(LOG_WARNING, "session-shed", LOG_HEX("session", session->id),
            LOG_TEXT("client", session_client_text(&session->client, client)),
            LOG_TEXT("service", session->metadata->view.service),
            LOG_INTEGER("held", trunk_stream_charged(&session->stream)), LOG_INTEGER("suppressed", suppressed));
    }
    trunk_stream_reset(&session->stream, TRUNK_CODE_ENHANCE_YOUR_CALM);
    session_close(session, TRUNKLINE_REASON_NO_MEMORY);
}

void session_settle(trunkline_session *session)
{
    if (session->state == SESSION_LINGERING && session->held_bytes == 0) {
        session_close(session, TRUNKLINE_REASON_DONE);
    }
}

static void session_free(trunkline_session *session)
{
    struct core_worker *worker = session->worker;

    session_move(session, SESSION_CLOSED);
    session_resources_free(session);
    session_table_remove(&worker->table, session);
    metadata_shared_release(&session->metadata);
    slab_free(&worker->sessions, session);
    core_worker_session_gone(worker);
}

void session_finish(trunkline_session *session)
{
    struct core_worker *worker = session->worker;

    session_resources_stop(session);
    LOG(LOG_DEBUG, "session-closed", LOG_HEX("session", session->id),
        LOG_TEXT("service", session->metadata->view.service),
        LOG_TEXT("reason", trunkline_reason_name(session->reason)));
    if (session->opened && session->service->handler->closed != NULL) {
        session->service->handler->closed(session, session->reason);
    }
    worker->counters.sessions_closed++;
    session_free(session);
}

/* ------------------------------------------------------------------------------------------------ events */

static void session_log_refused(struct session_origin *origin, const struct metadata *metadata, enum error_code error)
{
    struct core_worker *worker = origin->worker;
    char client[ADDRESS_TEXT_MAX];
    uint64_t suppressed = 0;

    worker->counters.streams_refused++;
    if (log_counter_allow(&worker->stream_refusals, worker->scheduler->now_us, &suppressed)) {
        LOG(LOG_WARNING, "stream-refused", LOG_TEXT("peer", origin->peer),
            LOG_TEXT("client", session_client_text(&metadata->client, client)), LOG_TEXT("service", metadata->service),
            LOG_ERROR_CODE(error), LOG_INTEGER("refused", worker->stream_refusals.total),
            LOG_INTEGER("suppressed", suppressed));
    }
}

static trunkline_session *session_new(struct session_origin *origin, const struct metadata *request)
{
    struct core_worker *worker = origin->worker;
    struct metadata view = *request;
    const struct metadata *metadata = &view;
    trunkline_session *session = slab_alloc(&worker->sessions);

    if (session == NULL) {
        return NULL;
    }
    view.edge = origin->name;
    session->metadata = metadata_pool_share(&worker->metadata, metadata);
    if (session->metadata == NULL) {
        slab_free(&worker->sessions, session);
        return NULL;
    }
    trim_note(&worker->trim);
    session->client = metadata->client;
    list_node_init(&session->node);
    session->worker = worker;
    session->state = SESSION_ARRIVED;
    session->id = core_worker_session_id(worker);
    session->service = core_service_find(worker->settings->services, session->metadata->view.service);
    session->keyed = metadata->session.known & 1U;
    if (session->keyed) {
        memcpy(session->key, metadata->session.id, sizeof(session->key));
        session->keyed = session_table_insert(&worker->table, session);
    }
    return session;
}

static struct trunk_stream *session_on_opening(void *owner, const struct metadata *metadata, int *status)
{
    struct session_origin *origin = owner;
    struct trunk_stream *stream = NULL;
    trunkline_session *session;

    if (metadata->session.known && session_resume_opening(origin, metadata, status, &stream)) {
        return stream;
    }
    enum error_code error = core_worker_session_admit(origin->worker);

    if (error != ERROR_NONE) {
        session_log_refused(origin, metadata, error);
        return NULL;
    }
    session = session_new(origin, metadata);
    if (session == NULL) {
        core_worker_session_gone(origin->worker);
        session_log_refused(origin, metadata, ERROR_NO_MEMORY);
        return NULL;
    }
    origin->worker->opening = metadata; /* until `open` has returned: the view is the trunk's */
    return &session->stream;
}

static void session_refuse_unknown(struct session_origin *origin, trunkline_session *session)
{
    struct metadata metadata = session->metadata->view;
    char text[METADATA_SERVICE_MAX + 32U];

    snprintf(text, sizeof(text), "no service named %s\n", session->metadata->view.service);
    metadata.client = session->client;
    session_log_refused(origin, &metadata, ERROR_UNKNOWN_SERVICE);
    trunk_stream_refuse(&session->stream, 404, text);
    session_free(session);
}

static void session_on_attached(void *owner, struct trunk_stream *stream)
{
    struct session_origin *origin = owner;
    trunkline_session *session = container_of(stream, trunkline_session, stream);

    if (session->service == NULL) {
        origin->worker->opening = NULL;
        session_refuse_unknown(origin, session);
        return;
    }
    origin->opened++;
    origin->worker->counters.sessions_opened++;
    LOG(LOG_DEBUG, "session-opened", LOG_HEX("session", session->id), LOG_TEXT("peer", origin->peer),
        LOG_TEXT("service", session->metadata->view.service));
    session_move(session, SESSION_EXPECT_ANSWER);
    session->opened = 1;
    session->reopened = origin->worker->opening->session.resumes & 1U;
    origin->worker->counters.sessions_reopened += session->reopened;
    session->service->handler->open(session, session->service->data);
    origin->worker->opening = NULL;
}

static void session_on_data(void *owner, struct trunk_stream *stream, const uint8_t *bytes, size_t length)
{
    trunkline_session *session = container_of(stream, trunkline_session, stream);

    (void)owner;
    if (session->state != SESSION_OPEN) {
        return;
    }
    if (session->service->handler->data == NULL) {
        trunk_stream_consume(stream, length);
        return;
    }
    session->held_bytes += (uint32_t)length; /* bounded by the stream's window */
    session->service->handler->data(session, bytes, length);
}

static void session_on_end(void *owner, struct trunk_stream *stream)
{
    trunkline_session *session = container_of(stream, trunkline_session, stream);

    (void)owner;
    if (session->state == SESSION_OPEN && session->service->handler->end != NULL) {
        session->service->handler->end(session);
    }
}

static void session_on_writable(void *owner, struct trunk_stream *stream)
{
    trunkline_session *session = container_of(stream, trunkline_session, stream);

    (void)owner;
    if (session->state == SESSION_OPEN && !session->ended && session->service->handler->drained != NULL) {
        session->service->handler->drained(session);
    }
}

static void session_on_closed(void *owner, struct trunk_stream *stream, enum error_code error, uint32_t detail)
{
    struct session_origin *origin = owner;
    trunkline_session *session = container_of(stream, trunkline_session, stream);

    LOG(LOG_DEBUG, "stream-closed", LOG_HEX("session", session->id), LOG_TEXT("peer", origin->peer),
        LOG_ERROR_CODE(error), LOG_INTEGER("code", detail));
    if (session->state == SESSION_ARRIVED) {
        session->worker->opening = NULL;
        session_free(session);
        return;
    }
    if (error == ERROR_NONE && session->state == SESSION_OPEN) {
        session_move(session, SESSION_LINGERING);
        list_append(&session->worker->lingering, &session->node);
        session_settle(session);
        return;
    }
    if (error != ERROR_TRUNK_LOST) {
        session_close(session, TRUNKLINE_REASON_RESET);
        return;
    }
    session_close(session, session->worker->state == CORE_WORKER_STOPPING ? TRUNKLINE_REASON_SHUTDOWN
                                                                          : TRUNKLINE_REASON_TRUNK_LOST);
}

static void session_on_refused(void *owner, enum error_code error, int status)
{
    struct session_origin *origin = owner;
    struct core_worker *worker = origin->worker;
    uint64_t suppressed = 0;

    worker->counters.streams_refused++;
    worker->counters.resumes_refused += error == ERROR_BAD_RESUME;
    if (log_counter_allow(&worker->stream_refusals, worker->scheduler->now_us, &suppressed)) {
        LOG(LOG_WARNING, "stream-refused", LOG_TEXT("peer", origin->peer), LOG_ERROR_CODE(error),
            LOG_INTEGER("status", status), LOG_INTEGER("refused", worker->stream_refusals.total),
            LOG_INTEGER("suppressed", suppressed));
    }
}

/* An acceptor opens no streams. */
static void session_on_opened(void *owner, struct trunk_stream *stream)
{
    (void)owner;
    (void)stream;
    assert(false && "an acceptor's stream was answered by its peer");
}

/* What the edge's SETTINGS say matters to the trunk alone. */
static void session_on_ready(void *owner)
{
    (void)owner;
}

/* The edge opens no more streams; those that are open go on, and the edge closes the connection after the last. */
static void session_on_goaway(void *owner, uint32_t code)
{
    struct session_origin *origin = owner;

    LOG(LOG_DEBUG, "trunk-goaway", LOG_TEXT("peer", origin->peer), LOG_INTEGER("code", code));
}

const struct trunk_events session_trunk_events = {
    .opening = session_on_opening,
    .attached = session_on_attached,
    .opened = session_on_opened,
    .data = session_on_data,
    .end = session_on_end,
    .writable = session_on_writable,
    .closed = session_on_closed,
    .suspended = session_on_suspended,
    .resumed = session_on_resumed,
    .ready = session_on_ready,
    .goaway = session_on_goaway,
    .refused = session_on_refused,
};
