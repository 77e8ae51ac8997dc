/*
 * The acceptor's trunk against a stock HTTP/2 client (nghttp2) that does what our own opener never does: other
 * methods, broken or oversized fields, more streams than announced, bytes before the answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <string.h>

#include "mux/limits.h"
#include "mux/memory.h"
#include "mux/tls.h"
#include "tests/unit/trunk_pair.h"

/* What the stock client saw of its latest streams, by identifier. */
struct answer {
    int status;
    size_t body;
    int closed;
    uint32_t code;
};

#define ANSWERS 4096

struct stock {
    nghttp2_session *h2;
    struct trunk_pair pair; /* only its acceptor is used */
    struct answer answers[ANSWERS];
    int goaways;
};

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                     const uint8_t *value, size_t value_length, uint8_t flags, void *user_data)
{
    struct stock *stock = user_data;
    (void)h2;
    (void)flags;
    (void)value_length;
    if (name_length == 7 && memcmp(name, ":status", 7) == 0) {
        stock->answers[frame->hd.stream_id].status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
    }
    return 0;
}

static int on_chunk(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *bytes, size_t length,
                    void *user_data)
{
    (void)h2;
    (void)flags;
    (void)bytes;
    ((struct stock *)user_data)->answers[id].body += length;
    return 0;
}

static int on_close(nghttp2_session *h2, int32_t id, uint32_t code, void *user_data)
{
    (void)h2;
    struct answer *answer = &((struct stock *)user_data)->answers[id];
    answer->closed = 1;
    answer->code = code;
    return 0;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *user_data)
{
    (void)h2;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        ((struct stock *)user_data)->goaways++;
    }
    return 0;
}

static void stock_pump(struct stock *stock)
{
    bool moved = true;
    while (moved) {
        moved = false;
        const uint8_t *bytes = NULL;
        ssize_t sent;
        while ((sent = nghttp2_session_mem_send(stock->h2, &bytes)) > 0) {
            moved = true;
            assert_int_equal(trunk_receive(stock->pair.acceptor.trunk, bytes, (size_t)sent), ERROR_NONE);
        }
        assert_int_equal(sent, 0);
        scheduler_run_tasks(&stock->pair.scheduler);
        uint8_t record[TLS_RECORD_MAX_BYTES];
        size_t length = 0;
        assert_int_equal(trunk_send(stock->pair.acceptor.trunk, record, sizeof(record), &length), ERROR_NONE);
        if (length > 0) {
            moved = true;
            assert_int_equal(nghttp2_session_mem_recv(stock->h2, record, length), length);
        }
    }
}

/* 200 bytes of padding in every DATA frame. */
static ssize_t on_select_padding(nghttp2_session *h2, const nghttp2_frame *frame, size_t longest, void *user_data)
{
    (void)h2;
    (void)user_data;
    size_t padded = frame->hd.length + 200;
    return (ssize_t)(padded < longest ? padded : longest);
}

static void stock_init(struct stock *stock, const struct trunk_settings *acceptor, uint32_t ignore_limit)
{
    memset(stock, 0, sizeof(*stock));
    assert_int_equal(pair_init(&stock->pair, NULL, acceptor), ERROR_NONE);
    /* The pair's own opener has done its part: the stock client takes its place, with a fresh acceptor. */
    struct trunk_settings settings;
    trunk_settings_init(&settings, TRUNK_ACCEPTOR);
    trunk_free(&stock->pair.acceptor.trunk);
    assert_int_equal(trunk_new(&stock->pair.acceptor.trunk, acceptor != NULL ? acceptor : &settings,
                               &stock->pair.scheduler, &stock->pair.acceptor.carrier, &pair_acceptor_events,
                               &stock->pair.acceptor),
                     ERROR_NONE);
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    assert_int_equal(nghttp2_option_new(&option), 0);
    nghttp2_option_set_no_http_messaging(option, 1); /* so that it sends what it should not */
    if (ignore_limit > 0) {
        nghttp2_option_set_peer_max_concurrent_streams(option, ignore_limit);
    }
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_select_padding_callback(callbacks, on_select_padding);
    assert_int_equal(nghttp2_session_client_new2(&stock->h2, callbacks, stock, option), 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    assert_int_equal(nghttp2_submit_settings(stock->h2, NGHTTP2_FLAG_NONE, NULL, 0), 0);
}

static void stock_dispose(struct stock *stock)
{
    nghttp2_session_del(stock->h2);
    pair_dispose(&stock->pair);
}

static nghttp2_nv pair_of(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NONE};
}

