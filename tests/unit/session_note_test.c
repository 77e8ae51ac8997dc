/*
 * Sessions that outlive their core, at the core: what is noted and when the edge hears of it, what a session that is
 * opened again is told, and the moving of sessions while a core drains. A real trunk on both sides, in memory, under
 * virtual time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/handlers/handlers.h"
#include "core_pair.h"
#include "mux/limits.h"
#include "mux/log.h"
#include "mux/memory.h"

#define TIMEOUT_MS 5000U

/* What the handler under test does, and what it saw. */
static struct {
    bool later;                 /* does not accept in `open` */
    bool keep;                  /* does not consume */
    trunkline_session *session; /* the last opened */
    int opens;
    int closeds;
    trunkline_reason reason;
    int reopens;
    trunkline_reopening reopening;
    char note[TRUNKLINE_NOTE_MAX + 1];
} probe;

static void probe_open(trunkline_session *session, void *service)
{
    (void)service;
    probe.opens++;
    probe.session = session;
    probe.reopens = trunkline_get_reopening(session, &probe.reopening);
    if (probe.reopens && probe.reopening.note != NULL) {
        memcpy(probe.note, probe.reopening.note, probe.reopening.note_length);
    }
    if (!probe.later) {
        assert_int_equal(trunkline_accept(session), 0);
    }
}

static void probe_data(trunkline_session *session, const void *bytes, size_t length)
{
    (void)bytes;
    if (!probe.keep) {
        trunkline_consume(session, length);
    }
}

static void probe_closed(trunkline_session *session, trunkline_reason reason)
{
    probe.closeds++;
    probe.reason = reason;
    probe.session = probe.session == session ? NULL : probe.session;
}

static const trunkline_handler probe_handler = {
    .abi = TRUNKLINE_ABI,
    .name = "probe",
    .open = probe_open,
    .data = probe_data,
    .closed = probe_closed,
};

static struct core_pair pair;
static struct core_client client;
static struct core_client other;
static struct metadata metadata;

static void keep_log(const char *line, void *context)
{
    (void)line;
    (void)context;
}

static void open_client(struct core_client *one, uint8_t key)
{
    memset(metadata.session.id, key, sizeof(metadata.session.id));
    assert_int_equal(core_client_open_as(&pair, one, &metadata), ERROR_NONE);
    core_pair_pump(&pair);
}

static void start_with(const trunkline_handler *handler, bool reopens)
{
    assert_int_equal(core_pair_init_resuming(&pair, handler, TIMEOUT_MS), ERROR_NONE);
    pair.services.entries[0].reopens = reopens;
    metadata = (struct metadata){.service = "test", .server_name = "example.com", .alpn = ""};
    metadata.session.known = 1;
    memset(&other, 0, sizeof(other));
    open_client(&client, 1);
}

static void start(void)
{
    start_with(&probe_handler, true);
    assert_int_equal(client.opened, !probe.later);
}

static void finish(void)
{
    core_client_dispose(&client);
    core_client_dispose(&other);
    core_pair_pump(&pair);
    core_pair_wait(&pair, TIMEOUT_MS + 2); /* for those that have no trunk */
    core_pair_dispose(&pair);
    assert_int_equal(probe.opens, probe.closeds);
}

static int reset_probe(void **state)
{
    (void)state;
    memset(&probe, 0, sizeof(probe));
    memset(&client, 0, sizeof(client));
    log_capture(keep_log, NULL);
    return 0;
}

/* The trunk is lost, and the core with all it knew; the edge asks the next one. */
static enum error_code reopen(struct core_client *one)
{
    core_pair_lose(&pair);
    core_pair_wait(&pair, TIMEOUT_MS + 2);
    assert_int_equal(core_worker_session_count(&pair.worker), 0);
    assert_int_equal(core_pair_connect(&pair, "edge.example"), ERROR_NONE);
    metadata.session.note = one->noted > 0 && one->note.length > 0 ? one->note : (struct metadata_note){0};
    enum error_code error = core_client_resume(&pair, one, &metadata);
    core_pair_pump(&pair);
    return error;
}

static void the_edge_hears_at_once_that_a_session_may_be_opened_again(void **state)
{
    (void)state;
    start();
    assert_int_equal(client.noted, 1);
    assert_int_equal(client.note.length, 0);
    finish();
}

