/*
 * See run.h. Owns everything that a worker needs: loop, TLS context, clients, the probe. A timerfd wakes the loop at
 * the microsecond at which the next connection, message or ping is due (the loop's own timers are only good to a
 * millisecond); a slower tick looks at the board and whether the phase is over.
 */
#include "tests/load/run.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "mux/clock.h"
#include "mux/memory.h"
#include "mux/process.h"
#include "tests/load/client.h"
#include "tests/load/dial.h"
#include "tests/load/probe.h"

#define TICK_MS          20U
#define SILENCE_SPARE_US 1000000U /* so much later a message of one-way down traffic may be than when it was due */
#define PUMP_BATCH       256U     /* connections or messages at a time, before what has come back is read */

struct run {
    const struct load_options *options;
    struct board *board;
    struct board_slot *slot;
    struct tally *tally;
    struct share share;
    struct loop *loop;
    struct tls_context *context;
    struct scratch scratch;
    struct dial dial;
    struct exchange_plan plan;
    struct client_party party;
    struct client *clients;
    uint32_t prepared; /* clients that are initialized */
    uint32_t cursor;   /* whose turn it is to send */
    uint32_t returned; /* where to look for the next client that comes back */
    uint32_t closed;   /* how many clients have been told to end */
    uint32_t phase;    /* enum run_phase */
    uint64_t phase_start_us;
    uint64_t cpu_start_us;
    struct pace openings; /* the ramp */
    struct pace returns;  /* after the storm */
    struct pace messages;
    struct pace pings;
    struct loop_source alarm;
    struct timer tick;
    struct task pump;
    struct probe *probe; /* of a worker that has nothing else to do; NULL: none */
    struct random_state random;
    bool stormed;
    bool probing; /* it has the probes, and no clients */
};

static uint64_t phase_elapsed_us(const struct run *run)
{
    uint64_t now_us = clock_monotonic_us();
    return now_us > run->phase_start_us ? now_us - run->phase_start_us : 0;
}

static uint64_t cpu_us(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) {
        return 0;
    }
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000U +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* ---- what is due ---- */

static bool opening_is_full(const struct run *run)
{
    uint32_t share = (run->options->opening_max + run->share.count - 1) / run->share.count;
    return client_party_opening(&run->party) >= share;
}

static void earlier(uint64_t *due_us, const struct pace *pace)
{
    if (!pace_finished(pace) && pace_next_us(pace) < *due_us) {
        *due_us = pace_next_us(pace);
    }
}

