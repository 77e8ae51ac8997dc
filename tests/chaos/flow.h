/*
 * One direction of a connection: bytes and a time go in, bytes to send, a time to be asked again and an end come out.
 * No socket, no clock. Bytes are never reordered, so every toxic is a stage with a mark, the offset in the stream up to
 * which it has let bytes pass; nothing is copied from stage to stage.
 *
 *   read >= mark of stage 1 >= mark of stage 2 >= ... >= passed >= written
 *
 * The end of a stream is one position behind its last byte, so a FIN waits in its turn like a byte. Owned by a
 * connection. One thread.
 */
#ifndef CHAOS_FLOW_H
#define CHAOS_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/chain.h"
#include "mux/list.h"
#include "tests/chaos/decision.h"
#include "tests/chaos/toxic.h"

#define FLOW_NEVER         UINT64_MAX
#define FLOW_BACKLOG_BYTES 65536U    /* that a stage holds before reading stops; latency may hold more */
#define FLOW_LATENCY_BYTES 67108864U /* that latency may hold, unless --latency-buffer says otherwise */
#define FLOW_SCRATCH_BYTES 262144U   /* the largest read, and the largest slice */

/* The weaker comes first. */
enum flow_end {
    FLOW_GOES_ON,
    FLOW_FINISH, /* FIN to the sink */
    FLOW_CLOSE,  /* FIN to both sides */
    FLOW_RESET,  /* RST to both sides */
};

struct stage;

struct flow {
    struct list stages;
    struct chain bytes; /* from `written` on; what lies behind an end that a toxic made is never sent */
    uint64_t read;
    uint64_t passed;
    uint64_t written;
    uint64_t end; /* FLOW_NEVER: not known yet */
    enum flow_end end_kind;
    bool end_at_once;  /* does not wait for the bytes before it to be written */
    bool dropping;     /* what comes is read and dropped */
    bool source_ended; /* nothing comes any more */
    bool delivered;    /* the end has been carried out */
    uint64_t wake_us;  /* when flow_run has something to do by itself; FLOW_NEVER */
    uint64_t activity_us;
    uint64_t latency_bytes;
    struct decision_scope scope;
    uint64_t received_bytes;
    uint64_t sent_bytes;
};

/* `latency_bytes`: what latency may hold. */
void flow_init(struct flow *flow, const struct decision_scope *scope, uint64_t latency_bytes);
void flow_dispose(struct flow *flow);

/* Adds a toxic behind the others; it must outlive the flow, or be removed. Bytes that were read before have passed it
 * as far as they have passed the last stage. ERROR_NO_MEMORY. */
enum error_code flow_add(struct flow *flow, struct toxic *toxic, uint64_t now_us);

/* The toxic's values have changed: its stage begins anew where it stands. ERROR_NO_MEMORY: it stays as it was. */
enum error_code flow_update(struct flow *flow, struct toxic *toxic, uint64_t now_us);

/* Removes a toxic; that of a `timeout` closes the connection. No effect if it is not there. */
void flow_remove(struct flow *flow, const struct toxic *toxic);

/* How long slow_open holds the connection back, in microseconds. Decides it, so call it once. */
uint64_t flow_open_delay(struct flow *flow, uint64_t now_us);

/* No stage, nothing held, no end: bytes may be passed from source to sink without a stop. */
bool flow_plain(const struct flow *flow);

/* Bytes that went from source to sink without a stop. Only while it is plain. */
void flow_skip(struct flow *flow, size_t length, uint64_t now_us);

/* How many bytes may be read from the source now; 0: do not read. */
size_t flow_room(const struct flow *flow);

/* Takes bytes from the source (and may change them). On ERROR_NO_MEMORY the connection cannot go on. */
enum error_code flow_feed(struct flow *flow, uint8_t *bytes, size_t length, uint64_t now_us);

/* The source has ended: FLOW_FINISH or FLOW_RESET. */
void flow_source_end(struct flow *flow, enum flow_end kind);

/* The sink takes nothing any more: what comes is dropped. */
void flow_sink_lost(struct flow *flow);

/* Lets time and bytes take effect. Sets wake_us. */
void flow_run(struct flow *flow, uint64_t now_us);

/* The next bytes for one send, 0 when there are none now. *bytes is valid until the flow changes; it may lie in
 * `scratch`, which has FLOW_SCRATCH_BYTES. */
size_t flow_output(struct flow *flow, uint8_t *scratch, const uint8_t **bytes);
void flow_written(struct flow *flow, size_t length);

/* What is to be done to the sockets now. Call flow_delivered when it is done. */
enum flow_end flow_pending_end(const struct flow *flow);
void flow_delivered(struct flow *flow);

/* Nothing will ever come out of it any more. */
bool flow_over(const struct flow *flow);

#endif