static void sessions_of_other_services_and_without_a_key_tell_nothing(void **state)
{
    (void)state;
    start_with(&probe_handler, false);
    assert_int_equal(trunkline_set_note(probe.session, "x", 1), 0);
    metadata.session.known = 0;
    pair.services.entries[0].reopens = true;
    open_client(&other, 2);
    assert_int_equal(trunkline_set_note(probe.session, "y", 1), 0);
    core_pair_wait(&pair, 200);
    assert_int_equal(client.noted + other.noted, 0);
    finish();
}

static void a_note_has_a_largest_size_and_an_open_session(void **state)
{
    static char bytes[TRUNKLINE_NOTE_MAX + 1];

    (void)state;
    probe.later = true;
    start();
    assert_int_equal(trunkline_set_note(probe.session, "x", 1), -1); /* not accepted yet */
    assert_int_equal(trunkline_accept(probe.session), 0);
    memset(bytes, 'n', sizeof(bytes));
    assert_int_equal(trunkline_set_note(probe.session, bytes, sizeof(bytes)), -1);
    assert_int_equal(trunkline_set_note(probe.session, bytes, sizeof(bytes) - 1), 0);
    core_pair_wait(&pair, 60);
    assert_int_equal(client.note.length, TRUNKLINE_NOTE_MAX);
    assert_memory_equal(client.note.bytes, bytes, TRUNKLINE_NOTE_MAX);
    trunkline_session *session = probe.session;
    trunkline_abort(session);
    assert_int_equal(trunkline_set_note(session, "x", 1), -1);
    finish();
}

static void of_many_notes_the_last_is_sent_with_its_own_offsets(void **state)
{
    char text[16];

    (void)state;
    start();
    core_client_send(&client, "12345", 5, false);
    core_pair_pump(&pair);
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof(text), "note %d", i);
        assert_int_equal(trunkline_write(probe.session, "abc", 3), 3);
        assert_int_equal(trunkline_set_note(probe.session, text, strlen(text)), 0);
    }
    trunkline_write(probe.session, "more", 4);
    core_pair_wait(&pair, 60);
    assert_int_equal(client.noted, 2); /* the one that says nothing, and this */
    assert_int_equal(client.note.length, 7);
    assert_memory_equal(client.note.bytes, "note 99", 7);
    assert_int_equal(client.note.sent, 300);
    assert_int_equal(client.note.consumed, 5);
    finish();
}

static void a_note_is_told_again_on_another_trunk(void **state)
{
    (void)state;
    start();
    assert_int_equal(trunkline_set_note(probe.session, "kept", 4), 0);
    core_pair_lose(&pair); /* before it was sent */
    core_pair_wait(&pair, 100);
    assert_int_equal(core_pair_connect(&pair, "edge.example"), ERROR_NONE);
    assert_int_equal(core_client_resume(&pair, &client, &metadata), ERROR_NONE);
    core_pair_wait(&pair, 60);
    assert_int_equal(client.resumed, 1);
    assert_int_equal(probe.opens, 1);
    assert_int_equal(client.noted, 2);
    assert_memory_equal(client.note.bytes, "kept", 4);
    finish();
}

static void the_next_session_is_given_the_note_and_what_happened_after_it(void **state)
{
    (void)state;
    start();
    trunkline_write(probe.session, "before", 6);
    assert_int_equal(trunkline_set_note(probe.session, "six", 3), 0);
    core_pair_wait(&pair, 60);
    trunkline_write(probe.session, "afterwards", 10);
    core_client_send(&client, "1234", 4, false);
    core_pair_wait(&pair, 100);
    assert_int_equal(reopen(&client), ERROR_NONE);
    assert_int_equal(probe.opens, 2);
    assert_int_equal(probe.reopens, 1);
    assert_int_equal(client.resumed, 1);
    assert_string_equal(probe.note, "six");
    assert_int_equal(probe.reopening.delivered, 10);
    assert_int_equal(probe.reopening.consumed, 4);
    assert_int_equal(pair.worker.counters.sessions_reopened, 1);
    finish();
}

/* Neither in what is noted nor in what came after it. */
static void the_end_is_no_byte(void **state)
{
    (void)state;
    start();
    core_client_send(&client, "1234", 4, true);
    core_pair_pump(&pair);
    assert_int_equal(trunkline_set_note(probe.session, "four", 4), 0);
    core_pair_wait(&pair, 100);
    assert_int_equal(client.note.consumed, 4);
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(reopen(&client), ERROR_NONE);
        assert_string_equal(probe.note, "four");
        assert_int_equal(probe.reopening.delivered, 0);
        assert_int_equal(probe.reopening.consumed, 0);
        core_pair_wait(&pair, 100);
    }
    finish();
}

