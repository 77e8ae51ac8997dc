/* See buffer_budget.h. */
#include "mux/buffer_budget.h"

#include <assert.h>

#include "mux/memory.h"

const char *buffer_level_name(enum buffer_level level)
{
    static const char *const names[BUFFER_LEVEL_COUNT] = {
        [BUFFER_AMPLE] = "ample",
        [BUFFER_SCARCE] = "scarce",
        [BUFFER_SHUT] = "shut",
        [BUFFER_OVER] = "over",
    };
    return (unsigned)level < BUFFER_LEVEL_COUNT ? names[level] : "unknown";
}

/* Where a level begins. */
static uint64_t budget_mark(const struct buffer_budget *budget, enum buffer_level level)
{
    switch (level) {
    case BUFFER_SCARCE:
        return budget->limit_bytes / 2;
    case BUFFER_SHUT:
        return budget->limit_bytes - budget->limit_bytes / 4;
    case BUFFER_OVER:
        return budget->limit_bytes;
    case BUFFER_AMPLE:
    case BUFFER_LEVEL_COUNT:
        break;
    }
    return 0;
}

static enum buffer_level budget_level_due(const struct buffer_budget *budget)
{
    uint64_t slack = budget->limit_bytes / 16;
    unsigned level = BUFFER_OVER;
    while (level > BUFFER_AMPLE) {
        uint64_t mark = budget_mark(budget, (enum buffer_level)level);
        if (budget->charged_bytes >= (level <= budget->level ? mark - slack : mark)) {
            break;
        }
        level--;
    }
    return (enum buffer_level)level;
}

static void budget_watch(struct buffer_budget *budget)
{
    budget->events->mark(budget->owner);
    scheduler_arm(budget->scheduler, &budget->relief, BUFFER_RELIEF_MS);
}

/* OVER for as long as sessions had to show whether they take anything. */
static void budget_relieve(struct timer *timer)
{
    struct buffer_budget *budget = container_of(timer, struct buffer_budget, relief);
    for (unsigned i = 0; i < BUFFER_SHEDS_PER_RELIEF && budget->level == BUFFER_OVER; i++) {
        /* Whoever takes a byte now and then to be spared is not spared for ever: the limit holds. */
        if (!budget->events->shed(budget->owner, false) && !budget->events->shed(budget->owner, true)) {
            break;
        }
        budget->shed++;
    }
    if (budget->level == BUFFER_OVER) {
        budget_watch(budget);
    }
}

/* The setter of `level`. Any level may follow any other, as one change may be large. */
static void budget_move(struct buffer_budget *budget, enum buffer_level to)
{
    enum buffer_level from = (enum buffer_level)budget->level;
    if (from == to) {
        return;
    }
    budget->level = (uint8_t)to;
    for (unsigned level = from + 1U; level <= to; level++) {
        budget->entered[level]++;
    }
    if (budget->events->moved != NULL) {
        budget->events->moved(budget->owner, from, to);
    }
    if (to == BUFFER_OVER && !timer_armed(&budget->relief)) {
        budget_watch(budget);
    }
}

void buffer_budget_init(struct buffer_budget *budget, uint64_t limit_bytes, struct scheduler *scheduler,
                        const struct buffer_events *events, void *owner)
{
    *budget =
        (struct buffer_budget){.scheduler = scheduler, .events = events, .owner = owner, .limit_bytes = limit_bytes};
    timer_init(&budget->relief, budget_relieve);
}

void buffer_budget_dispose(struct buffer_budget *budget)
{
    scheduler_disarm(budget->scheduler, &budget->relief);
    assert(budget->charged_bytes == 0 && "whoever was charged has gone without a word");
}

void buffer_budget_change(struct buffer_budget *budget, uint64_t before, uint64_t after)
{
    if (budget == NULL || before == after) {
        return;
    }
    assert(budget->charged_bytes >= before && "more is released than was charged");
    budget->charged_bytes += after - before;
    if (budget->charged_bytes > budget->peak_bytes) {
        budget->peak_bytes = budget->charged_bytes;
    }
    budget_move(budget, budget_level_due(budget));
}

uint64_t buffer_budget_allowance(const struct buffer_budget *budget, uint64_t own_bytes)
{
    if (budget == NULL) {
        return UINT64_MAX;
    }
    uint64_t others = budget->charged_bytes - own_bytes;
    uint64_t share = budget_mark(budget, BUFFER_SCARCE);
    return budget->level == BUFFER_AMPLE && share > others ? (share - others) / 2 : 0;
}

enum buffer_level buffer_budget_level(const struct buffer_budget *budget)
{
    return budget != NULL ? (enum buffer_level)budget->level : BUFFER_AMPLE;
}
