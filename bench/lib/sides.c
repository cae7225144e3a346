/* sides.c: see sides.h. */
#include "lib/sides.h"

#include <stdio.h>
#include <string.h>

#include "lib/util.h"

static const struct side_kind kinds[] = {
    { "peal", "peal", NULL, DIALECT_PLAIN, false, "/ws/r", "/ws/r" },
    { "peal_socketio", "peal", NULL, DIALECT_SOCKETIO, false, "", "" },
    { "bare_send", "bare_send", NULL, DIALECT_PLAIN, false, "/ws/r", "/ws/r" },
    { "bare_send_coalescing", "bare_send", "coalesce", DIALECT_PLAIN, false, "/ws/r", "/ws/r" },
    { "bare_uring", "bare_uring", NULL, DIALECT_PLAIN, false, "/ws/r", "/ws/r" },
    { "bare_uring_coalescing", "bare_uring", "coalesce", DIALECT_PLAIN, false, "/ws/r", "/ws/r" },
    { "bare_echo", "bare_echo", NULL, DIALECT_PLAIN, false, "/ws/r", "/ws/r" },
    { "bare_connect", "bare_connect", NULL, DIALECT_PLAIN, false, "/ws/r", "/ws/r" },
    { "node", "node.mjs", "alone", DIALECT_SOCKETIO, true, "", "" },
    { "node_cluster", "node.mjs", "cluster", DIALECT_SOCKETIO, true, "", "" },
    { "node_redis", "node.mjs", "redis", DIALECT_SOCKETIO, true, "", "" },
    { "nchan", "nchan", NULL, DIALECT_PLAIN, true, "/sub/r", "/pub/r" },
};

const struct side_kind *side_find(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    }
    die("no side is called '%s'", name);
}

void side_launch(struct server *s, const struct side_kind *kind, struct server_options o,
                 const char *peers)
{
    bool peal = strcmp(kind->program, "peal") == 0;
    char program[512];

    o.name = kind->program;
    o.argument = kind->argument;
    o.socketio = kind->dialect == DIALECT_SOCKETIO;
    if (!peal)
        o.binary = NULL;
    if (kind->peer) {
        if (snprintf(program, sizeof program, "%s/%s", peers, kind->program) >= (int)sizeof program)
            die("--peers is too long");
        o.binary = program;
    }
    server_launch(s, &o);
}

void side_target(struct target *t, const struct side_kind *kind, uint16_t port, uint32_t room,
                 bool publisher)
{
    const char *path = publisher ? kind->publish : kind->subscribe;
    char url[SIDE_PATH_BYTES + 32];

    if (*path)
        (void)snprintf(url, sizeof url, "ws://127.0.0.1:%u%s%u", port, path, room);
    else
        (void)snprintf(url, sizeof url, "ws://127.0.0.1:%u", port);
    target_parse(t, url, kind->dialect);
}
