/*
 * Take, give, wait, cancel, leave; the report of an exit, reaping, the claim of a dead
 * owner's slot, and how a waiter that leaves passes on what it was notified of.
 *
 * A process is a handle with one thread of control. Each statement that accesses what
 * other processes see is one step (a Go atomic operation or one system call), and the
 * kernel may kill the process VICTIM after each.
 *
 * The property: when no process can take a step any more, no living process sleeps
 * while a permit is free, or is that of a dead owner. There is no safety net here.
 *
 * The line is where the order of waiters is: an entry for each slot, which a waiter fills with
 * its ticket, and in which a giver marks the waiter as called. Tickets are only compared, so
 * the model keeps the waiters that have one in their order, instead of a counter. With
 * -DORDERED a newcomer may join the line before it has looked for a permit, as if the flag
 * were set that tells it to.
 *
 * The word with the number of waiters is only compared for equality with what was read before
 * (apart from the number itself). So instead of a counter that never wraps around, each process
 * has a bit that says that the word has changed since the process read it. Bits that will not
 * be read are set, so that states that differ in nothing else are one state.
 *
 * Only the victim's liveness word and the victim's lock ever change. So a scan looks at
 * no other slot: it would always see the same there.
 */
#ifndef NP
#define NP 3		/* processes; 0 is inside at first, as the first taker would be */
#endif
#ifndef NW
#define NW 1		/* permits */
#endif
#ifndef BIG
#define BIG 1		/* how many of them process 0 has */
#endif
#ifndef VICTIM
#define VICTIM 9	/* is killed; 9 here and below: none */
#endif
#ifndef CANCELLED
#define CANCELLED 0	/* set of processes, one of which is cancelled while it waits */
#endif
#ifndef KEEPER
#define KEEPER 9	/* gives no permit back */
#endif
#ifndef TRY
#define TRY 9		/* does not wait, but reaps */
#endif
#ifndef REAPER
#define REAPER 9	/* only reaps, once the lock is free */
#endif
#ifndef CLAIMER
#define CLAIMER 9	/* claims the victim's slot */
#endif
#ifndef ASLEEP
#define ASLEEP 0	/* set of processes that sleep at first, in their order; process 0 is inside */
#endif
#define KILL (VICTIM < NP)
#define ALL ((1 << NP) - 1)
#define B(x) (1 << (x))

byte word[NW];		/* 0, or owner+1 */
byte waiters;		/* the number */
byte waits;		/* set of processes: their entry of the line is not 0 */
byte ticketed;		/* set: the entry has a ticket */
byte called;		/* set: the entry says that its process is called */
byte line[NP], linen;	/* who has a ticket (p+1), by tickets, also if the entry has it not yet */
byte wchange = ALL;	/* set: the number's word has changed since the process read it */
byte cancelled;		/* 0, or whose wait was cancelled, +1 */

/* The victim's slot. */
bit died;		/* the liveness word has OwnerDied */
bit unlocked;		/* the kernel has dropped the lock */
bit reaped;		/* the slot says so */
bit gone;		/* ghost: it takes no step any more */
bit newgen, relive;	/* the claimer has changed the generation, and the liveness word */
byte lookout;		/* 0, or who looks often at the lock, +1 */

/* The kernel's queue of processes that sleep on the victim's liveness word, first come first
 * served. Each sleeps on its own entry of the line, too, and stays in the queue until it
 * runs. */
byte lvq[NP], lvn;
byte woken;		/* set: sleeps no more */
byte asleep;		/* ghost, for the property */

#define drop(q, n, x)	/* takes x out of q */ \
	k = 0; m = 0; \
	do \
	:: k < n -> if :: q[k] != x + 1 -> q[m] = q[k]; m++ :: else fi; k++ \
	:: else -> break \
	od; \
	do \
	:: m < n -> n--; q[n] = 0 \
	:: else -> break \
	od; \
	k = 0; m = 0;

