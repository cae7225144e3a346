/* config_keys.c: the table of keys, looked up, suggested, described and printed.
 *
 * Invariant: each row's default parses with the row's own rules (tests/unit/base/test_config.c). A
 *            new key is a member of struct config and a row here; a feature that arrives empties
 *            its `missing`. */
#include "base/config_keys.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#include "peal/limits.h"

#define KB              1024ull
#define MB              (1024 * KB)
#define GB              (1024 * MB)
#define SECOND          1000ull
#define HOUR            (3600 * SECOND)
#define CONNECTIONS_MAX ((1ull << SESSION_INDEX_BITS) - 1)
#define EVENT_MAX       (RING_BYTES_MAX / 4 - 64 * KB)

#define AT(member) offsetof(struct config, member), sizeof(((struct config *)0)->member)
#define AT_NSP(member) \
    offsetof(struct config_namespace, member), sizeof(((struct config_namespace *)0)->member)
#define SERVER SECTION_SERVER
#define NSP    SECTION_NAMESPACE
#define PCT    KEY_PERCENT

/* clang-format off */
const struct config_key config_keys[] = {
    { "listen", SERVER, TYPE_LISTEN, AT(listen), 1, CONFIG_LISTEN_MAX, NULL, "[::]:3000", 0, NULL, "client listeners, comma-separated; [::] is dual stack, else 0.0.0.0; port 0 takes a free one" },
    { "path", SERVER, TYPE_URL_PATH, AT(path), 3, CONFIG_TEXT_MAX - 1, NULL, "/socket.io/", 0, NULL, "Engine.IO path" },
    { "transports", SERVER, TYPE_TRANSPORTS, AT(transport_polling), 0, 0, NULL, "polling, websocket", 0, NULL, "transports that clients may use" },
    { "admin_listen", SERVER, TYPE_LISTEN, AT(admin_listen), 1, 1, NULL, "127.0.0.1:9300", 0, NULL, "metrics, health, dashboard, API" },
    { "admin_token", SERVER, TYPE_TOKEN, AT(admin_token), 0, CONFIG_TEXT_MAX - 1, "none", "none", KEY_SECRET, NULL, "bearer token for /api/" },
    { "admin_token_file", SERVER, TYPE_TEXT, AT(admin_token_file), 0, CONFIG_TEXT_MAX - 1, "none", "none", 0, NULL, "file whose first line is the token" },
    { "health", SERVER, TYPE_BOOL, AT(health), 0, 1, NULL, "yes", 0, NULL, "/livez and /readyz (status only) on the client listener too" },
    { "workers", SERVER, TYPE_COUNT, AT(workers), 1, CONFIG_WORKERS_MAX, "auto", "auto", 0, NULL, "worker processes; auto = number of CPUs" },
    { "cpu_affinity", SERVER, TYPE_CPUS, AT(cpu_affinity), 0, 1023, NULL, "auto", 0, NULL, "auto: a CPU for each worker; off; a list such as 0,2,4-7" },
    { "balance", SERVER, TYPE_WORD, AT(balance), 0, 0, "leastconn|reuseport|iphash", "leastconn", 0, NULL, "how a connection finds its worker" },
    { "max_connections", SERVER, TYPE_COUNT, AT(max_connections), 0, CONNECTIONS_MAX, NULL, "0", 0, NULL, "clients of the host; 0 = what the host allows, less a reserve" },
    { "max_connections_per_worker", SERVER, TYPE_COUNT, AT(max_connections_per_worker), 0, CONNECTIONS_MAX, NULL, "0", 0, NULL, "clients of one worker; 0 = what the host allows, less a reserve" },
    { "max_connections_per_ip", SERVER, TYPE_COUNT, AT(max_connections_per_ip), 0, CONNECTIONS_MAX, NULL, "0", 0, NULL, "clients of one address (IPv6: of one /64), whole host; 0 = off" },
    { "max_pending", SERVER, TYPE_COUNT, AT(max_pending), 1, 65536, NULL, "1024", 0, NULL, "sockets of one worker that are not yet, or no more, part of a client" },
    { "accept_rate", SERVER, TYPE_COUNT, AT(accept_rate), 0, 1000000, NULL, "0", 0, NULL, "new connections per second, host; 0 = off" },
    { "max_message_bytes", SERVER, TYPE_BYTES, AT(max_message_bytes), 64, EVENT_MAX, NULL, "1000000", 0, NULL, "one message, both directions; announced as maxPayload; at most event_bytes_max" },
    { "event_bytes_max", SERVER, TYPE_BYTES, AT(event_bytes_max), 64, EVENT_MAX, NULL, "12M", 0, NULL, "one event with its attachments; at most ring_bytes/4 less 64K" },
    { "inbound_bytes_total", SERVER, TYPE_BYTES, AT(inbound_bytes_total), 64 * KB, 1024 * GB, NULL, "10%", PCT, NULL, "host: half-received messages and missing attachments; beyond it the oldest is closed" },
    { "message_timeout", SERVER, TYPE_TIME, AT(message_timeout_ms), 10, 24 * HOUR, NULL, "30s", 0, NULL, "first to last byte of a message, attachments included" },
    { "message_rate", SERVER, TYPE_COUNT, AT(message_rate), 0, 1000000, NULL, "0", 0, "*", "messages per second and connection; 0 = off" },
    { "message_burst", SERVER, TYPE_COUNT, AT(message_burst), 0, 1000000, NULL, "0", 0, "*", "messages above message_rate at once; 0 = off" },
    { "ping_interval", SERVER, TYPE_TIME, AT(ping_interval_ms), 50, 24 * HOUR, NULL, "25s", 0, NULL, "time between two pings" },
    { "ping_timeout", SERVER, TYPE_TIME, AT(ping_timeout_ms), 50, 24 * HOUR, NULL, "20s", 0, NULL, "time for the pong" },
    { "connect_timeout", SERVER, TYPE_TIME, AT(connect_timeout_ms), 50, 24 * HOUR, NULL, "45s", 0, NULL, "time for the first Socket.IO CONNECT" },
    { "upgrade_timeout", SERVER, TYPE_TIME, AT(upgrade_timeout_ms), 50, 24 * HOUR, NULL, "10s", 0, NULL, "time for an upgrade from polling to WebSocket" },
    { "header_timeout", SERVER, TYPE_TIME, AT(header_timeout_ms), 50, 24 * HOUR, NULL, "10s", 0, NULL, "time for the headers of a request" },
    { "ring_bytes", SERVER, TYPE_BYTES, AT(ring_bytes), RING_BYTES_MIN, RING_BYTES_MAX, NULL, "64M", KEY_POWER_OF_TWO, NULL, "payload area of the ring" },
    { "outq_items_max", SERVER, TYPE_COUNT, AT(outq_items_max), 1, 65536, NULL, "1024", 0, NULL, "records queued for one client" },
    { "outq_bytes_max", SERVER, TYPE_BYTES, AT(outq_bytes_max), 64, 2 * GB, NULL, "12M", 0, NULL, "bytes held for one client; at least event_bytes_max" },
    { "outq_soft", SERVER, TYPE_BYTES, AT(outq_soft_bytes), 1, 2 * GB, NULL, "256K", 0, NULL, "above it for ping_timeout: a slow consumer; at most outq_bytes_max" },
    { "outq_bytes_total", SERVER, TYPE_BYTES, AT(outq_bytes_total), 64 * KB, 1024 * GB, NULL, "25%", PCT, NULL, "host: all queues; beyond it the largest are slow consumers first" },
    { "slow_consumer", SERVER, TYPE_WORD, AT(slow_consumer), 0, 0, "close|drop", "close", 0, NULL, "what happens to a client that does not keep up" },
    { "deflate", SERVER, TYPE_BOOL, AT(deflate), 0, 1, NULL, "no", 0, NULL, "permessage-deflate: messages to WebSocket clients that take it are compressed once for all of them" },
    { "deflate_threshold", SERVER, TYPE_BYTES, AT(deflate_threshold_bytes), 0, GB, NULL, "1K", 0, NULL, "deflate: smaller messages are not compressed" },
    { "http_compression", SERVER, TYPE_BYTES, AT(http_compression_bytes), 0, GB, NULL, "1K", 0, NULL, "threshold for polling answers; 0 = off" },
    { "recovery", SERVER, TYPE_TIME, AT(recovery_ms), 0, 24 * HOUR, NULL, "0", 0, NULL, "how long a lost client may come back to its session; 0 = off; adds an argument to every event that asks for no acknowledgement" },
    { "cookie", SERVER, TYPE_COOKIE, AT(cookie), 0, CONFIG_TEXT_MAX - 1, "none", "none", 0, NULL, "name of the session cookie that polling gets" },
    { "origins", SERVER, TYPE_ORIGINS, AT(origins), 0, CONFIG_LONG_TEXT_MAX - 1, NULL, "same-host", 0, NULL, "browser origins let in: same-host, *, or comma-separated origins; a host that begins with *. stands for any one label" },
    { "cors_origin", SERVER, TYPE_ORIGINS, AT(cors_origin), 0, CONFIG_LONG_TEXT_MAX - 1, "follows origins", "follows origins", 0, NULL, "origins that get CORS headers; same-host: none are sent" },
    { "cors_credentials", SERVER, TYPE_BOOL, AT(cors_credentials), 0, 1, NULL, "no", 0, NULL, "cookies across origins; not with origins or cors_origin = *" },
    { "trusted_proxies", SERVER, TYPE_NETWORKS, AT(trusted_proxies), 0, CONFIG_PROXIES_MAX, "none", "none", 0, NULL, "whose X-Forwarded-For and X-Forwarded-Host count, and whose PROXY headers; unix: those that come by a UNIX socket" },
    { "proxy_protocol", SERVER, TYPE_WORD, AT(proxy_protocol), 0, 0, "off|on", "off", 0, NULL, "on: a connection of trusted_proxies (none: any) has to begin with a PROXY header, v1 or v2" },
    { "redis", SERVER, TYPE_REDIS, AT(redis), 0, 0, NULL, "none", KEY_SECRET, NULL, "redis://[user:pass@]host:port/db, rediss://…, unix:PATH; default $REDIS_URL" },
    { "redis_password_file", SERVER, TYPE_TEXT, AT(redis_password_file), 0, CONFIG_TEXT_MAX - 1, "none", "none", 0, NULL, "file whose first line is the password: a command line is visible to all" },
    { "redis_ca_file", SERVER, TYPE_TEXT, AT(redis_ca_file), 0, CONFIG_TEXT_MAX - 1, "none", "none", 0, NULL, "rediss: PEM file of the authorities to trust instead of the system's" },
    { "redis_cert_file", SERVER, TYPE_TEXT, AT(redis_cert_file), 0, CONFIG_TEXT_MAX - 1, "none", "none", 0, NULL, "rediss: PEM file of our certificate, for a Redis that asks for one (tls-auth-clients)" },
    { "redis_cert_key_file", SERVER, TYPE_TEXT, AT(redis_cert_key_file), 0, CONFIG_TEXT_MAX - 1, "none", "none", 0, NULL, "PEM file of the key to redis_cert_file" },
    { "redis_buffer_bytes", SERVER, TYPE_BYTES, AT(redis_buffer_bytes), 256 * KB, GB, NULL, "16M", 0, NULL, "messages that wait while Redis is away or slow; beyond it the oldest are dropped" },
    { "redis_buffer_age", SERVER, TYPE_TIME, AT(redis_buffer_age_ms), 10, HOUR, NULL, "5s", 0, NULL, "how long a message may wait for Redis; then it is dropped" },
    { "redis_key", SERVER, TYPE_PATTERN, AT(redis_key), 1, CONFIG_TEXT_MAX - 1, NULL, "socket.io", 0, NULL, "prefix of the adapter's channels" },
    { "redis_adapter", SERVER, TYPE_WORD, AT(redis_sharded), 0, 0, "pubsub|sharded", "pubsub", 0, NULL, "which adapter the Node servers use: createAdapter or createShardedAdapter (Redis 7, Redis Cluster)" },
    { "redis_subscription_mode", SERVER, TYPE_WORD, AT(redis_subscription_mode), 0, 0, "dynamic|static|dynamic-private", "dynamic", 0, NULL, "redis_adapter = sharded: as subscriptionMode of all Node servers: which rooms have a channel of their own" },
    { "redis_request_timeout", SERVER, TYPE_TIME, AT(redis_request_timeout_ms), 10, HOUR, NULL, "5s", 0, NULL, "time for answers to a cluster query" },
    { "redis_answer_max_bytes", SERVER, TYPE_BYTES, AT(redis_answer_max_bytes), 4 * KB, 256 * MB, NULL, "4M", 0, NULL, "a larger answer to a cluster query is cut at a whole entry" },
    { "redis_own_channel", SERVER, TYPE_BOOL, AT(redis_own_channel), 0, 1, NULL, "no", 0, NULL, "cluster queries are answered on the asker's own channel, not on all servers' (publishOnSpecificResponseChannel)" },
    { "fetch_handshake", SERVER, TYPE_WORD, AT(fetch_handshake), 0, 0, "minimal|full", "minimal", 0, NULL, "what is kept of a handshake and told to cluster queries" },
    { "ready_requires_redis", SERVER, TYPE_BOOL, AT(ready_requires_redis), 0, 1, NULL, "no", 0, NULL, "/readyz is 503 while Redis is away" },
    { "drain_grace", SERVER, TYPE_TIME, AT(drain_grace_ms), 0, HOUR, NULL, "10s", 0, NULL, "drain: how long new clients are still served" },
    { "drain_rate", SERVER, TYPE_COUNT, AT(drain_rate), 1, 1000000, "auto", "auto", 0, NULL, "drain: connections closed per second; auto = connections / (0.8 x drain_timeout), at least 100" },
    { "drain_timeout", SERVER, TYPE_TIME, AT(drain_timeout_ms), 100, 24 * HOUR, NULL, "60s", 0, NULL, "drain: then the rest is closed at once" },
    { "tls_cert", SERVER, TYPE_ABSENT, 0, 0, 0, 0, "none", "none", 0, "*", "TLS certificate file" },
    { "tls_key", SERVER, TYPE_ABSENT, 0, 0, 0, 0, "none", "none", 0, "*", "TLS key file" },
    { "tls_listen", SERVER, TYPE_ABSENT, 0, 0, 0, 0, "none", "none", 0, "*", "TLS listeners" },
    { "echo", SERVER, TYPE_BOOL, AT(echo), 0, 1, NULL, "no", 0, NULL, "GET /echo: a WebSocket that echoes, for tests" },
    { "demo", SERVER, TYPE_BOOL, AT(demo), 0, 1, NULL, "no", 0, NULL, "the page at / and its namespace /demo (relay, join yes, publish joined)" },
    { "client_files", SERVER, TYPE_TEXT, AT(client_files), 0, CONFIG_TEXT_MAX - 1, "none", "none", 0, NULL, "folder with the Socket.IO client bundles" },
    { "user", SERVER, TYPE_TEXT, AT(user), 0, CONFIG_TEXT_MAX - 1, "none", "none", 0, "*", "user to run as" },
    { "pid_file", SERVER, TYPE_TEXT, AT(pid_file), 0, CONFIG_TEXT_MAX - 1, "none", "none", 0, NULL, "file for the master's process id" },
    { "log_level", SERVER, TYPE_WORD, AT(log_level), 0, 0, "debug|info|warning|error", "info", 0, NULL, "the least that is logged" },
    { "log_format", SERVER, TYPE_WORD, AT(log_format), 0, 0, "text|json", "text", 0, NULL, "key=value lines or JSON" },

    { "app", NSP, TYPE_APP, AT_NSP(app), 0, 0, NULL, "none", 0, NULL, "none: clients only receive; relay; forward; module:PATH of a shared object" },
    { "client_join", NSP, TYPE_BOOL, AT_NSP(client_join), 0, 1, NULL, "no", 0, NULL, "relay: clients may join and leave rooms" },
    { "client_publish", NSP, TYPE_WORD, AT_NSP(client_publish), 0, 0, "none|joined|any", "none", 0, NULL, "relay: rooms that clients may publish to" },
    { "max_rooms_per_socket", NSP, TYPE_COUNT, AT_NSP(max_rooms_per_socket), 1, 4096, NULL, "64", 0, NULL, "rooms of one socket" },
    { "forward_timeout", NSP, TYPE_TIME, AT_NSP(forward_timeout_ms), 10, 120 * SECOND, NULL, "5s", 0, NULL, "forward: time for a back end's answer; less than connect_timeout" },

    { "client_join", SECTION_WS, TYPE_BOOL, AT_NSP(client_join), 0, 1, NULL, "no", 0, NULL, "plain WebSocket clients: any room; no = only those under public/" },
    { "client_publish", SECTION_WS, TYPE_WORD, AT_NSP(client_publish), 0, 0, "none|joined|any", "none", 0, NULL, "rooms that plain WebSocket clients may publish to" },
};
/* clang-format on */

