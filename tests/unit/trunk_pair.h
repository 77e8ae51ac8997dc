/*
 * An opener's and an acceptor's trunk facing each other in memory, and streams that record what happens to them; a
 * second pair of trunks between the same two, for streams that outlive the first. For tests; one thread.
 */
#ifndef TESTS_TRUNK_PAIR_H
#define TESTS_TRUNK_PAIR_H

#include "mux/clock.h"
#include "mux/scheduler.h"
#include "mux/slab.h"
#include "mux/trunk.h"

#define PAIR_RECEIVED_MAX 4194304U

/* One end's stream, and what it saw. */
struct pair_stream {
    struct trunk_stream stream;
    struct list_node node;     /* in pair->accepted */
    struct metadata *metadata; /* acceptor's: a copy */
    uint8_t *received;
    size_t received_length;
    size_t received_capacity;
    int opened;
    int ended;
    int writable;
    int closed;
    int suspended;
    enum error_code suspended_for; /* the last time */
    int resumed;
    int noted;
    uint32_t noted_sum; /* of the last note's bytes */
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
    int refusal_status;
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
    struct trunk_settings opener_settings;
    struct trunk_settings acceptor_settings;
    struct slab opener_works; /* for those whose settings resume and have none */
    struct slab acceptor_works;
    struct pair_end opener;
    struct pair_end acceptor;
    struct pair_end second_opener; /* no trunk until pair_connect_second */
    struct pair_end second_acceptor;
    struct list accepted; /* the acceptor's streams, in the order of arrival */
    bool refuse;          /* `opening` returns NULL */
    bool hold;            /* do not answer in `attached` */
    bool reopen;          /* a session that is not known is opened again */
    bool over;            /* being disposed of: streams that could outlive it are given up */
    bool consume;         /* new accepted streams consume at once */
    struct random_state random;
    size_t split_max;      /* bytes are fed in random pieces of at most this; 0: whole */
    uint64_t frames_bytes; /* moved in all */
    uint64_t lag_us;       /* one way; 0: bytes arrive at once */
    size_t bytes_per_ms;   /* of each direction, when there is a lag; 0: any number */
    uint64_t cut_at;       /* of frames_bytes: what is beyond is lost, and pair_pump says ERROR_TRUNK_LOST; 0: never */
};

enum error_code pair_init(struct trunk_pair *pair, const struct trunk_settings *opener,
                          const struct trunk_settings *acceptor);

/* The same over a path that takes `lag_us` one way: bytes move as time does, in pair_wait. */
enum error_code pair_init_lagged(struct trunk_pair *pair, const struct trunk_settings *opener,
                                 const struct trunk_settings *acceptor, uint64_t lag_us, size_t bytes_per_ms);
void pair_dispose(struct trunk_pair *pair);

/* Both ends resume, for the rest with the settings of pair_init. */
enum error_code pair_init_resuming(struct trunk_pair *pair, uint32_t stream_window_bytes);

/* Makes the trunks of one pair where there are none, and pumps. */
enum error_code pair_connect(struct trunk_pair *pair);
enum error_code pair_connect_second(struct trunk_pair *pair);

/* The trunks of the first or second pair are lost: the opener's first. */
void pair_lose(struct trunk_pair *pair);
void pair_lose_second(struct trunk_pair *pair);

/* As pair_open, for a session of that number, which is not 0. */
enum error_code pair_open_session(struct trunk_pair *pair, struct pair_stream *stream, uint32_t number);

/* Asks for the suspended stream on the trunk. */
enum error_code pair_resume(struct trunk *trunk, struct pair_stream *stream, uint32_t number);

/* The metadata of such a request; its texts are static. */
struct metadata pair_metadata(uint32_t number);

/* Moves bytes both ways, on each pair of trunks that is whole, until nothing is left to send. The first error of any
 * trunk, or ERROR_NONE. */
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
