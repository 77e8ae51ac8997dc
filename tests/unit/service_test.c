/* The registry of services: set-up, look-up by :authority, and every way in which a set-up can be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/service.h"
#include "mux/memory.h"

static int setups;
static int teardowns;
static int teardown_order[8];

static const char *counting_setup(const char *argument, void **service)
{
    if (strcmp(argument, "bad") == 0) {
        return "this argument is bad";
    }
    if (strcmp(argument, "bad-with-text") == 0) {
        char *text = malloc(32);

        assert_non_null(text);
        strcpy(text, "told from memory");
        *service = text;
        return text;
    }
    setups++;
    *service = NULL;
    return NULL;
}

static void counting_teardown(void *service)
{
    teardown_order[teardowns % 8] = service != NULL;
    teardowns++;
    free(service);
}

static void no_open(trunkline_session *session, void *service)
{
    (void)session;
    (void)service;
}

static const trunkline_handler counting = {
    .abi = TRUNKLINE_ABI,
    .name = "counting",
    .setup = counting_setup,
    .teardown = counting_teardown,
    .open = no_open,
};
static const trunkline_handler foreign = {.abi = TRUNKLINE_ABI + 1, .name = "foreign", .open = no_open};
static const trunkline_handler hollow = {.abi = TRUNKLINE_ABI, .name = "hollow"};
static const trunkline_handler own_echo = {.abi = TRUNKLINE_ABI, .name = "echo", .open = no_open};
static const trunkline_handler *const handlers[] = {&counting, &foreign, &hollow};

static struct core_services services;
static struct core_service_fault fault;

/* Texts of settings are not constant: they belong to whoever read them. */
static char *text_of(const char *text)
{
    return (char *)(uintptr_t)text;
}

static enum error_code set_up(const char *const (*rows)[3], size_t count)
{
    struct core_service_settings settings[8];

    setups = 0;
    teardowns = 0;
    assert_true(count <= 8);
    for (size_t i = 0; i < count; i++) {
        settings[i] = (struct core_service_settings){
            .name = text_of(rows[i][0]), .handler = text_of(rows[i][1]), .argument = text_of(rows[i][2])};
    }
    return core_services_setup(&services, settings, count, handlers, 3, &fault);
}

static void a_service_is_found_by_its_whole_name_or_without_a_port(void **state)
{
    static const char *const rows[][3] = {
        {"web", "counting", ""}, {"web:8443", "counting", ""}, {"a.example", "echo", ""}, {"webb", "echo", ""}};

    (void)state;
    assert_int_equal(set_up(rows, 4), ERROR_NONE);
    assert_string_equal(core_service_find(&services, "web")->name, "web");
    assert_string_equal(core_service_find(&services, "web:443")->name, "web");
    assert_string_equal(core_service_find(&services, "web:8443")->name, "web:8443");
    assert_string_equal(core_service_find(&services, "webb")->name, "webb");
    assert_string_equal(core_service_find(&services, "a.example:1")->name, "a.example");
    assert_null(core_service_find(&services, "we"));
    assert_null(core_service_find(&services, "webbb"));
    assert_null(core_service_find(&services, "web:"));
    assert_null(core_service_find(&services, "web:x"));
    assert_null(core_service_find(&services, "web:443:443"));
    assert_null(core_service_find(&services, ""));
    assert_null(core_service_find(&services, ":443"));
    core_services_dispose(&services);
    assert_int_equal(setups, 2);
    assert_int_equal(teardowns, 2);
}

static void a_handler_of_the_program_goes_before_one_that_is_built_in(void **state)
{
    char name[] = "x";
    char handler[] = "echo";
    struct core_service_settings settings = {.name = name, .handler = handler};
    const trunkline_handler *const own[] = {&own_echo};

    (void)state;
    assert_int_equal(core_services_setup(&services, &settings, 1, own, 1, &fault), ERROR_NONE);
    assert_ptr_equal(core_service_find(&services, "x")->handler, &own_echo);
    core_services_dispose(&services);
}

