/* See trim.h. */
#include "mux/trim.h"

#include "mux/memory.h"

static void trim_look(struct timer *timer)
{
    struct trim *trim = container_of(timer, struct trim, timer);
    size_t here = *trim->count;
    size_t left = trim->peak > here ? trim->peak - here : 0;
    if (left >= TRIM_CROWD_MIN && left >= here) {
        memory_trim();
        trim->peak = here;
    }
    if (trim->peak >= TRIM_CROWD_MIN) {
        scheduler_arm(trim->scheduler, &trim->timer, TRIM_INTERVAL_MS);
    }
}

void trim_init(struct trim *trim, struct scheduler *scheduler, const size_t *count)
{
    *trim = (struct trim){.scheduler = scheduler, .count = count};
    timer_init(&trim->timer, trim_look);
}

void trim_dispose(struct trim *trim)
{
    scheduler_disarm(trim->scheduler, &trim->timer);
}

void trim_note(struct trim *trim)
{
    if (*trim->count <= trim->peak) {
        return;
    }
    trim->peak = *trim->count;
    if (trim->peak >= TRIM_CROWD_MIN && !timer_armed(&trim->timer)) {
        scheduler_arm(trim->scheduler, &trim->timer, TRIM_INTERVAL_MS);
    }
}
