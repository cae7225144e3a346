/* config_load.c: the sources in order of rising priority (file, PEAL_KEY, flags; REDIS_URL where
 * none of them sets `redis`), one config_set per value.
 *
 * Invariant: a key is set at most once per source; a later source overwrites an earlier one;
 *            nothing of a value that was refused is used, since any problem refuses the whole.
 * Never:     shows the value of a secret key, or of a name that is no key: it may be a misspelt
 *            secret. */
#include "base/config_keys.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "peal/limits.h"

#define SHOWN_BYTES 200

/* A value for a message: cut, controls replaced, or hidden. */
static const char *shown(const struct config_key *key, const char *value,
                         char text[SHOWN_BYTES + 8])
{
    if ((key->flags & KEY_SECRET) != 0)
        return "(hidden)";
    snprintf(text, SHOWN_BYTES + 1, "%s", value);
    for (char *p = text; *p != '\0'; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    }
    if (strlen(value) > SHOWN_BYTES)
        memcpy(text + SHOWN_BYTES, "...", 4);
    return text;
}

static void *base_of(struct config *c, uint32_t instance)
{
    if (instance == CONFIG_INSTANCE_SERVER)
        return c;
    return instance == CONFIG_INSTANCE_WS ? &c->ws : &c->namespaces[instance];
}

static enum config_section section_of(uint32_t instance)
{
    return instance == CONFIG_INSTANCE_SERVER ? SECTION_SERVER
           : instance == CONFIG_INSTANCE_WS   ? SECTION_WS
                                              : SECTION_NAMESPACE;
}

static void report_unknown(struct config_loader *l, const char *where, enum config_section section,
                           const char *name)
{
    static const char *const titles[] = { "[server]", "a [namespace]", "[ws]" };
    const struct config_key *near = config_key_near(section, name);

    if (near != NULL) {
        config_problem(l->problems, "%s: %.64s: no such key; did you mean %s?", where, name,
                       near->name);
        return;
    }
    for (int other = 0; other < SECTIONS; other++) {
        if (config_key_find((enum config_section)other, name) != NULL) {
            config_problem(l->problems, "%s: %.64s: no key of %s; it belongs into %s", where, name,
                           titles[section], titles[other]);
            return;
        }
    }
    config_problem(l->problems, "%s: %.64s: no such key (peal --help lists them)", where, name);
}

void config_set(struct config_loader *l, enum config_source source, uint32_t line,
                const char *where, uint32_t instance, const char *name, const char *value)
{
    const struct config_key *key = config_key_find(section_of(instance), name);
    char text[SHOWN_BYTES + 8], why[CONFIG_WHY_MAX];
    uint32_t *seen;

    if (key == NULL) {
        report_unknown(l, where, section_of(instance), name);
        return;
    }
    seen = &l->seen[source][instance][key - config_keys];
    if (*seen != 0 && source == SOURCE_FILE) {
        config_problem(l->problems, "%s: %s: set before in line %u", where, key->name, *seen);
        return;
    }
    if (*seen != 0) {
        config_problem(l->problems, "%s: %s: given twice", where, key->name);
        return;
    }
    *seen = line;
    for (const char *p = value; *p != '\0'; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f) {
            config_problem(l->problems, "%s: %s = %s: control characters are not possible", where,
                           key->name, shown(key, value, text));
            return;
        }
    }
    if (strlen(value) >= CONFIG_VALUE_MAX)
        config_problem(l->problems, "%s: %s: at most %u bytes", where, key->name,
                       CONFIG_VALUE_MAX - 1);
    else if (!config_value_parse(key, base_of(l->c, instance), value, why))
        config_problem(l->problems, "%s: %s = %s: %s", where, key->name, shown(key, value, text),
                       why);
    else if (config_value_missing(key, base_of(l->c, instance), value))
        config_problem(l->problems, "%s: %s: not in this build (%s = %s; the default is %s)", where,
                       key->name, key->name, shown(key, value, text), key->initial);
}

/* --- namespaces --- */

/* The name without its star, or false (reported). */
static bool namespace_name(struct config_loader *l, const char *where, const char *text,
                           char name[CONFIG_TEXT_MAX], bool *is_prefix)
{
    size_t n = strlen(text);

    *is_prefix = n > 1 && text[n - 1] == '*';
    n -= *is_prefix;
    if (text[0] != '/' || n >= CONFIG_TEXT_MAX || n > NAME_BYTES_MAX) {
        config_problem(l->problems,
                       "%s: namespace \"%.100s\": a name begins with / and has at most %d bytes",
                       where, text, NAME_BYTES_MAX);
        return false;
    }
    memcpy(name, text, n);
    name[n] = '\0';
    for (const char *p = name; *p != '\0'; p++) {
        if ((unsigned char)*p <= ' ' || *p == 0x7f || strchr(",?\"*", *p) != NULL) {
            config_problem(l->problems,
                           "%s: namespace \"%.100s\": no spaces, controls, commas, quotes, ? and, "
                           "but at the end, *",
                           where, text);
            return false;
        }
    }
    if (strcmp(name, "/ws") == 0 && !*is_prefix) {
        config_problem(
            l->problems,
            "%s: namespace \"/ws\": taken by plain WebSocket clients; their section is [ws]",
            where);
        return false;
    }
    return true;
}

