/* See timeline.h. */
#include "tests/chaos/timeline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/memory.h"

#define SPACES         " \t\r"
#define TIME_MAX_US    UINT64_C(31536000000000) /* a year */
#define TIMELINE_LINES 100000U

enum timeline_wants { WANTS_NOTHING, WANTS_PROXY, WANTS_TOXIC, WANTS_REST };

static const struct {
    const char *name;
    enum timeline_wants wants;
} commands[] = {
    [TIMELINE_PROXY] = {"proxy", WANTS_REST},      [TIMELINE_DELETE] = {"delete", WANTS_PROXY},
    [TIMELINE_ENABLE] = {"enable", WANTS_PROXY},   [TIMELINE_DISABLE] = {"disable", WANTS_PROXY},
    [TIMELINE_ADD] = {"add", WANTS_REST},          [TIMELINE_UPDATE] = {"update", WANTS_REST},
    [TIMELINE_REMOVE] = {"remove", WANTS_TOXIC},   [TIMELINE_RESET] = {"reset", WANTS_NOTHING},
    [TIMELINE_REPEAT] = {"repeat", WANTS_NOTHING}, [TIMELINE_END] = {"end", WANTS_NOTHING},
};

/* The next word; NULL: there is none. */
static char *next_word(char **rest, const char *separators)
{
    char *word = *rest != NULL ? *rest + strspn(*rest, separators) : NULL;
    if (word == NULL || *word == '\0') {
        return NULL;
    }
    char *end = word + strcspn(word, separators);
    *rest = *end != '\0' ? end + 1 : end;
    *end = '\0';
    return word;
}

static bool time_parse(const char *text, uint64_t *time_us, struct option_fault *fault)
{
    static const struct {
        const char *suffix;
        double factor;
    } units[] = {{"us", 1}, {"ms", 1e3}, {"s", 1e6}, {"m", 6e7}, {"h", 3.6e9}};
    char quoted[OPTION_QUOTED_MAX];
    char *end;
    double value = text[0] >= '0' && text[0] <= '9' ? strtod(text, &end) : -1.0;
    for (size_t i = 0; value >= 0 && i < sizeof(units) / sizeof(*units); i++) {
        if (strcmp(end, units[i].suffix) == 0 && value * units[i].factor <= (double)TIME_MAX_US) {
            *time_us = (uint64_t)(value * units[i].factor + 0.5);
            return true;
        }
    }
    if (value >= 0 && value <= 0 && *end == '\0') {
        *time_us = 0;
        return true;
    }
    return option_fault_set(fault, "%s is not a time: give a number with us, ms, s, m or h",
                            option_quote(text, quoted));
}

enum error_code timeline_read_proxy(char *text, struct proxy_spec *spec, struct option_fault *fault)
{
    char *listen = strchr(text, '=');
    char *upstream = listen != NULL ? strchr(listen, ',') : NULL;
    if (upstream == NULL) {
        option_fault_set(fault, "must be NAME=LISTEN,UPSTREAM");
        return ERROR_CONFIGURATION;
    }
    *listen++ = '\0';
    *upstream++ = '\0';
    if (!toxic_check_name(text, fault) || !option_check_listen_address(listen, fault) ||
        !option_check_peer_address(upstream, fault)) {
        return ERROR_CONFIGURATION;
    }
    if (option_text_copy(&spec->name, text) != ERROR_NONE || option_text_copy(&spec->listen, listen) != ERROR_NONE ||
        option_text_copy(&spec->upstream, upstream) != ERROR_NONE) {
        return ERROR_NO_MEMORY;
    }
    return ERROR_NONE;
}

enum error_code timeline_read_toxic(char *text, const char *separators, struct toxic **toxic,
                                    struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    char *rest = text;
    char *word = next_word(&rest, separators);
    enum toxic_type type;
    struct toxic read;
    *toxic = NULL;
    if (word == NULL || !toxic_type_find(word, &type)) {
        option_fault_set(fault, "there is no type of toxic %s", option_quote(word != NULL ? word : "", quoted));
        return ERROR_CONFIGURATION;
    }
    toxic_init(&read, type);
    enum error_code error = ERROR_NONE;
    while (error == ERROR_NONE && (word = next_word(&rest, separators)) != NULL) {
        error = toxic_set_text(&read, word, fault);
    }
    if (error == ERROR_NONE) {
        error = toxic_complete(&read, fault);
    }
    if (error == ERROR_NONE) {
        *toxic = toxic_copy(&read);
        error = *toxic != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
    }
    toxic_dispose(&read);
    return error;
}

enum error_code timeline_update_toxic(const char *changes, struct toxic *toxic, struct option_fault *fault)
{
    char *copy = memory_strdup(changes);
    char *rest = copy;
    char *word;
    enum error_code error = copy != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
    while (error == ERROR_NONE && (word = next_word(&rest, SPACES)) != NULL) {
        if (strncmp(word, "name=", 5) == 0 || strncmp(word, "stream=", 7) == 0) {
            option_fault_set(fault, "name and stream of a toxic cannot be changed");
            error = ERROR_CONFIGURATION;
        } else {
            error = toxic_set_text(toxic, word, fault);
        }
    }
    memory_free(copy);
    return error == ERROR_NONE ? toxic_complete(toxic, fault) : error;
}

