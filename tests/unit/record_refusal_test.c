/*
 * What an established connection must refuse, and with which alert: one test per demand of RFC 8446 and RFC 5246. The
 * peer's records are forged, so they are authentic unless a test is about that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "mux/record_internal.h"
#include "tests/unit/record_pair.h"

#define FATAL(name) (RECORD_ALERT_FATAL << 8 | RECORD_ALERT_##name)

static void begin(struct record_pair *pair, bool version_13)
{
    record_pair_init(pair, version_13, TLS_CIPHER_AES_128_GCM, 0);
}

/* The end has failed with this alert, told nothing since, and is dead. Ends the pair. */
static void expect(struct record_pair *pair, struct record_end *end, enum error_code error, int alert, unsigned events)
{
    assert_int_equal(end->error, error);
    assert_int_equal(record_last_alert(record_of(end)), alert & 0xff);
    assert_int_equal(record_pair_alert_of(pair, end), alert);
    assert_int_equal(end->events, events);
    assert_int_equal(record_end_feed(end, "x", 1), ERROR_STATE);
    assert_int_equal(record_end_send(end, "x", 1), ERROR_STATE);
    assert_int_equal(record_end_finish(end), ERROR_STATE);
    record_end_abort(end, RECORD_ALERT_INTERNAL_ERROR);
    assert_int_equal(end->output.length, 0);
    record_pair_dispose(pair);
}

static void refuse_header(bool version_13, bool server, const char header[5], int alert)
{
    struct record_pair pair;

    begin(&pair, version_13);
    struct record_end *end = server ? &pair.server : &pair.client;
    /* As soon as the header is there, even if it comes by single bytes. */
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(record_end_feed(end, header + i, 1), ERROR_NONE);
    }
    record_end_feed(end, header + 4, 1);
    expect(&pair, end, ERROR_TLS_RECORD, alert, 0);
    begin(&pair, version_13);
    end = server ? &pair.server : &pair.client;
    record_end_feed(end, header, 5);
    expect(&pair, end, ERROR_TLS_RECORD, alert, 0);
}

static void refuse_content(bool version_13, bool server, uint8_t type, const void *content, size_t length, int alert)
{
    struct record_pair pair;

    begin(&pair, version_13);
    struct record_end *end = server ? &pair.server : &pair.client;
    record_pair_inject(&pair, end, type, content, length, 0);
    expect(&pair, end, ERROR_TLS_RECORD, alert, 0);
}

/* ---- headers ---- */

static void outer_types_of_tls_1_3_other_than_application_data_are_unexpected(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        char header[5] = {(char)type, 3, 3, 0, 40};
        if (type != RECORD_TYPE_APPLICATION_DATA) {
            refuse_header(true, type % 2 == 0, header, FATAL(UNEXPECTED_MESSAGE));
        }
    }
}

static void unknown_types_and_change_cipher_spec_are_unexpected_in_tls_1_2(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        char header[5] = {(char)type, 3, 3, 0, 40};
        if (type < RECORD_TYPE_ALERT || type > RECORD_TYPE_APPLICATION_DATA) {
            refuse_header(false, type % 2 == 0, header, FATAL(UNEXPECTED_MESSAGE));
        }
    }
}

static void a_version_that_was_not_negotiated_is_refused_in_tls_1_2(void **state)
{
    (void)state;
    refuse_header(false, true, "\x17\x03\x01\x00\x28", FATAL(PROTOCOL_VERSION));
    refuse_header(false, true, "\x17\x03\x04\x00\x28", FATAL(PROTOCOL_VERSION));
    refuse_header(false, false, "\x17\x02\x03\x00\x28", FATAL(PROTOCOL_VERSION));
}

static void a_ciphertext_that_is_too_long_is_record_overflow(void **state)
{
    (void)state;
    refuse_header(true, true, "\x17\x03\x03\x41\x01", FATAL(RECORD_OVERFLOW)); /* 2^14 + 257 */
    refuse_header(true, false, "\x17\x03\x03\xff\xff", FATAL(RECORD_OVERFLOW));
    refuse_header(false, true, "\x17\x03\x03\x48\x01", FATAL(RECORD_OVERFLOW)); /* 2^14 + 2049 */
    refuse_header(false, false, "\x17\x03\x03\xff\xff", FATAL(RECORD_OVERFLOW));
}

