/* See schedule.h. */
#include "tests/chaos/schedule.h"

#include <stdio.h>

#include "mux/clock.h"
#include "mux/log.h"
#include "mux/memory.h"

#define US_PER_MS 1000U

static enum error_code update(struct registry *registry, const struct timeline_step *step, struct option_fault *fault)
{
    const struct proxy *proxy = registry_find(registry, step->proxy);
    const struct toxic *there = proxy != NULL ? proxy_find_toxic(proxy, step->toxic_name) : NULL;
    if (there == NULL) {
        return registry_missing(proxy == NULL ? "proxy" : "toxic", proxy == NULL ? step->proxy : step->toxic_name,
                                fault);
    }
    struct toxic *changed = toxic_copy(there);
    enum error_code error = changed != NULL ? timeline_update_toxic(step->changes, changed, fault) : ERROR_NO_MEMORY;
    if (error == ERROR_NONE) {
        error = registry_update_toxic(registry, step->proxy, step->toxic_name, changed, fault);
    }
    toxic_free(&changed);
    return error;
}

static void end(struct registry *registry)
{
    decisions_note_change(registry->decisions, DECISION_END, "-", NULL, clock_monotonic_us());
    loop_stop(registry->loop);
}

static enum error_code run_step(struct schedule *schedule, const struct timeline_step *step, struct option_fault *fault)
{
    struct registry *registry = schedule->registry;
    struct toxic *toxic;
    enum error_code error;
    switch (step->command) {
    case TIMELINE_PROXY:
        return registry_create(registry, &step->spec, fault);
    case TIMELINE_DELETE:
        return registry_delete(registry, step->proxy, fault);
    case TIMELINE_ENABLE:
    case TIMELINE_DISABLE:
        return registry_set_enabled(registry, step->proxy, step->command == TIMELINE_ENABLE, fault);
    case TIMELINE_ADD:
        toxic = toxic_copy(step->toxic);
        error = toxic != NULL ? registry_add_toxic(registry, step->proxy, &toxic, fault) : ERROR_NO_MEMORY;
        toxic_free(&toxic);
        return error;
    case TIMELINE_UPDATE:
        return update(registry, step, fault);
    case TIMELINE_REMOVE:
        return registry_remove_toxic(registry, step->proxy, step->toxic_name, fault);
    case TIMELINE_RESET:
        return registry_reset(registry, fault);
    case TIMELINE_REPEAT:
        schedule->next = 0;
        schedule->start_us += step->time_us;
        return ERROR_NONE;
    case TIMELINE_END:
    default:
        end(registry);
        return ERROR_NONE;
    }
}

static enum error_code replay_step(struct registry *registry, const struct decision_step *step,
                                   struct option_fault *fault)
{
    struct proxy_spec spec;
    if (step->change == DECISION_DELETE) {
        return registry_delete(registry, step->proxy, fault);
    }
    if (step->change == DECISION_END) {
        end(registry);
        return ERROR_NONE;
    }
    proxy_spec_init(&spec);
    json_t *json = json_loads(step->text, 0, NULL);
    enum error_code error = json_read_proxy(json, &spec, fault);
    if (error == ERROR_NONE) {
        error = registry_populate(registry, &spec, 1, fault);
    }
    json_decref(json);
    proxy_spec_dispose(&spec);
    return error;
}

/* The time of the next step; false: there is none. */
static bool next_time(const struct schedule *schedule, uint64_t *time_us)
{
    const struct decisions *decisions = schedule->registry->decisions;
    size_t count = schedule->timeline != NULL ? schedule->timeline->count : decisions->step_count;
    if (schedule->next >= count) {
        return false;
    }
    *time_us = schedule->timeline != NULL ? schedule->timeline->steps[schedule->next].time_us
                                          : decisions->steps[schedule->next].time_us;
    return true;
}

static void failed(struct schedule *schedule, enum error_code error, const struct option_fault *fault, unsigned line)
{
    schedule->failed++;
    (void)snprintf(schedule->fault, sizeof(schedule->fault), "%s",
                   fault->text[0] != '\0' ? fault->text : error_text(error));
    LOG(LOG_ERROR, "step-failed", LOG_INTEGER("line", line), LOG_TEXT("text", schedule->fault), LOG_ERROR_CODE(error));
}

static void run(struct schedule *schedule)
{
    uint64_t time_us;
    while (next_time(schedule, &time_us)) {
        uint64_t now_us = clock_monotonic_us();
        uint64_t due_us = schedule->start_us + time_us;
        if (due_us > now_us && time_us > 0) {
            scheduler_arm(loop_scheduler(schedule->registry->loop), &schedule->timer,
                          (due_us - now_us + US_PER_MS - 1) / US_PER_MS);
            return;
        }
        struct option_fault fault = {.text = ""};
        size_t index = schedule->next++;
        unsigned line = schedule->timeline != NULL ? schedule->timeline->steps[index].line : 0;
        enum error_code error =
            schedule->timeline != NULL
                ? run_step(schedule, &schedule->timeline->steps[index], &fault)
                : replay_step(schedule->registry, &schedule->registry->decisions->steps[index], &fault);
        if (error != ERROR_NONE) {
            failed(schedule, error, &fault, line);
        }
    }
}

static void on_timer(struct timer *timer)
{
    run(container_of(timer, struct schedule, timer));
}

void schedule_start(struct schedule *schedule, struct registry *registry, const struct timeline *timeline,
                    uint64_t start_us)
{
    *schedule = (struct schedule){.registry = registry, .timeline = timeline, .start_us = start_us};
    timer_init(&schedule->timer, on_timer);
    run(schedule);
}

void schedule_stop(struct schedule *schedule)
{
    if (schedule->registry != NULL) {
        scheduler_disarm(loop_scheduler(schedule->registry->loop), &schedule->timer);
    }
}
