/*
 * TLS connections against each other and against bytes made by hand: data, ends, refusals, alerts, failing memory. What
 * depends on credentials and policy is in tls_context_test.c, tickets are in tls_ticket_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <gnutls/gnutls.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/memory.h"
#include "tests/unit/test_pki.h"
#include "tests/unit/tls_pair.h"

#define TLS12_ONLY                                                                                                     \
    "NONE:+VERS-TLS1.2:+CTYPE-X509:+AEAD:+ECDHE-ECDSA:+ECDHE-RSA:+AES-128-GCM:+GROUP-X25519:+GROUP-SECP256R1:"         \
    "+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SHA256:+SIGN-RSA-SHA256:+SIGN-RSA-PSS-RSAE-SHA256"

static struct {
    struct test_pki pki;
    struct tls_context *server;   /* default policy, tickets */
    struct tls_context *client;   /* TLS 1.3 */
    struct tls_context *client12; /* TLS 1.2 */
} fixture;

static struct tls_context *client_context(const char *priority)
{
    struct tls_client_settings settings = {.ca = fixture.pki.ca, .priority = priority};
    struct tls_context *context = NULL;
    struct tls_fault fault;

    if (tls_context_new_client(&settings, &context, &fault) != ERROR_NONE) {
        fail_msg("%s", fault.text);
    }
    return context;
}

static int set_up(void **state)
{
    (void)state;
    if (!test_pki_create(&fixture.pki)) {
        return -1;
    }
    struct tls_certificate_files files = test_identity_files(&fixture.pki.edge);
    struct tls_server_settings settings = {.certificates = &files, .certificate_count = 1, .tickets = true};
    if (tls_context_new_server(&settings, &fixture.server, NULL) != ERROR_NONE) {
        return -1;
    }
    fixture.client = client_context(NULL);
    fixture.client12 = client_context(TLS12_ONLY);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tls_context_unref(&fixture.server);
    tls_context_unref(&fixture.client);
    tls_context_unref(&fixture.client12);
    test_pki_remove(&fixture.pki);
    return 0;
}

static struct tls_context *client_of(bool version_13)
{
    return version_13 ? fixture.client : fixture.client12;
}

static void pair_open(struct tls_pair *pair, bool version_13)
{
    assert_int_equal(tls_pair_init(pair, client_of(version_13), "localhost", fixture.server), ERROR_NONE);
    tls_pair_handshake(pair);
    assert_int_equal(pair->client.established, 1);
    assert_int_equal(pair->server.established, 1);
}

static void fill(uint8_t *bytes, size_t length, uint64_t seed)
{
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)(tls_pair_random(&seed) & 0xffU);
    }
}

/* ---- data and ends ---- */

static void both_versions_establish_and_tell_what_was_agreed(void **state)
{
    (void)state;
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        struct tls_pair pair;
        struct tls_peer_info info;
        pair_open(&pair, version_13 != 0);
        info = pair.server.peer;
        assert_int_equal(info.version, version_13 ? 0x0304 : 0x0303);
        assert_int_equal(info.suite, version_13 ? 0x1301 : 0xc02b);
        assert_string_equal(info.server_name, "localhost");
        assert_string_equal(info.alpn, "");
        assert_false(info.resumed);
        assert_null(info.certificate);
        info = pair.client.peer;
        assert_int_equal(info.version, version_13 ? 0x0304 : 0x0303);
        assert_string_equal(info.server_name, "");
        assert_true(tls_certificate_has_name(info.certificate, info.certificate_length, "localhost"));
        tls_pair_dispose(&pair);
    }
}

static void a_megabyte_is_echoed_from_within_data_whatever_the_splits(void **state)
{
    (void)state;
    static uint8_t bytes[1U << 20];
    static const size_t splits[] = {0, 20000, 3000};

    for (size_t i = 0; i < 6; i++) {
        struct tls_pair pair;
        size_t sent = 0;
        fill(bytes, sizeof(bytes), i);
        assert_int_equal(tls_pair_init(&pair, client_of(i % 2 == 0), "localhost", fixture.server), ERROR_NONE);
        pair.seed = 100 + i;
        pair.split_max = splits[i / 2];
        pair.server.echo = true;
        tls_pair_handshake(&pair);
        while (sent < sizeof(bytes)) {
            size_t part = 1 + (size_t)(tls_pair_random(&pair.seed) % 100000);
            part = part < sizeof(bytes) - sent ? part : sizeof(bytes) - sent;
            assert_int_equal(tls_send(&pair.client.tls, &tls_end_events, bytes + sent, part), ERROR_NONE);
            sent += part;
            tls_pair_pump(&pair);
        }
        assert_int_equal(pair.client.received.length, sizeof(bytes));
        assert_memory_equal(pair.client.received.bytes, bytes, sizeof(bytes));
        tls_pair_dispose(&pair);
    }
}

