/* A trunk's life at the edge: see uplink.h. The pool owns uplinks; an uplink owns its link and transport. */
#include "edge/uplink.h"

#include <assert.h>
#include <string.h>

#include "edge/client.h"
#include "edge/pool.h"
#include "edge/relay.h"
#include "mux/limits.h"
#include "mux/memory.h"

static const char *const state_names[UPLINK_STATE_COUNT] = {
    [UPLINK_IDLE] = "idle",         [UPLINK_CONNECTING] = "connecting", [UPLINK_UP] = "up",
    [UPLINK_DRAINING] = "draining", [UPLINK_WAITING] = "waiting",
};

#define MOVE(state) (1U << UPLINK_##state)

static const unsigned legal_moves[UPLINK_STATE_COUNT] = {
    [UPLINK_IDLE] = MOVE(CONNECTING) | MOVE(WAITING),
    [UPLINK_CONNECTING] = MOVE(UP) | MOVE(WAITING) | MOVE(IDLE),
    [UPLINK_UP] = MOVE(DRAINING) | MOVE(WAITING) | MOVE(IDLE),
    [UPLINK_DRAINING] = MOVE(WAITING) | MOVE(IDLE),
    [UPLINK_WAITING] = MOVE(CONNECTING) | MOVE(IDLE),
};

const char *uplink_state_name(enum uplink_state state)
{
    return state < UPLINK_STATE_COUNT ? state_names[state] : "unknown";
}

static void uplink_move(struct uplink *uplink, enum uplink_state to)
{
    if (uplink->state == to) {
        return;
    }
    assert((legal_moves[uplink->state] & (1U << to)) && "an uplink made a move that its diagram does not have");
    LOG(LOG_DEBUG, "trunk-state", LOG_INTEGER("worker", uplink->pool->relay->worker),
        LOG_INTEGER("trunk", uplink->number), LOG_TEXT("from", state_names[uplink->state]),
        LOG_TEXT("to", state_names[to]));
    uplink->state = (uint8_t)to;
}

static const char *uplink_core_address(const struct uplink *uplink)
{
    return uplink->pool->relay->settings->cores[uplink->core].address;
}

/* ------------------------------------------------------------------------------------------------ waiting */

/* The wait before attempt number `failures` + 1: doubled with each failure; half of it is chance, so that the edges of
 * a region do not all come back to a restarted core at one moment. */
static uint64_t uplink_backoff_ms(struct uplink *uplink)
{
    struct relay *relay = uplink->pool->relay;
    uint64_t wait = relay->settings->reconnect_min_ms;
    for (uint32_t i = 1; i < uplink->failures && wait < relay->settings->reconnect_max_ms; i++) {
        wait *= 2;
    }
    if (wait > relay->settings->reconnect_max_ms) {
        wait = relay->settings->reconnect_max_ms;
    }
    return wait / 2 + random_below(&relay->random, wait / 2 + 1);
}

static uint64_t uplink_wait(struct uplink *uplink)
{
    uint64_t wait = uplink_backoff_ms(uplink);
    uplink_move(uplink, UPLINK_WAITING);
    scheduler_arm(uplink->pool->relay->scheduler, &uplink->timer, wait);
    return wait;
}

uint32_t uplink_failures_after(const struct uplink *uplink)
{
    bool was_up = uplink->state == UPLINK_UP || uplink->state == UPLINK_DRAINING;
    if (was_up && uplink->pool->relay->scheduler->now_us - uplink->since_us >= UPLINK_STABLE_US) {
        return 0;
    }
    return uplink->failures < UINT32_MAX ? uplink->failures + 1 : uplink->failures;
}

/* ------------------------------------------------------------------------------------------------ events */

static void uplink_log_down(struct uplink *uplink, enum error_code error, bool was_up, int64_t retry_ms)
{
    struct relay *relay = uplink->pool->relay;
    uint64_t suppressed = 0;
    if (error == ERROR_NONE) {
        LOG(LOG_INFO, "trunk-closed", LOG_TEXT("peer", uplink_core_address(uplink)),
            LOG_INTEGER("worker", uplink->pool->relay->worker), LOG_INTEGER("trunk", uplink->number));
        return;
    }
    if (!log_counter_allow(&relay->log_trunk, relay->scheduler->now_us, &suppressed)) {
        return;
    }
    /* In TLS 1.3 a client's certificate is judged when its side of the handshake is over already (RFC 8446
     * section 4.6), and the alert can be lost behind the reset of the connection. */
    bool ended_early = !was_up && uplink->greeted && error != ERROR_TIMEOUT;
    bool refused = ended_early || (!was_up && (error == ERROR_TLS_CERTIFICATE || error == ERROR_TLS_ALERT));
    LOG(LOG_WARNING, refused ? "trunk-refused" : "trunk-down", LOG_TEXT("peer", uplink_core_address(uplink)),
        LOG_INTEGER("worker", uplink->pool->relay->worker), LOG_INTEGER("trunk", uplink->number), LOG_ERROR_CODE(error),
        LOG_TEXT("text",
                 ended_early ? "the core ended it at once; does it accept the trunk certificate?" : error_text(error)),
        LOG_INTEGER("retry_ms", retry_ms), LOG_INTEGER("sessions_suspended", uplink->suspended),
        LOG_INTEGER("suppressed", suppressed));
}

