/*
 * The record layer: known answers, data and ends in both roles, keys that change, limits of keys, memory. What it
 * refuses is in record_refusal_test.c, other libraries as the peer are in record_peer_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "mux/memory.h"
#include "mux/record_internal.h"
#include "tests/unit/record_pair.h"

#define EACH_PROTECTION(version_13, suite)                                                                             \
    for (unsigned version_13 = 0; version_13 < 2; version_13++)                                                        \
        for (unsigned suite = 0; suite < TLS_CIPHER_SUITE_COUNT; suite++)

static void fill(uint8_t *bytes, size_t length, uint64_t seed)
{
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)(tls_pair_random(&seed) & 0xffU);
    }
}

static size_t from_hex(const char *text, uint8_t *into)
{
    size_t length = 0;

    for (; text[0] != '\0'; text += text[0] == ' ' ? 1 : 2) {
        if (text[0] != ' ') {
            char digits[3] = {text[0], text[1], '\0'};
            into[length++] = (uint8_t)strtoul(digits, NULL, 16);
        }
    }
    return length;
}

/* ---- known answers: RFC 8448 section 3, "Simple 1-RTT Handshake" ---- */

#define CLIENT_SECRET "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
#define SERVER_SECRET "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"

static const char client_data[] =
    "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc ab 3f 2b 98 19 a8 a5 b4 "
    "6b"
    "39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4";
static const char server_data[] =
    "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f 82 aa 1b 36 e3 0e fa f9 7d 90 "
    "e6"
    "df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00 47 c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d";
static const char client_alert[] = "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3";
static const char server_alert[] = "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9";

static void keys_agree_with_rfc_8448(void **state)
{
    (void)state;
    static const char *const answers[][3] = {
        {CLIENT_SECRET, "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"},
        {SERVER_SECRET, "9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984"},
    };
    for (size_t i = 0; i < 2; i++) {
        uint8_t secret[48];
        uint8_t key[TLS_CIPHER_KEY_BYTES_MAX];
        uint8_t nonce[TLS_CIPHER_NONCE_BYTES];
        uint8_t expected[32];
        from_hex(answers[i][0], secret);
        assert_int_equal(tls_cipher_derive(TLS_CIPHER_AES_128_GCM, secret, key, nonce), ERROR_NONE);
        assert_memory_equal(key, expected, from_hex(answers[i][1], expected));
        assert_memory_equal(nonce, expected, from_hex(answers[i][2], expected));
    }
}

/* The server's first record was a ticket. */
static void known_init(struct record_end *end, bool server)
{
    uint8_t secrets[2][48];
    struct record_parameters parameters = {.server = server, .version_13 = true, .suite = TLS_CIPHER_AES_128_GCM};

    from_hex(CLIENT_SECRET, secrets[0]);
    from_hex(SERVER_SECRET, secrets[1]);
    memset(end, 0, sizeof(*end));
    parameters.material[RECORD_WRITE] = secrets[server];
    parameters.material[RECORD_READ] = secrets[!server];
    parameters.sequence[server ? RECORD_WRITE : RECORD_READ] = 1;
    record_init(record_of(end), &parameters);
}

static void known_dispose(struct record_end *end)
{
    record_dispose(record_of(end));
    free(end->output.bytes);
    free(end->received.bytes);
}

static void records_agree_with_rfc_8448(void **state)
{
    (void)state;
    uint8_t plain[50];
    for (size_t i = 0; i < sizeof(plain); i++) {
        plain[i] = (uint8_t)i;
    }
    for (int server = 0; server < 2; server++) {
        struct record_end end;
        uint8_t expected[200];
        uint8_t input[200];
        known_init(&end, server);
        assert_int_equal(record_end_send(&end, plain, sizeof(plain)), ERROR_NONE);
        assert_int_equal(record_end_finish(&end), ERROR_NONE);
        size_t length = from_hex(server ? server_data : client_data, expected);
        length += from_hex(server ? server_alert : client_alert, expected + length);
        assert_int_equal(end.output.length, length);
        assert_memory_equal(end.output.bytes, expected, length);
        length = from_hex(server ? client_data : server_data, input);
        length += from_hex(server ? client_alert : server_alert, input + length);
        assert_int_equal(record_end_feed(&end, input, length), ERROR_NONE);
        assert_int_equal(end.received.length, sizeof(plain));
        assert_memory_equal(end.received.bytes, plain, sizeof(plain));
        assert_int_equal(end.ends, 1);
        known_dispose(&end);
    }
}

