/*
 * The configuration file's reader: one pass over the text, statement by statement, each handed to the option table as
 * soon as it is read. Nothing nests deeper than an object in a list, so nothing recurses. The reader owns a scratch
 * buffer for the words of the statement in hand; the settings belong to the caller. Main's thread only.
 */
#include "mux/config.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "mux/file.h"
#include "mux/memory.h"

#define KEY_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
#define CLIPPED_BYTES  60 /* of a word, in messages */

struct config_reader {
    struct options *options;
    const char *text;
    size_t length;
    size_t position;
    unsigned line;
    char *scratch; /* words of this statement, each with its zero */
    size_t scratch_used;
    bool braced; /* the whole file is one object */
};

__attribute__((format(printf, 3, 4))) static enum settings_verdict config_wrong(struct config_reader *reader,
                                                                                unsigned line, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(reader->options->errors, "%s:%u: %s\n", reader->options->file, line, text);
    return SETTINGS_WRONG;
}

/* The character at the position, or -1 at the end. */
static int config_peek(const struct config_reader *reader)
{
    return reader->position < reader->length ? (unsigned char)reader->text[reader->position] : -1;
}

static int config_peek_second(const struct config_reader *reader)
{
    return reader->position + 1 < reader->length ? (unsigned char)reader->text[reader->position + 1] : -1;
}

static void config_advance(struct config_reader *reader)
{
    if (reader->text[reader->position] == '\n') {
        reader->line++;
    }
    reader->position++;
}

/* Skips spaces, comments and, with `lines`, line ends. */
static enum settings_verdict config_skip(struct config_reader *reader, bool lines)
{
    for (;;) {
        int next = config_peek(reader);
        if (next == ' ' || next == '\t' || next == '\r' || (next == '\n' && lines)) {
            config_advance(reader);
        } else if (next == '#') {
            while (config_peek(reader) != '\n' && config_peek(reader) != -1) {
                config_advance(reader);
            }
        } else if (next == '/' && config_peek_second(reader) == '*') {
            unsigned line = reader->line;
            reader->position += 2;
            while (config_peek(reader) != '*' || config_peek_second(reader) != '/') {
                if (config_peek(reader) == -1) {
                    return config_wrong(reader, line, "the comment that begins here does not end");
                }
                config_advance(reader);
            }
            reader->position += 2;
        } else {
            return SETTINGS_RUN;
        }
    }
}

/* For messages: what cannot be shown is a question mark. */
static int config_shown(int character)
{
    return character > ' ' && character < 0x7f ? character : '?';
}

static void config_put(struct config_reader *reader, char byte)
{
    reader->scratch[reader->scratch_used++] = byte;
}

/* The UTF-8 form of a code point below U+10000. */
static void config_put_code_point(struct config_reader *reader, unsigned code)
{
    if (code < 0x80) {
        config_put(reader, (char)code);
        return;
    }
    if (code < 0x800) {
        config_put(reader, (char)(0xc0U | code >> 6));
    } else {
        config_put(reader, (char)(0xe0U | code >> 12));
        config_put(reader, (char)(0x80U | (code >> 6 & 0x3fU)));
    }
    config_put(reader, (char)(0x80U | (code & 0x3fU)));
}

/* What follows the backslash; the position is on it. */
static enum settings_verdict config_read_escape(struct config_reader *reader)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    int next = config_peek(reader);
    const char *found = next > 0 ? strchr(names, next) : NULL;
    if (found != NULL) {
        config_put(reader, values[found - names]);
        reader->position++;
        return SETTINGS_RUN;
    }
    unsigned code = 0;
    if (next == 'u' && reader->length - reader->position > 4) {
        for (size_t i = 1; i <= 4; i++) {
            char digit = reader->text[reader->position + i];
            const char *digits = "0123456789abcdef";
            const char *place =
                digit != '\0' ? strchr(digits, digit | (digit >= 'A' && digit <= 'F' ? 0x20 : 0)) : NULL;
            code = place == NULL || code == UINT32_MAX ? UINT32_MAX : code << 4 | (unsigned)(place - digits);
        }
    }
    /* Neither zero, which would end the text, nor halves of a pair, which no name or path needs. */
    if (code == 0 || code > 0xffff || (code >= 0xd800 && code <= 0xdfff)) {
        return config_wrong(reader, reader->line, "unknown escape in quotes; '...' needs none");
    }
    config_put_code_point(reader, code);
    reader->position += 5;
    return SETTINGS_RUN;
}