/* The link is gone: dials again unless nobody needs this uplink any more. May free it. */
static void uplink_over(struct uplink *uplink, enum error_code error)
{
    struct pool *pool = uplink->pool;
    struct relay *relay = pool->relay;
    bool was_up = uplink->state == UPLINK_UP || uplink->state == UPLINK_DRAINING;
    uplink->failures = error == ERROR_NONE ? 0 : uplink_failures_after(uplink);
    if (uplink->failures == 0) {
        uplink->failures = 1; /* even the first attempt waits a little: all trunks of a lost core come at once */
    }
    if (uplink->linked) {
        uplink->linked = 0;
        pool->links--;
    }
    uplink->closing = 0;
    scheduler_disarm(relay->scheduler, &uplink->timer);
    if (was_up) {
        relay->counters.trunks_down++;
    }
    if (pool->closing) {
        if (was_up) {
            uplink_log_down(uplink, ERROR_NONE, was_up, 0);
        }
        uplink_move(uplink, UPLINK_IDLE);
    } else if (uplink->state == UPLINK_DRAINING) {
        uplink_log_down(uplink, error, was_up, 0); /* it may be freed now: another has its place */
        if (!pool_uplink_over(pool, uplink)) {
            uplink_wait(uplink);
        }
    } else if (!pool_uplink_over(pool, uplink)) {
        int64_t wait = (int64_t)uplink_wait(uplink);
        uplink_log_down(uplink, error, was_up, wait);
    }
    relay_settle_later(relay);
}

static void uplink_link_closed(struct link *link, enum error_code error)
{
    uplink_over(container_of(link, struct uplink, link), error);
}

static void uplink_trunk_ready(void *owner)
{
    struct uplink *uplink = owner;
    struct relay *relay = uplink->pool->relay;
    if (uplink->state != UPLINK_CONNECTING || uplink->closing) {
        return;
    }
    scheduler_disarm(relay->scheduler, &uplink->timer);
    uplink_move(uplink, UPLINK_UP);
    LOG(LOG_INFO, "trunk-up", LOG_TEXT("peer", uplink_core_address(uplink)),
        LOG_INTEGER("worker", uplink->pool->relay->worker), LOG_INTEGER("trunk", uplink->number),
        LOG_INTEGER("connect_ms", (relay->scheduler->now_us - uplink->since_us) / 1000U));
    uplink->since_us = relay->scheduler->now_us;
    relay->counters.trunks_up++;
    pool_uplink_up(uplink->pool, uplink);
}

static void uplink_trunk_goaway(void *owner, uint32_t code)
{
    struct uplink *uplink = owner;
    LOG(LOG_INFO, "trunk-goaway", LOG_TEXT("peer", uplink_core_address(uplink)),
        LOG_INTEGER("worker", uplink->pool->relay->worker), LOG_INTEGER("trunk", uplink->number),
        LOG_INTEGER("code", code));
    if (uplink->state == UPLINK_UP) {
        pool_uplink_goaway(uplink->pool, uplink);
    } else if (uplink->state == UPLINK_CONNECTING) {
        uplink_close(uplink, ERROR_TRUNK_GOAWAY);
    }
}

static const struct trunk_events trunk_events = {
    .opened = edge_client_stream_opened,
    .data = edge_client_stream_data,
    .end = edge_client_stream_end,
    .writable = edge_client_stream_writable,
    .closed = edge_client_stream_closed,
    .suspended = edge_client_stream_suspended,
    .noted = edge_client_stream_noted,
    .resumed = edge_client_stream_resumed,
    .ready = uplink_trunk_ready,
    .goaway = uplink_trunk_goaway,
};

static enum error_code uplink_link_established(struct link *link, const struct tls_peer_info *peer)
{
    (void)peer;
    struct uplink *uplink = container_of(link, struct uplink, link);
    const struct edge_settings *edge = uplink->pool->relay->settings;
    struct trunk_settings settings;
    uplink->greeted = 1;
    trunk_settings_init(&settings, TRUNK_OPENER);
    settings.edge_worker = uplink->pool->relay->edge_worker;
    settings.sessions_max = edge->sessions_per_trunk;
    settings.opens_max = edge->trunk_opens_max;
    settings.stream_window_bytes = edge->stream_window_bytes;
    settings.stream_window_max_bytes = edge->stream_window_max_bytes;
    settings.trunk_window_bytes = edge->trunk_window_bytes;
    settings.resume = edge->resume_timeout_ms > 0;
    settings.work_slab = &uplink->pool->relay->work_slab;
    settings.buffers = &uplink->pool->relay->buffers;
    settings.ping_interval_ms = edge->ping_interval_ms;
    settings.ping_timeout_ms = edge->ping_timeout_ms;
    return link_open_trunk(link, &settings, &trunk_events, uplink);
}

static const struct link_events link_events = {
    .established = uplink_link_established,
    .closed = uplink_link_closed,
};

