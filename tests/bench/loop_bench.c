/*
 * trunkline-loop-bench: edge-triggered or level-triggered epoll, for mostly idle connections that echo messages?
 * Compares mux/loop.c with mux/socket.c (edge-triggered, registered once) with plain level-triggered code that changes
 * its interest by EPOLL_CTL_MOD, in one run, on the same sockets, in alternating rounds.
 *
 * Threads: main drives the clients' ends; a server thread per round echoes and is what gets measured: its CPU time,
 * and its system calls, which the linker (--wrap) leads through the counters below. Each connection's state belongs to
 * the bench and is used by the server thread while it runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mux/clock.h"
#include "mux/loop.h"
#include "mux/memory.h"
#include "mux/socket.h"

#define BENCH_BATCH_EVENTS        256
#define BENCH_BUFFER_BYTES        65536U
#define BENCH_LARGE_BYTES         65536U /* a message of the back-pressure workload: more than the sockets hold */
#define BENCH_SOCKET_BUFFER_BYTES 8192   /* asked for at each end in that workload */
#define BENCH_ROUNDS_MAX          99U

enum bench_call { CALL_WAIT, CALL_CTL, CALL_RECV, CALL_SEND, CALL_COUNT };
enum bench_mode { MODE_EDGE, MODE_LEVEL, MODE_COUNT };

struct bench_workload {
    const char *name;
    size_t active; /* connections that send at the same time */
    size_t message_bytes;
    unsigned messages;  /* per round */
    bool back_pressure; /* small socket buffers, and clients that read late */
};

/* One connection, seen from the server. */
struct echo {
    struct socket_transport socket; /* edge-triggered */
    int fd;
    uint8_t *pending; /* what the peer did not take yet; NULL: nothing */
    size_t pending_start;
    size_t pending_end;
};

struct bench {
    struct bench_workload workload;
    size_t connections;
    int *clients; /* non-blocking */
    struct echo *echoes;
    enum bench_mode mode;
    pthread_t server;
    struct loop *loop; /* edge-triggered server */
    int stop[2];       /* level-triggered server: a byte ends it */
    atomic_bool serving;
};

struct bench_result {
    double cpu_ns;
    double calls[CALL_COUNT];
};

