/* Linear hashing: see session_table.h. Owns the buckets. */
#include "core/session_table.h"

#include <assert.h>
#include <string.h>

#include "core/session.h"
#include "mux/memory.h"

#define BUCKETS_LEAST 16U

void session_table_init(struct session_table *table, uint64_t seed)
{
    *table = (struct session_table){.seed = seed};
}

void session_table_dispose(struct session_table *table)
{
    assert(table->count == 0 && "a session outlives its worker's table");
    memory_free(table->buckets);
    *table = (struct session_table){.seed = table->seed};
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    hash ^= hash >> 32;
    hash *= UINT64_C(0xd6e8feb86659fd93);
    return hash ^ hash >> 29;
}

static uint64_t hash_of(const struct session_table *table, const uint8_t key[METADATA_SESSION_BYTES])
{
    uint64_t words[2];
    memcpy(words, key, sizeof(words));
    return mix(mix(table->seed, words[0]), words[1]);
}

/* With the capacity a power of 2, buckets from bucket_count on are not split off yet: theirs is the half below. */
static size_t bucket_of(const struct session_table *table, uint64_t hash)
{
    size_t bucket = (size_t)hash & (table->capacity - 1);
    return bucket < table->bucket_count ? bucket : bucket - table->capacity / 2;
}

/* Makes room for one bucket more; false when memory is out. */
static bool table_reserve(struct session_table *table)
{
    if (table->bucket_count < table->capacity) {
        return true;
    }
    size_t capacity = table->capacity == 0 ? BUCKETS_LEAST : 2 * table->capacity;
    trunkline_session **buckets = memory_realloc(table->buckets, capacity * sizeof(*buckets));
    if (buckets == NULL) {
        return false;
    }
    memset(buckets + table->capacity, 0, (capacity - table->capacity) * sizeof(*buckets));
    if (table->capacity == 0) {
        table->bucket_count = capacity;
    }
    table->buckets = buckets;
    table->capacity = capacity;
    return true;
}

/* Adds a bucket and moves there what belongs to it, all from one other. */
static void table_split(struct session_table *table)
{
    if (table->count < table->bucket_count || !table_reserve(table)) {
        return;
    }
    if (table->bucket_count == table->capacity) {
        return; /* the first ones were just made */
    }
    size_t added = table->bucket_count;
    trunkline_session **place = &table->buckets[added - table->capacity / 2];
    table->bucket_count++;
    while (*place != NULL) {
        trunkline_session *session = *place;
        if (bucket_of(table, hash_of(table, session->key)) == added) {
            *place = session->same_bucket;
            session->same_bucket = table->buckets[added];
            table->buckets[added] = session;
        } else {
            place = &session->same_bucket;
        }
    }
}

bool session_table_insert(struct session_table *table, trunkline_session *session)
{
    table_split(table);
    if (table->bucket_count == 0) {
        return false;
    }
    trunkline_session **bucket = &table->buckets[bucket_of(table, hash_of(table, session->key))];
    session->same_bucket = *bucket;
    *bucket = session;
    table->count++;
    return true;
}

void session_table_remove(struct session_table *table, trunkline_session *session)
{
    if (!session->keyed) {
        return;
    }
    trunkline_session **place = &table->buckets[bucket_of(table, hash_of(table, session->key))];
    while (*place != session) {
        place = &(*place)->same_bucket;
    }
    *place = session->same_bucket;
    session->same_bucket = NULL;
    session->keyed = 0;
    table->count--;
}

trunkline_session *session_table_find(const struct session_table *table, const uint8_t key[METADATA_SESSION_BYTES])
{
    if (table->bucket_count == 0) {
        return NULL;
    }
    trunkline_session *session = table->buckets[bucket_of(table, hash_of(table, key))];
    while (session != NULL && memcmp(session->key, key, METADATA_SESSION_BYTES) != 0) {
        session = session->same_bucket;
    }
    return session;
}
