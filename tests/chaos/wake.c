/* See wake.h. Owns the heap, not what is in it. */
#include "tests/chaos/wake.h"

#include <assert.h>

#include "mux/memory.h"

#define WAKES_FIRST 64U

void wakes_init(struct wakes *wakes)
{
    *wakes = (struct wakes){0};
}

void wakes_dispose(struct wakes *wakes)
{
    memory_free(wakes->heap);
    wakes_init(wakes);
}

void wake_init(struct wake *wake, wake_fn *run)
{
    *wake = (struct wake){.due_us = WAKE_NEVER, .run = run};
}

enum error_code wakes_reserve(struct wakes *wakes, size_t count)
{
    if (count <= wakes->room) {
        return ERROR_NONE;
    }
    size_t room = wakes->room == 0 ? WAKES_FIRST : wakes->room * 2;
    room = room < count ? count : room;
    struct wake **heap = memory_realloc(wakes->heap, room * sizeof(struct wake *));
    if (heap == NULL) {
        return ERROR_NO_MEMORY;
    }
    wakes->heap = heap;
    wakes->room = room;
    return ERROR_NONE;
}

static void wakes_put(struct wakes *wakes, size_t place, struct wake *wake)
{
    wakes->heap[place - 1] = wake;
    wake->place = place;
}

static void wakes_rise(struct wakes *wakes, struct wake *wake)
{
    size_t place = wake->place;
    while (place > 1 && wakes->heap[place / 2 - 1]->due_us > wake->due_us) {
        wakes_put(wakes, place, wakes->heap[place / 2 - 1]);
        place /= 2;
    }
    wakes_put(wakes, place, wake);
}

static void wakes_sink(struct wakes *wakes, struct wake *wake)
{
    size_t place = wake->place;
    while (place * 2 <= wakes->count) {
        size_t child = place * 2;
        if (child < wakes->count && wakes->heap[child]->due_us < wakes->heap[child - 1]->due_us) {
            child++;
        }
        if (wakes->heap[child - 1]->due_us >= wake->due_us) {
            break;
        }
        wakes_put(wakes, place, wakes->heap[child - 1]);
        place = child;
    }
    wakes_put(wakes, place, wake);
}

static void wakes_remove(struct wakes *wakes, struct wake *wake)
{
    struct wake *last = wakes->heap[wakes->count - 1];
    size_t place = wake->place;
    wakes->count--;
    wake->place = 0;
    if (last != wake) {
        wakes_put(wakes, place, last);
        wakes_rise(wakes, last);
        wakes_sink(wakes, last);
    }
}

void wakes_arm(struct wakes *wakes, struct wake *wake, uint64_t due_us)
{
    if (wake->place != 0 && wake->due_us == due_us) {
        return;
    }
    if (wake->place != 0) {
        wakes_remove(wakes, wake);
    }
    wake->due_us = due_us;
    if (due_us != WAKE_NEVER) {
        assert(wakes->count < wakes->room && "room is reserved before");
        wakes->count++;
        wakes_put(wakes, wakes->count, wake);
        wakes_rise(wakes, wake);
    }
}

uint64_t wakes_next(const struct wakes *wakes)
{
    return wakes->count > 0 ? wakes->heap[0]->due_us : WAKE_NEVER;
}

void wakes_run(struct wakes *wakes, uint64_t now_us)
{
    /* At most as many as there were: who is due again at once must not keep the others waiting. */
    for (size_t turns = wakes->count; turns > 0 && wakes_next(wakes) <= now_us; turns--) {
        struct wake *wake = wakes->heap[0];
        wakes_remove(wakes, wake);
        wake->due_us = WAKE_NEVER;
        wake->run(wake);
    }
}
