/*
 * disk.c - the disk's content: files as pages, each once as the cache has it and once as the platter has it.
 *
 * A page of the two is one and the same until it is written to. Page 0 is all zeros and belongs to everybody.
 * Files and pages that nothing refers to any more are collected when space is short.
 */
#define _GNU_SOURCE
#include "disk_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

Disk *disk;

/* ---- pages */
static uint8_t *
page_at(uint32_t page)
{
	return disk->page[page];
}

uint64_t
disk_room(void)
{
	uint64_t taken = disk->npages - disk->nfree, all = DISK_PAGES - 1;

	return taken < all ? (all - taken) * DISK_PAGE : 0;
}

static uint32_t
page_take(void)
{
	if (disk->nfree > 0)
		return disk->free_page[--disk->nfree];
	if (disk->npages == DISK_PAGES) {
		fprintf(stderr, "the simulated disk is too small\n");
		abort();
	}
	return disk->npages++;
}

static void
page_give(uint32_t page)
{
	if (page != 0)
		disk->free_page[disk->nfree++] = page;
}

/* ---- files */
static void
file_free(File *f)
{
	for (uint32_t i = 0; i < f->npages; i++) {
		if (f->on_disk[i] != f->cached[i])
			page_give(f->on_disk[i]);
		page_give(f->cached[i]);
		f->on_disk[i] = f->cached[i] = 0;
		f->dirty[i] = f->lost[i] = 0;
	}
	disk->used[f - disk->file] = false;
}

File *
file_new(void)
{
	for (int tries = 0; tries < 2; tries++) {
		for (int i = 0; i < DISK_FILES; i++) {
			File *f = &disk->file[i];

			if (!disk->used[i]) {
				disk->used[i] = true;
				f->size = f->size_on_disk = 0;
				f->npages = 0;
				f->born = ++disk->births;
				return f;
			}
		}
		disk_collect();
	}
	return NULL;
}

void
disk_collect(void)
{
	bool named[DISK_FILES] = { false };

	disk_mark_named(named);
	for (int i = 0; i < DISK_FILES; i++)
		if (disk->used[i] && !named[i])
			file_free(&disk->file[i]);
}

/* A page of the cache that may be written to. NULL: no space. */
static uint8_t *
page_for_write(File *f, uint32_t i)
{
	uint32_t old = f->cached[i], page;

	if (old != 0 && old != f->on_disk[i])
		return page_at(old);
	if (disk_room() == 0)
		disk_collect();
	if (disk_room() == 0)
		return NULL;
	page = page_take();
	memcpy(page_at(page), page_at(old), DISK_PAGE);
	f->cached[i] = page;
	return page_at(page);
}

/* The sectors of [from, to) of a page. */
static uint8_t
sectors(uint32_t from, uint32_t to)
{
	uint8_t mask = 0;

	if (disk->profile.sector >= DISK_PAGE)
		return 0xff;
	for (uint32_t s = from / 512; s <= (to - 1) / 512; s++)
		mask |= (uint8_t) (1u << s);
	return mask;
}

bool
file_write(File *f, const uint8_t *data, uint64_t len, uint64_t off)
{
	while (len > 0) {
		uint32_t i = (uint32_t) (off / DISK_PAGE), at = (uint32_t) (off % DISK_PAGE), n = DISK_PAGE - at;
		uint8_t *p = i < DISK_FILE_PAGES ? page_for_write(f, i) : NULL;

		if (p == NULL)
			return false;
		if (n > len)
			n = (uint32_t) len;
		memcpy(p + at, data, n);
		f->dirty[i] |= sectors(at, at + n);
		f->lost[i] &= (uint8_t) ~sectors(at, at + n);
		if (i >= f->npages)
			f->npages = i + 1;
		off += n;
		data += n;
		len -= n;
		if (off > f->size)
			f->size = off;
	}
	return true;
}

size_t
file_read(const File *f, uint8_t *out, size_t len, uint64_t off)
{
	size_t done = 0;

	if (off >= f->size)
		return 0;
	if (len > f->size - off)
		len = (size_t) (f->size - off);
	while (done < len) {
		uint32_t i = (uint32_t) (off / DISK_PAGE), at = (uint32_t) (off % DISK_PAGE), n = DISK_PAGE - at;

		if (n > len - done)
			n = (uint32_t) (len - done);
		memcpy(out + done, page_at(f->cached[i]) + at, n);
		done += n;
		off += n;
	}
	return len;
}

bool
file_truncate(File *f, uint64_t size)
{
	static const uint8_t zero[DISK_PAGE];
	uint64_t end = f->size;

	if (size > (uint64_t) DISK_FILE_PAGES * DISK_PAGE)
		return false;
	while (end > size) {
		uint64_t from = (end - 1) / DISK_PAGE * DISK_PAGE;

		if (from < size)
			from = size;
		if (f->cached[from / DISK_PAGE] != 0 && !file_write(f, zero, end - from, from))
			return false;
		end = from;
	}
	f->size = size;
	return true;
}

