/*
 * A whole installation in one process under virtual time: edge relays, cores, the trunks between them, and clients. It
 * drives the schedulers of all engines as their event loops do (events, then timers, then tasks), and checks after
 * every batch that no engine holds more for a session than its windows allow. Owns everything. One thread.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/worker.h"
#include "edge/relay.h"
#include "mux/scheduler.h"
#include "tests/sim/sim_client.h"
#include "tests/sim/sim_net.h"

#define SIM_EDGES_MAX     2U
#define SIM_TAKEOVERS_MAX 6U /* of one run: each makes another edge */
#define SIM_CORES_MAX     2U
#define SIM_CLIENTS_MAX   128U
#define SIM_TRUNKS_MAX    256U   /* links of one run, redialled ones included */
#define SIM_CLIENT_PORT   10000U /* of client 0 */
#define SIM_SECOND        UINT64_C(1000000)

struct sim_settings {
    uint32_t edges;
    uint32_t cores;
    uint32_t trunks; /* per edge and core */
    uint32_t stream_window_bytes;
    uint32_t stream_window_max_bytes;
    uint32_t trunk_window_bytes;
    uint32_t buffer_memory_bytes; /* of an edge */
    uint32_t core_buffer_memory_bytes;
    uint32_t sessions_max;   /* of an edge */
    uint32_t handshakes_max; /* of an edge */
    uint32_t core_sessions_max;
    bool resume; /* sessions outlive their trunks */
    bool reopen; /* and their cores */
    struct sim_link_settings client_link;
    struct sim_link_settings trunk_link;
};

struct sim_edge {
    struct sim_world *world;
    struct scheduler scheduler;
    struct relay relay;
    struct sim_edge *successor; /* that has taken over; NULL: none */
    bool made;
    bool stopped;
};

struct sim_core {
    struct sim_world *world;
    struct scheduler scheduler;
    struct core_worker worker;
    struct core_worker_settings settings;
    struct core_totals totals;
    bool made;
    bool reachable;
    bool drained;
    bool stopped;
};

struct sim_trunk {
    struct sim_link *link;
    size_t edge;
    size_t core;
};

struct sim_world {
    struct sim_net net;
    struct sim_settings settings;
    struct edge_settings edge_settings;
    struct core_services services;
    bool services_made;
    bool killing; /* what handlers are told now, they are not: their process is gone */
    struct sim_edge
        edges[SIM_EDGES_MAX + SIM_TAKEOVERS_MAX]; /* settings.edges of them, those that took over included */
    size_t places;                                /* edges that clients know: the first ones, or who took
                                                     over from them */
    struct sim_core cores[SIM_CORES_MAX];
    struct sim_client *clients[SIM_CLIENTS_MAX];
    size_t client_count;
    struct sim_trunk trunks[SIM_TRUNKS_MAX];
    size_t trunk_count;
    enum sim_fault
        trunk_fault; /* of the next `trunk_faults` trunks that are dialled, to what `trunk_fault_from` writes */
    enum sim_side trunk_fault_from;
    uint64_t trunk_fault_bytes_max; /* behind so many bytes at most */
    unsigned trunk_faults;
    uint64_t last_step_us;
    unsigned steps_at_once;
    uint64_t output_peak_bytes;  /* of one client's stream, not consumed by its edge */
    uint64_t window_peak_bytes;  /* the largest window of a stream */
    uint64_t charged_peak_bytes; /* to the budget of an edge or a core */
    uint64_t queue_peak_bytes;   /* waiting in one stream's queue, at either end of its trunk */
};

/* Certificates and TLS contexts for all worlds of the process. Once, before the first. */
bool sim_world_prepare(void);
void sim_world_unprepare(void);
struct tls_context *sim_world_client_context(bool tls12);

/* One edge, one core, two trunks, links with a little delay. */
void sim_settings_init(struct sim_settings *settings);

/* Draws delays, bandwidths, buffers and windows from the seed. */
void sim_settings_draw(struct sim_settings *settings, struct random_state *random);

/* ERROR_NO_MEMORY: an engine could not be made; sim_world_finish must follow all the same. */
enum error_code sim_world_init(struct sim_world *world, uint64_t seed, const struct sim_settings *settings);

/* A client that starts when its plan says so, counted from now. It lives as long as the world. */
struct sim_client *sim_world_add(struct sim_world *world, const struct sim_plan *plan);

/* Runs for so long. */
void sim_world_run(struct sim_world *world, uint64_t duration_us);

/* Runs until all clients are over; false when they are not after `limit_us` (the run has failed then). */
bool sim_world_run_clients(struct sim_world *world, uint64_t limit_us);

/* Runs until every edge has all of its trunks up. */
bool sim_world_run_trunks(struct sim_world *world, uint64_t limit_us);

/* Expects that no session is left anywhere (soon, as the last bytes may still be under way). */
void sim_world_expect_idle(struct sim_world *world);

/* A new client's echo must go well. */
void sim_world_expect_service(struct sim_world *world);

/* Makes one more edge, whose trunks name the edge worker. ERROR_NO_MEMORY. */
enum error_code sim_world_make_edge(struct sim_world *world, uint32_t edge_worker);

/* The edge that serves at a place now. */
struct sim_edge *sim_world_edge(struct sim_world *world, size_t place);

/* Another process takes over from the edge that serves at the place, as takeover_give and takeover_take do; `fails`: at
 * the last moment it does not. Sessions must resume. False when that could not be. */
bool sim_world_take_over(struct sim_world *world, size_t place, bool fails);

/* Breaks every trunk that is open. */
void sim_world_break_trunks(struct sim_world *world, enum sim_fault fault);

/* The process of the core is gone from one moment to the next, and with it what its handlers knew. Whoever dials it is
 * refused until it is started again. */
void sim_world_kill_core(struct sim_world *world, size_t core);

/* ERROR_NO_MEMORY. */
enum error_code sim_world_start_core(struct sim_world *world, size_t core);

/* As the process does at SIGTERM. */
void sim_world_drain_core(struct sim_world *world, size_t core);
void sim_world_drain_edge(struct sim_world *world, size_t edge, uint64_t timeout_ms);

/* Ends the run: drains the edges, stops the cores, expects every live counter at zero, and frees everything. True when
 * nothing has failed in the whole run. */
bool sim_world_finish(struct sim_world *world);

/* For clients. */
struct sim_link *sim_world_connect_client(struct sim_client *client, const struct transport_binding *binding);

#endif
