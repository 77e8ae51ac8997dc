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

/* The source address of client number `client`: NULL when the system chooses, else `source`, filled. */
const struct address *dial_source(const struct dial *dial, uint32_t client, struct address *source);

/* Can this machine hold `clients`? If not, ERROR_LIMIT, and `fault` says in one line what is short. */
enum error_code dial_check(const struct dial *dial, uint32_t clients, char *fault, size_t capacity);

#endif
