/* See toxic.h: the table of types, and toxics made from text. Owns only what it hands out. One thread. */
#include "tests/chaos/toxic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/memory.h"

#define TIME_MAX_MS  UINT64_C(86400000)   /* a day */
#define TIME_MAX_US  UINT64_C(3600000000) /* an hour */
#define BYTES_MAX    (UINT64_C(1) << 50)
#define SLICE_MAX    UINT64_C(65536)
#define RATE_MAX_KBS UINT64_C(100000000)

static const char *const distributions[] = {"uniform", "exponential", "normal", NULL};
static const char *const streams[TOXIC_STREAM_COUNT] = {"upstream", "downstream"};

/* clang-format off */
static const struct toxic_kind toxic_kinds[TOXIC_TYPE_COUNT] = {
    [TOXIC_LATENCY] = {"latency", {{"latency", "ms", 0, TIME_MAX_MS, 0, NULL},
                                   {"jitter", "ms", 0, TIME_MAX_MS, 0, NULL},
                                   {"distribution", NULL, 0, 2, 0, distributions}}},
    [TOXIC_BANDWIDTH] = {"bandwidth", {{"rate", "KB/s", 0, RATE_MAX_KBS, 0, NULL}}},
    [TOXIC_SLOW_CLOSE] = {"slow_close", {{"delay", "ms", 0, TIME_MAX_MS, 0, NULL}}},
    [TOXIC_TIMEOUT] = {"timeout", {{"timeout", "ms", 0, TIME_MAX_MS, 0, NULL}}},
    [TOXIC_RESET_PEER] = {"reset_peer", {{"timeout", "ms", 0, TIME_MAX_MS, 0, NULL}}},
    [TOXIC_SLICER] = {"slicer", {{"average_size", "bytes", 1, SLICE_MAX, 1024, NULL},
                                 {"size_variation", "bytes", 0, SLICE_MAX, 0, NULL},
                                 {"delay", "us", 0, TIME_MAX_US, 0, NULL},
                                 {"delay_variation", "us", 0, TIME_MAX_US, 0, NULL},
                                 {"distribution", NULL, 0, 2, 0, distributions}}},
    [TOXIC_LIMIT_DATA] = {"limit_data", {{"bytes", "bytes", 0, BYTES_MAX, 0, NULL}}},
    [TOXIC_PAUSE] = {"pause", {{"after", "ms", 0, TIME_MAX_MS, 0, NULL},
                               {"interval", "ms", 0, TIME_MAX_MS, 0, NULL},
                               {"duration", "ms", 0, TIME_MAX_MS, 1000, NULL},
                               {"duration_variation", "ms", 0, TIME_MAX_MS, 0, NULL},
                               {"distribution", NULL, 0, 2, 0, distributions}}},
    [TOXIC_RESET] = {"reset", {{"after_bytes", "bytes", 0, BYTES_MAX, 0, NULL},
                               {"after_ms", "ms", 0, TIME_MAX_MS, 0, NULL},
                               {"idle_ms", "ms", 0, TIME_MAX_MS, 0, NULL},
                               {"variation", "percent", 0, 100, 0, NULL},
                               {"distribution", NULL, 0, 2, 0, distributions}}},
    [TOXIC_HALF_CLOSE] = {"half_close", {{"after_bytes", "bytes", 0, BYTES_MAX, 0, NULL},
                                         {"after_ms", "ms", 0, TIME_MAX_MS, 0, NULL}}},
    [TOXIC_BLACK_HOLE] = {"black_hole", {{"after_bytes", "bytes", 0, BYTES_MAX, 0, NULL},
                                         {"after_ms", "ms", 0, TIME_MAX_MS, 0, NULL}}},
    [TOXIC_CORRUPT] = {"corrupt", {{"after_bytes", "bytes", 0, BYTES_MAX, 0, NULL},
                                   {"every", "bytes", 0, BYTES_MAX, 0, NULL}}},
    [TOXIC_SLOW_OPEN] = {"slow_open", {{"delay", "ms", 0, TIME_MAX_MS, 0, NULL},
                                       {"jitter", "ms", 0, TIME_MAX_MS, 0, NULL},
                                       {"distribution", NULL, 0, 2, 0, distributions}}},
};
/* clang-format on */

