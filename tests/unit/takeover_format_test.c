/*
 * What two processes of the edge say to each other in a takeover, and the streams that one passes on: written and read
 * again; cut short, altered and without memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "edge/takeover_format.h"
#include "mux/limits.h"
#include "mux/memory.h"
#include "mux/trunk_internal.h"

static struct takeover_hello hello_make(void)
{
    struct takeover_hello hello = {.version_oldest = 1,
                                   .version = TAKEOVER_VERSION,
                                   .workers = 3,
                                   .resumes = true,
                                   .trunk_name = memory_strdup("edge")};
    assert_int_equal(takeover_texts_add(&hello.cores, "192.0.2.1:4433"), ERROR_NONE);
    assert_int_equal(takeover_texts_add(&hello.cores, "core-2:4433"), ERROR_NONE);
    return hello;
}

static void a_header_is_read_as_it_was_written(void **state)
{
    (void)state;
    uint8_t header[TAKEOVER_HEADER_BYTES];
    enum takeover_message message;
    size_t sockets;
    size_t length;
    takeover_header_write(header, TAKEOVER_CLIENTS, 128, 0x00123456);
    assert_int_equal(takeover_header_read(header, &message, &sockets, &length), ERROR_NONE);
    assert_int_equal(message, TAKEOVER_CLIENTS);
    assert_int_equal(sockets, 128);
    assert_int_equal(length, 0x00123456);
    takeover_header_write(header, TAKEOVER_HELLO, 1, 0); /* carries no sockets */
    assert_int_equal(takeover_header_read(header, &message, &sockets, &length), ERROR_INVALID);
    takeover_header_write(header, TAKEOVER_END, 0, (size_t)LIMIT_TAKEOVER_FRAME_BYTES + 1);
    assert_int_equal(takeover_header_read(header, &message, &sockets, &length), ERROR_INVALID);
    takeover_header_write(header, (enum takeover_message)(TAKEOVER_DONE + 1), 0, 0);
    assert_int_equal(takeover_header_read(header, &message, &sockets, &length), ERROR_INVALID);
    takeover_header_write(header, (enum takeover_message)0, 0, 0);
    assert_int_equal(takeover_header_read(header, &message, &sockets, &length), ERROR_INVALID);
}

static void a_hello_is_read_as_it_was_written_and_never_in_part(void **state)
{
    (void)state;
    struct pack pack;
    struct takeover_hello hello = hello_make();
    struct takeover_hello again;
    pack_init(&pack);
    takeover_hello_write(&hello, &pack);
    takeover_hello_dispose(&hello);
    assert_int_equal(takeover_hello_read(&again, pack.bytes, pack.length), ERROR_NONE);
    assert_int_equal(again.workers, 3);
    assert_true(again.resumes);
    assert_string_equal(again.trunk_name, "edge");
    assert_int_equal(takeover_texts_find(&again.cores, "core-2:4433"), 1);
    assert_int_equal(takeover_texts_find(&again.cores, "core-3:4433"), SIZE_MAX);
    takeover_hello_dispose(&again);
    for (size_t length = 0; length < pack.length; length++) {
        uint8_t *copy = malloc(length + 1);
        memcpy(copy, pack.bytes, length);
        assert_int_equal(takeover_hello_read(&again, copy, length), ERROR_INVALID);
        free(copy);
    }
    pack_u8(&pack, 0); /* left over */
    assert_int_equal(takeover_hello_read(&again, pack.bytes, pack.length), ERROR_INVALID);
    pack_dispose(&pack);
}

static void a_hello_of_a_foreign_version_is_read_as_far_as_it_can_be_refused(void **state)
{
    (void)state;
    struct pack pack;
    struct takeover_hello hello = hello_make();
    struct takeover_hello again;
    hello.version_oldest = TAKEOVER_VERSION + 1;
    hello.version = TAKEOVER_VERSION + 4;
    pack_init(&pack);
    takeover_hello_write(&hello, &pack);
    takeover_hello_dispose(&hello);
    pack_cut(&pack, 12); /* what follows may have any form there */
    assert_int_equal(takeover_hello_read(&again, pack.bytes, pack.length), ERROR_NONE);
    assert_int_equal(again.version_oldest, TAKEOVER_VERSION + 1);
    assert_int_equal(again.version, TAKEOVER_VERSION + 4);
    takeover_hello_dispose(&again);
    pack_dispose(&pack);
}

