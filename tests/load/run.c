/*
 * See run.h. Owns everything that a run needs: loop, TLS context, clients. A timerfd wakes the loop at the microsecond
 * at which the next connection or message is due (the loop's own timers are only good to a millisecond); a slower tick
 * looks whether the phase is over.
 */
#include "tests/load/run.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "mux/clock.h"
#include "mux/memory.h"
#include "mux/process.h"
#include "tests/load/client.h"
#include "tests/load/dial.h"
#include "tests/load/pace.h"

#define TICK_MS              20U
#define PROGRESS_EVERY_TICKS 10U
#define PUMP_BATCH           256U /* connections or messages at a time, before what has come back is read */

struct run {
    const struct load_options *options;
    struct tally *tally;
    run_progress_fn *progress;
    struct loop *loop;
    struct process *process;
    struct tls_context *context;
    struct scratch scratch;
    struct dial dial;
    struct client_party party;
    struct client *clients;
    uint32_t prepared; /* clients that are initialized */
    uint32_t cursor;   /* whose turn it is to send */
    enum run_phase phase;
    uint64_t phase_start_us;
    uint64_t ticks;
    struct pace pace; /* of connections in the ramp, of messages in the traffic */
    struct loop_source alarm;
    struct timer tick;
    struct task pump;
    bool stop; /* a signal asks for the end */
};

static struct run *run_of_party(struct client_party *party)
{
    return container_of(party, struct run, party);
}

static uint64_t phase_elapsed_us(const struct run *run)
{
    return clock_monotonic_us() - run->phase_start_us;
}

static void show_progress(const struct run *run, bool final)
{
    if (run->progress == NULL) {
        return;
    }
    const struct run_snapshot snapshot = {
        .tally = run->tally,
        .options = run->options,
        .phase = run->phase,
        .elapsed_ms = phase_elapsed_us(run) / 1000U,
        .in_flight = run->party.in_flight,
        .opening = client_party_opening(&run->party),
        .open = run->party.counts[CLIENT_OPEN],
        .closing = run->party.counts[CLIENT_CLOSING],
    };
    run->progress(&snapshot, final);
}

