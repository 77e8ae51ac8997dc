/*
 * One TLS client of the load generator: connects, shakes hands, is served for the first time, then sends what it is
 * told and checks what comes back. A storm drops it and lets it come back, with its ticket if it has one. Clients live
 * in an array of the worker's; the party is what they share. One thread.
 *
 *   state:  NEW --> CONNECTING --> HANDSHAKE --> PROVING --> OPEN --> CLOSING --> CLOSED
 *                     ^  \--------------\------------\---------|-----> FAILED
 *                     \--------------------------- DROPPED <---/
 *
 * An idle client is this structure and its TLS state. What it needs only while it opens, comes back or closes is its
 * attempt's; what it needs while a message has come in part, or an answer is awaited, its exchange's.
 */
#ifndef LOAD_CLIENT_H
#define LOAD_CLIENT_H

#include "mux/link.h"
#include "mux/loop.h"
#include "mux/slab.h"
#include "mux/slab_group.h"
#include "mux/socket.h"
#include "mux/tls.h"
#include "tests/load/dial.h"
#include "tests/load/exchange.h"
#include "tests/load/tally.h"

#define CLIENT_BACKLOG_MAX_BYTES 1048576U /* unsent ciphertext of one client; beyond it, its messages are not sent */
#define CLIENT_CLOSE_TIMEOUT_MS  5000U    /* from close_notify to the server's end */
#define CLIENT_TICKET_MAX_BYTES  16384U

enum client_state {
    CLIENT_NEW,
    CLIENT_CONNECTING, /* expects the TCP connection */
    CLIENT_HANDSHAKE,  /* expects the end of TLS's handshake */
    CLIENT_PROVING,    /* expects the service */
    CLIENT_OPEN,
    CLIENT_CLOSING, /* has sent close_notify, expects the server's end */
    CLIENT_CLOSED,
    CLIENT_FAILED,
    CLIENT_DROPPED, /* by a storm, expects to be started again */
    CLIENT_STATE_COUNT,
};

/* What all clients of a worker share; the pointers belong to the worker. */
struct client_party {
    struct loop *loop;
    struct scratch *scratch;
    struct tls_context *context;
    const struct dial *dial;
    const struct exchange_plan *plan;
    const char *server_name;
    struct tally *tally;
    uint8_t *message;     /* exchange_room() bytes */
    uint8_t *ticket_room; /* CLIENT_TICKET_MAX_BYTES; NULL: tickets are not kept */
    struct slab attempts; /* of struct client_attempt */
    struct slab answers;  /* of struct exchange_answer; for the plan */
    struct slab partials; /* of struct message_partial; for the plan */
    struct slab_group tls_memory;
    uint64_t opening_timeout_ms;
    uint64_t storm_us;                           /* when the storm dropped its clients; 0: not yet */
    uint32_t counts[CLIENT_STATE_COUNT];         /* clients in each state */
    uint32_t ready;                              /* open clients that could send now */
    uint64_t in_flight;                          /* sent and not yet answered, of clients that have not failed */
    void (*settled)(struct client_party *party); /* a client has opened, or failed to */
};

struct client_attempt;

/*
 * 96 bytes. The rest of an idle client is its TLS state, an allocation of its own from party->tls_memory: 96 bytes
 * with TLS 1.3 and AES-128-GCM (mux/tls_backend.h), or about 0.6 KB with a ticket. A client of one-way down traffic
 * also has a struct exchange_answer.
 */
struct client {
    struct client_party *party;     /*  0: 8 */
    struct socket_transport socket; /*  8: 16, closed in NEW, CLOSED, FAILED and DROPPED */
    struct tls_session tls;         /* 24: 8, disposed in these and in CONNECTING */
    struct outbox outbox;           /* 32: 8 */
    struct client_attempt *attempt; /* 40: 8, NULL in NEW, OPEN, CLOSED and FAILED, and in DROPPED without a ticket */
    struct exchange exchange;       /* 48: 40 */
    uint8_t state;                  /* 88: enum client_state */
    uint8_t fault;                  /* 89: enum error_code, noted by an event of TLS, acted upon after it */
    uint8_t peer_ended : 1;         /* 90: close_notify has come */
    uint8_t finished : 1;           /*     FIN is sent */
    uint8_t ready : 1;              /*     counted in party->ready */
    uint8_t returning : 1;          /*     was dropped, and comes back */
};

_Static_assert(sizeof(struct client) == 96, "a client is small: there may be half a million");

/* For the plan: what came whole for one of the party's clients. */
void client_result(struct exchange *exchange, const struct exchange_result *result);

/* Prepares a party whose pointers and limits are set. */
void client_party_init(struct client_party *party);
void client_party_dispose(struct client_party *party);

/* Prepares; counts as CLIENT_NEW. */
void client_init(struct client *client, struct client_party *party, enum exchange_kind kind, uint32_t number);

/* NEW or DROPPED: connects. It may have failed when this returns. */
void client_start(struct client *client);

/* May it send now? Then: sends the next message; its latency counts from `intended_us`. The client may have failed when
 * this returns. */
static inline bool client_may_send(const struct client *client)
{
    return client->ready != 0;
}
void client_send(struct client *client, uint64_t intended_us);

/* OPEN and of EXCHANGE_ECHO: sends a keep-alive ping. */
void client_ping(struct client *client, uint64_t intended_us);

/* OPEN: cuts the connection as an outage would, with a reset. The client waits to be started again. */
void client_drop(struct client *client);

/* OPEN: sends close_notify and FIN and waits for the server's end. In any state before, in CLOSING and in DROPPED, it
 * is closed at once. No effect afterwards. Not from within an event of this client. */
void client_finish(struct client *client);

/* Ends at once, in good order; CLOSED or FAILED stay what they are. Not from within an event of this client. */
void client_end(struct client *client);

/* CLOSED or FAILED: as new. */
void client_renew(struct client *client);

/* Releases everything at once, whatever the state; counts nothing. */
void client_dispose(struct client *client);

static inline uint32_t client_party_opening(const struct client_party *party)
{
    return party->counts[CLIENT_CONNECTING] + party->counts[CLIENT_HANDSHAKE] + party->counts[CLIENT_PROVING];
}

#endif
