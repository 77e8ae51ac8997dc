/*
 * trunkline-bench-service: the service behind the proxies of scripts/bench. Plain TCP, one thread, a few dozen bytes
 * per connection. What a connection begins with decides:
 *
 *   anything but "G"                           every byte is echoed
 *   GET /bytes/N                               an answer with a body of N bytes
 *   GET ...?client=C&size=S&interval_us=I      the one-way down traffic of trunkline-load: messages of its format, for
 *                                              ever
 *   any other GET                              a short answer
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/chain.h"
#include "mux/clock.h"
#include "mux/memory.h"
#include "mux/process.h"
#include "mux/slab.h"
#include "mux/socket.h"
#include "tests/load/message.h"

#define INPUT_BYTES     65536U
#define REQUEST_BYTES   2048U
#define PENDING_BYTES   262144U   /* unsent; beyond it nothing is read, and no message is made */
#define BODY_MAX_BYTES  16777216U /* of GET /bytes/N */
#define INTERVAL_MIN_US 1000U

enum kind { KIND_UNKNOWN, KIND_ECHO, KIND_HTTP, KIND_DOWN };

struct service {
    struct loop *loop;
    struct process *process;
    struct listener listener;
    struct slab connections;
    struct slab downs;
    uint8_t input[INPUT_BYTES];
    uint8_t message[MESSAGE_MAX_BYTES];
};

struct connection;

/* What only a connection with down traffic has. */
struct down {
    struct connection *connection;
    struct timer timer;
    uint64_t sequence;
    uint64_t next_us;
    uint64_t interval_us;
    uint32_t client;
    uint32_t size;
};

struct connection {
    struct service *service;
    struct socket_transport socket;
    struct chain pending; /* output that the peer has not taken */
    struct chain request; /* an HTTP request that is not complete */
    struct down *down;
    uint8_t kind;
    uint8_t ended; /* the peer's FIN came */
};

static void connection_free(struct connection *connection, enum transport_close how)
{
    struct service *service = connection->service;
    if (connection->down != NULL) {
        scheduler_disarm(loop_scheduler(service->loop), &connection->down->timer);
        slab_free(&service->downs, connection->down);
    }
    transport_close(&connection->socket.transport, how);
    chain_clear(&connection->pending);
    chain_clear(&connection->request);
    slab_free(&service->connections, connection);
}

/* Writes what waits. False when the connection is over; it is freed then. */
static bool connection_flush(struct connection *connection)
{
    const uint8_t *bytes = NULL;
    size_t count = 0;
    while ((count = chain_peek(&connection->pending, &bytes)) > 0) {
        size_t written = 0;
        enum error_code error = transport_write(&connection->socket.transport, bytes, count, &written);
        if (error != ERROR_NONE && error != ERROR_WOULD_BLOCK) {
            connection_free(connection, TRANSPORT_CLOSE_RESET);
            return false;
        }
        chain_consume(&connection->pending, written);
        if (error == ERROR_WOULD_BLOCK) {
            return true;
        }
    }
    if (connection->ended) {
        connection_free(connection, TRANSPORT_CLOSE_CLEAN);
        return false;
    }
    return true;
}

/* Sends now what can be sent, and keeps the rest. False when the connection is over. */
static bool connection_write(struct connection *connection, const void *bytes, size_t length)
{
    size_t written = 0;
    if (chain_empty(&connection->pending)) {
        enum error_code error = transport_write(&connection->socket.transport, bytes, length, &written);
        if (error != ERROR_NONE && error != ERROR_WOULD_BLOCK) {
            connection_free(connection, TRANSPORT_CLOSE_RESET);
            return false;
        }
    }
    if (chain_append(&connection->pending, (const uint8_t *)bytes + written, length - written) != ERROR_NONE) {
        connection_free(connection, TRANSPORT_CLOSE_RESET);
        return false;
    }
    return true;
}

/* ---- down ---- */

static bool send_message(struct down *down)
{
    struct connection *connection = down->connection;
    uint8_t *into = connection->service->message;
    const struct message message = {
        .sequence = down->sequence++, .intended_us = down->next_us, .client = down->client, .size = down->size};
    message_write(&message, into);
    return connection_write(connection, into, message.size);
}

