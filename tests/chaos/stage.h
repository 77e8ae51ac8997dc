/*
 * The stages of a flow, one kind per type of toxic; see flow.h. Only flow.c and the stages know this header. A stage
 * belongs to its flow.
 */
#ifndef CHAOS_STAGE_H
#define CHAOS_STAGE_H

#include "tests/chaos/draw.h"
#include "tests/chaos/flow.h"

/* Bytes up to `offset` may pass at `due_us`. */
struct latency_mark {
    uint64_t offset;
    uint64_t due_us;
};

struct stage_latency {
    struct latency_mark *ring;
    size_t room; /* a power of two */
    size_t head;
    size_t count;
    uint64_t seen;  /* bytes up to here are in the ring, or passed */
    uint64_t block; /* whose delay is known */
    uint64_t block_delay_us;
};

struct stage_bandwidth {
    uint64_t free_ns; /* when the line has sent all that it was given */
    bool waiting;
};

struct stage_slicer {
    uint64_t boundary; /* the end of the slice in which the mark is */
    uint64_t ready_us; /* when the next slice may begin */
    uint64_t gap_us;   /* after the slice in which the mark is */
    uint64_t write_boundary;
};

/* Acts once: at an offset, at a time, or (in a replay) when both are reached. */
struct stage_trigger {
    uint64_t offset;
    uint64_t due_us;
    uint64_t idle_us; /* 0: not by idleness */
    enum decision_action action;
    enum flow_end kind;
    bool both;
    bool fired;
    uint64_t close_us; /* timeout, reset_peer: when it ends the connection */
};

struct stage_pause {
    uint64_t due_us;
    uint64_t offset; /* replay: the pause begins here */
    uint64_t duration_us;
    uint64_t until_us;
    uint64_t number;
    bool paused;
};

struct stage_slow_close {
    uint64_t due_us; /* FLOW_NEVER: no end has come yet */
};

struct stage_corrupt {
    uint64_t next; /* FLOW_NEVER: no more */
    uint64_t stretch;
    size_t number; /* of bytes changed */
};

struct stage {
    struct list_node node;
    struct toxic *toxic;
    uint64_t key;  /* of its draws */
    uint64_t base; /* where it began */
    uint64_t mark;
    uint64_t wake_us;
    bool active; /* it affects this connection */
    union {
        struct stage_latency latency;
        struct stage_bandwidth bandwidth;
        struct stage_slicer slicer;
        struct stage_trigger trigger;
        struct stage_pause pause;
        struct stage_slow_close slow_close;
        struct stage_corrupt corrupt;
    } u;
};

struct stage_ops {
    /* ERROR_NO_MEMORY. NULL: nothing to prepare. */
    enum error_code (*start)(struct flow *flow, struct stage *stage, uint64_t now_us);
    void (*stop)(struct stage *stage);
    /* The new mark, when the stage before (or the source) has come to `limit`. NULL: all passes. */
    uint64_t (*advance)(struct flow *flow, struct stage *stage, uint64_t limit, uint64_t now_us);
    void (*feed)(struct flow *flow, struct stage *stage, uint8_t *bytes, size_t length, uint64_t now_us);
};

const struct stage_ops *stage_ops(enum toxic_type type);

/* The end of the slice in which `offset` lies. */
uint64_t stage_slicer_boundary(struct flow *flow, struct stage *stage, uint64_t offset);

/* For stages: ends the stream at the stage's mark (FLOW_GOES_ON: drops all from there on). */
void flow_cut(struct flow *flow, struct stage *stage, enum flow_end kind, bool at_once);

/* Counts a hit and writes a line. */
void stage_note(struct flow *flow, struct stage *stage, enum decision_action action, uint64_t offset, uint64_t value,
                uint64_t now_us);

extern const struct stage_ops stage_latency_ops;
extern const struct stage_ops stage_bandwidth_ops;
extern const struct stage_ops stage_slicer_ops;
extern const struct stage_ops stage_trigger_ops;
extern const struct stage_ops stage_pause_ops;
extern const struct stage_ops stage_slow_close_ops;
extern const struct stage_ops stage_corrupt_ops;

#endif
