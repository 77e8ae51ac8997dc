/*
 * Timers on a hierarchical wheel with a resolution of one millisecond: arm, cancel and fire in constant time. The
 * timer lives in its owner; the wheel owns nothing and reads no clock: `now` comes in as an argument. One thread.
 */
#ifndef MUX_TIMER_H
#define MUX_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/list.h"

#define TIMER_LEVELS 6
#define TIMER_SLOTS  64 /* per level; the wheel spans 64^6 ms, about two years: longer delays are cut to that */
#define TIMER_NONE   UINT64_MAX

struct timer;
typedef void timer_fn(struct timer *timer);

struct timer {
    struct list_node node;
    uint64_t deadline_ms; /* in the scheduler's time */
    timer_fn *fire;       /* the owner is found with container_of; may arm, cancel or free any timer */
};

struct timers {
    struct list slots[TIMER_LEVELS][TIMER_SLOTS];
    uint64_t occupied[TIMER_LEVELS]; /* a bit per slot that may hold timers */
    uint64_t now_ms;
    size_t armed;
};

void timers_init(struct timers *timers, uint64_t now_ms);

void timer_init(struct timer *timer, timer_fn *fire);

static inline bool timer_armed(const struct timer *timer)
{
    return list_node_linked(&timer->node);
}

/* Arms, or moves, the timer. A deadline that has passed fires at the next timers_advance. */
void timers_arm(struct timers *timers, struct timer *timer, uint64_t deadline_ms);

/* No effect on a timer that is not armed. */
void timers_cancel(struct timers *timers, struct timer *timer);

/* Fires all that is due at `now_ms`, in the order of deadlines (ties in the order of arming). Time never runs back. */
void timers_advance(struct timers *timers, uint64_t now_ms);

/* A time by which timers_advance must be called: at most the earliest deadline; TIMER_NONE when nothing is armed. */
uint64_t timers_next(const struct timers *timers);

#endif
