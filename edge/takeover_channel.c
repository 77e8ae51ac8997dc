/*
 * Frames and sockets between two processes: see takeover_channel.h. A frame's sockets travel with its header, in one
 * message of its own, so that the kernel never mixes up whose they are.
 */
#include "edge/takeover_channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "mux/clock.h"
#include "mux/memory.h"

#define RETRY_MS 5U /* when the system takes no more sockets on their way: until the peer has received some */

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int) * LIMIT_TAKEOVER_SOCKETS)];
};

void takeover_channel_init(struct takeover_channel *channel, int fd)
{
    (void)fcntl(fd, F_SETFL, O_NONBLOCK); /* fails for no descriptor that is one */
    channel->fd = fd;
    takeover_channel_allow(channel, TIMEOUT_TAKEOVER_ANSWER_MS);
}

void takeover_channel_close(struct takeover_channel *channel)
{
    if (channel->fd >= 0) {
        close(channel->fd);
        channel->fd = -1;
    }
}

enum error_code takeover_channel_connect(struct takeover_channel *channel, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    channel->fd = -1;
    if (strlen(path) >= sizeof(address.sun_path)) {
        return ERROR_INVALID;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno == EMFILE || errno == ENFILE ? ERROR_NO_FILES : ERROR_SYSTEM;
    }
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        int cause = errno;
        close(fd);
        return cause == EACCES || cause == EPERM ? ERROR_PERMISSION : ERROR_UNREACHABLE;
    }
    takeover_channel_init(channel, fd);
    return ERROR_NONE;
}

void takeover_channel_allow(struct takeover_channel *channel, uint32_t timeout_ms)
{
    channel->deadline_us = clock_monotonic_us() + 1000U * (uint64_t)timeout_ms;
}

static enum error_code channel_wait(struct takeover_channel *channel, short events)
{
    for (;;) {
        uint64_t now_us = clock_monotonic_us();
        if (now_us >= channel->deadline_us) {
            return ERROR_TIMEOUT;
        }
        struct pollfd watched = {.fd = channel->fd, .events = events};
        int ready = poll(&watched, 1, (int)((channel->deadline_us - now_us) / 1000U) + 1);
        if (ready > 0) {
            return ERROR_NONE;
        }
        if (ready < 0 && errno != EINTR) {
            return ERROR_SYSTEM;
        }
    }
}

bool takeover_channel_pause(struct takeover_channel *channel, uint32_t milliseconds)
{
    struct pollfd watched = {.fd = channel->fd, .events = POLLIN};
    return poll(&watched, 1, (int)milliseconds) > 0;
}

static bool channel_gone(int number)
{
    return number == EPIPE || number == ECONNRESET;
}

/* What a failed sendmsg or recvmsg asks for: ERROR_NONE to try again. */
static enum error_code channel_fault(struct takeover_channel *channel, short events)
{
    int number = errno;
    if (number == EINTR) {
        return ERROR_NONE;
    }
    if (number == EAGAIN || number == EWOULDBLOCK) {
        return channel_wait(channel, events);
    }
    if (number == ETOOMANYREFS && clock_monotonic_us() < channel->deadline_us) {
        (void)poll(NULL, 0, (int)RETRY_MS);
        return ERROR_NONE;
    }
    return channel_gone(number) ? ERROR_PEER_CLOSED : number == ETOOMANYREFS ? ERROR_LIMIT : ERROR_SYSTEM;
}

/* ------------------------------------------------------------------------------------------------ sending */