/* The edge's client is slow: what came from the earlier handler, and waits there, takes room from the next one. */
static void what_the_client_has_not_taken_takes_room_of_the_next_session(void **state)
{
    static char bytes[LIMIT_STREAM_WINDOW_BYTES];

    (void)state;
    start();
    client.consume = false;
    assert_int_equal(trunkline_write(probe.session, bytes, 10000), 10000);
    core_pair_wait(&pair, 100);
    assert_int_equal(core_client_received(&client), 10000);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(reopen(&client), ERROR_NONE);
        assert_int_equal(trunkline_room(probe.session), sizeof(bytes) - 10000);
    }
    assert_int_equal(trunkline_write(probe.session, bytes, sizeof(bytes)), sizeof(bytes) - 10000);
    core_pair_wait(&pair, 100);
    assert_int_equal(core_client_received(&client), sizeof(bytes));
    core_client_take(&client, sizeof(bytes));
    core_pair_wait(&pair, 100);
    assert_int_equal(trunkline_room(probe.session),
                     10000); /* the rest of the window is granted again with more of it */
    assert_int_equal(probe.opens, 3);
    finish();
}

/* A second loss soon after the first: nothing that the new session has not noted itself may take the note away. */
static void a_note_outlives_a_session_that_left_none_of_its_own(void **state)
{
    (void)state;
    start();
    trunkline_write(probe.session, "before", 6);
    assert_int_equal(trunkline_set_note(probe.session, "six", 3), 0);
    core_pair_wait(&pair, 60);
    assert_int_equal(client.noted, 2);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(reopen(&client), ERROR_NONE);
        core_pair_wait(&pair, 100);
        assert_int_equal(client.resumed, i);
        assert_int_equal(client.noted, 2);
        memset(probe.note, 0, sizeof(probe.note));
        assert_int_equal(trunkline_write(probe.session, "ab", 2), 2);
        core_pair_pump(&pair);
    }
    assert_int_equal(reopen(&client), ERROR_NONE);
    assert_string_equal(probe.note, "six");
    assert_int_equal(probe.reopening.delivered, 6);
    finish();
}

static void only_within_open_is_a_reopening_told(void **state)
{
    trunkline_reopening reopening;
    trunkline_session *waiting;

    (void)state;
    probe.later = true;
    start();
    waiting = probe.session;
    assert_int_equal(probe.reopens, 0);
    probe.later = false;
    open_client(&other, 2);
    assert_int_equal(trunkline_get_reopening(waiting, &reopening), 0);
    assert_int_equal(trunkline_get_reopening(probe.session, &reopening), 0);
    /* A request that resumes a session is not that of the one that waits. */
    assert_int_equal(trunkline_accept(waiting), 0);
    core_pair_pump(&pair);
    probe.later = true;
    struct core_client third;
    open_client(&third, 3);
    waiting = probe.session;
    core_pair_lose(&pair);
    core_pair_pump(&pair);
    assert_int_equal(core_pair_connect(&pair, "edge.example"), ERROR_NONE);
    memset(metadata.session.id, 1, sizeof(metadata.session.id));
    assert_int_equal(core_client_resume(&pair, &client, &metadata), ERROR_NONE);
    core_pair_pump(&pair);
    assert_int_equal(client.resumed, 1);
    assert_int_equal(trunkline_get_reopening(waiting, &reopening), 0);
    core_client_dispose(&third);
    finish();
}

static void a_service_that_does_not_reopen_says_that_the_session_is_gone(void **state)
{
    (void)state;
    start_with(&probe_handler, false);
    assert_int_equal(reopen(&client), ERROR_NONE);
    assert_int_equal(client.closed, 1);
    assert_int_equal(client.error, ERROR_REFUSED);
    assert_int_equal(client.detail, 410);
    assert_int_equal(probe.opens, 1);
    assert_int_equal(pair.worker.counters.resumes_refused, 1);
    finish();
}