const uint32_t config_n_keys = sizeof config_keys / sizeof config_keys[0];

_Static_assert(sizeof config_keys / sizeof config_keys[0] <= CONFIG_KEYS_MAX,
               "the table of where keys were set is too small");
_Static_assert(offsetof(struct config, transport_websocket) ==
                   offsetof(struct config, transport_polling) + 1,
               "`transports` is these two");

void config_problem(struct config_problems *problems, const char *format, ...)
{
    va_list ap;

    if (problems->n == CONFIG_PROBLEMS_MAX) {
        snprintf(problems->items[CONFIG_PROBLEMS_MAX - 1].text, sizeof problems->items[0].text,
                 "more problems follow");
        return;
    }
    va_start(ap, format);
    vsnprintf(problems->items[problems->n].text, sizeof problems->items[0].text, format, ap);
    va_end(ap);
    problems->n++;
}

/* --- names --- */

static char folded(char c)
{
    return c == '-' ? '_' : c;
}

const struct config_key *config_key_find(enum config_section section, const char *name)
{
    for (uint32_t i = 0; i < config_n_keys; i++) {
        const char *a = config_keys[i].name, *b = name;

        while (*a != '\0' && *a == folded(*b)) {
            a++;
            b++;
        }
        if (config_keys[i].section == section && *a == '\0' && *b == '\0')
            return &config_keys[i];
    }
    return NULL;
}

