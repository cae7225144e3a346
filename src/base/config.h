/* config.h: what the operator asked for, as one flat value without pointers: the master parses it,
 * puts it into the shared region, and every child reads it there. Names, defaults and meanings are
 * those of README's configuration reference. */
#ifndef PEAL_BASE_CONFIG_H
#define PEAL_BASE_CONFIG_H

#include <stdio.h>

#include "base/address.h"

#define CONFIG_TEXT_MAX       256  /* bytes of one text value, its end included */
#define CONFIG_LONG_TEXT_MAX  2048 /* lists of origins, listeners */
#define CONFIG_LISTEN_MAX     8
#define CONFIG_PROXIES_MAX    64
#define CONFIG_NAMESPACES_MAX 64
#define CONFIG_WORKERS_MAX    62
#define CONFIG_PERCENT \
    (1ull << 63) /* in a number of bytes, before config_resolve: so many percent of the memory */

enum config_balance { BALANCE_LEASTCONN = 0, BALANCE_REUSEPORT, BALANCE_IPHASH };
enum config_slow_consumer { SLOW_CLOSE = 0, SLOW_DROP };
enum config_publish { PUBLISH_NONE = 0, PUBLISH_JOINED, PUBLISH_ANY };
enum config_app { APP_NONE = 0, APP_RELAY, APP_FORWARD, APP_MODULE };
enum config_fetch_handshake { FETCH_MINIMAL = 0, FETCH_FULL };
enum config_affinity { AFFINITY_AUTO = 0, AFFINITY_OFF, AFFINITY_LIST };

struct config_listen {
    bool is_unix;
    /* Numeric address, or the path of a UNIX socket; "" = [::] dual stack, else 0.0.0.0. */
    char host[CONFIG_TEXT_MAX];
    uint16_t port; /* 0 = any free port */
};

struct config_namespace {
    char name[CONFIG_TEXT_MAX]; /* with its slash, without the star */
    bool is_prefix;             /* "/name*" */
    uint8_t app;                /* enum config_app */
    bool client_join;
    uint8_t client_publish; /* enum config_publish */
    uint32_t max_rooms_per_socket;
    uint32_t forward_timeout_ms;
    char module_path[CONFIG_TEXT_MAX];
};

struct config_redis {
    bool enabled;
    bool is_unix;
    bool tls;
    char host[CONFIG_TEXT_MAX]; /* or the path */
    uint16_t port;
    uint32_t db;
    char user[CONFIG_TEXT_MAX];
    char password[CONFIG_TEXT_MAX];
};

struct config {
    struct config_listen listen[CONFIG_LISTEN_MAX];
    uint32_t n_listen;
    struct config_listen admin_listen;
    char path[CONFIG_TEXT_MAX]; /* begins and ends with a slash */
    bool transport_polling;
    bool transport_websocket;
    char admin_token
        [CONFIG_TEXT_MAX]; /* "" = none (content of admin_token_file, if that was given) */
    char admin_token_file[CONFIG_TEXT_MAX];
    bool health;
    uint32_t workers;
    uint8_t cpu_affinity; /* enum config_affinity */
    uint16_t cpu_list[CONFIG_WORKERS_MAX];
    uint32_t n_cpu_list;
    uint8_t balance; /* enum config_balance */

    uint32_t max_connections;            /* 0 = what the host allows */
    uint32_t max_connections_per_worker; /* 0 = what the host allows */
    uint32_t max_connections_per_ip;     /* 0 = off */
    uint32_t max_pending;
    uint32_t accept_rate; /* 0 = off */

    uint32_t max_message_bytes;
    uint32_t event_bytes_max;
    /* config_resolve turns CONFIG_PERCENT | n into bytes; outq_bytes_total alike. */
    uint64_t inbound_bytes_total;
    uint32_t message_timeout_ms;
    uint32_t message_rate;
    uint32_t message_burst;
    uint32_t ping_interval_ms;
    uint32_t ping_timeout_ms;
    uint32_t connect_timeout_ms;
    uint32_t upgrade_timeout_ms;
    uint32_t header_timeout_ms;

    uint64_t ring_bytes; /* a power of two */
    uint32_t outq_items_max;
    uint32_t outq_bytes_max;
    uint32_t outq_soft_bytes;
    uint64_t outq_bytes_total;
    uint8_t slow_consumer; /* enum config_slow_consumer */