static void a_ciphertext_that_is_too_short_is_bad_record_mac(void **state)
{
    (void)state;
    refuse_header(true, true, "\x17\x03\x03\x00\x00", FATAL(BAD_RECORD_MAC));
    refuse_header(true, true, "\x17\x03\x03\x00\x0f", FATAL(BAD_RECORD_MAC));
    refuse_header(false, true, "\x17\x03\x03\x00\x00", FATAL(BAD_RECORD_MAC));
    refuse_header(false, true, "\x17\x03\x03\x00\x17", FATAL(BAD_RECORD_MAC));
}

/* ---- protection ---- */

static void any_changed_byte_is_bad_record_mac(void **state)
{
    (void)state;
    uint8_t bytes[RECORD_BYTES_MAX + 1024];
    for (unsigned suite = 0; suite < 2 * TLS_CIPHER_SUITE_COUNT; suite++) {
        for (size_t at = 1; at < 40; at++) {
            struct record_pair pair;
            record_pair_init(&pair, suite % 2 == 0, suite / 2, 0);
            size_t length = record_pair_forge(&pair, &pair.server, 23, "0123456789abcdef", 16, 0, bytes);
            bool version_or_length = at < RECORD_HEADER_BYTES && (!pair.version_13 || at > 2);
            if (at >= length || version_or_length) {
                record_pair_dispose(&pair);
                continue;
            }
            bytes[at] ^= 0x10;
            record_end_feed(&pair.server, bytes, length);
            expect(&pair, &pair.server, ERROR_TLS_RECORD, FATAL(BAD_RECORD_MAC), 0);
        }
    }
}

static void a_record_that_comes_twice_or_out_of_order_is_bad_record_mac(void **state)
{
    (void)state;
    uint8_t bytes[2][RECORD_BYTES_MAX + 1024];
    for (unsigned suite = 0; suite < 2 * TLS_CIPHER_SUITE_COUNT; suite++) {
        struct record_pair pair;
        record_pair_init(&pair, suite % 2 == 0, suite / 2, 0);
        size_t length = record_pair_forge(&pair, &pair.server, 23, "one", 3, 0, bytes[0]);
        assert_int_equal(record_end_feed(&pair.server, bytes[0], length), ERROR_NONE);
        record_end_feed(&pair.server, bytes[0], length);
        expect(&pair, &pair.server, ERROR_TLS_RECORD, FATAL(BAD_RECORD_MAC), 1);
        record_pair_init(&pair, suite % 2 == 0, suite / 2, 0);
        record_pair_forge(&pair, &pair.server, 23, "one", 3, 0, bytes[0]);
        length = record_pair_forge(&pair, &pair.server, 23, "two", 3, 0, bytes[1]);
        record_end_feed(&pair.server, bytes[1], length);
        expect(&pair, &pair.server, ERROR_TLS_RECORD, FATAL(BAD_RECORD_MAC), 0);
    }
}

static void our_own_records_sent_back_are_bad_record_mac(void **state)
{
    (void)state;
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        struct record_pair pair;
        begin(&pair, version_13 != 0);
        assert_int_equal(record_end_send(&pair.server, "mirror", 6), ERROR_NONE);
        struct tls_pair_bytes own = pair.server.output;
        record_end_feed(&pair.server, own.bytes, own.length);
        expect(&pair, &pair.server, ERROR_TLS_RECORD, FATAL(BAD_RECORD_MAC), 0);
    }
}

