/*
 * Slots, generations and reaping; take against Close.
 *
 * Two slots and two permits. Handles 0 and 1 have the slots at first; handle 2 is opened
 * later, in a slot whose lock it gets. Each handle has a taker (on the fast path, which is
 * not counted among the calls in progress), handle 0 a closer too; the handle VICTIM (and
 * VICTIM2) may be killed after every step. CLEANERS processes scan. Stopping one or killing
 * it is the same as one that takes no step any more, for it holds nothing.
 *
 * Safety: never are more handles inside than there are permits (a dead handle is inside
 * until the kernel has dropped its lock). When no process can take a step any more, and
 * one more scan has been made, each word is free or that of a handle inside.
 */
#define NH 3		/* handles */
#define NS 2		/* slots */
#define NW 2		/* permits */
#ifndef VICTIM
#define VICTIM 1
#endif
#ifndef CLEANERS
#define CLEANERS 2
#endif
#define B(x) (1 << (x))

byte wslot[NW], wgen[NW];	/* a word: slot+1 and generation, or 0; changed in one step */
byte gen[NS];
byte lock[NS];			/* 0, or the handle+1 that has the slot's lock */
byte died;			/* set of slots: OwnerDied is set */
byte closed, gone, inside;	/* sets of handles */
byte hslot[NH], hgen[NH];
byte ready;			/* set of handles that are open */

#define owns(i, h) (wslot[i] == hslot[h] + 1 && wgen[i] == hgen[h])
#ifdef MUTANT_STALE_ACCEPTED
#define stale(ws, wg) 0
#else
#define stale(ws, wg) (gen[ws - 1] != wg)
#endif
#define count(x) (((x) & 1) + (((x) >> 1) & 1) + (((x) >> 2) & 1))

/* Each handle inside has a word, and a word has one owner. So there are no more inside
 * than there are words. */
#define has(h) (!(inside & B(h)) || owns(0, h) || owns(1, h))
#define sound (has(0) && has(1) && has(2))

