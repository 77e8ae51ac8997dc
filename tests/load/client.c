/*
 * See client.h. Errors that show while TLS calls back are noted in `fault` and acted upon when the call has returned,
 * because a connection may not be disposed of by its own events.
 */
#include "tests/load/client.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mux/clock.h"
#include "mux/memory.h"

static const struct tls_events tls_events;

static const char *const stage_names[CLIENT_STAGE_COUNT] = {
    [CLIENT_STAGE_CONNECT] = "connecting",
    [CLIENT_STAGE_HANDSHAKE] = "in the TLS handshake",
    [CLIENT_STAGE_FIRST_BYTE] = "waiting for the service",
    [CLIENT_STAGE_OPEN] = "while open",
};

/* A bit per state that may follow. */
static const uint16_t moves[CLIENT_STATE_COUNT] = {
    [CLIENT_NEW] = 1U << CLIENT_CONNECTING | 1U << CLIENT_CLOSED,
    [CLIENT_CONNECTING] = 1U << CLIENT_HANDSHAKE | 1U << CLIENT_CLOSED | 1U << CLIENT_FAILED,
    [CLIENT_HANDSHAKE] = 1U << CLIENT_PROVING | 1U << CLIENT_CLOSED | 1U << CLIENT_FAILED,
    [CLIENT_PROVING] = 1U << CLIENT_OPEN | 1U << CLIENT_CLOSED | 1U << CLIENT_FAILED,
    [CLIENT_OPEN] = 1U << CLIENT_CLOSING | 1U << CLIENT_CLOSED | 1U << CLIENT_FAILED | 1U << CLIENT_DROPPED,
    [CLIENT_CLOSING] = 1U << CLIENT_CLOSED,
    [CLIENT_CLOSED] = 1U << CLIENT_NEW,
    [CLIENT_FAILED] = 1U << CLIENT_NEW,
    [CLIENT_DROPPED] = 1U << CLIENT_CONNECTING | 1U << CLIENT_CLOSED,
};

/* A copy of what TLS needs to resume. */
struct client_ticket {
    uint32_t length;
    uint8_t bytes[];
};

/* What only a client has that opens, closes, or is to come back with a ticket. */
struct client_attempt {
    struct client *client;
    struct timer deadline;
    uint64_t since_us;            /* when the present step of opening began */
    struct client_ticket *ticket; /* until the handshake begins; NULL: none */
    uint8_t heard;                /* the service has sent its first byte */
};

/* Keeps the count of clients that could send. */
static void client_update_ready(struct client *client)
{
    bool ready = client->state == CLIENT_OPEN && exchange_may_send(&client->exchange);
    client->party->ready = client->party->ready + ready - client->ready;
    client->ready = ready;
}

static void client_move(struct client *client, enum client_state to)
{
    assert((moves[client->state] >> to & 1U) != 0);
    client->party->counts[client->state]--;
    client->party->counts[to]++;
    client->state = (uint8_t)to;
    client_update_ready(client);
}

static struct scheduler *client_scheduler(const struct client *client)
{
    return loop_scheduler(client->party->loop);
}

static enum client_stage client_stage(const struct client *client)
{
    switch (client->state) {
    case CLIENT_CONNECTING:
        return CLIENT_STAGE_CONNECT;
    case CLIENT_HANDSHAKE:
        return CLIENT_STAGE_HANDSHAKE;
    case CLIENT_PROVING:
        return CLIENT_STAGE_FIRST_BYTE;
    default:
        return CLIENT_STAGE_OPEN;
    }
}

static void attempt_end(struct client *client)
{
    if (client->attempt != NULL) {
        scheduler_disarm(client_scheduler(client), &client->attempt->deadline);
        memory_free(client->attempt->ticket);
        slab_free(&client->party->attempts, client->attempt);
        client->attempt = NULL;
    }
}

static void client_release(struct client *client, enum transport_close how)
{
    attempt_end(client);
    exchange_end(&client->exchange, client->party->plan);
    tls_dispose(&client->tls);
    transport_close(&client->socket.transport, how);
    chain_clear(&client->outbox.pending);
}

