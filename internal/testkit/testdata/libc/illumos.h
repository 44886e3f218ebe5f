// A libc like that of illumos and Solaris.
//
// - SEM_FAILED is -1.
// - One pointer for one semaphore, however often it is opened, and no count: the
//   first sem_close unmaps it, and the next one is EINVAL.
#include "common.h"

#define ILLUMOS_SEMS 4096
SHIM struct { sem_t *sem; int opens; } illumos_sems[ILLUMOS_SEMS];
SHIM pthread_mutex_t illumos_lock = PTHREAD_MUTEX_INITIALIZER;

SHIM sem_t *illumos_sem_open(const char *name, int flags, unsigned mode, unsigned value)
{
	shim_name other;
	int i, slot = -1;
	sem_t *sem = sem_open(shim_elsewhere(name, &other), flags, mode, value);
	if (sem == SEM_FAILED)
		return (sem_t *)-1;
	pthread_mutex_lock(&illumos_lock);
	for (i = 0; i < ILLUMOS_SEMS && illumos_sems[i].sem != sem; i++)
		if (slot < 0 && illumos_sems[i].sem == NULL)
			slot = i;
	if (i == ILLUMOS_SEMS)
		i = slot;
	if (i < 0)
		abort();
	illumos_sems[i].sem = sem;
	illumos_sems[i].opens++;
	pthread_mutex_unlock(&illumos_lock);
	return sem;
}

SHIM int illumos_sem_close(sem_t *sem)
{
	int i, opens = 0;
	pthread_mutex_lock(&illumos_lock);
	for (i = 0; i < ILLUMOS_SEMS && illumos_sems[i].sem != sem; i++)
		;
	if (i < ILLUMOS_SEMS) {
		opens = illumos_sems[i].opens;
		illumos_sems[i].sem = NULL;
		illumos_sems[i].opens = 0;
	}
	for (i = 0; i < opens; i++)
		sem_close(sem); // the last one unmaps
	pthread_mutex_unlock(&illumos_lock);
	errno = EINVAL;
	return opens > 0 ? 0 : -1;
}

SHIM int illumos_sem_unlink(const char *name)
{
	shim_name other;
	return sem_unlink(shim_elsewhere(name, &other));
}

#define sem_open illumos_sem_open
#define sem_close illumos_sem_close
#define sem_unlink illumos_sem_unlink
#define sem_clockwait illumos_has_no_sem_clockwait
#undef SEM_FAILED
#define SEM_FAILED ((sem_t *)-1)
#undef __GLIBC__
