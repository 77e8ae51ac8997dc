/* The configuration file's language: its forms, its line numbers, what it refuses. One thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "mux/config.h"
#include "mux/memory.h"

struct place {
    char *name;
    char **roads;
    size_t road_count;
    uint32_t people;
    bool check_only;
    bool lit;
    char *log; /* what the items held: "line:text,one,two;" */
};

static const char *const house_parts[] = {"number", "colour", NULL};

static enum error_code take_house(void *settings, const struct option_value *value, struct option_fault *fault)
{
    struct place *place = settings;
    (void)fault;
    char *grown;
    const char *log = place->log != NULL ? place->log : "";
    if (asprintf(&grown, "%s%u:%s,%s,%s;", log, value->line, value->text != NULL ? value->text : "-",
                 value->parts[0] != NULL ? value->parts[0] : "-",
                 value->parts[1] != NULL ? value->parts[1] : "-") < 0) {
        return ERROR_NO_MEMORY;
    }
    enum error_code error = option_text_copy(&place->log, grown);
    free(grown);
    return error;
}

static void clear_house(void *settings)
{
    struct place *place = settings;
    memory_free(place->log);
    place->log = NULL;
}

#define FIELD(name_) offsetof(struct place, name_)

static const struct option rows[] = {
    {.name = "name", .kind = OPTION_TEXT, .value_name = "NAME", .help = "its name", .offset = FIELD(name)},
    {.name = "road",
     .kind = OPTION_TEXTS,
     .value_name = "ROAD",
     .help = "its roads",
     .offset = FIELD(roads),
     .count_offset = FIELD(road_count)},
    {.name = "people",
     .kind = OPTION_COUNT,
     .value_name = "NUMBER",
     .help = "how many",
     .offset = FIELD(people),
     .minimum = 1,
     .maximum = 64,
     .preset = 7},
    {.name = "lit", .kind = OPTION_SWITCH, .value_name = "on|off", .help = "at night", .offset = FIELD(lit)},
    {.name = "house",
     .kind = OPTION_ITEM,
     .value_name = "HOUSE",
     .help = "a house",
     .parts = house_parts,
     .title = "number",
     .take = take_house,
     .clear = clear_house},
    {.name = "yard",
     .kind = OPTION_ITEM,
     .value_name = "YARD",
     .help = "a yard",
     .parts = house_parts,
     .take = take_house,
     .clear = clear_house},
    {.name = "config", .kind = OPTION_CONFIG, .value_name = "FILE", .help = "a file"},
    {.name = "check-only", .kind = OPTION_FLAG, .help = "only a check", .offset = FIELD(check_only)},
    {.name = "version", .kind = OPTION_VERSION, .help = "the version"},
    {.name = "help", .kind = OPTION_HELP, .help = "this page"},
};

static const struct option_program program = {
    .name = "place",
    .synopsis = "place",
    .summary = "Describes a place.",
    .epilogue = "  place\n",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
};

struct reading {
    struct place place;
    struct options options;
    char *errors;
    size_t errors_length;
    FILE *stream;
    enum settings_verdict verdict;
};

static void reading_init(struct reading *reading)
{
    memset(reading, 0, sizeof *reading);
    reading->stream = open_memstream(&reading->errors, &reading->errors_length);
    assert_non_null(reading->stream);
    options_init(&reading->options, &program, &reading->place, stdout, reading->stream);
}

static void read_bytes(struct reading *reading, const char *text, size_t length)
{
    /* A copy of the exact size, so that a sanitizer sees every byte read beyond its end. */
    char *copy = malloc(length > 0 ? length : 1);
    assert_non_null(copy);
    memcpy(copy, text, length);
    reading_init(reading);
    reading->verdict = config_read_text(&reading->options, "place.conf", copy, length);
    fclose(reading->stream);
    free(copy);
}

static void reading_dispose(struct reading *reading)
{
    options_clear(&program, &reading->place);
    free(reading->errors);
}

static void accepted(struct reading *reading, const char *text)
{
    read_bytes(reading, text, strlen(text));
    if (reading->verdict != SETTINGS_RUN) {
        fail_msg("%s", reading->errors);
    }
    assert_int_equal(reading->errors_length, 0);
}

static void refused(const char *text, const char *line)
{
    struct reading reading;
    read_bytes(&reading, text, strlen(text));
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_string_equal(reading.errors, line);
    reading_dispose(&reading);
}

