/* See registry.h. Owns the proxies, the alarm and the scratch memory. */
#include "tests/chaos/registry.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "mux/clock.h"
#include "mux/log.h"
#include "mux/memory.h"

#define US_PER_S  1000000U
#define NS_PER_US 1000U

/* ---- wakes ---- */

static void on_alarm(struct loop_source *source, unsigned events)
{
    struct registry *registry = container_of(source, struct registry, alarm);
    uint64_t expirations;
    (void)events;
    if (read(source->fd, &expirations, sizeof(expirations)) < 0) {
        return;
    }
    registry->alarm_us = WAKE_NEVER;
    wakes_run(&registry->wakes, clock_monotonic_us());
    registry_settle(registry);
}

static void on_settle(struct task *task)
{
    struct registry *registry = container_of(task, struct registry, settle);
    uint64_t next_us = wakes_next(&registry->wakes);
    if (next_us == registry->alarm_us) {
        return;
    }
    struct itimerspec at = {0};
    if (next_us != WAKE_NEVER) {
        at.it_value.tv_sec = (time_t)(next_us / US_PER_S);
        at.it_value.tv_nsec = (long)(next_us % US_PER_S * NS_PER_US) + 1; /* all zero would turn it off */
    }
    int failed = timerfd_settime(registry->alarm.fd, TFD_TIMER_ABSTIME, &at, NULL);
    assert(!failed && "the time is valid");
    (void)failed;
    registry->alarm_us = next_us;
}

void registry_settle(struct registry *registry)
{
    scheduler_defer(loop_scheduler(registry->loop), &registry->settle);
}

enum error_code registry_init(struct registry *registry, struct loop *loop, struct decisions *decisions)
{
    *registry = (struct registry){.loop = loop,
                                  .decisions = decisions,
                                  .alarm = {.fd = -1},
                                  .alarm_us = WAKE_NEVER,
                                  .latency_bytes = FLOW_LATENCY_BYTES};
    list_init(&registry->proxies);
    wakes_init(&registry->wakes);
    task_init(&registry->settle, on_settle);
    registry->scratch = memory_alloc(FLOW_SCRATCH_BYTES);
    registry->slice = memory_alloc(FLOW_SCRATCH_BYTES);
    if (registry->scratch == NULL || registry->slice == NULL) {
        return ERROR_NO_MEMORY;
    }
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0) {
        return errno == EMFILE || errno == ENFILE ? ERROR_NO_FILES : ERROR_SYSTEM;
    }
    enum error_code error = loop_watch(loop, &registry->alarm, fd, LOOP_LEVEL_READ, on_alarm);
    if (error != ERROR_NONE) {
        (void)close(fd);
    }
    return error;
}

void registry_dispose(struct registry *registry)
{
    list_for_each(&registry->proxies, node) {
        struct proxy *proxy = container_of(node, struct proxy, node);
        proxy_free(&proxy);
    }
    scheduler_cancel(loop_scheduler(registry->loop), &registry->settle);
    if (registry->alarm.fd >= 0) {
        int fd = registry->alarm.fd;
        loop_unwatch(registry->loop, &registry->alarm);
        (void)close(fd);
    }
    wakes_dispose(&registry->wakes);
    memory_free(registry->scratch);
    memory_free(registry->slice);
}

/* ---- changes ---- */

struct proxy *registry_find(const struct registry *registry, const char *name)
{
    list_for_each(&registry->proxies, node) {
        struct proxy *proxy = container_of(node, struct proxy, node);
        if (strcmp(proxy->name, name) == 0) {
            return proxy;
        }
    }
    return NULL;
}

enum error_code registry_missing(const char *what, const char *name, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    option_fault_set(fault, "%s not found: %s", what, option_quote(name, quoted));
    return ERROR_UNREACHABLE;
}

static enum error_code already(const char *what, const char *name, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    option_fault_set(fault, "%s already exists: %s", what, option_quote(name, quoted));
    return ERROR_STATE;
}

static void note_config(struct registry *registry, const struct proxy *proxy)
{
    if (registry->decisions->write == NULL) {
        return;
    }
    json_t *json = proxy_json(proxy);
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    if (text != NULL) {
        decisions_note_change(registry->decisions, DECISION_CONFIG, proxy->name, text, clock_monotonic_us());
    } else {
        LOG(LOG_ERROR, "log-incomplete", LOG_TEXT("proxy", proxy->name), LOG_ERROR_CODE(ERROR_NO_MEMORY));
    }
    json_decref(json);
    free(text);
}

