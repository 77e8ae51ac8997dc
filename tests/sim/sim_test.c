/*
 * Edge and core together, under virtual time, with real TLS and no socket. Each scenario is a function of a seed: it
 * makes a world, lets clients and faults happen, and ends it, which expects every live counter at zero. What holds at
 * any time is checked all along by the clients, the handlers and the world: no byte is wrong, lost or twice there
 * before a clean end, and nothing is held beyond its window. The process is the tests'. One thread.
 */
#include "tests/sim/sim_scenario.h"

#include "mux/limits.h"
#include "mux/memory.h"
#include "tests/sim/sim_buffers.h"

/* ------------------------------------------------------------------------------------------------ going well */

static bool echoes(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_drawn(seed, &settings);
    world_make(seed, &settings);
    size_t count = sim_between(&chance, 2, 8);
    for (size_t i = 0; i < count; i++) {
        sim_plan_draw_echo(&plan, &chance, 200000);
        sim_world_add(&world, &plan);
    }
    if (sim_world_run_clients(&world, 10 * MINUTE)) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; i < count; i++) {
            sim_expect_complete(world.clients[i]);
        }
    }
    return world_end(report);
}

static bool half_closes(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_drawn(seed, &settings);
    world_make(seed, &settings);
    size_t count = sim_between(&chance, 3, 8);
    for (size_t i = 0; i < count; i++) {
        sim_plan_draw_script(&plan, &chance, 100000);
        sim_world_add(&world, &plan);
    }
    if (sim_world_run_clients(&world, 10 * MINUTE)) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; i < count; i++) {
            sim_expect_complete(world.clients[i]);
        }
    }
    return world_end(report);
}

/* ------------------------------------------------------------------------------------------------ slowness */

/* A client that stops reading while the core has more for it than fits anywhere. */
static void add_stalled(bool echo)
{
    struct sim_plan plan;

    sim_plan_init(&plan, echo ? 1000000 : 100);
    if (!echo) {
        plan.service = "script";
        plan.receive_bytes = 1000000;
        plan.core_ends = SIM_ENDS_AFTER_SENDING;
    }
    plan.stall_at_bytes = random_below(&chance, 100000);
    plan.stall_us = MINUTE;
    sim_world_add(&world, &plan);
}

static bool slow_readers(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_calm(seed, &settings);
    settings.trunks = 1;
    settings.stream_window_bytes = sim_chance(&chance, 2) ? 16384 : 65536;
    world_make(seed, &settings);
    add_stalled(true);
    add_stalled(true);
    add_stalled(false);
    for (int i = 0; i < 3; i++) {
        sim_plan_init(&plan, 300000);
        plan.start_us = SIM_SECOND + random_below(&chance, 2 * SIM_SECOND);
        sim_world_add(&world, &plan);
    }
    if (sim_world_run_clients(&world, 10 * MINUTE)) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; i < world.client_count; i++) {
            sim_expect_complete(world.clients[i]);
            if (i < 3) {
                sim_expect_over_between(world.clients[i], MINUTE, 3 * MINUTE);
            } else {
                sim_expect_over_between(world.clients[i], 0, MINUTE / 2);
            }
        }
        /* They were slow enough to fill what they may fill; that it is not more is checked all along. */
        if (world.output_peak_bytes < settings.stream_window_bytes / 2) {
            sim_fail(&world.net, "the stalled clients filled only %llu bytes",
                     (unsigned long long)world.output_peak_bytes);
        }
    }
    return world_end(report);
}

