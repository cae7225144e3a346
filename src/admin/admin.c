/* admin.c: the start and the end of the admin process.
 *
 * It holds nothing that others need: when it dies, clients notice nothing, and the next one finds
 * all it needs in the shared region. */
#include "admin/admin.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/state.h"
#include "base/log.h"

/* TERM as a descriptor. The rest is as child_spawn left it: PIPE, INT and HUP are ignored. */
static int signals_open(void)
{
    sigset_t term;

    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &term, NULL) < 0)
        return -errno;
    int fd = signalfd(-1, &term, SFD_NONBLOCK | SFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Where the listener really is decides, not how it was written. */
static bool listeners_are_local(const struct child *child)
{
    for (uint32_t i = 0; i < child->n_listeners; i++) {
        struct sockaddr_storage address = { 0 };
        socklen_t n = sizeof address;
        struct peer_address local;

        if (getsockname(child->listeners[i], (struct sockaddr *)&address, &n) < 0)
            return false;
        peer_address_from(&local, &address);
        if (!access_is_loopback(&local))
            return false;
    }
    return true;
}

static void rules_init(struct admin *a)
{
    a->rules.is_loopback = listeners_are_local(a->child);
    a->rules.token = slice_text(a->region.config->admin_token);
    if (!a->rules.is_loopback && a->rules.token.n_bytes == 0)
        log_warning("admin_exposed", "remedy=%s serves=%s",
                    "set admin_token or admin_token_file, or listen on a loopback address",
                    "/metrics, /livez and /readyz only");
}

int admin_main(const struct child *child)
{
    struct admin *a = calloc(1, sizeof *a);
    int error, signal_fd;

    if (a == NULL)
        return 1;
    a->child = child;
    error = region_open(&a->region, child->region_fd, child->slot, child->bells);
    if (error != 0) {
        log_error("admin_start_failed", "what=region error=%s", strerror(-error));
        free(a);
        return 1;
    }
    log_init("admin", (enum log_level)a->region.config->log_level,
             (enum log_format)a->region.config->log_format);
    ring_open(&a->ring, &a->region);
    a->slot = &a->region.header->slots[child->slot];
    a->row = &a->region.counters[child->slot];
    metrics_init(&a->metrics, &a->region);
    rules_init(a);
    signal_fd = signals_open();
    error = signal_fd < 0 ? signal_fd : 0;
    if (error == 0 && !packer_open(&a->packer, &a->ring, a->row))
        error = -ENOMEM;
    if (error == 0)
        error = server_run(a, signal_fd);
    if (error != 0)
        log_error("admin_start_failed", "what=server error=%s", strerror(-error));
    if (signal_fd >= 0)
        close(signal_fd);
    for (uint32_t i = 0; i < child->n_listeners; i++)
        close(child->listeners[i]);
    packer_close(&a->packer);
    region_close(&a->region);
    free(a);
    return error != 0;
}
