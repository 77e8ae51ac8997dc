/*
 * The life of a client: see client.h. A client is freed only by its own task at the end of a batch (or by the relay's
 * end), so that no event ever frees it under the feet of its caller. One thread.
 */
#include "edge/client.h"

#include <assert.h>

#include "edge/relay.h"
#include "edge/uplink.h"
#include "mux/memory.h"

#define STATUS_GONE 410U /* RFC 9110 section 15.5.11: there is no such session to be resumed */

/* ------------------------------------------------------------------------------------------------ states */

static const char *const state_names[EDGE_CLIENT_STATE_COUNT] = {
    [EDGE_CLIENT_EXPECT_HANDSHAKE] = "expect-handshake",
    [EDGE_CLIENT_EXPECT_TRUNK] = "expect-trunk",
    [EDGE_CLIENT_EXPECT_ANSWER] = "expect-answer",
    [EDGE_CLIENT_RELAYING] = "relaying",
    [EDGE_CLIENT_LINGERING] = "lingering",
    [EDGE_CLIENT_CLOSED] = "closed",
};

#define MOVE(state) (1U << EDGE_CLIENT_##state)

static const unsigned legal_moves[EDGE_CLIENT_STATE_COUNT] = {
    [EDGE_CLIENT_EXPECT_HANDSHAKE] = MOVE(EXPECT_TRUNK) | MOVE(LINGERING) | MOVE(CLOSED),
    [EDGE_CLIENT_EXPECT_TRUNK] = MOVE(EXPECT_ANSWER) | MOVE(LINGERING) | MOVE(CLOSED),
    [EDGE_CLIENT_EXPECT_ANSWER] = MOVE(EXPECT_TRUNK) | MOVE(RELAYING) | MOVE(LINGERING) | MOVE(CLOSED),
    [EDGE_CLIENT_RELAYING] = MOVE(LINGERING) | MOVE(CLOSED),
    [EDGE_CLIENT_LINGERING] = MOVE(CLOSED),
};

static const unsigned legal_input_moves[EDGE_CLIENT_HALF_COUNT] = {
    [EDGE_CLIENT_HALF_OPEN] = MOVE(HALF_ENDING) | MOVE(HALF_ENDED),
    [EDGE_CLIENT_HALF_ENDING] = MOVE(HALF_ENDED),
};

static const unsigned legal_output_moves[EDGE_CLIENT_HALF_COUNT] = {
    [EDGE_CLIENT_HALF_OPEN] = MOVE(HALF_ENDING) | MOVE(HALF_FLUSHING), /* the latter for an alert */
    [EDGE_CLIENT_HALF_ENDING] = MOVE(HALF_FLUSHING),
    [EDGE_CLIENT_HALF_FLUSHING] = MOVE(HALF_ENDED),
};

const char *edge_client_state_name(enum edge_client_state state)
{
    return state < EDGE_CLIENT_STATE_COUNT ? state_names[state] : "unknown";
}

static const char *edge_client_peer(const struct edge_client *client, char text[ADDRESS_TEXT_MAX])
{
    struct address address;
    address_unpack(&client->peer, &address);
    return address_format(&address, text);
}

void edge_client_move(struct edge_client *client, enum edge_client_state to)
{
    struct relay *relay = edge_client_relay(client);
    char text[ADDRESS_TEXT_MAX];
    assert((legal_moves[client->state] & (1U << to)) && "a client made a move that its diagram does not have");
    LOG(LOG_DEBUG, "client-state", LOG_TEXT("peer", edge_client_peer(client, text)),
        LOG_TEXT("from", state_names[client->state]), LOG_TEXT("to", state_names[to]));
    if (client->state == EDGE_CLIENT_EXPECT_HANDSHAKE) {
        relay->handshake_count--;
    }
    if (client->state == EDGE_CLIENT_EXPECT_HANDSHAKE || client->state == EDGE_CLIENT_EXPECT_TRUNK) {
        list_remove(&client->extra->waiting);
    }
    bool leaves = client->extra != NULL && client->extra->leaving && to == EDGE_CLIENT_LINGERING;
    if (client->state != EDGE_CLIENT_EXPECT_HANDSHAKE && client->state != EDGE_CLIENT_EXPECT_TRUNK && !leaves) {
        edge_client_stay(client); /* it waits for another trunk no longer */
    }
    if (to == EDGE_CLIENT_EXPECT_TRUNK) {
        list_append(&relay->waiting, &client->extra->waiting);
    }
    client->state = (uint8_t)to & 0xfU;
}

