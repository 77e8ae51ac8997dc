/* One process per seed: see sim_run.h. */
#include "tests/sim/sim_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mux/log.h"
#include "tests/sim/sim_system.h"

/* Sanitizers, which find other faults, are given a part of the seeds. */
#ifdef TRUNKLINE_SANITIZED
#define SEEDS_PART 6U
#else
#define SEEDS_PART 1U
#endif

#define REAL_TIME_MAX_S 120U /* for one seed: only a run that hangs takes so long */

void sim_run_prepare(void)
{
    enum log_level level = LOG_ERROR;
    const char *wish = getenv("TRUNKLINE_SIM_LOG");

    if (wish != NULL && !log_level_parse(wish, &level)) {
        fprintf(stderr, "TRUNKLINE_SIM_LOG: not a level: %s\n", wish);
    }
    log_configure(level, LOG_FORMAT_TEXT);
}

static void run_child(sim_scenario_fn *scenario, uint64_t seed, int to_parent)
{
    struct sim_report report = {0};

    alarm(REAL_TIME_MAX_S);
    sim_system_seed(seed);
    bool good = scenario(seed, &report);
    report.random_calls = sim_system_random_calls();
    good = write(to_parent, &report, sizeof(report)) == (ssize_t)sizeof(report) && good;
    close(to_parent);
    exit(good ? EXIT_SUCCESS : EXIT_FAILURE); /* with its handlers: they look for leaks */
}

bool sim_run_once(sim_scenario_fn *scenario, uint64_t seed, struct sim_report *report)
{
    int pipes[2];
    int status = 0;

    memset(report, 0, sizeof(*report));
    fflush(NULL);
    if (pipe(pipes) != 0) {
        perror("pipe");
        return false;
    }
    pid_t child = fork();
    if (child == 0) {
        close(pipes[0]);
        run_child(scenario, seed, pipes[1]);
    }
    close(pipes[1]);
    bool good = child > 0 && read(pipes[0], report, sizeof(*report)) == (ssize_t)sizeof(*report);
    close(pipes[0]);
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("fork");
        return false;
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "seed %llu: ended by signal %d\n", (unsigned long long)seed, WTERMSIG(status));
    }
    return good && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
}

static bool environment_number(const char *name, uint64_t *number)
{
    const char *text = getenv(name);

    if (text == NULL) {
        return false;
    }
    char *end = NULL;
    *number = strtoull(text, &end, 10);
    return end != text && *end == '\0';
}

unsigned sim_run_seeds(const char *name, sim_scenario_fn *scenario, uint64_t seeds)
{
    uint64_t first = 1;
    uint64_t began_us = sim_system_real_us();
    struct sim_report report;
    unsigned failed = 0;

    if (environment_number("TRUNKLINE_SIM_SEED", &first)) {
        seeds = 1;
    } else if (!environment_number("TRUNKLINE_SIM_SEEDS", &seeds)) {
        seeds = 1 + (seeds - 1) / SEEDS_PART;
    }
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        if (!sim_run_once(scenario, seed, &report)) {
            fprintf(stderr, "%s failed with TRUNKLINE_SIM_SEED=%llu\n", name, (unsigned long long)seed);
            failed++;
        }
    }
    printf("%s: seeds %llu to %llu, %llu ms\n", name, (unsigned long long)first,
           (unsigned long long)(first + seeds - 1), (unsigned long long)((sim_system_real_us() - began_us) / 1000U));
    return failed;
}