static void plain_values_read_in_every_notation(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "name = \"Ulm\"; people = 12; lit = on; road = a; road = b",
        "name Ulm\npeople 12\nlit yes\nroad [a, b]\n",
        "name: 'Ulm',\npeople: 12,\r\nlit: true,\nroad: [\n  a, # first\n  \"b\",\n]",
        "{\"name\": \"Ulm\", \"people\": 12, \"lit\": true, \"road\": [\"a\", \"b\"]}",
        "/* here */ name = Ulm; # there\n#people = 13\npeople =\n  12; ;;\nlit = on /**/\n; road = a; road = [b];",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct reading reading;
        accepted(&reading, texts[i]);
        assert_string_equal(reading.place.name, "Ulm");
        assert_int_equal(reading.place.people, 12);
        assert_true(reading.place.lit);
        assert_int_equal(reading.place.road_count, 2);
        assert_string_equal(reading.place.roads[0], "a");
        assert_string_equal(reading.place.roads[1], "b");
        reading_dispose(&reading);
    }
}

static void an_empty_file_changes_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n\n", "# only a comment", "/**/", "{}", " ; "};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct reading reading;
        accepted(&reading, texts[i]);
        assert_int_equal(reading.place.people, 7);
        assert_null(reading.place.name);
        reading_dispose(&reading);
    }
}

static void objects_hand_over_their_parts_and_lines(void **state)
{
    (void)state;
    struct reading reading;
    accepted(&reading, "house = \"old\"\n"
                       "house { number = 1; colour = red }\n"
                       "house \"2\" {\n  colour: 'blue'\n}\n"
                       "house 3 {}\n"
                       "house = [\n{number: 4},\n plain, {colour = \"green\"}]\n");
    assert_string_equal(reading.place.log, "1:old,-,-;2:-,1,red;3:-,2,blue;6:-,3,-;8:-,4,-;9:plain,-,-;9:-,-,green;");
    reading_dispose(&reading);
}

static void quotes_keep_spaces_and_escapes(void **state)
{
    (void)state;
    struct reading reading;
    accepted(&reading, "name = \"a \\\"b\\\" \\\\ \\/ # ; } \\t\\u0041\\u00e4\\u20AC\"");
    assert_string_equal(reading.place.name, "a \"b\" \\ / # ; } \tA\xc3\xa4\xe2\x82\xac");
    reading_dispose(&reading);
    accepted(&reading, "name = 'C:\\new \"x\" ${HOME}'");
    assert_string_equal(reading.place.name, "C:\\new \"x\" ${HOME}");
    reading_dispose(&reading);
}

static void errors_name_file_and_line(void **state)
{
    (void)state;
    refused("name = x\n\n# people = 3\npeople = 65\n", "place.conf:4: people: must be between 1 and 64\n");
    refused("/* 1\n2 */ people = many", "place.conf:2: people: \"many\" is not a whole number\n");
    refused("road = [a,\n\n'',\n]", "place.conf:3: road: must not be empty\n");
    refused("lit = 2\n", "place.conf:1: lit: must be on or off, not \"2\"\n");
    refused("name = a\nname = b\n", "place.conf:2: name: is given before, in line 1\n");
    refused("people = [1, 2]\n", "place.conf:1: people: is given before, in line 1\n");
    refused("name = x\nrod = a\n", "place.conf:2: rod: unknown option; did you mean road?\n");
    refused("mayor = x\n", "place.conf:1: mayor: unknown option (see --help)\n");
}

static void parts_are_checked(void **state)
{
    (void)state;
    refused("house {\n  nummer = 3\n}", "place.conf:2: house: has no part nummer; it has: number, colour\n");
    refused("house {\n number = 3\n number = 4\n}", "place.conf:3: house: number is given twice\n");
    refused("house \"3\" { number = 3 }", "place.conf:1: house: number is given twice\n");
    refused("house { number = '' }", "place.conf:1: house: number must not be empty\n");
    refused("house { number = { a = b } }", "place.conf:1: a value is missing before '{'\n");
    refused("house {\n number = 3\n", "place.conf:1: house: the brace that opens here is not closed\n");
    refused("yard \"3\" { colour = red }", "place.conf:1: yard: takes no title before '{'\n");
    refused("people { a = b }", "place.conf:1: people: takes a plain value, not an object\n");
    refused("name \"x\" { a = b }", "place.conf:1: name: takes no title before '{'\n");
}

