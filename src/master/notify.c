/* notify.c: one datagram to a UNIX socket; a name that begins with @ is abstract. */
#include "master/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

void notify_service_manager(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t n = path ? strlen(path) : 0;
    socklen_t n_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    int fd;

    if (n < 2 || n >= sizeof address.sun_path || (*path != '/' && *path != '@'))
        return;
    memcpy(address.sun_path, path, n);
    if (*path == '@')
        address.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
                         (struct sockaddr *)&address, n_bytes) < 0)
        log_warning("notify_failed", "socket=%s error=%m", path);
    if (fd >= 0)
        close(fd);
}
