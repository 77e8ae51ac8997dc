/*
 * An example handler with all that a real one needs. It sends back in capitals what a client writes, tells everybody
 * the time now and then from a thread of its own, and says goodbye to clients that are silent for too long.
 *
 *   --service shout=plugin:./shout.so:tick=1000,idle=30000      (milliseconds; 0: never)
 *
 * Shown here: back-pressure both ways, a timer per session, a post from another thread to every session, and cleaning
 * up. The service owns the thread and the list of members; a session owns its struct shout.
 */
#include <ctype.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <trunkline.h>

struct shout;

struct shout_service {
    unsigned tick_ms;
    unsigned idle_ms;
    pthread_t ticker;
    int ticking; /* the thread runs */
    pthread_mutex_t lock;
    pthread_cond_t stopped;
    int stopping;          /* guarded by lock */
    struct shout *members; /* guarded by lock: sessions of all workers */
};

struct shout {
    struct shout_service *service;
    trunkline_ref *ref; /* how the ticker reaches the session */
    struct shout *next;
    struct shout **link;    /* what points here; guarded by the service's lock, as is `next` */
    trunkline_timer *timer; /* silence */
    char *kept;             /* in capitals already, waiting for room; not yet consumed */
    size_t kept_length;
    size_t kept_capacity;
    int ended; /* the client's end came */
};

/* ---- back-pressure ---- */

/* Sends what fits of `bytes` and consumes just that, so that a client which does not read is stopped by its own
 * window. The number of bytes that went. */
static size_t shout_send(trunkline_session *session, const char *bytes, size_t length)
{
    size_t taken = trunkline_write(session, bytes, length);

    trunkline_consume(session, taken);
    return taken;
}

static int shout_keep(struct shout *shout, const char *bytes, size_t length)
{
    if (shout->kept_length + length > shout->kept_capacity) {
        /* Bounded by the session's window: what is kept is not consumed. */
        char *grown = realloc(shout->kept, shout->kept_length + length);

        if (grown == NULL) {
            return -1;
        }
        shout->kept = grown;
        shout->kept_capacity = shout->kept_length + length;
    }
    memcpy(shout->kept + shout->kept_length, bytes, length);
    shout->kept_length += length;
    return 0;
}

static void shout_data(trunkline_session *session, const void *bytes, size_t length)
{
    struct shout *shout = trunkline_get_data(session);
    const char *next = bytes;

    if (shout->service->idle_ms > 0) {
        trunkline_timer_start(shout->timer, shout->service->idle_ms);
    }
    while (length > 0) {
        char capitals[4096];
        size_t part = length < sizeof(capitals) ? length : sizeof(capitals);
        size_t taken = 0;

        for (size_t i = 0; i < part; i++) {
            capitals[i] = (char)toupper((unsigned char)next[i]);
        }
        if (shout->kept_length == 0) {
            taken = shout_send(session, capitals, part);
        }
        if (taken < part && shout_keep(shout, capitals + taken, part - taken) != 0) {
            trunkline_abort(session);
            return;
        }
        next += part;
        length -= part;
    }
}

/* There is room again: first what is kept, then perhaps the end. */
static void shout_drained(trunkline_session *session)
{
    struct shout *shout = trunkline_get_data(session);
    size_t taken = shout_send(session, shout->kept, shout->kept_length);

    shout->kept_length -= taken;
    memmove(shout->kept, shout->kept + taken, shout->kept_length);
    if (shout->kept_length == 0) {
        free(shout->kept);
        shout->kept = NULL;
        shout->kept_capacity = 0;
        if (shout->ended) {
            trunkline_end(session);
        }
    }
}

static void shout_end(trunkline_session *session)
{
    struct shout *shout = trunkline_get_data(session);

    shout->ended = 1;
    if (shout->kept_length == 0) {
        trunkline_end(session);
    }
}

/* ---- a timer ---- */

static void shout_silent(trunkline_session *session, void *argument)
{
    static const char goodbye[] = "GOODBYE\n";
    struct shout *shout = argument;

    /* Never into the middle of what is kept. */
    if (shout->kept_length == 0) {
        trunkline_write(session, goodbye, sizeof(goodbye) - 1);
        trunkline_end(session);
    } else {
        trunkline_abort(session);
    }
}

/* ---- a thread of the service's own ---- */

struct shout_tick {
    atomic_uint users; /* posts that have not run yet */
    size_t length;
    char text[64];
};

static void shout_tick_release(struct shout_tick *tick)
{
    if (atomic_fetch_sub(&tick->users, 1) == 1) {
        free(tick);
    }
}

/* On the session's worker. `session` is NULL when it was closed meanwhile. */
static void shout_tell(trunkline_session *session, void *argument)
{
    struct shout_tick *tick = argument;

    if (session != NULL) {
        struct shout *shout = trunkline_get_data(session);

        /* A tick that does not fit is stale before it would be read: whoever is slow misses it. */
        if (shout->kept_length == 0 && trunkline_room(session) >= tick->length) {
            trunkline_write(session, tick->text, tick->length);
        }
    }
    shout_tick_release(tick);
}

static struct shout_tick *shout_tick_new(void)
{
    struct shout_tick *tick = malloc(sizeof(*tick));
    time_t now = time(NULL);
    struct tm parts;

