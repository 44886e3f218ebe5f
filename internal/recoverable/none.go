//go:build (!windows && (!unix || aix || filelock_fcntl)) || mips || mipsle || (arm && !arm.7)

package semaphore

var recoverKind *kind
