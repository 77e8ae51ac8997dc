/*
 * Clients' plans, drawn from a seed. `most` bounds the bytes of each direction; sizes at the edges of records and
 * windows come often. One thread.
 */
#ifndef TESTS_SIM_PLAN_H
#define TESTS_SIM_PLAN_H

#include "tests/sim/sim_world.h"

/* An echo that goes well. */
void sim_plan_draw_echo(struct sim_plan *plan, struct random_state *random, uint64_t most);

/* A session in which both sides send, and end in one of the orders that are possible. */
void sim_plan_draw_script(struct sim_plan *plan, struct random_state *random, uint64_t most);

/* Adds an end that is not clean, within the first `most` bytes. */
void sim_plan_draw_fault(struct sim_plan *plan, struct random_state *random, uint64_t most);

/* A session of the scripted service in which both send 20,000 bytes and the client ends first. */
void sim_plan_script(struct sim_plan *plan, struct random_state *random);

/* Any of these, with refusals, aborts and stalls. */
void sim_plan_draw_anything(struct sim_plan *plan, struct random_state *random);

#endif