static void bench_fail(const char *what)
{
    (void)fprintf(stderr, "trunkline-loop-bench: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

/* ---- counters ---- */

static _Thread_local bool counting; /* on the server thread */
static _Atomic uint64_t call_counts[CALL_COUNT];

static void count_call(enum bench_call call)
{
    if (counting) {
        /* One thread writes: no locked instruction is needed. */
        uint64_t count = atomic_load_explicit(&call_counts[call], memory_order_relaxed);
        atomic_store_explicit(&call_counts[call], count + 1, memory_order_relaxed);
    }
}

/* The names are the linker's: __real_X is the C library's X. */
ssize_t __real_recv(int fd, void *into, size_t capacity, int flags);
ssize_t __real_send(int fd, const void *bytes, size_t length, int flags);
int __real_epoll_wait(int fd, struct epoll_event *events, int capacity, int timeout_ms);
int __real_epoll_ctl(int fd, int operation, int target, struct epoll_event *event);
ssize_t __wrap_recv(int fd, void *into, size_t capacity, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t length, int flags);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int capacity, int timeout_ms);
int __wrap_epoll_ctl(int fd, int operation, int target, struct epoll_event *event);

ssize_t __wrap_recv(int fd, void *into, size_t capacity, int flags)
{
    count_call(CALL_RECV);
    return __real_recv(fd, into, capacity, flags);
}

ssize_t __wrap_send(int fd, const void *bytes, size_t length, int flags)
{
    count_call(CALL_SEND);
    return __real_send(fd, bytes, length, flags);
}

int __wrap_epoll_wait(int fd, struct epoll_event *events, int capacity, int timeout_ms)
{
    count_call(CALL_WAIT);
    return __real_epoll_wait(fd, events, capacity, timeout_ms);
}

int __wrap_epoll_ctl(int fd, int operation, int target, struct epoll_event *event)
{
    count_call(CALL_CTL);
    return __real_epoll_ctl(fd, operation, target, event);
}

/* ---- the server, both ways ---- */

static _Thread_local uint8_t server_buffer[BENCH_BUFFER_BYTES];

static void echo_keep(struct echo *echo, const uint8_t *bytes, size_t length)
{
    echo->pending = memory_alloc(length);
    if (echo->pending == NULL) {
        bench_fail("memory");
    }
    memcpy(echo->pending, bytes, length);
    echo->pending_start = 0;
    echo->pending_end = length;
}

/* Counts what was taken of the pending bytes; true when none are left. */
static bool echo_taken(struct echo *echo, size_t taken)
{
    echo->pending_start += taken;
    if (echo->pending_start < echo->pending_end) {
        return false;
    }
    memory_free(echo->pending);
    echo->pending = NULL;
    return true;
}

static void edge_ready(struct transport *transport, unsigned events)
{
    struct echo *echo = container_of(transport, struct echo, socket.transport);
    size_t length;
    size_t written;
    if (echo->pending != NULL) {
        if (!(events & TRANSPORT_WRITABLE) ||
            transport_write(transport, echo->pending + echo->pending_start, echo->pending_end - echo->pending_start,
                            &written) != ERROR_NONE ||
            !echo_taken(echo, written)) {
            return;
        }
    }
    while (transport_read(transport, server_buffer, sizeof(server_buffer), &length) == ERROR_NONE && length > 0) {
        if (transport_write(transport, server_buffer, length, &written) != ERROR_NONE || written < length) {
            echo_keep(echo, server_buffer + written, length - written);
            return;
        }
    }
}

static const struct transport_binding edge_binding = {&socket_transport_ops, edge_ready};

static void edge_serve(struct bench *bench)
{
    for (size_t i = 0; i < bench->connections; i++) {
        if (socket_transport_open(&bench->echoes[i].socket, bench->loop, bench->echoes[i].fd, &edge_binding) !=
            ERROR_NONE) {
            bench_fail("watch");
        }
    }
    /* Each socket is reported writable once, at the start: not what is to be measured. */
    for (size_t i = 0; i <= bench->connections / BENCH_BATCH_EVENTS; i++) {
        loop_run_once(bench->loop, 0);
    }
    atomic_store(&bench->serving, true);
    loop_run(bench->loop);
    for (size_t i = 0; i < bench->connections; i++) {
        bench->echoes[i].fd = socket_transport_release(&bench->echoes[i].socket);
    }
}

static void level_interest(int epoll_fd, struct echo *echo, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = echo};
    if (epoll_ctl(epoll_fd, operation, echo->fd, &event) < 0) {
        bench_fail("epoll_ctl");
    }
}

static void level_ready(int epoll_fd, struct echo *echo, uint32_t events)
{
    if (echo->pending != NULL) {
        if (events & EPOLLOUT) {
            ssize_t sent = send(echo->fd, echo->pending + echo->pending_start, echo->pending_end - echo->pending_start,
                                MSG_NOSIGNAL);
            if (sent > 0 && echo_taken(echo, (size_t)sent)) {
                level_interest(epoll_fd, echo, EPOLL_CTL_MOD, EPOLLIN | EPOLLRDHUP);
            }
        }
        return;
    }
    ssize_t length = recv(echo->fd, server_buffer, sizeof(server_buffer), 0);
    if (length <= 0) {
        return;
    }
    ssize_t sent = send(echo->fd, server_buffer, (size_t)length, MSG_NOSIGNAL);
    if (sent < length) {
        size_t taken = sent > 0 ? (size_t)sent : 0;
        echo_keep(echo, server_buffer + taken, (size_t)length - taken);
        level_interest(epoll_fd, echo, EPOLL_CTL_MOD, EPOLLOUT);
    }
}

