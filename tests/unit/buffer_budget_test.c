/* The budget of buffers: levels, what windows may have, and who is ended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mux/buffer_budget.h"

#define HOLDERS 40U
#define LIMIT   1600U

/* Whoever holds something of a budget. */
struct holders {
    struct buffer_budget budget;
    struct scheduler scheduler;
    uint64_t held[HOLDERS];
    bool marked[HOLDERS];
    unsigned moves;
    unsigned marks;
};

static void on_moved(void *owner, enum buffer_level from, enum buffer_level to)
{
    struct holders *holders = owner;
    assert_int_not_equal(from, to);
    holders->moves++;
}

static void on_mark(void *owner)
{
    struct holders *holders = owner;
    holders->marks++;
    for (unsigned i = 0; i < HOLDERS; i++) {
        holders->marked[i] = true;
    }
}

static void hold(struct holders *holders, unsigned i, uint64_t bytes)
{
    uint64_t before = holders->held[i];
    holders->held[i] = bytes;
    holders->marked[i] = false;
    buffer_budget_change(&holders->budget, before, bytes);
}

static bool on_shed(void *owner, bool any)
{
    struct holders *holders = owner;
    unsigned largest = HOLDERS;
    for (unsigned i = 0; i < HOLDERS; i++) {
        uint64_t most = largest < HOLDERS ? holders->held[largest] : 0;
        if ((any || holders->marked[i]) && holders->held[i] > most) {
            largest = i;
        }
    }
    if (largest == HOLDERS) {
        return false;
    }
    hold(holders, largest, 0);
    return true;
}

static const struct buffer_events events = {.moved = on_moved, .mark = on_mark, .shed = on_shed};

static void begin(struct holders *holders)
{
    *holders = (struct holders){0};
    scheduler_init(&holders->scheduler, 1000000);
    buffer_budget_init(&holders->budget, LIMIT, &holders->scheduler, &events, holders);
}

static void end(struct holders *holders)
{
    for (unsigned i = 0; i < HOLDERS; i++) {
        hold(holders, i, 0);
    }
    assert_int_equal(holders->budget.charged_bytes, 0);
    assert_int_equal(holders->budget.level, BUFFER_AMPLE);
    buffer_budget_dispose(&holders->budget);
    assert_int_equal(scheduler_wait_ms(&holders->scheduler), -1);
}

static void pass(struct holders *holders, uint64_t ms)
{
    scheduler_advance(&holders->scheduler, holders->scheduler.now_us + ms * 1000U);
    scheduler_run_tasks(&holders->scheduler);
}

static void levels_follow_what_is_held_and_do_not_flap(void **state)
{
    (void)state;
    static const struct {
        uint64_t held;
        enum buffer_level level;
    } steps[] = {
        {799, BUFFER_AMPLE}, {800, BUFFER_SCARCE}, {701, BUFFER_SCARCE},  {699, BUFFER_AMPLE}, {1199, BUFFER_SCARCE},
        {1200, BUFFER_SHUT}, {1101, BUFFER_SHUT},  {1099, BUFFER_SCARCE}, {1600, BUFFER_OVER}, {1501, BUFFER_OVER},
        {1499, BUFFER_SHUT}, {0, BUFFER_AMPLE},    {5000, BUFFER_OVER},   {0, BUFFER_AMPLE},
    };
    struct holders holders;
    begin(&holders);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        hold(&holders, 0, steps[i].held);
        assert_int_equal(holders.budget.level, steps[i].level);
    }
    assert_int_equal(holders.budget.entered[BUFFER_OVER], 2);
    assert_int_equal(holders.budget.peak_bytes, 5000);
    end(&holders);
}

