/*
 * Streams that go on with another acceptor than the one they began with: what the first had not consumed comes again,
 * what the opener has not consumed counts against the new window, and what is moved by a drain is suspended, not lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "mux/limits.h"
#include "mux/memory.h"
#include "tests/unit/trunk_pair.h"

#define WINDOW_BYTES 1000U

static uint8_t bytes[4 * WINDOW_BYTES];

/* One session. Neither side consumes by itself. */
struct fixture {
    struct trunk_pair pair;
    struct pair_stream opened;
    struct pair_stream *accepted; /* the last one */
    size_t accepts;
};

static void find_accepted(struct fixture *fixture)
{
    fixture->accepted = pair_accepted(&fixture->pair, fixture->accepts++);
    assert_non_null(fixture->accepted);
    fixture->accepted->consume = false;
}

static void fixture_init(struct fixture *fixture)
{
    memset(fixture, 0, sizeof(*fixture));
    assert_int_equal(pair_init_resuming(&fixture->pair, WINDOW_BYTES), ERROR_NONE);
    fixture->pair.reopen = true;
    fixture->pair.consume = false;
    assert_int_equal(pair_open_session(&fixture->pair, &fixture->opened, 1), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture->pair), ERROR_NONE);
    fixture->opened.consume = false;
    find_accepted(fixture);
}

static void fixture_dispose(struct fixture *fixture)
{
    trunk_stream_reset(&fixture->opened.stream, TRUNK_CODE_CANCEL);
    pair_stream_dispose(&fixture->opened);
    pair_dispose(&fixture->pair);
}

static enum error_code ask_again(struct fixture *fixture)
{
    enum error_code error = pair_connect(&fixture->pair);
    if (error == ERROR_NONE) {
        error = pair_resume(fixture->pair.opener.trunk, &fixture->opened, 1);
    }
    return error == ERROR_NONE ? pair_pump(&fixture->pair) : error;
}

/* The trunk is lost and nothing else. */
static void resume(struct fixture *fixture)
{
    int resumed = fixture->accepted->resumed;
    pair_lose(&fixture->pair);
    assert_int_equal(ask_again(fixture), ERROR_NONE);
    assert_int_equal(fixture->accepted->resumed, resumed + 1);
}

/* The acceptor is lost, with all that it had. */
static void reopen(struct fixture *fixture)
{
    int resumed = fixture->opened.resumed;
    pair_lose(&fixture->pair);
    trunk_stream_reset(&fixture->accepted->stream, TRUNK_CODE_CANCEL);
    assert_int_equal(ask_again(fixture), ERROR_NONE);
    assert_int_equal(fixture->opened.resumed, resumed + 1);
    find_accepted(fixture);
}

static void expect_received(const struct pair_stream *stream, size_t from, size_t length)
{
    assert_int_equal(stream->received_length, length);
    assert_memory_equal(stream->received, bytes + from, length);
}

/* The first acceptor has a whole window that it did not consume, some of it from an earlier trunk still. */
static void what_was_not_consumed_comes_again(void **state)
{
    (void)state;
    for (unsigned losses = 0; losses < 4; losses++) {
        struct fixture fixture;
        fixture_init(&fixture);
        assert_int_equal(pair_send_all(&fixture.pair, &fixture.opened, bytes, 600), ERROR_NONE);
        for (unsigned i = 0; i < losses; i++) {
            resume(&fixture);
        }
        assert_int_equal(pair_send_all(&fixture.pair, &fixture.opened, bytes + 600, 400), ERROR_NONE);
        assert_int_equal(trunk_stream_room(&fixture.opened.stream), 0);
        trunk_stream_consume(&fixture.accepted->stream, 250);
        assert_int_equal(pair_wait(&fixture.pair, TIMEOUT_TRUNK_OWED_MS), ERROR_NONE);
        assert_int_equal(trunk_stream_retained(&fixture.opened.stream), 750);
        reopen(&fixture);
        expect_received(fixture.accepted, 250, 750);
        assert_int_equal(trunk_stream_room(&fixture.opened.stream), 250);
        assert_int_equal(pair_send_all(&fixture.pair, &fixture.opened, bytes + 1000, 250), ERROR_NONE);
        trunk_stream_consume(&fixture.accepted->stream, 1000);
        assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
        assert_int_equal(pair_send_all(&fixture.pair, &fixture.opened, bytes + 1250, 1000), ERROR_NONE);
        expect_received(fixture.accepted, 250, 2000);
        fixture_dispose(&fixture);
    }
}

