/*
 * Bytes of one client, both ways: see client.h. Reads go to the worker's scratch, ciphertext is gathered there; only
 * what the transport or the stream does not take at once is kept in the client. One thread.
 */
#include "edge/client.h"

#include "edge/relay.h"
#include "edge/route.h"
#include "mux/memory.h"

/* Of the first flight nothing longer is needed, and it bounds what may come early with the handshake's end. */
#define HANDSHAKE_READ_BYTES 16384U

/* The stream's room may be smaller than the rest of a record that has begun: reading must still get on. */
#define RELAY_READ_MIN_BYTES 512U

/* ------------------------------------------------------------------------------------------------ output */

void edge_client_gather(struct edge_client *client)
{
    struct relay *relay = edge_client_relay(client);
    /* What is pending goes out first: it is lent to the relay's outbox. */
    if (client->extra != NULL) {
        relay->outbox.pending = client->extra->pending;
        chain_init(&client->extra->pending);
    }
    outbox_begin(&relay->outbox, &relay->scratch);
}

enum error_code edge_client_flush(struct edge_client *client)
{
    struct relay *relay = edge_client_relay(client);
    enum error_code error = outbox_flush(&relay->outbox, &relay->scratch, &client->slot.transport);
    struct chain left = relay->outbox.pending;
    chain_init(&relay->outbox.pending);
    if (chain_empty(&left)) {
        return error;
    }
    struct edge_client_extra *extra = edge_client_extra_get(client);
    if (extra == NULL) {
        chain_clear(&left);
        return error != ERROR_NONE ? error : ERROR_NO_MEMORY;
    }
    extra->pending = left;
    if (client->state == EDGE_CLIENT_RELAYING && relay->settings->stall_timeout_ms > 0 && !timer_armed(&extra->timer)) {
        scheduler_arm(relay->scheduler, &extra->timer, relay->settings->stall_timeout_ms);
    }
    return error;
}

/* `bytes` from the core were encrypted. As soon as the transport has taken all ciphertext, the core may send as much
 * again. */
static void edge_client_consume(struct edge_client *client, size_t bytes)
{
    struct edge_client_extra *extra = client->extra;
    if (edge_client_has_pending(client)) {
        extra->encrypted_bytes += (uint32_t)bytes;
        return;
    }
    if (extra != NULL) {
        bytes += extra->encrypted_bytes;
        extra->encrypted_bytes = 0;
    }
    if (bytes > 0) {
        trunk_stream_consume(&client->stream, bytes);
    }
}

/* Encrypts and writes. False when the client failed. */
static bool edge_client_send(struct edge_client *client, const uint8_t *bytes, size_t length)
{
    edge_client_gather(client);
    enum error_code error = tls_send(&client->tls, &edge_client_tls_events, bytes, length);
    enum error_code flushed = edge_client_flush(client);
    if (error == ERROR_NONE) {
        error = client->failure;
    }
    if (error == ERROR_NONE) {
        error = flushed;
    }
    if (error != ERROR_NONE) {
        edge_client_failed(client, error);
        return false;
    }
    struct relay *relay = edge_client_relay(client);
    relay->counters.bytes_to_clients += length;
    client->tick = relay->idle.tick;
    edge_client_consume(client, length);
    return true;
}

void edge_client_stream_data(void *owner, struct trunk_stream *stream, const uint8_t *bytes, size_t length)
{
    struct edge_client *client = container_of(stream, struct edge_client, stream);
    (void)owner;
    if (client->state != EDGE_CLIENT_RELAYING) {
        return;
    }
    if (!edge_client_has_output(client) && !edge_client_has_pending(client)) {
        (void)edge_client_send(client, bytes, length);
    } else if (chain_append(&client->extra->output, bytes, length) != ERROR_NONE) {
        edge_client_abort(client, TLS_ALERT_INTERNAL_ERROR, ERROR_NO_MEMORY);
    }
}

/* Plaintext that waited, as far as the transport takes it. False when the client failed. */
static bool edge_client_send_waiting(struct edge_client *client)
{
    const uint8_t *bytes = NULL;
    size_t length;
    while (edge_client_has_output(client) && !edge_client_has_pending(client)) {
        length = chain_peek(&client->extra->output, &bytes);
        if (!edge_client_send(client, bytes, length)) {
            return false;
        }
        chain_consume(&client->extra->output, length);
    }
    return true;
}

/* The core has ended and all of its bytes are encrypted: close_notify. False when the client failed. */
static bool edge_client_send_end(struct edge_client *client)
{
    edge_client_gather(client);
    enum error_code error = tls_finish(&client->tls, &edge_client_tls_events);
    enum error_code flushed = edge_client_flush(client);
    if (error == ERROR_NONE) {
        error = client->failure != ERROR_NONE ? client->failure : flushed;
    }
    if (error != ERROR_NONE) {
        edge_client_failed(client, error);
        return false;
    }
    edge_client_output_move(client, EDGE_CLIENT_HALF_FLUSHING);
    return true;
}

