/*
 * Options by table: reading values, and saying what is wrong with them. Owns nothing: values live in the settings that
 * the caller gave. Main's thread only.
 */
#include "mux/options.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "mux/memory.h"

#ifndef TRUNKLINE_VERSION
#error "TRUNKLINE_VERSION must be defined"
#endif

/* More than any field holds, and small enough to be multiplied by any unit. */
#define NUMBER_MAX      10000000000U
#define NAME_BYTES_MAX  64U /* of an option, longer ones are compared with nothing */
#define HELP_COLUMN     28
#define HELP_WIDTH      78
#define HELP_TEXT_BYTES 512
#define HELP_JOINT      '\x01' /* a space where no line may break */

struct option_unit {
    const char *suffix;
    uint64_t factor;
};

static const struct option_unit size_units[] = {{"G", 1U << 30}, {"M", 1U << 20}, {"K", 1U << 10}, {"", 1}};
static const struct option_unit duration_units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
static const struct option_unit count_units[] = {{"", 1}};

struct option_units {
    const struct option_unit *unit;
    size_t count;
};

static struct option_units option_units_of(enum option_kind kind)
{
    switch (kind) {
    case OPTION_SIZE:
        return (struct option_units){size_units, sizeof size_units / sizeof *size_units};
    case OPTION_DURATION:
        return (struct option_units){duration_units, sizeof duration_units / sizeof *duration_units};
    default:
        return (struct option_units){count_units, 1};
    }
}

static bool option_is_number(const struct option *option)
{
    return option->kind == OPTION_COUNT || option->kind == OPTION_SIZE || option->kind == OPTION_DURATION;
}

static bool option_repeats(const struct option *option)
{
    return option->kind == OPTION_TEXTS || option->kind == OPTION_ITEM;
}

static bool option_takes_value(const struct option *option)
{
    return option->kind != OPTION_HELP && option->kind != OPTION_VERSION && option->kind != OPTION_FLAG;
}

bool option_fault_set(struct option_fault *fault, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault->text, sizeof fault->text, format, arguments);
    va_end(arguments);
    return false;
}

const char *option_quote(const char *text, char into[OPTION_QUOTED_MAX])
{
    size_t used = 0;
    into[used++] = '"';
    for (; *text != '\0'; text++) {
        if (used == OPTION_QUOTED_MAX - 5) {
            memcpy(into + used, "...", 3);
            used += 3;
            break;
        }
        unsigned char byte = (unsigned char)*text;
        into[used++] = *text;
        if (byte < 0x20 || byte == 0x7f) {
            into[used - 1] = '?';
        }
    }
    into[used++] = '"';
    into[used] = '\0';
    return into;
}

/* "64K", "10s", "2": the largest unit that divides. */
static const char *option_number_format(enum option_kind kind, uint32_t number, char into[32])
{
    struct option_units units = option_units_of(kind);
    for (size_t i = 0; i < units.count; i++) {
        if (number != 0 && number % units.unit[i].factor == 0) {
            snprintf(into, 32, "%llu%s", (unsigned long long)(number / units.unit[i].factor), units.unit[i].suffix);
            return into;
        }
    }
    snprintf(into, 32, "%u", number);
    return into;
}

static bool option_number_parse(const struct option *option, const char *text, uint32_t *number,
                                struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    char low[32];
    char high[32];
    uint64_t value = 0;
    const char *suffix = text;
    for (; *suffix >= '0' && *suffix <= '9'; suffix++) {
        value = value < NUMBER_MAX / 10 ? value * 10 + (uint64_t)(*suffix - '0') : NUMBER_MAX;
    }
    struct option_units units = option_units_of(option->kind);
    uint64_t factor = option->kind == OPTION_DURATION && value == 0 && *suffix == '\0' ? 1 : 0;
    for (size_t i = 0; i < units.count && factor == 0; i++) {
        bool match = option->kind == OPTION_SIZE ? strcasecmp(suffix, units.unit[i].suffix) == 0
                                                 : strcmp(suffix, units.unit[i].suffix) == 0;
        factor = match ? units.unit[i].factor : 0;
    }
    option_quote(text, quoted);
    if (suffix == text || factor == 0) {
        switch (option->kind) {
        case OPTION_SIZE:
            return option_fault_set(fault, "%s is not a size: give bytes, or a number with K, M or G", quoted);
        case OPTION_DURATION:
            return option_fault_set(fault, "%s is not a duration: give a number with ms, s, m or h", quoted);
        default:
            return option_fault_set(fault, "%s is not a whole number", quoted);
        }
    }
    if (value * factor < option->minimum || value * factor > option->maximum) {
        return option_fault_set(fault, "must be between %s and %s",
                                option_number_format(option->kind, option->minimum, low),
                                option_number_format(option->kind, option->maximum, high));
    }
    *number = (uint32_t)(value * factor);
    return true;
}