static void note_first_failure(struct client *client, enum client_stage stage, enum error_code error, int cause)
{
    struct tally *tally = client->party->tally;
    if (tally->failed > 1) {
        return;
    }
    int alert = client->tls.backend == NULL ? 0 : tls_last_alert(&client->tls);
    char detail[64] = "";
    if (alert != 0) {
        snprintf(detail, sizeof(detail), " (TLS alert %d %s)", alert < 0 ? -alert : alert,
                 alert < 0 ? "received" : "sent");
    } else if (cause != 0 && (error == ERROR_UNREACHABLE || error == ERROR_SYSTEM || error == ERROR_LIMIT)) {
        snprintf(detail, sizeof(detail), " (%s)", strerror(cause));
    }
    snprintf(tally->first_failure, sizeof(tally->first_failure), "client %u, %s: %s%s",
             exchange_client(&client->exchange), stage_names[stage], tally_error_text(error), detail);
}

/* `cause` is an errno, or 0. */
static void client_fail(struct client *client, enum error_code error, int cause)
{
    struct client_party *party = client->party;
    enum client_stage stage = client_stage(client);
    uint64_t outstanding = exchange_outstanding(&client->exchange);

    party->tally->failed++;
    party->tally->failures[stage][error]++;
    party->tally->unanswered += outstanding;
    party->in_flight -= outstanding;
    note_first_failure(client, stage, error, cause);
    client_release(client, TRANSPORT_CLOSE_RESET);
    client_move(client, CLIENT_FAILED);
    if (stage != CLIENT_STAGE_OPEN) {
        party->settled(party);
    }
}

static void client_close(struct client *client)
{
    struct client_party *party = client->party;
    bool connected = client->state == CLIENT_PROVING || client->state == CLIENT_OPEN || client->state == CLIENT_CLOSING;
    uint64_t outstanding = connected ? exchange_outstanding(&client->exchange) : 0;
    party->tally->stalled += outstanding > 0;
    party->tally->unanswered += outstanding;
    party->in_flight -= outstanding;
    client_release(client, TRANSPORT_CLOSE_CLEAN);
    client_move(client, CLIENT_CLOSED);
}

/* Closes or fails, as the state demands, for an end that is not of our making. */
static void client_lose(struct client *client, enum error_code error, int cause)
{
    if (client->state != CLIENT_CLOSING) {
        client_fail(client, error, cause);
        return;
    }
    if (client->peer_ended) {
        client->party->tally->ended_clean++;
    } else {
        client->party->tally->ended_other++;
    }
    client_close(client);
}

static void client_deadline_passed(struct timer *timer)
{
    client_lose(container_of(timer, struct client_attempt, deadline)->client, ERROR_TIMEOUT, 0);
}

/* The client's attempt, made if there is none; NULL when memory is out. */
static struct client_attempt *attempt_get(struct client *client)
{
    if (client->attempt == NULL) {
        client->attempt = slab_alloc(&client->party->attempts);
        if (client->attempt != NULL) {
            client->attempt->client = client;
            timer_init(&client->attempt->deadline, client_deadline_passed);
        }
    }
    return client->attempt;
}

/* False when memory is out. */
static bool attempt_begin(struct client *client, uint64_t timeout_ms)
{
    struct client_attempt *attempt = attempt_get(client);
    if (attempt == NULL) {
        return false;
    }
    scheduler_arm(client_scheduler(client), &attempt->deadline, timeout_ms);
    return true;
}

/* A copy of the ticket if the server has sent one: else, or when memory is out, NULL. TLS holds it until the connection
 * is disposed of, so there is no need for the copy before. */
static struct client_ticket *ticket_copy(const struct client *client)
{
    const struct client_party *party = client->party;
    size_t length = 0;
    if (party->ticket_room == NULL ||
        tls_ticket_export(&client->tls, party->ticket_room, CLIENT_TICKET_MAX_BYTES, &length) != ERROR_NONE) {
        return NULL;
    }
    struct client_ticket *ticket = memory_alloc(sizeof(*ticket) + length);
    if (ticket != NULL) {
        ticket->length = (uint32_t)length;
        memcpy(ticket->bytes, party->ticket_room, length);
    }
    return ticket;
}

