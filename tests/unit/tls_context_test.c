/*
 * What a TLS connection may be: suites, names, protocols, certificates, and credentials that cannot be used. Data and
 * ends are in tls_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <gnutls/gnutls.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/memory.h"
#include "tests/unit/test_pki.h"
#include "tests/unit/tls_pair.h"

#define VERSION_12 "NONE:+VERS-TLS1.2:+CTYPE-X509:+AEAD:+GROUP-X25519:+GROUP-SECP256R1:"
#define VERSION_13 "NONE:+VERS-TLS1.3:+CTYPE-X509:+AEAD:+GROUP-X25519:+GROUP-SECP256R1:"
#define SIGN_ECDSA "+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SHA256"
#define SIGN_RSA   "+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-SHA256"

static struct {
    struct test_pki pki;
    struct test_identity example; /* www.example.com, *.wild.example */
    struct test_identity rsa;     /* localhost */
    struct test_identity expired; /* localhost, a day over */
} fixture;

static int set_up(void **state)
{
    (void)state;
    static const char *const example_names[] = {"www.example.com", "*.wild.example", NULL};
    static const char *const localhost_names[] = {"localhost", NULL};
    struct test_pki_request example = {.file = "example", .names = example_names};
    struct test_pki_request rsa = {.file = "rsa", .names = localhost_names, .rsa = true};
    struct test_pki_request expired = {.file = "expired", .names = localhost_names, .expired = true};

    return test_pki_create(&fixture.pki) && test_pki_issue(&fixture.pki, &example, &fixture.example) &&
                   test_pki_issue(&fixture.pki, &rsa, &fixture.rsa) &&
                   test_pki_issue(&fixture.pki, &expired, &fixture.expired)
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    test_pki_remove(&fixture.pki);
    return 0;
}

/* Makes both contexts, lets them meet once, and leaves the pair for the caller to look at. */
static void meet(struct tls_pair *pair, struct tls_server_settings *server, struct tls_client_settings *client,
                 const char *server_name)
{
    struct tls_context *server_context = NULL;
    struct tls_context *client_context = NULL;
    struct tls_certificate_files files = test_identity_files(&fixture.pki.edge);
    struct tls_fault fault;

    if (server->certificates == NULL) {
        server->certificates = &files;
        server->certificate_count = 1;
    }
    if (tls_context_new_server(server, &server_context, &fault) != ERROR_NONE ||
        tls_context_new_client(client, &client_context, &fault) != ERROR_NONE) {
        fail_msg("%s", fault.text);
    }
    if (server->certificates == &files) {
        server->certificates = NULL;
    }
    assert_int_equal(tls_pair_init(pair, client_context, server_name, server_context), ERROR_NONE);
    /* The connections keep what they need. */
    tls_context_unref(&server_context);
    tls_context_unref(&client_context);
    assert_null(server_context);
    tls_pair_handshake(pair);
}

static void expect_refusal(struct tls_end *refuser, struct tls_end *refused, enum error_code error, int alert)
{
    assert_int_equal(refuser->error, error);
    assert_int_equal(tls_last_alert(&refuser->tls), alert);
    assert_int_equal(refuser->established, 0);
    assert_int_equal(refused->error, ERROR_TLS_ALERT);
    assert_int_equal(tls_last_alert(&refused->tls), -alert);
}

