/*
 * An opener's and an acceptor's trunk facing each other in memory, and streams that record what happens to them. For
 * tests; one thread.
 */
#ifndef TESTS_TRUNK_PAIR_H
#define TESTS_TRUNK_PAIR_H

#include "mux/clock.h"
#include "mux/scheduler.h"
#include "mux/trunk.h"

#define PAIR_RECEIVED_MAX 4194304U

/* One end's stream, and what it saw. */
struct pair_stream {
    struct trunk_stream stream;
    struct list_node node;     /* in pair->accepted */
    struct metadata *metadata; /* acceptor's: a copy */
    uint8_t *received;
    size_t received_length;
    int opened;
    int ended;
    int writable;
    int closed;
    enum error_code error;
    uint32_t detail;
    bool consume; /* consume at once what comes */
};

struct pair_end {
    struct trunk *trunk;
    struct trunk_carrier carrier;
    bool wants_send;
    bool ready;
    int goaways;
    enum error_code failure;
    int refusals;
    enum error_code refusal;
    struct trunk_pair *pair;
    struct list wire;  /* of struct pair_packet, from this end */
    size_t sent_in_ms; /* bytes */
};

/* What is under way on a path with a lag. */
struct pair_packet {
    struct list_node node;
    uint64_t due_us;
    size_t length;
    uint8_t bytes[];
};

struct trunk_pair {
    struct scheduler scheduler;
    struct pair_end opener;
    struct pair_end acceptor;
    struct list accepted; /* the acceptor's streams, in the order of arrival */
    bool refuse;          /* `opening` returns NULL */
    bool hold;            /* do not answer in `attached` */
    bool consume;         /* new accepted streams consume at once */
    struct random_state random;
    size_t split_max;      /* bytes are fed in random pieces of at most this; 0: whole */
    uint64_t frames_bytes; /* moved in all */
    uint64_t lag_us;       /* one way; 0: bytes arrive at once */
    size_t bytes_per_ms;   /* of each direction, when there is a lag; 0: any number */
};

enum error_code pair_init(struct trunk_pair *pair, const struct trunk_settings *opener,
                          const struct trunk_settings *acceptor);

/* The same over a path that takes `lag_us` one way: bytes move as time does, in pair_wait. */
enum error_code pair_init_lagged(struct trunk_pair *pair, const struct trunk_settings *opener,
                                 const struct trunk_settings *acceptor, uint64_t lag_us, size_t bytes_per_ms);
void pair_dispose(struct trunk_pair *pair);

/* Moves bytes both ways until nothing is left to send. The first error of either trunk, or ERROR_NONE. */
enum error_code pair_pump(struct trunk_pair *pair);

/* Opens a stream to the service "echo"; consumes at once. */
enum error_code pair_open(struct trunk_pair *pair, struct pair_stream *stream);

/* The acceptor's nth stream (0 first), or NULL. */
struct pair_stream *pair_accepted(struct trunk_pair *pair, size_t nth);

void pair_stream_dispose(struct pair_stream *stream);

/* A pattern that no shift of itself equals. */
void pair_fill(uint8_t *bytes, size_t length, unsigned seed);

/* Writes as much as there is room for, again and again, until all is written and has arrived. ERROR_LIMIT when the
 * window stays shut. */
enum error_code pair_send_all(struct trunk_pair *pair, struct pair_stream *from, const uint8_t *bytes, size_t length);

/* Moves virtual time on by so many milliseconds, pumping after each. */
enum error_code pair_wait(struct trunk_pair *pair, uint64_t milliseconds);

extern const struct trunk_events pair_opener_events;
extern const struct trunk_events pair_acceptor_events;

#endif
