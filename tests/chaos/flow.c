/* See flow.h. Owns the stages and the bytes held. */
#include "tests/chaos/flow.h"

#include <assert.h>

#include "mux/memory.h"
#include "tests/chaos/stage.h"

#define US_PER_MS 1000U

static struct stage *stage_of(struct list_node *node)
{
    return container_of(node, struct stage, node);
}

void flow_init(struct flow *flow, const struct decision_scope *scope, uint64_t latency_bytes)
{
    *flow = (struct flow){.end = FLOW_NEVER,
                          .wake_us = FLOW_NEVER,
                          .activity_us = scope->opened_us,
                          .latency_bytes = latency_bytes,
                          .scope = *scope};
    list_init(&flow->stages);
    chain_init(&flow->bytes);
}

static void stage_free(struct stage *stage)
{
    const struct stage_ops *ops = stage_ops(stage->toxic->type);
    if (stage->active && ops != NULL && ops->stop != NULL) {
        ops->stop(stage);
    }
    list_remove(&stage->node);
    memory_free(stage);
}

void flow_dispose(struct flow *flow)
{
    list_for_each(&flow->stages, node) {
        stage_free(stage_of(node));
    }
    chain_clear(&flow->bytes);
}

static struct stage *flow_find(struct flow *flow, const struct toxic *toxic)
{
    list_for_each(&flow->stages, node) {
        if (stage_of(node)->toxic == toxic) {
            return stage_of(node);
        }
    }
    return NULL;
}

static bool flow_affected(struct flow *flow, const struct stage *stage, uint64_t now_us)
{
    double toxicity = stage->toxic->toxicity;
    if (toxicity >= 1.0) {
        return true;
    }
    uint64_t drawn = draw_unit(stage->key, DRAW_TOXICITY, 0) < toxicity ? 1 : 0;
    uint64_t decided = decisions_take(&flow->scope, stage->toxic->name, DECISION_TOXICITY, 0, drawn);
    decisions_note(&flow->scope, stage->toxic->name, DECISION_TOXICITY, 0, decided, now_us);
    return decided != 0;
}

static enum error_code flow_make(struct flow *flow, struct toxic *toxic, uint64_t mark, uint64_t now_us,
                                 struct stage **made)
{
    struct stage *stage = memory_zalloc(sizeof(*stage));
    if (stage == NULL) {
        return ERROR_NO_MEMORY;
    }
    const struct decision_scope *scope = &flow->scope;
    const struct stage_ops *ops = stage_ops(toxic->type);
    list_node_init(&stage->node);
    stage->toxic = toxic;
    stage->key = draw_key(scope->decisions->seed, scope->proxy, scope->connection, scope->stream, toxic->name);
    stage->base = mark;
    stage->mark = mark;
    stage->wake_us = FLOW_NEVER;
    stage->active = flow_affected(flow, stage, now_us);
    enum error_code error = ERROR_NONE;
    if (stage->active && ops != NULL && ops->start != NULL) {
        error = ops->start(flow, stage, now_us);
    }
    if (error != ERROR_NONE) {
        memory_free(stage);
        return error;
    }
    *made = stage;
    return ERROR_NONE;
}

enum error_code flow_add(struct flow *flow, struct toxic *toxic, uint64_t now_us)
{
    struct stage *stage = NULL;
    enum error_code error = flow_make(flow, toxic, flow->passed, now_us, &stage);
    if (error == ERROR_NONE) {
        list_append(&flow->stages, &stage->node);
    }
    return error;
}

enum error_code flow_update(struct flow *flow, struct toxic *toxic, uint64_t now_us)
{
    struct stage *old = flow_find(flow, toxic);
    struct stage *fresh = NULL;
    if (old == NULL) {
        return ERROR_NONE;
    }
    enum error_code error = flow_make(flow, toxic, old->mark, now_us, &fresh);
    if (error == ERROR_NONE) {
        list_insert_before(&old->node, &fresh->node);
        stage_free(old);
    }
    return error;
}

