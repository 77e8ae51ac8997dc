/*
 * One edge takes over from another in the simulated installation: what takeover_give and takeover_take do on their
 * threads, without the sockets between them. One thread.
 */
#include <stdlib.h>
#include <string.h>

#include "edge/client.h"
#include "mux/limits.h"
#include "mux/memory.h"
#include "mux/pack.h"
#include "tests/sim/sim_world.h"

#define LOOK_US       10000U
#define TRUNKS_MAX_US (60 * SIM_SECOND)

static const struct transport_binding client_binding = {&sim_transport_ops, edge_client_ready};

struct sim_edge *sim_world_edge(struct sim_world *world, size_t place)
{
    struct sim_edge *edge = &world->edges[place];

    while (edge->successor != NULL) {
        edge = edge->successor;
    }
    return edge;
}

static bool trunks_ready(struct sim_world *world, struct sim_edge *edge)
{
    for (size_t core = 0; core < world->settings.cores; core++) {
        if (pool_pick_core(&edge->relay.pool, core) == NULL) {
            return false;
        }
    }
    return true;
}

/* Until the new process has its trunks, and then until nothing is under way, or for long enough: which may be at once.
 */
static bool prepare(struct sim_world *world, struct sim_edge *old, struct sim_edge *new)
{
    uint64_t until = world->net.now_us + TRUNKS_MAX_US;

    while (!trunks_ready(world, new)) {
        if (world->net.now_us >= until) {
            return false;
        }
        sim_world_run(world, LOOK_US);
    }
    until = world->net.now_us + random_below(&world->net.random, 2) * 1000U * (uint64_t)TIMEOUT_TAKEOVER_SETTLE_MS;
    edge_handshakes_hold(&old->relay, true);
    while (edge_clients_unsettled(&old->relay) > 0 && world->net.now_us < until) {
        sim_world_run(world, LOOK_US);
    }
    scheduler_set_time(&old->scheduler, world->net.now_us);
    scheduler_set_time(&new->scheduler, world->net.now_us);
    return true;
}

/* What the client is there; NULL when it cannot be. */
static struct edge_client *hand_over(struct sim_world *world, struct edge_client *client, struct sim_edge *new,
                                     const struct edge_client_map *map)
{
    struct pack pack;
    struct unpack unpack;
    struct edge_client *taken = NULL;

    pack_init(&pack);
    edge_client_export(client, map, &pack);
    unpack_init(&unpack, pack.bytes, pack.length);
    if (pack.failed || edge_client_import(&new->relay, &unpack, &taken) != ERROR_NONE || unpack.left > 0) {
        sim_fail(&world->net, "a client in state %s cannot be taken over",
                 edge_client_state_name((enum edge_client_state)client->state));
    }
    pack_dispose(&pack);
    return taken;
}

static void hand_over_all(struct sim_world *world, struct sim_edge *old, struct sim_edge *new, bool fails)
{
    static const uint16_t same[SIM_CORES_MAX] = {0, 1};
    static const bool up[SIM_CORES_MAX] = {true, true};
    const struct edge_client_map map = {.listeners = same, .cores = same, .cores_up = up};

    for (struct edge_client *client = NULL; (client = slab_next(&old->relay.client_slab, client)) != NULL;) {
        if (edge_client_exportable(client, &map) != EDGE_CLIENT_EXPORT_YES) {
            continue;
        }
        struct edge_client *taken = hand_over(world, client, new, &map);
        if (taken == NULL) {
            continue;
        }
        taken->handed_over = fails;
        client->handed_over = !fails;
        if (!fails) {
            sim_transport_move(&client->slot, &taken->slot, &client_binding);
        }
        if (!fails && taken->state == EDGE_CLIENT_EXPECT_HANDSHAKE) {
            edge_client_start(taken);
        }
    }
}

bool sim_world_take_over(struct sim_world *world, size_t place, bool fails)
{
    struct sim_edge *old = sim_world_edge(world, place);
    struct sim_edge *new = &world->edges[world->settings.edges];

    if (sim_world_make_edge(world, old->relay.edge_worker) != ERROR_NONE || !prepare(world, old, new)) {
        return false;
    }
    relay_inherit(&new->relay, old->relay.session_secret, old->relay.sessions_numbered + 1000);
    hand_over_all(world, old, new, fails);
    edge_handshakes_hold(&old->relay, false);
    (void)relay_let_go(fails ? &new->relay : &old->relay);
    if (fails) {
        relay_drain(&new->relay, 0);
        return true;
    }
    old->successor = new;
    relay_drain(&old->relay, TIMEOUT_DRAIN_MS);
    return true;
}
