/* util.c: see util.h. */
#include "lib/util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t now_ns(void)
{
    struct timespec t;

    if (clock_gettime(CLOCK_MONOTONIC, &t) != 0)
        die("clock_gettime: %s", strerror(errno));
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

void die(const char *format, ...)
{
    va_list args;

    (void)fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    exit(2);
}

void *must_calloc(size_t count, size_t bytes)
{
    void *p = calloc(count ? count : 1, bytes);

    if (!p)
        die("no memory for %zu x %zu bytes", count, bytes);
    return p;
}

uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

bool parse_u32(const char *text, uint32_t *out)
{
    char *end = NULL;
    unsigned long long v;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    v = strtoull(text, &end, 10);
    if (errno || *end || v > UINT32_MAX)
        return false;
    *out = (uint32_t)v;
    return true;
}

bool parse_hex(const char *digits, uint32_t n, uint64_t *out)
{
    uint64_t v = 0;

    for (uint32_t i = 0; i < n; i++) {
        char c = digits[i];

        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

static bool parse_f64(const char *text, double *out)
{
    char *end = NULL;

    errno = 0;
    *out = strtod(text, &end);
    return !errno && end != text && !*end && *out >= 0;
}

static bool name_matches(const char *name, const char *given, size_t n)
{
    if (strlen(name) != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = given[i] == '_' ? '-' : given[i];

        if (name[i] != c)
            return false;
    }
    return true;
}

static bool opt_store(const struct opt *o, const char *value)
{
    switch (o->kind) {
    case OPT_U32: return value && parse_u32(value, o->into);
    case OPT_F64: return value && parse_f64(value, o->into);
    case OPT_TEXT:
        if (!value)
            return false;
        *(const char **)o->into = value;
        return true;
    case OPT_FLAG:
        if (value && strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
            return false;
        *(bool *)o->into = !value || strcmp(value, "yes") == 0;
        return true;
    case OPT_LIST: {
        struct opt_list *list = o->into;

        if (!value || list->count == OPT_LIST_MAX)
            return false;
        list->values[list->count++] = value;
        return true;
    }
    }
    return false;
}

static void opt_help(const struct opt *table, const char *usage)
{
    (void)printf("%s\n", usage);
    for (const struct opt *o = table; o->name; o++)
        (void)printf("  --%-18s %s\n", o->name, o->help);
}

const char *opt_parse(const struct opt *table, const char *usage, int argc, char **argv)
{
    const char *word = NULL;

    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        const char *value;
        const struct opt *o;
        size_t n;

        if (strncmp(arg, "--", 2) != 0) {
            if (word)
                die("one word only, found '%s' after '%s'", arg, word);
            word = arg;
            continue;
        }
        arg += 2;
        n = strcspn(arg, "=");
        value = arg[n] ? arg + n + 1 : NULL;
        if (name_matches("help", arg, n)) {
            opt_help(table, usage);
            exit(0);
        }
        for (o = table; o->name && !name_matches(o->name, arg, n); o++)
            ;
        if (!o->name)
            die("unknown option --%s (try --help)", arg);
        if (!opt_store(o, value))
            die("bad value in --%s: %s", arg, o->help);
    }
    return word;
}

static int compare_f64(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

double median_of(double *values, uint32_t n)
{
    qsort(values, n, sizeof *values, compare_f64);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}