/* ---- data and ends ---- */

static void data_of_any_size_arrives_whatever_the_splits(void **state)
{
    (void)state;
    static uint8_t bytes[100000];
    fill(bytes, sizeof(bytes), 3);
    EACH_PROTECTION(version_13, suite)
    {
        struct record_pair pair;
        uint64_t seed = 10 * version_13 + suite;
        record_pair_init(&pair, version_13, suite, 0);
        for (size_t sent = 0; sent < sizeof(bytes);) {
            size_t part = 1 + (size_t)(tls_pair_random(&seed) % 40000);
            part = part < sizeof(bytes) - sent ? part : sizeof(bytes) - sent;
            assert_int_equal(record_end_send(&pair.client, bytes + sent, part), ERROR_NONE);
            sent += part;
        }
        for (size_t at = 0; at < pair.client.output.length;) {
            size_t range = tls_pair_random(&seed) % 4 == 0 ? 40000 : 700;
            size_t part = 1 + (size_t)(tls_pair_random(&seed) % range);
            part = part < pair.client.output.length - at ? part : pair.client.output.length - at;
            assert_int_equal(record_end_feed(&pair.server, pair.client.output.bytes + at, part), ERROR_NONE);
            at += part;
        }
        assert_int_equal(pair.server.received.length, sizeof(bytes));
        assert_memory_equal(pair.server.received.bytes, bytes, sizeof(bytes));
        assert_false(record_incomplete(record_of(&pair.server)));
        record_pair_dispose(&pair);
    }
}

static void records_are_as_small_as_the_peer_asks(void **state)
{
    (void)state;
    static uint8_t bytes[3000];
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        struct record_pair pair;
        record_pair_init(&pair, version_13, TLS_CIPHER_AES_128_GCM, 0);
        record_of(&pair.client)->size_less_one = 511;
        assert_int_equal(record_end_send(&pair.client, bytes, sizeof(bytes)), ERROR_NONE);
        size_t extra = version_13 ? 17 : 24;
        for (size_t at = 0; at < pair.client.output.length;) {
            size_t length = (size_t)pair.client.output.bytes[at + 3] << 8 | pair.client.output.bytes[at + 4];
            assert_in_range(length, 1 + extra, 512 + extra);
            at += RECORD_HEADER_BYTES + length;
        }
        record_pair_carry(&pair);
        assert_int_equal(pair.server.received.length, sizeof(bytes));
        record_pair_dispose(&pair);
    }
}

static void each_direction_ends_by_itself(void **state)
{
    (void)state;
    EACH_PROTECTION(version_13, suite)
    {
        struct record_pair pair;
        record_pair_init(&pair, version_13, suite, 7);
        assert_int_equal(record_end_finish(&pair.client), ERROR_NONE);
        assert_int_equal(record_end_finish(&pair.client), ERROR_STATE);
        assert_int_equal(record_end_send(&pair.client, "x", 1), ERROR_STATE);
        record_pair_carry(&pair);
        assert_int_equal(pair.server.ends, 1);
        assert_int_equal(record_end_feed(&pair.server, "whatever", 8), ERROR_NONE);
        assert_int_equal(record_end_send(&pair.server, "still", 5), ERROR_NONE);
        assert_int_equal(record_end_finish(&pair.server), ERROR_NONE);
        record_pair_carry(&pair);
        assert_int_equal(pair.client.received.length, 5);
        assert_int_equal(pair.client.ends, 1);
        assert_int_equal(pair.client.error + pair.server.error, ERROR_NONE);
        record_pair_dispose(&pair);
    }
}

