/*
 * Where clients connect from: the pool of source addresses, the socket of a new client, and the check, before a run,
 * that the machine has files and ports for all of them. Owned by main; read-only during a run. One thread.
 */
#ifndef LOAD_DIAL_H
#define LOAD_DIAL_H

#include <stdint.h>

#include "mux/address.h"
#include "mux/error.h"

struct dial {
    struct address peer;
    uint32_t source_first; /* IPv4, host order */
    uint32_t source_count; /* 0: the system chooses the source address */
};

/* Reads "127.0.1.0/28" (from /32 to /8; network and broadcast address of a block are left out). `sources` NULL: none.
 * ERROR_INVALID for malformed text. */
enum error_code dial_init(struct dial *dial, const struct address *peer, const char *sources);

/* Starts the connection of client number `client` and gives its non-blocking socket. On an error errno tells more:
 * ERROR_NO_FILES, ERROR_LIMIT (no free port), ERROR_UNREACHABLE, ERROR_SYSTEM. */
enum error_code dial_start(const struct dial *dial, uint32_t client, int *fd);

/* How the attempt ended, once the socket is writable: ERROR_NONE, ERROR_AGAIN_LATER while it goes on, ERROR_UNREACHABLE
 * (errno set to the cause). */
enum error_code dial_finish(int fd);

/* Can this machine hold `clients`? If not, ERROR_LIMIT, and `fault` says in one line what is short. */
enum error_code dial_check(const struct dial *dial, uint32_t clients, char *fault, size_t capacity);

#endif
