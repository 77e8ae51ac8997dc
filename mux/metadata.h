/*
 * What the core is told about a client: carried in the header fields of its CONNECT request (docs/PROTOCOL.md).
 * A view with pointers into whatever it was made from. What sessions keep of it: mux/metadata_pool.h.
 */
#ifndef MUX_METADATA_H
#define MUX_METADATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/address.h"
#include "mux/error.h"

#define METADATA_SERVICE_MAX     255U  /* bytes of a service name */
#define METADATA_CERTIFICATE_MAX 8192U /* bytes of a client certificate, DER */

#define METADATA_SESSION_BYTES 16U

#define METADATA_NOTE_MAX 1024U /* bytes of a note */

/* trunkline-note: what a handler has left at the edge, for the session that takes the place of its own. The offsets say
 * when, modulo 2^32. */
struct metadata_note {
    const uint8_t *bytes; /* NULL: none */
    uint32_t length;
    uint32_t sent;     /* what the handler had written by then */
    uint32_t consumed; /* and consumed */
};

/* By which a session is known beyond the trunk that it began on. */
struct metadata_session {
    uint8_t id[METADATA_SESSION_BYTES]; /* trunkline-session: unguessable */
    uint8_t known;                      /* `id` is one */
    uint8_t resumes;                    /* trunkline-received came: the session goes on, it does not begin */
    uint8_t reopens;   /* trunkline-acknowledged came: where the session is not known, a new one may take its place */
    uint32_t received; /* what its sender has received so far, modulo 2^32: bytes, and one for their end */
    uint32_t acknowledged; /* with `reopens`: from where on its sender can send again */
    uint32_t unconsumed;   /* with `reopens`, trunkline-unconsumed: of what it has received, so many bytes take room of
                              the new stream's window */
    struct metadata_note note;
};

struct metadata {
    const char *service;             /* :authority */
    const char *server_name;         /* SNI; "" when none */
    const char *alpn;                /* "" when none */
    struct address_compact client;   /* forwarded: for= */
    struct address_compact listener; /* forwarded: by= */
    uint16_t tls_version;            /* 0x0304; 0 unknown */
    uint16_t tls_suite;              /* IANA number; 0 unknown */
    const uint8_t *certificate;
    uint32_t certificate_length; /* 0: none */
    const char *edge; /* whose the trunk's certificate is; NULL or "" unknown; the core adds it, never sent */
    struct metadata_session session;
};

/* A header field; neither is zero-terminated. */
struct metadata_field {
    const char *name;
    const char *value;
    uint16_t name_length;
    uint16_t value_length;
    uint8_t unique; /* unique to one client: to be sent never-indexed */
};

#define METADATA_FIELDS_MAX   12
#define METADATA_ENCODE_BYTES 1024U /* room that metadata_encode needs beside the certificate */

/* What the values need at most. */
size_t metadata_encode_bytes(const struct metadata *metadata);

/* Makes the fields (:method and :authority first). The values are written to `room`, which needs metadata_encode_bytes
 * and must live as long as the fields are used.
 * ERROR_INVALID when a name or value holds bytes that a field may not; ERROR_LIMIT for too little room. */
enum error_code metadata_encode(const struct metadata *metadata, char *room, size_t capacity,
                                struct metadata_field fields[METADATA_FIELDS_MAX], size_t *count);

/* Collects the fields of one request. Reused for request after request: metadata_parse_begin, a call per field,
 * metadata_parse_end. */
struct metadata_parser {
    struct metadata view;  /* points into `room` */
    enum error_code error; /* the first that occurred */
    uint8_t connect;       /* :method was CONNECT */
    uint16_t seen;         /* bits of fields already seen: each may come once */
    size_t bytes;          /* as SETTINGS_MAX_HEADER_LIST_SIZE counts: name + value + 32 */
    size_t limit_bytes;
    char *room;
    size_t room_used;
    size_t room_capacity;
};

/* Takes memory for the largest request that `limit_bytes` allows. */
enum error_code metadata_parser_init(struct metadata_parser *parser, size_t limit_bytes);
void metadata_parser_dispose(struct metadata_parser *parser);

/* The value of trunkline-received: 1 to 10 digits, below 2^32. False when it is none. */
bool metadata_parse_received(const char *value, size_t length, uint32_t *received);

/* Its opposite, into at least METADATA_RECEIVED_TEXT bytes; returns the length. */
#define METADATA_RECEIVED_FIELD "trunkline-received"
#define METADATA_RECEIVED_TEXT  11U
size_t metadata_format_received(uint32_t received, char text[METADATA_RECEIVED_TEXT]);

void metadata_parse_begin(struct metadata_parser *parser);

/* Never fails: what is wrong is told by metadata_parse_end. Unknown fields are counted and skipped. */
void metadata_parse_field(struct metadata_parser *parser, const char *name, size_t name_length, const char *value,
                          size_t value_length);

/* ERROR_METHOD_NOT_ALLOWED, ERROR_METADATA_TOO_LARGE, ERROR_BAD_METADATA (a field of ours is malformed, repeated or
 * missing), in this order. parser->view is valid until the next begin. */
enum error_code metadata_parse_end(struct metadata_parser *parser);

/* Bytes of room that metadata_copy_into needs beside the structure. */
size_t metadata_copy_bytes(const struct metadata *metadata);

/* Makes `copy` equal to `metadata`, with what it points at in `place`, which must live as long. */
void metadata_copy_into(struct metadata *copy, char *place, const struct metadata *metadata);

#endif