static void level_serve(struct bench *bench)
{
    struct epoll_event events[BENCH_BATCH_EVENTS];
    struct echo stopper = {.fd = bench->stop[0]};
    volatile uint64_t now_us;
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) {
        bench_fail("epoll_create1");
    }
    for (size_t i = 0; i < bench->connections; i++) {
        level_interest(epoll_fd, &bench->echoes[i], EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP);
    }
    level_interest(epoll_fd, &stopper, EPOLL_CTL_ADD, EPOLLIN);
    atomic_store(&bench->serving, true);
    for (bool stopped = false; !stopped;) {
        int count = epoll_wait(epoll_fd, events, BENCH_BATCH_EVENTS, -1);
        now_us = clock_monotonic_us(); /* a server needs it, as the other one does */
        (void)now_us;
        for (int i = 0; i < count; i++) {
            struct echo *echo = events[i].data.ptr;
            if (echo == &stopper) {
                stopped = true;
            } else {
                level_ready(epoll_fd, echo, events[i].events);
            }
        }
    }
    close(epoll_fd);
}

static void *server_run(void *argument)
{
    struct bench *bench = argument;
    counting = true;
    if (bench->mode == MODE_EDGE) {
        edge_serve(bench);
    } else {
        level_serve(bench);
    }
    return NULL;
}

static void server_start(struct bench *bench)
{
    if (loop_new(&bench->loop) != ERROR_NONE || pipe2(bench->stop, O_CLOEXEC) < 0) {
        bench_fail("server");
    }
    atomic_store(&bench->serving, false);
    if (pthread_create(&bench->server, NULL, server_run, bench) != 0) {
        bench_fail("thread");
    }
    while (!atomic_load(&bench->serving)) {
        sched_yield();
    }
}

static void server_stop(struct bench *bench)
{
    if (bench->mode == MODE_EDGE) {
        loop_stop(bench->loop);
    } else if (write(bench->stop[1], "", 1) != 1) {
        bench_fail("stop");
    }
    pthread_join(bench->server, NULL);
    loop_free(&bench->loop);
    close(bench->stop[0]);
    close(bench->stop[1]);
}

static uint64_t server_cpu_ns(const struct bench *bench)
{
    clockid_t clock;
    struct timespec used;
    if (pthread_getcpuclockid(bench->server, &clock) != 0 || clock_gettime(clock, &used) < 0) {
        bench_fail("thread clock");
    }
    return (uint64_t)used.tv_sec * 1000000000U + (uint64_t)used.tv_nsec;
}

/* ---- the clients ---- */

static uint8_t client_buffer[BENCH_BUFFER_BYTES];

/* Sends what the socket takes; returns how much. */
static size_t client_send(int fd, size_t length)
{
    ssize_t sent = send(fd, client_buffer, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        bench_fail("send");
    }
    return sent > 0 ? (size_t)sent : 0;
}

static size_t client_receive(int fd)
{
    static uint8_t ignored[BENCH_BUFFER_BYTES];
    ssize_t length = recv(fd, ignored, sizeof(ignored), 0);
    if (length == 0 || (length < 0 && errno != EAGAIN)) {
        bench_fail("receive");
    }
    return length > 0 ? (size_t)length : 0;
}

/* One message on each of the chosen connections, until all are echoed. Reading starts only when every socket is full
 * or its message sent, so that large messages stop the server's writes. */
static void clients_exchange(const int *chosen, size_t count, size_t message_bytes)
{
    size_t unsent[BENCH_BATCH_EVENTS];
    size_t unread[BENCH_BATCH_EVENTS];
    size_t open = count;
    for (size_t i = 0; i < count; i++) {
        unread[i] = message_bytes;
        unsent[i] = message_bytes - client_send(chosen[i], message_bytes);
    }
    while (open > 0) {
        for (size_t i = 0; i < count; i++) {
            if (unread[i] == 0) {
                continue;
            }
            if (unsent[i] > 0) {
                unsent[i] -= client_send(chosen[i], unsent[i]);
            }
            unread[i] -= client_receive(chosen[i]);
            open -= unread[i] == 0;
        }
        if (open > 0) {
            sched_yield();
        }
    }
}

