/* sim_ring.c: several ring participants in one process under a seeded scheduler.
 *
 * Each participant is a small state machine that calls the real functions, one call a step. At the
 * moments inside of them (ring_internal.h) others take steps, or the participant is killed. The
 * master reaps in the design's order, one step at a time. A ledger in order of position says what
 * must be read: checked are that no record is torn, lost or repeated, that all walk the same order,
 * that a gating consumer is never overtaken, that history says what is true, and, whenever all has
 * come to rest, that nobody sleeps with something for it or more than a quarter of the ring behind.
 *
 *     sim_ring [SEEDS [FIRST]]        default 60 seeds from 1; with PEAL_SOAK 3000. A failure
 *     prints its seed
 *
 * @test soak-too timeout=300 */
#include <setjmp.h>

#include "lib/shm_fixture.h"

static void on_moment(int moment);
#define RING_MOMENT(what) on_moment(what)

#include "shm/bell.c"
#include "shm/ring_consume.c"
#include "shm/ring_produce.c"
#include "shm/ring_reap.c"

#define WORKERS    4
#define ACTORS     (WORKERS + 1) /* and admin, which appends and reads history */
#define RING_BYTES (1u << 20)
#define UNITS      (RING_BYTES / RING_UNIT_BYTES)
#define STEPS      4000
#define LEDGER_MAX (STEPS * 4)
#define BUCKETS    3

enum life { AWAKE = 0, ASLEEP, KILLED };
enum reap { REAP_INTENT = 0, REAP_WITHDRAW, REAP_BELLS, REAP_CLEAR, REAP_RESPAWN };

struct entry {
    uint64_t at;
    uint32_t n_units;
    uint32_t author;
    uint32_t generation;
    bool committed;
    uint64_t whom; /* workers it is for */
};

struct actor {
    uint32_t slot;
    enum life life;
    enum reap reap;
    struct ring ring;
    uint32_t generation;
    uint64_t at;        /* walk: position ... */
    uint32_t next;      /* ... and its entry */
    uint32_t in_record; /* units of the record that it is inside of */
    bool filling;
    uint32_t mine; /* entry being filled */
    uint32_t n_filled;
    bool wants_room;
    uint64_t tail_seen; /* by the master, some steps before it respawns */
    int depth;          /* > 0: inside a call that others interrupt */
    jmp_buf killed;
};

static struct shm_fixture fixture;
static struct ring master;
static struct actor actors[ACTORS];
static struct entry ledger[LEDGER_MAX];
static uint32_t n_ledger;
static uint64_t random_state;
static uint64_t seed;
static struct actor *running; /* innermost */
static int depth;
static bool rest_soon;
static bool calm; /* nobody begins anything new, nobody dies */
static uint64_t n_kills, n_voids, n_full, n_records, n_parked, n_history, n_raced, n_twins;
static uint64_t n_outlived, n_rounds;

#define CHECK(condition)                                                                    \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            fprintf(stderr, "sim_ring: seed %llu: line %d: %s\n", (unsigned long long)seed, \
                    __LINE__, #condition);                                                  \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)

static uint32_t dice(uint32_t n) /* xorshift64* */
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * 0x2545f4914f6cdd1dull) >> 33) % n;
}

/* Every death rings everybody, which hides bells that were lost: a third of the seeds has no
 * deaths, a third few. */
static bool dies(uint32_t odds)
{
    return seed % 3 != 0 && dice(seed % 3 == 1 ? odds : odds * 10) == 0;
}

static bool is_worker(const struct actor *a)
{
    return a->slot < WORKERS;
}

/* --- records: each unit says which record it belongs to --- */

static uint64_t stamp_of(const struct entry *e, uint32_t unit)
{
    return (e->at << 20 | (uint64_t)e->author << 12) + unit * 0x9e3779b97f4a7c15ull + e->generation;
}