/* One spec of a populate, made ready: nothing of it shows yet. */
struct change {
    struct proxy *proxy; /* the one that is there; NULL: none */
    struct proxy *fresh; /* the one that takes its place; NULL: it stays */
    struct list toxics;  /* of a proxy that stays and gets new ones */
};

static enum error_code prepare_toxics(struct change *change, const struct list *toxics)
{
    list_for_each(toxics, node) {
        struct toxic *copy = toxic_copy(container_of(node, struct toxic, node));
        if (copy == NULL) {
            return ERROR_NO_MEMORY;
        }
        list_append(&change->toxics, &copy->node);
    }
    return ERROR_NONE;
}

static enum error_code prepare(struct registry *registry, const struct proxy_spec *spec, struct change *change,
                               struct option_fault *fault)
{
    struct address listen;
    struct address upstream;
    enum error_code error = proxy_parse_address(spec->upstream, &upstream, "upstream", fault);
    if (error == ERROR_NONE) {
        error = proxy_parse_address(spec->listen, &listen, "listen", fault);
    }
    if (error != ERROR_NONE) {
        return error;
    }
    change->proxy = spec->name != NULL ? registry_find(registry, spec->name) : NULL;
    if (change->proxy != NULL && change->proxy->enabled == spec->enabled &&
        proxy_matches(change->proxy, &listen, &upstream)) {
        return spec->toxics_given ? prepare_toxics(change, &spec->toxics) : ERROR_NONE;
    }
    return proxy_new(registry, spec, change->proxy, &change->fresh, fault);
}

/* Toxics that are the same stay, with what they have done and counted. */
static void commit_toxics(struct proxy *proxy, struct list *toxics)
{
    list_for_each(&proxy->toxics, node) {
        struct toxic *toxic = container_of(node, struct toxic, node);
        bool wanted = false;
        list_for_each(toxics, other) {
            const struct toxic *spec = container_of(other, struct toxic, node);
            wanted = wanted || (strcmp(spec->name, toxic->name) == 0 && spec->type == toxic->type &&
                                spec->stream == toxic->stream);
        }
        if (!wanted) {
            proxy_remove_toxic(proxy, toxic);
        }
    }
    list_for_each(toxics, node) {
        struct toxic *toxic = container_of(node, struct toxic, node);
        struct toxic *there = proxy_find_toxic(proxy, toxic->name);
        list_remove(&toxic->node);
        if (there == NULL) {
            proxy_add_toxic(proxy, toxic);
            continue;
        }
        if (!toxic_equal(there, toxic)) {
            proxy_update_toxic(proxy, there, toxic);
        }
        toxic_free(&toxic);
    }
}

static enum error_code commit(struct registry *registry, struct change *change, const struct proxy_spec *spec,
                              struct option_fault *fault)
{
    struct proxy *proxy = change->proxy;
    enum error_code error = ERROR_NONE;
    if (change->fresh != NULL) {
        proxy = change->fresh;
        change->fresh = NULL;
        proxy->accepted = change->proxy != NULL ? change->proxy->accepted : 0;
        list_append(&registry->proxies, &proxy->node);
        if (change->proxy != NULL) {
            list_remove(&proxy->node);
            list_insert_before(&change->proxy->node, &proxy->node);
            proxy_free(&change->proxy);
        }
        error = proxy_start(proxy, fault);
    } else if (spec->toxics_given) {
        commit_toxics(proxy, &change->toxics);
    } else {
        return ERROR_NONE;
    }
    note_config(registry, proxy);
    return error;
}

static bool named_twice(const struct proxy_spec *specs, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (specs[i].name != NULL && specs[index].name != NULL && strcmp(specs[i].name, specs[index].name) == 0) {
            return true;
        }
    }
    return false;
}

enum error_code registry_populate(struct registry *registry, const struct proxy_spec *specs, size_t count,
                                  struct option_fault *fault)
{
    struct change *changes = memory_calloc(count, sizeof(*changes));
    enum error_code error = changes != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
    for (size_t i = 0; i < count && changes != NULL; i++) {
        list_init(&changes[i].toxics);
    }
    for (size_t i = 0; i < count && error == ERROR_NONE; i++) {
        error = named_twice(specs, i) ? already("proxy", specs[i].name, fault)
                                      : prepare(registry, &specs[i], &changes[i], fault);
    }
    for (size_t i = 0; i < count && error == ERROR_NONE; i++) {
        error = commit(registry, &changes[i], &specs[i], fault);
    }
    for (size_t i = 0; i < count && changes != NULL; i++) {
        proxy_free(&changes[i].fresh);
        list_for_each(&changes[i].toxics, node) {
            struct toxic *toxic = container_of(node, struct toxic, node);
            list_remove(&toxic->node);
            toxic_free(&toxic);
        }
    }
    memory_free(changes);
    return error;
}

