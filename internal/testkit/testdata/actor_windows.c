// A program that uses Win32's semaphores, and that a test drives over a pipe, a command
// a line: see actor.go, and actor.c. It makes only calls that Microsoft documents,
// except for the value of a semaphore.
#include <windows.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static HANDLE sem;
static HANDLE witness, gate;
static char own[20]; // the witness's name

// name leaves out the slash that names may begin with here.
static const char *name(const char *text) { return text + (text[0] == '/'); }

static HANDLE open_file(const char *dir, const char *file)
{
	char path[800];
	snprintf(path, sizeof path, "%s\\%s", dir, file);
	HANDLE h = CreateFileA(path, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
		NULL, OPEN_ALWAYS, 0, NULL);
	if (h == INVALID_HANDLE_VALUE)
		exit(9);
	return h;
}

static BOOL lock(HANDLE h, DWORD flags)
{
	OVERLAPPED at = {0};
	return LockFileEx(h, LOCKFILE_EXCLUSIVE_LOCK | flags, 0, 1, 0, &at);
}

static void must_lock(HANDLE h)
{
	if (!lock(h, 0))
		exit(9);
}

static void unlock(HANDLE h)
{
	OVERLAPPED at = {0};
	if (!UnlockFileEx(h, 0, 1, 0, &at))
		exit(9);
}

// others counts the files of the directory, without our own, that another process has
// locked.
static int others(const char *dir)
{
	int n = 0;
	char pattern[800];
	WIN32_FIND_DATAA found;
	snprintf(pattern, sizeof pattern, "%s\\*", dir);
	HANDLE all = FindFirstFileA(pattern, &found);
	if (all == INVALID_HANDLE_VALUE)
		exit(9);
	do {
		if (found.cFileName[0] == '.' || strcmp(found.cFileName, own) == 0)
			continue;
		HANDLE h = open_file(dir, found.cFileName);
		if (lock(h, LOCKFILE_FAIL_IMMEDIATELY))
			unlock(h);
		else
			n++;
		CloseHandle(h);
	} while (FindNextFileA(all, &found));
	FindClose(all);
	return n;
}

static void answer(const char *text)
{
	printf("%s\n", text);
	fflush(stdout);
}

static const char *error_name(DWORD error)
{
	static char text[40];
	switch (error) {
	case WAIT_TIMEOUT: return "EAGAIN";
	case ERROR_FILE_NOT_FOUND: return "ENOENT";
	case ERROR_ALREADY_EXISTS: return "EEXIST";
	case ERROR_ACCESS_DENIED: return "EACCES";
	case ERROR_TOO_MANY_POSTS: return "EOVERFLOW";
	}
	snprintf(text, sizeof text, "error %lu", error);
	return text;
}

static void wait_one(void)
{
	if (WaitForSingleObject(sem, INFINITE) != WAIT_OBJECT_0)
		exit(9);
}

static LONG value(void)
{
	struct { LONG count, most; } info;
	LONG (NTAPI *query)(HANDLE, int, void *, ULONG, ULONG *) =
		(void *)GetProcAddress(GetModuleHandleA("ntdll.dll"), "NtQuerySemaphore");
	if (query == NULL || query(sem, 0, &info, sizeof info, NULL) != 0)
		exit(9);
	return info.count;
}

int main(void)
{
	char line[1024], text[400] = "", dir[400];
	int n, limit;
	while (fgets(line, sizeof line, stdin)) {
		DWORD error = 0;
		if (sscanf(line, "create %399s %d", text, &n) == 2) {
			sem = CreateSemaphoreA(NULL, n, LONG_MAX, name(text));
			error = GetLastError(); // also reports that it existed
			if (error == ERROR_ALREADY_EXISTS)
				CloseHandle(sem);
		} else if (sscanf(line, "open %399s", text) == 1) {
			sem = OpenSemaphoreA(SYNCHRONIZE | SEMAPHORE_MODIFY_STATE | 1, FALSE, name(text));
			error = sem == NULL ? GetLastError() : 0;
		} else if (sscanf(line, "rounds %d %d %399s", &n, &limit, dir) == 3) {
			if (witness == NULL) {
				snprintf(own, sizeof own, "%lu", GetCurrentProcessId());
				witness = open_file(dir, own);
				gate = open_file(dir, ".gate");
			}
			int most = 0;
			for (int i = 0; i < n; i++) {
				wait_one();
				must_lock(gate);
				must_lock(witness);
				int now = 1 + others(dir);
				if (now > most)
					most = now;
				unlock(gate);
				must_lock(gate);
				unlock(witness);
				unlock(gate);
				if (!ReleaseSemaphore(sem, 1, NULL))
					error = GetLastError();
			}
			if (most > limit) {
				snprintf(text, sizeof text, "%d inside", most);
				answer(text);
				continue;
			}
		} else if (sscanf(line, "waits %d", &n) == 1) {
			while (n-- > 0)
				wait_one();
		} else if (sscanf(line, "posts %d", &n) == 1) {
			while (n-- > 0)
				if (!ReleaseSemaphore(sem, 1, NULL))
					error = GetLastError();
		} else if (strncmp(line, "trywait", 7) == 0) {
			error = WaitForSingleObject(sem, 0);
		} else if (strncmp(line, "unlink", 6) == 0) {
			// there is nothing to remove
		} else if (strncmp(line, "close", 5) == 0) {
			CloseHandle(sem);
		} else if (strncmp(line, "value", 5) == 0) {
			char number[40];
			snprintf(number, sizeof number, "ok %ld", value());
			answer(number);
			continue;
		} else {
			return 9;
		}
		answer(error == 0 ? "ok" : error_name(error));
	}
	return 0;
}
