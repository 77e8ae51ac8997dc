/*
 * What an engine may know of time: the current time, timers, and tasks that run once the current batch of events has
 * been handled. No system call: the event loop drives it in production, the simulation with virtual time. One thread.
 */
#ifndef MUX_SCHEDULER_H
#define MUX_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/list.h"
#include "mux/timer.h"

struct task;
typedef void task_fn(struct task *task);

/* Work put off to the end of the batch, in the order of deferring. Lives in its owner. */
struct task {
    struct list_node node;
    task_fn *run; /* the owner is found with container_of; may free the task */
};

struct scheduler {
    struct timers timers;
    struct list tasks;
    struct list background; /* tasks that run behind all others of their batch */
    uint64_t now_us;        /* monotonic, microseconds; constant within a batch */
};

void scheduler_init(struct scheduler *scheduler, uint64_t now_us);

void task_init(struct task *task, task_fn *run);

/* Runs the task at the end of this batch; no effect when it is deferred already. A task deferred while tasks run
 * waits for the next batch, which then starts without waiting for I/O. */
void scheduler_defer(struct scheduler *scheduler, struct task *task);

/* The same for work that may wait: it runs behind all that was deferred otherwise. Whoever does a little, and defers
 * itself again, lets everything else go first. */
void scheduler_defer_background(struct scheduler *scheduler, struct task *task);

/* No effect on a task that is not deferred. */
void scheduler_cancel(struct scheduler *scheduler, struct task *task);

void scheduler_arm(struct scheduler *scheduler, struct timer *timer, uint64_t delay_ms);
void scheduler_disarm(struct scheduler *scheduler, struct timer *timer);

/* For the driver: moves time on without firing timers, so that input which waited is handled before a timer says that
 * it never came. Time never runs back. */
void scheduler_set_time(struct scheduler *scheduler, uint64_t now_us);

/* For the driver: moves time on and fires timers; runs the tasks deferred so far. */
void scheduler_advance(struct scheduler *scheduler, uint64_t now_us);
void scheduler_run_tasks(struct scheduler *scheduler);

/* For the driver: milliseconds that it may wait for I/O: 0 when tasks are deferred, -1 for no bound. */
int scheduler_wait_ms(const struct scheduler *scheduler);

#endif
