/*
 * The forward handler between a real trunk in memory and a backend on a Unix socket or on loopback, which the test
 * plays itself: bytes, ends and resets both ways, back-pressure, PROXY headers, and backends that cannot be reached.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/handlers/handlers.h"
#include "core/handlers/proxy_header.h"
#include "core_pair.h"
#include "mux/clock.h"
#include "mux/log.h"

#define BYTES  3000000U
#define WINDOW 65535U

static struct core_pair pair;
static struct core_client client;
static int listener = -1;
static int backend = -1;
static uint8_t *sent;
static uint8_t *back;
static char directory[] = "/tmp/forward_test_XXXXXX";
static char path[64];

static int start_all(void **state)
{
    struct random_state random;

    (void)state;
    log_configure(LOG_ERROR, LOG_FORMAT_TEXT);
    sent = malloc(BYTES);
    back = malloc(BYTES);
    assert_non_null(sent);
    assert_non_null(back);
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/backend", directory);
    random_seed(&random, 99);
    for (size_t i = 0; i < BYTES; i++) {
        sent[i] = (uint8_t)random_next(&random);
    }
    return 0;
}

static int finish_all(void **state)
{
    (void)state;
    free(sent);
    free(back);
    rmdir(directory);
    return 0;
}

static void listen_on(const struct sockaddr *address, socklen_t length)
{
    listener = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, address, length), 0);
    assert_int_equal(listen(listener, 10), 0);
}

/* Listens on loopback and writes "127.0.0.1:PORT" with `suffix` to `argument`. */
static void listen_loopback(char argument[128], const char *suffix)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);

    listen_on((struct sockaddr *)&address, sizeof(address));
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    snprintf(argument, 128, "127.0.0.1:%u%s", ntohs(address.sin_port), suffix);
}

static void listen_local(char argument[128])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    unlink(path);
    listen_on((struct sockaddr *)&address, sizeof(address));
    snprintf(argument, 128, "unix:%s", path);
}

static void open_client(const char *argument)
{
    assert_int_equal(core_pair_init(&pair, &handler_forward, argument, true, WINDOW), ERROR_NONE);
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_pair_pump(&pair);
}

/* Opens a client and accepts its connection at the backend. */
static void connect_through(const char *argument)
{
    open_client(argument);
    core_pair_await(&pair, &client.opened, 1);
    backend = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(backend >= 0);
}

static int finish(void **state)
{
    (void)state;
    core_client_dispose(&client);
    core_pair_dispose(&pair);
    if (backend >= 0) {
        close(backend);
        backend = -1;
    }
    if (listener >= 0) {
        close(listener);
        listener = -1;
    }
    unlink(path);
    return 0;
}

/* The backend reads exactly `wanted` bytes, while everything else goes on. */
static void backend_read(uint8_t *into, size_t wanted)
{
    size_t length = 0;

    for (int idle = 0; length < wanted && idle < 1000;) {
        ssize_t count = recv(backend, into + length, wanted - length, 0);

        if (count > 0) {
            length += (size_t)count;
            idle = 0;
            continue;
        }
        assert_true(count < 0 && errno == EAGAIN);
        core_pair_pump(&pair);
        loop_run_once(pair.loop, 1);
        idle++;
    }
    assert_int_equal(length, wanted);
}

/* What the backend's next read brings that is not "nothing yet": 0 an end, -1 an error. */
static ssize_t backend_outcome(void)
{
    uint8_t byte;

    for (int i = 0; i < 1000; i++) {
        ssize_t count = recv(backend, &byte, 1, 0);

        if (count >= 0 || errno != EAGAIN) {
            return count;
        }
        core_pair_pump(&pair);
        loop_run_once(pair.loop, 1);
    }
    fail_msg("the backend heard nothing");
    return 1;
}

