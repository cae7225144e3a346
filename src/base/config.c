/* config.c: defaults, what has to hold between keys, and what the host adds.
 *
 * Invariant: after config_load no number means "whatever the host has": workers, connection limits
 *            and shares of memory are resolved, and outq_bytes_max >= event_bytes_max >=
 *            max_message_bytes, event_bytes_max <= ring_bytes/4 - 64K. */
#include "base/config.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/client_files.h"
#include "base/config_keys.h"
#include "peal/limits.h"

/* Every process has the inbox and the doorbell of every slot, and a reserve that keeps accept,
 * admin and hand-over alive. */
#define FDS_KEPT  (FD_RESERVE + 2 * PEAL_SLOTS_ALL)
#define FDS_LEAST (FDS_KEPT + 64)

/* An idle client, kernel and user space: what max_connections = 0 reckons with. */
#define CLIENT_BYTES      4096u
#define CONNECTIONS_LEAST 1000u
#define CONNECTIONS_MAX   ((1u << SESSION_INDEX_BITS) - 1)

static void set_defaults(enum config_section section, void *base)
{
    char why[CONFIG_WHY_MAX];

    for (uint32_t i = 0; i < config_n_keys; i++) {
        if (config_keys[i].section == section &&
            !config_value_parse(&config_keys[i], base, config_keys[i].initial, why)) {
            fprintf(stderr, "%s: %s\n", config_keys[i].name, why);
            abort(); /* the table is wrong */
        }
    }
}

void config_namespace_defaults(struct config_namespace *n, const char *name, bool is_prefix)
{
    memset(n, 0, sizeof *n);
    set_defaults(SECTION_NAMESPACE, n);
    assert(strlen(name) < sizeof n->name);
    snprintf(n->name, sizeof n->name, "%s", name);
    n->is_prefix = is_prefix;
}

void config_defaults(struct config *c)
{
    memset(c, 0, sizeof *c);
    set_defaults(SECTION_SERVER, c);
    config_namespace_defaults(&c->namespaces[0], "/", false);
    c->n_namespaces = 1;
    config_namespace_defaults(&c->ws, "/ws", false);
    set_defaults(SECTION_WS, &c->ws);
}

/* --- between keys --- */

/* "FILE:12: KEY = VALUE", "--KEY: KEY = VALUE", "PEAL_KEY: KEY = VALUE" or "default: KEY = VALUE",
 * wherever the value in force is from. */
static const char *place(const struct config_loader *l, uint32_t instance, const char *name,
                         char text[CONFIG_WHY_MAX])
{
    bool is_server = instance == CONFIG_INSTANCE_SERVER;
    const struct config_namespace *n = is_server ? NULL
                                       : instance == CONFIG_INSTANCE_WS
                                           ? &l->c->ws
                                           : &l->c->namespaces[instance];
    const struct config_key *key =
        config_key_find(is_server                        ? SECTION_SERVER
                        : instance == CONFIG_INSTANCE_WS ? SECTION_WS
                                                         : SECTION_NAMESPACE,
                        name);
    char value[64];
    int used;

    assert(key != NULL);
    config_value_text(key, is_server ? (const void *)l->c : n, value, sizeof value);
    if (l->seen[SOURCE_FLAG][instance][key - config_keys] != 0)
        used = snprintf(text, CONFIG_WHY_MAX, "--%s%.60s%s%s%s",
                        is_server        ? ""
                        : n == &l->c->ws ? "ws"
                                         : "namespace:",
                        is_server || n == &l->c->ws ? "" : n->name,
                        !is_server && n->is_prefix ? "*" : "", is_server ? "" : ":", name);
    else if (l->seen[SOURCE_ENVIRONMENT][instance][key - config_keys] != 0)
        used = snprintf(text, CONFIG_WHY_MAX, "PEAL_%s", name);
    else if (l->seen[SOURCE_FILE][instance][key - config_keys] != 0)
        used = snprintf(text, CONFIG_WHY_MAX, "%.200s:%u", l->file,
                        l->seen[SOURCE_FILE][instance][key - config_keys]);
    else
        used = snprintf(text, CONFIG_WHY_MAX, "default");
    if (strncmp(text, "PEAL_", 5) == 0) {
        for (char *p = text; *p != '\0'; p++)
            *p = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
    }
    snprintf(text + used, (size_t)(CONFIG_WHY_MAX - used), ": %s = %s", name, value);
    return text;
}

