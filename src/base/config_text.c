/* config_text.c: value to text, and what is allowed in words.
 *
 * Invariant: config_value_text writes what config_value_parse takes back to the same value, secrets
 *            apart, which it never writes. */
#include "base/config_keys.h"

#include <assert.h>
#include <stdio.h>

const struct config_time_unit config_time_units[CONFIG_TIME_UNITS] = {
    { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 }
};

static uint64_t get_number(const struct config_key *key, const void *base)
{
    const char *member = (const char *)base + key->offset;
    uint32_t small;
    uint64_t number;

    if (key->size == sizeof number) {
        memcpy(&number, member, sizeof number);
        return number;
    }
    assert(key->size == sizeof small);
    memcpy(&small, member, sizeof small);
    return small;
}

void config_size_text(uint64_t n, char *to, size_t room)
{
    uint32_t power = 0;

    while (power < 3 && n != 0 && n % 1024 == 0) {
        n /= 1024;
        power++;
    }
    snprintf(to, room, "%llu%.*s", (unsigned long long)n, power > 0, &"\0KMG"[power]);
}

static void time_text(uint64_t ms, char *to, size_t room)
{
    uint32_t i = 0;

    while (ms % config_time_units[i].ms != 0)
        i++;
    if (ms == 0)
        snprintf(to, room, "0");
    else
        snprintf(to, room, "%llu%s", (unsigned long long)(ms / config_time_units[i].ms),
                 config_time_units[i].unit);
}

void config_value_limits(const struct config_key *key, char *to, size_t room)
{
    char low[24], high[24];

    switch (key->type) {
    case TYPE_BOOL: snprintf(to, room, "yes or no"); break;
    case TYPE_COUNT:
        snprintf(to, room, "%s%s%llu to %llu", key->words != NULL ? key->words : "",
                 key->words != NULL ? ", or " : "", (unsigned long long)key->min,
                 (unsigned long long)key->max);
        break;
    case TYPE_BYTES:
        config_size_text(key->min, low, sizeof low);
        config_size_text(key->max, high, sizeof high);
        snprintf(to, room, "%s%s to %s, in bytes or with K, M, G%s",
                 (key->flags & KEY_POWER_OF_TWO) != 0 ? "a power of two from " : "", low, high,
                 (key->flags & KEY_PERCENT) != 0 ? ", or 1% to 90% of memory" : "");
        break;
    case TYPE_TIME:
        time_text(key->min, low, sizeof low);
        time_text(key->max, high, sizeof high);
        snprintf(to, room, "%s to %s, with ms, s, m or h", low, high);
        break;
    case TYPE_WORD: snprintf(to, room, "%s", key->words); break;
    case TYPE_TEXT:
        snprintf(to, room, "%s%stext of at most %llu bytes", key->words, ", or ",
                 (unsigned long long)key->max);
        break;
    case TYPE_TOKEN:
        snprintf(to, room, "none, or up to %llu visible ASCII characters",
                 (unsigned long long)key->max);
        break;
    case TYPE_PATTERN:
        snprintf(to, room, "text of at most %llu bytes without * ? [ ] \\ and spaces",
                 (unsigned long long)key->max);
        break;
    case TYPE_URL_PATH: snprintf(to, room, "a path such as /socket.io/"); break;
    case TYPE_LISTEN:
        snprintf(to, room, "%s%s", config_listen_allowed, key->max > 1 ? "; up to 8" : "");
        break;
    case TYPE_TRANSPORTS: snprintf(to, room, "polling, websocket or both"); break;
    case TYPE_CPUS: snprintf(to, room, "auto, off, or a list such as 0,2,4-7"); break;
    case TYPE_COOKIE:
        snprintf(to, room, "none, or a token of at most %llu bytes", (unsigned long long)key->max);
        break;
    case TYPE_ORIGINS:
        snprintf(to, room, "%s%ssame-host, *, or origins such as https://*.example.com:8443",
                 key->words != NULL ? key->words : "", key->words != NULL ? ", " : "");
        break;
    case TYPE_NETWORKS:
        snprintf(to, room, "none, or addresses, ADDRESS/BITS and unix; up to %llu",
                 (unsigned long long)key->max);
        break;
    case TYPE_REDIS:
        snprintf(to, room,
                 "none, redis://[user:password@]host[:port][/db], rediss://… or unix:PATH");
        break;
    case TYPE_APP: snprintf(to, room, "none, relay, forward or module:PATH"); break;
    case TYPE_ABSENT: snprintf(to, room, "none"); break;
    }
}

/* --- values as text --- */

