/* torture_ring.c: real processes hammer one ring while they are killed with SIGKILL.
 *
 *     slot 0        survives; appends all the time, and consumes
 *     slot 1        survives; consumes what is all for it, and sleeps until it is rung
 *     slot 2        survives; consumes what is hardly ever for it: woken when it is far behind
 *     slots 3 to 5  victims: append and consume, and are killed and respawned without back-off
 *     control       sleeps for a millisecond, again and again, and says how late it woke
 *
 * The parent plays the master and reaps in the design's order. It tells a victim the moment at
 * which to kill itself (or kills it at any time), so each moment is hit often, and counted. At the
 * end comes a calm: consumers that wait at a hole and must be rung.
 *
 * Checked: no record torn, lost or repeated (each has a pattern and its author's sequence number;
 * what an author knows to be committed must have been read); the same order for all who survive;
 * nobody sleeps with something for it; the longest time without progress, less the time in which
 * control was late as well: p99 over all deaths <= 50 ms, at most 500 ms.
 *
 *     torture_ring                 a good run, and two with a planted mistake, which must fail
 *     torture_ring run KILLS [no-void | no-hole-bells]    one run; exit 0, or an enum failure
 *
 * @test soak-too timeout=400 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "lib/gaps.h"
#include "lib/ring_traffic.h"
#include "lib/shm_fixture.h"

static bool rings_at_holes = true;
static void on_moment(int which);
#define RING_MOMENT(what)   on_moment(what)
#define RING_BELLS_AT_HOLES rings_at_holes

#include "shm/bell.c"
#include "shm/ring_consume.c"
#include "shm/ring_produce.c"
#include "shm/ring_reap.c"

#define SURVIVORS        3
#define SLOTS            6
#define RING_BYTES       (1u << 20)
#define LIVES_MAX        (1u << 17)
#define BURST            8
#define RECORD_UNITS_MAX 64
/* The bounds are the product's, not that of a build several times as slow. */
#ifdef __SANITIZE_ADDRESS__
#define P99_US 200000
#define MAX_US 2000000
#else
#define P99_US 50000
#define MAX_US 500000
#endif
#define CALM_ROUNDS   20
#define STALLED_TICKS 2500 /* of control: somebody who had the CPU for that long had not moved */

/* ... a victim dies. */
enum when {
    NEVER = 0,
    INTENT_SET,
    RESERVED,
    HALF_FILLED,
    INTENT_LEFT,
    NOT_RUNG,
    IN_RECORD,
    PARKED,
    ANYTIME,
    WHENS
};
static const char *const when_names[WHENS] = {
    [INTENT_SET] = "intent set",
    [RESERVED] = "reserved, not committed",
    [HALF_FILLED] = "half filled, not committed",
    [INTENT_LEFT] = "committed, intent left",
    [NOT_RUNG] = "committed, bell not rung",
    [IN_RECORD] = "inside a record",
    [PARKED] = "parked",
    [ANYTIME] = "any time",
};
#define HITS_MIN 50

enum failure { FINE = 0, BROKEN = 9, NO_PROGRESS, SLEPT, WRONG_RECORD, TOO_SLOW };

/* First without, and measured; then slot 2 is slow: the ring is full; then it may catch up. */
enum crowd { MEASURED = 0, CROWDED, CROWD_OVER };

/* What the processes tell each other beside the ring. */
struct harness {
    uint32_t orders[SLOTS]; /* enum when */
    uint64_t hits[WHENS];   /* a victim counts itself out */
    uint32_t crowd;         /* enum crowd */
    uint32_t calm, finish;
    uint64_t ticks;  /* control's */
    uint32_t failed; /* enum failure */
    char what[256];
    struct {
        uint64_t order; /* hash over all that was read */
        uint64_t n_records;
    } read[SURVIVORS];
    uint64_t n_full;
    uint32_t committed[SLOTS][LIVES_MAX]; /* by author and life: records known to be committed */
    uint32_t seen[SURVIVORS][SLOTS][LIVES_MAX]; /* ... and read */
    struct gaps gaps[SURVIVORS];
    struct gaps late; /* control's */
};

struct child {
    pid_t pid;
    int pidfd;
    uint64_t since_us; /* spawned, or ordered to die */
    bool dead;         /* confirmed; not reaped yet */
};

