/* A simulated TLS client: see sim_client.h. */
#include "tests/sim/sim_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/memory.h"
#include "tests/sim/sim_world.h"

#define READ_BYTES       16384U
#define SEND_MAX_BYTES   16384U
#define OUTPUT_MAX_BYTES 32768U /* ciphertext queued before it makes no more */

static const struct tls_events client_tls_events;

static const char *const outcome_names[SIM_OUTCOME_COUNT] = {
    [SIM_OUTCOME_OPEN] = "open",           [SIM_OUTCOME_CLEAN] = "clean", [SIM_OUTCOME_TRUNCATED] = "truncated",
    [SIM_OUTCOME_RESET] = "reset",         [SIM_OUTCOME_ALERT] = "alert", [SIM_OUTCOME_VANISHED] = "vanished",
    [SIM_OUTCOME_NO_MEMORY] = "no-memory",
};

const char *sim_outcome_name(enum sim_outcome outcome)
{
    return (unsigned)outcome < SIM_OUTCOME_COUNT ? outcome_names[outcome] : "unknown";
}

/* ------------------------------------------------------------------------------------------------ contents */

static uint8_t pattern_byte(uint64_t seed, uint64_t position)
{
    uint64_t mixed = (position / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ seed;

    mixed = (mixed ^ mixed >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return (uint8_t)(mixed >> (position % 8 * 8));
}

void sim_pattern(uint64_t seed, uint64_t position, uint8_t *into, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        into[i] = pattern_byte(seed, position + i);
    }
}

bool sim_pattern_matches(uint64_t seed, uint64_t position, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] != pattern_byte(seed, position + i)) {
            return false;
        }
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------ the end */

static void client_over(struct sim_client *client, enum sim_outcome outcome, enum transport_close how)
{
    if (sim_client_over(client)) {
        return;
    }
    client->outcome = outcome;
    client->over_us = client->world->net.now_us;
    if (client->tls_ready) {
        client->alert = tls_last_alert(&client->tls);
    }
    sim_event_cancel(&client->world->net, &client->event);
    transport_close(&client->slot.transport, how);
}

static void client_check_clean_end(struct sim_client *client)
{
    const struct sim_plan *plan = &client->plan;
    struct sim_net *net = &client->world->net;
    bool echo = strcmp(plan->service, "echo") == 0;

    if (client->received != plan->receive_bytes) {
        sim_fail(net, "client %zu: a clean end after %llu of %llu bytes", client->number,
                 (unsigned long long)client->received, (unsigned long long)plan->receive_bytes);
    }
    if (echo && !client->output_ended) {
        sim_fail(net, "client %zu: the echo ended before its client did", client->number);
    }
    if (!echo && !client->core_output_ended) {
        sim_fail(net, "client %zu: a clean end that the core never made", client->number);
    }
}

/* A failure of TLS, of the transport, or of memory. */
static void client_failed(struct sim_client *client, enum error_code error)
{
    enum sim_outcome outcome = SIM_OUTCOME_ALERT;

    if (client->input_ended) {
        /* Its session had come to a clean end; what its own direction still had to say was not wanted. */
        outcome = SIM_OUTCOME_CLEAN;
    } else if (error == ERROR_NO_MEMORY) {
        outcome = SIM_OUTCOME_NO_MEMORY;
    } else if (error == ERROR_PEER_RESET || error == ERROR_UNREACHABLE || error == ERROR_SYSTEM) {
        outcome = SIM_OUTCOME_RESET;
    }
    client_over(client, outcome, TRANSPORT_CLOSE_RESET);
}

/* Both directions have ended: goes away. */
static void client_settle(struct sim_client *client)
{
    if (client->input_ended && client->transport_ended && client->output_length == 0) {
        client_over(client, SIM_OUTCOME_CLEAN, TRANSPORT_CLOSE_CLEAN);
    }
}

/* ------------------------------------------------------------------------------------------------ output */

static void client_on_output(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct sim_client *client = container_of(tls, struct sim_client, tls);

    if (client->output_length + length > client->output_capacity) {
        size_t capacity = 2 * (client->output_length + length);
        uint8_t *output = realloc(client->output, capacity);
        if (output == NULL) {
            abort();
        }
        client->output = output;
        client->output_capacity = capacity;
    }
    memcpy(client->output + client->output_length, bytes, length);
    client->output_length += length;
}