/* Levenshtein's distance, case and dashes apart. */
static uint32_t distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    size_t n_a = strlen(a), n_b = strlen(b);
    uint32_t row[LONGEST + 1];

    if (n_a > LONGEST || n_b > LONGEST)
        return UINT32_MAX;
    for (uint32_t j = 0; j <= n_b; j++)
        row[j] = j;
    for (uint32_t i = 1; i <= n_a; i++) {
        uint32_t corner = row[0];

        row[0] = i;
        for (uint32_t j = 1; j <= n_b; j++) {
            bool same = tolower((unsigned char)folded(a[i - 1])) ==
                        tolower((unsigned char)folded(b[j - 1]));
            uint32_t best = corner + !same;

            corner = row[j];
            best = best < row[j] + 1 ? best : row[j] + 1;
            row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
        }
    }
    return row[n_b];
}

const struct config_key *config_key_near(enum config_section section, const char *name)
{
    const struct config_key *near = NULL;
    uint32_t least = UINT32_MAX;

    for (uint32_t i = 0; i < config_n_keys; i++) {
        uint32_t d;

        if (config_keys[i].section != section)
            continue;
        d = distance(name, config_keys[i].name);
        if (d < least && d <= 1 + strlen(config_keys[i].name) / 6) {
            least = d;
            near = &config_keys[i];
        }
    }
    return near;
}

