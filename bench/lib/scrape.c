/* scrape.c: see scrape.h. */
#include "lib/scrape.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/engine.h"
#include "lib/util.h"

#define ANSWER_MAX (4u << 20)

/* Fills `answer`, which has ANSWER_MAX bytes, and ends it with a zero. */
static void fetch(const struct target *t, const char *url, char *answer)
{
    struct timeval limit = { .tv_sec = 5 };
    const char *path = strcmp(t->path, "/") == 0 ? "/metrics" : t->path;
    char request[1024];
    int length =
        snprintf(request, sizeof request,
                 "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, t->host);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t n = 0;
    ssize_t got = 0;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
        connect(fd, (const struct sockaddr *)&t->address, sizeof t->address) != 0 ||
        send(fd, request, (size_t)length, MSG_NOSIGNAL) != length)
        die("--admin-url: %s: %s", url, strerror(errno));
    while (n < ANSWER_MAX - 1 && (got = recv(fd, answer + n, ANSWER_MAX - 1 - n, 0)) > 0)
        n += (size_t)got;
    (void)close(fd);
    answer[n] = 0;
    if (got < 0 || strncmp(answer, "HTTP/1.1 200", 12) != 0)
        die("--admin-url: %s gives no metrics: %.60s", url, n ? answer : "nothing in time");
}

double scrape_sum(const char *url, const char *name)
{
    static char answer[ANSWER_MAX];
    struct target t;
    size_t length = strlen(name);
    bool found = false;
    double sum = 0;

    target_parse(&t, url, DIALECT_PLAIN);
    fetch(&t, url, answer);
    for (const char *line = answer; line; line = strchr(line, '\n')) {
        const char *blank;

        line += *line == '\n';
        if (strncmp(line, name, length) != 0 || (line[length] != ' ' && line[length] != '{'))
            continue;
        blank = line + strcspn(line, "}\n");
        blank = *blank == '}' ? blank + 1 : line + length;
        sum += strtod(blank, NULL);
        found = true;
    }
    if (!found)
        die("--admin-url: %s has no metric %s: is that a Peal?", url, name);
    return sum;
}
