/*
 * Sessions and the handler interface: what a handler sees for what happens on a trunk, and what the edge sees for what
 * a handler does. A real trunk on both sides, in memory, under virtual time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core_pair.h"
#include "mux/log.h"
#include "mux/memory.h"

#define WINDOW 65535U

/* What the handler under test does, and what it saw. */
static struct {
    bool accept;     /* in `open` */
    bool consume;    /* in `data`, at once */
    bool end_on_end; /* answers the client's end with its own */
    bool abort_in_data;
    trunkline_session *session; /* the last opened */
    int opens;
    int datas;
    int ends;
    int draineds;
    int closeds;
    int in_call; /* depth of calls into the session's functions */
    trunkline_reason reason;
    size_t bytes;
} probe;

static char last_log[4096];
static int refused_lines;

static void keep_log(const char *line, void *context)
{
    (void)context;
    snprintf(last_log, sizeof(last_log), "%s", line);
    if (strstr(line, "refused") != NULL) {
        refused_lines++;
    }
}

static void probe_open(trunkline_session *session, void *service)
{
    assert_null(service);
    probe.opens++;
    probe.session = session;
    if (probe.accept) {
        assert_true(trunkline_accept(session) == 0 || memory_faults() > 0);
    }
}

static void probe_data(trunkline_session *session, const void *bytes, size_t length)
{
    assert_non_null(bytes);
    assert_ptr_equal(session, probe.session);
    probe.datas++;
    probe.bytes += length;
    if (probe.abort_in_data) {
        probe.in_call = 1;
        trunkline_abort(session);
        probe.in_call = 0;
    } else if (probe.consume) {
        trunkline_consume(session, length);
    }
}

static void probe_end(trunkline_session *session)
{
    probe.ends++;
    if (probe.end_on_end) {
        trunkline_end(session);
    }
}

static void probe_drained(trunkline_session *session)
{
    assert_true(trunkline_room(session) > 0);
    probe.draineds++;
}

static void probe_closed(trunkline_session *session, trunkline_reason reason)
{
    assert_ptr_equal(session, probe.session);
    assert_int_equal(probe.in_call, 0);
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
    .drained = probe_drained,
    .closed = probe_closed,
};

static struct core_pair pair;
static struct core_client client;

static void start(uint32_t window)
{
    assert_int_equal(core_pair_init(&pair, &probe_handler, "", false, window), ERROR_NONE);
}

static void finish(void)
{
    core_client_dispose(&client);
    core_pair_dispose(&pair);
    assert_int_equal(probe.opens, probe.closeds);
    assert_int_equal(pair.worker.counters.sessions_opened, pair.worker.counters.sessions_closed);
}

static int reset_probe(void **state)
{
    (void)state;
    memset(&probe, 0, sizeof(probe));
    probe.accept = true;
    probe.consume = true;
    refused_lines = 0;
    last_log[0] = '\0';
    log_capture(keep_log, NULL);
    return 0;
}

static void both_clean_ends_close_the_session_as_done(void **state)
{
    (void)state;
    start(0);
    probe.end_on_end = true;
    assert_int_equal(core_client_open(&pair, &client, "test:443"), ERROR_NONE);
    core_client_send(&client, "hello", 5, true);
    core_pair_pump(&pair);
    assert_int_equal(client.opened, 1);
    assert_int_equal(client.ended, 1);
    assert_int_equal(client.closed, 1);
    assert_int_equal(client.error, ERROR_NONE);
    assert_int_equal(probe.bytes, 5);
    assert_int_equal(probe.ends, 1);
    assert_int_equal(probe.closeds, 1);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_DONE);
    finish();
}

static void the_core_may_end_first_and_still_receive(void **state)
{
    (void)state;
    start(0);
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    assert_int_equal(trunkline_write(probe.session, "bye", 3), 3);
    trunkline_end(probe.session);
    assert_int_equal(trunkline_write(probe.session, "more", 4), 0);
    assert_int_equal(trunkline_room(probe.session), 0);
    core_pair_pump(&pair);
    assert_int_equal(client.ended, 1);
    assert_int_equal(core_client_received(&client), 3);
    assert_int_equal(probe.closeds, 0);
    core_client_send(&client, "late", 4, true);
    core_pair_pump(&pair);
    assert_int_equal(probe.bytes, 4);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_DONE);
    assert_int_equal(probe.closeds, 1);
    finish();
}

