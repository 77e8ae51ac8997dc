/*
 * What the clients send to be echoed: messages that prove, byte by byte, that they came back whole, once and in order.
 * A header of MESSAGE_HEADER_BYTES names the client, a sequence number, the intended time of sending and the size,
 * under a check value; the rest is a pattern that follows from client and sequence. Bytes in, verdicts out; no I/O, no
 * clock, no memory of its own. One thread.
 */
#ifndef LOAD_MESSAGE_H
#define LOAD_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "mux/error.h"

#define MESSAGE_HEADER_BYTES 32U
#define MESSAGE_MAX_BYTES    1048576U

struct message {
    uint64_t sequence;    /* of this client, from 0 */
    uint64_t intended_us; /* when the schedule wanted it sent */
    uint32_t client;
    uint32_t size; /* with the header: MESSAGE_HEADER_BYTES to MESSAGE_MAX_BYTES */
};

/* Writes the message's `size` bytes. */
void message_write(const struct message *message, uint8_t *into);

/* What is wrong with what came back; all zero in a good run. */
struct message_faults {
    uint64_t missing;  /* messages that a later one overtook */
    uint64_t repeated; /* messages that came again, or late */
    uint64_t altered;  /* messages with a wrong byte in the pattern */
    uint64_t broken;   /* streams that lost their framing: a header that its check value does not confirm, or of
                          another client, size, or of a message that was never sent */
};

/* One client's receiving side. */
struct message_reader {
    uint64_t sent;     /* messages that the client has sent: none beyond can come back. The owner counts it up. */
    uint64_t expected; /* the sequence that should come next */
    uint64_t sequence; /* of the message being read */
    uint32_t client;
    uint32_t size;    /* of every message; those of MESSAGE_HEADER_BYTES (pings) may come between */
    uint32_t present; /* size of the present message, once its header has come */
    uint32_t offset;  /* bytes of the present message that have come */
    uint8_t altered;  /* a byte of it was wrong */
    uint8_t header[MESSAGE_HEADER_BYTES];
};

void message_reader_init(struct message_reader *reader, uint32_t client, uint32_t size);

/* Called for each message that came back whole, unaltered and for the first time. */
typedef void message_fn(struct message_reader *reader, const struct message *message);

/* Takes bytes as they come, in pieces of any length. Faults are added up in `faults`. ERROR_INVALID when the framing is
 * lost: nothing after can be judged, and the reader must not be fed again. */
enum error_code message_reader_feed(struct message_reader *reader, const uint8_t *bytes, size_t length,
                                    struct message_faults *faults, message_fn *whole);

/* Messages sent that have neither come back nor been overtaken. */
static inline uint64_t message_reader_outstanding(const struct message_reader *reader)
{
    return reader->sent - reader->expected;
}

#endif