static void fill(const struct actor *a, const struct entry *e, uint32_t from, uint32_t to)
{
    uint8_t *record = ring_at(&a->ring, e->at);

    for (uint32_t unit = from; unit < to; unit++) {
        uint64_t stamp = stamp_of(e, unit);

        if (unit == 0) {
            struct record_header header = { .n_bytes = e->n_units * RING_UNIT_BYTES,
                                            .kind = RECORD_BROADCAST,
                                            .slot = (uint8_t)e->author,
                                            .generation = e->generation,
                                            .id = stamp };
            memcpy(record, &header, sizeof header);
        } else {
            memcpy(record + unit * RING_UNIT_BYTES + unit % 8 * 8, &stamp, sizeof stamp);
        }
    }
}

static void verify(const uint8_t *record, const struct entry *e)
{
    const struct record_header *h = (const struct record_header *)record;

    CHECK(h->n_bytes == e->n_units * RING_UNIT_BYTES);
    if (!e->committed) { /* its author died first: the master has voided it, with the very length */
        CHECK(h->kind == RECORD_VOID);
        return;
    }
    CHECK(h->kind == RECORD_BROADCAST);
    CHECK(h->id == stamp_of(e, 0));
    for (uint32_t unit = 1; unit < e->n_units; unit++) {
        uint64_t stamp;

        memcpy(&stamp, record + unit * RING_UNIT_BYTES + unit % 8 * 8, sizeof stamp);
        CHECK(stamp == stamp_of(e, unit));
    }
}

/* --- steps of a participant --- */

static void die(struct actor *a)
{
    a->life = KILLED;
    a->reap = REAP_INTENT;
    n_kills++;
}

/* Often what just fits, or is one unit too long. */
static uint32_t size_of_next(void)
{
    static const uint32_t sizes[] = { 1, 1, 2, 3, 64, 500, UNITS / 8, UNITS / 4 };
    uint64_t least = ring_tail(&master);
    uint64_t room;

    for (int i = 0; i < WORKERS; i++)
        if ((fixture.master.header->ring.consumers >> i & 1) != 0 &&
            actors[i].ring.slot->cursor < least)
            least = actors[i].ring.slot->cursor;
    room = least + UNITS - ring_tail(&master) + dice(2);
    return room > 0 && room <= UNITS / 4 && dice(2) == 0 ? (uint32_t)room : sizes[dice(8)];
}

static void begin(struct actor *a)
{
    uint32_t n_units = size_of_next();
    struct entry *e;
    uint64_t at;

    switch (ring_reserve(&a->ring, n_units * RING_UNIT_BYTES, &at)) {
    case RING_OK: break;
    case RING_TOO_BIG: CHECK(false); break;
    case RING_FULL:
        n_full++;
        a->wants_room = true;
        ring_bells(&a->ring); /* FULL ends the turn */
        return;
    }
    a->wants_room = false;
    CHECK(n_ledger < LEDGER_MAX);
    CHECK(n_ledger == 0 || ledger[n_ledger - 1].at + ledger[n_ledger - 1].n_units == at);
    e = &ledger[n_ledger];
    *e = (struct entry){
        .at = at, .n_units = n_units, .author = a->slot, .generation = a->generation
    };
    a->mine = n_ledger++;
    a->filling = true;
    a->n_filled = 0;
    n_records++;
}

