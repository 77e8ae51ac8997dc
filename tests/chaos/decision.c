/* See decision.h. Owns the records and steps of a log that was read. One thread. */
#include "tests/chaos/decision.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/memory.h"

#define LINE_FIELDS     8U
#define NAME_ROOM       (3U * TOXIC_NAME_MAX + 1U)
#define NO_STREAM       TOXIC_STREAM_COUNT
#define HEADER_FORMAT_1 "# trunkline-chaos-log 1 "

struct decision_record {
    uint64_t proxy; /* hashes of the names: two that collide are as likely as a broken disk */
    uint64_t toxic;
    uint64_t connection;
    uint64_t offset;
    uint64_t time_us;
    uint64_t value;
    uint8_t stream;
    uint8_t action;
};

static const char *const action_names[DECISION_ACTION_COUNT] = {
    [DECISION_OPEN] = "open",       [DECISION_TOXICITY] = "toxicity", [DECISION_SLOW_OPEN] = "slow_open",
    [DECISION_DELAY] = "delay",     [DECISION_SLICE] = "slice",       [DECISION_GAP] = "gap",
    [DECISION_PAUSE] = "pause",     [DECISION_DROP] = "drop",         [DECISION_HALF_CLOSE] = "half_close",
    [DECISION_CLOSE] = "close",     [DECISION_RESET] = "reset",       [DECISION_CORRUPT] = "corrupt",
    [DECISION_SLOW_CLOSE] = "hold",
};

static const char *const change_names[] = {"config", "delete", "end"};

