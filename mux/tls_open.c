/*
 * A TLS connection once its handshake is complete: what the record layer needs is taken from the GnuTLS session, and
 * nothing else is kept. docs/PROTOCOL.md argues why nothing is lost and no nonce repeats. A client keeps its GnuTLS
 * session a little longer when it wants a ticket. One thread.
 */
#include "mux/tls_backend.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "mux/memory.h"

_Static_assert(sizeof(struct tls_open) == sizeof(struct record_state) &&
                   offsetof(struct record_state, owner_state) == 0 && sizeof(struct tls_backend) == 1,
               "the record layer's secrets follow it, and its first byte is ours");

/* ---- what is taken from GnuTLS ---- */

/* How the protection that was negotiated is called here, and by IANA. */
struct agreed_suite {
    gnutls_cipher_algorithm_t cipher;
    enum tls_cipher_suite suite;
    uint16_t tls13;
    uint16_t ecdsa;
    uint16_t rsa;
};

static const struct agreed_suite agreed_suites[] = {
    {GNUTLS_CIPHER_AES_128_GCM, TLS_CIPHER_AES_128_GCM, 0x1301, 0xc02b, 0xc02f},
    {GNUTLS_CIPHER_AES_256_GCM, TLS_CIPHER_AES_256_GCM, 0x1302, 0xc02c, 0xc030},
    {GNUTLS_CIPHER_CHACHA20_POLY1305, TLS_CIPHER_CHACHA20_POLY1305, 0x1303, 0xcca9, 0xcca8},
};

/* NULL for one outside the project's policy. */
static const struct agreed_suite *suite_find(gnutls_session_t session)
{
    for (size_t i = 0; i < sizeof(agreed_suites) / sizeof(agreed_suites[0]); i++) {
        if (agreed_suites[i].cipher == gnutls_cipher_get(session)) {
            return &agreed_suites[i];
        }
    }
    return NULL;
}

static uint16_t suite_number(gnutls_session_t session, const struct agreed_suite *agreed, bool version_13)
{
    gnutls_kx_algorithm_t exchange = gnutls_kx_get(session);

    if (version_13) {
        return agreed->tls13;
    }
    return exchange == GNUTLS_KX_ECDHE_ECDSA ? agreed->ecdsa : exchange == GNUTLS_KX_ECDHE_RSA ? agreed->rsa : 0;
}

uint16_t tls_open_suite(const struct tls_handshake *handshake)
{
    const struct agreed_suite *agreed = suite_find(handshake->session);
    bool version_13 = gnutls_protocol_get_version(handshake->session) == GNUTLS_TLS1_3;

    return agreed == NULL ? 0 : suite_number(handshake->session, agreed, version_13);
}

/* Where record_parameters' material points to. Wiped by who declares it. */
struct taken {
    struct record_parameters parameters;
    uint8_t material[2][TLS_CIPHER_MATERIAL_MAX];
};

/* One direction: GnuTLS's key, nonce and sequence number; in TLS 1.3 the traffic secret, which must lead to just these.
 */
static enum error_code take_direction(const struct tls_handshake *handshake, enum record_direction direction,
                                      struct taken *taken)
{
    const struct record_parameters *parameters = &taken->parameters;
    gnutls_datum_t key;
    gnutls_datum_t nonce;
    uint8_t number[8];
    int result = gnutls_record_get_state(handshake->session, direction == RECORD_READ, NULL, &nonce, &key, number);
    uint64_t sequence = 0;