static enum settings_verdict config_read_quoted(struct config_reader *reader)
{
    int quote = config_peek(reader);
    reader->position++;
    for (;;) {
        int next = config_peek(reader);
        if (next == -1 || next == '\n') {
            return config_wrong(reader, reader->line, "the quote is not closed on its line");
        }
        reader->position++;
        if (next == quote) {
            config_put(reader, '\0');
            return SETTINGS_RUN;
        }
        if (next == '\\' && quote == '"') {
            enum settings_verdict verdict = config_read_escape(reader);
            if (verdict != SETTINGS_RUN) {
                return verdict;
            }
        } else {
            config_put(reader, (char)next);
        }
    }
}

/* Reads a quoted or bare word into the scratch buffer; empty only when it was quoted. */
static enum settings_verdict config_read_word(struct config_reader *reader, const char **word)
{
    *word = reader->scratch + reader->scratch_used;
    int next = config_peek(reader);
    if (next == '"' || next == '\'') {
        return config_read_quoted(reader);
    }
    while (next != -1 && strchr(" \t\r\n;,{}[]#\"'", next) == NULL) {
        config_put(reader, (char)next);
        reader->position++;
        next = config_peek(reader);
    }
    config_put(reader, '\0');
    if (**word == '\0') {
        return next == -1 ? config_wrong(reader, reader->line, "a value is missing at the end of the file")
                          : config_wrong(reader, reader->line, "a value is missing before '%c'", config_shown(next));
    }
    return SETTINGS_RUN;
}

static enum settings_verdict config_read_key(struct config_reader *reader, const char **key)
{
    int next = config_peek(reader);
    if (next == '"' || next == '\'') {
        enum settings_verdict verdict = config_read_word(reader, key);
        if (verdict == SETTINGS_RUN && (**key == '\0' || (*key)[strspn(*key, KEY_CHARACTERS)] != '\0')) {
            return config_wrong(reader, reader->line, "an option's name has letters, digits and dashes only");
        }
        return verdict;
    }
    *key = reader->scratch + reader->scratch_used;
    while (next > 0 && strchr(KEY_CHARACTERS, next) != NULL) {
        config_put(reader, (char)next);
        reader->position++;
        next = config_peek(reader);
    }
    config_put(reader, '\0');
    if (**key == '\0') {
        return next == -1 ? config_wrong(reader, reader->line, "an option is missing at the end of the file")
                          : config_wrong(reader, reader->line, "unexpected '%c' where an option should begin",
                                         config_shown(next));
    }
    return SETTINGS_RUN;
}

/* Skips what stands between key and value. *marked: an '=' or ':' was there. */
static enum settings_verdict config_skip_to_value(struct config_reader *reader, const char *key, bool *marked)
{
    enum settings_verdict verdict = config_skip(reader, false);
    int next = config_peek(reader);
    *marked = next == '=' || next == ':';
    if (verdict != SETTINGS_RUN) {
        return verdict;
    }
    if (*marked) {
        reader->position++;
        verdict = config_skip(reader, true);
        next = config_peek(reader);
    }
    if (verdict == SETTINGS_RUN && (next == -1 || strchr("\n;,}]", next) != NULL)) {
        return config_wrong(reader, reader->line, "%.*s: has no value", CLIPPED_BYTES, key);
    }
    return verdict;
}

/* After a value: the statement must end here. */
static enum settings_verdict config_read_separator(struct config_reader *reader, const char *key)
{
    unsigned line = reader->line;
    enum settings_verdict verdict = config_skip(reader, false);
    int next = config_peek(reader);
    if (verdict != SETTINGS_RUN || next == -1 || next == '}' || reader->line != line) {
        return verdict;
    }
    if (next == '\n' || next == ';' || next == ',') {
        config_advance(reader);
        return SETTINGS_RUN;
    }
    return config_wrong(reader, line, "%.*s: unexpected '%c' after the value (quote a value that holds it)",
                        CLIPPED_BYTES, key, config_shown(next));
}

/* Skips lines, comments and lone separators. */
static enum settings_verdict config_skip_separators(struct config_reader *reader)
{
    enum settings_verdict verdict = config_skip(reader, true);
    while (verdict == SETTINGS_RUN && (config_peek(reader) == ';' || config_peek(reader) == ',')) {
        reader->position++;
        verdict = config_skip(reader, true);
    }
    return verdict;
}

