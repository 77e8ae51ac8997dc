/*
 * A network in memory under virtual time: links are pairs of transports (mux/transport.h) between two engines, with a
 * delay for each segment, a bandwidth, bounded buffers, and faults. All that is left to chance comes from one seeded
 * generator. It behaves as TCP on Linux does, its sharp edges included: a close with unread input resets, so do bytes
 * that reach a closed end; a reset drops what is under way; its error is told once, and after it a read finds the end.
 *
 * The network owns links and what is under way on them; the memory of each end's transport is its engine's. One thread.
 */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/clock.h"
#include "mux/list.h"
#include "mux/transport.h"

#define SIM_NEVER UINT64_MAX

/* Something that happens at a time. Lives in its owner, who is found with container_of. */
struct sim_event {
    uint64_t at_us;
    uint64_t order; /* ties happen in the order of planning */
    size_t place;   /* in the queue, from 1; 0: not planned */
    void (*run)(struct sim_event *event);
};

struct sim_net {
    uint64_t seed;
    uint64_t now_us;
    struct random_state random;
    struct sim_event **queue; /* a binary heap */
    size_t queued;
    size_t queue_capacity;
    uint64_t planned;
    struct list links;
    size_t open_ends; /* transports that are not closed */
    uint64_t links_made;
    uint64_t traffic_hash; /* over every byte that arrived, its link, direction and time */
    uint64_t traffic_bytes;
    unsigned failures; /* told by sim_fail */
};

enum sim_side { SIM_OPENER, SIM_ACCEPTOR };

enum sim_fault {
    SIM_FAULT_NONE,
    SIM_FAULT_FINISH,     /* the receiver sees a FIN, and nothing that comes later */
    SIM_FAULT_RESET,      /* both ends see a reset */
    SIM_FAULT_BLACK_HOLE, /* nothing arrives any more */
};

struct sim_link_settings {
    uint32_t delay_min_us; /* of one segment, one way */
    uint32_t delay_max_us;
    uint32_t bytes_per_ms; /* bandwidth; 0: no bound */
    uint32_t segment_max_bytes;
    uint32_t buffer_bytes; /* per direction: sent and not yet read */
    bool splits_reads;     /* a read may bring less than there is */
};

struct sim_link;

/* For the bindings of simulated transports. */
extern const struct transport_ops sim_transport_ops;

/* The connection attempt reached its target: calls sim_link_accept, or else the opener sees a reset. */
typedef void sim_accept_fn(struct sim_link *link, void *owner);

struct sim_pipe {
    struct list flying;  /* segments under way */
    struct list arrived; /* segments to be read */
    size_t held_bytes;   /* in both, or lost in a black hole: what fills the buffer */
    uint64_t written_bytes;
    uint64_t fault_at_bytes; /* the fault happens once so many bytes were written; SIM_NEVER */
    uint64_t busy_until_us;  /* the bandwidth's */
    uint64_t last_arrival_us;
    struct sim_event arrival;
    uint8_t fault;
    bool black;    /* what is written from now on is lost */
    bool discards; /* the same, but the writer does not notice */
    bool finished; /* FIN was sent */
};

struct sim_end {
    struct transport *transport; /* NULL: not open yet, or closed */
    struct sim_event notice;
    enum error_code error; /* not told yet */
    uint8_t pending;       /* bits of transport_event */
    bool opened;
    bool closed;
    bool connected;
    bool broken;     /* reset, or the attempt failed */
    bool wants_read; /* `ready` is owed when there is something */
    bool wants_write;
};

struct sim_link {
    struct list_node node;
    struct sim_net *net;
    uint64_t number;
    struct sim_link_settings settings;
    struct sim_pipe pipes[2]; /* by the side that writes */
    struct sim_end ends[2];
    struct sim_event connect;
    struct sim_event answer;
    sim_accept_fn *accept;
    void *owner;
    bool reachable;
};

void sim_net_init(struct sim_net *net, uint64_t seed);

/* Everything must be closed. */
void sim_net_dispose(struct sim_net *net);

/* One line on standard error with the seed and the time; the run has failed. */
void sim_fail(struct sim_net *net, const char *format, ...) __attribute__((format(printf, 2, 3)));

void sim_event_init(struct sim_event *event, void (*run)(struct sim_event *event));

/* Plans the event, or moves it. */
void sim_event_plan(struct sim_net *net, struct sim_event *event, uint64_t delay_us);
void sim_event_cancel(struct sim_net *net, struct sim_event *event);

/* SIM_NEVER when nothing is planned. */
uint64_t sim_net_next_us(const struct sim_net *net);

/* Moves time on; what is due happens, but not what becomes due by that. */
void sim_net_advance(struct sim_net *net, uint64_t now_us);

/* From low to high, both included. */
uint64_t sim_between(struct random_state *random, uint64_t low, uint64_t high);

/* True once in `count` times on average. */
bool sim_chance(struct random_state *random, uint64_t count);

/* Starts a connection attempt with the opener's transport in `slot`. An attempt that is not `reachable` fails with
 * ERROR_UNREACHABLE after a while. The link lives as long as the network. */
struct sim_link *sim_net_connect(struct sim_net *net, const struct sim_link_settings *settings,
                                 union transport_slot *slot, const struct transport_binding *binding, bool reachable,
                                 sim_accept_fn *accept, void *owner);

/* From within the accept function. */
void sim_link_accept(struct sim_link *link, union transport_slot *slot, const struct transport_binding *binding);

/* The end whose transport is in `from` has it in `to` from now on, as when a process has passed its descriptor on; `to`
 * is told that it can read and write. */
void sim_transport_move(union transport_slot *from, union transport_slot *to, const struct transport_binding *binding);

/* The fault happens to what `from` writes, behind `at_bytes` bytes. Before the first byte is written. */
void sim_link_plan_fault(struct sim_link *link, enum sim_side from, enum sim_fault fault, uint64_t at_bytes);

/* Now, in both directions, for what was not yet delivered as well. No effect on a link that is closed. */
void sim_link_break(struct sim_link *link, enum sim_fault fault);

/* The process at one end is killed: what it writes from now on goes nowhere, it reads no more, and the other end gets
 * FIN behind, or RST behind or instead of, what is under way to it. */
void sim_link_kill(struct sim_link *link, enum sim_side side);

/* One of the ends is not closed. */
bool sim_link_open(const struct sim_link *link);

#endif
