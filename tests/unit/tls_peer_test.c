/*
 * Our connections against GnuTLS's own record layer and against OpenSSL, as client and as server, with each suite of
 * both versions; and the moment of the hand-over. What is random comes from a seed, which is named when a test fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/memory.h"
#include "mux/record_internal.h"
#include "mux/tls_backend.h"
#include "tests/unit/test_pki.h"
#include "tests/unit/tls_pair.h"
#include "tests/unit/tls_peer.h"

#define TLS12_ONLY                                                                                                     \
    "NONE:+VERS-TLS1.2:+CTYPE-X509:+AEAD:+ECDHE-ECDSA:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:+GROUP-X25519"      \
    ":+GROUP-SECP256R1:+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SHA256"

static struct {
    struct test_pki pki;
    struct tls_context *server;
    struct tls_context *client;
    struct tls_context *client12;
} fixture;

static struct tls_context *client_context(const char *priority)
{
    struct tls_client_settings settings = {.ca = fixture.pki.ca, .priority = priority};
    struct tls_context *context = NULL;

    return tls_context_new_client(&settings, &context, NULL) == ERROR_NONE ? context : NULL;
}

static int set_up(void **state)
{
    (void)state;
    if (!test_pki_create(&fixture.pki)) {
        return -1;
    }
    struct tls_certificate_files files = test_identity_files(&fixture.pki.edge);
    struct tls_server_settings settings = {.certificates = &files, .certificate_count = 1, .tickets = true};
    fixture.client = client_context(NULL);
    fixture.client12 = client_context(TLS12_ONLY);
    return tls_context_new_server(&settings, &fixture.server, NULL) == ERROR_NONE && fixture.client != NULL &&
                   fixture.client12 != NULL
               ? 0
               : -1;
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

/* One of ours and one of theirs. */
struct meeting {
    struct tls_end ours;
    struct tls_peer theirs;
    uint64_t seed;
    size_t split_max; /* as tls_pair's */
    char text[80];    /* which one this is */
};

static void meeting_init(struct meeting *meeting, struct tls_peer_settings *settings, uint64_t seed, size_t split_max)
{
    memset(meeting, 0, sizeof(*meeting));
    meeting->seed = seed;
    meeting->split_max = split_max;
    snprintf(meeting->text, sizeof(meeting->text), "%s as %s, TLS 1.%d, suite %u, seed %llu",
             settings->library == TLS_PEER_GNUTLS ? "GnuTLS" : "OpenSSL", settings->server ? "server" : "client",
             settings->version_13 ? 3 : 2, settings->suite, (unsigned long long)seed);
    settings->identity = &fixture.pki.edge;
    tls_peer_init(&meeting->theirs, settings);
    struct tls_context *client = settings->version_13 ? fixture.client : fixture.client12;
    enum error_code error = settings->server ? tls_end_init_client(&meeting->ours, client, "localhost")
                                             : tls_end_init_server(&meeting->ours, fixture.server);
    assert_int_equal(error, ERROR_NONE);
}

static void meeting_dispose(struct meeting *meeting)
{
    tls_end_dispose(&meeting->ours);
    tls_peer_dispose(&meeting->theirs);
}

static size_t split(struct meeting *meeting, size_t length)
{
    if (meeting->split_max == 0 || length == 0) {
        return length;
    }
    size_t part = 1 + (size_t)(tls_pair_random(&meeting->seed) % meeting->split_max);
    return part < length ? part : length;
}

static void drop(struct tls_pair_bytes *bytes, size_t length)
{
    if (length > 0) {
        tls_pair_bytes_drop(bytes, length);
    }
}

static void meeting_carry(struct meeting *meeting)
{
    do {
        size_t length = split(meeting, meeting->ours.output.length);
        tls_pair_bytes_append(&meeting->theirs.input, meeting->ours.output.bytes, length);
        drop(&meeting->ours.output, length);
        tls_peer_step(&meeting->theirs);
        length = split(meeting, meeting->theirs.output.length);
        if (meeting->ours.error == ERROR_NONE && length > 0) {
            tls_end_feed(&meeting->ours, meeting->theirs.output.bytes, length);
        }
        drop(&meeting->theirs.output, length);
    } while (meeting->ours.output.length > 0 || meeting->theirs.output.length > 0);
    if (meeting->ours.error != ERROR_NONE || meeting->theirs.failed) {
        fail_msg("%s: %s, alert %d; theirs failed: %d", meeting->text, error_name(meeting->ours.error),
                 tls_last_alert(&meeting->ours.tls), meeting->theirs.failed);
    }
}

