/* Scenarios about windows and the memory of buffers; see sim_test.c for what a scenario is. One thread. */
#ifndef TESTS_SIM_BUFFERS_H
#define TESTS_SIM_BUFFERS_H

#include "tests/sim/sim_run.h"

/* Downloads and uploads over a trunk with a long path: windows grow, and go back. */
bool sim_buffers_long_path(uint64_t seed, struct sim_report *report);

/* More clients stop reading than an edge has memory for. */
bool sim_buffers_edge_full(uint64_t seed, struct sim_report *report);

/* More handlers stop consuming than a core has memory for. */
bool sim_buffers_core_full(uint64_t seed, struct sim_report *report);

#endif
