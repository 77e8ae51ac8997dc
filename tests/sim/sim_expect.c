/* Expectations of clients that are over: see sim_expect.h. */
#include "tests/sim/sim_expect.h"

void sim_expect_outcome(const struct sim_client *client, enum sim_outcome outcome)
{
    if (client->outcome != outcome) {
        sim_fail(&client->world->net, "client %zu (%s): %s instead of %s, alert %d; sent %llu, received %llu",
                 client->number, client->plan.service, sim_outcome_name(client->outcome), sim_outcome_name(outcome),
                 client->alert, (unsigned long long)client->sent, (unsigned long long)client->received);
    }
}

void sim_expect_not_clean(const struct sim_client *client)
{
    if (client->outcome == SIM_OUTCOME_CLEAN || client->outcome == SIM_OUTCOME_OPEN) {
        sim_fail(&client->world->net, "client %zu (%s): %s", client->number, client->plan.service,
                 sim_outcome_name(client->outcome));
    }
}

void sim_expect_complete(const struct sim_client *client)
{
    sim_expect_outcome(client, SIM_OUTCOME_CLEAN);
    if (client->core_received != client->plan.send_bytes || !client->core_ended) {
        sim_fail(&client->world->net, "client %zu: the core received %llu of %llu", client->number,
                 (unsigned long long)client->core_received, (unsigned long long)client->plan.send_bytes);
    }
    /* One that was killed once it had all and had said all has no time to close anything. */
    if (!client->core_lost && (client->core_closes != 1 || client->core_reason != TRUNKLINE_REASON_DONE)) {
        sim_fail(&client->world->net, "client %zu: the core closed it %u times, %s", client->number,
                 client->core_closes, trunkline_reason_name(client->core_reason));
    }
}

void sim_expect_reason(const struct sim_client *client, trunkline_reason reason)
{
    if (client->core_closes != 1 || client->core_reason != reason) {
        sim_fail(&client->world->net, "client %zu: the core closed it %u times, %s instead of %s", client->number,
                 client->core_closes, trunkline_reason_name(client->core_reason), trunkline_reason_name(reason));
    }
}

void sim_expect_over_between(const struct sim_client *client, uint64_t earliest_us, uint64_t latest_us)
{
    if (client->over_us < earliest_us || client->over_us > latest_us) {
        sim_fail(&client->world->net, "client %zu was over at %llu us, not between %llu and %llu", client->number,
                 (unsigned long long)client->over_us, (unsigned long long)earliest_us, (unsigned long long)latest_us);
    }
}
