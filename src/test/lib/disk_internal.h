/*
 * disk_internal.h - what disk.c (content) and disk_fs.c (names, the table of operations) share.
 */
#ifndef TEST_LIB_DISK_INTERNAL_H
#define TEST_LIB_DISK_INTERNAL_H

#include <string.h>

#include "common/prng.h"
#include "disk.h"

#define DISK_PAGE 4096u
#define DISK_PAGES 32768u     /* 128 MiB */
#define DISK_FILE_PAGES 8192u /* 32 MiB */
#define DISK_FILES 2048
#define DISK_NAMES 4096
#define DISK_NAME_SIZE 96
#define DISK_CHANGES 4096 /* of names, not synced yet */
#define DISK_OPEN 512 /* more than TABLE_FILES_MAX, which one process may keep open */

typedef struct File {
	uint64_t born;
	uint64_t size, size_on_disk;
	uint32_t npages;                   /* beyond these all is zero */
	uint32_t cached[DISK_FILE_PAGES];  /* as programs see it */
	uint32_t on_disk[DISK_FILE_PAGES]; /* as it is without power */
	uint8_t dirty[DISK_FILE_PAGES];    /* sectors to be written */
	uint8_t lost[DISK_FILE_PAGES];     /* sectors that a failed sync took for written */
} File;

#define NO_FILE (-1)
#define A_DIRECTORY (-2)

typedef struct Name {
	char path[DISK_NAME_SIZE]; /* empty: free */
	int cached, on_disk;       /* index of the file, NO_FILE or A_DIRECTORY */
} Name;

/* Up to two names get a new meaning, together. */
typedef struct Change {
	int n;
	int name[2];
	int file[2];
} Change;

typedef struct Disk {
	DiskProfile profile;
	Prng random;
	uint64_t births;
	uint32_t npages, nfree;
	uint32_t free_page[DISK_PAGES];
	int nnames; /* highest in use, + 1 */
	Name name[DISK_NAMES];
	int nchanges;
	Change change[DISK_CHANGES];
	bool used[DISK_FILES]; /* beside the files: a File is 80 KB, and most processes walk over all of them */
	File file[DISK_FILES];
	_Alignas(4096) uint8_t page[DISK_PAGES][DISK_PAGE];
} Disk;

extern Disk *disk;

/* ---- disk.c */
/* An empty file that has no name yet; NULL: too many. */
File *file_new(void);
/* False: no space. */
bool file_write(File *f, const uint8_t *data, uint64_t len, uint64_t off);
size_t file_read(const File *f, uint8_t *out, size_t len, uint64_t off);
bool file_truncate(File *f, uint64_t size);
void file_sync(File *f);
void file_lose(File *f);
void file_write_back_some(File *f, unsigned kept);
void disk_files_crash(unsigned kept);
void disk_write_back_random(void);
uint64_t disk_room(void);
/* Free files that have no name anywhere. */
void disk_collect(void);

/* ---- disk_fs.c */
/* Files that a name, a change of one or a descriptor refers to. */
void disk_mark_named(bool named[DISK_FILES]);
/* Changes of names in a directory are on the platter; NULL: in all. */
void disk_names_sync(const char *dir);

#endif