static void a_handshake_that_comes_byte_by_byte_is_complete_all_the_same(void **state)
{
    (void)state;
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        struct tls_pair pair;
        assert_int_equal(tls_pair_init(&pair, client_of(version_13 != 0), "localhost", fixture.server), ERROR_NONE);
        pair.split_max = 1;
        pair.server.greets = true;
        pair.client.greets = true;
        tls_pair_handshake(&pair);
        assert_int_equal(pair.client.received.length, 5);
        assert_int_equal(pair.server.received.length, 5);
        assert_memory_equal(pair.server.received.bytes, "hello", 5);
        tls_pair_dispose(&pair);
    }
}

static void data_in_the_same_input_as_the_last_handshake_bytes_comes_after_established(void **state)
{
    (void)state;
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        struct tls_pair pair;
        assert_int_equal(tls_pair_init(&pair, client_of(version_13 != 0), "localhost", fixture.server), ERROR_NONE);
        pair.client.greets = true;
        assert_int_equal(tls_start(&pair.server.tls, &tls_end_events), ERROR_NONE);
        assert_int_equal(tls_start(&pair.client.tls, &tls_end_events), ERROR_NONE);
        while (pair.server.established == 0) {
            struct tls_pair_bytes flight = pair.client.output;
            assert_true(flight.length > 0);
            memset(&pair.client.output, 0, sizeof(pair.client.output));
            assert_int_equal(tls_end_feed(&pair.server, flight.bytes, flight.length), ERROR_NONE);
            free(flight.bytes);
            flight = pair.server.output;
            memset(&pair.server.output, 0, sizeof(pair.server.output));
            assert_int_equal(tls_end_feed(&pair.client, flight.bytes, flight.length), ERROR_NONE);
            free(flight.bytes);
        }
        if (version_13) {
            assert_int_equal(pair.server.received.length, 5); /* with the client's Finished */
        }
        tls_pair_pump(&pair);
        assert_int_equal(pair.server.received.length, 5);
        tls_pair_dispose(&pair);
    }
}

static void each_direction_ends_by_itself(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct tls_pair pair;
        pair_open(&pair, i % 2 == 0);
        struct tls_end *first = i < 2 ? &pair.client : &pair.server;
        struct tls_end *second = i < 2 ? &pair.server : &pair.client;
        assert_int_equal(tls_send(&first->tls, &tls_end_events, (const uint8_t *)"last", 4), ERROR_NONE);
        assert_int_equal(tls_finish(&first->tls, &tls_end_events), ERROR_NONE);
        assert_int_equal(tls_send(&first->tls, &tls_end_events, (const uint8_t *)"x", 1), ERROR_STATE);
        assert_int_equal(tls_finish(&first->tls, &tls_end_events), ERROR_STATE);
        tls_pair_pump(&pair);
        assert_int_equal(second->ends, 1);
        assert_int_equal(second->received.length, 4);
        assert_int_equal(first->ends, 0);
        for (unsigned k = 0; k < 10; k++) {
            assert_int_equal(tls_send(&second->tls, &tls_end_events, (const uint8_t *)"still here", 10), ERROR_NONE);
            tls_pair_pump(&pair);
        }
        assert_int_equal(first->received.length, 100);
        assert_int_equal(tls_finish(&second->tls, &tls_end_events), ERROR_NONE);
        tls_pair_pump(&pair);
        assert_int_equal(first->ends, 1);
        assert_int_equal(second->ends, 1);
        assert_int_equal(first->error, ERROR_NONE);
        assert_int_equal(second->error, ERROR_NONE);
        assert_int_equal(tls_last_alert(&first->tls), 0);
        tls_pair_dispose(&pair);
    }
}

static void an_end_may_be_answered_from_within_the_event(void **state)
{
    (void)state;
    struct tls_pair pair;
    pair_open(&pair, true);
    pair.server.finishes_at_end = true;
    assert_int_equal(tls_finish(&pair.client.tls, &tls_end_events), ERROR_NONE);
    tls_pair_pump(&pair);
    assert_int_equal(pair.server.ends, 1);
    assert_int_equal(pair.client.ends, 1);
    tls_pair_dispose(&pair);
}