void edge_client_input_move(struct edge_client *client, enum edge_client_half to)
{
    if (client->input_half != to) {
        assert((legal_input_moves[client->input_half] & (1U << to)) && "a client's input made an illegal move");
        client->input_half = (uint8_t)to & 3U;
    }
}

void edge_client_output_move(struct edge_client *client, enum edge_client_half to)
{
    if (client->output_half != to) {
        assert((legal_output_moves[client->output_half] & (1U << to)) && "a client's output made an illegal move");
        client->output_half = (uint8_t)to & 3U;
    }
}

/* ------------------------------------------------------------------------------------------------ ending */

/* Detaches the stream from the trunk, if it is attached. */
static void edge_client_drop_stream(struct edge_client *client, enum trunk_code code)
{
    if (trunk_stream_attached(&client->stream)) {
        trunk_stream_reset(&client->stream, code);
        relay_settle_later(edge_client_relay(client));
    }
}

static void edge_client_close(struct edge_client *client, enum transport_close how)
{
    if (client->state == EDGE_CLIENT_CLOSED) {
        return;
    }
    edge_client_drop_stream(client, TRUNK_CODE_CANCEL);
    edge_client_disarm(client);
    transport_close(&client->slot.transport, how);
    edge_client_move(client, EDGE_CLIENT_CLOSED);
    edge_client_defer(client);
}

/* Makes an alert, unless the output has ended already; written as far as the client takes it now. */
static enum error_code edge_client_alert(struct edge_client *client, enum tls_alert alert)
{
    if (client->output_half == EDGE_CLIENT_HALF_FLUSHING || client->output_half == EDGE_CLIENT_HALF_ENDED) {
        return ERROR_NONE;
    }
    edge_client_gather(client);
    tls_abort(&client->tls, &edge_client_tls_events, (uint8_t)alert);
    return edge_client_flush(client);
}

/* All has been said: a moment for the client to end as well. Without memory for a timer it gets none. */
static void edge_client_linger(struct edge_client *client)
{
    edge_client_move(client, EDGE_CLIENT_LINGERING);
    if (edge_client_arm(client, edge_client_relay(client)->settings->linger_timeout_ms) != ERROR_NONE) {
        edge_client_linger_over(client);
        return;
    }
    edge_client_defer(client);
}

/* An alert is on its way: FIN behind it, and a moment for the client to read it, as a reset could overtake it. What
 * the client sends meanwhile is discarded; then comes the reset, so that this is no clean end. */
static void edge_client_spoil(struct edge_client *client)
{
    edge_client_drop_stream(client, TRUNK_CODE_CANCEL);
    edge_client_extra_clear(client);
    client->spoiled = 1;
    edge_client_input_move(client, EDGE_CLIENT_HALF_ENDED);
    if (client->output_half != EDGE_CLIENT_HALF_ENDED) {
        edge_client_output_move(client, EDGE_CLIENT_HALF_FLUSHING);
    }
    edge_client_linger(client);
}

/* The core (or its trunk) ended the session: the client must see that it is no clean end. */
static void edge_client_cut(struct edge_client *client)
{
    if (edge_client_alert(client, TLS_ALERT_INTERNAL_ERROR) != ERROR_NONE) {
        /* The client is gone, too. */
        LOG(LOG_DEBUG, "client-alert-unsent", LOG_TEXT("state", state_names[client->state]));
    }
    edge_client_close(client, TRANSPORT_CLOSE_RESET);
}

void edge_client_reset(struct edge_client *client)
{
    if (client->state == EDGE_CLIENT_CLOSED) {
        return;
    }
    edge_client_drop_stream(client, TRUNK_CODE_CONNECT_ERROR);
    if (client->state == EDGE_CLIENT_LINGERING) {
        edge_client_close(client, TRANSPORT_CLOSE_RESET);
    } else {
        edge_client_cut(client);
    }
}