/* A ticket is good for one connection (RFC 8446 appendix C.4). One that cannot be used means a full handshake. */
static void ticket_use(struct client *client)
{
    struct client_attempt *attempt = client->attempt;
    if (attempt->ticket != NULL) {
        (void)tls_ticket_import(&client->tls, attempt->ticket->bytes, attempt->ticket->length);
        memory_free(attempt->ticket);
        attempt->ticket = NULL;
    }
}

/* Within outbox_begin and client_flush: queues `length` bytes of the party's message room; none were written when
 * memory was out. */
static enum error_code send_message(struct client *client, size_t length, uint64_t outstanding_before)
{
    struct client_party *party = client->party;
    if (length == 0) {
        return ERROR_NO_MEMORY;
    }
    party->in_flight += exchange_outstanding(&client->exchange) - outstanding_before;
    client_update_ready(client);
    return tls_send(&client->tls, &tls_events, party->message, length);
}

/* The service serves: the client is open. */
static void client_opened(struct client *client, uint64_t now_us)
{
    struct client_party *party = client->party;
    if (client->returning) {
        party->tally->returned++;
        histogram_record(&party->tally->measures[MEASURE_BACK], now_us - party->storm_us);
        client->returning = 0;
    } else {
        party->tally->opened++;
    }
    attempt_end(client);
    client_move(client, CLIENT_OPEN);
    party->settled(party);
}

void client_result(struct exchange *exchange, const struct exchange_result *result)
{
    struct client *client = container_of(exchange, struct client, exchange);
    uint64_t now_us = clock_monotonic_us();
    if (result->measured) {
        uint64_t took_us = now_us > result->since_us ? now_us - result->since_us : 0;
        histogram_record(&client->party->tally->measures[result->measure], took_us);
    }
    if (result->proved && client->state == CLIENT_PROVING) {
        client_opened(client, now_us);
    }
}

static void on_output(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct client *client = container_of(tls, struct client, tls);
    enum error_code error =
        outbox_add(&client->outbox, client->party->scratch, &client->socket.transport, bytes, length);
    if (error != ERROR_NONE && client->fault == ERROR_NONE) {
        client->fault = (uint8_t)error;
    }
}

static void on_established(struct tls_session *tls, const struct tls_peer_info *peer)
{
    struct client *client = container_of(tls, struct client, tls);
    struct client_party *party = client->party;
    struct tally *tally = party->tally;
    uint64_t now_us = clock_monotonic_us();

    if (tally->tls_version == 0) {
        tally->tls_version = peer->version;
        tally->tls_suite = peer->suite;
    }
    histogram_record(&tally->measures[peer->resumed ? MEASURE_HANDSHAKE_RESUMED : MEASURE_HANDSHAKE_FULL],
                     now_us - client->attempt->since_us);
    client->attempt->since_us = now_us;
    client_move(client, CLIENT_PROVING);
    size_t length = exchange_open(&client->exchange, party->plan, now_us, party->message);
    client->fault = (uint8_t)send_message(client, length, 0);
    if (client->fault == ERROR_NONE && exchange_proves_itself(&client->exchange)) {
        client_opened(client, now_us);
    }
}

static void on_data(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct client *client = container_of(tls, struct client, tls);
    struct client_party *party = client->party;
    if (client->fault != ERROR_NONE || length == 0) {
        return;
    }
    if (client->state == CLIENT_PROVING && !client->attempt->heard) {
        client->attempt->heard = 1;
        histogram_record(&party->tally->measures[MEASURE_FIRST_BYTE], clock_monotonic_us() - client->attempt->since_us);
    }
    uint64_t before = exchange_outstanding(&client->exchange);
    client->fault = (uint8_t)exchange_receive(&client->exchange, party->plan, bytes, length);
    party->in_flight -= before - exchange_outstanding(&client->exchange);
    client_update_ready(client);
}

static void on_end(struct tls_session *tls)
{
    struct client *client = container_of(tls, struct client, tls);
    client->peer_ended = 1;
    if (client->state != CLIENT_CLOSING && client->fault == ERROR_NONE) {
        client->fault = ERROR_PEER_CLOSED;
    }
}

static const struct tls_events tls_events = {
    .output = on_output,
    .established = on_established,
    .data = on_data,
    .end = on_end,
};