void flow_remove(struct flow *flow, const struct toxic *toxic)
{
    struct stage *stage = flow_find(flow, toxic);
    if (stage == NULL) {
        return;
    }
    if (toxic->type == TOXIC_TIMEOUT && stage->active) {
        flow_cut(flow, stage, FLOW_CLOSE, true);
    }
    stage_free(stage);
}

uint64_t flow_open_delay(struct flow *flow, uint64_t now_us)
{
    uint64_t sum_us = 0;
    list_for_each(&flow->stages, node) {
        struct stage *stage = stage_of(node);
        const uint64_t *values = stage->toxic->values;
        if (stage->toxic->type != TOXIC_SLOW_OPEN || !stage->active) {
            continue;
        }
        uint64_t drawn = draw_around(stage->key, DRAW_DELAY, 0, (enum draw_distribution)values[SLOW_OPEN_DISTRIBUTION],
                                     values[SLOW_OPEN_DELAY_MS] * US_PER_MS, values[SLOW_OPEN_JITTER_MS] * US_PER_MS);
        uint64_t delay_us = decisions_take(&flow->scope, stage->toxic->name, DECISION_SLOW_OPEN, 0, drawn);
        stage_note(flow, stage, DECISION_SLOW_OPEN, 0, delay_us, now_us);
        sum_us += delay_us;
    }
    return sum_us;
}

bool flow_plain(const struct flow *flow)
{
    return list_empty(&flow->stages) && flow->written == flow->read && flow->end == FLOW_NEVER && !flow->dropping;
}

void flow_skip(struct flow *flow, size_t length, uint64_t now_us)
{
    flow->read += length;
    flow->passed = flow->read;
    flow->written = flow->read;
    flow->received_bytes += length;
    flow->sent_bytes += length;
    flow->activity_us = now_us;
}

static size_t room_below(uint64_t most, uint64_t held)
{
    uint64_t room = held < most ? most - held : 0;
    return room < FLOW_SCRATCH_BYTES ? (size_t)room : FLOW_SCRATCH_BYTES;
}

size_t flow_room(const struct flow *flow)
{
    if (flow->source_ended) {
        return 0;
    }
    size_t room = FLOW_SCRATCH_BYTES;
    uint64_t before = flow->read;
    list_for_each(&flow->stages, node) {
        const struct stage *stage = stage_of(node);
        uint64_t most = FLOW_BACKLOG_BYTES;
        if (stage->active && stage->toxic->type == TOXIC_PAUSE && stage->u.pause.paused) {
            return 0;
        }
        if (stage->active && stage->toxic->type == TOXIC_LATENCY) {
            most = flow->latency_bytes;
        }
        size_t here = room_below(most, before - stage->mark);
        room = here < room ? here : room;
        before = stage->mark;
    }
    if (flow->dropping) {
        return FLOW_SCRATCH_BYTES;
    }
    /* What could not leave at once is less than one scratch; more is read when the half of it has left. */
    uint64_t unsent = flow->passed - flow->written;
    size_t here = unsent < FLOW_BACKLOG_BYTES ? FLOW_SCRATCH_BYTES : 0;
    return here < room ? here : room;
}

enum error_code flow_feed(struct flow *flow, uint8_t *bytes, size_t length, uint64_t now_us)
{
    flow->received_bytes += length;
    flow->activity_us = now_us;
    if (flow->dropping) {
        return ERROR_NONE;
    }
    list_for_each(&flow->stages, node) {
        struct stage *stage = stage_of(node);
        const struct stage_ops *ops = stage_ops(stage->toxic->type);
        if (stage->active && ops != NULL && ops->feed != NULL) {
            ops->feed(flow, stage, bytes, length, now_us);
        }
    }
    enum error_code error = chain_append(&flow->bytes, bytes, length);
    if (error == ERROR_NONE) {
        flow->read += length;
    }
    return error;
}

void flow_source_end(struct flow *flow, enum flow_end kind)
{
    assert((kind == FLOW_FINISH || kind == FLOW_RESET) && "a source ends or is reset");
    if (flow->dropping || flow->end != FLOW_NEVER) {
        /* A reset behind a FIN is still a reset, if that FIN was the source's own. */
        if (kind == FLOW_RESET && !flow->dropping) {
            flow->end_kind = FLOW_RESET;
            flow->end_at_once = true;
            flow->delivered = false;
        }
        flow->source_ended = true;
        return;
    }
    flow->source_ended = true;
    flow->end = flow->read;
    flow->end_kind = kind;
    flow->end_at_once = kind == FLOW_RESET;
    flow->read++;
}

