/*
 * records_json.c - one JSON object a line: {"key":K,"value":V,"ttl_ms":N}. K and V are strings (their UTF-8 bytes) or
 * {"base64":"..."}. ttl_ms may be missing or null; version, which get and scan print, is read over. Any other member is
 * an error: it may be a misspelt one.
 */
#include <inttypes.h>

#include "kvctl.h"

typedef struct Json {
	const char *p, *end;
} Json;

static void
skip_blanks(Json *j)
{
	while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\r' || *j->p == '\n'))
		j->p++;
}

/* Is the next character c? It is taken then. */
static bool
take(Json *j, char c)
{
	skip_blanks(j);
	if (j->p >= j->end || *j->p != c)
		return false;
	j->p++;
	return true;
}

static Status
want(Json *j, char c)
{
	if (take(j, c))
		return ST_OK;
	if (j->p >= j->end)
		return status_fail(ST_USAGE, "the line ends where %c should stand", c);
	return status_fail(ST_USAGE, "expected %c at \"%.*s\"", c, (int) (j->end - j->p < 12 ? j->end - j->p : 12), j->p);
}

static bool
hex4(const char *p, uint32_t *out)
{
	*out = 0;
	for (int i = 0; i < 4; i++) {
		int digit = hex_digit(p[i]);

		if (digit < 0)
			return false;
		*out = *out << 4 | (uint32_t) digit;
	}
	return true;
}

static Status
append_utf8(Buf *out, uint32_t c)
{
	char b[4];
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	if (n == 1)
		b[0] = (char) c;
	else {
		for (size_t i = n - 1; i > 0; i--, c >>= 6)
			b[i] = (char) (0x80 | (c & 0x3f));
		b[0] = (char) (c | (0xf00u >> n & 0xf0)); /* 110..., 1110..., 11110... */
	}
	return buf_append(out, b, n);
}

/* j stands behind the u of \u. */
static Status
unicode_escape(Json *j, Buf *out)
{
	uint32_t c, low;

	if (j->end - j->p < 4 || !hex4(j->p, &c))
		return status_fail(ST_USAGE, "\\u must be followed by four hexadecimal digits");
	j->p += 4;
	if (c >= 0xd800 && c <= 0xdbff && j->end - j->p >= 6 && j->p[0] == '\\' && j->p[1] == 'u' && hex4(j->p + 2, &low) &&
		low >= 0xdc00 && low <= 0xdfff) {
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
		j->p += 6;
	}
	if (c >= 0xd800 && c <= 0xdfff)
		return status_fail(ST_USAGE, "\\u%04" PRIx32 " is half of a pair: no character", c);
	return append_utf8(out, c);
}

static Status
escape(Json *j, Buf *out)
{
	static const char names[] = "\"\\/bfnrt";
	static const char bytes[] = "\"\\/\b\f\n\r\t";
	const char *at;

	if (j->p >= j->end)
		return status_fail(ST_USAGE, "the closing \" is missing");
	if (*j->p == 'u') {
		j->p++;
		return unicode_escape(j, out);
	}
	at = *j->p != '\0' ? strchr(names, *j->p) : NULL;
	if (at == NULL)
		return status_fail(ST_USAGE, "\\%c is no escape of JSON", *j->p);
	j->p++;
	return buf_append(out, bytes + (at - names), 1);
}

/* A string; used where it stands when it holds no escapes. */
static Status
string(Json *j, Buf *memory, kv_bytes *out)
{
	const char *start;

	KV_TRY(want(j, '"'));
	start = j->p;
	buf_clear(memory);
	for (;;) {
		const char *from = j->p;

		while (j->p < j->end && *j->p != '"' && *j->p != '\\' && (uint8_t) *j->p >= 0x20)
			j->p++;
		if (j->p >= j->end)
			return status_fail(ST_USAGE, "the closing \" is missing");
		if ((uint8_t) *j->p < 0x20)
			return status_fail(ST_USAGE, "a control character in a string; write \\u00%02x",
				(unsigned) (uint8_t) *j->p);
		if (*j->p == '"' && from == start)
			*out = (kv_bytes){ start, (size_t) (j->p - start) };
		else {
			KV_TRY(buf_append(memory, from, (size_t) (j->p - from)));
			*out = (kv_bytes){ memory->data, memory->len };
		}
		if (*j->p++ == '"')
			break;
		KV_TRY(escape(j, memory));
	}
	return utf8_valid(slice_kv(*out)) ? ST_OK
		: status_fail(ST_USAGE, "a string that is not UTF-8; write {\"base64\":\"...\"}");
}

