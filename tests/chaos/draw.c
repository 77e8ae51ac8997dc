/* See draw.h. The mixing function is SplitMix64's, as in mux/clock.c, applied to a counter. No state. Any thread. */
#include "tests/chaos/draw.h"

#include <assert.h>
#include <math.h>

#define DRAW_STEP          UINT64_C(0x9e3779b97f4a7c15) /* odd, its bits spread: counters become far apart */
#define DRAW_MEAN_MAX      9.0e15                       /* a double counts whole numbers up to 2^53 */
#define DRAW_LONGEST       9.0                          /* variations above the mean, exponential */
#define DRAW_BELL_UNIFORMS 4U

static uint64_t draw_mix(uint64_t value)
{
    value += DRAW_STEP;
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

/* Each name is followed by its end, so that "ab", "c" differs from "a", "bc". */
static uint64_t draw_mix_text(uint64_t key, const char *text)
{
    for (; *text != '\0'; text++) {
        key = draw_mix(key ^ (unsigned char)*text);
    }
    return draw_mix(key ^ 0x100U);
}

uint64_t draw_key(uint64_t seed, const char *proxy, uint64_t connection, unsigned stream, const char *toxic)
{
    uint64_t key = draw_mix_text(draw_mix(seed), proxy);
    key = draw_mix(key ^ connection);
    key = draw_mix(key ^ stream);
    return draw_mix_text(key, toxic);
}

uint64_t draw_bits(uint64_t key, enum draw_kind kind, uint64_t counter)
{
    return draw_mix(draw_mix(key ^ ((uint64_t)kind << 56)) ^ (counter * DRAW_STEP));
}

static double draw_to_unit(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1.0p-53;
}

double draw_unit(uint64_t key, enum draw_kind kind, uint64_t counter)
{
    return draw_to_unit(draw_bits(key, kind, counter));
}

uint64_t draw_below(uint64_t key, enum draw_kind kind, uint64_t counter, uint64_t bound)
{
    assert(bound > 0);
    /* The upper half of a product of 128 bits: off by less than bound / 2^64. */
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)(((wide)draw_bits(key, kind, counter) * bound) >> 64);
}

static double draw_deviation(uint64_t bits, enum draw_distribution distribution)
{
    double sum = 0;
    switch (distribution) {
    case DRAW_EXPONENTIAL:
        sum = -log(1.0 - draw_to_unit(bits)) - 1.0;
        return sum < DRAW_LONGEST ? sum : DRAW_LONGEST;
    case DRAW_NORMAL:
        for (unsigned i = 0; i < DRAW_BELL_UNIFORMS; i++) {
            bits = draw_mix(bits);
            sum += draw_to_unit(bits);
        }
        return sum * 2.0 / DRAW_BELL_UNIFORMS - 1.0;
    case DRAW_UNIFORM:
    default:
        return draw_to_unit(bits) * 2.0 - 1.0;
    }
}

uint64_t draw_around(uint64_t key, enum draw_kind kind, uint64_t counter, enum draw_distribution distribution,
                     uint64_t mean, uint64_t variation)
{
    if (variation == 0) {
        return mean;
    }
    /* Half a unit more at each end, so that whole numbers at the bounds are as likely as those between them. */
    double spread = (double)variation + (distribution == DRAW_UNIFORM ? 0.5 : 0.0);
    double value = (double)mean + spread * draw_deviation(draw_bits(key, kind, counter), distribution);
    if (value >= DRAW_MEAN_MAX) {
        return (uint64_t)DRAW_MEAN_MAX;
    }
    double whole = floor(value + 0.5);
    double highest = (double)mean + (double)variation;
    if (distribution != DRAW_EXPONENTIAL && whole > highest) {
        whole = highest;
    }
    return whole > 0 ? (uint64_t)whole : 0;
}