    bool deflate;
    uint32_t deflate_threshold_bytes;
    uint32_t http_compression_bytes;
    uint32_t recovery_ms;
    char cookie[CONFIG_TEXT_MAX];
    char origins[CONFIG_LONG_TEXT_MAX];
    char cors_origin[CONFIG_LONG_TEXT_MAX];
    bool cors_credentials;
    struct address_network trusted_proxies[CONFIG_PROXIES_MAX];
    uint32_t n_trusted_proxies;
    bool proxy_protocol;

    struct config_redis redis;
    char redis_password_file
        [CONFIG_TEXT_MAX]; /* config_load has put its first line into redis.password */
    char redis_ca_file[CONFIG_TEXT_MAX];
    char redis_cert_file[CONFIG_TEXT_MAX];
    char redis_cert_key_file[CONFIG_TEXT_MAX];
    uint64_t redis_buffer_bytes;
    uint32_t redis_buffer_age_ms;
    char redis_key[CONFIG_TEXT_MAX];
    bool redis_sharded;
    uint32_t redis_request_timeout_ms;
    uint32_t redis_answer_max_bytes;
    bool redis_own_channel;
    uint8_t fetch_handshake; /* enum config_fetch_handshake */
    bool ready_requires_redis;

    uint32_t drain_grace_ms;
    uint32_t drain_rate; /* 0 = auto */
    uint32_t drain_timeout_ms;

    bool echo;
    bool demo;
    char client_files[CONFIG_TEXT_MAX];
    char user[CONFIG_TEXT_MAX];
    char pid_file[CONFIG_TEXT_MAX];
    uint8_t log_level;  /* enum log_level */
    uint8_t log_format; /* enum log_format */

    struct config_namespace namespaces[CONFIG_NAMESPACES_MAX]; /* "/" always; "/demo" if demo */
    uint32_t n_namespaces;
    struct config_namespace ws; /* section [ws]: name "/ws" */
};

/* One thing that is wrong, in one line: "FILE:LINE: KEY = VALUE: what is allowed"; in place of
 * FILE:LINE the flag as given ("--workers"), the variable ("PEAL_WORKERS", "REDIS_URL"), or
 * "default". What this build lacks is "FILE:LINE: KEY: not in this build (…)". */
struct config_problem {
    char text[1024];
};

#define CONFIG_PROBLEMS_MAX 64
struct config_problems {
    struct config_problem items[CONFIG_PROBLEMS_MAX];
    uint32_t n;
};

void config_defaults(struct config *c);

/* Reads REDIS_URL, file (NULL: none), environment (PEAL_KEY) and flags (--key=value, argv without
 * the program and subcommand; --config is passed over) in this order of rising priority, then
 * checks the whole and resolves it for this host. False: `problems` says why, each with file and
 * line, key, value, and what is allowed, and `c` is not to be used. `c` needs no initialisation.
 * Secrets never show up in a problem's text. `environment` may be NULL. A PEAL_ variable that is no
 * key is an error only if it looks like a misspelt one: a Kubernetes service named "peal" puts
 * PEAL_PORT and others into the environment. */
MUST_USE bool config_load(struct config *c, const char *file, int n_args, char *const args[],
                          char *const environment[], struct config_problems *problems);

/* The operand of --config among the arguments (`--config FILE` or `--config=FILE`), or NULL. */
const char *config_file_of(int n_args, char *const args[]);

/* Fills in what depends on the host: workers, percentages of memory, limits from RLIMIT_NOFILE.
 * Called by config_load; for tests apart. */
struct config_host {
    uint32_t n_cpus;
    uint64_t memory_bytes; /* the smaller of RAM and the cgroup's limit */
    uint64_t nofile;       /* RLIMIT_NOFILE, hard */
};
void config_host_read(struct config_host *host);
MUST_USE bool config_resolve(struct config *c, const struct config_host *host,
                             struct config_problems *problems);

/* The reference of all keys (key, default, limits, meaning, whether this build has it), as text or
 * as Markdown for the README. */
void config_describe(FILE *to);
void config_describe_markdown(FILE *to);

/* The effective values as a configuration file; secrets are masked. */
void config_print(const struct config *c, FILE *to);

/* The namespace section for a name (exact before prefix, the longest prefix first), or NULL:
 * "Invalid namespace". Never "/ws". */
const struct config_namespace *config_namespace_find(const struct config *c, struct slice name);

#endif
