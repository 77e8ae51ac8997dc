/* Tests of mux/timer.c: named cases, and random runs against a model that is a plain array. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "mux/clock.h"
#include "mux/memory.h"
#include "mux/timer.h"

#define SPAN_MS      (UINT64_C(1) << 36)
#define MODEL_TIMERS 60U

static struct timers wheel;

struct probe {
    struct timer timer;
    unsigned fired;
    uint64_t rearm_ms;    /* absolute; 0: not */
    struct probe *victim; /* cancelled by this one */
};

static struct probe *fired_order[256];
static size_t fired_count;

static void probe_fire(struct timer *timer)
{
    struct probe *probe = container_of(timer, struct probe, timer);
    assert_false(timer_armed(timer));
    probe->fired++;
    assert_true(fired_count < 256);
    fired_order[fired_count++] = probe;
    if (probe->rearm_ms != 0) {
        timers_arm(&wheel, timer, probe->rearm_ms);
    }
    if (probe->victim != NULL) {
        timers_cancel(&wheel, &probe->victim->timer);
    }
}

static void probe_init(struct probe *probe)
{
    memset(probe, 0, sizeof(*probe));
    timer_init(&probe->timer, probe_fire);
}

static int reset(void **state)
{
    (void)state;
    fired_count = 0;
    timers_init(&wheel, 1000);
    return 0;
}

static void an_empty_wheel_has_no_next_time(void **state)
{
    (void)state;
    assert_true(timers_next(&wheel) == TIMER_NONE);
    timers_advance(&wheel, UINT64_C(1) << 50);
    assert_true(timers_next(&wheel) == TIMER_NONE);
    assert_int_equal(wheel.armed, 0);
}

static void a_timer_fires_at_its_deadline_and_not_before(void **state)
{
    (void)state;
    const uint64_t delays[] = {1, 63, 64, 65, 4095, 4096, 10000, 262143, 262144, 86400000, UINT64_C(1) << 34};
    for (size_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
        struct probe probe;
        probe_init(&probe);
        uint64_t deadline = wheel.now_ms + delays[i];
        timers_arm(&wheel, &probe.timer, deadline);
        assert_true(timers_next(&wheel) <= deadline);
        timers_advance(&wheel, deadline - 1);
        assert_int_equal(probe.fired, 0);
        assert_true(timers_next(&wheel) <= deadline);
        timers_advance(&wheel, deadline);
        assert_int_equal(probe.fired, 1);
        assert_int_equal(wheel.armed, 0);
    }
}

static void a_deadline_that_has_passed_fires_at_the_next_call(void **state)
{
    (void)state;
    struct probe probe;
    probe_init(&probe);
    timers_arm(&wheel, &probe.timer, 5);
    assert_int_equal(probe.fired, 0);
    assert_int_equal(timers_next(&wheel), 1000);
    timers_advance(&wheel, 1000);
    assert_int_equal(probe.fired, 1);
}

static void a_timer_that_arms_itself_for_now_waits_for_the_next_call(void **state)
{
    (void)state;
    struct probe probe;
    probe_init(&probe);
    probe.rearm_ms = 1; /* always in the past */
    timers_arm(&wheel, &probe.timer, 1001);
    timers_advance(&wheel, 2000);
    assert_int_equal(probe.fired, 1);
    assert_true(timer_armed(&probe.timer));
    timers_advance(&wheel, 2000);
    assert_int_equal(probe.fired, 2);
    timers_cancel(&wheel, &probe.timer);
    timers_advance(&wheel, 3000);
    assert_int_equal(probe.fired, 2);
}

static void a_timer_may_cancel_one_that_is_due_with_it(void **state)
{
    (void)state;
    struct probe first;
    struct probe second;
    probe_init(&first);
    probe_init(&second);
    first.victim = &second;
    timers_arm(&wheel, &first.timer, 1500);
    timers_arm(&wheel, &second.timer, 1500);
    timers_advance(&wheel, 1600);
    assert_int_equal(first.fired, 1);
    assert_int_equal(second.fired, 0);
    assert_false(timer_armed(&second.timer));
    assert_int_equal(wheel.armed, 0);
    assert_true(timers_next(&wheel) == TIMER_NONE);
}