static int32_t request(struct stock *stock, const nghttp2_nv *pairs, size_t count, bool end)
{
    int32_t id = nghttp2_submit_headers(stock->h2, end ? NGHTTP2_FLAG_END_STREAM : NGHTTP2_FLAG_NONE, -1, NULL, pairs,
                                        count, NULL);
    assert_true(id > 0 && id < ANSWERS);
    return id;
}

static int32_t connect_to(struct stock *stock, const char *service)
{
    nghttp2_nv pairs[] = {pair_of(":method", "CONNECT"), pair_of(":authority", service)};
    return request(stock, pairs, 2, false);
}

static void expect_refusal(struct stock *stock, int32_t id, int status)
{
    stock_pump(stock);
    assert_int_equal(stock->answers[id].status, status);
    assert_true(stock->answers[id].body > 10);
    assert_true(stock->answers[id].closed);
    assert_int_equal(stock->answers[id].code, NGHTTP2_NO_ERROR);
    assert_int_equal(trunk_stream_count(stock->pair.acceptor.trunk), 0);
}

/* After whatever the peer did, a proper CONNECT is served on the same trunk. */
static void expect_still_serving(struct stock *stock)
{
    int32_t id = connect_to(stock, "echo");
    stock_pump(stock);
    assert_int_equal(stock->answers[id].status, 200);
    assert_false(stock->answers[id].closed);
    assert_int_equal(stock->goaways, 0);
}

static void other_methods_get_405_with_a_body(void **state)
{
    (void)state;
    static struct stock stock;
    stock_init(&stock, NULL, 0);
    nghttp2_nv get[] = {pair_of(":method", "GET"), pair_of(":scheme", "https"), pair_of(":path", "/"),
                        pair_of(":authority", "echo")};
    expect_refusal(&stock, request(&stock, get, 4, true), 405);
    get[0] = pair_of(":method", "POST");
    expect_refusal(&stock, request(&stock, get, 4, false), 405);
    assert_int_equal(stock.pair.acceptor.refusals, 2);
    assert_int_equal(stock.pair.acceptor.refusal, ERROR_METHOD_NOT_ALLOWED);
    expect_still_serving(&stock);
    stock_dispose(&stock);
}

static void broken_fields_get_400(void **state)
{
    (void)state;
    static struct stock stock;
    stock_init(&stock, NULL, 0);
    nghttp2_nv pairs[] = {pair_of(":method", "CONNECT"), pair_of(":authority", "echo"),
                          pair_of("forwarded", "for=somewhere")};
    expect_refusal(&stock, request(&stock, pairs, 3, false), 400);
    assert_int_equal(stock.pair.acceptor.refusal, ERROR_BAD_METADATA);
    expect_still_serving(&stock);
    stock_dispose(&stock);
}

static void oversized_fields_get_431(void **state)
{
    (void)state;
    static struct stock stock;
    static char large[30000];
    memset(large, 'x', sizeof(large) - 1);
    stock_init(&stock, NULL, 0);
    nghttp2_nv pairs[] = {pair_of(":method", "CONNECT"), pair_of(":authority", "echo"), pair_of("x-large", large)};
    expect_refusal(&stock, request(&stock, pairs, 3, false), 431);
    assert_int_equal(stock.pair.acceptor.refusal, ERROR_METADATA_TOO_LARGE);
    expect_still_serving(&stock);
    stock_dispose(&stock);
}

