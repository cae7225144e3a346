/* config_value.c: text to value, one small function per type of key.
 *
 * Invariant: a number, word or time that is refused leaves the member as it was; lists and texts
 *            may not. */
#include "base/config_keys.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define REJECT(...) (snprintf(why, CONFIG_WHY_MAX, __VA_ARGS__), false)

static const char *limits_of(const struct config_key *key, char text[CONFIG_LIMITS_MAX])
{
    config_value_limits(key, text, CONFIG_LIMITS_MAX);
    return text;
}

bool config_text_copy(char *to, uint32_t size, const char *text, char why[CONFIG_WHY_MAX])
{
    size_t n = strlen(text);

    if (n >= size)
        return REJECT("%zu bytes, at most %u are possible", n, size - 1);
    memcpy(to, text, n + 1);
    return true;
}

static void put_number(const struct config_key *key, void *base, uint64_t number)
{
    char *member = (char *)base + key->offset;

    if (key->size == sizeof(uint64_t)) {
        memcpy(member, &number, sizeof number);
    } else {
        uint32_t small = (uint32_t)number;

        assert(key->size == sizeof small);
        assert(number <= UINT32_MAX);
        memcpy(member, &small, sizeof small);
    }
}

static bool parse_bool(const struct config_key *key, void *base, const char *text, char *why)
{
    static const char *const words[] = { "no", "yes", "false", "true", "off", "on", "0", "1" };

    for (uint32_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(text, words[i]) == 0) {
            *(bool *)((char *)base + key->offset) = i % 2 == 1;
            return true;
        }
    }
    return REJECT("yes or no");
}

static bool parse_count(const struct config_key *key, void *base, const char *text, char *why)
{
    uint64_t number;
    const char *end;

    if (key->words != NULL && strcmp(text, key->words) == 0) {
        put_number(key, base, 0);
        return true;
    }
    if (!config_take_number(text, &number, &end) || *end != '\0' || number < key->min ||
        number > key->max)
        return REJECT("%s", limits_of(key, (char[CONFIG_LIMITS_MAX]){ 0 }));
    put_number(key, base, number);
    return true;
}

static uint32_t size_shift(char unit)
{
    switch (unit) {
    case 'K':
    case 'k': return 10;
    case 'M':
    case 'm': return 20;
    case 'G':
    case 'g': return 30;
    default: return 0;
    }
}

static bool parse_bytes(const struct config_key *key, void *base, const char *text, char *why)
{
    char limits[CONFIG_LIMITS_MAX], near[24];
    uint64_t number;
    const char *end;

    config_value_limits(key, limits, sizeof limits);
    if (!config_take_number(text, &number, &end))
        return REJECT("%s", limits);
    if ((key->flags & KEY_PERCENT) != 0 && strcmp(end + strspn(end, " "), "%") == 0) {
        if (number < 1 || number > 90)
            return REJECT("%s", limits);
        put_number(key, base, CONFIG_PERCENT | number);
        return true;
    }
    if (*end == '.' || *end == ',')
        return REJECT("whole numbers only, in the next smaller unit (1.5M = 1536K); %s", limits);
    if (*end != '\0') {
        uint32_t shift = size_shift(*end);

        if (shift == 0 || end[1] != '\0' || number > UINT64_MAX >> 1 >> shift)
            return REJECT("%s", limits);
        number <<= shift;
    }
    if (number < key->min || number > key->max)
        return REJECT("%s", limits);
    if ((key->flags & KEY_POWER_OF_TWO) != 0 && (number & (number - 1)) != 0) {
        uint64_t below = 1ull << (63 - __builtin_clzll(number));

        config_size_text(number - below < 2 * below - number ? below : 2 * below, near,
                         sizeof near);
        return REJECT("%s; the nearest is %s", limits, near);
    }
    put_number(key, base, number);
    return true;
}