    if (result < 0 || key.size != tls_cipher_key_bytes(parameters->suite) ||
        nonce.size < tls_cipher_nonce_bytes(parameters->suite, parameters->version_13)) {
        return result == GNUTLS_E_MEMORY_ERROR ? ERROR_NO_MEMORY : ERROR_TLS_INTERNAL;
    }
    for (size_t i = 0; i < sizeof(number); i++) {
        sequence = sequence << 8 | number[i];
    }
    taken->parameters.sequence[direction] = sequence;
    taken->parameters.material[direction] = taken->material[direction];
    if (!parameters->version_13) {
        memcpy(taken->material[direction], key.data, key.size);
        memcpy(taken->material[direction] + key.size, nonce.data, tls_cipher_nonce_bytes(parameters->suite, false));
        return ERROR_NONE;
    }
    bool of_server = parameters->server == (direction == RECORD_WRITE);
    const struct tls_secret *secret = &handshake->secrets[of_server ? 0 : 1];
    uint8_t derived_key[TLS_CIPHER_KEY_BYTES_MAX];
    uint8_t derived_nonce[TLS_CIPHER_NONCE_BYTES];
    if (secret->length != tls_cipher_hash_bytes(parameters->suite)) {
        return ERROR_TLS_INTERNAL;
    }
    memcpy(taken->material[direction], secret->bytes, secret->length);
    enum error_code error = tls_cipher_derive(parameters->suite, secret->bytes, derived_key, derived_nonce);
    if (error == ERROR_NONE && (!tls_cipher_equal(derived_key, key.data, key.size) ||
                                !tls_cipher_equal(derived_nonce, nonce.data, sizeof(derived_nonce)))) {
        error = ERROR_TLS_INTERNAL;
    }
    memory_wipe(derived_key, sizeof(derived_key));
    memory_wipe(derived_nonce, sizeof(derived_nonce));
    return error;
}

static enum error_code take_state(const struct tls_handshake *handshake, const struct agreed_suite *agreed,
                                  struct taken *taken)
{
    taken->parameters = (struct record_parameters){
        .server = handshake->context->server,
        .version_13 = gnutls_protocol_get_version(handshake->session) == GNUTLS_TLS1_3,
        .suite = agreed->suite,
        .send_max = tls_handshake_send_max(handshake),
        .mutual = handshake->fragment_limit > 0,
    };
    enum error_code error = take_direction(handshake, RECORD_READ, taken);
    return error != ERROR_NONE ? error : take_direction(handshake, RECORD_WRITE, taken);
}

/* ---- nothing is left in GnuTLS ---- */

/* A record of the peer's that is made here, is read by GnuTLS, and never leaves the process. */
struct probe {
    uint8_t bytes[RECORD_HEADER_BYTES + RECORD_MESSAGE_BYTES + 1 + TLS_CIPHER_TAG_BYTES + 8];
    size_t length;
};

static void probe_output(void *owner, const uint8_t *bytes, size_t length)
{
    struct probe *probe = owner;

    assert(length <= sizeof(probe->bytes));
    memcpy(probe->bytes, bytes, length);
    probe->length = length;
}

static enum error_code probe_make(const struct taken *taken, struct probe *probe)
{
    static const struct record_events events = {.output = probe_output};
    struct record_sink sink = {.events = &events, .owner = probe};
    struct {
        struct record_state record;
        uint8_t material[2 * TLS_CIPHER_MATERIAL_MAX];
    } peer;
    struct record_parameters parameters = taken->parameters;

    parameters.server = !parameters.server;
    parameters.sequence[RECORD_WRITE] = taken->parameters.sequence[RECORD_READ];
    parameters.material[RECORD_WRITE] = taken->parameters.material[RECORD_READ];
    record_init(&peer.record, &parameters);
    enum error_code error = record_send(&peer.record, &sink, (const uint8_t *)"?", 1);
    record_dispose(&peer.record);
    return error;
}

/* Has GnuTLS taken a part of a handshake message that it keeps for later? It came under keys that are no longer valid,
 * in one record with the last message of the handshake, and would be lost (RFC 8446 section 5.1 forbids it). There is
 * no way to ask; but it refuses data of the peer's then. So it is shown one byte of data as the peer would send it
 * next. That it reads this proves, besides, that key, nonce and sequence number were understood as GnuTLS means them.
 */
static enum error_code check_nothing_left(struct tls_handshake *handshake, const struct taken *taken)
{
    struct probe probe = {.length = 0};
    struct tls_input input = {.bytes = probe.bytes};
    struct tls_input *rest = handshake->input;
    uint8_t byte = 0;

