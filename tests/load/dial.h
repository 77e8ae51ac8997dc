/*
 * Where clients connect from: the pool of source addresses, the socket of a new client, and the check, before a run,
 * that the machine has files and ports for all of them. Owned by main; read-only during a run. One thread.
 */
#ifndef LOAD_DIAL_H
#define LOAD_DIAL_H

#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>

#include "mux/address.h"
#include "mux/error.h"

#define DIAL_BLOCKS_MAX 16U

struct dial_block {
    uint32_t first; /* IPv4, host order */
    uint32_t count;
};

struct dial {
    struct address peer;
    struct dial_block blocks[DIAL_BLOCKS_MAX];
    uint32_t block_count;
    uint32_t source_count; /* addresses of all blocks; 0: the system chooses the source address */
};

/* Reads "127.0.1.0/28,127.0.7.3": blocks from /32 to /8, network and broadcast address of a block left out. `sources`
 * NULL: none. ERROR_INVALID for malformed text, or more than DIAL_BLOCKS_MAX blocks. */
enum error_code dial_init(struct dial *dial, const struct address *peer, const char *sources);

/* The source address of client number `client`: NULL when the system chooses, else `source`, filled. */
const struct address *dial_source(const struct dial *dial, uint32_t client, struct address *source);

/* Can this machine hold `clients`, with or without tickets, in `processes` processes? If not, ERROR_LIMIT, and `fault`
 * says in one line what is short and what to change: open files of each process, ports, memory, or addresses that are
 * not the machine's. */
enum error_code dial_check(const struct dial *dial, uint32_t clients, uint32_t processes, bool tickets, char *fault,
                           size_t capacity);

#endif