void edge_client_linger_over(struct edge_client *client)
{
    /* Once both have sent FIN nothing is left to be told, and a reset could only overtake the alert. */
    bool finished = client->peer_finished && client->output_half == EDGE_CLIENT_HALF_ENDED;
    edge_client_close(client, client->spoiled && !finished ? TRANSPORT_CLOSE_RESET : TRANSPORT_CLOSE_CLEAN);
}

/* True for errors of the connection, after which nothing more can be written. */
static bool edge_client_transport_failed(enum error_code error)
{
    return error == ERROR_PEER_RESET || error == ERROR_PEER_CLOSED || error == ERROR_TRUNCATED ||
           error == ERROR_SYSTEM || error == ERROR_UNREACHABLE;
}

static void edge_client_log(struct edge_client *client, enum log_level level, struct log_counter *counter,
                            const char *event, enum error_code error, uint32_t status)
{
    uint64_t suppressed = 0;
    char text[ADDRESS_TEXT_MAX];
    if (!log_counter_allow(counter, edge_client_relay(client)->scheduler->now_us, &suppressed)) {
        return;
    }
    const char *name = client->origin != NULL ? client->origin->view.server_name : "";
    int alert = tls_last_alert(&client->tls);
    LOG(level, event, LOG_TEXT("peer", edge_client_peer(client, text)), LOG_ERROR_CODE(error),
        LOG_TEXT("sni", name[0] != 0 ? name : NULL), LOG_INTEGER("status", status), LOG_INTEGER("alert", alert),
        LOG_INTEGER("suppressed", suppressed));
}

void edge_client_failed(struct edge_client *client, enum error_code error)
{
    struct relay *relay = edge_client_relay(client);
    bool transport_failed = edge_client_transport_failed(error);
    char text[ADDRESS_TEXT_MAX];
    switch ((enum edge_client_state)client->state) {
    case EDGE_CLIENT_EXPECT_HANDSHAKE:
        relay->counters.handshakes_failed++;
        edge_client_log(client, LOG_INFO, &relay->log_handshake, "client-handshake-failed", error, 0);
        break;
    case EDGE_CLIENT_EXPECT_TRUNK:
    case EDGE_CLIENT_EXPECT_ANSWER:
    case EDGE_CLIENT_RELAYING:
        if (error == ERROR_TRUNCATED) {
            relay->counters.sessions_truncated++;
        } else {
            relay->counters.sessions_client_lost++;
        }
        if (transport_failed) {
            LOG(LOG_DEBUG, "client-lost", LOG_TEXT("peer", edge_client_peer(client, text)), LOG_ERROR_CODE(error));
        } else {
            edge_client_log(client, LOG_INFO, &relay->log_failed, "client-failed", error, 0);
        }
        if (error == ERROR_TRUNCATED && trunk_stream_attached(&client->stream)) {
            /* What came before was good: it is delivered, and then the end that is none. */
            trunk_stream_abort(&client->stream, TRUNK_CODE_CONNECT_ERROR);
            relay_settle_later(relay);
        }
        edge_client_drop_stream(client, TRUNK_CODE_CONNECT_ERROR);
        break;
    case EDGE_CLIENT_LINGERING:
        edge_client_close(client, TRANSPORT_CLOSE_RESET);
        return;
    case EDGE_CLIENT_CLOSED:
    case EDGE_CLIENT_STATE_COUNT:
        return;
    }
    if (transport_failed) {
        /* After close_notify and FIN a client that just goes away loses nothing: what is under way may arrive. */
        edge_client_close(client, client->output_half == EDGE_CLIENT_HALF_ENDED && error == ERROR_TRUNCATED
                                      ? TRANSPORT_CLOSE_CLEAN
                                      : TRANSPORT_CLOSE_RESET);
    } else {
        edge_client_spoil(client);
    }
}

void edge_client_abort(struct edge_client *client, enum tls_alert alert, enum error_code error)
{
    enum error_code flushed = edge_client_alert(client, alert);
    edge_client_failed(client, flushed != ERROR_NONE && flushed != ERROR_NO_MEMORY ? flushed : error);
}

