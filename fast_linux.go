package semaphore

// fastWords are the words in shared memory that most calls need nothing but.
type fastWords = glibcWords

func fastOf(b backend) *fastWords {
	if n, ok := b.(*nativeSemaphore); ok {
		return n.mem.words
	}
	return nil
}
