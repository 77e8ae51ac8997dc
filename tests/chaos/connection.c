/* See connection.h. Runs on the loop's thread. */
#include "tests/chaos/connection.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "mux/clock.h"
#include "mux/log.h"
#include "mux/memory.h"
#include "tests/chaos/registry.h"

#define READS_PER_TURN 8U  /* of one direction; then the others get their turn */
#define SENDS_PER_TURN 64U /* slices */
#define DRAIN_READS    16U /* before a close, so that bytes not read do not turn it into a reset */

static void connection_run(struct connection *connection);

static struct socket_transport *source_of(struct connection *connection, enum toxic_stream stream)
{
    return stream == TOXIC_UPSTREAM ? &connection->client : &connection->server;
}

static struct socket_transport *sink_of(struct connection *connection, enum toxic_stream stream)
{
    return stream == TOXIC_UPSTREAM ? &connection->server : &connection->client;
}

static bool is_open(const struct socket_transport *socket)
{
    return socket->transport.binding != NULL;
}

static void connection_drain(struct connection *connection, struct socket_transport *socket)
{
    size_t length = 1;
    for (unsigned i = 0; is_open(socket) && length > 0 && i < DRAIN_READS; i++) {
        if (transport_read(&socket->transport, connection->proxy->registry->scratch, FLOW_SCRATCH_BYTES, &length) !=
            ERROR_NONE) {
            return;
        }
    }
}

void connection_nudge(struct connection *connection)
{
    scheduler_defer(loop_scheduler(connection->proxy->registry->loop), &connection->again);
}

void connection_end(struct connection *connection, enum transport_close how)
{
    struct registry *registry = connection->proxy->registry;
    if (connection->state == CONNECTION_ENDED) {
        return;
    }
    if (how == TRANSPORT_CLOSE_CLEAN && connection->state == CONNECTION_OPEN) {
        connection_drain(connection, &connection->client);
        connection_drain(connection, &connection->server);
    }
    connection->state = CONNECTION_ENDED;
    transport_close(&connection->client.transport, how);
    transport_close(&connection->server.transport, how);
    wakes_arm(&registry->wakes, &connection->wake, WAKE_NEVER);
    registry_settle(registry);
    connection_nudge(connection);
}

void connection_free(struct connection **connection)
{
    struct connection *freed = *connection;
    struct proxy *proxy = freed->proxy;
    struct registry *registry = proxy->registry;
    connection_end(freed, TRANSPORT_CLOSE_CLEAN);
    scheduler_cancel(loop_scheduler(registry->loop), &freed->again);
    for (unsigned i = 0; i < TOXIC_STREAM_COUNT; i++) {
        proxy->received[i] += freed->flows[i].received_bytes;
        proxy->sent[i] += freed->flows[i].sent_bytes;
        flow_dispose(&freed->flows[i]);
    }
    list_remove(&freed->node);
    proxy->open--;
    registry->connections--;
    memory_free(freed);
    *connection = NULL;
}

static void on_again(struct task *task)
{
    struct connection *connection = container_of(task, struct connection, again);
    if (connection->state == CONNECTION_ENDED) {
        connection_free(&connection);
    } else {
        connection_run(connection);
    }
}

/* ---- moving bytes ---- */

/* Sends what may leave. False: the turn is over, there is more. */
static bool direction_send(struct connection *connection, enum toxic_stream stream)
{
    struct flow *flow = &connection->flows[stream];
    struct socket_transport *sink = sink_of(connection, stream);
    for (unsigned i = 0; i < SENDS_PER_TURN; i++) {
        const uint8_t *bytes;
        size_t sent;
        size_t length = flow_output(flow, connection->proxy->registry->slice, &bytes);
        if (length == 0) {
            return true;
        }
        enum error_code error = transport_write(&sink->transport, bytes, length, &sent);
        if (error == ERROR_WOULD_BLOCK) {
            return true;
        }
        if (error != ERROR_NONE) {
            flow_sink_lost(flow);
            return true;
        }
        flow_written(flow, sent);
        if (sent < length) {
            return true;
        }
    }
    return false;
}

/* Bytes that no toxic touches go on at once; only what the sink does not take is kept. */
static enum error_code direction_take(struct connection *connection, enum toxic_stream stream, size_t length,
                                      uint64_t now_us)
{
    struct flow *flow = &connection->flows[stream];
    uint8_t *bytes = connection->proxy->registry->scratch;
    size_t sent = 0;
    connection->flows[!stream].activity_us = now_us;
    if (flow_plain(flow)) {
        enum error_code error = transport_write(&sink_of(connection, stream)->transport, bytes, length, &sent);
        if (error != ERROR_NONE && error != ERROR_WOULD_BLOCK) {
            flow_sink_lost(flow);
        }
        flow_skip(flow, sent, now_us);
    }
    return sent < length ? flow_feed(flow, bytes + sent, length - sent, now_us) : ERROR_NONE;
}

