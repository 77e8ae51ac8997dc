/* Tests of mux/socket.c over loopback and Unix sockets: transports, connecting, listening, accepting. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mux/loop.h"
#include "mux/memory.h"
#include "mux/socket.h"

#define BATCHES_MAX 10000 /* of at most 100 ms: an event that does not come fails the test, and hangs nothing */

static struct loop *loop;

struct end {
    struct socket_transport socket;
    unsigned events;
    unsigned calls;
};

struct server {
    struct listener listener;
    struct address address;
    int accepted[128];
    size_t count;
    size_t stop_at;
};

static int open_loop(void **state)
{
    (void)state;
    return loop_new(&loop) == ERROR_NONE ? 0 : -1;
}

static int close_loop(void **state)
{
    (void)state;
    loop_free(&loop);
    return 0;
}

static void end_ready(struct transport *transport, unsigned events)
{
    struct end *end = container_of(transport, struct end, socket.transport);
    end->events |= events;
    end->calls++;
}

static const struct transport_binding end_binding = {&socket_transport_ops, end_ready};

static void wait_for_event(struct end *end, unsigned events)
{
    for (int i = 0; (end->events & events) != events; i++) {
        assert_true(i < BATCHES_MAX);
        loop_run_once(loop, 100);
    }
    end->events &= ~events;
}

static void server_accept(void *owner, int fd, const struct address *peer)
{
    struct server *server = owner;
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(peer->u.any.sa_family, server->address.u.any.sa_family);
    assert_true(server->count < 128);
    server->accepted[server->count++] = fd;
    if (server->count == server->stop_at) {
        listener_stop(&server->listener);
    }
}

static void server_open(struct server *server, const char *text)
{
    int fd;
    memset(server, 0, sizeof(*server));
    assert_int_equal(address_parse(text, false, &server->address), ERROR_NONE);
    assert_int_equal(socket_listen(&server->address, false, &fd), ERROR_NONE);
    assert_int_equal(listener_start(&server->listener, loop, fd, server_accept, server), ERROR_NONE);
    server->address = server->listener.bound;
}

static void server_close(struct server *server)
{
    for (size_t i = 0; i < server->count; i++) {
        close(server->accepted[i]);
    }
    listener_stop(&server->listener);
    listener_stop(&server->listener);
}

static void wait_for_accepts(const struct server *server, size_t count)
{
    for (int i = 0; server->count < count; i++) {
        assert_true(i < BATCHES_MAX);
        loop_run_once(loop, 100);
    }
}

/* A connected pair: the client's end a transport, the server's a plain descriptor, or both transports. */
static int connect_pair(struct server *server, struct end *client)
{
    size_t before = server->count;
    memset(client, 0, sizeof(*client));
    assert_int_equal(socket_connect(&client->socket, loop, NULL, &server->address, &end_binding), ERROR_NONE);
    wait_for_event(client, TRANSPORT_WRITABLE);
    assert_int_equal(socket_connected(&client->socket), ERROR_NONE);
    wait_for_accepts(server, before + 1);
    server->count--;
    return server->accepted[server->count];
}