/* The stall of one trunk is seen here as that of its core's end: nothing is taken from it. */
static void notes_that_a_trunk_does_not_take_wait_and_are_bounded(void **state)
{
    static const uint8_t bytes[METADATA_NOTE_MAX];
    const struct metadata_note note = {.bytes = bytes, .length = sizeof(bytes)};
    unsigned taken = 0;

    (void)state;
    start();
    while (trunk_stream_note(&probe.session->stream, &note) == ERROR_NONE) {
        taken++;
    }
    assert_in_range(taken, LIMIT_TRUNK_NOTES_BYTES / 2048, LIMIT_TRUNK_NOTES_BYTES / 1024 + 1);
    assert_int_equal(trunkline_set_note(probe.session, "last", 4), 0);
    scheduler_advance(pair.scheduler, pair.scheduler->now_us + 60000);
    assert_int_equal(client.noted, 1);
    core_pair_wait(&pair, 120);
    assert_int_equal(client.noted, 1 + (int)taken + 1);
    assert_memory_equal(client.note.bytes, "last", 4);
    finish();
}

static void a_stalled_trunk_does_not_hold_up_the_notes_of_another(void **state)
{
    static const uint8_t bytes[METADATA_NOTE_MAX];
    const struct metadata_note note = {.bytes = bytes, .length = sizeof(bytes)};
    struct core_pair stalled;

    (void)state;
    start();
    while (trunk_stream_note(&probe.session->stream, &note) == ERROR_NONE) {
    }
    assert_int_equal(trunkline_set_note(probe.session, "stalled", 7), 0);
    /* The first trunk is put aside; the other client comes on one of its own. */
    stalled = pair;
    pair.edge = pair.core = NULL;
    assert_int_equal(core_pair_connect(&pair, "edge.example"), ERROR_NONE);
    open_client(&other, 2);
    assert_int_equal(trunkline_set_note(probe.session, "moving", 6), 0);
    core_pair_wait(&pair, 120);
    assert_int_equal(other.noted, 2);
    assert_memory_equal(other.note.bytes, "moving", 6);
    assert_int_equal(client.noted, 1);
    trunk_free(&stalled.edge);
    trunk_free(&stalled.core);
    finish();
}

static void a_core_that_drains_moves_its_sessions_after_notes_and_acknowledgements(void **state)
{
    (void)state;
    start();
    core_client_send(&client, "1234", 4, false);
    core_pair_pump(&pair);
    trunkline_write(probe.session, "abc", 3);
    assert_int_equal(trunkline_set_note(probe.session, "late", 4), 0);
    core_worker_drain(&pair.worker);
    core_pair_wait(&pair, 20);
    assert_int_equal(client.suspended, 0); /* the note is not sent yet */
    core_pair_wait(&pair, 100);
    assert_int_equal(client.suspended, 1);
    assert_int_equal(client.error, ERROR_SHUTDOWN);
    assert_memory_equal(client.note.bytes, "late", 4);
    assert_int_equal(trunk_stream_retained(&client.stream), 0);
    assert_int_equal(probe.closeds, 1);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_MOVED);
    assert_int_equal(pair.worker.counters.sessions_moved, 1);
    assert_int_equal(pair.drained, 1);
    trunk_stream_reset(&client.stream, TRUNK_CODE_CANCEL);
    finish();
}

static void a_session_that_is_accepted_while_its_core_drains_is_moved_too(void **state)
{
    (void)state;
    probe.later = true;
    start();
    core_worker_drain(&pair.worker);
    core_pair_wait(&pair, 200);
    assert_int_equal(probe.closeds, 0);
    assert_int_equal(trunkline_accept(probe.session), 0);
    core_pair_wait(&pair, 100);
    assert_int_equal(client.suspended, 1);
    assert_int_equal(pair.worker.counters.sessions_moved, 1);
    trunk_stream_reset(&client.stream, TRUNK_CODE_CANCEL);
    finish();
}

static void sessions_of_other_services_are_not_moved(void **state)
{
    (void)state;
    start_with(&probe_handler, false);
    core_worker_drain(&pair.worker);
    core_pair_wait(&pair, 200);
    assert_int_equal(client.suspended, 0);
    assert_int_equal(probe.closeds, 0);
    finish();
}

static void a_drain_lets_what_was_written_leave_first(void **state)
{
    static const uint8_t bytes[12000];

    (void)state;
    start();
    assert_int_equal(trunkline_write(probe.session, bytes, sizeof(bytes)), sizeof(bytes));
    core_worker_drain(&pair.worker);
    scheduler_advance(pair.scheduler, pair.scheduler->now_us + 1000); /* before the trunk may send */
    assert_int_equal(pair.worker.counters.sessions_moved, 0);
    core_pair_wait(&pair, 100);
    assert_int_equal(client.suspended, 1);
    assert_int_equal(core_client_received(&client), sizeof(bytes));
    trunk_stream_reset(&client.stream, TRUNK_CODE_CANCEL);
    finish();
}