static void meeting_open(struct meeting *meeting)
{
    assert_int_equal(tls_start(&meeting->ours.tls, &tls_end_events), ERROR_NONE);
    tls_peer_step(&meeting->theirs);
    meeting_carry(meeting);
    if (!meeting->theirs.established || meeting->ours.established != 1) {
        fail_msg("%s: no handshake", meeting->text);
    }
}

static void update_output(void *owner, const uint8_t *bytes, size_t length)
{
    struct tls_session *tls = owner;

    tls_end_events.output(tls, bytes, length);
}

static void ours_update(struct meeting *meeting, bool ask)
{
    static const struct record_events events = {.output = update_output};
    struct record_sink sink = {.events = &events, .owner = &meeting->ours.tls};

    assert_int_equal(record_update_keys(&tls_open_of(&meeting->ours.tls)->record, &sink, ask), ERROR_NONE);
}

struct traffic {
    uint8_t *bytes; /* a megabyte; each side sends a beginning of it */
    size_t ours;
    size_t theirs;
    unsigned updates;
};

static size_t part_of(struct meeting *meeting, size_t sent)
{
    size_t most = tls_pair_random(&meeting->seed) % 4 == 0 ? 50000 : 300;
    size_t part = 1 + (size_t)(tls_pair_random(&meeting->seed) % most);

    return part < (1U << 20) - sent ? part : (1U << 20) - sent;
}

/* GnuTLS takes but a few new keys in a second, and none that it is asked for while it asks itself. */
static void exchange_step(struct meeting *meeting, struct traffic *traffic, bool version_13)
{
    bool patient = meeting->theirs.library == TLS_PEER_OPENSSL;
    unsigned updates_max = patient ? 1000 : 2;
    bool ask = patient && (tls_pair_random(&meeting->seed) & 1U);

    switch (tls_pair_random(&meeting->seed) % 8) {
    case 0:
    case 1:
        if (version_13 && traffic->updates < updates_max) {
            ours_update(meeting, ask);
            traffic->updates++;
        }
        break;
    case 2:
        if (version_13 && traffic->updates < updates_max) {
            meeting_carry(meeting); /* OpenSSL does not like to be asked in the midst of another step of its own */
            tls_peer_update(&meeting->theirs, ask);
            traffic->updates++;
        }
        break;
    case 3:
        meeting_carry(meeting);
        break;
    case 4:
    case 5: {
        size_t part = part_of(meeting, traffic->theirs);
        tls_peer_send(&meeting->theirs, traffic->bytes + traffic->theirs, part);
        traffic->theirs += part;
        break;
    }
    default: {
        size_t part = part_of(meeting, traffic->ours);
        assert_int_equal(tls_send(&meeting->ours.tls, &tls_end_events, traffic->bytes + traffic->ours, part),
                         ERROR_NONE);
        traffic->ours += part;
        break;
    }
    }
}

static void exchange(struct tls_peer_settings settings, uint64_t seed)
{
    static uint8_t bytes[1U << 20];
    static const size_t splits[] = {0, 20000, 1500, 90};
    struct meeting meeting;
    struct traffic traffic = {.bytes = bytes};

    meeting_init(&meeting, &settings, seed, splits[seed % 4]);
    meeting_open(&meeting);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    }
    for (unsigned step = 0; step < 100; step++) {
        exchange_step(&meeting, &traffic, settings.version_13);
    }
    meeting_carry(&meeting);
    assert_int_equal(tls_finish(&meeting.ours.tls, &tls_end_events), ERROR_NONE);
    meeting_carry(&meeting);
    tls_peer_finish(&meeting.theirs);
    meeting_carry(&meeting);
    if (meeting.theirs.received.length != traffic.ours || meeting.ours.received.length != traffic.theirs ||
        !meeting.theirs.ended || meeting.ours.ends != 1) {
        fail_msg("%s: %zu of %zu, %zu of %zu bytes; ends %d, %u", meeting.text, meeting.theirs.received.length,
                 traffic.ours, meeting.ours.received.length, traffic.theirs, meeting.theirs.ended, meeting.ours.ends);
    }
    assert_memory_equal(meeting.theirs.received.bytes, bytes, traffic.ours);
    assert_memory_equal(meeting.ours.received.bytes, bytes, traffic.theirs);
    meeting_dispose(&meeting);
}

