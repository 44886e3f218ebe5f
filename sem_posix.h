// What the C library has, decided by feature. Defining SEMAPHORE_NO_CLOCKWAIT,
// SEMAPHORE_NO_TIMEDWAIT or SEMAPHORE_NO_GETVALUE takes one away, to build and
// test on Linux what other systems lack.
#ifndef SEM_POSIX_H
#define SEM_POSIX_H

#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>

#ifdef SEMAPHORE_TEST_LIBC // a header of internal/testkit/testdata/libc, which makes this libc like another
#include SEMAPHORE_TEST_LIBC
#endif

// glibc has sem_clockwait since 2.30, FreeBSD sem_clockwait_np since 11.1.
#if defined(__GLIBC__) && !defined(SEMAPHORE_NO_CLOCKWAIT)
#if __GLIBC_PREREQ(2, 30)
#define HAVE_SEM_CLOCKWAIT 1
#endif
#endif
#if defined(__FreeBSD__) && __FreeBSD__ >= 12 && !defined(SEMAPHORE_NO_CLOCKWAIT)
#define HAVE_SEM_CLOCKWAIT 1
#define sem_clockwait(sem, clock, end) sem_clockwait_np(sem, clock, TIMER_ABSTIME, end, NULL)
#endif

// macOS has neither, and its sem_getvalue always fails.
#if !defined(__APPLE__) && !defined(SEMAPHORE_NO_TIMEDWAIT)
#define HAVE_SEM_TIMEDWAIT 1
#endif
#if !defined(__APPLE__) && !defined(SEMAPHORE_NO_GETVALUE)
#define HAVE_SEM_GETVALUE 1
#endif

enum {
#if defined(HAVE_SEM_CLOCKWAIT) || defined(HAVE_SEM_TIMEDWAIT)
	semaphore_has_timed_wait = 1,
#else
	semaphore_has_timed_wait = 0,
#endif
#ifdef __GLIBC__
	semaphore_is_glibc = 1,
#else
	semaphore_is_glibc = 0,
#endif
#if defined(__linux__) && !defined(__GLIBC__) && !defined(__ANDROID__) && !defined(SEMAPHORE_TEST_LIBC)
	semaphore_is_musl = 1,
#else
	semaphore_is_musl = 0,
#endif
};

// A sem_t * as Go keeps it. On macOS it is a file descriptor, and Go's runtime ends a
// program in which it finds so small a number where a pointer should be.
typedef uintptr_t semaphore_handle;

// Each returns 0 or an errno.
int semaphore_open(semaphore_handle *sem, const char *name, int flags, unsigned mode, unsigned value);
int semaphore_close(semaphore_handle sem);
int semaphore_unlink(const char *name);
int semaphore_trywait(semaphore_handle sem);
int semaphore_post(semaphore_handle sem);
int semaphore_getvalue(semaphore_handle sem, int *value);            // ENOSYS where there is none
int semaphore_wait_for(semaphore_handle sem, long long nanoseconds); // ETIMEDOUT; EINTR
int semaphore_init(semaphore_handle sem, unsigned value);            // shared, unnamed

void *semaphore_address(semaphore_handle sem); // of glibc's words
unsigned semaphore_max_value(void);            // that sem_open takes
unsigned long semaphore_calls(void);           // trywait, post and wait_for so far
int semaphore_kick(pthread_t thread); // glibc: makes its semaphore_wait_for return EINTR

#endif
