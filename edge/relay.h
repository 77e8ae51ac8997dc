/*
 * The engine of one edge worker: its clients, its trunks to the cores, and what they share. It opens no socket and
 * reads no clock: the worker (or a simulation) hands it transports, drives its scheduler, and dials for it. Owns every
 * client and uplink. One thread.
 *
 *   state:  RUNNING --> DRAINING --> CLOSING --> STOPPED
 *              \________________________/
 *
 * RUNNING: takes clients. DRAINING: takes none, lets those that are here end. CLOSING: no clients left; the trunks say
 * GOAWAY and close. STOPPED: nothing is left.
 */
#ifndef EDGE_RELAY_H
#define EDGE_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/admission.h"
#include "edge/client.h"
#include "edge/pool.h"
#include "edge/settings.h"
#include "mux/address.h"
#include "mux/buffer_budget.h"
#include "mux/clock.h"
#include "mux/link.h"
#include "mux/log.h"
#include "mux/metadata_pool.h"
#include "mux/scheduler.h"
#include "mux/slab.h"
#include "mux/slab_group.h"
#include "mux/tls.h"
#include "mux/transport.h"

struct edge_client;
struct relay;

enum relay_state {
    RELAY_RUNNING,
    RELAY_DRAINING,
    RELAY_CLOSING,
    RELAY_STOPPED,
    RELAY_STATE_COUNT,
};

/* What the engine asks of the one who drives it. */
struct relay_ops {
    /* Opens a transport to core number `core` (an index into the settings) in `slot`, with uplink_ready as its `ready`.
     * Errors as socket_connect; the attempt is repeated later. */
    enum error_code (*dial)(void *owner, size_t core, union transport_slot *slot);

    /* The relay is STOPPED: relay_dispose may be called, but not from within. */
    void (*stopped)(void *owner);
};

/* What one worker is given; read during relay_init only, but for `edge`, which must outlive the relay. */
struct relay_settings {
    const struct edge_settings *edge;
    struct tls_context *client_context; /* server side, towards clients; a reference is taken */
    struct tls_context *trunk_context;  /* client side, towards cores; a reference is taken */
    uint32_t sessions_max;              /* this worker's share of the process's limits; at least 1 */
    uint32_t handshakes_max;
    uint32_t handshakes_per_second; /* 0: any number */
    uint64_t buffer_memory_bytes;   /* this worker's share */
    struct admission *admission;    /* shared by the workers; must outlive the relay; NULL: nothing is limited */
    uint32_t worker;                /* its number, for the log */
    uint32_t edge_worker;           /* announced on each trunk; not 0 */
    uint64_t seed;                  /* random: for the jitter of reconnections, and places in a table */
    uint8_t session_secret[TLS_SESSION_SECRET_BYTES]; /* random: what makes the sessions' ids unguessable */
};

/* Totals since the start. Live numbers are relay->client_count and so on. */
struct relay_counters {
    uint64_t clients_accepted;
    uint64_t clients_over_limit; /* closed at once: a limit of sessions, handshakes, its address or its network */
    uint64_t handshakes_completed;
    uint64_t handshakes_failed;    /* timeouts included */
    uint64_t sessions_opened;      /* the core accepted */
    uint64_t sessions_ended;       /* both directions ended cleanly */
    uint64_t sessions_refused;     /* no route, refused by the core, no trunk or no answer in time */
    uint64_t sessions_truncated;   /* the client closed without close_notify */
    uint64_t sessions_client_lost; /* the client reset its connection, or broke TLS */
    uint64_t sessions_trunk_lost;  /* the stream was reset or its trunk lost */
    uint64_t sessions_idle;        /* no byte either way for the idle timeout */
    uint64_t sessions_stalled;     /* the client took no byte for the stall timeout */
    uint64_t sessions_shed;        /* buffers were full, and this one held the most */
    uint64_t sessions_forced;      /* reset because the drain timeout passed, or by a second signal */
    uint64_t sessions_suspended;   /* the trunk was lost: they waited for another one */
    uint64_t sessions_resumed;     /* and went on */
    uint64_t clients_taken_over;   /* from the process before */
    uint64_t clients_handed_over;  /* to the next one */
    uint64_t opens_retried;        /* REFUSED_STREAM or GOAWAY: tried on another trunk */
    uint64_t bytes_from_clients;   /* plaintext */
    uint64_t bytes_to_clients;
    uint64_t trunks_up;
    uint64_t trunks_down;
};

