/* bare_loop.h: what all bare servers are around their own few lines: a listener and one epoll.
 *
 * Owns:  the listener. Accepted sockets (TCP_NODELAY, not blocking) are the server's to close.
 * Never: does anything between epoll_wait() and the server's own code. */
#ifndef BENCH_LIB_BARE_LOOP_H
#define BENCH_LIB_BARE_LOOP_H

#define BARE_CONNS_MAX 65536 /* descriptors from here on are closed at once */

/* Listens on 127.0.0.1:`port` and calls `on_readable` for whatever socket is; ends the process when
 * it cannot. */
_Noreturn void bare_loop(const char *port, void (*on_readable)(int fd));

#endif
