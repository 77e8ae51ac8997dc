/*
 * What a scenario expects of a client that is over. What is not so is told with sim_fail, and the run has failed. One
 * thread.
 */
#ifndef TESTS_SIM_EXPECT_H
#define TESTS_SIM_EXPECT_H

#include "tests/sim/sim_world.h"

void sim_expect_outcome(const struct sim_client *client, enum sim_outcome outcome);

/* It is over, and not by a clean end. */
void sim_expect_not_clean(const struct sim_client *client);

/* Everything that was sent has arrived, in both directions, and both sides know. */
void sim_expect_complete(const struct sim_client *client);

/* Its handler was told this reason, once. */
void sim_expect_reason(const struct sim_client *client, trunkline_reason reason);

void sim_expect_over_between(const struct sim_client *client, uint64_t earliest_us, uint64_t latest_us);

#endif