static void what_follows_close_notify_is_ignored(void **state)
{
    (void)state;
    struct tls_pair pair;
    pair_open(&pair, true);
    assert_int_equal(tls_finish(&pair.client.tls, &tls_end_events), ERROR_NONE);
    tls_pair_bytes_append(&pair.client.output, "trailing garbage", 16);
    tls_pair_pump(&pair);
    assert_int_equal(tls_end_feed(&pair.server, "more of it", 10), ERROR_NONE);
    assert_int_equal(pair.server.ends, 1);
    assert_int_equal(pair.server.received.length, 0);
    assert_int_equal(tls_send(&pair.server.tls, &tls_end_events, (const uint8_t *)"ok", 2), ERROR_NONE);
    tls_pair_pump(&pair);
    assert_int_equal(pair.client.received.length, 2);
    tls_pair_dispose(&pair);
}

static void a_connection_that_is_cut_never_looks_like_an_end(void **state)
{
    (void)state;
    size_t total = 2;
    for (size_t kept = 0; kept < total; kept++) {
        struct tls_pair pair;
        pair_open(&pair, kept % 2 == 0);
        assert_int_equal(tls_send(&pair.client.tls, &tls_end_events, (const uint8_t *)"payload", 7), ERROR_NONE);
        assert_int_equal(tls_finish(&pair.client.tls, &tls_end_events), ERROR_NONE);
        total = pair.client.output.length;
        assert_int_equal(tls_end_feed(&pair.server, pair.client.output.bytes, kept), ERROR_NONE);
        assert_int_equal(pair.server.ends, 0);
        assert_true(pair.server.received.length == 0 || pair.server.received.length == 7);
        tls_pair_dispose(&pair);
    }
    assert_true(total > 40);
}

static void empty_calls_do_nothing(void **state)
{
    (void)state;
    struct tls_pair pair;
    pair_open(&pair, true);
    assert_int_equal(tls_send(&pair.client.tls, &tls_end_events, NULL, 0), ERROR_NONE);
    assert_int_equal(tls_receive(&pair.client.tls, &tls_end_events, NULL, 0), ERROR_NONE);
    assert_int_equal(pair.client.output.length, 0);
    tls_pair_dispose(&pair);
}

/* ---- what a connection refuses ---- */

struct refusal {
    const char *bytes;
    size_t length;
    enum error_code error;
    int alert;
};

static void a_server_names_what_is_wrong_with_a_first_record(void **state)
{
    (void)state;
    static const struct refusal refusals[] = {
        {"GET / HTTP/1.1\r\n\r\n", 18, ERROR_TLS_NOT_TLS, GNUTLS_A_UNEXPECTED_MESSAGE},
        {"SSH-2.0-OpenSSH_9.2\r\n", 21, ERROR_TLS_NOT_TLS, GNUTLS_A_UNEXPECTED_MESSAGE},
        {"\x80\x2e\x01\x03\x01", 5, ERROR_TLS_NOT_TLS, GNUTLS_A_UNEXPECTED_MESSAGE}, /* SSL 2 */
        {"\x15\x03\x01\x00\x02\x02\x28", 7, ERROR_TLS_NOT_TLS, GNUTLS_A_UNEXPECTED_MESSAGE},
        {"\x16\x02", 2, ERROR_TLS_NOT_TLS, GNUTLS_A_UNEXPECTED_MESSAGE},
        {"\x16\x04", 2, ERROR_TLS_NOT_TLS, GNUTLS_A_UNEXPECTED_MESSAGE},
        {"\x16\x03\x01\x48\x01", 5, ERROR_TLS_RECORD, GNUTLS_A_RECORD_OVERFLOW},
        {"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff", 10, ERROR_TLS_HANDSHAKE, GNUTLS_A_DECODE_ERROR},
        {"\x16\x03\x01\x00\x04\x02\x00\x00\x00", 9, ERROR_TLS_HANDSHAKE, GNUTLS_A_UNEXPECTED_MESSAGE},
    };
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct tls_end server;
        assert_int_equal(tls_end_init_server(&server, fixture.server), ERROR_NONE);
        assert_int_equal(tls_start(&server.tls, &tls_end_events), ERROR_NONE);
        assert_int_equal(tls_end_feed(&server, refusals[i].bytes, refusals[i].length), refusals[i].error);
        assert_int_equal(tls_last_alert(&server.tls), refusals[i].alert);
        assert_int_equal(server.output.length, 7);
        assert_memory_equal(server.output.bytes, "\x15\x03", 2);
        assert_int_equal(server.output.bytes[5], GNUTLS_AL_FATAL);
        assert_int_equal(server.output.bytes[6], refusals[i].alert);
        assert_int_equal(tls_has_peer_input(&server.tls), refusals[i].error != ERROR_TLS_NOT_TLS);
        assert_int_equal(server.established, 0);
        /* Dead is dead: no second alert, no event. */
        assert_int_equal(tls_end_feed(&server, "x", 1), ERROR_STATE);
        assert_int_equal(tls_start(&server.tls, &tls_end_events), ERROR_STATE);
        assert_int_equal(tls_send(&server.tls, &tls_end_events, (const uint8_t *)"x", 1), ERROR_STATE);
        tls_abort(&server.tls, &tls_end_events, 80);
        assert_int_equal(server.output.length, 7);
        tls_end_dispose(&server);
    }
}

