/*
 * One worker of a run: its share of the clients, from the first connect() to the last close, on the calling thread. It
 * goes from phase to phase as the board says, and notes on it when it has come to the end of one.
 */
#ifndef LOAD_RUN_H
#define LOAD_RUN_H

#include "tests/load/board.h"
#include "tests/load/options.h"

/* Returns when the run is over, or when its slot, that of share.index, tells why it could not start. The slot's tally
 * must be initialized. */
void run_worker(const struct load_options *options, struct share share, struct board *board);

/* The same for a worker that has no clients but the probes, so that what they see is not what it does. */
void run_prober(const struct load_options *options, struct board_slot *slot, struct board *board);

#endif
