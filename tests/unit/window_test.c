/* How large a window should be: against a model of a path and a consumer, under virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "mux/window.h"

#define START 16384U
#define MOST  8388608U

static struct window_limits limits_of(uint64_t round_trip_us)
{
    return (struct window_limits){
        .start_bytes = START,
        .max_bytes = MOST,
        .gain_percent = 200,
        .slack = 4,
        .round_trip_us = round_trip_us,
        .allowance_bytes = UINT64_MAX,
        .level = BUFFER_AMPLE,
    };
}

/* A sender that always has more, on a path of so many bytes a second: in each round trip it sends its window, or what
 * the path carries. The consumer takes all, in pieces. Returns the size after so many round trips. */
static uint32_t run_rounds(struct window *window, const struct window_limits *limits, uint64_t bytes_per_second,
                           unsigned rounds, uint64_t *now_us)
{
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t carried = bytes_per_second * limits->round_trip_us / 1000000U;
        uint64_t sent = window->size_bytes < carried ? window->size_bytes : carried;
        for (unsigned piece = 0; piece < 8; piece++) {
            *now_us += limits->round_trip_us / 8U;
            window_consume(window, limits, *now_us, (uint32_t)(sent / 8U), 0);
            window->size_bytes = window->target_bytes; /* told at once */
        }
    }
    return window->size_bytes;
}

static void a_window_doubles_until_the_path_is_full_and_stays(void **state)
{
    (void)state;
    static const uint64_t rates[] = {1000000, 12500000, 50000000};
    static const uint64_t trips[] = {20000, 80000, 150000};
    for (size_t i = 0; i < 9; i++) {
        struct window window;
        uint64_t now_us = 1000000;
        struct window_limits limits = limits_of(trips[i % 3]);
        uint64_t product = rates[i / 3] * trips[i % 3] / 1000000U;
        window_init(&window, START, now_us);
        uint32_t size = run_rounds(&window, &limits, rates[i / 3], 12, &now_us);
        uint64_t least = product < MOST ? product : MOST;
        /* Large enough that the path is what holds the sender up, and not a multiple of that. */
        assert_true(size >= least);
        assert_true(size <= 2U * product + START + WINDOW_STEP_BYTES || size == START);
        for (unsigned round = 0; round < 50; round++) {
            assert_true(run_rounds(&window, &limits, rates[i / 3], 1, &now_us) >= least);
        }
    }
}

/* An autotuner that compares times with a fixed number of round trips stops at twice its first window. */
static void no_size_is_one_where_growth_stops(void **state)
{
    (void)state;
    for (uint32_t size = START; size < MOST; size += 250000U) {
        struct window window;
        uint64_t now_us = 1000000;
        struct window_limits limits = limits_of(80000);
        window_init(&window, size, now_us);
        uint32_t later = run_rounds(&window, &limits, 1000000000, 2, &now_us);
        assert_true(later > size || later == MOST);
    }
}

/* The path takes longer under load than a PING said, so the bytes of a window come in bursts with pauses between. */
static void bursts_do_not_hide_that_a_window_is_too_small(void **state)
{
    (void)state;
    for (uint64_t late_us = 0; late_us < 75000; late_us += 5000) {
        struct window window;
        uint64_t now_us = 1000000;
        struct window_limits limits = limits_of(80000);
        limits.gain_percent = 130;
        limits.slack = 2;
        window_init(&window, 1048576, now_us);
        for (unsigned round = 0; round < 30; round++) {
            /* All but a sixteenth of a window, which waits for its WINDOW_UPDATE. */
            uint32_t burst = window.size_bytes - window.size_bytes / 16U;
            now_us += limits.round_trip_us + late_us;
            window_consume(&window, &limits, now_us, burst, 0);
            window.size_bytes = window.target_bytes;
        }
        assert_int_equal(window.size_bytes, MOST);
    }
}

static void a_consumer_that_does_not_keep_up_gets_no_larger_window(void **state)
{
    (void)state;
    struct window window;
    uint64_t now_us = 1000000;
    struct window_limits limits = limits_of(80000);
    window_init(&window, START, now_us);
    for (unsigned i = 0; i < 100; i++) {
        now_us += 10000;
        window_consume(&window, &limits, now_us, START / 8U, START - START / 8U);
        assert_int_equal(window.target_bytes, START);
    }
}

static void a_slow_session_keeps_its_first_window(void **state)
{
    (void)state;
    struct window window;
    uint64_t now_us = 1000000;
    struct window_limits limits = limits_of(80000);
    window_init(&window, START, now_us);
    for (unsigned i = 0; i < 100; i++) {
        now_us += 100000;
        window_consume(&window, &limits, now_us, 300, 0);
        assert_int_equal(window.target_bytes, START);
    }
}

static void a_window_that_is_not_used_shrinks_to_its_start(void **state)
{
    (void)state;
    for (unsigned paused = 0; paused < 2; paused++) {
        struct window window;
        uint64_t now_us = 1000000;
        struct window_limits limits = limits_of(80000);
        window_init(&window, 1000000, now_us);
        for (unsigned i = 0; i < 20; i++) {
            now_us += paused ? 5000000 : 80000;
            window_consume(&window, &limits, now_us, 1000, 0);
            window.size_bytes = window.target_bytes;
        }
        assert_int_equal(window.size_bytes, START);
    }
}

static void memory_bounds_a_window_whatever_it_could_use(void **state)
{
    (void)state;
    struct window window;
    uint64_t now_us = 1000000;
    struct window_limits limits = limits_of(80000);
    limits.allowance_bytes = 500000;
    window_init(&window, START, now_us);
    uint32_t size = run_rounds(&window, &limits, 1000000000, 20, &now_us);
    assert_true(size <= START + 500000U);
    assert_true(size > START + 500000U - WINDOW_STEP_BYTES);

    /* SCARCE: half in each round, at most; beyond that at once. */
    limits.level = BUFFER_SCARCE;
    limits.allowance_bytes = 0;
    assert_int_equal(run_rounds(&window, &limits, 1000000000, 1, &now_us), size / 2U);
    assert_int_equal(run_rounds(&window, &limits, 1000000000, 20, &now_us), START);
    limits = limits_of(80000);
    assert_true(run_rounds(&window, &limits, 1000000000, 20, &now_us) == MOST);
    limits.level = BUFFER_SHUT;
    limits.allowance_bytes = 0;
    assert_int_equal(run_rounds(&window, &limits, 1000000000, 1, &now_us), START);
}

/* Round trips of nothing would make every read a round. */
static void a_round_has_a_least_length(void **state)
{
    (void)state;
    struct window window;
    uint64_t now_us = 1000000;
    struct window_limits limits = limits_of(1);
    window_init(&window, START, now_us);
    for (unsigned i = 0; i < WINDOW_ROUND_LEAST_US - 1U; i++) {
        window_consume(&window, &limits, ++now_us, 16, 0);
        assert_int_equal(window.target_bytes, START);
    }
    window_consume(&window, &limits, ++now_us, 16, 0);
    assert_true(window.target_bytes > START);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_doubles_until_the_path_is_full_and_stays),
        cmocka_unit_test(no_size_is_one_where_growth_stops),
        cmocka_unit_test(bursts_do_not_hide_that_a_window_is_too_small),
        cmocka_unit_test(a_consumer_that_does_not_keep_up_gets_no_larger_window),
        cmocka_unit_test(a_slow_session_keeps_its_first_window),
        cmocka_unit_test(a_window_that_is_not_used_shrinks_to_its_start),
        cmocka_unit_test(memory_bounds_a_window_whatever_it_could_use),
        cmocka_unit_test(a_round_has_a_least_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
