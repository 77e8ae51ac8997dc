/*
 * What the clients send to be echoed: messages that prove, byte by byte, that they came back whole, once and in order.
 * A header of MESSAGE_HEADER_BYTES names the client, a sequence number, the intended time of sending and the size,
 * under a check value; the rest is a pattern that follows from client and sequence. Bytes in, verdicts out; no I/O, no
 * clock. A reader holds memory only while a message has come in part. One thread.
 */
#ifndef LOAD_MESSAGE_H
#define LOAD_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "mux/error.h"
#include "mux/slab.h"

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

/* A message that is being read; kept between two reads when it has come in part. */
struct message_partial {
    uint64_t sequence;
    uint32_t present; /* its size, once its header has come */
    uint32_t offset;  /* bytes of it that have come */
    uint8_t altered;  /* a byte of it was wrong */
    uint8_t header[MESSAGE_HEADER_BYTES];
};

struct message_reader;
struct message_rules;

/* Called for each message that came back whole, unaltered and for the first time. */
typedef void message_fn(struct message_reader *reader, const struct message_rules *rules,
                        const struct message *message);

/* What the readers of a run share; the pointers belong to their owner. */
struct message_rules {
    message_fn *whole;
    struct message_faults *faults; /* are added up here */
    struct slab *partials;         /* of struct message_partial */
    uint32_t size;                 /* of every message; those of MESSAGE_HEADER_BYTES (pings) may come between */
};

#define MESSAGE_AWAITED_MAX UINT32_C(0x7fffffff)
#define MESSAGE_AWAITED_ANY UINT32_MAX /* the peer sends by itself, any number */

/* One client's receiving side: 24 bytes, as each idle client has one. */
struct message_reader {
    struct message_partial *partial; /*  0: NULL between messages */
    uint64_t expected;               /*  8: the sequence that should come next */
    uint32_t awaited;                /* 16: messages from there on that can come: its owner has sent them, and counts
                                            them up. Or MESSAGE_AWAITED_ANY */
    uint32_t client;                 /* 20 */
};

void message_reader_init(struct message_reader *reader, uint32_t client);

/* Gives up a message that has come in part. */
void message_reader_end(struct message_reader *reader, const struct message_rules *rules);

/* Takes bytes as they come, in pieces of any length. ERROR_INVALID when the framing is lost: nothing after can be
 * judged. ERROR_NO_MEMORY. After an error the reader must not be fed again. */
enum error_code message_reader_feed(struct message_reader *reader, const struct message_rules *rules,
                                    const uint8_t *bytes, size_t length);

#endif
