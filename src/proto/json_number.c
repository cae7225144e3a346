/* json_number.c: what JSON numbers mean, and how JavaScript would write them.
 *
 * Invariant: for every finite double, json_number(json_put_number(x)) == x and no shorter text has
 *            that property.
 * Owns:      nothing. Memory is the caller's and on the stack.
 * Never:     depends on the locale: the C library sees and gives only digits and exponents, its
 *            decimal point is stepped over.
 * Why:       other Socket.IO servers and clients compare texts (ack ids, the numbers of a
 *            broadcast), so ours must be theirs. */
#include "proto/json.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define DIGITS_SHORTEST_MAX 17 /* so many always read back */
#define DIGITS_EXACT_MAX \
    800 /* 767 decide every rounding; of the rest only counts whether it is zero */

/* 0.DIGITS times ten to the `point`; the digits have no zero in front. */
struct decimal {
    char digits[DIGITS_EXACT_MAX + 1];
    uint32_t n_digits;
    int64_t point;
};

static double decimal_value(const struct decimal *d)
{
    static const double tens[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                   1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
    char text[sizeof d->digits + 16];
    int64_t exponent = d->point - d->n_digits;
    uint64_t whole = 0;

    if (d->n_digits == 0)
        return 0.0;
    if (d->n_digits <= DBL_DIG && exponent >= -22 &&
        exponent <= 22) { /* both factors are exact: one rounding, the right one */
        for (uint32_t i = 0; i < d->n_digits; i++)
            whole = whole * 10 + (uint64_t)(d->digits[i] - '0');
        return exponent < 0 ? (double)whole / tens[-exponent] : (double)whole * tens[exponent];
    }
    if (exponent > 9999) /* far beyond what a double holds, and so is it with 800 digits in front */
        exponent = 9999;
    if (exponent < -9999)
        exponent = -9999;
    memcpy(text, d->digits, d->n_digits);
    (void)snprintf(text + d->n_digits, sizeof text - d->n_digits, "e%d", (int)exponent);
    return strtod(text, NULL);
}

/* Adds one digit that is not a leading zero. */
static void decimal_push(struct decimal *d, char digit)
{
    if (d->n_digits < DIGITS_EXACT_MAX)
        d->digits[d->n_digits++] = digit;
    else if (digit != '0') {
        d->digits[DIGITS_EXACT_MAX] = '1'; /* a trace, so that a tie is seen to be none */
        d->n_digits = DIGITS_EXACT_MAX + 1;
    }
}

/* The exponent part behind the `e`. Held within bounds that no length of digits can make up for. */
static int64_t take_exponent(const char *at, const char *end)
{
    bool negative = at < end && *at == '-';
    int64_t exponent = 0;

    if (at < end && (*at == '-' || *at == '+'))
        at++;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        if (exponent < INT64_C(1000000000000))
            exponent = exponent * 10 + (*at - '0');
    }
    return negative ? -exponent : exponent;
}

double json_number(struct slice number)
{
    const char *at = number.bytes;
    const char *end = at + number.n_bytes;
    bool negative = number.n_bytes > 0 && *at == '-';
    bool fraction = false;
    struct decimal d;
    double value;

    if (number.n_bytes == 0)
        return 0.0;
    d.n_digits = 0;
    d.point = 0;
    for (at += negative; at < end; at++) {
        if (*at == '.') {
            fraction = true;
        } else if (*at >= '0' && *at <= '9') {
            bool leading = d.n_digits == 0 && *at == '0';

            if (!leading)
                decimal_push(&d, *at);
            if (!leading && !fraction)
                d.point++;
            else if (leading && fraction)
                d.point--;
        } else {
            break;
        }
    }
    if (at < end && (*at == 'e' || *at == 'E'))
        d.point += take_exponent(at + 1, end);
    value = decimal_value(&d);
    return negative ? -value : value;
}

