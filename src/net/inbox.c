/* inbox.c: packets of parcels through a UNIX seqpacket socket.
 *
 * Invariant: a packet is 1 to INBOX_BATCH_MAX whole parcels and at most as many descriptors, which belong to the first parcels. What the
 *            receiver hands out was checked against that; what does not fit is dropped with its descriptors.
 * Owns:      nothing: the caller keeps its descriptors after a send (the receiver has copies) and gets its own from a receive.
 * Why:       both ends stay open in the master, so the queue outlives the process in the slot and there is never an end of file. */
#include "net/inbox.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

/* 8 full batches take about 40 KB as the kernel counts; the kernel caps what it grants at net.core.wmem_max (212,992 by default). */
#define INBOX_SNDBUF_BYTES (512 * 1024)

_Static_assert(ADDRESS_UNIX == AF_UNIX, "address.h has the kernel's numbers");
_Static_assert(ADDRESS_IPV4 == AF_INET, "address.h has the kernel's numbers");
_Static_assert(ADDRESS_IPV6 == AF_INET6, "address.h has the kernel's numbers");
_Static_assert(sizeof(struct parcel) == 36, "no padding: parcels are compared and sent as bytes");

union inbox_control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(INBOX_BATCH_MAX * sizeof(int))];
};

int inbox_open(int fds[2])
{
    int bytes = INBOX_SNDBUF_BYTES;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    if (setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) < 0) {
        int error = errno;

        close(fds[0]);
        close(fds[1]);
        return -error;
    }
    return 0;
}

static int send_packet(int fd, struct iovec *iov, uint32_t n_iov, const int *fds, uint32_t n_fds)
{
    struct msghdr message = { .msg_iov = iov, .msg_iovlen = n_iov };
    union inbox_control control;
    ssize_t sent;

    if (n_fds > 0) {
        struct cmsghdr *head;

        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(head), fds, n_fds * sizeof(int));
    }
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    /* Without CAP_SYS_RESOURCE a user may have only RLIMIT_NOFILE descriptors in flight: the same ordinary state as a full queue. */
    if (sent < 0)
        return errno == ETOOMANYREFS || errno == ENOBUFS ? -EAGAIN : -errno;
    return 0; /* of a packet all goes or nothing */
}

int inbox_send_request(int fd, const struct parcel *parcel, int client, struct slice bytes)
{
    struct parcel head = *parcel;
    struct iovec iov[2] = { { &head, sizeof head },
                            { (void *)(uintptr_t)bytes.bytes, bytes.n_bytes } };

    assert(bytes.n_bytes > 0 && bytes.n_bytes <= INBOX_BYTES_MAX);
    head.kind = PARCEL_REQUEST;
    head.value = bytes.n_bytes;
    return send_packet(fd, iov, 2, &client, 1);
}

int inbox_send(int fd, const struct parcel *parcels, const int *fds, uint32_t n)
{
    struct iovec iov;
    uint32_t n_fds = 0;

    assert(n > 0);
    assert(n <= INBOX_BATCH_MAX);
    while (n_fds < n && fds[n_fds] >= 0)
        n_fds++;
    for (uint32_t i = n_fds; i < n; i++)
        assert(
            fds[i] <
            0); /* those with a descriptor come first, or they would be handed to the wrong parcel */

    iov.iov_base = (void *)(uintptr_t)parcels;
    iov.iov_len = n * sizeof *parcels;
    return send_packet(fd, &iov, 1, fds, n_fds);
}

/* Takes the descriptors out of a received message, however many there are: each is ours and must be closed by somebody. */
static uint32_t inbox_take_fds(struct msghdr *message, int fds[INBOX_BATCH_MAX])
{
    uint32_t n = 0;

    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
         head = CMSG_NXTHDR(message, head)) {
        size_t n_here;

        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        n_here = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n_here; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
            if (n < INBOX_BATCH_MAX)
                fds[n++] = fd;
            else
                close(fd);
        }
    }
    return n;
}

/* A request: one parcel, one descriptor, and its bytes. */
static bool is_request(const struct parcel *parcels, size_t n_bytes)
{
    return n_bytes >= sizeof *parcels && parcels->version == PARCEL_VERSION &&
           parcels->kind == PARCEL_REQUEST;
}

