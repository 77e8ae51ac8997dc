/*
 * One client connection: TLS towards the client, one stream of a trunk towards the core, bytes between the two.
 * Belongs to the relay, whose slab it lives in; owns its transport, TLS connection and stream. client.c is the life of
 * a client, client_handshake.c gives handshakes their turns, client_leaving.c those who go, client_pump.c moves bytes,
 * client_idle.c ends who is idle, client_resume.c waits for another trunk, client_extra.c keeps what an idle client has
 * not, client_export.c is for another process that takes it over. One thread.
 *
 *   state:
 *   EXPECT_HANDSHAKE --> EXPECT_TRUNK <--> EXPECT_ANSWER --> RELAYING --> LINGERING --> CLOSED
 *          |                  |                  |              |             ^          ^
 *          \------------------+------------------+--------------+-------------/          |
 *          \------------------+------------------+--------------+------------------------/
 *
 * EXPECT_HANDSHAKE: TLS, whose state is made with the first bytes; looked at in turn. EXPECT_TRUNK: no trunk takes a
 * stream now; waits in the relay's queue. EXPECT_ANSWER: CONNECT was sent (back to EXPECT_TRUNK when the core did not
 * process it). RELAYING: bytes both ways. LINGERING: all has been said (or an alert); reads and discards until the
 * client's FIN. CLOSED: freed at the end of the batch.
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
#include "mux/metadata_pool.h"
#include "mux/pack.h"
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

/*
 * 120 bytes, and every one is paid for by every idle client; docs/SIZING.md has the whole budget. Beside it an idle
 * client has its TLS state (96 bytes with TLS 1.3 and AES-128-GCM or ChaCha20-Poly1305, mux/record.h) and nghttp2's
 * object for the stream.
 */
struct edge_client {
    union transport_slot slot;       /*   0: 16, to the client */
    struct tls_session tls;          /*  16: 8 */
    struct trunk_stream stream;      /*  24: 48, attached from EXPECT_ANSWER on, until both directions have ended */
    struct edge_client_extra *extra; /*  72: NULL when idle */
    struct metadata_shared *origin;  /*  80: service, name, protocol: shared with its like; NULL during the handshake */
    struct address_compact peer;     /*  88: 20 */
    uint8_t state : 4;               /* 108: enum edge_client_state; changed by edge_client_move only */
    uint8_t input_half : 2;          /*      enum edge_client_half */
    uint8_t output_half : 2;
    uint8_t failure;           /* 109: enum error_code met within a TLS event, handled after it */
    uint8_t due : 1;           /* 110: the relay looks after it at the end of the batch */
    uint8_t spoiled : 1;       /*      LINGERING: after an alert, so it must close with a reset; 0 after a clean end */
    uint8_t peer_finished : 1; /*      the client's FIN was read: nothing more comes */
    uint8_t handed_over : 1;   /*      another process is about to go on with it */
    uint8_t reopens : 1;       /* its handler has left a note: another core may open the session again */
    uint8_t tick;              /* 111: of relay->idle, when bytes came or went last */
    uint64_t number;           /* 112: from EXPECT_TRUNK on: the session's id is made of it */
};

_Static_assert(sizeof(struct edge_client) == 120, "the budget of docs/SIZING.md");

/* What a client has only while it opens or lingers, or while bytes wait: see edge_client_extra_settle. */
struct edge_client_extra {
    struct edge_client *client;
    struct timer timer;           /* one at a time: handshake, trunk and answer, linger; while RELAYING it runs when the
                                     client does not take what is pending */
    struct list_node waiting;     /* in relay->waiting while EXPECT_TRUNK; in a list of relay->handshakes while
                                     EXPECT_HANDSHAKE and bytes have come; in relay->leaving while `leaving`; in a core's
                                     list while its stream is suspended */
    struct list_node due;         /* in relay->due */
    struct chain pending;         /* ciphertext that the transport did not take */
    struct chain input;           /* plaintext that came with the handshake, before the core's answer */
    struct chain output;          /* plaintext from the core that waits for the transport; within the window */
    struct address_compact local; /* the address that it connected to */
    uint32_t encrypted_bytes;     /* of plaintext from the core whose ciphertext the transport has not yet taken:
                                     consumed on the stream when nothing is pending */
    struct metadata_note *note;   /* of its handler, with the bytes behind it; NULL: none, or an empty one */
    uint64_t suspended_us;        /* when its trunk was lost; 0: it has one */
    bool moved;                   /* its core goes, and wants it elsewhere */
    bool foreign;      /* the core in whose list it waits had no room for it, so it does not have its session */
    bool leaving;      /* in relay->leaving, and in no other list by `waiting` */
    uint8_t events;    /* of its transport, which are looked at when its turn to leave comes */
    uint16_t core;     /* suspended: an index into pool->cores, of the one that has the session */
    uint16_t listener; /* index into the settings */
    uint8_t attempts;  /* CONNECTs sent */
};