    if (!tls_gate_between_records(&handshake->gate)) {
        return ERROR_TLS_INTERNAL; /* it has begun another record */
    }
    enum error_code error = probe_make(taken, &probe);
    if (error != ERROR_NONE) {
        return error;
    }
    input.length = probe.length;
    handshake->input = &input;
    ssize_t result = gnutls_record_recv(handshake->session, &byte, sizeof(byte));
    handshake->input = rest;
    if (result == GNUTLS_E_MEMORY_ERROR) {
        return ERROR_NO_MEMORY;
    }
    return result == 1 && byte == '?' && input.length == 0 && !input.starved ? ERROR_NONE : ERROR_TLS_HANDSHAKE;
}

/* ---- resumption of clients ---- */

static struct tls_backend *backend_of(struct tls_open *open)
{
    return (struct tls_backend *)(void *)open;
}

static size_t resumption_at(enum tls_cipher_suite suite, bool version_13)
{
    size_t at = sizeof(struct tls_open) + record_material_bytes(suite, version_13);

    return (at + _Alignof(struct tls_resumption) - 1) / _Alignof(struct tls_resumption) *
           _Alignof(struct tls_resumption);
}

struct tls_resumption *tls_open_resumption(const struct tls_open *open)
{
    uint8_t *bytes = (uint8_t *)(uintptr_t)open;

    if (!((const struct tls_backend *)(const void *)open)->resumable) {
        return NULL;
    }
    bytes += resumption_at((enum tls_cipher_suite)open->record.suite, open->record.version_13);
    return (struct tls_resumption *)(void *)bytes;
}

static void resumption_stop(struct tls_resumption *resumption)
{
    if (resumption->session != NULL) {
        gnutls_deinit(resumption->session);
        resumption->session = NULL;
    }
}

static void resumption_dispose(struct tls_resumption *resumption)
{
    resumption_stop(resumption);
    tls_ticket_free(&resumption->ticket);
    tls_context_unref(&resumption->context);
}

static ssize_t resumption_pull(gnutls_transport_ptr_t pointer, void *into, size_t length)
{
    struct tls_resumption *resumption = pointer;

    if (resumption->input_length == 0) {
        gnutls_transport_set_errno(resumption->session, EAGAIN);
        return -1;
    }
    length = length < resumption->input_length ? length : resumption->input_length;
    memcpy(into, resumption->input, length);
    resumption->input += length;
    resumption->input_length -= length;
    return (ssize_t)length;
}

/* The session has nothing to say any more. */
static ssize_t resumption_push(gnutls_transport_ptr_t pointer, const void *bytes, size_t length)
{
    (void)pointer;
    (void)bytes;
    return (ssize_t)length;
}

/* A session's resumption data, in GnuTLS's memory. False: there will be a full handshake next time. */
static bool resumption_take(gnutls_session_t session, gnutls_datum_t *data)
{
    return gnutls_session_get_data2(session, data) >= 0;
}

/* Keeps what resumption_take gave, and frees it. */
static void resumption_keep(struct tls_resumption *resumption, gnutls_datum_t *data)
{
    resumption->ticket = tls_ticket_new(resumption->context, data);
    memory_wipe(data->data, data->size);
    gnutls_free(data->data);
}

/* TLS 1.2: the ticket is there, or the one that was presented may be used again. TLS 1.3: the session is kept, with the
 * sequence number as it was before the probe. */
static void resumption_begin(struct tls_resumption *resumption, struct tls_handshake *handshake,
                             const struct record_parameters *parameters)
{
    gnutls_session_t session = handshake->session;
    gnutls_datum_t data;
    bool ticket = (gnutls_session_get_flags(session) & GNUTLS_SFLAGS_SESSION_TICKET) != 0;

    resumption->context = tls_context_ref(handshake->context);
    if (!parameters->version_13) {
        if ((ticket || gnutls_session_is_resumed(session) != 0) && resumption_take(session, &data)) {
            resumption_keep(resumption, &data);
        }
        return;
    }
    resumption->session = session;
    resumption->sequence = parameters->sequence[RECORD_READ];
    handshake->session = NULL;
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_BOTH, NULL);
    gnutls_transport_set_ptr(session, resumption);
    gnutls_transport_set_pull_function(session, resumption_pull);
    gnutls_transport_set_push_function(session, resumption_push);
}

