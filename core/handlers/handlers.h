/*
 * The handlers that come with the core. They are written against trunkline.h and libc alone, as anybody's would be.
 */
#ifndef CORE_HANDLERS_HANDLERS_H
#define CORE_HANDLERS_HANDLERS_H

#include "trunkline.h"

extern const trunkline_handler handler_echo;
extern const trunkline_handler handler_forward;

/* A shared object with a handler in it. */
struct plugin {
    const trunkline_handler *handler; /* lives in the library */
    void *library;
    const char *argument; /* for the handler's setup: points into what plugin_load was given */
};

/* Loads "FILE.so[:ARGUMENT]". NULL, or a text that says what is wrong, valid until the next call. Main's thread. */
const char *plugin_load(const char *argument, struct plugin *plugin);

/* After the last session of its handler is closed. */
void plugin_unload(void *library);

#endif
