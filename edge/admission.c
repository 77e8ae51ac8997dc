/*
 * Limits for each address and network: see admission.h. Two tables, hashed with a secret seed, in parts with a lock
 * each, so that a table that grows stops nobody for long. Linear probing; an entry that is taken out closes its gap.
 */
#include "edge/admission.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "mux/clock.h"
#include "mux/memory.h"

#define PARTS          16U
#define ROOM_MIN       64U /* entries of a part at first */
#define SECOND_US      1000000U
#define ADDRESS_BITS_4 32U
#define ADDRESS_BITS_6 64U

/* 16 bytes. */
struct entry {
    uint64_t key;         /* a keyed hash; 0: free */
    uint32_t connections; /* now */
    uint16_t second;      /* of the last arrival, modulo 2^16 */
    uint16_t arrivals;    /* in that second, up to UINT16_MAX */
};

struct part {
    pthread_mutex_t lock;
    struct entry *entries; /* NULL: none yet */
    size_t room;           /* a power of two */
    size_t used;
};

struct table {
    struct part parts[PARTS];
    uint32_t connections_max; /* 0: no limit */
    uint32_t arrivals_max;
};

struct admission {
    struct table addresses;
    struct table networks;
    uint64_t seed;
    uint32_t network_ip4_bits;
    uint32_t network_ip6_bits;
};

/* ------------------------------------------------------------------------------------------------ keys */

/* Each bit of the result depends on all of the value, and no two values have the same. */
static uint64_t mixed(uint64_t value)
{
    struct random_state random;
    random_seed(&random, value);
    return random_next(&random);
}

static uint64_t key_of(const struct admission *admission, const struct address_compact *peer, unsigned bits)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++) {
        value = value << 8 | (peer->family == 4 && i >= 4 ? 0 : peer->ip[i]);
    }
    if (bits < 64) {
        value &= bits == 0 ? 0 : ~UINT64_C(0) << (64 - bits);
    }
    uint64_t key = mixed(mixed(value ^ admission->seed) + peer->family + (admission->seed << 7));
    return key != 0 ? key : 1;
}

static uint64_t address_key(const struct admission *admission, const struct address_compact *peer)
{
    return key_of(admission, peer, peer->family == 4 ? ADDRESS_BITS_4 : ADDRESS_BITS_6);
}

static uint64_t network_key(const struct admission *admission, const struct address_compact *peer)
{
    return key_of(admission, peer, peer->family == 4 ? admission->network_ip4_bits : admission->network_ip6_bits);
}

/* ------------------------------------------------------------------------------------------------ a part */

static struct part *part_of(struct table *table, uint64_t key)
{
    return &table->parts[key % PARTS];
}

static size_t place_of(const struct part *part, uint64_t key)
{
    return (size_t)(key / PARTS) & (part->room - 1);
}

/* The entry of the key, or the free one where it belongs. */
static struct entry *part_find(const struct part *part, uint64_t key)
{
    size_t place = place_of(part, key);
    while (part->entries[place].key != 0 && part->entries[place].key != key) {
        place = (place + 1) & (part->room - 1);
    }
    return &part->entries[place];
}

static uint16_t second_of(uint64_t now_us)
{
    return (uint16_t)(now_us / SECOND_US);
}

static bool entry_stale(const struct entry *entry, uint64_t now_us)
{
    return entry->connections == 0 && entry->second != second_of(now_us);
}

/* Moves what is of use to a table of its own; so stale entries go, too. False when memory is out. */
static bool part_rebuild(struct part *part, uint64_t now_us)
{
    size_t live = 0;
    for (size_t i = 0; i < part->room; i++) {
        live += part->entries[i].key != 0 && !entry_stale(&part->entries[i], now_us);
    }
    struct part fresh = {.room = ROOM_MIN, .used = live};
    while (fresh.room / 2 < live + 1) {
        fresh.room *= 2;
    }
    fresh.entries = memory_calloc(fresh.room, sizeof(*fresh.entries));
    if (fresh.entries == NULL) {
        return false;
    }
    for (size_t i = 0; i < part->room; i++) {
        if (part->entries[i].key != 0 && !entry_stale(&part->entries[i], now_us)) {
            *part_find(&fresh, part->entries[i].key) = part->entries[i];
        }
    }
    memory_free(part->entries);
    part->entries = fresh.entries;
    part->room = fresh.room;
    part->used = fresh.used;
    return true;
}

