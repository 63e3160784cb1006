// Package attempts counts failed attempts in bounded memory. It knows nothing of
// passwords and protocols: what is counted has a key of 64 bits, which the caller
// makes with a seeded hash.
//
// A [Counter] counts for each key in a sliding window. [Guesses] remembers which
// secrets were tried for a key, by a tag. [Places] remembers where a key succeeded.
// A [Clock] gives the time to all of them: it never falls.
//
// None of the types may be used concurrently: the caller holds a lock.
package attempts
