/*
 * What many sessions have in common is kept once: service, server name, protocol, listener and suite, everything of a
 * struct metadata but the client's address and what the session is known by. A table of what is in use, by hash; each
 * entry is reference counted, and frees itself with its last reference. One thread.
 */
#ifndef MUX_METADATA_POOL_H
#define MUX_METADATA_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "mux/metadata.h"

#define METADATA_POOL_BUCKET_MAX                                                                                       \
    16U /* entries: whoever makes names collide gets memory of its own for each session,                               \
           never our time */

struct metadata_pool;

struct metadata_shared {
    struct metadata_pool *pool;   /* NULL: in no bucket; always so with a certificate, which is one client's own */
    struct metadata_shared *next; /* in its bucket */
    uint64_t hash;
    uint32_t references;
    struct metadata view; /* `client` and `session` are none; texts follow in the same allocation */
};

struct metadata_pool {
    struct metadata_shared **buckets; /* NULL: none yet */
    size_t bucket_count;              /* 0, or a power of 2 */
    size_t count;                     /* entries in buckets */
    uint64_t seed;
};

/* `seed` keeps peers from knowing which names collide. Cannot fail. */
void metadata_pool_init(struct metadata_pool *pool, uint64_t seed);

/* Every reference must have been given back. */
void metadata_pool_dispose(struct metadata_pool *pool);

/* A reference to what equals `metadata` but for the client's address; NULL when memory is out. */
struct metadata_shared *metadata_pool_share(struct metadata_pool *pool, const struct metadata *metadata);

/* Gives the reference back, and nulls the pointer; a NULL is allowed. */
void metadata_shared_release(struct metadata_shared **shared);

#endif
