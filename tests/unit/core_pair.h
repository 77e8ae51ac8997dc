/*
 * An edge's trunk facing a core's worker in memory: clients that record what happens to them, and the core's real
 * sessions with real handlers behind. For tests; one thread.
 */
#ifndef TESTS_CORE_PAIR_H
#define TESTS_CORE_PAIR_H

#include "core/session.h"
#include "core/worker.h"
#include "mux/chain.h"
#include "mux/loop.h"
#include "mux/trunk.h"

/* One client's stream at the edge, and what it saw. */
struct core_client {
    struct trunk_stream stream;
    struct chain received;
    bool consume; /* take at once what comes */
    int opened;
    int ended;
    int writable;
    int closed;
    int suspended;
    int resumed;
    int noted;
    struct metadata_note note; /* the last; its bytes are in note_bytes */
    uint8_t note_bytes[METADATA_NOTE_MAX];
    enum error_code error;
    uint32_t detail;
    const uint8_t *to_send; /* goes on being written as there is room */
    size_t to_send_length;
    bool end_after; /* and then the end */
};

struct core_pair {
    struct scheduler own;
    struct scheduler *scheduler; /* &own, or that of the loop */
    struct loop *loop;           /* NULL: virtual time */
    struct core_services services;
    struct core_totals totals;
    struct core_worker_settings settings;
    struct core_worker_events events;
    struct core_worker worker;
    struct session_origin origin;
    struct slab edge_works;
    struct trunk *edge;
    struct trunk *core;
    struct trunk_carrier carrier;
    enum error_code failure; /* of either trunk */
    int drained;             /* worker events */
    int stopped;
};

/* A pair with one service, "test", served by `handler` with `argument`; with an event loop of its own if `with_loop`.
 * `window` is the stream window of both ends, 0 the default. */
enum error_code core_pair_init(struct core_pair *pair, const trunkline_handler *handler, const char *argument,
                               bool with_loop, uint32_t window);

/* As core_pair_init in virtual time, with sessions that outlive their trunk for so long. The edge's certificate has the
 * name "edge.example". */
enum error_code core_pair_init_resuming(struct core_pair *pair, const trunkline_handler *handler,
                                        uint32_t resume_timeout_ms);

/* Both ends of the trunk are gone. */
void core_pair_lose(struct core_pair *pair);

/* A new trunk, of an edge with this name in its certificate (static). */
enum error_code core_pair_connect(struct core_pair *pair, const char *name);

/* Ends both trunks and checks that nothing is left behind. */
void core_pair_dispose(struct core_pair *pair);

/* Moves bytes both ways, runs tasks and (with a loop) looks at the sockets, until nothing moves. */
void core_pair_pump(struct core_pair *pair);

/* With a loop: pumps until *flag is at least `wanted`. Fails the test when that takes seconds. */
void core_pair_await(struct core_pair *pair, const int *flag, int wanted);
void core_pair_await_bytes(struct core_pair *pair, const struct core_client *client, size_t wanted);

/* Moves virtual time on, pumping after each millisecond. */
void core_pair_wait(struct core_pair *pair, uint64_t milliseconds);

/* Opens a stream to `service`. */
enum error_code core_client_open(struct core_pair *pair, struct core_client *client, const char *service);

/* Opens a stream with this metadata. */
enum error_code core_client_open_as(struct core_pair *pair, struct core_client *client,
                                    const struct metadata *metadata);

/* Asks for the client's suspended stream, with the same metadata. */
enum error_code core_client_resume(struct core_pair *pair, struct core_client *client, const struct metadata *metadata);

/* Writes all of it, as there is room; with `end`, ends after the last byte. The bytes stay the caller's. */
void core_client_send(struct core_client *client, const void *bytes, size_t length, bool end);

size_t core_client_received(const struct core_client *client);

/* Takes what came and gives the core credit for it. */
void core_client_take(struct core_client *client, size_t length);

void core_client_dispose(struct core_client *client);

#endif