/* Carries out the end of a direction. False: the connection has ended. */
static bool direction_end(struct connection *connection, enum toxic_stream stream)
{
    struct flow *flow = &connection->flows[stream];
    switch (flow_pending_end(flow)) {
    case FLOW_FINISH:
        transport_finish(&sink_of(connection, stream)->transport);
        flow_delivered(flow);
        return true;
    case FLOW_CLOSE:
        connection_end(connection, TRANSPORT_CLOSE_CLEAN);
        return false;
    case FLOW_RESET:
        connection_end(connection, TRANSPORT_CLOSE_RESET);
        return false;
    case FLOW_GOES_ON:
    default:
        return true;
    }
}

/* One read. False: nothing more is to be read now. */
static bool direction_read(struct connection *connection, enum toxic_stream stream, uint64_t now_us)
{
    struct flow *flow = &connection->flows[stream];
    size_t room = flow_room(flow);
    size_t length;
    if (room == 0) {
        return false;
    }
    enum error_code error =
        transport_read(&source_of(connection, stream)->transport, connection->proxy->registry->scratch, room, &length);
    if (error == ERROR_WOULD_BLOCK) {
        return false;
    }
    if (error != ERROR_NONE) {
        flow_source_end(flow, FLOW_RESET);
    } else if (length == 0) {
        flow_source_end(flow, FLOW_FINISH);
    } else if (direction_take(connection, stream, length, now_us) != ERROR_NONE) {
        LOG(LOG_ERROR, "connection-out-of-memory", LOG_TEXT("proxy", connection->proxy->name),
            LOG_INTEGER("connection", connection->number));
        connection_end(connection, TRANSPORT_CLOSE_RESET);
        return false;
    }
    return true;
}

static void direction_run(struct connection *connection, enum toxic_stream stream)
{
    struct flow *flow = &connection->flows[stream];
    for (unsigned turn = 0; turn < READS_PER_TURN; turn++) {
        uint64_t now_us = clock_monotonic_us();
        flow_run(flow, now_us);
        bool sent_all = direction_send(connection, stream);
        if (!direction_end(connection, stream)) {
            return;
        }
        if (!sent_all) {
            break;
        }
        if (!direction_read(connection, stream, now_us)) {
            return;
        }
    }
    connection_nudge(connection);
}

static void connection_run(struct connection *connection)
{
    struct registry *registry = connection->proxy->registry;
    uint64_t next_us = WAKE_NEVER;
    bool over = true;
    for (unsigned i = 0; i < TOXIC_STREAM_COUNT && connection->state == CONNECTION_OPEN; i++) {
        direction_run(connection, (enum toxic_stream)i);
    }
    if (connection->state != CONNECTION_OPEN) {
        return;
    }
    for (unsigned i = 0; i < TOXIC_STREAM_COUNT; i++) {
        const struct flow *flow = &connection->flows[i];
        next_us = flow->wake_us < next_us ? flow->wake_us : next_us;
        over = over && flow_over(flow);
    }
    if (over) {
        connection_end(connection, TRANSPORT_CLOSE_CLEAN);
        return;
    }
    if (next_us != connection->wake.due_us) {
        wakes_arm(&registry->wakes, &connection->wake, next_us);
        registry_settle(registry);
    }
}

/* ---- opening ---- */

static void connection_opened(struct connection *connection)
{
    connection->state = CONNECTION_OPEN;
    connection_run(connection);
}

static void connection_unreachable(struct connection *connection)
{
    struct proxy *proxy = connection->proxy;
    int cause = errno;
    proxy->unreachable++;
    LOG(LOG_WARNING, "upstream-unreachable", LOG_TEXT("proxy", proxy->name),
        LOG_INTEGER("connection", connection->number), LOG_TEXT("upstream", proxy->upstream),
        LOG_TEXT("text", strerror(cause)));
    connection_end(connection, TRANSPORT_CLOSE_RESET);
}

static void receive_buffer_set(const struct registry *registry, int fd)
{
    if (registry->receive_buffer > 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &registry->receive_buffer, sizeof(registry->receive_buffer));
    }
}

