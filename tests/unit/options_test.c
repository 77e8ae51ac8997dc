/* The option table's reader: kinds, bounds, messages, help. One thread, no files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/address.h"
#include "mux/memory.h"
#include "mux/options.h"

struct fruit {
    char *name;
    char **colours;
    size_t colour_count;
    uint32_t count;
    uint32_t weight_bytes;
    uint32_t ripening_ms;
    int taste;
    bool peeled;
    bool check_only;
    char *item;
};

static const char *const tastes[] = {"sweet", "sour", "bitter", NULL};
static const char *const item_parts[] = {"one", "two", NULL};

static enum error_code take_item(void *settings, const struct option_value *value, struct option_fault *fault)
{
    struct fruit *fruit = settings;
    if (strcmp(value->text, "bad") == 0) {
        option_fault_set(fault, "is bad");
        return ERROR_CONFIGURATION;
    }
    return option_text_copy(&fruit->item, value->text);
}

static void clear_item(void *settings)
{
    struct fruit *fruit = settings;
    memory_free(fruit->item);
    fruit->item = NULL;
}

#define FIELD(name_) offsetof(struct fruit, name_)

static const struct option rows[] = {
    {.name = "name",
     .kind = OPTION_TEXT,
     .group = "Fruit",
     .value_name = "NAME",
     .help = "its name",
     .required = true,
     .offset = FIELD(name),
     .check = option_check_name},
    {.name = "colour",
     .kind = OPTION_TEXTS,
     .value_name = "COLOUR",
     .help = "its colours",
     .offset = FIELD(colours),
     .count_offset = FIELD(colour_count)},
    {.name = "count",
     .kind = OPTION_COUNT,
     .value_name = "NUMBER",
     .help = "how many",
     .offset = FIELD(count),
     .minimum = 1,
     .maximum = 64,
     .preset = 7},
    {.name = "weight",
     .kind = OPTION_SIZE,
     .value_name = "SIZE",
     .help = "how heavy",
     .offset = FIELD(weight_bytes),
     .minimum = 1024,
     .maximum = UINT32_MAX,
     .preset = 65536},
    {.name = "ripening",
     .kind = OPTION_DURATION,
     .value_name = "DURATION",
     .help = "how long",
     .offset = FIELD(ripening_ms),
     .minimum = 0,
     .maximum = 86400000,
     .preset = 1500},
    {.name = "taste",
     .kind = OPTION_CHOICE,
     .value_name = "TASTE",
     .help = "of what taste",
     .offset = FIELD(taste),
     .choices = tastes,
     .preset = 1},
    {.name = "peeled",
     .kind = OPTION_SWITCH,
     .value_name = "on|off",
     .help = "without its peel",
     .offset = FIELD(peeled),
     .preset = 1},
    {.name = "item",
     .kind = OPTION_ITEM,
     .value_name = "ITEM",
     .help = "an item",
     .parts = item_parts,
     .take = take_item,
     .clear = clear_item},
    {.name = "config", .kind = OPTION_CONFIG, .value_name = "FILE", .help = "a file"},
    {.name = "check-only", .kind = OPTION_FLAG, .help = "only a check", .offset = FIELD(check_only)},
    {.name = "version", .kind = OPTION_VERSION, .help = "the version"},
    {.name = "help", .kind = OPTION_HELP, .help = "this page"},
};

static const struct option_program program = {
    .name = "fruit",
    .synopsis = "fruit --name NAME",
    .summary = "Describes a fruit.",
    .epilogue = "  fruit --name apple\n",
    .options = rows,
    .option_count = sizeof rows / sizeof *rows,
};

struct reading {
    struct fruit fruit;
    struct options options;
    const char *config;
    char *output;
    size_t output_length;
    char *errors;
    size_t errors_length;
    enum settings_verdict verdict;
};

static void read_arguments(struct reading *reading, const char *const *words)
{
    char *argv[32] = {(char *)(uintptr_t) "fruit"};
    int argc = 1;
    for (; words[argc - 1] != NULL; argc++) {
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
    }
    memset(reading, 0, sizeof *reading);
    FILE *output = open_memstream(&reading->output, &reading->output_length);
    FILE *errors = open_memstream(&reading->errors, &reading->errors_length);
    assert_non_null(output);
    assert_non_null(errors);
    options_init(&reading->options, &program, &reading->fruit, output, errors);
    reading->verdict = options_scan_arguments(&reading->options, argc, argv, &reading->config);
    if (reading->verdict == SETTINGS_RUN) {
        reading->verdict = options_take_arguments(&reading->options, argc, argv);
    }
    if (reading->verdict == SETTINGS_RUN) {
        reading->verdict = options_require(&reading->options);
    }
    fclose(output);
    fclose(errors);
}

static void reading_dispose(struct reading *reading)
{
    options_clear(&program, &reading->fruit);
    free(reading->output);
    free(reading->errors);
}

#define READ(reading_, ...) read_arguments((reading_), (const char *const[]){__VA_ARGS__, NULL})

static void assert_refused(const char *const *words, const char *line)
{
    struct reading reading;
    read_arguments(&reading, words);
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_string_equal(reading.errors, line);
    reading_dispose(&reading);
}

#define REFUSED(line_, ...) assert_refused((const char *const[]){__VA_ARGS__, NULL}, (line_))

static void defaults_hold_without_arguments(void **state)
{
    (void)state;
    struct reading reading;
    READ(&reading, "--name", "apple");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_string_equal(reading.fruit.name, "apple");
    assert_int_equal(reading.fruit.count, 7);
    assert_int_equal(reading.fruit.weight_bytes, 65536);
    assert_int_equal(reading.fruit.ripening_ms, 1500);
    assert_int_equal(reading.fruit.taste, 1);
    assert_true(reading.fruit.peeled);
    assert_false(reading.fruit.check_only);
    assert_int_equal(reading.errors_length, 0);
    assert_true(options_given(&reading.options, "name"));
    assert_false(options_given(&reading.options, "count"));
    reading_dispose(&reading);
}

static void every_kind_reads_its_value_in_both_forms(void **state)
{
    (void)state;
    struct reading reading;
    READ(&reading, "--name=pear", "--colour", "green", "--colour=yellow=ish", "--count=64", "--weight", "4m",
         "--ripening=2h", "--taste", "bitter", "--peeled=off", "--item", "core", "--check-only", "--config=f.conf");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_string_equal(reading.fruit.name, "pear");
    assert_int_equal(reading.fruit.colour_count, 2);
    assert_string_equal(reading.fruit.colours[0], "green");
    assert_string_equal(reading.fruit.colours[1], "yellow=ish");
    assert_int_equal(reading.fruit.count, 64);
    assert_int_equal(reading.fruit.weight_bytes, 4U << 20);
    assert_int_equal(reading.fruit.ripening_ms, 7200000);
    assert_int_equal(reading.fruit.taste, 2);
    assert_false(reading.fruit.peeled);
    assert_true(reading.fruit.check_only);
    assert_string_equal(reading.fruit.item, "core");
    assert_string_equal(reading.config, "f.conf");
    reading_dispose(&reading);
}

static void the_last_of_a_plain_option_wins(void **state)
{
    (void)state;
    struct reading reading;
    READ(&reading, "--name", "a", "--name", "b", "--count", "2", "--count", "3");
    assert_int_equal(reading.verdict, SETTINGS_RUN);
    assert_string_equal(reading.fruit.name, "b");
    assert_int_equal(reading.fruit.count, 3);
    reading_dispose(&reading);
}

static void units_scale_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t value;
    } sizes[] = {{"1024", 1024},  {"64K", 65536},     {"64k", 65536},
                 {"3M", 3145728}, {"1G", 1073741824}, {"4294967295", UINT32_MAX}},
      durations[] = {{"0", 0}, {"250ms", 250}, {"10s", 10000}, {"5m", 300000}, {"24h", 86400000}};
    struct reading reading;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        READ(&reading, "--name=x", "--weight", sizes[i].text);
        assert_int_equal(reading.verdict, SETTINGS_RUN);
        assert_int_equal(reading.fruit.weight_bytes, sizes[i].value);
        reading_dispose(&reading);
    }
    for (size_t i = 0; i < sizeof durations / sizeof *durations; i++) {
        READ(&reading, "--name=x", "--ripening", durations[i].text);
        assert_int_equal(reading.verdict, SETTINGS_RUN);
        assert_int_equal(reading.fruit.ripening_ms, durations[i].value);
        reading_dispose(&reading);
    }
}

static void wrong_numbers_are_refused_by_name(void **state)
{
    (void)state;
    REFUSED("fruit: --count: \"zero\" is not a whole number\n", "--count", "zero");
    REFUSED("fruit: --count: \"\" is not a whole number\n", "--count", "");
    REFUSED("fruit: --count: \"-1\" is not a whole number\n", "--count", "-1");
    REFUSED("fruit: --count: \"1.5\" is not a whole number\n", "--count", "1.5");
    REFUSED("fruit: --count: \" 1\" is not a whole number\n", "--count", " 1");
    REFUSED("fruit: --count: \"1K\" is not a whole number\n", "--count", "1K");
    REFUSED("fruit: --count: must be between 1 and 64\n", "--count", "0");
    REFUSED("fruit: --count: must be between 1 and 64\n", "--count", "65");
    REFUSED("fruit: --count: must be between 1 and 64\n", "--count", "18446744073709551617");
    REFUSED("fruit: --weight: must be between 1K and 4294967295\n", "--weight", "1023");
    REFUSED("fruit: --weight: must be between 1K and 4294967295\n", "--weight", "4G");
    REFUSED("fruit: --weight: must be between 1K and 4294967295\n", "--weight", "99999999999999999999G");
    REFUSED("fruit: --weight: \"1T\" is not a size: give bytes, or a number with K, M or G\n", "--weight", "1T");
    REFUSED("fruit: --ripening: \"10\" is not a duration: give a number with ms, s, m or h\n", "--ripening", "10");
    REFUSED("fruit: --ripening: \"ms\" is not a duration: give a number with ms, s, m or h\n", "--ripening", "ms");
    REFUSED("fruit: --ripening: must be between 0 and 24h\n", "--ripening", "25h");
}

static void wrong_words_are_refused_by_name(void **state)
{
    (void)state;
    REFUSED("fruit: --taste: must be sweet, sour or bitter, not \"salty\"\n", "--taste", "salty");
    REFUSED("fruit: --peeled: must be on or off, not \"maybe\"\n", "--peeled", "maybe");
    REFUSED("fruit: --name: must not be empty\n", "--name", "");
    REFUSED("fruit: --colour: must not be empty\n", "--colour=");
    REFUSED("fruit: --name: \"a b\" is not a name: 1 to 255 visible ASCII characters without spaces\n", "--name",
            "a b");
    REFUSED("fruit: --item: is bad\n", "--item", "bad");
    REFUSED("fruit: --check-only: takes no value\n", "--check-only=yes");
    REFUSED("fruit: --config: is given twice\n", "--config", "a", "--config", "b");
    REFUSED("fruit: --config: must not be empty\n", "--config=");
}

static void the_shape_of_the_command_line_is_checked(void **state)
{
    (void)state;
    REFUSED("fruit: --count: needs a value: NUMBER\n", "--count");
    REFUSED("fruit: --count: needs a value: NUMBER\n", "--count", "--name", "x");
    REFUSED("fruit: \"apple\" is not an option (see --help)\n", "apple");
    REFUSED("fruit: \"-c\" is not an option (see --help)\n", "-c");
    REFUSED("fruit: \"--\" is not an option (see --help)\n", "--");
    REFUSED("fruit: --name NAME is missing: its name (see --help)\n", "--count", "2");
}

static void an_unknown_option_suggests_the_nearest(void **state)
{
    (void)state;
    REFUSED("fruit: unknown option --color; did you mean --colour? (see --help)\n", "--color", "red");
    REFUSED("fruit: unknown option --wieght; did you mean --weight? (see --help)\n", "--wieght=2K");
    REFUSED("fruit: unknown option \"--vegetable\" (see --help)\n", "--vegetable");
    REFUSED("fruit: unknown option \"--a\" (see --help)\n", "--a");
}

static void hostile_text_is_clipped_and_made_visible(void **state)
{
    (void)state;
    char quoted[OPTION_QUOTED_MAX];
    char text[300];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_string_equal(option_quote("a\nb\x1b[1m\x7f", quoted), "\"a?b?[1m?\"");
    assert_int_equal(strlen(option_quote(text, quoted)), OPTION_QUOTED_MAX - 1);
    assert_string_equal(quoted + OPTION_QUOTED_MAX - 5, "...\"");
    struct reading reading;
    READ(&reading, "--taste", text);
    assert_int_equal(reading.verdict, SETTINGS_WRONG);
    assert_true(reading.errors_length < 200);
    reading_dispose(&reading);
}

static void addresses_are_checked_without_resolving(void **state)
{
    (void)state;
    static const char *const good[] = {"192.0.2.1:443", "0.0.0.0:0",         "[::]:443",        "[2001:db8::1]:65535",
                                       "localhost:443", "core-1.example:80", "unix:/run/x.sock"};
    static const char *const bad[] = {
        "",           "443",     ":443",  "192.0.2.1", "192.0.2.300:1", "[::g]:443",     "::1:443", "[::1]",
        "host:65536", "host:-1", "host:", "host:4x",   "ho st:443",     "[192.0.2.1]:4", "unix:",   "host:000000443"};
    struct option_fault fault;
    struct address address;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(option_check_listen_address(good[i], &fault));
        /* What is numeric here is numeric for those who use it. */
        bool name = strncmp(good[i], "localhost", 9) == 0 || strncmp(good[i], "core", 4) == 0;
        assert_int_equal(address_parse(good[i], false, &address), name ? ERROR_INVALID : ERROR_NONE);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fault.text[0] = '\0';
        assert_false(option_check_listen_address(bad[i], &fault));
        assert_int_not_equal(fault.text[0], '\0');
        assert_int_equal(address_parse(bad[i], false, &address), ERROR_INVALID);
    }
    assert_false(option_check_peer_address("host:0", &fault));
    assert_true(option_check_peer_address("host:1", &fault));
    char path[120] = "unix:/";
    memset(path + 6, 'p', 106);
    assert_true(option_check_peer_address(path, &fault));
    path[112] = 'p';
    assert_false(option_check_peer_address(path, &fault));
}

