/* Session tickets: resumption, keys shared between edges, and what a ticket must not open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "mux/memory.h"
#include "mux/tls_backend.h"
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

static void fill(uint8_t *bytes, size_t length, uint64_t seed)
{
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)(tls_pair_random(&seed) & 0xffU);
    }
}

static struct tls_context *ticket_server(const char *key_file, enum tls_client_auth client_auth)
{
    struct tls_certificate_files files = test_identity_files(&fixture.pki.edge);
    struct tls_server_settings settings = {.certificates = &files,
                                           .certificate_count = 1,
                                           .tickets = true,
                                           .ticket_key_file = key_file,
                                           .client_auth = client_auth,
                                           .client_ca = fixture.pki.ca};
    struct tls_context *context = NULL;
    struct tls_fault fault;

    if (tls_context_new_server(&settings, &context, &fault) != ERROR_NONE) {
        fail_msg("%s", fault.text);
    }
    return context;
}

static void resume(struct tls_context *client, struct tls_context *first, struct tls_context *second, bool resumed)
{
    static uint8_t ticket[8192];
    size_t length = 0;
    struct tls_pair pair;
    struct tls_peer_info info;

    assert_int_equal(tls_pair_init(&pair, client, "localhost", first), ERROR_NONE);
    assert_int_equal(tls_ticket_export(&pair.client.tls, ticket, sizeof(ticket), &length), ERROR_STATE);
    tls_pair_handshake(&pair);
    assert_int_equal(tls_ticket_export(&pair.client.tls, ticket, 10, &length), ERROR_LIMIT);
    assert_int_equal(length, 0);
    assert_int_equal(tls_ticket_export(&pair.client.tls, ticket, sizeof(ticket), &length), ERROR_NONE);
    assert_in_range(length, 1, sizeof(ticket));
    tls_pair_dispose(&pair);

    assert_int_equal(tls_pair_init(&pair, client, "localhost", second), ERROR_NONE);
    assert_int_equal(tls_ticket_import(&pair.client.tls, ticket, length), ERROR_NONE);
    tls_pair_handshake(&pair);
    assert_int_equal(pair.client.error, ERROR_NONE);
    assert_int_equal(pair.server.established, 1);
    assert_int_equal(tls_ticket_import(&pair.client.tls, ticket, length), ERROR_STATE);
    info = pair.server.peer;
    assert_int_equal(info.resumed, resumed);
    assert_string_equal(info.server_name, "localhost");
    info = pair.client.peer;
    assert_int_equal(info.resumed, resumed);
    assert_int_equal(tls_ticket_export(&pair.client.tls, ticket, sizeof(ticket), &length), ERROR_NONE);
    assert_int_equal(tls_send(&pair.client.tls, &tls_end_events, (const uint8_t *)"resumed", 7), ERROR_NONE);
    tls_pair_pump(&pair);
    assert_int_equal(pair.server.received.length, 7);
    tls_pair_dispose(&pair);
}

static void a_ticket_resumes_a_session(void **state)
{
    (void)state;
    resume(fixture.client, fixture.server, fixture.server, true);
    resume(fixture.client12, fixture.server, fixture.server, true);
}

static void edges_with_one_ticket_key_resume_each_others_sessions(void **state)
{
    (void)state;
    uint8_t secret[100];
    char path[TEST_PKI_PATH_BYTES];
    fill(secret, sizeof(secret), 5);
    assert_true(test_pki_write(&fixture.pki, "ticket.key", secret, sizeof(secret), path));
    struct tls_context *one = ticket_server(path, TLS_CLIENT_AUTH_NONE);
    struct tls_context *other = ticket_server(path, TLS_CLIENT_AUTH_NONE);
    struct tls_context *stranger = ticket_server(NULL, TLS_CLIENT_AUTH_NONE);
    for (unsigned i = 0; i < 2; i++) {
        resume(client_of(i == 0), one, other, true);
        resume(client_of(i == 0), one, stranger, false);
    }
    tls_context_unref(&one);
    tls_context_unref(&other);
    tls_context_unref(&stranger);
}

static void a_ticket_without_client_certificate_does_not_open_a_stricter_server(void **state)
{
    (void)state;
    static uint8_t ticket[8192];
    uint8_t secret[TLS_TICKET_KEY_BYTES];
    size_t length = 0;
    char path[TEST_PKI_PATH_BYTES];
    fill(secret, sizeof(secret), 6);
    assert_true(test_pki_write(&fixture.pki, "ticket.key", secret, sizeof(secret), path));
    struct tls_context *open = ticket_server(path, TLS_CLIENT_AUTH_NONE);
    struct tls_context *strict = ticket_server(path, TLS_CLIENT_AUTH_REQUIRED);
    for (unsigned i = 0; i < 2; i++) {
        struct tls_pair pair;
        assert_int_equal(tls_pair_init(&pair, client_of(i == 0), "localhost", open), ERROR_NONE);
        tls_pair_handshake(&pair);
        assert_int_equal(tls_ticket_export(&pair.client.tls, ticket, sizeof(ticket), &length), ERROR_NONE);
        tls_pair_dispose(&pair);
        assert_int_equal(tls_pair_init(&pair, client_of(i == 0), "localhost", strict), ERROR_NONE);
        assert_int_equal(tls_ticket_import(&pair.client.tls, ticket, length), ERROR_NONE);
        tls_pair_handshake(&pair);
        assert_int_equal(pair.server.established, 0);
        assert_int_equal(pair.server.error, ERROR_TLS_CERTIFICATE);
        tls_pair_dispose(&pair);
    }
    tls_context_unref(&open);
    tls_context_unref(&strict);
}

static void a_ticket_of_a_looser_server_leads_to_a_full_handshake(void **state)
{
    (void)state;
    static uint8_t ticket[8192];
    uint8_t secret[TLS_TICKET_KEY_BYTES];
    size_t length = 0;
    char path[TEST_PKI_PATH_BYTES];
    fill(secret, sizeof(secret), 7);
    assert_true(test_pki_write(&fixture.pki, "ticket.key", secret, sizeof(secret), path));
    struct tls_context *optional = ticket_server(path, TLS_CLIENT_AUTH_OPTIONAL);
    struct tls_context *strict = ticket_server(path, TLS_CLIENT_AUTH_REQUIRED);
    for (unsigned i = 0; i < 2; i++) {
        struct tls_client_settings settings = {.ca = fixture.pki.ca,
                                               .certificate = test_identity_files(&fixture.pki.trunk),
                                               .priority = i == 0 ? NULL : TLS12_ONLY};
        struct tls_context *certified = NULL;
        struct tls_peer_info info;
        struct tls_pair pair;
        assert_int_equal(tls_context_new_client(&settings, &certified, NULL), ERROR_NONE);
        assert_int_equal(tls_pair_init(&pair, client_of(i == 0), "localhost", optional), ERROR_NONE);
        tls_pair_handshake(&pair);
        assert_int_equal(tls_ticket_export(&pair.client.tls, ticket, sizeof(ticket), &length), ERROR_NONE);
        tls_pair_dispose(&pair);
        assert_int_equal(tls_pair_init(&pair, certified, "localhost", strict), ERROR_NONE);
        assert_int_equal(tls_ticket_import(&pair.client.tls, ticket, length), ERROR_NONE);
        tls_pair_handshake(&pair);
        assert_int_equal(pair.server.established, 1);
        info = pair.server.peer;
        assert_false(info.resumed);
        assert_true(tls_certificate_has_name(info.certificate, info.certificate_length, "edge"));
        tls_pair_dispose(&pair);
        tls_context_unref(&certified);
    }
    tls_context_unref(&optional);
    tls_context_unref(&strict);
}

static void a_damaged_ticket_is_refused_or_falls_back_to_a_full_handshake(void **state)
{
    (void)state;
    struct tls_pair pair;
    assert_int_equal(tls_pair_init(&pair, fixture.client, "localhost", fixture.server), ERROR_NONE);
    assert_int_equal(tls_ticket_import(&pair.client.tls, (const uint8_t *)"no ticket", 9), ERROR_INVALID);
    tls_pair_handshake(&pair);
    assert_int_equal(pair.client.established, 1);
    tls_pair_dispose(&pair);
}

static void a_client_certificate_is_still_known_after_resumption(void **state)
{
    (void)state;
    static uint8_t ticket[8192];
    size_t length = 0;
    struct tls_certificate_files core = test_identity_files(&fixture.pki.core);
    struct tls_server_settings settings = {.certificates = &core,
                                           .certificate_count = 1,
                                           .tickets = true,
                                           .client_auth = TLS_CLIENT_AUTH_REQUIRED,
                                           .client_ca = fixture.pki.ca};
    for (unsigned i = 0; i < 2; i++) {
        struct tls_client_settings client_settings = {.ca = fixture.pki.ca,
                                                      .certificate = test_identity_files(&fixture.pki.trunk),
                                                      .priority = i == 0 ? NULL : TLS12_ONLY};
        struct tls_context *server = NULL;
        struct tls_context *client = NULL;
        struct tls_peer_info info;
        struct tls_pair pair;
        assert_int_equal(tls_context_new_server(&settings, &server, NULL), ERROR_NONE);
        assert_int_equal(tls_context_new_client(&client_settings, &client, NULL), ERROR_NONE);
        assert_int_equal(tls_pair_init(&pair, client, "core", server), ERROR_NONE);
        tls_pair_handshake(&pair);
        assert_int_equal(tls_ticket_export(&pair.client.tls, ticket, sizeof(ticket), &length), ERROR_NONE);
        tls_pair_dispose(&pair);
        assert_int_equal(tls_pair_init(&pair, client, "core", server), ERROR_NONE);
        assert_int_equal(tls_ticket_import(&pair.client.tls, ticket, length), ERROR_NONE);
        tls_pair_handshake(&pair);
        info = pair.server.peer;
        assert_true(info.resumed);
        assert_true(tls_certificate_has_name(info.certificate, info.certificate_length, "edge"));
        tls_pair_dispose(&pair);
        tls_context_unref(&server);
        tls_context_unref(&client);
    }
}

static void a_server_without_tickets_gives_none(void **state)
{
    (void)state;
    uint8_t ticket[4096];
    size_t length = 1;
    struct tls_certificate_files files = test_identity_files(&fixture.pki.edge);
    struct tls_server_settings settings = {.certificates = &files, .certificate_count = 1};
    struct tls_context *server = NULL;
    assert_int_equal(tls_context_new_server(&settings, &server, NULL), ERROR_NONE);
    for (unsigned i = 0; i < 2; i++) {
        struct tls_pair pair;
        assert_int_equal(tls_pair_init(&pair, client_of(i == 0), "localhost", server), ERROR_NONE);
        tls_pair_handshake(&pair);
        assert_int_equal(tls_ticket_export(&pair.client.tls, ticket, sizeof(ticket), &length), ERROR_WOULD_BLOCK);
        assert_int_equal(length, 0);
        tls_pair_dispose(&pair);
    }
    tls_context_unref(&server);
}

static void assert_kept(struct tls_context *context, const uint8_t *bytes, size_t length)
{
    static uint8_t back[1024];
    const gnutls_datum_t data = {.data = (unsigned char *)(uintptr_t)bytes, .size = (unsigned)length};
    struct tls_ticket *ticket = tls_ticket_new(context, &data);
    assert_non_null(ticket);
    assert_int_equal(tls_ticket_length(ticket), length);
    memset(back, 0xee, sizeof(back));
    tls_ticket_read(ticket, context, back);
    assert_memory_equal(back, bytes, length);
    assert_int_equal(back[length], 0xee);
    tls_ticket_free(&ticket);
    assert_null(ticket);
}

/* What is the same as in the first one is left out, wherever it is, and put back. */
static void tickets_are_kept_without_what_they_share_and_come_back_whole(void **state)
{
    (void)state;
    uint8_t first[1000], bytes[1000];
    struct tls_context *context = client_context(NULL);
    fill(first, sizeof(first), 8);
    assert_kept(context, first, sizeof(first));
    assert_kept(context, first, sizeof(first)); /* all of it */
    for (size_t from = 0; from < sizeof(first); from += 50) {
        for (size_t to = from; to <= sizeof(first); to += 25) {
            fill(bytes, sizeof(bytes), 9);
            memcpy(bytes + from, first + from, to - from);
            assert_kept(context, bytes, sizeof(bytes));
            assert_kept(context, bytes, to);
        }
    }
    assert_kept(context, bytes, 1);
    assert_kept(context, bytes, 0);
    tls_context_unref(&context);
}