static void broken_syntax_is_refused_with_its_line(void **state)
{
    (void)state;
    refused("name", "place.conf:1: name: has no value\n");
    refused("name =", "place.conf:1: name: has no value\n");
    refused("name = ;", "place.conf:1: name: has no value\n");
    refused("name\n= x", "place.conf:1: name: has no value\n");
    refused("name = a b", "place.conf:1: name: unexpected 'b' after the value (quote a value that holds it)\n");
    refused("name = \"a\" { }", "place.conf:1: name: unexpected '{' after the value (quote a value that holds it)\n");
    refused("\nname = \"a\nb\"", "place.conf:2: the quote is not closed on its line\n");
    refused("name = 'a", "place.conf:1: the quote is not closed on its line\n");
    refused("name = \"\\x41\"", "place.conf:1: unknown escape in quotes; '...' needs none\n");
    refused("name = \"\\u00\"", "place.conf:1: unknown escape in quotes; '...' needs none\n");
    refused("name = \"\\u0000\"", "place.conf:1: unknown escape in quotes; '...' needs none\n");
    refused("name = \"\\ud83d\\ude00\"", "place.conf:1: unknown escape in quotes; '...' needs none\n");
    refused("name = \"\\", "place.conf:1: unknown escape in quotes; '...' needs none\n");
    refused("name = a\n/* b\n\n", "place.conf:2: the comment that begins here does not end\n");
    refused("road = [a b]", "place.conf:1: road: a comma or ']' is missing in the list\n");
    refused("road = [a,\n", "place.conf:1: road: the bracket that opens here is not closed\n");
    refused("road = [,]", "place.conf:1: a value is missing before ','\n");
    refused("}", "place.conf:1: unexpected '}' where an option should begin\n");
    refused("{ name = a", "place.conf:1: the file's first '{' is not closed\n");
    refused("{ name = a }\nlit = on", "place.conf:2: nothing may follow the last '}'\n");
    refused("= a", "place.conf:1: unexpected '=' where an option should begin\n");
    refused("'' = a", "place.conf:1: an option's name has letters, digits and dashes only\n");
    refused("\"a\\nb\" = a", "place.conf:1: an option's name has letters, digits and dashes only\n");
    refused("\xff = a", "place.conf:1: unexpected '?' where an option should begin\n");
}

static void nothing_is_included_or_expanded(void **state)
{
    (void)state;
    refused("name = x\n.include \"/etc/passwd\"\n", "place.conf:2: .include: macros are not supported\n");
    struct reading reading;
    accepted(&reading, "name = $HOME; road = \"${PATH}\"");
    assert_string_equal(reading.place.name, "$HOME");
    assert_string_equal(reading.place.roads[0], "${PATH}");
    reading_dispose(&reading);
}

static void what_belongs_on_the_command_line_is_refused(void **state)
{
    (void)state;
    refused("config = other.conf", "place.conf:1: config: stands on the command line only\n");
    refused("check-only = on", "place.conf:1: check-only: stands on the command line only\n");
    refused("help = on", "place.conf:1: help: stands on the command line only\n");
    refused("version = on", "place.conf:1: version: stands on the command line only\n");
}

static void bytes_that_are_not_text_are_refused(void **state)
{
    (void)state;
    struct reading reading;
    read_bytes(&reading, "name = x\nroad = a\0b\n", 20);
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_string_equal(reading.errors, "place.conf:2: a byte 0x00 is not text\n");
    reading_dispose(&reading);
    refused("name = \x1b[31m", "place.conf:1: a byte 0x1b is not text\n");
}

static void a_file_that_is_too_large_is_refused(void **state)
{
    (void)state;
    struct reading reading;
    char *text = malloc(CONFIG_BYTES_MAX + 1);
    assert_non_null(text);
    memset(text, '\n', CONFIG_BYTES_MAX + 1);
    read_bytes(&reading, text, CONFIG_BYTES_MAX);
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    reading_dispose(&reading);
    read_bytes(&reading, text, CONFIG_BYTES_MAX + 1);
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_string_equal(reading.errors, "place.conf:1: the file is larger than 1048576 bytes\n");
    reading_dispose(&reading);
    free(text);
}

static void every_cut_and_every_changed_byte_is_survived(void **state)
{
    (void)state;
    static const char text[] = "{ name = \"U\\u0041\"; /* c */ house \"2\" { colour: 'x' } # d\nroad = [a, 'b'] }";
    char copy[sizeof text];
    for (size_t i = 0; i < sizeof text; i++) {
        struct reading reading;
        read_bytes(&reading, text, i);
        reading_dispose(&reading);
        for (const char *byte = "\"'{}[]=;,#\\*/ \n\xff"; *byte != '\0' && i < sizeof text - 1; byte++) {
            memcpy(copy, text, sizeof text);
            copy[i] = *byte;
            read_bytes(&reading, copy, sizeof text - 1);
            assert_int_equal(reading.verdict == SETTINGS_WRONG, reading.errors_length > 0);
            reading_dispose(&reading);
        }
    }
}

struct file {
    char path[32];
};

