/* The registry of services. Owned by main; set up and torn down on its thread, looked up on every worker's. */
#include "core/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/handlers/handlers.h"
#include "mux/memory.h"

static const trunkline_handler *service_handler(const char *name, const trunkline_handler *const *handlers,
                                                size_t count)
{
    static const trunkline_handler *const built_in[] = {&handler_echo, &handler_forward};

    /* Those of the program win: it may bring a better echo. */
    for (size_t i = 0; i < count; i++) {
        if (strcmp(handlers[i]->name, name) == 0) {
            return handlers[i];
        }
    }
    for (size_t i = 0; i < sizeof(built_in) / sizeof(built_in[0]); i++) {
        if (strcmp(built_in[i]->name, name) == 0) {
            return built_in[i];
        }
    }
    return NULL;
}

/* Calls the handler's setup. Its fault may lie in the service's care: copied before teardown. */
static enum error_code service_start(struct core_service *service, const char *handler_name, const char *argument,
                                     struct core_service_fault *fault)
{
    const char *wrong;

    if (service->handler->abi != TRUNKLINE_ABI) {
        snprintf(fault->text, sizeof(fault->text),
                 "service %s: handler %s was built for interface %u of trunkline.h, this core has %u", service->name,
                 handler_name, (unsigned)service->handler->abi, (unsigned)TRUNKLINE_ABI);
        return ERROR_CONFIGURATION;
    }
    if (service->handler->open == NULL) {
        snprintf(fault->text, sizeof(fault->text), "service %s: handler %s has no open function", service->name,
                 handler_name);
        return ERROR_CONFIGURATION;
    }
    if (service->handler->setup == NULL) {
        return ERROR_NONE;
    }
    wrong = service->handler->setup(argument, &service->data);
    if (wrong == NULL) {
        return ERROR_NONE;
    }
    snprintf(fault->text, sizeof(fault->text), "service %s: %s: %s", service->name, handler_name, wrong);
    if (service->data != NULL && service->handler->teardown != NULL) {
        service->handler->teardown(service->data);
    }
    return ERROR_CONFIGURATION;
}

static void service_unload(struct core_service *service)
{
    if (service->library != NULL) {
        plugin_unload(service->library);
        service->library = NULL;
    }
}

static enum error_code service_setup(struct core_service *service, const struct core_service_settings *settings,
                                     const trunkline_handler *const *handlers, size_t handler_count,
                                     struct core_service_fault *fault)
{
    const char *argument = settings->argument != NULL ? settings->argument : "";
    struct plugin plugin;
    enum error_code error;

    service->reopens = settings->reopens;
    service->name = memory_strdup(settings->name);
    if (service->name == NULL) {
        return ERROR_NO_MEMORY;
    }
    service->handler = service_handler(settings->handler, handlers, handler_count);
    if (service->handler == NULL && strcmp(settings->handler, "plugin") == 0) {
        const char *wrong = plugin_load(argument, &plugin);

        if (wrong != NULL) {
            snprintf(fault->text, sizeof(fault->text), "service %s: plugin: %s", service->name, wrong);
            memory_free(service->name);
            return ERROR_CONFIGURATION;
        }
        service->handler = plugin.handler;
        service->library = plugin.library;
        argument = plugin.argument;
    }
    if (service->handler == NULL) {
        snprintf(fault->text, sizeof(fault->text), "service %s: no handler named %s", service->name, settings->handler);
        memory_free(service->name);
        return ERROR_CONFIGURATION;
    }
    error = service_start(service, settings->handler, argument, fault);
    if (error != ERROR_NONE) {
        service_unload(service);
        memory_free(service->name);
    }
    return error;
}

static int service_compare(const void *left, const void *right)
{
    const struct core_service *a = left;
    const struct core_service *b = right;

    return strcmp(a->name, b->name);
}

enum error_code core_services_setup(struct core_services *services, const struct core_service_settings *settings,
                                    size_t count, const trunkline_handler *const *handlers, size_t handler_count,
                                    struct core_service_fault *fault)
{
    enum error_code error = ERROR_NONE;

    fault->text[0] = '\0';
    services->count = 0;
    services->entries = memory_calloc(count, sizeof(*services->entries));
    if (services->entries == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < count && error == ERROR_NONE; i++) {
        error = service_setup(&services->entries[i], &settings[i], handlers, handler_count, fault);
        services->count += error == ERROR_NONE ? 1U : 0U;
    }
    if (error == ERROR_NONE && count > 1) {
        qsort(services->entries, count, sizeof(*services->entries), service_compare);
        for (size_t i = 1; i < count; i++) {
            if (service_compare(&services->entries[i - 1], &services->entries[i]) == 0) {
                snprintf(fault->text, sizeof(fault->text), "service %s: named twice", services->entries[i].name);
                error = ERROR_CONFIGURATION;
                break;
            }
        }
    }
    if (error != ERROR_NONE) {
        core_services_dispose(services);
    }
    return error;
}

void core_services_dispose(struct core_services *services)
{
    for (size_t i = 0; i < services->count; i++) {
        struct core_service *service = &services->entries[i];

        if (service->handler->teardown != NULL) {
            service->handler->teardown(service->data);
        }
        memory_free(service->name);
    }
    /* Only now: handlers of two plugins may know each other. */
    for (size_t i = 0; i < services->count; i++) {
        service_unload(&services->entries[i]);
    }
    memory_free(services->entries);
    services->entries = NULL;
    services->count = 0;
}

struct service_key {
    const char *name;
    size_t length;
};

static int service_compare_key(const void *key, const void *entry)
{
    const struct service_key *wanted = key;
    const struct core_service *service = entry;
    int order = strncmp(wanted->name, service->name, wanted->length);

    return order != 0 ? order : (service->name[wanted->length] == '\0' ? 0 : -1);
}

static const struct core_service *service_find(const struct core_services *services, const char *name, size_t length)
{
    struct service_key key = {name, length};

    if (services->count == 0) {
        return NULL;
    }
    return bsearch(&key, services->entries, services->count, sizeof(*services->entries), service_compare_key);
}

const struct core_service *core_service_find(const struct core_services *services, const char *authority)
{
    size_t length = strlen(authority);
    const struct core_service *service = service_find(services, authority, length);
    const char *colon = strrchr(authority, ':');

    if (service != NULL || colon == NULL || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1)) {
        return service;
    }
    return service_find(services, authority, (size_t)(colon - authority));
}