static void exchange_all(enum tls_peer_library library, bool server)
{
    for (unsigned i = 0; i < 6; i++) {
        for (uint64_t seed = 1; seed <= 8; seed++) {
            struct tls_peer_settings settings = {
                .library = library, .server = server, .version_13 = i % 2 == 0, .suite = i / 2};
            exchange(settings, seed);
        }
    }
}

static void gnutls_as_a_client_gets_each_byte(void **state)
{
    (void)state;
    exchange_all(TLS_PEER_GNUTLS, false);
}

static void gnutls_as_a_server_gets_each_byte(void **state)
{
    (void)state;
    exchange_all(TLS_PEER_GNUTLS, true);
}

static void openssl_as_a_client_gets_each_byte(void **state)
{
    (void)state;
    exchange_all(TLS_PEER_OPENSSL, false);
}

static void openssl_as_a_server_gets_each_byte(void **state)
{
    (void)state;
    exchange_all(TLS_PEER_OPENSSL, true);
}

static void a_record_size_limit_of_the_peer_is_kept(void **state)
{
    (void)state;
    static uint8_t bytes[5000];
    for (unsigned i = 0; i < 4; i++) {
        struct tls_peer_settings settings = {
            .library = TLS_PEER_GNUTLS, .server = i / 2 == 1, .version_13 = i % 2 == 0, .record_size_limit = 600};
        struct meeting meeting;
        meeting_init(&meeting, &settings, 1, 0);
        meeting_open(&meeting);
        assert_int_equal(tls_send(&meeting.ours.tls, &tls_end_events, bytes, sizeof(bytes)), ERROR_NONE);
        const struct tls_pair_bytes *out = &meeting.ours.output;
        for (size_t at = 0; at < out->length;) {
            size_t length = (size_t)out->bytes[at + 3] << 8 | out->bytes[at + 4];
            assert_in_range(length, 1, 600 + 24);
            at += 5 + length;
        }
        tls_peer_send(&meeting.theirs, bytes, sizeof(bytes));
        meeting_carry(&meeting);
        assert_int_equal(meeting.theirs.received.length, sizeof(bytes));
        assert_int_equal(meeting.ours.received.length, sizeof(bytes));
        meeting_dispose(&meeting);
    }
}

/* ---- resumption ---- */

static void openssl_resumes_its_sessions_with_us(void **state)
{
    (void)state;
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        struct tls_peer_settings settings = {.library = TLS_PEER_OPENSSL, .version_13 = version_13 != 0};
        struct meeting meeting;
        struct tls_peer_info info;
        meeting_init(&meeting, &settings, 1, 0);
        meeting_open(&meeting);
        settings.resumed = SSL_get1_session(meeting.theirs.ssl);
        assert_non_null(settings.resumed);
        tls_finish(&meeting.ours.tls, &tls_end_events);
        tls_peer_finish(&meeting.theirs);
        meeting_dispose(&meeting);
        meeting_init(&meeting, &settings, 2, 100);
        meeting_open(&meeting);
        info = meeting.ours.peer;
        assert_true(info.resumed);
        assert_int_equal(tls_send(&meeting.ours.tls, &tls_end_events, (const uint8_t *)"again", 5), ERROR_NONE);
        tls_peer_send(&meeting.theirs, (const uint8_t *)"welcome", 7);
        meeting_carry(&meeting);
        assert_int_equal(meeting.theirs.received.length, 5);
        assert_int_equal(meeting.ours.received.length, 7);
        SSL_SESSION_free(settings.resumed);
        meeting_dispose(&meeting);
    }
}