static void padding_and_empty_records_are_taken(void **state)
{
    (void)state;
    static uint8_t most[RECORD_PLAINTEXT_MAX];
    struct record_pair pair;
    record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
    assert_int_equal(record_pair_inject(&pair, &pair.server, 23, "", 0, 0), ERROR_NONE);
    assert_int_equal(record_pair_inject(&pair, &pair.server, 23, "", 0, RECORD_PLAINTEXT_MAX), ERROR_NONE);
    assert_int_equal(pair.server.events, 0);
    assert_int_equal(record_pair_inject(&pair, &pair.server, 23, "\0a\0", 3, 1), ERROR_NONE);
    assert_memory_equal(pair.server.received.bytes, "\0a\0", 3);
    assert_int_equal(record_pair_inject(&pair, &pair.server, 23, most, sizeof(most), 0), ERROR_NONE);
    assert_int_equal(pair.server.received.length, 3 + sizeof(most));
    record_pair_dispose(&pair);
    record_pair_init(&pair, false, TLS_CIPHER_AES_128_GCM, 0);
    assert_int_equal(record_pair_inject(&pair, &pair.server, 23, "", 0, 0), ERROR_NONE);
    assert_int_equal(record_pair_inject(&pair, &pair.server, 23, most, sizeof(most), 0), ERROR_NONE);
    assert_int_equal(pair.server.received.length, sizeof(most));
    record_pair_dispose(&pair);
}

static void an_abort_from_within_data_stops_all_events(void **state)
{
    (void)state;
    struct record_pair pair;
    record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
    pair.server.aborts_on_data = true;
    record_end_send(&pair.client, "one", 3);
    record_end_send(&pair.client, "two", 3);
    record_end_finish(&pair.client);
    record_pair_carry(&pair);
    assert_int_equal(pair.server.error, ERROR_STATE);
    assert_int_equal(pair.server.events, 1);
    assert_int_equal(pair.client.error, ERROR_TLS_ALERT);
    assert_int_equal(record_last_alert(record_of(&pair.client)), -RECORD_ALERT_INTERNAL_ERROR);
    record_pair_dispose(&pair);
}

static void a_ticket_is_told_to_a_client_however_it_is_split(void **state)
{
    (void)state;
    uint8_t ticket[4 + 300] = {4, 0, 1, 44};
    for (size_t first = 1; first < sizeof(ticket); first++) {
        struct record_pair pair;
        record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
        assert_int_equal(record_pair_inject(&pair, &pair.client, 22, ticket, first, first % 3), ERROR_NONE);
        assert_int_equal(pair.client.tickets, 0);
        assert_true(record_incomplete(record_of(&pair.client)));
        assert_int_equal(record_pair_inject(&pair, &pair.client, 22, ticket + first, sizeof(ticket) - first, 0),
                         ERROR_NONE);
        assert_int_equal(pair.client.tickets, 1);
        assert_int_equal(record_pair_inject(&pair, &pair.client, 23, "data", 4, 0), ERROR_NONE);
        assert_int_equal(pair.client.received.length, 4);
        record_pair_dispose(&pair);
    }
}

static void several_messages_may_share_a_record(void **state)
{
    (void)state;
    static const uint8_t messages[] = {4, 0, 0, 2, 'a', 'b', 4, 0, 0, 1, 'c', 24, 0, 0, 1, 0};
    struct record_pair pair;
    record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
    assert_int_equal(record_pair_inject(&pair, &pair.client, 22, messages, sizeof(messages), 0), ERROR_NONE);
    assert_int_equal(pair.client.tickets, 2);
    assert_int_equal(record_of(&pair.client)->sequence[RECORD_READ], 0);
    record_pair_dispose(&pair);
}

