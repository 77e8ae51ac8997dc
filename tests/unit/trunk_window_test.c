/* Windows that grow and shrink on a trunk with a long path: speed, bounds, and what each may hold. */
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

#define LAG_US       40000U /* one way */
#define PATH_PER_MS  12500U /* at least, as records are not cut; a round trip carries 1.0 to 1.3 MB */
#define BUDGET_BYTES (64U << 20)

static struct trunk_pair pair;
static struct buffer_budget budget;
static uint8_t bytes[65536];

static void on_mark(void *owner)
{
    (void)owner;
}

static bool on_shed(void *owner, bool any)
{
    (void)owner;
    (void)any;
    return false;
}

static const struct buffer_events budget_events = {.mark = on_mark, .shed = on_shed};

/* The acceptor's buffers are charged to the budget. */
static void begin(uint64_t limit_bytes)
{
    struct trunk_settings acceptor;
    trunk_settings_init(&acceptor, TRUNK_ACCEPTOR);
    acceptor.buffers = &budget;
    buffer_budget_init(&budget, limit_bytes, &pair.scheduler, &budget_events, NULL);
    assert_int_equal(pair_init_lagged(&pair, NULL, &acceptor, LAG_US, PATH_PER_MS), ERROR_NONE);
    assert_int_equal(pair_wait(&pair, 400), ERROR_NONE); /* SETTINGS, and the first PING */
}

static void end(void)
{
    pair_dispose(&pair);
    assert_int_equal(budget.charged_bytes, 0);
    buffer_budget_dispose(&budget);
}

static struct pair_stream *open_stream(struct pair_stream *stream, size_t nth)
{
    assert_int_equal(pair_open(&pair, stream), ERROR_NONE);
    assert_int_equal(pair_wait(&pair, 200), ERROR_NONE);
    assert_int_equal(stream->opened, 1);
    struct pair_stream *accepted = pair_accepted(&pair, nth);
    assert_non_null(accepted);
    return accepted;
}

/* The record of what came is of no interest here. */
static void forget(struct pair_stream *stream)
{
    stream->received_length = 0;
}

/* Writes whatever there is room for, for so long; `limit` bounds it. Returns how much was written. */
static size_t send_for(struct pair_stream *from, struct pair_stream *to, unsigned ms, size_t limit)
{
    size_t sent = 0;
    for (unsigned i = 0; i < ms; i++) {
        size_t room;
        while (sent < limit && (room = trunk_stream_room(&from->stream)) > 0) {
            size_t part = room < sizeof(bytes) ? room : sizeof(bytes);
            part = part < limit - sent ? part : limit - sent;
            assert_int_equal(trunk_stream_write(&from->stream, bytes, part), ERROR_NONE);
            sent += part;
            break;
        }
        assert_int_equal(pair_wait(&pair, 1), ERROR_NONE);
        if (to->consume) {
            forget(to);
        }
        assert_true(budget.charged_bytes <= budget.limit_bytes);
    }
    return sent;
}

static void a_bulk_stream_fills_a_long_path(void **state)
{
    (void)state;
    struct pair_stream stream;
    begin(BUDGET_BYTES);
    struct pair_stream *accepted = open_stream(&stream, 0);
    assert_int_equal(trunk_stream_receive_window(&accepted->stream), LIMIT_STREAM_WINDOW_BYTES);
    send_for(&stream, accepted, 1500, SIZE_MAX); /* to get going */
    size_t sent = send_for(&stream, accepted, 2000, SIZE_MAX);
    /* A fixed window of 64 KiB would carry 1.6 MB in this time, the path 25 MB. */
    assert_true(sent > 2000U * PATH_PER_MS * 9U / 10U);
    assert_in_range(trunk_stream_receive_window(&accepted->stream), 1000000, 2800000);
    assert_int_equal(trunk_stream_charged(&accepted->stream),
                     trunk_stream_receive_window(&accepted->stream) - LIMIT_STREAM_WINDOW_BYTES);
    end();
}

/* What the peer may still send, when all is consumed: the window, but for less than half of a first one, which is not
 * worth a frame. */
static void expect_open(const struct pair_stream *stream, const struct pair_stream *accepted)
{
    size_t room = trunk_stream_room(&stream->stream);
    assert_int_equal(trunk_stream_unconsumed(&accepted->stream), 0);
    assert_int_equal(trunk_stream_receive_window(&accepted->stream), LIMIT_STREAM_WINDOW_BYTES);
    assert_true(room <= LIMIT_STREAM_WINDOW_BYTES);
    assert_true(room > LIMIT_STREAM_WINDOW_BYTES / 2U);
}

