/* What the files of the trunk engine share. Nobody else includes this. */
#ifndef MUX_TRUNK_INTERNAL_H
#define MUX_TRUNK_INTERNAL_H

#include <nghttp2/nghttp2.h>

#include "mux/slab_group.h"
#include "mux/trunk.h"
#include "mux/trunk_budget.h"
#include "mux/window.h"

#define TRUNK_FRAME_HEADER_BYTES 9U /* RFC 9113 section 4.1 */

/* Bits of trunk_stream.flags. */
enum {
    TRUNK_STREAM_INTERNAL = 1,    /* a refusal's answer, or an abort's last bytes: the trunk owns and frees it */
    TRUNK_STREAM_UNPROCESSED = 2, /* its CONNECT was never sent */
    TRUNK_STREAM_ABORTS = 4,      /* internal: RST_STREAM, not END_STREAM, follows the last byte */
    TRUNK_STREAM_AGED = 8,        /* internal, or over: has seen one PING interval pass */
    /* 16, 32, 64: mux/trunk.h */
    TRUNK_STREAM_OVER = 128, /* both ends were told on the wire; the peer has not acknowledged the last bytes */
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
    struct list_node owed;  /* in trunk->owed: an acknowledgement is due to the peer */
    struct list_node roomy; /* in trunk->roomy while `writable` is due */
    struct trunk_stream *stream;
    struct buffer_budget *buffers; /* what the queue holds is charged to it; NULL: to nobody */
    struct chain queue;            /* from the owner: first what is retained, then what is not yet framed */
    struct chain_cursor next;      /* between the two */
    uint32_t retained;             /* sent and not acknowledged; END_STREAM, too, counts as one. 0 if not resumable */
    uint32_t unconsumed;           /* bytes given to `data` and not yet consumed */
    uint32_t stale;                /* of them, those from a trunk that is lost: no window there to be opened */
    uint32_t overhang;           /* of `retained`, bytes that the peer received from a trunk that is lost: so many less
                                    may be under way on this one */
    uint32_t inherited;          /* as many less, too: what the peer received from a core in whose place this one is,
                                    and has not consumed */
    struct trunk_held *held;     /* NULL: none */
    struct trunk_window *window; /* NULL: none */
};

#define TRUNK_H2_STREAM_LEAST_BYTES 208U /* of nghttp2's object for a stream; up to 48 more are served from slabs */

/* Where in the peer's frames its bytes are. */
struct trunk_cut {
    uint32_t left; /* of the frame at hand, or of the preface */
    uint8_t ours;  /* its type, if that is one of ours */
    uint8_t header_length;
    uint8_t header[TRUNK_FRAME_HEADER_BYTES]; /* of the next one, as far as it came */
};
/* A round trip is the shortest of many PINGs, as those behind a backlog take longer, which must not make windows larger
 * that make the backlog. They are forgotten after one to two epochs, as paths change. */
#define TRUNK_RTT_EPOCH_US 300000000U

struct trunk {
    nghttp2_session *h2;
    struct slab_group h2_memory; /* of nghttp2's streams */
    struct slab *work_slab;      /* the settings', or `own_works` */
    struct slab own_works;
    struct slab window_slab;
    struct trunk_settings settings;
    struct scheduler *scheduler;
    struct trunk_carrier *carrier;
    const struct trunk_events *events;
    void *owner;

