/* client_files.h: the files of the Socket.IO client in the folder `client_files`. The configuration
 * checks by it that they are there, the workers load them by it. */
#ifndef PEAL_BASE_CLIENT_FILES_H
#define PEAL_BASE_CLIENT_FILES_H

#include "base/slice.h"

#define CLIENT_FILES          8
#define CLIENT_FILE_BYTES_MAX (8u << 20) /* over 20 times the largest of Socket.IO 4.8 */

/* The files of `client-dist` in the npm package `socket.io`: bundles and their maps. */
extern const char *const client_file_names[CLIENT_FILES];

/* Opens file number i for reading; its size is 1 to CLIENT_FILE_BYTES_MAX. The descriptor is the
 * caller's. -1: `why` names the file and what is wrong with it. */
MUST_USE int client_file_open(const char *folder, uint32_t i, uint32_t *n_bytes, char *why,
                              uint32_t room);

#endif
