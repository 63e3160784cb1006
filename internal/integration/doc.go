// Package integration tests the library against real parts: a SQLite file,
// golang.org/x/oauth2 as a client, and the module's own import graph.
package integration
