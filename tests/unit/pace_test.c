/* Unit tests of the load generator's open-loop schedule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/load/pace.h"

static void nothing_is_due_before_its_time(void **state)
{
    (void)state;
    struct pace pace;
    uint64_t intended_us = 0;
    pace_init(&pace, 1000, 10, 3);
    assert_false(pace_take(&pace, 999, &intended_us));
    assert_true(pace_take(&pace, 1000, &intended_us));
    assert_int_equal(intended_us, 1000);
    assert_false(pace_take(&pace, 100999, &intended_us));
    assert_int_equal(pace_next_us(&pace), 101000);
}

static void a_late_event_keeps_its_intended_time_and_delays_no_other(void **state)
{
    (void)state;
    struct pace pace;
    uint64_t intended_us = 0;
    pace_init(&pace, 0, 1000, 10);
    /* Ten milliseconds pass without a look at the schedule: all events are due at once, each with its own time. */
    for (uint64_t i = 0; i < 10; i++) {
        assert_true(pace_take(&pace, 10000, &intended_us));
        assert_int_equal(intended_us, i * 1000);
    }
    assert_true(pace_finished(&pace));
    assert_false(pace_take(&pace, UINT64_MAX, &intended_us));
}

static void a_rate_that_divides_no_second_does_not_drift(void **state)
{
    (void)state;
    struct pace pace;
    uint64_t intended_us = 0;
    pace_init(&pace, 0, 7, 7U * 3600U + 1U);
    while (pace_take(&pace, UINT64_MAX, &intended_us)) {
    }
    assert_int_equal(intended_us, 3600ULL * 1000000ULL);
}

static void an_empty_schedule_is_finished_at_once(void **state)
{
    (void)state;
    struct pace pace;
    uint64_t intended_us = 0;
    pace_init(&pace, 0, 1, 0);
    assert_true(pace_finished(&pace));
    assert_false(pace_take(&pace, 5, &intended_us));
}

static void processes_that_divide_a_schedule_take_every_event_once(void **state)
{
    (void)state;
    enum { EVENTS = 1000, PROCESSES = 7 };
    uint8_t seen[EVENTS] = {0};
    uint64_t total = 0;
    for (uint32_t index = 0; index < PROCESSES; index++) {
        const struct share share = {.index = index, .count = PROCESSES};
        struct pace pace;
        uint64_t intended_us = 0;
        pace_init_share(&pace, 500, 1000000, 1000, EVENTS, share);
        total += share_of(share, EVENTS);
        while (pace_take(&pace, UINT64_MAX, &intended_us)) {
            uint64_t number = (intended_us - 500) / 1000;
            assert_int_equal(number % PROCESSES, index);
            seen[number]++;
        }
    }
    assert_int_equal(total, EVENTS);
    for (int i = 0; i < EVENTS; i++) {
        assert_int_equal(seen[i], 1);
    }
}

static void more_processes_than_events_leave_some_without(void **state)
{
    (void)state;
    assert_int_equal(share_of((struct share){.index = 0, .count = 5}, 2), 1);
    assert_int_equal(share_of((struct share){.index = 1, .count = 5}, 2), 1);
    assert_int_equal(share_of((struct share){.index = 2, .count = 5}, 2), 0);
    assert_int_equal(share_of((struct share){.index = 4, .count = 5}, 0), 0);
}

static void events_without_a_period_are_all_due_at_once(void **state)
{
    (void)state;
    struct pace pace;
    uint64_t intended_us = 0;
    unsigned taken = 0;
    pace_init_share(&pace, 100, 0, 50, 50, (struct share){.index = 0, .count = 1});
    assert_false(pace_take(&pace, 99, &intended_us));
    while (pace_take(&pace, 100, &intended_us)) {
        taken++;
    }
    assert_int_equal(taken, 50);
}

static void a_stopped_pace_hands_out_nothing(void **state)
{
    (void)state;
    struct pace pace;
    uint64_t intended_us = 0;
    pace_init(&pace, 0, 10, PACE_ENDLESS);
    assert_true(pace_take(&pace, 0, &intended_us));
    pace_stop(&pace);
    assert_true(pace_finished(&pace));
    assert_false(pace_take(&pace, UINT64_MAX, &intended_us));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_due_before_its_time),
        cmocka_unit_test(a_late_event_keeps_its_intended_time_and_delays_no_other),
        cmocka_unit_test(a_rate_that_divides_no_second_does_not_drift),
        cmocka_unit_test(an_empty_schedule_is_finished_at_once),
        cmocka_unit_test(processes_that_divide_a_schedule_take_every_event_once),
        cmocka_unit_test(more_processes_than_events_leave_some_without),
        cmocka_unit_test(events_without_a_period_are_all_due_at_once),
        cmocka_unit_test(a_stopped_pace_hands_out_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