static bool slow_handlers(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_calm(seed, &settings);
    settings.trunks = 1;
    world_make(seed, &settings);
    for (int i = 0; i < 3; i++) {
        sim_plan_init(&plan, 400000);
        plan.service = "script";
        plan.receive_bytes = 1000;
        plan.core_ends = SIM_ENDS_AFTER_PEER;
        plan.core_consume_bytes = (uint32_t)sim_between(&chance, 500, 8000);
        plan.core_consume_ms = plan.core_consume_bytes / 20; /* 20 seconds in all */
        sim_world_add(&world, &plan);
        sim_plan_init(&plan, 300000);
        plan.start_us = SIM_SECOND + random_below(&chance, SIM_SECOND);
        sim_world_add(&world, &plan);
    }
    if (sim_world_run_clients(&world, 10 * MINUTE)) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; i < world.client_count; i++) {
            sim_expect_complete(world.clients[i]);
            if (i % 2 == 1) {
                sim_expect_over_between(world.clients[i], 0, 8 * SIM_SECOND);
            }
        }
    }
    return world_end(report);
}

/* ------------------------------------------------------------------------------------------------ client faults */

static bool client_faults(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_drawn(seed, &settings);
    world_make(seed, &settings);
    sim_plan_draw_echo(&plan, &chance, 50000);
    sim_world_add(&world, &plan);
    for (int i = 0; i < 7; i++) {
        if (sim_chance(&chance, 2)) {
            sim_plan_draw_echo(&plan, &chance, 60000);
        } else {
            sim_plan_draw_script(&plan, &chance, 60000);
        }
        sim_plan_draw_fault(&plan, &chance, sim_chance(&chance, 2) ? 6000 : 60000);
        sim_world_add(&world, &plan);
    }
    if (sim_world_run_clients(&world, 10 * MINUTE)) {
        sim_world_expect_idle(&world);
        sim_expect_complete(world.clients[0]);
    }
    return world_end(report);
}

/* ------------------------------------------------------------------------------------------------ trunk faults */

static bool trunks_cut(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;

    world_begin_drawn(seed, &settings);
    world_make(seed, &settings);
    add_long_clients(6);
    world.trunk_fault = sim_chance(&chance, 2) ? SIM_FAULT_RESET : SIM_FAULT_FINISH;
    world.trunk_fault_from = sim_chance(&chance, 2) ? SIM_OPENER : SIM_ACCEPTOR;
    world.trunk_fault_bytes_max = sim_chance(&chance, 2) ? 6000 : 300000;
    for (size_t i = 0; i < world.trunk_count; i++) {
        if (!sim_chance(&chance, 3)) {
            sim_link_plan_fault(world.trunks[i].link, world.trunk_fault_from, world.trunk_fault,
                                random_below(&chance, world.trunk_fault_bytes_max));
        }
    }
    world.trunk_faults = (unsigned)random_below(&chance, 4);
    if (sim_world_run_clients(&world, 10 * MINUTE)) {
        world.trunk_faults = 0;
        sim_world_break_trunks(&world, SIM_FAULT_RESET); /* also those whose fault still lies ahead */
        sim_world_expect_idle(&world);
        if (sim_world_run_trunks(&world, MINUTE)) {
            sim_world_expect_service(&world);
        }
    }
    return world_end(report);
}

/* Sessions that would go on for ever are ended by the loss of their trunk. */
static void add_endless(size_t count)
{
    struct sim_plan plan;

    for (size_t i = 0; i < count; i++) {
        sim_plan_init(&plan, sim_between(&chance, 0, 40000));
        plan.start_us = random_below(&chance, SIM_SECOND);
        plan.ends = SIM_ENDS_NEVER;
        sim_world_add(&world, &plan);
    }
}

static void expect_lost(uint64_t since_us, uint64_t latest_us)
{
    for (size_t i = 0; i < world.client_count; i++) {
        sim_expect_not_clean(world.clients[i]);
        sim_expect_over_between(world.clients[i], since_us, latest_us);
        sim_expect_reason(world.clients[i], TRUNKLINE_REASON_TRUNK_LOST);
    }
}

