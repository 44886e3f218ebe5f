// A libc like FreeBSD's.
//
// - A name without a slash in front is an error, and so is any flag but O_CREAT and
//   O_EXCL.
// - sem_clockwait_np has flags, and can return how much time was left.
// - sem_post of version 9 returns EOVERFLOW in place of -1.
#include "common.h"

SHIM sem_t *freebsd_sem_open(const char *name, int flags, unsigned mode, unsigned value)
{
	errno = EINVAL;
	if (name[0] != '/' || (flags & ~(O_CREAT | O_EXCL)))
		return SEM_FAILED;
	return shim_open(name, flags, mode, value);
}

SHIM int freebsd_sem_unlink(const char *name)
{
	errno = ENOENT;
	return name[0] != '/' ? -1 : shim_unlink(name);
}

SHIM int freebsd_sem_post(sem_t *sem)
{
	int rc = sem_post(sem);
	return rc != 0 && errno == EOVERFLOW ? (errno = 0, EOVERFLOW) : rc;
}

int sem_clockwait(sem_t *sem, clockid_t clock, const struct timespec *end);

SHIM int sem_clockwait_np(sem_t *sem, clockid_t clock, int flags, const struct timespec *end, struct timespec *left)
{
	errno = EINVAL;
	if (flags != TIMER_ABSTIME || left != NULL)
		return -1;
	return sem_clockwait(sem, clock, end);
}

#define sem_open freebsd_sem_open
#define sem_unlink freebsd_sem_unlink
#define sem_post freebsd_sem_post
#define sem_timedwait freebsd_sem_timedwait_has_the_wrong_clock
#undef __GLIBC__
#define __FreeBSD__ 14
