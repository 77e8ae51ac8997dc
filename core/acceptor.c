/* Listeners of the core; see acceptor.h. The first address that fails ends the start. */
#include "core/acceptor.h"

#include <stdio.h>
#include <unistd.h>

#include "mux/memory.h"

enum error_code core_acceptor_bind(struct core_acceptor *acceptor, char *const *addresses, size_t count, size_t *failed)
{
    enum error_code error = ERROR_NONE;

    *acceptor = (struct core_acceptor){
        .listeners = memory_calloc(count, sizeof(*acceptor->listeners)),
        .fds = memory_calloc(count, sizeof(*acceptor->fds)),
    };
    *failed = 0;
    if (acceptor->listeners == NULL || acceptor->fds == NULL) {
        core_acceptor_dispose(acceptor);
        return ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < count && error == ERROR_NONE; i++) {
        struct address address;

        acceptor->listeners[i].source.fd = -1;
        acceptor->fds[i] = -1;
        acceptor->count = i + 1;
        *failed = i;
        error = address_parse(addresses[i], true, &address);
        if (error == ERROR_NONE) {
            /* One socket for all threads: with a socket each, a second core could take the same address unnoticed. */
            error = socket_listen(&address, false, &acceptor->fds[i]);
        }
    }
    if (error != ERROR_NONE) {
        core_acceptor_dispose(acceptor);
    }
    return error;
}

static void acceptor_on_accept(void *owner, int fd, const struct address *peer)
{
    struct core_acceptor *acceptor = owner;
    uint32_t turn = acceptor->next;

    acceptor->next = (turn + 1) % acceptor->thread_count;
    core_thread_adopt(&acceptor->threads[turn], fd, peer);
}

enum error_code core_acceptor_start(struct core_acceptor *acceptor, struct loop *loop, struct core_thread *threads,
                                    uint32_t thread_count)
{
    acceptor->threads = threads;
    acceptor->thread_count = thread_count;
    for (size_t i = 0; i < acceptor->count; i++) {
        struct listener *listener = &acceptor->listeners[i];
        char text[ADDRESS_TEXT_MAX];
        int fd = acceptor->fds[i];
        enum error_code error;

        acceptor->fds[i] = -1;
        error = listener_start(listener, loop, fd, acceptor_on_accept, acceptor);
        if (error != ERROR_NONE) {
            return error;
        }
        printf("listening on %s\n", address_format(&listener->bound, text));
    }
    fflush(stdout);
    return ERROR_NONE;
}

void core_acceptor_dispose(struct core_acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->count; i++) {
        listener_stop(&acceptor->listeners[i]);
        if (acceptor->fds[i] >= 0) {
            close(acceptor->fds[i]);
        }
    }
    memory_free(acceptor->listeners);
    memory_free(acceptor->fds);
    acceptor->listeners = NULL;
    acceptor->fds = NULL;
    acceptor->count = 0;
}