/* Is the victim before p in the line, or may it be. */
#define ahead(p) \
	t = !(ticketed & B(VICTIM)); k = 0; m = 0; \
	do \
	:: k < linen && line[k] != p + 1 -> if :: line[k] == VICTIM + 1 -> t = 1 :: else fi; k++ \
	:: else -> break \
	od; \
	k = 0;

/* The first one before p in the line that is called. */
#define called_before(p) \
	t = 0; k = 0; \
	do \
	:: k < linen && line[k] != p + 1 && t == 0 -> if :: seen(called) & B(line[k] - 1) -> t = line[k] :: else fi; k++ \
	:: else -> break \
	od; \
	k = 0;

#define LOCALS \
	byte i, n, c, w, k, m, t, held, freed, has; \
	bit hold, lined, watch, dying, free, again, all, matters;	/* of the scan */ \
	bit slept, fdying, ev;	/* serve's: found.Watch; found.Dying, unless another one looks out; it was called just now, or since it last took */ \
	bit tried; \
	byte sret, tret		/* where scan and notify return to */

/* A cancelled wait ends where its process looks whether it is cancelled, or sleeps. So it can be
 * cancelled there. Only one wait is. */
#define may_cancel(p) ((CANCELLED & B(p)) && !cancelled)

#define changed (slept && (died || relive))

/* What a process sees of entries whose owner's exit was not reported. */
#define seen(x) ((x) & (died && !relive -> ALL & ~B(VICTIM) : ALL))

/* FUTEX_WAKE on an entry of the line. Whoever relies on a called one wakes it: the caller may
 * have died before it did. */
#define awaken(x) \
	if \
	:: asleep & B(x - 1) && !NO_AWAKEN -> woken = woken | B(x - 1) \
	:: else \
	fi;
#ifdef MUTANT_CALLED_NOT_WOKEN
#define NO_AWAKEN 1
#else
#define NO_AWAKEN 0
#endif

/* Is it p's turn: are more permits free than it sees waiters before it. */
#define turn(p)	/* sets t if so */ \
	m = 0; t = 0; k = 0; \
	do \
	:: k < linen && line[k] != p + 1 -> if :: seen(ticketed) & B(line[k] - 1) -> m++ :: else fi; k++ \
	:: else -> break \
	od; \
	t = (m == 0); k = 0; \
	do \
	:: k < NW && !t -> if :: word[k] == 0 -> t = (m == 0); m-- :: else fi; k++ \
	:: else -> break \
	od; \
	k = 0; m = 0;