/* Whose handshake goes on next; one for each relay. */
struct edge_handshakes {
    struct list begun; /* of struct edge_client_extra: bytes have come since the last turn; the longest wait first */
    struct list fresh; /* those of whom nothing has been looked at */
    struct task run;   /* one turn, behind everything else of the batch */
    struct timer wait; /* until one of `fresh` may begin */
    uint64_t next_start_us; /* when that is */
    uint64_t interval_us;   /* between starts; 0: no limit */
    bool held;              /* none begins, for now */
};

/* Clients whose connection has broken, or who or whose core said the last word, RELAYING or LINGERING, and who have not
 * been looked at since; one for each relay. */
struct edge_leaving {
    struct list clients;      /* of struct edge_client_extra */
    struct task run;          /* looks at some, behind everything else of the batch */
    struct edge_client *turn; /* whose turn it is, within `run` */
};

/* Finds clients that are idle for too long; one for each relay. */
struct edge_idle {
    struct timer timer;       /* until the next tick */
    struct task sweep;        /* looks at some clients */
    struct edge_client *next; /* whom it looks at next; NULL: nobody */
    size_t looks_left;
    uint32_t tick_ms; /* 0: clients may be idle for ever */
    uint8_t tick;
};

/* Clients whose trunk is lost and whose session is not; one for each relay. They wait in the lists of their cores. */
struct edge_resumes {
    struct timer deadline; /* when the longest wait is too long */
    struct timer move;     /* when those whose session may be opened again elsewhere have waited for their core */
    struct timer pause;    /* when cores that had no room are asked again */
    bool moves;            /* some may be, and were not asked for yet */
};

/* How listeners and cores of this process are numbered in the one that takes its clients over. */
#define EDGE_CLIENT_MAP_NONE UINT16_MAX
struct edge_client_map {
    const uint16_t *listeners; /* EDGE_CLIENT_MAP_NONE: it has no such listener */
    const uint16_t *cores;     /* it has all of them */
    const bool *cores_up;      /* by our numbers: its worker has a trunk to the core, and both resume */
};

enum edge_client_export {
    EDGE_CLIENT_EXPORT_YES,
    EDGE_CLIENT_EXPORT_NO,      /* it stays, and ends here */
    EDGE_CLIENT_EXPORT_NO_CORE, /* its session would have to wait, as the other process has no trunk to its core */
};

/* CONNECTs sent at most, when cores answer that they did not process them; those on trunks that go are not counted. */
#define EDGE_CLIENT_ATTEMPTS_MAX 3U

/* Of those who leave, looked at in one batch; an end towards the client counts as several. */
#define EDGE_CLIENT_LEAVING_PER_BATCH 16U
#define EDGE_CLIENT_END_COST          4U

/* Reads of one client in a row, before others get their turn. */
#define EDGE_CLIENT_READS_PER_TURN 4U

/* `per_second`: handshakes that may begin; 0: any number. */
void edge_handshakes_init(struct edge_handshakes *handshakes, uint32_t per_second);

void edge_leaving_init(struct edge_leaving *leaving);

void edge_idle_init(struct edge_idle *idle, uint32_t timeout_ms);
void edge_idle_start(struct edge_idle *idle);
void edge_idle_dispose(struct edge_idle *idle);

/* The client is about to be freed. */
void edge_idle_forget(struct edge_idle *idle, const struct edge_client *client);

void edge_resumes_init(struct edge_resumes *resumes);
void edge_resumes_dispose(struct edge_resumes *resumes);

/* Somebody waits. */
bool edge_resumes_waiting(const struct relay *relay);

/* Asks for streams of those who wait, on trunks to their cores, as far as there are any now; some in each batch. */
void edge_resumes_serve(struct relay *relay);

/* Has the client wait for a trunk to the core extra->core, as one that has waited for `waited_ms`. */
void edge_resumes_enlist(struct edge_client *client, uint32_t waited_ms);

/* For a process that takes over: see client_export.c. Neither of the first two changes anything; the pack fails when
 * memory is out. */
enum edge_client_export edge_client_exportable(const struct edge_client *client, const struct edge_client_map *map);
void edge_client_export(const struct edge_client *client, const struct edge_client_map *map, struct pack *pack);

/* Makes a client of what edge_client_export wrote; its transport is opened next, in its slot, and one that has not
 * begun its handshake is started then. ERROR_INVALID, ERROR_NO_MEMORY: nothing is left of it. */
