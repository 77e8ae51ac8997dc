/* The trunks of one edge worker: see pool.h. */
#include "edge/pool.h"

#include <string.h>

#include "edge/relay.h"
#include "edge/uplink.h"
#include "mux/address.h"
#include "mux/limits.h"
#include "mux/memory.h"

enum error_code pool_init(struct pool *pool, struct relay *relay)
{
    const struct edge_settings *settings = relay->settings;
    *pool = (struct pool){.relay = relay, .core_count = settings->core_count};
    list_init(&pool->draining);
    pool->place_count = settings->core_count * settings->trunks;
    if (pool->place_count > LIMIT_TRUNKS_PER_WORKER) {
        return ERROR_CONFIGURATION;
    }
    pool->cores = memory_calloc(pool->core_count, sizeof(*pool->cores));
    pool->places = memory_calloc(pool->place_count, sizeof(*pool->places));
    if (pool->cores == NULL || pool->places == NULL) {
        pool_dispose(pool);
        return ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < pool->core_count; i++) {
        const struct edge_core_settings *core = &settings->cores[i];
        char *name = pool->cores[i].server_name;
        size_t capacity = sizeof(pool->cores[i].server_name);
        enum error_code error = ERROR_NONE;
        list_init(&pool->cores[i].suspended);
        if (core->name == NULL) {
            error = address_host(core->address, name, capacity);
        } else if (strlen(core->name) >= capacity) {
            error = ERROR_INVALID;
        } else {
            memcpy(name, core->name, strlen(core->name) + 1);
        }
        if (error != ERROR_NONE) {
            pool_dispose(pool);
            return ERROR_CONFIGURATION;
        }
    }
    return ERROR_NONE;
}

/* Neighbours are of different cores, so that equals taken in turn spread over cores first. */
static size_t pool_core_of(const struct pool *pool, size_t place)
{
    return place % pool->core_count;
}

size_t pool_streams(const struct pool *pool)
{
    size_t streams = 0;
    list_for_each(&pool->draining, node) {
        streams += uplink_streams(container_of(node, struct uplink, node));
    }
    for (size_t i = 0; i < pool->place_count; i++) {
        const struct pool_place *place = &pool->places[i];
        streams += place->current != NULL ? uplink_streams(place->current) : 0;
        streams += place->successor != NULL ? uplink_streams(place->successor) : 0;
    }
    return streams;
}

enum error_code pool_start(struct pool *pool)
{
    size_t started = 0;
    for (size_t i = 0; i < pool->place_count; i++) {
        pool->places[i].current = uplink_new(pool, pool_core_of(pool, i), 0);
        if (pool->places[i].current != NULL) {
            uplink_start(pool->places[i].current);
            started++;
        }
    }
    return started > 0 ? ERROR_NONE : ERROR_NO_MEMORY;
}

void pool_dispose(struct pool *pool)
{
    pool->closing = true;
    struct list_node *node;
    while ((node = list_first(&pool->draining)) != NULL) {
        struct uplink *uplink = container_of(node, struct uplink, node);
        uplink_free(&uplink);
    }
    for (size_t i = 0; pool->places != NULL && i < pool->place_count; i++) {
        uplink_free(&pool->places[i].current);
        uplink_free(&pool->places[i].successor);
    }
    memory_free(pool->places);
    memory_free(pool->cores);
    pool->places = NULL;
    pool->cores = NULL;
    pool->place_count = 0;
}

struct uplink *pool_pick(struct pool *pool, const struct uplink *except)
{
    struct uplink *best = NULL;
    size_t best_streams = 0;
    size_t best_place = 0;
    bool except_openable = false;
    for (size_t i = 0; i < pool->place_count; i++) {
        size_t place = (pool->first + i) % pool->place_count;
        struct uplink *uplink = pool->places[place].current;
        if (uplink == NULL || uplink_openable(uplink) != ERROR_NONE) {
            continue;
        }
        if (uplink == except) {
            except_openable = true;
            best_place = best == NULL ? place : best_place;
            continue;
        }
        size_t streams = uplink_streams(uplink);
        if (best == NULL || streams < best_streams) {
            best = uplink;
            best_streams = streams;
            best_place = place;
        }
    }
    if (best == NULL && except_openable) {
        best = pool->places[best_place].current;
    }
    if (best != NULL) {
        pool->first = (best_place + 1) % pool->place_count;
    }
    return best;
}

bool pool_core_pauses(const struct pool *pool, size_t core)
{
    return pool->cores[core].resumes_after_us > pool->relay->scheduler->now_us;
}

