/*
 * Clients that have said and heard nothing for the idle timeout. A timer for each would cost an idle client more than
 * all else; instead each has one byte, the tick of its last bytes, and every sixteenth of the timeout all are looked
 * at, a few in each batch and behind everything else. So a client goes between one timeout and a sixteenth more. One
 * thread.
 */
#include "edge/client.h"

#include "edge/relay.h"
#include "mux/memory.h"

#define TICKS_PER_TIMEOUT 16U
#define LOOKS_PER_BATCH   512U

static void idle_tick(struct timer *timer)
{
    struct edge_idle *idle = container_of(timer, struct edge_idle, timer);
    struct relay *relay = container_of(idle, struct relay, idle);
    idle->tick++;
    idle->looks_left = relay->client_count;
    idle->next = slab_next(&relay->client_slab, NULL);
    scheduler_defer_background(relay->scheduler, &idle->sweep);
    scheduler_arm(relay->scheduler, &idle->timer, idle->tick_ms);
}

static void idle_sweep(struct task *task)
{
    struct edge_idle *idle = container_of(task, struct edge_idle, sweep);
    struct relay *relay = container_of(idle, struct relay, idle);
    for (unsigned looks = 0; looks < LOOKS_PER_BATCH && idle->next != NULL && idle->looks_left > 0; looks++) {
        struct edge_client *client = idle->next;
        idle->next = slab_next(&relay->client_slab, client);
        idle->looks_left--;
        if (client->state == EDGE_CLIENT_RELAYING && (uint8_t)(idle->tick - client->tick) > TICKS_PER_TIMEOUT) {
            edge_client_idle_over(client);
        }
    }
    if (idle->next != NULL && idle->looks_left > 0) {
        scheduler_defer_background(relay->scheduler, &idle->sweep);
    }
}

void edge_idle_init(struct edge_idle *idle, uint32_t timeout_ms)
{
    timer_init(&idle->timer, idle_tick);
    task_init(&idle->sweep, idle_sweep);
    idle->tick_ms = (timeout_ms + TICKS_PER_TIMEOUT - 1) / TICKS_PER_TIMEOUT;
}

void edge_idle_start(struct edge_idle *idle)
{
    if (idle->tick_ms > 0) {
        scheduler_arm(container_of(idle, struct relay, idle)->scheduler, &idle->timer, idle->tick_ms);
    }
}

void edge_idle_dispose(struct edge_idle *idle)
{
    struct relay *relay = container_of(idle, struct relay, idle);
    scheduler_disarm(relay->scheduler, &idle->timer);
    scheduler_cancel(relay->scheduler, &idle->sweep);
    idle->next = NULL;
}

void edge_idle_forget(struct edge_idle *idle, const struct edge_client *client)
{
    if (idle->next == client) {
        idle->next = slab_next(&container_of(idle, struct relay, idle)->client_slab, client);
    }
}
