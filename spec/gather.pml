/*
 * Several permits at once: a waiter that gathers, with others in the line, newcomers that take
 * several at once, cancelling, the reaping of a dead gatherer, and SetLimit.
 *
 * Each process takes what it wants, once, and gives it back. One wants W1 permits and so on;
 * ALL is as many as the limit says. The process VICTIM may be killed after every step.
 *
 * Safety: one that has all is alone, at the step in which it has read the limit again; nobody
 * gives what it does not have. When no process can take a step any more, everybody has been
 * served who does not want more than there are. With -DSTAYS process 0 gives nothing back;
 * then the first in the line lacks permits that are held by the living.
 *
 * How waiters count themselves, are woken, and hear of an exit is in waiters.pml. So here to
 * join the line is one step, as is to call a waiter and wake it; an exit is reported when the
 * lock is free, and wakes one sleeper, whichever. What is counted in the line or in the words is
 * counted in one step, and a taker counts all held words in the step in which it takes one
 * while the limit shrinks (limit.pml has these steps).
 */
#ifndef NP
#define NP 3		/* processes */
#endif
#ifndef NW
#define NW 3		/* words */
#endif
#define ALL 9
#ifndef W0
#define W0 1
#endif
#ifndef W1
#define W1 2
#endif
#ifndef W2
#define W2 ALL
#endif
#ifndef W3
#define W3 1
#endif
#ifndef VICTIM
#define VICTIM 9	/* is killed; 9 here and below: none */
#endif
#ifndef CANCELLED
#define CANCELLED 9	/* is cancelled while it waits, or not */
#endif
#ifndef TRY
#define TRY 9		/* does not wait, but reaps */
#endif
#ifndef LIMIT
#define LIMIT NW	/* at first */
#endif
#define KILL (VICTIM < NP)
#define B(x) (1 << (x))
#define W(p) ((p) == 0 -> W0 : ((p) == 1 -> W1 : ((p) == 2 -> W2 : W3)))
#define several(p) (W(p) > 1)
#define number(p, l) (W(p) == ALL -> (l) : W(p))
#define toomany(p) (W(p) != ALL && W(p) > limit)
#define count(x) (((x) & 1) + (((x) >> 1) & 1) + (((x) >> 2) & 1))

byte word[NW];		/* 0, or owner+1 */
byte limit = LIMIT;
byte gatherer;		/* 0, or owner+1 */
byte line[NP], linen;	/* who waits (p+1), in their order */
byte called;		/* set of processes */
byte woken;		/* set: by the report of the exit */
byte asleep;		/* set */
byte gone;		/* set: takes no step any more */
bit unlocked, reaped;	/* the victim's */
bit cancelled;

/* An entry whose owner's exit was reported, or that wants more than there are, counts as none. */
#define none(q) ((unlocked && (q) == VICTIM) || toomany(q))
#define blocked(q) (several(q) && gatherer && gatherer != (q) + 1)

/* t is how many permits may be taken. */
#define room \
	t = 0; m = 0; k = 0; \
	do \
	:: k < NW -> if :: word[k] == 0 && k < limit -> t++ :: word[k] -> m++ :: else fi; k++ \
	:: else -> break \
	od; \
	if \
	:: m >= limit -> t = 0 \
	:: m < limit && t > limit - m -> t = limit - m \
	:: else \
	fi; \
	k = 0; m = 0;

/* m is how many permits those want that are before p in the line; all if p is not there. */
#define before(p) \
	m = 0; k = 0; \
	do \
	:: k < linen && line[k] != p + 1 -> if :: !none(line[k] - 1) && !blocked(line[k] - 1) -> m = m + number(line[k] - 1, limit) :: else fi; k++ \
	:: else -> break \
	od; \
	k = 0;

/* m is how many of them want one. */
#define singles(p) \
	m = 0; k = 0; \
	do \
	:: k < linen && line[k] != p + 1 -> if :: !none(line[k] - 1) && !several(line[k] - 1) -> m++ :: else fi; k++ \
	:: else -> break \
	od; \
	k = 0;

/* t is set if one is called that is not behind p. */
#define called_before(p) \
	t = 0; k = 0; \
	do \
	:: k < linen && line[k] != p + 1 -> if :: (called & B(line[k] - 1)) && !none(line[k] - 1) -> t = 1 :: else fi; k++ \
	:: else -> break \
	od; \
	k = 0;

/* k is the lowest free word. */
#define lowest \
	k = 0; \
	do \
	:: k < NW && word[k] -> k++ \
	:: else -> break \
	od;

