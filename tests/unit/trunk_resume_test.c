/*
 * Streams that outlive their trunk, one behaviour at a time: what they retain and for how long, what may be done with
 * them meanwhile, who may ask for them, and what is refused. Every byte of an exchange: trunk_replay_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "mux/limits.h"
#include "mux/memory.h"
#include "mux/tls.h"
#include "tests/unit/trunk_pair.h"

#define WINDOW_BYTES 65536U

#define BYTES_MAX 1000000U

static uint8_t bytes[BYTES_MAX];

/* One session, open on the first pair of trunks. */
struct fixture {
    struct trunk_pair pair;
    struct pair_stream opened;
    struct pair_stream *accepted;
};

static void fixture_init(struct fixture *fixture, uint32_t window_bytes)
{
    memset(fixture, 0, sizeof(*fixture));
    assert_int_equal(pair_init_resuming(&fixture->pair, window_bytes), ERROR_NONE);
    assert_true(trunk_resumes(fixture->pair.opener.trunk));
    assert_true(trunk_resumes(fixture->pair.acceptor.trunk));
    assert_int_equal(pair_open_session(&fixture->pair, &fixture->opened, 1), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture->pair), ERROR_NONE);
    fixture->accepted = pair_accepted(&fixture->pair, 0);
    assert_non_null(fixture->accepted);
    assert_int_equal(fixture->opened.opened, 1);
}

static void fixture_dispose(struct fixture *fixture)
{
    trunk_stream_reset(&fixture->opened.stream, TRUNK_CODE_CANCEL);
    pair_stream_dispose(&fixture->opened);
    pair_dispose(&fixture->pair);
}

/* The trunk is lost, and there is another one. */
static void lose_and_connect(struct fixture *fixture)
{
    pair_lose(&fixture->pair);
    assert_true(trunk_stream_suspended(&fixture->opened.stream));
    assert_true(trunk_stream_suspended(&fixture->accepted->stream));
    assert_int_equal(pair_connect(&fixture->pair), ERROR_NONE);
}

static void resume(struct fixture *fixture)
{
    int resumed = fixture->opened.resumed;
    assert_int_equal(pair_resume(fixture->pair.opener.trunk, &fixture->opened, 1), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture->pair), ERROR_NONE);
    assert_int_equal(fixture->opened.resumed, resumed + 1);
    assert_false(trunk_stream_suspended(&fixture->accepted->stream));
}

/* Both ends, once each, and nothing is left. */
static void end_both(struct fixture *fixture)
{
    assert_int_equal(trunk_stream_end(&fixture->opened.stream), ERROR_NONE);
    assert_int_equal(trunk_stream_end(&fixture->accepted->stream), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture->pair), ERROR_NONE);
    assert_int_equal(fixture->opened.ended, 1);
    assert_int_equal(fixture->accepted->ended, 1);
    assert_int_equal(fixture->opened.closed, 1);
    assert_int_equal(fixture->accepted->closed, 1);
    assert_int_equal(fixture->opened.error, ERROR_NONE);
    assert_int_equal(fixture->accepted->error, ERROR_NONE);
    assert_int_equal(trunk_stream_count(fixture->pair.opener.trunk), 0);
    assert_int_equal(trunk_stream_count(fixture->pair.acceptor.trunk), 0);
    assert_int_equal(fixture->pair.opener_works.objects, 0);
    assert_int_equal(fixture->pair.acceptor_works.objects, 0);
}

static void expect_received(const struct pair_stream *stream, size_t length)
{
    assert_int_equal(stream->received_length, length);
    assert_memory_equal(stream->received, bytes, length);
}

/* ------------------------------------------------------------------------------------------------ retaining */

static void an_idle_stream_retains_nothing(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, WINDOW_BYTES);
    assert_int_equal(fixture.pair.opener_works.objects + fixture.pair.acceptor_works.objects, 0);
    assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes, 1000), ERROR_NONE);
    assert_int_equal(trunk_stream_write(&fixture.accepted->stream, bytes, 10), ERROR_NONE);
    assert_int_equal(pair_wait(&fixture.pair, TIMEOUT_TRUNK_OWED_MS - 1U), ERROR_NONE);
    assert_int_equal(trunk_stream_retained(&fixture.opened.stream), 1000);
    assert_int_equal(trunk_stream_retained(&fixture.accepted->stream), 10);
    assert_int_equal(pair_wait(&fixture.pair, 2), ERROR_NONE);
    assert_int_equal(fixture.pair.opener_works.objects, 0);
    assert_int_equal(fixture.pair.acceptor_works.objects, 0);
    expect_received(fixture.accepted, 1000);
    end_both(&fixture);
    fixture_dispose(&fixture);
}