/* A string, or {"base64":"..."}. */
static Status
bytes(Json *j, Buf *memory, kv_bytes *out)
{
	Buf text = { 0 };
	kv_bytes name;
	Status st;

	if (!take(j, '{'))
		return string(j, memory, out);
	KV_TRY(string(j, memory, &name));
	if (name.len != 6 || memcmp(name.data, "base64", 6) != 0)
		return status_fail(ST_USAGE, "bytes are a string or {\"base64\":\"...\"}");
	KV_TRY(want(j, ':'));
	st = string(j, &text, out);
	if (st == ST_OK) {
		buf_clear(memory);
		st = base64_decode(memory, out->data, out->len);
		*out = (kv_bytes){ memory->data, memory->len };
	}
	buf_free(&text);
	KV_TRY(st);
	return want(j, '}');
}

/* A whole number, or null. */
static Status
number(Json *j, uint64_t *out)
{
	char digits[24];
	size_t n = 0;

	skip_blanks(j);
	*out = 0;
	if (j->end - j->p >= 4 && memcmp(j->p, "null", 4) == 0) {
		j->p += 4;
		return ST_OK;
	}
	while (j->p < j->end && n < sizeof digits - 1 && *j->p >= '0' && *j->p <= '9')
		digits[n++] = *j->p++;
	digits[n] = '\0';
	return u64_parse(digits, out);
}

static bool
is(kv_bytes name, const char *what)
{
	return name.len == strlen(what) && memcmp(name.data, what, name.len) == 0;
}

static Status
member(Json *j, RecordBuf *memory, Record *out, bool *has_value)
{
	uint64_t ignored;
	kv_bytes name;

	KV_TRY(string(j, &memory->name, &name));
	KV_TRY(want(j, ':'));
	if (is(name, "key"))
		return bytes(j, &memory->key, &out->key);
	if (is(name, "value")) {
		*has_value = true;
		return bytes(j, &memory->value, &out->value);
	}
	if (is(name, "ttl_ms"))
		return number(j, &out->ttl_ms);
	if (is(name, "version"))
		return number(j, &ignored);
	return status_fail(ST_USAGE, "unknown member \"%.*s\"; known are key, value, ttl_ms",
		(int) (name.len < 32 ? name.len : 32), (const char *) name.data);
}

Status
json_parse(const char *line, size_t len, RecordBuf *memory, Record *out)
{
	Json j = { line, line + len };
	bool has_value = false;
	Status st;

	*out = (Record){ 0 };
	KV_TRY(want(&j, '{'));
	if (!take(&j, '}')) {
		do
			st = member(&j, memory, out, &has_value);
		while (st == ST_OK && take(&j, ','));
		KV_TRY(st);
		KV_TRY(want(&j, '}'));
	}
	skip_blanks(&j);
	if (j.p < j.end)
		return status_fail(ST_USAGE, "something follows behind the closing }");
	if (out->key.len == 0)
		return status_fail(ST_USAGE, "the key is missing or empty");
	if (!has_value)
		return status_fail(ST_USAGE, "the value is missing");
	return ST_OK;
}

Status
json_write(Buf *out, const Record *r)
{
	KV_TRY(buf_append(out, "{\"key\":", 7));
	KV_TRY(escape_json(out, slice_kv(r->key)));
	KV_TRY(buf_append(out, ",\"value\":", 9));
	KV_TRY(escape_json(out, slice_kv(r->value)));
	if (r->ttl_ms > 0)
		KV_TRY(buf_printf(out, ",\"ttl_ms\":%" PRIu64, r->ttl_ms));
	return buf_append(out, "}\n", 2);
}