/* OpenSSL sends two tickets right after the handshake; GnuTLS's session, kept for this, must understand the first. */
static void a_ticket_of_openssl_becomes_resumption_data_whatever_the_splits(void **state)
{
    (void)state;
    static uint8_t ticket[16384];
    static const size_t splits[] = {0, 1, 50, 400};
    for (unsigned i = 0; i < 8; i++) {
        struct tls_peer_settings settings = {
            .library = TLS_PEER_OPENSSL, .server = true, .version_13 = i % 2 == 0, .suite = i / 4};
        struct meeting meeting;
        size_t length = 0;
        meeting_init(&meeting, &settings, i, splits[i / 2]);
        meeting_open(&meeting);
        tls_peer_send(&meeting.theirs, (const uint8_t *)"data", 4);
        meeting_carry(&meeting);
        assert_int_equal(tls_ticket_export(&meeting.ours.tls, ticket, sizeof(ticket), &length), ERROR_NONE);
        assert_true(length > 100);
        const struct tls_resumption *resumption = tls_open_resumption(tls_open_of(&meeting.ours.tls));
        assert_null(resumption->session);
        meeting_dispose(&meeting);
    }
}

static void data_before_any_ticket_ends_the_wait_for_one(void **state)
{
    (void)state;
    struct tls_peer_settings settings = {.library = TLS_PEER_GNUTLS, .server = true, .version_13 = true};
    struct meeting meeting;
    uint8_t ticket[100];
    size_t length = 0;
    meeting_init(&meeting, &settings, 1, 0);
    meeting_open(&meeting); /* a server without a ticket key */
    const struct tls_resumption *resumption = tls_open_resumption(tls_open_of(&meeting.ours.tls));
    assert_non_null(resumption->session);
    tls_peer_send(&meeting.theirs, (const uint8_t *)"data", 4);
    meeting_carry(&meeting);
    assert_null(resumption->session);
    assert_int_equal(meeting.ours.received.length, 4);
    assert_int_equal(tls_ticket_export(&meeting.ours.tls, ticket, sizeof(ticket), &length), ERROR_WOULD_BLOCK);
    meeting_dispose(&meeting);
}

static void a_client_that_ignores_tickets_keeps_nothing_for_them(void **state)
{
    (void)state;
    struct tls_client_settings client = {.ca = fixture.pki.ca, .tickets_ignored = true};
    struct tls_context *context = NULL;
    struct tls_pair pair;
    uint8_t ticket[100];
    size_t length = 0;
    assert_int_equal(tls_context_new_client(&client, &context, NULL), ERROR_NONE);
    assert_int_equal(tls_pair_init(&pair, context, "localhost", fixture.server), ERROR_NONE);
    tls_pair_handshake(&pair);
    assert_null(tls_open_resumption(tls_open_of(&pair.client.tls)));
    assert_int_equal(tls_ticket_export(&pair.client.tls, ticket, sizeof(ticket), &length), ERROR_WOULD_BLOCK);
    assert_int_equal(tls_send(&pair.server.tls, &tls_end_events, (const uint8_t *)"data", 4), ERROR_NONE);
    tls_pair_pump(&pair);
    assert_int_equal(pair.client.received.length, 4);
    tls_pair_dispose(&pair);
    tls_context_unref(&context);
}

/* ---- the moment of the hand-over ---- */