static void names_have_at_most_255_visible_bytes(void **state)
{
    (void)state;
    struct option_fault fault;
    char name[257];
    memset(name, 'n', 256);
    name[256] = '\0';
    assert_false(option_check_name(name, &fault));
    assert_true(option_check_name(name + 1, &fault));
    assert_false(option_check_name("", &fault));
    assert_false(option_check_name("na\xc3\xafve", &fault));
    assert_false(option_check_name("tab\t", &fault));
}

static void parts_are_split_at_commas(void **state)
{
    (void)state;
    struct option_fault fault;
    const char *parts[OPTION_PARTS_MAX] = {NULL};
    char good[] = "two=b=c,one=a";
    assert_true(option_parts_split(good, item_parts, parts, &fault));
    assert_string_equal(parts[0], "a");
    assert_string_equal(parts[1], "b=c");
    static const char *const bad[] = {"", "one", "one=a,", "three=c", "one=a,one=b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char copy[32];
        snprintf(copy, sizeof copy, "%s", bad[i]);
        memset(parts, 0, sizeof parts);
        assert_false(option_parts_split(copy, item_parts, parts, &fault));
    }
}

static void help_names_every_option_within_80_columns(void **state)
{
    (void)state;
    struct reading reading;
    READ(&reading, "--help", "--nonsense");
    assert_int_equal(reading.verdict, SETTINGS_DONE);
    assert_int_equal(reading.errors_length, 0);
    for (size_t i = 0; i < program.option_count; i++) {
        char name[64];
        snprintf(name, sizeof name, "  --%s", rows[i].name);
        assert_non_null(strstr(reading.output, name));
    }
    assert_non_null(strstr(reading.output, "how many (default: 7)"));
    assert_non_null(strstr(reading.output, "how heavy (default: 64K)"));
    assert_non_null(strstr(reading.output, "how long (default: 1500ms)"));
    assert_non_null(strstr(reading.output, "of what taste (default: sour)"));
    assert_non_null(strstr(reading.output, "without its peel (default: on)"));
    for (const char *line = reading.output; *line != '\0'; line += strcspn(line, "\n") + 1) {
        assert_true(strcspn(line, "\n") < 80);
        assert_int_not_equal(line[strcspn(line, "\n")], '\0');
    }
    assert_null(strchr(reading.output, '\x01'));
    reading_dispose(&reading);
}

