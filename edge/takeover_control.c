/*
 * The control socket of a running edge: who may connect, and one takeover at a time, each on a thread of its own. Owns
 * the socket and the connection. Main's thread, but for what the thread does.
 */
#include "edge/takeover.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mux/log.h"
#include "mux/memory.h"
#include "mux/process.h"
#include "mux/socket.h"

#define BACKLOG       4
#define OWNER_ONLY    0177 /* umask: mode 0600 */
#define SUFFIX_LENGTH 16U  /* "." and a process number */

struct takeover_control {
    struct loop_source source;
    struct loop *loop; /* NULL: not started */
    int fd;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    bool bound; /* by us: the path is ours to clear */
    struct takeover_edge edge;
    takeover_over_fn *over;
    void *owner;
    struct takeover_channel channel; /* of the attempt at hand */
    uint64_t thread;
    bool running;
    struct takeover_outcome outcome;
    struct loop_post post;
};

/* ------------------------------------------------------------------------------------------------ socket */

/* Only its owner may connect, from the first moment on. */
static enum error_code control_listen(struct takeover_control *control)
{
    struct address address = {.length = sizeof(address.u.local), .u.local.sun_family = AF_UNIX};
    memcpy(address.u.local.sun_path, control->path, strlen(control->path) + 1);
    mode_t mask = umask(OWNER_ONLY);
    enum error_code error = socket_listen(&address, false, &control->fd);
    int cause = errno;
    (void)umask(mask);
    if (error == ERROR_NONE) {
        control->bound = true;
        (void)listen(control->fd, BACKLOG); /* fewer than socket_listen lets wait */
        return ERROR_NONE;
    }
    return error == ERROR_SYSTEM && (cause == ENOENT || cause == ENOTDIR) ? ERROR_UNREACHABLE : error;
}

enum error_code takeover_control_new(struct takeover_control **result, const char *path, bool comes)
{
    *result = NULL;
    struct takeover_control *control = memory_zalloc(sizeof(*control));
    if (control == NULL) {
        return ERROR_NO_MEMORY;
    }
    control->fd = -1;
    control->source.fd = -1;
    control->channel.fd = -1;
    enum error_code error = ERROR_NONE;
    if (strlen(path) >= sizeof(control->path)) {
        error = ERROR_INVALID;
    } else {
        memcpy(control->path, path, strlen(path) + 1);
    }
    if (error == ERROR_NONE && !comes) {
        error = control_listen(control);
    }
    if (error != ERROR_NONE) {
        memory_free(control);
        return error;
    }
    *result = control;
    return ERROR_NONE;
}

int takeover_control_socket(const struct takeover_control *control)
{
    return control != NULL ? control->fd : -1;
}

void takeover_control_adopt(struct takeover_control *control, int fd)
{
    control->fd = fd;
    control->bound = true;
}

/* ------------------------------------------------------------------------------------------------ attempts */

static void control_over(struct loop_post *post)
{
    struct takeover_control *control = container_of(post, struct takeover_control, post);
    if (!control->running) {
        return; /* it was stopped meanwhile */
    }
    process_thread_join(control->thread);
    control->running = false;
    takeover_channel_close(&control->channel);
    if (control->outcome.done) {
        loop_unwatch(control->loop, &control->source); /* its path is another process's now */
    }
    control->over(control->owner, &control->outcome);
}

static void *control_run(void *argument)
{
    struct takeover_control *control = argument;
    takeover_give(&control->channel, &control->edge, &control->outcome);
    loop_post(control->loop, &control->post);
    return NULL;
}

static void control_begin(struct takeover_control *control, int fd, const struct ucred *peer)
{
    LOG(LOG_INFO, "takeover-asked", LOG_INTEGER("pid", peer->pid), LOG_INTEGER("uid", peer->uid));
    control->outcome = (struct takeover_outcome){0};
    takeover_channel_init(&control->channel, fd);
    enum error_code error = process_thread_start(&control->thread, "takeover", control_run, control);
    control->running = error == ERROR_NONE;
    if (!control->running) {
        takeover_channel_close(&control->channel);
        LOG(LOG_ERROR, "takeover-failed", LOG_ERROR_CODE(error));
    }
}

/* Who the kernel says that they are. */
static void control_ready(struct loop_source *source, unsigned events)
{
    struct takeover_control *control = container_of(source, struct takeover_control, source);
    struct ucred peer = {0};
    socklen_t length = sizeof(peer);
    (void)events;
    int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0;
    if (!known || (peer.uid != geteuid() && peer.uid != 0)) {
        LOG(LOG_WARNING, "takeover-refused", LOG_INTEGER("pid", peer.pid), LOG_INTEGER("uid", peer.uid),
            LOG_TEXT("reason", "another user"));
        close(fd);
    } else if (control->running) {
        struct takeover_channel other;
        static const char busy[] = "another takeover is under way";
        takeover_channel_init(&other, fd);
        (void)takeover_channel_send(&other, TAKEOVER_REFUSE, busy, sizeof(busy) - 1, NULL, 0);
        takeover_channel_close(&other);
    } else {
        control_begin(control, fd, &peer);
    }
}

enum error_code takeover_control_start(struct takeover_control *control, struct loop *loop,
                                       const struct takeover_edge *edge, takeover_over_fn *over, void *owner)
{
    enum error_code error = ERROR_INVALID; /* none has come */
    if (control->fd >= 0) {
        error = loop_watch(loop, &control->source, control->fd, LOOP_LEVEL_READ, control_ready);
    }
    if (error == ERROR_NONE) {
        control->loop = loop;
        control->edge = *edge;
        control->over = over;
        control->owner = owner;
        control->post.run = control_over;
    }
    return error;
}

void takeover_control_stop(struct takeover_control *control, bool hasten)
{
    if (control == NULL) {
        return;
    }
    if (control->running && hasten) {
        takeover_channel_deafen(&control->channel);
    }
    if (control->running) {
        control_over(&control->post);
    }
    if (control->loop != NULL) {
        loop_unwatch(control->loop, &control->source);
        control->loop = NULL;
    }
    if (control->fd >= 0) {
        close(control->fd);
        control->fd = -1;
    }
    if (control->bound && !control->outcome.done) {
        (void)unlink(control->path); /* a sandbox may forbid it: whoever starts next replaces it */
    }
    control->bound = false;
}

void takeover_control_free(struct takeover_control **pointer)
{
    takeover_control_stop(*pointer, true);
    memory_free(*pointer);
    *pointer = NULL;
}
