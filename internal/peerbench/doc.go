// Package peerbench measures the library beside others that do the same work: the
// same token, the same claims, the same checks, the same ResponseWriter that throws
// away what it is given. Run it with
//
//	go test -run '^$' -bench . -benchmem ./internal/peerbench
//
// and compare within one run only.
package peerbench