static void what_is_not_consumed_is_retained_and_nothing_else(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, WINDOW_BYTES);
    fixture.accepted->consume = false;
    assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes, 1000), ERROR_NONE);
    assert_int_equal(pair_wait(&fixture.pair, 1000), ERROR_NONE);
    assert_int_equal(trunk_stream_retained(&fixture.opened.stream), 1000);
    trunk_stream_consume(&fixture.accepted->stream, 400);
    assert_int_equal(pair_wait(&fixture.pair, TIMEOUT_TRUNK_OWED_MS), ERROR_NONE);
    assert_int_equal(trunk_stream_retained(&fixture.opened.stream), 600);
    trunk_stream_consume(&fixture.accepted->stream, 600);
    assert_int_equal(pair_wait(&fixture.pair, TIMEOUT_TRUNK_OWED_MS), ERROR_NONE);
    assert_int_equal(fixture.pair.opener_works.objects + fixture.pair.acceptor_works.objects, 0);
    fixture_dispose(&fixture);
}

/* However fast it goes, and though no time passes. */
static void a_download_retains_little(void **state)
{
    (void)state;
    struct fixture fixture;
    size_t retained_max = 0;
    fixture_init(&fixture, WINDOW_BYTES);
    for (size_t sent = 0; sent < BYTES_MAX; sent += 10000) {
        assert_int_equal(pair_send_all(&fixture.pair, fixture.accepted, bytes + sent, 10000), ERROR_NONE);
        size_t retained = trunk_stream_retained(&fixture.accepted->stream);
        retained_max = retained > retained_max ? retained : retained_max;
    }
    assert_true(retained_max > 0 && retained_max <= WINDOW_BYTES + LIMIT_TRUNK_OWED_BYTES);
    expect_received(&fixture.opened, BYTES_MAX);
    fixture_dispose(&fixture);
}

static void one_frame_acknowledges_thousands_of_streams(void **state)
{
    (void)state;
    enum { STREAMS = 2000 };
    static struct pair_stream streams[STREAMS];
    static uint8_t out[4 * TLS_RECORD_MAX_BYTES];
    struct trunk_pair pair;
    size_t length = 0;
    assert_int_equal(pair_init_resuming(&pair, WINDOW_BYTES), ERROR_NONE);
    for (uint32_t i = 0; i < STREAMS; i++) {
        assert_int_equal(pair_open_session(&pair, &streams[i], i + 1), ERROR_NONE);
    }
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    list_for_each(&pair.accepted, node) {
        struct pair_stream *accepted = container_of(node, struct pair_stream, node);
        assert_int_equal(trunk_stream_write(&accepted->stream, bytes, 10), ERROR_NONE);
    }
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(pair.acceptor_works.objects, STREAMS);
    scheduler_advance(&pair.scheduler, pair.scheduler.now_us + TIMEOUT_TRUNK_OWED_MS * 1000U);
    assert_int_equal(trunk_send(pair.opener.trunk, out, sizeof(out), &length), ERROR_NONE);
    assert_int_equal(length, 9 + 8 * STREAMS);
    assert_int_equal(out[3], TRUNK_FRAME_ACK);
    assert_int_equal(trunk_receive(pair.acceptor.trunk, out, length), ERROR_NONE);
    assert_int_equal(pair.opener_works.objects, 0);
    assert_int_equal(pair.acceptor_works.objects, 0);
    for (size_t i = 0; i < STREAMS; i++) {
        trunk_stream_reset(&streams[i].stream, TRUNK_CODE_CANCEL);
        pair_stream_dispose(&streams[i]);
    }
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    pair_dispose(&pair);
}

/* ------------------------------------------------------------------------------------------------ suspended */

