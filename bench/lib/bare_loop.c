/* bare_loop.c: see bare_loop.h. */
#include "lib/bare_loop.h"

#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

static void on_accept(int epoll, int listener)
{
    struct epoll_event ev = { .events = EPOLLIN };

    while ((ev.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (ev.data.fd >= BARE_CONNS_MAX || epoll_ctl(epoll, EPOLL_CTL_ADD, ev.data.fd, &ev) != 0)
            (void)close(ev.data.fd);
    }
}

_Noreturn void bare_loop(const char *port, void (*on_readable)(int fd))
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct epoll_event events[256] = { { .events = EPOLLIN, .data.fd = listener } };
    int epoll = epoll_create1(EPOLL_CLOEXEC), on = 1; /* options pass on to accepted sockets */

    at.sin_port = htons((uint16_t)(port ? atoi(port) : 0));
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 4096) != 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, listener, events) != 0)
        err(1, "port %s", port ? port : "missing");
    for (;;) {
        int n = epoll_wait(epoll, events, 256, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                on_accept(epoll, listener);
            else
                on_readable(events[i].data.fd);
        }
    }
}
