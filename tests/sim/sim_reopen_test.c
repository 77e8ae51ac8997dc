/*
 * Sessions that outlive their core, in whole installations: cores are killed at any moment and started again, or others
 * take over, and every byte arrives once and in order, from one handler after the other.
 */
#include "tests/sim/sim_scenario.h"

#include <string.h>

#include "mux/limits.h"

/* Either echoes, or both sides send; the core ends last, as a session whose core has ended is not opened again. */
static void add_clients(size_t count)
{
    struct sim_plan plan;

    for (size_t i = 0; i < count; i++) {
        if (sim_chance(&chance, 4)) {
            sim_plan_draw_echo(&plan, &chance, 150000);
        } else {
            sim_plan_draw_script(&plan, &chance, 150000);
            plan.ends = sim_chance(&chance, 2) ? SIM_ENDS_AFTER_SENDING : SIM_ENDS_AFTER_RECEIVING;
            plan.core_ends = SIM_ENDS_AFTER_PEER;
        }
        sim_world_add(&world, &plan);
    }
}

/* Who waits for the first answer does so for its own time only, however often its core is killed meanwhile. */
static bool unanswered(const struct sim_client *client)
{
    return client->outcome == SIM_OUTCOME_ALERT && client->received == 0 && client->core_received == 0 &&
           client->over_us - client->plan.start_us > TIMEOUT_OPEN_MS * 1000U;
}

/* An echo has no copy of bytes that it gave up and whose way back was cut off: it says so. */
static void expect_complete(const struct sim_client *client)
{
    if (unanswered(client)) {
        return;
    }
    if (strcmp(client->plan.service, "echo") == 0 && client->core_reason == TRUNKLINE_REASON_REFUSED) {
        sim_expect_not_clean(client);
    } else {
        sim_expect_complete(client);
    }
}

static void expect_all(void)
{
    if (!sim_world_run_clients(&world, 10 * MINUTE)) {
        return;
    }
    sim_world_expect_idle(&world);
    for (size_t i = 0; i < world.client_count; i++) {
        expect_complete(world.clients[i]);
    }
    if (sim_world_run_trunks(&world, MINUTE)) {
        sim_world_expect_service(&world);
    }
}

static void start_core(size_t core)
{
    if (sim_world_start_core(&world, core) != ERROR_NONE) {
        sim_fail(&world.net, "core %zu cannot be made again", core);
    }
}

/* One core, or all, killed and started again a while later: at once, or after so long that another core is asked. */
static bool cores_killed(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;

    world_begin_drawn(seed, &settings);
    settings.resume = settings.reopen = true;
    world_make(seed, &settings);
    add_clients(6);
    for (unsigned i = 0; i < 5 && world.net.failures == 0; i++) {
        bool all = sim_chance(&chance, 3);
        size_t chosen = (size_t)random_below(&chance, settings.cores);
        sim_world_run(&world, random_below(&chance, SIM_SECOND * 3 / 2));
        if (sim_chance(&chance, 2)) { /* what a core has then came in part over a trunk that is lost */
            sim_world_break_trunks(&world, SIM_FAULT_RESET);
            sim_world_run(&world, random_below(&chance, SIM_SECOND));
        }
        for (size_t core = 0; core < settings.cores; core++) {
            if (all || core == chosen) {
                sim_world_kill_core(&world, core);
            }
        }
        sim_world_run(&world, random_below(&chance, sim_chance(&chance, 2) ? SIM_SECOND / 5 : 4 * SIM_SECOND));
        for (size_t core = 0; core < settings.cores; core++) {
            if (!world.cores[core].made) {
                start_core(core);
            }
        }
        if (sim_chance(&chance, 3)) {
            sim_world_run(&world, random_below(&chance, SIM_SECOND / 2));
            sim_world_break_trunks(&world, SIM_FAULT_RESET); /* also in the middle of opening again */
        }
    }
    expect_all();
    return world_end(report);
}

/* Cores that are restarted as planned: each moves its sessions, or is killed before it has. */
static bool cores_drained(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;

    world_begin_drawn(seed, &settings);
    settings.resume = settings.reopen = true;
    world_make(seed, &settings);
    add_clients(20);
    for (unsigned i = 0; i < 4 && world.net.failures == 0; i++) {
        size_t core = (size_t)random_below(&chance, settings.cores);
        sim_world_run(&world, random_below(&chance, 2 * SIM_SECOND));
        sim_world_drain_core(&world, core);
        world.cores[core].reachable = false; /* it listens no more */
        sim_world_run(&world, random_below(&chance, 2 * SIM_SECOND));
        sim_world_kill_core(&world, core);
        sim_world_run(&world, random_below(&chance, SIM_SECOND));
        start_core(core);
    }
    expect_all();
    return world_end(report);
}

SCENARIO_TEST(sessions_outlive_cores_killed_at_any_moment, cores_killed, 150)
SCENARIO_TEST(sessions_outlive_cores_that_are_restarted, cores_drained, 150)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_outlive_cores_killed_at_any_moment),
        cmocka_unit_test(sessions_outlive_cores_that_are_restarted),
    };

    cmocka_set_test_filter(getenv("TRUNKLINE_SIM_TEST"));
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