#define drop(x) \
	k = 0; m = 0; \
	do \
	:: k < linen -> if :: line[k] != x + 1 -> line[m] = line[k]; m++ :: else fi; k++ \
	:: else -> break \
	od; \
	do \
	:: m < linen -> linen--; line[linen] = 0 \
	:: else -> break \
	od; \
	k = 0; m = 0;

/* One before it may be late: then it does not wait for that one, and not for others. */
#ifdef LATE
#define late 1
#else
#define late 0
#endif

proctype Process(byte p) {
	byte k, m, t, l, g, n, ret, i;
	bit ev, tried, lined, heard;
	{
	skip;
	atomic {
		if
		:: p == 0 ->	/* it is inside at first, as the first taker would be */
			g = B(W0) - 1;
			goto inside
#ifdef IN_LINE	/* they have found too little */
		:: p != 0 && p != TRY -> goto fail
		:: p != 0 && p == TRY
#else
		:: p != 0
#endif
		fi
	};
	/* Take what is free, as a newcomer. */
try:	atomic {
		if
		:: !several(p) -> room if :: t -> t = 0; lowest word[k] = p + 1; g = B(k); k = 0; goto inside :: else -> goto fail fi
		:: several(p) ->
			before(NP) room
			if
			:: t >= m + number(p, limit) -> t = 0; m = 0; goto try_limit
			:: else -> t = 0; m = 0; goto fail
			fi
#ifdef ORDERED	/* the flag may be set */
		:: p != TRY && linen > 0 -> goto fail
#endif
		fi
	};
try_limit: l = limit;
try_take: atomic {
		if
		:: count(g) >= number(p, l) -> goto try_check
		:: else -> room if :: t -> t = 0; lowest word[k] = p + 1; g = g | B(k); k = 0; goto try_take :: else -> goto try_back fi
		fi
	};
try_check: atomic {
		if
		:: l != limit && count(g) >= limit && W(p) != ALL -> skip
		:: l != limit -> l = 0; goto try_back
		:: else
		fi;
		goto admit
	};
try_back: atomic {
		l = 0;
		do
		:: i < NW && !(g & B(i)) -> i++
		:: else -> break
		od;
		if
		:: i < NW -> word[i] = 0; g = g & ~B(i); n++; i = 0; goto try_back
		:: else -> i = 0
		fi;
		ret = 1; goto notify
	};
fail:	atomic {
		if
		:: p == TRY && tried -> goto done
		:: p == TRY && !tried -> tried = 1; if :: unlocked && !reaped -> goto reap :: else -> goto try fi
		:: p != TRY
		fi
	};

	/* Wait. */
	atomic { line[linen] = p + 1; linen++; lined = 1 };
look:	atomic {
		if :: called & B(p) -> called = called & ~B(p); ev = 1 :: else fi;
		if
		:: p == CANCELLED && !cancelled -> cancelled = 1; ret = 2; goto stop
		:: 1
		fi;
		if
		:: several(p) -> goto gather
		:: else
		fi
	};
	/* isTurn */
	atomic {
		before(p) room
		if
		:: t && (t > m || m == 0 || late) -> t = 0; m = 0
		:: t == 0 || (m > 0 && t <= m) -> t = 0; m = 0; goto scan
		fi
	};
	atomic {
		room
		if
		:: t -> t = 0; lowest word[k] = p + 1; g = B(k); k = 0; ev = 0; goto leave
		:: else -> goto scan
		fi
	};

	/* GatherTurn. */
gather:	atomic {
		if
		:: toomany(p) -> if :: gatherer == p + 1 -> ret = 3; goto stop :: else -> goto scan fi
#ifndef MUTANT_ALL_GATHER
		:: !toomany(p) && gatherer == p + 1 -> goto gather_limit
		:: !toomany(p) && gatherer && gatherer != p + 1 -> goto scan
#endif
		:: else -> before(p) if :: m == 0 -> skip :: late && m -> m = 0 :: m -> m = 0; goto scan fi
		fi
	};
	atomic {
		if
		:: gatherer == 0 -> gatherer = p + 1
#ifdef MUTANT_ALL_GATHER
		:: else
#else
		:: else -> goto scan
#endif
		fi
	};
gather_limit: l = limit;
gather_drop: atomic {
		do
		:: i < NW && !((g & B(i)) && i >= l) -> i++
		:: else -> break
		od;
		if
		:: i < NW -> word[i] = 0; g = g & ~B(i); i = 0; n = 1; ret = 4; goto notify
		:: else -> i = 0
		fi;
#ifndef MUTANT_LOWERED_BEFORE
		if
		:: W(p) != ALL && W(p) > l -> l = 0; ret = 3; goto stop
		:: else
		fi
#endif
	};
gather_take: atomic {
		if
		:: count(g) >= number(p, l) -> goto gather_check
		:: else -> singles(p) room
			if
			:: m && t <= m -> m = 0; t = 0; l = 0; goto scan
			:: m == 0 || t > m || late -> m = 0; t = 0
			fi
		fi
	};
	atomic {
		room
		if
		:: t -> t = 0; lowest word[k] = p + 1; g = g | B(k); k = 0; goto gather_take
		:: else -> l = 0; goto scan
		fi
	};
gather_check: atomic {
#ifndef MUTANT_LIMIT_NOT_READ_AGAIN
		if
		:: l != limit -> goto gather_limit
		:: else
		fi;
#endif
		m = 0; k = 0;
		do
		:: k < NW -> if :: word[k] -> m++ :: else fi; k++
		:: else -> break
		od;
		k = 0;
#ifndef MUTANT_HELD_NOT_COUNTED
		if
		:: W(p) == ALL && m > count(g) -> m = 0; l = 0; goto scan
		:: else
		fi;
#endif
		m = 0;
admit:		/* in the same step as the last look at the limit */
		l = 0; k = 0; m = 0;
		do
		:: k < NW -> if :: word[k] && word[k] != p + 1 -> m++ :: else fi; k++
		:: else -> break
		od;
		k = 0;
		assert(W(p) != ALL || (m == 0 && count(g) >= limit));
		assert(W(p) == ALL || count(g) == W(p));
		m = 0; ev = 0;
		if :: lined -> skip :: else -> goto inside fi
	};
	atomic { if :: gatherer == p + 1 -> gatherer = 0 :: else fi; goto leave };

	/* Scan: reap; then a permit may be free that is not for us. */
scan:	atomic {
		if
		:: unlocked && !reaped -> goto reap
		:: else -> room if :: t == 0 -> goto sleep :: else -> t = 0 fi
		fi
	};
	/* Rely */
	atomic {
		if
		:: toomany(p) || blocked(p) ->
			called_before(NP)
			if :: t -> t = 0; goto sleep :: else -> n = 1; ret = 5; goto notify fi
		:: else ->
			called_before(p)
			if :: t || (called & B(p)) -> t = 0; goto sleep :: else -> n = 1; ret = 3; goto notify fi
		fi
	};
sleep:	atomic {
		if
		:: called & B(p) -> goto look
		:: unlocked && !reaped -> heard = 1; goto look
		:: !(called & B(p)) && (!unlocked || reaped) -> asleep = asleep | B(p)
		fi
	};
	atomic {
		if
		:: called & B(p)
		:: woken & B(p) -> heard = 1
		:: p == CANCELLED && !cancelled	/* look decides */
		fi;
		asleep = asleep & ~B(p); woken = woken & ~B(p);
		goto look
	};

	/* StopGathering: what was gathered, the header's word, then notify. */
stop:	atomic {
		do
		:: i < NW && !(g & B(i)) -> i++
		:: else -> break
		od;
		if
		:: i < NW -> word[i] = 0; g = g & ~B(i); n++; i = 0; goto stop
		:: else -> i = 0
		fi
	};
	atomic {
		if
#ifndef MUTANT_GATHERER_KEPT
		:: gatherer == p + 1 -> gatherer = 0; if :: n == 0 -> n = 1 :: else fi
#endif
		:: else
		fi;
		goto notify
	};

	/* Leave, PassOn. */
leave:	atomic {
		drop(p) lined = 0; ev = ev || (called & B(p)); called = called & ~B(p);
		if :: heard && !reaped -> goto reap :: else -> heard = 0 fi
	};
passon:	atomic {
		room
		m = t; t = 0; l = m; m = 0;
		called_before(NP)
		m = l; l = 0;
		if
		:: n == 0 && (ev || (m && !t)) -> n = 1
		:: else
		fi;
		m = 0; t = 0; ev = 0; ret = 6; goto notify
	};

inside:	atomic {
		if
#ifdef STAYS
		:: p == 0 -> goto done
#endif
		:: g == 0 -> goto done
		:: else
		fi
	};
	/* GiveSeveral. */
give:	atomic {
		do
		:: !(g & B(i)) -> i++
		:: else -> break
		od;
		assert(word[i] == p + 1);	/* no permit was taken from a living owner */
		word[i] = 0; g = g & ~B(i); i = 0; n++;
		if :: g -> goto give :: else fi;
		ret = 0; goto notify
	};

	/* reapOwner: the words, the line, the slot, the header's word last. */
reap:	atomic {
		do
		:: i < NW && word[i] != VICTIM + 1 -> i++
		:: else -> break
		od;
		if
		:: i < NW -> word[i] = 0; n++; i = 0; goto reap
		:: else -> i = 0
		fi
	};
	atomic { drop(VICTIM) called = called & ~B(VICTIM) };
	reaped = 1;
	atomic {
		if
#ifndef MUTANT_REAP_LEAVES_GATHERER
		:: gatherer == VICTIM + 1 -> gatherer = 0; if :: n == 0 -> n = 1 :: else fi
#endif
		:: else
		fi;
		if
		:: heard && !lined -> heard = 0; goto passon
		:: lined -> ret = 3; goto notify
		:: !heard && !lined -> ret = 7; goto notify
		fi
	};

notify:	atomic {
		k = 0;
		do
		:: k < linen && n && ((called & B(line[k] - 1)) || none(line[k] - 1) || blocked(line[k] - 1)) -> k++
		:: else -> break
		od;
		if
		:: n && k < linen -> called = called | B(line[k] - 1); n--; k = 0; goto notify
		:: else -> n = 0; k = 0
		fi;
		if
		:: ret == 0 -> goto done
		:: ret == 1 -> ret = 0; goto fail
		:: ret == 2 -> ret = 0; goto leave
		:: ret == 3 -> ret = 0; goto look
		:: ret == 4 -> ret = 0; goto gather_limit
		:: ret == 5 -> ret = 0; goto sleep
		:: ret == 6 -> ret = 0; goto inside
		:: ret == 7 -> ret = 0; goto try
		fi
	};
done:	atomic { k = 0; m = 0; t = 0; l = 0; i = 0; n = 0; ret = 0; ev = 0; tried = 0; lined = 0; heard = 0 }
	} unless { atomic { gone & B(p) -> k = 0; m = 0; t = 0; l = 0; g = 0; i = 0; n = 0; ret = 0; ev = 0; tried = 0; lined = 0; heard = 0 } }
}

