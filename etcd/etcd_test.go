package etcd

import (
	"fmt"
	"testing"

	"github.com/procsem/semaphore/driver"
	"github.com/procsem/semaphore/driver/drivertest"
	. "github.com/procsem/semaphore/etcd/internal/etcdtest"
)

func TestDriver(t *testing.T) {
	endpoint := Start(t).Address
	drivertest.Run(t, drivertest.Store{Open: func(t *testing.T, name string, limit int) driver.Handle {
		h, _, err := open(t.Context(), Connect(t, endpoint), name, []Option{WithLimit(limit), WithLabel(fmt.Sprint(limit))})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}})
}