static void go_on_filling(struct actor *a)
{
    struct entry *e = &ledger[a->mine];
    uint32_t to = a->n_filled + 1 + dice(e->n_units);

    if (a->n_filled < e->n_units) {
        if (to > e->n_units)
            to = e->n_units;
        fill(a, e, a->n_filled, to);
        a->n_filled = to;
        return;
    }
    /* Before the call: killed inside of it, at RING_MOMENT_INTENT_LEFT, it has committed. */
    e->committed = true;
    ring_commit(&a->ring, e->at, e->n_units * RING_UNIT_BYTES);
    a->filling = false;
    switch (dice(4)) {
    case 0: break; /* for nobody */
    case 1:
        e->whom = 1u << dice(WORKERS);
        ring_target_mask(&a->ring, e->whom);
        break;
    case 2: {
        uint32_t bucket = dice(BUCKETS);

        e->whom = fixture.master.directory[bucket];
        ring_target_bucket(&a->ring, bucket);
        break;
    }
    default: {
        uint32_t owner = dice(WORKERS);

        e->whom = 1u << owner;
        ring_target_session(&a->ring, owner * fixture.master.header->sessions_per_slot + 7);
    }
    }
}

/* Looks at the record it stands at, or leaves it behind, or falls asleep. */
static bool walk(struct actor *a)
{
    uint32_t n_units;
    const uint8_t *record;

    if (a->in_record > 0) { /* a second look: nothing may have changed meanwhile */
        verify(ring_at(&a->ring, a->at), &ledger[a->next]);
        a->at += a->in_record;
        a->next++;
        a->in_record = 0;
        ring_release(&a->ring, a->at);
        return true;
    }
    record = ring_peek(&a->ring, a->at, &n_units);
    if (record != NULL) {
        CHECK(a->next < n_ledger);
        CHECK(ledger[a->next].at == a->at);
        verify(record, &ledger[a->next]);
        a->in_record = n_units;
        return true;
    }
    if (a->ring._n_committed > 0) {
        ring_bells(&a->ring);
        return true;
    }
    if (a->wants_room) /* sleeps with a time limit only: the same as not at all */
        return false;
    if (ring_park(&a->ring, a->at)) {
        a->life = ASLEEP;
        n_parked++;
    }
    return true;
}

/* Admin reads history at any record it likes, and inside. */
static void look_back(const struct actor *a)
{
    static uint8_t out[RING_BYTES / 4];
    const struct entry *e = &ledger[dice(n_ledger)];
    uint32_t inside = dice(4) == 0 ? dice(e->n_units) : 0;
    uint64_t tail = ring_tail(&a->ring);
    uint64_t at = e->at + inside;
    uint64_t next;
    uint32_t n;
    enum ring_history answer = ring_copy(&a->ring, at, out, sizeof out, &n);

    n_history++;
    if (at + UNITS < tail) {
        CHECK(answer == HISTORY_GONE);
    } else if (inside > 0) {
        CHECK(answer == HISTORY_GONE);
    } else if (ring_is_committed(&a->ring, at)) {
        CHECK(answer == HISTORY_OK);
        CHECK(n == e->n_units * RING_UNIT_BYTES);
        verify(out, e);
    } else {
        CHECK(answer == HISTORY_NOT_YET);
    }
    next = ring_resync(&a->ring, at);
    CHECK(next >= at && next <= tail && next + UNITS >= tail);
    for (uint32_t i = 0; i < n_ledger; i++) /* the first beginning from there on */
        if (ledger[i].at >= at && ledger[i].at + UNITS >= tail) {
            CHECK(next == ledger[i].at);
            return;
        }
    CHECK(next == tail);
}

/* One step. False: there is nothing that it could do. */
static bool actor_act(struct actor *a)
{
    if (a->filling) {
        go_on_filling(a);
        return true;
    }
    if (!is_worker(a)) {
        if (calm || dice(3) == 0) {
            if (a->ring._n_committed == 0)
                return false;
            ring_bells(&a->ring);
        } else if (n_ledger > 0 && dice(3) == 0) {
            look_back(a);
        } else {
            begin(a);
        }
        return true;
    }
    if (a->life == ASLEEP) {
        if (!shm_bell_take(&fixture.master, a->slot))
            return false;
        ring_unpark(&a->ring);
        a->life = AWAKE;
        return true;
    }
    if (!calm && a->in_record == 0 && dice(3) == 0) {
        begin(a);
        return true;
    }
    if (a->ring._n_committed > 0 && dice(3) == 0) {
        ring_bells(&a->ring);
        return true;
    }
    return walk(a);
}