static void data_under_the_old_key_after_a_key_update_is_bad_record_mac(void **state)
{
    (void)state;
    struct record_pair pair;
    begin(&pair, true);
    assert_int_equal(record_pair_inject(&pair, &pair.server, 22, "\x18\0\0\1\0", 5, 0), ERROR_NONE);
    record_pair_inject(&pair, &pair.server, 23, "x", 1, 0);
    expect(&pair, &pair.server, ERROR_TLS_RECORD, FATAL(BAD_RECORD_MAC), 0);
}

/* ---- contents ---- */

static void a_plaintext_that_is_too_long_is_record_overflow(void **state)
{
    (void)state;
    static uint8_t bytes[RECORD_PLAINTEXT_MAX + 1];
    struct record_pair pair;
    refuse_content(true, true, 23, bytes, sizeof(bytes), FATAL(RECORD_OVERFLOW));
    refuse_content(false, true, 23, bytes, sizeof(bytes), FATAL(RECORD_OVERFLOW));
    begin(&pair, true); /* padding counts */
    record_pair_inject(&pair, &pair.server, 23, "x", 1, RECORD_PLAINTEXT_MAX);
    expect(&pair, &pair.server, ERROR_TLS_RECORD, FATAL(RECORD_OVERFLOW), 0);
}

/* max_fragment_length (RFC 6066 section 4): the content, its expansion, and what a header announces. */
static void records_beyond_a_size_that_holds_for_both_overflow(void **state)
{
    (void)state;
    static uint8_t bytes[513];
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        for (size_t over = 0; over < 2; over++) {
            struct record_pair pair;
            uint8_t header[5] = {23, 3, 3, version_13 ? 0x03 : 0x0a, (uint8_t)over};
            begin(&pair, version_13);
            record_of(&pair.server)->size_less_one = 511;
            record_of(&pair.server)->size_mutual = 1;
            record_pair_inject(&pair, &pair.server, 23, bytes, 512, 0);
            assert_int_equal(pair.server.received.length, 512);
            if (over) {
                record_pair_inject(&pair, &pair.server, 23, bytes, 513, 0);
                expect(&pair, &pair.server, ERROR_TLS_RECORD, FATAL(RECORD_OVERFLOW), 1);
                begin(&pair, version_13);
                record_of(&pair.server)->size_less_one = 511;
                record_of(&pair.server)->size_mutual = 1;
            }
            record_end_feed(&pair.server, header, sizeof(header));
            assert_int_equal(pair.server.error, over ? ERROR_TLS_RECORD : ERROR_NONE);
            record_pair_dispose(&pair);
        }
    }
}

static void a_record_of_nothing_but_padding_is_unexpected(void **state)
{
    (void)state;
    struct record_pair pair;
    for (size_t padding = 0; padding < 300; padding += 37) {
        begin(&pair, true);
        record_pair_inject(&pair, &pair.server, 0, "", 0, padding);
        expect(&pair, &pair.server, ERROR_TLS_RECORD, FATAL(UNEXPECTED_MESSAGE), 0);
    }
}

/* Not even a content type is in it. */
static void an_authentic_record_of_nothing_at_all_is_unexpected(void **state)
{
    (void)state;
    struct record_pair pair;
    uint8_t bytes[RECORD_HEADER_BYTES + TLS_CIPHER_TAG_BYTES] = {23, 3, 3, 0, TLS_CIPHER_TAG_BYTES};
    uint8_t nonce[TLS_CIPHER_NONCE_BYTES];
    struct tls_cipher *cipher = NULL;

    begin(&pair, true);
    assert_int_equal(record_cipher(record_of(&pair.client), RECORD_WRITE, &cipher), ERROR_NONE);
    record_nonce(record_of(&pair.client), RECORD_WRITE, cipher, NULL, nonce);
    assert_int_equal(tls_cipher_seal(cipher, nonce, bytes, RECORD_HEADER_BYTES, bytes + RECORD_HEADER_BYTES, 0),
                     ERROR_NONE);
    record_end_feed(&pair.server, bytes, sizeof(bytes));
    expect(&pair, &pair.server, ERROR_TLS_RECORD, FATAL(UNEXPECTED_MESSAGE), 0);
}