static struct bench_result bench_round(struct bench *bench, enum bench_mode mode, uint64_t seed)
{
    struct bench_result result;
    struct random_state random;
    int chosen[BENCH_BATCH_EVENTS];
    size_t active = bench->workload.active;
    uint64_t before[CALL_COUNT];
    unsigned messages = 0;
    random_seed(&random, seed);
    bench->mode = mode;
    server_start(bench);
    clients_exchange(bench->clients, 1, 1); /* both are past their start */
    uint64_t start_ns = server_cpu_ns(bench);
    for (size_t call = 0; call < CALL_COUNT; call++) {
        before[call] = atomic_load_explicit(&call_counts[call], memory_order_relaxed);
    }
    while (messages < bench->workload.messages) {
        /* Connections a stride apart: distinct, and spread over all. */
        size_t first = (size_t)random_below(&random, bench->connections);
        for (size_t i = 0; i < active; i++) {
            chosen[i] = bench->clients[(first + i * (bench->connections / active)) % bench->connections];
        }
        clients_exchange(chosen, active, bench->workload.message_bytes);
        messages += (unsigned)active;
    }
    result.cpu_ns = (double)(server_cpu_ns(bench) - start_ns) / messages;
    for (size_t call = 0; call < CALL_COUNT; call++) {
        uint64_t after = atomic_load_explicit(&call_counts[call], memory_order_relaxed);
        result.calls[call] = (double)(after - before[call]) / messages;
    }
    server_stop(bench);
    return result;
}

/* ---- set-up and report ---- */

static void shrink_buffers(int fd)
{
    const int bytes = BENCH_SOCKET_BUFFER_BYTES;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)) < 0) {
        bench_fail("setsockopt");
    }
}

static void bench_connect(struct bench *bench)
{
    struct address address;
    const int on = 1;
    int listening;
    bench->clients = memory_calloc(bench->connections, sizeof(*bench->clients));
    bench->echoes = memory_calloc(bench->connections, sizeof(*bench->echoes));
    if (bench->clients == NULL || bench->echoes == NULL ||
        address_parse("127.0.0.1:0", false, &address) != ERROR_NONE ||
        socket_listen(&address, false, &listening) != ERROR_NONE ||
        socket_local_address(listening, &address) != ERROR_NONE) {
        bench_fail("listen");
    }
    if (bench->workload.back_pressure) {
        shrink_buffers(listening);
    }
    for (size_t i = 0; i < bench->connections; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (client < 0) {
            bench_fail("socket");
        }
        if (bench->workload.back_pressure) {
            shrink_buffers(client);
        }
        if (connect(client, &address.u.any, address.length) < 0 || fcntl(client, F_SETFL, O_NONBLOCK) < 0 ||
            setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0) {
            bench_fail("connect");
        }
        int accepted = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted < 0 || setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0) {
            bench_fail("accept");
        }
        bench->clients[i] = client;
        bench->echoes[i].fd = accepted;
    }
    close(listening);
}

