/* bad_crash.c: crashes as it is loaded. */
#include <peal/app.h>

#include <stdlib.h>

__attribute__((constructor)) static void on_load(void)
{
    abort();
}

const struct peal_app peal_module = { .abi = PEAL_APP_ABI, .name = "crash" };
