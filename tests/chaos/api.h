/*
 * The HTTP API, compatible with that of Toxiproxy 2: proxies and toxics as JSON, and metrics as text for Prometheus.
 * libmicrohttpd runs within the loop: its epoll descriptor is one of the loop's sources. One thread.
 */
#ifndef CHAOS_API_H
#define CHAOS_API_H

#include "mux/address.h"
#include "tests/chaos/registry.h"

struct api;

/* Listens on `address`. ERROR_NO_MEMORY, ERROR_SYSTEM, and those of socket_listen. *bound is where it listens. */
enum error_code api_new(struct registry *registry, const struct address *address, struct api **api,
                        struct address *bound);
void api_free(struct api **api);

/* The text of /metrics, memory of malloc; NULL when memory is out. In metrics.c. */
char *metrics_text(const struct registry *registry, size_t *length);

#endif
