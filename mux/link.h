/*
 * One trunk on one connection: pumps bytes between a transport, TLS and the trunk engine. Embedded in its owner (the
 * edge's uplink, the core's downlink). Reads and encrypts in buffers of the worker. No system call of its own. One
 * thread.
 *
 *   state:  CONNECTING --> HANDSHAKE --> GREETING (acceptor) --> OPEN --> CLOSED
 */
#ifndef MUX_LINK_H
#define MUX_LINK_H

#include <stdbool.h>

#include "mux/chain.h"
#include "mux/scheduler.h"
#include "mux/tls.h"
#include "mux/transport.h"
#include "mux/trunk.h"

/* Buffers that all links and clients of a worker share: contents last for one event only. */
struct scratch {
    uint8_t *input;  /* SCRATCH_INPUT_BYTES: what a read brought */
    uint8_t *output; /* SCRATCH_OUTPUT_BYTES: ciphertext on its way out */
    uint8_t *frames; /* TLS_RECORD_MAX_BYTES: frames to be encrypted */
    size_t output_length;
    struct outbox *gathering; /* whose ciphertext `output` holds now */
};

#define SCRATCH_INPUT_BYTES  65536U
#define SCRATCH_OUTPUT_BYTES 131072U

enum error_code scratch_init(struct scratch *scratch);
void scratch_dispose(struct scratch *scratch);

enum link_state {
    LINK_CONNECTING, /* the transport is on its way */
    LINK_HANDSHAKE,  /* TLS */
    LINK_GREETING,   /* acceptor: waits for the client's first SETTINGS; no trunk yet */
    LINK_OPEN,       /* a trunk is attached */
    LINK_CLOSED,
    LINK_STATE_COUNT,
};

enum link_closing {
    LINK_STAYS,
    LINK_CLOSING,   /* ends once what is queued has been sent, or at the deadline */
    LINK_ABANDONED, /* the connection is of no more use: ends at once */
};

struct link;

struct link_events {
    /* The handshake is complete. ERROR_NONE to go on; any other error closes the link with
     * it. An opener's owner calls link_open_trunk in here. */
    enum error_code (*established)(struct link *link, const struct tls_peer_info *peer);

    /* Acceptor: the greeting is complete. The owner calls link_open_trunk here (or closes the link) and returns
     * false; or it takes the link to another thread with link_detach and returns true: then that thread may have it
     * already, and nothing here touches it again. Called from a task, with nothing else of this link under way. */
    bool (*greeted)(struct link *link, uint32_t edge_worker);

    /* The link is over: transport closed, every stream of its trunk closed. Called once, outside of all other events;
     * the owner may free it. `error` ERROR_NONE only when link_close was called with it. */
    void (*closed)(struct link *link, enum error_code error);
};

/* An output queue before a transport: ciphertext is gathered in the scratch and written at once; what the transport
 * does not take waits in `pending`. Used by links and by clients. */
struct outbox {
    struct chain pending;
};

struct link {
    const struct link_events *events;
    struct trunk_carrier carrier;
    struct scheduler *scheduler;
    struct scratch *scratch;
    struct transport *transport; /* in the owner */
    struct tls_session tls;
    struct trunk *trunk; /* NULL before LINK_OPEN */
    struct outbox outbox;
    struct chain greeting; /* plaintext before there is a trunk */
    struct task flush;
    struct task read_more;
    struct timer deadline; /* until LINK_OPEN; and for the last flush */
    uint32_t handshake_timeout_ms;
    uint8_t state;
    uint32_t edge_worker;  /* acceptor: from the greeting */
    uint8_t greeted;       /* acceptor: the greeting is complete */
    uint8_t goodbye;       /* close_notify has been made */
    uint8_t closing;       /* enum link_closing: what still comes is not heard */
    uint8_t lingering;     /* closing, and FIN is sent: waits for the peer's */
    uint8_t peer_finished; /* lingering, and the peer's FIN came */
    enum error_code error; /* why it closes */
};

/* Prepares a link over a transport that the owner opens next, with link_ready as its `ready`-handler's callee. The TLS
 * side is opener (client) or acceptor (server). ERROR_NO_MEMORY, ERROR_TLS_INTERNAL. */
enum error_code link_init_opener(struct link *link, struct scheduler *scheduler, struct scratch *scratch,
                                 struct transport *transport, struct tls_context *context, const char *server_name,
                                 uint32_t handshake_timeout_ms, const struct link_events *events);
enum error_code link_init_acceptor(struct link *link, struct scheduler *scheduler, struct scratch *scratch,
                                   struct transport *transport, struct tls_context *context,
                                   uint32_t handshake_timeout_ms, const struct link_events *events);

/* To be called by the owner for each event of the transport (also the first WRITABLE that ends a connection attempt:
 * an opener's first write starts TLS). The link may be closed and freed when it returns. */
void link_ready(struct link *link, unsigned transport_events);

/* Attaches a trunk and feeds it what came before. `owner` is passed to each trunk event. On an error the link closes
 * with it by itself. */
enum error_code link_open_trunk(struct link *link, const struct trunk_settings *settings,
                                const struct trunk_events *events, void *owner);

/* From within `greeted`: forgets its scheduler so that another thread may take it up with link_attach, open its
 * transport there, and call link_open_trunk; reading goes on with the transport's next event. */
void link_detach(struct link *link);
void link_attach(struct link *link, struct scheduler *scheduler, struct scratch *scratch);

/* Asks for an end: what is queued (GOAWAY, resets) is sent and the peer's FIN awaited, both for a second at most; then
 * `closed` is called with `error`. */
void link_close(struct link *link, enum error_code error);

/* Frees everything at once, with a reset of the transport; `closed` is not called, the streams' `closed` is. */
void link_dispose(struct link *link);

/* Claims the scratch's output for this outbox until outbox_flush; events of one outbox may be nested in another's
 * reading, but never gather within its gathering. */
void outbox_begin(struct outbox *outbox, struct scratch *scratch);

/* Adds ciphertext (the tls `output` event calls it): to the scratch while gathering, to `pending` otherwise. */
enum error_code outbox_add(struct outbox *outbox, struct scratch *scratch, struct transport *transport,
                           const uint8_t *bytes, size_t length);
/* Writes what was gathered and what was pending before it. ERROR_NONE also when some is left pending; otherwise the
 * transport's error. */
enum error_code outbox_flush(struct outbox *outbox, struct scratch *scratch, struct transport *transport);

#endif