struct relay {
    const struct relay_ops *ops;
    void *owner;
    const struct edge_settings *settings;
    struct scheduler *scheduler;
    struct tls_context *client_context;
    struct tls_context *trunk_context;
    struct scratch scratch;
    struct outbox outbox;         /* of the client whose ciphertext is being gathered */
    struct buffer_budget buffers; /* what streams hold and may hold */
    struct slab client_slab;      /* every client: an idle one is in no list */
    struct slab extra_slab;       /* of struct edge_client_extra */
    struct slab_group tls;        /* what TLS keeps of each client */
    struct slab work_slab;        /* what streams keep while they are not idle */
    uint64_t sessions_numbered;
    uint8_t session_secret[TLS_SESSION_SECRET_BYTES];
    struct edge_resumes resumes;
    struct metadata_pool origins;
    struct pool pool;
    struct list waiting; /* of struct edge_client_extra: who waits for a trunk, the longest wait first */
    struct list due;     /* of struct edge_client_extra: clients to look after at the end of the batch */
    bool due_unlisted;   /* some are due that are in no list, as memory was out */
    struct task run_due;
    size_t client_count;    /* in the slab */
    size_t handshake_count; /* of them, clients that have not finished TLS */
    struct edge_handshakes handshakes;
    struct edge_leaving leaving;
    struct edge_idle idle;
    struct admission *admission; /* of the process; NULL: nothing is limited */
    uint32_t sessions_max;
    uint32_t handshakes_max;
    uint32_t worker;
    uint32_t edge_worker;
    uint8_t state;
    struct task settle; /* after streams or clients went: serve those who wait, close what is done */
    struct timer drain; /* DRAINING: when to reset who is left */
    struct random_state random;
    struct relay_counters counters;
    struct log_counter log_limit;     /* clients over a limit */
    struct log_counter log_handshake; /* failed handshakes */
    struct log_counter log_refused;
    struct log_counter log_failed;  /* established clients that broke TLS */
    struct log_counter log_timeout; /* sessions that were idle or stalled */
    struct log_counter log_buffers; /* how full buffers are */
    struct log_counter log_shed;    /* clients that were ended for it */
    struct log_counter log_trunk;   /* trunks that fail or are refused */
};

/* ERROR_NO_MEMORY, ERROR_CONFIGURATION (a core without a host name). The scheduler must outlive the relay. */
enum error_code relay_init(struct relay *relay, const struct relay_settings *settings, struct scheduler *scheduler,
                           const struct relay_ops *ops, void *owner);

/* Dials the trunks. ERROR_NO_MEMORY: not one of them could be. */
enum error_code relay_start(struct relay *relay);

/* Admits a client that connected to listener number `listener` (an index into the settings), whose own address is
 * `local`. The caller then opens its transport in (*client)->slot with edge_client_ready as `ready`, and calls
 * edge_client_start; or edge_client_abandon. ERROR_LIMIT (counted and logged: the caller resets the connection),
 * ERROR_NO_MEMORY, ERROR_SHUTDOWN. */
enum error_code relay_admit(struct relay *relay, size_t listener, const struct address *peer,
                            const struct address *local, struct edge_client **client);

/* New connections use these from now on; NULL leaves one as it is. References are taken. */
void relay_reload(struct relay *relay, struct tls_context *client_context, struct tls_context *trunk_context);

/* Takes no more clients, waits at most `timeout_ms` for those that are here, resets the rest, closes the trunks, and
 * calls `stopped`. A second call (with 0) hastens the first. */
void relay_drain(struct relay *relay, uint64_t timeout_ms);

/* For a process that takes over, before the first client: sessions are known by this secret and by numbers above
 * `numbered` from now on. */
void relay_inherit(struct relay *relay, const uint8_t secret[TLS_SESSION_SECRET_BYTES], uint64_t numbered);

/* Lets go of every client that is marked as handed over; returns how many. */
size_t relay_let_go(struct relay *relay);

/* Resets every client and frees everything; `stopped` is not called. */
void relay_dispose(struct relay *relay);

/* "running", "draining", ... Static. */
const char *relay_state_name(enum relay_state state);

/* How relay->buffers is served. */
extern const struct buffer_events relay_buffer_events;

/* For client and pool: something ended or became available; looks after those who wait at the end of the batch. */
void relay_settle_later(struct relay *relay);

#endif
