/* Carries bytes between the two ends of tls_pair.h. Uses malloc, so that injected faults hit the engine only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "mux/memory.h"
#include "tests/unit/tls_pair.h"

uint64_t tls_pair_random(uint64_t *seed)
{
    uint64_t x = *seed += 0x9e3779b97f4a7c15U;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

void tls_pair_bytes_append(struct tls_pair_bytes *bytes, const void *from, size_t length)
{
    if (length == 0) {
        return;
    }
    if (bytes->length + length > bytes->capacity) {
        bytes->capacity = 2 * (bytes->length + length);
        bytes->bytes = realloc(bytes->bytes, bytes->capacity);
        assert_non_null(bytes->bytes);
    }
    memcpy(bytes->bytes + bytes->length, from, length);
    bytes->length += length;
}

void tls_pair_bytes_drop(struct tls_pair_bytes *bytes, size_t length)
{
    bytes->length -= length;
    memmove(bytes->bytes, bytes->bytes + length, bytes->length);
}

static struct tls_end *end_of(struct tls_session *tls)
{
    return container_of(tls, struct tls_end, tls);
}

static void on_output(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct tls_end *end = end_of(tls);

    assert_int_equal(end->error, ERROR_NONE);
    tls_pair_bytes_append(&end->output, bytes, length);
}

static void keep_peer(struct tls_end *end, const struct tls_peer_info *peer)
{
    end->peer = *peer;
    assert_true(strlen(peer->server_name) < sizeof(end->peer_name) && strlen(peer->alpn) < sizeof(end->peer_alpn));
    strcpy(end->peer_name, peer->server_name);
    strcpy(end->peer_alpn, peer->alpn);
    end->peer.server_name = end->peer_name;
    end->peer.alpn = end->peer_alpn;
    if (peer->certificate != NULL) {
        assert_true(peer->certificate_length <= sizeof(end->peer_certificate));
        memcpy(end->peer_certificate, peer->certificate, peer->certificate_length);
        end->peer.certificate = end->peer_certificate;
    }
}

static void on_established(struct tls_session *tls, const struct tls_peer_info *peer)
{
    struct tls_end *end = end_of(tls);

    assert_int_equal(end->error, ERROR_NONE);
    assert_true(tls_established(tls));
    assert_int_equal(end->received.length, 0);
    end->established++;
    keep_peer(end, peer);
    if (end->greets) {
        assert_int_equal(tls_send(tls, &tls_end_events, (const uint8_t *)"hello", 5), ERROR_NONE);
    }
}

static void on_data(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct tls_end *end = end_of(tls);

    assert_int_equal(end->error, ERROR_NONE);
    assert_int_equal(end->established, 1);
    assert_int_equal(end->ends, 0);
    assert_in_range(length, 1, TLS_RECORD_MAX_BYTES);
    end->records++;
    tls_pair_bytes_append(&end->received, bytes, length);
    if (end->aborts_on_data) {
        tls_abort(tls, &tls_end_events, 80);
    } else if (end->echo) {
        assert_int_equal(tls_send(tls, &tls_end_events, bytes, length), ERROR_NONE);
    }
}

static void on_end(struct tls_session *tls)
{
    struct tls_end *end = end_of(tls);

    assert_int_equal(end->error, ERROR_NONE);
    assert_int_equal(end->established, 1);
    end->ends++;
    if (end->finishes_at_end) {
        assert_int_equal(tls_finish(tls, &tls_end_events), ERROR_NONE);
    }
}

const struct tls_events tls_end_events = {
    .output = on_output, .established = on_established, .data = on_data, .end = on_end};

enum error_code tls_end_init_server(struct tls_end *end, struct tls_context *context)
{
    memset(end, 0, sizeof(*end));
    enum error_code error = tls_init_server(&end->tls, context, NULL);
    end->initialised = error == ERROR_NONE;
    return error;
}

enum error_code tls_end_init_client(struct tls_end *end, struct tls_context *context, const char *server_name)
{
    memset(end, 0, sizeof(*end));
    enum error_code error = tls_init_client(&end->tls, context, server_name, NULL);
    end->initialised = error == ERROR_NONE;
    return error;
}

enum error_code tls_end_feed(struct tls_end *end, const void *bytes, size_t length)
{
    uint8_t *copy = malloc(length + 1);

    assert_non_null(copy);
    if (length > 0) {
        memcpy(copy, bytes, length);
    }
    enum error_code error = tls_receive(&end->tls, &tls_end_events, copy, length);
    memset(copy, 0xdd, length);
    free(copy);
    if (end->error == ERROR_NONE) {
        end->error = error;
    }
    return error;
}

void tls_end_dispose(struct tls_end *end)
{
    tls_dispose(&end->tls);
    free(end->output.bytes);
    free(end->received.bytes);
    memset(end, 0, sizeof(*end));
}

enum error_code tls_pair_init(struct tls_pair *pair, struct tls_context *client, const char *server_name,
                              struct tls_context *server)
{
    memset(pair, 0, sizeof(*pair));
    pair->seed = 1;
    enum error_code error = tls_end_init_client(&pair->client, client, server_name);
    enum error_code other = tls_end_init_server(&pair->server, server);
    return error == ERROR_NONE ? other : error;
}

static void carry(struct tls_pair *pair, struct tls_end *from, struct tls_end *to)
{
    size_t length = from->output.length;

    if (pair->split_max > 0 && length > 0) {
        size_t part = 1 + (size_t)(tls_pair_random(&pair->seed) % pair->split_max);
        length = part < length ? part : length;
    }
    if (length == 0) {
        return;
    }
    if (to->error == ERROR_NONE) {
        tls_end_feed(to, from->output.bytes, length);
    }
    tls_pair_bytes_drop(&from->output, length);
}

void tls_pair_pump(struct tls_pair *pair)
{
    while (pair->client.output.length > 0 || pair->server.output.length > 0) {
        if (tls_pair_random(&pair->seed) & 1U) {
            carry(pair, &pair->client, &pair->server);
        } else {
            carry(pair, &pair->server, &pair->client);
        }
    }
}

void tls_pair_handshake(struct tls_pair *pair)
{
    pair->server.error = tls_start(&pair->server.tls, &tls_end_events);
    pair->client.error = tls_start(&pair->client.tls, &tls_end_events);
    tls_pair_pump(pair);
}

void tls_pair_dispose(struct tls_pair *pair)
{
    tls_end_dispose(&pair->client);
    tls_end_dispose(&pair->server);
}