static struct shm_fixture fixture;
static struct harness *shared;
static struct child children[SLOTS];
static struct child control;
static struct ring ring; /* this process's */
static uint32_t me = PEAL_SLOT_MASTER;
static bool voids = true;
static uint64_t death_us[LIVES_MAX];
static uint32_t n_deaths;

static void sleep_us(uint64_t us)
{
    struct timespec t = { (time_t)(us / 1000000), (long)(us % 1000000 * 1000) };

    (void)nanosleep(&t, NULL);
}

/* The first failure counts. A child says it and stops; the parent sees it. */
__attribute__((format(printf, 2, 3))) static void fail(enum failure failure, const char *format,
                                                       ...)
{
    va_list args;

    if (shm_cas_u32(&shared->failed, FINE, failure)) {
        va_start(args, format);
        (void)vsnprintf(shared->what, sizeof shared->what, format, args);
        va_end(args);
    }
    if (me != PEAL_SLOT_MASTER)
        _exit(1);
}

/* A survivor got on. */
static void progress_note(uint32_t survivor, uint64_t *last_us)
{
    uint64_t now = now_us();

    if (shm_load_u32(&shared->crowd) == MEASURED)
        gap_note(&shared->gaps[survivor], *last_us, now);
    *last_us = now;
}

/* --- a participant --- */

/* The order stands until the victim is at that moment. */
static void moment(enum when when)
{
    if (me >= SLOTS || shm_load_u32(&shared->orders[me]) != (uint32_t)when)
        return;
    __atomic_fetch_add(&shared->hits[when], 1, __ATOMIC_SEQ_CST);
    (void)kill(getpid(), SIGKILL);
    fail(BROKEN, "survived SIGKILL");
}

static void on_moment(int which)
{
    if (which == RING_MOMENT_INTENT_SET)
        moment(INTENT_SET);
    else if (which == RING_MOMENT_INTENT_LEFT)
        moment(INTENT_LEFT);
}

struct author {
    uint32_t life;
    uint32_t seq;
    uint64_t last_us;
};

/* False: no room. */
static bool append(struct author *self, uint32_t n_units)
{
    struct traffic_id id = { me, self->life, self->seq };
    uint32_t n_bytes = n_units * RING_UNIT_BYTES;
    uint64_t at;

    if (ring_reserve(&ring, n_bytes, &at) != RING_OK)
        return false;
    moment(RESERVED);
    traffic_fill(ring_at(&ring, at), n_units, id, 0);
    moment(HALF_FILLED);
    traffic_fill(ring_at(&ring, at), n_units, id, 1);
    ring_commit(&ring, at, n_bytes);
    self->seq++;
    shm_store_release_u32(&shared->committed[me][self->life], self->seq);
    ring_target_mask(&ring, 1u << 1);
    if (rand() % 64 == 0)
        ring_target_mask(&ring, 1u << 2);
    if (rand() % 8 == 0)
        ring_target_bucket(&ring, 9); /* the victims are in there */
    return true;
}

static void burst(struct author *self)
{
    static const uint32_t sizes[] = { 1, 2, 2, 3, 5, 8, 30, RECORD_UNITS_MAX };

    for (int i = 1 + rand() % BURST; i > 0; i--) {
        if (!append(self, sizes[rand() % 8])) {
            __atomic_fetch_add(&shared->n_full, 1, __ATOMIC_RELAXED);
            break; /* FULL ends the turn */
        }
        if (me == 0)
            progress_note(0, &self->last_us);
    }
    moment(NOT_RUNG);
    ring_bells(&ring);
}

struct reader {
    struct traffic_reader traffic;
    uint64_t at;
    uint64_t last_us;
};

static struct traffic_id check_record(struct reader *self, const uint8_t *record, uint32_t n_units)
{
    struct traffic_id id;
    const char *wrong = traffic_check(&self->traffic, record, n_units, &id);

    if (wrong != NULL || id.slot >= SLOTS || id.life >= LIVES_MAX)
        fail(WRONG_RECORD, "slot %u at %lu: record %u of author %u, life %u, %s", me, self->at,
             id.seq, id.slot, id.life, wrong != NULL ? wrong : "is nobody's");
    return id;
}

