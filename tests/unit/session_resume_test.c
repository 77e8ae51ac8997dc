/*
 * The core's sessions whose trunk is lost: who may ask for them again, what their handler sees, and what ends them.
 * A real trunk on both sides, in memory, under virtual time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core_pair.h"
#include "mux/log.h"
#include "mux/memory.h"

#define TIMEOUT_MS 5000U

/* What the handler under test does, and what it saw. */
static struct {
    bool accept; /* in `open` */
    bool abort_when_suspended;
    bool write_when_suspended;
    trunkline_session *session; /* the last opened */
    int opens;
    int suspendeds;
    int resumeds;
    int closeds;
    trunkline_reason reason;
    size_t bytes;
} probe;

static char last_log[4096];

static void keep_log(const char *line, void *context)
{
    (void)context;
    if (strstr(line, "refused") != NULL) {
        strncpy(last_log, line, sizeof(last_log) - 1);
    }
}

static void probe_open(trunkline_session *session, void *service)
{
    (void)service;
    probe.opens++;
    probe.session = session;
    if (probe.accept) {
        assert_int_equal(trunkline_accept(session), 0);
    }
}

static void probe_data(trunkline_session *session, const void *bytes, size_t length)
{
    (void)bytes;
    probe.bytes += length;
    trunkline_consume(session, length);
}

static void probe_end(trunkline_session *session)
{
    trunkline_end(session);
}

static void probe_suspended(trunkline_session *session)
{
    probe.suspendeds++;
    if (probe.write_when_suspended) {
        assert_int_equal(trunkline_write(session, "news", 4), 4);
    }
    if (probe.abort_when_suspended) {
        trunkline_abort(session);
    }
}

static void probe_resumed(trunkline_session *session)
{
    assert_true(trunkline_room(session) > 0 || !probe.accept);
    probe.resumeds++;
}

static void probe_closed(trunkline_session *session, trunkline_reason reason)
{
    assert_ptr_equal(session, probe.session);
    probe.closeds++;
    probe.reason = reason;
    probe.session = NULL;
}

static const trunkline_handler probe_handler = {
    .abi = TRUNKLINE_ABI,
    .name = "probe",
    .open = probe_open,
    .data = probe_data,
    .end = probe_end,
    .suspended = probe_suspended,
    .resumed = probe_resumed,
    .closed = probe_closed,
};

static struct core_pair pair;
static struct core_client client;
static struct core_client other;
static struct metadata metadata;

static void start(void)
{
    assert_int_equal(core_pair_init_resuming(&pair, &probe_handler, TIMEOUT_MS), ERROR_NONE);
    metadata = (struct metadata){.service = "test", .server_name = "example.com", .alpn = ""};
    metadata.session.known = 1;
    memset(metadata.session.id, 0x5a, sizeof(metadata.session.id));
    assert_int_equal(core_client_open_as(&pair, &client, &metadata), ERROR_NONE);
    core_pair_pump(&pair);
    assert_int_equal(probe.opens, 1);
    assert_int_equal(client.opened, probe.accept);
    memset(&other, 0, sizeof(other));
}

static void finish(void)
{
    core_client_dispose(&client);
    core_client_dispose(&other);
    core_pair_pump(&pair);
    if (probe.session != NULL && probe.session->suspended_us != 0) {
        core_pair_wait(&pair, TIMEOUT_MS + 2);
    }
    core_pair_pump(&pair);
    core_pair_dispose(&pair);
    assert_int_equal(probe.opens, probe.closeds);
}

static int reset_probe(void **state)
{
    (void)state;
    memset(&probe, 0, sizeof(probe));
    probe.accept = true;
    last_log[0] = '\0';
    log_capture(keep_log, NULL);
    return 0;
}

static void lose(void)
{
    core_pair_lose(&pair);
    assert_int_equal(client.suspended, 1);
    assert_int_equal(core_worker_session_count(&pair.worker), 1);
    assert_int_equal(probe.closeds, 0);
}

static void resume_at(const char *name)
{
    assert_int_equal(core_pair_connect(&pair, name), ERROR_NONE);
    assert_int_equal(core_client_resume(&pair, &client, &metadata), ERROR_NONE);
    core_pair_pump(&pair);
}

static void expect_gone(const struct core_client *asks)
{
    assert_int_equal(asks->closed, 1);
    assert_int_equal(asks->error, ERROR_REFUSED);
    assert_int_equal(asks->detail, 410);
}