static bool parse_time(const struct config_key *key, void *base, const char *text, char *why)
{
    char limits[CONFIG_LIMITS_MAX];
    uint64_t number;
    const char *end;

    config_value_limits(key, limits, sizeof limits);
    if (!config_take_number(text, &number, &end))
        return REJECT("%s", limits);
    if (*end == '\0' && number > 0 && number < 1000000000)
        return REJECT("a time needs a unit: %llus or %llums? %s", (unsigned long long)number,
                      (unsigned long long)number, limits);
    if (*end == '.' || *end == ',')
        return REJECT("whole numbers only, in the next smaller unit (1.5s = 1500ms); %s", limits);
    for (uint32_t i = 0; i < CONFIG_TIME_UNITS; i++) {
        bool zero = *end == '\0' && number == 0;

        if ((zero || strcmp(end, config_time_units[i].unit) == 0) &&
            number <= key->max / config_time_units[i].ms &&
            number * config_time_units[i].ms >= key->min) {
            put_number(key, base, number * config_time_units[i].ms);
            return true;
        }
    }
    return REJECT("%s", limits);
}

static bool parse_word(const struct config_key *key, void *base, const char *text, char *why)
{
    const char *word = key->words;
    size_t n_text = strlen(text);

    assert(word != NULL);
    for (uint8_t i = 0; *word != '\0'; i++) {
        size_t n = strcspn(word, "|");

        if (n == n_text && memcmp(word, text, n) == 0) {
            memcpy((char *)base + key->offset, &i, sizeof i);
            return true;
        }
        word += n + (word[n] == '|');
    }
    return REJECT("%s", limits_of(key, (char[CONFIG_LIMITS_MAX]){ 0 }));
}

static bool is_cookie_name(const char *text)
{
    return text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                             "!#$%&'*+-.^_`|~")] == '\0';
}

static bool parse_text(const struct config_key *key, void *base, const char *text, char *why)
{
    if (key->words != NULL && strcmp(text, key->words) == 0)
        text = "";
    if (strlen(text) < key->min)
        return REJECT("may not be empty");
    if (key->type == TYPE_TOKEN && text[0] != '\0') {
        for (const char *p = text; *p != '\0'; p++) {
            if (*p <= ' ' || *p > '~')
                return REJECT("visible ASCII characters only, since it travels in an HTTP header");
        }
    }
    if (key->type == TYPE_COOKIE && !is_cookie_name(text))
        return REJECT("letters, digits and !#$%%&'*+-.^_`|~ only, the token of RFC 6265");
    if (key->type == TYPE_COOKIE &&
        (strncasecmp(text, "__Host-", 7) == 0 || strncasecmp(text, "__Secure-", 9) == 0))
        return REJECT("browsers take the prefixes __Host- and __Secure- only with Secure, which "
                      "this cookie has not");
    if (key->type == TYPE_PATTERN && strpbrk(text, "*?[]\\ ") != NULL)
        return REJECT("without spaces and * ? [ ] \\, which Redis would take for a pattern");
    return config_text_copy((char *)base + key->offset, key->size, text, why);
}

static bool parse_url_path(const struct config_key *key, void *base, const char *text, char *why)
{
    char *path = (char *)base + key->offset;
    size_t n = strlen(text);

    if (text[0] != '/' || n < 2 || strstr(text, "//") != NULL ||
        strpbrk(text, " ?#%\"<>\\") != NULL)
        return REJECT("a path such as /socket.io/, without ? # %% and spaces");
    if (strcmp(text, "/ws") == 0 || strncmp(text, "/ws/", 4) == 0)
        return REJECT("/ws/ is taken by plain WebSocket clients");
    if (n + 1 >= key->size)
        return REJECT("at most %u bytes", key->size - 2);
    memcpy(path, text, n + 1);
    if (path[n - 1] != '/')
        memcpy(path + n, "/", 2);
    return true;
}

/* --- lists --- */

static bool parse_listen(const struct config_key *key, void *base, const char *text, char *why)
{
    struct config_listen *to = (void *)((char *)base + key->offset);
    bool fits = true, is_list = key->size > sizeof *to;
    char item[CONFIG_TEXT_MAX];
    uint32_t n = 0;

    for (; config_list_next(&text, item, sizeof item, &fits); n++) {
        if (n == key->max)
            return REJECT("at most %llu listeners", (unsigned long long)key->max);
        if (!fits)
            return REJECT("%s", config_listen_allowed);
        if (!config_listen_parse(&to[n], item, why))
            return false;
        for (uint32_t i = 0; i < n; i++) {
            if (to[i].is_unix == to[n].is_unix && to[i].port == to[n].port &&
                strcmp(to[i].host, to[n].host) == 0 && (to[n].is_unix || to[n].port != 0))
                return REJECT("%.200s is listed twice", item);
        }
    }
    if (is_list)
        ((struct config *)base)->n_listen = n;
    return true;
}

