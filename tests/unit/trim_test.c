/* When memory is given back: after a crowd has left, once, and at no other time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mux/trim.h"

static struct scheduler scheduler;
static struct trim trim;
static size_t here;
static uint64_t handshakes;

static int start(void **state)
{
    (void)state;
    here = 0;
    handshakes = 0;
    scheduler_init(&scheduler, 0);
    trim_init(&trim, &scheduler, &here, &handshakes);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    trim_dispose(&trim);
    assert_int_equal(scheduler.timers.armed, 0);
    return 0;
}

static void wait_intervals(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        scheduler_advance(&scheduler, scheduler.now_us + TRIM_INTERVAL_MS * 1000U);
    }
}

static void arrive(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        here++;
        trim_note(&trim);
    }
}

static void a_few_cost_no_timer(void **state)
{
    (void)state;
    arrive(TRIM_CROWD_MIN - 1);
    assert_false(timer_armed(&trim.timer));
}

static void a_crowd_that_stays_is_left_alone(void **state)
{
    (void)state;
    arrive(5000);
    wait_intervals(3);
    assert_int_equal(trim.peak, 5000);
    here = 2600; /* fewer have left than are still here */
    wait_intervals(1);
    assert_int_equal(trim.peak, 5000);
    assert_true(timer_armed(&trim.timer));
}

static void memory_goes_back_once_the_crowd_has_left(void **state)
{
    (void)state;
    arrive(5000);
    here = 10;
    wait_intervals(1);
    assert_int_equal(trim.peak, 10);
    assert_false(timer_armed(&trim.timer));
    arrive(5000);
    assert_true(timer_armed(&trim.timer));
}

static void what_handshakes_leave_goes_back_once_they_are_over(void **state)
{
    (void)state;
    for (unsigned i = 0; i < TRIM_CHURN_MIN; i++) {
        handshakes++;
        arrive(1);
        here--;
    }
    assert_true(timer_armed(&trim.timer));
    wait_intervals(1); /* the burst may go on */
    assert_int_equal(trim.churn_trimmed, 0);
    handshakes += TRIM_CHURN_QUIET;
    wait_intervals(1);
    assert_int_equal(trim.churn_trimmed, 0);
    wait_intervals(1);
    assert_int_equal(trim.churn_trimmed, handshakes);
    assert_false(timer_armed(&trim.timer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_few_cost_no_timer, start, stop),
        cmocka_unit_test_setup_teardown(a_crowd_that_stays_is_left_alone, start, stop),
        cmocka_unit_test_setup_teardown(memory_goes_back_once_the_crowd_has_left, start, stop),
        cmocka_unit_test_setup_teardown(what_handshakes_leave_goes_back_once_they_are_over, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
