/*
 * The trunk engine: HTTP/2 (RFC 9113) in which every stream is a CONNECT tunnel (section 8.5). Bytes and time in,
 * bytes and events out; no I/O. It owns the nghttp2 session; the memory of a stream belongs to whoever opened or
 * accepted it and is embedded there. The only files that know nghttp2 are trunk*.c. One thread.
 *
 * Streams that outlive their trunk (docs/PROTOCOL.md, "Resuming"): if both ends allow it, a stream whose metadata has a
 * session's id keeps what it sent until the peer has acknowledged it. When the trunk is lost, `suspended` says so
 * instead of `closed`: the stream may be written to, read from and ended on as before, within bounds, and goes on where
 * it was once the opener has asked for it on another trunk with trunk_stream_resume.
 *
 * Flow control: bytes from the peer are passed to `data` at once, and the peer may send more on that stream only as
 * trunk_stream_consume tells that they were taken. A stream's window grows and shrinks with what the consumer takes in
 * a round trip, out of a budget that trunks share (mux/window.h, mux/buffer_budget.h). The window of the whole trunk is
 * opened on receipt, so that a stalled stream never holds up the others. Towards the peer, a stream's queue holds at
 * most what its window and the backlog allow (trunk_stream_room), and queues take turns of LIMIT_TRUNK_QUANTUM_BYTES.
 */
#ifndef MUX_TRUNK_H
#define MUX_TRUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/buffer_budget.h"
#include "mux/chain.h"
#include "mux/error.h"
#include "mux/list.h"
#include "mux/metadata.h"
#include "mux/pack.h"
#include "mux/scheduler.h"
#include "mux/stream.h"

struct trunk;
struct trunk_work; /* what a stream has only while something of it waits to be sent, or came before it was accepted */

enum trunk_role {
    TRUNK_OPENER,   /* the edge: HTTP/2 client, opens streams */
    TRUNK_ACCEPTOR, /* the core: HTTP/2 server */
};

/* RFC 9113 section 7. */
enum trunk_code {
    TRUNK_CODE_NO_ERROR = 0,
    TRUNK_CODE_PROTOCOL_ERROR = 1,
    TRUNK_CODE_INTERNAL_ERROR = 2,
    TRUNK_CODE_REFUSED_STREAM = 7,
    TRUNK_CODE_CANCEL = 8,
    TRUNK_CODE_CONNECT_ERROR = 10,
    TRUNK_CODE_ENHANCE_YOUR_CALM = 11,
};

/* SETTINGS of ours, in the range for experiments (RFC 9113 section 11.3, 0xf000 to 0xffff). */
#define TRUNK_SETTING_EDGE_WORKER 0xf7a1 /* identifies the edge worker: its trunks share a core worker */
#define TRUNK_SETTING_RESUME      0xf7a2 /* TRUNK_RESUME_VERSION: streams with a session's id outlive the trunk */
#define TRUNK_RESUME_VERSION      1U

/* Our frame, of the types for experiments (RFC 9113 section 11.2); only between peers that both sent the setting. */
#define TRUNK_FRAME_ACK  0xf7
#define TRUNK_FRAME_NOTE 0xf8

/* Error code of an acceptor that shuts down: the stream goes on, elsewhere. Of no registry: only between peers that
 * resume. */
#define TRUNK_CODE_MOVED 0xf7a3

/* Likewise: the session was asked for on another trunk. An opener that has not done so, or not since, asks again. */
#define TRUNK_CODE_TAKEN 0xf7a4

/* A stream; embedded in its owner, who zeroes it before its first use. All fields are the trunk's. 48 bytes, paid for
 * by every idle session. */