static bool parse_transports(void *base, const char *text, char *why)
{
    struct config *c = base;
    bool fits, polling = false, websocket = false;
    char item[32];

    while (config_list_next(&text, item, sizeof item, &fits)) {
        if (strcmp(item, "polling") == 0 && !polling)
            polling = true;
        else if (strcmp(item, "websocket") == 0 && !websocket)
            websocket = true;
        else
            return REJECT("polling, websocket or both, separated by a comma");
    }
    c->transport_polling = polling;
    c->transport_websocket = websocket;
    return true;
}

static bool parse_cpus(const struct config_key *key, void *base, const char *text, char *why)
{
    struct config *c = base;
    char item[32];
    bool fits;

    c->n_cpu_list = 0;
    if (strcmp(text, "auto") == 0 || strcmp(text, "off") == 0) {
        c->cpu_affinity = text[0] == 'a' ? AFFINITY_AUTO : AFFINITY_OFF;
        return true;
    }
    c->cpu_affinity = AFFINITY_LIST;
    while (config_list_next(&text, item, sizeof item, &fits)) {
        uint64_t first, last;
        const char *end;

        if (!config_take_number(item, &first, &end))
            return REJECT("auto, off, or a list such as 0,2,4-7");
        last = first;
        if (*end == '-' && !config_take_number(end + 1, &last, &end))
            return REJECT("auto, off, or a list such as 0,2,4-7");
        if (*end != '\0' || first > last || last > key->max)
            return REJECT("auto, off, or a list such as 0,2,4-7 of CPUs 0 to %llu",
                          (unsigned long long)key->max);
        for (; first <= last; first++) {
            if (c->n_cpu_list == CONFIG_WORKERS_MAX)
                return REJECT("at most %d CPUs", CONFIG_WORKERS_MAX);
            c->cpu_list[c->n_cpu_list++] = (uint16_t)first;
        }
    }
    return true;
}

/* A CORS header may repeat it, so no byte that an Origin header could not hold. */
static bool is_origin(const char *text)
{
    const char *rest = strstr(text, "://");

    if (rest == NULL || rest == text ||
        strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789+-.") != (size_t)(rest - text))
        return false;
    rest += 3;
    if (strncmp(rest, "*.", 2) == 0) /* any one label: http_origin_allowed */
        rest += 2;
    return rest[0] != '\0' &&
           rest[strspn(rest, "abcdefghijklmnopqrstuvwxyz0123456789-._~:[]")] == '\0';
}

/* Stored as in the file, in lower case, without spaces: browsers send origins in lower case. */
static bool parse_origins(const struct config_key *key, void *base, const char *text, char *why)
{
    static const char allowed[] =
        "same-host, *, or comma-separated origins such as https://example.com:8443 or "
        "https://*.example.com, without path; a name beyond ASCII as browsers send it (xn--…)";
    char *to = (char *)base + key->offset, item[CONFIG_TEXT_MAX];
    uint32_t n = 0, n_items = 0;
    bool fits, star = false;

    if (key->words != NULL && (text[0] == '\0' || strcmp(text, key->words) == 0)) {
        to[0] = '\0';
        return true;
    }
    while (config_list_next(&text, item, sizeof item, &fits)) {
        size_t n_item = strlen(item);

        for (char *p = item; *p != '\0'; p++)
            *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
        star = star || strcmp(item, "*") == 0;
        n_items++;
        if (!fits || (strcmp(item, "*") != 0 && strcmp(item, "same-host") != 0 && !is_origin(item)))
            return REJECT("%s", allowed);
        if (n + n_item + 1 >= key->size)
            return REJECT("at most %u bytes", key->size - 1);
        n += (uint32_t)snprintf(to + n, key->size - n, "%s%s", n > 0 ? "," : "", item);
    }
    if (star && n_items > 1)
        return REJECT("* lets every origin in: it stands alone");
    return true;
}

static bool parse_networks(const struct config_key *key, void *base, const char *text, char *why)
{
    struct config *c = base;
    char item[CONFIG_TEXT_MAX];
    bool fits;

    assert(key->offset == offsetof(struct config, trusted_proxies));
    assert(key->words != NULL);
    c->n_trusted_proxies = 0;
    if (text[0] == '\0' || strcmp(text, key->words) == 0)
        return true;
    while (config_list_next(&text, item, sizeof item, &fits)) {
        if (c->n_trusted_proxies == key->max)
            return REJECT("at most %llu networks", (unsigned long long)key->max);
        if (!fits ||
            !address_network_parse(slice_text(item), &c->trusted_proxies[c->n_trusted_proxies]))
            return REJECT("\"%.100s\": none, or a list of addresses and networks such as "
                          "10.0.0.0/8, 192.0.2.7, 2001:db8::/32, unix",
                          item);
        c->n_trusted_proxies++;
    }
    return true;
}

static bool parse_app(const struct config_key *key, void *base, const char *text, char *why)
{
    struct config_namespace *n = base;
    static const char *const names[] = { "none", "relay", "forward" };

    assert(key->offset == offsetof(struct config_namespace, app));
    n->module_path[0] = '\0';
    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            n->app = (uint8_t)i;
            return true;
        }
    }
    if (strncmp(text, "module:", 7) == 0 && text[7] != '\0') {
        n->app = APP_MODULE;
        return config_text_copy(n->module_path, sizeof n->module_path, text + 7, why);
    }
    return REJECT("none, relay, forward or module:PATH");
}