/* `n_digits` digits nearest to `value` (> 0), with the zeros behind. */
static void decimal_round(struct decimal *d, double value, uint32_t n_digits)
{
    char text[48];
    const char *at = text;

    (void)snprintf(text, sizeof text, "%.*e", (int)n_digits - 1, value);
    d->n_digits = 0;
    for (; *at != 'e' && *at != '\0'; at++) {
        if (*at >= '0' &&
            *at <= '9') /* all but the decimal point, whatever the locale makes of it */
            d->digits[d->n_digits++] = *at;
    }
    assert(d->n_digits == n_digits);
    assert(*at == 'e');
    d->point = take_exponent(at + 1, at + strlen(at)) + 1;
}

/* One unit more in the last digit. */
static void decimal_step_up(struct decimal *d)
{
    uint32_t i = d->n_digits;

    while (i > 0 && d->digits[i - 1] == '9')
        d->digits[--i] = '0';
    if (i > 0) {
        d->digits[i - 1]++;
    } else {
        d->digits[0] = '1';
        d->point++;
    }
}

/* The fewest digits that read back as `value` (> 0), of these the nearest. The nearest decimal of a
 * length may fail where the next one up does not: below a power of two doubles lie twice as dense,
 * so that less is rounded up to it than down. */
static void decimal_shortest(struct decimal *d, double value)
{
    uint32_t n_digits =
        value < DBL_MIN
            ? 1
            : DBL_DIG; /* any DBL_DIG digits survive a normal double: fewer are only zeros less */

    for (; n_digits < DIGITS_SHORTEST_MAX; n_digits++) {
        decimal_round(d, value, n_digits);
        if (decimal_value(d) == value)
            break;
        decimal_step_up(d);
        if (decimal_value(d) == value)
            break;
    }
    if (n_digits == DIGITS_SHORTEST_MAX)
        decimal_round(d, value, n_digits);
    while (d->n_digits > 1 && d->digits[d->n_digits - 1] == '0')
        d->n_digits--;
}

static uint32_t put_unsigned(char *out, uint64_t value)
{
    char text[20];
    uint32_t n_digits = 0;

    do {
        text[sizeof text - ++n_digits] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    memcpy(out, text + sizeof text - n_digits, n_digits);
    return n_digits;
}

static uint32_t put_zeros(char *out, uint32_t n_zeros)
{
    memset(out, '0', n_zeros);
    return n_zeros;
}

/* ECMA-262, Number::toString: where the point goes, and when an exponent is written. */
static uint32_t put_decimal(char *out, const struct decimal *d)
{
    int32_t point = (int32_t)d->point;
    uint32_t n_digits = d->n_digits;
    uint32_t n_before = point > 0 ? (uint32_t)point : 0;
    uint32_t n = 0;

    if (point > 21 || point <= -6) { /* 1.5e+21, 1e-7 */
        out[n++] = d->digits[0];
        if (n_digits > 1) {
            out[n++] = '.';
            memcpy(out + n, d->digits + 1, n_digits - 1);
            n += n_digits - 1;
        }
        out[n++] = 'e';
        out[n++] = point > 0 ? '+' : '-';
        return n + put_unsigned(out + n, (uint64_t)(point > 0 ? point - 1 : 1 - point));
    }
    if (point <= 0) { /* 0.00001 */
        out[n++] = '0';
        out[n++] = '.';
        n += put_zeros(out + n, (uint32_t)-point);
        memcpy(out + n, d->digits, n_digits);
        return n + n_digits;
    }
    if (n_digits <= n_before) { /* 1200 */
        memcpy(out, d->digits, n_digits);
        return n_digits + put_zeros(out + n_digits, n_before - n_digits);
    }
    memcpy(out, d->digits, n_before); /* 12.5 */
    out[n_before] = '.';
    memcpy(out + n_before + 1, d->digits + n_before, n_digits - n_before);
    return n_digits + 1;
}

uint32_t json_put_number(char *out, double value)
{
    double size = fabs(value);
    struct decimal d;
    uint32_t n = 0;

    if (!isfinite(value)) {
        memcpy(out, "null", 4);
        return 4;
    }
    if (value < 0) /* not for -0 */
        out[n++] = '-';
    if (size < 1e15 && (double)(uint64_t)size == size)
        return n + put_unsigned(out + n, (uint64_t)size);
    decimal_shortest(&d, size);
    n += put_decimal(out + n, &d);
    assert(n <= JSON_NUMBER_MAX);
    return n;
}
