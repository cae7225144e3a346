/* sim_ring_threads.c: threads as participants of one ring, with views of their own on the same
 * words, so that ThreadSanitizer sees every word that two of them touch without an order.
 *
 *     slot 0     survives; appends and consumes; rooms and sessions come and go
 *     slot 1     survives; consumes what is all for it, and sleeps until it is rung
 *     slots 2,3  append and consume; now and then they end with an intent, with a hole, or inside a
 *                record, as if killed
 *     admin      appends, reads history, looks up sessions, adds up counters
 *     main       the master: reaps in the design's order and respawns; to have joined a thread is
 *                to know that it is dead
 *
 *     sim_ring_threads [RECORDS [SEED]]     of slot 0: 20000, a fifth of it under ThreadSanitizer
 *
 * @test soak-too timeout=300 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "lib/ring_traffic.h"
#include "lib/shm_fixture.h"

static void on_moment(int moment);
#define RING_MOMENT(what) on_moment(what)

#include "shm/bell.c"
#include "shm/ring_consume.c"
#include "shm/ring_produce.c"
#include "shm/ring_reap.c"

#include "shm/counters.h"
#include "shm/directory.h"
#include "shm/sessions.h"

#define WORKERS    4
#define SURVIVORS  2
#define RING_BYTES (1u << 20)
#define BUCKET     9

struct participant {
    uint32_t slot, life;
    pthread_t thread;
    uint32_t ended; /* by itself; main may join */
    uint32_t quiet; /* has seen that it is to finish: appends nothing more, does not die */
    bool may_die;
    struct ring ring;
    struct directory *directory; /* main frees it: whoever is killed cannot */
    uint64_t random;
    uint32_t seq;
    struct traffic_reader traffic;
    uint64_t at;
    uint64_t order, n_read;
};

/* An identity that slot 0 has told others. */
struct told {
    uint64_t stamp; /* as in the session table */
    uint64_t index, local;
    uint64_t id[2];
};

static struct shm_fixture fixture;
static struct participant participants[WORKERS + 1];
static __thread struct participant *self;
static struct told told;
static uint32_t finish;
static uint64_t seed = 1, n_found, n_history_ok;

__attribute__((noreturn)) static void fail(const char *what)
{
    fprintf(stderr, "sim_ring_threads: seed %lu: slot %u life %u at %lu: %s\n", seed, self->slot,
            self->life, self->at, what);
    _exit(1);
}

static uint32_t dice(uint32_t n)
{
    self->random ^= self->random >> 12;
    self->random ^= self->random << 25;
    self->random ^= self->random >> 27;
    return (uint32_t)((self->random * 0x2545f4914f6cdd1dull) >> 33) % n;
}

static void maybe_die(void)
{
    if (self == NULL || self->slot < SURVIVORS || !self->may_die || dice(300) != 0)
        return;
    shm_store_release_u32(&self->ended, 1);
    pthread_exit(NULL);
}

static void on_moment(int moment)
{
    if (moment == RING_MOMENT_INTENT_SET || moment == RING_MOMENT_INTENT_LEFT)
        maybe_die();
}

static void append(void)
{
    struct traffic_id id = { self->slot, self->life, self->seq };
    uint32_t n_units = 1 + dice(dice(16) == 0 ? 2000 : 20);
    uint64_t at;

    if (ring_reserve(&self->ring, n_units * RING_UNIT_BYTES, &at) != RING_OK)
        return;
    traffic_fill(ring_at(&self->ring, at), n_units, id, 0);
    maybe_die();
    traffic_fill(ring_at(&self->ring, at), n_units, id, 1);
    ring_commit(&self->ring, at, n_units * RING_UNIT_BYTES);
    self->seq++;
    ring_target_mask(&self->ring, 1u << 1);
    if (dice(4) == 0)
        ring_target_bucket(&self->ring, BUCKET);
    if (dice(16) == 0)
        ring_target_session(&self->ring, dice(1u << 12));
    count_add(&self->ring.region->counters[self->slot], COUNT_RING_RECORDS, 1);
}

static void walk(void)
{
    const uint8_t *record;
    uint32_t n_units;

    while ((record = ring_peek(&self->ring, self->at, &n_units)) != NULL) {
        struct traffic_id id;
        const char *wrong = traffic_check(&self->traffic, record, n_units, &id);

        if (wrong != NULL)
            fail(wrong);
        maybe_die();
        self->order = traffic_order(self->order, self->at, id);
        self->n_read++;
        self->at += n_units;
        ring_release(&self->ring, self->at);
    }
}