static void backend_write(const uint8_t *bytes, size_t length)
{
    size_t written = 0;

    for (int idle = 0; written < length && idle < 1000;) {
        ssize_t count = send(backend, bytes + written, length - written, MSG_NOSIGNAL);

        if (count > 0) {
            written += (size_t)count;
            idle = 0;
            continue;
        }
        assert_int_equal(errno, EAGAIN);
        core_pair_pump(&pair);
        loop_run_once(pair.loop, 1);
        idle++;
    }
    assert_int_equal(written, length);
}

static void backend_reset(void)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};

    assert_int_equal(setsockopt(backend, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    close(backend);
    backend = -1;
}

static void every_byte_passes_both_ways_and_each_end_by_itself(void **state)
{
    char argument[128];

    (void)state;
    listen_loopback(argument, "");
    connect_through(argument);
    core_client_send(&client, sent, BYTES, true);
    backend_read(back, BYTES);
    assert_memory_equal(sent, back, BYTES);
    assert_int_equal(backend_outcome(), 0); /* FIN */
    assert_int_equal(client.ended, 0);
    backend_write(sent, BYTES);
    close(backend);
    backend = -1;
    core_pair_await(&pair, &client.closed, 1);
    assert_int_equal(client.error, ERROR_NONE);
    assert_int_equal(client.ended, 1);
    assert_int_equal(core_client_received(&client), BYTES);
    chain_copy(&client.received, 0, back, BYTES);
    assert_memory_equal(sent, back, BYTES);
}

static void a_unix_socket_serves_as_well(void **state)
{
    char argument[128];

    (void)state;
    listen_local(argument);
    connect_through(argument);
    core_client_send(&client, sent, BYTES, true);
    backend_read(back, BYTES);
    assert_memory_equal(sent, back, BYTES);
    assert_int_equal(backend_outcome(), 0);
    backend_write((const uint8_t *)"ok", 2);
    close(backend);
    backend = -1;
    core_pair_await(&pair, &client.closed, 1);
    assert_int_equal(client.error, ERROR_NONE);
    assert_int_equal(core_client_received(&client), 2);
}

static void the_backend_may_end_first_and_still_receive(void **state)
{
    char argument[128];

    (void)state;
    listen_loopback(argument, "");
    connect_through(argument);
    backend_write((const uint8_t *)"greeting", 8);
    assert_int_equal(shutdown(backend, SHUT_WR), 0);
    core_pair_await(&pair, &client.ended, 1);
    assert_int_equal(core_client_received(&client), 8);
    core_client_send(&client, sent, BYTES, true);
    backend_read(back, BYTES);
    assert_memory_equal(sent, back, BYTES);
    assert_int_equal(backend_outcome(), 0);
    core_pair_await(&pair, &client.closed, 1);
    assert_int_equal(client.error, ERROR_NONE);
}

static void a_slow_backend_gets_the_rest_after_both_directions_have_ended(void **state)
{
    char argument[128];

    (void)state;
    listen_local(argument); /* its buffers do not grow by themselves */
    connect_through(argument);
    assert_int_equal(shutdown(backend, SHUT_WR), 0);
    core_client_send(&client, sent, BYTES, true);
    core_pair_await(&pair, &client.ended, 1);
    for (int i = 0; i < 50; i++) {
        core_pair_pump(&pair);
        loop_run_once(pair.loop, 1);
    }
    assert_true(client.to_send_length > 0); /* nobody reads: the client is stopped */
    backend_read(back, BYTES);
    assert_memory_equal(sent, back, BYTES);
    assert_int_equal(backend_outcome(), 0);
}

static void a_client_that_does_not_read_stops_the_backend(void **state)
{
    char argument[128];
    size_t taken = 0;
    size_t written = 0;

    (void)state;
    listen_loopback(argument, "");
    connect_through(argument);
    client.consume = false;
    for (int idle = 0; idle < 100;) {
        ssize_t count = written < BYTES ? send(backend, sent + written, BYTES - written, MSG_NOSIGNAL) : -1;

        written += count > 0 ? (size_t)count : 0;
        idle = count > 0 ? 0 : idle + 1;
        core_pair_pump(&pair);
        loop_run_once(pair.loop, 1);
    }
    assert_int_equal(core_client_received(&client), WINDOW);
    while (taken < written) {
        size_t part = core_client_received(&client);

        chain_copy(&client.received, 0, back + taken, part);
        core_client_take(&client, part);
        taken += part;
        if (taken < written) {
            core_pair_await_bytes(&pair, &client, 1);
        }
    }
    assert_int_equal(taken, written);
    assert_memory_equal(sent, back, written);
}

static void a_reset_by_the_backend_is_no_clean_end(void **state)
{
    char argument[128];

    (void)state;
    listen_loopback(argument, "");
    connect_through(argument);
    backend_reset();
    core_pair_await(&pair, &client.closed, 1);
    assert_int_equal(client.ended, 0);
    assert_int_equal(client.error, ERROR_PEER_RESET);
    assert_int_equal(client.detail, TRUNK_CODE_CONNECT_ERROR);
}

static void a_reset_by_the_client_resets_the_backend(void **state)
{
    char argument[128];

    (void)state;
    listen_loopback(argument, "");
    connect_through(argument);
    trunk_stream_reset(&client.stream, TRUNK_CODE_CONNECT_ERROR);
    assert_int_equal(backend_outcome(), -1);
    assert_int_equal(errno, ECONNRESET);
}

static void a_backend_that_ended_and_went_away_does_not_spoil_its_answer(void **state)
{
    char argument[128];

    (void)state;
    listen_loopback(argument, "");
    connect_through(argument);
    backend_write((const uint8_t *)"answer", 6);
    close(backend); /* nothing was unread: a FIN; what comes now is answered with a reset */
    backend = -1;
    core_pair_await(&pair, &client.ended, 1);
    core_client_send(&client, sent, BYTES, true);
    core_pair_await(&pair, &client.closed, 1);
    assert_int_equal(client.error, ERROR_NONE);
    assert_int_equal(core_client_received(&client), 6);
}

static void an_unreachable_backend_is_a_502(void **state)
{
    char argument[128];

    (void)state;
    listen_loopback(argument, "");
    close(listener);
    listener = -1;
    open_client(argument);
    core_pair_await(&pair, &client.closed, 1);
    assert_int_equal(client.opened, 0);
    assert_int_equal(client.error, ERROR_REFUSED);
    assert_int_equal(client.detail, 502);
}

static void a_missing_unix_socket_is_a_502(void **state)
{
    (void)state;
    open_client("unix:/nonexistent/backend");
    core_pair_await(&pair, &client.closed, 1);
    assert_int_equal(client.error, ERROR_REFUSED);
    assert_int_equal(client.detail, 502);
}

static void a_backend_that_does_not_answer_is_given_up_in_time(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    char argument[128];
    int full[4];

    (void)state;
    /* A backlog that is full leaves the next connection unanswered. */
    listen_loopback(argument, ",connect-timeout=50");
    assert_int_equal(listen(listener, 0), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    for (size_t i = 0; i < 4; i++) {
        full[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_true(full[i] >= 0);
        assert_true(connect(full[i], (struct sockaddr *)&address, length) == 0 || errno == EINPROGRESS);
    }
    open_client(argument);
    core_pair_await(&pair, &client.closed, 1);
    assert_int_equal(client.error, ERROR_REFUSED);
    assert_int_equal(client.detail, 502);
    for (size_t i = 0; i < 4; i++) {
        close(full[i]);
    }
}

static void the_proxy_header_comes_before_the_first_byte(void **state)
{
    /* Signature; version 2, PROXY; TCP over IPv4; length; addresses and ports; ALPN; authority; TLS 1.3. */
    static const uint8_t expected[] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21,
                                       0x11, 0,    49,   192,  0,    2,    1,    198,  51,   100,  7,    0x13, 0x88,
                                       0x01, 0xbb, 1,    0,    2,    'h',  '2',  2,    0,    11,   'e',  'x',  'a',
                                       'm',  'p',  'l',  'e',  '.',  'c',  'o',  'm',  0x20, 0,    15,   1,    0,
                                       0,    0,    1,    0x21, 0,    7,    'T',  'L',  'S',  'v',  '1',  '.',  '3'};
    uint8_t header[sizeof(expected)];
    char argument[128];

    (void)state;
    listen_loopback(argument, ",proxy-v2");
    connect_through(argument);
    backend_read(header, sizeof(header));
    assert_memory_equal(header, expected, sizeof(expected));
    core_client_send(&client, sent, BYTES, true);
    backend_read(back, BYTES);
    assert_memory_equal(sent, back, BYTES);
    assert_int_equal(backend_outcome(), 0);
}

static void proxy_headers_know_mixed_families_and_certificates(void **state)
{
    /* A certificate's skeleton: version, serial, algorithm, issuer, validity, subject with CN "dev-7". */
    static const uint8_t certificate[] = {0x30, 34, 0x30, 32, 0xa0, 3,    2,    1,   2,    2,   1,    1,
                                          0x30, 0,  0x30, 0,  0x30, 0,    0x30, 16,  0x31, 14,  0x30, 12,
                                          6,    3,  0x55, 4,  3,    0x0c, 5,    'd', 'e',  'v', '-',  '7'};
    uint8_t header[PROXY_HEADER_MAX_BYTES];
    trunkline_client seen = {.service = "x",
                             .address = "192.0.2.1:50000",
                             .listener = "[2001:db8::1]:443",
                             .server_name = "",
                             .alpn = "",
                             .tls_version = 0x0303,
                             .certificate = certificate,
                             .certificate_length = sizeof(certificate)};
    size_t length = proxy_header_make(&seen, header);

    (void)state;
    assert_int_equal(header[13], 0x21);
    assert_int_equal(length, 16U + 36U + 3U + 5U + 3U + 7U + 3U + 5U);
    assert_int_equal(header[14] << 8 | header[15], length - 16);
    assert_memory_equal(header + 16, "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01", 16);
    assert_int_equal(header[55], 0x03); /* over TLS, with a certificate */
    assert_memory_equal(header + 56, "\0\0\0\0", 4);
    assert_memory_equal(header + length - 5, "dev-7", 5);

    seen = (trunkline_client){.address = "", .listener = "", .server_name = "", .alpn = ""};
    assert_int_equal(proxy_header_make(&seen, header), 16);
    assert_int_equal(header[13], 0);
}

int main(void)
{
#define FORWARD_TEST(name) cmocka_unit_test_teardown(name, finish)
    const struct CMUnitTest tests[] = {
        FORWARD_TEST(every_byte_passes_both_ways_and_each_end_by_itself),
        FORWARD_TEST(a_unix_socket_serves_as_well),
        FORWARD_TEST(the_backend_may_end_first_and_still_receive),
        FORWARD_TEST(a_slow_backend_gets_the_rest_after_both_directions_have_ended),
        FORWARD_TEST(a_client_that_does_not_read_stops_the_backend),
        FORWARD_TEST(a_reset_by_the_backend_is_no_clean_end),
        FORWARD_TEST(a_reset_by_the_client_resets_the_backend),
        FORWARD_TEST(a_backend_that_ended_and_went_away_does_not_spoil_its_answer),
        FORWARD_TEST(an_unreachable_backend_is_a_502),
        FORWARD_TEST(a_missing_unix_socket_is_a_502),
        FORWARD_TEST(a_backend_that_does_not_answer_is_given_up_in_time),
        FORWARD_TEST(the_proxy_header_comes_before_the_first_byte),
        cmocka_unit_test(proxy_headers_know_mixed_families_and_certificates),
    };

    return cmocka_run_group_tests(tests, start_all, finish_all);
}