static void a_client_that_meets_another_protocol_says_so(void **state)
{
    (void)state;
    struct tls_end client;
    assert_int_equal(tls_end_init_client(&client, fixture.client, "localhost"), ERROR_NONE);
    assert_int_equal(tls_start(&client.tls, &tls_end_events), ERROR_NONE);
    assert_int_equal(tls_end_feed(&client, "HTTP/1.1 400 Bad Request\r\n", 26), ERROR_TLS_NOT_TLS);
    tls_end_dispose(&client);
}

static void random_bytes_in_place_of_a_hello_are_refused_without_harm(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint8_t bytes[600];
        struct tls_end server;
        fill(bytes, sizeof(bytes), seed);
        memcpy(bytes, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11); /* a credible beginning */
        assert_int_equal(tls_end_init_server(&server, fixture.server), ERROR_NONE);
        assert_int_equal(tls_start(&server.tls, &tls_end_events), ERROR_NONE);
        tls_end_feed(&server, bytes, sizeof(bytes));
        assert_int_not_equal(server.error, ERROR_NONE);
        assert_int_equal(server.established, 0);
        assert_true(tls_last_alert(&server.tls) > 0);
        tls_end_dispose(&server);
    }
}

static void a_client_with_tls_1_0_alone_is_told_protocol_version(void **state)
{
    (void)state;
    struct tls_context *old = client_context(
        "NONE:+VERS-TLS1.0:+CTYPE-X509:+SHA1:+ECDHE-ECDSA:+AES-128-CBC:+GROUP-SECP256R1:+SIGN-ECDSA-SHA256");
    struct tls_pair pair;
    assert_int_equal(tls_pair_init(&pair, old, "localhost", fixture.server), ERROR_NONE);
    tls_pair_handshake(&pair);
    assert_int_equal(pair.server.error, ERROR_TLS_VERSION);
    assert_int_equal(tls_last_alert(&pair.server.tls), GNUTLS_A_PROTOCOL_VERSION);
    assert_int_equal(pair.client.error, ERROR_TLS_ALERT);
    assert_int_equal(tls_last_alert(&pair.client.tls), -GNUTLS_A_PROTOCOL_VERSION);
    tls_pair_dispose(&pair);
    tls_context_unref(&old);
}

static void a_client_with_no_suite_or_group_of_ours_is_told_handshake_failure(void **state)
{
    (void)state;
    static const char *const priorities[] = {
        "NONE:+VERS-TLS1.2:+CTYPE-X509:+SHA256:+ECDHE-ECDSA:+AES-128-CBC:+GROUP-SECP256R1:+SIGN-ECDSA-SHA256",
        "NONE:+VERS-TLS1.3:+CTYPE-X509:+AEAD:+AES-128-CCM:+GROUP-X25519:+SIGN-ECDSA-SECP256R1-SHA256",
        "NONE:+VERS-TLS1.3:+CTYPE-X509:+AEAD:+AES-128-GCM:+GROUP-SECP521R1:+SIGN-ECDSA-SECP256R1-SHA256",
        "NONE:+VERS-TLS1.3:+CTYPE-X509:+AEAD:+AES-128-GCM:+GROUP-X25519:+SIGN-RSA-PSS-RSAE-SHA256",
    };
    for (size_t i = 0; i < sizeof(priorities) / sizeof(priorities[0]); i++) {
        struct tls_context *client = client_context(priorities[i]);
        struct tls_pair pair;
        assert_int_equal(tls_pair_init(&pair, client, "localhost", fixture.server), ERROR_NONE);
        tls_pair_handshake(&pair);
        assert_int_equal(pair.server.error, ERROR_TLS_NO_SUITE);
        assert_int_equal(tls_last_alert(&pair.server.tls), GNUTLS_A_HANDSHAKE_FAILURE);
        assert_int_equal(pair.client.error, ERROR_TLS_ALERT);
        tls_pair_dispose(&pair);
        tls_context_unref(&client);
    }
}

