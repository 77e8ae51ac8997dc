/*
 * The interface of mux/tls.h: which part of a connection's life a call belongs to. The handshake is in tls_handshake.c,
 * the established connection in tls_open.c; the tls_session owns one of the two. One thread.
 */
#include "mux/tls_backend.h"

#include <assert.h>
#include <string.h>

#include "mux/memory.h"

void tls_move(struct tls_backend *backend, enum tls_state to)
{
    static const bool moves[TLS_STATE_COUNT][TLS_STATE_COUNT] = {
        [TLS_EXPECT_START] = {[TLS_EXPECT_HANDSHAKE] = true, [TLS_REFUSED] = true},
        [TLS_EXPECT_HANDSHAKE] = {[TLS_REFUSED] = true},
        [TLS_OPEN] = {[TLS_FAILED] = true},
    };
    assert(moves[backend->state][to] && "a TLS connection never goes back");
    backend->state = (uint8_t)to & 0x7fU;
}

void tls_memory_init(struct slab_group *memory)
{
    slab_group_init(memory, "tls", TLS_OPEN_LEAST_BYTES);
}

enum error_code tls_init_server(struct tls_session *tls, struct tls_context *context, struct slab_group *memory)
{
    assert(context->server);
    return tls_handshake_new(tls, context, "", memory);
}

enum error_code tls_init_client(struct tls_session *tls, struct tls_context *context, const char *server_name,
                                struct slab_group *memory)
{
    assert(!context->server);
    tls->backend = NULL;
    if (server_name == NULL) {
        server_name = "";
    }
    /* Without a name any certificate of the CA would do: that is no authentication. */
    if (strlen(server_name) > TLS_SERVER_NAME_MAX || (server_name[0] == '\0' && context->peer_verified)) {
        return ERROR_INVALID;
    }
    return tls_handshake_new(tls, context, server_name, memory);
}

enum error_code tls_start(struct tls_session *tls, const struct tls_events *events)
{
    struct tls_backend *backend = tls->backend;

    if (backend == NULL || backend->state != TLS_EXPECT_START) {
        return ERROR_STATE;
    }
    tls_move(backend, TLS_EXPECT_HANDSHAKE);
    tls_handshake_hears(tls, events);
    return tls_handshake_of(tls)->context->server ? ERROR_NONE : tls_handshake_step(tls);
}

enum error_code tls_receive(struct tls_session *tls, const struct tls_events *events, uint8_t *bytes, size_t length)
{
    struct tls_input input = {.bytes = bytes, .length = length};
    enum error_code error = ERROR_NONE;

    if (tls->backend == NULL || tls->backend->state == TLS_REFUSED || tls->backend->state == TLS_FAILED) {
        return ERROR_STATE;
    }
    if (tls->backend->state == TLS_EXPECT_START) {
        error = tls_start(tls, events);
    }
    if (error == ERROR_NONE && length > 0 && tls->backend->state == TLS_EXPECT_HANDSHAKE) {
        tls_handshake_hears(tls, events);
        error = tls_handshake_receive(tls, &input);
    }
    if (error == ERROR_NONE && input.length > 0 && tls->backend->state == TLS_OPEN) {
        error = tls_open_receive(tls, events, input.bytes, input.length);
    }
    return error;
}

enum error_code tls_send(struct tls_session *tls, const struct tls_events *events, const uint8_t *bytes, size_t length)
{
    if (tls->backend == NULL || tls->backend->state != TLS_OPEN) {
        return ERROR_STATE;
    }
    return tls_open_send(tls, events, bytes, length);
}

enum error_code tls_finish(struct tls_session *tls, const struct tls_events *events)
{
    if (tls->backend == NULL || tls->backend->state != TLS_OPEN) {
        return ERROR_STATE;
    }
    return tls_open_finish(tls, events);
}

void tls_abort(struct tls_session *tls, const struct tls_events *events, uint8_t alert)
{
    if (tls->backend == NULL) {
        return;
    }
    if (tls_handed_over(tls)) {
        tls_open_abort(tls, events, alert);
        return;
    }
    const struct tls_handshake *handshake = tls_handshake_of(tls);
    tls_handshake_hears(tls, events);
    bool silent = !handshake->output_begun && handshake->prefix_length == 0;
    (void)tls_handshake_fail(tls, ERROR_STATE, silent ? -1 : (int)alert);
}

void tls_rest(struct tls_session *tls)
{
    if (tls->backend != NULL && tls_handed_over(tls)) {
        tls_cipher_forget(&tls_open_of(tls)->record);
    }
}

void tls_dispose(struct tls_session *tls)
{
    if (tls->backend == NULL) {
        return;
    }
    if (tls_handed_over(tls)) {
        struct tls_open *open = tls_open_of(tls);
        tls_open_free(&open);
    } else {
        struct tls_handshake *handshake = tls_handshake_of(tls);
        tls_handshake_free(&handshake);
    }
    tls->backend = NULL;
}

bool tls_established(const struct tls_session *tls)
{
    return tls->backend != NULL && tls->backend->state == TLS_OPEN;
}

bool tls_has_peer_input(const struct tls_session *tls)
{
    return tls->backend != NULL && (tls_handed_over(tls) || tls_handshake_of(tls)->prefix_length > 0);
}

int tls_last_alert(const struct tls_session *tls)
{
    if (tls->backend == NULL) {
        return 0;
    }
    return tls_handed_over(tls) ? record_last_alert(&tls_open_of(tls)->record) : tls_handshake_of(tls)->last_alert;
}

enum error_code tls_ticket_export(const struct tls_session *tls, uint8_t *into, size_t capacity, size_t *length)
{
    *length = 0;
    if (tls->backend == NULL || tls->backend->state != TLS_OPEN || tls_open_of(tls)->record.server) {
        return ERROR_STATE;
    }
    const struct tls_resumption *resumption = tls_open_resumption(tls_open_of(tls));
    if (resumption == NULL || resumption->ticket == NULL) {
        return ERROR_WOULD_BLOCK;
    }
    if (tls_ticket_length(resumption->ticket) > capacity) {
        return ERROR_LIMIT;
    }
    tls_ticket_read(resumption->ticket, resumption->context, into);
    *length = tls_ticket_length(resumption->ticket);
    return ERROR_NONE;
}

enum error_code tls_ticket_import(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    if (tls->backend == NULL || tls->backend->state != TLS_EXPECT_START) {
        return ERROR_STATE;
    }
    const struct tls_handshake *handshake = tls_handshake_of(tls);
    if (handshake->context->server) {
        return ERROR_STATE;
    }
    int result = gnutls_session_set_data(handshake->session, bytes, length);
    if (result < 0) {
        return result == GNUTLS_E_MEMORY_ERROR ? ERROR_NO_MEMORY : ERROR_INVALID;
    }
    return ERROR_NONE;
}