    struct list streams; /* every attached stream, by trunk_stream.all */
    struct list ready;   /* of struct trunk_work: streams whose turn to send comes, in order */
    struct list held;
    struct list owed;           /* of struct trunk_work: acknowledgements to be sent */
    struct list unacknowledged; /* streams that are over but for the peer's acknowledgement */
    struct timer acknowledge;   /* until `owed` is sent */
    struct chain last_pairs;    /* acknowledgements of streams that are gone, as they go on the wire */
    size_t owed_bytes;          /* consumed since the last acknowledgements, all streams together */
    struct trunk_cut cut;
    uint8_t ack_part[8]; /* of the acknowledgement that is being received */
    uint8_t ack_part_length;
    struct chain notes;      /* frames of notes to be sent */
    struct chain note_input; /* the note that is being received, from its offsets on */
    bool note_skipped;       /* the frame that comes is no note: too long, or not the peer's to send */
    uint8_t ack_due;         /* `owed` goes with the next frames */
    uint8_t resumes;         /* both ends do */
    uint8_t has_answer;      /* of the response under way: trunkline-received came */
    uint32_t answer;         /* its value */
    struct list windows;     /* of struct trunk_window */
    struct list roomy;       /* of struct trunk_work: streams whose queue has room again, and that asked for it */
    struct task tell_room;
    struct timer sweep;    /* of windows */
    size_t queued_bytes;   /* of all streams, not yet in frames */
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
    uint64_t received_bytes;     /* by nghttp2 */
    uint64_t received_own_bytes; /* frames of ours */
    uint64_t rtt_least_us[2];    /* of the PINGs of this epoch and the one before; 0: none */
    uint64_t rtt_epoch_us;       /* when this one began */
    struct window window;        /* of the whole trunk */
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
    uint8_t ping_overdue; /* timeouts since the one outstanding was sent, while other bytes came */
};

/* trunk.c */
void trunk_stream_attach(struct trunk *trunk, struct trunk_stream *stream, int32_t id);
void trunk_stream_detach(struct trunk_stream *stream);
void trunk_want_send(struct trunk *trunk);
void trunk_fail(struct trunk *trunk, enum error_code error);
enum error_code trunk_error_from_nghttp2(int code);
struct trunk_stream *trunk_stream_of(struct trunk *trunk, int32_t id);
/* The same, but what the stream has from before is kept. */
void trunk_stream_link(struct trunk *trunk, struct trunk_stream *stream, int32_t id);
void trunk_stream_unlink(struct trunk_stream *stream);
/* Makes the request's HEADERS; *id is the new stream's. Errors as trunk_stream_open. */
enum error_code trunk_submit_request(struct trunk *trunk, struct trunk_stream *stream, const struct metadata *metadata,
                                     int32_t *id);
/* `received`: NULL, or what goes into trunkline-received. 0, or an error of nghttp2. */
int trunk_submit_status(struct trunk *trunk, int32_t id, int status, bool text, const uint32_t *received);
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
/* For a stream that is not attached to a trunk, or for none yet. */
struct trunk_work *trunk_work_new(struct slab *slab, struct buffer_budget *buffers, struct trunk_stream *stream);
/* Bytes of the queue that are sent and not acknowledged. */
size_t trunk_work_retained(const struct trunk_stream *stream);
/* To the end of its queue; `trunk` is NULL while the stream has none. ERROR_NO_MEMORY: nothing was. */
enum error_code trunk_work_append(struct trunk *trunk, struct trunk_work *work, const uint8_t *bytes, size_t length);
/* So many bytes of its queue are in frames. */
void trunk_work_sent(struct trunk_stream *stream, size_t length);
/* Drops the first bytes of its queue, which were sent. */
void trunk_work_discard(struct trunk_work *work, size_t length);
/* Frees it if none of it is in use: to be called after any part has become empty. */
void trunk_work_settle(struct trunk_stream *stream);
/* Frees it with all that is in it. */
void trunk_work_drop(struct trunk_stream *stream);
/* For one that belongs to no stream now; `trunk` is whose queues it counts towards. */
void trunk_work_free(struct trunk *trunk, struct trunk_work *work);

/* trunk_resume.c */
/* What the peer may still be sent on the stream now, by its window; may be below 0. */
int64_t trunk_stream_window(const struct trunk_stream *stream);
/* The trunk is lost: true when the stream is suspended, and the caller tells its owner. */
bool trunk_stream_suspend(struct trunk_stream *stream);
/* Acceptor: `id` is a request for a stream that is suspended. False when it cannot be granted, and was answered. */
bool trunk_resume_request(struct trunk *trunk, struct trunk_stream *stream, int32_t id,
                          const struct metadata_session *session);
/* Opener: the answer to trunk_stream_resume came. */
void trunk_resume_answered(struct trunk *trunk, struct trunk_stream *stream);

