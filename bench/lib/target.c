/* target.c: what engine.h reads and writes as text: addresses, and how a client ended. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "lib/engine.h"
#include "lib/util.h"

void target_parse(struct target *t, const char *url, enum dialect dialect)
{
    const char *at = strstr(url, "://");
    uint32_t port;
    char host[48];
    char digits[8];
    int used = 0;

    if (!at || sscanf(at + 3, "%47[^:/]:%7[0-9]%n", host, digits, &used) != 2 ||
        !parse_u32(digits, &port) || port == 0 || port > 65535)
        die("'%s' is not like ws://127.0.0.1:3000/ws/room", url);
    if (strcmp(host, "localhost") == 0)
        (void)strcpy(host, "127.0.0.1");
    t->address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    if (inet_pton(AF_INET, host, &t->address.sin_addr) != 1)
        die("'%s' is not an IPv4 address", host);
    (void)snprintf(t->host, sizeof t->host, "%s:%u", host, port);
    at += 3 + used;
    if (dialect == DIALECT_PLAIN)
        used = snprintf(t->path, sizeof t->path, "%s", *at ? at : "/");
    else
        used = snprintf(t->path, sizeof t->path, "%s?EIO=4&transport=websocket",
                        *at && strcmp(at, "/") != 0 ? at : "/socket.io/");
    if ((size_t)used >= sizeof t->path)
        die("the path of '%s' is too long", url);
}

const char *cause_name(uint32_t cause, char *buffer)
{
    static const char *const names[] = { "none",       "eof",      "reset", "connect_failed",
                                         "timeout",    "protocol", "ours",  "connect_error",
                                         "disconnect", "stuck" };

    if (cause < sizeof names / sizeof names[0])
        return names[cause];
    (void)snprintf(buffer, 24, cause < 600 ? "http_%u" : "%u", cause);
    return buffer;
}