static bool actor_step(struct actor *a)
{
    struct actor *outer = running;
    /* volatile: read behind longjmp */
    volatile bool acted = true;

    if (a->life == KILLED || a->depth > 0)
        return false;
    if (!calm && dies(150)) {
        die(a);
        return true;
    }
    running = a;
    a->depth++;
    if (setjmp(a->killed) == 0)
        acted = actor_act(a);
    a->depth--;
    running = outer;
    if (a->life != KILLED)
        ring_check(&a->ring);
    return acted;
}

/* --- the master --- */

static void respawn(struct actor *a)
{
    struct shm_slot *s = &fixture.master.header->slots[a->slot];

    s->generation = ++a->generation;
    if (is_worker(a))
        ring_consumer_add(&master, a->slot, a->tail_seen);
    ring_open(&a->ring, &fixture.views[a->slot]);
    a->life = AWAKE;
    a->filling = a->wants_room = false;
    a->in_record = 0;
    a->at = s->cursor;
    a->next = n_ledger;
    while (a->next > 0 && ledger[a->next - 1].at >= a->at)
        a->next--;
}

static bool reap_step(struct actor *a)
{
    bool dead[PEAL_SLOTS_ALL] = { false };
    bool voided;

    if (a->life != KILLED || a->depth > 0)
        return false;
    for (int i = 0; i < ACTORS; i++)
        dead[actors[i].slot] = actors[i].life == KILLED && actors[i].depth == 0;
    switch (a->reap) {
    case REAP_INTENT:
        if (!ring_reap_intent(&master, a->slot, dead, &voided))
            return false;
        n_voids += voided;
        break;
    case REAP_WITHDRAW: ring_consumer_remove(&master, a->slot); break;
    case REAP_BELLS: ring_bell_all(&master); break;
    case REAP_CLEAR:
        fixture.master.header->slots[a->slot].parked = RING_NOT_PARKED;
        a->tail_seen = ring_tail(&master);
        break;
    case REAP_RESPAWN: respawn(a); return true;
    }
    a->reap = (enum reap)(a->reap + 1);
    return true;
}

/* Somebody who is in the middle of nothing, or NULL. */
static struct actor *other_at_leisure(const struct actor *not_this)
{
    uint32_t first = dice(ACTORS);

    for (uint32_t i = 0; i < ACTORS; i++) {
        struct actor *other = &actors[(first + i) % ACTORS];

        if (other != not_this && other->life == AWAKE && other->depth == 0 && !other->filling &&
            other->in_record == 0 && other->ring._n_committed == 0)
            return other;
    }
    return NULL;
}

/* `a` has stored its intent. Another reserves at the same tail, and both are killed: which length
 * was reserved? */
static void two_die_with_one_intent(struct actor *a)
{
    struct actor *other = other_at_leisure(NULL);

    if (other == NULL)
        return;
    running = NULL; /* no moments for this one */
    begin(other);
    running = a;
    if (!other->filling)
        return;
    die(other);
    n_twins++;
    die(a);
    longjmp(a->killed, 1);
}

/* Somebody is about to say that it waits at the tail. One reserves there; another behind it,
 * commits, and rings nobody, for nobody is parked yet. So the first must ring whoever waits there,
 * whomever its own record is for. */
static void two_overtake_the_parking(struct actor *a)
{
    struct actor *first = other_at_leisure(NULL);
    struct actor *second = other_at_leisure(first);

    if (first == NULL || second == NULL)
        return;
    running = NULL;
    begin(first);
    if (first->filling)
        begin(second);
    while (second->filling)
        go_on_filling(second);
    ring_bells(&second->ring);
    running = a;
    rest_soon = dice(2) == 0; /* later records would ring it for their own reasons */
}

