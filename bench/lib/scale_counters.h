/* scale_counters.h: what the server and the kernel counted of a run: why a connection was refused or
 * closed is not to be seen from its other end. */
#ifndef BENCH_LIB_SCALE_COUNTERS_H
#define BENCH_LIB_SCALE_COUNTERS_H

#include <stdint.h>

#include "lib/json_out.h"

/* Writes "server_counters": by reason, all workers together, Peal's closes and refusals, and its
 * restarts of workers; empty when its admin listener does not answer within 5 s. */
void scale_counters_server(struct json *j, uint16_t admin_port);

/* Writes "tcp_counters" of this network namespace: overflows of the accept queue, aborts, time-outs,
 * memory pressure (Chrono: in ms). */
void scale_counters_tcp(struct json *j);

#endif