void edge_client_settle(struct edge_client *client)
{
    struct relay *relay = edge_client_relay(client);
    if (client->state != EDGE_CLIENT_RELAYING || client->input_half != EDGE_CLIENT_HALF_ENDED ||
        client->output_half != EDGE_CLIENT_HALF_ENDED || trunk_stream_attached(&client->stream)) {
        return;
    }
    relay->counters.sessions_ended++;
    if (client->peer_finished) {
        edge_client_move(client, EDGE_CLIENT_LINGERING);
        edge_client_linger_over(client);
    } else {
        edge_client_linger(client);
    }
}

/* ------------------------------------------------------------------------------------------------ opening */

/* No session for this client: an alert tells it. */
static void edge_client_refuse(struct edge_client *client, enum error_code error, uint32_t status, enum tls_alert alert)
{
    struct relay *relay = edge_client_relay(client);
    relay->counters.sessions_refused++;
    edge_client_drop_stream(client, TRUNK_CODE_CANCEL);
    enum error_code flushed = edge_client_alert(client, alert);
    edge_client_log(client, LOG_INFO, &relay->log_refused, "client-refused", error, status);
    if (flushed != ERROR_NONE) {
        edge_client_close(client, TRANSPORT_CLOSE_RESET);
        return;
    }
    edge_client_spoil(client);
}

static enum tls_alert edge_client_alert_for(uint32_t status)
{
    bool denied = status == 401 || status == 403 || status == 404 || status == 407 || status == 421;
    return denied ? TLS_ALERT_ACCESS_DENIED : TLS_ALERT_INTERNAL_ERROR;
}

struct metadata edge_client_metadata(const struct edge_client *client)
{
    const struct relay *relay = edge_client_relay(client);
    struct metadata metadata = client->origin->view;
    metadata.client = client->peer;
    metadata.session.known = relay->settings->resume_timeout_ms > 0 &&
                             tls_session_number_seal(relay->session_secret, client->number, metadata.session.id);
    if (client->extra != NULL && client->extra->note != NULL) {
        metadata.session.note = *client->extra->note;
    }
    return metadata;
}

static enum error_code edge_client_open_on(struct edge_client *client, struct uplink *uplink)
{
    struct metadata metadata = edge_client_metadata(client);
    return trunk_stream_open(uplink->link.trunk, &client->stream, &metadata);
}

bool edge_client_open(struct edge_client *client, const struct uplink *except)
{
    struct relay *relay = edge_client_relay(client);
    if (client->origin->view.service[0] == '\0') {
        edge_client_refuse(client, ERROR_UNKNOWN_SERVICE, 0, TLS_ALERT_ACCESS_DENIED);
        return true;
    }
    struct uplink *uplink = pool_pick(&relay->pool, except);
    if (uplink == NULL) {
        return false;
    }
    enum error_code error = edge_client_open_on(client, uplink);
    switch (error) {
    case ERROR_NONE:
        client->extra->attempts++;
        edge_client_move(client, EDGE_CLIENT_EXPECT_ANSWER);
        uplink_count_open(uplink);
        return true;
    case ERROR_STATE:
    case ERROR_LIMIT:
    case ERROR_TRUNK_GOAWAY:
    case ERROR_TRUNK_EXHAUSTED:
    case ERROR_TRUNK_LOST:
        return false; /* something changed since the pick: another one may come */
    default:
        edge_client_refuse(client, error, 0, TLS_ALERT_INTERNAL_ERROR);
        return true;
    }
}

void edge_client_established(struct edge_client *client)
{
    struct relay *relay = edge_client_relay(client);
    bool first = list_empty(&relay->waiting);
    relay->counters.handshakes_completed++;
    client->number = ++relay->sessions_numbered;
    edge_client_move(client, EDGE_CLIENT_EXPECT_TRUNK);
    enum error_code armed = edge_client_arm(client, relay->settings->open_timeout_ms);
    assert(armed == ERROR_NONE && "the timer of the handshake is there");
    (void)armed;
    if (!first || !edge_client_open(client, NULL)) {
        relay_settle_later(relay); /* behind those who wait already */
    }
}