enum error_code edge_client_import(struct relay *relay, struct unpack *unpack, struct edge_client **client);

/* Frees a client that another process goes on with: neither it nor the core is told anything. */
void edge_client_let_go(struct edge_client *client);

/* No handshake begins until it is let; those that have begun go on. */
void edge_handshakes_hold(struct relay *relay, bool hold);

/* Clients for whom something is under way that another process could not go on with, or not as well: their handshake
 * has begun, or a core was asked for their session and has not answered. Soon there are none while handshakes are held.
 */
size_t edge_clients_unsettled(const struct relay *relay);

/* Called by relay_admit: EXPECT_HANDSHAKE in zeroed memory of the relay's slab. ERROR_NO_MEMORY (nothing to dispose of
 * then). */
enum error_code edge_client_init(struct edge_client *client, size_t listener, const struct address *peer,
                                 const struct address *local);

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

void edge_client_stream_suspended(void *owner, struct trunk_stream *stream, enum error_code reason);
void edge_client_stream_noted(void *owner, struct trunk_stream *stream, const struct metadata_note *note);
void edge_client_stream_resumed(void *owner, struct trunk_stream *stream);

/* "expect-handshake", ... Static. */
const char *edge_client_state_name(enum edge_client_state state);

/* The relay's task: pumps every client in relay->due, or frees it if it is CLOSED. */
void edge_client_run_due(struct task *task);

/* The handshakes' task and timer. */
void edge_client_run_handshakes(struct task *task);
void edge_client_handshakes_due(struct timer *timer);

/* The task for those who leave. */
void edge_client_run_leaving(struct task *task);

/* Whose slab the client lives in. */
struct relay *edge_client_relay(const struct edge_client *client);

/* Between the files of the client. */

/* What the core is told of the client; valid as long as the client. */
struct metadata edge_client_metadata(const struct edge_client *client);

/* The stream is gone for good: the client must see that it is no clean end. */
void edge_client_stream_lost(struct edge_client *client, enum error_code error, uint32_t detail);

/* The client waits for another trunk to the uplink's core. */
void edge_client_suspend(struct edge_client *client, struct uplink *uplink);

/* The same when the core had no room for its session, and so does not have it. */
void edge_client_suspend_refused(struct edge_client *client, struct uplink *uplink);

/* EXPECT_HANDSHAKE: there may be bytes to read, which are looked at when its turn comes. */
void edge_client_handshake_later(struct edge_client *client);

/* After it was looked at: waits for a trunk again, if its stream is suspended and it lives. */
void edge_client_wait_again(struct edge_client *client);

/* It has most likely said or heard its last word. True when that, and `events` of its transport, is looked at in its
 * turn; false when it must be now, as when this is its turn. */
bool edge_client_leave_later(struct edge_client *client, unsigned events);

/* Takes it out of the list that `waiting` is in; what it had to wait for is forgotten. */
void edge_client_stay(struct edge_client *client);

/* Its turn: events of its transport, and whatever waits. */
void edge_client_take(struct edge_client *client, unsigned events);

/* What the client has of them; 0 without an `extra`. */
static inline bool edge_client_has_pending(const struct edge_client *client)
{
    return client->extra != NULL && !chain_empty(&client->extra->pending);
}

static inline bool edge_client_has_input(const struct edge_client *client)
{
    return client->extra != NULL && !chain_empty(&client->extra->input);
}

static inline bool edge_client_has_output(const struct edge_client *client)
{
    return client->extra != NULL && !chain_empty(&client->extra->output);
}

/* The client's, made if need be; NULL when memory is out. */
struct edge_client_extra *edge_client_extra_get(struct edge_client *client);

/* Frees it if none of it is in use: the last thing that is done for an event. */
void edge_client_extra_settle(struct edge_client *client);

/* Frees it, whatever is in it. */
void edge_client_extra_drop(struct edge_client *client);

/* Drops what waits in it to be sent either way. */
void edge_client_extra_clear(struct edge_client *client);

/* Arms the client's timer. ERROR_NO_MEMORY. */
enum error_code edge_client_arm(struct edge_client *client, uint64_t delay_ms);
void edge_client_disarm(struct edge_client *client);
void edge_client_timer_fired(struct edge_client *client);

/* Has the relay's task look after it at the end of this batch. */
void edge_client_defer(struct edge_client *client);

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

/* Buffers are full, and this client's hold the most: ends it at once. */
void edge_client_shed(struct edge_client *client);

/* RELAYING: nothing was said for too long. */
void edge_client_idle_over(struct edge_client *client);

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
