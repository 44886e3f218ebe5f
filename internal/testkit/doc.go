// Package testkit is what the tests of several packages share: actors (processes that a
// test drives), helper processes, the rows of the conformance table, and what differs
// between systems. It knows package semaphore's API and internal/testhook, and is imported
// by external test packages, which call Main from TestMain.
package testkit