static void on_down_timer(struct timer *timer)
{
    struct down *down = container_of(timer, struct down, timer);
    struct connection *connection = down->connection;
    uint64_t now_us = clock_monotonic_us();
    while (down->next_us <= now_us) {
        /* A client that does not read misses nothing: its messages are made later, with the times that they had. */
        if (chain_bytes(&connection->pending) > PENDING_BYTES) {
            break;
        }
        if (!send_message(down)) {
            return;
        }
        down->next_us += down->interval_us;
    }
    uint64_t wait_us = down->next_us > now_us ? down->next_us - now_us : 1000U;
    scheduler_arm(loop_scheduler(connection->service->loop), timer, (wait_us + 999U) / 1000U);
}

static bool begin_down(struct connection *connection, uint32_t client, uint32_t size, uint64_t interval_us)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n";
    struct service *service = connection->service;
    struct down *down = slab_alloc(&service->downs);
    if (down == NULL || size < MESSAGE_HEADER_BYTES || size > MESSAGE_MAX_BYTES) {
        slab_free(&service->downs, down);
        connection_free(connection, TRANSPORT_CLOSE_RESET);
        return false;
    }
    *down = (struct down){.connection = connection,
                          .next_us = clock_monotonic_us(),
                          .interval_us = interval_us < INTERVAL_MIN_US ? INTERVAL_MIN_US : interval_us,
                          .client = client,
                          .size = size};
    timer_init(&down->timer, on_down_timer);
    connection->down = down;
    connection->kind = KIND_DOWN;
    if (!connection_write(connection, head, sizeof(head) - 1)) {
        return false;
    }
    /* The first message at a moment of this client's own, or all of them would be due together. */
    down->next_us += down->interval_us * (client % 1009U) / 1009U;
    scheduler_arm(loop_scheduler(service->loop), &down->timer, 0);
    return true;
}

/* ---- HTTP ---- */

