/*
 * See fleet.h. The board is the only thing that conductor and workers share; the conductor polls it on a tick, which is
 * cheap and needs no descriptor per worker. A worker dies with its conductor, and a worker that dies ends the run.
 */
#include "tests/load/fleet.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mux/clock.h"
#include "mux/memory.h"
#include "mux/process.h"
#include "tests/load/dial.h"
#include "tests/load/run.h"

#define TICK_MS              20U
#define PROGRESS_EVERY_TICKS 10U
#define PHASE_NOTICE_US      30000U    /* a phase is announced so much before it begins, so that all begin together */
#define END_TIMEOUT_US       10000000U /* for workers to free what they hold, once the run is over */

struct fleet {
    const struct load_options *options;
    fleet_progress_fn *progress;
    struct board *board;
    size_t board_bytes;
    struct loop *loop;
    struct process *process;
    struct timer tick;
    struct histogram *latency; /* room for adding up */
    pid_t workers[BOARD_WORKERS_MAX];
    uint32_t started; /* workers that were forked */
    uint32_t alive;
    uint32_t phase;
    uint64_t phase_start_us;
    uint64_t ticks;
    bool announced; /* the wait file is written */
    bool interrupted;
    bool failed; /* the run could not start, or a worker has died; `fault` says why */
    char fault[BOARD_FAULT_BYTES];
};

static uint64_t phase_elapsed_us(const struct fleet *fleet)
{
    uint64_t now_us = clock_monotonic_us();
    return now_us > fleet->phase_start_us ? now_us - fleet->phase_start_us : 0;
}

/* ---- what the board says ---- */

static bool all_finished(const struct fleet *fleet)
{
    for (uint32_t i = 0; i < fleet->started; i++) {
        if (atomic_load(&fleet->board->slots[i].finished) < fleet->phase) {
            return false;
        }
    }
    return true;
}

static uint64_t clients_open(const struct fleet *fleet)
{
    uint64_t open = 0;
    for (uint32_t i = 0; i < fleet->started; i++) {
        open += atomic_load(&fleet->board->slots[i].open);
    }
    return open;
}

/* Reads histograms that their workers are writing: a value that is being recorded may be missing from one sum and be in
 * another, which a line that is rewritten five times a second can bear. */
static void add_latency(const struct fleet *fleet, struct fleet_snapshot *snapshot)
{
    static const enum measure measures[] = {MEASURE_ECHO, MEASURE_ANSWER, MEASURE_DELIVERY};
    histogram_init(fleet->latency);
    for (uint32_t i = 0; i < fleet->started; i++) {
        for (size_t k = 0; k < sizeof(measures) / sizeof(measures[0]); k++) {
            histogram_add(fleet->latency, &fleet->board->slots[i].tally.measures[measures[k]]);
        }
    }
    snapshot->p50_us = histogram_quantile(fleet->latency, 50000);
    snapshot->p99_us = histogram_quantile(fleet->latency, 99000);
}

static void show_progress(struct fleet *fleet, bool final)
{
    if (fleet->progress == NULL || fleet->phase <= RUN_PREPARE) {
        return;
    }
    struct fleet_snapshot snapshot = {
        .options = fleet->options, .phase = fleet->phase, .elapsed_ms = phase_elapsed_us(fleet) / 1000U};
    for (uint32_t i = 0; i < fleet->started; i++) {
        struct board_slot *slot = &fleet->board->slots[i];
        snapshot.opening += atomic_load(&slot->opening);
        snapshot.open += atomic_load(&slot->open);
        snapshot.closing += atomic_load(&slot->closing);
        snapshot.in_flight += atomic_load(&slot->in_flight);
        snapshot.opened += atomic_load(&slot->opened);
        snapshot.failed += atomic_load(&slot->failed);
        snapshot.returned += atomic_load(&slot->returned);
        snapshot.sent += atomic_load(&slot->sent);
    }
    if (fleet->phase == RUN_TRAFFIC || fleet->phase == RUN_TAIL) {
        add_latency(fleet, &snapshot);
    }
    fleet->progress(&snapshot, final);
}

