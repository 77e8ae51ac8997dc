/*
 * What the programs of scenarios share: the world, its generator, and how a scenario begins and ends. Each program
 * includes it once. One thread.
 */
#ifndef TESTS_SIM_SCENARIO_H
#define TESTS_SIM_SCENARIO_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mux/memory.h"
#include "tests/sim/sim_expect.h"
#include "tests/sim/sim_plan.h"
#include "tests/sim/sim_run.h"
#include "tests/sim/sim_world.h"

/* Sanitizers make each run four times as long. */
#ifdef TRUNKLINE_SANITIZED
#define EVERY_FAULT 3U
#else
#define EVERY_FAULT 1U
#endif

#define MINUTE (60 * SIM_SECOND)

/* Too large for the stack; one at a time. */
static struct sim_world world;
static struct random_state chance;

/* Draws the settings from the seed. */
static inline void world_begin_drawn(uint64_t seed, struct sim_settings *settings)
{
    random_seed(&chance, seed);
    sim_settings_draw(settings, &chance);
}

static inline void world_begin_calm(uint64_t seed, struct sim_settings *settings)
{
    random_seed(&chance, seed);
    sim_settings_init(settings);
}

static inline void world_make(uint64_t seed, const struct sim_settings *settings)
{
    if (sim_world_init(&world, seed, settings) != ERROR_NONE) {
        sim_fail(&world.net, "the engines cannot be made");
    }
}

static inline bool world_end(struct sim_report *report)
{
    bool good = sim_world_finish(&world);

    report->traffic_hash = world.net.traffic_hash;
    report->traffic_bytes = world.net.traffic_bytes;
    return good;
}

/* Clients that send and receive for a while. */
static inline void add_long_clients(size_t count)
{
    struct sim_plan plan;

    for (size_t i = 0; i < count; i++) {
        if (sim_chance(&chance, 2)) {
            sim_plan_draw_echo(&plan, &chance, 150000);
        } else {
            sim_plan_draw_script(&plan, &chance, 150000);
        }
        sim_world_add(&world, &plan);
    }
}

/* A test for a scenario of its own name. */
#define SCENARIO_TEST(test_, scenario_, seeds_)                                                                        \
    static void test_(void **state)                                                                                    \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        assert_int_equal(sim_run_seeds(#test_, (scenario_), (seeds_)), 0);                                             \
    }

static uint64_t fault_at; /* the allocation that fails: read by the child */

/* Runs the scenario again and again, failing one allocation after the other, until none fails. */
static inline void fail_each(sim_scenario_fn *scenario)
{
    struct sim_report report = {.faults = 1};
    uint64_t runs = 0;

    /* Each of the first, then fewer and fewer of the many that come later and resemble each other. */
    for (fault_at = 1; report.faults > 0; fault_at += EVERY_FAULT * (1 + fault_at / 400)) {
        if (!sim_run_once(scenario, 1, &report)) {
            fail_msg("failed when allocation %llu did", (unsigned long long)fault_at);
        }
        runs++;
    }
    print_message("%llu runs, the last with no fault within %llu allocations\n", (unsigned long long)runs,
                  (unsigned long long)fault_at);
    assert_true(runs > 50);
}

static inline int group_setup(void **state)
{
    (void)state;
    sim_run_prepare();
    return sim_world_prepare() ? 0 : -1;
}

static inline int group_teardown(void **state)
{
    (void)state;
    sim_world_unprepare();
    return 0;
}

#endif
