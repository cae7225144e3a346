/* plan.c: see plan.h. */
#include "lib/plan.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "lib/util.h"

/* splitmix64: neighbouring numbers give unrelated ones. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

void plan_init(struct plan *p, uint32_t rooms, double zipf, uint64_t seed)
{
    double sum = 0;

    *p = (struct plan){ .burst = 1, .rooms = rooms, .seed = seed };
    if (zipf <= 0)
        return;
    p->upto = must_calloc(rooms, sizeof *p->upto);
    for (uint32_t r = 0; r < rooms; r++)
        p->upto[r] = sum += pow(r + 1.0, -zipf);
    for (uint32_t r = 0; r < rooms; r++)
        p->upto[r] /= sum;
}

void plan_destroy(struct plan *p)
{
    free(p->upto);
    p->upto = NULL;
}

uint64_t plan_due_ns(const struct plan *p, uint64_t k)
{
    return (uint64_t)((double)(k - k % p->burst) / p->rate * 1e9);
}

/* The first room whose share reaches up to a number that `key` draws. */
static uint32_t draw(const struct plan *p, uint64_t key)
{
    double at = (double)(mix(mix(p->seed) ^ key) >> 11) * 0x1p-53;
    uint32_t low = 0;
    uint32_t high = p->rooms - 1;

    if (!p->upto)
        return (uint32_t)(at * p->rooms);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (p->upto[middle] <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t plan_room_of_message(const struct plan *p, uint64_t k)
{
    return draw(p, 2 * k);
}

uint32_t plan_room_of_member(const struct plan *p, uint32_t j)
{
    return p->upto ? draw(p, 2 * (uint64_t)j + 1) : j % p->rooms;
}

uint64_t plan_random(uint32_t seed, uint32_t process)
{
    return mix((uint64_t)seed << 32 | process) | 1;
}

uint32_t plan_back_off_ms(uint32_t attempts, uint64_t *random)
{
    double ms = attempts < 16 ? PLAN_BACK_OFF_MS * (double)(1u << attempts) : PLAN_BACK_OFF_MAX_MS;
    double dice = (double)(random_next(random) >> 11) * 0x1p-53;
    bool longer = ((uint32_t)(dice * 10) & 1) != 0;

    ms += (longer ? 1 : -1) * floor(dice * PLAN_BACK_OFF_JITTER * ms);
    return ms < PLAN_BACK_OFF_MAX_MS ? (uint32_t)ms : PLAN_BACK_OFF_MAX_MS;
}
