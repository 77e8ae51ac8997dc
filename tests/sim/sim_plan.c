/* Plans drawn from a seed: see sim_plan.h. */
#include "tests/sim/sim_plan.h"

#define START_MAX_US (2 * SIM_SECOND)

static void plan_draw_times(struct sim_plan *plan, struct random_state *random)
{
    plan->start_us = random_below(random, START_MAX_US);
    plan->tls12 = sim_chance(random, 4);
    plan->half_closes_tcp = sim_chance(random, 2);
}

static uint64_t draw_bytes(struct random_state *random, uint64_t most)
{
    static const uint64_t edges[] = {0, 1, 16383, 16384, 16385, 65535, 65536, 65537};

    return sim_chance(random, 4) ? edges[random_below(random, 8)] : random_below(random, most + 1);
}

void sim_plan_draw_echo(struct sim_plan *plan, struct random_state *random, uint64_t most)
{
    sim_plan_init(plan, draw_bytes(random, most));
    plan_draw_times(plan, random);
    plan->ends = sim_chance(random, 2) ? SIM_ENDS_AFTER_SENDING : SIM_ENDS_AFTER_RECEIVING;
}

void sim_plan_draw_script(struct sim_plan *plan, struct random_state *random, uint64_t most)
{
    static const enum sim_ends orders[][2] = {
        {SIM_ENDS_AFTER_SENDING, SIM_ENDS_AFTER_PEER},      {SIM_ENDS_AFTER_PEER, SIM_ENDS_AFTER_SENDING},
        {SIM_ENDS_AFTER_SENDING, SIM_ENDS_AFTER_SENDING},   {SIM_ENDS_AFTER_RECEIVING, SIM_ENDS_AFTER_RECEIVING},
        {SIM_ENDS_AFTER_RECEIVING, SIM_ENDS_AFTER_SENDING}, {SIM_ENDS_AFTER_SENDING, SIM_ENDS_AFTER_RECEIVING},
    };
    const enum sim_ends *order = orders[random_below(random, 6)];

    sim_plan_init(plan, draw_bytes(random, most));
    plan_draw_times(plan, random);
    plan->service = "script";
    plan->receive_bytes = draw_bytes(random, most);
    plan->ends = order[0];
    plan->core_ends = order[1];
    plan->core_answer_ms = sim_chance(random, 2) ? 0 : (uint32_t)random_below(random, 2000);
    if (sim_chance(random, 3)) {
        plan->core_consume_bytes = (uint32_t)sim_between(random, 1000, 20000);
        plan->core_consume_ms = (uint32_t)sim_between(random, 1, 50);
    }
}

void sim_plan_draw_fault(struct sim_plan *plan, struct random_state *random, uint64_t most)
{
    switch (random_below(random, 4)) {
    case 0:
        plan->fault_up = sim_chance(random, 2) ? SIM_FAULT_RESET : SIM_FAULT_FINISH;
        plan->fault_up_at = random_below(random, most);
        break;
    case 1:
        plan->fault_down = sim_chance(random, 2) ? SIM_FAULT_RESET : SIM_FAULT_FINISH;
        plan->fault_down_at = random_below(random, most);
        break;
    case 2:
        plan->vanish = SIM_VANISH_RESET;
        plan->vanish_at_bytes = random_below(random, most);
        break;
    default:
        plan->vanish = SIM_VANISH_FINISH;
        plan->vanish_at_bytes = random_below(random, most);
        break;
    }
}

void sim_plan_script(struct sim_plan *plan, struct random_state *random)
{
    sim_plan_init(plan, 20000);
    plan->service = "script";
    plan->core_ends = SIM_ENDS_AFTER_PEER;
    plan_draw_times(plan, random);
}

void sim_plan_draw_anything(struct sim_plan *plan, struct random_state *random)
{
    if (sim_chance(random, 2)) {
        sim_plan_draw_echo(plan, random, 100000);
    } else {
        sim_plan_draw_script(plan, random, 100000);
        plan->core_mute = sim_chance(random, 12);
        plan->core_refuses = sim_chance(random, 10) ? 502 : 0;
        plan->core_aborts_at = sim_chance(random, 6) ? random_below(random, 100000) : SIM_NEVER;
    }
    plan->start_us = random_below(random, 20 * SIM_SECOND);
    if (sim_chance(random, 3)) {
        sim_plan_draw_fault(plan, random, 60000);
    }
    if (sim_chance(random, 4)) {
        plan->stall_at_bytes = random_below(random, 50000);
        plan->stall_us = random_below(random, 20 * SIM_SECOND);
    }
}