/* ---- phases ---- */

static void announce_ready(struct fleet *fleet)
{
    const char *path = fleet->options->wait_file;
    fleet->announced = true;
    if (path == NULL) {
        return;
    }
    FILE *file = fopen(path, "we");
    bool written = file != NULL && fputs("ready\n", file) >= 0;
    if (file == NULL || fclose(file) != 0 || !written) {
        fprintf(stderr, "trunkline-load: %s: %s\n", path, strerror(errno));
        fleet->interrupted = true;
    }
}

static void enter(struct fleet *fleet, uint32_t phase)
{
    assert(phase > fleet->phase);
    show_progress(fleet, true);
    fleet->phase = phase;
    fleet->phase_start_us = clock_monotonic_us();
    if (phase == RUN_RAMP || phase == RUN_TRAFFIC) {
        fleet->phase_start_us += PHASE_NOTICE_US;
    }
    atomic_store(&fleet->board->phase_start_us, fleet->phase_start_us);
    atomic_store(&fleet->board->phase, phase);
}

static bool hold_is_over(const struct fleet *fleet)
{
    const struct load_options *options = fleet->options;
    bool time_is_up = phase_elapsed_us(fleet) >= options->hold_ms * 1000U;
    if (options->wait_file == NULL) {
        return time_is_up;
    }
    char go[4096];
    int length = snprintf(go, sizeof(go), "%s.go", options->wait_file);
    return (length > 0 && (size_t)length < sizeof(go) && access(go, F_OK) == 0) || (options->hold_given && time_is_up);
}

static bool wants_traffic(const struct load_options *options)
{
    return options->storm_percent > 0 || (options->duration_ms > 0 && options->messages_per_second > 0);
}

/* The phase that follows now, or the present one. */
static uint32_t next_phase(const struct fleet *fleet)
{
    bool finished = all_finished(fleet);
    switch (fleet->phase) {
    case RUN_PREPARE:
        return finished ? RUN_RAMP : RUN_PREPARE;
    case RUN_RAMP:
        return !finished ? RUN_RAMP : (clients_open(fleet) > 0 ? RUN_HOLD : RUN_CLOSING);
    case RUN_HOLD:
        if (clients_open(fleet) == 0) {
            return RUN_CLOSING;
        }
        return !finished || !hold_is_over(fleet) ? RUN_HOLD : wants_traffic(fleet->options) ? RUN_TRAFFIC : RUN_CLOSING;
    case RUN_TRAFFIC:
        return finished ? RUN_TAIL : RUN_TRAFFIC;
    case RUN_TAIL:
        return finished || phase_elapsed_us(fleet) >= fleet->options->timeout_ms * 1000U ? RUN_CLOSING : RUN_TAIL;
    case RUN_CLOSING:
        return finished ? RUN_OVER : RUN_CLOSING;
    default:
        return RUN_OVER;
    }
}

static void stop_at_once(struct fleet *fleet)
{
    atomic_store(&fleet->board->stop, 1);
    if (fleet->phase < RUN_OVER) {
        enter(fleet, RUN_OVER);
    }
}

/* Takes note of workers that have ended. One that was not told to has crashed, or was killed for want of memory. */
static void reap(struct fleet *fleet)
{
    for (uint32_t i = 0; i < fleet->started; i++) {
        int status = 0;
        if (fleet->workers[i] <= 0 || waitpid(fleet->workers[i], &status, WNOHANG) != fleet->workers[i]) {
            continue;
        }
        fleet->workers[i] = 0;
        fleet->alive--;
        bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        bool told = fleet->phase == RUN_OVER || fleet->board->slots[i].error != ERROR_NONE;
        if ((!well || !told) && !fleet->failed) {
            fleet->failed = true;
            snprintf(fleet->fault, sizeof(fleet->fault), "worker process %u has ended by %s %d%s", i,
                     WIFSIGNALED(status) ? "signal" : "itself with status",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                     WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? ": out of memory?" : "");
            stop_at_once(fleet);
        }
    }
}

