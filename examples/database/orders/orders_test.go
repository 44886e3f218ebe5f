// The tests of the packages that share a database: "go test ./..." starts those of all packages at once, but these
// run one package after the other.
package orders_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/procsem/semaphore/semtest"
)

func TestMain(m *testing.M) { os.Exit(semtest.Main(m, "example-database", 1)) }

func TestDatabase(t *testing.T) {
	database := filepath.Join(os.TempDir(), fmt.Sprint("example-database-", os.Getuid()))
	for i := range 100 {
		row := fmt.Sprint("orders ", i)
		if err := os.WriteFile(database, []byte(row), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(database); string(got) != row || err != nil {
			t.Fatalf("got %q (%v), want %q", got, err, row)
		}
	}
	os.Remove(database)
}