static void user_canceled_within_a_key_update_is_unexpected(void **state)
{
    (void)state;
    struct record_pair pair;

    begin(&pair, true);
    assert_int_equal(record_pair_inject(&pair, &pair.server, 22, "\x18\0\0", 3, 0), ERROR_NONE);
    record_pair_inject(&pair, &pair.server, 21, "\1\x5a", 2, 0);
    expect(&pair, &pair.server, ERROR_TLS_RECORD, FATAL(UNEXPECTED_MESSAGE), 0);
}

static void inner_types_that_are_not_known_are_unexpected(void **state)
{
    (void)state;
    for (unsigned type = 1; type < 256; type++) {
        if (type < RECORD_TYPE_ALERT || type > RECORD_TYPE_APPLICATION_DATA) {
            refuse_content(true, type % 2 == 0, (uint8_t)type, "\1", 1, FATAL(UNEXPECTED_MESSAGE));
        }
    }
}

static void empty_alerts_and_handshake_messages_are_unexpected(void **state)
{
    (void)state;
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        refuse_content(version_13 != 0, true, 21, "", 0, FATAL(UNEXPECTED_MESSAGE));
        refuse_content(version_13 != 0, false, 22, "", 0, FATAL(UNEXPECTED_MESSAGE));
    }
}

static void records_without_data_are_taken_only_so_often_in_a_row(void **state)
{
    (void)state;
    struct record_pair pair;
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        begin(&pair, version_13 != 0);
        for (unsigned i = 0; i < 2 * RECORD_IDLE_MAX; i++) {
            if (i == RECORD_IDLE_MAX) {
                assert_int_equal(record_pair_inject(&pair, &pair.server, 23, "x", 1, 0), ERROR_NONE);
            }
            assert_int_equal(record_pair_inject(&pair, &pair.server, 23, "", 0, 0), ERROR_NONE);
        }
        record_pair_inject(&pair, &pair.server, 23, "", 0, 0);
        expect(&pair, &pair.server, ERROR_TLS_RECORD, FATAL(UNEXPECTED_MESSAGE), 1);
    }
}

/* ---- handshake messages ---- */

static void a_server_takes_no_handshake_message_but_key_update(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        uint8_t message[5] = {(uint8_t)type, 0, 0, 1, 0};
        if (type != RECORD_MESSAGE_KEY_UPDATE) {
            refuse_content(true, true, 22, message, sizeof(message), FATAL(UNEXPECTED_MESSAGE));
            refuse_content(true, true, 22, message, 1, FATAL(UNEXPECTED_MESSAGE)); /* without waiting for the rest */
        }
    }
}

static void a_client_takes_no_handshake_message_but_key_update_and_tickets(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        uint8_t message[5] = {(uint8_t)type, 0, 0, 1, 0};
        if (type != RECORD_MESSAGE_KEY_UPDATE && type != RECORD_MESSAGE_NEW_SESSION_TICKET) {
            refuse_content(true, false, 22, message, sizeof(message), FATAL(UNEXPECTED_MESSAGE));
        }
    }
}

static void a_ticket_of_impossible_length_is_a_decode_error(void **state)
{
    (void)state;
    refuse_content(true, false, 22, "\x04\x00\x00\x00", 4, FATAL(DECODE_ERROR));
    refuse_content(true, false, 22, "\x04\x02\x01\x0b", 4, FATAL(DECODE_ERROR));
    refuse_content(true, false, 22, "\x04\xff\xff\xff", 4, FATAL(DECODE_ERROR));
}

static void a_key_update_of_another_length_than_one_is_a_decode_error(void **state)
{
    (void)state;
    refuse_content(true, true, 22, "\x18\0\0\0", 4, FATAL(DECODE_ERROR));
    refuse_content(true, true, 22, "\x18\0\0\2\0\0", 6, FATAL(DECODE_ERROR));
    refuse_content(true, false, 22, "\x18\1\0\1\0", 5, FATAL(DECODE_ERROR));
}

