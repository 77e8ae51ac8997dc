/*
 * The services of this core: names, each with the handler that serves it. Made by main before the workers start,
 * read-only for them, disposed of after the last session is closed.
 */
#ifndef CORE_SERVICE_H
#define CORE_SERVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/settings.h"
#include "core/trunkline.h"
#include "mux/error.h"

struct core_service {
    char *name;
    const trunkline_handler *handler;
    void *data;    /* what the handler's setup gave */
    void *library; /* of a plugin; NULL otherwise */
    bool reopens;  /* what a lost core had is opened again, at this one or at another */
};

struct core_services {
    struct core_service *entries; /* sorted by name */
    size_t count;
};

/* One line that says what was wrong. */
struct core_service_fault {
    char text[640];
};

/* Sets up each service with the handler of its name: built in, or one of `handlers`. ERROR_CONFIGURATION with a
 * `fault`: an unknown handler, a handler of another ABI, an argument that the handler does not take, a name given
 * twice. ERROR_NO_MEMORY. What was set up before an error is torn down again. */
enum error_code core_services_setup(struct core_services *services, const struct core_service_settings *settings,
                                    size_t count, const trunkline_handler *const *handlers, size_t handler_count,
                                    struct core_service_fault *fault);

/* Tears every service down, then unloads the plugins. */
void core_services_dispose(struct core_services *services);

/* The service of this :authority: by its whole text, or else by what is left without a trailing ":port". NULL when
 * there is none. */
const struct core_service *core_service_find(const struct core_services *services, const char *authority);

#endif