static void check_sizes(const struct config_loader *l)
{
    const struct config *c = l->c;
    const uint64_t event_most = c->ring_bytes / 4 - 65536;
    char a[CONFIG_WHY_MAX], b[CONFIG_WHY_MAX];

    if (c->event_bytes_max > event_most) {
        uint64_t ring = RING_BYTES_MIN;

        while (ring / 4 - 65536 < c->event_bytes_max)
            ring *= 2;
        config_problem(
            l->problems,
            "%s: at most ring_bytes/4 less 64K = %lluK (%s); or set ring_bytes to %lluM or more",
            place(l, CONFIG_INSTANCE_SERVER, "event_bytes_max", a),
            (unsigned long long)(event_most / 1024),
            place(l, CONFIG_INSTANCE_SERVER, "ring_bytes", b), (unsigned long long)(ring >> 20));
    }
    if (c->outq_bytes_max < c->event_bytes_max)
        config_problem(
            l->problems,
            "%s: at least event_bytes_max (%s), or no client could be sent such an event",
            place(l, CONFIG_INSTANCE_SERVER, "outq_bytes_max", a),
            place(l, CONFIG_INSTANCE_SERVER, "event_bytes_max", b));
    if (c->max_message_bytes > c->event_bytes_max)
        config_problem(l->problems, "%s: at most event_bytes_max (%s)",
                       place(l, CONFIG_INSTANCE_SERVER, "max_message_bytes", a),
                       place(l, CONFIG_INSTANCE_SERVER, "event_bytes_max", b));
    if (c->outq_soft_bytes > c->outq_bytes_max)
        config_problem(l->problems, "%s: at most outq_bytes_max (%s)",
                       place(l, CONFIG_INSTANCE_SERVER, "outq_soft", a),
                       place(l, CONFIG_INSTANCE_SERVER, "outq_bytes_max", b));
}

static void check_cors(const struct config_loader *l)
{
    const struct config *c = l->c;
    char a[CONFIG_WHY_MAX], b[CONFIG_WHY_MAX];

    if (!c->cors_credentials)
        return;
    if (strcmp(c->origins, "*") == 0)
        config_problem(
            l->problems,
            "%s: not with origins = * (%s): any site could act with the cookies of a visitor",
            place(l, CONFIG_INSTANCE_SERVER, "cors_credentials", a),
            place(l, CONFIG_INSTANCE_SERVER, "origins", b));
    else if (strcmp(c->cors_origin, "*") == 0)
        config_problem(l->problems,
                       "%s: not with cors_origin = * (%s): browsers take no cookies with it",
                       place(l, CONFIG_INSTANCE_SERVER, "cors_credentials", a),
                       place(l, CONFIG_INSTANCE_SERVER, "cors_origin", b));
}

/* The workers load them; here it is only seen to that they can. */
static void check_client_files(const struct config_loader *l)
{
    char a[CONFIG_WHY_MAX], why[CONFIG_WHY_MAX];
    uint32_t n_bytes;

    for (uint32_t i = 0; l->c->client_files[0] != '\0' && i < CLIENT_FILES; i++) {
        int fd = client_file_open(l->c->client_files, i, &n_bytes, why, sizeof why);

        if (fd < 0) {
            config_problem(l->problems, "%s: %s (`make client` fills such a folder)",
                           place(l, CONFIG_INSTANCE_SERVER, "client_files", a), why);
            return;
        }
        (void)close(fd); /* nothing was read from it */
    }
}

/* Whoever reads them is not there yet; here it is only seen to that it can. */
static void check_redis_files(const struct config_loader *l)
{
    const struct config *c = l->c;
    const struct {
        const char *key, *path;
    } files[] = { { "redis_ca_file", c->redis_ca_file },
                  { "redis_cert_file", c->redis_cert_file },
                  { "redis_cert_key_file", c->redis_cert_key_file } };
    char a[CONFIG_WHY_MAX];

    for (uint32_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (files[i].path[0] == '\0')
            continue;
        if (!c->redis.tls)
            config_problem(l->problems, "%s: only with redis = rediss://…",
                           place(l, CONFIG_INSTANCE_SERVER, files[i].key, a));
        else if (access(files[i].path, R_OK) < 0)
            config_problem(l->problems, "%s: cannot be read: %s",
                           place(l, CONFIG_INSTANCE_SERVER, files[i].key, a), strerror(errno));
    }
    if ((c->redis_cert_file[0] == '\0') != (c->redis_cert_key_file[0] == '\0'))
        config_problem(
            l->problems, "%s: a certificate needs its key, and a key its certificate",
            place(l, CONFIG_INSTANCE_SERVER,
                  c->redis_cert_file[0] == '\0' ? "redis_cert_key_file" : "redis_cert_file", a));
}

