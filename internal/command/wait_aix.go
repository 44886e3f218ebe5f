package command

// Of AIX's sys/wait.h; Go's packages lack them.
const (
	wNoHang    = 0x1
	wUntraced  = 0x2
	wContinued = 0
)
