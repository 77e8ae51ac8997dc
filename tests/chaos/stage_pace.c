/* Stages that change when bytes pass: latency, bandwidth, slicer, pause, slow_close. See stage.h. */
#include "tests/chaos/stage.h"

#include "mux/memory.h"

#define US_PER_MS            1000U
#define LATENCY_RING_FIRST   16U
#define LATENCY_BLOCK_BYTES  256U      /* jitter is drawn for each such block of the stream: about one small message */
#define BANDWIDTH_BURST_NS   20000000U /* what an idle line saves up; also makes up for late wake-ups */
#define BANDWIDTH_QUANTUM_US 10000U    /* of a slow line: it sends so often, not byte by byte */
#define BANDWIDTH_SEGMENT    1460U     /* of a fast one: it sends such pieces */
#define NS_PER_US            1000U
#define NS_PER_KB_BYTE       1000000U /* a byte takes so long at one KB (1,000 bytes) a second */

static enum draw_distribution distribution_of(const struct stage *stage, size_t index)
{
    return (enum draw_distribution)stage->toxic->values[index];
}

/* ---- latency ---- */

static enum error_code latency_start(struct flow *flow, struct stage *stage, uint64_t now_us)
{
    struct stage_latency *latency = &stage->u.latency;
    (void)flow;
    (void)now_us;
    latency->ring = memory_calloc(LATENCY_RING_FIRST, sizeof(*latency->ring));
    latency->room = LATENCY_RING_FIRST;
    latency->seen = stage->mark;
    latency->block = FLOW_NEVER;
    return latency->ring != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
}

static void latency_stop(struct stage *stage)
{
    memory_free(stage->u.latency.ring);
}

static struct latency_mark *latency_at(struct stage_latency *latency, size_t index)
{
    return &latency->ring[(latency->head + index) & (latency->room - 1)];
}

static bool latency_grow(struct stage_latency *latency)
{
    struct latency_mark *ring = memory_calloc(latency->room * 2, sizeof(*ring));
    if (ring == NULL) {
        return false;
    }
    for (size_t i = 0; i < latency->count; i++) {
        ring[i] = *latency_at(latency, i);
    }
    memory_free(latency->ring);
    latency->ring = ring;
    latency->room *= 2;
    latency->head = 0;
    return true;
}

static void latency_push(struct stage_latency *latency, uint64_t offset, uint64_t due_us)
{
    struct latency_mark *last = latency->count > 0 ? latency_at(latency, latency->count - 1) : NULL;
    if (last != NULL && due_us <= last->due_us) {
        last->offset = offset; /* bytes keep their order: it waits for those before it */
        return;
    }
    if (latency->count == latency->room && !latency_grow(latency)) {
        /* Without memory the last two leave together, when the later one is due. */
        last->offset = offset;
        last->due_us = due_us;
        return;
    }
    latency->count++;
    *latency_at(latency, latency->count - 1) = (struct latency_mark){.offset = offset, .due_us = due_us};
}

static uint64_t latency_block_delay(struct flow *flow, struct stage *stage, uint64_t block, uint64_t now_us)
{
    struct stage_latency *latency = &stage->u.latency;
    const uint64_t *values = stage->toxic->values;
    if (block != latency->block) {
        uint64_t offset = block * LATENCY_BLOCK_BYTES;
        uint64_t drawn = draw_around(stage->key, DRAW_DELAY, offset, distribution_of(stage, LATENCY_DISTRIBUTION),
                                     values[LATENCY_LATENCY_MS] * US_PER_MS, values[LATENCY_JITTER_MS] * US_PER_MS);
        latency->block = block;
        latency->block_delay_us = decisions_take(&flow->scope, stage->toxic->name, DECISION_DELAY, offset, drawn);
        stage_note(flow, stage, DECISION_DELAY, offset, latency->block_delay_us, now_us);
    }
    return latency->block_delay_us;
}

static void latency_enter(struct flow *flow, struct stage *stage, uint64_t limit, uint64_t now_us)
{
    struct stage_latency *latency = &stage->u.latency;
    const uint64_t *values = stage->toxic->values;
    if (values[LATENCY_JITTER_MS] == 0) {
        stage->toxic->hits++;
        latency_push(latency, limit, now_us + values[LATENCY_LATENCY_MS] * US_PER_MS);
        latency->seen = limit;
        return;
    }
    while (latency->seen < limit) {
        uint64_t block = latency->seen / LATENCY_BLOCK_BYTES;
        uint64_t until = (block + 1) * LATENCY_BLOCK_BYTES;
        until = until < limit ? until : limit;
        latency_push(latency, until, now_us + latency_block_delay(flow, stage, block, now_us));
        latency->seen = until;
    }
}

