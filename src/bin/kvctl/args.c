/*
 * args.c - the words behind a command: options by its table, and the rest.
 */
#include "kvctl.h"

static bool
is_option(kv_bytes w)
{
	const char *s = w.data;

	if (w.len < 2 || s[0] != '-')
		return false;
	return !(s[1] >= '0' && s[1] <= '9'); /* a negative number */
}

/* The place of a word among the options, -1 if it is none. "--ttl=5s": *inline_value is what stands behind the =. */
static int
find_option(const Command *c, kv_bytes w, kv_bytes *inline_value)
{
	const char *s = w.data;
	const char *equals = w.len > 2 && s[1] == '-' ? memchr(s, '=', w.len) : NULL;
	size_t len = equals != NULL ? (size_t) (equals - s) : w.len;

	*inline_value = (kv_bytes){ NULL, 0 };
	if (equals != NULL)
		*inline_value = (kv_bytes){ equals + 1, w.len - len - 1 };
	for (int i = 0; i < ARGS_OPTIONS_MAX && c->option[i].name != NULL; i++)
		if (strlen(c->option[i].name) == len && memcmp(c->option[i].name, s, len) == 0)
			return i;
	return -1;
}

/* words[*i] is option k of the command. Its value takes the place of the word, so that it stays addressable. */
static bool
take_option(Ctl *ctl, const Command *c, kv_bytes *words, int n, int *i, int k, kv_bytes inline_value, Args *a)
{
	const ArgSpec *spec = &c->option[k];
	int at = *i;

	if (spec->has_value && inline_value.data == NULL) {
		if (++*i >= n) {
			ctl_usage(ctl, "a value is missing after %s", spec->name);
			return false;
		}
		a->option[k] = &words[*i];
	} else if (!spec->has_value && inline_value.data != NULL) {
		ctl_usage(ctl, "%s takes no value", spec->name);
		return false;
	} else {
		if (spec->has_value)
			words[at] = inline_value;
		a->option[k] = &words[at];
	}
	if (spec->many && a->listed == ARGS_LIST_MAX) {
		ctl_usage(ctl, "%s is given more than %d times", spec->name, ARGS_LIST_MAX);
		return false;
	}
	if (spec->many)
		a->list[a->listed++] = a->option[k]->data;
	return true;
}

/* Move the words that are no options to the front, keeping both orders; options point to copies behind them. */
static void
gather(kv_bytes *words, int n, const bool *plain, Args *a)
{
	int count = 0;

	for (int i = 0; i < n; i++) {
		kv_bytes w = words[i];

		if (!plain[i])
			continue;
		for (int k = i; k > count; k--)
			words[k] = words[k - 1];
		/* What stood between moved up by one. */
		for (int k = 0; k < ARGS_OPTIONS_MAX; k++)
			if (a->option[k] != NULL && a->option[k] >= &words[count] && a->option[k] < &words[i])
				a->option[k]++;
		words[count++] = w;
	}
	a->positional = words;
	a->n = count;
}

#define ARGS_WORDS_MAX 65536 /* the most keys in one MGET */

bool
args_parse(Ctl *ctl, const Command *c, kv_bytes *words, int n, Args *a)
{
	static bool plain[ARGS_WORDS_MAX];
	bool options = true;

	*a = (Args){ 0 };
	if (n > ARGS_WORDS_MAX) {
		ctl_usage(ctl, "more than %d arguments", ARGS_WORDS_MAX);
		return false;
	}
	for (int i = 0; i < n; i++) {
		kv_bytes inline_value;
		int first = i;
		int k, taken;

		plain[i] = !options || !is_option(words[i]);
		if (plain[i])
			continue;
		if (words[i].len == 2 && memcmp(words[i].data, "--", 2) == 0) {
			options = false;
			continue;
		}
		k = find_option(c, words[i], &inline_value);
		taken = k < 0 && !ctl->shell ? options_take(ctl, words, n, &i) : 0;
		if (taken < 0 || (k >= 0 && !take_option(ctl, c, words, n, &i, k, inline_value, a)))
			return false;
		if (k < 0 && taken == 0) {
			ctl_usage(ctl, "unknown option %s", (const char *) words[i].data);
			return false;
		}
		for (; first <= i; first++)
			plain[first] = false;
		if (taken > 0)
			i--;
	}
	gather(words, n, plain, a);
	if (a->n < c->min || (c->max >= 0 && a->n > c->max)) {
		ctl_usage(ctl, a->n < c->min ? "too few arguments" : "too many arguments");
		return false;
	}
	return true;
}
