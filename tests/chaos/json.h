/* Proxies and toxics as JSON, as Toxiproxy's clients write and read them. No I/O. One thread. */
#ifndef CHAOS_JSON_H
#define CHAOS_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "mux/error.h"
#include "mux/options.h"
#include "tests/chaos/toxic.h"

#define JSON_BYTES_MAX 1048576U /* of a request's body, and of a configuration file */

/* What a proxy is to be. */
struct proxy_spec {
    char *name;
    char *listen;
    char *upstream;
    bool enabled;
    bool toxics_given; /* its toxics become those of the list; otherwise they stay as they are */
    struct list toxics;
};

void proxy_spec_init(struct proxy_spec *spec);
void proxy_spec_dispose(struct proxy_spec *spec);

/* All: ERROR_NONE, ERROR_CONFIGURATION (`fault` is filled) or ERROR_NO_MEMORY. What is not given stays as it is. */
enum error_code json_read_proxy(const json_t *json, struct proxy_spec *spec, struct option_fault *fault);

/* A new toxic; `json` names its type. */
enum error_code json_read_toxic(const json_t *json, struct toxic **toxic, struct option_fault *fault);

/* Takes attributes and toxicity into a toxic that exists. */
enum error_code json_update_toxic(const json_t *json, struct toxic *toxic, struct option_fault *fault);

/* A list of proxies: an array of them, as for /populate. *specs is memory of memory_alloc. */
enum error_code json_read_proxies(const json_t *json, struct proxy_spec **specs, size_t *count,
                                  struct option_fault *fault);
void json_free_proxies(struct proxy_spec **specs, size_t count);

/* NULL when memory is out. */
json_t *json_of_toxic(const struct toxic *toxic);
json_t *json_of_toxics(const struct list *toxics);

#endif