static void windows_leave_something_for_whoever_comes_next(void **state)
{
    (void)state;
    struct holders holders;
    begin(&holders);
    for (unsigned round = 0; round < 1000; round++) {
        for (unsigned i = 0; i < HOLDERS; i++) {
            hold(&holders, i, buffer_budget_allowance(&holders.budget, holders.held[i]));
            assert_true(holders.budget.charged_bytes <= LIMIT / 2);
            assert_int_equal(holders.budget.level, BUFFER_AMPLE);
        }
    }
    /* Nobody has much more than another, as each gives back what is above its share. */
    uint64_t least = LIMIT, most = 0;
    for (unsigned i = 0; i < HOLDERS; i++) {
        least = holders.held[i] < least ? holders.held[i] : least;
        most = holders.held[i] > most ? holders.held[i] : most;
    }
    assert_true(least > 0);
    assert_true(most <= 2 * least + 2);
    hold(&holders, 0, LIMIT);
    assert_int_equal(buffer_budget_allowance(&holders.budget, holders.held[1]), 0);
    end(&holders);
}

static void the_largest_that_takes_nothing_is_ended_first(void **state)
{
    (void)state;
    struct holders holders;
    begin(&holders);
    hold(&holders, 0, 900);
    hold(&holders, 1, 400);
    hold(&holders, 2, 200);
    hold(&holders, 3, 200);
    assert_int_equal(holders.marks, 1);
    pass(&holders, BUFFER_RELIEF_MS - 1);
    hold(&holders, 0, 899); /* it takes what is there */
    pass(&holders, 2);
    assert_int_equal(holders.held[1], 0);
    assert_int_equal(holders.held[0], 899);
    assert_int_equal(holders.held[2], 200);
    assert_int_equal(holders.budget.shed, 1);
    assert_int_equal(holders.budget.level, BUFFER_SHUT);
    /* Enough for now. */
    pass(&holders, 10 * BUFFER_RELIEF_MS);
    assert_int_equal(holders.budget.shed, 1);
    end(&holders);
}

/* A byte now and then does not keep the limit from holding. */
static void without_stalled_ones_the_largest_of_all_is_ended(void **state)
{
    (void)state;
    struct holders holders;
    begin(&holders);
    hold(&holders, 0, 1000);
    hold(&holders, 1, 700);
    pass(&holders, BUFFER_RELIEF_MS - 1);
    hold(&holders, 0, 999);
    hold(&holders, 1, 699);
    pass(&holders, 2);
    assert_int_equal(holders.held[0], 0);
    assert_int_equal(holders.held[1], 699);
    end(&holders);
}

static void many_are_ended_in_turns_until_there_is_room(void **state)
{
    (void)state;
    struct holders holders;
    begin(&holders);
    for (unsigned i = 0; i < HOLDERS; i++) {
        hold(&holders, i, 100);
    }
    pass(&holders, BUFFER_RELIEF_MS + 1);
    assert_int_equal(holders.budget.shed, BUFFER_SHEDS_PER_RELIEF);
    assert_int_equal(holders.budget.level, BUFFER_OVER);
    pass(&holders, BUFFER_RELIEF_MS + 1);
    assert_int_equal(holders.budget.level, BUFFER_SHUT);
    assert_true(holders.budget.charged_bytes < LIMIT);
    assert_true(holders.budget.charged_bytes >= LIMIT - LIMIT / 16 - 100);
    end(&holders);
}

static void no_budget_is_no_limit(void **state)
{
    (void)state;
    buffer_budget_change(NULL, 0, UINT64_MAX);
    assert_int_equal(buffer_budget_level(NULL), BUFFER_AMPLE);
    assert_true(buffer_budget_allowance(NULL, 7) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_follow_what_is_held_and_do_not_flap),
        cmocka_unit_test(windows_leave_something_for_whoever_comes_next),
        cmocka_unit_test(the_largest_that_takes_nothing_is_ended_first),
        cmocka_unit_test(without_stalled_ones_the_largest_of_all_is_ended),
        cmocka_unit_test(many_are_ended_in_turns_until_there_is_room),
        cmocka_unit_test(no_budget_is_no_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