static bool answer(struct connection *connection, uint64_t body_bytes)
{
    char head[160];
    int length = snprintf(
        head, sizeof(head),
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %" PRIu64 "\r\n\r\n", body_bytes);
    if (!connection_write(connection, head, (size_t)length)) {
        return false;
    }
    uint8_t *piece = connection->service->message;
    memset(piece, 'x', body_bytes < MESSAGE_MAX_BYTES ? (size_t)body_bytes : MESSAGE_MAX_BYTES);
    while (body_bytes > 0) {
        size_t count = body_bytes < MESSAGE_MAX_BYTES ? (size_t)body_bytes : MESSAGE_MAX_BYTES;
        if (!connection_write(connection, piece, count)) {
            return false;
        }
        body_bytes -= count;
    }
    return true;
}

/* `request` is complete and zero-terminated. */
static bool serve_request(struct connection *connection, const char *request)
{
    uint32_t client = 0;
    uint32_t size = 0;
    uint64_t interval_us = 0;
    uint64_t body_bytes = 0;
    const char *query = strpbrk(request, "? ");
    query = query == NULL ? NULL : strstr(request, "client=");
    if (query != NULL &&
        sscanf(query, "client=%" SCNu32 "&size=%" SCNu32 "&interval_us=%" SCNu64, &client, &size, &interval_us) == 3) {
        return begin_down(connection, client, size, interval_us);
    }
    if (sscanf(request, "GET /bytes/%" SCNu64, &body_bytes) == 1 && body_bytes <= BODY_MAX_BYTES) {
        return answer(connection, body_bytes);
    }
    return answer(connection, 3);
}

static bool take_request(struct connection *connection, const uint8_t *bytes, size_t length)
{
    char request[REQUEST_BYTES + 1];
    if (chain_append(&connection->request, bytes, length) != ERROR_NONE) {
        connection_free(connection, TRANSPORT_CLOSE_RESET);
        return false;
    }
    for (;;) {
        size_t held = chain_copy(&connection->request, 0, request, REQUEST_BYTES);
        request[held] = '\0';
        const char *end = strstr(request, "\r\n\r\n");
        if (end == NULL && held == REQUEST_BYTES) {
            connection_free(connection, TRANSPORT_CLOSE_RESET);
            return false;
        }
        if (end == NULL) {
            return true;
        }
        size_t request_bytes = (size_t)(end - request) + 4;
        request[request_bytes] = '\0';
        chain_consume(&connection->request, request_bytes);
        if (!serve_request(connection, request)) {
            return false;
        }
        if (connection->kind == KIND_DOWN) {
            chain_clear(&connection->request);
            return true;
        }
    }
}

/* ---- connections ---- */

static bool take_input(struct connection *connection, const uint8_t *bytes, size_t length)
{
    if (connection->kind == KIND_UNKNOWN) {
        connection->kind = bytes[0] == 'G' ? KIND_HTTP : KIND_ECHO;
    }
    switch (connection->kind) {
    case KIND_ECHO:
        return connection_write(connection, bytes, length);
    case KIND_HTTP:
        return take_request(connection, bytes, length);
    default:
        return true; /* nothing is expected of a client with down traffic */
    }
}

static void connection_read(struct connection *connection)
{
    struct service *service = connection->service;
    while (!connection->ended && chain_bytes(&connection->pending) <= PENDING_BYTES) {
        size_t length = 0;
        enum error_code error = transport_read(&connection->socket.transport, service->input, INPUT_BYTES, &length);
        if (error == ERROR_WOULD_BLOCK) {
            return;
        }
        if (error != ERROR_NONE) {
            connection_free(connection, TRANSPORT_CLOSE_RESET);
            return;
        }
        if (length == 0) {
            connection->ended = 1;
            (void)connection_flush(connection);
            return;
        }
        if (!take_input(connection, service->input, length)) {
            return;
        }
    }
}

static void on_ready(struct transport *transport, unsigned events)
{
    struct socket_transport *socket = container_of(transport, struct socket_transport, transport);
    struct connection *connection = container_of(socket, struct connection, socket);
    if ((events & TRANSPORT_WRITABLE) != 0 && !connection_flush(connection)) {
        return;
    }
    if ((events & (TRANSPORT_READABLE | TRANSPORT_WRITABLE)) != 0) {
        connection_read(connection);
    }
}

static const struct transport_binding connection_binding = {&socket_transport_ops, on_ready};

static void on_accept(void *owner, int fd, const struct address *peer)
{
    struct service *service = owner;
    struct connection *connection = slab_alloc(&service->connections);
    (void)peer;
    if (connection == NULL) {
        close(fd);
        return;
    }
    connection->service = service;
    chain_init(&connection->pending);
    chain_init(&connection->request);
    if (socket_transport_open(&connection->socket, service->loop, fd, &connection_binding) != ERROR_NONE) {
        slab_free(&service->connections, connection);
    }
}

static void on_signal(void *owner, enum process_signal signal)
{
    struct service *service = owner;
    if (signal != PROCESS_SIGNAL_RELOAD) {
        loop_stop(service->loop);
    }
}

static enum error_code start(struct service *service, const char *text)
{
    struct address address;
    int fd = -1;
    enum error_code error = address_parse(text, true, &address);
    if (error == ERROR_NONE) {
        error = loop_new(&service->loop);
    }
    if (error == ERROR_NONE) {
        error = process_new(&service->process, service->loop, on_signal, service);
    }
    if (error == ERROR_NONE) {
        error = socket_listen(&address, false, &fd);
    }
    if (error == ERROR_NONE) {
        error = listener_start(&service->listener, service->loop, fd, on_accept, service);
    }
    return error;
}

int main(int argc, char **argv)
{
    char text[ADDRESS_TEXT_MAX];
    if (argc != 2 || argv[1][0] == '-') {
        fputs("Usage: trunkline-bench-service ADDR:PORT\n", argc == 2 ? stdout : stderr);
        return argc == 2 ? EXIT_SUCCESS : PROCESS_EXIT_USAGE;
    }
    struct service *service = memory_zalloc(sizeof(*service));
    if (service == NULL) {
        return PROCESS_EXIT_FAILURE;
    }
    slab_init(&service->connections, "connections", sizeof(struct connection));
    slab_init(&service->downs, "downs", sizeof(struct down));
    (void)process_raise_files();
    enum error_code error = start(service, argv[1]);
    if (error != ERROR_NONE) {
        fprintf(stderr, "trunkline-bench-service: %s: %s\n", argv[1], error_text(error));
        return PROCESS_EXIT_ADDRESS;
    }
    printf("listening on %s\n", address_format(&service->listener.bound, text));
    fflush(stdout);
    loop_run(service->loop);
    /* What is open ends with the process. */
    return EXIT_SUCCESS;
}
