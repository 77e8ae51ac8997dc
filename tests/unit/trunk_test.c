/* The trunk engine against itself: streams, ends, windows, fairness, limits, liveness and failing memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "mux/limits.h"
#include "mux/memory.h"
#include "mux/tls.h"
#include "tests/unit/trunk_pair.h"

static void a_stream_carries_bytes_and_ends_cleanly_both_ways(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream stream;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    assert_true(pair.opener.ready);
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(stream.opened, 1);
    struct pair_stream *accepted = pair_accepted(&pair, 0);
    assert_non_null(accepted);
    assert_string_equal(accepted->metadata->service, "echo");
    assert_string_equal(accepted->metadata->server_name, "www.example.com");
    assert_string_equal(accepted->metadata->alpn, "h2");
    assert_int_equal(accepted->metadata->client.port, 5555);

    static uint8_t bytes[1000000];
    pair_fill(bytes, sizeof(bytes), 7);
    pair.split_max = 700;
    assert_int_equal(pair_send_all(&pair, &stream, bytes, sizeof(bytes)), ERROR_NONE);
    assert_int_equal(accepted->received_length, sizeof(bytes));
    assert_memory_equal(accepted->received, bytes, sizeof(bytes));
    /* Idle again, neither end holds more than the stream itself: windows are measured for a moment only. */
    assert_int_equal(pair_wait(&pair, 3000), ERROR_NONE);
    assert_null(stream.stream.work);
    assert_null(accepted->stream.work);
    trunk_stream_end(&stream.stream);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(accepted->ended, 1);
    assert_int_equal(accepted->closed, 0);

    /* The other direction works on a stream that is half closed. */
    assert_int_equal(pair_send_all(&pair, accepted, bytes, 300000), ERROR_NONE);
    assert_int_equal(stream.received_length, 300000);
    assert_memory_equal(stream.received, bytes, 300000);
    assert_int_equal(stream.closed, 0);
    trunk_stream_end(&accepted->stream);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(stream.ended, 1);
    assert_int_equal(stream.closed, 1);
    assert_int_equal(stream.error, ERROR_NONE);
    assert_int_equal(accepted->closed, 1);
    assert_int_equal(accepted->error, ERROR_NONE);
    assert_int_equal(trunk_stream_count(pair.opener.trunk), 0);
    assert_int_equal(trunk_stream_count(pair.acceptor.trunk), 0);
    pair_stream_dispose(&stream);
    pair_dispose(&pair);
}

static void a_reset_carries_its_code_and_is_never_a_clean_end(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream streams[2];
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pair_open(&pair, &streams[i]), ERROR_NONE);
        assert_int_equal(pair_pump(&pair), ERROR_NONE);
    }
    trunk_stream_reset(&streams[0].stream, TRUNK_CODE_CONNECT_ERROR);
    assert_false(trunk_stream_attached(&streams[0].stream));
    trunk_stream_reset(&pair_accepted(&pair, 1)->stream, TRUNK_CODE_CANCEL);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    struct pair_stream *accepted = pair_accepted(&pair, 0);
    assert_int_equal(accepted->closed, 1);
    assert_int_equal(accepted->ended, 0);
    assert_int_equal(accepted->error, ERROR_PEER_RESET);
    assert_int_equal(accepted->detail, TRUNK_CODE_CONNECT_ERROR);
    assert_int_equal(streams[0].closed, 0); /* its owner reset it: no event */
    assert_int_equal(streams[1].error, ERROR_PEER_RESET);
    assert_int_equal(streams[1].detail, TRUNK_CODE_CANCEL);
    assert_int_equal(streams[1].ended, 0);
    pair_dispose(&pair);
}

/* NO_ERROR before both ends have come is an abort too (RFC 9113 section 8.1 lets a server say so). */
static void a_reset_with_no_error_is_not_a_clean_end(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream stream;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    trunk_stream_reset(&pair_accepted(&pair, 0)->stream, TRUNK_CODE_NO_ERROR);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(stream.closed, 1);
    assert_int_equal(stream.error, ERROR_PEER_RESET);
    pair_dispose(&pair);
}