static void plain_write(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void end_close(struct end *end)
{
    transport_close(&end->socket.transport, TRANSPORT_CLOSE_CLEAN);
    assert_null(end->socket.transport.binding);
    transport_close(&end->socket.transport, TRANSPORT_CLOSE_RESET);
}

static void bytes_and_the_end_arrive(void **state)
{
    (void)state;
    static const char *const addresses[] = {"127.0.0.1:0", "[::1]:0"};
    for (size_t i = 0; i < 2; i++) {
        struct server server;
        struct end client;
        char bytes[16];
        size_t length;
        server_open(&server, addresses[i]);
        int peer = connect_pair(&server, &client);
        struct transport *transport = &client.socket.transport;
        assert_int_equal(transport_read(transport, bytes, sizeof(bytes), &length), ERROR_WOULD_BLOCK);
        assert_int_equal(transport_write(transport, "ping", 4, &length), ERROR_NONE);
        assert_int_equal(length, 4);
        assert_int_equal(transport_write(transport, NULL, 0, &length), ERROR_NONE);
        plain_write(peer, "pong");
        wait_for_event(&client, TRANSPORT_READABLE);
        assert_int_equal(transport_read(transport, bytes, sizeof(bytes), &length), ERROR_NONE);
        assert_int_equal(length, 4);
        assert_memory_equal(bytes, "pong", 4);
        assert_int_equal(transport_read(transport, bytes, sizeof(bytes), &length), ERROR_WOULD_BLOCK);
        /* Half-close: their end reaches us, we still write, our end reaches them. */
        plain_write(peer, "bye");
        assert_int_equal(shutdown(peer, SHUT_WR), 0);
        wait_for_event(&client, TRANSPORT_READABLE);
        size_t total = 0;
        enum error_code error;
        while ((error = transport_read(transport, bytes, sizeof(bytes), &length)) != ERROR_NONE || length > 0) {
            total += length;
            if (error == ERROR_WOULD_BLOCK) {
                wait_for_event(&client, TRANSPORT_READABLE);
            }
        }
        assert_int_equal(total, 3);
        assert_int_equal(transport_write(transport, "late", 4, &length), ERROR_NONE);
        transport_finish(transport);
        transport_finish(transport);
        assert_int_equal(fcntl(peer, F_SETFL, 0), 0);
        assert_int_equal(recv(peer, bytes, 8, MSG_WAITALL), 8);
        assert_memory_equal(bytes, "pinglate", 8);
        assert_int_equal(read(peer, bytes, sizeof(bytes)), 0);
        close(peer);
        end_close(&client);
        server_close(&server);
    }
}

/* A read after a short one must make no system call: bytes that came meanwhile are not seen before their event. */
static void a_short_read_is_not_tried_again_before_the_next_event(void **state)
{
    (void)state;
    struct server server;
    struct end client;
    char bytes[16];
    size_t length;
    server_open(&server, "127.0.0.1:0");
    int peer = connect_pair(&server, &client);
    struct transport *transport = &client.socket.transport;
    plain_write(peer, "abcd");
    wait_for_event(&client, TRANSPORT_READABLE);
    assert_int_equal(transport_read(transport, bytes, 4, &length), ERROR_NONE); /* all that was asked for: maybe more */
    plain_write(peer, "e");
    int waiting = 0;
    while (waiting == 0) {
        assert_int_equal(ioctl(client.socket.source.fd, FIONREAD, &waiting), 0);
    }
    assert_int_equal(transport_read(transport, bytes, 4, &length), ERROR_NONE);
    assert_int_equal(length, 1);
    plain_write(peer, "f");
    waiting = 0;
    while (waiting == 0) {
        assert_int_equal(ioctl(client.socket.source.fd, FIONREAD, &waiting), 0);
    }
    assert_int_equal(transport_read(transport, bytes, 4, &length), ERROR_WOULD_BLOCK);
    wait_for_event(&client, TRANSPORT_READABLE);
    assert_int_equal(transport_read(transport, bytes, 4, &length), ERROR_NONE);
    assert_int_equal(bytes[0], 'f');
    close(peer);
    end_close(&client);
    server_close(&server);
}

/* Bytes and FIN may come with one event: the short read of the bytes must not hide the end. */
static void a_hangup_behind_the_bytes_is_read_without_another_event(void **state)
{
    (void)state;
    struct server server;
    struct end client;
    char bytes[16];
    size_t length;
    server_open(&server, "127.0.0.1:0");
    int peer = connect_pair(&server, &client);
    struct transport *transport = &client.socket.transport;
    plain_write(peer, "last");
    close(peer);
    while (!client.socket.hangup) {
        wait_for_event(&client, TRANSPORT_READABLE);
    }
    client.events = 0;
    assert_int_equal(transport_read(transport, bytes, sizeof(bytes), &length), ERROR_NONE);
    assert_int_equal(length, 4);
    assert_int_equal(transport_read(transport, bytes, sizeof(bytes), &length), ERROR_NONE);
    assert_int_equal(length, 0);
    end_close(&client);
    server_close(&server);
}

static void a_blocked_write_goes_on_when_the_peer_reads(void **state)
{
    (void)state;
    static const char *const addresses[] = {"127.0.0.1:0", "unix:"};
    for (size_t i = 0; i < 2; i++) {
        static char bytes[65536];
        struct server server;
        struct end client;
        char directory[] = "/tmp/socket-test-XXXXXX";
        char text[ADDRESS_TEXT_MAX];
        assert_non_null(mkdtemp(directory));
        (void)snprintf(text, sizeof(text), i == 0 ? "%s" : "%s%s/s", addresses[i], directory);
        server_open(&server, text);
        int peer = connect_pair(&server, &client);
        struct transport *transport = &client.socket.transport;
        size_t length;
        size_t sent = 0;
        enum error_code error;
        while ((error = transport_write(transport, bytes, sizeof(bytes), &length)) == ERROR_NONE) {
            sent += length;
            if (length < sizeof(bytes)) {
                break;
            }
        }
        assert_int_equal(client.socket.output, SOCKET_OUTPUT_BLOCKED); /* also after a write that took a part */
        assert_int_equal(transport_write(transport, bytes, 1, &length), ERROR_WOULD_BLOCK);
        assert_int_equal(length, 0);
        size_t received = 0;
        client.events = 0;
        while (received < sent) {
            ssize_t count = read(peer, bytes, sizeof(bytes));
            if (count < 0) {
                assert_int_equal(errno, EAGAIN);
                loop_run_once(loop, 1);
                continue;
            }
            received += (size_t)count;
        }
        wait_for_event(&client, TRANSPORT_WRITABLE);
        assert_int_equal(transport_write(transport, "x", 1, &length), ERROR_NONE);
        assert_int_equal(length, 1);
        /* A write that took all asks for no event: data from the peer brings READABLE only. */
        plain_write(peer, "y");
        wait_for_event(&client, TRANSPORT_READABLE);
        assert_int_equal(client.events & TRANSPORT_WRITABLE, 0);
        close(peer);
        end_close(&client);
        server_close(&server);
        if (i == 1) {
            assert_int_equal(unlink(text + 5), 0);
        }
        assert_int_equal(rmdir(directory), 0);
    }
}

static void a_reset_is_told_apart_from_an_end(void **state)
{
    (void)state;
    struct server server;
    struct end client;
    struct end other;
    char bytes[16];
    size_t length;
    server_open(&server, "127.0.0.1:0");
    int peer = connect_pair(&server, &client);
    memset(&other, 0, sizeof(other));
    assert_int_equal(socket_transport_open(&other.socket, loop, peer, &end_binding), ERROR_NONE);
    transport_close(&client.socket.transport, TRANSPORT_CLOSE_RESET);
    wait_for_event(&other, TRANSPORT_READABLE | TRANSPORT_WRITABLE);
    assert_int_equal(transport_read(&other.socket.transport, bytes, sizeof(bytes), &length), ERROR_PEER_RESET);
    assert_int_equal(transport_write(&other.socket.transport, "x", 1, &length), ERROR_PEER_RESET); /* and no SIGPIPE */
    end_close(&other);

    peer = connect_pair(&server, &client);
    memset(&other, 0, sizeof(other));
    assert_int_equal(socket_transport_open(&other.socket, loop, peer, &end_binding), ERROR_NONE);
    end_close(&client);
    wait_for_event(&other, TRANSPORT_READABLE);
    assert_int_equal(transport_read(&other.socket.transport, bytes, sizeof(bytes), &length), ERROR_NONE);
    assert_int_equal(length, 0);
    end_close(&other);
    server_close(&server);
}

static void a_transport_does_not_delay_small_writes(void **state)
{
    (void)state;
    struct server server;
    struct end client;
    int on = 0;
    socklen_t length = sizeof(on);
    server_open(&server, "127.0.0.1:0");
    int peer = connect_pair(&server, &client);
    assert_int_equal(getsockopt(client.socket.source.fd, IPPROTO_TCP, TCP_NODELAY, &on, &length), 0);
    assert_true(on);
    socket_tune_trunk(&client.socket, 12345, 65536);
    unsigned value = 0;
    length = sizeof(value);
    assert_int_equal(getsockopt(client.socket.source.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &length), 0);
    assert_int_equal(value, 12345);
    assert_int_equal(getsockopt(client.socket.source.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, &length), 0);
    assert_int_equal(value, 65536);
    close(peer);
    end_close(&client);
    server_close(&server);
}

static void a_released_descriptor_works_on_another_loop(void **state)
{
    (void)state;
    struct server server;
    struct end client;
    struct loop *first = loop;
    struct loop *second;
    char bytes[4];
    size_t length;
    server_open(&server, "127.0.0.1:0");
    int peer = connect_pair(&server, &client);
    assert_int_equal(loop_new(&second), ERROR_NONE);
    int fd = socket_transport_release(&client.socket);
    assert_true(fd >= 0);
    assert_null(client.socket.transport.binding);
    assert_int_equal(socket_transport_release(&client.socket), -1);
    assert_int_equal(socket_transport_open(&client.socket, second, fd, &end_binding), ERROR_NONE);
    plain_write(peer, "x");
    loop = second;
    wait_for_event(&client, TRANSPORT_READABLE);
    assert_int_equal(transport_read(&client.socket.transport, bytes, sizeof(bytes), &length), ERROR_NONE);
    assert_int_equal(length, 1);
    end_close(&client);
    loop_free(&second);
    loop = first;
    close(peer);
    server_close(&server);
}

static void a_refused_connection_is_unreachable_whatever_is_tried_first(void **state)
{
    (void)state;
    for (int first = 0; first < 3; first++) {
        struct server server;
        struct end client;
        char bytes[4];
        size_t length;
        server_open(&server, "127.0.0.1:0");
        server_close(&server); /* the port is free, and nobody listens */
        memset(&client, 0, sizeof(client));
        enum error_code error = socket_connect(&client.socket, loop, NULL, &server.address, &end_binding);
        if (error == ERROR_NONE) {
            struct transport *transport = &client.socket.transport;
            wait_for_event(&client, TRANSPORT_WRITABLE);
            if (first == 0) {
                assert_int_equal(transport_write(transport, "x", 1, &length), ERROR_UNREACHABLE);
            } else if (first == 1) {
                assert_int_equal(transport_read(transport, bytes, sizeof(bytes), &length), ERROR_UNREACHABLE);
            } else {
                assert_int_equal(socket_connected(&client.socket), ERROR_UNREACHABLE);
            }
            assert_int_equal(errno, ECONNREFUSED);
            errno = 0;
            assert_int_equal(transport_write(transport, "x", 1, &length), ERROR_UNREACHABLE);
            assert_int_equal(errno, ECONNREFUSED);
            errno = 0;
            assert_int_equal(socket_connected(&client.socket), ERROR_UNREACHABLE);
            assert_int_equal(errno, ECONNREFUSED);
            end_close(&client);
        } else {
            assert_int_equal(error, ERROR_UNREACHABLE);
            assert_int_equal(errno, ECONNREFUSED);
        }
    }
}

static void a_connection_attempt_that_waits_is_neither_there_nor_failed(void **state)
{
    (void)state;
    /* A backlog of nothing that is full: the next SYN is dropped, so its attempt goes on. */
    struct address address;
    struct end clients[8];
    char bytes[4];
    size_t length;
    assert_int_equal(address_parse("127.0.0.1:0", false, &address), ERROR_NONE);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, &address.u.any, address.length), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(socket_local_address(fd, &address), ERROR_NONE);
    enum error_code last = ERROR_NONE;
    size_t count = 0;
    memset(clients, 0, sizeof(clients));
    while (count < 8 && last == ERROR_NONE) {
        assert_int_equal(socket_connect(&clients[count].socket, loop, NULL, &address, &end_binding), ERROR_NONE);
        loop_run_once(loop, 0);
        last = socket_connected(&clients[count].socket);
        count++;
    }
    assert_int_equal(last, ERROR_AGAIN_LATER);
    struct transport *transport = &clients[count - 1].socket.transport;
    assert_int_equal(clients[count - 1].calls, 0);
    assert_int_equal(transport_write(transport, "x", 1, &length), ERROR_WOULD_BLOCK);
    assert_int_equal(transport_read(transport, bytes, sizeof(bytes), &length), ERROR_WOULD_BLOCK);
    assert_int_equal(socket_connected(&clients[count - 1].socket), ERROR_AGAIN_LATER);
    for (size_t i = 0; i < count; i++) {
        end_close(&clients[i]);
    }
    close(fd);
}

