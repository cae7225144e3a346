/* proc.h: servers as seen from outside: started, measured (CPU, PSS) and ended, with all their
 * children.
 *
 * Invariant: a tree's CPU time never falls while its root lives: what a reaped child used is in
 *            its parent's "children" time, which is added in. Resolution is one clock tick (10
 *            ms) per process.
 * Owns:      the server process; it dies with us (PR_SET_PDEATHSIG), its tree with
 *            server_stop(). */
#ifndef BENCH_LIB_PROC_H
#define BENCH_LIB_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* User and system time of `root` and all its descendants, in ns; 0 when it is gone. */
uint64_t proc_tree_cpu_ns(pid_t root);
/* Time that one process (its first thread) has been on a CPU, in ns, to the nanosecond; dies when it is gone. */
uint64_t proc_cpu_ns(pid_t pid);
/* Time that all CPUs together have been busy, for whomever, in ns. */
uint64_t proc_machine_busy_ns(void);
/* Sum of the proportional set sizes of `root` and all its descendants, in bytes; those that have just
 * ended, or that we may not read, count nothing. */
uint64_t proc_tree_pss_bytes(pid_t root);
/* Of it, the pages of files: the program and its libraries, whose share falls when others run them, too. */
uint64_t proc_tree_pss_file_bytes(pid_t root);
/* `root` and its descendants: fills `pids` up to `max`, returns how many. */
uint32_t proc_tree_pids(pid_t root, pid_t *pids, uint32_t max);
/* How many processes `root` and its descendants are. */
uint32_t proc_tree_count(pid_t root);

/* The parent of `pid`; 0 when it is gone. */
pid_t proc_parent(pid_t pid);

/* Whether the command line of `pid` holds `word`; false when the process is gone. */
bool proc_command_holds(pid_t pid, const char *word);
/* The first descendant of `root` whose command line holds `word`, or 0. */
pid_t proc_tree_find(pid_t root, const char *word);

/* A TCP port of 127.0.0.1 that was free a moment ago. */
uint16_t proc_free_port(void);

/* Starts argv[0] with standard output and error in `log_path`, on CPUs of `cpu_mask` (0: any),
 * in a group of its own. Dies with a message when it cannot. */
pid_t server_start(const char *const argv[], const char *log_path, uint64_t cpu_mask);
/* Waits until the server accepts on 127.0.0.1:`port`, and has closed the connection that tried it; dies after `timeout_ms` or when it has
 * exited. */
void server_wait_port(pid_t pid, uint16_t port, uint32_t timeout_ms);
/* INT twice (Peal: exit at once), then KILL to the whole group; reaps. At most about 3 s. */
void server_stop(pid_t pid);

/* Restricts the calling process to the CPUs of `mask`; a mask of 0 changes nothing. */
void proc_pin(uint64_t mask);

#endif
