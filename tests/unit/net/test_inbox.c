/* test_inbox.c: parcels and their descriptors through one seqpacket socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/inbox.h"

static struct parcel parcel_number(uint32_t n)
{
    return (struct parcel){
        .version = PARCEL_VERSION, .kind = PARCEL_CONNECTION, .value = n, .from_slot = 64
    };
}

static uint32_t open_descriptors(void)
{
    uint32_t n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static bool same_file(int a, int b)
{
    struct stat x, y;

    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

/* A packet made by hand, as another version or a broken process would send it. */
static void send_raw(int to, const void *bytes, size_t n_bytes, const int *fds, size_t n_fds)
{
    char control[CMSG_SPACE(128 * sizeof(int))] __attribute__((aligned(8))) = { 0 };
    struct iovec iov = { (void *)(uintptr_t)bytes, n_bytes };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (n_fds > 0) {
        struct cmsghdr *head;

        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(head), fds, n_fds * sizeof(int));
    }
    assert_int_equal(sendmsg(to, &message, 0), n_bytes);
}

static void test_a_batch_arrives_whole_with_its_descriptors_in_order(void **state)
{
    struct parcel out[INBOX_BATCH_MAX], in[INBOX_BATCH_MAX];
    int ends[2], pipes[2], fds_out[INBOX_BATCH_MAX], fds_in[INBOX_BATCH_MAX];

    (void)state;
    assert_int_equal(inbox_open(ends), 0);
    assert_int_equal(pipe(pipes), 0);
    for (uint32_t n = 1; n <= INBOX_BATCH_MAX; n++) {
        for (uint32_t n_fds = 0; n_fds <= n; n_fds++) {
            for (uint32_t i = 0; i < n; i++) {
                out[i] = parcel_number(n * 100 + i);
                fds_out[i] = i < n_fds ? pipes[i % 2] : -1;
            }
            assert_int_equal(inbox_send(ends[1], out, fds_out, n), 0);
            assert_int_equal(inbox_receive(ends[0], in, fds_in, NULL), (int)n);
            assert_memory_equal(in, out, n * sizeof out[0]);
            for (uint32_t i = 0; i < n; i++) {
                if (i >= n_fds) {
                    assert_int_equal(fds_in[i], -1);
                    continue;
                }
                assert_true(same_file(fds_in[i], fds_out[i]));
                assert_int_equal(fcntl(fds_in[i], F_GETFD), FD_CLOEXEC);
                close(fds_in[i]);
            }
        }
    }
    assert_int_equal(inbox_receive(ends[0], in, fds_in, NULL), 0);
    close(pipes[0]);
    close(pipes[1]);
    close(ends[0]);
    close(ends[1]);
}

static void test_eight_full_batches_fit_and_a_full_inbox_says_again(void **state)
{
    struct parcel out[INBOX_BATCH_MAX], in[INBOX_BATCH_MAX];
    int ends[2], fds[INBOX_BATCH_MAX], null = open("/dev/null", O_RDONLY);
    int n = 0, received = 0, error, got;

    (void)state;
    assert_int_equal(inbox_open(ends), 0);
    for (uint32_t i = 0; i < INBOX_BATCH_MAX; i++) {
        out[i] = parcel_number(i);
        fds[i] = n < 1 ? null : -1;
    }
    while ((error = inbox_send(ends[1], out, fds, INBOX_BATCH_MAX)) == 0 && n < 100000)
        n++;
    assert_int_equal(error, -EAGAIN);
    assert_true(n >= 8);
    while ((got = inbox_receive(ends[0], in, fds, NULL)) > 0) {
        assert_int_equal(got, INBOX_BATCH_MAX);
        for (int i = 0; i < got; i++)
            close(fds[i]);
        received++;
    }
    assert_int_equal(received, n); /* nothing was sent in part */
    close(null);
    close(ends[0]);
    close(ends[1]);
}

static void test_what_is_not_ours_is_dropped_with_its_descriptors_and_the_next_arrives(void **state)
{
    struct parcel many[INBOX_BATCH_MAX + 1], in[INBOX_BATCH_MAX], good = parcel_number(7),
                                                                  bad = good;
    int ends[2], fds_in[INBOX_BATCH_MAX],
        pair[2] = { open("/dev/null", O_RDONLY), open("/dev/null", O_RDONLY) };
    const int none = -1;
    uint32_t before;

    (void)state;
    assert_int_equal(inbox_open(ends), 0);
    for (size_t i = 0; i <= INBOX_BATCH_MAX; i++)
        many[i] = good;
    bad.version = PARCEL_VERSION + 1;
    before = open_descriptors();
    send_raw(ends[1], &bad, sizeof bad, pair, 1);       /* another version */
    send_raw(ends[1], &good, sizeof good - 1, pair, 1); /* cut */
    send_raw(ends[1], many, sizeof many, pair, 2);      /* longer than a batch */
    send_raw(ends[1], &good, sizeof good, pair, 2);     /* a descriptor too many */
    assert_int_equal(inbox_send(ends[1], &good, &none, 1), 0);
    assert_int_equal(inbox_receive(ends[0], in, fds_in, NULL), 1);
    assert_int_equal(in[0].value, 7);
    assert_int_equal(fds_in[0], -1);
    assert_int_equal(open_descriptors(), before);
    close(pair[0]);
    close(pair[1]);
    close(ends[0]);
    close(ends[1]);
}