/* Wakes the pump when the next event is due; a time that has passed wakes it at once. */
static void alarm_set(struct run *run)
{
    uint64_t due_us = UINT64_MAX;
    struct itimerspec when = {.it_value = {.tv_sec = 0, .tv_nsec = 0}};
    if (!opening_is_full(run)) {
        earlier(&due_us, &run->openings); /* else the next client that settles calls the pump */
    }
    earlier(&due_us, &run->returns);
    earlier(&due_us, &run->messages);
    earlier(&due_us, &run->pings);
    if (run->probe != NULL) {
        earlier(&due_us, &run->probe->pace);
    }
    if (due_us != UINT64_MAX) {
        when.it_value.tv_sec = (time_t)(due_us / 1000000U);
        when.it_value.tv_nsec = (long)(due_us % 1000000U * 1000U) + 1; /* 0 would mean never */
    }
    /* Cannot fail: the descriptor is a timer and the times are in range. */
    (void)timerfd_settime(run->alarm.fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void pump_openings(struct run *run)
{
    uint64_t intended_us = 0;
    for (uint32_t i = 0; i < PUMP_BATCH && !opening_is_full(run); i++) {
        if (!pace_take(&run->openings, clock_monotonic_us(), &intended_us)) {
            return;
        }
        client_start(&run->clients[run->openings.taken - 1]);
    }
}

static void pump_returns(struct run *run)
{
    uint64_t intended_us = 0;
    for (uint32_t i = 0; i < PUMP_BATCH && pace_take(&run->returns, clock_monotonic_us(), &intended_us); i++) {
        while (run->clients[run->returned].state != CLIENT_DROPPED) {
            run->returned++;
        }
        client_start(&run->clients[run->returned++]);
    }
}

/* The next client in turn that can send now; there is one. */
static struct client *next_ready_client(struct run *run)
{
    assert(run->party.ready > 0);
    if (run->options->random) {
        run->cursor = (uint32_t)random_below(&run->random, run->prepared);
    }
    for (;;) {
        struct client *client = &run->clients[run->cursor];
        run->cursor = (run->cursor + 1) % run->prepared;
        if (client_may_send(client)) {
            return client;
        }
    }
}

static void pump_messages(struct run *run)
{
    uint64_t intended_us = 0;
    for (uint32_t i = 0; i < PUMP_BATCH; i++) {
        bool anyone = run->party.counts[CLIENT_OPEN] > 0;
        if ((!anyone && !run->stormed) || !pace_take(&run->messages, clock_monotonic_us(), &intended_us)) {
            return;
        }
        if (!anyone) {
            run->tally->missed++;
            continue;
        }
        if (run->party.ready == 0) {
            run->tally->unsent++; /* all still wait for their answers */
            continue;
        }
        client_send(next_ready_client(run), intended_us);
    }
}

static void pump_pings(struct run *run)
{
    uint64_t intended_us = 0;
    for (uint32_t i = 0; i < PUMP_BATCH && pace_take(&run->pings, clock_monotonic_us(), &intended_us); i++) {
        struct client *client = &run->clients[(run->pings.taken - 1) % run->prepared];
        if (client->state == CLIENT_OPEN && client->exchange.kind == EXCHANGE_ECHO) {
            client_ping(client, intended_us);
        }
    }
}

static void pump_closing(struct run *run)
{
    for (uint32_t i = 0; i < PUMP_BATCH && run->closed < run->prepared; i++) {
        client_finish(&run->clients[run->closed++]);
    }
    if (run->closed < run->prepared) {
        scheduler_defer(loop_scheduler(run->loop), &run->pump);
    }
}

static void pump(struct task *task)
{
    struct run *run = container_of(task, struct run, pump);
    if (run->phase == RUN_CLOSING) {
        pump_closing(run);
        return;
    }
    pump_openings(run);
    pump_returns(run);
    pump_messages(run);
    pump_pings(run);
    if (run->probe != NULL) {
        probe_pump(run->probe);
    }
    alarm_set(run);
}

static void on_alarm(struct loop_source *source, unsigned events)
{
    struct run *run = container_of(source, struct run, alarm);
    uint64_t expirations = 0;
    (void)events;
    if (read(source->fd, &expirations, sizeof(expirations)) != (ssize_t)sizeof(expirations)) {
        return; /* it was set anew meanwhile */
    }
    pump(&run->pump);
}

static void on_client_settled(struct client_party *party)
{
    struct run *run = container_of(party, struct run, party);
    if (run->phase == RUN_RAMP) {
        scheduler_defer(loop_scheduler(run->loop), &run->pump);
    }
}

/* ---- phases ---- */

/* Drops its part of the clients, evenly spread, and lets them come back. */
static void begin_storm(struct run *run)
{
    uint64_t percent = run->options->storm_percent;
    run->stormed = true;
    run->party.storm_us = clock_monotonic_us();
    for (uint32_t i = 0; i < run->prepared; i++) {
        bool chosen = (i + 1) * percent / 100 > i * percent / 100;
        if (chosen && run->clients[i].state == CLIENT_OPEN) {
            client_drop(&run->clients[i]);
        }
    }
    uint32_t dropped = run->party.counts[CLIENT_DROPPED];
    if (dropped > 0) {
        const struct share alone = {.index = 0, .count = 1};
        run->returned = 0;
        pace_init_share(&run->returns, run->party.storm_us, run->options->jitter_ms * 1000U, dropped, dropped, alone);
    }
    alarm_set(run);
}

static void begin_ramp(struct run *run)
{
    const struct load_options *options = run->options;
    pace_init_share(&run->openings, run->phase_start_us, 1000000U, options->rate, options->clients, run->share);
    if (run->probe != NULL) {
        probe_begin(run->probe, run->phase_start_us);
    }
    alarm_set(run);
}

static void begin_hold(struct run *run)
{
    const struct load_options *options = run->options;
    pace_stop(&run->openings);
    memory_trim(); /* of what handshakes have left behind, before anything is on a schedule */
    if (options->ping_interval_ms > 0) {
        pace_init_share(&run->pings, run->phase_start_us, options->ping_interval_ms * 1000U, options->clients,
                        PACE_ENDLESS, run->share);
        run->pings.total = PACE_ENDLESS / options->clients;
    }
    alarm_set(run);
}

static bool any_sender(const struct run *run)
{
    for (uint32_t i = 0; i < run->prepared; i++) {
        uint8_t kind = run->clients[i].exchange.kind;
        if (kind != EXCHANGE_DOWN) {
            return true;
        }
    }
    return false;
}

static void begin_traffic(struct run *run)
{
    const struct load_options *options = run->options;
    uint64_t total = options->duration_ms * options->messages_per_second / 1000U;
    if (total > 0 && any_sender(run)) {
        pace_init_share(&run->messages, run->phase_start_us, 1000000U, options->messages_per_second, total, run->share);
    }
    run->cpu_start_us = cpu_us();
    alarm_set(run);
}

/* Clients of one-way down traffic to whom nothing has come since they opened, though two messages each were due. Those
 * that a storm dropped may have had no time. */
static uint64_t count_silent(const struct run *run)
{
    uint64_t silent = 0;
    if (run->stormed || run->tally->traffic_us < 2 * run->plan.down_interval_us + SILENCE_SPARE_US) {
        return 0;
    }
    for (uint32_t i = 0; i < run->prepared; i++) {
        silent += run->clients[i].state == CLIENT_OPEN && exchange_silent(&run->clients[i].exchange);
    }
    return silent;
}

static void end_traffic(struct run *run)
{
    run->tally->silent = count_silent(run);
    run->tally->cut_short = run->tally->cut_short || !pace_finished(&run->messages);
    pace_stop(&run->messages);
    pace_stop(&run->returns);
    pace_stop(&run->pings);
    alarm_set(run);
}

static void begin_closing(struct run *run)
{
    pace_stop(&run->openings);
    pace_stop(&run->returns);
    pace_stop(&run->messages);
    pace_stop(&run->pings);
    if (run->probe != NULL) {
        probe_end(run->probe);
    }
    alarm_set(run);
    scheduler_defer(loop_scheduler(run->loop), &run->pump);
}

static void enter(struct run *run, uint32_t phase)
{
    assert(phase > run->phase);
    run->phase = phase;
    run->phase_start_us = atomic_load(&run->board->phase_start_us);
    switch (phase) {
    case RUN_RAMP:
        begin_ramp(run);
        return;
    case RUN_HOLD:
        begin_hold(run);
        return;
    case RUN_TRAFFIC:
        begin_traffic(run);
        return;
    case RUN_TAIL:
        end_traffic(run);
        return;
    case RUN_CLOSING:
        begin_closing(run);
        return;
    default:
        loop_stop(run->loop);
        return;
    }
}

static bool storm_is_over(const struct run *run)
{
    return run->options->storm_percent == 0 ||
           (run->stormed && pace_finished(&run->returns) && client_party_opening(&run->party) == 0);
}

static bool traffic_is_over(const struct run *run)
{
    const uint32_t *counts = run->party.counts;
    bool any_left = counts[CLIENT_OPEN] > 0 || counts[CLIENT_DROPPED] > 0 || client_party_opening(&run->party) > 0;
    bool time_is_up = phase_elapsed_us(run) >= run->options->duration_ms * 1000U;
    return !any_left || (pace_finished(&run->messages) && time_is_up && storm_is_over(run));
}

/* Is there nothing left to do in this phase? */
static bool phase_is_over(struct run *run)
{
    switch (run->phase) {
    case RUN_RAMP:
        return pace_finished(&run->openings) && client_party_opening(&run->party) == 0;
    case RUN_HOLD:
        return true; /* the conductor knows how long */
    case RUN_TRAFFIC:
        return traffic_is_over(run);
    case RUN_TAIL:
        return run->party.in_flight == 0;
    case RUN_CLOSING:
        return run->closed == run->prepared && run->party.counts[CLIENT_CLOSING] == 0;
    default:
        return false;
    }
}

static void finish_phase(struct run *run)
{
    if (atomic_load(&run->slot->finished) >= run->phase || !phase_is_over(run)) {
        return;
    }
    if (run->phase == RUN_RAMP) {
        run->tally->ramp_us = phase_elapsed_us(run);
    } else if (run->phase == RUN_TRAFFIC) {
        run->tally->traffic_us = phase_elapsed_us(run);
        run->tally->traffic_cpu_us = cpu_us() - run->cpu_start_us;
    }
    atomic_store(&run->slot->finished, run->phase);
}

/* For the live line and the conductor's decisions. */
static void publish(struct run *run)
{
    struct board_slot *slot = run->slot;
    const struct client_party *party = &run->party;
    atomic_store(&slot->opening, client_party_opening(party));
    atomic_store(&slot->open, party->counts[CLIENT_OPEN]);
    atomic_store(&slot->closing, party->counts[CLIENT_CLOSING]);
    atomic_store(&slot->in_flight, party->in_flight);
    atomic_store(&slot->opened, run->tally->opened);
    atomic_store(&slot->failed, run->tally->failed);
    atomic_store(&slot->returned, run->tally->returned);
    atomic_store(&slot->sent, run->tally->scheduled);
}

static void on_tick(struct timer *timer)
{
    struct run *run = container_of(timer, struct run, tick);
    uint32_t phase = atomic_load(&run->board->phase);
    scheduler_arm(loop_scheduler(run->loop), timer, TICK_MS);
    if (atomic_load(&run->board->stop) != 0) {
        loop_stop(run->loop);
        return;
    }
    if (phase != run->phase) {
        enter(run, phase);
    }
    uint64_t storm_after_us = run->options->storm_at_ms * 1000U;
    if (run->phase == RUN_TRAFFIC && run->options->storm_percent > 0 && !run->stormed &&
        clock_monotonic_us() >= run->phase_start_us + storm_after_us) {
        begin_storm(run);
    }
    /* Figures first: who sees the end of a phase sees what it came to. */
    publish(run);
    finish_phase(run);
}

/* ---- start and end ---- */

static enum error_code make_context(struct run *run, char *fault, size_t capacity)
{
    const struct load_options *options = run->options;
    char priority[LOAD_PRIORITY_MAX];
    const struct tls_client_settings settings = {
        .ca = options->ca,
        .priority = load_priority(options, priority),
        .alpn = options->alpn,
        .alpn_count = options->alpn_count,
        .tickets_ignored = !options->resume, /* they cost memory until they have come */
    };
    struct tls_fault tls_fault = {.text = ""};
    enum error_code error = tls_context_new_client(&settings, &run->context, &tls_fault);
    if (error != ERROR_NONE) {
        snprintf(fault, capacity, "%s", tls_fault.text[0] != '\0' ? tls_fault.text : error_text(error));
    }
    return error;
}

static enum error_code make_alarm(struct run *run)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0) {
        return errno == EMFILE || errno == ENFILE ? ERROR_NO_FILES : ERROR_SYSTEM;
    }
    enum error_code error = loop_watch(run->loop, &run->alarm, fd, LOOP_LEVEL_READ, on_alarm);
    if (error != ERROR_NONE) {
        close(fd);
    }
    return error;
}