/* A worker that could not prepare ends the run before it begins. */
static void check_prepared(struct fleet *fleet)
{
    for (uint32_t i = 0; i < fleet->started; i++) {
        const struct board_slot *slot = &fleet->board->slots[i];
        if (atomic_load(&slot->finished) >= RUN_PREPARE && slot->error != ERROR_NONE && !fleet->failed) {
            fleet->failed = true;
            memcpy(fleet->fault, slot->fault, sizeof(fleet->fault));
            stop_at_once(fleet);
        }
    }
}

static void on_tick(struct timer *timer)
{
    struct fleet *fleet = container_of(timer, struct fleet, tick);
    scheduler_arm(loop_scheduler(fleet->loop), timer, TICK_MS);
    reap(fleet);
    if (fleet->phase == RUN_OVER) {
        if (fleet->alive == 0 || phase_elapsed_us(fleet) > END_TIMEOUT_US) {
            loop_stop(fleet->loop);
        }
        return;
    }
    check_prepared(fleet);
    if (fleet->interrupted && fleet->phase < RUN_CLOSING) {
        enter(fleet, RUN_CLOSING);
    }
    if (fleet->phase == RUN_HOLD && !fleet->announced && all_finished(fleet)) {
        announce_ready(fleet); /* every worker has noticed, and needs no more time for it */
    }
    uint32_t phase = next_phase(fleet);
    if (phase != fleet->phase) {
        enter(fleet, phase);
    } else if (++fleet->ticks % PROGRESS_EVERY_TICKS == 0) {
        show_progress(fleet, false);
    }
}

static void on_signal(void *owner, enum process_signal signal)
{
    struct fleet *fleet = owner;
    if (signal == PROCESS_SIGNAL_DRAIN) {
        fleet->interrupted = true;
    } else if (signal == PROCESS_SIGNAL_STOP) {
        fleet->interrupted = true;
        stop_at_once(fleet);
    }
}

/* ---- start and end ---- */

/* Those with clients, and one more for the probes. */
static uint32_t worker_count(const struct load_options *options)
{
    return options->processes + (options->probe.text != NULL ? 1 : 0);
}

static enum error_code make_board(struct fleet *fleet)
{
    uint32_t workers = worker_count(fleet->options);
    fleet->board_bytes = sizeof(struct board) + workers * sizeof(struct board_slot);
    void *memory = mmap(NULL, fleet->board_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return ERROR_NO_MEMORY;
    }
    fleet->board = memory;
    atomic_store(&fleet->board->phase, RUN_PREPARE);
    tally_init(&fleet->board->probe);
    for (uint32_t i = 0; i < workers; i++) {
        tally_init(&fleet->board->slots[i].tally);
    }
    return ERROR_NONE;
}

/* Does not return in the worker. */
static void fork_worker(struct fleet *fleet, uint32_t index)
{
    pid_t conductor = getpid();
    pid_t pid = fork();
    if (pid != 0) {
        fleet->workers[index] = pid;
        return;
    }
    /* Signals of a terminal go to the whole group: the conductor alone says what they mean. */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != conductor) {
        _exit(EXIT_FAILURE); /* it died before the line above */
    }
    const struct share share = {.index = index, .count = fleet->options->processes};
    if (index < share.count) {
        run_worker(fleet->options, share, fleet->board);
    } else {
        run_prober(fleet->options, &fleet->board->slots[index], fleet->board);
    }
    memory_free(fleet->latency);
    exit(EXIT_SUCCESS);
}

