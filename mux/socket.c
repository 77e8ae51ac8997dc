/*
 * Sockets: the transport over a stream socket, connecting, listening and accepting. A transport owns its descriptor
 * from open to close; a listener owns its own. Everything belongs to the thread of its loop. Edge-triggered: an event
 * is told once, so what the last read and write found out is remembered, and system calls that could only say "not
 * now" are not made.
 */
#include "mux/socket.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mux/memory.h"

/* Linux 4.2; missing in some libc headers. */
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

#define LISTENER_ACCEPTS_MAX 16U /* per event; one costs 10 us */
#define LISTENER_PAUSE_MS    100U

/* Closes without a change to errno, which tells the caller what went wrong before. */
static void descriptor_close(int fd)
{
    int saved = errno;
    close(fd);
    errno = saved;
}

/* ---- the transport ---- */

static struct socket_transport *socket_of(struct transport *transport)
{
    return container_of(transport, struct socket_transport, transport);
}

static enum error_code socket_connect_failed(struct socket_transport *socket, int cause)
{
    socket->connect = SOCKET_CONNECT_FAILED;
    socket->failure = (uint8_t)(cause <= UINT8_MAX ? cause : EIO);
    errno = cause;
    return ERROR_UNREACHABLE;
}

/* What a failed recv or send means to the owner; errno holds the cause. */
static enum error_code socket_fault(struct socket_transport *socket)
{
    if (socket->connect == SOCKET_CONNECT_PENDING) {
        return socket_connect_failed(socket, errno);
    }
    if (socket->connect == SOCKET_CONNECT_FAILED) {
        errno = socket->failure;
        return ERROR_UNREACHABLE;
    }
    switch (errno) {
    case ECONNRESET:
    case EPIPE:
    case ETIMEDOUT: /* the peer's host or the way to it is gone: to the session it is the same as a reset */
    case EHOSTUNREACH:
    case ENETUNREACH:
        return ERROR_PEER_RESET;
    default:
        return ERROR_SYSTEM;
    }
}

static enum error_code socket_read(struct transport *transport, void *into, size_t capacity, size_t *length)
{
    struct socket_transport *socket = socket_of(transport);
    assert(capacity > 0 && "nothing read would look like the peer's end");
    *length = 0;
    if (socket->drained && !socket->hangup) {
        return ERROR_WOULD_BLOCK;
    }
    ssize_t count;
    do {
        count = recv(socket->source.fd, into, capacity, 0);
    } while (count < 0 && errno == EINTR);
    if (count < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            socket->drained = 1;
            return ERROR_WOULD_BLOCK;
        }
        return socket_fault(socket);
    }
    socket->connect = SOCKET_CONNECT_DONE;
    /* Bytes that come from now on raise a new event, and so does a FIN: fewer bytes than were asked for means that
     * there are none left. */
    socket->drained = (size_t)count < capacity ? 1 : 0;
    *length = (size_t)count;
    return ERROR_NONE;
}

static enum error_code socket_write(struct transport *transport, const void *bytes, size_t count, size_t *length)
{
    struct socket_transport *socket = socket_of(transport);
    *length = 0;
    if (count == 0) {
        return ERROR_NONE;
    }
    if (socket->output == SOCKET_OUTPUT_BLOCKED) {
        return ERROR_WOULD_BLOCK;
    }
    ssize_t sent;
    do {
        sent = send(socket->source.fd, bytes, count, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            socket->output = SOCKET_OUTPUT_BLOCKED;
            return ERROR_WOULD_BLOCK;
        }
        return socket_fault(socket);
    }
    socket->connect = SOCKET_CONNECT_DONE;
    socket->output = (size_t)sent < count ? SOCKET_OUTPUT_BLOCKED : SOCKET_OUTPUT_READY;
    *length = (size_t)sent;
    return ERROR_NONE;
}

