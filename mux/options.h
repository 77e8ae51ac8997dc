/*
 * Options by table: one row per option says its name, its kind, its bounds, its default, its help and where its value
 * goes, and the command line, the configuration file (mux/config.h) and --help all follow the table. A program's
 * options are read into one structure of its own, the "settings" below; rows name its fields by offset.
 *
 * Values come as text, from wherever they come: "2", "64K", "10s", "on", "echo=forward:127.0.0.1:80". An option with
 * several parts may also come as an object of the configuration file. What is wrong is said in one line on `errors`
 * that names the option, or file, line and option. Main's thread only, before any other is started.
 */
#ifndef MUX_OPTIONS_H
#define MUX_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "mux/error.h"

#define OPTIONS_MAX      64 /* rows of one program's table */
#define OPTION_PARTS_MAX 4  /* of one object */

enum settings_verdict {
    SETTINGS_RUN,
    SETTINGS_DONE,  /* --help or --version was answered: exit 0 */
    SETTINGS_WRONG, /* one line on standard error named the option, or file and line: exit 2 */
};

enum option_kind {
    OPTION_HELP,     /* prints the page and ends */
    OPTION_VERSION,  /* prints name and version and ends */
    OPTION_CONFIG,   /* names the configuration file; stores nothing */
    OPTION_FLAG,     /* bool; takes no value */
    OPTION_SWITCH,   /* bool; on or off */
    OPTION_CHOICE,   /* an enum that counts from 0, by the names in `choices` */
    OPTION_COUNT,    /* uint32_t: a whole number */
    OPTION_SIZE,     /* uint32_t: bytes, or with a suffix K, M or G (1024-based) */
    OPTION_DURATION, /* uint32_t: milliseconds; text with a suffix ms, s, m or h (0 needs none) */
    OPTION_TEXT,     /* char *, of memory.h; not empty */
    OPTION_TEXTS,    /* char ** and a size_t count: repeats; none is empty */
    OPTION_ITEM,     /* repeats; `take` stores it, `clear` empties what was stored */
};

/* What is wrong with a value, without the option's name: "must be between 1 and 64". */
struct option_fault {
    char text[256];
};

/* One value of an OPTION_ITEM. Texts are valid during the call only. */
struct option_value {
    const char *text;                    /* NULL when it came as an object */
    const char *parts[OPTION_PARTS_MAX]; /* of an object, in the order of option->parts; NULL: not given */
    unsigned line;                       /* of the configuration file; 0: the command line */
};

/* ERROR_NONE, ERROR_CONFIGURATION (`fault` is filled) or ERROR_NO_MEMORY. */
typedef enum error_code option_take_fn(void *settings, const struct option_value *value, struct option_fault *fault);
typedef void option_clear_fn(void *settings);

/* False when the text will not do; `fault` is filled then. */
typedef bool option_check_fn(const char *text, struct option_fault *fault);

struct option {
    const char *name; /* without dashes */
    enum option_kind kind;
    bool required;
    const char *group;      /* first row of a group: its heading in --help; NULL: the group goes on */
    const char *value_name; /* "ADDR:PORT"; NULL when there is no value */
    const char *help;       /* what it is for; no full stop at its end; bounds and default are added */

    size_t offset;       /* of the field in the settings */
    size_t count_offset; /* OPTION_TEXTS: of the size_t count */

    uint32_t minimum, maximum; /* of numbers, in the field's unit, both included */
    uint32_t preset;           /* default of switches, choices and numbers */

    const char *const *choices; /* ends with NULL */
    option_check_fn *check;     /* OPTION_TEXT, OPTION_TEXTS; NULL: any text that is not empty */

    const char *const *parts; /* OPTION_ITEM: names that an object may have; ends with NULL */
    const char *title;        /* the part that a title fills (`service "echo" {...}`); NULL: no title */
    option_take_fn *take;
    option_clear_fn *clear;
};