static bool trunks_reset(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;

    world_begin_calm(seed, &settings);
    world_make(seed, &settings);
    add_endless(5);
    sim_world_run(&world, 2 * SIM_SECOND + random_below(&chance, 3 * SIM_SECOND));
    uint64_t cut_us = world.net.now_us;
    uint64_t up = world.edges[0].relay.counters.trunks_up;
    sim_world_break_trunks(&world, sim_chance(&chance, 2) ? SIM_FAULT_RESET : SIM_FAULT_FINISH);
    if (sim_world_run_clients(&world, MINUTE)) {
        sim_world_expect_idle(&world);
        expect_lost(cut_us, cut_us + SIM_SECOND);
        if (world.edges[0].relay.counters.trunks_up != up + settings.trunks) {
            sim_fail(&world.net, "the edge did not dial again");
        }
        sim_world_expect_service(&world);
    }
    return world_end(report);
}

static bool trunks_black(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;

    world_begin_calm(seed, &settings);
    world_make(seed, &settings);
    add_endless(5);
    sim_world_run(&world, 2 * SIM_SECOND + random_below(&chance, 15 * SIM_SECOND));
    uint64_t cut_us = world.net.now_us;
    sim_world_break_trunks(&world, SIM_FAULT_BLACK_HOLE);
    if (sim_world_run_clients(&world, 2 * MINUTE)) {
        sim_world_expect_idle(&world);
        expect_lost(cut_us, cut_us + (TIMEOUT_PING_INTERVAL_MS + TIMEOUT_PING_ANSWER_MS + 1500U) * 1000U);
        sim_world_expect_service(&world);
    }
    return world_end(report);
}

static bool core_away(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_calm(seed, &settings);
    world_make(seed, &settings);
    sim_world_run(&world, SIM_SECOND);
    world.cores[0].reachable = false;
    sim_world_break_trunks(&world, SIM_FAULT_RESET);
    sim_world_run(&world, SIM_SECOND);
    for (int i = 0; i < 4; i++) {
        sim_plan_draw_echo(&plan, &chance, 30000);
        plan.start_us = random_below(&chance, SIM_SECOND);
        sim_world_add(&world, &plan);
    }
    sim_world_run(&world, 2 * SIM_SECOND);
    world.cores[0].reachable = true;
    if (sim_world_run_clients(&world, MINUTE)) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; i < world.client_count; i++) {
            sim_expect_complete(world.clients[i]);
        }
    }
    return world_end(report);
}

static bool core_gone(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_calm(seed, &settings);
    world_make(seed, &settings);
    world.cores[0].reachable = false;
    sim_world_break_trunks(&world, SIM_FAULT_RESET);
    for (int i = 0; i < 4; i++) {
        sim_plan_draw_echo(&plan, &chance, 30000);
        sim_world_add(&world, &plan);
    }
    if (sim_world_run_clients(&world, MINUTE)) {
        for (size_t i = 0; i < world.client_count; i++) {
            uint64_t start_us = world.clients[i]->plan.start_us;
            sim_expect_outcome(world.clients[i], SIM_OUTCOME_ALERT);
            sim_expect_over_between(world.clients[i], start_us + TIMEOUT_OPEN_MS * 1000U,
                                    start_us + (TIMEOUT_OPEN_MS + 500U) * 1000U);
        }
        sim_world_expect_idle(&world);
        world.cores[0].reachable = true;
        if (sim_world_run_trunks(&world, MINUTE)) {
            sim_world_expect_service(&world);
        }
    }
    return world_end(report);
}

/* ------------------------------------------------------------------------------------------------ draining */

static bool core_drains(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_drawn(seed, &settings);
    settings.cores = 2;
    world_make(seed, &settings);
    for (int i = 0; i < 10; i++) {
        if (sim_chance(&chance, 2)) {
            sim_plan_draw_echo(&plan, &chance, 40000);
        } else {
            sim_plan_draw_script(&plan, &chance, 40000);
        }
        plan.start_us = SIM_SECOND + random_below(&chance, 2 * SIM_SECOND);
        sim_world_add(&world, &plan);
    }
    sim_world_run(&world, SIM_SECOND + random_below(&chance, 2 * SIM_SECOND));
    sim_world_drain_core(&world, 0);
    if (sim_world_run_clients(&world, 10 * MINUTE)) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; i < world.client_count; i++) {
            sim_expect_complete(world.clients[i]);
        }
        if (!world.cores[0].drained) {
            sim_fail(&world.net, "the core does not say that it is drained");
        }
    }
    return world_end(report);
}