void edge_client_pump_output(struct edge_client *client)
{
    if (client->state == EDGE_CLIENT_CLOSED) {
        return;
    }
    if (edge_client_has_pending(client)) {
        edge_client_gather(client);
        enum error_code error = edge_client_flush(client);
        if (error != ERROR_NONE) {
            edge_client_failed(client, error);
            return;
        }
        edge_client_consume(client, 0);
    }
    if (client->state == EDGE_CLIENT_RELAYING) {
        if (!edge_client_send_waiting(client)) {
            return;
        }
        if (client->output_half == EDGE_CLIENT_HALF_ENDING && !edge_client_has_output(client) &&
            (edge_client_leave_later(client, 0) || !edge_client_send_end(client))) {
            return;
        }
    }
    if (client->output_half == EDGE_CLIENT_HALF_FLUSHING && !edge_client_has_pending(client)) {
        transport_finish(&client->slot.transport);
        edge_client_output_move(client, EDGE_CLIENT_HALF_ENDED);
        edge_client_settle(client);
        if (client->state == EDGE_CLIENT_LINGERING && client->peer_finished) {
            edge_client_linger_over(client);
        }
    }
}

/* ------------------------------------------------------------------------------------------------ input */

/* All that came before close_notify is with the stream: it may end. */
static void edge_client_end_input(struct edge_client *client)
{
    if (client->state == EDGE_CLIENT_RELAYING && client->input_half == EDGE_CLIENT_HALF_ENDING &&
        !edge_client_has_input(client)) {
        if (trunk_stream_end(&client->stream) != ERROR_NONE) {
            edge_client_abort(client, TLS_ALERT_INTERNAL_ERROR, ERROR_NO_MEMORY);
            return;
        }
        edge_client_input_move(client, EDGE_CLIENT_HALF_ENDED);
        edge_client_settle(client);
    }
}

void edge_client_pump_early(struct edge_client *client)
{
    if (client->state != EDGE_CLIENT_RELAYING || !trunk_stream_attached(&client->stream)) {
        return;
    }
    const uint8_t *bytes = NULL;
    size_t length;
    while (edge_client_has_input(client)) {
        length = chain_peek(&client->extra->input, &bytes);
        size_t room = trunk_stream_room(&client->stream);
        if (room == 0) {
            trunk_stream_want_room(&client->stream);
            return;
        }
        size_t part = length < room ? length : room;
        enum error_code error = trunk_stream_write(&client->stream, bytes, part);
        if (error != ERROR_NONE) {
            edge_client_abort(client, TLS_ALERT_INTERNAL_ERROR, error);
            return;
        }
        chain_consume(&client->extra->input, part);
    }
    edge_client_end_input(client);
}

static void edge_client_on_output(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct edge_client *client = container_of(tls, struct edge_client, tls);
    struct relay *relay = edge_client_relay(client);
    enum error_code error = outbox_add(&relay->outbox, &relay->scratch, &client->slot.transport, bytes, length);
    if (error != ERROR_NONE && client->failure == ERROR_NONE) {
        client->failure = (uint8_t)error;
    }
}

static void edge_client_on_data(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct edge_client *client = container_of(tls, struct edge_client, tls);
    enum error_code error = ERROR_NONE;
    if (client->input_half != EDGE_CLIENT_HALF_OPEN || client->failure != ERROR_NONE) {
        return;
    }
    struct relay *relay = edge_client_relay(client);
    relay->counters.bytes_from_clients += length;
    client->tick = relay->idle.tick;
    if (client->state == EDGE_CLIENT_RELAYING && !edge_client_has_input(client)) {
        error = trunk_stream_write(&client->stream, bytes, length);
    } else {
        error = chain_append(&client->extra->input, bytes, length);
    }
    client->failure = (uint8_t)error;
}

/* Keeps what the core is to be told of the client. The rest happens once tls_receive has returned. */
static void edge_client_on_established(struct tls_session *tls, const struct tls_peer_info *peer)
{
    struct edge_client *client = container_of(tls, struct edge_client, tls);
    struct relay *relay = edge_client_relay(client);
    const char *service = route_find(relay->settings, client->extra->listener, peer->server_name, peer->alpn);
    struct metadata metadata = {
        .service = service != NULL ? service : "",
        .server_name = peer->server_name,
        .alpn = peer->alpn,
        .listener = client->extra->local,
        .tls_version = peer->version,
        .tls_suite = peer->suite,
        .certificate = peer->certificate,
        .certificate_length = (uint32_t)peer->certificate_length,
    };
    client->origin = metadata_pool_share(&relay->origins, &metadata);
    if (client->origin == NULL) {
        client->failure = ERROR_NO_MEMORY;
    }
}

static void edge_client_on_end(struct tls_session *tls)
{
    struct edge_client *client = container_of(tls, struct edge_client, tls);
    if (client->input_half == EDGE_CLIENT_HALF_OPEN) {
        edge_client_input_move(client, EDGE_CLIENT_HALF_ENDING);
    }
}

