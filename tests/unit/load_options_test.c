/* Unit tests of the load generator's command line. Messages go to standard error as users see them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <getopt.h>
#include <string.h>
#include <cmocka.h>

#include "mux/tls.h"
#include "tests/load/options.h"

#define ARGUMENTS_MAX 16

static struct load_options options;

/* Reads "--connect 127.0.0.1:1" and the arguments up to NULL. */
static enum load_verdict read_with(const char *first, ...)
{
    const char *arguments[ARGUMENTS_MAX] = {"trunkline-load", "--connect", "127.0.0.1:1"};
    int count = 3;
    va_list list;
    va_start(list, first);
    for (const char *text = first; text != NULL; text = va_arg(list, const char *)) {
        arguments[count++] = text;
    }
    va_end(list);
    optind = 0;
    return load_options_read(&options, count, (char *const *)(uintptr_t)arguments);
}

static void defaults_are_one_process_of_echo_clients(void **state)
{
    (void)state;
    assert_int_equal(read_with(NULL), LOAD_RUN);
    assert_int_equal(options.processes, 1);
    assert_int_equal(options.traffic_count, 1);
    assert_int_equal(options.traffic[0], EXCHANGE_ECHO);
    assert_int_equal(options.histogram_of, MEASURE_ECHO);
    assert_int_equal(options.status, 200);
    assert_int_equal(options.storm_percent, 0);
    assert_false(options.resume);
    assert_null(options.probe.text);
}

static void kinds_of_traffic_are_listed_and_mixed(void **state)
{
    (void)state;
    assert_int_equal(read_with("--traffic", "http,down", NULL), LOAD_RUN);
    assert_int_equal(options.traffic_count, 2);
    assert_int_equal(options.traffic[0], EXCHANGE_HTTP);
    assert_int_equal(options.traffic[1], EXCHANGE_DOWN);
    assert_int_equal(options.histogram_of, MEASURE_ANSWER);
    assert_int_equal(read_with("--traffic", "mix,up", NULL), LOAD_RUN);
    assert_int_equal(options.traffic_count, 5);
    assert_int_equal(options.traffic[3], EXCHANGE_HTTP);
    assert_int_equal(options.traffic[4], EXCHANGE_UP);
    assert_int_equal(read_with("--traffic", "", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--traffic", "echo,", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--traffic", "probe", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--traffic", "mix,mix,mix,mix,mix", NULL), LOAD_WRONG);
}

static void a_probes_url_is_taken_apart(void **state)
{
    (void)state;
    assert_int_equal(read_with("--probe", "https://127.0.0.1/status?x=1", NULL), LOAD_RUN);
    assert_string_equal(options.probe.host, "127.0.0.1");
    assert_string_equal(options.probe.authority, "127.0.0.1");
    assert_string_equal(options.probe.path, "/status?x=1");
    assert_int_equal(options.probe.peer.u.ip4.sin_port, htons(443));
    assert_int_equal(read_with("--probe", "https://[::1]:8443", NULL), LOAD_RUN);
    assert_string_equal(options.probe.host, "::1");
    assert_string_equal(options.probe.authority, "[::1]:8443");
    assert_string_equal(options.probe.path, "/");
    assert_int_equal(options.probe.peer.u.ip6.sin6_port, htons(8443));
    assert_int_equal(read_with("--probe", "http://127.0.0.1/", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--probe", "https:///x", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--probe", "https://127.0.0.1:x/", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--probe", "https://127.0.0.1/a b", NULL), LOAD_WRONG);
}

static void a_path_cannot_smuggle_a_line(void **state)
{
    (void)state;
    assert_int_equal(read_with("--path", "/a?b=c", NULL), LOAD_RUN);
    assert_int_equal(read_with("--path", "a", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--path", "/a\r\nX: y", NULL), LOAD_WRONG);
    char path[LOAD_PATH_MAX + 2];
    memset(path, 'a', sizeof(path) - 1);
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(read_with("--path", path, NULL), LOAD_WRONG);
    path[sizeof(path) - 2] = '\0';
    assert_int_equal(read_with("--path", path, NULL), LOAD_RUN);
}

static void options_that_make_no_sense_together_are_refused(void **state)
{
    (void)state;
    assert_int_equal(read_with("--processes", "101", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--jitter", "1", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--storm", "50", "--jitter", "1.5", NULL), LOAD_RUN);
    assert_int_equal(options.jitter_ms, 1500);
    assert_int_equal(read_with("--storm", "50", "--storm-at", "11", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--storm", "101", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--traffic", "up", "--ping-interval", "1", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--histogram-of", "nothing", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--clients", "0", NULL), LOAD_WRONG);
    assert_int_equal(read_with("--unknown", NULL), LOAD_WRONG);
}

static void what_clients_offer_can_be_narrowed(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"--tls-version", "1.1"}, {"--tls-version", ""}, {"--tls-suite", "aes-128-cbc"}, {"--tls-suite", ""}};
    char text[LOAD_PRIORITY_MAX];
    assert_int_equal(read_with(NULL), LOAD_RUN);
    assert_null(load_priority(&options, text));
    assert_int_equal(read_with("--tls-suite", "aes-256-gcm", "--tls-version", "1.2", NULL), LOAD_RUN);
    assert_ptr_equal(load_priority(&options, text), text);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(read_with(wrong[i][0], wrong[i][1], NULL), LOAD_WRONG);
    }
}

/* The TLS library takes each of them, and they are different. */
static void each_offer_is_understood(void **state)
{
    (void)state;
    static const char *const versions[] = {"1.2", "1.3"};
    static const char *const suites[] = {"aes-128-gcm", "aes-256-gcm", "chacha20-poly1305"};
    char texts[6][LOAD_PRIORITY_MAX];
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(read_with("--tls-version", versions[i % 2], "--tls-suite", suites[i / 2], NULL), LOAD_RUN);
        const struct tls_client_settings settings = {.priority = load_priority(&options, texts[i])};
        struct tls_context *context = NULL;
        struct tls_fault fault = {.text = ""};
        assert_int_equal(tls_context_new_client(&settings, &context, &fault), ERROR_NONE);
        tls_context_unref(&context);
        for (size_t other = 0; other < i; other++) {
            assert_string_not_equal(texts[i], texts[other]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_one_process_of_echo_clients),
        cmocka_unit_test(kinds_of_traffic_are_listed_and_mixed),
        cmocka_unit_test(a_probes_url_is_taken_apart),
        cmocka_unit_test(a_path_cannot_smuggle_a_line),
        cmocka_unit_test(what_clients_offer_can_be_narrowed),
        cmocka_unit_test(each_offer_is_understood),
        cmocka_unit_test(options_that_make_no_sense_together_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