static void the_other_messages_are_read_as_they_were_written(void **state)
{
    (void)state;
    static const uint8_t up[] = {1, 0, 1, 1};
    struct pack pack;
    struct takeover_welcome welcome = {.version = TAKEOVER_VERSION, .identity = 77};
    struct takeover_ready ready = {.listener_count = 2, .listeners = {1, UINT16_MAX}, .up = up, .up_count = sizeof(up)};
    struct takeover_worker worker = {.index = 4, .numbered = 1000, .listener_count = 1, .listeners = {9}};
    struct takeover_worker worker_again;
    struct takeover_ready ready_again;
    uint64_t count = 0;
    pack_init(&pack);
    assert_int_equal(takeover_texts_add(&welcome.listens, "0.0.0.0:443"), ERROR_NONE);
    takeover_welcome_write(&welcome, &pack);
    takeover_welcome_dispose(&welcome);
    assert_int_equal(takeover_welcome_read(&welcome, pack.bytes, pack.length), ERROR_NONE);
    assert_int_equal(welcome.identity, 77);
    assert_string_equal(welcome.listens.items[0], "0.0.0.0:443");
    takeover_welcome_dispose(&welcome);
    assert_int_equal(takeover_welcome_read(&welcome, pack.bytes, pack.length - 1), ERROR_INVALID);
    pack.bytes[1] = TAKEOVER_VERSION + 1;
    assert_int_equal(takeover_welcome_read(&welcome, pack.bytes, pack.length), ERROR_INVALID);
    pack_clear(&pack);
    takeover_ready_write(&ready, &pack);
    assert_int_equal(takeover_ready_read(&ready_again, pack.bytes, pack.length), ERROR_NONE);
    assert_int_equal(ready_again.listeners[1], UINT16_MAX);
    assert_int_equal(ready_again.up_count, sizeof(up));
    assert_memory_equal(ready_again.up, up, sizeof(up));
    assert_int_equal(takeover_ready_read(&ready_again, pack.bytes, pack.length - 1), ERROR_INVALID);
    pack_clear(&pack);
    memset(worker.secret, 0x5a, sizeof(worker.secret));
    takeover_worker_write(&worker, &pack);
    assert_int_equal(takeover_worker_read(&worker_again, pack.bytes, pack.length), ERROR_NONE);
    assert_int_equal(worker_again.index, 4);
    assert_int_equal(worker_again.numbered, 1000);
    assert_int_equal(worker_again.listeners[0], 9);
    assert_memory_equal(worker_again.secret, worker.secret, sizeof(worker.secret));
    assert_int_equal(takeover_worker_read(&worker_again, pack.bytes, pack.length - 1), ERROR_INVALID);
    pack_clear(&pack);
    takeover_count_write(15000, &pack);
    assert_int_equal(takeover_count_read(&count, pack.bytes, pack.length), ERROR_NONE);
    assert_int_equal(count, 15000);
    assert_int_equal(takeover_count_read(&count, pack.bytes, 7), ERROR_INVALID);
    pack_dispose(&pack);
}

static void without_memory_a_hello_is_not_there(void **state)
{
    (void)state;
    struct pack pack;
    struct takeover_hello hello = hello_make();
    struct takeover_hello again;
    pack_init(&pack);
    takeover_hello_write(&hello, &pack);
    takeover_hello_dispose(&hello);
    enum error_code error = ERROR_NO_MEMORY;
    for (uint64_t nth = 1; error != ERROR_NONE; nth++) {
        memory_fail_at(nth);
        error = takeover_hello_read(&again, pack.bytes, pack.length);
        memory_fail_at(0);
        assert_true(nth < 100);
    }
    takeover_hello_dispose(&again);
    pack_dispose(&pack);
}

/* ---- streams ---- */

struct stream_parts {
    uint8_t input;
    uint8_t output;
    uint32_t retained;
    uint32_t unconsumed;
    uint32_t queued;
};

static enum error_code stream_take(const struct stream_parts *parts, struct trunk_stream *stream, struct slab *slab,
                                   struct buffer_budget *buffers)
{
    static const uint8_t bytes[64];
    struct pack pack;
    struct unpack unpack;
    pack_init(&pack);
    pack_u32(&pack, 1000);
    pack_u32(&pack, 2000);
    pack_u8(&pack, parts->input);
    pack_u8(&pack, parts->output);
    pack_u8(&pack, 1);
    pack_u32(&pack, parts->retained);
    pack_u32(&pack, parts->unconsumed);
    pack_u32(&pack, 5);
    pack_bytes(&pack, bytes, parts->queued);
    unpack_init(&unpack, pack.bytes, pack.length);
    enum error_code error = trunk_stream_import(stream, &unpack, slab, buffers);
    pack_dispose(&pack);
    return error;
}

static void what_waits_for_a_taken_stream_is_charged_once(void **state)
{
    (void)state;
    static const struct stream_parts possible = {STREAM_OPEN, STREAM_OPEN, 10, 7, 30};
    static const struct stream_parts impossible = {STREAM_OPEN, STREAM_OPEN, 31, 7, 30};
    static const struct buffer_events events = {.mark = NULL};
    struct scheduler scheduler;
    struct buffer_budget budget;
    struct slab slab;
    struct trunk_stream stream;
    scheduler_init(&scheduler, 1);
    buffer_budget_init(&budget, 1000, &scheduler, &events, NULL);
    trunk_work_slab_init(&slab);
    assert_int_equal(stream_take(&possible, &stream, &slab, &budget), ERROR_NONE);
    assert_int_equal(budget.charged_bytes, 7 + 30);
    trunk_stream_forget(&stream);
    assert_int_equal(budget.charged_bytes, 0);
    assert_int_equal(stream_take(&impossible, &stream, &slab, &budget), ERROR_INVALID);
    assert_int_equal(budget.charged_bytes, 0);
    slab_dispose(&slab);
    buffer_budget_dispose(&budget);
}

