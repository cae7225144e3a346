/* util.h: the clock, the way out, and command-line options of the bench programs.
 *
 * Owns: nothing; option strings point into argv and live as long as the process.
 * Why:  bench programs share no code with the server, so that a mistake there cannot hide itself
 *       here. */
#ifndef BENCH_LIB_UTIL_H
#define BENCH_LIB_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NS_PER_S     UINT64_C(1000000000)
#define NS_PER_MS    UINT64_C(1000000)
#define OPT_LIST_MAX 16

/* Monotonic time in nanoseconds; the same clock in all processes of the machine. */
uint64_t now_ns(void);

/* Prints "PROGRAM: message" to standard error and exits with 2 (bad usage or a broken
 * environment). */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Zeroed memory or death: the sizes are known from the options, so failure is an environment
 * fault. */
void *must_calloc(size_t count, size_t bytes);

/* The next number of a xorshift generator; `state` must not be 0. */
uint64_t random_next(uint64_t *state);

/* A repeated option, at most OPT_LIST_MAX times. */
struct opt_list {
    const char *values[OPT_LIST_MAX];
    uint32_t count;
};

enum opt_kind { OPT_U32, OPT_F64, OPT_TEXT, OPT_FLAG, OPT_LIST };

/* One option; `-` and `_` in names are the same. The table ends with a NULL name. */
struct opt {
    const char *name;
    enum opt_kind kind;
    void *into; /* uint32_t, double, const char *, bool or struct opt_list */
    const char *help;
};

/* Reads --NAME=VALUE (a flag also as --NAME) into `table`. --help prints and exits 0; anything
 * unknown, malformed or out of range exits 2. Returns the first word that is no option, or NULL;
 * a second one is refused. */
const char *opt_parse(const struct opt *table, const char *usage, int argc, char **argv);

/* Reads a decimal number of 0 to 2^32 - 1; false, and `out` untouched, for anything else. */
bool parse_u32(const char *text, uint32_t *out);

/* Reads exactly `n` (1 to 16) hexadecimal digits; false for anything else. */
bool parse_hex(const char *digits, uint32_t n, uint64_t *out);

/* Median of `n` values (sorted in place), n > 0. */
double median_of(double *values, uint32_t n);

#endif