/* RFC 9113 section 8.5: CONNECT has no :path; nghttp2 resets such a stream as malformed. */
static void a_malformed_connect_is_reset_and_nothing_else(void **state)
{
    (void)state;
    static struct stock stock;
    stock_init(&stock, NULL, 0);
    nghttp2_nv pairs[] = {pair_of(":method", "CONNECT"), pair_of(":authority", "echo"), pair_of(":path", "/")};
    int32_t id = request(&stock, pairs, 3, false);
    stock_pump(&stock);
    assert_true(stock.answers[id].closed);
    assert_int_equal(stock.answers[id].code, NGHTTP2_PROTOCOL_ERROR);
    expect_still_serving(&stock);
    stock_dispose(&stock);
}

static void streams_beyond_the_announced_limit_are_refused_one_by_one(void **state)
{
    (void)state;
    static struct stock stock;
    struct trunk_settings acceptor;
    trunk_settings_init(&acceptor, TRUNK_ACCEPTOR);
    acceptor.sessions_max = 3;
    stock_init(&stock, &acceptor, 1000);
    int32_t ids[5];
    for (size_t i = 0; i < 5; i++) { /* before the client has seen the limit */
        ids[i] = connect_to(&stock, "echo");
    }
    stock_pump(&stock);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(stock.answers[ids[i]].status, i < 3 ? 200 : 0);
        assert_int_equal(stock.answers[ids[i]].closed, i >= 3);
        if (i >= 3) {
            assert_int_equal(stock.answers[ids[i]].code, NGHTTP2_REFUSED_STREAM);
        }
    }
    assert_int_equal(stock.goaways, 0);
    /* Bytes of the others still flow. */
    nghttp2_submit_rst_stream(stock.h2, NGHTTP2_FLAG_NONE, ids[0], NGHTTP2_CANCEL);
    stock_pump(&stock);
    expect_still_serving(&stock);
    stock_dispose(&stock);
}

/* A peer that has acknowledged the limit and goes over it all the same. Its frames are made by hand, because no stock
 * client sends them. */
static void a_peer_that_ignores_the_limit_loses_only_what_is_over_it(void **state)
{
    (void)state;
    static struct stock stock;
    struct trunk_settings acceptor;
    trunk_settings_init(&acceptor, TRUNK_ACCEPTOR);
    acceptor.sessions_max = 1;
    stock_init(&stock, &acceptor, 0);
    stock_pump(&stock);
    int32_t id = connect_to(&stock, "echo");
    stock_pump(&stock);
    assert_int_equal(stock.answers[id].status, 200);

    /* HEADERS, END_HEADERS, stream 3: ":method: CONNECT", ":authority: echo", literals without indexing. */
    static const uint8_t over[] = {0,   0,   15,  1,   4,   0,   0,    0, 3,   0x02, 7,   'C',
                                   'O', 'N', 'N', 'E', 'C', 'T', 0x01, 4, 'e', 'c',  'h', 'o'};
    struct trunk *trunk = stock.pair.acceptor.trunk;
    uint8_t record[TLS_RECORD_MAX_BYTES];
    size_t length = 0;
    assert_int_equal(trunk_receive(trunk, over, sizeof(over)), ERROR_NONE);
    assert_int_equal(trunk_send(trunk, record, sizeof(record), &length), ERROR_NONE);
    static const uint8_t reset[] = {0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, 7}; /* RST_STREAM(REFUSED_STREAM) */
    assert_int_equal(length, sizeof(reset));
    assert_memory_equal(record, reset, sizeof(reset));
    assert_int_equal(stock.pair.acceptor.refusal, ERROR_LIMIT);
    assert_int_equal(stock.pair.acceptor.failure, ERROR_NONE);
    assert_true(trunk_stream_attached(&pair_accepted(&stock.pair, 0)->stream));
    stock_dispose(&stock);
}

#define PADDED_BYTES 3000000U