static void bench_disconnect(struct bench *bench)
{
    for (size_t i = 0; i < bench->connections; i++) {
        close(bench->clients[i]);
        close(bench->echoes[i].fd);
        memory_free(bench->echoes[i].pending);
    }
    memory_free(bench->clients);
    memory_free(bench->echoes);
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare_doubles);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static void bench_report(const struct bench *bench, struct bench_result results[MODE_COUNT][BENCH_ROUNDS_MAX],
                         size_t rounds)
{
    static const char *const names[MODE_COUNT] = {[MODE_EDGE] = "edge", [MODE_LEVEL] = "level"};
    double values[BENCH_ROUNDS_MAX] = {0};
    for (size_t mode = 0; mode < MODE_COUNT; mode++) {
        for (size_t i = 0; i < rounds; i++) {
            values[i] = results[mode][i].cpu_ns;
        }
        double cpu_ns = median(values, rounds);
        printf("| %-32s | %-5s | %7.2f | %6.2f-%6.2f |", bench->workload.name, names[mode], cpu_ns / 1000,
               values[0] / 1000, values[rounds - 1] / 1000);
        double all = 0;
        for (size_t call = 0; call < CALL_COUNT; call++) {
            for (size_t i = 0; i < rounds; i++) {
                values[i] = results[mode][i].calls[call];
            }
            double calls = median(values, rounds);
            all += calls;
            printf(" %6.2f |", calls);
        }
        printf(" %6.2f |\n", all);
    }
    for (size_t i = 0; i < rounds; i++) {
        values[i] = results[MODE_EDGE][i].cpu_ns / results[MODE_LEVEL][i].cpu_ns;
    }
    printf("| %-32s | ratio | %7.2f |               |        |        |        |        |        |\n",
           bench->workload.name, median(values, rounds));
    (void)fflush(stdout);
}

static void bench_workload_run(const struct bench_workload *workload, size_t connections, size_t rounds)
{
    static struct bench_result results[MODE_COUNT][BENCH_ROUNDS_MAX];
    struct bench bench = {.workload = *workload, .connections = connections};
    bench_connect(&bench);
    (void)bench_round(&bench, MODE_EDGE, 0); /* warm up, both ways */
    (void)bench_round(&bench, MODE_LEVEL, 0);
    for (size_t i = 0; i < rounds; i++) {
        enum bench_mode first = i % 2 == 0 ? MODE_EDGE : MODE_LEVEL;
        enum bench_mode second = first == MODE_EDGE ? MODE_LEVEL : MODE_EDGE;
        results[first][i] = bench_round(&bench, first, i + 1);
        results[second][i] = bench_round(&bench, second, i + 1);
    }
    bench_report(&bench, results, rounds);
    bench_disconnect(&bench);
}

static size_t parse_number(const char *text, size_t minimum, size_t maximum)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < minimum || value > maximum) {
        (void)fprintf(stderr, "trunkline-loop-bench: %s: a number from %zu to %zu is needed\n", text, minimum, maximum);
        exit(2);
    }
    return (size_t)value;
}

int main(int argc, char **argv)
{
    static const struct bench_workload workloads[] = {
        {"100 B, 1 active", 1, 100, 20000, false},
        {"100 B, 32 active", 32, 100, 64000, false},
        {"100 B, 256 active", 256, 100, 64000, false},
        {"64 KiB, 32 active, back-pressure", 32, BENCH_LARGE_BYTES, 3200, true},
    };
    static const struct option options[] = {
        {"connections", required_argument, NULL, 'c'}, {"rounds", required_argument, NULL, 'r'}, {0}};
    size_t connections = 4000;
    size_t rounds = 11;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'c') {
            connections = parse_number(optarg, BENCH_BATCH_EVENTS, 1000000);
        } else if (option == 'r') {
            rounds = parse_number(optarg, 1, BENCH_ROUNDS_MAX);
        } else {
            (void)fprintf(stderr, "usage: trunkline-loop-bench [--connections N] [--rounds N]\n");
            return 2;
        }
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    printf("%zu TCP connections on loopback, %zu alternating rounds, medians; per message\n\n", connections, rounds);
    printf("| workload                         | mode  |  CPU us |     range     |   wait |    ctl |   recv |   send |"
           "  calls |\n");
    printf("|----------------------------------|-------|--------:|---------------|-------:|-------:|-------:|-------:|"
           "-------:|\n");
    for (size_t i = 0; i < sizeof(workloads) / sizeof(workloads[0]); i++) {
        bench_workload_run(&workloads[i], connections, rounds);
    }
    return EXIT_SUCCESS;
}
