/*
 * Connections that break wait their turn, too. An outage resets thousands at once, and the end of each costs 20 us:
 * one after the other as their events come, they would hold up for long whoever is still connected. So the event of a
 * reset only puts the client into a list, and some are ended behind everything else of each batch, as many as a
 * listener accepts: their files are needed by those who come back. One thread.
 */
#include "edge/client.h"

#include "edge/relay.h"
#include "mux/memory.h"

void edge_broken_init(struct edge_broken *broken)
{
    list_init(&broken->clients);
    task_init(&broken->run, edge_client_run_broken);
}

bool edge_client_broken_later(struct edge_client *client)
{
    struct relay *relay = edge_client_relay(client);
    /* In other states `waiting` has another use, or little is left to do. */
    struct edge_client_extra *extra = client->state == EDGE_CLIENT_RELAYING ? edge_client_extra_get(client) : NULL;
    if (extra == NULL) {
        return false;
    }
    if (!extra->broken) {
        extra->broken = true;
        list_remove(&extra->waiting); /* for a trunk, if that is lost as well */
        list_append(&relay->broken.clients, &extra->waiting);
    }
    scheduler_defer_background(relay->scheduler, &relay->broken.run);
    return true;
}

void edge_client_run_broken(struct task *task)
{
    struct edge_broken *broken = container_of(task, struct edge_broken, run);
    struct relay *relay = container_of(broken, struct relay, broken);
    struct list_node *node;
    for (unsigned turn = 0; turn < EDGE_CLIENT_BROKEN_PER_BATCH && (node = list_first(&broken->clients)) != NULL;
         turn++) {
        struct edge_client_extra *extra = container_of(node, struct edge_client_extra, waiting);
        struct edge_client *client = extra->client;
        list_remove(node);
        extra->broken = false;
        edge_client_broken(client);
        edge_client_wait_again(client);
    }
    if (!list_empty(&broken->clients)) {
        scheduler_defer_background(relay->scheduler, &broken->run);
    }
}