const struct toxic_kind *toxic_kind(enum toxic_type type)
{
    return &toxic_kinds[type];
}

bool toxic_type_find(const char *name, enum toxic_type *type)
{
    for (unsigned i = 0; i < TOXIC_TYPE_COUNT; i++) {
        if (strcmp(toxic_kinds[i].name, name) == 0) {
            *type = (enum toxic_type)i;
            return true;
        }
    }
    return false;
}

bool toxic_stream_find(const char *name, enum toxic_stream *stream)
{
    for (unsigned i = 0; i < TOXIC_STREAM_COUNT; i++) {
        if (strcmp(streams[i], name) == 0) {
            *stream = (enum toxic_stream)i;
            return true;
        }
    }
    return false;
}

const char *toxic_stream_name(enum toxic_stream stream)
{
    return streams[stream];
}

const struct toxic_field *toxic_field_find(enum toxic_type type, const char *name, size_t *index)
{
    const struct toxic_field *fields = toxic_kinds[type].fields;
    for (size_t i = 0; fields[i].name != NULL; i++) {
        if (strcmp(fields[i].name, name) == 0) {
            *index = i;
            return &fields[i];
        }
    }
    return NULL;
}

void toxic_init(struct toxic *toxic, enum toxic_type type)
{
    *toxic = (struct toxic){.type = type, .stream = TOXIC_DOWNSTREAM, .toxicity = 1.0};
    list_node_init(&toxic->node);
    const struct toxic_field *fields = toxic_kinds[type].fields;
    for (size_t i = 0; fields[i].name != NULL; i++) {
        toxic->values[i] = fields[i].preset;
    }
}

void toxic_dispose(struct toxic *toxic)
{
    memory_free(toxic->name);
    toxic->name = NULL;
}

struct toxic *toxic_copy(const struct toxic *toxic)
{
    struct toxic *copy = memory_alloc(sizeof(*copy));
    char *name = toxic->name != NULL ? memory_strdup(toxic->name) : NULL;
    if (copy == NULL || (name == NULL && toxic->name != NULL)) {
        memory_free(copy);
        memory_free(name);
        return NULL;
    }
    *copy = *toxic;
    copy->name = name;
    copy->hits = 0;
    list_node_init(&copy->node);
    return copy;
}

void toxic_free(struct toxic **toxic)
{
    if (*toxic != NULL) {
        toxic_dispose(*toxic);
        memory_free(*toxic);
        *toxic = NULL;
    }
}

void toxic_assign(struct toxic *toxic, const struct toxic *from)
{
    toxic->toxicity = from->toxicity;
    memcpy(toxic->values, from->values, sizeof(toxic->values));
}

bool toxic_equal(const struct toxic *left, const struct toxic *right)
{
    return left->type == right->type && left->stream == right->stream && left->toxicity >= right->toxicity &&
           left->toxicity <= right->toxicity && strcmp(left->name, right->name) == 0 &&
           memcmp(left->values, right->values, sizeof(left->values)) == 0;
}

static const struct toxic_field *toxic_field_wanted(const struct toxic *toxic, const char *name, size_t *index,
                                                    struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    const struct toxic_field *field = toxic_field_find(toxic->type, name, index);
    if (field == NULL) {
        char known[160] = "";
        const struct toxic_field *fields = toxic_kinds[toxic->type].fields;
        for (size_t i = 0; fields[i].name != NULL; i++) {
            size_t used = strlen(known);
            snprintf(known + used, sizeof(known) - used, "%s%s", i == 0 ? "" : ", ", fields[i].name);
        }
        option_fault_set(fault, "%s has no attribute %s; it has: %s", toxic_kinds[toxic->type].name,
                         option_quote(name, quoted), known);
    }
    return field;
}

bool toxic_set_number(struct toxic *toxic, const char *name, uint64_t number, struct option_fault *fault)
{
    size_t index;
    const struct toxic_field *field = toxic_field_wanted(toxic, name, &index, fault);
    if (field == NULL) {
        return false;
    }
    if (field->choices != NULL) {
        return option_fault_set(fault, "%s is a word, not a number", name);
    }
    if (number < field->minimum || number > field->maximum) {
        return option_fault_set(fault, "%s must be between %llu and %llu (%s)", name,
                                (unsigned long long)field->minimum, (unsigned long long)field->maximum, field->unit);
    }
    toxic->values[index] = number;
    return true;
}