/* Writes what was gathered, then acts on what went wrong meanwhile: `error`, or the fault noted by an event. False
 * when the client has failed or closed. */
static bool client_flush(struct client *client, enum error_code error)
{
    enum error_code write_error = outbox_flush(&client->outbox, client->party->scratch, &client->socket.transport);
    int cause = write_error == ERROR_NONE ? 0 : errno;
    if (error == ERROR_NONE) {
        error = (enum error_code)client->fault;
    }
    if (error == ERROR_NONE) {
        error = write_error;
    }
    if (error != ERROR_NONE) {
        client_lose(client, error, cause);
        return false;
    }
    if (client->state == CLIENT_CLOSING && !client->finished && chain_empty(&client->outbox.pending)) {
        client->finished = 1;
        transport_finish(&client->socket.transport);
    }
    return true;
}

static void client_begin_tls(struct client *client)
{
    struct client_party *party = client->party;
    enum error_code error = socket_connected(&client->socket);
    if (error == ERROR_AGAIN_LATER) {
        return;
    }
    if (error != ERROR_NONE) {
        client_fail(client, error, errno);
        return;
    }
    uint64_t now_us = clock_monotonic_us();
    histogram_record(&party->tally->measures[MEASURE_CONNECT], now_us - client->attempt->since_us);
    client->attempt->since_us = now_us;
    client_move(client, CLIENT_HANDSHAKE);
    error = tls_init_client(&client->tls, party->context, party->server_name, &party->tls_memory);
    if (error != ERROR_NONE) {
        client_fail(client, error, 0);
        return;
    }
    ticket_use(client);
    outbox_begin(&client->outbox, party->scratch);
    client_flush(client, tls_start(&client->tls, &tls_events));
}

/* Reads until the socket is empty, the peer has ended, or the client is gone. */
static void client_read(struct client *client)
{
    struct scratch *scratch = client->party->scratch;
    for (;;) {
        size_t length = 0;
        enum error_code error = transport_read(&client->socket.transport, scratch->input, SCRATCH_INPUT_BYTES, &length);
        if (error == ERROR_WOULD_BLOCK) {
            return;
        }
        if (error != ERROR_NONE) {
            client_lose(client, error, errno);
            return;
        }
        if (length == 0) {
            client_lose(client, client->peer_ended ? ERROR_PEER_CLOSED : ERROR_TRUNCATED, 0);
            return;
        }
        outbox_begin(&client->outbox, scratch);
        if (!client_flush(client, tls_receive(&client->tls, &tls_events, scratch->input, length))) {
            return;
        }
    }
}

static void on_ready(struct transport *transport, unsigned events)
{
    struct socket_transport *socket = container_of(transport, struct socket_transport, transport);
    struct client *client = container_of(socket, struct client, socket);

    if (client->state == CLIENT_CONNECTING) {
        if ((events & TRANSPORT_WRITABLE) != 0) {
            client_begin_tls(client);
        }
        if (client->state != CLIENT_HANDSHAKE) {
            return;
        }
    } else if ((events & TRANSPORT_WRITABLE) != 0 && !chain_empty(&client->outbox.pending)) {
        outbox_begin(&client->outbox, client->party->scratch);
        if (!client_flush(client, ERROR_NONE)) {
            return;
        }
    }
    if ((events & TRANSPORT_READABLE) != 0) {
        client_read(client);
    }
}

static const struct transport_binding client_binding = {&socket_transport_ops, on_ready};

void client_party_init(struct client_party *party)
{
    slab_init(&party->attempts, "attempts", sizeof(struct client_attempt));
    tls_memory_init(&party->tls_memory);
    slab_init(&party->answers, "answers", sizeof(struct exchange_answer));
    slab_init(&party->partials, "partials", sizeof(struct message_partial));
}

void client_party_dispose(struct client_party *party)
{
    if (party->attempts.name != NULL) {
        slab_dispose(&party->attempts);
        slab_group_dispose(&party->tls_memory);
        slab_dispose(&party->answers);
        slab_dispose(&party->partials);
    }
}

void client_init(struct client *client, struct client_party *party, enum exchange_kind kind, uint32_t number)
{
    memset(client, 0, sizeof(*client));
    client->party = party;
    client->state = CLIENT_NEW;
    chain_init(&client->outbox.pending);
    exchange_init(&client->exchange, kind, number);
    party->counts[CLIENT_NEW]++;
}