static struct config_namespace *namespace_add(struct config *c, const char *name, bool is_prefix)
{
    struct config_namespace *n;

    if (c->n_namespaces == CONFIG_NAMESPACES_MAX)
        return NULL;
    n = &c->namespaces[c->n_namespaces++];
    config_namespace_defaults(n, name, is_prefix);
    return n;
}

uint32_t config_instance(struct config_loader *l, const char *where, const char *text)
{
    char name[CONFIG_TEXT_MAX];
    bool is_prefix;

    if (!namespace_name(l, where, text, name, &is_prefix))
        return CONFIG_INSTANCES;
    for (uint32_t i = 0; i < l->c->n_namespaces; i++) {
        if (strcmp(l->c->namespaces[i].name, name) == 0 &&
            l->c->namespaces[i].is_prefix == is_prefix)
            return i;
    }
    if (namespace_add(l->c, name, is_prefix) == NULL) {
        config_problem(l->problems, "%s: namespace \"%.100s\": at most %d namespaces", where, text,
                       CONFIG_NAMESPACES_MAX);
        return CONFIG_INSTANCES;
    }
    return l->c->n_namespaces - 1;
}

static void add_demo(struct config_loader *l)
{
    struct config_namespace *n;

    for (uint32_t i = 0; i < l->c->n_namespaces; i++) {
        if (strcmp(l->c->namespaces[i].name, "/demo") == 0 && !l->c->namespaces[i].is_prefix)
            return; /* the operator's own */
    }
    n = namespace_add(l->c, "/demo", false);
    if (n == NULL) {
        config_problem(l->problems,
                       "demo = yes: no room for the namespace /demo: at most %d namespaces",
                       CONFIG_NAMESPACES_MAX);
        return;
    }
    n->app = APP_RELAY;
    n->client_join = true;
    n->client_publish = PUBLISH_JOINED;
}

/* --- environment and flags --- */

static void load_environment(struct config_loader *l, char *const environment[])
{
    for (uint32_t i = 0; environment[i] != NULL; i++) {
        static const char *const others[] = { "PEAL_RUNG", "PEAL_INDEX", "PEAL_COUNT" };
        const char *equals = strchr(environment[i], '=');
        size_t n = equals != NULL ? (size_t)(equals - environment[i]) : 0;
        char where[64], name[64];
        bool is_other = false;

        if (n <= 5 || n >= sizeof where || strncmp(environment[i], "PEAL_", 5) != 0)
            continue;
        snprintf(where, sizeof where, "%.*s", (int)n, environment[i]);
        for (uint32_t k = 0; k < sizeof others / sizeof others[0]; k++)
            is_other = is_other || strcmp(where, others[k]) == 0;
        for (size_t k = 5; k <= n; k++)
            name[k - 5] = (char)(where[k] >= 'A' && where[k] <= 'Z' ? where[k] + 32 : where[k]);
        if (is_other || (config_key_find(SECTION_SERVER, name) == NULL &&
                         config_key_near(SECTION_SERVER, name) == NULL))
            continue;
        config_set(l, SOURCE_ENVIRONMENT, i + 1, where, CONFIG_INSTANCE_SERVER, name, equals + 1);
    }
}

/* --KEY=VALUE, --ws:KEY=VALUE, --namespace:/NAME:KEY=VALUE */
static void load_flag(struct config_loader *l, uint32_t number, const char *flag)
{
    const char *equals = strchr(flag, '='), *name = flag + 2, *colon;
    char where[CONFIG_TEXT_MAX + 128], nsp[CONFIG_TEXT_MAX + 2];
    uint32_t instance = CONFIG_INSTANCE_SERVER;

    if (strncmp(flag, "--", 2) != 0 || flag[2] == '\0' || flag[2] == '=') {
        config_problem(l->problems, "argument %u: not understood; flags are --KEY=VALUE", number);
        return;
    }
    if (equals == NULL) {
        config_problem(l->problems, "%.64s: a value is missing: --KEY=VALUE", flag);
        return;
    }
    if ((size_t)(equals - flag) >= sizeof where) {
        config_problem(l->problems, "%.64s: no such key", flag);
        return;
    }
    snprintf(where, sizeof where, "%.*s", (int)(equals - flag), flag);
    colon = strrchr(where, ':');
    if (strncmp(name, "ws:", 3) == 0) {
        instance = CONFIG_INSTANCE_WS;
        name = where + 5;
    } else if (strncmp(name, "namespace:", 10) == 0) {
        if (colon < where + 12 || colon - (where + 12) >= (ptrdiff_t)sizeof nsp) {
            config_problem(l->problems, "%.64s: not understood; --namespace:/NAME:KEY=VALUE",
                           where);
            return;
        }
        snprintf(nsp, sizeof nsp, "%.*s", (int)(colon - (where + 12)), where + 12);
        instance = config_instance(l, where, nsp);
        name = colon + 1;
    } else {
        name = where + 2;
    }
    if (instance != CONFIG_INSTANCES)
        config_set(l, SOURCE_FLAG, number, where, instance, name, equals + 1);
}