static bool option_switch_parse(const char *text, bool *on, struct option_fault *fault)
{
    static const char *const words[2][3] = {{"off", "no", "false"}, {"on", "yes", "true"}};
    char quoted[OPTION_QUOTED_MAX];
    for (size_t i = 0; i < 6; i++) {
        if (strcmp(text, words[i / 3][i % 3]) == 0) {
            *on = i / 3 == 1;
            return true;
        }
    }
    return option_fault_set(fault, "must be on or off, not %s", option_quote(text, quoted));
}

static bool option_choice_parse(const struct option *option, const char *text, int *choice, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    char names[128] = "";
    for (int i = 0; option->choices[i] != NULL; i++) {
        if (strcmp(text, option->choices[i]) == 0) {
            *choice = i;
            return true;
        }
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s",
                 i == 0 ? "" : (option->choices[i + 1] == NULL ? " or " : ", "), option->choices[i]);
    }
    return option_fault_set(fault, "must be %s, not %s", names, option_quote(text, quoted));
}

enum error_code option_text_copy(char **field, const char *text)
{
    char *copy = NULL;
    if (text != NULL) {
        copy = memory_strdup(text);
        if (copy == NULL) {
            return ERROR_NO_MEMORY;
        }
    }
    memory_free(*field);
    *field = copy;
    return ERROR_NONE;
}

void *option_list_extend(void *items, size_t count, size_t item_bytes)
{
    unsigned char *grown = memory_realloc(items, (count + 1) * item_bytes);
    if (grown != NULL) {
        memset(grown + count * item_bytes, 0, item_bytes);
    }
    return grown;
}

bool option_parts_split(char *text, const char *const *names, const char *parts[OPTION_PARTS_MAX],
                        struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    for (char *rest = text, *part = strsep(&rest, ","); part != NULL; part = strsep(&rest, ",")) {
        char *value = strchr(part, '=');
        if (value == NULL) {
            return option_fault_set(fault, "%s is not of the form PART=VALUE", option_quote(part, quoted));
        }
        *value++ = '\0';
        size_t index = 0;
        while (names[index] != NULL && strcmp(names[index], part) != 0) {
            index++;
        }
        if (names[index] == NULL) {
            return option_fault_set(fault, "has no part %s", option_quote(part, quoted));
        }
        if (parts[index] != NULL) {
            return option_fault_set(fault, "%s is given twice", part);
        }
        parts[index] = value;
    }
    return true;
}

bool option_check_name(const char *text, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    size_t length = strlen(text);
    bool visible = length > 0;
    for (size_t i = 0; i < length; i++) {
        visible = visible && text[i] > ' ' && text[i] < 0x7f;
    }
    if (!visible || length > 255) {
        return option_fault_set(fault, "%s is not a name: 1 to 255 visible ASCII characters without spaces",
                                option_quote(text, quoted));
    }
    return true;
}

