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

static const char *const stage_names[CLIENT_STAGE_COUNT] = {
    [CLIENT_STAGE_CONNECT] = "connecting",
    [CLIENT_STAGE_HANDSHAKE] = "in the TLS handshake",
    [CLIENT_STAGE_FIRST_ECHO] = "waiting for its first echo",
    [CLIENT_STAGE_OPEN] = "while open",
};

/* A bit per state that may follow. */
static const uint16_t moves[CLIENT_STATE_COUNT] = {
    [CLIENT_NEW] = 1U << CLIENT_CONNECTING | 1U << CLIENT_CLOSED,
    [CLIENT_CONNECTING] = 1U << CLIENT_HANDSHAKE | 1U << CLIENT_CLOSED | 1U << CLIENT_FAILED,
    [CLIENT_HANDSHAKE] = 1U << CLIENT_PROVING | 1U << CLIENT_CLOSED | 1U << CLIENT_FAILED,
    [CLIENT_PROVING] = 1U << CLIENT_OPEN | 1U << CLIENT_CLOSED | 1U << CLIENT_FAILED,
    [CLIENT_OPEN] = 1U << CLIENT_CLOSING | 1U << CLIENT_FAILED,
    [CLIENT_CLOSING] = 1U << CLIENT_CLOSED,
    [CLIENT_CLOSED] = 0,
    [CLIENT_FAILED] = 0,
};

static void client_move(struct client *client, enum client_state to)
{
    assert((moves[client->state] >> to & 1U) != 0);
    client->party->counts[client->state]--;
    client->party->counts[to]++;
    client->state = (uint8_t)to;
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
        return CLIENT_STAGE_FIRST_ECHO;
    default:
        return CLIENT_STAGE_OPEN;
    }
}

static void client_release(struct client *client, enum transport_close how)
{
    scheduler_disarm(client_scheduler(client), &client->deadline);
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
    snprintf(tally->first_failure, sizeof(tally->first_failure), "client %u, %s: %s%s", client->number,
             stage_names[stage], tally_error_text(error), detail);
}

/* `cause` is an errno, or 0. */
static void client_fail(struct client *client, enum error_code error, int cause)
{
    struct client_party *party = client->party;
    enum client_stage stage = client_stage(client);
    uint64_t outstanding = message_reader_outstanding(&client->reader);

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
    uint64_t outstanding = message_reader_outstanding(&client->reader);
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
    client_lose(container_of(timer, struct client, deadline), ERROR_TIMEOUT, 0);
}

/* Within outbox_begin and client_flush: queues one message. */
static enum error_code write_message(struct client *client, uint64_t intended_us)
{
    struct client_party *party = client->party;
    const struct message message = {.sequence = client->reader.sent,
                                    .intended_us = intended_us,
                                    .client = client->number,
                                    .size = party->message_bytes};
    message_write(&message, party->message);
    enum error_code error = tls_send(&client->tls, party->message, party->message_bytes);
    if (error == ERROR_NONE) {
        client->reader.sent++;
        party->tally->sent++;
        party->in_flight++;
    }
    return error;
}

static void on_whole_message(struct message_reader *reader, const struct message *message)
{
    struct client *client = container_of(reader, struct client, reader);
    struct client_party *party = client->party;
    uint64_t now_us = clock_monotonic_us();

    party->tally->echoed++;
    if (client->state == CLIENT_PROVING) {
        histogram_record(&party->tally->first_echo, now_us - client->since_us);
        party->tally->opened++;
        scheduler_disarm(client_scheduler(client), &client->deadline);
        client_move(client, CLIENT_OPEN);
        party->settled(party);
        return;
    }
    histogram_record(&party->tally->echo, now_us - message->intended_us);
}

static void on_output(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct client *client = container_of(tls, struct client, tls);
    enum error_code error =
        outbox_add(&client->outbox, client->party->scratch, &client->socket.transport, bytes, length);
    if (error != ERROR_NONE && client->fault == ERROR_NONE) {
        client->fault = error;
    }
}

static void on_established(struct tls_session *tls)
{
    struct client *client = container_of(tls, struct client, tls);
    struct tally *tally = client->party->tally;
    uint64_t now_us = clock_monotonic_us();

    if (tally->handshake.count == 0) {
        struct tls_peer_info info;
        tls_peer_info(tls, &info);
        tally->tls_version = info.version;
        tally->tls_suite = info.suite;
    }
    histogram_record(&tally->handshake, now_us - client->since_us);
    client->since_us = now_us;
    client_move(client, CLIENT_PROVING);
    client->fault = write_message(client, now_us);
}

static void on_data(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct client *client = container_of(tls, struct client, tls);
    struct client_party *party = client->party;
    if (client->fault != ERROR_NONE) {
        return;
    }
    uint64_t before = message_reader_outstanding(&client->reader);
    if (message_reader_feed(&client->reader, bytes, length, &party->tally->faults, on_whole_message) != ERROR_NONE) {
        client->fault = ERROR_INVALID;
    }
    party->in_flight -= before - message_reader_outstanding(&client->reader);
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
        error = client->fault;
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
    histogram_record(&party->tally->connect, now_us - client->since_us);
    client->since_us = now_us;
    client_move(client, CLIENT_HANDSHAKE);
    error = tls_init_client(&client->tls, party->context, party->server_name, &tls_events);
    if (error != ERROR_NONE) {
        client_fail(client, error, 0);
        return;
    }
    outbox_begin(&client->outbox, party->scratch);
    client_flush(client, tls_start(&client->tls));
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
        if (!client_flush(client, tls_receive(&client->tls, scratch->input, length))) {
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

void client_init(struct client *client, struct client_party *party, uint32_t number)
{
    memset(client, 0, sizeof(*client));
    client->party = party;
    client->number = number;
    client->state = CLIENT_NEW;
    chain_init(&client->outbox.pending);
    timer_init(&client->deadline, client_deadline_passed);
    message_reader_init(&client->reader, number, party->message_bytes);
    party->counts[CLIENT_NEW]++;
}

void client_start(struct client *client)
{
    struct client_party *party = client->party;
    struct address source;

    party->tally->started++;
    client_move(client, CLIENT_CONNECTING);
    client->since_us = clock_monotonic_us();
    const struct address *from = dial_source(party->dial, client->number, &source);
    enum error_code error = socket_connect(&client->socket, party->loop, from, &party->dial->peer, on_ready);
    if (error != ERROR_NONE) {
        client_fail(client, error, errno);
        return;
    }
    scheduler_arm(client_scheduler(client), &client->deadline, party->opening_timeout_ms);
}

void client_send(struct client *client, uint64_t intended_us)
{
    struct client_party *party = client->party;
    assert(client->state == CLIENT_OPEN);
    if (chain_bytes(&client->outbox.pending) > CLIENT_BACKLOG_MAX_BYTES) {
        party->tally->unsent++;
        return;
    }
    histogram_record(&party->tally->lag, clock_monotonic_us() - intended_us);
    outbox_begin(&client->outbox, party->scratch);
    client_flush(client, write_message(client, intended_us));
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
        client_move(client, CLIENT_CLOSING);
        scheduler_arm(client_scheduler(client), &client->deadline, CLIENT_CLOSE_TIMEOUT_MS);
        outbox_begin(&client->outbox, client->party->scratch);
        client_flush(client, tls_finish(&client->tls));
        return;
    default:
        client_close(client);
        return;
    }
}

void client_dispose(struct client *client)
{
    client_release(client, TRANSPORT_CLOSE_RESET);
}
