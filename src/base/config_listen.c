/* config_listen.c: numbers, lists, and the addresses to listen at. Knows how an address is written
 * and no more: base has no sockets. */
#include "base/config_keys.h"

#include <stdio.h>

#define REJECT(...) (snprintf(why, CONFIG_WHY_MAX, __VA_ARGS__), false)

bool config_take_number(const char *text, uint64_t *number, const char **end)
{
    uint64_t n = 0;
    const char *p = text;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (n > (INT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (uint64_t)(*p - '0');
    }
    *number = n;
    *end = p;
    return p > text;
}

bool config_list_next(const char **list, char *item, size_t room, bool *fits)
{
    size_t n, lead;

    if (*list == NULL)
        return false;
    n = strcspn(*list, ",");
    lead = strspn(*list, " \t");
    lead = lead < n ? lead : n;
    const char *from = *list + lead;
    size_t n_item = n - lead;

    while (n_item > 0 && (from[n_item - 1] == ' ' || from[n_item - 1] == '\t'))
        n_item--;
    *fits = n_item < room;
    snprintf(item, room, "%.*s", (int)n_item, from);
    *list = (*list)[n] == ',' ? *list + n + 1 : NULL;
    return true;
}

const char config_listen_allowed[] =
    "ADDRESS:PORT with a numeric address, [IPV6]:PORT, PORT, or unix:PATH";

bool config_listen_parse(struct config_listen *l, const char *text, char why[CONFIG_WHY_MAX])
{
    const char *colon = strrchr(text, ':'), *digits = colon != NULL ? colon + 1 : text, *end;
    size_t n = colon != NULL ? (size_t)(colon - text) : 0;
    struct peer_address address;
    uint64_t port;

    memset(l, 0, sizeof *l);
    if (strncmp(text, "unix:", 5) == 0) {
        if (text[5] == '\0' || strlen(text + 5) > 107)
            return REJECT("unix:PATH with a path of 1 to 107 bytes");
        l->is_unix = true;
        return config_text_copy(l->host, sizeof l->host, text + 5, why);
    }
    if (!config_take_number(digits, &port, &end) || *end != '\0' || port > 65535)
        return REJECT("%s; the port is 0 to 65535", config_listen_allowed);
    l->port = (uint16_t)port;
    if (n == 0 || (n == 1 && text[0] == '*') || strncmp(text, "[::]:", 5) == 0)
        return true;
    if (n >= sizeof l->host)
        return REJECT("%s", config_listen_allowed);
    if (text[0] == '[' && text[n - 1] == ']') {
        memcpy(l->host, text + 1, n - 2);
        if (strchr(l->host, ':') != NULL && address_parse(slice_text(l->host), &address))
            return true;
    } else {
        memcpy(l->host, text, n);
        if (strcmp(l->host, "localhost") == 0)
            snprintf(l->host, sizeof l->host, "127.0.0.1");
        if (strchr(l->host, ':') == NULL && address_parse(slice_text(l->host), &address))
            return true;
    }
    return REJECT("%s", config_listen_allowed);
}

void config_listen_text(const struct config_listen *l, char *to, size_t room)
{
    if (l->is_unix)
        snprintf(to, room, "unix:%s", l->host);
    else if (strchr(l->host, ':') != NULL || l->host[0] == '\0')
        snprintf(to, room, "[%s]:%u", l->host[0] == '\0' ? "::" : l->host, l->port);
    else
        snprintf(to, room, "%s:%u", l->host, l->port);
}