static bool edge_drains(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_calm(seed, &settings);
    world_make(seed, &settings);
    add_endless(2);
    for (int i = 0; i < 4; i++) { /* under way when the drain begins, and over soon */
        sim_plan_init(&plan, 50000);
        plan.service = "script";
        plan.core_ends = SIM_ENDS_AFTER_PEER;
        plan.receive_bytes = 50000;
        plan.core_consume_bytes = 1000;
        plan.core_consume_ms = (uint32_t)sim_between(&chance, 60, 100);
        sim_world_add(&world, &plan);
    }
    for (int i = 0; i < 2; i++) { /* come too late */
        sim_plan_init(&plan, 1000);
        plan.start_us = 3 * SIM_SECOND + random_below(&chance, SIM_SECOND);
        sim_world_add(&world, &plan);
    }
    sim_world_run(&world, 2 * SIM_SECOND);
    sim_world_drain_edge(&world, 0, 20000);
    sim_world_run(&world, 19 * SIM_SECOND);
    for (size_t i = 2; i < 6; i++) {
        sim_expect_complete(world.clients[i]);
    }
    sim_expect_outcome(world.clients[0], SIM_OUTCOME_OPEN);
    sim_expect_outcome(world.clients[1], SIM_OUTCOME_OPEN);
    sim_expect_outcome(world.clients[6], SIM_OUTCOME_RESET);
    sim_expect_outcome(world.clients[7], SIM_OUTCOME_RESET);
    sim_world_run(&world, 5 * SIM_SECOND);
    sim_expect_not_clean(world.clients[0]);
    sim_expect_not_clean(world.clients[1]);
    if (!world.edges[0].stopped) {
        sim_fail(&world.net, "the edge does not stop after its drain");
    }
    if (core_worker_session_count(&world.cores[0].worker) != 0) {
        sim_fail(&world.net, "the core still has sessions of the edge that stopped");
    }
    return world_end(report);
}

/* ------------------------------------------------------------------------------------------------ refusals */

static bool refuses(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_drawn(seed, &settings);
    world_make(seed, &settings);
    sim_plan_draw_echo(&plan, &chance, 50000);
    struct sim_client *healthy = sim_world_add(&world, &plan);
    sim_plan_script(&plan, &chance);
    plan.core_refuses = 503;
    plan.core_answer_ms = sim_chance(&chance, 2) ? 300 : 0;
    struct sim_client *refused = sim_world_add(&world, &plan);
    plan.core_refuses = 403;
    struct sim_client *forbidden = sim_world_add(&world, &plan);
    sim_plan_script(&plan, &chance);
    plan.service = "missing";
    struct sim_client *missing = sim_world_add(&world, &plan);
    plan.service = "unrouted";
    struct sim_client *unrouted = sim_world_add(&world, &plan);
    sim_plan_script(&plan, &chance);
    plan.core_aborts_at = random_below(&chance, 40000);
    struct sim_client *aborted = sim_world_add(&world, &plan);
    if (sim_world_run_clients(&world, 10 * MINUTE)) {
        sim_world_expect_idle(&world);
        sim_expect_complete(healthy);
        sim_expect_outcome(refused, SIM_OUTCOME_ALERT);
        sim_expect_reason(refused, TRUNKLINE_REASON_REFUSED);
        sim_expect_outcome(forbidden, SIM_OUTCOME_ALERT);
        sim_expect_outcome(missing, SIM_OUTCOME_ALERT);
        sim_expect_outcome(unrouted, SIM_OUTCOME_ALERT);
        sim_expect_not_clean(aborted);
        sim_expect_reason(aborted, TRUNKLINE_REASON_ABORTED);
        if (forbidden->alert != -49 || refused->alert != -80 || missing->alert != -49 || unrouted->alert != -49) {
            sim_fail(&world.net, "alerts: %d for 403, %d for 503, %d for no service, %d for no route", forbidden->alert,
                     refused->alert, missing->alert, unrouted->alert);
        }
        if (missing->core_opens + unrouted->core_opens > 0) {
            sim_fail(&world.net, "a handler heard of a service that is not its own");
        }
    }
    return world_end(report);
}