static uint64_t latency_advance(struct flow *flow, struct stage *stage, uint64_t limit, uint64_t now_us)
{
    struct stage_latency *latency = &stage->u.latency;
    if (stage->mark >= limit) {
        latency->count = 0; /* all has passed, or a later stage has ended the stream */
        latency->seen = stage->mark;
        return stage->mark;
    }
    if (limit > latency->seen) {
        latency_enter(flow, stage, limit, now_us);
    }
    uint64_t mark = stage->mark;
    while (latency->count > 0 && latency_at(latency, 0)->due_us <= now_us) {
        mark = latency_at(latency, 0)->offset;
        latency->head = (latency->head + 1) & (latency->room - 1);
        latency->count--;
    }
    if (latency->count > 0) {
        stage->wake_us = latency_at(latency, 0)->due_us;
    }
    return mark < limit ? mark : limit;
}

const struct stage_ops stage_latency_ops = {.start = latency_start, .stop = latency_stop, .advance = latency_advance};

/* ---- bandwidth ---- */

static uint64_t bandwidth_advance(struct flow *flow, struct stage *stage, uint64_t limit, uint64_t now_us)
{
    struct stage_bandwidth *bandwidth = &stage->u.bandwidth;
    uint64_t rate = stage->toxic->values[BANDWIDTH_RATE];
    uint64_t now_ns = now_us * NS_PER_US;
    (void)flow;
    if (rate == 0 || stage->mark >= limit) {
        return rate == 0 && limit > stage->mark ? limit : stage->mark;
    }
    if (bandwidth->free_ns + BANDWIDTH_BURST_NS < now_ns) {
        bandwidth->free_ns = now_ns - BANDWIDTH_BURST_NS;
    }
    uint64_t waiting = limit - stage->mark;
    uint64_t credit = now_ns > bandwidth->free_ns ? (now_ns - bandwidth->free_ns) * rate / NS_PER_KB_BYTE : 0;
    uint64_t sent = waiting < credit ? waiting : credit;
    bandwidth->free_ns += sent * NS_PER_KB_BYTE / rate;
    waiting -= sent;
    if (waiting == 0) {
        bandwidth->waiting = false;
        return limit;
    }
    if (!bandwidth->waiting) {
        bandwidth->waiting = true;
        stage->toxic->hits++;
    }
    uint64_t quantum = rate * BANDWIDTH_QUANTUM_US / US_PER_MS;
    quantum = quantum < BANDWIDTH_SEGMENT ? quantum : BANDWIDTH_SEGMENT;
    uint64_t next = waiting < quantum ? waiting : quantum;
    stage->wake_us = (bandwidth->free_ns + next * NS_PER_KB_BYTE / rate) / NS_PER_US + 1;
    return stage->mark + sent;
}

const struct stage_ops stage_bandwidth_ops = {.advance = bandwidth_advance};

/* ---- slicer ---- */

static enum error_code slicer_start(struct flow *flow, struct stage *stage, uint64_t now_us)
{
    (void)flow;
    (void)now_us;
    stage->u.slicer = (struct stage_slicer){.boundary = stage->mark, .write_boundary = stage->mark};
    return ERROR_NONE;
}

static uint64_t slicer_drawn_size(const struct stage *stage, uint64_t offset)
{
    const uint64_t *values = stage->toxic->values;
    uint64_t size = draw_around(stage->key, DRAW_SIZE, offset, distribution_of(stage, SLICER_DISTRIBUTION),
                                values[SLICER_AVERAGE_SIZE], values[SLICER_SIZE_VARIATION]);
    return size > 0 ? size : 1;
}

/* Zero only in a log that somebody has written by hand. */
static uint64_t at_least_one(uint64_t size)
{
    return size > 0 ? size : 1;
}

static void slicer_plan(struct flow *flow, struct stage *stage, uint64_t now_us)
{
    struct stage_slicer *slicer = &stage->u.slicer;
    const uint64_t *values = stage->toxic->values;
    uint64_t offset = slicer->boundary;
    uint64_t size = at_least_one(
        decisions_take(&flow->scope, stage->toxic->name, DECISION_SLICE, offset, slicer_drawn_size(stage, offset)));
    stage_note(flow, stage, DECISION_SLICE, offset, size, now_us);
    slicer->boundary = offset + size;
    slicer->gap_us = values[SLICER_DELAY_US];
    if (values[SLICER_DELAY_VARIATION] > 0) {
        uint64_t drawn = draw_around(stage->key, DRAW_DELAY, offset, distribution_of(stage, SLICER_DISTRIBUTION),
                                     values[SLICER_DELAY_US], values[SLICER_DELAY_VARIATION]);
        slicer->gap_us = decisions_take(&flow->scope, stage->toxic->name, DECISION_GAP, offset, drawn);
        decisions_note(&flow->scope, stage->toxic->name, DECISION_GAP, offset, slicer->gap_us, now_us);
    }
}

static uint64_t slicer_advance(struct flow *flow, struct stage *stage, uint64_t limit, uint64_t now_us)
{
    struct stage_slicer *slicer = &stage->u.slicer;
    uint64_t mark = stage->mark;
    while (mark < limit) {
        if (mark == slicer->boundary && now_us < slicer->ready_us) {
            stage->wake_us = slicer->ready_us;
            return mark;
        }
        if (mark >= flow->end) {
            return limit; /* a FIN is no slice */
        }
        if (mark == slicer->boundary) {
            slicer_plan(flow, stage, now_us);
        }
        uint64_t last = limit < flow->end ? limit : flow->end;
        mark = last < slicer->boundary ? last : slicer->boundary;
        if (mark == slicer->boundary) {
            slicer->ready_us = now_us + slicer->gap_us;
        }
    }
    return mark;
}

