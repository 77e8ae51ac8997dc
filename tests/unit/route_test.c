/* Routes: which service a client gets. */
#include "edge/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static char first_address[] = "192.0.2.1:443";
static char second_address[] = "192.0.2.1:8883";
static char second_name[] = "mqtt";
static char web[] = "web";
static char chat[] = "chat";
static char broker[] = "broker";
static char wildcard[] = "*.chat.example.com";
static char exact[] = "www.example.com";
static char h2[] = "h2";

static struct edge_listen_settings listens[] = {{first_address, NULL}, {second_address, second_name}};
static struct edge_route_settings routes[] = {
    {second_name, NULL, NULL, broker},
    {NULL, wildcard, NULL, chat},
    {first_address, exact, h2, web},
};

static struct edge_settings settings_make(char *service)
{
    return (struct edge_settings){
        .listens = listens, .listen_count = 2, .routes = routes, .route_count = 3, .service = service};
}

static void a_wildcard_stands_for_exactly_one_label(void **state)
{
    (void)state;
    assert_true(route_name_matches("*.example.com", "a.example.com"));
    assert_true(route_name_matches("*.example.com", "A.EXAMPLE.COM"));
    assert_false(route_name_matches("*.example.com", "a.b.example.com"));
    assert_false(route_name_matches("*.example.com", "example.com"));
    assert_false(route_name_matches("*.example.com", ".example.com"));
    assert_false(route_name_matches("*.example.com", ""));
    assert_false(route_name_matches("*.example.com", "a.example.org"));
}

static void a_name_matches_itself_in_either_case(void **state)
{
    (void)state;
    assert_true(route_name_matches("www.example.com", "WWW.example.com"));
    assert_false(route_name_matches("www.example.com", "ww.example.com"));
    assert_false(route_name_matches("*", "www.example.com"));
}

static void the_first_route_that_matches_decides(void **state)
{
    struct edge_settings settings = settings_make(NULL);
    (void)state;
    assert_string_equal(route_find(&settings, 1, "a.chat.example.com", ""), "broker");
    assert_string_equal(route_find(&settings, 0, "a.chat.example.com", ""), "chat");
}

static void every_given_part_must_match(void **state)
{
    struct edge_settings settings = settings_make(NULL);
    (void)state;
    assert_string_equal(route_find(&settings, 0, "www.example.com", "h2"), "web");
    assert_null(route_find(&settings, 0, "www.example.com", "http/1.1"));
    assert_null(route_find(&settings, 0, "other.example.com", "h2"));
}

static void the_default_service_takes_the_rest(void **state)
{
    struct edge_settings settings = settings_make(web);
    (void)state;
    assert_string_equal(route_find(&settings, 0, "", ""), "web");
    assert_string_equal(route_find(&settings, 1, "", ""), "broker");
}

static void a_listener_without_a_name_is_known_by_its_address(void **state)
{
    struct edge_settings settings = settings_make(NULL);
    (void)state;
    assert_string_equal(route_listener_name(&settings, 0), first_address);
    assert_string_equal(route_listener_name(&settings, 1), "mqtt");
}

static void a_route_of_an_unknown_listener_is_found(void **state)
{
    struct edge_settings settings = settings_make(NULL);
    static char nowhere[] = "nowhere";
    struct edge_route_settings wrong[] = {{NULL, exact, NULL, web}, {nowhere, NULL, NULL, web}};
    size_t route = 9;
    (void)state;
    assert_int_equal(route_check(&settings, &route), ERROR_NONE);
    settings.routes = wrong;
    settings.route_count = 2;
    assert_int_equal(route_check(&settings, &route), ERROR_CONFIGURATION);
    assert_int_equal(route, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wildcard_stands_for_exactly_one_label),
        cmocka_unit_test(a_name_matches_itself_in_either_case),
        cmocka_unit_test(the_first_route_that_matches_decides),
        cmocka_unit_test(every_given_part_must_match),
        cmocka_unit_test(the_default_service_takes_the_rest),
        cmocka_unit_test(a_listener_without_a_name_is_known_by_its_address),
        cmocka_unit_test(a_route_of_an_unknown_listener_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
