/* client_files.c: names and sizes of the client bundles. */
#include "base/client_files.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const client_file_names[CLIENT_FILES] = {
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
};

int client_file_open(const char *folder, uint32_t i, uint32_t *n_bytes, char *why, uint32_t room)
{
    char path[512];
    struct stat st;
    int fd;
    int n;

    assert(i < CLIENT_FILES);
    n = snprintf(path, sizeof path, "%s/%s", folder, client_file_names[i]);
    assert(n > 0 && n < (int)sizeof path); /* the folder is a text of the configuration */
    /* Not to wait for a writer if somebody has put a FIFO there. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        (void)snprintf(why, room, "%s: cannot be read: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        (void)snprintf(why, room, "%s: is not a file", path);
    } else if (st.st_size < 1 || st.st_size > (off_t)CLIENT_FILE_BYTES_MAX) {
        (void)snprintf(why, room, "%s: %lld bytes; 1 to %u are possible", path,
                       (long long)st.st_size, CLIENT_FILE_BYTES_MAX);
    } else {
        *n_bytes = (uint32_t)st.st_size;
        return fd;
    }
    if (fd >= 0)
        (void)close(fd); /* only opened */
    return -1;
}
