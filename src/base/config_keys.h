/* config_keys.h: the one table of configuration keys, and what the files config*.c share. Everybody
 * else uses config.h.
 *
 * A key is one row: parsing, limits, defaults, the refusal of what this build lacks, help and
 * README all come from it. */
#ifndef PEAL_BASE_CONFIG_KEYS_H
#define PEAL_BASE_CONFIG_KEYS_H

#include <stddef.h>

#include "base/config.h"

#define CONFIG_KEYS_MAX   96
#define CONFIG_WHY_MAX    512
#define CONFIG_LIMITS_MAX 256
#define CONFIG_VALUE_MAX  4096 /* bytes of one value as text, its end included */

enum config_section { SECTION_SERVER = 0, SECTION_NAMESPACE, SECTION_WS, SECTIONS };

enum config_type {
    TYPE_BOOL = 0,
    TYPE_COUNT,
    TYPE_BYTES, /* uint32_t or uint64_t, by the size of the member */
    TYPE_TIME,  /* uint32_t, ms */
    TYPE_WORD,  /* uint8_t, the number of the word in `words` */
    TYPE_TEXT,
    TYPE_TOKEN,   /* visible ASCII: it travels in a header */
    TYPE_COOKIE,  /* name of a cookie: a token of RFC 6265 */
    TYPE_PATTERN, /* text without what Redis takes for a pattern */
    TYPE_URL_PATH,
    TYPE_LISTEN, /* one or an array, by the size of the member */
    TYPE_TRANSPORTS,
    TYPE_CPUS,
    TYPE_ORIGINS,
    TYPE_NETWORKS,
    TYPE_REDIS,
    TYPE_APP,
    TYPE_ABSENT, /* has no member: refused unless it is `none` */
};

enum { KEY_SECRET = 1, KEY_PERCENT = 2, KEY_POWER_OF_TWO = 4 };

struct config_key {
    const char *name;
    enum config_section section;
    enum config_type type;
    uint32_t offset; /* in struct config, or in struct config_namespace */
    uint32_t size;   /* of the member */
    uint64_t min, max;
    /* TYPE_WORD: "a|b|c" in the order of the enum; else a word for 0 or for the empty text. */
    const char *words;
    const char *initial; /* the default, as one would write it */
    uint32_t flags;
    /* Not in this build: NULL nothing; "*" all but the default and off; else values, separated by a
     * space, where one that ends in ':' is a prefix. */
    const char *missing;
    const char *meaning;
};

extern const struct config_key config_keys[];
extern const uint32_t config_n_keys;

/* NULL if there is none. `name` with '-' or '_'. */
const struct config_key *config_key_find(enum config_section section, const char *name);

/* The key that `name` is most like, or NULL if it is like none. */
const struct config_key *config_key_near(enum config_section section, const char *name);

/* Parses `text` into the key's member of base (a struct config or struct config_namespace). False:
 * nothing is certain about the member, and `why` says what is allowed. Does not look at `missing`. */
MUST_USE bool config_value_parse(const struct config_key *key, void *base, const char *text,
                                 char why[CONFIG_WHY_MAX]);

/* Does this build lack the value, which has just been parsed into base? */
bool config_value_missing(const struct config_key *key, const void *base, const char *text);

/* The member as text that config_value_parse takes; secrets are masked. */
void config_value_text(const struct config_key *key, const void *base, char *to, size_t room);

/* What is allowed, in a few words. */
void config_value_limits(const struct config_key *key, char *to, size_t room);

/* redis://[user[:password]@]host[:port][/db], rediss://…, unix:PATH, none. False: `why` says what
 * is allowed; it never quotes the URL. */
MUST_USE bool config_redis_parse(struct config_redis *r, const char *text,
                                 char why[CONFIG_WHY_MAX]);

/* The decimal number at text, as many digits as there are; *end behind them. False: no digit, or
 * over 2^63. */
MUST_USE bool config_take_number(const char *text, uint64_t *number, const char **end);

/* The next item of a comma-separated list, spaces around it removed, in item. False: the list has
 * ended (*list is NULL). An item that does not fit is cut, and *fits is false. */
bool config_list_next(const char **list, char *item, size_t room, bool *fits);

#define CONFIG_TIME_UNITS 4
struct config_time_unit {
    const char *unit;
    uint32_t ms;
};
extern const struct config_time_unit config_time_units[CONFIG_TIME_UNITS]; /* the largest first */

/* A number of bytes in its largest whole unit: "12M". */
void config_size_text(uint64_t n, char *to, size_t room);

extern const char config_listen_allowed[];

/* "[::]:3000", ":3000", "3000", "127.0.0.1:0", "[::1]:80", "unix:PATH". */
MUST_USE bool config_listen_parse(struct config_listen *l, const char *text,
                                  char why[CONFIG_WHY_MAX]);
void config_listen_text(const struct config_listen *l, char *to, size_t room);

/* Copies text (at most size - 1 bytes) or says why not. */
MUST_USE bool config_text_copy(char *to, uint32_t size, const char *text, char why[CONFIG_WHY_MAX]);

void config_namespace_defaults(struct config_namespace *n, const char *name, bool is_prefix);

void config_problem(struct config_problems *problems, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* --- sources (config_load.c, config_file.c) --- */

enum config_source { SOURCE_FILE = 0, SOURCE_ENVIRONMENT, SOURCE_FLAG, SOURCES };

#define CONFIG_INSTANCE_WS     CONFIG_NAMESPACES_MAX
#define CONFIG_INSTANCE_SERVER (CONFIG_NAMESPACES_MAX + 1)
#define CONFIG_INSTANCES       (CONFIG_NAMESPACES_MAX + 2)

struct config_loader {
    struct config *c;
    struct config_problems *problems;
    const char *file;
    /* Where a key was set: the line, or the number of the argument or variable + 1; 0 = not there. */
    uint32_t seen[SOURCES][CONFIG_INSTANCES][CONFIG_KEYS_MAX];
};

/* One `name = value`, from `where` ("FILE:LINE", "--flag", "PEAL_KEY"); `line` as in `seen`. */
void config_set(struct config_loader *l, enum config_source source, uint32_t line,
                const char *where, uint32_t instance, const char *name, const char *value);

/* The instance of a namespace section ("/chat", "/chat*"), made if need be; CONFIG_INSTANCES if
 * that is not possible (reported). */
uint32_t config_instance(struct config_loader *l, const char *where, const char *text);

void config_file_load(struct config_loader *l);

/* What has to hold between keys (config.c). */
void config_check(const struct config_loader *l);

#endif