static void a_window_that_is_not_needed_any_more_shrinks_to_its_start(void **state)
{
    (void)state;
    struct pair_stream stream;
    begin(BUDGET_BYTES);
    struct pair_stream *accepted = open_stream(&stream, 0);
    send_for(&stream, accepted, 2000, SIZE_MAX);
    assert_true(trunk_stream_receive_window(&accepted->stream) > 1000000);
    assert_int_equal(pair_wait(&pair, 500), ERROR_NONE);

    /* A trickle: what is consumed is not granted again. */
    uint32_t before = trunk_stream_receive_window(&accepted->stream);
    for (unsigned i = 0; i < 3000 && before > LIMIT_STREAM_WINDOW_BYTES; i++) {
        size_t sent = send_for(&stream, accepted, 100, before > 100000 ? 12000 : 2000);
        uint32_t now = trunk_stream_receive_window(&accepted->stream);
        assert_true(sent > 0);
        assert_true(now <= before);
        before = now;
    }
    assert_int_equal(pair_wait(&pair, 500), ERROR_NONE);
    expect_open(&stream, accepted);
    assert_int_equal(trunk_stream_charged(&accepted->stream), 0);

    /* It still is exact: one window, and no byte more, can be sent without being consumed. */
    accepted->consume = false;
    size_t room = trunk_stream_room(&stream.stream);
    assert_int_equal(send_for(&stream, accepted, 1000, SIZE_MAX), room);
    assert_int_equal(trunk_stream_unconsumed(&accepted->stream), room);
    trunk_stream_consume(&accepted->stream, room);
    accepted->consume = true;
    forget(accepted);
    assert_int_equal(pair_wait(&pair, 500), ERROR_NONE);
    expect_open(&stream, accepted);

    /* And it grows again. */
    send_for(&stream, accepted, 2000, SIZE_MAX);
    assert_true(trunk_stream_receive_window(&accepted->stream) > 1000000);
    end();
}

static void a_stream_that_rests_costs_nothing_and_wakes_as_large_as_it_was(void **state)
{
    (void)state;
    struct pair_stream stream;
    begin(BUDGET_BYTES);
    struct pair_stream *accepted = open_stream(&stream, 0);
    send_for(&stream, accepted, 2000, SIZE_MAX);
    assert_int_equal(pair_wait(&pair, 3000), ERROR_NONE);
    uint32_t grown = trunk_stream_receive_window(&accepted->stream);
    assert_true(grown > 1000000);
    assert_null(accepted->stream.work);
    assert_null(stream.stream.work);
    assert_int_equal(budget.charged_bytes, 0);
    /* Its bytes are charged again, promise and all, as soon as there are any. */
    accepted->consume = false;
    assert_int_equal(trunk_stream_write(&stream.stream, bytes, 100), ERROR_NONE);
    assert_int_equal(pair_wait(&pair, 100), ERROR_NONE);
    assert_int_equal(budget.charged_bytes, grown - LIMIT_STREAM_WINDOW_BYTES);
    trunk_stream_consume(&accepted->stream, 100);
    end();
}

static void a_reader_that_stops_holds_no_more_than_its_window(void **state)
{
    (void)state;
    struct pair_stream stream;
    begin(BUDGET_BYTES);
    struct pair_stream *accepted = open_stream(&stream, 0);
    accepted->consume = false;
    size_t sent = send_for(&stream, accepted, 2000, SIZE_MAX);
    assert_int_equal(trunk_stream_unconsumed(&accepted->stream), LIMIT_STREAM_WINDOW_BYTES);
    assert_int_equal(trunk_stream_receive_window(&accepted->stream), LIMIT_STREAM_WINDOW_BYTES);
    assert_int_equal(budget.charged_bytes, LIMIT_STREAM_WINDOW_BYTES);
    assert_int_equal(sent, LIMIT_STREAM_WINDOW_BYTES);
    end();
}

/* One that was fast and stops holds what its window had grown to, and no more; then it takes all, and nothing is lost.
 */
