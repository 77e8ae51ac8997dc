/*
 * The core's engine on one thread: its trunks (downlinks), its sessions, and what they share. It opens no socket and
 * reads no clock: transports come from outside, and a scheduler is driven by an event loop or by a simulation.
 * Everything here belongs to the worker's thread, but for the totals, which all workers share.
 */
#ifndef CORE_WORKER_H
#define CORE_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/service.h"
#include "mux/buffer_budget.h"
#include "core/session_table.h"
#include "mux/link.h"
#include "mux/log.h"
#include "mux/metadata_pool.h"
#include "mux/scheduler.h"
#include "mux/slab.h"
#include "mux/trim.h"
#include "mux/trunk.h"

struct core_downlink;
struct loop;
struct mailbox;

/* What is there now in the whole process. */
struct core_totals {
    atomic_uint_fast32_t sessions;
    atomic_uint_fast32_t trunks; /* also those that are not up yet */
};

/* The same for all workers; read-only once they run. */
struct core_worker_settings {
    struct trunk_settings trunk;  /* but for `buffers`, which are each worker's own */
    uint64_t buffer_memory_bytes; /* of each worker */
    uint32_t sessions_max;        /* of the process */
    uint32_t trunks_max;          /* of the process */
    uint32_t handshake_timeout_ms;
    uint32_t resume_timeout_ms; /* 0: sessions end with their trunk */
    char *const *allowed_names; /* one of which a trunk's certificate must bear */
    size_t allowed_name_count;  /* 0: any that the CA signed */
    const struct core_services *services;
    struct core_totals *totals;
    uint64_t seed; /* random: peers must not know which names collide in a table */
};

/* Since the start. */
struct core_counters {
    uint64_t trunks_up;
    uint64_t trunks_refused; /* ended before they were up */
    uint64_t sessions_opened;
    uint64_t sessions_closed;
    uint64_t sessions_suspended; /* their trunk was lost, and they waited */
    uint64_t sessions_resumed;   /* and went on */
    uint64_t sessions_reopened;  /* in the place of one that another core had */
    uint64_t sessions_moved;     /* to be reopened elsewhere, while this one drained */
    uint64_t resumes_refused;    /* no such session, not this edge's, or from an offset that cannot be */
    uint64_t sessions_refused;   /* of those opened: by their handler */
    uint64_t sessions_shed;      /* buffers were full, and this one held the most */
    uint64_t streams_refused;    /* never became a session: unknown service, a limit, not a CONNECT */
};

enum core_worker_state {
    CORE_WORKER_RUNNING,
    CORE_WORKER_DRAINING, /* no new sessions; those that are open may end by themselves */
    CORE_WORKER_STOPPING, /* everything is closed */
};

struct core_worker;

/* What a worker tells its owner. Any may be NULL. */
struct core_worker_events {
    /* A trunk's greeting is complete: true when the owner takes it to another worker (with core_downlink_detach). */
    bool (*route)(struct core_worker *worker, struct core_downlink *downlink);

    /* Draining, and the last session is closed. Once. */
    void (*drained)(struct core_worker *worker);

    /* Stopping, and the last trunk and session are gone. Once; nothing happens on the worker after. */
    void (*stopped)(struct core_worker *worker);
};

struct core_worker {
    const struct core_worker_settings *settings;
    const struct core_worker_events *events;
    struct scheduler *scheduler;
    struct loop *loop;       /* for the handlers' watches; NULL in a simulation */
    struct mailbox *mailbox; /* posts from other threads */
    struct scratch scratch;
    struct buffer_budget buffers; /* what streams hold and may hold */
    struct slab sessions;
    struct slab work_slab;         /* what streams keep while they are not idle */
    struct session_table table;    /* of sessions that can be resumed, by their keys */
    struct trim trim;              /* of sessions */
    struct metadata_pool metadata; /* what sessions share */
    struct list downlinks;
    struct list lingering;          /* sessions in that state */
    const struct metadata *opening; /* the request that `open` is called for; NULL: none */
    struct list noting;             /* of struct session_resources: notes to be sent */
    struct timer notes;             /* when */
    struct timer move;              /* DRAINING */
    unsigned move_turns;            /* in which sessions were moved, up to MOVE_PATIENCE */
    struct list suspended;          /* sessions whose trunk is lost, the longest wait first */
    struct timer resume_deadline;
    struct list closing; /* sessions whose handler is owed `closed` */
    struct task finish;  /* calls it */
    struct task settle;  /* sees whether a drain or stop is complete */
    uint32_t index;
    uint8_t state;    /* enum core_worker_state */
    uint8_t reported; /* the state whose end was told */
    uint64_t next_id; /* of sessions and downlinks */
    struct core_counters counters;
    struct log_counter trunk_refusals;
    struct log_counter stream_refusals;
    struct log_counter session_refusals;
    struct log_counter resume_refusals;
    struct log_counter session_sheds;
    struct log_counter buffer_moves;
};

/* ERROR_NO_MEMORY, ERROR_SYSTEM. The settings, events and scheduler must outlive the worker. */
enum error_code core_worker_init(struct core_worker *worker, uint32_t index,
                                 const struct core_worker_settings *settings, const struct core_worker_events *events,
                                 struct scheduler *scheduler, struct loop *loop);

/* After `stopped`, or when nothing was ever opened. Posts that came meanwhile run without their sessions. */
void core_worker_dispose(struct core_worker *worker);

/* Refuses new sessions and tells each edge with GOAWAY. `drained` follows, perhaps at once. */
void core_worker_drain(struct core_worker *worker);

/* Ends every trunk, and so every session. `stopped` follows, at the earliest from a task. */
void core_worker_stop(struct core_worker *worker);

/* Sessions of this worker now. */
size_t core_worker_session_count(const struct core_worker *worker);

/* ------------------------------------------------------------------------------- for sessions and downlinks */

/* How worker->buffers is served. */
extern const struct buffer_events core_buffer_events;

/* Counts a new session of the process: ERROR_NONE, ERROR_SHUTDOWN, ERROR_LIMIT or ERROR_BUFFERS_FULL. Undone by _gone.
 */
enum error_code core_worker_session_admit(struct core_worker *worker);
void core_worker_session_gone(struct core_worker *worker);

/* Unique in the process: the worker's number in the upper 16 bits. */
uint64_t core_worker_session_id(struct core_worker *worker);

/* A trunk has gone. */
void core_worker_downlink_gone(struct core_worker *worker);

#endif