void config_check(const struct config_loader *l)
{
    const struct config *c = l->c;
    char a[CONFIG_WHY_MAX], b[CONFIG_WHY_MAX];

    check_sizes(l);
    check_cors(l);
    check_client_files(l);
    check_redis_files(l);
    for (uint32_t i = 0; i < c->n_listen; i++) {
        if (c->listen[i].is_unix == c->admin_listen.is_unix &&
            strcmp(c->listen[i].host, c->admin_listen.host) == 0 &&
            (c->admin_listen.is_unix ||
             (c->listen[i].port == c->admin_listen.port && c->admin_listen.port != 0)))
            config_problem(
                l->problems,
                "%s: also in listen (%s); clients and administration need listeners of their own",
                place(l, CONFIG_INSTANCE_SERVER, "admin_listen", a),
                place(l, CONFIG_INSTANCE_SERVER, "listen", b));
    }
    for (uint32_t i = 0; i < c->n_namespaces; i++) {
        const struct config_namespace *n = &c->namespaces[i];

        if (n->app != APP_RELAY && (n->client_join || n->client_publish != PUBLISH_NONE))
            config_problem(l->problems, "%s: namespace \"%.100s%s\": only with app = relay",
                           place(l, i, n->client_join ? "client_join" : "client_publish", a),
                           n->name, n->is_prefix ? "*" : "");
    }
}

/* --- the host --- */

/* A number out of a file of one line, or UINT64_MAX (no such file, "max"). */
static uint64_t read_limit(const char *path)
{
    FILE *f = fopen(path, "re");
    unsigned long long n = UINT64_MAX;

    if (f != NULL) {
        char line[64];

        if (fgets(line, sizeof line, f) != NULL && line[0] >= '0' && line[0] <= '9')
            n = strtoull(line, NULL, 10);
        (void)fclose(f); /* only read from */
    }
    return n;
}

/* The smallest limit of the group and those above it: a container may see its own group's path, or
 * only the root. */
static uint64_t group_limit(const char *root, const char *group, const char *name)
{
    uint64_t least = UINT64_MAX;
    char path[1024], file[1200];

    snprintf(path, sizeof path, "%s", group);
    for (;;) {
        uint64_t limit;
        char *slash;

        snprintf(file, sizeof file, "%s%s/%s", root, path, name);
        limit = read_limit(file);
        least = limit < least ? limit : least;
        slash = strrchr(path, '/');
        if (slash == NULL)
            return least;
        *slash = '\0';
    }
}

/* The memory limit of our control group, v1 or v2. `proc` is /proc/self/cgroup, `mount`
 * /sys/fs/cgroup. */
static uint64_t cgroup_memory(const char *proc, const char *mount)
{
    FILE *f = fopen(proc, "re");
    uint64_t least = UINT64_MAX;
    char line[1024], root[256];

    if (f == NULL)
        return least;
    while (fgets(line, sizeof line, f) !=
           NULL) { /* "0::/path" or "7:memory:/path" or "7:cpu,memory:/path" */
        char *controllers = strchr(line, ':'),
             *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        uint64_t limit = UINT64_MAX;

        if (group == NULL)
            continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        if (controllers[1] == '\0') {
            limit = group_limit(mount, group, "memory.max");
        } else if (strstr(controllers + 1, "memory") != NULL) {
            snprintf(root, sizeof root, "%.200s/memory", mount);
            limit = group_limit(root, group, "memory.limit_in_bytes");
        }
        least = limit < least ? limit : least;
    }
    (void)fclose(f); /* only read from */
    return least;
}

