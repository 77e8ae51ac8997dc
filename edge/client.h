/*
 * One client connection: TLS towards the client, one stream of a trunk towards the core, bytes between the two.
 * Belongs to the relay (its slab); owns its transport, TLS connection and stream. client.c is the life of a client,
 * client_pump.c moves its bytes. One thread.
 *
 *   state:
 *   EXPECT_HANDSHAKE --> EXPECT_TRUNK <--> EXPECT_ANSWER --> RELAYING --> LINGERING --> CLOSED
 *          |                  |                  |              |             ^          ^
 *          \------------------+------------------+--------------+-------------/          |
 *          \------------------+------------------+--------------+------------------------/
 *
 * EXPECT_HANDSHAKE: TLS. EXPECT_TRUNK: no trunk takes a stream now; waits in the relay's queue. EXPECT_ANSWER: CONNECT
 * was sent (back to EXPECT_TRUNK when the core did not process it). RELAYING: bytes both ways. LINGERING: all has been
 * said (or an alert); reads and discards until the client's FIN. CLOSED: freed at the end of the batch.
 *
 * While RELAYING each direction ends by itself:
 *   input (from the client):  OPEN --> ENDING (close_notify came, bytes before it wait) --> ENDED (told the core)
 *   output (to the client):   OPEN --> ENDING (the core ended, bytes before it wait)
 *                                  --> FLUSHING (close_notify or an alert is encrypted, and waits) --> ENDED (FIN)
 */
#ifndef EDGE_CLIENT_H
#define EDGE_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/address.h"
#include "mux/chain.h"
#include "mux/link.h"
#include "mux/list.h"
#include "mux/scheduler.h"
#include "mux/tls.h"
#include "mux/transport.h"
#include "mux/trunk.h"

struct relay;
struct uplink;

enum edge_client_state {
    EDGE_CLIENT_EXPECT_HANDSHAKE,
    EDGE_CLIENT_EXPECT_TRUNK,
    EDGE_CLIENT_EXPECT_ANSWER,
    EDGE_CLIENT_RELAYING,
    EDGE_CLIENT_LINGERING,
    EDGE_CLIENT_CLOSED,
    EDGE_CLIENT_STATE_COUNT,
};

enum edge_client_half {
    EDGE_CLIENT_HALF_OPEN,
    EDGE_CLIENT_HALF_ENDING,
    EDGE_CLIENT_HALF_FLUSHING, /* output only */
    EDGE_CLIENT_HALF_ENDED,
    EDGE_CLIENT_HALF_COUNT,
};

/* Every byte here is paid for by every idle client: see the budget in docs/SIZING.md before adding one. */
struct edge_client {
    struct relay *relay;
    struct list_node node;     /* in relay->clients, or in relay->waiting while EXPECT_TRUNK */
    union transport_slot slot; /* to the client */
    struct tls_session tls;
    struct trunk_stream stream; /* attached from EXPECT_ANSWER on, until both directions have ended */
    struct outbox outbox;       /* ciphertext that the transport did not take; empty when idle */
    struct chain input;         /* plaintext that came with the handshake, before the core's answer */
    struct chain output;        /* plaintext from the core that waits for the transport; within the window */
    struct timer timer;         /* one at a time: handshake, trunk and answer, linger; unarmed while RELAYING */
    struct task task;           /* reads on, or frees a CLOSED client */
    struct address_compact peer;
    struct address_compact local; /* the address that it connected to */
    uint32_t encrypted_bytes;     /* of plaintext from the core whose ciphertext the transport has not yet taken:
                                     consumed on the stream when the outbox is empty */
    uint16_t listener;            /* index into the settings */
    uint8_t state;                /* enum edge_client_state; changed by edge_client_move only */
    uint8_t input_half;           /* enum edge_client_half */
    uint8_t output_half;
    uint8_t attempts;      /* CONNECTs sent */
    uint8_t failure;       /* enum error_code met within a TLS event, handled after it */
    uint8_t spoiled;       /* LINGERING: after an alert, so it must close with a reset; 0 after a clean end */
    uint8_t peer_finished; /* the client's FIN was read: nothing more comes */
};

/* CONNECTs sent at most, when cores answer that they did not process them. */
#define EDGE_CLIENT_ATTEMPTS_MAX 3U

/* Reads of one client in a row, before others get their turn. */
#define EDGE_CLIENT_READS_PER_TURN 4U

/* Called by relay_admit: EXPECT_HANDSHAKE in zeroed memory. ERROR_NO_MEMORY, ERROR_TLS_INTERNAL (nothing to dispose
 * of then). */
enum error_code edge_client_init(struct edge_client *client, struct relay *relay, size_t listener,
                                 const struct address *peer, const struct address *local);

/* The transport is open: the handshake may begin. */
void edge_client_start(struct edge_client *client);

/* The transport could not be opened: frees the client. */
void edge_client_abandon(struct edge_client *client);

/* The transport's `ready`: the transport must be the slot of a client. */
void edge_client_ready(struct transport *transport, unsigned events);

/* EXPECT_TRUNK: tries to open its stream. False when no trunk takes it now. */
bool edge_client_open(struct edge_client *client, const struct uplink *except);

/* Resets everything at once: the client must not take it for a clean end. The memory goes at the end of the batch. */
void edge_client_reset(struct edge_client *client);

/* Frees a client, whatever its state, without another event. */
void edge_client_free(struct edge_client *client);

/* The trunk's events for streams; `owner` is the uplink. */
void edge_client_stream_opened(void *owner, struct trunk_stream *stream);
void edge_client_stream_data(void *owner, struct trunk_stream *stream, const uint8_t *bytes, size_t length);
void edge_client_stream_end(void *owner, struct trunk_stream *stream);
void edge_client_stream_writable(void *owner, struct trunk_stream *stream);
void edge_client_stream_closed(void *owner, struct trunk_stream *stream, enum error_code error, uint32_t detail);

/* "expect-handshake", ... Static. */
const char *edge_client_state_name(enum edge_client_state state);

/* Between client.c and client_pump.c. */

void edge_client_move(struct edge_client *client, enum edge_client_state to);
void edge_client_input_move(struct edge_client *client, enum edge_client_half to);
void edge_client_output_move(struct edge_client *client, enum edge_client_half to);

/* The handshake is complete: asks for a stream. */
void edge_client_established(struct edge_client *client);

/* The client's connection failed (reset, broken TLS, ended where it may not): the stream is reset, then it lingers if
 * an alert is on its way, or is closed. */
void edge_client_failed(struct edge_client *client, enum error_code error);

/* The same, with an alert first: the failure is not TLS's own. */
void edge_client_abort(struct edge_client *client, enum tls_alert alert, enum error_code error);

/* Nothing is read from the client now, as its stream has no room or awaits its answer. */
bool edge_client_reading_paused(struct edge_client *client);

/* Both directions may have ended: lingers if so. */
void edge_client_settle(struct edge_client *client);

/* The client's FIN came while LINGERING, or the time for it is over. */
void edge_client_linger_over(struct edge_client *client);

/* Reads what the state allows, within the turn's budget. */
void edge_client_pump_input(struct edge_client *client);

/* Writes what waits: ciphertext first, then plaintext, then the end. */
void edge_client_pump_output(struct edge_client *client);

/* Passes what came with the handshake on to the stream, as far as there is room. */
void edge_client_pump_early(struct edge_client *client);

/* The ciphertext that a TLS call inside makes is gathered and written at once by the end call. */
void edge_client_gather(struct edge_client *client);
enum error_code edge_client_flush(struct edge_client *client);

extern const struct tls_events edge_client_tls_events;

#endif
