/*
 * A worker's sessions by the keys under which their edges resume them. Keys are made by an edge's HMAC, but an edge
 * that means harm may choose them: so they are hashed with a seed. Grows by one bucket for each session, never all at
 * once; the links are in the sessions. One thread.
 */
#ifndef CORE_SESSION_TABLE_H
#define CORE_SESSION_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/metadata.h"

struct trunkline_session;

struct session_table {
    struct trunkline_session **buckets; /* NULL: none yet */
    size_t count;                       /* sessions */
    size_t bucket_count;                /* in use; those above half of the capacity are split off, one by one */
    size_t capacity;                    /* of `buckets`, a power of 2 */
    uint64_t seed;
};

/* The seed is random: peers must not know which keys collide. */
void session_table_init(struct session_table *table, uint64_t seed);

/* Every session must have been removed. */
void session_table_dispose(struct session_table *table);

/* The session's key must not be there yet. Without memory for more buckets those there are are shared; without any, the
 * session cannot be found, and so ends with its trunk: false. */
bool session_table_insert(struct session_table *table, struct trunkline_session *session);

/* No effect on a session without a key. */
void session_table_remove(struct session_table *table, struct trunkline_session *session);

/* NULL when there is none. */
struct trunkline_session *session_table_find(const struct session_table *table,
                                             const uint8_t key[METADATA_SESSION_BYTES]);

#endif