static void sleep_until_rung(bool appends)
{
    struct pollfd p = { .fd = fixture.master.bells[self->slot], .events = POLLIN };
    struct timespec limit = { .tv_nsec = 50000 + dice(200000) };

    if (!ring_park(&self->ring, self->at))
        return;
    while (ppoll(&p, 1, appends ? &limit : NULL, NULL) < 0)
        if (errno != EINTR)
            fail("ppoll");
    (void)shm_bell_take(&fixture.master, self->slot);
    ring_unpark(&self->ring);
}

/* Slot 0 beside its records: a session that admin may look up while it goes. */
static void change_session(struct sessions *sessions, uint32_t *index)
{
    static uint32_t local;
    uint8_t id[16] = { 0 };
    uint64_t words[2];

    if (*index != SESSION_NONE)
        session_release(sessions, *index);
    *index = session_claim(sessions, SESSION_SOCKET, ++local, 3, id);
    if (*index == SESSION_NONE)
        fail("no session");
    memcpy(words, id, sizeof words);
    shm_store_u64(&told.stamp, told.stamp + 1);
    shm_store_release_u64(&told.index, *index);
    shm_store_release_u64(&told.local, local);
    shm_store_release_u64(&told.id[0], words[0]);
    shm_store_release_u64(&told.id[1], words[1]);
    shm_store_release_u64(&told.stamp, told.stamp + 1);
}

static void look_up_session(void)
{
    uint64_t stamp = shm_load_acquire_u64(&told.stamp);
    uint64_t index = shm_load_acquire_u64(&told.index),
             expected = shm_load_acquire_u64(&told.local);
    uint64_t id[2] = { shm_load_acquire_u64(&told.id[0]), shm_load_acquire_u64(&told.id[1]) };
    uint32_t owner, local;
    uint16_t nsp;

    if ((stamp & 1) != 0 || stamp == 0 || shm_load_u64(&told.stamp) != stamp)
        return;
    if (!session_find(self->ring.region, SESSION_SOCKET, (uint32_t)index, (const uint8_t *)id,
                      &owner, &local, &nsp))
        return; /* released meanwhile */
    if (owner != 0 || local != expected || nsp != 3)
        fail("a session is not what its id says");
    n_found++;
}

static void look_back(void)
{
    static uint64_t words[RING_BYTES / 4 / 8];
    uint64_t tail = ring_tail(&self->ring);
    uint64_t back = dice(2 * RING_BYTES / RING_UNIT_BYTES);
    uint64_t at = ring_resync(&self->ring, tail > back ? tail - back : 0);
    struct traffic_reader once = { 0 };
    struct traffic_id id;
    uint32_t n;

    if (ring_copy(&self->ring, at, (uint8_t *)words, sizeof words, &n) != HISTORY_OK)
        return;
    if (traffic_check(&once, (const uint8_t *)words, n / RING_UNIT_BYTES, &id) != NULL)
        fail("history is torn");
    n_history_ok++;
}

static void admin_main(void)
{
    struct counters_sum sum;
    uint64_t records = 0;

    while (shm_load_acquire_u32(&finish) == 0) {
        struct timespec pause = { .tv_nsec = 100000 };

        append();
        ring_bells(&self->ring);
        look_back();
        look_up_session();
        counters_read(self->ring.region, &sum);
        if (sum.counters[COUNT_RING_RECORDS] < records)
            fail("a count went back");
        records = sum.counters[COUNT_RING_RECORDS];
        (void)nanosleep(&pause, NULL);
    }
}

static void worker_main(uint32_t n_records)
{
    struct sessions *sessions = self->slot == 0 ? sessions_new(&fixture.views[0]) : NULL;
    uint32_t session = SESSION_NONE;
    bool appends = self->slot != 1;

    if (self->slot == 0 && sessions == NULL)
        fail("no memory");
    while (true) {
        bool finishing = shm_load_acquire_u32(&finish) != 0;

        if (finishing)
            shm_store_release_u32(&self->quiet, 1);
        self->may_die = !finishing;
        for (uint32_t i = dice(8); appends && !finishing && i > 0; i--)
            append();
        if (dice(2) == 0)
            maybe_die(); /* committed, and rung nobody */
        ring_bells(&self->ring);
        walk();
        if (self->slot == 0) {
            directory_enter(self->directory, BUCKET);
            directory_leave(self->directory, BUCKET);
            change_session(sessions, &session);
            if (self->seq >= n_records && !finishing)
                shm_store_release_u32(&finish, 1);
        }
        if (finishing && shm_load_u32(&finish) == 2 && self->at == ring_tail(&self->ring))
            break;
        sleep_until_rung(appends && shm_load_u32(&finish) == 0);
    }
    sessions_free(sessions);
}

static uint32_t n_records_wanted;

