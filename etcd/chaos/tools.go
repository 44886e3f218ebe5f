//go:build tools

package chaos

import _ "go.etcd.io/etcd/server/v3" // built for the tests
