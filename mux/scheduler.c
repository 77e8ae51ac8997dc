/*
 * Time, timers and deferred tasks for engines. Owns none of the timers and tasks. Makes no system call: its driver
 * (mux/loop.c, or a simulation) brings the time. One thread.
 */
#include "mux/scheduler.h"

#include <limits.h>

#include "mux/memory.h"

#define US_PER_MS 1000U

void scheduler_init(struct scheduler *scheduler, uint64_t now_us)
{
    timers_init(&scheduler->timers, now_us / US_PER_MS);
    list_init(&scheduler->tasks);
    list_init(&scheduler->background);
    scheduler->now_us = now_us;
}

void task_init(struct task *task, task_fn *run)
{
    list_node_init(&task->node);
    task->run = run;
}

void scheduler_defer(struct scheduler *scheduler, struct task *task)
{
    if (!list_node_linked(&task->node)) {
        list_append(&scheduler->tasks, &task->node);
    }
}

void scheduler_defer_background(struct scheduler *scheduler, struct task *task)
{
    if (!list_node_linked(&task->node)) {
        list_append(&scheduler->background, &task->node);
    }
}

void scheduler_cancel(struct scheduler *scheduler, struct task *task)
{
    (void)scheduler;
    list_remove(&task->node);
}

void scheduler_arm(struct scheduler *scheduler, struct timer *timer, uint64_t delay_ms)
{
    /* Rounded up, so that no timer fires before its whole delay has passed; "at once" stays at once. */
    uint64_t now_ms = scheduler->now_us / US_PER_MS;
    if (delay_ms > 0 && scheduler->now_us % US_PER_MS != 0) {
        now_ms++;
    }
    uint64_t deadline_ms = delay_ms < UINT64_MAX - now_ms ? now_ms + delay_ms : UINT64_MAX;
    timers_arm(&scheduler->timers, timer, deadline_ms);
}

void scheduler_disarm(struct scheduler *scheduler, struct timer *timer)
{
    timers_cancel(&scheduler->timers, timer);
}

void scheduler_set_time(struct scheduler *scheduler, uint64_t now_us)
{
    if (now_us > scheduler->now_us) {
        scheduler->now_us = now_us;
    }
}

void scheduler_advance(struct scheduler *scheduler, uint64_t now_us)
{
    scheduler_set_time(scheduler, now_us);
    timers_advance(&scheduler->timers, scheduler->now_us / US_PER_MS);
}

void scheduler_run_tasks(struct scheduler *scheduler)
{
    struct list batch;
    list_init(&batch);
    list_splice(&batch, &scheduler->tasks);
    list_splice(&batch, &scheduler->background);
    struct list_node *node;
    while ((node = list_first(&batch)) != NULL) {
        struct task *task = container_of(node, struct task, node);
        list_remove(node);
        task->run(task);
    }
}

int scheduler_wait_ms(const struct scheduler *scheduler)
{
    if (!list_empty(&scheduler->tasks) || !list_empty(&scheduler->background)) {
        return 0;
    }
    uint64_t next_ms = timers_next(&scheduler->timers);
    if (next_ms == TIMER_NONE) {
        return -1;
    }
    uint64_t now_ms = scheduler->now_us / US_PER_MS;
    if (next_ms <= now_ms) {
        return 0;
    }
    return next_ms - now_ms < INT_MAX ? (int)(next_ms - now_ms) : INT_MAX;
}