/* Lets the session read a record that the record layer has decrypted too, and found to be a handshake message's. */
static void resumption_feed(struct tls_resumption *resumption, const uint8_t *bytes, size_t length)
{
    uint8_t number[8];
    uint8_t byte;
    gnutls_datum_t data;

    for (size_t i = 0; i < sizeof(number); i++) {
        number[i] = (uint8_t)(resumption->sequence >> (56 - 8 * i));
    }
    resumption->sequence++;
    resumption->input = bytes;
    resumption->input_length = length;
    bool fed = gnutls_record_set_state(resumption->session, 1, number) == 0 &&
               gnutls_record_recv(resumption->session, &byte, sizeof(byte)) == GNUTLS_E_AGAIN &&
               resumption->input_length == 0;
    bool come = fed && (gnutls_session_get_flags(resumption->session) & GNUTLS_SFLAGS_SESSION_TICKET) != 0 &&
                resumption_take(resumption->session, &data);
    if (!fed || come) {
        resumption_stop(resumption);
    }
    if (come) {
        resumption_keep(resumption, &data); /* where the session was: a copy among others' sessions would leave holes */
    }
}

/* ---- beginning and end ---- */

/* Everything but the state of the record layer. NULL when memory is out. */
static struct tls_open *open_alloc(const struct tls_handshake *handshake, const struct record_parameters *parameters)
{
    bool resumable = !handshake->context->server && !handshake->context->tickets_ignored;
    size_t bytes = sizeof(struct tls_open) + record_material_bytes(parameters->suite, parameters->version_13);

    if (resumable) {
        bytes = resumption_at(parameters->suite, parameters->version_13) + sizeof(struct tls_resumption);
    }
    struct tls_open *open = slab_group_alloc(handshake->memory, bytes);
    if (open == NULL) {
        return NULL;
    }
    memset(open, 0, bytes);
    record_init(&open->record, parameters);
    backend_of(open)->state = TLS_OPEN;
    backend_of(open)->resumable = resumable;
    return open;
}

enum error_code tls_open_new(struct tls_session *tls, struct tls_open **open)
{
    struct tls_handshake *handshake = tls_handshake_of(tls);
    const struct agreed_suite *agreed = suite_find(handshake->session);
    struct taken taken;
    struct tls_open *made = NULL;

    *open = NULL;
    if (agreed == NULL) {
        return ERROR_TLS_INTERNAL;
    }
    enum error_code error = take_state(handshake, agreed, &taken);
    if (error == ERROR_NONE) {
        error = check_nothing_left(handshake, &taken);
    }
    if (error == ERROR_NONE) {
        made = open_alloc(handshake, &taken.parameters);
        error = made == NULL ? ERROR_NO_MEMORY : ERROR_NONE;
    }
    if (error == ERROR_NONE) {
        if (backend_of(made)->resumable) {
            resumption_begin(tls_open_resumption(made), handshake, &taken.parameters);
        }
        *open = made;
    }
    memory_wipe(&taken, sizeof(taken));
    return error;
}

void tls_open_free(struct tls_open **open)
{
    struct tls_open *gone = *open;

    *open = NULL;
    if (backend_of(gone)->resumable) {
        resumption_dispose(tls_open_resumption(gone));
    }
    record_dispose(&gone->record);
    slab_group_free(gone);
}

/* ---- data ---- */

/* The last record as it came, for a client that awaits a ticket. It is read again in the same call only. */
static _Thread_local struct {
    uint8_t bytes[RECORD_BYTES_MAX];
    size_t length;
    bool handshake; /* it held handshake messages */
} last_record;

/* Who hears of the call that is under way. */
struct listener {
    struct tls_session *tls;
    const struct tls_events *events;
};

static void on_output(void *owner, const uint8_t *bytes, size_t length)
{
    const struct listener *listener = owner;

    listener->events->output(listener->tls, bytes, length);
}

static void on_data(void *owner, const uint8_t *bytes, size_t length)
{
    const struct listener *listener = owner;

    listener->events->data(listener->tls, bytes, length);
}