static void version_is_the_name_and_the_number(void **state)
{
    (void)state;
    struct reading reading;
    READ(&reading, "--version");
    assert_int_equal(reading.verdict, SETTINGS_DONE);
    assert_string_equal(reading.output, "fruit " TRUNKLINE_VERSION "\n");
    reading_dispose(&reading);
}

static void a_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
    (void)state;
    uint64_t faults = 1;
    for (uint64_t nth = 1; faults != 0; nth++) {
        struct reading reading;
        assert_true(nth < 100);
        memory_fail_at(nth);
        READ(&reading, "--name", "a", "--name", "b", "--colour", "c", "--colour", "d", "--item", "e");
        faults = memory_faults();
        memory_fail_at(0);
        assert_int_equal(reading.verdict, faults != 0 ? SETTINGS_WRONG : SETTINGS_RUN);
        assert_int_equal(strstr(reading.errors, ": out of memory\n") != NULL, faults != 0);
        reading_dispose(&reading);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold_without_arguments),
        cmocka_unit_test(every_kind_reads_its_value_in_both_forms),
        cmocka_unit_test(the_last_of_a_plain_option_wins),
        cmocka_unit_test(units_scale_numbers),
        cmocka_unit_test(wrong_numbers_are_refused_by_name),
        cmocka_unit_test(wrong_words_are_refused_by_name),
        cmocka_unit_test(the_shape_of_the_command_line_is_checked),
        cmocka_unit_test(an_unknown_option_suggests_the_nearest),
        cmocka_unit_test(hostile_text_is_clipped_and_made_visible),
        cmocka_unit_test(addresses_are_checked_without_resolving),
        cmocka_unit_test(names_have_at_most_255_visible_bytes),
        cmocka_unit_test(parts_are_split_at_commas),
        cmocka_unit_test(help_names_every_option_within_80_columns),
        cmocka_unit_test(version_is_the_name_and_the_number),
        cmocka_unit_test(a_failed_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