proctype Taker(byte h) {
	byte i;
	{
	ready & B(h);
	do
	:: atomic { wslot[i] != 0 -> i++; if :: i == NW -> i = 0; goto out :: else fi }
	:: atomic { wslot[i] == 0 -> wslot[i] = hslot[h] + 1; wgen[i] = hgen[h]; break }
	od;
	/* keep: closed is read again */
#ifndef MUTANT_CLOSED_NOT_READ_AGAIN
	atomic {
		if
		:: closed & B(h) -> goto undo
		:: else ->
#else
	atomic {
		if
		:: true ->
#endif
			inside = inside | B(h);
			assert(sound && count(inside) <= NW)
		fi
	};
	/* gives the permit, or keeps it until the handle is closed or dies */
	if
	:: goto out
	:: atomic { inside = inside & ~B(h) }
	fi;
undo:	atomic {
		if
		:: owns(i, h) -> wslot[i] = 0; wgen[i] = 0
		:: else
		fi;
		i = 0
	};
out:	i = 0
	} unless { atomic { gone & B(h) -> i = 0 } }
}

/* Close: closed, then the words, then the slot, then the lock. As soon as Close is called
 * the permits that were taken through the handle are not the caller's any more. */
proctype Closer(byte h) {
	byte i;
	{
	ready & B(h);
	if
	:: skip
	:: goto out
	fi;
	atomic {
		closed = closed | B(h);
		inside = inside & ~B(h)
	};
	do
	:: atomic { if :: owns(i, h) -> wslot[i] = 0; wgen[i] = 0 :: else fi; i++; if :: i == NW -> i = 0; break :: else fi }
	od;
	atomic { lock[hslot[h]] = 0; i = 0 };
out:	skip
	} unless { atomic { gone & B(h) -> i = 0 } }
}

/* Open: lock, new generation, sweep of the slot's older words. There is only one claimer
 * at a time, because of the claim's lock. */
proctype Claimer(byte h) {
	byte i, s;
	{
	if
	:: atomic { lock[0] == 0 -> lock[0] = h + 1; s = 0 }
	:: atomic { lock[1] == 0 -> lock[1] = h + 1; s = 1 }
	fi;
	atomic { gen[s]++; hslot[h] = s; hgen[h] = gen[s] };
	died = died & ~B(s);
	do
	:: atomic { if :: wslot[i] == s + 1 && wgen[i] != gen[s] -> wslot[i] = 0; wgen[i] = 0 :: else fi; assert(sound); i++; if :: i == NW -> i = 0; break :: else fi }
	od;
	atomic { ready = ready | B(h); i = 0; s = 0 }
	} unless { atomic { gone & B(h) -> i = 0; s = 0 } }
}

/* Scan, by a process whose own slot is none of these. One statement for each access of
 * what other processes see. */
inline scan() {
	do
	:: atomic { ws = wslot[i]; wg = wgen[i];
		if
		:: ws == 0 -> i++; if :: i == NW -> i = 0; break :: else fi
		:: else
		fi };
		if
		:: ws == 0
		:: atomic { ws != 0 && !stale(ws, wg) ->
			holders = holders | B(ws - 1); ws = 0; wg = 0; i++; if :: i == NW -> i = 0; break :: else fi }
		:: atomic { ws != 0 && stale(ws, wg) -> skip };
			atomic {	/* stale: a compare-and-swap from exactly that owner */
				if :: wslot[i] == ws && wgen[i] == wg -> wslot[i] = 0; wgen[i] = 0 :: else fi; assert(sound);
				ws = 0; wg = 0; i++; if :: i == NW -> i = 0; break :: else fi }
		fi
	od;
	do
	:: atomic { (holders & B(s)) -> g = gen[s] };
		if
#ifdef MUTANT_BEFORE_UNLOCK
		:: atomic { lock[s] == 0 || (died & B(s)) -> skip };
#else
		:: atomic { lock[s] == 0 -> skip };
#endif
			do
			:: atomic { 
#ifdef MUTANT_GENERATION_IGNORED
				if :: wslot[i] == s + 1
#else
				if :: wslot[i] == s + 1 && wgen[i] == g
#endif
				-> wslot[i] = 0; wgen[i] = 0 :: else fi; assert(sound);
				i++; if :: i == NW -> i = 0; break :: else fi }
			od;
			atomic { g = 0; s++; if :: s == NS -> s = 0; holders = 0; break :: else fi }
		:: atomic { else -> g = 0; s++; if :: s == NS -> s = 0; holders = 0; break :: else fi }
		fi
	:: atomic { (holders & B(s)) == 0 -> s++; if :: s == NS -> s = 0; holders = 0; break :: else fi }
	od
}

proctype Cleaner() {
	byte i, s, g, ws, wg, holders;
	scan()
}

proctype Killer(byte v) {
	if
	:: goto over
	:: skip
	fi;
	atomic {
		if
		:: ready & B(v) -> died = died | B(hslot[v])	/* the report comes before the end, or with it */
		:: else
		fi
	};
	gone = gone | B(v);
	/* Its threads have stopped and its memory is freed; then the lock is dropped. */
	atomic {
		inside = inside & ~B(v);
		if
		:: lock[0] == v + 1 -> lock[0] = 0
		:: lock[1] == v + 1 -> lock[1] = 0
		:: else
		fi;
		v = 0
	};
over:	skip
}

init {
	byte i, s, g, ws, wg, holders, h;
	atomic {
		gen[0] = 1; gen[1] = 1;
		lock[0] = 1; lock[1] = 2;
		hslot[1] = 1; hgen[0] = 1; hgen[1] = 1;
		ready = 3;
		h = 0;
		do :: h < NH -> run Taker(h); h++ :: else -> break od;
#ifndef ONE_TAKER
		run Closer(0);
#endif
		run Claimer(2);
		h = 0;
		do :: h < CLEANERS -> run Cleaner(); h++ :: else -> break od;
		h = 0;
		run Killer(VICTIM);
#ifdef VICTIM2
		run Killer(VICTIM2)
#endif
	};
	timeout;
	atomic {
		scan();
		do
		:: i < NW ->
			/* no permit is lost: it is free, or a living handle is inside with it */
			assert(wslot[i] == 0 || (owns(i, 0) && (inside & 1)) || (owns(i, 1) && (inside & 2)) || (owns(i, 2) && (inside & 4)));
			i++
		:: else -> break
		od
	}
}
