/*
 * Frames that carry notes: however they are cut, whatever a peer makes of them, and whoever must not send any. A real
 * trunk on both sides, in memory, under virtual time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core/handlers/handlers.h"
#include "core_pair.h"
#include "mux/memory.h"

#define TIMEOUT_MS  5000U
#define FRAME_BYTES 9U
#define FIXED_BYTES 12U
#define NOTE_TYPE   0xf8U
#define MANY_FRAMES 1000000

static struct core_pair pair;
static struct core_client client;

static void start(uint32_t resume_timeout_ms)
{
    struct metadata metadata = {.service = "test", .server_name = "example.com", .alpn = ""};

    assert_int_equal(core_pair_init_resuming(&pair, &handler_echo, resume_timeout_ms), ERROR_NONE);
    metadata.session.known = 1;
    assert_int_equal(core_client_open_as(&pair, &client, &metadata), ERROR_NONE);
    core_pair_pump(&pair);
    assert_int_equal(client.opened, 1);
}

static void finish(void)
{
    core_client_dispose(&client);
    core_pair_pump(&pair);
    core_pair_lose(&pair);
    core_pair_wait(&pair, TIMEOUT_MS + 2);
    core_pair_dispose(&pair);
}

/* A note's frame for the client's stream, with a text of so many bytes. Its length. */
static size_t frame_make(uint8_t *frame, size_t text_length)
{
    size_t length = FIXED_BYTES + text_length;

    memset(frame, 0, FRAME_BYTES + length);
    frame[0] = (uint8_t)(length >> 16);
    frame[1] = (uint8_t)(length >> 8);
    frame[2] = (uint8_t)length;
    frame[3] = NOTE_TYPE;
    frame[FRAME_BYTES + 3] = (uint8_t)client.stream.id;
    frame[FRAME_BYTES + 7] = 7;  /* sent */
    frame[FRAME_BYTES + 11] = 9; /* consumed */
    memset(frame + FRAME_BYTES + FIXED_BYTES, 'n', text_length);
    return FRAME_BYTES + length;
}

static void a_note_is_read_however_its_frame_is_cut(void **state)
{
    uint8_t frame[200];
    size_t length;

    (void)state;
    start(TIMEOUT_MS);
    length = frame_make(frame, 30);
    for (size_t cut = 1; cut < length; cut++) {
        memset(client.note_bytes, 0, sizeof(client.note_bytes));
        assert_int_equal(trunk_receive(pair.edge, frame, cut), ERROR_NONE);
        assert_int_equal(client.noted, (int)cut - 1);
        assert_int_equal(trunk_receive(pair.edge, frame + cut, length - cut), ERROR_NONE);
        assert_int_equal(client.noted, (int)cut);
        assert_int_equal(client.note.length, 30);
        assert_int_equal(client.note.sent, 7);
        assert_int_equal(client.note.consumed, 9);
        assert_memory_equal(client.note.bytes, frame + FRAME_BYTES + FIXED_BYTES, 30);
    }
    /* Byte by byte, and the trunk is good for other frames after it. */
    for (size_t i = 0; i < length; i++) {
        assert_int_equal(trunk_receive(pair.edge, frame + i, 1), ERROR_NONE);
    }
    assert_int_equal(client.noted, (int)length);
    core_client_send(&client, "still here", 10, false);
    core_pair_pump(&pair);
    assert_int_equal(core_client_received(&client), 10);
    finish();
}

static void a_note_has_a_largest_size_on_the_wire(void **state)
{
    static uint8_t frame[FRAME_BYTES + FIXED_BYTES + METADATA_NOTE_MAX + 1];
    size_t length;

    (void)state;
    start(TIMEOUT_MS);
    length = frame_make(frame, METADATA_NOTE_MAX);
    assert_int_equal(trunk_receive(pair.edge, frame, length), ERROR_NONE);
    assert_int_equal(client.noted, 1);
    assert_int_equal(client.note.length, METADATA_NOTE_MAX);
    length = frame_make(frame, METADATA_NOTE_MAX + 1);
    assert_int_equal(trunk_receive(pair.edge, frame, length), ERROR_NONE);
    assert_int_equal(client.noted, 1);
    finish();
}