static bool host_is_valid(const char *host, size_t length, bool bracketed)
{
    char copy[256];
    unsigned char ip[16];
    if (length == 0 || length >= sizeof copy) {
        return false;
    }
    memcpy(copy, host, length);
    copy[length] = '\0';
    if (bracketed) {
        return inet_pton(AF_INET6, copy, ip) == 1;
    }
    if (strspn(copy, "0123456789.") == length) {
        return inet_pton(AF_INET, copy, ip) == 1;
    }
    return strspn(copy, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == length;
}

static bool option_check_address(const char *text, unsigned port_min, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    option_quote(text, quoted);
    if (strncmp(text, "unix:", 5) == 0) {
        size_t length = strlen(text + 5);
        if (length == 0 || length >= sizeof((struct sockaddr_un *)NULL)->sun_path) {
            return option_fault_set(fault, "%s: the path of a Unix socket has 1 to 107 bytes", quoted);
        }
        return true;
    }
    const char *colon = strrchr(text, ':');
    if (colon == NULL) {
        return option_fault_set(fault, "%s is not of the form ADDR:PORT", quoted);
    }
    size_t length = (size_t)(colon - text);
    bool bracketed = length >= 2 && text[0] == '[' && text[length - 1] == ']';
    if (bracketed ? !host_is_valid(text + 1, length - 2, true) : !host_is_valid(text, length, false)) {
        return option_fault_set(fault, "%s is not of the form ADDR:PORT, [IPV6]:PORT or unix:PATH", quoted);
    }
    size_t digits = strspn(colon + 1, "0123456789");
    unsigned long port = digits >= 1 && digits <= 5 ? strtoul(colon + 1, NULL, 10) : 65536;
    if (colon[1 + digits] != '\0' || port > 65535 || port < port_min) {
        return option_fault_set(fault, "%s: the port must be between %u and 65535", quoted, port_min);
    }
    return true;
}

bool option_check_listen_address(const char *text, struct option_fault *fault)
{
    return option_check_address(text, 0, fault);
}

bool option_check_peer_address(const char *text, struct option_fault *fault)
{
    return option_check_address(text, 1, fault);
}

void options_init(struct options *options, const struct option_program *program, void *settings, FILE *output,
                  FILE *errors)
{
    *options =
        (struct options){.program = program, .settings = settings, .output = output, .errors = errors, .file = NULL};
    for (size_t i = 0; i < program->option_count; i++) {
        const struct option *option = &program->options[i];
        unsigned char *field = (unsigned char *)settings + option->offset;
        if (option_is_number(option)) {
            memcpy(field, &option->preset, sizeof option->preset);
        } else if (option->kind == OPTION_CHOICE) {
            int choice = (int)option->preset;
            memcpy(field, &choice, sizeof choice);
        } else if (option->kind == OPTION_SWITCH) {
            bool on = option->preset != 0;
            memcpy(field, &on, sizeof on);
        }
    }
}

const struct option *options_find(const struct option_program *program, const char *name, size_t length)
{
    for (size_t i = 0; i < program->option_count; i++) {
        const struct option *option = &program->options[i];
        if (strlen(option->name) == length && memcmp(option->name, name, length) == 0) {
            return option;
        }
    }
    return NULL;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance of two names of at most NAME_BYTES_MAX bytes. */
static size_t name_distance(const char *a, const char *b)
{
    size_t row[NAME_BYTES_MAX + 1];
    size_t a_length = strlen(a);
    size_t b_length = strlen(b);
    for (size_t j = 0; j <= b_length; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t above = row[j];
            size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            row[j] = smaller(changed, smaller(above, row[j - 1]) + 1);
            diagonal = above;
        }
    }
    return row[b_length];
}

const char *options_nearest(const struct option_program *program, const char *name)
{
    size_t length = strlen(name);
    size_t best = length > 5 ? 3 : 2; /* as far as a slip of the finger goes, plus one */
    const char *nearest = NULL;
    if (length < 2 || length > NAME_BYTES_MAX) {
        return NULL;
    }
    for (size_t i = 0; i < program->option_count; i++) {
        size_t distance = name_distance(program->options[i].name, name);
        if (distance < best) {
            best = distance;
            nearest = program->options[i].name;
        }
    }
    return nearest;
}

static size_t options_index(const struct options *options, const struct option *option)
{
    return (size_t)(option - options->program->options);
}

bool options_given(const struct options *options, const char *name)
{
    const struct option *option = options_find(options->program, name, strlen(name));
    return option != NULL && options->origins[options_index(options, option)] != OPTION_BY_DEFAULT;
}

__attribute__((format(printf, 4, 0))) static enum settings_verdict
options_say(struct options *options, const char *name, unsigned line, const char *format, va_list arguments)
{
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    if (line > 0) {
        fprintf(options->errors, "%s:%u: %s: %s\n", options->file, line, name, text);
    } else {
        fprintf(options->errors, "%s: --%s: %s\n", options->program->name, name, text);
    }
    return SETTINGS_WRONG;
}

enum settings_verdict options_wrong_at(struct options *options, const char *name, unsigned line, const char *format,
                                       ...)
{
    va_list arguments;
    va_start(arguments, format);
    enum settings_verdict verdict = options_say(options, name, line, format, arguments);
    va_end(arguments);
    return verdict;
}

enum settings_verdict options_wrong(struct options *options, const char *name, const char *format, ...)
{
    const struct option *option = options_find(options->program, name, strlen(name));
    unsigned line = 0;
    if (option != NULL && options->origins[options_index(options, option)] == OPTION_BY_FILE) {
        line = options->lines[options_index(options, option)];
    }
    va_list arguments;
    va_start(arguments, format);
    enum settings_verdict verdict = options_say(options, name, line, format, arguments);
    va_end(arguments);
    return verdict;
}

static void option_clear(const struct option *option, void *settings)
{
    unsigned char *field = (unsigned char *)settings + option->offset;
    if (option->kind == OPTION_TEXT) {
        memory_free(*(char **)(void *)field);
        *(char **)(void *)field = NULL;
    } else if (option->kind == OPTION_TEXTS) {
        char ***texts = (void *)field;
        size_t *count = (void *)((unsigned char *)settings + option->count_offset);
        for (size_t i = 0; i < *count; i++) {
            memory_free((*texts)[i]);
        }
        memory_free(*texts);
        *texts = NULL;
        *count = 0;
    } else if (option->kind == OPTION_ITEM) {
        option->clear(settings);
    }
}

void options_clear(const struct option_program *program, void *settings)
{
    for (size_t i = 0; i < program->option_count; i++) {
        option_clear(&program->options[i], settings);
    }
}

static enum error_code option_texts_add(const struct option *option, void *settings, const char *text)
{
    char ***texts = (void *)((unsigned char *)settings + option->offset);
    size_t *count = (void *)((unsigned char *)settings + option->count_offset);
    char **grown = option_list_extend(*texts, *count, sizeof **texts);
    if (grown == NULL) {
        return ERROR_NO_MEMORY;
    }
    *texts = grown;
    grown[*count] = memory_strdup(text);
    if (grown[*count] == NULL) {
        return ERROR_NO_MEMORY;
    }
    *count += 1;
    return ERROR_NONE;
}

static enum error_code option_store_text(const struct option *option, void *settings, const char *text,
                                         struct option_fault *fault)
{
    if (*text == '\0') {
        option_fault_set(fault, "must not be empty");
        return ERROR_CONFIGURATION;
    }
    if (option->check != NULL && !option->check(text, fault)) {
        return ERROR_CONFIGURATION;
    }
    if (option->kind == OPTION_TEXTS) {
        return option_texts_add(option, settings, text);
    }
    return option_text_copy((char **)(void *)((unsigned char *)settings + option->offset), text);
}

static enum error_code option_store(const struct option *option, void *settings, const struct option_value *value,
                                    struct option_fault *fault)
{
    void *field = (unsigned char *)settings + option->offset;
    bool valid = true;
    if (option->kind == OPTION_ITEM) {
        return option->take(settings, value, fault);
    }
    if (option->kind == OPTION_FLAG) {
        *(bool *)field = true;
        return ERROR_NONE;
    }
    if (value->text == NULL) {
        option_fault_set(fault, "takes a plain value, not an object");
        return ERROR_CONFIGURATION;
    }
    switch (option->kind) {
    case OPTION_SWITCH:
        valid = option_switch_parse(value->text, field, fault);
        break;
    case OPTION_CHOICE:
        valid = option_choice_parse(option, value->text, field, fault);
        break;
    case OPTION_COUNT:
    case OPTION_SIZE:
    case OPTION_DURATION:
        valid = option_number_parse(option, value->text, field, fault);
        break;
    case OPTION_TEXT:
    case OPTION_TEXTS:
        return option_store_text(option, settings, value->text, fault);
    default:
        break;
    }
    return valid ? ERROR_NONE : ERROR_CONFIGURATION;
}

static enum settings_verdict options_take(struct options *options, const struct option *option,
                                          const struct option_value *value)
{
    struct option_fault fault;
    switch (option_store(option, options->settings, value, &fault)) {
    case ERROR_NONE:
        return SETTINGS_RUN;
    case ERROR_CONFIGURATION:
        return options_wrong_at(options, option->name, value->line, "%s", fault.text);
    default:
        return options_wrong_at(options, option->name, value->line, "%s", error_text(ERROR_NO_MEMORY));
    }
}

enum settings_verdict options_take_from_file(struct options *options, const struct option *option,
                                             const struct option_value *value)
{
    size_t index = options_index(options, option);
    if (option->kind == OPTION_HELP || option->kind == OPTION_VERSION || option->kind == OPTION_CONFIG ||
        option->kind == OPTION_FLAG) {
        return options_wrong_at(options, option->name, value->line, "stands on the command line only");
    }
    if (!option_repeats(option) && options->origins[index] == OPTION_BY_FILE) {
        return options_wrong_at(options, option->name, value->line, "is given before, in line %u",
                                options->lines[index]);
    }
    options->origins[index] = OPTION_BY_FILE;
    options->lines[index] = value->line;
    return options_take(options, option, value);
}

struct argument {
    const struct option *option;
    const char *value; /* NULL: takes none */
};

static enum settings_verdict argument_unknown(struct options *options, const char *name, size_t length)
{
    char copy[NAME_BYTES_MAX + 2];
    char quoted[OPTION_QUOTED_MAX];
    snprintf(copy, sizeof copy, "%.*s", (int)smaller(length, sizeof copy - 1), name);
    const char *nearest = options_nearest(options->program, copy);
    if (nearest != NULL) {
        fprintf(options->errors, "%s: unknown option --%s; did you mean --%s? (see --help)\n", options->program->name,
                copy, nearest);
    } else {
        char whole[NAME_BYTES_MAX + 4];
        snprintf(whole, sizeof whole, "--%s", copy);
        fprintf(options->errors, "%s: unknown option %s (see --help)\n", options->program->name,
                option_quote(whole, quoted));
    }
    return SETTINGS_WRONG;
}

/* Reads argv[*index] and the value that may follow it, and moves *index behind them. */
static enum settings_verdict argument_next(struct options *options, int argc, char *const *argv, int *index,
                                           struct argument *argument)
{
    char quoted[OPTION_QUOTED_MAX];
    const char *text = argv[*index];
    *index += 1;
    if (strncmp(text, "--", 2) != 0 || text[2] == '\0') {
        fprintf(options->errors, "%s: %s is not an option (see --help)\n", options->program->name,
                option_quote(text, quoted));
        return SETTINGS_WRONG;
    }
    const char *name = text + 2;
    size_t length = strcspn(name, "=");
    const struct option *option = options_find(options->program, name, length);
    if (option == NULL) {
        return argument_unknown(options, name, length);
    }
    *argument = (struct argument){.option = option, .value = name[length] == '=' ? name + length + 1 : NULL};
    if (!option_takes_value(option)) {
        return argument->value == NULL ? SETTINGS_RUN : options_wrong_at(options, option->name, 0, "takes no value");
    }
    if (argument->value == NULL) {
        /* What looks like the next option is taken for it: a forgotten value is likelier than such a value. */
        if (*index >= argc || strncmp(argv[*index], "--", 2) == 0) {
            return options_wrong_at(options, option->name, 0, "needs a value: %s", option->value_name);
        }
        argument->value = argv[*index];
        *index += 1;
    }
    return SETTINGS_RUN;
}

enum settings_verdict options_scan_arguments(struct options *options, int argc, char *const *argv, const char **config)
{
    struct argument argument;
    *config = NULL;
    for (int index = 1; index < argc;) {
        enum settings_verdict verdict = argument_next(options, argc, argv, &index, &argument);
        if (verdict != SETTINGS_RUN) {
            return verdict;
        }
        switch (argument.option->kind) {
        case OPTION_HELP:
            options_help(options->program, options->output);
            return SETTINGS_DONE;
        case OPTION_VERSION:
            fprintf(options->output, "%s %s\n", options->program->name, TRUNKLINE_VERSION);
            return SETTINGS_DONE;
        case OPTION_CONFIG:
            if (*argument.value == '\0' || *config != NULL) {
                return options_wrong_at(options, argument.option->name, 0,
                                        *config != NULL ? "is given twice" : "must not be empty");
            }
            *config = argument.value;
            break;
        default:
            break;
        }
    }
    return SETTINGS_RUN;
}

enum settings_verdict options_take_arguments(struct options *options, int argc, char *const *argv)
{
    struct argument argument;
    for (int index = 1; index < argc;) {
        enum settings_verdict verdict = argument_next(options, argc, argv, &index, &argument);
        if (verdict != SETTINGS_RUN) {
            return verdict;
        }
        if (argument.option->kind == OPTION_CONFIG) {
            continue;
        }
        size_t position = options_index(options, argument.option);
        if (options->origins[position] == OPTION_BY_FILE) {
            option_clear(argument.option, options->settings);
        }
        options->origins[position] = OPTION_BY_ARGUMENT;
        struct option_value value = {.text = argument.value};
        verdict = options_take(options, argument.option, &value);
        if (verdict != SETTINGS_RUN) {
            return verdict;
        }
    }
    return SETTINGS_RUN;
}

enum settings_verdict options_require(struct options *options)
{
    for (size_t i = 0; i < options->program->option_count; i++) {
        const struct option *option = &options->program->options[i];
        if (option->required && options->origins[i] == OPTION_BY_DEFAULT) {
            fprintf(options->errors, "%s: --%s %s is missing: %s (see --help)\n", options->program->name, option->name,
                    option->value_name, option->help);
            return SETTINGS_WRONG;
        }
    }
    return SETTINGS_RUN;
}

/* Prints `text` from column `column` on, wrapped before HELP_WIDTH, each further line indented to `indent`. */
static void help_wrap(FILE *output, const char *text, int column, int indent)
{
    while (*text != '\0') {
        int length = (int)strcspn(text, " ");
        if (column > indent && column + 1 + length > HELP_WIDTH) {
            fprintf(output, "\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', output);
            column++;
        }
        for (int i = 0; i < length; i++) {
            fputc(text[i] == HELP_JOINT ? ' ' : text[i], output);
        }
        column += length;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', output);
}

static void help_default(const struct option *option, char into[64])
{
    char number[32];
    into[0] = '\0';
    if (option_is_number(option)) {
        snprintf(into, 64, " (default:\x01%s)", option_number_format(option->kind, option->preset, number));
    } else if (option->kind == OPTION_CHOICE) {
        snprintf(into, 64, " (default:\x01%s)", option->choices[option->preset]);
    } else if (option->kind == OPTION_SWITCH) {
        snprintf(into, 64, " (default:\x01%s)", option->preset != 0 ? "on" : "off");
    }
}

static void help_option(const struct option *option, FILE *output)
{
    char text[HELP_TEXT_BYTES];
    char preset[64];
    help_default(option, preset);
    snprintf(text, sizeof text, "%s%s%s%s", option->help, option_repeats(option) ? "; may repeat" : "", preset,
             option->required ? " (required)" : "");
    int column = fprintf(output, "  --%s%s%s", option->name, option->value_name != NULL ? " " : "",
                         option->value_name != NULL ? option->value_name : "");
    if (column + 2 > HELP_COLUMN) {
        fputc('\n', output);
        column = 0;
    }
    fprintf(output, "%*s", HELP_COLUMN - column, "");
    help_wrap(output, text, HELP_COLUMN, HELP_COLUMN);
}

void options_help(const struct option_program *program, FILE *output)
{
    fprintf(output, "Usage: ");
    help_wrap(output, program->synopsis, 7, 7);
    fprintf(output, "       %s --config FILE\n\n", program->name);
    help_wrap(output, program->summary, 0, 0);
    for (size_t i = 0; i < program->option_count; i++) {
        if (program->options[i].group != NULL) {
            fprintf(output, "\n%s:\n", program->options[i].group);
        }
        help_option(&program->options[i], output);
    }
    fprintf(output, "\n");
    help_wrap(output,
              "NUMBER is a whole number. SIZE is bytes, or a number with K, M or G (1024-based): 64K. DURATION is a "
              "number with ms, s, m or h: 500ms, 10s. A value may also follow an equals sign: --name=value.",
              0, 0);
    fprintf(output, "\n");
    fprintf(output, "A configuration file holds the same names without dashes:\n"
                    "  listen = \"[::]:443\"; log-level = debug;\n"
                    "What the command line gives wins; a list given there replaces the one here.\n");
    fprintf(output, "\nExit status:\n"
                    "  0  stopped as asked\n"
                    "  1  a system call failed at the start, or memory ran out\n"
                    "  2  an option or the configuration file is wrong\n"
                    "  3  a certificate or key cannot be used\n"
                    "  4  an address cannot be listened on\n"
                    "  5  a second SIGTERM or the drain timeout ended sessions\n");
    fprintf(output, "\nExample:\n%s", program->epilogue);
}
