/*
 * The listeners of a core: they accept the edges' connections on main's loop and deal them out to the threads in turn.
 * Owned by main, on its thread.
 */
#ifndef CORE_ACCEPTOR_H
#define CORE_ACCEPTOR_H

#include <stddef.h>

#include "core/thread.h"
#include "mux/socket.h"

struct core_acceptor {
    struct listener *listeners;
    int *fds; /* bound and not yet accepting; -1 after */
    size_t count;
    struct core_thread *threads;
    uint32_t thread_count;
    uint32_t next; /* thread whose turn it is */
};

/* Binds every address. On an error nothing stays bound, and *failed is the index of the address that could not be
 * (errno may tell more): ERROR_INVALID (not an address), ERROR_ADDRESS_IN_USE, ERROR_PERMISSION, ERROR_UNREACHABLE,
 * ERROR_NO_FILES, ERROR_NO_MEMORY, ERROR_SYSTEM. */
enum error_code core_acceptor_bind(struct core_acceptor *acceptor, char *const *addresses, size_t count,
                                   size_t *failed);

/* Starts accepting, and prints "listening on ADDRESS" for each listener on standard output. */
enum error_code core_acceptor_start(struct core_acceptor *acceptor, struct loop *loop, struct core_thread *threads,
                                    uint32_t thread_count);

/* Stops accepting and closes the sockets. No effect when stopped already. */
void core_acceptor_dispose(struct core_acceptor *acceptor);

#endif
