package hasher

import (
	"errors"
	"runtime"
	"time"
)

// floor is the least number of passes at an amount of memory, in KiB.
type floor struct{ memory, time uint32 }

// owaspFloor is OWASP's minimum (Password Storage Cheat Sheet, argon2id).
var owaspFloor = []floor{
	{47104, 1}, {19456, 2}, {12288, 3}, {9216, 4}, {7168, 5},
}

// Calibrate returns Params with the given memory, in KiB (0: 64 MiB), whose hash takes
// about the target on this machine while nothing else runs. The Params are never weaker
// than OWASP's minimum, even if the hash then takes longer than the target.
//
// Calibrate takes a few times the target. Run Calibrate on the machine of the app, once,
// and write the result into the [Config]: if the Params changed at a start, all older
// hashes could become outdated.
func Calibrate(target time.Duration, memory uint32) (Params, error) {
	return calibrate(target, memory, func(p Params) time.Duration {
		start := time.Now()
		argon2id([]byte("password"), make([]byte, saltLength), p, tagLength)
		return time.Since(start)
	})
}

func calibrate(target time.Duration, memory uint32, measure func(Params) time.Duration) (Params, error) {
	if target <= 0 {
		return Params{}, errors.New("hasher: Calibrate: the target must be positive")
	}
	if memory == 0 {
		memory = defaultParams.Memory
	}
	p := Params{Memory: memory, Threads: uint8(min(runtime.GOMAXPROCS(0), int(defaultParams.Threads)))}
	for _, f := range owaspFloor {
		if memory >= f.memory {
			p.Time = f.time
			break
		}
	}
	if p.Time == 0 {
		return Params{}, errors.New("hasher: Calibrate: OWASP's minimum is 7168 KiB")
	}
	least := p.Time
	for range 3 { // the first measurement includes fresh memory from the system
		took := max(min(measure(p), measure(p)), time.Microsecond)
		p.Time = max(uint32(min(int64(p.Time)*int64(target)/int64(took), 1<<20)), least)
	}
	return p, nil
}
