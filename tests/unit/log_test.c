/* Log lines: their two forms, escaping, levels, the limit of lines that peers provoke. Mostly one thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "mux/log.h"
#include "mux/memory.h"

#define TIME_LENGTH 24 /* 2026-01-02T03:04:05.678Z */

struct captured {
    char line[8192];
    unsigned count;
};

static void capture(const char *line, void *context)
{
    struct captured *captured = context;
    snprintf(captured->line, sizeof captured->line, "%s", line);
    captured->count++;
}

static void begin(struct captured *captured, enum log_level level, enum log_format format)
{
    memset(captured, 0, sizeof *captured);
    unsetenv("JOURNAL_STREAM");
    log_configure(level, format);
    log_capture(capture, captured);
}

static void end(void)
{
    log_capture(NULL, NULL);
    log_configure(LOG_INFO, LOG_FORMAT_TEXT);
}

static json_t *parsed(const struct captured *captured)
{
    json_t *object = json_loads(captured->line, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(object);
    return object;
}

static const char *json_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    assert_non_null(text);
    return text;
}

static void a_text_line_has_time_level_event_and_fields(void **state)
{
    (void)state;
    struct captured captured;
    begin(&captured, LOG_DEBUG, LOG_FORMAT_TEXT);
    LOG(LOG_INFO, "trunk-up", LOG_TEXT("peer", "192.0.2.1:443"), LOG_INTEGER("trunk", 3), LOG_TEXT("none", NULL),
        LOG_INTEGER("least", INT64_MIN), LOG_HEX("session", 0xabcULL), LOG_ERROR_CODE(ERROR_TIMEOUT));
    assert_string_equal(captured.line + TIME_LENGTH, " INFO  trunk-up peer=192.0.2.1:443 trunk=3 "
                                                     "least=-9223372036854775808 session=0000000000000abc "
                                                     "error=timeout");
    unsigned year;
    unsigned rest;
    char zone;
    assert_int_equal(sscanf(captured.line, "%4u-%*2u-%*2uT%*2u:%*2u:%*2u.%3u%c", &year, &rest, &zone), 3);
    assert_true(year >= 2024);
    assert_int_equal(zone, 'Z');
    LOG(LOG_WARNING, "w", LOG_ERROR_CODE(ERROR_NONE));
    assert_string_equal(captured.line + TIME_LENGTH, " WARN  w");
    LOG(LOG_ERROR, "e", LOG_INTEGER("n", 1));
    assert_string_equal(captured.line + TIME_LENGTH, " ERROR e n=1");
    LOG(LOG_DEBUG, "d", LOG_INTEGER("n", 1));
    assert_string_equal(captured.line + TIME_LENGTH, " DEBUG d n=1");
    end();
}

static void a_json_line_parses_and_keeps_types(void **state)
{
    (void)state;
    struct captured captured;
    begin(&captured, LOG_INFO, LOG_FORMAT_JSON);
    LOG(LOG_WARNING, "trunk-up", LOG_TEXT("peer", "a\"b\n\xc3\xa4"), LOG_INTEGER("trunk", -3), LOG_TEXT("none", NULL),
        LOG_HEX("session", UINT64_MAX));
    json_t *object = parsed(&captured);
    assert_int_equal(json_object_size(object), 6);
    assert_int_equal(strlen(json_text(object, "time")), TIME_LENGTH);
    assert_string_equal(json_text(object, "level"), "warning");
    assert_string_equal(json_text(object, "event"), "trunk-up");
    assert_string_equal(json_text(object, "peer"), "a\"b\n\xc3\xa4");
    assert_int_equal(json_integer_value(json_object_get(object, "trunk")), -3);
    assert_string_equal(json_text(object, "session"), "ffffffffffffffff");
    assert_memory_equal(captured.line, "{\"time\":\"", 9);
    for (const char *byte = captured.line; *byte != '\0'; byte++) {
        assert_true(*byte >= ' ' && *byte < 0x7f);
    }
    json_decref(object);
    end();
}

static void a_peers_bytes_cannot_forge_a_line(void **state)
{
    (void)state;
    struct captured captured;
    begin(&captured, LOG_INFO, LOG_FORMAT_TEXT);
    LOG(LOG_INFO, "e", LOG_TEXT("sni", "x\n2026 ERROR \"\\\x1b[0m\xff"), LOG_TEXT("empty", ""), LOG_TEXT("b", "p=q"));
    assert_string_equal(captured.line + TIME_LENGTH,
                        " INFO  e sni=\"x\\x0a2026 ERROR \\\"\\\\\\x1b[0m\\xff\" empty=\"\" b=\"p=q\"");
    end();
    begin(&captured, LOG_INFO, LOG_FORMAT_JSON);
    LOG(LOG_INFO, "e", LOG_TEXT("sni", "x\n\xff\xc3"));
    json_t *object = parsed(&captured);
    assert_string_equal(json_text(object, "sni"), "x\n\\xff\\xc3");
    json_decref(object);
    end();
}