/* A frame that is too long must not be taken for what is left of it when a piece in the middle is dropped. */
static void of_a_frame_that_is_too_long_no_part_becomes_a_note(void **state)
{
    static uint8_t frame[FRAME_BYTES + FIXED_BYTES + 3 * METADATA_NOTE_MAX];
    size_t length;

    (void)state;
    start(TIMEOUT_MS);
    length = frame_make(frame, 3 * METADATA_NOTE_MAX);
    assert_int_equal(trunk_receive(pair.edge, frame, FRAME_BYTES + FIXED_BYTES + 5), ERROR_NONE);
    assert_int_equal(
        trunk_receive(pair.edge, frame + FRAME_BYTES + FIXED_BYTES + 5, length - FRAME_BYTES - FIXED_BYTES - 10),
        ERROR_NONE);
    assert_int_equal(trunk_receive(pair.edge, frame + length - 5, 5), ERROR_NONE);
    assert_int_equal(client.noted, 0);
    length = frame_make(frame, 3);
    assert_int_equal(trunk_receive(pair.edge, frame, length), ERROR_NONE);
    assert_int_equal(client.noted, 1);
    finish();
}

/* Feeds the same frame until the trunk has had enough of it. */
static enum error_code feed_many(struct trunk *trunk, const uint8_t *frame, size_t length)
{
    enum error_code error = ERROR_NONE;

    for (int i = 0; i < MANY_FRAMES && error == ERROR_NONE; i++) {
        error = trunk_receive(trunk, frame, length);
    }
    return error;
}

static void frames_that_are_too_short_or_too_long_are_paid_for(void **state)
{
    static uint8_t frame[FRAME_BYTES + FIXED_BYTES + METADATA_NOTE_MAX + 1];
    const uint8_t empty[FRAME_BYTES] = {0, 0, 0, NOTE_TYPE};

    (void)state;
    start(TIMEOUT_MS);
    assert_int_equal(feed_many(pair.edge, empty, sizeof(empty)), ERROR_TRUNK_FLOODED);
    assert_int_equal(client.noted, 0);
    finish();
    start(TIMEOUT_MS);
    assert_int_equal(feed_many(pair.edge, frame, frame_make(frame, METADATA_NOTE_MAX + 1)), ERROR_TRUNK_FLOODED);
    assert_int_equal(client.noted, 0);
    finish();
}

static void notes_to_an_acceptor_or_without_negotiation_are_paid_for(void **state)
{
    static uint8_t frame[FRAME_BYTES + FIXED_BYTES + METADATA_NOTE_MAX];

    (void)state;
    start(TIMEOUT_MS);
    assert_int_equal(feed_many(pair.core, frame, frame_make(frame, 10)), ERROR_TRUNK_FLOODED);
    finish();
    start(0); /* paid for by their bytes, like all that is ignored */
    assert_int_equal(feed_many(pair.edge, frame, frame_make(frame, METADATA_NOTE_MAX)), ERROR_TRUNK_FLOODED);
    assert_int_equal(client.noted, 0);
    finish();
}

static void a_note_for_no_stream_is_nothing(void **state)
{
    uint8_t frame[64];
    size_t length;

    (void)state;
    start(TIMEOUT_MS);
    length = frame_make(frame, 10);
    frame[FRAME_BYTES + 3] = 77;
    assert_int_equal(trunk_receive(pair.edge, frame, length), ERROR_NONE);
    assert_int_equal(client.noted, 0);
    finish();
}

static void a_note_that_memory_is_out_for_fails_its_trunk(void **state)
{
    uint8_t frame[64];
    size_t length;

    (void)state;
    start(TIMEOUT_MS);
    length = frame_make(frame, 10);
    memory_fail_at(1);
    assert_int_equal(trunk_receive(pair.edge, frame, length), ERROR_NO_MEMORY);
    memory_fail_at(0);
    assert_int_equal(client.noted, 0);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_note_is_read_however_its_frame_is_cut),
        cmocka_unit_test(a_note_has_a_largest_size_on_the_wire),
        cmocka_unit_test(of_a_frame_that_is_too_long_no_part_becomes_a_note),
        cmocka_unit_test(frames_that_are_too_short_or_too_long_are_paid_for),
        cmocka_unit_test(notes_to_an_acceptor_or_without_negotiation_are_paid_for),
        cmocka_unit_test(a_note_for_no_stream_is_nothing),
        cmocka_unit_test(a_note_that_memory_is_out_for_fails_its_trunk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
