/*
 * A TLS client of an edge, and the script of its session: what it sends, what it expects, when it ends, stalls or
 * vanishes, and how its counterpart at the core behaves. Every byte has a value that follows from the stream's seed and
 * its position, so that each side knows at once a byte that is wrong, twice there, or missing. The client belongs to
 * the world, and owns its transport and TLS. One thread.
 */
#ifndef TESTS_SIM_CLIENT_H
#define TESTS_SIM_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/trunkline.h"
#include "mux/tls.h"
#include "mux/transport.h"
#include "tests/sim/sim_net.h"

/* When a side ends its direction, cleanly. */
enum sim_ends {
    SIM_ENDS_AFTER_SENDING,   /* as soon as it has sent all */
    SIM_ENDS_AFTER_RECEIVING, /* and has received all that it expects */
    SIM_ENDS_AFTER_PEER,      /* and the other side has ended */
    SIM_ENDS_NEVER,
};

enum sim_vanish {
    SIM_VANISH_NOT,
    SIM_VANISH_FINISH, /* FIN without close_notify */
    SIM_VANISH_RESET,
};

struct sim_plan {
    const char *service; /* "echo" and "script" are known to the core; "missing" is not; "unrouted" has no route */
    uint64_t start_us;
    uint64_t send_bytes;
    uint64_t receive_bytes;   /* in all, when nothing goes wrong */
    uint64_t stall_at_bytes;  /* stops reading once so much was received */
    uint64_t stall_us;        /* for so long; 0: not at all */
    uint64_t vanish_at_bytes; /* once so much was sent */
    enum sim_ends ends;
    enum sim_vanish vanish;
    bool tls12;
    bool half_closes_tcp; /* FIN right behind close_notify */

    /* The other side, for the service "script"; it sends `receive_bytes`. */
    enum sim_ends core_ends;
    uint32_t core_answer_ms;     /* before it accepts */
    uint32_t core_refuses;       /* HTTP status; 0: it accepts */
    bool core_mute;              /* never answers */
    uint64_t core_aborts_at;     /* aborts once so much was received and sent together; SIM_NEVER */
    uint32_t core_consume_bytes; /* gives back so much at a time; 0: at once */
    uint32_t core_consume_ms;    /* every so often */

    /* Faults of its link. */
    enum sim_fault fault_up;
    enum sim_fault fault_down;
    uint64_t fault_up_at;
    uint64_t fault_down_at;
};

/* How a client's session ended, as the client saw it. */
enum sim_outcome {
    SIM_OUTCOME_OPEN,      /* it has not */
    SIM_OUTCOME_CLEAN,     /* close_notify came, and all bytes before it */
    SIM_OUTCOME_TRUNCATED, /* FIN without close_notify */
    SIM_OUTCOME_RESET,
    SIM_OUTCOME_ALERT,     /* a fatal alert, or another failure of TLS */
    SIM_OUTCOME_VANISHED,  /* it went away by itself, as planned */
    SIM_OUTCOME_NO_MEMORY, /* its own memory was out */
    SIM_OUTCOME_COUNT,
};

struct sim_world;

struct sim_client {
    struct sim_world *world;
    struct sim_plan plan;
    size_t number;
    uint64_t up_seed;   /* of what it sends */
    uint64_t down_seed; /* of what it receives: the same for an echo */
    union transport_slot slot;
    struct sim_link *link;
    struct tls_session tls;
    struct sim_event event; /* the start, and the end of a stall */
    uint8_t *output;        /* ciphertext that the transport did not take */
    size_t output_length;
    size_t output_capacity;
    uint64_t sent;
    uint64_t received;
    uint64_t over_us;
    enum sim_outcome outcome;
    int alert;
    bool tls_ready;
    bool stalled;
    bool input_ended;     /* close_notify came */
    bool output_ended;    /* close_notify went */
    bool transport_ended; /* FIN went */
    bool peer_finished;   /* FIN came */

    /* What the core's side saw of it; kept by sim_handlers.c. */
    trunkline_session *session; /* NULL: not open */
    trunkline_timer *answer_timer;
    trunkline_timer *consume_timer;
    uint64_t core_received;
    uint64_t core_sent;
    uint64_t core_held; /* received and not given back */
    bool core_lost;     /* its core was killed or has drained, and no other has opened the session since */
    unsigned core_opens;
    unsigned core_closes;
    trunkline_reason core_reason;
    bool core_ended; /* the client's end came */
    bool core_output_ended;
};

/* A plan of an echo that goes well. */
void sim_plan_init(struct sim_plan *plan, uint64_t bytes);

/* In zeroed memory. Starts when its plan says so. */
void sim_client_init(struct sim_client *client, struct sim_world *world, size_t number, const struct sim_plan *plan);

/* It has ended, one way or the other. */
static inline bool sim_client_over(const struct sim_client *client)
{
    return client->outcome != SIM_OUTCOME_OPEN;
}

/* Goes away at once: its connection is reset, unless it is over. */
void sim_client_kill(struct sim_client *client);

void sim_client_dispose(struct sim_client *client);

const char *sim_outcome_name(enum sim_outcome outcome);

/* The bytes of the stream `seed` from `position` on. */
void sim_pattern(uint64_t seed, uint64_t position, uint8_t *into, size_t length);
bool sim_pattern_matches(uint64_t seed, uint64_t position, const uint8_t *bytes, size_t length);

#endif