static enum settings_verdict config_set_part(struct config_reader *reader, const struct option *option,
                                             struct option_value *value, unsigned line, const char *name,
                                             const char *text)
{
    char names[128] = "";
    size_t index = 0;
    while (option->parts[index] != NULL && strcmp(option->parts[index], name) != 0) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", index == 0 ? "" : ", ", option->parts[index]);
        index++;
    }
    if (option->parts[index] == NULL) {
        return config_wrong(reader, line, "%s: has no part %.*s; it has: %s", option->name, CLIPPED_BYTES, name, names);
    }
    if (value->parts[index] != NULL) {
        return config_wrong(reader, line, "%s: %s is given twice", option->name, name);
    }
    if (*text == '\0') {
        return config_wrong(reader, line, "%s: %s must not be empty", option->name, name);
    }
    value->parts[index] = text;
    return SETTINGS_RUN;
}

/* From '{' to '}'. */
static enum settings_verdict config_read_object(struct config_reader *reader, const struct option *option,
                                                struct option_value *value)
{
    unsigned begin = reader->line;
    if (option->parts == NULL) {
        return config_wrong(reader, begin, "%s: takes a plain value, not an object", option->name);
    }
    reader->position++;
    for (;;) {
        const char *name;
        const char *text;
        bool marked;
        enum settings_verdict verdict = config_skip_separators(reader);
        if (verdict != SETTINGS_RUN) {
            return verdict;
        }
        if (config_peek(reader) == -1) {
            return config_wrong(reader, begin, "%s: the brace that opens here is not closed", option->name);
        }
        if (config_peek(reader) == '}') {
            reader->position++;
            return SETTINGS_RUN;
        }
        unsigned line = reader->line;
        if ((verdict = config_read_key(reader, &name)) != SETTINGS_RUN ||
            (verdict = config_skip_to_value(reader, name, &marked)) != SETTINGS_RUN ||
            (verdict = config_read_word(reader, &text)) != SETTINGS_RUN ||
            (verdict = config_set_part(reader, option, value, line, name, text)) != SETTINGS_RUN ||
            (verdict = config_read_separator(reader, name)) != SETTINGS_RUN) {
            return verdict;
        }
    }
}

/* One value: an object, or a word that may turn out to be an object's title. */
static enum settings_verdict config_read_value(struct config_reader *reader, const struct option *option, unsigned line,
                                               bool may_have_title)
{
    struct option_value value = {.line = line};
    enum settings_verdict verdict;
    if (config_peek(reader) == '{') {
        verdict = config_read_object(reader, option, &value);
    } else {
        verdict = config_read_word(reader, &value.text);
        if (verdict == SETTINGS_RUN && may_have_title) {
            verdict = config_skip(reader, false);
        }
        if (verdict == SETTINGS_RUN && may_have_title && config_peek(reader) == '{') {
            if (option->title == NULL) {
                return config_wrong(reader, line, "%s: takes no title before '{'", option->name);
            }
            const char *title = value.text;
            value.text = NULL;
            verdict = config_set_part(reader, option, &value, line, option->title, title);
            if (verdict == SETTINGS_RUN) {
                verdict = config_read_object(reader, option, &value);
            }
        }
    }
    return verdict == SETTINGS_RUN ? options_take_from_file(reader->options, option, &value) : verdict;
}

/* From '[' to ']'. */
static enum settings_verdict config_read_list(struct config_reader *reader, const struct option *option)
{
    unsigned begin = reader->line;
    size_t scratch_mark = reader->scratch_used;
    reader->position++;
    enum settings_verdict verdict = config_skip(reader, true);
    while (verdict == SETTINGS_RUN && config_peek(reader) != ']') {
        reader->scratch_used = scratch_mark;
        if (config_peek(reader) == -1) {
            return config_wrong(reader, begin, "%s: the bracket that opens here is not closed", option->name);
        }
        if ((verdict = config_read_value(reader, option, reader->line, false)) != SETTINGS_RUN ||
            (verdict = config_skip(reader, true)) != SETTINGS_RUN) {
            return verdict;
        }
        if (config_peek(reader) == ',') {
            reader->position++;
            verdict = config_skip(reader, true);
        } else if (config_peek(reader) != ']') {
            return config_wrong(reader, reader->line, "%s: a comma or ']' is missing in the list", option->name);
        }
    }
    reader->position++;
    return verdict;
}

static enum settings_verdict config_unknown(struct config_reader *reader, const char *key, unsigned line)
{
    if (key[0] == '.') {
        return config_wrong(reader, line, "%.*s: macros are not supported", CLIPPED_BYTES, key);
    }
    const char *nearest = options_nearest(reader->options->program, key);
    if (nearest != NULL) {
        return config_wrong(reader, line, "%.*s: unknown option; did you mean %s?", CLIPPED_BYTES, key, nearest);
    }
    return config_wrong(reader, line, "%.*s: unknown option (see --help)", CLIPPED_BYTES, key);
}

