// Package attempts counts failed attempts in bounded memory. The package knows no passwords
// and no protocols: a key has 64 bits, and the caller makes it with a seeded hash.
//
// A [Counter] counts the attempts of a key in a sliding window. [Guesses] remembers the
// tried secrets of a key, by a tag of each. [Places] remembers the places where a key has
// succeeded. A [Clock] gives the time to all of them, and never goes back.
//
// No type is safe for concurrent use: the caller holds a lock.
package attempts