static void make_plan(struct run *run)
{
    const struct load_options *options = run->options;
    uint64_t rate = options->messages_per_second == 0 ? 1 : options->messages_per_second;
    run->plan = (struct exchange_plan){.result = client_result,
                                       .tally = run->tally,
                                       .answers = &run->party.answers,
                                       .host = options->server_name,
                                       .path = options->path,
                                       .body_bytes = options->length,
                                       .body_bytes_given = options->length_given,
                                       .status = (uint16_t)options->status,
                                       .down_interval_us = (uint64_t)options->clients * 1000000U / rate};
    run->party = (struct client_party){.loop = run->loop,
                                       .scratch = &run->scratch,
                                       .context = run->context,
                                       .dial = &run->dial,
                                       .plan = &run->plan,
                                       .server_name = options->server_name,
                                       .tally = run->tally,
                                       .opening_timeout_ms = options->timeout_ms,
                                       .settled = on_client_settled};
    exchange_plan_init(&run->plan, options->size, &run->party.partials);
    client_party_init(&run->party);
}

static enum error_code make_clients(struct run *run)
{
    const struct load_options *options = run->options;
    uint32_t count = (uint32_t)share_of(run->share, options->clients);
    make_plan(run);
    run->party.message = memory_alloc(exchange_room(&run->plan));
    if (options->resume) {
        run->party.ticket_room = memory_alloc(CLIENT_TICKET_MAX_BYTES);
    }
    run->clients = memory_calloc(count, sizeof(*run->clients));
    if (run->party.message == NULL || (count > 0 && run->clients == NULL) ||
        (options->resume && run->party.ticket_room == NULL)) {
        return ERROR_NO_MEMORY;
    }
    for (; run->prepared < count; run->prepared++) {
        /* Each process has clients of all kinds, and few clients in many processes are not all of the first. */
        enum exchange_kind kind = options->traffic[(run->prepared + run->share.index) % options->traffic_count];
        client_init(&run->clients[run->prepared], &run->party, kind,
                    run->prepared * run->share.count + run->share.index);
    }
    return ERROR_NONE;
}