/* Puts `extra` behind the client's Finished, into the same record, with `padding` zeros behind that. */
static void append_to_finished(struct meeting *meeting, bool version_13, const void *extra, size_t extra_length,
                               size_t padding)
{
    struct {
        struct record_state record;
        uint8_t material[2 * TLS_CIPHER_MATERIAL_MAX];
    } forger;
    uint8_t material[TLS_CIPHER_MATERIAL_MAX];
    struct record_parameters parameters = {.version_13 = version_13, .suite = TLS_CIPHER_AES_128_GCM};
    struct tls_pair_bytes *out = &meeting->theirs.output;
    struct tls_cipher *cipher = NULL;
    uint8_t nonce[TLS_CIPHER_NONCE_BYTES];
    uint8_t additional[RECORD_ADDITIONAL_BYTES_MAX];
    size_t at = 0;
    size_t next = 0;

    memcpy(material, meeting->theirs.handshake_secret, 32);
    if (!version_13) {
        gnutls_datum_t key;
        gnutls_datum_t salt;
        uint8_t number[8];
        assert_int_equal(gnutls_record_get_state(meeting->theirs.session, 0, NULL, &salt, &key, number), 0);
        memcpy(material, key.data, 16);
        memcpy(material + 16, salt.data, 4);
    }
    parameters.material[RECORD_READ] = material;
    parameters.material[RECORD_WRITE] = material;
    record_init(&forger.record, &parameters);
    while (next < out->length) { /* Finished is in the last record */
        at = next;
        next += RECORD_HEADER_BYTES + ((size_t)out->bytes[at + 3] << 8 | out->bytes[at + 4]);
    }
    assert_int_equal(next, out->length);
    uint8_t record[512];
    size_t front = record_explicit_bytes(&forger.record);
    size_t sealed = out->length - at - RECORD_HEADER_BYTES - front;
    size_t length = sealed - TLS_CIPHER_TAG_BYTES;
    memcpy(record, out->bytes + at, out->length - at);
    uint8_t *body = record + RECORD_HEADER_BYTES;
    assert_int_equal(record_cipher(&forger.record, RECORD_READ, &cipher), ERROR_NONE);
    record_nonce(&forger.record, RECORD_READ, cipher, front > 0 ? body : NULL, nonce);
    size_t count = record_additional(&forger.record, RECORD_READ, record, length, additional);
    assert_int_equal(tls_cipher_unseal(cipher, nonce, additional, count, body + front, sealed), ERROR_NONE);
    length -= version_13 ? 1 : 0;
    memcpy(body + front + length, extra, extra_length);
    length += extra_length;
    size_t inner = length;
    if (version_13) {
        body[front + length] = RECORD_TYPE_HANDSHAKE;
        memset(body + front + length + 1, 0, padding);
        inner = length + 1 + padding;
    }
    record[4] = (uint8_t)(front + inner + TLS_CIPHER_TAG_BYTES);
    count = record_additional(&forger.record, RECORD_READ, record, length, additional);
    assert_int_equal(tls_cipher_seal(cipher, nonce, additional, count, body + front, inner), ERROR_NONE);
    out->length = at;
    tls_pair_bytes_append(out, record, RECORD_HEADER_BYTES + front + inner + TLS_CIPHER_TAG_BYTES);
    record_dispose(&forger.record);
}

/* A handshake up to the client's last flight, which stays in its output. */
static void meeting_begin(struct meeting *meeting, bool version_13)
{
    struct tls_peer_settings settings = {.library = TLS_PEER_GNUTLS, .version_13 = version_13};

    meeting_init(meeting, &settings, 1, 0);
    assert_int_equal(tls_start(&meeting->ours.tls, &tls_end_events), ERROR_NONE);
    tls_peer_step(&meeting->theirs);
    assert_int_equal(tls_end_feed(&meeting->ours, meeting->theirs.output.bytes, meeting->theirs.output.length),
                     ERROR_NONE);
    meeting->theirs.output.length = 0;
    tls_pair_bytes_append(&meeting->theirs.input, meeting->ours.output.bytes, meeting->ours.output.length);
    meeting->ours.output.length = 0;
    tls_peer_step(&meeting->theirs);
    assert_int_equal(meeting->ours.established, 0);
}

static void what_shares_a_record_with_finished_is_unexpected(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
    } extras[] = {
        {"\x18", 1}, {"\x18\0\0", 3}, {"\x18\0\0\1", 4}, {"\x18\0\0\1\0", 5}, {"\1\0\0\4part", 8}, {"\0\0\0\0", 4},
    };
    for (unsigned i = 0; i < 2 * sizeof(extras) / sizeof(extras[0]); i++) {
        struct meeting meeting;
        bool version_13 = i % 2 == 0;
        meeting_begin(&meeting, version_13);
        append_to_finished(&meeting, version_13, extras[i / 2].bytes, extras[i / 2].length, i % 3);
        tls_end_feed(&meeting.ours, meeting.theirs.output.bytes, meeting.theirs.output.length);
        assert_int_equal(meeting.ours.established, 0);
        if (meeting.ours.error != ERROR_TLS_HANDSHAKE ||
            tls_last_alert(&meeting.ours.tls) != GNUTLS_A_UNEXPECTED_MESSAGE) {
            fail_msg("TLS 1.%d, extra %u: %s, alert %d", version_13 ? 3 : 2, i / 2, error_name(meeting.ours.error),
                     tls_last_alert(&meeting.ours.tls));
        }
        meeting_dispose(&meeting);
    }
}