static void on_end(void *owner)
{
    const struct listener *listener = owner;

    if (listener->events->end != NULL) {
        listener->events->end(listener->tls);
    }
}

static void on_record(void *owner, const uint8_t *bytes, size_t length)
{
    (void)owner;
    memcpy(last_record.bytes, bytes, length);
    last_record.length = length;
}

static void on_handshake(void *owner)
{
    (void)owner;
    last_record.handshake = true;
}

static const struct record_events open_events = {.output = on_output, .data = on_data, .end = on_end};

/* Records one by one, as long as they hold nothing but tickets: the GnuTLS session sees each of them after the record
 * layer. Anything else ends the wait, as the session would not know of it. *taken is how much of the input went. */
static enum error_code receive_for_ticket(const struct listener *listener, uint8_t *bytes, size_t length, size_t *taken)
{
    static const struct record_events events = {
        .output = on_output, .data = on_data, .end = on_end, .record = on_record, .handshake = on_handshake};
    struct tls_open *open = tls_open_of(listener->tls);
    struct tls_resumption *resumption = tls_open_resumption(open);
    struct listener owner = *listener;
    struct record_sink sink = {.events = &events, .owner = &owner};
    enum error_code error = ERROR_NONE;

    while (error == ERROR_NONE && *taken < length && resumption->session != NULL) {
        size_t part = record_bytes_wanted(&open->record, bytes + *taken, length - *taken);
        uint64_t sequence = open->record.sequence[RECORD_READ];
        last_record.length = 0;
        last_record.handshake = false;
        error = record_receive(&open->record, &sink, bytes + *taken, part);
        *taken += part;
        if (error == ERROR_NONE && last_record.length == 0) {
            continue; /* not whole yet */
        }
        bool counted = open->record.sequence[RECORD_READ] == sequence + 1; /* no KeyUpdate */
        if (error == ERROR_NONE && counted && last_record.handshake) {
            resumption_feed(resumption, last_record.bytes, last_record.length);
        } else {
            resumption_stop(resumption);
        }
    }
    return error;
}

/* After each call of the record layer: its failure is the connection's. */
static enum error_code settle(struct tls_session *tls, enum error_code error)
{
    if (tls_open_of(tls)->record.error != ERROR_NONE && tls->backend->state == TLS_OPEN) {
        tls_move(tls->backend, TLS_FAILED);
    }
    return error;
}

enum error_code tls_open_receive(struct tls_session *tls, const struct tls_events *events, uint8_t *bytes,
                                 size_t length)
{
    struct tls_open *open = tls_open_of(tls);
    struct listener listener = {.tls = tls, .events = events};
    struct record_sink sink = {.events = &open_events, .owner = &listener};
    const struct tls_resumption *resumption = tls_open_resumption(open);
    size_t taken = 0;

    if (resumption != NULL && resumption->session != NULL) {
        enum error_code error = receive_for_ticket(&listener, bytes, length, &taken);
        if (error != ERROR_NONE || taken == length) {
            return settle(tls, error);
        }
    }
    return settle(tls, record_receive(&open->record, &sink, bytes + taken, length - taken));
}

enum error_code tls_open_send(struct tls_session *tls, const struct tls_events *events, const uint8_t *bytes,
                              size_t length)
{
    struct listener listener = {.tls = tls, .events = events};
    struct record_sink sink = {.events = &open_events, .owner = &listener};

    return settle(tls, record_send(&tls_open_of(tls)->record, &sink, bytes, length));
}

enum error_code tls_open_finish(struct tls_session *tls, const struct tls_events *events)
{
    struct listener listener = {.tls = tls, .events = events};
    struct record_sink sink = {.events = &open_events, .owner = &listener};

    return settle(tls, record_finish(&tls_open_of(tls)->record, &sink));
}

void tls_open_abort(struct tls_session *tls, const struct tls_events *events, uint8_t alert)
{
    struct listener listener = {.tls = tls, .events = events};
    struct record_sink sink = {.events = &open_events, .owner = &listener};

    record_abort(&tls_open_of(tls)->record, &sink, alert);
    (void)settle(tls, ERROR_STATE);
}