/* The entry of the key, made if need be; NULL when memory is out. */
static struct entry *part_get(struct part *part, uint64_t key, uint64_t now_us)
{
    struct entry *entry = part->entries != NULL ? part_find(part, key) : NULL;
    if (entry != NULL && entry->key == key) {
        return entry;
    }
    if (part->used + 1 > part->room / 4 * 3) {
        if (!part_rebuild(part, now_us)) {
            return NULL;
        }
        entry = part_find(part, key);
    }
    *entry = (struct entry){.key = key, .second = second_of(now_us)};
    part->used++;
    return entry;
}

/* Whatever had to go further because of it comes back. */
static void part_take_out(struct part *part, struct entry *entry)
{
    size_t gap = (size_t)(entry - part->entries);
    for (size_t i = (gap + 1) & (part->room - 1); part->entries[i].key != 0; i = (i + 1) & (part->room - 1)) {
        size_t home = place_of(part, part->entries[i].key);
        if (((i - home) & (part->room - 1)) >= ((i - gap) & (part->room - 1))) {
            part->entries[gap] = part->entries[i];
            gap = i;
        }
    }
    part->entries[gap] = (struct entry){.key = 0};
    part->used--;
}

/* ------------------------------------------------------------------------------------------------ a table */

enum table_verdict { TABLE_ADMITTED, TABLE_CONNECTIONS, TABLE_ARRIVALS, TABLE_NO_MEMORY };

static bool table_limits(const struct table *table)
{
    return table->connections_max > 0 || table->arrivals_max > 0;
}

static enum table_verdict entry_judge(const struct table *table, struct entry *entry, uint64_t now_us)
{
    if (entry->second != second_of(now_us)) {
        entry->second = second_of(now_us);
        entry->arrivals = 0;
    }
    if (table->arrivals_max > 0 && entry->arrivals >= table->arrivals_max) {
        return TABLE_ARRIVALS;
    }
    if (table->connections_max > 0 && entry->connections >= table->connections_max) {
        return TABLE_CONNECTIONS;
    }
    return TABLE_ADMITTED;
}

/* Arrivals count whatever becomes of them: who knocks without end is heard no more often. */
static enum table_verdict table_arrive(struct table *table, uint64_t key, uint64_t now_us)
{
    enum table_verdict verdict = TABLE_NO_MEMORY;
    struct part *part = part_of(table, key);
    if (!table_limits(table)) {
        return TABLE_ADMITTED;
    }
    pthread_mutex_lock(&part->lock);
    struct entry *entry = part_get(part, key, now_us);
    if (entry != NULL) {
        verdict = entry_judge(table, entry, now_us);
        entry->arrivals = entry->arrivals < UINT16_MAX ? (uint16_t)(entry->arrivals + 1) : UINT16_MAX;
        entry->connections += verdict == TABLE_ADMITTED;
    }
    pthread_mutex_unlock(&part->lock);
    return verdict;
}

/* Whatever the limits; arrivals do not count. */
static bool table_adopt(struct table *table, uint64_t key, uint64_t now_us)
{
    struct part *part = part_of(table, key);
    if (!table_limits(table)) {
        return true;
    }
    pthread_mutex_lock(&part->lock);
    struct entry *entry = part_get(part, key, now_us);
    if (entry != NULL) {
        entry->connections++;
    }
    pthread_mutex_unlock(&part->lock);
    return entry != NULL;
}

static void table_leave(struct table *table, uint64_t key, uint64_t now_us)
{
    struct part *part = part_of(table, key);
    if (!table_limits(table)) {
        return;
    }
    pthread_mutex_lock(&part->lock);
    struct entry *entry = part_find(part, key);
    assert(entry->key == key && entry->connections > 0 && "who leaves has arrived");
    entry->connections--;
    if (entry_stale(entry, now_us)) {
        part_take_out(part, entry);
    }
    if (part->used < part->room / 8 && part->room > ROOM_MIN) {
        (void)part_rebuild(part, now_us); /* without memory it stays as large as it is */
    }
    pthread_mutex_unlock(&part->lock);
}

