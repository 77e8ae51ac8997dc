/* The one place that reads the clocks and the system's random source. Any thread. */
#ifndef MUX_CLOCK_H
#define MUX_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC in microseconds. */
uint64_t clock_monotonic_us(void);

/* CLOCK_REALTIME as microseconds since 1970, for log lines. */
uint64_t clock_wall_us(void);

/* Unpredictable bytes (getrandom). Ends the process if the system cannot give any. */
void clock_random(void *into, size_t bytes);

/* A small, fast, seeded generator for jitter and simulations; never for secrets. */
struct random_state {
    uint64_t state;
};

void random_seed(struct random_state *random, uint64_t seed);
uint64_t random_next(struct random_state *random);
uint64_t random_below(struct random_state *random, uint64_t bound); /* 0 .. bound - 1; bound at least 1 */

#endif