static enum error_code make_probe(struct run *run, char *fault, size_t capacity)
{
    run->probe = memory_zalloc(sizeof(*run->probe));
    if (run->probe == NULL) {
        return ERROR_NO_MEMORY;
    }
    return probe_init(run->probe, run->options, run->loop, &run->scratch, &run->board->probe, fault, capacity);
}

/* Everything that can fail before the first connection. */
static enum error_code prepare(struct run *run, char *fault, size_t capacity)
{
    const struct load_options *options = run->options;
    (void)process_raise_files();
    enum error_code error = dial_init(&run->dial, &options->peer, options->sources);
    if (error == ERROR_NONE) {
        error = make_context(run, fault, capacity);
    }
    if (error == ERROR_NONE) {
        error = loop_new(&run->loop);
    }
    if (error == ERROR_NONE) {
        error = scratch_init(&run->scratch);
    }
    if (error == ERROR_NONE) {
        error = make_alarm(run);
    }
    if (error == ERROR_NONE) {
        error = make_clients(run);
    }
    if (error == ERROR_NONE && run->probing) {
        error = make_probe(run, fault, capacity);
    }
    if (error != ERROR_NONE && fault[0] == '\0') {
        snprintf(fault, capacity, "%s", error_text(error));
    }
    return error;
}

