/*
 * Sessions that outlive their trunks, in whole installations: whatever happens to trunks, every byte arrives once and
 * in order, and each session ends as its two ends said.
 */
#include "tests/sim/sim_scenario.h"

#include "mux/limits.h"

/* Every session goes on, on another trunk. */
static bool trunks_cut_resumed(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;

    world_begin_drawn(seed, &settings);
    settings.resume = true;
    world_make(seed, &settings);
    add_long_clients(6);
    world.trunk_fault = sim_chance(&chance, 2) ? SIM_FAULT_RESET : SIM_FAULT_FINISH;
    world.trunk_fault_from = sim_chance(&chance, 2) ? SIM_OPENER : SIM_ACCEPTOR;
    world.trunk_fault_bytes_max = sim_chance(&chance, 2) ? 6000 : 300000;
    world.trunk_faults = (unsigned)random_below(&chance, 4);
    for (unsigned i = 0; i < 8; i++) {
        /* A trunk that lives for less than a second is dialled again later and later. */
        sim_world_run(&world, SIM_SECOND + random_below(&chance, SIM_SECOND / 2));
        sim_world_break_trunks(&world, sim_chance(&chance, 2) ? SIM_FAULT_RESET : SIM_FAULT_FINISH);
    }
    if (sim_world_run_clients(&world, 10 * MINUTE)) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; i < world.client_count; i++) {
            sim_expect_complete(world.clients[i]);
        }
    }
    return world_end(report);
}

/* A client that waits for its answer does so for its own time only. */
static bool unanswered(const struct sim_client *client)
{
    return client->outcome == SIM_OUTCOME_ALERT && client->received == 0 && client->core_received == 0 &&
           client->over_us - client->plan.start_us < (TIMEOUT_OPEN_MS + 3000U) * 1000U;
}

/* Trunks that fall silent, and trunks that are lost again while sessions resume on them. */
static bool trunks_lost_again(uint64_t seed, struct sim_report *report)
{
    static const enum sim_fault faults[] = {SIM_FAULT_RESET, SIM_FAULT_FINISH, SIM_FAULT_BLACK_HOLE};
    struct sim_settings settings;
    bool silent = false;
    bool wild = seed % 2 == 0; /* new trunks fall silent, too: some sessions may wait too long */

    world_begin_drawn(seed, &settings);
    settings.resume = true;
    world_make(seed, &settings);
    add_long_clients(6);
    /* Of a trunk that is dialled, the first bytes are TLS and SETTINGS: behind them come the requests to resume. */
    world.trunk_fault_bytes_max = 8000;
    sim_world_run(&world, 2 * SIM_SECOND);
    for (unsigned i = 0; i < 3; i++) {
        world.trunk_fault = faults[random_below(&chance, wild ? 3 : 2)];
        world.trunk_fault_from = sim_chance(&chance, 2) ? SIM_OPENER : SIM_ACCEPTOR;
        world.trunk_faults = 1 + (unsigned)random_below(&chance, 2);
        enum sim_fault fault = faults[random_below(&chance, 3)];
        silent = silent || fault == SIM_FAULT_BLACK_HOLE;
        sim_world_break_trunks(&world, fault);
        sim_world_run(&world, SIM_SECOND + random_below(&chance, 25 * SIM_SECOND));
    }
    if (sim_world_run_clients(&world, 10 * MINUTE)) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; i < world.client_count && !wild; i++) {
            if (!silent || !unanswered(world.clients[i])) {
                sim_expect_complete(world.clients[i]);
            }
        }
        world.trunk_faults = 0;
        sim_world_break_trunks(&world, SIM_FAULT_RESET); /* also those whose fault still lies ahead */
        if (sim_world_run_trunks(&world, MINUTE)) {
            sim_world_expect_service(&world);
        }
    }
    return world_end(report);
}

/* An edge that drains does not lose what it waits for. */
static bool edge_drains_without_trunks(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;

    world_begin_drawn(seed, &settings);
    settings.resume = true;
    settings.edges = 1;
    world_make(seed, &settings);
    add_long_clients(6);
    sim_world_run(&world, SIM_SECOND + random_below(&chance, SIM_SECOND));
    if (sim_chance(&chance, 2)) {
        sim_world_drain_edge(&world, 0, 600000);
        sim_world_run(&world, random_below(&chance, SIM_SECOND));
        sim_world_break_trunks(&world, SIM_FAULT_RESET);
    } else {
        sim_world_break_trunks(&world, SIM_FAULT_RESET);
        sim_world_run(&world, random_below(&chance, SIM_SECOND / 10));
        sim_world_drain_edge(&world, 0, 600000);
    }
    if (sim_world_run_clients(&world, 10 * MINUTE)) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; i < world.client_count; i++) {
            if (world.clients[i]->outcome != SIM_OUTCOME_RESET || world.clients[i]->core_opens > 0) {
                sim_expect_complete(world.clients[i]); /* the others came after the drain had begun */
            }
        }
        if (!world.edges[0].stopped) {
            sim_fail(&world.net, "the edge does not stop after its drain");
        }
    }
    return world_end(report);
}

/* Sessions of every kind whose trunk is lost twice; one allocation from the first loss on fails. */
static bool memory_out_resumed(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_calm(seed, &settings);
    settings.stream_window_bytes = 16384;
    settings.client_link.buffer_bytes = 20000;
    settings.resume = true;
    world_make(seed, &settings);
    for (unsigned i = 0; i < 3; i++) {
        sim_plan_script(&plan, &chance);
        plan.receive_bytes = 60000;
        plan.core_consume_bytes = 1000;
        plan.core_consume_ms = 50;
        plan.core_answer_ms = i == 2 ? 1500 : 0; /* waits for its answer when the trunk is lost */
        plan.half_closes_tcp = i == 1;
        sim_world_add(&world, &plan);
    }
    sim_world_run(&world, SIM_SECOND);
    memory_fail_at(fault_at);
    sim_world_break_trunks(&world, SIM_FAULT_RESET);
    sim_world_run(&world, SIM_SECOND / 4);
    sim_world_break_trunks(&world, SIM_FAULT_FINISH);
    (void)sim_world_run_clients(&world, 2 * MINUTE);
    report->faults = memory_faults();
    memory_fail_at(0);
    sim_world_expect_idle(&world);
    for (size_t i = 0; report->faults == 0 && i < world.client_count; i++) {
        sim_expect_complete(world.clients[i]);
    }
    sim_world_expect_service(&world);
    return world_end(report);
}

/* ------------------------------------------------------------------------------------------------ tests */

SCENARIO_TEST(sessions_outlive_trunks_cut_at_any_byte, trunks_cut_resumed, 300)
SCENARIO_TEST(sessions_outlive_silent_trunks_and_the_loss_of_the_next, trunks_lost_again, 100)
SCENARIO_TEST(sessions_outlive_their_trunks_while_their_edge_drains, edge_drains_without_trunks, 40)

static void a_failed_allocation_while_sessions_resume_ends_what_it_must(void **state)
{
    (void)state;
    fail_each(memory_out_resumed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_outlive_trunks_cut_at_any_byte),
        cmocka_unit_test(sessions_outlive_silent_trunks_and_the_loss_of_the_next),
        cmocka_unit_test(sessions_outlive_their_trunks_while_their_edge_drains),
        cmocka_unit_test(a_failed_allocation_while_sessions_resume_ends_what_it_must),
    };

    cmocka_set_test_filter(getenv("TRUNKLINE_SIM_TEST"));
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
