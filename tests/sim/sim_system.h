/*
 * What the process believes of chance and time. The simulation's executable has its own getrandom, clock_gettime and
 * their like, which the libraries (GnuTLS above all) are bound to instead of the C library's: so a seed decides every
 * key and every nonce, and time stands still unless the simulation moves it. One thread.
 */
#ifndef TESTS_SIM_SYSTEM_H
#define TESTS_SIM_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

/* From now on all randomness follows from the seed. GnuTLS has a generator of its own on top, which it starts anew in
 * a forked process: seed first thing after the fork. */
void sim_system_seed(uint64_t seed);

/* Moves every clock of the process to `now_us` after the simulation's beginning. */
void sim_system_set_time(uint64_t now_us);

/* The machine's own clock, for budgets of real time. */
uint64_t sim_system_real_us(void);

/* Calls of the random source that were answered, so that a test can see that it is in place. */
uint64_t sim_system_random_calls(void);

#endif
