/* See histogram.h. Buckets are found from the position of the highest set bit; nothing here allocates. */
#include "tests/load/histogram.h"

#include <string.h>

#define LINEAR_BITS     8U /* log2 of HISTOGRAM_LINEAR */
#define PER_OCTAVE_BITS 7U /* log2 of HISTOGRAM_PER_OCTAVE */

_Static_assert(HISTOGRAM_LINEAR == 1U << LINEAR_BITS, "the octaves start where the linear part ends");
_Static_assert(HISTOGRAM_PER_OCTAVE == 1U << PER_OCTAVE_BITS, "a bucket is a power of two wide");

void histogram_init(struct histogram *histogram)
{
    memset(histogram, 0, sizeof(*histogram));
    histogram->smallest = UINT64_MAX;
}

static uint32_t bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_LINEAR) {
        return (uint32_t)value;
    }
    uint32_t exponent = 63U - (uint32_t)__builtin_clzll(value);
    if (exponent >= LINEAR_BITS + HISTOGRAM_OCTAVES) {
        return HISTOGRAM_BUCKETS - 1;
    }
    uint32_t within = (uint32_t)(value >> (exponent - PER_OCTAVE_BITS)) - HISTOGRAM_PER_OCTAVE;
    return HISTOGRAM_LINEAR + (exponent - LINEAR_BITS) * HISTOGRAM_PER_OCTAVE + within;
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_end(uint32_t bucket)
{
    if (bucket < HISTOGRAM_LINEAR) {
        return bucket;
    }
    uint32_t exponent = LINEAR_BITS + (bucket - HISTOGRAM_LINEAR) / HISTOGRAM_PER_OCTAVE;
    uint64_t within = (bucket - HISTOGRAM_LINEAR) % HISTOGRAM_PER_OCTAVE;
    return ((HISTOGRAM_PER_OCTAVE + within + 1) << (exponent - PER_OCTAVE_BITS)) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    histogram->buckets[bucket_of(value)]++;
    histogram->count++;
    histogram->sum += value;
    if (value < histogram->smallest) {
        histogram->smallest = value;
    }
    if (value > histogram->largest) {
        histogram->largest = value;
    }
}

/* ceil(count * quantile / HISTOGRAM_WHOLE) without the product overflowing. */
static uint64_t rank_of(uint64_t count, uint32_t quantile)
{
    uint64_t whole = count / HISTOGRAM_WHOLE * quantile;
    uint64_t rest = count % HISTOGRAM_WHOLE * quantile;
    uint64_t rank = whole + (rest + HISTOGRAM_WHOLE - 1) / HISTOGRAM_WHOLE;
    return rank == 0 ? 1 : rank;
}

uint64_t histogram_quantile(const struct histogram *histogram, uint32_t quantile)
{
    if (histogram->count == 0) {
        return 0;
    }
    uint64_t rank = rank_of(histogram->count, quantile < HISTOGRAM_WHOLE ? quantile : HISTOGRAM_WHOLE);
    uint64_t seen = 0;
    for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS - 1; bucket++) {
        seen += histogram->buckets[bucket];
        if (seen >= rank) {
            uint64_t end = bucket_end(bucket);
            return end < histogram->largest ? end : histogram->largest;
        }
    }
    /* The last bucket has no upper end. */
    return histogram->largest;
}

uint64_t histogram_mean(const struct histogram *histogram)
{
    return histogram->count == 0 ? 0 : histogram->sum / histogram->count;
}
