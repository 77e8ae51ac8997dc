/* See histogram.h. Buckets are found from the position of the highest set bit; nothing here allocates. */
#include "tests/load/histogram.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define LINEAR_BITS     8U /* log2 of HISTOGRAM_LINEAR */
#define PER_OCTAVE_BITS 7U /* log2 of HISTOGRAM_PER_OCTAVE */

#define PERCENTILE_TICKS 10.0 /* of the text: five lines for each halving */

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

uint64_t histogram_at_rank(const struct histogram *histogram, uint64_t rank)
{
    uint64_t seen = 0;
    if (rank > histogram->count) {
        return 0;
    }
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

uint64_t histogram_quantile(const struct histogram *histogram, uint32_t quantile)
{
    if (histogram->count == 0) {
        return 0;
    }
    return histogram_at_rank(histogram,
                             rank_of(histogram->count, quantile < HISTOGRAM_WHOLE ? quantile : HISTOGRAM_WHOLE));
}

uint64_t histogram_mean(const struct histogram *histogram)
{
    return histogram->count == 0 ? 0 : histogram->sum / histogram->count;
}

void histogram_add(struct histogram *into, const struct histogram *from)
{
    for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        into->buckets[bucket] += from->buckets[bucket];
    }
    into->count += from->count;
    into->sum += from->sum;
    if (from->smallest < into->smallest) {
        into->smallest = from->smallest;
    }
    if (from->largest > into->largest) {
        into->largest = from->largest;
    }
}

/* From the buckets' ends, as HdrHistogram does it from their middles. */
static double standard_deviation(const struct histogram *histogram, double mean)
{
    double squares = 0.0;
    for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        double off = (double)bucket_end(bucket) - mean;
        squares += off * off * (double)histogram->buckets[bucket];
    }
    return histogram->count == 0 ? 0.0 : sqrt(squares / (double)histogram->count);
}

void histogram_write_percentiles(const struct histogram *histogram, double unit, FILE *file)
{
    fprintf(file, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    uint64_t seen = 0;
    double reported = 0.0; /* the percentile that the next line must reach */
    uint32_t bucket = 0;
    while (histogram->count > 0 && seen < histogram->count) {
        seen += histogram->buckets[bucket];
        double reached = 100.0 * (double)seen / (double)histogram->count;
        uint64_t end = bucket_end(bucket);
        double value = (double)(end < histogram->largest && bucket < HISTOGRAM_BUCKETS - 1 ? end : histogram->largest);
        bool counted = histogram->buckets[bucket] > 0;
        bucket++;
        /* Five lines for each halving of the distance to 100 %; the last line is the maximum. */
        while (counted && seen < histogram->count && reported <= reached) {
            fprintf(file, "%12.3f %2.12f %10" PRIu64 " %14.2f\n", value / unit, reported / 100.0, seen,
                    1.0 / (1.0 - reported / 100.0));
            double halvings = floor(log2(100.0 / (100.0 - reported))) + 1.0;
            reported += 100.0 / (PERCENTILE_TICKS * exp2(halvings));
        }
    }
    if (histogram->count > 0) {
        fprintf(file, "%12.3f %2.12f %10" PRIu64 "\n", (double)histogram->largest / unit, 1.0, histogram->count);
    }
    double mean = histogram->count == 0 ? 0.0 : (double)histogram->sum / (double)histogram->count;
    fprintf(file, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", mean / unit,
            standard_deviation(histogram, mean) / unit);
    fprintf(file, "#[Max     = %12.3f, Total count    = %12" PRIu64 "]\n", (double)histogram->largest / unit,
            histogram->count);
    fprintf(file, "#[Buckets = %12u, SubBuckets     = %12u]\n", HISTOGRAM_OCTAVES + 1, HISTOGRAM_LINEAR);
}
