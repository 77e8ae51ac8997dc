/*
 * How much a peer may ask of a trunk without bringing anybody anything: a token bucket. Frames that carry a session's
 * bytes, open it or end it are what a trunk is for; all others (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA,
 * resets of streams that are not there, and whatever is at fault) cost tokens. Tokens come back with time and with
 * useful bytes, so an honest peer never notices, and a hostile one is told to calm down (RFC 9113 section 10.5). Pure;
 * one thread.
 */
#ifndef MUX_TRUNK_BUDGET_H
#define MUX_TRUNK_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define TRUNK_BUDGET_PER_SECOND 10000U /* tokens that come back */
#define TRUNK_BUDGET_SPARE      10000U /* above one for each session that the trunk may carry: all may open at once */

/* In tokens. */
#define TRUNK_COST_FRAME        1U
#define TRUNK_COST_OVER_LIMIT   16U  /* a request beyond the announced number of streams */
#define TRUNK_COST_FAULT        64U  /* a frame or request that breaks a rule, where only its stream ends */
#define TRUNK_COST_HEADER_BYTES 256U /* a header block costs one more for so many bytes */
#define TRUNK_COST_WALK_STREAMS 16U  /* what makes the trunk look at each stream costs one for so many */

#define TRUNK_COST_IGNORED_BYTES 256U /* bytes that belong to nothing cost one for so many */

/* A peer's WINDOW_UPDATEs follow what it was sent: for each DATA frame one for the stream and one for the trunk, and
 * one for so many bytes. */
#define TRUNK_EARN_SENT_FRAME 2U
#define TRUNK_EARN_SENT_BYTES 512U
/* And what it sends of use pays for itself. */
#define TRUNK_EARN_RECEIVED_BYTES 256U

struct trunk_budget {
    uint64_t filled_us; /* when tokens last came back with time */
    uint32_t tokens;
    uint32_t capacity;
};

/* Full. `sessions_max`: that the trunk may carry. */
void trunk_budget_init(struct trunk_budget *budget, uint32_t sessions_max, uint64_t now_us);

/* False when there are not so many tokens: the peer has gone too far. */
bool trunk_budget_spend(struct trunk_budget *budget, uint64_t now_us, uint64_t tokens);

void trunk_budget_earn(struct trunk_budget *budget, uint64_t tokens);

#endif
