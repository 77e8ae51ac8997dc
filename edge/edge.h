/*
 * The process trunkline-edge: settings, credentials, sockets and workers, signals, and the end. Main's thread.
 */
#ifndef EDGE_EDGE_H
#define EDGE_EDGE_H

/* Runs the program; returns its exit code (enum process_exit). */
int edge_run(int argc, char *const *argv);

#endif
