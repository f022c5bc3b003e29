/*
 * process_local.h - state that each process has for itself.
 *
 * The server has no threads. Tests that run its processes as threads of one program, so that the thread sanitizer
 * sees what they do to each other (make tsan), are built with -DKVD_THREADS.
 */
#ifndef COMMON_PROCESS_LOCAL_H
#define COMMON_PROCESS_LOCAL_H

#ifdef KVD_THREADS
#define PROCESS_LOCAL _Thread_local
#else
#define PROCESS_LOCAL
#endif

#endif