void client_start(struct client *client)
{
    struct client_party *party = client->party;
    struct exchange *exchange = &client->exchange;
    struct address source;

    if (client->state == CLIENT_NEW) {
        party->tally->started++;
    }
    client_move(client, CLIENT_CONNECTING);
    exchange_init(exchange, (enum exchange_kind)exchange->kind, exchange_client(exchange));
    client->peer_ended = 0;
    client->finished = 0;
    client->fault = ERROR_NONE;
    if (!attempt_begin(client, party->opening_timeout_ms)) {
        client_fail(client, ERROR_NO_MEMORY, 0);
        return;
    }
    client->attempt->since_us = clock_monotonic_us();
    const struct address *from = dial_source(party->dial, exchange_client(exchange), &source);
    enum error_code error = socket_connect(&client->socket, party->loop, from, &party->dial->peer, &client_binding);
    if (error != ERROR_NONE) {
        client_fail(client, error, errno);
    }
}

static bool backlog_is_full(struct client *client)
{
    if (chain_bytes(&client->outbox.pending) <= CLIENT_BACKLOG_MAX_BYTES) {
        return false;
    }
    client->party->tally->unsent++;
    return true;
}

void client_send(struct client *client, uint64_t intended_us)
{
    struct client_party *party = client->party;
    assert(client->ready);
    if (backlog_is_full(client)) {
        return;
    }
    party->tally->scheduled++;
    histogram_record(&party->tally->measures[MEASURE_LAG], clock_monotonic_us() - intended_us);
    outbox_begin(&client->outbox, party->scratch);
    uint64_t before = exchange_outstanding(&client->exchange);
    size_t length = exchange_send(&client->exchange, party->plan, intended_us, party->message);
    client_flush(client, send_message(client, length, before));
}

void client_ping(struct client *client, uint64_t intended_us)
{
    struct client_party *party = client->party;
    assert(client->state == CLIENT_OPEN);
    if (backlog_is_full(client)) {
        return;
    }
    histogram_record(&party->tally->measures[MEASURE_LAG], clock_monotonic_us() - intended_us);
    outbox_begin(&client->outbox, party->scratch);
    uint64_t before = exchange_outstanding(&client->exchange);
    size_t length = exchange_ping(&client->exchange, party->plan, intended_us, party->message);
    client_flush(client, send_message(client, length, before));
}

void client_drop(struct client *client)
{
    struct client_party *party = client->party;
    uint64_t outstanding = exchange_outstanding(&client->exchange);
    assert(client->state == CLIENT_OPEN);
    struct client_ticket *ticket = ticket_copy(client);
    party->tally->dropped++;
    party->tally->abandoned += outstanding;
    party->in_flight -= outstanding;
    client_release(client, TRANSPORT_CLOSE_RESET);
    if (ticket != NULL && attempt_get(client) != NULL) {
        client->attempt->ticket = ticket;
    } else {
        memory_free(ticket);
    }
    client->returning = 1;
    client_move(client, CLIENT_DROPPED);
}

void client_end(struct client *client)
{
    if (client->state != CLIENT_CLOSED && client->state != CLIENT_FAILED) {
        client_close(client);
    }
}

void client_finish(struct client *client)
{
    switch (client->state) {
    case CLIENT_CLOSED:
    case CLIENT_FAILED:
        return;
    case CLIENT_CLOSING:
        client->party->tally->ended_other++;
        client_close(client);
        return;
    case CLIENT_OPEN:
        if (!attempt_begin(client, CLIENT_CLOSE_TIMEOUT_MS)) {
            client->party->tally->ended_other++;
            client_close(client);
            return;
        }
        client_move(client, CLIENT_CLOSING);
        outbox_begin(&client->outbox, client->party->scratch);
        client_flush(client, tls_finish(&client->tls, &tls_events));
        return;
    default:
        client_close(client);
        return;
    }
}

void client_renew(struct client *client)
{
    client_move(client, CLIENT_NEW);
}

void client_dispose(struct client *client)
{
    client_release(client, TRANSPORT_CLOSE_RESET);
}
