// Package guides holds the code of the guides in docs, so that the compiler reads it. Tests
// compare the guides with this code, and run it.
package guides
