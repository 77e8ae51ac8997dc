/*
 * Taking a handshake message apart: what is left of it, and a step that fails instead of going beyond its end. Pure;
 * any thread.
 */
#ifndef MUX_TLS_MESSAGE_H
#define MUX_TLS_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is left. The bytes are borrowed. */
struct tls_message {
    const uint8_t *bytes;
    size_t length;
};

/* Takes a number of `width` bytes. False when the message ends before. */
static inline bool tls_message_number(struct tls_message *message, size_t width, size_t *number)
{
    if (message->length < width) {
        return false;
    }
    *number = 0;
    for (size_t i = 0; i < width; i++) {
        *number = *number << 8 | message->bytes[i];
    }
    message->bytes += width;
    message->length -= width;
    return true;
}

/* Takes `length` bytes as a message of their own. */
static inline bool tls_message_part(struct tls_message *message, size_t length, struct tls_message *part)
{
    if (message->length < length) {
        return false;
    }
    *part = (struct tls_message){.bytes = message->bytes, .length = length};
    message->bytes += length;
    message->length -= length;
    return true;
}

/* Takes a vector whose length has `width` bytes. */
static inline bool tls_message_vector(struct tls_message *message, size_t width, struct tls_message *part)
{
    size_t length = 0;

    return tls_message_number(message, width, &length) && tls_message_part(message, length, part);
}

#endif
