/*
 * Gives memory back after a crowd has left, and after a crowd has arrived: the allocator keeps freed pages that lie
 * between others, and both a burst of sessions and a burst of handshakes (a GnuTLS session is 10 KB, freed when the
 * handshake is over) leave many. Looks every TRIM_INTERVAL_MS while there is something to expect; costs nothing
 * otherwise. Embedded in its owner, who tells it of arrivals. One thread.
 */
#ifndef MUX_TRIM_H
#define MUX_TRIM_H

#include <stddef.h>

#include "mux/scheduler.h"

#define TRIM_INTERVAL_MS 3000U
#define TRIM_CROWD_MIN   1000U /* must have left since the last time, and at least as many as are still here */
#define TRIM_CHURN_MIN   1000U /* so much must have come and gone since the last time, */
#define TRIM_CHURN_QUIET 100U  /* and less than this since the last look: until then it would be needed again */

struct trim {
    struct timer timer;
    struct scheduler *scheduler;
    const size_t *count;   /* of what is here now; in the owner */
    size_t peak;           /* since the last time */
    const uint64_t *churn; /* handshakes that are over, since the start; in the owner; NULL: none are counted */
    uint64_t churn_trimmed;
    uint64_t churn_looked;
};

/* Scheduler and counter must outlive it, or be followed by trim_dispose first. */
void trim_init(struct trim *trim, struct scheduler *scheduler, const size_t *count, const uint64_t *churn);
void trim_dispose(struct trim *trim);

/* The counts may have grown. */
void trim_note(struct trim *trim);

#endif
