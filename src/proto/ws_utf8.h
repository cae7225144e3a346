/* ws_utf8.h: UTF-8 checked piece by piece (RFC 3629: no surrogates, no overlong forms, nothing
 * above U+10FFFF). */
#ifndef PEAL_PROTO_WS_UTF8_H
#define PEAL_PROTO_WS_UTF8_H

#include "base/slice.h"

#define WS_UTF8_WHOLE 0 /* state at the start, and whenever no character is cut */

/* Goes on from `*state` over `bytes`. False at the first byte that no valid text can have at
 * this place; then `*state` is of no use. At the end of a text `*state` must be WS_UTF8_WHOLE. */
MUST_USE bool ws_utf8_take(uint8_t *state, struct slice bytes);

#endif
