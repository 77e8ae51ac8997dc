/*
 * The connection between two processes of which one takes over from the other: frames (takeover_format.h) and sockets,
 * sent and received with a deadline by a thread that waits for them. Owns its socket. One thread, but for
 * takeover_channel_deafen.
 */
#ifndef EDGE_TAKEOVER_CHANNEL_H
#define EDGE_TAKEOVER_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

#include "edge/takeover_format.h"
#include "mux/limits.h"

struct takeover_channel {
    int fd; /* -1: closed */
    uint64_t deadline_us;
};

struct takeover_frame {
    enum takeover_message message;
    uint8_t *body; /* of memory.h; wiped in the end */
    size_t length;
    int sockets[LIMIT_TAKEOVER_SOCKETS]; /* whoever takes one puts -1 in its place */
    size_t socket_count;
};

/* Takes a connected stream socket. */
void takeover_channel_init(struct takeover_channel *channel, int fd);
void takeover_channel_close(struct takeover_channel *channel);

/* Connects to a control socket: ERROR_UNREACHABLE (nobody listens), ERROR_PERMISSION, ERROR_INVALID (the path is too
 * long), ERROR_NO_FILES, ERROR_SYSTEM. */
enum error_code takeover_channel_connect(struct takeover_channel *channel, const char *path);

/* What follows must be over within so many milliseconds from now. */
void takeover_channel_allow(struct takeover_channel *channel, uint32_t timeout_ms);

/* At most LIMIT_TAKEOVER_SOCKETS sockets, which stay the caller's. ERROR_PEER_CLOSED, ERROR_TIMEOUT, ERROR_LIMIT (the
 * system takes no more sockets on their way, or the body is too long), ERROR_SYSTEM. */
enum error_code takeover_channel_send(struct takeover_channel *channel, enum takeover_message message, const void *body,
                                      size_t length, const int *sockets, size_t socket_count);

/* Receives one whole frame, to be disposed of whatever is returned: ERROR_PEER_CLOSED, ERROR_TIMEOUT, ERROR_INVALID,
 * ERROR_NO_MEMORY, ERROR_NO_FILES (some of its sockets could not be received), ERROR_SYSTEM. */
enum error_code takeover_channel_receive(struct takeover_channel *channel, struct takeover_frame *frame);

/* Wipes the body, and closes the sockets that nobody has taken. */
void takeover_frame_dispose(struct takeover_frame *frame);

/* Waits so long, or until the peer says something or is gone: true then. */
bool takeover_channel_pause(struct takeover_channel *channel, uint32_t milliseconds);

/* Nothing that the peer sends from now on arrives, and it learns that; what has arrived can be received still, and
 * sending goes on. From any thread, while the channel is open: who waits for the peer waits no longer. */
void takeover_channel_deafen(struct takeover_channel *channel);

#endif