static enum error_code missing(const char *command, const char *what, struct option_fault *fault)
{
    option_fault_set(fault, "%s needs %s", command, what);
    return ERROR_CONFIGURATION;
}

/* What follows a command's name. */
static enum error_code read_arguments(struct timeline_step *step, char *rest, struct option_fault *fault)
{
    const char *command = commands[step->command].name;
    if (step->command == TIMELINE_PROXY) {
        char *word = next_word(&rest, SPACES);
        return word != NULL ? timeline_read_proxy(word, &step->spec, fault)
                            : missing(command, "NAME=LISTEN,UPSTREAM", fault);
    }
    if (commands[step->command].wants == WANTS_NOTHING) {
        return ERROR_NONE;
    }
    char *proxy = next_word(&rest, SPACES);
    if (proxy == NULL) {
        return missing(command, "the name of a proxy", fault);
    }
    enum error_code error = option_text_copy(&step->proxy, proxy);
    if (error != ERROR_NONE || commands[step->command].wants == WANTS_PROXY) {
        return error;
    }
    if (step->command == TIMELINE_ADD) {
        error = timeline_read_toxic(rest, SPACES, &step->toxic, fault);
        rest = NULL;
    } else {
        char *name = next_word(&rest, SPACES);
        error =
            name != NULL ? option_text_copy(&step->toxic_name, name) : missing(command, "the name of a toxic", fault);
    }
    if (error == ERROR_NONE && step->command == TIMELINE_UPDATE) {
        error = option_text_copy(&step->changes, rest);
    }
    return error;
}

static enum error_code read_line(struct timeline *timeline, char *line, unsigned number, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    char *rest = line;
    line[strcspn(line, "#")] = '\0';
    char *time = next_word(&rest, SPACES);
    if (time == NULL) {
        return ERROR_NONE;
    }
    struct timeline_step *grown = option_list_extend(timeline->steps, timeline->count, sizeof(*grown));
    if (grown == NULL) {
        return ERROR_NO_MEMORY;
    }
    timeline->steps = grown;
    struct timeline_step *step = &grown[timeline->count++];
    for (size_t i = 0; i < timeline->count; i++) {
        list_init(&grown[i].spec.toxics); /* empty, but they have moved */
    }
    step->line = number;
    step->spec.enabled = true;
    if (!time_parse(time, &step->time_us, fault)) {
        return ERROR_CONFIGURATION;
    }
    if (timeline->count > 1 && step->time_us < grown[timeline->count - 2].time_us) {
        option_fault_set(fault, "the time is before that of the line above");
        return ERROR_CONFIGURATION;
    }
    char *command = next_word(&rest, SPACES);
    for (unsigned i = 0; command != NULL && i < sizeof(commands) / sizeof(*commands); i++) {
        if (strcmp(commands[i].name, command) == 0) {
            step->command = (enum timeline_command)i;
            return read_arguments(step, rest, fault);
        }
    }
    option_fault_set(fault, "there is no command %s", option_quote(command != NULL ? command : "", quoted));
    return ERROR_CONFIGURATION;
}

enum error_code timeline_read(struct timeline *timeline, const char *text, size_t length, struct option_fault *fault)
{
    struct option_fault reason = {.text = ""};
    *timeline = (struct timeline){0};
    char *copy = memory_strndup(text, length);
    enum error_code error = copy != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
    unsigned number = 0;
    for (char *rest = copy; rest != NULL && error == ERROR_NONE && number < TIMELINE_LINES;) {
        char *line = strsep(&rest, "\n");
        number++;
        error = read_line(timeline, line, number, &reason);
        if (error == ERROR_NONE && timeline->count > 0 && rest != NULL) {
            const struct timeline_step *last = &timeline->steps[timeline->count - 1];
            if (last->command == TIMELINE_REPEAT && last->time_us == 0) {
                option_fault_set(&reason, "repeat needs a time after 0");
                error = ERROR_CONFIGURATION;
            }
        }
    }
    memory_free(copy);
    if (error != ERROR_NONE) {
        option_fault_set(fault, "%u: %.200s", number, reason.text);
        timeline_dispose(timeline);
    }
    return error;
}

void timeline_dispose(struct timeline *timeline)
{
    for (size_t i = 0; i < timeline->count; i++) {
        struct timeline_step *step = &timeline->steps[i];
        memory_free(step->proxy);
        memory_free(step->toxic_name);
        memory_free(step->changes);
        toxic_free(&step->toxic);
        proxy_spec_dispose(&step->spec);
    }
    memory_free(timeline->steps);
    *timeline = (struct timeline){0};
}