static void garbage_after_the_handshake_is_bad_record_mac(void **state)
{
    (void)state;
    uint8_t record[5 + 200];
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        struct tls_pair pair;
        pair_open(&pair, version_13 != 0);
        fill(record, sizeof(record), 3);
        memcpy(record, "\x17\x03\x03\x00\xc8", 5);
        assert_int_equal(tls_end_feed(&pair.server, record, sizeof(record)), ERROR_TLS_RECORD);
        assert_int_equal(tls_last_alert(&pair.server.tls), GNUTLS_A_BAD_RECORD_MAC);
        assert_false(tls_established(&pair.server.tls));
        tls_pair_pump(&pair);
        assert_int_equal(pair.client.error, ERROR_TLS_ALERT);
        assert_int_equal(tls_last_alert(&pair.client.tls), -GNUTLS_A_BAD_RECORD_MAC);
        assert_int_equal(pair.client.ends, 0);
        tls_pair_dispose(&pair);
    }
}

static void any_changed_byte_of_a_record_is_noticed(void **state)
{
    (void)state;
    static const size_t length_high = 3;
    for (size_t i = 0; i < 2 * 50; i++) {
        bool version_13 = i % 2 == 0;
        size_t at = i / 2;
        struct tls_pair pair;
        pair_open(&pair, version_13);
        assert_int_equal(
            tls_send(&pair.client.tls, &tls_end_events, (const uint8_t *)"thirty bytes of some plaintext", 30),
            ERROR_NONE);
        assert_true(pair.client.output.length > 50);
        /* In TLS 1.3 the outer type says nothing (the true one is encrypted), and GnuTLS does not look at it. */
        if (!version_13 || at > 0) {
            tls_pair_bytes_append(&pair.client.output, pair.client.output.bytes, pair.client.output.length);
            pair.client.output.bytes[at] ^= 1U;
            tls_end_feed(&pair.server, pair.client.output.bytes, pair.client.output.length);
            assert_int_equal(pair.server.received.length, 0);
            assert_int_equal(pair.server.ends, 0);
            /* A length of 256 more leaves the record incomplete. */
            assert_int_equal(pair.server.error != ERROR_NONE, at != length_high);
            assert_int_equal(tls_last_alert(&pair.server.tls) > 0, at != length_high);
        }
        tls_pair_dispose(&pair);
    }
}

static void an_oversized_record_is_record_overflow(void **state)
{
    (void)state;
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        struct tls_pair pair;
        pair_open(&pair, version_13 != 0);
        assert_int_equal(tls_end_feed(&pair.server, "\x17\x03\x03\x50\x00", 5), ERROR_TLS_RECORD);
        assert_int_equal(tls_last_alert(&pair.server.tls), GNUTLS_A_RECORD_OVERFLOW);
        tls_pair_dispose(&pair);
    }
}

static void a_fatal_alert_ends_the_connection_and_is_not_answered(void **state)
{
    (void)state;
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        struct tls_pair pair;
        pair_open(&pair, version_13 != 0);
        tls_abort(&pair.client.tls, &tls_end_events, GNUTLS_A_INTERNAL_ERROR);
        assert_int_equal(tls_last_alert(&pair.client.tls), GNUTLS_A_INTERNAL_ERROR);
        tls_pair_pump(&pair);
        assert_int_equal(pair.server.error, ERROR_TLS_ALERT);
        assert_int_equal(tls_last_alert(&pair.server.tls), -GNUTLS_A_INTERNAL_ERROR);
        assert_int_equal(pair.server.output.length, 0);
        assert_int_equal(pair.server.ends, 0);
        tls_pair_dispose(&pair);
    }
}