struct option_program {
    const char *name;     /* "trunkline-edge" */
    const char *synopsis; /* what follows "Usage: " */
    const char *summary;  /* what the program does */
    const char *epilogue; /* the example at the end of --help */
    const struct option *options;
    size_t option_count; /* at most OPTIONS_MAX */
};

enum option_origin { OPTION_BY_DEFAULT, OPTION_BY_FILE, OPTION_BY_ARGUMENT };

/* One reading in progress. */
struct options {
    const struct option_program *program;
    void *settings;
    FILE *output; /* --help and --version */
    FILE *errors;
    const char *file; /* name of the configuration file for messages; borrowed; NULL: none */
    enum option_origin origins[OPTIONS_MAX];
    unsigned lines[OPTIONS_MAX]; /* where the file last gave it */
};

/* Starts a reading: `settings` must be zeroed, and gets the defaults. All pointers are borrowed. */
void options_init(struct options *options, const struct option_program *program, void *settings, FILE *output,
                  FILE *errors);

/* First pass over the command line: names and shape only. *config is the file that --config names (NULL: none).
 * SETTINGS_DONE when --help or --version was answered. */
enum settings_verdict options_scan_arguments(struct options *options, int argc, char *const *argv, const char **config);

/* Second pass: takes the values. A list that an argument begins replaces what the file had put there. */
enum settings_verdict options_take_arguments(struct options *options, int argc, char *const *argv);

/* Takes one value from the configuration file. */
enum settings_verdict options_take_from_file(struct options *options, const struct option *option,
                                             const struct option_value *value);

/* SETTINGS_WRONG if a required option was not given. */
enum settings_verdict options_require(struct options *options);

/* NULL when the program has no option of this name (`length` bytes). */
const struct option *options_find(const struct option_program *program, const char *name, size_t length);

/* The name closest to `name`, or NULL when none is close. */
const char *options_nearest(const struct option_program *program, const char *name);

bool options_given(const struct options *options, const char *name);

/* Says that the option `name` is wrong, by flag or by file and line, whichever gave it. Always SETTINGS_WRONG. */
enum settings_verdict options_wrong(struct options *options, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a value of a known line (0: the command line). */
enum settings_verdict options_wrong_at(struct options *options, const char *name, unsigned line, const char *format,
                                       ...) __attribute__((format(printf, 4, 5)));

/* Frees and zeroes what the table's rows hold in `settings`. */
void options_clear(const struct option_program *program, void *settings);

/* Writes the page that --help shows. */
void options_help(const struct option_program *program, FILE *output);

/* For `take` and `check` functions. */

/* Fills the fault; always false. */
bool option_fault_set(struct option_fault *fault, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "text" in quotes, clipped and without control characters, for messages. Returns `into`. */
#define OPTION_QUOTED_MAX 72
const char *option_quote(const char *text, char into[OPTION_QUOTED_MAX]);

/* Syntax of "192.0.2.1:443", "[2001:db8::1]:443", "name:443" or "unix:/path"; nothing is resolved. Port 0 is for
 * those who listen. */
bool option_check_listen_address(const char *text, struct option_fault *fault);
bool option_check_peer_address(const char *text, struct option_fault *fault);

/* 1 to 255 bytes of visible ASCII. */
bool option_check_name(const char *text, struct option_fault *fault);

/* Copies text into *field, which keeps its old value on ERROR_NO_MEMORY. NULL text: NULL. */
enum error_code option_text_copy(char **field, const char *text);

/* Room for one zeroed item more behind `count` items; NULL when memory is out (the old list stays valid then). */
void *option_list_extend(void *items, size_t count, size_t item_bytes);

/* Splits "sni=a,alpn=b" into the parts of `names`. Writes into `text`, where the parts then are. */
bool option_parts_split(char *text, const char *const *names, const char *parts[OPTION_PARTS_MAX],
                        struct option_fault *fault);

#endif
