/*
 * Handshakes wait their turn. One costs as much as hundreds of messages, so bytes of clients that have not finished TLS
 * are not looked at when they come, but one client's at a time, behind everything else of a batch: however many clients
 * come at once, those who are connected wait for one handshake at most. Who has begun goes before who has not, and how
 * many begin each second may be limited. A client costs no TLS state before it has sent something. One thread.
 */
#include "edge/client.h"

#include <assert.h>

#include "edge/relay.h"
#include "mux/memory.h"

#define MICROSECONDS   1000000U
#define START_BURST_US 50000U /* starts that were not used may be caught up on for so long */
#define TIMER_UNIT_US  1000U

void edge_handshakes_init(struct edge_handshakes *handshakes, uint32_t per_second)
{
    list_init(&handshakes->begun);
    list_init(&handshakes->fresh);
    task_init(&handshakes->run, edge_client_run_handshakes);
    timer_init(&handshakes->wait, edge_client_handshakes_due);
    handshakes->interval_us = per_second > 0 ? MICROSECONDS / per_second : 0;
}

static struct edge_handshakes *handshakes_of(const struct edge_client *client)
{
    return &edge_client_relay(client)->handshakes;
}

void edge_client_handshake_later(struct edge_client *client)
{
    struct edge_handshakes *handshakes = handshakes_of(client);
    struct list_node *node = &client->extra->waiting;
    bool begun = tls_initialized(&client->tls);
    assert(client->state == EDGE_CLIENT_EXPECT_HANDSHAKE && "its place in a list is for something else then");
    if (!list_node_linked(node)) {
        list_append(begun ? &handshakes->begun : &handshakes->fresh, node);
    }
    if (begun || !timer_armed(&handshakes->wait)) {
        scheduler_defer_background(edge_client_relay(client)->scheduler, &handshakes->run);
    }
}

/* Microseconds until another handshake may begin. */
static uint64_t start_wait_us(const struct edge_handshakes *handshakes, uint64_t now_us)
{
    return handshakes->next_start_us > now_us ? handshakes->next_start_us - now_us : 0;
}

static void start_count(struct edge_handshakes *handshakes, uint64_t now_us)
{
    uint64_t earliest = now_us > START_BURST_US ? now_us - START_BURST_US : 0;
    uint64_t from = handshakes->next_start_us > earliest ? handshakes->next_start_us : earliest;
    handshakes->next_start_us = from + handshakes->interval_us;
}

static struct edge_client *client_of(struct list_node *node)
{
    return container_of(node, struct edge_client_extra, waiting)->client;
}

/* Whose turn it is; NULL: nobody's, for now or at all. */
static struct edge_client *handshakes_next(struct edge_handshakes *handshakes, uint64_t now_us)
{
    struct list_node *node = list_first(&handshakes->begun);
    if (node == NULL && !handshakes->held && start_wait_us(handshakes, now_us) == 0) {
        node = list_first(&handshakes->fresh);
    }
    return node != NULL ? client_of(node) : NULL;
}

/* As long as somebody waits: the next turn comes with the next batch, or when one may begin again. */
static void handshakes_go_on(struct relay *relay)
{
    struct edge_handshakes *handshakes = &relay->handshakes;
    if (handshakes_next(handshakes, relay->scheduler->now_us) != NULL) {
        scheduler_defer_background(relay->scheduler, &handshakes->run);
    } else if (!list_empty(&handshakes->fresh) && !handshakes->held) {
        uint64_t wait_us = start_wait_us(handshakes, relay->scheduler->now_us);
        scheduler_arm(relay->scheduler, &handshakes->wait, (wait_us + TIMER_UNIT_US - 1) / TIMER_UNIT_US);
    }
}

void edge_client_run_handshakes(struct task *task)
{
    struct edge_handshakes *handshakes = container_of(task, struct edge_handshakes, run);
    struct relay *relay = container_of(handshakes, struct relay, handshakes);
    struct edge_client *client = handshakes_next(handshakes, relay->scheduler->now_us);
    if (client != NULL) {
        bool fresh = !tls_initialized(&client->tls);
        list_remove(&client->extra->waiting);
        edge_client_pump_input(client);
        if (fresh && tls_initialized(&client->tls)) {
            start_count(handshakes, relay->scheduler->now_us);
        }
        edge_client_extra_settle(client);
    }
    handshakes_go_on(relay);
}

void edge_client_handshakes_due(struct timer *timer)
{
    struct edge_handshakes *handshakes = container_of(timer, struct edge_handshakes, wait);
    handshakes_go_on(container_of(handshakes, struct relay, handshakes));
}

void edge_handshakes_hold(struct relay *relay, bool hold)
{
    relay->handshakes.held = hold;
    handshakes_go_on(relay);
}