/* ---- keys ---- */

static void keys_change_as_often_as_either_side_likes(void **state)
{
    (void)state;
    for (unsigned suite = 0; suite < TLS_CIPHER_SUITE_COUNT; suite++) {
        struct record_pair pair;
        uint64_t seed = 40 + suite;
        size_t sent[2] = {0, 0};
        record_pair_init(&pair, true, suite, 0);
        for (unsigned i = 0; i < 500; i++) {
            uint64_t dice = tls_pair_random(&seed);
            struct record_end *end = dice & 1U ? &pair.client : &pair.server;
            if (dice & 2U) {
                assert_int_equal(record_end_update(end, (dice & 4U) != 0), ERROR_NONE);
            } else {
                assert_int_equal(record_end_send(end, "some data", 9), ERROR_NONE);
                sent[dice & 1U] += 9;
            }
            if (dice & 8U) {
                record_pair_carry(&pair);
            }
        }
        record_pair_carry(&pair);
        assert_int_equal(pair.server.received.length, sent[1]);
        assert_int_equal(pair.client.received.length, sent[0]);
        assert_int_equal(pair.client.error + pair.server.error, ERROR_NONE);
        assert_int_equal(record_of(&pair.client)->key_update_due + record_of(&pair.server)->key_update_due, 0);
        record_pair_dispose(&pair);
    }
}

static size_t records_in(const struct tls_pair_bytes *bytes)
{
    size_t count = 0;

    for (size_t at = 0; at < bytes->length; count++) {
        at += RECORD_HEADER_BYTES + ((size_t)bytes->bytes[at + 3] << 8 | bytes->bytes[at + 4]);
    }
    return count;
}

static void many_requests_for_new_keys_get_one_answer(void **state)
{
    (void)state;
    struct record_pair pair;
    record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
    for (unsigned i = 0; i < 10; i++) {
        record_of(&pair.client)->key_update_asked = 0; /* as one who does not wait for the answer */
        assert_int_equal(record_end_update(&pair.client, true), ERROR_NONE);
    }
    assert_int_equal(records_in(&pair.client.output), 10);
    assert_int_equal(record_end_feed(&pair.server, pair.client.output.bytes, pair.client.output.length), ERROR_NONE);
    assert_int_equal(records_in(&pair.server.output), 1);
    pair.client.output.length = 0;
    record_pair_carry(&pair);
    assert_int_equal(record_of(&pair.server)->sequence[RECORD_WRITE], 0);
    assert_int_equal(pair.client.error, ERROR_NONE);
    record_pair_dispose(&pair);
}

static void the_answer_to_a_request_for_new_keys_goes_before_data(void **state)
{
    (void)state;
    struct record_pair pair;
    record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
    pair.server.echo = true; /* from within the same input */
    assert_int_equal(record_end_update(&pair.client, true), ERROR_NONE);
    assert_int_equal(record_end_send(&pair.client, "ping", 4), ERROR_NONE);
    assert_int_equal(record_end_feed(&pair.server, pair.client.output.bytes, pair.client.output.length), ERROR_NONE);
    assert_int_equal(records_in(&pair.server.output), 2);
    assert_int_equal(record_of(&pair.server)->sequence[RECORD_WRITE], 1);
    pair.client.output.length = 0;
    record_pair_carry(&pair);
    assert_int_equal(pair.client.received.length, 4);
    record_pair_dispose(&pair);
}

static void no_answer_follows_our_close_notify(void **state)
{
    (void)state;
    struct record_pair pair;
    record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
    assert_int_equal(record_end_finish(&pair.server), ERROR_NONE);
    record_pair_carry(&pair);
    assert_int_equal(record_end_update(&pair.client, true), ERROR_NONE);
    record_pair_carry(&pair);
    assert_int_equal(pair.server.output.length, 0);
    assert_int_equal(pair.server.error, ERROR_NONE);
    assert_int_equal(record_end_update(&pair.server, false), ERROR_STATE);
    record_pair_dispose(&pair);
}

