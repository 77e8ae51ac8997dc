/*
 * The services of the simulated cores, through the public interface: "sim-echo" is the core's own echo handler with an
 * observer in front of it, "sim-script" does what the client's plan says. Both check every byte and every event that
 * reaches the core. One thread.
 */
#ifndef TESTS_SIM_HANDLERS_H
#define TESTS_SIM_HANDLERS_H

#include "core/trunkline.h"
#include "tests/sim/sim_world.h"

#define SIM_HANDLERS 2

extern const trunkline_handler *const sim_handlers[SIM_HANDLERS];

/* The world whose clients the handlers serve: one at a time. */
void sim_handlers_serve(struct sim_world *world);

#endif
