package hasher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// burst is what a burst of logins did to a process of its own.
type burst struct {
	Done, Busy, Failed int32
	Seconds            float64
	PeakMiB            float64 // VmHWM
}

const burstEnv = "PASSWORDFLOW_BURST"

func TestMain(m *testing.M) {
	if queue := os.Getenv(burstEnv); queue != "" {
		n, err := strconv.Atoi(queue)
		if err != nil {
			panic(err)
		}
		_ = json.NewEncoder(os.Stdout).Encode(runBurst(n))
		return
	}
	os.Exit(m.Run())
}

// runBurst verifies 256 passwords at once at the default cost with two slots, or, for
// a queue of -1, one after the other.
func runBurst(queue int) (b burst) {
	const logins = 256
	h, err := New(Config{Slots: 2, Queue: queue})
	if err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	start := time.Now()
	login := func() {
		_, _, err := h.Verify(context.Background(), "", "secret")
		switch {
		case err == nil:
			atomic.AddInt32(&b.Done, 1)
		case errors.Is(err, oauth2pw.ErrBusy):
			atomic.AddInt32(&b.Busy, 1)
		default:
			atomic.AddInt32(&b.Failed, 1)
		}
	}
	if queue < 0 {
		for range 24 {
			login()
		}
	} else {
		for range logins {
			wg.Go(login)
		}
		wg.Wait()
	}
	b.Seconds = time.Since(start).Seconds()
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			b.PeakMiB = kib / 1024
		}
	}
	return b
}

// BenchmarkBurst is P7: 256 logins at once at 64 MiB with two slots, each time in a
// process of its own, beside one at a time on all cores.
func BenchmarkBurst(b *testing.B) {
	run := func(queue int) (got burst) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", burstEnv, queue))
		out, err := cmd.Output()
		require.NoError(b, err)
		require.NoError(b, json.Unmarshal(out, &got))
		return got
	}
	for range b.N {
		alone, all, usual := run(-1), run(256), run(32)
		require.Equal(b, int32(256), all.Done)
		require.Equal(b, int32(256), usual.Done+usual.Busy, "every request is answered")
		rate := func(b burst) float64 { return float64(b.Done) / b.Seconds }
		b.ReportMetric(all.PeakMiB, "MiB-peak")
		b.ReportMetric(rate(all), "logins/s")
		b.ReportMetric(rate(alone), "alone/s")
		b.ReportMetric(rate(all)/rate(alone), "of-alone")
		b.ReportMetric(float64(usual.Done), "200s-default-queue")
		b.ReportMetric(float64(usual.Busy), "503s-default-queue")
	}
}
