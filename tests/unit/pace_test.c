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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_due_before_its_time),
        cmocka_unit_test(a_late_event_keeps_its_intended_time_and_delays_no_other),
        cmocka_unit_test(a_rate_that_divides_no_second_does_not_drift),
        cmocka_unit_test(an_empty_schedule_is_finished_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
