/* Windows that follow the path, and buffers that fill: see sim_buffers.h. One thread. */
#include "tests/sim/sim_buffers.h"

#include "mux/limits.h"
#include "tests/sim/sim_expect.h"
#include "tests/sim/sim_plan.h"
#include "tests/sim/sim_world.h"

#define MINUTE       (60 * SIM_SECOND)
#define STALLED      44U
#define LIVELY       4U
#define WINDOW_BYTES 65536U
#define MEMORY_BYTES LIMIT_BUFFER_MEMORY_MIN_BYTES

/* Too large for the stack; one at a time. */
static struct sim_world world;
static struct random_state chance;

static void begin(uint64_t seed, const struct sim_settings *settings)
{
    if (sim_world_init(&world, seed, settings) != ERROR_NONE) {
        sim_fail(&world.net, "the engines cannot be made");
    }
}

static bool end(struct sim_report *report)
{
    bool good = sim_world_finish(&world);

    report->traffic_hash = world.net.traffic_hash;
    report->traffic_bytes = world.net.traffic_bytes;
    return good;
}

static void expect(bool good, const char *what, uint64_t figure)
{
    if (!good) {
        sim_fail(&world.net, "%s: %llu", what, (unsigned long long)figure);
    }
}

bool sim_buffers_long_path(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;
    struct sim_plan plan;

    random_seed(&chance, seed);
    sim_settings_init(&settings);
    settings.trunks = 1;
    settings.trunk_link.delay_min_us = 40000;
    settings.trunk_link.delay_max_us = 40000 + (uint32_t)sim_between(&chance, 0, 500);
    settings.trunk_link.bytes_per_ms = (uint32_t)sim_between(&chance, 5000, 20000);
    settings.trunk_link.buffer_bytes = 16U << 20;
    settings.client_link.bytes_per_ms = 0;
    settings.client_link.buffer_bytes = 262144;
    begin(seed, &settings);
    sim_world_run(&world, SIM_SECOND);
    for (int i = 0; i < 2; i++) {
        sim_plan_script(&plan, &chance);
        plan.send_bytes = i == 0 ? 8U << 20 : 1000;
        plan.receive_bytes = i == 0 ? 1000 : 8U << 20;
        sim_world_add(&world, &plan);
    }
    if (sim_world_run_clients(&world, MINUTE)) {
        sim_world_expect_idle(&world);
        for (size_t i = 0; i < 2; i++) {
            sim_expect_complete(world.clients[i]);
            /* With the first window it would be 16 KiB for each 80 ms: 40 s. */
            sim_expect_over_between(world.clients[i], 0, 8 * SIM_SECOND);
        }
        expect(world.window_peak_bytes > 16U * LIMIT_STREAM_WINDOW_BYTES, "the largest window",
               world.window_peak_bytes);
    }
    return end(report);
}

/* Those whose memory is in question, and some that do nothing wrong; they come at the same time. */
static void add_crowd(bool at_core)
{
    struct sim_plan plan;

    for (unsigned i = 0; i < STALLED + LIVELY; i++) {
        bool stalls = i < STALLED;
        sim_plan_script(&plan, &chance);
        plan.start_us = SIM_SECOND + random_below(&chance, SIM_SECOND / 20);
        plan.core_answer_ms = 500; /* all are there before the first byte */
        if (stalls && at_core) {
            plan.send_bytes = 1000000;
            plan.core_consume_bytes = 1;
            plan.core_consume_ms = 10 * 60 * 1000;
        } else if (stalls) {
            plan.receive_bytes = 1000000;
            plan.stall_at_bytes = random_below(&chance, 1000);
            plan.stall_us = 10 * MINUTE;
        } else {
            sim_plan_init(&plan, 100000);
            plan.start_us = SIM_SECOND;
        }
        sim_world_add(&world, &plan);
    }
    /* By when there is no memory for it. */
    sim_plan_init(&plan, 1000);
    plan.start_us = 20 * SIM_SECOND;
    sim_world_add(&world, &plan);
}

/* At 25 s: what has happened to whom, whatever side the memory is on. */
static void expect_full(const struct buffer_budget *budget, uint64_t shed)
{
    const struct sim_client *late = world.clients[STALLED + LIVELY];

    for (unsigned i = STALLED; i < STALLED + LIVELY; i++) {
        sim_expect_complete(world.clients[i]);
        sim_expect_over_between(world.clients[i], 0, 10 * SIM_SECOND);
    }
    expect(shed > 0 && shed < STALLED, "sessions that were shed", shed);
    expect(budget->shed == shed, "sessions that the budget has shed", budget->shed);
    expect(budget->level == BUFFER_SHUT, "the level", budget->level);
    expect(budget->charged_bytes < MEMORY_BYTES, "bytes that are held", budget->charged_bytes);
    expect(budget->peak_bytes <= MEMORY_BYTES + STALLED * 2U * WINDOW_BYTES, "the most that was held",
           budget->peak_bytes);
    expect(budget->entered[BUFFER_SCARCE] > 0 && budget->entered[BUFFER_SHUT] > 0 && budget->entered[BUFFER_OVER] > 0,
           "the steps to it", budget->entered[BUFFER_SCARCE]);
    sim_expect_not_clean(late);
}

bool sim_buffers_edge_full(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;

    random_seed(&chance, seed);
    sim_settings_init(&settings);
    settings.stream_window_bytes = WINDOW_BYTES;
    settings.buffer_memory_bytes = MEMORY_BYTES;
    settings.client_link.buffer_bytes = 20000;
    begin(seed, &settings);
    add_crowd(false);
    sim_world_run(&world, 25 * SIM_SECOND);
    const struct relay *relay = &world.edges[0].relay;
    expect_full(&relay->buffers, relay->counters.sessions_shed);
    expect(relay->counters.clients_over_limit > 0, "clients that were refused", relay->counters.clients_over_limit);
    /* The rest are ended as stalled, which they see when they read again; and there is room. */
    if (sim_world_run_clients(&world, 15 * MINUTE)) {
        sim_world_expect_idle(&world);
        expect(relay->buffers.charged_bytes == 0, "bytes that are held by nobody", relay->buffers.charged_bytes);
        sim_world_expect_service(&world);
    }
    return end(report);
}

bool sim_buffers_core_full(uint64_t seed, struct sim_report *report)
{
    struct sim_settings settings;

    random_seed(&chance, seed);
    sim_settings_init(&settings);
    settings.stream_window_bytes = WINDOW_BYTES;
    settings.core_buffer_memory_bytes = MEMORY_BYTES;
    begin(seed, &settings);
    add_crowd(true);
    sim_world_run(&world, 25 * SIM_SECOND);
    const struct core_worker *worker = &world.cores[0].worker;
    expect_full(&worker->buffers, worker->counters.sessions_shed);
    expect(worker->counters.streams_refused > 0, "streams that were refused", worker->counters.streams_refused);
    for (unsigned i = 0; i < STALLED; i++) {
        if (world.clients[i]->core_closes > 0) {
            sim_expect_reason(world.clients[i], TRUNKLINE_REASON_NO_MEMORY);
        }
    }
    sim_world_drain_edge(&world, 0, 0);
    if (sim_world_run_clients(&world, MINUTE)) {
        sim_world_expect_idle(&world);
        expect(worker->buffers.charged_bytes == 0, "bytes that are held by nobody", worker->buffers.charged_bytes);
    }
    return end(report);
}