static bool limits(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;
    size_t served = 0;
    bool at_core = seed % 2 == 0;

    world_begin_calm(seed, &settings);
    settings.sessions_max = at_core ? 100 : 3;
    settings.core_sessions_max = at_core ? 3 : 100;
    world_make(seed, &settings);
    sim_world_run(&world, SIM_SECOND);
    for (int i = 0; i < 8; i++) {
        sim_plan_script(&plan, &chance);
        plan.start_us = (uint64_t)i * 100000U;
        plan.core_answer_ms = 2000;
        sim_world_add(&world, &plan);
    }
    if (sim_world_run_clients(&world, MINUTE)) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; i < world.client_count; i++) {
            if (world.clients[i]->outcome == SIM_OUTCOME_CLEAN) {
                sim_expect_complete(world.clients[i]);
                served++;
            } else {
                sim_expect_outcome(world.clients[i], at_core ? SIM_OUTCOME_ALERT : SIM_OUTCOME_RESET);
            }
        }
        if (served != 3) {
            sim_fail(&world.net, "%zu clients served at a limit of 3", served);
        }
        sim_world_expect_service(&world);
    }
    return world_end(report);
}

static bool stalls(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_calm(seed, &settings);
    world_make(seed, &settings);
    for (int i = 0; i < 4; i++) { /* half a handshake, then silence */
        sim_plan_draw_echo(&plan, &chance, 1000);
        plan.fault_up = SIM_FAULT_BLACK_HOLE;
        plan.fault_up_at = random_below(&chance, 200);
        sim_world_add(&world, &plan);
    }
    for (int i = 0; i < 3; i++) { /* a handler that never answers */
        sim_plan_script(&plan, &chance);
        plan.core_mute = true;
        sim_world_add(&world, &plan);
    }
    if (sim_world_run_clients(&world, MINUTE)) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; i < world.client_count; i++) {
            const struct sim_client *client = world.clients[i];
            uint64_t limit_us = (i < 4 ? TIMEOUT_HANDSHAKE_MS : TIMEOUT_OPEN_MS) * 1000U;
            sim_expect_not_clean(client);
            sim_expect_over_between(client, client->plan.start_us + limit_us,
                                    client->plan.start_us + limit_us + SIM_SECOND / 2);
            if (i >= 4) {
                sim_expect_reason(client, TRUNKLINE_REASON_RESET);
            }
        }
        if (world.edges[0].relay.counters.handshakes_failed != 4) {
            sim_fail(&world.net, "%llu handshakes counted as failed, not 4",
                     (unsigned long long)world.edges[0].relay.counters.handshakes_failed);
        }
    }
    return world_end(report);
}

/* ------------------------------------------------------------------------------------------------ everything */

static void mishap(void)
{
    /* Drawn one by one: the order in which a call's arguments are evaluated is the compiler's. */
    size_t edge = (size_t)random_below(&chance, world.settings.edges);
    uint64_t drain_ms = 1000 * random_below(&chance, 20);

    switch (random_below(&chance, 6)) {
    case 0:
        sim_world_break_trunks(&world, SIM_FAULT_RESET);
        break;
    case 1:
        sim_world_break_trunks(&world, SIM_FAULT_BLACK_HOLE);
        break;
    case 2:
        world.cores[0].reachable = !world.cores[0].reachable;
        break;
    case 3:
        sim_world_drain_core(&world, random_below(&chance, world.settings.cores));
        break;
    case 4:
        sim_world_drain_edge(&world, edge, drain_ms);
        break;
    default:
        break;
    }
}

