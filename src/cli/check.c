/* check.c: `peal check`: what `serve` would say about the same file, environment and flags, without
 * starting anything. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/module.h"
#include "base/config.h"
#include "cli/cli.h"

/* Prints the outcome; false if there were problems. */
static bool report(const struct config *c, const struct config_problems *problems, const char *file,
                   bool ok, bool print)
{
    for (uint32_t i = 0; i < problems->n; i++)
        fprintf(stderr, "%s\n", problems->items[i].text);
    if (!ok)
        return false;
    if (print)
        config_print(c, stdout);
    else
        printf("%s: ok\n", file);
    return true;
}

int cli_check(int n_args, char *const args[])
{
    struct config *c = malloc(sizeof *c);
    struct config_problems *problems = malloc(sizeof *problems);
    char **rest =
        calloc((size_t)n_args + 1, sizeof *rest); /* the arguments that config_load knows */
    const char *file = config_file_of(n_args, args);
    bool print = false, reference = false;
    int n_rest = 0, status = 2;

    if (c == NULL || problems == NULL || rest == NULL) {
        fprintf(stderr, "out of memory\n");
        status = 1;
        goto out;
    }
    for (int i = 0; i < n_args; i++) {
        if (strcmp(args[i], "--print") == 0)
            print = true;
        else if (strcmp(args[i], "--reference") == 0)
            reference = true;
        else
            rest[n_rest++] = args[i];
    }
    if (reference) {
        config_describe_markdown(stdout);
        status = 0;
    } else if (file == NULL) {
        fprintf(stderr, "usage: peal check --config FILE [--print] [--KEY=VALUE ...]\n");
    } else {
        bool ok =
            config_load(c, file, n_rest, rest, environ, problems) && modules_check(c, problems);

        status = report(c, problems, file, ok, print) ? 0 : 2;
    }
    if (status == 0 && fflush(stdout) != 0)
        status = 1;
out:
    free(rest);
    free(problems);
    free(c);
    return status;
}
