/* See window.h. */
#include "mux/window.h"

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Half of the window, but not below its start. */
static uint64_t window_half(const struct window *window, const struct window_limits *limits)
{
    uint64_t half = window->size_bytes / 2U;
    return half > limits->start_bytes ? half : limits->start_bytes;
}

/* What a round says, before memory has its say. */
static uint64_t window_wish(const struct window *window, const struct window_limits *limits, uint64_t round_us,
                            uint64_t took_us, uint32_t unconsumed)
{
    /* A round ends with the first bytes behind it. They come late when the sender is held up by its window and sends in
     * bursts: then all of the round's bytes count, as shares of them would say that the window is large enough. */
    uint64_t counted_us = took_us < 2U * round_us ? took_us : 2U * round_us;
    uint64_t wish = (uint64_t)window->round_bytes * counted_us / took_us * limits->gain_percent / 100U;
    wish += WINDOW_STEP_BYTES - 1U - (wish + WINDOW_STEP_BYTES - 1U) % WINDOW_STEP_BYTES;
    if (wish > window->size_bytes) {
        return unconsumed <= window->size_bytes / 2U ? wish : window->size_bytes;
    }
    return wish < window->size_bytes / limits->slack ? window_half(window, limits) : window->size_bytes;
}

static void window_round_over(struct window *window, const struct window_limits *limits, uint64_t round_us,
                              uint64_t took_us, uint32_t unconsumed)
{
    uint64_t target = took_us > WINDOW_STALE_ROUNDS * round_us
                          ? window_half(window, limits)
                          : window_wish(window, limits, round_us, took_us, unconsumed);
    if (limits->level == BUFFER_SCARCE) {
        target = least(target, window_half(window, limits));
    } else {
        /* Beyond SCARCE the allowance is nothing. */
        uint64_t allowed = limits->allowance_bytes - limits->allowance_bytes % WINDOW_STEP_BYTES;
        target = least(target, limits->start_bytes + least(allowed, UINT32_MAX));
    }
    target = least(target, limits->max_bytes);
    window->target_bytes = (uint32_t)(target > limits->start_bytes ? target : limits->start_bytes);
}

void window_init(struct window *window, uint32_t size_bytes, uint64_t now_us)
{
    *window = (struct window){.round_start_us = now_us, .size_bytes = size_bytes, .target_bytes = size_bytes};
}

void window_consume(struct window *window, const struct window_limits *limits, uint64_t now_us, uint32_t bytes,
                    uint32_t unconsumed)
{
    uint64_t round_us = limits->round_trip_us > WINDOW_ROUND_LEAST_US ? limits->round_trip_us : WINDOW_ROUND_LEAST_US;
    uint64_t took_us = now_us - window->round_start_us;
    window->round_bytes += bytes;
    if (took_us < round_us) {
        return;
    }
    window_round_over(window, limits, round_us, took_us, unconsumed);
    window->round_start_us = now_us;
    window->round_bytes = 0;
}
