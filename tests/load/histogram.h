/*
 * A histogram of durations with logarithmic octaves that are divided linearly: a fixed 35 KB, no allocation, constant
 * time per value, and quantiles that are never too low and at most 1/128 (0.8 %) too high. Values up to 255 are exact,
 * so are the smallest and the largest. Any unit; the load generator uses microseconds. One thread.
 */
#ifndef LOAD_HISTOGRAM_H
#define LOAD_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

#define HISTOGRAM_LINEAR     256U /* values below this have a bucket each */
#define HISTOGRAM_PER_OCTAVE 128U /* buckets between a power of two and the next */
#define HISTOGRAM_OCTAVES    32U  /* above the linear part: up to 2^40, twelve days of microseconds */
#define HISTOGRAM_BUCKETS    (HISTOGRAM_LINEAR + HISTOGRAM_PER_OCTAVE * HISTOGRAM_OCTAVES)
#define HISTOGRAM_WHOLE      100000U /* quantiles are asked for in 1/100,000: p99.9 is 99900 */

struct histogram {
    uint64_t buckets[HISTOGRAM_BUCKETS];
    uint64_t count;
    uint64_t sum;
    uint64_t smallest; /* UINT64_MAX while empty */
    uint64_t largest;
};

void histogram_init(struct histogram *histogram);

/* Values of 2^40 and more are counted in the last bucket; `largest` stays exact. */
void histogram_record(struct histogram *histogram, uint64_t value);

/* The smallest value that at least `quantile` of HISTOGRAM_WHOLE of the values do not exceed, rounded up to the end of
 * its bucket, but never above the largest. 0 when empty. `quantile` above HISTOGRAM_WHOLE counts as HISTOGRAM_WHOLE. */
uint64_t histogram_quantile(const struct histogram *histogram, uint32_t quantile);

/* The same by rank: the value that `rank` values (from 1) do not exceed. 0 when fewer have been recorded. */
uint64_t histogram_at_rank(const struct histogram *histogram, uint64_t rank);

/* 0 when empty. */
uint64_t histogram_mean(const struct histogram *histogram);

/* Adds all values of `from`. */
void histogram_add(struct histogram *into, const struct histogram *from);

/* Writes the percentile distribution as text in the format of HdrHistogram's outputPercentileDistribution (.hgrm), with
 * values divided by `unit` (1000: milliseconds from microseconds). Errors show in ferror(file). */
void histogram_write_percentiles(const struct histogram *histogram, double unit, FILE *file);

#endif