static void an_address_that_cannot_be_used_says_why(void **state)
{
    (void)state;
    struct server server;
    struct address address;
    struct end client;
    int fd = 0;
    server_open(&server, "127.0.0.1:0");
    assert_int_equal(socket_listen(&server.address, false, &fd), ERROR_ADDRESS_IN_USE);
    assert_int_equal(fd, -1);
    assert_int_equal(errno, EADDRINUSE);
    assert_int_equal(address_parse("192.0.2.1:0", false, &address), ERROR_NONE);
    assert_int_equal(socket_listen(&address, false, &fd), ERROR_UNREACHABLE);
    assert_int_equal(address_parse("unix:/nonexistent/directory/s", false, &address), ERROR_NONE);
    assert_int_equal(socket_listen(&address, false, &fd), ERROR_SYSTEM);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(socket_connect(&client.socket, loop, NULL, &address, &end_binding), ERROR_UNREACHABLE);
    assert_int_equal(errno, ENOENT);
    memset(&address, 0, sizeof(address));
    assert_int_equal(socket_connect(&client.socket, loop, NULL, &address, &end_binding), ERROR_UNREACHABLE);
    assert_int_equal(socket_local_address(-1, &address), ERROR_SYSTEM);
    server_close(&server);
}

static void listeners_share_a_port_when_asked(void **state)
{
    (void)state;
    struct address address;
    int first;
    int second;
    assert_int_equal(address_parse("127.0.0.1:0", false, &address), ERROR_NONE);
    assert_int_equal(socket_listen(&address, true, &first), ERROR_NONE);
    assert_int_equal(socket_local_address(first, &address), ERROR_NONE);
    assert_int_not_equal(address.u.ip4.sin_port, 0);
    assert_int_equal(socket_listen(&address, true, &second), ERROR_NONE);
    close(first);
    close(second);
}

