/* Two libraries behind one interface, see tls_peer.h. Uses malloc, as tls_pair.c does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/tls_peer.h"

/* ---- GnuTLS ---- */

static ssize_t gnutls_pull_input(gnutls_transport_ptr_t pointer, void *into, size_t length)
{
    struct tls_peer *peer = pointer;

    if (peer->input.length == 0) {
        gnutls_transport_set_errno(peer->session, EAGAIN);
        return -1;
    }
    length = length < peer->input.length ? length : peer->input.length;
    memcpy(into, peer->input.bytes, length);
    tls_pair_bytes_drop(&peer->input, length);
    return (ssize_t)length;
}

static ssize_t gnutls_push_output(gnutls_transport_ptr_t pointer, const void *bytes, size_t length)
{
    struct tls_peer *peer = pointer;

    tls_pair_bytes_append(&peer->output, bytes, length);
    return (ssize_t)length;
}

static int gnutls_secret(gnutls_session_t session, const char *label, const gnutls_datum_t *secret)
{
    struct tls_peer *peer = gnutls_transport_get_ptr(session);

    if (strcmp(label, "CLIENT_HANDSHAKE_TRAFFIC_SECRET") == 0) {
        assert_in_range(secret->size, 32, sizeof(peer->handshake_secret));
        memcpy(peer->handshake_secret, secret->data, secret->size);
    }
    return 0;
}

static void gnutls_peer_init(struct tls_peer *peer, const struct tls_peer_settings *settings)
{
    static const char *const suites[] = {"AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"};
    char priority[256];

    snprintf(priority, sizeof(priority),
             "NONE:+CTYPE-X509:+AEAD:+GROUP-X25519:+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SHA256:+%s:+%s",
             settings->version_13 ? "VERS-TLS1.3" : "VERS-TLS1.2:+ECDHE-ECDSA", suites[settings->suite]);
    assert_int_equal(gnutls_init(&peer->session, GNUTLS_NONBLOCK | (settings->server ? GNUTLS_SERVER : GNUTLS_CLIENT)),
                     0);
    assert_int_equal(gnutls_certificate_allocate_credentials(&peer->credentials), 0);
    if (settings->server) {
        assert_int_equal(gnutls_certificate_set_x509_key_file(peer->credentials, settings->identity->certificate,
                                                              settings->identity->key, GNUTLS_X509_FMT_PEM),
                         0);
    }
    assert_int_equal(gnutls_credentials_set(peer->session, GNUTLS_CRD_CERTIFICATE, peer->credentials), 0);
    assert_int_equal(gnutls_priority_set_direct(peer->session, priority, NULL), 0);
    if (settings->record_size_limit > 0) {
        assert_int_equal(gnutls_record_set_max_recv_size(peer->session, settings->record_size_limit), 0);
    }
    gnutls_session_set_keylog_function(peer->session, gnutls_secret);
    gnutls_transport_set_ptr(peer->session, peer);
    gnutls_transport_set_pull_function(peer->session, gnutls_pull_input);
    gnutls_transport_set_push_function(peer->session, gnutls_push_output);
}

static void gnutls_peer_step(struct tls_peer *peer)
{
    static uint8_t bytes[16384];

    if (!peer->established) {
        int result = gnutls_handshake(peer->session);
        peer->established = result == 0;
        peer->failed = result < 0 && gnutls_error_is_fatal(result);
    }
    while (peer->established && !peer->failed && !peer->ended) {
        ssize_t result = gnutls_record_recv(peer->session, bytes, sizeof(bytes));
        if (result > 0) {
            tls_pair_bytes_append(&peer->received, bytes, (size_t)result);
        } else if (result == 0) {
            peer->ended = true;
        } else if (gnutls_error_is_fatal((int)result)) {
            peer->failed = true;
        } else if (peer->input.length == 0) {
            return;
        }
    }
}

/* ---- OpenSSL ---- */

