/* See probe.h. A probe ends in a task, not in the event that tells of it, as a client may not end within its events. */
#include "tests/load/probe.h"

#include <stdio.h>
#include <string.h>

#include "mux/clock.h"
#include "mux/memory.h"

static void on_settled(struct client_party *party)
{
    struct probe *probe = container_of(party, struct probe, party);
    scheduler_defer(loop_scheduler(party->loop), &probe->done);
}

static void end_served(struct task *task)
{
    struct probe *probe = container_of(task, struct probe, done);
    for (uint32_t i = 0; i < probe->prepared; i++) {
        if (probe->clients[i].state == CLIENT_OPEN) {
            client_end(&probe->clients[i]);
        }
    }
}

enum error_code probe_init(struct probe *probe, const struct load_options *options, struct loop *loop,
                           struct scratch *scratch, struct tally *tally, char *fault, size_t capacity)
{
    static const char *const alpn[] = {"http/1.1"};
    const struct tls_client_settings settings = {.ca = options->ca, .alpn = alpn, .alpn_count = 1};
    struct tls_fault tls_fault = {.text = ""};
    memset(probe, 0, sizeof(*probe));
    task_init(&probe->done, end_served);
    probe->plan = (struct exchange_plan){.result = client_result,
                                         .tally = tally,
                                         .answers = &probe->party.answers,
                                         .host = options->probe.authority,
                                         .path = options->probe.path};
    exchange_plan_init(&probe->plan, 0, &probe->party.partials);
    /* Source addresses are the clients': a probe comes from where the system likes. */
    (void)dial_init(&probe->dial, &options->probe.peer, NULL);
    enum error_code error = tls_context_new_client(&settings, &probe->context, &tls_fault);
    if (error != ERROR_NONE) {
        snprintf(fault, capacity, "%s", tls_fault.text);
        return error;
    }
    probe->party = (struct client_party){.loop = loop,
                                         .scratch = scratch,
                                         .context = probe->context,
                                         .dial = &probe->dial,
                                         .plan = &probe->plan,
                                         .server_name = options->probe.host,
                                         .tally = tally,
                                         .message = memory_alloc(exchange_room(&probe->plan)),
                                         .opening_timeout_ms = options->timeout_ms,
                                         .settled = on_settled};
    client_party_init(&probe->party);
    if (probe->party.message == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (; probe->prepared < PROBE_CLIENTS; probe->prepared++) {
        client_init(&probe->clients[probe->prepared], &probe->party, EXCHANGE_PROBE, probe->prepared);
    }
    pace_init(&probe->pace, 0, options->probe_rate, 0);
    return ERROR_NONE;
}

void probe_begin(struct probe *probe, uint64_t start_us)
{
    pace_init(&probe->pace, start_us, probe->pace.per_period, PACE_ENDLESS);
}

static struct client *idle_client(struct probe *probe)
{
    for (uint32_t i = 0; i < probe->prepared; i++) {
        struct client *client = &probe->clients[i];
        if (client->state == CLIENT_CLOSED || client->state == CLIENT_FAILED) {
            client_renew(client);
        }
        if (client->state == CLIENT_NEW) {
            return client;
        }
    }
    return NULL;
}

void probe_pump(struct probe *probe)
{
    uint64_t intended_us = 0;
    uint64_t now_us = clock_monotonic_us();
    while (pace_take(&probe->pace, now_us, &intended_us)) {
        struct client *client = idle_client(probe);
        if (client == NULL) {
            probe->party.tally->unsent++;
            continue;
        }
        histogram_record(&probe->party.tally->measures[MEASURE_LAG], now_us - intended_us);
        client_start(client);
    }
}

void probe_end(struct probe *probe)
{
    struct tally *tally = probe->party.tally;
    pace_stop(&probe->pace);
    for (uint32_t i = 0; i < probe->prepared; i++) {
        struct client *client = &probe->clients[i];
        if (client->state >= CLIENT_CONNECTING && client->state <= CLIENT_PROVING) {
            tally->started--; /* nobody knows what it would have seen */
        }
        client_end(client);
    }
    tally->unanswered = 0;
}

void probe_dispose(struct probe *probe)
{
    for (uint32_t i = 0; i < probe->prepared; i++) {
        client_dispose(&probe->clients[i]);
    }
    probe->prepared = 0;
    if (probe->party.loop != NULL) {
        scheduler_cancel(loop_scheduler(probe->party.loop), &probe->done);
    }
    client_party_dispose(&probe->party);
    memory_free(probe->party.message);
    if (probe->context != NULL) {
        tls_context_unref(&probe->context);
    }
}
