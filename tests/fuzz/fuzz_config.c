/* fuzz_config.c: any bytes as a configuration file; behind the first NUL, flags ("--…") and
 * variables, NUL-separated.
 *
 * What is accepted keeps the promises of config.c's head, and is the same after it was printed and
 * read again. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/config.h"

#define CHECK(what)                                                    \
    do {                                                               \
        if (!(what)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
            abort();                                                   \
        }                                                              \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct config first, again;
static struct config_problems problems;
static char path[64];
static int fd = -1;

static void set_file(const void *bytes, size_t n)
{
    if (fd < 0) {
        fd = memfd_create("config", MFD_CLOEXEC);
        CHECK(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    CHECK(ftruncate(fd, 0) == 0);
    CHECK(pwrite(fd, bytes, n, 0) == (ssize_t)n);
}

static void check_promises(const struct config *c)
{
    CHECK(c->workers >= 1 && c->workers <= CONFIG_WORKERS_MAX);
    CHECK((c->ring_bytes & (c->ring_bytes - 1)) == 0);
    CHECK(c->event_bytes_max <= c->ring_bytes / 4 - 65536);
    CHECK(c->outq_bytes_max >= c->event_bytes_max);
    CHECK(c->event_bytes_max >= c->max_message_bytes);
    CHECK(c->n_listen >= 1 && c->n_listen <= CONFIG_LISTEN_MAX);
    CHECK(c->n_namespaces >= 1 && c->n_namespaces <= CONFIG_NAMESPACES_MAX);
    CHECK(c->n_cpu_list <= CONFIG_WORKERS_MAX);
    CHECK(c->max_connections > 0 && c->max_connections_per_worker > 0);
    CHECK((c->inbound_bytes_total & CONFIG_PERCENT) == 0 &&
          (c->outq_bytes_total & CONFIG_PERCENT) == 0);
    CHECK(c->path[0] == '/' && c->path[strlen(c->path) - 1] == '/');
    CHECK(c->transport_polling || c->transport_websocket);
    CHECK(strpbrk(c->cookie, " ;,=\"") == NULL);
    CHECK(!c->cors_credentials ||
          (strcmp(c->origins, "*") != 0 && strcmp(c->cors_origin, "*") != 0));
    for (uint32_t i = 0; i < c->n_namespaces; i++) {
        CHECK(c->namespaces[i].name[0] == '/');
        CHECK(c->namespaces[i].app <= APP_RELAY);
    }
    CHECK(config_namespace_find(c, slice_text("/")) != NULL);
    CHECK(config_namespace_find(c, slice_text("/ws")) == NULL);
}

static void check_printed(void)
{
    char *printed = NULL, *twice = NULL, *none[] = { NULL };
    size_t n = 0;
    FILE *f = open_memstream(&printed, &n);

    CHECK(f != NULL);
    config_print(&first, f);
    CHECK(fclose(f) == 0);
    set_file(printed, n);
    if (!config_load(&again, path, 0, none, none, &problems)) {
        fprintf(stderr, "%s\n%s\n", printed, problems.items[0].text);
        abort();
    }
    f = open_memstream(&twice, &n);
    CHECK(f != NULL);
    config_print(&again, f);
    CHECK(fclose(f) == 0);
    CHECK(strcmp(printed, twice) == 0);
    free(printed);
    free(twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *args[17], *environment[17], *copy = malloc(n + 1), *end = copy + n;
    int n_args = 0, n_environment = 0;
    size_t n_file;

    CHECK(copy != NULL);
    if (n > 0)
        memcpy(copy, data, n);
    *end = '\0';
    if (memmem(copy, n, "_file", 5) != NULL || memmem(copy, n, "-file", 5) != NULL ||
        memmem(copy, n, "_FILE", 5) != NULL) {
        free(copy); /* would open whatever it names, terminals and FIFOs included */
        return 0;
    }
    n_file = strlen(copy);
    for (char *at = copy + n_file + 1; at < end; at += strlen(at) + 1) {
        if (strncmp(at, "--", 2) == 0 && n_args < 16)
            args[n_args++] = at;
        else if (n_environment < 16)
            environment[n_environment++] = at;
    }
    args[n_args] = NULL;
    environment[n_environment] = NULL;
    set_file(copy, n_file);
    if (config_load(&first, path, n_args, args, environment, &problems)) {
        CHECK(problems.n == 0);
        check_promises(&first);
        if (first.admin_token[0] == '\0' && first.redis.user[0] == '\0' &&
            first.redis.password[0] == '\0')
            check_printed();
    } else {
        CHECK(problems.n >= 1 && problems.n <= CONFIG_PROBLEMS_MAX);
        for (uint32_t i = 0; i < problems.n; i++)
            CHECK(problems.items[i].text[0] != '\0');
    }
    free(copy);
    return 0;
}
