/*
 * What the TLS files share and nobody else may see: credentials made ready for GnuTLS, and the names of certificates.
 * A context is written by tls_context.c while it is made and only read afterwards, by any thread; but for the pattern
 * of its tickets, which is set once.
 */
#ifndef MUX_TLS_INTERNAL_H
#define MUX_TLS_INTERNAL_H

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/tls.h"

/* The DNS names that a certificate bears, in lower case; its common name when it has no subject alternative name. */
struct tls_names {
    char **texts;
    size_t count;
};

/* One certificate with its key. */
struct tls_credential {
    gnutls_pcert_st *chain; /* leaf first */
    unsigned chain_length;
    gnutls_privkey_t key;
    gnutls_pk_algorithm_t algorithm;
    struct tls_names names;
};

/* Is the user pointer of each GnuTLS session made from it; the session's transport pointer is the tls_session while the
 * handshake goes on. */
struct tls_context {
    atomic_uint references;
    bool server;
    bool peer_verified; /* there is a CA that the peer's certificate must chain to */
    bool alpn_required;
    bool unknown_name_refused;
    bool tickets;
    bool tickets_ignored; /* a client that resumes nothing */
    enum tls_client_auth client_auth;
    gnutls_certificate_credentials_t credentials; /* trust only: our own certificates are retrieved from `own` */
    gnutls_priority_t priority;
    struct tls_credential *own;
    size_t own_count;
    gnutls_datum_t *alpn;
    unsigned alpn_count;
    uint8_t ticket_key[TLS_TICKET_KEY_BYTES];
    _Atomic(struct tls_ticket_pattern *) pattern; /* a client's, mux/tls_ticket.c; NULL: no ticket has come yet */
};

struct tls_ticket_pattern;

/* NULL is allowed. */
void tls_ticket_pattern_free(struct tls_ticket_pattern *pattern);

/* Which of the context's certificates to present: the first that bears `server_name` ("" for none) and that the peer
 * can verify, else the first that bears it, else the first that the peer can verify, else the first of all. NULL when
 * the context has none. */
const struct tls_credential *tls_context_choose(const struct tls_context *context, gnutls_session_t session,
                                                const char *server_name);

/* True when one of the context's certificates bears the name. */
bool tls_context_bears(const struct tls_context *context, const char *server_name);

/* Collects a certificate's names. ERROR_NO_MEMORY leaves nothing to free. */
enum error_code tls_names_collect(struct tls_names *names, gnutls_x509_crt_t certificate);
void tls_names_dispose(struct tls_names *names);
bool tls_names_match(const struct tls_names *names, const char *name);

#endif
