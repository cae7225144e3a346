/* help.c: what `peal --help` says. The keys come from the table that also parses them, so that help
 * cannot drift. */
#include <string.h>

#include "base/config.h"
#include "cli/cli.h"

extern const char peal_version[]; /* made by the Makefile, in one object only */

static const char *const later[] = { "doctor", "top", "emit", "drain", "limits", "upgrade" };

int cli_help(FILE *to)
{
    fputs("Peal: very many WebSocket and Socket.IO clients on one machine. Needs Linux 6.1 or "
          "newer with io_uring.\n"
          "\n"
          "  peal serve [--config FILE] [--KEY=VALUE ...]    run in the foreground, log to "
          "standard error\n"
          "  peal check --config FILE [--KEY=VALUE ...]      check a configuration; --print shows "
          "the values in force\n"
          "  peal --version\n"
          "  peal --help\n"
          "\n"
          "  Not in this build:",
          to);
    for (uint32_t i = 0; i < sizeof later / sizeof later[0]; i++)
        fprintf(to, " %s", later[i]);
    fputs("\n"
          "\n"
          "Signals: TERM drains and exits; INT the same, a second INT exits at once.\n"
          "Exit: 0 after a drain, 2 on bad configuration, 1 otherwise.\n"
          "\n",
          to);
    config_describe(to);
    return fflush(to) == 0 && ferror(to) == 0 ? 0 : 1;
}

int cli_version(FILE *to)
{
    fprintf(to, "peal %s\n", peal_version);
    return fflush(to) == 0 && ferror(to) == 0 ? 0 : 1;
}

int cli_unknown(const char *subcommand)
{
    for (uint32_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        if (strcmp(subcommand, later[i]) == 0) {
            fprintf(stderr, "%s: not in this build\n", later[i]);
            return 2;
        }
    }
    fprintf(stderr, "%.64s: no such subcommand; peal --help lists them\n", subcommand);
    return 2;
}
