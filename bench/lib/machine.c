/* machine.c: see machine.h. */
#include "lib/machine.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "lib/proc.h"

#define ARGS_MAX         32
#define ARG_BYTES        600
#define START_TIMEOUT_MS 20000u

static void cpu_model(char *out, size_t n)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[256];

    (void)snprintf(out, n, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');

        if (colon && strncmp(line, "model name", 10) == 0) {
            line[strcspn(line, "\n")] = 0;
            (void)snprintf(out, n, "%s", colon + 2);
            break;
        }
    }
    if (f)
        (void)fclose(f);
}

void machine_json(struct json *j)
{
    struct utsname u;
    char model[128];

    if (uname(&u) != 0)
        die("uname: %s", strerror(errno));
    cpu_model(model, sizeof model);
    json_object(j, "machine");
    json_text(j, "cpu", model);
    json_u64(j, "cpus", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    json_text(j, "kernel", u.release);
    json_end(j);
}

static void default_binary(char *out, size_t n, const char *name)
{
    char self[512];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    int written;

    if (length <= 0)
        die("/proc/self/exe: %s", strerror(errno));
    self[length] = 0;
    written =
        snprintf(out, n, "%s/%s%s", dirname(self), strcmp(name, "peal") == 0 ? "../" : "", name);
    if (written < 0 || (size_t)written >= n || access(out, X_OK) != 0)
        die("no server %s: build it, or name it with an option", out);
}

static void log_path(char *out, size_t n, const char *name, uint16_t port)
{
    const char *folder = getenv("TMPDIR");

    (void)snprintf(out, n, "%s/bench-%s-%u.log", folder ? folder : "/tmp", name, port);
}

/* Fills `argv` with Peal's arguments; `text` holds those that are made here. */
static uint32_t peal_args(const char **argv, char text[4][ARG_BYTES], const struct server *s,
                          const struct server_options *o)
{
    static const char *const relay[] = { "--namespace:/:app=relay", "--namespace:/:client_join=yes",
                                         "--namespace:/:client_publish=any" };
    static const char *const rooms[] = { "--ws:client_join=yes", "--ws:client_publish=any" };
    uint32_t n = 1;

    (void)snprintf(text[0], ARG_BYTES, "--listen=127.0.0.1:%u", s->port);
    (void)snprintf(text[1], ARG_BYTES, "--admin_listen=127.0.0.1:%u", s->admin_port);
    (void)snprintf(text[2], ARG_BYTES, "--workers=%u", o->workers);
    argv[n++] = "serve";
    for (uint32_t i = 0; i < 3; i++)
        argv[n++] = text[i];
    if (o->socketio && o->app) {
        (void)snprintf(text[3], ARG_BYTES, "--namespace:/:app=%s", o->app);
        argv[n++] = text[3];
    }
    for (uint32_t i = 0; o->socketio && !o->app && i < sizeof relay / sizeof *relay; i++)
        argv[n++] = relay[i];
    for (uint32_t i = 0; !o->socketio && i < sizeof rooms / sizeof *rooms; i++)
        argv[n++] = rooms[i];
    for (uint32_t i = 0; o->args && i < o->args->count; i++)
        argv[n++] = o->args->values[i];
    return n;
}

void server_launch(struct server *s, const struct server_options *o)
{
    bool peal = strcmp(o->name, "peal") == 0;
    char text[4][ARG_BYTES];
    char binary[600];
    const char *argv[ARGS_MAX] = { NULL };

    *s = (struct server){ .port = proc_free_port() };
    if (o->binary)
        (void)snprintf(binary, sizeof binary, "%s", o->binary);
    else
        default_binary(binary, sizeof binary, o->name);
    argv[0] = binary;
    if (peal) {
        s->admin_port = proc_free_port();
        (void)peal_args(argv, text, s, o);
    } else {
        (void)snprintf(text[0], sizeof text[0], "%u", s->port);
        argv[1] = text[0];
        argv[2] = o->argument;
    }
    log_path(s->log, sizeof s->log, o->name, s->port);
    s->pid = server_start(argv, s->log, o->cpu_mask);
    server_wait_port(s->pid, s->port, START_TIMEOUT_MS);
}