static void a_stream_is_taken_suspended_and_can_be_passed_on_again(void **state)
{
    (void)state;
    static const struct stream_parts possible[] = {
        {STREAM_EXPECT_OPEN, STREAM_EXPECT_OPEN, 0, 0, 0},
        {STREAM_OPEN, STREAM_OPEN, 10, 7, 30},
        {STREAM_ENDED, STREAM_ENDING, 0, 0, 20},
        {STREAM_OPEN, STREAM_ENDED, 21, 0, 20},
        {STREAM_ENDED, STREAM_ENDED, 1, 3, 0},
    };
    struct slab slab;
    trunk_work_slab_init(&slab);
    for (size_t i = 0; i < sizeof(possible) / sizeof(possible[0]); i++) {
        struct trunk_stream stream;
        struct trunk_stream again;
        struct pack pack;
        struct unpack unpack;
        assert_int_equal(stream_take(&possible[i], &stream, &slab, NULL), ERROR_NONE);
        assert_true(trunk_stream_suspended(&stream));
        assert_true(trunk_stream_attached(&stream));
        assert_true(trunk_stream_exportable(&stream));
        assert_int_equal(trunk_stream_unconsumed(&stream), possible[i].unconsumed);
        bool ended = possible[i].output == STREAM_ENDED;
        assert_int_equal(trunk_stream_retained(&stream), possible[i].retained - (ended ? 1U : 0U));
        pack_init(&pack);
        trunk_stream_export(&stream, &pack);
        unpack_init(&unpack, pack.bytes, pack.length);
        assert_int_equal(trunk_stream_import(&again, &unpack, &slab, NULL), ERROR_NONE);
        assert_int_equal(again.received, 1000);
        assert_int_equal(again.sent, 2000);
        assert_int_equal(again.input, stream.input);
        assert_int_equal(again.output, stream.output);
        assert_int_equal(again.work->retained, stream.work->retained);
        assert_int_equal(again.work->inherited, 5);
        assert_int_equal(trunk_stream_queued(&again), trunk_stream_queued(&stream));
        trunk_stream_forget(&stream);
        trunk_stream_forget(&again);
        assert_false(trunk_stream_attached(&stream));
        pack_dispose(&pack);
    }
    assert_int_equal(slab.objects, 0);
    slab_dispose(&slab);
}

static void a_stream_that_cannot_be_is_refused(void **state)
{
    (void)state;
    static const struct stream_parts impossible[] = {
        {STREAM_RESET, STREAM_OPEN, 0, 0, 0},              /* is no more */
        {STREAM_OPEN, STREAM_EXPECT_OPEN, 0, 0, 0},        /* half answered */
        {STREAM_EXPECT_OPEN, STREAM_EXPECT_OPEN, 0, 0, 1}, /* bytes before the answer */
        {STREAM_OPEN, STREAM_OPEN, 31, 0, 30},             /* retains more than there is */
        {STREAM_OPEN, STREAM_ENDED, 10, 0, 20},            /* ended before all was sent */
        {STREAM_OPEN, STREAM_ENDED, 0, 0, 0},              /* an end that nobody will be told of */
        {STREAM_OPEN, STREAM_OPEN, 0, UINT32_MAX, 0},      /* more than any window */
        {STREAM_STATE_COUNT, STREAM_STATE_COUNT, 0, 0, 0},
    };
    struct slab slab;
    trunk_work_slab_init(&slab);
    for (size_t i = 0; i < sizeof(impossible) / sizeof(impossible[0]); i++) {
        struct trunk_stream stream;
        assert_int_equal(stream_take(&impossible[i], &stream, &slab, NULL), ERROR_INVALID);
        assert_int_equal(slab.objects, 0);
    }
    struct trunk_stream stream;
    memory_fail_at(1);
    assert_int_equal(stream_take(&impossible[0], &stream, &slab, NULL),
                     ERROR_INVALID); /* the pack fails: nothing to read */
    memory_fail_at(2);
    assert_int_equal(stream_take(&(struct stream_parts){STREAM_OPEN, STREAM_OPEN, 0, 0, 9}, &stream, &slab, NULL),
                     ERROR_NO_MEMORY);
    memory_fail_at(0);
    assert_int_equal(slab.objects, 0);
    slab_dispose(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_is_read_as_it_was_written),
        cmocka_unit_test(a_hello_is_read_as_it_was_written_and_never_in_part),
        cmocka_unit_test(a_hello_of_a_foreign_version_is_read_as_far_as_it_can_be_refused),
        cmocka_unit_test(the_other_messages_are_read_as_they_were_written),
        cmocka_unit_test(without_memory_a_hello_is_not_there),
        cmocka_unit_test(what_waits_for_a_taken_stream_is_charged_once),
        cmocka_unit_test(a_stream_is_taken_suspended_and_can_be_passed_on_again),
        cmocka_unit_test(a_stream_that_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
