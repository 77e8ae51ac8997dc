/* See trim.h. */
#include "mux/trim.h"

#include "mux/memory.h"

static uint64_t trim_churn(const struct trim *trim)
{
    return trim->churn != NULL ? *trim->churn : 0;
}

/* Is there anything to wait for? */
static bool trim_expects(const struct trim *trim)
{
    return trim->peak >= TRIM_CROWD_MIN || trim_churn(trim) - trim->churn_trimmed >= TRIM_CHURN_MIN;
}

static void trim_look(struct timer *timer)
{
    struct trim *trim = container_of(timer, struct trim, timer);
    size_t here = *trim->count;
    size_t left = trim->peak > here ? trim->peak - here : 0;
    uint64_t churn = trim_churn(trim);
    bool crowd_left = left >= TRIM_CROWD_MIN && left >= here;
    bool quiet = churn - trim->churn_looked < TRIM_CHURN_QUIET;
    trim->churn_looked = churn;
    if (crowd_left || (quiet && churn - trim->churn_trimmed >= TRIM_CHURN_MIN)) {
        memory_trim();
        trim->peak = crowd_left ? here : trim->peak;
        trim->churn_trimmed = churn;
    }
    if (trim_expects(trim)) {
        scheduler_arm(trim->scheduler, &trim->timer, TRIM_INTERVAL_MS);
    }
}

void trim_init(struct trim *trim, struct scheduler *scheduler, const size_t *count, const uint64_t *churn)
{
    *trim = (struct trim){.scheduler = scheduler, .count = count, .churn = churn};
    timer_init(&trim->timer, trim_look);
}

void trim_dispose(struct trim *trim)
{
    scheduler_disarm(trim->scheduler, &trim->timer);
}

void trim_note(struct trim *trim)
{
    if (*trim->count > trim->peak) {
        trim->peak = *trim->count;
    }
    if (trim_expects(trim) && !timer_armed(&trim->timer)) {
        scheduler_arm(trim->scheduler, &trim->timer, TRIM_INTERVAL_MS);
    }
}
