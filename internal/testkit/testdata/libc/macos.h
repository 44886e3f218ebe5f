// A libc like macOS's.
//
// - SEM_FAILED is -1.
// - sem_open returns a file descriptor instead of an address, and a new one for each
//   open.
// - A name has at most 30 bytes, including the slash.
// - A value is at most 32767.
// - There are no unnamed semaphores and no timed wait, and sem_getvalue fails.
#include "common.h"

#define MACOS_DESCRIPTORS 4096
SHIM sem_t *macos_sems[MACOS_DESCRIPTORS]; // glibc's, by descriptor

SHIM sem_t *macos_sem(sem_t *sem)
{
	uintptr_t fd = (uintptr_t)sem;
	sem_t *real = fd < MACOS_DESCRIPTORS ? __atomic_load_n(&macos_sems[fd], __ATOMIC_SEQ_CST) : NULL;
	if (real == NULL)
		errno = EBADF;
	return real;
}

SHIM int macos_too_long(const char *name)
{
	errno = ENAMETOOLONG;
	return strlen(name) + 1 > 31; // PSEMNAMLEN, and the kernel counts the NUL
}

SHIM sem_t *macos_sem_open(const char *name, int flags, unsigned mode, unsigned value)
{
	sem_t *real;
	int fd, e;
	if (macos_too_long(name))
		return (sem_t *)-1;
	errno = EINVAL;
	if ((flags & O_CREAT) && value > 32767)
		return (sem_t *)-1;
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd < 0 || fd >= MACOS_DESCRIPTORS)
		abort();
	real = shim_open(name, flags, mode, value);
	if (real == SEM_FAILED) {
		e = errno;
		close(fd);
		errno = e;
		return (sem_t *)-1;
	}
	__atomic_store_n(&macos_sems[fd], real, __ATOMIC_SEQ_CST);
	return (sem_t *)(uintptr_t)fd;
}

SHIM int macos_sem_close(sem_t *sem)
{
	sem_t *real = macos_sem(sem);
	if (real == NULL)
		return -1;
	__atomic_store_n(&macos_sems[(uintptr_t)sem], NULL, __ATOMIC_SEQ_CST);
	sem_close(real);
	return close((int)(uintptr_t)sem);
}

SHIM int macos_sem_unlink(const char *name)
{
	return macos_too_long(name) ? -1 : shim_unlink(name);
}

SHIM int macos_sem_trywait(sem_t *sem)
{
	sem_t *real = macos_sem(sem);
	return real == NULL ? -1 : sem_trywait(real);
}

SHIM int macos_sem_post(sem_t *sem)
{
	sem_t *real = macos_sem(sem);
	return real == NULL ? -1 : sem_post(real);
}

SHIM int macos_has_none(void)
{
	errno = ENOSYS;
	return -1;
}

#define sem_open macos_sem_open
#define sem_close macos_sem_close
#define sem_unlink macos_sem_unlink
#define sem_trywait macos_sem_trywait
#define sem_post macos_sem_post
#define sem_init(sem, shared, value) macos_has_none()
#define sem_getvalue(sem, value) macos_has_none()
#define sem_timedwait macos_has_no_sem_timedwait
#define sem_clockwait macos_has_no_sem_clockwait
#undef SEM_FAILED
#define SEM_FAILED ((sem_t *)-1)
#undef SEM_VALUE_MAX
#define SEM_VALUE_MAX 32767
#undef __GLIBC__
#define __APPLE__ 1