/* SetLimit: calls as many as the limit has grown by, and the one that gathers. */
inline set(to) {
	atomic { n = (to > limit -> to - limit : 0); limit = to };
	do
	:: atomic {
		k = 0;
		do
		:: k < linen && n && ((called & B(line[k] - 1)) || none(line[k] - 1) || blocked(line[k] - 1)) -> k++
		:: else -> break
		od;
		if
		:: n && k < linen -> called = called | B(line[k] - 1); n--; k = 0
		:: else -> n = 0; k = 0; break
		fi }
	od;
#ifndef MUTANT_GATHERER_NOT_WOKEN
	atomic { if :: gatherer -> called = called | B(gatherer - 1) :: else fi }
#endif
}

proctype Setter() {
	byte n, k;
#ifdef L1
	set(L1);
#endif
#ifdef L2
	set(L2);
#endif
}

proctype Killer() {
	byte k;
	if
	:: goto over
	:: atomic { gone = B(VICTIM); asleep = asleep & ~B(VICTIM) }
	fi;
	/* The report wakes one that sleeps. */
	atomic {
		unlocked = 1;
		if
		:: asleep & 1 & ~woken -> woken = woken | 1
		:: asleep & 2 & ~woken -> woken = woken | 2
		:: asleep & 4 & ~woken -> woken = woken | 4
		:: asleep & 8 & ~woken -> woken = woken | 8
		:: asleep == 0 -> skip
		fi
	};
over:	skip
}