/* `core` SIZE_MAX: any that does not pause. */
static struct uplink *pool_pick_of(struct pool *pool, size_t core)
{
    struct uplink *best = NULL;
    for (size_t i = 0; i < pool->place_count; i++) {
        struct uplink *uplink = pool->places[i].current;
        if (uplink != NULL && (core == SIZE_MAX ? !pool_core_pauses(pool, uplink->core) : uplink->core == core) &&
            uplink_openable(uplink) == ERROR_NONE && trunk_resumes(uplink->link.trunk) &&
            (best == NULL || uplink_streams(uplink) < uplink_streams(best))) {
            best = uplink;
        }
    }
    return best;
}

struct uplink *pool_pick_core(struct pool *pool, size_t core)
{
    return pool_pick_of(pool, core);
}

struct uplink *pool_pick_resuming(struct pool *pool)
{
    return pool_pick_of(pool, SIZE_MAX);
}

static void pool_settle_uplink(struct uplink *uplink)
{
    if (uplink != NULL && uplink->state == UPLINK_DRAINING && uplink_streams(uplink) == 0) {
        uplink_close(uplink, ERROR_NONE);
    }
}

void pool_settle(struct pool *pool)
{
    for (size_t i = 0; i < pool->place_count; i++) {
        pool_settle_uplink(pool->places[i].current); /* draining in its place: there was no memory for another */
    }
    list_for_each(&pool->draining, node) {
        pool_settle_uplink(container_of(node, struct uplink, node));
    }
}

bool pool_has_draining(const struct pool *pool)
{
    for (size_t i = 0; i < pool->place_count; i++) {
        if (pool->places[i].current != NULL && pool->places[i].current->state == UPLINK_DRAINING) {
            return true;
        }
    }
    return !list_empty(&pool->draining);
}

static void pool_close_uplink(struct uplink *uplink)
{
    if (uplink != NULL) {
        uplink_drain(uplink, true);
        uplink_close(uplink, ERROR_NONE);
    }
}

void pool_close(struct pool *pool)
{
    pool->closing = true;
    for (size_t i = 0; i < pool->place_count; i++) {
        pool_close_uplink(pool->places[i].current);
        pool_close_uplink(pool->places[i].successor);
    }
    list_for_each(&pool->draining, node) {
        pool_close_uplink(container_of(node, struct uplink, node));
    }
}

bool pool_closed(const struct pool *pool)
{
    return pool->closing && pool->links == 0;
}

/* ------------------------------------------------------------------------------------------------ replacing */

static struct pool_place *pool_place_of(struct pool *pool, const struct uplink *uplink)
{
    for (size_t i = 0; i < pool->place_count; i++) {
        if (pool->places[i].current == uplink || pool->places[i].successor == uplink) {
            return &pool->places[i];
        }
    }
    return NULL;
}

/* The successor takes the place. What was there drains, or is freed when it carries nothing. */
static void pool_promote(struct pool *pool, struct pool_place *place)
{
    struct uplink *old = place->current;
    place->current = place->successor;
    place->successor = NULL;
    if (old == NULL) {
        return;
    }
    if (old->linked && old->state != UPLINK_CONNECTING) {
        list_append(&pool->draining, &old->node);
        uplink_drain(old, true);
    } else {
        uplink_free(&old);
    }
}

void pool_uplink_up(struct pool *pool, struct uplink *uplink)
{
    struct pool_place *place = pool_place_of(pool, uplink);
    if (place != NULL && place->successor == uplink) {
        pool_promote(pool, place);
    }
    relay_settle_later(pool->relay);
}

void pool_uplink_goaway(struct pool *pool, struct uplink *uplink)
{
    struct pool_place *place = pool_place_of(pool, uplink);
    uint32_t failures = uplink_failures_after(uplink);
    uplink_drain(uplink, false);
    relay_settle_later(pool->relay);
    if (place == NULL || pool->closing) {
        return;
    }
    if (place->successor != NULL) {
        pool_promote(pool, place);
        return;
    }
    struct uplink *replacement = uplink_new(pool, uplink->core, failures);
    if (replacement == NULL) {
        return; /* it stays in its place, and dials again when its last stream has ended */
    }
    list_append(&pool->draining, &uplink->node);
    place->current = replacement;
    uplink_start(replacement);
}

void pool_uplink_exhausting(struct pool *pool, struct uplink *uplink)
{
    struct pool_place *place = pool_place_of(pool, uplink);
    if (place == NULL || place->current != uplink || place->successor != NULL || pool->closing) {
        return;
    }
    place->successor = uplink_new(pool, uplink->core, 0); /* without memory: again with the next stream */
    if (place->successor != NULL) {
        uplink_start(place->successor);
    }
}

bool pool_uplink_over(struct pool *pool, struct uplink *uplink)
{
    struct pool_place *place = pool_place_of(pool, uplink);
    if (place != NULL && !(place->current == uplink && place->successor != NULL)) {
        return false;
    }
    if (place != NULL) {
        place->current = place->successor;
        place->successor = NULL;
    }
    uplink_free(&uplink);
    return true;
}