static void a_fast_reader_that_stops_holds_its_window_and_goes_on(void **state)
{
    (void)state;
    struct pair_stream stream;
    begin(BUDGET_BYTES);
    struct pair_stream *accepted = open_stream(&stream, 0);
    send_for(&stream, accepted, 2000, SIZE_MAX);
    accepted->consume = false;
    size_t sent = send_for(&stream, accepted, 2000, SIZE_MAX);
    uint32_t window = trunk_stream_receive_window(&accepted->stream);
    assert_true(trunk_stream_unconsumed(&accepted->stream) <= window);
    assert_true(trunk_stream_unconsumed(&accepted->stream) > window / 2U);
    trunk_stream_consume(&accepted->stream, trunk_stream_unconsumed(&accepted->stream));
    accepted->consume = true;
    forget(accepted);
    sent = send_for(&stream, accepted, 1000, SIZE_MAX);
    assert_true(sent > 1000U * PATH_PER_MS / 2U);
    end();
}

static void windows_share_one_budget_and_shrink_when_it_is_used(void **state)
{
    (void)state;
    enum { STREAMS = 6 };
    struct pair_stream streams[STREAMS], hoarder;
    struct pair_stream *accepted[STREAMS];
    begin(4U << 20);
    for (size_t i = 0; i < STREAMS; i++) {
        accepted[i] = open_stream(&streams[i], i);
    }
    for (unsigned ms = 0; ms < 3000; ms++) {
        for (size_t i = 0; i < STREAMS; i++) {
            size_t room = trunk_stream_room(&streams[i].stream);
            assert_int_equal(trunk_stream_write(&streams[i].stream, bytes, room < 8192 ? room : 8192), ERROR_NONE);
            forget(accepted[i]);
        }
        assert_int_equal(pair_wait(&pair, 1), ERROR_NONE);
        uint64_t promised = 0;
        for (size_t i = 0; i < STREAMS; i++) {
            promised += trunk_stream_receive_window(&accepted[i]->stream) - LIMIT_STREAM_WINDOW_BYTES;
        }
        assert_true(promised <= (4U << 20) / 2U);
    }
    uint32_t least = UINT32_MAX;
    for (size_t i = 0; i < STREAMS; i++) {
        uint32_t window = trunk_stream_receive_window(&accepted[i]->stream);
        least = window < least ? window : least;
    }
    assert_true(least > 2U * LIMIT_STREAM_WINDOW_BYTES);

    /* Somebody else fills what there is: all of them go back to the start, as their bytes are consumed. */
    buffer_budget_change(&budget, 0, 3U << 20);
    memset(&hoarder, 0, sizeof(hoarder));
    for (unsigned ms = 0; ms < 6000; ms++) {
        for (size_t i = 0; i < STREAMS; i++) {
            size_t room = trunk_stream_room(&streams[i].stream);
            assert_int_equal(trunk_stream_write(&streams[i].stream, bytes, room < 8192 ? room : 8192), ERROR_NONE);
            forget(accepted[i]);
        }
        assert_int_equal(pair_wait(&pair, 1), ERROR_NONE);
    }
    for (size_t i = 0; i < STREAMS; i++) {
        assert_int_equal(trunk_stream_receive_window(&accepted[i]->stream), LIMIT_STREAM_WINDOW_BYTES);
    }
    buffer_budget_change(&budget, 3U << 20, 0);
    end();
}