static bool anything(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_drawn(seed, &settings);
    world_make(seed, &settings);
    for (int i = 0; i < 12; i++) {
        sim_plan_draw_anything(&plan, &chance);
        sim_world_add(&world, &plan);
    }
    for (int i = 0; i < 3; i++) {
        sim_world_run(&world, random_below(&chance, 10 * SIM_SECOND));
        mishap();
    }
    if (sim_world_run_clients(&world, 10 * MINUTE)) {
        sim_world_expect_idle(&world);
    }
    return world_end(report);
}

/* ------------------------------------------------------------------------------------------------ no memory */

/* A few clients; one allocation of the whole, set-up included, fails. */
static bool memory_out(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    world_begin_calm(seed, &settings);
    settings.stream_window_bytes = 16384;
    settings.client_link.buffer_bytes = 20000;
    memory_fail_at(fault_at);
    enum error_code error = sim_world_init(&world, seed, &settings);
    if (error == ERROR_NONE) {
        sim_plan_init(&plan, 60000);
        plan.half_closes_tcp = true;
        sim_world_add(&world, &plan);
        plan.stall_at_bytes = 10000;
        plan.stall_us = SIM_SECOND;
        sim_world_add(&world, &plan);
        sim_plan_script(&plan, &chance);
        plan.receive_bytes = 60000;
        plan.core_answer_ms = 200;
        plan.core_consume_bytes = 4000;
        plan.core_consume_ms = 10;
        sim_world_add(&world, &plan);
        sim_plan_script(&plan, &chance);
        plan.core_refuses = 503;
        sim_world_add(&world, &plan);
        (void)sim_world_run_clients(&world, 2 * MINUTE);
    } else if (error != ERROR_NO_MEMORY) {
        sim_fail(&world.net, "set-up: %s", error_name(error));
    }
    report->faults = memory_faults();
    memory_fail_at(0);
    if (error == ERROR_NONE) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; report->faults == 0 && i < 3; i++) {
            sim_expect_complete(world.clients[i]);
        }
        sim_world_expect_service(&world);
    }
    return world_end(report);
}

/* ------------------------------------------------------------------------------------------------ tests */

SCENARIO_TEST(everything_echoes_byte_exactly_under_delays_and_splits, echoes, 60)
SCENARIO_TEST(each_direction_ends_by_itself_in_any_order, half_closes, 60)
SCENARIO_TEST(stalled_clients_hold_no_more_than_their_window_and_stall_nobody_else, slow_readers, 12)
SCENARIO_TEST(slow_handlers_stop_their_own_clients_and_nobody_else, slow_handlers, 12)
SCENARIO_TEST(clients_cut_at_any_byte_are_never_taken_for_a_clean_end, client_faults, 120)
SCENARIO_TEST(trunks_cut_at_any_byte_are_dialled_again_and_end_nothing_cleanly, trunks_cut, 80)
SCENARIO_TEST(sessions_of_a_reset_trunk_are_lost_at_once_and_new_ones_are_served, trunks_reset, 10)
SCENARIO_TEST(a_black_hole_on_a_trunk_is_found_by_its_ping_deadline, trunks_black, 10)
SCENARIO_TEST(clients_wait_for_a_core_that_comes_back, core_away, 10)
SCENARIO_TEST(clients_of_a_core_that_stays_away_are_refused_in_time, core_gone, 10)
SCENARIO_TEST(no_client_notices_the_drain_of_one_core_of_two, core_drains, 40)
SCENARIO_TEST(a_draining_edge_lets_sessions_end_and_resets_the_rest_at_its_deadline, edge_drains, 8)
SCENARIO_TEST(refusals_and_aborts_are_told_by_alerts_and_never_look_clean, refuses, 20)
SCENARIO_TEST(beyond_a_limit_clients_are_refused_and_those_within_are_served, limits, 8)
SCENARIO_TEST(stalled_handshakes_and_mute_handlers_end_at_their_deadlines, stalls, 8)
SCENARIO_TEST(windows_grow_on_a_long_path, sim_buffers_long_path, 8)
SCENARIO_TEST(an_edge_with_full_buffers_refuses_and_sheds_and_recovers, sim_buffers_edge_full, 8)
SCENARIO_TEST(a_core_with_full_buffers_refuses_and_sheds_and_recovers, sim_buffers_core_full, 8)
SCENARIO_TEST(whatever_happens_no_session_is_left_and_no_byte_is_wrong, anything, 120)

