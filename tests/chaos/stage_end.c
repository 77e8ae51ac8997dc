/* Stages that end a stream, drop or change its bytes: resets, closes, black holes, limits, corruption. See stage.h. */
#include "tests/chaos/stage.h"

#include <assert.h>

#define US_PER_MS        1000U
#define PERCENT          100U
#define BYTE_CHANGES     255U /* what a byte can be combined with so that it changes */
#define TRIGGER_IDLE_ONE 1U   /* the counter of the draw for idle_ms */

static uint64_t time_after(uint64_t now_us, uint64_t after_ms)
{
    return now_us + after_ms * US_PER_MS;
}

static void reset_plan(struct stage *stage, uint64_t now_us)
{
    struct stage_trigger *trigger = &stage->u.trigger;
    const uint64_t *values = stage->toxic->values;
    enum draw_distribution distribution = (enum draw_distribution)values[RESET_DISTRIBUTION];
    uint64_t percent = values[RESET_VARIATION_PERCENT];
    uint64_t bytes = values[RESET_AFTER_BYTES];
    uint64_t after_us = values[RESET_AFTER_MS] * US_PER_MS;
    uint64_t idle_us = values[RESET_IDLE_MS] * US_PER_MS;
    if (bytes == 0 && after_us == 0 && idle_us == 0) {
        trigger->due_us = now_us;
        return;
    }
    if (bytes > 0) {
        trigger->offset = stage->base + draw_around(stage->key, DRAW_BYTES, 0, distribution, bytes,
                                                    bytes / PERCENT * percent + bytes % PERCENT * percent / PERCENT);
    }
    if (after_us > 0) {
        trigger->due_us =
            now_us + draw_around(stage->key, DRAW_TIME, 0, distribution, after_us, after_us * percent / PERCENT);
    }
    if (idle_us > 0) {
        uint64_t drawn =
            draw_around(stage->key, DRAW_TIME, TRIGGER_IDLE_ONE, distribution, idle_us, idle_us * percent / PERCENT);
        trigger->idle_us = drawn > 0 ? drawn : 1;
    }
}

/* By bytes, by time, or at once when neither is given. */
static void cut_plan(struct stage *stage, uint64_t after_bytes, uint64_t after_ms, uint64_t now_us)
{
    struct stage_trigger *trigger = &stage->u.trigger;
    if (after_bytes > 0) {
        trigger->offset = stage->base + after_bytes;
    }
    if (after_ms > 0 || after_bytes == 0) {
        trigger->due_us = time_after(now_us, after_ms);
    }
}

static void trigger_plan(struct stage *stage, uint64_t now_us)
{
    struct stage_trigger *trigger = &stage->u.trigger;
    const uint64_t *values = stage->toxic->values;
    switch (stage->toxic->type) {
    case TOXIC_TIMEOUT:
        trigger->action = DECISION_DROP;
        trigger->due_us = now_us;
        if (values[TIMEOUT_TIMEOUT_MS] > 0) {
            trigger->close_us = time_after(now_us, values[TIMEOUT_TIMEOUT_MS]);
        }
        return;
    case TOXIC_RESET_PEER:
        trigger->action = DECISION_DROP;
        trigger->due_us = now_us;
        trigger->close_us = time_after(now_us, values[RESET_PEER_TIMEOUT_MS]);
        return;
    case TOXIC_LIMIT_DATA:
        trigger->action = DECISION_CLOSE;
        trigger->kind = FLOW_CLOSE;
        trigger->offset = stage->base + values[LIMIT_DATA_BYTES];
        return;
    case TOXIC_RESET:
        trigger->action = DECISION_RESET;
        trigger->kind = FLOW_RESET;
        reset_plan(stage, now_us);
        return;
    case TOXIC_HALF_CLOSE:
        trigger->action = DECISION_HALF_CLOSE;
        trigger->kind = FLOW_FINISH;
        cut_plan(stage, values[HALF_CLOSE_AFTER_BYTES], values[HALF_CLOSE_AFTER_MS], now_us);
        return;
    default:
        assert(stage->toxic->type == TOXIC_BLACK_HOLE && "no other type has a trigger");
        trigger->action = DECISION_DROP;
        cut_plan(stage, values[BLACK_HOLE_AFTER_BYTES], values[BLACK_HOLE_AFTER_MS], now_us);
        return;
    }
}

static enum error_code trigger_start(struct flow *flow, struct stage *stage, uint64_t now_us)
{
    struct stage_trigger *trigger = &stage->u.trigger;
    struct decision_event event;
    *trigger = (struct stage_trigger){
        .offset = FLOW_NEVER, .due_us = FLOW_NEVER, .close_us = FLOW_NEVER, .kind = FLOW_GOES_ON};
    trigger_plan(stage, now_us);
    if (decisions_event(&flow->scope, stage->toxic->name, trigger->action, 0, &event)) {
        trigger->offset = event.offset;
        trigger->due_us = event.due_us;
        trigger->idle_us = 0;
        trigger->both = true;
    }
    return ERROR_NONE;
}

/* timeout and reset_peer: what follows the dropping. */
static void trigger_close(struct flow *flow, struct stage *stage, uint64_t now_us)
{
    struct stage_trigger *trigger = &stage->u.trigger;
    if (trigger->close_us == FLOW_NEVER) {
        return;
    }
    if (now_us < trigger->close_us) {
        stage->wake_us = trigger->close_us;
        return;
    }
    bool reset = stage->toxic->type == TOXIC_RESET_PEER;
    trigger->close_us = FLOW_NEVER;
    stage_note(flow, stage, reset ? DECISION_RESET : DECISION_CLOSE, stage->mark, 0, now_us);
    flow_cut(flow, stage, reset ? FLOW_RESET : FLOW_CLOSE, true);
}