static void a_key_update_with_an_unknown_request_is_an_illegal_parameter(void **state)
{
    (void)state;
    for (unsigned request = 2; request < 256; request++) {
        uint8_t message[5] = {RECORD_MESSAGE_KEY_UPDATE, 0, 0, 1, (uint8_t)request};
        refuse_content(true, request % 2 == 0, 22, message, sizeof(message), FATAL(ILLEGAL_PARAMETER));
    }
}

static void a_key_update_must_end_its_record(void **state)
{
    (void)state;
    refuse_content(true, true, 22, "\x18\0\0\1\0\x18\0\0\1\0", 10, FATAL(UNEXPECTED_MESSAGE));
    refuse_content(true, true, 22, "\x18\0\0\1\1\x18", 6, FATAL(UNEXPECTED_MESSAGE));
}

static void a_key_update_may_be_split_but_nothing_may_come_between(void **state)
{
    (void)state;
    struct record_pair pair;
    for (size_t first = 1; first < 5; first++) {
        begin(&pair, true);
        assert_int_equal(record_pair_inject(&pair, &pair.server, 22, "\x18\0\0\1\0", first, 0), ERROR_NONE);
        assert_int_equal(record_pair_inject(&pair, &pair.server, 22, &"\x18\0\0\1\0"[first], 5 - first, 0), ERROR_NONE);
        assert_int_equal(record_of(&pair.server)->sequence[RECORD_READ], 0);
        record_pair_dispose(&pair);
        for (size_t length = 0; length < 2; length++) { /* not even nothing */
            begin(&pair, true);
            assert_int_equal(record_pair_inject(&pair, &pair.server, 22, "\x18\0\0\1\0", first, 0), ERROR_NONE);
            record_pair_inject(&pair, &pair.server, 23, "x", length, 0);
            expect(&pair, &pair.server, ERROR_TLS_RECORD, FATAL(UNEXPECTED_MESSAGE), 0);
        }
    }
    begin(&pair, true);
    assert_int_equal(record_pair_inject(&pair, &pair.client, 22, "\x04\0\0\x09part", 8, 0), ERROR_NONE);
    record_pair_inject(&pair, &pair.client, 23, "x", 1, 0);
    expect(&pair, &pair.client, ERROR_TLS_RECORD, FATAL(UNEXPECTED_MESSAGE), 0);
}

static void renegotiation_by_a_client_is_declined_and_ends_the_connection(void **state)
{
    (void)state;
    struct record_pair pair;
    begin(&pair, false);
    assert_int_equal(record_pair_inject(&pair, &pair.server, 22, "\1\0\0\1x", 5, 0), ERROR_TLS_RENEGOTIATION);
    assert_int_equal(record_last_alert(record_of(&pair.server)), RECORD_ALERT_NO_RENEGOTIATION);
    assert_int_equal(record_pair_alert_of(&pair, &pair.server), RECORD_ALERT_WARNING << 8);
    record_pair_dispose(&pair);
}

static void renegotiation_by_a_server_is_declined_however_often_it_asks_within_reason(void **state)
{
    (void)state;
    struct record_pair pair;
    begin(&pair, false);
    for (unsigned i = 0; i < RECORD_WARNING_ALERTS_MAX; i++) {
        assert_int_equal(record_pair_inject(&pair, &pair.client, 22, "\0\0", 2, 0), ERROR_NONE);
        assert_int_equal(record_pair_inject(&pair, &pair.client, 23, "x", 1, 0), ERROR_NONE);
        assert_int_equal(record_pair_inject(&pair, &pair.client, 22, "\0\0", 2, 0), ERROR_NONE);
        assert_int_equal(record_pair_alert_of(&pair, &pair.client), RECORD_ALERT_WARNING << 8);
    }
    record_pair_inject(&pair, &pair.client, 22, "\0\0\0\0", 4, 0);
    expect(&pair, &pair.client, ERROR_TLS_RECORD, FATAL(UNEXPECTED_MESSAGE), RECORD_WARNING_ALERTS_MAX);
    refuse_content(false, false, 22, "\0\0\0\1", 4, FATAL(DECODE_ERROR));
}

