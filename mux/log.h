/*
 * Structured log lines on standard error: a level, an event name that never changes between releases, and fields.
 * Text:  2026-01-02T03:04:05.678Z INFO  trunk-up peer=192.0.2.1:443 trunk=3
 * JSON:  {"time":"2026-01-02T03:04:05.678Z","level":"info","event":"trunk-up","peer":"192.0.2.1:443","trunk":3}
 * Each line is one write(2), so lines of threads never mix. Under journald (JOURNAL_STREAM names standard
 * error) text lines start with "<N>", the syslog priority, and carry no time. Any thread. Never pass secrets or
 * payload.
 */
#ifndef MUX_LOG_H
#define MUX_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/error.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

enum log_kind { LOG_KIND_END, LOG_KIND_TEXT, LOG_KIND_INTEGER, LOG_KIND_HEX64 };

struct log_field {
    enum log_kind kind;
    const char *name;
    union {
        const char *text; /* NULL leaves the field out; any bytes: quoted and escaped as needed */
        int64_t integer;
        uint64_t hex;
    } u;
};

/* Fields of one line; the pointers need to live only during the call. */
#define LOG_TEXT(name_, value_)    ((struct log_field){LOG_KIND_TEXT, (name_), {.text = (value_)}})
#define LOG_INTEGER(name_, value_) ((struct log_field){LOG_KIND_INTEGER, (name_), {.integer = (int64_t)(value_)}})
#define LOG_HEX(name_, value_)     ((struct log_field){LOG_KIND_HEX64, (name_), {.hex = (value_)}})
/* error=<name>; left out for ERROR_NONE. */
#define LOG_ERROR_CODE(code_) LOG_TEXT("error", (code_) == ERROR_NONE ? NULL : error_name(code_))

/* Process-wide; call before threads start (the level may change at any time). */
void log_configure(enum log_level level, enum log_format format);
bool log_level_parse(const char *text, enum log_level *level);    /* error, warning, info, debug */
bool log_format_parse(const char *text, enum log_format *format); /* text, json */

/* For tests: lines go to this function (without a newline) instead of standard error; NULL restores. */
void log_capture(void (*sink)(const char *line, void *context), void *context);

bool log_enabled(enum log_level level);

/* `fields` ends with a LOG_KIND_END element; use the macro below. */
void log_write_fields(enum log_level level, const char *event, const struct log_field *fields);

#define LOG(level_, event_, ...)                                                                                       \
    do {                                                                                                               \
        if (log_enabled(level_)) {                                                                                     \
            log_write_fields((level_), (event_), (const struct log_field[]){__VA_ARGS__, {0}});                        \
        }                                                                                                              \
    } while (0)

/* A line of level error with two fields for handlers of signals that a thread brings upon itself: takes no memory, and
 * no lock but the C library's for the time zone. All texts are our own: nothing in them needs an escape. */
void log_write_in_signal(const char *event, const char *text_name, const char *text, const char *number_name,
                         int number);

/* A line that peers can provoke: at most `LOG_LIMITED_PER_SECOND` per second and counter; the next line after a
 * silence carries "suppressed=N". The counter counts every event, logged or not. One thread per counter. */
#define LOG_LIMITED_PER_SECOND 10U
struct log_counter {
    uint64_t total;
    uint64_t suppressed;
    uint64_t window_start_us;
    uint32_t in_window;
};

/* Counts; true when the line should be written, and then *suppressed is how many were not since the last. */
bool log_counter_allow(struct log_counter *counter, uint64_t now_us, uint64_t *suppressed);

#endif