enum error_code registry_create(struct registry *registry, const struct proxy_spec *spec, struct option_fault *fault)
{
    if (spec->name != NULL && registry_find(registry, spec->name) != NULL) {
        return already("proxy", spec->name, fault);
    }
    return registry_populate(registry, spec, 1, fault);
}

enum error_code registry_delete(struct registry *registry, const char *name, struct option_fault *fault)
{
    struct proxy *proxy = registry_find(registry, name);
    if (proxy == NULL) {
        return registry_missing("proxy", name, fault);
    }
    decisions_note_change(registry->decisions, DECISION_DELETE, name, NULL, clock_monotonic_us());
    proxy_free(&proxy);
    return ERROR_NONE;
}

enum error_code registry_set_enabled(struct registry *registry, const char *name, bool enabled,
                                     struct option_fault *fault)
{
    struct proxy *proxy = registry_find(registry, name);
    enum error_code error = ERROR_NONE;
    if (proxy == NULL) {
        return registry_missing("proxy", name, fault);
    }
    if (proxy->enabled == enabled) {
        return ERROR_NONE;
    }
    if (enabled) {
        error = proxy_enable(proxy, fault);
    } else {
        proxy_disable(proxy);
    }
    note_config(registry, proxy);
    return error;
}

enum error_code registry_add_toxic(struct registry *registry, const char *name, struct toxic **toxic,
                                   struct option_fault *fault)
{
    struct proxy *proxy = registry_find(registry, name);
    if (proxy == NULL) {
        return registry_missing("proxy", name, fault);
    }
    if (proxy_find_toxic(proxy, (*toxic)->name) != NULL) {
        return already("toxic", (*toxic)->name, fault);
    }
    if (proxy->toxic_count >= TOXICS_MAX) {
        option_fault_set(fault, "a proxy has at most %u toxics", TOXICS_MAX);
        return ERROR_LIMIT;
    }
    proxy_add_toxic(proxy, *toxic);
    *toxic = NULL;
    note_config(registry, proxy);
    return ERROR_NONE;
}

enum error_code registry_update_toxic(struct registry *registry, const char *name, const char *toxic_name,
                                      const struct toxic *from, struct option_fault *fault)
{
    struct proxy *proxy = registry_find(registry, name);
    if (proxy == NULL) {
        return registry_missing("proxy", name, fault);
    }
    struct toxic *toxic = proxy_find_toxic(proxy, toxic_name);
    if (toxic == NULL) {
        return registry_missing("toxic", toxic_name, fault);
    }
    proxy_update_toxic(proxy, toxic, from);
    note_config(registry, proxy);
    return ERROR_NONE;
}

enum error_code registry_remove_toxic(struct registry *registry, const char *name, const char *toxic_name,
                                      struct option_fault *fault)
{
    struct proxy *proxy = registry_find(registry, name);
    if (proxy == NULL) {
        return registry_missing("proxy", name, fault);
    }
    struct toxic *toxic = proxy_find_toxic(proxy, toxic_name);
    if (toxic == NULL) {
        return registry_missing("toxic", toxic_name, fault);
    }
    proxy_remove_toxic(proxy, toxic);
    note_config(registry, proxy);
    return ERROR_NONE;
}

enum error_code registry_reset(struct registry *registry, struct option_fault *fault)
{
    enum error_code error = ERROR_NONE;
    list_for_each(&registry->proxies, node) {
        struct proxy *proxy = container_of(node, struct proxy, node);
        bool changed = !proxy->enabled || proxy->toxic_count > 0;
        list_for_each(&proxy->toxics, toxic_node) {
            proxy_remove_toxic(proxy, container_of(toxic_node, struct toxic, node));
        }
        enum error_code failed = proxy_enable(proxy, fault);
        error = error == ERROR_NONE ? failed : error;
        if (changed) {
            note_config(registry, proxy);
        }
    }
    return error;
}