static void each_suite_of_the_policy_works(void **state)
{
    (void)state;
    static const struct {
        const char *priority;
        uint16_t suite;
        bool rsa;
    } suites[] = {
        {VERSION_13 "+AES-128-GCM:" SIGN_ECDSA, 0x1301, false},
        {VERSION_13 "+AES-256-GCM:" SIGN_ECDSA, 0x1302, false},
        {VERSION_13 "+CHACHA20-POLY1305:" SIGN_ECDSA, 0x1303, false},
        {VERSION_13 "+AES-128-GCM:" SIGN_RSA, 0x1301, true},
        {VERSION_12 "+ECDHE-ECDSA:+AES-128-GCM:" SIGN_ECDSA, 0xc02b, false},
        {VERSION_12 "+ECDHE-ECDSA:+AES-256-GCM:" SIGN_ECDSA, 0xc02c, false},
        {VERSION_12 "+ECDHE-ECDSA:+CHACHA20-POLY1305:" SIGN_ECDSA, 0xcca9, false},
        {VERSION_12 "+ECDHE-RSA:+AES-128-GCM:" SIGN_RSA, 0xc02f, true},
        {VERSION_12 "+ECDHE-RSA:+AES-256-GCM:" SIGN_RSA, 0xc030, true},
        {VERSION_12 "+ECDHE-RSA:+CHACHA20-POLY1305:" SIGN_RSA, 0xcca8, true},
    };
    /* Both kinds of key bear the name: the one that the client can verify is presented. */
    struct tls_certificate_files both[] = {test_identity_files(&fixture.pki.edge), test_identity_files(&fixture.rsa)};

    for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
        struct tls_server_settings server = {.certificates = both, .certificate_count = 2};
        struct tls_client_settings client = {.ca = suites[i].rsa ? NULL : fixture.pki.ca,
                                             .priority = suites[i].priority};
        struct tls_peer_info info;
        struct tls_pair pair;
        meet(&pair, &server, &client, "localhost");
        assert_int_equal(pair.client.established, 1);
        info = pair.server.peer;
        assert_int_equal(info.suite, suites[i].suite);
        info = pair.client.peer;
        assert_int_equal(info.suite, suites[i].suite);
        assert_int_equal(tls_certificate_has_name(info.certificate, info.certificate_length, "127.0.0.1"),
                         !suites[i].rsa);
        pair.server.echo = true;
        assert_int_equal(tls_send(&pair.client.tls, &tls_end_events, (const uint8_t *)"payload", 7), ERROR_NONE);
        tls_pair_pump(&pair);
        assert_int_equal(pair.client.received.length, 7);
        tls_pair_dispose(&pair);
    }
}

static void each_group_of_the_policy_works(void **state)
{
    (void)state;
    /* The last client guesses a group that we do not have and is asked to try again. */
    static const char *const groups[] = {"+GROUP-X25519", "+GROUP-SECP256R1", "+GROUP-SECP384R1",
                                         "+GROUP-SECP521R1:+GROUP-SECP384R1:+GROUP-X25519"};
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        char priority[256];
        snprintf(priority, sizeof(priority), "NONE:+VERS-TLS1.3:+CTYPE-X509:+AEAD:+AES-128-GCM:%s:" SIGN_ECDSA,
                 groups[i]);
        struct tls_server_settings server = {.unknown_name_refused = true};
        struct tls_client_settings client = {.ca = fixture.pki.ca, .priority = priority};
        struct tls_pair pair;
        meet(&pair, &server, &client, "localhost");
        assert_int_equal(pair.client.established, 1);
        assert_int_equal(pair.server.established, 1);
        tls_pair_dispose(&pair);
    }
}

/* ---- names ---- */

static void the_certificate_is_chosen_by_server_name(void **state)
{
    (void)state;
    static const struct {
        const char *asked;
        const char *known_as; /* what the server reports */
        const char *borne;    /* by the certificate presented */
    } names[] = {
        {"localhost", "localhost", "localhost"},
        {"www.example.com", "www.example.com", "www.example.com"},
        {"WWW.Example.COM", "www.example.com", "www.example.com"},
        {"a.wild.example", "a.wild.example", "www.example.com"},
        {"a.b.wild.example", "a.b.wild.example", "localhost"}, /* a wildcard is one label */
        {"unknown.example", "unknown.example", "localhost"},
        {"127.0.0.1", "", "localhost"}, /* addresses are not sent */
        {"", "", "localhost"},
    };
    struct tls_certificate_files files[] = {test_identity_files(&fixture.pki.edge),
                                            test_identity_files(&fixture.example)};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct tls_server_settings server = {.certificates = files, .certificate_count = 2};
        struct tls_client_settings client = {.ca = NULL};
        struct tls_peer_info info;
        struct tls_pair pair;
        meet(&pair, &server, &client, names[i].asked);
        assert_int_equal(pair.client.established, 1);
        info = pair.server.peer;
        assert_string_equal(info.server_name, names[i].known_as);
        info = pair.client.peer;
        assert_true(tls_certificate_has_name(info.certificate, info.certificate_length, names[i].borne));
        tls_pair_dispose(&pair);
    }
}

