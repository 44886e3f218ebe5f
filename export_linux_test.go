package semaphore

// NetworkTypes is the table of statfs types that are refused.
var NetworkTypes = networkTypes

// Words are the operations on a layout's words.
type Words interface {
	Init(uint32)
	Value() uint32
	Counted() uint32
	Take() bool
	Give() bool
	Post() error
	AddWaiter()
	RemoveWaiter()
	SleepOn() (*uint32, uint32)
}

// BothWords returns words of each layout, in memory of this process.
func BothWords() map[string]Words {
	return map[string]Words{"64-bit": exported[*words64]{new(words64)}, "32-bit": exported[*words32]{new(words32)}}
}

type layout interface {
	init(uint32)
	value() uint32
	counted() uint32
	take() bool
	give() bool
	post() error
	addWaiter()
	removeWaiter()
	sleepOn() (*uint32, uint32)
}

type exported[W layout] struct{ w W }

func (e exported[W]) Init(value uint32)          { e.w.init(value) }
func (e exported[W]) Value() uint32              { return e.w.value() }
func (e exported[W]) Counted() uint32            { return e.w.counted() }
func (e exported[W]) Take() bool                 { return e.w.take() }
func (e exported[W]) Give() bool                 { return e.w.give() }
func (e exported[W]) Post() error                { return e.w.post() }
func (e exported[W]) AddWaiter()                 { e.w.addWaiter() }
func (e exported[W]) RemoveWaiter()              { e.w.removeWaiter() }
func (e exported[W]) SleepOn() (*uint32, uint32) { return e.w.sleepOn() }
