/* Handlers that observe and that follow a client's plan: see sim_handlers.h. They own nothing: what a session needs to
 * know is in its client. */
#include "tests/sim/sim_handlers.h"

#include <stdlib.h>
#include <string.h>

#include "core/handlers/handlers.h"

#define WRITE_BYTES 8192U

static struct sim_world *served;

void sim_handlers_serve(struct sim_world *world)
{
    served = world;
}

/* ------------------------------------------------------------------------------------------------ observing */

/* The client is known by its port. */
static struct sim_client *client_of(const trunkline_session *session)
{
    trunkline_client told;
    char text[256];

    trunkline_get_client(session, &told, text);
    const char *colon = strrchr(told.address, ':');
    size_t number = colon != NULL ? strtoul(colon + 1, NULL, 10) - SIM_CLIENT_PORT : SIZE_MAX;
    if (number >= served->client_count) {
        sim_fail(&served->net, "a session of nobody: %s", told.address);
        return NULL;
    }
    return served->clients[number];
}

/* Whom the session serves; NULL also when another core has taken its place, as its own could not be reached: nothing
 * that it still does reaches the client. */
static struct sim_client *served_by(const trunkline_session *session)
{
    struct sim_client *client = client_of(session);

    return client != NULL && client->session == session ? client : NULL;
}

/* What a handler leaves for the one that may take its place. */
struct note {
    uint64_t sent;
    uint64_t consumed;
};

/* Whose core is lost: where the new handler is by what it is told, which is within what the earlier one had done. */
static void observe_reopening(struct sim_client *client, trunkline_session *session)
{
    trunkline_reopening reopening;
    struct note note = {0, 0};
    uint64_t sent = 0;
    uint64_t received = 0;
    bool echo = strcmp(client->plan.service, "echo") == 0; /* whose handler writes by itself */

    if (trunkline_get_reopening(session, &reopening)) {
        if (reopening.note_length == sizeof(note)) {
            memcpy(&note, reopening.note, sizeof(note));
        } else if (reopening.note_length != 0) {
            sim_fail(&served->net, "client %zu: a note of %zu bytes", client->number, reopening.note_length);
        }
        sent = note.sent + (uint64_t)(int64_t)reopening.delivered;
        received = note.consumed + (uint64_t)(int64_t)reopening.consumed;
    }
    uint64_t consumed = client->core_received - client->core_held;

    if ((!echo && sent > client->core_sent) || received > consumed || sent < client->received) {
        sim_fail(
            &served->net,
            "client %zu: opened again at %llu received and %llu sent, after %llu and %llu, %llu of which the client "
            "has",
            client->number, (unsigned long long)received, (unsigned long long)sent, (unsigned long long)consumed,
            (unsigned long long)client->core_sent, (unsigned long long)client->received);
    }
    client->core_sent = echo ? 0 : sent;
    client->core_received = received;
    client->core_held = 0;
    client->core_ended = false;
    client->core_output_ended = false;
    client->core_lost = false;
}

static struct sim_client *observe_open(trunkline_session *session)
{
    struct sim_client *client = client_of(session);

    if (client == NULL) {
        return NULL;
    }
    trunkline_reopening reopening;
    bool reopened = trunkline_get_reopening(session, &reopening) == 1;
    if (reopened && client->session != NULL) {
        client->core_opens--; /* its core has it still, and cannot be reached */
        client->core_lost = true;
    } else if (reopened && client->core_closes > 0 && client->core_reason == TRUNKLINE_REASON_REFUSED) {
        client->core_opens--; /* an earlier refusal was lost on its way, and it is asked for once more */
        client->core_closes--;
        client->core_lost = true;
    }
    if (client->core_opens++ > 0) {
        sim_fail(&served->net, "client %zu has a second session", client->number);
    }
    if (client->core_lost) {
        observe_reopening(client, session);
    }
    client->session = session;
    return client;
}

static struct sim_client *observe_data(trunkline_session *session, const void *bytes, size_t length)
{
    struct sim_client *client = served_by(session);

