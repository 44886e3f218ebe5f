// A libc like that of illumos and Solaris.
//
// - SEM_FAILED is -1.
// - One pointer for one semaphore, however often it is opened, and no count: the
//   first sem_close unmaps it, and the next one is EINVAL.
#include "common.h"

SHIM sem_t *illumos_sem_open(const char *name, int flags, unsigned mode, unsigned value)
{
	sem_t *sem = shim_open(name, flags, mode, value);
	if (sem == SEM_FAILED)
		return (sem_t *)-1;
	pthread_mutex_lock(&shim_lock);
	if (shim_opened(sem, SHIM_SEMS) == NULL)
		abort();
	pthread_mutex_unlock(&shim_lock);
	return sem;
}

SHIM int illumos_sem_close(sem_t *sem)
{
	shim_entry *e;
	int open;
	pthread_mutex_lock(&shim_lock);
	e = shim_find(sem, SHIM_SEMS);
	open = e != NULL;
	if (open) {
		for (; e->opens > 0; e->opens--)
			sem_close(sem); // the last one unmaps
		e->sem = NULL;
	}
	pthread_mutex_unlock(&shim_lock);
	errno = EINVAL;
	return open ? 0 : -1;
}

#define sem_open illumos_sem_open
#define sem_close illumos_sem_close
#define sem_unlink shim_unlink
#define sem_clockwait illumos_has_no_sem_clockwait
#undef SEM_FAILED
#define SEM_FAILED ((sem_t *)-1)
#undef __GLIBC__