void uplink_ready(struct transport *transport, unsigned events)
{
    struct uplink *uplink = container_of(transport, struct uplink, slot);
    link_ready(&uplink->link, events);
}

/* ------------------------------------------------------------------------------------------------ dialling */

static enum error_code uplink_dial_now(struct uplink *uplink)
{
    struct pool *pool = uplink->pool;
    struct relay *relay = pool->relay;
    memset(&uplink->slot, 0, sizeof(uplink->slot));
    enum error_code error = link_init_opener(&uplink->link, relay->scheduler, &relay->scratch, &uplink->slot.transport,
                                             relay->trunk_context, pool->cores[uplink->core].server_name,
                                             TIMEOUT_TRUNK_DIAL_MS, &link_events);
    if (error != ERROR_NONE) {
        return error;
    }
    error = relay->ops->dial(relay->owner, uplink->core, &uplink->slot);
    if (error != ERROR_NONE) {
        link_dispose(&uplink->link);
        return error;
    }
    uplink->linked = 1;
    pool->links++;
    return ERROR_NONE;
}

static void uplink_dial(struct uplink *uplink)
{
    struct relay *relay = uplink->pool->relay;
    uplink->number = ++uplink->pool->numbered;
    uplink->since_us = relay->scheduler->now_us;
    uplink->opens = 0;
    uplink->suspended = 0;
    uplink->greeted = 0;
    uplink_move(uplink, UPLINK_CONNECTING);
    enum error_code error = uplink_dial_now(uplink);
    if (error != ERROR_NONE) {
        uplink_over(uplink, error);
        return;
    }
    /* The link watches over TLS; this also covers the core's SETTINGS, so it comes a little later. */
    scheduler_arm(relay->scheduler, &uplink->timer, TIMEOUT_TRUNK_DIAL_MS + 1000U);
}

static void uplink_timer_fired(struct timer *timer)
{
    struct uplink *uplink = container_of(timer, struct uplink, timer);
    if (uplink->state == UPLINK_WAITING) {
        uplink_dial(uplink);
    } else if (uplink->state == UPLINK_CONNECTING) {
        uplink_close(uplink, ERROR_TIMEOUT);
    }
}

struct uplink *uplink_new(struct pool *pool, size_t core, uint32_t failures)
{
    struct uplink *uplink = memory_zalloc(sizeof(*uplink));
    if (uplink == NULL) {
        return NULL;
    }
    uplink->pool = pool;
    uplink->core = (uint16_t)core;
    uplink->failures = failures;
    list_node_init(&uplink->node);
    timer_init(&uplink->timer, uplink_timer_fired);
    return uplink;
}

void uplink_free(struct uplink **pointer)
{
    struct uplink *uplink = *pointer;
    if (uplink == NULL) {
        return;
    }
    *pointer = NULL;
    scheduler_disarm(uplink->pool->relay->scheduler, &uplink->timer);
    list_remove(&uplink->node);
    if (uplink->linked) {
        uplink->linked = 0;
        uplink->pool->links--;
        link_dispose(&uplink->link);
    }
    memory_free(uplink);
}

void uplink_start(struct uplink *uplink)
{
    if (uplink->failures > 0) {
        uplink_wait(uplink);
    } else {
        uplink_dial(uplink);
    }
}

enum error_code uplink_openable(const struct uplink *uplink)
{
    if (uplink->state != UPLINK_UP || uplink->link.closing || uplink->link.trunk == NULL) {
        return ERROR_STATE;
    }
    return trunk_openable(uplink->link.trunk);
}

size_t uplink_streams(const struct uplink *uplink)
{
    return uplink->linked && uplink->link.trunk != NULL ? trunk_stream_count(uplink->link.trunk) : 0;
}

void uplink_count_open(struct uplink *uplink)
{
    uint32_t max = uplink->pool->relay->settings->trunk_opens_max;
    uplink->opens++;
    if (uplink->opens >= max - max / 8U) {
        pool_uplink_exhausting(uplink->pool, uplink);
    }
}

void uplink_drain(struct uplink *uplink, bool tell)
{
    if (uplink->state != UPLINK_UP) {
        return;
    }
    uplink_move(uplink, UPLINK_DRAINING);
    if (tell && uplink->link.trunk != NULL && trunk_goaway(uplink->link.trunk, TRUNK_CODE_NO_ERROR) != ERROR_NONE) {
        /* It is a courtesy: the core learns from the end of the connection, too. */
        LOG(LOG_DEBUG, "trunk-goaway-unsent", LOG_INTEGER("worker", uplink->pool->relay->worker),
            LOG_INTEGER("trunk", uplink->number));
    }
}

void uplink_close(struct uplink *uplink, enum error_code error)
{
    if (uplink->state == UPLINK_WAITING && uplink->pool->closing) {
        scheduler_disarm(uplink->pool->relay->scheduler, &uplink->timer);
        uplink_move(uplink, UPLINK_IDLE);
    }
    if (uplink->linked && !uplink->closing) {
        uplink->closing = 1;
        link_close(&uplink->link, error);
    }
}