inline process() {
	if
	:: atomic { p == 0 -> has = BIG; goto inside }
	:: atomic { p == REAPER && unlocked -> tried = 1; goto try }
	:: atomic { p == CLAIMER && unlocked -> unlocked = 0; goto claim }
	:: atomic { ASLEEP & B(p) -> slept = (VICTIM == 0); goto sleeping }
	:: atomic { p != 0 && p != REAPER && p != CLAIMER && !(ASLEEP & B(p)) -> goto take }
#ifdef ORDERED	/* the flag may be set */
	:: atomic { p != 0 && p != REAPER && p != CLAIMER && p != TRY && !(ASLEEP & B(p)) -> goto wait }
#endif
	fi;

	/* Claim of a slot whose lock was free: occupy. */
claim:	atomic { waits = waits & ~B(VICTIM); ticketed = ticketed & ~B(VICTIM); called = called & ~B(VICTIM); drop(line, linen, VICTIM) };
	newgen = 1;
	lookout = 0;
	atomic { died = 0; relive = 1 };
claim_sweep: atomic {
		if :: word[i] == VICTIM + 1 -> word[i] = 0; freed++ :: else fi;
		i++;
		if
		:: i < NW -> goto claim_sweep
		:: else -> i = 0
		fi;
#ifndef MUTANT_CLAIM_SILENT
		if :: freed == 0 -> freed = 1 :: else fi;
#endif
		n = freed; freed = 0; tret = 3; goto notify
	};

	/* Take. */
take:	atomic {
		if
		:: word[i] != 0 -> i++;
			if
			:: i < NW -> goto take
			:: else -> i = 0
			fi
		:: else -> goto take_cas
		fi;
		if
		:: waits & B(p) -> goto wait_scan
		:: (waits & B(p)) == 0 && p == TRY -> if :: tried -> goto done :: else -> tried = 1; goto try fi
		:: else -> goto wait
		fi
	};
take_cas: atomic {
		if
		:: word[i] == 0 -> word[i] = p + 1; has++
		:: else -> i = 0; goto take	/* another process was faster */
		fi;
		i = 0;
		if
		:: waits & B(p) -> ev = 0; goto leave
		:: else -> goto inside
		fi
	};

	/* Reap, as TryWait, Value and Holders do. */
try:	atomic { all = 1; sret = 3; goto scan };
try_scanned: atomic {
		all = 0; watch = 0; dying = 0; free = 0; again = 0;
#ifdef MUTANT_REAP_SILENT
		freed = 0;
#endif
		n = freed; freed = 0; tret = 3; goto notify
	};

	/* Give. */
inside:	atomic {
		if
		:: p == KEEPER -> goto done
		:: else
		fi
#ifdef MUTANT_GIVE_READS_FIRST
		;
give:		w = waiters
	};
	atomic {
#else
	};
give:	atomic {
#endif
		do
		:: i < NW -> if :: word[i] == p + 1 -> break :: else -> i++ fi
		:: else -> break
		od;
		assert(i < NW);	/* no permit was taken from a living owner */
		word[i] = 0; i = 0; has--; n = 1; tret = 0;
#ifdef MUTANT_GIVE_READS_FIRST
		if :: w == 0 -> n = 0; goto given :: else -> goto notify_pick fi
#else
		goto notify
#endif
	};
given:	atomic {
		if
		:: has > 0 -> goto give
		:: else -> goto done
		fi
	};

	/* Wait: Join, then serve. */
wait:	waits = waits | B(p);
#ifndef MUTANT_WAIT_LOOKS_FIRST
	atomic { waiters++; wchange = ALL };
#endif
	atomic { line[linen] = p + 1; linen++ };
	ticketed = ticketed | B(p);
wait_look: atomic {
		if
		:: called & B(p) -> called = called & ~B(p); ev = 1
		:: else
#ifdef MUTANT_WOKEN_FORGOTTEN
			-> ev = 0
#endif
		fi;
		if
		:: cancelled == p + 1 -> goto leave
		:: may_cancel(p) -> cancelled = p + 1; goto leave
		:: cancelled != p + 1
		fi
	};
	atomic {
		turn(p)
		if
		:: t -> t = 0; goto take
		:: else -> goto wait_scan
		fi
	};
wait_scan: atomic { slept = 0; fdying = 0; sret = 0; goto scan };
wait_scanned: atomic {
		slept = watch; fdying = dying; watch = 0; dying = 0;
#ifdef MUTANT_REAPED_NOT_AGAIN
		again = 0;
#endif
#ifdef MUTANT_WAITERS_NOT_WATCHED
		if :: hold :: else -> slept = 0 fi;
#endif
		hold = 0;
		if
		:: freed > 0 || again -> free = 0; again = 0; n = freed; freed = 0; tret = 1; goto notify
		:: !free && freed == 0 && !again -> goto wait_sleep
		:: else
		fi
	};
	/* A permit is free. If one before us is called it is for that one. */
wait_free: atomic {
		called_before(p)
		free = 0;
		if
		:: t -> skip
		:: else -> n = 1; tret = 1; goto notify
		fi
	};
	atomic { awaken(t) t = 0; goto wait_sleep };
wait_sleep: atomic {
		if
		:: !fdying && lookout == p + 1 -> lookout = 0; goto wait_look
		:: fdying && (lookout == 0 || lookout == p + 1) -> lookout = p + 1
		:: fdying && lookout != 0 && lookout != p + 1 -> fdying = 0
		:: !fdying && lookout != p + 1 -> goto wait_words
		fi
	};
	/* futex_waitv enters the words' queues one after the other, and compares each word. */
wait_words: atomic {
#ifdef MUTANT_CALL_NOT_COMPARED
		called = called & ~B(p);
#endif
		if
		:: called & B(p) -> goto awake
		:: else -> asleep = asleep | B(p)
		fi
	};
	atomic {
		if
#ifdef MUTANT_DEATH_NOT_COMPARED
		:: 0 ->
#else
		:: changed ->
#endif
			woken = woken & ~B(p); asleep = asleep & ~B(p);
			goto awake
		:: else ->
			if :: slept -> lvq[lvn] = p + 1; lvn++ :: else fi
		fi
	};
	/* It sleeps until it is woken, or until it is time to look at a dying owner's lock. */
sleeping: atomic {
		if
		:: (woken & B(p)) || (fdying && (unlocked || relive))
		:: may_cancel(p) -> cancelled = p + 1
		fi;
		asleep = asleep & ~B(p); woken = woken & ~B(p);
		drop(lvq, lvn, p)
awake:
		goto wait_look
	};

	/* Leave, PassOn. */
leave:	atomic {
		if
#ifndef MUTANT_LOOKOUT_KEPT
		:: lookout == p + 1 -> lookout = 0
#endif
		:: else -> goto leave_count
		fi
	};
leave_count: atomic {
#ifdef MUTANT_WAIT_LOOKS_FIRST
		if :: !tried -> waiters++ :: else fi;
#endif
		waiters--; wchange = ALL; c = waiters
	};
	atomic {
		waits = waits & ~B(p); ticketed = ticketed & ~B(p);
		drop(line, linen, p)
#ifndef MUTANT_CALLED_FORGOTTEN
		ev = ev || (called & B(p));
#endif
		called = called & ~B(p);
#ifdef MUTANT_LEAVE_SILENT
		c = 0; ev = 0;
#endif
		if
		:: c == 0 && !ev -> slept = 0; fdying = 0; goto left
		:: else -> c = 0
		fi;
#ifndef MUTANT_DYING_NOT_PASSED_ON
		ev = ev || fdying;
#endif
		fdying = 0;
#ifdef MUTANT_DEATH_NOT_PASSED_ON
		slept = 0;
#endif
#ifdef MUTANT_WOKEN_NOT_PASSED_ON
		ev = 0;
#endif
		if
		:: !slept -> goto passon
		:: else
		fi
	};
	atomic {
		if
		:: changed -> slept = 0; sret = 2; goto scan
		:: else -> slept = 0
		fi
	};
passon:	atomic {	/* and passon_scanned */
		hold = 0; watch = 0; free = 0; again = 0;
#ifndef MUTANT_DYING_NOT_PASSED_ON
		ev = ev || dying;
#endif
		dying = 0;
		if
		:: ev -> ev = 0; if :: freed == 0 -> freed = 1 :: else fi; n = freed; freed = 0; tret = 2; goto notify
		:: else
		fi
	};
leave_room: atomic {
		if
#ifndef MUTANT_ROOM_NOT_PASSED_ON
		:: word[i] == 0 -> i = 0; goto leave_called
#endif
		:: else -> i++
		fi;
		if
		:: i < NW -> goto leave_room
		:: else -> i = 0; n = freed; freed = 0; tret = 2; goto notify
		fi
	};
leave_called: atomic {
		called_before(NP)
		if
		:: t == 0 || freed > 0 -> t = 0; if :: freed == 0 -> freed = 1 :: else fi; n = freed; freed = 0; tret = 2; goto notify
		:: else
		fi
	};
	atomic { awaken(t) t = 0; goto left };
left:	atomic { if :: has -> goto inside :: else -> goto done fi };

	/* Scan; the results are freed, free, again, watch, dying. */
	/* The line before the words: a waiter that takes a permit and leaves in between is seen. */
scan: atomic {
#ifdef MUTANT_LINE_AFTER_WORDS
		skip
#else
		ahead(p)
		lined = (waits & B(VICTIM)) && (sret != 0 || t);
		t = 0
#endif
	};
scan_words: atomic {
		if
		:: word[i] == 0
		:: word[i] == VICTIM + 1 && newgen -> word[i] = 0; freed++	/* stale */
		:: else -> held++; if :: word[i] == VICTIM + 1 -> hold = 1 :: else fi
		fi;
		i++;
		if
		:: i < NW -> goto scan_words
		:: else -> i = 0
		fi;
		if
		:: !KILL || p == VICTIM || p == CLAIMER -> lined = 0; goto scan_room
		:: else
		fi
	};
	atomic {
#ifdef MUTANT_LINE_AFTER_WORDS
		ahead(p)
		lined = (waits & B(VICTIM)) && (sret != 0 || t);
		t = 0;
#endif
		matters = hold || lined;
		lined = 0;
		if
#ifdef NOREPORT
		:: matters -> skip
#else
		:: !died && !relive && matters ->
			watch = 1;
			if
			:: all && hold -> skip
			:: else -> goto scan_room
			fi
		:: (died && (matters || !reaped)) || (relive && matters) -> skip
#endif
		:: else -> goto scan_room
		fi
	};
	atomic {
#ifdef MUTANT_BEFORE_UNLOCK
		if
		:: unlocked || died -> skip
#else
		if
		:: unlocked -> skip
#endif
		:: else -> dying = died && matters; goto scan_room
		fi;
		again = 1
	};
scan_reap: atomic {
		if :: word[i] == VICTIM + 1 -> word[i] = 0; freed++ :: else fi;
		i++;
		if
		:: i < NW -> goto scan_reap
		:: else -> i = 0
		fi
	};
	atomic { waits = waits & ~B(VICTIM); ticketed = ticketed & ~B(VICTIM); called = called & ~B(VICTIM); drop(line, linen, VICTIM) };
	atomic { reaped = 1; held = 0; matters = 0; goto scanned };	/* because of again the caller looks once more, and needs no room */
scan_room: atomic {
		matters = 0;
		if
		:: held < NW && sret == 0 -> held = 0	/* only serve uses the result */
		:: else -> held = 0; goto scanned
		fi
	};
scan_room2: atomic {
		if
		:: word[i] == 0 -> free = 1; i = 0; goto scanned
		:: else -> i++
		fi;
		if
		:: i < NW -> goto scan_room2
		:: else -> i = 0
		fi
	};
scanned: atomic {
		if
		:: sret == 0 -> goto wait_scanned
		:: sret == 1 -> sret = 0; goto notify_scanned
		:: sret == 2 -> sret = 0; goto passon
		:: sret == 3 -> sret = 0; goto try_scanned
		:: sret == 4 -> sret = 0; hold = 0; watch = 0; dying = 0; free = 0; again = 0; n = n + freed; freed = 0; goto notify_pick
		fi
	};

	/* Notify. */
notify:	atomic {
		hold = 0;
		if
		:: n == 0 || waiters == 0 -> n = 0; goto notify_end
		:: else -> w = waiters; wchange = wchange & ~B(p)
		fi
	};
notify_pick: atomic {
		k = 0; t = 0;
		do
		:: k < linen && t == 0 -> if :: seen(ticketed & ~called) & B(line[k] - 1) -> t = line[k] :: else fi; k++
		:: else -> break
		od;
		k = 0; m = t;
		if
		:: t -> called_before(t - 1)
#ifdef MUTANT_PASSED_NOT_WOKEN
			t = 0
#endif
		:: else ->
			m = 0;
			called_before(NP)
			if
			:: t -> goto notify_wake
			:: t == 0 && (!KILL || seen(waits)) -> goto notify_enough	/* they will look */
			:: else -> n = 0; sret = 1; goto scan
			fi
		fi
	};
	atomic { if :: t -> awaken(t) :: else fi; t = m; m = 0 };
	atomic {
		if
		:: ticketed & ~called & B(t - 1) -> called = called | B(t - 1); n--
		:: else -> goto notify_pick
		fi
	};
	atomic { if :: asleep & B(t - 1) -> woken = woken | B(t - 1) :: else fi };
	/* If nobody was woken it is awake, or dead. */
	atomic {
		if
		:: t - 1 == VICTIM && died -> n++; t = 0; sret = 4; goto scan	/* visit */
		:: n > 0 && !(t - 1 == VICTIM && died) -> goto notify_pick
		:: else -> goto notify_enough
		fi
	};
notify_wake: atomic { awaken(t) };
notify_enough: atomic { t = 0; n = 0; w = 0; wchange = wchange | B(p); goto notify_end };
notify_scanned: atomic {	/* Heal; count.pml has its steps */
		hold = 0; watch = 0; dying = 0; free = 0; again = 0;
		n = freed; freed = 0;
		c = (waits & 1) + ((waits >> 1) & 1) + ((waits >> 2) & 1) + ((waits >> 3) & 1);
		if
		:: c < w && (wchange & B(p)) == 0 -> waiters = c; wchange = ALL
		:: else -> wchange = wchange | B(p)
		fi;
		c = 0; w = 0; goto notify
	};
notify_end: atomic {
		if
		:: tret == 0 -> goto given
		:: tret == 1 -> tret = 0; goto wait_look
		:: tret == 2 -> tret = 0; goto left
		:: tret == 3 -> tret = 0; if :: p == TRY -> goto take :: else -> goto done fi
		fi
	};
done:	(false)
}

