/*
 * The timer wheel. A timer waits at the level of the highest group of six bits in which its deadline differs from the
 * wheel's time, in the slot that this group names; when time enters the slot its timers move to lower levels. So every
 * timer on a level is due before all those on higher levels, and a bit per slot finds the next one without a search.
 * The top level alone is circular. The wheel owns no timer. One thread.
 */
#include "mux/timer.h"

#include <assert.h>

#include "mux/memory.h"

#define TIMER_SLOT_BITS 6U
#define TIMER_TOP_SHIFT (TIMER_SLOT_BITS * (TIMER_LEVELS - 1))

struct timer_slot {
    unsigned level;
    unsigned index;
    uint64_t start_ms; /* the first deadline that belongs to it */
};

void timers_init(struct timers *timers, uint64_t now_ms)
{
    for (unsigned level = 0; level < TIMER_LEVELS; level++) {
        timers->occupied[level] = 0;
        for (unsigned index = 0; index < TIMER_SLOTS; index++) {
            list_init(&timers->slots[level][index]);
        }
    }
    timers->now_ms = now_ms;
    timers->armed = 0;
}

void timer_init(struct timer *timer, timer_fn *fire)
{
    list_node_init(&timer->node);
    timer->deadline_ms = 0;
    timer->fire = fire;
}

static void timers_insert(struct timers *timers, struct timer *timer)
{
    uint64_t difference = timers->now_ms ^ timer->deadline_ms;
    unsigned level = 0;
    if (difference >= TIMER_SLOTS) {
        level = (63U - (unsigned)__builtin_clzll(difference)) / TIMER_SLOT_BITS;
    }
    if (level >= TIMER_LEVELS) {
        level = TIMER_LEVELS - 1; /* across the end of the top level's circle */
    }
    unsigned index = (unsigned)(timer->deadline_ms >> (TIMER_SLOT_BITS * level)) % TIMER_SLOTS;
    list_append(&timers->slots[level][index], &timer->node);
    timers->occupied[level] |= UINT64_C(1) << index;
}

static void timers_unlink(struct timers *timers, struct timer *timer)
{
    struct list_node *neighbour = timer->node.next;
    bool alone = neighbour == timer->node.previous;
    list_remove(&timer->node);
    if (!alone) {
        return;
    }
    /* The neighbour was the head of the list: a slot that is empty now, or the list of timers about to be fired. */
    uintptr_t base = (uintptr_t)&timers->slots[0][0];
    uintptr_t place = (uintptr_t)neighbour;
    if (place >= base && place < base + sizeof(timers->slots)) {
        size_t slot = (place - base) / sizeof(struct list);
        timers->occupied[slot / TIMER_SLOTS] &= ~(UINT64_C(1) << (slot % TIMER_SLOTS));
    }
}

void timers_arm(struct timers *timers, struct timer *timer, uint64_t deadline_ms)
{
    timers_cancel(timers, timer);
    /* The slot in which the wheel stands is the only one of the top level that must not be used. */
    uint64_t last = (((timers->now_ms >> TIMER_TOP_SHIFT) + TIMER_SLOTS) << TIMER_TOP_SHIFT) - 1;
    if (deadline_ms > last) {
        deadline_ms = last;
    }
    timer->deadline_ms = deadline_ms > timers->now_ms ? deadline_ms : timers->now_ms;
    timers_insert(timers, timer);
    timers->armed++;
}

void timers_cancel(struct timers *timers, struct timer *timer)
{
    if (timer_armed(timer)) {
        timers_unlink(timers, timer);
        timers->armed--;
    }
}

static bool timers_next_slot(const struct timers *timers, struct timer_slot *slot)
{
    for (unsigned level = 0; level < TIMER_LEVELS; level++) {
        uint64_t occupied = timers->occupied[level];
        if (occupied == 0) {
            continue;
        }
        uint64_t position = timers->now_ms >> (TIMER_SLOT_BITS * level);
        unsigned here = (unsigned)(position % TIMER_SLOTS);
        uint64_t ahead = here == 0 ? occupied : (occupied >> here) | (occupied << (TIMER_SLOTS - here));
        unsigned distance = (unsigned)__builtin_ctzll(ahead);
        slot->level = level;
        slot->index = (here + distance) % TIMER_SLOTS;
        slot->start_ms = (position + distance) << (TIMER_SLOT_BITS * level);
        return true;
    }
    return false;
}

/* Moves all that is due at `now_ms` to `due`, and the wheel to `now_ms`. */
static void timers_collect(struct timers *timers, uint64_t now_ms, struct list *due)
{
    struct timer_slot slot;
    while (timers_next_slot(timers, &slot) && slot.start_ms <= now_ms) {
        struct list *waiting = &timers->slots[slot.level][slot.index];
        timers->now_ms = slot.start_ms;
        timers->occupied[slot.level] &= ~(UINT64_C(1) << slot.index);
        if (slot.level == 0) {
            list_splice(due, waiting);
            continue;
        }
        struct list_node *node;
        while ((node = list_first(waiting)) != NULL) {
            list_remove(node);
            timers_insert(timers, container_of(node, struct timer, node));
        }
    }
    timers->now_ms = now_ms;
}

void timers_advance(struct timers *timers, uint64_t now_ms)
{
    /* All are collected before the first is fired: what a function arms for a time that has passed waits for the next
     * call, or a timer that arms itself again would never let this one end. */
    struct list due;
    list_init(&due);
    timers_collect(timers, now_ms > timers->now_ms ? now_ms : timers->now_ms, &due);
    struct list_node *node;
    while ((node = list_first(&due)) != NULL) {
        struct timer *timer = container_of(node, struct timer, node);
        list_remove(node);
        assert(timers->armed > 0);
        timers->armed--;
        timer->fire(timer);
    }
}

uint64_t timers_next(const struct timers *timers)
{
    struct timer_slot slot;
    return timers_next_slot(timers, &slot) ? slot.start_ms : TIMER_NONE;
}
