//go:build cgo && unix

#define _GNU_SOURCE // sem_clockwait
#include "sem_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

int semaphore_open(sem_t **sem, const char *name, int flags, unsigned mode, unsigned value)
{
	*sem = sem_open(name, flags, mode, value);
	return *sem == SEM_FAILED ? errno : 0; // SEM_FAILED is -1 on macOS
}

int semaphore_close(sem_t *sem) { return sem_close(sem) == 0 ? 0 : errno; }

int semaphore_unlink(const char *name) { return sem_unlink(name) == 0 ? 0 : errno; }

// calls is for tests that want to know whether libc was called; counts that
// get lost between threads do no harm.
static unsigned long calls;

static void count_call(void)
{
	__atomic_store_n(&calls, __atomic_load_n(&calls, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

unsigned long semaphore_calls(void) { return __atomic_load_n(&calls, __ATOMIC_RELAXED); }

int semaphore_init(sem_t *sem, unsigned value)
{
#ifdef __GLIBC__ // macOS has no unnamed semaphores, and nobody asks for them there
	return sem_init(sem, 1, value) == 0 ? 0 : errno;
#else
	(void)sem;
	(void)value;
	return ENOSYS;
#endif
}

int semaphore_trywait(sem_t *sem)
{
	int rc;
	count_call();
	do {
		rc = sem_trywait(sem);
	} while (rc != 0 && errno == EINTR); // POSIX allows it; it blocks nowhere
	return rc == 0 ? 0 : errno;
}

int semaphore_post(sem_t *sem)
{
	count_call();
	return sem_post(sem) == 0 ? 0 : errno;
}

int semaphore_getvalue(sem_t *sem, int *value)
{
#ifdef HAVE_SEM_GETVALUE
	return sem_getvalue(sem, value) == 0 ? 0 : errno;
#else
	(void)sem;
	(void)value;
	return ENOSYS;
#endif
}

int semaphore_wait_for(sem_t *sem, long long nanoseconds)
{
	count_call();
#if defined(HAVE_SEM_CLOCKWAIT) || defined(HAVE_SEM_TIMEDWAIT)
#ifdef HAVE_SEM_CLOCKWAIT
	clockid_t clock = CLOCK_MONOTONIC;
#else
	clockid_t clock = CLOCK_REALTIME; // sem_timedwait's; a clock set back makes it late
#endif
	struct timespec end;
	if (clock_gettime(clock, &end) != 0)
		return errno;
	nanoseconds += end.tv_nsec;
	end.tv_sec += nanoseconds / 1000000000;
	end.tv_nsec = nanoseconds % 1000000000;
#ifdef HAVE_SEM_CLOCKWAIT
	return sem_clockwait(sem, clock, &end) == 0 ? 0 : errno;
#else
	return sem_timedwait(sem, &end) == 0 ? 0 : errno;
#endif
#else
	(void)sem;
	(void)nanoseconds;
	return ENOSYS;
#endif
}

// SIGURG is the signal that Go's runtime sends to its own threads, and chose
// because a program must expect it at any time for no reason (proposal 24543).
// glibc's timed waits are never restarted after a handler, so this ends them.
// musl's are, unless a handler without SA_RESTART was installed.
int semaphore_kick(pthread_t thread) { return pthread_kill(thread, SIGURG); }