static void *thread_main(void *participant)
{
    self = participant;
    if (self->slot == PEAL_SLOT_ADMIN)
        admin_main();
    else
        worker_main(n_records_wanted);
    shm_store_release_u32(&self->ended, 1);
    return NULL;
}

static void spawn(struct participant *p, uint32_t slot, uint32_t life)
{
    memset(p, 0, sizeof *p);
    p->slot = slot;
    p->life = life;
    p->random = seed * 0x9e3779b97f4a7c15ull + slot * 1000003ull + life + 1;
    p->traffic.from_start = slot < SURVIVORS;
    ring_open(&p->ring, &fixture.views[slot]);
    p->at = p->ring.slot->cursor;
    p->directory = directory_new(&fixture.views[slot]);
    if (p->directory == NULL || pthread_create(&p->thread, NULL, thread_main, p) != 0) {
        perror("spawn");
        exit(1);
    }
}

/* True: it was dead. */
static bool reap(struct ring *master, uint32_t slot)
{
    struct participant *p = &participants[slot];
    struct shm_slot *s = ring_slot(master, slot);
    bool dead[PEAL_SLOTS_ALL] = { false };
    bool voided;

    if (shm_load_acquire_u32(&p->ended) == 0)
        return false;
    (void)pthread_join(p->thread, NULL);
    for (int i = SURVIVORS; i < WORKERS; i++) /* whoever has ended can do nothing more */
        dead[i] = shm_load_acquire_u32(&participants[i].ended) != 0;
    while (!ring_reap_intent(master, slot, dead, &voided))
        for (int i = SURVIVORS; i < WORKERS; i++)
            dead[i] = shm_load_acquire_u32(&participants[i].ended) != 0;
    ring_consumer_remove(master, slot);
    ring_bell_all(master);
    directory_free(p->directory);
    directory_clear(&fixture.master, slot);
    counters_fold(&fixture.master, slot);
    shm_store_u64(&s->parked, RING_NOT_PARKED);
    s->generation++;
    ring_consumer_add(master, slot, ring_tail(master));
    spawn(p, slot, s->generation);
    return true;
}

/* Has everybody seen the end, and is nobody dead? */
static bool all_quiet(void)
{
    for (uint32_t slot = 0; slot < WORKERS; slot++)
        if (shm_load_acquire_u32(&participants[slot].quiet) == 0)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    struct ring master;
    uint32_t n_deaths = 0;

#ifdef SHM_ATOMIC_BUILTIN
    n_records_wanted = 4000;
#else
    n_records_wanted = 20000;
#endif
    if (getenv("PEAL_SOAK") != NULL)
        n_records_wanted *= 20;
    if (argc > 1)
        n_records_wanted = (uint32_t)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 10);
    shm_fixture_init(&fixture, WORKERS, RING_BYTES);
    ring_open(&master, &fixture.master);
    for (uint32_t slot = 0; slot < WORKERS; slot++)
        ring_consumer_add(&master, slot, 0);
    for (uint32_t slot = 0; slot < WORKERS; slot++)
        spawn(&participants[slot], slot, 0);
    spawn(&participants[WORKERS], PEAL_SLOT_ADMIN, 0);
    while (!all_quiet()) {
        struct timespec pause = { .tv_nsec = 200000 };

        for (uint32_t slot = SURVIVORS; slot < WORKERS; slot++)
            n_deaths += reap(&master, slot);
        if (shm_load_u32(&finish) != 0)
            ring_bell_all(&master);
        (void)nanosleep(&pause, NULL);
    }
    (void)pthread_join(participants[WORKERS].thread, NULL);
    shm_store_release_u32(&finish, 2);
    ring_bell_all(&master);
    for (uint32_t slot = 0; slot < WORKERS; slot++)
        (void)pthread_join(participants[slot].thread, NULL);
    for (uint32_t i = 0; i <= WORKERS; i++)
        directory_free(participants[i].directory);

    printf("sim_ring_threads: %lu records, %u deaths, %lu holes voided, %lu looks back, %lu "
           "sessions found\n",
           participants[0].n_read, n_deaths, fixture.master.header->voids_total, n_history_ok,
           n_found);
    if (participants[0].order != participants[1].order ||
        participants[0].n_read != participants[1].n_read) {
        printf("sim_ring_threads: the survivors have not read the same\n0 passed, 1 failed\n");
        return 1;
    }
    if (n_deaths == 0 || fixture.master.header->voids_total == 0 || n_history_ok == 0 ||
        n_found == 0) {
        printf("sim_ring_threads: something never happened\n0 passed, 1 failed\n");
        return 1;
    }
    shm_fixture_destroy(&fixture);
    printf("1 passed, 0 failed\n");
    return 0;
}