/* --- the reference --- */

static const char *const section_titles[SECTIONS] = { "[server]", "[namespace \"/NAME\"]", "[ws]" };

static void describe(FILE *to, bool markdown)
{
    for (int section = 0; section < SECTIONS; section++) {
        fprintf(to,
                markdown ? "\n`%s`\n\n| key | default | allowed | meaning |\n|---|---|---|---|\n"
                         : "\n%s\n",
                section_titles[section]);
        for (uint32_t i = 0; i < config_n_keys; i++) {
            const struct config_key *key = &config_keys[i];
            const char *lacks = key->missing == NULL     ? ""
                                : key->missing[0] == '*' ? " (not in this build)"
                                                         : " (not in this build: ";
            char limits[CONFIG_LIMITS_MAX];

            if ((int)key->section != section)
                continue;
            config_value_limits(key, limits, sizeof limits);
            fprintf(to, markdown ? "| `%s` | %s | " : "  %-27s %-18s ", key->name, key->initial);
            for (const char *p = limits; *p != '\0'; p++)
                fprintf(to, markdown && *p == '|' ? "\\%c" : "%c", *p);
            fprintf(to, markdown ? " | %s%s%s%s |\n" : "\n      %s%s%s%s\n", key->meaning, lacks,
                    lacks[0] != '\0' && key->missing[0] != '*' ? key->missing : "",
                    lacks[0] != '\0' && key->missing[0] != '*' ? ")" : "");
        }
    }
}

