/*
 * config_files.h - kvd.conf and kvd.auto.conf in the data directory (settings: common/config.h).
 */
#ifndef PORT_CONFIG_FILES_H
#define PORT_CONFIG_FILES_H

#include "common/config.h"

#define CONFIG_FILE "kvd.conf"           /* people write it */
#define CONFIG_AUTO_FILE "kvd.auto.conf" /* the server writes it */
#define CONFIG_FILE_MAX (1024 * 1024)    /* larger is no settings file; it is read whole into memory */

/*
 * Read both files in `dir` (a missing one is empty) and put the layers together: config_apply().
 * BAD_SETTING: "kvd.conf:12: ..."; then nothing has changed.
 */
KV_CHECK Status config_load(const char *dir, bool reload, int *restart_needed);
/*
 * Rewrite dir/kvd.auto.conf with name = value (value NULL: remove it), all or nothing. The caller then
 * reloads, and sees to it that only one process does this at a time.
 */
KV_CHECK Status config_write_auto(const char *dir, const char *name, const char *value);
/* Write the commented sample to dir/kvd.conf. */
KV_CHECK Status config_write_sample_file(const char *dir);

#endif
