/*
 * Loads handlers from shared objects. Whoever calls keeps the library until the last session of its handler is
 * closed. Main's thread, at the start and at the end.
 */
#include "handlers.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static char plugin_fault[PATH_MAX + 64];

static const char *plugin_wrong(const char *path, const char *what)
{
    snprintf(plugin_fault, sizeof(plugin_fault), "%.*s: %s", PATH_MAX, path, what);
    return plugin_fault;
}

/* A name without a slash is a file here as everywhere else, not one to be searched for on the library path. */
static const char *plugin_path(const char *argument, char path[PATH_MAX])
{
    size_t length = strcspn(argument, ":");
    const char *prefix = memchr(argument, '/', length) != NULL ? "" : "./";

    if (length == 0) {
        return "the name of a shared object is missing: plugin:FILE.so[:ARGUMENT]";
    }
    if (length + strlen(prefix) >= PATH_MAX) {
        return "the name of the shared object is too long";
    }
    snprintf(path, PATH_MAX, "%s%.*s", prefix, (int)length, argument);
    return NULL;
}

const char *plugin_load(const char *argument, struct plugin *plugin)
{
    char path[PATH_MAX];
    const char *wrong = plugin_path(argument, path);
    const trunkline_handler *(*entry)(void) = NULL;
    const char *colon = strchr(argument, ':');

    memset(plugin, 0, sizeof(*plugin));
    if (wrong != NULL) {
        return wrong;
    }
    plugin->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (plugin->library == NULL) {
        wrong = dlerror(); /* names the file */
        return wrong != NULL ? wrong : "the shared object cannot be loaded";
    }
    /* The way POSIX gives for turning an object pointer into a function pointer. */
    *(void **)&entry = dlsym(plugin->library, TRUNKLINE_PLUGIN_ENTRY);
    if (entry == NULL) {
        wrong = plugin_wrong(path, "it does not export " TRUNKLINE_PLUGIN_ENTRY);
    } else {
        plugin->handler = entry();
        if (plugin->handler == NULL) {
            wrong = plugin_wrong(path, TRUNKLINE_PLUGIN_ENTRY " returned no handler");
        }
    }
    if (wrong != NULL) {
        plugin_unload(plugin->library);
        memset(plugin, 0, sizeof(*plugin));
        return wrong;
    }
    plugin->argument = colon != NULL ? colon + 1 : "";
    return NULL;
}

void plugin_unload(void *library)
{
    dlclose(library);
}
