/*
 * Handles to sessions and the posts that come through them. A mailbox's queue is guarded by its lock; everything else
 * is atomic or belongs to the worker's thread. A post owns a reference to its handle until it has run.
 */
#include "core/reference.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "mux/loop.h"
#include "mux/memory.h"

struct reference_post {
    struct reference_post *next;
    trunkline_ref *reference;
    void (*run)(trunkline_session *session, void *argument);
    void *argument;
};

struct mailbox {
    pthread_mutex_t lock;
    struct reference_post *head; /* guarded by lock, as the next three are */
    struct reference_post **tail;
    bool woken; /* `wake` is on its way through the loop */
    bool closed;
    struct loop *loop;
    struct loop_post wake;
    atomic_uint references;
};

struct trunkline_ref {
    atomic_uint references;
    struct mailbox *mailbox;
    trunkline_session *session; /* the worker's thread only; NULL once it is closed */
};

static void mailbox_wake(struct loop_post *post)
{
    mailbox_run(container_of(post, struct mailbox, wake));
}

enum error_code mailbox_new(struct mailbox **mailbox, struct loop *loop)
{
    struct mailbox *made = memory_zalloc(sizeof(*made));

    *mailbox = NULL;
    if (made == NULL) {
        return ERROR_NO_MEMORY;
    }
    if (pthread_mutex_init(&made->lock, NULL) != 0) {
        memory_free(made);
        return ERROR_SYSTEM;
    }
    made->tail = &made->head;
    made->loop = loop;
    made->wake.run = mailbox_wake;
    atomic_init(&made->references, 1);
    *mailbox = made;
    return ERROR_NONE;
}

/* Empties the queue; with `closing`, for the last time. */
static struct reference_post *mailbox_take(struct mailbox *mailbox, bool closing)
{
    struct reference_post *first;

    pthread_mutex_lock(&mailbox->lock);
    first = mailbox->head;
    mailbox->head = NULL;
    mailbox->tail = &mailbox->head;
    mailbox->woken = false;
    if (closing) {
        mailbox->closed = true;
    }
    pthread_mutex_unlock(&mailbox->lock);
    return first;
}

static void mailbox_run_posts(struct reference_post *post)
{
    while (post != NULL) {
        struct reference_post *next = post->next;

        post->run(post->reference->session, post->argument);
        trunkline_ref_release(&post->reference);
        memory_free(post);
        post = next;
    }
}

void mailbox_run(struct mailbox *mailbox)
{
    mailbox_run_posts(mailbox_take(mailbox, false));
}

void mailbox_close(struct mailbox *mailbox)
{
    mailbox_run_posts(mailbox_take(mailbox, true));
}

void mailbox_release(struct mailbox **mailbox)
{
    struct mailbox *held = *mailbox;

    *mailbox = NULL;
    if (held != NULL && atomic_fetch_sub_explicit(&held->references, 1, memory_order_acq_rel) == 1) {
        pthread_mutex_destroy(&held->lock);
        memory_free(held);
    }
}

trunkline_ref *reference_new(struct mailbox *mailbox, trunkline_session *session)
{
    trunkline_ref *reference = memory_zalloc(sizeof(*reference));

    if (reference == NULL) {
        return NULL;
    }
    atomic_fetch_add_explicit(&mailbox->references, 1, memory_order_relaxed);
    atomic_init(&reference->references, 1);
    reference->mailbox = mailbox;
    reference->session = session;
    return reference;
}

void reference_detach(trunkline_ref **reference)
{
    if (*reference != NULL) {
        (*reference)->session = NULL;
        trunkline_ref_release(reference);
    }
}

trunkline_ref *trunkline_ref_retain(trunkline_ref *ref)
{
    atomic_fetch_add_explicit(&ref->references, 1, memory_order_relaxed);
    return ref;
}

void trunkline_ref_release(trunkline_ref **ref)
{
    trunkline_ref *held = *ref;

    *ref = NULL;
    if (held != NULL && atomic_fetch_sub_explicit(&held->references, 1, memory_order_acq_rel) == 1) {
        mailbox_release(&held->mailbox);
        memory_free(held);
    }
}

int trunkline_post(trunkline_ref *ref, void (*run)(trunkline_session *session, void *argument), void *argument)
{
    struct mailbox *mailbox = ref->mailbox;
    struct reference_post *post = memory_zalloc(sizeof(*post));

    if (post == NULL) {
        return -1;
    }
    post->reference = trunkline_ref_retain(ref);
    post->run = run;
    post->argument = argument;

    pthread_mutex_lock(&mailbox->lock);
    if (mailbox->closed) {
        pthread_mutex_unlock(&mailbox->lock);
        trunkline_ref_release(&post->reference);
        memory_free(post);
        return -1;
    }
    *mailbox->tail = post;
    mailbox->tail = &post->next;
    if (!mailbox->woken && mailbox->loop != NULL) {
        mailbox->woken = true;
        /* Under the lock: the loop is freed only after mailbox_close, which waits for it. */
        loop_post(mailbox->loop, &mailbox->wake);
    }
    pthread_mutex_unlock(&mailbox->lock);
    return 0;
}