static void a_stream_may_be_reset_before_its_request_was_sent(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream stream;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    trunk_stream_reset(&stream.stream, TRUNK_CODE_CANCEL);
    memset(&stream, 0xee, sizeof(stream)); /* the owner may free it at once */
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(trunk_stream_count(pair.opener.trunk), 0);
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(stream.opened, 1);
    pair_dispose(&pair);
}

static void a_refusal_has_a_status_and_a_text(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream stream;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    pair.hold = true;
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(stream.opened, 0);
    assert_int_equal(trunk_stream_room(&stream.stream), 0);
    assert_int_equal(trunk_stream_write(&stream.stream, (const uint8_t *)"x", 1), ERROR_STATE);
    trunk_stream_refuse(&pair_accepted(&pair, 0)->stream, 502, "the backend cannot be reached\n");
    assert_false(trunk_stream_attached(&pair_accepted(&pair, 0)->stream));
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(stream.closed, 1);
    assert_int_equal(stream.error, ERROR_REFUSED);
    assert_int_equal(stream.detail, 502);
    assert_int_equal(trunk_stream_count(pair.acceptor.trunk), 0);
    pair_dispose(&pair);
}

static void a_stream_refused_without_processing_may_be_tried_elsewhere(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream stream;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    pair.refuse = true;
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(stream.error, ERROR_REFUSED);
    assert_int_equal(stream.detail, 0);
    pair_dispose(&pair);
}