static void keys_are_changed_before_they_are_used_up(void **state)
{
    (void)state;
    for (unsigned suite = 0; suite < TLS_CIPHER_SUITE_COUNT; suite++) {
        struct record_pair pair;
        record_pair_init(&pair, true, suite, RECORD_KEY_RECORDS_MAX - 1);
        assert_int_equal(record_end_send(&pair.client, "last", 4), ERROR_NONE);
        assert_int_equal(records_in(&pair.client.output), 1);
        assert_int_equal(record_end_send(&pair.client, "next", 4), ERROR_NONE);
        assert_int_equal(records_in(&pair.client.output), 3);
        assert_int_equal(record_of(&pair.client)->sequence[RECORD_WRITE], 1);
        record_pair_carry(&pair);
        assert_int_equal(pair.server.received.length, 8);
        record_pair_dispose(&pair);
    }
}

static void a_peer_that_uses_its_key_too_long_is_asked_once_to_change_it(void **state)
{
    (void)state;
    struct record_pair pair;
    record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
    record_of(&pair.server)->sequence[RECORD_READ] = RECORD_KEY_RECORDS_MAX - 2;
    pair.forger[0].record.sequence[RECORD_WRITE] = RECORD_KEY_RECORDS_MAX - 2;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(record_pair_inject(&pair, &pair.server, 23, "x", 1, 0), ERROR_NONE);
        assert_int_equal(records_in(&pair.server.output), i == 0 ? 0 : 1);
    }
    assert_int_equal(record_of(&pair.server)->key_update_asked, 1);
    assert_int_equal(record_pair_inject(&pair, &pair.server, 22, "\x18\0\0\1\0", 5, 0), ERROR_NONE);
    assert_int_equal(record_of(&pair.server)->key_update_asked, 0);
    assert_int_equal(record_end_feed(&pair.client, pair.server.output.bytes, pair.server.output.length), ERROR_NONE);
    assert_int_equal(records_in(&pair.client.output), 1); /* it has been asked */
    record_pair_dispose(&pair);
}

static void a_tls_1_2_connection_ends_before_its_key_is_used_up(void **state)
{
    (void)state;
    struct record_pair pair;
    record_pair_init(&pair, false, TLS_CIPHER_AES_128_GCM, RECORD_KEY_RECORDS_MAX_12 - 1);
    assert_int_equal(record_end_send(&pair.client, "last", 4), ERROR_NONE);
    assert_int_equal(record_end_send(&pair.client, "more", 4), ERROR_LIMIT);
    assert_int_equal(record_end_send(&pair.client, "more", 4), ERROR_STATE);
    record_pair_carry(&pair);
    assert_int_equal(pair.server.received.length, 4);
    assert_int_equal(pair.server.ends, 0);
    assert_int_equal(pair.server.error, ERROR_TLS_ALERT);
    assert_int_equal(record_last_alert(record_of(&pair.server)), -RECORD_ALERT_INTERNAL_ERROR);
    assert_int_equal(record_end_update(&pair.client, false), ERROR_INVALID);
    record_pair_dispose(&pair);
}

static void a_sequence_number_never_wraps(void **state)
{
    (void)state;
    EACH_PROTECTION(version_13, suite)
    {
        struct record_pair pair;
        record_pair_init(&pair, version_13, suite, UINT64_MAX - 1);
        assert_int_equal(record_pair_inject(&pair, &pair.server, 23, "x", 1, 0), ERROR_NONE);
        assert_int_equal(record_pair_inject(&pair, &pair.server, 23, "x", 1, 0), ERROR_LIMIT);
        assert_int_equal(pair.server.received.length, 1);
        record_pair_dispose(&pair);
    }
}