static void a_drain_does_not_wait_for_ever_for_a_trunk_that_takes_nothing(void **state)
{
    (void)state;
    start();
    assert_int_equal(trunkline_write(probe.session, "stuck", 5), 5);
    core_worker_drain(&pair.worker);
    for (int i = 0; i < 900; i++) {
        scheduler_advance(pair.scheduler, pair.scheduler->now_us + 1000);
    }
    assert_int_equal(pair.worker.counters.sessions_moved, 0);
    for (int i = 0; i < 200; i++) {
        scheduler_advance(pair.scheduler, pair.scheduler->now_us + 1000);
    }
    assert_int_equal(pair.worker.counters.sessions_moved, 1);
    core_pair_pump(&pair);
    assert_int_equal(client.suspended, 1);
    trunk_stream_reset(&client.stream, TRUNK_CODE_CANCEL);
    finish();
}

static void a_note_that_memory_is_out_for_is_refused_and_nothing_else_is_lost(void **state)
{
    (void)state;
    start();
    assert_int_equal(trunkline_set_note(probe.session, "good", 4), 0);
    memory_fail_at(1);
    assert_int_equal(trunkline_set_note(probe.session, "more", 4), -1);
    memory_fail_at(0);
    core_pair_wait(&pair, 60);
    assert_memory_equal(client.note.bytes, "good", 4);
    assert_int_equal(client.closed, 0);
    finish();
}

static void the_echo_sends_nothing_twice_whose_consumption_was_not_told(void **state)
{
    (void)state;
    start_with(&handler_echo, true);
    core_client_send(&client, "0123456789", 10, false);
    core_pair_pump(&pair); /* comes back; that it was consumed is told later */
    assert_int_equal(core_client_received(&client), 10);
    assert_int_equal(trunk_stream_retained(&client.stream), 10);
    assert_int_equal(reopen(&client), ERROR_NONE);
    assert_int_equal(client.resumed, 1);
    assert_int_equal(core_client_received(&client), 10);
    core_client_send(&client, "abc", 3, true);
    core_pair_wait(&pair, 100);
    uint8_t all[14] = {0};
    assert_int_equal(chain_copy(&client.received, 0, all, sizeof(all)), 13);
    assert_memory_equal(all, "0123456789abc", 13);
    assert_int_equal(client.ended, 1);
    assert_int_equal(client.closed, 1);
    assert_int_equal(client.error, ERROR_NONE);
    finish();
}

int main(void)
{
#define NOTE_TEST(name) cmocka_unit_test_setup(name, reset_probe)
    const struct CMUnitTest tests[] = {
        NOTE_TEST(the_edge_hears_at_once_that_a_session_may_be_opened_again),
        NOTE_TEST(sessions_of_other_services_and_without_a_key_tell_nothing),
        NOTE_TEST(a_note_has_a_largest_size_and_an_open_session),
        NOTE_TEST(of_many_notes_the_last_is_sent_with_its_own_offsets),
        NOTE_TEST(a_note_is_told_again_on_another_trunk),
        NOTE_TEST(the_next_session_is_given_the_note_and_what_happened_after_it),
        NOTE_TEST(the_end_is_no_byte),
        NOTE_TEST(what_the_client_has_not_taken_takes_room_of_the_next_session),
        NOTE_TEST(a_note_outlives_a_session_that_left_none_of_its_own),
        NOTE_TEST(only_within_open_is_a_reopening_told),
        NOTE_TEST(a_service_that_does_not_reopen_says_that_the_session_is_gone),
        NOTE_TEST(notes_that_a_trunk_does_not_take_wait_and_are_bounded),
        NOTE_TEST(a_stalled_trunk_does_not_hold_up_the_notes_of_another),
        NOTE_TEST(a_core_that_drains_moves_its_sessions_after_notes_and_acknowledgements),
        NOTE_TEST(a_session_that_is_accepted_while_its_core_drains_is_moved_too),
        NOTE_TEST(sessions_of_other_services_are_not_moved),
        NOTE_TEST(a_drain_lets_what_was_written_leave_first),
        NOTE_TEST(a_drain_does_not_wait_for_ever_for_a_trunk_that_takes_nothing),
        NOTE_TEST(a_note_that_memory_is_out_for_is_refused_and_nothing_else_is_lost),
        NOTE_TEST(the_echo_sends_nothing_twice_whose_consumption_was_not_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
