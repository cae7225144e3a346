/* bad_version.c: built for another version of app.h; its layout may be any. */
#include <stdint.h>

extern const uint32_t peal_module[1];
const uint32_t peal_module[1] = { 1 };