static void a_backlog_is_small_and_room_comes_back_as_it_is_sent(void **state)
{
    (void)state;
    struct pair_stream stream;
    struct trunk_settings acceptor;
    trunk_settings_init(&acceptor, TRUNK_ACCEPTOR);
    acceptor.stream_window_bytes = 1000000;
    assert_int_equal(pair_init(&pair, NULL, &acceptor), ERROR_NONE);
    assert_int_equal(pair_open(&pair, &stream), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(trunk_stream_room(&stream.stream), LIMIT_STREAM_BACKLOG_BYTES);
    assert_int_equal(trunk_stream_write(&stream.stream, bytes, LIMIT_STREAM_BACKLOG_BYTES), ERROR_NONE);
    assert_int_equal(trunk_stream_room(&stream.stream), 0);
    trunk_stream_want_room(&stream.stream);
    assert_int_equal(stream.writable, 0);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(stream.writable, 1);
    assert_int_equal(trunk_stream_room(&stream.stream), LIMIT_STREAM_BACKLOG_BYTES);
    pair_dispose(&pair);
}

static void a_trunk_with_a_backlog_lets_everybody_queue_a_little(void **state)
{
    (void)state;
    enum { STREAMS = 5 };
    struct pair_stream streams[STREAMS];
    struct trunk_settings opener;
    trunk_settings_init(&opener, TRUNK_OPENER);
    opener.trunk_backlog_bytes = 30000;
    assert_int_equal(pair_init(&pair, &opener, NULL), ERROR_NONE);
    for (size_t i = 0; i < STREAMS; i++) {
        assert_int_equal(pair_open(&pair, &streams[i]), ERROR_NONE);
    }
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    for (size_t i = 0; i < STREAMS; i++) {
        size_t room = trunk_stream_room(&streams[i].stream);
        assert_int_equal(room, i < 2 ? LIMIT_STREAM_WINDOW_BYTES : LIMIT_STREAM_SHARE_BYTES);
        assert_int_equal(trunk_stream_write(&streams[i].stream, bytes, room), ERROR_NONE);
        assert_int_equal(trunk_stream_room(&streams[i].stream), 0);
        trunk_stream_want_room(&streams[i].stream);
    }
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    for (size_t i = 0; i < STREAMS; i++) {
        assert_int_equal(streams[i].writable, 1);
        assert_true(trunk_stream_room(&streams[i].stream) > LIMIT_STREAM_SHARE_BYTES);
        assert_int_equal(pair_accepted(&pair, i)->received_length,
                         i < 2 ? LIMIT_STREAM_WINDOW_BYTES : LIMIT_STREAM_SHARE_BYTES);
    }
    pair_dispose(&pair);
}

static int count_frames(const uint8_t *record, size_t length, uint8_t type)
{
    int count = 0;
    for (size_t at = 0; at + 9 <= length;
         at += 9U + ((size_t)record[at] << 16 | (size_t)record[at + 1] << 8 | record[at + 2])) {
        count += record[at + 3] == type;
    }
    return count;
}

/* What is queued waits, a reset does not. */
static void control_frames_overtake_a_backlog(void **state)
{
    (void)state;
    struct pair_stream bulk, other;
    uint8_t record[TLS_RECORD_MAX_BYTES];
    size_t length = 0;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    assert_int_equal(pair_open(&pair, &bulk), ERROR_NONE);
    assert_int_equal(pair_open(&pair, &other), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(trunk_stream_write(&bulk.stream, bytes, LIMIT_STREAM_WINDOW_BYTES), ERROR_NONE);
    trunk_stream_reset(&other.stream, TRUNK_CODE_CANCEL);
    assert_int_equal(trunk_send(pair.opener.trunk, record, sizeof(record), &length), ERROR_NONE);
    assert_int_equal(record[3], 3); /* RST_STREAM */
    assert_int_equal(count_frames(record, length, 0), 1);
    assert_int_equal(trunk_receive(pair.acceptor.trunk, record, length), ERROR_NONE);
    pair_dispose(&pair);
}

/* One allocation fails: growth may not happen, but every byte comes, and nothing stays charged. */
static void a_failed_allocation_leaves_the_window_as_it_is(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth < 400; nth += 7) {
        struct pair_stream stream;
        begin(BUDGET_BYTES);
        struct pair_stream *accepted = open_stream(&stream, 0);
        size_t sent = 0;
        memory_fail_at(nth);
        for (unsigned i = 0; i < 400 && trunk_stream_attached(&stream.stream); i++) {
            size_t room = trunk_stream_room(&stream.stream);
            size_t part = room < sizeof(bytes) ? room : sizeof(bytes);
            if (trunk_stream_write(&stream.stream, bytes, part) == ERROR_NONE) {
                sent += part;
            }
            if (pair_wait(&pair, 1) != ERROR_NONE || pair.opener.failure != ERROR_NONE ||
                pair.acceptor.failure != ERROR_NONE) {
                break;
            }
            forget(accepted);
        }
        uint64_t faults = memory_faults();
        memory_fail_at(0);
        assert_true(sent > 0);
        end();
        if (faults == 0) {
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bulk_stream_fills_a_long_path),
        cmocka_unit_test(a_window_that_is_not_needed_any_more_shrinks_to_its_start),
        cmocka_unit_test(a_stream_that_rests_costs_nothing_and_wakes_as_large_as_it_was),
        cmocka_unit_test(a_reader_that_stops_holds_no_more_than_its_window),
        cmocka_unit_test(a_fast_reader_that_stops_holds_its_window_and_goes_on),
        cmocka_unit_test(windows_share_one_budget_and_shrink_when_it_is_used),
        cmocka_unit_test(a_backlog_is_small_and_room_comes_back_as_it_is_sent),
        cmocka_unit_test(a_trunk_with_a_backlog_lets_everybody_queue_a_little),
        cmocka_unit_test(control_frames_overtake_a_backlog),
        cmocka_unit_test(a_failed_allocation_leaves_the_window_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