static const char *request_fault(const struct parcel *parcel, size_t n_bytes, uint32_t n_fds)
{
    if (n_fds != 1)
        return "a request without its descriptor";
    return parcel->value == n_bytes - sizeof *parcel ? NULL : "a request of another length";
}

static const char *inbox_fault(const struct parcel *parcels, size_t n_bytes, uint32_t n_fds,
                               int flags)
{
    size_t n = n_bytes / sizeof *parcels;

    if (flags & MSG_TRUNC)
        return "longer than a batch";
    if (flags & MSG_CTRUNC)
        return "descriptors lost: this process is at its limit of open files";
    if (is_request(parcels, n_bytes))
        return request_fault(parcels, n_bytes, n_fds);
    if (n == 0 || n_bytes % sizeof *parcels != 0)
        return "not a whole number of parcels";
    if (n_fds > n)
        return "more descriptors than parcels";
    for (size_t i = 0; i < n; i++) {
        if (parcels[i].version != PARCEL_VERSION)
            return "another version";
        if (parcels[i].kind == PARCEL_REQUEST)
            return "a request that is not alone";
    }
    return NULL;
}

/* A request's bytes come where the second and further parcels would be: its parcel is alone. */
static void take_bytes(const struct parcel *parcels, size_t n_here, uint8_t *bytes)
{
    if (n_here > sizeof *parcels) {
        memmove(bytes + n_here - sizeof *parcels, bytes,
                parcels->value - (n_here - sizeof *parcels));
        memcpy(bytes, parcels + 1, n_here - sizeof *parcels);
    }
}

int inbox_receive(int fd, struct parcel parcels[INBOX_BATCH_MAX], int fds[INBOX_BATCH_MAX],
                  uint8_t *bytes)
{
    for (;;) { /* each round takes one packet off the queue, whose length is bounded */
        size_t parcels_bytes = INBOX_BATCH_MAX * sizeof *parcels;
        struct iovec iov[2] = { { parcels, parcels_bytes }, { bytes, INBOX_BYTES_MAX } };
        union inbox_control control;
        struct msghdr message = { .msg_iov = iov,
                                  .msg_iovlen = bytes == NULL ? 1 : 2,
                                  .msg_control = control.bytes,
                                  .msg_controllen = sizeof control.bytes };
        ssize_t n_bytes = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        const char *fault;
        uint32_t n_fds;

        if (n_bytes < 0 && errno == EINTR)
            continue;
        if (n_bytes < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
        n_fds = inbox_take_fds(&message, fds);
        if (n_bytes == 0 && n_fds == 0 && message.msg_flags == 0)
            return 0; /* no writer is left */
        fault = inbox_fault(parcels, (size_t)n_bytes, n_fds, message.msg_flags);
        if (fault == NULL && bytes == NULL && is_request(parcels, (size_t)n_bytes))
            fault = "a request, for which there is nobody here";
        if (fault == NULL) {
            int n = (int)((size_t)n_bytes / sizeof *parcels);

            if (is_request(parcels, (size_t)n_bytes)) {
                take_bytes(parcels,
                           (size_t)n_bytes < parcels_bytes ? (size_t)n_bytes : parcels_bytes,
                           bytes);
                return 1;
            }
            for (int i = (int)n_fds; i < n; i++)
                fds[i] = -1;
            return n;
        }
        for (uint32_t i = 0; i < n_fds; i++)
            close(fds[i]);
        log_warning("inbox_packet_dropped", "reason=%s bytes=%zd descriptors=%u", fault, n_bytes,
                    n_fds);
    }
}

void peer_address_from(struct peer_address *out, const struct sockaddr_storage *address)
{
    memset(out, 0, sizeof *out);
    if (address->ss_family == AF_INET) {
        struct sockaddr_in in;

        memcpy(&in, address, sizeof in);
        out->family = AF_INET;
        out->port = ntohs(in.sin_port);
        memcpy(out->bytes, &in.sin_addr, 4);
    } else if (address->ss_family == AF_INET6) {
        struct sockaddr_in6 in;

        memcpy(&in, address, sizeof in);
        out->port = ntohs(in.sin6_port);
        if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) {
            out->family = AF_INET;
            memcpy(out->bytes, in.sin6_addr.s6_addr + 12, 4);
        } else {
            out->family = AF_INET6;
            memcpy(out->bytes, in.sin6_addr.s6_addr, 16);
        }
    } else {
        out->family = AF_UNIX;
    }
}
