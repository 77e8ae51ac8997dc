/*
 * One worker of a run: its share of the clients, from the first connect() to the last close, on the calling thread. It
 * goes from phase to phase as the board says, and notes on it when it has come to the end of one.
 */
#ifndef LOAD_RUN_H
#define LOAD_RUN_H

#include "tests/load/board.h"
#include "tests/load/options.h"

/* Returns when the run is over, or when its slot tells why it could not start. The slot's tally must be initialized. */
void run_worker(const struct load_options *options, struct share share, struct board *board);

#endif
