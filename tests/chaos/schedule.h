/*
 * Lets the steps of a timeline, or of a log that is replayed, take place at their times. Owned by main. One thread.
 */
#ifndef CHAOS_SCHEDULE_H
#define CHAOS_SCHEDULE_H

#include "tests/chaos/registry.h"
#include "tests/chaos/timeline.h"

struct schedule {
    struct registry *registry;
    const struct timeline *timeline; /* NULL: a replay */
    size_t next;
    uint64_t start_us;
    struct timer timer;
    uint64_t failed; /* steps that could not be done; each was logged */
    char fault[256]; /* of the last one */
};

/* Steps for the time 0 take place at once. */
void schedule_start(struct schedule *schedule, struct registry *registry, const struct timeline *timeline,
                    uint64_t start_us);
void schedule_stop(struct schedule *schedule);

#endif