static void a_padded_finished_is_taken(void **state)
{
    (void)state;
    for (size_t padding = 0; padding < 100; padding += 33) {
        struct meeting meeting;
        meeting_begin(&meeting, true);
        append_to_finished(&meeting, true, "", 0, padding);
        meeting_carry(&meeting);
        assert_int_equal(meeting.ours.established, 1);
        tls_peer_send(&meeting.theirs, (const uint8_t *)"data", 4);
        meeting_carry(&meeting);
        assert_int_equal(meeting.ours.received.length, 4);
        meeting_dispose(&meeting);
    }
}

/* Whatever follows the last flight in the same input, and wherever that input is cut, nothing is lost or doubled. */
static void a_last_flight_and_data_may_be_cut_anywhere(void **state)
{
    (void)state;
    for (unsigned version_13 = 0; version_13 < 2; version_13++) {
        size_t total = 1;
        for (size_t cut = 0; cut <= total; cut++) {
            struct meeting meeting;
            meeting_begin(&meeting, version_13 != 0);
            if (version_13) { /* in TLS 1.2 the server's Finished comes first */
                tls_peer_send(&meeting.theirs, (const uint8_t *)"first", 5);
                tls_peer_update(&meeting.theirs, true);
                tls_peer_send(&meeting.theirs, (const uint8_t *)"second", 6);
            }
            total = meeting.theirs.output.length;
            assert_int_equal(tls_end_feed(&meeting.ours, meeting.theirs.output.bytes, cut), ERROR_NONE);
            tls_pair_bytes_drop(&meeting.theirs.output, cut);
            meeting_carry(&meeting);
            tls_peer_send(&meeting.theirs, (const uint8_t *)"third", 5);
            assert_int_equal(tls_send(&meeting.ours.tls, &tls_end_events, (const uint8_t *)"answer", 6), ERROR_NONE);
            meeting_carry(&meeting);
            assert_int_equal(meeting.ours.received.length, version_13 ? 16 : 5);
            assert_memory_equal(meeting.ours.received.bytes, version_13 ? "firstsecondthird" : "third",
                                version_13 ? 16 : 5);
            assert_int_equal(meeting.theirs.received.length, 6);
            meeting_dispose(&meeting);
        }
        assert_true(total > 50);
    }
}

static void no_secret_of_an_open_connection_is_kept_by_its_thread_after_it_rests(void **state)
{
    (void)state;
    struct tls_peer_settings settings = {.library = TLS_PEER_GNUTLS, .version_13 = true};
    struct meeting meeting;
    meeting_init(&meeting, &settings, 1, 0);
    meeting_open(&meeting);
    assert_int_equal(tls_cipher_count(), 0); /* an idle connection has no cipher */
    tls_peer_send(&meeting.theirs, (const uint8_t *)"data", 4);
    assert_int_equal(tls_send(&meeting.ours.tls, &tls_end_events, (const uint8_t *)"data", 4), ERROR_NONE);
    meeting_carry(&meeting);
    assert_int_equal(tls_cipher_count(), 2);
    tls_rest(&meeting.ours.tls);
    assert_int_equal(tls_cipher_count(), 0);
    assert_int_equal(tls_send(&meeting.ours.tls, &tls_end_events, (const uint8_t *)"more", 4), ERROR_NONE);
    meeting_carry(&meeting);
    assert_int_equal(meeting.theirs.received.length, 8);
    meeting_dispose(&meeting);
    assert_int_equal(tls_cipher_count(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gnutls_as_a_client_gets_each_byte),
        cmocka_unit_test(gnutls_as_a_server_gets_each_byte),
        cmocka_unit_test(openssl_as_a_client_gets_each_byte),
        cmocka_unit_test(openssl_as_a_server_gets_each_byte),
        cmocka_unit_test(a_record_size_limit_of_the_peer_is_kept),
        cmocka_unit_test(openssl_resumes_its_sessions_with_us),
        cmocka_unit_test(a_ticket_of_openssl_becomes_resumption_data_whatever_the_splits),
        cmocka_unit_test(data_before_any_ticket_ends_the_wait_for_one),
        cmocka_unit_test(a_client_that_ignores_tickets_keeps_nothing_for_them),
        cmocka_unit_test(what_shares_a_record_with_finished_is_unexpected),
        cmocka_unit_test(a_padded_finished_is_taken),
        cmocka_unit_test(a_last_flight_and_data_may_be_cut_anywhere),
        cmocka_unit_test(no_secret_of_an_open_connection_is_kept_by_its_thread_after_it_rests),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