static void an_abort_before_anything_was_said_is_silent(void **state)
{
    (void)state;
    struct tls_end server;
    assert_int_equal(tls_end_init_server(&server, fixture.server), ERROR_NONE);
    assert_int_equal(tls_start(&server.tls, &tls_end_events), ERROR_NONE);
    tls_abort(&server.tls, &tls_end_events, GNUTLS_A_USER_CANCELED);
    assert_int_equal(server.output.length, 0);
    assert_int_equal(tls_receive(&server.tls, &tls_end_events, NULL, 0), ERROR_STATE);
    tls_end_dispose(&server);
}

static void an_abort_from_within_data_stops_all_events(void **state)
{
    (void)state;
    struct tls_pair pair;
    pair_open(&pair, true);
    pair.server.aborts_on_data = true;
    assert_int_equal(tls_send(&pair.client.tls, &tls_end_events, (const uint8_t *)"one", 3), ERROR_NONE);
    assert_int_equal(tls_send(&pair.client.tls, &tls_end_events, (const uint8_t *)"two", 3), ERROR_NONE);
    assert_int_equal(tls_finish(&pair.client.tls, &tls_end_events), ERROR_NONE);
    tls_pair_pump(&pair);
    assert_int_equal(pair.server.error, ERROR_STATE);
    assert_int_equal(pair.server.records, 1);
    assert_int_equal(pair.server.ends, 0);
    assert_int_equal(pair.client.error, ERROR_TLS_ALERT);
    tls_pair_dispose(&pair);
}

static void no_alert_follows_our_own_close_notify(void **state)
{
    (void)state;
    struct tls_pair pair;
    pair_open(&pair, true);
    assert_int_equal(tls_finish(&pair.server.tls, &tls_end_events), ERROR_NONE);
    tls_pair_pump(&pair);
    assert_int_equal(pair.client.ends, 1);
    assert_int_equal(tls_end_feed(&pair.server, "\x17\x03\x03\x50\x00", 5), ERROR_TLS_RECORD);
    assert_int_equal(pair.server.output.length, 0);
    assert_int_equal(tls_last_alert(&pair.server.tls), 0);
    tls_pair_dispose(&pair);
}

static void data_may_not_be_sent_before_the_handshake_is_over(void **state)
{
    (void)state;
    struct tls_pair pair;
    assert_int_equal(tls_pair_init(&pair, fixture.client, "localhost", fixture.server), ERROR_NONE);
    assert_int_equal(tls_send(&pair.client.tls, &tls_end_events, (const uint8_t *)"x", 1), ERROR_STATE);
    assert_int_equal(tls_start(&pair.client.tls, &tls_end_events), ERROR_NONE);
    assert_int_equal(tls_start(&pair.client.tls, &tls_end_events), ERROR_STATE);
    assert_int_equal(tls_send(&pair.client.tls, &tls_end_events, (const uint8_t *)"x", 1), ERROR_STATE);
    assert_int_equal(tls_finish(&pair.client.tls, &tls_end_events), ERROR_STATE);
    assert_false(tls_has_peer_input(&pair.client.tls));
    tls_pair_dispose(&pair);
}

static void a_disposed_connection_takes_every_call(void **state)
{
    (void)state;
    struct tls_peer_info info;
    struct tls_pair pair;
    pair_open(&pair, true);
    tls_dispose(&pair.client.tls);
    tls_dispose(&pair.client.tls);
    assert_int_equal(tls_start(&pair.client.tls, &tls_end_events), ERROR_STATE);
    assert_int_equal(tls_receive(&pair.client.tls, &tls_end_events, NULL, 0), ERROR_STATE);
    assert_int_equal(tls_send(&pair.client.tls, &tls_end_events, NULL, 0), ERROR_STATE);
    assert_int_equal(tls_finish(&pair.client.tls, &tls_end_events), ERROR_STATE);
    tls_abort(&pair.client.tls, &tls_end_events, 80);
    info = pair.client.peer;
    assert_string_equal(info.alpn, "");
    assert_int_equal(tls_last_alert(&pair.client.tls), 0);
    tls_pair_dispose(&pair);
}

/* ---- a peer that does what our own client never does ---- */

struct raw_client {
    struct tls_end server;
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    struct tls_pair_bytes output;
};

static ssize_t raw_pull(gnutls_transport_ptr_t pointer, void *into, size_t length)
{
    struct raw_client *raw = pointer;

    if (raw->server.output.length == 0) {
        gnutls_transport_set_errno(raw->session, EAGAIN);
        return -1;
    }
    length = length < raw->server.output.length ? length : raw->server.output.length;
    memcpy(into, raw->server.output.bytes, length);
    tls_pair_bytes_drop(&raw->server.output, length);
    return (ssize_t)length;
}