static void an_unknown_name_is_refused_where_the_policy_says_so(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct tls_server_settings server = {.unknown_name_refused = true};
        struct tls_client_settings client = {.priority =
                                                 i == 0 ? NULL : VERSION_12 "+ECDHE-ECDSA:+AES-128-GCM:" SIGN_ECDSA};
        struct tls_pair pair;
        meet(&pair, &server, &client, "unknown.example");
        expect_refusal(&pair.server, &pair.client, ERROR_TLS_UNKNOWN_NAME, GNUTLS_A_UNRECOGNIZED_NAME);
        tls_pair_dispose(&pair);
        meet(&pair, &server, &client, "localhost");
        assert_int_equal(pair.server.established, 1);
        tls_pair_dispose(&pair);
        meet(&pair, &server, &client, "");
        assert_int_equal(pair.server.established, 1); /* no name is not an unknown name */
        tls_pair_dispose(&pair);
    }
}

static void a_client_accepts_only_a_certificate_that_bears_the_name(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool accepted;
    } names[] = {
        {"localhost", true},  {"127.0.0.1", true}, {"::1", true},          {"0:0:0:0:0:0:0:1", true},
        {"127.0.0.2", false}, {"::2", false},      {"example.com", false},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct tls_server_settings server = {.certificates = NULL};
        struct tls_client_settings client = {.ca = fixture.pki.ca};
        struct tls_pair pair;
        meet(&pair, &server, &client, names[i].name);
        assert_int_equal(pair.client.established, names[i].accepted);
        if (!names[i].accepted) {
            expect_refusal(&pair.client, &pair.server, ERROR_TLS_CERTIFICATE, GNUTLS_A_BAD_CERTIFICATE);
        }
        tls_pair_dispose(&pair);
    }
}

static void a_client_with_a_ca_needs_a_name_of_reasonable_length(void **state)
{
    (void)state;
    char name[TLS_SERVER_NAME_MAX + 2];
    struct tls_client_settings settings = {.ca = fixture.pki.ca};
    struct tls_context *context = NULL;
    struct tls_end end;
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(tls_context_new_client(&settings, &context, NULL), ERROR_NONE);
    assert_int_equal(tls_end_init_client(&end, context, NULL), ERROR_INVALID);
    assert_int_equal(tls_end_init_client(&end, context, ""), ERROR_INVALID);
    assert_int_equal(tls_end_init_client(&end, context, name), ERROR_INVALID);
    tls_dispose(&end.tls);
    tls_context_unref(&context);
}

static void a_client_refuses_an_expired_foreign_or_misused_certificate(void **state)
{
    (void)state;
    struct tls_certificate_files expired = test_identity_files(&fixture.expired);
    struct tls_certificate_files misused = test_identity_files(&fixture.pki.trunk);
    struct tls_server_settings server = {.certificates = &expired, .certificate_count = 1};
    struct tls_client_settings client = {.ca = fixture.pki.ca};
    struct tls_pair pair;

    meet(&pair, &server, &client, "localhost");
    expect_refusal(&pair.client, &pair.server, ERROR_TLS_CERTIFICATE, GNUTLS_A_CERTIFICATE_EXPIRED);
    tls_pair_dispose(&pair);
    server.certificates = NULL;
    client.ca = fixture.pki.foreign_ca;
    meet(&pair, &server, &client, "localhost");
    expect_refusal(&pair.client, &pair.server, ERROR_TLS_CERTIFICATE, GNUTLS_A_UNKNOWN_CA);
    tls_pair_dispose(&pair);
    server.certificates = &misused;
    client.ca = fixture.pki.ca;
    meet(&pair, &server, &client, "edge");
    assert_int_equal(pair.client.error, ERROR_TLS_CERTIFICATE);
    assert_int_equal(pair.client.established, 0);
    tls_pair_dispose(&pair);
}

/* ---- protocols ---- */

