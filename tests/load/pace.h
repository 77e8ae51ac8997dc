/*
 * An open-loop schedule: event number k is due at start + k / rate, whatever became of the events before. What is late
 * stays late: it is never moved. Pure arithmetic; one thread.
 */
#ifndef LOAD_PACE_H
#define LOAD_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
    uint64_t start_us;
    uint64_t per_second; /* at least 1 */
    uint64_t total;      /* events in all; at most 2^44 */
    uint64_t taken;      /* events that have been handed out */
};

static inline void pace_init(struct pace *pace, uint64_t start_us, uint64_t per_second, uint64_t total)
{
    *pace = (struct pace){.start_us = start_us, .per_second = per_second, .total = total};
}

static inline bool pace_finished(const struct pace *pace)
{
    return pace->taken >= pace->total;
}

/* When the next event is due. */
static inline uint64_t pace_next_us(const struct pace *pace)
{
    return pace->start_us + pace->taken * 1000000U / pace->per_second;
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