/* The core did not process the request: nothing has happened there, so it may be sent again (RFC 9113 section 8.7). */
static void edge_client_retry(struct edge_client *client, const struct uplink *except)
{
    if (except->state != UPLINK_UP) {
        client->extra->attempts--; /* each trunk goes once, and all of a core that drains go one after the other */
    }
    if (client->extra->attempts >= EDGE_CLIENT_ATTEMPTS_MAX) {
        edge_client_refuse(client, ERROR_REFUSED, 0, TLS_ALERT_INTERNAL_ERROR);
        return;
    }
    edge_client_relay(client)->counters.opens_retried++;
    edge_client_move(client, EDGE_CLIENT_EXPECT_TRUNK);
    if (!edge_client_open(client, except)) {
        relay_settle_later(edge_client_relay(client));
    }
}

/* ------------------------------------------------------------------------------------------------ stream */

static struct edge_client *edge_client_of(struct trunk_stream *stream)
{
    return container_of(stream, struct edge_client, stream);
}

void edge_client_stream_opened(void *owner, struct trunk_stream *stream)
{
    struct edge_client *client = edge_client_of(stream);
    struct relay *relay = edge_client_relay(client);
    (void)owner;
    if (client->state != EDGE_CLIENT_EXPECT_ANSWER) {
        return;
    }
    edge_client_disarm(client);
    client->extra->suspended_us = 0;
    relay->counters.sessions_opened++;
    edge_client_move(client, EDGE_CLIENT_RELAYING);
    client->tick = relay->idle.tick;
    /* The worker's input buffer holds the trunk's bytes now: reading from the client waits for the task. */
    edge_client_defer(client);
}

void edge_client_stream_end(void *owner, struct trunk_stream *stream)
{
    struct edge_client *client = edge_client_of(stream);
    (void)owner;
    if (client->state == EDGE_CLIENT_RELAYING) {
        edge_client_output_move(client, EDGE_CLIENT_HALF_ENDING);
        edge_client_pump_output(client);
        edge_client_extra_settle(client);
    }
}

void edge_client_stream_writable(void *owner, struct trunk_stream *stream)
{
    struct edge_client *client = edge_client_of(stream);
    (void)owner;
    edge_client_defer(client);
}

void edge_client_stream_lost(struct edge_client *client, enum error_code error, uint32_t detail)
{
    char text[ADDRESS_TEXT_MAX];
    edge_client_relay(client)->counters.sessions_trunk_lost++;
    LOG(LOG_DEBUG, "client-stream-lost", LOG_TEXT("peer", edge_client_peer(client, text)), LOG_ERROR_CODE(error),
        LOG_INTEGER("code", detail));
    edge_client_cut(client);
}

void edge_client_stream_closed(void *owner, struct trunk_stream *stream, enum error_code error, uint32_t detail)
{
    struct edge_client *client = edge_client_of(stream);
    relay_settle_later(edge_client_relay(client));
    if (client->state == EDGE_CLIENT_EXPECT_ANSWER) {
        if (error == ERROR_REFUSED && detail == 0 && client->extra->suspended_us != 0) {
            /* An earlier request may have been processed: by this core only. */
            edge_client_suspend_refused(client, owner);
        } else if (error == ERROR_REFUSED && detail == 0) {
            edge_client_retry(client, owner);
        } else {
            edge_client_refuse(client, error, error == ERROR_REFUSED ? detail : 0, edge_client_alert_for(detail));
        }
        return;
    }
    if (client->state != EDGE_CLIENT_RELAYING) {
        return;
    }
    /* RFC 9113 section 8.1: NO_ERROR after END_STREAM means only that the rest of the client's bytes is not wanted. */
    bool unwanted =
        error == ERROR_PEER_RESET && detail == TRUNK_CODE_NO_ERROR && client->output_half != EDGE_CLIENT_HALF_OPEN;
    /* A core that does not know the session any more has ended it, and heard of both ends. */
    bool over = error == ERROR_REFUSED && client->input_half == EDGE_CLIENT_HALF_ENDED &&
                client->output_half != EDGE_CLIENT_HALF_OPEN && detail == STATUS_GONE;
    if (error != ERROR_NONE && !unwanted && !over) {
        edge_client_stream_lost(client, error, detail);
        return;
    }
    if (client->extra != NULL) {
        chain_clear(&client->extra->input);
    }
    edge_client_input_move(client, EDGE_CLIENT_HALF_ENDED);
    edge_client_settle(client);
    edge_client_defer(client); /* what still comes from the client is discarded */
}

