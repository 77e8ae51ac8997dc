/* The ends and the forger of record_pair.h. Uses malloc, so that injected faults hit the engine only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "mux/record_internal.h"
#include "tests/unit/record_pair.h"

static void on_output(void *owner, const uint8_t *bytes, size_t length)
{
    struct record_end *end = owner;

    tls_pair_bytes_append(&end->output, bytes, length);
}

static enum error_code send_to(struct record_end *end, const void *bytes, size_t length);

static void on_data(void *owner, const uint8_t *bytes, size_t length)
{
    struct record_end *end = owner;

    assert_int_equal(end->error, ERROR_NONE);
    assert_int_equal(end->ends, 0);
    assert_in_range(length, 1, RECORD_PLAINTEXT_MAX);
    end->events++;
    tls_pair_bytes_append(&end->received, bytes, length);
    if (end->aborts_on_data) {
        record_end_abort(end, RECORD_ALERT_INTERNAL_ERROR);
    } else if (end->echo) {
        assert_int_equal(send_to(end, bytes, length), ERROR_NONE);
    }
}

static void on_end(void *owner)
{
    struct record_end *end = owner;

    assert_int_equal(end->error, ERROR_NONE);
    end->events++;
    end->ends++;
}

static void on_ticket(void *owner)
{
    struct record_end *end = owner;

    end->events++;
    end->tickets++;
}

static const struct record_events end_events = {
    .output = on_output, .data = on_data, .end = on_end, .ticket = on_ticket};

static struct record_sink sink_of(struct record_end *end)
{
    return (struct record_sink){.events = &end_events, .owner = end};
}

static void fill(uint8_t *bytes, size_t length, uint64_t seed)
{
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)(tls_pair_random(&seed) & 0xffU);
    }
}

void record_pair_init(struct record_pair *pair, bool version_13, enum tls_cipher_suite suite, uint64_t sequence)
{
    uint8_t secrets[2][TLS_CIPHER_MATERIAL_MAX]; /* the client's, the server's */

    memset(pair, 0, sizeof(*pair));
    pair->version_13 = version_13;
    pair->suite = suite;
    fill(secrets[0], sizeof(secrets[0]), 1);
    fill(secrets[1], sizeof(secrets[1]), 2);
    for (int i = 0; i < 4; i++) {
        bool server = i % 2 == 1;
        struct record_parameters parameters = {
            .server = server, .version_13 = version_13, .suite = suite, .sequence = {sequence, sequence}};
        parameters.material[RECORD_WRITE] = secrets[server];
        parameters.material[RECORD_READ] = secrets[!server];
        struct record_room *rooms[] = {&pair->client.room, &pair->server.room, &pair->forger[0], &pair->forger[1]};
        record_init(&rooms[i]->record, &parameters);
    }
}

void record_pair_dispose(struct record_pair *pair)
{
    record_dispose(&pair->client.room.record);
    record_dispose(&pair->server.room.record);
    record_dispose(&pair->forger[0].record);
    record_dispose(&pair->forger[1].record);
    free(pair->client.output.bytes);
    free(pair->client.received.bytes);
    free(pair->server.output.bytes);
    free(pair->server.received.bytes);
}

enum error_code record_end_feed(struct record_end *end, const void *bytes, size_t length)
{
    struct record_sink sink = sink_of(end);
    uint8_t *copy = malloc(length > 0 ? length : 1);

    assert_non_null(copy);
    if (length > 0) {
        memcpy(copy, bytes, length);
    }
    enum error_code error = record_receive(record_of(end), &sink, copy, length);
    free(copy);
    if (end->error == ERROR_NONE) {
        end->error = error;
    }
    return error;
}

void record_pair_carry(struct record_pair *pair)
{
    while (pair->client.output.length > 0 || pair->server.output.length > 0) {
        struct tls_pair_bytes to_server = pair->client.output;
        memset(&pair->client.output, 0, sizeof(pair->client.output));
        record_end_feed(&pair->server, to_server.bytes, to_server.length);
        free(to_server.bytes);
        struct tls_pair_bytes to_client = pair->server.output;
        memset(&pair->server.output, 0, sizeof(pair->server.output));
        record_end_feed(&pair->client, to_client.bytes, to_client.length);
        free(to_client.bytes);
    }
}

static enum error_code send_to(struct record_end *end, const void *bytes, size_t length)
{
    struct record_sink sink = sink_of(end);

