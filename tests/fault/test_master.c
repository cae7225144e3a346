/* test_master.c: the master as a whole, against stub children that die, stop and stall on demand.
 *
 * The program is its own stub: the master executes /proc/self/exe, so `--child=...` on the command line
 * means that a master of this test spawned us. A stub worker greets each connection that it may admit
 * with "slot=S pid=P place=0|1\n", each other one with "refused=R\n", and obeys single letters:
 *   x  exits with status 3            h  dies with a reserved and uncommitted record
 *   z  sleeps for good                w  appends a record and says that it waits for room
 * The stub admin answers g with the number of `gone` records it has read, v with voids_total, and sends
 * the drain command on d. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "master/master.h"
#include "net/child.h"
#include "net/inbox.h"
#include "shm/atomic.h"
#include "shm/record.h"
#include "shm/ring.h"

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- the stub children --- */

#define STUB_SOCKETS 1024

struct stub {
    struct child child;
    struct region region;
    struct ring ring;
    struct shm_slot *slot;
    int sockets[STUB_SOCKETS];
    uint32_t n_sockets;
    uint64_t walked; /* admin: how far the ring was read */
    uint32_t n_gone;
};

static void stub_places(struct stub *s, int clients, int settled)
{
    uint64_t places = s->slot->places;
    uint32_t low = (uint32_t)places + (uint32_t)clients;
    uint32_t high = (uint32_t)(places >> 32) + (uint32_t)settled;

    shm_store_u64(&s->slot->places, (uint64_t)high << 32 | low);
}

static void stub_say(int fd, const char *text)
{
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
        return; /* the peer has gone: seen when it is read */
}

static void stub_take(struct stub *s, int fd, const struct parcel *parcel)
{
    char text[96];

    if (parcel->refusal != REFUSE_NOT || s->n_sockets == STUB_SOCKETS) {
        snprintf(text, sizeof text, "refused=%u\n", parcel->refusal);
        stub_say(fd, text);
        stub_places(s, 0, parcel->has_place);
        close(fd);
        return;
    }
    stub_places(s, 1, parcel->has_place);
    s->sockets[s->n_sockets++] = fd;
    snprintf(text, sizeof text, "slot=%u pid=%d place=%u\n", s->child.slot, getpid(),
             parcel->has_place);
    stub_say(fd, text);
}

static void stub_read_inbox(struct stub *s)
{
    struct parcel parcels[INBOX_BATCH_MAX];
    int fds[INBOX_BATCH_MAX];
    int n;

    while ((n = inbox_receive(s->child.inbox_fd, parcels, fds, NULL)) > 0) {
        for (int i = 0; i < n; i++)
            stub_take(s, fds[i], &parcels[i]);
    }
}

static void stub_append(struct stub *s, bool commit)
{
    struct record_spec spec = { .header = { .kind = RECORD_SERVER_EMIT,
                                            .slot = (uint8_t)s->child.slot,
                                            .generation = s->child.generation } };
    uint32_t n_bytes = record_size(&spec);
    uint64_t at;

    if (ring_reserve(&s->ring, n_bytes, &at) != RING_OK)
        _exit(70);
    if (!commit)
        raise(SIGKILL);
    record_write(ring_at(&s->ring, at), &spec, s->region.header->hash_key);
    ring_commit(&s->ring, at, n_bytes);
    ring_bells(&s->ring);
}

static void stub_obey(struct stub *s, int fd, char letter)
{
    struct parcel drain = { .version = PARCEL_VERSION,
                            .kind = PARCEL_COMMAND,
                            .command = COMMAND_DRAIN,
                            .from_slot = PEAL_SLOT_ADMIN };
    const int none = -1;
    char text[64];

    switch (letter) {
    case 'x': _exit(3);
    case 'h': stub_append(s, false); break;
    case 'z':
        for (;;)
            pause();
    case 'w':
        stub_append(s, true);
        shm_store_u64(&s->slot->waits_since_ms, now_ms());
        break;
    case 'd':
        if (inbox_send(s->child.inboxes[PEAL_SLOT_MASTER], &drain, &none, 1) != 0)
            _exit(71);
        break;
    case 'g':
        snprintf(text, sizeof text, "%u\n", s->n_gone);
        stub_say(fd, text);
        break;
    case 'v':
        snprintf(text, sizeof text, "%llu\n", (unsigned long long)s->region.header->voids_total);
        stub_say(fd, text);
        break;
    default: break;
    }
}

