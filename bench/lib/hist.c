/* hist.c: see hist.h. */
#include "lib/hist.h"

static uint32_t bucket_of(uint64_t v)
{
    uint32_t shift;

    if (v < 256)
        return (uint32_t)v;
    if (v > HIST_MAX_NS)
        v = HIST_MAX_NS;
    shift = 63u - (uint32_t)__builtin_clzll(v) - 7u;
    return shift * 128u + (uint32_t)(v >> shift);
}

/* The highest value that falls into bucket `i`: percentiles err to the slow side. */
static uint64_t bucket_top(uint32_t i)
{
    uint32_t shift;

    if (i < 256)
        return i;
    shift = i / 128u - 1u;
    return (((uint64_t)(i - shift * 128u) + 1) << shift) - 1;
}

void hist_add(struct hist *h, uint64_t value_ns)
{
    h->buckets[bucket_of(value_ns)]++;
    h->count++;
    h->sum_ns += (double)value_ns;
    if (value_ns > h->max_ns)
        h->max_ns = value_ns;
}

void hist_merge(struct hist *into, const struct hist *from)
{
    for (uint32_t i = 0; i < HIST_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
    into->count += from->count;
    into->sum_ns += from->sum_ns;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
}

uint64_t hist_percentile(const struct hist *h, double percent)
{
    double want = percent / 100.0 * (double)h->count;
    uint64_t seen = 0;

    for (uint32_t i = 0; i < HIST_BUCKETS && h->count; i++) {
        seen += h->buckets[i];
        if (h->buckets[i] && (double)seen >= want)
            return bucket_top(i) < h->max_ns ? bucket_top(i) : h->max_ns;
    }
    return h->max_ns;
}

void hist_json(struct json *j, const char *key, const struct hist *h)
{
    json_object(j, key);
    json_u64(j, "count", h->count);
    json_f64(j, "mean_us", h->count ? h->sum_ns / (double)h->count / 1e3 : 0);
    json_f64(j, "p50_us", (double)hist_percentile(h, 50) / 1e3);
    json_f64(j, "p90_us", (double)hist_percentile(h, 90) / 1e3);
    json_f64(j, "p99_us", (double)hist_percentile(h, 99) / 1e3);
    json_f64(j, "p999_us", (double)hist_percentile(h, 99.9) / 1e3);
    json_f64(j, "max_us", (double)h->max_ns / 1e3);
    json_end(j);
}