static void goaway_lets_streams_finish_and_stops_new_ones(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream first, late;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    assert_int_equal(pair_open(&pair, &first), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    /* The late stream's request and GOAWAY cross on the way. */
    assert_int_equal(trunk_goaway(pair.acceptor.trunk, TRUNK_CODE_NO_ERROR), ERROR_NONE);
    assert_int_equal(pair_open(&pair, &late), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(pair.opener.goaways, 1);
    assert_int_equal(late.error, ERROR_REFUSED);
    assert_int_equal(late.detail, 0);
    assert_int_equal(trunk_openable(pair.opener.trunk), ERROR_TRUNK_GOAWAY);
    assert_int_equal(pair_open(&pair, &late), ERROR_TRUNK_GOAWAY);
    assert_int_equal(first.closed, 0);
    uint8_t bytes[5000];
    pair_fill(bytes, sizeof(bytes), 1);
    assert_int_equal(pair_send_all(&pair, &first, bytes, sizeof(bytes)), ERROR_NONE);
    assert_int_equal(pair_accepted(&pair, 0)->received_length, sizeof(bytes));
    pair_dispose(&pair);
    assert_int_equal(first.error, ERROR_TRUNK_LOST);
}

/* Other relays fell over nghttp2's silent cap of 100, and over queues that nobody sees. */
static void the_announced_limit_of_streams_is_obeyed_and_never_queued_behind(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct trunk_settings acceptor;
    trunk_settings_init(&acceptor, TRUNK_ACCEPTOR);
    acceptor.sessions_max = 250;
    assert_int_equal(pair_init(&pair, NULL, &acceptor), ERROR_NONE);
    static struct pair_stream streams[250];
    for (size_t i = 0; i < 250; i++) {
        assert_int_equal(pair_open(&pair, &streams[i]), ERROR_NONE);
    }
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    for (size_t i = 0; i < 250; i++) {
        assert_int_equal(streams[i].opened, 1);
    }
    struct pair_stream over;
    assert_int_equal(pair_open(&pair, &over), ERROR_LIMIT);
    trunk_stream_reset(&streams[0].stream, TRUNK_CODE_CANCEL);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(pair_open(&pair, &over), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(over.opened, 1);
    pair_dispose(&pair);
}

static void a_trunk_calls_itself_exhausted_before_its_identifiers_end(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct trunk_settings opener;
    trunk_settings_init(&opener, TRUNK_OPENER);
    opener.opens_max = 10;
    assert_int_equal(pair_init(&pair, &opener, NULL), ERROR_NONE);
    struct pair_stream streams[11];
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(pair_open(&pair, &streams[i]), ERROR_NONE);
    }
    assert_int_equal(pair_open(&pair, &streams[10]), ERROR_TRUNK_EXHAUSTED);
    pair_dispose(&pair);
}

/* Ten thousand resets in a row are one radio outage, not an attack (nghttp2's default would end the trunk at 1000). */
static void a_burst_of_resets_does_not_end_the_trunk(void **state)
{
    (void)state;
    struct trunk_pair pair;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    static struct pair_stream streams[10000];
    for (size_t i = 0; i < 10000; i++) {
        assert_int_equal(pair_open(&pair, &streams[i]), ERROR_NONE);
    }
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    for (size_t i = 0; i < 10000; i++) {
        trunk_stream_reset(&streams[i].stream, TRUNK_CODE_CONNECT_ERROR);
    }
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(trunk_stream_count(pair.acceptor.trunk), 0);
    struct pair_stream after;
    assert_int_equal(pair_open(&pair, &after), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(after.opened, 1);
    pair_dispose(&pair);
}

/* A peer that does not wait for the answer: nothing is lost, and nothing comes before the stream is accepted. */
static void bytes_that_come_before_the_answer_wait_for_it(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream stream;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    pair.hold = true;
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    /* Pretend that the opener has its answer already. */
    stream.stream.input = STREAM_OPEN;
    stream.stream.output = STREAM_OPEN;
    assert_int_equal(trunk_stream_write(&stream.stream, (const uint8_t *)"early", 5), ERROR_NONE);
    trunk_stream_end(&stream.stream);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    struct pair_stream *accepted = pair_accepted(&pair, 0);
    assert_int_equal(accepted->received_length, 0);
    assert_int_equal(accepted->ended, 0);
    assert_int_equal(trunk_stream_accept(&accepted->stream), ERROR_NONE);
    assert_int_equal(accepted->received_length, 0); /* never from within the call */
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(accepted->received_length, 5);
    assert_memory_equal(accepted->received, "early", 5);
    assert_int_equal(accepted->ended, 1);
    trunk_stream_end(&accepted->stream);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(accepted->error, ERROR_NONE);
    assert_int_equal(accepted->closed, 1);
    pair_dispose(&pair);
}

static void early_bytes_of_a_stream_that_is_over_at_once_are_not_lost(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream stream;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    pair.hold = true;
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    stream.stream.input = STREAM_OPEN;
    stream.stream.output = STREAM_OPEN;
    assert_int_equal(trunk_stream_write(&stream.stream, (const uint8_t *)"early", 5), ERROR_NONE);
    trunk_stream_end(&stream.stream);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    struct pair_stream *accepted = pair_accepted(&pair, 0);
    assert_int_equal(trunk_stream_accept(&accepted->stream), ERROR_NONE);
    trunk_stream_end(&accepted->stream);
    /* The end is sent before the task that delivers what was held. */
    uint8_t record[TLS_RECORD_MAX_BYTES];
    size_t length = 0;
    assert_int_equal(trunk_send(pair.acceptor.trunk, record, sizeof(record), &length), ERROR_NONE);
    assert_int_equal(trunk_receive(pair.opener.trunk, record, length), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(accepted->received_length, 5);
    assert_int_equal(accepted->ended, 1);
    assert_int_equal(accepted->closed, 1);
    assert_int_equal(accepted->error, ERROR_NONE);
    pair_dispose(&pair);
}

static void early_bytes_of_a_refused_stream_are_dropped(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream stream;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    pair.hold = true;
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    stream.stream.input = STREAM_OPEN;
    stream.stream.output = STREAM_OPEN;
    assert_int_equal(trunk_stream_write(&stream.stream, (const uint8_t *)"early", 5), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    trunk_stream_refuse(&pair_accepted(&pair, 0)->stream, 503, "no\n");
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(trunk_stream_count(pair.acceptor.trunk), 0);
    pair_stream_dispose(&stream);
    pair_dispose(&pair);
}

/* A client that sends and goes away without a clean end: its bytes arrive, and the end is not clean. */
static void an_abort_sends_what_is_queued_before_the_reset(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream stream;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    static uint8_t bytes[50000];
    pair_fill(bytes, sizeof(bytes), 9);
    assert_int_equal(trunk_stream_write(&stream.stream, bytes, sizeof(bytes)), ERROR_NONE);
    trunk_stream_abort(&stream.stream, TRUNK_CODE_CONNECT_ERROR);
    assert_false(trunk_stream_attached(&stream.stream));
    memset(&stream, 0xee, sizeof(stream));
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    struct pair_stream *accepted = pair_accepted(&pair, 0);
    assert_int_equal(accepted->received_length, sizeof(bytes));
    assert_memory_equal(accepted->received, bytes, sizeof(bytes));
    assert_int_equal(accepted->ended, 0);
    assert_int_equal(accepted->error, ERROR_PEER_RESET);
    assert_int_equal(accepted->detail, TRUNK_CODE_CONNECT_ERROR);
    assert_int_equal(trunk_stream_count(pair.opener.trunk), 0);
    pair_dispose(&pair);
}

/* What an abort left behind is not kept for ever when nobody takes it. */
static void an_abort_that_the_peer_does_not_take_is_dropped_in_time(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream stream;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    pair.consume = false;
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    static uint8_t bytes[LIMIT_STREAM_WINDOW_BYTES + 1000];
    assert_int_equal(trunk_stream_write(&stream.stream, bytes, sizeof(bytes)), ERROR_NONE);
    trunk_stream_abort(&stream.stream, TRUNK_CODE_CONNECT_ERROR);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(trunk_stream_count(pair.opener.trunk), 1);
    assert_int_equal(pair_accepted(&pair, 0)->closed, 0);
    assert_int_equal(pair_wait(&pair, 2 * TIMEOUT_PING_INTERVAL_MS + 100), ERROR_NONE);
    assert_int_equal(trunk_stream_count(pair.opener.trunk), 0);
    assert_int_equal(pair_accepted(&pair, 0)->error, ERROR_PEER_RESET);
    pair_dispose(&pair);
}

static void a_ping_without_an_answer_fails_the_trunk_after_its_deadline(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct trunk_settings opener;
    trunk_settings_init(&opener, TRUNK_OPENER);
    opener.ping_interval_ms = 100;
    opener.ping_timeout_ms = 50;
    assert_int_equal(pair_init(&pair, &opener, NULL), ERROR_NONE);
    assert_int_equal(pair_wait(&pair, 1000), ERROR_NONE);
    assert_int_equal(pair.opener.failure, ERROR_NONE);
    /* The peer goes silent. */
    for (int i = 0; i < 149; i++) {
        scheduler_advance(&pair.scheduler, pair.scheduler.now_us + 1000);
    }
    assert_int_equal(pair.opener.failure, ERROR_NONE);
    for (int i = 0; i < 101; i++) {
        scheduler_advance(&pair.scheduler, pair.scheduler.now_us + 1000);
    }
    assert_int_equal(pair.opener.failure, ERROR_TRUNK_PING_TIMEOUT);
    assert_int_equal(trunk_openable(pair.opener.trunk), ERROR_TRUNK_LOST);
    pair_dispose(&pair);
}

static void garbage_is_a_protocol_error_with_a_goaway(void **state)
{
    (void)state;
    struct trunk_pair pair;
    uint8_t record[TLS_RECORD_MAX_BYTES];
    size_t length = 0;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    /* A HEADERS frame on stream 0. */
    static const uint8_t wrong[] = {0, 0, 1, 1, 4, 0, 0, 0, 0, 0x82};
    (void)trunk_receive(pair.acceptor.trunk, wrong, sizeof(wrong));
    assert_int_equal(trunk_send(pair.acceptor.trunk, record, sizeof(record), &length), ERROR_NONE);
    assert_true(length >= 17);
    assert_int_equal(record[3], 7); /* GOAWAY */
    assert_int_equal(pair.acceptor.failure, ERROR_TRUNK_PROTOCOL);
    pair_dispose(&pair);
}

static void a_protocol_error_ends_a_draining_trunk_too(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream stream;
    uint8_t record[TLS_RECORD_MAX_BYTES];
    size_t length = 0;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(trunk_goaway(pair.acceptor.trunk, TRUNK_CODE_NO_ERROR), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(pair.acceptor.failure, ERROR_NONE);
    static const uint8_t wrong[] = {0, 0, 1, 0, 0, 0, 0, 0, 0, 'x'}; /* DATA on stream 0 */
    (void)trunk_receive(pair.acceptor.trunk, wrong, sizeof(wrong));
    assert_int_equal(trunk_send(pair.acceptor.trunk, record, sizeof(record), &length), ERROR_NONE);
    assert_int_equal(pair.acceptor.failure, ERROR_TRUNK_PROTOCOL);
    pair_dispose(&pair);
}

/* It is this request that is too large: another trunk would not do either. */
static void metadata_beyond_its_limits_is_no_limit_of_the_trunk(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream stream;
    static uint8_t certificate[METADATA_CERTIFICATE_MAX + 1];
    struct metadata metadata = {
        .service = "echo", .certificate = certificate, .certificate_length = sizeof(certificate)};
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    memset(&stream, 0, sizeof(stream));
    assert_int_equal(trunk_stream_open(pair.opener.trunk, &stream.stream, &metadata), ERROR_METADATA_TOO_LARGE);
    assert_false(trunk_stream_attached(&stream.stream));
    pair_dispose(&pair);
}

static void a_client_that_speaks_no_http2_is_told_from_one_that_does(void **state)
{
    (void)state;
    uint32_t worker = 1;
    static const uint8_t http1[] = "GET / HTTP/1.1\r\n";
    assert_int_equal(trunk_greeting_parse(http1, sizeof(http1) - 1, &worker), ERROR_TRUNK_PREFACE);
    struct trunk_pair pair;
    struct trunk_settings opener;
    trunk_settings_init(&opener, TRUNK_OPENER);
    opener.edge_worker = 0xdeadbeef;
    memset(&pair, 0, sizeof(pair));
    list_init(&pair.accepted);
    scheduler_init(&pair.scheduler, 1);
    pair.opener.pair = &pair;
    assert_int_equal(pair_init(&pair, &opener, NULL), ERROR_NONE);
    pair_dispose(&pair);

    /* Take a fresh opener's first bytes, and look at every prefix of them. */
    assert_int_equal(pair_init(&pair, &opener, NULL), ERROR_NONE);
    struct trunk *fresh = NULL;
    uint8_t bytes[TLS_RECORD_MAX_BYTES];
    size_t length = 0;
    assert_int_equal(
        trunk_new(&fresh, &opener, &pair.scheduler, &pair.opener.carrier, &pair_opener_events, &pair.opener),
        ERROR_NONE);
    assert_int_equal(trunk_send(fresh, bytes, sizeof(bytes), &length), ERROR_NONE);
    size_t complete = 0;
    for (size_t i = 0; i <= length && complete == 0; i++) {
        enum error_code error = trunk_greeting_parse(bytes, i, &worker);
        assert_true(error == ERROR_WOULD_BLOCK || error == ERROR_NONE);
        complete = error == ERROR_NONE ? i : 0;
    }
    assert_true(complete > 33);
    assert_int_equal(worker, 0xdeadbeef);
    bytes[24 + 3] = 6; /* PING first */
    assert_int_equal(trunk_greeting_parse(bytes, length, &worker), ERROR_TRUNK_PREFACE);
    trunk_free(&fresh);
    pair_dispose(&pair);
}

/* A scenario with everything in it; run again and again with one more allocation succeeding each time. */
static enum error_code scenario(struct trunk_pair *pair, struct pair_stream streams[3])
{
    enum error_code error = pair_init(pair, NULL, NULL);
    uint8_t bytes[3000];
    pair_fill(bytes, sizeof(bytes), 5);
    for (size_t i = 0; i < 3 && error == ERROR_NONE; i++) {
        pair->hold = i == 2;
        error = pair_open(pair, &streams[i]);
        error = error == ERROR_NONE ? pair_pump(pair) : error;
    }
    if (error == ERROR_NONE) {
        error = trunk_stream_write(&streams[0].stream, bytes, sizeof(bytes));
    }
    if (error == ERROR_NONE) {
        trunk_stream_end(&streams[0].stream);
        trunk_stream_reset(&streams[1].stream, TRUNK_CODE_CANCEL);
        struct pair_stream *third = pair_accepted(pair, 2);
        if (third != NULL) {
            trunk_stream_refuse(&third->stream, 503, "no\n");
        }
        error = pair_pump(pair);
    }
    return error;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    uint64_t nth = 0;
    bool injected = true;
    while (injected) {
        struct trunk_pair pair;
        struct pair_stream streams[3];
        memset(&pair, 0, sizeof(pair));
        list_init(&pair.accepted);
        memset(streams, 0, sizeof(streams));
        memory_fail_at(++nth);
        enum error_code error = scenario(&pair, streams);
        injected = memory_faults() > 0;
        memory_fail_at(0);
        if (!injected) {
            assert_int_equal(error, ERROR_NONE);
            assert_int_equal(streams[2].error, ERROR_REFUSED);
        }
        pair_dispose(&pair);
        for (size_t i = 0; i < 3; i++) {
            assert_false(trunk_stream_attached(&streams[i].stream));
            pair_stream_dispose(&streams[i]);
        }
        assert_true(nth < 5000);
    }
    assert_true(nth > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_carries_bytes_and_ends_cleanly_both_ways),
        cmocka_unit_test(a_reset_carries_its_code_and_is_never_a_clean_end),
        cmocka_unit_test(a_reset_with_no_error_is_not_a_clean_end),
        cmocka_unit_test(a_stream_may_be_reset_before_its_request_was_sent),
        cmocka_unit_test(a_refusal_has_a_status_and_a_text),
        cmocka_unit_test(a_stream_refused_without_processing_may_be_tried_elsewhere),
        cmocka_unit_test(goaway_lets_streams_finish_and_stops_new_ones),
        cmocka_unit_test(the_announced_limit_of_streams_is_obeyed_and_never_queued_behind),
        cmocka_unit_test(a_trunk_calls_itself_exhausted_before_its_identifiers_end),
        cmocka_unit_test(a_burst_of_resets_does_not_end_the_trunk),
        cmocka_unit_test(bytes_that_come_before_the_answer_wait_for_it),
        cmocka_unit_test(early_bytes_of_a_stream_that_is_over_at_once_are_not_lost),
        cmocka_unit_test(early_bytes_of_a_refused_stream_are_dropped),
        cmocka_unit_test(an_abort_sends_what_is_queued_before_the_reset),
        cmocka_unit_test(an_abort_that_the_peer_does_not_take_is_dropped_in_time),
        cmocka_unit_test(a_ping_without_an_answer_fails_the_trunk_after_its_deadline),
        cmocka_unit_test(garbage_is_a_protocol_error_with_a_goaway),
        cmocka_unit_test(a_protocol_error_ends_a_draining_trunk_too),
        cmocka_unit_test(metadata_beyond_its_limits_is_no_limit_of_the_trunk),
        cmocka_unit_test(a_client_that_speaks_no_http2_is_told_from_one_that_does),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