static void ip6_listeners_leave_ip4_alone(void **state)
{
    (void)state;
    enum error_code error = ERROR_ADDRESS_IN_USE;
    /* Somebody else on this machine may have the same IPv4 port: then another one is tried. */
    for (int attempt = 0; attempt < 20 && error == ERROR_ADDRESS_IN_USE; attempt++) {
        struct address ip6;
        struct address ip4;
        int first = -1;
        int second = -1;
        assert_int_equal(address_parse("[::]:0", false, &ip6), ERROR_NONE);
        assert_int_equal(socket_listen(&ip6, false, &first), ERROR_NONE);
        assert_int_equal(socket_local_address(first, &ip6), ERROR_NONE);
        assert_int_equal(address_parse("127.0.0.1:0", false, &ip4), ERROR_NONE);
        ip4.u.ip4.sin_port = ip6.u.ip6.sin6_port;
        error = socket_listen(&ip4, false, &second);
        close(first);
        if (error == ERROR_NONE) {
            close(second);
        }
    }
    assert_int_equal(error, ERROR_NONE);
}

static void a_stale_path_is_replaced_but_nothing_else(void **state)
{
    (void)state;
    char directory[] = "/tmp/socket-test-XXXXXX";
    char text[ADDRESS_TEXT_MAX];
    struct address address;
    int fd;
    int other;
    assert_non_null(mkdtemp(directory));
    (void)snprintf(text, sizeof(text), "unix:%s/s", directory);
    assert_int_equal(address_parse(text, false, &address), ERROR_NONE);
    assert_int_equal(socket_listen(&address, true, &fd), ERROR_NONE);
    assert_int_equal(socket_listen(&address, true, &other), ERROR_ADDRESS_IN_USE); /* somebody listens */
    close(fd);
    assert_int_equal(access(text + 5, F_OK), 0);
    assert_int_equal(socket_listen(&address, true, &fd), ERROR_NONE); /* nobody does any more */
    close(fd);
    assert_int_equal(unlink(text + 5), 0);
    fd = open(text + 5, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(socket_listen(&address, true, &other), ERROR_ADDRESS_IN_USE); /* a file of somebody's */
    assert_int_equal(access(text + 5, F_OK), 0);
    assert_int_equal(unlink(text + 5), 0);
    assert_int_equal(rmdir(directory), 0);
}

static int plain_connect(const struct address *address)
{
    int fd = socket(address->u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, &address->u.any, address->length), 0);
    return fd;
}