/* Inside a call: others take steps, or this is the end. */
static void on_moment(int moment)
{
    struct actor *a = running;

    if (a == NULL || calm)
        return;
    if (dies(40)) {
        die(a);
        longjmp(a->killed, 1);
    }
    if (moment == RING_MOMENT_PARKING && dice(2) == 0) {
        two_overtake_the_parking(a);
        return;
    }
    if (depth >= 3 || dice(4) != 0)
        return;
    n_raced++;
    if (moment == RING_MOMENT_INTENT_SET && dies(4))
        two_die_with_one_intent(a);
    depth++;
    for (uint32_t i = dice(depth == 1 ? 40 : 6); i > 0; i--) {
        struct actor *other = &actors[dice(ACTORS)];

        if (!actor_step(other))
            (void)reap_step(other);
    }
    depth--;
}

/* --- all at rest --- */

/* Nobody begins anything; all that can take a step do, until none can. */
static void come_to_rest(void)
{
    bool moved = true;

    calm = true;
    for (int round = 0; moved; round++) {
        CHECK(round < 1000000);
        moved = false;
        for (int i = 0; i < ACTORS; i++) {
            actors[i].wants_room = false;
            moved |= actors[i].life == KILLED ? reap_step(&actors[i]) : actor_step(&actors[i]);
        }
    }
    calm = false;
}

static void check_rest(void)
{
    uint64_t tail = ring_tail(&master);

    for (int i = 0; i < WORKERS; i++) {
        const struct actor *a = &actors[i];

        CHECK(a->life == ASLEEP);
        CHECK(a->ring.slot->parked / 2 == a->at);
        CHECK(!ring_is_committed(&a->ring, a->at) || (a->ring.slot->parked & 1) == 0);
        CHECK(tail - a->at <= UNITS / 4);
        for (uint32_t next = a->next; next < n_ledger; next++)
            CHECK((ledger[next].whom >> a->slot & 1) == 0);
    }
}

static void check_always(void)
{
    uint64_t tail = ring_tail(&master);

    for (int i = 0; i < WORKERS; i++)
        CHECK(actors[i].life == KILLED || tail - actors[i].ring.slot->cursor <= UNITS);
    for (int i = 0; i < ACTORS; i++) { /* a hole is there until it is committed or voided */
        const struct actor *a = &actors[i];

        CHECK(!a->filling || (a->life == KILLED && a->reap != REAP_INTENT) ||
              tail - ledger[a->mine].at <= UNITS);
    }
}

/* --- what chance alone brings about too seldom: nobody is inside of a call --- */

/* Takes in or appends what it can, without sleep. */
static bool hurry(struct actor *a)
{
    uint32_t n_units;

    if (a->life == KILLED)
        return false;
    if (a->life == ASLEEP) {
        ring_unpark(&a->ring);
        a->life = AWAKE;
    }
    if (a->filling) {
        go_on_filling(a);
    } else if (is_worker(a) && (a->in_record > 0 || ring_peek(&a->ring, a->at, &n_units) != NULL)) {
        (void)walk(a);
    } else {
        begin(a);
        ring_bells(&a->ring);
        return a->filling;
    }
    return true;
}

/* All but one hurry until the tail is at `until`, or nobody finds room any more. */
static void others_hurry(const struct actor *not_this, uint64_t until)
{
    bool moved = true;

    while (moved && ring_tail(&master) < until) {
        moved = false;
        for (uint32_t i = 0; i < ACTORS; i++) {
            if (&actors[i] != not_this)
                moved |= hurry(&actors[i]);
            check_always();
        }
    }
}

/* Admin has reserved, and every consumer that stands before its hole dies; their successors begin behind it. So nothing but the rule about
 * reservations under way keeps the ring from being written over it. */
