// A test that shares a database with the package orders, whose tests are in another process. It waits for them, and they for it.
package users_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/procsem/semaphore/semtest"
)

func TestDatabase(t *testing.T) {
	semtest.Acquire(t, "example-database", 1)
	database := filepath.Join(os.TempDir(), fmt.Sprint("example-database-", os.Getuid()))
	for i := range 100 {
		row := fmt.Sprint("users ", i)
		if err := os.WriteFile(database, []byte(row), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(database); string(got) != row || err != nil {
			t.Fatalf("got %q (%v), want %q", got, err, row)
		}
	}
	os.Remove(database)
}
