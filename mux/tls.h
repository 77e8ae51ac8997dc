/*
 * One TLS connection as an engine: ciphertext in, plaintext and ciphertext out; no I/O. Callers see this interface
 * only; who does the work behind it (GnuTLS for the handshake, mux/record.h from then on) is not their business. A
 * connection belongs to one thread; a context may be shared by all.
 */
#ifndef MUX_TLS_H
#define MUX_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/error.h"
#include "mux/pack.h"

#define TLS_RECORD_MAX_BYTES     16384U /* plaintext of one record (RFC 8446 section 5.1) */
#define TLS_SERVER_NAME_MAX      255U   /* bytes of a DNS name */
#define TLS_ALPN_MAX             255U   /* bytes of a protocol name (RFC 7301) */
#define TLS_ALPN_OWN_MAX         32U    /* bytes of a protocol name that a context can agree to */
#define TLS_ALPN_OWN_COUNT_MAX   8U     /* protocol names of a context */
#define TLS_TICKET_KEY_BYTES     64U
#define TLS_SESSION_SECRET_BYTES 32U
#define TLS_SESSION_ID_BYTES     16U /* METADATA_SESSION_BYTES */

/* Fatal alerts that callers send (RFC 8446 section 6.2). */
enum tls_alert {
    TLS_ALERT_HANDSHAKE_FAILURE = 40,
    TLS_ALERT_ACCESS_DENIED = 49,
    TLS_ALERT_INTERNAL_ERROR = 80,
};

struct tls_context; /* credentials and policy; reference counted */
struct tls_session;

/* What a handshake has found out about the peer. Texts are empty strings when the peer sent none. */
struct tls_peer_info {
    const char *server_name; /* SNI, lower case */
    const char *alpn;        /* the protocol chosen */
    uint16_t version;        /* 0x0304 TLS 1.3, 0x0303 TLS 1.2 */
    uint16_t suite;          /* IANA number, e.g. 0x1301 */
    bool resumed;
    const uint8_t *certificate; /* the peer's leaf, DER; NULL when it sent none */
    size_t certificate_length;
};

/* What a connection tells its owner, who passes them to each call that may have something to tell: an idle connection
 * has no room for a pointer that is the same for all. None may dispose of the connection that calls it. */
struct tls_events {
    /* Ciphertext for the peer. The bytes are valid during the call only, in which nothing may be sent on any TLS
     * connection of the thread. */
    void (*output)(struct tls_session *tls, const uint8_t *bytes, size_t length);

    /* The handshake is complete and the peer is authenticated as the context demands. What is told of it is valid
     * during the call only: whoever needs it later keeps a copy. */
    void (*established)(struct tls_session *tls, const struct tls_peer_info *peer);

    /* Plaintext from the peer, at most TLS_RECORD_MAX_BYTES a call, valid during the call only. */
    void (*data)(struct tls_session *tls, const uint8_t *bytes, size_t length);

    /* close_notify: the peer sends no more; sending goes on. */
    void (*end)(struct tls_session *tls);
};

/* One connection; embedded in its owner, which is found with container_of. */
struct tls_session {
    struct tls_backend *backend; /* NULL when disposed */
};

/* False when zeroed or disposed of. */
static inline bool tls_initialized(const struct tls_session *tls)
{
    return tls->backend != NULL;
}

enum tls_client_auth { TLS_CLIENT_AUTH_NONE, TLS_CLIENT_AUTH_OPTIONAL, TLS_CLIENT_AUTH_REQUIRED };

struct tls_certificate_files {
    const char *certificate; /* PEM: leaf first, then intermediates */
    const char *key;         /* PEM, not encrypted */
};

/* What a server context is made of. Strings are read during tls_context_new_server only. */
struct tls_server_settings {
    const struct tls_certificate_files *certificates; /* the first is the default one; chosen by SNI */
    size_t certificate_count;                         /* at least 1 */
    const char *const *alpn;                          /* in the server's order of preference; at most
                                                         TLS_ALPN_OWN_COUNT_MAX of 1 to TLS_ALPN_OWN_MAX bytes each */
    size_t alpn_count;                                /* 0: ALPN is ignored */
    bool alpn_required;                               /* a client that offers no ALPN is refused too (trunks) */
    bool unknown_name_refused;                        /* SNI that no certificate bears: unrecognized_name alert */
    enum tls_client_auth client_auth;
    const char *client_ca;       /* PEM file; NULL when client_auth is NONE */
    const char *ticket_key_file; /* TLS_TICKET_KEY_BYTES or more random bytes; NULL: a fresh key */
    bool tickets;                /* stateless session tickets */
};

struct tls_client_settings {
    const char *ca;                           /* PEM file that the server's certificate must chain to; NULL: the
                                                 server is not authenticated (load generators only) */
    struct tls_certificate_files certificate; /* NULL fields: none */
    const char *const *alpn;
    size_t alpn_count;
    bool alpn_required;   /* a server that chooses none is refused */
    bool tickets_ignored; /* no resumption data is kept: an established client is as small as a server */
    const char *priority; /* GnuTLS priority string; NULL: the project's policy */
};

/* Say what was wrong in one line ("edge.key: the key does not match edge.crt"), for ERROR_CREDENTIALS. */
struct tls_fault {
    char text[512];
};

enum error_code tls_context_new_server(const struct tls_server_settings *settings, struct tls_context **context,
                                       struct tls_fault *fault);
