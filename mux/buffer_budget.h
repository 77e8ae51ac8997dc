/*
 * How much the sessions of one worker may hold in buffers, and what happens as it fills. One number counts what is
 * there (bytes that a consumer has not taken, bytes queued for a trunk) and what is promised (windows that have grown
 * beyond their start); windows ask before they grow, and when it runs full the owner is told to do with less:
 *
 *   level:  AMPLE <--> SCARCE <--> SHUT <--> OVER        (any level may follow any other)
 *
 * AMPLE: windows grow. SCARCE, from a half on: none grows, those that have grown shrink. SHUT, from three quarters on:
 * no new sessions, windows shrink at once. OVER: the largest session that takes nothing is ended, again and again,
 * until there is room. A level is left a sixteenth of the limit below the mark at which it is entered.
 *
 * Pure but for its timer. Embedded in its owner, who tells it of every change. One thread.
 */
#ifndef MUX_BUFFER_BUDGET_H
#define MUX_BUFFER_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/scheduler.h"

#define BUFFER_RELIEF_MS        500U /* a session that takes no byte for so long is stalled, when memory is OVER */
#define BUFFER_SHEDS_PER_RELIEF 16U  /* each looks at every session: others get their turn between */

enum buffer_level {
    BUFFER_AMPLE,
    BUFFER_SCARCE,
    BUFFER_SHUT,
    BUFFER_OVER,
    BUFFER_LEVEL_COUNT,
};

struct buffer_events {
    /* The level has changed: for the log. Called in the midst of whatever changed it; NULL is allowed. */
    void (*moved)(void *owner, enum buffer_level from, enum buffer_level to);

    /* From now on it is to be seen which sessions take bytes. */
    void (*mark)(void *owner);

    /* Ends one session, the largest of those that have taken no byte since `mark`, or with `any` the largest of all.
     * False when there is none. Called from a timer; what it ends is released before it returns. */
    bool (*shed)(void *owner, bool any);
};

struct buffer_budget {
    struct scheduler *scheduler;
    const struct buffer_events *events;
    void *owner;
    struct timer relief;
    uint64_t limit_bytes;
    uint64_t charged_bytes;
    uint64_t peak_bytes;                  /* the most that was charged */
    uint64_t entered[BUFFER_LEVEL_COUNT]; /* how often each level was entered from below */
    uint64_t shed;                        /* sessions that were ended */
    uint8_t level;                        /* enum buffer_level */
};

/* `events` and `owner` must outlive it. */
void buffer_budget_init(struct buffer_budget *budget, uint64_t limit_bytes, struct scheduler *scheduler,
                        const struct buffer_events *events, void *owner);

/* Stops its timer. What is charged must have been released. */
void buffer_budget_dispose(struct buffer_budget *budget);

/* What somebody holds or has promised was `before` and is `after` bytes. A budget of NULL has no limit. */
void buffer_budget_change(struct buffer_budget *budget, uint64_t before, uint64_t after);

/* How much one window may have grown in all, when `own_bytes` are charged for it now: half of what others leave of the
 * half that windows may take, so that there is something left for whoever comes next. 0 unless AMPLE. */
uint64_t buffer_budget_allowance(const struct buffer_budget *budget, uint64_t own_bytes);

/* AMPLE without a budget. */
enum buffer_level buffer_budget_level(const struct buffer_budget *budget);

/* "ample", "scarce", ... Static. */
const char *buffer_level_name(enum buffer_level level);

#endif