static void openssl_peer_init(struct tls_peer *peer, const struct tls_peer_settings *settings)
{
    static const char *const suites_13[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                            "TLS_CHACHA20_POLY1305_SHA256"};
    static const char *const suites_12[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                                            "ECDHE-ECDSA-CHACHA20-POLY1305"};
    int version = settings->version_13 ? TLS1_3_VERSION : TLS1_2_VERSION;

    peer->context = SSL_CTX_new(settings->server ? TLS_server_method() : TLS_client_method());
    assert_non_null(peer->context);
    assert_true(SSL_CTX_set_min_proto_version(peer->context, version));
    assert_true(SSL_CTX_set_max_proto_version(peer->context, version));
    assert_true(settings->version_13 ? SSL_CTX_set_ciphersuites(peer->context, suites_13[settings->suite])
                                     : SSL_CTX_set_cipher_list(peer->context, suites_12[settings->suite]));
    if (settings->server) {
        assert_true(SSL_CTX_use_certificate_chain_file(peer->context, settings->identity->certificate));
        assert_true(SSL_CTX_use_PrivateKey_file(peer->context, settings->identity->key, SSL_FILETYPE_PEM));
    }
    peer->ssl = SSL_new(peer->context);
    assert_non_null(peer->ssl);
    SSL_set_bio(peer->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    if (settings->resumed != NULL) {
        assert_true(SSL_set_session(peer->ssl, settings->resumed));
    }
    if (settings->server) {
        SSL_set_accept_state(peer->ssl);
    } else {
        SSL_set_connect_state(peer->ssl);
    }
}

static bool openssl_would_block(struct tls_peer *peer, int result)
{
    int error = SSL_get_error(peer->ssl, result);

    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static void openssl_drain(struct tls_peer *peer)
{
    uint8_t bytes[4096];
    int length;

    while ((length = BIO_read(SSL_get_wbio(peer->ssl), bytes, sizeof(bytes))) > 0) {
        tls_pair_bytes_append(&peer->output, bytes, (size_t)length);
    }
}

static void openssl_peer_step(struct tls_peer *peer)
{
    static uint8_t bytes[16384];

    if (peer->input.length > 0) {
        assert_int_equal(BIO_write(SSL_get_rbio(peer->ssl), peer->input.bytes, (int)peer->input.length),
                         peer->input.length);
        peer->input.length = 0;
    }
    if (!peer->established) {
        int result = SSL_do_handshake(peer->ssl);
        peer->established = result == 1;
        peer->failed = result != 1 && !openssl_would_block(peer, result);
    }
    while (peer->established && !peer->failed && !peer->ended) {
        int result = SSL_read(peer->ssl, bytes, sizeof(bytes));
        if (result > 0) {
            tls_pair_bytes_append(&peer->received, bytes, (size_t)result);
            continue;
        }
        if (openssl_would_block(peer, result)) {
            break;
        }
        peer->ended = SSL_get_error(peer->ssl, result) == SSL_ERROR_ZERO_RETURN;
        peer->failed = !peer->ended;
    }
    openssl_drain(peer);
}

/* ---- either ---- */

void tls_peer_init(struct tls_peer *peer, const struct tls_peer_settings *settings)
{
    memset(peer, 0, sizeof(*peer));
    peer->library = settings->library;
    if (peer->library == TLS_PEER_GNUTLS) {
        gnutls_peer_init(peer, settings);
    } else {
        openssl_peer_init(peer, settings);
    }
}

void tls_peer_dispose(struct tls_peer *peer)
{
    if (peer->library == TLS_PEER_GNUTLS) {
        gnutls_deinit(peer->session);
        gnutls_certificate_free_credentials(peer->credentials);
    } else {
        SSL_free(peer->ssl);
        SSL_CTX_free(peer->context);
    }
    free(peer->input.bytes);
    free(peer->output.bytes);
    free(peer->received.bytes);
}

void tls_peer_step(struct tls_peer *peer)
{
    if (peer->library == TLS_PEER_GNUTLS) {
        gnutls_peer_step(peer);
    } else {
        openssl_peer_step(peer);
    }
}

void tls_peer_send(struct tls_peer *peer, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        size_t part = length < 16384 ? length : 16384;
        if (peer->library == TLS_PEER_GNUTLS) {
            ssize_t sent = gnutls_record_send(peer->session, bytes, part);
            assert_true(sent > 0);
            part = (size_t)sent;
        } else {
            assert_int_equal(SSL_write(peer->ssl, bytes, (int)part), part);
            openssl_drain(peer);
        }
        bytes += part;
        length -= part;
    }
}

void tls_peer_update(struct tls_peer *peer, bool ask)
{
    if (peer->library == TLS_PEER_GNUTLS) {
        assert_int_equal(gnutls_session_key_update(peer->session, ask ? GNUTLS_KU_PEER : 0), 0);
    } else {
        assert_true(SSL_key_update(peer->ssl, ask ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED));
        assert_int_equal(SSL_do_handshake(peer->ssl), 1);
        openssl_drain(peer);
    }
}

void tls_peer_finish(struct tls_peer *peer)
{
    if (peer->library == TLS_PEER_GNUTLS) {
        assert_int_equal(gnutls_bye(peer->session, GNUTLS_SHUT_WR), 0);
    } else {
        assert_true(SSL_shutdown(peer->ssl) >= 0);
        openssl_drain(peer);
    }
}
