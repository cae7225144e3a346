/* cli.h: the subcommands that need no running server. Each returns the exit status of the program. */
#ifndef PEAL_CLI_CLI_H
#define PEAL_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

/* `peal check --config FILE [--print] [--KEY=VALUE …]`: argv without the program and the
 * subcommand. Each problem is a line on standard error, exit 2; else "FILE: ok" (and with --print
 * the effective values) on standard output, exit 0. `peal check --reference` prints the
 * configuration reference as Markdown, for the README. */
int cli_check(int n_args, char *const args[]);

/* What `peal --help` and `peal --version` print. 0, or 1 if it could not be written. */
int cli_help(FILE *to);
int cli_version(FILE *to);

/* A subcommand that is neither serve nor check: says so on standard error ("doctor: not in this
 * build" for one that is documented), 2. */
int cli_unknown(const char *subcommand);

#endif