bool config_value_parse(const struct config_key *key, void *base, const char *text,
                        char why[CONFIG_WHY_MAX])
{
    bool may_be_empty = key->words != NULL && key->initial[0] == key->words[0] &&
                        strcmp(key->initial, key->words) == 0;

    why[0] = '\0';
    if (text[0] == '\0' && !may_be_empty)
        return REJECT("a value is missing: %s", limits_of(key, (char[CONFIG_LIMITS_MAX]){ 0 }));
    if ((text[0] == '"' || text[0] == '\'') && (key->flags & KEY_SECRET) == 0)
        return REJECT("values are written without quotes");
    switch (key->type) {
    case TYPE_BOOL: return parse_bool(key, base, text, why);
    case TYPE_COUNT: return parse_count(key, base, text, why);
    case TYPE_BYTES: return parse_bytes(key, base, text, why);
    case TYPE_TIME: return parse_time(key, base, text, why);
    case TYPE_WORD: return parse_word(key, base, text, why);
    case TYPE_TEXT:
    case TYPE_TOKEN:
    case TYPE_COOKIE:
    case TYPE_PATTERN: return parse_text(key, base, text, why);
    case TYPE_URL_PATH: return parse_url_path(key, base, text, why);
    case TYPE_LISTEN: return parse_listen(key, base, text, why);
    case TYPE_TRANSPORTS: return parse_transports(base, text, why);
    case TYPE_CPUS: return parse_cpus(key, base, text, why);
    case TYPE_ORIGINS: return parse_origins(key, base, text, why);
    case TYPE_NETWORKS: return parse_networks(key, base, text, why);
    case TYPE_REDIS:
        return config_redis_parse((struct config_redis *)(void *)((char *)base + key->offset), text,
                                  why);
    case TYPE_APP: return parse_app(key, base, text, why);
    case TYPE_ABSENT: return true;
    }
    return REJECT("unknown type");
}

bool config_value_missing(const struct config_key *key, const void *base, const char *text)
{
    const char *member = (const char *)base + key->offset;

    if (key->missing == NULL)
        return false;
    if (key->type == TYPE_ABSENT)
        return text[0] != '\0' && strcmp(text, key->initial) != 0;
    /* The default does no harm, nor does off, which is all zero (a text that is empty). */
    if (key->missing[0] == '*') {
        char now[CONFIG_VALUE_MAX];
        uint32_t i = 0;

        config_value_text(key, base, now, sizeof now);
        while (i < key->size && member[i] == 0)
            i++;
        return i < key->size && strcmp(now, key->initial) != 0;
    }
    for (const char *word = key->missing; *word != '\0';) {
        size_t n = strcspn(word, " ");

        if (strncmp(text, word, n) == 0 && (word[n - 1] == ':' || text[n] == '\0'))
            return true;
        word += n + (word[n] == ' ');
    }
    return false;
}
