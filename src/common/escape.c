/*
 * escape.c - bytes to text and back: C escapes, JSON strings, base64, UTF-8.
 *
 * Pure functions. Runs of bytes that need nothing are copied at once: load and dump spend their time here.
 */
#include <stdio.h>

#include "common/escape.h"

size_t
utf8_length(const uint8_t *p, size_t left)
{
	static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t code;
	size_t n;

	if (left == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || left < n)
		return 0;
	code = p[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	return n;
}

bool
utf8_valid(Slice b)
{
	const uint8_t *p = b.data;

	for (size_t i = 0; i < b.len;) {
		size_t n = utf8_length(p + i, b.len - i);

		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

static Status
escape_byte(Buf *out, uint8_t byte)
{
	static const char letters[] = "abtnvfr"; /* 7 to 13 */

	if (byte == '\\')
		return buf_append(out, "\\\\", 2);
	if (byte == '\n' || byte == '\t' || byte == '\r')
		return buf_append(out, (char[]){ '\\', letters[byte - 7] }, 2);
	return buf_printf(out, "\\x%02x", byte);
}

/* Is it shown as it is? C1 controls (c2 80 to c2 9f) move cursors as others do. */
static bool
is_printable(const uint8_t *p, size_t n)
{
	if (n == 1)
		return p[0] >= 0x20 && p[0] != 0x7f && p[0] != '\\';
	return n > 1 && !(n == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

Status
escape_text(Buf *out, Slice b)
{
	const uint8_t *p = b.data;
	size_t i = 0;

	while (i < b.len) {
		size_t start = i;
		size_t n;

		while (i < b.len && (n = utf8_length(p + i, b.len - i), is_printable(p + i, n)))
			i += n;
		KV_TRY(buf_append(out, p + start, i - start));
		if (i < b.len)
			KV_TRY(escape_byte(out, p[i++]));
	}
	return ST_OK;
}

Status
escape_tsv(Buf *out, Slice b)
{
	const uint8_t *p = b.data;
	size_t i = 0;

	while (i < b.len) {
		size_t start = i;

		while (i < b.len && p[i] >= 0x20 && p[i] != '\\' && p[i] != 0x7f)
			i++;
		KV_TRY(buf_append(out, p + start, i - start));
		if (i < b.len)
			KV_TRY(escape_byte(out, p[i++]));
	}
	return ST_OK;
}

int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char) (c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The escape behind a backslash: how many characters it has, 0 if it is none. */
static size_t
one_escape(const char *text, size_t left, uint8_t *out)
{
	static const char names[] = "\\'\"?abefnrtv";
	static const char bytes[] = "\\'\"?\a\b\033\f\n\r\t\v";
	const char *at = left > 0 && text[0] != '\0' ? strchr(names, text[0]) : NULL;

	if (at != NULL) {
		*out = (uint8_t) bytes[at - names];
		return 1;
	}
	if (left >= 3 && text[0] == 'x' && hex_digit(text[1]) >= 0 && hex_digit(text[2]) >= 0) {
		*out = (uint8_t) (hex_digit(text[1]) * 16 + hex_digit(text[2]));
		return 3;
	}
	if (left > 0 && text[0] >= '0' && text[0] <= '7') {
		unsigned v = 0;
		size_t n = 0;

		while (n < left && n < 3 && text[n] >= '0' && text[n] <= '7')
			v = v * 8 + (unsigned) (text[n++] - '0');
		*out = (uint8_t) v;
		return v < 256 ? n : 0;
	}
	return 0;
}

Status
unescape(Buf *out, const char *text, size_t len)
{
	const char *end = text + len;

	KV_TRY(buf_reserve(out, len));
	for (;;) {
		const char *slash = memchr(text, '\\', (size_t) (end - text));
		size_t n;
		uint8_t byte;

		KV_TRY(buf_append(out, text, (size_t) ((slash != NULL ? slash : end) - text)));
		if (slash == NULL)
			return ST_OK;
		n = one_escape(slash + 1, (size_t) (end - slash - 1), &byte);
		if (n == 0)
			return status_fail(ST_USAGE, "\"%.*s\" is no escape; known are \\\\ \\n \\t \\r \\xHH and those of C",
				(int) (end - slash < 4 ? end - slash : 4), slash);
		KV_TRY(buf_append(out, &byte, 1));
		text = slash + 1 + n;
	}
}

static Status
json_char(Buf *out, uint8_t byte)
{
	static const char plain[] = "\"\\\b\f\n\r\t";
	static const char names[] = "\"\\bfnrt";
	const char *at = byte != 0 ? strchr(plain, byte) : NULL;

	if (at != NULL)
		return buf_append(out, (char[]){ '\\', names[at - plain] }, 2);
	return buf_printf(out, "\\u%04x", byte);
}

Status
escape_json(Buf *out, Slice b)
{
	const uint8_t *p = b.data;
	size_t i = 0;

	if (!utf8_valid(b)) {
		KV_TRY(buf_append(out, "{\"base64\":\"", 11));
		KV_TRY(base64_encode(out, b));
		return buf_append(out, "\"}", 2);
	}
	KV_TRY(buf_append(out, "\"", 1));
	while (i < b.len) {
		size_t start = i;

		while (i < b.len && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\' && p[i] != 0x7f)
			i++;
		KV_TRY(buf_append(out, p + start, i - start));
		if (i < b.len)
			KV_TRY(json_char(out, p[i++]));
	}
	return buf_append(out, "\"", 1);
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

Status
base64_encode(Buf *out, Slice b)
{
	const uint8_t *p = b.data;

	KV_TRY(buf_reserve(out, b.len / 3 * 4 + 4));
	for (size_t i = 0; i < b.len; i += 3) {
		size_t n = b.len - i < 3 ? b.len - i : 3;
		uint32_t v = (uint32_t) p[i] << 16 | (n > 1 ? (uint32_t) p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0);
		char four[4] = { alphabet[v >> 18], alphabet[v >> 12 & 63], n > 1 ? alphabet[v >> 6 & 63] : '=',
			n > 2 ? alphabet[v & 63] : '=' };

		KV_TRY(buf_append(out, four, 4));
	}
	return ST_OK;
}

Status
base64_decode(Buf *out, const char *text, size_t len)
{
	if (len % 4 != 0)
		return status_fail(ST_USAGE, "base64 text has a length that is a multiple of 4, this has %zu", len);
	for (size_t i = 0; i < len; i += 4) {
		bool last = i + 4 == len;
		int pad = last && text[i + 3] == '=' ? (text[i + 2] == '=' ? 2 : 1) : 0;
		uint32_t v = 0;

		for (int k = 0; k < 4; k++) {
			char c = k >= 4 - pad ? alphabet[0] : text[i + (size_t) k];
			const char *at = c != '\0' ? strchr(alphabet, c) : NULL;

			if (at == NULL)
				return status_fail(ST_USAGE, "base64 text holds a character that does not belong there");
			v = v << 6 | (uint32_t) (at - alphabet);
		}
		KV_TRY(buf_append(out, (uint8_t[]){ (uint8_t) (v >> 16), (uint8_t) (v >> 8), (uint8_t) v }, 3 - (size_t) pad));
	}
	return ST_OK;
}
