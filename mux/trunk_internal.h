/* What the files of the trunk engine share. Nobody else includes this. */
#ifndef MUX_TRUNK_INTERNAL_H
#define MUX_TRUNK_INTERNAL_H

#include <nghttp2/nghttp2.h>

#include "mux/slab_group.h"
#include "mux/trunk.h"
#include "mux/trunk_budget.h"
#include "mux/window.h"

/* Bits of trunk_stream.flags. */
enum {
    TRUNK_STREAM_INTERNAL = 1,    /* a refusal's answer, or an abort's last bytes: the trunk owns and frees it */
    TRUNK_STREAM_UNPROCESSED = 2, /* its CONNECT was never sent */
    TRUNK_STREAM_ABORTS = 4,      /* internal: RST_STREAM, not END_STREAM, follows the last byte */
    TRUNK_STREAM_AGED = 8,        /* internal: has seen one PING interval pass */
};

/* What a stream received before its owner accepted it; bounded by the stream's window, as it is not consumed. */
struct trunk_held {
    struct list_node node; /* in trunk->held */
    struct trunk_stream *stream;
    struct chain bytes;
    uint8_t ended;
};

/* What a stream has besides while its window is measured; see trunk_window.c. */
struct trunk_window {
    struct list_node node; /* in trunk->windows */
    struct trunk_stream *stream;
    struct window window;
    uint8_t seen; /* something was consumed since the last sweep */
};

#define TRUNK_SWEEP_MS 1000U /* a window is measured for one to two of these after the stream's last byte */

/* What a stream that is not idle has besides; freed as soon as none of it is in use. */
struct trunk_work {
    struct list_node ready; /* in trunk->ready while the stream may send */
    struct list_node roomy; /* in trunk->roomy while `writable` is due */
    struct trunk_stream *stream;
    struct chain queue;          /* accepted from the owner, not yet framed */
    struct trunk_held *held;     /* NULL: none */
    struct trunk_window *window; /* NULL: none */
};

#define TRUNK_H2_STREAM_LEAST_BYTES 208U /* of nghttp2's object for a stream; up to 48 more are served from slabs */

/* A round trip is the shortest of many PINGs, as those behind a backlog take longer, which must not make windows larger
 * that make the backlog. They are forgotten after one to two epochs, as paths change. */
#define TRUNK_RTT_EPOCH_US 300000000U

struct trunk {
    nghttp2_session *h2;
    struct slab_group h2_memory; /* of nghttp2's streams */
    struct slab work_slab;
    struct slab window_slab;
    struct trunk_settings settings;
    struct scheduler *scheduler;
    struct trunk_carrier *carrier;
    const struct trunk_events *events;
    void *owner;

    struct list streams; /* every attached stream, by trunk_stream.all */
    struct list ready;   /* of struct trunk_work: streams whose turn to send comes, in order */
    struct list held;
    struct list windows; /* of struct trunk_window */
    struct list roomy;   /* of struct trunk_work: streams whose queue has room again, and that asked for it */
    struct task tell_room;
    struct timer sweep;    /* of windows */
    size_t queued_bytes;   /* of all streams */
    size_t internal_count; /* streams that the trunk owns */
    struct task deliver_held;
    size_t stream_count; /* attached */
    size_t open_streams; /* in nghttp2's eyes: also those reset and not yet forgotten */
    uint32_t peer_streams_max;
    uint32_t peer_initial_window;

    struct metadata_parser parser; /* of the one header block that can be under way */
    int status;                    /* of the response under way */

    struct trunk_budget budget;      /* of what the peer may ask for nothing */
    uint64_t reported_bytes;         /* of received_bytes: frames that nghttp2 has told of, from their beginning on;
                                        and what it ignored without a word, as far as it is charged */
    uint64_t ignored_bytes_expected; /* for streams that we reset: what may have been under way */

    struct timer ping;
    uint64_t ping_sent_us; /* 0: none outstanding */
    uint64_t rtt_us;
    uint64_t rtt_least_us[2]; /* of the PINGs of this epoch and the one before; 0: none */
    uint64_t rtt_epoch_us;    /* when this one began */
    struct window window;     /* of the whole trunk */
    uint64_t received_bytes;
    uint64_t received_bytes_at_ping;

    /* One call of trunk_send. */
    uint8_t *out;
    size_t out_length;
    size_t out_capacity;
    const uint8_t *carry; /* the rest of a frame that did not fit; nghttp2's memory, valid until the next frame */
    size_t carry_length;
    uint8_t first_frame[9 + 6 * 6]; /* acceptor: our SETTINGS, with the limit of streams filled in */
    struct trunk_stream *turn;      /* whose DATA frame is being made */
    size_t turn_bytes;

    enum error_code error; /* first failure inside a callback */
    uint8_t ready_for_streams;
    uint8_t goaway_received;
    uint32_t goaway_code; /* of trunk_goaway */
    uint8_t goaway_sent;  /* by trunk_goaway */
    uint8_t failed;       /* the owner has been told */
    uint8_t announced;    /* acceptor: the first frame has been made */
    uint8_t busy;         /* inside nghttp2: must not be entered again */
};