static void ties_fire_in_the_order_of_arming(void **state)
{
    (void)state;
    struct probe probes[6];
    /* Some are armed from far away, and come down the levels; some when the deadline is near. */
    for (size_t i = 0; i < 6; i++) {
        probe_init(&probes[i]);
        timers_arm(&wheel, &probes[i].timer, 300000);
        timers_advance(&wheel, 300000 - (UINT64_C(200000) >> (3 * i)));
    }
    assert_int_equal(fired_count, 0);
    timers_advance(&wheel, 300000);
    assert_int_equal(fired_count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_ptr_equal(fired_order[i], &probes[i]);
    }
}

static void arming_again_moves_a_timer(void **state)
{
    (void)state;
    struct probe probe;
    probe_init(&probe);
    timers_arm(&wheel, &probe.timer, 1100);
    timers_arm(&wheel, &probe.timer, 9000);
    assert_int_equal(wheel.armed, 1);
    timers_advance(&wheel, 8999);
    assert_int_equal(probe.fired, 0);
    timers_arm(&wheel, &probe.timer, 9500);
    timers_advance(&wheel, 9499);
    assert_int_equal(probe.fired, 0);
    timers_advance(&wheel, 9500);
    assert_int_equal(probe.fired, 1);
}

static void cancelling_twice_does_no_harm(void **state)
{
    (void)state;
    struct probe probe;
    probe_init(&probe);
    timers_cancel(&wheel, &probe.timer);
    timers_arm(&wheel, &probe.timer, 5000);
    timers_cancel(&wheel, &probe.timer);
    timers_cancel(&wheel, &probe.timer);
    assert_int_equal(wheel.armed, 0);
    assert_true(timers_next(&wheel) == TIMER_NONE);
}

static void time_never_runs_back(void **state)
{
    (void)state;
    struct probe probe;
    probe_init(&probe);
    timers_advance(&wheel, 5000);
    timers_advance(&wheel, 10);
    assert_int_equal(wheel.now_ms, 5000);
    timers_arm(&wheel, &probe.timer, 4000);
    timers_advance(&wheel, 4500);
    assert_int_equal(probe.fired, 1);
}

static void a_delay_beyond_the_span_is_cut(void **state)
{
    (void)state;
    struct probe probe;
    probe_init(&probe);
    timers_arm(&wheel, &probe.timer, UINT64_MAX);
    assert_true(probe.timer.deadline_ms > SPAN_MS - (SPAN_MS >> 5));
    timers_advance(&wheel, probe.timer.deadline_ms - 1);
    assert_int_equal(probe.fired, 0);
    timers_advance(&wheel, probe.timer.deadline_ms);
    assert_int_equal(probe.fired, 1);
}

struct model_entry {
    struct timer timer;
    uint64_t deadline_ms;
    uint64_t order;
    bool armed;
};

static struct model_entry model[MODEL_TIMERS];
static uint64_t model_now_ms;
static uint64_t model_order;

static void model_arm(struct model_entry *entry, uint64_t deadline_ms)
{
    timers_arm(&wheel, &entry->timer, deadline_ms);
    entry->deadline_ms = deadline_ms > model_now_ms ? deadline_ms : model_now_ms;
    entry->order = model_order++;
    entry->armed = true;
}

static struct model_entry *model_earliest(void)
{
    struct model_entry *earliest = NULL;
    for (size_t i = 0; i < MODEL_TIMERS; i++) {
        struct model_entry *entry = &model[i];
        if (entry->armed && (earliest == NULL || entry->deadline_ms < earliest->deadline_ms ||
                             (entry->deadline_ms == earliest->deadline_ms && entry->order < earliest->order))) {
            earliest = entry;
        }
    }
    return earliest;
}