    if (client == NULL) {
        return NULL;
    }
    if (client->core_ended || client->core_received + length > client->sent) {
        sim_fail(&served->net, "client %zu: the core received bytes that were not sent", client->number);
    } else if (!sim_pattern_matches(client->up_seed, client->core_received, bytes, length)) {
        sim_fail(&served->net, "client %zu: the core received a wrong byte within %zu after %llu", client->number,
                 length, (unsigned long long)client->core_received);
    }
    client->core_received += length;
    return client;
}

static struct sim_client *observe_end(trunkline_session *session)
{
    struct sim_client *client = served_by(session);

    if (client == NULL) {
        return NULL;
    }
    if (client->core_ended || !client->output_ended || client->core_received != client->sent) {
        sim_fail(&served->net, "client %zu: the core saw a clean end after %llu of %llu bytes", client->number,
                 (unsigned long long)client->core_received, (unsigned long long)client->sent);
    }
    client->core_ended = true;
    return client;
}

static struct sim_client *observe_closed(trunkline_session *session, trunkline_reason reason)
{
    struct sim_client *client = served_by(session);

    if (client == NULL) {
        return NULL;
    }
    if (served->killing || reason == TRUNKLINE_REASON_MOVED) {
        client->core_opens--;
        client->core_lost = true;
        client->session = NULL;
        return client;
    }
    if (client->core_closes++ > 0) {
        sim_fail(&served->net, "client %zu: closed twice", client->number);
    }
    if (reason == TRUNKLINE_REASON_DONE && !client->core_ended) {
        sim_fail(&served->net, "client %zu: done without its end", client->number);
    }
    client->core_reason = reason;
    client->session = NULL;
    return client;
}

/* ------------------------------------------------------------------------------------------------ echo */

static void echo_open(trunkline_session *session, void *service)
{
    (void)observe_open(session);
    handler_echo.open(session, service);
}

static void echo_data(trunkline_session *session, const void *bytes, size_t length)
{
    (void)observe_data(session, bytes, length);
    handler_echo.data(session, bytes, length);
}

static void echo_end(trunkline_session *session)
{
    (void)observe_end(session);
    handler_echo.end(session);
}

static void echo_drained(trunkline_session *session)
{
    handler_echo.drained(session);
}

static void echo_closed(trunkline_session *session, trunkline_reason reason)
{
    (void)observe_closed(session, reason);
    handler_echo.closed(session, reason);
}

static const trunkline_handler observed_echo = {
    .abi = TRUNKLINE_ABI,
    .name = "sim-echo",
    .open = echo_open,
    .data = echo_data,
    .end = echo_end,
    .drained = echo_drained,
    .closed = echo_closed,
};

/* ------------------------------------------------------------------------------------------------ script */

static bool script_aborts(struct sim_client *client, trunkline_session *session)
{
    if (client->core_received + client->core_sent < client->plan.core_aborts_at) {
        return false;
    }
    trunkline_abort(session);
    return true;
}

static bool script_wants_to_end(const struct sim_client *client)
{
    const struct sim_plan *plan = &client->plan;

    if (client->core_output_ended || client->core_sent < plan->receive_bytes) {
        return false;
    }
    switch (plan->core_ends) {
    case SIM_ENDS_AFTER_SENDING:
        return true;
    case SIM_ENDS_AFTER_RECEIVING:
        return client->core_received >= plan->send_bytes;
    case SIM_ENDS_AFTER_PEER:
        return client->core_ended;
    case SIM_ENDS_NEVER:
        break;
    }
    return false;
}

static void script_note(const struct sim_client *client, trunkline_session *session)
{
    const struct note note = {.sent = client->core_sent, .consumed = client->core_received - client->core_held};

    if (served->settings.reopen && sim_chance(&served->net.random, 3)) {
        trunkline_set_note(session, &note, sizeof(note));
    }
}

