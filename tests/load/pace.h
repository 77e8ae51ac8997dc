/*
 * An open-loop schedule: event number k is due at start + k * period / events per period, whatever became of the events
 * before. What is late stays late: it is never moved. Several processes can divide one schedule: each takes every nth
 * event. Pure arithmetic; one thread.
 */
#ifndef LOAD_PACE_H
#define LOAD_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_ENDLESS (1ULL << 44) /* events of a schedule that ends when its owner does */

/* One of `count` processes, from 0: number k of anything that is divided belongs to process k mod count. */
struct share {
    uint32_t index;
    uint32_t count;
};

/* How many of the numbers from 0 to total - 1 are this process's. */
static inline uint64_t share_of(struct share share, uint64_t total)
{
    return (total + share.count - 1 - share.index) / share.count;
}

struct pace {
    uint64_t start_us;
    uint64_t period_us;
    uint64_t per_period; /* events of all processes together; at least 1 */
    uint64_t total;      /* events of this process in all */
    uint64_t taken;      /* events that have been handed out */
    struct share share;
};

/* `per_period` events in `period_us`, `total` in all, for all processes together. total * period_us is below 2^64. */
static inline void pace_init_share(struct pace *pace, uint64_t start_us, uint64_t period_us, uint64_t per_period,
                                   uint64_t total, struct share share)
{
    *pace = (struct pace){.start_us = start_us,
                          .period_us = period_us,
                          .per_period = per_period,
                          .total = share_of(share, total),
                          .share = share};
}

static inline void pace_init(struct pace *pace, uint64_t start_us, uint64_t per_second, uint64_t total)
{
    pace_init_share(pace, start_us, 1000000U, per_second, total, (struct share){.index = 0, .count = 1});
}

/* Nothing is due any more. A zeroed pace is finished, too. */
static inline void pace_stop(struct pace *pace)
{
    pace->total = pace->taken;
}

static inline bool pace_finished(const struct pace *pace)
{
    return pace->taken >= pace->total;
}

/* When the next event is due; only while the pace is not finished. */
static inline uint64_t pace_next_us(const struct pace *pace)
{
    uint64_t number = pace->taken * pace->share.count + pace->share.index;
    return pace->start_us + number * pace->period_us / pace->per_period;
}

/* Hands out the next event if it is due by `now_us`, with its intended time. */
static inline bool pace_take(struct pace *pace, uint64_t now_us, uint64_t *intended_us)
{
    if (pace_finished(pace) || pace_next_us(pace) > now_us) {
        return false;
    }
    *intended_us = pace_next_us(pace);
    pace->taken++;
    return true;
}

#endif
