/* log.c: formats one event and hands it to the kernel in one piece.
 *
 * Invariant: a line is at most LOG_LINE_MAX (4,096 = PIPE_BUF) bytes and is written by one call, so
 *            lines of several processes that share a pipe do not mix.
 * Owns:      nothing but the settings of this process (one static struct, set once) and the count
 *            of lost lines.
 * Blocks:    practically never. Standard error is shared with whoever started us, so O_NONBLOCK
 *            must not be set on it. A socket (systemd's journal) gets MSG_DONTWAIT; a pipe or
 *            terminal is asked with poll(0) first: Linux reports a pipe as writable only while a
 *            page is free, and a line fits a page. Another process may take that page in between;
 *            then this write waits for the reader once. What does not fit at once is dropped and
 *            counted, and the next line that gets through says `log_dropped=N`. SIGPIPE is the
 *            caller's to ignore. */
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* What ends the longest line: the rest of an escape, a closing quote, `,"cut":true}`, a newline. */
#define LINE_TAIL_BYTES 16u
#define SPEC_MAX        48u

_Static_assert(LOG_LINE_MAX <= PIPE_BUF, "a longer write to a pipe is not atomic");

struct line {
    char bytes[LOG_LINE_MAX];
    uint32_t n;
    bool cut; /* something did not fit; nothing more is added */
};

static struct {
    char process[32];
    enum log_level level;
    enum log_format format;
    bool is_socket;
    bool torn; /* the last line ended in the middle: the next begins with a newline */
    uint64_t dropped;
} self = { .process = "peal", .level = LOG_INFO, .format = LOG_FORMAT_TEXT };

static const char *const level_names[] = { "debug", "info", "warning", "error" };

void log_init(const char *process, enum log_level level, enum log_format format)
{
    struct stat st;

    snprintf(self.process, sizeof self.process, "%s", process);
    self.level = level;
    self.format = format;
    self.is_socket = fstat(STDERR_FILENO, &st) == 0 && S_ISSOCK(st.st_mode);
}

void log_set_level(enum log_level level)
{
    self.level = level;
}

enum log_level log_level(void)
{
    return self.level;
}

uint64_t log_dropped(void)
{
    return self.dropped;
}

/* --- building a line --- */

static void line_put(struct line *l, const char *bytes, uint32_t n)
{
    if (l->cut || l->n + n > LOG_LINE_MAX - LINE_TAIL_BYTES) {
        l->cut = true;
        return;
    }
    memcpy(l->bytes + l->n, bytes, n);
    l->n += n;
}

/* Only for what LINE_TAIL_BYTES keeps room for. */
static void line_end(struct line *l, const char *bytes)
{
    uint32_t n = (uint32_t)strlen(bytes);

    assert(l->n + n <= LOG_LINE_MAX);
    memcpy(l->bytes + l->n, bytes, n);
    l->n += n;
}

/* Bytes of the UTF-8 character at p that may be shown as it is, or 0: malformed, overlong,
 * surrogate, or a C1 control (which terminals obey). p is terminated, which no continuation byte
 * equals. */