static void a_session_lingers_until_all_is_consumed(void **state)
{
    (void)state;
    start(0);
    probe.consume = false;
    probe.end_on_end = true;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_client_send(&client, "hello", 5, true);
    core_pair_pump(&pair);
    assert_int_equal(client.closed, 1);
    assert_int_equal(client.error, ERROR_NONE);
    assert_int_equal(probe.closeds, 0);
    trunkline_consume(probe.session, 3);
    core_pair_pump(&pair);
    assert_int_equal(probe.closeds, 0);
    trunkline_consume(probe.session, 99); /* more than there is: all of it */
    core_pair_pump(&pair);
    assert_int_equal(probe.closeds, 1);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_DONE);
    finish();
}

static void a_stop_ends_sessions_that_linger(void **state)
{
    (void)state;
    start(0);
    probe.consume = false;
    probe.end_on_end = true;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_client_send(&client, "hello", 5, true);
    core_pair_pump(&pair);
    core_worker_stop(&pair.worker);
    core_pair_pump(&pair);
    assert_int_equal(probe.closeds, 1);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_SHUTDOWN);
    assert_int_equal(pair.stopped, 1);
    finish();
}

static void a_session_may_be_answered_later(void **state)
{
    (void)state;
    start(0);
    probe.accept = false;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    assert_int_equal(probe.opens, 1);
    assert_int_equal(trunkline_write(probe.session, "x", 1), 0);
    assert_int_equal(client.opened, 0);
    core_client_send(&client, "early", 5, true); /* waits for the answer, as an edge does */
    core_pair_pump(&pair);
    assert_int_equal(probe.datas, 0);
    assert_int_equal(trunkline_accept(probe.session), 0);
    assert_int_equal(trunkline_accept(probe.session), -1);
    assert_int_equal(trunkline_refuse(probe.session, 503, "too late"), -1);
    core_pair_pump(&pair);
    assert_int_equal(probe.bytes, 5);
    assert_int_equal(probe.ends, 1);
    trunkline_end(probe.session);
    core_pair_pump(&pair);
    assert_int_equal(probe.closeds, 1);
    finish();
}

static void a_refusal_reaches_the_edge_with_its_status_and_is_logged_with_the_client(void **state)
{
    (void)state;
    start(0);
    probe.accept = false;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    probe.in_call = 1;
    assert_int_equal(trunkline_refuse(probe.session, 502, "backend is down"), 0);
    assert_int_equal(trunkline_refuse(probe.session, 502, "again"), -1);
    assert_int_equal(trunkline_accept(probe.session), -1);
    assert_int_equal(trunkline_write(probe.session, "x", 1), 0);
    trunkline_consume(probe.session, 1);
    trunkline_end(probe.session);
    trunkline_abort(probe.session);
    probe.in_call = 0;
    assert_int_equal(probe.closeds, 0);
    assert_non_null(strstr(last_log, "session-refused"));
    assert_non_null(strstr(last_log, "192.0.2.1:5000"));
    assert_non_null(strstr(last_log, "502"));
    core_pair_pump(&pair);
    assert_int_equal(probe.closeds, 1);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_REFUSED);
    assert_int_equal(client.closed, 1);
    assert_int_equal(client.error, ERROR_REFUSED);
    assert_int_equal(client.detail, 502);
    assert_int_equal(pair.worker.counters.sessions_refused, 1);
    finish();
}

static void a_refusal_never_carries_a_status_of_success(void **state)
{
    (void)state;
    start(0);
    probe.accept = false;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    assert_int_equal(trunkline_refuse(probe.session, 200, ""), 0);
    core_pair_pump(&pair);
    assert_int_equal(client.error, ERROR_REFUSED);
    assert_int_equal(client.detail, 500);
    finish();
}

