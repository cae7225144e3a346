/* log.h: one line an event, `key=value` or JSON, to standard error, written with a single write so
 * that lines of several processes do not mix. A full pipe or terminal never blocks a worker for
 * long: see log.c for what is dropped and how it is counted.
 *
 *     log_info("ready", "listen=%s workers=%u pid=%d", listen, n_workers, pid);
 *
 *     time=2026-01-31T12:00:00.123Z level=info process=master event=ready listen=127.0.0.1:3000
 *     workers=2 pid=4711
 *
 * The format is `key=FORMAT` pairs separated by one space; keys are [a-z0-9_]. Nobody has to escape
 * anything: a value is everything between its `=` and the next ` key=` of the *format*, so text
 * out of a %s can never pose as another pair. Values that are empty or hold spaces, quotes,
 * backslashes, '=', controls or bytes that are not UTF-8 are quoted and escaped. In JSON a value
 * that is exactly one numeric conversion (%u, %d, %f …) is a number, everything else a string.
 * NULL for a %s is `(null)`, %m works, %n does not. An event without pairs passes NULL as its
 * format. errno survives. */
#ifndef PEAL_BASE_LOG_H
#define PEAL_BASE_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG = 0, LOG_INFO, LOG_WARNING, LOG_ERROR };
enum log_format { LOG_FORMAT_TEXT = 0, LOG_FORMAT_JSON };

/* Once per process. `process` is copied (at most 31 bytes). */
void log_init(const char *process, enum log_level level, enum log_format format);
void log_set_level(enum log_level level);
enum log_level log_level(void);

/* A line is cut at 4,096 bytes, its newline included; one that was ends in the pair `cut=yes` (and
 * is still whole JSON). */
#define LOG_LINE_MAX 4096
void log_write(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(event, ...) \
    (log_level() <= LOG_DEBUG ? log_write(LOG_DEBUG, event, __VA_ARGS__) : (void)0)
#define log_info(event, ...) \
    (log_level() <= LOG_INFO ? log_write(LOG_INFO, event, __VA_ARGS__) : (void)0)
#define log_warning(event, ...) log_write(LOG_WARNING, event, __VA_ARGS__)
#define log_error(event, ...)   log_write(LOG_ERROR, event, __VA_ARGS__)

/* Lines that could not be written since the last one that told so (`log_dropped=N` on the first
 * line that gets through). */
uint64_t log_dropped(void);

/* Rate limit for one call site: true at most `per_minute` times a minute; `suppressed` gets how
 * many were swallowed since the last true. `now_ms` is any clock; a zeroed struct is a fresh limit. */
struct log_rate {
    uint64_t window_start_ms;
    uint32_t n;
    uint32_t suppressed;
};
bool log_allow(struct log_rate *rate, uint64_t now_ms, uint32_t per_minute, uint32_t *suppressed);

#endif
