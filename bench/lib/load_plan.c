/* load_plan.c: shows what a run would do, and connects to nothing: when the first --messages messages
 * are due and where they go, how many members each room has, and how long clients wait that were cut. */
#include <stdlib.h>

#include "lib/load.h"

#define ROOMS_SHOWN    1000u
#define MESSAGES_SHOWN 1000u
#define ATTEMPTS_SHOWN 8u

int load_run_plan(const struct load_options *o)
{
    static struct json j;
    struct plan p;
    uint32_t *members = must_calloc(o->rooms, sizeof *members);
    uint64_t random = plan_random(o->seed, 0);

    if (o->rooms > ROOMS_SHOWN || o->messages > MESSAGES_SHOWN)
        die("plan shows at most %u rooms and %u messages", ROOMS_SHOWN, MESSAGES_SHOWN);
    plan_init(&p, o->rooms, o->zipf, o->seed);
    p.rate = o->total_rate;
    p.burst = o->burst;
    for (uint32_t i = 0; i < o->clients; i++)
        members[plan_room_of_member(&p, i)]++;
    json_begin(&j, "result");
    json_text(&j, "scenario", "plan");
    json_array(&j, "members");
    for (uint32_t r = 0; r < o->rooms; r++)
        json_u64(&j, NULL, members[r]);
    json_end(&j);
    json_array(&j, "rooms_of_messages");
    for (uint32_t k = 0; k < o->messages; k++)
        json_u64(&j, NULL, plan_room_of_message(&p, k));
    json_end(&j);
    json_array(&j, "due_us");
    for (uint32_t k = 0; k < o->messages && p.rate > 0; k++)
        json_f64(&j, NULL, (double)plan_due_ns(&p, k) / 1e3);
    json_end(&j);
    json_array(&j, "back_off_ms");
    for (uint32_t i = 0; i < ATTEMPTS_SHOWN; i++)
        json_u64(&j, NULL, plan_back_off_ms(i, &random));
    json_end(&j);
    json_bool(&j, "ok", true);
    json_print(&j);
    plan_destroy(&p);
    free(members);
    return 0;
}
