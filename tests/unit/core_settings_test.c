/* What trunkline-core makes of its options and files, and that its documents are complete. One thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/settings.h"
#include "mux/limits.h"
#include "mux/memory.h"

#define WHOLE                                                                                                          \
    "listen = \"127.0.0.1:8443\"\ncertificate = a.crt; key = a.key\nclient-ca = ca.crt\nservice = \"echo=echo\"\n"

struct reading {
    struct core_settings settings;
    enum settings_verdict verdict;
    char errors[1024];
};

static void read_text(struct reading *reading, const char *text)
{
    char *errors = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&errors, &length);
    assert_non_null(stream);
    reading->verdict = core_settings_read_text(&reading->settings, "core.conf", text, strlen(text), stream);
    fclose(stream);
    snprintf(reading->errors, sizeof reading->errors, "%s", errors);
    free(errors);
}

/* Standard error is read back from a file meanwhile. */
static void read_arguments(struct reading *reading, const char *const *words)
{
    char *argv[96] = {(char *)(uintptr_t) "trunkline-core"};
    int argc = 1;
    for (; words[argc - 1] != NULL; argc++) {
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
    }
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    assert_non_null(file);
    assert_true(saved >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    reading->verdict = core_settings_read(&reading->settings, argc, argv);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    size_t length = fread(reading->errors, 1, sizeof reading->errors - 1, file);
    reading->errors[length] = '\0';
    fclose(file);
}

#define REQUIRED_ARGUMENTS                                                                                             \
    "--listen", "0.0.0.0:8443", "--certificate", "a.crt", "--key", "a.key", "--client-ca", "ca.crt", "--service",      \
        "echo=echo"
#define READ(reading_, ...) read_arguments((reading_), (const char *const[]){__VA_ARGS__, NULL})

static void refused(const char *text, const char *line)
{
    struct reading reading;
    read_text(&reading, text);
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_string_equal(reading.errors, line);
    core_settings_dispose(&reading.settings);
}

static void assert_service(const struct core_service_settings *service, const char *name, const char *handler,
                           const char *argument)
{
    assert_string_equal(service->name, name);
    assert_string_equal(service->handler, handler);
    assert_string_equal(service->argument, argument);
}

static void the_smallest_command_line_gets_the_defaults(void **state)
{
    (void)state;
    struct reading reading;
    READ(&reading, REQUIRED_ARGUMENTS);
    const struct core_settings *settings = &reading.settings;
    assert_string_equal(reading.errors, "");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_int_equal(settings->listen_count, 1);
    assert_string_equal(settings->listens[0], "0.0.0.0:8443");
    assert_int_equal(settings->service_count, 1);
    assert_service(&settings->services[0], "echo", "echo", "");
    assert_int_equal(settings->allowed_name_count, 0);
    assert_string_equal(settings->certificate, "a.crt");
    assert_string_equal(settings->key, "a.key");
    assert_string_equal(settings->client_ca, "ca.crt");
    assert_int_equal(settings->workers, 0);
    assert_int_equal(settings->sessions_max, LIMIT_CORE_SESSIONS);
    assert_int_equal(settings->sessions_per_trunk, LIMIT_SESSIONS_PER_TRUNK);
    assert_int_equal(settings->trunks_max, LIMIT_CORE_TRUNKS);
    assert_int_equal(settings->stream_window_bytes, LIMIT_STREAM_WINDOW_BYTES);
    assert_int_equal(settings->stream_window_max_bytes, LIMIT_STREAM_WINDOW_MAX_BYTES);
    assert_int_equal(settings->trunk_window_bytes, LIMIT_TRUNK_WINDOW_BYTES);
    assert_int_equal(settings->buffer_memory_bytes, LIMIT_BUFFER_MEMORY_BYTES);
    assert_int_equal(settings->header_bytes_max, LIMIT_HEADER_BYTES);
    assert_int_equal(settings->handshake_timeout_ms, TIMEOUT_TRUNK_HANDSHAKE_MS);
    assert_int_equal(settings->drain_timeout_ms, TIMEOUT_DRAIN_MS);
    assert_int_equal(settings->resume_timeout_ms, TIMEOUT_RESUME_CORE_MS);
    assert_int_equal(settings->ping_interval_ms, TIMEOUT_PING_INTERVAL_MS);
    assert_int_equal(settings->ping_timeout_ms, TIMEOUT_PING_ANSWER_MS);
    assert_null(settings->user);
    assert_int_equal(settings->sandbox, SANDBOX_ON);
    assert_int_equal(settings->sandbox_call_count + settings->sandbox_read_count + settings->sandbox_write_count, 0);
    assert_int_equal(settings->log_level, LOG_INFO);
    assert_int_equal(settings->log_format, LOG_FORMAT_TEXT);
    assert_false(settings->check_only);
    core_settings_dispose(&reading.settings);
    assert_null(reading.settings.services);
}

static void only_a_service_that_there_is_reopens(void **state)
{
    (void)state;
    struct reading reading;
    READ(&reading, REQUIRED_ARGUMENTS, "--service=web=forward:127.0.0.1:80", "--reopen=echo");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_true(reading.settings.services[0].reopens);
    assert_false(reading.settings.services[1].reopens);
    core_settings_dispose(&reading.settings);
    READ(&reading, REQUIRED_ARGUMENTS, "--reopen=echo", "--reopen=ech");
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_non_null(strstr(reading.errors, "no service is named ech"));
    core_settings_dispose(&reading.settings);
}

static void every_field_has_an_option(void **state)
{
    (void)state;
    struct reading reading;
    READ(&reading, REQUIRED_ARGUMENTS, "--listen=[::]:0", "--service=web=forward:127.0.0.1:80",
         "--service=local=forward:unix:/run/a=b", "--service=chat=plugin:./chat.so", "--allow-name=edge-1",
         "--allow-name=edge-2", "--reopen=web", "--workers=256", "--sessions-max=10", "--sessions-per-trunk=11",
         "--trunks-max=12", "--stream-window=32K", "--stream-window-max=64K", "--trunk-window=1M", "--buffer-memory=2M",
         "--header-bytes-max=8K", "--handshake-timeout=1ms", "--drain-timeout=0", "--resume-timeout=4ms",
         "--ping-interval=2ms", "--ping-timeout=3ms", "--log-level=error", "--log-format=json", "--user=nobody:nogroup",
         "--sandbox=require", "--sandbox-allow=ptrace", "--sandbox-allow=bind", "--sandbox-read=/a",
         "--sandbox-write=/b", "--sandbox-write=/c", "--check-config");
    const struct core_settings *settings = &reading.settings;
    assert_string_equal(reading.errors, "");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_int_equal(settings->listen_count, 2);
    assert_string_equal(settings->listens[1], "[::]:0");
    assert_int_equal(settings->service_count, 4);
    assert_service(&settings->services[1], "web", "forward", "127.0.0.1:80");
    assert_service(&settings->services[2], "local", "forward", "unix:/run/a=b");
    assert_service(&settings->services[3], "chat", "plugin", "./chat.so");
    assert_int_equal(settings->allowed_name_count, 2);
    assert_string_equal(settings->allowed_names[1], "edge-2");
    const uint32_t numbers[] = {settings->workers,
                                settings->sessions_max,
                                settings->sessions_per_trunk,
                                settings->trunks_max,
                                settings->stream_window_bytes,
                                settings->trunk_window_bytes,
                                settings->header_bytes_max,
                                settings->handshake_timeout_ms,
                                settings->drain_timeout_ms,
                                settings->ping_interval_ms,
                                settings->ping_timeout_ms,
                                settings->stream_window_max_bytes,
                                settings->buffer_memory_bytes};
    const uint32_t expected[] = {256, 10, 11, 12, 32768, 1048576, 8192, 1, 0, 2, 3, 65536, 2097152};
    assert_memory_equal(numbers, expected, sizeof expected);
    assert_string_equal(settings->user, "nobody:nogroup");
    assert_int_equal(settings->sandbox, SANDBOX_REQUIRE);
    assert_int_equal(settings->sandbox_call_count, 2);
    assert_string_equal(settings->sandbox_calls[1], "bind");
    assert_int_equal(settings->sandbox_read_count, 1);
    assert_string_equal(settings->sandbox_reads[0], "/a");
    assert_int_equal(settings->sandbox_write_count, 2);
    assert_string_equal(settings->sandbox_writes[1], "/c");
    assert_int_equal(settings->log_level, LOG_ERROR);
    assert_int_equal(settings->log_format, LOG_FORMAT_JSON);
    assert_true(settings->check_only);
    core_settings_dispose(&reading.settings);
}

static void services_read_in_every_form_of_the_file(void **state)
{
    (void)state;
    struct reading reading;
    read_text(&reading, WHOLE "service \"a\" { handler = \"forward:127.0.0.1:80\" }\n"
                              "service b { handler = forward; argument = \"unix:/run/b\" }\n"
                              "service { name = c; handler = plugin }\nservice = [\"d=echo:\"]");
    assert_string_equal(reading.errors, "");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_int_equal(reading.settings.service_count, 5);
    assert_service(&reading.settings.services[1], "a", "forward", "127.0.0.1:80");
    assert_service(&reading.settings.services[2], "b", "forward", "unix:/run/b");
    assert_service(&reading.settings.services[3], "c", "plugin", "");
    assert_service(&reading.settings.services[4], "d", "echo", "");
    core_settings_dispose(&reading.settings);
}

static void broken_services_are_refused(void **state)
{
    (void)state;
    refused("service = echo", "core.conf:1: service: needs a handler: NAME=HANDLER[:ARGUMENT]\n");
    refused("service = \"echo=\"", "core.conf:1: service: needs a handler: NAME=HANDLER[:ARGUMENT]\n");
    refused("service = \"echo=:x\"", "core.conf:1: service: needs a handler: NAME=HANDLER[:ARGUMENT]\n");
    refused("service = \"=echo\"", "core.conf:1: service: needs a name: NAME=HANDLER[:ARGUMENT]\n");
    refused("service { handler = echo }", "core.conf:1: service: needs a name: NAME=HANDLER[:ARGUMENT]\n");
    refused("service echo { argument = x }", "core.conf:1: service: needs a handler: NAME=HANDLER[:ARGUMENT]\n");
    refused("service \"a b\" { handler = echo }",
            "core.conf:1: service: \"a b\" is not a name: 1 to 255 visible ASCII characters without spaces\n");
    refused("service a { handler = \"forward:x\"; argument = y }",
            "core.conf:1: service: has two arguments: one after the handler's colon, and one of its own\n");
    refused(WHOLE "service echo { handler = echo }", "core.conf:5: service: echo is given twice\n");
    struct reading reading;
    char option[300] = "--service=";
    memset(option + 10, 'n', 256);
    memcpy(option + 266, "=echo", 6);
    READ(&reading, option);
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_non_null(strstr(reading.errors, "trunkline-core: --service: \"nnn"));
}

static void a_missing_option_is_named_with_its_purpose(void **state)
{
    (void)state;
    struct reading reading;
    READ(&reading, "--listen=[::]:1", "--certificate=a", "--key=b", "--service=e=echo");
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_string_equal(reading.errors, "trunkline-core: --client-ca FILE is missing: CA certificates, PEM, that the "
                                        "edges' certificates must chain to (see --help)\n");
}

static void limits_that_contradict_are_refused(void **state)
{
    (void)state;
    refused(WHOLE "stream-window = 16M",
            "core.conf:5: stream-window: stream-window-max must not be smaller than stream-window\n");
    refused(WHOLE "stream-window-max = 1K",
            "core.conf:5: stream-window-max: stream-window-max must not be smaller than stream-window\n");
    refused(WHOLE "stream-window-max = 16M", "core.conf:5: stream-window-max: trunk-window must be larger than "
                                             "stream-window-max, or one session stops them all\n");
    refused(WHOLE "trunk-window = 64K", "core.conf:5: trunk-window: trunk-window must be larger than "
                                        "stream-window-max, or one session stops them all\n");
    refused(WHOLE "buffer-memory = 64K", "core.conf:5: buffer-memory: must be between 1M and 2147483647\n");
    refused(WHOLE "ping-interval = 0s", "core.conf:5: ping-interval: must be between 1ms and 24h\n");
    refused(WHOLE "header-bytes-max = 2M", "core.conf:5: header-bytes-max: must be between 1K and 1M\n");
    refused(WHOLE "listen = 8443", "core.conf:5: listen: \"8443\" is not of the form ADDR:PORT\n");
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

static void privileges_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    refused(WHOLE "user = \"nobody:\"", "core.conf:5: user: \"nobody:\" is not of the form NAME or NAME:GROUP\n");
    refused(WHOLE "sandbox = yes", "core.conf:5: sandbox: must be off, on or require, not \"yes\"\n");
    refused(WHOLE "sandbox-allow = make_coffee",
            "core.conf:5: sandbox-allow: \"make_coffee\" is not the name of a system call\n");
    refused(WHOLE "sandbox-write = lib", "core.conf:5: sandbox-write: \"lib\" is not an absolute path\n");
}

static void the_example_file_is_valid_and_complete(void **state)
{
    (void)state;
    struct reading reading;
    char *text = source_file("docs/examples/core.conf");
    read_text(&reading, text);
    assert_string_equal(reading.errors, "");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_int_equal(reading.settings.listen_count, 2);
    assert_int_equal(reading.settings.service_count, 4);
    for (size_t i = 0; i < core_program.option_count; i++) {
        char line[64];
        snprintf(line, sizeof line, "\n%s ", core_program.options[i].name);
        if (core_program.options[i].kind >= OPTION_SWITCH && strstr(text, line) == NULL) {
            fail_msg("docs/examples/core.conf lacks %s", core_program.options[i].name);
        }
    }
    core_settings_dispose(&reading.settings);
    free(text);
}

static void the_manual_page_names_every_option(void **state)
{
    (void)state;
    char *text = source_file("docs/man/trunkline-core.8");
    for (size_t i = 0; i < core_program.option_count; i++) {
        char item[128];
        const struct option *option = &core_program.options[i];
        snprintf(item, sizeof item, "\n.It Fl Fl %s%s%s\n", option->name, option->value_name != NULL ? " Ar " : "",
                 option->value_name != NULL ? option->value_name : "");
        if (strstr(text, item) == NULL) {
            fail_msg("docs/man/trunkline-core.8 lacks --%s", option->name);
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
        read_text(&reading, WHOLE "service web { handler = forward; argument = x }\nallow-name = [a, b]");
        faults = memory_faults();
        memory_fail_at(0);
        assert_int_equal(reading.verdict, faults != 0 ? SETTINGS_WRONG : SETTINGS_RUN);
        assert_int_equal(strstr(reading.errors, "out of memory\n") != NULL, faults != 0);
        core_settings_dispose(&reading.settings);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_smallest_command_line_gets_the_defaults),
        cmocka_unit_test(only_a_service_that_there_is_reopens),
        cmocka_unit_test(every_field_has_an_option),
        cmocka_unit_test(services_read_in_every_form_of_the_file),
        cmocka_unit_test(broken_services_are_refused),
        cmocka_unit_test(a_missing_option_is_named_with_its_purpose),
        cmocka_unit_test(limits_that_contradict_are_refused),
        cmocka_unit_test(privileges_that_make_no_sense_are_refused),
        cmocka_unit_test(the_example_file_is_valid_and_complete),
        cmocka_unit_test(the_manual_page_names_every_option),
        cmocka_unit_test(a_failed_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
