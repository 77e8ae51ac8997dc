/*
 * The trunks of one edge worker: K places for each core. A place always has a trunk or is about to dial one; a trunk
 * that takes no new streams leaves its place to a replacement at once and lives on, draining, until its last stream
 * ends. Owns every uplink. Part of the relay. One thread.
 */
#ifndef EDGE_POOL_H
#define EDGE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/error.h"
#include "mux/list.h"

struct relay;
struct uplink;

struct pool_core {
    struct list suspended;     /* of struct edge_client_extra: whose session it has, and who wait for a trunk to it; the
                                  longest wait first */
    uint64_t resumes_after_us; /* it had no room for a session that is not there: it is asked for none before */
    bool own_waits;            /* some of `suspended` may be there */
    char server_name[256];     /* that the core's certificate must bear */
};

struct pool_place {
    struct uplink *current;   /* NULL only before pool_start, or when memory was out there */
    struct uplink *successor; /* dialled because `current` will soon have no stream identifiers left; else NULL */
};

struct pool {
    struct relay *relay;
    struct pool_core *cores; /* in the order of the settings */
    size_t core_count;
    struct pool_place *places;
    size_t place_count;
    struct list draining; /* uplinks without a place */
    uint64_t numbered;    /* trunks dialled so far; each has its number in the log */
    size_t links;         /* links that are not closed yet, whatever their state */
    size_t first;         /* where the next pick starts to look: equals take turns */
    bool closing;         /* nothing is dialled any more */
};

/* ERROR_NO_MEMORY; ERROR_CONFIGURATION for a core whose name cannot be told from its address. */
enum error_code pool_init(struct pool *pool, struct relay *relay);

/* Dials every place. A place for which memory is out stays empty; ERROR_NO_MEMORY when all do. */
enum error_code pool_start(struct pool *pool);

/* Resets what is left; the streams' `closed` events are called. */
void pool_dispose(struct pool *pool);

/* The trunk with the fewest streams among those that take a new one; `except` (NULL: none) only when there is no
 * other. NULL when there is none at all. */
struct uplink *pool_pick(struct pool *pool, const struct uplink *except);

/* The same among the trunks to one core, an index into pool->cores, that resume sessions. */
struct uplink *pool_pick_core(struct pool *pool, size_t core);

/* A core that had no room for a session which is not there is not asked for others for a while. */
bool pool_core_pauses(const struct pool *pool, size_t core);

/* The same among the trunks to all cores that do not pause. */
struct uplink *pool_pick_resuming(struct pool *pool);

/* Streams on all trunks now. */
size_t pool_streams(const struct pool *pool);

/* Closes draining trunks that carry no stream any more. Not from within a trunk's event. */
void pool_settle(struct pool *pool);

/* True when pool_settle may have something to do. */
bool pool_has_draining(const struct pool *pool);

/* Dials no more, says GOAWAY on every trunk, and closes them all. pool_closed tells when that is done. */
void pool_close(struct pool *pool);
bool pool_closed(const struct pool *pool);

/* For uplinks: it became usable; it was told GOAWAY; it is near its last stream identifier; its link is over (true:
 * it was freed, as nothing needs it any more; false: it goes on and dials again). */
void pool_uplink_up(struct pool *pool, struct uplink *uplink);
void pool_uplink_goaway(struct pool *pool, struct uplink *uplink);
void pool_uplink_exhausting(struct pool *pool, struct uplink *uplink);
bool pool_uplink_over(struct pool *pool, struct uplink *uplink);

#endif
