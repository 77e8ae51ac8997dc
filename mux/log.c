/*
 * Log lines: built on the stack of the thread that logs, written with one write(2). Level and format are process-wide;
 * the format is set before threads start, the level may change under them. A line that cannot be written (a full pipe
 * that does not block, no memory for its JSON) is given up or cut short: logging never stops the data path.
 */
#include "mux/log.h"

#include <errno.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mux/clock.h"
#include "mux/memory.h"

/* A pipe takes this much at once without mixing it with what others write (PIPE_BUF). */
#define LOG_LINE_BYTES  4096U
#define LOG_VALUE_BYTES 1024U /* of one text field; more is cut */
#define LOG_FIELD_ROOM  32U   /* for a number and its marks; fields that find less are left out */

static atomic_int log_level_now = LOG_INFO;
static enum log_format log_format_now = LOG_FORMAT_TEXT;
static bool log_to_journal;

static void (*log_sink)(const char *line, void *context);
static void *log_sink_context;

static const char *const level_names[] = {"error", "warning", "info", "debug"};
static const char *const level_labels[] = {"ERROR", "WARN ", "INFO ", "DEBUG"};
static const char level_priorities[] = {'3', '4', '6', '7'}; /* syslog's */
static const char *const format_names[] = {"text", "json"};

struct log_line {
    char text[LOG_LINE_BYTES]; /* the last byte is for the newline or the zero */
    size_t length;
};

/* JOURNAL_STREAM says "device:inode" of the journal's socket; it is inherited also by those whose standard error has
 * been turned elsewhere. */
static bool log_is_journal(void)
{
    unsigned long long device;
    unsigned long long inode;
    struct stat status;
    const char *stream = getenv("JOURNAL_STREAM");
    return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &status) == 0 &&
           status.st_dev == device && status.st_ino == inode;
}

void log_configure(enum log_level level, enum log_format format)
{
    json_set_alloc_funcs(memory_alloc, memory_free);
    atomic_store_explicit(&log_level_now, (int)level, memory_order_relaxed);
    log_format_now = format;
    log_to_journal = log_is_journal();
}

static bool log_name_parse(const char *text, const char *const *names, size_t count, size_t *index)
{
    for (*index = 0; *index < count; *index += 1) {
        if (strcmp(text, names[*index]) == 0) {
            return true;
        }
    }
    return false;
}

bool log_level_parse(const char *text, enum log_level *level)
{
    size_t index;
    bool known = log_name_parse(text, level_names, sizeof level_names / sizeof *level_names, &index);
    *level = known ? (enum log_level)index : *level;
    return known;
}

bool log_format_parse(const char *text, enum log_format *format)
{
    size_t index;
    bool known = log_name_parse(text, format_names, sizeof format_names / sizeof *format_names, &index);
    *format = known ? (enum log_format)index : *format;
    return known;
}

void log_capture(void (*sink)(const char *line, void *context), void *context)
{
    log_sink = sink;
    log_sink_context = context;
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level_now, memory_order_relaxed);
}