static void a_suspended_stream_takes_bytes_within_bounds(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, WINDOW_BYTES);
    fixture.accepted->consume = false;
    assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes, 1000), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
    lose_and_connect(&fixture);
    size_t room = trunk_stream_room(&fixture.opened.stream);
    assert_int_equal(room, LIMIT_STREAM_SUSPENDED_BYTES - 1000);
    assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes + 1000, room), ERROR_NONE);
    assert_int_equal(trunk_stream_room(&fixture.opened.stream), 0);
    trunk_stream_want_room(&fixture.opened.stream);

    /* Nothing more while the answer is awaited. */
    assert_int_equal(pair_resume(fixture.pair.opener.trunk, &fixture.opened, 1), ERROR_NONE);
    assert_int_equal(trunk_stream_room(&fixture.opened.stream), 0);
    assert_true(trunk_stream_interrupted(&fixture.opened.stream));
    assert_int_equal(trunk_stream_end(&fixture.opened.stream), ERROR_NONE);
    assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes, 1), ERROR_STATE);
    assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
    assert_int_equal(fixture.opened.resumed, 1);
    assert_int_equal(fixture.opened.writable, 0); /* it has ended */
    expect_received(fixture.accepted, 1000 + room);
    assert_int_equal(fixture.accepted->ended, 1);
    trunk_stream_consume(&fixture.accepted->stream, 1000 + room);
    end_both(&fixture);
    fixture_dispose(&fixture);
}

static void whoever_waits_for_room_is_told_on_the_next_trunk(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 1000);
    fixture.accepted->consume = false;
    assert_int_equal(pair_send_all(&fixture.pair, &fixture.opened, bytes, 1000), ERROR_NONE);
    assert_int_equal(trunk_stream_room(&fixture.opened.stream), 0);
    trunk_stream_want_room(&fixture.opened.stream);
    lose_and_connect(&fixture);
    resume(&fixture);
    /* The window is new, but what fills it is not consumed. */
    assert_int_equal(trunk_stream_room(&fixture.opened.stream), 0);
    assert_int_equal(fixture.opened.writable, 0);
    trunk_stream_consume(&fixture.accepted->stream, 600);
    assert_int_equal(pair_wait(&fixture.pair, TIMEOUT_TRUNK_OWED_MS), ERROR_NONE);
    assert_int_equal(fixture.opened.writable, 1);
    assert_int_equal(trunk_stream_room(&fixture.opened.stream), 600);
    trunk_stream_consume(&fixture.accepted->stream, 400);
    assert_int_equal(pair_send_all(&fixture.pair, &fixture.opened, bytes + 1000, 600), ERROR_NONE);
    expect_received(fixture.accepted, 1600);
    fixture_dispose(&fixture);
}

/* The acknowledgement of the first part is lost with the trunk; the consumer takes no more before the rest is there. */
static void a_consumer_that_waits_for_the_rest_gets_it(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 1000);
    fixture.accepted->consume = false;
    assert_int_equal(pair_send_all(&fixture.pair, &fixture.opened, bytes, 1000), ERROR_NONE);
    trunk_stream_consume(&fixture.accepted->stream, 900);
    lose_and_connect(&fixture);
    resume(&fixture);
    trunk_stream_want_room(&fixture.opened.stream);
    assert_int_equal(pair_wait(&fixture.pair, TIMEOUT_TRUNK_OWED_MS), ERROR_NONE);
    assert_int_equal(trunk_stream_retained(&fixture.opened.stream), 100);
    assert_int_equal(trunk_stream_room(&fixture.opened.stream), 900);
    assert_int_equal(fixture.opened.writable, 1);
    fixture_dispose(&fixture);
}

