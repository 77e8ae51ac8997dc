/*
 * Runs a scenario for many seeds, each in a process of its own: the TLS library's generator starts anew there, so the
 * seed alone decides what happens; a crash or a leak (looked for at each process's end in sanitizer builds) costs one
 * seed only; and the failing seed is told. TRUNKLINE_SIM_SEED=n runs that seed alone, TRUNKLINE_SIM_SEEDS=n runs n of
 * them, TRUNKLINE_SIM_TEST=pattern runs the tests of that name (with * for any text), TRUNKLINE_SIM_LOG=debug shows
 * what the engines log. One thread.
 */
#ifndef TESTS_SIM_RUN_H
#define TESTS_SIM_RUN_H

#include <stdbool.h>
#include <stdint.h>

/* What a run tells its parent beside success. */
struct sim_report {
    uint64_t traffic_hash;
    uint64_t traffic_bytes;
    uint64_t random_calls;
    uint64_t faults;
};

/* True when all went well. */
typedef bool sim_scenario_fn(uint64_t seed, struct sim_report *report);

/* Sets up logging. */
void sim_run_prepare(void);

/* Runs the scenario once in a process of its own. False when it failed or crashed. */
bool sim_run_once(sim_scenario_fn *scenario, uint64_t seed, struct sim_report *report);

/* Runs it for `seeds` seeds, unless the environment says otherwise; all of them, even after a failure. The number of
 * seeds that failed. */
unsigned sim_run_seeds(const char *name, sim_scenario_fn *scenario, uint64_t seeds);

#endif
