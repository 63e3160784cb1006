//go:build !race

package main

const rows = 100_000
