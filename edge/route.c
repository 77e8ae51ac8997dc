/* Routes: see route.h. Owns nothing. */
#include "edge/route.h"

#include <string.h>
#include <strings.h>

bool route_name_matches(const char *pattern, const char *server_name)
{
    if (pattern[0] != '*' || pattern[1] != '.') {
        return strcasecmp(pattern, server_name) == 0;
    }
    const char *dot = strchr(server_name, '.');
    return dot != NULL && dot != server_name && strcasecmp(pattern + 1, dot) == 0;
}

const char *route_listener_name(const struct edge_settings *settings, size_t listener)
{
    const struct edge_listen_settings *listen = &settings->listens[listener];
    return listen->name != NULL ? listen->name : listen->address;
}

static bool route_matches(const struct edge_settings *settings, const struct edge_route_settings *route,
                          size_t listener, const char *server_name, const char *alpn)
{
    if (route->listener != NULL && strcmp(route->listener, route_listener_name(settings, listener)) != 0) {
        return false;
    }
    if (route->server_name != NULL && !route_name_matches(route->server_name, server_name)) {
        return false;
    }
    return route->alpn == NULL || strcmp(route->alpn, alpn) == 0;
}

const char *route_find(const struct edge_settings *settings, size_t listener, const char *server_name, const char *alpn)
{
    for (size_t i = 0; i < settings->route_count; i++) {
        if (route_matches(settings, &settings->routes[i], listener, server_name, alpn)) {
            return settings->routes[i].service;
        }
    }
    return settings->service;
}

static bool route_listener_exists(const struct edge_settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->listen_count; i++) {
        if (strcmp(route_listener_name(settings, i), name) == 0) {
            return true;
        }
    }
    return false;
}

enum error_code route_check(const struct edge_settings *settings, size_t *route)
{
    for (size_t i = 0; i < settings->route_count; i++) {
        const char *listener = settings->routes[i].listener;
        if (listener != NULL && !route_listener_exists(settings, listener)) {
            *route = i;
            return ERROR_CONFIGURATION;
        }
    }
    return ERROR_NONE;
}