static uint32_t utf8_bytes(const unsigned char *p)
{
    uint32_t n = p[0] < 0x80                   ? 1
                 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                 : (p[0] & 0xf0) == 0xe0       ? 3
                 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                               : 0;

    for (uint32_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((n == 2 && p[0] == 0xc2 && p[1] < 0xa0) || (n == 3 && p[0] == 0xe0 && p[1] < 0xa0) ||
        (n == 3 && p[0] == 0xed && p[1] >= 0xa0) || (n == 4 && p[0] == 0xf0 && p[1] < 0x90) ||
        (n == 4 && p[0] == 0xf4 && p[1] >= 0x90))
        return 0;
    return n;
}

static bool is_plain(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    uint32_t n;

    if (*p == '\0')
        return false;
    for (; *p != '\0'; p += n) {
        n = utf8_bytes(p);
        if (n == 0 || *p <= ' ' || *p == 0x7f || *p == '"' || *p == '\\' || *p == '=')
            return false;
    }
    return true;
}

static void line_put_quoted(struct line *l, const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    char escape[8];
    uint32_t n;

    line_put(l, "\"", 1);
    if (l->cut)
        return;
    for (; *p != '\0' && !l->cut; p += n > 0 ? n : 1) {
        n = utf8_bytes(p);
        if (n == 0 && self.format == LOG_FORMAT_JSON)
            snprintf(escape, sizeof escape, "\\ufffd");
        else if (n == 0)
            snprintf(escape, sizeof escape, "\\x%02x", *p);
        else if (*p == '"' || *p == '\\')
            snprintf(escape, sizeof escape, "\\%c", *p);
        else if (*p == '\n' || *p == '\r' || *p == '\t')
            snprintf(escape, sizeof escape, "\\%c", *p == '\n' ? 'n' : *p == '\r' ? 'r' : 't');
        else if (*p < ' ' || *p == 0x7f)
            snprintf(escape, sizeof escape, self.format == LOG_FORMAT_JSON ? "\\u%04x" : "\\x%02x",
                     *p);
        else {
            line_put(l, (const char *)p, n);
            continue;
        }
        line_put(l, escape, (uint32_t)strlen(escape));
    }
    line_end(l, "\"");
}

/* JSON's grammar of numbers is narrower than printf's: no plus, no leading zeros, no nan. */
static bool is_json_number(const char *text)
{
    const char *p = text + (*text == '-');
    size_t digits = strspn(p, "0123456789");

    return digits > 0 && (p[0] != '0' || digits == 1) &&
           p[digits + strspn(p + digits, "0123456789.eE+-")] == '\0';
}

static void line_put_pair(struct line *l, const char *key, uint32_t n_key, const char *value,
                          bool is_number)
{
    uint32_t before = l->n;

    if (self.format == LOG_FORMAT_JSON) {
        line_put(l, l->n == 0 || l->bytes[l->n - 1] == '\n' ? "{\"" : ",\"", 2);
        line_put(l, key, n_key);
        line_put(l, "\":", 2);
    } else {
        line_put(l, " ", l->n == 0 || l->bytes[l->n - 1] == '\n' ? 0 : 1);
        line_put(l, key, n_key);
        line_put(l, "=", 1);
    }
    if (!l->cut &&
        (self.format == LOG_FORMAT_JSON ? is_number && is_json_number(value) : is_plain(value)) &&
        l->n + strlen(value) <= LOG_LINE_MAX - LINE_TAIL_BYTES) {
        line_put(l, value, (uint32_t)strlen(value));
        return;
    }
    if (!l->cut && l->n < LOG_LINE_MAX - LINE_TAIL_BYTES)
        line_put_quoted(l, value);
    else
        l->n = before; /* not even the key: leave no half of it */
}

/* --- taking the format apart --- */

/* The next argument of an integer conversion, whatever its size; `length` is its length modifier. */
static intmax_t next_signed(const char *length, va_list *ap)
{
    if (strcmp(length, "ll") == 0)
        return va_arg(*ap, long long);
    switch (length[0]) {
    case 'l': return va_arg(*ap, long);
    case 'j': return va_arg(*ap, intmax_t);
    case 'z': return va_arg(*ap, ssize_t);
    case 't': return va_arg(*ap, ptrdiff_t);
    case 'h': return length[1] == 'h' ? (signed char)va_arg(*ap, int) : (short)va_arg(*ap, int);
    default: return va_arg(*ap, int);
    }
}

static uintmax_t next_unsigned(const char *length, va_list *ap)
{
    if (strcmp(length, "ll") == 0)
        return va_arg(*ap, unsigned long long);
    switch (length[0]) {
    case 'l': return va_arg(*ap, unsigned long);
    case 'j': return va_arg(*ap, uintmax_t);
    case 'z': return va_arg(*ap, size_t);
    case 't': return (uintmax_t)va_arg(*ap, ptrdiff_t);
    case 'h':
        return length[1] == 'h' ? (unsigned char)va_arg(*ap, int)
                                : (unsigned short)va_arg(*ap, int);
    default: return va_arg(*ap, unsigned);
    }
}

/* Copies "%", flags, width and precision from *format to spec (a `*` becomes its number) and moves
 * behind them. Bounded: what does not fit is left out, which spoils the padding and nothing else. */
static void take_spec(char spec[SPEC_MAX], const char **format, va_list *ap)
{
    const char *p = *format + 1;
    uint32_t n = 1;

    spec[0] = '%';
    for (; *p != '\0' && strchr("-+ #0123456789.*", *p) != NULL; p++) {
        if (*p == '*') {
            int number = va_arg(*ap, int);

            if (number < 0 && spec[n - 1] == '.')
                n--; /* a negative precision is none */
            else if (n < SPEC_MAX - 16)
                n += (uint32_t)snprintf(spec + n, 12, "%d", number);
        } else if (n < SPEC_MAX - 16) {
            spec[n++] = *p;
        }
    }
    spec[n] = '\0';
    *format = p;
}

/* The formats made here are pieces of the caller's, which the compiler has checked against its
 * arguments. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

/* Formats the one conversion that *format points at, moves behind it, and returns the number of
 * bytes it wanted, as snprintf. */
static int convert(char *to, size_t room, const char **format, va_list *ap, bool *is_number,
                   int error)
{
    char spec[SPEC_MAX], length[3] = "";
    size_t n;

    take_spec(spec, format, ap);
    for (uint32_t i = 0; **format != '\0' && strchr("hlLjzt", **format) != NULL; (*format)++) {
        if (i < 2)
            length[i++] = **format;
    }
    n = strlen(spec);
    *is_number = strchr("diufFeEgG", **format) != NULL;
    if (strchr("diuoxX", **format) != NULL)
        spec[n++] = 'j';
    spec[n++] = **format;
    spec[n] = '\0';
    switch (*(*format)++) {
    case 'd':
    case 'i': return snprintf(to, room, spec, next_signed(length, ap));
    case 'u':
    case 'o':
    case 'x':
    case 'X': return snprintf(to, room, spec, next_unsigned(length, ap));
    case 'a':
    case 'A':
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        return snprintf(to, room, spec,
                        length[0] == 'L' ? (double)va_arg(*ap, long double) : va_arg(*ap, double));
    case 'c': return snprintf(to, room, spec, va_arg(*ap, int));
    case 'p': return snprintf(to, room, spec, va_arg(*ap, void *));
    case 'm': return snprintf(to, room, "%s", strerror(error));
    case 's': {
        const char *text = va_arg(*ap, const char *);

        return snprintf(to, room, spec, text != NULL ? text : "(null)");
    }
    default: assert(!"a conversion that log.c does not know"); return 0;
    }
}

#pragma GCC diagnostic pop

/* A pair begins where a space is followed by a key and '='. Other spaces belong to the value. */
static bool is_pair_start(const char *p)
{
    size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789_");

    return n > 0 && p[n] == '=';
}

static void put_pairs(struct line *l, const char *format, va_list *ap, int error)
{
    while (format != NULL && *format != '\0') {
        char value[LOG_LINE_MAX];
        const char *key = format, *equals = strchr(format, '=');
        bool is_number = false, whole = false;
        size_t n = 0;

        assert(equals != NULL);
        format = equals + 1;
        while (*format != '\0' && !(*format == ' ' && is_pair_start(format + 1))) {
            if (format[0] == '%' && format[1] != '%') {
                int wanted = convert(value + n, sizeof value - n, &format, ap, &is_number, error);

                whole = n == 0 && (*format == '\0' || *format == ' ');
                assert(wanted >= 0);
                n = (size_t)wanted < sizeof value - n ? n + (size_t)wanted : sizeof value - 1;
                continue;
            }
            format += format[0] == '%';
            if (n < sizeof value - 1)
                value[n++] = *format;
            whole = false;
            format++;
        }
        value[n] = '\0';
        line_put_pair(l, key, (uint32_t)(equals - key), value, whole && is_number);
        format += *format == ' ';
    }
}

/* --- writing it --- */

static void write_line(const struct line *l)
{
    struct pollfd ready = { .fd = STDERR_FILENO, .events = POLLOUT };
    ssize_t n;

    if (self.is_socket)
        n = send(STDERR_FILENO, l->bytes, l->n, MSG_DONTWAIT | MSG_NOSIGNAL);
    else
        n = poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0
                ? write(STDERR_FILENO, l->bytes, l->n)
                : -1;
    if (n > 0)
        self.torn = (size_t)n < l->n;
    if (n != (ssize_t)l->n)
        self.dropped++;
}

static void put_time(struct line *l)
{
    char text[64];
    struct timespec now;
    struct tm utc;
    size_t n;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + n, sizeof text - n, ".%03ldZ", now.tv_nsec / 1000000);
    line_put_pair(l, "time", 4, text, false);
}

