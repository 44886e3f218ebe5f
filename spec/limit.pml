/*
 * SetLimit: the flag shrinking, the version, clearing the flag, confirm and undo; with
 * the reaping of a dead holder at the same time.
 *
 * Three takers and three words; the limit goes from 3 to L1 to L2. The taker VICTIM may be
 * killed after every step, the setter too; a cleaner frees what the dead taker held.
 *
 * Safety: when a taker is admitted, there are no more takers inside, itself among them,
 * than the limit has room for at that moment. (Takers that held a permit before the limit
 * was lowered keep it, so there may be more inside, but no new ones.) A dead taker is
 * inside until its words are freed. When no process can take a step any more, a taker that
 * looks gets in if there is room, and the flag is not set for ever.
 */
#define NT 3		/* takers */
#define NW 3		/* words that have ever been in use: the mark */
#ifndef L1
#define L1 1
#endif
#ifndef L2
#define L2 2
#endif
#ifndef VICTIM
#define VICTIM 0
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef TRIES
#define TRIES 2		/* how often a taker undoes a take before it gives up */
#endif
#define B(x) (1 << (x))
#define count(x) (((x) & 1) + (((x) >> 1) & 1) + (((x) >> 2) & 1))

byte word[NW];			/* 0, or taker+1 */
byte limit = 3, version;	/* one word, with the flag */
bit shrinking;
byte inside;			/* ghost: set of takers that were admitted */
byte gone, unlocked;		/* sets of takers */
bit setter_gone;
byte idle;			/* ghost: set of takers that take no step any more */

/* The limit's word is as it was when it was read. */
#ifdef MUTANT_VERSION_IGNORED
#define same (limit == l && shrinking == sh)
#else
#define same (limit == l && shrinking == sh && version == v)
#endif
#define load l = limit; sh = shrinking; v = version

proctype Taker(byte t) {
	byte i, l, v, held, highest, tries;
	bit sh, room;
	{
	skip;
take:	atomic {
		load;
		if
		:: !sh -> goto find
		:: else -> skip
		fi
	};
	/* shrink: count, clear the flag if nothing is held above the limit */
shrink:	atomic {
		if :: word[i] -> held++; highest = i + 1 :: else fi;
		i++;
		if
		:: i < NW -> goto shrink
		:: else -> i = 0
		fi;
		room = held < l; held = 0;
		if
		:: highest > l -> highest = 0; if :: room -> room = 0; goto find :: else -> goto out fi
		:: else -> highest = 0
		fi
	};
	atomic {
		if
		:: same -> shrinking = 0; if :: room -> room = 0; goto find :: else -> room = 0; goto out fi
		:: else -> load; room = 0; goto find
		fi
	};
find:	atomic {
		if
		:: i >= l -> i = 0; goto out
		:: i < l && word[i] -> i++; goto find
		:: else
		fi
	};
	atomic {
		if
		:: word[i] == 0 -> word[i] = t + 1
		:: else -> i = 0; goto take
		fi;
	};
	/* confirm */
confirm:	atomic {
		load;
#ifdef MUTANT_LIMIT_NOT_READ_AGAIN
		goto admit;
#endif
		if
		:: i >= l -> goto undo
#ifdef MUTANT_COUNT_NOT_AFTER
		:: i < l -> goto admit
#endif
		:: i < l && !sh -> goto admit
		:: else -> highest = 0
		fi
	};
confirm_count: atomic {
		if :: word[highest] -> held++ :: else fi;
		highest++;
		if
		:: highest < NW -> goto confirm_count
		:: else -> highest = 0
		fi;
		if
		:: held > l -> held = 0; goto undo
		:: else -> held = 0
		fi
	};
	atomic {
		if
		:: same -> goto admit
		:: else -> goto confirm
		fi;
admit:
		/* in the same step as the last look at the limit */
		inside = inside | B(t);
		assert(count(inside) <= limit);
		l = 0; v = 0; sh = 0
	};
	if
	:: goto out
	:: atomic { inside = inside & ~B(t) };
		atomic { word[i] = 0; i = 0; goto out }
	fi;
undo:	atomic {
		word[i] = 0; i = 0; tries++;
		if
		:: tries < TRIES -> goto take
		:: else -> goto out
		fi
	};
out:	atomic { i = 0; l = 0; v = 0; sh = 0; tries = 0 }
	} unless { atomic { gone & B(t) -> i = 0; l = 0; v = 0; sh = 0; tries = 0; held = 0; highest = 0; room = 0 } }
}

inline set(n) {
	/* Under the claim's lock. A load and a store: no other process changes limit and
	 * version, and the store sets or clears the flag whatever it was. */
	atomic {
		limit = n; version++;
#ifdef MUTANT_NO_SHRINKING
		shrinking = 0
#else
		shrinking = (NW > n)
#endif
	}
}

proctype Setter() {
	{
	set(L1); set(L2);
#ifdef L3
	set(L3)
#endif
	} unless { setter_gone }
}

/* reapOwner: the words of the dead taker, one after the other. */
proctype Cleaner() {
	byte i, d;
	unlocked;
	d = (unlocked & 1 -> 1 : (unlocked & 2 -> 2 : 3));
	do
	:: atomic {
		if :: word[i] == d -> word[i] = 0; inside = inside & ~B(d - 1) :: else fi;
		i++;
		if :: i == NW -> break :: else fi }
	od;
	atomic { i = 0; d = 0 }
}

proctype Killer() {
	byte v;
	if
	:: goto over
	:: atomic { setter_gone = 1; goto over }
	:: skip
	fi;
	atomic {
		v = VICTIM;
		gone = gone | B(v)
	};
	atomic { unlocked = unlocked | B(v); v = 0 };
over:	skip
}

init {
	byte i, held, high;
	atomic {
		i = 0;
		do :: i < NT -> run Taker(i); i++ :: else -> break od;
		run Setter();
		i = 0;
		do :: i < KILLS -> run Cleaner(); run Killer(); i++ :: else -> break od;
		i = 0
	};
	timeout;
	atomic {
		/* Each word is free or that of a taker inside; so what was taken and
		 * undone, or held by the dead taker, came back. */
		do
		:: i < NW ->
			assert(word[i] == 0 || (inside & B(word[i] - 1)));
			if :: word[i] -> held++; high = i + 1 :: else fi;
			i++
		:: else -> break
		od;
		assert(held == count(inside));
		/* Without the flag no taker holds a word above the limit. */
		assert(shrinking || high <= limit)
	}
}
