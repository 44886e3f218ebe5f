// The counterpart of worker.go in C: the same loops with libc's semaphores and with System V's.
// worker.go says what the arguments are, and what is written and read.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sem.h>
#include <time.h>
#include <unistd.h>

enum { libc, sysv, undo };

struct semaphore {
	sem_t *libc;
	int sysv;
};

static void check(int ok, const char *what)
{
	if (ok)
		return;
	printf("%s: %s\n", what, strerror(errno));
	exit(1);
}

static struct semaphore open_semaphore(int kind, const char *name)
{
	struct semaphore s = {0};
	if (kind != libc) {
		s.sysv = atoi(name);
		return s;
	}
	char path[256];
	snprintf(path, sizeof path, "/%s", name);
	s.libc = sem_open(path, 0);
	check(s.libc != SEM_FAILED, "sem_open");
	return s;
}

static void add(int kind, int id, int n)
{
	struct sembuf op = {0, n, kind == undo ? SEM_UNDO : 0};
	check(semop(id, &op, 1) == 0, "semop");
}

// The kind is a constant wherever these are inlined.
static inline __attribute__((always_inline)) void take(int kind, struct semaphore s)
{
	if (kind == libc)
		sem_wait(s.libc);
	else
		add(kind, s.sysv, -1);
}

static inline __attribute__((always_inline)) void give(int kind, struct semaphore s)
{
	if (kind == libc)
		sem_post(s.libc);
	else
		add(kind, s.sysv, 1);
}

static long long now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long wall, cpu;

static void begin(void)
{
	puts("ready");
	fflush(stdout);
	getchar();
	wall = now(CLOCK_MONOTONIC);
	cpu = now(CLOCK_PROCESS_CPUTIME_ID);
}

static void end(long operations)
{
	printf("%ld %lld %lld", operations, now(CLOCK_MONOTONIC) - wall, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
}

// histogram.go
static long histogram[1024];

static void count(long long ns)
{
	int log = 63 - __builtin_clzll(ns | 1);
	histogram[log < 4 ? ns : (log - 3) * 16 + ((ns >> (log - 4)) & 15)]++;
}

static inline __attribute__((always_inline)) void loops(int kind, const char *mode, long n, struct semaphore *s, int count_of_s)
{
	if (strcmp(mode, "loop") == 0) {
		begin();
		for (long i = 0; i < n; i++) {
			take(kind, s[0]);
			give(kind, s[0]);
		}
	} else if (strcmp(mode, "ping") == 0) {
		begin();
		for (long i = 0; i < n; i++) {
			take(kind, s[0]);
			give(kind, s[1]);
		}
	} else if (strcmp(mode, "ring") == 0) {
		take(kind, s[0]);
		begin();
		for (long i = 0, at = 0; i < n; i++) {
			long next = at + 1 == count_of_s ? 0 : at + 1;
			take(kind, s[next]);
			give(kind, s[at]);
			at = next;
		}
	} else if (strcmp(mode, "share") == 0) {
		long done = 0;
		begin();
		for (long long last = wall, at; last < wall + n * 1000000; last = at, done++) {
			take(kind, s[0]);
			give(kind, s[0]);
			at = now(CLOCK_MONOTONIC);
			count(at - last);
		}
		end(done);
		for (int i = 0; i < 1024; i++)
			if (histogram[i])
				printf(" %d:%ld", i, histogram[i]);
		return;
	} else
		check(0, mode);
	end(n);
}

static void opening(const char *name, long n)
{
	begin();
	for (long i = 0; i < n; i++)
		check(sem_close(open_semaphore(libc, name).libc) == 0, "sem_close");
	end(n);
}

static atomic_long begun;
static int kind_of_all;
static struct semaphore all;

static void *wait_in_thread(void *unused)
{
	begun++;
	take(kind_of_all, all);
	return unused;
}

static void waiting(long n)
{
	take(kind_of_all, all);
	puts("ready");
	fflush(stdout);
	getchar();
	for (long i = 0; i < n; i++) {
		pthread_t thread;
		check((errno = pthread_create(&thread, NULL, wait_in_thread, NULL)) == 0, "pthread_create");
	}
	while (begun < n)
		usleep(1000);
	puts("waiting");
	fflush(stdout);
	while (getchar() != EOF)
		;
}

static void member(int kind, struct semaphore s, const char *number)
{
	char order[16];
	printf("%s ready 0\n", number);
	fflush(stdout);
	while (fgets(order, sizeof order, stdin)) {
		long long at;
		if (strcmp(order, "wait\n") == 0) {
			take(kind, s);
			at = now(CLOCK_MONOTONIC);
			printf("%s got %lld\n", number, at);
		} else {
			at = now(CLOCK_MONOTONIC);
			give(kind, s);
			printf("%s gave %lld\n", number, at);
		}
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	enum { most = 8 };
	struct semaphore s[most];
	if (argc < 5 || argc > 4 + most)
		return 2;
	const char *mode = argv[1];
	int kind = strcmp(argv[2], "sysv-undo") == 0 ? undo : strcmp(argv[2], "sysv") == 0 ? sysv : libc;
	long n = atol(argv[3]);
	int count_of_s = argc - 4;
	if (strcmp(mode, "open") == 0) {
		opening(argv[4], n);
		puts("");
		return 0;
	}
	for (int i = 0; i < count_of_s; i++)
		s[i] = open_semaphore(kind, argv[4 + i]);
	if (strcmp(mode, "reopen") == 0)
		opening(argv[4], n);
	else if (strcmp(mode, "waiting") == 0) {
		kind_of_all = kind;
		all = s[0];
		waiting(n);
	} else if (strcmp(mode, "member") == 0)
		member(kind, s[0], argv[3]);
	else if (kind == libc)
		loops(libc, mode, n, s, count_of_s);
	else if (kind == sysv)
		loops(sysv, mode, n, s, count_of_s);
	else
		loops(undo, mode, n, s, count_of_s);
	puts("");
	return 0;
}
