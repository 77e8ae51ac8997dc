/*
 * What a client and its service say to each other once their connection is open: echoed messages, one-way traffic
 * either way, or HTTP requests; and the judgement of what comes back. The only part of a client that knows the kinds of
 * traffic apart. Bytes in, bytes and verdicts out; no I/O, no clock. What clients share is given to each call, as one
 * of them may have half a million. One thread.
 *
 *   echo   messages of message.h go up and must come back.
 *   up     messages go up; whatever the service says is counted, not judged.
 *   down   one GET with the client's number, the size and the time between messages as its query; the answer's body
 *          is a sequence of messages of message.h, from 0, stamped with the server's monotonic clock, until either side
 *          ends.
 *   http   GET after GET on one connection; status and length of each answer are checked.
 *   probe  one GET; its head is all that is looked at.
 */
#ifndef LOAD_EXCHANGE_H
#define LOAD_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/slab.h"
#include "tests/load/http.h"
#include "tests/load/message.h"
#include "tests/load/tally.h"

enum exchange_kind {
    EXCHANGE_ECHO,
    EXCHANGE_UP,
    EXCHANGE_DOWN,
    EXCHANGE_HTTP,
    EXCHANGE_PROBE,
    EXCHANGE_KIND_COUNT,
};

#define EXCHANGE_REQUEST_MAX_BYTES 4096U /* an HTTP request */

struct exchange;
struct exchange_plan;

/* The answer to an HTTP request. Lives while one is awaited, and with one-way down traffic as long as that goes on. */
struct exchange_answer {
    struct exchange *exchange;
    const struct exchange_plan *plan;
    struct http_reader http;
    uint64_t intended_us; /* of the request */
    uint8_t over;         /* nothing more of it is wanted */
};

struct exchange_result {
    bool proved;   /* the service has shown that it serves this client */
    bool measured; /* `measure` and `since_us` tell of something that came whole */
    enum measure measure;
    uint64_t since_us;
};

/* Called for what came whole, in order. */
typedef void exchange_result_fn(struct exchange *exchange, const struct exchange_result *result);

/* What the clients of a worker share; the pointers belong to their owner. exchange_plan_init sets `messages`. */
struct exchange_plan {
    exchange_result_fn *result;
    struct tally *tally;
    struct slab *answers;          /* of struct exchange_answer */
    struct message_rules messages; /* with a slab of struct message_partial */
    const char *host;              /* HTTP: of the Host field */
    const char *path;              /* HTTP: begins with a slash */
    uint64_t body_bytes;
    uint64_t down_interval_us; /* down: that each client asks for */
    uint16_t status;
    bool body_bytes_given; /* HTTP: answers must be of body_bytes */
};

void exchange_plan_init(struct exchange_plan *plan, uint32_t message_bytes, struct slab *partials);

/* One client's side: 40 bytes. */
struct exchange {
    struct message_reader reader;   /*  0: echo, down, up (for its sequence). Also knows the client's number */
    struct exchange_answer *answer; /* 24: http, probe, down; NULL: none is awaited */
    uint8_t kind;                   /* 32: enum exchange_kind */
    uint8_t first;                  /* 33: nothing has been proved yet */
};

/* Room that a write may need with this plan. */
size_t exchange_room(const struct exchange_plan *plan);

/* Prepares for a new connection; exchange_end must have been called after an earlier one. */
void exchange_init(struct exchange *exchange, enum exchange_kind kind, uint32_t client);

static inline uint32_t exchange_client(const struct exchange *exchange)
{
    return exchange->reader.client;
}

/* Gives up what is held for the connection. No effect when it has been called before. */
void exchange_end(struct exchange *exchange, const struct exchange_plan *plan);

/* What the client says first, once TLS is up: the bytes are put into `into` and counted; returns how many, 0 when
 * memory is out. */
size_t exchange_open(struct exchange *exchange, const struct exchange_plan *plan, uint64_t now_us, uint8_t *into);

/* True for those who prove themselves by their first write: nothing will come back. */
static inline bool exchange_proves_itself(const struct exchange *exchange)
{
    return exchange->kind == EXCHANGE_UP;
}

/* Can a scheduled message or request be sent now? Never for those who only receive. */
bool exchange_may_send(const struct exchange *exchange);

/* Only when exchange_may_send. Counts as exchange_open. */
size_t exchange_send(struct exchange *exchange, const struct exchange_plan *plan, uint64_t intended_us, uint8_t *into);

/* A keep-alive ping: a message without a body. Only for EXCHANGE_ECHO. */
size_t exchange_ping(struct exchange *exchange, const struct exchange_plan *plan, uint64_t intended_us, uint8_t *into);

/* Judges what came, now. Faults are counted in the plan's tally. ERROR_INVALID: nothing after can be judged.
 * ERROR_NO_MEMORY. */
enum error_code exchange_receive(struct exchange *exchange, const struct exchange_plan *plan, const uint8_t *bytes,
                                 size_t length);

/* One-way down traffic of which no message has come. */
static inline bool exchange_silent(const struct exchange *exchange)
{
    return exchange->kind == EXCHANGE_DOWN && exchange->reader.expected == 0;
}

/* The answer to what was sent and has not come yet, in messages or requests. */
uint64_t exchange_outstanding(const struct exchange *exchange);

#endif