static void a_handler_hears_of_the_loss_and_of_the_return(void **state)
{
    (void)state;
    start();
    probe.write_when_suspended = true;
    core_client_send(&client, "hello", 5, false);
    lose();
    assert_int_equal(probe.suspendeds, 1);
    assert_int_equal(pair.worker.counters.sessions_suspended, 1);
    core_pair_wait(&pair, TIMEOUT_MS - 100);
    resume_at("edge.example");
    assert_int_equal(client.resumed, 1);
    assert_int_equal(probe.resumeds, 1);
    assert_int_equal(probe.bytes, 5);
    assert_int_equal(core_client_received(&client), 4);
    assert_int_equal(pair.worker.counters.sessions_resumed, 1);
    core_pair_wait(&pair, 2 * TIMEOUT_MS); /* its deadline is off */
    assert_int_equal(probe.closeds, 0);
    core_client_send(&client, " again", 6, true);
    core_pair_pump(&pair);
    assert_int_equal(probe.bytes, 11);
    assert_int_equal(client.closed, 1);
    assert_int_equal(client.error, ERROR_NONE);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_DONE);
    finish();
}

static void an_edge_that_does_not_return_loses_its_sessions(void **state)
{
    (void)state;
    start();
    lose();
    core_pair_wait(&pair, TIMEOUT_MS - 1);
    assert_int_equal(probe.closeds, 0);
    core_pair_wait(&pair, 3);
    assert_int_equal(probe.closeds, 1);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_TRUNK_LOST);
    assert_int_equal(core_worker_session_count(&pair.worker), 0);
    resume_at("edge.example");
    expect_gone(&client);
    assert_int_equal(pair.worker.counters.resumes_refused, 1);
    finish();
}

/* Each waits its own time, though one timer serves them all. */
static void each_session_waits_its_own_time(void **state)
{
    (void)state;
    start();
    core_pair_lose(&pair);
    core_pair_wait(&pair, 2000);
    assert_int_equal(core_pair_connect(&pair, "edge.example"), ERROR_NONE);
    struct metadata second = metadata;
    second.session.id[0] = 1;
    assert_int_equal(core_client_open_as(&pair, &other, &second), ERROR_NONE);
    core_pair_pump(&pair);
    trunkline_session *late = probe.session;
    core_pair_lose(&pair);
    assert_int_equal(core_worker_session_count(&pair.worker), 2);
    /* The first to go is not the one that the probe knows. */
    trunkline_session *early = slab_next(&pair.worker.sessions, NULL);
    early = early == late ? slab_next(&pair.worker.sessions, early) : early;
    probe.session = early;
    core_pair_wait(&pair, 3002);
    assert_int_equal(probe.closeds, 1);
    probe.session = late;
    core_pair_wait(&pair, 1990);
    assert_int_equal(probe.closeds, 1);
    core_pair_wait(&pair, 12);
    assert_int_equal(probe.closeds, 2);
    finish();
}

static void a_session_belongs_to_the_edge_that_began_it(void **state)
{
    (void)state;
    start();
    lose();
    assert_int_equal(core_pair_connect(&pair, "other.example"), ERROR_NONE);
    /* Whether it knows that it is to be resumed or not. */
    assert_int_equal(core_client_open_as(&pair, &other, &metadata), ERROR_NONE);
    core_pair_pump(&pair);
    expect_gone(&other);
    assert_non_null(strstr(last_log, "of another edge"));
    assert_null(strstr(last_log, "5a5a")); /* a key is never logged */
    assert_int_equal(probe.opens, 1);
    assert_int_equal(probe.resumeds, 0);
    assert_int_equal(probe.closeds, 0);
    core_pair_lose(&pair);
    resume_at("edge.example");
    assert_int_equal(client.resumed, 1);
    assert_int_equal(probe.resumeds, 1);
    finish();
}

static void a_live_session_cannot_be_taken_by_another_edge(void **state)
{
    (void)state;
    start();
    pair.origin.name = "other.example";
    assert_int_equal(core_client_open_as(&pair, &other, &metadata), ERROR_NONE);
    core_pair_pump(&pair);
    expect_gone(&other);
    assert_int_equal(client.closed, 0);
    core_client_send(&client, "hello", 5, false);
    core_pair_pump(&pair);
    assert_int_equal(probe.bytes, 5);
    finish();
}

static void a_session_that_nobody_knows_is_gone(void **state)
{
    (void)state;
    start();
    lose();
    metadata.session.id[15] ^= 1;
    resume_at("edge.example");
    expect_gone(&client);
    assert_non_null(strstr(last_log, "unknown"));
    assert_int_equal(probe.opens, 1);
    assert_int_equal(probe.resumeds, 0);
    finish();
}

/* The edge returns before the core knows of the loss: so its handler hears of neither. */
static void a_session_moves_to_another_trunk_unnoticed(void **state)
{
    (void)state;
    start();
    struct trunk *lost = pair.core;

    trunk_free(&pair.edge);
    pair.core = NULL;
    resume_at("edge.example");
    assert_int_equal(client.resumed, 1);
    assert_int_equal(probe.suspendeds + probe.resumeds, 0);
    assert_int_equal(pair.worker.counters.sessions_resumed, 1);
    trunk_free(&lost);
    assert_int_equal(probe.suspendeds + probe.closeds, 0);
    core_client_send(&client, "hello", 5, false);
    core_pair_pump(&pair);
    assert_int_equal(probe.bytes, 5);
    core_pair_lose(&pair);
    resume_at("edge.example");
    assert_int_equal(probe.suspendeds, 1);
    assert_int_equal(probe.resumeds, 1);
    finish();
}

