/* module.c: see module.h.
 *
 * A module is loaded twice: by who starts the server, in a child that may die of it, so that a mistake is a line with the file's name and exit 2; then by each
 * worker. Nothing of a module is trusted before its ABI number is right; what it does afterwards it does as part of the worker. */
#include "app/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOAD_TIMEOUT_MS 10000
#define NAME_MAX_BYTES  63

static bool is_visible(const char *name)
{
    uint32_t n = 0;

    while (name[n] > ' ' && name[n] <= '~' && n <= NAME_MAX_BYTES)
        n++;
    return n > 0 && n <= NAME_MAX_BYTES && name[n] == '\0';
}

const struct peal_app *module_load(const char *path, char why[MODULE_WHY_MAX])
{
    char here[CONFIG_TEXT_MAX + 2];
    const struct peal_app *app;
    void *handle;

    /* a name without a slash would be looked for in the system's library folders */
    snprintf(here, sizeof here, "%s%s", strchr(path, '/') == NULL ? "./" : "", path);
    if (access(here, R_OK) != 0) {
        snprintf(why, MODULE_WHY_MAX, "%s: cannot be read: %s", path, strerror(errno));
        return NULL;
    }
    handle = dlopen(here, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        const char *error = dlerror();

        snprintf(why, MODULE_WHY_MAX, "%s: cannot be loaded: %.400s", path,
                 error == NULL ? "unknown" : error);
        return NULL;
    }
    app = dlsym(handle, "peal_module");
    if (app == NULL)
        snprintf(why, MODULE_WHY_MAX,
                 "%s: exports no `peal_module` (const struct peal_app peal_module = { ... }, see "
                 "peal/app.h)",
                 path);
    else if (app->abi != PEAL_APP_ABI)
        snprintf(why, MODULE_WHY_MAX,
                 "%s: was built for version %u of peal/app.h, this server has version %u: build it "
                 "anew",
                 path, app->abi, (unsigned)PEAL_APP_ABI);
    else if (app->name == NULL || !is_visible(app->name))
        snprintf(why, MODULE_WHY_MAX, "%s: its name has to be of 1 to %d visible ASCII characters",
                 path, NAME_MAX_BYTES);
    else
        return app; /* cppcheck-suppress resourceLeak ; it stays loaded */
    (void)dlclose(handle);
    return NULL;
}

/* --- in a child --- */

static _Noreturn void load_in_child(const char *path, int to)
{
    static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTERM };
    char why[MODULE_WHY_MAX] = "";
    bool loaded;

    /* a sanitizer's handlers would report our caller's sin, and exit */
    for (uint32_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
        (void)signal(fatal[i], SIG_DFL);
    loaded = module_load(path, why) != NULL;
    /* the byte in front says that loading came back, whatever it said */
    if (write(to, loaded ? "+" : "-", 1) != 1 || write(to, why, strlen(why)) < 0)
        _exit(3);
    _exit(0);
}

/* Reads until the child's end of file. False: it took too long. */
static bool read_all(int from, char *text, uint32_t max, uint32_t *n)
{
    struct pollfd p = { .fd = from, .events = POLLIN };

    *n = 0;
    for (;;) {
        ssize_t got;

        if (poll(&p, 1, LOAD_TIMEOUT_MS) <= 0)
            return false;
        got = read(from, text + *n, max - *n);
        if (got <= 0 || *n + (uint32_t)got == max)
            return true;
        *n += (uint32_t)got;
    }
}

static bool judge(const char *path, char why[MODULE_WHY_MAX], bool in_time, int status,
                  const char *said, uint32_t n_said)
{
    if (!in_time)
        snprintf(why, MODULE_WHY_MAX, "%s: did not load within %d s", path, LOAD_TIMEOUT_MS / 1000);
    else if (WIFSIGNALED(status))
        snprintf(why, MODULE_WHY_MAX, "%s: crashes when it is loaded: %s", path,
                 strsignal(WTERMSIG(status)));
    else if (n_said == 0)
        snprintf(why, MODULE_WHY_MAX, "%s: ends the process when it is loaded (exit %d)", path,
                 WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    else if (said[0] == '+')
        return true;
    else
        snprintf(why, MODULE_WHY_MAX, "%.*s", (int)n_said - 1, said + 1);
    return false;
}

bool module_check(const char *path, char why[MODULE_WHY_MAX])
{
    char said[MODULE_WHY_MAX + 1];
    uint32_t n_said;
    int ends[2];
    int status = 0;
    bool in_time;
    pid_t pid;

    fflush(NULL); /* or the child would say it again */
    if (pipe2(ends, O_CLOEXEC) < 0) {
        snprintf(why, MODULE_WHY_MAX, "%s: no pipe: %s", path, strerror(errno));
        return false;
    }
    pid = fork();
    if (pid == 0)
        load_in_child(path, ends[1]);
    (void)close(ends[1]);
    if (pid < 0) {
        snprintf(why, MODULE_WHY_MAX, "%s: no process to load it in: %s", path, strerror(errno));
        (void)close(ends[0]);
        return false;
    }
    in_time = read_all(ends[0], said, sizeof said - 1, &n_said);
    (void)close(ends[0]);
    if (!in_time)
        (void)kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return judge(path, why, in_time, status, said, n_said);
}

bool modules_check(const struct config *c, struct config_problems *problems)
{
    bool fine = true;

    for (uint32_t i = 0; i < c->n_namespaces; i++) {
        const struct config_namespace *n = &c->namespaces[i];
        char why[MODULE_WHY_MAX];
        uint32_t first = 0;

        if (n->app != APP_MODULE)
            continue;
        while (c->namespaces[first].app != APP_MODULE ||
               strcmp(c->namespaces[first].module_path, n->module_path) != 0)
            first++;
        if (first < i || module_check(n->module_path, why))
            continue;
        fine = false;
        if (problems->n < CONFIG_PROBLEMS_MAX)
            snprintf(problems->items[problems->n++].text, sizeof problems->items[0].text,
                     "namespace \"%.100s%s\": app = module:%s", n->name, n->is_prefix ? "*" : "",
                     why);
    }
    return fine;
}
