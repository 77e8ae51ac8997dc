/*
 * One trunk to one core, seen from the edge: dials, keeps its link, dials again with a jittered and doubling wait when
 * it fails. Belongs to the pool. Streams on it belong to clients. One thread.
 *
 *   state:           ____________________________________
 *                   v                                    \
 *   IDLE --> CONNECTING --> UP --> DRAINING --> IDLE      |
 *     \         |  ^         \______|___________          |
 *      \        v  |                v           \         |
 *       \--> WAITING <---------------------------         |
 *                 \_______________________________________/
 *
 * IDLE: no link. CONNECTING: TCP, TLS, and the core's SETTINGS. UP: takes streams. DRAINING: takes no new ones, closes
 * with its last. WAITING: until the next attempt.
 */
#ifndef EDGE_UPLINK_H
#define EDGE_UPLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/link.h"
#include "mux/list.h"
#include "mux/timer.h"
#include "mux/transport.h"

struct pool;

enum uplink_state {
    UPLINK_IDLE,
    UPLINK_CONNECTING,
    UPLINK_UP,
    UPLINK_DRAINING,
    UPLINK_WAITING,
    UPLINK_STATE_COUNT,
};

/* A trunk that lived shorter than this counts as a failed attempt, so that a core that accepts and then hangs up (or
 * says GOAWAY) at once is not dialled in a tight loop. */
#define UPLINK_STABLE_US 1000000U

struct uplink {
    struct pool *pool;
    struct list_node node; /* in pool->draining when it has no place any more */
    union transport_slot slot;
    struct link link;
    struct timer timer; /* CONNECTING: the deadline; WAITING: the next attempt */
    uint64_t number;    /* of the link at hand, for the log */
    uint64_t since_us;  /* when it was dialled; from UP on, when it came up */
    uint32_t opens;     /* streams opened on this link */
    uint32_t failures;  /* in a row: the wait doubles with each */
    uint16_t core;      /* index into pool->cores */
    uint8_t state;
    uint8_t linked;  /* `link` is initialised: it must be closed or disposed of */
    uint8_t closing; /* its end was asked for */
    uint8_t greeted; /* TLS is established: an end before UP is most likely the core's refusal of our certificate */
};

/* IDLE. NULL when memory is out. `failures` is inherited from the trunk that it replaces. */
struct uplink *uplink_new(struct pool *pool, size_t core, uint32_t failures);

/* Frees at once, with a reset if there is a link. Nulls the pointer. */
void uplink_free(struct uplink **uplink);

/* Dials at once, or after a wait when `failures` is not 0. Only when IDLE. */
void uplink_start(struct uplink *uplink);

/* The transport's `ready`: the transport must be the slot of an uplink. */
void uplink_ready(struct transport *transport, unsigned events);

/* ERROR_NONE when a stream can be opened on it now, otherwise why not. */
enum error_code uplink_openable(const struct uplink *uplink);

/* Streams on it now. */
size_t uplink_streams(const struct uplink *uplink);

/* A stream was opened on it: the pool learns when a successor is due. */
void uplink_count_open(struct uplink *uplink);

/* From UP: takes no new streams; with `tell`, the core hears GOAWAY. */
void uplink_drain(struct uplink *uplink, bool tell);

/* The failures that this uplink or its replacement starts with, after the present link: 0 when it lived long. */
uint32_t uplink_failures_after(const struct uplink *uplink);

/* Starts the end of the link, if there is one; IDLE when the pool is closing or the uplink has no place, otherwise it
 * is dialled again. */
void uplink_close(struct uplink *uplink, enum error_code error);

/* "idle", "connecting", ... Static. */
const char *uplink_state_name(enum uplink_state state);

#endif