static void log_time(char into[32])
{
    uint64_t now_us = clock_wall_us();
    time_t seconds = (time_t)(now_us / 1000000U);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t length = strftime(into, 32, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(into + length, 32 - length, ".%03uZ", (unsigned)(now_us / 1000U % 1000U));
}

/* Appends what fits; false when something did not. */
static bool line_put(struct log_line *line, const char *bytes, size_t length)
{
    size_t room = sizeof line->text - 1 - line->length;
    size_t taken = length < room ? length : room;
    memcpy(line->text + line->length, bytes, taken);
    line->length += taken;
    return taken == length;
}

static bool line_put_text(struct log_line *line, const char *text)
{
    return line_put(line, text, strlen(text));
}

/* Escapes one byte for a quoted value; plain bytes stay. */
static size_t byte_escape(unsigned char byte, char into[5])
{
    if (byte == '"' || byte == '\\') {
        into[0] = '\\';
        into[1] = (char)byte;
        return 2;
    }
    if (byte >= 0x20 && byte < 0x7f) {
        into[0] = (char)byte;
        return 1;
    }
    return (size_t)snprintf(into, 5, "\\x%02x", byte);
}

/* Bare when it can be told from its surroundings, else in quotes. Anything but ASCII is escaped: a peer's bytes must
 * not steer a terminal. An escape is never cut in two. */
static bool line_put_value(struct log_line *line, const char *text)
{
    size_t length = strnlen(text, LOG_VALUE_BYTES + 1);
    bool cut = length > LOG_VALUE_BYTES;
    bool bare = length > 0 && !cut;
    for (size_t i = 0; i < length && bare; i++) {
        bare = text[i] > ' ' && text[i] < 0x7f && strchr("\"\\=", text[i]) == NULL;
    }
    if (bare) {
        return line_put(line, text, length);
    }
    line_put_text(line, "\"");
    for (size_t i = 0; i < length && i < LOG_VALUE_BYTES; i++) {
        char escaped[5];
        size_t bytes = byte_escape((unsigned char)text[i], escaped);
        if (sizeof line->text - 1 - line->length < bytes + 4) {
            cut = true;
            break;
        }
        line_put(line, escaped, bytes);
    }
    return line_put_text(line, cut ? "...\"" : "\"");
}

static void log_build_text(struct log_line *line, enum log_level level, const char *event,
                           const struct log_field *fields)
{
    char scratch[32];
    if (log_to_journal) {
        line_put(line, (const char[]){'<', level_priorities[level], '>'}, 3);
    } else {
        log_time(scratch);
        line_put_text(line, scratch);
        line_put_text(line, " ");
        line_put_text(line, level_labels[level]);
        line_put_text(line, " ");
    }
    bool fits = line_put_text(line, event);
    for (const struct log_field *field = fields; fits && field->kind != LOG_KIND_END; field++) {
        if (field->kind == LOG_KIND_TEXT && field->u.text == NULL) {
            continue;
        }
        if (sizeof line->text - line->length < strlen(field->name) + LOG_FIELD_ROOM) {
            break;
        }
        line_put_text(line, " ");
        line_put_text(line, field->name);
        line_put_text(line, "=");
        if (field->kind == LOG_KIND_TEXT) {
            fits = line_put_value(line, field->u.text);
            continue;
        }
        if (field->kind == LOG_KIND_HEX64) {
            snprintf(scratch, sizeof scratch, "%016llx", (unsigned long long)field->u.hex);
        } else {
            snprintf(scratch, sizeof scratch, "%lld", (long long)field->u.integer);
        }
        fits = line_put_text(line, scratch);
    }
}

/* JSON holds UTF-8 only: text that is none has its foreign bytes escaped. */
static json_t *json_value(const char *text, size_t value_bytes)
{
    size_t length = strnlen(text, value_bytes);
    json_t *value = json_stringn(text, length);
    if (value != NULL) {
        return value;
    }
    struct log_line escaped = {.length = 0};
    for (size_t i = 0; i < length; i++) {
        char bytes[5] = {text[i]};
        line_put(&escaped, bytes, (unsigned char)text[i] < 0x80 ? 1 : byte_escape((unsigned char)text[i], bytes));
    }
    return json_stringn(escaped.text, escaped.length);
}

static json_t *json_field(const struct log_field *field, size_t value_bytes)
{
    char hex[32];
    if (field->kind == LOG_KIND_INTEGER) {
        return json_integer(field->u.integer);
    }
    if (field->kind == LOG_KIND_HEX64) {
        snprintf(hex, sizeof hex, "%016llx", (unsigned long long)field->u.hex);
        return json_string(hex);
    }
    return json_value(field->u.text, value_bytes);
}

/* False when memory is out or the line would be too long. */
static bool log_build_json(struct log_line *line, enum log_level level, const char *event,
                           const struct log_field *fields, size_t value_bytes)
{
    char time_text[32];
    log_time(time_text);
    json_t *object = json_pack("{s:s, s:s, s:s}", "time", time_text, "level", level_names[level], "event", event);
    bool built = object != NULL;
    for (const struct log_field *field = fields; built && field->kind != LOG_KIND_END; field++) {
        if (field->kind != LOG_KIND_TEXT || field->u.text != NULL) {
            built = json_object_set_new_nocheck(object, field->name, json_field(field, value_bytes)) == 0;
        }
    }
    if (built) {
        size_t bytes = json_dumpb(object, line->text, sizeof line->text - 1, JSON_COMPACT | JSON_ENSURE_ASCII);
        line->length = bytes;
        built = bytes > 0 && bytes < sizeof line->text;
    }
    json_decref(object);
    return built;
}

static void log_emit(struct log_line *line)
{
    if (log_sink != NULL) {
        line->text[line->length] = '\0';
        log_sink(line->text, log_sink_context);
        return;
    }
    line->text[line->length++] = '\n';
    size_t written = 0;
    while (written < line->length) {
        ssize_t taken = write(STDERR_FILENO, line->text + written, line->length - written);
        if (taken < 0 && errno != EINTR) {
            return;
        }
        written += taken > 0 ? (size_t)taken : 0;
    }
}

void log_write_fields(enum log_level level, const char *event, const struct log_field *fields)
{
    static const struct log_field none = {.kind = LOG_KIND_END};
    struct log_line line;
    int saved = errno; /* callers log between a failed call and the look at its errno */
    line.length = 0;
    if (log_format_now == LOG_FORMAT_TEXT) {
        log_build_text(&line, level, event, fields);
    } else if (!log_build_json(&line, level, event, fields, LOG_VALUE_BYTES) &&
               !log_build_json(&line, level, event, fields, 32) && !log_build_json(&line, level, event, &none, 0)) {
        line.length = 0;
        line_put_text(&line, "{\"level\":\"error\",\"event\":\"log-line-lost\"}");
    }
    log_emit(&line);
    errno = saved;
}

void log_write_in_signal(const char *event, const char *text_name, const char *text, const char *number_name,
                         int number)
{
    char digits[16];
    char time_text[32];
    struct log_line line;
    line.length = 0;
    if (log_format_now == LOG_FORMAT_TEXT) {
        const struct log_field fields[] = {
            {LOG_KIND_TEXT, text_name, {.text = text}}, {LOG_KIND_INTEGER, number_name, {.integer = number}}, {0}};
        log_build_text(&line, LOG_ERROR, event, fields);
    } else {
        log_time(time_text);
        snprintf(digits, sizeof digits, "%d", number);
        const char *const parts[] = {
            "{\"time\":\"",
            time_text,
            "\",\"level\":\"error\",\"event\":\"",
            event,
            "\",\"",
            text_name,
            "\":\"",
            text,
            "\",\"",
            number_name,
            "\":",
            digits,
            "}",
        };
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            line_put_text(&line, parts[i]);
        }
    }
    log_emit(&line);
}

bool log_counter_allow(struct log_counter *counter, uint64_t now_us, uint64_t *suppressed)
{
    counter->total++;
    *suppressed = 0;
    if (now_us - counter->window_start_us >= 1000000U) {
        counter->window_start_us = now_us;
        counter->in_window = 0;
    }
    if (counter->in_window >= LOG_LIMITED_PER_SECOND) {
        counter->suppressed++;
        return false;
    }
    counter->in_window++;
    *suppressed = counter->suppressed;
    counter->suppressed = 0;
    return true;
}
