/*
 * escape.h - bytes to text and back: C escapes, JSON strings, base64, UTF-8. What kvctl and the offline tools print.
 *
 * Pure. What is written is appended to the Buf.
 */
#ifndef COMMON_ESCAPE_H
#define COMMON_ESCAPE_H

#include "common/bytes.h"

/*
 * Length of the valid UTF-8 sequence at p (at most `left` bytes; shortest form, no surrogates), 0 if there is none.
 */
size_t utf8_length(const uint8_t *p, size_t left);
bool utf8_valid(Slice b);
/* 0 to 15, or -1. */
int hex_digit(char c);
/* For people: printable UTF-8 as it is, \n \t \r \\ and \xHH. */
KV_CHECK Status escape_text(Buf *out, Slice b);
/* For files: bytes below 0x20, 0x7f and \ are escaped, all others are as they are. */
KV_CHECK Status escape_tsv(Buf *out, Slice b);
/*
 * Undo C escapes: \\ \' \" \? \a \b \e \f \n \r \t \v \xHH (two digits) \ooo (up to three). USAGE says what is wrong.
 */
KV_CHECK Status unescape(Buf *out, const char *text, size_t len);
/* A JSON value: a string when b is UTF-8, otherwise {"base64":"..."}. */
KV_CHECK Status escape_json(Buf *out, Slice b);
KV_CHECK Status base64_encode(Buf *out, Slice b);
/* Standard alphabet, padding wanted. */
KV_CHECK Status base64_decode(Buf *out, const char *text, size_t len);

#endif