void log_write(enum log_level level, const char *event, const char *format, ...)
{
    struct line l;
    va_list ap;
    int error = errno;
    uint64_t reported = 0;

    if (level < self.level)
        return;
    l.n = 0;
    l.cut = false;
    if (self.torn)
        line_put(&l, "\n", 1);
    put_time(&l);
    line_put_pair(&l, "level", 5, level_names[level], false);
    line_put_pair(&l, "process", 7, self.process, false);
    line_put_pair(&l, "event", 5, event, false);
    va_start(ap, format);
    put_pairs(&l, format, &ap, error);
    va_end(ap);
    if (self.dropped > 0) {
        char text[24];

        snprintf(text, sizeof text, "%llu", (unsigned long long)self.dropped);
        line_put_pair(&l, "log_dropped", 11, text, true);
        reported = l.cut ? 0 : self.dropped;
    }
    if (l.cut)
        line_end(&l, self.format == LOG_FORMAT_JSON ? ",\"cut\":true" : " cut=yes");
    line_end(&l, self.format == LOG_FORMAT_JSON ? "}\n" : "\n");

    uint64_t before = self.dropped;
    write_line(&l);
    if (self.dropped == before)
        self.dropped -= reported;
    errno = error;
}

bool log_allow(struct log_rate *rate, uint64_t now_ms, uint32_t per_minute, uint32_t *suppressed)
{
    if (now_ms < rate->window_start_ms || now_ms - rate->window_start_ms >= 60000) {
        rate->window_start_ms = now_ms;
        rate->n = 0;
    }
    if (rate->n >= per_minute) {
        rate->suppressed++;
        *suppressed = rate->suppressed;
        return false;
    }
    rate->n++;
    *suppressed = rate->suppressed;
    rate->suppressed = 0;
    return true;
}