static void redis_text(const struct config_redis *r, char *to, size_t room)
{
    bool is_v6 = strchr(r->host, ':') != NULL, auth = r->user[0] != '\0' || r->password[0] != '\0';

    if (!r->enabled)
        snprintf(to, room, "none");
    else if (r->is_unix)
        snprintf(to, room, "unix:%s", r->host);
    else
        snprintf(to, room, "redis%s://%s%s%s%s%s%s:%u/%u", r->tls ? "s" : "", r->user,
                 r->password[0] != '\0' ? ":***" : "", auth ? "@" : "", is_v6 ? "[" : "", r->host,
                 is_v6 ? "]" : "", r->port, r->db);
}

static void listens_text(const struct config_listen *l, uint32_t n, char *to, size_t room)
{
    size_t used = 0;

    to[0] = '\0';
    for (uint32_t i = 0; i < n; i++) {
        char item[CONFIG_TEXT_MAX + 16];

        config_listen_text(&l[i], item, sizeof item);
        if (used + strlen(item) + 3 > room)
            return;
        used += (size_t)snprintf(to + used, room - used, "%s%s", i > 0 ? ", " : "", item);
    }
}

static void networks_text(const struct config *c, char *to, size_t room)
{
    size_t used = 0;

    snprintf(to, room, "none");
    for (uint32_t i = 0; i < c->n_trusted_proxies; i++) {
        char item[ADDRESS_TEXT_MAX];

        address_network_text(item, sizeof item, &c->trusted_proxies[i]);
        if (used + strlen(item) + 3 > room)
            return;
        used += (size_t)snprintf(to + used, room - used, "%s%s", i > 0 ? ", " : "", item);
    }
}

static void word_text(const struct config_key *key, uint8_t number, char *to, size_t room)
{
    const char *word = key->words;

    for (; number > 0; number--)
        word += strcspn(word, "|") + 1;
    snprintf(to, room, "%.*s", (int)strcspn(word, "|"), word);
}

static void cpus_text(const struct config *c, char *to, size_t room)
{
    size_t used = 0;

    snprintf(to, room, "%s", c->cpu_affinity == AFFINITY_OFF ? "off" : "auto");
    if (c->cpu_affinity != AFFINITY_LIST)
        return;
    for (uint32_t i = 0; i < c->n_cpu_list && used + 8 < room; i++)
        used += (size_t)snprintf(to + used, room - used, "%s%u", i > 0 ? "," : "", c->cpu_list[i]);
}

void config_value_text(const struct config_key *key, const void *base, char *to, size_t room)
{
    const char *member = (const char *)base + key->offset;
    const struct config *c = base;
    const struct config_namespace *n = base;
    uint64_t number = key->type == TYPE_COUNT || key->type == TYPE_BYTES || key->type == TYPE_TIME
                          ? get_number(key, base)
                          : 0;

    switch (key->type) {
    case TYPE_BOOL: snprintf(to, room, "%s", *(const bool *)member ? "yes" : "no"); break;
    case TYPE_COUNT:
        if (number == 0 && key->words != NULL)
            snprintf(to, room, "%s", key->words);
        else
            snprintf(to, room, "%llu", (unsigned long long)number);
        break;
    case TYPE_BYTES:
        if ((number & CONFIG_PERCENT) != 0)
            snprintf(to, room, "%llu%%", (unsigned long long)(number & ~CONFIG_PERCENT));
        else
            config_size_text(number, to, room);
        break;
    case TYPE_TIME: time_text(number, to, room); break;
    case TYPE_WORD: word_text(key, *(const uint8_t *)member, to, room); break;
    case TYPE_TEXT:
    case TYPE_COOKIE:
    case TYPE_PATTERN:
    case TYPE_URL_PATH:
    case TYPE_ORIGINS:
        snprintf(to, room, "%s", member[0] == '\0' && key->words != NULL ? key->words : member);
        break;
    case TYPE_TOKEN: snprintf(to, room, "%s", member[0] == '\0' ? "none" : "***"); break;
    case TYPE_LISTEN:
        listens_text((const struct config_listen *)(const void *)member,
                     key->max > 1 ? c->n_listen : 1, to, room);
        break;
    case TYPE_TRANSPORTS:
        snprintf(to, room, "%s%s%s", c->transport_polling ? "polling" : "",
                 c->transport_polling && c->transport_websocket ? ", " : "",
                 c->transport_websocket ? "websocket" : "");
        break;
    case TYPE_CPUS: cpus_text(c, to, room); break;
    case TYPE_NETWORKS: networks_text(c, to, room); break;
    case TYPE_REDIS: redis_text((const struct config_redis *)(const void *)member, to, room); break;
    case TYPE_APP: {
        static const char *const names[] = { "none", "relay", "forward", "module:" };

        snprintf(to, room, "%s%s", names[n->app], n->app == APP_MODULE ? n->module_path : "");
        break;
    }
    case TYPE_ABSENT: snprintf(to, room, "none"); break;
    }
}