static void walk(struct reader *self)
{
    const uint8_t *record;
    uint32_t n_units;

    while ((record = ring_peek(&ring, self->at, &n_units)) != NULL) {
        struct traffic_id id = check_record(self, record, n_units);
        bool is_void = ((const struct record_header *)record)->kind == RECORD_VOID;

        moment(IN_RECORD);
        if (me == 2 && self->at % 4 == 0 && shm_load_u32(&shared->crowd) == CROWDED)
            sleep_us(3000);
        if (me < SURVIVORS) {
            shared->read[me].order = traffic_order(shared->read[me].order, self->at, id);
            shared->read[me].n_records++;
            if (!is_void)
                shared->seen[me][id.slot][id.life] = id.seq + 1;
        }
        if (me == 1)
            progress_note(1, &self->last_us);
        self->at += n_units;
        ring_release(&ring, self->at);
    }
}

/* Sleeps until it is rung; who has something to append wakes by itself. */
static void wait_for_bell(struct reader *self, bool appends)
{
    struct pollfd p = { .fd = fixture.master.bells[me], .events = POLLIN };
    struct timespec limit = { .tv_nsec = 100000 + rand() % 400000 };
    uint64_t n;

    if (!ring_park(&ring, self->at))
        return;
    moment(PARKED);
    while (ppoll(&p, 1, appends ? &limit : NULL, NULL) < 0)
        if (errno != EINTR)
            fail(BROKEN, "ppoll: %m");
    if (read(p.fd, &n, sizeof n) < 0 && errno != EAGAIN)
        fail(BROKEN, "read: %m");
    ring_unpark(&ring);
}

static void participant(uint32_t slot, uint32_t life)
{
    struct author author = { .life = life, .last_us = now_us() };
    struct reader reader = { .traffic = { .from_start = slot < SURVIVORS }, .last_us = now_us() };
    bool appends = slot == 0 || slot >= SURVIVORS;

    me = slot;
    srand(slot * 1000003u + life);
    ring_open(&ring, &fixture.views[slot]);
    reader.at = ring.slot->cursor;
    while (true) {
        bool calm = shm_load_acquire_u32(&shared->calm) != 0;

        if (appends && !calm)
            burst(&author);
        walk(&reader);
        if (shm_load_acquire_u32(&shared->finish) != 0 && reader.at == ring_tail(&ring))
            _exit(0);
        wait_for_bell(&reader, appends && !calm);
    }
}

static void control_main(void)
{
    me = SLOTS;
    while (true) {
        uint64_t due = now_us() + 1000;

        sleep_us(1000);
        gap_note(&shared->late, due, now_us());
        shm_store_u64(&shared->ticks, shared->ticks + 1);
    }
}

/* --- the parent: spawning and reaping --- */

static void spawn(struct child *c, uint32_t slot, uint32_t life)
{
    pid_t parent = getpid();
    pid_t pid = fork();

    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        if (slot < SLOTS)
            participant(slot, life);
        control_main();
    }
    if (pid < 0) {
        fail(BROKEN, "fork: %m");
        return;
    }
    *c = (struct child){ .pid = pid, .pidfd = pidfd_open(pid, 0), .since_us = now_us() };
    if (c->pidfd < 0)
        fail(BROKEN, "pidfd_open: %m");
}

/* Confirms deaths; waits up to `timeout_ms` for one. */
static void look_for_deaths(int timeout_ms)
{
    struct pollfd p[SLOTS];

    for (int i = 0; i < SLOTS; i++)
        p[i] = (struct pollfd){ .fd = children[i].dead ? -1 : children[i].pidfd, .events = POLLIN };
    if (poll(p, SLOTS, timeout_ms) <= 0)
        return;
    for (int i = 0; i < SLOTS; i++) {
        siginfo_t info;

        if (p[i].revents == 0)
            continue;
        if (waitid(P_PIDFD, (id_t)children[i].pidfd, &info, WEXITED) != 0)
            fail(BROKEN, "waitid: %m");
        else if (i < SURVIVORS || info.si_code != CLD_KILLED || info.si_status != SIGKILL)
            fail(BROKEN, "slot %d ended by itself: code %d status %d", i, info.si_code,
                 info.si_status);
        (void)close(children[i].pidfd);
        children[i].dead = true;
        shm_store_u32(&shared->orders[i], NEVER);
        death_us[n_deaths++] = now_us();
    }
}