/* No nonce comes twice under a key: what is sent differs even when the content does not. */
static void equal_content_never_makes_equal_records(void **state)
{
    (void)state;
    EACH_PROTECTION(version_13, suite)
    {
        struct record_pair pair;
        record_pair_init(&pair, version_13, suite, 0);
        for (unsigned i = 0; i < 40; i++) {
            assert_int_equal(record_end_send(&pair.client, "same", 4), ERROR_NONE);
            if (version_13 && i % 10 == 9) {
                assert_int_equal(record_end_update(&pair.client, false), ERROR_NONE);
            }
        }
        const struct tls_pair_bytes *out = &pair.client.output;
        size_t explicit_bytes = record_explicit_bytes(record_of(&pair.client));
        size_t bodies[64];
        size_t count = 0;
        for (size_t at = 0; at < out->length; count++) {
            bodies[count] = at + RECORD_HEADER_BYTES + explicit_bytes;
            at += RECORD_HEADER_BYTES + ((size_t)out->bytes[at + 3] << 8 | out->bytes[at + 4]);
        }
        for (size_t i = 0; i < count; i++) {
            for (size_t k = 0; k < i; k++) {
                assert_memory_not_equal(out->bytes + bodies[i], out->bytes + bodies[k], 16);
            }
        }
        record_pair_dispose(&pair);
    }
}

/* ---- memory ---- */

static void the_size_is_as_documented(void **state)
{
    (void)state;
    static const size_t sizes[2][TLS_CIPHER_SUITE_COUNT] = {{72, 104, 120}, {96, 128, 96}};
    EACH_PROTECTION(version_13, suite)
    {
        assert_int_equal(sizeof(struct record_state) + record_material_bytes(suite, version_13),
                         sizes[version_13][suite]);
    }
}

static void memory_is_held_for_a_message_only_between_its_parts(void **state)
{
    (void)state;
    static const uint8_t update[5] = {24, 0, 0, 1, 0};
    for (int split = 0; split < 2; split++) {
        struct record_pair pair;
        record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
        for (size_t i = 0; i < sizeof(update); i++) {
            uint8_t bytes[RECORD_BYTES_MAX + 1024];
            size_t length = record_pair_forge(&pair, &pair.server, 22, update + i, 1, 100, bytes);
            /* Also when the record itself comes in two pieces. */
            size_t piece = split ? length / 2 : length;
            assert_int_equal(record_end_feed(&pair.server, bytes, piece), ERROR_NONE);
            assert_int_equal(record_end_feed(&pair.server, bytes + piece, length - piece), ERROR_NONE);
            assert_int_equal(record_incomplete(record_of(&pair.server)), i + 1 < sizeof(update));
        }
        assert_null(record_of(&pair.server)->partial);
        assert_int_equal(record_of(&pair.server)->sequence[RECORD_READ], 0); /* the new key is in use */
        record_pair_dispose(&pair);
    }

    struct record_pair pair;
    record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
    uint8_t bytes[RECORD_BYTES_MAX + 1024];
    size_t length = record_pair_forge(&pair, &pair.server, 22, update, 3, 0, bytes);
    memory_fail_at(1);
    assert_int_equal(record_end_feed(&pair.server, bytes, length), ERROR_NO_MEMORY);
    memory_fail_at(0);
    assert_int_equal(record_last_alert(record_of(&pair.server)), RECORD_ALERT_INTERNAL_ERROR);
    record_pair_dispose(&pair);
}

static void memory_is_taken_for_what_has_come_not_for_what_is_announced(void **state)
{
    (void)state;
    struct record_pair pair;
    record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
    memory_fail_at(1);
    assert_int_equal(record_end_send(&pair.client, "whole", 5), ERROR_NONE);
    record_pair_carry(&pair);
    assert_int_equal(pair.server.received.length, 5); /* no memory for a record that is whole */
    memory_fail_at(2);
    assert_int_equal(record_end_feed(&pair.server, "\x17\x03\x03\x41\x00", 5), ERROR_NONE);
    for (unsigned i = 0; i < 32 - 5; i++) {
        assert_int_equal(record_end_feed(&pair.server, "x", 1), ERROR_NONE); /* the first 64 bytes do for these */
    }
    memory_fail_at(0);
    assert_non_null(record_of(&pair.server)->partial);
    record_pair_dispose(&pair);
}