static void an_unknown_service_is_answered_with_404(void **state)
{
    (void)state;
    start(0);
    assert_int_equal(core_client_open(&pair, &client, "nowhere"), ERROR_NONE);
    core_pair_pump(&pair);
    assert_int_equal(client.error, ERROR_REFUSED);
    assert_int_equal(client.detail, 404);
    assert_int_equal(probe.opens, 0);
    assert_non_null(strstr(last_log, "stream-refused"));
    assert_non_null(strstr(last_log, "203.0.113.1:1000"));
    assert_non_null(strstr(last_log, "nowhere"));
    assert_int_equal(pair.worker.counters.streams_refused, 1);
    assert_int_equal(core_worker_session_count(&pair.worker), 0);
    finish();
}

static void refusals_that_a_peer_provokes_are_logged_at_a_limited_rate(void **state)
{
    (void)state;
    start(0);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(core_client_open(&pair, &client, "nowhere"), ERROR_NONE);
        core_pair_pump(&pair);
        core_client_dispose(&client);
    }
    assert_int_equal(pair.worker.counters.streams_refused, 50);
    assert_int_equal(refused_lines, LOG_LIMITED_PER_SECOND);
    finish();
}

static void sessions_beyond_the_limit_are_refused_unprocessed(void **state)
{
    struct core_client second;

    (void)state;
    start(0);
    pair.settings.sessions_max = 1;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    assert_int_equal(core_client_open(&pair, &second, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    assert_int_equal(second.error, ERROR_REFUSED);
    assert_int_equal(second.detail, 0);
    assert_int_equal(client.closed, 0);
    assert_int_equal(probe.opens, 1);
    assert_non_null(strstr(last_log, "limit"));
    core_client_dispose(&second);

    /* The place of one that has gone is free again. */
    trunkline_abort(probe.session);
    core_pair_pump(&pair);
    core_client_dispose(&client);
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    assert_int_equal(client.opened, 1);
    finish();
}

static void an_abort_is_seen_as_a_reset_and_closed_comes_later(void **state)
{
    (void)state;
    start(0);
    probe.abort_in_data = true;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_client_send(&client, "hello", 5, false);
    core_pair_pump(&pair);
    assert_int_equal(client.closed, 1);
    assert_int_equal(client.error, ERROR_PEER_RESET);
    assert_int_equal(client.detail, TRUNK_CODE_CONNECT_ERROR);
    assert_int_equal(client.ended, 0);
    assert_int_equal(probe.closeds, 1);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_ABORTED);
    finish();
}

static void a_reset_by_the_client_is_no_clean_end(void **state)
{
    (void)state;
    start(0);
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    trunk_stream_reset(&client.stream, TRUNK_CODE_CONNECT_ERROR);
    core_pair_pump(&pair);
    assert_int_equal(probe.ends, 0);
    assert_int_equal(probe.closeds, 1);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_RESET);
    finish();
}

static void a_lost_trunk_closes_its_sessions(void **state)
{
    (void)state;
    start(0);
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    trunk_free(&pair.core);
    assert_int_equal(probe.closeds, 0);
    scheduler_run_tasks(pair.scheduler);
    assert_int_equal(probe.closeds, 1);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_TRUNK_LOST);
    finish();
}

static void writes_stop_at_the_window_and_drained_follows(void **state)
{
    static uint8_t bytes[2 * WINDOW];
    size_t taken;

    (void)state;
    start(WINDOW);
    client.consume = false;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    client.consume = false;
    core_pair_pump(&pair);
    assert_int_equal(trunkline_room(probe.session), WINDOW);
    taken = trunkline_write(probe.session, bytes, sizeof(bytes));
    assert_int_equal(taken, WINDOW);
    assert_int_equal(trunkline_write(probe.session, bytes, 1), 0);
    core_pair_pump(&pair);
    assert_int_equal(core_client_received(&client), WINDOW);
    assert_int_equal(probe.draineds, 0);
    core_client_take(&client, WINDOW);
    core_pair_pump(&pair);
    assert_int_equal(probe.draineds, 1);
    assert_true(trunkline_room(probe.session) >= WINDOW / 2);
    finish();
}