static void what_cannot_be_set_up_is_named_in_the_fault(void **state)
{
    static const struct {
        const char *row[3];
        const char *says;
    } cases[] = {
        {{"a", "nothing", ""}, "service a: no handler named nothing"},
        {{"a", "counting", "bad"}, "service a: counting: this argument is bad"},
        {{"a", "counting", "bad-with-text"}, "service a: counting: told from memory"},
        {{"a", "foreign", ""}, "interface 3"},
        {{"a", "hollow", ""}, "hollow has no open function"},
        {{"a", "plugin", ""}, "the name of a shared object is missing"},
        {{"a", "plugin", "/nonexistent/x.so:arg"}, "/nonexistent/x.so"},
        {{"a", "forward", ""}, "where to is missing"},
        {{"a", "forward", "127.0.0.1"}, "expected HOST:PORT"},
        {{"a", "forward", "127.0.0.1:0"}, "expected HOST:PORT"},
        {{"a", "forward", "127.0.0.1:65536"}, "expected HOST:PORT"},
        {{"a", "forward", "::1:80"}, "brackets"},
        {{"a", "forward", "unix:relative"}, "absolute"},
        {{"a", "forward", "127.0.0.1:80,proxy-v3"}, "proxy-v3"},
        {{"a", "forward", "127.0.0.1:80,connect-timeout=0"}, "between 1 and 600000"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *const rows[2][3] = {{"first", "counting", ""}, {cases[i].row[0], cases[i].row[1], cases[i].row[2]}};

        assert_int_equal(set_up(rows, 2), ERROR_CONFIGURATION);
        assert_non_null(strstr(fault.text, cases[i].says));
        assert_int_equal(setups, 1);
        assert_int_equal(teardown_order[teardowns - 1], 0); /* the first service was undone, as the last thing */
        assert_int_equal(services.count, 0);
    }
}

static void a_name_given_twice_is_refused(void **state)
{
    static const char *const rows[][3] = {{"a", "counting", ""}, {"b", "counting", ""}, {"a", "echo", ""}};

    (void)state;
    assert_int_equal(set_up(rows, 3), ERROR_CONFIGURATION);
    assert_string_equal(fault.text, "service a: named twice");
    assert_int_equal(setups, teardowns);
}

static void forward_takes_its_forms_of_address(void **state)
{
    static const char *const rows[][3] = {
        {"a", "forward", "127.0.0.1:80"},
        {"b", "forward", "[::1]:80,proxy-v2"},
        {"c", "forward", "unix:/tmp/x.sock,connect-timeout=100,proxy-v2"},
        {"d", "forward", "localhost:80"},
    };

    (void)state;
    assert_int_equal(set_up(rows, 4), ERROR_NONE);
    core_services_dispose(&services);
}

static void memory_that_runs_out_leaves_nothing_behind(void **state)
{
    static const char *const rows[][3] = {{"a", "counting", ""}, {"b", "counting", ""}};
    uint64_t failed = 1;

    (void)state;
    for (uint64_t nth = 1; failed > 0; nth++) {
        enum error_code error;

        memory_fail_at(nth);
        error = set_up(rows, 2);
        failed = memory_faults();
        memory_fail_at(0);
        assert_int_equal(error, failed > 0 ? ERROR_NO_MEMORY : ERROR_NONE);
        if (error == ERROR_NONE) {
            assert_true(nth > 3);
            core_services_dispose(&services);
        }
        assert_int_equal(setups, teardowns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_service_is_found_by_its_whole_name_or_without_a_port),
        cmocka_unit_test(a_handler_of_the_program_goes_before_one_that_is_built_in),
        cmocka_unit_test(what_cannot_be_set_up_is_named_in_the_fault),
        cmocka_unit_test(a_name_given_twice_is_refused),
        cmocka_unit_test(forward_takes_its_forms_of_address),
        cmocka_unit_test(memory_that_runs_out_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