static void stub_close(struct stub *s, uint32_t at)
{
    close(s->sockets[at]);
    s->sockets[at] = s->sockets[--s->n_sockets];
    stub_places(s, -1, 0);
}

static void stub_serve(struct stub *s)
{
    for (uint32_t i = 0; i < s->n_sockets; i++) {
        char letter;
        ssize_t n = recv(s->sockets[i], &letter, 1, MSG_DONTWAIT);

        if (n == 1)
            stub_obey(s, s->sockets[i], letter);
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
            stub_close(s, i--);
    }
    while (shm_load_u32(&s->region.header->draining) == DRAIN_CLOSING && s->n_sockets > 0 &&
           s->slot->drain_closed < shm_load_u64(&s->slot->drain_allowance)) {
        stub_close(s, 0);
        shm_store_u64(&s->slot->drain_closed, s->slot->drain_closed + 1);
    }
}

static void stub_walk(struct stub *s)
{
    uint64_t tail = ring_tail(&s->ring);
    uint32_t n_units;
    const uint8_t *record;

    while (s->walked < tail && (record = ring_peek(&s->ring, s->walked, &n_units)) != NULL) {
        struct record_view view;

        if (record_view(&view, record, n_units * RING_UNIT_BYTES) &&
            view.header->kind == RECORD_GONE)
            s->n_gone++;
        s->walked += n_units;
    }
    ring_release(&s->ring, s->walked);
}

static void stub_accept(struct stub *s, int listener)
{
    struct parcel none = { .refusal = REFUSE_NOT };
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
        stub_take(s, fd, &none);
}

static int stub_main(const struct child *child)
{
    static struct stub s;
    struct pollfd polls[STUB_SOCKETS + 16];

    s.child = *child;
    if (region_open(&s.region, child->region_fd, child->slot, child->bells) != 0)
        return 72;
    ring_open(&s.ring, &s.region);
    s.slot = s.ring.slot;
    s.walked = s.slot->cursor;
    shm_store_release_u64(&s.slot->ready_generation, child->generation);
    for (;;) {
        uint32_t n = 0;
        uint64_t rung;

        shm_store_u64(&s.slot->progress, s.slot->progress + 1);
        polls[n++] = (struct pollfd){ .fd = child->life_fd, .events = POLLIN };
        polls[n++] = (struct pollfd){ .fd = child->bells[child->slot], .events = POLLIN };
        polls[n++] = (struct pollfd){ .fd = child->inbox_fd, .events = POLLIN };
        for (uint32_t i = 0; i < child->n_listeners; i++)
            polls[n++] = (struct pollfd){ .fd = child->listeners[i], .events = POLLIN };
        for (uint32_t i = 0; i < s.n_sockets; i++)
            polls[n++] = (struct pollfd){ .fd = s.sockets[i], .events = POLLIN };
        if (poll(polls, n, 200) < 0 && errno != EINTR)
            return 73;
        if (polls[0].revents != 0)
            return 0; /* the master is dead */
        if (polls[1].revents != 0 && read(polls[1].fd, &rung, sizeof rung) < 0)
            return 74;
        stub_read_inbox(&s);
        for (uint32_t i = 0; i < child->n_listeners; i++)
            stub_accept(&s, child->listeners[i]);
        stub_walk(&s);
        stub_serve(&s);
    }
}

/* --- the test's side --- */

struct host {
    pid_t pid;
    int log; /* what the master writes to standard error */
    char text[262144];
    size_t n_text;
    size_t seen; /* what host_expect has walked past */
    char listen[128];
    uint16_t port;
    uint16_t admin_port;
};

static struct config *config_for(uint32_t workers, uint32_t per_worker)
{
    static struct config c;
    static struct config_problems problems;
    struct config_host host;

    config_defaults(&c);
    c.workers = workers;
    c.max_connections_per_worker = per_worker;
    c.ring_bytes = RING_BYTES_MIN;
    c.n_listen = 1;
    memset(c.listen, 0, sizeof c.listen);
    snprintf(c.listen[0].host, sizeof c.listen[0].host, "127.0.0.1");
    memset(&c.admin_listen, 0, sizeof c.admin_listen);
    snprintf(c.admin_listen.host, sizeof c.admin_listen.host, "127.0.0.1");
    c.redis.enabled = false;
    c.drain_grace_ms = 100;
    c.drain_timeout_ms = 5000;
    c.log_level = LOG_DEBUG;
    config_host_read(&host);
    problems.n = 0;
    assert_true(config_resolve(&c, &host, &problems));
    return &c;
}