static void room_can_be_asked_for_without_writing(void **state)
{
    static uint8_t bytes[WINDOW];

    (void)state;
    start(WINDOW);
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    client.consume = false;
    core_pair_pump(&pair);
    assert_int_equal(trunkline_write(probe.session, bytes, sizeof(bytes)), WINDOW);
    trunkline_want_room(probe.session);
    core_pair_pump(&pair);
    assert_int_equal(probe.draineds, 0);
    core_client_take(&client, WINDOW);
    core_pair_pump(&pair);
    assert_int_equal(probe.draineds, 1);
    finish();
}

static void a_handler_that_does_not_consume_stops_its_client_at_the_window(void **state)
{
    static uint8_t bytes[4 * WINDOW];

    (void)state;
    start(WINDOW);
    probe.consume = false;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_client_send(&client, bytes, sizeof(bytes), true);
    core_pair_pump(&pair);
    assert_int_equal(probe.bytes, WINDOW);
    assert_int_equal(probe.ends, 0);
    for (int i = 0; i < 8 && probe.ends == 0; i++) {
        trunkline_consume(probe.session, WINDOW);
        core_pair_pump(&pair);
    }
    assert_int_equal(probe.bytes, sizeof(bytes));
    assert_int_equal(probe.ends, 1);
    finish();
}

