/* child.h: bench/load run by another program, and what came of it.
 *
 * Owns:  the child, which ends with us (PR_SET_PDEATHSIG); an outcome until outcome_free(). A run that
 *        says nothing (exit 2, no result) ends this program too. */
#ifndef BENCH_LIB_CHILD_H
#define BENCH_LIB_CHILD_H

#include <stdbool.h>
#include <stdint.h>

#define CHILD_ARGS_MAX 24u

struct child {
    const char *argv[CHILD_ARGS_MAX + 1];
    char text[CHILD_ARGS_MAX][512];
    uint32_t n;
};

/* The last line of a run. */
struct outcome;

void child_begin(struct child *c, const char *scenario);
void child_add(struct child *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Runs it to its end. */
struct outcome *child_run(const struct child *c);

/* The number at `path`, "latency.p99_us"; dies when there is none. */
double outcome_number(const struct outcome *o, const char *path);
bool outcome_ok(const struct outcome *o);
void outcome_free(struct outcome *o);

#endif