static ssize_t on_read_source(nghttp2_session *h2, int32_t id, uint8_t *into, size_t length, uint32_t *flags,
                              nghttp2_data_source *source, void *user_data)
{
    size_t *left = source->ptr;
    size_t part = length < 1000 ? length : 1000;
    (void)h2;
    (void)id;
    (void)user_data;
    part = part < *left ? part : *left;
    memset(into, 'x', part);
    *left -= part;
    if (*left == 0) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)part;
}

/* Padding counts towards windows (RFC 9113 section 6.9.1), and nobody consumes it but the engine. */
static void padded_data_does_not_shrink_the_window(void **state)
{
    (void)state;
    static struct stock stock;
    stock_init(&stock, NULL, 0);
    int32_t id = connect_to(&stock, "echo");
    stock_pump(&stock);
    assert_int_equal(stock.answers[id].status, 200);
    size_t left = PADDED_BYTES;
    nghttp2_data_provider provider = {.source = {.ptr = &left}, .read_callback = on_read_source};
    assert_int_equal(nghttp2_submit_data(stock.h2, NGHTTP2_FLAG_END_STREAM, id, &provider), 0);
    stock_pump(&stock);
    assert_int_equal(pair_accepted(&stock.pair, 0)->received_length, PADDED_BYTES);
    assert_int_equal(pair_accepted(&stock.pair, 0)->ended, 1);
    stock_dispose(&stock);
}

/* A peer that asks and never reads the answers: what it is owed is bounded. */
static void a_peer_that_never_reads_is_bounded(void **state)
{
    (void)state;
    static struct stock stock;
    struct trunk_settings acceptor;
    trunk_settings_init(&acceptor, TRUNK_ACCEPTOR);
    acceptor.sessions_max = 100;
    stock_init(&stock, &acceptor, 1000000);
    const nghttp2_nv get[] = {pair_of(":method", "GET"), pair_of(":scheme", "https"), pair_of(":path", "/"),
                              pair_of(":authority", "echo")};
    enum error_code error = ERROR_NONE;
    int asked = 0;
    for (; asked < 50000 && error == ERROR_NONE; asked++) {
        const uint8_t *bytes = NULL;
        assert_true(nghttp2_submit_headers(stock.h2, NGHTTP2_FLAG_END_STREAM, -1, NULL, get, 4, NULL) > 0);
        ssize_t length = nghttp2_session_mem_send(stock.h2, &bytes);
        assert_true(length > 0);
        /* So slowly that its budget does not end it. */
        scheduler_set_time(&stock.pair.scheduler, stock.pair.scheduler.now_us + 10000);
        error = trunk_receive(stock.pair.acceptor.trunk, bytes, (size_t)length);
    }
    assert_int_equal(error, ERROR_TRUNK_FLOODED);
    assert_true(asked < 12000);
    stock_dispose(&stock);
}

static void a_status_of_the_handler_reaches_the_client(void **state)
{
    (void)state;
    static struct stock stock;
    stock_init(&stock, NULL, 0);
    stock.pair.hold = true;
    int32_t id = connect_to(&stock, "nothing");
    stock_pump(&stock);
    trunk_stream_refuse(&pair_accepted(&stock.pair, 0)->stream, 404, "no service has this name\n");
    expect_refusal(&stock, id, 404);
    stock_dispose(&stock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_methods_get_405_with_a_body),
        cmocka_unit_test(broken_fields_get_400),
        cmocka_unit_test(oversized_fields_get_431),
        cmocka_unit_test(a_malformed_connect_is_reset_and_nothing_else),
        cmocka_unit_test(streams_beyond_the_announced_limit_are_refused_one_by_one),
        cmocka_unit_test(a_peer_that_ignores_the_limit_loses_only_what_is_over_it),
        cmocka_unit_test(padded_data_does_not_shrink_the_window),
        cmocka_unit_test(a_peer_that_never_reads_is_bounded),
        cmocka_unit_test(a_status_of_the_handler_reaches_the_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