/* Wakes the pump when the next event is due; a time that has passed wakes it at once. */
static void alarm_set(struct run *run)
{
    struct itimerspec when = {.it_value = {.tv_sec = 0, .tv_nsec = 0}};
    if (!pace_finished(&run->pace)) {
        uint64_t due_us = pace_next_us(&run->pace);
        when.it_value.tv_sec = (time_t)(due_us / 1000000U);
        when.it_value.tv_nsec = (long)(due_us % 1000000U * 1000U);
    }
    /* Cannot fail: the descriptor is a timer and the times are in range. */
    (void)timerfd_settime(run->alarm.fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void alarm_clear(struct run *run)
{
    const struct itimerspec never = {.it_value = {.tv_sec = 0, .tv_nsec = 0}};
    (void)timerfd_settime(run->alarm.fd, 0, &never, NULL);
}

static void pump_ramp(struct run *run)
{
    uint64_t intended_us = 0;
    for (uint32_t i = 0; i < PUMP_BATCH; i++) {
        if (client_party_opening(&run->party) >= run->options->opening_max) {
            /* The next client that settles calls again. */
            alarm_clear(run);
            return;
        }
        if (!pace_take(&run->pace, clock_monotonic_us(), &intended_us)) {
            break;
        }
        client_start(&run->clients[run->pace.taken - 1]);
    }
    alarm_set(run);
}

/* The next open client in turn, or NULL when none is left. */
static struct client *next_open_client(struct run *run)
{
    for (uint32_t i = 0; i < run->prepared; i++) {
        struct client *client = &run->clients[run->cursor];
        run->cursor = (run->cursor + 1) % run->prepared;
        if (client->state == CLIENT_OPEN) {
            return client;
        }
    }
    return NULL;
}

static void pump_traffic(struct run *run)
{
    uint64_t intended_us = 0;
    for (uint32_t i = 0; i < PUMP_BATCH && run->party.counts[CLIENT_OPEN] > 0; i++) {
        if (!pace_take(&run->pace, clock_monotonic_us(), &intended_us)) {
            break;
        }
        client_send(next_open_client(run), intended_us);
    }
    alarm_set(run);
}

static void pump(struct task *task)
{
    struct run *run = container_of(task, struct run, pump);
    if (run->phase == RUN_RAMP) {
        pump_ramp(run);
    } else if (run->phase == RUN_TRAFFIC) {
        pump_traffic(run);
    }
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
    struct run *run = run_of_party(party);
    if (run->phase == RUN_RAMP) {
        scheduler_defer(loop_scheduler(run->loop), &run->pump);
    }
}

static void begin_ramp(struct run *run)
{
    pace_init(&run->pace, run->phase_start_us, run->options->rate, run->options->clients);
    alarm_set(run);
}

static void begin_hold(struct run *run)
{
    if (run->options->wait_file == NULL) {
        return;
    }
    FILE *file = fopen(run->options->wait_file, "we");
    bool written = file != NULL && fputs("ready\n", file) >= 0;
    if (file == NULL || fclose(file) != 0 || !written) {
        fprintf(stderr, "trunkline-load: %s: %s\n", run->options->wait_file, strerror(errno));
        run->stop = true;
    }
}

static void begin_traffic(struct run *run)
{
    uint64_t total = run->options->duration_ms * run->options->messages_per_second / 1000U;
    pace_init(&run->pace, run->phase_start_us, run->options->messages_per_second, total);
    alarm_set(run);
}

static void begin_closing(struct run *run)
{
    alarm_clear(run);
    for (uint32_t i = 0; i < run->prepared; i++) {
        client_finish(&run->clients[i]);
    }
}

static void enter(struct run *run, enum run_phase phase)
{
    assert(phase > run->phase);
    show_progress(run, true);
    run->phase = phase;
    run->phase_start_us = clock_monotonic_us();
    switch (phase) {
    case RUN_HOLD:
        begin_hold(run);
        return;
    case RUN_TRAFFIC:
        begin_traffic(run);
        return;
    case RUN_CLOSING:
        begin_closing(run);
        return;
    case RUN_OVER:
        loop_stop(run->loop);
        return;
    default:
        return;
    }
}

static bool ramp_is_over(const struct run *run)
{
    return pace_finished(&run->pace) && client_party_opening(&run->party) == 0;
}

static bool hold_is_over(const struct run *run)
{
    const struct load_options *options = run->options;
    bool time_is_up = phase_elapsed_us(run) >= options->hold_ms * 1000U;
    if (options->wait_file == NULL) {
        return time_is_up;
    }
    char go[4096];
    int length = snprintf(go, sizeof(go), "%s.go", options->wait_file);
    return (length > 0 && (size_t)length < sizeof(go) && access(go, F_OK) == 0) || (options->hold_given && time_is_up);
}

static void leave_hold(struct run *run)
{
    bool traffic = run->options->duration_ms > 0 && run->options->messages_per_second > 0;
    enter(run, traffic ? RUN_TRAFFIC : RUN_CLOSING);
}

static void check_phase(struct run *run)
{
    bool any_open = run->party.counts[CLIENT_OPEN] > 0;
    switch (run->phase) {
    case RUN_RAMP:
        if (ramp_is_over(run)) {
            run->tally->ramp_us = phase_elapsed_us(run);
            enter(run, any_open ? RUN_HOLD : RUN_CLOSING);
        }
        return;
    case RUN_HOLD:
        if (!any_open) {
            enter(run, RUN_CLOSING);
        } else if (hold_is_over(run)) {
            leave_hold(run);
        }
        return;
    case RUN_TRAFFIC:
        if (pace_finished(&run->pace) || !any_open) {
            run->tally->cut_short = !pace_finished(&run->pace);
            run->tally->traffic_us = phase_elapsed_us(run);
            enter(run, RUN_LAST_ECHOES);
        }
        return;
    case RUN_LAST_ECHOES:
        if (run->party.in_flight == 0 || phase_elapsed_us(run) >= run->options->timeout_ms * 1000U) {
            enter(run, RUN_CLOSING);
        }
        return;
    case RUN_CLOSING:
        if (run->party.counts[CLIENT_CLOSING] == 0) {
            enter(run, RUN_OVER);
        }
        return;
    default:
        return;
    }
}

static void on_tick(struct timer *timer)
{
    struct run *run = container_of(timer, struct run, tick);
    scheduler_arm(loop_scheduler(run->loop), timer, TICK_MS);
    if (run->stop && run->phase < RUN_CLOSING) {
        run->tally->interrupted = true;
        enter(run, RUN_CLOSING);
    }
    check_phase(run);
    if (++run->ticks % PROGRESS_EVERY_TICKS == 0 && run->phase != RUN_OVER) {
        show_progress(run, false);
    }
}

static void on_signal(void *owner, enum process_signal signal)
{
    struct run *run = owner;
    if (signal == PROCESS_SIGNAL_DRAIN) {
        run->stop = true;
    } else if (signal == PROCESS_SIGNAL_STOP) {
        run->tally->interrupted = true;
        loop_stop(run->loop);
    }
}

static enum error_code make_context(struct run *run, char *fault, size_t capacity)
{
    const struct load_options *options = run->options;
    const struct tls_client_settings settings = {
        .ca = options->ca,
        .alpn = options->alpn,
        .alpn_count = options->alpn_count,
        .tickets_ignored = true, /* each connection is a full handshake */
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

static enum error_code make_clients(struct run *run)
{
    const struct load_options *options = run->options;
    run->party = (struct client_party){.loop = run->loop,
                                       .scratch = &run->scratch,
                                       .context = run->context,
                                       .dial = &run->dial,
                                       .server_name = options->server_name,
                                       .tally = run->tally,
                                       .message = memory_alloc(options->size),
                                       .message_bytes = options->size,
                                       .opening_timeout_ms = options->timeout_ms,
                                       .settled = on_client_settled};
    run->clients = memory_calloc(options->clients, sizeof(*run->clients));
    if (run->party.message == NULL || run->clients == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (; run->prepared < options->clients; run->prepared++) {
        client_init(&run->clients[run->prepared], &run->party, run->prepared);
    }
    return ERROR_NONE;
}

/* Everything that can fail before the first connection. */
static enum error_code prepare(struct run *run, char *fault, size_t capacity)
{
    const struct load_options *options = run->options;
    if (dial_init(&run->dial, &options->peer, options->sources) != ERROR_NONE) {
        snprintf(fault, capacity, "--source-addresses: \"%s\" is not an IPv4 block such as 127.0.1.0/28",
                 options->sources);
        return ERROR_INVALID;
    }
    enum error_code error = dial_check(&run->dial, options->clients, fault, capacity);
    if (error == ERROR_NONE) {
        error = make_context(run, fault, capacity);
    }
    if (error == ERROR_NONE) {
        error = loop_new(&run->loop);
    }
    if (error == ERROR_NONE) {
        error = process_new(&run->process, run->loop, on_signal, run);
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
    if (error != ERROR_NONE && fault[0] == '\0') {
        snprintf(fault, capacity, "%s", error_text(error));
    }
    return error;
}

static void dispose(struct run *run)
{
    for (uint32_t i = 0; i < run->prepared; i++) {
        client_dispose(&run->clients[i]);
    }
    memory_free(run->clients);
    memory_free(run->party.message);
    if (run->alarm.fd >= 0) {
        int fd = run->alarm.fd;
        loop_unwatch(run->loop, &run->alarm);
        close(fd);
    }
    scratch_dispose(&run->scratch);
    if (run->process != NULL) {
        process_free(&run->process);
    }
    if (run->loop != NULL) {
        loop_free(&run->loop);
    }
    if (run->context != NULL) {
        tls_context_unref(&run->context);
    }
}

enum error_code run_load(const struct load_options *options, struct tally *tally, run_progress_fn *progress,
                         char *fault, size_t fault_capacity)
{
    struct run run = {.options = options, .tally = tally, .progress = progress, .phase = RUN_RAMP, .alarm = {.fd = -1}};
    fault[0] = '\0';
    timer_init(&run.tick, on_tick);
    task_init(&run.pump, pump);

    enum error_code error = prepare(&run, fault, fault_capacity);
    if (error == ERROR_NONE) {
        run.phase_start_us = clock_monotonic_us();
        begin_ramp(&run);
        scheduler_arm(loop_scheduler(run.loop), &run.tick, TICK_MS);
        loop_run(run.loop);
        scheduler_disarm(loop_scheduler(run.loop), &run.tick);
        scheduler_cancel(loop_scheduler(run.loop), &run.pump);
    }
    dispose(&run);
    return error;
}