static void a_protocol_is_chosen_in_the_servers_order(void **state)
{
    (void)state;
    static const char *const ours[] = {"mqtt", "h2", "http/1.1"};
    static const char *const theirs[] = {"http/1.1", "h2", "other"};
    struct tls_server_settings server = {.alpn = ours, .alpn_count = 3};
    struct tls_client_settings client = {.ca = fixture.pki.ca, .alpn = theirs, .alpn_count = 3};
    struct tls_peer_info info;
    struct tls_pair pair;

    meet(&pair, &server, &client, "localhost");
    info = pair.server.peer;
    assert_string_equal(info.alpn, "h2");
    info = pair.client.peer;
    assert_string_equal(info.alpn, "h2");
    tls_pair_dispose(&pair);
    client.alpn_count = 0;
    meet(&pair, &server, &client, "localhost");
    assert_int_equal(pair.server.established, 1);
    info = pair.server.peer;
    assert_string_equal(info.alpn, "");
    tls_pair_dispose(&pair);
}

static void no_protocol_in_common_is_refused(void **state)
{
    (void)state;
    static const char *const ours[] = {"h2"};
    static const char *const theirs[] = {"spdy/3"};
    for (unsigned i = 0; i < 2; i++) {
        struct tls_server_settings server = {.alpn = ours, .alpn_count = 1};
        struct tls_client_settings client = {.ca = fixture.pki.ca,
                                             .alpn = theirs,
                                             .alpn_count = 1,
                                             .priority =
                                                 i == 0 ? NULL : VERSION_12 "+ECDHE-ECDSA:+AES-128-GCM:" SIGN_ECDSA};
        struct tls_pair pair;
        meet(&pair, &server, &client, "localhost");
        expect_refusal(&pair.server, &pair.client, ERROR_TLS_NO_ALPN, GNUTLS_A_NO_APPLICATION_PROTOCOL);
        tls_pair_dispose(&pair);
    }
}

static void a_protocol_that_is_required_must_be_there(void **state)
{
    (void)state;
    static const char *const h2[] = {"h2"};
    struct tls_server_settings server = {.alpn = h2, .alpn_count = 1, .alpn_required = true};
    struct tls_client_settings client = {.ca = fixture.pki.ca};
    struct tls_pair pair;

    meet(&pair, &server, &client, "localhost");
    expect_refusal(&pair.server, &pair.client, ERROR_TLS_NO_ALPN, GNUTLS_A_NO_APPLICATION_PROTOCOL);
    tls_pair_dispose(&pair);
    server = (struct tls_server_settings){.alpn_count = 0};
    client.alpn = h2;
    client.alpn_count = 1;
    client.alpn_required = true;
    meet(&pair, &server, &client, "localhost");
    assert_int_equal(pair.client.error, ERROR_TLS_NO_ALPN);
    assert_int_equal(pair.client.established, 0);
    assert_int_equal(pair.server.error, ERROR_TLS_ALERT);
    tls_pair_dispose(&pair);
}

/* ---- client certificates ---- */

