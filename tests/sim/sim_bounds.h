/* Between two steps nothing is held beyond its bound: streams, clients, sessions, and the budgets that they are charged
 * to. */
#ifndef TESTS_SIM_BOUNDS_H
#define TESTS_SIM_BOUNDS_H

#include "tests/sim/sim_world.h"

/* The world fails when something is. Notes the peaks. */
void sim_bounds_check(struct sim_world *world);

#endif
