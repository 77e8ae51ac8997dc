/*
 * What is behind a tls_session, in two shapes that never live at once: struct tls_handshake, with a GnuTLS session,
 * until the handshake is complete (tls_handshake.c); struct tls_open, with secrets and counters alone, from then on
 * (tls_open.c). Which one it is follows from the state. Owned by the tls_session; one thread.
 *
 *   EXPECT_START --> EXPECT_HANDSHAKE --> OPEN --> FAILED
 *          |                |
 *          +----------------+--> REFUSED
 *   [-------- struct tls_handshake -----][- struct tls_open -]
 */
#ifndef MUX_TLS_BACKEND_H
#define MUX_TLS_BACKEND_H

#include "mux/record.h"
#include "mux/slab_group.h"
#include "mux/tls_gate.h"
#include "mux/tls_hello.h"
#include "mux/tls_internal.h"

#define TLS_OPEN_LEAST_BYTES 80U /* of struct tls_open with its secrets, rounded up to what a slab group steps by */

enum tls_state {
    TLS_EXPECT_START,
    TLS_EXPECT_HANDSHAKE, /* it goes on */
    TLS_REFUSED,          /* it failed; `error` says why; nothing is sent or told any more */
    TLS_OPEN,             /* handed over */
    TLS_FAILED,           /* the record layer's `error` says why; nothing is sent or told any more */
    TLS_STATE_COUNT,
};

/* The first byte of either shape. */
struct tls_backend {
    uint8_t state : 7;     /* of enum tls_state */
    uint8_t resumable : 1; /* struct tls_open: a struct tls_resumption follows the secrets */
};

/* One traffic secret as the key log gives it; empty in TLS 1.2. */
struct tls_secret {
    uint8_t bytes[TLS_CIPHER_HASH_BYTES_MAX];
    size_t length;
};

/* What tls_receive was given and has not been taken yet; belongs to that call. */
struct tls_input {
    uint8_t *bytes;
    size_t length;
    bool starved; /* GnuTLS has asked for more than there was */
};

struct tls_handshake {
    struct tls_backend base;
    uint8_t prefix_length; /* bytes of the first record that were looked at, up to PREFIX_BYTES */
    uint8_t warning_alerts;
    bool output_begun;
    struct tls_gate gate;
    struct tls_hello hello;  /* a client fills in its server's record_size_limit only */
    uint16_t fragment_limit; /* that a server has agreed to (RFC 6066); 0: none */
    enum error_code refusal; /* why the next result of GnuTLS will be an error; ERROR_NONE: GnuTLS knows itself */
    int refusal_alert;       /* -1: none is due */
    gnutls_session_t session;
    struct tls_context *context;
    struct slab_group *memory;       /* for struct tls_open; NULL: the heap */
    const struct tls_events *events; /* of the call that is under way */
    struct tls_input *input;         /* NULL outside of tls_handshake_receive */
    enum error_code error;
    int verification_alert;       /* why the peer's certificate was refused; 0 otherwise */
    int last_alert;               /* as tls_last_alert */
    struct tls_secret secrets[2]; /* application traffic: the server's, the client's */
    char server_name[];           /* a client's expectation */
};

/* A client's resumption data, or what it will come from: GnuTLS can read the ticket that follows a handshake of TLS 1.3
 * only in the session of that handshake, so that is kept until the first ticket, or until something else comes. */
struct tls_resumption {
    gnutls_session_t session; /* NULL: no ticket is awaited any more */
    struct tls_context *context;
    struct tls_ticket *ticket; /* NULL: none */
    const uint8_t *input;
    size_t input_length;
    uint64_t sequence; /* of the next record that the session could read */
};

/*
 * One allocation: the record layer's 32 bytes, the first of which is the struct tls_backend, its secrets (64 to 96),
 * and for a client that keeps tickets a struct tls_resumption (48). A client of the edge with TLS 1.3 and AES-128-GCM:
 * 96 bytes.
 */