static void ends_and_answers_may_be_given_while_suspended(void **state)
{
    (void)state;
    struct fixture fixture;
    memset(&fixture, 0, sizeof(fixture));
    assert_int_equal(pair_init_resuming(&fixture.pair, WINDOW_BYTES), ERROR_NONE);
    fixture.pair.hold = true;
    assert_int_equal(pair_open_session(&fixture.pair, &fixture.opened, 1), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
    fixture.accepted = pair_accepted(&fixture.pair, 0);
    lose_and_connect(&fixture);
    assert_int_equal(trunk_stream_room(&fixture.accepted->stream), 0);
    assert_int_equal(trunk_stream_accept(&fixture.accepted->stream), ERROR_NONE);
    assert_int_equal(trunk_stream_accept(&fixture.accepted->stream), ERROR_STATE);
    assert_int_equal(trunk_stream_write(&fixture.accepted->stream, bytes, 100), ERROR_NONE);
    assert_int_equal(trunk_stream_end(&fixture.accepted->stream), ERROR_NONE);
    struct metadata metadata = pair_metadata(1);
    trunk_stream_reset(&fixture.opened.stream, TRUNK_CODE_CANCEL);
    assert_int_equal(trunk_stream_open(fixture.pair.opener.trunk, &fixture.opened.stream, &metadata), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
    assert_int_equal(fixture.opened.opened, 1);
    assert_int_equal(fixture.accepted->resumed, 1);
    expect_received(&fixture.opened, 100);
    assert_int_equal(fixture.opened.ended, 1);
    end_both(&fixture);
    fixture_dispose(&fixture);
}

static void a_suspended_stream_can_be_given_up(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) {
        struct fixture fixture;
        fixture_init(&fixture, WINDOW_BYTES);
        assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes, 1000), ERROR_NONE);
        lose_and_connect(&fixture);
        struct trunk_stream *stream = &fixture.accepted->stream;
        if (how == 0) {
            trunk_stream_reset(stream, TRUNK_CODE_CANCEL);
        } else if (how == 1) {
            trunk_stream_abort(stream, TRUNK_CODE_CANCEL);
        } else {
            trunk_stream_refuse(stream, 502, "no\n");
        }
        assert_false(trunk_stream_attached(stream));
        assert_int_equal(trunk_stream_room(stream), 0);
        assert_int_equal(trunk_stream_write(stream, bytes, 1), ERROR_STATE);
        assert_int_equal(fixture.pair.acceptor_works.objects, 0);
        assert_int_equal(pair_resume(fixture.pair.opener.trunk, &fixture.opened, 1), ERROR_NONE);
        assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
        assert_int_equal(fixture.opened.closed, 1);
        assert_int_equal(fixture.opened.error, ERROR_REFUSED);
        assert_int_equal(fixture.opened.detail, 410);
        assert_int_equal(fixture.accepted->closed, 0); /* its owner has ended it */
        fixture_dispose(&fixture);
    }
}

/* What the peer lacks of what was sent comes before what is queued: without it the rest must not be sent either. */
static void an_abort_while_resuming_leaves_no_gap(void **state)
{
    (void)state;
    struct fixture fixture;
    uint8_t lost[TLS_RECORD_MAX_BYTES];
    size_t length = 0;
    fixture_init(&fixture, WINDOW_BYTES);
    assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes, 1000), ERROR_NONE);
    assert_int_equal(trunk_send(fixture.pair.opener.trunk, lost, sizeof(lost), &length), ERROR_NONE);
    assert_true(length > 1000);
    lose_and_connect(&fixture);
    assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes + 1000, 500), ERROR_NONE);
    assert_int_equal(pair_resume(fixture.pair.opener.trunk, &fixture.opened, 1), ERROR_NONE);
    trunk_stream_abort(&fixture.opened.stream, TRUNK_CODE_CONNECT_ERROR);
    assert_false(trunk_stream_attached(&fixture.opened.stream));
    assert_int_equal(pair_wait(&fixture.pair, 100), ERROR_NONE);
    assert_int_equal(fixture.accepted->received_length, 0);
    assert_int_equal(fixture.opened.closed, 0);
    fixture_dispose(&fixture);
}

static void an_abort_on_the_next_trunk_sends_all_before(void **state)
{
    (void)state;
    struct fixture fixture;
    uint8_t lost[TLS_RECORD_MAX_BYTES];
    size_t length = 0;
    fixture_init(&fixture, WINDOW_BYTES);
    assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes, 1000), ERROR_NONE);
    assert_int_equal(trunk_send(fixture.pair.opener.trunk, lost, sizeof(lost), &length), ERROR_NONE);
    lose_and_connect(&fixture);
    assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes + 1000, 500), ERROR_NONE);
    resume(&fixture);
    assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes + 1500, 500), ERROR_NONE);
    trunk_stream_abort(&fixture.opened.stream, TRUNK_CODE_CONNECT_ERROR);
    assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
    expect_received(fixture.accepted, 2000);
    assert_int_equal(fixture.accepted->ended, 0);
    assert_int_equal(fixture.accepted->closed, 1);
    assert_int_equal(fixture.accepted->error, ERROR_PEER_RESET);
    fixture_dispose(&fixture);
}

