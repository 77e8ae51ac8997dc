/*
 * Which service a client gets, from the listener that it came to and what its TLS handshake told. Pure functions of
 * the settings. Any thread.
 */
#ifndef EDGE_ROUTE_H
#define EDGE_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "edge/settings.h"

/* The service of the first route whose every given part matches; the default service when none does; NULL when there
 * is no default. `listener` is an index into settings->listens; texts are never NULL ("" when the client sent none).
 * The text belongs to the settings. */
const char *route_find(const struct edge_settings *settings, size_t listener, const char *server_name,
                       const char *alpn);

/* True when the name equals the pattern, letters of either case; "*.example.com" stands for exactly one label before
 * ".example.com" (as RFC 6125 section 6.4.3). */
bool route_name_matches(const char *pattern, const char *server_name);

/* The name that routes know a listener by: its own, or else its address. */
const char *route_listener_name(const struct edge_settings *settings, size_t listener);

/* ERROR_CONFIGURATION when a route names a listener that does not exist; *route is its index then. */
enum error_code route_check(const struct edge_settings *settings, size_t *route);

#endif
