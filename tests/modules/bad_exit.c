/* bad_exit.c: ends the process as it is loaded. */
#include <peal/app.h>

#include <unistd.h>

__attribute__((constructor)) static void on_load(void)
{
    _exit(0);
}

const struct peal_app peal_module = { .abi = PEAL_APP_ABI, .name = "exit" };
