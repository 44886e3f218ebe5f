// A libc like musl before 1.2.3: it counts the opens of a semaphore, but the first
// sem_close unmaps it all the same.
#include "common.h"

#define MUSL_SEMS 256 // SEM_NSEMS_MAX
SHIM struct { sem_t *sem; int opens, mapped; } musl_sems[MUSL_SEMS];
SHIM pthread_mutex_t musl_lock = PTHREAD_MUTEX_INITIALIZER;

SHIM sem_t *musl_sem_open(const char *name, int flags, unsigned mode, unsigned value)
{
	shim_name other;
	int i, slot = -1;
	sem_t *sem = sem_open(shim_elsewhere(name, &other), flags, mode, value);
	if (sem == SEM_FAILED)
		return SEM_FAILED;
	pthread_mutex_lock(&musl_lock);
	for (i = 0; i < MUSL_SEMS && musl_sems[i].sem != sem; i++)
		if (slot < 0 && musl_sems[i].sem == NULL)
			slot = i;
	if (i == MUSL_SEMS)
		i = slot;
	if (i < 0) {
		sem_close(sem);
		errno = EMFILE;
		sem = SEM_FAILED;
	} else {
		musl_sems[i].sem = sem;
		musl_sems[i].opens++;
		musl_sems[i].mapped++;
	}
	pthread_mutex_unlock(&musl_lock);
	return sem;
}

SHIM int musl_sem_close(sem_t *sem)
{
	int i;
	pthread_mutex_lock(&musl_lock);
	for (i = 0; i < MUSL_SEMS && musl_sems[i].sem != sem; i++)
		;
	if (i == MUSL_SEMS)
		abort(); // musl does not check
	for (; musl_sems[i].mapped > 0; musl_sems[i].mapped--)
		sem_close(sem); // the last one unmaps
	if (--musl_sems[i].opens == 0)
		musl_sems[i].sem = NULL;
	pthread_mutex_unlock(&musl_lock);
	return 0;
}

SHIM int musl_sem_unlink(const char *name)
{
	shim_name other;
	return sem_unlink(shim_elsewhere(name, &other));
}

#define sem_open musl_sem_open
#define sem_close musl_sem_close
#define sem_unlink musl_sem_unlink
#define sem_clockwait musl_has_no_sem_clockwait
#undef __GLIBC__
