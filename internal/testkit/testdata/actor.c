// A program that uses libc's semaphores, and that a test drives over a pipe, a command
// a line: see actor.go.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sem_t *sem;
static int witness = -1, gate;
static char own[20]; // the witness's name

static int record_lock(int fd, int type, int command)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET};
	if (fcntl(fd, command, &l) != 0)
		exit(9);
	return l.l_type;
}

// others counts the files of the directory, without our own, that another process has
// locked.
static int others(const char *dir)
{
	int n = 0;
	DIR *d = opendir(dir);
	struct dirent *e;
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.' || strcmp(e->d_name, own) == 0)
			continue;
		int fd = openat(dirfd(d), e->d_name, O_RDWR);
		if (fd < 0)
			exit(9);
		n += record_lock(fd, F_WRLCK, F_GETLK) != F_UNLCK;
		close(fd);
	}
	closedir(d);
	return n;
}

static const char *error_name(void)
{
	switch (errno) {
	case EAGAIN: return "EAGAIN";
	case ENOENT: return "ENOENT";
	case EEXIST: return "EEXIST";
	case EACCES: return "EACCES";
	case EOVERFLOW: return "EOVERFLOW";
	}
	return strerror(errno);
}

static void wait_one(void)
{
	while (sem_wait(sem) != 0)
		if (errno != EINTR)
			exit(9);
}

int main(void)
{
	char line[1024], text[400] = "", dir[400];
	int n, limit, failed;
	while (fgets(line, sizeof line, stdin)) {
		failed = 0;
		if (sscanf(line, "create %399s %d", text, &n) == 2) {
			sem = sem_open(text, O_CREAT | O_EXCL, 0600, n);
			failed = sem == SEM_FAILED;
		} else if (sscanf(line, "open %399s", text) == 1) {
			sem = sem_open(text, 0);
			failed = sem == SEM_FAILED;
		} else if (sscanf(line, "rounds %d %d %399s", &n, &limit, dir) == 3) {
			if (witness < 0) {
				snprintf(own, sizeof own, "%d", (int)getpid());
				int at = open(dir, O_RDONLY);
				witness = openat(at, own, O_RDWR | O_CREAT, 0600);
				gate = openat(at, ".gate", O_RDWR | O_CREAT, 0600);
			}
			int most = 0;
			for (int i = 0; i < n; i++) {
				wait_one();
				record_lock(gate, F_WRLCK, F_SETLKW);
				record_lock(witness, F_WRLCK, F_SETLK);
				int now = 1 + others(dir);
				if (now > most)
					most = now;
				record_lock(gate, F_UNLCK, F_SETLK);
				record_lock(gate, F_WRLCK, F_SETLKW);
				record_lock(witness, F_UNLCK, F_SETLK);
				record_lock(gate, F_UNLCK, F_SETLK);
				failed |= sem_post(sem) != 0;
			}
			if (most > limit) {
				printf("%d inside\n", most);
				fflush(stdout);
				continue;
			}
		} else if (sscanf(line, "waits %d", &n) == 1) {
			while (n-- > 0)
				wait_one();
		} else if (sscanf(line, "posts %d", &n) == 1) {
			while (n-- > 0)
				failed |= sem_post(sem) != 0;
		} else if (strcmp(line, "trywait\n") == 0) {
			failed = sem_trywait(sem) != 0;
		} else if (strcmp(line, "unlink\n") == 0) {
			failed = sem_unlink(text) != 0;
		} else if (strcmp(line, "value\n") == 0) {
			failed = sem_getvalue(sem, &n) != 0;
			if (!failed) {
				printf("ok %d\n", n);
				fflush(stdout);
				continue;
			}
		} else {
			return 9;
		}
		printf("%s\n", failed ? error_name() : "ok");
		fflush(stdout);
	}
	return 0;
}
