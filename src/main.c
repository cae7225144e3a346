/* main.c: subcommands, and the processes that `serve` makes of this binary. */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "admin/admin.h"
#include "app/module.h"
#include "base/log.h"
#include "bridge/bridge.h"
#include "cli/cli.h"
#include "master/master.h"
#include "net/child.h"
#include "worker/worker.h"

extern char **environ;

static int serve(int argc, char **argv)
{
    static struct config config;
    static struct config_problems problems;

    if (!config_load(&config, config_file_of(argc, argv), argc, argv, environ, &problems) ||
        !modules_check(&config, &problems)) {
        for (uint32_t i = 0; i < problems.n; i++)
            fprintf(stderr, "%s\n", problems.items[i].text);
        return 2;
    }
    log_init("master", (enum log_level)config.log_level, (enum log_format)config.log_format);
    return master_serve(&config);
}

/* Children run /proc/self/exe, and would be called `exe` in lists of processes. */
static int serve_as(const struct child *child)
{
    (void)prctl(PR_SET_NAME, "peal"); /* a matter of looks */
    switch (child->role) {
    case CHILD_WORKER: return worker_main(child);
    case CHILD_BRIDGE: return bridge_main(child);
    case CHILD_ADMIN: return admin_main(child);
    }
    return 1;
}

int main(int argc, char **argv)
{
    struct child child;

    if (child_parse(&child, argc, argv))
        return serve_as(&child);
    if (argc < 2) {
        (void)cli_help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "serve") == 0)
        return serve(argc - 2, argv + 2);
    if (strcmp(argv[1], "check") == 0)
        return cli_check(argc - 2, argv + 2);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
        return cli_help(stdout);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0)
        return cli_version(stdout);
    return cli_unknown(argv[1]);
}