/* ------------------------------------------------------------------------------------------------ who resumes */

static void without_the_setting_streams_end_with_their_trunk(void **state)
{
    (void)state;
    for (int side = 0; side < 2; side++) {
        struct trunk_settings settings[2];
        struct trunk_pair pair;
        struct pair_stream stream;
        trunk_settings_init(&settings[0], TRUNK_OPENER);
        trunk_settings_init(&settings[1], TRUNK_ACCEPTOR);
        settings[side].resume = true;
        assert_int_equal(pair_init(&pair, &settings[0], &settings[1]), ERROR_NONE);
        assert_false(trunk_resumes(pair.opener.trunk));
        assert_false(trunk_resumes(pair.acceptor.trunk));
        assert_int_equal(pair_open_session(&pair, &stream, 1), ERROR_NONE);
        assert_int_equal(pair_pump(&pair), ERROR_NONE);
        assert_false(pair_accepted(&pair, 0)->metadata->session.known);
        assert_int_equal(pair_send_all(&pair, &stream, bytes, 1000), ERROR_NONE);
        assert_int_equal(pair.opener_works.objects, 0);
        pair_lose(&pair);
        assert_int_equal(stream.error, ERROR_TRUNK_LOST);
        assert_int_equal(stream.closed, 1);
        assert_int_equal(pair_accepted(&pair, 0)->error, ERROR_TRUNK_LOST);
        assert_int_equal(stream.suspended + pair_accepted(&pair, 0)->suspended, 0);
        pair_stream_dispose(&stream);
        pair_dispose(&pair);
    }
}

static void a_stream_without_a_session_ends_with_its_trunk(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream stream;
    assert_int_equal(pair_init_resuming(&pair, WINDOW_BYTES), ERROR_NONE);
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(pair_send_all(&pair, &stream, bytes, 1000), ERROR_NONE);
    assert_int_equal(trunk_stream_retained(&stream.stream), 0);
    pair_lose(&pair);
    assert_int_equal(stream.error, ERROR_TRUNK_LOST);
    assert_int_equal(pair_accepted(&pair, 0)->error, ERROR_TRUNK_LOST);
    pair_dispose(&pair);
}

/* The opener knows first that the trunk is lost. */
static void a_request_on_another_trunk_takes_the_stream_over(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, WINDOW_BYTES);
    assert_int_equal(pair_connect_second(&fixture.pair), ERROR_NONE);
    assert_int_equal(trunk_stream_write(&fixture.accepted->stream, bytes, 1000), ERROR_NONE);
    trunk_free(&fixture.pair.opener.trunk);
    assert_int_equal(fixture.opened.suspended, 1);
    assert_int_equal(pair_resume(fixture.pair.second_opener.trunk, &fixture.opened, 1), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
    assert_int_equal(fixture.accepted->suspended, 0);
    assert_int_equal(fixture.accepted->resumed, 1);
    expect_received(&fixture.opened, 1000);
    assert_int_equal(trunk_stream_count(fixture.pair.acceptor.trunk), 0);
    trunk_free(&fixture.pair.acceptor.trunk);
    assert_int_equal(fixture.accepted->suspended + fixture.accepted->closed, 0);
    assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes, 2000), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
    expect_received(fixture.accepted, 2000);
    fixture_dispose(&fixture);
}

