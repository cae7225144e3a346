/* scale_counters.c: see scale_counters.h. */
#include "lib/scale_counters.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/util.h"

#define METRICS_BYTES_MAX (2u << 20)
#define LINE_BYTES_MAX    8192u
#define REASONS_MAX       32u
#define REASON_BYTES_MAX  40u
#define ANSWER_SECONDS    5

/* GET /metrics, whole and ended by a zero; its length, 0 when there is none. */
static size_t metrics_get(uint16_t port, char *out)
{
    static const char request[] =
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct timeval limit = { .tv_sec = ANSWER_SECONDS };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t n = 0;
    ssize_t got = 1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0)
        return 0;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
        connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)sizeof request - 1) {
        while (got > 0 && n < METRICS_BYTES_MAX - 1) {
            got = recv(fd, out + n, METRICS_BYTES_MAX - 1 - n, 0);
            n += got > 0 ? (size_t)got : 0;
        }
    }
    (void)close(fd);
    out[n] = 0;
    return n;
}

struct reasons {
    char names[REASONS_MAX][REASON_BYTES_MAX];
    uint64_t values[REASONS_MAX];
    uint32_t count;
};

static void reason_add(struct reasons *r, const char *name, size_t n, uint64_t value)
{
    uint32_t i = 0;

    if (n >= REASON_BYTES_MAX || value == 0)
        return;
    while (i < r->count && (strncmp(r->names[i], name, n) != 0 || r->names[i][n] != 0))
        i++;
    if (i == REASONS_MAX)
        return;
    if (i == r->count) {
        memcpy(r->names[i], name, n);
        r->count++;
    }
    r->values[i] += value;
}

/* Adds up the samples of `metric` by their label `reason`; without one under the metric's name. */
static void metric_sum(const char *text, const char *metric, struct reasons *out)
{
    static const char label[] = "reason=\"";
    size_t n = strlen(metric);

    for (const char *line = text; line; line = strchr(line, '\n')) {
        const char *end, *reason, *value;

        line += *line == '\n';
        end = line + strcspn(line, "\n");
        if (strncmp(line, metric, n) != 0 || (line[n] != '{' && line[n] != ' '))
            continue;
        value = memrchr(line, ' ', (size_t)(end - line));
        reason = memmem(line, (size_t)(end - line), label, sizeof label - 1);
        if (value && reason)
            reason_add(out, reason + sizeof label - 1, strcspn(reason + sizeof label - 1, "\""),
                       strtoull(value, NULL, 10));
        else if (value)
            reason_add(out, metric, n, strtoull(value, NULL, 10));
    }
}

void scale_counters_server(struct json *j, uint16_t admin_port)
{
    static const char *const metrics[] = { "peal_closes_total", "peal_connections_refused_total",
                                           "peal_worker_restarts_total" };
    char *text = must_calloc(1, METRICS_BYTES_MAX);
    bool answers = metrics_get(admin_port, text) > 0;

    json_object(j, "server_counters");
    for (uint32_t i = 0; answers && i < sizeof metrics / sizeof *metrics; i++) {
        struct reasons sums = { .count = 0 };

        metric_sum(text, metrics[i], &sums);
        json_object(j, metrics[i]);
        for (uint32_t k = 0; k < sums.count; k++)
            json_u64(j, sums.names[k], sums.values[k]);
        json_end(j);
    }
    json_end(j);
    free(text);
}

/* Both files have lines in pairs, `Kind: name name …` and `Kind: value value …`. */
static void pairs_json(struct json *j, const char *path, const char *const *wanted)
{
    char names[LINE_BYTES_MAX];
    char values[LINE_BYTES_MAX];
    FILE *f = fopen(path, "re");

    while (f && fgets(names, sizeof names, f) && fgets(values, sizeof values, f)) {
        char *rest[2] = { NULL, NULL };
        const char *name = strtok_r(names, " \n", &rest[0]);
        const char *value = strtok_r(values, " \n", &rest[1]);

        for (; name && value;
             name = strtok_r(NULL, " \n", &rest[0]), value = strtok_r(NULL, " \n", &rest[1])) {
            for (uint32_t i = 0; wanted[i]; i++) {
                if (strcmp(name, wanted[i]) == 0)
                    json_u64(j, name, strtoull(value, NULL, 10));
            }
        }
    }
    if (f)
        (void)fclose(f);
}

void scale_counters_tcp(struct json *j)
{
    static const char *const snmp[] = { "RetransSegs", "OutRsts", "AttemptFails", "EstabResets",
                                        NULL };
    static const char *const netstat[] = { "ListenOverflows",
                                           "ListenDrops",
                                           "TCPReqQFullDoCookies",
                                           "TCPTimeouts",
                                           "TCPAbortOnData",
                                           "TCPAbortOnClose",
                                           "TCPAbortOnTimeout",
                                           "TCPAbortOnMemory",
                                           "TCPMemoryPressures",
                                           "TCPMemoryPressuresChrono",
                                           NULL };

    json_object(j, "tcp_counters");
    pairs_json(j, "/proc/net/snmp", snmp);
    pairs_json(j, "/proc/net/netstat", netstat);
    json_end(j);
}
