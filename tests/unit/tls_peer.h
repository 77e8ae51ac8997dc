/*
 * Another TLS library as the peer of a connection of ours, in memory: GnuTLS with its own record layer, or OpenSSL.
 * What it puts out waits in `output`. The test that makes it owns it.
 */
#ifndef TESTS_UNIT_TLS_PEER_H
#define TESTS_UNIT_TLS_PEER_H

#include <gnutls/gnutls.h>
#include <openssl/ssl.h>

#include <stdbool.h>

#include "tests/unit/test_pki.h"
#include "tests/unit/tls_pair.h"

enum tls_peer_library { TLS_PEER_GNUTLS, TLS_PEER_OPENSSL };

struct tls_peer {
    enum tls_peer_library library;
    struct tls_pair_bytes input;    /* from us, not read yet */
    struct tls_pair_bytes output;   /* for us, not carried yet */
    struct tls_pair_bytes received; /* plaintext */
    bool established;
    bool ended;  /* our close_notify was seen */
    bool failed; /* the library has reported an error */
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    uint8_t handshake_secret[48]; /* GnuTLS as a client with TLS 1.3: CLIENT_HANDSHAKE_TRAFFIC_SECRET */
    SSL_CTX *context;
    SSL *ssl;
};

struct tls_peer_settings {
    enum tls_peer_library library;
    bool server;
    bool version_13;
    unsigned suite;                       /* 0 AES-128-GCM, 1 AES-256-GCM, 2 ChaCha20-Poly1305 */
    const struct test_identity *identity; /* a server's */
    SSL_SESSION *resumed;                 /* OpenSSL as a client; NULL: a full handshake */
    size_t record_size_limit;             /* GnuTLS; 0: none */
};

void tls_peer_init(struct tls_peer *peer, const struct tls_peer_settings *settings);
void tls_peer_dispose(struct tls_peer *peer);

/* Goes on with the handshake, then reads what there is. */
void tls_peer_step(struct tls_peer *peer);

void tls_peer_send(struct tls_peer *peer, const uint8_t *bytes, size_t length);
void tls_peer_update(struct tls_peer *peer, bool ask);
void tls_peer_finish(struct tls_peer *peer);

#endif
