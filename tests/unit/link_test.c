/* How links end: what was written is not thrown away, what says nothing does not stay, and `closed` comes once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "mux/link.h"
#include "mux/memory.h"
#include "tests/unit/test_pki.h"

#define HANDSHAKE_TIMEOUT_MS 500U
#define LAST_FLUSH_MS        1000U /* mux/link.c: LINK_LAST_FLUSH_MS */

/* A transport that gives what the test put in, and records what was done to it. */
struct recorder {
    struct transport transport;
    const uint8_t *input;
    size_t input_length;
    bool input_finished;
    uint8_t written[4096];
    size_t written_length;
    int finishes;
    int closes;
    enum transport_close how;
};

static enum error_code recorder_read(struct transport *transport, void *into, size_t capacity, size_t *length)
{
    struct recorder *recorder = container_of(transport, struct recorder, transport);
    if (recorder->input_length == 0 && !recorder->input_finished) {
        return ERROR_WOULD_BLOCK;
    }
    *length = recorder->input_length < capacity ? recorder->input_length : capacity;
    if (*length > 0) {
        memcpy(into, recorder->input, *length);
    }
    recorder->input += *length;
    recorder->input_length -= *length;
    return ERROR_NONE;
}

static enum error_code recorder_write(struct transport *transport, const void *bytes, size_t count, size_t *length)
{
    struct recorder *recorder = container_of(transport, struct recorder, transport);
    assert_true(recorder->written_length + count <= sizeof(recorder->written));
    memcpy(recorder->written + recorder->written_length, bytes, count);
    recorder->written_length += count;
    *length = count;
    return ERROR_NONE;
}

static void recorder_finish(struct transport *transport)
{
    container_of(transport, struct recorder, transport)->finishes++;
}

static void recorder_close(struct transport *transport, enum transport_close how)
{
    struct recorder *recorder = container_of(transport, struct recorder, transport);
    recorder->closes++;
    recorder->how = how;
    transport->binding = NULL;
}

static const struct transport_ops recorder_ops = {recorder_read, recorder_write, recorder_finish, recorder_close};
static const struct transport_binding recorder_binding = {.ops = &recorder_ops}; /* no test makes it ready */

static struct test_pki pki;
static struct tls_context *context;
static struct scheduler scheduler;
static struct scratch scratch;
static struct recorder recorder;
static struct link one;
static int closed;
static enum error_code closed_error;

static enum error_code on_established(struct link *link, const struct tls_peer_info *peer)
{
    (void)peer;
    (void)link;
    return ERROR_NONE;
}

static bool on_greeted(struct link *link, uint32_t edge_worker)
{
    (void)link;
    (void)edge_worker;
    return false;
}

static void on_closed(struct link *link, enum error_code error)
{
    (void)link;
    closed++;
    closed_error = error;
}

static const struct link_events events = {on_established, on_greeted, on_closed};

static void run(uint64_t milliseconds)
{
    for (uint64_t i = 0; i < milliseconds; i++) {
        scheduler_advance(&scheduler, scheduler.now_us + 1000);
        scheduler_run_tasks(&scheduler);
        scheduler_run_tasks(&scheduler);
    }
}

static int start(void **state)
{
    (void)state;
    closed = 0;
    memset(&recorder, 0, sizeof(recorder));
    recorder.transport.binding = &recorder_binding;
    scheduler_init(&scheduler, 1000000);
    if (scratch_init(&scratch) != ERROR_NONE) {
        return -1;
    }
    return link_init_acceptor(&one, &scheduler, &scratch, &recorder.transport, context, HANDSHAKE_TIMEOUT_MS,
                              &events) == ERROR_NONE
               ? 0
               : -1;
}

static int stop(void **state)
{
    (void)state;
    link_dispose(&one);
    assert_int_equal(scheduler.timers.armed, 0);
    assert_int_equal(recorder.closes, 1);
    scratch_dispose(&scratch);
    return 0;
}

static void a_peer_that_says_nothing_is_cut_off(void **state)
{
    (void)state;
    run(HANDSHAKE_TIMEOUT_MS - 1);
    assert_int_equal(closed, 0);
    run(3);
    assert_int_equal(closed, 1);
    assert_int_equal(closed_error, ERROR_TIMEOUT);
    assert_int_equal(recorder.how, TRANSPORT_CLOSE_RESET);
}

static void garbage_gets_an_alert_before_the_end(void **state)
{
    (void)state;
    static const uint8_t garbage[] = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    recorder.input = garbage;
    recorder.input_length = sizeof(garbage) - 1;
    link_ready(&one, TRANSPORT_READABLE);
    run(1);
    assert_int_equal(recorder.finishes, 1);
    assert_true(recorder.written_length >= 7);
    assert_int_equal(recorder.written[0], 21); /* an alert record */
    recorder.input_finished = true;
    link_ready(&one, TRANSPORT_READABLE);
    run(1);
    assert_int_equal(closed, 1);
    assert_int_equal(closed_error, ERROR_TLS_NOT_TLS);
    assert_int_equal(recorder.how, TRANSPORT_CLOSE_CLEAN);
}

/* The system still delivers what was written, however slowly: a reset would throw it away. */
static void a_link_that_has_said_all_is_not_reset_when_its_peer_is_slow(void **state)
{
    (void)state;
    link_close(&one, ERROR_SHUTDOWN);
    run(10);
    assert_int_equal(recorder.finishes, 1);
    assert_int_equal(closed, 0);
    run(LAST_FLUSH_MS);
    assert_int_equal(closed, 1);
    assert_int_equal(closed_error, ERROR_SHUTDOWN);
    assert_int_equal(recorder.how, TRANSPORT_CLOSE_CLEAN);
}

static void a_fin_without_close_notify_is_no_clean_end(void **state)
{
    (void)state;
    recorder.input_finished = true;
    link_ready(&one, TRANSPORT_READABLE);
    run(1);
    assert_int_equal(closed, 1);
    assert_int_equal(closed_error, ERROR_TRUNCATED);
    assert_int_equal(recorder.how, TRANSPORT_CLOSE_RESET);
}

static int make_context(void **state)
{
    (void)state;
    static const char *const alpn[] = {"h2"};
    struct tls_fault fault;
    if (!test_pki_create(&pki)) {
        return -1;
    }
    const struct tls_certificate_files files = test_identity_files(&pki.core);
    const struct tls_server_settings settings = {
        .certificates = &files,
        .certificate_count = 1,
        .alpn = alpn,
        .alpn_count = 1,
        .alpn_required = true,
        .client_auth = TLS_CLIENT_AUTH_REQUIRED,
        .client_ca = pki.ca,
    };
    return tls_context_new_server(&settings, &context, &fault) == ERROR_NONE ? 0 : -1;
}

static int drop_context(void **state)
{
    (void)state;
    tls_context_unref(&context);
    test_pki_remove(&pki);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_peer_that_says_nothing_is_cut_off, start, stop),
        cmocka_unit_test_setup_teardown(garbage_gets_an_alert_before_the_end, start, stop),
        cmocka_unit_test_setup_teardown(a_link_that_has_said_all_is_not_reset_when_its_peer_is_slow, start, stop),
        cmocka_unit_test_setup_teardown(a_fin_without_close_notify_is_no_clean_end, start, stop),
    };
    return cmocka_run_group_tests(tests, make_context, drop_context);
}
