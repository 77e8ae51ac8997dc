/*
 * What a relay does as its clients' buffers fill: it logs, refuses (relay_admit), and ends the largest client that
 * takes nothing. See mux/buffer_budget.h. One thread.
 */
#include "edge/client.h"
#include "edge/relay.h"

static void relay_buffers_moved(void *owner, enum buffer_level from, enum buffer_level to)
{
    struct relay *relay = owner;
    const struct buffer_budget *buffers = &relay->buffers;
    uint64_t suppressed = 0;
    if (log_counter_allow(&relay->log_buffers, relay->scheduler->now_us, &suppressed)) {
        LOG(to >= BUFFER_SHUT ? LOG_WARNING : LOG_INFO, "buffer-memory", LOG_TEXT("level", buffer_level_name(to)),
            LOG_TEXT("from", buffer_level_name(from)), LOG_INTEGER("worker", relay->worker),
            LOG_INTEGER("held", buffers->charged_bytes), LOG_INTEGER("limit", buffers->limit_bytes),
            LOG_INTEGER("clients", relay->client_count), LOG_INTEGER("suppressed", suppressed));
    }
}

/* Clients are found in their slab: a trunk may be in more than one place of the pool's. */
static void relay_buffers_mark(void *owner)
{
    struct relay *relay = owner;
    for (struct edge_client *client = NULL; (client = slab_next(&relay->client_slab, client)) != NULL;) {
        trunk_stream_mark(&client->stream);
    }
}

static bool relay_buffers_shed(void *owner, bool any)
{
    struct relay *relay = owner;
    struct edge_client *largest = NULL;
    for (struct edge_client *client = NULL; (client = slab_next(&relay->client_slab, client)) != NULL;) {
        if ((any || trunk_stream_marked(&client->stream)) &&
            trunk_stream_charged(&client->stream) > (largest != NULL ? trunk_stream_charged(&largest->stream) : 0)) {
            largest = client;
        }
    }
    if (largest == NULL) {
        return false;
    }
    edge_client_shed(largest);
    return true;
}

const struct buffer_events relay_buffer_events = {
    .moved = relay_buffers_moved,
    .mark = relay_buffers_mark,
    .shed = relay_buffers_shed,
};
