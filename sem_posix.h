// What the C library has, decided by feature. Defining SEMAPHORE_NO_CLOCKWAIT,
// SEMAPHORE_NO_TIMEDWAIT or SEMAPHORE_NO_GETVALUE takes one away, to build and
// test on Linux what other systems lack.
#ifndef SEM_POSIX_H
#define SEM_POSIX_H

#include <pthread.h>
#include <semaphore.h>

// glibc has sem_clockwait since 2.30.
#if defined(__GLIBC__) && !defined(SEMAPHORE_NO_CLOCKWAIT)
#if __GLIBC_PREREQ(2, 30)
#define HAVE_SEM_CLOCKWAIT 1
#endif
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
};

// Each returns 0 or an errno.
int semaphore_open(sem_t **sem, const char *name, int flags, unsigned mode, unsigned value);
int semaphore_close(sem_t *sem);
int semaphore_unlink(const char *name);
int semaphore_trywait(sem_t *sem);
int semaphore_post(sem_t *sem);
int semaphore_getvalue(sem_t *sem, int *value);           // ENOSYS where there is none
int semaphore_wait_for(sem_t *sem, long long nanoseconds); // ETIMEDOUT; EINTR
int semaphore_init(sem_t *sem, unsigned value);            // shared, unnamed
unsigned long semaphore_calls(void);                      // trywait, post and wait_for so far
int semaphore_kick(pthread_t thread); // glibc: makes its semaphore_wait_for return EINTR

#endif