static void other_handshake_messages_are_unexpected_in_tls_1_2(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        uint8_t message[4] = {(uint8_t)type, 0, 0, 0};
        if (type != RECORD_MESSAGE_CLIENT_HELLO) {
            refuse_content(false, true, 22, message, sizeof(message), FATAL(UNEXPECTED_MESSAGE));
        }
        if (type != RECORD_MESSAGE_HELLO_REQUEST) {
            refuse_content(false, false, 22, message, sizeof(message), FATAL(UNEXPECTED_MESSAGE));
        }
    }
}

/* ---- alerts ---- */

static void every_alert_but_two_is_fatal_in_tls_1_3_whatever_its_level(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * 256; i++) {
        uint8_t alert[2] = {(uint8_t)(1 + i % 2), (uint8_t)(i / 2)};
        struct record_pair pair;
        begin(&pair, true);
        enum error_code error = record_pair_inject(&pair, &pair.client, 21, alert, 2, 0);
        bool fatal = alert[1] != RECORD_ALERT_CLOSE_NOTIFY && alert[1] != RECORD_ALERT_USER_CANCELED;
        assert_int_equal(error, fatal ? ERROR_TLS_ALERT : ERROR_NONE);
        assert_int_equal(record_last_alert(record_of(&pair.client)), fatal ? -alert[1] : 0);
        assert_int_equal(pair.client.output.length, 0); /* never answered */
        assert_int_equal(pair.client.ends, alert[1] == RECORD_ALERT_CLOSE_NOTIFY);
        assert_int_equal(record_end_send(&pair.client, "x", 1), fatal ? ERROR_STATE : ERROR_NONE);
        record_pair_dispose(&pair);
    }
}

static void an_alert_of_another_length_than_two_is_a_decode_error_in_tls_1_3(void **state)
{
    (void)state;
    refuse_content(true, true, 21, "\1", 1, FATAL(DECODE_ERROR));
    refuse_content(true, true, 21, "\1\0\1", 3, FATAL(DECODE_ERROR));
    refuse_content(true, false, 21, "\1\0\1\0", 4, FATAL(DECODE_ERROR));
}

static void alerts_of_tls_1_2_may_be_split_and_joined(void **state)
{
    (void)state;
    struct record_pair pair;
    begin(&pair, false);
    assert_int_equal(record_pair_inject(&pair, &pair.server, 21, "\1", 1, 0), ERROR_NONE);
    assert_int_equal(pair.server.ends, 0);
    assert_true(record_incomplete(record_of(&pair.server)));
    assert_int_equal(record_pair_inject(&pair, &pair.server, 21, "\x5a\1\0\2", 4, 0), ERROR_NONE);
    assert_int_equal(pair.server.ends, 1);
    assert_int_equal(record_of(&pair.server)->warning_alerts, 1);
    record_pair_dispose(&pair);
    begin(&pair, false);
    assert_int_equal(record_pair_inject(&pair, &pair.server, 21, "\1\x5a\2\x28", 4, 0), ERROR_TLS_ALERT);
    assert_int_equal(record_last_alert(record_of(&pair.server)), -40);
    assert_int_equal(pair.server.output.length, 0);
    record_pair_dispose(&pair);
}

static void an_alert_of_unknown_level_is_an_illegal_parameter_in_tls_1_2(void **state)
{
    (void)state;
    refuse_content(false, true, 21, "\0\0", 2, FATAL(ILLEGAL_PARAMETER));
    refuse_content(false, true, 21, "\3\0", 2, FATAL(ILLEGAL_PARAMETER));
}

static void a_flood_of_warning_alerts_is_cut_off(void **state)
{
    (void)state;
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        struct record_pair pair;
        begin(&pair, version_13 != 0);
        for (unsigned i = 0; i < RECORD_WARNING_ALERTS_MAX; i++) {
            assert_int_equal(record_pair_inject(&pair, &pair.server, 21, "\1\x5a", 2, 0), ERROR_NONE);
            assert_int_equal(record_pair_inject(&pair, &pair.server, 23, "x", 1, 0), ERROR_NONE);
        }
        record_pair_inject(&pair, &pair.server, 21, "\1\x5a", 2, 0);
        expect(&pair, &pair.server, ERROR_TLS_RECORD, FATAL(UNEXPECTED_MESSAGE), RECORD_WARNING_ALERTS_MAX);
    }
}