/* The design's order, as far as there is something to reap here. */
static void reap(uint32_t slot)
{
    struct shm_slot *s = &fixture.master.header->slots[slot];
    bool dead[PEAL_SLOTS_ALL] = { false };
    bool voided;
    uint32_t life;

    if (!voids) { /* the planted mistake */
        shm_store_u64(&s->intent_at, RING_NO_INTENT);
    } else {
        while (true) {
            for (int i = 0; i < SLOTS; i++)
                dead[i] = children[i].dead;
            if (ring_reap_intent(&ring, slot, dead, &voided) || shared->failed != FINE)
                break;
            look_for_deaths(1); /* a live one has that intent; it may die as well */
        }
    }
    ring_consumer_remove(&ring, slot);
    ring_bell_all(&ring);
    shm_store_u64(&s->parked, RING_NOT_PARKED);
    life = ++s->generation;
    if (life >= LIVES_MAX) {
        fail(BROKEN, "too many lives");
        return;
    }
    ring_consumer_add(&ring, slot, ring_tail(&ring));
    spawn(&children[slot], slot, life);
}

static void reap_all(void)
{
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        if (children[slot].dead)
            reap(slot);
}

/* Fails if a survivor's cursor has not moved for long while control has had the CPU. */
static void watch_progress(void)
{
    static uint64_t cursors[2], since_ticks[2];

    for (int i = 0; i < 2; i++) {
        uint64_t cursor = shm_load_u64(&fixture.master.header->slots[i].cursor);
        uint64_t ticks = shm_load_u64(&shared->ticks);

        if (cursor != cursors[i] || since_ticks[i] == 0) {
            cursors[i] = cursor;
            since_ticks[i] = ticks;
        } else if (ticks - since_ticks[i] > STALLED_TICKS) {
            fail(NO_PROGRESS, "slot %d has not moved from %lu (tail %lu)", i, cursor,
                 ring_tail(&ring));
        }
    }
}

/* Orders a death to each victim that has lived a little: each time the moment hit least so far. */
static void order_deaths(void)
{
    for (uint32_t slot = SURVIVORS; slot < SLOTS; slot++) {
        struct child *c = &children[slot];
        uint64_t age = now_us() - c->since_us;
        enum when least = INTENT_SET;

        if (c->dead)
            continue;
        if (shm_load_u32(&shared->orders[slot]) != NEVER) {
            if (age > 2000000) { /* the moment does not come: any other is good */
                shared->hits[ANYTIME]++;
                (void)kill(c->pid, SIGKILL);
                c->since_us = now_us();
            }
            continue;
        }
        if (age < 2000 + (uint64_t)rand() % 20000)
            continue;
        for (enum when w = INTENT_SET; w < WHENS; w++)
            if (shared->hits[w] + (uint64_t)rand() % 3 < shared->hits[least])
                least = w;
        c->since_us = now_us();
        if (least == ANYTIME) {
            shared->hits[ANYTIME]++;
            (void)kill(c->pid, SIGKILL);
        }
        shm_store_u32(&shared->orders[slot], least);
    }
}

/* --- the calm, and the end --- */

static bool wait_until(bool (*condition)(uint64_t), uint64_t argument)
{
    uint64_t begin = shm_load_u64(&shared->ticks);

    while (!condition(argument)) {
        if (shm_load_u64(&shared->ticks) - begin > STALLED_TICKS || shared->failed != FINE)
            return false;
        sleep_us(200);
    }
    return true;
}

static bool all_parked_as(uint64_t word)
{
    for (int i = 0; i < SLOTS; i++)
        if (shm_load_u64(&fixture.master.header->slots[i].parked) != word)
            return false;
    return true;
}

static bool all_walked_to(uint64_t position)
{
    for (int i = 0; i < SLOTS; i++)
        if (shm_load_u64(&fixture.master.header->slots[i].cursor) != position)
            return false;
    return true;
}

/* All wait at a hole that the parent holds; what it commits is for nobody. Its bells alone can wake
 * them. */
