/* replay.c: the main() of a fuzz target that is built without libFuzzer.
 *
 * Feeds each file of the folders (or files) named on the command line to the target, and the empty input first, so that what
 * fuzzing once found stays found in every `make test`. Prints the number of inputs; a crash is the failure. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static unsigned n_inputs;

static void replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data;
    struct stat st;
    size_t n;

    if (f == NULL || fstat(fileno(f), &st) != 0) {
        perror(path);
        exit(1);
    }
    /* Exactly as large as the input, so that the address sanitizer sees a read behind its end. */
    data = malloc(st.st_size > 0 ? (size_t)st.st_size : 1);
    n = data != NULL ? fread(data, 1, (size_t)st.st_size, f) : 0;
    if (data == NULL || n != (size_t)st.st_size) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    (void)fclose(f);
    fprintf(stderr, "%s\n", path); /* the last one named is the one that crashed */
    (void)LLVMFuzzerTestOneInput(data, n);
    free(data);
    n_inputs++;
}

static void replay_path(const char *path)
{
    char name[4096];
    struct dirent **list;
    struct stat st;
    int n;

    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        replay_file(path);
        return;
    }
    n = scandir(path, &list, NULL, alphasort);
    if (n < 0) {
        perror(path);
        exit(1);
    }
    for (int i = 0; i < n; i++) {
        if (list[i]->d_name[0] != '.') {
            if (snprintf(name, sizeof name, "%s/%s", path, list[i]->d_name) >= (int)sizeof name) {
                fprintf(stderr, "%s: name too long\n", path);
                exit(1);
            }
            replay_file(name);
        }
        free(list[i]);
    }
    free(list);
}

int main(int argc, char **argv)
{
    (void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++)
        replay_path(argv[i]);
    if (n_inputs == 0) {
        fprintf(stderr, "no corpus\n");
        return 1;
    }
    printf("%u passed, 0 failed\n", n_inputs);
    return 0;
}