/* By an earlier request that came late, most likely: whoever has it now asks for it again. */
static void a_stream_that_was_taken_over_is_suspended_where_it_was(void **state)
{
    (void)state;
    struct fixture fixture;
    struct pair_stream twin;
    fixture_init(&fixture, WINDOW_BYTES);
    assert_int_equal(pair_open_session(&fixture.pair, &twin, 1), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
    assert_int_equal(twin.opened, 1);
    assert_null(pair_accepted(&fixture.pair, 1));
    assert_int_equal(fixture.opened.closed, 0);
    assert_int_equal(fixture.opened.suspended, 1);
    assert_true(trunk_stream_suspended(&fixture.opened.stream));
    pair_stream_dispose(&twin);
    fixture_dispose(&fixture);
}

static void a_trunk_that_takes_no_streams_resumes_none(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, WINDOW_BYTES);
    lose_and_connect(&fixture);
    assert_int_equal(trunk_goaway(fixture.pair.acceptor.trunk, TRUNK_CODE_NO_ERROR), ERROR_NONE);
    /* On its way: the request is not processed, and the stream can go elsewhere. */
    assert_int_equal(pair_resume(fixture.pair.opener.trunk, &fixture.opened, 1), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
    assert_int_equal(fixture.opened.suspended, 2);
    assert_int_equal(fixture.accepted->resumed, 0);
    assert_int_equal(pair_resume(fixture.pair.opener.trunk, &fixture.opened, 1), ERROR_TRUNK_GOAWAY);
    assert_true(trunk_stream_suspended(&fixture.opened.stream));
    lose_and_connect(&fixture);
    resume(&fixture);
    end_both(&fixture);
    fixture_dispose(&fixture);
}

/* A request for the session with an offset of the test's choice. */
static void forge(struct fixture *fixture, struct pair_stream *forger, uint32_t offset)
{
    forger->stream.received = offset;
    assert_int_equal(pair_resume(fixture->pair.opener.trunk, forger, 1), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture->pair), ERROR_NONE);
}

static void offsets_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const uint32_t offsets[] = {499, 0, 2001, UINT32_MAX, 500U + 0x80000000U};
    struct fixture fixture;
    struct pair_stream forgers[sizeof(offsets) / sizeof(offsets[0])];
    size_t count = sizeof(offsets) / sizeof(offsets[0]);
    fixture_init(&fixture, WINDOW_BYTES);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(pair_open_session(&fixture.pair, &forgers[i], 100 + (uint32_t)i), ERROR_NONE);
    }
    /* 2000 bytes are sent, 500 of them acknowledged. */
    fixture.opened.consume = false;
    assert_int_equal(pair_send_all(&fixture.pair, fixture.accepted, bytes, 2000), ERROR_NONE);
    trunk_stream_consume(&fixture.opened.stream, 500);
    assert_int_equal(pair_wait(&fixture.pair, TIMEOUT_TRUNK_OWED_MS), ERROR_NONE);
    assert_int_equal(trunk_stream_retained(&fixture.accepted->stream), 1500);
    lose_and_connect(&fixture);
    for (size_t i = 0; i < count; i++) {
        forge(&fixture, &forgers[i], offsets[i]);
        assert_int_equal(forgers[i].closed, 1);
        assert_int_equal(forgers[i].error, ERROR_REFUSED);
        assert_int_equal(forgers[i].detail, 409);
        assert_int_equal(fixture.pair.acceptor.refusals, (int)i + 1);
        assert_int_equal(fixture.pair.acceptor.refusal, ERROR_BAD_RESUME);
        assert_int_equal(fixture.pair.acceptor.refusal_status, 409);
        assert_true(trunk_stream_suspended(&fixture.accepted->stream));
        assert_int_equal(trunk_stream_retained(&fixture.accepted->stream), 1500);
    }
    assert_int_equal(fixture.accepted->resumed, 0);
    for (size_t i = 0; i < count; i++) {
        trunk_stream_reset(&pair_accepted(&fixture.pair, i + 1)->stream, TRUNK_CODE_CANCEL);
    }
    resume(&fixture);
    trunk_stream_consume(&fixture.opened.stream, 1500);
    expect_received(&fixture.opened, 2000);
    end_both(&fixture);
    fixture_dispose(&fixture);
}

static void an_answer_that_cannot_be_ends_the_stream(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, WINDOW_BYTES);
    assert_int_equal(pair_send_all(&fixture.pair, &fixture.opened, bytes, 1000), ERROR_NONE);
    lose_and_connect(&fixture);
    fixture.accepted->stream.received = 1001;
    assert_int_equal(pair_resume(fixture.pair.opener.trunk, &fixture.opened, 1), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
    assert_int_equal(fixture.opened.resumed, 0);
    assert_int_equal(fixture.opened.closed, 1);
    assert_int_equal(fixture.opened.error, ERROR_BAD_RESUME);
    assert_int_equal(fixture.accepted->error, ERROR_PEER_RESET);
    fixture_dispose(&fixture);
}