/* False when the client is over. */
static bool client_flush(struct sim_client *client)
{
    if (sim_client_over(client)) {
        return false;
    }
    while (client->output_length > 0) {
        size_t written = 0;
        enum error_code error =
            transport_write(&client->slot.transport, client->output, client->output_length, &written);
        if (error == ERROR_WOULD_BLOCK) {
            return true;
        }
        if (error != ERROR_NONE) {
            client_failed(client, error);
            return false;
        }
        client->output_length -= written;
        memmove(client->output, client->output + written, client->output_length);
    }
    return true;
}

static bool client_wants_to_end(const struct sim_client *client)
{
    const struct sim_plan *plan = &client->plan;

    if (client->output_ended || client->sent < plan->send_bytes) {
        return false;
    }
    switch (plan->ends) {
    case SIM_ENDS_AFTER_SENDING:
        return true;
    case SIM_ENDS_AFTER_RECEIVING:
        return client->received >= plan->receive_bytes;
    case SIM_ENDS_AFTER_PEER:
        return client->input_ended;
    case SIM_ENDS_NEVER:
        break;
    }
    return false;
}

static enum error_code client_make_output(struct sim_client *client)
{
    struct random_state *random = &client->world->net.random;
    uint8_t bytes[SEND_MAX_BYTES];
    enum error_code error = ERROR_NONE;

    while (client->sent < client->plan.send_bytes && client->output_length < OUTPUT_MAX_BYTES && error == ERROR_NONE) {
        uint64_t left = client->plan.send_bytes - client->sent;
        size_t part = (size_t)sim_between(random, 1, sim_chance(random, 3) ? 64 : SEND_MAX_BYTES);
        part = part < left ? part : (size_t)left;
        sim_pattern(client->up_seed, client->sent, bytes, part);
        error = tls_send(&client->tls, &client_tls_events, bytes, part);
        client->sent += part;
    }
    if (error == ERROR_NONE && client_wants_to_end(client)) {
        client->output_ended = true;
        error = tls_finish(&client->tls, &client_tls_events);
    }
    return error;
}

static bool client_vanishes(struct sim_client *client)
{
    const struct sim_plan *plan = &client->plan;

    if (plan->vanish == SIM_VANISH_NOT || client->sent < plan->vanish_at_bytes) {
        return false;
    }
    client_over(client, SIM_OUTCOME_VANISHED,
                plan->vanish == SIM_VANISH_RESET ? TRANSPORT_CLOSE_RESET : TRANSPORT_CLOSE_CLEAN);
    return true;
}

/* Sends what can be sent now. */
static void client_pump(struct sim_client *client)
{
    bool more = client_flush(client);

    while (more && tls_established(&client->tls) && !client->output_ended && client->output_length == 0) {
        uint64_t before = client->sent;
        enum error_code error = client_make_output(client);
        if (error != ERROR_NONE) {
            client_failed(client, error);
            return;
        }
        more = client_flush(client) && !client_vanishes(client) && (client->sent > before || client->output_ended);
    }
    if (sim_client_over(client)) {
        return;
    }
    if (client->output_ended && client->output_length == 0 && !client->transport_ended &&
        (client->plan.half_closes_tcp || client->input_ended)) {
        client->transport_ended = true;
        transport_finish(&client->slot.transport);
    }
    client_settle(client);
}

/* ------------------------------------------------------------------------------------------------ input */

static void client_on_established(struct tls_session *tls, const struct tls_peer_info *peer)
{
    (void)peer;
    (void)tls; /* asked for with tls_established */
}

static void client_on_data(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct sim_client *client = container_of(tls, struct sim_client, tls);
    struct sim_net *net = &client->world->net;

    if (client->received + length > client->plan.receive_bytes) {
        sim_fail(net, "client %zu: %zu bytes too many after %llu", client->number, length,
                 (unsigned long long)client->received);
    } else if (!sim_pattern_matches(client->down_seed, client->received, bytes, length)) {
        sim_fail(net, "client %zu: a wrong byte within %zu after %llu", client->number, length,
                 (unsigned long long)client->received);
    }
    client->received += length;
    if (strcmp(client->plan.service, "echo") != 0 && client->received > client->core_sent) {
        sim_fail(net, "client %zu: bytes that the core never sent", client->number);
    }
}

