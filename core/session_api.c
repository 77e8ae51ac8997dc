/*
 * The public functions of a session. Called by handlers on the worker's thread; on a session that is closing they
 * have no effect. Timers, watches and handles are in session_resources.c and reference.c.
 */
#include "core/session.h"
#include "core/worker.h"
#include "mux/log.h"

const char *trunkline_reason_name(trunkline_reason reason)
{
    switch (reason) {
    case TRUNKLINE_REASON_DONE:
        return "done";
    case TRUNKLINE_REASON_REFUSED:
        return "refused";
    case TRUNKLINE_REASON_ABORTED:
        return "aborted";
    case TRUNKLINE_REASON_RESET:
        return "reset";
    case TRUNKLINE_REASON_TRUNK_LOST:
        return "trunk-lost";
    case TRUNKLINE_REASON_SHUTDOWN:
        return "shutdown";
    case TRUNKLINE_REASON_NO_MEMORY:
        return "no-memory";
    case TRUNKLINE_REASON_MOVED:
        return "moved";
    }
    return "unknown";
}

int trunkline_accept(trunkline_session *session)
{
    if (session->state != SESSION_EXPECT_ANSWER) {
        return -1;
    }
    if (trunk_stream_accept(&session->stream) != ERROR_NONE) {
        session_fail(session);
        return -1;
    }
    session_move(session, SESSION_OPEN);
    if (!session_note_tell(session)) {
        session_fail(session);
        return -1;
    }
    return 0;
}

static void session_log_refusal(trunkline_session *session, int status, const char *text)
{
    struct core_worker *worker = session->worker;
    char client[ADDRESS_TEXT_MAX];
    uint64_t suppressed = 0;

    worker->counters.sessions_refused++;
    if (log_counter_allow(&worker->session_refusals, worker->scheduler->now_us, &suppressed)) {
        LOG(LOG_WARNING, "session-refused", LOG_HEX("session", session->id),
            LOG_TEXT("client", session_client_text(&session->client, client)),
            LOG_TEXT("service", session->metadata->view.service), LOG_INTEGER("status", status), LOG_TEXT("text", text),
            LOG_INTEGER("refused", worker->session_refusals.total), LOG_INTEGER("suppressed", suppressed));
    }
}

int trunkline_refuse(trunkline_session *session, int status, const char *text)
{
    if (session->state != SESSION_EXPECT_ANSWER) {
        return -1;
    }
    if (status < 400 || status > 599) {
        status = 500; /* a refusal must never look like an acceptance */
    }
    if (text == NULL || text[0] == '\0') {
        text = "the handler refused the session";
    }
    session_log_refusal(session, status, text);
    trunk_stream_refuse(&session->stream, status, text);
    session_close(session, TRUNKLINE_REASON_REFUSED);
    return 0;
}

size_t trunkline_room(const trunkline_session *session)
{
    if (session->state != SESSION_OPEN || session->ended) {
        return 0;
    }
    return trunk_stream_room(&session->stream);
}

void trunkline_want_room(trunkline_session *session)
{
    if (session->state == SESSION_OPEN && !session->ended) {
        trunk_stream_want_room(&session->stream);
    }
}

size_t trunkline_write(trunkline_session *session, const void *bytes, size_t length)
{
    size_t taken = trunkline_room(session);

    if (taken < length) {
        trunkline_want_room(session);
    } else {
        taken = length;
    }
    if (taken > 0 && trunk_stream_write(&session->stream, bytes, taken) != ERROR_NONE) {
        session_fail(session);
        return 0;
    }
    return taken;
}

void trunkline_consume(trunkline_session *session, size_t length)
{
    if (session->state != SESSION_OPEN && session->state != SESSION_LINGERING) {
        return;
    }
    if (length > session->held_bytes) {
        length = session->held_bytes;
    }
    session->held_bytes -= (uint32_t)length;
    if (session->state == SESSION_OPEN) {
        trunk_stream_consume(&session->stream, length);
    }
    session_settle(session);
}

void trunkline_end(trunkline_session *session)
{
    if (session->state == SESSION_OPEN && !session->ended) {
        session->ended = 1;
        if (trunk_stream_end(&session->stream) != ERROR_NONE) {
            session_fail(session);
        }
    }
}

void trunkline_abort(trunkline_session *session)
{
    if (session_live(session)) {
        trunk_stream_reset(&session->stream, TRUNK_CODE_CONNECT_ERROR);
        session_close(session, TRUNKLINE_REASON_ABORTED);
    }
}

void trunkline_set_data(trunkline_session *session, void *data)
{
    session->data = data;
}

void *trunkline_get_data(const trunkline_session *session)
{
    return session->data;
}

static const char *session_address_text(const struct address_compact *compact, char *text)
{
    struct address address;

    text[0] = '\0';
    if (compact->family != 0) {
        address_unpack(compact, &address);
        address_format(&address, text);
    }
    return text;
}

void trunkline_get_client(const trunkline_session *session, trunkline_client *client, char text[256])
{
    const struct metadata *metadata = &session->metadata->view;

    _Static_assert(2 * ADDRESS_TEXT_MAX <= 256, "both addresses must fit the caller's text");
    *client = (trunkline_client){
        .service = metadata->service,
        .address = session_address_text(&session->client, text),
        .listener = session_address_text(&metadata->listener, text + ADDRESS_TEXT_MAX),
        .server_name = metadata->server_name,
        .alpn = metadata->alpn,
        .tls_version = metadata->tls_version,
        .tls_suite = metadata->tls_suite,
        .certificate = metadata->certificate_length > 0 ? metadata->certificate : NULL,
        .certificate_length = metadata->certificate_length,
    };
}

void trunkline_log(const trunkline_session *session, trunkline_log_level level, const char *event, const char *text)
{
    static const enum log_level levels[] = {
        [TRUNKLINE_LOG_ERROR] = LOG_ERROR,
        [TRUNKLINE_LOG_WARNING] = LOG_WARNING,
        [TRUNKLINE_LOG_INFO] = LOG_INFO,
        [TRUNKLINE_LOG_DEBUG] = LOG_DEBUG,
    };
    enum log_level known = (size_t)level < sizeof(levels) / sizeof(levels[0]) ? levels[level] : LOG_INFO;
    char client[ADDRESS_TEXT_MAX];

    LOG(known, event, LOG_HEX("session", session->id),
        LOG_TEXT("client", session_client_text(&session->client, client)),
        LOG_TEXT("service", session->metadata->view.service), LOG_TEXT("text", text));
}