static void a_hole_outlives_its_consumers(void)
{
    struct actor *admin = &actors[WORKERS];

    if (!admin->filling || admin->life == KILLED)
        return;
    for (uint32_t i = 0; i < WORKERS; i++)
        if (actors[i].life != KILLED)
            die(&actors[i]);
    for (uint32_t i = 0; i < WORKERS; i++)
        while (actors[i].life == KILLED)
            if (!reap_step(&actors[i]))
                return; /* killed with the intent that admin has: it must wait for admin */
    n_outlived++;
    others_hurry(admin, ledger[admin->mine].at + 2 * UNITS);
}

/* The master has looked at the tail for a worker's successor, and the others write the ring nearly once round before that one begins to gate: floors
 * that they have found without it are beyond where it was to begin. */
static void the_ring_goes_round_before_a_consumer_begins(void)
{
    struct actor *a = &actors[dice(WORKERS)];
    uint64_t from = a->tail_seen;

    if (a->life != KILLED || a->reap != REAP_RESPAWN)
        return;
    others_hurry(a, from + UNITS / 2 + dice(UNITS / 2));
    CHECK(reap_step(a));
    n_rounds++;
    check_always();
    others_hurry(a, from + 3 * UNITS);
}

static void run_seed(void)
{
    random_state = seed * 0x9e3779b97f4a7c15ull + 1;
    n_ledger = 0;
    depth = 0;
    shm_fixture_init(&fixture, WORKERS, RING_BYTES);
    ring_open(&master, &fixture.master);
    memset(actors, 0, sizeof actors);
    for (uint32_t bucket = 0; bucket < BUCKETS; bucket++)
        fixture.master.directory[bucket] = dice(1u << WORKERS);
    for (uint32_t i = 0; i < ACTORS; i++) {
        actors[i].slot = i < WORKERS ? i : PEAL_SLOT_ADMIN;
        respawn(&actors[i]);
    }
    for (uint32_t step = 0; step < STEPS; step++) {
        struct actor *a = &actors[dice(ACTORS)];

        if (!actor_step(a))
            (void)reap_step(a);
        check_always();
        if (dies(60))
            a_hole_outlives_its_consumers();
        if (dice(8) == 0)
            the_ring_goes_round_before_a_consumer_begins();
        if (rest_soon || dice(100) == 0) {
            rest_soon = false;
            come_to_rest();
            check_rest();
        }
    }
    come_to_rest();
    check_rest();
    ring_bell_all(&master); /* in the end all can walk to the tail */
    come_to_rest();
    for (int i = 0; i < WORKERS; i++)
        CHECK(actors[i].at == ring_tail(&master));
    shm_fixture_destroy(&fixture);
}

int main(int argc, char **argv)
{
    uint64_t n_seeds = argc > 1                      ? strtoull(argv[1], NULL, 10)
                       : getenv("PEAL_SOAK") != NULL ? 3000
                                                     : 60;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

    for (seed = first; seed < first + n_seeds; seed++)
        run_seed();
    printf("sim_ring: %llu seeds: %llu records, %llu kills, %llu voids, %llu full, %llu parked, "
           "%llu looks back, %llu calls raced, %llu twins, %llu holes outlived their consumers, "
           "%llu rounds before a beginning\n",
           (unsigned long long)n_seeds, (unsigned long long)n_records, (unsigned long long)n_kills,
           (unsigned long long)n_voids, (unsigned long long)n_full, (unsigned long long)n_parked,
           (unsigned long long)n_history, (unsigned long long)n_raced, (unsigned long long)n_twins,
           (unsigned long long)n_outlived, (unsigned long long)n_rounds);
    if (n_outlived == 0 || n_rounds == 0 || n_kills == 0 || n_voids == 0 || n_full == 0 ||
        n_parked == 0 || n_twins == 0) {
        printf("sim_ring: something never happened\n0 passed, 1 failed\n");
        return 1;
    }
    printf("%llu passed, 0 failed\n", (unsigned long long)n_seeds);
    return 0;
}