/* trunk.c */
void trunk_stream_attach(struct trunk *trunk, struct trunk_stream *stream, int32_t id);
void trunk_stream_detach(struct trunk_stream *stream);
void trunk_want_send(struct trunk *trunk);
void trunk_fail(struct trunk *trunk, enum error_code error);
enum error_code trunk_error_from_nghttp2(int code);
struct trunk_stream *trunk_stream_of(struct trunk *trunk, int32_t id);
/* An attached stream of the trunk's own that takes `work` over; NULL (and the work untouched) when memory is out or
 * nghttp2 does not know the identifier any more. */
struct trunk_stream *trunk_internal_new(struct trunk *trunk, int32_t id, struct trunk_work *work);
void trunk_internal_free(struct trunk_stream *stream);
/* Called once per PING interval: streams of our own that did not end within one are reset. */
void trunk_internal_age(struct trunk *trunk);
/* A response that ends the stream, from memory of the trunk's own. */
void trunk_respond(struct trunk *trunk, int32_t id, int status, const char *text);

/* trunk_memory.c */
/* nghttp2's allocator; the group must outlive the session. */
nghttp2_mem trunk_memory_allocator(struct slab_group *group);

/* trunk_work.c: the stream's, made if need be; NULL when memory is out. */
struct trunk_work *trunk_work_get(struct trunk_stream *stream);
void trunk_work_init(struct trunk_work *work, struct trunk_stream *stream);
/* To the end of its queue. ERROR_NO_MEMORY: nothing was. */
enum error_code trunk_work_append(struct trunk *trunk, struct trunk_work *work, const uint8_t *bytes, size_t length);
/* So many bytes of its queue are in frames. */
void trunk_work_sent(struct trunk *trunk, struct trunk_work *work, size_t length);
/* Frees it if none of it is in use: to be called after the queue has become empty or `held` is gone. */
void trunk_work_settle(struct trunk_stream *stream);
/* Frees it with all that is in it. */
void trunk_work_drop(struct trunk_stream *stream);
/* For one that belongs to no stream now. */
void trunk_work_free(struct trunk *trunk, struct trunk_work *work);

/* trunk_send.c: the stream has `work`, and wants its turn. */
void trunk_stream_make_ready(struct trunk_stream *stream);
int trunk_on_send_data(nghttp2_session *h2, nghttp2_frame *frame, const uint8_t *header, size_t length,
                       nghttp2_data_source *source, void *user_data);
int trunk_on_frame_send(nghttp2_session *h2, const nghttp2_frame *frame, void *user_data);
/* A task: `writable`, for those in trunk->roomy. */
void trunk_tell_room(struct task *task);
int trunk_on_frame_not_send(nghttp2_session *h2, const nghttp2_frame *frame, int error, void *user_data);

/* trunk_charge.c */
#define TRUNK_FRAME_HEADER_BYTES 9U /* RFC 9113 section 4.1 */
/* The peer has gone too far: makes GOAWAY(ENHANCE_YOUR_CALM), sets and returns the error. */
enum error_code trunk_end_flood(struct trunk *trunk);
/* Takes tokens of the budget. 0, or what a callback of nghttp2 returns once the peer has gone too far; `error` is set
 * then, and GOAWAY made. */
int trunk_charge(struct trunk *trunk, uint64_t tokens);
/* After bytes were received: for what nghttp2 passed over, unknown frames and bytes for streams that are over. As
 * trunk_charge. */
int trunk_charge_ignored(struct trunk *trunk);
int trunk_on_begin_frame(nghttp2_session *h2, const nghttp2_frame_hd *header, void *user_data);
int trunk_on_invalid_frame(nghttp2_session *h2, const nghttp2_frame *frame, int error, void *user_data);

/* trunk_window.c */
/* Bytes came for the stream: counts and charges them. */
void trunk_window_received(struct trunk_stream *stream, size_t length);
/* The stream is about to be detached: nothing of it is charged any more, but its queue. */
void trunk_window_drop(struct trunk_stream *stream);
/* Bytes came for whatever stream: the trunk's own window is opened. 0, or nghttp2's error. */
int trunk_window_opened_by(struct trunk *trunk, size_t length);
/* Tells the peer of the trunk's first window. The same. */
int trunk_window_start(struct trunk *trunk);
void trunk_windows_sweep(struct timer *timer);

/* trunk_receive.c */
void trunk_receive_callbacks(nghttp2_session_callbacks *callbacks);
void trunk_deliver_held(struct task *task);
void trunk_held_free(struct trunk_held *held);
void trunk_ping_start(struct trunk *trunk);
void trunk_ping_early(struct trunk *trunk);
/* The shortest of recent PINGs; 0 before the first answer. */
uint64_t trunk_round_trip_us(const struct trunk *trunk);

#endif