struct trunk_stream {
    struct trunk *trunk;     /*  0: NULL: not attached */
    struct list_node all;    /*  8: in trunk->streams, or in trunk->unacknowledged */
    struct trunk_work *work; /* 24: NULL when idle */
    int32_t id;              /* 32: 0 when not attached */
    uint32_t received;       /* 36: bytes from the peer so far, and one for their end; modulo 2^32 */
    uint32_t sent;           /* 40: bytes in DATA frames so far, and one for END_STREAM; modulo 2^32 */
    uint8_t input;           /* 44: enum stream_state */
    uint8_t output;          /* 45 */
    uint8_t wants_room : 1;  /* 46: `writable` is owed */
    uint8_t grown : 1;       /*     its receive window may be larger than at the start */
    uint8_t stalled : 1;     /*     has taken and sent nothing since trunk_stream_mark */
    uint8_t flags;           /* 47 */
};

/* Bits of trunk_stream.flags that those outside may look at; the others are in mux/trunk_internal.h. */
enum {
    TRUNK_STREAM_RESUMABLE = 16, /* has a session's id, and the peer keeps its bytes until they are acknowledged */
    TRUNK_STREAM_SUSPENDED = 32, /* its trunk is lost; what it had is kept */
    TRUNK_STREAM_RESUMING = 64,  /* asked for on another trunk, the answer is awaited, or not given */
};

/* Who moves a trunk's bytes: a link, or a test. Embedded there, found with container_of. */
struct trunk_carrier {
    /* There is something to send: call trunk_send once the batch of events is over. */
    void (*want_send)(struct trunk_carrier *carrier);

    /* The trunk failed by itself (PING deadline, the peer's protocol error found while sending): send what trunk_send
     * still gives, then free it, outside of the call. */
    void (*failed)(struct trunk_carrier *carrier, enum error_code error);
};

/* What a trunk tells the owner of its streams. Streams may be written, ended, consumed, reset or opened from within,
 * but the trunk must not be fed, asked to send, or freed. */
struct trunk_events {
    /* Acceptor: a well-formed CONNECT came. Returns the memory for its stream, or NULL to refuse it with
     * REFUSED_STREAM, or with the HTTP status that *status was set to. The stream cannot be used yet: `attached`
     * follows (or `closed`, if it is gone already). A request with a session's id may be given the stream that has it,
     * after trunk_stream_interrupt: `resumed` follows then, or nothing if the request cannot be granted. */
    struct trunk_stream *(*opening)(void *owner, const struct metadata *metadata, int *status);

    /* Acceptor: the stream can be answered with trunk_stream_accept or trunk_stream_refuse, here or later. */
    void (*attached)(void *owner, struct trunk_stream *stream);

    /* Opener: the peer accepted (2xx); from now on the stream may be written. */
    void (*opened)(void *owner, struct trunk_stream *stream);

    /* Bytes of the stream, valid during the call only. */
    void (*data)(void *owner, struct trunk_stream *stream, const uint8_t *bytes, size_t length);

    /* The peer's clean end (END_STREAM). */
    void (*end)(void *owner, struct trunk_stream *stream);

    /* There is room again, after trunk_stream_room was found smaller than wished and trunk_stream_want_room called. */
    void (*writable)(void *owner, struct trunk_stream *stream);

    /* The stream is detached; its memory is the owner's again, who may free it. `error`: ERROR_NONE after a clean end
     * of both directions; ERROR_REFUSED with `detail` the HTTP status (or 0 for REFUSED_STREAM: not processed, may be
     * tried elsewhere); ERROR_PEER_RESET with `detail` the error code; ERROR_TRUNK_LOST. Not called for streams that
     * the owner reset itself. */
    void (*closed)(void *owner, struct trunk_stream *stream, enum error_code error, uint32_t detail);

    /* The trunk is lost and the stream is not: see above. Its owner waits for the peer, or resumes it, or gives it up
     * with trunk_stream_reset. `owner` is the trunk's, which may be about to be freed. `reason`: ERROR_TRUNK_LOST;
     * or the stream is not on it any more; ERROR_REFUSED (trunk_stream_resume was refused for now); ERROR_SHUTDOWN (the
     * acceptor goes, and moved the stream).
     */
    void (*suspended)(void *owner, struct trunk_stream *stream, enum error_code reason);