/* FNV-1a, 64 bits. */
static uint64_t name_hash(const char *name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *name != '\0'; name++) {
        hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static const char *name_escape(const char *name, char into[NAME_ROOM])
{
    static const char digits[] = "0123456789ABCDEF";
    size_t used = 0;
    for (; *name != '\0' && used + 4 < NAME_ROOM; name++) {
        unsigned char byte = (unsigned char)*name;
        if (byte > ' ' && byte < 0x7f && byte != '%') {
            into[used++] = (char)byte;
        } else {
            into[used++] = '%';
            into[used++] = digits[byte >> 4];
            into[used++] = digits[byte & 15];
        }
    }
    into[used] = '\0';
    return into;
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/* In place. */
static void name_unescape(char *name)
{
    char *to = name;
    for (const char *from = name; *from != '\0'; from++) {
        if (from[0] == '%' && hex_value(from[1]) >= 0 && hex_value(from[2]) >= 0) {
            *to++ = (char)(hex_value(from[1]) * 16 + hex_value(from[2]));
            from += 2;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
}

void decisions_init(struct decisions *decisions, uint64_t seed, uint64_t start_us, decision_write_fn *write,
                    void *owner)
{
    *decisions = (struct decisions){.seed = seed, .start_us = start_us, .write = write, .owner = owner};
}

void decisions_dispose(struct decisions *decisions)
{
    for (size_t i = 0; i < decisions->step_count; i++) {
        memory_free(decisions->steps[i].proxy);
        memory_free(decisions->steps[i].text);
    }
    memory_free(decisions->steps);
    memory_free(decisions->records);
    decisions->steps = NULL;
    decisions->records = NULL;
    decisions->step_count = 0;
    decisions->record_count = 0;
}

/* ---- reading ---- */

#define COMPARE(left_, right_)                                                                                         \
    if ((left_) != (right_)) {                                                                                         \
        return (left_) < (right_) ? -1 : 1;                                                                            \
    }

static int record_compare_owner(const struct decision_record *left, const struct decision_record *right)
{
    COMPARE(left->proxy, right->proxy)
    COMPARE(left->connection, right->connection)
    COMPARE(left->stream, right->stream)
    COMPARE(left->toxic, right->toxic)
    COMPARE(left->action, right->action)
    return 0;
}

static int record_compare(const void *a, const void *b)
{
    const struct decision_record *left = a;
    const struct decision_record *right = b;
    int order = record_compare_owner(left, right);
    if (order != 0) {
        return order;
    }
    COMPARE(left->offset, right->offset)
    COMPARE(left->time_us, right->time_us)
    return 0;
}

static bool number_parse(const char *text, uint64_t *number)
{
    char *end;
    *number = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0';
}

static bool action_find(const char *name, uint8_t *action)
{
    for (unsigned i = 0; i < DECISION_ACTION_COUNT; i++) {
        if (strcmp(action_names[i], name) == 0) {
            *action = (uint8_t)i;
            return true;
        }
    }
    return false;
}

static enum error_code load_step(struct decisions *decisions, char **fields, enum decision_change change)
{
    struct decision_step *grown = option_list_extend(decisions->steps, decisions->step_count, sizeof(*grown));
    if (grown == NULL) {
        return ERROR_NO_MEMORY;
    }
    decisions->steps = grown;
    struct decision_step *step = &grown[decisions->step_count];
    step->change = change;
    if (!number_parse(fields[0], &step->time_us)) {
        return ERROR_CONFIGURATION;
    }
    decisions->step_count++;
    name_unescape(fields[1]);
    enum error_code error = option_text_copy(&step->proxy, fields[1]);
    return error != ERROR_NONE ? error : option_text_copy(&step->text, fields[7]);
}

static enum error_code load_record(struct decisions *decisions, char **fields, size_t *room)
{
    if (decisions->record_count == *room) {
        size_t more = *room == 0 ? 256 : *room * 2;
        void *grown = memory_realloc(decisions->records, more * sizeof(*decisions->records));
        if (grown == NULL) {
            return ERROR_NO_MEMORY;
        }
        decisions->records = grown;
        *room = more;
    }
    struct decision_record *record = &decisions->records[decisions->record_count];
    enum toxic_stream stream;
    if (toxic_stream_find(fields[3], &stream)) {
        record->stream = (uint8_t)stream;
    } else if (strcmp(fields[3], "-") == 0) {
        record->stream = NO_STREAM;
    } else {
        return ERROR_CONFIGURATION;
    }
    if (!number_parse(fields[0], &record->time_us) || !number_parse(fields[2], &record->connection) ||
        !number_parse(fields[4], &record->offset) || !action_find(fields[6], &record->action) ||
        !number_parse(fields[7], &record->value)) {
        return ERROR_CONFIGURATION;
    }
    name_unescape(fields[1]);
    name_unescape(fields[5]);
    record->proxy = name_hash(fields[1]);
    record->toxic = name_hash(fields[5]);
    decisions->record_count++;
    return ERROR_NONE;
}

static enum error_code load_line(struct decisions *decisions, char *line, size_t *room)
{
    char *fields[LINE_FIELDS];
    size_t count = 0;
    /* The last field is the rest of the line: JSON may hold spaces. */
    for (char *rest = line; rest != NULL && count < LINE_FIELDS; count++) {
        fields[count] = count + 1 < LINE_FIELDS ? strsep(&rest, " ") : rest;
    }
    if (count != LINE_FIELDS) {
        return ERROR_CONFIGURATION;
    }
    for (unsigned i = 0; i < sizeof(change_names) / sizeof(*change_names); i++) {
        if (strcmp(fields[6], change_names[i]) == 0) {
            return load_step(decisions, fields, (enum decision_change)i);
        }
    }
    return load_record(decisions, fields, room);
}

static bool load_header(struct decisions *decisions, const char *line)
{
    return sscanf(line, HEADER_FORMAT_1 "seed=%" SCNu64 " receive_buffer=%" SCNu64 " latency_buffer=%" SCNu64,
                  &decisions->seed, &decisions->receive_buffer, &decisions->latency_buffer) == 3;
}

enum error_code decisions_load(struct decisions *decisions, const char *text, size_t length, struct option_fault *fault)
{
    char *copy = memory_strndup(text, length);
    if (copy == NULL) {
        return ERROR_NO_MEMORY;
    }
    enum error_code error = ERROR_NONE;
    size_t room = 0;
    unsigned number = 0;
    for (char *rest = copy; rest != NULL && *rest != '\0' && error == ERROR_NONE;) {
        char *line = strsep(&rest, "\n");
        number++;
        if (number == 1) {
            error = load_header(decisions, line) ? ERROR_NONE : ERROR_CONFIGURATION;
        } else if (rest != NULL) {
            error = load_line(decisions, line, &room); /* without its newline, the last line was cut off */
        }
    }
    memory_free(copy);
    if (error == ERROR_NONE && number == 0) {
        error = ERROR_CONFIGURATION;
    }
    if (error == ERROR_CONFIGURATION) {
        option_fault_set(fault, "line %u is not one of a decision log", number);
    }
    if (decisions->record_count > 0) {
        qsort(decisions->records, decisions->record_count, sizeof(*decisions->records), record_compare);
    }
    decisions->replaying = error == ERROR_NONE;
    return error;
}

/* ---- looking up ---- */

/* The first record that is not before `wanted`. */
static size_t record_lower_bound(const struct decisions *decisions, const struct decision_record *wanted)
{
    size_t low = 0;
    size_t high = decisions->record_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (record_compare(&decisions->records[middle], wanted) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static const struct decision_record *record_find(const struct decision_scope *scope, unsigned stream, const char *toxic,
                                                 enum decision_action action, uint64_t offset, size_t index)
{
    const struct decisions *decisions = scope->decisions;
    const struct decision_record wanted = {.proxy = name_hash(scope->proxy),
                                           .toxic = name_hash(toxic),
                                           .connection = scope->connection,
                                           .offset = offset,
                                           .stream = (uint8_t)stream,
                                           .action = (uint8_t)action};
    size_t at = record_lower_bound(decisions, &wanted) + index;
    if (at >= decisions->record_count || record_compare_owner(&decisions->records[at], &wanted) != 0) {
        return NULL;
    }
    return &decisions->records[at];
}

static bool decisions_find(const struct decision_scope *scope, const char *toxic, enum decision_action action,
                           uint64_t offset, uint64_t *value)
{
    const struct decision_record *record = record_find(scope, scope->stream, toxic, action, offset, 0);
    if (record == NULL || record->offset != offset) {
        return false;
    }
    *value = record->value;
    return true;
}

uint64_t decisions_peek(const struct decision_scope *scope, const char *toxic, enum decision_action action,
                        uint64_t offset, uint64_t drawn)
{
    uint64_t value = drawn;
    if (scope->decisions->replaying) {
        (void)decisions_find(scope, toxic, action, offset, &value);
    }
    return value;
}

uint64_t decisions_take(const struct decision_scope *scope, const char *toxic, enum decision_action action,
                        uint64_t offset, uint64_t drawn)
{
    uint64_t value = drawn;
    if (scope->decisions->replaying && !decisions_find(scope, toxic, action, offset, &value)) {
        scope->decisions->missed++;
    }
    return value;
}

bool decisions_event(const struct decision_scope *scope, const char *toxic, enum decision_action action, size_t index,
                     struct decision_event *event)
{
    if (!scope->decisions->replaying) {
        return false;
    }
    const struct decision_record *record = record_find(scope, scope->stream, toxic, action, 0, index);
    if (record == NULL) {
        return false;
    }
    const struct decision_record *open = record_find(scope, NO_STREAM, "-", DECISION_OPEN, 0, 0);
    uint64_t opened_us = open != NULL && open->time_us < record->time_us ? open->time_us : record->time_us;
    *event = (struct decision_event){
        .offset = record->offset, .due_us = scope->opened_us + (record->time_us - opened_us), .value = record->value};
    return true;
}

/* ---- writing ---- */

void decisions_write_header(struct decisions *decisions, uint64_t receive_buffer, uint64_t latency_buffer)
{
    char line[160];
    if (decisions->write != NULL) {
        int length =
            snprintf(line, sizeof(line),
                     HEADER_FORMAT_1 "seed=%" PRIu64 " receive_buffer=%" PRIu64 " latency_buffer=%" PRIu64 "\n",
                     decisions->seed, receive_buffer, latency_buffer);
        decisions->write(decisions->owner, line, (size_t)length);
    }
}

static void note(const struct decision_scope *scope, const char *stream, const char *toxic, const char *action,
                 uint64_t offset, uint64_t value, uint64_t now_us)
{
    struct decisions *decisions = scope->decisions;
    char line[2 * NAME_ROOM + 160];
    char proxy_text[NAME_ROOM];
    char toxic_text[NAME_ROOM];
    int length = snprintf(line, sizeof(line), "%" PRIu64 " %s %" PRIu64 " %s %" PRIu64 " %s %s %" PRIu64 "\n",
                          now_us - decisions->start_us, name_escape(scope->proxy, proxy_text), scope->connection,
                          stream, offset, name_escape(toxic, toxic_text), action, value);
    decisions->write(decisions->owner, line, (size_t)length);
}

void decisions_note(const struct decision_scope *scope, const char *toxic, enum decision_action action, uint64_t offset,
                    uint64_t value, uint64_t now_us)
{
    if (scope->decisions->write != NULL) {
        note(scope, toxic_stream_name(scope->stream), toxic, action_names[action], offset, value, now_us);
    }
}

void decisions_note_open(const struct decision_scope *scope)
{
    if (scope->decisions->write != NULL) {
        note(scope, "-", "-", action_names[DECISION_OPEN], 0, 0, scope->opened_us);
    }
}

void decisions_note_change(struct decisions *decisions, enum decision_change change, const char *proxy,
                           const char *text, uint64_t now_us)
{
    char head[NAME_ROOM + 80];
    char name[NAME_ROOM];
    uint64_t time_us = decisions->starting ? 0 : now_us - decisions->start_us;
    if (decisions->write == NULL) {
        return;
    }
    int length = snprintf(head, sizeof(head), "%" PRIu64 " %s 0 - 0 - %s ", time_us, name_escape(proxy, name),
                          change_names[change]);
    decisions->write(decisions->owner, head, (size_t)length);
    decisions->write(decisions->owner, text != NULL ? text : "-", text != NULL ? strlen(text) : 1);
    decisions->write(decisions->owner, "\n", 1);
}