init {
	byte i, n, first;
	atomic {
		do :: i < W0 -> word[i] = 1; i++ :: else -> break od;
		i = 0;
		do :: i < NP -> run Process(i); i++ :: else -> break od;
		i = 0;
		run Setter();
		if :: KILL -> run Killer() :: else fi
	};
	timeout;
	atomic {
		/* Who sleeps lacks what the living hold. */
		do
		:: i < linen ->
			if
			:: first == 0 && !(gone & B(line[i] - 1)) && !toomany(line[i] - 1) -> first = line[i]
			:: else
			fi;
			i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < NW ->
			if
			:: first && word[i] == first && i < limit -> n++
			:: first && word[i] == 0 && i < limit -> n++
			:: else
			fi;
			assert(!linen || !asleep || word[i] == 0 || !(gone & B(word[i] - 1)));
			i++
		:: else -> break
		od;
#ifdef STAYS
		assert(first == 0 || n < number(first - 1, limit));
#else
		assert(first == 0);
		assert(gatherer == 0 || (gone & B(gatherer - 1)));
#endif
		/* One that wants more than there are keeps nothing. */
		i = 0;
		do
		:: i < NW ->
			assert(word[i] == 0 || (gone & B(word[i] - 1)) || !(asleep & B(word[i] - 1)) || !toomany(word[i] - 1));
			i++
		:: else -> break
		od
	}
}