    /* Opener: the acceptor leaves this for the one that may take its place. Bytes are valid during the call. */
    void (*noted)(void *owner, struct trunk_stream *stream, const struct metadata_note *note);

    /* The stream goes on, on this trunk. */
    void (*resumed)(void *owner, struct trunk_stream *stream);

    /* The peer's SETTINGS came: streams may be opened. */
    void (*ready)(void *owner);

    /* The peer's GOAWAY came: no stream can be opened from now on; those that it did not process close with
     * ERROR_REFUSED, the others go on. */
    void (*goaway)(void *owner, uint32_t code);

    /* A request was refused by the trunk itself, before any stream was attached: for the log. `status` 0: with
     * REFUSED_STREAM. Acceptor only. */
    void (*refused)(void *owner, enum error_code error, int status);
};

struct trunk_settings {
    enum trunk_role role;
    uint32_t edge_worker;             /* opener: sent as TRUNK_SETTING_EDGE_WORKER; 0: not sent */
    uint32_t sessions_max;            /* streams at a time: announced by an acceptor, obeyed by an opener */
    uint32_t opens_max;               /* opener: streams before it calls itself exhausted */
    uint32_t stream_window_bytes;     /* at the start, and of streams that rest */
    uint32_t stream_window_max_bytes; /* as large as one may grow */
    uint32_t trunk_window_bytes;
    uint32_t stream_backlog_bytes; /* that may wait to be sent for one stream, */
    uint32_t trunk_backlog_bytes;  /* and for all of a trunk, before each is held to a small share */
    struct buffer_budget *buffers; /* what buffers hold is charged to it; NULL: to nobody. Outlives the trunk */
    uint32_t header_bytes_max;
    uint32_t ping_interval_ms;
    uint32_t ping_timeout_ms;
    bool resume;            /* offered to the peer; `suspended` and `resumed` must be there */
    struct slab *work_slab; /* with `resume`: of trunk_work_slab_init, for all trunks that streams may move between */
};

/* Defaults of mux/limits.h. */
void trunk_settings_init(struct trunk_settings *settings, enum trunk_role role);

/* What streams hold while they are not idle lives in such a slab. */
void trunk_work_slab_init(struct slab *slab);

/* ERROR_NO_MEMORY. Scheduler and carrier must outlive the trunk; `owner` is passed to each event. *trunk is set before
 * the first call of the carrier. */
enum error_code trunk_new(struct trunk **trunk, const struct trunk_settings *settings, struct scheduler *scheduler,
                          struct trunk_carrier *carrier, const struct trunk_events *events, void *owner);

/* Suspends every stream that can be resumed, closes the others with ERROR_TRUNK_LOST (events are called), then frees.
 * Nulls the pointer. */
void trunk_free(struct trunk **trunk);

/* Feeds bytes from the peer; all are taken. ERROR_TRUNK_PROTOCOL, ERROR_TRUNK_PREFACE or ERROR_NO_MEMORY: send what
 * trunk_send still gives (it tells the peer), then free. */
enum error_code trunk_receive(struct trunk *trunk, const uint8_t *bytes, size_t length);

/* Fills `into` with frames for the peer, control frames first; *length 0 when there is nothing to send. Give room for
 * whole TLS records (TLS_RECORD_MAX_BYTES): DATA frames are cut to fit what is left. */
enum error_code trunk_send(struct trunk *trunk, uint8_t *into, size_t capacity, size_t *length);

/* Tells the peer that no more streams are accepted (or opened). Streams go on. */
enum error_code trunk_goaway(struct trunk *trunk, enum trunk_code code);

