// Package peerbench measures the library beside other libraries with the same work: the
// same token, the same claims, the same checks, and the same ResponseWriter, which discards
// its input. Run
//
//	go test -run '^$' -bench . -benchmem ./internal/peerbench
//
// and compare only the results of one run.
package peerbench
