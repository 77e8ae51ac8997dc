/* A table of shared descriptions: see metadata_pool.h. Owns its buckets; the entries own themselves. */
#include "mux/metadata_pool.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "mux/memory.h"

#define BUCKETS_LEAST 16U

void metadata_pool_init(struct metadata_pool *pool, uint64_t seed)
{
    *pool = (struct metadata_pool){.seed = seed};
}

void metadata_pool_dispose(struct metadata_pool *pool)
{
    assert(pool->count == 0 && "a description outlives its pool");
    memory_free(pool->buckets);
    *pool = (struct metadata_pool){.seed = pool->seed};
}

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t length)
{
    const uint8_t *byte = bytes;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ byte[i]) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    return hash;
}

/* With the zero at the end, so that texts next to each other cannot trade bytes. */
static uint64_t hash_text(uint64_t hash, const char *text)
{
    return hash_bytes(hash, text, strlen(text) + 1);
}

static const char *edge_of(const struct metadata *metadata)
{
    return metadata->edge != NULL ? metadata->edge : "";
}

static uint64_t hash_of(const struct metadata_pool *pool, const struct metadata *metadata)
{
    uint64_t hash = hash_text(pool->seed, metadata->service);
    hash = hash_text(hash, metadata->server_name);
    hash = hash_text(hash, metadata->alpn);
    hash = hash_text(hash, edge_of(metadata));
    hash = hash_bytes(hash, &metadata->listener, sizeof(metadata->listener));
    hash = hash_bytes(hash, &metadata->tls_version, sizeof(metadata->tls_version));
    return hash_bytes(hash, &metadata->tls_suite, sizeof(metadata->tls_suite));
}

static bool same_but_client(const struct metadata *one, const struct metadata *other)
{
    return one->tls_suite == other->tls_suite && one->tls_version == other->tls_version &&
           memcmp(&one->listener, &other->listener, sizeof(one->listener)) == 0 &&
           strcmp(one->service, other->service) == 0 && strcmp(one->server_name, other->server_name) == 0 &&
           strcmp(one->alpn, other->alpn) == 0 && strcmp(edge_of(one), edge_of(other)) == 0;
}

static struct metadata_shared **bucket_of(const struct metadata_pool *pool, uint64_t hash)
{
    return &pool->buckets[hash & (pool->bucket_count - 1)];
}

/* As many buckets as entries, or twice. Without memory the buckets there are have to do; without any, nothing is
 * shared.
 */
static void pool_grow(struct metadata_pool *pool)
{
    size_t count = pool->bucket_count == 0 ? BUCKETS_LEAST : 2 * pool->bucket_count;
    if (pool->count < pool->bucket_count) {
        return;
    }
    struct metadata_shared **buckets = memory_calloc(count, sizeof(*buckets));
    if (buckets == NULL) {
        return;
    }
    for (size_t i = 0; i < pool->bucket_count; i++) {
        struct metadata_shared *shared = pool->buckets[i];
        while (shared != NULL) {
            struct metadata_shared *next = shared->next;
            shared->next = buckets[shared->hash & (count - 1)];
            buckets[shared->hash & (count - 1)] = shared;
            shared = next;
        }
    }
    memory_free(pool->buckets);
    pool->buckets = buckets;
    pool->bucket_count = count;
}

static struct metadata_shared *pool_find(const struct metadata_pool *pool, const struct metadata *metadata,
                                         uint64_t hash)
{
    if (pool->bucket_count == 0) {
        return NULL;
    }
    for (struct metadata_shared *shared = *bucket_of(pool, hash); shared != NULL; shared = shared->next) {
        if (shared->hash == hash && same_but_client(&shared->view, metadata)) {
            return shared;
        }
    }
    return NULL;
}

/* An entry that finds its bucket full, or no bucket, stays outside: it is one session's own. */
static void pool_insert(struct metadata_pool *pool, struct metadata_shared *shared)
{
    unsigned length = 0;
    pool_grow(pool);
    if (pool->bucket_count == 0) {
        return;
    }
    struct metadata_shared **bucket = bucket_of(pool, shared->hash);
    for (const struct metadata_shared *other = *bucket; other != NULL; other = other->next) {
        length++;
    }
    if (length < METADATA_POOL_BUCKET_MAX) {
        shared->next = *bucket;
        *bucket = shared;
        pool->count++;
        shared->pool = pool;
    }
}

struct metadata_shared *metadata_pool_share(struct metadata_pool *pool, const struct metadata *metadata)
{
    bool own = metadata->certificate_length > 0;
    uint64_t hash = own ? 0 : hash_of(pool, metadata);
    struct metadata_shared *shared = own ? NULL : pool_find(pool, metadata, hash);
    if (shared == NULL) {
        shared = memory_alloc(sizeof(*shared) + metadata_copy_bytes(metadata));
        if (shared == NULL) {
            return NULL;
        }
        *shared = (struct metadata_shared){.hash = hash};
        metadata_copy_into(&shared->view, (char *)(shared + 1), metadata);
        memset(&shared->view.client, 0, sizeof(shared->view.client));
        memset(&shared->view.session, 0, sizeof(shared->view.session));
        if (!own) {
            pool_insert(pool, shared);
        }
    }
    shared->references++;
    return shared;
}

static void pool_remove(struct metadata_shared *shared)
{
    struct metadata_shared **place = bucket_of(shared->pool, shared->hash);
    while (*place != shared) {
        place = &(*place)->next;
    }
    *place = shared->next;
    shared->pool->count--;
}

void metadata_shared_release(struct metadata_shared **pointer)
{
    struct metadata_shared *shared = *pointer;
    *pointer = NULL;
    if (shared == NULL || --shared->references > 0) {
        return;
    }
    if (shared->pool != NULL) {
        pool_remove(shared);
    }
    memory_free(shared);
}