/* ---- from the cache to the platter */
/* These sectors of page i reach the platter. */
static void
write_back(File *f, uint32_t i, uint8_t mask)
{
	mask &= f->dirty[i];
	if (mask == 0)
		return;
	f->dirty[i] &= (uint8_t) ~mask;
	if (f->dirty[i] == 0 && f->lost[i] == 0) {
		if (f->on_disk[i] != f->cached[i])
			page_give(f->on_disk[i]);
		f->on_disk[i] = f->cached[i];
		return;
	}
	if (f->on_disk[i] == 0) {
		f->on_disk[i] = page_take();
		memset(page_at(f->on_disk[i]), 0, DISK_PAGE);
	}
	for (int s = 0; s < 8; s++)
		if (mask & 1u << s)
			memcpy(page_at(f->on_disk[i]) + s * 512, page_at(f->cached[i]) + s * 512, 512);
}

void
file_sync(File *f)
{
	for (uint32_t i = 0; i < f->npages; i++)
		write_back(f, i, 0xff);
	f->size_on_disk = f->size;
}

void
file_lose(File *f)
{
	for (uint32_t i = 0; i < f->npages; i++) {
		f->lost[i] |= f->dirty[i];
		f->dirty[i] = 0;
	}
}

static uint8_t
random_sectors(unsigned kept)
{
	uint8_t mask = 0;

	if (disk->profile.sector >= DISK_PAGE)
		return prng_below(&disk->random, 256) < kept ? 0xff : 0;
	for (int s = 0; s < 8; s++)
		if (prng_below(&disk->random, 256) < kept)
			mask |= (uint8_t) (1u << s);
	return mask;
}

void
file_write_back_some(File *f, unsigned kept)
{
	for (uint32_t i = 0; i < f->npages; i++)
		if (f->dirty[i] != 0)
			write_back(f, i, random_sectors(kept));
	if (f->size != f->size_on_disk && prng_below(&disk->random, 256) < kept)
		f->size_on_disk = f->size;
}

/* What is beyond the end is nothing: zeros when the file grows again. */
static void
clear_beyond(File *f)
{
	for (uint32_t i = (uint32_t) (f->size / DISK_PAGE); i < f->npages; i++) {
		uint32_t at = f->size > (uint64_t) i * DISK_PAGE ? (uint32_t) (f->size % DISK_PAGE) : 0;

		if (f->cached[i] != 0)
			memset(page_at(f->cached[i]) + at, 0, DISK_PAGE - at);
	}
}

static void
fill_with_garbage(File *f, uint32_t i, uint8_t mask)
{
	if (f->on_disk[i] == 0) {
		f->on_disk[i] = page_take();
		memset(page_at(f->on_disk[i]), 0, DISK_PAGE);
	}
	for (int s = 0; s < 8; s++)
		for (int b = 0; b < 512 && (mask & 1u << s); b += 8) {
			uint64_t r = prng_next(&disk->random);

			memcpy(page_at(f->on_disk[i]) + s * 512 + b, &r, 8);
		}
}

/* The platter's state is all there is. */
static void
file_crash(File *f, unsigned kept)
{
	uint64_t before = f->size_on_disk;

	file_write_back_some(f, kept);
	if (f->size_on_disk < f->size && prng_below(&disk->random, 2) == 0) /* somewhere in between */
		f->size_on_disk += prng_below(&disk->random, f->size - f->size_on_disk);
	for (uint32_t i = 0; i < f->npages; i++) {
		uint8_t stale = f->dirty[i] | f->lost[i];

		if (disk->profile.garbage && stale != 0 && (uint64_t) i * DISK_PAGE >= before &&
			(uint64_t) i * DISK_PAGE < f->size_on_disk)
			fill_with_garbage(f, i, stale);
		if (f->on_disk[i] != f->cached[i])
			page_give(f->cached[i]);
		f->cached[i] = f->on_disk[i];
		f->dirty[i] = f->lost[i] = 0;
	}
	f->size = f->size_on_disk;
	clear_beyond(f);
}

void
disk_files_crash(unsigned kept)
{
	for (int i = 0; i < DISK_FILES; i++)
		if (disk->used[i])
			file_crash(&disk->file[i], kept);
}

/* ---- the whole */
static int memory_fd;

static void
map(int how, void *at)
{
	disk = mmap(at, sizeof *disk, PROT_READ | PROT_WRITE, how, memory_fd, 0);
	if (disk == MAP_FAILED) {
		perror("no memory for the disk");
		exit(2);
	}
}

void
disk_make(void)
{
	memory_fd = memfd_create("disk", MFD_CLOEXEC);
	if (memory_fd < 0 || ftruncate(memory_fd, sizeof *disk) != 0) {
		perror("no memory for the disk");
		exit(2);
	}
	map(MAP_SHARED, NULL);
	disk->npages = 1;
}

void
disk_private(void)
{
	map(MAP_PRIVATE | MAP_FIXED, disk);
}

void
disk_settle(void)
{
	for (int i = 0; i < DISK_FILES; i++)
		if (disk->used[i])
			file_sync(&disk->file[i]);
	disk_names_sync(NULL);
}

void
disk_write_back_random(void)
{
	uint32_t start = (uint32_t) prng_below(&disk->random, DISK_FILES);

	for (uint32_t i = 0; i < DISK_FILES; i++) {
		uint32_t k = (start + i) % DISK_FILES;

		if (disk->used[k]) {
			file_write_back_some(&disk->file[k], 128);
			return;
		}
	}
}