static void a_seed_decides_every_byte_on_every_link(void **state)
{
    struct sim_report first;
    struct sim_report again;
    struct sim_report other;

    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        assert_true(sim_run_once(anything, seed, &first));
        assert_true(sim_run_once(anything, seed, &again));
        assert_true(sim_run_once(anything, seed + 100, &other));
        assert_true(first.traffic_bytes > 1000);
        assert_true(first.random_calls > 0);
        assert_int_equal(first.traffic_bytes, again.traffic_bytes);
        assert_int_equal(first.traffic_hash, again.traffic_hash);
        assert_int_not_equal(first.traffic_hash, other.traffic_hash);
        print_message("seed %llu: %llu bytes, hash %016llx\n", (unsigned long long)seed,
                      (unsigned long long)first.traffic_bytes, (unsigned long long)first.traffic_hash);
    }
}

static void a_failed_allocation_ends_what_it_must_and_nothing_is_left(void **state)
{
    (void)state;
    fail_each(memory_out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_echoes_byte_exactly_under_delays_and_splits),
        cmocka_unit_test(each_direction_ends_by_itself_in_any_order),
        cmocka_unit_test(stalled_clients_hold_no_more_than_their_window_and_stall_nobody_else),
        cmocka_unit_test(slow_handlers_stop_their_own_clients_and_nobody_else),
        cmocka_unit_test(clients_cut_at_any_byte_are_never_taken_for_a_clean_end),
        cmocka_unit_test(trunks_cut_at_any_byte_are_dialled_again_and_end_nothing_cleanly),
        cmocka_unit_test(sessions_of_a_reset_trunk_are_lost_at_once_and_new_ones_are_served),
        cmocka_unit_test(a_black_hole_on_a_trunk_is_found_by_its_ping_deadline),
        cmocka_unit_test(clients_wait_for_a_core_that_comes_back),
        cmocka_unit_test(clients_of_a_core_that_stays_away_are_refused_in_time),
        cmocka_unit_test(no_client_notices_the_drain_of_one_core_of_two),
        cmocka_unit_test(a_draining_edge_lets_sessions_end_and_resets_the_rest_at_its_deadline),
        cmocka_unit_test(refusals_and_aborts_are_told_by_alerts_and_never_look_clean),
        cmocka_unit_test(beyond_a_limit_clients_are_refused_and_those_within_are_served),
        cmocka_unit_test(stalled_handshakes_and_mute_handlers_end_at_their_deadlines),
        cmocka_unit_test(windows_grow_on_a_long_path),
        cmocka_unit_test(an_edge_with_full_buffers_refuses_and_sheds_and_recovers),
        cmocka_unit_test(a_core_with_full_buffers_refuses_and_sheds_and_recovers),
        cmocka_unit_test(whatever_happens_no_session_is_left_and_no_byte_is_wrong),
        cmocka_unit_test(a_seed_decides_every_byte_on_every_link),
        cmocka_unit_test(a_failed_allocation_ends_what_it_must_and_nothing_is_left),
    };

    cmocka_set_test_filter(getenv("TRUNKLINE_SIM_TEST"));
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