static void each_allocation_may_fail(void **state)
{
    (void)state;
    static uint8_t bytes[20000];
    unsigned failed = 0;
    for (uint64_t nth = 1;; nth++) {
        struct record_pair pair;
        record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
        assert_int_equal(record_end_send(&pair.client, bytes, sizeof(bytes)), ERROR_NONE);
        memory_fail_at(nth);
        for (size_t at = 0; at < pair.client.output.length && pair.server.error == ERROR_NONE; at += 1000) {
            size_t part = pair.client.output.length - at < 1000 ? pair.client.output.length - at : 1000;
            record_end_feed(&pair.server, pair.client.output.bytes + at, part);
        }
        uint64_t faults = memory_faults();
        memory_fail_at(0);
        if (faults == 0) {
            assert_int_equal(pair.server.received.length, sizeof(bytes));
            record_pair_dispose(&pair);
            break;
        }
        failed++;
        assert_int_equal(pair.server.error, ERROR_NO_MEMORY);
        assert_int_equal(record_pair_alert_of(&pair, &pair.server),
                         RECORD_ALERT_FATAL << 8 | RECORD_ALERT_INTERNAL_ERROR);
        record_pair_dispose(&pair);
    }
    assert_in_range(failed, 3, 40);
}

static void secrets_are_wiped_at_the_end(void **state)
{
    (void)state;
    static const struct record_room nothing;
    struct record_pair pair;
    record_pair_init(&pair, true, TLS_CIPHER_AES_256_GCM, 0);
    assert_int_equal(record_end_send(&pair.client, "x", 1), ERROR_NONE);
    size_t ready = tls_cipher_count();
    assert_true(ready > 0);
    record_dispose(record_of(&pair.client));
    assert_int_equal(tls_cipher_count(), ready - 1);
    assert_memory_equal(&pair.client.room, &nothing, sizeof(nothing));
    record_pair_dispose(&pair);
    assert_int_equal(tls_cipher_count(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_agree_with_rfc_8448),
        cmocka_unit_test(records_agree_with_rfc_8448),
        cmocka_unit_test(data_of_any_size_arrives_whatever_the_splits),
        cmocka_unit_test(records_are_as_small_as_the_peer_asks),
        cmocka_unit_test(each_direction_ends_by_itself),
        cmocka_unit_test(padding_and_empty_records_are_taken),
        cmocka_unit_test(an_abort_from_within_data_stops_all_events),
        cmocka_unit_test(a_ticket_is_told_to_a_client_however_it_is_split),
        cmocka_unit_test(several_messages_may_share_a_record),
        cmocka_unit_test(keys_change_as_often_as_either_side_likes),
        cmocka_unit_test(many_requests_for_new_keys_get_one_answer),
        cmocka_unit_test(the_answer_to_a_request_for_new_keys_goes_before_data),
        cmocka_unit_test(no_answer_follows_our_close_notify),
        cmocka_unit_test(keys_are_changed_before_they_are_used_up),
        cmocka_unit_test(a_peer_that_uses_its_key_too_long_is_asked_once_to_change_it),
        cmocka_unit_test(a_tls_1_2_connection_ends_before_its_key_is_used_up),
        cmocka_unit_test(a_sequence_number_never_wraps),
        cmocka_unit_test(equal_content_never_makes_equal_records),
        cmocka_unit_test(the_size_is_as_documented),
        cmocka_unit_test(memory_is_held_for_a_message_only_between_its_parts),
        cmocka_unit_test(memory_is_taken_for_what_has_come_not_for_what_is_announced),
        cmocka_unit_test(each_allocation_may_fail),
        cmocka_unit_test(secrets_are_wiped_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