/* ------------------------------------------------------------------------------------------------ ends */

static void a_drained_trunk_carries_the_last_acknowledgements(void **state)
{
    (void)state;
    for (int side = 0; side < 2; side++) {
        struct fixture fixture;
        fixture_init(&fixture, WINDOW_BYTES);
        struct trunk *drains = side == 0 ? fixture.pair.opener.trunk : fixture.pair.acceptor.trunk;
        assert_int_equal(pair_send_all(&fixture.pair, &fixture.opened, bytes, 1000), ERROR_NONE);
        assert_int_equal(trunk_goaway(drains, TRUNK_CODE_NO_ERROR), ERROR_NONE);
        assert_int_equal(pair_send_all(&fixture.pair, fixture.accepted, bytes, 1000), ERROR_NONE);
        end_both(&fixture);
        fixture_dispose(&fixture);
    }
}

/* Every allocation of a loss and a resume fails in turn: the stream goes on, or ends; nothing is lost without a word.
 */
static void memory_may_run_out_at_any_point(void **state)
{
    (void)state;
    for (unsigned nth = 1; nth < 400; nth++) {
        struct fixture fixture;
        fixture_init(&fixture, 1000);
        assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes, 700), ERROR_NONE);
        assert_int_equal(trunk_stream_write(&fixture.accepted->stream, bytes, 900), ERROR_NONE);
        memory_fail_at(nth);
        enum error_code error = pair_pump(&fixture.pair);
        pair_lose(&fixture.pair);
        error = error == ERROR_NONE ? pair_connect(&fixture.pair) : error;
        if (error == ERROR_NONE && trunk_stream_suspended(&fixture.opened.stream)) {
            error = pair_resume(fixture.pair.opener.trunk, &fixture.opened, 1);
        }
        if (error == ERROR_NONE) {
            error = pair_wait(&fixture.pair, 2 * TIMEOUT_TRUNK_OWED_MS);
        }
        memory_fail_at(0);
        if (error == ERROR_NONE && fixture.opened.resumed == 1 && fixture.opened.closed == 0) {
            assert_int_equal(pair_wait(&fixture.pair, 2 * TIMEOUT_TRUNK_OWED_MS), ERROR_NONE);
            expect_received(fixture.accepted, 700);
            expect_received(&fixture.opened, 900);
        }
        fixture_dispose(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_stream_retains_nothing),
        cmocka_unit_test(what_is_not_consumed_is_retained_and_nothing_else),
        cmocka_unit_test(a_download_retains_little),
        cmocka_unit_test(one_frame_acknowledges_thousands_of_streams),
        cmocka_unit_test(a_suspended_stream_takes_bytes_within_bounds),
        cmocka_unit_test(whoever_waits_for_room_is_told_on_the_next_trunk),
        cmocka_unit_test(a_consumer_that_waits_for_the_rest_gets_it),
        cmocka_unit_test(ends_and_answers_may_be_given_while_suspended),
        cmocka_unit_test(a_suspended_stream_can_be_given_up),
        cmocka_unit_test(an_abort_while_resuming_leaves_no_gap),
        cmocka_unit_test(an_abort_on_the_next_trunk_sends_all_before),
        cmocka_unit_test(without_the_setting_streams_end_with_their_trunk),
        cmocka_unit_test(a_stream_without_a_session_ends_with_its_trunk),
        cmocka_unit_test(a_request_on_another_trunk_takes_the_stream_over),
        cmocka_unit_test(a_stream_that_was_taken_over_is_suspended_where_it_was),
        cmocka_unit_test(a_trunk_that_takes_no_streams_resumes_none),
        cmocka_unit_test(offsets_that_cannot_be_are_refused),
        cmocka_unit_test(an_answer_that_cannot_be_ends_the_stream),
        cmocka_unit_test(a_drained_trunk_carries_the_last_acknowledgements),
        cmocka_unit_test(memory_may_run_out_at_any_point),
    };
    pair_fill(bytes, sizeof(bytes), 11);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
