/* machine.h: the machine, and the servers that Peal is measured against, by name.
 *
 * Owns: the servers' log files, named after the program and the port in the current TMPDIR. */
#ifndef BENCH_LIB_MACHINE_H
#define BENCH_LIB_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/json_out.h"
#include "lib/util.h"

/* Writes "machine": {cpu, cpus, kernel}. */
void machine_json(struct json *j);

/* What a server is started with. `binary` NULL: beside this program (bare_*), or one folder up
 * (peal). */
struct server_options {
    const char *name; /* "peal", or another's that takes its port: "bare_send", … */
    const char *binary;
    const char *argument; /* but for peal: after the port, or NULL */
    bool socketio;        /* peal: `app` on "/"; else rooms under /ws/ */
    const char *app;      /* "module:PATH", or NULL: a relay that lets everybody do everything */
    uint32_t workers;     /* peal */
    uint64_t cpu_mask;
    const struct opt_list *args; /* peal: further arguments, or NULL */
};

struct server {
    pid_t pid;
    uint16_t port;
    uint16_t admin_port; /* peal */
    char log[128];
};

/* Starts it on free ports and waits until it accepts; dies when it does not within 20 s. */
void server_launch(struct server *s, const struct server_options *o);

#endif