static void file_write(struct file *file, const char *text)
{
    strcpy(file->path, "/tmp/config_test.XXXXXX");
    int fd = mkstemp(file->path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void read_with_file(struct reading *reading, const char *path, const char *second, const char *third)
{
    char *argv[] = {(char *)(uintptr_t) "place", (char *)(uintptr_t) "--config", (char *)(uintptr_t)path,
                    (char *)(uintptr_t)second,   (char *)(uintptr_t)third,       NULL};
    reading_init(reading);
    reading->verdict = config_read(&reading->options, third != NULL ? 5 : (second != NULL ? 4 : 3), argv);
    fclose(reading->stream);
}

static void flags_win_over_the_file_and_replace_its_lists(void **state)
{
    (void)state;
    struct reading reading;
    struct file file;
    file_write(&file, "name = Ulm; people = 3; road = [a, b]; house = x");
    read_with_file(&reading, file.path, "--people=4", "--road=c");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_int_equal(reading.place.people, 4);
    assert_string_equal(reading.place.name, "Ulm");
    assert_int_equal(reading.place.road_count, 1);
    assert_string_equal(reading.place.roads[0], "c");
    assert_string_equal(reading.place.log, "1:x,-,-;");
    reading_dispose(&reading);
    read_with_file(&reading, file.path, "--house=y", "--house=z");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_string_equal(reading.place.log, "0:y,-,-;0:z,-,-;");
    reading_dispose(&reading);
    unlink(file.path);
}

static void a_value_is_wrong_where_it_was_given(void **state)
{
    (void)state;
    struct reading reading;
    struct file file;
    char expected[128];
    file_write(&file, "name = Ulm;\npeople = 3;");
    reading_init(&reading);
    assert_int_equal(config_read_file(&reading.options, file.path), SETTINGS_RUN);
    assert_int_equal(options_wrong(&reading.options, "people", "too %s", "few"), SETTINGS_WRONG);
    assert_int_equal(options_wrong(&reading.options, "lit", "too dark"), SETTINGS_WRONG);
    fclose(reading.stream);
    snprintf(expected, sizeof expected, "%s:2: people: too few\nplace: --lit: too dark\n", file.path);
    assert_string_equal(reading.errors, expected);
    reading_dispose(&reading);
    unlink(file.path);
}

static void a_file_that_cannot_be_read_is_named(void **state)
{
    (void)state;
    struct reading reading;
    read_with_file(&reading, "/nonexistent/place.conf", NULL, NULL);
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_string_equal(reading.errors,
                        "place: --config: cannot read \"/nonexistent/place.conf\": No such file or directory\n");
    reading_dispose(&reading);
    read_with_file(&reading, "/tmp", NULL, NULL);
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_string_equal(reading.errors, "place: --config: cannot read \"/tmp\": Is a directory\n");
    reading_dispose(&reading);
}

static void a_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
    (void)state;
    uint64_t faults = 1;
    struct file file;
    file_write(&file, "name = Ulm; road = [a, b]; house 3 { colour = red }");
    for (uint64_t nth = 1; faults != 0; nth++) {
        struct reading reading;
        assert_true(nth < 100);
        memory_fail_at(nth);
        read_with_file(&reading, file.path, "--road=c", NULL);
        faults = memory_faults();
        memory_fail_at(0);
        assert_int_equal(reading.verdict, faults != 0 ? SETTINGS_WRONG : SETTINGS_RUN);
        assert_int_equal(strstr(reading.errors, "out of memory\n") != NULL, faults != 0);
        reading_dispose(&reading);
    }
    unlink(file.path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_values_read_in_every_notation),
        cmocka_unit_test(an_empty_file_changes_nothing),
        cmocka_unit_test(objects_hand_over_their_parts_and_lines),
        cmocka_unit_test(quotes_keep_spaces_and_escapes),
        cmocka_unit_test(errors_name_file_and_line),
        cmocka_unit_test(parts_are_checked),
        cmocka_unit_test(broken_syntax_is_refused_with_its_line),
        cmocka_unit_test(nothing_is_included_or_expanded),
        cmocka_unit_test(what_belongs_on_the_command_line_is_refused),
        cmocka_unit_test(bytes_that_are_not_text_are_refused),
        cmocka_unit_test(a_file_that_is_too_large_is_refused),
        cmocka_unit_test(every_cut_and_every_changed_byte_is_survived),
        cmocka_unit_test(flags_win_over_the_file_and_replace_its_lists),
        cmocka_unit_test(a_value_is_wrong_where_it_was_given),
        cmocka_unit_test(a_file_that_cannot_be_read_is_named),
        cmocka_unit_test(a_failed_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