/* ------------------------------------------------------------------------------------------------ life */

/* It has not taken a byte for too long, so it would not take an alert either. */
static void edge_client_stalled(struct edge_client *client)
{
    struct relay *relay = edge_client_relay(client);
    relay->counters.sessions_stalled++;
    edge_client_log(client, LOG_INFO, &relay->log_timeout, "client-stalled", ERROR_TIMEOUT, 0);
    edge_client_drop_stream(client, TRUNK_CODE_CONNECT_ERROR);
    edge_client_close(client, TRANSPORT_CLOSE_RESET);
}

void edge_client_shed(struct edge_client *client)
{
    struct relay *relay = edge_client_relay(client);
    uint64_t suppressed = 0;
    char text[ADDRESS_TEXT_MAX];
    relay->counters.sessions_shed++;
    if (log_counter_allow(&relay->log_shed, relay->scheduler->now_us, &suppressed)) {
        LOG(LOG_WARNING, "client-shed", LOG_TEXT("peer", edge_client_peer(client, text)),
            LOG_TEXT("sni", client->origin->view.server_name),
            LOG_INTEGER("held", trunk_stream_charged(&client->stream)), LOG_INTEGER("suppressed", suppressed));
    }
    edge_client_drop_stream(client, TRUNK_CODE_CONNECT_ERROR);
    edge_client_close(client, TRANSPORT_CLOSE_RESET);
}

void edge_client_idle_over(struct edge_client *client)
{
    struct relay *relay = edge_client_relay(client);
    relay->counters.sessions_idle++;
    edge_client_log(client, LOG_INFO, &relay->log_timeout, "client-idle", ERROR_TIMEOUT, 0);
    edge_client_reset(client);
}

void edge_client_timer_fired(struct edge_client *client)
{
    switch ((enum edge_client_state)client->state) {
    case EDGE_CLIENT_EXPECT_HANDSHAKE:
        edge_client_abort(client, TLS_ALERT_HANDSHAKE_FAILURE, ERROR_TIMEOUT);
        break;
    case EDGE_CLIENT_EXPECT_TRUNK:
    case EDGE_CLIENT_EXPECT_ANSWER:
        edge_client_refuse(client, ERROR_TIMEOUT, 0, TLS_ALERT_INTERNAL_ERROR);
        break;
    case EDGE_CLIENT_LINGERING:
        edge_client_linger_over(client);
        break;
    case EDGE_CLIENT_RELAYING:
        if (edge_client_has_pending(client)) {
            edge_client_stalled(client);
        }
        break;
    case EDGE_CLIENT_CLOSED:
    case EDGE_CLIENT_STATE_COUNT:
        break;
    }
}

static void edge_client_read(struct edge_client *client)
{
    if (client->state == EDGE_CLIENT_EXPECT_HANDSHAKE) {
        edge_client_handshake_later(client);
    } else {
        edge_client_pump_input(client);
    }
}

/* Whatever waits, either way. */
static void edge_client_pump(struct edge_client *client)
{
    edge_client_pump_output(client);
    edge_client_pump_early(client);
    edge_client_read(client);
    edge_client_extra_settle(client);
}

static void edge_client_run(struct edge_client *client)
{
    if (client->state == EDGE_CLIENT_CLOSED) {
        edge_client_free(client);
        return;
    }
    if (client->extra != NULL && client->extra->leaving) {
        return; /* its turn is for all of this */
    }
    edge_client_pump(client);
}

/* Whoever is deferred from now on waits for the next batch. */
static void edge_client_run_listed(struct relay *relay)
{
    struct list batch;
    struct list_node *node;
    list_init(&batch);
    list_splice(&batch, &relay->due);
    while ((node = list_first(&batch)) != NULL) {
        struct edge_client *client = container_of(node, struct edge_client_extra, due)->client;
        list_remove(node);
        client->due = 0;
        edge_client_run(client);
    }
}