static void one_event_accepts_a_bounded_number(void **state)
{
    (void)state;
    struct server server;
    int clients[100];
    server_open(&server, "127.0.0.1:0");
    for (size_t i = 0; i < 100; i++) {
        clients[i] = plain_connect(&server.address);
    }
    for (size_t turn = 1; turn <= 6; turn++) {
        loop_run_once(loop, 100);
        assert_int_equal(server.count, turn * 16);
    }
    loop_run_once(loop, 100);
    assert_int_equal(server.count, 100);
    assert_int_equal(server.listener.accepted, 100);
    for (size_t i = 0; i < 100; i++) {
        close(clients[i]);
    }
    server_close(&server);
}

static void a_listener_may_be_stopped_while_it_accepts(void **state)
{
    (void)state;
    struct server server;
    int clients[3];
    server_open(&server, "127.0.0.1:0");
    server.stop_at = 2;
    for (size_t i = 0; i < 3; i++) {
        clients[i] = plain_connect(&server.address);
    }
    wait_for_accepts(&server, 2);
    loop_run_once(loop, 0);
    assert_int_equal(server.count, 2);
    assert_null(server.listener.loop);
    for (size_t i = 0; i < 3; i++) {
        close(clients[i]);
    }
    server_close(&server);
}

static void out_of_files_accepting_pauses_and_recovers(void **state)
{
    (void)state;
    struct server server;
    struct rlimit before;
    server_open(&server, "127.0.0.1:0");
    int client = plain_connect(&server.address);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit tight = before;
    tight.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    struct end refused;
    enum error_code error = socket_connect(&refused.socket, loop, NULL, &server.address, &end_binding);
    loop_run_once(loop, 100);
    uint64_t pauses = server.listener.pauses;
    /* The connection still waits, but its event does not come again: the loop would spin otherwise. */
    loop_run_once(loop, 0);
    loop_run_once(loop, 0);
    uint64_t pauses_later = server.listener.pauses;
    /* The pause passes, in a time that is made up, and files are still out. */
    scheduler_advance(loop_scheduler(loop), loop_scheduler(loop)->now_us + 101000);
    loop_run_once(loop, 100);
    uint64_t pauses_after_retry = server.listener.pauses;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(error, ERROR_NO_FILES);
    assert_int_equal(pauses, 1);
    assert_int_equal(pauses_later, 1);
    assert_int_equal(pauses_after_retry, 2);
    assert_int_equal(server.count, 0);
    scheduler_advance(loop_scheduler(loop), loop_scheduler(loop)->now_us + 101000);
    loop_run_once(loop, 100);
    assert_int_equal(server.count, 1);
    close(client);
    server_close(&server);
}

