/* claim.pml: who holds the entry of a socket that may come back (src/shm/recoverable.c), for the Spin model checker.
 *
 * One entry, in the arena of worker 0. Workers claim it when it is detached, make it theirs, change its rooms and detach it again; each may die
 * (kill -9) between any two steps. The master reaps the dead: it looks into the arenas that they said they have entries in, and detaches what
 * they held. A successor starts in the slot.
 *
 * What must hold, whatever dies when:
 *   one writer       whoever writes holds the entry, and nobody else does
 *   whole rooms      the copy that seq points to is whole whenever somebody reads it
 *   never lost       when all is quiet, and all have detached it, it is detached
 *
 * -D... plants a mistake, each of which must be found:
 *   CLAIM_BY_STORE     claim by look and store instead of compare-and-swap: two have it
 *   ARENA_AFTER_CLAIM  the mask of arenas is stored after the claim: a claimer that dies in between is not found by the reaper
 *   SEQ_FIRST          seq is stored before the copy is whole: a kill leaves half of it
 *   ONE_COPY           the copy in use is changed in place: the same
 *   FORGET_CLAIMED     the reaper detaches what was living and forgets what was only claimed */

#define WORKERS 3
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef CLAIMS
#define CLAIMS 2 /* in all, so that the search ends */
#endif

#define LIVE     0
#define DETACHED 1
#define CLAIMED  2
#define NOBODY   255

byte state = DETACHED;
byte holder = NOBODY;
byte changes = 0; /* of the state word: no claim by an old look */
byte seq = 0;
bool whole[2] = true;
bool arena[WORKERS]; /* said to have entries in arena 0; worker 0 need not say so */
bool dead[WORKERS];
bool busy[WORKERS]; /* between two steps that belong together */
byte deaths = 0;
byte claims = 0;

inline become(to, by)
{
    atomic { state = to; holder = by; changes++ }
}

/* The process may be gone from here on. */
inline moment()
{
    if
    :: deaths < DEATHS -> atomic { deaths++; dead[me] = true; goto gone }
    :: true
    fi
}

#define MINE assert(holder == me)

inline change_rooms(other)
{
#ifdef ONE_COPY
    other = seq & 1;
#else
    other = (seq + 1) & 1;
#endif
    MINE;
    whole[other] = false;
    moment();
#ifdef SEQ_FIRST
    MINE;
    seq = seq + 1;
    moment();
#endif
    MINE;
    whole[other] = true;
    moment();
#ifndef SEQ_FIRST
    MINE;
    seq = seq + 1;
#endif
}

proctype worker(byte me)
{
    byte seen;
    byte other;

    do
    :: atomic { claims < CLAIMS && state == DETACHED -> busy[me] = true; seen = changes }
        moment();
#ifndef ARENA_AFTER_CLAIM
        arena[me] = true;
        moment();
#endif
#ifdef CLAIM_BY_STORE
        if
        :: state == DETACHED -> moment(); become(CLAIMED, me); claims++
        :: else -> busy[me] = false; goto next
        fi;
#else
        atomic {
            if
            :: state == DETACHED && changes == seen ->
                state = CLAIMED; holder = me; changes++; claims++
            :: else -> busy[me] = false; goto next
            fi
        }
#endif
        moment();
#ifdef ARENA_AFTER_CLAIM
        arena[me] = true;
        moment();
#endif
        assert(whole[seq & 1]); /* what it restores from */
        MINE;
        become(LIVE, me);
        moment();
        change_rooms(other);
        moment();
        MINE;
        become(DETACHED, NOBODY);
        busy[me] = false;
next:   skip
    :: claims >= CLAIMS -> break
    od;
gone:
    skip
}

inline reap(i)
{
    if
#ifdef FORGET_CLAIMED
    :: (arena[i] || i == 0) && holder == i && state == LIVE ->
#else
    :: (arena[i] || i == 0) && holder == i ->
#endif
        assert(whole[seq & 1]);
        become(DETACHED, NOBODY)
    :: else
    fi;
    arena[i] = false;
    atomic { busy[i] = false; dead[i] = false; run worker(i) } /* the successor */
}

#define QUIET(i) (!dead[i] && !busy[i])

proctype master()
{
    do
    :: dead[0] -> reap(0)
    :: dead[1] -> reap(1)
    :: dead[2] -> reap(2)
    :: atomic { claims >= CLAIMS && QUIET(0) && QUIET(1) && QUIET(2) -> assert(state == DETACHED); break }
    od
}

init
{
    byte i;

    atomic {
        for (i : 0 .. WORKERS - 1) { run worker(i) }
        run master()
    }
}