/* One session's window is more than three quarters of what there is, and one more than all. */
static void full_buffers_refuse_streams_and_reset_the_largest_session(void **state)
{
    static uint8_t bytes[WINDOW];
    struct core_client late = {0};

    (void)state;
    start(WINDOW);
    pair.worker.buffers.limit_bytes = WINDOW * 15 / 16;
    probe.consume = false;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_client_send(&client, bytes, WINDOW * 7 / 8, false);
    core_pair_pump(&pair);
    assert_int_equal(probe.bytes, WINDOW * 7 / 8);
    assert_int_equal(pair.worker.buffers.level, BUFFER_SHUT);
    log_capture(keep_log, NULL);
    assert_int_equal(core_client_open(&pair, &late, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    log_capture(NULL, NULL);
    assert_int_equal(probe.opens, 1);
    assert_int_equal(pair.worker.counters.streams_refused, 1);
    assert_non_null(strstr(last_log, "buffers-full"));

    core_client_send(&client, bytes, WINDOW / 8, false);
    core_pair_pump(&pair);
    assert_int_equal(pair.worker.buffers.level, BUFFER_OVER);
    core_pair_wait(&pair, BUFFER_RELIEF_MS + 1);
    assert_int_equal(pair.worker.counters.sessions_shed, 1);
    assert_int_equal(probe.closeds, 1);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_NO_MEMORY);
    assert_int_equal(pair.worker.buffers.charged_bytes, 0);
    assert_int_equal(pair.worker.buffers.level, BUFFER_AMPLE);
    core_client_dispose(&late);
    finish();
}

static void a_handler_without_data_consumes_by_itself(void **state)
{
    static uint8_t bytes[4 * WINDOW];
    trunkline_handler deaf = probe_handler;

    (void)state;
    deaf.data = NULL;
    assert_int_equal(core_pair_init(&pair, &deaf, "", false, WINDOW), ERROR_NONE);
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_client_send(&client, bytes, sizeof(bytes), true);
    core_pair_pump(&pair);
    assert_int_equal(probe.ends, 1);
    finish();
}

static void the_client_is_described_as_the_edge_told(void **state)
{
    static const uint8_t certificate[] = {0x30, 0x03, 0x02, 0x01, 0x01};
    struct metadata metadata = {.service = "test:1", .server_name = "", .alpn = "mqtt"};
    trunkline_client seen;
    char text[256];

    (void)state;
    start(0);
    metadata.client = (struct address_compact){.ip = {0x20, 1, 0xd, 0xb8, [15] = 9}, .port = 77, .family = 6};
    metadata.tls_version = 0x0303;
    metadata.tls_suite = 0xc02b;
    metadata.certificate = certificate;
    metadata.certificate_length = sizeof(certificate);
    assert_int_equal(core_client_open_as(&pair, &client, &metadata), ERROR_NONE);
    core_pair_pump(&pair);
    trunkline_get_client(probe.session, &seen, text);
    assert_string_equal(seen.service, "test:1");
    assert_string_equal(seen.address, "[2001:db8::9]:77");
    assert_string_equal(seen.listener, "");
    assert_string_equal(seen.server_name, "");
    assert_string_equal(seen.alpn, "mqtt");
    assert_int_equal(seen.tls_version, 0x0303);
    assert_int_equal(seen.tls_suite, 0xc02b);
    assert_int_equal(seen.certificate_length, sizeof(certificate));
    assert_memory_equal(seen.certificate, certificate, sizeof(certificate));
    finish();
}

static int timer_fires;

static void count_fire(trunkline_session *session, void *argument)
{
    assert_ptr_equal(session, probe.session);
    timer_fires++;
    if (argument != NULL) {
        trunkline_timer_free(argument);
    }
}

static void timers_fire_once_and_end_with_their_session(void **state)
{
    trunkline_timer *timer;
    trunkline_timer *self_freeing;

    (void)state;
    start(0);
    timer_fires = 0;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    timer = trunkline_timer_new(probe.session, count_fire, NULL);
    self_freeing = trunkline_timer_new(probe.session, count_fire, &self_freeing);
    assert_non_null(timer);
    assert_non_null(self_freeing);
    trunkline_timer_start(timer, 5);
    trunkline_timer_start(self_freeing, 6);
    core_pair_wait(&pair, 4);
    assert_int_equal(timer_fires, 0);
    core_pair_wait(&pair, 10);
    assert_int_equal(timer_fires, 2);
    assert_null(self_freeing);
    trunkline_timer_start(timer, 5);
    trunkline_timer_stop(timer);
    core_pair_wait(&pair, 10);
    assert_int_equal(timer_fires, 2);
    trunkline_timer_start(timer, 5);
    trunkline_abort(probe.session);
    trunkline_timer_start(timer, 0); /* too late for anything */
    core_pair_wait(&pair, 10);
    assert_int_equal(timer_fires, 2);
    finish();
}

static void a_drain_refuses_new_sessions_and_waits_for_the_old(void **state)
{
    struct core_client late;

    (void)state;
    start(0);
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    core_worker_drain(&pair.worker);
    core_pair_pump(&pair);
    assert_int_equal(pair.drained, 0);
    assert_int_equal(core_client_open(&pair, &late, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    assert_int_equal(late.error, ERROR_REFUSED);
    assert_int_equal(late.detail, 0);
    core_client_dispose(&late);
    probe.end_on_end = true;
    core_client_send(&client, "last", 4, true);
    core_pair_pump(&pair);
    assert_int_equal(probe.reason, TRUNKLINE_REASON_DONE);
    assert_int_equal(pair.drained, 1);
    finish();
}

static void many_sessions_end_in_slices(void **state)
{
    enum { COUNT = 3000 };
    struct core_client *clients = calloc(COUNT, sizeof(*clients));
    int first;

    (void)state;
    assert_non_null(clients);
    assert_int_equal(
        core_pair_init(&pair,
                       &(trunkline_handler){.abi = TRUNKLINE_ABI, .name = "probe", .open = probe_open, .closed = NULL},
                       "", false, 0),
        ERROR_NONE);
    pair.settings.sessions_max = COUNT;
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(core_client_open(&pair, &clients[i], "test"), ERROR_NONE);
    }
    core_pair_pump(&pair);
    assert_int_equal(core_worker_session_count(&pair.worker), COUNT);
    trunk_free(&pair.core);
    scheduler_run_tasks(pair.scheduler);
    first = (int)core_worker_session_count(&pair.worker);
    assert_in_range(first, 1, COUNT - 1);
    while (scheduler_wait_ms(pair.scheduler) == 0) {
        scheduler_run_tasks(pair.scheduler);
    }
    assert_int_equal(core_worker_session_count(&pair.worker), 0);
    for (size_t i = 0; i < COUNT; i++) {
        core_client_dispose(&clients[i]);
    }
    probe.closeds = probe.opens; /* nobody was there to count */
    free(clients);
    memset(&client, 0, sizeof(client));
    finish();
}

static void a_session_stays_small(void **state)
{
    (void)state;
    /* All that one costs beside its HTTP/2 stream: what it shares with others is counted once (mux/metadata.h). */
    assert_true(sizeof(trunkline_session) <= 176);
}

/* Everything that a session may do, in one scenario. */
static void run_scenario(void)
{
    trunkline_timer *timer;
    trunkline_ref *reference;

    core_client_open(&pair, &client, "test");
    core_client_send(&client, "hello", 5, true);
    core_pair_pump(&pair);
    if (probe.session != NULL) {
        timer = trunkline_timer_new(probe.session, count_fire, NULL);
        if (timer != NULL) {
            trunkline_timer_start(timer, 1);
        }
        reference = trunkline_session_ref(probe.session);
        if (reference != NULL) {
            trunkline_ref_release(&reference);
        }
        trunkline_write(probe.session, "answer", 6);
        trunkline_end(probe.session);
    }
    core_pair_pump(&pair);
}

static void memory_that_runs_out_ends_the_session_and_nothing_else(void **state)
{
    uint64_t failed = 1;
    int closed_for_memory = 0;

    (void)state;
    for (uint64_t nth = 1; failed > 0; nth++) {
        enum error_code error;

        reset_probe(NULL);
        memset(&client, 0, sizeof(client));
        memory_fail_at(nth);
        error = core_pair_init(&pair, &probe_handler, "", false, 0);
        if (error == ERROR_NONE) {
            run_scenario();
            failed = memory_faults();
            memory_fail_at(0);
            closed_for_memory += probe.closeds > 0 && probe.reason == TRUNKLINE_REASON_NO_MEMORY;
            finish();
        } else {
            failed = memory_faults();
            memory_fail_at(0);
            assert_int_equal(error, ERROR_NO_MEMORY);
        }
        assert_true(nth < 10000);
    }
    assert_int_equal(probe.reason, TRUNKLINE_REASON_DONE);
    assert_true(closed_for_memory > 0);
}

int main(void)
{
#define SESSION_TEST(name) cmocka_unit_test_setup(name, reset_probe)
    const struct CMUnitTest tests[] = {
        SESSION_TEST(both_clean_ends_close_the_session_as_done),
        SESSION_TEST(the_core_may_end_first_and_still_receive),
        SESSION_TEST(a_session_lingers_until_all_is_consumed),
        SESSION_TEST(a_stop_ends_sessions_that_linger),
        SESSION_TEST(a_session_may_be_answered_later),
        SESSION_TEST(a_refusal_reaches_the_edge_with_its_status_and_is_logged_with_the_client),
        SESSION_TEST(a_refusal_never_carries_a_status_of_success),
        SESSION_TEST(an_unknown_service_is_answered_with_404),
        SESSION_TEST(refusals_that_a_peer_provokes_are_logged_at_a_limited_rate),
        SESSION_TEST(sessions_beyond_the_limit_are_refused_unprocessed),
        SESSION_TEST(an_abort_is_seen_as_a_reset_and_closed_comes_later),
        SESSION_TEST(a_reset_by_the_client_is_no_clean_end),
        SESSION_TEST(a_lost_trunk_closes_its_sessions),
        SESSION_TEST(writes_stop_at_the_window_and_drained_follows),
        SESSION_TEST(room_can_be_asked_for_without_writing),
        SESSION_TEST(a_handler_that_does_not_consume_stops_its_client_at_the_window),
        SESSION_TEST(full_buffers_refuse_streams_and_reset_the_largest_session),
        SESSION_TEST(a_handler_without_data_consumes_by_itself),
        SESSION_TEST(the_client_is_described_as_the_edge_told),
        SESSION_TEST(timers_fire_once_and_end_with_their_session),
        SESSION_TEST(a_drain_refuses_new_sessions_and_waits_for_the_old),
        SESSION_TEST(many_sessions_end_in_slices),
        SESSION_TEST(a_session_stays_small),
        SESSION_TEST(memory_that_runs_out_ends_the_session_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