static void socket_finish(struct transport *transport)
{
    struct socket_transport *socket = socket_of(transport);
    if (!socket->finished) {
        socket->finished = 1;
        /* Fails only when the peer has reset the connection already, which the next read tells. */
        (void)shutdown(socket->source.fd, SHUT_WR);
    }
}

static void socket_close(struct transport *transport, enum transport_close how)
{
    struct socket_transport *socket = socket_of(transport);
    int fd = socket_transport_release(socket);
    if (how == TRANSPORT_CLOSE_RESET) {
        const struct linger linger = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    }
    close(fd);
}

const struct transport_ops socket_transport_ops = {
    .read = socket_read,
    .write = socket_write,
    .finish = socket_finish,
    .close = socket_close,
};

static void socket_ready(struct loop_compact *source, unsigned events)
{
    struct socket_transport *socket = container_of(source, struct socket_transport, source);
    unsigned told = 0;
    if (events & LOOP_READABLE) {
        socket->drained = 0;
        told |= TRANSPORT_READABLE;
    }
    if (events & LOOP_HANGUP) {
        socket->hangup = 1;
        told |= TRANSPORT_HANGUP;
    }
    if ((events & LOOP_WRITABLE) && socket->output != SOCKET_OUTPUT_READY) {
        socket->output = SOCKET_OUTPUT_READY;
        told |= TRANSPORT_WRITABLE;
    }
    if (events & LOOP_BROKEN) {
        told |= TRANSPORT_BROKEN;
    }
    if (told != 0) {
        transport_tell(&socket->transport, told);
    }
}

enum error_code socket_transport_open(struct socket_transport *socket, struct loop *loop, int fd,
                                      const struct transport_binding *binding)
{
    assert(binding->ops == &socket_transport_ops && "a socket is read and written as one");
    memset(socket, 0, sizeof(*socket));
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* a Unix socket does not know it, nor need it */
    enum error_code error = loop_watch_compact(loop, &socket->source, fd, socket_ready);
    if (error != ERROR_NONE) {
        descriptor_close(fd);
        return error;
    }
    socket->transport.binding = binding;
    return ERROR_NONE;
}

int socket_transport_release(struct socket_transport *socket)
{
    int fd = socket->source.fd;
    if (socket->transport.binding == NULL) {
        return -1;
    }
    loop_unwatch_compact(&socket->source);
    socket->transport.binding = NULL;
    return fd;
}

void socket_tune_trunk(struct socket_transport *socket, unsigned user_timeout_ms, unsigned unsent_max_bytes)
{
    /* Both fail on Unix sockets, whose peers cannot vanish silently. */
    (void)setsockopt(socket->source.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof(user_timeout_ms));
    (void)setsockopt(socket->source.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_max_bytes, sizeof(unsent_max_bytes));
}

void socket_limit_unsent(int fd, unsigned unsent_max_bytes)
{
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_max_bytes, sizeof(unsent_max_bytes));
}

void socket_keep_alive(int fd, unsigned idle_ms)
{
    const int on = 1;
    const unsigned probes = 4;
    const unsigned idle_s = (idle_ms + 999U) / 1000U;
    const unsigned probe_s = (idle_s + probes - 1U) / probes;
    if (idle_ms == 0) {
        return;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe_s, sizeof(probe_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

/* ---- connecting ---- */

static enum error_code socket_new(sa_family_t family, int *fd)
{
    *fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd >= 0) {
        return ERROR_NONE;
    }
    if (errno == EMFILE || errno == ENFILE) {
        return ERROR_NO_FILES;
    }
    return errno == EAFNOSUPPORT ? ERROR_UNREACHABLE : ERROR_SYSTEM;
}

/* The port is chosen by connect(): it must be free for this peer only, not for every one. */
static enum error_code socket_bind_source(int fd, const struct address *source)
{
    const int on = 1;
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) < 0) {
        return ERROR_SYSTEM;
    }
    return bind(fd, &source->u.any, source->length) == 0 ? ERROR_NONE : ERROR_UNREACHABLE;
}