/* Reads more of the log; false: nothing came within `wait_ms`. */
static bool host_read(struct host *h, int wait_ms)
{
    struct pollfd p = { .fd = h->log, .events = POLLIN };
    ssize_t n;

    if (poll(&p, 1, wait_ms) <= 0 || h->n_text + 1 >= sizeof h->text)
        return false;
    n = read(h->log, h->text + h->n_text, sizeof h->text - 1 - h->n_text);
    if (n <= 0)
        return false;
    h->n_text += (size_t)n;
    h->text[h->n_text] = '\0';
    return true;
}

/* The log's next place with this text; fails the test after 15 s. */
static const char *host_expect(struct host *h, const char *text)
{
    uint64_t until = now_ms() + 8000;

    for (;;) {
        const char *found = strstr(h->text + h->seen, text);

        if (found != NULL && strchr(found, '\n') != NULL) {
            h->seen = (size_t)(found - h->text) + strlen(text);
            return found;
        }
        if (now_ms() > until) {
            print_error("not logged: %s\nlog:\n%s\n", text, h->text);
            fail();
        }
        (void)host_read(h, 100);
    }
}

static struct host *host_spawn(const struct config *config)
{
    static struct host h;
    int pipes[2];

    memset(&h, 0, sizeof h);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    h.pid = fork();
    assert_true(h.pid >= 0);
    if (h.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failing test leaves nobody behind */
        dup2(pipes[1], STDERR_FILENO);
        _exit(master_serve(config));
    }
    close(pipes[1]);
    h.log = pipes[0];
    return &h;
}

static uint16_t port_after(const char *line, const char *key)
{
    const char *at = strstr(line, key);

    assert_non_null(at);
    at = strchr(at, ':');
    assert_non_null(at);
    return (uint16_t)atoi(at + 1);
}

static struct host *host_start(const struct config *config)
{
    struct host *h = host_spawn(config);
    const char *line = host_expect(h, "event=ready ");

    if (!config->listen[0].is_unix)
        h->port = port_after(line, "listen=");
    h->admin_port = port_after(line, "admin=");
    return h;
}