static void calm_rounds(void)
{
    shm_store_release_u32(&shared->calm, 1);
    ring_bell_all(&ring);
    for (int round = 0; round < CALM_ROUNDS && shared->failed == FINE; round++) {
        struct record_header header = { .n_bytes = RING_UNIT_BYTES, .kind = RECORD_VOID };
        uint64_t at;

        while (ring_reserve(&ring, header.n_bytes, &at) != RING_OK) {
            sleep_us(200);
            watch_progress();
            if (shared->failed != FINE)
                return;
        }
        ring_bell_all(&ring);
        if (!wait_until(all_parked_as, at * 2 + 1))
            fail(SLEPT, "round %d: not all have walked to the hole at %lu", round, at);
        memcpy(ring_at(&ring, at), &header, sizeof header);
        ring_commit(&ring, at, header.n_bytes);
        ring_bells(&ring);
        if (!wait_until(all_walked_to, at + 1))
            fail(SLEPT, "round %d: somebody sleeps at the hole at %lu, which is committed", round,
                 at);
    }
}

static void end_all(bool orderly)
{
    shm_store_release_u32(&shared->finish, 1);
    ring_bell_all(&ring);
    for (int i = 0; i < SLOTS; i++) {
        struct pollfd p = { .fd = children[i].pidfd, .events = POLLIN };

        if (children[i].dead)
            continue;
        if (orderly && poll(&p, 1, 10000) != 1)
            fail(SLEPT, "slot %d does not come to the end", i);
        (void)kill(children[i].pid, SIGKILL);
        (void)waitpid(children[i].pid, NULL, 0);
    }
    (void)kill(control.pid, SIGKILL);
    (void)waitpid(control.pid, NULL, 0);
}

static void check_survivors(void)
{
    for (int i = 1; i < SURVIVORS; i++)
        if (shared->read[i].order != shared->read[0].order ||
            shared->read[i].n_records != shared->read[0].n_records)
            fail(WRONG_RECORD, "slots 0 and %d have not read the same: %lu and %lu records", i,
                 shared->read[0].n_records, shared->read[i].n_records);
    for (int i = 0; i < SURVIVORS; i++)
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            for (uint32_t life = 0; life <= fixture.master.header->slots[slot].generation; life++) {
                uint32_t known = shared->committed[slot][life], seen = shared->seen[i][slot][life];

                /* One more: killed between its commit and noting it. */
                if (seen != known && seen != known + 1)
                    fail(WRONG_RECORD, "slot %d read %u of author %u life %u, which committed %u",
                         i, seen, slot, life, known);
            }
}

/* --- time without progress --- */

/* Over the first `n` deaths. */
static void gaps_report(uint32_t n)
{
    static uint64_t raw[LIVES_MAX], less[LIVES_MAX];
    uint64_t raw_p99, raw_max, p99, max, late_max = 0;

    if (n == 0)
        return;
    for (uint32_t i = 0; i < shared->late.n; i++)
        if (shared->late.at[i].to_us - shared->late.at[i].from_us > late_max)
            late_max = shared->late.at[i].to_us - shared->late.at[i].from_us;
    for (int s = 0; s < 2; s++) {
        gaps_longest(&shared->gaps[s], NULL, death_us, n, raw);
        gaps_longest(&shared->gaps[s], &shared->late, death_us, n, less);
        if (shared->gaps[s].n == GAPS_MAX)
            fail(BROKEN, "more gaps than can be noted");
    }
    gaps_p99_max(raw, n, &raw_p99, &raw_max);
    gaps_p99_max(less, n, &p99, &max);
    printf("torture: without progress, longest after each death: p99 %.1f ms, max %.1f ms\n"
           "torture: control was late by up to %.1f ms\n"
           "torture: less control: p99 %.1f ms (bound %d), max %.1f ms (bound %d)\n",
           (double)raw_p99 / 1e3, (double)raw_max / 1e3, (double)late_max / 1e3, (double)p99 / 1e3,
           P99_US / 1000, (double)max / 1e3, MAX_US / 1000);
    if (p99 > P99_US || max > MAX_US)
        fail(TOO_SLOW, "survivors stood still for too long");
}

/* --- one run --- */