/* The opener may not have consumed what it has from the first acceptor: of that the new one has no copy. */
static void what_the_opener_has_takes_room_of_the_new_window(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    assert_int_equal(pair_send_all(&fixture.pair, fixture.accepted, bytes, 700), ERROR_NONE);
    reopen(&fixture);
    assert_int_equal(trunk_stream_room(&fixture.accepted->stream), 300);
    assert_int_equal(pair_send_all(&fixture.pair, fixture.accepted, bytes + 700, 300), ERROR_NONE);
    trunk_stream_consume(&fixture.opened.stream, 100);
    assert_int_equal(pair_wait(&fixture.pair, TIMEOUT_TRUNK_OWED_MS), ERROR_NONE);
    assert_int_equal(trunk_stream_room(&fixture.accepted->stream), 100);
    resume(&fixture); /* nothing of this changes */
    assert_int_equal(trunk_stream_room(&fixture.accepted->stream), 100);
    trunk_stream_consume(&fixture.opened.stream, 900);
    assert_int_equal(pair_wait(&fixture.pair, TIMEOUT_TRUNK_OWED_MS), ERROR_NONE);
    assert_int_equal(trunk_stream_room(&fixture.accepted->stream), WINDOW_BYTES);
    expect_received(&fixture.opened, 0, 1000);
    assert_int_equal(fixture.pair.acceptor_works.objects, 0);
    fixture_dispose(&fixture);
}

static void what_the_acceptor_has_ended_is_not_taken_up_by_another(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    assert_true(trunk_stream_reopenable(&fixture.opened.stream));
    assert_int_equal(trunk_stream_end(&fixture.accepted->stream), ERROR_NONE);
    assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
    pair_lose(&fixture.pair);
    assert_false(trunk_stream_reopenable(&fixture.opened.stream));
    trunk_stream_reset(&fixture.accepted->stream, TRUNK_CODE_CANCEL);
    assert_int_equal(ask_again(&fixture), ERROR_NONE);
    assert_int_equal(fixture.opened.error, ERROR_REFUSED);
    assert_int_equal(fixture.opened.detail, 410);
    fixture_dispose(&fixture);
}

/* A stream that is moved goes as far as its window, which may hold bytes of an earlier trunk, and is suspended there.
 */
static void what_is_moved_is_suspended_where_its_window_ends(void **state)
{
    (void)state;
    for (int resumed = 0; resumed < 2; resumed++) {
        struct fixture fixture;
        fixture_init(&fixture);
        assert_int_equal(pair_send_all(&fixture.pair, fixture.accepted, bytes, 600), ERROR_NONE);
        if (resumed) {
            resume(&fixture);
        }
        assert_int_equal(trunk_stream_write(&fixture.accepted->stream, bytes + 600, 900), ERROR_NONE);
        assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
        int suspended = fixture.opened.suspended;
        trunk_stream_abort(&fixture.accepted->stream, TRUNK_CODE_MOVED);
        assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
        assert_int_equal(fixture.opened.closed, 0);
        assert_int_equal(fixture.opened.suspended, suspended + 1);
        assert_int_equal(fixture.opened.suspended_for, ERROR_SHUTDOWN);
        expect_received(&fixture.opened, 0, 1000);
        assert_int_equal(trunk_stream_count(fixture.pair.acceptor.trunk), 0);
        fixture_dispose(&fixture);
    }
}