static ssize_t raw_push(gnutls_transport_ptr_t pointer, const void *bytes, size_t length)
{
    struct raw_client *raw = pointer;

    tls_pair_bytes_append(&raw->output, bytes, length);
    return (ssize_t)length;
}

static enum error_code raw_deliver(struct raw_client *raw)
{
    enum error_code error = ERROR_NONE;

    if (raw->output.length > 0) {
        error = tls_end_feed(&raw->server, raw->output.bytes, raw->output.length);
        tls_pair_bytes_drop(&raw->output, raw->output.length);
    }
    return error;
}

static void raw_open(struct raw_client *raw, const char *priority)
{
    int result;

    memset(raw, 0, sizeof(*raw));
    assert_int_equal(tls_end_init_server(&raw->server, fixture.server), ERROR_NONE);
    assert_int_equal(tls_start(&raw->server.tls, &tls_end_events), ERROR_NONE);
    assert_int_equal(gnutls_init(&raw->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK), 0);
    assert_int_equal(gnutls_certificate_allocate_credentials(&raw->credentials), 0);
    assert_int_equal(gnutls_credentials_set(raw->session, GNUTLS_CRD_CERTIFICATE, raw->credentials), 0);
    assert_int_equal(gnutls_priority_set_direct(raw->session, priority, NULL), 0);
    gnutls_transport_set_ptr(raw->session, raw);
    gnutls_transport_set_pull_function(raw->session, raw_pull);
    gnutls_transport_set_push_function(raw->session, raw_push);
    do {
        result = gnutls_handshake(raw->session);
        assert_int_equal(raw_deliver(raw), ERROR_NONE);
    } while (result == GNUTLS_E_AGAIN);
    assert_int_equal(result, 0);
    assert_int_equal(raw->server.established, 1);
}

static void raw_close(struct raw_client *raw)
{
    gnutls_deinit(raw->session);
    gnutls_certificate_free_credentials(raw->credentials);
    free(raw->output.bytes);
    tls_end_dispose(&raw->server);
}

static void a_client_that_renegotiates_is_told_no_renegotiation(void **state)
{
    (void)state;
    struct raw_client raw;
    uint8_t byte;
    raw_open(&raw, TLS12_ONLY);
    assert_int_equal(gnutls_handshake(raw.session), GNUTLS_E_AGAIN);
    assert_int_equal(raw_deliver(&raw), ERROR_TLS_RENEGOTIATION);
    assert_int_equal(tls_last_alert(&raw.server.tls), GNUTLS_A_NO_RENEGOTIATION);
    assert_int_equal(gnutls_record_recv(raw.session, &byte, 1), GNUTLS_E_WARNING_ALERT_RECEIVED);
    assert_int_equal(gnutls_alert_get(raw.session), GNUTLS_A_NO_RENEGOTIATION);
    raw_close(&raw);
}

static void keys_may_be_updated_at_any_time(void **state)
{
    (void)state;
    struct raw_client raw;
    char back[16];
    raw_open(&raw, "NORMAL:-VERS-ALL:+VERS-TLS1.3");
    raw.server.echo = true;
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(gnutls_session_key_update(raw.session, i % 2 == 0 ? GNUTLS_KU_PEER : 0), 0);
        assert_int_equal(gnutls_record_send(raw.session, "after update", 12), 12);
        assert_int_equal(raw_deliver(&raw), ERROR_NONE);
        ssize_t length;
        do {
            length = gnutls_record_recv(raw.session, back, sizeof(back));
        } while (length == GNUTLS_E_AGAIN && raw.server.output.length > 0);
        assert_int_equal(length, 12);
        assert_memory_equal(back, "after update", 12);
    }
    raw_close(&raw);
}

static void a_peer_that_floods_warning_alerts_is_cut_off(void **state)
{
    (void)state;
    struct raw_client raw;
    unsigned sent = 0;
    enum error_code error = ERROR_NONE;
    raw_open(&raw, TLS12_ONLY);
    while (error == ERROR_NONE && sent < 100) {
        assert_int_equal(gnutls_alert_send(raw.session, GNUTLS_AL_WARNING, GNUTLS_A_USER_CANCELED), 0);
        sent++;
        error = raw_deliver(&raw);
    }
    assert_int_equal(error, ERROR_TLS_RECORD);
    assert_in_range(sent, 2, 20);
    assert_int_equal(tls_last_alert(&raw.server.tls), GNUTLS_A_UNEXPECTED_MESSAGE);
    raw_close(&raw);
}