/* The master's exit code; fails the test if it takes longer than `within_ms`. */
static int host_wait(struct host *h, uint32_t within_ms)
{
    uint64_t until = now_ms() + within_ms;
    int status;

    while (waitpid(h->pid, &status, WNOHANG) == 0) {
        if (now_ms() > until) {
            print_error("the master is still there; log:\n%s\n", h->text);
            kill(h->pid, SIGKILL);
            waitpid(h->pid, &status, 0);
            fail();
        }
        (void)host_read(h, 5);
    }
    while (host_read(h, 0))
        ;
    close(h->log);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void host_end(struct host *h)
{
    kill(h->pid, SIGINT);
    kill(h->pid, SIGINT); /* may merge with the first */
    usleep(20000);
    kill(h->pid, SIGINT);
    assert_int_equal(host_wait(h, 4000), 1);
}

static int connect_from(const char *source, uint16_t port)
{
    struct sockaddr_in from = { .sin_family = AF_INET }, to = { .sin_family = AF_INET };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = { .tv_sec = 10 };

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    inet_pton(AF_INET, source, &from.sin_addr);
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    to.sin_port = htons(port);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

struct greeting {
    int fd;
    int slot; /* -1: refused */
    int pid;
    int place;
    int refusal;
};

static void read_line(int fd, char *out, size_t max)
{
    size_t n = 0;

    while (n < max - 1 && recv(fd, out + n, 1, 0) == 1 && out[n++] != '\n')
        ;
    out[n] = '\0';
}

static struct greeting greeting_of(int fd)
{
    struct greeting g = { .fd = fd, .slot = -1 };
    char line[128];

    assert_true(fd >= 0);
    read_line(fd, line, sizeof line);
    if (sscanf(line, "slot=%d pid=%d place=%d", &g.slot, &g.pid, &g.place) == 3)
        return g;
    if (sscanf(line, "refused=%d", &g.refusal) != 1) {
        print_error("neither greeted nor refused: \"%s\"\n", line);
        fail();
    }
    return g;
}

static struct greeting greet(struct host *h)
{
    return greeting_of(connect_from("127.0.0.1", h->port));
}

static void tell(int fd, char letter)
{
    assert_int_equal(send(fd, &letter, 1, MSG_NOSIGNAL), 1);
}

static int ask_admin(struct host *h, char letter)
{
    struct greeting g = greeting_of(connect_from("127.0.0.1", h->admin_port));
    char line[32];

    tell(g.fd, letter);
    read_line(g.fd, line, sizeof line);
    close(g.fd);
    return atoi(line);
}

/* --- tests --- */

static void test_limits_are_exact_and_places_come_back(void **state)
{
    struct host *h = host_start(config_for(2, 10));
    struct greeting all[26];
    int served[2] = { 0, 0 }, refused = 0, again = 0;

    (void)state;
    for (int i = 0; i < 26; i++)
        all[i].fd = connect_from("127.0.0.1", h->port);
    for (int i = 0; i < 26; i++) {
        all[i] = greeting_of(all[i].fd);
        if (all[i].slot >= 0) {
            assert_int_equal(all[i].place, 1);
            served[all[i].slot]++;
        } else {
            assert_in_set(all[i].refusal,
                          ((LargestIntegralType[]){ REFUSE_HOST_LIMIT, REFUSE_WORKER_LIMIT }), 2);
            refused++;
        }
    }
    assert_int_equal(served[0], 10);
    assert_int_equal(served[1], 10);
    assert_int_equal(refused, 6);
    for (int i = 0, n = 0; i < 26 && n < 5; i++) {
        if (all[i].slot < 0)
            continue;
        close(all[i].fd);
        n++;
    }
    usleep(300000); /* five clients leave: the workers must see it before we come again */
    for (int i = 0; i < 8; i++)
        again += greet(h).slot >= 0;
    assert_int_equal(again, 5);
    host_end(h);
}

static void test_the_host_limit_is_told_apart(void **state)
{
    struct config *c = config_for(2, 10);
    struct host *h;

    (void)state;
    c->max_connections = 3;
    h = host_start(c);
    for (int i = 0; i < 3; i++)
        assert_true(greet(h).slot >= 0);
    assert_int_equal(greet(h).refusal, REFUSE_HOST_LIMIT);
    host_end(h);
}

static void test_accept_rate_refuses_beyond_a_second_s_worth(void **state)
{
    struct config *c = config_for(2, 100);
    struct host *h;
    int served = 0;

    (void)state;
    c->accept_rate = 5;
    h = host_start(c);
    for (int i = 0; i < 20; i++) {
        struct greeting g = greet(h);

        served += g.slot >= 0;
        if (g.slot < 0)
            assert_int_equal(g.refusal, REFUSE_RATE);
    }
    assert_in_range(served, 5, 10); /* more only if this took over a second */
    host_end(h);
}

static void test_a_killed_worker_is_reaped_announced_and_replaced(void **state)
{
    struct host *h = host_start(config_for(2, 10));
    struct greeting a = greet(h), b = greet(h), c;
    char line[96];

    (void)state;
    assert_int_not_equal(a.slot, b.slot);
    kill(a.pid, SIGKILL);
    snprintf(line, sizeof line, "event=worker_died slot=%d pid=%d signal=9 restart_in=0ms", a.slot,
             a.pid);
    host_expect(h, line);
    snprintf(line, sizeof line, "event=process_ready process=worker slot=%d", a.slot);
    host_expect(h, line);
    c = greet(h); /* the empty one has the most room */
    assert_int_equal(c.slot, a.slot);
    assert_int_not_equal(c.pid, a.pid);
    assert_int_equal(ask_admin(h, 'g'), 1);
    tell(b.fd, 'x');
    host_expect(h, "status=3 restart_in=0ms");
    host_end(h);
}

static void test_a_hole_of_the_dead_is_voided(void **state)
{
    struct host *h = host_start(config_for(2, 10));
    struct greeting a = greet(h);

    (void)state;
    tell(a.fd, 'h');
    host_expect(h, "event=hole_voided");
    host_expect(h, "event=process_ready process=worker");
    assert_int_equal(ask_admin(h, 'v'), 1);
    assert_int_equal(ask_admin(h, 'g'), 1); /* the walk got past the hole */
    host_end(h);
}

static void test_a_slot_that_dies_often_is_restarted_later_and_later(void **state)
{
    struct host *h = host_start(config_for(1, 10));

    (void)state;
    for (int i = 0; i < 7; i++) {
        tell(greet(h).fd, 'x');
        host_expect(h, i < 5 ? "restart_in=0ms" : i == 5 ? "restart_in=100ms" : "restart_in=200ms");
        host_expect(h, "event=process_ready process=worker");
    }
    host_end(h);
}

static void test_a_stopped_worker_s_waiting_connections_are_served(void **state)
{
    struct config *c = config_for(2, 500);
    int fds[60], served = 0;
    struct greeting victim;
    struct host *h;

    (void)state;
    c->balance = BALANCE_REUSEPORT;
    h = host_start(c);
    victim = greet(h);
    kill(victim.pid, SIGSTOP);
    for (int i = 0; i < 60; i++)
        fds[i] = connect_from("127.0.0.1", h->port);
    host_expect(h, "event=worker_stalled"); /* after 2 s; reset connections would not be served */
    host_expect(h, "signal=9");
    for (int i = 0; i < 60; i++)
        served += greeting_of(fds[i]).slot >= 0;
    assert_int_equal(served, 60);
    host_end(h);
}

static void test_passed_connections_of_the_dead_are_placed_again(void **state)
{
    struct host *h = host_start(config_for(2, 20));
    struct greeting victim = greet(h);
    int fds[30], served = 0, pid_of_dead = victim.pid;

    (void)state;
    kill(victim.pid, SIGSTOP); /* the master goes on placing there: it has room */
    for (int i = 0; i < 30; i++)
        fds[i] = connect_from("127.0.0.1", h->port);
    usleep(200000);
    kill(victim.pid, SIGKILL);
    for (int i = 0; i < 30; i++) {
        struct greeting g = greeting_of(fds[i]);

        assert_int_not_equal(g.pid, pid_of_dead);
        served += g.slot >= 0;
    }
    assert_int_equal(served, 30);
    for (int i = 0; i < 10; i++) /* and no place was lost: exactly 40 */
        assert_true(greet(h).slot >= 0);
    assert_int_equal(greet(h).slot, -1);
    host_end(h);
}

static void test_who_gates_without_progress_is_killed_and_the_idle_are_not(void **state)
{
    struct host *h = host_start(config_for(2, 10));
    struct greeting a = greet(h), b = greet(h);
    char line[96];

    (void)state;
    tell(a.fd, 'z');
    usleep(100000);
    tell(b.fd, 'w');
    snprintf(line, sizeof line, "event=worker_stalled slot=%d pid=%d", a.slot, a.pid);
    host_expect(h, line);
    host_expect(h, "signal=9");
    assert_null(strstr(h->text + h->seen, "worker_stalled"));
    assert_int_equal(kill(b.pid, 0), 0);
    host_end(h);
}

static void test_iphash_keeps_a_source_on_its_worker(void **state)
{
    struct config *c = config_for(4, 500);
    int seen[4] = { 0 };
    struct host *h;

    (void)state;
    c->balance = BALANCE_IPHASH;
    h = host_start(c);
    for (int i = 1; i <= 16; i++) {
        char source[32];
        struct greeting first, second;

        snprintf(source, sizeof source, "127.0.7.%d", i);
        first = greeting_of(connect_from(source, h->port));
        second = greeting_of(connect_from(source, h->port));
        assert_int_equal(first.slot, second.slot);
        seen[first.slot]++;
    }
    for (int i = 0; i < 4; i++)
        assert_in_range(seen[i], 1, 8);
    host_end(h);
}

static void test_the_death_of_the_master_ends_all(void **state)
{
    struct host *h = host_start(config_for(2, 10));
    struct greeting a = greet(h), b = greet(h);
    uint64_t until, died;
    char byte;
    int fd;

    (void)state;
    kill(b.pid, SIGSTOP); /* the parent's death wakes it */
    kill(h->pid, SIGKILL);
    died = now_ms();
    while ((fd = connect_from("127.0.0.1", h->port)) >= 0) {
        close(fd);
        assert_true(now_ms() - died < 500); /* the kernel takes an io_uring down behind the exit */
        usleep(2000);
    }
    print_message("listeners closed after %u ms\n", (unsigned)(now_ms() - died));
    assert_int_equal(host_wait(h, 2000), 128 + SIGKILL);
    assert_int_equal(recv(a.fd, &byte, 1, 0), 0);
    assert_true(recv(b.fd, &byte, 1, 0) <= 0);
    until = now_ms() + 3000;
    while (kill(a.pid, 0) == 0 || kill(b.pid, 0) == 0) {
        char path[64];
        FILE *f;
        char gone_state = 'Z';

        snprintf(path, sizeof path, "/proc/%d/stat", a.pid);
        f = fopen(path, "r");
        if (f != NULL) {
            (void)!fscanf(f, "%*d (%*[^)]) %c", &gone_state);
            fclose(f);
        }
        if (gone_state == 'Z')
            break; /* nobody reaps orphans where this test runs in a bare container */
        assert_true(now_ms() < until);
        usleep(10000);
    }
}

static void test_a_drain_closes_at_its_rate(void **state)
{
    struct config *c = config_for(2, 400);
    static struct pollfd polls[500];
    uint64_t begun = 0, grace_until;
    int in_first_second = 0, left = 500;
    struct host *h;

    (void)state;
    c->drain_rate = 300;
    c->drain_grace_ms = 300;
    h = host_start(c);
    for (int i = 0; i < 500; i++) {
        struct greeting g = greet(h);

        assert_true(g.slot >= 0);
        polls[i] = (struct pollfd){ .fd = g.fd, .events = POLLIN };
    }
    kill(h->pid, SIGTERM);
    grace_until = now_ms() + 250;
    host_expect(h, "event=draining");
    if (now_ms() < grace_until)
        assert_true(greet(h).slot >= 0); /* one more client than those that we watch */
    while (left > 0) {
        assert_true(poll(polls, 500, 5000) > 0);
        for (int i = 0; i < 500; i++) {
            if (polls[i].revents == 0)
                continue;
            if (begun == 0)
                begun = now_ms();
            if (now_ms() - begun < 1000)
                in_first_second++;
            close(polls[i].fd);
            polls[i].fd = -1;
            left--;
        }
    }
    assert_in_range(in_first_second, 285, 315);
    assert_int_equal(connect_from("127.0.0.1", h->port), -1);
    assert_int_equal(host_wait(h, 4000), 0);
    host_expect(h, "event=drained closed=50");
    host_expect(h, "forced=0");
}

static void test_a_drain_that_takes_too_long_is_forced(void **state)
{
    struct config *c = config_for(2, 100);
    struct host *h;

    (void)state;
    c->drain_rate = 1;
    c->drain_timeout_ms = 500;
    h = host_start(c);
    for (int i = 0; i < 10; i++)
        assert_true(greet(h).slot >= 0);
    kill(h->pid, SIGINT);
    assert_int_equal(host_wait(h, 4000), 0);
    host_expect(h, "event=drained closed=0 forced=10");
}

static void test_the_admin_s_command_drains_and_without_clients_that_is_quick(void **state)
{
    struct host *h = host_start(config_for(2, 100));
    struct greeting admin = greeting_of(connect_from("127.0.0.1", h->admin_port));
    uint64_t begun = now_ms();

    (void)state;
    tell(admin.fd, 'd');
    assert_int_equal(host_wait(h, 4000), 0);
    assert_true(now_ms() - begun < 2500);
    host_expect(h, "event=draining by=command");
}

static void test_other_signals_are_logged_and_survived(void **state)
{
    struct host *h = host_start(config_for(1, 10));

    (void)state;
    kill(h->pid, SIGHUP);
    host_expect(h, "signal=HUP reason=\"reload: not in this build\"");
    kill(h->pid, SIGUSR2);
    host_expect(h, "signal=USR2 reason=\"upgrade: not in this build\"");
    assert_true(greet(h).slot >= 0);
    host_end(h);
}

static void test_an_address_in_use_is_named(void **state)
{
    struct config *c = config_for(1, 10);
    struct sockaddr_in in = { .sin_family = AF_INET };
    socklen_t n = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[96];
    struct host *h;

    (void)state;
    inet_pton(AF_INET, "127.0.0.1", &in.sin_addr);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, n), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    c->listen[0].port = ntohs(in.sin_port);
    for (int balance = BALANCE_LEASTCONN; balance <= BALANCE_IPHASH; balance++) {
        c->balance = (uint8_t)balance;
        h = host_spawn(c);
        assert_int_equal(host_wait(h, 3000), 1);
        snprintf(text, sizeof text, "127.0.0.1:%u: Address already in use", c->listen[0].port);
        assert_non_null(strstr(h->text, text));
    }
    close(fd);
}

static void test_a_refused_io_uring_is_said_within_a_second(void **state)
{
    uint64_t begun = now_ms();
    struct host *h;

    (void)state;
    setenv("PEAL_RUNG", "0", 1);
    h = host_spawn(config_for(1, 10));
    unsetenv("PEAL_RUNG");
    assert_int_equal(host_wait(h, 3000), 1);
    assert_true(now_ms() - begun < 1000);
    assert_non_null(strstr(h->text, "level=error process=master event=io_uring_refused reason="));
    assert_non_null(strstr(h->text, " remedy="));
}

static void test_a_limit_beyond_the_host_s_is_refused_with_its_key(void **state)
{
    struct config *c = config_for(2, 10);
    struct host *h;

    (void)state;
    c->max_connections_per_worker = 100000000;
    h = host_spawn(c);
    assert_int_equal(host_wait(h, 3000), 2);
    assert_non_null(strstr(h->text, "max_connections_per_worker = 100000000"));
    assert_non_null(strstr(h->text, "RLIMIT_NOFILE is"));
}

static void test_files_are_made_and_removed(void **state)
{
    struct config *c = config_for(2, 10);
    char folder[] = "/tmp/peal-master-XXXXXX";
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct host *h;
    FILE *file;
    int pid = 0;

    (void)state;
    assert_non_null(mkdtemp(folder));
    c->listen[0].is_unix = true;
    c->balance = BALANCE_REUSEPORT; /* UNIX listeners are the master's all the same */
    snprintf(c->listen[0].host, sizeof c->listen[0].host, "%s/socket", folder);
    snprintf(c->pid_file, sizeof c->pid_file, "%s/pid", folder);
    h = host_start(c);
    file = fopen(c->pid_file, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%d", &pid), 1);
    fclose(file);
    assert_int_equal(pid, h->pid);
    snprintf(un.sun_path, sizeof un.sun_path, "%.100s", c->listen[0].host);
    assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(greeting_of(fd).place, 0); /* the workers count for themselves */
    host_end(h);
    assert_int_equal(access(c->listen[0].host, F_OK), -1);
    assert_int_equal(access(c->pid_file, F_OK), -1);
    assert_int_equal(rmdir(folder), 0);
}

int main(int argc, char *argv[])
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits_are_exact_and_places_come_back),
        cmocka_unit_test(test_the_host_limit_is_told_apart),
        cmocka_unit_test(test_accept_rate_refuses_beyond_a_second_s_worth),
        cmocka_unit_test(test_a_killed_worker_is_reaped_announced_and_replaced),
        cmocka_unit_test(test_a_hole_of_the_dead_is_voided),
        cmocka_unit_test(test_a_slot_that_dies_often_is_restarted_later_and_later),
        cmocka_unit_test(test_a_stopped_worker_s_waiting_connections_are_served),
        cmocka_unit_test(test_passed_connections_of_the_dead_are_placed_again),
        cmocka_unit_test(test_who_gates_without_progress_is_killed_and_the_idle_are_not),
        cmocka_unit_test(test_iphash_keeps_a_source_on_its_worker),
        cmocka_unit_test(test_the_death_of_the_master_ends_all),
        cmocka_unit_test(test_a_drain_closes_at_its_rate),
        cmocka_unit_test(test_a_drain_that_takes_too_long_is_forced),
        cmocka_unit_test(test_the_admin_s_command_drains_and_without_clients_that_is_quick),
        cmocka_unit_test(test_other_signals_are_logged_and_survived),
        cmocka_unit_test(test_an_address_in_use_is_named),
        cmocka_unit_test(test_a_refused_io_uring_is_said_within_a_second),
        cmocka_unit_test(test_a_limit_beyond_the_host_s_is_refused_with_its_key),
        cmocka_unit_test(test_files_are_made_and_removed),
    };
    struct child child;

    if (child_parse(&child, argc, argv))
        return stub_main(&child);
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