void config_describe(FILE *to)
{
    fprintf(
        to,
        "Configuration (key, default, allowed, meaning). Each key is a line KEY = VALUE in the "
        "file of --config, a flag\n"
        "--KEY=VALUE (with - or _), and, for [server], a variable PEAL_KEY in the environment; the "
        "flag wins, then the\n"
        "environment. Keys of other sections as --namespace:/NAME:KEY=VALUE and --ws:KEY=VALUE.\n"
        "Sizes are bytes or 1024-based K, M, G; times need ms, s, m or h; yes/no may be "
        "true/false, on/off, 1/0.\n");
    describe(to, false);
}

void config_describe_markdown(FILE *to)
{
    describe(to, true);
}

static void print_section(const void *base, enum config_section section, FILE *to)
{
    char text[CONFIG_VALUE_MAX];

    for (uint32_t i = 0; i < config_n_keys; i++) {
        if (config_keys[i].section != section)
            continue;
        config_value_text(&config_keys[i], base, text, sizeof text);
        fprintf(to, "%s = %s\n", config_keys[i].name, text);
    }
}

void config_print(const struct config *c, FILE *to)
{
    fprintf(to, "[server]\n");
    print_section(c, SECTION_SERVER, to);
    for (uint32_t i = 0; i < c->n_namespaces; i++) {
        fprintf(to, "\n[namespace \"%s%s\"]\n", c->namespaces[i].name,
                c->namespaces[i].is_prefix ? "*" : "");
        print_section(&c->namespaces[i], SECTION_NAMESPACE, to);
    }
    fprintf(to, "\n[ws]\n");
    print_section(&c->ws, SECTION_WS, to);
}