    return record_send(record_of(end), &sink, bytes, length);
}

enum error_code record_end_send(struct record_end *end, const void *bytes, size_t length)
{
    return send_to(end, bytes, length);
}

enum error_code record_end_finish(struct record_end *end)
{
    struct record_sink sink = sink_of(end);

    return record_finish(record_of(end), &sink);
}

void record_end_abort(struct record_end *end, uint8_t alert)
{
    struct record_sink sink = sink_of(end);

    record_abort(record_of(end), &sink, alert);
}

enum error_code record_end_update(struct record_end *end, bool ask_peer)
{
    struct record_sink sink = sink_of(end);

    return record_update_keys(record_of(end), &sink, ask_peer);
}

size_t record_pair_forge(struct record_pair *pair, struct record_end *to, uint8_t type, const void *content,
                         size_t length, size_t padding, uint8_t *into)
{
    struct record_state *forger = &pair->forger[to == &pair->server ? 0 : 1].record;
    struct tls_cipher *cipher = NULL;
    uint8_t nonce[TLS_CIPHER_NONCE_BYTES];
    uint8_t additional[RECORD_ADDITIONAL_BYTES_MAX];
    size_t front = record_explicit_bytes(forger);
    size_t inner = pair->version_13 ? length + 1 + padding : length;
    size_t body = front + inner + TLS_CIPHER_TAG_BYTES;
    uint8_t *plain = into + RECORD_HEADER_BYTES + front;

    into[0] = pair->version_13 ? 23 : type;
    into[1] = 3;
    into[2] = 3;
    into[3] = (uint8_t)(body >> 8);
    into[4] = (uint8_t)body;
    for (size_t i = 0; i < front; i++) {
        into[RECORD_HEADER_BYTES + i] = (uint8_t)(forger->sequence[RECORD_WRITE] >> (56 - 8 * i));
    }
    memset(plain, 0, inner);
    if (length > 0) {
        memcpy(plain, content, length);
    }
    if (pair->version_13) {
        plain[length] = type;
    }
    assert_int_equal(record_cipher(forger, RECORD_WRITE, &cipher), ERROR_NONE);
    record_nonce(forger, RECORD_WRITE, cipher, front > 0 ? into + RECORD_HEADER_BYTES : NULL, nonce);
    size_t additional_length = record_additional(forger, RECORD_WRITE, into, length, additional);
    forger->sequence[RECORD_WRITE]++;
    assert_int_equal(tls_cipher_seal(cipher, nonce, additional, additional_length, plain, inner), ERROR_NONE);
    return RECORD_HEADER_BYTES + body;
}

enum error_code record_pair_inject(struct record_pair *pair, struct record_end *to, uint8_t type, const void *content,
                                   size_t length, size_t padding)
{
    static uint8_t bytes[RECORD_BYTES_MAX + 1024];

    return record_end_feed(to, bytes, record_pair_forge(pair, to, type, content, length, padding, bytes));
}

/* Decrypts what went out with a fresh reader, so that the real peer is not disturbed. */
int record_pair_alert_of(struct record_pair *pair, struct record_end *from)
{
    struct record_pair reader;
    int result = -1;

    record_pair_init(&reader, pair->version_13, pair->suite, 0);
    struct record_end *to = from == &pair->client ? &reader.server : &reader.client;
    uint64_t sent = 0;
    for (size_t at = 0; at < from->output.length; sent++) {
        size_t whole = RECORD_HEADER_BYTES + ((size_t)from->output.bytes[at + 3] << 8 | from->output.bytes[at + 4]);
        at += whole;
    }
    record_of(to)->sequence[RECORD_READ] = record_of(from)->sequence[RECORD_WRITE] - sent;
    record_end_feed(to, from->output.bytes, from->output.length);
    if (to->error == ERROR_TLS_ALERT) {
        result = RECORD_ALERT_FATAL << 8 | -record_last_alert(record_of(to));
    } else if (to->error == ERROR_NONE && to->ends > 0) {
        result = RECORD_ALERT_WARNING << 8 | RECORD_ALERT_CLOSE_NOTIFY;
    } else if (to->error == ERROR_NONE && record_of(to)->warning_alerts > 0) {
        result = RECORD_ALERT_WARNING << 8;
    }
    from->output.length = 0;
    record_pair_dispose(&reader);
    return result;
}