void config_host_read(struct config_host *host)
{
    uint64_t limit = cgroup_memory("/proc/self/cgroup", "/sys/fs/cgroup");
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    struct rlimit files;
    cpu_set_t cpus;

    host->n_cpus = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (uint32_t)CPU_COUNT(&cpus) : 1;
    host->memory_bytes =
        pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 1ull << 30;
    if (limit < host->memory_bytes)
        host->memory_bytes = limit;
    host->nofile = getrlimit(RLIMIT_NOFILE, &files) == 0
                       ? files.rlim_max
                       : 1024; /* RLIM_INFINITY is a large number */
}

static uint64_t share_of(uint64_t bytes, uint64_t memory_bytes)
{
    return (bytes & CONFIG_PERCENT) != 0 ? memory_bytes / 100 * (bytes & ~CONFIG_PERCENT) : bytes;
}

static uint32_t least_of(uint64_t a, uint64_t b)
{
    uint64_t least = a < b ? a : b;

    return (uint32_t)(least < CONNECTIONS_MAX ? least : CONNECTIONS_MAX);
}

bool config_resolve(struct config *c, const struct config_host *host,
                    struct config_problems *problems)
{
    uint32_t before = problems->n, room;

    if (c->workers == 0)
        c->workers = host->n_cpus == 0                   ? 1
                     : host->n_cpus < CONFIG_WORKERS_MAX ? host->n_cpus
                                                         : CONFIG_WORKERS_MAX;
    c->inbound_bytes_total = share_of(c->inbound_bytes_total, host->memory_bytes);
    c->outq_bytes_total = share_of(c->outq_bytes_total, host->memory_bytes);
    if (host->nofile < FDS_LEAST) {
        config_problem(problems,
                       "RLIMIT_NOFILE (hard) = %llu: at least %u; raise it (ulimit -Hn, or "
                       "LimitNOFILE of the service)",
                       (unsigned long long)host->nofile, FDS_LEAST);
        return false;
    }
    room = least_of(host->nofile - FDS_KEPT, CONNECTIONS_MAX);
    if (c->max_pending > room / 2)
        c->max_pending = room / 2; /* so that clients have the larger part of few descriptors */
    room -= c->max_pending;

    if (c->max_connections_per_worker > room)
        config_problem(problems,
                       "max_connections_per_worker = %u: RLIMIT_NOFILE (hard) = %llu leaves %u per "
                       "worker; raise it (ulimit -Hn, or LimitNOFILE "
                       "of the service)",
                       c->max_connections_per_worker, (unsigned long long)host->nofile, room);
    if (c->max_connections > (uint64_t)room * c->workers)
        config_problem(problems,
                       "max_connections = %u: RLIMIT_NOFILE (hard) = %llu leaves %u for each of %u "
                       "workers; raise it (ulimit -Hn, or "
                       "LimitNOFILE of the service)",
                       c->max_connections, (unsigned long long)host->nofile, room, c->workers);
    if (problems->n > before)
        return false;
    if (c->max_connections == 0) {
        uint64_t by_memory = host->memory_bytes / CLIENT_BYTES;

        by_memory = by_memory > CONNECTIONS_LEAST ? by_memory : CONNECTIONS_LEAST;
        c->max_connections =
            c->max_connections_per_worker != 0
                ? least_of((uint64_t)c->max_connections_per_worker * c->workers, CONNECTIONS_MAX)
                : least_of((uint64_t)room * c->workers, by_memory);
    }
    if (c->max_connections_per_worker == 0)
        c->max_connections_per_worker = least_of(room, c->max_connections);
    return true;
}

/* --- look-up --- */

const struct config_namespace *config_namespace_find(const struct config *c, struct slice name)
{
    const struct config_namespace *best = NULL;
    size_t best_bytes = 0;

    if (slice_is(name, "/ws"))
        return NULL;
    for (uint32_t i = 0; i < c->n_namespaces; i++) {
        const struct config_namespace *n = &c->namespaces[i];
        size_t n_bytes = strlen(n->name);

        if (n_bytes > name.n_bytes || memcmp(n->name, name.bytes, n_bytes) != 0)
            continue;
        if (!n->is_prefix && n_bytes == name.n_bytes)
            return n;
        if (n->is_prefix && (best == NULL || n_bytes > best_bytes)) {
            best = n;
            best_bytes = n_bytes;
        }
    }
    return best;
}
