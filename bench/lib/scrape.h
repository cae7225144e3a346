/* scrape.h: counters of a Peal, read from its admin listener as a monitor would.
 *
 * Owns:  nothing between two calls. A request blocks for at most 5 s; what fails ends the process. */
#ifndef BENCH_LIB_SCRAPE_H
#define BENCH_LIB_SCRAPE_H

/* The sum over all labels of metric `name`, at `url` ("http://127.0.0.1:9300", /metrics is understood). */
double scrape_sum(const char *url, const char *name);

#endif