static void model_fire(struct timer *timer)
{
    struct model_entry *entry = container_of(timer, struct model_entry, timer);
    assert_ptr_equal(entry, model_earliest());
    assert_true(entry->deadline_ms <= model_now_ms);
    entry->armed = false;
}

static uint64_t random_delay(struct random_state *random)
{
    return random_next(random) >> (28 + random_below(random, 36));
}

static void model_step(struct random_state *random)
{
    struct model_entry *entry = &model[random_below(random, MODEL_TIMERS)];
    switch (random_below(random, 8)) {
    case 0:
        timers_cancel(&wheel, &entry->timer);
        entry->armed = false;
        break;
    case 1: {
        uint64_t back = random_delay(random);
        model_arm(entry, back < model_now_ms ? model_now_ms - back : 0);
        break;
    }
    case 2:
    case 3: {
        uint64_t next_ms = timers_next(&wheel);
        bool to_next = next_ms != TIMER_NONE && next_ms > model_now_ms && random_below(random, 2) == 0;
        model_now_ms = to_next ? next_ms : model_now_ms + (random_delay(random) >> random_below(random, 20));
        timers_advance(&wheel, model_now_ms);
        break;
    }
    default: {
        uint64_t delay = random_delay(random);
        /* Below the cut, which has a test of its own. */
        model_arm(entry, model_now_ms + (delay < SPAN_MS - (SPAN_MS >> 5) ? delay : delay % 1000));
        break;
    }
    }
}

static void the_wheel_agrees_with_a_naive_model(void **state)
{
    (void)state;
    uint64_t first_seed = clock_monotonic_us();
    print_message("seeds from %llu\n", (unsigned long long)first_seed);
    for (uint64_t round = 0; round < 100; round++) {
        struct random_state random;
        random_seed(&random, first_seed + round);
        /* Some rounds start shortly before the top level's circle closes. */
        model_now_ms = round % 2 == 0 ? random_next(&random) >> 20 : SPAN_MS - random_below(&random, 100000);
        timers_init(&wheel, model_now_ms);
        for (size_t i = 0; i < MODEL_TIMERS; i++) {
            timer_init(&model[i].timer, model_fire);
            model[i].armed = false;
        }
        for (int step = 0; step < 2000; step++) {
            model_step(&random);
            size_t armed = 0;
            for (size_t i = 0; i < MODEL_TIMERS; i++) {
                assert_int_equal(timer_armed(&model[i].timer), model[i].armed);
                armed += model[i].armed;
            }
            assert_int_equal(wheel.armed, armed);
            const struct model_entry *earliest = model_earliest();
            uint64_t next_ms = timers_next(&wheel);
            if (earliest == NULL) {
                assert_true(next_ms == TIMER_NONE);
            } else {
                assert_true(next_ms <= earliest->deadline_ms && next_ms >= model_now_ms);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_empty_wheel_has_no_next_time, reset),
        cmocka_unit_test_setup(a_timer_fires_at_its_deadline_and_not_before, reset),
        cmocka_unit_test_setup(a_deadline_that_has_passed_fires_at_the_next_call, reset),
        cmocka_unit_test_setup(a_timer_that_arms_itself_for_now_waits_for_the_next_call, reset),
        cmocka_unit_test_setup(a_timer_may_cancel_one_that_is_due_with_it, reset),
        cmocka_unit_test_setup(ties_fire_in_the_order_of_arming, reset),
        cmocka_unit_test_setup(arming_again_moves_a_timer, reset),
        cmocka_unit_test_setup(cancelling_twice_does_no_harm, reset),
        cmocka_unit_test_setup(time_never_runs_back, reset),
        cmocka_unit_test_setup(a_delay_beyond_the_span_is_cut, reset),
        cmocka_unit_test_setup(the_wheel_agrees_with_a_naive_model, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
