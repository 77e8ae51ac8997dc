/*
 * Random values that depend on what is decided, not on how much was decided before: each is a function of the run's
 * seed, the names of proxy and toxic, the connection's number, the direction, the kind of decision and a counter, most
 * often a byte offset. So a run repeats itself however its bytes happen to be cut into reads. Pure functions.
 */
#ifndef CHAOS_DRAW_H
#define CHAOS_DRAW_H

#include <stdint.h>

enum draw_kind {
    DRAW_TOXICITY, /* whether a connection is affected; counter 0 */
    DRAW_SIZE,     /* of the slice that starts at the offset */
    DRAW_DELAY,    /* after the slice that starts at the offset; of the block there; of the connection, counter 0 */
    DRAW_BYTES,    /* after how many an action takes place; counter 0 */
    DRAW_TIME,     /* after how long; counter 0, of idleness 1 */
    DRAW_DURATION, /* of the pause with this number */
    DRAW_POSITION, /* in the stretch that starts at the offset */
    DRAW_BYTE,     /* what the byte at the offset becomes */
};

enum draw_distribution {
    DRAW_UNIFORM,
    DRAW_EXPONENTIAL,
    DRAW_NORMAL,
};

/* What all draws of one toxic in one direction of one connection have in common. */
uint64_t draw_key(uint64_t seed, const char *proxy, uint64_t connection, unsigned stream, const char *toxic);

/* 64 random bits. */
uint64_t draw_bits(uint64_t key, enum draw_kind kind, uint64_t counter);

/* At least 0, below 1. */
double draw_unit(uint64_t key, enum draw_kind kind, uint64_t counter);

/* 0 .. bound - 1; bound at least 1. */
uint64_t draw_below(uint64_t key, enum draw_kind kind, uint64_t counter, uint64_t bound);

/*
 * A value around `mean`, never below 0; exactly `mean` when `variation` is 0. Values below 0 become 0.
 *   uniform:      mean - variation to mean + variation, all equally likely
 *   normal:       the same bounds, a bell between them (standard deviation 0.29 variations)
 *   exponential:  at least mean - variation, on average mean, at most mean + 9 variations
 */
uint64_t draw_around(uint64_t key, enum draw_kind kind, uint64_t counter, enum draw_distribution distribution,
                     uint64_t mean, uint64_t variation);

#endif
