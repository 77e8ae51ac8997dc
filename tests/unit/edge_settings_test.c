/* What trunkline-edge makes of its options and files, and that its documents are complete. One thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "edge/settings.h"
#include "mux/limits.h"
#include "mux/memory.h"

#define CREDENTIALS                                                                                                    \
    "certificate { certificate = a.crt; key = a.key }\ncore = \"core:8443\"; core-ca = ca.crt\n"                       \
    "trunk-certificate = t.crt; trunk-key = t.key\n"
#define LISTEN  "listen = \"127.0.0.1:443\"\n"
#define SERVICE "service = web\n"
#define WHOLE   LISTEN CREDENTIALS SERVICE

struct reading {
    struct edge_settings settings;
    enum settings_verdict verdict;
    char errors[1024];
};

static void read_text(struct reading *reading, const char *text)
{
    char *errors = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&errors, &length);
    assert_non_null(stream);
    reading->verdict = edge_settings_read_text(&reading->settings, "edge.conf", text, strlen(text), stream);
    fclose(stream);
    snprintf(reading->errors, sizeof reading->errors, "%s", errors);
    free(errors);
}

/* Standard error is read back from a file meanwhile. */
static void read_arguments(struct reading *reading, const char *const *words)
{
    char *argv[96] = {(char *)(uintptr_t) "trunkline-edge"};
    int argc = 1;
    for (; words[argc - 1] != NULL; argc++) {
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
    }
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    assert_non_null(file);
    assert_true(saved >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    reading->verdict = edge_settings_read(&reading->settings, argc, argv);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    size_t length = fread(reading->errors, 1, sizeof reading->errors - 1, file);
    reading->errors[length] = '\0';
    fclose(file);
}

#define REQUIRED_ARGUMENTS                                                                                             \
    "--listen", "0.0.0.0:443", "--certificate", "a.crt", "--key", "a.key", "--core", "127.0.0.1:8443", "--core-ca",    \
        "ca.crt", "--trunk-certificate", "t.crt", "--trunk-key", "t.key"
#define READ(reading_, ...) read_arguments((reading_), (const char *const[]){__VA_ARGS__, NULL})

static void refused(const char *text, const char *line)
{
    struct reading reading;
    read_text(&reading, text);
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_string_equal(reading.errors, line);
    edge_settings_dispose(&reading.settings);
}

static void the_smallest_command_line_gets_the_defaults(void **state)
{
    (void)state;
    struct reading reading;
    READ(&reading, REQUIRED_ARGUMENTS, "--service", "web");
    const struct edge_settings *settings = &reading.settings;
    assert_string_equal(reading.errors, "");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_int_equal(settings->listen_count, 1);
    assert_string_equal(settings->listens[0].address, "0.0.0.0:443");
    assert_null(settings->listens[0].name);
    assert_int_equal(settings->certificate_count, 1);
    assert_string_equal(settings->certificates[0].certificate, "a.crt");
    assert_string_equal(settings->certificates[0].key, "a.key");
    assert_int_equal(settings->core_count, 1);
    assert_string_equal(settings->cores[0].address, "127.0.0.1:8443");
    assert_null(settings->cores[0].name);
    assert_int_equal(settings->route_count, 0);
    assert_int_equal(settings->alpn_count, 0);
    assert_string_equal(settings->service, "web");
    assert_string_equal(settings->core_ca, "ca.crt");
    assert_string_equal(settings->trunk_certificate, "t.crt");
    assert_string_equal(settings->trunk_key, "t.key");
    assert_null(settings->client_ca);
    assert_null(settings->ticket_key);
    assert_int_equal(settings->client_auth, TLS_CLIENT_AUTH_NONE);
    assert_false(settings->unknown_name_refused);
    assert_true(settings->tickets);
    assert_int_equal(settings->trunks, 2);
    assert_int_equal(settings->workers, 0);
    assert_int_equal(settings->sessions_max, LIMIT_EDGE_SESSIONS);
    assert_int_equal(settings->handshakes_max, LIMIT_EDGE_HANDSHAKES);
    assert_int_equal(settings->sessions_per_trunk, LIMIT_SESSIONS_PER_TRUNK);
    assert_int_equal(settings->trunk_opens_max, LIMIT_TRUNK_OPENS);
    assert_int_equal(settings->stream_window_bytes, LIMIT_STREAM_WINDOW_BYTES);
    assert_int_equal(settings->stream_window_max_bytes, LIMIT_STREAM_WINDOW_MAX_BYTES);
    assert_int_equal(settings->trunk_window_bytes, LIMIT_TRUNK_WINDOW_BYTES);
    assert_int_equal(settings->buffer_memory_bytes, LIMIT_BUFFER_MEMORY_BYTES);
    assert_int_equal(settings->handshake_timeout_ms, TIMEOUT_HANDSHAKE_MS);
    assert_int_equal(settings->open_timeout_ms, TIMEOUT_OPEN_MS);
    assert_int_equal(settings->linger_timeout_ms, TIMEOUT_LINGER_MS);
    assert_int_equal(settings->drain_timeout_ms, TIMEOUT_DRAIN_MS);
    assert_int_equal(settings->ping_interval_ms, TIMEOUT_PING_INTERVAL_MS);
    assert_int_equal(settings->ping_timeout_ms, TIMEOUT_PING_ANSWER_MS);
    assert_int_equal(settings->reconnect_min_ms, TIMEOUT_RECONNECT_MIN_MS);
    assert_int_equal(settings->reconnect_max_ms, TIMEOUT_RECONNECT_MAX_MS);
    assert_int_equal(settings->log_level, LOG_INFO);
    assert_null(settings->user);
    assert_int_equal(settings->sandbox, SANDBOX_ON);
    assert_int_equal(settings->log_format, LOG_FORMAT_TEXT);
    assert_false(settings->check_only);
    edge_settings_dispose(&reading.settings);
    assert_null(reading.settings.listens);
}

static void every_field_has_an_option(void **state)
{
    (void)state;
    struct reading reading;
    READ(&reading, REQUIRED_ARGUMENTS, "--listen=[::]:0", "--certificate=b.crt", "--key=b.key", "--core=core-2:1",
         "--core-name=core", "--alpn=h2", "--alpn=mqtt", "--route", "sni=*.Example.com,alpn=h2,service=s",
         "--route=listener=[::]:0,service=t", "--client-certificate=require", "--client-ca=c.crt", "--ticket-key=k",
         "--tickets=off", "--unknown-sni=alert", "--trunks=64", "--workers=3", "--sessions-max=10",
         "--handshakes-max=11", "--handshakes-per-second=21", "--connections-per-address=22",
         "--connections-per-network=23", "--arrivals-per-address=24", "--arrivals-per-network=25",
         "--network-ipv4-bits=26", "--network-ipv6-bits=27", "--idle-timeout=28ms", "--stall-timeout=29ms",
         "--keepalive=30ms", "--resume-timeout=31ms", "--reopen-after=32ms", "--sessions-per-trunk=12",
         "--trunk-opens-max=13", "--stream-window=32K", "--stream-window-max=64K", "--trunk-window=1M",
         "--buffer-memory=2M", "--handshake-timeout=1ms", "--open-timeout=2ms", "--linger-timeout=3ms",
         "--drain-timeout=4ms", "--ping-interval=5ms", "--ping-timeout=6ms", "--reconnect-min=7ms",
         "--reconnect-max=8ms", "--log-level=debug", "--log-format=json", "--user=nobody", "--sandbox=off",
         "--control=a.control", "--takeover=b.control", "--check-config");
    const struct edge_settings *settings = &reading.settings;
    assert_string_equal(reading.errors, "");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_int_equal(settings->listen_count, 2);
    assert_string_equal(settings->listens[1].address, "[::]:0");
    assert_int_equal(settings->certificate_count, 2);
    assert_string_equal(settings->certificates[1].certificate, "b.crt");
    assert_string_equal(settings->certificates[1].key, "b.key");
    assert_int_equal(settings->core_count, 2);
    assert_string_equal(settings->cores[0].name, "core");
    assert_string_equal(settings->cores[1].name, "core");
    assert_int_equal(settings->alpn_count, 2);
    assert_string_equal(settings->alpn[1], "mqtt");
    assert_null(settings->service);
    assert_int_equal(settings->route_count, 2);
    assert_null(settings->routes[0].listener);
    assert_string_equal(settings->routes[0].server_name, "*.example.com");
    assert_string_equal(settings->routes[0].alpn, "h2");
    assert_string_equal(settings->routes[0].service, "s");
    assert_string_equal(settings->routes[1].listener, "[::]:0");
    assert_null(settings->routes[1].server_name);
    assert_string_equal(settings->routes[1].service, "t");
    assert_int_equal(settings->client_auth, TLS_CLIENT_AUTH_REQUIRED);
    assert_string_equal(settings->client_ca, "c.crt");
    assert_string_equal(settings->ticket_key, "k");
    assert_false(settings->tickets);
    assert_true(settings->unknown_name_refused);
    const uint32_t numbers[] = {settings->trunks,
                                settings->workers,
                                settings->sessions_max,
                                settings->handshakes_max,
                                settings->sessions_per_trunk,
                                settings->trunk_opens_max,
                                settings->stream_window_bytes,
                                settings->trunk_window_bytes,
                                settings->handshake_timeout_ms,
                                settings->open_timeout_ms,
                                settings->linger_timeout_ms,
                                settings->drain_timeout_ms,
                                settings->ping_interval_ms,
                                settings->ping_timeout_ms,
                                settings->reconnect_min_ms,
                                settings->reconnect_max_ms,
                                settings->handshakes_per_second,
                                settings->connections_per_address,
                                settings->connections_per_network,
                                settings->arrivals_per_address,
                                settings->arrivals_per_network,
                                settings->network_ip4_bits,
                                settings->network_ip6_bits,
                                settings->idle_timeout_ms,
                                settings->stall_timeout_ms,
                                settings->keepalive_ms,
                                settings->resume_timeout_ms,
                                settings->reopen_after_ms,
                                settings->stream_window_max_bytes,
                                settings->buffer_memory_bytes};
    const uint32_t expected[] = {64, 3,  10, 11, 12, 13, 32768, 1048576, 1,  2,  3,  4,  5,  6,     7,
                                 8,  21, 22, 23, 24, 25, 26,    27,      28, 29, 30, 31, 32, 65536, 2097152};
    assert_memory_equal(numbers, expected, sizeof expected);
    assert_int_equal(settings->log_level, LOG_DEBUG);
    assert_string_equal(settings->user, "nobody");
    assert_int_equal(settings->sandbox, SANDBOX_OFF);
    assert_string_equal(settings->control, "a.control");
    assert_string_equal(settings->takeover, "b.control");
    assert_int_equal(settings->log_format, LOG_FORMAT_JSON);
    assert_true(settings->check_only);
    edge_settings_dispose(&reading.settings);
}

static void a_missing_option_is_named_with_its_purpose(void **state)
{
    (void)state;
    refused(CREDENTIALS SERVICE, "trunkline-edge: --listen ADDR:PORT is missing: where TLS clients connect; with port "
                                 "0 the system chooses one, which is printed (see --help)\n");
    refused(LISTEN CREDENTIALS,
            "trunkline-edge: --service NAME is missing: a client needs it or a --route (see --help)\n");
    refused(LISTEN SERVICE "certificate { certificate = a; key = b }; core = \"c:1\"; trunk-key = k;"
                           "trunk-certificate = t",
            "trunkline-edge: --core-ca FILE is missing: CA certificates, PEM, that the cores' certificates must chain "
            "to (see --help)\n");
}

static void certificates_and_keys_must_be_pairs(void **state)
{
    (void)state;
    struct reading reading;
    READ(&reading, REQUIRED_ARGUMENTS, "--service=web", "--certificate=b.crt");
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_string_equal(reading.errors, "trunkline-edge: --key: every certificate needs one key: certificates given: "
                                        "2, keys: 1\n");
    refused(WHOLE "certificate = b.crt\n",
            "edge.conf:6: certificate: every certificate needs one key: certificates given: 2, keys: 1\n");
    refused(LISTEN "certificate { certificate = a }", "edge.conf:2: certificate: needs both a certificate and a key\n");
    refused("certificate = a\ncertificate { certificate = b; key = c }",
            "edge.conf:2: certificate: the certificates and keys before this one must be pairs\n");
    refused("certificate = ''", "edge.conf:1: certificate: must not be empty\n");
    refused("key = ''", "edge.conf:1: key: must not be empty\n");
    read_text(&reading, WHOLE "certificate = b.crt; key = b.key");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_int_equal(reading.settings.certificate_count, 2);
    assert_string_equal(reading.settings.certificates[0].key, "a.key");
    assert_string_equal(reading.settings.certificates[1].key, "b.key");
    edge_settings_dispose(&reading.settings);
}

static void certificates_of_the_command_line_replace_pairs_of_the_file(void **state)
{
    (void)state;
    struct reading reading;
    char path[] = "/tmp/edge_settings_test.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, WHOLE, strlen(WHOLE)), strlen(WHOLE));
    close(fd);
    READ(&reading, "--config", path, "--key", "new.key", "--certificate", "new.crt", "--listen=[::1]:1");
    unlink(path);
    assert_string_equal(reading.errors, "");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_int_equal(reading.settings.certificate_count, 1);
    assert_string_equal(reading.settings.certificates[0].certificate, "new.crt");
    assert_string_equal(reading.settings.certificates[0].key, "new.key");
    assert_int_equal(reading.settings.listen_count, 1);
    assert_string_equal(reading.settings.listens[0].address, "[::1]:1");
    assert_string_equal(reading.settings.service, "web");
    edge_settings_dispose(&reading.settings);
}

static void client_certificates_need_a_ca(void **state)
{
    (void)state;
    refused(WHOLE "client-certificate = require",
            "edge.conf:6: client-certificate: needs client-ca, the CA that signs them\n");
    refused(WHOLE "client-certificate = optional",
            "edge.conf:6: client-certificate: needs client-ca, the CA that signs them\n");
    refused(WHOLE "client-ca = ca.crt",
            "edge.conf:6: client-ca: has no effect without client-certificate optional or require\n");
    refused(WHOLE "client-certificate = yes",
            "edge.conf:6: client-certificate: must be none, optional or require, not \"yes\"\n");
    struct reading reading;
    read_text(&reading, WHOLE "client-certificate = none; client-ca = ca.crt");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    edge_settings_dispose(&reading.settings);
}

static void routes_name_what_exists(void **state)
{
    (void)state;
    refused(WHOLE "route {\nlistener = public; service = web }",
            "edge.conf:6: route: no listener is called \"public\"\n");
    refused(WHOLE "route { alpn = h2; service = web }",
            "edge.conf:6: route: never matches: the protocol \"h2\" is not among those of alpn\n");
    refused(WHOLE "route { sni = example.com }", "edge.conf:6: route: needs a service\n");
    refused(WHOLE "route { sni = 'a.*.com'; service = web }",
            "edge.conf:6: route: sni \"a.*.com\" is not a host name, or one after \"*.\"\n");
    refused(WHOLE "route { sni = '*.'; service = web }",
            "edge.conf:6: route: sni \"*.\" is not a host name, or one after \"*.\"\n");
    refused(WHOLE "route = 'sni=a,service='", "edge.conf:6: route: service must not be empty\n");
    refused(WHOLE "route = 'host=a,service=b'", "edge.conf:6: route: has no part \"host\"\n");
    struct reading reading;
    READ(&reading, REQUIRED_ARGUMENTS, "--route=listener=0.0.0.0:44,service=web");
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_string_equal(reading.errors, "trunkline-edge: --route: no listener is called \"0.0.0.0:44\"\n");
    read_text(&reading, CREDENTIALS "listen public { address = \"[::]:1\" }\nroute { listener = public; service = w }");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_string_equal(reading.settings.listens[0].name, "public");
    edge_settings_dispose(&reading.settings);
}

static void limits_that_contradict_are_refused(void **state)
{
    (void)state;
    refused(WHOLE "reconnect-min = 11s", "edge.conf:6: reconnect-min: reconnect-min must not be longer than "
                                         "reconnect-max\n");
    refused(WHOLE "reconnect-max = 50ms", "edge.conf:6: reconnect-max: reconnect-min must not be longer than "
                                          "reconnect-max\n");
    refused(WHOLE "stream-window = 16M",
            "edge.conf:6: stream-window: stream-window-max must not be smaller than stream-window\n");
    refused(WHOLE "stream-window-max = 1K",
            "edge.conf:6: stream-window-max: stream-window-max must not be smaller than stream-window\n");
    refused(WHOLE "stream-window-max = 16M", "edge.conf:6: stream-window-max: trunk-window must be larger than "
                                             "stream-window-max, or one client stops them all\n");
    refused(WHOLE "trunk-window = 64K", "edge.conf:6: trunk-window: trunk-window must be larger than "
                                        "stream-window-max, or one client stops them all\n");
    refused(WHOLE "buffer-memory = 64K", "edge.conf:6: buffer-memory: must be between 1M and 2147483647\n");
    refused(WHOLE "ping-timeout = 0", "edge.conf:6: ping-timeout: must be between 1ms and 24h\n");
    refused(WHOLE "trunks = 65", "edge.conf:6: trunks: must be between 1 and 64\n");
    refused(WHOLE "workers = 257", "edge.conf:6: workers: must be between 0 and 256\n");
}

static void addresses_and_names_are_checked(void **state)
{
    (void)state;
    refused("listen = \"127.0.0.1\"", "edge.conf:1: listen: \"127.0.0.1\" is not of the form ADDR:PORT\n");
    refused("listen { name = x }", "edge.conf:1: listen: needs an address\n");
    refused("core { name = x }", "edge.conf:1: core: needs an address\n");
    refused("core = \"core:0\"", "edge.conf:1: core: \"core:0\": the port must be between 1 and 65535\n");
    refused("service = 'a b'",
            "edge.conf:1: service: \"a b\" is not a name: 1 to 255 visible ASCII characters without spaces\n");
}

static void help_and_version_end_the_reading(void **state)
{
    (void)state;
    struct reading reading;
    FILE *file = tmpfile();
    char text[64] = "";
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    assert_non_null(file);
    assert_true(saved >= 0 && dup2(fileno(file), STDOUT_FILENO) >= 0);
    READ(&reading, "--version");
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    rewind(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_int_equal(reading.verdict, SETTINGS_DONE);
    assert_string_equal(text, "trunkline-edge " TRUNKLINE_VERSION "\n");
}

/* A file of the source tree, by its place beside this one. */
static char *source_file(const char *path)
{
    char name[4096];
    const char *self = strstr(__FILE__, "tests/unit/");
    assert_non_null(self);
    snprintf(name, sizeof name, "%.*s%s", (int)(self - __FILE__), __FILE__, path);
    FILE *file = fopen(name, "re");
    assert_non_null(file);
    char *text = calloc(1, 65536);
    assert_non_null(text);
    assert_true(fread(text, 1, 65535, file) < 65535);
    fclose(file);
    return text;
}

static void the_example_file_is_valid_and_complete(void **state)
{
    (void)state;
    struct reading reading;
    char *text = source_file("docs/examples/edge.conf");
    read_text(&reading, text);
    assert_string_equal(reading.errors, "");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_int_equal(reading.settings.listen_count, 3);
    assert_int_equal(reading.settings.certificate_count, 2);
    assert_int_equal(reading.settings.core_count, 2);
    assert_int_equal(reading.settings.route_count, 3);
    assert_int_equal(reading.settings.alpn_count, 3);
    for (size_t i = 0; i < edge_program.option_count; i++) {
        const struct option *option = &edge_program.options[i];
        char line[64];
        bool in_file = option->kind >= OPTION_SWITCH && strcmp(option->name, "core-name") != 0 &&
                       strcmp(option->name, "key") != 0 &&
                       strcmp(option->name, "takeover") != 0; /* of one process, not of all */
        snprintf(line, sizeof line, "\n%s ", option->name);
        if (in_file && strstr(text, line) == NULL) {
            fail_msg("docs/examples/edge.conf lacks %s", option->name);
        }
    }
    edge_settings_dispose(&reading.settings);
    free(text);
}

static void the_manual_page_names_every_option(void **state)
{
    (void)state;
    char *text = source_file("docs/man/trunkline-edge.8");
    for (size_t i = 0; i < edge_program.option_count; i++) {
        char item[128];
        const struct option *option = &edge_program.options[i];
        snprintf(item, sizeof item, "\n.It Fl Fl %s%s%s\n", option->name, option->value_name != NULL ? " Ar " : "",
                 option->value_name != NULL ? option->value_name : "");
        if (strstr(text, item) == NULL) {
            fail_msg("docs/man/trunkline-edge.8 lacks --%s", option->name);
        }
    }
    free(text);
}

static void a_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
    (void)state;
    uint64_t faults = 1;
    for (uint64_t nth = 1; faults != 0; nth++) {
        struct reading reading;
        assert_true(nth < 200);
        memory_fail_at(nth);
        read_text(&reading, WHOLE "listen { address = \"[::]:1\"; name = p }\nroute { listener = p; alpn = h2; "
                                  "service = s; sni = x }\nroute = 'service=t'\nalpn = [h2, h3]\ncore-name = n\n"
                                  "certificate { certificate = b.crt; key = b.key }");
        faults = memory_faults();
        memory_fail_at(0);
        assert_int_equal(reading.verdict, faults != 0 ? SETTINGS_WRONG : SETTINGS_RUN);
        assert_int_equal(strstr(reading.errors, "out of memory\n") != NULL, faults != 0);
        edge_settings_dispose(&reading.settings);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_smallest_command_line_gets_the_defaults),
        cmocka_unit_test(every_field_has_an_option),
        cmocka_unit_test(a_missing_option_is_named_with_its_purpose),
        cmocka_unit_test(certificates_and_keys_must_be_pairs),
        cmocka_unit_test(certificates_of_the_command_line_replace_pairs_of_the_file),
        cmocka_unit_test(client_certificates_need_a_ca),
        cmocka_unit_test(routes_name_what_exists),
        cmocka_unit_test(limits_that_contradict_are_refused),
        cmocka_unit_test(addresses_and_names_are_checked),
        cmocka_unit_test(help_and_version_end_the_reading),
        cmocka_unit_test(the_example_file_is_valid_and_complete),
        cmocka_unit_test(the_manual_page_names_every_option),
        cmocka_unit_test(a_failed_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