static void lines_below_the_level_are_not_written(void **state)
{
    (void)state;
    struct captured captured;
    begin(&captured, LOG_WARNING, LOG_FORMAT_TEXT);
    LOG(LOG_INFO, "quiet", LOG_INTEGER("n", 1));
    assert_int_equal(captured.count, 0);
    LOG(LOG_WARNING, "loud", LOG_INTEGER("n", 1));
    LOG(LOG_ERROR, "louder", LOG_INTEGER("n", 1));
    assert_int_equal(captured.count, 2);
    assert_false(log_enabled(LOG_DEBUG));
    log_configure(LOG_DEBUG, LOG_FORMAT_TEXT);
    assert_true(log_enabled(LOG_DEBUG));
    end();
}

static void long_values_are_cut_and_lines_stay_whole(void **state)
{
    (void)state;
    struct captured captured;
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    begin(&captured, LOG_INFO, LOG_FORMAT_TEXT);
    LOG(LOG_INFO, "e", LOG_TEXT("one", text), LOG_INTEGER("after", 1));
    assert_non_null(strstr(captured.line, "xxx...\" after=1"));
    assert_true(strlen(captured.line) < 1200);
    memset(text, '\xff', sizeof text - 1);
    LOG(LOG_INFO, "e", LOG_TEXT("one", text), LOG_TEXT("two", text));
    assert_true(strlen(captured.line) < 4096);
    assert_string_equal(captured.line + strlen(captured.line) - 8, "\\xff...\"");
    end();
    begin(&captured, LOG_INFO, LOG_FORMAT_JSON);
    memset(text, '\x01', sizeof text - 1);
    LOG(LOG_INFO, "e", LOG_TEXT("one", text), LOG_INTEGER("after", 1));
    json_t *object = parsed(&captured);
    assert_true(strlen(captured.line) < 4096);
    assert_int_equal(json_integer_value(json_object_get(object, "after")), 1);
    assert_int_equal(json_text(object, "one")[0], 1);
    json_decref(object);
    end();
}

static void out_of_memory_still_leaves_a_json_line(void **state)
{
    (void)state;
    struct captured captured;
    uint64_t faults = 1;
    begin(&captured, LOG_INFO, LOG_FORMAT_JSON);
    for (uint64_t nth = 1; faults != 0; nth++) {
        assert_true(nth < 200);
        captured.line[0] = '\0';
        memory_fail_at(nth);
        LOG(LOG_INFO, "e", LOG_TEXT("peer", "p\xff"), LOG_INTEGER("n", 1), LOG_HEX("h", 1));
        faults = memory_faults();
        memory_fail_at(0);
        json_t *object = parsed(&captured);
        assert_true(strlen(json_text(object, "event")) > 0);
        json_decref(object);
    }
    end();
}

static void levels_and_formats_are_parsed_by_name(void **state)
{
    (void)state;
    enum log_level level = LOG_DEBUG;
    enum log_format format = LOG_FORMAT_JSON;
    assert_true(log_level_parse("error", &level));
    assert_int_equal(level, LOG_ERROR);
    assert_true(log_level_parse("warning", &level));
    assert_int_equal(level, LOG_WARNING);
    assert_true(log_level_parse("info", &level));
    assert_int_equal(level, LOG_INFO);
    assert_true(log_level_parse("debug", &level));
    assert_int_equal(level, LOG_DEBUG);
    assert_false(log_level_parse("loud", &level));
    assert_int_equal(level, LOG_DEBUG);
    assert_true(log_format_parse("text", &format));
    assert_int_equal(format, LOG_FORMAT_TEXT);
    assert_true(log_format_parse("json", &format));
    assert_int_equal(format, LOG_FORMAT_JSON);
    assert_false(log_format_parse("", &format));
    assert_int_equal(format, LOG_FORMAT_JSON);
}

