/* Tests of mux/scheduler.c, with a time that the tests make up. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <limits.h>
#include <string.h>

#include "mux/memory.h"
#include "mux/scheduler.h"

static struct scheduler scheduler;
static char trace[32];

struct probe {
    struct timer timer;
    struct task task;
    char letter;
    bool defer_again;
    struct probe *cancels;
};

static void trace_add(char letter)
{
    size_t length = strlen(trace);
    assert_true(length + 1 < sizeof(trace));
    trace[length] = letter;
    trace[length + 1] = '\0';
}

static void probe_fire(struct timer *timer)
{
    trace_add(container_of(timer, struct probe, timer)->letter);
}

static void probe_run(struct task *task)
{
    struct probe *probe = container_of(task, struct probe, task);
    trace_add(probe->letter);
    if (probe->defer_again) {
        scheduler_defer(&scheduler, task);
    }
    if (probe->cancels != NULL) {
        scheduler_cancel(&scheduler, &probe->cancels->task);
    }
}

static void probe_init(struct probe *probe, char letter)
{
    memset(probe, 0, sizeof(*probe));
    timer_init(&probe->timer, probe_fire);
    task_init(&probe->task, probe_run);
    probe->letter = letter;
}

static int reset(void **state)
{
    (void)state;
    scheduler_init(&scheduler, 5000000);
    trace[0] = '\0';
    return 0;
}

static void an_idle_scheduler_waits_without_bound(void **state)
{
    (void)state;
    assert_int_equal(scheduler_wait_ms(&scheduler), -1);
    scheduler_advance(&scheduler, 6000000);
    scheduler_run_tasks(&scheduler);
    assert_int_equal(scheduler_wait_ms(&scheduler), -1);
}

static void tasks_run_once_in_the_order_of_deferring(void **state)
{
    (void)state;
    struct probe a;
    struct probe b;
    probe_init(&a, 'a');
    probe_init(&b, 'b');
    scheduler_defer(&scheduler, &b.task);
    scheduler_defer(&scheduler, &a.task);
    scheduler_defer(&scheduler, &b.task);
    assert_int_equal(scheduler_wait_ms(&scheduler), 0);
    scheduler_run_tasks(&scheduler);
    assert_string_equal(trace, "ba");
    scheduler_run_tasks(&scheduler);
    assert_string_equal(trace, "ba");
    assert_int_equal(scheduler_wait_ms(&scheduler), -1);
}

static void a_task_deferred_while_tasks_run_waits_for_the_next_batch(void **state)
{
    (void)state;
    struct probe a;
    probe_init(&a, 'a');
    a.defer_again = true;
    scheduler_defer(&scheduler, &a.task);
    scheduler_run_tasks(&scheduler);
    assert_string_equal(trace, "a");
    assert_int_equal(scheduler_wait_ms(&scheduler), 0);
    a.defer_again = false;
    scheduler_run_tasks(&scheduler);
    assert_string_equal(trace, "aa");
    assert_int_equal(scheduler_wait_ms(&scheduler), -1);
}

static void a_task_may_cancel_one_of_the_same_batch(void **state)
{
    (void)state;
    struct probe a;
    struct probe b;
    struct probe c;
    probe_init(&a, 'a');
    probe_init(&b, 'b');
    probe_init(&c, 'c');
    a.cancels = &b;
    scheduler_defer(&scheduler, &a.task);
    scheduler_defer(&scheduler, &b.task);
    scheduler_defer(&scheduler, &c.task);
    scheduler_run_tasks(&scheduler);
    assert_string_equal(trace, "ac");
    scheduler_cancel(&scheduler, &b.task); /* not deferred: no effect */
    scheduler_defer(&scheduler, &b.task);
    scheduler_run_tasks(&scheduler);
    assert_string_equal(trace, "acb");
}

static void a_timer_never_fires_before_its_whole_delay(void **state)
{
    (void)state;
    struct probe a;
    probe_init(&a, 'a');
    scheduler_advance(&scheduler, 5000900);
    scheduler_arm(&scheduler, &a.timer, 10);
    scheduler_advance(&scheduler, 5010899);
    assert_string_equal(trace, "");
    scheduler_advance(&scheduler, 5011000); /* at most one millisecond late */
    assert_string_equal(trace, "a");
}

static void a_delay_of_nothing_fires_at_the_next_advance(void **state)
{
    (void)state;
    struct probe a;
    probe_init(&a, 'a');
    scheduler_advance(&scheduler, 5000900);
    scheduler_arm(&scheduler, &a.timer, 0);
    assert_int_equal(scheduler_wait_ms(&scheduler), 0);
    scheduler_advance(&scheduler, 5000900);
    assert_string_equal(trace, "a");
}

static void waiting_ends_by_the_earliest_timer(void **state)
{
    (void)state;
    struct probe a;
    struct probe b;
    probe_init(&a, 'a');
    probe_init(&b, 'b');
    scheduler_arm(&scheduler, &a.timer, 20);
    scheduler_arm(&scheduler, &b.timer, 7);
    assert_true(scheduler_wait_ms(&scheduler) > 0);
    assert_true(scheduler_wait_ms(&scheduler) <= 7);
    scheduler_disarm(&scheduler, &b.timer);
    /* As a driver would: it may wake early, but gets there. */
    unsigned wakes = 0;
    while (trace[0] == '\0') {
        int wait_ms = scheduler_wait_ms(&scheduler);
        assert_true(wait_ms > 0 && wait_ms <= 20);
        scheduler_advance(&scheduler, scheduler.now_us + (uint64_t)wait_ms * 1000);
        assert_true(++wakes <= TIMER_LEVELS);
    }
    assert_int_equal(scheduler.now_us, 5020000);
    assert_string_equal(trace, "a");
}

static void a_far_deadline_is_a_wait_that_an_int_can_hold(void **state)
{
    (void)state;
    struct probe a;
    probe_init(&a, 'a');
    scheduler_arm(&scheduler, &a.timer, UINT64_MAX);
    assert_true(scheduler_wait_ms(&scheduler) > 0);
    scheduler_disarm(&scheduler, &a.timer);
    assert_int_equal(scheduler_wait_ms(&scheduler), -1);
}

static void setting_the_time_fires_nothing_and_never_goes_back(void **state)
{
    (void)state;
    struct probe a;
    probe_init(&a, 'a');
    scheduler_arm(&scheduler, &a.timer, 10);
    scheduler_set_time(&scheduler, 6000000);
    assert_string_equal(trace, "");
    assert_int_equal(scheduler_wait_ms(&scheduler), 0);
    scheduler_set_time(&scheduler, 1);
    assert_int_equal(scheduler.now_us, 6000000);
    scheduler_advance(&scheduler, 2);
    assert_int_equal(scheduler.now_us, 6000000);
    assert_string_equal(trace, "a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_idle_scheduler_waits_without_bound, reset),
        cmocka_unit_test_setup(tasks_run_once_in_the_order_of_deferring, reset),
        cmocka_unit_test_setup(a_task_deferred_while_tasks_run_waits_for_the_next_batch, reset),
        cmocka_unit_test_setup(a_task_may_cancel_one_of_the_same_batch, reset),
        cmocka_unit_test_setup(a_timer_never_fires_before_its_whole_delay, reset),
        cmocka_unit_test_setup(a_delay_of_nothing_fires_at_the_next_advance, reset),
        cmocka_unit_test_setup(waiting_ends_by_the_earliest_timer, reset),
        cmocka_unit_test_setup(a_far_deadline_is_a_wait_that_an_int_can_hold, reset),
        cmocka_unit_test_setup(setting_the_time_fires_nothing_and_never_goes_back, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