static void empty_records_among_data_are_harmless(void **state)
{
    (void)state;
    struct raw_client raw;
    raw_open(&raw, "NORMAL:-VERS-ALL:+VERS-TLS1.3");
    for (unsigned i = 0; i < 3; i++) {
        /* Padding alone makes a record without content. */
        assert_true(gnutls_record_send2(raw.session, "", 0, 32, 0) >= 0);
    }
    assert_int_equal(gnutls_record_send(raw.session, "data", 4), 4);
    assert_int_equal(raw_deliver(&raw), ERROR_NONE);
    assert_int_equal(raw.server.records, 1);
    assert_int_equal(raw.server.received.length, 4);
    raw_close(&raw);
}

/* ---- memory ---- */

static void each_allocation_of_a_connection_may_fail(void **state)
{
    (void)state;
    unsigned failed_runs = 0, lost_tickets = 0;
    for (uint64_t nth = 1;; nth++) {
        struct tls_pair pair;
        assert_true(nth < 100);
        memory_fail_at(nth);
        enum error_code error = tls_pair_init(&pair, fixture.client, "localhost", fixture.server);
        if (error == ERROR_NONE) {
            tls_pair_handshake(&pair);
            error = pair.client.error != ERROR_NONE ? pair.client.error : pair.server.error;
        }
        uint64_t faults = memory_faults();
        memory_fail_at(0);
        if (error == ERROR_NONE) {
            assert_int_equal(pair.client.established + pair.server.established, 2);
            lost_tickets += faults > 0;
        } else {
            failed_runs++;
            assert_true(error == ERROR_NO_MEMORY || pair.server.error == ERROR_NO_MEMORY);
        }
        tls_pair_dispose(&pair);
        if (faults == 0) {
            assert_int_equal(error, ERROR_NONE);
            break;
        }
    }
    assert_int_equal(failed_runs, 4);    /* a backend and a peer for each end */
    assert_in_range(lost_tickets, 1, 2); /* the ticket, and its pattern if it is the first: no reason to fail */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_versions_establish_and_tell_what_was_agreed),
        cmocka_unit_test(a_megabyte_is_echoed_from_within_data_whatever_the_splits),
        cmocka_unit_test(a_handshake_that_comes_byte_by_byte_is_complete_all_the_same),
        cmocka_unit_test(data_in_the_same_input_as_the_last_handshake_bytes_comes_after_established),
        cmocka_unit_test(each_direction_ends_by_itself),
        cmocka_unit_test(an_end_may_be_answered_from_within_the_event),
        cmocka_unit_test(what_follows_close_notify_is_ignored),
        cmocka_unit_test(a_connection_that_is_cut_never_looks_like_an_end),
        cmocka_unit_test(empty_calls_do_nothing),
        cmocka_unit_test(a_server_names_what_is_wrong_with_a_first_record),
        cmocka_unit_test(a_client_that_meets_another_protocol_says_so),
        cmocka_unit_test(random_bytes_in_place_of_a_hello_are_refused_without_harm),
        cmocka_unit_test(a_client_with_tls_1_0_alone_is_told_protocol_version),
        cmocka_unit_test(a_client_with_no_suite_or_group_of_ours_is_told_handshake_failure),
        cmocka_unit_test(garbage_after_the_handshake_is_bad_record_mac),
        cmocka_unit_test(any_changed_byte_of_a_record_is_noticed),
        cmocka_unit_test(an_oversized_record_is_record_overflow),
        cmocka_unit_test(a_fatal_alert_ends_the_connection_and_is_not_answered),
        cmocka_unit_test(an_abort_before_anything_was_said_is_silent),
        cmocka_unit_test(an_abort_from_within_data_stops_all_events),
        cmocka_unit_test(no_alert_follows_our_own_close_notify),
        cmocka_unit_test(data_may_not_be_sent_before_the_handshake_is_over),
        cmocka_unit_test(a_disposed_connection_takes_every_call),
        cmocka_unit_test(a_client_that_renegotiates_is_told_no_renegotiation),
        cmocka_unit_test(keys_may_be_updated_at_any_time),
        cmocka_unit_test(a_peer_that_floods_warning_alerts_is_cut_off),
        cmocka_unit_test(empty_records_among_data_are_harmless),
        cmocka_unit_test(each_allocation_of_a_connection_may_fail),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