static enum settings_verdict config_read_statement(struct config_reader *reader)
{
    const char *key;
    bool marked;
    reader->scratch_used = 0;
    unsigned line = reader->line;
    enum settings_verdict verdict = config_read_key(reader, &key);
    if (verdict != SETTINGS_RUN) {
        return verdict;
    }
    const struct option *option = options_find(reader->options->program, key, strlen(key));
    if (option == NULL) {
        return config_unknown(reader, key, line);
    }
    verdict = config_skip_to_value(reader, key, &marked);
    if (verdict != SETTINGS_RUN) {
        return verdict;
    }
    verdict = config_peek(reader) == '[' ? config_read_list(reader, option)
                                         : config_read_value(reader, option, line, !marked);
    return verdict == SETTINGS_RUN ? config_read_separator(reader, key) : verdict;
}

static enum settings_verdict config_read_statements(struct config_reader *reader)
{
    enum settings_verdict verdict = config_skip(reader, true);
    if (verdict == SETTINGS_RUN && config_peek(reader) == '{') {
        reader->braced = true;
        reader->position++;
    }
    while (verdict == SETTINGS_RUN) {
        verdict = config_skip_separators(reader);
        int next = config_peek(reader);
        if (verdict != SETTINGS_RUN) {
            break;
        }
        if (next == -1) {
            return reader->braced ? config_wrong(reader, reader->line, "the file's first '{' is not closed")
                                  : SETTINGS_RUN;
        }
        if (next == '}' && reader->braced) {
            reader->position++;
            verdict = config_skip(reader, true);
            if (verdict == SETTINGS_RUN && config_peek(reader) != -1) {
                return config_wrong(reader, reader->line, "nothing may follow the last '}'");
            }
            return verdict;
        }
        verdict = config_read_statement(reader);
    }
    return verdict;
}

/* Zero bytes and control characters are never meant; they would hide in messages, and end texts early. */
static enum settings_verdict config_check_bytes(struct config_reader *reader)
{
    unsigned line = 1;
    for (size_t i = 0; i < reader->length; i++) {
        unsigned char byte = (unsigned char)reader->text[i];
        if ((byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f) {
            return config_wrong(reader, line, "a byte 0x%02x is not text", byte);
        }
        line += byte == '\n' ? 1 : 0;
    }
    return SETTINGS_RUN;
}

enum settings_verdict config_read_text(struct options *options, const char *name, const char *text, size_t length)
{
    struct config_reader reader = {.options = options, .text = text, .length = length, .line = 1};
    options->file = name;
    if (length > CONFIG_BYTES_MAX) {
        return config_wrong(&reader, 1, "the file is larger than %u bytes", CONFIG_BYTES_MAX);
    }
    enum settings_verdict verdict = config_check_bytes(&reader);
    if (verdict != SETTINGS_RUN) {
        return verdict;
    }
    /* A word of n characters takes n + 1 bytes, and n is at least 1 but for empty keys, which end the reading. */
    reader.scratch = memory_alloc(2 * length + 2);
    if (reader.scratch == NULL) {
        return config_wrong(&reader, 1, "%s", error_text(ERROR_NO_MEMORY));
    }
    verdict = config_read_statements(&reader);
    memory_free(reader.scratch);
    return verdict;
}

static enum settings_verdict config_unreadable(struct options *options, const char *path, const char *reason)
{
    return options_wrong_at(options, "config", 0, "cannot read \"%s\": %s", path, reason);
}

enum settings_verdict config_read_file(struct options *options, const char *path)
{
    struct file_text file;
    int reason = 0;
    enum error_code error = file_read(&file, path, &reason);
    if (error != ERROR_NONE) {
        return config_unreadable(options, path,
                                 error == ERROR_NO_MEMORY ? error_text(ERROR_NO_MEMORY) : strerror(reason));
    }
    enum settings_verdict verdict = config_read_text(options, path, (const char *)file.bytes, file.length);
    file_wipe(&file);
    return verdict;
}

enum settings_verdict config_read(struct options *options, int argc, char *const *argv)
{
    const char *path;
    enum settings_verdict verdict = options_scan_arguments(options, argc, argv, &path);
    if (verdict == SETTINGS_RUN && path != NULL) {
        verdict = config_read_file(options, path);
    }
    if (verdict == SETTINGS_RUN) {
        verdict = options_take_arguments(options, argc, argv);
    }
    return verdict == SETTINGS_RUN ? options_require(options) : verdict;
}
