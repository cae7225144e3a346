/* ips.pml: who is let in under max_connections_per_ip (src/shm/ip_counts.c), for the Spin model checker.
 *
 * One address, a word for each worker: its clients, and a claim while one more is being let in. Workers let in and let go, each may die (kill -9) between
 * any two steps, and is replaced. Stores of a worker are in its store buffer (x86-64) until it fences, or any time earlier.
 *
 * What must hold, whatever happens when:
 *   the limit        clients of living workers are never more than LIMIT
 *   no lost place    who is refused has seen LIMIT clients, or has given up after TRIES looks at claims of others
 *   right again      when all is quiet and the dead are reaped, the words say what clients there are
 *
 * -D... plants a mistake, each of which must be found:
 *   LOOK_FIRST         the others are looked at before the claim is stored: two take the last place
 *   NO_FENCE           the claim is still in the store buffer while the others are looked at: the same
 *   CLAIMS_DO_NOT_COUNT  only clients of the others count: the same
 *   CLAIM_STAYS        a claim is not withdrawn: its place is lost
 *   REFUSE_ON_CLAIMS   claims of others count for a refusal, too: both refuse the other, and the place stays empty
 *   NOT_CLEARED        the words of the dead stay */

#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef LIMIT
#define LIMIT 1
#endif
#ifndef ASKS
#define ASKS 2 /* of each worker */
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#define TRIES 2

byte clients[WORKERS];  /* of the word, as its worker has it */
bool claim[WORKERS];
byte seen[WORKERS];     /* the same as all others see it: behind until the store buffer is through */
bool seen_claim[WORKERS];
byte held[WORKERS];     /* clients there really are */
byte asked[WORKERS];
bool dead[WORKERS];
bool busy[WORKERS];
byte deaths = 0;
byte total = 0; /* of held, of the living */

#define drain(i)             \
    seen[i] = clients[i];    \
    seen_claim[i] = claim[i]

/* The process may be gone from here on; and what is in its store buffer may go out. */
inline moment()
{
    if
    :: deaths < DEATHS -> atomic { deaths++; dead[me] = true; total = total - held[me]; goto gone }
    :: atomic { drain(me) }
    :: true
    fi
}

inline store(n, c)
{
    atomic { clients[me] = n; claim[me] = c }
}

inline fence()
{
#ifndef NO_FENCE
    atomic { drain(me) }
#endif
    skip
}

/* One word of another at a time, as they are read. */
inline look()
{
    sum = 0;
    claims = 0;
    i = 0;
    do
    :: i < WORKERS ->
        atomic {
            if
            :: i != me ->
                sum = sum + seen[i];
#ifndef CLAIMS_DO_NOT_COUNT
                claims = claims + seen_claim[i];
#endif
            :: else
            fi;
            i++
        }
        moment()
    :: else -> break
    od;
    sum = sum + clients[me]
}

proctype worker(byte me)
{
    byte i;
    byte sum;
    byte claims;
    byte tries;

    do
    :: atomic { asked[me] < ASKS -> asked[me]++; busy[me] = true; tries = 0 }
again:
#ifdef LOOK_FIRST
        look();
        store(clients[me], true);
        moment();
#else
        store(clients[me], true);
        moment();
        fence();
        look();
#endif
        if
        :: sum + claims < LIMIT ->
            atomic {
                clients[me] = clients[me] + 1;
                claim[me] = false;
                held[me]++;
                total++;
                assert(total <= LIMIT)
            }
        :: else ->
#ifdef CLAIM_STAYS
            skip;
#else
            store(clients[me], false);
#endif
            moment();
#ifdef REFUSE_ON_CLAIMS
            assert(sum >= LIMIT || tries == TRIES); /* the place that is free was to be had */
#else
            tries++;
            if
            :: sum < LIMIT && tries < TRIES -> goto again
            :: else
            fi
#endif
        fi;
        moment();
        atomic { busy[me] = false; drain(me) }
    :: atomic { held[me] > 0 -> busy[me] = true; held[me]--; total--; clients[me] = clients[me] - 1 }
        moment();
        atomic { busy[me] = false; drain(me) }
    :: asked[me] == ASKS -> break
    od;
gone:
    skip
}

inline reap(i)
{
    atomic {
#ifndef NOT_CLEARED
        seen[i] = 0;
        seen_claim[i] = false;
        clients[i] = 0;
        claim[i] = false;
#endif
        held[i] = 0;
        busy[i] = false;
        dead[i] = false;
        run worker(i)
    }
}

#define QUIET(i) (!dead[i] && !busy[i] && asked[i] == ASKS)
#if WORKERS > 2
#define ALL_QUIET (QUIET(0) && QUIET(1) && QUIET(2))
#else
#define ALL_QUIET (QUIET(0) && QUIET(1))
#endif

proctype master()
{
    byte i;
    bool quiet;

    do
    :: dead[0] -> reap(0)
    :: dead[1] -> reap(1)
#if WORKERS > 2
    :: dead[2] -> reap(2)
#endif
    :: atomic {
            ALL_QUIET ->
            for (i : 0 .. WORKERS - 1) {
                assert(seen[i] == held[i]);
                assert(!seen_claim[i])
            }
            break
        }
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