static void dispose(struct run *run)
{
    if (run->probe != NULL) {
        probe_dispose(run->probe);
        memory_free(run->probe);
    }
    for (uint32_t i = 0; i < run->prepared; i++) {
        client_dispose(&run->clients[i]);
    }
    client_party_dispose(&run->party);
    memory_free(run->clients);
    memory_free(run->party.message);
    memory_free(run->party.ticket_room);
    if (run->alarm.fd >= 0) {
        int fd = run->alarm.fd;
        loop_unwatch(run->loop, &run->alarm);
        close(fd);
    }
    scratch_dispose(&run->scratch);
    if (run->loop != NULL) {
        loop_free(&run->loop);
    }
    if (run->context != NULL) {
        tls_context_unref(&run->context);
    }
}

static void work(const struct load_options *options, struct share share, struct board_slot *slot, struct board *board,
                 bool probing)
{
    struct run run = {.options = options,
                      .board = board,
                      .slot = slot,
                      .tally = &slot->tally,
                      .share = share,
                      .phase = RUN_PREPARE,
                      .alarm = {.fd = -1},
                      .probing = probing};
    timer_init(&run.tick, on_tick);
    task_init(&run.pump, pump);
    random_seed(&run.random, clock_monotonic_us() + share.index);

    slot->error = prepare(&run, slot->fault, sizeof(slot->fault));
    atomic_store(&slot->finished, RUN_PREPARE);
    if (slot->error == ERROR_NONE) {
        scheduler_arm(loop_scheduler(run.loop), &run.tick, TICK_MS);
        loop_run(run.loop);
        scheduler_disarm(loop_scheduler(run.loop), &run.tick);
        scheduler_cancel(loop_scheduler(run.loop), &run.pump);
    }
    publish(&run);
    dispose(&run);
}

void run_worker(const struct load_options *options, struct share share, struct board *board)
{
    work(options, share, &board->slots[share.index], board, false);
}

void run_prober(const struct load_options *options, struct board_slot *slot, struct board *board)
{
    const struct share alone = {.index = 0, .count = 1};
    struct load_options without = *options;
    without.clients = 0;
    without.storm_percent = 0;
    without.ping_interval_ms = 0;
    work(&without, alone, slot, board, true);
}