/* A new socket with the attempt under way; *pending: its end will be told. */
static enum error_code socket_start(const struct address *source, const struct address *peer, int *fd, bool *pending)
{
    *pending = false;
    enum error_code error = socket_new(peer->u.any.sa_family, fd);
    if (error == ERROR_NONE && source != NULL) {
        error = socket_bind_source(*fd, source);
    }
    /* A signal does not undo a connection attempt: it goes on like one that has to wait. */
    if (error == ERROR_NONE && connect(*fd, &peer->u.any, peer->length) < 0) {
        *pending = errno == EINPROGRESS || errno == EINTR;
        if (!*pending) {
            error = errno == EADDRNOTAVAIL ? ERROR_LIMIT : ERROR_UNREACHABLE;
        }
    }
    if (error != ERROR_NONE && *fd >= 0) {
        descriptor_close(*fd);
    }
    return error;
}

enum error_code socket_connect(struct socket_transport *socket, struct loop *loop, const struct address *source,
                               const struct address *peer, const struct transport_binding *binding)
{
    memset(socket, 0, sizeof(*socket));
    socket->source.fd = -1;
    int fd = -1;
    bool pending = false;
    enum error_code error = socket_start(source, peer, &fd, &pending);
    if (error != ERROR_NONE) {
        return error;
    }
    error = socket_transport_open(socket, loop, fd, binding);
    if (error == ERROR_NONE && pending) {
        socket->connect = SOCKET_CONNECT_PENDING;
    }
    return error;
}

enum error_code socket_connected(struct socket_transport *socket)
{
    if (socket->connect == SOCKET_CONNECT_DONE) {
        return ERROR_NONE;
    }
    if (socket->connect == SOCKET_CONNECT_FAILED) {
        errno = socket->failure;
        return ERROR_UNREACHABLE;
    }
    int cause = 0;
    socklen_t length = sizeof(cause);
    if (getsockopt(socket->source.fd, SOL_SOCKET, SO_ERROR, &cause, &length) < 0) {
        cause = errno;
    }
    if (cause != 0) {
        return socket_connect_failed(socket, cause);
    }
    struct address peer = {.length = sizeof(peer.u)};
    if (getpeername(socket->source.fd, &peer.u.any, &peer.length) < 0) {
        return ERROR_AGAIN_LATER;
    }
    socket->connect = SOCKET_CONNECT_DONE;
    return ERROR_NONE;
}

/* ---- listening ---- */

enum error_code socket_local_address(int fd, struct address *address)
{
    memset(address, 0, sizeof(*address));
    socklen_t length = sizeof(address->u);
    if (getsockname(fd, &address->u.any, &length) < 0) {
        return ERROR_SYSTEM;
    }
    address->length = length;
    return ERROR_NONE;
}

static enum error_code socket_bind_error(int number)
{
    switch (number) {
    case EADDRINUSE:
        return ERROR_ADDRESS_IN_USE;
    case EACCES:
    case EPERM:
        return ERROR_PERMISSION;
    case EADDRNOTAVAIL:
        return ERROR_UNREACHABLE;
    default:
        return ERROR_SYSTEM;
    }
}

/* Removes a socket file that its process left behind when it was killed. False when somebody listens on it, or when
 * the path is not a socket at all; errno stays what bind said. */
static bool socket_remove_stale(const struct address *address)
{
    int saved = errno;
    const char *path = address->u.local.sun_path;
    bool removed = false;
    struct stat status;
    if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode)) {
        int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (probe >= 0) {
            bool refused = connect(probe, &address->u.any, address->length) < 0 && errno == ECONNREFUSED;
            close(probe);
            removed = refused && unlink(path) == 0;
        }
    }
    errno = saved;
    return removed;
}

static bool socket_option_on(int fd, int level, int option)
{
    const int on = 1;
    return setsockopt(fd, level, option, &on, sizeof(on)) == 0;
}

