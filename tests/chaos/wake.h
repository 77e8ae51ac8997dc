/*
 * Who wants to be woken when, in microseconds: a binary heap, the earliest first. (The loop's timers count
 * milliseconds; slices follow each other faster.) A wake lives in its owner. No clock. One thread.
 */
#ifndef CHAOS_WAKE_H
#define CHAOS_WAKE_H

#include <stddef.h>
#include <stdint.h>

#include "mux/error.h"

#define WAKE_NEVER UINT64_MAX

struct wake;
typedef void wake_fn(struct wake *wake);

struct wake {
    uint64_t due_us;
    size_t place; /* in the heap, from 1; 0: not in it */
    wake_fn *run; /* the owner is found with container_of; may arm, cancel or free any wake */
};

struct wakes {
    struct wake **heap;
    size_t count;
    size_t room;
};

void wakes_init(struct wakes *wakes);
void wakes_dispose(struct wakes *wakes);

/* Room for `count` wakes, so that arming cannot fail. ERROR_NO_MEMORY. */
enum error_code wakes_reserve(struct wakes *wakes, size_t count);

void wake_init(struct wake *wake, wake_fn *run);

/* Arms or moves it; WAKE_NEVER cancels. There must be room. */
void wakes_arm(struct wakes *wakes, struct wake *wake, uint64_t due_us);

/* The earliest; WAKE_NEVER when there is none. */
uint64_t wakes_next(const struct wakes *wakes);

/* Runs all that are due. One that is armed meanwhile for a time that has passed waits for the next call. */
void wakes_run(struct wakes *wakes, uint64_t now_us);

#endif
