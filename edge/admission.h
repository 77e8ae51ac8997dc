/*
 * Who may connect: limits for each address and for each network, on connections at a time and on connections that
 * arrive in a second. One for the whole process, as the workers share what arrives: any thread may call. An address
 * that is connected, or was within the last second, takes 16 bytes in a table that is at most three quarters full. IPv6
 * hosts have whole networks for themselves, so that an IPv6 "address" here is its first 64 bits.
 */
#ifndef EDGE_ADMISSION_H
#define EDGE_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/address.h"
#include "mux/error.h"

struct admission;

/* 0: no limit. */
struct admission_limits {
    uint32_t connections_per_address;
    uint32_t connections_per_network;
    uint32_t arrivals_per_address; /* per second */
    uint32_t arrivals_per_network;
    uint32_t network_ip4_bits; /* length of a network's prefix: at most 32 and 64 */
    uint32_t network_ip6_bits;
};

/* `seed` decides who shares a place with whom, and must not be known outside. *admission is NULL when nothing is
 * limited: the calls below take that for a yes. ERROR_NO_MEMORY, ERROR_SYSTEM. */
enum error_code admission_new(struct admission **admission, const struct admission_limits *limits, uint64_t seed);

/* Nulls the pointer; NULL is allowed. No thread may be within a call. */
void admission_free(struct admission **admission);

/* NULL: admitted and counted until admission_leave. Otherwise the name of the option whose limit is reached; static.
 * When memory for the table is out, "memory". Peers without an IP address are admitted and not counted. */
const char *admission_arrive(struct admission *admission, const struct address_compact *peer, uint64_t now_us);

/* Counts a connection that was admitted by another process, until admission_leave, whatever the limits. False when
 * memory for the table is out. */
bool admission_adopt(struct admission *admission, const struct address_compact *peer, uint64_t now_us);

/* An admitted connection is over. */
void admission_leave(struct admission *admission, const struct address_compact *peer, uint64_t now_us);

/* Addresses and networks that the tables hold now. */
size_t admission_entries(struct admission *admission);

#endif