const struct tls_events edge_client_tls_events = {
    .output = edge_client_on_output,
    .established = edge_client_on_established,
    .data = edge_client_on_data,
    .end = edge_client_on_end,
};

/* How much to read now; 0: nothing, for now. */
static size_t edge_client_read_limit(struct edge_client *client)
{
    switch ((enum edge_client_state)client->state) {
    case EDGE_CLIENT_EXPECT_HANDSHAKE:
        return HANDSHAKE_READ_BYTES;
    case EDGE_CLIENT_LINGERING:
        return SCRATCH_INPUT_BYTES;
    case EDGE_CLIENT_RELAYING:
        break;
    case EDGE_CLIENT_EXPECT_TRUNK:
    case EDGE_CLIENT_EXPECT_ANSWER:
    case EDGE_CLIENT_CLOSED:
    case EDGE_CLIENT_STATE_COUNT:
        return 0;
    }
    if (client->input_half == EDGE_CLIENT_HALF_ENDED) {
        return SCRATCH_INPUT_BYTES; /* to see a reset, also one after FIN; and to discard */
    }
    if (edge_client_has_input(client)) {
        return 0;
    }
    size_t room = trunk_stream_room(&client->stream);
    if (room == 0) {
        trunk_stream_want_room(&client->stream);
        return 0;
    }
    if (room > SCRATCH_INPUT_BYTES) {
        return SCRATCH_INPUT_BYTES;
    }
    return room < RELAY_READ_MIN_BYTES ? RELAY_READ_MIN_BYTES : room;
}

bool edge_client_reading_paused(struct edge_client *client)
{
    return edge_client_read_limit(client) == 0;
}

/* The client's FIN. */
static void edge_client_input_finished(struct edge_client *client)
{
    client->peer_finished = 1;
    if (client->state == EDGE_CLIENT_LINGERING) {
        /* An alert that still waits goes first. */
        if (client->output_half == EDGE_CLIENT_HALF_ENDED) {
            edge_client_linger_over(client);
        }
    } else if (client->state == EDGE_CLIENT_EXPECT_HANDSHAKE) {
        edge_client_failed(client, ERROR_PEER_CLOSED);
    } else if (client->input_half == EDGE_CLIENT_HALF_OPEN) {
        edge_client_failed(client, ERROR_TRUNCATED);
    }
}

/* Ciphertext from the client. */
static void edge_client_receive(struct edge_client *client, uint8_t *bytes, size_t length)
{
    bool was_pending = edge_client_has_pending(client);
    enum error_code error = ERROR_NONE;
    if (!tls_initialized(&client->tls)) {
        struct relay *relay = edge_client_relay(client);
        error = tls_init_server(&client->tls, relay->client_context, &relay->tls);
        if (error != ERROR_NONE) {
            edge_client_failed(client, error);
            return;
        }
    }
    edge_client_gather(client);
    error = tls_receive(&client->tls, &edge_client_tls_events, bytes, length);
    enum error_code flushed = edge_client_flush(client);
    bool flushed_more = was_pending && !edge_client_has_pending(client);
    if (error == ERROR_NONE && client->failure != ERROR_NONE) {
        edge_client_abort(client, TLS_ALERT_INTERNAL_ERROR, client->failure);
        return;
    }
    if (error == ERROR_NONE) {
        error = flushed;
    }
    if (error != ERROR_NONE) {
        edge_client_failed(client, error);
        return;
    }
    if (client->state == EDGE_CLIENT_EXPECT_HANDSHAKE && tls_established(&client->tls)) {
        edge_client_established(client);
    }
    edge_client_end_input(client);
    /* The flush may have emptied what was pending: the core hears of it, and what waited behind it goes on. */
    if (flushed_more && client->state == EDGE_CLIENT_RELAYING) {
        edge_client_consume(client, 0);
        edge_client_pump_output(client);
    }
}

void edge_client_pump_input(struct edge_client *client)
{
    for (unsigned reads = 0; reads < EDGE_CLIENT_READS_PER_TURN; reads++) {
        size_t limit = edge_client_read_limit(client);
        size_t length = 0;
        if (limit == 0) {
            return;
        }
        enum error_code error =
            transport_read(&client->slot.transport, edge_client_relay(client)->scratch.input, limit, &length);
        if (error == ERROR_WOULD_BLOCK) {
            return;
        }
        if (error != ERROR_NONE) {
            edge_client_failed(client, error);
            return;
        }
        if (length == 0) {
            edge_client_input_finished(client);
            return;
        }
        if (client->input_half == EDGE_CLIENT_HALF_OPEN) {
            edge_client_receive(client, edge_client_relay(client)->scratch.input, length);
        }
    }
    if (client->state == EDGE_CLIENT_EXPECT_HANDSHAKE) {
        edge_client_handshake_later(client);
    } else if (edge_client_read_limit(client) > 0) {
        edge_client_defer(client);
    }
}