static void prepare(void)
{
    shm_fixture_init(&fixture, SLOTS, RING_BYTES);
    for (uint32_t slot = SURVIVORS; slot < SLOTS; slot++)
        fixture.master.directory[9] |= 1u << slot;
    ring_open(&ring, &fixture.master);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (shared == MAP_FAILED) {
        perror("mmap");
        exit(BROKEN);
    }
    srand(1);
    for (uint32_t slot = 0; slot < SLOTS; slot++) /* all from position 0 on */
        ring_consumer_add(&ring, slot, 0);
    spawn(&control, SLOTS, 0);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        spawn(&children[slot], slot, 0);
}

static void report(uint64_t begin_us, uint32_t n_timed)
{
    const struct shm_header *h = fixture.master.header;

    printf("torture: %u deaths in %.1f s, %lu records read by each survivor, %lu holes voided, %lu "
           "times full\n",
           n_deaths, (double)(now_us() - begin_us) / 1e6, shared->read[0].n_records, h->voids_total,
           shared->n_full);
    for (enum when w = INTENT_SET; w < WHENS; w++)
        printf("torture: %6lu deaths: %s\n", shared->hits[w], when_names[w]);
    gaps_report(n_timed);
}

static void storm(uint32_t kills)
{
    while (n_deaths < kills && shared->failed == FINE) {
        order_deaths();
        look_for_deaths(1);
        reap_all();
        watch_progress();
    }
}

static int run(uint32_t kills)
{
    uint64_t begin_us = now_us();
    uint32_t n_timed;

    prepare();
    storm(kills - kills / 20);
    n_timed = n_deaths;
    shm_store_u32(&shared->crowd, CROWDED);
    storm(kills);
    shm_store_u32(&shared->crowd, CROWD_OVER);
    for (uint32_t slot = SURVIVORS; slot < SLOTS; slot++)
        shm_store_u32(&shared->orders[slot], NEVER);
    /* whoever was just dying is dead at the end, however late it gets a CPU */
    for (int i = 0; i < 20; i++) {
        sleep_us(20000);
        look_for_deaths(0);
        reap_all();
    }
    if (shared->failed == FINE)
        calm_rounds();
    end_all(shared->failed == FINE);
    if (shared->failed == FINE)
        check_survivors();
    report(begin_us, n_timed);
    for (enum when w = INTENT_SET; w < WHENS && kills >= 2000; w++)
        if (shared->hits[w] < HITS_MIN)
            fail(BROKEN, "only %lu deaths: %s", shared->hits[w], when_names[w]);
    if (kills >= 2000 && shared->n_full == 0)
        fail(BROKEN, "the ring was never full");
    if (shared->failed != FINE)
        printf("torture: FAILED: %s\n", shared->what);
    return (int)shared->failed;
}

/* --- all runs --- */

static int run_apart(char *kills, char *mistake)
{
    char *argv[] = { (char[]){ "torture_ring" }, (char[]){ "run" }, kills, mistake, NULL };
    int status;
    pid_t pid;

    printf("torture: --- %s\n", mistake != NULL ? mistake : "no mistake");
    (void)fflush(stdout);
    pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)execv("/proc/self/exe", argv);
        _exit(BROKEN);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return BROKEN;
    return WIFEXITED(status) ? WEXITSTATUS(status) : BROKEN;
}

int main(int argc, char **argv)
{
#ifdef __SANITIZE_ADDRESS__
    char kills[] = "700"; /* dear there, and the moments are the same */
#else
    char kills[] = "2100";
#endif
    uint32_t n_passed = 0;

    if (argc >= 3 && strcmp(argv[1], "run") == 0) {
        voids = argc < 4 || strcmp(argv[3], "no-void") != 0;
        rings_at_holes = argc < 4 || strcmp(argv[3], "no-hole-bells") != 0;
        return run((uint32_t)strtoul(argv[2], NULL, 10));
    }
    n_passed += run_apart(getenv("PEAL_SOAK") != NULL ? (char[]){ "20000" } : kills, NULL) == FINE;
    n_passed += run_apart((char[]){ "200" }, (char[]){ "no-void" }) == NO_PROGRESS;
    n_passed += run_apart((char[]){ "20" }, (char[]){ "no-hole-bells" }) == SLEPT;
    printf("%u passed, %u failed\n", n_passed, 3 - n_passed);
    return n_passed == 3 ? 0 : 1;
}