/* trunk_ack.c */
/* `length` bytes were consumed, or the peer's end was told: the peer will hear of it, soon or now. */
void trunk_ack_later(struct trunk_stream *stream, size_t length);
void trunk_ack_now(struct trunk_stream *stream);
/* Both ends were told: all that came is acknowledged, and true is returned when the peer still owes the same: then the
 * stream waits for it, and `closed` with it. */
bool trunk_ack_last(struct trunk_stream *stream);
void trunk_ack_due(struct timer *timer);
/* Between two frames of nghttp2: writes one of acknowledgements, if there are any; returns its length. */
size_t trunk_ack_write(struct trunk *trunk, uint8_t *into, size_t capacity);
/* Called with the answer to each PING: streams that wait for their last acknowledgement, but not for ever. */
void trunk_ack_age(struct trunk *trunk);
/* A frame of acknowledgements comes, and its bytes. 0, or as trunk_charge. */
int trunk_ack_begin(struct trunk *trunk, uint32_t length);
int trunk_ack_take(struct trunk *trunk, const uint8_t *bytes, size_t length);

/* trunk_note.c */
/* Between two frames of nghttp2: moves as many frames of notes as fit, or parts of them; returns the bytes. */
size_t trunk_note_write(struct trunk *trunk, uint8_t *into, size_t capacity);
/* A frame of a note comes, and its bytes; the last of them with `whole`. 0, or as trunk_charge. */
int trunk_note_begin(struct trunk *trunk, uint32_t length);
int trunk_note_take(struct trunk *trunk, const uint8_t *bytes, size_t length, bool whole);

/* trunk_cut.c */
void trunk_cut_init(struct trunk_cut *cut, enum trunk_role role);
/* Looks at what came: how many of the bytes are dealt with by this call. Those in *run are to be fed to nghttp2 first
 * (there may be none; they may be what an earlier call has kept). *verdict: 0, or as trunk_charge. */
size_t trunk_cut_next(struct trunk *trunk, const uint8_t *bytes, size_t length, const uint8_t **run, size_t *run_length,
                      int *verdict);

/* trunk_send.c: the stream has `work`, and wants its turn. */
void trunk_stream_make_ready(struct trunk_stream *stream);
int trunk_on_send_data(nghttp2_session *h2, nghttp2_frame *frame, const uint8_t *header, size_t length,
                       nghttp2_data_source *source, void *user_data);
int trunk_on_frame_send(nghttp2_session *h2, const nghttp2_frame *frame, void *user_data);
/* A task: `writable`, for those in trunk->roomy. */
void trunk_tell_room(struct task *task);
int trunk_on_frame_not_send(nghttp2_session *h2, const nghttp2_frame *frame, int error, void *user_data);

/* trunk_charge.c */
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
/* It is about to be suspended: what it has not consumed stays charged, its window does not. */
void trunk_window_leave(struct trunk_stream *stream);
/* Bytes of this trunk were consumed: measures, and grants them again when it is worth it. */
void trunk_window_consumed(struct trunk_stream *stream, uint32_t length);
/* What the budget is charged for what the stream receives. */
uint64_t trunk_stream_cost(const struct trunk_stream *stream);
/* Bytes came for whatever stream: the trunk's own window is opened. 0, or nghttp2's error. */
int trunk_window_opened_by(struct trunk *trunk, size_t length);
/* Tells the peer of the trunk's first window. The same. */
int trunk_window_start(struct trunk *trunk);
void trunk_windows_sweep(struct timer *timer);

/* trunk_receive.c */
/* There may be room now: what waits is sent, and who asked for room is told. */
void trunk_stream_window_opened(struct trunk_stream *stream);
void trunk_receive_callbacks(nghttp2_session_callbacks *callbacks);
void trunk_deliver_held(struct task *task);
void trunk_held_free(struct trunk_held *held);
void trunk_ping_start(struct trunk *trunk);
void trunk_ping_early(struct trunk *trunk);
/* The shortest of recent PINGs; 0 before the first answer. */
uint64_t trunk_round_trip_us(const struct trunk *trunk);

#endif