static void client_certificates_are_asked_for_as_the_policy_says(void **state)
{
    (void)state;
    enum { NONE, OURS, FOREIGN, MISUSED };
    static const struct {
        enum tls_client_auth auth;
        int presented;
        bool accepted;
        int alert; /* -1: differs between versions */
    } cases[] = {
        {TLS_CLIENT_AUTH_NONE, NONE, true, 0},
        {TLS_CLIENT_AUTH_NONE, FOREIGN, true, 0},
        {TLS_CLIENT_AUTH_OPTIONAL, NONE, true, 0},
        {TLS_CLIENT_AUTH_OPTIONAL, OURS, true, 0},
        {TLS_CLIENT_AUTH_OPTIONAL, FOREIGN, false, GNUTLS_A_UNKNOWN_CA},
        {TLS_CLIENT_AUTH_REQUIRED, NONE, false, -1},
        {TLS_CLIENT_AUTH_REQUIRED, OURS, true, 0},
        {TLS_CLIENT_AUTH_REQUIRED, FOREIGN, false, GNUTLS_A_UNKNOWN_CA},
        {TLS_CLIENT_AUTH_REQUIRED, MISUSED, false, -1},
    };
    const struct test_identity *const identities[] = {NULL, &fixture.pki.trunk, &fixture.pki.foreign_trunk,
                                                      &fixture.pki.edge};

    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        bool version_13 = i % 2 == 0;
        int presented = cases[i / 2].presented;
        struct tls_server_settings server = {.client_auth = cases[i / 2].auth, .client_ca = fixture.pki.ca};
        struct tls_client_settings client = {
            .ca = fixture.pki.ca, .priority = version_13 ? NULL : VERSION_12 "+ECDHE-ECDSA:+AES-128-GCM:" SIGN_ECDSA};
        struct tls_peer_info info;
        struct tls_pair pair;
        if (presented != NONE) {
            client.certificate = test_identity_files(identities[presented]);
        }
        meet(&pair, &server, &client, "localhost");
        assert_int_equal(pair.server.established, cases[i / 2].accepted);
        info = pair.server.peer;
        if (cases[i / 2].accepted) {
            bool expected = presented == OURS && cases[i / 2].auth != TLS_CLIENT_AUTH_NONE;
            assert_int_equal(info.certificate != NULL, expected);
            assert_int_equal(tls_certificate_has_name(info.certificate, info.certificate_length, "edge"), expected);
        } else {
            int alert = cases[i / 2].alert;
            if (presented == NONE) {
                alert = version_13 ? GNUTLS_A_CERTIFICATE_REQUIRED : GNUTLS_A_HANDSHAKE_FAILURE;
            }
            assert_null(info.certificate);
            assert_int_equal(pair.server.error, ERROR_TLS_CERTIFICATE);
            assert_true(alert == -1 || tls_last_alert(&pair.server.tls) == alert);
            assert_int_equal(pair.client.error, ERROR_TLS_ALERT);
            assert_int_equal(tls_last_alert(&pair.client.tls), -tls_last_alert(&pair.server.tls));
        }
        tls_pair_dispose(&pair);
    }
}

/* ---- credentials that cannot be used ---- */

static void expect_fault(const struct tls_server_settings *settings, const char *first, const char *second)
{
    struct tls_context *context = NULL;
    struct tls_fault fault;

    assert_int_equal(tls_context_new_server(settings, &context, &fault), ERROR_CREDENTIALS);
    assert_null(context);
    if (strstr(fault.text, first) == NULL || strstr(fault.text, second) == NULL) {
        fail_msg("\"%s\" names not both \"%s\" and \"%s\"", fault.text, first, second);
    }
    assert_null(strchr(fault.text, '\n'));
    assert_int_equal(tls_context_new_server(settings, &context, NULL), ERROR_CREDENTIALS);
}

