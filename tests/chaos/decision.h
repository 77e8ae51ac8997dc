/*
 * The decision log: every action of a toxic and every change of the configuration, one line each, and the same read
 * again for a replay. Lines go to a function of the owner; nothing here opens a file or reads a clock. One thread.
 *
 *   # trunkline-chaos-log 1 seed=42 receive_buffer=0 latency_buffer=67108864
 *   TIME PROXY CONNECTION STREAM OFFSET TOXIC ACTION VALUE
 *   0 web 0 - 0 - config {"name":"web",...}
 *   1042 web 1 - 0 - open 0
 *   1100 web 1 downstream 0 cut slice 17
 *
 * TIME is in microseconds since the start. Names are escaped as in URLs. VALUE is a number, or JSON for `config`.
 */
#ifndef CHAOS_DECISION_H
#define CHAOS_DECISION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/error.h"
#include "mux/options.h"
#include "tests/chaos/toxic.h"

enum decision_action {
    DECISION_OPEN,       /* a connection was accepted */
    DECISION_TOXICITY,   /* value 1: the toxic affects the connection, 0: it does not */
    DECISION_SLOW_OPEN,  /* value: microseconds */
    DECISION_DELAY,      /* value: microseconds that the block at the offset waits */
    DECISION_SLICE,      /* value: bytes of the slice at the offset */
    DECISION_GAP,        /* value: microseconds after the slice at the offset */
    DECISION_PAUSE,      /* value: microseconds */
    DECISION_DROP,       /* all bytes from the offset on are dropped */
    DECISION_HALF_CLOSE, /* FIN at the offset */
    DECISION_CLOSE,      /* both sides are closed */
    DECISION_RESET,      /* both sides are reset */
    DECISION_CORRUPT,    /* value: what the byte at the offset was combined with by exclusive or */
    DECISION_SLOW_CLOSE, /* value: microseconds that the end waits */
    DECISION_ACTION_COUNT,
};

/* A change of the configuration that a replay repeats. */
enum decision_change {
    DECISION_CONFIG, /* `text` is the JSON of a proxy, with its toxics */
    DECISION_DELETE,
    DECISION_END,
};

struct decision_step {
    uint64_t time_us;
    enum decision_change change;
    char *proxy;
    char *text; /* NULL when there is none */
};

struct decision_record; /* in decision.c */

/* `line` ends with a newline. */
typedef void decision_write_fn(void *owner, const char *line, size_t length);

struct decisions {
    uint64_t seed;
    uint64_t start_us;
    decision_write_fn *write; /* NULL: no log */
    void *owner;
    bool starting; /* changes are written as of time 0, so that a replay makes them before it tells where it listens */

    bool replaying;
    uint64_t receive_buffer; /* of the run that is replayed */
    uint64_t latency_buffer;
    struct decision_record *records; /* sorted */
    size_t record_count;
    struct decision_step *steps; /* in the order of the log */
    size_t step_count;
    uint64_t missed; /* decisions that the log lacked */
};

/* Whose decisions: one direction of one connection. `proxy` is borrowed. */
struct decision_scope {
    struct decisions *decisions;
    const char *proxy;
    uint64_t connection; /* from 1, in the order of accepting */
    enum toxic_stream stream;
    uint64_t opened_us;
};

struct decision_event {
    uint64_t offset;
    uint64_t due_us;
    uint64_t value;
};

void decisions_init(struct decisions *decisions, uint64_t seed, uint64_t start_us, decision_write_fn *write,
                    void *owner);
void decisions_dispose(struct decisions *decisions);

/* Reads a log for a replay; it also gives the seed. ERROR_CONFIGURATION (`fault` names the line) or ERROR_NO_MEMORY. */
enum error_code decisions_load(struct decisions *decisions, const char *text, size_t length,
                               struct option_fault *fault);

void decisions_write_header(struct decisions *decisions, uint64_t receive_buffer, uint64_t latency_buffer);

/* What the log being replayed says of this place, or `drawn`. The second form counts what the log lacks. */
uint64_t decisions_peek(const struct decision_scope *scope, const char *toxic, enum decision_action action,
                        uint64_t offset, uint64_t drawn);
uint64_t decisions_take(const struct decision_scope *scope, const char *toxic, enum decision_action action,
                        uint64_t offset, uint64_t drawn);

/* The action number `index` (from 0) of a toxic on a connection in the log being replayed; false: there is none. */
bool decisions_event(const struct decision_scope *scope, const char *toxic, enum decision_action action, size_t index,
                     struct decision_event *event);

/* Writes lines. */
void decisions_note(const struct decision_scope *scope, const char *toxic, enum decision_action action, uint64_t offset,
                    uint64_t value, uint64_t now_us);
void decisions_note_open(const struct decision_scope *scope);
void decisions_note_change(struct decisions *decisions, enum decision_change change, const char *proxy,
                           const char *text, uint64_t now_us);

#endif