/* Opener: starts a stream. ERROR_TRUNK_GOAWAY, ERROR_TRUNK_EXHAUSTED, ERROR_LIMIT (the peer's or our limit of
 * streams), ERROR_STATE (not ready), ERROR_INVALID (metadata that no header field can carry),
 * ERROR_METADATA_TOO_LARGE, ERROR_NO_MEMORY. */
enum error_code trunk_stream_open(struct trunk *trunk, struct trunk_stream *stream, const struct metadata *metadata);

/* Opener: goes on with a suspended stream. `metadata` as for trunk_stream_open, with the session's id; the rest of
 * metadata->session is filled in here. Errors as there; the stream is still suspended then. ERROR_STATE also when the
 * peer does not resume. `resumed` follows, or `closed`, or `suspended`. */
enum error_code trunk_stream_resume(struct trunk *trunk, struct trunk_stream *stream, const struct metadata *metadata);

/* Opener, of a suspended stream: may one who has never heard of it take it up? Not what the peer has ended, nor when
 * the peer has bytes unconsumed that are not kept here. trunk_stream_resume tells the peer. */
bool trunk_stream_reopenable(const struct trunk_stream *stream);

/* Acceptor: leaves a note with the opener, instead of the one before. ERROR_STATE when the stream cannot be resumed, or
 * is on no trunk; ERROR_WOULD_BLOCK when too many notes wait to be sent; ERROR_NO_MEMORY. */
enum error_code trunk_stream_note(struct trunk_stream *stream, const struct metadata_note *note);

/* All that was written, and all that was consumed so far, modulo 2^32: the offsets of a note, which are those of bytes,
 * the end not counted. */
uint32_t trunk_stream_written(const struct trunk_stream *stream);
uint32_t trunk_stream_consumed(const struct trunk_stream *stream);

/* Acceptor: what was consumed of the stream, and every note, was written to the trunk. */
bool trunk_stream_told(const struct trunk_stream *stream);

/* Acceptor: takes a stream from its trunk, as if that were lost, without an event: the peer asks for it on another
 * one. ERROR_STATE when it cannot be resumed, ERROR_NO_MEMORY. */
enum error_code trunk_stream_interrupt(struct trunk_stream *stream);

/* Acceptor: answers the request with 200; on a suspended stream, as soon as it is asked for. ERROR_NO_MEMORY. */
enum error_code trunk_stream_accept(struct trunk_stream *stream);

/* Acceptor: answers the request with a status of 400 or more and a short text (not empty). The stream is detached. */
void trunk_stream_refuse(struct trunk_stream *stream, int status, const char *text);

/* How many bytes trunk_stream_write may be given: what the peer's window and the backlog allow, less what is queued. */
size_t trunk_stream_room(const struct trunk_stream *stream);

/* Asks for one `writable` event, as soon as there is room. */
void trunk_stream_want_room(struct trunk_stream *stream);

/* Queues all of the bytes. The caller asks for the room first; it may go over it by less than one TLS record.
 * ERROR_STATE (not open, or ended), ERROR_NO_MEMORY (nothing was queued). */
enum error_code trunk_stream_write(struct trunk_stream *stream, const uint8_t *bytes, size_t length);

/* Bytes that were written and are not framed yet. */
size_t trunk_stream_queued(const struct trunk_stream *stream);

/* Ends the output once the queue is sent (END_STREAM). No effect when ended. ERROR_NO_MEMORY: it was not asked for, and
 * the stream is to be reset. */
enum error_code trunk_stream_end(struct trunk_stream *stream);

/* The consumer took `length` of the bytes that `data` brought: the peer may send as many more. */
void trunk_stream_consume(struct trunk_stream *stream, size_t length);

/* What the budget is charged for the stream: bytes that were not consumed or not sent, and what its window has grown
 * by. */
uint64_t trunk_stream_charged(const struct trunk_stream *stream);

/* Bytes given to `data` and not yet consumed. */
size_t trunk_stream_unconsumed(const struct trunk_stream *stream);