proctype Process(byte p) {
	LOCALS;
	process()
}

proctype Victim(byte p) {
	LOCALS;
	{ process() } unless { atomic { gone ->
		i = 0; n = 0; c = 0; w = 0; k = 0; m = 0; t = 0; held = 0; freed = 0; has = 0;
		hold = 0; lined = 0; watch = 0; dying = 0; free = 0; again = 0; all = 0; matters = 0;
		slept = 0; fdying = 0; ev = 0; tried = 0; sret = 0; tret = 0; p = 0;
		false } }
}

inline report() {	/* exit_robust_list: sets OwnerDied, wakes one process that sleeps on the word */
	died = 1;
	if
	:: lvn > 0 -> t = lvq[0] - 1; woken = woken | B(t); drop(lvq, lvn, t) t = 0
	:: else
	fi
}

inline end() {	/* its threads have stopped, and have left the kernel's queues */
	gone = 1;
	drop(lvq, lvn, VICTIM)
	woken = woken & ~B(VICTIM); asleep = asleep & ~B(VICTIM);
	wchange = wchange | B(VICTIM)
}

/* The kernel ends a process: it reports the exit, stops the threads, and drops the lock
 * last. The thread whose exit is reported may end before the other threads stop, or after. */
proctype Killer() {
	byte k, m, t;
#ifdef NOREPORT
	d_step { end() };
#else
	if
	:: d_step { !gone -> report() }; d_step { end() }
	:: d_step { !gone -> end() }; d_step { report() }
	fi;
#endif
	unlocked = 1
}

