//go:build race

package main

const rows = 10_000 // the race detector makes SQLite slow