static enum error_code channel_send_bytes(struct takeover_channel *channel, const uint8_t *bytes, size_t length,
                                          const int *sockets, size_t socket_count)
{
    union control control;
    memset(&control, 0, sizeof(control));
    while (length > 0) {
        struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (socket_count > 0) {
            control.header.cmsg_level = SOL_SOCKET;
            control.header.cmsg_type = SCM_RIGHTS;
            control.header.cmsg_len = CMSG_LEN(sizeof(int) * socket_count);
            memcpy(CMSG_DATA(&control.header), sockets, sizeof(int) * socket_count);
            message.msg_control = &control;
            message.msg_controllen = CMSG_SPACE(sizeof(int) * socket_count);
        }
        ssize_t sent = sendmsg(channel->fd, &message, MSG_NOSIGNAL);
        if (sent < 0) {
            enum error_code error = channel_fault(channel, POLLOUT);
            if (error != ERROR_NONE) {
                return error;
            }
            continue;
        }
        socket_count = 0; /* they went with the first byte */
        bytes += sent;
        length -= (size_t)sent;
    }
    return ERROR_NONE;
}

enum error_code takeover_channel_send(struct takeover_channel *channel, enum takeover_message message, const void *body,
                                      size_t length, const int *sockets, size_t socket_count)
{
    uint8_t header[TAKEOVER_HEADER_BYTES];
    if (length > LIMIT_TAKEOVER_FRAME_BYTES || socket_count > LIMIT_TAKEOVER_SOCKETS) {
        return ERROR_LIMIT;
    }
    takeover_header_write(header, message, socket_count, length);
    enum error_code error = channel_send_bytes(channel, header, sizeof(header), sockets, socket_count);
    return error != ERROR_NONE ? error : channel_send_bytes(channel, body, length, NULL, 0);
}

/* ------------------------------------------------------------------------------------------------ receiving */

/* Sockets that came, as far as there is room; the others are closed. */
static void frame_take_sockets(struct takeover_frame *frame, struct msghdr *message)
{
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL; control = CMSG_NXTHDR(message, control)) {
        if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(fd));
            if (frame->socket_count < LIMIT_TAKEOVER_SOCKETS) {
                frame->sockets[frame->socket_count++] = fd;
            } else {
                close(fd);
            }
        }
    }
}

static enum error_code channel_receive_bytes(struct takeover_channel *channel, struct takeover_frame *frame,
                                             uint8_t *bytes, size_t length)
{
    while (length > 0) {
        union control control;
        struct iovec part = {.iov_base = bytes, .iov_len = length};
        struct msghdr message = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
        ssize_t received = recvmsg(channel->fd, &message, MSG_CMSG_CLOEXEC);
        if (received < 0) {
            enum error_code error = channel_fault(channel, POLLIN);
            if (error != ERROR_NONE) {
                return error;
            }
            continue;
        }
        frame_take_sockets(frame, &message);
        if (received == 0) {
            return ERROR_PEER_CLOSED;
        }
        if (message.msg_flags & MSG_CTRUNC) {
            return ERROR_NO_FILES;
        }
        bytes += received;
        length -= (size_t)received;
    }
    return ERROR_NONE;
}

enum error_code takeover_channel_receive(struct takeover_channel *channel, struct takeover_frame *frame)
{
    uint8_t header[TAKEOVER_HEADER_BYTES];
    size_t sockets = 0;
    *frame = (struct takeover_frame){.body = NULL};
    enum error_code error = channel_receive_bytes(channel, frame, header, sizeof(header));
    size_t length = 0;
    if (error == ERROR_NONE) {
        error = takeover_header_read(header, &frame->message, &sockets, &length);
    }
    if (error == ERROR_NONE && length > 0) {
        frame->body = memory_alloc(length);
        error = frame->body != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
    }
    if (error == ERROR_NONE) {
        frame->length = length;
        error = channel_receive_bytes(channel, frame, frame->body, length);
    }
    return error == ERROR_NONE && frame->socket_count != sockets ? ERROR_INVALID : error;
}

void takeover_frame_dispose(struct takeover_frame *frame)
{
    if (frame->body != NULL) {
        memory_wipe(frame->body, frame->length);
        memory_free(frame->body);
        frame->body = NULL;
    }
    for (size_t i = 0; i < frame->socket_count; i++) {
        if (frame->sockets[i] >= 0) {
            close(frame->sockets[i]);
        }
    }
    frame->socket_count = 0;
}

void takeover_channel_deafen(struct takeover_channel *channel)
{
    (void)shutdown(channel->fd, SHUT_RD);
}