static size_t table_entries(struct table *table)
{
    size_t entries = 0;
    for (size_t i = 0; i < PARTS; i++) {
        pthread_mutex_lock(&table->parts[i].lock);
        entries += table->parts[i].used;
        pthread_mutex_unlock(&table->parts[i].lock);
    }
    return entries;
}

static void table_init(struct table *table, uint32_t connections_max, uint32_t arrivals_max)
{
    table->connections_max = connections_max;
    table->arrivals_max = arrivals_max;
    for (size_t i = 0; i < PARTS; i++) {
        pthread_mutex_init(&table->parts[i].lock, NULL); /* never fails with these attributes */
    }
}

static void table_dispose(struct table *table)
{
    for (size_t i = 0; i < PARTS; i++) {
        memory_free(table->parts[i].entries);
        pthread_mutex_destroy(&table->parts[i].lock);
    }
}

/* ------------------------------------------------------------------------------------------------ the whole */

enum error_code admission_new(struct admission **result, const struct admission_limits *limits, uint64_t seed)
{
    *result = NULL;
    if (limits->connections_per_address == 0 && limits->connections_per_network == 0 &&
        limits->arrivals_per_address == 0 && limits->arrivals_per_network == 0) {
        return ERROR_NONE;
    }
    struct admission *admission = memory_zalloc(sizeof(*admission));
    if (admission == NULL) {
        return ERROR_NO_MEMORY;
    }
    admission->seed = seed;
    admission->network_ip4_bits = limits->network_ip4_bits;
    admission->network_ip6_bits = limits->network_ip6_bits;
    table_init(&admission->addresses, limits->connections_per_address, limits->arrivals_per_address);
    table_init(&admission->networks, limits->connections_per_network, limits->arrivals_per_network);
    *result = admission;
    return ERROR_NONE;
}

void admission_free(struct admission **pointer)
{
    struct admission *admission = *pointer;
    *pointer = NULL;
    if (admission != NULL) {
        table_dispose(&admission->addresses);
        table_dispose(&admission->networks);
        memory_free(admission);
    }
}

const char *admission_arrive(struct admission *admission, const struct address_compact *peer, uint64_t now_us)
{
    static const char *const address_names[] = {NULL, "connections-per-address", "arrivals-per-address", "memory"};
    static const char *const network_names[] = {NULL, "connections-per-network", "arrivals-per-network", "memory"};
    if (admission == NULL || peer->family == 0) {
        return NULL;
    }
    uint64_t key = address_key(admission, peer);
    enum table_verdict verdict = table_arrive(&admission->addresses, key, now_us);
    if (verdict != TABLE_ADMITTED) {
        return address_names[verdict];
    }
    verdict = table_arrive(&admission->networks, network_key(admission, peer), now_us);
    if (verdict != TABLE_ADMITTED) {
        table_leave(&admission->addresses, key, now_us);
    }
    return network_names[verdict];
}

bool admission_adopt(struct admission *admission, const struct address_compact *peer, uint64_t now_us)
{
    if (admission == NULL || peer->family == 0) {
        return true;
    }
    uint64_t key = address_key(admission, peer);
    if (!table_adopt(&admission->addresses, key, now_us)) {
        return false;
    }
    if (!table_adopt(&admission->networks, network_key(admission, peer), now_us)) {
        table_leave(&admission->addresses, key, now_us);
        return false;
    }
    return true;
}

void admission_leave(struct admission *admission, const struct address_compact *peer, uint64_t now_us)
{
    if (admission == NULL || peer->family == 0) {
        return;
    }
    table_leave(&admission->addresses, address_key(admission, peer), now_us);
    table_leave(&admission->networks, network_key(admission, peer), now_us);
}

size_t admission_entries(struct admission *admission)
{
    return admission == NULL ? 0 : table_entries(&admission->addresses) + table_entries(&admission->networks);
}
