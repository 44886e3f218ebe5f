# The counterpart of worker.go in Python: the same loops with the semaphores of Python's multiprocessing and of
# portalocker. worker.go says what the arguments are, and what is written and read.
import os
import sys
import time

mode, peer, number, *names = sys.argv[1:]
out = os.fdopen(os.dup(1), "w", buffering=1)
sys.stdout = open(os.devnull, "w")  # portalocker 2.2 prints what it does

if peer == "semlock":
    from _multiprocessing import SemLock
else:
    import portalocker


def open_semaphore(name):
    if peer == "semlock":
        return SemLock._rebuild(0, 1, SemLock.SEM_VALUE_MAX, "/" + name)
    path, maximum = name.rsplit(":", 1)
    return portalocker.BoundedSemaphore(int(maximum), name=os.path.basename(path), directory=os.path.dirname(path), timeout=3600)


def begin():
    global wall, cpu
    print("ready", file=out)
    sys.stdin.readline()
    wall, cpu = time.monotonic_ns(), time.process_time_ns()


def end(operations, more=""):
    print(operations, time.monotonic_ns() - wall, time.process_time_ns() - cpu, more, file=out)


def opening(n):
    begin()
    for _ in range(n):
        open_semaphore(names[0])
    end(n)


def share(s, milliseconds):
    histogram = {}
    begin()
    done, last = 0, wall
    until = wall + milliseconds * 1_000_000
    while last < until:
        s.acquire()
        s.release()
        at = time.monotonic_ns()
        ns = at - last
        log = max(ns.bit_length() - 1, 0)
        bucket = ns if log < 4 else (log - 3) * 16 + ((ns >> (log - 4)) & 15)  # histogram.go
        histogram[bucket] = histogram.get(bucket, 0) + 1
        last = at
        done += 1
    end(done, " ".join(f"{bucket}:{count}" for bucket, count in histogram.items()))


def member(s):
    print(number, "ready", 0, file=out)
    while order := sys.stdin.readline():
        if order == "wait\n":
            s.acquire()
            at = time.monotonic_ns()
            print(number, "got", at, file=out)
        else:
            at = time.monotonic_ns()
            s.release()
            print(number, "gave", at, file=out)


n = int(number)
if mode == "open":
    opening(n)
    sys.exit()
semaphores = [open_semaphore(name) for name in names]
first = semaphores[0]
if mode == "reopen":
    opening(n)
elif mode == "loop":
    begin()
    for _ in range(n):
        first.acquire()
        first.release()
    end(n)
elif mode == "ring":
    first.acquire()
    begin()
    at = 0
    for _ in range(n):
        next = (at + 1) % len(semaphores)
        semaphores[next].acquire()
        semaphores[at].release()
        at = next
    end(n)
elif mode == "share":
    share(first, n)
elif mode == "member":
    member(first)
else:
    sys.exit(f"no mode {mode}")