struct tls_open {
    struct record_state record; /* its secrets follow */
};

static inline struct tls_handshake *tls_handshake_of(const struct tls_session *tls)
{
    return (struct tls_handshake *)(void *)tls->backend;
}

static inline struct tls_open *tls_open_of(const struct tls_session *tls)
{
    return (struct tls_open *)(void *)tls->backend;
}

static inline bool tls_handed_over(const struct tls_session *tls)
{
    return tls->backend->state == TLS_OPEN || tls->backend->state == TLS_FAILED;
}

/* The one setter of the state. */
void tls_move(struct tls_backend *backend, enum tls_state to);

/* ---- tls_handshake.c ---- */

/* Makes the backend, with EXPECT_START. As tls_init_server and tls_init_client. */
enum error_code tls_handshake_new(struct tls_session *tls, struct tls_context *context, const char *server_name,
                                  struct slab_group *memory);

/* Ends the GnuTLS session, wipes the secrets and frees; tls->backend is the caller's to set. */
void tls_handshake_free(struct tls_handshake **handshake);

/* One step, which may complete it: then the state is OPEN and the handshake has been freed. */
enum error_code tls_handshake_step(struct tls_session *tls);

/* The events of the call that is about to be made. */
static inline void tls_handshake_hears(const struct tls_session *tls, const struct tls_events *events)
{
    tls_handshake_of(tls)->events = events;
}

/* Feeds input until the handshake fails, needs more or is complete; what is left then is for the record layer. */
enum error_code tls_handshake_receive(struct tls_session *tls, struct tls_input *input);

/* Plaintext bytes of a record that the peer takes. */
size_t tls_handshake_send_max(const struct tls_handshake *handshake);

/* The one way into TLS_REFUSED. At most one alert goes out; -1: none. Returns the error. */
enum error_code tls_handshake_fail(struct tls_session *tls, enum error_code error, int alert);

/* Fails with a result of GnuTLS. */
enum error_code tls_handshake_fail_result(struct tls_session *tls, int result);

/* ---- tls_open.c ---- */

/* Takes over from a handshake that is complete: *open owns everything then, and the GnuTLS session is of no more use.
 * Nothing has changed on an error: ERROR_NO_MEMORY; ERROR_TLS_HANDSHAKE when GnuTLS holds a part of a handshake message
 * that came with the last one (RFC 8446 section 5.1 forbids it); ERROR_TLS_INTERNAL. */
enum error_code tls_open_new(struct tls_session *tls, struct tls_open **open);
void tls_open_free(struct tls_open **open);

/* Number of the suite that was agreed on; after tls_open_new has succeeded no longer to be had. */
uint16_t tls_open_suite(const struct tls_handshake *handshake);

enum error_code tls_open_receive(struct tls_session *tls, const struct tls_events *events, uint8_t *bytes,
                                 size_t length);
enum error_code tls_open_send(struct tls_session *tls, const struct tls_events *events, const uint8_t *bytes,
                              size_t length);
enum error_code tls_open_finish(struct tls_session *tls, const struct tls_events *events);
void tls_open_abort(struct tls_session *tls, const struct tls_events *events, uint8_t alert);

/* NULL when it has none. */
struct tls_resumption *tls_open_resumption(const struct tls_open *open);

/* ---- tls_ticket.c ---- */

/* Keeps resumption data of GnuTLS's, without what the context's first one has too; the context must outlive it. NULL
 * when memory is out. */
struct tls_ticket *tls_ticket_new(struct tls_context *context, const gnutls_datum_t *data);

/* Of the whole data, and the data itself. */
size_t tls_ticket_length(const struct tls_ticket *ticket);
void tls_ticket_read(const struct tls_ticket *ticket, const struct tls_context *context, uint8_t *into);

/* Wipes it; a pointer to NULL is allowed. */
void tls_ticket_free(struct tls_ticket **ticket);

#endif
