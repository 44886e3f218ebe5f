package command

import "syscall"

// dyingWithUs has a command killed when procsem is killed: see prctl(2), PR_SET_PDEATHSIG.
func dyingWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
