/*
 * What a toxic is: its type, the values of its fields, and one table that says for each type which fields it has, in
 * which unit and between which bounds. JSON (json.h), "key=value" text and the manual page follow the table. A toxic
 * belongs to its proxy. One thread.
 */
#ifndef CHAOS_TOXIC_H
#define CHAOS_TOXIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/error.h"
#include "mux/list.h"
#include "mux/options.h"

#define TOXIC_VALUES_MAX 5U
#define TOXIC_NAME_MAX   255U /* bytes of a proxy's or toxic's name */
#define TOXICS_MAX       64U  /* of one proxy */

enum toxic_type {
    TOXIC_LATENCY, /* Toxiproxy's from here */
    TOXIC_BANDWIDTH,
    TOXIC_SLOW_CLOSE,
    TOXIC_TIMEOUT,
    TOXIC_RESET_PEER,
    TOXIC_SLICER,
    TOXIC_LIMIT_DATA,
    TOXIC_PAUSE, /* and ours from here */
    TOXIC_RESET,
    TOXIC_HALF_CLOSE,
    TOXIC_BLACK_HOLE,
    TOXIC_CORRUPT,
    TOXIC_SLOW_OPEN,
    TOXIC_TYPE_COUNT,
};

/* The direction in which the bytes flow that a toxic works on. */
enum toxic_stream {
    TOXIC_UPSTREAM,   /* from the client to the server */
    TOXIC_DOWNSTREAM, /* from the server to the client */
    TOXIC_STREAM_COUNT,
};

/* Places in toxic->values, by type. */
enum { LATENCY_LATENCY_MS, LATENCY_JITTER_MS, LATENCY_DISTRIBUTION };
enum { BANDWIDTH_RATE };
enum { SLOW_CLOSE_DELAY_MS };
enum { TIMEOUT_TIMEOUT_MS };
enum { RESET_PEER_TIMEOUT_MS };
enum { SLICER_AVERAGE_SIZE, SLICER_SIZE_VARIATION, SLICER_DELAY_US, SLICER_DELAY_VARIATION, SLICER_DISTRIBUTION };
enum { LIMIT_DATA_BYTES };
enum { PAUSE_AFTER_MS, PAUSE_INTERVAL_MS, PAUSE_DURATION_MS, PAUSE_DURATION_VARIATION, PAUSE_DISTRIBUTION };
enum { RESET_AFTER_BYTES, RESET_AFTER_MS, RESET_IDLE_MS, RESET_VARIATION_PERCENT, RESET_DISTRIBUTION };
enum { HALF_CLOSE_AFTER_BYTES, HALF_CLOSE_AFTER_MS };
enum { BLACK_HOLE_AFTER_BYTES, BLACK_HOLE_AFTER_MS };
enum { CORRUPT_AFTER_BYTES, CORRUPT_EVERY };
enum { SLOW_OPEN_DELAY_MS, SLOW_OPEN_JITTER_MS, SLOW_OPEN_DISTRIBUTION };

struct toxic_field {
    const char *name; /* NULL ends the list */
    const char *unit; /* NULL: it is a choice */
    uint64_t minimum, maximum, preset;
    const char *const *choices; /* of a choice: by number, ends with NULL */
};

struct toxic_kind {
    const char *name; /* "latency" */
    struct toxic_field fields[TOXIC_VALUES_MAX + 1];
};

struct toxic {
    struct list_node node; /* in its proxy's list, in the order in which bytes meet them */
    char *name;            /* NULL only until toxic_complete */
    enum toxic_type type;
    enum toxic_stream stream;
    double toxicity; /* the share of connections that it affects, 0 to 1 */
    uint64_t values[TOXIC_VALUES_MAX];
    uint64_t hits; /* how often it has done something */
};

const struct toxic_kind *toxic_kind(enum toxic_type type);

/* False for an unknown name. */
bool toxic_type_find(const char *name, enum toxic_type *type);
bool toxic_stream_find(const char *name, enum toxic_stream *stream);

/* "upstream" or "downstream"; static. */
const char *toxic_stream_name(enum toxic_stream stream);

/* NULL for a name that the type has no field for. */
const struct toxic_field *toxic_field_find(enum toxic_type type, const char *name, size_t *index);

/* The type's defaults; downstream, toxicity 1, no name. */
void toxic_init(struct toxic *toxic, enum toxic_type type);
void toxic_dispose(struct toxic *toxic);

/* A copy in no list, with no hits; NULL when memory is out. */
struct toxic *toxic_copy(const struct toxic *toxic);
void toxic_free(struct toxic **toxic);

/* Values and toxicity of `from`, name, stream and place of `toxic`. */
void toxic_assign(struct toxic *toxic, const struct toxic *from);

/* Are names, types, directions and values the same? */
bool toxic_equal(const struct toxic *left, const struct toxic *right);

/* Puts a number into a field, within its bounds. */
bool toxic_set_number(struct toxic *toxic, const char *name, uint64_t number, struct option_fault *fault);
bool toxic_set_choice(struct toxic *toxic, const char *name, const char *word, struct option_fault *fault);
bool toxic_set_toxicity(struct toxic *toxic, double toxicity, struct option_fault *fault);

/* ERROR_NONE, ERROR_CONFIGURATION (`fault` is filled) or ERROR_NO_MEMORY. */
enum error_code toxic_set_name(struct toxic *toxic, const char *name, struct option_fault *fault);

/* Takes one "key=value": a field of the type, or name, stream or toxicity. `text` is written to. */
enum error_code toxic_set_text(struct toxic *toxic, char *text, struct option_fault *fault);

/* Gives a toxic without a name the default one, TYPE_STREAM, and checks what must hold between its fields. */
enum error_code toxic_complete(struct toxic *toxic, struct option_fault *fault);

/* 1 to TOXIC_NAME_MAX bytes, no control character and no slash. */
bool toxic_check_name(const char *text, struct option_fault *fault);

#endif
