/* The simulated installation: see sim_world.h. */
#include "tests/sim/sim_bounds.h"
#include "tests/sim/sim_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/downlink.h"
#include "core/session.h"
#include "edge/client.h"
#include "edge/uplink.h"
#include "mux/limits.h"
#include "mux/memory.h"
#include "tests/sim/sim_handlers.h"
#include "tests/sim/sim_system.h"
#include "tests/unit/test_pki.h"

#define STEPS_AT_ONCE_MAX 20000U /* batches without time moving on: an engine runs in circles */

/* ------------------------------------------------------------------------------------------------ credentials */

static struct {
    struct test_pki pki;
    struct tls_context *edge;   /* edge, towards clients */
    struct tls_context *trunk;  /* edge, towards cores */
    struct tls_context *core;   /* core, towards edges */
    struct tls_context *client; /* clients */
    struct tls_context *client12;
} credentials;

static bool contexts_make(const struct test_identity *edge_identity)
{
    static const char *const h2[] = {"h2"};
    const struct test_pki *pki = &credentials.pki;
    struct tls_certificate_files edge_files = test_identity_files(edge_identity);
    struct tls_certificate_files core_files = test_identity_files(&pki->core);
    struct tls_server_settings edge = {.certificates = &edge_files, .certificate_count = 1, .tickets = true};
    struct tls_server_settings core = {
        .certificates = &core_files,
        .certificate_count = 1,
        .alpn = h2,
        .alpn_count = 1,
        .alpn_required = true,
        .client_auth = TLS_CLIENT_AUTH_REQUIRED,
        .client_ca = pki->ca,
    };
    struct tls_client_settings trunk = {
        .ca = pki->ca,
        .certificate = test_identity_files(&pki->trunk),
        .alpn = h2,
        .alpn_count = 1,
        .alpn_required = true,
    };
    struct tls_client_settings client = {.ca = pki->ca};
    struct tls_client_settings client12 = {.ca = pki->ca, .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2"};
    struct tls_fault fault = {.text = ""};
    bool made = tls_context_new_server(&edge, &credentials.edge, &fault) == ERROR_NONE &&
                tls_context_new_server(&core, &credentials.core, &fault) == ERROR_NONE &&
                tls_context_new_client(&trunk, &credentials.trunk, &fault) == ERROR_NONE &&
                tls_context_new_client(&client, &credentials.client, &fault) == ERROR_NONE &&
                tls_context_new_client(&client12, &credentials.client12, &fault) == ERROR_NONE;

    if (!made) {
        fprintf(stderr, "simulation: %s\n", fault.text);
    }
    return made;
}

bool sim_world_prepare(void)
{
    static const char *const names[] = {"*.sim.test", NULL};
    struct test_pki_request request = {.file = "sim-edge", .names = names};
    struct test_identity identity;

    return test_pki_create(&credentials.pki) && test_pki_issue(&credentials.pki, &request, &identity) &&
           contexts_make(&identity);
}

void sim_world_unprepare(void)
{
    tls_context_unref(&credentials.edge);
    tls_context_unref(&credentials.trunk);
    tls_context_unref(&credentials.core);
    tls_context_unref(&credentials.client);
    tls_context_unref(&credentials.client12);
    test_pki_remove(&credentials.pki);
}

struct tls_context *sim_world_client_context(bool tls12)
{
    return tls12 ? credentials.client12 : credentials.client;
}

/* ------------------------------------------------------------------------------------------------ settings */

void sim_settings_init(struct sim_settings *settings)
{
    *settings = (struct sim_settings){
        .edges = 1,
        .cores = 1,
        .trunks = 2,
        .stream_window_bytes = LIMIT_STREAM_WINDOW_BYTES,
        .stream_window_max_bytes = LIMIT_STREAM_WINDOW_MAX_BYTES,
        .trunk_window_bytes = LIMIT_TRUNK_WINDOW_BYTES,
        .buffer_memory_bytes = LIMIT_BUFFER_MEMORY_BYTES,
        .core_buffer_memory_bytes = LIMIT_BUFFER_MEMORY_BYTES,
        .sessions_max = 1000,
        .handshakes_max = 1000,
        .core_sessions_max = 1000,
        .client_link = {.delay_min_us = 1000,
                        .delay_max_us = 4000,
                        .segment_max_bytes = 16384,
                        .buffer_bytes = 65536,
                        .splits_reads = true},
        .trunk_link = {.delay_min_us = 500,
                       .delay_max_us = 1500,
                       .segment_max_bytes = 65536,
                       .buffer_bytes = 262144,
                       .splits_reads = true},
    };
}

static void link_settings_draw(struct sim_link_settings *link, struct random_state *random)
{
    static const uint32_t segments[] = {200, 1448, 9000, 65536};
    static const uint32_t buffers[] = {4096, 20000, 65536, 262144};

    link->delay_min_us = (uint32_t)sim_between(random, 10, 5000);
    link->delay_max_us = link->delay_min_us + (uint32_t)sim_between(random, 0, 30000);
    link->bytes_per_ms = sim_chance(random, 2) ? (uint32_t)sim_between(random, 200, 20000) : 0;
    link->segment_max_bytes = segments[random_below(random, 4)];
    link->buffer_bytes = buffers[random_below(random, 4)];
    link->splits_reads = !sim_chance(random, 3);
}

void sim_settings_draw(struct sim_settings *settings, struct random_state *random)
{
    static const uint32_t windows[] = {16384, 32768, 65535, 65536, 262144};

    sim_settings_init(settings);
    link_settings_draw(&settings->client_link, random);
    link_settings_draw(&settings->trunk_link, random);
    settings->edges = (uint32_t)sim_between(random, 1, SIM_EDGES_MAX);
    settings->cores = (uint32_t)sim_between(random, 1, SIM_CORES_MAX);
    settings->trunks = (uint32_t)sim_between(random, 1, 3);
    settings->stream_window_bytes = windows[random_below(random, 5)];
    settings->resume = sim_chance(random, 2);
}

static struct edge_core_settings core_addresses[SIM_CORES_MAX] = {
    {.address = (char *)(uintptr_t) "192.0.2.1:4433", .name = (char *)(uintptr_t) "core"},
    {.address = (char *)(uintptr_t) "192.0.2.2:4433", .name = (char *)(uintptr_t) "core"},
};

static struct edge_listen_settings listens[] = {{.address = (char *)(uintptr_t) "203.0.113.1:443"}};

static struct edge_route_settings routes[] = {
    {.server_name = (char *)(uintptr_t) "echo.sim.test", .service = (char *)(uintptr_t) "echo"},
    {.server_name = (char *)(uintptr_t) "script.sim.test", .service = (char *)(uintptr_t) "script"},
    {.server_name = (char *)(uintptr_t) "missing.sim.test", .service = (char *)(uintptr_t) "missing"},
};

static void edge_settings_fill(struct edge_settings *edge, const struct sim_settings *settings)
{
    *edge = (struct edge_settings){
        .listens = listens,
        .listen_count = 1,
        .cores = core_addresses,
        .core_count = settings->cores,
        .routes = routes,
        .route_count = sizeof(routes) / sizeof(routes[0]),
        .trunks = settings->trunks,
        .sessions_max = settings->sessions_max,
        .handshakes_max = settings->handshakes_max,
        .sessions_per_trunk = LIMIT_SESSIONS_PER_TRUNK,
        .trunk_opens_max = LIMIT_TRUNK_OPENS,
        .resume_timeout_ms = settings->resume ? TIMEOUT_RESUME_EDGE_MS : 0,
        .reopen_after_ms = TIMEOUT_REOPEN_AFTER_MS,
        .stream_window_bytes = settings->stream_window_bytes,
        .stream_window_max_bytes = settings->stream_window_max_bytes,
        .trunk_window_bytes = settings->trunk_window_bytes,
        .buffer_memory_bytes = settings->buffer_memory_bytes,
        .handshake_timeout_ms = TIMEOUT_HANDSHAKE_MS,
        .open_timeout_ms = TIMEOUT_OPEN_MS,
        .linger_timeout_ms = TIMEOUT_LINGER_MS,
        .stall_timeout_ms = TIMEOUT_STALL_MS,
        .drain_timeout_ms = TIMEOUT_DRAIN_MS,
        .ping_interval_ms = TIMEOUT_PING_INTERVAL_MS,
        .ping_timeout_ms = TIMEOUT_PING_ANSWER_MS,
        .reconnect_min_ms = TIMEOUT_RECONNECT_MIN_MS,
        .reconnect_max_ms = TIMEOUT_RECONNECT_MAX_MS,
    };
}

/* ------------------------------------------------------------------------------------------------ edges */

static const struct transport_binding client_binding = {&sim_transport_ops, edge_client_ready};
static const struct transport_binding uplink_binding = {&sim_transport_ops, uplink_ready};
static const struct transport_binding downlink_binding = {&sim_transport_ops, core_downlink_ready};

static void accept_trunk(struct sim_link *link, void *owner)
{
    struct sim_core *core = owner;
    struct core_downlink *downlink = NULL;

    if (!core->made || core->stopped || core->worker.state == CORE_WORKER_STOPPING) {
        return;
    }
    scheduler_set_time(&core->scheduler, core->world->net.now_us);
    if (core_downlink_new(&core->worker, credentials.core, "198.51.100.1:40000", &downlink) == ERROR_NONE) {
        sim_link_accept(link, &downlink->transport, &downlink_binding);
    }
}

static enum error_code edge_dial(void *owner, size_t core, union transport_slot *slot)
{
    struct sim_edge *edge = owner;
    struct sim_world *world = edge->world;
    struct sim_core *target = &world->cores[core];

    if (!target->reachable && sim_chance(&world->net.random, 2)) {
        return ERROR_UNREACHABLE; /* an attempt may fail at once, too */
    }
    if (world->trunk_count == SIM_TRUNKS_MAX) {
        sim_fail(&world->net, "a trunk is dialled again and again");
        return ERROR_UNREACHABLE;
    }
    struct sim_link *link = sim_net_connect(&world->net, &world->settings.trunk_link, slot, &uplink_binding,
                                            target->reachable, accept_trunk, target);
    world->trunks[world->trunk_count++] = (struct sim_trunk){
        .link = link,
        .edge = (size_t)(edge - world->edges),
        .core = core,
    };
    if (world->trunk_faults > 0) {
        world->trunk_faults--;
        sim_link_plan_fault(link, world->trunk_fault_from, world->trunk_fault,
                            random_below(&world->net.random, world->trunk_fault_bytes_max));
    }
    return ERROR_NONE;
}

static void edge_on_stopped(void *owner)
{
    struct sim_edge *edge = owner;

    if (edge->stopped) {
        sim_fail(&edge->world->net, "an edge stopped twice");
    }
    edge->stopped = true;
}

static const struct relay_ops relay_ops = {.dial = edge_dial, .stopped = edge_on_stopped};

enum error_code sim_world_make_edge(struct sim_world *world, uint32_t edge_worker)
{
    struct sim_edge *edge = &world->edges[world->settings.edges++];
    struct relay_settings settings = {
        .buffer_memory_bytes = world->settings.buffer_memory_bytes,
        .edge = &world->edge_settings,
        .client_context = credentials.edge,
        .trunk_context = credentials.trunk,
        .sessions_max = world->settings.sessions_max,
        .handshakes_max = world->settings.handshakes_max,
        .edge_worker = edge_worker,
        .seed = random_next(&world->net.random),
    };

    edge->world = world;
    scheduler_init(&edge->scheduler, world->net.now_us);
    memcpy(settings.session_secret, &settings.seed, sizeof(settings.seed));
    settings.session_secret[sizeof(settings.seed)] = (uint8_t)(edge - world->edges);
    enum error_code error = relay_init(&edge->relay, &settings, &edge->scheduler, &relay_ops, edge);
    edge->made = error == ERROR_NONE;
    return edge->made ? relay_start(&edge->relay) : error;
}

static void accept_client(struct sim_link *link, void *owner)
{
    struct sim_client *client = owner;
    struct sim_edge *edge = sim_world_edge(client->world, client->number % client->world->places);
    struct edge_client *admitted = NULL;
    struct address peer;
    struct address local;
    char text[ADDRESS_TEXT_MAX];

    snprintf(text, sizeof(text), "198.51.100.7:%u", (unsigned)(SIM_CLIENT_PORT + client->number));
    (void)address_parse(text, false, &peer);
    (void)address_parse(listens[0].address, false, &local);
    scheduler_set_time(&edge->scheduler, edge->world->net.now_us);
    if (relay_admit(&edge->relay, 0, &peer, &local, &admitted) == ERROR_NONE) {
        sim_link_accept(link, &admitted->slot, &client_binding);
        edge_client_start(admitted);
    }
}

struct sim_link *sim_world_connect_client(struct sim_client *client, const struct transport_binding *binding)
{
    struct sim_world *world = client->world;

    return sim_net_connect(&world->net, &world->settings.client_link, &client->slot, binding, true, accept_client,
                           client);
}

/* ------------------------------------------------------------------------------------------------ cores */

static void core_on_drained(struct core_worker *worker)
{
    struct sim_core *core = container_of(worker, struct sim_core, worker);

    if (core->drained) {
        sim_fail(&core->world->net, "a core was drained twice");
    }
    core->drained = true;
}

static void core_on_stopped(struct core_worker *worker)
{
    struct sim_core *core = container_of(worker, struct sim_core, worker);

    if (core->stopped) {
        sim_fail(&core->world->net, "a core stopped twice");
    }
    core->stopped = true;
}

static const struct core_worker_events core_events = {.drained = core_on_drained, .stopped = core_on_stopped};

static enum error_code core_make(struct sim_world *world, size_t index)
{
    struct sim_core *core = &world->cores[index];

    core->world = world;
    core->reachable = true;
    core->settings = (struct core_worker_settings){
        .sessions_max = world->settings.core_sessions_max,
        .resume_timeout_ms = world->settings.resume ? TIMEOUT_RESUME_CORE_MS : 0,
        .trunks_max = LIMIT_CORE_TRUNKS,
        .handshake_timeout_ms = TIMEOUT_TRUNK_HANDSHAKE_MS,
        .services = &world->services,
        .totals = &core->totals,
    };
    trunk_settings_init(&core->settings.trunk, TRUNK_ACCEPTOR);
    core->settings.trunk.stream_window_bytes = world->settings.stream_window_bytes;
    core->settings.trunk.stream_window_max_bytes = world->settings.stream_window_max_bytes;
    core->settings.trunk.trunk_window_bytes = world->settings.trunk_window_bytes;
    core->settings.buffer_memory_bytes = world->settings.core_buffer_memory_bytes;
    scheduler_init(&core->scheduler, world->net.now_us);
    enum error_code error =
        core_worker_init(&core->worker, (uint32_t)index, &core->settings, &core_events, &core->scheduler, NULL);
    core->made = error == ERROR_NONE;
    return error;
}

static enum error_code services_make(struct sim_world *world)
{
    const struct core_service_settings settings[] = {
        {.name = (char *)(uintptr_t) "echo",
         .handler = (char *)(uintptr_t) "sim-echo",
         .argument = (char *)(uintptr_t) "",
         .reopens = world->settings.reopen},
        {.name = (char *)(uintptr_t) "script",
         .handler = (char *)(uintptr_t) "sim-script",
         .argument = (char *)(uintptr_t) "",
         .reopens = world->settings.reopen},
    };
    struct core_service_fault fault;
    enum error_code error = core_services_setup(&world->services, settings, sizeof(settings) / sizeof(settings[0]),
                                                sim_handlers, SIM_HANDLERS, &fault);

    world->services_made = error == ERROR_NONE;
    if (error != ERROR_NONE && error != ERROR_NO_MEMORY) {
        sim_fail(&world->net, "services: %s", fault.text);
    }
    return error;
}

/* ------------------------------------------------------------------------------------------------ running */

static uint64_t scheduler_next_us(const struct scheduler *scheduler)
{
    if (!list_empty(&scheduler->tasks)) {
        return scheduler->now_us;
    }
    uint64_t next_ms = timers_next(&scheduler->timers);
    return next_ms == TIMER_NONE ? SIM_NEVER : next_ms * 1000U;
}

static uint64_t world_next_us(struct sim_world *world)
{
    uint64_t next = sim_net_next_us(&world->net);

    for (size_t i = 0; i < world->settings.edges; i++) {
        uint64_t own = world->edges[i].made ? scheduler_next_us(&world->edges[i].scheduler) : SIM_NEVER;
        next = own < next ? own : next;
    }
    for (size_t i = 0; i < world->settings.cores; i++) {
        uint64_t own = world->cores[i].made ? scheduler_next_us(&world->cores[i].scheduler) : SIM_NEVER;
        next = own < next ? own : next;
    }
    return next > world->net.now_us ? next : world->net.now_us;
}

static void world_step(struct sim_world *world, uint64_t now_us)
{
    world->steps_at_once = now_us == world->last_step_us ? world->steps_at_once + 1 : 0;
    world->last_step_us = now_us;
    sim_system_set_time(now_us);
    for (size_t i = 0; i < world->settings.edges; i++) {
        scheduler_set_time(&world->edges[i].scheduler, now_us);
    }
    for (size_t i = 0; i < world->settings.cores; i++) {
        scheduler_set_time(&world->cores[i].scheduler, now_us);
    }
    sim_net_advance(&world->net, now_us);
    for (size_t i = 0; i < world->settings.edges; i++) {
        if (world->edges[i].made) {
            scheduler_advance(&world->edges[i].scheduler, now_us);
            scheduler_run_tasks(&world->edges[i].scheduler);
        }
    }
    for (size_t i = 0; i < world->settings.cores; i++) {
        if (world->cores[i].made) {
            scheduler_advance(&world->cores[i].scheduler, now_us);
            scheduler_run_tasks(&world->cores[i].scheduler);
        }
    }
    sim_bounds_check(world);
    if (world->steps_at_once == STEPS_AT_ONCE_MAX) {
        sim_fail(&world->net, "an engine runs in circles");
        abort();
    }
}

/* One batch at the next time at which anything happens; false when that is after `until_us`. */
static bool world_step_until(struct sim_world *world, uint64_t until_us)
{
    uint64_t next = world_next_us(world);

    if (next > until_us) {
        world->net.now_us = until_us;
        return false;
    }
    world_step(world, next);
    return true;
}

void sim_world_run(struct sim_world *world, uint64_t duration_us)
{
    uint64_t until = world->net.now_us + duration_us;

    while (world_step_until(world, until)) {
    }
}

static size_t clients_open(const struct sim_world *world)
{
    size_t open = 0;

    for (size_t i = 0; i < world->client_count; i++) {
        open += sim_client_over(world->clients[i]) ? 0 : 1;
    }
    return open;
}

bool sim_world_run_clients(struct sim_world *world, uint64_t limit_us)
{
    uint64_t until = world->net.now_us + limit_us;

    while (clients_open(world) > 0) {
        if (!world_step_until(world, until)) {
            for (size_t i = 0; i < world->client_count; i++) {
                const struct sim_client *client = world->clients[i];
                if (!sim_client_over(client)) {
                    sim_fail(&world->net,
                             "client %zu is not over: sent %llu of %llu, core received %llu, core sent "
                             "%llu, received %llu of %llu",
                             client->number, (unsigned long long)client->sent,
                             (unsigned long long)client->plan.send_bytes, (unsigned long long)client->core_received,
                             (unsigned long long)client->core_sent, (unsigned long long)client->received,
                             (unsigned long long)client->plan.receive_bytes);
                }
            }
            return false;
        }
    }
    return true;
}

static size_t trunks_up(const struct sim_world *world)
{
    size_t up = 0;

    for (size_t i = 0; i < world->settings.edges; i++) {
        const struct pool *pool = &world->edges[i].relay.pool;
        for (size_t place = 0; place < pool->place_count; place++) {
            const struct uplink *uplink = pool->places[place].current;
            up += uplink != NULL && uplink->state == UPLINK_UP ? 1U : 0U;
        }
    }
    return up;
}

bool sim_world_run_trunks(struct sim_world *world, uint64_t limit_us)
{
    size_t wanted = (size_t)world->settings.edges * world->settings.cores * world->settings.trunks;
    uint64_t until = world->net.now_us + limit_us;

    while (trunks_up(world) < wanted) {
        if (!world_step_until(world, until)) {
            sim_fail(&world->net, "only %zu of %zu trunks are up", trunks_up(world), wanted);
            return false;
        }
    }
    return true;
}

struct sim_client *sim_world_add(struct sim_world *world, const struct sim_plan *plan)
{
    struct sim_client *client = calloc(1, sizeof(*client));

    if (client == NULL || world->client_count == SIM_CLIENTS_MAX) {
        abort();
    }
    world->clients[world->client_count] = client;
    sim_client_init(client, world, world->client_count, plan);
    world->client_count++;
    return client;
}

void sim_world_expect_idle(struct sim_world *world)
{
    /* Longer than any deadline that may still be running: a trunk in a black hole is found by its PING. */
    sim_world_run(world, (TIMEOUT_PING_INTERVAL_MS + TIMEOUT_PING_ANSWER_MS + TIMEOUT_LINGER_MS) * 1000U);
    /* A session whose edge never learns of its end, as trunk and client were lost together, waits for it in vain. */
    for (size_t i = 0; i < world->settings.cores && world->settings.resume; i++) {
        if (core_worker_session_count(&world->cores[i].worker) != 0) {
            sim_world_run(world, (TIMEOUT_RESUME_CORE_MS + 1000U) * 1000U);
            break;
        }
    }
    for (size_t i = 0; i < world->settings.edges; i++) {
        const struct relay *relay = &world->edges[i].relay;
        if (relay->client_count != 0 || relay->handshake_count != 0) {
            sim_fail(&world->net, "edge %zu: %zu clients and %zu handshakes are left", i, relay->client_count,
                     relay->handshake_count);
        }
    }
    for (size_t i = 0; i < world->settings.cores; i++) {
        if (core_worker_session_count(&world->cores[i].worker) != 0) {
            sim_fail(&world->net, "core %zu: %zu sessions are left", i,
                     core_worker_session_count(&world->cores[i].worker));
        }
    }
    for (size_t i = 0; i < world->client_count; i++) {
        const struct sim_client *client = world->clients[i];
        if (client->core_closes != client->core_opens) {
            sim_fail(&world->net, "client %zu: opened %u times and closed %u times", i, client->core_opens,
                     client->core_closes);
        }
    }
}

void sim_world_expect_service(struct sim_world *world)
{
    struct sim_plan plan;

    sim_plan_init(&plan, 5000);
    struct sim_client *client = sim_world_add(world, &plan);
    if (sim_world_run_clients(world, 60 * SIM_SECOND) && client->outcome != SIM_OUTCOME_CLEAN) {
        sim_fail(&world->net, "a new client is not served: %s, alert %d", sim_outcome_name(client->outcome),
                 client->alert);
    }
}

void sim_world_break_trunks(struct sim_world *world, enum sim_fault fault)
{
    for (size_t i = 0; i < world->trunk_count; i++) {
        sim_link_break(world->trunks[i].link, fault);
    }
}

void sim_world_drain_core(struct sim_world *world, size_t core)
{
    scheduler_set_time(&world->cores[core].scheduler, world->net.now_us);
    core_worker_drain(&world->cores[core].worker);
}

void sim_world_drain_edge(struct sim_world *world, size_t edge, uint64_t timeout_ms)
{
    scheduler_set_time(&world->edges[edge].scheduler, world->net.now_us);
    relay_drain(&world->edges[edge].relay, timeout_ms);
}

/* ------------------------------------------------------------------------------------------------ killing */

#define KILL_STEPS_MAX 1000U

void sim_world_kill_core(struct sim_world *world, size_t index)
{
    struct sim_core *core = &world->cores[index];
    uint64_t now_us = world->net.now_us;

    for (size_t i = 0; i < world->trunk_count; i++) {
        if (world->trunks[i].core == index) {
            sim_link_kill(world->trunks[i].link, SIM_ACCEPTOR);
        }
    }
    /* Its memory is given back as one that stops does it. Nothing of that reaches anybody; and its own time may run
     * ahead, for deadlines. */
    world->killing = true;
    scheduler_set_time(&core->scheduler, now_us);
    core_worker_stop(&core->worker);
    for (unsigned i = 0; i < KILL_STEPS_MAX && !core->stopped; i++) {
        now_us += SIM_SECOND;
        scheduler_advance(&core->scheduler, now_us);
        scheduler_run_tasks(&core->scheduler);
    }
    world->killing = false;
    if (!core->stopped || core_worker_session_count(&core->worker) != 0) {
        sim_fail(&world->net, "core %zu is killed and does not go", index);
        return;
    }
    core_worker_dispose(&core->worker);
    *core = (struct sim_core){.world = world};
}

enum error_code sim_world_start_core(struct sim_world *world, size_t index)
{
    return core_make(world, index);
}

/* ------------------------------------------------------------------------------------------------ life */

enum error_code sim_world_init(struct sim_world *world, uint64_t seed, const struct sim_settings *settings)
{
    memset(world, 0, sizeof(*world));
    sim_system_seed(seed);
    sim_system_set_time(0);
    sim_net_init(&world->net, seed);
    world->settings = *settings;
    edge_settings_fill(&world->edge_settings, settings);
    sim_handlers_serve(world);
    enum error_code error = services_make(world);
    for (size_t i = 0; i < settings->cores && error == ERROR_NONE; i++) {
        error = core_make(world, i);
    }
    world->places = settings->edges;
    world->settings.edges = 0;
    for (size_t i = 0; i < settings->edges && error == ERROR_NONE; i++) {
        error = sim_world_make_edge(world, (uint32_t)i + 1);
    }
    return error;
}

/* Everything has ended, or the time for it is over. */
static bool world_stopped(const struct sim_world *world)
{
    for (size_t i = 0; i < world->settings.edges; i++) {
        if (world->edges[i].made && !world->edges[i].stopped) {
            return false;
        }
    }
    for (size_t i = 0; i < world->settings.cores; i++) {
        if (world->cores[i].made && !world->cores[i].stopped) {
            return false;
        }
    }
    return true;
}

static void world_stop(struct sim_world *world)
{
    for (size_t i = 0; i < world->client_count; i++) {
        sim_client_kill(world->clients[i]);
    }
    for (size_t i = 0; i < world->settings.edges; i++) {
        if (world->edges[i].made && !world->edges[i].stopped) {
            sim_world_drain_edge(world, i, 0);
        }
    }
    uint64_t until = world->net.now_us + 10 * SIM_SECOND;
    for (size_t i = 0; i < world->settings.edges; i++) {
        while (world->edges[i].made && !world->edges[i].stopped && world_step_until(world, until)) {
        }
    }
    for (size_t i = 0; i < world->settings.cores; i++) {
        if (world->cores[i].made) {
            scheduler_set_time(&world->cores[i].scheduler, world->net.now_us);
            core_worker_stop(&world->cores[i].worker);
        }
    }
    until = world->net.now_us + 10 * SIM_SECOND;
    while (!world_stopped(world)) {
        if (!world_step_until(world, until)) {
            sim_fail(&world->net, "the engines do not stop");
            break;
        }
    }
}

static void expect_zero(struct sim_world *world, const char *what, uint64_t count)
{
    if (count != 0) {
        sim_fail(&world->net, "%s: %llu left at the end", what, (unsigned long long)count);
    }
}

static void check_scheduler(struct sim_world *world, const struct scheduler *scheduler)
{
    expect_zero(world, "timers", scheduler->timers.armed);
    expect_zero(world, "tasks", list_empty(&scheduler->tasks) ? 0 : 1);
}

static void edge_end(struct sim_world *world, struct sim_edge *edge)
{
    if (!edge->made) {
        return;
    }
    expect_zero(world, "clients of an edge", edge->relay.client_count);
    expect_zero(world, "handshakes of an edge", edge->relay.handshake_count);
    expect_zero(world, "client objects of an edge", edge->relay.client_slab.objects);
    expect_zero(world, "links of an edge", edge->relay.pool.links);
    relay_dispose(&edge->relay);
    check_scheduler(world, &edge->scheduler);
}

static void core_end(struct sim_world *world, struct sim_core *core)
{
    if (!core->made) {
        return;
    }
    expect_zero(world, "sessions of a core", core_worker_session_count(&core->worker));
    expect_zero(world, "counted sessions of a core", atomic_load(&core->totals.sessions));
    expect_zero(world, "trunks of a core", atomic_load(&core->totals.trunks));
    expect_zero(world, "downlinks of a core", list_empty(&core->worker.downlinks) ? 0 : 1);
    if (core->worker.counters.sessions_opened != core->worker.counters.sessions_closed) {
        sim_fail(&world->net, "a core opened %llu sessions and closed %llu",
                 (unsigned long long)core->worker.counters.sessions_opened,
                 (unsigned long long)core->worker.counters.sessions_closed);
    }
    if (core->stopped) {
        core_worker_dispose(&core->worker);
    }
    check_scheduler(world, &core->scheduler);
}

bool sim_world_finish(struct sim_world *world)
{
    world_stop(world);
    for (size_t i = 0; i < world->settings.edges; i++) {
        edge_end(world, &world->edges[i]);
    }
    for (size_t i = 0; i < world->settings.cores; i++) {
        core_end(world, &world->cores[i]);
    }
    for (size_t i = 0; i < world->client_count; i++) {
        sim_client_dispose(world->clients[i]);
        free(world->clients[i]);
    }
    if (world->services_made) {
        core_services_dispose(&world->services);
    }
    expect_zero(world, "transports", world->net.open_ends);
    sim_net_dispose(&world->net);
    return world->net.failures == 0;
}
