/*
 * The summary: a bit for a group of words, clear if none of them is free.
 *
 * One group of two words, which two givers free and offer. Takers search the group if
 * its bit is set; if they find no free word they clear the bit and search again; and they
 * search the group if a slot says that its owner is clearing the bit. Taker 0 or giver 0 may
 * be killed after every step; then it is reaped, and later its slot is claimed.
 *
 * Safety: while a word that was given (freed and offered) is free, the bit is set, or a
 * slot says that its owner is clearing it. No search fails while such a word is free all
 * the time. When no process can take a step any more, a free word whose bit is clear is
 * that of a giver that died before the offer; the next scan sets the bit.
 */
#define NW 2
#define NT 2		/* takers */
#ifndef ROUNDS
#define ROUNDS 2	/* how often each searches */
#endif
#ifndef VICTIM
#define VICTIM 9	/* 0: taker 0; 1: giver 0; 9: none */
#endif
#define B(x) (1 << (x))

byte word[NW] = 1;	/* 0: free, 1: a giver's, t+2: a taker's */
bit sum;		/* the group's bit */
bit clearing[NT];	/* the slot says that its owner is clearing it */
byte given, fresh;	/* ghosts: sets of free words that were given, and that a giver has freed */
byte there[NT];		/* ghost: set of words that were given and free ever since the search began */
bit gone, lost;

#define announced (clearing[0] || clearing[1])
#define sound assert(given == 0 || sum || announced)

inline takes(i) {
	word[i] = t + 2; given = given & ~B(i); fresh = fresh & ~B(i); k = 0;
	do :: k < NT -> there[k] = there[k] & ~B(i); k++ :: else -> break od;
	k = 0
}

/* One search; r is the label at which it goes on if it has found nothing. */
inline taker() {
	round = 0;
begin:	atomic { there[t] = given; twice = 0 };
look:	atomic { if :: sum -> skip :: else -> goto intentions fi };
search1: atomic {
		if :: word[i] == 0 -> goto found :: else -> i++ fi;
		if :: i < NW -> goto search1 :: else -> i = 0 fi
	};
	/* clear */
#ifndef MUTANT_NOT_WRITTEN_DOWN
	clearing[t] = 1;
#endif
	atomic { sum = 0; sound };
#ifndef MUTANT_NOT_SEARCHED_AGAIN
search2: atomic {
		if :: word[i] == 0 -> goto mend :: else -> i++ fi;
		if :: i < NW -> goto search2 :: else -> i = 0 fi
	};
#endif
	atomic { clearing[t] = 0; sound };
intentions: atomic {
#ifdef MUTANT_INTENTIONS_NOT_READ
		goto nothing;
#endif
		if :: clearing[s] -> s++; goto search3 :: else -> s++ fi;
		if :: s < NT -> goto intentions :: else -> s = 0; goto nothing fi
	};
search3: atomic {
		if :: word[i] == 0 -> goto found :: else -> i++ fi;
		if :: i < NW -> goto search3 :: else -> i = 0 fi;
		if :: s < NT -> goto intentions :: else -> s = 0; goto nothing fi
	};
nothing: atomic {
#ifndef MUTANT_LOOKS_ONCE
		if :: !twice -> twice = 1; goto look :: else fi;
#endif
		assert(there[t] == 0);	/* no given word was free all the time */
		goto over
	};
mend:	sum = 1;
	atomic { clearing[t] = 0; sound };
found:	atomic {
		s = 0;
		if
		:: word[i] == 0 -> takes(i); i = 0
		:: else -> i = 0; goto begin
		fi
	};
over:	atomic { twice = 0; there[t] = 0; round++; if :: round < ROUNDS -> goto begin :: else -> round = 0 fi }
}

#define TAKER byte i, s, k, round; bit twice

proctype Taker(byte t) {
	TAKER;
	taker()
}

proctype VictimTaker(byte t) {
	TAKER;
	{ taker() } unless { atomic { gone -> i = 0; s = 0; k = 0; round = 0; twice = 0; there[0] = 0 } }
}

inline giver() {
	atomic { word[g] = 0; fresh = fresh | B(g) };
	atomic { if :: sum -> goto offered :: else fi };
#ifndef MUTANT_NOT_OFFERED
	sum = 1;
#endif
offered: atomic { if :: fresh & B(g) -> given = given | B(g) :: else fi; sound }
}

proctype Giver(byte g) {
	giver()
}

proctype VictimGiver(byte g) {
	{ giver() } unless { atomic { gone -> lost = !(given & B(0)) } }
}

/* reapOwner, then occupy. */
proctype Cleaner() {
	byte i;
	bit c;
	gone;
#if VICTIM == 0
	atomic { c = clearing[0]; if :: !c -> goto sweep :: else -> c = 0 fi };
	sum = 1;
#endif
sweep:	atomic {
		if
#if VICTIM == 0
		:: word[i] == 2 -> word[i] = 0
#endif
#if VICTIM == 1
		:: i == 0 && word[0] == 1 -> word[0] = 0
#endif
		:: else
		fi
	};
	if
	:: atomic { word[i] == 0 && sum -> given = given | B(i) }
	:: atomic { word[i] == 0 && !sum -> skip };
		sum = 1;
		atomic { if :: word[i] == 0 -> given = given | B(i) :: else fi; sound }
	:: atomic { word[i] != 0 -> skip }
	fi;
	atomic { i++; if :: i < NW -> goto sweep :: else -> i = 0 fi };
#if VICTIM == 0
	atomic { clearing[0] = 0; sound }
#endif
}

init {
	byte i;
	atomic {
		if :: sum = 1 :: sum = 0 fi;
		do
		:: i < NT ->
			if :: i == 0 && VICTIM == 0 -> run VictimTaker(i) :: else -> run Taker(i) fi;
			i++
		:: else -> break
		od;
#if VICTIM == 1
		run VictimGiver(0);
#else
		run Giver(0);
#endif
		run Giver(1);
#if VICTIM < 9
		run Cleaner();
#endif
		i = 0
	};
#if VICTIM < 9
	gone = 1;
#endif
	timeout;
	atomic {
		do
		:: i < NW -> assert(word[i] != 0 || sum || lost); i++
		:: else -> break
		od
	}
}