static void test_a_request_arrives_with_its_bytes_whatever_their_number(void **state)
{
    static const uint32_t lengths[] = { 1, 100, 2267, 2268, 2269, 20000, INBOX_BYTES_MAX };
    static uint8_t sent[INBOX_BYTES_MAX], got[INBOX_BYTES_MAX];
    struct parcel parcel = parcel_number(3), in[INBOX_BATCH_MAX];
    int ends[2], fds[INBOX_BATCH_MAX], null = open("/dev/null", O_RDONLY);
    uint32_t before;

    (void)state;
    assert_int_equal(inbox_open(ends), 0);
    before = open_descriptors();
    for (uint32_t i = 0; i < INBOX_BYTES_MAX; i++)
        sent[i] = (uint8_t)(i * 31 + i / 256);
    for (uint32_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memset(got, 0, sizeof got);
        assert_int_equal(inbox_send_request(ends[1], &parcel, null, slice_of(sent, lengths[i])), 0);
        assert_int_equal(inbox_receive(ends[0], in, fds, got), 1);
        assert_int_equal(in[0].kind, PARCEL_REQUEST);
        assert_int_equal(in[0].value, lengths[i]);
        assert_true(same_file(fds[0], null));
        assert_memory_equal(got, sent, lengths[i]);
        close(fds[0]);
    }
    /* nobody wants its bytes here: dropped, with its descriptor */
    assert_int_equal(inbox_send_request(ends[1], &parcel, null, slice_of(sent, 5000)), 0);
    assert_int_equal(inbox_receive(ends[0], in, fds, NULL), 0);
    assert_int_equal(inbox_send_request(ends[1], &parcel, null, slice_of(sent, 100)), 0);
    assert_int_equal(inbox_receive(ends[0], in, fds, NULL), 0);
    assert_int_equal(open_descriptors(), before);
    close(null);
    close(ends[0]);
    close(ends[1]);
}

static void test_a_receiver_without_descriptors_drops_and_leaks_none(void **state)
{
    struct parcel out[8], in[INBOX_BATCH_MAX];
    int ends[2], fds[INBOX_BATCH_MAX], null = open("/dev/null", O_RDONLY);
    struct rlimit limit, tight;
    uint32_t before;

    (void)state;
    assert_int_equal(inbox_open(ends), 0);
    for (uint32_t i = 0; i < 8; i++) {
        out[i] = parcel_number(i);
        fds[i] = null;
    }
    assert_int_equal(inbox_send(ends[1], out, fds, 8), 0);
    before = open_descriptors();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    tight = limit;
    tight.rlim_cur = (rlim_t)null + 4;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    assert_int_equal(inbox_receive(ends[0], in, fds, NULL), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(open_descriptors(), before);
    close(null);
    close(ends[0]);
    close(ends[1]);
}

static void test_peers_are_named_without_port_and_mapped_addresses_are_ipv4(void **state)
{
    struct sockaddr_storage storage = { 0 };
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(81) };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(82) };
    char text[INET6_ADDRSTRLEN];
    struct peer_address peer;

    (void)state;
    inet_pton(AF_INET, "192.0.2.1", &in.sin_addr);
    memcpy(&storage, &in, sizeof in);
    peer_address_from(&peer, &storage);
    peer_address_text(text, sizeof text, &peer);
    assert_string_equal(text, "192.0.2.1");
    assert_int_equal(peer.port, 81);
    inet_pton(AF_INET6, "::ffff:192.0.2.9", &in6.sin6_addr);
    memcpy(&storage, &in6, sizeof in6);
    peer_address_from(&peer, &storage);
    peer_address_text(text, sizeof text, &peer);
    assert_string_equal(text, "192.0.2.9");
    assert_int_equal(peer.family, AF_INET);
    assert_int_equal(peer.port, 82);
    inet_pton(AF_INET6, "2001:db8::1", &in6.sin6_addr);
    memcpy(&storage, &in6, sizeof in6);
    peer_address_from(&peer, &storage);
    peer_address_text(text, sizeof text, &peer);
    assert_string_equal(text, "2001:db8::1");
    storage.ss_family = AF_UNIX;
    peer_address_from(&peer, &storage);
    peer_address_text(text, sizeof text, &peer);
    assert_string_equal(text, "unix");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_batch_arrives_whole_with_its_descriptors_in_order),
        cmocka_unit_test(test_eight_full_batches_fit_and_a_full_inbox_says_again),
        cmocka_unit_test(
            test_what_is_not_ours_is_dropped_with_its_descriptors_and_the_next_arrives),
        cmocka_unit_test(test_a_request_arrives_with_its_bytes_whatever_their_number),
        cmocka_unit_test(test_a_receiver_without_descriptors_drops_and_leaks_none),
        cmocka_unit_test(test_peers_are_named_without_port_and_mapped_addresses_are_ipv4),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