bool toxic_set_choice(struct toxic *toxic, const char *name, const char *word, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    size_t index;
    const struct toxic_field *field = toxic_field_wanted(toxic, name, &index, fault);
    if (field == NULL) {
        return false;
    }
    if (field->choices == NULL) {
        return option_fault_set(fault, "%s must be a whole number, not %s", name, option_quote(word, quoted));
    }
    for (size_t i = 0; field->choices[i] != NULL; i++) {
        if (strcmp(field->choices[i], word) == 0) {
            toxic->values[index] = i;
            return true;
        }
    }
    return option_fault_set(fault, "%s must be uniform, exponential or normal, not %s", name,
                            option_quote(word, quoted));
}

bool toxic_set_toxicity(struct toxic *toxic, double toxicity, struct option_fault *fault)
{
    /* Written so that what is not a number fails, too. */
    if (!(toxicity >= 0.0 && toxicity <= 1.0)) {
        return option_fault_set(fault, "toxicity must be between 0 and 1");
    }
    toxic->toxicity = toxicity;
    return true;
}

bool toxic_check_name(const char *text, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    size_t length = strlen(text);
    bool valid = length > 0 && length <= TOXIC_NAME_MAX;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        valid = valid && byte >= ' ' && byte != 0x7f && byte != '/';
    }
    return valid || option_fault_set(fault, "%s is not a name: 1 to %u bytes, no control character and no slash",
                                     option_quote(text, quoted), TOXIC_NAME_MAX);
}

enum error_code toxic_set_name(struct toxic *toxic, const char *name, struct option_fault *fault)
{
    if (!toxic_check_name(name, fault)) {
        return ERROR_CONFIGURATION;
    }
    return option_text_copy(&toxic->name, name);
}

static bool toxic_parse_number(const char *text, uint64_t *number)
{
    char *end;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static bool toxic_set_stream_text(struct toxic *toxic, const char *text, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    return toxic_stream_find(text, &toxic->stream) ||
           option_fault_set(fault, "stream must be upstream or downstream, not %s", option_quote(text, quoted));
}

static bool toxic_set_toxicity_text(struct toxic *toxic, const char *text, struct option_fault *fault)
{
    char *end;
    double toxicity = strtod(text, &end);
    return toxic_set_toxicity(toxic, end != text && *end == '\0' ? toxicity : -1.0, fault);
}

enum error_code toxic_set_text(struct toxic *toxic, char *text, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    char *value = strchr(text, '=');
    if (value == NULL) {
        option_fault_set(fault, "%s is not of the form KEY=VALUE", option_quote(text, quoted));
        return ERROR_CONFIGURATION;
    }
    *value++ = '\0';
    bool valid;
    uint64_t number;
    if (strcmp(text, "name") == 0) {
        return toxic_set_name(toxic, value, fault);
    }
    if (strcmp(text, "stream") == 0) {
        valid = toxic_set_stream_text(toxic, value, fault);
    } else if (strcmp(text, "toxicity") == 0) {
        valid = toxic_set_toxicity_text(toxic, value, fault);
    } else if (toxic_parse_number(value, &number)) {
        valid = toxic_set_number(toxic, text, number, fault);
    } else {
        valid = toxic_set_choice(toxic, text, value, fault);
    }
    return valid ? ERROR_NONE : ERROR_CONFIGURATION;
}

enum error_code toxic_complete(struct toxic *toxic, struct option_fault *fault)
{
    if (toxic->type == TOXIC_PAUSE && toxic->values[PAUSE_INTERVAL_MS] > 0 && toxic->values[PAUSE_DURATION_MS] == 0) {
        option_fault_set(fault, "pause: with an interval, duration must not be 0");
        return ERROR_CONFIGURATION;
    }
    if (toxic->name != NULL) {
        return ERROR_NONE;
    }
    char name[64];
    snprintf(name, sizeof(name), "%s_%s", toxic_kinds[toxic->type].name, streams[toxic->stream]);
    return option_text_copy(&toxic->name, name);
}
