/*
 * A timeline: what is to change when. Lines of `TIME COMMAND`, in the order of their times, counted from the start (or
 * from the last `repeat`); empty lines and what follows a '#' are left out.
 *
 *   0s    proxy web=127.0.0.1:8080,127.0.0.1:80
 *   5s    add web latency name=lag latency=80
 *   10s   update web lag latency=200
 *   15s   remove web lag
 *   20s   disable web            (enable web, delete web, reset)
 *   30s   repeat                 (or end)
 *
 * The whole text is checked before anything happens. No I/O. One thread.
 */
#ifndef CHAOS_TIMELINE_H
#define CHAOS_TIMELINE_H

#include <stddef.h>
#include <stdint.h>

#include "mux/error.h"
#include "mux/options.h"
#include "tests/chaos/json.h"
#include "tests/chaos/toxic.h"

enum timeline_command {
    TIMELINE_PROXY,
    TIMELINE_DELETE,
    TIMELINE_ENABLE,
    TIMELINE_DISABLE,
    TIMELINE_ADD,
    TIMELINE_UPDATE,
    TIMELINE_REMOVE,
    TIMELINE_RESET,
    TIMELINE_REPEAT,
    TIMELINE_END,
};

struct timeline_step {
    uint64_t time_us;
    unsigned line;
    enum timeline_command command;
    char *proxy;         /* NULL: the command names none */
    char *toxic_name;    /* update, remove */
    struct toxic *toxic; /* add */
    char *changes;       /* update: "latency=200 jitter=5" */
    struct proxy_spec spec;
};

struct timeline {
    struct timeline_step *steps;
    size_t count;
};

/* ERROR_NONE, ERROR_CONFIGURATION (`fault` names the line: "3: ...") or ERROR_NO_MEMORY. */
enum error_code timeline_read(struct timeline *timeline, const char *text, size_t length, struct option_fault *fault);
void timeline_dispose(struct timeline *timeline);

/* "NAME=LISTEN,UPSTREAM" into a spec; `text` is written to. */
enum error_code timeline_read_proxy(char *text, struct proxy_spec *spec, struct option_fault *fault);

/* "TYPE" and "key=value" words, separated by any of `separators`, into a new toxic; `text` is written to. */
enum error_code timeline_read_toxic(char *text, const char *separators, struct toxic **toxic,
                                    struct option_fault *fault);

/* Takes "key=value" words into a toxic that exists. */
enum error_code timeline_update_toxic(const char *changes, struct toxic *toxic, struct option_fault *fault);

#endif
