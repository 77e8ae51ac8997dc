/*
 * How large the receive window of a stream, or of a whole trunk, should be: a function of what its consumer took, how
 * long a round trip is, and how much memory there is. No I/O, no clock; the trunk (trunk_window.c) makes the frames.
 * One thread.
 *
 * A round lasts a round trip, or a little more. What the consumer took in it is what the path and the consumer carry in
 * a round trip; a window of a little more (`gain`) never holds the sender up. So a sender that is held up by its window
 * doubles it (or what the gain is) each round, until the path or the consumer is what holds it up, and then it stays:
 * there is no fixed step at which it could stop early. A consumer that does not keep up leaves its bytes lying, and
 * then the window does not grow.
 */
#ifndef MUX_WINDOW_H
#define MUX_WINDOW_H

#include <stdint.h>

#include "mux/buffer_budget.h"

#define WINDOW_ROUND_LEAST_US 2000U /* on short paths it is threads that take turns, not the wire, that take time */
#define WINDOW_STEP_BYTES     4096U /* sizes are multiples of it above the start */
#define WINDOW_STALE_ROUNDS   8U    /* a round that took so many round trips was a pause */

/* One that is measured. */
struct window {
    uint64_t round_start_us;
    uint32_t round_bytes; /* consumed since */
    uint32_t size_bytes;  /* what the peer was told, in all */
    uint32_t
        target_bytes; /* what it should be; below the size: it shrinks as bytes are consumed and not granted again */
};

/* What holds for a window now. */
struct window_limits {
    uint32_t start_bytes;
    uint32_t max_bytes;
    uint32_t gain_percent; /* of what is taken in a round trip: the size of the window; more than 100 */
    uint32_t slack;        /* a window is left alone while it is at most so many times what it should be */
    uint64_t round_trip_us;
    uint64_t allowance_bytes; /* beyond the start, by the budget */
    enum buffer_level level;
};

void window_init(struct window *window, uint32_t size_bytes, uint64_t now_us);

/* `bytes` were consumed, and `unconsumed` are left. At the end of a round, sets the target. */
void window_consume(struct window *window, const struct window_limits *limits, uint64_t now_us, uint32_t bytes,
                    uint32_t unconsumed);

#endif
