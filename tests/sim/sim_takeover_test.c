/*
 * Edges that are taken over by other processes, now and then, under virtual time: a program of its own beside
 * sim_test.c, and like that one. The process is the tests'. One thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/sim_expect.h"
#include "tests/sim/sim_plan.h"
#include "tests/sim/sim_run.h"
#include "tests/sim/sim_world.h"

#define MINUTE     (60 * SIM_SECOND)
#define CLIENTS    8U
#define BYTES_MOST 150000U

/* Too large for the stack; one at a time. */
static struct sim_world world;
static struct random_state chance;

static void add_clients(void)
{
    struct sim_plan plan;

    for (size_t i = 0; i < CLIENTS; i++) {
        if (sim_chance(&chance, 2)) {
            sim_plan_draw_echo(&plan, &chance, BYTES_MOST);
        } else {
            sim_plan_draw_script(&plan, &chance, BYTES_MOST);
        }
        sim_world_add(&world, &plan);
    }
}

/* Now and then another process takes over from an edge, or fails to; trunks are lost besides. Whoever is connected
 * notices nothing. */
static bool takeovers(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;

    random_seed(&chance, seed);
    sim_settings_draw(&settings, &chance);
    settings.resume = true;
    if (sim_world_init(&world, seed, &settings) != ERROR_NONE) {
        sim_fail(&world.net, "the engines cannot be made");
    }
    add_clients();
    for (unsigned i = 0; i < SIM_TAKEOVERS_MAX && world.net.failures == 0; i++) {
        sim_world_run(&world, random_below(&chance, SIM_SECOND));
        if (!sim_world_take_over(&world, random_below(&chance, world.places), sim_chance(&chance, 3))) {
            sim_fail(&world.net, "a takeover was not possible");
        }
        if (sim_chance(&chance, 4)) {
            sim_world_break_trunks(&world, SIM_FAULT_RESET);
        }
    }
    if (sim_world_run_clients(&world, 10 * MINUTE)) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; i < world.client_count; i++) {
            sim_expect_complete(world.clients[i]);
        }
        sim_world_expect_service(&world);
    }
    bool good = sim_world_finish(&world);
    report->traffic_hash = world.net.traffic_hash;
    report->traffic_bytes = world.net.traffic_bytes;
    return good;
}

static void sessions_outlive_the_process_of_their_edge(void **state)
{
    (void)state;
    assert_int_equal(sim_run_seeds("sessions_outlive_the_process_of_their_edge", takeovers, 200), 0);
}

static int group_setup(void **state)
{
    (void)state;
    sim_run_prepare();
    return sim_world_prepare() ? 0 : -1;
}

static int group_teardown(void **state)
{
    (void)state;
    sim_world_unprepare();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_outlive_the_process_of_their_edge),
    };

    cmocka_set_test_filter(getenv("TRUNKLINE_SIM_TEST"));
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
