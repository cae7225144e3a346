/* child.c: see child.h. */
#include "lib/child.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/util.h"

#define LINE_BYTES_MAX 65536u

void child_add(struct child *c, const char *format, ...)
{
    va_list args;
    int n;

    if (c->n == CHILD_ARGS_MAX)
        die("over %u arguments", CHILD_ARGS_MAX);
    va_start(args, format);
    n = vsnprintf(c->text[c->n], sizeof c->text[c->n], format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof c->text[c->n])
        die("an argument of load is too long: %s", c->text[c->n]);
    c->argv[c->n] = c->text[c->n];
    c->n++;
}

void child_begin(struct child *c, const char *scenario)
{
    char self[400];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    if (n <= 0)
        die("/proc/self/exe: %s", strerror(errno));
    self[n] = 0;
    memset(c, 0, sizeof *c);
    child_add(c, "%s/load", dirname(self));
    child_add(c, "%s", scenario);
}

static _Noreturn void load_child(const struct child *c, int out)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || dup2(out, STDOUT_FILENO) < 0)
        die("load: %s", strerror(errno));
    (void)execv(c->argv[0], (char *const *)(uintptr_t)c->argv); /* exec changes nothing in them */
    die("%s: %s", c->argv[0], strerror(errno));
}

struct outcome *child_run(const struct child *c)
{
    static char line[LINE_BYTES_MAX];
    json_t *result = NULL;
    int fds[2];
    int status;
    pid_t pid;
    FILE *f;

    if (pipe2(fds, O_CLOEXEC) != 0)
        die("pipe: %s", strerror(errno));
    pid = fork();
    if (pid < 0)
        die("fork: %s", strerror(errno));
    if (pid == 0)
        load_child(c, fds[1]);
    (void)close(fds[1]);
    f = fdopen(fds[0], "r");
    if (!f)
        die("pipe: %s", strerror(errno));
    while (fgets(line, sizeof line, f)) {
        if (strstr(line, "\"event\":\"result\""))
            result = json_loads(line, 0, NULL);
    }
    (void)fclose(f);
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) > 1 || !result)
        die("load %s has failed", c->argv[1]);
    return (struct outcome *)result;
}

double outcome_number(const struct outcome *o, const char *path)
{
    const json_t *at = (const json_t *)o;
    char name[64];
    int used;

    for (const char *p = path; *p; p += used + (p[used] == '.')) {
        if (sscanf(p, "%63[^.]%n", name, &used) != 1)
            die("'%s' is no path", path);
        at = json_object_get(at, name);
    }
    if (!json_is_number(at))
        die("the result has no %s", path);
    return json_number_value(at);
}

bool outcome_ok(const struct outcome *o)
{
    return json_is_true(json_object_get((const json_t *)o, "ok"));
}

void outcome_free(struct outcome *o)
{
    json_decref((json_t *)o);
}