static bool socket_prepare(int fd, sa_family_t family, bool reuse_port)
{
    if (family == AF_UNIX) {
        return true;
    }
    return socket_option_on(fd, SOL_SOCKET, SO_REUSEADDR) &&
           (!reuse_port || socket_option_on(fd, SOL_SOCKET, SO_REUSEPORT)) &&
           (family != AF_INET6 || socket_option_on(fd, IPPROTO_IPV6, IPV6_V6ONLY));
}

static bool socket_bind(int fd, const struct address *address)
{
    if (bind(fd, &address->u.any, address->length) == 0) {
        return true;
    }
    return errno == EADDRINUSE && address->u.any.sa_family == AF_UNIX && socket_remove_stale(address) &&
           bind(fd, &address->u.any, address->length) == 0;
}

enum error_code socket_listen(const struct address *address, bool reuse_port, int *fd)
{
    sa_family_t family = address->u.any.sa_family;
    enum error_code error = socket_new(family, fd);
    if (error != ERROR_NONE) {
        return error;
    }
    /* The kernel cuts the backlog down to net.core.somaxconn. */
    if (!socket_prepare(*fd, family, reuse_port) || !socket_bind(*fd, address) || listen(*fd, INT_MAX) < 0) {
        error = socket_bind_error(errno);
        descriptor_close(*fd);
        *fd = -1;
    }
    return error;
}

/* ---- accepting ---- */

static void listener_ready(struct loop_source *source, unsigned events);

static void listener_pause(struct listener *listener)
{
    listener->pauses++;
    loop_unwatch(listener->loop, &listener->source);
    scheduler_arm(loop_scheduler(listener->loop), &listener->retry, LISTENER_PAUSE_MS);
}

static void listener_retry(struct timer *timer)
{
    struct listener *listener = container_of(timer, struct listener, retry);
    if (loop_watch(listener->loop, &listener->source, listener->fd, LOOP_LEVEL_READ, listener_ready) != ERROR_NONE) {
        scheduler_arm(loop_scheduler(listener->loop), &listener->retry, LISTENER_PAUSE_MS);
    }
}

/* Errors of the one connection that would have been accepted next, not of the listener (accept(2)). */
static bool accept_error_passes(int number)
{
    switch (number) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENETUNREACH:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case EOPNOTSUPP:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

static void listener_ready(struct loop_source *source, unsigned events)
{
    struct listener *listener = container_of(source, struct listener, source);
    (void)events;
    for (unsigned turn = 0; turn < LISTENER_ACCEPTS_MAX; turn++) {
        struct address peer = {.length = sizeof(peer.u)};
        int fd = accept4(listener->fd, &peer.u.any, &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            listener->accepted++;
            listener->accept(listener->owner, fd, &peer);
            if (listener->loop == NULL) {
                return; /* stopped meanwhile */
            }
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (!accept_error_passes(errno)) {
            /* Out of files or memory: the connection stays in the backlog, and so would its event. */
            listener_pause(listener);
            return;
        }
    }
}

enum error_code listener_start(struct listener *listener, struct loop *loop, int fd, listener_accept_fn *accept,
                               void *owner)
{
    memset(listener, 0, sizeof(*listener));
    listener->source.fd = -1;
    timer_init(&listener->retry, listener_retry);
    listener->accept = accept;
    listener->owner = owner;
    enum error_code error = socket_local_address(fd, &listener->bound);
    if (error == ERROR_NONE) {
        error = loop_watch(loop, &listener->source, fd, LOOP_LEVEL_READ, listener_ready);
    }
    if (error != ERROR_NONE) {
        descriptor_close(fd);
        return error;
    }
    listener->loop = loop;
    listener->fd = fd;
    return ERROR_NONE;
}

void listener_stop(struct listener *listener)
{
    if (listener->loop == NULL) {
        return;
    }
    scheduler_disarm(loop_scheduler(listener->loop), &listener->retry);
    loop_unwatch(listener->loop, &listener->source);
    close(listener->fd);
    listener->fd = -1;
    listener->loop = NULL;
}