static void on_server_ready(struct transport *transport, unsigned events)
{
    struct connection *connection =
        container_of(container_of(transport, struct socket_transport, transport), struct connection, server);
    if (connection->state == CONNECTION_DIALING) {
        enum error_code error = socket_connected(&connection->server);
        if (error == ERROR_NONE) {
            connection_opened(connection);
        } else if (error != ERROR_AGAIN_LATER) {
            connection_unreachable(connection);
        }
        return;
    }
    if ((events & TRANSPORT_BROKEN) && flow_room(&connection->flows[TOXIC_DOWNSTREAM]) == 0) {
        flow_source_end(&connection->flows[TOXIC_DOWNSTREAM], FLOW_RESET);
    }
    connection_run(connection);
}

static void on_client_ready(struct transport *transport, unsigned events)
{
    struct connection *connection =
        container_of(container_of(transport, struct socket_transport, transport), struct connection, client);
    if (connection->state != CONNECTION_OPEN) {
        if (events & TRANSPORT_BROKEN) {
            connection_end(connection, TRANSPORT_CLOSE_RESET);
        }
        return;
    }
    if ((events & TRANSPORT_BROKEN) && flow_room(&connection->flows[TOXIC_UPSTREAM]) == 0) {
        flow_source_end(&connection->flows[TOXIC_UPSTREAM], FLOW_RESET);
    }
    connection_run(connection);
}

static const struct transport_binding server_binding = {&socket_transport_ops, on_server_ready};
static const struct transport_binding client_binding = {&socket_transport_ops, on_client_ready};

static void connection_dial(struct connection *connection)
{
    struct registry *registry = connection->proxy->registry;
    connection->state = CONNECTION_DIALING;
    errno = 0;
    enum error_code error = socket_connect(&connection->server, registry->loop, NULL,
                                           &connection->proxy->upstream_address, &server_binding);
    if (error != ERROR_NONE) {
        connection_unreachable(connection);
        return;
    }
    receive_buffer_set(registry, connection->server.source.fd);
}

static void on_wake(struct wake *wake)
{
    struct connection *connection = container_of(wake, struct connection, wake);
    if (connection->state == CONNECTION_WAITING) {
        connection_dial(connection);
    } else if (connection->state == CONNECTION_OPEN) {
        connection_run(connection);
    }
}

static enum error_code connection_add_toxics(struct connection *connection, uint64_t now_us)
{
    list_for_each(&connection->proxy->toxics, node) {
        struct toxic *toxic = container_of(node, struct toxic, node);
        enum error_code error = flow_add(&connection->flows[toxic->stream], toxic, now_us);
        if (error != ERROR_NONE) {
            return error;
        }
    }
    return ERROR_NONE;
}

static struct connection *connection_new(struct proxy *proxy, uint64_t now_us)
{
    struct registry *registry = proxy->registry;
    struct connection *connection = memory_zalloc(sizeof(*connection));
    if (connection == NULL || wakes_reserve(&registry->wakes, registry->connections + 1) != ERROR_NONE) {
        memory_free(connection);
        return NULL;
    }
    connection->proxy = proxy;
    connection->number = proxy->accepted;
    connection->server.source.fd = -1;
    wake_init(&connection->wake, on_wake);
    task_init(&connection->again, on_again);
    for (unsigned i = 0; i < TOXIC_STREAM_COUNT; i++) {
        const struct decision_scope scope = {.decisions = registry->decisions,
                                             .proxy = proxy->name,
                                             .connection = connection->number,
                                             .stream = (enum toxic_stream)i,
                                             .opened_us = now_us};
        flow_init(&connection->flows[i], &scope, registry->latency_bytes);
    }
    list_append(&proxy->connections, &connection->node);
    proxy->open++;
    registry->connections++;
    return connection;
}

void connection_accept(struct proxy *proxy, int fd)
{
    struct registry *registry = proxy->registry;
    uint64_t now_us = clock_monotonic_us();
    proxy->accepted++;
    struct connection *connection = connection_new(proxy, now_us);
    if (connection == NULL) {
        (void)close(fd);
        LOG(LOG_ERROR, "connection-out-of-memory", LOG_TEXT("proxy", proxy->name));
        return;
    }
    decisions_note_open(&connection->flows[0].scope);
    if (socket_transport_open(&connection->client, registry->loop, fd, &client_binding) != ERROR_NONE ||
        connection_add_toxics(connection, now_us) != ERROR_NONE) {
        connection_end(connection, TRANSPORT_CLOSE_RESET);
        return;
    }
    uint64_t delay_us = 0;
    for (unsigned i = 0; i < TOXIC_STREAM_COUNT; i++) {
        delay_us += flow_open_delay(&connection->flows[i], now_us);
    }
    if (delay_us > 0) {
        wakes_arm(&registry->wakes, &connection->wake, now_us + delay_us);
        registry_settle(registry);
        return;
    }
    connection_dial(connection);
}