static void no_alert_follows_our_own_close_notify(void **state)
{
    (void)state;
    struct record_pair pair;
    begin(&pair, true);
    assert_int_equal(record_end_finish(&pair.server), ERROR_NONE);
    pair.server.output.length = 0;
    assert_int_equal(record_end_feed(&pair.server, "\x17\x03\x03\xff\xff", 5), ERROR_TLS_RECORD);
    assert_int_equal(pair.server.output.length, 0);
    assert_int_equal(record_last_alert(record_of(&pair.server)), 0);
    record_pair_dispose(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outer_types_of_tls_1_3_other_than_application_data_are_unexpected),
        cmocka_unit_test(unknown_types_and_change_cipher_spec_are_unexpected_in_tls_1_2),
        cmocka_unit_test(a_version_that_was_not_negotiated_is_refused_in_tls_1_2),
        cmocka_unit_test(a_ciphertext_that_is_too_long_is_record_overflow),
        cmocka_unit_test(a_ciphertext_that_is_too_short_is_bad_record_mac),
        cmocka_unit_test(any_changed_byte_is_bad_record_mac),
        cmocka_unit_test(a_record_that_comes_twice_or_out_of_order_is_bad_record_mac),
        cmocka_unit_test(our_own_records_sent_back_are_bad_record_mac),
        cmocka_unit_test(data_under_the_old_key_after_a_key_update_is_bad_record_mac),
        cmocka_unit_test(a_plaintext_that_is_too_long_is_record_overflow),
        cmocka_unit_test(records_beyond_a_size_that_holds_for_both_overflow),
        cmocka_unit_test(a_record_of_nothing_but_padding_is_unexpected),
        cmocka_unit_test(an_authentic_record_of_nothing_at_all_is_unexpected),
        cmocka_unit_test(user_canceled_within_a_key_update_is_unexpected),
        cmocka_unit_test(inner_types_that_are_not_known_are_unexpected),
        cmocka_unit_test(empty_alerts_and_handshake_messages_are_unexpected),
        cmocka_unit_test(records_without_data_are_taken_only_so_often_in_a_row),
        cmocka_unit_test(a_server_takes_no_handshake_message_but_key_update),
        cmocka_unit_test(a_client_takes_no_handshake_message_but_key_update_and_tickets),
        cmocka_unit_test(a_ticket_of_impossible_length_is_a_decode_error),
        cmocka_unit_test(a_key_update_of_another_length_than_one_is_a_decode_error),
        cmocka_unit_test(a_key_update_with_an_unknown_request_is_an_illegal_parameter),
        cmocka_unit_test(a_key_update_must_end_its_record),
        cmocka_unit_test(a_key_update_may_be_split_but_nothing_may_come_between),
        cmocka_unit_test(renegotiation_by_a_client_is_declined_and_ends_the_connection),
        cmocka_unit_test(renegotiation_by_a_server_is_declined_however_often_it_asks_within_reason),
        cmocka_unit_test(other_handshake_messages_are_unexpected_in_tls_1_2),
        cmocka_unit_test(every_alert_but_two_is_fatal_in_tls_1_3_whatever_its_level),
        cmocka_unit_test(an_alert_of_another_length_than_two_is_a_decode_error_in_tls_1_3),
        cmocka_unit_test(alerts_of_tls_1_2_may_be_split_and_joined),
        cmocka_unit_test(an_alert_of_unknown_level_is_an_illegal_parameter_in_tls_1_2),
        cmocka_unit_test(a_flood_of_warning_alerts_is_cut_off),
        cmocka_unit_test(no_alert_follows_our_own_close_notify),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