/* The walk may miss some, as clients that run change the slab: it is repeated until it finds none. */
static void edge_client_run_unlisted(struct relay *relay)
{
    struct edge_client *client = slab_next(&relay->client_slab, NULL);
    relay->due_unlisted = false;
    while (client != NULL) {
        struct edge_client *next = slab_next(&relay->client_slab, client);
        if (client->due && (client->extra == NULL || !list_node_linked(&client->extra->due))) {
            client->due = 0;
            relay->due_unlisted = true;
            edge_client_run(client);
        }
        client = next;
    }
    if (relay->due_unlisted) {
        scheduler_defer(relay->scheduler, &relay->run_due);
    }
}

void edge_client_run_due(struct task *task)
{
    struct relay *relay = container_of(task, struct relay, run_due);
    bool unlisted = relay->due_unlisted;
    edge_client_run_listed(relay);
    if (unlisted) {
        edge_client_run_unlisted(relay);
    }
}

/* Its reset came. */
static void edge_client_broken(struct edge_client *client)
{
    if (client->state == EDGE_CLIENT_CLOSED) {
        return;
    }
    edge_client_pump_output(client); /* what waits may find it, and does not wait any more */
    if (edge_client_reading_paused(client)) {
        edge_client_failed(client, ERROR_PEER_RESET); /* no read would find it soon */
        return;
    }
    edge_client_read(client);
    edge_client_extra_settle(client);
}

void edge_client_take(struct edge_client *client, unsigned events)
{
    if (events & TRANSPORT_BROKEN) {
        edge_client_broken(client);
        return;
    }
    if ((events & TRANSPORT_WRITABLE) && client->state == EDGE_CLIENT_RELAYING) {
        edge_client_disarm(client); /* it takes bytes */
    }
    if (client->state != EDGE_CLIENT_CLOSED) {
        edge_client_pump(client);
    }
}

void edge_client_ready(struct transport *transport, unsigned events)
{
    struct edge_client *client = container_of(transport, struct edge_client, slot);
    bool leaves = (events & TRANSPORT_BROKEN) || ((events & TRANSPORT_HANGUP) && !client->peer_finished);
    if (leaves && edge_client_leave_later(client, events)) {
        return;
    }
    if (events & TRANSPORT_BROKEN) {
        edge_client_broken(client);
        return;
    }
    if (events & TRANSPORT_WRITABLE) {
        if (client->state == EDGE_CLIENT_RELAYING) {
            edge_client_disarm(client); /* it takes bytes */
        }
        edge_client_pump_output(client);
    }
    if (events & TRANSPORT_READABLE) {
        edge_client_read(client);
    }
    edge_client_extra_settle(client);
}

enum error_code edge_client_init(struct edge_client *client, size_t listener, const struct address *peer,
                                 const struct address *local)
{
    struct edge_client_extra *extra = edge_client_extra_get(client);
    if (extra == NULL) {
        return ERROR_NO_MEMORY;
    }
    extra->listener = (uint16_t)listener;
    address_pack(peer, &client->peer);
    address_pack(local, &extra->local);
    return ERROR_NONE;
}

void edge_client_start(struct edge_client *client)
{
    enum error_code armed = edge_client_arm(client, edge_client_relay(client)->settings->handshake_timeout_ms);
    assert(armed == ERROR_NONE && "the timer was made with the client");
    (void)armed;
    edge_client_handshake_later(client); /* the ClientHello may be there already */
}

void edge_client_abandon(struct edge_client *client)
{
    edge_client_free(client);
}

void edge_client_free(struct edge_client *client)
{
    struct relay *relay = edge_client_relay(client);
    assert(!client->due && "whoever frees a client takes it off the list first");
    if (client->state == EDGE_CLIENT_EXPECT_HANDSHAKE) {
        relay->handshake_count--;
    }
    admission_leave(relay->admission, &client->peer, relay->scheduler->now_us);
    edge_idle_forget(&relay->idle, client);
    edge_client_drop_stream(client, TRUNK_CODE_CONNECT_ERROR);
    transport_close(&client->slot.transport, TRANSPORT_CLOSE_RESET);
    tls_dispose(&client->tls);
    edge_client_extra_drop(client);
    metadata_shared_release(&client->origin);
    relay->client_count--;
    slab_free(&relay->client_slab, client);
    relay_settle_later(relay);
}
