/* What engines may hold at any time: see sim_bounds.h. No state; one thread. */
#include "tests/sim/sim_bounds.h"

#include "core/session.h"
#include "edge/client.h"
#include "mux/limits.h"

#define RECORD_OVERHEAD 64U /* of a TLS record, at most, as the peer's window does not count it */

static void peak(uint64_t *peak_bytes, uint64_t bytes)
{
    if (bytes > *peak_bytes) {
        *peak_bytes = bytes;
    }
}

static void check_held(struct sim_world *world, const char *what, uint64_t held, uint64_t bound)
{
    if (held > bound) {
        sim_fail(&world->net, "%s: %llu bytes held, over the bound of %llu", what, (unsigned long long)held,
                 (unsigned long long)bound);
    }
}

/* What a stream's window lets wait; of one that is detached, or has been on another trunk, it is not known any more. */
static uint64_t window_of(const struct sim_world *world, const struct trunk_stream *stream)
{
    bool known = stream->trunk != NULL && !world->settings.resume;
    return known ? trunk_stream_receive_window(stream) : world->settings.stream_window_max_bytes;
}

static void check_stream(struct sim_world *world, const struct trunk_stream *stream, const char *unconsumed,
                         const char *queued)
{
    uint64_t again = world->settings.resume ? world->settings.stream_window_max_bytes : 0; /* after a loss */
    peak(&world->queue_peak_bytes, trunk_stream_queued(stream));
    peak(&world->window_peak_bytes, trunk_stream_receive_window(stream));
    check_held(world, unconsumed, trunk_stream_unconsumed(stream), window_of(world, stream));
    check_held(world, queued, trunk_stream_queued(stream), again + LIMIT_STREAM_BACKLOG_BYTES + TLS_RECORD_MAX_BYTES);
}

/* All that is charged is within the budget's reach: `held` is what the streams of one engine hold. */
static void check_budget(struct sim_world *world, const char *what, const struct buffer_budget *budget, uint64_t held)
{
    check_held(world, what, held, budget->charged_bytes);
    peak(&world->charged_peak_bytes, budget->charged_bytes);
}

static void check_edge_clients(struct sim_world *world, struct relay *relay)
{
    static const struct edge_client_extra none;
    uint64_t held = 0;

    for (const struct edge_client *client = NULL; (client = slab_next(&relay->client_slab, client)) != NULL;) {
        const struct edge_client_extra *extra = client->extra != NULL ? client->extra : &none;
        uint64_t plain = chain_bytes(&extra->output) + extra->encrypted_bytes;
        uint64_t pending = chain_bytes(&extra->pending);
        peak(&world->output_peak_bytes, plain);
        check_held(world, "edge, plaintext towards a client", plain, window_of(world, &client->stream));
        check_held(world, "edge, ciphertext towards a client", pending,
                   extra->encrypted_bytes + RECORD_OVERHEAD * (1 + extra->encrypted_bytes / 64) + 16384);
        check_held(world, "edge, before the core's answer", chain_bytes(&extra->input), TLS_RECORD_MAX_BYTES);
        check_stream(world, &client->stream, "edge, not consumed of a stream", "edge, queued for the core");
        held += trunk_stream_charged(&client->stream);
    }
    check_budget(world, "edge, of all clients", &relay->buffers, held);
}

static void check_sessions(struct sim_world *world, struct core_worker *worker)
{
    uint64_t held = 0;

    for (const trunkline_session *session = NULL; (session = slab_next(&worker->sessions, session)) != NULL;) {
        check_held(world, "core, with the handler", session->held_bytes, window_of(world, &session->stream));
        check_stream(world, &session->stream, "core, not consumed of a stream", "core, queued for the edge");
        held += trunk_stream_charged(&session->stream);
    }
    check_budget(world, "core, of all sessions", &worker->buffers, held);
}

void sim_bounds_check(struct sim_world *world)
{
    for (size_t i = 0; i < world->settings.edges; i++) {
        if (world->edges[i].made) {
            check_edge_clients(world, &world->edges[i].relay);
        }
    }
    for (size_t i = 0; i < world->settings.cores; i++) {
        if (world->cores[i].made) {
            check_sessions(world, &world->cores[i].worker);
        }
    }
}