/* Writes as much as there is room for. */
static void script_push(struct sim_client *client, trunkline_session *session)
{
    uint8_t bytes[WRITE_BYTES];

    script_note(client, session);

    while (client->core_sent < client->plan.receive_bytes) {
        uint64_t left = client->plan.receive_bytes - client->core_sent;
        size_t part = (size_t)sim_between(&served->net.random, 1, WRITE_BYTES);
        part = part < left ? part : (size_t)left;
        sim_pattern(client->down_seed, client->core_sent, bytes, part);
        size_t taken = trunkline_write(session, bytes, part);
        client->core_sent += taken;
        if (taken < part || script_aborts(client, session)) {
            break;
        }
    }
    if (script_wants_to_end(client)) {
        client->core_output_ended = true;
        trunkline_end(session);
    }
}

static void script_accept(struct sim_client *client, trunkline_session *session)
{
    if (client->plan.core_refuses != 0) {
        trunkline_refuse(session, (int)client->plan.core_refuses, "as planned");
    } else if (trunkline_accept(session) == 0 && !script_aborts(client, session)) {
        script_push(client, session);
    }
}

static void script_answer(trunkline_session *session, void *argument)
{
    if (served_by(session) != NULL) {
        script_accept(argument, session);
    }
}

/* Gives back some of what it holds, every so often. */
static void script_consume(trunkline_session *session, void *argument)
{
    struct sim_client *client = argument;
    uint64_t part = client->plan.core_consume_bytes;

    if (client->session != session) {
        return;
    }
    part = part < client->core_held ? part : client->core_held;
    client->core_held -= part;
    if (client->core_held > 0) {
        trunkline_timer_start(client->consume_timer, client->plan.core_consume_ms);
    }
    trunkline_consume(session, (size_t)part); /* the last: it may close the session */
}

static void script_open(trunkline_session *session, void *service)
{
    struct sim_client *client = observe_open(session);

    (void)service;
    if (client == NULL) {
        trunkline_refuse(session, 500, "nobody");
        return;
    }
    client->answer_timer = trunkline_timer_new(session, script_answer, client);
    client->consume_timer = trunkline_timer_new(session, script_consume, client);
    if (client->answer_timer == NULL || client->consume_timer == NULL) {
        trunkline_refuse(session, 503, "no memory for timers");
    } else if (client->plan.core_mute) {
        return;
    } else if (client->plan.core_answer_ms > 0) {
        trunkline_timer_start(client->answer_timer, client->plan.core_answer_ms);
    } else {
        script_accept(client, session);
    }
}

static void script_data(trunkline_session *session, const void *bytes, size_t length)
{
    struct sim_client *client = observe_data(session, bytes, length);

    if (client == NULL || script_aborts(client, session)) {
        return;
    }
    if (client->plan.core_consume_bytes == 0) {
        trunkline_consume(session, length);
    } else {
        if (client->core_held == 0) {
            trunkline_timer_start(client->consume_timer, client->plan.core_consume_ms);
        }
        client->core_held += length;
    }
    script_push(client, session);
}

static void script_end(trunkline_session *session)
{
    struct sim_client *client = observe_end(session);

    if (client != NULL) {
        script_push(client, session);
    }
}

static void script_drained(trunkline_session *session)
{
    struct sim_client *client = served_by(session);

    if (client != NULL) {
        script_push(client, session);
    }
}

static void script_closed(trunkline_session *session, trunkline_reason reason)
{
    struct sim_client *client = observe_closed(session, reason);

    if (client != NULL) {
        if (reason == TRUNKLINE_REASON_DONE && client->core_held > 0) {
            sim_fail(&served->net, "client %zu: done while its handler held bytes", client->number);
        }
        client->answer_timer = NULL;
        client->consume_timer = NULL;
    }
}

static const trunkline_handler script = {
    .abi = TRUNKLINE_ABI,
    .name = "sim-script",
    .open = script_open,
    .data = script_data,
    .end = script_end,
    .drained = script_drained,
    .closed = script_closed,
};

const trunkline_handler *const sim_handlers[SIM_HANDLERS] = {&observed_echo, &script};
