/*
 * One TLS client of the load generator: connects, shakes hands, proves itself by one echo, then sends what it is told
 * and checks what comes back. Clients live in an array of the run's; the party is what they share. One thread.
 *
 *   state:  NEW --> CONNECTING --> HANDSHAKE --> PROVING --> OPEN --> CLOSING --> CLOSED
 *                       \--------------\------------\---------\-----> FAILED
 */
#ifndef LOAD_CLIENT_H
#define LOAD_CLIENT_H

#include "mux/link.h"
#include "mux/loop.h"
#include "mux/socket.h"
#include "mux/tls.h"
#include "tests/load/dial.h"
#include "tests/load/message.h"
#include "tests/load/tally.h"

#define CLIENT_BACKLOG_MAX_BYTES 1048576U /* unsent ciphertext of one client; beyond it, its messages are not sent */
#define CLIENT_CLOSE_TIMEOUT_MS  5000U    /* from close_notify to the server's end */

enum client_state {
    CLIENT_NEW,
    CLIENT_CONNECTING, /* expects the TCP connection */
    CLIENT_HANDSHAKE,  /* expects the end of TLS's handshake */
    CLIENT_PROVING,    /* expects the first echo */
    CLIENT_OPEN,
    CLIENT_CLOSING, /* has sent close_notify, expects the server's end */
    CLIENT_CLOSED,
    CLIENT_FAILED,
    CLIENT_STATE_COUNT,
};

/* What all clients of a run share; the pointers belong to the run. */
struct client_party {
    struct loop *loop;
    struct scratch *scratch;
    struct tls_context *context;
    const struct dial *dial;
    const char *server_name;
    struct tally *tally;
    uint8_t *message; /* room for one message */
    uint32_t message_bytes;
    uint64_t opening_timeout_ms;
    uint32_t counts[CLIENT_STATE_COUNT];         /* clients in each state */
    uint64_t in_flight;                          /* messages sent and not yet back, of clients that have not failed */
    void (*settled)(struct client_party *party); /* a client has opened, or failed to */
};

struct client {
    struct client_party *party;
    struct socket_transport socket; /* closed in NEW, CLOSED and FAILED */
    struct tls_session tls;         /* disposed in NEW, CONNECTING, CLOSED and FAILED */
    struct outbox outbox;
    struct timer deadline;
    struct message_reader reader;
    uint64_t since_us; /* when the present step of opening began */
    uint32_t number;
    uint8_t state;         /* enum client_state */
    uint8_t peer_ended;    /* close_notify has come */
    uint8_t finished;      /* FIN is sent */
    enum error_code fault; /* noted by an event of TLS, acted upon after it */
};

/* Prepares; counts as CLIENT_NEW. */
void client_init(struct client *client, struct client_party *party, uint32_t number);

/* NEW: connects. It may have failed when this returns. */
void client_start(struct client *client);

/* OPEN: sends the next message; its latency counts from `intended_us`. The client may have failed when this returns. */
void client_send(struct client *client, uint64_t intended_us);

/* OPEN: sends close_notify and FIN and waits for the server's end. In any state before, and in CLOSING, it is closed at
 * once. No effect afterwards. */
void client_finish(struct client *client);

/* Releases everything at once, whatever the state; counts nothing. */
void client_dispose(struct client *client);

static inline uint32_t client_party_opening(const struct client_party *party)
{
    return party->counts[CLIENT_CONNECTING] + party->counts[CLIENT_HANDSHAKE] + party->counts[CLIENT_PROVING];
}

#endif
