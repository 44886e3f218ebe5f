//go:build cgo && unix

#define _GNU_SOURCE // sem_clockwait
#include "sem_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

static sem_t *of(semaphore_handle sem) { return (sem_t *)sem; }

// result makes an errno of what a function of libc's returned. sem_post of FreeBSD 9
// returns EOVERFLOW itself.
static int result(int rc) { return rc < 0 ? errno : rc; }

int semaphore_open(semaphore_handle *sem, const char *name, int flags, unsigned mode, unsigned value)
{
	sem_t *s = sem_open(name, flags, mode, value);
	*sem = (semaphore_handle)s;
	return s == SEM_FAILED ? errno : 0; // SEM_FAILED is -1 on macOS and illumos
}

int semaphore_close(semaphore_handle sem) { return result(sem_close(of(sem))); }

int semaphore_unlink(const char *name) { return result(sem_unlink(name)); }

void *semaphore_address(semaphore_handle sem) { return of(sem); }

unsigned semaphore_max_value(void)
{
#ifdef SEM_VALUE_MAX
	return SEM_VALUE_MAX;
#else
	return INT_MAX; // or less: sem_open says so
#endif
}

// calls is for tests that want to know whether libc was called; counts that
// get lost between threads do no harm.
static unsigned long calls;

static void count_call(void)
{
	__atomic_store_n(&calls, __atomic_load_n(&calls, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

unsigned long semaphore_calls(void) { return __atomic_load_n(&calls, __ATOMIC_RELAXED); }

int semaphore_init(semaphore_handle sem, unsigned value)
{
#ifdef __GLIBC__ // macOS has no unnamed semaphores, and needs none
	return result(sem_init(of(sem), 1, value));
#else
	(void)sem;
	(void)value;
	return ENOSYS;
#endif
}

int semaphore_trywait(semaphore_handle sem)
{
	int rc;
	count_call();
	do {
		rc = sem_trywait(of(sem));
	} while (rc != 0 && errno == EINTR); // POSIX allows it; it blocks nowhere
	return result(rc);
}

int semaphore_post(semaphore_handle sem)
{
	count_call();
	return result(sem_post(of(sem)));
}

int semaphore_getvalue(semaphore_handle sem, int *value)
{
#ifdef HAVE_SEM_GETVALUE
	return result(sem_getvalue(of(sem), value));
#else
	(void)sem;
	(void)value;
	return ENOSYS;
#endif
}

int semaphore_wait_for(semaphore_handle sem, long long nanoseconds)
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
	return result(sem_clockwait(of(sem), clock, &end));
#else
	return result(sem_timedwait(of(sem), &end));
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
