/*
 * Those who go wait their turn, too. An outage resets thousands at once, and so do thousands leave whose users go home
 * or whose service ends; each end costs up to 100 us of system calls (close_notify, FIN, close). One after the other as
 * their events come, they would hold up for long whoever stays. So the event of a reset or a FIN, and the end that
 * comes from the core, only put the client into a list; some are looked at behind everything else of each batch, of
 * those that break as many as a listener accepts, as their files are needed by those who come back. One thread.
 */
#include "edge/client.h"

#include "edge/relay.h"
#include "mux/memory.h"

void edge_leaving_init(struct edge_leaving *leaving)
{
    list_init(&leaving->clients);
    task_init(&leaving->run, edge_client_run_leaving);
    leaving->turn = NULL;
}

bool edge_client_leave_later(struct edge_client *client, unsigned events)
{
    struct relay *relay = edge_client_relay(client);
    if (relay->leaving.turn == client ||
        (client->state != EDGE_CLIENT_RELAYING && client->state != EDGE_CLIENT_LINGERING)) {
        return false; /* in other states `waiting` has another use, or little is left to do */
    }
    struct edge_client_extra *extra = edge_client_extra_get(client);
    if (extra == NULL) {
        return false;
    }
    if (!extra->leaving) {
        extra->leaving = true;
        extra->events = 0;
        list_remove(&extra->waiting); /* for a trunk, if that is lost as well */
        list_append(&relay->leaving.clients, &extra->waiting);
    }
    extra->events |= (uint8_t)events;
    scheduler_defer_background(relay->scheduler, &relay->leaving.run);
    return true;
}

void edge_client_stay(struct edge_client *client)
{
    struct edge_client_extra *extra = client->extra;
    if (extra != NULL) {
        list_remove(&extra->waiting);
        extra->leaving = false;
    }
}

void edge_client_run_leaving(struct task *task)
{
    struct edge_leaving *leaving = container_of(task, struct edge_leaving, run);
    struct relay *relay = container_of(leaving, struct relay, leaving);
    struct list_node *node;
    unsigned done = 0;
    while (done < EDGE_CLIENT_LEAVING_PER_BATCH && (node = list_first(&leaving->clients)) != NULL) {
        struct edge_client_extra *extra = container_of(node, struct edge_client_extra, waiting);
        struct edge_client *client = extra->client;
        bool ends = client->output_half == EDGE_CLIENT_HALF_ENDING && !(extra->events & TRANSPORT_BROKEN);
        done += ends ? EDGE_CLIENT_END_COST : 1U;
        edge_client_stay(client);
        leaving->turn = client;
        edge_client_take(client, extra->events);
        leaving->turn = NULL;
        edge_client_wait_again(client);
    }
    if (!list_empty(&leaving->clients)) {
        scheduler_defer_background(relay->scheduler, &leaving->run);
    }
}
