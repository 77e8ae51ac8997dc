/* The simulated network: see sim_net.h. It allocates from the C library, as the engines' allocator is under test. */
#include "tests/sim/sim_net.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/memory.h"

#define FAILURES_SHOWN      8U
#define NOTICE_DELAY_MAX_US 150U /* from an arrival until the engine hears of it */

enum segment_kind { SEGMENT_DATA, SEGMENT_FINISH, SEGMENT_RESET };

struct segment {
    struct list_node node;
    uint64_t arrives_us;
    enum segment_kind kind;
    size_t length;
    size_t read;
    uint8_t bytes[];
};

/* In the slot of an engine. */
struct sim_transport {
    struct transport transport;
    struct sim_link *link;
};

_Static_assert(sizeof(struct sim_transport) <= TRANSPORT_SLOT_BYTES, "a simulated transport must fit its slot");

static enum sim_side side_of(const struct sim_transport *sim)
{
    return sim->link->ends[SIM_OPENER].transport == &sim->transport ? SIM_OPENER : SIM_ACCEPTOR;
}

static void *must_have(void *memory)
{
    if (memory == NULL) {
        perror("simulation");
        abort();
    }
    return memory;
}

void sim_fail(struct sim_net *net, const char *format, ...)
{
    va_list arguments;

    if (net->failures++ >= FAILURES_SHOWN) {
        return;
    }
    fprintf(stderr, "seed %llu, %llu.%06llu s: ", (unsigned long long)net->seed,
            (unsigned long long)(net->now_us / 1000000U), (unsigned long long)(net->now_us % 1000000U));
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

uint64_t sim_between(struct random_state *random, uint64_t low, uint64_t high)
{
    return low + random_below(random, high - low + 1);
}

bool sim_chance(struct random_state *random, uint64_t count)
{
    return random_below(random, count) == 0;
}

/* ------------------------------------------------------------------------------------------------ events */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void queue_put(struct sim_net *net, size_t place, struct sim_event *event)
{
    net->queue[place - 1] = event;
    event->place = place;
}

static void queue_settle(struct sim_net *net, size_t place)
{
    struct sim_event *event = net->queue[place - 1];

    while (place > 1 && event_before(event, net->queue[place / 2 - 1])) {
        queue_put(net, place, net->queue[place / 2 - 1]);
        place /= 2;
    }
    while (2 * place <= net->queued) {
        size_t child = 2 * place;
        if (child < net->queued && event_before(net->queue[child], net->queue[child - 1])) {
            child++;
        }
        if (!event_before(net->queue[child - 1], event)) {
            break;
        }
        queue_put(net, place, net->queue[child - 1]);
        place = child;
    }
    queue_put(net, place, event);
}

void sim_event_init(struct sim_event *event, void (*run)(struct sim_event *event))
{
    *event = (struct sim_event){.run = run};
}

void sim_event_cancel(struct sim_net *net, struct sim_event *event)
{
    size_t place = event->place;

    if (place == 0) {
        return;
    }
    struct sim_event *last = net->queue[net->queued - 1];
    net->queued--;
    event->place = 0;
    if (last != event) {
        queue_put(net, place, last);
        queue_settle(net, place);
    }
}

void sim_event_plan(struct sim_net *net, struct sim_event *event, uint64_t delay_us)
{
    sim_event_cancel(net, event);
    if (net->queued == net->queue_capacity) {
        net->queue_capacity = net->queue_capacity * 2 + 64;
        net->queue = must_have(realloc(net->queue, net->queue_capacity * sizeof(struct sim_event *)));
    }
    event->at_us = net->now_us + delay_us;
    event->order = net->planned++;
    net->queued++;
    queue_put(net, net->queued, event);
    queue_settle(net, net->queued);
}

uint64_t sim_net_next_us(const struct sim_net *net)
{
    return net->queued > 0 ? net->queue[0]->at_us : SIM_NEVER;
}

void sim_net_advance(struct sim_net *net, uint64_t now_us)
{
    uint64_t planned = net->planned;

    net->now_us = now_us;
    while (net->queued > 0 && net->queue[0]->at_us <= now_us && net->queue[0]->order < planned) {
        struct sim_event *event = net->queue[0];
        sim_event_cancel(net, event);
        event->run(event);
    }
}

/* ------------------------------------------------------------------------------------------------ notices */

static void end_notify(struct sim_link *link, enum sim_side side, unsigned events)
{
    struct sim_end *end = &link->ends[side];

    if (end->transport == NULL) {
        return;
    }
    end->pending |= (uint8_t)events;
    if (end->notice.place == 0) {
        sim_event_plan(link->net, &end->notice, random_below(&link->net->random, NOTICE_DELAY_MAX_US));
    }
}

static void end_run_notice(struct sim_end *end)
{
    unsigned events = end->pending;

    end->pending = 0;
    if (events & TRANSPORT_READABLE) {
        end->wants_read = false;
    }
    if (events & TRANSPORT_WRITABLE) {
        end->wants_write = false;
    }
    if (end->transport != NULL && events != 0) {
        transport_tell(end->transport, events);
    }
}

static void end_on_notice(struct sim_event *event)
{
    end_run_notice(container_of(event, struct sim_end, notice));
}

/* Something came to be read. An engine that has not found the end of the input yet is owed no word of it, but as a
 * real socket may say it all the same, it must take no harm from that. */
static void end_became_readable(struct sim_link *link, enum sim_side side, enum segment_kind kind)
{
    if (link->ends[side].wants_read || sim_chance(&link->net->random, 3)) {
        end_notify(link, side, kind == SEGMENT_FINISH ? TRANSPORT_READABLE | TRANSPORT_HANGUP : TRANSPORT_READABLE);
    }
}

/* ------------------------------------------------------------------------------------------------ segments */

static void segments_drop(struct sim_pipe *pipe, struct list *list)
{
    list_for_each(list, node) {
        struct segment *segment = container_of(node, struct segment, node);
        pipe->held_bytes -= segment->length - segment->read;
        list_remove(node);
        free(segment);
    }
}

static void pipe_plan_arrival(struct sim_link *link, struct sim_pipe *pipe)
{
    struct list_node *first = list_first(&pipe->flying);

    if (first == NULL) {
        sim_event_cancel(link->net, &pipe->arrival);
    } else if (pipe->arrival.place == 0) {
        uint64_t at = container_of(first, struct segment, node)->arrives_us;
        sim_event_plan(link->net, &pipe->arrival, at > link->net->now_us ? at - link->net->now_us : 0);
    }
}

static void pipe_send(struct sim_link *link, enum sim_side from, enum segment_kind kind, const uint8_t *bytes,
                      size_t length)
{
    struct sim_pipe *pipe = &link->pipes[from];
    const struct sim_link_settings *settings = &link->settings;
    struct segment *segment = must_have(malloc(sizeof(*segment) + length));
    uint64_t leaves = pipe->busy_until_us > link->net->now_us ? pipe->busy_until_us : link->net->now_us;

    if (settings->bytes_per_ms > 0) {
        leaves += (uint64_t)length * 1000U / settings->bytes_per_ms;
    }
    pipe->busy_until_us = leaves;
    *segment = (struct segment){.kind = kind, .length = length};
    if (length > 0) {
        memcpy(segment->bytes, bytes, length);
    }
    segment->arrives_us = leaves + sim_between(&link->net->random, settings->delay_min_us, settings->delay_max_us);
    if (segment->arrives_us < pipe->last_arrival_us) {
        segment->arrives_us = pipe->last_arrival_us;
    }
    pipe->last_arrival_us = segment->arrives_us;
    pipe->held_bytes += length;
    list_append(&pipe->flying, &segment->node);
    pipe_plan_arrival(link, pipe);
}

/* A reset on its way from one side to the other: what is under way may get lost. */
static void pipe_send_reset(struct sim_link *link, enum sim_side from)
{
    struct sim_pipe *pipe = &link->pipes[from];

    if (pipe->black || pipe->discards) {
        return;
    }
    if (sim_chance(&link->net->random, 2)) {
        segments_drop(pipe, &pipe->flying);
        sim_event_cancel(link->net, &pipe->arrival);
    }
    pipe_send(link, from, SEGMENT_RESET, NULL, 0);
    pipe->discards = true;
}

static void end_break(struct sim_link *link, enum sim_side side, enum error_code error)
{
    struct sim_end *end = &link->ends[side];

    if (end->closed || end->broken) {
        return;
    }
    end->broken = true;
    end->error = error;
    end_notify(link, side, TRANSPORT_READABLE | TRANSPORT_WRITABLE | TRANSPORT_BROKEN);
}

static void net_hash(struct sim_net *net, const struct sim_link *link, enum sim_side from,
                     const struct segment *segment)
{
    uint64_t hash = net->traffic_hash ^ (link->number << 8 | (uint64_t)from << 4 | (uint64_t)segment->kind);

    hash = (hash ^ net->now_us) * UINT64_C(0x100000001b3);
    for (size_t i = 0; i < segment->length; i++) {
        hash = (hash ^ segment->bytes[i]) * UINT64_C(0x100000001b3);
    }
    net->traffic_hash = hash ^ hash >> 29;
    net->traffic_bytes += segment->length;
}

static void segment_arrive(struct sim_link *link, enum sim_side from, struct segment *segment)
{
    struct sim_pipe *pipe = &link->pipes[from];
    enum sim_side to = from == SIM_OPENER ? SIM_ACCEPTOR : SIM_OPENER;

    net_hash(link->net, link, from, segment);
    list_remove(&segment->node);
    if (segment->kind == SEGMENT_RESET) {
        free(segment);
        if (sim_chance(&link->net->random, 2)) {
            segments_drop(pipe, &pipe->arrived);
        }
        end_break(link, to, ERROR_PEER_RESET);
        return;
    }
    if (link->ends[to].closed) {
        /* Nobody is there to read it. */
        bool data = segment->kind == SEGMENT_DATA;
        pipe->held_bytes -= segment->length;
        free(segment);
        if (data) {
            pipe_send_reset(link, to);
        }
        return;
    }
    list_append(&pipe->arrived, &segment->node);
    end_became_readable(link, to, segment->kind);
}

static void pipe_deliver(struct sim_link *link, enum sim_side from)
{
    struct sim_pipe *pipe = &link->pipes[from];
    struct list_node *node;

    while ((node = list_first(&pipe->flying)) != NULL &&
           container_of(node, struct segment, node)->arrives_us <= link->net->now_us) {
        segment_arrive(link, from, container_of(node, struct segment, node));
    }
    pipe_plan_arrival(link, pipe);
}

static void on_arrival_from_opener(struct sim_event *event)
{
    pipe_deliver(container_of(event, struct sim_link, pipes[SIM_OPENER].arrival), SIM_OPENER);
}

static void on_arrival_from_acceptor(struct sim_event *event)
{
    pipe_deliver(container_of(event, struct sim_link, pipes[SIM_ACCEPTOR].arrival), SIM_ACCEPTOR);
}

/* ------------------------------------------------------------------------------------------------ transport */

static struct sim_transport *sim_transport_of(struct transport *transport)
{
    return container_of(transport, struct sim_transport, transport);
}

static enum error_code end_take_error(struct sim_end *end)
{
    enum error_code error = end->error;

    end->error = ERROR_NONE;
    return error;
}

static size_t pipe_read_segment(struct sim_link *link, struct sim_pipe *pipe, struct segment *segment, uint8_t *into,
                                size_t capacity)
{
    size_t part = segment->length - segment->read;

    part = part < capacity ? part : capacity;
    if (link->settings.splits_reads && sim_chance(&link->net->random, 4)) {
        part = sim_between(&link->net->random, 1, part);
    }
    memcpy(into, segment->bytes + segment->read, part);
    segment->read += part;
    pipe->held_bytes -= part;
    if (segment->read == segment->length) {
        list_remove(&segment->node);
        free(segment);
    }
    return part;
}

/* There is room again for a writer who was told that there was none. */
static void pipe_read_done(struct sim_link *link, enum sim_side writer)
{
    struct sim_pipe *pipe = &link->pipes[writer];

    if (link->ends[writer].wants_write && pipe->held_bytes <= link->settings.buffer_bytes / 2) {
        end_notify(link, writer, TRANSPORT_WRITABLE);
    }
}

static enum error_code sim_read(struct transport *transport, void *into, size_t capacity, size_t *length)
{
    struct sim_transport *sim = sim_transport_of(transport);
    struct sim_link *link = sim->link;
    struct sim_end *end = &link->ends[side_of(sim)];
    enum sim_side writer = side_of(sim) == SIM_OPENER ? SIM_ACCEPTOR : SIM_OPENER;
    struct sim_pipe *pipe = &link->pipes[writer];
    struct list_node *node;

    *length = 0;
    while ((node = list_first(&pipe->arrived)) != NULL && *length < capacity) {
        struct segment *segment = container_of(node, struct segment, node);
        if (segment->kind == SEGMENT_FINISH) {
            return ERROR_NONE; /* with length 0 it is the end; otherwise the next read finds it */
        }
        size_t wanted = capacity - *length;
        bool whole = segment->length - segment->read <= wanted;
        size_t part = pipe_read_segment(link, pipe, segment, (uint8_t *)into + *length, wanted);
        *length += part;
        if (link->settings.splits_reads && (!whole || sim_chance(&link->net->random, 3))) {
            break;
        }
    }
    if (*length > 0) {
        pipe_read_done(link, writer);
        return ERROR_NONE;
    }
    if (end->broken) {
        return end_take_error(end); /* told once; then a read finds the end, as with a socket */
    }
    end->wants_read = true;
    return ERROR_WOULD_BLOCK;
}

/* The fault that was planned for this direction happens now. */
static void pipe_fault(struct sim_link *link, enum sim_side from)
{
    struct sim_pipe *pipe = &link->pipes[from];
    enum sim_fault fault = pipe->fault;

    pipe->fault = SIM_FAULT_NONE;
    pipe->fault_at_bytes = SIM_NEVER;
    switch (fault) {
    case SIM_FAULT_FINISH:
        pipe_send(link, from, SEGMENT_FINISH, NULL, 0);
        pipe->discards = true;
        break;
    case SIM_FAULT_RESET: {
        enum sim_side to = from == SIM_OPENER ? SIM_ACCEPTOR : SIM_OPENER;
        pipe_send(link, from, SEGMENT_RESET, NULL, 0);
        pipe->discards = true;
        pipe_send_reset(link, to);
        break;
    }
    case SIM_FAULT_BLACK_HOLE:
        pipe->black = true;
        break;
    case SIM_FAULT_NONE:
        break;
    }
}

static void pipe_write(struct sim_link *link, enum sim_side from, const uint8_t *bytes, size_t length)
{
    struct sim_pipe *pipe = &link->pipes[from];

    while (length > 0 && !pipe->black && !pipe->discards) {
        size_t part = sim_between(&link->net->random, 1, link->settings.segment_max_bytes);
        part = part < length ? part : length;
        if (part > pipe->fault_at_bytes - pipe->written_bytes) {
            part = (size_t)(pipe->fault_at_bytes - pipe->written_bytes);
        }
        if (part > 0) {
            pipe_send(link, from, SEGMENT_DATA, bytes, part);
        }
        pipe->written_bytes += part;
        bytes += part;
        length -= part;
        if (pipe->written_bytes == pipe->fault_at_bytes) {
            pipe_fault(link, from);
        }
    }
    pipe->written_bytes += length;
    if (pipe->black) {
        pipe->held_bytes += length;
    }
}

static enum error_code sim_write(struct transport *transport, const void *bytes, size_t count, size_t *length)
{
    struct sim_transport *sim = sim_transport_of(transport);
    struct sim_link *link = sim->link;
    struct sim_end *end = &link->ends[side_of(sim)];
    struct sim_pipe *pipe = &link->pipes[side_of(sim)];

    *length = 0;
    if (end->broken) {
        enum error_code error = end_take_error(end);
        return error != ERROR_NONE ? error : ERROR_PEER_RESET;
    }
    if (pipe->finished) {
        sim_fail(link->net, "link %llu: a write after FIN", (unsigned long long)link->number);
        return ERROR_PEER_RESET;
    }
    size_t space = pipe->held_bytes < link->settings.buffer_bytes ? link->settings.buffer_bytes - pipe->held_bytes : 0;
    if (!end->connected) {
        space = 0;
    }
    size_t part = count < space ? count : space;
    if (part < count) {
        end->wants_write = true;
    }
    if (part == 0 && count > 0) {
        return ERROR_WOULD_BLOCK;
    }
    pipe_write(link, side_of(sim), bytes, part);
    *length = part;
    return ERROR_NONE;
}

static void sim_finish(struct transport *transport)
{
    struct sim_transport *sim = sim_transport_of(transport);
    struct sim_link *link = sim->link;
    struct sim_pipe *pipe = &link->pipes[side_of(sim)];

    if (!pipe->finished && !link->ends[side_of(sim)].broken) {
        pipe->finished = true;
        if (!pipe->black && !pipe->discards) {
            pipe_send(link, side_of(sim), SEGMENT_FINISH, NULL, 0);
        }
    }
}

static bool pipe_has_unread(const struct sim_pipe *pipe)
{
    list_for_each(&pipe->arrived, node) {
        if (container_of(node, struct segment, node)->kind == SEGMENT_DATA) {
            return true;
        }
    }
    return false;
}

/* Frees what an end that is closed will never read. */
static void end_drop_input(struct sim_link *link, enum sim_side writer)
{
    segments_drop(&link->pipes[writer], &link->pipes[writer].arrived);
    if (link->ends[SIM_OPENER].closed && link->ends[SIM_ACCEPTOR].closed) {
        for (int side = SIM_OPENER; side <= SIM_ACCEPTOR; side++) {
            segments_drop(&link->pipes[side], &link->pipes[side].flying);
            sim_event_cancel(link->net, &link->pipes[side].arrival);
        }
        sim_event_cancel(link->net, &link->connect);
        sim_event_cancel(link->net, &link->answer);
    }
}

static void sim_close(struct transport *transport, enum transport_close how)
{
    struct sim_transport *sim = sim_transport_of(transport);
    struct sim_link *link = sim->link;
    enum sim_side side = side_of(sim);
    enum sim_side peer = side == SIM_OPENER ? SIM_ACCEPTOR : SIM_OPENER;
    struct sim_end *end = &link->ends[side];
    bool unread = pipe_has_unread(&link->pipes[peer]);

    if (!end->broken && (end->connected || link->ends[peer].opened)) {
        if (how == TRANSPORT_CLOSE_CLEAN && !unread) {
            sim_finish(transport);
        } else {
            pipe_send_reset(link, side);
        }
    }
    end->transport = NULL;
    end->closed = true;
    end->pending = 0;
    sim_event_cancel(link->net, &end->notice);
    transport->binding = NULL;
    link->net->open_ends--;
    if (!link->ends[peer].opened) {
        link->ends[peer].closed = true; /* the attempt was given up */
    }
    end_drop_input(link, peer);
}

const struct transport_ops sim_transport_ops = {
    .read = sim_read,
    .write = sim_write,
    .finish = sim_finish,
    .close = sim_close,
};

/* ------------------------------------------------------------------------------------------------ links */

static void end_open(struct sim_link *link, enum sim_side side, union transport_slot *slot,
                     const struct transport_binding *binding)
{
    struct sim_end *end = &link->ends[side];
    struct sim_transport *sim = (struct sim_transport *)(void *)slot;

    assert(binding->ops == &sim_transport_ops);
    memset(slot, 0, sizeof(*slot));
    sim->transport.binding = binding;
    sim->link = link;
    end->transport = &sim->transport;
    end->opened = true;
    end->wants_read = true;
    end->wants_write = true;
    link->net->open_ends++;
}

/* The attempt reaches its target. */
static void link_on_connect(struct sim_event *event)
{
    struct sim_link *link = container_of(event, struct sim_link, connect);
    uint64_t back = sim_between(&link->net->random, link->settings.delay_min_us, link->settings.delay_max_us);

    if (link->reachable && !link->ends[SIM_OPENER].closed) {
        link->accept(link, link->owner);
    }
    if (link->reachable && !link->ends[SIM_ACCEPTOR].opened) {
        link->ends[SIM_ACCEPTOR].closed = true;
    }
    /* Behind what the acceptor may have sent already, nothing can arrive before the attempt is answered. */
    if (link->pipes[SIM_ACCEPTOR].last_arrival_us < link->net->now_us + back) {
        link->pipes[SIM_ACCEPTOR].last_arrival_us = link->net->now_us + back;
    }
    sim_event_plan(link->net, &link->answer, back);
}

static void link_on_answer(struct sim_event *event)
{
    struct sim_link *link = container_of(event, struct sim_link, answer);
    struct sim_end *opener = &link->ends[SIM_OPENER];

    if (!link->reachable) {
        link->ends[SIM_ACCEPTOR].closed = true;
        end_break(link, SIM_OPENER, ERROR_UNREACHABLE);
        return;
    }
    opener->connected = true;
    end_notify(link, SIM_OPENER, TRANSPORT_WRITABLE);
    if (!link->ends[SIM_ACCEPTOR].opened) {
        end_break(link, SIM_OPENER, ERROR_PEER_RESET);
    }
}

struct sim_link *sim_net_connect(struct sim_net *net, const struct sim_link_settings *settings,
                                 union transport_slot *slot, const struct transport_binding *binding, bool reachable,
                                 sim_accept_fn *accept, void *owner)
{
    struct sim_link *link = must_have(calloc(1, sizeof(*link)));

    link->net = net;
    link->number = ++net->links_made;
    link->settings = *settings;
    link->reachable = reachable;
    link->accept = accept;
    link->owner = owner;
    for (int side = SIM_OPENER; side <= SIM_ACCEPTOR; side++) {
        list_init(&link->pipes[side].flying);
        list_init(&link->pipes[side].arrived);
        link->pipes[side].fault_at_bytes = SIM_NEVER;
        sim_event_init(&link->ends[side].notice, end_on_notice);
    }
    sim_event_init(&link->pipes[SIM_OPENER].arrival, on_arrival_from_opener);
    sim_event_init(&link->pipes[SIM_ACCEPTOR].arrival, on_arrival_from_acceptor);
    sim_event_init(&link->connect, link_on_connect);
    sim_event_init(&link->answer, link_on_answer);
    list_append(&net->links, &link->node);
    end_open(link, SIM_OPENER, slot, binding);
    sim_event_plan(net, &link->connect, sim_between(&net->random, settings->delay_min_us, settings->delay_max_us));
    return link;
}

void sim_link_accept(struct sim_link *link, union transport_slot *slot, const struct transport_binding *binding)
{
    end_open(link, SIM_ACCEPTOR, slot, binding);
    link->ends[SIM_ACCEPTOR].connected = true;
    end_notify(link, SIM_ACCEPTOR, TRANSPORT_WRITABLE);
}

void sim_transport_move(union transport_slot *from, union transport_slot *to, const struct transport_binding *binding)
{
    struct sim_transport *old = (struct sim_transport *)(void *)from;
    struct sim_transport *new = (struct sim_transport *)(void *)to;
    enum sim_side side = side_of(old);

    new->link = old->link;
    new->transport.binding = binding;
    new->link->ends[side].transport = &new->transport;
    old->transport.binding = NULL;
    end_notify(new->link, side, TRANSPORT_READABLE | TRANSPORT_WRITABLE);
}

void sim_link_plan_fault(struct sim_link *link, enum sim_side from, enum sim_fault fault, uint64_t at_bytes)
{
    assert(link->pipes[from].written_bytes == 0 && "the fault could lie behind us");
    link->pipes[from].fault = (uint8_t)fault;
    link->pipes[from].fault_at_bytes = fault == SIM_FAULT_NONE ? SIM_NEVER : at_bytes;
}

void sim_link_break(struct sim_link *link, enum sim_fault fault)
{
    if (!sim_link_open(link)) {
        return;
    }
    for (int i = SIM_OPENER; i <= SIM_ACCEPTOR; i++) {
        enum sim_side side = (enum sim_side)i;
        struct sim_pipe *pipe = &link->pipes[side];
        if (pipe->black || pipe->discards) {
            continue;
        }
        if (fault == SIM_FAULT_BLACK_HOLE) {
            size_t held = pipe->held_bytes;
            segments_drop(pipe, &pipe->flying);
            sim_event_cancel(link->net, &pipe->arrival);
            pipe->held_bytes = held; /* for ever unacknowledged */
            pipe->black = true;
        } else if (fault == SIM_FAULT_FINISH) {
            pipe_send(link, side, SEGMENT_FINISH, NULL, 0);
            pipe->discards = true;
        } else if (fault == SIM_FAULT_RESET) {
            pipe_send_reset(link, side);
        }
    }
}

void sim_link_kill(struct sim_link *link, enum sim_side side)
{
    struct sim_pipe *pipe = &link->pipes[side];

    if (link->ends[side].transport == NULL) {
        return;
    }
    if (sim_chance(&link->net->random, 2)) {
        pipe_send_reset(link, side);
    } else if (!pipe->black && !pipe->discards && !pipe->finished) {
        pipe_send(link, side, SEGMENT_FINISH, NULL, 0);
        pipe->discards = true;
    }
    end_break(link, side, ERROR_PEER_RESET);
}

bool sim_link_open(const struct sim_link *link)
{
    return link->ends[SIM_OPENER].transport != NULL || link->ends[SIM_ACCEPTOR].transport != NULL;
}

/* ------------------------------------------------------------------------------------------------ life */

void sim_net_init(struct sim_net *net, uint64_t seed)
{
    *net = (struct sim_net){.seed = seed, .traffic_hash = UINT64_C(0xcbf29ce484222325)};
    random_seed(&net->random, seed);
    list_init(&net->links);
}

static void link_free(struct sim_link *link)
{
    for (int side = SIM_OPENER; side <= SIM_ACCEPTOR; side++) {
        segments_drop(&link->pipes[side], &link->pipes[side].flying);
        segments_drop(&link->pipes[side], &link->pipes[side].arrived);
        sim_event_cancel(link->net, &link->pipes[side].arrival);
        sim_event_cancel(link->net, &link->ends[side].notice);
    }
    sim_event_cancel(link->net, &link->connect);
    sim_event_cancel(link->net, &link->answer);
    list_remove(&link->node);
    free(link);
}

void sim_net_dispose(struct sim_net *net)
{
    struct list_node *node;

    while ((node = list_first(&net->links)) != NULL) {
        link_free(container_of(node, struct sim_link, node));
    }
    free(net->queue);
    net->queue = NULL;
}