init {
	byte p, i;
	atomic {
		do :: i < BIG -> word[i] = 1; i++ :: else -> break od;
		i = 0;
		waits = ASLEEP; ticketed = ASLEEP; asleep = ASLEEP;
		do
		:: p < NP ->
			if
			:: ASLEEP & B(p) ->
				waiters++; line[linen] = p + 1; linen++;
				if :: VICTIM == 0 -> lvq[lvn] = p + 1; lvn++ :: else fi
			:: else
			fi;
			if :: p == VICTIM -> run Victim(p) :: else -> run Process(p) fi;
			p++
		:: else -> break
		od;
		p = 0;
		if :: KILL -> run Killer() :: else fi
	};
	timeout;
	d_step {
		do
		:: p < NP ->
			i = 0;
			do
			:: (asleep & B(p)) && i < NW ->
				/* no process sleeps while a permit is free */
				assert(word[i] != 0);
				/* nor while it is that of a dead owner */
				assert(!gone || word[i] != VICTIM + 1);
				i++
			:: else -> break
			od;
			p++
		:: else -> break
		od;
		/* and a giver would see that all that sleep are counted */
		assert(waiters >= (asleep & 1) + ((asleep >> 1) & 1) + ((asleep >> 2) & 1) + ((asleep >> 3) & 1))
	}
}
