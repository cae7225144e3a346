/* resolve.c: see resolve.h.
 *
 * Owns: struct resolve is shared by the loop and its thread. Whoever comes second frees it: the loop, when there is an answer; the thread, when the loop has
 *       given up. Each closes its own end of the pipe. */
#include "bridge/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct resolve {
    char host[256];
    char port[8];
    int error; /* of getaddrinfo */
    struct addrinfo *found;
    int fds[2];
    pthread_mutex_t lock; /* of the two flags: held for a few instructions */
    bool answered;
    bool abandoned;
};

static uint32_t take(const struct addrinfo *found,
                     struct resolve_address out[RESOLVE_ADDRESSES_MAX])
{
    uint32_t n = 0;

    for (; found != NULL && n < RESOLVE_ADDRESSES_MAX; found = found->ai_next) {
        if (found->ai_addrlen > sizeof out[n].address)
            continue;
        memcpy(&out[n].address, found->ai_addr, found->ai_addrlen);
        out[n++].n_bytes = found->ai_addrlen;
    }
    return n;
}

static void destroy(struct resolve *r)
{
    if (r->found != NULL)
        freeaddrinfo(r->found);
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}

static void *look_up(void *context)
{
    struct resolve *r = context;
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
    int write_end = r->fds[1];
    bool abandoned;

    r->error = getaddrinfo(r->host, r->port, &hints, &r->found);
    if (r->error != 0)
        r->found = NULL;
    (void)pthread_mutex_lock(&r->lock);
    r->answered = true;
    abandoned = r->abandoned;
    (void)pthread_mutex_unlock(&r->lock);
    if (abandoned)
        destroy(r);
    (void)close(write_end); /* end of file is the answer */
    return NULL;
}

static bool start(struct resolve *r)
{
    pthread_attr_t attr;
    pthread_t thread;
    int error;

    if (pthread_attr_init(&attr) != 0)
        return false;
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    error = pthread_create(&thread, &attr, look_up, r);
    (void)pthread_attr_destroy(&attr);
    return error == 0;
}

struct resolve *resolve_begin(const char *host, uint16_t port, int *fd,
                              struct resolve_address out[RESOLVE_ADDRESSES_MAX], uint32_t *n,
                              const char **why)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
                                    .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
    struct addrinfo *found = NULL;
    char text[8];
    struct resolve *r;

    *n = 0;
    snprintf(text, sizeof text, "%u", port);
    if (getaddrinfo(host, text, &hints, &found) == 0) {
        *n = take(found, out);
        freeaddrinfo(found);
        return NULL;
    }
    *why = "out of memory";
    r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    snprintf(r->host, sizeof r->host, "%s", host);
    memcpy(r->port, text, sizeof text);
    (void)pthread_mutex_init(&r->lock, NULL); /* cannot fail with default attributes */
    if (pipe2(r->fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        *why = strerror(errno);
        destroy(r);
        return NULL;
    }
    if (!start(r)) {
        *why = "no thread for the look-up";
        (void)close(r->fds[0]);
        (void)close(r->fds[1]);
        destroy(r);
        return NULL;
    }
    *fd = r->fds[0];
    return r;
}

uint32_t resolve_end(struct resolve *r, struct resolve_address out[RESOLVE_ADDRESSES_MAX],
                     const char **why)
{
    uint32_t n = 0;
    bool answered;

    (void)close(r->fds[0]);
    (void)pthread_mutex_lock(&r->lock);
    answered = r->answered;
    r->abandoned = !answered;
    (void)pthread_mutex_unlock(&r->lock);
    if (!answered) {
        *why = "the look-up of the name takes too long";
        return 0; /* the thread's now */
    }
    if (r->error == 0)
        n = take(r->found, out);
    *why = r->error != 0 ? gai_strerror(r->error) : "the name has no address";
    destroy(r);
    return n;
}
