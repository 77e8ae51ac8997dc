/*
 * libFuzzer: what an authenticated but hostile peer may send on a trunk. The first byte chooses which end is attacked
 * and what its owner does with streams, and whether these outlive a trunk; the rest are the peer's bytes, cut into
 * pieces of a varying size. Whatever comes, the engine must stay within its memory, its assertions and its promises,
 * and every stream must be closed.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mux/memory.h"
#include "mux/tls.h"
#include "tests/unit/trunk_pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    ATTACK_OPENER = 1,
    HOLD_ANSWERS = 2,
    REFUSE_STREAMS = 4,
    NEVER_CONSUME = 8,
    WRITE_BACK = 16,
    OPEN_STREAMS = 32,
    RESUME = 64,      /* both ends; the streams that are opened are sessions 1, 2... */
    LOSE_TRUNK = 128, /* after one half of the bytes: the other half comes on another trunk */
};

#define OPENED_MAX 4

static void drain(struct pair_end *end)
{
    uint8_t record[TLS_RECORD_MAX_BYTES];
    size_t length = 0;
    /* Bounded: a peer whose window never opens leaves nothing to send. */
    for (int i = 0; i < 64; i++) {
        if (trunk_send(end->trunk, record, sizeof(record), &length) != ERROR_NONE || length == 0) {
            return;
        }
    }
}

static void write_back(struct trunk_pair *pair)
{
    static const uint8_t bytes[3000];
    list_for_each(&pair->accepted, node) {
        struct pair_stream *stream = container_of(node, struct pair_stream, node);
        if (!trunk_stream_attached(&stream->stream)) {
            continue;
        }
        (void)trunk_stream_accept(&stream->stream);
        size_t room = trunk_stream_room(&stream->stream);
        (void)trunk_stream_write(&stream->stream, bytes, room < sizeof(bytes) ? room : sizeof(bytes));
        trunk_stream_want_room(&stream->stream);
        if (stream->ended) {
            trunk_stream_end(&stream->stream);
        }
    }
}

/* Moves the attack to the second pair of trunks. The opener asks for its streams again; an attacked acceptor hears of
 * some of them, an attacked opener gets its answers from the attacker. */
static struct pair_end *lose_trunk(struct trunk_pair *pair, struct pair_stream opened[OPENED_MAX], unsigned flags)
{
    trunk_free(&pair->opener.trunk);
    if (flags & WRITE_BACK) {
        trunk_free(&pair->acceptor.trunk); /* otherwise its streams are taken from a trunk that lives */
    }
    if (pair_connect_second(pair) != ERROR_NONE) {
        abort();
    }
    for (uint32_t i = 0; i < OPENED_MAX; i++) {
        if (trunk_stream_suspended(&opened[i].stream)) {
            (void)pair_resume(pair->second_opener.trunk, &opened[i], i + 1);
        }
        if (i == 1 && !(flags & ATTACK_OPENER)) {
            (void)pair_pump(pair);
        }
    }
    return flags & ATTACK_OPENER ? &pair->second_opener : &pair->second_acceptor;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trunk_pair pair;
    struct pair_stream opened[OPENED_MAX];
    memset(opened, 0, sizeof(opened));
    if (size < 2) {
        return 0;
    }
    unsigned flags = data[0];
    size_t piece = 1U + data[1] * 16U;
    data += 2;
    size -= 2;
    struct trunk_settings opener, acceptor;
    trunk_settings_init(&opener, TRUNK_OPENER);
    trunk_settings_init(&acceptor, TRUNK_ACCEPTOR);
    acceptor.sessions_max = 50;
    opener.resume = acceptor.resume = (flags & RESUME) != 0;
    if (pair_init(&pair, &opener, &acceptor) != ERROR_NONE) {
        abort();
    }
    pair.hold = (flags & HOLD_ANSWERS) != 0;
    pair.refuse = (flags & REFUSE_STREAMS) != 0;
    pair.consume = (flags & NEVER_CONSUME) == 0;
    struct pair_end *victim = flags & ATTACK_OPENER ? &pair.opener : &pair.acceptor;
    for (size_t i = 0; i < OPENED_MAX && (flags & OPEN_STREAMS); i++) {
        static const uint8_t bytes[100];
        (void)pair_open_session(&pair, &opened[i], flags & RESUME ? (uint32_t)i + 1 : 0);
        (void)pair_pump(&pair);
        (void)trunk_stream_write(&opened[i].stream, bytes, sizeof(bytes));
        (void)pair_pump(&pair);
    }
    size_t loss = flags & LOSE_TRUNK ? size / 2 : 0;
    enum error_code error = ERROR_NONE;
    while (size > 0 && error == ERROR_NONE && victim->failure == ERROR_NONE) {
        if (loss > 0 && size <= loss) {
            loss = 0;
            victim = lose_trunk(&pair, opened, flags);
        }
        size_t part = piece < size ? piece : size;
        error = trunk_receive(victim->trunk, data, part);
        data += part;
        size -= part;
        scheduler_run_tasks(&pair.scheduler);
        if (flags & WRITE_BACK) {
            write_back(&pair);
        }
        drain(victim);
        /* What is owed is acknowledged after a while. */
        scheduler_advance(&pair.scheduler, pair.scheduler.now_us + 10000);
    }
    drain(victim);
    for (size_t i = 0; i < OPENED_MAX; i++) {
        if (trunk_stream_suspended(&opened[i].stream)) {
            trunk_stream_reset(&opened[i].stream, TRUNK_CODE_CANCEL);
        }
    }
    pair_dispose(&pair);
    for (size_t i = 0; i < OPENED_MAX; i++) {
        if (trunk_stream_attached(&opened[i].stream)) {
            abort();
        }
        pair_stream_dispose(&opened[i]);
    }
    return 0;
}
