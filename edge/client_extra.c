/*
 * What an idle client does without: its timer, and the bytes that wait on either side. Made when something of it is
 * needed, from the relay's slab, and freed when none of it is. Also the list of clients that the relay is to look after
 * at the end of the batch. See client.h. One thread.
 */
#include "edge/client.h"

#include <assert.h>

#include "edge/relay.h"
#include "mux/memory.h"

struct relay *edge_client_relay(const struct edge_client *client)
{
    return container_of(slab_of(client), struct relay, client_slab);
}

static void extra_timer_fired(struct timer *timer)
{
    edge_client_timer_fired(container_of(timer, struct edge_client_extra, timer)->client);
}

struct edge_client_extra *edge_client_extra_get(struct edge_client *client)
{
    if (client->extra == NULL) {
        struct edge_client_extra *extra = slab_alloc(&edge_client_relay(client)->extra_slab);
        if (extra == NULL) {
            return NULL;
        }
        extra->client = client;
        timer_init(&extra->timer, extra_timer_fired);
        list_node_init(&extra->waiting);
        list_node_init(&extra->due);
        chain_init(&extra->pending);
        chain_init(&extra->input);
        chain_init(&extra->output);
        client->extra = extra;
    }
    return client->extra;
}

void edge_client_extra_clear(struct edge_client *client)
{
    if (client->extra != NULL) {
        chain_clear(&client->extra->input);
        chain_clear(&client->extra->output);
        client->extra->encrypted_bytes = 0;
    }
}

void edge_client_extra_drop(struct edge_client *client)
{
    struct edge_client_extra *extra = client->extra;
    struct relay *relay = edge_client_relay(client);
    if (extra == NULL) {
        return;
    }
    client->extra = NULL;
    scheduler_disarm(relay->scheduler, &extra->timer);
    list_remove(&extra->waiting);
    list_remove(&extra->due);
    chain_clear(&extra->pending);
    chain_clear(&extra->input);
    chain_clear(&extra->output);
    memory_free(extra->note);
    slab_free(&relay->extra_slab, extra);
}

void edge_client_extra_settle(struct edge_client *client)
{
    const struct edge_client_extra *extra = client->extra;
    if (extra != NULL && client->state == EDGE_CLIENT_RELAYING && !client->due && !list_node_linked(&extra->waiting) &&
        chain_empty(&extra->pending) && chain_empty(&extra->input) && chain_empty(&extra->output) &&
        extra->encrypted_bytes == 0 && extra->note == NULL && !trunk_stream_interrupted(&client->stream)) {
        edge_client_extra_drop(client);
    }
}

enum error_code edge_client_arm(struct edge_client *client, uint64_t delay_ms)
{
    struct edge_client_extra *extra = edge_client_extra_get(client);
    if (extra == NULL) {
        return ERROR_NO_MEMORY;
    }
    scheduler_arm(edge_client_relay(client)->scheduler, &extra->timer, delay_ms);
    return ERROR_NONE;
}

void edge_client_disarm(struct edge_client *client)
{
    if (client->extra != NULL) {
        scheduler_disarm(edge_client_relay(client)->scheduler, &client->extra->timer);
    }
}

void edge_client_defer(struct edge_client *client)
{
    struct relay *relay = edge_client_relay(client);
    if (client->due) {
        return;
    }
    client->due = 1;
    struct edge_client_extra *extra = edge_client_extra_get(client);
    if (extra != NULL) {
        list_append(&relay->due, &extra->due);
    } else {
        relay->due_unlisted = true;
    }
    scheduler_defer(relay->scheduler, &relay->run_due);
}