    if (tick != NULL) {
        atomic_init(&tick->users, 1);
        gmtime_r(&now, &parts);
        tick->length = strftime(tick->text, sizeof(tick->text), "IT IS %H:%M:%S\n", &parts);
    }
    return tick;
}

static void *shout_ticker(void *argument)
{
    struct shout_service *service = argument;
    struct timespec next;

    clock_gettime(CLOCK_REALTIME, &next);
    pthread_mutex_lock(&service->lock);
    for (;;) {
        next.tv_sec += service->tick_ms / 1000;
        next.tv_nsec += (long)(service->tick_ms % 1000) * 1000000;
        next.tv_sec += next.tv_nsec / 1000000000;
        next.tv_nsec %= 1000000000;
        while (!service->stopping && pthread_cond_timedwait(&service->stopped, &service->lock, &next) == 0) {
        }
        if (service->stopping) {
            break;
        }
        struct shout_tick *tick = shout_tick_new();

        for (struct shout *member = service->members; member != NULL && tick != NULL; member = member->next) {
            atomic_fetch_add(&tick->users, 1);
            if (trunkline_post(member->ref, shout_tell, tick) != 0) {
                shout_tick_release(tick);
            }
        }
        if (tick != NULL) {
            shout_tick_release(tick);
        }
    }
    pthread_mutex_unlock(&service->lock);
    return NULL;
}

/* ---- life of a session ---- */

static void shout_open(trunkline_session *session, void *argument)
{
    struct shout_service *service = argument;
    struct shout *shout = calloc(1, sizeof(*shout));

    if (shout != NULL) {
        shout->service = service;
        shout->ref = trunkline_session_ref(session);
        shout->timer = trunkline_timer_new(session, shout_silent, shout);
    }
    if (shout == NULL || shout->ref == NULL || shout->timer == NULL) {
        if (shout != NULL) {
            trunkline_ref_release(&shout->ref);
            trunkline_timer_free(&shout->timer);
        }
        free(shout);
        trunkline_refuse(session, 503, "out of memory");
        return;
    }
    trunkline_set_data(session, shout);
    pthread_mutex_lock(&service->lock);
    shout->next = service->members;
    shout->link = &service->members;
    if (shout->next != NULL) {
        shout->next->link = &shout->next;
    }
    service->members = shout;
    pthread_mutex_unlock(&service->lock);
    if (trunkline_accept(session) == 0 && service->idle_ms > 0) {
        trunkline_timer_start(shout->timer, service->idle_ms);
    }
}

static void shout_closed(trunkline_session *session, trunkline_reason reason)
{
    struct shout *shout = trunkline_get_data(session);

    if (shout == NULL) {
        return; /* it was refused */
    }
    trunkline_log(session, TRUNKLINE_LOG_DEBUG, "shout-closed", trunkline_reason_name(reason));
    pthread_mutex_lock(&shout->service->lock);
    *shout->link = shout->next;
    if (shout->next != NULL) {
        shout->next->link = shout->link;
    }
    pthread_mutex_unlock(&shout->service->lock);
    trunkline_ref_release(&shout->ref);
    free(shout->kept);
    free(shout); /* the timer goes with the session */
}

/* ---- life of the service ---- */

static int shout_parse(struct shout_service *service, const char *argument)
{
    int used = 0;

    service->tick_ms = 1000;
    service->idle_ms = 30000;
    return argument[0] == '\0' ||
           (sscanf(argument, "tick=%u,idle=%u%n", &service->tick_ms, &service->idle_ms, &used) == 2 &&
            argument[used] == '\0');
}

static const char *shout_setup(const char *argument, void **result)
{
    struct shout_service *service = calloc(1, sizeof(*service));

    if (service == NULL) {
        return "out of memory";
    }
    if (!shout_parse(service, argument)) {
        free(service);
        return "expected tick=MILLISECONDS,idle=MILLISECONDS";
    }
    pthread_mutex_init(&service->lock, NULL);
    pthread_cond_init(&service->stopped, NULL);
    if (service->tick_ms > 0) {
        service->ticking = pthread_create(&service->ticker, NULL, shout_ticker, service) == 0;
        if (!service->ticking) {
            free(service);
            return "cannot start a thread";
        }
    }
    *result = service;
    return NULL;
}

/* After the last session is closed, so nobody is left in the list. */
static void shout_teardown(void *argument)
{
    struct shout_service *service = argument;

    pthread_mutex_lock(&service->lock);
    service->stopping = 1;
    pthread_cond_signal(&service->stopped);
    pthread_mutex_unlock(&service->lock);
    if (service->ticking) {
        pthread_join(service->ticker, NULL);
    }
    pthread_cond_destroy(&service->stopped);
    pthread_mutex_destroy(&service->lock);
    free(service);
}

static const trunkline_handler shout = {
    .abi = TRUNKLINE_ABI,
    .name = "shout",
    .setup = shout_setup,
    .teardown = shout_teardown,
    .open = shout_open,
    .data = shout_data,
    .end = shout_end,
    .drained = shout_drained,
    .closed = shout_closed,
};

const trunkline_handler *trunkline_plugin(void)
{
    return &shout;
}