static void a_fault_in_a_certificate_names_the_file_and_the_reason(void **state)
{
    (void)state;
    static const char broken_pem[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    char path[TEST_PKI_PATH_BYTES];
    struct tls_certificate_files files = {.certificate = "/nonexistent/edge.crt", .key = fixture.pki.edge.key};
    struct tls_server_settings settings = {.certificates = &files, .certificate_count = 1};

    expect_fault(&settings, "/nonexistent/edge.crt", "No such file or directory");
    files.certificate = fixture.pki.directory;
    expect_fault(&settings, fixture.pki.directory, "Is a directory");
    files.certificate = path;
    assert_true(test_pki_write(&fixture.pki, "broken.crt", "", 0, path));
    expect_fault(&settings, "broken.crt", "empty");
    assert_true(test_pki_write(&fixture.pki, "broken.crt", "\x30\x82\x01\x01", 4, path));
    expect_fault(&settings, "broken.crt", "no PEM certificate");
    assert_true(test_pki_write(&fixture.pki, "broken.crt", broken_pem, sizeof(broken_pem) - 1, path));
    expect_fault(&settings, "broken.crt", "cannot be read");
    files.certificate = fixture.pki.edge.key; /* the two mixed up */
    expect_fault(&settings, "edge.key", "no PEM certificate");
    settings.certificate_count = 0;
    expect_fault(&settings, "needs a certificate", "");
}

static void a_fault_in_a_key_names_the_file_and_the_reason(void **state)
{
    (void)state;
    static const char encrypted[] =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    static const char encrypted_old[] = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
                                        "DEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    static const char broken[] = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    char path[TEST_PKI_PATH_BYTES];
    struct tls_certificate_files files = {.certificate = fixture.pki.edge.certificate, .key = "/nonexistent/edge.key"};
    struct tls_server_settings settings = {.certificates = &files, .certificate_count = 1};

    expect_fault(&settings, "/nonexistent/edge.key", "No such file or directory");
    files.key = fixture.pki.core.key;
    expect_fault(&settings, "core.key: the key does not match", "edge.crt");
    files.key = fixture.pki.edge.certificate;
    expect_fault(&settings, "edge.crt", "no PEM private key");
    files.key = path;
    assert_true(test_pki_write(&fixture.pki, "broken.key", encrypted, sizeof(encrypted) - 1, path));
    expect_fault(&settings, "broken.key", "encrypted");
    assert_true(test_pki_write(&fixture.pki, "broken.key", encrypted_old, sizeof(encrypted_old) - 1, path));
    expect_fault(&settings, "broken.key", "encrypted");
    assert_true(test_pki_write(&fixture.pki, "broken.key", broken, sizeof(broken) - 1, path));
    expect_fault(&settings, "broken.key", "cannot be read");
}

static void a_fault_in_the_policy_names_its_place(void **state)
{
    (void)state;
    static const char *const too_many[] = {"1", "2", "3", "4", "5", "6", "7", "8", "9"};
    static const char *const too_long[] = {"a-protocol-name-of-thirty-three-b"};
    static const char no_certificate[] = "-----BEGIN NOTHING-----\n-----END NOTHING-----\n";
    char path[TEST_PKI_PATH_BYTES];
    struct tls_certificate_files files = test_identity_files(&fixture.pki.edge);
    struct tls_server_settings good = {.certificates = &files, .certificate_count = 1};
    struct tls_server_settings settings = good;

    settings.client_auth = TLS_CLIENT_AUTH_REQUIRED;
    expect_fault(&settings, "CA", "");
    settings.client_ca = "/nonexistent/ca.crt";
    expect_fault(&settings, "/nonexistent/ca.crt", "No such file");
    settings.client_ca = path;
    assert_true(test_pki_write(&fixture.pki, "empty-ca.crt", "", 0, path));
    expect_fault(&settings, "empty-ca.crt", "empty");
    assert_true(test_pki_write(&fixture.pki, "empty-ca.crt", no_certificate, sizeof(no_certificate) - 1, path));
    expect_fault(&settings, "empty-ca.crt", "no PEM certificate");
    settings = good;
    settings.tickets = true;
    settings.ticket_key_file = "/nonexistent/ticket.key";
    expect_fault(&settings, "/nonexistent/ticket.key", "No such file");
    settings.ticket_key_file = path;
    assert_true(test_pki_write(&fixture.pki, "ticket.key", no_certificate, TLS_TICKET_KEY_BYTES / 2, path));
    expect_fault(&settings, "ticket.key", "64 bytes");
    settings = good;
    settings.alpn = too_many;
    settings.alpn_count = 9;
    expect_fault(&settings, "application protocols", "8");
    settings.alpn = too_long;
    settings.alpn_count = 1;
    expect_fault(&settings, too_long[0], "32");
}

static void a_fault_of_a_client_is_told_too(void **state)
{
    (void)state;
    struct tls_context *context = NULL;
    struct tls_fault fault;
    struct tls_client_settings settings = {.certificate = {.certificate = fixture.pki.trunk.certificate}};

    assert_int_equal(tls_context_new_client(&settings, &context, &fault), ERROR_CREDENTIALS);
    assert_non_null(strstr(fault.text, "go together"));
    settings = (struct tls_client_settings){.priority = "NORMAL:+NO-SUCH-THING"};
    assert_int_equal(tls_context_new_client(&settings, &context, &fault), ERROR_CREDENTIALS);
    assert_non_null(strstr(fault.text, "NO-SUCH-THING"));
    settings = (struct tls_client_settings){.ca = "/nonexistent/ca.crt"};
    assert_int_equal(tls_context_new_client(&settings, &context, &fault), ERROR_CREDENTIALS);
    assert_non_null(strstr(fault.text, "/nonexistent/ca.crt"));
    assert_null(context);
}

static void each_allocation_of_a_context_may_fail(void **state)
{
    (void)state;
    static const char *const alpn[] = {"h2", "mqtt"};
    char path[TEST_PKI_PATH_BYTES];
    uint8_t secret[TLS_TICKET_KEY_BYTES] = {1};
    assert_true(test_pki_write(&fixture.pki, "ticket.key", secret, sizeof(secret), path));
    struct tls_certificate_files files[] = {test_identity_files(&fixture.pki.edge),
                                            test_identity_files(&fixture.example)};
    struct tls_server_settings settings = {.certificates = files,
                                           .certificate_count = 2,
                                           .alpn = alpn,
                                           .alpn_count = 2,
                                           .client_auth = TLS_CLIENT_AUTH_REQUIRED,
                                           .client_ca = fixture.pki.ca,
                                           .tickets = true,
                                           .ticket_key_file = path};
    for (uint64_t nth = 1;; nth++) {
        struct tls_context *context = NULL;
        struct tls_fault fault;
        assert_true(nth < 200);
        memory_fail_at(nth);
        enum error_code error = tls_context_new_server(&settings, &context, &fault);
        uint64_t faults = memory_faults();
        memory_fail_at(0);
        if (faults == 0) {
            assert_int_equal(error, ERROR_NONE);
            assert_true(nth > 15);
            tls_context_unref(&context);
            break;
        }
        assert_int_equal(error, ERROR_NO_MEMORY);
        assert_string_equal(fault.text, "out of memory");
        assert_null(context);
    }
}

/* ---- threads ---- */

struct sharing {
    struct tls_context *server;
    struct tls_context *client;
    unsigned established;
};

static void *share(void *argument)
{
    struct sharing *sharing = argument;

    for (unsigned i = 0; i < 20; i++) {
        struct tls_pair pair;
        if (tls_pair_init(&pair, sharing->client, "localhost", sharing->server) == ERROR_NONE) {
            tls_pair_handshake(&pair);
            sharing->established += pair.client.established + pair.server.established;
        }
        tls_pair_dispose(&pair);
    }
    tls_context_unref(&sharing->server);
    tls_context_unref(&sharing->client);
    return NULL;
}

static void a_context_serves_several_threads(void **state)
{
    (void)state;
    pthread_t threads[4];
    struct sharing sharings[4] = {{.established = 0}};
    struct tls_certificate_files files = test_identity_files(&fixture.pki.edge);
    struct tls_server_settings server_settings = {.certificates = &files, .certificate_count = 1, .tickets = true};
    struct tls_client_settings client_settings = {.ca = fixture.pki.ca};
    struct tls_context *server = NULL;
    struct tls_context *client = NULL;

    assert_int_equal(tls_context_new_server(&server_settings, &server, NULL), ERROR_NONE);
    assert_int_equal(tls_context_new_client(&client_settings, &client, NULL), ERROR_NONE);
    for (size_t i = 0; i < 4; i++) {
        sharings[i] = (struct sharing){.server = tls_context_ref(server), .client = tls_context_ref(client)};
        assert_int_equal(pthread_create(&threads[i], NULL, share, &sharings[i]), 0);
    }
    tls_context_unref(&server);
    tls_context_unref(&client);
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(sharings[i].established, 40);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_suite_of_the_policy_works),
        cmocka_unit_test(each_group_of_the_policy_works),
        cmocka_unit_test(the_certificate_is_chosen_by_server_name),
        cmocka_unit_test(an_unknown_name_is_refused_where_the_policy_says_so),
        cmocka_unit_test(a_client_accepts_only_a_certificate_that_bears_the_name),
        cmocka_unit_test(a_client_with_a_ca_needs_a_name_of_reasonable_length),
        cmocka_unit_test(a_client_refuses_an_expired_foreign_or_misused_certificate),
        cmocka_unit_test(a_protocol_is_chosen_in_the_servers_order),
        cmocka_unit_test(no_protocol_in_common_is_refused),
        cmocka_unit_test(a_protocol_that_is_required_must_be_there),
        cmocka_unit_test(client_certificates_are_asked_for_as_the_policy_says),
        cmocka_unit_test(a_fault_in_a_certificate_names_the_file_and_the_reason),
        cmocka_unit_test(a_fault_in_a_key_names_the_file_and_the_reason),
        cmocka_unit_test(a_fault_in_the_policy_names_its_place),
        cmocka_unit_test(a_fault_of_a_client_is_told_too),
        cmocka_unit_test(each_allocation_of_a_context_may_fail),
        cmocka_unit_test(a_context_serves_several_threads),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
