/* A token bucket with two sources: see trunk_budget.h. */
#include "mux/trunk_budget.h"

#define MICROSECONDS 1000000U

void trunk_budget_init(struct trunk_budget *budget, uint32_t sessions_max, uint64_t now_us)
{
    budget->capacity = sessions_max < UINT32_MAX - TRUNK_BUDGET_SPARE ? sessions_max + TRUNK_BUDGET_SPARE : UINT32_MAX;
    budget->tokens = budget->capacity;
    budget->filled_us = now_us;
}

void trunk_budget_earn(struct trunk_budget *budget, uint64_t tokens)
{
    uint32_t missing = budget->capacity - budget->tokens;
    budget->tokens = tokens < missing ? budget->tokens + (uint32_t)tokens : budget->capacity;
}

/* What is too little for a whole token stays to be counted the next time. */
static void trunk_budget_refill(struct trunk_budget *budget, uint64_t now_us)
{
    uint64_t elapsed = now_us - budget->filled_us;
    if (elapsed >= (uint64_t)MICROSECONDS * (budget->capacity / TRUNK_BUDGET_PER_SECOND + 1U)) {
        budget->tokens = budget->capacity;
        budget->filled_us = now_us;
        return;
    }
    uint64_t tokens = elapsed * TRUNK_BUDGET_PER_SECOND / MICROSECONDS;
    trunk_budget_earn(budget, tokens);
    budget->filled_us += tokens * MICROSECONDS / TRUNK_BUDGET_PER_SECOND;
}

bool trunk_budget_spend(struct trunk_budget *budget, uint64_t now_us, uint64_t tokens)
{
    if (budget->tokens < tokens) {
        trunk_budget_refill(budget, now_us);
    }
    if (budget->tokens < tokens) {
        return false;
    }
    budget->tokens -= (uint32_t)tokens;
    return true;
}
