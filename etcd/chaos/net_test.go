package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// With root's rights the whole test is in a network namespace of its own, and each worker in one of its own behind a link, which can
// be cut: what is sent then gets no answer, not even a refusal.

const netVariable = "SEMAPHORE_CHAOS_NET" // set in the namespace

// serversAddress is what workers find the servers at.
const serversAddress = "10.213.0.1"

// inNamespace runs this test program in a network namespace, and returns its status; false if it cannot.
func inNamespace() (status int, did bool) {
	self, err := os.Executable()
	if err != nil {
		return 0, false
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), netVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, false
	}
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), true
}

// hasNet reports whether there are links that can be cut. Where there could be, and CI says that there have to be, that is an error.
func hasNet(t *testing.T) bool {
	if os.Getenv(netVariable) == "" {
		if os.Getenv("CI") == "true" && os.Getuid() == 0 {
			t.Error("missing: network namespaces")
		} else {
			t.Log("without links that are cut; missing: root, or network namespaces")
		}
		return false
	}
	network(t, 0, "link set lo up", "addr add "+serversAddress+"/32 dev lo")
	return true
}

// network does what those lines of ip(8) say, in the namespace of a process, or in this one.
func network(t *testing.T, pid int, lines ...string) {
	if err := tryNetwork(pid, lines...); err != nil {
		t.Error(err)
	}
}

func tryNetwork(pid int, lines ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	if pid != 0 {
		cmd = exec.Command("nsenter", append([]string{"--target", fmt.Sprint(pid), "--net"}, cmd.Args...)...)
	}
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.New(fmt.Sprint(lines, ": ", err, ": ", string(out)))
	}
	return nil
}

// link joins a worker's namespace to this one.
func link(t *testing.T, w, pid int) {
	at := func(host int) string { return fmt.Sprintf("10.214.%d.%d", w>>6, w&63*4+host) }
	network(t, 0, fmt.Sprintf("link add w%d type veth peer name out netns %d", w, pid),
		fmt.Sprintf("addr add %s/30 dev w%d", at(1), w), fmt.Sprintf("link set w%d up", w))
	network(t, pid, fmt.Sprintf("addr add %s/30 dev out", at(2)), "link set out up", "link set lo up", "route add default via "+at(1))
}