const char *config_file_of(int n_args, char *const args[])
{
    for (int i = 0; i < n_args; i++) {
        if (strncmp(args[i], "--config=", 9) == 0)
            return args[i] + 9;
        if (strcmp(args[i], "--config") == 0)
            return i + 1 < n_args ? args[i + 1] : NULL;
    }
    return NULL;
}

static void load_flags(struct config_loader *l, int n_args, char *const args[])
{
    uint32_t n_config = 0;

    for (int i = 0; i < n_args; i++) {
        if (strncmp(args[i], "--config=", 9) != 0 && strcmp(args[i], "--config") != 0) {
            load_flag(l, (uint32_t)i + 1, args[i]);
            continue;
        }
        if (++n_config > 1)
            config_problem(l->problems, "--config: given twice");
        if (args[i][8] == '\0' && ++i == n_args)
            config_problem(l->problems, "--config: the name of a file is missing");
    }
}

/* --- the whole --- */

/* The first line of a file with a secret. */
static bool read_secret(struct config_loader *l, const char *key, const char *path,
                        char to[CONFIG_TEXT_MAX])
{
    char text[CONFIG_TEXT_MAX + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    int error = errno;
    size_t n_line;

    if (fd >= 0)
        (void)close(fd); /* only read from */
    if (n < 0) {
        config_problem(l->problems, "%s = %.200s: cannot be read: %s", key, path, strerror(error));
        return false;
    }
    text[n] = '\0';
    n_line = strcspn(text, "\r\n");
    text[n_line] = '\0';
    if (n_line == 0 || n_line >= CONFIG_TEXT_MAX) {
        config_problem(l->problems, "%s = %.200s: its first line has to be of 1 to %d bytes", key,
                       path, CONFIG_TEXT_MAX - 1);
        return false;
    }
    memcpy(to, text, n_line + 1);
    return true;
}

static void load_secrets(struct config_loader *l)
{
    struct config *c = l->c;
    const struct config_key *token = config_key_find(SECTION_SERVER, "admin_token");
    char text[CONFIG_TEXT_MAX] = "", why[CONFIG_WHY_MAX];

    assert(token != NULL);
    if (c->admin_token_file[0] != '\0') {
        if (c->admin_token[0] != '\0')
            config_problem(
                l->problems,
                "admin_token_file = %.200s: admin_token is set too; only one of them can be",
                c->admin_token_file);
        else if (read_secret(l, "admin_token_file", c->admin_token_file, text) &&
                 !config_value_parse(token, c, text, why))
            config_problem(l->problems, "admin_token_file = %.200s: %s", c->admin_token_file, why);
    }
    if (c->redis_password_file[0] != '\0') {
        if (!c->redis.enabled)
            config_problem(l->problems, "redis_password_file = %.200s: redis is not set",
                           c->redis_password_file);
        else if (c->redis.password[0] != '\0')
            config_problem(
                l->problems,
                "redis_password_file = %.200s: redis holds a password too; only one of them can",
                c->redis_password_file);
        else if (read_secret(l, "redis_password_file", c->redis_password_file, text))
            memcpy(c->redis.password, text, sizeof text);
    }
}

static void load_redis_url(struct config_loader *l, char *const environment[])
{
    const struct config_key *key = config_key_find(SECTION_SERVER, "redis");
    char why[CONFIG_WHY_MAX];

    assert(key != NULL);
    for (int source = 0; source < SOURCES; source++) {
        if (l->seen[source][CONFIG_INSTANCE_SERVER][key - config_keys] != 0)
            return; /* somebody else's URL does not matter then, not even if we could not use it */
    }
    for (uint32_t i = 0; environment[i] != NULL; i++) {
        const char *url = environment[i] + 10;

        if (strncmp(environment[i], "REDIS_URL=", 10) != 0 || *url == '\0')
            continue;
        if (!config_value_parse(key, l->c, url, why))
            config_problem(l->problems, "REDIS_URL: redis = (hidden): %s", why);
        return;
    }
}

bool config_load(struct config *c, const char *file, int n_args, char *const args[],
                 char *const environment[], struct config_problems *problems)
{
    static char *const nothing[] = { NULL };
    struct config_loader *l = calloc(1, sizeof *l);
    struct config_host host;

    if (environment == NULL) /* clearenv() leaves environ so */
        environment = nothing;
    problems->n = 0;
    if (l == NULL) {
        config_problem(problems, "out of memory");
        return false;
    }
    l->c = c;
    l->problems = problems;
    l->file = file;
    config_defaults(c);
    if (file != NULL)
        config_file_load(l);
    load_environment(l, environment);
    load_flags(l, n_args, args);
    load_redis_url(l, environment);
    if (problems->n == 0)
        load_secrets(l);
    if (problems->n == 0 && c->demo)
        add_demo(l);
    if (problems->n == 0)
        config_check(l);
    free(l);
    if (problems->n > 0)
        return false;
    config_host_read(&host);
    return config_resolve(c, &host, problems);
}