/* By time it acts at once, where it stands; by bytes, when exactly so many have passed. */
static bool trigger_due(const struct flow *flow, struct stage *stage, uint64_t mark, uint64_t now_us, bool *by_time)
{
    const struct stage_trigger *trigger = &stage->u.trigger;
    uint64_t due_us = trigger->due_us;
    if (trigger->idle_us > 0 && flow->activity_us + trigger->idle_us < due_us) {
        due_us = flow->activity_us + trigger->idle_us;
    }
    bool reached = trigger->offset != FLOW_NEVER && mark >= trigger->offset;
    *by_time = now_us >= due_us;
    if (!*by_time) {
        stage->wake_us = due_us;
    }
    return trigger->both ? reached && *by_time : reached || *by_time;
}

static uint64_t trigger_advance(struct flow *flow, struct stage *stage, uint64_t limit, uint64_t now_us)
{
    struct stage_trigger *trigger = &stage->u.trigger;
    bool by_time;
    if (trigger->fired) {
        stage->mark = limit > stage->mark ? limit : stage->mark;
        trigger_close(flow, stage, now_us);
        return stage->mark;
    }
    uint64_t mark = limit > stage->mark ? limit : stage->mark;
    if (mark > trigger->offset) {
        mark = trigger->offset > stage->mark ? trigger->offset : stage->mark;
    }
    if (!trigger_due(flow, stage, mark, now_us, &by_time)) {
        return mark;
    }
    if (!trigger->both && by_time) {
        mark = stage->mark; /* what has not passed in time does not pass */
    }
    stage->mark = mark;
    trigger->fired = true;
    stage->wake_us = FLOW_NEVER;
    bool reset_at_once = trigger->kind == FLOW_RESET && by_time && !trigger->both;
    uint64_t offset = mark < flow->end ? mark : flow->end;
    stage_note(flow, stage, trigger->action, offset, 0, now_us);
    flow_cut(flow, stage, trigger->kind, reset_at_once);
    trigger_close(flow, stage, now_us);
    return stage->mark;
}

const struct stage_ops stage_trigger_ops = {.start = trigger_start, .advance = trigger_advance};

/* ---- corrupt ---- */

/* Which byte changes in the stretch that starts at `stretch`. */
static void corrupt_plan(struct flow *flow, struct stage *stage)
{
    struct stage_corrupt *corrupt = &stage->u.corrupt;
    uint64_t every = stage->toxic->values[CORRUPT_EVERY];
    struct decision_event event;
    corrupt->next = corrupt->stretch;
    if (decisions_event(&flow->scope, stage->toxic->name, DECISION_CORRUPT, corrupt->number, &event) &&
        event.offset >= flow->read) {
        corrupt->next = event.offset;
    } else if (every > 1) {
        corrupt->next += draw_below(stage->key, DRAW_POSITION, corrupt->stretch, every);
    }
}

static enum error_code corrupt_start(struct flow *flow, struct stage *stage, uint64_t now_us)
{
    (void)now_us;
    /* Bytes are changed when they are read. */
    stage->u.corrupt.stretch = flow->read + stage->toxic->values[CORRUPT_AFTER_BYTES];
    corrupt_plan(flow, stage);
    return ERROR_NONE;
}

static void corrupt_feed(struct flow *flow, struct stage *stage, uint8_t *bytes, size_t length, uint64_t now_us)
{
    struct stage_corrupt *corrupt = &stage->u.corrupt;
    uint64_t every = stage->toxic->values[CORRUPT_EVERY];
    while (corrupt->next < flow->read + length) {
        uint64_t offset = corrupt->next;
        uint64_t drawn = 1 + draw_below(stage->key, DRAW_BYTE, offset, BYTE_CHANGES);
        uint64_t change = decisions_take(&flow->scope, stage->toxic->name, DECISION_CORRUPT, offset, drawn);
        bytes[offset - flow->read] ^= (uint8_t)change;
        stage_note(flow, stage, DECISION_CORRUPT, offset, change, now_us);
        corrupt->number++;
        if (every == 0) {
            corrupt->next = FLOW_NEVER;
            return;
        }
        corrupt->stretch += every;
        corrupt_plan(flow, stage);
    }
}

const struct stage_ops stage_corrupt_ops = {.start = corrupt_start, .feed = corrupt_feed};

/* ---- which stage a type of toxic has ---- */

const struct stage_ops *stage_ops(enum toxic_type type)
{
    switch (type) {
    case TOXIC_LATENCY:
        return &stage_latency_ops;
    case TOXIC_BANDWIDTH:
        return &stage_bandwidth_ops;
    case TOXIC_SLOW_CLOSE:
        return &stage_slow_close_ops;
    case TOXIC_SLICER:
        return &stage_slicer_ops;
    case TOXIC_PAUSE:
        return &stage_pause_ops;
    case TOXIC_CORRUPT:
        return &stage_corrupt_ops;
    case TOXIC_TIMEOUT:
    case TOXIC_RESET_PEER:
    case TOXIC_LIMIT_DATA:
    case TOXIC_RESET:
    case TOXIC_HALF_CLOSE:
    case TOXIC_BLACK_HOLE:
        return &stage_trigger_ops;
    default:
        return NULL; /* slow_open: the connection itself waits */
    }
}