static void a_provoked_line_is_limited_and_the_rest_counted(void **state)
{
    (void)state;
    struct log_counter counter = {0};
    uint64_t suppressed = 0;
    uint64_t now_us = 5000000;
    for (unsigned i = 0; i < LOG_LIMITED_PER_SECOND; i++) {
        assert_true(log_counter_allow(&counter, now_us + i, &suppressed));
        assert_int_equal(suppressed, 0);
    }
    for (unsigned i = 0; i < 7; i++) {
        assert_false(log_counter_allow(&counter, now_us + 999999, &suppressed));
    }
    assert_true(log_counter_allow(&counter, now_us + 1000000, &suppressed));
    assert_int_equal(suppressed, 7);
    assert_true(log_counter_allow(&counter, now_us + 1000001, &suppressed));
    assert_int_equal(suppressed, 0);
    assert_int_equal(counter.total, LOG_LIMITED_PER_SECOND + 9);
}

/* Runs `body` with standard error in a file; returns what was written. */
static size_t written_by(void (*body)(void), char *into, size_t capacity)
{
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    assert_non_null(file);
    assert_true(saved >= 0);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    body();
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    size_t length = fread(into, 1, capacity - 1, file);
    into[length] = '\0';
    fclose(file);
    return length;
}

static void log_to_journal(void)
{
    struct stat status;
    char stream[64];
    assert_int_equal(fstat(STDERR_FILENO, &status), 0);
    snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)status.st_dev, (unsigned long long)status.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_configure(LOG_DEBUG, LOG_FORMAT_TEXT);
    LOG(LOG_ERROR, "a", LOG_INTEGER("n", 1));
    LOG(LOG_WARNING, "b", LOG_INTEGER("n", 1));
    LOG(LOG_INFO, "c", LOG_INTEGER("n", 1));
    LOG(LOG_DEBUG, "d", LOG_INTEGER("n", 1));
    setenv("JOURNAL_STREAM", "1:1", 1);
    log_configure(LOG_INFO, LOG_FORMAT_TEXT);
    LOG(LOG_INFO, "e", LOG_INTEGER("n", 1));
    unsetenv("JOURNAL_STREAM");
    log_configure(LOG_INFO, LOG_FORMAT_TEXT);
}

static void under_journald_lines_carry_a_priority_instead_of_the_time(void **state)
{
    (void)state;
    char text[1024];
    written_by(log_to_journal, text, sizeof text);
    const char *expected = "<3>a n=1\n<4>b n=1\n<6>c n=1\n<7>d n=1\n";
    assert_memory_equal(text, expected, strlen(expected));
    assert_string_equal(text + strlen(expected) + TIME_LENGTH, " INFO  e n=1\n");
}

#define THREADS 4
#define LINES   200

static void *log_lines(void *argument)
{
    char text[200];
    memset(text, 'a' + *(int *)argument, sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < LINES; i++) {
        LOG(LOG_INFO, "line", LOG_TEXT("text", text));
    }
    return NULL;
}

static void log_from_threads(void)
{
    pthread_t threads[THREADS];
    int numbers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void lines_of_threads_never_mix(void **state)
{
    (void)state;
    static char text[THREADS * LINES * 300];
    unsigned lines = 0;
    log_configure(LOG_INFO, LOG_FORMAT_TEXT);
    written_by(log_from_threads, text, sizeof text);
    for (char *line = text; *line != '\0'; lines++) {
        size_t length = strcspn(line, "\n");
        assert_int_equal(length, TIME_LENGTH + strlen(" INFO  line text=") + 199);
        char letter = line[length - 1];
        for (size_t i = 1; i <= 199; i++) {
            assert_int_equal(line[length - i], letter);
        }
        line += length + 1;
    }
    assert_int_equal(lines, THREADS * LINES);
}

static void logging_keeps_errno(void **state)
{
    (void)state;
    struct captured captured;
    begin(&captured, LOG_INFO, LOG_FORMAT_JSON);
    errno = ENOTTY;
    LOG(LOG_INFO, "e", LOG_INTEGER("n", 1));
    assert_int_equal(errno, ENOTTY);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_line_has_time_level_event_and_fields),
        cmocka_unit_test(a_json_line_parses_and_keeps_types),
        cmocka_unit_test(a_peers_bytes_cannot_forge_a_line),
        cmocka_unit_test(lines_below_the_level_are_not_written),
        cmocka_unit_test(long_values_are_cut_and_lines_stay_whole),
        cmocka_unit_test(out_of_memory_still_leaves_a_json_line),
        cmocka_unit_test(levels_and_formats_are_parsed_by_name),
        cmocka_unit_test(a_provoked_line_is_limited_and_the_rest_counted),
        cmocka_unit_test(under_journald_lines_carry_a_priority_instead_of_the_time),
        cmocka_unit_test(lines_of_threads_never_mix),
        cmocka_unit_test(logging_keeps_errno),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