static void a_ticket_is_kept_whole_when_memory_for_the_pattern_is_out(void **state)
{
    (void)state;
    uint8_t bytes[100];
    struct tls_context *context = client_context(NULL);
    const gnutls_datum_t data = {.data = bytes, .size = sizeof(bytes)};
    fill(bytes, sizeof(bytes), 10);
    memory_fail_at(1);
    assert_kept(context, bytes, sizeof(bytes));
    assert_int_equal(memory_faults(), 1);
    assert_kept(context, bytes, sizeof(bytes));
    memory_fail_at(1);
    assert_null(tls_ticket_new(context, &data));
    memory_fail_at(0);
    tls_context_unref(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ticket_resumes_a_session),
        cmocka_unit_test(edges_with_one_ticket_key_resume_each_others_sessions),
        cmocka_unit_test(a_ticket_without_client_certificate_does_not_open_a_stricter_server),
        cmocka_unit_test(a_ticket_of_a_looser_server_leads_to_a_full_handshake),
        cmocka_unit_test(a_damaged_ticket_is_refused_or_falls_back_to_a_full_handshake),
        cmocka_unit_test(a_client_certificate_is_still_known_after_resumption),
        cmocka_unit_test(a_server_without_tickets_gives_none),
        cmocka_unit_test(tickets_are_kept_without_what_they_share_and_come_back_whole),
        cmocka_unit_test(a_ticket_is_kept_whole_when_memory_for_the_pattern_is_out),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
