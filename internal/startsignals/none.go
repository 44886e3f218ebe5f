//go:build !unix

// Package startsignals is for Unix.
package startsignals