static enum error_code start_workers(struct fleet *fleet)
{
    fflush(NULL); /* or what is buffered would be written by each worker */
    for (; fleet->started < worker_count(fleet->options); fleet->started++) {
        fork_worker(fleet, fleet->started);
        if (fleet->workers[fleet->started] < 0) {
            snprintf(fleet->fault, sizeof(fleet->fault), "fork: %s", strerror(errno));
            return ERROR_SYSTEM;
        }
        fleet->alive++;
    }
    return ERROR_NONE;
}

static enum error_code prepare(struct fleet *fleet)
{
    const struct load_options *options = fleet->options;
    struct dial dial;
    if (dial_init(&dial, &options->peer, options->sources) != ERROR_NONE) {
        snprintf(fleet->fault, sizeof(fleet->fault),
                 "--source-addresses: \"%s\" is not up to %u IPv4 blocks such as 127.0.1.0/28 with commas between",
                 options->sources, DIAL_BLOCKS_MAX);
        return ERROR_INVALID;
    }
    enum error_code error =
        dial_check(&dial, options->clients, options->processes, options->resume, fleet->fault, sizeof(fleet->fault));
    if (error == ERROR_NONE) {
        error = make_board(fleet);
    }
    if (error == ERROR_NONE) {
        fleet->latency = memory_alloc(sizeof(*fleet->latency));
        error = fleet->latency == NULL ? ERROR_NO_MEMORY : start_workers(fleet);
    }
    if (error == ERROR_NONE) {
        error = loop_new(&fleet->loop);
    }
    if (error == ERROR_NONE) {
        error = process_new(&fleet->process, fleet->loop, on_signal, fleet);
    }
    return error;
}

/* Workers that are left, because the start failed half-way or one does not end, are of no more use. */
static void end_workers(struct fleet *fleet)
{
    for (uint32_t i = 0; i < fleet->started; i++) {
        if (fleet->workers[i] > 0) {
            (void)kill(fleet->workers[i], SIGKILL);
            (void)waitpid(fleet->workers[i], NULL, 0);
            fleet->workers[i] = 0;
        }
    }
}

static void dispose(struct fleet *fleet)
{
    if (fleet->process != NULL) {
        process_free(&fleet->process);
    }
    if (fleet->loop != NULL) {
        loop_free(&fleet->loop);
    }
    memory_free(fleet->latency);
    if (fleet->board != NULL) {
        (void)munmap(fleet->board, fleet->board_bytes);
    }
}

static void add_up(const struct fleet *fleet, struct tally *tally, struct tally *probe)
{
    tally_add(probe, &fleet->board->probe);
    for (uint32_t i = 0; i < fleet->started; i++) {
        tally_add(tally, &fleet->board->slots[i].tally);
    }
    tally->interrupted = tally->interrupted || fleet->interrupted;
}

enum error_code fleet_run(const struct load_options *options, struct tally *tally, struct tally *probe,
                          fleet_progress_fn *progress, char *fault, size_t capacity)
{
    struct fleet fleet = {.options = options, .progress = progress, .phase = RUN_PREPARE};
    timer_init(&fleet.tick, on_tick);
    enum error_code error = prepare(&fleet);
    if (error == ERROR_NONE) {
        fleet.phase_start_us = clock_monotonic_us();
        scheduler_arm(loop_scheduler(fleet.loop), &fleet.tick, TICK_MS);
        loop_run(fleet.loop);
        scheduler_disarm(loop_scheduler(fleet.loop), &fleet.tick);
    }
    end_workers(&fleet);
    if (error == ERROR_NONE && fleet.failed) {
        error = ERROR_SYSTEM;
    }
    if (error == ERROR_NONE) {
        add_up(&fleet, tally, probe);
    } else {
        snprintf(fault, capacity, "%s", fleet.fault[0] != '\0' ? fleet.fault : error_text(error));
    }
    dispose(&fleet);
    return error;
}