static void a_listener_is_stopped_within_a_pause(void **state)
{
    (void)state;
    struct server server;
    struct rlimit before;
    server_open(&server, "127.0.0.1:0");
    int client = plain_connect(&server.address);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit tight = before;
    tight.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    loop_run_once(loop, 100);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(server.listener.pauses, 1);
    server_close(&server);
    assert_int_equal(loop_scheduler(loop)->timers.armed, 0);
    close(client);
}

static void what_cannot_be_watched_is_closed(void **state)
{
    (void)state;
    struct end end;
    struct listener listener;
    char path[] = "/tmp/socket-test-XXXXXX";
    int fd = mkstemp(path); /* epoll takes no regular files */
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(socket_transport_open(&end.socket, loop, fd, &end_binding), ERROR_SYSTEM);
    assert_null(end.socket.transport.binding);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    fd = dup(STDERR_FILENO); /* no socket */
    assert_int_equal(listener_start(&listener, loop, fd, server_accept, NULL), ERROR_SYSTEM);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    listener_stop(&listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_and_the_end_arrive, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_short_read_is_not_tried_again_before_the_next_event, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_hangup_behind_the_bytes_is_read_without_another_event, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_blocked_write_goes_on_when_the_peer_reads, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_reset_is_told_apart_from_an_end, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_transport_does_not_delay_small_writes, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_released_descriptor_works_on_another_loop, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_refused_connection_is_unreachable_whatever_is_tried_first, open_loop,
                                        close_loop),
        cmocka_unit_test_setup_teardown(a_connection_attempt_that_waits_is_neither_there_nor_failed, open_loop,
                                        close_loop),
        cmocka_unit_test_setup_teardown(an_address_that_cannot_be_used_says_why, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(listeners_share_a_port_when_asked, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(ip6_listeners_leave_ip4_alone, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_stale_path_is_replaced_but_nothing_else, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(one_event_accepts_a_bounded_number, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_listener_may_be_stopped_while_it_accepts, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(out_of_files_accepting_pauses_and_recovers, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_listener_is_stopped_within_a_pause, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(what_cannot_be_watched_is_closed, open_loop, close_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