/* What its handler does meanwhile ends it as ever. */
static void a_session_that_is_over_is_gone(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        reset_probe(NULL);
        start();
        probe.abort_when_suspended = how == 0;
        core_pair_lose(&pair);
        if (how == 1) {
            trunkline_abort(probe.session);
        }
        assert_int_equal(core_pair_connect(&pair, "edge.example"), ERROR_NONE);
        assert_int_equal(core_client_resume(&pair, &client, &metadata), ERROR_NONE);
        core_pair_pump(&pair);
        expect_gone(&client);
        assert_int_equal(probe.closeds, 1);
        assert_int_equal(probe.reason, TRUNKLINE_REASON_ABORTED);
        assert_int_equal(pair.worker.counters.resumes_refused, 1);
        finish();
    }
}

/* The same request, as nobody answered the first one. */
static void a_request_that_was_not_answered_is_asked_again(void **state)
{
    (void)state;
    for (int answered = 0; answered < 2; answered++) {
        reset_probe(NULL);
        probe.accept = false;
        start();
        lose();
        if (answered) {
            assert_int_equal(trunkline_accept(probe.session), 0);
            assert_int_equal(trunkline_write(probe.session, "hello", 5), 5);
        }
        trunk_stream_reset(&client.stream, TRUNK_CODE_CANCEL);
        assert_int_equal(core_pair_connect(&pair, "edge.example"), ERROR_NONE);
        assert_int_equal(core_client_open_as(&pair, &client, &metadata), ERROR_NONE);
        core_pair_pump(&pair);
        assert_int_equal(probe.opens, 1);
        assert_int_equal(probe.resumeds, 1);
        assert_int_equal(client.opened, answered);
        if (!answered) {
            assert_int_equal(trunkline_accept(probe.session), 0);
            assert_int_equal(trunkline_write(probe.session, "hello", 5), 5);
        }
        core_pair_pump(&pair);
        assert_int_equal(client.opened, 1);
        assert_int_equal(core_client_received(&client), 5);
        finish();
    }
}

static void a_refusal_while_suspended_ends_the_session(void **state)
{
    (void)state;
    probe.accept = false;
    start();
    lose();
    assert_int_equal(trunkline_refuse(probe.session, 502, "no"), 0);
    core_pair_pump(&pair);
    assert_int_equal(probe.closeds, 1);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_REFUSED);
    assert_int_equal(core_worker_session_count(&pair.worker), 0);
    finish();
}

static void a_worker_that_stops_ends_suspended_sessions(void **state)
{
    (void)state;
    for (int first = 0; first < 2; first++) {
        reset_probe(NULL);
        start();
        if (first == 0) {
            lose();
        }
        core_worker_stop(&pair.worker);
        core_pair_pump(&pair);
        if (first == 1) {
            core_pair_lose(&pair);
            core_pair_pump(&pair);
            assert_int_equal(probe.suspendeds, 0);
        }
        assert_int_equal(probe.closeds, 1);
        assert_int_equal(probe.reason, TRUNKLINE_REASON_SHUTDOWN);
        assert_int_equal(pair.stopped, 1);
        finish();
    }
}

static void a_draining_worker_ends_suspended_sessions(void **state)
{
    (void)state;
    start();
    lose();
    core_worker_drain(&pair.worker);
    core_pair_wait(&pair, 1);
    assert_int_equal(probe.closeds, 1);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_TRUNK_LOST);
    assert_int_equal(pair.drained, 1);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_handler_hears_of_the_loss_and_of_the_return, reset_probe),
        cmocka_unit_test_setup(an_edge_that_does_not_return_loses_its_sessions, reset_probe),
        cmocka_unit_test_setup(each_session_waits_its_own_time, reset_probe),
        cmocka_unit_test_setup(a_session_belongs_to_the_edge_that_began_it, reset_probe),
        cmocka_unit_test_setup(a_live_session_cannot_be_taken_by_another_edge, reset_probe),
        cmocka_unit_test_setup(a_session_that_nobody_knows_is_gone, reset_probe),
        cmocka_unit_test_setup(a_session_that_is_over_is_gone, reset_probe),
        cmocka_unit_test_setup(a_session_moves_to_another_trunk_unnoticed, reset_probe),
        cmocka_unit_test_setup(a_request_that_was_not_answered_is_asked_again, reset_probe),
        cmocka_unit_test_setup(a_refusal_while_suspended_ends_the_session, reset_probe),
        cmocka_unit_test_setup(a_worker_that_stops_ends_suspended_sessions, reset_probe),
        cmocka_unit_test_setup(a_draining_worker_ends_suspended_sessions, reset_probe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