void flow_sink_lost(struct flow *flow)
{
    flow->dropping = true;
    flow->end = flow->written;
    flow->end_kind = FLOW_GOES_ON;
    flow->delivered = true;
    chain_clear(&flow->bytes);
}

void flow_cut(struct flow *flow, struct stage *stage, enum flow_end kind, bool at_once)
{
    uint64_t at = stage->mark < flow->end ? stage->mark : flow->end;
    if (stage->mark > flow->end && kind <= FLOW_FINISH) {
        return; /* the end has passed already */
    }
    if (flow->dropping && kind < flow->end_kind) {
        return;
    }
    uint64_t position = at + (kind != FLOW_GOES_ON ? 1 : 0);
    flow->end = at;
    flow->end_kind = kind;
    flow->end_at_once = at_once;
    flow->dropping = true;
    flow->delivered = false;
    flow->read = position;
    list_for_each(&flow->stages, node) {
        stage_of(node)->mark = position;
        if (stage_of(node) == stage) {
            break;
        }
    }
}

void flow_run(struct flow *flow, uint64_t now_us)
{
    uint64_t limit = flow->read;
    flow->wake_us = FLOW_NEVER;
    list_for_each(&flow->stages, node) {
        struct stage *stage = stage_of(node);
        const struct stage_ops *ops = stage_ops(stage->toxic->type);
        stage->wake_us = FLOW_NEVER;
        stage->mark = stage->active && ops != NULL && ops->advance != NULL
                          ? ops->advance(flow, stage, limit, now_us)
                          : (limit > stage->mark ? limit : stage->mark);
        flow->wake_us = stage->wake_us < flow->wake_us ? stage->wake_us : flow->wake_us;
        limit = stage->mark;
    }
    flow->passed = limit > flow->written ? limit : flow->written;
}

size_t flow_output(struct flow *flow, uint8_t *scratch, const uint8_t **bytes)
{
    uint64_t until = flow->passed < flow->end ? flow->passed : flow->end;
    list_for_each(&flow->stages, node) {
        struct stage *stage = stage_of(node);
        if (stage->active && stage->toxic->type == TOXIC_SLICER && flow->written < until) {
            uint64_t boundary = stage_slicer_boundary(flow, stage, flow->written);
            until = boundary < until ? boundary : until;
        }
    }
    if (until <= flow->written) {
        return 0;
    }
    uint64_t wanted = until - flow->written;
    size_t first = chain_peek(&flow->bytes, bytes);
    if (first >= wanted) {
        return (size_t)wanted;
    }
    size_t most = wanted < FLOW_SCRATCH_BYTES ? (size_t)wanted : FLOW_SCRATCH_BYTES;
    *bytes = scratch;
    return chain_copy(&flow->bytes, 0, scratch, most);
}

void flow_written(struct flow *flow, size_t length)
{
    chain_consume(&flow->bytes, length);
    flow->written += length;
    flow->sent_bytes += length;
    if (flow->dropping && flow->written >= flow->end) {
        chain_clear(&flow->bytes);
    }
}

enum flow_end flow_pending_end(const struct flow *flow)
{
    if (flow->delivered || flow->end_kind == FLOW_GOES_ON || flow->passed <= flow->end) {
        return FLOW_GOES_ON;
    }
    return flow->end_at_once || flow->written >= flow->end ? flow->end_kind : FLOW_GOES_ON;
}

void flow_delivered(struct flow *flow)
{
    flow->delivered = true;
}

bool flow_over(const struct flow *flow)
{
    return flow->delivered || (flow->source_ended && flow->end_kind == FLOW_GOES_ON);
}

void stage_note(struct flow *flow, struct stage *stage, enum decision_action action, uint64_t offset, uint64_t value,
                uint64_t now_us)
{
    stage->toxic->hits++;
    decisions_note(&flow->scope, stage->toxic->name, action, offset, value, now_us);
}
