/*
 * Gives memory back after a crowd has left: the allocator keeps freed pages that lie between others, and a burst of
 * sessions leaves many. Looks every TRIM_INTERVAL_MS while there was a crowd; costs nothing otherwise. Embedded in its
 * owner, who tells it of arrivals. One thread.
 */
#ifndef MUX_TRIM_H
#define MUX_TRIM_H

#include <stddef.h>

#include "mux/scheduler.h"

#define TRIM_INTERVAL_MS 3000U
#define TRIM_CROWD_MIN   1000U /* must have left since the last time, and at least as many as are still here */

struct trim {
    struct timer timer;
    struct scheduler *scheduler;
    const size_t *count; /* of what is here now; in the owner */
    size_t peak;         /* since the last time */
};

/* Scheduler and counter must outlive it, or be followed by trim_dispose first. */
void trim_init(struct trim *trim, struct scheduler *scheduler, const size_t *count);
void trim_dispose(struct trim *trim);

/* The count may have grown. */
void trim_note(struct trim *trim);

#endif
