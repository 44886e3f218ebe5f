//go:build !unix

package command

type attendant struct{}

func expect() attendant { return attendant{} }

// attend waits for the command to end, and forwards signals to it. It returns how procsem
// is to end then.
func (attendant) attend(command child, w *watcher, c *clock) error {
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for {
		select {
		case sig := <-w.arrived:
			w.deliver(command, sig)
		case <-c.timer:
			c.strike(command)
		case what := <-c.losing:
			c.lose(what, command)
		case err := <-ended:
			if command.ProcessState == nil {
				return err
			}
			return commandStatus(command.ProcessState.ExitCode())
		}
	}
}