static void client_on_end(struct tls_session *tls)
{
    struct sim_client *client = container_of(tls, struct sim_client, tls);

    client->input_ended = true;
    client_check_clean_end(client);
}

static const struct tls_events client_tls_events = {
    .output = client_on_output,
    .established = client_on_established,
    .data = client_on_data,
    .end = client_on_end,
};

static void client_stall(struct sim_client *client)
{
    const struct sim_plan *plan = &client->plan;

    if (plan->stall_us > 0 && client->received >= plan->stall_at_bytes && tls_established(&client->tls)) {
        client->stalled = true;
        sim_event_plan(&client->world->net, &client->event, plan->stall_us);
        client->plan.stall_us = 0; /* once */
    }
}

/* FIN: nothing more comes. */
static void client_finished(struct sim_client *client)
{
    client->peer_finished = true;
    if (!client->input_ended) {
        client_over(client, SIM_OUTCOME_TRUNCATED, TRANSPORT_CLOSE_RESET);
    }
}

static void client_read(struct sim_client *client)
{
    uint8_t bytes[READ_BYTES];

    client_stall(client);
    while (!client->stalled && !client->peer_finished && !sim_client_over(client)) {
        size_t length = 0;
        enum error_code error = transport_read(&client->slot.transport, bytes, sizeof(bytes), &length);
        if (error == ERROR_WOULD_BLOCK) {
            break;
        }
        if (error != ERROR_NONE) {
            client_failed(client, error);
            return;
        }
        if (length == 0) {
            client_finished(client);
            break;
        }
        error = tls_receive(&client->tls, &client_tls_events, bytes, length);
        if (error != ERROR_NONE) {
            (void)client_flush(client); /* its own alert */
            client_failed(client, error);
            return;
        }
        client_stall(client);
    }
    client_pump(client);
}

static void client_ready(struct transport *transport, unsigned events)
{
    struct sim_client *client = container_of(transport, struct sim_client, slot);

    (void)events;
    if (!client->tls_ready) {
        char name[64];
        snprintf(name, sizeof(name), "%s.sim.test", client->plan.service);
        enum error_code error = tls_init_client(&client->tls, sim_world_client_context(client->plan.tls12), name, NULL);
        client->tls_ready = error == ERROR_NONE;
        if (error == ERROR_NONE) {
            error = tls_start(&client->tls, &client_tls_events);
        }
        if (error != ERROR_NONE) {
            client_failed(client, error);
            return;
        }
    }
    client_read(client);
}

static const struct transport_binding client_binding = {&sim_transport_ops, client_ready};

/* ------------------------------------------------------------------------------------------------ life */

static void client_on_event(struct sim_event *event)
{
    struct sim_client *client = container_of(event, struct sim_client, event);

    if (client->link == NULL) {
        client->link = sim_world_connect_client(client, &client_binding);
        sim_link_plan_fault(client->link, SIM_OPENER, client->plan.fault_up, client->plan.fault_up_at);
        sim_link_plan_fault(client->link, SIM_ACCEPTOR, client->plan.fault_down, client->plan.fault_down_at);
    } else if (client->stalled) {
        client->stalled = false;
        client_read(client);
    }
}

void sim_plan_init(struct sim_plan *plan, uint64_t bytes)
{
    *plan = (struct sim_plan){
        .service = "echo",
        .send_bytes = bytes,
        .receive_bytes = bytes,
        .core_aborts_at = SIM_NEVER,
    };
}

void sim_client_init(struct sim_client *client, struct sim_world *world, size_t number, const struct sim_plan *plan)
{
    bool echo = strcmp(plan->service, "echo") == 0;

    client->world = world;
    client->plan = *plan;
    client->number = number;
    client->up_seed = random_next(&world->net.random);
    client->down_seed = echo ? client->up_seed : random_next(&world->net.random);
    sim_event_init(&client->event, client_on_event);
    sim_event_plan(&world->net, &client->event, plan->start_us);
}

void sim_client_kill(struct sim_client *client)
{
    client_over(client, SIM_OUTCOME_VANISHED, TRANSPORT_CLOSE_RESET);
}

void sim_client_dispose(struct sim_client *client)
{
    sim_event_cancel(&client->world->net, &client->event);
    transport_close(&client->slot.transport, TRANSPORT_CLOSE_RESET);
    if (client->tls_ready) {
        tls_dispose(&client->tls);
    }
    free(client->output);
    client->output = NULL;
}