/* Nothing is lost in front of an end that is not clean, whenever the peer consumes what it had. */
static void what_is_aborted_after_a_loss_arrives_as_well(void **state)
{
    (void)state;
    for (int when = 0; when < 2; when++) {
        struct fixture fixture;
        fixture_init(&fixture);
        assert_int_equal(pair_send_all(&fixture.pair, &fixture.opened, bytes, 1000), ERROR_NONE);
        pair_lose(&fixture.pair);
        if (when == 0) {
            trunk_stream_consume(&fixture.accepted->stream, 1000);
        }
        assert_int_equal(trunk_stream_write(&fixture.opened.stream, bytes + 1000, 500), ERROR_NONE);
        assert_int_equal(ask_again(&fixture), ERROR_NONE);
        trunk_stream_abort(&fixture.opened.stream, TRUNK_CODE_CONNECT_ERROR);
        if (when == 1) {
            assert_int_equal(pair_pump(&fixture.pair), ERROR_NONE);
            expect_received(fixture.accepted, 0, 1000);
            trunk_stream_consume(&fixture.accepted->stream, 300);
            assert_int_equal(pair_wait(&fixture.pair, TIMEOUT_TRUNK_OWED_MS), ERROR_NONE);
            expect_received(fixture.accepted, 0, 1300);
            trunk_stream_consume(&fixture.accepted->stream, 1000);
        }
        assert_int_equal(pair_wait(&fixture.pair, TIMEOUT_TRUNK_OWED_MS), ERROR_NONE);
        expect_received(fixture.accepted, 0, 1500);
        assert_int_equal(fixture.accepted->closed, 1);
        assert_int_equal(fixture.accepted->error, ERROR_PEER_RESET);
        assert_int_equal(trunk_stream_count(fixture.pair.opener.trunk), 0);
        fixture_dispose(&fixture);
    }
}

/* Every allocation of an opening in another's place fails in turn: the session begins, or it is refused. */
static void memory_may_run_out_while_a_session_is_opened_again(void **state)
{
    (void)state;
    for (unsigned nth = 1; nth < 200; nth++) {
        struct fixture fixture;
        fixture_init(&fixture);
        assert_int_equal(pair_send_all(&fixture.pair, fixture.accepted, bytes, 700), ERROR_NONE);
        pair_lose(&fixture.pair);
        trunk_stream_reset(&fixture.accepted->stream, TRUNK_CODE_CANCEL);
        assert_int_equal(pair_connect(&fixture.pair), ERROR_NONE);
        memory_fail_at(nth);
        enum error_code error = pair_resume(fixture.pair.opener.trunk, &fixture.opened, 1);
        error = error == ERROR_NONE ? pair_pump(&fixture.pair) : error;
        memory_fail_at(0);
        struct pair_stream *accepted = pair_accepted(&fixture.pair, fixture.accepts);
        assert_true(error != ERROR_NONE || fixture.opened.resumed + fixture.opened.closed == 1 ||
                    trunk_stream_suspended(&fixture.opened.stream));
        if (accepted != NULL) {
            assert_int_equal(accepted->suspended, 0);
            assert_false(trunk_stream_suspended(&accepted->stream));
        }
        fixture_dispose(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_not_consumed_comes_again),
        cmocka_unit_test(what_the_opener_has_takes_room_of_the_new_window),
        cmocka_unit_test(what_the_acceptor_has_ended_is_not_taken_up_by_another),
        cmocka_unit_test(what_is_moved_is_suspended_where_its_window_ends),
        cmocka_unit_test(what_is_aborted_after_a_loss_arrives_as_well),
        cmocka_unit_test(memory_may_run_out_while_a_session_is_opened_again),
    };
    pair_fill(bytes, sizeof(bytes), 5);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
