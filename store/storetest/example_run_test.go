package storetest_test

import "testing"

// test is the test that an Example of this package has written. An Example has no *testing.T.
var test func(t *testing.T)

// TestExamples runs the tests that the Examples show.
func TestExamples(t *testing.T) {
	for name, example := range map[string]func(){
		"Users": ExampleUsers, "Clients": ExampleClients, "Sessions": ExampleSessions, "Refreshes": ExampleRefreshes,
	} {
		example()
		t.Run(name, test)
	}
}