/* From now on it is to be seen whether the stream takes or sends bytes: it is marked until it does. */
void trunk_stream_mark(struct trunk_stream *stream);
bool trunk_stream_marked(const struct trunk_stream *stream);

/* Bytes that the peer may have under way, or that wait to be consumed, at most; 0 when detached. */
uint32_t trunk_stream_receive_window(const struct trunk_stream *stream);

/* Ends both directions at once (RST_STREAM) and detaches: no event of this stream follows, what is queued is dropped.
 * A suspended stream is given up. No effect on a detached one. */
void trunk_stream_reset(struct trunk_stream *stream, enum trunk_code code);

/* As trunk_stream_reset, but what is queued is sent first: for an end that is not clean, behind bytes that are good.
 * The trunk takes the queue over; if the peer does not take it within one to two PING intervals, it is dropped; so it
 * is when the stream is suspended or resuming. */
void trunk_stream_abort(struct trunk_stream *stream, enum trunk_code code);

/* For another process that goes on with the stream, as with one whose trunk is lost. Exportable is what can be resumed.
 * An export changes nothing, and secrets are not in it, only bytes. The import makes a suspended stream, for
 * trunk_stream_resume, or, when it was not answered yet, to be reset and opened again: ERROR_INVALID, ERROR_NO_MEMORY;
 * nothing is to be freed then. `work_slab` and `buffers` as in
 * trunk_settings. */
bool trunk_stream_exportable(const struct trunk_stream *stream);
void trunk_stream_export(const struct trunk_stream *stream, struct pack *pack);
enum error_code trunk_stream_import(struct trunk_stream *stream, struct unpack *unpack, struct slab *work_slab,
                                    struct buffer_budget *buffers);

/* As trunk_stream_reset, but the peer is told nothing: somebody else goes on with the stream. */
void trunk_stream_forget(struct trunk_stream *stream);

/* What trunk_new was given. */
void *trunk_owner(const struct trunk *trunk);

/* True until `closed`, or a reset: also while it is suspended. */
static inline bool trunk_stream_attached(const struct trunk_stream *stream)
{
    return stream->trunk != NULL || (stream->flags & TRUNK_STREAM_SUSPENDED) != 0;
}

static inline bool trunk_stream_suspended(const struct trunk_stream *stream)
{
    return (stream->flags & TRUNK_STREAM_SUSPENDED) != 0;
}

/* Suspended, or asked for again and not answered. */
static inline bool trunk_stream_interrupted(const struct trunk_stream *stream)
{
    return (stream->flags & (TRUNK_STREAM_SUSPENDED | TRUNK_STREAM_RESUMING)) != 0;
}

/* Bytes that were sent and that the peer has not acknowledged; 0 for a stream that cannot be resumed. */
size_t trunk_stream_retained(const struct trunk_stream *stream);

/* Both ends resume. */
bool trunk_resumes(const struct trunk *trunk);

/* Streams attached now. */
size_t trunk_stream_count(const struct trunk *trunk);

/* May trunk_stream_open succeed? ERROR_NONE, or the error that it would give. */
enum error_code trunk_openable(const struct trunk *trunk);

/* Round-trip time of the last PING in microseconds; 0 before the first answer. */
uint64_t trunk_rtt_us(const struct trunk *trunk);

/* For the acceptor of connections: looks for our setting in the client's first bytes (the 24 byte preface and its
 * SETTINGS frame). ERROR_WOULD_BLOCK: more bytes are needed; ERROR_TRUNK_PREFACE: this is not HTTP/2, or the first
 * frame is no SETTINGS frame of a sane size. *edge_worker is 0 when the peer sent none. */
enum error_code trunk_greeting_parse(const uint8_t *bytes, size_t length, uint32_t *edge_worker);

/* No more bytes than this are ever needed for the above. */
#define TRUNK_GREETING_MAX_BYTES 1024U

#endif