uint64_t stage_slicer_boundary(struct flow *flow, struct stage *stage, uint64_t offset)
{
    struct stage_slicer *slicer = &stage->u.slicer;
    if (offset < stage->base) {
        return stage->base;
    }
    while (slicer->write_boundary <= offset && slicer->write_boundary < slicer->boundary) {
        uint64_t start = slicer->write_boundary;
        slicer->write_boundary += at_least_one(
            decisions_peek(&flow->scope, stage->toxic->name, DECISION_SLICE, start, slicer_drawn_size(stage, start)));
    }
    return slicer->write_boundary > offset ? slicer->write_boundary : FLOW_NEVER;
}

const struct stage_ops stage_slicer_ops = {.start = slicer_start, .advance = slicer_advance};

/* ---- pause ---- */

/* When and where the next pause begins, and how long it lasts. */
static void pause_plan(struct flow *flow, struct stage *stage, uint64_t after_us)
{
    struct stage_pause *pause = &stage->u.pause;
    const uint64_t *values = stage->toxic->values;
    struct decision_event event;
    pause->paused = false;
    pause->offset = FLOW_NEVER;
    if (decisions_event(&flow->scope, stage->toxic->name, DECISION_PAUSE, (size_t)pause->number, &event)) {
        pause->offset = event.offset;
        pause->due_us = event.due_us;
        pause->duration_us = event.value;
        return;
    }
    pause->due_us = after_us;
    pause->duration_us =
        draw_around(stage->key, DRAW_DURATION, pause->number, distribution_of(stage, PAUSE_DISTRIBUTION),
                    values[PAUSE_DURATION_MS] * US_PER_MS, values[PAUSE_DURATION_VARIATION] * US_PER_MS);
}

static enum error_code pause_start(struct flow *flow, struct stage *stage, uint64_t now_us)
{
    stage->u.pause.number = 0;
    pause_plan(flow, stage, now_us + stage->toxic->values[PAUSE_AFTER_MS] * US_PER_MS);
    return ERROR_NONE;
}

static uint64_t pause_advance(struct flow *flow, struct stage *stage, uint64_t limit, uint64_t now_us)
{
    struct stage_pause *pause = &stage->u.pause;
    if (pause->paused && now_us < pause->until_us) {
        stage->wake_us = pause->until_us;
        return stage->mark;
    }
    if (pause->paused) {
        uint64_t interval_us = stage->toxic->values[PAUSE_INTERVAL_MS] * US_PER_MS;
        pause->number++;
        pause_plan(flow, stage, interval_us > 0 ? pause->until_us + interval_us : FLOW_NEVER);
    }
    uint64_t mark = limit > stage->mark ? limit : stage->mark;
    if (pause->offset != FLOW_NEVER && mark > pause->offset) {
        mark = pause->offset > stage->mark ? pause->offset : stage->mark; /* the rest waits for the pause */
    }
    if (now_us < pause->due_us) {
        stage->wake_us = pause->due_us;
        return mark;
    }
    if (pause->offset != FLOW_NEVER && mark < pause->offset) {
        return mark;
    }
    if (pause->offset == FLOW_NEVER) {
        mark = stage->mark;
    }
    pause->paused = true;
    pause->until_us = now_us + pause->duration_us;
    stage->wake_us = pause->until_us;
    stage_note(flow, stage, DECISION_PAUSE, mark, pause->duration_us, now_us);
    return mark;
}

const struct stage_ops stage_pause_ops = {.start = pause_start, .advance = pause_advance};

/* ---- slow_close ---- */

static enum error_code slow_close_start(struct flow *flow, struct stage *stage, uint64_t now_us)
{
    (void)flow;
    (void)now_us;
    stage->u.slow_close.due_us = FLOW_NEVER;
    return ERROR_NONE;
}

static uint64_t slow_close_advance(struct flow *flow, struct stage *stage, uint64_t limit, uint64_t now_us)
{
    struct stage_slow_close *slow = &stage->u.slow_close;
    if (limit <= flow->end || stage->mark > flow->end) {
        return limit > stage->mark ? limit : stage->mark;
    }
    if (slow->due_us == FLOW_NEVER) {
        uint64_t delay_us = stage->toxic->values[SLOW_CLOSE_DELAY_MS] * US_PER_MS;
        slow->due_us = now_us + delay_us;
        stage_note(flow, stage, DECISION_SLOW_CLOSE, flow->end, delay_us, now_us);
    }
    if (now_us >= slow->due_us) {
        return limit;
    }
    stage->wake_us = slow->due_us;
    return flow->end;
}

const struct stage_ops stage_slow_close_ops = {.start = slow_close_start, .advance = slow_close_advance};