enum error_code tls_context_new_client(const struct tls_client_settings *settings, struct tls_context **context,
                                       struct tls_fault *fault);
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context **context);

/* The first name that the context's first certificate bears: "" for none. Valid as long as the context. */
const char *tls_context_name(const struct tls_context *context);

/* Slabs for connections that are established: see tls_memory_init. */
struct slab_group;

/* Prepares a connection; it keeps a reference to the context until it is established. What it needs from then on comes
 * from `memory`, a group of slabs of the thread that it will stay on until it is disposed of; NULL: from the heap.
 * ERROR_NO_MEMORY or ERROR_TLS_INTERNAL. A client's `server_name` is sent as SNI unless it is an IP address, and the
 * server's certificate must bear it when the context has a CA: then a client without a name, or with one over
 * TLS_SERVER_NAME_MAX, is ERROR_INVALID. On an error there is nothing to dispose of. Nothing is sent before tls_start.
 */
enum error_code tls_init_server(struct tls_session *tls, struct tls_context *context, struct slab_group *memory);
enum error_code tls_init_client(struct tls_session *tls, struct tls_context *context, const char *server_name,
                                struct slab_group *memory);

/* Prepares slabs that fit what an established connection needs: 72 to 128 bytes (mux/record.h), and a client that keeps
 * tickets has the heap's. */
void tls_memory_init(struct slab_group *memory);

/* Sends what the role sends first (ClientHello). Errors as tls_receive. */
enum error_code tls_start(struct tls_session *tls, const struct tls_events *events);

/* Feeds ciphertext; all of it is taken. Events are called meanwhile; the memory may be decrypted in place. On an
 * error the proper alert has gone to `output` already, and only the information calls and tls_dispose may follow:
 * ERROR_TLS_* and ERROR_NO_MEMORY; ERROR_STATE after an error or when an event has called tls_abort. What comes after
 * `end` is ignored (RFC 8446 section 6.1). */
enum error_code tls_receive(struct tls_session *tls, const struct tls_events *events, uint8_t *bytes, size_t length);

/* Encrypts and outputs all of it in records of at most TLS_RECORD_MAX_BYTES. Only once established and before
 * tls_finish (ERROR_STATE otherwise). */
enum error_code tls_send(struct tls_session *tls, const struct tls_events *events, const uint8_t *bytes, size_t length);

/* Sends close_notify; receiving goes on. */
enum error_code tls_finish(struct tls_session *tls, const struct tls_events *events);

/* Sends a fatal alert (RFC 8446 section 6.2 numbers); only tls_dispose may follow. No effect before the handshake
 * has sent or received anything. */
void tls_abort(struct tls_session *tls, const struct tls_events *events, uint8_t alert);

/* An established server connection for another process, as record_export has it: what it needs to go on, secrets
 * included. ERROR_STATE for any other connection. tls_import's `memory` is as for tls_init_server; ERROR_INVALID,
 * ERROR_NO_MEMORY: there is nothing to dispose of then. */
enum error_code tls_export(const struct tls_session *tls, struct pack *pack);
enum error_code tls_import(struct tls_session *tls, struct unpack *unpack, struct slab_group *memory);

/* Lets go of what the calling thread keeps for a connection that is established: to be called when another thread is
 * about to take it over. It is no error to forget it, but keys stay in this thread's memory for a while then. */
void tls_rest(struct tls_session *tls);

/* Wipes the keys and frees; nothing is sent. No effect on a connection that is disposed. */
void tls_dispose(struct tls_session *tls);

bool tls_established(const struct tls_session *tls);

/* True once at least one byte of a well-formed handshake has come from the peer. */
bool tls_has_peer_input(const struct tls_session *tls);

/* The alert that ended the connection, for logs: sent (positive), received (negative), 0 none. */
int tls_last_alert(const struct tls_session *tls);

/* A client's resumption data: of `into`'s `capacity` bytes *length are filled. ERROR_WOULD_BLOCK when no ticket has
 * come yet; ERROR_LIMIT when it does not fit. The counterpart takes it before tls_start. */
enum error_code tls_ticket_export(const struct tls_session *tls, uint8_t *into, size_t capacity, size_t *length);
enum error_code tls_ticket_import(struct tls_session *tls, const uint8_t *bytes, size_t length);

/* Base64 (RFC 4648 section 4) through the TLS library. Encoding needs 4 * ((length + 2) / 3) + 1 bytes of room;
 * decoding 3 * length / 4. ERROR_INVALID for bad input, ERROR_LIMIT for too little room. */
enum error_code tls_base64_encode(const uint8_t *bytes, size_t length, char *into, size_t capacity, size_t *written);
enum error_code tls_base64_decode(const char *text, size_t length, uint8_t *into, size_t capacity, size_t *written);

/* True when one of the certificate's DNS or IP subject alternative names equals `name` (wildcards as RFC 6125), or,
 * failing any, its common name does. */
bool tls_certificate_has_name(const uint8_t *der, size_t length, const char *name);

/* The first name that a certificate bears, for logs: a SAN, else the common name. Empty when it has none. */
void tls_certificate_name(const uint8_t *der, size_t length, char *into, size_t capacity);

/* The id of the session with this number, unguessable for whoever does not have the secret, and the same each time.
 * False when the TLS library fails. */
bool tls_session_number_seal(const uint8_t secret[TLS_SESSION_SECRET_BYTES], uint64_t number,
                             uint8_t id[TLS_SESSION_ID_BYTES]);

#endif
